package processortest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// threeDS: the payer proves himself at his bank, within the hold or charge. Whatever his browser brings
// back, and whatever is lost on the way, money moves once and only if his bank has said so to the centre.
func threeDS(t *testing.T, exam Exam) {
	if r := exam.enter(t); !r.caps.ThreeDS {
		return // the payer proves himself by a code: see the other questions
	}
	for _, kind := range []payment.Kind{payment.OpHold, payment.OpCharge} {
		for _, question := range []struct {
			name string
			ask  func(*visit)
		}{
			{"passed", passed},
			{"method time-out", func(v *visit) { v.through(MethodTimeout, true) }},
			{"frictionless", func(v *visit) { v.through(Frictionless, false) }},
			{"attempt", func(v *visit) { v.through(Attempt, false) }},
			{"failed", func(v *visit) { v.turnedAway(FailsAtBank, true) }},
			{"unavailable", func(v *visit) { v.turnedAway(BankUnable, false) }},
			{"rejected", func(v *visit) { v.turnedAway(BankRejects, false) }},
			{"abandoned", abandoned},
			{"forged return", forgedReturn},
			{"double return", doubleReturn},
			{"an inquiry meanwhile", inquiryMeanwhile},
			{"another card afterwards", anotherCard},
			{"too late", tooLate},
		} {
			t.Run(string(kind)+"/"+question.name, func(t *testing.T) {
				t.Parallel()
				question.ask(&visit{room: exam.enter(t), kind: kind})
			})
		}
		spoiltSteps(t, exam, kind)
	}
}

// visit is one payment with a payer at his bank.
type visit struct {
	*room
	kind payment.Kind
}

// begin has the first question asked.
func (v *visit) begin(b Behaviour, n int) (*deal, *payment.Operation, payment.Answer) {
	v.Helper()
	d := v.deal(v.card(b, n), v.sum(1000))
	op := d.begin(v.kind, d.amount)
	return d, op, d.ask(d.Context(), op, payment.Send)
}

// made and nothing are what the books must say.
func (v *visit) made(d *deal) {
	v.Helper()
	if v.kind == payment.OpCharge {
		d.books(none, d.amount)
		return
	}
	d.books(d.amount, none)
}

func (v *visit) nothing(d *deal) {
	v.Helper()
	d.books(none, none)
}

// toChallenge brings a payer to his bank's page, which he has not used yet.
func (v *visit) toChallenge(b Behaviour, n int) (*deal, *payment.Operation) {
	v.Helper()
	d, op, a := v.begin(b, n)
	for range maxSteps {
		if a.Outcome != payment.ChallengeGiven || a.Step == "" {
			break
		}
		if a.Step == payment.StepChallenge {
			return d, op
		}
		d.browse()
		a = d.ask(d.Context(), op, payment.Continue)
	}
	v.Fatalf("%s: %+v, the payer was to be sent to his bank", v.kind, a)
	return nil, nil
}

// pass has the payer do the step that he is at, and come back.
func (v *visit) pass(d *deal, op *payment.Operation) payment.Answer {
	v.Helper()
	if !d.browse() {
		v.Fatal("the payer did not come back")
	}
	return d.ask(d.Context(), op, payment.Continue)
}

func passed(v *visit) {
	d, op := v.toChallenge(Good, 0)
	v.nothing(d)
	if a := v.pass(d, op); a.Outcome != payment.Approved {
		v.Fatalf("%+v, it was to be approved", a)
	}
	d.again(op)
	v.made(d)
	if v.kind == payment.OpHold {
		d.again(d.must(payment.OpCapture, d.part()))
		d.books(none, d.part())
	}
}

