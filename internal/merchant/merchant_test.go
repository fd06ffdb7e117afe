package merchant_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/internal/merchant"
	"holdfast/internal/money"
)

var methods = []string{"uzcard", "humo", "bank_card"}

func TestSecretsAreUUIDsAndDiffer(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := make(map[merchant.Secret]bool)
	for range 1000 {
		s := merchant.NewSecret()
		if !form.MatchString(string(s)) || seen[s] {
			t.Fatalf("%q, seen before: %v", string(s), seen[s])
		}
		seen[s] = true
	}
}

func TestSecretMatchesItselfAlone(t *testing.T) {
	s := merchant.NewSecret()
	h := s.Hash()
	if !h.Matches(s) {
		t.Error("a secret does not match its hash")
	}
	for _, other := range []merchant.Secret{"", merchant.NewSecret(), s + " ", s[:35], merchant.Secret(strings.ToUpper(string(s)))} {
		if other != s && h.Matches(other) {
			t.Errorf("%q matches", string(other))
		}
	}
	if (merchant.SecretHash{}).Matches("") {
		t.Error("a shop without a secret lets anybody in")
	}
}

func TestSecretPrintsAsDots(t *testing.T) {
	s := merchant.Secret("do-not-show")
	type holder struct {
		S merchant.Secret
		P *merchant.Secret
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "s", s, "in", holder{s, &s})
	marshalled, err := json.Marshal(holder{s, &s})
	if err != nil {
		t.Fatal(err)
	}
	for _, said := range []string{
		fmt.Sprint(s), fmt.Sprintf("%s %v %+v %#v %q %x %d", s, s, s, s, s, s, s), fmt.Sprintf("%v %+v %#v", holder{s, nil}, holder{s, nil}, holder{s, nil}),
		fmt.Sprint([]merchant.Secret{s}), log.String(), string(marshalled), fmt.Errorf("%w %s", fmt.Errorf("x"), s).Error(), s.String(),
	} {
		if strings.Contains(said, "show") || strings.Contains(said, fmt.Sprintf("%x", "show")) || !strings.Contains(said, "••••") {
			t.Errorf("it shows, or is no dots: %s", said)
		}
	}
}

func TestDefaultsOfSettings(t *testing.T) {
	var s merchant.Settings
	if !s.Takes("uzcard") || !s.TakesCurrency(money.UZS) || s.TakesCurrency(money.USD) {
		t.Error("a new shop takes every method, in UZS")
	}
	s.Methods, s.Currencies = []string{"humo"}, []money.Currency{money.USD}
	if s.Takes("uzcard") || !s.Takes("humo") || s.TakesCurrency(money.UZS) || !s.TakesCurrency(money.USD) {
		t.Error("what is contracted is not what is taken")
	}
}

