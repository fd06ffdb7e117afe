package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFaults spoils hold.create (and what else a fault can happen to) and looks at both sides of it: what the caller gets,
// and what the books say.
func TestFaults(t *testing.T) {
	const id = 41
	raw := func(w *world, method, params string) (*http.Response, string, error) {
		return w.post(fmt.Sprintf(`{"jsonrpc":"2.0","method":%q,"id":%d,"params":%s}`, method, id, params))
	}
	status := func(want int, content string) func(*testing.T, *http.Response, string, error) {
		return func(t *testing.T, r *http.Response, body string, err error) {
			if err != nil || r.StatusCode != want || !strings.Contains(body, content) {
				t.Errorf("%v %v %s", r, err, body)
			}
		}
	}
	cut := func(t *testing.T, _ *http.Response, body string, err error) {
		if !errors.Is(err, io.EOF) {
			t.Errorf("the caller got %q, %v", body, err)
		}
	}
	whole := status(200, `{"jsonrpc":"2.0","id":41,"result":{"id":`)
	tested := map[string]bool{"withheld": true} // TestWithheld
	for _, c := range []struct {
		fault Fault
		check func(*testing.T, *http.Response, string, error)
	}{
		{Fault{Name: "request_lost"}, cut},
		{Fault{Name: "answer_lost"}, cut},
		{Fault{Name: "reset"}, func(t *testing.T, _ *http.Response, body string, err error) {
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the caller got %q, %v", body, err)
			}
		}},
		{Fault{Name: "fail_before"}, status(502, "")},
		{Fault{Name: "fail_after_done"}, status(500, "")},
		{Fault{Name: "http_429"}, status(429, "too many requests")},
		{Fault{Name: "http_502"}, status(502, "<h1>502 Bad Gateway</h1>")},
		{Fault{Name: "unknown_301"}, status(200, `{"jsonrpc":"2.0","id":41,"error":{"code":-301,`)},
		{Fault{Name: "unknown_301_not_done"}, status(200, `{"jsonrpc":"2.0","id":41,"error":{"code":-301,`)},
		{Fault{Name: "error_code", Code: -300}, status(200, `{"jsonrpc":"2.0","id":41,"error":{"code":-300,`)},
		{Fault{Name: "slow"}, whole},
		{Fault{Name: "drip"}, whole},
		{Fault{Name: "garbage"}, func(t *testing.T, r *http.Response, body string, err error) {
			if err != nil || r.StatusCode != 200 || body == "" || json.Valid([]byte(body)) {
				t.Errorf("%v %v %s", r, err, body)
			}
		}},
		{Fault{Name: "truncated"}, func(t *testing.T, r *http.Response, body string, err error) {
			if err != nil || r.StatusCode != 200 || !strings.HasPrefix(body, `{"jsonrpc":"2.0"`) || json.Valid([]byte(body)) {
				t.Errorf("%v %v %s", r, err, body)
			}
		}},
		{Fault{Name: "wrong_id"}, status(200, `{"jsonrpc":"2.0","id":42,"result":{"id":`)},
	} {
		tested[c.fault.Name] = true
		t.Run(c.fault.Name, func(t *testing.T) {
			w := newWorld(t)
			w.t = t
			token := w.token(sharedPAN)
			c.fault.Method = "hold.create"
			if err := w.sim.AddFault(c.fault); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			r, body, err := raw(w, "hold.create", holdParams(token, 100, 30))
			c.check(t, r, body, err)
			if slow := c.fault.Name == "slow" || c.fault.Name == "drip"; slow && time.Since(began) < 20*time.Millisecond {
				t.Errorf("answered after %v", time.Since(began))
			}
			held := int64(100)
			if faultNamed(c.fault.Name).notDone {
				held = 0
			}
			w.wantBalance(sharedPAN, 0, held)
			if left := w.sim.Faults(); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
			w.hold(token, 1) // and the next call is as it should be
		})
	}

	// The faults of one kind of answer.
	bent := func(name, method string, prepare func(*world) string, want, unwanted string) {
		tested[name] = true
		t.Run(name+" "+method, func(t *testing.T) {
			w := newWorld(t)
			w.t = t
			params := prepare(w)
			if err := w.sim.AddFault(Fault{Method: method, Name: name}); err != nil {
				t.Fatal(err)
			}
			spoilt, code := w.ask(method, params)
			if code != 0 {
				spoilt = fmt.Sprint(code)
			}
			if !strings.Contains(spoilt, want) || unwanted != "" && strings.Contains(spoilt, unwanted) {
				t.Errorf("%s, wanted %s and not %s", spoilt, want, unwanted)
			}
			if strings.HasPrefix(method, "trans.ext") || strings.Contains(method, ".get") || method == "trans.sv" {
				if right := w.must(method, params, nil); right == spoilt || strings.Contains(right, want) {
					t.Errorf("the next answer is no better: %s", right)
				}
			}
		})
	}
	token := func(w *world) string { return w.token(sharedPAN) }
	oneHold := func(w *world) (string, int64) { token := token(w); return token, w.hold(token, 1000) }
	holdOf := func(w *world) string { _, hold := oneHold(w); return fmt.Sprintf(`{"id":%d}`, hold) }
	holdsOf := func(w *world) string { token, _ := oneHold(w); return fmt.Sprintf(`{"cardId":%q}`, token) }
	captureOf := func(w *world) string { _, hold := oneHold(w); return captureParams(hold, "e", 1000) }
	payOf := func(w *world) string { return payParams(token(w), "e", 1000) }
	extOf := func(w *world) string { w.pay(token(w), "e", 1000); return `{"extId":"e"}` }
	svOf := func(w *world) string { return fmt.Sprintf(`{"svId":%q}`, w.pay(token(w), "e", 1000).RefNum) }
	reverseOf := func(w *world) string { return fmt.Sprintf(`{"tranId":%q}`, w.pay(token(w), "e", 1000).RefNum) }
	partOf := func(w *world) string { return partialParams(w.pay(token(w), "e", 2000).RefNum, "r", 1000) }
	cardOf := func(w *world) string { return fmt.Sprintf(`{"ids":[%q]}`, token(w)) }

	bent("lower_case_fields", "cards.get", cardOf, `"holdamount":0,"cashbackamount":0`, "holdAmount")
	bent("lower_case_fields", "cards.new.verify", func(w *world) string {
		return fmt.Sprintf(`{"otp":{"id":%d,"code":%q}}`, w.otp(sharedPAN), sharedCode)
	}, `"holdamount":0,"cashbackamount":0`, "holdAmount")
	for method, prepare := range map[string]func(*world) string{
		"hold.dismiss.charge": captureOf, "trans.pay.purpose": payOf, "trans.ext": extOf, "trans.sv": svOf, "trans.reverse": reverseOf, "trans.reverse.partial": partOf,
	} {
		bent("currency_string", method, prepare, `"currency":"860"`, "")
		bent("wrong_amount", method, prepare, `"amount":1100,`, `"amount":1000`)
	}
	bent("wrong_amount", "hold.get.id", holdOf, `"reqamt":1100,`, "")
	bent("wrong_amount", "hold.get.cardId", holdsOf, `"reqamt":1100,`, "")
	bent("not_found_once", "hold.get.id", holdOf, "-242", "")
	bent("not_found_once", "hold.get.cardId", holdsOf, "[]", "hid")
	bent("not_found_once", "trans.ext", extOf, "-208", "")
	bent("not_found_once", "trans.sv", svOf, "-267", "")

	for _, f := range faultKinds {
		if !tested[f.Name] && slices.ContainsFunc(slices.Collect(maps.Keys(svgateMethods)), f.spoils) {
			t.Errorf("%s has no test", f.Name)
		}
	}
}

