package payment_test

import (
	"slices"
	"testing"
	"time"

	"holdfast/internal/payment"
)

const microsecond = time.Microsecond

// The other tests count up to these numbers, whatever they are; what they are is said to shops and payers (contract §4,
// docs/guarantees.md).
func TestLimitsAsPromised(t *testing.T) {
	got := []int{payment.MaxAttempts, payment.MaxWrongCodes, payment.MaxResends, payment.MaxRefunds, payment.ShortestOTP, payment.LongestOTP}
	if want := []int{5, 3, 3, 100, 4, 8}; !slices.Equal(got, want) {
		t.Errorf("cards, wrong codes, further codes, refunds, and a code's digits from, to: %v, want %v", got, want)
	}
}

// The third wrong code cancels the payment (contract §4), whether they were typed one after
// another, with further codes between, or on several cards.
func TestThirdWrongCodeCancels(t *testing.T) {
	wrong := func(w *walk) *walk {
		return w.later(time.Second).code().later(time.Second).refusedFor(payment.WrongCode)
	}
	for name, between := range map[string]func(w *walk){
		"in a row":              func(*walk) {},
		"a further code each":   func(w *walk) { w.later(time.Second).resend().codeSent() },
		"another card each":     func(w *walk) { w.later(time.Minute).pay(another).codeSent() },
		"a lost answer each":    func(w *walk) { w.later(time.Second).resend().codeSent().code().unknown() },
		"an unavailable centre": func(w *walk) { w.later(time.Second).resend().codeSent().code().refusedFor(payment.Unavailable) },
		"the same card again":   func(w *walk) { w.later(2 * time.Minute).pay(uzcard).codeSent() },
	} {
		w := start(t, terms()).challenged()
		for n := 1; n < payment.MaxWrongCodes; n++ {
			if wrong(w); w.p.State != payment.Challenged || w.p.WrongCodes != n {
				t.Fatalf("%s: after wrong code %d it is %s, counted %d", name, n, w.p.State, w.p.WrongCodes)
			}
			between(w)
		}
		if wrong(w); w.p.State != payment.Declined || w.p.Status() != payment.StatusCanceled {
			t.Errorf("%s: after wrong code %d it is %s", name, w.p.WrongCodes, w.p.State)
		}
		if n := len(w.lastSeen.Events); n != 1 || w.lastSeen.Events[0].Status != payment.StatusCanceled {
			t.Errorf("%s: the merchant is told %v", name, w.lastSeen.Events)
		}
		w.refused(payment.Pay{Attempt: attempt(another), VerifyID: 77}, payment.AttemptsUsedUp)
		w.refused(payment.SubmitCode{VerifyID: w.p.Attempt.Challenge.VerifyID}, payment.AttemptsUsedUp)
	}
}

// A right code before the third is as good as at first.
func TestSecondCodeRight(t *testing.T) {
	w := start(t, terms()).challenged()
	w.later(time.Second).code().refusedFor(payment.WrongCode)
	w.later(time.Second).code().refusedFor(payment.WrongCode)
	if w.later(time.Second).code().approved().approved(); w.p.State != payment.Held || w.p.LastRefusal != "" {
		t.Errorf("%s, %s", w.p.State, w.p.LastRefusal)
	}
}

// A try is counted before the centre sees it: with every answer lost, no more than three guesses of
// one verification reach the centre.
func TestTriesAreCountedBeforeTheCentreSeesThem(t *testing.T) {
	w := start(t, terms()).challenged()
	for n := 1; n <= payment.MaxWrongCodes; n++ {
		if w.later(time.Second).code(); w.p.Attempt.Challenge.Tries != n {
			t.Fatalf("try %d is counted as %d", n, w.p.Attempt.Challenge.Tries)
		}
		w.later(time.Second).unknown()
	}
	w.refused(payment.SubmitCode{VerifyID: verifyID}, payment.AttemptsUsedUp)
	if w.p.State != payment.Challenged || w.p.WrongCodes != 0 {
		t.Errorf("lost answers made it %s with %d wrong codes", w.p.State, w.p.WrongCodes)
	}
}

