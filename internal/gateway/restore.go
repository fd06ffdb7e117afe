package gateway

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/store"
)

// A store that was restored from a backup is behind the centres. Whatever is asked of a payment that came with the
// backup, it is reconciled first (catchUp); Reconcile does so for all of them. What counts, in the order of time:
//
//	Restored().Taken  the backup was taken: what was done from then on is not in the store
//	restored          it was restored: payments from before are behind (payment.Payment.Behind), until each is reconciled
//	lastSent          what the gateway that was lost has sent, it had sent by then
//	quiet             it is over, and no centre's word can be overtaken any more: now they are asked

// Ready is nil once every payment of a restored backup that was under way has been asked about, and says otherwise
// what is waited for.
func (g *Gateway) Ready() error {
	if !g.reconciling.Load() {
		return nil
	}
	return fmt.Errorf("the store was restored from a backup taken at %s, and is being reconciled with the processing centres: the log tells how far it is",
		g.cfg.Store.Restored().Taken.Format(time.RFC3339))
}

// caughtUp is what comes before any command: nothing is begun on a payment that the centre may know to be further
// than this store does.
func (g *Gateway) caughtUp(ctx context.Context, id payment.ID) (payment.Payment, error) {
	if g.restored.IsZero() {
		return payment.Payment{}, nil
	}
	p, err := g.catchUp(ctx, id, 0)
	if err == nil && p.Open == nil && p.Behind(g.restored) {
		err = &payment.Error{Reason: payment.InDoubt, Detail: "the store was restored from a backup, and what the processing centre has done since is not known yet"}
	}
	return p, err
}

// lastSent is when the gateway that was lost with the store may have sent something last: until the restore, or where the clock was
// set forward after that, until then (see believed).
func (g *Gateway) lastSent() time.Time {
	if steady := g.cfg.Store.Steady(); steady.After(g.restored) {
		return steady
	}
	return g.restored
}

// quiet is by when no call of that gateway is under way any more.
func (g *Gateway) quiet() time.Time { return g.lastSent().Add(g.longest) }

// mostFound bounds how many operations one payment can have been missing.
const mostFound = payment.MaxRefunds + 10

// catchUp reconciles a payment with its centre as far as the centre answers. The payment returned is as stored last: behind
// still if that was not the whole way. left is as of duty.
func (g *Gateway) catchUp(ctx context.Context, id payment.ID, left int64) (p payment.Payment, err error) {
	if g.cfg.Store.Now().Before(g.quiet()) {
		return g.cfg.Store.Payment(ctx, id) // whatever the centre said now, it could be overtaken
	}
	for range mostFound {
		if p, err = g.cfg.Store.Payment(ctx, id); err != nil || !p.Behind(g.restored) || g.underWay(id) != nil {
			return p, err
		}
		var c payment.Command = payment.Resume{Orphan: p.Version == left, Restored: g.restored}
		if p.Open == nil {
			c, err = g.look(ctx, p)
			if g.noteUnsaid(id, err != nil || c == nil); err != nil || c == nil {
				return p, err
			}
		}
		change, err := g.begin(ctx, id, c)
		if err != nil {
			return p, err
		}
		switch p = change.Payment; {
		case p.Open != nil && change.Empty():
			return p, nil // in doubt, and its time has not come; or somebody else was faster and asks it
		case p.Open != nil:
			if p, err = g.ask(context.WithoutCancel(ctx), p, secrets{}); err != nil || p.Open != nil {
				return p, err
			}
		}
	}
	return p, fmt.Errorf("payment %s does not come to an end: more than %d operations are found at its centre", id, mostFound)
}

