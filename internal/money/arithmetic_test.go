package money_test

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"holdfast/internal/money"
)

// Every pair of these is added and subtracted: the places where an int64 wraps.
var edges = []int64{
	math.MinInt64, math.MinInt64 + 1, math.MinInt64 / 2, -money.MaxMinor, -100, -1, 0,
	1, 100, money.MaxMinor, math.MaxInt64 / 2, math.MaxInt64/2 + 1, math.MaxInt64 - 1, math.MaxInt64,
}

// Add and Sub give the exact result or panic: there is no third way, such as a wrapped one.
func TestAddAndSubAreExactOrPanic(t *testing.T) {
	operations := []struct {
		name   string
		ours   func(a, b money.Amount) money.Amount
		oracle func(z, a, b *big.Int) *big.Int
	}{
		{"+", money.Amount.Add, (*big.Int).Add},
		{"-", money.Amount.Sub, (*big.Int).Sub},
	}
	for _, op := range operations {
		for _, x := range edges {
			for _, y := range edges {
				want := op.oracle(new(big.Int), big.NewInt(x), big.NewInt(y))
				a, b := money.New(x, money.UZS), money.New(y, money.UZS)
				if !want.IsInt64() {
					mustPanic(t, a.String()+" "+op.name+" "+b.String(), func() { op.ours(a, b) })
					continue
				}
				if got := op.ours(a, b); got != money.New(want.Int64(), money.UZS) {
					t.Errorf("%d %s %d = %d, want %s", x, op.name, y, got.Minor, want)
				}
			}
		}
	}
}

func TestCurrenciesNeverMeet(t *testing.T) {
	uzs, usd, none := money.New(100, money.UZS), money.New(100, money.USD), money.Amount{}
	for _, pair := range [][2]money.Amount{{uzs, usd}, {usd, uzs}, {uzs, none}, {none, uzs}, {uzs.Zero(), usd.Zero()}} {
		a, b := pair[0], pair[1]
		mustPanic(t, a.String()+" + "+b.String(), func() { a.Add(b) })
		mustPanic(t, a.String()+" - "+b.String(), func() { a.Sub(b) })
		mustPanic(t, a.String()+" compared with "+b.String(), func() { a.Cmp(b) })
	}
}

func TestCompareAndSign(t *testing.T) {
	for i, x := range edges {
		for j, y := range edges {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := money.New(x, money.EUR).Cmp(money.New(y, money.EUR)); got != want {
				t.Errorf("Cmp of %d and %d = %d, want %d", x, y, got, want)
			}
		}
		a := money.New(x, money.EUR)
		if a.IsZero() != (x == 0) || a.Positive() != (x > 0) {
			t.Errorf("%d: IsZero %v, Positive %v", x, a.IsZero(), a.Positive())
		}
		if zero := a.Zero(); zero != money.New(0, money.EUR) {
			t.Errorf("Zero of %d = %v", x, zero)
		}
		if x != math.MinInt64 && !a.Add(a.Neg()).IsZero() {
			t.Errorf("%d and its Neg are not nothing", x)
		}
	}
}

func TestParseRate(t *testing.T) {
	for _, tt := range []struct {
		text string
		ppm  money.Rate
	}{
		{"0%", 0},
		{"0", 0},
		{"2%", 20_000},
		{"2.5%", 25_000},
		{"2.5", 25_000},
		{"0.0001%", 1},
		{"0.5%", 5_000},
		{"1.2345%", 12_345},
		{"1.23450%", 12_345},
		{"99.9999%", 999_999},
		{"100%", money.MaxRate},
		{"100.0000", money.MaxRate},
	} {
		if got, err := money.ParseRate(tt.text); err != nil || got != tt.ppm {
			t.Errorf("ParseRate(%q) = %d ppm, %v; want %d", tt.text, int64(got), err, int64(tt.ppm))
		}
	}
	for _, text := range []string{
		"", "%", "2%%", "%2", "2 %", " 2%", "2% ", "-1%", "-0.0001%", "100.0001%", "101%", "1e400%", "0.00001%", "2.00005%",
		"2,5%", "+2%", "02%", ".5%", "5.%", "NaN%", "2\x00%", "2pct", "\u0662%", "9223372036854775808%",
	} {
		if got, err := money.ParseRate(text); err == nil {
			t.Errorf("ParseRate(%q) = %d ppm, want a refusal", text, int64(got))
		}
	}
}

