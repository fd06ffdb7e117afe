package payment

import (
	"errors"
	"fmt"
	"slices"

	"holdfast/internal/ledger"
	"holdfast/internal/money"
)

// Check verifies a Change against the payment it was decided on, once more and by other means
// than the deciding: legal move, sums that add up, entries that say the same as the sums, one
// decision, numbers without gaps. before is nil for a new payment. The store refuses to write
// what does not pass.
func (c *Change) Check(before *Payment) error {
	after := &c.Payment
	if err := after.CheckSums(); err != nil {
		return err
	}
	var was Payment
	if before != nil {
		was = *before
		if was.ID != after.ID || was.Shop != after.Shop || was.Number != after.Number || was.Version != after.Version {
			return errors.New("a change names another payment than it was decided on")
		}
		if was.State != after.State && !slices.Contains(follows[was.State], after.State) {
			return fmt.Errorf("payment %s cannot go from %s to %s", after.ID, was.State, after.State)
		}
		if was.Decision != nil && (after.Decision == nil || *after.Decision != *was.Decision) {
			return fmt.Errorf("payment %s: the decision would be changed", after.ID)
		}
	} else {
		zero := after.Terms.Amount.Zero()
		was.Sums = Sums{Held: zero, Captured: zero, Released: zero, Refunded: zero, Fee: zero}
	}
	if err := c.checkEntries(was.Sums); err != nil {
		return err
	}
	if after.LastEntry != was.LastEntry+len(c.Entries) || after.LastEvent != was.LastEvent+len(c.Events) {
		return fmt.Errorf("payment %s: entries or events are not numbered one after another", after.ID)
	}
	for i, e := range c.Events {
		if e.N != was.LastEvent+1+i {
			return fmt.Errorf("payment %s: event %d comes after %d", after.ID, e.N, was.LastEvent+i)
		}
	}
	if before != nil {
		news := 0
		if was.Status() != after.Status() || was.Refunded != after.Refunded {
			news = 1
		}
		if len(c.Events) != news {
			return fmt.Errorf("payment %s goes from %s to %s with %d events", after.ID, was.Status(), after.Status(), len(c.Events))
		}
	}
	if open := after.Open; open != nil && open.N != after.LastOperation {
		return fmt.Errorf("payment %s: operation %d is open, the last one is %d", after.ID, open.N, after.LastOperation)
	}
	return nil
}

// checkEntries adds up what the entries say and compares it with how the sums changed.
func (c *Change) checkEntries(was Sums) error {
	p := &c.Payment
	zero := p.Terms.Amount.Zero()
	held, released, captured, refunded, fee := zero, zero, zero, zero, zero
	for _, e := range c.Entries {
		if err := e.Check(); err != nil {
			return err
		}
		if !slices.ContainsFunc(c.Closed, func(op Operation) bool { return op.Ref == e.Operation }) {
			return fmt.Errorf("payment %s: an entry follows from operation %s, which is not answered here", p.ID, e.Operation)
		}
		for _, l := range e.Lines {
			switch {
			case e.Kind == ledger.Hold && l.Account == ledger.PayerHeld:
				held = held.Add(l.Amount)
			case e.Kind == ledger.Release && l.Account == ledger.PayerHeld:
				released = released.Sub(l.Amount)
			case e.Kind == ledger.Capture && l.Account == ledger.Shop(p.Shop):
				captured = captured.Sub(l.Amount)
			case e.Kind == ledger.Refund && l.Account == ledger.Shop(p.Shop):
				refunded = refunded.Add(l.Amount)
			case e.Kind == ledger.Fee && l.Account == ledger.Fees:
				fee = fee.Sub(l.Amount)
			}
		}
	}
	for _, sum := range []struct {
		name              string
		before, by, after money.Amount
	}{
		{"held", was.Held, held, p.Held},
		{"released", was.Released, released, p.Released},
		{"captured", was.Captured, captured, p.Captured},
		{"refunded", was.Refunded, refunded, p.Refunded},
		{"fee", was.Fee, fee, p.Fee},
	} {
		if sum.before.Add(sum.by) != sum.after {
			return fmt.Errorf("payment %s: %s goes from %s to %s, but the entries say %s", p.ID, sum.name, sum.before, sum.after, sum.by)
		}
	}
	return nil
}

// CheckSums verifies what must hold of a payment at any time (reliability.md, invariants 1 and 2).
func (p *Payment) CheckSums() error {
	zero := p.Terms.Amount.Zero()
	fail := func(rule string) error {
		return fmt.Errorf("payment %s (%s): %s: held %s, captured %s, released %s, refunded %s, fee %s",
			p.ID, p.State, rule, p.Held, p.Captured, p.Released, p.Refunded, p.Fee)
	}
	for _, a := range []money.Amount{p.Held, p.Captured, p.Released, p.Refunded, p.Fee} {
		if a.Cmp(zero) < 0 {
			return fail("a sum is below 0")
		}
	}
	left := p.StillHeld()
	switch {
	case left.Cmp(zero) < 0:
		return fail("more was captured and released than was held")
	case p.Refunded.Cmp(p.Captured) > 0:
		return fail("more was refunded than captured")
	case p.Fee.Cmp(p.Captured) > 0:
		return fail("the fee is above what was captured")
	case p.State == Held && (p.Held != p.Terms.Amount || left != p.Held):
		return fail("a held payment must hold all that was asked for")
	case p.State == Captured && (!p.Captured.Positive() || !left.IsZero()):
		return fail("a captured payment must hold nothing more")
	case p.State != Held && !left.IsZero():
		return fail("money is held in a state that holds none")
	case p.State != Captured && !p.Captured.IsZero():
		return fail("money is captured in a state that captures none")
	}
	return nil
}
