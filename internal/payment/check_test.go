package payment_test

import (
	"slices"
	"testing"
	"time"

	"holdfast/internal/ledger"
	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// step is a good Change with the payment it was decided on.
type step struct {
	before payment.Payment
	change payment.Change
}

// copied gives a step that may be tampered with.
func (s step) copied() step {
	s.before, s.change.Payment = clone(s.before), clone(s.change.Payment)
	if closed := s.change.Closed; closed != nil {
		op := *closed
		s.change.Closed = &op
	}
	s.change.Events = slices.Clone(s.change.Events)
	s.change.Entries = slices.Clone(s.change.Entries)
	for i := range s.change.Entries {
		s.change.Entries[i].Lines = slices.Clone(s.change.Entries[i].Lines)
	}
	return s
}

// goodSteps are the changes that the tamperings start from.
func goodSteps(t testing.TB) map[string]step {
	settled := func(w *walk) step {
		now := w.now.Add(time.Second)
		return step{w.p, payment.Settle(w.p, payment.Answer{Ref: w.p.Open.Ref, Outcome: payment.Approved}, now)}
	}
	begun := func(w *walk, c payment.Command) step {
		change, err := payment.Begin(w.p, c, w.now)
		if err != nil {
			t.Fatal(err)
		}
		return step{w.p, change}
	}
	lapsed := start(t, terms()).later(ttl)
	return map[string]step{
		"code asked":   begun(start(t, terms()), payment.Pay{Attempt: attempt(uzcard), VerifyID: 77}),
		"verified":     settled(open["verify"](t)),
		"held":         settled(open["hold"](t)),
		"decided":      begun(start(t, terms()).paid(), payment.Decide{Accept: payment.Capture, Amount: uzs(60_000), By: payment.ByMerchant}),
		"captured":     settled(open["capture"](t)),
		"part":         settled(open["capture part"](t)),
		"charged":      settled(open["charge"](t)),
		"voided":       settled(open["void"](t)),
		"expired":      begun(lapsed, payment.Lapse{}),
		"asked again":  begun(open["capture"](t).later(time.Second), payment.Resume{Orphan: true}),
		"refund asked": begun(start(t, terms()).paid().capture(60_000).done(), payment.Reimburse{ID: "r1", ShopID: "refund-1", Amount: uzs(10_000)}),
		"refunded":     settled(start(t, terms()).paid().capture(60_000).done().begin(payment.Reimburse{ID: "r1", ShopID: "refund-1", Amount: uzs(10_000)})),
		"second refund": begun(start(t, terms()).paid().capture(60_000).done().
			begin(payment.Reimburse{ID: "r1", ShopID: "refund-1", Amount: uzs(10_000)}).done(),
			payment.Reimburse{ID: "r2", ShopID: "refund-2", Amount: uzs(50_000)}),
		"after a refusal": begun(start(t, terms()).paid().capture(60_000).done().
			begin(payment.Reimburse{ID: "r1", ShopID: "refund-1", Amount: uzs(10_000)}).refusedFor(payment.Unsupported),
			payment.Reimburse{ID: "r2", ShopID: "refund-2", Amount: uzs(50_000)}),
		"hold unsure":  {before: open["hold"](t).p, change: open["hold"](t).unknown().lastSeen},
		"still unsure": {before: open["capture"](t).p, change: open["capture"](t).unknown().lastSeen},
	}
}

func TestCheckRefusesEveryTampering(t *testing.T) {
	steps := goodSteps(t)
	for name, s := range steps {
		if err := s.change.Check(&s.before); err != nil {
			t.Fatalf("%s: the good change is refused: %v", name, err)
		}
	}
	one := uzs(1)
	for _, tt := range []struct {
		step, name string
		tamper     func(before *payment.Payment, c *payment.Change)
	}{
		// Another payment.
		{"captured", "another id", func(_ *payment.Payment, c *payment.Change) { c.Payment.ID[15]++ }},
		{"captured", "another number", func(_ *payment.Payment, c *payment.Change) { c.Payment.Number++ }},
		{"captured", "another version", func(_ *payment.Payment, c *payment.Change) { c.Payment.Version++ }},
		{"verified", "another shop", func(_ *payment.Payment, c *payment.Change) { c.Payment.Shop++ }},
		{"captured", "another shop", func(_ *payment.Payment, c *payment.Change) { c.Payment.Shop++ }},

		// Sums without entries, and entries without sums.
		{"captured", "more held", func(_ *payment.Payment, c *payment.Change) { c.Payment.Held = c.Payment.Held.Add(one) }},
		{"captured", "less held", func(_ *payment.Payment, c *payment.Change) { c.Payment.Held = c.Payment.Held.Sub(one) }},
		{"captured", "less captured", func(_ *payment.Payment, c *payment.Change) { c.Payment.Captured = c.Payment.Captured.Sub(one) }},
		{"captured", "less captured, more released", func(_ *payment.Payment, c *payment.Change) {
			c.Payment.Captured, c.Payment.Released = c.Payment.Captured.Sub(one), c.Payment.Released.Add(one)
		}},
		{"part", "more captured, less released", func(_ *payment.Payment, c *payment.Change) {
			c.Payment.Captured, c.Payment.Released = c.Payment.Captured.Add(one), c.Payment.Released.Sub(one)
		}},
		{"captured", "captured twice", func(_ *payment.Payment, c *payment.Change) {
			c.Payment.Captured = c.Payment.Captured.Add(c.Payment.Captured)
		}},
		{"captured", "a larger fee", func(_ *payment.Payment, c *payment.Change) { c.Payment.Fee = c.Payment.Fee.Add(one) }},
		{"captured", "no fee", func(_ *payment.Payment, c *payment.Change) { c.Payment.Fee = uzs(0) }},
		{"captured", "a fee above the sum", func(_ *payment.Payment, c *payment.Change) {
			c.Payment.Fee = c.Payment.Captured.Add(one)
		}},
		{"captured", "a negative fee", func(_ *payment.Payment, c *payment.Change) { c.Payment.Fee = uzs(-1) }},
		{"captured", "refunded above what was captured", func(_ *payment.Payment, c *payment.Change) { c.Payment.Refunded = c.Payment.Captured.Add(one) }},
		{"captured", "a negative refund", func(_ *payment.Payment, c *payment.Change) { c.Payment.Refunded = uzs(-1) }},
		{"voided", "nothing released", func(_ *payment.Payment, c *payment.Change) { c.Payment.Released = uzs(0) }},
		{"voided", "released twice", func(_ *payment.Payment, c *payment.Change) {
			c.Payment.Released = c.Payment.Released.Add(c.Payment.Released)
		}},
		{"voided", "captured instead", func(_ *payment.Payment, c *payment.Change) {
			c.Payment.Captured, c.Payment.Released = c.Payment.Released, uzs(0)
		}},
		{"held", "less held than was asked for", func(_ *payment.Payment, c *payment.Change) {
			c.Payment.Held = c.Payment.Held.Sub(one)
			c.Entries[0].Lines[0].Amount.Minor--
			c.Entries[0].Lines[1].Amount.Minor++
		}},
		{"held", "more held than was asked for", func(_ *payment.Payment, c *payment.Change) {
			c.Payment.Held = c.Payment.Held.Add(one)
			c.Entries[0].Lines[0].Amount.Minor++
			c.Entries[0].Lines[1].Amount.Minor--
		}},
		{"verified", "money held before the centre said so", func(_ *payment.Payment, c *payment.Change) { c.Payment.Held = asked }},
		{"still unsure", "captured although unsure", func(_ *payment.Payment, c *payment.Change) { c.Payment.Captured = asked }},

		// Entries.
		{"captured", "the capture left out", func(_ *payment.Payment, c *payment.Change) { c.Entries = c.Entries[1:] }},
		{"captured", "the capture left out, numbered so", func(_ *payment.Payment, c *payment.Change) {
			c.Entries = c.Entries[1:]
			c.Payment.LastEntry--
		}},
		{"captured", "the fee left out, numbered so", func(_ *payment.Payment, c *payment.Change) {
			c.Entries = c.Entries[:1]
			c.Payment.LastEntry--
		}},
		{"captured", "the capture twice, numbered so", func(_ *payment.Payment, c *payment.Change) {
			c.Entries = append(c.Entries, c.Entries[0])
			c.Payment.LastEntry++
		}},
		{"part", "the release left out, numbered so", func(_ *payment.Payment, c *payment.Change) {
			c.Entries = c.Entries[:2]
			c.Payment.LastEntry--
		}},
		{"held", "the hold left out, numbered so", func(_ *payment.Payment, c *payment.Change) {
			c.Entries = nil
			c.Payment.LastEntry--
		}},
		{"held", "the hold twice, numbered so", func(_ *payment.Payment, c *payment.Change) {
			c.Entries = append(c.Entries, c.Entries[0])
			c.Payment.LastEntry++
		}},
		{"captured", "one line changed", func(_ *payment.Payment, c *payment.Change) { c.Entries[0].Lines[3].Amount.Minor++ }},
		{"captured", "two lines changed, still balanced", func(_ *payment.Payment, c *payment.Change) {
			c.Entries[0].Lines[2].Amount.Minor--
			c.Entries[0].Lines[3].Amount.Minor++
		}},
		{"captured", "another shop is owed", func(_ *payment.Payment, c *payment.Change) { c.Entries[0].Lines[3].Account = ledger.Shop(13) }},
		{"captured", "the fee goes elsewhere", func(_ *payment.Payment, c *payment.Change) { c.Entries[1].Lines[1].Account = ledger.Shop(13) }},
		{"captured", "the signs turned round", func(_ *payment.Payment, c *payment.Change) {
			for i, l := range c.Entries[0].Lines {
				c.Entries[0].Lines[i].Amount = l.Amount.Neg()
			}
		}},
		{"captured", "called a refund", func(_ *payment.Payment, c *payment.Change) { c.Entries[0].Kind = ledger.Refund }},
		{"captured", "the fee called a capture", func(_ *payment.Payment, c *payment.Change) { c.Entries[1].Kind = ledger.Capture }},
		{"held", "called a release", func(_ *payment.Payment, c *payment.Change) { c.Entries[0].Kind = ledger.Release }},
		{"captured", "of another operation", func(_ *payment.Payment, c *payment.Change) { c.Entries[0].Operation = "1772425020000_5520" }},
		{"captured", "of no operation", func(_ *payment.Payment, c *payment.Change) { c.Entries[0].Operation = "" }},
		{"captured", "of an operation that is not answered", func(_ *payment.Payment, c *payment.Change) { c.Closed = nil }},
		{"captured", "a line of nothing", func(_ *payment.Payment, c *payment.Change) {
			c.Entries[0].Lines = append(c.Entries[0].Lines, ledger.Line{Account: ledger.Fees, Amount: uzs(0)})
		}},
		{"captured", "a line in dollars", func(_ *payment.Payment, c *payment.Change) { c.Entries[0].Lines[3].Amount.Currency = money.USD }},
		{"captured", "an entry more, not numbered", func(_ *payment.Payment, c *payment.Change) {
			c.Entries = append(c.Entries, ledger.Transfer(ledger.Refund, c.Closed.Ref, "a", "b", one))
		}},
		{"captured", "entries numbered with a gap", func(_ *payment.Payment, c *payment.Change) { c.Payment.LastEntry++ }},
		{"captured", "entries numbered again", func(_ *payment.Payment, c *payment.Change) { c.Payment.LastEntry-- }},

		// Moves.
		{"captured", "back to created", func(_ *payment.Payment, c *payment.Change) { c.Payment.State = payment.Created }},
		{"captured", "back to challenged", func(_ *payment.Payment, c *payment.Change) { c.Payment.State = payment.Challenged }},
		{"captured", "still held", func(_ *payment.Payment, c *payment.Change) { c.Payment.State = payment.Held }},
		{"captured", "voided instead", func(_ *payment.Payment, c *payment.Change) { c.Payment.State = payment.Voided }},
		{"captured", "declined instead", func(_ *payment.Payment, c *payment.Change) { c.Payment.State = payment.Declined }},
		{"captured", "no state", func(_ *payment.Payment, c *payment.Change) { c.Payment.State = 0 }},
		{"voided", "captured instead of voided", func(_ *payment.Payment, c *payment.Change) { c.Payment.State = payment.Captured }},
		{"voided", "expired instead of voided", func(_ *payment.Payment, c *payment.Change) { c.Payment.State = payment.Expired }},
		{"voided", "declined instead of voided", func(_ *payment.Payment, c *payment.Change) { c.Payment.State = payment.Declined }},
		{"verified", "it was held before", func(before *payment.Payment, _ *payment.Change) { before.State = payment.Held }},
		{"voided", "back to created", func(_ *payment.Payment, c *payment.Change) { c.Payment.State = payment.Created }},
		{"voided", "back to challenged", func(_ *payment.Payment, c *payment.Change) { c.Payment.State = payment.Challenged }},
		{"voided", "an unknown state", func(_ *payment.Payment, c *payment.Change) { c.Payment.State = payment.Expired + 1 }},
		{"expired", "captured for nothing", func(_ *payment.Payment, c *payment.Change) { c.Payment.State = payment.Captured }},
		{"expired", "held for nothing", func(_ *payment.Payment, c *payment.Change) { c.Payment.State = payment.Held }},
		{"expired", "it was over before", func(before *payment.Payment, _ *payment.Change) { before.State = payment.Declined }},
		{"captured", "it was over before", func(before *payment.Payment, _ *payment.Change) { before.State = payment.Voided }},

		// Decisions.
		{"captured", "the decision forgotten", func(_ *payment.Payment, c *payment.Change) { c.Payment.Decision = nil }},
		{"captured", "another decision", func(_ *payment.Payment, c *payment.Change) { c.Payment.Decision.Accept = payment.Cancel }},
		{"captured", "another sum decided", func(_ *payment.Payment, c *payment.Change) { c.Payment.Decision.Amount = one }},
		{"captured", "somebody else decided", func(_ *payment.Payment, c *payment.Change) { c.Payment.Decision.By = payment.ByDeadline }},
		{"captured", "decided at another time", func(_ *payment.Payment, c *payment.Change) { c.Payment.Decision.At = t0 }},

		// Events.
		{"captured", "nobody is told", func(_ *payment.Payment, c *payment.Change) { c.Events = nil }},
		{"captured", "nobody is told, numbered so", func(_ *payment.Payment, c *payment.Change) {
			c.Events = nil
			c.Payment.LastEvent--
		}},
		{"captured", "told twice, numbered so", func(_ *payment.Payment, c *payment.Change) {
			again := c.Events[0]
			again.N++
			c.Events = append(c.Events, again)
			c.Payment.LastEvent++
		}},
		{"captured", "told with the number before", func(_ *payment.Payment, c *payment.Change) { c.Events[0].N-- }},
		{"captured", "told with a gap", func(_ *payment.Payment, c *payment.Change) {
			c.Events[0].N++
			c.Payment.LastEvent++
		}},
		{"captured", "events numbered with a gap", func(_ *payment.Payment, c *payment.Change) { c.Payment.LastEvent++ }},

		// Questions.
		{"decided", "the question has the number before", func(_ *payment.Payment, c *payment.Change) { c.Payment.Open.N-- }},
		{"decided", "the question has a number after a gap", func(_ *payment.Payment, c *payment.Change) { c.Payment.Open.N++ }},
		{"decided", "operations numbered with a gap", func(_ *payment.Payment, c *payment.Change) { c.Payment.LastOperation++ }},
	} {
		good, ok := steps[tt.step]
		if !ok {
			t.Fatalf("no step %q", tt.step)
		}
		s := good.copied()
		tt.tamper(&s.before, &s.change)
		switch s.refused() {
		case "":
			t.Errorf("%s: %s, and the store would write it", tt.step, tt.name)
		case "panic": // would take the other payments of a shared commit along
			t.Errorf("%s: %s, and Check panics", tt.step, tt.name)
		}
	}
}

// refused says how a change is refused; empty: it is not.
func (s step) refused() (why string) {
	defer func() {
		if r := recover(); r != nil {
			why = "panic"
		}
	}()
	if err := s.change.Check(&s.before); err != nil {
		why = err.Error()
	}
	return why
}

func TestCheckOfANewPayment(t *testing.T) {
	good := payment.New(payment.NewID(t0, [10]byte{}), 5520, 12, terms(), t0)
	if err := good.Check(nil); err != nil {
		t.Fatalf("a new payment is refused: %v", err)
	}
	for name, tamper := range map[string]func(c *payment.Change){
		"held": func(c *payment.Change) { c.Payment.State, c.Payment.Held = payment.Held, asked },
		"captured": func(c *payment.Change) {
			c.Payment.State, c.Payment.Held, c.Payment.Captured = payment.Captured, asked, asked
		},
		"with money":          func(c *payment.Change) { c.Payment.Held = uzs(1) },
		"with a released sum": func(c *payment.Change) { c.Payment.Held, c.Payment.Released = uzs(1), uzs(1) },
		"with entry 1 done":   func(c *payment.Change) { c.Payment.LastEntry = 1 },
		"with event 1 told":   func(c *payment.Change) { c.Payment.LastEvent = 1 },
		"with an entry": func(c *payment.Change) {
			c.Entries = []ledger.Entry{ledger.Transfer(ledger.Hold, "1_1", ledger.PayerHeld, ledger.ShopHeld(12), asked)}
			c.Payment.LastEntry = 1
		},
	} {
		c := good
		tamper(&c)
		if c.Check(nil) == nil {
			t.Errorf("a new payment %s, and the store would write it", name)
		}
	}
}

func TestCheckSums(t *testing.T) {
	sums := func(held, captured, released, refunded, fee int64) payment.Sums {
		return payment.Sums{Held: uzs(held), Captured: uzs(captured), Released: uzs(released), Refunded: uzs(refunded), Fee: uzs(fee)}
	}
	const all = 100_000
	for _, tt := range []struct {
		name  string
		state payment.State
		sums  payment.Sums
		good  bool
	}{
		{"created", payment.Created, sums(0, 0, 0, 0, 0), true},
		{"challenged", payment.Challenged, sums(0, 0, 0, 0, 0), true},
		{"held", payment.Held, sums(all, 0, 0, 0, 0), true},
		{"captured", payment.Captured, sums(all, all, 0, 0, 2_000), true},
		{"captured in part", payment.Captured, sums(all, 60_000, 40_000, 0, 1_200), true},
		{"captured, refunded in part", payment.Captured, sums(all, all, 0, 1, 2_000), true},
		{"captured, refunded all", payment.Captured, sums(all, all, 0, all, 2_000), true},
		{"captured, all for the fee", payment.Captured, sums(all, 1, all-1, 0, 1), true},
		{"voided", payment.Voided, sums(all, 0, all, 0, 0), true},
		{"voided unpaid", payment.Voided, sums(0, 0, 0, 0, 0), true},
		{"declined", payment.Declined, sums(0, 0, 0, 0, 0), true},
		{"expired", payment.Expired, sums(0, 0, 0, 0, 0), true},

		{"created with money", payment.Created, sums(1, 0, 0, 0, 0), false},
		{"challenged with money", payment.Challenged, sums(all, 0, 0, 0, 0), false},
		{"declined with money", payment.Declined, sums(all, 0, 0, 0, 0), false},
		{"expired with money", payment.Expired, sums(all, 0, 0, 0, 0), false},
		{"expired with captured money", payment.Expired, sums(all, all, 0, 0, 0), false},
		{"held, nothing", payment.Held, sums(0, 0, 0, 0, 0), false},
		{"held, less", payment.Held, sums(all-1, 0, 0, 0, 0), false},
		{"held, more", payment.Held, sums(all+1, 0, 0, 0, 0), false},
		{"held, part released", payment.Held, sums(all, 0, 1, 0, 0), false},
		{"held, part captured", payment.Held, sums(all, 1, 0, 0, 0), false},
		{"captured, nothing", payment.Captured, sums(all, 0, all, 0, 0), false},
		{"captured, some still held", payment.Captured, sums(all, all-1, 0, 0, 0), false},
		{"captured above the hold", payment.Captured, sums(all, all+1, 0, 0, 0), false},
		{"captured and released the same", payment.Captured, sums(all, all, all, 0, 0), false},
		{"refunded above what was captured", payment.Captured, sums(all, 60_000, 40_000, 60_001, 0), false},
		{"refunded, never captured", payment.Voided, sums(all, 0, all, 1, 0), false},
		{"a fee above what was captured", payment.Captured, sums(all, 1, all-1, 0, 2), false},
		{"a fee, never captured", payment.Voided, sums(all, 0, all, 0, 1), false},
		{"voided, some still held", payment.Voided, sums(all, 0, all-1, 0, 0), false},
		{"voided, some captured", payment.Voided, sums(all, 1, all-1, 0, 0), false},
		{"released above the hold", payment.Voided, sums(all, 0, all+1, 0, 0), false},
		{"a negative hold", payment.Voided, sums(-1, 0, -1, 0, 0), false},
		{"a negative capture", payment.Captured, sums(all, -1, all+1, 0, -1), false},
		{"a negative release", payment.Captured, sums(all, all+1, -1, 0, 0), false},
		{"a negative refund", payment.Captured, sums(all, all, 0, -1, 0), false},
		{"a negative fee", payment.Captured, sums(all, all, 0, 0, -1), false},
		{"in dollars", payment.Voided, payment.Sums{
			Held: uzs(0), Captured: uzs(0), Released: uzs(0), Refunded: uzs(0), Fee: money.New(0, money.USD),
		}, false},
	} {
		p := payment.Payment{Terms: terms(), State: tt.state, Sums: tt.sums}
		if tt.sums.Refunded.Minor != 0 {
			p.Refunds = []payment.Refund{{Amount: tt.sums.Refunded, State: payment.RefundDone}}
		}
		if err := p.CheckSums(); (err == nil) != tt.good {
			t.Errorf("%s: %v, want good %v", tt.name, err, tt.good)
		}
	}
}
