package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"holdfast/internal/gateway"
	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/sim"
	"holdfast/internal/store"
)

func TestTwoStages(t *testing.T) {
	for _, c := range []struct {
		name     string
		accept   payment.Accept
		sum      int64 // 0: all
		state    payment.State
		captured int64
		fee      int64
	}{
		{"all of it", payment.Capture, 0, payment.Captured, 100_000, 2000},
		{"all of it, by its sum", payment.Capture, total, payment.Captured, 100_000, 2000},
		{"a part", payment.Capture, 43_727, payment.Captured, 43_727, 875}, // 874.54, rounded once
		{"cancel", payment.Cancel, 0, payment.Voided, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			card := w.goodCard(0)
			p := w.paid(card)
			if p.Held != uzs(total) || p.HoldDeadline != t0.Add(holdFor) || p.Attempt.Centre.Hold == "" {
				t.Errorf("held %s until %s as %q", p.Held, p.HoldDeadline, p.Attempt.Centre.Hold)
			}
			w.clean()
			p = w.must(w.decide(p.ID, c.accept, c.sum))(c.state)
			if p.Captured != uzs(c.captured) || p.Released != uzs(total-c.captured) || p.Fee != uzs(c.fee) {
				t.Errorf("captured %s, released %s, fee %s", p.Captured, p.Released, p.Fee)
			}
			w.clean()
			// The same again gets the same answer, and asks the centre nothing.
			before := w.made()
			again := w.must(w.decide(p.ID, c.accept, c.sum))(c.state)
			if diff := gocmp.Diff(p, again); diff != "" || !gocmpEqual(before, w.made()) {
				t.Errorf("the repeat gets another answer:\n%s", diff)
			}
			// Anything else meets the decision that stands.
			for _, other := range []struct {
				accept payment.Accept
				sum    int64
			}{{payment.Capture, 1}, {payment.Capture, total + 1}, {payment.Cancel, 0}, {payment.Capture, 0}} {
				if other.accept == c.accept && (other.sum == c.sum || other.sum == 0 && c.captured == total) {
					continue
				}
				_, err := w.decide(p.ID, other.accept, other.sum)
				var refused *payment.Error
				if !errors.As(err, &refused) || refused.Reason != payment.DecisionStands || refused.Decision == nil || *refused.Decision != *p.Decision {
					t.Errorf("%s %d afterwards: %v", other.accept, other.sum, err)
				}
			}
			w.clean()
		})
	}
}

func gocmpEqual(a, b map[string]int) bool { return gocmp.Equal(a, b) }

func TestOneStage(t *testing.T) {
	w := newWorld(t)
	p := w.paid(w.goodCard(0), oneStage)
	if p.Captured != uzs(total) || p.Fee != uzs(2000) || p.PaidAt != t0 || p.Decision != nil {
		t.Errorf("captured %s, fee %s, paid at %s, decision %v", p.Captured, p.Fee, p.PaidAt, p.Decision)
	}
	if made := w.made(); made["charge"] != 1 || made["hold"] != 0 {
		t.Errorf("the centre did %v", made)
	}
	if _, err := w.decide(p.ID, payment.Cancel, 0); reason(err) != payment.AlreadyCaptured {
		t.Errorf("cancelled afterwards: %v", err)
	}
	w.clean()
}

