package payment_test

import (
	"testing"
	"time"

	"holdfast/internal/payment"
)

// atBank is a payer whose browser his bank has looked at, and who now has to prove himself there (3-D Secure).
func atBank(t *testing.T, ttl, hold time.Duration) *walk {
	t.Helper()
	terms := terms()
	terms.ExpiresAt = t0.Add(ttl)
	w := start(t, terms)
	a := attempt(uzcard)
	a.ThreeDS, a.HoldFor = true, int64(hold/time.Second)
	w.begin(payment.Pay{Attempt: a, VerifyID: verifyID})
	step := func(s payment.Step) payment.Answer {
		return payment.Answer{Outcome: payment.ChallengeGiven, Step: s, CentreID: "x", URL: "https://acs.example", Data: "d"}
	}
	w.settle(step(payment.StepMethod))
	return w.later(time.Second).begin(payment.Proceed{Step: payment.StepMethod}).settle(step(payment.StepChallenge))
}

// An inquiry that fails while the payer is at his bank changes nothing: the centre is asked again 30 s later, as before
// (docs/payment-cycle.md), and when his time is over as about any doubt, counted from then.
func TestFailedInquiryAtTheBank(t *testing.T) {
	w := atBank(t, 3*time.Hour, holdFor)
	for i := 0; w.now.Before(w.p.Terms.ExpiresAt); i++ {
		w.at(w.p.Due()).begin(payment.Resume{})
		if i%2 == 0 {
			w.unknown()
		} else {
			w.settle(payment.Answer{Outcome: payment.ChallengeGiven})
		}
		if wait := w.p.Due().Sub(w.now); wait != 30*time.Second && w.now.Before(w.p.Terms.ExpiresAt) {
			t.Fatalf("%v after the payment began, it is asked again after %v", w.now.Sub(t0), wait)
		}
	}
	for w.now.Sub(w.p.Terms.ExpiresAt) < time.Hour {
		w.at(w.p.Due()).begin(payment.Resume{}).unknown()
		if at, now := w.p.Due().Sub(w.p.Terms.ExpiresAt), w.now.Sub(w.p.Terms.ExpiresAt); at > 7*max(now, 30*time.Second) && now < time.Hour {
			t.Errorf("asked %v after the payer's time was over, it is asked again only %v after that", now, at)
		}
	}
}

// Where the centre never says how it ended, a person may.
func TestForEverAtTheBank(t *testing.T) {
	w := atBank(t, 30*24*time.Hour, holdFor)
	w.later(15 * 24 * time.Hour).begin(payment.Resume{}).unknown()
	if w.p.Due().Sub(w.now) != 30*time.Second {
		t.Errorf("in the payer's time it is asked again at %v", w.p.Due())
	}
	for !w.p.Due().IsZero() {
		if w.now.Sub(w.p.Terms.ExpiresAt) > 20*24*time.Hour {
			t.Fatalf("it is still asked about at %v", w.now)
		}
		w.at(w.p.Due()).begin(payment.Resume{}).unknown()
	}
	if op := w.p.Doubt(w.now); op == nil || !op.WaitsForPerson() {
		t.Fatalf("nobody is asked about %+v", w.p.Open)
	}
	w.begin(payment.Resolve{Ref: w.p.Open.Ref, Resolution: payment.Resolution{Outcome: payment.Refused, By: "aziza", Why: "the statement has no such payment"}})
	if w.p.Open != nil {
		t.Errorf("a person's word does not end %+v", w.p.Open)
	}
}

// A centre that says for ever that the payer is at it leaves it to a person as well.
func TestForEverChallenged(t *testing.T) {
	w := atBank(t, ttl, holdFor)
	for !w.p.Due().IsZero() {
		if w.now.Sub(w.p.Terms.ExpiresAt) > 20*24*time.Hour {
			t.Fatalf("it is still asked about at %v", w.now)
		}
		w.at(w.p.Due()).begin(payment.Resume{}).settle(payment.Answer{Outcome: payment.ChallengeGiven})
	}
	if op := w.p.Doubt(w.now); op == nil || !op.WaitsForPerson() {
		t.Errorf("nobody is asked about %+v", w.p.Open)
	}
}

