package payment_test

import (
	"bytes"
	stdjson "encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"

	"holdfast/internal/payment"
)

// documented are the card numbers that may stand in documentation and tests.
var builtIn = payment.BuiltInCards()

var documented = []string{
	"8600313260861293", "8600495473316478", "8600069195406311", "4111111111111111", "4000001111111118", "5000001111111115",
}

// A card and a code print as dots, whichever way a careless line of ours would print them.
func TestCardAndCodeNeverPrint(t *testing.T) {
	card := payment.Card{Number: "8600313260861293", Expiry: "2712", CVC: "739", Holder: "TILLA YULDASHEVA"}
	code := payment.OTP("846193")
	type nested struct {
		Card  payment.Card
		Code  payment.OTP
		Cards []payment.Card
		Codes map[string]payment.OTP
		Any   any
		Later *payment.Card
	}
	values := map[string]any{
		"card": card, "code": code, "card pointer": &card, "code pointer": &code,
		"cards": []payment.Card{card}, "codes": map[string]payment.OTP{"code": code}, "by card": map[payment.Card]payment.OTP{card: code},
		"nested": nested{card, code, []payment.Card{card}, map[string]payment.OTP{"x": code}, card, nil}, "in any": []any{card, code},
		"error": fmt.Errorf("cannot pay with %v and %s: %w", card, code, errors.New("refused")),
	}
	for name, v := range values {
		printed := make(map[string]string)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X"} {
			printed["fmt "+verb] = fmt.Sprintf(verb, v)
		}
		printed["fmt.Sprint"] = fmt.Sprint("paying with ", v)
		printed["fmt.Sprintln"] = fmt.Sprintln(v)
		// Without the time of day, which may hold any three digits.
		timeless := &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}
		for format, handler := range map[string]func(*bytes.Buffer) slog.Handler{
			"slog text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, timeless) },
			"slog JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, timeless) },
		} {
			var b bytes.Buffer
			log := slog.New(handler(&b))
			log.Info("pay", "value", v)
			log.With("value", v).WithGroup("group").Info("pay", slog.Any("value", v), slog.Group("inner", "value", v))
			printed[format] = b.String()
		}
		if name != "by card" { // JSON has no such keys
			if b, err := stdjson.Marshal(v); err == nil {
				printed["encoding/json"] = string(b)
			} else if name != "error" {
				t.Errorf("encoding/json of %s: %v", name, err)
			}
			if b, err := json.Marshal(v); err == nil {
				printed["json v2"] = string(b)
			} else if name != "error" {
				t.Errorf("json v2 of %s: %v", name, err)
			}
		}
		if b, err := xml.Marshal(v); err == nil {
			printed["encoding/xml"] = string(b)
		}
		for how, text := range printed {
			// In hexadecimal a secret is no less readable.
			for _, secret := range []string{card.Number, card.Expiry, card.CVC, card.Holder, string(code)} {
				for _, spelt := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret)} {
					if strings.Contains(text, spelt) {
						t.Errorf("%s by %s shows %q: %s", name, how, secret, text)
					}
				}
			}
		}
		// That the secrets are not found is worth something only if something was printed.
		if name != "error" && !strings.Contains(printed["slog JSON"], "••••") && name != "by card" && name != "cards" {
			t.Errorf("%s prints as %s", name, printed["slog JSON"])
		}
	}
	// A log handler of somebody else's gets no more to see.
	for _, v := range []any{card, code, &card, &code} {
		if got := slog.AnyValue(v).Resolve(); got.Kind() != slog.KindString || got.String() != "••••" {
			t.Errorf("a handler gets %T of %T", got.Any(), v)
		}
	}
	if fmt.Sprint(card) != "••••" || fmt.Sprint(code) != "••••" {
		t.Errorf("card prints %q, code prints %q", fmt.Sprint(card), fmt.Sprint(code))
	}
}

