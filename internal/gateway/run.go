package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/internal/payment"
	"holdfast/internal/store"
)

// What time demands of payments, and what a process before this one left open: Run does it all day, Step and Recover once.

// How much is looked for at a time, and how much of it is taken up at once where Config does not say.
const (
	stepPayments = 1000
	stepAtOnce   = 32
)

// Step does what time demands: it inquires about questions in doubt, ends payments nobody paid,
// and lets go of holds nobody confirmed. It returns how many payments it took up.
func (g *Gateway) Step(ctx context.Context) (int, error) {
	due, _, _, err := g.due(ctx, store.Cursor{}, nil)
	attended := each(g, due, func(d duty) error { return g.attend(ctx, d) })
	return len(due), errors.Join(err, attended, g.catchUpRest(ctx))
}

// duty is a payment that wants attention, and the contract that is asked for it.
type duty struct {
	id       payment.ID
	contract contract
	left     int64 // the version that a process before this one left, which may be long ago by now; 0: there is no such version
}

// contract names one, with test, for a simulator may have the name of a real one; without a name: none.
type contract struct {
	name string
	test bool
}

// contractOf is the contract that what is due to a payment is asked of. That a payer's time is over, or that his code was lost with
// its request, is decided without one.
func (g *Gateway) contractOf(p *payment.Payment) contract {
	asks := p.State == payment.Held || p.Open != nil && p.Open.Kind.MovesMoney() || p.Behind(g.restored)
	if p.Attempt == nil || !asks {
		return contract{}
	}
	return contract{p.Attempt.Processor, p.Terms.Test}
}

// due looks what wants attention now, the longest due first, from behind a cursor on; next is where it has come to, and more
// says that there may be more. Those that are taken already it leaves out, and for who takes any those of which no centre says
// anything yet.
func (g *Gateway) due(ctx context.Context, after store.Cursor, taken *turns) (list []duty, next store.Cursor, more bool, err error) {
	now := g.cfg.Store.Now()
	ids, next, err := g.cfg.Store.Due(ctx, now, after, stepPayments)
	if err != nil {
		return nil, after, false, err
	}
	g.stepped.Store(time.Now().UnixNano())
	for _, id := range ids {
		if taken.has(id) || taken != nil && g.unsaidYet(id) {
			continue
		}
		p, unread := g.cfg.Store.Recall(ctx, id, 0)
		if unread != nil || now.Before(g.quiet()) && p.Behind(g.restored) { // whatever its centre said now, it could be overtaken
			err = errors.Join(err, unread)
			continue
		}
		list = append(list, duty{id: id, contract: g.contractOf(&p)})
	}
	return list, next, len(ids) == stepPayments, err
}

// Stepped is when Run or Step last got something done: it looked what is due, or attended to a payment. While Run
// runs and the store answers, that is not longer ago than a few of the slowest centre's answers take.
func (g *Gateway) Stepped() time.Time { return time.Unix(0, g.stepped.Load()) }