// A payer whose bank's first answer was lost has no step to come back from: what a browser brings changes nothing.
func TestProceedWithoutAStep(t *testing.T) {
	a := attempt(uzcard)
	a.ThreeDS = true
	w := start(t, terms()).begin(payment.Pay{Attempt: a, VerifyID: verifyID}).unknown()
	if wait := w.p.Due().Sub(w.now); wait != 5*time.Second { // in doubt like any other until it is known that he is at his bank
		t.Errorf("it is asked about after %v", wait)
	}
	w.at(w.p.Due()).begin(payment.Resume{}).settle(payment.Answer{Outcome: payment.ChallengeGiven})
	if w.later(time.Second).begin(payment.Proceed{Step: payment.StepMethod}); !w.lastSeen.Empty() {
		t.Errorf("it is asked %+v", w.p.Open)
	}
}

// What is asked about money that a payer set aside at his bank is in doubt from when it was asked, like any other.
func TestDoubtLongAfterTheBank(t *testing.T) {
	for _, c := range []payment.Command{
		payment.Decide{Accept: payment.Capture, By: payment.ByMerchant}, payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant},
	} {
		w := atBank(t, ttl, 30*24*time.Hour).approved().later(20 * 24 * time.Hour).begin(c).unknown()
		if wait := w.p.Due().Sub(w.now); wait != 5*time.Second {
			t.Errorf("%+v: asked about after %v", c, wait)
		}
	}
}

// A bank leaves no trace of the card that was refused before, whether it asks something of the payer or nothing.
func TestAtTheBankAfterARefusal(t *testing.T) {
	w := start(t, terms()).pay(uzcard).refusedFor(payment.CardBlocked)
	a := attempt(another)
	a.ThreeDS = true
	asks := *w
	if asks.begin(payment.Pay{Attempt: a, VerifyID: 77}).settle(payment.Answer{Outcome: payment.ChallengeGiven, Step: payment.StepMethod}); asks.p.LastRefusal != "" {
		t.Errorf("at his bank, refused because %q", asks.p.LastRefusal)
	}
	if w.begin(payment.Pay{Attempt: a, VerifyID: 77}).approved(); w.p.State != payment.Held || w.p.LastRefusal != "" {
		t.Errorf("it is %s, refused because %q", w.p.State, w.p.LastRefusal)
	}
}

// The payer may take his time at his bank: the time that the shop has to decide begins when he is back.
func TestHoldTimeBeginsAfterTheBank(t *testing.T) {
	const hold = 5 * time.Minute
	w := atBank(t, ttl, hold)
	w.later(2 * hold).begin(payment.Proceed{Step: payment.StepChallenge}).later(time.Second).approved()
	if left := w.p.HoldDeadline.Sub(w.now); left < hold-10*time.Second || left > hold {
		t.Errorf("the shop has %v of %v to decide", left, hold)
	}
}

// A payer who comes back too early, and then goes on at his bank, takes nothing of the shop's time either.
func TestHoldTimeBeginsWhenThePayerIsDone(t *testing.T) {
	const hold = 5 * time.Minute
	w := atBank(t, ttl, hold)
	w.later(time.Second).begin(payment.Proceed{Step: payment.StepChallenge}).later(time.Second).settle(payment.Answer{Outcome: payment.ChallengeGiven})
	w.later(2 * hold).begin(payment.Resume{}).later(time.Second).approved()
	if left := w.p.HoldDeadline.Sub(w.now); left < hold-10*time.Second || left > hold {
		t.Errorf("the shop has %v of %v to decide", left, hold)
	}
}

// When the payer's time is over and the centre cannot say how it ended, the money is in doubt, like any: it is listed, and
// a person may say what he knows.
func TestDoubtAfterTheBank(t *testing.T) {
	w := atBank(t, ttl, holdFor)
	for range 3 {
		w.at(w.p.Due()).begin(payment.Resume{}).unknown()
		if w.later(time.Second); w.p.Doubt(w.now) != nil {
			t.Errorf("in doubt after %v, while the payer is at his bank", w.now.Sub(t0))
		}
	}
	w.at(w.p.Terms.ExpiresAt.Add(time.Minute)).begin(payment.Resume{}).settle(payment.Answer{Outcome: payment.ChallengeGiven})
	if w.later(time.Second); w.p.Doubt(w.now) != nil {
		t.Errorf("in doubt, and the centre says that the payer is at it still")
	}
	w.at(w.p.Due()).begin(payment.Resume{}).unknown()
	if op := w.later(time.Second).p.Doubt(w.now); op == nil || op.Outcome != payment.Unknown {
		t.Fatalf("a minute after the payer's time nothing is in doubt: %+v", w.p.Open)
	}
	w.begin(payment.Resolve{Ref: w.p.Open.Ref, Resolution: payment.Resolution{
		Outcome: payment.Approved, Hold: "h", By: "aziza", Why: "the acquirer's cabinet has it",
	}})
	if w.p.State != payment.Held || w.p.Open != nil {
		t.Errorf("it is %s, open %+v", w.p.State, w.p.Open)
	}
}

