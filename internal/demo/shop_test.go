package demo

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast"
)

const (
	testSecret = "537da54b-835a-4968-9864-c2ae02c5902e"
	testKey    = "0f8fad5b-d9cb-469f-a165-70867728950e"
	testUUID   = "e3f40dc3-4955-412a-853a-2ddd28d3201f"
)

// lonely is a shop whose gateway does not answer.
func lonely() *Shop {
	return NewShop(Config{
		Gateway: "http://127.0.0.1:1", PublicURL: "http://shop.test/",
		Credentials: Credentials{ShopID: 7, Secret: testSecret, UniqueKey: testKey},
	})
}

func ask(h http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func wants(t *testing.T, w *httptest.ResponseRecorder, status int, texts ...string) {
	t.Helper()
	if w.Code != status {
		t.Errorf("HTTP %d, want %d", w.Code, status)
	}
	for _, text := range texts {
		if !strings.Contains(w.Body.String(), text) {
			t.Errorf("the page does not show %q:\n%s", text, w.Body)
		}
	}
}

func TestCatalogue(t *testing.T) {
	h := lonely().Handler()
	w := ask(h, "GET", "/", "")
	wants(t, w, 200, "<!doctype html>", `name="viewport"`, "Teapot from Rishtan", "185\u202f000.00", `action="/buy"`, "30 minutes")
	csp := w.Header().Get("Content-Security-Policy")
	if !strings.HasPrefix(csp, "default-src 'none'; style-src 'self'; script-src 'self';") || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%v", w.Header())
	}
	wants(t, ask(h, "GET", "/style.css", ""), 200, "prefers-color-scheme: dark")
	wants(t, ask(h, "GET", "/shop.js", ""), 200, "use strict")
	wants(t, ask(h, "GET", "/payments", ""), 200, "Nothing was sold yet")
	wants(t, ask(h, "GET", "/nowhere", ""), 404, "no such page")
	wants(t, ask(h, "GET", "/return?id=unknown", ""), 404, "does not know this payment")
	for _, path := range []string{"/payments/unknown", "/checkout/unknown", "/checkout/unknown/code"} {
		wants(t, ask(h, "GET", path, ""), 404, "does not know this payment")
	}
}

func TestBuyRefuses(t *testing.T) {
	h := lonely().Handler()
	good := "stages=two&method=uzcard&page=shop&language=en&answer=wait"
	for _, test := range []struct{ form, says string }{
		{good, "he cart is empty"},
		{good + "&count-tea=0", "he cart is empty"},
		{good + "&count-tea=6", "hoose 0 to 5 of Green tea"},
		{good + "&count-tea=-1", "hoose 0 to 5 of Green tea"},
		{good + "&count-tea=1e1", "hoose 0 to 5 of Green tea"},
		{strings.Replace(good, "uzcard", "%22%3E%3Cscript%3E", 1) + "&count-tea=1", "hoose method"},
		{"count-tea=1", "hoose stages"},
	} {
		w := ask(h, "POST", "/buy", test.form)
		wants(t, w, 422, test.says, `action="/buy"`)
		if strings.Contains(w.Body.String(), `"><script>`) {
			t.Errorf("%s comes back as it is", test.form)
		}
	}
	wants(t, ask(h, "POST", "/buy", strings.Repeat("x", maxForm+1)), 400, "could not be read")
	// A page elsewhere may not send the shop's forms.
	wants(t, ask(h, "POST", "/buy", good+"&count-tea=1", "Sec-Fetch-Site", "cross-site"), 403)
}

// A gateway that is away is said to be, and what was sent is in the log without the secret.
func TestGatewayAway(t *testing.T) {
	s := lonely()
	h := s.Handler()
	w := ask(h, "POST", "/buy", "stages=two&method=uzcard&page=shop&language=en&answer=wait&count-tea=1&count-halva=2")
	wants(t, w, 502, "no usable answer", "prepare_payment", "no answer", "•••", "Walnut halva", "65\u202f000.00", "not prepared")
	if strings.Contains(w.Body.String(), testSecret) {
		t.Error("the page shows the secret")
	}
	p := s.newest(1)[0]
	wants(t, ask(h, "GET", "/return?id="+p.ID, ""), 200, "looks again by itself", `http-equiv="refresh"`)
	wants(t, ask(h, "GET", "/payments", ""), 200, p.ID, "not prepared")
	wants(t, ask(h, "GET", "/payments/"+p.ID+"/version", ""), 200)
	wants(t, ask(h, "POST", "/payments/"+p.ID+"/capture", "how=part&amount=abc"), 422, "sum")
}

