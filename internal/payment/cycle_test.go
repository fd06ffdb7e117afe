package payment_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"holdfast/internal/ledger"
	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// world is one payment, its store and its centre, on bad days. What is committed survives a crash;
// what is asked and answered may get lost, come late, come garbled; time jumps.
type world struct {
	now     time.Time
	p       payment.Payment
	centre  *centre
	codes   int64
	entries []ledger.Entry
	events  []payment.Event
	closed  []payment.Operation
	answers []payment.Answer // all that ever came, to come again
	over    *payment.Payment // as it was when it was over
}

func newWorld(t *rapid.T, keeps bool) *world {
	w := &world{now: t0, centre: newCentre(keeps, rapid.Bool().Draw(t, "slow"))}
	terms := terms()
	terms.AutoCapture = rapid.Bool().Draw(t, "one stage")
	terms.Amount = uzs(rapid.SampledFrom([]int64{100_000, 1, 75, money.MaxMinor}).Draw(t, "sum"))
	c := payment.New(payment.NewID(t0, [10]byte{}), 5520, 12, terms, t0)
	w.commit(t, nil, c)
	return w
}

// commit is the store: it checks once more, and keeps.
func (w *world) commit(t *rapid.T, before *payment.Payment, c payment.Change) {
	if err := c.Check(before); err != nil {
		t.Fatalf("the store would refuse the change: %v", err)
	}
	if c.Empty() {
		if diff := cmp.Diff(*before, c.Payment, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("an empty change changes the payment: %s", diff)
		}
		if c.Closed != nil || len(c.Entries)+len(c.Events) != 0 {
			t.Fatalf("an empty change holds %+v", c)
		}
		return
	}
	if before != nil {
		status := before.Status()
		if told := status != c.Payment.Status(); told != (len(c.Events) == 1) || len(c.Events) > 1 {
			t.Fatalf("from %s to %s with events %+v", status, c.Payment.Status(), c.Events)
		}
		if before.Open != nil && (c.Payment.Open == nil || c.Payment.Open.Ref != before.Open.Ref) {
			if c.Closed == nil || c.Closed.Ref != before.Open.Ref {
				t.Fatalf("operation %s is neither open nor on record", before.Open.Ref)
			}
		} else if c.Closed != nil {
			t.Fatalf("an operation on record that was not open: %+v", c.Closed)
		}
	}
	w.p = c.Payment
	w.p.Version++
	w.entries = append(w.entries, c.Entries...)
	w.events = append(w.events, c.Events...)
	if c.Closed != nil {
		w.closed = append(w.closed, *c.Closed)
	}
}

// begin puts a command and asks what it opens.
func (w *world) begin(t *rapid.T, c payment.Command) {
	before := clone(w.p)
	change, err := payment.Begin(w.p, c, w.now)
	if diff := cmp.Diff(before, w.p, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%T changed the payment it was put to: %s", c, diff)
	}
	var refusal *payment.Error
	switch {
	case errors.As(err, &refusal):
		w.explained(t, c, refusal)
		return
	case err != nil:
		t.Fatalf("%T: %v is not of the one kind of error", c, err)
	}
	asked := 0
	if w.p.Open != nil {
		asked = w.p.Open.Asks
	}
	w.commit(t, &before, change)
	if open := w.p.Open; open != nil && (before.Open == nil || open.Ref != before.Open.Ref || open.Asks != asked) {
		w.ask(t)
	}
}

