package pages

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/gateway"
	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor/humo"
	"holdfast/internal/processor/rbs"
	"holdfast/internal/processor/svgate"
	"holdfast/internal/sim"
	"holdfast/internal/store"
	"holdfast/internal/vault"
	"holdfast/internal/web"
)

// patience is how long a test waits for what must come; it costs nothing when it comes.
const patience = 2 * time.Minute

// world is the real thing in one process: store, gateway, connectors, and the simulator as all centres.
type world struct {
	t       testing.TB
	sim     *sim.Sim
	dir     string
	store   *store.Store
	gateway *gateway.Gateway
	centres gateway.Centres
	shop    merchant.Shop
	url     string // of the pages
	back    string // return_url: the shop
	log     *logged
	ahead   atomic.Int64   // how far the clock is ahead
	posts   atomic.Int64   // forms that have arrived at the pages
	given   map[string]int // cards given out so far, by scheme
}

// logged is everything that was logged.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, log: new(logged), dir: t.TempDir(), given: map[string]int{}}
	log := slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	centre := httptest.NewUnstartedServer(nil)
	// By another name than the pages', so that the bank's pages are another site to the browser.
	_, port, err := net.SplitHostPort(centre.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	w.sim = sim.New(sim.Config{Now: w.now, Seed: 1, BaseURL: "http://localhost:" + port})
	t.Cleanup(w.sim.Close)
	centre.Config.Handler = w.sim.Handler()
	centre.Start()
	t.Cleanup(centre.Close)
	t.Cleanup(w.sim.ClearFaults) // before it: nobody waits for an answer that is withheld
	served := httptest.NewUnstartedServer(nil)
	w.url = "http://" + served.Listener.Addr().String()
	w.centres = w.connect(centre.URL, log)
	if w.store, err = store.Open(store.Config{Dir: w.dir, Serve: true, Now: w.now, Log: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	w.gateway = gateway.New(gateway.Config{Store: w.store, Log: log, Live: w.centres, Test: w.centres})
	secret := merchant.NewSecret()
	if w.shop, err = w.store.CreateShop(context.Background(), merchant.Shop{Name: "Ipak Yoʻli bozori", SecretHash: secret.Hash(), UniqueKey: []byte("key"), Settings: merchant.Settings{Live: true}}); err != nil {
		t.Fatal(err)
	}
	shop := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		io.WriteString(rw, "<!doctype html><title>The shop</title><h1 id=shop>Thank you</h1>")
	}))
	t.Cleanup(shop.Close)
	w.back = shop.URL + "/return?cart=7"
	site := web.Site{
		Pages: New(Config{Gateway: w.gateway, Store: w.store, BaseURL: w.url, Log: log}), Paths: Paths, Ready: func() error { return nil }, Log: log,
	}.Handler()
	served.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.posts.Add(1)
		}
		site.ServeHTTP(rw, r)
	})
	served.Start()
	t.Cleanup(served.Close)
	return w
}

