package payment_test

import (
	"fmt"
	"time"

	"holdfast/internal/payment"
)

// centre is a processing centre in a few lines: what it did, by our references. It shares nothing
// with the code under test but the words of a question and an answer. It counts what it did, so that
// whatever happens twice is seen.
type centre struct {
	// keeps: a second use of a reference it has done gives the first answer again and does nothing.
	keeps bool
	// slow: for up to a minute after an operation was sent it may not be shown, or not even have arrived.
	slow bool

	did      map[string]payment.Answer // by reference: what it did or refused
	arriving []arrival

	live                            int64 // set aside now
	holds, charges, captures, voids int   // done, each
	captured, released              int64
}

// arrival is a request that is still on its way although nobody waits for its answer any more.
type arrival struct {
	op payment.Operation
	at time.Time
}

func newCentre(keeps, slow bool) *centre {
	return &centre{keeps: keeps, slow: slow, did: make(map[string]payment.Answer)}
}

// send does what is asked, unless it refuses.
func (c *centre) send(op payment.Operation, refuse payment.Reason) payment.Answer {
	if a, seen := c.did[op.Ref]; seen && c.keeps && a.Outcome == payment.Approved {
		return a
	}
	a := payment.Answer{Ref: op.Ref, Outcome: payment.Approved, Amount: op.Amount}
	sum := op.Amount.Minor
	switch {
	case refuse != "":
		a.Outcome, a.Reason, a.Amount = payment.Refused, refuse, op.Amount.Zero()
	case op.Kind == payment.OpHold:
		c.holds++
		c.live += sum
	case op.Kind == payment.OpCharge:
		c.charges++
		c.captured += sum
	case c.live == 0:
		a.Outcome, a.Reason, a.Amount = payment.Refused, payment.HoldGone, op.Amount.Zero()
	case op.Kind == payment.OpCapture:
		c.captures++
		c.captured, c.released, c.live = c.captured+sum, c.released+c.live-sum, 0
	case op.Kind == payment.OpVoid:
		c.voids++
		c.released, c.live = c.released+c.live, 0
	}
	c.did[op.Ref] = a
	return a
}

// query says what became of an operation. hide: not yet shown.
func (c *centre) query(op payment.Operation, hide bool) payment.Answer {
	if a, seen := c.did[op.Ref]; seen && !hide {
		return a
	}
	return payment.Answer{Ref: op.Ref, Outcome: payment.NeverSeen}
}

// pass lets what is on its way arrive by now.
func (c *centre) pass(now time.Time) {
	late := c.arriving
	c.arriving = nil
	for _, a := range late {
		if a.at.After(now) {
			c.arriving = append(c.arriving, a)
			continue
		}
		c.send(a.op, "")
	}
}

// lapse: the centre lets the hold go by itself.
func (c *centre) lapse() { c.released, c.live = c.released+c.live, 0 }

// once reports what was done twice.
func (c *centre) once() error {
	if c.holds+c.charges > 1 || c.captures > 1 || c.voids > 1 || c.captures+c.voids > 1 {
		return fmt.Errorf("the centre did %d holds, %d charges, %d captures, %d voids", c.holds, c.charges, c.captures, c.voids)
	}
	return nil
}
