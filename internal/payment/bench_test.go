package payment_test

import (
	"testing"
	"time"

	"holdfast/internal/payment"
)

// BenchmarkTwoStagePayment is all the deciding of one payment, prepared to captured: 4 commands, 4
// answers, each Change checked as the store does.
func BenchmarkTwoStagePayment(b *testing.B) {
	benchmark(b, terms(), payment.Decide{Accept: payment.Capture, Amount: uzs(60_000), By: payment.ByMerchant})
}

// BenchmarkOneStagePayment is prepared to charged: 2 commands, 3 answers.
func BenchmarkOneStagePayment(b *testing.B) { benchmark(b, oneStage(), nil) }

func benchmark(b *testing.B, terms payment.Terms, decide payment.Command) {
	id := payment.NewID(t0, [10]byte{})
	card := attempt(uzcard)
	code := payment.Answer{Outcome: payment.ChallengeGiven, CentreID: "77", Phone: "+998** *****33", CodeLives: codeFor}
	approved := payment.Answer{Outcome: payment.Approved}
	b.ReportAllocs()
	for b.Loop() {
		now := t0
		c := payment.New(id, 5520, 12, terms, now)
		if err := c.Check(nil); err != nil {
			b.Fatal(err)
		}
		p := c.Payment
		begin := func(command payment.Command) {
			now = now.Add(time.Second)
			c, err := payment.Begin(p, command, now)
			if err != nil {
				b.Fatal(err)
			}
			if err := c.Check(&p); err != nil {
				b.Fatal(err)
			}
			p = c.Payment
		}
		settle := func(a payment.Answer) {
			now = now.Add(time.Second)
			a.Ref = p.Open.Ref
			c := payment.Settle(p, a, now)
			if err := c.Check(&p); err != nil {
				b.Fatal(err)
			}
			p = c.Payment
		}
		begin(payment.Pay{Attempt: card, VerifyID: verifyID})
		settle(code)
		begin(payment.SubmitCode{VerifyID: verifyID})
		settle(approved) // the code
		settle(approved) // the money
		if decide != nil {
			begin(decide)
			settle(approved)
		}
		if p.State != payment.Captured {
			b.Fatal(p.State)
		}
	}
}
