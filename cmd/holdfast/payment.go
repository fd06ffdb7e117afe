package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/vault"
)

type paymentCmd struct {
	List paymentListCmd `cmd:"" help:"List payments, newest first."`
	Show paymentShowCmd `cmd:"" help:"Tell everything about one payment, in the order it happened."`
}

type paymentListCmd struct {
	data
	Shop  int64  `help:"Only of this shop." placeholder:"ID"`
	State string `help:"Only in this state: created, challenged, held, captured, voided, declined, expired." placeholder:"STATE"`
	Limit int    `help:"How many, at most 1000." default:"50"`
	JSON  bool   `help:"As JSON, a line for each payment."`
}

func (c *paymentListCmd) Help() string {
	return `Examples:

  holdfast payment list --data DIR --state held --limit 20`
}

// shownPayment is a payment for scripts: sums in minor units.
type shownPayment struct {
	UUID          string            `json:"uuid"`
	Shop          int64             `json:"shop_id"`
	ShopPaymentID string            `json:"shop_transaction_id"`
	State         string            `json:"state"`
	Status        payment.Status    `json:"status"`
	Currency      string            `json:"currency"`
	Amount        int64             `json:"amount"`
	Held          int64             `json:"held"`
	Captured      int64             `json:"captured"`
	Released      int64             `json:"released"`
	Refunded      int64             `json:"refunded"`
	Fee           int64             `json:"fee"`
	CreatedAt     time.Time         `json:"created_at"`
	UpdatedAt     time.Time         `json:"updated_at"`
	Decision      *payment.Decision `json:"decision,omitempty"`
	InDoubt       string            `json:"in_doubt,omitempty"` // the open question's kind
}

func showPayment(p *payment.Payment) shownPayment {
	s := shownPayment{
		UUID: p.ID.String(), Shop: p.Shop, ShopPaymentID: p.Terms.ShopPaymentID, State: p.State.String(), Status: p.Status(),
		Currency: string(p.Terms.Amount.Currency), Amount: p.Terms.Amount.Minor, Held: p.Held.Minor, Captured: p.Captured.Minor,
		Released: p.Released.Minor, Refunded: p.Refunded.Minor, Fee: p.Fee.Minor, CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt, Decision: p.Decision,
	}
	if p.Open != nil {
		s.InDoubt = string(p.Open.Kind)
	}
	return s
}

func (c *paymentListCmd) Run(ctx context.Context, p program) error {
	filter := store.Filter{Shop: c.Shop, Limit: c.Limit}
	if c.State != "" {
		state, err := payment.ParseState(c.State)
		if err != nil {
			return fmt.Errorf("--state: %w", err)
		}
		filter.State = state
	}
	return c.onStore(func(s *store.Store, _ *vault.Vault) error {
		list, err := s.List(ctx, filter)
		if err != nil {
			return err
		}
		t := newTable(p.stdout, table.Row{"Payment", "Shop", "Shop's id", "Created", "State", "Sum", "Captured"})
		for i := range list {
			pay := &list[i]
			if c.JSON {
				if err := p.print(showPayment(pay)); err != nil {
					return err
				}
			}
			state := pay.State.String()
			if pay.Open != nil {
				state += ", " + string(pay.Open.Kind) + " in doubt"
			}
			t.AppendRow(table.Row{pay.ID, pay.Shop, plain(pay.Terms.ShopPaymentID), localTime(pay.CreatedAt, toSecond), state, pay.Terms.Amount, pay.Captured.Decimal()})
		}
		if !c.JSON {
			t.Render()
		}
		return nil
	})
}

// aPayment is a payment named by what its people have in hand.
type aPayment struct {
	Payment string `arg:"" help:"The payment's UUID, or our reference of one of its operations, as the log and the centres' statements have it."`
	Shop    int64  `help:"The payment is named by the id that this shop gave it." placeholder:"ID"`
}

type paymentShowCmd struct {
	data
	aPayment
	JSON bool `help:"As JSON."`
}

func (c *paymentShowCmd) Help() string {
	return `Examples:

  holdfast payment show --data DIR 01a20ac1-48ca-78ba-97ae-d77a5bd59e02
  holdfast payment show --data DIR 1732700437604_5520_2      what a centre has under this reference
  holdfast payment show --data DIR --shop 3 order-42         what shop 3 calls order-42`
}

// find is everything known of the payment that is meant.
func (c *aPayment) find(ctx context.Context, s *store.Store) (store.Timeline, error) {
	if c.Shop != 0 {
		return c.findByShop(ctx, s)
	}
	if id, err := payment.ParseID(c.Payment); err == nil {
		t, err := s.Timeline(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			err = fmt.Errorf("there is no payment %s here: holdfast payment list shows all", id)
		}
		return t, err
	}
	return c.findByReference(ctx, s)
}