// through: the payment works, and the payer is asked or not.
func (v *visit) through(b Behaviour, challenged bool) {
	for i := range v.Cards(b) {
		d, op, a := v.begin(b, i)
		asked := false
		for range maxSteps {
			if a.Outcome != payment.ChallengeGiven || a.Step == "" {
				break
			}
			asked = asked || a.Step == payment.StepChallenge
			a = v.pass(d, op)
		}
		if a.Outcome != payment.Approved || asked != challenged {
			v.Errorf("%+v, it was to be approved; the payer was asked: %v", a, asked)
		}
		d.again(op)
		v.made(d)
	}
	if len(v.Cards(b)) == 0 {
		v.Fatalf("the centre has no %s card, and the exam needs one", b)
	}
}

// turnedAway: the bank says no, before or after it has asked the payer.
func (v *visit) turnedAway(b Behaviour, challenged bool) {
	for i := range v.Cards(b) {
		d, op, a := v.begin(b, i)
		asked := false
		for range maxSteps {
			if a.Outcome != payment.ChallengeGiven || a.Step == "" {
				break
			}
			asked = asked || a.Step == payment.StepChallenge
			a = v.pass(d, op)
		}
		refused := func(a payment.Answer) {
			v.Helper()
			if a.Outcome != payment.Refused || a.Reason != payment.AuthenticationFailed || asked != challenged {
				v.Errorf("%+v, it was to be refused with %s; the payer was asked: %v", a, payment.AuthenticationFailed, asked)
			}
		}
		refused(a)
		refused(d.ask(d.Context(), op, payment.Query))
		if asked { // who comes back once more gets no further
			if a = d.ask(d.Context(), op, payment.Continue); a.Outcome != payment.Refused && a.Outcome != payment.Unknown {
				v.Errorf("%+v, after the bank has said no", a)
			}
		}
		v.nothing(d)
	}
	if len(v.Cards(b)) == 0 {
		v.Fatalf("the centre has no %s card, and the exam needs one", b)
	}
}

// abandoned: the payer goes away, at each step. While he could come back nothing is decided; when his time
// is over the payment is refused, and stays so.
func abandoned(v *visit) {
	end := func(d *deal, op *payment.Operation) {
		v.Helper()
		for d.Now().Before(d.expiresAt.Add(-time.Minute)) {
			d.Advance(2 * time.Minute)
			if !d.Now().Before(d.expiresAt.Add(-time.Second)) {
				break
			}
			if a := d.ask(d.Context(), op, payment.Query); a.Outcome != payment.ChallengeGiven {
				v.Errorf("%+v, the payer could still come back", a)
			}
		}
		d.Advance(d.expiresAt.Add(time.Minute).Sub(d.Now()))
		if a := d.ask(d.Context(), op, payment.Query); a.Outcome != payment.Refused || a.Reason != payment.AuthenticationFailed {
			v.Errorf("%+v, the payer's time is over", a)
		}
		if a := d.ask(d.Context(), op, payment.Continue); a.Outcome == payment.Approved || a.Outcome == payment.ChallengeGiven {
			v.Errorf("%+v, the payer came back too late", a)
		}
		v.nothing(d)
	}
	d, op := v.toChallenge(Good, 0)
	end(d, op)
	d, op, a := v.begin(Good, 1)
	if a.Step == payment.StepMethod {
		end(d, op)
	}
	for i := range v.Cards(WalksAway) {
		d, op := v.toChallenge(WalksAway, i)
		if d.browse() {
			v.Error("the payer was to go away")
		}
		end(d, op)
	}
}

// forgedReturn: somebody's browser comes back although his bank has not let him pass.
func forgedReturn(v *visit) {
	d, op := v.toChallenge(Good, 0)
	for range 3 {
		if a := d.ask(d.Context(), op, payment.Continue); a.Outcome != payment.ChallengeGiven && a.Outcome != payment.Unknown {
			v.Fatalf("%+v, and the payer has not passed", a)
		}
		v.nothing(d)
	}
	if a := v.pass(d, op); a.Outcome != payment.Approved {
		v.Errorf("%+v, the payer has passed now", a)
	}
	v.made(d)

	// He comes back from the hidden frame without ever having been there: that proves nothing either.
	d, op, a := v.begin(Good, 1)
	if a.Step == payment.StepMethod {
		if a = d.ask(d.Context(), op, payment.Continue); a.Outcome == payment.Approved {
			v.Errorf("%+v, and the payer has not been asked", a)
		}
		v.nothing(d)
	}
}