// What is kept in the open is six digits and four, never more, and nothing of a number too short for that.
func TestFacts(t *testing.T) {
	for _, number := range documented {
		f := payment.Card{Number: number, Expiry: "2712", CVC: "739", Holder: "TILLA"}.Facts(builtIn)
		if f.First6 != number[:6] || f.Last4 != number[len(number)-4:] || f.Holder != "TILLA" {
			t.Errorf("facts of %s…%s are %+v", number[:6], number[len(number)-4:], f)
		}
		country, scheme := "", ""
		switch number[0] {
		case '8':
			country, scheme = "UZ", "uzcard"
		case '4':
			scheme = "visa"
		}
		if f.Country != country || f.Scheme != scheme {
			t.Errorf("%s… is a card of %q by %q, want %q by %q", number[:6], f.Country, f.Scheme, country, scheme)
		}
		if got, want := f.Masked(), number[:6]+"** **** "+number[12:]; got != want { // contract §6: 427831** **** 3011
			t.Errorf("%s… is masked as %q, want %q", number[:6], got, want)
		}
	}
	if f := (payment.Card{Number: "4222222222222"}).Facts(builtIn); f.First6 != "422222" || f.Last4 != "2222" { // the shortest there is
		t.Errorf("facts of 13 digits are %+v", f)
	}
	for _, short := range []string{"", "8", "860031", "8600313260", "860031326086"} {
		if f := (payment.Card{Number: short}).Facts(builtIn); f.First6 != "" || f.Last4 != "" || f.Masked() != "" {
			t.Errorf("facts of the %d digits of a short number are %+v", len(short), f)
		}
	}
}

func TestCleanNumber(t *testing.T) {
	const number = "8600313260861293"
	for _, typed := range []string{
		number, "8600 3132 6086 1293", "8600-3132-6086-1293", " 8600313260861293 ", "8600\u00a03132\u00a06086\u00a01293", "8600\t3132 6086-1293", "8 6 0 0 3 1 3 2 6 0 8 6 1 2 9 3",
	} {
		if got, ok := payment.CleanNumber(typed); !ok || got != number {
			t.Errorf("CleanNumber(%q) = %q, %v", typed, got, ok)
		}
	}
	for _, typed := range []string{
		"", " ", "- -", "\u00a0", "8600 3132 6086 129x", "8600.3132.6086.1293", "+8600313260861293", "8600\x003132", "8600\n3132",
		"\u0668\u0666\u0660\u0660", "\uff18\uff16\uff10\uff10", "8600\xff3132", "8600\xc2", "\u202e8600", "8600313260861293 27/12",
	} {
		if got, ok := payment.CleanNumber(typed); ok || got != "" {
			t.Errorf("CleanNumber(%q) = %q, %v, want a refusal", typed, got, ok)
		}
	}
}

func FuzzCleanNumber(f *testing.F) {
	for _, seed := range []string{"8600 3132 6086 1293", "4111-1111-1111-1111", "", " ", "8600\u00a03132", "8600\xff", "\u0668", "8600\x00", "x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		got, ok := payment.CleanNumber(typed)
		// By other means: take out what people type between digits, and see what is left.
		want := strings.NewReplacer(" ", "", "-", "", "\u00a0", "", "\t", "").Replace(typed)
		digits := want != "" && strings.Trim(want, "0123456789") == ""
		if ok != digits || ok && got != want || !ok && got != "" {
			t.Fatalf("CleanNumber(%q) = %q, %v", typed, got, ok)
		}
		if again, ok := payment.CleanNumber(got); got != "" && (!ok || again != got) {
			t.Fatalf("CleanNumber(%q) = %q, but that is cleaned to %q, %v", typed, got, again, ok)
		}
		// Whatever is digits may be looked at further without harm.
		_ = payment.Luhn(got)
		builtIn.Find(got)
		payment.Card{Number: got}.Facts(builtIn)
	})
}

