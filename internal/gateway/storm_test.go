package gateway_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// 100 callers decide at once, and the deadline is about to pass: one decision, equal answers to
// equal requests, and everybody else is told which decision stands.
func TestStormOfDecisions(t *testing.T) {
	const callers = 100
	type request struct {
		accept payment.Accept
		sum    int64
		by     payment.By
	}
	requests := []request{
		{payment.Capture, 0, payment.ByMerchant}, {payment.Capture, total, payment.ByNotification}, {payment.Capture, 60_000, payment.ByCallback},
		{payment.Capture, 1, payment.ByOperator}, {payment.Cancel, 0, payment.ByMerchant}, {payment.Capture, total + 1, payment.ByMerchant},
	}
	onEachEngine(t, func(t *testing.T, newWorld func() *world) {
		storms, decisions := 0, 0
		for _, beforeDeadline := range []time.Duration{time.Minute, time.Microsecond, 0} {
			rounds := stormRounds(t, 3)
			if underRace {
				rounds = stormRounds(t, 1)
			}
			for round := range rounds {
				t.Run(fmt.Sprintf("%s before the deadline, round %d", beforeDeadline, round), func(t *testing.T) {
					w := newWorld()
					p := w.paid(w.goodCard(0))
					w.set(p.HoldDeadline.Add(-beforeDeadline))
					answers := make([]payment.Payment, callers)
					errs := make([]error, callers)
					of := func(i int) request { return requests[(i+round)%len(requests)] }
					together(callers+2, func(i int) {
						switch i {
						case callers:
							w.later(time.Microsecond)
						case callers + 1:
							for i := range len(w.others) + 1 {
								if _, err := w.door(i).Step(t.Context()); err != nil {
									t.Error(err)
								}
							}
						default:
							r := of(i)
							amount := money.Amount{}
							if r.sum > 0 {
								amount = uzs(r.sum)
							}
							answers[i], errs[i] = w.door(i).Decide(t.Context(), p.ID, r.accept, amount, r.by)
						}
					})
					w.step()
					p = w.read(p.ID)
					d := p.Decision
					if d == nil || p.Open != nil || !p.State.Terminal() {
						t.Fatalf("it is %s, open %v, decided %v", p.State, p.Open, d)
					}
					won, late, named := 0, 0, 0
					for i := range callers {
						r := of(i)
						sum := r.sum
						if r.accept == payment.Capture && sum == 0 {
							sum = total
						}
						same := d.Accept == r.accept && d.Amount == uzs(sum)
						var refused *payment.Error
						switch {
						case errs[i] == nil:
							won++
							if !same {
								t.Errorf("%+v was taken, the decision is %+v", r, d)
							}
							if diff := cmp.Diff(p, answers[i]); diff != "" {
								t.Errorf("an answer is not what is stored:\n%s", diff)
							}
						case errors.As(errs[i], &refused) && refused.Reason == payment.DecisionStands:
							named++
							if same {
								t.Errorf("%+v is the decision, and is refused: %v", r, errs[i])
							}
							if refused.Decision == nil || *refused.Decision != *d {
								t.Errorf("told of the decision %+v, it is %+v", refused.Decision, d)
							}
						case errors.As(errs[i], &refused) && refused.Reason == payment.DeadlinePassed:
							late++
						case errors.As(errs[i], &refused) && refused.Reason == payment.AmountAboveHold && r.sum > total:
						default:
							t.Errorf("%+v: %v", r, errs[i])
						}
					}
					if d.By == payment.ByDeadline && d.At.Before(p.HoldDeadline) || d.By != payment.ByDeadline && !d.At.Before(p.HoldDeadline) {
						t.Errorf("%s decided at %s, the deadline is %s", d.By, d.At, p.HoldDeadline)
					}
					if beforeDeadline == time.Minute && (won == 0 || late > 0) || beforeDeadline == 0 && d.By != payment.ByDeadline {
						t.Errorf("%d got what they asked for, %d came too late, %d were told of %s", won, late, named, d.By)
					}
					made := w.made()
					if made["capture"]+made["void"] != 1 {
						t.Errorf("the centre did %v", made)
					}
					w.clean()
					storms++
					decisions += made["capture"] + made["void"]
				})
			}
		}
		t.Logf("figures: storm: %s: %d storms of %d callers and the deadline, %d decisions at the centre; doubled %d", t.Name(), storms, callers, decisions, decisions-storms)
	})
}

