package processortest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// Run is the exam.
func Run(t *testing.T, exam Exam) {
	for _, question := range []struct {
		name string
		ask  func(*room)
	}{
		{"capabilities", capabilities},
		{"two stages", twoStages},
		{"one stage", oneStage},
		{"captures", captures},
		{"a decision after another", secondDecision},
		{"said twice", saidTwice},
		{"memory", memory},
		{"codes", codes},
		{"cards", cards},
		{"odd cards", oddCards},
		{"the centre's hold outlives ours", outlives},
		{"a hold that lapsed", lapsed},
		{"nobody listens", nobodyListens},
		{"the store is down", storeDown},
		{"a crowd", crowd},
		{"at once", atOnce},
		{"refunds", refunds},
		{"currencies", currencies},
	} {
		t.Run(question.name, func(t *testing.T) {
			t.Parallel()
			question.ask(exam.enter(t))
		})
	}
	t.Run("given up", func(t *testing.T) {
		t.Parallel()
		givenUp(exam.enter(t, Slow))
	})
	t.Run("twins", func(t *testing.T) { twins(t, exam) })
	t.Run("faults", func(t *testing.T) { spoiltRequests(t, exam) })
	t.Run("faults of inquiries", func(t *testing.T) { spoiltInquiries(t, exam) })
	t.Run("faults of repetitions", func(t *testing.T) { spoiltRepetitions(t, exam) })
	t.Run("any day", func(t *testing.T) { anyDay(t, exam) })
	t.Run("3-D Secure", func(t *testing.T) { threeDS(t, exam) })
}

var none money.Amount

// part is what is captured of a deal: less than all, where the centre can.
func (d *deal) part() money.Amount {
	if !d.caps.PartialCapture || !d.caps.ReleasesRest {
		return d.amount
	}
	return money.New(d.amount.Minor*3/5, d.amount.Currency)
}

// amountFor is the sum of an operation of the kind.
func (d *deal) amountFor(kind payment.Kind) money.Amount {
	switch {
	case kind == payment.OpCapture:
		return d.part()
	case kind == payment.OpRefund && d.caps.PartialRefund:
		return money.New(d.taken.Minor/3, d.amount.Currency)
	case kind == payment.OpRefund:
		return d.taken
	}
	return d.amount
}

// neverMade reports whether an answer says that a hold or charge was not made: the centre does not know
// it, or, where the payer had to go to his bank for it, it ended without him.
func (d *deal) neverMade(a payment.Answer) bool {
	return a.Outcome == payment.NeverSeen || d.caps.ThreeDS && a.Outcome == payment.Refused
}

// again asks what became of an operation that was approved: the centre must not change its mind.
func (d *deal) again(op *payment.Operation) {
	d.Helper()
	if a := d.ask(d.Context(), op, payment.Query); a.Outcome != payment.Approved {
		d.Errorf("an approved %s, asked about: %+v", op.Kind, a)
	}
}

func capabilities(r *room) {
	if r.Processor.Name() == "" {
		r.Error("no name")
	}
	if r.caps.Answer <= 0 || r.caps.LongestHold <= 0 {
		r.Errorf("a bounded answer and a bounded hold are needed: %+v", r.caps)
	}
	if r.caps.Remembers < r.caps.LongestHold {
		r.Errorf("a hold of %v may be asked about to its end, and the centre's word is good for %v only", r.caps.LongestHold, r.caps.Remembers)
	}
	if r.caps.SeveralCaptures && (!r.caps.PartialCapture || r.caps.ReleasesRest) {
		r.Errorf("what is given back cannot be captured: %+v", r.caps)
	}
	for _, kind := range []payment.Kind{payment.OpHold, payment.OpCharge} {
		if r.caps.Shown[kind] <= 0 {
			// The payer's consent was for one try, so never seen ends it: it must not come too early.
			r.Errorf("a %s is never sent again: Shown must say when the centre's “never seen” is proof", kind)
		}
	}
	if r.caps.ThreeDS && (r.Browser == nil || r.FaultAt == nil) {
		r.Error("3-D Secure is examined with Browser and FaultAt")
	}
	if r.caps.ThreeDS && r.caps.SendsCode {
		r.Error("a payer proves himself by a code or at his bank, not by both")
	}
}

// currencies: what the contract is not for is refused, and nothing moves.
func currencies(r *room) {
	if !slices.Contains(r.caps.Currencies, r.currency) {
		r.Fatalf("the exam is in %s, declared are %v", r.currency, r.caps.Currencies)
	}
	for _, c := range money.Currencies {
		if slices.Contains(r.caps.Currencies, c) {
			continue
		}
		for _, kind := range []payment.Kind{payment.OpHold, payment.OpCharge} {
			d := r.deal(r.card(Good, 0), r.sum(1000))
			d.identify()
			if _, a := d.send(kind, money.New(1000_00, c)); a.Outcome != payment.Refused || a.Reason != payment.Unsupported {
				d.Errorf("a %s in %s: %+v, it was to be refused with %s", kind, c, a, payment.Unsupported)
			}
			d.books(none, none)
		}
	}
}

