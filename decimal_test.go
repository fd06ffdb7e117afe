package holdfast

import (
	stdjson "encoding/json"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"
)

func TestDecimalMinor(t *testing.T) {
	good := map[Decimal]int64{
		"1000.00": 100000, "1000.0": 100000, "1000": 100000, "0": 0, "0.00": 0, "0.01": 1, "10.5": 1050, "437278.66": 43727866,
		"20.0000": 2000, "10.500000": 1050, "-1.25": -125, "-0": 0,
		"1.0E7": 1000000000, "1e2": 10000, "1.5e+1": 1500, "150e-1": 1500, "0e64": 0, "100e-2": 100, "0.000e-5": 0,
		"92233720368547758.07":                  math.MaxInt64,
		"-92233720368547758.08":                 math.MinInt64,
		"0." + Decimal(strings.Repeat("0", 60)): 0,
	}
	for text, want := range good {
		if got, err := text.Minor(); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
	}
	bad := map[Decimal]string{
		"": "missing", "10.505": "two decimals", "0.001": "two decimals", "5e-3": "two decimals", "1e-64": "two decimals",
		"92233720368547758.08": "too large", "-92233720368547758.09": "too large", "1e30": "too large", "184467440737095516.17": "too large",
		"abc": "expected", "1,5": "expected", ".5": "expected", "5.": "expected", "+5": "expected", "01": "expected", "1e": "expected", "--1": "expected",
		"0x10": "expected", " 1": "expected", "1e65": "expected", "1e99999999999999999999": "expected", "NaN": "expected", "Infinity": "expected", "1_000": "expected", "١": "expected",
		Decimal(strings.Repeat("1", 65)): "expected",
	}
	for text, want := range bad {
		if got, err := text.Minor(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %d, %v; want an error with %q", text, got, err, want)
		}
	}
}

func TestDecimalOf(t *testing.T) {
	for minor, want := range map[int64]Decimal{
		0: "0.00", 1: "0.01", 99: "0.99", 100: "1.00", 100050: "1000.50", -5: "-0.05", -12345: "-123.45",
		math.MaxInt64: "92233720368547758.07", math.MinInt64: "-92233720368547758.08",
	} {
		if got := DecimalOf(minor); got != want {
			t.Errorf("DecimalOf(%d) = %s, want %s", minor, got, want)
		}
		if got := DecimalOf4(minor); got != want+"00" {
			t.Errorf("DecimalOf4(%d) = %s, want %s00", minor, got, want)
		}
	}
}

func TestDecimalJSON(t *testing.T) {
	type body struct {
		Sum     Decimal  `json:"sum"`
		Maybe   *Decimal `json:"maybe"`
		Left    Decimal  `json:"left,omitzero"`
		Nothing Decimal  `json:"nothing"`
	}
	checkEncoding(t, body{Sum: "1000.0"}, `{"sum":1000.0,"maybe":null,"nothing":null}`)
	var got body
	if err := json.Unmarshal([]byte(`{"sum":"1000.00","maybe":null,"left":1.0,"nothing":null}`), &got); err != nil {
		t.Fatal(err)
	}
	if want := (body{Sum: "1000.00", Left: "1.0"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	// What is not a number must not reach the wire, not even if it is JSON.
	for _, text := range []Decimal{"ten", "true", "null", `"1"`, "{}", "1,5", "1 ", "01", "1}", "1e", "1e+", "1."} {
		if encoded, err := json.Marshal(text); err == nil {
			t.Errorf("%q is written as %s", text, encoded)
		}
		if encoded, err := stdjson.Marshal(text); err == nil {
			t.Errorf("encoding/json writes %q as %s", text, encoded)
		}
	}
}

// Whatever is written is read again as the same sum, and Minor agrees with
// exact arithmetic of another make.
func TestDecimalAgainstRationals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		minor := rapid.Int64().Draw(t, "minor")
		if got, err := DecimalOf(minor).Minor(); err != nil || got != minor {
			t.Fatalf("DecimalOf(%d).Minor() = %d, %v", minor, got, err)
		}
		if got, err := DecimalOf4(minor).Minor(); err != nil || got != minor {
			t.Fatalf("DecimalOf4(%d).Minor() = %d, %v", minor, got, err)
		}
		text := rapid.StringMatching(`-?(0|[1-9][0-9]{0,18})(\.[0-9]{0,3}0{0,4}[0-9]{1})?([eE][+-]?[0-9])?`).Draw(t, "text")
		checkMinor(t, text)
	})
}

type failer interface{ Fatalf(string, ...any) }

// checkMinor compares Minor with big.Rat, for any text that is a JSON number.
func checkMinor(t failer, text string) {
	got, err := Decimal(text).Minor()
	exact, ok := new(big.Rat).SetString(text)
	if !ok {
		t.Fatalf("%q is no number to big.Rat", text)
	}
	exact.Mul(exact, big.NewRat(100, 1))
	fits := exact.IsInt() && exact.Num().IsInt64()
	if fits != (err == nil) {
		t.Fatalf("%q: %d, %v; exactly %s", text, got, err, exact)
	}
	if fits && exact.Num().Int64() != got {
		t.Fatalf("%q: %d, exactly %s", text, got, exact)
	}
}

func FuzzDecimal(f *testing.F) {
	for _, seed := range []string{`1000.0`, `"1000.00"`, `1.0E7`, `" 5 "`, `null`, `""`, `-0.00`, `1e-2`, `true`, `"\u0031"`, `01`, `1e400`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var d, std Decimal
		err := json.Unmarshal(text, &d)
		stdErr := stdjson.Unmarshal(text, &std)
		if err == nil && (stdErr != nil || d != std) {
			t.Fatalf("%q is %q, to encoding/json %q, %v", text, d, std, stdErr)
		}
		if err != nil {
			return
		}
		first, err := json.Marshal(d)
		if err != nil {
			t.Fatalf("%q was taken from %q and cannot be written: %v", d, text, err)
		}
		second, err := stdjson.Marshal(d)
		if err != nil || string(first) != string(second) {
			t.Fatalf("%s, but %s, %v", first, second, err)
		}
		var again Decimal
		if err := json.Unmarshal(first, &again); err != nil || again != d {
			t.Fatalf("%q is read again as %q, %v", d, again, err)
		}
		if minor, err := d.Minor(); err == nil {
			checkMinor(t, string(d))
			if back, err := DecimalOf(minor).Minor(); err != nil || back != minor {
				t.Fatalf("%d is written and read as %d, %v", minor, back, err)
			}
		}
	})
}

func BenchmarkDecimalOf(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		DecimalOf(43727866)
	}
}
