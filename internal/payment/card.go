package payment

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Method is how the payer pays (seed: payment_methods).
type Method string

// The methods of the merchant API.
const (
	BankCard Method = "bank_card" // Visa, Mastercard
	Uzcard   Method = "uzcard"
	Humo     Method = "humo"
)

// Methods lists them as people are shown them.
var Methods = []Method{BankCard, Uzcard, Humo}

// dots is how every secret prints.
const dots = "••••"

// Card is what a payer types in. It lives in memory for the length of one request and prints as dots.
type Card struct {
	Number string // digits only
	Expiry string // YYMM
	CVC    string // empty where the method needs none
	Holder string
}

// String, Format, LogValue and MarshalText keep a card out of every log and dump.
func (Card) String() string               { return dots }
func (Card) Format(f fmt.State, _ rune)   { io.WriteString(f, dots) }
func (Card) LogValue() slog.Value         { return slog.StringValue(dots) }
func (Card) MarshalText() ([]byte, error) { return []byte(dots), nil }

// OTP is a one-time code on its way from the payer to the centre. It prints as dots.
type OTP string

// The length of a one-time code, in digits: no centre's are shorter or longer.
const (
	ShortestOTP = 4
	LongestOTP  = 8
)

// String, Format, LogValue and MarshalText keep a code out of every log and dump.
func (OTP) String() string               { return dots }
func (OTP) Format(f fmt.State, _ rune)   { io.WriteString(f, dots) }
func (OTP) LogValue() slog.Value         { return slog.StringValue(dots) }
func (OTP) MarshalText() ([]byte, error) { return []byte(dots), nil }

// Facts is what may be kept of the card in the open.
func (c Card) Facts(table CardTable) CardFacts {
	f := CardFacts{Holder: c.Holder}
	if len(c.Number) >= 13 {
		f.First6, f.Last4 = c.Number[:6], c.Number[len(c.Number)-4:]
	}
	r, _ := table.Find(c.Number)
	f.Scheme, f.Country = r.Scheme, r.Country
	return f
}

// Same reports whether both are facts of the same card, as far as what is kept of it can tell.
func (f CardFacts) Same(other CardFacts) bool {
	return f.First6 == other.First6 && f.Last4 == other.Last4
}

// Masked is the number as notifications show it: "427831** **** 3011" (contract §6).
func (f CardFacts) Masked() string {
	if len(f.First6) != 6 {
		return ""
	}
	return f.First6 + "** **** " + f.Last4
}

// CleanNumber drops the spaces and dashes people type and reports whether only digits are left.
func CleanNumber(typed string) (string, bool) {
	digits := strings.Map(func(r rune) rune {
		switch r {
		case ' ', '-', '\u00a0', '\t':
			return -1
		}
		return r
	}, typed)
	if !digitsOnly(digits) {
		return "", false
	}
	return digits, true
}

// Luhn reports whether the last digit is the check digit of the others (ISO/IEC 7812-1).
func Luhn(number string) bool {
	sum := 0
	for i := range len(number) {
		d := int(number[len(number)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return number != "" && sum%10 == 0
}

// CardProblem is the first thing wrong with a typed card: which field, and why.
type CardProblem struct {
	Field  string // as pay calls it: pan, exp, cvc2, method
	Reason Reason
	Detail string
}

// Check looks at what can be known of a card without asking anybody: check digit and length, the
// method against the number's range in the table, the expiry, and the CVC where the method needs one. now
// tells the month in which a card is still good. nil: nothing is wrong.
func (c Card) Check(table CardTable, m Method, now time.Time) *CardProblem {
	r, known := table.Find(c.Number)
	switch {
	case c.Number == "":
		return &CardProblem{"pan", CardUnknown, "the card number is missing"}
	case !digitsOnly(c.Number):
		return &CardProblem{"pan", CardUnknown, "expected digits only"}
	case !known:
		return &CardProblem{"pan", CardUnknown, "no card scheme has numbers that begin so"}
	case !slices.Contains(r.Lengths, len(c.Number)):
		return &CardProblem{"pan", CardUnknown, fmt.Sprintf("a %s number has another length than %d", r.Scheme, len(c.Number))}
	case !slices.Contains(table.NoLuhn, r.Scheme) && !Luhn(c.Number):
		return &CardProblem{"pan", CardUnknown, "the check digit is wrong: a digit is mistyped"}
	case r.Method() != m:
		return &CardProblem{"method", MethodNotAllowed, fmt.Sprintf("this is a %s card: its method is %s", r.Scheme, r.Method())}
	}
	if len(c.Expiry) != 4 || !digitsOnly(c.Expiry) || c.Expiry[2:] < "01" || c.Expiry[2:] > "12" {
		return &CardProblem{"exp", WrongExpiry, "expected YYMM, such as 2912 for December 2029"}
	}
	// YYMM compares like a number; the card is good until the end of its month, in Tashkent.
	if c.Expiry < now.In(Tashkent).Format("0601") {
		return &CardProblem{"exp", CardExpired, "the card has expired"}
	}
	if m == BankCard && (len(c.CVC) != 3 || !digitsOnly(c.CVC)) {
		return &CardProblem{"cvc2", WrongCVC, "expected the 3 digits from the back of the card"}
	}
	return nil
}

// Tashkent is the time of the country's cards, centres and payers. It is fixed: Uzbekistan has kept UTC+5 without summer time
// since 1992.
var Tashkent = time.FixedZone("Asia/Tashkent", 5*60*60)

func digitsOnly(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
