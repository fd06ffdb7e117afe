package sim

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// shared is the ok card that everybody may use: its code is always its last six digits.
const (
	sharedPAN  = "8600313260861293"
	sharedCode = "861293"
	otherPAN   = "8600495473316478"
	home       = `"merchantId":"90050017182","terminalId":"91419475"`
)

// clock is a clock that only a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a simulator behind real HTTP, at 17:00:00 on 23 November 2026 in Tashkent.
type world struct {
	t      testing.TB
	sim    *Sim
	clock  *clock
	server *httptest.Server
}

func newWorld(t testing.TB) *world {
	t.Helper()
	c := &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	return newWorldOf(t, Config{}, c)
}

// newWorldOf is one that is set up otherwise.
func newWorldOf(t testing.TB, cfg Config, c *clock) *world {
	t.Helper()
	cfg.Now, cfg.Seed, cfg.SlowAnswer = c.Now, 1, 20*time.Millisecond
	s := New(cfg)
	t.Cleanup(s.Close)
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return &world{t, s, c, server}
}

// first is the first card of a scheme with a behaviour; "ok" gives the one that payers share.
func (w *world) first(scheme, behaviour string) *account {
	w.t.Helper()
	for _, a := range w.sim.cards {
		if a.scheme == scheme && a.behaviour.name == behaviour {
			return a
		}
	}
	w.t.Fatalf("no card of %s is called %s", scheme, behaviour)
	return nil
}

// post sends a body to SVGate as it stands.
func (w *world) post(body string) (*http.Response, string, error) {
	r, err := http.NewRequest("POST", w.server.URL+"/svgate", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.SetBasicAuth("holdfast", "holdfast")
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	return w.do(r)
}

func (w *world) do(r *http.Request) (*http.Response, string, error) {
	response, err := w.server.Client().Do(r)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, string(body), err
}

// get reads a page or a /sim answer.
func (w *world) get(path string) (int, string) {
	w.t.Helper()
	r, err := http.NewRequest("GET", w.server.URL+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	response, body, err := w.do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.StatusCode, body
}

// script sends a /sim request.
func (w *world) script(method, path, body string) (int, string) {
	w.t.Helper()
	r, err := http.NewRequest(method, w.server.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	response, answer, err := w.do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.StatusCode, answer
}

// ask calls a method with id 7 and gives the result, or the error's code.
func (w *world) ask(method, params string) (string, int) {
	w.t.Helper()
	response, body, err := w.post(fmt.Sprintf(`{"jsonrpc":"2.0","method":%q,"id":7,"params":%s}`, method, params))
	if err != nil {
		w.t.Fatalf("%s: %v", method, err)
	}
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		w.t.Fatalf("%s: HTTP %d, %s: %s", method, response.StatusCode, response.Header.Get("Content-Type"), body)
	}
	var envelope struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Result  json.RawMessage `json:"result"`
		Error   *struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(body), &envelope); err != nil {
		w.t.Fatalf("%s: %v: %s", method, err, body)
	}
	if envelope.Version != "2.0" || string(envelope.ID) != "7" || (envelope.Result == nil) == (envelope.Error == nil) {
		w.t.Fatalf("%s: wrong envelope: %s", method, body)
	}
	if envelope.Error != nil {
		if envelope.Error.Code >= 0 || envelope.Error.Message == "" {
			w.t.Fatalf("%s: wrong error: %s", method, body)
		}
		return "", envelope.Error.Code
	}
	return string(envelope.Result), 0
}

// must calls a method that has to succeed and reads its result.
func (w *world) must(method, params string, into any) string {
	w.t.Helper()
	result, code := w.ask(method, params)
	if code != 0 {
		w.t.Fatalf("%s: refused with %d", method, code)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(result), into); err != nil {
			w.t.Fatalf("%s: %v: %s", method, err, result)
		}
	}
	return result
}

// refused calls a method that has to be refused with a code.
func (w *world) refused(code int, method, params string) {
	w.t.Helper()
	if result, got := w.ask(method, params); got != code {
		w.t.Errorf("%s %s: got %d %s, want %d", method, params, got, result, code)
	}
}

func (w *world) otp(pan string) int64 {
	w.t.Helper()
	var a struct{ ID int64 }
	w.must("cards.new.otp", otpParams(w.sim, pan), &a)
	return a.ID
}

