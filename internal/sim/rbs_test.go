package sim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// postForm sends a form to RBS as it stands.
func (w *world) postForm(call, form string) (*http.Response, string, error) {
	r, err := http.NewRequest("POST", w.server.URL+"/rbs/rest/"+call, strings.NewReader(form))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return w.do(r)
}

// fields makes a form of pairs.
func fields(pairs ...string) url.Values {
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return form
}

// rbs calls RBS with the credentials and gives the answer and its errorCode.
func (w *world) rbs(call string, form url.Values) (body string, code int) {
	w.t.Helper()
	form = maps.Clone(form)
	form.Set("userName", "holdfast")
	form.Set("password", "holdfast")
	response, body, err := w.postForm(call, form.Encode())
	if err != nil {
		w.t.Fatal(err)
	}
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		w.t.Fatalf("%s: HTTP %d %s", call, response.StatusCode, body)
	}
	var answer struct{ ErrorCode int }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		w.t.Fatalf("%s: %v %s", call, err, body)
	}
	return body, answer.ErrorCode
}

func (w *world) mustRBS(call string, form url.Values) rbsResult {
	w.t.Helper()
	body, code := w.rbs(call, form)
	if code != 0 {
		w.t.Fatalf("%s: %s", call, body)
	}
	var answer rbsResult
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		w.t.Fatal(err)
	}
	return answer
}

func (w *world) refusedRBS(want int, call string, form url.Values) {
	w.t.Helper()
	if body, code := w.rbs(call, form); code != want {
		w.t.Errorf("%s %s: %s, want %d", call, form.Encode(), body, want)
	}
}

func (w *world) status(form url.Values) rbsStatusResult {
	w.t.Helper()
	body, code := w.rbs("getOrderStatusExtended.do", form)
	var answer rbsStatusResult
	if err := json.Unmarshal([]byte(body), &answer); err != nil || code != 0 {
		w.t.Fatalf("%v %s", err, body)
	}
	return answer
}

func (w *world) wantStatus(number string, status, action int) {
	w.t.Helper()
	if got := w.status(fields("orderNumber", number)); got.OrderStatus != status || got.ActionCode != action {
		w.t.Errorf("%s: orderStatus %d, actionCode %d, want %d and %d", number, got.OrderStatus, got.ActionCode, status, action)
	}
}

// registered makes an order and gives its mdOrder.
func (w *world) registered(number string, amount int64, more ...string) string {
	w.t.Helper()
	form := fields(append([]string{"orderNumber", number, "amount", fmt.Sprint(amount), "currency", "860", "returnUrl", "https://shop.example/back"}, more...)...)
	return w.mustRBS("registerPreAuth.do", form).OrderID
}

func cardForm(a *account, order string, more ...string) url.Values {
	return fields(append([]string{"MDORDER", order, "$PAN", a.pan, "$CVC", a.cvc, "YYYY", "20" + a.exp[:2], "MM", a.exp[2:], "TEXT", a.holder, "language", "en"}, more...)...)
}

// paid takes a card through all of 3-D Secure, the code included, and gives the order.
func (w *world) paid(number string, amount int64, a *account) string {
	w.t.Helper()
	order := w.registered(number, amount)
	first := w.mustRBS("paymentorder.do", cardForm(a, order, "threeDSVer2FinishUrl", "https://shop.example/finish"))
	if first.ThreeDSServerTransID == "" {
		return order
	}
	next := w.mustRBS("3ds/continue.do", fields("mdOrder", order))
	if next.ACSURL == "" {
		return order
	}
	b := w.browser()
	page := b.post(w.server.URL+"/acs/challenge", fields("creq", next.PackedCReq, "threeDSSessionData", "s"))
	b.submit(page, "submit", "code", w.sim.SMS(a.phone)[0].Code)
	w.mustRBS("finish3dsVer2Payment.do", fields("threeDSServerTransId", first.ThreeDSServerTransID))
	return order
}

