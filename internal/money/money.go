// Package money is an exact sum: integer minor units of one currency.
//
// It reads and writes the decimal text of the wire without ever passing through
// a binary fraction, and it does the only arithmetic a gateway needs: checked
// addition and subtraction, comparison, and a share of a sum (a fee) with one
// stated rounding. Sums of different currencies never meet: mixing them is a
// bug of ours, not an input, so it panics.
package money

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Currency is an ISO 4217 alphabetic code that the gateway knows.
type Currency string

// The currencies of the merchant API (contract §2). All have two decimals (ISO 4217).
const (
	UZS Currency = "UZS"
	USD Currency = "USD"
	RUB Currency = "RUB"
	EUR Currency = "EUR"
)

// Currencies lists what ParseCurrency accepts, in the order people are shown it.
var Currencies = []Currency{UZS, USD, RUB, EUR}

// decimals is the ISO 4217 exponent that all known currencies share; unit is 10^decimals.
const (
	decimals = 2
	unit     = 100
)

// MaxMinor is the largest sum, in minor units, that Parse accepts: 9 999 999 999 999.99.
// It leaves room to add up more than nine thousand such sums in an int64.
const MaxMinor = 999_999_999_999_999

// ParseCurrency accepts exactly the upper-case codes of Currencies.
func ParseCurrency(code string) (Currency, error) {
	for _, c := range Currencies {
		if string(c) == code {
			return c, nil
		}
	}
	return "", fmt.Errorf("unknown currency %q: use one of UZS, USD, RUB, EUR", code)
}

// Numeric is the three-digit ISO 4217 code that processing centres use ("860" for UZS).
func (c Currency) Numeric() string {
	switch c {
	case UZS:
		return "860"
	case USD:
		return "840"
	case RUB:
		return "643"
	case EUR:
		return "978"
	}
	panic("money: no numeric code for currency " + strconv.Quote(string(c)))
}

// Amount is a sum in minor units (tiyin, cents) of one currency. The zero Amount
// has no currency and is equal to nothing but itself.
type Amount struct {
	Minor    int64    `json:"minor"`
	Currency Currency `json:"currency"`
}

// New makes an Amount of minor units.
func New(minor int64, c Currency) Amount { return Amount{Minor: minor, Currency: c} }

// Errors of Parse. A caller adds the name of the field.
var (
	ErrSyntax   = errors.New("not a decimal number")
	ErrDecimals = errors.New("more than 2 decimals")
	ErrRange    = errors.New("above the largest sum of 9999999999999.99")
)

// maxTextBytes bounds what Parse reads: no sum in range is written longer, whatever zeros pad it.
const maxTextBytes = 64

// Parse reads the decimal text of a JSON number ("1000", "1000.0", "437278.66", "1e3") in
// major units. It accepts a sign and an exponent, as JSON does, and at most two decimals that
// are not zero. It never rounds.
func Parse(text string, c Currency) (Amount, error) {
	minor, err := parseScaled(text, decimals, MaxMinor)
	return Amount{Minor: minor, Currency: c}, err
}

