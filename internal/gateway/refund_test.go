package gateway_test

import (
	"testing"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/sim"
)

// TestRefundThatCannotBeAskedFor: the centre is not there, or says that it is out of service. The refund is
// pending, and done once when the centre is back; the shop asks once.
func TestRefundThatCannotBeAskedFor(t *testing.T) {
	w := newWorld(t)
	p := w.paid(w.goodCard(0), oneStage)
	w.fault(sim.Fault{Method: "trans.reverse.partial", Name: "error_code", Code: -300, Times: 2})
	got, err := w.gateway.Refund(t.Context(), p.ID, "r1", uzs(30_000))
	if err != nil || got.Open == nil || got.FindRefund("r1").State != payment.RefundPending || got.Refundable() != uzs(total-30_000) {
		t.Fatalf("open %+v, refunds %+v, %v", got.Open, got.Refunds, err)
	}
	for n := 0; got.Open != nil && n < 6; n++ { // as the inquiries come: after 5 s, 30 s and 2 min
		w.set(got.Due())
		w.step()
		got = w.read(p.ID)
	}
	if after := w.clock().Sub(t0); after > 2*time.Minute {
		t.Errorf("it took %s", after)
	}
	if got.Open != nil || got.Refunded != uzs(30_000) || got.FindRefund("r1").State != payment.RefundDone {
		t.Errorf("open %+v, refunds %+v", got.Open, got.Refunds)
	}
	again, err := w.gateway.Refund(t.Context(), p.ID, "r1", uzs(30_000))
	if err != nil || again.Refunded != uzs(30_000) || w.made()["refund"] != 1 {
		t.Errorf("asked once more: %s, %v; the centre made %d", again.Refunded, err, w.made()["refund"])
	}
}
