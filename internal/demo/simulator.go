package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"holdfast"
)

// simulator reads what the processing centres' simulator tells about itself: its test cards, the messages it sent, its books.
// Only a demonstration has this; a real shop knows none of it.
type simulator struct {
	base string
	http *http.Client
}

func newSimulator(base string) simulator {
	return simulator{base, &http.Client{Timeout: time.Minute}}
}

// simCard is a test card.
type simCard struct {
	PAN       string `json:"pan"`
	Exp       string `json:"exp"` // YYMM
	CVC       string `json:"cvc"`
	Scheme    string `json:"scheme"` // uzcard, humo, visa or mastercard
	Behaviour string `json:"behaviour"`
	Meaning   string `json:"meaning"`
	Balance   int64  `json:"balance"` // minor units
	Held      int64  `json:"held"`    // minor units
	Phone     string `json:"phone"`
	Holder    string `json:"holder"`
	FixedOTP  string `json:"fixed_otp"` // shared by many payers if not ""
}

// simMessage is an SMS.
type simMessage struct {
	Text string    `json:"text"`
	Code string    `json:"code"`
	At   time.Time `json:"at"`
}

// simBooks is what the centre believes about money.
type simBooks struct {
	Cards []struct {
		PAN     string `json:"pan"`
		Balance int64  `json:"balance"` // minor units; holds are not taken off it
		Held    int64  `json:"held"`    // minor units
	} `json:"cards"`
	Operations []simOperation `json:"operations"`
}

// simOperation is an entry of the books.
type simOperation struct {
	Kind    string `json:"kind"`   // hold, charge, capture, void, lapse, refund
	Amount  int64  `json:"amount"` // minor units
	State   string `json:"state"`
	Scheme  string `json:"scheme"`
	PANLast string `json:"pan_last4"`
	RefNum  string `json:"refNum"`
}

// Limits of what is read: the books grow with every operation.
const (
	maxSmallAnswer = 4 << 20
	maxBooks       = 256 << 20
)

// get reads JSON of at most most bytes. Keys that are not known here are left alone: the simulator may tell more.
func (s simulator) get(ctx context.Context, path string, most int64, v any) error {
	if s.base == "" {
		return errors.New("no simulator is configured")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+path, nil)
	if err != nil {
		return err
	}
	response, err := s.http.Do(request)
	if err != nil {
		return fmt.Errorf("the simulator does not answer; check that it runs at %s: %w", s.base, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the simulator answers GET %s with HTTP %d: check that it runs at %s", path, response.StatusCode, s.base)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, most)).Decode(v); err != nil {
		return fmt.Errorf("the simulator's answer to GET %s cannot be read: %w", path, err)
	}
	return nil
}

func (s simulator) cards(ctx context.Context) (cards []simCard, err error) {
	err = s.get(ctx, "/sim/cards", maxSmallAnswer, &cards)
	return cards, err
}

// sms gives the newest messages to a phone, newest first.
func (s simulator) sms(ctx context.Context, phone string) (messages []simMessage, err error) {
	err = s.get(ctx, "/sim/sms?limit=20&phone="+url.QueryEscape(phone), maxSmallAnswer, &messages)
	return messages, err
}

func (s simulator) books(ctx context.Context) (books simBooks, err error) {
	err = s.get(ctx, "/sim/books", maxBooks, &books)
	return books, err
}

// schemes are the card schemes that a payment method takes.
func schemes(method string) []string {
	if method == holdfast.MethodBankCard {
		return []string{"visa", "mastercard"}
	}
	return []string{method}
}

// offered names the behaviours that the card form offers, in this order; the simulator's own page has all of them.
var offered = []string{
	"ok", "insufficient_funds", "expired", "blocked", "no_sms", "otp_always_wrong", "otp_always_expired", "limit_exceeded",
	"issuer_unavailable", "unknown_not_done", "unknown_then_done", "capture_unknown_then_done",
}

// offer chooses test cards for the form of a method: two that work for each scheme, then one of each trouble.
func offer(cards []simCard, method string) []simCard {
	var list []simCard
	for _, behaviour := range offered {
		most := 1
		if behaviour == "ok" {
			most = 2
		}
		for _, scheme := range schemes(method) {
			found := 0
			for _, c := range cards {
				if found < most && c.Behaviour == behaviour && c.Scheme == scheme && plausible(c) {
					list = append(list, c)
					found++
				}
			}
		}
	}
	return list
}

// plausible guards the page against a simulator that says something else than a card.
func plausible(c simCard) bool { return len(c.PAN) >= 12 && len(c.PAN) <= 19 && len(c.Exp) == 4 }

// pick chooses a card for a payment of a sum: one that works, has the money, and is not in used. A card whose code is always
// the same is shared with others, so it comes last: its balance may move for reasons that are not ours.
func pick(cards []simCard, method string, sum int64, used []string) (simCard, error) {
	for _, shared := range []bool{false, true} {
		for _, c := range cards {
			if c.Behaviour == "ok" && slices.Contains(schemes(method), c.Scheme) && plausible(c) && c.Balance-c.Held >= sum &&
				(c.FixedOTP != "") == shared && !slices.Contains(used, c.PAN) {
				return c, nil
			}
		}
	}
	return simCard{}, fmt.Errorf("the simulator has no working %s card with %s UZS left: reset it, or start a new one", method, sums(sum))
}