func notification(t *testing.T, id, status, key string) (string, http.Header) {
	t.Helper()
	body := fmt.Sprintf(`{"shop_transaction_id":%q,"octo_payment_UUID":%q,"status":%q,"signature":%q,"hash_key":"h","total_sum":480.00,"transfer_sum":470.40,"maskedPan":"860049** **** 6478"}`,
		id, testUUID, status, holdfast.NotificationSignature(key, testUUID, status))
	h := http.Header{}
	holdfast.SignWebhook(h, key, "w1", time.Now(), []byte(body))
	return body, h
}

func TestNotifications(t *testing.T) {
	s := lonely()
	h := s.Handler()
	send := func(body string, header http.Header) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", "/notify", strings.NewReader(body))
		r.Header = header.Clone()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	for answer, want := range map[string]string{
		answerWait: `{"accept_status":"wait_user_action"}`, answerCapture: `{"accept_status":"capture"}`,
		answerCancel: `{"accept_status":"cancel"}`, answerNothing: `{}`,
	} {
		p := &payment{ID: newName(), Created: time.Now(), Choice: choice{Answer: answer, Lines: []line{{things[2], 1}}}}
		s.remember(p)
		for status, want := range map[string]string{
			holdfast.StatusWaitingForCapture: want, holdfast.StatusSucceeded: `{}`, holdfast.StatusCanceled: `{}`, holdfast.StatusWaitUserAction: `{}`,
		} {
			body, header := notification(t, p.ID, status, testKey)
			if w := send(body, header); w.Code != 200 || w.Body.String() != want {
				t.Errorf("%s, %s: HTTP %d %s, want %s", answer, status, w.Code, w.Body, want)
			}
		}
		log := p.exchanges()
		if len(log) != 4 || !log[0].Incoming || log[0].Status != 200 || len(log[0].Answer) == 0 {
			t.Errorf("the log has %d entries: %+v", len(log), log)
		}
		// What a notification says of the state is not taken over: the state is asked for.
		if state, _ := p.known(); state.Status != "" {
			t.Errorf("the status is %s from a notification", state.Status)
		}
		if p.received != "470.40" {
			t.Errorf("transfer_sum %q", p.received)
		}
	}

	p := s.newest(1)[0]
	forgedBody, forged := notification(t, p.ID, holdfast.StatusSucceeded, "another key")
	if w := send(forgedBody, forged); w.Code != 401 {
		t.Errorf("a forged notification: HTTP %d", w.Code)
	}
	body, header := notification(t, p.ID, holdfast.StatusSucceeded, testKey)
	if w := send(strings.Replace(body, "480.00", "999.00", 1), header); w.Code != 401 {
		t.Errorf("a changed notification: HTTP %d", w.Code)
	}
	if w := send(body, http.Header{}); w.Code != 401 {
		t.Errorf("a notification without headers: HTTP %d", w.Code)
	}
	if w := send(strings.Repeat(" ", maxNotification+1), header); w.Code != 413 {
		t.Errorf("a large notification: HTTP %d", w.Code)
	}
	if n := len(p.exchanges()); n != 4 {
		t.Errorf("refused notifications are in the payment's log: %d entries", n)
	}
	wants(t, ask(h, "GET", "/payments", ""), 200, "Notifications that were refused", "HTTP 401", "HTTP 413")
	for range 3 * keptRefused {
		send(forgedBody, forged)
	}
	if len(s.refused) != keptRefused {
		t.Errorf("%d refusals are kept", len(s.refused))
	}
	// One about a payment that the shop has forgotten decides nothing and is not repeated.
	body, header = notification(t, "long ago", holdfast.StatusWaitingForCapture, testKey)
	if w := send(body, header); w.Code != 200 || w.Body.String() != "{}" {
		t.Errorf("an unknown payment: HTTP %d %s", w.Code, w.Body)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	s := lonely()
	first := &payment{ID: newName()}
	s.remember(first)
	for range keptPayments {
		s.remember(&payment{ID: newName()})
	}
	if s.find(first.ID) != nil || len(s.payments) != keptPayments || len(s.names) != keptPayments {
		t.Errorf("%d payments, %d names", len(s.payments), len(s.names))
	}
	p := s.newest(1)[0]
	began := time.Now()
	for i := range 3 * keptExchanges {
		x := exchange{Began: began.Add(time.Duration(i) * time.Second), Name: "n"}
		x.Request = fmt.Appendf(nil, `{"n":%d}`, i)
		p.note(x)
	}
	log := p.exchanges()
	if len(log) != keptExchanges || string(log[len(log)-1].Request) != `{"n":599}` {
		t.Errorf("%d exchanges, the last is %s", len(log), log[len(log)-1].Request)
	}
	for i := range 100 {
		x := exchange{Began: began.Add(time.Hour), Name: "large"}
		x.Request = []byte(strings.Repeat(fmt.Sprint(i%10), keptBody))
		p.note(x)
	}
	if p.logBytes > keptBytes || len(p.exchanges()) > keptBytes/keptBody {
		t.Errorf("%d bytes in %d exchanges", p.logBytes, len(p.exchanges()))
	}
	x := exchange{Began: began.Add(2 * time.Hour)}
	x.Answer = []byte(strings.Repeat("x", keptBody+1))
	p.note(x)
	log = p.exchanges()
	if got := string(log[len(log)-1].Answer); got != "(32769 bytes, too many to show)" {
		t.Errorf("%.60s", got)
	}
}

// A notification that came while a call was under way stands behind the call's beginning, and the same answer to the same
// question is counted.
func TestLogOrder(t *testing.T) {
	p := &payment{}
	at := time.Now()
	note := func(name string, began, took time.Duration, answer string) {
		x := exchange{Began: at.Add(began), Name: name}
		x.Duration, x.Answer, x.Status = took, []byte(answer), 200
		p.note(x)
	}
	note("prepare", 0, time.Second, `1`)
	note("notification", 3*time.Second, time.Second, `2`)
	note("check_sms_key", 2*time.Second, 4*time.Second, `3`)
	note("status", 7*time.Second, 0, `4`)
	note("status", 8*time.Second, 0, `4`)
	note("status", 9*time.Second, 0, `5`)
	var names []string
	for _, x := range p.exchanges() {
		names = append(names, fmt.Sprintf("%s×%d", x.Name, x.Times))
	}
	if got := strings.Join(names, " "); got != "prepare×1 check_sms_key×1 notification×1 status×2 status×1" {
		t.Error(got)
	}
	if p.version != 5 {
		t.Errorf("version %d", p.version)
	}
}

func TestTypedSums(t *testing.T) {
	for typed, want := range map[string]string{
		"100": "100.00", " 12 500,50 ": "12500.50", "12\u00a0500.5": "12500.50", "1\u202f000\u202f000.00": "1000000.00",
		"0": "", "-5": "", "": "", "abc": "", "1.005": "", "1,000.00": "", "99999999999999999999": "",
	} {
		got, err := typedSum(typed)
		if string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", typed, got, err, want)
		}
	}
	for minor, want := range map[int64]string{0: "0.00", 5: "0.05", 99999: "999.99", 100000: "1_000.00", 25000050: "250_000.50", 123456789012: "1_234_567_890.12", -100000: "-1_000.00"} {
		if got := strings.ReplaceAll(sums(minor), glue, "_"); got != want {
			t.Errorf("%d: %s, want %s", minor, got, want)
		}
	}
	for typed, want := range map[string]string{"12/30": "3012", "1230": "3012", "12 / 30": "3012", "1/30": "130", "": "", "12/2030": "122030"} {
		if got := expiry(typed); got != want {
			t.Errorf("expiry %q: %q, want %q", typed, got, want)
		}
	}
	for d, want := range map[time.Duration]string{time.Second: "1 second", 3 * time.Second: "3 seconds", 90 * time.Second: "90 seconds", 30 * time.Minute: "30 minutes"} {
		if got := spoken(d); got != want {
			t.Errorf("%v: %q", d, got)
		}
	}
}