// A payer whose tries are used up is not sent back to a code that is taken no more: the same card begins anew, also within
// the minute in which it would otherwise be the same attempt.
func TestSameCardAfterTheLastTry(t *testing.T) {
	for tries := 1; tries <= payment.MaxWrongCodes; tries++ {
		w := start(t, terms()).challenged()
		for range tries {
			w.later(time.Second).code().unknown()
		}
		w.later(time.Second).begin(payment.Pay{Attempt: attempt(uzcard), VerifyID: 77})
		if again := tries == payment.MaxWrongCodes; w.lastSeen.Empty() == again {
			t.Errorf("after %d lost tries the same card changes something: %t", tries, !w.lastSeen.Empty())
		}
	}
}

// That a card does not exist is said as long as nothing newer is known: guessers are counted by it.
func TestCardUnknown(t *testing.T) {
	w := start(t, terms()).pay(uzcard)
	for _, tt := range []struct {
		when      string
		got, want bool
	}{
		{"it is asked about", w.p.CardUnknown(), false},
		{"it is blocked", w.refusedFor(payment.CardBlocked).p.CardUnknown(), false},
		{"it is asked about again", w.pay(uzcard).p.CardUnknown(), false},
		{"it is unknown", w.refusedFor(payment.CardUnknown).p.CardUnknown(), true},
		{"another is asked about", w.pay(another).p.CardUnknown(), false},
		{"a code is on its way", w.codeSent().p.CardUnknown(), false},
		{"the code is wrong", w.code().refusedFor(payment.WrongCode).p.CardUnknown(), false},
		{"a further code is refused so, and the first may still be good", w.resend().refusedFor(payment.CardUnknown).p.CardUnknown(), false},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %t", tt.when, tt.got)
		}
	}
}

// A further code that the centre cannot send costs no card, and gives none back.
func TestFurtherCodeUnavailable(t *testing.T) {
	w := start(t, terms()).challenged().later(time.Second).resend().refusedFor(payment.Unavailable)
	if w.p.Attempts != 1 || w.p.State != payment.Challenged {
		t.Errorf("%d cards are counted, it is %s", w.p.Attempts, w.p.State)
	}
}

// Cards that share a beginning or an end are two cards.
func TestOtherCardOfTheSameBeginningOrEnd(t *testing.T) {
	for _, other := range []payment.CardFacts{{First6: uzcard.First6, Last4: another.Last4}, {First6: another.First6, Last4: uzcard.Last4}} {
		w := start(t, terms()).challenged().later(time.Second)
		w.refused(payment.Resend{Card: other, VerifyID: 77}, payment.CardUnknown)
		if w.begin(payment.Pay{Attempt: attempt(other), VerifyID: 77}); w.lastSeen.Empty() {
			t.Errorf("%+v is taken for %+v", other, uzcard)
		}
	}
}

// A wrong verification is refused as a wrong code is, in every situation, and asks the centre nothing.
func TestWrongVerificationIsAWrongCode(t *testing.T) {
	for _, s := range situations {
		w := s.walk(t)
		w.refused(payment.SubmitCode{VerifyID: verifyID - 1}, payment.WrongCode)
	}
	// Nor is the verification before a further code any good.
	w := start(t, terms()).challenged().later(time.Second).resend().codeSent()
	w.refused(payment.SubmitCode{VerifyID: verifyID}, payment.WrongCode)
	w.begin(payment.SubmitCode{VerifyID: verifyID + 1})
}

