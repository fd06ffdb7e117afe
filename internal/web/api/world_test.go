package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/gateway"
	"holdfast/internal/merchant"
	"holdfast/internal/notify"
	"holdfast/internal/payment"
	"holdfast/internal/processor/humo"
	"holdfast/internal/processor/rbs"
	"holdfast/internal/processor/svgate"
	"holdfast/internal/sim"
	"holdfast/internal/store"
	"holdfast/internal/vault"
	"holdfast/internal/web"
	"holdfast/internal/web/api"
)

// world is the whole gateway as the program puts it together, behind real HTTP, with the simulated
// processing centre on the other side. Nothing in it is a stand-in of ours.
type world struct {
	t        testing.TB
	dir      string // the store's data directory and nothing else
	clock    *clock // of the gateway and of the centre
	sim      *sim.Sim
	store    *store.Store
	gateway  *gateway.Gateway
	notifier *notify.Notifier
	url      string
	http     *http.Client
	verifies *atomic.Int64 // codes that the centre was asked about
	logs     *logs         // everything that any part has logged, at level debug

	shop, other merchantShop
}

// merchantShop is a shop with what only its owner knows.
type merchantShop struct {
	id          int64
	secret, key merchant.Secret
}

// morning is when the worlds' clocks begin: 09:17 in Tashkent, the seed's own time of day.
var morning = time.Date(2026, 11, 23, 4, 17, 0, 0, time.UTC)

// nowhere takes notifications in tests that do not look at them; nothing listens there.
var quiet = slog.New(slog.DiscardHandler)

const nowhere = "http://127.0.0.1:9/notify"

// usual is a shop's settings in most tests: the tariff of the seed's samples.
func usual() merchant.Settings {
	return merchant.Settings{Live: true, BankCode: "RB", Tariff: merchant.Tariff{ID: 2, Fee: merchant.Fee{Rate: 20_000}}}
}

func newWorld(t testing.TB) *world { return newWorldAt(t, morning) }

func newWorldAt(t testing.TB, at time.Time) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), clock: &clock{now: at}, logs: new(logs), verifies: new(atomic.Int64)}
	log := slog.New(slog.NewJSONHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.sim = sim.New(sim.Config{Now: w.clock.Now, Seed: 7, Logger: log})
	centre := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if bytes.Contains(body, []byte(`"cards.new.verify"`)) {
			w.verifies.Add(1)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		w.sim.Handler().ServeHTTP(rw, r)
	}))
	t.Cleanup(centre.Close)
	uzcard, err := svgate.New(svgate.Config{
		Endpoint: centre.URL + "/svgate", Login: "holdfast", Password: "holdfast", MerchantID: "90050017182", TerminalID: "91419475", Port: 16050,
		Now: w.clock.Now, Log: log,
	})
	check(t, err)
	w.store, err = store.Open(store.Config{Dir: w.dir, Serve: true, Now: w.clock.Now, Log: log})
	check(t, err)
	t.Cleanup(func() { w.store.Close() })
	keys, err := vault.Open(filepath.Join(t.TempDir(), "key"))
	check(t, err)
	humoCards, err := humo.New(humo.Config{
		Endpoint: centre.URL + "/humo", Login: "holdfast", Password: "holdfast", MerchantID: "90000001", TerminalID: "91000001", PointCode: "100010", CentreID: "HOLDFAST",
		MiddlewareURL: centre.URL + "/humo-middleware", MiddlewareToken: "holdfast", OTP: humo.Gateway, SMSURL: centre.URL + "/sms/send", SMSToken: "holdfast",
		CodeKey: "a key of thirty-two bytes or more", Now: w.clock.Now, Log: log,
		Seal:   func(b []byte) ([]byte, error) { return keys.Seal("card", b) },
		Unseal: func(b []byte) ([]byte, error) { return keys.Unseal("card", b) },
	})
	check(t, err)
	back := func(id payment.ID) string { return "https://pay.example/3ds/" + id.String() }
	acquirer, err := rbs.New(rbs.Config{
		Name: "acquirer", Endpoint: centre.URL + "/rbs", Login: "holdfast", Password: "holdfast", ReturnURL: back, FinishURL: back, MethodNotificationURL: back,
		Now: w.clock.Now, Log: log,
	})
	check(t, err)
	// Cards with 3-D Secure are for shops whose routes name the acquirer.
	centres := gateway.Centres{
		{Processor: uzcard, Method: payment.Uzcard}, {Processor: humoCards, Method: payment.Humo}, {Processor: acquirer, Method: payment.BankCard, Named: true},
	}
	w.gateway = gateway.New(gateway.Config{Store: w.store, Live: centres, Test: centres, Log: log})
	w.notifier = notify.New(notify.Config{
		Store: w.store, Decide: w.gateway.Decide, AllowPrivate: true, Log: log,
		UniqueKey: func(s merchant.Shop) (string, error) {
			plain, err := keys.Unseal("unique_key", s.UniqueKey)
			return string(plain), err
		},
	})
	w.shop, w.other = w.newShop(keys), w.newShop(keys)
	site := web.Site{
		API: api.New(api.Config{Gateway: w.gateway, Store: w.store, PayURL: "https://pay.example", Log: log}), Calls: api.Calls,
		Ready: w.store.Err, Log: log,
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	server := web.Server(site.Handler(), log)
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	w.url = "http://" + l.Addr().String()
	transport := &http.Transport{MaxIdleConnsPerHost: 128}
	t.Cleanup(transport.CloseIdleConnections)
	w.http = &http.Client{Transport: transport, Timeout: 2 * time.Minute}
	return w
}

