package text

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/money"
	"holdfast/internal/payment"
)

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// Every language must say everything, with the same values in it.
func TestLanguagesSayTheSame(t *testing.T) {
	en := languages["en"].messages
	for name, l := range languages {
		if got, want := slices.Sorted(maps.Keys(l.messages)), slices.Sorted(maps.Keys(en)); !slices.Equal(got, want) {
			t.Errorf("%s.json has other keys than en.json: %v", name, difference(got, want))
		}
		for key, m := range l.messages {
			if _, single := m[only]; !single && !slices.Equal(slices.Sorted(maps.Keys(m)), []string{"few", "one", "other"}) {
				t.Errorf("%s.json: %s: plural forms %v, want one, few and other", name, key, slices.Sorted(maps.Keys(m)))
			}
			for form, s := range m {
				if strings.TrimSpace(s) == "" {
					t.Errorf("%s.json: %s is empty", name, key)
				}
				if strings.TrimSpace(s) != s || strings.Contains(s, "  ") || strings.ContainsAny(s, "%<>&") {
					t.Errorf("%s.json: %s: %q has odd spaces, a verb or markup in it", name, key, s)
				}
				if got, want := placeholders(s), placeholders(en[key][form]); !slices.Equal(got, want) {
					t.Errorf("%s.json: %s: values %v, en.json has %v", name, key, got, want)
				}
			}
		}
	}
}

func placeholders(s string) []string {
	found := placeholder.FindAllString(s, -1)
	slices.Sort(found)
	return found
}

func difference(a, b []string) (only []string) {
	for _, s := range a {
		if !slices.Contains(b, s) {
			only = append(only, "+"+s)
		}
	}
	for _, s := range b {
		if !slices.Contains(a, s) {
			only = append(only, "-"+s)
		}
	}
	return only
}

// The letters of Uzbek oʻ, gʻ and the tutuq belgisi are U+02BB and U+02BC, not quotes; a Latin letter in a
// Russian word, or the other way round, is a slip of the keyboard.
func TestLetters(t *testing.T) {
	mixed := regexp.MustCompile(`\p{Cyrillic}\p{Latin}|\p{Latin}\p{Cyrillic}`)
	for key, m := range languages["uz"].messages {
		for _, s := range m {
			if strings.ContainsAny(s, "'’‘`") || regexp.MustCompile(`\p{Cyrillic}`).MatchString(s) {
				t.Errorf("uz.json: %s: %q has a quote or a Cyrillic letter in it", key, s)
			}
		}
	}
	for key, m := range languages["ru"].messages {
		for _, s := range m {
			if mixed.MatchString(s) {
				t.Errorf("ru.json: %s: %q mixes alphabets in a word", key, s)
			}
		}
	}
}

// merchantsOnly are the reasons that a payer never meets: they answer decisions about holds, and refunds.
var merchantsOnly = []payment.Reason{
	payment.HoldGone, payment.AlreadyCaptured, payment.NotHeld, payment.DecisionStands, payment.DeadlinePassed, payment.AmountAboveHold,
	payment.NotCaptured, payment.NothingToRefund, payment.RefundAmount,
}

// A reason that is added to the payment room must get its words here.
func TestEveryReasonHasWords(t *testing.T) {
	reasons := declaredReasons(t)
	if len(reasons) < 20 {
		t.Fatalf("found only %d reasons in the payment room", len(reasons))
	}
	for _, name := range Languages {
		texts := For(name)
		for _, r := range reasons {
			said, hidden := texts.Reason(r), slices.Contains(merchantsOnly, r)
			if (said == texts.Get("reason.other")) != hidden {
				t.Errorf("%s: reason %s: %q", name, r, said)
			}
			if !strings.HasSuffix(said, ".") || strings.Count(said, ".") != 1 {
				t.Errorf("%s: reason %s: %q is not one sentence", name, r, said)
			}
		}
	}
	for key := range languages["en"].messages {
		r, isReason := strings.CutPrefix(key, "reason.")
		if isReason && r != "other" && !slices.Contains(reasons, payment.Reason(r)) {
			t.Errorf("%s: there is no such reason any more", key)
		}
	}
}

func declaredReasons(t *testing.T) (reasons []payment.Reason) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../payment/reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Reason" {
				value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				reasons = append(reasons, payment.Reason(value))
			}
		}
		return true
	})
	return reasons
}

