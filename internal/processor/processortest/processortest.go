// Package processortest is the exam that every connector must pass before the gateway lets it move
// money: it asks a processor.Processor the gateway's questions on good days and bad ones, and
// believes nobody but the centre's own books.
//
// The exam knows no protocol. A connector's test brings a World: the connector, a centre behind it
// (a simulator) with cards that behave in known ways, a clock that both share, a way to spoil calls,
// and the centre's books. What the exam asks for above all: an answer is never a guess, an
// operation takes effect at most once, whatever was lost can be found again, and no card number or
// code shows in a cause or a log.
package processortest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor"
)

// Exam is what a connector's test provides.
type Exam struct {
	// New makes a world of its own for one test; it ends with the test. The connector's limits are
	// as in production, but for how long it waits: that is answer.
	New func(t *testing.T, answer time.Duration) *World
	// Currency is what the centre moves; default money.UZS.
	Currency money.Currency
}

// World is a connector and the centre behind it. Its functions may be called from several goroutines.
type World struct {
	Processor processor.Processor

	// Now is the clock of connector and centre; Advance moves it. What Fault has made late and is due
	// by then has happened when Advance returns.
	Now     func() time.Time
	Advance func(d time.Duration)

	// Cards are the centre's cards that behave so: at least 4 Good ones with money for a thousand
	// payments of 1000.00 each, and of the others what the centre has; without one its questions are
	// skipped. With 3-D Secure a Good card's holder is asked by his bank, and passes.
	Cards func(b Behaviour) []payment.Card
	// Pass does what the payer does about a code: he reads his SMS. It may be nil with 3-D Secure.
	Pass func(t *testing.T, card payment.Card, challenge payment.Challenge) payment.OTP
	// Browser is the payer's browser at a step of 3-D Secure: it posts the challenge's Data to its URL,
	// and its user does what the holder of such a card does. It reports whether he comes back; what he
	// brings then is nobody's business. It may be sent to the same place twice. nil without 3-D Secure.
	Browser func(t *testing.T, card payment.Card, challenge payment.Challenge) (back bool)
	// Fault spoils the next calls to the centre that belong to such a question, after those spoiled
	// already by earlier faults. A question that takes two calls is spoiled in both by times 2. False:
	// this cannot happen to such a call, which is for the connector's author to defend. Of a question
	// that takes several calls it spoils the one that hands in the card or moves the money; Continue is
	// the question that ends a 3-D Secure challenge.
	Fault func(kind payment.Kind, ask payment.Ask, f Fault, times int) bool
	// FaultAt spoils one call of a hold or charge with 3-D Secure: the n-th (from 0) of those that Send
	// makes, or Continue after a step. False: it makes no such call, or this cannot happen to it.
	// nil without 3-D Secure.
	FaultAt func(kind payment.Kind, at Spot, f Fault) bool
	// Forget drops the faults that have not happened yet.
	Forget func()
	// Stop takes the centre off the network: from now on nobody listens.
	Stop func()

	// Standing is how the centre's own books see a card.
	Standing func(number string) Standing
	// Log is all that the connector has logged so far, at its lowest level, without measured times: a
	// duration is a number that may look like a code.
	Log func() string
}

// Spot is a call within a hold or charge with 3-D Secure.
type Spot struct {
	Step payment.Step // that the payer came back from; empty: Send
	Call int
}

// Standing is how a card stands in the centre's books. Sums are minor units.
type Standing struct {
	Held     int64 // set aside now
	Holds    int   // live holds
	Made     int   // holds ever made
	Taken    int64 // captured and charged, whatever was given back of it
	Takings  int   // captures and charges
	Refunded int64 // given back of what was taken
	Refunds  int
}

// Behaviour is what a card does.
type Behaviour string

// The behaviours that the exam asks for.
const (
	Good    Behaviour = "good"    // works
	Poor    Behaviour = "poor"    // has no money
	Blocked Behaviour = "blocked" // its bank lets nobody pay with it
	Odd     Behaviour = "odd"     // misbehaves at some step in some way, always the same: refuses, or leaves in doubt

	// With 3-D Secure.
	Frictionless  Behaviour = "frictionless"  // its bank asks nothing; the payment works
	Attempt       Behaviour = "attempt"       // its bank takes no part, and says so; the payment works
	FailsAtBank   Behaviour = "fails"         // its holder does not pass
	BankUnable    Behaviour = "unavailable"   // its bank cannot tell who pays; the payment is refused
	BankRejects   Behaviour = "rejected"      // its bank refuses without a question
	WalksAway     Behaviour = "abandoned"     // its holder never comes back from his bank's page
	MethodTimeout Behaviour = "method_silent" // its bank's hidden frame never answers; then as a Good one
)