func TestAttemptsUsedUp(t *testing.T) {
	// Refused with the code: each card is one attempt, the last ends the payment.
	w := start(t, terms())
	for n := 1; n <= payment.MaxAttempts; n++ {
		if w.p.State != payment.Created {
			t.Fatalf("before card %d it is %s", n, w.p.State)
		}
		if w.later(time.Second).pay(uzcard).refusedFor(payment.CardBlocked); w.p.Attempts != n {
			t.Fatalf("card %d is counted as %d", n, w.p.Attempts)
		}
	}
	if w.p.State != payment.Declined || w.p.LastRefusal != payment.CardBlocked {
		t.Errorf("after %d cards it is %s because %s", payment.MaxAttempts, w.p.State, w.p.LastRefusal)
	}
	w.refused(payment.Pay{Attempt: attempt(another), VerifyID: 77}, payment.AttemptsUsedUp)

	// Refused with the hold: the same.
	w = start(t, terms())
	for range payment.MaxAttempts {
		w.moneyAsked().refusedFor(payment.InsufficientFunds)
	}
	if w.p.State != payment.Declined || !w.p.HoldDeadline.IsZero() {
		t.Errorf("after %d holds refused it is %s, deadline %v", payment.MaxAttempts, w.p.State, w.p.HoldDeadline)
	}

	// Challenged and left: the cards still count, and the last one may still be paid with.
	w = start(t, terms())
	for n := range payment.MaxAttempts {
		card := uzcard
		if n%2 == 1 {
			card = another
		}
		w.later(time.Second).pay(card).codeSent()
	}
	w.refused(payment.Pay{Attempt: attempt(another), VerifyID: 77}, payment.AttemptsUsedUp)
	if w.code().approved().approved(); w.p.State != payment.Held {
		t.Errorf("the last card was good, and it is %s", w.p.State)
	}
}

// A centre out of service costs the payer no attempt.
func TestUnavailableCentreCostsNoAttempt(t *testing.T) {
	for _, why := range []payment.Reason{payment.Unavailable, payment.Misconfigured} {
		w := start(t, terms())
		for range 3 * payment.MaxAttempts {
			w.later(time.Second).pay(uzcard).refusedFor(why)
		}
		if w.p.State != payment.Created || w.p.Attempts != 0 || w.p.LastRefusal != why {
			t.Errorf("%s: it is %s after %d attempts because %s", why, w.p.State, w.p.Attempts, w.p.LastRefusal)
		}
		// A code that was on its way is still good.
		w.challenged().later(time.Second).code().refusedFor(why)
		if w.code().approved().approved(); w.p.State != payment.Held {
			t.Errorf("%s: the code is no longer good: %s", why, w.p.State)
		}
	}
}

func TestResendsUsedUp(t *testing.T) {
	w := start(t, terms()).challenged()
	for n := 1; n <= payment.MaxResends; n++ {
		if w.later(time.Second).resend().codeSent(); w.p.Attempt.Challenge.Resends != n {
			t.Fatalf("further code %d is counted as %d", n, w.p.Attempt.Challenge.Resends)
		}
	}
	w.refused(payment.Resend{Card: uzcard, VerifyID: 77}, payment.ResendsUsedUp)
	// The last code is good, and another card has its own.
	if w.code(); w.p.Open.Kind != payment.OpVerify {
		t.Errorf("asked %s", w.p.Open.Kind)
	}
	w.refusedFor(payment.CardRefused).pay(another).codeSent().resend().codeSent()
	if w.p.Attempt.Challenge.Resends != 1 {
		t.Errorf("the other card's first further code is counted as %d", w.p.Attempt.Challenge.Resends)
	}
}

// A further code that was refused leaves the earlier one as it was.
func TestRefusedResendLeavesTheEarlierCode(t *testing.T) {
	w := start(t, terms()).challenged().later(time.Second).resend().refusedFor(payment.NoSMS)
	if w.p.State != payment.Challenged || w.p.Attempt.Challenge.VerifyID != verifyID {
		t.Fatalf("%s, %+v", w.p.State, w.p.Attempt.Challenge)
	}
	if w.code().approved().approved(); w.p.State != payment.Held {
		t.Errorf("%s", w.p.State)
	}
}

