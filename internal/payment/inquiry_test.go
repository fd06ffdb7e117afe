package payment_test

import (
	"testing"
	"time"

	"holdfast/internal/payment"
)

// inDoubt are the operations whose answer is never guessed.
var inDoubt = []string{"hold", "charge", "capture", "capture part", "void"}

// An operation in doubt is asked about 5 s, 30 s, 2 min, 10 min and 1 h after it was begun, then
// daily, and after two weeks it waits for a person (docs/payment-cycle.md, races).
func TestInquirySchedule(t *testing.T) {
	for _, name := range inDoubt {
		w := open[name](t)
		op := *w.p.Open
		w.unknown() // the answer was lost at once
		for i, after := range []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour} {
			due := op.BegunAt.Add(after)
			if w.p.Due() != due {
				t.Fatalf("%s: inquiry %d at %v after it was begun, want %v", name, i+1, w.p.Due().Sub(op.BegunAt), after)
			}
			w.at(due.Add(-microsecond)).begin(payment.Resume{})
			if !w.lastSeen.Empty() {
				t.Fatalf("%s: asked before its time", name)
			}
			w.at(due).begin(payment.Resume{})
			if o := w.p.Open; o.Ask != payment.Query || o.Ref != op.Ref || o.Asks != i+2 || o.SentAt != op.SentAt || o.AskedAt != due {
				t.Fatalf("%s: inquiry %d is %+v", name, i+1, o)
			}
			w.unknown()
		}
		days := 0
		for ; !w.p.Due().IsZero(); days++ {
			if days > 20 {
				t.Fatalf("%s: no person is ever asked", name)
			}
			if wait := w.p.Due().Sub(w.now); wait != 24*time.Hour {
				t.Fatalf("%s: on day %d the next inquiry is %v later", name, days, wait)
			}
			w.at(w.p.Due()).begin(payment.Resume{}).unknown()
		}
		if days != 14 {
			t.Errorf("%s: asked on %d days, want 14", name, days)
		}
		// A person must look: time alone asks no more, and the payment is as it was.
		if w.later(365 * 24 * time.Hour).begin(payment.Resume{}); !w.lastSeen.Empty() {
			t.Errorf("%s: asked although a person must look", name)
		}
		w.refused(payment.Lapse{}, payment.InDoubt)
		// When the person asks, the centre's word still counts.
		w.begin(payment.Resume{Orphan: true}).approved()
		if w.p.Open != nil || !w.p.State.Terminal() && w.p.State != payment.Held {
			t.Errorf("%s: answered at last, it is %s, open %+v", name, w.p.State, w.p.Open)
		}
	}
}

// An answer that takes its time leaves out the inquiries it has overtaken: each time is counted from
// when the operation was begun, and is ahead.
func TestInquiryIsAlwaysAhead(t *testing.T) {
	for _, name := range inDoubt {
		for _, tt := range []struct{ answered, next time.Duration }{
			{0, 5 * time.Second},
			{5*time.Second - microsecond, 5 * time.Second},
			{5 * time.Second, 30 * time.Second},
			{10 * time.Second, 30 * time.Second},
			{30 * time.Second, 2 * time.Minute},
			{2 * time.Minute, 10 * time.Minute},
			{10 * time.Minute, time.Hour},
			{time.Hour - microsecond, time.Hour},
			{time.Hour, 25 * time.Hour},
		} {
			w := open[name](t)
			op := *w.p.Open
			w.later(tt.answered).unknown()
			if next := w.p.Due().Sub(op.BegunAt); next != tt.next {
				t.Errorf("%s: unknown after %v, next inquiry after %v, want %v", name, tt.answered, next, tt.next)
			}
		}
	}
}

