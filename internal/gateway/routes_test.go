package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/gateway"
	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor/rbs"
	"holdfast/internal/processor/svgate"
	"holdfast/internal/sim"
)

// manyContracts makes a gateway with two contracts at Uzcard, of which one is for shops that name it, and
// two acquirers, of which the first takes dollars only.
func manyContracts(t *testing.T) *world {
	w := newWorld(t)
	server := httptest.NewServer(w.sim.Handler())
	transport := new(http.Transport)
	t.Cleanup(func() { transport.CloseIdleConnections(); server.Close() })
	client := &http.Client{Transport: transport}
	at := func(what string) func(payment.ID) string {
		return func(id payment.ID) string { return "https://pay.example/3ds/" + id.String() + what }
	}
	acquirer := func(name string, currencies ...money.Currency) *rbs.Connector {
		c, err := rbs.New(rbs.Config{
			Name: name, Endpoint: server.URL + "/rbs", Login: "holdfast", Password: "holdfast", Currencies: currencies,
			ReturnURL: at("/back"), MethodNotificationURL: at("/method"), HTTP: client, Now: w.clock,
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	toys, err := svgate.New(svgate.Config{
		Name: "toys", Endpoint: server.URL + "/svgate", Login: "holdfast", Password: "holdfast",
		MerchantID: "90050017182", TerminalID: "TOYS", Port: 16050, HTTP: client, Now: w.clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.gateway = gateway.New(gateway.Config{
		Store: w.store, HoldFor: holdFor,
		Live: gateway.Centres{
			{Processor: toys, Method: payment.Uzcard, Named: true},
			{Processor: acquirer("usd", money.USD), Method: payment.BankCard},
			{Processor: w.centre, Method: payment.Uzcard},
			{Processor: acquirer("bank"), Method: payment.BankCard},
		},
		Test: gateway.Centres{{Processor: w.centre, Method: payment.Uzcard}},
	})
	return w
}

func TestRoutes(t *testing.T) {
	w := manyContracts(t)
	plain := map[string]string(nil)
	for _, c := range []struct {
		name     string
		routes   map[string]string
		method   payment.Method
		currency money.Currency
		test     bool
		want     string // the contract, or the reason why there is none
	}{
		{"the first that is for all", plain, payment.Uzcard, money.UZS, false, "uzcard"},
		{"the first that takes the currency", plain, payment.BankCard, money.USD, false, "usd"},
		{"another currency", plain, payment.BankCard, money.UZS, false, "bank"},
		{"the shop's own", map[string]string{"uzcard": "toys"}, payment.Uzcard, money.UZS, false, "toys"},
		{"another method of that shop", map[string]string{"uzcard": "toys"}, payment.BankCard, money.UZS, false, "bank"},
		{"of one currency", map[string]string{"bank_card/USD": "bank"}, payment.BankCard, money.USD, false, "bank"},
		{"of that currency only", map[string]string{"bank_card/EUR": "usd"}, payment.BankCard, money.UZS, false, "bank"},
		{"the narrower route", map[string]string{"bank_card/USD": "bank", "bank_card": "usd"}, payment.BankCard, money.USD, false, "bank"},
		{"a test payment", map[string]string{"uzcard": "toys"}, payment.Uzcard, money.UZS, true, "uzcard"},
		{"no contract for the method", plain, payment.Humo, money.UZS, false, "method_not_allowed"},
		{"none in the currency", plain, payment.Uzcard, money.USD, false, "currency_not_allowed"},
		{"a route to nowhere", map[string]string{"uzcard": "gone"}, payment.Uzcard, money.UZS, false, "method_not_allowed"},
		{"a route to another method's contract", map[string]string{"uzcard": "bank"}, payment.Uzcard, money.UZS, false, "currency_not_allowed"},
		{"a route to a contract of another currency", map[string]string{"bank_card": "usd"}, payment.BankCard, money.UZS, false, "currency_not_allowed"},
		{"no test centre", plain, payment.BankCard, money.UZS, true, "method_not_allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.shop.Settings.Routes = c.routes
			err := w.gateway.Route(w.shop, c.method, c.currency, c.test)
			p := w.prepare(func(t *payment.Terms) {
				t.Amount, t.Methods, t.Test = money.New(total, c.currency), []payment.Method{c.method}, c.test
			})
			card := w.goodCard(0)
			if c.method == payment.BankCard {
				card = w.visa()
			}
			handed := handedIn(card)
			handed.Method, handed.CVC = c.method, card.CVC
			got, paid := w.gateway.Pay(t.Context(), w.shop, p.ID, handed)
			if failed := string(reason(paid)); paid != nil {
				if failed != c.want || reason(err) != reason(paid) || got.Attempt != nil {
					t.Errorf("pay: %v, asked before: %v; want %s", paid, err, c.want)
				}
				return
			}
			if err != nil || got.Attempt.Processor != c.want || got.State != payment.Challenged {
				t.Errorf("it went to %s and is %s (%v), want %s", got.Attempt.Processor, got.State, err, c.want)
			}
		})
	}
}

// visa is a card whose bank asks its holder.
func (w *world) visa() sim.Card {
	for _, c := range w.sim.Cards() {
		if c.Scheme == "visa" && c.Behaviour == "ok" {
			return c
		}
	}
	w.t.Fatal("the centre has no such card")
	return sim.Card{}
}

// TestPayerLeavesHisBank: a payer who went away from his bank's page can try another card when the bank's session is over,
// and not only when the payment's time is, which may be days.
func TestPayerLeavesHisBank(t *testing.T) {
	w := manyContracts(t)
	terms := w.prepare().Terms
	terms.ShopPaymentID, terms.Methods = "for days", []payment.Method{payment.BankCard, payment.Uzcard}
	p, _, err := w.gateway.Prepare(t.Context(), w.shop, terms, 72*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	first := handedIn(w.visa())
	first.Method, first.CVC = payment.BankCard, w.visa().CVC
	if p, err = w.gateway.Pay(t.Context(), w.shop, p.ID, first); err != nil || p.State != payment.Challenged {
		t.Fatalf("%s, %v: the payer should be at his bank", p.State, err)
	}
	if _, err := w.pay(p.ID, w.goodCard(0)); reason(err) != payment.Busy {
		t.Fatalf("another card while he is at his bank: %v", err)
	}
	w.later(21 * time.Minute)
	w.step()
	if p = w.read(p.ID); p.LastRefusal != payment.AuthenticationFailed {
		t.Errorf("he is told %q", p.LastRefusal)
	}
	p = w.must(w.pay(p.ID, w.goodCard(0)))(payment.Challenged)
	w.must(w.submit(p, w.code(w.goodCard(0))))(payment.Held)
}

// TestShopIsLiveNoMore: of a shop that may take no real payments any more no card is taken, also for a payment that was prepared
// before; what is held goes on, and so do test payments.
func TestShopIsLiveNoMore(t *testing.T) {
	w := manyContracts(t)
	card := w.goodCard(0)
	prepared, held := w.prepare(), w.paid(card)
	test := w.prepare(func(t *payment.Terms) { t.Test = true })
	w.shop.Settings.Live = false
	if p, err := w.pay(prepared.ID, card); reason(err) != payment.NotLive || w.read(prepared.ID).Attempt != nil {
		t.Errorf("%s, %v", p.State, err)
	}
	w.must(w.decide(held.ID, payment.Capture, 0))(payment.Captured)
	w.must(w.pay(test.ID, card))(payment.Challenged)
	w.shop.Settings.Live = true
	w.must(w.pay(prepared.ID, card))(payment.Challenged)
}

// TestUnderWayStaysWhereItBegan: whatever a shop's routes say meanwhile, each operation of an attempt goes
// to the contract that began it; a new attempt goes where they say by then.
func TestUnderWayStaysWhereItBegan(t *testing.T) {
	w := manyContracts(t)
	route := func(contract string) { w.shop.Settings.Routes = map[string]string{"uzcard": contract} }
	terminals := func() (all []string) {
		for _, op := range w.sim.Books().Operations {
			all = append(all, op.Kind+" "+op.TerminalID)
		}
		return all
	}
	route("toys")
	p := w.prepare()
	p = w.must(w.pay(p.ID, w.goodCard(0)))(payment.Challenged)
	route("uzcard")
	w.later(2 * time.Minute)
	if got, err := w.gateway.Resend(t.Context(), p.ID, handedIn(w.goodCard(0)).Card); err != nil || got.Attempt.Processor != "toys" {
		t.Fatalf("resend: %s, %v", got.Attempt.Processor, err)
	} else {
		p = got
	}
	p = w.must(w.submit(p, w.code(w.goodCard(0))))(payment.Held)
	route("gone")
	w.fault(sim.Fault{Method: "hold.dismiss.charge", Name: "answer_lost", Times: 1})
	if p, err := w.decide(p.ID, payment.Capture, 60_000); err != nil || p.Open == nil {
		t.Fatalf("capture: open %v, %v", p.Open, err)
	}
	w.later(10 * time.Second)
	w.step()
	if p = w.read(p.ID); p.State != payment.Captured || p.Attempt.Processor != "toys" {
		t.Fatalf("it is %s at %s", p.State, p.Attempt.Processor)
	}
	if p, err := w.gateway.Refund(t.Context(), p.ID, "r1", uzs(10_000)); err != nil || p.Refunded != uzs(10_000) {
		t.Fatalf("refund: %s, %v", p.Refunded, err)
	}
	if got, want := terminals(), []string{"hold TOYS", "capture TOYS", "refund TOYS"}; !slices.Equal(got, want) {
		t.Errorf("the centre's books: %v, want %v", got, want)
	}
	audit, err := w.store.Audit(t.Context(), nil)
	if err != nil || len(audit.Violations) > 0 {
		t.Errorf("audit: %v, %v", audit.Violations, err)
	}

	// Another card is another attempt.
	route("toys")
	p = w.prepare()
	w.must(w.pay(p.ID, w.goodCard(0)))(payment.Challenged)
	w.shop.Settings.Routes = nil
	if p, err := w.pay(p.ID, w.goodCard(1)); err != nil || p.Attempt.Processor != "uzcard" {
		t.Errorf("another card: %s, %v", p.Attempt.Processor, err)
	}
}

// TestClaimsOfTwoContracts: a hold that one contract made is not taken for one of another contract with the
// same centre, which does not say of which terminal it is.
func TestClaimsOfTwoContracts(t *testing.T) {
	w := newWorld(t)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		w.sim.Handler().ServeHTTP(answer, r)
		rw.WriteHeader(answer.Code)
		strings.NewReplacer(`"terminalId":"ONE"`, `"terminalId":null`, `"terminalId":"TWO"`, `"terminalId":null`).WriteString(rw, answer.Body.String())
	}))
	transport := new(http.Transport)
	t.Cleanup(func() { transport.CloseIdleConnections(); server.Close() })
	var all gateway.Centres
	for _, terminal := range []string{"ONE", "TWO"} {
		c, err := svgate.New(svgate.Config{
			Name: strings.ToLower(terminal), Endpoint: server.URL + "/svgate", Login: "holdfast", Password: "holdfast",
			MerchantID: "90050017182", TerminalID: terminal, Port: 1, HTTP: &http.Client{Transport: transport}, Now: w.clock,
		})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, gateway.Centre{Processor: c, Method: payment.Uzcard})
	}
	w.gateway = gateway.New(gateway.Config{Store: w.store, HoldFor: holdFor, Live: all})
	card := w.goodCard(0)
	held := w.paid(card) // by the contract one
	w.shop.Settings = merchant.Settings{Live: true, Routes: map[string]string{"uzcard": "two"}}
	// Of a hundred and twenty payments one has the salt of the hold of the first.
	for range 130 {
		p := w.prepare()
		p = w.must(w.pay(p.ID, card))(payment.Challenged)
		w.fault(sim.Fault{Method: "hold.create", Name: "request_lost", Times: 1})
		if _, err := w.submit(p, w.code(card)); err != nil {
			t.Fatal(err)
		}
		if p, err := w.gateway.Inquire(t.Context(), p.ID); err != nil || p.State == payment.Held {
			t.Fatalf("it is %s as %q, the hold of %s: %v", p.State, p.Attempt.Centre.Hold, held.ID, err)
		}
	}
}
