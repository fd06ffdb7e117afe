package api

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// Each reason of the core has its row in the table, and none of them says that all went well.
func TestEveryReasonHasACode(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../payment/reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Reason" {
			reason, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			declared++
			if code, ok := codes[payment.Reason(reason)]; !ok || code == holdfast.CodeOK {
				t.Errorf("%s has no code", reason)
			}
		}
		return true
	})
	if declared != len(codes) {
		t.Errorf("%d reasons are declared, the table has %d", declared, len(codes))
	}
	// A centre that refuses and does not say why has refused all the same.
	if f := refusal("", ""); f.code != holdfast.CodeCardRefused {
		t.Errorf("without a reason it is error %d", f.code)
	}
}

// What a card or a code came to, whatever the payment became while the centre was asked.
func TestUnpaid(t *testing.T) {
	open := func(outcome payment.Outcome) payment.Progress {
		return payment.Progress{Open: &payment.Operation{Kind: payment.OpCharge, Outcome: outcome}}
	}
	for _, tt := range []struct {
		p    payment.Payment
		want holdfast.Code // 0: it is well so far
	}{
		{payment.Payment{State: payment.Created}, 0},
		{payment.Payment{State: payment.Created, Progress: payment.Progress{LastRefusal: payment.CardBlocked}}, holdfast.CodeCardBlocked},
		{payment.Payment{State: payment.Challenged}, 0},
		{payment.Payment{State: payment.Challenged, Progress: open(payment.ChallengeGiven)}, 0}, // he is at his bank
		{payment.Payment{State: payment.Challenged, Progress: open(payment.Unknown)}, holdfast.CodeOutcomeUnknown},
		{payment.Payment{State: payment.Created, Progress: open(payment.ChallengeGiven)}, holdfast.CodeOutcomeUnknown}, // and nobody knows where that is
		{payment.Payment{State: payment.Held, Progress: open("")}, holdfast.CodeOutcomeUnknown},
		{payment.Payment{State: payment.Declined, Progress: payment.Progress{LastRefusal: payment.WrongCode}}, holdfast.CodeAttemptsUsedUp},
		{payment.Payment{State: payment.Expired}, holdfast.CodePaymentExpired},
		{payment.Payment{State: payment.Voided}, holdfast.CodePaymentFinished},
	} {
		got := holdfast.CodeOK
		if err := unpaid(&tt.p); err != nil {
			got = err.(*failure).code
		}
		if got != tt.want {
			t.Errorf("%s, open %+v, refused because %q: error %d, want %d", tt.p.State, tt.p.Open, tt.p.LastRefusal, got, tt.want)
		}
	}
}

// A basket is kept as it is, within bounds; a strict shop's adds up.
func TestBasket(t *testing.T) {
	item := func(name string, count int64, price string) holdfast.BasketItem {
		return holdfast.BasketItem{Position: name, Count: holdfast.Integer(count), Price: holdfast.Decimal(price)}
	}
	tea := item("tea", 2, "2.50")
	long := item("tea", 1, "1")
	long.Spic = holdfast.Text(strings.Repeat("1", 256))
	for name, tt := range map[string]struct {
		items  []holdfast.BasketItem
		strict bool
		says   string // "": it is kept
	}{
		"none":                {nil, true, ""},
		"it adds up":          {[]holdfast.BasketItem{tea, item("free", 7, "0")}, true, ""},
		"less":                {[]holdfast.BasketItem{tea, item("less", 1, "-1")}, false, "basket.1.price: expected"},
		"not a sum":           {[]holdfast.BasketItem{item("tea", 1, "1.005")}, false, "basket.0.price: expected"},
		"no count":            {[]holdfast.BasketItem{item("tea", 0, "1")}, false, "basket.0.count: expected"},
		"the largest count":   {[]holdfast.BasketItem{item("tea", 1_000_000, "1")}, false, ""},
		"a larger count":      {[]holdfast.BasketItem{item("tea", 1_000_001, "1")}, false, "basket.0.count: expected"},
		"a long name":         {[]holdfast.BasketItem{item(strings.Repeat("x", 4001), 1, "1")}, false, "basket.0.position_desc: longer"},
		"a long code":         {[]holdfast.BasketItem{long}, false, "basket.0.spic: longer"},
		"500 positions":       {slices.Repeat([]holdfast.BasketItem{item("tea", 1, "0.01")}, 500), true, ""},
		"501 positions":       {slices.Repeat([]holdfast.BasketItem{item("tea", 1, "0.01")}, 501), false, "basket: more than 500"},
		"too little":          {[]holdfast.BasketItem{item("tea", 1, "4.99")}, true, "add up"},
		"too much, uncounted": {[]holdfast.BasketItem{tea, item("more", 1, "0.01")}, true, "add up"},
		"which nobody adds":   {[]holdfast.BasketItem{item("tea", 1, "4.99")}, false, ""},
	} {
		kept, err := basket(tt.items, money.New(500, money.UZS), tt.strict)
		said := ""
		if f, ok := err.(*failure); ok {
			said = cmp.Or(f.message, f.code.Info().Message)
		}
		if (err == nil) != (tt.says == "") || !strings.Contains(said, tt.says) || err == nil && len(kept) != len(tt.items) {
			t.Errorf("%s: %q, %v; want %q", name, said, err, tt.says)
		}
	}
}

// init_time is read in the forms that clients send; what is none of them is now, which is the zero time here.
func TestInitTime(t *testing.T) {
	at := time.Date(2024, 5, 2, 4, 17, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2024-05-02 09:17:00": at, " 2024-05-02 09:17:00 ": at, "2024-05-02T09:17:00": at, "02.05.2024 09:17:00": at,
		"2024-05-02T04:17:00Z": at, "2024-05-02T09:17:00+05:00": at, "2024-05-02": time.Date(2024, 5, 1, 19, 0, 0, 0, time.UTC),
		"": {}, "now": {}, "1714623420": {}, "2024-13-02 09:17:00": {}, "0000-00-00 00:00:00": {}, "0001-01-01 00:00:00": {},
		"2000-06-01": {}, "2001-06-01": time.Date(2001, 5, 31, 19, 0, 0, 0, time.UTC),
		"2199-06-01": time.Date(2199, 5, 31, 19, 0, 0, 0, time.UTC), "2200-06-01": {}, "9999-12-31": {},
	} {
		if got := initTime(text); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}