// look asks the centre what it has done for a payment that this store does not know. It only reads, so nothing is
// committed before; what it finds is adopted, which is. So is what a centre does not say, for then it is asked again and a person
// sees it, but not before all others were asked about the same reference: it may be one of them that did something under it. Where
// two do not say, they are asked again, unless they are of one method: two contracts with one centre see the same, and never say. nil:
// it is too early to tell, or two do not say.
func (g *Gateway) look(ctx context.Context, p payment.Payment) (payment.Command, error) {
	attempts, err := g.choices(ctx, p)
	if err != nil {
		return nil, err
	}
	var unsaid *payment.Look
	var cause string
	adopt := func(l *payment.Look, outcome payment.Outcome, cause string) (payment.Command, error) {
		g.cfg.Log.Warn("after the restore the centre is ahead, or does not say", "payment", p.ID, "state", p.State.String(),
			"operation", l.Operation.Ref, "kind", l.Operation.Kind, "outcome", outcome, "cause", cause)
		return payment.Adopt{Look: *l, RefundID: newUUID(), Restored: g.restored}, nil
	}
	for _, l := range p.Looks(attempts, g.lastSent()) {
		if unsaid != nil && l.N != unsaid.N {
			break
		}
		asking := p
		asking.Open, asking.Attempt = &l.Operation, &l.Attempt
		asked := g.cfg.Store.Now()
		a := g.askCentre(ctx, asking, secrets{})
		switch found, proven := l.Means(a, asked); {
		case !proven:
			return nil, nil
		case found && a.Outcome != payment.Unknown:
			return adopt(&l, a.Outcome, a.Cause)
		case found && unsaid == nil:
			unsaid, cause = &l, a.Cause
		case found && unsaid.Attempt.Method != l.Attempt.Method:
			return nil, nil
		}
	}
	if unsaid != nil {
		return adopt(unsaid, payment.Unknown, cause)
	}
	return payment.Reconcile{Restored: g.restored}, nil
}

// choices is where a payer who had not paid when the backup was taken may have paid since: at any contract that takes
// one of his methods, for the shop's routes may have been others then.
func (g *Gateway) choices(ctx context.Context, p payment.Payment) (attempts []payment.Attempt, err error) {
	if p.State != payment.Created && p.State != payment.Challenged {
		return nil, nil
	}
	shop, err := g.cfg.Store.Shop(ctx, p.Shop)
	if err != nil {
		return nil, fmt.Errorf("shop %d: %w", p.Shop, err)
	}
	all := g.centres(p.Terms.Test)
	for _, method := range p.Terms.Methods {
		for i := range all {
			if all[i].takes(method, p.Terms.Amount.Currency) {
				attempts = append(attempts, g.attempt(shop, method, &all[i]))
			}
		}
	}
	if attempts == nil {
		return nil, fmt.Errorf("payment %s may have been paid since the backup was taken, and no processing centre is connected that could say", p.ID)
	}
	return attempts, nil
}

// How long Reconcile waits before it tries again what could not be done, twice as long each time, and how long Run leaves such
// a payment alone. Who cannot reach a centre yet must not knock at its door all the time.
const (
	reconcileSoon  = time.Second
	reconcileEvery = 30 * time.Second
)

// noteUnsaid notes whether the centres have just said nothing of what they did for a payment.
func (g *Gateway) noteUnsaid(id payment.ID, nothing bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if nothing {
		g.unsaid[id] = time.Now().Add(reconcileEvery)
	} else {
		delete(g.unsaid, id)
	}
}

// unsaidYet reports that it is too early to ask them again.
func (g *Gateway) unsaidYet(id payment.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Now().Before(g.unsaid[id])
}

