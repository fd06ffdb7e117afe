package payment_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/ledger"
	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// The payment of these tests: 1000.00 UZS to shop 12, fee 2 %, made at t0, ttl 15 minutes, a
// hold lasts 30 minutes. The centre answers within 10 s and shows what it did within 60 s.
var t0 = time.Date(2026, 3, 2, 4, 17, 0, 0, time.UTC)

const (
	ttl      = 15 * time.Minute
	holdFor  = 30 * time.Minute
	answers  = 10 * time.Second
	shows    = 60 * time.Second
	codeFor  = 5 * time.Minute
	verifyID = 900_001 // of the first code; each further one is one more
)

func uzs(minor int64) money.Amount { return money.New(minor, money.UZS) }

var asked = uzs(100_000)

var (
	uzcard  = payment.CardFacts{First6: "860031", Last4: "1293", Country: "UZ"} // 8600313260861293
	another = payment.CardFacts{First6: "860049", Last4: "6478", Country: "UZ"} // 8600495473316478
)

func terms() payment.Terms {
	return payment.Terms{
		ShopPaymentID: "order-1", Amount: asked, InitTime: t0, ExpiresAt: t0.Add(ttl),
		Methods: []payment.Method{payment.Uzcard}, ReturnURL: "https://shop.example/back", Language: "uz",
	}
}

func oneStage() payment.Terms {
	terms := terms()
	terms.AutoCapture = true
	return terms
}

func attempt(card payment.CardFacts) payment.Attempt {
	return payment.Attempt{
		Method: payment.Uzcard, Processor: "uzcard", Card: card, Input: "merchant_site",
		Fee: payment.FeeTerms{TariffID: 1, Rate: 20_000}, HoldFor: int64(holdFor / time.Second),
		Limits: payment.Limits{AnswerMillis: answers.Milliseconds(), ShownMillis: map[payment.Kind]int64{
			payment.OpHold: shows.Milliseconds(), payment.OpCharge: shows.Milliseconds(),
			payment.OpCapture: shows.Milliseconds(), payment.OpVoid: shows.Milliseconds(),
		}},
	}
}

// walk leads one payment through its life as the gateway does: each Change is checked, then it is
// what is stored. What was stored is kept, for what must hold of the whole of it.
type walk struct {
	t        testing.TB
	now      time.Time
	p        payment.Payment
	codes    int64 // verifications started
	lastSeen payment.Change

	closed  []payment.Operation
	entries []ledger.Entry
	events  []payment.Event
}

func start(t testing.TB, terms payment.Terms) *walk {
	t.Helper()
	w := &walk{t: t, now: t0}
	c := payment.New(payment.NewID(t0, [10]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}), 5520, 12, terms, t0)
	w.store(nil, c)
	return w
}

func (w *walk) store(before *payment.Payment, c payment.Change) {
	w.t.Helper()
	if err := c.Check(before); err != nil {
		w.t.Fatalf("the store would refuse the change: %v", err)
	}
	if !c.Empty() && c.Payment.UpdatedAt != w.now {
		w.t.Fatalf("changed at %s, it says %s", w.now, c.Payment.UpdatedAt)
	}
	for _, e := range c.Events {
		if e.At != w.now {
			w.t.Fatalf("what happens at %s is told as of %s", w.now, e.At)
		}
	}
	w.lastSeen = c
	w.p = c.Payment
	w.p.Version++
	if c.Closed != nil {
		w.closed = append(w.closed, *c.Closed)
	}
	w.entries = append(w.entries, c.Entries...)
	w.events = append(w.events, c.Events...)
}

func (w *walk) later(d time.Duration) *walk { w.now = w.now.Add(d); return w }
func (w *walk) at(now time.Time) *walk      { w.now = now; return w }

// begin puts a command that must be taken.
func (w *walk) begin(c payment.Command) *walk {
	w.t.Helper()
	before := clone(w.p)
	change, err := payment.Begin(w.p, c, w.now)
	if err != nil {
		w.t.Fatalf("%T at %s, state %s: %v", c, w.now.Format(time.TimeOnly), w.p.State, err)
	}
	w.store(&before, change)
	return w
}

