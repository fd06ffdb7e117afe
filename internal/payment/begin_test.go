package payment_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// situations is every state a payment can be in, with every question that can be open in it, and
// on both sides of each of its times.
var situations = []struct {
	name string
	walk func(t testing.TB) *walk
}{
	{"created", func(t testing.TB) *walk { return start(t, terms()).later(time.Second) }},
	{"created, ttl over", func(t testing.TB) *walk { return start(t, terms()).later(ttl) }},
	{"code asked", func(t testing.TB) *walk { return start(t, terms()).later(time.Second).pay(uzcard).later(time.Second) }},
	{"code asked, ttl over", func(t testing.TB) *walk { return start(t, terms()).later(time.Second).pay(uzcard).later(ttl) }},
	{"code asked, answer overdue", func(t testing.TB) *walk {
		return start(t, terms()).pay(uzcard).later(answers + 5*time.Second)
	}},
	{"challenged", func(t testing.TB) *walk { return start(t, terms()).challenged().later(time.Second) }},
	{"challenged a minute ago", func(t testing.TB) *walk { return start(t, terms()).challenged().later(time.Minute) }},
	{"challenged, code over", func(t testing.TB) *walk { return start(t, terms()).challenged().later(codeFor) }},
	{"challenged, ttl over", func(t testing.TB) *walk { return start(t, terms()).challenged().at(t0.Add(ttl)) }},
	{"further code asked", func(t testing.TB) *walk {
		return start(t, terms()).challenged().later(time.Second).resend().later(time.Second)
	}},
	{"code handed in", func(t testing.TB) *walk {
		return start(t, terms()).challenged().later(time.Second).code().later(time.Second)
	}},
	{"hold asked", func(t testing.TB) *walk { return start(t, terms()).moneyAsked().later(time.Second) }},
	{"hold in doubt", func(t testing.TB) *walk {
		return start(t, terms()).moneyAsked().later(time.Second).unknown().later(time.Second)
	}},
	{"hold in doubt, ttl over", func(t testing.TB) *walk {
		w := start(t, terms()).moneyAsked().later(time.Second).unknown()
		w.at(w.p.Due()).begin(payment.Resume{}).later(ttl).unknown()
		return w.later(time.Second)
	}},
	{"hold in doubt, to be asked now", func(t testing.TB) *walk {
		w := start(t, terms()).moneyAsked().later(time.Second).unknown()
		return w.at(w.p.Due())
	}},
	{"charge asked", func(t testing.TB) *walk { return start(t, oneStage()).moneyAsked().later(time.Second) }},
	{"charge in doubt", func(t testing.TB) *walk {
		return start(t, oneStage()).moneyAsked().later(time.Second).unknown().later(time.Second)
	}},
	{"card refused", func(t testing.TB) *walk {
		return start(t, terms()).moneyAsked().later(time.Second).refusedFor(payment.InsufficientFunds).later(time.Second)
	}},
	{"held", func(t testing.TB) *walk { return start(t, terms()).paid().later(time.Minute) }},
	{"held, deadline over", func(t testing.TB) *walk {
		w := start(t, terms()).paid()
		return w.at(w.p.HoldDeadline)
	}},
	{"capture asked", func(t testing.TB) *walk { return start(t, terms()).paid().capture(100_000).later(time.Second) }},
	{"capture asked, deadline over", func(t testing.TB) *walk { return start(t, terms()).paid().capture(100_000).later(holdFor) }},
	{"capture in doubt", func(t testing.TB) *walk {
		return start(t, terms()).paid().capture(100_000).later(time.Second).unknown().later(time.Second)
	}},
	{"capture refused", func(t testing.TB) *walk {
		return start(t, terms()).paid().capture(100_000).later(time.Second).refusedFor(payment.Unavailable).later(time.Second)
	}},
	{"part asked", func(t testing.TB) *walk { return start(t, terms()).paid().capture(60_000).later(time.Second) }},
	{"void asked", func(t testing.TB) *walk { return start(t, terms()).paid().cancel().later(time.Second) }},
	{"void in doubt", func(t testing.TB) *walk {
		return start(t, terms()).paid().cancel().later(time.Second).unknown().later(time.Second)
	}},
	{"void asked by the deadline", func(t testing.TB) *walk {
		w := start(t, terms()).paid()
		return w.at(w.p.HoldDeadline).begin(payment.Lapse{}).later(time.Second)
	}},
	{"captured", func(t testing.TB) *walk { return start(t, terms()).paid().capture(100_000).done().later(time.Hour) }},
	{"captured in part", func(t testing.TB) *walk { return start(t, terms()).paid().capture(60_000).done().later(time.Hour) }},
	{"captured in one stage", func(t testing.TB) *walk { return start(t, oneStage()).paid().later(time.Hour) }},
	{"voided", func(t testing.TB) *walk { return start(t, terms()).paid().cancel().done().later(time.Hour) }},
	{"voided by the deadline", func(t testing.TB) *walk {
		w := start(t, terms()).paid()
		return w.at(w.p.HoldDeadline).begin(payment.Lapse{}).done().later(time.Hour)
	}},
	{"hold gone", func(t testing.TB) *walk {
		return start(t, terms()).paid().capture(100_000).later(time.Second).refusedFor(payment.HoldGone).later(time.Hour)
	}},
	{"cancelled unpaid", func(t testing.TB) *walk { return start(t, terms()).cancel().later(time.Hour) }},
	{"cancelled when challenged", func(t testing.TB) *walk { return start(t, terms()).challenged().cancel().later(time.Hour) }},
	{"declined", func(t testing.TB) *walk { return start(t, terms()).declined().later(time.Second) }},
	{"expired", func(t testing.TB) *walk { return start(t, terms()).later(ttl).begin(payment.Lapse{}).later(time.Hour) }},
	{"expired when challenged", func(t testing.TB) *walk {
		return start(t, terms()).challenged().at(t0.Add(ttl)).begin(payment.Lapse{}).later(time.Hour)
	}},
}

