package payment

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// CardTable says of which scheme a card number is, by its first digits. The longest prefix wins: 5614 may
// be Uzcard although 5 is otherwise Mastercard. It is data: an operator changes it, the store keeps it,
// and whoever looks at a card hands it in. Only a table that Checked gave may be asked.
type CardTable struct {
	Ranges []Range  `json:"ranges"`
	NoLuhn []string `json:"no_luhn,omitempty"` // schemes of whose numbers the check digit is not looked at
}

// Range is a run of card numbers that share a beginning.
type Range struct {
	From    string `json:"from"` // first digits, 1 to 12 of them
	To      string `json:"to"`   // as many, inclusive
	Scheme  string `json:"scheme"`
	Country string `json:"country,omitzero"` // where the whole range is issued (ISO 3166 alpha-2), or empty
	Lengths []int  `json:"lengths"`          // allowed lengths of the number, 13 to 19 digits
}

// String is the range as people write it: 8600, or 51-55.
func (r Range) String() string {
	if r.From == r.To {
		return r.From
	}
	return r.From + "-" + r.To
}

// Schemes are the card schemes that there are, and how each is paid by.
var Schemes = []struct {
	Name string
	Method
}{
	{"uzcard", Uzcard}, {"humo", Humo}, {"visa", BankCard}, {"mastercard", BankCard},
}

// SchemeNames lists them for people.
func SchemeNames() string {
	var names []string
	for _, s := range Schemes {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

// Method is how cards of the range are paid by; empty for a scheme that is none.
func (r Range) Method() Method {
	for _, s := range Schemes {
		if s.Name == r.Scheme {
			return s.Method
		}
	}
	return ""
}

// BuiltInCards is the table where nobody has made another (contract §3, docs/processors.md): whole
// prefixes, not every bank's.
func BuiltInCards() CardTable {
	sixteen := []int{16}
	table, err := CardTable{Ranges: []Range{
		{From: "8600", To: "8600", Scheme: "uzcard", Country: "UZ", Lengths: sixteen},
		{From: "5614", To: "5614", Scheme: "uzcard", Country: "UZ", Lengths: sixteen},
		{From: "6262", To: "6262", Scheme: "uzcard", Country: "UZ", Lengths: sixteen},
		{From: "9860", To: "9860", Scheme: "humo", Country: "UZ", Lengths: sixteen},
		{From: "4", To: "4", Scheme: "visa", Lengths: []int{13, 16, 19}},
		{From: "51", To: "55", Scheme: "mastercard", Lengths: sixteen},
		{From: "2221", To: "2720", Scheme: "mastercard", Lengths: sixteen},
	}}.Checked()
	if err != nil {
		panic(err) // it is written here
	}
	return table
}

const (
	maxRanges = 10_000
	maxPrefix = 12 // digits; banks' own prefixes have 6 or 8
)

// Checked is the table in the order in which it is asked, or the first thing in it that cannot be, with
// what to do. Ranges of different lengths may overlap, for the longer prefix wins; of the same length they
// may not.
func (t CardTable) Checked() (CardTable, error) {
	if len(t.Ranges) == 0 || len(t.Ranges) > maxRanges {
		return t, fmt.Errorf("%d card ranges: a table has 1 to %d", len(t.Ranges), maxRanges)
	}
	ranges := slices.Clone(t.Ranges)
	for i := range ranges {
		r := &ranges[i]
		r.Lengths = slices.Compact(slices.Sorted(slices.Values(r.Lengths)))
		switch {
		case !digitsOnly(r.From) || !digitsOnly(r.To) || len(r.From) != len(r.To) || len(r.From) > maxPrefix:
			return t, fmt.Errorf("the range %s: from and to are the first digits of card numbers, 1 to %d of them and as many in both", r, maxPrefix)
		case r.From > r.To:
			return t, fmt.Errorf("the range %s: from is above to", r)
		case r.Method() == "":
			return t, fmt.Errorf("the range %s: scheme %q is unknown: use one of %s", r, r.Scheme, SchemeNames())
		case r.Country != "" && (len(r.Country) != 2 || strings.Trim(r.Country, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != ""):
			return t, fmt.Errorf("the range %s: country %q is not two capital letters such as UZ", r, r.Country)
		case len(r.Lengths) == 0 || r.Lengths[0] < 13 || r.Lengths[len(r.Lengths)-1] > 19:
			return t, fmt.Errorf("the range %s: lengths are of whole card numbers, each 13 to 19 digits", r)
		}
	}
	slices.SortFunc(ranges, func(a, b Range) int { return a.compare(b.From) })
	for i := 1; i < len(ranges); i++ {
		if a, b := ranges[i-1], ranges[i]; len(a.From) == len(b.From) && b.From <= a.To {
			return t, fmt.Errorf("the ranges %s (%s) and %s (%s) overlap, and neither prefix is the longer one: cut one of them", a, a.Scheme, b, b.Scheme)
		}
	}
	noLuhn := slices.Compact(slices.Sorted(slices.Values(t.NoLuhn)))
	for _, scheme := range noLuhn {
		if (Range{Scheme: scheme}).Method() == "" {
			return t, fmt.Errorf("the check digit of scheme %q: the scheme is unknown: use one of %s", scheme, SchemeNames())
		}
	}
	return CardTable{Ranges: ranges, NoLuhn: noLuhn}, nil
}

// compare orders ranges by the length of their prefix, and then by its digits.
func (r Range) compare(from string) int {
	return cmp.Or(cmp.Compare(len(r.From), len(from)), cmp.Compare(r.From, from))
}

// Find finds the range of a card number, of which a beginning is enough.
func (t CardTable) Find(number string) (Range, bool) {
	for n := min(len(number), maxPrefix); n > 0; n-- {
		i, exact := slices.BinarySearchFunc(t.Ranges, number[:n], Range.compare)
		if !exact {
			i-- // the last one that begins before
		}
		if i >= 0 && len(t.Ranges[i].From) == n && number[:n] <= t.Ranges[i].To {
			return t.Ranges[i], true
		}
	}
	return Range{}, false
}