// refused puts a command that must be refused, and changes nothing.
func (w *walk) refused(c payment.Command, want payment.Reason) *payment.Error {
	w.t.Helper()
	change, err := payment.Begin(w.p, c, w.now)
	var refusal *payment.Error
	if !errors.As(err, &refusal) || refusal.Reason != want {
		w.t.Fatalf("%T at %s, state %s: %v, want %s", c, w.now.Format(time.TimeOnly), w.p.State, err, want)
	}
	if !change.Empty() {
		w.t.Fatalf("%T is refused with %s and changes something", c, want)
	}
	return refusal
}

// settle answers the open question.
func (w *walk) settle(a payment.Answer) *walk {
	w.t.Helper()
	if w.p.Open == nil {
		w.t.Fatalf("nothing is asked in state %s", w.p.State)
	}
	a.Ref = w.p.Open.Ref
	before := clone(w.p)
	change := payment.Settle(w.p, a, w.now)
	if !slices.Equal(before.Refunds, w.p.Refunds) {
		w.t.Fatalf("the refunds of the payment handed in were changed: %+v", w.p.Refunds)
	}
	w.store(&before, change)
	return w
}

func (w *walk) approved() *walk {
	w.t.Helper()
	return w.settle(payment.Answer{Outcome: payment.Approved})
}

func (w *walk) unknown() *walk {
	w.t.Helper()
	return w.settle(payment.Answer{Outcome: payment.Unknown, Cause: "time-out"})
}

func (w *walk) refusedFor(r payment.Reason) *walk {
	w.t.Helper()
	return w.settle(payment.Answer{Outcome: payment.Refused, Reason: r})
}

// pay tries a card; the code is not on its way yet.
func (w *walk) pay(card payment.CardFacts) *walk {
	w.t.Helper()
	w.codes++
	return w.begin(payment.Pay{Attempt: attempt(card), VerifyID: verifyID + w.codes - 1})
}

func (w *walk) resend() *walk {
	w.t.Helper()
	w.codes++
	return w.begin(payment.Resend{Card: w.p.Attempt.Card, VerifyID: verifyID + w.codes - 1})
}

func (w *walk) codeSent() *walk {
	w.t.Helper()
	return w.settle(payment.Answer{Outcome: payment.ChallengeGiven, CentreID: "77", Phone: "+998** *****33", CodeLives: codeFor})
}

func (w *walk) challenged() *walk { w.t.Helper(); return w.pay(uzcard).later(time.Second).codeSent() }

func (w *walk) code() *walk {
	w.t.Helper()
	return w.begin(payment.SubmitCode{VerifyID: w.p.Attempt.Challenge.VerifyID})
}

// moneyAsked stops where the hold or the charge was just asked for.
func (w *walk) moneyAsked() *walk {
	w.t.Helper()
	return w.challenged().later(10 * time.Second).code().later(time.Second).approved()
}

// paid is held, or captured in one stage.
func (w *walk) paid() *walk { w.t.Helper(); return w.moneyAsked().later(time.Second).approved() }

func (w *walk) capture(minor int64) *walk {
	w.t.Helper()
	return w.later(time.Minute).begin(payment.Decide{Accept: payment.Capture, Amount: uzs(minor), By: payment.ByMerchant})
}

func (w *walk) cancel() *walk {
	w.t.Helper()
	return w.later(time.Minute).begin(payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant})
}

func (w *walk) done() *walk { w.t.Helper(); return w.later(time.Second).approved() }

// declined ends at the third wrong code.
func (w *walk) declined() *walk {
	w.t.Helper()
	w.challenged()
	for range payment.MaxWrongCodes {
		w.later(time.Second).code().later(time.Second).refusedFor(payment.WrongCode)
	}
	return w
}

