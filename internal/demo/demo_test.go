package demo

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/gateway"
	"holdfast/internal/merchant"
	"holdfast/internal/notify"
	core "holdfast/internal/payment"
	"holdfast/internal/processor/humo"
	"holdfast/internal/processor/rbs"
	"holdfast/internal/processor/svgate"
	"holdfast/internal/sim"
	"holdfast/internal/store"
	"holdfast/internal/vault"
	"holdfast/internal/web"
	"holdfast/internal/web/api"
	"holdfast/internal/web/pages"
)

// world is a gateway, a simulator and a shop on loopback ports, as the command starts them.
type world struct {
	t             *testing.T
	gateway, sim  string
	shop          string
	normal, hasty Credentials
	centre        *sim.Sim
	demo          *Shop
}

const testHold = 5 * time.Second // the walk looks whether the money is held before they are over

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, centre: sim.New(sim.Config{Seed: 1})}
	log := slog.New(slog.DiscardHandler)
	serve := func(h http.Handler) string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := web.Server(h, log)
		go server.Serve(listener)
		t.Cleanup(func() { server.Close() })
		return "http://" + listener.Addr().String()
	}
	w.sim = serve(w.centre.Handler())

	dir := t.TempDir()
	s, err := store.Open(store.Config{Dir: dir, Serve: true, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := vault.Open(filepath.Join(dir, "holdfast.key"))
	if err != nil {
		t.Fatal(err)
	}
	uzcard, err := svgate.New(svgate.Config{
		Endpoint: w.sim + "/svgate", Login: "holdfast", Password: "holdfast", MerchantID: "90000001", TerminalID: "91000001", Port: 1, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	otherwise, err := humo.New(humo.Config{
		Endpoint: w.sim + "/humo", Login: "holdfast", Password: "holdfast", MerchantID: "90000001", TerminalID: "91000001", PointCode: "100010", CentreID: "HOLDFAST",
		MiddlewareURL: w.sim + "/humo-middleware", MiddlewareToken: "holdfast", OTP: humo.Gateway, SMSURL: w.sim + "/sms/send", SMSToken: "holdfast",
		CodeKey: "a key of thirty-two bytes or more", Log: log,
		Seal:   func(plain []byte) ([]byte, error) { return keys.Seal("card", plain) },
		Unseal: func(sealed []byte) ([]byte, error) { return keys.Unseal("card", sealed) },
	})
	if err != nil {
		t.Fatal(err)
	}
	// The pages and the API want to know where they are before they are served.
	var answers http.Handler
	w.gateway = serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { answers.ServeHTTP(rw, r) }))
	address := func(below string) func(core.ID) string {
		return func(id core.ID) string { return w.gateway + "/3ds/" + id.String() + below }
	}
	bank, err := rbs.New(rbs.Config{
		Endpoint: w.sim + "/rbs", Login: "holdfast", Password: "holdfast", ReturnURL: address("/back"), MethodNotificationURL: address("/method"), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	centres := gateway.Centres{{Processor: uzcard, Method: core.Uzcard}, {Processor: otherwise, Method: core.Humo}, {Processor: bank, Method: core.BankCard}}
	g := gateway.New(gateway.Config{Store: s, Live: centres, Test: centres, HoldFor: 30 * time.Minute, Log: log})
	notifier := notify.New(notify.Config{
		Store: s, Decide: g.Decide, AllowPrivate: true, Log: log,
		UniqueKey: func(shop merchant.Shop) (string, error) {
			key, err := keys.Unseal("unique_key", shop.UniqueKey)
			return string(key), err
		},
	})
	ctx, end := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	loops.Go(func() { g.Run(ctx) })
	loops.Go(func() { notifier.Run(ctx) })
	t.Cleanup(func() {
		end()
		loops.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})

	answers = web.Site{
		API:   api.New(api.Config{Gateway: g, Store: s, PayURL: w.gateway, Log: log}),
		Calls: api.Calls, Pages: pages.New(pages.Config{Gateway: g, Store: s, BaseURL: w.gateway, Log: log}), Paths: pages.Paths, Ready: s.Err, Log: log,
	}.Handler()

	create := func(settings merchant.Settings) Credentials {
		secret, key := merchant.NewSecret(), merchant.NewSecret()
		sealed, err := keys.Seal("unique_key", []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		settings.Tariff.Fee.Rate = 20_000 // 2 %
		shop, err := s.CreateShop(ctx, merchant.Shop{Name: "test", SecretHash: secret.Hash(), UniqueKey: sealed, Settings: settings})
		if err != nil {
			t.Fatal(err)
		}
		return Credentials{shop.ID, holdfast.Secret(secret), holdfast.Secret(key)}
	}
	w.normal = create(merchant.Settings{})
	hold := int64(testHold / time.Second)
	w.hasty = create(merchant.Settings{HoldSeconds: map[string]int64{"uzcard": hold, "humo": hold, "bank_card": hold}})

	var shop http.Handler
	w.shop = serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { shop.ServeHTTP(rw, r) }))
	w.demo = NewShop(Config{Gateway: w.gateway, Sim: w.sim, PublicURL: w.shop, Credentials: w.normal})
	shop = w.demo.Handler()
	return w
}

// until waits for a condition.
func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !is() {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s has not happened", what)
		}
		time.Sleep(50 * time.Millisecond) // the condition is looked at again, until the deadline
	}
}

