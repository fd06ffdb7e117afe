package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/vault"
)

type notificationCmd struct {
	List    notificationListCmd    `cmd:"" help:"List notifications that are to be sent, soonest first, or those that were given up."`
	Send    notificationSendCmd    `cmd:"" help:"Have a payment's last notification sent now, once more, whatever became of it."`
	SendAll notificationSendAllCmd `cmd:"" help:"Have all sent now, once more, that were given up of a shop."`
}

// since is a time as a person names one: how long ago, or when by this machine's clock and zone.
type since struct{ time.Time }

func (s *since) UnmarshalText(text []byte) (err error) {
	if ago, err := time.ParseDuration(string(text)); err == nil && ago >= 0 {
		s.Time = time.Now().Add(-ago)
		return nil
	}
	for _, form := range []string{time.RFC3339, toSecond, "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if s.Time, err = time.ParseInLocation(form, string(text), time.Local); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%q is neither a time such as 2026-11-25 or %q, nor a while ago such as 72h", text, "2026-11-25 14:00")
}

type notificationListCmd struct {
	data
	GivenUp bool  `help:"Those that were given up, as far as there was nothing later to tell of their payments."`
	Shop    int64 `help:"Only of this shop." placeholder:"ID"`
	Since   since `help:"Only of payments prepared since then: \"2026-11-25 14:00\", or 72h for three days ago; with --given-up default: 240h." placeholder:"TIME"`
	Limit   int   `help:"How many, at most 1000." default:"50"`
	JSON    bool  `help:"As JSON, a line for each notification."`
}

func (c *notificationListCmd) Help() string {
	return `What was taken is not listed: holdfast payment show tells all of one payment.

  holdfast notification list --data DIR                          what waits, soonest first
  holdfast notification list --data DIR --given-up --shop 3      what was given up, oldest payments first
  holdfast notification list --data DIR --given-up --since "2026-11-25 14:00" --limit 1000 --json`
}

// givenUpSince is how far back what was given up is looked for where nobody says: all payments since then are walked.
const givenUpSince = 240 * time.Hour

// shownNotice is a notification for scripts.
type shownNotice struct {
	Payment       string         `json:"uuid"`
	Shop          int64          `json:"shop_id"`
	ShopPaymentID string         `json:"shop_transaction_id"`
	Number        int            `json:"number"` // within the payment
	Status        payment.Status `json:"status"`
	At            time.Time      `json:"at"`
	Endpoint      string         `json:"endpoint"`
	Attempts      int            `json:"attempts"`
	LastAt        *time.Time     `json:"last_at,omitempty"`     // absent: the result of no attempt is known
	LastStatus    int            `json:"http_status,omitempty"` // absent: there was no answer
	Note          string         `json:"note,omitempty"`
	BeingSent     bool           `json:"being_sent"`
	NextAt        *time.Time     `json:"next_at,omitempty"` // absent: it is not sent any more
	Outcome       string         `json:"outcome,omitempty"` // why not
}

func showNotice(n *store.Notice) shownNotice {
	s := shownNotice{
		Payment: n.Payment.String(), Shop: n.Shop, ShopPaymentID: n.ShopPaymentID, Number: n.N, Status: n.Status, At: n.At, Endpoint: n.Endpoint,
		Attempts: n.Attempts, LastStatus: n.LastStatus, Note: n.Note, BeingSent: n.BeingSent, Outcome: n.Outcome,
	}
	if !n.LastAt.IsZero() {
		s.LastAt = &n.LastAt
	}
	if !n.NextAt.IsZero() {
		s.NextAt = &n.NextAt
	}
	return s
}

func (c *notificationListCmd) Run(ctx context.Context, p program) error {
	return c.onStore(func(s *store.Store, _ *vault.Vault) error {
		filter := store.NoticeFilter{Shop: c.Shop, Since: c.Since.Time, Limit: c.Limit}
		read, none := s.Waiting, "no notification waits to be sent"
		if c.GivenUp {
			read, none = s.GivenUp, "no notification was given up"
			if filter.Since.IsZero() {
				filter.Since = s.Now().Add(-givenUpSince)
			}
		}
		list, err := read(ctx, filter)
		if err != nil {
			return err
		}
		t := newTable(p.stdout, table.Row{"Payment", "Shop", "Notification", "To", "Attempts", "Last answer", "Sent (again)"})
		for i := range list {
			n := &list[i]
			if c.JSON {
				if err := p.print(showNotice(n)); err != nil {
					return err
				}
				continue
			}
			next := localTime(n.NextAt, toSecond)
			switch {
			case n.NextAt.IsZero():
				next = n.Outcome + " " + localTime(n.LastAt, toSecond)
			case n.BeingSent:
				next = "is being sent"
			}
			t.AppendRow(table.Row{n.Payment, n.Shop, fmt.Sprintf("%d %s", n.N, n.Status), plain(n.Endpoint), n.Attempts, cut(plain(answer(n)), 60), next})
		}
		switch {
		case c.JSON:
		case len(list) == 0:
			fmt.Fprintln(p.stdout, none)
		default:
			t.Render()
		}
		return nil
	})
}

// answer is what became of the last attempt.
func answer(n *store.Notice) string {
	switch {
	case n.LastAt.IsZero():
		return "not known yet"
	case n.Note == "":
		return fmt.Sprintf("HTTP %d", n.LastStatus)
	}
	return n.Note
}

type notificationSendCmd struct {
	data
	aPayment
	Wait time.Duration `help:"How long to wait for what becomes of it." default:"20s"`
	JSON bool          `help:"As JSON."`
}