// explained: every refusal can be explained from what is stored (invariant 11).
func (w *world) explained(t *rapid.T, c payment.Command, refusal *payment.Error) {
	p := &w.p
	ok := true
	switch refusal.Reason {
	case payment.Busy, payment.UnderWay:
		ok = p.Open != nil
	case payment.InDoubt:
		ok = p.Open != nil && p.Open.Kind.MovesMoney() && p.Open.Outcome != ""
	case payment.DecisionStands:
		ok = p.Decision != nil && refusal.Decision != nil && *refusal.Decision == *p.Decision
	case payment.AlreadyPaid:
		ok = p.State == payment.Held || p.State == payment.Captured
	case payment.AlreadyCaptured:
		ok = p.State == payment.Captured && p.Terms.AutoCapture
	case payment.Finished:
		ok = p.State.Terminal()
	case payment.PaymentExpired:
		ok = !w.now.Before(p.Terms.ExpiresAt)
	case payment.DeadlinePassed:
		ok = p.State == payment.Held && p.Decision == nil && !w.now.Before(p.HoldDeadline)
	case payment.NotHeld:
		ok = p.State == payment.Created || p.State == payment.Challenged
	case payment.AmountAboveHold:
		d := c.(payment.Decide)
		ok = p.State == payment.Held && (d.Amount.Minor > p.Held.Minor || d.Amount.Minor <= 0)
	case payment.AttemptsUsedUp:
		ok = p.State == payment.Declined || p.Attempts >= payment.MaxAttempts || p.Attempt.Challenge.Tries >= payment.MaxWrongCodes
	case payment.ResendsUsedUp:
		ok = p.Attempt.Challenge.Resends >= payment.MaxResends
	case payment.CodeExpired:
		ok = !w.now.Before(p.Attempt.Challenge.ExpiresAt)
	case payment.NoChallenge:
		ok = p.State != payment.Challenged
	case payment.WrongCode:
		d := c.(payment.SubmitCode)
		ok = p.Attempt == nil || p.Attempt.Challenge == nil || p.Attempt.Challenge.VerifyID != d.VerifyID
	case payment.CardUnknown:
		_, ok = c.(payment.Resend)
	default:
		ok = false
	}
	if !ok {
		t.Fatalf("%+v is refused with %s (%s), but the payment is %s, open %+v", c, refusal.Reason, refusal.Detail, p.State, p.Open)
	}
}

// fates of a question on a bad day. The first is a good day's.
var fates = []string{
	"answered", "answered", "answered", "refused", "never left", "request lost", "answer lost", "dies before asking", "dies before the answer", "late", "garbled", "other sum",
}

// refusals are what a centre may say of each kind, that it did nothing.
var refusals = map[payment.Kind][]payment.Reason{
	payment.OpChallenge: {payment.CardBlocked, payment.NoSMS, payment.Unavailable, payment.Misconfigured},
	payment.OpVerify:    {payment.WrongCode, payment.WrongCode, payment.CodeExpired, payment.CardRefused, payment.Unavailable},
	payment.OpHold:      {payment.InsufficientFunds, payment.CardRefused, payment.Unavailable},
	payment.OpCharge:    {payment.InsufficientFunds, payment.CardRefused, payment.Unavailable},
	payment.OpCapture:   {payment.Unavailable, payment.Misconfigured},
	payment.OpVoid:      {payment.Unavailable, payment.Misconfigured},
}

// ask asks the open question, and what its answer leads to, until one is lost or none is open.
func (w *world) ask(t *rapid.T) {
	for range 5 {
		op := *w.p.Open
		fate := rapid.SampledFrom(fates).Draw(t, string(op.Ask)+" "+string(op.Kind))
		took := rapid.SampledFrom([]time.Duration{0, time.Second, answers}).Draw(t, "took")
		a, settled := w.asked(t, op, fate)
		a.AskedAt = op.AskedAt
		w.pass(took)
		if !settled {
			return
		}
		if w.settle(t, a); w.p.Open == nil || w.p.Open.Ref == op.Ref {
			return
		}
	}
	t.Fatalf("five answers in a row lead to further questions")
}

// asked is what comes of asking op; settled is false where the process dies meanwhile.
func (w *world) asked(t *rapid.T, op payment.Operation, fate string) (a payment.Answer, settled bool) {
	lost := payment.Answer{Ref: op.Ref, Outcome: payment.Unknown, Cause: fate}
	if fate == "dies before asking" {
		return lost, false
	}
	if fate == "request lost" {
		return lost, true
	}
	if fate == "never left" { // the connector knows that nothing was sent
		a = payment.Answer{Ref: op.Ref, Outcome: payment.Refused, Reason: payment.Unavailable}
		if op.Ask == payment.Query {
			a = lost // that the inquiry never left says nothing of the operation
		}
		return a, true
	}
	switch {
	case op.Ask == payment.Query:
		young := w.now.Sub(op.SentAt) < shows
		a = w.centre.query(op, w.centre.slow && young && rapid.Bool().Draw(t, "hidden"))
	case op.Kind == payment.OpChallenge:
		a = payment.Answer{Ref: op.Ref, Outcome: payment.ChallengeGiven, CodeLives: codeFor}
		if fate == "refused" {
			a = payment.Answer{Ref: op.Ref, Outcome: payment.Refused, Reason: rapid.SampledFrom(refusals[op.Kind]).Draw(t, "why")}
		}
	case op.Kind == payment.OpVerify:
		a = payment.Answer{Ref: op.Ref, Outcome: payment.Approved}
		if fate == "refused" {
			a = payment.Answer{Ref: op.Ref, Outcome: payment.Refused, Reason: rapid.SampledFrom(refusals[op.Kind]).Draw(t, "why")}
		}
	case fate == "late" && w.centre.slow:
		// It arrives before the centre must show it, but nobody waits any more.
		after := time.Duration(rapid.Int64Range(0, int64(shows)-1).Draw(t, "arrives after"))
		w.centre.arriving = append(w.centre.arriving, arrival{op, w.now.Add(after)})
		return lost, rapid.Bool().Draw(t, "lives on")
	default:
		var why payment.Reason
		if fate == "refused" {
			why = rapid.SampledFrom(refusals[op.Kind]).Draw(t, "why")
		}
		a = w.centre.send(op, why)
	}
	switch fate {
	case "answer lost", "late":
		return lost, true
	case "dies before the answer":
		return lost, false
	case "garbled":
		return payment.Answer{Ref: op.Ref, Outcome: "OK"}, true
	case "other sum":
		if a.Outcome == payment.Approved {
			a.Amount = op.Amount.Add(uzs(1))
		}
	}
	return a, true
}

