package world_test

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/processor"
)

// A store that is lost, and a backup that is brought back in its place. The centres and the merchants have gone on since. What was
// acknowledged before the backup was taken must be true still; what was done after it is found at the centres, said by a person who
// looks it up there, or, of payments that the backup does not know, left for the centre's statement. Nothing is done twice.

// kept is what the world knew of its payments when the backup was taken.
type kept struct {
	at   time.Time          // by the clock then, or what was stored then, whichever is later
	pays map[string]keptPay // of those that are in it, by their names
}

type keptPay struct {
	id   payment.ID
	told payment.Payment
	got  int // notifications
}

// lost is what a restore has left.
type lost struct {
	before *lost           // what an earlier one has left
	taken  time.Time       // of the backup
	at     time.Time       // of the restore
	quiet  time.Time       // by then whatever the lost gateway sent has arrived
	asked  map[string]bool // operations that their centres were asked about since
}

// backup takes a backup, in the place of an earlier one.
func (w *world) backup() {
	if len(w.list()) == 0 {
		return // there is nothing that centres could know more of
	}
	if err := w.home.backup(w.process.store); err != nil {
		if !w.process.dead {
			w.wrong("a backup cannot be taken: %v", err)
		}
		return
	}
	w.say("a backup is taken")
	w.kept = &kept{at: w.now(), pays: make(map[string]keptPay)}
	for _, stored := range w.list() {
		w.kept.at = maxTime(maxTime(w.kept.at, stored.CreatedAt), stored.UpdatedAt)
		for _, p := range w.pays {
			if stored.Shop == p.shop.ID && stored.Terms.ShopPaymentID == p.terms.ShopPaymentID {
				w.kept.pays[p.name] = keptPay{stored.ID, p.told, len(p.got)}
			}
		}
	}
}

// restore loses the store, and everybody who serves from it, and starts anew on the backup.
func (w *world) restore() {
	w.arrive(maxTime(w.now(), w.kept.at).Add(time.Second)) // a clock that was set back is put right first
	w.say("the store is lost, and the backup of %s restored", w.kept.at.Sub(t0))
	for _, p := range w.processes {
		p.dead = true
		p.giveUp()
		p.end("")
		if err := p.store.Close(); err != nil {
			w.wrong("the store does not close: %v", err)
			return
		}
	}
	if err := w.home.restore(w.now); err != nil {
		w.wrong("the backup is not restored: %v", err)
		return
	}
	w.figures.Restores++
	w.lost = &lost{before: w.lost, taken: w.kept.at, at: w.now(), quiet: w.now().Add(shown), asked: make(map[string]bool)}
	w.forget()
	for i, p := range w.processes {
		if i > 0 && w.maybe(2) {
			continue // alive does it
		}
		p.crash = 0
		w.restart(i)
		if len(w.broken) > 0 {
			return
		}
	}
}

// forget has everybody know what he knew when the backup was taken. Payments that it does not know are nobody's any more: they
// are for the centre's statement.
func (w *world) forget() {
	var left []*pay
	for _, p := range w.pays {
		was, there := w.kept.pays[p.name]
		if !there {
			w.say("%s is not in the backup", p.name)
			continue
		}
		p.id, p.known, p.told, p.got = was.id, true, was.told, p.got[:was.got]
		left = append(left, p)
	}
	w.pays = left
}

// reconcile has the acting process go through the backup that it was started on, when its time has come.
func (w *world) reconcile() {
	p := w.process
	if w.lost == nil || p.dead || p.reconciled || w.now().Before(w.lost.quiet) {
		return
	}
	w.say("%s reconciles", p.name)
	p.reconciled = true
	ctx, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	p.giveUp = giveUp
	err := p.gateway.Reconcile(ctx)
	p.giveUp = func() {}
	switch ready := p.gateway.Ready(); {
	case p.dead:
	case err != nil && ctx.Err() == nil:
		w.wrong("reconciling: %v", err)
	case err != nil:
		w.say("not all could be asked about")
		p.reconciled = false
	case ready != nil:
		w.wrong("it is reconciled, and not ready: %v", ready)
	}
}

// impatient is a log whose reader ends a reconciling that waits for better times: it would do so in real time.
type impatient struct {
	slog.Handler
	p *process
}

func (i impatient) Enabled(context.Context, slog.Level) bool { return true }

func (i impatient) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "not all payments of the backup could be asked about") {
		i.p.giveUp()
	}
	return nil
}

// askedFirst: nothing is sent for what a backup brought back before the centre was asked about it.
func (w *world) askedFirst(q *processor.Question) {
	op := &q.Operation
	if w.lost == nil || !w.ofTheBackup(op.Ref) {
		return
	}
	if op.Ask == payment.Query {
		w.lost.asked[op.Ref] = true
	} else if !w.lost.asked[op.Ref] && (op.Kind == payment.OpCapture || op.Kind == payment.OpVoid || op.Kind == payment.OpRefund) {
		w.wrong("after the restore the centre is asked to %s the %s of %s, and was not asked about it before", op.Ask, op.Kind, w.name(q.Payment))
	}
}

// madeAt is when the payment was made that an operation with this reference is of.
func madeAt(ref string) time.Time {
	millis, _, _ := strings.Cut(ref, "_")
	n, err := strconv.ParseInt(millis, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(n)
}

func (w *world) ofTheBackup(ref string) bool { return madeAt(ref).Before(w.lost.at) }

// tooLate reports that an operation in the centre's books is of a payment that the backup does not know, this one or an earlier one.
// Nobody here can know of it.
func (w *world) tooLate(ref string, known []string) bool {
	if slices.ContainsFunc(known, func(name string) bool { return ref == name || strings.HasPrefix(ref, name+"_") }) {
		return false
	}
	at := madeAt(ref)
	for l := w.lost; l != nil; l = l.before {
		if !at.Before(l.taken.Truncate(time.Millisecond)) && at.Before(l.at) {
			return true
		}
	}
	return false
}
