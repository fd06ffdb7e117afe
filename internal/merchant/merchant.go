// Package merchant is who may take payments and on what terms: shops, their credentials, their
// settings and their tariff.
package merchant

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"holdfast/internal/money"
)

// Secret is a credential in the clear, on its way between a request and a comparison, or shown
// once to the person who asked for it. It prints as dots.
type Secret string

const dots = "••••"

// String, Format, LogValue and MarshalText keep a secret out of every log and dump.
func (Secret) String() string               { return dots }
func (Secret) Format(f fmt.State, _ rune)   { io.WriteString(f, dots) }
func (Secret) LogValue() slog.Value         { return slog.StringValue(dots) }
func (Secret) MarshalText() ([]byte, error) { return []byte(dots), nil }

// NewSecret is 122 random bits in the form of a UUID, as the API's secrets and keys are written.
func NewSecret() Secret {
	var b [16]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return Secret(h[0:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:32])
}

// SecretHash is what is kept of a secret. A plain hash is enough: a secret of 122 random bits
// cannot be guessed, so there is nothing to slow down.
type SecretHash [sha256.Size]byte

// Hash is what is kept of s.
func (s Secret) Hash() SecretHash { return sha256.Sum256([]byte(s)) }

// Matches compares in constant time.
func (h SecretHash) Matches(s Secret) bool {
	given := s.Hash()
	return subtle.ConstantTimeCompare(h[:], given[:]) == 1
}

// Shop takes payments.
type Shop struct {
	ID         int64
	Name       string
	SecretHash SecretHash
	UniqueKey  []byte // signs notifications (contract §6); sealed by the vault
	CreatedAt  time.Time
	Settings   Settings
}

// Settings is what an operator sets for a shop. Empty lists and zeros mean the default.
type Settings struct {
	NotifyURL    string           `json:"notify_url,omitzero"`
	Live         bool             `json:"live,omitzero"`          // may take real payments
	Methods      []string         `json:"methods,omitempty"`      // contracted; empty: all
	Currencies   []money.Currency `json:"currencies,omitempty"`   // empty: UZS
	HoldSeconds  map[string]int64 `json:"hold_seconds,omitempty"` // by method: how long an undecided hold lasts
	Tariff       Tariff           `json:"tariff,omitzero"`
	RequireTSP   bool             `json:"require_tsp,omitzero"`
	StrictBasket bool             `json:"strict_basket,omitzero"`
	RefundLocked bool             `json:"refund_locked,omitzero"`
	RefundLeast  int64            `json:"refund_least,omitzero"` // smallest refund, minor units of the payment's currency; 0: any
	RefundMost   int64            `json:"refund_most,omitzero"`  // largest refund at a time; 0: 10 000 000 UZS where parts can go back, else any
	BankCode     string           `json:"bank_code,omitzero"`

	// Routes name the contract with a processing centre that real payments go to, by method
	// ("bank_card") or by method and currency ("bank_card/USD"); a method that is not there goes where
	// the gateway sends all.
	Routes map[string]string `json:"routes,omitempty"`
}

// Tariff is what the gateway charges a shop.
type Tariff struct {
	ID       int64          `json:"id,omitzero"`
	Fee      Fee            `json:"fee,omitzero"`
	ByMethod map[string]Fee `json:"by_method,omitempty"` // in place of Fee
}

// Fee is a share of what is captured, at least a minimum.
type Fee struct {
	Rate    money.Rate `json:"rate,omitzero"`    // parts per million
	Minimum int64      `json:"minimum,omitzero"` // minor units of the payment's currency
	Back    bool       `json:"back,omitzero"`    // a refund gives its share of the fee back to the shop
}

// For is the fee of a method.
func (t Tariff) For(method string) Fee {
	if f, ok := t.ByMethod[method]; ok {
		return f
	}
	return t.Fee
}

// Takes reports whether the shop has contracted a method.
func (s *Settings) Takes(method string) bool {
	return len(s.Methods) == 0 || slices.Contains(s.Methods, method)
}

// TakesCurrency reports whether the shop may ask for sums of a currency.
func (s *Settings) TakesCurrency(c money.Currency) bool {
	if len(s.Currencies) == 0 {
		return c == money.UZS
	}
	return slices.Contains(s.Currencies, c)
}

// Route is the contract that payments by a method in a currency go to; false: where all go.
func (s *Settings) Route(method string, c money.Currency) (contract string, ok bool) {
	if contract, ok = s.Routes[method+"/"+string(c)]; !ok {
		contract, ok = s.Routes[method]
	}
	return contract, ok
}

