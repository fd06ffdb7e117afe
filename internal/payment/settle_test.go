package payment_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast/internal/ledger"
	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// open is every operation that can be open, asked just now.
var open = map[string]func(t testing.TB) *walk{
	"challenge":               func(t testing.TB) *walk { return start(t, terms()).later(time.Second).pay(uzcard) },
	"challenge, last card":    func(t testing.TB) *walk { return lastCard(t, terms()).pay(uzcard) },
	"challenge, other card":   func(t testing.TB) *walk { return start(t, terms()).challenged().later(time.Second).pay(another) },
	"challenge again":         func(t testing.TB) *walk { return start(t, terms()).challenged().later(time.Second).resend() },
	"verify":                  func(t testing.TB) *walk { return start(t, terms()).challenged().later(time.Second).code() },
	"verify, one stage":       func(t testing.TB) *walk { return start(t, oneStage()).challenged().later(time.Second).code() },
	"verify, last card":       func(t testing.TB) *walk { return lastCard(t, terms()).challenged().later(time.Second).code() },
	"verify, third code":      func(t testing.TB) *walk { return thirdCode(t) },
	"verify at the ttl's end": func(t testing.TB) *walk { return start(t, terms()).at(t0.Add(ttl - 2*time.Second)).challenged().code() },
	"hold":                    func(t testing.TB) *walk { return start(t, terms()).moneyAsked() },
	"hold, last card":         func(t testing.TB) *walk { return lastCard(t, terms()).moneyAsked() },
	"charge":                  func(t testing.TB) *walk { return start(t, oneStage()).moneyAsked() },
	"charge, last card":       func(t testing.TB) *walk { return lastCard(t, oneStage()).moneyAsked() },
	"capture":                 func(t testing.TB) *walk { return start(t, terms()).paid().capture(100_000) },
	"capture part":            func(t testing.TB) *walk { return start(t, terms()).paid().capture(60_000) },
	"capture, no fee":         func(t testing.TB) *walk { return start(t, terms()).paid().capture(24) }, // 2 % of 0.24 rounds to nothing
	"void":                    func(t testing.TB) *walk { return start(t, terms()).paid().cancel() },
	"void by the deadline": func(t testing.TB) *walk {
		w := start(t, terms()).paid()
		return w.at(w.p.HoldDeadline).begin(payment.Lapse{})
	},
}

// lastCard has one try left.
func lastCard(t testing.TB, terms payment.Terms) *walk {
	w := start(t, terms)
	for range payment.MaxAttempts - 1 {
		w.later(time.Second).pay(uzcard).refusedFor(payment.CardRefused)
	}
	return w
}

func thirdCode(t testing.TB) *walk {
	w := start(t, terms()).challenged()
	for range payment.MaxWrongCodes - 1 {
		w.later(time.Second).code().refusedFor(payment.WrongCode)
	}
	return w.later(time.Second).code()
}

// answers are the columns; each comes a second after the question, "proven" a minute after it.
var answered = map[string]payment.Answer{
	"approved":          {Outcome: payment.Approved},
	"approved, its sum": {Outcome: payment.Approved}, // the sum is filled in
	"other sum":         {Outcome: payment.Approved, Amount: uzs(99_999)},
	"other currency":    {Outcome: payment.Approved, Amount: money.New(100_000, money.USD)},
	"challenged":        {Outcome: payment.ChallengeGiven, CentreID: "78"},
	"card refused":      {Outcome: payment.Refused, Reason: payment.CardRefused},
	"no funds":          {Outcome: payment.Refused, Reason: payment.InsufficientFunds},
	"no reason":         {Outcome: payment.Refused},
	"unavailable":       {Outcome: payment.Refused, Reason: payment.Unavailable},
	"misconfigured":     {Outcome: payment.Refused, Reason: payment.Misconfigured},
	"wrong code":        {Outcome: payment.Refused, Reason: payment.WrongCode},
	"code over":         {Outcome: payment.Refused, Reason: payment.CodeExpired},
	"hold gone":         {Outcome: payment.Refused, Reason: payment.HoldGone},
	"unknown":           {Outcome: payment.Unknown, Cause: "time-out"},
	"not found":         {Outcome: payment.NeverSeen},
	"proven":            {Outcome: payment.NeverSeen},
	"garbage":           {Outcome: "perhaps"},
	"nothing at all":    {},
}