func (w *world) newShop(keys *vault.Vault) merchantShop {
	w.t.Helper()
	s := merchantShop{secret: merchant.NewSecret(), key: merchant.NewSecret()}
	sealed, err := keys.Seal("unique_key", []byte(string(s.key)))
	check(w.t, err)
	stored, err := w.store.CreateShop(w.t.Context(), merchant.Shop{Name: "Test", SecretHash: s.secret.Hash(), UniqueKey: sealed, Settings: usual()})
	check(w.t, err)
	s.id = stored.ID
	return s
}

// settings changes the first shop's settings.
func (w *world) settings(change func(*merchant.Settings)) {
	w.t.Helper()
	_, err := w.store.UpdateShop(w.t.Context(), w.shop.id, func(s *merchant.Shop) error {
		change(&s.Settings)
		return nil
	})
	check(w.t, err)
}

// advance lets time pass for the gateway and the centre, and lets the gateway do what is due then.
func (w *world) advance(d time.Duration) {
	w.t.Helper()
	w.clock.advance(d)
	for range 100 {
		n, err := w.gateway.Step(context.Background())
		check(w.t, err)
		if n == 0 {
			return
		}
	}
	w.t.Fatal("the gateway's work does not end")
}

// answer is what came back over HTTP.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (w *world) do(method, path string, body io.Reader) (answer, error) {
	req, err := http.NewRequest(method, w.url+path, body)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := w.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, got}, err
}

// post makes a call and expects HTTP 200, which every answer of the business has.
func (w *world) post(path, body string) []byte {
	w.t.Helper()
	a, err := w.do(http.MethodPost, path, strings.NewReader(body))
	check(w.t, err)
	if a.status != http.StatusOK {
		w.t.Fatalf("POST %s: HTTP %d %s", path, a.status, a.body)
	}
	return a.body
}

// ok makes a call and expects error 0. It answers what is in data, numbers as their text.
func (w *world) ok(path, body string) object {
	w.t.Helper()
	got := parse(w.t, w.post(path, body)).(object)
	if got["error"] != json.Number("0") {
		w.t.Fatalf("POST %s %s: %v", path, body, got)
	}
	data, _ := got["data"].(object)
	return data
}

// refused makes a call and expects an error number and an errMessage with some words in it.
func (w *world) refused(code int, words, path, body string) object {
	w.t.Helper()
	got := parse(w.t, w.post(path, body)).(object)
	if message, _ := got["errMessage"].(string); got["error"] != json.Number(fmt.Sprint(code)) || !strings.Contains(message, words) {
		w.t.Errorf("POST %s %s: got %v, want error %d with %q", path, body, got, code, words)
	}
	return got
}

// credentials are the first keys of a body.
func (s merchantShop) credentials() string {
	return fmt.Sprintf(`"octo_shop_id":%d,"octo_secret":%q`, s.id, string(s.secret))
}