// TestWrongIDOfAString keeps the type of the id.
func TestWrongIDOfAString(t *testing.T) {
	w := newWorld(t)
	if err := w.sim.AddFault(Fault{Method: "*", Name: "wrong_id", Times: 2}); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{`{"jsonrpc":"2.0","method":"terminal.get","id":"abc"}`, `{"jsonrpc":"2.0","method":"trans.ext","id":"abc","params":{"extId":"x"}}`} {
		if _, answer, err := w.post(body); err != nil || !strings.HasPrefix(answer, `{"jsonrpc":"2.0","id":"of-another-call",`) || !json.Valid([]byte(answer)) {
			t.Errorf("%v %s", err, answer)
		}
	}
}

// TestSlowAndGone shows that a slow answer is done before anybody waits, and that nobody waits for a caller who has left.
func TestSlowAndGone(t *testing.T) {
	c := &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	s := New(Config{Now: c.Now, Seed: 1, SlowAnswer: time.Hour})
	finished := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Handler().ServeHTTP(w, r)
		close(finished)
	})}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	if err := s.AddFault(Fault{Method: "hold.create", Name: "slow"}); err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r, err := http.NewRequestWithContext(ctx, "POST", "http://"+listener.Addr().String()+"/svgate", strings.NewReader(
		fmt.Sprintf(`{"jsonrpc":"2.0","method":"hold.create","id":1,"params":%s}`, holdParams(cardToken(sharedPAN), 100, 30))))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("holdfast", "holdfast")
	r.Header.Set("Content-Type", "application/json")
	failed := make(chan error, 1)
	go func() {
		response, err := http.DefaultClient.Do(r)
		if err == nil {
			err = response.Body.Close()
		}
		failed <- err
	}()
	// Wait for the work, which comes long before the answer would.
	for deadline := time.Now().Add(2 * time.Minute); len(s.Books().Operations) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("nothing was done")
		}
	}
	leave()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller got %v", err)
	}
	select {
	case <-finished:
	case <-time.After(2 * time.Minute):
		t.Error("the centre still waits for a caller who has left")
	}
}