func twoStages(r *room) {
	for i, capture := range []int64{1000, 1, 999} {
		if capture != 1000 && (!r.caps.PartialCapture || !r.caps.ReleasesRest) {
			continue
		}
		d := r.deal(r.card(Good, i), r.sum(1000))
		d.identify()
		hold := d.must(payment.OpHold, d.amount)
		d.again(hold)
		d.byReference(*hold)
		d.books(d.amount, none)
		d.again(d.must(payment.OpCapture, r.sum(capture)))
		d.books(none, r.sum(capture))
	}
	d := r.deal(r.card(Good, 0), r.sum(1000))
	d.identify()
	d.must(payment.OpHold, d.amount)
	d.again(d.must(payment.OpVoid, d.amount))
	d.books(none, none)
}

// byReference asks about a hold as who knows its reference only: that finds it, or, where the centre takes none for a hold, proves nothing.
func (d *deal) byReference(hold payment.Operation) {
	d.Helper()
	known, want := d.attempt, payment.Approved
	d.attempt.Centre, d.attempt.Challenge = payment.Centre{}, nil
	if d.caps.HoldUnnamed {
		want = payment.Unknown
	}
	if a := d.ask(d.Context(), &hold, payment.Query); a.Outcome != want {
		d.Errorf("HoldUnnamed is %v, and a hold asked about by its reference alone is: %+v", d.caps.HoldUnnamed, a)
	}
	d.attempt = known
}

func oneStage(r *room) {
	d := r.deal(r.card(Good, 0), r.sum(1000))
	d.identify()
	d.again(d.must(payment.OpCharge, d.amount))
	d.books(none, d.amount)
}

// captures: whether less than was held may be captured, how often, and who gives back what is left.
func captures(r *room) {
	d := r.deal(r.card(Good, 0), r.sum(1000))
	d.prepare(payment.OpCapture)
	if !r.caps.PartialCapture {
		op, a := d.send(payment.OpCapture, r.sum(600))
		if a, ended := d.pursue(op, a); !ended || a.Outcome != payment.Refused || a.Reason != payment.Unsupported {
			d.Errorf("a capture of a part: %+v, it was to be refused with %s", a, payment.Unsupported)
		}
		d.books(d.amount, none)
		d.must(payment.OpCapture, d.amount)
		d.books(none, d.amount)
		return
	}
	first := d.must(payment.OpCapture, r.sum(600))
	stands := func(held, taken int64, takings int) {
		d.Helper()
		d.Advance(time.Minute)
		now := d.Standing(d.card.Number)
		if now.Held-d.before.Held != held*100 || now.Taken-d.before.Taken != taken*100 || now.Takings-d.before.Takings != takings {
			d.Errorf("of 1000.00 the centre's books hold %d.00 and have %d.00 taken by %d captures, declared are %+v", held, taken, takings, r.caps)
			d.Errorf("they say %+v, before it was %+v", now, d.before)
		}
	}
	rest := int64(400)
	if r.caps.ReleasesRest {
		rest = 0
	}
	stands(rest, 600, 1)
	// Another sum: a centre without our reference takes the same one for the first.
	op, a := d.send(payment.OpCapture, r.sum(300))
	a, _ = d.pursue(op, a)
	switch {
	case r.caps.SeveralCaptures && a.Outcome != payment.Approved:
		d.Errorf("a second capture: %+v, several are declared", a)
	case r.caps.SeveralCaptures:
		rest = 100
		stands(rest, 900, 2)
	case a.Outcome == payment.Approved:
		d.Errorf("a second capture: %+v, one is declared", a)
	default: // refused or not known for good: the gateway never asks for one
		stands(rest, 600, 1)
		d.again(first)
	}
	if rest > 0 {
		d.must(payment.OpVoid, r.sum(rest))
		now := d.Standing(d.card.Number)
		if now.Held != d.before.Held {
			d.Errorf("the rest was let go of, and the centre's books say %+v", now)
		}
	}
}

// memory: for as long as the centre is declared to remember, it finds what it did, and does not do it again.
func memory(r *room) {
	for i, kind := range []payment.Kind{payment.OpCharge, payment.OpCapture, payment.OpVoid, payment.OpRefund} {
		d := r.deal(r.card(Good, i), r.sum(1000))
		d.prepare(kind)
		op := d.must(kind, d.amountFor(kind))
		d.Advance(op.SentAt.Add(r.caps.Remembers).Sub(d.Now()))
		d.again(op)
		if repeatable(kind) {
			if a := d.ask(d.Context(), op, payment.Send); a.Outcome == payment.Refused {
				d.Errorf("a %s that was done long ago, sent again: %+v", kind, a)
			}
			d.again(op)
		}
		d.books(none, d.taken)
	}
}

