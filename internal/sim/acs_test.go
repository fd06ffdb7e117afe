package sim

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func readAll(r io.Reader) (string, error) {
	b, err := io.ReadAll(r)
	return string(b), err
}

// atBank takes a card to the bank's page.
func (w *world) atBank(a *account, finishURL string) (order, trans string, next rbsResult) {
	w.t.Helper()
	order = w.registered(fmt.Sprint("n", len(w.sim.orders.all)), 12_345_600)
	trans = w.mustRBS("paymentorder.do", cardForm(a, order, "threeDSVer2FinishUrl", finishURL)).ThreeDSServerTransID
	return order, trans, w.mustRBS("3ds/continue.do", fields("mdOrder", order))
}

// TestThreeDSecure goes through all of it as a browser does, to a shop that listens.
func TestThreeDSecure(t *testing.T) {
	w := newWorld(t)
	arrived := make(chan url.Values, 1)
	shop := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		r.PostForm.Set("path", r.URL.Path)
		arrived <- r.PostForm
	}))
	defer shop.Close()
	a := w.first(visa, "ok")
	order := w.registered("n", 12_345_600)
	first := w.mustRBS("paymentorder.do", cardForm(a, order, "threeDSVer2FinishUrl", shop.URL+"/finish", "threeDSMethodNotificationUrl", shop.URL+"/method"))
	b := w.browser()

	page := b.post(first.ThreeDSMethodURL, fields("threeDSMethodData", first.ThreeDSMethodDataPacked))
	if page.action != shop.URL+"/method" || !strings.Contains(page.body, "<script>"+acsScript+"</script>") || page.header.Get("Content-Security-Policy") != acsPolicy {
		t.Fatalf("%+v", page)
	}
	b.post(page.action, page.fields)
	if got := <-arrived; got.Get("path") != "/method" {
		t.Errorf("%v", got)
	} else if text := string(must(base64.RawURLEncoding.DecodeString(got.Get("threeDSMethodData")))); text != `{"threeDSServerTransID":"`+first.ThreeDSServerTransID+`"}` {
		t.Errorf("the method page told %s", text)
	}
	if page := b.post(first.ThreeDSMethodURLServer, nil); page.status != 200 || page.action != "" {
		t.Errorf("%+v", page)
	}

	next := w.mustRBS("3ds/continue.do", fields("mdOrder", order))
	if n := len(w.sim.SMS(a.phone)); n != 0 {
		t.Errorf("%d messages before the payer has come", n)
	}
	creq := fields("creq", next.PackedCReq, "threeDSSessionData", `s"<>&`)
	page = b.post(next.ACSURL, creq)
	for _, want := range []string{"Holdfast Test Bank", "411111******1111", "123\u202f456.00 UZS", maskedPhone(a.phone)[3:], "3 tries are left", `autocomplete="one-time-code"`, `<label for="code">`} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the bank's page does not show %q: %s", want, page.body)
		}
	}
	if strings.Contains(page.body, "<script") || strings.Contains(page.body, a.pan) || page.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s", page.body)
	}
	// Reloading sends no second message.
	b.post(next.ACSURL, creq)
	if m := w.sim.SMS(a.phone); len(m) != 1 || m[0].Code != "111111" {
		t.Errorf("%v", m)
	}
	page = b.submit(page, "submit", "code", "999999")
	if !strings.Contains(page.body, "This code is not right.") || !strings.Contains(page.body, "2 tries are left") {
		t.Errorf("%s", page.body)
	}
	bank := page
	page = b.submit(bank, "submit", "code", " 111 111 ")
	if page.action != shop.URL+"/finish" || !strings.Contains(page.body, "<button>Continue</button>") || page.fields.Get("threeDSSessionData") != `s"<>&` {
		t.Fatalf("%+v", page)
	}
	want := fmt.Sprintf(`{"threeDSServerTransID":"%s","acsTransID":"%s","challengeCompletionInd":"Y","messageType":"CRes","messageVersion":"2.2.0","transStatus":"Y"}`,
		first.ThreeDSServerTransID, w.sim.orders.all[0].secure.acsID)
	if text := string(must(base64.RawURLEncoding.DecodeString(page.fields.Get("cres")))); text != want {
		t.Errorf("cres\n got %s\nwant %s", text, want)
	}
	b.post(page.action, page.fields)
	if got := <-arrived; got.Get("path") != "/finish" || got.Get("cres") == "" {
		t.Errorf("%v", got)
	}
	// Nothing is held until the shop's gateway finishes.
	w.wantStatus("n", 5, -100)
	w.wantBalance(a.pan, 0, 0)
	// Back button, double click, reload: the same way out, and the same result.
	for _, again := range []webPage{b.submit(bank, "submit", "code", "000000"), b.submit(bank, "cancel"), b.post(next.ACSURL, creq)} {
		if again.action != shop.URL+"/finish" || again.cres(t).TransStatus != "Y" {
			t.Errorf("%+v", again)
		}
	}
	w.mustRBS("finish3dsVer2Payment.do", fields("threeDSServerTransId", first.ThreeDSServerTransID))
	w.wantStatus("n", 1, 0)
	w.wantBalance(a.pan, 0, 12_345_600)
	if again := b.submit(bank, "cancel"); again.cres(t).TransStatus != "Y" {
		t.Errorf("%+v", again)
	}
	w.wantStatus("n", 1, 0)
}

