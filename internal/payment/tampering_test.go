package payment_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"holdfast/internal/ledger"
	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// One thing of a good Change is edited; whatever it is, Check refuses.
func TestCheckRefusesTampering(t *testing.T) {
	steps := goodSteps(t)
	for _, tt := range []struct {
		step, name string
		tamper     func(before *payment.Payment, c *payment.Change)
	}{
		{"captured", "refunded without an entry", func(_ *payment.Payment, c *payment.Change) { c.Payment.Refunded = c.Payment.Captured }},
		{"captured", "the money comes from another centre", func(_ *payment.Payment, c *payment.Change) { c.Entries[0].Lines[2].Account = ledger.Fees }},
		{"captured", "another shop's held account", func(_ *payment.Payment, c *payment.Change) { c.Entries[0].Lines[0].Account = ledger.ShopHeld(13) }},
		{"captured", "capture leaves payer/held for fees", func(_ *payment.Payment, c *payment.Change) { c.Entries[0].Lines[1].Account = ledger.Fees }},
		{"captured", "the fee is paid by another shop", func(_ *payment.Payment, c *payment.Change) { c.Entries[1].Lines[0].Account = ledger.Shop(13) }},
		{"held", "held for another shop", func(_ *payment.Payment, c *payment.Change) { c.Entries[0].Lines[1].Account = ledger.ShopHeld(13) }},
		{"voided", "released from another shop", func(_ *payment.Payment, c *payment.Change) { c.Entries[0].Lines[0].Account = ledger.ShopHeld(13) }},
		{"captured", "an entry of unknown kind, numbered", func(_ *payment.Payment, c *payment.Change) {
			c.Entries = append(c.Entries, ledger.Transfer("gift", c.Closed.Ref, ledger.Shop(13), ledger.Fees, uzs(1)))
			c.Payment.LastEntry++
		}},
		{"captured", "a refund entry, numbered", func(_ *payment.Payment, c *payment.Change) {
			c.Entries = append(c.Entries, ledger.Transfer(ledger.Refund, c.Closed.Ref, ledger.Shop(12), ledger.Processor("uzcard"), uzs(1)))
			c.Payment.LastEntry++
		}},
		{"verified", "an event although the status stays", func(_ *payment.Payment, c *payment.Change) {
			c.Payment.LastEvent++
			c.Events = append(c.Events, payment.Event{N: c.Payment.LastEvent, Status: payment.StatusSucceeded, Sums: c.Payment.Sums})
		}},
		{"captured", "told another status", func(_ *payment.Payment, c *payment.Change) { c.Events[0].Status = payment.StatusCanceled }},
		{"captured", "told other sums", func(_ *payment.Payment, c *payment.Change) { c.Events[0].Sums.Captured = uzs(1) }},
		{"still unsure", "the open question dropped", func(_ *payment.Payment, c *payment.Change) { c.Payment.Open = nil }},
		{"still unsure", "the open question replaced", func(_ *payment.Payment, c *payment.Change) { c.Payment.Open.Ref = "1_1" }},
		{"still unsure", "another sum asked", func(_ *payment.Payment, c *payment.Change) { c.Payment.Open.Amount = uzs(1) }},
		{"still unsure", "another kind asked", func(_ *payment.Payment, c *payment.Change) { c.Payment.Open.Kind = payment.OpVoid }},
		{"captured", "a question opened on a payment that is over", func(b *payment.Payment, c *payment.Change) {
			op := *b.Open
			c.Payment.LastOperation++
			op.N = c.Payment.LastOperation
			c.Payment.Open = &op
		}},
		{"captured", "captured again", func(b *payment.Payment, c *payment.Change) { askAgain(b, c) }},
		{"voided", "let go again", func(b *payment.Payment, c *payment.Change) { askAgain(b, c) }},
		{"code asked", "nobody to ask", func(_ *payment.Payment, c *payment.Change) { c.Payment.Attempt = nil }},
		{"held", "the lines of the hold twice", func(_ *payment.Payment, c *payment.Change) {
			c.Entries[0].Lines = slices.Repeat(c.Entries[0].Lines, 2)
		}},
		{"refunded", "the fee goes back to another shop", func(_ *payment.Payment, c *payment.Change) { feeBack(c, ledger.Shop(13)) }},
		{"refunded", "the fee goes back to itself", func(_ *payment.Payment, c *payment.Change) { feeBack(c, ledger.Fees) }},
		{"after a refusal", "all are forgotten", func(_ *payment.Payment, c *payment.Change) { c.Payment.Refunds = nil }},
		{"captured", "closed and still open", func(b *payment.Payment, c *payment.Change) { op := *b.Open; c.Payment.Open = &op }},
		{"captured", "a foreign operation closed", func(b *payment.Payment, c *payment.Change) {
			c.Closed.Ref, c.Closed.N = "9_9", 77
		}},
		{"captured", "operation numbers go back (reference reused)", func(_ *payment.Payment, c *payment.Change) { c.Payment.LastOperation = 0 }},
		{"decided", "two numbers used for one question", func(_ *payment.Payment, c *payment.Change) { c.Payment.LastOperation += 5; c.Payment.Open.N += 5 }},
		{"decided", "decided, nothing asked", func(_ *payment.Payment, c *payment.Change) { c.Payment.Open = nil; c.Payment.LastOperation-- }},
		{"decided", "another sum asked than decided", func(_ *payment.Payment, c *payment.Change) { c.Payment.Open.Amount = uzs(1) }},
		{"decided", "decided above the hold", func(_ *payment.Payment, c *payment.Change) { c.Payment.Decision.Amount = uzs(100_001) }},
		{"captured", "captured another sum than decided", func(b *payment.Payment, c *payment.Change) {
			b.Decision.Amount = uzs(1)
			c.Payment.Decision.Amount = uzs(1)
		}},
		{"captured", "captured although cancel was decided", func(b *payment.Payment, c *payment.Change) {
			b.Decision.Accept = payment.Cancel
			c.Payment.Decision.Accept = payment.Cancel
		}},
		{"verified", "the terms changed: sum", func(_ *payment.Payment, c *payment.Change) { c.Payment.Terms.Amount = uzs(1) }},
		{"captured", "the terms changed: auto_capture", func(_ *payment.Payment, c *payment.Change) { c.Payment.Terms.AutoCapture = true }},
		{"verified", "the terms changed: notify_url", func(_ *payment.Payment, c *payment.Change) { c.Payment.Terms.NotifyURL = "https://evil.example" }},
		{"captured", "created at another time (other references)", func(_ *payment.Payment, c *payment.Change) { c.Payment.CreatedAt = t0.Add(time.Hour) }},
		{"verified", "wrong codes forgotten", func(b *payment.Payment, c *payment.Change) { b.WrongCodes = 2 }},
		{"verified", "attempts forgotten", func(b *payment.Payment, c *payment.Change) { c.Payment.Attempts = -1 }},
		{"verified", "hold question without a deadline", func(b *payment.Payment, c *payment.Change) { c.Payment.HoldDeadline = time.Time{} }},
		{"verified", "more is asked for than the payment is of", func(_ *payment.Payment, c *payment.Change) { c.Payment.Open.Amount = uzs(100_001) }},
		{"held", "the answer says that nothing was held", func(_ *payment.Payment, c *payment.Change) { c.Closed.Outcome = payment.Refused }},
		{"verified", "a right code that moves money", func(_ *payment.Payment, c *payment.Change) {
			c.Entries = []ledger.Entry{ledger.Transfer(ledger.Hold, c.Closed.Ref, ledger.PayerHeld, ledger.ShopHeld(12), asked)}
			c.Payment.LastEntry++
			c.Payment.Held = asked
		}},
		{"held", "it was held, and that is forgotten", func(_ *payment.Payment, c *payment.Change) {
			c.Entries, c.Events, c.Payment.Held, c.Payment.State = nil, nil, uzs(0), payment.Created
			c.Payment.LastEntry, c.Payment.LastEvent = c.Payment.LastEntry-1, c.Payment.LastEvent-1
		}},
		{"decided", "decided in dollars", func(_ *payment.Payment, c *payment.Change) { c.Payment.Decision.Amount.Currency = money.USD }},
		{"captured", "another card has paid", func(_ *payment.Payment, c *payment.Change) { c.Payment.Attempt.Card = another }},
		{"decided", "on other terms", func(_ *payment.Payment, c *payment.Change) { c.Payment.Attempt.Fee.Rate++ }},
		{"still unsure", "nobody to ask", func(_ *payment.Payment, c *payment.Change) { c.Payment.Attempt = nil }},
		{"decided", "the hold lasts longer", func(_ *payment.Payment, c *payment.Change) { c.Payment.HoldDeadline = c.Payment.HoldDeadline.Add(1) }},
		{"refund asked", "more asked for than reserved", func(_ *payment.Payment, c *payment.Change) { c.Payment.Open.Amount = uzs(20_000) }},
		{"refund asked", "asked for and not reserved", func(_ *payment.Payment, c *payment.Change) { c.Payment.Refunds = nil }},
		{"refund asked", "reserved and not asked for", func(_ *payment.Payment, c *payment.Change) {
			c.Payment.Open = nil
			c.Payment.LastOperation--
		}},
		{"refund asked", "more than was captured", func(_ *payment.Payment, c *payment.Change) {
			c.Payment.Open.Amount, c.Payment.Refunds[0].Amount = uzs(60_001), uzs(60_001)
		}},
		{"second refund", "more than is left", func(_ *payment.Payment, c *payment.Change) {
			c.Payment.Open.Amount, c.Payment.Refunds[1].Amount = uzs(50_001), uzs(50_001)
		}},
		{"second refund", "the first takes another name", func(_ *payment.Payment, c *payment.Change) { c.Payment.Refunds[0].ShopID = "refund-3" }},
		{"second refund", "the first was refused after all", func(_ *payment.Payment, c *payment.Change) { c.Payment.Refunds[0].State = payment.RefundRefused }},
		{"second refund", "the first was of another sum", func(_ *payment.Payment, c *payment.Change) { c.Payment.Refunds[0].Amount = uzs(9_999) }},
		{"refunded", "still reserved", func(_ *payment.Payment, c *payment.Change) { c.Payment.Refunds[0].State = payment.RefundPending }},
		{"refunded", "the shop is told that it was refused", func(_ *payment.Payment, c *payment.Change) { c.Payment.Refunds[0].State = payment.RefundRefused }},
		{"refunded", "the shop is told another sum", func(_ *payment.Payment, c *payment.Change) { c.Payment.Refunds[0].Amount = uzs(10_001) }},
		{"verified", "the terms changed: test", func(_ *payment.Payment, c *payment.Change) { c.Payment.Terms.Test = true }},
		{"verified", "the terms changed: the shop's name of it", func(_ *payment.Payment, c *payment.Change) { c.Payment.Terms.ShopPaymentID = "order-2" }},
		{"verified", "the terms changed: ttl", func(_ *payment.Payment, c *payment.Change) { c.Payment.Terms.ExpiresAt = t0.Add(2 * ttl) }},
		{"captured", "the terms changed: sum", func(_ *payment.Payment, c *payment.Change) { c.Payment.Terms.Amount = uzs(1) }},
		{"verified", "that the payer was challenged is forgotten", func(_ *payment.Payment, c *payment.Change) { c.Payment.Tried = false }},
		{"refunded", "skipped references are given again", func(b *payment.Payment, _ *payment.Change) { b.Skipped = 1 }},
		{"refunded", "a restore is forgotten", func(b *payment.Payment, _ *payment.Change) { b.Restored = t0 }},
		{"second refund", "the first is forgotten", func(_ *payment.Payment, c *payment.Change) { c.Payment.Refunds = c.Payment.Refunds[1:] }},
		{"second refund", "the first has another id", func(_ *payment.Payment, c *payment.Change) { c.Payment.Refunds[0].ID = "r3" }},
		{"second refund", "the first was another operation", func(_ *payment.Payment, c *payment.Change) { c.Payment.Refunds[0].Operation++ }},
		{"second refund", "another operation is reserved than is asked for", func(_ *payment.Payment, c *payment.Change) { c.Payment.Refunds[1].Operation++ }},
		{"refund asked", "another card has paid", func(_ *payment.Payment, c *payment.Change) { c.Payment.Attempt.Card = another }},
		{"refund asked", "another centre has the money", func(_ *payment.Payment, c *payment.Change) { c.Payment.Attempt.Processor = "humo" }},
		{"refund asked", "it was paid by another method", func(_ *payment.Payment, c *payment.Change) { c.Payment.Attempt.Method = payment.Humo }},
		{"refund asked", "it was paid at the bank", func(_ *payment.Payment, c *payment.Change) { c.Payment.Attempt.ThreeDS = true }},
		{"verified", "another card than was challenged", func(_ *payment.Payment, c *payment.Change) { c.Payment.Attempt.Card = another }},
		{"refund asked", "the hold's end would be moved", func(_ *payment.Payment, c *payment.Change) { c.Payment.HoldDeadline = c.Payment.HoldDeadline.Add(1) }},
		{"still unsure", "the open question has another number", func(_ *payment.Payment, c *payment.Change) { c.Payment.Open.N++ }},
		{"still unsure", "the open question is only looked for", func(_ *payment.Payment, c *payment.Change) { c.Payment.Open.Look = true }},
		{"captured", "another kind was answered", func(_ *payment.Payment, c *payment.Change) { c.Closed.Kind = payment.OpCharge }},
		{"captured", "another sum was answered", func(_ *payment.Payment, c *payment.Change) { c.Closed.Amount = uzs(1) }},
		{"decided", "a question is answered that was not asked", func(_ *payment.Payment, c *payment.Change) { op := *c.Payment.Open; c.Closed = &op }},
		{"decided", "under a reference that is not its own", func(_ *payment.Payment, c *payment.Change) { c.Payment.Open.Ref += "1" }},
		{"decided", "it is never asked again", func(_ *payment.Payment, c *payment.Change) { c.Payment.Open.NextAt = time.Time{} }},
		{"decided", "captured although nobody decided", func(_ *payment.Payment, c *payment.Change) { c.Payment.Decision = nil }},
		{"decided", "let go although nobody decided", func(_ *payment.Payment, c *payment.Change) {
			c.Payment.Decision, c.Payment.Open.Kind = nil, payment.OpVoid
		}},
		{"decided", "let go although a capture was decided", func(_ *payment.Payment, c *payment.Change) { c.Payment.Open.Kind = payment.OpVoid }},
		{"decided", "nothing is to be captured", func(_ *payment.Payment, c *payment.Change) {
			c.Payment.Open.Amount, c.Payment.Decision.Amount = uzs(0), uzs(0)
		}},
		{"decided", "more is to be captured than is held", func(_ *payment.Payment, c *payment.Change) {
			c.Payment.Open.Amount, c.Payment.Decision.Amount = uzs(100_001), uzs(100_001)
		}},
		{"refund asked", "a refund of nothing", func(_ *payment.Payment, c *payment.Change) {
			c.Payment.Open.Amount, c.Payment.Refunds[0].Amount = uzs(0), uzs(0)
		}},
		{"refund asked", "a refund in dollars", func(_ *payment.Payment, c *payment.Change) {
			c.Payment.Open.Amount.Currency, c.Payment.Refunds[0].Amount.Currency = money.USD, money.USD
		}},
		{"captured", "the fee's lines turned round", func(_ *payment.Payment, c *payment.Change) { slices.Reverse(c.Entries[1].Lines) }},
		{"captured", "the lines of the capture turned round", func(_ *payment.Payment, c *payment.Change) { slices.Reverse(c.Entries[0].Lines) }},
		{"captured", "a line twice and none of the shop's", func(_ *payment.Payment, c *payment.Change) {
			copy(c.Entries[0].Lines[2:], c.Entries[0].Lines[:2])
		}},
		{"captured", "a fee goes back that was never taken", func(_ *payment.Payment, c *payment.Change) {
			c.Entries[1] = ledger.Transfer(ledger.Fee, c.Closed.Ref, ledger.Fees, ledger.Shop(12), c.Payment.Fee)
		}},
		{"refunded", "the fee goes back in the entries alone", func(_ *payment.Payment, c *payment.Change) {
			c.Entries = append(c.Entries, ledger.Transfer(ledger.Fee, c.Closed.Ref, ledger.Fees, ledger.Shop(12), uzs(1)))
			c.Payment.LastEntry++
		}},
		{"refunded", "the fee goes back in the sums alone", func(_ *payment.Payment, c *payment.Change) {
			c.Payment.Fee = c.Payment.Fee.Sub(uzs(1))
			c.Events[0].Sums = c.Payment.Sums
		}},
		{"after a refusal", "the first was of another sum", func(_ *payment.Payment, c *payment.Change) { c.Payment.Refunds[0].Amount = uzs(9_999) }},
		{"after a refusal", "the first is forgotten", func(_ *payment.Payment, c *payment.Change) { c.Payment.Refunds = c.Payment.Refunds[1:] }},
		{"hold unsure", "the open question dropped", func(_ *payment.Payment, c *payment.Change) { c.Payment.Open = nil }},
		{"hold unsure", "another card meanwhile", func(_ *payment.Payment, c *payment.Change) { c.Payment.Attempt.Card = another }},
		{"captured", "a fee in dollars", func(_ *payment.Payment, c *payment.Change) { c.Payment.Fee.Currency = money.USD }},
		{"captured", "all entries in dollars", func(_ *payment.Payment, c *payment.Change) {
			for i := range c.Entries {
				for j := range c.Entries[i].Lines {
					c.Entries[i].Lines[j].Amount.Currency = money.USD
				}
			}
		}},
	} {
		s := steps[tt.step].copied()
		tt.tamper(&s.before, &s.change)
		switch s.refused() {
		case "":
			t.Errorf("PASSES %s: %s", tt.step, tt.name)
		case "panic":
			t.Errorf("PANICS %s: %s", tt.step, tt.name)
		}
	}
}

// askAgain opens the question that was answered once more, under a reference of its own.
func askAgain(b *payment.Payment, c *payment.Change) {
	op := *b.Open
	c.Payment.LastOperation++
	op.N = c.Payment.LastOperation
	op.Ref = fmt.Sprintf("%s_%d", b.Reference(), op.N)
	c.Payment.Open = &op
}

// feeBack gives one minor unit of the fee back, in the entries and in the sums.
func feeBack(c *payment.Change, to ledger.Account) {
	c.Entries = append(c.Entries, ledger.Transfer(ledger.Fee, c.Closed.Ref, ledger.Fees, to, uzs(1)))
	c.Payment.LastEntry++
	c.Payment.Fee = c.Payment.Fee.Sub(uzs(1))
	c.Events[0].Sums = c.Payment.Sums
}