// secondDecision: what was captured is not let go of, what was let go of is not captured.
func secondDecision(r *room) {
	d := r.deal(r.card(Good, 0), r.sum(1000))
	d.prepare(payment.OpCapture)
	d.must(payment.OpVoid, d.amount)
	op, a := d.send(payment.OpCapture, d.amount)
	if a = d.settle(op, a); a.Outcome != payment.Refused || a.Reason != payment.HoldGone {
		d.Errorf("a capture after a void: %+v, it was to be refused with %s", a, payment.HoldGone)
	}
	d.books(none, none)

	d = r.deal(r.card(Good, 1), r.sum(1000))
	d.prepare(payment.OpCapture)
	d.must(payment.OpCapture, d.amount)
	op, a = d.send(payment.OpVoid, d.amount)
	if a = d.settle(op, a); a.Outcome != payment.Refused || a.Reason == payment.HoldGone {
		d.Errorf("a void after a capture: %+v, it was to be refused, and not with %s: the payer's money is taken", a, payment.HoldGone)
	}
	d.books(none, d.amount)
}

// saidTwice: the same operation sent again, as after a crash, takes effect once.
func saidTwice(r *room) {
	for i, kind := range []payment.Kind{payment.OpCapture, payment.OpVoid, payment.OpRefund} {
		for j, lost := range []bool{false, true} {
			d := r.deal(r.card(Good, (2*i+j)%4), r.sum(1000))
			d.prepare(kind)
			if lost && !r.Fault(kind, payment.Send, AnswerLost, 1) {
				continue
			}
			op, a := d.send(kind, d.amountFor(kind))
			if !lost && a.Outcome != payment.Approved {
				d.Errorf("%s: %+v", kind, a)
			}
			d.Advance(d.caps.Shown[kind]) // not before may it be sent again
			if a = d.ask(d.Context(), op, payment.Send); a.Outcome == payment.Refused {
				d.Errorf("a %s that was done, sent again: %+v", kind, a)
			}
			d.again(op)
			d.books(none, d.taken)
		}
	}
}

func codes(r *room) {
	if r.caps.ThreeDS {
		return // the payer has no codes for us
	}
	d := r.deal(r.card(Good, 0), r.sum(1000))
	d.prepare(payment.OpVerify)
	right := d.code
	if right == "" {
		return // the payer passes without a code
	}
	last := right[len(right)-1]
	d.code = right[:len(right)-1] + payment.OTP('0'+(last-'0'+1)%10)
	if _, a := d.send(payment.OpVerify, d.amount); a.Outcome != payment.Refused || a.Reason != payment.WrongCode {
		d.Errorf("a wrong code: %+v", a)
	}
	for _, odd := range []payment.OTP{"", "x", "12345678901234567890", "12\"}}", "０１２３４５", "\x00\xff"} {
		d.code = odd
		if _, a := d.send(payment.OpVerify, d.amount); a.Outcome != payment.Refused || a.Reason != payment.WrongCode {
			d.Errorf("an odd code: %+v", a)
		}
	}
	d.code = right
	d.must(payment.OpVerify, d.amount)

	d = r.deal(r.card(Good, 1), r.sum(1000))
	d.prepare(payment.OpVerify)
	d.Advance(d.attempt.Challenge.ExpiresAt.Sub(d.Now()) + time.Minute)
	if _, a := d.send(payment.OpVerify, d.amount); a.Outcome != payment.Refused || a.Reason != payment.CodeExpired {
		d.Errorf("a late code: %+v", a)
	}
	d.books(none, none)
}

func cards(r *room) {
	for i := range r.Cards(Blocked) {
		d := r.deal(r.card(Blocked, i), r.sum(1000))
		a := d.introduce()
		if a.Outcome == payment.Approved {
			_, a = d.send(payment.OpHold, d.amount)
		}
		if a.Outcome != payment.Refused || a.Reason != payment.CardBlocked {
			d.Errorf("a blocked card: %+v", a)
		}
		d.books(none, none)
	}
	for _, odd := range []payment.Card{{}, {Number: "1", Expiry: "1"}, {Number: "860031326086\"{", Expiry: "2\"01"}, {Number: "\xff", Expiry: "\x00"}} {
		d := r.deal(odd, r.sum(1000))
		a := d.introduce()
		if a.Outcome == payment.Approved {
			_, a = d.send(payment.OpHold, d.amount)
		}
		if a.Outcome != payment.Refused {
			d.Errorf("no card number: %+v", a)
		}
	}
	for _, kind := range []payment.Kind{payment.OpHold, payment.OpCharge} {
		d := r.deal(r.card(Poor, 0), r.sum(1000))
		d.identify()
		if _, a := d.send(kind, d.amount); a.Outcome != payment.Refused || a.Reason != payment.InsufficientFunds {
			d.Errorf("%s without money: %+v", kind, a)
		}
		d.books(none, none)
	}
}