func otpParams(s *Sim, pan string) string {
	return fmt.Sprintf(`{"card":{"pan":%q,"expiry":%q},"serviceName":"holdfast"}`, pan, s.byPAN[pan].exp)
}

// token verifies a card by the code in its SMS and gives its card id.
func (w *world) token(pan string) string {
	w.t.Helper()
	id := w.otp(pan)
	var a struct{ ID string }
	w.must("cards.new.verify", fmt.Sprintf(`{"otp":{"id":%d,"code":%q}}`, id, w.sim.SMS(w.sim.byPAN[pan].phone)[0].Code), &a)
	return a.ID
}

func holdParams(token string, amount int64, minutes int) string {
	return fmt.Sprintf(`{"hold":{"cardId":%q,%s,"amount":%d,"time":%d}}`, token, home, amount, minutes)
}

func captureParams(hold int64, ext string, amount int64) string {
	return fmt.Sprintf(`{"hold":{"holdId":%d,"ext":%q,%s,"port":443,"stan":"000017","amount":%d,"date12":"261123170102"}}`, hold, ext, home, amount)
}

func dismissParams(hold, amount int64) string {
	return fmt.Sprintf(`{"hold":{"holdId":%d,%s,"amount":%d}}`, hold, home, amount)
}

func payParams(token, ext string, amount int64) string {
	return fmt.Sprintf(`{"tran":{"purpose":"payment","receiverId":"r1","cardId":%q,"amount":%d,"commission":0,"currency":"860","ext":%q,%s}}`, token, amount, ext, home)
}

func partialParams(tran, ext string, amount int64) string {
	return fmt.Sprintf(`{"tran":{"tranId":%q,"reverseAmount":%d,"ext":%q}}`, tran, amount, ext)
}

func (w *world) hold(token string, amount int64) int64 {
	w.t.Helper()
	var a struct{ ID int64 }
	w.must("hold.create", holdParams(token, amount, 30), &a)
	return a.ID
}

type tran struct {
	ID, RefNum, Ext, Status, Stan, TranType string
	Amount, Resp                            int64
}

func (w *world) capture(hold int64, ext string, amount int64) tran {
	w.t.Helper()
	var a tran
	w.must("hold.dismiss.charge", captureParams(hold, ext, amount), &a)
	return a
}

func (w *world) pay(token, ext string, amount int64) tran {
	w.t.Helper()
	var a tran
	w.must("trans.pay.purpose", payParams(token, ext, amount), &a)
	return a
}

// balance is what the books say of a card: its balance, less what it began with, and what is held.
func (w *world) balance(pan string) (moved, held int64) {
	w.t.Helper()
	for _, c := range w.sim.Books().Cards {
		if c.PAN == pan {
			return c.Balance - c.Opening, c.Held
		}
	}
	w.t.Fatalf("no card %s", pan)
	return 0, 0
}

func (w *world) wantBalance(pan string, moved, held int64) {
	w.t.Helper()
	if m, h := w.balance(pan); m != moved || h != held {
		w.t.Errorf("card *%s: moved %d held %d, want %d and %d", pan[12:], m, h, moved, held)
	}
	checkBooks(w.t, w.sim.Books())
}