func TestPrepareTwiceIsOnePayment(t *testing.T) {
	w := newWorld(t)
	terms := payment.Terms{ShopPaymentID: "order-1", Amount: uzs(total), Methods: []payment.Method{payment.Uzcard}, ReturnURL: "https://shop.example", Language: "uz"}
	got := make([]payment.Payment, 100)
	var mu sync.Mutex
	made := 0
	together(len(got), func(i int) {
		p, created, err := w.gateway.Prepare(t.Context(), w.shop, terms, ttl)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		got[i] = p
		if created {
			made++
		}
	})
	if got[0].Terms.InitTime != t0 || got[0].Terms.ExpiresAt != t0.Add(ttl) {
		t.Errorf("begun at %s, until %s", got[0].Terms.InitTime, got[0].Terms.ExpiresAt)
	}
	if made != 1 {
		t.Errorf("%d of 100 made it", made)
	}
	for _, p := range got {
		if diff := gocmp.Diff(got[0], p); diff != "" {
			t.Fatalf("two answers:\n%s", diff)
		}
	}
	if got[0].Terms.ExpiresAt != t0.Add(ttl) || got[0].Terms.InitTime != t0 {
		t.Errorf("it expires at %s, began at %s", got[0].Terms.ExpiresAt, got[0].Terms.InitTime)
	}
}

func TestWrongCodes(t *testing.T) {
	w := newWorld(t)
	card := w.goodCard(0)
	p := w.prepare()
	p = w.must(w.pay(p.ID, card))(payment.Challenged)
	wrong := "000000"
	if wrong == w.code(card) {
		wrong = "000001"
	}
	for try := 1; try <= payment.MaxWrongCodes; try++ {
		var err error
		p, err = w.submit(p, wrong)
		if err != nil || p.LastRefusal != payment.WrongCode || p.WrongCodes != try {
			t.Fatalf("try %d: %d wrong codes, %q, %v", try, p.WrongCodes, p.LastRefusal, err)
		}
	}
	if p.State != payment.Declined || p.Status() != payment.StatusCanceled {
		t.Errorf("after the third it is %s", p.State)
	}
	if _, err := w.submit(p, w.code(card)); reason(err) != payment.AttemptsUsedUp {
		t.Errorf("the right code afterwards: %v", err)
	}
	if len(w.made()) != 0 {
		t.Errorf("the centre moved money: %v", w.made())
	}
	w.clean()
}

func TestResend(t *testing.T) {
	w := newWorld(t)
	card := w.goodCard(1) // whose codes are fresh each time
	p := w.prepare()
	p = w.must(w.pay(p.ID, card))(payment.Challenged)
	first := w.code(card)
	for n := 1; n <= payment.MaxResends; n++ {
		next, err := w.gateway.Resend(t.Context(), p.ID, handedIn(card).Card)
		if err != nil || next.Attempt.Challenge.Resends != n || next.Attempt.Challenge.VerifyID == p.Attempt.Challenge.VerifyID {
			t.Fatalf("resend %d: %+v, %v", n, next.Attempt.Challenge, err)
		}
		// The name of the verification before it is no longer good.
		if _, err := w.submit(p, first); reason(err) != payment.WrongCode {
			t.Errorf("an old verification: %v", err)
		}
		p = next
	}
	if _, err := w.gateway.Resend(t.Context(), p.ID, handedIn(card).Card); reason(err) != payment.ResendsUsedUp {
		t.Errorf("one more: %v", err)
	}
	if _, err := w.gateway.Resend(t.Context(), p.ID, handedIn(w.goodCard(2)).Card); reason(err) == "" {
		t.Error("a code for another card")
	}
	if got := len(w.sim.SMS(card.Phone)); got != 1+payment.MaxResends {
		t.Errorf("%d codes were sent", got)
	}
	p = w.must(w.submit(p, w.code(card)))(payment.Held)
	w.clean()
}

func TestRefusedCardLeavesRoomForAnother(t *testing.T) {
	w := newWorld(t)
	var poor sim.Card
	for _, c := range w.sim.Cards() {
		if c.Scheme == "uzcard" && c.Behaviour == "insufficient_funds" {
			poor = c
			break
		}
	}
	p := w.prepare()
	p = w.must(w.pay(p.ID, poor))(payment.Challenged)
	p = w.must(w.submit(p, w.code(poor)))(payment.Created)
	if p.LastRefusal != payment.InsufficientFunds || p.Status() != payment.StatusWaitUserAction {
		t.Errorf("refused for %q, status %s", p.LastRefusal, p.Status())
	}
	card := w.goodCard(0)
	p = w.must(w.pay(p.ID, card))(payment.Challenged)
	w.must(w.submit(p, w.code(card)))(payment.Held)
	w.clean()
}