// Kept questions say how long after they were begun they are asked about, a payer at his bank every
// 30 s; "proven" is what the centre's "never seen" comes to once it must have shown the operation.
const kindByAnswer = `
operation               | approved                                      | approved, its sum | other sum          | other currency | challenged                    | card refused            | no funds                      | no reason             | unavailable           | misconfigured         | wrong code            | code over             | hold gone             | unknown              | not found | proven | garbage | nothing at all
challenge               | closed because unavailable                    | ″1 | ″1 | ″1 | >challenged closed event wait_user_action | closed because card_refused | closed because insufficient_funds | closed | closed because unavailable | closed because misconfigured | closed because wrong_code | closed because code_expired | closed because hold_gone | closed because unavailable | ″1 | ″1 | ″1 | ″1
challenge, last card    | >declined closed event canceled because unavailable | ″1 | ″1 | ″1 | >challenged closed event wait_user_action | >declined closed event canceled because card_refused | >declined closed event canceled because insufficient_funds | >declined closed event canceled | closed because unavailable | closed because misconfigured | >declined closed event canceled because wrong_code | >declined closed event canceled because code_expired | >declined closed event canceled because hold_gone | >declined closed event canceled because unavailable | ″1 | ″1 | ″1 | ″1
challenge, other card   | closed because unavailable                    | ″1 | ″1 | ″1 | >challenged closed            | closed because card_refused | closed because insufficient_funds | closed | closed because unavailable | closed because misconfigured | closed because wrong_code | closed because code_expired | closed because hold_gone | closed because unavailable | ″1 | ″1 | ″1 | ″1
challenge again         | closed because unavailable                    | ″1 | ″1 | ″1 | closed                        | closed because card_refused | closed because insufficient_funds | closed | closed because unavailable | closed because misconfigured | closed because wrong_code | closed because code_expired | closed because hold_gone | closed because unavailable | ″1 | ″1 | ″1 | ″1
verify                  | closed ?hold                                  | ″1 | closed because unavailable | ″3 | ″3 | >created closed because card_refused | >created closed because insufficient_funds | >created closed | closed because unavailable | closed because misconfigured | closed because wrong_code | closed because code_expired | >created closed because hold_gone | closed because unavailable | ″3 | ″3 | ″3 | ″3
verify, one stage       | closed ?charge                                | ″1 | closed because unavailable | ″3 | ″3 | >created closed because card_refused | >created closed because insufficient_funds | >created closed | closed because unavailable | closed because misconfigured | closed because wrong_code | closed because code_expired | >created closed because hold_gone | closed because unavailable | ″3 | ″3 | ″3 | ″3
verify, last card       | closed ?hold                                  | ″1 | closed because unavailable | ″3 | ″3 | >declined closed event canceled because card_refused | >declined closed event canceled because insufficient_funds | >declined closed event canceled | closed because unavailable | closed because misconfigured | closed because wrong_code | closed because code_expired | >declined closed event canceled because hold_gone | closed because unavailable | ″3 | ″3 | ″3 | ″3
verify, third code      | closed ?hold                                  | ″1 | closed because unavailable | ″3 | ″3 | >created closed because card_refused | >created closed because insufficient_funds | >created closed | closed because unavailable | closed because misconfigured | >declined closed event canceled because wrong_code | closed because code_expired | >created closed because hold_gone | closed because unavailable | ″3 | ″3 | ″3 | ″3
verify at the ttl's end | >expired closed event canceled                | ″1 | closed because unavailable | ″3 | ″3 | >created closed because card_refused | >created closed because insufficient_funds | >created closed | closed because unavailable | closed because misconfigured | closed because wrong_code | closed because code_expired | >created closed because hold_gone | closed because unavailable | ″3 | ″3 | ″3 | ″3
hold                    | >held closed +hold event waiting_for_capture  | ″1 | kept 5s            | ″3 | kept 31s | >created closed because card_refused | >created closed because insufficient_funds | >created closed | >created closed because unavailable | >created closed because misconfigured | >created closed because wrong_code | >created closed because code_expired | >created closed because hold_gone | kept 5s | ″3 | >created closed because unavailable | ″3 | ″3
hold, last card         | >held closed +hold event waiting_for_capture  | ″1 | kept 5s            | ″3 | kept 31s | >declined closed event canceled because card_refused | >declined closed event canceled because insufficient_funds | >declined closed event canceled | >declined closed event canceled because unavailable | >declined closed event canceled because misconfigured | >declined closed event canceled because wrong_code | >declined closed event canceled because code_expired | >declined closed event canceled because hold_gone | kept 5s | ″3 | >declined closed event canceled because unavailable | ″3 | ″3
charge                  | >captured closed +hold +capture +fee event succeeded | ″1 | kept 5s     | ″3 | kept 31s | >created closed because card_refused | >created closed because insufficient_funds | >created closed | >created closed because unavailable | >created closed because misconfigured | >created closed because wrong_code | >created closed because code_expired | >created closed because hold_gone | kept 5s | ″3 | >created closed because unavailable | ″3 | ″3
charge, last card       | >captured closed +hold +capture +fee event succeeded | ″1 | kept 5s     | ″3 | kept 31s | >declined closed event canceled because card_refused | >declined closed event canceled because insufficient_funds | >declined closed event canceled | >declined closed event canceled because unavailable | >declined closed event canceled because misconfigured | >declined closed event canceled because wrong_code | >declined closed event canceled because code_expired | >declined closed event canceled because hold_gone | kept 5s | ″3 | >declined closed event canceled because unavailable | ″3 | ″3
capture                 | >captured closed +capture +fee event succeeded | ″1 | kept 5s           | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | >voided closed +release event canceled | kept 5s | ″3 | kept 1m0s | ″3 | ″3
capture part            | >captured closed +capture +fee +release event succeeded | ″1 | kept 5s  | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | >voided closed +release event canceled | kept 5s | ″3 | kept 1m0s | ″3 | ″3
capture, no fee         | >captured closed +capture +release event succeeded | ″1 | kept 5s       | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | >voided closed +release event canceled | kept 5s | ″3 | kept 1m0s | ″3 | ″3
void                    | >voided closed +release event canceled        | ″1 | kept 5s            | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | >voided closed +release event canceled | kept 5s | ″3 | kept 1m0s | ″3 | ″3
void by the deadline    | >voided closed +release event canceled        | ″1 | kept 5s            | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | ″3 | >voided closed +release event canceled | kept 5s | ″3 | kept 1m0s | ″3 | ″3
`

