package money_test

import (
	"errors"
	"math"
	"math/big"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"holdfast/internal/money"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		text  string
		minor int64
		err   error
	}{
		// Integers and decimals, as merchants write them.
		{"0", 0, nil},
		{"1", 100, nil},
		{"1000", 100_000, nil},
		{"1000.0", 100_000, nil},
		{"1000.00", 100_000, nil},
		{"437278.66", 43_727_866, nil},
		{"0.01", 1, nil},
		{"0.1", 10, nil},
		{"0.10", 10, nil},
		{"0.29", 29, nil},  // 28.999… as a binary fraction
		{"1.15", 115, nil}, // 114.999… as a binary fraction
		{"19.99", 1999, nil},

		// More decimals only where they are zeros; never rounded.
		{"1.000", 100, nil},
		{"1.230000000000000000000000", 123, nil},
		{"0.000000", 0, nil},
		{"1.005", 0, money.ErrDecimals},
		{"1.994999999999999999999999", 0, money.ErrDecimals},
		{"0.001", 0, money.ErrDecimals},
		{"0.0000000000000000000000001", 0, money.ErrDecimals},

		// Exponents, as JSON has them.
		{"1e3", 100_000, nil},
		{"1E3", 100_000, nil},
		{"1e+3", 100_000, nil},
		{"1.5e3", 150_000, nil},
		{"1.2345e2", 12_345, nil},
		{"1.2345e1", 0, money.ErrDecimals},
		{"1e-2", 1, nil},
		{"1e-3", 0, money.ErrDecimals},
		{"10e-3", 1, nil},
		{"1e00000000000000000000000000000000002", 10_000, nil},
		{"100000000000000000000000e-23", 100, nil},
		{"0.00000000000000000001e20", 100, nil},
		{"0e400", 0, nil},
		{"0e-400", 0, nil},
		{"0.00e99999999999999999999999", 0, nil},
		{"1e400", 0, money.ErrRange},
		{"1e99999999999999999999999999", 0, money.ErrRange},
		{"1e18446744073709551616", 0, money.ErrRange}, // 2^64 must not wrap to 0
		{"1e-400", 0, money.ErrDecimals},
		{"1e-99999999999999999999999999", 0, money.ErrDecimals},
		{"1e-18446744073709551616", 0, money.ErrDecimals},

		// The edge of the range.
		{"9999999999999.99", money.MaxMinor, nil},
		{"-9999999999999.99", -money.MaxMinor, nil},
		{"9999999999999.990000", money.MaxMinor, nil},
		{"9.99999999999999e12", money.MaxMinor, nil},
		{"10000000000000", 0, money.ErrRange},
		{"10000000000000.00", 0, money.ErrRange},
		{"-10000000000000", 0, money.ErrRange},
		{"1e13", 0, money.ErrRange},
		{"92233720368547758.07", 0, money.ErrRange},  // MaxInt64 minor units
		{"184467440737095516.17", 0, money.ErrRange}, // 2^64+1 minor units must not wrap to 0.01
		{"99999999999999999999999999999999", 0, money.ErrRange},

		// Signs: JSON has a minus only.
		{"-1", -100, nil},
		{"-0.01", -1, nil},
		{"-0", 0, nil},
		{"-0.00", 0, nil},
		{"+1", 0, money.ErrSyntax},
		{"--1", 0, money.ErrSyntax},
		{"-", 0, money.ErrSyntax},
		{"1-", 0, money.ErrSyntax},

		// Not JSON numbers.
		{"", 0, money.ErrSyntax},
		{" ", 0, money.ErrSyntax},
		{" 1", 0, money.ErrSyntax},
		{"1 ", 0, money.ErrSyntax},
		{"1\n", 0, money.ErrSyntax},
		{"1 000", 0, money.ErrSyntax},
		{"1,000", 0, money.ErrSyntax},
		{"1,5", 0, money.ErrSyntax},
		{"1_000", 0, money.ErrSyntax},
		{"01", 0, money.ErrSyntax},
		{"00", 0, money.ErrSyntax},
		{"1:", 0, money.ErrSyntax}, // a colon is the character after 9
		{"1." + strings.Repeat("0", 62), 100, nil},
		{"1." + strings.Repeat("0", 63), 0, money.ErrSyntax},
		{"-01", 0, money.ErrSyntax},
		{"00.5", 0, money.ErrSyntax},
		{".5", 0, money.ErrSyntax},
		{"5.", 0, money.ErrSyntax},
		{"5.e1", 0, money.ErrSyntax},
		{".", 0, money.ErrSyntax},
		{"1.2.3", 0, money.ErrSyntax},
		{"e5", 0, money.ErrSyntax},
		{"1e", 0, money.ErrSyntax},
		{"1e+", 0, money.ErrSyntax},
		{"1e-", 0, money.ErrSyntax},
		{"1e1.5", 0, money.ErrSyntax},
		{"1e1e1", 0, money.ErrSyntax},
		{"0x10", 0, money.ErrSyntax},
		{"0b1", 0, money.ErrSyntax},
		{"1/2", 0, money.ErrSyntax},
		{"NaN", 0, money.ErrSyntax},
		{"Infinity", 0, money.ErrSyntax},
		{"-Inf", 0, money.ErrSyntax},
		{"null", 0, money.ErrSyntax},
		{"1\x00", 0, money.ErrSyntax},
		{"\x001", 0, money.ErrSyntax},
		{"1\x002", 0, money.ErrSyntax},
		{"\u0661", 0, money.ErrSyntax}, // ARABIC-INDIC DIGIT ONE is a digit, but not of JSON
		{"\uff11", 0, money.ErrSyntax}, // FULLWIDTH DIGIT ONE
		{"\u202e1", 0, money.ErrSyntax},
		{"\u22121", 0, money.ErrSyntax}, // MINUS SIGN, not hyphen-minus
		{"\ufeff1", 0, money.ErrSyntax},
		{strings.Repeat("9", 1<<20), 0, money.ErrSyntax}, // read no further than a sum can be long
	} {
		got, err := money.Parse(tt.text, money.UZS)
		name := tt.text
		if len(name) > 60 {
			name = name[:60] + "…"
		}
		if !errors.Is(err, tt.err) {
			t.Errorf("Parse(%q) fails with %v, want %v", name, err, tt.err)
		}
		if want := money.New(tt.minor, money.UZS); err == nil && got != want {
			t.Errorf("Parse(%q) = %d %s, want %d", name, got.Minor, got.Currency, want.Minor)
		}
	}
}