// standing is a card in the centre's books.
func (w *world) standing(pan string) (balance, held int64) {
	w.t.Helper()
	for _, c := range w.centre.Books().Cards {
		if c.PAN == pan {
			return c.Balance, c.Held
		}
	}
	w.t.Fatalf("no card %s", pan)
	return 0, 0
}

// ---- the walk ---------------------------------------------------------------

func (w *world) walk() WalkConfig {
	return WalkConfig{Gateway: w.gateway, Sim: w.sim, Credentials: w.normal, ShortHold: w.hasty, ShortHoldTime: testHold}
}

func TestWalk(t *testing.T) {
	w := newWorld(t)
	cfg := w.walk()
	cfg.Methods = []string{holdfast.MethodUzcard, holdfast.MethodHumo, holdfast.MethodBankCard}
	var out bytes.Buffer
	if err := Walk(t.Context(), cfg, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	text := out.String()
	for _, want := range []string{
		"(a) Scheme of work when confirming the entire amount, Humo/Uzcard (PC)", " 23. Redirected the client back", " 24. The PC returned the remaining funds",
		"(e) Nobody confirms", `"octo_secret":"••••••"`, `"smsKey":"••••••"`, `"pan":"860049******6478"`, "code ••••••",
		`"accept_status":"wait_user_action"`, `"final_amount":180000.00`, `"error":10`,
		"Scheme of work when confirming the entire amount, Visa/MC (PC)", " 21. The PC returned the remaining funds", `"transType":"3DS"`,
		`"shop_refund_id":`, `"error":22`, `"error":119`, "In a hidden frame the bank looks at the browser",
		"Everything was as it should be",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the story does not say %q", want)
		}
	}
	for row, figures := range map[string]string{
		"(b) partial confirmation, Uzcard":  "250 000.00 180 000.00 70 000.00 0.00 3 600.00",
		"(b) partial confirmation, Visa/MC": "250 000.00 180 000.00 70 000.00 0.00 3 600.00",
		"(c) one-stage, Visa/MC":            "0.00 250 000.00 0.00 0.00 5 000.00",
		"(e) nobody confirms, Uzcard":       "250 000.00 0.00 250 000.00 0.00 0.00",
		"(f) refund, Uzcard":                "250 000.00 250 000.00 0.00 250 000.00",
		"(f) refund, Humo":                  "250 000.00 250 000.00 0.00 250 000.00",
		"(f) refund, Visa/MC":               "250 000.00 250 000.00 0.00 250 000.00",
	} {
		if table := strings.Join(strings.Fields(text), " "); !strings.Contains(table, row+" "+figures+" ") {
			t.Errorf("the table does not say %q of %s", figures, row)
		}
	}
	w.keepsQuiet("the story", text)
	if strings.Contains(text, "\x1b") {
		t.Error("the story is coloured")
	}
	if t.Failed() {
		t.Log(text)
	}
}