// Inherit finds every question that a process before this one left open, for Run to take up first, and returns how many
// there are. It is called once, before the first request, by the process that alone serves from the store. Where several
// serve it does nothing: another may be asking right now, and what a gateway that died was asking is due when its answer was.
func (g *Gateway) Inherit(ctx context.Context) (int, error) {
	if !g.cfg.Store.Alone() {
		return 0, nil
	}
	open, err := g.cfg.Store.Open(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left = open
	return len(open), err
}

// inherited are the questions that Inherit found; from now on they are the caller's.
func (g *Gateway) inherited() []store.Opened {
	g.mu.Lock()
	defer g.mu.Unlock()
	left := g.left
	g.left = nil
	return left
}

// Recover takes up every question that a process before this one left open, and waits for the answers: it is to Run what
// Step is.
func (g *Gateway) Recover(ctx context.Context) (int, error) {
	count, err := g.Inherit(ctx)
	if err != nil {
		return 0, err
	}
	return count, each(g, g.inherited(), func(o store.Opened) error { return g.attend(ctx, duty{id: o.ID, left: o.Version}) })
}

func each[T any](g *Gateway, list []T, do func(T) error) error {
	var group errgroup.Group
	group.SetLimit(g.cfg.AtOnce)
	for _, one := range list {
		group.Go(func() error { return do(one) })
	}
	return group.Wait()
}

// attend gives one payment what is due to it. Of the version left nobody asks its open question any more, and it is asked
// about whether its time has come or not.
func (g *Gateway) attend(ctx context.Context, d duty) error {
	if g.underWay(d.id) != nil {
		return nil // its question is being asked right now
	}
	detached := context.WithoutCancel(ctx)
	if !g.restored.IsZero() {
		p, err := g.cfg.Store.Payment(ctx, d.id)
		if err != nil {
			return err
		}
		if p.Behind(g.restored) {
			if p, err = g.catchUp(ctx, d.id, d.left); err != nil || p.Behind(g.restored) {
				g.logDoubt(p)
				return err
			}
		}
	}
	change, err := g.cfg.Store.Update(ctx, d.id, func(p payment.Payment, now time.Time) (payment.Change, error) {
		if p.Open != nil {
			return payment.Begin(p, payment.Resume{Orphan: p.Version == d.left, Restored: g.restored}, now)
		}
		return payment.Begin(p, payment.Lapse{}, now)
	})
	if err != nil {
		return err
	}
	defer func() { g.stepped.Store(time.Now().UnixNano()) }()
	if change.Empty() {
		return nil
	}
	p, err := g.ask(detached, change.Payment, secrets{})
	if err == nil {
		g.logDoubt(p)
	}
	return err
}

// rest waits until no question is under way.
func (g *Gateway) rest() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.asked > 0 {
		g.idle.Wait()
	}
}

// sweepEvery is how often deadlines are looked at: a lookup in an index when nothing is due.
const sweepEvery = 250 * time.Millisecond

// Run takes up what Inherit found and does what time demands, as Step does, until ctx ends, and then waits for the questions
// under way. Unlike Step it does not wait for an answer before it looks again, and what it asks of one centre takes nothing
// from another: one that hangs holds up no deadline but its own.
func (g *Gateway) Run(ctx context.Context) {
	defer g.rest()
	turns := newTurns(g.cfg.AtOnce, func(d duty) {
		if ctx.Err() == nil {
			g.late(ctx, g.attend(ctx, d))
		}
	})
	defer turns.all.Wait()
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() {
		for !g.restored.IsZero() && pause(ctx, sweepEvery) {
			g.late(ctx, g.catchUpRest(ctx))
		}
	})
	beside.Go(func() {
		for _, o := range g.inherited() {
			if ctx.Err() != nil {
				return
			}
			p, err := g.cfg.Store.Recall(ctx, o.ID, 0)
			g.late(ctx, err)
			turns.take(duty{id: o.ID, contract: g.contractOf(&p), left: o.Version})
		}
	})
	g.sweep(ctx, turns)
}

// late logs why something that is due is not done.
func (g *Gateway) late(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrBroken) { // which the store has said, once
		g.cfg.Log.Error("deadlines cannot be kept", "error", err)
	}
}

// sweep has all that is due take its turn, until ctx ends.
//
// What waits for its turn stays due, however much it is, and must not hide what has come after it: what comes to be due is
// looked for behind all that was due before. The others are looked through a part at a time, again and again, for those
// that could not be taken up, and those that are due since a time before; the first time without a pause.
func (g *Gateway) sweep(ctx context.Context, turns *turns) {
	// look takes up what comes after a cursor.
	look := func(after store.Cursor) (next store.Cursor, more bool, err error) {
		due, next, more, err := g.due(ctx, after, turns)
		g.late(ctx, err)
		for _, d := range due {
			turns.take(d)
		}
		return next, more, err
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	seen, again, first := store.DueAt(g.cfg.Store.Now()), store.Cursor{}, true
	for {
		next, more, err := look(seen)
		seen = next
		if !more && err == nil {
			var rest bool
			if again, rest, err = look(again); !rest {
				again, first = store.Cursor{}, false
			}
		}
		if (more || first) && err == nil && ctx.Err() == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-g.cfg.Store.Soon():
		}
	}
}