func TestDecimal(t *testing.T) {
	for _, tt := range []struct {
		minor         int64
		decimal, four string
	}{
		{0, "0.00", "0.0000"},
		{1, "0.01", "0.0100"},
		{10, "0.10", "0.1000"},
		{99, "0.99", "0.9900"},
		{100, "1.00", "1.0000"},
		{2000, "20.00", "20.0000"}, // the fee of the seed's sample
		{100_000, "1000.00", "1000.0000"},
		{43_727_866, "437278.66", "437278.6600"},
		{-1, "-0.01", "-0.0100"},
		{-100, "-1.00", "-1.0000"},
		{money.MaxMinor, "9999999999999.99", "9999999999999.9900"},
		{math.MaxInt64, "92233720368547758.07", "92233720368547758.0700"},
		{math.MinInt64, "-92233720368547758.08", "-92233720368547758.0800"},
	} {
		a := money.New(tt.minor, money.UZS)
		if got := a.Decimal(); got != tt.decimal {
			t.Errorf("Decimal of %d = %q, want %q", tt.minor, got, tt.decimal)
		}
		if got := a.Decimal4(); got != tt.four {
			t.Errorf("Decimal4 of %d = %q, want %q", tt.minor, got, tt.four)
		}
		if got, want := a.String(), tt.decimal+" UZS"; got != want {
			t.Errorf("String of %d = %q, want %q", tt.minor, got, want)
		}
	}
}

// What we send, we can read: every sum in range comes back as it was, from both forms.
func TestParseReadsDecimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom(money.Currencies).Draw(t, "currency")
		a := money.New(rapid.Int64Range(-money.MaxMinor, money.MaxMinor).Draw(t, "minor"), c)
		for _, text := range []string{a.Decimal(), a.Decimal4(), a.Decimal() + "0000000000", a.Decimal() + "e0"} {
			got, err := money.Parse(text, c)
			if err != nil || got != a {
				t.Fatalf("Parse(%q) = %v, %v; want %v", text, got, err, a)
			}
		}
	})
}