// checkBooks works every balance out from the operations alone and compares.
func checkBooks(t testing.TB, b Books) {
	t.Helper()
	// Operations show the last four digits only, so cards of a scheme that share them are added up.
	type key struct{ scheme, name string }
	moved, held := map[key]int64{}, map[key]int64{}
	refunded := map[key]int64{}
	taken := map[int64]int64{} // by hold
	ended := map[int64]int{}
	for _, op := range b.Operations {
		card := key{op.Scheme, op.PANLast}
		switch op.Kind {
		case "charge", "capture":
			moved[card] -= op.Amount
			if op.Refunded < 0 || op.Refunded > op.Amount {
				t.Errorf("%s: refunded %d of %d", op.Reference, op.Refunded, op.Amount)
			}
		case "refund":
			moved[card] += op.Amount
			refunded[key{op.Scheme, op.Of}] += op.Amount
		case "hold":
			live := op.Amount - op.Captured - op.Released
			held[card] += live
			if (live != 0) != (op.State == "held") || op.Released != 0 && op.State == "held" {
				t.Errorf("hold %d: %d live in state %s", op.HoldID, live, op.State)
			}
		}
		switch op.Kind {
		case "capture":
			taken[op.HoldID] += op.Amount
		case "void", "lapse":
			ended[op.HoldID]++
		}
	}
	for _, op := range b.Operations {
		switch op.Kind {
		case "hold":
			n := ended[op.HoldID]
			if taken[op.HoldID] != op.Captured || n > 1 || (n == 1) != (op.State == "dismissed" || op.State == "lapsed") {
				t.Errorf("hold %d is %s, captured %d (%d by its captures), and ended %d times", op.HoldID, op.State, op.Captured, taken[op.HoldID], n)
			}
		case "charge", "capture":
			if got := refunded[key{op.Scheme, op.Reference}]; got != op.Refunded {
				t.Errorf("%s: its refunds sum to %d, it says %d", op.Reference, got, op.Refunded)
			}
		}
	}
	for _, c := range b.Cards {
		if c.Held < 0 || c.Held > c.Balance {
			t.Errorf("card %s: balance %d, held %d", c.PAN, c.Balance, c.Held)
		}
		card := key{c.Scheme, c.PAN[12:]}
		moved[card] -= c.Balance - c.Opening
		held[card] -= c.Held
	}
	for card := range moved {
		if moved[card] != 0 || held[card] != 0 {
			t.Errorf("cards *%s of %s: operations and balances differ by %d, and by %d held", card.name, card.scheme, moved[card], held[card])
		}
	}
}

func TestCardBook(t *testing.T) {
	w := newWorld(t)
	status, body := w.get("/sim/cards")
	var cards []Card
	if err := json.Unmarshal([]byte(body), &cards); err != nil || status != 200 {
		t.Fatal(status, err)
	}
	if len(cards) != len(w.sim.Cards()) {
		t.Errorf("%d cards over HTTP, %d in Go", len(cards), len(w.sim.Cards()))
	}
	seen, phones, behaviours := map[string]bool{}, map[string]bool{}, map[string]int{}
	ok := map[string]int{}
	for _, c := range cards {
		if len(c.PAN) != 16 || !validLuhn(c.PAN) || seen[c.PAN] {
			t.Errorf("%s: length, Luhn digit or uniqueness is wrong", c.PAN)
		}
		seen[c.PAN] = true
		if len(c.Phone) != 12 || !strings.HasPrefix(c.Phone, "99890123") || phones[c.Phone] {
			t.Errorf("%s: phone %s", c.PAN, c.Phone)
		}
		phones[c.Phone] = true
		if want := map[bool]string{true: "2012", false: "3012"}[c.Behaviour == "expired"]; c.Exp != want {
			t.Errorf("%s: expires %s, want %s", c.PAN, c.Exp, want)
		}
		if wantCVC := c.Scheme == visa || c.Scheme == mastercard; (c.CVC != "") != wantCVC {
			t.Errorf("%s: cvc %q for %s", c.PAN, c.CVC, c.Scheme)
		}
		if c.Behaviour == "ok" {
			want, fixed := int64(ordinaryBalance), ""
			if ok[c.Scheme] == 0 {
				want, fixed = sharedBalance, c.PAN[10:]
			}
			if c.Balance != want || c.FixedOTP != fixed {
				t.Errorf("%s: balance %d, fixed code %q", c.PAN, c.Balance, c.FixedOTP)
			}
			ok[c.Scheme]++
		} else if c.Scheme == uzcard {
			behaviours[c.Behaviour]++
		} else {
			behaviours[c.Scheme+" "+c.Behaviour]++
		}
		if c.Meaning == "" || c.Holder == "" {
			t.Errorf("%s: says nothing of itself", c.PAN)
		}
	}
	for _, scheme := range []string{uzcard, humo, visa, mastercard} {
		if ok[scheme] < 21 {
			t.Errorf("%s has %d ok cards", scheme, ok[scheme])
		}
	}
	for name, n := range behaviours {
		if n != 1 {
			t.Errorf("%d cards are called %s", n, name)
		}
	}
	for _, name := range []string{
		"insufficient_funds", "blocked", "expired", "no_sms", "not_found", "lost", "stolen", "limit_exceeded", "fraud", "wallet_down",
		"unknown_then_done", "unknown_not_done", "switch_timeout", "issuer_unavailable", "hold_limit", "declined_in_result", "refund_refused",
		"capture_unknown_then_done", "void_unknown_then_done", "refund_unknown_then_done", "sms_not_sent", "otp_always_wrong", "otp_always_expired",
	} {
		if behaviours[name] == 0 {
			t.Errorf("no card is called %s", name)
		}
	}
	for _, name := range []string{
		"humo insufficient_funds", "humo expired", "humo blocked", "humo lost", "humo no_sms", "humo pin_tries", "humo limit_exceeded", "humo issuer_down", "humo unknown_then_done",
		"humo unknown_not_done", "humo capture_unknown_then_done", "visa frictionless", "visa challenge_fails", "mastercard attempt", "mastercard abandoned", "visa issuer_down",
	} {
		if behaviours[name] != 1 {
			t.Errorf("%d cards are called %s", behaviours[name], name)
		}
	}
	firsts := map[string]string{}
	for _, c := range cards {
		if firsts[c.Scheme] == "" {
			firsts[c.Scheme] = c.PAN
		}
	}
	if want := (map[string]string{uzcard: sharedPAN, humo: magicPAN("986014", 0, 0, 1), visa: "4111111111111111", mastercard: "5555555555554444"}); !maps.Equal(firsts, want) {
		t.Errorf("the first cards are %v, want %v", firsts, want)
	}
	for pan, name := range map[string]string{
		magicPAN("986014", 3, 0, 116+5): "limit_exceeded", magicPAN("986014", 3, 1, 911): "unknown_then_done", magicPAN("986014", 3, 0, 907): "issuer_down",
		magicPAN("400000", 7, 0, 1): "frictionless", magicPAN("555555", 3, 1, 907): "issuer_down", magicPAN("400000", 4, 1, 7): "capture_unknown_then_done",
	} {
		if a := w.sim.byPAN[pan]; a == nil || a.behaviour.name != name {
			t.Errorf("%s is not %s", pan, name)
		}
	}
	if cards[0].PAN != sharedPAN {
		t.Errorf("the first card is %s", cards[0].PAN)
	}
	// The rule that the page prints.
	if got := magicPAN("860014", 3, 1, 301); !seen[got] || w.sim.byPAN[got].behaviour.name != "unknown_then_done" {
		t.Errorf("%s is not the card that the rule says", got)
	}
	if a, b := New(Config{Now: w.clock.Now, Seed: 1}).Cards(), New(Config{Now: w.clock.Now, Seed: 2}).Cards(); fmt.Sprint(a) != fmt.Sprint(b) {
		t.Error("the card book depends on the seed")
	}
}

