package payment

import (
	"errors"
	"fmt"
	"slices"

	"holdfast/internal/ledger"
	"holdfast/internal/money"
)

// Check verifies a Change against the payment it was decided on, once more and by other means
// than the deciding: legal move, one question at a time, one decision that is carried out as it was
// said, entries that say the same as the sums, news of every change, numbers without gaps. before is
// nil for a new payment. The store refuses to write what does not pass.
func (c *Change) Check(before *Payment) error {
	p := &c.Payment
	was := before
	if was == nil {
		zero := p.Terms.Amount.Zero()
		made := *p
		made.State, made.Progress = Created, Progress{}
		made.Sums = Sums{Held: zero, Captured: zero, Released: zero, Refunded: zero, Fee: zero}
		was = &made
	}
	err := p.CheckSums()
	// One by one and not in a loop over them: what is called through a variable might keep was, which would then be an
	// allocation.
	if err == nil {
		err = c.checkFrozen(was)
	}
	if err == nil {
		err = c.checkQuestions(was)
	}
	if err == nil {
		err = c.checkDecision(was)
	}
	if err == nil {
		err = c.checkEntries(was)
	}
	if err == nil {
		err = c.checkEvents(was)
	}
	if err != nil {
		return fmt.Errorf("payment %s: %w", p.ID, err)
	}
	return nil
}

// checkFrozen: what never changes has not, and the state moves as it may.
func (c *Change) checkFrozen(was *Payment) error {
	p := &c.Payment
	switch {
	case was.ID != p.ID || was.Shop != p.Shop || was.Number != p.Number || was.Version != p.Version || !was.CreatedAt.Equal(p.CreatedAt):
		return errors.New("a change names another payment than it was decided on")
	case was.Terms.Amount != p.Terms.Amount || was.Terms.AutoCapture != p.Terms.AutoCapture || was.Terms.Test != p.Terms.Test ||
		was.Terms.NotifyURL != p.Terms.NotifyURL || was.Terms.ShopPaymentID != p.Terms.ShopPaymentID || !was.Terms.ExpiresAt.Equal(p.Terms.ExpiresAt):
		return errors.New("the terms would be changed")
	case was.State != p.State && !slices.Contains(follows[was.State], p.State):
		return fmt.Errorf("it cannot go from %s to %s", was.State, p.State)
	case p.WrongCodes < was.WrongCodes || p.Attempts < 0 || was.Tried && !p.Tried || len(p.Refunds) < len(was.Refunds) ||
		p.Skipped < was.Skipped || p.Restored.Before(was.Restored):
		return errors.New("what was counted would be forgotten")
	case (was.Open != nil || was.State == Held || was.State == Captured) && !p.Attempt.is(was.Attempt):
		return errors.New("another card would have paid, or on other terms")
	case (was.State == Held || was.State == Captured) && !p.HoldDeadline.Equal(was.HoldDeadline):
		return errors.New("the hold's end would be moved")
	}
	for i := range was.Refunds {
		b, r := &was.Refunds[i], &p.Refunds[i]
		named := b.ShopID == "" // found after a restore, it takes a name once
		known := b.State != RefundPending
		if r.ID != b.ID || r.Operation != b.Operation || r.ShopID != b.ShopID && !named || known && (r.State != b.State || r.Amount != b.Amount) {
			return fmt.Errorf("refund %s would be changed", b.ID)
		}
	}
	return nil
}

// is reports that both are the same try of the same card, on the same terms.
func (a *Attempt) is(b *Attempt) bool {
	return a != nil && b != nil && a.Method == b.Method && a.Processor == b.Processor && a.Card == b.Card && a.ThreeDS == b.ThreeDS && a.Fee == b.Fee
}