func (w *world) settle(t *rapid.T, a payment.Answer) {
	before := clone(w.p)
	change := payment.Settle(w.p, a, w.now)
	if diff := cmp.Diff(before, w.p, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("an answer changed the payment it was taken by: %s", diff)
	}
	w.commit(t, &before, change)
	w.answers = append(w.answers, a)
}

func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.centre.pass(w.now)
}

// attempt is a card at this world's centre, which shows late what it does late.
func (w *world) attempt(t *rapid.T) payment.Attempt {
	a := attempt(rapid.SampledFrom([]payment.CardFacts{uzcard, uzcard, another}).Draw(t, "card"))
	a.Fee.Minimum = rapid.SampledFrom([]int64{0, 0, 50}).Draw(t, "minimum fee")
	switch {
	case !w.centre.slow: // "not found" is always the truth
		a.Limits.ShownMillis = nil
	case w.centre.keeps && rapid.Bool().Draw(t, "sent again at any time"):
		delete(a.Limits.ShownMillis, payment.OpCapture)
		delete(a.Limits.ShownMillis, payment.OpVoid)
	}
	return a
}

func (w *world) actions() map[string]func(*rapid.T) {
	decide := func(t *rapid.T) {
		c := payment.Decide{
			Accept: rapid.SampledFrom([]payment.Accept{payment.Capture, payment.Capture, payment.Cancel}).Draw(t, "accept"),
			By:     rapid.SampledFrom(deciders).Draw(t, "by"),
		}
		whole := w.p.Terms.Amount.Minor
		switch rapid.SampledFrom([]string{"none", "whole", "part", "above", "nothing"}).Draw(t, "decided sum") {
		case "whole":
			c.Amount = uzs(whole)
		case "part":
			c.Amount = uzs(rapid.Int64Range(1, whole).Draw(t, "part"))
		case "above":
			c.Amount = uzs(whole + 1)
		case "nothing":
			c.Amount = uzs(0)
		}
		w.begin(t, c)
	}
	pay := func(t *rapid.T) {
		w.codes++
		w.begin(t, payment.Pay{Attempt: w.attempt(t), VerifyID: verifyID + w.codes})
	}
	code := func(t *rapid.T) {
		id := verifyID + w.codes
		if w.p.Attempt != nil && w.p.Attempt.Challenge != nil && rapid.IntRange(0, 5).Draw(t, "guess") > 0 {
			id = w.p.Attempt.Challenge.VerifyID
		}
		w.begin(t, payment.SubmitCode{VerifyID: id})
	}
	return map[string]func(*rapid.T){
		"pay":    pay,
		"code":   code,
		"code 2": code, // twice as often: without a code nothing follows
		"decide": decide,
		"resend": func(t *rapid.T) {
			w.codes++
			w.begin(t, payment.Resend{Card: rapid.SampledFrom([]payment.CardFacts{uzcard, another}).Draw(t, "card"), VerifyID: verifyID + w.codes})
		},
		"lapse":   func(t *rapid.T) { w.begin(t, payment.Lapse{}) },
		"resume":  func(t *rapid.T) { w.begin(t, payment.Resume{}) },
		"restart": func(t *rapid.T) { w.begin(t, payment.Resume{Orphan: true}) },
		"wait": func(t *rapid.T) {
			w.pass(rapid.SampledFrom([]time.Duration{microsecond, time.Second, 29 * time.Second, time.Minute, 10 * time.Minute, 6 * time.Hour}).Draw(t, "wait"))
		},
		"wait until due": func(t *rapid.T) {
			due := w.p.Due()
			if due.IsZero() {
				t.Skip("never due")
			}
			due = due.Add(rapid.SampledFrom([]time.Duration{0, -microsecond, microsecond}).Draw(t, "edge"))
			w.pass(max(due.Sub(w.now), 0))
		},
		"an old answer again": func(t *rapid.T) {
			if len(w.answers) == 0 {
				t.Skip("none came yet")
			}
			a := rapid.SampledFrom(w.answers).Draw(t, "answer")
			outcomes := []payment.Outcome{payment.Approved, payment.Refused, payment.NeverSeen, payment.Unknown}
			if op := w.p.Open; op != nil && op.Ref == a.Ref {
				switch {
				case a.AskedAt.Equal(op.AskedAt):
					t.Skip("to the question that is open")
				case op.Kind == payment.OpHold || op.Kind == payment.OpCharge:
					outcomes = outcomes[2:] // what refuses these ends them, whenever it was said
				default:
					outcomes = outcomes[1:]
				}
			}
			a.Outcome = rapid.SampledFrom(outcomes).Draw(t, "outcome")
			before := clone(w.p)
			if w.settle(t, a); w.p.Version != before.Version {
				t.Fatalf("an answer to %s as it was asked at %s changes the payment, open %+v", a.Ref, a.AskedAt, before.Open)
			}
		},
		"the centre lets go": func(t *rapid.T) {
			if w.centre.live == 0 || rapid.IntRange(0, 4).Draw(t, "rarely") > 0 {
				t.Skip("not now")
			}
			w.centre.lapse()
		},
		"": w.check,
	}
}