// What is wrong with a typed card is said of the first field that is wrong, and how to mend it.
func TestCardCheck(t *testing.T) {
	good := payment.Card{Number: "8600313260861293", Expiry: "2603"}
	visa := payment.Card{Number: "4111111111111111", Expiry: "2712", CVC: "739"}
	for name, tt := range map[string]struct {
		card   payment.Card
		edit   func(c *payment.Card)
		method payment.Method
		field  string // empty: nothing is wrong
		reason payment.Reason
		detail string // part of it
	}{
		"Uzcard, in its last month":      {good, func(c *payment.Card) {}, payment.Uzcard, "", "", ""},
		"Uzcard, with a CVC it need not": {good, func(c *payment.Card) { c.CVC = "x" }, payment.Uzcard, "", "", ""},
		"Visa":                           {visa, func(c *payment.Card) {}, payment.BankCard, "", "", ""},
		"Visa of 13 digits":              {visa, func(c *payment.Card) { c.Number = "4222222222222" }, payment.BankCard, "", "", ""},
		"January":                        {good, func(c *payment.Card) { c.Expiry = "2701" }, payment.Uzcard, "", "", ""},
		"October":                        {good, func(c *payment.Card) { c.Expiry = "2710" }, payment.Uzcard, "", "", ""},
		"December":                       {good, func(c *payment.Card) { c.Expiry = "2712" }, payment.Uzcard, "", "", ""},

		"no number":         {good, func(c *payment.Card) { c.Number = "" }, payment.Uzcard, "pan", payment.CardUnknown, "missing"},
		"letters":           {good, func(c *payment.Card) { c.Number = "860031326086129x" }, payment.Uzcard, "pan", payment.CardUnknown, "digits only"},
		"nobody's number":   {good, func(c *payment.Card) { c.Number = "0000000000000000" }, payment.Uzcard, "pan", payment.CardUnknown, "no card scheme"},
		"too short":         {good, func(c *payment.Card) { c.Number = "860031326086129" }, payment.Uzcard, "pan", payment.CardUnknown, "length"},
		"mistyped":          {good, func(c *payment.Card) { c.Number = "8600313260861294" }, payment.Uzcard, "pan", payment.CardUnknown, "check digit"},
		"another method's":  {good, func(c *payment.Card) {}, payment.Humo, "method", payment.MethodNotAllowed, "uzcard"},
		"no expiry":         {good, func(c *payment.Card) { c.Expiry = "" }, payment.Uzcard, "exp", payment.WrongExpiry, "YYMM"},
		"expiry of 3":       {good, func(c *payment.Card) { c.Expiry = "271" }, payment.Uzcard, "exp", payment.WrongExpiry, "YYMM"},
		"expiry of 6":       {good, func(c *payment.Card) { c.Expiry = "202712" }, payment.Uzcard, "exp", payment.WrongExpiry, "YYMM"},
		"expiry of letters": {good, func(c *payment.Card) { c.Expiry = "x712" }, payment.Uzcard, "exp", payment.WrongExpiry, "YYMM"},
		"month 0":           {good, func(c *payment.Card) { c.Expiry = "2700" }, payment.Uzcard, "exp", payment.WrongExpiry, "YYMM"},
		"month 13":          {good, func(c *payment.Card) { c.Expiry = "2713" }, payment.Uzcard, "exp", payment.WrongExpiry, "YYMM"},
		"a month ago":       {good, func(c *payment.Card) { c.Expiry = "2602" }, payment.Uzcard, "exp", payment.CardExpired, "expired"},
		"last December":     {good, func(c *payment.Card) { c.Expiry = "2512" }, payment.Uzcard, "exp", payment.CardExpired, "expired"},
		"Visa without CVC":  {visa, func(c *payment.Card) { c.CVC = "" }, payment.BankCard, "cvc2", payment.WrongCVC, "3 digits"},
		"a CVC of 2":        {visa, func(c *payment.Card) { c.CVC = "73" }, payment.BankCard, "cvc2", payment.WrongCVC, "3 digits"},
		"a CVC of 4":        {visa, func(c *payment.Card) { c.CVC = "7391" }, payment.BankCard, "cvc2", payment.WrongCVC, "3 digits"},
		"a CVC of letters":  {visa, func(c *payment.Card) { c.CVC = "73x" }, payment.BankCard, "cvc2", payment.WrongCVC, "3 digits"},
	} {
		card := tt.card
		tt.edit(&card)
		// The last moment of March in Tashkent: elsewhere it is March for five hours more.
		problem := card.Check(builtIn, tt.method, time.Date(2026, 3, 31, 18, 59, 59, 0, time.UTC))
		switch {
		case (problem == nil) != (tt.field == ""):
			t.Errorf("%s: %+v", name, problem)
		case problem != nil && (problem.Field != tt.field || problem.Reason != tt.reason || !strings.Contains(problem.Detail, tt.detail)):
			t.Errorf("%s: %+v, want %s %s with %q", name, problem, tt.field, tt.reason, tt.detail)
		}
	}
	if problem := good.Check(builtIn, payment.Uzcard, time.Date(2026, 3, 31, 19, 0, 0, 0, time.UTC)); problem == nil || problem.Reason != payment.CardExpired {
		t.Errorf("in April in Tashkent a card of March: %+v", problem)
	}
}

func TestLuhn(t *testing.T) {
	for _, number := range documented {
		if !payment.Luhn(number) {
			t.Errorf("the documented card %s…%s is refused", number[:6], number[12:])
		}
	}
	for _, number := range []string{"", "8600313260861294", "4111111111111112", "8600313260861239", "1", "0000000000000001"} {
		if payment.Luhn(number) {
			t.Errorf("%q is taken", number)
		}
	}
}