func TestMoney(t *testing.T) {
	for _, c := range []struct {
		language string
		amount   money.Amount
		want     string
	}{
		{"uz", money.New(100000, money.UZS), "1\u202f000,00\u00a0soʻm"},
		{"oz", money.New(100000, money.UZS), "1\u202f000,00\u00a0soʻm"},
		{"ru", money.New(100000, money.UZS), "1\u202f000,00\u00a0сум"},
		{"en", money.New(100000, money.UZS), "1,000.00\u00a0UZS"},
		{"en", money.New(5, money.USD), "0.05\u00a0USD"},
		{"en", money.New(99999, money.EUR), "999.99\u00a0EUR"},
		{"ru", money.New(-123456789, money.RUB), "\u22121\u202f234\u202f567,89\u00a0RUB"},
		{"en", money.New(money.MaxMinor, money.UZS), "9,999,999,999,999.99\u00a0UZS"},
	} {
		if got := For(c.language).Money(c.amount); got != c.want {
			t.Errorf("%s: %v is %q, want %q", c.language, c.amount, got, c.want)
		}
	}
}

func TestTime(t *testing.T) {
	at := time.Date(2026, 11, 3, 22, 5, 9, 0, time.UTC)
	for language, want := range map[string]string{"uz": "04.11.2026, 03:05", "ru": "04.11.2026, 03:05", "en": "4 Nov 2026, 03:05"} {
		if got := For(language).Time(at); got != want {
			t.Errorf("%s: %q, want %q", language, got, want)
		}
	}
	if got := For("en").Clock(245); got != "4:05" {
		t.Errorf("245 seconds are %q", got)
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{
		1: "Осталась 1 попытка: неверный код отменит платёж.", 2: "Осталось 2 попытки.", 4: "Осталось 4 попытки.", 5: "Осталось 5 попыток.",
		11: "Осталось 11 попыток.", 12: "Осталось 12 попыток.", 22: "Осталось 22 попытки.", 0: "Осталось 0 попыток.",
		14: "Осталось 14 попыток.", 24: "Осталось 24 попытки.", 111: "Осталось 111 попыток.", 112: "Осталось 112 попыток.", 114: "Осталось 114 попыток.",
	} {
		if got := For("ru").Count("code.tries", n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int]string{1: "1 ta urinish qoldi: kod notoʻgʻri boʻlsa, toʻlov bekor qilinadi.", 2: "2 ta urinish qoldi."} {
		if got := For("uz").Count("code.tries", n); got != want {
			t.Errorf("uz, %d: %q, want %q", n, got, want)
		}
	}
	if got := For("en").Count("code.tries", 1); got != "1 attempt left: a wrong code will cancel the payment." {
		t.Errorf("en: %q", got)
	}
}

func TestFor(t *testing.T) {
	for asked, want := range map[string]string{"uz": "uz", "oz": "oz", "ru": "ru", "en": "en", "": "uz", "de": "uz", "RU": "uz"} {
		if got := For(asked).Language(); got != want {
			t.Errorf("%q gives %q, want %q", asked, got, want)
		}
	}
	if got := For("en").Get("field.resend", "card", "•••• 1234"); got != "This is not the card the code was asked for. Enter card •••• 1234." {
		t.Errorf("%q", got)
	}
	if got := For("en").Get("no.such.key"); got != "no.such.key" {
		t.Errorf("%q", got)
	}
	for asked, want := range map[string]string{"uz": "uz-Latn", "oz": "uz-Latn", "ru": "ru", "en": "en"} {
		if got := For(asked).Tag(); got != want || !Known(asked) {
			t.Errorf("%s is %q, want %q; known: %t", asked, got, want, Known(asked))
		}
	}
	if Known("de") || Known("") {
		t.Error("a language that nobody has written is known")
	}
	if got := InAll("code.wrong"); got != "Kod notoʻgʻri / Код неверен / The code is wrong" {
		t.Errorf("in all languages: %q", got)
	}
	chosen := 0
	for _, c := range For("oz").Choices() {
		if c.Tag != For(c.Language).Tag() || c.Name != map[string]string{"uz": "Oʻzbekcha", "ru": "Русский", "en": "English"}[c.Language] {
			t.Errorf("%+v", c)
		}
		if c.Chosen {
			chosen++
			if c.Language != "uz" {
				t.Errorf("oz shows %s as chosen", c.Language)
			}
		}
	}
	if chosen != 1 {
		t.Errorf("%d languages are chosen", chosen)
	}
}
