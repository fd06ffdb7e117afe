package payment

import (
	"time"

	"holdfast/internal/money"
)

// After a backup was restored the store is behind the world: what was asked of the centres after the
// backup was taken is not known here. A payment of the backup is Behind until it is reconciled, and
// nothing is sent for it before that. Reconciling it is: to ask the centre about what may have been done
// since (Looks), to take over what it has done (Adopt), and, when nothing more is found, Reconcile.

// Behind reports whether the payment comes from a backup restored at that time, may have gone on since
// the backup was taken, and was not reconciled yet. The zero time, no restore, leaves nothing behind.
func (p *Payment) Behind(restored time.Time) bool {
	if !p.CreatedAt.Before(restored) || p.Restored.Equal(restored) {
		return false
	}
	return !p.State.Terminal() || p.Refunded.Cmp(p.Captured) < 0
}

// Look is something that may have been done at a centre since the backup was taken.
type Look struct {
	N         int       // the number that its reference was made of
	Operation Operation // as it is asked about
	Attempt   Attempt   // where it is asked
	HoldNext  bool      // whether money is held under the same reference is asked next
}

// How many references are asked about beyond the last one that is known to be used. A hold comes after a code
// and its check, with wrong codes and a second card in between; a refund after those that were refused.
const (
	looksForMoney  = 12
	looksForRefund = 3
)

// Looks is what to ask about, in this order, to learn how a payment without an open question went on:
//
//	held                 whether all of it was captured, or the hold is gone
//	captured             whether what is left of it was given back
//	waiting for a payer  whether the money was taken or is held, under the references it would have been
//	                     given next, at each centre that the payer could have chosen: attempts, without a card
//
// All that is asked about one reference comes before the next: what is adopted uses up all references before its own.
func (p *Payment) Looks(attempts []Attempt, restored time.Time) (looks []Look) {
	add := func(attempt *Attempt, i int, kind Kind, amount money.Amount) *Look {
		n := p.LastOperation + p.Skipped + 1 + i
		looks = append(looks, Look{N: n, Attempt: *attempt, Operation: Operation{
			N: p.LastOperation + 1, Ref: p.reference(n), Kind: kind, Amount: amount,
			BegunAt: restored, SentAt: restored, Ask: Query, Look: true,
		}})
		return &looks[len(looks)-1]
	}
	switch p.State {
	case Held:
		add(p.Attempt, 0, OpCapture, p.Held) // a hold is captured or let go next, under one reference
	case Captured:
		if left := p.Refundable(); left.Positive() {
			for i := range looksForRefund {
				add(p.Attempt, i, OpRefund, left)
			}
		}
	case Created, Challenged:
		for i := range looksForMoney {
			for a := range attempts {
				charge := add(&attempts[a], i, OpCharge, p.Terms.Amount)
				if charge.HoldNext = !p.Terms.AutoCapture && !attempts[a].Limits.HoldUnnamed; charge.HoldNext {
					add(&attempts[a], i, OpHold, p.Terms.Amount)
				}
			}
		}
	}
	return looks
}

// Means reports whether the centre's answer to a look, asked at asked, calls for adopting it, or for looking on. ok is
// false for an answer that came too early to prove anything.
func (l *Look) Means(a Answer, asked time.Time) (adopt, ok bool) {
	op := l.Operation
	op.AskedAt = asked
	switch {
	case a.Outcome == NeverSeen:
		return false, l.Attempt.Limits.shown(&op)
	case a.Outcome == Refused && (op.Kind != OpCapture || a.Reason != HoldGone):
		return false, true // it was tried, and moved nothing, or is over
	case l.HoldNext && a.Outcome != Approved:
		return false, true // if the money is held and was not taken, that is no answer to whether it was
	}
	return true, true
}

// Adopt opens a question about what a look found, as an operation of the payment that this store does not
// know to have sent. From then on it is asked about like any other, but never sent. The references up to
// the one it bears are used up.
type Adopt struct {
	Look     Look
	RefundID string // a fresh UUID, for a refund
	Restored time.Time
}

func (c Adopt) begin(p Payment, now time.Time) (Change, error) {
	skipped := c.Look.N - (p.LastOperation + 1)
	if !p.Behind(c.Restored) || p.Open != nil || skipped < p.Skipped {
		return unchanged(p), nil
	}
	d := edit(p, now)
	d.Payment.Skipped = skipped
	if p.State == Created || p.State == Challenged {
		attempt := c.Look.Attempt
		d.Payment.Attempt = &attempt
		d.move(Created) // a code that he waits for is the other attempt's
	}
	op := d.ask(c.Look.Operation.Kind, c.Look.Operation.Amount)
	op.Look, op.Ask, op.SentAt = true, Query, c.Restored
	if op.Kind == OpRefund {
		d.Payment.Refunds = append(d.Payment.Refunds, Refund{
			ID: c.RefundID, Amount: op.Amount, AskedAt: now, Operation: op.N, State: RefundPending,
		})
	}
	return d.Change, nil
}

// found takes the answer to a question about what this store does not know to have sent.
func (d *draft) found(op Operation, a Answer) {
	p := &d.Payment
	if a.Outcome == Approved && !a.Amount.IsZero() && a.Amount != op.Amount && a.Resolution == nil {
		a.Outcome = Unknown
	}
	switch a.Outcome {
	case Approved:
		if !a.Amount.IsZero() {
			op.Amount = a.Amount
			p.Open.Amount = a.Amount
		}
		switch op.Kind {
		case OpCapture:
			p.Decision = &Decision{Accept: Capture, Amount: op.Amount, By: ByRestore, At: d.now}
		case OpRefund:
			p.Refunds[len(p.Refunds)-1].Amount = op.Amount
		}
		d.done(op, a)
	case NeverSeen, Refused:
		gone := a.Outcome == Refused && op.Kind == OpCapture && a.Reason == HoldGone
		switch {
		case a.Outcome == NeverSeen && !p.Attempt.Limits.shown(&op):
			d.keep(a, nextInquiry(&op, d.now))
		case gone:
			d.undone(op, a)
		default:
			d.close(a) // it was not done; what is known of the payment stays as it is
			d.mark(op, RefundRefused, Unavailable)
		}
	default:
		a.Outcome = Unknown
		d.keep(a, nextInquiry(&op, d.now))
	}
}

// unnamedRefund is the place of a refund of that sum that was found after a restore: the shop's name of it
// is not known. The first name that asks for the sum is taken for it, so that a shop which asks again for what
// it was never told of does not give it back twice. -1: there is none.
func (p *Payment) unnamedRefund(amount money.Amount) int {
	for i := range p.Refunds {
		if r := &p.Refunds[i]; r.ShopID == "" && r.State == RefundDone && r.Amount == amount {
			return i
		}
	}
	return -1
}

// Reconcile ends the reconciling after a restore: nothing more was found. A payment that still waits for a payer is
// over: what he did since the backup was taken is not known here, and he must not be asked to pay twice.
type Reconcile struct {
	Restored time.Time
}

func (c Reconcile) begin(p Payment, now time.Time) (Change, error) {
	if !p.Behind(c.Restored) || p.Open != nil {
		return unchanged(p), nil
	}
	d := edit(p, now)
	d.Payment.Restored = c.Restored
	if p.State == Created || p.State == Challenged {
		d.move(Expired)
	}
	return d.Change, nil
}