// Every Uzcard of the book that misbehaves, whatever it does: at rest nothing is doubled or lost.
func TestEveryMagicCard(t *testing.T) {
	w := newWorld(t)
	cards := slices.DeleteFunc(w.sim.Cards(), func(c sim.Card) bool { return c.Scheme != "uzcard" || c.Behaviour == "ok" })
	for i, card := range cards {
		if underRace && i%5 != 0 {
			continue
		}
		p := w.prepare(func(t *payment.Terms) { t.AutoCapture = i%2 == 0 })
		p, err := w.pay(p.ID, card)
		if err == nil && p.State == payment.Challenged {
			p, err = w.submit(p, w.code(card))
		}
		if err == nil && p.State == payment.Held {
			accept := payment.Capture
			if i%4 == 1 {
				accept = payment.Cancel
			}
			_, err = w.decide(p.ID, accept, 0)
		}
		var refused *payment.Error
		if err != nil && !errors.As(err, &refused) {
			t.Errorf("%s: %v", card.Behaviour, err)
		}
	}
	// A centre that refuses to capture or void a good hold is asked until the hold lapses there.
	for range 60 {
		w.step()
		if !slices.ContainsFunc(w.all(), func(p payment.Payment) bool { return p.Open != nil }) {
			break
		}
		w.later(time.Hour)
	}
	w.clean()
}

func TestNobodyPays(t *testing.T) {
	w := newWorld(t)
	created := w.prepare()
	challenged := w.prepare()
	challenged = w.must(w.pay(challenged.ID, w.goodCard(1)))(payment.Challenged)
	held := w.paid(w.goodCard(0))
	w.later(ttl - time.Microsecond)
	if n := w.step(); n != 0 {
		t.Errorf("%d payments were taken up before their time", n)
	}
	w.later(time.Microsecond)
	// At the edge nobody can pay any more, whether Step has been there or not.
	if _, err := w.pay(created.ID, w.goodCard(2)); reason(err) != payment.PaymentExpired {
		t.Errorf("a card at the end of the ttl: %v", err)
	}
	if _, err := w.submit(challenged, w.code(w.goodCard(1))); reason(err) != payment.PaymentExpired {
		t.Errorf("a code at the end of the ttl: %v", err)
	}
	if n := w.step(); n != 2 {
		t.Errorf("%d payments were taken up, want 2", n)
	}
	for _, p := range []payment.Payment{created, challenged} {
		if got := w.read(p.ID); got.State != payment.Expired {
			t.Errorf("it is %s", got.State)
		}
	}
	if got := w.read(held.ID); got.State != payment.Held {
		t.Errorf("the hold is %s", got.State)
	}
	w.clean()
}

// The code is right, but while it is looked at the ttl ends: no money is asked for.
func TestTTLEndsWhileTheCodeIsChecked(t *testing.T) {
	w := newWorld(t)
	card := w.goodCard(0)
	p := w.prepare()
	w.later(ttl - time.Minute)
	p = w.must(w.pay(p.ID, card))(payment.Challenged)
	w.watch(nil, func(method string) {
		if method == "cards.new.verify" {
			w.later(time.Minute)
		}
	})
	w.must(w.submit(p, w.code(card)))(payment.Expired)
	if len(w.made()) != 0 {
		t.Errorf("the centre did %v", w.made())
	}
	w.clean()
}