func TestEveryOperationByEveryAnswer(t *testing.T) {
	heads, rows := matrix(t, kindByAnswer)
	if len(rows) != len(open) || len(heads) != len(answered) {
		t.Errorf("the table has %d rows and %d columns; there are %d operations and %d answers", len(rows), len(heads), len(open), len(answered))
	}
	for name, walk := range open {
		row, ok := rows[name]
		if !ok {
			t.Errorf("the table has no row %q", name)
			continue
		}
		for i, head := range heads {
			want := row[i]
			// "″3" is as the third cell of the row: most answers prove nothing, and the same nothing.
			if n, same := strings.CutPrefix(want, "″"); same {
				var cell int
				if _, err := fmt.Sscan(n, &cell); err != nil {
					t.Fatal(err)
				}
				want = row[cell-1]
			}
			w := walk(t)
			now := w.now.Add(time.Second)
			if head == "proven" {
				// It is the answer to an inquiry that was put when the centre must show the operation.
				if now = w.p.Open.SentAt.Add(shows); w.p.Open.Kind.MovesMoney() {
					w.at(now).begin(payment.Resume{Orphan: true})
				}
			}
			op := *w.p.Open
			a := answered[head]
			a.Ref = op.Ref
			if head == "approved, its sum" {
				a.Amount = op.Amount
			}
			before := clone(w.p)
			change := payment.Settle(w.p, a, now)
			got := outcome(before, change)
			if open := change.Payment.Open; open != nil && open.Ref == op.Ref {
				got += " " + open.NextAt.Sub(op.BegunAt).String()
			}
			if why := change.Payment.LastRefusal; why != "" {
				got += " because " + string(why)
			}
			if got != want {
				t.Errorf("%s, %s:\n got %q\nwant %q", name, head, got, want)
			}
			if diff := cmp.Diff(before, w.p, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s, %s: the payment handed in was changed: %s", name, head, diff)
			}
			if err := change.Check(&before); err != nil {
				t.Errorf("%s, %s: %v", name, head, err)
			}
			if err := books(change.Payment, append(w.entries, change.Entries...)); err != nil {
				t.Errorf("%s, %s: %v", name, head, err)
			}
			// What was answered is on record, whether it settled the question or not.
			record := change.Payment.Open
			if change.Closed != nil {
				record = change.Closed
			}
			if record == nil || record.Ref != op.Ref || record.AnsweredAt != now || record.Outcome == "" || record.Reason != a.Reason {
				t.Errorf("%s, %s: on record is %+v", name, head, record)
			}
		}
	}
}

