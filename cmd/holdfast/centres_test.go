package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/gateway"
	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor"
	"holdfast/internal/processor/rbs"
	"holdfast/internal/sim"
	"holdfast/internal/store"
)

// newsroom is a gateway with an acquirer, whose news a test brings itself: of its own accord the simulator
// tells nobody.
type newsroom struct {
	t       *testing.T
	sim     *sim.Sim
	store   *store.Store
	gateway *gateway.Gateway
	door    http.Handler
	shop    merchant.Shop
	n       int
}

const newsKey, otherKey = "key of the first acquirer", "key of the second"

func newNewsroom(t *testing.T) *newsroom {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	r := &newsroom{t: t, sim: sim.New(sim.Config{Seed: 7}), shop: merchant.Shop{Settings: merchant.Settings{Live: true}}}
	centre := httptest.NewServer(r.sim.Handler())
	t.Cleanup(centre.Close)
	page := func(payment.ID) string { return "https://pay.example/3ds" }
	acquirer, err := rbs.New(rbs.Config{
		Endpoint: centre.URL + "/rbs", Login: simLogin, Password: simLogin, ReturnURL: page, MethodNotificationURL: page,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.store, err = store.Open(store.Config{Dir: t.TempDir(), Serve: true, Log: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.store.Close() })
	r.gateway = gateway.New(gateway.Config{Store: r.store, Log: quiet, Live: gateway.Centres{{Processor: acquirer, Method: payment.BankCard}}})
	r.door = acquirerCallback(r.gateway, r.store, []signer{{key: newsKey, live: true}, {key: otherKey, live: true}}, quiet)
	return r
}

// atBank is a payment whose payer is with his bank.
func (r *newsroom) atBank() payment.Payment {
	r.t.Helper()
	r.n++
	p, _, err := r.gateway.Prepare(r.t.Context(), r.shop, payment.Terms{
		ShopPaymentID: fmt.Sprint(r.n), Amount: money.New(100_000, money.UZS), Methods: []payment.Method{payment.BankCard},
		ReturnURL: "https://shop.example/back", Language: "uz",
	}, 15*time.Minute)
	if err != nil {
		r.t.Fatal(err)
	}
	card := sim.Card{}
	for _, c := range r.sim.Cards() {
		if c.Behaviour == "frictionless" && c.Scheme == "visa" {
			card = c
		}
	}
	handed := gateway.Card{Card: payment.Card{Number: card.PAN, Expiry: card.Exp, CVC: card.CVC}, Method: payment.BankCard, Input: "octo_page"}
	if p, err = r.gateway.Pay(r.t.Context(), r.shop, p.ID, handed); err != nil || p.State != payment.Challenged {
		r.t.Fatalf("%s, %v", p.State, err)
	}
	return p
}

// inDoubt is a payment whose money the acquirer holds, and of which we do not know it: the answer was lost.
func (r *newsroom) inDoubt() payment.Payment {
	r.t.Helper()
	p := r.atBank()
	// The connector looks at the order after a lost answer; that is lost too.
	for _, method := range []string{"rbs.continue", "rbs.status"} {
		if err := r.sim.AddFault(sim.Fault{Method: method, Name: "answer_lost"}); err != nil {
			r.t.Fatal(err)
		}
	}
	p, err := r.gateway.Proceed(r.t.Context(), p.ID, payment.StepMethod)
	if err != nil || p.Open == nil || p.State == payment.Held {
		r.t.Fatalf("%s, open %v, %v", p.State, p.Open, err)
	}
	r.sim.ClearFaults()
	return p
}

// news is what the acquirer says of a payment, signed with a key.
func news(p payment.Payment, key string, change ...func(url.Values)) url.Values {
	v := url.Values{"mdOrder": {p.Attempt.Centre.Hold}, "orderNumber": {p.Open.Ref}, "operation": {"approved"}, "status": {"1"}, "amount": {"100000"}}
	for _, change := range change {
		change(v)
	}
	signed := ""
	for _, name := range slices.Sorted(maps.Keys(v)) {
		signed += name + ";" + v.Get(name) + ";"
	}
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(signed))
	v.Set("checksum", strings.ToUpper(hex.EncodeToString(mac.Sum(nil))))
	v.Set("sign_alias", "a key")
	return v
}

func (r *newsroom) get(v url.Values) int {
	return r.bring(httptest.NewRequest(http.MethodGet, "/processor/bank_card?"+v.Encode(), nil))
}

func (r *newsroom) post(v url.Values) int {
	q := httptest.NewRequest(http.MethodPost, "/processor/bank_card", strings.NewReader(v.Encode()))
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r.bring(q)
}

func (r *newsroom) bring(q *http.Request) int {
	w := httptest.NewRecorder()
	r.door.ServeHTTP(w, q)
	return w.Code
}

func (r *newsroom) read(id payment.ID) payment.Payment {
	r.t.Helper()
	p, err := r.store.Payment(context.Background(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// TestNewsOfAnAcquirer: news that is signed has the acquirer asked, whichever way it comes and whatever it
// claims; a repeat changes nothing.
func TestNewsOfAnAcquirer(t *testing.T) {
	r := newNewsroom(t)
	claims := func(name, value string) func(url.Values) { return func(v url.Values) { v.Set(name, value) } }
	for name, bring := range map[string]func(payment.Payment) int{
		"GET":                   func(p payment.Payment) int { return r.get(news(p, newsKey)) },
		"POST":                  func(p payment.Payment) int { return r.post(news(p, newsKey)) },
		"the other key":         func(p payment.Payment) int { return r.get(news(p, otherKey)) },
		"it claims a failure":   func(p payment.Payment) int { return r.get(news(p, newsKey, claims("status", "0"))) },
		"it claims another sum": func(p payment.Payment) int { return r.get(news(p, newsKey, claims("amount", "1"))) },
		"it claims a deposit":   func(p payment.Payment) int { return r.get(news(p, newsKey, claims("operation", "deposited"))) },
	} {
		p := r.inDoubt()
		again := p
		for range 3 {
			if code := bring(again); code != http.StatusOK {
				t.Errorf("%s: HTTP %d", name, code)
			}
			got := r.read(p.ID)
			if got.State != payment.Held || got.Open != nil || got.Held != money.New(100_000, money.UZS) || got.Captured.Positive() {
				t.Errorf("%s: it is %s, held %s, captured %s, open %v", name, got.State, got.Held, got.Captured, got.Open)
			}
		}
	}
}

// TestNewsIsNoProof: what the acquirer's books do not say does not become true by being told, signed or not.
func TestNewsIsNoProof(t *testing.T) {
	r := newNewsroom(t)
	p := r.inDoubt()
	// The acquirer is out of reach: its news alone moves nothing, and the question stays open.
	if err := r.sim.AddFault(sim.Fault{Method: "rbs.status", Name: "fail_before", Times: 1}); err != nil {
		t.Fatal(err)
	}
	if code := r.get(news(p, newsKey)); code != http.StatusOK {
		t.Errorf("HTTP %d", code)
	}
	if got := r.read(p.ID); got.State == payment.Held || got.Open == nil || got.Held.Positive() {
		t.Errorf("by the news alone it is %s, held %s", got.State, got.Held)
	}

	before := r.read(p.ID)
	order := func(name string) func(url.Values) { return func(v url.Values) { v.Set("orderNumber", name) } }
	forged := news(p, newsKey)
	forged.Set("status", "0")
	twice := news(p, newsKey)
	twice.Add("orderNumber", p.Open.Ref)
	unsigned := news(p, newsKey)
	unsigned.Del("checksum")
	for name, c := range map[string]struct {
		code int
		want int
	}{
		"forged":             {r.get(forged), http.StatusForbidden},
		"forged, by POST":    {r.post(forged), http.StatusForbidden},
		"one name twice":     {r.get(twice), http.StatusForbidden},
		"unsigned":           {r.get(unsigned), http.StatusForbidden},
		"a stranger's key":   {r.get(news(p, "key of a stranger")), http.StatusForbidden},
		"no key":             {r.get(news(p, "")), http.StatusForbidden},
		"nothing":            {r.get(nil), http.StatusForbidden},
		"no order":           {r.get(news(p, newsKey, order(""))), http.StatusForbidden},
		"an unknown payment": {r.get(news(p, newsKey, order("1732700437604_1"))), http.StatusNotFound},
		"no name of ours":    {r.get(news(p, newsKey, order("invoice 7"))), http.StatusNotFound},
		"no number":          {r.get(news(p, newsKey, order("1732700437604_x"))), http.StatusNotFound},
		"no such number":     {r.get(news(p, newsKey, order("1_99999999999999999999"))), http.StatusNotFound},
		// It is this payment's, and nothing is asked under that name now.
		"another operation": {r.get(news(p, newsKey, order(fmt.Sprintf("1732700437604_%d_9", p.Number)))), http.StatusOK},
		"no form":           {r.bring(httptest.NewRequest(http.MethodGet, "/processor/bank_card?%zz", nil)), http.StatusBadRequest},
		"JSON": {r.bring(httptest.NewRequest(http.MethodPost, "/processor/bank_card", strings.NewReader(`{"orderNumber":"`+p.Open.Ref+`"}`))),
			http.StatusForbidden},
		"by PUT": {r.bring(httptest.NewRequest(http.MethodPut, "/processor/bank_card?"+news(p, newsKey).Encode(), nil)), http.StatusMethodNotAllowed},
	} {
		if c.code != c.want {
			t.Errorf("%s: HTTP %d, want %d", name, c.code, c.want)
		}
	}
	if got := r.read(p.ID); got.Version != before.Version {
		t.Errorf("it was asked about, or changed: version %d, before %d, %s", got.Version, before.Version, got.State)
	}
}

// TestNewsBeforeTheAnswer: an acquirer that tells before it answers, and waits for us to take it, does not wait
// for its own answer.
func TestNewsBeforeTheAnswer(t *testing.T) {
	r := newNewsroom(t)
	p := r.atBank()
	told := make(chan int, 1)
	asked, release := make(chan struct{}), make(chan struct{})
	slow := gateway.New(gateway.Config{Store: r.store, Log: slog.New(slog.DiscardHandler), At: func(point gateway.Point, _ payment.ID) {
		if point == gateway.QuestionCommitted {
			close(asked)
			<-release // its answer comes only when its news was taken
		}
	}})
	door := acquirerCallback(slow, r.store, []signer{{key: newsKey, live: true}, {key: otherKey, live: true}}, slog.New(slog.DiscardHandler))
	done := make(chan error)
	go func() { _, err := slow.Proceed(t.Context(), p.ID, payment.StepMethod); done <- err }()
	<-asked
	go func() {
		w := httptest.NewRecorder()
		door.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/processor/bank_card?"+news(p, newsKey).Encode(), nil))
		told <- w.Code
	}()
	select {
	case code := <-told:
		if code != http.StatusOK {
			t.Errorf("HTTP %d", code)
		}
	case <-time.After(10 * time.Second): // acquirers give up after five
		t.Error("it waits for the answer")
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The payer's SMS is in the name that the contract has for it.
func TestNameInTheSMS(t *testing.T) {
	for service, want := range map[string]string{"": "Holdfast", `, "service-name": "Оптика на Навои"`: "Оптика на Навои"} {
		asked := ""
		centre := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			asked = string(body)
		}))
		all, err := readContracts(fmt.Appendf(nil, `[{"name": "optics", "method": "uzcard", "url": %q, "login": "optics", "password": "x", "merchant": "1", "terminal": "1"%s}]`, centre.URL, service))
		if err != nil {
			t.Fatal(err)
		}
		connector, err := all[0].connect(connecting{http: http.DefaultClient, log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		connector.Ask(t.Context(), processor.Question{
			Operation: payment.Operation{Ref: "1795426200000_1", Kind: payment.OpChallenge, Ask: payment.Send, Asks: 1, Amount: money.New(100, money.UZS)},
			Card:      payment.Card{Number: "8600495473316478", Expiry: "3012"},
		})
		centre.Close()
		if !strings.Contains(asked, fmt.Sprintf(`"serviceName":%q`, want)) {
			t.Errorf("with%s the centre is asked %s, want the name %s", service, asked, want)
		}
	}
}

// acquirers are contracts of these names.
func acquirers(t *testing.T, names ...string) (all gateway.Centres) {
	t.Helper()
	page := func(payment.ID) string { return "https://pay.example/3ds" }
	for _, name := range names {
		connector, err := rbs.New(rbs.Config{
			Name: name, Endpoint: "https://bank.example", Login: "a", Password: "b", ReturnURL: page, MethodNotificationURL: page,
		})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, gateway.Centre{Processor: connector, Method: payment.BankCard})
	}
	return all
}

// Whoever starts the gateway learns which shops' payments go to a contract that is not connected, and of no others.
func TestRoutesToNobody(t *testing.T) {
	s, err := store.Open(store.Config{Dir: t.TempDir(), Serve: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, contract := range []string{"toys", "books"} {
		shop := merchant.Shop{Name: contract, Settings: merchant.Settings{Routes: map[string]string{string(payment.BankCard): contract}}}
		if _, err := s.CreateShop(t.Context(), shop); err != nil {
			t.Fatal(err)
		}
	}
	var said strings.Builder
	if err := warnOfRoutes(s, acquirers(t, "toys", "games"), slog.New(slog.NewTextHandler(&said, nil))); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said.String(), "shop=2 payments=bank_card contract=books\n") || strings.Count(said.String(), "level=WARN") != 1 {
		t.Errorf("it says %s", said.String())
	}
}

// A store that was brought back to an earlier time knows which contracts payments could go to then: none of them may be missing
// until the last of its payments has been asked about, unless the operator says that nobody can ask it.
func TestContractsOfABackup(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	open := func() *store.Store {
		t.Helper()
		s, err := store.Open(store.Config{Dir: dir, Serve: true, Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	connected := func(names ...string) gateway.Centres { return acquirers(t, names...) }
	s := open()
	again := func() { // what a store says of a restore, it says as of when it was opened
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open()
	}
	defer func() { s.Close() }()
	terms := payment.Terms{ShopPaymentID: "one", Amount: money.New(100_00, money.UZS), Methods: []payment.Method{payment.BankCard}}
	if _, _, err := gateway.New(gateway.Config{Store: s, Log: quiet}).Prepare(t.Context(), merchant.Shop{ID: 1}, terms, time.Hour); err != nil {
		t.Fatal(err)
	}
	recovered := func() error {
		_, err := s.MarkRestored(t.Context())
		again()
		return err
	}
	reconciled := func() error {
		err := s.SetReconciled(t.Context())
		again()
		return err
	}
	for _, c := range []struct {
		name string
		then func() error // what happens before it
		live gateway.Centres
		gone []string
		says string // in the log or as an error; "" is not a word
	}{
		{name: "the first start", live: connected("toys", "books")},
		{name: "one is taken out", live: connected("toys"), says: "stays as it is\" contract=books"},
		{name: "and connected again", live: connected("books", "toys")},
		{name: "one is missing after a restore", then: recovered, live: connected("toys"), says: "the contract books was connected"},
		{name: "another is said to be gone", live: connected("toys"), gone: []string{"toys"}, says: "--gone books"},
		{name: "it is said to be gone", live: connected("toys"), gone: []string{"books"}, says: "is not asked about\" contract=books"},
		{name: "it was gone before", live: connected("toys")},
		{name: "it is there again", live: connected("toys", "books")},
		{name: "and missing again", live: connected("toys"), says: "the contract books was connected"},
		{name: "one is missing when all were asked about", then: reconciled, live: connected("toys"), says: "stays as it is\" contract=books"},
	} {
		if c.then != nil {
			if err := c.then(); err != nil {
				t.Fatal(err)
			}
		}
		var said strings.Builder
		if err := knownAgain(s, c.live, c.gone, slog.New(slog.NewTextHandler(&said, nil))); err != nil {
			said.WriteString(err.Error())
		}
		if !strings.Contains(said.String(), c.says) || c.says == "" && said.Len() > 0 {
			t.Errorf("%s: it says %q, want %q", c.name, said.String(), c.says)
		}
	}
}