// The process dies: what was asked is asked about at once by whoever comes after, and never asked to
// be done again unseen. A code is not asked about: it is gone with the request, and nothing is at stake.
func TestOrphans(t *testing.T) {
	for _, name := range inDoubt {
		w := open[name](t)
		op := *w.p.Open
		w.later(time.Second).begin(payment.Resume{Orphan: true})
		if o := w.p.Open; o == nil || o.Ask != payment.Query || o.Ref != op.Ref || o.Kind != op.Kind || o.Amount != op.Amount {
			t.Errorf("%s: after a crash the centre is asked %+v", name, o)
		}
		if wait := w.p.Due().Sub(w.now); wait < answers {
			t.Errorf("%s: asked again after %v, while the call may be under way", name, wait)
		}
	}
	for _, name := range []string{"challenge", "challenge again", "verify"} {
		w := open[name](t)
		before := w.p
		w.later(time.Second).begin(payment.Resume{Orphan: true})
		if w.p.Open != nil || w.p.State != before.State || w.closed[len(w.closed)-1].Outcome != payment.Unknown {
			t.Errorf("%s: after a crash it is %s, open %+v", name, w.p.State, w.p.Open)
		}
		if w.p.LastRefusal != payment.Unavailable {
			t.Errorf("%s: the payer is told %q", name, w.p.LastRefusal)
		}
	}
}

// "Not found" early is no proof (docs/payment-cycle.md): the hold stays in doubt, a capture is not sent
// again, to the microsecond before the centre must show what it did.
func TestNotFoundEarlyIsNoProof(t *testing.T) {
	for _, name := range inDoubt {
		w := open[name](t)
		op := *w.p.Open
		for _, after := range []time.Duration{microsecond, time.Second, 29 * time.Second, shows - microsecond} {
			w.at(op.SentAt.Add(after)).settle(payment.Answer{Outcome: payment.NeverSeen})
			if w.p.Open == nil || w.p.Open.Ref != op.Ref || w.p.Open.NextAt.IsZero() || !w.p.Open.NextAt.After(w.now) {
				t.Fatalf("%s: not found after %v: open %+v", name, after, w.p.Open)
			}
			if w.p.Open.Ask != payment.Send || w.p.Open.SentAt != op.SentAt {
				t.Fatalf("%s: not found after %v: sent again", name, after)
			}
		}
		// Asked about while it still proves nothing, it is asked about, not sent.
		w.at(op.SentAt.Add(30 * time.Second)).begin(payment.Resume{Orphan: true})
		if w.p.Open.Ask != payment.Query {
			t.Errorf("%s: early not found leads to %s", name, w.p.Open.Ask)
		}
		// Proven, and then found, is found: the centre's word counts until the question is closed.
		if w.approved(); w.p.Open != nil {
			t.Errorf("%s: found at last, open %+v", name, w.p.Open)
		}
	}
}

// "Not found" is no proof either once the centre may have forgotten: nothing is given up or sent again on it.
func TestForgottenIsNoProof(t *testing.T) {
	const remembers = 24 * time.Hour
	for _, name := range inDoubt {
		for _, late := range []time.Duration{0, microsecond} {
			w := open[name](t)
			w.p.Attempt.Limits.RememberedMillis = remembers.Milliseconds()
			op := *w.p.Open
			w.unknown().at(op.SentAt.Add(remembers + late)).begin(payment.Resume{Orphan: true}).settle(payment.Answer{Outcome: payment.NeverSeen})
			if w.p.Open != nil {
				w.later(time.Hour).begin(payment.Resume{Orphan: true})
			}
			doubted := w.p.Open != nil && w.p.Open.Ask == payment.Query && w.p.Open.SentAt == op.SentAt
			if doubted != (late > 0) {
				t.Errorf("%s: not found %v after the centre may have forgotten it: open %+v", name, late, w.p.Open)
			}
		}
	}
}