// deciders is everybody who may decide before the deadline; all call the same function, so each
// cell of capture and cancel holds for each of them.
var deciders = []payment.By{payment.ByMerchant, payment.ByCallback, payment.ByNotification, payment.ByOperator}

func decide(accept payment.Accept, amount money.Amount) []payment.Command {
	var all []payment.Command
	for _, by := range deciders {
		all = append(all, payment.Decide{Accept: accept, Amount: amount, By: by})
	}
	return all
}

// commands are the columns of the table. "all" says no sum, "full" says the sum that was asked for.
var commands = map[string][]payment.Command{
	"pay":          {payment.Pay{Attempt: attempt(uzcard), VerifyID: 77}},
	"pay other":    {payment.Pay{Attempt: attempt(another), VerifyID: 77}},
	"resend":       {payment.Resend{Card: uzcard, VerifyID: 77}},
	"resend other": {payment.Resend{Card: another, VerifyID: 77}},
	"code":         {payment.SubmitCode{VerifyID: verifyID}},
	"foreign code": {payment.SubmitCode{VerifyID: verifyID + 50}, payment.SubmitCode{}},
	"all":          decide(payment.Capture, money.Amount{}),
	"full":         decide(payment.Capture, asked),
	"part":         decide(payment.Capture, uzs(60_000)),
	"above":        decide(payment.Capture, uzs(100_001)),
	"nothing":      append(decide(payment.Capture, uzs(0)), decide(payment.Capture, uzs(-1))...),
	"cancel":       append(decide(payment.Cancel, money.Amount{}), decide(payment.Cancel, uzs(60_000))...),
	"lapse":        {payment.Lapse{}},
	"resume":       {payment.Resume{}},
	"orphan":       {payment.Resume{Orphan: true}},
}