// check is what must hold after every step.
func (w *world) check(t *rapid.T) {
	p := &w.p
	must := func(err error) {
		if err != nil {
			t.Fatalf("%s: %v", p.State, err)
		}
	}
	must(p.CheckSums())
	must(books(*p, w.entries))
	must(w.centre.once())
	for _, e := range w.entries {
		must(e.Check())
		if !slices.ContainsFunc(w.closed, func(op payment.Operation) bool { return op.Ref == e.Operation && op.Outcome != payment.Unknown }) {
			t.Fatalf("entry %s follows from %s, which is not on record", e.Kind, e.Operation)
		}
	}
	// Operations, entries and events are numbered without a gap, and every operation is open or on record, once.
	if p.LastEntry != len(w.entries) || p.LastEvent != len(w.events) {
		t.Fatalf("%d entries and %d events, numbered to %d and %d", len(w.entries), len(w.events), p.LastEntry, p.LastEvent)
	}
	for i, e := range w.events {
		if e.N != i+1 {
			t.Fatalf("event %d is numbered %d", i+1, e.N)
		}
	}
	known := make(map[string]bool)
	for i, op := range w.closed {
		if op.N != i+1 || known[op.Ref] {
			t.Fatalf("operation %d on record is number %d, reference %s", i+1, op.N, op.Ref)
		}
		known[op.Ref] = true
	}
	operations := len(w.closed)
	if p.Open != nil {
		operations++
		if p.Open.N != operations || known[p.Open.Ref] {
			t.Fatalf("operation %d is open after %d on record", p.Open.N, len(w.closed))
		}
		known[p.Open.Ref] = true
	}
	if p.LastOperation != operations {
		t.Fatalf("%d operations, numbered to %d", operations, p.LastOperation)
	}
	for ref := range w.centre.did {
		if !known[ref] {
			t.Fatalf("the centre saw %s, which we know nothing of", ref)
		}
	}
	// Time alone moves what is not over.
	switch due := p.Due(); {
	case p.State.Terminal() && (p.Open != nil || !due.IsZero()):
		t.Fatalf("%s, and open %+v, due %v", p.State, p.Open, due)
	case !p.State.Terminal() && due.IsZero():
		person := p.Open != nil && p.Open.Kind.MovesMoney() && p.Open.Outcome != "" && w.now.Sub(p.Open.BegunAt) > 14*24*time.Hour
		if !person {
			t.Fatalf("%s, open %+v: nobody will ever look at it", p.State, p.Open)
		}
	}
	if p.Decision != nil && p.State == payment.Held && p.Open == nil {
		t.Fatalf("decided %+v, and nothing is asked", p.Decision)
	}
	w.checkDecision(t)
	// Terminal is terminal.
	if w.over != nil {
		if diff := cmp.Diff(*w.over, *p, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("it was over, and then: %s", diff)
		}
	} else if p.State.Terminal() {
		over := clone(*p)
		w.over = &over
	}
}