// doubleReturn: a reload, a double post, the back button.
func doubleReturn(v *visit) {
	d, op, a := v.begin(Good, 0)
	if a.Step == payment.StepMethod {
		d.browse()
		method := *d.attempt.Challenge
		first := d.ask(d.Context(), op, payment.Continue)
		d.attempt.Challenge = &method // as if both had come before the first was answered
		second := d.ask(d.Context(), op, payment.Continue)
		if first.Step != payment.StepChallenge || second.Outcome != payment.ChallengeGiven {
			v.Fatalf("%+v, then %+v", first, second)
		}
		d.attempt.Challenge = &payment.Challenge{CentreID: first.CentreID, Step: first.Step, URL: first.URL, Data: first.Data}
	}
	if !d.browse() {
		v.Fatal("the payer did not come back")
	}
	const returns = 6
	answers := make([]payment.Answer, returns)
	var all sync.WaitGroup
	for i := range answers {
		same := *op
		all.Go(func() { answers[i] = d.ask(d.Context(), &same, payment.Continue) })
	}
	all.Wait()
	for _, a := range answers {
		if a.Outcome != payment.Approved && a.Outcome != payment.Unknown {
			v.Errorf("one of %d returns at once: %+v", returns, a)
		}
	}
	if a = d.ask(d.Context(), op, payment.Continue); a.Outcome != payment.Approved && a.Outcome != payment.Unknown {
		v.Errorf("a return after the end: %+v", a)
	}
	d.again(op)
	v.made(d)
	if now := d.Standing(d.card.Number); v.kind == payment.OpHold && now.Made != d.before.Made+1 {
		v.Errorf("%d holds were made", now.Made-d.before.Made)
	}
}

// inquiryMeanwhile: a payer at his bank is left in peace.
func inquiryMeanwhile(v *visit) {
	d, op, a := v.begin(Good, 0)
	for range maxSteps {
		if a.Outcome != payment.ChallengeGiven || a.Step == "" {
			break
		}
		d.Advance(30 * time.Second)
		if found := d.ask(d.Context(), op, payment.Query); found.Outcome != payment.ChallengeGiven {
			v.Errorf("at the %s: %+v", a.Step, found)
		}
		v.nothing(d)
		if !d.browse() {
			v.Fatal("the payer did not come back")
		}
		if found := d.ask(d.Context(), op, payment.Query); found.Outcome == payment.Refused || found.Outcome == payment.NeverSeen {
			v.Errorf("after the %s: %+v", a.Step, found)
		}
		a = d.ask(d.Context(), op, payment.Continue)
	}
	if a.Outcome != payment.Approved {
		v.Errorf("%+v, it was to be approved", a)
	}
	v.made(d)
}

// anotherCard: a payer who was turned away pays with another card.
func anotherCard(v *visit) {
	d := v.deal(v.card(FailsAtBank, 0), v.sum(1000))
	if _, a := d.send(v.kind, d.amount); a.Outcome != payment.Refused {
		v.Fatalf("%+v", a)
	}
	v.nothing(d)
	d.card, d.before = v.card(Good, 0), v.Standing(v.card(Good, 0).Number)
	d.attempt = payment.Attempt{Processor: v.Processor.Name(), Card: d.card.Facts(payment.BuiltInCards()), HoldFor: 1800}
	d.must(v.kind, d.amount)
	v.made(d)
}

// tooLate: no order is begun that the payer could not pay in time.
func tooLate(v *visit) {
	for i, left := range []time.Duration{0, -time.Second, -time.Hour} {
		d := v.deal(v.card(Good, i), v.sum(1000))
		op := d.begin(v.kind, d.amount)
		d.expiresAt = d.Now().Add(left)
		if a := d.ask(d.Context(), op, payment.Send); a.Outcome != payment.Refused {
			v.Errorf("%v before the end: %+v", left, a)
		}
		v.nothing(d)
	}
}