// Reconcile asks the centres about every payment that came with a restored backup: first those that were under way,
// and when each of them has been asked about, Ready is nil; then those that were captured, which can only have been
// refunded. What is in doubt then is asked about by the schedule, and Step goes on from there when it is known. Without a
// restore it does nothing.
func (g *Gateway) Reconcile(ctx context.Context) error {
	restored := g.cfg.Store.Restored()
	if restored.At.IsZero() || restored.Reconciled {
		return nil
	}
	log := g.cfg.Log.With("restored", restored.At, "backup", restored.Taken)
	log.Warn("the store was restored from a backup: its payments are reconciled with the processing centres before anything is sent for them")
	if !pause(ctx, g.quiet().Sub(g.cfg.Store.Now())) {
		return ctx.Err()
	}
	asked, doubts, err := g.reconcileAll(ctx, payment.Created, payment.Challenged, payment.Held)
	if err != nil {
		return err
	}
	g.reconciling.Store(false)
	log.Info("what was under way when the backup was taken has been asked about", "payments", asked, "in doubt", len(doubts))
	asked, more, err := g.reconcileAll(ctx, payment.Captured)
	if err != nil {
		return err
	}
	log.Info("what was captured when the backup was taken has been asked about", "payments", asked, "in doubt", len(more))
	if doubts = append(doubts, more...); len(doubts) == 0 {
		return g.cfg.Store.SetReconciled(ctx)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.behind = doubts
	return nil
}

// catchUpRest goes on with payments of the backup that were in doubt when Reconcile had asked about all, and ends the
// reconciling with the last of them.
func (g *Gateway) catchUpRest(ctx context.Context) error {
	g.mu.Lock()
	ids := g.behind
	g.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	var mu sync.Mutex
	var rest []payment.ID
	err := each(g, ids, func(id payment.ID) error {
		p, err := g.catchUp(ctx, id, 0)
		if err != nil || p.Behind(g.restored) {
			mu.Lock()
			defer mu.Unlock()
			rest = append(rest, id)
		}
		return err
	})
	g.mu.Lock()
	g.behind = rest
	g.mu.Unlock()
	if err == nil && len(rest) == 0 {
		err = g.cfg.Store.SetReconciled(ctx)
	}
	return err
}

// longestCall is how long after it was sent an operation may take to be shown by any centre that is connected.
func (c *Config) longestCall() (longest time.Duration) {
	for _, centres := range []Centres{c.Live, c.Test} {
		for _, centre := range centres {
			capabilities := centre.Capabilities()
			longest = max(longest, capabilities.Answer)
			for _, shown := range capabilities.Shown {
				longest = max(longest, shown)
			}
		}
	}
	return longest
}

// pause waits; false: ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// reconcileAll catches up with all payments that are in one of the states, round after round, until each is reconciled or in
// doubt. It returns how many there were, and those in doubt.
func (g *Gateway) reconcileAll(ctx context.Context, states ...payment.State) (total int, doubts []payment.ID, err error) {
	for wait := reconcileSoon; ; wait = min(2*wait, reconcileEvery) {
		var mu sync.Mutex
		seen, left := 0, 0
		doubts = nil
		one := func(id payment.ID) error {
			p, err := g.catchUp(ctx, id, 0)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				left++
				g.cfg.Log.Error("a payment cannot be reconciled", "payment", id, "error", err)
			case p.Open != nil:
				doubts = append(doubts, id)
			case p.Behind(g.restored):
				left++
			}
			return cmp.Or(ctx.Err(), g.cfg.Store.Err()) // anything else is tried again
		}
		for _, state := range states {
			for f := (store.Filter{State: state, Limit: stepPayments}); ; {
				list, err := g.cfg.Store.List(ctx, f)
				if err != nil {
					return total, doubts, err
				}
				var behind []payment.ID
				for i := range list {
					if list[i].Behind(g.restored) {
						behind = append(behind, list[i].ID)
					}
				}
				seen += len(behind)
				if err := each(g, behind, one); err != nil {
					return total, doubts, err
				}
				if len(list) < f.Limit {
					break
				}
				f.Before = list[len(list)-1].ID
			}
		}
		total = max(total, seen)
		if left == 0 {
			return total, doubts, nil
		}
		g.cfg.Log.Warn("not all payments of the backup could be asked about; they are tried again", "left", left, "in doubt", len(doubts))
		if !pause(ctx, wait) {
			return total, doubts, ctx.Err()
		}
	}
}