// TestForgedCRes comes back with a cres that no ACS has written.
func TestForgedCRes(t *testing.T) {
	w := newWorld(t)
	a := w.first(visa, "ok")
	order, trans, next := w.atBank(a, "https://shop.example/finish")
	// The forger has read his creq, and writes a perfect cres. The shop's gateway, which cannot tell, asks.
	forged := packed(cres{trans, w.sim.orders.all[0].secure.acsID.String(), "Y", "CRes", "2.2.0", "Y"})
	finish := fields("threeDSServerTransId", trans, "cres", forged)
	w.refusedRBS(7, "finish3dsVer2Payment.do", finish)
	w.wantStatus("n0", 5, -100)
	w.wantBalance(a.pan, 0, 0)
	// Having failed, he has failed, whatever he carries.
	b := w.browser()
	page := b.post(next.ACSURL, fields("creq", next.PackedCReq))
	for range 3 {
		page = b.submit(page, "submit", "code", "000000")
	}
	if page.cres(t).TransStatus != "N" {
		t.Errorf("%+v", page)
	}
	if r := w.mustRBS("finish3dsVer2Payment.do", finish); r.ErrorTypeName != "TDS_UNKNOWN_ARES_STATUS" || r.ProcessingErrorType != "MANDATORY_3DSECURE" {
		t.Errorf("%+v", r)
	}
	w.wantStatus("n0", 6, -2024)
	got := w.status(fields("orderId", order))
	if s := got.CardAuthInfo.SecureAuthInfo; s.RReq != "N" || s.ThreeDSInfo != nil {
		t.Errorf("%+v", s)
	}
	w.wantBalance(a.pan, 0, 0)
}

