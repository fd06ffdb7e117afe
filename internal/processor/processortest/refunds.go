package processortest

import (
	"slices"

	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// refunds: what was taken is given back, never more of it than was taken, and each part once. The faults
// of refunds are among those of all kinds.
func refunds(r *room) {
	paths := []struct {
		name  string
		taken func() *deal
	}{
		{"a charge", func() *deal {
			d := r.deal(r.card(Good, 0), r.sum(1000))
			d.identify()
			d.must(payment.OpCharge, d.amount)
			return d
		}},
		{"a capture of all", func() *deal {
			d := r.deal(r.card(Good, 1), r.sum(1000))
			d.prepare(payment.OpCapture)
			d.must(payment.OpCapture, d.amount)
			return d
		}},
		{"a capture of a part", func() *deal {
			d := r.deal(r.card(Good, 2), r.sum(1000))
			d.prepare(payment.OpRefund)
			return d
		}},
	}
	for _, path := range paths {
		d := path.taken()
		whole := d.taken
		if !r.caps.PartialRefund {
			d.tooMuch(money.New(whole.Minor-100, whole.Currency), payment.Unsupported)
		}
		d.tooMuch(money.New(whole.Minor+1, whole.Currency), payment.RefundAmount, payment.Unsupported)
		d.again(d.must(payment.OpRefund, whole))
		d.books(none, whole)
		d.tooMuch(money.New(1, whole.Currency), payment.RefundAmount, payment.NothingToRefund, payment.Unsupported)
		if r.Failed() {
			r.Fatal(path.name)
		}
	}
	if !r.caps.PartialRefund {
		return
	}
	for _, path := range paths {
		d := path.taken()
		whole := d.taken
		part := func(percent int64) money.Amount { return money.New(whole.Minor*percent/100, whole.Currency) }
		first := d.must(payment.OpRefund, part(30))
		d.books(none, whole)
		d.again(first)
		second := d.must(payment.OpRefund, part(30)) // the same sum once more is another refund
		d.books(none, whole)
		d.tooMuch(part(41), payment.RefundAmount)
		third := d.must(payment.OpRefund, part(40))
		for _, op := range []*payment.Operation{first, second, third} {
			d.again(op)
			// Sent again, as after a crash: nothing more is given back.
			if a := d.ask(d.Context(), op, payment.Send); a.Outcome == payment.Refused {
				d.Errorf("a refund that was made, sent again: %+v", a)
			}
			d.again(op)
		}
		d.books(none, whole)
		d.tooMuch(money.New(1, whole.Currency), payment.RefundAmount, payment.NothingToRefund)
		if r.Failed() {
			r.Fatal(path.name, ", in parts")
		}
	}
}

// tooMuch asks for a refund that cannot be: it ends refused, for one of the reasons, and moves nothing.
func (d *deal) tooMuch(amount money.Amount, reasons ...payment.Reason) {
	d.Helper()
	op, a := d.send(payment.OpRefund, amount)
	if a, ended := d.pursue(op, a); !ended || a.Outcome != payment.Refused {
		d.Errorf("a refund of %s of %s: %+v, it was to be refused", amount, d.taken, a)
	} else if !slices.Contains(reasons, a.Reason) {
		d.Errorf("a refund of %s of %s: %+v, it was to be refused with one of %v", amount, d.taken, a, reasons)
	}
	d.books(none, d.taken)
}
