package pages

import (
	"html"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/web/text"
)

func record(h http.Handler, method, path string) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, httptest.NewRequest(method, path, nil))
	return recorder
}

// What people type, paste and have filled in.
func TestReadCard(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	const good = "8600495473316478"
	all := payment.Methods
	for _, c := range []struct {
		name             string
		pan, exp, cvc    string
		holder           string
		methods          []payment.Method
		want             []string
		method           payment.Method
		number, wantYYMM string
	}{
		{name: "as printed", pan: "8600 4954 7331 6478", exp: "08/29", number: good, wantYYMM: "2908", method: payment.Uzcard},
		{name: "with dashes", pan: "8600-4954-7331-6478", exp: "0829", number: good, wantYYMM: "2908"},
		{name: "with odd spaces and dashes", pan: "\u20668600\u202f4954\u2009\u20117331\u20136478\u2069\n", exp: "8 / 2029", number: good, wantYYMM: "2908"},
		{name: "full-width digits", pan: "８６００　４９５４　７３３１　６４７８", exp: "０８／２９", number: good, wantYYMM: "2908"},
		{name: "Arabic digits", pan: "٨٦٠٠ ٤٩٥٤ ٧٣٣١ ٦٤٧٨", exp: "٠٨/٢٩", number: good, wantYYMM: "2908"},
		{name: "Persian digits", pan: "۸۶۰۰ ۴۹۵۴ ۷۳۳۱ ۶۴۷۸", exp: "۰۸/۲۰۲۹", number: good, wantYYMM: "2908"},
		{name: "zero-width characters", pan: "8600\u200b4954\ufeff73316478", exp: "08.29", number: good, wantYYMM: "2908"},
		{name: "other digits", pan: "८६००४९५४७३३१६४७८", exp: "08/29", want: []string{panDigits}},
		{name: "junk", pan: "my card is 8600", exp: "08/29", want: []string{panDigits}},
		{name: "emoji", pan: "💳💳💳💳", exp: "08/29", want: []string{panDigits}},
		{name: "invalid UTF-8", pan: "8600\xff4954", exp: "08/29", want: []string{panDigits}},
		{name: "nothing", want: []string{panEmpty}},
		{name: "spaces", pan: " \t ", exp: "08/29", want: []string{panEmpty}},
		{name: "mistyped", pan: "8600 4954 7331 6479", exp: "08/29", want: []string{panWrong}},
		{name: "too short", pan: "8600 4954 7331", exp: "08/29", want: []string{panWrong}},
		{name: "too long", pan: good + "00", exp: "08/29", want: []string{panWrong}},
		{name: "no scheme", pan: "3530111333300000", exp: "08/29", want: []string{panWrong}},
		{name: "another method", pan: visa, exp: "08/29", cvc: "123", methods: []payment.Method{payment.Uzcard}, want: []string{panMethod}},
		{name: "no expiry", pan: good, want: []string{expWrong}},
		{name: "13th month", pan: good, exp: "13/29", want: []string{expWrong}},
		{name: "year first", pan: good, exp: "2029/08", want: []string{expWrong}},
		{name: "three digits", pan: good, exp: "829", want: []string{expWrong}},
		{name: "last month", pan: good, exp: "10/26", want: []string{expExpired}},
		{name: "this month", pan: good, exp: "11/26", number: good, wantYYMM: "2611"},
		{name: "Visa", pan: visa, exp: "08/29", cvc: " １２３", holder: "  Alisher   NAVOIY ", number: "4111111111111111", wantYYMM: "2908", method: payment.BankCard},
		{name: "Visa without CVC", pan: visa, exp: "08/29", want: []string{cvcWrong}},
		{name: "four digits of CVC", pan: visa, exp: "08/29", cvc: "1234", want: []string{cvcWrong}},
		{name: "emoji name", pan: visa, exp: "08/29", cvc: "123", holder: "Ali 😀", want: []string{nameWrong}},
		{name: "Cyrillic name", pan: visa, exp: "08/29", cvc: "123", holder: "АЛИШЕР", want: []string{nameWrong}},
		{name: "long name", pan: visa, exp: "08/29", cvc: "123", holder: strings.Repeat("A", 65), want: []string{nameWrong}},
		{name: "several", pan: visa, exp: "08/20", holder: "😀", want: []string{expExpired, nameWrong}},
	} {
		t.Run(c.name, func(t *testing.T) {
			methods := c.methods
			if methods == nil {
				methods = all
			}
			form := map[string][]string{"pan": {c.pan}, "exp": {c.exp}, "cvc2": {c.cvc}, "holder": {c.holder}, "method": {"humo"}}
			card, method, found := readCard(form, payment.BuiltInCards(), methods, now)
			if !slices.Equal(found, c.want) {
				t.Fatalf("found %v, want %v", found, c.want)
			}
			if c.want == nil && (card.Number != c.number || card.Expiry != c.wantYYMM || c.method != "" && method != c.method) {
				t.Errorf("read %s %s by %s, want %s %s by %s", card.Number, card.Expiry, method, c.number, c.wantYYMM, c.method)
			}
			if method != payment.BankCard && card.CVC+card.Holder != "" {
				t.Error("a card that needs none kept its CVC or name")
			}
		})
	}
}