// TestRBSShapes holds every call's answer against its exact JSON.
func TestRBSShapes(t *testing.T) {
	w := newWorld(t)
	s := w.sim
	a := w.first(visa, "ok")
	base := w.server.URL
	must := func(call string, form url.Values, want string) {
		t.Helper()
		if got, _ := w.rbs(call, form); got != want {
			t.Errorf("%s\n got %s\nwant %s", call, got, want)
		}
	}
	body, _ := w.rbs("registerPreAuth.do", fields("orderNumber", "n1", "amount", "150000", "currency", "860", "returnUrl", "https://shop.example/back?x=1", "description", "A <b>",
		"jsonParams", `{"b":"1","a":"x"}`))
	o := s.orders.all[0]
	order := o.id.String()
	if want := `{"orderId":"` + order + `","formUrl":"` + base + `/rbs/payment?mdOrder=` + order + `"}`; body != want || !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(order) {
		t.Errorf("\n got %s\nwant %s", body, want)
	}
	const millis = "1795435200000"
	status := func(orderStatus, action int, text, card, amounts, rest string) string {
		return fmt.Sprintf(`{"errorCode":0,"errorMessage":"Success","orderNumber":"n1","orderStatus":%d,"actionCode":%d,"actionCodeDescription":"%s","amount":150000,"currency":"860",`+
			`"date":%s,"orderDescription":"A \u003cb\u003e","ip":"192.0.2.7","merchantOrderParams":[{"name":"b","value":"1"},{"name":"a","value":"x"}],"transactionAttributes":[],`+
			`"attributes":[{"name":"mdOrder","value":"%s"}]%s,"paymentAmountInfo":{"paymentState":%s,"totalAmount":150000}%s}`, orderStatus, action, text, millis, order, card, amounts, rest)
	}
	must("getOrderStatusExtended.do", fields("orderId", order), strings.Replace(status(0, -100, "No payment attempts", "", `"CREATED","approvedAmount":0,"depositedAmount":0,"refundedAmount":0`, ""), "192.0.2.7", "", 1))

	pay := cardForm(a, order, "ip", "192.0.2.7", "threeDSVer2FinishUrl", "https://shop.example/finish", "threeDSMethodNotificationUrl", "https://shop.example/method", "clientBrowserInfo", `{"userAgent":"x"}`)
	first, _ := w.rbs("paymentorder.do", pay)
	server, acs := o.secure.serverID.String(), o.secure.acsID.String()
	packedMethod := base64.RawURLEncoding.EncodeToString([]byte(`{"threeDSMethodNotificationURL":"https://shop.example/method","threeDSServerTransID":"` + server + `"}`))
	if want := `{"errorCode":0,"is3DSVer2":true,"threeDSServerTransId":"` + server + `","threeDSMethodURL":"` + base + `/acs/method","threeDSMethodURLServer":"` + base +
		`/rbs/3ds/gather?threeDSServerTransID=` + server + `","threeDSMethodDataPacked":"` + packedMethod + `"}`; first != want {
		t.Errorf("\n got %s\nwant %s", first, want)
	}
	must("paymentorder.do", pay, first) // again, as after a lost answer

	packedCReq := base64.RawURLEncoding.EncodeToString([]byte(`{"threeDSServerTransID":"` + server + `","messageType":"CReq","messageVersion":"2.2.0","acsTransID":"` + acs + `","challengeWindowSize":"05"}`))
	challenge := `{"info":"Your order is proceeded, redirecting...","errorCode":0,"is3DSVer2":true,"acsUrl":"` + base + `/acs/challenge","packedCReq":"` + packedCReq + `"}`
	must("3ds/continue.do", fields("mdOrder", order), challenge)
	must("3ds/continue.do", fields("mdOrder", order), challenge)
	pay.Set("threeDSServerTransId", server)
	must("paymentorder.do", pay, challenge) // the older way

	// A description made of "<" is escaped as JSON allows; bank and card come with the card.
	bank := `,"bankInfo":{"bankName":"HOLDFAST TEST BANK","bankCountryCode":"UZ","bankCountryName":"Uzbekistan"}`
	card := func(approval, secure string) string {
		return `,"cardAuthInfo":{"maskedPan":"411111**1111","expiration":"203012","cardholderName":"` + a.holder + `",` + approval + `"paymentSystem":"VISA","product":"","secureAuthInfo":` + secure + `}`
	}
	open := `{"aResTransStatus":"C","threeDSProtocolVersion":"2.2.0"}`
	must("getOrderStatusExtended.do", fields("orderNumber", "n1"), status(5, -100, "No payment attempts", card("", open), `"CREATED","approvedAmount":0,"depositedAmount":0,"refundedAmount":0`, bank))
	must("finish3dsVer2Payment.do", fields("threeDSServerTransId", server), `{"errorCode":7,"errorMessage":"3-D Secure authentication is not finished"}`)

	b := w.browser()
	page := b.post(base+"/acs/challenge", fields("creq", packedCReq))
	b.submit(page, "submit", "code", "111111") // the last six digits of the card
	redirect := `{"redirect":"https://shop.example/back?lang=en\u0026orderId=` + order + `\u0026x=1","info":"Your payment has been processed, redirecting...","errorCode":0,"is3DSVer2":true}`
	must("finish3dsVer2Payment.do", fields("threeDSServerTransId", server), redirect)
	must("finish3dsVer2Payment.do", fields("threeDSServerTransId", server), redirect)

	cavv := base64.StdEncoding.EncodeToString(append(o.secure.acsID[:], o.secure.serverID[:4]...))
	xid := base64.StdEncoding.EncodeToString(append(o.secure.serverID[:], o.secure.acsID[:4]...))
	passed := card(`"approvalCode":"104729",`, `{"eci":5,"threeDSInfo":{"cavv":"`+cavv+`","xid":"`+xid+`"},"aResTransStatus":"C","rReqTransStatus":"Y","threeDSProtocolVersion":"2.2.0"}`)
	auth := `,"authDateTime":` + millis + `,"terminalId":"20260001","authRefNum":"` + fmt.Sprint(s.refBase) + `"`
	must("getOrderStatusExtended.do", fields("orderId", order), status(1, 0, "", passed+auth, `"APPROVED","approvedAmount":150000,"depositedAmount":0,"refundedAmount":0`, bank))
	success := `{"errorCode":0,"errorMessage":"Success"}`
	must("deposit.do", fields("orderId", order, "amount", "100000"), success)
	deposited := auth + `,"depositedDate":` + millis
	must("getOrderStatusExtended.do", fields("orderId", order), status(2, 0, "", passed+deposited, `"DEPOSITED","approvedAmount":150000,"depositedAmount":100000,"refundedAmount":0`, bank))
	must("refund.do", fields("orderId", order, "amount", "30000", "externalRefundId", "r1"), success)
	must("refund.do", fields("orderId", order, "amount", "30000", "externalRefundId", "r1"), success)
	must("getOrderStatusExtended.do", fields("orderId", order), status(4, 0, "", passed+deposited+`,"refundedDate":`+millis, `"REFUNDED","approvedAmount":150000,"depositedAmount":70000,"refundedAmount":30000`,
		bank+`,"refunds":[{"externalRefundId":"r1","approvalCode":"`+approval(2)+`","actionCode":0,"referenceNumber":"`+fmt.Sprint(s.refBase+2)+`","amount":30000}]`))
	w.wantBalance(a.pan, -70_000, 0)

	// One more, given back.
	second := w.paid("n2", 70_000, a)
	must("reverse.do", fields("orderId", second), success)
	if got := w.status(fields("orderId", second)); got.OrderStatus != 3 || got.PaymentAmountInfo.PaymentState != "REVERSED" || got.ReversedDate != w.clock.now.UnixMilli() {
		t.Errorf("%+v", got)
	}
	must("registerPreAuth.do", fields("orderNumber", "n1", "amount", "1", "returnUrl", "https://x.example"), `{"errorCode":1,"errorMessage":"Order number is duplicated, order with given order number is processed already"}`)
	must("getOrderStatusExtended.do", fields("orderNumber", "nobody"), `{"errorCode":6,"errorMessage":"Order not found"}`)

	var got []string
	for _, op := range w.sim.Books().Operations {
		got = append(got, fmt.Sprintf("%s %s %s %d %s captured %d released %d refunded %d of %q", op.Scheme, op.Reference, op.Kind, op.Amount, op.State, op.Captured, op.Released, op.Refunded, op.Of))
	}
	want := []string{
		`visa n1 hold 150000 captured captured 100000 released 50000 refunded 0 of ""`,
		`visa n1 capture 100000 partly_reversed captured 0 released 0 refunded 30000 of ""`,
		`visa r1 refund 30000 done captured 0 released 0 refunded 0 of "n1"`,
		`visa n2 hold 70000 dismissed captured 0 released 70000 refunded 0 of ""`,
		`visa n2 void 70000 done captured 0 released 0 refunded 0 of ""`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("books\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

func TestRBSTransport(t *testing.T) {
	w := newWorld(t)
	w.registered("n", 100)
	send := func(method, path, contentType, form string) (int, string) {
		r := must(http.NewRequest(method, w.server.URL+"/rbs/rest/"+path, strings.NewReader(form)))
		r.Header.Set("Content-Type", contentType)
		response, body, err := w.do(r)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, body
	}
	const form, found, denied = "application/x-www-form-urlencoded", `"orderNumber":"n"`, `"errorCode":5`
	const login, order = "userName=holdfast&password=holdfast&", "orderNumber=n"
	for _, c := range []struct {
		name, method, path, contentType, body string
		status                                int
		want                                  string
	}{
		{"password", "POST", "getOrderStatusExtended.do", form, login + order, 200, found},
		{"with a charset", "POST", "getOrderStatusExtended.do", form + "; charset=utf-8", login + order, 200, found},
		{"token", "POST", "getOrderStatusExtended.do", form, "token=holdfast&" + order, 200, found},
		{"wrong password", "POST", "getOrderStatusExtended.do", form, "userName=holdfast&password=x&" + order, 200, denied},
		{"wrong token", "POST", "getOrderStatusExtended.do", form, "token=x&" + order, 200, denied},
		{"token and password", "POST", "getOrderStatusExtended.do", form, "token=holdfast&" + login + order, 200, denied},
		{"no credentials", "POST", "getOrderStatusExtended.do", form, order, 200, denied},
		{"credentials in the address", "POST", "getOrderStatusExtended.do?" + login, form, order, 200, denied},
		{"a field twice", "POST", "getOrderStatusExtended.do", form, login + order + "&" + order, 200, denied},
		{"half a form", "POST", "getOrderStatusExtended.do", form, login + order + "&x=%", 200, denied},
		{"many fields", "POST", "getOrderStatusExtended.do", form, login + order + strings.Repeat("&a", 1) + manyFields(), 200, denied},
		{"GET", "GET", "getOrderStatusExtended.do", form, "", 405, ""},
		{"unknown call", "POST", "steal.do", form, login, 404, ""},
		{"JSON", "POST", "register.do", "application/json", "{}", 415, ""},
		{"multipart", "POST", "register.do", "multipart/form-data; boundary=x", "", 415, ""},
		{"too long", "POST", "register.do", form, strings.Repeat("x", maxRBSBody+1), 413, ""},
	} {
		if status, body := send(c.method, c.path, c.contentType, c.body); status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s: %d %s", c.name, status, body)
		}
	}
}

func manyFields() string {
	var b strings.Builder
	for i := range maxFields {
		fmt.Fprintf(&b, "&f%d=", i)
	}
	return b.String()
}

// TestRBSRefusals walks through every limit of the protocol.
func TestRBSRefusals(t *testing.T) {
	w := newWorld(t)
	a := w.first(visa, "ok")
	register := fields("orderNumber", "new", "amount", "1000", "currency", "860", "returnUrl", "https://shop.example/back")
	change := func(form url.Values, pairs ...string) url.Values {
		form = maps.Clone(form)
		for i := 0; i < len(pairs); i += 2 {
			if form.Del(pairs[i]); pairs[i+1] != "" {
				form.Set(pairs[i], pairs[i+1])
			}
		}
		return form
	}
	for _, c := range []struct {
		code int
		form url.Values
	}{
		{4, change(register, "orderNumber", "")},
		{5, change(register, "orderNumber", strings.Repeat("x", 37))},
		{5, change(register, "orderNumber", "\xff")},
		{5, change(register, "amount", "")},
		{5, change(register, "amount", "0")},
		{5, change(register, "amount", "-1")},
		{5, change(register, "amount", "10.00")},
		{5, change(register, "amount", "1e3")},
		{5, change(register, "amount", "1234567890123")},
		{3, change(register, "currency", "999")},
		{5, change(register, "currency", "8600")},
		{4, change(register, "returnUrl", "")},
		{5, change(register, "returnUrl", "/back")},
		{5, change(register, "returnUrl", "javascript:alert(1)")},
		{5, change(register, "returnUrl", "ftp://shop.example/back")},
		{5, change(register, "returnUrl", "https:///back")},
		{5, change(register, "returnUrl", "https://shop example/back")},
		{5, change(register, "returnUrl", "https://x.example/"+strings.Repeat("x", maxURL))},
		{5, change(register, "failUrl", "shop")},
		{5, change(register, "dynamicCallbackUrl", "shop")},
		{5, change(register, "description", strings.Repeat("x", 599))},
		{5, change(register, "language", "eng")},
		{5, change(register, "jsonParams", "{")},
		{5, change(register, "jsonParams", `["x"]`)},
		{5, change(register, "jsonParams", `{"a":1}`)},
		{5, change(register, "jsonParams", `{"a":"1","a":"1"}`)},
		{5, change(register, "sessionTimeoutSecs", "0")},
		{5, change(register, "sessionTimeoutSecs", "x")},
		{5, change(register, "sessionTimeoutSecs", "999999999")},
		{5, change(register, "expirationDate", "2026-11-23T16:59:59")},
		{5, change(register, "expirationDate", "2027-11-23T17:00:00")},
		{5, change(register, "expirationDate", "tomorrow")},
	} {
		w.refusedRBS(c.code, "registerPreAuth.do", c.form)
		w.refusedRBS(c.code, "register.do", c.form)
	}
	order := w.mustRBS("registerPreAuth.do", change(register, "expirationDate", "2026-11-23T17:30:00")).OrderID
	pay := cardForm(a, order)
	for _, c := range []struct {
		code int
		form url.Values
	}{
		{4, change(pay, "MDORDER", "")},
		{6, change(pay, "MDORDER", "00000000-0000-4000-8000-000000000000")},
		{6, change(pay, "MDORDER", strings.ToUpper(order))},
		{6, change(pay, "MDORDER", "x")},
		{4, change(pay, "$PAN", "")},
		{5, change(pay, "$PAN", "4111111111111112")},
		{5, change(pay, "$PAN", "411111111111111x")},
		{5, change(pay, "$PAN", "41111111111111111111")},
		{5, change(pay, "$PAN", luhn("41111111111"))},
		{5, change(pay, "$PAN", luhn("41111111111111x"))},
		{4, change(pay, "$CVC", "")},
		{5, change(pay, "$CVC", "12")},
		{5, change(pay, "$CVC", "12x")},
		{4, change(pay, "YYYY", "")},
		{5, change(pay, "MM", "13")},
		{5, change(pay, "MM", "00")},
		{5, change(pay, "MM", "0x")},
		{5, change(pay, "$EXPIRY", "3012")},
		{4, change(pay, "TEXT", "")},
		{5, change(pay, "clientBrowserInfo", "{")},
		{5, change(pay, "threeDSVer2FinishUrl", "x")},
		{5, change(pay, "threeDSMethodNotificationUrl", "x")},
		{6, change(pay, "threeDSServerTransId", "00000000-0000-4000-8000-000000000000")},
	} {
		w.refusedRBS(c.code, "paymentorder.do", c.form)
	}
	w.refusedRBS(4, "3ds/continue.do", fields())
	w.refusedRBS(6, "3ds/continue.do", fields("mdOrder", "x"))
	w.refusedRBS(7, "3ds/continue.do", fields("mdOrder", order)) // no card yet
	w.refusedRBS(4, "finish3dsVer2Payment.do", fields())
	w.refusedRBS(6, "finish3dsVer2Payment.do", fields("threeDSServerTransId", order))
	w.refusedRBS(6, "finish3dsVer2Payment.do", fields("threeDSServerTransId", uuid{}.String()))
	w.refusedRBS(4, "getOrderStatusExtended.do", fields())
	w.refusedRBS(6, "getOrderStatusExtended.do", fields("orderId", "x", "orderNumber", "new")) // orderId has priority
	for _, call := range []string{"deposit.do", "reverse.do", "refund.do"} {
		w.refusedRBS(4, call, fields("amount", "1"))
		w.refusedRBS(6, call, fields("amount", "1", "orderId", "x"))
		w.refusedRBS(5, call, fields("amount", "x", "orderId", order))
		w.refusedRBS(7, call, fields("amount", "1000", "orderId", order)) // nothing is held
	}
	// None of it has touched the order.
	first := w.mustRBS("paymentorder.do", change(pay, "YYYY", "", "MM", "", "$EXPIRY", "203012"))
	w.refusedRBS(7, "finish3dsVer2Payment.do", fields("threeDSServerTransId", first.ThreeDSServerTransID)) // nobody was asked
	w.refusedRBS(7, "paymentorder.do", cardForm(w.first(mastercard, "ok"), order))                         // another card now
	w.refusedRBS(6, "paymentorder.do", change(cardForm(w.first(mastercard, "ok"), order), "threeDSServerTransId", first.ThreeDSServerTransID))
	w.refusedRBS(6, "paymentorder.do", change(pay, "threeDSServerTransId", "00000000-0000-4000-8000-000000000000"))
	w.wantStatus("new", 0, -100)

	held := w.paid("held", 1000, a)
	for _, c := range []struct {
		code int
		call string
		form url.Values
	}{
		{4, "deposit.do", fields("orderId", held)},
		{5, "deposit.do", fields("orderId", held, "amount", "1001")},
		{5, "reverse.do", fields("orderId", held, "amount", "999")},
		{7, "refund.do", fields("orderId", held, "amount", "1")},
		{7, "paymentorder.do", cardForm(a, held)},
		{7, "3ds/continue.do", fields("mdOrder", held)},
	} {
		w.refusedRBS(c.code, c.call, c.form)
	}
	w.mustRBS("deposit.do", fields("orderNumber", "held", "amount", "600"))
	for _, c := range []struct {
		code int
		call string
		form url.Values
	}{
		{7, "deposit.do", fields("orderId", held, "amount", "100")}, // one deposit only
		{7, "deposit.do", fields("orderId", held, "amount", "0")},
		{7, "reverse.do", fields("orderId", held)},
		{4, "refund.do", fields("orderId", held)},
		{7, "refund.do", fields("orderId", held, "amount", "601")},
		{5, "refund.do", fields("orderId", held, "amount", "1", "externalRefundId", strings.Repeat("x", 33))},
		{5, "refund.do", fields("orderId", held, "amount", "1", "expectedDepositedAmount", "599")},
	} {
		w.refusedRBS(c.code, c.call, c.form)
	}
	free := w.paid("free", 50, a)
	w.mustRBS("reverse.do", fields("orderId", free))
	w.refusedRBS(7, "reverse.do", fields("orderId", free))
	w.refusedRBS(7, "deposit.do", fields("orderId", free, "amount", "50"))
	w.wantBalance(a.pan, -600, 0)
}

// TestRBSOneStage charges at once.
func TestRBSOneStage(t *testing.T) {
	w := newWorld(t)
	a := w.first(mastercard, "no_3ds")
	order := w.mustRBS("register.do", fields("orderNumber", "c", "amount", "500", "returnUrl", "https://shop.example/back")).OrderID
	if r := w.mustRBS("paymentorder.do", cardForm(a, order)); r.Redirect != "https://shop.example/back?lang=en&orderId="+order || r.Is3DSVer2 {
		t.Errorf("%+v", r)
	}
	w.wantStatus("c", 2, 0)
	w.wantBalance(a.pan, -500, 0)
	w.refusedRBS(7, "deposit.do", fields("orderId", order, "amount", "0"))
	w.refusedRBS(7, "reverse.do", fields("orderId", order))
	w.mustRBS("refund.do", fields("orderId", order, "amount", "0"))
	w.wantStatus("c", 4, 0)
	w.wantBalance(a.pan, 0, 0)
	op := w.sim.Books().Operations
	if op[0].Kind != "charge" || op[0].Reference != "c" || op[0].State != "reversed" || op[1].Kind != "refund" || op[1].Of != "c" || op[1].Reference != op[1].RefNum {
		t.Errorf("%+v", op)
	}
}

func TestRBSRefunds(t *testing.T) {
	w := newWorld(t)
	a := w.first(visa, "ok")
	order := w.paid("n", 1000, a)
	w.mustRBS("deposit.do", fields("orderId", order, "amount", "0"))
	refund := func(pairs ...string) url.Values { return fields(append([]string{"orderId", order}, pairs...)...) }
	w.wantBalance(a.pan, -1000, 0)
	w.mustRBS("refund.do", refund("amount", "100", "externalRefundId", "r1"))
	w.mustRBS("refund.do", refund("amount", "100", "externalRefundId", "r1"))
	w.mustRBS("refund.do", refund("amount", "999", "externalRefundId", "r1")) // whatever it says now
	w.wantBalance(a.pan, -900, 0)
	w.mustRBS("refund.do", refund("amount", "100", "externalRefundId", "r2"))
	w.mustRBS("refund.do", refund("amount", "50")) // without an id, equal refunds are two
	w.mustRBS("refund.do", refund("amount", "50"))
	w.wantBalance(a.pan, -700, 0)
	w.mustRBS("refund.do", refund("amount", "10", "expectedDepositedAmount", "700"))
	w.refusedRBS(5, "refund.do", refund("amount", "10", "expectedDepositedAmount", "700"))
	w.refusedRBS(7, "refund.do", refund("amount", "691"))
	w.mustRBS("refund.do", refund("amount", "0", "externalRefundId", "r3"))
	w.wantBalance(a.pan, 0, 0)
	w.refusedRBS(7, "refund.do", refund("amount", "0"))
	w.refusedRBS(7, "refund.do", refund("amount", "1"))
	w.mustRBS("refund.do", refund("amount", "1", "externalRefundId", "r3")) // this one is there already
	got := w.status(refund())
	if got.OrderStatus != 4 || got.PaymentAmountInfo.RefundedAmount != 1000 || got.PaymentAmountInfo.DepositedAmount != 0 || len(got.Refunds) != 6 {
		t.Errorf("%+v", got)
	}
	// Two at once under one id are one.
	order = w.paid("m", 1000, a)
	w.mustRBS("deposit.do", fields("orderId", order, "amount", "0"))
	var race sync.WaitGroup
	for range 8 {
		race.Go(func() { w.mustRBS("refund.do", refund("amount", "100", "externalRefundId", "x")) })
	}
	race.Wait()
	w.wantBalance(a.pan, -900, 0)
}

// TestSeveralDeposits takes a hold in parts, where the bank lets one.
func TestSeveralDeposits(t *testing.T) {
	w := newWorldOf(t, Config{SeveralDeposits: true, RBSHold: time.Hour}, &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)})
	a := w.first(visa, "ok")
	order := w.paid("n", 1000, a)
	deposit := func(order string, amount int) url.Values {
		return fields("orderId", order, "amount", fmt.Sprint(amount))
	}
	w.mustRBS("deposit.do", deposit(order, 300))
	w.wantStatus("n", 8, 0)
	w.wantBalance(a.pan, -300, 700)
	w.refusedRBS(7, "reverse.do", fields("orderId", order))
	w.refusedRBS(5, "deposit.do", deposit(order, 701))
	w.mustRBS("deposit.do", deposit(order, 200))
	w.mustRBS("deposit.do", deposit(order, 0))
	w.wantStatus("n", 2, 0)
	w.wantBalance(a.pan, -1000, 0)
	w.refusedRBS(7, "deposit.do", deposit(order, 0))
	// A refund over several deposits is as many operations.
	w.mustRBS("refund.do", fields("orderId", order, "amount", "450", "externalRefundId", "r"))
	w.mustRBS("refund.do", fields("orderId", order, "amount", "450", "externalRefundId", "r"))
	w.wantBalance(a.pan, -550, 0)
	var got []string
	for _, op := range w.sim.Books().Operations {
		got = append(got, fmt.Sprint(op.Kind, " ", op.Reference, " ", op.Amount, " ", op.Of))
	}
	if want := []string{"hold n 1000 ", "capture n 300 ", "capture n#2 200 ", "capture n#3 500 ", "refund r 300 n", "refund r#2 150 n#2"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	// What was not taken lapses.
	order = w.paid("m", 1000, a)
	w.mustRBS("deposit.do", deposit(order, 300))
	w.clock.move(time.Hour)
	w.wantStatus("m", 2, 0)
	w.wantBalance(a.pan, -850, 0)
	w.refusedRBS(7, "deposit.do", deposit(order, 1))
}

func TestRBSHoldLapses(t *testing.T) {
	w := newWorld(t)
	a := w.first(visa, "ok")
	order := w.paid("n", 1000, a)
	w.clock.move(7*24*time.Hour - time.Millisecond)
	w.wantStatus("n", 1, 0)
	w.clock.move(time.Millisecond)
	w.wantStatus("n", 3, 0)
	w.wantBalance(a.pan, 0, 0)
	w.refusedRBS(7, "deposit.do", fields("orderId", order, "amount", "0"))
	w.refusedRBS(7, "reverse.do", fields("orderId", order))
	if op := w.sim.Books().Operations; op[1].Kind != "lapse" || op[1].Reference != "n" {
		t.Errorf("%+v", op)
	}
}

// TestRBSSessions lets orders end unpaid at every stage.
func TestRBSSessions(t *testing.T) {
	w := newWorld(t)
	a := w.first(visa, "ok")
	untouched := w.registered("untouched", 100)
	w.registered("short", 100, "sessionTimeoutSecs", "60")
	carded := w.registered("carded", 100)
	w.mustRBS("paymentorder.do", cardForm(a, carded))
	asked := w.registered("asked", 100)
	first := w.mustRBS("paymentorder.do", cardForm(a, asked, "threeDSVer2FinishUrl", "https://shop.example/finish"))
	next := w.mustRBS("3ds/continue.do", fields("mdOrder", asked))
	passed := w.registered("passed", 100)
	second := w.mustRBS("paymentorder.do", cardForm(a, passed))
	there := w.mustRBS("3ds/continue.do", fields("mdOrder", passed))
	b := w.browser()
	b.submit(b.post(there.ACSURL, fields("creq", there.PackedCReq)), "submit", "code", a.fixedOTP)
	w.paid("paid", 100, a)
	w.clock.move(time.Minute)
	w.wantStatus("short", 6, -2007)
	w.clock.move(19*time.Minute - time.Millisecond)
	w.wantStatus("untouched", 0, -100)
	w.wantStatus("asked", 5, -100)
	w.clock.move(time.Millisecond)
	for _, number := range []string{"untouched", "short", "carded", "asked", "passed"} {
		w.wantStatus(number, 6, -2007)
	}
	w.wantStatus("paid", 1, 0)
	w.refusedRBS(7, "paymentorder.do", cardForm(a, untouched))
	w.refusedRBS(7, "3ds/continue.do", fields("mdOrder", carded))
	// Whoever comes back now, with the right code or with a passed challenge, is too late.
	page := b.post(next.ACSURL, fields("creq", next.PackedCReq))
	if page.action != "https://shop.example/finish" || page.cres(t).TransStatus != "N" {
		t.Errorf("%+v", page)
	}
	w.mustRBS("finish3dsVer2Payment.do", fields("threeDSServerTransId", first.ThreeDSServerTransID))
	if r := w.mustRBS("finish3dsVer2Payment.do", fields("threeDSServerTransId", second.ThreeDSServerTransID)); r.Error == "" {
		t.Errorf("%+v", r)
	}
	w.wantBalance(a.pan, 0, 100)
}

// TestSessionsEndByThemselves waits for the timer, with nobody calling.
func TestSessionsEndByThemselves(t *testing.T) {
	called := make(chan url.Values, 1)
	shop := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { called <- r.URL.Query() }))
	defer shop.Close()
	s := New(Config{Seed: 1, CallbackURL: shop.URL})
	defer s.Close()
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	w := &world{t: t, sim: s, server: server}
	w.registered("n", 100, "sessionTimeoutSecs", "1")
	select {
	case got := <-called:
		if got.Get("operation") != "declinedByTimeout" || got.Get("orderNumber") != "n" {
			t.Errorf("%v", got)
		}
	case <-time.After(2 * time.Minute):
		t.Error("the session did not end")
	}
}