// What needs the payer is never sent again, whatever the centre says of it and however late: not
// found, it is asked about until that is proof.
func TestHoldIsNeverSentAgain(t *testing.T) {
	for _, name := range []string{"hold", "charge"} {
		w := open[name](t)
		op := *w.p.Open
		w.later(time.Second).settle(payment.Answer{Outcome: payment.NeverSeen})
		w.at(op.SentAt.Add(24 * time.Hour)).begin(payment.Resume{})
		if w.p.Open.Ask != payment.Query || w.p.Open.SentAt != op.SentAt {
			t.Errorf("%s: a day after an early not found it is asked %s", name, w.p.Open.Ask)
		}
		w.unknown().at(w.p.Due()).begin(payment.Resume{})
		if w.p.Open.Ask != payment.Query {
			t.Errorf("%s: another day later it is asked %s", name, w.p.Open.Ask)
		}
	}
}

// Proven never seen: what needs the payer is over, what is stored is sent again with the same reference.
func TestProvenNeverSeen(t *testing.T) {
	for _, name := range []string{"hold", "charge"} {
		w := open[name](t)
		w.later(5 * time.Second).unknown().later(shows).begin(payment.Resume{}).settle(payment.Answer{Outcome: payment.NeverSeen})
		if w.p.State != payment.Created || w.p.Open != nil || w.p.LastRefusal != payment.Unavailable {
			t.Errorf("%s: %s, open %+v, because %s", name, w.p.State, w.p.Open, w.p.LastRefusal)
		}
	}
	for _, name := range []string{"capture", "capture part", "void"} {
		w := open[name](t)
		op := *w.p.Open
		w.later(5 * time.Second).unknown().later(shows).begin(payment.Resume{}).settle(payment.Answer{Outcome: payment.NeverSeen})
		if w.p.Due() != w.now {
			t.Errorf("%s: proven undone at its first inquiry, tried again %v later", name, w.p.Due().Sub(w.now))
		}
		w.begin(payment.Resume{})
		if o := w.p.Open; o.Ask != payment.Send || o.Ref != op.Ref || o.N != op.N || o.Amount != op.Amount || o.SentAt != w.now {
			t.Errorf("%s: sent again as %+v", name, o)
		}
		// "Not found" again is counted from the second sending.
		w.later(shows - microsecond).settle(payment.Answer{Outcome: payment.NeverSeen}).begin(payment.Resume{Orphan: true})
		if w.p.Open.Ask != payment.Query {
			t.Errorf("%s: sent a third time before the second can have shown", name)
		}
		if w.approved(); w.p.Open != nil || !w.p.State.Terminal() {
			t.Errorf("%s: %s, open %+v", name, w.p.State, w.p.Open)
		}
	}
}

// A refused capture or void stays decided: it is tried again until it works, and no other decision gets in.
func TestRefusedDecisionIsTriedAgain(t *testing.T) {
	for _, name := range []string{"capture", "capture part", "void"} {
		w := open[name](t)
		op, decision := *w.p.Open, *w.p.Decision
		for range 5 {
			w.refusedFor(payment.Unavailable)
			w.at(w.p.Due()).begin(payment.Resume{})
			if o := w.p.Open; o.Ask != payment.Send || o.Ref != op.Ref || o.SentAt != w.now {
				t.Fatalf("%s: refused, then %+v", name, o)
			}
		}
		if w.approved(); *w.p.Decision != decision || !w.p.State.Terminal() {
			t.Errorf("%s: %s by %+v", name, w.p.State, w.p.Decision)
		}
	}
}

// "Not found" is believed by when it was said. A later inquiry that was never answered, because the process died, does not
// make proof of an early one.
func TestNotFoundDoesNotAgeIntoProof(t *testing.T) {
	for _, name := range []string{"capture", "capture part", "void"} {
		w := open[name](t)
		op := *w.p.Open
		w.later(answers).unknown()
		w.at(op.SentAt.Add(shows / 2)).begin(payment.Resume{}).settle(payment.Answer{Outcome: payment.NeverSeen})
		w.at(op.SentAt.Add(2 * shows)).begin(payment.Resume{})
		w.later(time.Second).begin(payment.Resume{Orphan: true})
		if w.p.Open.Ask != payment.Query {
			t.Errorf("%s: %s, and \"not found\" was said %v after it was sent only", name, w.p.Open.Ask, shows/2)
		}
	}
}