// From 50 ms before to 50 ms after the deadline, in steps of 1 ms: a capture and the deadline meet,
// and a late capture is never accepted.
func TestEdgeOfTheDeadline(t *testing.T) {
	onEachEngine(t, func(t *testing.T, newWorld func() *world) {
		w := newWorld()
		const first, last = -50, 50
		var payments []payment.Payment
		for range last - first + 1 {
			w.later(time.Second) // so that no two deadlines are near each other
			payments = append(payments, w.paid(w.goodCard(0)))
		}
		for i, p := range payments {
			off := time.Duration(first+i) * time.Millisecond
			w.set(p.HoldDeadline.Add(off))
			var answer payment.Payment
			var err error
			together(2, func(who int) {
				// With two gateways the capture comes to one and the deadline is kept by the other, in turn.
				if who == 0 {
					answer, err = w.door(i).Decide(t.Context(), p.ID, payment.Capture, uzs(60_000), payment.ByMerchant)
				} else if _, err := w.door(i + 1).Step(t.Context()); err != nil {
					t.Error(err)
				}
			})
			w.step()
			p = w.read(p.ID)
			switch {
			case off < 0 && (err != nil || p.State != payment.Captured || p.Captured != uzs(60_000) || p.Decision.By != payment.ByMerchant):
				t.Errorf("%s: %s, %v", off, p.State, err)
			case off < 0 && !cmp.Equal(p, answer):
				t.Errorf("%s: the answer is not what is stored:\n%s", off, cmp.Diff(p, answer))
			case off >= 0 && (p.State != payment.Voided || p.Decision.By != payment.ByDeadline):
				t.Errorf("%s: %s, decided %+v", off, p.State, p.Decision)
			case off >= 0 && reason(err) != payment.DeadlinePassed && reason(err) != payment.DecisionStands:
				t.Errorf("%s: the late capture got %v", off, err)
			}
		}
		if made := w.made(); made["capture"] != -first || made["void"] != last+1 {
			t.Errorf("the centre did %v", made)
		}
		t.Logf("figures: edge: %s: %d deadlines: %d captured before, %d let go, 0 late captures accepted", t.Name(), len(payments), -first, last+1)
		w.clean()
	})
}

// A double click is one attempt: one code, one verification, and with the code one hold.
func TestDoubleClicks(t *testing.T) {
	w := newWorld(t)
	card := w.goodCard(1)
	p := w.prepare()
	const callers = 30
	verifications := make([]int64, callers)
	together(callers, func(i int) {
		p, err := w.pay(p.ID, card)
		if err != nil || p.State != payment.Challenged || p.Open != nil {
			t.Errorf("%s, %v", p.State, err)
			return
		}
		verifications[i] = p.Attempt.Challenge.VerifyID
	})
	slices.Sort(verifications)
	if len(slices.Compact(verifications)) != 1 || len(w.sim.SMS(card.Phone)) != 1 || w.read(p.ID).Attempts != 1 {
		t.Fatalf("%d codes were sent, %d attempts counted, verifications %v", len(w.sim.SMS(card.Phone)), w.read(p.ID).Attempts, verifications)
	}
	p = w.read(p.ID)
	code := w.code(card)
	answers := make([]payment.Payment, callers)
	together(callers, func(i int) {
		var err error
		if answers[i], err = w.submit(p, code); err != nil {
			t.Error(err)
		}
	})
	for _, a := range answers {
		if diff := cmp.Diff(w.read(p.ID), a); diff != "" {
			t.Fatalf("an answer is not what is stored:\n%s", diff)
		}
	}
	if made := w.made(); made["hold"] != 1 || answers[0].State != payment.Held {
		t.Errorf("it is %s, the centre did %v", answers[0].State, made)
	}
	w.clean()
}

// Different cards at once: one is tried, the others are told that it is busy, and can come again.
func TestTwoCardsAtOnce(t *testing.T) {
	w := newWorld(t)
	p := w.prepare()
	var tried, busy atomic.Int32
	together(20, func(i int) {
		_, err := w.pay(p.ID, w.goodCard(i%5))
		switch reason(err) {
		case payment.Busy:
			busy.Add(1)
		case payment.AttemptsUsedUp, "", "<nil>":
			tried.Add(1)
		default:
			t.Error(err)
		}
	})
	p = w.read(p.ID)
	sent := 0
	for i := range 5 {
		sent += len(w.sim.SMS(w.goodCard(i).Phone))
	}
	if p.Attempts != sent || p.Attempts < 1 || p.Attempts > payment.MaxAttempts || tried.Load() < 1 {
		t.Errorf("%d attempts, %d codes; %d tried, %d busy", p.Attempts, sent, tried.Load(), busy.Load())
	}
	w.clean()
}

// Many payers and shops at once, each on a payment of his own, all with the same card.
func TestCrowd(t *testing.T) {
	w := newWorld(t)
	card := w.goodCard(0)
	const payments = 64
	ids := make([]payment.ID, payments)
	for i := range ids {
		ids[i] = w.prepare(func(t *payment.Terms) { t.AutoCapture = i%4 == 0 }).ID
	}
	together(payments, func(i int) {
		p, err := w.pay(ids[i], card)
		if err == nil {
			p, err = w.submit(p, card.FixedOTP)
		}
		if err == nil && !p.Terms.AutoCapture {
			accept, sum := payment.Capture, int64(1000*(i+1))
			if i%4 == 1 {
				accept, sum = payment.Cancel, 0
			}
			p, err = w.decide(p.ID, accept, sum)
		}
		if err != nil || !p.State.Terminal() {
			t.Errorf("payment %d: %s, %v", i, p.State, err)
		}
	})
	want := map[string]int{"charge": 16, "hold": 48, "void": 16, "capture": 32}
	if diff := cmp.Diff(want, w.made()); diff != "" {
		t.Errorf("the centre did (-want +got):\n%s", diff)
	}
	w.clean()
}