// A double click or a reload within a minute is one attempt and one code; a minute later the payer
// means it. To the microsecond, from when the code was sent.
func TestSameCardWithinAMinute(t *testing.T) {
	again := payment.Pay{Attempt: attempt(uzcard), VerifyID: 77}
	w := start(t, terms()).later(time.Second).pay(uzcard)
	w.refused(again, payment.UnderWay) // while the code is asked for: the same answer is awaited
	w.later(3 * time.Second).codeSent()
	sent := w.now
	for _, after := range []time.Duration{0, microsecond, 30 * time.Second, time.Minute - microsecond} {
		if w.at(sent.Add(after)).begin(again); !w.lastSeen.Empty() || w.p.Attempts != 1 {
			t.Fatalf("%v later: %d attempts", after, w.p.Attempts)
		}
	}
	if w.at(sent.Add(time.Minute)).begin(again); w.p.Attempts != 2 || w.p.Open == nil {
		t.Errorf("a minute later: %d attempts", w.p.Attempts)
	}
	// By another method it is not the same card.
	both := terms()
	both.Methods = []payment.Method{payment.Uzcard, payment.Humo}
	w = start(t, both).challenged()
	other := again
	other.Attempt.Method = payment.Humo
	if w.begin(other); w.p.Attempts != 2 {
		t.Errorf("by another method: %d attempts", w.p.Attempts)
	}
}

// The ttl ends at its microsecond: for the card, for the code, and for the hold itself.
func TestEdgeOfTTL(t *testing.T) {
	ends := t0.Add(ttl)
	pay := payment.Pay{Attempt: attempt(uzcard), VerifyID: 77}
	start(t, terms()).at(ends.Add(-microsecond)).begin(pay)
	start(t, terms()).at(ends).refused(pay, payment.PaymentExpired)

	code := payment.SubmitCode{VerifyID: verifyID}
	challenged := func() *walk { return start(t, terms()).at(ends.Add(-time.Minute)).challenged() }
	challenged().at(ends.Add(-microsecond)).begin(code)
	challenged().at(ends).refused(code, payment.PaymentExpired)
	challenged().at(ends.Add(-microsecond)).resend()
	challenged().at(ends).refused(payment.Resend{Card: uzcard, VerifyID: 77}, payment.PaymentExpired)

	// The code was handed in in time; the money is asked for only in time too.
	w := challenged().at(ends.Add(-microsecond)).code().approved()
	if w.p.Open == nil || w.p.Open.Kind != payment.OpHold {
		t.Errorf("a microsecond before the end: %s, open %+v", w.p.State, w.p.Open)
	}
	// And once it is asked for, the ttl no longer matters: the centre's word does.
	if w.at(ends.Add(time.Hour)).approved(); w.p.State != payment.Held {
		t.Errorf("held after the end: %s", w.p.State)
	}
	w = challenged().at(ends.Add(-microsecond)).code().at(ends).approved()
	if w.p.State != payment.Expired || w.p.Open != nil || len(w.entries) != 0 {
		t.Errorf("at the end: %s, open %+v", w.p.State, w.p.Open)
	}

	w = start(t, terms()).at(ends.Add(-microsecond)).begin(payment.Lapse{})
	if !w.lastSeen.Empty() {
		t.Errorf("a microsecond before its end it is %s", w.p.State)
	}
	if w.at(ends).begin(payment.Lapse{}); w.p.State != payment.Expired {
		t.Errorf("at its end it is %s", w.p.State)
	}
}

// A code ends at its microsecond too, or when the centre says so.
func TestEdgeOfCode(t *testing.T) {
	w := start(t, terms()).challenged()
	ends := w.p.Attempt.Challenge.ExpiresAt
	w.at(ends).refused(payment.SubmitCode{VerifyID: verifyID}, payment.CodeExpired)
	w.at(ends.Add(-microsecond)).code().refusedFor(payment.CodeExpired)
	w.refused(payment.SubmitCode{VerifyID: verifyID}, payment.CodeExpired)
	if w.p.WrongCodes != 0 || w.p.State != payment.Challenged {
		t.Errorf("a code that was too late is counted: %d, %s", w.p.WrongCodes, w.p.State)
	}
	if w.resend().codeSent().code().approved().approved(); w.p.State != payment.Held {
		t.Errorf("with a further code it is %s", w.p.State)
	}
}