// TestForgottenSimulator shows that open payment sessions keep no simulator in memory; tests make them by the hundred.
func TestForgottenSimulator(t *testing.T) {
	gone := make(chan struct{})
	func() {
		s := New(Config{Seed: 1})
		_, answer, _ := s.rbs("rbs.register", (*Sim).rbsRegister, &rbsCall{fields: fields("orderNumber", "n", "amount", "1", "returnUrl", "https://x.example", "token", "holdfast")})
		if !strings.Contains(string(answer), "orderId") || s.orders.alarm == nil {
			t.Fatalf("%s", answer)
		}
		runtime.AddCleanup(s, func(gone chan struct{}) { close(gone) }, gone)
	}()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		runtime.GC()
		select {
		case <-gone:
			return
		default:
		}
	}
	t.Error("it is still there")
}

// TestRBSMagicCards uses every misbehaving card of both schemes to the step at which it misbehaves.
func TestRBSMagicCards(t *testing.T) {
	w := newWorld(t)
	secureOf := map[string]secure{
		"frictionless": frictionless, "challenge_fails": challengeFails, "attempt": attempted, "unavailable": unavailable, "rejected": rejected,
		"method_timeout": methodSilent, "abandoned": abandoned, "no_3ds": notEnrolled, "no_method": methodless, "not_authenticated": unauthenticated,
		"insufficient_funds": challenged, "stolen": challenged,
	}
	eciOf := map[string][]int8{visa: {5, 6, 7}, mastercard: {2, 1, 0}}
	seen := map[string]int{}
	for _, a := range w.sim.cards {
		b := a.behaviour
		if a.scheme != visa && a.scheme != mastercard || b.name == "ok" {
			continue
		}
		seen[b.name]++
		if want, named := secureOf[b.name]; named && b.secure != want {
			t.Errorf("%s is %d to 3-D Secure, want %d", b.name, b.secure, want)
		}
		number := a.scheme + " " + b.name
		order := w.registered(number, 100, "failUrl", "https://shop.example/fail")
		first := w.mustRBS("paymentorder.do", cardForm(a, order, "threeDSVer2FinishUrl", "https://shop.example/finish", "threeDSMethodNotificationUrl", "https://shop.example/method"))
		last := first // what sends the payer back
		if (first.ThreeDSServerTransID == "") != (b.secure == notEnrolled) || (first.ThreeDSMethodURL == "") != (b.secure == notEnrolled || b.secure == methodless) {
			t.Errorf("%s: %+v", number, first)
		}
		browser := w.browser()
		if first.ThreeDSMethodURL != "" {
			page := browser.post(first.ThreeDSMethodURL, fields("threeDSMethodData", first.ThreeDSMethodDataPacked))
			if (page.action == "https://shop.example/method") == (b.secure == methodSilent) {
				t.Errorf("%s: the method page sends to %q", number, page.action)
			}
		}
		challenged := false
		if first.ThreeDSServerTransID != "" {
			last = w.mustRBS("3ds/continue.do", fields("mdOrder", order))
			if challenged = last.ACSURL != ""; challenged {
				page := browser.post(last.ACSURL, fields("creq", last.PackedCReq))
				page = browser.submit(page, "submit", "code", w.sim.SMS(a.phone)[0].Code)
				for page.action == "/acs/code" { // challenge_fails
					page = browser.submit(page, "submit", "code", w.sim.SMS(a.phone)[0].Code)
				}
				if b.secure == abandoned {
					if page.action != "" {
						t.Errorf("%s: the payer comes back to %s", number, page.action)
					}
					w.refusedRBS(7, "finish3dsVer2Payment.do", fields("threeDSServerTransId", first.ThreeDSServerTransID))
					w.wantStatus(number, 5, -100)
					w.clock.move(20 * time.Minute)
					w.wantStatus(number, 6, -2007)
					continue
				}
				if page.action != "https://shop.example/finish" {
					t.Errorf("%s: the payer comes back to %q", number, page.action)
				}
				last = w.mustRBS("finish3dsVer2Payment.do", fields("threeDSServerTransId", first.ThreeDSServerTransID))
			}
		}
		if want := b.secure == challenged3DS(b.secure); challenged != want {
			t.Errorf("%s: challenged %v", number, challenged)
		}
		// What the status says now.
		want := struct{ status, action, eci, held int }{1, 0, int(eciOf[a.scheme][0]), 100} // eci -1 is none
		switch b.secure {
		case challengeFails:
			want.status, want.action, want.eci, want.held = 6, -2024, -1, 0
		case attempted:
			want.eci = int(eciOf[a.scheme][1])
		case unavailable:
			want.status, want.action, want.eci, want.held = 6, -2022, int(eciOf[a.scheme][2]), 0
		case rejected, unauthenticated:
			want.status, want.action, want.eci, want.held = 6, -2023, -1, 0
		case notEnrolled:
			want.eci = int(eciOf[a.scheme][2])
		}
		switch {
		case b.name == "insufficient_funds":
			want.status, want.action, want.held = 6, 116, 0
		case b.at == atHold && b.code != 0:
			want.status, want.action, want.held = 6, b.code, 0
		case b.partial:
			want.held = 50
		case b.undecided == silentThenHeld:
			want.status, want.action, want.held = 0, -1, 0
		case b.undecided != 0:
			want.status, want.action, want.held = 7, -30001, 0
		}
		got, shown := w.status(fields("orderId", order)), -1
		if p := got.CardAuthInfo.SecureAuthInfo.ECI; p != nil {
			shown = int(*p)
		}
		if got.OrderStatus != want.status || got.ActionCode != want.action || shown != want.eci {
			t.Errorf("%s: orderStatus %d, actionCode %d, ECI %d, want %+v", number, got.OrderStatus, got.ActionCode, shown, want)
		}
		if failed := strings.HasPrefix(last.Redirect, "https://shop.example/fail?"); failed != (want.status == 6) || (last.Error != "") != failed || last.ErrorCode != float64(0) {
			t.Errorf("%s: %+v", number, last)
		}
		w.wantBalance(a.pan, 0, int64(want.held))
		if b.undecided != 0 {
			w.clock.move(2*time.Minute - time.Millisecond)
			w.wantBalance(a.pan, 0, 0)
			w.clock.move(time.Millisecond)
			if b.undecided == pendingThenDeclined {
				w.wantStatus(number, 6, 907)
				w.wantBalance(a.pan, 0, 0)
			} else {
				w.wantStatus(number, 1, 0)
				w.wantBalance(a.pan, 0, 100)
			}
			continue
		}
		done := int64(0)
		if b.done {
			done = 1
		}
		switch b.at {
		case atCapture:
			w.refusedRBS(b.code, "deposit.do", fields("orderId", order, "amount", "80"))
			w.wantBalance(a.pan, -80*done, 100-100*done)
			w.wantStatus(number, 1+int(done), 0)
		case atVoid:
			w.refusedRBS(b.code, "reverse.do", fields("orderId", order))
			w.wantBalance(a.pan, 0, 100-100*done)
			w.wantStatus(number, 1+2*int(done), 0)
		case atRefund:
			w.mustRBS("deposit.do", fields("orderId", order, "amount", "0"))
			w.refusedRBS(b.code, "refund.do", fields("orderId", order, "amount", "30", "externalRefundId", "r"))
			w.wantBalance(a.pan, -100+30*done, 0)
			w.wantStatus(number, 2+2*int(done), 0)
			if b.done { // and what was done is found under its id
				w.mustRBS("refund.do", fields("orderId", order, "amount", "30", "externalRefundId", "r"))
				w.wantBalance(a.pan, -70, 0)
			}
		}
	}
	for _, name := range []string{
		"frictionless", "challenge_fails", "attempt", "unavailable", "rejected", "method_timeout", "abandoned", "no_3ds", "no_method", "not_authenticated", "insufficient_funds",
		"expired", "expired_at_bank", "stolen", "lost", "issuer_down", "issuer_down_declined", "issuer_silent", "partial_auth", "capture_unknown_then_done", "void_refused", "refund_unknown_not_done",
	} {
		if seen[name] != 2 {
			t.Errorf("%d cards are called %s", seen[name], name)
		}
	}
}