// TestBankPage covers what else a payer can do there.
func TestBankPage(t *testing.T) {
	w := newWorld(t)
	a := w.sim.byPAN["4000001111111118"] // its codes are random
	b := w.browser()
	code := func() string { return w.sim.SMS(a.phone)[0].Code }

	_, trans, next := w.atBank(a, "https://shop.example/finish")
	page := b.post(next.ACSURL, fields("creq", next.PackedCReq+"="))
	if page = b.submit(page, "cancel"); page.cres(t).TransStatus != "N" || page.fields.Has("threeDSSessionData") {
		t.Errorf("%+v", page)
	}
	w.mustRBS("finish3dsVer2Payment.do", fields("threeDSServerTransId", trans))
	w.wantStatus("n0", 6, -2024)

	// A code has its time; another can be had, three times.
	_, trans, next = w.atBank(a, "https://shop.example/finish")
	page = b.post(next.ACSURL, fields("creq", next.PackedCReq))
	old := code()
	w.clock.move(5 * time.Minute)
	if page = b.submit(page, "submit", "code", old); !strings.Contains(page.body, "This code has expired") || !strings.Contains(page.body, "3 tries are left") {
		t.Errorf("%s", page.body)
	}
	for n := range 4 {
		if page = b.submit(page, "resend"); strings.Contains(page.body, "No more messages") != (n == 3) || strings.Contains(page.body, "Send a new code") != (n < 2) {
			t.Errorf("%d: %s", n, page.body)
		}
	}
	if n := len(w.sim.SMS(a.phone)); n != 5 {
		t.Errorf("%d messages", n)
	}
	if page = b.submit(page, "submit", "code", old); page.action != "/acs/code" {
		t.Error("an old code passed")
	}
	if page = b.submit(page, "submit", "code", code()); page.cres(t).TransStatus != "Y" {
		t.Errorf("%s", page.body)
	}
	w.mustRBS("finish3dsVer2Payment.do", fields("threeDSServerTransId", trans))
	w.wantStatus("n1", 1, 0)

	// What is no creq of ours.
	_, _, next = w.atBank(a, "https://shop.example/finish")
	o := w.sim.orders.all[2]
	for name, q := range map[string]string{
		"nothing": "", "no base64": "%%%", "no JSON": base64.RawURLEncoding.EncodeToString([]byte("{")),
		"another message":     packed(creq{o.secure.serverID.String(), "RReq", "2.2.0", o.secure.acsID.String(), "05"}),
		"another transaction": packed(creq{uuid{1}.String(), "CReq", "2.2.0", o.secure.acsID.String(), "05"}),
		"another ACS":         packed(creq{o.secure.serverID.String(), "CReq", "2.2.0", uuid{1}.String(), "05"}),
		"ids changed":         packed(creq{o.secure.acsID.String(), "CReq", "2.2.0", o.secure.serverID.String(), "05"}),
	} {
		if page := b.post(next.ACSURL, fields("creq", q)); page.status != 400 || page.action != "" {
			t.Errorf("%s: %d %s", name, page.status, page.body)
		}
	}
	if page := b.post(next.ACSURL, fields("creq", next.PackedCReq, "threeDSSessionData", strings.Repeat("x", maxSessionData+1))); page.status != 400 {
		t.Errorf("%d %s", page.status, page.body)
	}
	if page := b.post(next.ACSURL, fields("creq", strings.Repeat("x", maxACSBody))); page.status != 400 {
		t.Errorf("%d %s", page.status, page.body)
	}
	if page := b.post(w.server.URL+"/acs/code", fields("transaction", o.secure.serverID.String(), "do", "submit", "code", code())); page.status != 400 {
		t.Errorf("%d %s", page.status, page.body)
	}
	if page := b.post(w.server.URL+"/acs/method", fields("threeDSMethodData", "x")); page.status != 400 {
		t.Errorf("%d %s", page.status, page.body)
	}
	if page := b.post(w.server.URL+"/acs/method", fields("threeDSMethodData", packed(methodData{ServerTransID: uuid{1}.String()}))); page.status != 200 || page.action != "" {
		t.Errorf("%d %s", page.status, page.body)
	}
	for _, path := range []string{"/rbs/payment?mdOrder=x", "/rbs/3ds/gather"} {
		if status, _ := w.get(path); status != 200 {
			t.Errorf("%s: %d", path, status)
		}
	}
	for _, path := range []string{"/acs/challenge", "/acs/code", "/acs/method"} {
		if status, _ := w.get(path); status != 405 {
			t.Errorf("%s: %d", path, status)
		}
	}
}