// Fault is a bad day.
type Fault string

// The faults (docs/payment-cycle.md). "Done" and "not done" are about the centre's books.
const (
	RequestLost  Fault = "request_lost"   // not done; the connection ends without an answer
	RequestLate  Fault = "request_late"   // done 20 s after the connector gave up
	AnswerLost   Fault = "answer_lost"    // done; the connection ends without an answer
	Reset        Fault = "reset"          // done; the connection is reset
	FailedBefore Fault = "failed_before"  // not done; a server's error
	FailedAfter  Fault = "failed_after"   // done; a server's error
	ProxyPage    Fault = "proxy_page"     // done; a page of HTML from something in between
	DoubtDone    Fault = "doubt_done"     // done; the centre says that it does not know yet
	DoubtNotDone Fault = "doubt_not_done" // not done; the centre says that it does not know yet
	Down         Fault = "down"           // not done; the centre says so: out of service
	Slow         Fault = "slow"           // done; answered after the connector's Answer
	Drip         Fault = "drip"           // done; the answer takes longer than Answer, byte by byte
	Garbage      Fault = "garbage"        // done; a good status with no answer in it
	Truncated    Fault = "truncated"      // done; a good status with half an answer
	WrongID      Fault = "wrong_id"       // done; the answer is to another request
	WrongSum     Fault = "wrong_sum"      // done rightly; the answer names another sum
	NotFoundOnce Fault = "not_found_once" // of a query: the centre does not see what is there
)

// slow reports whether a fault lasts as long as the connector waits.
func slow(f Fault) bool { return f == Slow || f == Drip }

// effect is whether the books change although the answer is spoiled.
type effect int

const (
	undone effect = iota
	done
	later
)

// faults is every fault of a request to do something. Definite ones tell the truth.
var faults = []struct {
	Fault
	effect
	definite bool
}{
	{Fault: RequestLost}, {Fault: RequestLate, effect: later}, {Fault: AnswerLost, effect: done},
	{Fault: Reset, effect: done}, {Fault: FailedBefore}, {Fault: FailedAfter, effect: done},
	{Fault: ProxyPage, effect: done}, {Fault: DoubtDone, effect: done}, {Fault: DoubtNotDone},
	{Fault: Down, definite: true}, {Fault: Slow, effect: done}, {Fault: Drip, effect: done},
	{Fault: Garbage, effect: done}, {Fault: Truncated, effect: done}, {Fault: WrongID, effect: done},
	{Fault: WrongSum, effect: done},
}

// queryFaults is every fault of a question what became of something. None of them changes books.
var queryFaults = []Fault{
	RequestLost, Reset, FailedBefore, ProxyPage, DoubtNotDone, Down, Slow, Drip, Garbage, Truncated,
	WrongID, WrongSum, NotFoundOnce,
}

// moving are the kinds whose lost answer leaves money in doubt.
var moving = []payment.Kind{payment.OpHold, payment.OpCharge, payment.OpCapture, payment.OpVoid, payment.OpRefund}

// How long connectors wait for an answer in the exam: so long that no busy machine is mistaken for a
// lost answer, and so short that a lost one can be waited for. Of hasty the good calls that lead to a slow
// one must get by as well: a card with 3-D Secure has a dozen of them.
const (
	patient = 20 * time.Second
	hasty   = 2 * time.Second
)

// slack is how much longer than Answer a call may take on a busy machine. That a connector gives up at all
// is not seen by this: it would be approved then, and not unknown.
const slack = 10 * time.Second

// room is a world under examination: the part of the gateway that one test needs.
type room struct {
	*testing.T
	*World
	currency money.Currency
	caps     processor.Capabilities

	mu      sync.Mutex
	claims  map[string]payment.ID
	deals   int
	secrets []string
}

