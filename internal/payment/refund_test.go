package payment_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/money"
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

// TestRefundIsRefused: what cannot be given back is refused with the reason, and reserves nothing.
func TestRefundIsRefused(t *testing.T) {
	refund := func(sum money.Amount) payment.Reimburse { return payment.Reimburse{ID: "x", ShopID: "r1", Amount: sum} }
	whole := func(sum money.Amount) payment.Reimburse {
		return payment.Reimburse{ID: "x", ShopID: "r1", Amount: sum, Whole: true}
	}
	held := func() *walk { return start(t, terms()).paid() }
	captured := func() *walk { return held().capture(60_000).done().later(time.Hour) }
	all := captured().refund("all", 60_000).done()
	many := captured()
	for i := range payment.MaxRefunds {
		many.refund(fmt.Sprint("m", i), 1).done()
	}
	for name, tt := range map[string]struct {
		w      *walk
		c      payment.Reimburse
		want   payment.Reason
		detail string // part of it
	}{
		"nothing was paid":            {start(t, terms()), refund(uzs(1)), payment.NotCaptured, ""},
		"held":                        {held(), refund(uzs(1)), payment.NotCaptured, ""},
		"being captured":              {held().capture(60_000), refund(uzs(1)), payment.NotCaptured, ""},
		"let go":                      {held().cancel().done(), refund(uzs(1)), payment.NotCaptured, ""},
		"in dollars":                  {captured(), refund(money.New(1, money.USD)), payment.RefundAmount, "UZS"},
		"nothing":                     {captured(), refund(uzs(0)), payment.RefundAmount, "600.00 UZS"},
		"less than nothing":           {captured(), refund(uzs(-1)), payment.RefundAmount, "600.00 UZS"},
		"more than was captured":      {captured(), refund(uzs(60_001)), payment.RefundAmount, "600.00 UZS"},
		"all of it went back":         {all, refund(uzs(1)), payment.NothingToRefund, ""},
		"a part, where whole ones go": {captured(), whole(uzs(59_999)), payment.Unsupported, "600.00 UZS"},
		"one too many":                {many, refund(uzs(1)), payment.RefundAmount, fmt.Sprint(payment.MaxRefunds)},
		"another is under way":        {captured().refund("r2", 1), refund(uzs(1)), payment.Busy, ""},
		"another is in doubt":         {captured().refund("r2", 1).unknown(), refund(uzs(1)), payment.InDoubt, ""},
	} {
		before := len(tt.w.p.Refunds)
		if refusal := tt.w.refused(tt.c, tt.want); !strings.Contains(refusal.Detail, tt.detail) || len(tt.w.p.Refunds) != before {
			t.Errorf("%s: %v, and there are %d refunds after %d", name, refusal, len(tt.w.p.Refunds), before)
		}
	}
	// What can be: all of it where only that can, and the last of those that a payment takes.
	w := captured().begin(whole(uzs(60_000)))
	if r := w.p.Refunds[0]; r.ID != "x" || r.ShopID != "r1" || r.AskedAt != w.now || r.Operation != w.p.Open.N || w.p.Open.Amount != uzs(60_000) {
		t.Errorf("reserved is %+v, asked %+v", r, w.p.Open)
	}
	// The same again is the same refund, whatever it says, and once it is done nothing is asked.
	w.refused(refund(uzs(1)), payment.UnderWay)
	if w.done().begin(refund(uzs(1))); !w.lastSeen.Empty() || w.p.Refunded != uzs(60_000) {
		t.Errorf("asked for again, %s went back, open %+v", w.p.Refunded, w.p.Open)
	}
}