// oddCards: whatever a card does, what is believed in the end is what the books say. An odd card may
// leave a question open for ever; then nothing must be believed at all.
func oddCards(r *room) {
	for i := range r.Cards(Odd) {
		for _, path := range [][]payment.Kind{
			{payment.OpCharge, payment.OpRefund}, {payment.OpHold, payment.OpCapture, payment.OpRefund}, {payment.OpHold, payment.OpVoid},
		} {
			d := r.deal(r.card(Odd, i), r.sum(1000))
			a := d.introduce()
			for _, kind := range path {
				if a.Outcome != payment.Approved {
					break
				}
				var op *payment.Operation
				var ended bool
				op, a = d.send(kind, d.amountFor(kind))
				if a, ended = d.pursue(op, a); ended {
					d.believe(op, a)
				}
			}
			if r.Failed() {
				r.Fatalf("card %d of the odd ones, %v", i, path)
			}
		}
	}
}

// introduce is identify for a card that may be refused: the last answer about who the payer is.
func (d *deal) introduce() payment.Answer {
	d.Helper()
	if d.caps.ThreeDS {
		return payment.Answer{Outcome: payment.Approved} // that is part of the hold or charge
	}
	a := d.challenge()
	if a.Outcome == payment.ChallengeGiven {
		_, a = d.send(payment.OpVerify, d.amount)
	}
	return a
}

// outlives: the centre keeps its hold until the gateway has had time to let go of it, and keeps one for
// as long as it says it does.
func outlives(r *room) {
	for i, lasts := range []time.Duration{time.Minute, 30 * time.Minute, 24*time.Hour + time.Second, r.caps.LongestHold} {
		d := r.deal(r.card(Good, i), r.sum(1000))
		d.attempt.HoldFor = int64(lasts / time.Second)
		d.identify()
		d.must(payment.OpHold, d.amount)
		d.Advance(d.holdUntil.Add(10 * time.Minute).Sub(d.Now()))
		d.books(d.amount, none)
		d.must(payment.OpVoid, d.amount)
		d.books(none, none)
	}
	for i := range 20 { // whatever the reference
		d := r.deal(r.card(Good, i%4), r.sum(10))
		d.attempt.HoldFor = int64(r.caps.LongestHold / time.Second)
		d.identify()
		d.must(payment.OpHold, d.amount)
		d.must(payment.OpVoid, d.amount)
	}
	d := r.deal(r.card(Good, 0), r.sum(1000))
	d.attempt.HoldFor = int64((r.caps.LongestHold + 4*time.Hour) / time.Second)
	d.identify()
	if _, a := d.send(payment.OpHold, d.amount); a.Outcome != payment.Refused {
		d.Errorf("a hold beyond what the centre keeps: %+v", a)
	}
	d.books(none, none)
}

// lapsed: the centre let go of the hold by itself.
func lapsed(r *room) {
	over := r.caps.LongestHold + 4*time.Hour
	for i, kind := range []payment.Kind{payment.OpCapture, payment.OpVoid} {
		d := r.deal(r.card(Good, i), r.sum(1000))
		d.prepare(kind)
		d.Advance(over)
		op, a := d.send(kind, d.amountFor(kind))
		a = d.settle(op, a)
		if kind == payment.OpCapture && (a.Outcome != payment.Refused || a.Reason != payment.HoldGone) {
			d.Errorf("a capture of a hold that lapsed: %+v, it was to be refused with %s", a, payment.HoldGone)
		}
		d.books(none, none)
	}
	d := r.deal(r.card(Good, 2), r.sum(1000))
	d.prepare(payment.OpHold)
	if r.Fault(payment.OpHold, r.decisive(payment.OpHold), AnswerLost, 1) {
		op, _ := d.send(payment.OpHold, d.amount)
		d.Advance(over)
		if a := d.ask(d.Context(), op, payment.Query); a.Outcome == payment.Approved {
			d.Errorf("a hold that lapsed before it was found: %+v", a)
		}
		d.books(none, none)
	}
}