// reference is the operation's by which the payment is named; "" where it is named otherwise.
func (c *aPayment) reference() string {
	if _, err := payment.ParseID(c.Payment); err == nil || c.Shop != 0 {
		return ""
	}
	return c.Payment
}

func (c *aPayment) findByShop(ctx context.Context, s *store.Store) (store.Timeline, error) {
	p, err := s.PaymentByShop(ctx, c.Shop, c.Payment)
	switch {
	case err == nil:
		return s.Timeline(ctx, p.ID)
	case !errors.Is(err, store.ErrNotFound):
		return store.Timeline{}, err
	}
	if _, err := s.Shop(ctx, c.Shop); errors.Is(err, store.ErrNotFound) {
		return store.Timeline{}, fmt.Errorf("there is no shop %d here: holdfast shop list shows all", c.Shop)
	} else if err != nil {
		return store.Timeline{}, err
	}
	return store.Timeline{}, fmt.Errorf("shop %d calls no payment %q: holdfast payment list --shop %d shows what it has; leave --shop out where you have a UUID or a reference",
		c.Shop, c.Payment, c.Shop)
}

// findByReference finds the payment by the number in a reference, and believes it only if an operation of it has the whole.
func (c *aPayment) findByReference(ctx context.Context, s *store.Store) (store.Timeline, error) {
	number, ok := payment.NumberIn(c.Payment)
	if !ok {
		return store.Timeline{}, fmt.Errorf("%q is neither a payment's UUID nor a reference such as 1732700437604_5520: with --shop ID it is what that shop calls a payment", c.Payment)
	}
	p, err := s.PaymentByNumber(ctx, number)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return store.Timeline{}, err
	}
	if own := p.Reference(); err != nil || c.Payment != own && !strings.HasPrefix(c.Payment, own+"_") {
		return store.Timeline{}, fmt.Errorf("no payment has the reference %q: give the whole of it, as the log or the centre's statement has it; with --shop ID it is what that shop calls a payment",
			c.Payment)
	}
	t, err := s.Timeline(ctx, p.ID)
	if err != nil {
		return t, err
	}
	named := func(op payment.Operation) bool { return op.Ref == c.Payment }
	if !slices.ContainsFunc(t.Operations, named) && (t.Payment.Open == nil || !named(*t.Payment.Open)) {
		return t, fmt.Errorf("payment %s has no operation %q: holdfast payment show %s tells which it has; what a centre has done since a restored backup need not be known here",
			p.ID, c.Payment, p.ID)
	}
	return t, nil
}

// moment is one line of a timeline.
type moment struct {
	At   time.Time `json:"at"`
	What string    `json:"what"` // operation, decision, entry, event, delivery, open
	Text string    `json:"text"`
}

func (c *paymentShowCmd) Run(ctx context.Context, p program) error {
	return c.onStore(func(s *store.Store, _ *vault.Vault) error {
		t, err := c.find(ctx, s)
		if err != nil {
			return err
		}
		moments := timeline(&t)
		if c.JSON {
			return p.print(struct {
				shownPayment
				Timeline []moment `json:"timeline"`
			}{showPayment(&t.Payment), moments})
		}
		pay := &t.Payment
		fmt.Fprintf(p.stdout, "Payment %s of shop %d, called %q there: %s\n", pay.ID, pay.Shop, pay.Terms.ShopPaymentID, pay.State)
		fmt.Fprintf(p.stdout, "asked for %s; held %s, captured %s, released %s, refunded %s, fee %s\n\n",
			pay.Terms.Amount, pay.Held.Decimal(), pay.Captured.Decimal(), pay.Released.Decimal(), pay.Refunded.Decimal(), pay.Fee.Decimal())
		table := newTable(p.stdout, nil)
		for _, m := range moments {
			table.AppendRow([]any{localTime(m.At, toMilli), m.What, plain(m.Text)})
		}
		table.Render()
		return nil
	})
}