// challenged3DS is itself if the payer is asked for a code, and something else if not.
func challenged3DS(s secure) secure {
	switch s {
	case challenged, challengeFails, methodSilent, methodless, abandoned:
		return s
	}
	return 255
}

// TestWrongCardData enters what is not on the card.
func TestWrongCardData(t *testing.T) {
	w := newWorld(t)
	a := w.first(visa, "no_3ds")
	for number, c := range map[string]struct {
		name, value string
		action      int
	}{"cvc": {"$CVC", "321", 126}, "expiry": {"MM", "11", 101}, "nobody's": {"$PAN", "4222222222222", 111}, "uzcard": {"$PAN", sharedPAN, 111}} {
		order := w.registered(number, 100)
		form := cardForm(a, order)
		form.Set(c.name, c.value)
		if r := w.mustRBS("paymentorder.do", form); r.Error == "" {
			t.Errorf("%s: %+v", number, r)
		}
		w.wantStatus(number, 6, c.action)
	}
	w.wantBalance(a.pan, 0, 0)
}

// TestAcceptUnavailable lets payments in that 3-D Secure could tell nothing of.
func TestAcceptUnavailable(t *testing.T) {
	w := newWorldOf(t, Config{AcceptUnavailable: true}, &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)})
	a := w.first(visa, "unavailable")
	order := w.paid("n", 100, a)
	if got := w.status(fields("orderId", order)); got.OrderStatus != 1 || *got.CardAuthInfo.SecureAuthInfo.ECI != 7 || got.CardAuthInfo.SecureAuthInfo.ARes != "U" {
		t.Errorf("%+v", got)
	}
	w.wantBalance(a.pan, 0, 100)
}