// checkDecision: what was decided is what is done, and who was in time decided.
func (w *world) checkDecision(t *rapid.T) {
	p := &w.p
	d := p.Decision
	switch {
	case d == nil && !p.Terms.AutoCapture && p.State == payment.Captured:
		t.Fatalf("captured, and nobody decided")
	case d == nil && p.State == payment.Voided:
		t.Fatalf("voided, and nobody decided")
	case d == nil:
		return
	case d.By == payment.ByDeadline && (d.At.Before(p.HoldDeadline) || d.Accept != payment.Cancel):
		t.Fatalf("the deadline at %v decided %+v", p.HoldDeadline, d)
	case d.By != payment.ByDeadline && !p.HoldDeadline.IsZero() && !d.At.Before(p.HoldDeadline):
		t.Fatalf("decided %+v, but the deadline was %v", d, p.HoldDeadline)
	case p.State == payment.Captured && (d.Accept != payment.Capture || d.Amount != p.Captured):
		t.Fatalf("captured %v, decided %+v", p.Captured, d)
	case d.Accept == payment.Capture && (d.Amount.Cmp(p.Held) > 0 || !d.Amount.Positive()):
		t.Fatalf("decided %+v of %v", d, p.Held)
	}
	if w.over == nil && p.Open != nil && p.Open.Kind.MovesMoney() {
		want, sum := payment.OpCapture, d.Amount
		if d.Accept == payment.Cancel {
			want, sum = payment.OpVoid, p.Held
		}
		if p.Open.Kind != want || p.Open.Amount != sum {
			t.Fatalf("decided %+v, asked %s %v", d, p.Open.Kind, p.Open.Amount)
		}
	}
}

// rest lets the bad days end: everything is asked in its time and answered truly, until it is over.
func (w *world) rest(t *rapid.T) {
	for range 100 {
		if w.p.State.Terminal() {
			return
		}
		command := payment.Command(payment.Lapse{})
		if w.p.Open != nil {
			command = payment.Resume{}
		}
		if due := w.p.Due(); due.IsZero() {
			command = payment.Resume{Orphan: true} // a person looks
			w.pass(time.Hour)
		} else {
			w.pass(max(due.Sub(w.now), 0))
		}
		before := w.p
		change, err := payment.Begin(w.p, command, w.now)
		if err != nil {
			t.Fatalf("%s, %T at its time: %v", w.p.State, command, err)
		}
		w.commit(t, &before, change)
		if op := w.p.Open; op != nil {
			a, _ := w.asked(t, *op, "good day")
			w.settle(t, a)
		}
		w.check(t)
	}
	t.Fatalf("never at rest: %s, open %+v", w.p.State, w.p.Open)
}

// atRest: our books equal the centre's.
func (w *world) atRest(t *rapid.T) {
	w.pass(time.Hour) // whatever is still on its way arrives
	w.check(t)
	p, c := &w.p, w.centre
	err := func() error {
		switch {
		case c.live != 0:
			return fmt.Errorf("%d is still set aside at the centre", c.live)
		case c.captured != p.Captured.Minor:
			return fmt.Errorf("captured %d at the centre, %v with us", c.captured, p.Captured)
		case c.released != p.Released.Minor:
			return fmt.Errorf("released %d at the centre, %v with us", c.released, p.Released)
		case int64(c.holds+c.charges)*p.Terms.Amount.Minor != p.Held.Minor:
			return fmt.Errorf("%d holds and %d charges at the centre, %v with us", c.holds, c.charges, p.Held)
		}
		return nil
	}()
	if err != nil {
		t.Fatalf("%s: %v", p.State, err)
	}
}

// TestWorld is the invariants of docs/payment-cycle.md (1-5, 7, 8, 10, 11, 16) after every step of payments on bad
// days: requests and answers lost, late, garbled and false, "not found" before it is the truth,
// crashes before and after asking, time jumping to every edge.
func TestWorld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// This centre keeps our references: a capture or void sent a second time is done once.
		w := newWorld(t, true)
		w.check(t)
		t.Repeat(w.actions())
		w.rest(t)
		w.atRest(t)
	})
}