// ContractName reports whether a contract with a processing centre may be called so: 1 to 32 lower-case
// letters, digits, hyphens and underscores.
func ContractName(name string) bool {
	return 1 <= len(name) && len(name) <= 32 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// LongestHold is the longest an undecided hold may last (contract §5), by method.
func LongestHold(method string) time.Duration {
	if method == "bank_card" {
		return 7 * 24 * time.Hour
	}
	return 30 * 24 * time.Hour
}

// HoldFor is how long an undecided hold of the method lasts; otherwise where the shop sets nothing.
func (s *Settings) HoldFor(method string, otherwise time.Duration) time.Duration {
	hold := otherwise
	if seconds := s.HoldSeconds[method]; seconds > 0 {
		hold = time.Duration(seconds) * time.Second
	}
	return min(hold, LongestHold(method))
}

// defaultRefundMost is 10 000 000 UZS (contract §5).
const defaultRefundMost = 10_000_000_00

// RefundLimits is the smallest and the largest sum that goes back at a time; a largest of 0 is none. A larger sum goes
// back in parts; where the payment goes back whole or not at all, only a limit that the shop has set itself holds.
func (s *Settings) RefundLimits(c money.Currency, whole bool) (least, most money.Amount) {
	least, most = money.New(max(s.RefundLeast, 1), c), money.New(s.RefundMost, c)
	if s.RefundMost == 0 && c == money.UZS && !whole {
		most.Minor = defaultRefundMost
	}
	return least, most
}

// Check reports the first setting that cannot be, by name, with what to do.
func (s *Settings) Check(methods []string) error {
	for _, m := range s.Methods {
		if !slices.Contains(methods, m) {
			return fmt.Errorf("method %q is unknown: use %s", m, strings.Join(methods, ", "))
		}
	}
	for m := range s.Tariff.ByMethod {
		if !slices.Contains(methods, m) {
			return fmt.Errorf("the fee of method %q: the method is unknown: use %s", m, strings.Join(methods, ", "))
		}
	}
	for _, m := range append([]string{""}, methods...) {
		if fee := s.Tariff.For(m); fee.Rate < 0 || fee.Rate > money.MaxRate || fee.Minimum < 0 {
			return fmt.Errorf("a fee of %d parts per million, at least %d minor units, cannot be: use 0 to %d, and a minimum from 0", int64(fee.Rate), fee.Minimum, int64(money.MaxRate))
		}
	}
	for m, seconds := range s.HoldSeconds {
		if !slices.Contains(methods, m) {
			return fmt.Errorf("the hold time of method %q: the method is unknown: use %s", m, strings.Join(methods, ", "))
		}
		if longest := LongestHold(m); seconds < 1 || seconds > int64(longest/time.Second) {
			return fmt.Errorf("the hold time of %s is %d seconds: use 1s to %s", m, seconds, longest)
		}
	}
	for _, route := range slices.Sorted(maps.Keys(s.Routes)) {
		method, currency, narrow := strings.Cut(route, "/")
		if !slices.Contains(methods, method) {
			return fmt.Errorf("the route of method %q: the method is unknown: use %s", method, strings.Join(methods, ", "))
		}
		if !narrow {
			continue
		}
		if _, err := money.ParseCurrency(currency); err != nil {
			return fmt.Errorf("the route %q: its currency is unknown: use %v", route, money.Currencies)
		}
	}
	for route, contract := range s.Routes {
		if !ContractName(contract) {
			return fmt.Errorf("the route of %s to %q: a contract's name has 1 to 32 lower-case letters, digits, hyphens and underscores", route, contract)
		}
	}
	if s.RefundLeast < 0 || s.RefundMost < 0 || s.RefundMost > 0 && s.RefundLeast > s.RefundMost {
		return fmt.Errorf("refunds of %d to %d minor units cannot be: both from 0, the smallest not above the largest", s.RefundLeast, s.RefundMost)
	}
	if s.NotifyURL != "" {
		if _, err := ParseURL(s.NotifyURL); err != nil {
			return fmt.Errorf("the notify URL %q cannot be called: %w", s.NotifyURL, err)
		}
	}
	return nil
}

// ParseURL reads a complete http or https address, and refuses one that cannot be sent as it is written: there, spaces
// and letters of other scripts would have to be written in another way, and who calls it does not do so.
func ParseURL(text string) (*url.URL, error) {
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, errors.New("expected an address without spaces and control characters; write a space as %20")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, errors.New("expected a complete address such as https://shop.uz/notify")
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r > 0x7e }):
		return nil, errors.New("expected a domain in ASCII; write a national domain in its form xn--…")
	}
	return u, nil
}