func TestNobodyDecides(t *testing.T) {
	w := newWorld(t)
	p := w.paid(w.goodCard(0))
	w.later(holdFor - time.Microsecond)
	if n := w.step(); n != 0 {
		t.Errorf("%d payments were taken up before their time", n)
	}
	w.later(time.Microsecond)
	if n := w.step(); n != 1 {
		t.Errorf("%d payments were taken up, want 1", n)
	}
	p = w.read(p.ID)
	if p.State != payment.Voided || p.Decision == nil || p.Decision.By != payment.ByDeadline || p.Decision.At != w.clock() {
		t.Errorf("it is %s, decided %+v", p.State, p.Decision)
	}
	if made := w.made(); made["void"] != 1 {
		t.Errorf("the centre did %v", made)
	}
	w.clean()
}

// A hold whose answer was lost proves, after its deadline, to have been made: it is let go at once.
func TestHoldFoundAfterItsDeadline(t *testing.T) {
	w := newWorld(t)
	card := w.goodCard(0)
	p := w.prepare()
	p = w.must(w.pay(p.ID, card))(payment.Challenged)
	w.fault(sim.Fault{Method: "hold.create", Name: "answer_lost"})
	p, err := w.submit(p, w.code(card))
	if err != nil || p.Open == nil || p.Open.Kind != payment.OpHold {
		t.Fatalf("%s, %v", p.State, err)
	}
	if _, err := w.decide(p.ID, payment.Capture, 0); reason(err) != payment.InDoubt {
		t.Errorf("captured in doubt: %v", err)
	}
	if _, err := w.pay(p.ID, card); reason(err) != payment.InDoubt {
		t.Errorf("another card in doubt: %v", err)
	}
	w.later(holdFor)
	w.rest() // finds it
	w.rest() // lets it go
	p = w.read(p.ID)
	if p.State != payment.Voided || p.Decision == nil || p.Decision.By != payment.ByDeadline {
		t.Errorf("it is %s, decided %+v", p.State, p.Decision)
	}
	w.clean()
}

// The gateway was away until the hold lapsed at the centre.
func TestHoldLapsedAtTheCentre(t *testing.T) {
	for _, name := range []string{"the hold is known", "its answer was lost"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			card := w.goodCard(0)
			p := w.prepare()
			p = w.must(w.pay(p.ID, card))(payment.Challenged)
			if name == "its answer was lost" {
				w.fault(sim.Fault{Method: "hold.create", Name: "answer_lost"})
			}
			p, err := w.submit(p, w.code(card))
			if err != nil {
				t.Fatal(err)
			}
			w.later(48 * time.Hour)
			w.restart()
			w.rest()
			w.step()
			p = w.read(p.ID)
			if !p.State.Terminal() || !p.StillHeld().IsZero() || !p.Captured.IsZero() {
				t.Errorf("it is %s, holds %s, captured %s", p.State, p.StillHeld(), p.Captured)
			}
			w.clean()
		})
	}
}

func TestShopsHoldTime(t *testing.T) {
	w := newWorld(t)
	w.shop.Settings = merchant.Settings{Live: true, HoldSeconds: map[string]int64{"uzcard": 90}}
	p := w.paid(w.goodCard(0))
	if p.HoldDeadline != t0.Add(90*time.Second) {
		t.Errorf("held until %s", p.HoldDeadline)
	}
	w.later(90 * time.Second)
	w.step()
	if p = w.read(p.ID); p.State != payment.Voided {
		t.Errorf("it is %s", p.State)
	}
	w.clean()
}

// A payment goes by the shop's tariff as it was when the card was handed in.
func TestShopsTariff(t *testing.T) {
	w := newWorld(t)
	w.shop.Settings = merchant.Settings{Live: true, Tariff: merchant.Tariff{ID: 7, ByMethod: map[string]merchant.Fee{"uzcard": {Rate: 20_000, Minimum: 5_000, Back: true}}}}
	p := w.paid(w.goodCard(0))
	w.shop.Settings = merchant.Settings{}
	p = w.must(w.decide(p.ID, payment.Capture, 0))(payment.Captured)
	if want := (payment.FeeTerms{TariffID: 7, Rate: 20_000, Minimum: 5_000, Back: true}); p.Attempt.Fee != want || p.Fee != uzs(5_000) {
		t.Errorf("the fee is %s by %+v", p.Fee, p.Attempt.Fee)
	}
	w.refund(p.ID, "r1", total/2)
	if p = w.read(p.ID); p.Fee != uzs(2_500) {
		t.Errorf("the fee of half of it is %s", p.Fee)
	}
	w.clean()
}