// Whatever is wrong is said at its field, in the page's language, and nothing of it is sent to a bank or shown again.
func TestBadInputIsToldAtItsField(t *testing.T) {
	w := newWorld(t)
	// All three centres are connected, but this payment takes no Humo.
	methods := only(payment.Uzcard, payment.BankCard)
	good := w.card("ok")
	visa := w.cardOf("visa", "ok")
	for _, language := range text.Languages {
		texts := text.For(language)
		names := texts.Get("method.uzcard") + ", " + texts.Get("method.bank_card")
		p, v := w.prepare(language, methods), w.visitor()
		for _, c := range []struct {
			field, key string
			typed      []string
		}{
			{"pan", "field.pan.wrong", []string{"pan", good.PAN[:15] + string('0'+(good.PAN[15]-'0'+1)%10), "exp", expiry(good)}},
			{"pan", "field.pan.method", []string{"pan", w.sharedPAN("humo"), "exp", expiry(good)}},
			{"pan", "field.pan.digits", []string{"pan", "<script>alert(1)</script>", "exp", expiry(good)}},
			{"pan", "field.pan.digits", []string{"pan", "my card: " + good.PAN, "exp", expiry(good)}},
			{"pan", "field.pan.digits", []string{"pan", "💳💳", "exp", expiry(good)}},
			{"pan", "field.pan.digits", []string{"pan", "८६००४९५४७३३१६४७८", "exp", expiry(good)}},
			{"pan", "field.pan.empty", []string{"pan", " ", "exp", expiry(good)}},
			{"exp", "field.exp.expired", []string{"pan", good.PAN, "exp", "01/20"}},
			{"exp", "field.exp.wrong", []string{"pan", good.PAN, "exp", "829"}},
			{"exp", "field.exp.wrong", []string{"pan", good.PAN, "exp", "soon"}},
			{"cvc2", "field.cvc2", []string{"pan", visa.PAN, "exp", expiry(visa), "cvc2", "12"}},
			{"cvc2", "field.cvc2", []string{"pan", visa.PAN, "exp", expiry(visa), "cvc2", "1234"}},
			{"holder", "field.holder", []string{"pan", visa.PAN, "exp", expiry(visa), "cvc2", visa.CVC, "holder", "Ali 😀"}},
			{"email", "field.email", []string{"pan", good.PAN, "exp", expiry(good), "email", "guest"}},
		} {
			if c.field != "email" {
				c.typed = append(c.typed, "email", "guest@example.uz")
			}
			v.post("/card/"+p.ID.String()+"?language="+language, c.typed...)
			v.at("pay", p)
			message := html.EscapeString(strings.ReplaceAll(texts.Get(c.key), "{methods}", names))
			v.sees(`id="` + c.field + `-error">` + message + `</p>`)
			if n := strings.Count(v.last.body, `aria-invalid="true"`); n != 1 {
				t.Errorf("%s %q: %d fields are marked", language, c.typed, n)
			}
			if strings.Contains(v.last.body, "alert(1)") || strings.Contains(v.last.body+v.last.path, good.PAN) || strings.Contains(v.last.body, "😀") {
				t.Errorf("%s %q: what was typed comes back", language, c.typed)
			}
		}
		// What only looks odd is taken.
		v.post("/card/"+p.ID.String()+"?language="+language, "pan", " "+spaced(good.PAN)+"\n", "exp", expiry(good), "email", " guest@example.uz ")
		v.at("uzcard/sms", p)
		for _, typed := range []string{"123", "12ab", "💬💬💬💬", ""} {
			v.enter(p, typed)
			v.at("uzcard/sms", p)
			v.sees(`id="code-error">` + html.EscapeString(texts.Get("field.code")) + `</p>`)
		}
		if got := w.payment(p.ID); got.Attempts != 1 || got.WrongCodes != 0 {
			t.Errorf("%s: %d attempts and %d wrong codes were counted", language, got.Attempts, got.WrongCodes)
		}
		w.pass(2 * time.Minute)
	}
}

