package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"holdfast/internal/gateway"
	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/vault"
)

type doubtCmd struct {
	List    doubtListCmd    `cmd:"" help:"List every operation in doubt, oldest first."`
	Ask     doubtAskCmd     `cmd:"" help:"Have the serving gateway ask the centre now what became of an operation."`
	Resolve doubtResolveCmd `cmd:"" help:"Say how an operation ended, where the centre cannot."`
}

type doubtListCmd struct {
	data
	JSON bool `help:"As JSON, a line for each operation; sums in minor units."`
}

func (c *doubtListCmd) Help() string {
	return `An operation is in doubt when the processing centre was asked to move money and its answer is missing. The
gateway asks what became of it by itself: 5 s, 30 s, 2 min, 10 min and 1 h after it was begun, then daily; after 14
days it waits for a person.

  holdfast doubt list --data /var/lib/holdfast
  holdfast doubt list --data /var/lib/holdfast --json`
}

// shownDoubt is an operation in doubt for scripts.
type shownDoubt struct {
	Payment        string          `json:"uuid"`
	Shop           int64           `json:"shop_id"`
	ShopPaymentID  string          `json:"shop_transaction_id"`
	State          string          `json:"state"`
	Processor      string          `json:"processor"`
	Reference      string          `json:"reference"`
	Kind           payment.Kind    `json:"kind"`
	Currency       money.Currency  `json:"currency"`
	Amount         int64           `json:"amount"`
	BegunAt        time.Time       `json:"begun_at"`
	AgeSeconds     int64           `json:"age_seconds"`
	Asks           int             `json:"asks"`
	Outcome        payment.Outcome `json:"outcome,omitempty"`
	Cause          string          `json:"cause,omitempty"`
	NextInquiry    *time.Time      `json:"next_inquiry,omitempty"` // absent: it waits for a person
	WaitsForPerson bool            `json:"waits_for_person"`
	BeingAsked     bool            `json:"being_asked"`
	AfterRestore   bool            `json:"after_restore,omitempty"` // found at the centre after a restore, not sent from here
}

func (c *doubtListCmd) Run(ctx context.Context, p program) error {
	return c.onStore(func(s *store.Store, _ *vault.Vault) error {
		list, err := inDoubt(ctx, s)
		if err != nil {
			return err
		}
		t := newTable(p.stdout, table.Row{"Payment", "Reference", "What", "Sum", "Centre", "Age", "Last cause", "Next inquiry"})
		for _, d := range list {
			if c.JSON {
				if err := p.print(d); err != nil {
					return err
				}
				continue
			}
			next := "waits for a person"
			switch {
			case d.BeingAsked:
				next = "is being asked"
			case d.NextInquiry != nil:
				next = localTime(*d.NextInquiry, toSecond)
			}
			t.AppendRow(table.Row{d.Payment, d.Reference, d.Kind, money.New(d.Amount, d.Currency), d.Processor,
				(time.Duration(d.AgeSeconds) * time.Second).String(), cut(plain(cmp.Or(d.Cause, "not answered yet")), 60), next})
		}
		switch {
		case c.JSON:
		case len(list) == 0:
			fmt.Fprintln(p.stdout, "nothing is in doubt")
		default:
			t.Render()
		}
		return nil
	})
}

func cut(text string, most int) string {
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}

// inDoubt is every operation whose outcome is not known, the longest in doubt first.
func inDoubt(ctx context.Context, s *store.Store) (list []shownDoubt, err error) {
	now := s.Now()
	open, err := s.Open(ctx)
	if err != nil {
		return nil, err
	}
	for _, o := range open {
		p, err := s.Payment(ctx, o.ID)
		if err != nil {
			return nil, err
		}
		// A code moves no money, and a payer at his bank is no doubt.
		if op := p.Open; op != nil && op.Kind.MovesMoney() && op.Outcome != payment.ChallengeGiven {
			list = append(list, showDoubt(&p, op, now))
		}
	}
	slices.SortStableFunc(list, func(a, b shownDoubt) int { return a.BegunAt.Compare(b.BegunAt) })
	return list, nil
}