// An answer to anything but the open question changes nothing, whatever it says: a foreign one, the
// one that was taken already, one that comes after the payment is over.
func TestAnswersToOtherQuestionsChangeNothing(t *testing.T) {
	for _, s := range situations {
		w := s.walk(t)
		refs := []string{"", "1772425020000_5521", "1772425020000_5520_999", "1772425020000_552"}
		for _, op := range w.closed {
			refs = append(refs, op.Ref)
		}
		for _, ref := range refs {
			for name, a := range answered {
				a.Ref, a.Claim = ref, "hold 9"
				before := clone(w.p)
				change := payment.Settle(w.p, a, w.now.Add(time.Second))
				if !change.Empty() || change.Claim != "" || change.Closed != nil || len(change.Entries)+len(change.Events) != 0 {
					t.Errorf("%s: the answer %q to %q changes something", s.name, name, ref)
				}
				if diff := cmp.Diff(before, change.Payment, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s: the answer %q to %q: %s", s.name, name, ref, diff)
				}
			}
		}
	}
}

// An answer that is taken is taken once, also where it leads straight to the next question.
func TestRepeatedAnswerChangesNothing(t *testing.T) {
	for name, walk := range open {
		for head, a := range answered {
			w := walk(t)
			a.Ref = w.p.Open.Ref
			w.later(time.Second)
			first := payment.Settle(w.p, a, w.now)
			again := payment.Settle(first.Payment, a, w.now)
			if open := first.Payment.Open; open != nil && open.Ref == a.Ref {
				// The question is still open and the answer proves nothing: it may be noted again, the same.
				if diff := cmp.Diff(first.Payment, again.Payment, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s, %s twice: %s", name, head, diff)
				}
				continue
			}
			if !again.Empty() {
				t.Errorf("%s, %s twice: the second changes something", name, head)
			}
		}
	}
}

// A centre that says it did something else has proven nothing, and the record says what it said.
func TestOtherSumIsNotApproved(t *testing.T) {
	for _, name := range []string{"hold", "charge", "capture", "capture part", "void"} {
		for _, sum := range []money.Amount{uzs(1), uzs(99_999), uzs(100_001), uzs(-100_000), uzs(-60_000), money.New(100_000, money.USD), money.New(60_000, money.EUR)} {
			w := open[name](t)
			before := w.p
			w.later(time.Second).settle(payment.Answer{Outcome: payment.Approved, Amount: sum, Cause: "OK"})
			if w.p.State != before.State || w.p.Sums != before.Sums || w.p.Open == nil || len(w.lastSeen.Entries) != 0 {
				t.Errorf("%s answered with %v: %s, %+v", name, sum, w.p.State, w.p.Sums)
				continue
			}
			if w.p.Open.Outcome != payment.Unknown || !strings.Contains(w.p.Open.Cause, sum.String()) {
				t.Errorf("%s answered with %v: on record is %s, %q", name, sum, w.p.Open.Outcome, w.p.Open.Cause)
			}
			// That something was refused is believed, whatever sum is named with it.
			if b := open[name](t).settle(payment.Answer{Outcome: payment.Refused, Reason: payment.Misconfigured, Amount: sum}); b.p.Open != nil && b.p.Open.Outcome != payment.Refused {
				t.Errorf("%s refused with %v: on record is %s", name, sum, b.p.Open.Outcome)
			}
			// The right answer may still come.
			if w.later(time.Minute).approved(); w.p.Open != nil {
				t.Errorf("%s answered with %v: the right answer later is not taken", name, sum)
			}
		}
	}
}