// The refusals are written "!reason"; the other cells are outcome's words.
const stateByCommand = `
situation                      | pay                  | pay other            | resend             | resend other       | code                | foreign code | all                | full               | part               | above               | nothing            | cancel             | lapse                 | resume      | orphan
created                        | ?challenge           | ?challenge           | !no_challenge      | !no_challenge      | !wrong_code         | !wrong_code  | !not_held          | !not_held          | !not_held          | !not_held           | !not_held          | >voided event canceled | =                 | =           | =
created, ttl over              | !payment_expired     | !payment_expired     | !payment_expired   | !payment_expired   | !wrong_code         | !wrong_code  | !not_held          | !not_held          | !not_held          | !not_held           | !not_held          | >voided event canceled | >expired event canceled | =     | =
code asked                     | !under_way           | !busy                | !busy              | !busy              | !wrong_code         | !wrong_code  | !busy              | !busy              | !busy              | !busy               | !busy              | !busy              | !busy                 | =           | closed
code asked, ttl over           | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | ″                  | ″                  | ″                  | ″                   | ″                  | ″                  | ″                     | closed      | closed
code asked, answer overdue     | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | ″                  | ″                  | ″                  | ″                   | ″                  | ″                  | ″                     | closed      | closed
challenged                     | =                    | >created ?challenge  | ?challenge         | !card_unknown      | ?verify             | !wrong_code  | !not_held          | !not_held          | !not_held          | !not_held           | !not_held          | >voided event canceled | =                 | =           | =
challenged a minute ago        | >created ?challenge  | ″                    | ″                  | ″                  | ″                   | ″            | ″                  | ″                  | ″                  | ″                   | ″                  | ″                  | ″                     | ″           | ″
challenged, code over          | ″                    | ″                    | ″                  | ″                  | !code_expired       | ″            | ″                  | ″                  | ″                  | ″                   | ″                  | ″                  | ″                     | ″           | ″
challenged, ttl over           | !payment_expired     | !payment_expired     | !payment_expired   | !payment_expired   | !payment_expired    | ″            | ″                  | ″                  | ″                  | ″                   | ″                  | ″                  | >expired event canceled | ″         | ″
further code asked             | !under_way           | !busy                | !busy              | !busy              | !busy               | ″            | !busy              | !busy              | !busy              | !busy               | !busy              | !busy              | !busy                 | =           | closed
code handed in                 | !busy                | ″                    | ″                  | ″                  | !under_way          | ″            | ″                  | ″                  | ″                  | ″                   | ″                  | ″                  | ″                     | =           | closed
hold asked                     | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | ″                  | ″                  | ″                  | ″                   | ″                  | ″                  | ″                     | =           | again query
hold in doubt                  | !in_doubt            | !in_doubt            | !in_doubt          | !in_doubt          | ″                   | ″            | !in_doubt          | !in_doubt          | !in_doubt          | !in_doubt           | !in_doubt          | !in_doubt          | !in_doubt             | =           | again query
hold in doubt, ttl over        | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | ″                  | ″                  | ″                  | ″                   | ″                  | ″                  | ″                     | =           | again query
hold in doubt, to be asked now | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | ″                  | ″                  | ″                  | ″                   | ″                  | ″                  | ″                     | again query | again query
charge asked                   | !busy                | !busy                | !busy              | !busy              | ″                   | ″            | !busy              | !busy              | !busy              | !busy               | !busy              | !busy              | !busy                 | =           | again query
charge in doubt                | !in_doubt            | !in_doubt            | !in_doubt          | !in_doubt          | ″                   | ″            | !in_doubt          | !in_doubt          | !in_doubt          | !in_doubt           | !in_doubt          | !in_doubt          | !in_doubt             | =           | again query
card refused                   | ?challenge           | ?challenge           | !no_challenge      | !no_challenge      | !no_challenge       | ″            | !not_held          | !not_held          | !not_held          | !not_held           | !not_held          | >voided event canceled | =                 | =           | =
held                           | !already_paid        | !already_paid        | !already_paid      | !already_paid      | =                   | ″            | ?capture           | ?capture           | ?capture           | !amount_above_hold  | !amount_above_hold | ?void              | =                     | =           | =
held, deadline over            | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | !deadline_passed   | !deadline_passed   | !deadline_passed   | !deadline_passed    | !deadline_passed   | !deadline_passed   | ?void                 | ″           | ″
capture asked                  | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | !under_way         | !under_way         | !decision_stands   | !decision_stands    | !decision_stands   | !decision_stands   | !busy                 | =           | again query
capture asked, deadline over   | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | ″                  | ″                  | ″                  | ″                   | ″                  | ″                  | !busy                 | again query | again query
capture in doubt               | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | ″                  | ″                  | ″                  | ″                   | ″                  | ″                  | !in_doubt             | =           | again query
capture refused                | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | ″                  | ″                  | ″                  | ″                   | ″                  | ″                  | !in_doubt             | =           | again send
part asked                     | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | !decision_stands   | !decision_stands   | !under_way         | !decision_stands    | !decision_stands   | !decision_stands   | !busy                 | =           | again query
void asked                     | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | !decision_stands   | !decision_stands   | !decision_stands   | !decision_stands    | !decision_stands   | !under_way         | !busy                 | =           | again query
void in doubt                  | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | ″                  | ″                  | ″                  | ″                   | ″                  | ″                  | !in_doubt             | =           | again query
void asked by the deadline     | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | ″                  | ″                  | ″                  | ″                   | ″                  | ″                  | !busy                 | =           | again query
captured                       | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | =                  | =                  | ″                  | ″                   | ″                  | !decision_stands   | =                     | =           | =
captured in part               | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | !decision_stands   | !decision_stands   | =                  | ″                   | ″                  | ″                  | ″                     | ″           | ″
captured in one stage          | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | !already_captured  | !already_captured  | !already_captured  | !already_captured   | !already_captured  | !already_captured  | ″                     | ″           | ″
voided                         | !finished            | !finished            | !finished          | !finished          | !finished           | ″            | !decision_stands   | !decision_stands   | !decision_stands   | !decision_stands    | !decision_stands   | =                  | ″                     | ″           | ″
voided by the deadline         | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | ″                  | ″                  | ″                  | ″                   | ″                  | =                  | ″                     | ″           | ″
hold gone                      | ″                    | ″                    | ″                  | ″                  | ″                   | ″            | =                  | =                  | ″                  | ″                   | ″                  | !decision_stands   | ″                     | ″           | ″
cancelled unpaid               | ″                    | ″                    | ″                  | ″                  | !wrong_code         | ″            | !decision_stands   | !decision_stands   | ″                  | ″                   | ″                  | =                  | ″                     | ″           | ″
cancelled when challenged      | ″                    | ″                    | ″                  | ″                  | !finished           | ″            | ″                  | ″                  | ″                  | ″                   | ″                  | ″                  | ″                     | ″           | ″
declined                       | !attempts_used_up    | !attempts_used_up    | !attempts_used_up  | !attempts_used_up  | !attempts_used_up   | ″            | !finished          | !finished          | !finished          | !finished           | !finished          | !finished          | ″                     | ″           | ″
expired                        | !payment_expired     | !payment_expired     | !payment_expired   | !payment_expired   | !wrong_code         | ″            | ″                  | ″                  | ″                  | ″                   | ″                  | ″                  | ″                     | ″           | ″
expired when challenged        | ″                    | ″                    | ″                  | ″                  | !payment_expired    | ″            | ″                  | ″                  | ″                  | ″                   | ″                  | ″                  | ″                     | ″           | ″
`