func TestRateString(t *testing.T) {
	for ppm, want := range map[money.Rate]string{
		0: "0%", 1: "0.0001%", 10: "0.001%", 100: "0.01%", 1_000: "0.1%", 10_000: "1%", 20_000: "2%", 25_000: "2.5%",
		12_345: "1.2345%", 100_000: "10%", 100_100: "10.01%", 999_999: "99.9999%", money.MaxRate: "100%",
	} {
		if got := ppm.String(); got != want {
			t.Errorf("%d ppm prints %q, want %q", int64(ppm), got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		r := money.Rate(rapid.Int64Range(0, int64(money.MaxRate)).Draw(t, "ppm"))
		if got, err := money.ParseRate(r.String()); err != nil || got != r {
			t.Fatalf("ParseRate(%q) = %d, %v; want %d", r, int64(got), err, int64(r))
		}
	})
}

func TestShareRoundsHalfUp(t *testing.T) {
	for _, tt := range []struct {
		minor int64
		rate  string
		want  int64
	}{
		{100_000, "2%", 2_000}, // the fee of the seed's sample
		{0, "2%", 0},
		{100_000, "0%", 0},
		{100_000, "100%", 100_000},
		{24, "2%", 0},  // 0.48
		{25, "2%", 1},  // 0.50
		{26, "2%", 1},  // 0.52
		{74, "2%", 1},  // 1.48
		{75, "2%", 2},  // 1.50: upwards, not to the even neighbour
		{125, "2%", 3}, // 2.50: upwards, where half-to-even would give 2
		{1, "50%", 1},  // 0.5
		{1, "49.9999%", 0},
		{3, "50%", 2}, // 1.5
		{5, "50%", 3}, // 2.5
		{1, "0.0001%", 0},
		{499_999, "0.0001%", 0},
		{500_000, "0.0001%", 1},
		{money.MaxMinor, "100%", money.MaxMinor},
		{math.MaxInt64, "100%", math.MaxInt64},
		{math.MaxInt64, "0.0001%", 9_223_372_036_855}, // 9223372036854.775807
	} {
		rate, err := money.ParseRate(tt.rate)
		if err != nil {
			t.Fatal(err)
		}
		if got := money.New(tt.minor, money.UZS).Share(rate); got != money.New(tt.want, money.UZS) {
			t.Errorf("%s of %d = %v, want %d", tt.rate, tt.minor, got, tt.want)
		}
	}
}

func TestShareRefusesNonsense(t *testing.T) {
	mustPanic(t, "a share of a negative sum", func() { money.New(-1, money.UZS).Share(1) })
	mustPanic(t, "a share of the most negative sum", func() { money.New(math.MinInt64, money.UZS).Share(1) })
	mustPanic(t, "a negative share", func() { money.New(1, money.UZS).Share(-1) })
	mustPanic(t, "a share above the whole", func() { money.New(1, money.UZS).Share(money.MaxRate + 1) })
}

// Percent is what details.commission says: at least two decimals, and no zeros beyond them.
func TestPercent(t *testing.T) {
	for ppm, want := range map[money.Rate]string{
		0: "0.00", 1: "0.0001", 10: "0.001", 100: "0.01", 1_000: "0.10", 12_300: "1.23", 12_340: "1.234", 12_345: "1.2345",
		20_000: "2.00", 25_000: "2.50", 100_000: "10.00", 100_100: "10.01", money.MaxRate: "100.00",
	} {
		if got := ppm.Percent(); got != want {
			t.Errorf("%d ppm is %q, want %q", int64(ppm), got, want)
		}
	}
}

// A part is exact and rounded upwards, whatever the sums are: nothing of a part is nothing, and all of it is all.
func TestPartAgreesWithExactArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		minor, whole := anySum(t, "minor"), max(anySum(t, "whole"), 1)
		part := rapid.OneOf(rapid.Int64Range(0, whole), rapid.Just(int64(0)), rapid.Just(whole)).Draw(t, "part")
		product := new(big.Int).Mul(big.NewInt(minor), big.NewInt(part))
		want, rest := product.DivMod(product, big.NewInt(whole), new(big.Int))
		if rest.Sign() > 0 {
			want.Add(want, big.NewInt(1))
		}
		got := money.New(minor, money.USD).Part(money.New(part, money.UZS), money.New(whole, money.UZS))
		if want.Cmp(big.NewInt(got.Minor)) != 0 || got.Currency != money.USD {
			t.Fatalf("%d of %d of %d = %v, want %s", part, whole, minor, got, want)
		}
	})
}