// timeline puts everything known of a payment into the order in which it happened.
func timeline(t *store.Timeline) []moment {
	p := &t.Payment
	moments := []moment{{p.CreatedAt, "created", fmt.Sprintf("%s, %s", p.Terms.Amount, map[bool]string{true: "one-stage", false: "two-stage"}[p.Terms.AutoCapture])}}
	add := func(at time.Time, what, format string, args ...any) {
		moments = append(moments, moment{at, what, fmt.Sprintf(format, args...)})
	}
	for _, op := range t.Operations {
		text := ""
		if op.Look {
			text = ": found after a restore, not sent from here"
		}
		add(op.BegunAt, "asked", "%s %s as %s%s", op.Kind, op.Amount, op.Ref, text)
		text = string(op.Outcome)
		if op.Reason != "" {
			text += " (" + string(op.Reason) + ")"
		}
		if op.Asks > 1 {
			text += fmt.Sprintf(" after %d questions", op.Asks)
		}
		if op.Cause != "" {
			text += ": " + op.Cause
		}
		add(op.AnsweredAt, "answered", "%s %s", op.Kind, text)
		addResolutions(add, &op)
	}
	if d := p.Decision; d != nil {
		text := string(d.Accept)
		if d.Accept == payment.Capture {
			text += " " + d.Amount.String()
		}
		add(d.At, "decided", "%s, by %s", text, d.By)
	}
	for _, e := range t.Entries {
		var lines []string
		for _, l := range e.Lines {
			lines = append(lines, fmt.Sprintf("%s %s", l.Account, l.Amount.Decimal()))
		}
		add(e.At, "entry", "%s: %s", e.Kind, strings.Join(lines, ", "))
	}
	for _, e := range t.Events {
		add(e.At, "event", "%d: %s", e.N, e.Status)
		for _, d := range e.Deliveries {
			text := d.Note
			if d.Status != 0 {
				text = strings.TrimSuffix(fmt.Sprintf("HTTP %d: %s", d.Status, d.Note), ": ")
			}
			add(d.At, "told", "%d, attempt %d in %s: %s", e.N, d.Attempt, d.Took.Round(time.Millisecond), text)
		}
		switch {
		case e.Outcome != "":
			add(lastDelivery(e), "told", "%d: %s", e.N, e.Outcome)
		case !e.NextAt.IsZero():
			add(e.NextAt, "next", "event %d is sent (again)", e.N)
		}
	}
	if op := p.Open; op != nil {
		add(op.BegunAt, "asked", "%s %s as %s: %s", op.Kind, op.Amount, op.Ref, sent(op))
		addResolutions(add, op)
		add(op.AskedAt, "known", "%s", known(op))
		if op.WaitsForPerson() {
			add(op.AskedAt, "waits", "for a person, who decides: holdfast doubt list")
		} else {
			add(op.NextAt, "next", "what became of the %s is asked; the centre decides, and from %s on a person", op.Kind, localTime(op.ForPersonAt(), toSecond))
		}
	} else if due := p.Due(); !due.IsZero() {
		add(due, "next", "%s", map[bool]string{true: "the hold is let go if nobody decides", false: "the payment expires if nobody pays"}[p.State == payment.Held])
	}
	slices.SortStableFunc(moments, func(a, b moment) int { return a.At.Compare(b.At) })
	return moments
}

// sent says what went to the centre.
func sent(op *payment.Operation) string {
	if op.Look {
		return "found after a restore, not sent from here"
	}
	if op.SentAt.Before(op.BegunAt) {
		return "not sent yet: after a restore it is asked about first"
	}
	return "sent " + localTime(op.SentAt, toSecond)
}

// known says what is known of an operation without an answer, and since when.
func known(op *payment.Operation) string {
	if op.Outcome == "" {
		return fmt.Sprintf("%s: not answered yet", op.Kind)
	}
	return fmt.Sprintf("%s %s after %d questions, the last one %s: %s", op.Kind, op.Outcome, op.Asks, op.Ask, cmp.Or(op.Cause, "no cause given"))
}

func addResolutions(add func(at time.Time, what, format string, args ...any), op *payment.Operation) {
	for _, r := range op.Resolutions {
		text := string(r.Outcome)
		if r.Reason != "" {
			text += " (" + string(r.Reason) + ")"
		}
		add(r.At, "resolved", "%s %s, says %s: %s", op.Kind, text, r.By, r.Why)
	}
}

func lastDelivery(e store.EventRecord) time.Time {
	if n := len(e.Deliveries); n > 0 {
		return e.Deliveries[n-1].At.Add(e.Deliveries[n-1].Took)
	}
	return e.At
}

// plain is a text of a shop's or a centre's for a terminal: what would steer that, or begin a line of its own, is shown as
// its number.
func plain(text string) string {
	var b strings.Builder
	for _, r := range text {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

func newTable(w io.Writer, header table.Row) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.Style().Options = table.OptionsNoBordersAndSeparators
	if header != nil {
		t.AppendHeader(header)
	}
	return t
}

// How exactly a person is told a time.
const (
	toSecond = "2006-01-02 15:04:05 -0700"
	toMilli  = "2006-01-02 15:04:05.000 -0700"
)

// localTime is a time for a person. It says how far this machine's clock is from UTC: a server's zone need be neither the
// reader's nor the one of a centre's statement.
func localTime(t time.Time, exactly string) string { return t.Local().Format(exactly) }
