package payment_test

import (
	"testing"
	"time"

	"holdfast/internal/payment"
)

// refund asks for money back under a name.
func (w *walk) refund(name string, minor int64) *walk {
	w.t.Helper()
	return w.begin(payment.Reimburse{ID: "id of " + name, ShopID: name, Amount: uzs(minor)})
}

// TestRefundNotSent: a refund that nobody said no to stays open with its sum reserved, and is sent again until
// it is answered: the shop need not ask again.
func TestRefundNotSent(t *testing.T) {
	w := start(t, terms()).paid().capture(60_000).done().later(time.Hour).refund("r1", 10_000).later(time.Second)
	w.refusedFor(payment.Unavailable)
	if r := w.p.FindRefund("r1"); r.State != payment.RefundPending || w.p.Open == nil || w.p.Open.NextAt.IsZero() || w.p.Refundable() != uzs(50_000) {
		t.Fatalf("%+v, open %+v, %s can be given back", r, w.p.Open, w.p.Refundable())
	}
	w.refused(payment.Reimburse{ID: "x", ShopID: "r1", Amount: uzs(10_000)}, payment.UnderWay)
	w.refused(payment.Reimburse{ID: "x", ShopID: "r2", Amount: uzs(50_001)}, payment.RefundAmount)
	ref := w.p.Open.Ref
	w.at(w.p.Open.NextAt).begin(payment.Resume{})
	if op := w.p.Open; op.Ask != payment.Send || op.Ref != ref || op.Asks != 2 {
		t.Errorf("it is asked %+v", op)
	}
	w.approved()
	if r := w.p.FindRefund("r1"); r.State != payment.RefundDone || w.p.Open != nil || w.p.Refunded != uzs(10_000) {
		t.Errorf("%+v, open %+v, refunded %s", r, w.p.Open, w.p.Refunded)
	}

	// What the centre says no to is over, and its sum is free again.
	w.refund("r2", 10_000).later(time.Second).refusedFor(payment.Unsupported)
	if r := w.p.FindRefund("r2"); r.State != payment.RefundRefused || r.Reason != payment.Unsupported || w.p.Open != nil || w.p.Refundable() != uzs(50_000) {
		t.Errorf("%+v, open %+v, %s can be given back", r, w.p.Open, w.p.Refundable())
	}
}
