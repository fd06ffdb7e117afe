package payment

import (
	"slices"
	"time"

	"holdfast/internal/ledger"
	"holdfast/internal/money"
)

// Change is the only thing that crosses from deciding to storing. An empty one is an answer too:
// the payment already is as it was asked to be.
type Change struct {
	Payment Payment        // as it shall be, open question included
	Closed  *Operation     // the question that is answered now, for the record; nil: none is
	Entries []ledger.Entry // facts to append
	Events  []Event        // what the merchant shall be told
	Claim   string         // a hold that carries no reference of ours and that only this payment may own
	changed bool
}

// Empty reports that there is nothing to store.
func (c *Change) Empty() bool { return !c.changed }

// draft is a Change being made: every move goes through it, so that states, sums, entries and
// events cannot drift apart.
type draft struct {
	Change
	now time.Time
}

func edit(p Payment, now time.Time) draft {
	d := draft{Change: Change{Payment: p, changed: true}, now: now}
	// The payment handed in stays as it was: what is changed behind a pointer is copied first.
	if p.Attempt != nil {
		a := *p.Attempt
		if a.Challenge != nil {
			c := *a.Challenge
			a.Challenge = &c
		}
		d.Payment.Attempt = &a
	}
	d.Payment.Refunds = slices.Clone(p.Refunds)
	if p.Open != nil {
		op := *p.Open
		d.Payment.Open = &op
	}
	d.Payment.UpdatedAt = now
	return d
}

func unchanged(p Payment) Change { return Change{Payment: p} }

// ask opens a question.
func (d *draft) ask(kind Kind, amount money.Amount) *Operation {
	p := &d.Payment
	p.LastOperation++
	p.Open = &Operation{
		N: p.LastOperation, Ref: p.reference(p.LastOperation + p.Skipped), Kind: kind, Amount: amount,
		BegunAt: d.now, SentAt: d.now, Ask: Send,
	}
	if !p.Restored.IsZero() && kind.repeatable() {
		// The same may have been done under the same reference after the backup was taken: the centre is
		// asked first. If it was, then before the restore.
		p.Open.Ask, p.Open.SentAt = Query, p.Restored
	}
	p.Open.asked(p.Attempt.Limits, d.now)
	return p.Open
}

// close puts the open question on record with its answer.
func (d *draft) close(a Answer) {
	op := d.Payment.Open
	note(op, a, d.now)
	op.NextAt = time.Time{}
	d.Closed, d.Payment.Open = op, nil
}

// keep leaves the question open: the answer did not settle it.
func (d *draft) keep(a Answer, next time.Time) {
	note(d.Payment.Open, a, d.now)
	d.Payment.Open.NextAt = next
	d.Payment.Attempt.Centre.Sealed = "" // no question that needs the card is ever sent again
}

func note(op *Operation, a Answer, now time.Time) {
	op.Outcome, op.Reason, op.Cause, op.AnsweredAt = a.Outcome, a.Reason, clean(a.Cause), now
	op.Centre.merge(a.Centre)
	op.Centre.Sealed = "" // the record of an operation is kept for ever, a card is not
	if a.Resolution != nil {
		op.Resolutions = append(slices.Clone(op.Resolutions), *a.Resolution)
	}
}

// move changes the state and tells the merchant where that changes what he sees.
func (d *draft) move(to State) {
	before := d.Payment.Status()
	d.Payment.State = to
	if to == Challenged {
		d.Payment.Tried = true
	} else if d.Payment.Attempt != nil {
		d.Payment.Attempt.Centre.Sealed = ""
	}
	if d.Payment.Status() != before {
		d.tell()
	}
}

func (d *draft) tell() {
	p := &d.Payment
	p.LastEvent++
	d.Events = append(d.Events, Event{N: p.LastEvent, Status: p.Status(), At: d.now, Sums: p.Sums})
}

// transfer appends an entry of two lines; nothing to move is no entry.
func (d *draft) transfer(kind ledger.Kind, operation string, debit, credit ledger.Account, amount money.Amount) {
	if amount.IsZero() {
		return
	}
	d.Entries = append(d.Entries, ledger.Transfer(kind, operation, debit, credit, amount))
	d.Payment.LastEntry++
}

// hold sets money aside.
func (d *draft) hold(op string, amount money.Amount) {
	p := &d.Payment
	p.Held = amount
	d.transfer(ledger.Hold, op, ledger.PayerHeld, ledger.ShopHeld(p.Shop), amount)
}

// capture takes money that is set aside and books the fee.
func (d *draft) capture(op string, amount money.Amount) {
	p := &d.Payment
	shop := ledger.Shop(p.Shop)
	p.Captured = amount
	p.Fee = p.Attempt.Fee.Of(amount)
	p.PaidAt = d.now
	d.Entries = append(d.Entries, ledger.Entry{Kind: ledger.Capture, Operation: op, Lines: []ledger.Line{
		{Account: ledger.ShopHeld(p.Shop), Amount: amount},
		{Account: ledger.PayerHeld, Amount: amount.Neg()},
		{Account: ledger.Processor(p.Attempt.Processor), Amount: amount},
		{Account: shop, Amount: amount.Neg()},
	}})
	p.LastEntry++
	d.transfer(ledger.Fee, op, shop, ledger.Fees, p.Fee)
}

// refund gives captured money back, and the fee's share of it where the tariff does.
func (d *draft) refund(op string, amount money.Amount) {
	p := &d.Payment
	shop := ledger.Shop(p.Shop)
	p.Refunded = p.Refunded.Add(amount)
	d.transfer(ledger.Refund, op, shop, ledger.Processor(p.Attempt.Processor), amount)
	fee := p.Attempt.Fee.After(p.Captured, p.Refunded)
	d.transfer(ledger.Fee, op, ledger.Fees, shop, p.Fee.Sub(fee))
	p.Fee = fee
}

// release lets go of everything that is still set aside.
func (d *draft) release(op string) {
	p := &d.Payment
	rest := p.StillHeld()
	p.Released = p.Released.Add(rest)
	d.transfer(ledger.Release, op, ledger.ShopHeld(p.Shop), ledger.PayerHeld, rest)
}