func TestParseCurrency(t *testing.T) {
	numeric := map[string]string{"UZS": "860", "USD": "840", "RUB": "643", "EUR": "978"} // ISO 4217
	for code, number := range numeric {
		c, err := money.ParseCurrency(code)
		if err != nil || string(c) != code {
			t.Errorf("ParseCurrency(%q) = %q, %v", code, c, err)
		}
		if got := c.Numeric(); got != number {
			t.Errorf("the numeric code of %s is %q, want %q", code, got, number)
		}
	}
	if len(money.Currencies) != len(numeric) {
		t.Errorf("Currencies = %v, want the %d of the contract", money.Currencies, len(numeric))
	}
	for _, code := range []string{"", "uzs", "Uzs", "UZS ", " UZS", "UZ", "UZSS", "KZT", "860", "UZS\x00", "USD,EUR"} {
		if c, err := money.ParseCurrency(code); err == nil {
			t.Errorf("ParseCurrency(%q) = %q, want a refusal", code, c)
		}
	}
	mustPanic(t, "the numeric code of an unknown currency", func() { money.Currency("KZT").Numeric() })
}

// jsonNumber is the grammar of RFC 8259 §6, written down apart from the parser.
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// farExponent is beyond what any mantissa of a text that Parse reads can bring back into range;
// it also keeps the oracle from writing out a number of a billion digits.
const farExponent = 500

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"0", "-0", "1", "1000.00", "437278.66", "1e3", "1.5E+2", "1e-2", "0.001", "1e400", "1e-400", "0e400",
		"9999999999999.99", "10000000000000", "01", ".5", "5.", "+1", "1\x00", " 1", "184467440737095516.17",
		"1e18446744073709551616", "NaN", "0.00000000000000000001e20", "100000000000000000000000e-23",
	} {
		f.Add(seed)
	}
	limit := big.NewInt(money.MaxMinor)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := money.Parse(text, money.USD)
		if err != nil && !errors.Is(err, money.ErrSyntax) && !errors.Is(err, money.ErrDecimals) && !errors.Is(err, money.ErrRange) {
			t.Fatalf("Parse(%q) fails with %v, which callers cannot name", text, err)
		}
		if len(text) > 64 {
			if err == nil && !jsonNumber.MatchString(text) {
				t.Fatalf("Parse(%q) = %v, but that is no JSON number", text, got)
			}
			return // too long to be a sum: may be refused unread
		}
		if jsonNumber.MatchString(text) == errors.Is(err, money.ErrSyntax) {
			t.Fatalf("Parse(%q) = %v, %v; JSON number: %v", text, got, err, jsonNumber.MatchString(text))
		}
		if errors.Is(err, money.ErrSyntax) {
			return
		}
		mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
		shift, ok := new(big.Int).SetString(exponent, 10)
		if !ok {
			shift = new(big.Int)
		}
		zero := strings.Trim(mantissa, "-0.") == ""
		if far := new(big.Int).Abs(shift); far.Cmp(big.NewInt(farExponent)) > 0 {
			switch {
			case zero && (err != nil || got.Minor != 0):
				t.Fatalf("Parse(%q) = %v, %v; want 0", text, got, err)
			case !zero && shift.Sign() > 0 && !errors.Is(err, money.ErrRange):
				t.Fatalf("Parse(%q) = %v, %v; want it out of range", text, got, err)
			case !zero && shift.Sign() < 0 && !errors.Is(err, money.ErrDecimals):
				t.Fatalf("Parse(%q) = %v, %v; want too many decimals", text, got, err)
			}
			return
		}
		value, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatalf("the oracle cannot read %q", text)
		}
		value.Mul(value, big.NewRat(100, 1))
		whole := value.IsInt()
		inRange := new(big.Rat).Abs(value).Cmp(new(big.Rat).SetInt(limit)) <= 0
		switch {
		case err == nil && (!whole || !inRange || value.Num().Cmp(big.NewInt(got.Minor)) != 0):
			t.Fatalf("Parse(%q) = %d, want %s hundredths", text, got.Minor, value.RatString())
		case err == nil && got.Currency != money.USD:
			t.Fatalf("Parse(%q) is of currency %q", text, got.Currency)
		case errors.Is(err, money.ErrDecimals) && whole:
			t.Fatalf("Parse(%q) fails with %v, but it is %s hundredths", text, err, value.RatString())
		case errors.Is(err, money.ErrRange) && inRange:
			t.Fatalf("Parse(%q) fails with %v, but it is in range", text, err)
		}
	})
}

func mustPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if recover() == nil {
			t.Errorf("%s did not panic", what)
		}
	}()
	f()
}