func TestPick(t *testing.T) {
	cards := []simCard{
		{PAN: "8600000000000001", Exp: "3012", Scheme: "uzcard", Behaviour: "ok", Balance: 1000, FixedOTP: "1"},
		{PAN: "8600000000000002", Exp: "3012", Scheme: "uzcard", Behaviour: "blocked", Balance: 1000},
		{PAN: "8600000000000003", Exp: "3012", Scheme: "uzcard", Behaviour: "ok", Balance: 1000, Held: 950},
		{PAN: "8600000000000004", Exp: "3012", Scheme: "uzcard", Behaviour: "ok", Balance: 100},
		{PAN: "9860000000000005", Exp: "3012", Scheme: "humo", Behaviour: "ok", Balance: 1000},
		{PAN: "5500000000000006", Exp: "3012", Scheme: "mastercard", Behaviour: "ok", Balance: 1000},
	}
	for _, test := range []struct {
		method string
		sum    int64
		used   []string
		want   string
	}{
		{"uzcard", 100, nil, "8600000000000004"},
		{"uzcard", 100, []string{"8600000000000004"}, "8600000000000001"},
		{"uzcard", 500, nil, "8600000000000001"},
		{"uzcard", 5000, nil, ""},
		{"humo", 100, nil, "9860000000000005"},
		{"bank_card", 100, nil, "5500000000000006"},
	} {
		c, err := pick(cards, test.method, test.sum, test.used)
		if c.PAN != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%+v: %q, %v", test, c.PAN, err)
		}
	}
	if got := offer(cards, "uzcard"); len(got) != 3 || got[2].Behaviour != "blocked" {
		t.Errorf("%+v", got)
	}
}