// twins are two payments of the same card and sum at the same time, which a centre without a
// reference of ours cannot tell apart by itself.
func twins(t *testing.T, exam Exam) {
	meet := func(name string, test func(r *room, a, b *deal)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := exam.enter(t)
			card := r.card(Good, 0)
			a, b := r.deal(card, r.sum(1000)), r.deal(card, r.sum(1000))
			a.identify()
			b.identify()
			test(r, a, b)
		})
	}
	lose := func(d *deal, f Fault) *payment.Operation {
		if !d.Fault(payment.OpHold, d.decisive(payment.OpHold), f, 1) {
			d.Fatalf("%s cannot be arranged, and a hold must be tried with it", f)
		}
		op, a := d.send(payment.OpHold, d.amount)
		if a.Outcome != payment.Unknown {
			d.Fatalf("%s: %+v", f, a)
		}
		return op
	}
	settled := func(d *deal, op *payment.Operation) payment.Answer {
		return d.settle(op, payment.Answer{Ref: op.Ref, Outcome: payment.Unknown})
	}
	holds := func(r *room, a *deal, want int) {
		r.Advance(time.Minute)
		s := r.Standing(a.card.Number)
		if s.Holds != want || s.Made != a.before.Made+want || s.Held != int64(want)*a.amount.Minor {
			r.Errorf("the centre's books say %+v, believed are %d holds", s, want)
		}
	}
	meet("one answer lost", func(r *room, a, b *deal) {
		op := lose(a, AnswerLost)
		b.must(payment.OpHold, b.amount)
		if answer := settled(a, op); answer.Outcome != payment.Approved {
			r.Errorf("a hold that was made: %+v", answer)
		}
		if a.attempt.Centre.Hold == b.attempt.Centre.Hold {
			r.Error("two payments have one hold")
		}
		holds(r, a, 2)
		a.must(payment.OpCapture, a.part())
		b.must(payment.OpVoid, b.amount)
		a.books(none, a.part())
	})
	meet("one request lost, the other claimed", func(r *room, a, b *deal) {
		op := lose(a, RequestLost)
		b.must(payment.OpHold, b.amount)
		if answer := settled(a, op); !a.neverMade(answer) {
			r.Errorf("a hold that was never made: %+v", answer)
		}
		holds(r, a, 1)
	})
	meet("one request lost, the other's answer lost", func(r *room, a, b *deal) {
		opA, opB := lose(a, RequestLost), lose(b, AnswerLost)
		if answer := a.ask(r.Context(), opA, payment.Query); answer.Outcome == payment.Approved {
			r.Errorf("a hold that was never made: %+v", answer)
		}
		if answer := settled(b, opB); answer.Outcome != payment.Approved {
			r.Errorf("a hold that was made: %+v", answer)
		}
		if answer := settled(a, opA); !a.neverMade(answer) {
			r.Errorf("a hold that was never made: %+v", answer)
		}
		holds(r, a, 1)
	})
	meet("both answers lost", func(r *room, a, b *deal) {
		opA, opB := lose(a, AnswerLost), lose(b, AnswerLost)
		r.Advance(5 * time.Second)
		for _, ask := range []struct {
			*deal
			op *payment.Operation
		}{{a, opA}, {b, opB}} {
			// Not to know is allowed; a guess is not: keep finds out whether both got the same hold.
			if answer := ask.ask(r.Context(), ask.op, payment.Query); answer.Outcome != payment.Approved && answer.Outcome != payment.Unknown {
				r.Errorf("a hold that was made: %+v", answer)
			}
		}
		if one := a.attempt.Centre.Hold; one != "" && one == b.attempt.Centre.Hold {
			r.Error("two payments have one hold")
		}
		holds(r, a, 2)
	})
}

// crowd: many payments of one card and sum at the same time, among which some were never made. A
// connector that recognises holds by what they look like will find look-alikes here.
func crowd(r *room) {
	if !r.Fault(payment.OpHold, r.decisive(payment.OpHold), RequestLost, 1) {
		r.Fatal("a lost request cannot be arranged, and a hold must be tried with it")
	}
	r.Forget()
	card := r.card(Good, 0)
	type lost struct {
		*deal
		op *payment.Operation
	}
	var never []lost
	const made, unmade = 80, 10
	for i := range made + unmade {
		d := r.deal(card, r.sum(10))
		d.identify()
		if i%9 != 4 {
			d.must(payment.OpHold, d.amount)
			continue
		}
		r.Fault(payment.OpHold, r.decisive(payment.OpHold), RequestLost, 1)
		op, _ := d.send(payment.OpHold, d.amount)
		never = append(never, lost{d, op})
	}
	for _, d := range never {
		if a := d.settle(d.op, payment.Answer{Ref: d.op.Ref, Outcome: payment.Unknown}); !d.neverMade(a) {
			d.Errorf("a hold that was never made: %+v", a)
		}
	}
	if s := r.Standing(card.Number); s.Holds != made || len(never) != unmade {
		r.Errorf("the centre's books say %+v, believed are %d holds", s, made)
	}
}

