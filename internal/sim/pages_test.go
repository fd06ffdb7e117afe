package sim

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestPages(t *testing.T) {
	w := newWorld(t)
	see := func(path string, wants ...string) string {
		t.Helper()
		status, body := w.get(path)
		if status != 200 {
			t.Errorf("%s: HTTP %d", path, status)
		}
		for _, want := range append(wants, "<!doctype html>", `name="viewport"`, "</html>") {
			if !strings.Contains(body, want) {
				t.Errorf("%s does not show %q", path, want)
			}
		}
		if strings.Contains(body, "<script") {
			t.Errorf("%s has a script", path)
		}
		return body
	}
	see("/", "8600 3132 6086 1293", "12/30", "861293", "unknown_then_done", "insufficient_funds", "-333", "&#43;998901234500")
	see("/", `id="humo"`, "986014", `id="visa"`, "4111 1111 1111 1111", `id="mastercard"`, "5555 5555 5555 4444", "frictionless", "3-D Secure", "Payment confirmed", "deposit.do")
	see("/sms", "No message yet", `http-equiv="refresh"`)
	see("/books", "Nothing has happened yet")
	see("/faults", "None: the centre works as it should", "answer_lost", "hold.dismiss.charge", "humo.confirm", "rbs.callback", "callback_forged", "wrong_namespace")

	token := w.token(sharedPAN)
	hold := w.hold(token, 123_456)
	w.capture(hold, "<script>alert(1)</script>", 100_000)
	w.hold(token, 7_700)
	see("/", "999\u202f999\u202f999\u202f999\u202f000.00", "77.00")
	see("/sms", sharedCode, "Holdfast Test Bank")
	see("/sms?phone=%2B998901234500", sharedCode)
	if body := see("/sms?phone=998900000000"); strings.Contains(body, sharedCode) {
		t.Error("a phone sees another's messages")
	}
	see("/books", fmt.Sprint(hold), "&lt;script&gt;alert(1)&lt;/script&gt;", "1\u202f000.00", "captured", "234.56", "*1293")
	if status, body := w.get("/sms?phone=" + url.QueryEscape(`"><script>`)); status != 400 || strings.Contains(body, "<script") {
		t.Errorf("%d %s", status, body)
	}

	w.mustSOAP(humoPayment(w.first(humo, "ok"), "SOAP_DMS", "humo-1", 500))
	w.paid("rbs-1", 500, w.first(visa, "no_3ds"))
	see("/books", "humo-1", "rbs-1", `<span class="quiet">visa</span>`)
	if w.json("/sms/send", `{"phone":"998900000001","text":"Your order <b>is</b> ready"}`); strings.Contains(see("/sms", "Your order &lt;b&gt;is&lt;/b&gt; ready"), `<strong class="number big"></strong>`) {
		t.Error("a message without a code shows an empty one")
	}

	// All pages forbid what they do not need.
	response, _, err := w.do(must(http.NewRequest("GET", w.server.URL+"/", nil)))
	if err != nil || !strings.HasPrefix(response.Header.Get("Content-Security-Policy"), "default-src 'none'; style-src 'self';") {
		t.Errorf("%v %v", response, err)
	}
	if status, body := w.get("/style.css"); status != 200 || !strings.Contains(body, "prefers-color-scheme: dark") {
		t.Errorf("style.css: %d", status)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestBooksPageShowsTheNewest(t *testing.T) {
	w := newWorld(t)
	w.sim.mu.Lock()
	for i := range pageOperations + 10 {
		w.sim.charge(w.sim.byPAN[sharedPAN], 1, fmt.Sprintf("ext-%04d", i), 0, w.clock.now)
	}
	w.sim.mu.Unlock()
	_, body := w.get("/books")
	if n := strings.Count(body, ">ext-"); n != pageOperations || strings.Contains(body, "ext-0009") || !strings.Contains(body, "ext-0010") || !strings.Contains(body, "210 in all, the newest 200 here") {
		t.Errorf("%d operations are shown", n)
	}
}

func TestForms(t *testing.T) {
	w := newWorld(t)
	send := func(path string, form url.Values) (int, string) {
		t.Helper()
		r := must(http.NewRequest("POST", w.server.URL+path, strings.NewReader(form.Encode())))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		response, body, err := w.do(r) // follows the redirect
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, body
	}
	status, body := send("/faults", url.Values{"method": {"hold.create"}, "fault": {"answer_lost"}, "times": {"3"}, "after": {""}, "pan": {"8600 3132 6086 1293"}})
	if f := w.sim.Faults(); status != 200 || len(f) != 1 || f[0] != (Fault{Method: "hold.create", Name: "answer_lost", Times: 3, PAN: sharedPAN}) {
		t.Errorf("%d %v", status, f)
	}
	if !strings.Contains(body, "answer_lost will happen to hold.create.") || !strings.Contains(body, `<span class="count">1</span>`) {
		t.Error("the page does not say that it was arranged")
	}
	for field, wrong := range map[string]string{"times": "many", "pan": "1234", "code": "-300", "after": "-1"} {
		form := url.Values{"method": {"hold.create"}, "fault": {"drip"}}
		form.Set(field, wrong)
		status, body := send("/faults", form)
		if status != 400 || !strings.Contains(body, `role="alert">`+field+":") || !strings.Contains(body, "<option selected>drip</option>") {
			t.Errorf("%s=%s: %d", field, wrong, status)
		}
	}
	if send("/faults/clear", nil); len(w.sim.Faults()) != 0 {
		t.Error("not cleared")
	}
	token := w.token(sharedPAN)
	w.hold(token, 100)
	if _, body := send("/clock", url.Values{"minutes": {"30"}}); !strings.Contains(body, "The clock shows 2026-11-23 17:30 now.") {
		t.Error("the page does not say what the clock shows")
	}
	w.wantBalance(sharedPAN, 0, 0)
	if status, _ := send("/clock", url.Values{"minutes": {"0"}}); status != 400 {
		t.Errorf("0 minutes: %d", status)
	}
	if send("/reset", nil); len(w.sim.Books().Operations) != 0 {
		t.Error("not reset")
	}
}