func (c *notificationSendCmd) Help() string {
	return `For a shop that lost what it had received, or whose endpoint was away for longer than it is tried. The gateway that
serves does the sending, within a second; without one it is sent at the next start. It is the last notification of the
payment, with the same webhook-id and signed as ever: nothing new is made, and earlier ones that still wait go first. It
is one attempt more. If the shop does not take it, the schedule goes on as after any attempt, until 3 days after what it
tells of; what is older is given up at once, and can be sent again.

  holdfast notification send --data DIR 01a20ac1-48ca-78ba-97ae-d77a5bd59e02
  holdfast notification send --data DIR --shop 3 order-42         what shop 3 calls order-42`
}

func (c *notificationSendCmd) Run(ctx context.Context, p program) error {
	return c.onStore(func(s *store.Store, _ *vault.Vault) error {
		found, err := c.find(ctx, s)
		if err != nil {
			return err
		}
		n, err := s.SendAgain(ctx, found.Payment.ID)
		if err != nil {
			return explainNotice(err)
		}
		e, err := attempted(ctx, s, &n, c.Wait)
		if err != nil {
			return err
		}
		attempt := slices.IndexFunc(e.Deliveries, func(d store.DeliveryRecord) bool { return d.Attempt > n.Attempts })
		n.NextAt, n.Outcome, n.BeingSent = e.NextAt, e.Outcome, e.Attempts > n.Attempts && attempt < 0
		n.Attempts = e.Attempts
		if attempt >= 0 {
			d := e.Deliveries[attempt]
			n.LastAt, n.LastStatus, n.Note = d.At, d.Status, d.Note
		}
		if c.JSON {
			return p.print(showNotice(&n))
		}
		what := fmt.Sprintf("notification %d of payment %s (%s) to %s", n.N, n.Payment, n.Status, plain(n.Endpoint))
		switch {
		case attempt < 0 && n.Outcome != "":
			fmt.Fprintf(p.stdout, "%s was not sent again: %s\n", what, n.Outcome)
		case attempt < 0:
			fmt.Fprintf(p.stdout, "nobody has sent %s within %s: no gateway serves from %s, or it is busy, or the shop does not answer. It is sent as soon as one can.\n", what, c.Wait, c.Data)
		case n.NextAt.IsZero():
			fmt.Fprintf(p.stdout, "%s, attempt %d: %s; %s\n", what, n.Attempts, plain(answer(&n)), n.Outcome)
		default:
			fmt.Fprintf(p.stdout, "%s, attempt %d: %s; it is sent again at %s\n", what, n.Attempts, plain(answer(&n)), localTime(n.NextAt, toSecond))
		}
		return nil
	})
}

// attempted waits until an event was sent once more and what became of that is known, or it is not sent any more, or the time is
// over.
func attempted(ctx context.Context, s *store.Store, n *store.Notice, wait time.Duration) (store.EventRecord, error) {
	waits, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		known, err := s.Timeline(ctx, n.Payment)
		if err != nil {
			return store.EventRecord{}, err
		}
		e := known.Events[n.N-1]
		if last := len(e.Deliveries) - 1; e.NextAt.IsZero() || last >= 0 && e.Deliveries[last].Attempt > n.Attempts {
			return e, nil
		}
		select {
		case <-waits.Done():
			return e, ctx.Err()
		case <-tick.C:
		}
	}
}

// explainNotice says what to do about a notification that is not sent again.
func explainNotice(err error) error {
	advice := ""
	switch {
	case errors.Is(err, store.ErrBeingSent):
		advice = ": holdfast payment show tells what becomes of it"
	case errors.Is(err, payment.ErrNothingTold):
		advice = ": holdfast payment show tells how it stands"
	case errors.Is(err, payment.ErrNowhere):
		advice = ": the shop can ask for its status"
	case errors.Is(err, payment.ErrDecided): // which says it
	default:
		return err
	}
	return fmt.Errorf("nothing was changed: %w%s", err, advice)
}

type notificationSendAllCmd struct {
	data
	Shop  int64 `help:"Of this shop." required:"" placeholder:"ID"`
	Since since `help:"Of payments prepared since then: \"2026-11-25 14:00\", or 72h for three days ago." required:"" placeholder:"TIME"`
	JSON  bool  `help:"As JSON: how many are sent."`
}

func (c *notificationSendAllCmd) Help() string {
	return `After an outage of a shop's endpoint: of each of its payments the last notification, if that was given up, is sent as
notification send does it, one attempt each, oldest payments first. An endpoint that answers slowly or not at all gets
them a few at a time. What it does not take and is older than 3 days is given up again: repeat the command. A payment
that was prepared long before the outage, and was refunded in it, is found with an earlier --since.

  holdfast notification list --data DIR --given-up --shop 3 --since "2026-11-25 14:00"      what it would be
  holdfast notification send-all --data DIR --shop 3 --since "2026-11-25 14:00"`
}

func (c *notificationSendAllCmd) Run(ctx context.Context, p program) error {
	return c.onStore(func(s *store.Store, _ *vault.Vault) error {
		if _, err := s.Shop(ctx, c.Shop); err != nil {
			return noShop(c.Shop, err)
		}
		count, err := s.SendGivenUp(ctx, c.Shop, c.Since.Time)
		if err != nil {
			return fmt.Errorf("%d are sent, and then it failed: %w", count, err)
		}
		if c.JSON {
			return p.print(map[string]any{"shop_id": c.Shop, "count": count})
		}
		_, err = fmt.Fprintf(p.stdout, "notifications of shop %[2]d that were given up, and are due now: %[1]d; the gateway that serves sends them\n", count, c.Shop)
		return err
	})
}