// givenUp: the gateway stops waiting.
func givenUp(r *room) {
	for i, kind := range moving {
		d := r.deal(r.card(Good, i%4), r.sum(1000))
		d.prepare(kind)
		before := d.Standing(d.card.Number)
		over, cancel := context.WithCancel(d.Context())
		cancel()
		op := d.begin(kind, d.amountFor(kind))
		a := d.ask(over, op, payment.Send)
		if a.Outcome != payment.Unknown && (a.Outcome != payment.Refused || a.Reason != payment.Unavailable) {
			d.Errorf("%s after the end: %+v", kind, a)
		}
		if a.Outcome == payment.Refused && d.Standing(d.card.Number) != before {
			d.Errorf("%s was refused and done: %+v", kind, a)
		}
		if a = d.ask(over, op, payment.Query); a.Outcome != payment.Unknown {
			d.Errorf("a question about %s after the end: %+v", kind, a)
		}
	}
	for i, kind := range moving {
		d := r.deal(r.card(Good, i%4), r.sum(1000))
		d.prepare(kind)
		if !r.Fault(kind, payment.Send, Slow, 1) {
			continue
		}
		soon, cancel := context.WithTimeout(d.Context(), d.caps.Answer/4)
		op := d.begin(kind, d.amountFor(kind))
		if a := d.ask(soon, op, payment.Send); a.Outcome != payment.Unknown {
			d.Errorf("%s, given up on the way: %+v", kind, a)
		}
		cancel()
		d.believe(op, d.settle(op, payment.Answer{Ref: op.Ref, Outcome: payment.Unknown}))
	}
}

// nobodyListens: what cannot have been sent is refused as unavailable, or unknown; never more.
func nobodyListens(r *room) {
	challenged, held, charged := r.deal(r.card(Good, 0), r.sum(1000)), r.deal(r.card(Good, 1), r.sum(1000)), r.deal(r.card(Good, 2), r.sum(1000))
	held.prepare(payment.OpCapture)
	captured := r.deal(r.card(Good, 3), r.sum(1000))
	captured.prepare(payment.OpRefund)
	charged.identify()
	r.Stop()
	refused := func(d *deal, op *payment.Operation, a payment.Answer) {
		r.Helper()
		if a.Outcome != payment.Unknown && (a.Outcome != payment.Refused || a.Reason != payment.Unavailable) {
			r.Errorf("%s, and nobody listens: %+v", op.Kind, a)
		}
		if a = d.ask(r.Context(), op, payment.Query); a.Outcome != payment.Unknown {
			r.Errorf("a question about %s, and nobody listens: %+v", op.Kind, a)
		}
	}
	for _, d := range []struct {
		*deal
		kind payment.Kind
	}{
		{challenged, payment.OpChallenge}, {charged, payment.OpHold}, {charged, payment.OpCharge}, {held, payment.OpCapture}, {held, payment.OpVoid},
		{captured, payment.OpRefund},
	} {
		if d.kind == payment.OpChallenge && r.caps.ThreeDS {
			continue
		}
		op, a := d.send(d.kind, d.amountFor(d.kind))
		refused(d.deal, op, a)
		if !repeatable(d.kind) {
			continue
		}
		if a = d.ask(r.Context(), op, payment.Send); a.Outcome != payment.Unknown {
			r.Errorf("a %s that was sent before, and nobody listens: %+v; the first may be under way", d.kind, a)
		}
	}
}

// storeDown: whether another payment owns a hold cannot be asked.
func storeDown(r *room) {
	d := r.deal(r.card(Good, 0), r.sum(1000))
	d.prepare(payment.OpHold)
	if !r.Fault(payment.OpHold, r.decisive(payment.OpHold), AnswerLost, 1) {
		r.Fatal("a lost answer cannot be arranged, and a hold must be tried with it")
	}
	op, _ := d.send(payment.OpHold, d.amount)
	d.claimFail = errors.New("the store is down")
	// A centre that knows our reference need not ask.
	if a := d.ask(d.Context(), op, payment.Query); a.Outcome != payment.Unknown && a.Outcome != payment.Approved {
		d.Errorf("a hold that was made: %+v", a)
	}
	d.claimFail = nil
	d.believe(op, d.settle(op, payment.Answer{Ref: op.Ref, Outcome: payment.Unknown}))
}