// parseScaled reads JSON number syntax as an integer of 10^-scale units, exactly.
func parseScaled(text string, scale int, limit int64) (int64, error) {
	if len(text) == 0 || len(text) > maxTextBytes {
		return 0, ErrSyntax
	}
	i, negative := 0, false
	if text[0] == '-' {
		negative, i = true, 1
	}
	// Digits before and after the point are collected as one integer; point counts those after it.
	digits := make([]byte, 0, maxTextBytes)
	start := i
	for ; i < len(text) && isDigit(text[i]); i++ {
		digits = append(digits, text[i])
	}
	if i == start || (text[start] == '0' && i-start > 1) {
		return 0, ErrSyntax
	}
	point := 0
	if i < len(text) && text[i] == '.' {
		i++
		start = i
		for ; i < len(text) && isDigit(text[i]); i++ {
			digits = append(digits, text[i])
			point++
		}
		if i == start {
			return 0, ErrSyntax
		}
	}
	exponent := 0
	if i < len(text) && (text[i] == 'e' || text[i] == 'E') {
		i++
		sign := 1
		if i < len(text) && (text[i] == '+' || text[i] == '-') {
			if text[i] == '-' {
				sign = -1
			}
			i++
		}
		start = i
		for ; i < len(text) && isDigit(text[i]); i++ {
			// Past any exponent that could still mean a sum, the value only has to stay large.
			if exponent < 1000 {
				exponent = exponent*10 + int(text[i]-'0')
			}
		}
		if i == start {
			return 0, ErrSyntax
		}
		exponent *= sign
	}
	if i != len(text) {
		return 0, ErrSyntax
	}
	// The value is digits × 10^(exponent-point); shift says how many zeros to append for minor units.
	shift := exponent - point + scale
	for shift < 0 && len(digits) > 0 {
		if digits[len(digits)-1] != '0' {
			return 0, ErrDecimals
		}
		digits = digits[:len(digits)-1]
		shift++
	}
	var minor int64
	for _, d := range digits {
		if minor = minor*10 + int64(d-'0'); minor > limit {
			return 0, ErrRange
		}
	}
	for ; shift > 0 && minor != 0; shift-- {
		if minor *= 10; minor > limit {
			return 0, ErrRange
		}
	}
	if negative {
		minor = -minor
	}
	return minor, nil
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

// Decimal is the sum in major units with two decimals, as the wire has it: "1000.00".
func (a Amount) Decimal() string { return string(a.appendDecimal(make([]byte, 0, 20))) }

// Decimal4 is the sum with four decimals, as the payment entity writes fee and
// transferSum ("20.0000", seed: check_sms_key).
func (a Amount) Decimal4() string {
	return string(append(a.appendDecimal(make([]byte, 0, 24)), '0', '0'))
}

func (a Amount) appendDecimal(b []byte) []byte {
	minor := uint64(a.Minor)
	if a.Minor < 0 {
		b = append(b, '-')
		minor = -minor
	}
	b = strconv.AppendUint(b, minor/unit, 10)
	cents := minor % unit
	return append(b, '.', byte('0'+cents/10), byte('0'+cents%10))
}

// String is the sum for people and logs: "1000.00 UZS".
func (a Amount) String() string { return a.Decimal() + " " + string(a.Currency) }

// IsZero reports whether nothing is left, in whatever currency.
func (a Amount) IsZero() bool { return a.Minor == 0 }

// Positive reports whether the sum is above 0.
func (a Amount) Positive() bool { return a.Minor > 0 }

// Neg is the same sum with the other sign.
func (a Amount) Neg() Amount { return a.Zero().Sub(a) }

// Zero is no money of a's currency.
func (a Amount) Zero() Amount { return Amount{Currency: a.Currency} }

// Add is a+b. It panics on different currencies and on overflow.
func (a Amount) Add(b Amount) Amount {
	a.same(b)
	sum := a.Minor + b.Minor
	if (sum > a.Minor) != (b.Minor > 0) {
		panic(fmt.Sprintf("money: %d + %d overflows", a.Minor, b.Minor))
	}
	return Amount{Minor: sum, Currency: a.Currency}
}

// Sub is a-b. It panics on different currencies and on overflow.
func (a Amount) Sub(b Amount) Amount {
	a.same(b)
	difference := a.Minor - b.Minor
	if (difference < a.Minor) != (b.Minor > 0) {
		panic(fmt.Sprintf("money: %d - %d overflows", a.Minor, b.Minor))
	}
	return Amount{Minor: difference, Currency: a.Currency}
}

// Cmp is -1, 0 or 1 as a is less than, equal to or greater than b. It panics on different currencies.
func (a Amount) Cmp(b Amount) int {
	a.same(b)
	return cmp.Compare(a.Minor, b.Minor)
}

func (a Amount) same(b Amount) {
	if a.Currency != b.Currency {
		panic(fmt.Sprintf("money: %s meets %s", a, b))
	}
}

// Rate is a share in parts per million: 2 % is 20 000.
type Rate int64

const (
	onePercent Rate = 10_000
	// MaxRate is 100 %.
	MaxRate Rate = 100 * onePercent
)

// ParseRate reads "2%", "2.5%" or "2.5" (percent, at most four decimals, 0 to 100).
func ParseRate(text string) (Rate, error) {
	number := text
	if n := len(text); n > 0 && text[n-1] == '%' {
		number = text[:n-1]
	}
	ppm, err := parseScaled(number, 4, int64(MaxRate))
	if err != nil || ppm < 0 {
		return 0, fmt.Errorf("%q is not a percentage from 0%% to 100%% with at most 4 decimals, such as 2.5%%", text)
	}
	return Rate(ppm), nil
}

// String is the rate for people: "2.5%".
func (r Rate) String() string {
	whole, rest := r/onePercent, r%onePercent
	if rest == 0 {
		return strconv.FormatInt(int64(whole), 10) + "%"
	}
	fraction := fmt.Sprintf("%04d", int64(rest))
	for fraction[len(fraction)-1] == '0' {
		fraction = fraction[:len(fraction)-1]
	}
	return strconv.FormatInt(int64(whole), 10) + "." + fraction + "%"
}

// Percent is the rate in percent with at least two decimals, as details.commission has it: "2.00".
func (r Rate) Percent() string {
	text := fmt.Sprintf("%d.%04d", int64(r/onePercent), int64(r%onePercent))
	for strings.HasSuffix(text, "0") && text[len(text)-3] != '.' {
		text = text[:len(text)-1]
	}
	return text
}

// Share is a × r, rounded once to the nearest minor unit, a half upwards. a and r must
// not be negative and r not above MaxRate.
func (a Amount) Share(r Rate) Amount {
	if a.Minor < 0 || r < 0 || r > MaxRate {
		panic(fmt.Sprintf("money: share %d ppm of %s", int64(r), a))
	}
	// 128 bits hold the product, so no sum is too large for a fee.
	hi, lo := bits.Mul64(uint64(a.Minor), uint64(r))
	lo, carry := bits.Add64(lo, uint64(MaxRate)/2, 0)
	quotient, _ := bits.Div64(hi+carry, lo, uint64(MaxRate))
	return Amount{Minor: int64(quotient), Currency: a.Currency}
}

// Part is a × part ÷ whole, rounded upwards. None may be negative, and part not above whole.
func (a Amount) Part(part, whole Amount) Amount {
	part.same(whole)
	if a.Minor < 0 || part.Minor < 0 || part.Minor > whole.Minor || whole.Minor == 0 {
		panic(fmt.Sprintf("money: %s of %s of %s", part, whole, a))
	}
	hi, lo := bits.Mul64(uint64(a.Minor), uint64(part.Minor))
	quotient, rest := bits.Div64(hi, lo, uint64(whole.Minor))
	if rest > 0 {
		quotient++
	}
	return Amount{Minor: int64(quotient), Currency: a.Currency}
}