// The centre's names are kept: the card's from the code, the hold's from the hold, and nothing is
// forgotten where a later answer does not say it again.
func TestCentresNamesAreKept(t *testing.T) {
	w := start(t, terms())
	w.pay(uzcard).settle(payment.Answer{Outcome: payment.ChallengeGiven, CentreID: "77", Phone: "+998** *****33", Centre: payment.Centre{Terminal: "91500009"}})
	if c := w.p.Attempt.Challenge; c.CentreID != "77" || c.Phone != "+998** *****33" || c.VerifyID != verifyID || c.SentAt != w.now {
		t.Errorf("the challenge is %+v", c)
	}
	w.code().settle(payment.Answer{Outcome: payment.Approved, Centre: payment.Centre{Token: "3f", Terminal: "91500010"}})
	w.settle(payment.Answer{Outcome: payment.Approved, Centre: payment.Centre{Hold: "4711", RRN: "010967385013"}, Claim: "hold 4711"})
	if w.lastSeen.Claim != "hold 4711" {
		t.Errorf("the claim is %q", w.lastSeen.Claim)
	}
	w.capture(100_000).settle(payment.Answer{Outcome: payment.Approved, Centre: payment.Centre{Approval: "A1B2C3"}})
	want := payment.Centre{Token: "3f", Hold: "4711", RRN: "010967385013", Approval: "A1B2C3", Terminal: "91500010"}
	if w.p.Attempt.Centre != want {
		t.Errorf("the centre's names are %+v, want %+v", w.p.Attempt.Centre, want)
	}
	// On record with each operation is what was said of it.
	for i, want := range []payment.Centre{{Terminal: "91500009"}, {Token: "3f", Terminal: "91500010"}, {Hold: "4711", RRN: "010967385013"}, {Approval: "A1B2C3"}} {
		if got := w.closed[i].Centre; got != want {
			t.Errorf("with %s stands %+v, want %+v", w.closed[i].Ref, got, want)
		}
	}
}

// A centre that does not say how long its code lives gives a code that lives five minutes.
func TestCodeLives(t *testing.T) {
	for said, want := range map[time.Duration]time.Duration{0: 5 * time.Minute, -time.Second: 5 * time.Minute, time.Second: time.Second, 3 * time.Minute: 3 * time.Minute} {
		w := start(t, terms()).pay(uzcard).settle(payment.Answer{Outcome: payment.ChallengeGiven, CodeLives: said})
		if got := w.p.Attempt.Challenge.ExpiresAt.Sub(w.now); got != want {
			t.Errorf("a code said to live %v lives %v, want %v", said, got, want)
		}
	}
}

// A code that comes late in the payment's time is good until that ends, and the payer is told no other time.
func TestCodeLivesNoLongerThanThePayment(t *testing.T) {
	w := start(t, terms())
	w.now = w.p.Terms.ExpiresAt.Add(-time.Minute)
	w.pay(uzcard).settle(payment.Answer{Outcome: payment.ChallengeGiven, CodeLives: 5 * time.Minute})
	if got := w.p.Attempt.Challenge.ExpiresAt; got != w.p.Terms.ExpiresAt {
		t.Errorf("the code is good until %v, and the payment until %v", got, w.p.Terms.ExpiresAt)
	}
}

// The entries of each fact, to the account (house: every ledger entry belongs to an operation).
func TestEntriesOfAWholePayment(t *testing.T) {
	l := func(account ledger.Account, minor int64) ledger.Line {
		return ledger.Line{Account: account, Amount: uzs(minor)}
	}
	w := start(t, terms()).paid()
	hold := w.closed[len(w.closed)-1].Ref
	w.capture(60_000).done()
	capture := w.closed[len(w.closed)-1].Ref
	want := []ledger.Entry{
		{Kind: ledger.Hold, Operation: hold, Lines: []ledger.Line{l("payer/held", 100_000), l("shop/12/held", -100_000)}},
		{Kind: ledger.Capture, Operation: capture, Lines: []ledger.Line{
			l("shop/12/held", 60_000), l("payer/held", -60_000), l("processor/uzcard", 60_000), l("shop/12", -60_000)}},
		{Kind: ledger.Fee, Operation: capture, Lines: []ledger.Line{l("shop/12", 1_200), l("fees", -1_200)}},
		{Kind: ledger.Release, Operation: capture, Lines: []ledger.Line{l("shop/12/held", 40_000), l("payer/held", -40_000)}},
	}
	if diff := cmp.Diff(want, w.entries); diff != "" {
		t.Error(diff)
	}
	sums := payment.Sums{Held: uzs(100_000), Captured: uzs(60_000), Released: uzs(40_000), Refunded: uzs(0), Fee: uzs(1_200)}
	if w.p.Sums != sums || w.p.Transfer() != uzs(58_800) || w.p.PaidAt != w.now {
		t.Errorf("sums %+v, transfer %v, paid at %v", w.p.Sums, w.p.Transfer(), w.p.PaidAt)
	}
	if err := books(w.p, w.entries); err != nil {
		t.Error(err)
	}
}