// An answer is withheld until the faults are cleared; the work is done before, and others are served meanwhile.
func TestWithheld(t *testing.T) {
	for name, clear := range map[string]func(*world){
		"cleared": func(w *world) { w.sim.ClearFaults() },
		"by HTTP": func(w *world) { w.script("DELETE", "/sim/faults", "") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.t = t
			token := w.token(sharedPAN)
			if err := w.sim.AddFault(Fault{Method: "hold.create", Name: "withheld"}); err != nil {
				t.Fatal(err)
			}
			answered := make(chan string, 1)
			go func() {
				_, body, err := w.post(fmt.Sprintf(`{"jsonrpc":"2.0","method":"hold.create","id":41,"params":%s}`, holdParams(token, 100, 30)))
				if err != nil {
					body = err.Error()
				}
				answered <- body
			}()
			for deadline := time.Now().Add(2 * time.Minute); len(w.sim.Books().Operations) == 0; {
				if time.Now().After(deadline) {
					t.Fatal("nothing was done")
				}
			}
			w.wantBalance(sharedPAN, 0, 100)
			w.hold(token, 1) // a second call has its answer before the first one
			select {
			case body := <-answered:
				t.Fatalf("it was answered: %s", body)
			default:
			}
			clear(w)
			select {
			case body := <-answered:
				if !strings.HasPrefix(body, `{"jsonrpc":"2.0","id":41,"result":{`) {
					t.Errorf("the answer is %s", body)
				}
			case <-time.After(2 * time.Minute):
				t.Fatal("the answer never came")
			}
		})
	}
}

func TestFaultsCount(t *testing.T) {
	w := newWorld(t)
	token, other := w.token(sharedPAN), w.token(otherPAN)
	add := func(f Fault) {
		t.Helper()
		if err := w.sim.AddFault(f); err != nil {
			t.Fatal(err)
		}
	}
	pay := 0
	try := func(token string) int {
		pay++
		_, code := w.ask("trans.pay.purpose", payParams(token, fmt.Sprint("p", pay), 1))
		return code
	}
	want := func(what string, token string, codes ...int) {
		t.Helper()
		for i, code := range codes {
			if got := try(token); got != code {
				t.Errorf("%s: call %d answered %d, want %d", what, i, got, code)
			}
		}
	}
	add(Fault{Method: "trans.pay.purpose", Name: "error_code", Code: -1, Times: 2, After: 1})
	want("one goes well, then two fail", token, 0, -1, -1, 0)

	add(Fault{Method: "*", Name: "error_code", Code: -2, PAN: otherPAN})
	w.must("terminal.get", `{}`, nil)
	want("another card", token, 0)
	want("the card", other, -2, 0)

	add(Fault{Method: "hold.create", Name: "error_code", Code: -3})
	want("another method", token, 0)
	w.refused(-3, "hold.create", holdParams(token, 1, 1))

	add(Fault{Method: "*", Name: "error_code", Code: -4})
	add(Fault{Method: "trans.pay.purpose", Name: "error_code", Code: -5, After: 2})
	want("the oldest first; all that match count the call", token, -4, 0, -5, 0)

	// A code of SVGate's means nothing to Humo and RBS, and theirs nothing to it.
	add(Fault{Method: "*", Name: "error_code", Code: -6})
	w.refusedSOAP("914", humoAbout("GetPayment", "x"))
	w.refusedRBS(6, "getOrderStatusExtended.do", fields("orderNumber", "x"))
	want("a code of its own", token, -6, 0)
	add(Fault{Method: "*", Name: "error_code", Code: 666, Times: 2})
	want("a code of the others", token, 0)
	w.refusedSOAP("666", humoAbout("GetPayment", "x"))
	w.refusedRBS(666, "getOrderStatusExtended.do", fields("orderNumber", "x"))

	add(Fault{Method: "*", Name: "not_found_once"})
	want("no query", token, 0)
	w.refused(-208, "trans.ext", `{"extId":"p1"}`)
	w.must("trans.ext", `{"extId":"p1"}`, nil)
}