// spoiltSteps: each fault at each call of each step, with a payer who tries again as long as he can and
// one who does not.
func spoiltSteps(t *testing.T, exam Exam, kind payment.Kind) {
	const calls = 8 // more than any question makes
	behaviours := []Behaviour{Good, Frictionless, FailsAtBank}
	for _, step := range []payment.Step{"", payment.StepMethod, payment.StepChallenge} {
		for n := range calls {
			spot := Spot{step, n}
			if r := exam.enter(t); !r.FaultAt(kind, spot, RequestLost) {
				break
			}
			for _, f := range faults {
				for _, b := range behaviours {
					for _, stubborn := range []bool{true, false} {
						if b != Good && !stubborn || slow(f.Fault) && (b != Good || !stubborn) {
							continue // that shows nothing new
						}
						name := fmt.Sprintf("%s/step %s, call %d/%s/%s/%v", kind, step, n, f.Fault, b, map[bool]string{true: "stubborn", false: "gone"}[stubborn])
						t.Run(name, func(t *testing.T) {
							t.Parallel()
							v := &visit{room: exam.enter(t, f.Fault), kind: kind}
							if len(v.Cards(b)) == 0 || !v.FaultAt(kind, spot, f.Fault) {
								return // that cannot happen there
							}
							v.endure(b, spot, stubborn)
						})
					}
				}
			}
		}
	}
}

// endure goes through a payment of which one call is spoiled. A stubborn payer does his step once more
// whenever nothing is decided.
func (v *visit) endure(b Behaviour, spot Spot, stubborn bool) {
	d, op, a := v.begin(b, 0)
	ended, steps := false, 0
	for asked := 0; asked < 40 && !ended; asked++ {
		again := a.Outcome == payment.ChallengeGiven && (a.Step != "" || stubborn && d.attempt.Challenge != nil)
		switch {
		case a.Outcome == payment.Approved || a.Outcome == payment.Refused:
			ended = true
		case a.Outcome == payment.NeverSeen && d.Now().Sub(op.SentAt) >= d.caps.Shown[op.Kind]:
			ended = true
		case again && steps < 8 && d.Now().Before(d.expiresAt):
			steps++
			d.browse()
			a = d.ask(d.Context(), op, payment.Continue)
		default:
			i := slices.IndexFunc(inquiries, func(after time.Duration) bool { return op.BegunAt.Add(after).After(d.Now()) })
			if i < 0 {
				v.Fatalf("no end to it: %+v", a)
			}
			d.Advance(op.BegunAt.Add(inquiries[i]).Sub(d.Now()))
			a = d.ask(d.Context(), op, payment.Query)
		}
	}
	if !ended {
		v.Fatalf("no end to it: %+v", a)
	}
	d.Advance(time.Hour) // nothing comes late
	d.believe(op, a)
	if now := d.Standing(d.card.Number); v.kind == payment.OpHold && now.Made > d.before.Made+1 {
		v.Errorf("%d holds were made", now.Made-d.before.Made)
	}
	switch {
	case b == FailsAtBank && a.Outcome == payment.Approved:
		v.Errorf("the payer did not pass: %+v", a)
	case b == Good && stubborn && spot.Step != "" && a.Outcome != payment.Approved:
		v.Errorf("the payer was sent to his bank, and tried until it worked: %+v", a)
	case a.Outcome != payment.Approved:
		// His next try is a payment like any other.
		d.before, d.taken = d.Standing(d.card.Number), money.Amount{}
		d.attempt = payment.Attempt{Processor: v.Processor.Name(), Card: d.card.Facts(payment.BuiltInCards()), HoldFor: 1800}
		if _, a = d.send(v.kind, d.amount); (a.Outcome == payment.Approved) == (b == FailsAtBank) {
			v.Errorf("the next try: %+v", a)
		}
		d.believe(op, a)
	}
}
