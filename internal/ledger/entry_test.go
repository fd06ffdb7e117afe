package ledger_test

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"holdfast/internal/ledger"
	"holdfast/internal/money"
)

func line(account ledger.Account, minor int64) ledger.Line {
	return ledger.Line{Account: account, Amount: money.New(minor, money.UZS)}
}

func TestAccounts(t *testing.T) {
	for _, tt := range []struct{ got, want ledger.Account }{
		{ledger.PayerHeld, "payer/held"},
		{ledger.ShopHeld(12), "shop/12/held"},
		{ledger.Shop(12), "shop/12"},
		{ledger.Processor("uzcard"), "processor/uzcard"},
		{ledger.Fees, "fees"},
	} {
		if tt.got != tt.want {
			t.Errorf("account %q, want %q", tt.got, tt.want)
		}
	}
}

func TestCheck(t *testing.T) {
	usd := func(account ledger.Account, minor int64) ledger.Line {
		return ledger.Line{Account: account, Amount: money.New(minor, money.USD)}
	}
	for _, tt := range []struct {
		name  string
		entry ledger.Entry
		want  string // part of the refusal; empty: a fact
	}{
		{"two lines", ledger.Entry{Kind: ledger.Hold, Operation: "1_5", Lines: []ledger.Line{line("a", 5), line("b", -5)}}, ""},
		{"four lines", ledger.Entry{Kind: ledger.Capture, Operation: "1_5", Lines: []ledger.Line{line("a", 5), line("b", -5), line("c", 7), line("d", -7)}}, ""},
		{"one debit, two credits", ledger.Entry{Kind: ledger.Capture, Operation: "1_5", Lines: []ledger.Line{line("a", 5), line("b", -2), line("c", -3)}}, ""},
		{"two lines on one account", ledger.Entry{Kind: ledger.Capture, Operation: "1_5", Lines: []ledger.Line{line("a", 5), line("a", -5)}}, ""},

		{"no operation", ledger.Entry{Kind: ledger.Hold, Lines: []ledger.Line{line("a", 5), line("b", -5)}}, "no operation"},
		{"no lines", ledger.Entry{Kind: ledger.Hold, Operation: "1_5"}, "0 lines"},
		{"one line", ledger.Entry{Kind: ledger.Hold, Operation: "1_5", Lines: []ledger.Line{line("a", 5)}}, "1 lines"},
		{"one line of nothing", ledger.Entry{Kind: ledger.Hold, Operation: "1_5", Lines: []ledger.Line{line("a", 0)}}, "1 lines"},
		{"off by one", ledger.Entry{Kind: ledger.Hold, Operation: "1_5", Lines: []ledger.Line{line("a", 5), line("b", -4)}}, "off by 0.01"},
		{"both debits", ledger.Entry{Kind: ledger.Hold, Operation: "1_5", Lines: []ledger.Line{line("a", 5), line("b", 5)}}, "off by 0.10"},
		{"a line of nothing", ledger.Entry{Kind: ledger.Hold, Operation: "1_5", Lines: []ledger.Line{line("a", 5), line("b", -5), line("c", 0)}}, "empty line"},
		{"only lines of nothing", ledger.Entry{Kind: ledger.Hold, Operation: "1_5", Lines: []ledger.Line{line("a", 0), line("b", 0)}}, "empty line"},
		{"no account", ledger.Entry{Kind: ledger.Hold, Operation: "1_5", Lines: []ledger.Line{line("", 5), line("b", -5)}}, "empty line"},
		{"an account with a space", ledger.Entry{Kind: ledger.Hold, Operation: "1_5", Lines: []ledger.Line{line("a 5", 5), line("b", -5)}}, "empty line"},
		{"an account with a semicolon", ledger.Entry{Kind: ledger.Hold, Operation: "1_5", Lines: []ledger.Line{line("a;b", 5), line("b", -5)}}, "empty line"},
		{"two currencies", ledger.Entry{Kind: ledger.Hold, Operation: "1_5", Lines: []ledger.Line{line("a", 5), usd("b", -5)}}, "mixes"},
		{"two currencies, each balanced", ledger.Entry{Kind: ledger.Hold, Operation: "1_5", Lines: []ledger.Line{
			line("a", 5), line("b", -5), usd("a", 7), usd("b", -7)}}, "mixes"},
	} {
		err := tt.entry.Check()
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s is refused: %v", tt.name, err)
		case tt.want != "" && err == nil:
			t.Errorf("%s is taken for a fact", tt.name)
		case tt.want != "" && !strings.Contains(err.Error(), tt.want):
			t.Errorf("%s is refused with %q, which does not say %q", tt.name, err, tt.want)
		}
	}
}