// The steps of the four schemes are the seed's, word for word but for a footnote's asterisk.
func TestStepsAreTheSeeds(t *testing.T) {
	text, err := os.ReadFile("testdata/flows.txt")
	if err != nil {
		t.Fatal(err)
	}
	seed := map[string][]string{}
	title := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "Scheme of work") {
			title = line
			continue
		}
		number, step, _ := strings.Cut(line, ". ")
		if number != fmt.Sprint(len(seed[title])+1) {
			t.Fatalf("%s: step %s comes after %d", title, number, len(seed[title]))
		}
		seed[title] = append(seed[title], strings.ReplaceAll(strings.TrimRight(step, ";."), "*", ""))
	}
	compared := 0
	for _, f := range append(codeBySMS(refundInParts), threeDS()...) {
		want, ok := seed[f.Title]
		if !ok {
			continue
		}
		compared++
		for i, step := range f.Steps {
			if i >= len(want) || step.Text != want[i] {
				t.Errorf("(%s), step %d: %q is not the seed's", f.Letter, i+1, step.Text)
			}
		}
		if len(f.Steps) != len(want) {
			t.Errorf("(%s): %d steps, the seed has %d", f.Letter, len(f.Steps), len(want))
		}
	}
	if compared != 4 || len(seed) != 4 {
		t.Errorf("%d schemes were compared", compared)
	}
}

func TestDigest(t *testing.T) {
	many := `{"error":0,"data":{"id":5,"status":"created","fee":null,"details":{"a":1,"b":[1, 2]}`
	for i := range 30 {
		many += fmt.Sprintf(`,"k%d":%d`, i, i)
	}
	many += "}}"
	for body, want := range map[string]string{
		``:                                       `(empty)`,
		`{}`:                                     `{}`,
		`(5 bytes that are …)`:                   `(5 bytes that are …)`,
		`[1, 2]`:                                 `[1, 2]`,
		`{"a": 1, "b" : {"c":"x y"}, "d": {}}`:   `{"a":1, "b":{"c":"x y"}, "d":{}}`,
		`{"error":0,"data":{"s":1},"s":1,"t":2}`: `{"error":0, "data":{"s":1}, "t":2}`,
		`{"error":2,"data":null,"apiMessageForDevelopers":"Long."}`: `{"error":2, "data":null}`,
		`{"a":`: `{"a":`,
		many:    `{"error":0, "data":{"id":5, "status":"created", "details":{"a":1, "b":[1,2]}, … 31 more keys}}`,
	} {
		if got := strings.Join(digest([]byte(body)), " "); got != want {
			t.Errorf("%.60s\n got %s\nwant %s", body, got, want)
		}
	}
}

func TestStoryWraps(t *testing.T) {
	var b strings.Builder
	tell := &story{out: &b}
	tell.say("%s %s", strings.Repeat("word ", 30), sums(100_000_00))
	tell.say("%s", strings.Repeat("x", 200))
	for line := range strings.Lines(b.String()) {
		line = strings.TrimSuffix(line, "\n")
		if len(line) > pageWidth && strings.Contains(strings.TrimSpace(line), " ") || !strings.HasPrefix(line, indent) {
			t.Errorf("%q", line)
		}
	}
	if !strings.Contains(b.String(), "100 000.00") {
		t.Error(b.String())
	}
	broken := &story{out: brokenWriter{}}
	broken.line("a")
	broken.line("b")
	if broken.err != io.ErrClosedPipe {
		t.Error(broken.err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// The walk says in one sentence what is missing.
func TestWalkWithoutAnything(t *testing.T) {
	err := Walk(t.Context(), WalkConfig{Gateway: "http://127.0.0.1:1", Sim: "http://127.0.0.1:1"}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "flow (a) full confirmation, Uzcard cannot begin: the simulator does not answer") {
		t.Error(err)
	}
	err = Walk(t.Context(), WalkConfig{Methods: []string{"cash"}}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), `no flows for the method "cash"`) {
		t.Error(err)
	}
}