func (e Exam) enter(t *testing.T, spoilt ...Fault) *room {
	t.Helper()
	answer := patient
	if slices.ContainsFunc(spoilt, slow) {
		answer = hasty
	}
	r := &room{T: t, World: e.New(t, answer), currency: e.Currency, claims: map[string]payment.ID{}}
	if r.currency == "" {
		r.currency = money.UZS
	}
	r.caps = r.Processor.Capabilities()
	t.Cleanup(func() { r.discreet("the log", r.World.Log()) })
	return r
}

// card is the n-th card of a behaviour.
func (r *room) card(b Behaviour, n int) payment.Card {
	r.Helper()
	cards := r.Cards(b)
	if len(cards) == 0 {
		r.Fatalf("the centre has no %s card, and the exam needs one", b)
	}
	if n >= len(cards) {
		r.Fatalf("the exam needs %d %s cards", n+1, b)
	}
	r.keepSecret(cards[n].Number)
	r.keepSecret(cards[n].CVC)
	return cards[n]
}

func (r *room) keepSecret(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(s) > 3 { // a CVC of three digits is found by chance; four make a code
		r.secrets = append(r.secrets, s)
	}
}

// discreet looks for secrets that stand for themselves: one inside a longer number is chance.
func (r *room) discreet(where, said string) {
	r.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	digit := func(i int) bool { return i >= 0 && i < len(said) && '0' <= said[i] && said[i] <= '9' }
	for _, secret := range r.secrets {
		for from := 0; ; {
			i := strings.Index(said[from:], secret)
			if i < 0 {
				break
			}
			i += from
			if from = i + 1; !digit(i-1) && !digit(i+len(secret)) {
				r.Errorf("%s shows a card number or code (%d digits)", where, len(secret))
				break
			}
		}
	}
}

func (r *room) sum(major int64) money.Amount { return money.New(major*100, r.currency) }

// deal is one payment, as far as the questions to a centre need it.
type deal struct {
	*room
	id        payment.ID
	number    int
	card      payment.Card
	attempt   payment.Attempt
	code      payment.OTP
	amount    money.Amount
	holdUntil time.Time
	expiresAt time.Time // the end of the payment's ttl
	last      int
	before    Standing
	claimFail error // what Claimed answers with, where the store is down

	taken    money.Amount            // the capture or charge that was approved
	refunded map[string]money.Amount // refunds that were approved, by reference
}

// inquiries is when the gateway asks again, counted from when the operation was begun.
var inquiries = []time.Duration{
	5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute,
	40 * time.Minute, 50 * time.Minute,
}

// deal begins a payment with a card.
func (r *room) deal(card payment.Card, amount money.Amount) *deal {
	r.Helper()
	r.mu.Lock()
	r.deals++
	number := r.deals
	r.mu.Unlock()
	return &deal{
		room: r, id: payment.NewID(r.Now(), [10]byte{byte(number >> 8), byte(number)}), number: number, card: card, amount: amount,
		attempt: payment.Attempt{Processor: r.Processor.Name(), Card: card.Facts(payment.BuiltInCards()), HoldFor: 1800},
		before:  r.Standing(card.Number), refunded: map[string]money.Amount{},
	}
}

// ttl is how long a payer of the exam has.
const ttl = 15 * time.Minute

// atBank reports whether the payer proves himself at his bank within an operation of the kind.
func (r *room) atBank(kind payment.Kind) bool {
	return r.caps.ThreeDS && (kind == payment.OpHold || kind == payment.OpCharge)
}

// decisive is the question that moves the money of a Good card.
func (r *room) decisive(kind payment.Kind) payment.Ask {
	if r.atBank(kind) {
		return payment.Continue
	}
	return payment.Send
}

// begin makes the deal's next operation.
func (d *deal) begin(kind payment.Kind, amount money.Amount) *payment.Operation {
	d.last++
	now := d.Now()
	if d.atBank(kind) {
		d.expiresAt, d.holdUntil, d.attempt.Challenge = now.Add(ttl), time.Time{}, nil
	}
	return &payment.Operation{
		N: d.last, Ref: fmt.Sprintf("%d_%d_%d", now.UnixMilli(), 7000+d.number, d.last),
		Kind: kind, Amount: amount, BegunAt: now,
	}
}

