package payment_test

import (
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"

	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// A centre that does not keep our references: what is sent twice is done twice, or refused with "no
// such hold". "Not found" proves nothing for a minute after sending.
func TestWorldForgetfulCentre(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, false)
		w.check(t)
		t.Repeat(w.actions())
		w.rest(t)
		w.atRest(t)
	})
}

// "Not found" that was said too early must not become proof by waiting.
func TestEarlyNotFoundDoesNotBecomeProofByWaiting(t *testing.T) {
	for _, name := range []string{"capture", "void"} {
		w := open[name](t)
		sent := w.p.Open.SentAt
		w.later(answers).unknown()                           // lost; next inquiry at 30 s
		w.at(w.p.Due()).begin(payment.Resume{})              // 30 s: query
		w.settle(payment.Answer{Outcome: payment.NeverSeen}) // 30 s < 60 s: no proof
		w.at(w.p.Due()).begin(payment.Resume{})              // 2 min
		if w.p.Open.Ask != payment.Query {
			t.Errorf("%s: sent %v ago, \"not found\" was said 30 s after sending, and now it is sent again without asking", name, w.now.Sub(sent))
		}
	}
}

// A crash after sending again: what was sent may have been done, so it is asked about first.
func TestSentAgainThenCrashIsAskedAbout(t *testing.T) {
	for _, first := range []payment.Answer{{Outcome: payment.Refused, Reason: payment.Unavailable}, {Outcome: payment.NeverSeen}} {
		w := open["capture"](t)
		w.later(shows).begin(payment.Resume{Orphan: true}).settle(first)
		w.at(w.p.Due()).begin(payment.Resume{}) // sent again, committed
		if w.p.Open.Ask != payment.Send {
			t.Fatalf("%s: %s", first.Outcome, w.p.Open.Ask)
		}
		// The process dies; another takes over when the call can no longer be under way.
		w.later(2 * time.Minute).begin(payment.Resume{})
		if w.p.Open.Ask != payment.Query {
			t.Errorf("after %s: sent again, died, and sent a third time without asking what became of the second", first.Outcome)
		}
	}
}

// A centre that refuses a second use of a reference can be sent the same again at any time, and one that says that it has
// never seen what it was sent is not asked without a pause for ever.
func TestNeverSeenIsSentAgain(t *testing.T) {
	w := start(t, terms()).paid()
	w.p.Attempt.Limits.ShownMillis = nil
	w.capture(60_000)
	sent, atOnce := 1, 0
	for range 12 {
		at := w.p.Due()
		if w.p.Open.Outcome == payment.NeverSeen && at == w.now {
			atOnce++
		} else if w.p.Open.Outcome == "" {
			at = w.now.Add(time.Millisecond) // who takes it up need not wait
		}
		if w.at(at).begin(payment.Resume{Orphan: true}); w.p.Open.Ask == payment.Send {
			sent++
		}
		w.settle(payment.Answer{Outcome: payment.NeverSeen})
		if w.p.State != payment.Held || w.p.Open == nil {
			t.Fatalf("never seen, and it is %s, open %+v", w.p.State, w.p.Open)
		}
	}
	if sent < 3 || atOnce != 1 {
		t.Errorf("it was sent %d times, %d times at once after it had not been seen", sent, atOnce)
	}
}

// An inquiry asked before the centre must show and answered after it.
func TestNotFoundCountsFromWhenItWasAsked(t *testing.T) {
	w := open["hold"](t)
	w.later(answers).unknown()
	w.at(w.p.Open.SentAt.Add(shows - time.Second)).begin(payment.Resume{Orphan: true})
	w.later(2 * time.Second).settle(payment.Answer{Outcome: payment.NeverSeen})
	if w.p.Open == nil {
		t.Error("asked 59 s after sending, answered at 61 s: taken for proof")
	}
}

func TestLostResendsAreCounted(t *testing.T) {
	w := start(t, terms()).challenged()
	for range payment.MaxResends {
		w.later(time.Second).resend().unknown() // the SMS may well have gone out
	}
	w.refused(payment.Resend{Card: uzcard, VerifyID: 77}, payment.ResendsUsedUp)
}

func TestLostLastCodeEndsThePayment(t *testing.T) {
	w := lastCard(t, terms()).pay(uzcard).unknown()
	w.refused(payment.Pay{Attempt: attempt(uzcard), VerifyID: 77}, payment.AttemptsUsedUp)
	if w.p.State != payment.Declined {
		t.Errorf("no card may be tried any more, no code is on its way, and it is %s until its ttl", w.p.State)
	}
}

func TestDeadCodeIsNotTheSameAttempt(t *testing.T) {
	w := start(t, terms()).challenged().later(time.Second).code().refusedFor(payment.CodeExpired)
	if w.later(time.Second).begin(payment.Pay{Attempt: attempt(uzcard), VerifyID: 77}); w.lastSeen.Empty() {
		t.Error("the code is over, the payer types his card again, and nothing happens")
	}
}

func TestDeadlineNeverCaptures(t *testing.T) {
	w := start(t, terms()).paid()
	w.at(w.p.HoldDeadline)
	if c, err := payment.Begin(w.p, payment.Decide{Accept: payment.Capture, By: payment.ByDeadline}, w.now); err == nil && !c.Empty() {
		t.Error("a capture after the deadline is taken")
	}
	w = start(t, terms()).challenged()
	if c, err := payment.Begin(w.p, payment.Decide{Accept: payment.Cancel, By: payment.ByDeadline}, w.now); err == nil && !c.Empty() {
		t.Error("the deadline of a hold cancels a payment that has none")
	}
}

func TestMethodMustBeAllowed(t *testing.T) {
	a := attempt(uzcard)
	a.Method = payment.BankCard
	start(t, terms()).refused(payment.Pay{Attempt: a, VerifyID: 77}, payment.MethodNotAllowed)
}

func TestOtherCurrencyIsRefused(t *testing.T) {
	w := start(t, terms()).paid()
	defer func() {
		if r := recover(); r != nil {
			t.Errorf("panics: %v", r)
		}
	}()
	w.refused(payment.Decide{Accept: payment.Capture, Amount: money.New(100, money.USD), By: payment.ByMerchant}, payment.AmountAboveHold)
}

func TestCauseOfAnyBytesIsStored(t *testing.T) {
	w := open["capture"](t).settle(payment.Answer{Outcome: payment.Unknown, Cause: "\xcd\xe5\xf2 \xf1\xe2\xff\xe7\xe8"}) // windows-1251
	if _, err := json.Marshal(w.p.Progress); err != nil {
		t.Error(err)
	}
}

// A centre that shows at once what reached it still cannot show what is on its way: the call of the
// process that died may be under way for as long as a call may last.
func TestNotFoundWhileTheCallMayBeUnderWay(t *testing.T) {
	for _, terms := range []payment.Terms{terms(), oneStage()} {
		w := start(t, terms)
		a := attempt(uzcard)
		a.Limits.ShownMillis = nil
		w.begin(payment.Pay{Attempt: a, VerifyID: verifyID}).codeSent().code().approved() // the money is asked for
		w.later(time.Millisecond).begin(payment.Resume{Orphan: true})                     // the process died, another asks
		w.settle(payment.Answer{Outcome: payment.NeverSeen})
		if w.p.Open == nil {
			t.Errorf("%s: not found 1 ms after it was sent is taken for proof; another card can now be held as well", w.closed[len(w.closed)-1].Kind)
		}
	}
}