// While the payer is at his bank his payment is the bank's: the same card leads back to its page, another one waits, no code
// is taken, and of what his browser brings only the step that is under way counts.
func TestCommandsAtTheBank(t *testing.T) {
	w := atBank(t, ttl, holdFor).later(time.Second)
	same, other := attempt(uzcard), attempt(another)
	same.ThreeDS, other.ThreeDS = true, true
	for name, c := range map[string]payment.Command{
		"the same card": payment.Pay{Attempt: same, VerifyID: 77}, "the step before": payment.Proceed{Step: payment.StepMethod},
	} {
		if change, err := payment.Begin(w.p, c, w.now); err != nil || !change.Empty() {
			t.Errorf("%s: %v, it changes something: %t", name, err, !change.Empty())
		}
	}
	if refusal := w.refused(payment.Pay{Attempt: other, VerifyID: 77}, payment.Busy); refusal.Detail == "" {
		t.Error("why another card must wait is not said")
	}
	w.refused(payment.SubmitCode{VerifyID: verifyID}, payment.WrongCode)
	if op := w.begin(payment.Proceed{Step: payment.StepChallenge}).p.Open; op.Ask != payment.Continue || op.SentAt != w.now || op.AskedAt != w.now || op.Outcome != "" {
		t.Errorf("back from his bank, it is asked %+v", op)
	}
	if w.p.HoldDeadline != w.now.Add(holdFor) {
		t.Errorf("the hold that is asked for ends at %v", w.p.HoldDeadline)
	}
	w.refused(payment.Proceed{Step: payment.StepChallenge}, payment.UnderWay)
	w.refused(payment.Pay{Attempt: same, VerifyID: 77}, payment.UnderWay)
	w.refused(payment.Pay{Attempt: other, VerifyID: 77}, payment.Busy)
	if w.approved().begin(payment.Proceed{Step: payment.StepChallenge}); !w.lastSeen.Empty() {
		t.Error("a step that is over changes something")
	}
	w.begin(payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant})
	w.refused(payment.Proceed{Step: payment.StepChallenge}, payment.UnderWay)
}

// What the payer's browser needs at his bank is what the centre gave, for as long as he may pay.
func TestChallengeAtTheBank(t *testing.T) {
	w := atBank(t, ttl, holdFor)
	want := payment.Challenge{
		VerifyID: verifyID, CentreID: "x", Step: payment.StepChallenge, URL: "https://acs.example", Data: "d", SentAt: w.now, ExpiresAt: t0.Add(ttl),
	}
	if c := w.p.Attempt.Challenge; c == nil || *c != want || w.p.Status() != payment.StatusWaitUserAction {
		t.Errorf("%+v, want %+v; status %s", c, want, w.p.Status())
	}
	// That he is still at it, which an inquiry finds, takes nothing of that back, and what the centre calls it is kept.
	w.later(time.Minute).begin(payment.Resume{}).settle(payment.Answer{Outcome: payment.ChallengeGiven, Centre: payment.Centre{Hold: "order-1"}})
	if c := w.p.Attempt.Challenge; c == nil || *c != want || w.p.Attempt.Centre.Hold != "order-1" {
		t.Errorf("still at his bank, it is %+v, called %+v", c, w.p.Attempt.Centre)
	}
	// Nobody but a hold or a charge leads to a bank.
	w.approved().begin(payment.Decide{Accept: payment.Capture, By: payment.ByMerchant}).settle(payment.Answer{Outcome: payment.ChallengeGiven, Step: payment.StepChallenge})
	if w.p.State != payment.Held || w.p.Open.Outcome != payment.Unknown {
		t.Errorf("a capture leads to the bank: %s, %+v", w.p.State, w.p.Open)
	}
}