// ask asks one question and examines the form of the answer.
func (d *deal) ask(ctx context.Context, op *payment.Operation, what payment.Ask) payment.Answer {
	d.Helper()
	op.Ask, op.AskedAt = what, d.Now()
	op.Asks++
	if what != payment.Query {
		op.SentAt = op.AskedAt
	}
	d.mu.Lock() // a payer may come back twice at once
	if what == payment.Send && op.Kind == payment.OpHold && !d.caps.ThreeDS || what == payment.Continue {
		d.startHold(op.SentAt)
	}
	attempt, holdUntil, taken := d.attempt, d.holdUntil, d.taken
	d.mu.Unlock()
	q := processor.Question{
		Payment: d.id, Shop: 17, Operation: *op, Attempt: attempt, Captured: taken, HoldUntil: holdUntil, ExpiresAt: d.expiresAt, Language: "uz",
		Claimed: func(_ context.Context, claim string) (bool, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			owner, claimed := d.claims[claim]
			return claimed && owner != d.id, d.claimFail
		},
	}
	switch {
	case what != payment.Send:
	case op.Kind == payment.OpChallenge || d.atBank(op.Kind):
		q.Card = d.card
	case op.Kind == payment.OpVerify:
		q.Code = d.code
	}
	begun := time.Now()
	a := d.Processor.Ask(ctx, q)
	if took := time.Since(begun); took > d.caps.Answer+slack {
		d.Errorf("%s %s took %v, declared are %v", what, op.Kind, took, d.caps.Answer)
	}
	d.examine(op, a)
	op.Outcome, op.Reason, op.Cause = a.Outcome, a.Reason, a.Cause
	if a.Outcome == payment.Approved || a.Outcome == payment.ChallengeGiven {
		d.keep(op, a)
	}
	return a
}

// startHold begins the hold's time, once.
func (d *deal) startHold(now time.Time) {
	if d.holdUntil.IsZero() || !d.caps.ThreeDS {
		d.holdUntil = now.Add(time.Duration(d.attempt.HoldFor) * time.Second)
	}
}

// examine is what must hold of every answer.
func (d *deal) examine(op *payment.Operation, a payment.Answer) {
	d.Helper()
	wrong := func(format string, args ...any) {
		d.Helper()
		d.Errorf("%s %s: %s (answer: %+v)", op.Ask, op.Kind, fmt.Sprintf(format, args...), a)
	}
	if a.Ref != op.Ref {
		wrong("it is about %q, asked was about %q", a.Ref, op.Ref)
	}
	switch a.Outcome {
	case payment.Approved, payment.Refused, payment.Unknown:
	case payment.ChallengeGiven:
		switch {
		case d.atBank(op.Kind) && op.Ask == payment.Query && a.Step != "":
			wrong("an inquiry sends nobody anywhere")
		case d.atBank(op.Kind) && a.Step != "" && (a.URL == "" || a.Data == "" || a.Step != payment.StepMethod && a.Step != payment.StepChallenge):
			wrong("the payer's browser is not told where to go")
		case d.atBank(op.Kind):
		case op.Kind != payment.OpChallenge || op.Ask != payment.Send:
			wrong("a challenge nobody asked for")
		}
	case payment.NeverSeen:
		if op.Ask != payment.Query {
			wrong("never seen is no answer to a request")
		}
	default:
		wrong("no outcome")
	}
	if (a.Reason != "") != (a.Outcome == payment.Refused) {
		wrong("a reason belongs to a refusal and a refusal has one")
	}
	if a.Cause == "" && (a.Outcome == payment.Refused || a.Outcome == payment.Unknown) {
		wrong("it does not say why")
	}
	if a.Outcome == payment.Approved && !a.Amount.IsZero() && a.Amount != op.Amount {
		wrong("%s was asked for", op.Amount)
	}
	d.discreet("the cause", a.Cause)
	// An approval code has six digits as well: among hundreds of payers one is some other's code.
	open := a
	open.Centre.Approval = ""
	d.discreet("the answer", fmt.Sprintf("%+v", open))
}