// browser is a payer's: it keeps cookies, and follows forms. It runs no scripts.
type browser struct {
	w      *world
	client *http.Client
}

func (w *world) browser() *browser {
	jar := must(cookiejar.New(nil))
	return &browser{w, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// webPage is what a browser sees: the text, and its one form if it has one.
type webPage struct {
	status int
	body   string
	header http.Header
	action string
	fields url.Values // hidden
}

var (
	formTag   = regexp.MustCompile(`<form method="post" action="([^"]*)">`)
	hiddenTag = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
)

func (b *browser) post(address string, form url.Values) webPage {
	b.w.t.Helper()
	response, err := b.client.PostForm(address, form)
	if err != nil {
		b.w.t.Fatal(err)
	}
	return b.read(response)
}

func (b *browser) read(response *http.Response) webPage {
	b.w.t.Helper()
	defer response.Body.Close()
	var text strings.Builder
	if _, err := fmt.Fprint(&text, must(readAll(response.Body))); err != nil {
		b.w.t.Fatal(err)
	}
	p := webPage{status: response.StatusCode, body: text.String(), header: response.Header, fields: url.Values{}}
	if found := formTag.FindStringSubmatch(p.body); found != nil {
		p.action = html.UnescapeString(found[1])
	}
	for _, found := range hiddenTag.FindAllStringSubmatch(p.body, -1) {
		p.fields.Set(html.UnescapeString(found[1]), html.UnescapeString(found[2]))
	}
	return p
}

// submit presses a button of the bank's page.
func (b *browser) submit(p webPage, button string, pairs ...string) webPage {
	b.w.t.Helper()
	form := maps.Clone(p.fields)
	maps.Copy(form, fields(pairs...))
	form.Set("do", button)
	if p.action != "/acs/code" {
		b.w.t.Fatalf("this is not the bank's page: %d %s", p.status, p.body)
	}
	return b.post(b.w.server.URL+p.action, form)
}

// cres is what a way out carries.
func (p webPage) cres(t testing.TB) cres {
	t.Helper()
	var c cres
	if !unpack(p.fields.Get("cres"), &c) {
		t.Fatalf("no cres: %s", p.body)
	}
	return c
}

// listener is the shop's gateway, called back.
type listener struct {
	server *httptest.Server
	got    chan url.Values

	mu      sync.Mutex
	answers []int // HTTP status of the next callbacks; 200 when there are no more
}

func newListener(t testing.TB, answers ...int) *listener {
	l := &listener{got: make(chan url.Values, 100), answers: answers}
	l.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		got := r.Form
		if kind := r.Header.Get("Content-Type"); (r.Method == "POST") != (kind == "application/x-www-form-urlencoded") || r.Method == "POST" && len(r.URL.Query()) > 1 {
			t.Errorf("%s %s %s", r.Method, r.URL, kind)
		}
		l.mu.Lock()
		status := 200
		if len(l.answers) > 0 {
			status, l.answers = l.answers[0], l.answers[1:]
		}
		l.mu.Unlock()
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		l.got <- got
	}))
	t.Cleanup(l.server.Close)
	return l
}