func TestEveryStateByEveryCommand(t *testing.T) {
	heads, rows := matrix(t, stateByCommand)
	if len(rows) != len(situations) || len(heads) != len(commands) {
		t.Errorf("the table has %d rows and %d columns; there are %d situations and %d commands", len(rows), len(heads), len(situations), len(commands))
	}
	for _, s := range situations {
		row, ok := rows[s.name]
		if !ok {
			t.Errorf("the table has no row %q", s.name)
			continue
		}
		for i, head := range heads {
			for _, c := range commands[head] {
				w := s.walk(t)
				before := clone(w.p)
				change, err := payment.Begin(w.p, c, w.now)
				got := outcome(w.p, change)
				var refusal *payment.Error
				if errors.As(err, &refusal) {
					got = "!" + string(refusal.Reason)
				} else if err != nil {
					t.Errorf("%s, %s: %v is not of the one kind of error", s.name, head, err)
				}
				if got != row[i] {
					t.Errorf("%s, %s (%+v): %q, want %q", s.name, head, c, got, row[i])
				}
				if diff := cmp.Diff(before, w.p, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s, %s: the payment handed in was changed: %s", s.name, head, diff)
				}
				if err != nil {
					continue
				}
				if change.Empty() {
					if diff := cmp.Diff(before, change.Payment, cmpopts.EquateEmpty()); diff != "" {
						t.Errorf("%s, %s: an empty change has another payment: %s", s.name, head, diff)
					}
					continue
				}
				if err := change.Check(&before); err != nil {
					t.Errorf("%s, %s: %v", s.name, head, err)
				}
				checkDecision(t, s.name+", "+head, before, change.Payment, c, w.now)
			}
		}
	}
}

