package world_test

import (
	"bytes"
	"context"
	"time"

	"holdfast/internal/payment"
)

// What must be true after every step. The numbers are those of docs/payment-cycle.md; what is checked
// elsewhere: 6 in watched.Ask, 12 in decide and prepare.

// acknowledged remembers what somebody was told.
func (w *world) acknowledged(p *pay, got *payment.Payment) {
	if got.Version >= p.told.Version {
		p.told = *got
	}
}

func (w *world) check() {
	if w.audited != w.state() {
		w.audited = w.state()
		w.audit()
	}
	list := w.list()
	for i := range list {
		now := &list[i]
		if now.State == payment.Challenged && now.Attempt.Challenge == nil {
			w.wrong("%s waits for a code that nobody knows of: %s", w.name(now.ID), describe(now))
		}
		late := w.now().Sub(now.HoldDeadline)
		asksFirst := w.lost != nil && now.Behind(w.lost.at) // whether it is held still
		if now.State == payment.Held && now.Decision == nil && late > time.Minute && !asksFirst {
			w.wrong("invariant 9: %s is held undecided, %s after its deadline", w.name(now.ID), late)
		}
	}
	for _, p := range w.pays {
		if p.told.Version == 0 {
			continue
		}
		found := false
		for i := range list {
			if list[i].ID == p.told.ID {
				found = true
				w.stillTrue(p, &list[i])
			}
		}
		if !found {
			w.figures.Lost++
			w.wrong("invariant 11: %s was acknowledged and is gone", p.name)
		}
	}
}

// audit derives everything again from the stored rows, and holds what is in memory against them.
func (w *world) audit() {
	audit, err := w.process.store.Audit(context.Background(), nil)
	if err != nil {
		w.wrong("the audit cannot be made: %v", err)
		return
	}
	for _, v := range audit.Violations {
		w.wrong("invariant %d: %s: %s", v.Invariant, w.name(v.Payment), v.Text)
	}
	list := w.list()
	for i := range list {
		now := &list[i]
		for _, p := range w.processes {
			if p.dead {
				continue
			}
			cached, err := p.store.Payment(context.Background(), now.ID)
			if err != nil || cached.Version != now.Version || cached.State != now.State {
				w.wrong("%s is %s on the disk and %s in the memory of %s, %v", w.name(now.ID), describe(now), describe(&cached), p.name, err)
			}
		}
	}
}

// stillTrue holds what somebody was told against what is there now (invariants 3, 5 and 11).
func (w *world) stillTrue(p *pay, now *payment.Payment) {
	told := &p.told
	lost := func(format string, args ...any) {
		w.figures.Lost++
		w.wrong("invariant 11: "+p.name+" "+format, args...)
	}
	switch {
	case now.Version < told.Version:
		lost("was acknowledged at version %d: %s; now it is at version %d: %s", told.Version, describe(told), now.Version, describe(now))
	case now.State != told.State && (told.State.Terminal() || told.State == payment.Held && now.State < payment.Held):
		lost("was %s and is %s", describe(told), describe(now))
	case told.Decision != nil && (now.Decision == nil || *now.Decision != *told.Decision):
		lost("was decided: %s; now it is %s", describe(told), describe(now))
	case now.Captured.Cmp(told.Captured) < 0 || now.Refunded.Cmp(told.Refunded) < 0 || now.Released.Cmp(told.Released) < 0:
		lost("was %s and is %s", describe(told), describe(now))
	}
	for _, r := range told.Refunds {
		switch then := now.FindRefund(r.ShopID); {
		case then == nil:
			lost("has lost %s", r.ShopID)
		case r.State != payment.RefundPending && then.State != r.State:
			lost("had %s %s, and now it is %s", r.ShopID, r.State, then.State)
		}
	}
}

// canary looks for card numbers in what is stored (invariant 14).
func (w *world) canary() {
	err := w.home.pieces(func(name string, b []byte) {
		for _, p := range w.pays {
			if bytes.Contains(b, []byte(p.card.PAN)) {
				w.wrong("invariant 14: the number of %s's card is stored, in %s", p.name, name)
			}
		}
	})
	if err != nil {
		w.wrong("what is stored cannot be looked at: %v", err)
	}
}
