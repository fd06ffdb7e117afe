package payment_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"holdfast/internal/payment"
)

func banks(ranges ...payment.Range) payment.CardTable {
	for i := range ranges {
		if ranges[i].Lengths == nil {
			ranges[i].Lengths = []int{16}
		}
	}
	return payment.CardTable{Ranges: append(slices.Clone(builtIn.Ranges), ranges...)}
}

// A bank's own prefix counts before the scheme's, whichever of them is written first.
func TestLongestPrefixWins(t *testing.T) {
	table, err := banks(
		payment.Range{From: "561488", To: "561499", Scheme: "humo", Lengths: []int{19, 16, 16}},
		payment.Range{From: "56149000", To: "56149000", Scheme: "visa"},
		payment.Range{From: "86", To: "87", Scheme: "mastercard"},
	).Checked()
	if err != nil {
		t.Fatal(err)
	}
	for number, want := range map[string]string{
		"5614870000000000": "uzcard", "5614880000000000": "humo", "5614999999999999": "humo", "5614": "uzcard", "56148": "uzcard",
		"5614900000000000": "visa", "5614900100000000": "humo", "5615000000000000": "", "86": "mastercard", "8600": "uzcard", "8601": "mastercard",
		"8799": "mastercard", "88": "", "4": "visa", "": "", "5": "",
	} {
		if r, _ := table.Find(number); r.Scheme != want {
			t.Errorf("%s is of %q, want %q", number, r.Scheme, want)
		}
	}
	if r, _ := table.Find("561488"); !slices.Equal(r.Lengths, []int{16, 19}) || r.String() != "561488-561499" || r.Method() != payment.Humo {
		t.Errorf("it is %s by %s with lengths %v", r, r.Method(), r.Lengths)
	}
}

func TestCardTableChecked(t *testing.T) {
	r := func(from, to, scheme string) payment.Range { return payment.Range{From: from, To: to, Scheme: scheme} }
	for name, c := range map[string]struct {
		table payment.CardTable
		want  string // in the error
	}{
		"empty":             {payment.CardTable{}, "0 card ranges"},
		"no digits":         {banks(r("86o0", "86o0", "uzcard")), "first digits"},
		"no digits to":      {banks(r("8601", "86o2", "uzcard")), "first digits"},
		"no digits from":    {banks(r("85o1", "8601", "uzcard")), "first digits"},
		"nothing":           {banks(r("", "", "uzcard")), "first digits"},
		"two lengths":       {banks(r("71", "725", "uzcard")), "as many in both"},
		"too long":          {banks(r("1234567890123", "1234567890123", "uzcard")), "1 to 12"},
		"upside down":       {banks(r("72", "71", "uzcard")), "from is above to"},
		"no scheme":         {banks(r("71", "72", "mir")), `scheme "mir" is unknown: use one of uzcard, humo, visa, mastercard`},
		"a short number":    {banks(payment.Range{From: "71", To: "71", Scheme: "visa", Lengths: []int{12}}), "13 to 19"},
		"a long number":     {banks(payment.Range{From: "71", To: "71", Scheme: "visa", Lengths: []int{16, 20}}), "13 to 19"},
		"no lengths":        {banks(payment.Range{From: "71", To: "71", Scheme: "visa", Lengths: []int{}}), "13 to 19"},
		"no country":        {banks(payment.Range{From: "71", To: "71", Scheme: "visa", Country: "uz"}), "two capital letters"},
		"a long country":    {banks(payment.Range{From: "71", To: "71", Scheme: "visa", Country: "UZB"}), "two capital letters"},
		"twice":             {banks(r("8600", "8600", "humo")), "8600 (uzcard) and 8600 (humo) overlap"},
		"overlapping":       {banks(r("54", "56", "humo")), "51-55 (mastercard) and 54-56 (humo) overlap"},
		"contained":         {banks(r("2300", "2400", "humo")), "overlap"},
		"foreign digits":    {banks(r("８６００", "８６００", "uzcard")), "first digits"},
		"switch of no one":  {payment.CardTable{Ranges: builtIn.Ranges, NoLuhn: []string{"mir"}}, `check digit of scheme "mir"`},
		"too many of these": {payment.CardTable{Ranges: make([]payment.Range, 10_001)}, "1 to 10000"},
	} {
		if _, err := c.table.Checked(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := banks(r("710000000000", "719999999999", "uzcard")).Checked(); err != nil {
		t.Errorf("the longest prefix: %v", err)
	}
	again, err := builtIn.Checked()
	if err != nil || !reflect.DeepEqual(again, builtIn) {
		t.Errorf("checked twice it is another table: %v", err)
	}
}

// Whatever the table, a number's range is that with the longest prefix among those that have it.
func TestFindAgainstLookingAtAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var drawn payment.CardTable
		for range rapid.IntRange(1, 40).Draw(t, "ranges") {
			n := rapid.IntRange(1, 4).Draw(t, "digits")
			limit := []int{0, 9, 99, 999, 9999}[n]
			from := rapid.IntRange(0, limit).Draw(t, "from")
			to := min(limit, from+rapid.IntRange(0, 30).Draw(t, "width"))
			next := payment.Range{
				From: fmt.Sprintf("%0*d", n, from), To: fmt.Sprintf("%0*d", n, to), Lengths: []int{16},
				Scheme: payment.Schemes[rapid.IntRange(0, 3).Draw(t, "scheme")].Name,
			}
			// As an operator would: what cannot be is left out.
			if more, err := (payment.CardTable{Ranges: append(slices.Clone(drawn.Ranges), next)}).Checked(); err == nil {
				drawn = more
			}
		}
		for range 50 {
			number := rapid.StringMatching(`[0-9]{0,6}`).Draw(t, "number")
			want := payment.Range{}
			for _, r := range drawn.Ranges {
				if n := len(r.From); n <= len(number) && r.From <= number[:n] && number[:n] <= r.To && n > len(want.From) {
					want = r
				}
			}
			if got, found := drawn.Find(number); !reflect.DeepEqual(got, want) || found != (want.From != "") {
				t.Fatalf("%s is of %v, want %v", number, got, want)
			}
		}
	})
}

// The check digit is looked at unless the scheme's switch says otherwise; what else is wrong is refused still.
func TestLuhnSwitch(t *testing.T) {
	mistyped := payment.Card{Number: "8600313260861294", Expiry: "2912"}
	if problem := mistyped.Check(builtIn, payment.Uzcard, t0); problem == nil || problem.Field != "pan" {
		t.Errorf("%+v", problem)
	}
	table, err := payment.CardTable{Ranges: builtIn.Ranges, NoLuhn: []string{"uzcard"}}.Checked()
	if err != nil {
		t.Fatal(err)
	}
	if problem := mistyped.Check(table, payment.Uzcard, t0); problem != nil {
		t.Errorf("%+v", problem)
	}
	short := payment.Card{Number: "860031326086129", Expiry: "2912"}
	if problem := short.Check(table, payment.Uzcard, t0); problem == nil || problem.Field != "pan" {
		t.Errorf("a short number: %+v", problem)
	}
	other := payment.Card{Number: "9860140000000013", Expiry: "2912"}
	if problem := other.Check(table, payment.Humo, t0); problem == nil || problem.Field != "pan" {
		t.Errorf("another scheme's: %+v", problem)
	}
}