// A code that nobody asks for is refused, whatever the payment is at, and no centre hears of it.
func TestCodeNobodyAsksFor(t *testing.T) {
	w := newWorld(t)
	created, held := w.prepare(), w.paid(w.goodCard(0))
	w.watch(nil, func(method string) { t.Errorf("%s was called", method) })
	for _, p := range []payment.Payment{created, held} {
		if _, err := w.gateway.SubmitCode(t.Context(), p.ID, 1, "123456"); reason(err) == "" {
			t.Errorf("%s: %v", p.State, err)
		}
		w.must(w.read(p.ID), nil)(p.State)
	}
	w.watch(nil, nil)
	w.clean()
}

func TestCentreNotConnected(t *testing.T) {
	w := newWorld(t)
	p := w.prepare()
	card := handedIn(w.goodCard(0))
	card.Method = payment.Humo
	if _, err := w.gateway.Pay(t.Context(), w.shop, p.ID, card); reason(err) != payment.MethodNotAllowed {
		t.Errorf("%v", err)
	}
	// Test payments go to the test centres, and there are none.
	test := w.prepare(func(t *payment.Terms) { t.Test = true })
	if _, err := w.pay(test.ID, w.goodCard(0)); reason(err) != payment.MethodNotAllowed {
		t.Errorf("a test payment at the live centre: %v", err)
	}
	// After a restart without its centre, a question stays in doubt and is not guessed.
	held := w.paid(w.goodCard(0))
	w.gateway = gateway.New(gateway.Config{Store: w.store, HoldFor: holdFor})
	got, err := w.decide(held.ID, payment.Capture, 0)
	if err != nil || got.Open == nil || got.Open.Outcome != payment.Unknown {
		t.Errorf("%s, open %+v, %v", got.State, got.Open, err)
	}
	w.restart()
	w.rest()
	w.must(w.read(held.ID), nil)(payment.Captured)
	w.clean()
}

func TestNobodyThere(t *testing.T) {
	w := newWorld(t)
	none := payment.ID{1}
	_, pay := w.pay(none, w.goodCard(0))
	_, resend := w.gateway.Resend(t.Context(), none, payment.Card{})
	_, submit := w.gateway.SubmitCode(t.Context(), none, 1, "123456")
	_, decide := w.gateway.Decide(t.Context(), none, payment.Capture, money.Amount{}, payment.ByMerchant)
	for name, err := range map[string]error{"pay": pay, "resend": resend, "submit": submit, "decide": decide} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A caller who goes away in the middle: what was begun is done to its end.
func TestCallerGoesAway(t *testing.T) {
	for _, point := range []gateway.Point{gateway.QuestionCommitted, gateway.Answered, gateway.AnswerCommitted} {
		t.Run(fmt.Sprint(point), func(t *testing.T) {
			w := newWorld(t)
			card := w.goodCard(0)
			p := w.prepare()
			p = w.must(w.pay(p.ID, card))(payment.Challenged)
			ctx, cancel := context.WithCancel(t.Context())
			w.watch(func(at gateway.Point, _ payment.ID) {
				if at == point {
					cancel()
				}
			}, nil)
			p, err := w.gateway.SubmitCode(ctx, p.ID, p.Attempt.Challenge.VerifyID, payment.OTP(w.code(card)))
			w.must(p, err)(payment.Held)
			w.clean()
		})
	}
}