func (l *listener) next(t testing.TB) url.Values {
	t.Helper()
	select {
	case got := <-l.got:
		return got
	case <-time.After(2 * time.Minute):
		t.Fatal("no callback")
		return nil
	}
}

// signature works a checksum out from the documentation's words, apart from the simulator's code.
func signature(form url.Values, key string) string {
	var names []string
	for name := range form {
		if name != "checksum" && name != "sign_alias" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	text := ""
	for _, name := range names {
		text += name + ";" + form.Get(name) + ";"
	}
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return fmt.Sprintf("%X", mac.Sum(nil))
}

func TestCallbacks(t *testing.T) {
	for _, method := range []string{"", "GET", "POST"} {
		l, other := newListener(t), newListener(t)
		w := newWorldOf(t, Config{CallbackURL: l.server.URL + "/cb?shop=1", CallbackMethod: method, CallbackKey: "k"}, &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)})
		a := w.first(visa, "ok")
		order := w.paid("n", 1000, a)
		want := func(l *listener, number, operation, status, amount string) url.Values {
			t.Helper()
			got := l.next(t)
			if got.Get("orderNumber") != number || got.Get("operation") != operation || got.Get("status") != status || got.Get("amount") != amount ||
				got.Get("mdOrder") != w.sim.orders.all[w.sim.orders.byNumber[number]].id.String() || got.Get("callbackCreationDate") != "Mon Nov 23 17:00:00 UZT 2026" {
				t.Errorf("%s: %v, want %s %s %s %s", method, got, number, operation, status, amount)
			}
			signed := maps.Clone(got)
			signed.Del("shop") // ours, from the address; the gateway signs what is its own
			if got.Get("checksum") != signature(signed, "k") || got.Get("sign_alias") == "" {
				t.Errorf("%s: the checksum of %v is not right", method, got)
			}
			return got
		}
		want(l, "n", "approved", "1", "1000")
		w.mustRBS("deposit.do", fields("orderId", order, "amount", "700"))
		want(l, "n", "deposited", "1", "700")
		w.mustRBS("refund.do", fields("orderId", order, "amount", "100", "externalRefundId", "r"))
		want(l, "n", "refunded", "1", "100")
		w.mustRBS("refund.do", fields("orderId", order, "amount", "100", "externalRefundId", "r")) // nothing has happened
		second := w.paid("m", 1000, a)
		want(l, "m", "approved", "1", "1000")
		w.mustRBS("reverse.do", fields("orderId", second))
		want(l, "m", "reversed", "1", "1000")
		w.paid("poor", 1000, w.first(visa, "insufficient_funds"))
		want(l, "poor", "approved", "0", "1000")
		w.paid("refused", 1000, w.first(visa, "rejected"))
		want(l, "refused", "approved", "0", "1000")
		single := w.mustRBS("register.do", fields("orderNumber", "one", "amount", "5", "returnUrl", "https://x.example")).OrderID
		w.mustRBS("paymentorder.do", cardForm(w.first(visa, "no_3ds"), single))
		want(l, "one", "deposited", "1", "5")
		w.registered("own", 1000, "dynamicCallbackUrl", other.server.URL, "sessionTimeoutSecs", "1")
		w.clock.move(time.Second)
		w.wantStatus("own", 6, -2007)
		if got := other.next(t); got.Get("operation") != "declinedByTimeout" || got.Get("orderNumber") != "own" {
			t.Errorf("%v", got)
		}
		if len(l.got)+len(other.got) != 0 {
			t.Errorf("%d callbacks more", len(l.got)+len(other.got))
		}
	}
}