// TestFaultFindsItsCard sends every way in which a call can name a card.
func TestFaultFindsItsCard(t *testing.T) {
	w := newWorld(t)
	token := w.token(sharedPAN)
	id := w.otp(sharedPAN)
	hold := w.hold(token, 100)
	paid := w.pay(token, "e", 100)
	other := w.token(otherPAN)
	w.hold(other, 1)
	calls := [][2]string{
		{"cards.new.otp", otpParams(w.sim, sharedPAN)},
		{"cards.new.verify", fmt.Sprintf(`{"otp":{"id":"%d","code":"000000"}}`, id)},
		{"cards.get", fmt.Sprintf(`{"ids":["x",%q]}`, token)},
		{"hold.create", holdParams(token, 100, 30)},
		{"hold.get.id", fmt.Sprintf(`{"id":%d}`, hold)},
		{"hold.get.cardId", fmt.Sprintf(`{"cardId":%q}`, token)},
		{"hold.dismiss", dismissParams(hold, 100)},
		{"hold.dismiss.charge", captureParams(hold, "n", 100)},
		{"trans.pay.purpose", payParams(token, "n", 100)},
		{"trans.ext", `{"extId":"e"}`},
		{"trans.sv", fmt.Sprintf(`{"svId":%q}`, paid.RefNum)},
		{"trans.reverse", fmt.Sprintf(`{"tranId":%q}`, paid.ID)},
		{"trans.reverse.partial", partialParams(paid.RefNum, "n", 1)},
	}
	for _, c := range calls {
		if err := w.sim.AddFault(Fault{Method: "*", Name: "error_code", Code: -9999, PAN: otherPAN}); err != nil {
			t.Fatal(err)
		}
		if err := w.sim.AddFault(Fault{Method: "*", Name: "error_code", Code: -7777, PAN: sharedPAN}); err != nil {
			t.Fatal(err)
		}
		w.refused(-7777, c[0], c[1])
		w.sim.ClearFaults()
	}
}