// atOnce has many payments use the connector at the same time, some of them unlucky.
func atOnce(r *room) {
	const payments = 24
	first, second := r.card(Good, 0), r.card(Good, 1)
	before := [2]Standing{r.Standing(first.Number), r.Standing(second.Number)}
	deals := make([]*deal, payments)
	for i := range deals {
		card := first
		if i%2 == 1 {
			card = second
		}
		deals[i] = r.deal(card, r.sum(int64(100+i)))
		deals[i].identify()
	}
	step := func(kind payment.Kind) {
		r.Fault(kind, r.decisive(kind), AnswerLost, 4)
		r.Fault(kind, r.decisive(kind), RequestLost, 2)
		ops, answers := make([]*payment.Operation, payments), make([]payment.Answer, payments)
		var all sync.WaitGroup
		for i, d := range deals {
			ops[i] = d.begin(kind, d.amountFor(kind))
			all.Go(func() { answers[i] = d.walk(ops[i], d.ask(r.Context(), ops[i], payment.Send)) })
		}
		all.Wait()
		for i, d := range deals {
			a := d.settle(ops[i], answers[i])
			if a.Outcome != payment.Approved && !repeatable(kind) && d.neverMade(a) { // the payer tries again
				ops[i], a = d.send(kind, d.amountFor(kind))
			}
			if a.Outcome != payment.Approved {
				r.Errorf("%s: %+v", kind, a)
			}
		}
	}
	step(payment.OpHold)
	step(payment.OpCapture)
	var taken [2]int64
	for i, d := range deals {
		taken[i%2] += d.part().Minor
	}
	r.Advance(time.Minute)
	for i, card := range []payment.Card{first, second} {
		s := r.Standing(card.Number)
		if s.Held != 0 || s.Holds != 0 || s.Taken-before[i].Taken != taken[i] || s.Takings-before[i].Takings != payments/2 {
			r.Errorf("the centre's books say %+v, believed are %d takings of %d", s, payments/2, taken[i])
		}
	}
}

// spoil arranges a fault. Where the centre's protocol has no such fault (an answer without a sum has no
// wrong sum) there is nothing to examine, and it reports false.
func (d *deal) spoil(kind payment.Kind, ask payment.Ask, f Fault, times int) bool {
	d.Helper()
	return d.Fault(kind, ask, f, times)
}

// spoiltRequests: every fault of every request to do something.
func spoiltRequests(t *testing.T, exam Exam) {
	kinds := moving
	if !exam.enter(t).caps.ThreeDS {
		kinds = append([]payment.Kind{payment.OpChallenge, payment.OpVerify}, moving...)
	}
	for _, kind := range kinds {
		for _, f := range faults {
			t.Run(string(kind)+"/"+string(f.Fault), func(t *testing.T) {
				t.Parallel()
				r := exam.enter(t, f.Fault)
				d := r.deal(r.card(Good, 1), r.sum(1000))
				d.prepare(kind)
				if !d.spoil(kind, d.decisive(kind), f.Fault, 1) {
					return
				}
				before := d.Standing(d.card.Number)
				op, a := d.send(kind, d.amountFor(kind))
				after := d.Standing(d.card.Number)
				for wait := 0; f.effect == done && kind.MovesMoney() && after == before && wait < 1000; wait++ {
					time.Sleep(20 * time.Millisecond) // on a busy machine the centre may be later than the connector's patience
					after = d.Standing(d.card.Number)
				}
				certain := f.definite && a.Outcome == payment.Refused && a.Reason == payment.Unavailable
				// Where the centre itself says that it is in doubt, a connector may ask it at once; and the
				// payer may be at his bank still.
				certain = certain || f.Fault == DoubtDone && a.Outcome == payment.Approved
				certain = certain || d.atBank(kind) && a.Outcome == payment.ChallengeGiven && a.Step == "" && f.effect != done
				if a.Outcome != payment.Unknown && !certain {
					d.Errorf("%+v, it was to be unknown", a)
				}
				if kind.MovesMoney() && (after != before) != (f.effect == done) {
					d.Fatalf("the world did not do %s: %+v, then %+v", f.Fault, before, after)
				}
				if !kind.MovesMoney() {
					if a = d.ask(d.Context(), op, payment.Query); a.Outcome != payment.Unknown && a.Outcome != payment.NeverSeen {
						d.Errorf("asked about it: %+v", a)
					}
					d.believe(op, a)
					if f.effect != later { // a late code request would replace the new code
						d.identify()
						d.must(payment.OpHold, d.amount)
					}
					return
				}
				a = d.settle(op, a)
				if f.effect != undone && a.Outcome != payment.Approved { // a late one too is found before it is given up
					d.Errorf("it was done: %+v", a)
				}
				if f.effect == undone && a.Outcome == payment.Approved && !repeatable(kind) {
					d.Errorf("it was not done: %+v", a)
				}
				d.believe(op, a)
				if kind == payment.OpHold && a.Outcome == payment.Approved {
					d.must(payment.OpCapture, d.part())
					d.books(none, d.part())
				}
			})
		}
	}
}