// TestCallbacksRepeat answers some of them badly.
func TestCallbacksRepeat(t *testing.T) {
	start := func(answers ...int) (*world, *listener) {
		l := newListener(t, answers...)
		w := newWorldOf(t, Config{CallbackURL: l.server.URL, CallbackRepeat: time.Millisecond}, &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)})
		w.paid("n", 1000, w.first(visa, "no_3ds"))
		return w, l
	}
	rest := func(w *world, l *listener) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); w.sim.waiting.Load() > 0; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatal("callbacks without end")
			}
		}
		if n := len(l.got); n != 0 {
			t.Errorf("%d callbacks more", n)
		}
	}
	w, l := start(500, 302)
	first := l.next(t)
	for range 2 {
		if got := l.next(t); got.Encode() != first.Encode() {
			t.Errorf("%v is not %v", got, first)
		}
	}
	rest(w, l)
	w, l = start(500, 204, 404, 500) // only 200 will do, and three times are enough
	for range 3 {
		l.next(t)
	}
	rest(w, l)

	// Nobody listens: the payment goes on.
	l = newListener(t)
	l.server.Close()
	w = newWorldOf(t, Config{CallbackURL: l.server.URL, CallbackRepeat: time.Millisecond}, &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)})
	w.paid("n", 1000, w.first(visa, "no_3ds"))
	w.wantStatus("n", 1, 0)
	rest(w, l)

	// What is waiting has its limit, and does not outlive the simulator.
	l = newListener(t)
	w = newWorldOf(t, Config{CallbackURL: l.server.URL, CallbackRepeat: time.Hour}, &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)})
	w.sim.waiting.Store(maxCallbacks)
	w.paid("n", 1000, w.first(visa, "no_3ds"))
	w.sim.waiting.Store(0)
	rest(w, l)
	w.sim.Close()
	w.paid("m", 1000, w.first(visa, "no_3ds"))
	rest(w, l)
}