// keep remembers what the answer gives, as a payment does.
func (d *deal) keep(op *payment.Operation, a payment.Answer) {
	d.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	set := func(to *string, from string) {
		if from != "" {
			*to = from
		}
	}
	to := &d.attempt.Centre
	set(&to.Token, a.Centre.Token)
	set(&to.Hold, a.Centre.Hold)
	set(&to.RRN, a.Centre.RRN)
	set(&to.Approval, a.Centre.Approval)
	set(&to.Terminal, a.Centre.Terminal)
	set(&to.Sealed, a.Centre.Sealed)
	switch {
	case a.Outcome == payment.ChallengeGiven && d.atBank(op.Kind):
		if a.Step != "" {
			d.attempt.Challenge = &payment.Challenge{
				VerifyID: int64(d.number), CentreID: a.CentreID, Step: a.Step, URL: a.URL, Data: a.Data, SentAt: d.Now(), ExpiresAt: d.expiresAt,
			}
		}
	case a.Outcome == payment.ChallengeGiven:
		lives := a.CodeLives
		if lives == 0 {
			lives = 5 * time.Minute
		}
		d.attempt.Challenge = &payment.Challenge{
			VerifyID: int64(d.number), CentreID: a.CentreID, Phone: a.Phone, URL: a.URL, SentAt: d.Now(), ExpiresAt: d.Now().Add(lives),
		}
		if a.CentreID == "" && a.URL == "" {
			d.Errorf("a challenge without an id or an address: %+v", a)
		}
		if len(a.Phone) > 0 && countDigits(a.Phone) > 7 {
			d.Errorf("the phone %q is not masked", a.Phone)
		}
	case op.Kind == payment.OpHold && a.Centre.Hold == "":
		d.Errorf("a hold without a name: %+v", a)
	case op.Kind == payment.OpHold:
		d.startHold(d.Now())
	case op.Kind == payment.OpCapture || op.Kind == payment.OpCharge:
		d.taken = op.Amount
	case op.Kind == payment.OpRefund:
		d.refunded[op.Ref] = op.Amount
	}
	if a.Claim != "" {
		if owner, claimed := d.claims[a.Claim]; claimed && owner != d.id {
			d.Errorf("the hold %s is another payment's", a.Claim)
		}
		d.claims[a.Claim] = d.id
	}
}

func countDigits(s string) int {
	n := 0
	for _, r := range s {
		if '0' <= r && r <= '9' {
			n++
		}
	}
	return n
}

// send has something done; the deal's operation and the answer. A payer who has to go to his bank for
// it goes, and comes back if that is his way.
func (d *deal) send(kind payment.Kind, amount money.Amount) (*payment.Operation, payment.Answer) {
	d.Helper()
	op := d.begin(kind, amount)
	return op, d.walk(op, d.ask(d.Context(), op, payment.Send))
}

// maxSteps is more than 3-D Secure has.
const maxSteps = 4

// walk goes with the payer from step to step, as long as he is sent to one.
func (d *deal) walk(op *payment.Operation, a payment.Answer) payment.Answer {
	d.Helper()
	for range maxSteps {
		if !d.atBank(op.Kind) || a.Outcome != payment.ChallengeGiven || a.Step == "" || !d.browse() {
			return a
		}
		a = d.ask(d.Context(), op, payment.Continue)
	}
	d.Errorf("%s: no end to the steps: %+v", op.Kind, a)
	return a
}

// browse has the payer's browser do the step that he is at.
func (d *deal) browse() (back bool) {
	d.Helper()
	d.mu.Lock()
	challenge := *d.attempt.Challenge
	d.mu.Unlock()
	return d.Browser(d.T, d.card, challenge)
}

// must is send on a good day.
func (d *deal) must(kind payment.Kind, amount money.Amount) *payment.Operation {
	d.Helper()
	op, a := d.send(kind, amount)
	if a.Outcome != payment.Approved {
		d.Fatalf("%s: %+v, it was to be approved", kind, a)
	}
	return op
}

// challenge has the payer challenged, and lets him pass.
func (d *deal) challenge() payment.Answer {
	d.Helper()
	_, a := d.send(payment.OpChallenge, d.amount)
	if a.Outcome == payment.ChallengeGiven {
		d.code = d.Pass(d.T, d.card, *d.attempt.Challenge)
		d.keepSecret(string(d.code))
	}
	return a
}

// identify brings a deal to where money can be asked for.
func (d *deal) identify() {
	d.Helper()
	if d.caps.ThreeDS {
		return // that is part of the hold or charge
	}
	switch a := d.challenge(); a.Outcome {
	case payment.Approved:
	case payment.ChallengeGiven:
		d.must(payment.OpVerify, d.amount)
	default:
		d.Fatalf("challenge: %+v", a)
	}
}