// spoiltInquiries: a lost request or answer, and then a fault of the question what became of it.
func spoiltInquiries(t *testing.T, exam Exam) {
	for _, kind := range moving {
		for _, first := range []Fault{AnswerLost, RequestLost, RequestLate, DoubtDone} {
			for _, second := range queryFaults {
				for _, times := range []int{1, 2} {
					if slow(second) && (times == 2 || first != AnswerLost) {
						continue // waiting again shows nothing new
					}
					name := string(kind) + "/" + string(first) + "/" + string(second)
					if times == 2 {
						name += "_twice"
					}
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						r := exam.enter(t, first, second)
						d := r.deal(r.card(Good, 1), r.sum(1000))
						d.prepare(kind)
						if !d.spoil(kind, d.decisive(kind), first, 1) || !d.spoil(kind, payment.Query, second, times) {
							return
						}
						op, a := d.send(kind, d.amountFor(kind))
						if a.Outcome != payment.Unknown && (first != DoubtDone || a.Outcome != payment.Approved) {
							d.Errorf("%+v, it was to be unknown", a)
						}
						a = d.settle(op, a)
						if (first == AnswerLost || first == DoubtDone) && a.Outcome != payment.Approved {
							d.Errorf("it was done: %+v", a)
						}
						d.believe(op, a)
					})
				}
			}
		}
	}
}

// spoiltRepetitions: a capture or void whose request was lost, and then a fault when it is sent again.
func spoiltRepetitions(t *testing.T, exam Exam) {
	for _, kind := range []payment.Kind{payment.OpCapture, payment.OpVoid, payment.OpRefund} {
		for _, first := range []Fault{RequestLost, RequestLate, DoubtNotDone, AnswerLost} {
			for _, second := range faults {
				if slow(second.Fault) && first != RequestLost {
					continue // waiting again shows nothing new
				}
				t.Run(string(kind)+"/"+string(first)+"/"+string(second.Fault), func(t *testing.T) {
					t.Parallel()
					r := exam.enter(t, first, second.Fault)
					d := r.deal(r.card(Good, 1), r.sum(1000))
					d.prepare(kind)
					if !d.spoil(kind, payment.Send, first, 1) || !d.spoil(kind, payment.Send, second.Fault, 1) {
						return
					}
					op, _ := d.send(kind, d.amountFor(kind))
					// The gateway may send it again, as if the centre had not seen it: at once, or when Shown
					// has passed.
					d.Advance(d.caps.Shown[kind])
					a := d.ask(d.Context(), op, payment.Send)
					if a.Outcome == payment.Refused {
						d.Errorf("refused although the first request may be under way: %+v", a)
					}
					if a = d.settle(op, a); a.Outcome != payment.Approved {
						d.Errorf("%+v, it was to be approved in the end", a)
					}
					d.believe(op, a)
				})
			}
		}
	}
}

// anyDay runs payments through random bad days; the seed is in the test's name.
func anyDay(t *testing.T, exam Exam) {
	worlds := 40
	if testing.Short() {
		worlds = 8
	}
	quick := func(f Fault) bool { return !slow(f) && f != RequestLate }
	for seed := range uint64(worlds) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			r := exam.enter(t)
			random := rand.New(rand.NewPCG(seed, 1))
			mess := func(kind payment.Kind) {
				// What waits for Shown before it is sent again comes to an end in time after a few of them.
				for n := 0; random.IntN(2) == 0 && (n < 3 || r.caps.Shown[kind] == 0); n++ {
					if f := faults[random.IntN(len(faults))].Fault; quick(f) {
						r.Fault(kind, r.decisive(kind), f, 1)
					}
				}
				// A centre shows what it did within Shown: it may lag at the first two inquiries.
				for range random.IntN(3) {
					r.Fault(kind, payment.Query, NotFoundOnce, 1)
				}
				for range random.IntN(4) { // with those above fewer than the inquiries of the first hour
					if f := queryFaults[random.IntN(len(queryFaults))]; quick(f) && f != NotFoundOnce {
						r.Fault(kind, payment.Query, f, 1)
					}
				}
			}
			for i := range 10 {
				d := r.deal(r.card(Good, i%4), r.sum(100+random.Int64N(900)))
				d.identify()
				do := func(kind payment.Kind) payment.Answer {
					r.Forget()
					mess(kind)
					op, a := d.send(kind, d.amountFor(kind))
					if a = d.settle(op, a); a.Outcome == payment.Refused && a.Reason == payment.Unavailable && repeatable(kind) {
						a = d.settle(op, d.ask(d.Context(), op, payment.Query)) // the gateway never gives up a decision, nor a refund
					}
					d.believe(op, a)
					return a
				}
				giveBack := func() {
					if random.IntN(2) == 0 {
						do(payment.OpRefund) // it may end refused: then nothing moved
					}
				}
				if random.IntN(4) == 0 {
					if do(payment.OpCharge).Outcome == payment.Approved {
						giveBack()
					}
					continue
				}
				if do(payment.OpHold).Outcome != payment.Approved {
					continue
				}
				kind := payment.OpCapture
				if random.IntN(2) == 0 {
					kind = payment.OpVoid
				}
				if a := do(kind); a.Outcome != payment.Approved {
					d.Errorf("%s: %+v, it was to be approved in the end", kind, a)
				}
				if kind == payment.OpCapture {
					giveBack()
				}
			}
		})
	}
}