// checkDecision: a decision names what was said, who said it and when; what is asked of the centre
// is that sum; and nobody but a decision makes one.
func checkDecision(t *testing.T, name string, before, after payment.Payment, c payment.Command, now time.Time) {
	t.Helper()
	if before.Decision != nil {
		if after.Decision == nil || *after.Decision != *before.Decision {
			t.Errorf("%s: the decision is now %+v", name, after.Decision)
		}
		return
	}
	want := payment.Decision{Accept: payment.Cancel, Amount: uzs(0), By: payment.ByDeadline, At: now}
	switch c := c.(type) {
	case payment.Decide:
		want.Accept, want.By = c.Accept, c.By
		if c.Accept == payment.Capture {
			want.Amount = c.Amount
			if c.Amount == (money.Amount{}) {
				want.Amount = before.Held
			}
		}
	case payment.Lapse:
		if before.State != payment.Held {
			if after.Decision != nil {
				t.Errorf("%s: time decided %+v", name, after.Decision)
			}
			return
		}
	default:
		if after.Decision != nil {
			t.Errorf("%s: decides %+v", name, after.Decision)
		}
		return
	}
	if after.Decision == nil || *after.Decision != want {
		t.Errorf("%s: the decision is %+v, want %+v", name, after.Decision, want)
	}
	if op := after.Open; op != nil {
		sum := want.Amount
		if want.Accept == payment.Cancel {
			sum = before.StillHeld()
		}
		if op.Amount != sum {
			t.Errorf("%s: the centre is asked for %v, want %v", name, op.Amount, sum)
		}
	}
}

// A decision that comes too late is refused with the one that stands: which, its sum, who, when.
func TestRefusedDecisionNamesTheOneThatStands(t *testing.T) {
	for _, s := range situations {
		w := s.walk(t)
		if w.p.Decision == nil {
			continue
		}
		for _, c := range slices.Concat(commands["all"], commands["part"], commands["cancel"]) {
			_, err := payment.Begin(w.p, c, w.now)
			var refusal *payment.Error
			if !errors.As(err, &refusal) || refusal.Reason != payment.DecisionStands {
				continue
			}
			if refusal.Decision == nil || *refusal.Decision != *w.p.Decision {
				t.Errorf("%s: %+v is refused naming %+v, but %+v stands", s.name, c, refusal.Decision, w.p.Decision)
			}
		}
	}
}