func TestTransfer(t *testing.T) {
	got := ledger.Transfer(ledger.Hold, "1732700437604_5520", ledger.PayerHeld, ledger.ShopHeld(12), money.New(100_000, money.UZS))
	want := ledger.Entry{Kind: ledger.Hold, Operation: "1732700437604_5520", Lines: []ledger.Line{
		line("payer/held", 100_000), line("shop/12/held", -100_000),
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := got.Check(); err != nil {
		t.Error(err)
	}
	if got.Sum() != money.New(100_000, money.UZS) {
		t.Errorf("Sum = %v", got.Sum())
	}
	if err := ledger.Transfer(ledger.Hold, "1_5", "a", "b", money.New(0, money.UZS)).Check(); err == nil {
		t.Error("a transfer of nothing is taken for a fact")
	}
}

// facts draws entries that balance: any debits, then credits that cut the same sum otherwise.
func facts(t *rapid.T) ledger.Entry {
	c := rapid.SampledFrom(money.Currencies).Draw(t, "currency")
	account := rapid.Custom(func(t *rapid.T) ledger.Account {
		shop := rapid.Int64Min(0).Draw(t, "shop")
		name := rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "processor")
		return rapid.SampledFrom([]ledger.Account{
			ledger.PayerHeld, ledger.Fees, ledger.Shop(shop), ledger.ShopHeld(shop), ledger.Processor(name),
		}).Draw(t, "account")
	})
	e := ledger.Entry{
		Kind:      rapid.SampledFrom([]ledger.Kind{ledger.Hold, ledger.Capture, ledger.Release, ledger.Fee, ledger.Refund}).Draw(t, "kind"),
		Operation: rapid.StringMatching(`[0-9]{13}_[0-9]{1,10}`).Draw(t, "operation"),
	}
	rest := int64(0)
	for _, minor := range rapid.SliceOfN(rapid.Int64Range(1, money.MaxMinor), 1, 4).Draw(t, "debits") {
		rest += minor
		e.Lines = append(e.Lines, ledger.Line{Account: account.Draw(t, "debit"), Amount: money.New(minor, c)})
	}
	for rest > 0 {
		part := rapid.Int64Range(1, rest).Draw(t, "credit")
		if len(e.Lines) > 6 {
			part = rest
		}
		rest -= part
		e.Lines = append(e.Lines, ledger.Line{Account: account.Draw(t, "credited"), Amount: money.New(-part, c)})
	}
	e.Lines = rapid.Permutation(e.Lines).Draw(t, "lines")
	return e
}

// A balanced entry is a fact in whatever order its lines stand; Sum is its debits; and one line
// changed by whatever sum, or left out, makes it none.
func TestCheckSeesEveryImbalance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := facts(t)
		if err := e.Check(); err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		debits := int64(0)
		for _, l := range e.Lines {
			debits += max(l.Amount.Minor, 0)
		}
		if got := e.Sum(); got != money.New(debits, e.Lines[0].Amount.Currency) {
			t.Fatalf("Sum = %v, debits are %d", got, debits)
		}
		i := rapid.IntRange(0, len(e.Lines)-1).Draw(t, "line")
		by := rapid.Int64Range(-money.MaxMinor, money.MaxMinor).Filter(func(n int64) bool { return n != 0 }).Draw(t, "by")
		changed := e
		changed.Lines = append([]ledger.Line(nil), e.Lines...)
		changed.Lines[i].Amount.Minor += by
		if changed.Check() == nil {
			t.Fatalf("line %d of %+v may be changed by %d", i, e, by)
		}
		changed.Lines = append(append([]ledger.Line(nil), e.Lines[:i]...), e.Lines[i+1:]...)
		if changed.Check() == nil {
			t.Fatalf("line %d of %+v may be left out", i, e)
		}
	})
}

func TestAppendLinesForm(t *testing.T) {
	e := ledger.Transfer(ledger.Fee, "1_5", ledger.Shop(12), ledger.Fees, money.New(2_000, money.UZS))
	if got, want := string(e.AppendLines([]byte("x"))), "xshop/12 2000;fees -2000"; got != want {
		t.Errorf("AppendLines = %q, want %q", got, want)
	}
}

// What the store keeps of an entry's lines is all of them, in their order, to the last unit.
func TestParseLinesReadsAppendLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := facts(t)
		got, err := ledger.ParseLines(string(e.AppendLines(nil)), e.Lines[0].Amount.Currency)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e.Lines, got); diff != "" {
			t.Fatal(diff)
		}
	})
	for _, minor := range []int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, math.MaxInt64} {
		e := ledger.Entry{Lines: []ledger.Line{line("a", minor)}}
		got, err := ledger.ParseLines(string(e.AppendLines(nil)), money.UZS)
		if err != nil || len(got) != 1 || got[0] != e.Lines[0] {
			t.Errorf("%d comes back as %v, %v", minor, got, err)
		}
	}
}

func TestParseLinesRefuses(t *testing.T) {
	for _, text := range []string{
		"", ";", "fees", "fees ", " 5", "fees 5;", ";fees 5", "fees 5;;fees -5", "fees five", "fees 5.0", "fees 1e3", "fees  5",
		"fees 5 ", "fees 0x5", "fees 1_000", "fees 9223372036854775808", "fees -9223372036854775809", "fees -", "fees 5\n", "fees 5\x00",
	} {
		if got, err := ledger.ParseLines(text, money.UZS); err == nil {
			t.Errorf("ParseLines(%q) = %v, want a refusal", text, got)
		}
	}
}

// Whatever stands in the store's column is read as lines that would be written the same, or refused.
func FuzzParseLines(f *testing.F) {
	for _, seed := range []string{
		"fees -2000;shop/12 2000", "payer/held 1;shop/1/held -1", "", ";", "fees", "fees 5;", "fees 9223372036854775808", "a -0", "a +1", "a 007", "\x00 1", "a 1;a 1;a -2",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := ledger.ParseLines(text, money.RUB)
		if err != nil {
			if lines != nil {
				t.Fatalf("ParseLines(%q) fails with %v, but gives %v", text, err, lines)
			}
			return
		}
		if len(lines) != strings.Count(text, ";")+1 {
			t.Fatalf("ParseLines(%q) = %v", text, lines)
		}
		for _, l := range lines {
			if l.Account == "" || l.Amount.Currency != money.RUB {
				t.Fatalf("ParseLines(%q) has line %+v", text, l)
			}
		}
		again, err := ledger.ParseLines(string(ledger.Entry{Lines: lines}.AppendLines(nil)), money.RUB)
		if err != nil {
			t.Fatalf("%q is read as %v, and what is written of that is not: %v", text, lines, err)
		}
		if diff := cmp.Diff(lines, again); diff != "" {
			t.Fatalf("%q: %s", text, diff)
		}
	})
}