// checkQuestions: a question stays open until it is answered, and the next one has the next number.
func (c *Change) checkQuestions(was *Payment) error {
	p := &c.Payment
	same := func(a, b *Operation) bool {
		// What is found after a restore may have moved another sum than was looked for.
		return a.N == b.N && a.Ref == b.Ref && a.Kind == b.Kind && a.Look == b.Look && (a.Amount == b.Amount || a.Look)
	}
	kept := was.Open != nil && p.Open != nil && same(was.Open, p.Open)
	switch {
	case c.Closed != nil && (was.Open == nil || !same(was.Open, c.Closed)):
		return errors.New("a question would be answered that is not open")
	case was.Open != nil && kept == (c.Closed != nil):
		return fmt.Errorf("the open question %s would be neither kept nor answered", was.Open.Ref)
	}
	last := was.LastOperation
	if p.Open != nil && !kept {
		last++
		switch {
		case p.Open.N != last || p.Open.Ref != p.reference(last+p.Skipped):
			return fmt.Errorf("the question %s (%d) comes after %d", p.Open.Ref, p.Open.N, was.LastOperation)
		case p.Attempt == nil || p.Open.NextAt.IsZero():
			return fmt.Errorf("the question %s could never be asked again", p.Open.Ref)
		case p.Open.Kind == OpHold && !p.Attempt.ThreeDS && p.HoldDeadline.IsZero() && !p.Open.Look:
			return fmt.Errorf("the hold %s would have no end", p.Open.Ref)
		case p.Open.Kind != OpCapture && p.Open.Kind != OpVoid && p.Open.Kind != OpRefund && p.Open.Amount != p.Terms.Amount:
			return fmt.Errorf("a %s of %s would be asked for, the payment is of %s", p.Open.Kind, p.Open.Amount, p.Terms.Amount)
		}
	}
	if p.LastOperation != last {
		return fmt.Errorf("%d operations were begun, the payment counts %d", last, p.LastOperation)
	}
	if p.Open != nil && p.State.Terminal() && (p.State != Captured || p.Open.Kind != OpRefund) {
		return fmt.Errorf("a %s payment would still ask for a %s", p.State, p.Open.Kind)
	}
	// A refund that is reserved is being asked for, and the reverse.
	asks := p.Open != nil && p.Open.Kind == OpRefund
	for i := range p.Refunds {
		switch r := &p.Refunds[i]; {
		case r.State != RefundPending:
		case !asks || p.Open.N != r.Operation || p.Open.Amount != r.Amount:
			return fmt.Errorf("refund %s is reserved, and that is not what is asked", r.ID)
		default:
			asks = false
		}
	}
	if asks {
		return fmt.Errorf("the refund %s would be asked for, and is not reserved", p.Open.Ref)
	}
	return nil
}

// checkDecision: there is one, it stays, and what is asked and done is what it says.
func (c *Change) checkDecision(was *Payment) error {
	p := &c.Payment
	d := p.Decision
	switch {
	case was.Decision != nil && (d == nil || *d != *was.Decision):
		return errors.New("the decision would be changed")
	case d == nil:
		if p.Open != nil && (p.Open.Kind == OpCapture || p.Open.Kind == OpVoid) && !p.Open.Look {
			return fmt.Errorf("a %s would be asked for that nobody decided", p.Open.Kind)
		}
		return nil
	case d.Amount.Currency != p.Terms.Amount.Currency:
		return fmt.Errorf("%s was decided, the payment is in %s", d.Amount, p.Terms.Amount.Currency)
	case d.Accept == Capture && (d.Amount.Cmp(p.Held) > 0 || !d.Amount.Positive()):
		return fmt.Errorf("%s would be captured of %s", d.Amount, p.Held)
	case d.Accept == Capture && p.State == Captured && p.Captured != d.Amount:
		return fmt.Errorf("%s was decided and %s captured", d.Amount, p.Captured)
	case d.Accept == Cancel && p.State == Captured:
		return errors.New("it would be captured although it was cancelled")
	}
	if p.State != Held {
		return nil
	}
	kind, amount := OpVoid, p.Held
	if d.Accept == Capture {
		kind, amount = OpCapture, d.Amount
	}
	if p.Open == nil || p.Open.Kind != kind || p.Open.Amount != amount {
		return fmt.Errorf("the decision is to %s, and that is not what is asked", d.Accept)
	}
	return nil
}

// checkEntries: each entry is of the form its kind has, and together they say how the sums changed.
func (c *Change) checkEntries(was *Payment) error {
	p := &c.Payment
	sums := [...]struct {
		kind          ledger.Kind
		before, after money.Amount
		moved         int64 // by the entries
	}{
		{kind: ledger.Hold, before: was.Held, after: p.Held}, {kind: ledger.Release, before: was.Released, after: p.Released},
		{kind: ledger.Capture, before: was.Captured, after: p.Captured}, {kind: ledger.Refund, before: was.Refunded, after: p.Refunded},
		{kind: ledger.Fee, before: was.Fee, after: p.Fee},
	}
	for _, e := range c.Entries {
		if err := e.Check(); err != nil {
			return err
		}
		if c.Closed == nil || c.Closed.Ref != e.Operation {
			return fmt.Errorf("an entry follows from operation %s, which is not answered here", e.Operation)
		}
		minor, err := p.checkEntry(e)
		if err != nil {
			return err
		}
		for i := range sums {
			if sums[i].kind == e.Kind {
				sums[i].moved += minor
			}
		}
	}
	if op := c.Closed; op != nil {
		released := (op.Kind == OpCapture || op.Kind == OpVoid) && op.Outcome == Refused && op.Reason == HoldGone
		if moved := op.Kind.MovesMoney() && op.Outcome == Approved || released; moved != (len(c.Entries) > 0) {
			return fmt.Errorf("the %s %s is %s, and %d entries follow from it", op.Kind, op.Ref, op.Outcome, len(c.Entries))
		}
	}
	for i := range sums {
		if sum := &sums[i]; sum.after.Minor-sum.before.Minor != sum.moved {
			return fmt.Errorf("the %s goes from %s to %s, but the entries say %d minor units", sum.kind, sum.before, sum.after, sum.moved)
		}
	}
	if p.LastEntry != was.LastEntry+len(c.Entries) {
		return fmt.Errorf("%d entries were made, the payment counts %d", was.LastEntry+len(c.Entries), p.LastEntry)
	}
	return nil
}

