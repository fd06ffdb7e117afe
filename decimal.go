package holdfast

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Decimal is the exact decimal text of a sum in major units, as it stands on
// the wire: "1000.00" is one thousand sums, not one thousand tiyin. It is text
// and stays text: no Holdfast code ever turns it into a binary fraction.
//
// The zero value "" is JSON null, in both directions. Source: contract §1,
// "Read the decimal text exactly".
type Decimal string

// maxDecimalLen bounds the text that is taken from the wire. The largest sum
// in minor units has 19 digits; the rest is room for zeros and an exponent.
const maxDecimalLen = 64

var errNotDecimal = errors.New("expected a decimal sum in major units, as a number or a numeric string such as 1000.00")

// DecimalOf writes a sum in minor units (tiyin, cents) with two decimals:
// DecimalOf(100050) is "1000.50".
func DecimalOf(minor int64) Decimal {
	var room [24]byte
	return Decimal(appendMinor(room[:0], minor))
}

// DecimalOf4 writes a sum in minor units with four decimals, the form that the
// keys fee and transferSum of the payment entity have: DecimalOf4(2000) is
// "20.0000".
func DecimalOf4(minor int64) Decimal {
	var room [24]byte
	return Decimal(append(appendMinor(room[:0], minor), '0', '0'))
}

func appendMinor(dst []byte, minor int64) []byte {
	magnitude := uint64(minor)
	if minor < 0 {
		dst = append(dst, '-')
		magnitude = -magnitude // right for the smallest int64 too
	}
	dst = strconv.AppendUint(dst, magnitude/100, 10)
	cents := magnitude % 100
	return append(dst, '.', byte('0'+cents/10), byte('0'+cents%10))
}

// Minor reads the sum in minor units, exactly. Decimals beyond the second may
// only be zeros: "10.5000" is 1050, "10.505" is an error. An exponent is
// understood ("1.0E7", as some JSON libraries print ten million). Signs are
// kept: whether a sum must be above zero is for the caller to say.
//
// It fails if the text is empty, is not a JSON number, has a third decimal
// that counts, or does not fit int64.
func (d Decimal) Minor() (int64, error) {
	text := string(d)
	if text == "" {
		return 0, errors.New("the sum is missing: write it in major units, such as 1000.00")
	}
	if len(text) > maxDecimalLen || !isNumber(text) {
		return 0, errNotDecimal
	}
	text, negative := strings.CutPrefix(text, "-")
	exponent := 0
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		var err error
		if exponent, err = strconv.Atoi(text[i+1:]); err != nil || exponent > maxDecimalLen || exponent < -maxDecimalLen {
			return 0, errNotDecimal
		}
		text = text[:i]
	}
	whole, fraction, _ := strings.Cut(text, ".")
	digits := whole + fraction
	// digits * 10^shift is the sum in minor units.
	shift := exponent - len(fraction) + 2
	for shift < 0 && len(digits) > 0 {
		if digits[len(digits)-1] != '0' {
			return 0, fmt.Errorf("the sum %s has more than two decimals: round it before it is sent", d)
		}
		digits = digits[:len(digits)-1]
		shift++
	}
	if digits == "" {
		return 0, nil
	}
	// The exponent's limit keeps this short; ParseUint finds what is too large.
	magnitude, err := strconv.ParseUint(digits+strings.Repeat("0", shift), 10, 64)
	if err != nil {
		return 0, errTooLarge
	}
	switch {
	case negative && magnitude <= -math.MinInt64:
		return -int64(magnitude), nil
	case !negative && magnitude <= math.MaxInt64:
		return int64(magnitude), nil
	}
	return 0, errTooLarge
}

var errTooLarge = errors.New("the sum is too large: it must fit 19 digits in minor units")

// MarshalJSONTo writes the text as a bare JSON number, "" as null. It fails if
// the text is not a JSON number.
func (d Decimal) MarshalJSONTo(enc *jsontext.Encoder) error {
	if d == "" {
		return enc.WriteToken(jsontext.Null)
	}
	if !isNumber(string(d)) {
		return errNotDecimal
	}
	return enc.WriteValue(append(enc.AvailableBuffer(), d...))
}

// MarshalJSON is MarshalJSONTo for encoding/json: the same bytes.
func (d Decimal) MarshalJSON() ([]byte, error) {
	if d == "" {
		return []byte("null"), nil
	}
	if !isNumber(string(d)) {
		return nil, errNotDecimal
	}
	return []byte(d), nil
}

// UnmarshalJSON takes a JSON number, or a string that holds one, and keeps its
// text. Spaces around the number in a string are cut. null and "" become "".
func (d *Decimal) UnmarshalJSON(value []byte) error {
	text, err := numericText(value)
	if err != nil || len(text) > maxDecimalLen {
		return errNotDecimal
	}
	*d = Decimal(text)
	return nil
}

// isNumber reports whether s is a number by JSON's grammar (RFC 8259 §6).
func isNumber(s string) bool {
	i := 0
	digits := func() bool {
		start := i
		for i < len(s) && '0' <= s[i] && s[i] <= '9' {
			i++
		}
		return i > start
	}
	if i < len(s) && s[i] == '-' {
		i++
	}
	if i < len(s) && s[i] == '0' {
		i++
	} else if !digits() {
		return false
	}
	if i < len(s) && s[i] == '.' {
		i++
		if !digits() {
			return false
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if !digits() {
			return false
		}
	}
	return i == len(s)
}