// A centre that captures whole holds only, or keeps what was not captured, is not asked for a part.
func TestWholeCapture(t *testing.T) {
	w := start(t, terms()).paid().later(time.Second)
	w.p.Attempt.Limits.WholeCapture = true
	w.refused(payment.Decide{Accept: payment.Capture, Amount: uzs(60_000), By: payment.ByMerchant}, payment.Unsupported)
	if w.p.Decision != nil || w.p.Open != nil {
		t.Errorf("the refused decision stands: %+v, open %+v", w.p.Decision, w.p.Open)
	}
	w.begin(payment.Decide{Accept: payment.Capture, Amount: w.p.Held, By: payment.ByMerchant}).done()
	if w.p.State != payment.Captured {
		t.Errorf("all of it: %s", w.p.State)
	}
	w = start(t, terms()).paid()
	w.p.Attempt.Limits.WholeCapture = true
	if w.cancel().done(); w.p.State != payment.Voided {
		t.Errorf("cancelled: %s", w.p.State)
	}
}

// The same decision by another way is the same decision, and who decided first stays on record.
func TestSameDecisionByAnotherWay(t *testing.T) {
	for _, first := range deciders {
		for _, second := range deciders {
			w := start(t, terms()).paid().later(time.Second)
			w.begin(payment.Decide{Accept: payment.Capture, Amount: uzs(60_000), By: first}).done()
			w.begin(payment.Decide{Accept: payment.Capture, Amount: uzs(60_000), By: second})
			if !w.lastSeen.Empty() || w.p.Decision.By != first {
				t.Errorf("%s after %s: decided by %s", second, first, w.p.Decision.By)
			}
		}
	}
}