func showDoubt(p *payment.Payment, op *payment.Operation, now time.Time) shownDoubt {
	d := shownDoubt{
		Payment: p.ID.String(), Shop: p.Shop, ShopPaymentID: p.Terms.ShopPaymentID, State: p.State.String(), Processor: p.Attempt.Processor,
		Reference: op.Ref, Kind: op.Kind, Currency: op.Amount.Currency, Amount: op.Amount.Minor, BegunAt: op.BegunAt,
		AgeSeconds: int64(now.Sub(op.BegunAt) / time.Second), Asks: op.Asks, Outcome: op.Outcome, Cause: op.Cause,
		WaitsForPerson: op.WaitsForPerson(), BeingAsked: p.Doubt(now) == nil, AfterRestore: op.Look,
	}
	if !d.WaitsForPerson {
		d.NextInquiry = &op.NextAt
	}
	return d
}

type doubtAskCmd struct {
	data
	aPayment
	Wait time.Duration `help:"How long to wait for the answer." default:"20s"`
	JSON bool          `help:"As JSON."`
}

func (c *doubtAskCmd) Help() string {
	return `The gateway that serves from the data directory does the asking; without one it is asked at the next start.

  holdfast doubt ask --data DIR 01a20ac1-48ca-78ba-97ae-d77a5bd59e02
  holdfast doubt ask --data DIR 1732700437604_5520_2      as doubt list names the operation`
}

func (c *doubtAskCmd) Run(ctx context.Context, p program) error {
	return onDoubt(ctx, c.data, &c.aPayment, func(g *gateway.Gateway, s *store.Store, id payment.ID) error {
		pay, err := g.Hasten(ctx, id)
		if err != nil {
			return explainDoubt(err)
		}
		ref, asks := pay.Open.Ref, pay.Open.Asks
		if pay, err = answered(ctx, s, pay, c.Wait); err != nil {
			return err
		}
		op := pay.Open
		switch {
		case c.JSON && op != nil:
			return p.print(showDoubt(&pay, op, s.Now()))
		case c.JSON:
			return p.print(showPayment(&pay))
		case op == nil || op.Ref != ref:
			fmt.Fprintf(p.stdout, "answered: payment %s is %s now\n", id, pay.State)
		case op.Asks == asks:
			fmt.Fprintf(p.stdout, "nobody has asked within %s: no gateway serves from %s, or it is busy. The %s is asked about as soon as one does.\n", c.Wait, c.Data, op.Kind)
		default:
			fmt.Fprintf(p.stdout, "asked, and still in doubt: %s\n", known(op))
		}
		return nil
	})
}

// onDoubt runs f with a gateway that asks no centre: it writes beside the one that serves.
func onDoubt(ctx context.Context, d data, which *aPayment, f func(*gateway.Gateway, *store.Store, payment.ID) error) error {
	return d.onStore(func(s *store.Store, _ *vault.Vault) error {
		found, err := which.find(ctx, s)
		if err != nil {
			return err
		}
		return f(gateway.New(gateway.Config{Store: s, Log: slog.New(slog.DiscardHandler)}), s, found.Payment.ID)
	})
}

// answered waits until the question that pay has open was asked once more and that has ended, or the time is over.
func answered(ctx context.Context, s *store.Store, pay payment.Payment, wait time.Duration) (payment.Payment, error) {
	ref, asks := pay.Open.Ref, pay.Open.Asks
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for pay.Open != nil && pay.Open.Ref == ref && (pay.Open.Asks == asks || pay.Doubt(s.Now()) == nil) {
		select {
		case <-ctx.Done():
			return pay, nil
		case <-tick.C:
		}
		var err error
		if pay, err = s.Payment(context.WithoutCancel(ctx), pay.ID); err != nil {
			return pay, err
		}
	}
	return pay, nil
}