// The check digit finds every wrong digit, and every two neighbours changed round but 0 and 9; and of
// the ten last digits exactly one is right.
func TestLuhnFindsMistypedNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payload := rapid.StringMatching(`[0-9]{0,25}`).Draw(t, "payload")
		number := ""
		for d := '0'; d <= '9'; d++ {
			if candidate := payload + string(d); payment.Luhn(candidate) {
				if number != "" {
					t.Fatalf("%s and %s both have the right check digit", number, candidate)
				}
				number = candidate
			}
		}
		if number == "" {
			t.Fatalf("no check digit is right for %q", payload)
		}
		i := rapid.IntRange(0, len(number)-1).Draw(t, "position")
		wrong := []byte(number)
		wrong[i] = '0' + (wrong[i]-'0'+byte(rapid.IntRange(1, 9).Draw(t, "by")))%10
		if payment.Luhn(string(wrong)) {
			t.Fatalf("%s for %s is taken", wrong, number)
		}
		if i+1 < len(number) {
			a, b := number[i], number[i+1]
			round := []byte(number)
			round[i], round[i+1] = b, a
			blind := a == b || a == '0' && b == '9' || a == '9' && b == '0'
			if payment.Luhn(string(round)) != blind {
				t.Fatalf("%s for %s: taken %v", round, number, !blind)
			}
		}
	})
}

func TestBuiltInCards(t *testing.T) {
	for _, tt := range []struct {
		first  string // the number's first digits
		scheme string // empty: none of ours
		method payment.Method
	}{
		{"8600", "uzcard", payment.Uzcard},
		{"860031", "uzcard", payment.Uzcard},
		{"5614", "uzcard", payment.Uzcard}, // although 5 is otherwise Mastercard
		{"56140", "uzcard", payment.Uzcard},
		{"6262", "uzcard", payment.Uzcard},
		{"9860", "humo", payment.Humo},
		{"4", "visa", payment.BankCard},
		{"4111", "visa", payment.BankCard},
		{"4860", "visa", payment.BankCard},
		{"51", "mastercard", payment.BankCard},
		{"52", "mastercard", payment.BankCard},
		{"55", "mastercard", payment.BankCard},
		{"5599", "mastercard", payment.BankCard},
		{"2221", "mastercard", payment.BankCard},
		{"2222", "mastercard", payment.BankCard},
		{"2300", "mastercard", payment.BankCard},
		{"2699", "mastercard", payment.BankCard},
		{"2720", "mastercard", payment.BankCard},
		{"27209999", "mastercard", payment.BankCard},

		{"8601", "", ""},
		{"8599", "", ""},
		{"860", "", ""},
		{"8", "", ""},
		{"5613", "", ""},
		{"5615", "", ""},
		{"561", "", ""},
		{"50", "", ""}, // 5000001111111115 of the seed is Maestro, which the contract has no method for
		{"56", "", ""},
		{"5", "", ""},
		{"6261", "", ""},
		{"6263", "", ""},
		{"9859", "", ""},
		{"9861", "", ""},
		{"2220", "", ""},
		{"2721", "", ""},
		{"222", "", ""},
		{"272", "", ""},
		{"2", "", ""},
		{"3", "", ""},
		{"", "", ""},
	} {
		r, ok := builtIn.Find(tt.first)
		if ok != (tt.scheme != "") || r.Scheme != tt.scheme || r.Method() != tt.method {
			t.Errorf("%s… is %q by %q, %v; want %q", tt.first, r.Scheme, r.Method(), ok, tt.scheme)
		}
		if !ok {
			continue
		}
		if sixteen := contains(r.Lengths, 16); !sixteen {
			t.Errorf("%s… may not have 16 digits", tt.first)
		}
		if local := r.Scheme == "uzcard" || r.Scheme == "humo"; local != (r.Country == "UZ") {
			t.Errorf("%s… is of country %q", tt.first, r.Country)
		}
	}
}

func contains(lengths []int, n int) bool {
	for _, l := range lengths {
		if l == n {
			return true
		}
	}
	return false
}

// Every number's range depends on its first digits alone, and every range's method is one of ours.
func TestRangeDependsOnTheFirstDigits(t *testing.T) {
	for first := range 10_000 {
		prefix := fmt.Sprintf("%04d", first)
		// The contract §3, written down apart from the table.
		want := payment.Method("")
		switch {
		case prefix == "8600", prefix == "5614", prefix == "6262":
			want = payment.Uzcard
		case prefix == "9860":
			want = payment.Humo
		case prefix[0] == '4', prefix[:2] >= "51" && prefix[:2] <= "55", first >= 2221 && first <= 2720:
			want = payment.BankCard
		}
		for _, rest := range []string{"", "000000000000", "999999999999"} {
			if r, _ := builtIn.Find(prefix + rest); r.Method() != want {
				t.Errorf("%s%s is paid by %q, want %q", prefix, rest, r.Method(), want)
			}
		}
	}
}