// keepsQuiet sees to it that no secret, card number or code is in a text.
func (w *world) keepsQuiet(what, text string) {
	w.t.Helper()
	for _, c := range []Credentials{w.normal, w.hasty} {
		if strings.Contains(text, string(c.Secret)) || strings.Contains(text, string(c.UniqueKey)) {
			w.t.Errorf("%s shows a secret", what)
		}
	}
	for _, c := range w.centre.Cards() {
		if strings.Contains(text, c.PAN) {
			w.t.Errorf("%s shows the card number %s", what, c.PAN)
		}
	}
	for _, m := range w.centre.SMS("") {
		if regexp.MustCompile(`\b` + m.Code + `\b`).MatchString(text) {
			w.t.Errorf("%s shows the code %s", what, m.Code)
		}
	}
}

// What is wrong ends the walk with the step and what was expected.
func TestWalkFindsFaults(t *testing.T) {
	w := newWorld(t)
	wrongSecret := w.walk()
	wrongSecret.Secret = "another"
	wrongKey := w.walk()
	wrongKey.UniqueKey = "another"
	noSimulator := w.walk()
	noSimulator.Sim = w.gateway
	for want, cfg := range map[string]WalkConfig{
		"flow (a) full confirmation, Uzcard, step 3 (The partner initiates the transaction using the prepare_payment method): holdfast: prepare_payment: Wrong secret (error 2)": wrongSecret,
		"step 8 (Our BE confirms): the shop's answer to a notification (HTTP 401: its signature does not fit): expected 200, got 401":                                            wrongKey,
		"cannot begin: the simulator answers GET /sim/cards with HTTP 404":                                                                                                       noSimulator,
	} {
		err := Walk(t.Context(), cfg, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Walk(ended, w.walk(), io.Discard); err == nil {
		t.Error("a walk that was ended is fine")
	}
	// A bank that takes the money of a hold and says otherwise does not get past the books.
	if err := w.centre.AddFault(sim.Fault{Method: "hold.dismiss.charge", Name: "answer_lost", Times: 1}); err != nil {
		t.Fatal(err)
	}
	err := Walk(t.Context(), w.walk(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "step 18") || !strings.Contains(err.Error(), "error 109") {
		t.Error(err)
	}
}

// ---- the shop ---------------------------------------------------------------

// browser is a payer's, or a merchant's: it follows links and sends the forms of the page it is on.
type browser struct {
	t      *testing.T
	http   *http.Client
	at     *url.URL
	status int
	page   string
}

func (w *world) browser() *browser {
	return &browser{t: w.t, http: &http.Client{Timeout: 2 * time.Minute}}
}

func (b *browser) take(response *http.Response, err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 8<<20))
	if err != nil {
		b.t.Fatal(err)
	}
	b.at, b.status, b.page = response.Request.URL, response.StatusCode, string(text)
}

func (b *browser) open(address string) {
	b.t.Helper()
	if b.at != nil {
		u, err := b.at.Parse(address)
		if err != nil {
			b.t.Fatal(err)
		}
		address = u.String()
	}
	b.take(b.http.Get(address))
}

// see expects a status and texts of the page, as a person reads them.
func (b *browser) see(status int, texts ...string) {
	b.t.Helper()
	shown := html.UnescapeString(b.page)
	if b.status != status {
		b.t.Fatalf("%s: HTTP %d, want %d\n%s", b.at, b.status, status, shown)
	}
	for _, text := range texts {
		if !strings.Contains(shown, text) {
			b.t.Fatalf("%s does not show %q\n%s", b.at, text, shown)
		}
	}
}

var (
	actionTag = regexp.MustCompile(`(?s)<form[^>]*action="([^"]*)"[^>]*>(.*?)</form>`)
	fieldTag  = regexp.MustCompile(`<(input|button)\b([^>]*)>`)
	selectTag = regexp.MustCompile(`(?s)<select name="([^"]*)">(.*?)</select>`)
	optionTag = regexp.MustCompile(`<option([^>]*)>([^<]*)`)
	linkTag   = regexp.MustCompile(`(?s)<a [^>]*href="([^"]*)"[^>]*>(.*?)</a>`)
	tags      = regexp.MustCompile(`<[^>]*>`)
)

func valueOf(tag, name string) (string, bool) {
	m := regexp.MustCompile(` ` + name + `="([^"]*)"`).FindStringSubmatch(tag)
	if m == nil {
		return "", false
	}
	return html.UnescapeString(m[1]), true
}

// send fills in the form whose action ends so, and sends it. Buttons count only if they are filled in.
func (b *browser) send(action string, fill map[string]string) {
	b.t.Helper()
	for _, form := range actionTag.FindAllStringSubmatch(b.page, -1) {
		if !strings.HasSuffix(form[1], action) {
			continue
		}
		values := url.Values{}
		for _, field := range fieldTag.FindAllStringSubmatch(form[2], -1) {
			name, _ := valueOf(field[2], "name")
			value, _ := valueOf(field[2], "value")
			kind, _ := valueOf(field[2], "type")
			if name == "" || field[1] == "button" || kind == "radio" && !strings.Contains(field[2], " checked") {
				continue
			}
			values.Set(name, value)
		}
		for _, field := range selectTag.FindAllStringSubmatch(form[2], -1) {
			for _, option := range optionTag.FindAllStringSubmatch(field[2], -1) {
				if strings.Contains(option[1], " selected") {
					value, ok := valueOf(option[1], "value")
					if !ok {
						value = option[2]
					}
					values.Set(field[1], value)
				}
			}
		}
		for name, value := range fill {
			values.Set(name, value)
		}
		target, err := b.at.Parse(form[1])
		if err != nil {
			b.t.Fatal(err)
		}
		request, err := http.NewRequest("POST", target.String(), strings.NewReader(values.Encode()))
		if err != nil {
			b.t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Sec-Fetch-Site", "same-origin")
		b.take(b.http.Do(request))
		return
	}
	b.t.Fatalf("%s has no form %s\n%s", b.at, action, b.page)
}

// follow opens the link with the text.
func (b *browser) follow(text string) {
	b.t.Helper()
	for _, link := range linkTag.FindAllStringSubmatch(b.page, -1) {
		if strings.Contains(html.UnescapeString(tags.ReplaceAllString(link[2], "")), text) {
			b.open(html.UnescapeString(link[1]))
			return
		}
	}
	b.t.Fatalf("%s has no link %q\n%s", b.at, text, b.page)
}

// payByCode buys the usual cart and enters the code; the browser is then at /return. It gives the payment's name and the card.
func (w *world) payByCode(b *browser, card string, fill map[string]string) (id, pan string) {
	w.t.Helper()
	b.at = nil
	b.open(w.shop + "/")
	b.see(200, "Teapot from Rishtan")
	b.send("/buy", fill)
	b.see(200, "Uzcard card number", "233\u202f000.00 UZS", "Test cards")
	id = strings.TrimPrefix(b.at.Path, "/checkout/")
	b.follow(card)
	pan = w.chosen(b)
	b.send("/checkout/"+id, nil)
	b.see(200, "Enter the code", "+998")
	b.send("/code", map[string]string{"code": w.code(pan)})
	return id, pan
}

// chosen is the card number that the form was filled in with.
func (w *world) chosen(b *browser) string {
	w.t.Helper()
	for _, field := range fieldTag.FindAllStringSubmatch(b.page, -1) {
		if name, _ := valueOf(field[2], "name"); name == "pan" {
			pan, _ := valueOf(field[2], "value")
			if len(pan) == 16 {
				return pan
			}
		}
	}
	w.t.Fatalf("no test card is filled in\n%s", b.page)
	return ""
}

// code is what the newest SMS to the card's phone says.
func (w *world) code(pan string) string {
	w.t.Helper()
	for _, c := range w.centre.Cards() {
		if c.PAN == pan {
			if messages := w.centre.SMS(c.Phone); len(messages) > 0 {
				return messages[0].Code
			}
		}
	}
	w.t.Fatalf("no SMS for %s", pan)
	return ""
}

// heard waits until a notification of the status is in the payment's log.
func (w *world) heard(id, status string) {
	w.t.Helper()
	w.until("the notification "+status, func() bool {
		for _, x := range w.demo.find(id).exchanges() {
			if x.Incoming && x.Status == 200 && x.Brief() == status {
				return true
			}
		}
		return false
	})
}

const teapotAndTea = 233_000_00

func TestShopTwoStage(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	id, pan := w.payByCode(b, "6478 works", nil)
	before, _ := w.standing(pan)
	b.see(200, "Reserved on your card")
	w.heard(id, holdfast.StatusWaitingForCapture)

	b.follow("See it as the merchant")
	b.see(200, "waiting for capture", "Capture all", "What was said", "check_sms_key", "verificationInfo", "notification", `"smsKey": "••••••"`, `"pan": "860049******6478"`)
	w.keepsQuiet("the payment's page", b.page)

	// What cannot be read as a sum, or is more than is held, changes nothing.
	b.send("/capture", map[string]string{"how": "part", "amount": "lots"})
	b.see(422, "sum", "Capture all", `value="lots"`)
	b.send("/capture", map[string]string{"how": "part", "amount": "1 000 000"})
	b.see(422, "error 120", "Capture all")
	b.send("/capture", map[string]string{"how": "part", "amount": "185 000,00"})
	b.see(200, "succeeded", "181\u202f300.00 UZS", "set_accept", "Refund")
	if balance, held := w.standing(pan); balance != before-185_000_00 || held != 0 {
		t.Errorf("the card has %d with %d held, it had %d", balance, held, before)
	}
	w.heard(id, holdfast.StatusSucceeded)
	b.open("/payments/" + id)
	var order []string
	for _, x := range w.demo.find(id).exchanges() {
		order = append(order, x.Name+" "+x.Brief())
	}
	got := strings.Join(order, ", ")
	for _, want := range []string{"prepare_payment created, pay created", "set_accept error 120", "set_accept succeeded", "notification wait_user_action", "notification succeeded"} {
		if !strings.Contains(got, want) {
			t.Errorf("the log has no %q: %s", want, got)
		}
	}
	w.keepsQuiet("the payment's page", b.page)

	// The payer who comes again sees that it is paid.
	for _, path := range []string{"/checkout/" + id, "/checkout/" + id + "/code", "/return?id=" + id} {
		b.open(path)
		b.see(200, "Paid")
	}
	b.open("/payments")
	b.see(200, id, "Teapot from Rishtan, Green tea No. 95", "succeeded")
	b.open("/payments/" + id + "/version")
	b.see(200)
}

func TestShopCancelAndOneStage(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	id, pan := w.payByCode(b, "6478 works", nil)
	b.follow("See it as the merchant")
	b.send("/cancel", nil)
	b.see(200, "canceled")
	if strings.Contains(b.page, "Capture all") {
		t.Error("a canceled payment can be captured")
	}
	w.heard(id, holdfast.StatusCanceled)
	b.open("/return?id=" + id)
	b.see(200, "Not paid")
	if balance, held := w.standing(pan); held != 0 || balance != w.opening(pan) {
		t.Errorf("the card has %d with %d held", balance, held)
	}

	id, pan = w.payByCode(b, "6478 works", map[string]string{"stages": "one"})
	b.see(200, "Paid")
	if balance, held := w.standing(pan); held != 0 || balance != w.opening(pan)-teapotAndTea {
		t.Errorf("the card has %d with %d held", balance, held)
	}
	w.heard(id, holdfast.StatusSucceeded)
	b.follow("See it as the merchant")
	b.see(200, "one-stage", "228\u202f340.00 UZS")
}

func (w *world) opening(pan string) int64 {
	for _, c := range w.centre.Books().Cards {
		if c.PAN == pan {
			return c.Opening
		}
	}
	return 0
}

// The shop's answer to the notification may be the decision.
func TestShopDecidesByAnswer(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	for answer, status := range map[string]string{answerCapture: holdfast.StatusSucceeded, answerCancel: holdfast.StatusCanceled} {
		id, _ := w.payByCode(b, "6478 works", map[string]string{"answer": answer})
		w.heard(id, holdfast.StatusWaitingForCapture)
		w.heard(id, status)
		b.open("/payments/" + id)
		b.see(200, strings.ReplaceAll(status, "_", " "), fmt.Sprintf(`"accept_status": %q`, answer))
		if strings.Contains(b.page, "set_accept") {
			t.Error("set_accept was called")
		}
	}
}

func TestShopWrongCodeAndAnotherCard(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	b.open(w.shop + "/")
	b.send("/buy", nil)
	id := strings.TrimPrefix(b.at.Path, "/checkout/")

	// What the gateway refuses at once: the form comes back, without the card that was typed.
	b.send("/checkout/"+id, map[string]string{"pan": "8600 4954 7331 6479", "exp": "12/30"})
	b.see(422, "Uzcard card number")
	if strings.Contains(b.page, "8600 4954 7331 6479") || strings.Contains(b.page, "8600495473316479") {
		t.Error("the card came back")
	}
	b.follow("expired")
	b.send("/checkout/"+id, nil)
	b.see(422, "expired", "Uzcard card number")

	// A card without money: the code is right, the hold is refused, and another card may pay.
	b.follow("insufficient funds")
	poor := w.chosen(b)
	b.send("/checkout/"+id, nil)
	b.see(200, "Enter the code")
	b.send("/code", map[string]string{"code": w.code(poor)})
	b.see(422, "not enough money", "Uzcard card number")

	b.follow("6478 works")
	pan := w.chosen(b)
	b.send("/checkout/"+id, nil)
	first := w.code(pan)
	wrong := "000000"
	if first == wrong {
		wrong = "111111"
	}
	b.send("/code", map[string]string{"code": wrong})
	b.see(422, "The code is wrong", "Enter the code")
	if b.send("/code", map[string]string{"code": "abc"}); b.status != 422 {
		t.Errorf("HTTP %d", b.status)
	}

	// A new code: the form asks for the card again, which the test card fills in.
	b.send("/resend", nil)
	b.see(200, "A new code is on its way", "Enter the code")
	if second := w.code(pan); second == first {
		t.Error("the new code is the old one")
	}
	b.send("/code", map[string]string{"code": w.code(pan)})
	b.see(200, "Reserved on your card")
	w.keepsQuiet("the payment's page", func() string { b.open("/payments/" + id); return b.page }())
}

// Three wrong codes end the payment.
func TestShopAttemptsUsedUp(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	b.open(w.shop + "/")
	b.send("/buy", nil)
	b.follow("6478 works")
	pan := w.chosen(b)
	b.send(b.at.Path, nil)
	wrong := "000000"
	if w.code(pan) == wrong {
		wrong = "111111"
	}
	for range 2 {
		b.send("/code", map[string]string{"code": wrong})
		b.see(422, "The code is wrong")
	}
	b.send("/code", map[string]string{"code": wrong})
	b.see(200, "Not paid")
}

// A bank that does not answer leaves the payer at a page that looks again, and nothing is guessed.
func TestShopInDoubt(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	if err := w.centre.AddFault(sim.Fault{Method: "hold.create", Name: "answer_lost", Times: 1}); err != nil {
		t.Fatal(err)
	}
	id, _ := w.payByCode(b, "6478 works", nil)
	b.see(200, "has not answered yet", "do not pay again", `http-equiv="refresh"`)
	w.until("the hold is found again", func() bool {
		b.open("/return?id=" + id)
		return strings.Contains(b.page, "Reserved on your card")
	})
}

// The gateway's own page is where octo_pay_url leads.
func TestShopGatewayPage(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	b.open(w.shop + "/")
	b.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	request := map[string]string{"page": "gateway", "language": "ru"}
	b.send("/buy", request)
	if b.status != 303 {
		t.Fatalf("HTTP %d\n%s", b.status, b.page)
	}
	state, _ := w.demo.newest(1)[0].known()
	if !strings.HasSuffix(state.PayURL, "?language=ru") || !strings.HasPrefix(state.PayURL, w.gateway+"/pay/") {
		t.Error(state.PayURL)
	}
}