// FuzzRBS sends any form to any call: the answer is always one JSON object, and the books balance.
func FuzzRBS(f *testing.F) {
	s := New(Config{Seed: 1, Now: func() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }})
	defer s.Close()
	calls := slices.Sorted(maps.Keys(rbsWork))
	a := s.byPAN["4111111111111111"]
	for i := range calls {
		for _, form := range []url.Values{
			fields("orderNumber", "n", "amount", "100", "returnUrl", "https://x.example", "sessionTimeoutSecs", "60"), cardForm(a, "x"),
			fields("orderNumber", "n", "amount", "0", "externalRefundId", "r", "expectedDepositedAmount", "1"), fields("mdOrder", "x", "threeDSServerTransId", "y"),
		} {
			f.Add(uint8(i), form.Encode())
		}
		f.Add(uint8(i), "%zz&a;b=\x00")
	}
	f.Fuzz(func(t *testing.T, n uint8, form string) {
		served := rbsWork[calls[int(n)%len(calls)]]
		c := &rbsCall{base: "http://sim.example"}
		c.fields, c.bad = parseForm(form)
		if c.bad.code == 0 {
			c.fields.Set("userName", "holdfast")
			c.fields.Set("password", "holdfast")
			c.fields.Del("token")
			// A fuzzer does not guess ids: it may say the order's number instead.
			if o := s.orderOf(&rbsCall{fields: fields("orderNumber", c.fields.Get("orderNumber"))}); o != nil {
				for _, name := range []string{"orderId", "MDORDER", "mdOrder"} {
					if c.fields.Has(name) {
						c.fields.Set(name, o.id.String())
					}
				}
			}
		}
		_, answer, _ := s.rbs(served.method, served.work, c)
		var v map[string]any
		if err := json.Unmarshal(answer, &v); err != nil {
			t.Fatalf("%q: %v: %s", form, err, answer)
		}
		checkBooks(t, s.Books())
		if s.count > 100 || len(s.orders.all) > 100 {
			s.Reset()
		}
	})
}