type doubtResolveCmd struct {
	data
	aPayment
	Outcome   string `help:"How it ended: approved (done), refused (not done; a capture or void is sent again), gone (the centre no longer has the hold)." enum:"approved,refused,gone" required:"" placeholder:"OUTCOME"`
	By        string `help:"Who says so." required:"" placeholder:"NAME"`
	Why       string `help:"What it was learned from." required:"" placeholder:"TEXT"`
	Reference string `help:"The operation's reference, as doubt list shows it; default: by which the payment is named, or the one in doubt." placeholder:"REF"`
	Amount    string `help:"The sum, where one found after a restore is another than was looked for: 600.00." placeholder:"SUM"`
	Hold      string `help:"What the centre calls the hold or payment; needed for a hold." placeholder:"ID"`
	RRN       string `name:"rrn" help:"The reference number of the money taken, by which it can be refunded." placeholder:"RRN"`
	JSON      bool   `help:"The payment as JSON."`
}

func (c *doubtResolveCmd) Help() string {
	return `The centre's word comes first: holdfast doubt ask, and resolve only what the centre cannot say. What you say is booked
like its own answer and cannot be taken back; your name and reason stay on record with the operation. Look the
reference up with the centre before: an operation called refused that was done is money lost, and one called approved
that was not done is goods given away.

  holdfast doubt resolve --data DIR 01a20ac1-48ca-78ba-97ae-d77a5bd59e02 --outcome approved \
      --by "Gulnora Karimova" --why "in Uzcard's statement of 2 March, line 17"

It may be said while the gateway serves. If the centre answers meanwhile, its answer stands and yours is refused.`
}

func (c *doubtResolveCmd) Run(ctx context.Context, p program) error {
	return onDoubt(ctx, c.data, &c.aPayment, func(g *gateway.Gateway, s *store.Store, id payment.ID) error {
		pay, err := s.Payment(ctx, id)
		if err != nil {
			return err
		}
		if pay.Open == nil {
			return explainDoubt(payment.ErrNoDoubt)
		}
		r := payment.Resolution{Outcome: payment.Outcome(c.Outcome), By: c.By, Why: c.Why, Hold: c.Hold, RRN: c.RRN}
		if c.Outcome == "gone" {
			r.Outcome, r.Reason = payment.Refused, payment.HoldGone
		}
		if c.Amount != "" {
			if r.Amount, err = money.Parse(c.Amount, pay.Terms.Amount.Currency); err != nil {
				return fmt.Errorf("--amount: %w", err)
			}
		}
		op := pay.Open
		if pay, err = g.Resolve(ctx, id, cmp.Or(c.Reference, c.reference(), op.Ref), r); err != nil {
			return explainDoubt(err)
		}
		switch {
		case c.JSON:
			return p.print(showPayment(&pay))
		case pay.Open != nil:
			fmt.Fprintf(p.stdout, "%s of %s by %s was not done, says %s: it is sent again\n", op.Kind, op.Amount, op.Ref, c.By)
		default:
			fmt.Fprintf(p.stdout, "%s by %s is %s, says %s; payment %s is %s now\n", op.Kind, op.Ref, c.Outcome, c.By, id, pay.State)
		}
		return nil
	})
}

// explainDoubt says what to do about a word that was not taken.
func explainDoubt(err error) error {
	advice := ""
	switch {
	case errors.Is(err, payment.ErrNoDoubt), errors.Is(err, payment.ErrOtherDoubt), errors.Is(err, payment.ErrAtBank):
		advice = "holdfast payment show tells how it stands"
	case errors.Is(err, payment.ErrBeingAsked):
		advice = "wait for its answer; a few seconds later you can try again"
	case errors.Is(err, payment.ErrNotAsked):
		advice = "holdfast doubt ask has it asked now"
	default:
		return err
	}
	return fmt.Errorf("nothing was changed: %w: %s", err, advice)
}