func TestFaultsOverHTTP(t *testing.T) {
	w := newWorld(t)
	status, body := w.script("POST", "/sim/faults", `{"method":"hold.create","fault":"answer_lost","pan":"8600313260861293","after":2}`)
	if want := `[{"method":"hold.create","fault":"answer_lost","times":1,"pan":"8600313260861293","after":2}]` + "\n"; status != 200 || body != want {
		t.Errorf("%d %s", status, body)
	}
	w.script("POST", "/sim/faults", `{"method":"*","fault":"error_code","code":-300,"times":3}`)
	if _, body := w.get("/sim/faults"); !strings.HasSuffix(body, `,{"method":"*","fault":"error_code","times":3,"after":0,"code":-300}]`+"\n") {
		t.Errorf("%s", body)
	}
	if status, body := w.script("DELETE", "/sim/faults", ""); status != 200 || body != "[]\n" {
		t.Errorf("%d %s", status, body)
	}
	for _, c := range []struct{ body, field, allowed string }{
		{`{"method":"hold.create","fault":"answer_eaten"}`, "fault", "request_lost, answer_lost,"},
		{`{"method":"hold.create"}`, "fault", "request_lost"},
		{`{"method":"hold.steal","fault":"answer_lost"}`, "method", "hold.dismiss.charge"},
		{`{"fault":"answer_lost"}`, "method", "hold.create"},
		{`{"method":"hold.create","fault":"not_found_once"}`, "method", "trans.ext, trans.sv"},
		{`{"method":"*","fault":"slow","times":-1}`, "times", "1 to 1000000"},
		{`{"method":"*","fault":"slow","times":1000001}`, "times", "1 to 1000000"},
		{`{"method":"*","fault":"slow","after":-1}`, "after", "0 to 1000000"},
		{`{"method":"*","fault":"slow","code":-300}`, "code", "error_code"},
		{`{"method":"*","fault":"error_code","code":1000}`, "code", "1 to 999"},
		{`{"method":"hold.create","fault":"error_code","code":907}`, "code", "hold.create"},
		{`{"method":"humo.hold","fault":"error_code","code":-300}`, "code", "humo.hold"},
		{`{"method":"rbs.callback","fault":"answer_lost"}`, "method", "cannot happen"},
		{`{"method":"humo.hold","fault":"errorCode_string"}`, "method", "rbs.deposit"},
		{`{"method":"rbs.deposit","fault":"wrong_namespace"}`, "method", "humo.hold"},
		{`{"method":"*","fault":"error_code"}`, "code", "-300"},
		{`{"method":"*","fault":"slow","pan":"8600"}`, "pan", "/sim/cards"},
		{`{"method":"*","fault":"slow","times":"one"}`, "times", "int"},
		{`{"method":"*","fault":"slow","when":1}`, "when", "method, fault, times, pan, after, code"},
		{`{"method":`, "body", "method"},
		{`{"method":"*","fault":"slow"} x`, "body", "one JSON object"},
		{`{"x":"` + strings.Repeat("x", maxScript) + `"}`, "body", "too large"},
	} {
		status, body := w.script("POST", "/sim/faults", c.body)
		var refusal struct{ Error string }
		if err := json.Unmarshal([]byte(body), &refusal); err != nil || status != 400 || !strings.Contains(refusal.Error, c.field) || !strings.Contains(refusal.Error, c.allowed) {
			t.Errorf("%.80s: %d %s", c.body, status, body)
		}
	}
	if left := w.sim.Faults(); len(left) != 0 {
		t.Errorf("a refused fault was kept: %v", left)
	}
	for range maxFaults {
		if err := w.sim.AddFault(Fault{Method: "*", Name: "slow"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.sim.AddFault(Fault{Method: "*", Name: "slow"}); err == nil {
		t.Error("faults without end")
	}
}

// TestForeignPagesCannotArrangeFaults sends what a browser would send for a form on another site.
func TestForeignPagesCannotArrangeFaults(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/faults", "/faults/clear", "/clock", "/reset", "/sim/faults", "/sim/clock", "/sim/reset"} {
		r, err := http.NewRequest("POST", w.server.URL+path, strings.NewReader("method=*&fault=slow&minutes=5"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		if response, _, err := w.do(r); err != nil || response.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %v %v", path, response, err)
		}
	}
}

// centreCall is a call of Humo, RBS or the SMS provider for TestCentreFaults.
type centreCall struct {
	send func() (*http.Response, string, error)
	// done tells whether the work was done; nil for a query.
	done func() bool
	// refusal is how the answer names a code.
	refusal func(code string) string
}

// centreCalls prepares a call of each method, in a world of its own.
var centreCalls = func() map[string]func(*world) centreCall {
	soap := func(payload string, prepare ...string) func(w *world) centreCall {
		return func(w *world) centreCall {
			for _, p := range prepare {
				w.mustSOAP(humoFor(w, p))
			}
			before := w.sim.count + uint32(w.sim.recoCount)
			c := centreCall{
				send:    func() (*http.Response, string, error) { return w.postXML(envelope(humoFor(w, payload))) },
				done:    func() bool { return len(w.sim.Books().Operations)+int(w.sim.recoCount) > int(before) },
				refusal: func(code string) string { return "<error>" + code + "</error>" },
			}
			if payload == "get" {
				c.done = nil
			}
			return c
		}
	}
	middleware := func(path, body string, messages bool) func(w *world) centreCall {
		return func(w *world) centreCall {
			c := centreCall{
				send: func() (*http.Response, string, error) {
					r := must(http.NewRequest("POST", w.server.URL+path, strings.NewReader(strings.ReplaceAll(body, "PAN", w.first(humo, "ok").pan))))
					r.Header.Set("Authorization", "Bearer holdfast")
					r.Header.Set("Content-Type", "application/json")
					return w.do(r)
				},
				refusal: func(code string) string { return `"error":{"code":` + code },
			}
			if messages {
				c.done = func() bool { return len(w.sim.SMS("")) == 1 }
			}
			return c
		}
	}
	// rbs prepares an order as far as a status, and calls.
	rbs := func(call string, status int, done func(before, after rbsStatusResult) bool) func(w *world) centreCall {
		return func(w *world) centreCall {
			a := w.first(visa, "ok")
			var order, trans string
			var form func() string
			switch {
			case status == 1 || status == 2:
				order = w.paid("n", 1000, a)
				if status == 2 {
					w.mustRBS("deposit.do", fields("orderId", order, "amount", "0"))
				}
			case call != "registerPreAuth.do":
				order = w.registered("n", 1000)
			}
			if call == "3ds/continue.do" || call == "finish3dsVer2Payment.do" {
				trans = w.mustRBS("paymentorder.do", cardForm(a, order)).ThreeDSServerTransID
			}
			if call == "finish3dsVer2Payment.do" {
				next := w.mustRBS("3ds/continue.do", fields("mdOrder", order))
				b := w.browser()
				b.submit(b.post(w.server.URL+"/acs/challenge", fields("creq", next.PackedCReq)), "submit", "code", a.fixedOTP)
			}
			form = func() string {
				f := fields("orderId", order, "amount", "400", "externalRefundId", "r", "mdOrder", order, "threeDSServerTransId", trans)
				switch call {
				case "registerPreAuth.do":
					f = fields("orderNumber", "n", "amount", "1000", "returnUrl", "https://shop.example")
				case "paymentorder.do":
					f = cardForm(a, order)
				case "reverse.do":
					f.Del("amount")
				}
				f.Set("token", "holdfast")
				return f.Encode()
			}
			read := func() rbsStatusResult {
				body, _ := w.rbs("getOrderStatusExtended.do", fields("orderNumber", "n"))
				var s rbsStatusResult
				if err := json.Unmarshal([]byte(body), &s); err != nil {
					w.t.Fatal(err)
				}
				return s
			}
			before := read()
			c := centreCall{
				send:    func() (*http.Response, string, error) { return w.postForm(call, form()) },
				refusal: func(code string) string { return `{"errorCode":` + code + `,` },
			}
			if done != nil {
				c.done = func() bool { return done(before, read()) }
			}
			return c
		}
	}
	status := func(before, after rbsStatusResult) bool { return before.OrderStatus != after.OrderStatus }
	return map[string]func(*world) centreCall{
		"humo.hold":        soap("hold"),
		"humo.charge":      soap("charge"),
		"humo.confirm":     soap("confirm", "hold"),
		"humo.cancel":      soap("cancel", "hold"),
		"humo.return":      soap("return", "charge"),
		"humo.get":         soap("get", "hold"),
		"humo.reco":        soap("reco"),
		"humo.card":        middleware("/humo-middleware/v3/iiacs/card", `{"id":1,"params":{"primaryAccountNumber":"PAN"}}`, false),
		"humo.otp":         middleware("/humo-middleware/otp/send", `{"id":1,"params":{"primaryAccountNumber":"PAN"}}`, true),
		"sms.send":         middleware("/sms/send", `{"phone":"998901112233","text":"code 1234"}`, true),
		"rbs.register":     rbs("registerPreAuth.do", 0, func(_, after rbsStatusResult) bool { return after.Amount == 1000 }),
		"rbs.paymentorder": rbs("paymentorder.do", 0, func(_, after rbsStatusResult) bool { return after.CardAuthInfo != nil }),
		"rbs.continue":     rbs("3ds/continue.do", 0, status),
		"rbs.finish":       rbs("finish3dsVer2Payment.do", 5, status),
		"rbs.status":       rbs("getOrderStatusExtended.do", 1, nil),
		"rbs.deposit":      rbs("deposit.do", 1, status),
		"rbs.reverse":      rbs("reverse.do", 1, status),
		"rbs.refund":       rbs("refund.do", 2, status),
	}
}()

// humoFor is a message about the payment "h" of the shared card.
func humoFor(w *world, what string) string {
	a := w.first(humo, "ok")
	switch what {
	case "hold":
		return humoPayment(a, "SOAP_DMS", "h", 1000)
	case "charge":
		return humoPayment(a, "SOAP_SMS", "h", 1000)
	case "reco":
		return humoPayment(a, "SOAP_RECO", "r", 1000)
	case "confirm":
		return humoConfirmation("h", 0)
	}
	return humoAbout(map[string]string{"cancel": "CancelRequest", "return": "ReturnPayment", "get": "GetPayment"}[what], "h")
}

// TestCentreFaults spoils every call of Humo, RBS and the SMS provider in every way there is, and looks at both sides.
func TestCentreFaults(t *testing.T) {
	for _, method := range otherMethods {
		if method == rbsCallback {
			continue // TestCallbackFaults
		}
		prepare := centreCalls[method]
		if prepare == nil {
			t.Errorf("%s has no test", method)
			continue
		}
		for _, kind := range faultKinds {
			// A slow trickle takes its time: one of each kind of answer is enough. TestWithheld has what never ends by itself.
			if !kind.spoils(method) || kind.Name == "withheld" || kind.Name == "drip" && method != "humo.hold" && method != "rbs.deposit" {
				continue
			}
			t.Run(method+" "+kind.Name, func(t *testing.T) {
				t.Parallel()
				testCentreFault(t, method, kind, prepare)
			})
		}
	}
}

func testCentreFault(t *testing.T, method string, kind faultKind, prepare func(*world) centreCall) {
	here := func() *world {
		return newWorldOf(t, Config{BaseURL: "https://sim.example/"}, &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)})
	}
	w := here()
	right := prepare(w)
	_, want, err := right.send() // as it should be, in a world that is thrown away
	if err != nil {
		t.Fatal(err)
	}
	w = here()
	call := prepare(w)
	fault := Fault{Method: method, Name: kind.Name}
	code := "909"
	if kind.Name == "error_code" {
		fault.Code, code = 907, "907"
	}
	isRBS, isSOAP := strings.HasPrefix(method, "rbs."), slices.Contains(soapMethods, method)
	if isRBS && kind.Name == "error_code" {
		fault.Code, code = 5, "5"
	} else if isRBS {
		code = "7"
	}
	if err := w.sim.AddFault(fault); err != nil {
		t.Fatal(err)
	}
	r, body, err := call.send()
	status := 0
	if r != nil {
		status = r.StatusCode
	}
	ok := false
	switch kind.Name {
	case "request_lost", "answer_lost":
		ok = errors.Is(err, io.EOF)
	case "reset":
		ok = errors.Is(err, syscall.ECONNRESET)
	case "fail_before":
		ok = status == 502 && body == ""
	case "fail_after_done":
		ok = status == 500 && body == ""
	case "http_429":
		ok = status == 429 && r.Header.Get("Retry-After") != ""
	case "http_502":
		ok = status == 502 && strings.Contains(body, "<h1>502 Bad Gateway</h1>")
	case "slow", "drip":
		ok = status == 200 && body == want
	case "garbage":
		ok = status == 200 && body == garbageAnswer
	case "truncated":
		ok = status == 200 && body == want[:len(want)/2]
	case "system_error", "system_error_not_done", "error_code":
		wantStatus := map[bool]int{true: 500, false: 200}[isSOAP]
		if method == "sms.send" {
			wantStatus = 400
		}
		ok = status == wantStatus && strings.Contains(body, call.refusal(code))
	case "soap_fault":
		ok = status == 500 && strings.Contains(body, "<SOAP-ENV:Fault>") && !strings.Contains(body, "<error>")
	case "wrong_namespace":
		ok = status == 200 && strings.Contains(body, `="urn:PaymentServer2"`) && strings.ReplaceAll(body, "PaymentServer2", "PaymentServer") == want
	case "json_for_xml":
		ok = status == 200 && json.Valid([]byte(body)) && r.Header.Get("Content-Type") == jsonType[0]
	case "wrong_id":
		ok = status == 200 && (strings.Contains(body, "<paymentRef>h-1</paymentRef>") && !strings.Contains(body, inElement(want, "paymentID")) || strings.Contains(body, `"orderNumber":"n-1"`) && !strings.Contains(body, w.sim.orders.all[0].id.String()))
	case "wrong_amount":
		ok = status == 200 && (item(body, "amount") == "1100" && item(body, "transaction_amount") == "1100" || strings.Contains(body, `"amount":1100,`) && strings.Contains(body, `"approvedAmount":1100,`))
	case "not_found_once":
		ok = strings.Contains(body, "<error>914</error>") || strings.HasPrefix(body, `{"errorCode":6,`) && !strings.Contains(body, "orderStatus")
	case "errorCode_string":
		ok = status == 200 && strings.Contains(body, `"errorCode":"0"`)
	case "errorCode_absent":
		ok = status == 200 && !strings.Contains(body, "errorCode") && json.Valid([]byte(body))
	}
	if !ok {
		t.Errorf("HTTP %d, %v: %s\nright is %s", status, err, body, want)
	}
	if call.done != nil && call.done() == kind.notDone {
		t.Errorf("done: %v", call.done())
	}
	checkBooks(t, w.sim.Books())
	if left := w.sim.Faults(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if call.done == nil { // a query is right the next time
		if _, body, err := call.send(); err != nil || body != want {
			t.Errorf("the next answer is %v %s", err, body)
		}
	}
}

// TestCentreFaultFindsItsCard sends every way in which a call of Humo and RBS can name a card.
func TestCentreFaultFindsItsCard(t *testing.T) {
	w := newWorld(t)
	a := w.first(humo, "ok")
	w.mustSOAP(humoPayment(a, "SOAP_DMS", "h", 1000))
	w.json("/humo-middleware/otp/send", `{"params":{"primaryAccountNumber":"`+a.pan+`"}}`)
	v := w.first(visa, "ok")
	order := w.paid("n", 1000, v)
	trans := w.sim.orders.all[0].secure.serverID.String()
	arrange := func(pan string) {
		t.Helper()
		for _, f := range []Fault{{Method: "*", Name: "error_code", Code: 333, PAN: sharedPAN}, {Method: "*", Name: "error_code", Code: 777, PAN: pan}} {
			if err := w.sim.AddFault(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	id := strings.Replace(humoAbout("GetPayment", "x"), "<paymentRef>x</paymentRef>", fmt.Sprintf("<paymentID>%d</paymentID>", w.sim.holdBase), 1)
	for _, payload := range []string{humoPayment(a, "SOAP_DMS", "new", 1), humoAbout("GetPayment", "h"), id, humoConfirmation("h", 0)} {
		arrange(a.pan)
		w.refusedSOAP("777", payload)
		w.sim.ClearFaults()
	}
	for path, body := range map[string]string{
		"v3/iiacs/card": `{"params":{"primaryAccountNumber":"` + a.pan + `"}}`, "otp/verify": fmt.Sprintf(`{"params":{"otpId":%d,"code":"1"}}`, w.sim.otps.base),
	} {
		arrange(a.pan)
		if _, answer := w.json("/humo-middleware/"+path, body); !strings.Contains(answer, `"code":777`) {
			t.Errorf("%s: %s", path, answer)
		}
		w.sim.ClearFaults()
	}
	for call, form := range map[string][]string{
		"paymentorder.do": {"$PAN", v.pan}, "3ds/continue.do": {"mdOrder", order}, "finish3dsVer2Payment.do": {"threeDSServerTransId", trans},
		"getOrderStatusExtended.do": {"orderNumber", "n"}, "deposit.do": {"orderId", order},
	} {
		arrange(v.pan)
		w.refusedRBS(777, call, fields(form...))
		w.sim.ClearFaults()
	}
}

// TestCallbackFaults spoils what the gateway is told.
func TestCallbackFaults(t *testing.T) {
	tested := map[string]bool{}
	for _, kind := range faultKinds {
		if !kind.spoils(rbsCallback) {
			continue
		}
		tested[kind.Name] = true
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			l := newListener(t)
			w := newWorldOf(t, Config{CallbackURL: l.server.URL, CallbackRepeat: time.Millisecond}, &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)})
			a := w.first(visa, "no_3ds")
			order := w.paid("n", 1000, a)
			if got := l.next(t); got.Get("operation") != "approved" {
				t.Fatalf("%v", got)
			}
			if err := w.sim.AddFault(Fault{Method: rbsCallback, Name: kind.Name, PAN: a.pan}); err != nil {
				t.Fatal(err)
			}
			// The callback of another card is as it should be.
			w.paid("m", 1000, w.first(mastercard, "no_3ds"))
			if got := l.next(t); got.Get("orderNumber") != "m" || got.Get("checksum") != signature(got, "holdfast") {
				t.Errorf("%v", got)
			}
			w.mustRBS("deposit.do", fields("orderId", order, "amount", "600"))
			if kind.Name == "callback_early" && len(l.got) != 1 {
				t.Errorf("%d callbacks before the answer", len(l.got))
			}
			if kind.Name == "callback_lost" {
				w.mustRBS("refund.do", fields("orderId", order, "amount", "1"))
				if got := l.next(t); got.Get("operation") != "refunded" {
					t.Errorf("%v", got)
				}
				return
			}
			got := l.next(t)
			genuine := got.Get("checksum") == signature(got, "holdfast")
			if got.Get("operation") != "deposited" || genuine != (kind.Name != "callback_forged") || (got.Get("status") == "1") != genuine ||
				(got.Get("amount") == "700") != (kind.Name == "wrong_amount") {
				t.Errorf("%v", got)
			}
			if kind.Name == "callback_twice" {
				if again := l.next(t); again.Encode() != got.Encode() {
					t.Errorf("%v", again)
				}
			}
			if w.wantStatus("n", 2, 0); len(w.sim.Faults()) != 0 {
				t.Errorf("left: %v", w.sim.Faults())
			}
		})
	}
	for _, name := range []string{"callback_lost", "callback_early", "callback_late", "callback_twice", "callback_forged", "wrong_amount"} {
		if !tested[name] {
			t.Errorf("%s has no test", name)
		}
	}
}