func TestPartRefusesNonsense(t *testing.T) {
	of := func(minor, part, whole int64) func() {
		return func() { money.New(minor, money.UZS).Part(money.New(part, money.UZS), money.New(whole, money.UZS)) }
	}
	mustPanic(t, "a part of a negative sum", of(-1, 1, 2))
	mustPanic(t, "a negative part", of(1, -1, 2))
	mustPanic(t, "a part above the whole", of(1, 3, 2))
	mustPanic(t, "a part of nothing", of(1, 0, 0))
	mustPanic(t, "a part in another currency", func() { money.New(1, money.UZS).Part(money.New(1, money.UZS), money.New(1, money.USD)) })
}

// share is Share by other means: exact, then half up.
func share(minor int64, r money.Rate) *big.Int {
	n := new(big.Int).Mul(big.NewInt(minor), big.NewInt(int64(r)))
	n.Mul(n, big.NewInt(2)).Add(n, big.NewInt(int64(money.MaxRate)))
	return n.Div(n, big.NewInt(2*int64(money.MaxRate)))
}

// anySum draws small sums, sums near a rounding edge and sums near the end of an int64 alike.
func anySum(t *rapid.T, name string) int64 {
	return rapid.OneOf(
		rapid.Int64Range(0, 1_000),
		rapid.Int64Range(0, money.MaxMinor),
		rapid.Int64Range(math.MaxInt64-1_000_000, math.MaxInt64),
		rapid.Int64Min(0),
	).Draw(t, name)
}

func anyRate(t *rapid.T) money.Rate {
	return money.Rate(rapid.OneOf(
		rapid.Int64Range(0, 100), rapid.Int64Range(0, int64(money.MaxRate)), rapid.Int64Range(int64(money.MaxRate)-100, int64(money.MaxRate)),
	).Draw(t, "ppm"))
}

func TestShareAgreesWithExactArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		minor, rate := anySum(t, "minor"), anyRate(t)
		got := money.New(minor, money.USD).Share(rate)
		if want := share(minor, rate); want.Cmp(big.NewInt(got.Minor)) != 0 || got.Currency != money.USD {
			t.Fatalf("%d ppm of %d = %v, want %s", int64(rate), minor, got, want)
		}
		if got.Minor < 0 || got.Minor > minor {
			t.Fatalf("%d ppm of %d = %d is not a part of it", int64(rate), minor, got.Minor)
		}
	})
}

// A larger sum or a larger rate never makes a smaller fee, and a sum cut in two costs at most one
// minor unit more or less than the whole.
func TestShareIsMonotoneAndNearlyAdditive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.OneOf(rapid.Int64Range(0, 1_000), rapid.Int64Range(0, math.MaxInt64/2)).Draw(t, "a")
		b := rapid.OneOf(rapid.Int64Range(0, 1_000), rapid.Int64Range(0, math.MaxInt64/2)).Draw(t, "b")
		rate := anyRate(t)
		of := func(minor int64, r money.Rate) int64 { return money.New(minor, money.UZS).Share(r).Minor }
		whole, parts := of(a+b, rate), of(a, rate)+of(b, rate)
		if difference := whole - parts; difference < -1 || difference > 1 {
			t.Fatalf("%d ppm of %d is %d, of its parts %d and %d together %d", int64(rate), a+b, whole, a, b, parts)
		}
		if whole < of(a, rate) || whole < of(b, rate) {
			t.Fatalf("%d ppm of %d is less than of a part of it", int64(rate), a+b)
		}
		if rate < money.MaxRate && of(a, rate+1) < of(a, rate) {
			t.Fatalf("%d ppm of %d is less than %d ppm of it", int64(rate)+1, a, int64(rate))
		}
	})
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := money.Parse("437278.66", money.UZS); err != nil {
			b.Fatal(err)
		}
	}
}