func TestReadEmail(t *testing.T) {
	for typed, want := range map[string]bool{
		"guest@example.uz": true, " guest@example.uz ": true, "a.b+c@x.co": true, "guest@почта.рф": true,
		"": false, "guest": false, "guest@": false, "guest@localhost": false, "a b@example.uz": false, "Ali <a@example.uz>": false,
		"a@example.uz, b@example.uz": false, "💌": false, "a@.uz": false, strings.Repeat("a", 250) + "@x.uz": false,
	} {
		if _, ok := readEmail(typed); ok != want {
			t.Errorf("%q: %v, want %v", typed, ok, want)
		}
	}
}

func TestReadCode(t *testing.T) {
	for typed, want := range map[string]string{"123456": "123456", " 123 456 ": "123456", "１２３４": "1234", "٠١٢٣٤٥": "012345"} {
		if code, ok := readCode(typed); !ok || string(code) != want {
			t.Errorf("%q: %s, %v", typed, string(code), ok)
		}
	}
	for _, typed := range []string{"", "123", "123456789", "abcdef", "12345é"} {
		if _, ok := readCode(typed); ok {
			t.Errorf("%q is taken for a code", typed)
		}
	}
}

// What the script is told of the card range table is what all numbers that begin so have in common.
func TestHints(t *testing.T) {
	table := payment.BuiltInCards()
	table.Ranges = append(table.Ranges,
		payment.Range{From: "56148888", To: "56148888", Scheme: "humo", Lengths: []int{16}},
		payment.Range{From: "400001", To: "400155", Scheme: "mastercard", Lengths: []int{16}},
		payment.Range{From: "99990000", To: "99999999", Scheme: "humo", Lengths: []int{16}})
	table.NoLuhn = []string{"humo"}
	table, err := table.Checked()
	if err != nil {
		t.Fatal(err)
	}
	want := []cardRange{
		{"2221", "2720", "mastercard", "bank_card", true},
		{"4000", "4001", "", "bank_card", true},
		{"4002", "4999", "visa", "bank_card", true},
		{"5100", "5599", "mastercard", "bank_card", true},
		{"5614", "5614", "", "", false},
		{"6262", "6262", "uzcard", "uzcard", true},
		{"8600", "8600", "uzcard", "uzcard", true},
		{"9860", "9860", "humo", "humo", false},
		{"9999", "9999", "humo", "humo", false},
	}
	if got := hints(table); !slices.Equal(got, want) {
		t.Errorf("the script is told\n%v, want\n%v", got, want)
	}
}