func TestSMSOverHTTP(t *testing.T) {
	w := newWorld(t)
	w.otp(sharedPAN)
	w.clock.move(time.Second)
	w.otp(otherPAN)
	w.clock.move(time.Second)
	w.otp(sharedPAN)
	phone := w.sim.byPAN[sharedPAN].phone
	read := func(path string) []Message {
		t.Helper()
		status, body := w.get(path)
		var m []Message
		if err := json.Unmarshal([]byte(body), &m); err != nil || status != 200 {
			t.Fatalf("%s: %d %v %s", path, status, err, body)
		}
		return m
	}
	if all := read("/sim/sms"); len(all) != 3 || all[0].Phone != phone || !all[0].At.After(all[1].At) || !all[1].At.After(all[2].At) {
		t.Errorf("not newest first: %v", all)
	}
	for _, asked := range []string{phone, "+" + phone, "%2B" + phone, url.QueryEscape("+998 90 123-45-00")} {
		m := read("/sim/sms?phone=" + asked)
		if len(m) != 2 || m[0].Code != sharedCode || !strings.Contains(m[0].Text, "code "+sharedCode) || !strings.HasPrefix(m[0].Text, "Holdfast Test Bank") {
			t.Errorf("phone=%s: %v", asked, m)
		}
	}
	if m := read("/sim/sms?limit=1"); len(m) != 1 {
		t.Errorf("limit=1 gave %d", len(m))
	}
	if _, body := w.get("/sim/sms?phone=998000000000"); body != "[]\n" {
		t.Errorf("nobody's phone: %s", body)
	}
	for _, wrong := range []string{"limit=0", "limit=x", "limit=20001", "phone=abc"} {
		if status, body := w.get("/sim/sms?" + wrong); status != 400 || !strings.Contains(body, strings.Split(wrong, "=")[0]) {
			t.Errorf("%s: %d %s", wrong, status, body)
		}
	}
}