// outcome says in a few words what a change did to a payment:
//
//	=                nothing
//	>held            the state it came to
//	closed, kept     what became of the open question
//	?hold            the question it opens
//	again send       what is asked of the question that was open already
//	+fee             an entry of that kind
//	event canceled   what the merchant is told
//	because x        why the payer's last try failed
func outcome(before payment.Payment, c payment.Change) string {
	if c.Empty() {
		return "="
	}
	after := c.Payment
	var words []string
	if after.State != before.State {
		words = append(words, ">"+after.State.String())
	}
	switch {
	case before.Open != nil && after.Open != nil && after.Open.Ref == before.Open.Ref:
		if after.Open.Asks > before.Open.Asks {
			words = append(words, "again "+string(after.Open.Ask))
		} else {
			words = append(words, "kept")
		}
	case before.Open != nil && c.Closed != nil && c.Closed.Ref == before.Open.Ref:
		words = append(words, "closed")
	case before.Open != nil:
		words = append(words, "LOST")
	}
	if after.Open != nil && (before.Open == nil || after.Open.Ref != before.Open.Ref) {
		words = append(words, "?"+string(after.Open.Kind))
	}
	for _, e := range c.Entries {
		words = append(words, "+"+string(e.Kind))
	}
	for _, e := range c.Events {
		words = append(words, "event "+string(e.Status))
	}
	return strings.Join(words, " ")
}

// matrix reads a table written as text: one row per line, cells between bars, the first row the
// heads, the first column the names. A cell of "″" is as the one above it.
func matrix(t testing.TB, text string) (heads []string, rows map[string][]string) {
	t.Helper()
	rows = make(map[string][]string)
	var above []string
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		cells := strings.Split(line, "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if heads == nil {
			heads = cells[1:]
			continue
		}
		if len(cells) != len(heads)+1 {
			t.Fatalf("row %q has %d cells, want %d", cells[0], len(cells)-1, len(heads))
		}
		for i, cell := range cells[1:] {
			if cell == "″" {
				cells[i+1] = above[i]
			}
		}
		if _, twice := rows[cells[0]]; twice {
			t.Fatalf("row %q stands twice", cells[0])
		}
		rows[cells[0]], above = cells[1:], cells[1:]
	}
	return heads, rows
}

// clone is a deep copy, to see that what is handed in stays as it was.
func clone(p payment.Payment) payment.Payment {
	if p.Attempt != nil {
		a := *p.Attempt
		if a.Challenge != nil {
			c := *a.Challenge
			a.Challenge = &c
		}
		shown := make(map[payment.Kind]int64)
		for k, v := range a.Limits.ShownMillis {
			shown[k] = v
		}
		if a.Limits.ShownMillis != nil {
			a.Limits.ShownMillis = shown
		}
		p.Attempt = &a
	}
	if p.Open != nil {
		op := *p.Open
		p.Open = &op
	}
	if p.Decision != nil {
		d := *p.Decision
		p.Decision = &d
	}
	p.Refunds = slices.Clone(p.Refunds)
	p.Terms.Methods = slices.Clone(p.Terms.Methods)
	p.Terms.Basket = slices.Clone(p.Terms.Basket)
	return p
}

// balances adds up entries by account.
func balances(entries []ledger.Entry) map[ledger.Account]int64 {
	sums := make(map[ledger.Account]int64)
	for _, e := range entries {
		for _, l := range e.Lines {
			sums[l.Account] += l.Amount.Minor
		}
	}
	return sums
}

// books reports where the entries of a payment say something else than its sums do, or leave
// something on a held account of a payment that is over.
func books(p payment.Payment, entries []ledger.Entry) error {
	got := balances(entries)
	processor := ledger.Processor("uzcard")
	if p.Attempt != nil {
		processor = ledger.Processor(p.Attempt.Processor)
	}
	held := p.Held.Minor - p.Captured.Minor - p.Released.Minor
	want := map[ledger.Account]int64{
		ledger.PayerHeld:        held,
		ledger.ShopHeld(p.Shop): -held,
		processor:               p.Captured.Minor,
		ledger.Shop(p.Shop):     p.Fee.Minor - p.Captured.Minor,
		ledger.Fees:             -p.Fee.Minor,
	}
	total := int64(0)
	for account, minor := range got {
		total += minor
		if _, known := want[account]; !known {
			return fmt.Errorf("an entry is on account %s, which is none of the payment's", account)
		}
	}
	if total != 0 {
		return fmt.Errorf("the entries sum to %d", total)
	}
	for account, minor := range want {
		if got[account] != minor {
			return fmt.Errorf("account %s stands at %d, the payment's sums say %d", account, got[account], minor)
		}
	}
	if p.State.Terminal() && held != 0 {
		return fmt.Errorf("%d is still held of a payment that is %s", held, p.State)
	}
	return nil
}