// What the question to the centre says, and that it is a new one each time.
func TestQuestionsAreNumberedAndNamed(t *testing.T) {
	w := start(t, terms())
	w.pay(uzcard)
	if got, want := w.p.Open.Ref, "1772425020000_5520"; got != want { // creation in milliseconds, number
		t.Errorf("the first reference is %q, want %q (seed: processingReference)", got, want)
	}
	w.codeSent().code().approved().approved().capture(60_000).done()
	seen := make(map[string]bool)
	for i, op := range w.closed {
		if op.N != i+1 || seen[op.Ref] || len(op.Ref) > 28 {
			t.Errorf("operation %d is %d, reference %q", i+1, op.N, op.Ref)
		}
		seen[op.Ref] = true
		if op.BegunAt.IsZero() || op.SentAt != op.BegunAt || op.AskedAt != op.BegunAt || op.Asks != 1 || op.Ask != payment.Send {
			t.Errorf("operation %d was asked %+v", i+1, op)
		}
		if op.AnsweredAt.IsZero() || !op.NextAt.IsZero() || op.Outcome == "" {
			t.Errorf("operation %d is on record as %+v", i+1, op)
		}
	}
	want := []payment.Kind{payment.OpChallenge, payment.OpVerify, payment.OpHold, payment.OpCapture}
	var got []payment.Kind
	for _, op := range w.closed {
		got = append(got, op.Kind)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if sum := w.closed[3].Amount; sum != uzs(60_000) {
		t.Errorf("the centre was asked to capture %v", sum)
	}
}

// The longest reference that can be made still fits the 28 characters that are promised.
func TestReferenceLength(t *testing.T) {
	c := payment.New(payment.ID{1}, 1<<31-1, 12, terms(), t0)
	c.Payment.LastOperation = 998
	c, err := payment.Begin(c.Payment, payment.Pay{Attempt: attempt(uzcard), VerifyID: 1}, t0)
	if err != nil || len(c.Payment.Open.Ref) > 28 {
		t.Errorf("reference %q, %v", c.Payment.Open.Ref, err)
	}
}

// Every question whose answer never comes is asked about, and not while its call can still be under way.
func TestOpenQuestionHasANextInquiry(t *testing.T) {
	for _, s := range situations {
		w := s.walk(t)
		if op := w.p.Open; op != nil && op.Outcome == "" && op.NextAt.Sub(op.AskedAt) < answers {
			t.Errorf("%s: asked at %v, the next inquiry at %v is while the call may be under way", s.name, op.AskedAt, op.NextAt)
		}
	}
}

func TestNewPayment(t *testing.T) {
	w := start(t, terms())
	p := w.p
	if p.State != payment.Created || p.Status() != payment.StatusCreated || p.Open != nil || p.Decision != nil || len(w.events) != 0 {
		t.Errorf("a new payment is %+v with events %v", p, w.events)
	}
	for _, sum := range []money.Amount{p.Held, p.Captured, p.Released, p.Refunded, p.Fee} {
		if sum != uzs(0) {
			t.Errorf("a new payment has sums %+v", p.Sums)
		}
	}
	if p.Due() != t0.Add(ttl) {
		t.Errorf("a new payment wants attention at %v, its ttl ends at %v", p.Due(), t0.Add(ttl))
	}
	if w.lastSeen.Empty() {
		t.Error("a new payment is nothing to store")
	}
}

// What wants attention when nobody asks: the inquiry, the ttl, the deadline; nothing else.
func TestDue(t *testing.T) {
	for _, s := range situations {
		w := s.walk(t)
		p := w.p
		want := time.Time{}
		switch {
		case p.Open != nil:
			want = p.Open.NextAt
		case p.State == payment.Created || p.State == payment.Challenged:
			want = t0.Add(ttl)
		case p.State == payment.Held:
			want = p.HoldDeadline
		}
		if got := p.Due(); got != want {
			t.Errorf("%s: due %v, want %v", s.name, got, want)
		}
		if want.IsZero() && !p.State.Terminal() {
			t.Errorf("%s: nothing will ever move it", s.name)
		}
	}
}

// What the merchant is told in each situation (contract §9).
func TestStatus(t *testing.T) {
	want := map[payment.State]payment.Status{
		payment.Held: payment.StatusWaitingForCapture, payment.Captured: payment.StatusSucceeded, payment.Challenged: payment.StatusWaitUserAction,
		payment.Voided: payment.StatusCanceled, payment.Declined: payment.StatusCanceled, payment.Expired: payment.StatusCanceled,
	}
	for _, s := range situations {
		w := s.walk(t)
		status := want[w.p.State]
		if w.p.State == payment.Created {
			status = payment.StatusCreated
			if s.name == "card refused" { // the payer was challenged already: no way back on the wire
				status = payment.StatusWaitUserAction
			}
		}
		if got := w.p.Status(); got != status {
			t.Errorf("%s: status %s, want %s", s.name, got, status)
		}
		for i, e := range w.events {
			if e.N != i+1 {
				t.Errorf("%s: event %d is numbered %d", s.name, i+1, e.N)
			}
			if i > 0 && e.Status == w.events[i-1].Status {
				t.Errorf("%s: told twice of %s", s.name, e.Status)
			}
		}
		if n := len(w.events); n > 0 && (w.events[n-1].Status != status || w.events[n-1].Sums != w.p.Sums) {
			t.Errorf("%s: last told %+v, but it is %s with %+v", s.name, w.events[n-1], status, w.p.Sums)
		}
	}
}

func TestStateNames(t *testing.T) {
	seen := make(map[string]bool)
	for s := payment.Created; s <= payment.Expired; s++ {
		name := s.String()
		if name == "" || seen[name] {
			t.Errorf("state %d is called %q", uint8(s), name)
		}
		seen[name] = true
		if back, err := payment.ParseState(name); err != nil || back != s {
			t.Errorf("ParseState(%q) = %v, %v", name, back, err)
		}
		if terminal := s == payment.Captured || s == payment.Voided || s == payment.Declined || s == payment.Expired; s.Terminal() != terminal {
			t.Errorf("%s: Terminal = %v", name, s.Terminal())
		}
	}
	for _, name := range []string{"", "Created", "held ", "canceled", "state(0)", "state(8)"} {
		if s, err := payment.ParseState(name); err == nil {
			t.Errorf("ParseState(%q) = %v", name, s)
		}
	}
	if got := payment.State(200).String(); got != "state(200)" {
		t.Errorf("an unknown state prints %q", got)
	}
}