func TestInboxKeepsTheNewest(t *testing.T) {
	cards := newCardBook(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	var in inbox
	send := func(card int, code uint32) { in.send(cards[card], code, time.Minute, time.UnixMilli(int64(code))) }
	send(1, 1)
	for i := range uint32(maxMessages) {
		send(0, i+2)
	}
	if len(in.ring) != maxMessages {
		t.Fatalf("%d messages are kept", len(in.ring))
	}
	if m := in.newest(cards, cards[1].phone, 10); len(m) != 0 {
		t.Errorf("an overwritten message came back: %v", m)
	}
	if m := in.newest(cards, cards[0].phone, 2*maxMessages); len(m) != maxMessages || m[0].Code != "020001" || m[maxMessages-1].Code != "000002" {
		t.Errorf("%d messages, from %v", len(m), m[0])
	}
	send(1, 77)
	if m := in.newest(cards, cards[1].phone, 10); len(m) != 1 || m[0].Code != "000077" {
		t.Errorf("%v", m)
	}
	if m := in.newest(cards, "", 2*maxMessages); len(m) != maxMessages || m[0].Code != "000077" || m[maxMessages-1].Code != "000003" {
		t.Errorf("%d messages in all, the last %v", len(m), m[len(m)-1])
	}
}

func TestClockAndReset(t *testing.T) {
	w := newWorld(t)
	token := w.token(sharedPAN)
	hold := w.hold(token, 5000)
	status, body := w.script("POST", "/sim/clock", `{"advance_seconds":1799}`)
	if status != 200 || !strings.Contains(body, "2026-11-23T12:29:59Z") {
		t.Errorf("%d %s", status, body)
	}
	w.wantBalance(sharedPAN, 0, 5000)
	w.script("POST", "/sim/clock", `{"advance_seconds":1}`)
	w.wantBalance(sharedPAN, 0, 0)
	for _, wrong := range []string{`{"advance_seconds":0}`, `{"advance_seconds":-5}`, `{}`, `{"seconds":5}`, `{"advance_seconds":"5"}`, `{"advance_seconds":1}{}`, ``, `{"advance_seconds":400000000}`} {
		if status, body := w.script("POST", "/sim/clock", wrong); status != 400 || !strings.Contains(body, `{"error":"`) {
			t.Errorf("%s: %d %s", wrong, status, body)
		}
	}
	ref, otp := w.pay(token, "e1", 100).RefNum, w.otp(sharedPAN)
	if err := w.sim.AddFault(Fault{Method: "*", Name: "garbage"}); err != nil {
		t.Fatal(err)
	}
	if status, _ := w.script("POST", "/sim/reset", ""); status != 200 {
		t.Errorf("reset: %d", status)
	}
	w.wantBalance(sharedPAN, 0, 0)
	if b := w.sim.Books(); len(b.Operations) != 0 || len(w.sim.SMS("")) != 0 || len(w.sim.Faults()) != 0 {
		t.Error("something outlived the reset")
	}
	if next := w.otp(sharedPAN); next <= otp {
		t.Errorf("OTP request %d after %d", next, otp)
	}
	if at := w.sim.SMS("")[0].At; !at.Equal(w.clock.now) {
		t.Errorf("the clock shows %v after the reset", at)
	}
	// Ids go on: what a gateway has stored must never come to mean something else.
	if next := w.hold(w.token(sharedPAN), 1); next <= hold {
		t.Errorf("hold id %d after %d", next, hold)
	}
	w.refused(codeHoldNotFound, "hold.get.id", fmt.Sprintf(`{"id":%d}`, hold))
	w.refused(codeSVNotFound, "trans.sv", fmt.Sprintf(`{"svId":%q}`, ref))
	if ref2 := w.pay(token, "e1", 100).RefNum; ref2 <= ref {
		t.Errorf("refNum %s after %s", ref2, ref)
	}
}

func TestHealthAndUnknownPaths(t *testing.T) {
	w := newWorld(t)
	if status, body := w.get("/healthz"); status != 200 || body != "ok\n" {
		t.Errorf("%d %s", status, body)
	}
	for path, want := range map[string]int{"/nothing": 404, "/sim": 404, "/sim/reset": 405, "/svgate": 405} {
		if status, _ := w.get(path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
}