// prepare brings a deal to where the kind is next.
func (d *deal) prepare(kind payment.Kind) {
	d.Helper()
	switch kind {
	case payment.OpChallenge:
	case payment.OpVerify:
		if a := d.challenge(); a.Outcome != payment.ChallengeGiven {
			d.Fatalf("the centre sends no code: %+v", a)
		}
	case payment.OpHold, payment.OpCharge:
		d.identify()
	case payment.OpRefund:
		d.prepare(payment.OpCapture)
		d.must(payment.OpCapture, d.part())
	default:
		d.identify()
		d.must(payment.OpHold, d.amount)
	}
}

func repeatable(kind payment.Kind) bool {
	return kind == payment.OpCapture || kind == payment.OpVoid || kind == payment.OpRefund
}

// settle does what the gateway does about an answer that ends nothing: it waits and asks, and has
// done again what may be done again, until the centre's word is definite.
func (d *deal) settle(op *payment.Operation, a payment.Answer) payment.Answer {
	d.Helper()
	a, ended := d.pursue(op, a)
	if !ended {
		d.Fatalf("%s: no end to it after %v and %d questions: %+v", op.Kind, d.Now().Sub(op.BegunAt), op.Asks, a)
	}
	return a
}

// pursue is settle that may come to no end within the gateway's first hour.
func (d *deal) pursue(op *payment.Operation, a payment.Answer) (_ payment.Answer, ended bool) {
	d.Helper()
	const questions = 30 // more than there are inquiries, were each followed by sending again
	for asked := 0; asked < questions; asked++ {
		if a.Outcome == payment.Approved || a.Outcome == payment.Refused {
			return a, true
		}
		if a.Outcome == payment.NeverSeen && d.Now().Sub(op.SentAt) >= d.caps.Shown[op.Kind] {
			if !repeatable(op.Kind) {
				return a, true
			}
			a = d.ask(d.Context(), op, payment.Send)
			continue
		}
		i := slices.IndexFunc(inquiries, func(after time.Duration) bool { return op.BegunAt.Add(after).After(d.Now()) })
		switch {
		case i >= 0:
			d.Advance(op.BegunAt.Add(inquiries[i]).Sub(d.Now()))
		case asked > 0:
			return a, false
		}
		a = d.ask(d.Context(), op, payment.Query)
	}
	return a, false
}

// books compares the centre's books with what is believed of the deal. They are looked at after
// a minute: nothing may come late and change them.
func (d *deal) books(held, taken money.Amount) {
	d.Helper()
	d.Advance(time.Minute)
	now := d.Standing(d.card.Number)
	count := func(a money.Amount) int {
		if a.IsZero() {
			return 0
		}
		return 1
	}
	want := d.before
	want.Held += held.Minor
	want.Holds += count(held)
	want.Taken += taken.Minor
	want.Takings += count(taken)
	for _, refunded := range d.refunded {
		want.Refunded += refunded.Minor
		want.Refunds++
	}
	now.Made, want.Made = 0, 0
	if now != want {
		d.Errorf("the centre's books say %+v, believed is %+v", now, want)
	}
}

// believe checks the books after a definite answer to an operation of the kind.
func (d *deal) believe(op *payment.Operation, a payment.Answer) {
	d.Helper()
	none := money.Amount{}
	happened := a.Outcome == payment.Approved
	switch op.Kind {
	case payment.OpChallenge, payment.OpVerify:
		d.books(none, none)
	case payment.OpHold:
		if happened {
			d.books(op.Amount, none)
		} else {
			d.books(none, none)
		}
	case payment.OpCharge:
		if happened {
			d.books(none, op.Amount)
		} else {
			d.books(none, none)
		}
	case payment.OpCapture:
		switch {
		case happened:
			d.books(none, op.Amount)
		case a.Reason == payment.HoldGone:
			d.books(none, none)
		default:
			d.books(d.amount, none)
		}
	case payment.OpRefund:
		d.books(none, d.taken)
	case payment.OpVoid:
		if happened || a.Reason == payment.HoldGone {
			d.books(none, none)
		} else {
			d.books(d.amount, none)
		}
	}
}