// connect makes the connectors to all centres, as the program does.
func (w *world) connect(simURL string, log *slog.Logger) gateway.Centres {
	w.t.Helper()
	sealed, err := vault.Open(filepath.Join(w.dir, "holdfast.key"))
	if err != nil {
		w.t.Fatal(err)
	}
	u, err := svgate.New(svgate.Config{
		Endpoint: simURL + "/svgate", Login: "holdfast", Password: "holdfast", MerchantID: "90050017182", TerminalID: "91419475", Port: 16050,
		Answer: patience, Now: w.now, Log: log, // a withheld answer must not be given up before the browser has done its part
	})
	if err != nil {
		w.t.Fatal(err)
	}
	h, err := humo.New(humo.Config{
		Endpoint: simURL + "/humo", Login: "holdfast", Password: "holdfast", MerchantID: "90000001", TerminalID: "91000001", PointCode: "100010", CentreID: "HOLDFAST",
		MiddlewareURL: simURL + "/humo-middleware", MiddlewareToken: "holdfast", OTP: humo.Gateway, SMSURL: simURL + "/sms/send", SMSToken: "holdfast",
		CodeKey: "a key of thirty-two bytes or more", Answer: patience, Now: w.now, Log: log,
		Seal:   func(b []byte) ([]byte, error) { return sealed.Seal("card", b) },
		Unseal: func(b []byte) ([]byte, error) { return sealed.Unseal("card", b) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	at := func(below string) func(payment.ID) string {
		return func(id payment.ID) string { return w.url + "/3ds/" + id.String() + below }
	}
	acquirer, err := rbs.New(rbs.Config{
		Endpoint: simURL + "/rbs", Login: "holdfast", Password: "holdfast", ReturnURL: at("/back"), FinishURL: at("/back"), MethodNotificationURL: at("/method"),
		Answer: patience, Now: w.now, Log: log,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return gateway.Centres{{Processor: u, Method: payment.Uzcard}, {Processor: h, Method: payment.Humo}, {Processor: acquirer, Method: payment.BankCard}}
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func (w *world) pass(d time.Duration) { w.ahead.Add(int64(d)) }

// prepare makes a payment in a language; change may edit its terms.
func (w *world) prepare(language string, change ...func(*payment.Terms)) payment.Payment {
	w.t.Helper()
	terms := payment.Terms{
		ShopPaymentID: "order-" + strconv.FormatInt(time.Now().UnixNano(), 36), Amount: money.New(12_345_000_00, money.UZS), AutoCapture: true, Test: true,
		Methods: []payment.Method{payment.Uzcard, payment.Humo, payment.BankCard}, Description: "Ipak roʻmol × 2, choynak", ReturnURL: w.back, Language: language,
		User: &payment.User{ID: "guest", Email: "guest@example.uz"},
	}
	for _, c := range change {
		c(&terms)
	}
	p, _, err := w.gateway.Prepare(context.Background(), w.shop, terms, 15*time.Minute)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func twoStage(t *payment.Terms)  { t.AutoCapture = false }
func anonymous(t *payment.Terms) { t.User = nil }

func only(methods ...payment.Method) func(*payment.Terms) {
	return func(t *payment.Terms) { t.Methods = methods }
}

func (w *world) payment(id payment.ID) payment.Payment {
	w.t.Helper()
	p, err := w.store.Payment(context.Background(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// card gives a Uzcard that behaves so.
func (w *world) card(behaviour string) sim.Card { w.t.Helper(); return w.cardOf("uzcard", behaviour) }

// cardOf gives a card of a scheme that behaves so: one that nobody used yet if it is simply ok, and not
// the one that many share.
func (w *world) cardOf(scheme, behaviour string) sim.Card {
	w.t.Helper()
	n := 0
	for _, c := range w.sim.Cards() {
		if c.Scheme != scheme || c.Behaviour != behaviour || c.FixedOTP != "" {
			continue
		}
		if n++; behaviour != "ok" || n > w.given[scheme] {
			w.given[scheme] = n
			return c
		}
	}
	w.t.Fatalf("the simulator has no further %s card that is %s", scheme, behaviour)
	return sim.Card{}
}

// sharedPAN is the number of the scheme's card that many share.
func (w *world) sharedPAN(scheme string) string {
	for _, c := range w.sim.Cards() {
		if c.Scheme == scheme && c.FixedOTP != "" {
			return c.PAN
		}
	}
	w.t.Fatalf("the simulator has no shared %s card", scheme)
	return ""
}

// fault arranges a bad day at the centres.
func (w *world) fault(f sim.Fault) {
	w.t.Helper()
	if err := w.sim.AddFault(f); err != nil {
		w.t.Fatal(err)
	}
}

// happened waits until the bad days have come.
func (w *world) happened() {
	w.t.Helper()
	for deadline := time.Now().Add(patience); len(w.sim.Faults()) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("still to come: %v", w.sim.Faults())
		}
	}
}

// expiry is a card's, as it is printed.
func expiry(c sim.Card) string { return c.Exp[2:] + "/" + c.Exp[:2] }

func spaced(number string) string {
	return number[:4] + " " + number[4:8] + "-" + number[8:12] + "\u00a0" + number[12:]
}

// code is the newest one sent to the card's phone.
func (w *world) code(c sim.Card) string {
	w.t.Helper()
	messages := w.sim.SMS(c.Phone)
	if len(messages) == 0 {
		w.t.Fatal("no SMS was sent")
	}
	return messages[0].Code
}

func wrong(code string) string {
	n, _ := strconv.Atoi(code)
	return fmt.Sprintf("%06d", (n+1)%1_000_000)
}

// visitor is a payer without a browser.
type visitor struct {
	w    *world
	http *http.Client
	last page
}

type page struct {
	status int
	path   string // with its query, after redirects
	at     *url.URL
	header http.Header
	body   string
}

func (w *world) visitor() *visitor {
	jar, _ := cookiejar.New(nil)
	return &visitor{w: w, http: &http.Client{Jar: jar, Timeout: 5 * patience}}
}

func (v *visitor) do(request *http.Request) page {
	v.w.t.Helper()
	response, err := v.http.Do(request)
	if err != nil {
		v.w.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		v.w.t.Fatal(err)
	}
	v.last = page{response.StatusCode, response.Request.URL.RequestURI(), response.Request.URL, response.Header, string(body)}
	return v.last
}

func (v *visitor) get(path string) page {
	v.w.t.Helper()
	request, err := http.NewRequest("GET", v.w.url+path, nil)
	if err != nil {
		v.w.t.Fatal(err)
	}
	request.Header.Set("Accept", "text/html") // as browsers do; others are told in JSON that a page is not there
	return v.do(request)
}

func (v *visitor) post(path string, fields ...string) page {
	v.w.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	if strings.HasPrefix(path, "/") {
		path = v.w.url + path
	}
	request, err := http.NewRequest("POST", path, strings.NewReader(form.Encode()))
	if err != nil {
		v.w.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	return v.do(request)
}

func (v *visitor) pay(p payment.Payment, c sim.Card) page {
	v.w.t.Helper()
	return v.post("/card/"+p.ID.String()+"?language="+p.Terms.Language, "pan", spaced(c.PAN), "exp", expiry(c), "cvc2", c.CVC, "email", "guest@example.uz")
}

func (v *visitor) enter(p payment.Payment, code string) page {
	v.w.t.Helper()
	stored := v.w.payment(p.ID)
	verify := int64(0)
	if stored.Attempt != nil && stored.Attempt.Challenge != nil {
		verify = stored.Attempt.Challenge.VerifyID
	}
	method := payment.Uzcard
	if stored.Attempt != nil {
		method = stored.Attempt.Method
	}
	return v.post("/"+string(method)+"/sms/"+p.ID.String()+"?language="+p.Terms.Language, "code", code, "verify", strconv.FormatInt(verify, 10))
}

// scene is a payment in a state, and the page that shows it.
type scene struct {
	name string
	make func(w *world, language string) (path string)
}

// scenes are all pages there are.
var scenes = []scene{
	{"card", func(w *world, l string) string { return "/pay/" + w.prepare(l).ID.String() }},
	{"card of one method", func(w *world, l string) string {
		return "/pay/" + w.prepare(l, only(payment.Uzcard), anonymous).ID.String()
	}},
	{"card with problems", func(w *world, l string) string {
		return "/pay/" + w.prepare(l).ID.String() + "?problem=" + strings.Join(problems, "&problem=")
	}},
	{"card refused", func(w *world, l string) string {
		p := w.prepare(l)
		w.visitor().pay(p, w.card("blocked"))
		return "/pay/" + p.ID.String()
	}},
	{"card again", func(w *world, l string) string {
		p := w.prepare(l)
		w.visitor().pay(p, w.card("ok"))
		return "/pay/" + p.ID.String()
	}},
	{"code", func(w *world, l string) string {
		p := w.prepare(l)
		w.visitor().pay(p, w.card("ok"))
		return "/uzcard/sms/" + p.ID.String()
	}},
	{"code wrong", func(w *world, l string) string {
		p, c := w.prepare(l), w.card("ok")
		v := w.visitor()
		v.pay(p, c)
		v.enter(p, wrong(w.code(c)))
		return "/uzcard/sms/" + p.ID.String()
	}},
	{"code expired", func(w *world, l string) string {
		p := w.prepare(l)
		w.visitor().pay(p, w.card("ok"))
		w.pass(6 * time.Minute)
		return "/uzcard/sms/" + p.ID.String()
	}},
	{"code problems", func(w *world, l string) string {
		p := w.prepare(l)
		w.visitor().pay(p, w.card("ok"))
		return "/uzcard/sms/" + p.ID.String() + "?problem=" + strings.Join(problems, "&problem=")
	}},
	{"paid", func(w *world, l string) string { return "/status/" + w.paid(l).ID.String() }},
	{"held", func(w *world, l string) string { return "/status/" + w.paid(l, twoStage).ID.String() }},
	{"captured in part", func(w *world, l string) string {
		p := w.paid(l, twoStage)
		w.decide(p, payment.Capture, money.New(100_00, money.UZS))
		return "/status/" + p.ID.String()
	}},
	{"hold let go", func(w *world, l string) string {
		p := w.paid(l, twoStage)
		w.decide(p, payment.Cancel, money.Amount{})
		return "/status/" + p.ID.String()
	}},
	{"hold being let go", func(w *world, l string) string {
		p := w.paid(l, twoStage)
		w.fault(sim.Fault{Method: "*", Name: "fail_before", Times: 2})
		w.decide(p, payment.Cancel, money.Amount{})
		w.sim.ClearFaults()
		if p = w.payment(p.ID); p.State != payment.Held || p.Open == nil {
			w.t.Fatalf("the hold is %s", p.State)
		}
		return "/status/" + p.ID.String()
	}},
	{"cancelled", func(w *world, l string) string {
		p := w.prepare(l)
		w.decide(p, payment.Cancel, money.Amount{})
		return "/status/" + p.ID.String()
	}},
	{"refunded", func(w *world, l string) string {
		p := w.paid(l)
		if _, err := w.gateway.Refund(context.Background(), p.ID, "refund-1", money.New(100_000_00, money.UZS)); err != nil {
			w.t.Fatal(err)
		}
		return "/status/" + p.ID.String()
	}},
	{"already paid", func(w *world, l string) string { return "/pay/" + w.paid(l).ID.String() }},
	{"cards used up", func(w *world, l string) string {
		p := w.prepare(l)
		for range payment.MaxAttempts {
			w.visitor().pay(p, w.card("blocked"))
			w.pass(2 * time.Minute) // the same card at once would be the same try
		}
		return "/status/" + p.ID.String()
	}},
	{"declined", func(w *world, l string) string {
		p, c := w.prepare(l), w.card("ok")
		v := w.visitor()
		v.pay(p, c)
		for range payment.MaxWrongCodes {
			v.enter(p, wrong(w.code(c)))
		}
		return "/status/" + p.ID.String()
	}},
	{"expired", func(w *world, l string) string {
		p := w.prepare(l)
		w.pass(16 * time.Minute)
		return "/pay/" + p.ID.String()
	}},
	{"lost with a backup", func(w *world, l string) string { return "/status/" + w.lost(w.prepare(l)).ID.String() }},
	{"in doubt", func(w *world, l string) string {
		p, c := w.prepare(l), w.card("unknown_then_done")
		v := w.visitor()
		v.pay(p, c)
		v.enter(p, w.code(c))
		return "/status/" + p.ID.String()
	}},
	{"wait", func(w *world, l string) string {
		p, c := w.prepare(l), w.card("ok")
		w.visitor().pay(p, c)
		w.whileAsked("cards.new.verify", c, func() { w.visitor().enter(p, w.code(c)) })
		return "/status/" + p.ID.String()
	}},
	{"bank looks", func(w *world, l string) string {
		p := w.prepare(l)
		w.visitor().pay(p, w.cardOf("visa", "method_timeout"))
		return "/3ds/" + p.ID.String()
	}},
	{"bank asks", func(w *world, l string) string {
		p := w.prepare(l)
		v := w.visitor()
		v.pay(p, w.cardOf("mastercard", "ok"))
		v.post("/3ds/"+p.ID.String(), "step", "method")
		return "/3ds/" + p.ID.String() + "?again=1"
	}},
	{"unknown", func(*world, string) string { return "/pay/01a0b6d4-0000-7000-8000-000000000000" }},
	{"no uuid", func(*world, string) string { return "/pay/x" }},
	{"nothing", func(*world, string) string { return "/basket" }},
}

// whileAsked begins something whose answer from the centre does not come before the test's end, or
// before the faults are cleared, and returns when the centre has been asked.
func (w *world) whileAsked(method string, c sim.Card, begin func()) {
	w.t.Helper()
	w.fault(sim.Fault{Method: method, Name: "withheld", PAN: c.PAN})
	over := make(chan struct{})
	go func() { defer close(over); begin() }()
	w.t.Cleanup(func() { w.sim.ClearFaults(); <-over })
	w.happened()
}

const visa = "4111 1111 1111 1111"

// paid is a payment that went well.
func (w *world) paid(language string, change ...func(*payment.Terms)) payment.Payment {
	w.t.Helper()
	p, c := w.prepare(language, change...), w.card("ok")
	v := w.visitor()
	v.pay(p, c)
	v.enter(p, w.code(c))
	if p = w.payment(p.ID); p.State != payment.Captured && p.State != payment.Held {
		w.t.Fatalf("the payment is %s and not paid; the last page was %d %s", p.State, v.last.status, v.last.path)
	}
	return p
}

func (w *world) decide(p payment.Payment, accept payment.Accept, amount money.Amount) {
	w.t.Helper()
	if _, err := w.gateway.Decide(context.Background(), p.ID, accept, amount, payment.ByMerchant); err != nil {
		w.t.Fatal(err)
	}
}

// lost has a payment be one that waited for its payer in a backup that was restored.
func (w *world) lost(p payment.Payment) payment.Payment {
	w.t.Helper()
	change, err := w.store.Update(context.Background(), p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
		return payment.Begin(p, payment.Reconcile{Restored: now}, now)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return change.Payment
}

func formatInt(n int64) string { return strconv.FormatInt(n, 10) }
