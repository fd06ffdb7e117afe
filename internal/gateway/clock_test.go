package gateway_test

import (
	"testing"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/sim"
)

// What was sent seems longer ago than it is where the clock has been set forward since. That the centre does not know of it yet
// proves nothing then.
func TestTheClockIsSetForward(t *testing.T) {
	w := newWorld(t)
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	set := time.Duration(0)
	w.elapsed = func() time.Duration { return w.clock().Sub(t0) - set }
	w.start()
	card := w.goodCard(0)
	p := w.must(w.pay(w.prepare(oneStage).ID, card))(payment.Challenged)
	w.fault(sim.Fault{Method: "trans.pay.purpose", Name: "request_lost"})
	if p, err := w.submit(p, w.code(card)); err != nil || p.Open == nil {
		t.Fatalf("%s, %v: it should be in doubt", p.State, err)
	}
	set = 3 * time.Minute
	w.later(set)
	if w.step() != 1 {
		t.Fatal("it is not asked about")
	}
	if op := w.read(p.ID).Open; op == nil || op.Outcome != payment.Unknown || op.Asks != 2 {
		t.Errorf("3 min are said to have passed, and none has: %+v", op)
	}
	w.rest()
	if p := w.read(p.ID); p.State != payment.Created || p.LastRefusal != payment.Unavailable {
		t.Errorf("much later it is known never to have been made, and the payment is %s, %s", p.State, p.LastRefusal)
	}
}