func TestHoldFor(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name      string
		seconds   map[string]int64
		method    string
		otherwise time.Duration
		want      time.Duration
	}{
		{"the gateway's", nil, "uzcard", 30 * time.Minute, 30 * time.Minute},
		{"the shop's, of a second", map[string]int64{"uzcard": 1}, "uzcard", 30 * time.Minute, time.Second},
		{"the shop's", map[string]int64{"uzcard": 90}, "uzcard", 30 * time.Minute, 90 * time.Second},
		{"another method's", map[string]int64{"humo": 90}, "uzcard", 30 * time.Minute, 30 * time.Minute},
		{"nothing set", map[string]int64{"uzcard": 0}, "uzcard", time.Minute, time.Minute},
		{"never beyond what the method allows", map[string]int64{"bank_card": 8 * 24 * 3600}, "bank_card", time.Minute, 7 * day},
		{"nor the gateway's own", nil, "humo", 40 * day, 30 * day},
	} {
		s := merchant.Settings{HoldSeconds: c.seconds}
		if got := s.HoldFor(c.method, c.otherwise); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestTariffByMethod(t *testing.T) {
	tariff := merchant.Tariff{Fee: merchant.Fee{Rate: 20_000}, ByMethod: map[string]merchant.Fee{"humo": {Rate: 10_000, Minimum: 5}, "bank_card": {}}}
	for method, want := range map[string]merchant.Fee{"uzcard": {Rate: 20_000}, "humo": {Rate: 10_000, Minimum: 5}, "bank_card": {}} {
		if got := tariff.For(method); got != want {
			t.Errorf("%s: %+v, want %+v", method, got, want)
		}
	}
}

func TestRoute(t *testing.T) {
	s := merchant.Settings{Routes: map[string]string{"bank_card": "visa-uzs", "bank_card/USD": "visa-usd", "humo/EUR": "humo-eur"}}
	for _, c := range []struct {
		method   string
		currency money.Currency
		want     string // "": where all go
	}{
		{"bank_card", money.USD, "visa-usd"}, {"bank_card", money.UZS, "visa-uzs"}, {"bank_card", money.EUR, "visa-uzs"},
		{"humo", money.EUR, "humo-eur"}, {"humo", money.UZS, ""}, {"uzcard", money.USD, ""},
	} {
		if got, ok := s.Route(c.method, c.currency); got != c.want || ok != (c.want != "") {
			t.Errorf("%s in %s goes to %q, %t, want %q", c.method, c.currency, got, ok, c.want)
		}
	}
}

func TestRefundLimits(t *testing.T) {
	for _, c := range []struct {
		settings    merchant.Settings
		currency    money.Currency
		whole       bool
		least, most int64
	}{
		{merchant.Settings{}, money.UZS, false, 1, 1_000_000_000}, // 10 000 000 UZS
		{merchant.Settings{}, money.UZS, true, 1, 0},
		{merchant.Settings{}, money.USD, false, 1, 0},
		{merchant.Settings{RefundLeast: 500, RefundMost: 900}, money.UZS, false, 500, 900},
		{merchant.Settings{RefundLeast: 500, RefundMost: 900}, money.UZS, true, 500, 900},
	} {
		least, most := c.settings.RefundLimits(c.currency, c.whole)
		if least != money.New(c.least, c.currency) || most != money.New(c.most, c.currency) {
			t.Errorf("%+v in %s, whole %t: %s to %s", c.settings, c.currency, c.whole, least, most)
		}
	}
}

func TestCheckNamesWhatCannotBe(t *testing.T) {
	for _, c := range []struct {
		settings merchant.Settings
		names    string // "": it can be
	}{
		{merchant.Settings{}, ""},
		{merchant.Settings{NotifyURL: "https://shop.example/notify", Methods: methods, HoldSeconds: map[string]int64{"uzcard": 1, "bank_card": 7 * 24 * 3600}}, ""},
		{merchant.Settings{Methods: []string{"uzcard", "paypal"}}, "paypal"},
		{merchant.Settings{Tariff: merchant.Tariff{ByMethod: map[string]merchant.Fee{"paypal": {}}}}, "paypal"},
		{merchant.Settings{HoldSeconds: map[string]int64{"paypal": 60}}, "paypal"},
		{merchant.Settings{HoldSeconds: map[string]int64{"uzcard": 0}}, "uzcard"},
		{merchant.Settings{HoldSeconds: map[string]int64{"uzcard": -1}}, "uzcard"},
		{merchant.Settings{HoldSeconds: map[string]int64{"bank_card": 7*24*3600 + 1}}, "bank_card"},
		{merchant.Settings{HoldSeconds: map[string]int64{"uzcard": 1 << 62}}, "uzcard"},
		{merchant.Settings{NotifyURL: "shop.example/notify"}, "shop.example"},
		{merchant.Settings{NotifyURL: "ftp://shop.example"}, "ftp://shop.example"},
		{merchant.Settings{NotifyURL: "http://"}, "http://"},
		{merchant.Settings{NotifyURL: "https://shop.example/%zz"}, "%zz"},
		{merchant.Settings{NotifyURL: "http://:80/notify"}, "http://:80/notify"},
		{merchant.Settings{NotifyURL: "https://тест.uz/notify"}, "xn--"},
		{merchant.Settings{NotifyURL: "https://%D1%82.uz/notify"}, "xn--"},
		{merchant.Settings{NotifyURL: "https://xn--e1aybc.uz/уведомление%20"}, ""},
		{merchant.Settings{NotifyURL: "https://shop.example/to us"}, "%20"},
		{merchant.Settings{NotifyURL: "https://shop.example/notify "}, "%20"},
		{merchant.Settings{NotifyURL: "https://shop.example/notify?a=\x7f"}, "control"},
		{merchant.Settings{NotifyURL: "https://shop.example/notify?a=\n"}, "control"},
		{merchant.Settings{NotifyURL: "http://shop.example:8080/notify"}, ""},
		{merchant.Settings{NotifyURL: "https://shop~.example/!notify"}, ""},
		{merchant.Settings{Tariff: merchant.Tariff{ByMethod: map[string]merchant.Fee{"humo": {Rate: 1}}}}, ""},
		{merchant.Settings{Tariff: merchant.Tariff{Fee: merchant.Fee{Rate: money.MaxRate}}}, ""},
		{merchant.Settings{Tariff: merchant.Tariff{Fee: merchant.Fee{Rate: money.MaxRate + 1}}}, "of 1000001 parts"},
		{merchant.Settings{Tariff: merchant.Tariff{Fee: merchant.Fee{Rate: -1}}}, "of -1 parts"},
		{merchant.Settings{Tariff: merchant.Tariff{Fee: merchant.Fee{Minimum: -1}}}, "-1 minor units"},
		{merchant.Settings{Tariff: merchant.Tariff{ByMethod: map[string]merchant.Fee{"humo": {Rate: money.MaxRate + 1}}}}, "of 1000001 parts"},
		{merchant.Settings{Routes: map[string]string{"humo": "h", "bank_card": "visa-2_b", "bank_card/USD": strings.Repeat("c", 32)}}, ""},
		{merchant.Settings{Routes: map[string]string{"paypal": "visa"}}, "paypal"},
		{merchant.Settings{Routes: map[string]string{"paypal/USD": "visa"}}, "paypal"},
		{merchant.Settings{Routes: map[string]string{"humo/GBP": "visa"}}, "humo/GBP"},
		{merchant.Settings{Routes: map[string]string{"humo/usd": "visa"}}, "humo/usd"},
		{merchant.Settings{Routes: map[string]string{"humo/": "visa"}}, "humo/"},
		{merchant.Settings{Routes: map[string]string{"humo": ""}}, "contract"},
		{merchant.Settings{Routes: map[string]string{"humo": strings.Repeat("c", 33)}}, "contract"},
		{merchant.Settings{Routes: map[string]string{"humo": "Visa"}}, "contract"},
		{merchant.Settings{Routes: map[string]string{"humo": "my visa"}}, "contract"},
		{merchant.Settings{RefundLeast: 1}, ""},
		{merchant.Settings{RefundMost: 1}, ""},
		{merchant.Settings{RefundLeast: 1, RefundMost: 1}, ""},
		{merchant.Settings{RefundLeast: -1}, "refunds"},
		{merchant.Settings{RefundMost: -1}, "refunds"},
		{merchant.Settings{RefundLeast: 2, RefundMost: 1}, "refunds"},
	} {
		err := c.settings.Check(methods)
		if (err == nil) != (c.names == "") || err != nil && !strings.Contains(err.Error(), c.names) {
			t.Errorf("%+v: %v, want it to name %q", c.settings, err, c.names)
		}
	}
}