// checkEntry holds an entry against the form of its kind, and returns what it moves, in minor units.
func (p *Payment) checkEntry(e ledger.Entry) (int64, error) {
	held, shop := ledger.ShopHeld(p.Shop), ledger.Shop(p.Shop)
	centre := ledger.Account("")
	if p.Attempt != nil {
		centre = ledger.Processor(p.Attempt.Processor)
	}
	var form []ledger.Account // of its kind, those that are debited first
	switch e.Kind {
	case ledger.Hold:
		form = []ledger.Account{ledger.PayerHeld, held}
	case ledger.Release:
		form = []ledger.Account{held, ledger.PayerHeld}
	case ledger.Capture:
		form = []ledger.Account{held, ledger.PayerHeld, centre, shop}
	case ledger.Refund:
		form = []ledger.Account{shop, centre}
	case ledger.Fee:
		form = []ledger.Account{shop, ledger.Fees}
	}
	back := e.Lines[0].Account == ledger.Fees // a fee may also go back
	if back {
		slices.Reverse(form)
	}
	minor := e.Lines[0].Amount.Minor
	fits := len(form) == len(e.Lines) && e.Lines[0].Amount.Currency == p.Terms.Amount.Currency
	for i, l := range e.Lines {
		// Debits and credits of the same sum take turns.
		want := minor
		if i%2 == 1 {
			want = -minor
		}
		fits = fits && l.Account == form[i] && l.Amount.Minor == want
	}
	if !fits || minor <= 0 {
		return 0, fmt.Errorf("the %s entry of %s is not of the form it has: %s", e.Kind, e.Operation, e.AppendLines(nil))
	}
	if back {
		minor = -minor
	}
	return minor, nil
}

// checkEvents: the merchant is told of each change that he sees, once, and as it is.
func (c *Change) checkEvents(was *Payment) error {
	p := &c.Payment
	news := 0
	if was.Status() != p.Status() || was.Refunded != p.Refunded {
		news = 1
	}
	if len(c.Events) != news || p.LastEvent != was.LastEvent+news {
		return fmt.Errorf("it goes from %s to %s with %d events, the last one numbered %d after %d", was.Status(), p.Status(), len(c.Events), p.LastEvent, was.LastEvent)
	}
	for _, e := range c.Events {
		if e.N != p.LastEvent || e.Status != p.Status() || e.Sums != p.Sums {
			return fmt.Errorf("event %d says %s of a payment that is %s", e.N, e.Status, p.Status())
		}
	}
	return nil
}

// CheckSums verifies what must hold of a payment's sums at any time (docs/payment-cycle.md, invariants 1 and 2).
func (p *Payment) CheckSums() error {
	zero := p.Terms.Amount.Zero()
	fail := func(rule string) error {
		return fmt.Errorf("%s (%s): held %s, captured %s, released %s, refunded %s, fee %s",
			rule, p.State, p.Held, p.Captured, p.Released, p.Refunded, p.Fee)
	}
	for _, a := range []money.Amount{p.Held, p.Captured, p.Released, p.Refunded, p.Fee} {
		switch {
		case a.Currency != zero.Currency:
			return fail("a sum is in another currency")
		case a.Minor < 0:
			return fail("a sum is below 0")
		}
	}
	back := p.Refunded.Zero() // by the refunds
	for i := range p.Refunds {
		switch r := &p.Refunds[i]; {
		case r.Amount.Currency != zero.Currency || !r.Amount.Positive() || r.Amount.Cmp(p.Captured) > 0:
			return fail("a refund is of a sum that was not captured")
		case r.State == RefundDone:
			back = back.Add(r.Amount)
		}
	}
	left := p.StillHeld()
	switch {
	case back != p.Refunded:
		return fail("the refunds do not add up to what was refunded")
	case p.Refundable().Minor < 0:
		return fail("more would be refunded than captured")
	case left.Minor < 0:
		return fail("more was captured and released than was held")
	case p.Fee.Cmp(p.Captured) > 0:
		return fail("the fee is above what was captured")
	case p.State == Held && (p.Held != p.Terms.Amount || left != p.Held):
		return fail("a held payment must hold all that was asked for")
	case p.State == Captured && !p.Captured.Positive():
		return fail("a captured payment must have captured something")
	case p.State != Held && !left.IsZero():
		return fail("money is held in a state that holds none")
	case p.State != Captured && !p.Captured.IsZero():
		return fail("money is captured in a state that captures none")
	}
	return nil
}