// Every payment that is over has left nothing on the held accounts.
func TestNothingStaysHeldOfAFinishedPayment(t *testing.T) {
	for _, s := range situations {
		w := s.walk(t)
		if err := books(w.p, w.entries); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		sums := balances(w.entries)
		if w.p.State.Terminal() && (sums[ledger.PayerHeld] != 0 || sums[ledger.ShopHeld(12)] != 0) {
			t.Errorf("%s: %v", s.name, sums)
		}
	}
}

// A process that stood still with an answer while another asked again: what was said to the earlier question is believed
// only where it is true for ever. "Never seen" and a refusal of what is sent again were about the time before.
func TestOvertakenAnswers(t *testing.T) {
	for name, walk := range open {
		for head, a := range answered {
			w := walk(t)
			if !w.p.Open.Kind.MovesMoney() {
				continue // never asked again
			}
			a.Ref, a.AskedAt = w.p.Open.Ref, w.p.Open.AskedAt
			if change := payment.Settle(w.p, a, w.now); change.Empty() {
				t.Errorf("%s, %s: the answer to what is asked changes nothing", name, head)
			}
			w.later(time.Hour).begin(payment.Resume{})
			change := payment.Settle(w.p, a, w.now)
			again := w.p.Decision != nil // a capture or void, which is sent until it is done
			forEver := a.Outcome == payment.Approved || a.Outcome == payment.Refused && !again
			if change.Empty() == forEver {
				t.Errorf("%s, %s: the answer to the question before changes something: %v, and should: %v", name, head, !change.Empty(), forEver)
			}
		}
	}
}

// Where the centre wants the card once more after the code, it is kept sealed with the attempt until the money has been asked
// for, or nobody can ask for it any more, and never with the operation, whose record stays for ever.
func TestSealedCardIsKeptUntilTheMoneyIsAskedFor(t *testing.T) {
	const sealed = "sealed"
	challenged := func() *walk {
		return start(t, terms()).pay(uzcard).settle(payment.Answer{Outcome: payment.ChallengeGiven, CodeLives: codeFor, Centre: payment.Centre{Sealed: sealed}})
	}
	asked := func() *walk { return challenged().code().approved() }
	for name, tt := range map[string]struct {
		w    *walk
		kept bool
	}{
		"challenged":           {challenged(), true},
		"a wrong code":         {challenged().code().refusedFor(payment.WrongCode), true},
		"a further code":       {challenged().resend().codeSent(), true},
		"the money is asked":   {asked(), true},
		"it is held":           {asked().approved(), false},
		"in doubt":             {asked().unknown(), false},
		"refused":              {asked().refusedFor(payment.InsufficientFunds), false},
		"cancelled":            {challenged().cancel(), false},
		"expired":              {challenged().at(t0.Add(ttl)).begin(payment.Lapse{}), false},
		"a code used too late": {challenged().code().at(t0.Add(ttl)).approved(), false},
		"another card":         {challenged().later(time.Second).pay(another), false},
	} {
		want := ""
		if tt.kept {
			want = sealed
		}
		if got := tt.w.p.Attempt.Centre.Sealed; got != want {
			t.Errorf("%s: the card is kept as %q, want %q", name, got, want)
		}
		for _, op := range tt.w.closed {
			if op.Centre.Sealed != "" {
				t.Errorf("%s: the record of the %s keeps the card", name, op.Kind)
			}
		}
	}
}

// A centre's texts are kept as far as they can be, and at most 8 KiB of each.
func TestLongTextsAreCut(t *testing.T) {
	w := open["capture"](t).settle(payment.Answer{Outcome: payment.Unknown, Cause: strings.Repeat("ы", 5<<10)})
	if cause := w.p.Open.Cause; len(cause) != 8<<10 || !utf8.ValidString(cause) {
		t.Errorf("%d bytes are kept, UTF-8 %t", len(cause), utf8.ValidString(cause))
	}
}