// prepare creates a payment of 1000.00 UZS; more is further keys of the body.
func (w *world) prepare(name, more string) (uuid string) {
	w.t.Helper()
	if more != "" {
		more = "," + more
	}
	data := w.ok("/prepare_payment", fmt.Sprintf(`{%s,"shop_transaction_id":%q,"total_sum":1000.0,"currency":"UZS","return_url":"https://octo.uz"%s}`,
		w.shop.credentials(), name, more))
	return data["octo_payment_UUID"].(string)
}

const twoStage = `"auto_capture":false,"notify_url":"` + nowhere + `"`

// card is the card book's first Uzcard that behaves so; "humo/ok" is one of another scheme.
func (w *world) card(behaviour string) sim.Card {
	w.t.Helper()
	return w.cards(behaviour)[0]
}

func (w *world) cards(behaviour string) (cards []sim.Card) {
	w.t.Helper()
	scheme, kind, other := strings.Cut(behaviour, "/")
	if !other {
		scheme, kind = "uzcard", behaviour
	}
	for _, c := range w.sim.Cards() {
		if c.Scheme == scheme && c.Behaviour == kind {
			cards = append(cards, c)
		}
	}
	if len(cards) == 0 {
		w.t.Fatalf("the card book has no %s", behaviour)
	}
	return cards
}

// pay tries a card and answers paymentId and verifyId.
func (w *world) pay(uuid string, card sim.Card) (paymentID, verifyID string) {
	w.t.Helper()
	id := w.ok("/pay/"+uuid, fmt.Sprintf(`{"pan":%q,"exp":%q,"method":"uzcard","cvc2":"","cardHolderName":"A","email":"a@b.uz"}`, card.PAN, card.Exp))["id"]
	return fmt.Sprint(id), fmt.Sprint(w.ok("/verificationInfo/"+uuid, "")["verifyId"])
}

// code is the newest SMS to the card's phone.
func (w *world) code(card sim.Card) string {
	w.t.Helper()
	messages := w.sim.SMS(card.Phone)
	if len(messages) == 0 {
		w.t.Fatal("no SMS was sent")
	}
	return messages[0].Code
}

// wrong is another code than the right one.
func wrong(code string) string {
	last := '0' + (code[len(code)-1]-'0'+1)%10
	return code[:len(code)-1] + string(rune(last))
}

func smsKey(paymentID, verifyID, code string) string {
	return fmt.Sprintf(`{"smsKey":%q,"paymentId":%s,"verifyId":%s}`, code, paymentID, verifyID)
}

// hold brings a payment to where its money is held (or, in one stage, taken).
func (w *world) hold(uuid string, card sim.Card) object {
	w.t.Helper()
	paymentID, verifyID := w.pay(uuid, card)
	return w.ok("/check_sms_key", smsKey(paymentID, verifyID, w.code(card)))
}

func (w *world) accept(uuid, decision string) string {
	return fmt.Sprintf(`{%s,"octo_payment_UUID":%q,%s}`, w.shop.credentials(), uuid, decision)
}

// stored is a payment as it is on disk.
func (w *world) stored(uuid string) payment.Payment {
	w.t.Helper()
	id, err := payment.ParseID(uuid)
	check(w.t, err)
	p, err := w.store.Payment(context.Background(), id)
	check(w.t, err)
	return p
}

// audit derives everything again from the rows and compares with the centre's books.
func (w *world) audit() {
	w.t.Helper()
	a, err := w.store.Audit(context.Background(), nil)
	check(w.t, err)
	for _, v := range a.Violations {
		w.t.Error(v)
	}
}

// object is a JSON object with its numbers as text.
type object = map[string]any

// parse reads one JSON value; it fails the test on anything else.
func parse(t testing.TB, body []byte) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("not JSON: %v: %.200q", err, body)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("something follows the JSON: %.200q", body)
	}
	return v
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition; the deadline is generous, for a loaded machine.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: it never came to that", what)
		}
	}
}

// clock is the time of the gateway and of the centre.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// logs keeps what is logged.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}

// raw opens a bare connection to the server.
func (w *world) raw() net.Conn {
	w.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	check(w.t, err)
	w.t.Cleanup(func() { c.Close() })
	return c
}