// From 50 ms before the deadline to 50 ms after it, to the millisecond, and at the microsecond:
// either the merchant decides or the deadline does, never both and never neither.
func TestEdgeOfDeadline(t *testing.T) {
	held := start(t, terms()).paid()
	deadline := held.p.HoldDeadline
	if hold := held.p.HoldDeadline.Sub(t0.Add(12 * time.Second)); hold != holdFor {
		t.Fatalf("the hold lasts %v", hold) // from the verified code on
	}
	edge := []time.Duration{-microsecond, 0, microsecond}
	for ms := -50; ms <= 50; ms++ {
		edge = append(edge, time.Duration(ms)*time.Millisecond)
	}
	for _, by := range edge {
		now := deadline.Add(by)
		for _, accept := range []payment.Accept{payment.Capture, payment.Cancel} {
			c := payment.Decide{Accept: accept, By: payment.ByNotification}
			merchant, deadline := *held, *held
			merchant.at(now)
			deadline.at(now).begin(payment.Lapse{})
			if by < 0 {
				merchant.begin(c)
				if merchant.p.Decision == nil || !deadline.lastSeen.Empty() {
					t.Errorf("%v: decision %+v, lapse empty %v", by, merchant.p.Decision, deadline.lastSeen.Empty())
				}
				continue
			}
			merchant.refused(c, payment.DeadlinePassed)
			if d := deadline.p.Decision; d == nil || d.By != payment.ByDeadline || d.Accept != payment.Cancel || d.At != now || deadline.p.Open.Kind != payment.OpVoid {
				t.Errorf("%v: the deadline decides %+v", by, d)
			}
		}
	}
}

// The deadline passes while a capture is under way: the merchant decided in time, and that stands.
func TestDeadlineDoesNotOvertakeADecision(t *testing.T) {
	w := start(t, terms()).paid()
	w.at(w.p.HoldDeadline.Add(-microsecond)).begin(payment.Decide{Accept: payment.Capture, By: payment.ByMerchant})
	w.at(w.p.HoldDeadline).refused(payment.Lapse{}, payment.Busy)
	w.unknown()
	w.later(time.Second).refused(payment.Lapse{}, payment.InDoubt)
	if w.later(time.Hour).approved(); w.p.State != payment.Captured || w.p.Decision.By != payment.ByMerchant {
		t.Errorf("%s by %s", w.p.State, w.p.Decision.By)
	}
}

// The deadline passes while the hold itself is in doubt: once it proves held, it is let go at once.
func TestHoldProvenAfterItsDeadlineIsLetGo(t *testing.T) {
	w := start(t, terms()).moneyAsked().later(time.Second).unknown()
	w.at(w.p.HoldDeadline.Add(time.Hour)).begin(payment.Resume{}).approved()
	if w.p.State != payment.Held || w.p.Due().After(w.now) {
		t.Fatalf("%s, due %v", w.p.State, w.p.Due())
	}
	w.refused(payment.Decide{Accept: payment.Capture, By: payment.ByMerchant}, payment.DeadlinePassed)
	if w.begin(payment.Lapse{}).done(); w.p.State != payment.Voided || w.p.Decision.By != payment.ByDeadline {
		t.Errorf("%s by %s", w.p.State, w.p.Decision.By)
	}
}

// A payment that became a refusal and is tried again has the deadline of its own hold, not of the first.
func TestDeadlineBelongsToItsHold(t *testing.T) {
	w := start(t, terms()).moneyAsked().refusedFor(payment.InsufficientFunds)
	if !w.p.HoldDeadline.IsZero() {
		t.Errorf("a refused hold has deadline %v", w.p.HoldDeadline)
	}
	w.later(5 * time.Minute).moneyAsked()
	if verified := w.now; w.p.HoldDeadline != verified.Add(holdFor) {
		t.Errorf("deadline %v, verified at %v", w.p.HoldDeadline, verified)
	}
	if w = start(t, oneStage()).moneyAsked(); !w.p.HoldDeadline.IsZero() {
		t.Errorf("a payment in one stage has a hold until %v", w.p.HoldDeadline)
	}
}
