package sim

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const humoPlace = `<item><name>merchant_id</name><value>011860010400104</value></item><item><name>terminal_id</name><value>23610001</value></item>`

// envelope writes a message as public clients do: prefixed body element, plain children.
func envelope(payload string) string {
	return `<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/" xmlns:ebppif1="urn:PaymentServer">` +
		`<SOAP-ENV:Body>` + payload + `</SOAP-ENV:Body></SOAP-ENV:Envelope>`
}

// payment writes a new payment; instrument is SOAP_DMS or SOAP_SMS.
func humoPayment(a *account, instrument, ref string, amount int64) string {
	return fmt.Sprintf(`<ebppif1:Payment><language>en</language><billerRef>%[1]s</billerRef><payinstrRef>%[1]s</payinstrRef><sessionID>s-1</sessionID>`+
		`<paymentRef>%[2]s</paymentRef><details><item><name>pan</name><value>%[3]s</value></item><item><name>expiry</name><value>%[4]s</value></item>`+
		`<item><name>ccy_code</name><value>860</value></item><item><name>amount</name><value>%[5]d</value></item>%[6]s`+
		`<item><name>point_code</name><value>100010104110</value></item><item><name>centre_id</name><value>HF01</value></item></details>`+
		`<paymentOriginator>holdfast</paymentOriginator></ebppif1:Payment>`, instrument, ref, a.pan, a.exp, amount, humoPlace)
}

// humoConfirmation confirms a payment by its ref, amount being the whole if it is 0.
func humoConfirmation(ref string, amount int64) string {
	details := ""
	if amount != 0 {
		details = fmt.Sprintf(`<details><item><name>amount</name><value>%d</value></item></details>`, amount)
	}
	return `<ebppif1:Payment><paymentRef>` + ref + `</paymentRef>` + details +
		`<confirmed>true</confirmed><finished>true</finished><paymentOriginator>holdfast</paymentOriginator></ebppif1:Payment>`
}

// humoAbout is CancelRequest, ReturnPayment or GetPayment of a payment.
func humoAbout(what, ref string) string {
	items := ""
	if what == "ReturnPayment" {
		items = humoPlace + `<item><name>centre_id</name><value>HF01</value></item>`
	}
	return `<ebppif1:` + what + `><paymentRef>` + ref + `</paymentRef>` + items + `<paymentOriginator>holdfast</paymentOriginator></ebppif1:` + what + `>`
}

// postXML sends a document to PaymentServer as it stands.
func (w *world) postXML(document string) (*http.Response, string, error) {
	r, err := http.NewRequest("POST", w.server.URL+"/humo", strings.NewReader(document))
	if err != nil {
		w.t.Fatal(err)
	}
	r.SetBasicAuth("holdfast", "holdfast")
	r.Header.Set("Content-Type", "text/xml; charset=utf-8")
	r.Header.Set("SOAPAction", `""`)
	return w.do(r)
}

var (
	faultCode = regexp.MustCompile(`<detail><ebppif1:PaymentServerException><error>(\d{3})</error></ebppif1:PaymentServerException></detail>`)
	soapBody  = regexp.MustCompile(`(?s)<SOAP-ENV:Body>(.*)</SOAP-ENV:Body></SOAP-ENV:Envelope>\n$`)
)

// soap sends a message and gives what the body holds, or the action code of its Fault ("Client" for one without).
func (w *world) soap(payload string) (body, code string) {
	w.t.Helper()
	return w.soapDocument(envelope(payload))
}

func (w *world) soapDocument(document string) (body, code string) {
	w.t.Helper()
	response, text, err := w.postXML(document)
	if err != nil {
		w.t.Fatal(err)
	}
	if got := response.Header.Get("Content-Type"); got != "text/xml; charset=utf-8" {
		w.t.Fatalf("Content-Type %s: %s", got, text)
	}
	wellFormed(w.t, text)
	inside := soapBody.FindStringSubmatch(text)
	if inside == nil {
		w.t.Fatalf("no envelope: %s", text)
	}
	isFault := strings.HasPrefix(inside[1], "<SOAP-ENV:Fault>")
	if isFault != (response.StatusCode == 500) || !isFault && response.StatusCode != 200 {
		w.t.Fatalf("HTTP %d: %s", response.StatusCode, text)
	}
	if !isFault {
		return inside[1], ""
	}
	if found := faultCode.FindStringSubmatch(text); found != nil {
		return "", found[1]
	}
	if strings.Contains(text, "<faultcode>SOAP-ENV:Client</faultcode>") {
		return "", "Client"
	}
	return "", "Server"
}

func wellFormed(t testing.TB, text string) {
	t.Helper()
	var any struct{}
	if err := xml.Unmarshal([]byte(text), &any); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

func (w *world) mustSOAP(payload string) string {
	w.t.Helper()
	body, code := w.soap(payload)
	if code != "" {
		w.t.Fatalf("%s: refused with %s", payload, code)
	}
	return body
}

func (w *world) refusedSOAP(want, payload string) {
	w.t.Helper()
	if body, code := w.soap(payload); code != want {
		w.t.Errorf("%s\n got %q %s, want %s", payload, code, body, want)
	}
}

// item reads one name of the details.
func item(body, name string) string {
	_, rest, _ := strings.Cut(body, "<name>"+name+"</name><value>")
	text, _, _ := strings.Cut(rest, "</value>")
	return text
}

func inElement(body, name string) string {
	_, rest, _ := strings.Cut(body, "<"+name+">")
	text, _, _ := strings.Cut(rest, "</"+name+">")
	return text
}

// json sends a call of the middleware or the SMS provider.
func (w *world) json(path, body string) (int, string) {
	w.t.Helper()
	r := must(http.NewRequest("POST", w.server.URL+path, strings.NewReader(body)))
	r.Header.Set("Authorization", "Bearer holdfast")
	r.Header.Set("Content-Type", "application/json")
	response, answer, err := w.do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.StatusCode, answer
}

// TestHumoShapes holds every message's answer against its exact text.
func TestHumoShapes(t *testing.T) {
	w := newWorld(t)
	s := w.sim
	a := w.first(humo, "ok")
	id := func(n int64) string { return fmt.Sprint(s.holdBase + n) }
	ref := func(n int64) string { return fmt.Sprint(s.refBase + n) }
	appr := func(n int64) string { return fmt.Sprintf("%06d", (n*7919+104729)%1000000) }
	stan := func(n int64) string { return fmt.Sprintf("%06d", n+1) }
	list := func(pairs ...string) string {
		text := "<details>"
		for i := 0; i < len(pairs); i += 2 {
			text += "<item><name>" + pairs[i] + "</name><value>" + pairs[i+1] + "</value></item>"
		}
		return text + "</details>"
	}
	// details of a payment: first is the number of the first operation, last of the last.
	details := func(first, last int64, held, sum string, dms, done bool) string {
		pairs := []string{
			"pan", a.pan, "expiry", "3012", "ccy_code", "860", "amount", sum, "merchant_id", "011860010400104", "terminal_id", "23610001",
			"point_code", "100010104110", "centre_id", "HF01", "internal_pan_masked", a.pan[:6] + "******" + a.pan[12:],
			"transaction_amount", sum, "cardholder_amount", sum, "cardholder_ccy_code", "860", "conversion_rate", "1",
			"auth_action_code", "000", "auth_appr_code", appr(last), "auth_ref_number", ref(last), "auth_stan", stan(last),
			"auth_time", "20261123170000", "card_type", "HUMO", "acq_inst", "HOLDFAST",
		}
		if dms {
			pairs = append(pairs, "amount1a", sum, "amount1a_original", held, "auth_appr_code1a", appr(first), "auth_stan1a", stan(first), "ret_ref_numb1a", ref(first))
		}
		if done {
			pairs = append(pairs, "auth_action_code_final", "000", "reconcile_info", "20261123")
		}
		return list(pairs...)
	}
	response := func(kind, session, n, ref, rest string) string {
		return "<ebppif1:" + kind + ">" + session + "<paymentID>" + n + "</paymentID><paymentRef>" + ref + "</paymentRef>" + rest + "</ebppif1:" + kind + ">"
	}
	const session = "<sessionID>s-1</sessionID>"
	for _, step := range []struct{ payload, want string }{
		{humoPayment(a, "SOAP_DMS", "h1", 150_000), response("PaymentResponse", session, id(0), "h1", details(0, 0, "150000", "150000", true, false)+"<action>4</action>")},
		{humoAbout("GetPayment", "h1"), response("GetPaymentResponse", "", id(0), "h1", "<status>4</status>"+details(0, 0, "150000", "150000", true, false))},
		{humoConfirmation("h1", 100_000), response("PaymentResponse", "", id(0), "h1", details(0, 1, "150000", "100000", true, true)+"<action>10</action>")},
		{humoAbout("GetPayment", "h1"), response("GetPaymentResponse", "", id(0), "h1", "<status>10</status>"+details(0, 1, "150000", "100000", true, true))},
		{humoPayment(a, "SOAP_DMS", "h2", 70_000), response("PaymentResponse", session, id(2), "h2", details(2, 2, "70000", "70000", true, false)+"<action>4</action>")},
		{humoAbout("CancelRequest", "h2"), "<ebppif1:CancelRequestResponse/>"},
		{humoAbout("GetPayment", "h2"), response("GetPaymentResponse", "", id(2), "h2", "<status>20</status>"+details(2, 2, "70000", "70000", true, false))},
		{humoPayment(a, "SOAP_SMS", "c1", 5_000), response("PaymentResponse", session, id(4), "c1", details(4, 4, "", "5000", false, true)+"<action>10</action>")},
		{humoAbout("ReturnPayment", "h1"), "<ebppif1:ReturnPaymentResponse/>"},
		{humoAbout("GetPayment", "h1"), response("GetPaymentResponse", "", id(0), "h1", "<status>30</status>"+details(0, 1, "150000", "100000", true, true))},
		{`<ebppif1:Payment><billerRef>SOAP_RECO</billerRef><payinstrRef>SOAP_RECO</payinstrRef><paymentRef>day1</paymentRef><details><item><name>terminal_id</name>` +
			`<value>23610001</value></item></details><paymentOriginator>holdfast</paymentOriginator></ebppif1:Payment>`,
			response("PaymentResponse", "", "2000000001", "day1", list("terminal_id", "23610001", "ttl", "300", "ttl_action", "cancel")+"<action>4</action>")},
		{humoConfirmation("day1", 0), response("PaymentResponse", "", "2000000001", "day1", list("terminal_id", "23610001", "debits_number", "2", "debits_amount", "105000",
			"credits_reversal_number", "1", "credits_reversal_amount", "100000", "reconcile_info", "500")+"<action>10</action>")},
	} {
		if got := w.mustSOAP(step.payload); got != step.want {
			t.Errorf("%s\n got %s\nwant %s", step.payload, got, step.want)
		}
	}
	w.wantBalance(a.pan, -5_000, 0)

	var got []string
	for _, op := range w.sim.Books().Operations {
		got = append(got, fmt.Sprintf("%s %s %s %d %s captured %d released %d refunded %d of %q", op.Scheme, op.Reference, op.Kind, op.Amount, op.State, op.Captured, op.Released, op.Refunded, op.Of))
	}
	want := []string{
		`humo h1 hold 150000 captured captured 100000 released 50000 refunded 0 of ""`,
		`humo h1 capture 100000 reversed captured 0 released 0 refunded 100000 of ""`,
		`humo h2 hold 70000 dismissed captured 0 released 70000 refunded 0 of ""`,
		`humo h2 void 70000 done captured 0 released 0 refunded 0 of ""`,
		`humo c1 charge 5000 done captured 0 released 0 refunded 0 of ""`,
		`humo h1 refund 100000 done captured 0 released 0 refunded 0 of "h1"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("books\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}

	// The next day begins where the last was closed.
	w.mustSOAP(humoPayment(a, "SOAP_RECO", "day2", 1))
	if got := w.mustSOAP(humoConfirmation("day2", 0)); item(got, "debits_number") != "0" || item(got, "credits_reversal_amount") != "0" {
		t.Errorf("%s", got)
	}
	w.refusedSOAP("914", humoConfirmation("day2", 0))

	// The whole document, once, with its declaration; and a Fault.
	_, document, err := w.postXML(envelope(humoAbout("CancelRequest", "h2")))
	wantFault := `<?xml version="1.0" encoding="UTF-8"?>
<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/" xmlns:ebppif1="urn:PaymentServer"><SOAP-ENV:Body>` +
		`<SOAP-ENV:Fault><faultcode>SOAP-ENV:Server</faultcode><faultstring>Duplicate transmission: the payment is cancelled</faultstring>` +
		`<detail><ebppif1:PaymentServerException><error>913</error></ebppif1:PaymentServerException></detail></SOAP-ENV:Fault></SOAP-ENV:Body></SOAP-ENV:Envelope>
`
	if err != nil || document != wantFault {
		t.Errorf("%v\n got %s\nwant %s", err, document, wantFault)
	}
}

// TestMiddlewareShapes holds the JSON side against its exact text.
func TestMiddlewareShapes(t *testing.T) {
	w := newWorld(t)
	a := w.first(humo, "ok")
	if !strings.HasPrefix(a.pan, "9860") || a.fixedOTP != a.pan[10:] {
		t.Fatalf("%+v", a)
	}
	w.mustSOAP(humoPayment(a, "SOAP_DMS", "h1", 150_000))
	holder := fmt.Sprintf("%08d", a.index+1)
	want := `{"id":"q1","result":{"card":{"institutionId":"14","primaryAccountNumber":"` + a.pan + `","expiry":"3012","cardSequenceNumber":1,"cardholderId":"` + holder +
		`","nameOnCard":"` + a.holder + `","cardUserId":"` + holder + `","bankC":"14","pinTryCount":0,"statuses":{"item":[` +
		`{"type":"card","actionCode":"000","actionDescription":"Approved","effectiveDate":"2024-01-01T00:00:00"},` +
		`{"type":"hot","actionCode":"000","actionDescription":"Approved","effectiveDate":"2024-01-01T00:00:00"}]}},` +
		`"account":[{"institutionId":"14","accountId":"` + fmt.Sprint(a.index+1) + `","bankAccountId":"` + fmt.Sprintf("%020d", 2_261_800_000_000_000_000+int64(a.index)) +
		`","currency":"860","cardholderId":"` + holder + `","accountType":"DEBIT","priority":"1","status":"0","availableAmount":99999999999850000}],` +
		`"balance":{"currency":"860","initialAmount":100000000000000000,"bonusAmount":0,"creditLimit":0,"lockedBackofficeAmount":0,"lockedBackofficeAmountOffline":0,` +
		`"lockedAmount":150000,"availableAmount":99999999999850000}`
	card := `{"id":"q1","params":{"primaryAccountNumber":"` + a.pan + `"%s}}`
	for flag, mb := range map[string]string{"": "", `,"mb_flag":0`: "", `,"mb_flag":1`: `,"mb":{"state":"on","phone":"` + a.phone + `","message":""}`} {
		if status, got := w.json("/humo-middleware/v3/iiacs/card", fmt.Sprintf(card, flag)); status != 200 || got != want+mb+"}}" || !json.Valid([]byte(got)) {
			t.Errorf("mb_flag %q: %d\n got %s\nwant %s", flag, status, got, want+mb+"}}")
		}
	}
	otp := w.sim.otps.base
	for _, c := range []struct{ path, body, want string }{
		{"otp/send", `{"id":1,"params":{"primaryAccountNumber":"` + a.pan + `","expiry":"3012"}}`,
			fmt.Sprintf(`{"id":1,"result":{"otpId":%d,"phoneMask":"+99890*****%s","lifetimeSeconds":300}}`, otp, a.phone[10:])},
		{"otp/verify", fmt.Sprintf(`{"id":2,"params":{"otpId":%d,"code":"000000"}}`, otp), `{"id":2,"error":{"code":601,"message":"The code is wrong: 2 tries are left"}}`},
		{"otp/verify", fmt.Sprintf(`{"params":{"otpId":"%d","code":"%s"}}`, otp, a.fixedOTP), `{"id":null,"result":{"verified":true}}`},
		{"otp/verify", fmt.Sprintf(`{"id":3,"params":{"otpId":%d,"code":"%s"}}`, otp, a.fixedOTP), `{"id":3,"error":{"code":603,"message":"The code was used"}}`},
		{"v3/iiacs/card", `{"id":4,"params":{"primaryAccountNumber":"9860140000000001"}}`, `{"id":4,"error":{"code":111,"message":"Invalid card number"}}`},
		{"v3/iiacs/card", `{"id":4,"params":{"primaryAccountNumber":"` + sharedPAN + `"}}`, `{"id":4,"error":{"code":118,"message":"No card record"}}`},
		{"v3/iiacs/card", `{"id":4,"params":{}}`, `{"id":4,"error":{"code":904,"message":"Format error: params.primaryAccountNumber is missing"}}`},
		{"v3/iiacs/card", `{"id":4`, `{"id":null,"error":{"code":904,"message":"Format error: the body is no JSON in UTF-8"}}`},
		{"v3/iiacs/card", `[]`, `{"id":null,"error":{"code":904,"message":"Format error: the body must be an object with id and params"}}`},
		{"v3/iiacs/card", `{"id":{},"params":{}}`, `{"id":null,"error":{"code":904,"message":"Format error: the body must be an object with id and params"}}`},
	} {
		if status, got := w.json("/humo-middleware/"+c.path, c.body); status != 200 || got != c.want {
			t.Errorf("%s %s: %d\n got %s\nwant %s", c.path, c.body, status, got, c.want)
		}
	}
	if m := w.sim.SMS(a.phone); len(m) != 1 || m[0].Code != a.fixedOTP {
		t.Errorf("%v", m)
	}
}

// TestHumoDocuments covers what is wrong before a message is reached.
func TestHumoDocuments(t *testing.T) {
	w := newWorld(t)
	a := w.first(humo, "ok")
	hold := humoPayment(a, "SOAP_DMS", "h1", 100)
	right := envelope(hold)
	const header = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"
	change := func(old, new string) string {
		if !strings.Contains(right, old) {
			t.Fatalf("%q is not in %s", old, right)
		}
		return strings.ReplaceAll(right, old, new)
	}
	const get = `<GetPayment xmlns="urn:PaymentServer"><paymentRef>h1</paymentRef><paymentOriginator>holdfast</paymentOriginator></GetPayment>`
	const soap = `xmlns:E="http://schemas.xmlsoap.org/soap/envelope/"`
	for _, c := range []struct{ name, document, want string }{
		{"half a document", right[:len(right)/2], "Client"},
		{"a letter", `<E:Letter ` + soap + `><E:Body>` + get + `</E:Body></E:Letter>`, "Client"},
		{"a foreign envelope", `<Envelope ` + soap + `><E:Body>` + get + `</E:Body></Envelope>`, "Client"},
		{"a foreign body", `<E:Envelope ` + soap + `><Body>` + get + `</Body></E:Envelope>`, "Client"},
		{"a greeting", `<E:Envelope ` + soap + `><E:Greeting/><E:Body>` + get + `</E:Body></E:Envelope>`, "Client"},
		{"a message in the header", `<E:Envelope ` + soap + `><E:Header>` + get + `</E:Header></E:Envelope>`, "Client"},
		{"cut in a tag", right[:len(right)-3], "Client"},
		{"empty", "", "Client"},
		{"text", "hello", "Client"},
		{"JSON", `{"Payment":{}}`, "Client"},
		{"two documents", right + right, "Client"},
		{"something after it", right + "x", "Client"},
		{"not UTF-8", change("s-1", "\xff"), "Client"},
		{"another encoding", `<?xml version="1.0" encoding="windows-1251"?>` + right, "Client"},
		{"a document type", `<!DOCTYPE x [<!ENTITY e "1">]>` + right, "Client"},
		{"an unknown entity", change("s-1", "&e;"), "Client"},
		{"SOAP 1.2", change("http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope"), "Client"},
		{"wrong namespace", change("urn:PaymentServer", "urn:AccessGateway"), "Client"},
		{"no namespace", change("ebppif1:Payment>", "Payment>"), "Client"},
		{"an undeclared prefix", change("ebppif1:Payment>", "pay:Payment>"), "Client"},
		{"foreign children", change("<paymentRef>h1</paymentRef>", `<p:paymentRef xmlns:p="urn:other">h1</p:paymentRef>`), "Client"},
		{"no body", `<E:Envelope xmlns:E="http://schemas.xmlsoap.org/soap/envelope/"></E:Envelope>`, "Client"},
		{"only a header", `<E:Envelope xmlns:E="http://schemas.xmlsoap.org/soap/envelope/"><E:Header/></E:Envelope>`, "Client"},
		{"an empty body", envelope(""), "Client"},
		{"two messages", envelope(hold + hold), "Client"},
		{"two different messages", envelope(humoAbout("GetPayment", "h1") + hold), "Client"},
		{"an unknown message", envelope("<ebppif1:Steal/>"), "Client"},
		{"an unknown instrument", change("SOAP_DMS", "SOAP_X"), "Client"},
		{"a field twice", change("<paymentRef>h1</paymentRef>", "<paymentRef>h1</paymentRef><paymentRef>h1</paymentRef>"), "Client"},
		{"text between elements", change("<paymentRef>h1</paymentRef>", "<paymentRef>h1</paymentRef>>"), "Client"},
		{"a long field", change("s-1", strings.Repeat("x", maxElementText+1)), "Client"},
		{"too deep", change("s-1", strings.Repeat("<a>", 20)+strings.Repeat("</a>", 20)), "Client"},
		{"too many", change("s-1", strings.Repeat("<item/>", maxElements)), "Client"},
		{"the right one", header + right, ""},
		{"no prefix", `<E:Envelope ` + soap + `><E:Body>` + get + `</E:Body></E:Envelope>`, ""},
		{"other prefixes", `<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns="urn:PaymentServer"><soapenv:Header/><soapenv:Body>
			<GetPayment> <paymentRef> h1 </paymentRef> <sessionID/> <!-- as is --> <paymentOriginator>holdfast</paymentOriginator></GetPayment></soapenv:Body></soapenv:Envelope>`, ""},
		{"CDATA and entities", envelope(`<ebppif1:GetPayment><paymentRef>&#104;<![CDATA[1]]></paymentRef><paymentOriginator>holdfast</paymentOriginator></ebppif1:GetPayment>`), ""},
	} {
		if body, code := w.soapDocument(c.document); code != c.want {
			t.Errorf("%s: %q %s, want %q", c.name, code, body, c.want)
		}
	}
	// Only the right one has moved money.
	w.wantBalance(a.pan, 0, 100)
}

func TestHumoTransport(t *testing.T) {
	w := newWorld(t)
	document := envelope(humoAbout("GetPayment", "x"))
	send := func(path, method, contentType, authorization, body string, action ...string) int {
		r := must(http.NewRequest(method, w.server.URL+path, strings.NewReader(body)))
		r.Header.Set("Authorization", authorization)
		r.Header.Set("Content-Type", contentType)
		if len(action) > 0 {
			r.Header.Set("SOAPAction", action[0])
		}
		response, _, err := w.do(r)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode == 401 && response.Header.Get("WWW-Authenticate") == "" {
			t.Error("401 without WWW-Authenticate")
		}
		return response.StatusCode
	}
	right := basic("holdfast", "holdfast")
	const card = "/humo-middleware/v3/iiacs/card"
	for _, c := range []struct {
		name      string
		got, want int
	}{
		{"right", send("/humo", "POST", "text/xml", right, document, `""`), 500}, // an unknown payment
		{"application/xml", send("/humo", "POST", "application/xml; charset=utf-8", right, document, ``), 500},
		{"no credentials", send("/humo", "POST", "text/xml", "", document, `""`), 401},
		{"wrong password", send("/humo", "POST", "text/xml", basic("holdfast", "x"), document, `""`), 401},
		{"GET", send("/humo", "GET", "text/xml", right, "", `""`), 405},
		{"JSON", send("/humo", "POST", "application/json", right, document, `""`), 415},
		{"too long", send("/humo", "POST", "text/xml", right, strings.Repeat(" ", maxHumoBody+1), `""`), 413},
		{"no SOAPAction", send("/humo", "POST", "text/xml", right, document), 500},
		{"another SOAPAction", send("/humo", "POST", "text/xml", right, document, `"urn:x"`), 500},
		{"card", send(card, "POST", "application/json", "Bearer holdfast", `{}`), 200},
		{"card, as public clients write it", send(card, "POST", "application/json; charset=utf-8", "Bearer: holdfast", `{}`), 200},
		{"card, wrong token", send(card, "POST", "application/json", "Bearer hold", `{}`), 401},
		{"card, no token", send(card, "POST", "application/json", "", `{}`), 401},
		{"card, Basic", send(card, "POST", "application/json", right, `{}`), 401},
		{"card, GET", send(card, "GET", "application/json", "Bearer holdfast", ``), 405},
		{"card, XML", send(card, "POST", "text/xml", "Bearer holdfast", `{}`), 415},
		{"SMS, wrong token", send("/sms/send", "POST", "application/json", "Bearer x", `{}`), 401},
	} {
		if c.got != c.want {
			t.Errorf("%s: HTTP %d, want %d", c.name, c.got, c.want)
		}
	}
	for _, action := range []string{"absent", `"urn:x"`} {
		r := must(http.NewRequest("POST", w.server.URL+"/humo", strings.NewReader(document)))
		r.Header.Set("Authorization", right)
		r.Header.Set("Content-Type", "text/xml")
		if action != "absent" {
			r.Header.Set("SOAPAction", action)
		}
		if _, body, err := w.do(r); err != nil || !strings.Contains(body, "SOAP-ENV:Client") || strings.Contains(body, "914") {
			t.Errorf("SOAPAction %s: %v %s", action, err, body)
		}
	}
}

// TestHumoRefusals walks through every limit of the protocol.
func TestHumoRefusals(t *testing.T) {
	w := newWorld(t)
	a := w.first(humo, "ok")
	w.mustSOAP(humoPayment(a, "SOAP_DMS", "held", 1000))
	w.mustSOAP(humoPayment(a, "SOAP_SMS", "paid", 500))
	held := func(n int64) string { return fmt.Sprintf("<paymentID>%d</paymentID>", w.sim.holdBase+n) }
	change := func(payload, old, new string) string {
		if strings.Count(payload, old) != 1 {
			t.Fatalf("%q is in %s %d times", old, payload, strings.Count(payload, old))
		}
		return strings.Replace(payload, old, new, 1)
	}
	value := func(name, v string) string { return "<name>" + name + "</name><value>" + v + "</value>" }
	hold := humoPayment(a, "SOAP_DMS", "new", 1000)
	confirm, cancel, back := humoConfirmation("held", 0), humoAbout("CancelRequest", "held"), humoAbout("ReturnPayment", "paid")
	for _, c := range []struct{ want, payload string }{
		{"913", change(hold, "<paymentRef>new<", "<paymentRef>held<")},
		{"913", change(change(hold, "<paymentRef>new<", "<paymentRef>paid<"), value("amount", "1000"), value("amount", "1"))},
		{"904", change(hold, "<paymentRef>new</paymentRef>", "")},
		{"904", change(hold, "<paymentRef>new<", "<paymentRef>"+strings.Repeat("x", 65)+"<")},
		{"904", change(hold, "<payinstrRef>SOAP_DMS", "<payinstrRef>SOAP_SMS")},
		{"904", change(hold, "<paymentRef>", "<paymentID>5</paymentID><paymentRef>")},
		{"904", change(hold, "<sessionID>s-1<", "<sessionID>"+strings.Repeat("x", 65)+"<")},
		{"109", change(hold, "<paymentOriginator>holdfast<", "<paymentOriginator>other<")},
		{"109", change(hold, "<paymentOriginator>holdfast</paymentOriginator>", "")},
		{"111", change(hold, value("pan", a.pan), value("pan", a.pan[:15]))},
		{"111", change(hold, value("pan", a.pan), value("pan", "986014000000001x"))},
		{"111", change(hold, value("pan", a.pan), value("pan", a.pan[:15]+string(rune('0'+(a.pan[15]-'0'+1)%10))))},
		{"111", change(hold, value("pan", a.pan), value("pan", luhn("98601477777777")))},
		{"111", change(hold, value("pan", a.pan), value("pan", luhn("98601477777777x")))},
		{"111", change(hold, value("pan", a.pan), value("pan", luhn("9860147777777777")))},
		{"118", change(hold, value("pan", a.pan), value("pan", luhn("986014777777777")))},
		{"118", change(hold, value("pan", a.pan), value("pan", sharedPAN))},
		{"904", change(hold, value("expiry", "3012"), value("expiry", "301"))},
		{"904", change(hold, value("expiry", "3012"), value("expiry", "3013"))},
		{"904", change(hold, value("expiry", "3012"), value("expiry", "3000"))},
		{"904", change(hold, value("expiry", "3012"), value("expiry", "3x12"))},
		{"101", change(hold, value("expiry", "3012"), value("expiry", "3011"))},
		{"904", change(hold, value("ccy_code", "860"), value("ccy_code", "840"))},
		{"110", change(hold, value("amount", "1000"), value("amount", "0"))},
		{"110", change(hold, value("amount", "1000"), value("amount", "-5"))},
		{"110", change(hold, value("amount", "1000"), value("amount", "10.00"))},
		{"110", change(hold, value("amount", "1000"), value("amount", "1e3"))},
		{"904", change(hold, value("amount", "1000"), value("amount", "9223372036854775808"))},
		{"116", change(hold, value("amount", "1000"), value("amount", "999999999999999999"))},
		{"904", change(hold, value("merchant_id", "011860010400104"), value("merchant_id", ""))},
		{"904", change(hold, value("terminal_id", "23610001"), value("terminal_id", "12345678901234567"))},
		{"904", change(hold, value("ccy_code", "860"), value("pan", a.pan))},
		{"904", change(hold, "<value>860</value>", "")},
		{"904", change(hold, "<details>", "<details><pan>1</pan>")},
		{"904", change(hold, "<details>", "<details><pan>"+value("x", "1")+"</pan>")},
		{"904", change(hold, "<details>", "<details><item><name>x</name></item>")},
		{"904", change(hold, "<details>", "<details><item><value>1</value></item>")},
		{"904", change(hold, "<details>", "<details><item>"+value("", "1")+"</item>")},
		{"904", change(hold, "<details>", "<details>"+strings.Repeat("<item>"+value("x", "1")+"</item>", 2))},

		{"914", change(confirm, "held", "nobody")},
		{"914", change(confirm, "<paymentRef>held</paymentRef>", "<paymentID>1</paymentID>")},
		{"914", change(confirm, "<paymentRef>held</paymentRef>", held(1000))},
		{"904", change(confirm, "<paymentRef>held</paymentRef>", held(0)+"<paymentRef>paid</paymentRef>")},
		{"904", change(confirm, "<paymentRef>held</paymentRef>", "<paymentID>x</paymentID>")},
		{"904", change(confirm, "<paymentRef>", "<paymentID>x</paymentID><paymentRef>")},
		{"904", change(confirm, "<paymentRef>held</paymentRef>", "<paymentID>-5</paymentID>")},
		{"904", change(confirm, "<paymentRef>held</paymentRef>", "")},
		{"904", change(confirm, "<finished>true</finished>", "")},
		{"904", change(confirm, "<confirmed>true<", "<confirmed>false<")},
		{"110", humoConfirmation("held", 1001)},
		{"110", change(humoConfirmation("held", 7), "<value>7<", "<value>0<")},
		{"913", humoConfirmation("paid", 0)},
		{"914", humoConfirmation("day1", 0)},

		{"914", change(cancel, "held", "nobody")},
		{"902", change(cancel, "held", "paid")},
		{"914", change(back, "<paymentRef>paid<", "<paymentRef>nobody<")},
		{"902", change(back, "<paymentRef>paid<", "<paymentRef>held<")},
		{"110", change(back, humoPlace, humoPlace+"<item>"+value("amount", "499")+"</item>")},
		{"109", change(back, "23610001", "23610002")},
		{"109", change(back, "011860010400104", "011860010400105")},
		{"904", change(back, "<item><name>centre_id</name><value>HF01</value></item>", "")},
		{"914", humoAbout("GetPayment", "nobody")},
		{"904", change(humoAbout("GetPayment", "x"), "<paymentRef>x</paymentRef>", "")},
	} {
		w.refusedSOAP(c.want, c.payload)
	}
	w.wantBalance(a.pan, -500, 1000)
	// None of them has used its reference up, and what was refused is not there.
	w.refusedSOAP("914", humoAbout("GetPayment", "new"))
	w.mustSOAP(change(back, humoPlace, humoPlace+"<item>"+value("amount", "500")+"</item>"))
	w.mustSOAP(change(confirm, "<paymentRef>held</paymentRef>", held(0)))
	w.wantBalance(a.pan, -1000, 0)
}

// TestHumoLifecycle takes payments through every state, and asks in each for everything once more.
func TestHumoLifecycle(t *testing.T) {
	w := newWorldOf(t, Config{HumoHold: 90 * time.Minute}, &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)})
	a := w.first(humo, "ok")
	want := func(ref, status string) {
		t.Helper()
		if got := inElement(w.mustSOAP(humoAbout("GetPayment", ref)), "status"); got != status {
			t.Errorf("%s: status %s, want %s", ref, got, status)
		}
	}
	// again sends what has been done, and all that cannot be done, to a payment.
	again := func(ref, confirm, cancel, back string) {
		t.Helper()
		w.refusedSOAP("913", humoPayment(a, "SOAP_DMS", ref, 1000))
		w.refusedSOAP("913", humoPayment(a, "SOAP_SMS", ref, 1000))
		w.refusedSOAP(confirm, humoConfirmation(ref, 0))
		w.refusedSOAP(confirm, humoConfirmation(ref, 600))
		w.refusedSOAP(cancel, humoAbout("CancelRequest", ref))
		if back != "" {
			w.refusedSOAP(back, humoAbout("ReturnPayment", ref))
		}
	}
	w.mustSOAP(humoPayment(a, "SOAP_DMS", "taken", 1000))
	want("taken", "4")
	w.wantBalance(a.pan, 0, 1000)
	w.mustSOAP(humoConfirmation("taken", 600))
	w.wantBalance(a.pan, -600, 0)
	again("taken", "913", "902", "") // the trap: a confirmation again takes nothing
	w.wantBalance(a.pan, -600, 0)
	w.mustSOAP(humoAbout("ReturnPayment", "taken"))
	want("taken", "30")
	again("taken", "913", "902", "913")
	w.wantBalance(a.pan, 0, 0)

	w.mustSOAP(humoPayment(a, "SOAP_DMS", "freed", 1000))
	w.mustSOAP(humoAbout("CancelRequest", "freed"))
	want("freed", "20")
	again("freed", "902", "913", "902")

	w.mustSOAP(humoPayment(a, "SOAP_SMS", "charged", 300))
	want("charged", "10")
	again("charged", "913", "902", "")
	w.wantBalance(a.pan, -300, 0)

	// To the millisecond.
	w.mustSOAP(humoPayment(a, "SOAP_DMS", "late", 1000))
	w.clock.move(90*time.Minute - time.Millisecond)
	want("late", "4")
	w.clock.move(time.Millisecond)
	want("late", "21")
	again("late", "902", "902", "902")
	w.wantBalance(a.pan, -300, 0)

	// By default for thirty days.
	d := newWorld(t)
	d.mustSOAP(humoPayment(a, "SOAP_DMS", "long", 1000))
	d.clock.move(30*24*time.Hour - time.Millisecond)
	d.wantBalance(a.pan, 0, 1000)
	d.clock.move(time.Millisecond)
	d.wantBalance(a.pan, 0, 0)
}

// TestCentresKeepApart uses one centre's references at another.
func TestCentresKeepApart(t *testing.T) {
	w := newWorld(t)
	a := w.first(humo, "ok")
	token := w.token(sharedPAN)
	uz := w.hold(token, 100)
	paid := w.pay(token, "same", 10)
	w.mustSOAP(humoPayment(a, "SOAP_DMS", "same", 1000))
	w.mustSOAP(humoPayment(a, "SOAP_SMS", "charged", 30))
	w.refusedSOAP("914", strings.Replace(humoConfirmation("x", 0), "<paymentRef>x</paymentRef>", fmt.Sprintf("<paymentID>%d</paymentID>", uz), 1))
	id := inElement(w.mustSOAP(humoAbout("GetPayment", "same")), "paymentID")
	w.refused(codeHoldNotFound, "hold.get.id", `{"id":`+id+`}`)
	w.refused(codeHoldNotFound, "hold.dismiss", fmt.Sprintf(`{"hold":{"holdId":%s,%s,"amount":1000}}`, id, home))
	w.refused(codeTranNotFound, "trans.ext", `{"extId":"charged"}`)
	rrn := item(w.mustSOAP(humoAbout("GetPayment", "charged")), "auth_ref_number")
	w.refused(codeTranNotFound, "trans.reverse", fmt.Sprintf(`{"tranId":%q}`, rrn))
	w.refused(codeSVNotFound, "trans.sv", fmt.Sprintf(`{"svId":%q}`, rrn))
	if _, body := w.json("/humo-middleware/otp/verify", fmt.Sprintf(`{"params":{"otpId":%d,"code":%q}}`, w.otp(sharedPAN), sharedCode)); !strings.Contains(body, `"code":604`) {
		t.Errorf("a code of Uzcard's at Humo: %s", body)
	}
	w.json("/humo-middleware/otp/send", `{"params":{"primaryAccountNumber":"`+a.pan+`"}}`)
	w.refused(codeOTPNotFound, "cards.new.verify", fmt.Sprintf(`{"otp":{"id":%d,"code":%q}}`, w.sim.otps.base+w.sim.otps.count-1, a.fixedOTP))
	if body := w.must("terminal.get", `{}`, nil); strings.Contains(body, "23610001") {
		t.Errorf("Uzcard lists Humo's terminal: %s", body)
	}
	w.must("trans.reverse", fmt.Sprintf(`{"tranId":%q}`, paid.RefNum), nil)
	w.wantBalance(sharedPAN, 0, 100)
	w.wantBalance(a.pan, -30, 1000)
}

// TestHumoMagicCards uses every misbehaving card to the step at which it misbehaves, and looks at what the books say then.
func TestHumoMagicCards(t *testing.T) {
	w := newWorld(t)
	codes := map[int]bool{}
	for _, a := range w.sim.cards {
		b := a.behaviour
		if a.scheme != humo || b.name == "ok" {
			continue
		}
		codes[b.code] = true
		_, card := w.json("/humo-middleware/v3/iiacs/card", `{"params":{"primaryAccountNumber":"`+a.pan+`","mb_flag":1}}`)
		var shown struct {
			Result struct {
				Card struct {
					PinTryCount int
					Statuses    struct {
						Item []struct{ Type, ActionCode, ActionDescription string }
					}
				}
				MB struct{ State, Phone string }
			}
		}
		if err := json.Unmarshal([]byte(card), &shown); err != nil {
			t.Fatalf("%s: %v %s", b.name, err, card)
		}
		r := shown.Result
		state, phone := a.smsState()
		if got := r.Card.Statuses.Item[0]; got.Type != "card" || got.ActionCode != fmt.Sprintf("%03d", b.status) || got.ActionDescription != actionMessage(b.status) ||
			r.Card.PinTryCount != b.pinTries || r.MB.State != state || r.MB.Phone != phone || (state == "on") != (phone == a.phone) {
			t.Errorf("%s: the middleware shows %s", b.name, card)
		}
		// The code of the centre.
		_, sent := w.json("/humo-middleware/otp/send", `{"params":{"primaryAccountNumber":"`+a.pan+`"}}`)
		switch {
		case state != "on":
			if !strings.Contains(sent, `"code":606`) || len(w.sim.SMS(a.phone)) != 0 {
				t.Errorf("%s: %s", b.name, sent)
			}
		case b.at == atOTP:
			if !strings.Contains(sent, fmt.Sprintf(`"code":%d`, b.code)) || len(w.sim.SMS(a.phone)) != 0 {
				t.Errorf("%s: %s", b.name, sent)
			}
			continue
		default:
			_, verified := w.json("/humo-middleware/otp/verify", fmt.Sprintf(`{"params":{"otpId":%d,"code":%q}}`, w.sim.otps.base+w.sim.otps.count-1, w.sim.SMS(a.phone)[0].Code))
			if b.at == atVerify {
				if !strings.Contains(verified, fmt.Sprintf(`"code":%d`, b.code)) {
					t.Errorf("%s: %s", b.name, verified)
				}
				continue
			}
			if !strings.Contains(verified, `"verified":true`) {
				t.Errorf("%s: %s", b.name, verified)
			}
		}
		ref := func(kind string) string { return kind + a.pan }
		check := func(at step, payload string) (stopped bool) {
			t.Helper()
			if b.at != at {
				return false
			}
			w.refusedSOAP(fmt.Sprintf("%03d", b.code), payload)
			return true
		}
		status := func(ref, want string) {
			t.Helper()
			if body, code := w.soap(humoAbout("GetPayment", ref)); inElement(body, "status")+code != want {
				t.Errorf("%s: asked later, GetPayment says %s %s, want %s", b.name, code, body, want)
			}
		}
		if b.name == "insufficient_funds" {
			w.refusedSOAP("116", humoPayment(a, "SOAP_DMS", ref("h"), 1))
			w.refusedSOAP("116", humoPayment(a, "SOAP_SMS", ref("c"), 1))
			continue
		}
		done := int64(0)
		if b.done {
			done = 1
		}
		if check(atHold, humoPayment(a, "SOAP_DMS", ref("h"), 100)) {
			check(atHold, humoPayment(a, "SOAP_SMS", ref("c"), 70))
			w.wantBalance(a.pan, -70*done, 100*done)
			status(ref("h"), map[bool]string{true: "4", false: "914"}[b.done])
			status(ref("c"), map[bool]string{true: "10", false: "914"}[b.done])
			continue
		}
		w.mustSOAP(humoPayment(a, "SOAP_DMS", ref("h"), 100))
		if check(atCapture, humoConfirmation(ref("h"), 80)) {
			w.wantBalance(a.pan, -80*done, 100-100*done)
			status(ref("h"), map[bool]string{true: "10", false: "4"}[b.done])
			continue
		}
		if check(atVoid, humoAbout("CancelRequest", ref("h"))) {
			w.wantBalance(a.pan, 0, 100-100*done)
			status(ref("h"), map[bool]string{true: "20", false: "4"}[b.done])
			continue
		}
		w.mustSOAP(humoConfirmation(ref("h"), 80))
		if check(atRefund, humoAbout("ReturnPayment", ref("h"))) {
			w.wantBalance(a.pan, -80+80*done, 0)
			status(ref("h"), map[bool]string{true: "30", false: "10"}[b.done])
			continue
		}
		if b.smsState == "" {
			t.Errorf("%s did nothing odd", b.name)
		}
		w.wantBalance(a.pan, -80, 0)
	}
	for _, code := range []int{100, 101, 102, 104, 106, 107, 108, 109, 110, 111, 118, 120, 121, 123, 125, 204, 207, 208, 209, 280, 281, 907, 908, 909, 910, 911, 912} {
		if !codes[code] || actionMessage(code) == "Declined" {
			t.Errorf("%d has no card, or no message", code)
		}
	}
}

func TestOTPService(t *testing.T) {
	w := newWorld(t)
	a := w.sim.byPAN[magicPAN("986014", 0, 0, 2)]
	send := func() int64 {
		t.Helper()
		_, body := w.json("/humo-middleware/otp/send", `{"params":{"primaryAccountNumber":"`+a.pan+`"}}`)
		var sent struct{ Result struct{ OTPID int64 } }
		if err := json.Unmarshal([]byte(body), &sent); err != nil || sent.Result.OTPID == 0 {
			t.Fatalf("%v %s", err, body)
		}
		return sent.Result.OTPID
	}
	verify := func(what string, id int64, code string, want int) {
		t.Helper()
		_, body := w.json("/humo-middleware/otp/verify", fmt.Sprintf(`{"params":{"otpId":%d,"code":%q}}`, id, code))
		var got struct {
			Result struct{ Verified bool }
			Error  struct{ Code int }
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || got.Error.Code != want || got.Result.Verified != (want == 0) {
			t.Errorf("%s: %v %s, want %d", what, err, body, want)
		}
	}
	code := func() string { return w.sim.SMS(a.phone)[0].Code }
	wrong := func() string { return fmt.Sprintf("%06d", (decimal([]byte(code()))+1)%1_000_000) }

	id := send()
	verify("wrong", id, wrong(), otpWrong)
	verify("five digits", id, code()[:5], otpWrong)
	verify("right", id, code(), 0)
	verify("again", id, code(), otpUsed)
	id = send()
	for range maxOTPTries {
		verify("wrong", id, wrong(), otpWrong)
	}
	verify("the right one after three wrong ones", id, code(), otpTries)
	id = send()
	w.clock.move(5*time.Minute - time.Millisecond)
	verify("at the last moment", id, code(), 0)
	id = send()
	w.clock.move(5 * time.Minute)
	verify("too late", id, code(), otpExpired)
	verify("from nowhere", id+1, "123456", otpUnknown)
	if _, body := w.json("/humo-middleware/otp/send", `{"params":{"primaryAccountNumber":"`+a.pan+`","expiry":"3011"}}`); !strings.Contains(body, `"code":101`) {
		t.Errorf("a wrong expiry: %s", body)
	}
}

// TestSMSProvider sends the gateway's own messages.
func TestSMSProvider(t *testing.T) {
	w := newWorld(t)
	a := w.first(humo, "ok")
	for n, c := range []struct{ phone, text, code string }{
		{a.phone, "Shop 12: your code is 482913. Do not tell it.", "482913"},
		{"+" + a.phone, "Код 1234", "1234"},
		{"998 90 000-00-00", "12345678", "12345678"},
		{"998900000000", "123 or 123456789 is no code", ""},
		{"998900000000", "Hello", ""},
	} {
		body := must(json.Marshal(map[string]string{"phone": c.phone, "text": c.text}))
		status, answer := w.json("/sms/send", string(body))
		if want := fmt.Sprintf(`{"messageId":"%d","status":"sent"}`, n+1); status != 200 || answer != want {
			t.Errorf("%s: %d %s, want %s", c.text, status, answer, want)
		}
		phone := must(bareNumber(c.phone))
		if m := w.sim.SMS(phone); len(m) == 0 || m[0].Text != c.text || m[0].Code != c.code || m[0].Phone != phone {
			t.Errorf("%s: %v", c.text, m)
		}
	}
	if n := len(w.sim.SMS(a.phone)); n != 2 {
		t.Errorf("%d messages to the card's phone", n)
	}
	if n := len(w.sim.SMS("998900000000")); n != 3 {
		t.Errorf("%d messages to a phone without a card", n)
	}
	if all := w.sim.SMS(""); len(all) != 5 || all[0].Text != "Hello" {
		t.Errorf("%v", all)
	}
	for _, wrong := range []string{`{`, `[]`, `{}`, `{"phone":"12","text":"x"}`, `{"phone":"abc","text":"x"}`, `{"phone":"998901234500"}`, `{"phone":"998901234500","text":""}`,
		`{"phone":"998901234500","text":5}`, `{"phone":998901234500,"text":"x"}`, `{"phone":"998901234500","text":"` + strings.Repeat("x", maxSMS+1) + `"}`, `{"phone":"1234567890123456","text":"x"}`} {
		if status, body := w.json("/sms/send", wrong); status != 400 || !strings.Contains(body, `{"error":"`) {
			t.Errorf("%s: %d %s", wrong, status, body)
		}
	}
	if n := len(w.sim.SMS("")); n != 5 {
		t.Errorf("a refused message was sent: %d", n)
	}
}

// FuzzHumo sends anything at all: the answer is always one whole envelope, and the books balance.
func FuzzHumo(f *testing.F) {
	s := New(Config{Seed: 1, Now: func() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }})
	a := s.byPAN[magicPAN("986014", 0, 0, 1)]
	for _, payload := range []string{
		humoPayment(a, "SOAP_DMS", "h", 100), humoPayment(a, "SOAP_SMS", "c", 100), humoPayment(a, "SOAP_RECO", "r", 1), humoConfirmation("h", 50),
		humoAbout("CancelRequest", "h"), humoAbout("ReturnPayment", "c"), humoAbout("GetPayment", "h"), "<x/>", "<ebppif1:Payment>&lt;</ebppif1:Payment>",
	} {
		f.Add(envelope(payload))
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, document string) {
		payload, why := parseSOAP([]byte(document))
		answer := soapFault("Client", why, 0)
		if why == "" {
			m := readHumo(&payload)
			if m.method == "" {
				return
			}
			_, answer = s.humo(&m)
		}
		wellFormed(t, string(answer.body))
		checkBooks(t, s.Books())
		if s.count > 100 {
			s.Reset()
		}
	})
}

// TestOtherFullBooksRefuse fills books, terminals and reconciliations: nothing grows for ever, and nothing half happens.
func TestOtherFullBooksRefuse(t *testing.T) {
	w := newWorld(t)
	s, a := w.sim, w.first(humo, "ok")
	w.mustSOAP(humoPayment(a, "SOAP_DMS", "held", 100))
	w.mustSOAP(humoPayment(a, "SOAP_SMS", "paid", 100))
	v := w.first(visa, "no_3ds")
	held := w.paid("held", 100, v)
	taken := w.paid("taken", 100, v)
	w.mustRBS("deposit.do", fields("orderId", taken, "amount", "0"))
	open := w.registered("open", 100)
	s.mu.Lock()
	count := s.count
	s.count = maxOperations
	s.mu.Unlock()
	for _, payload := range []string{
		humoPayment(a, "SOAP_DMS", "new", 1), humoPayment(a, "SOAP_SMS", "new", 1), humoConfirmation("held", 0), humoAbout("CancelRequest", "held"), humoAbout("ReturnPayment", "paid"),
	} {
		w.refusedSOAP("909", payload)
	}
	w.refusedRBS(7, "deposit.do", fields("orderId", held, "amount", "0"))
	w.refusedRBS(7, "reverse.do", fields("orderId", held))
	w.refusedRBS(7, "refund.do", fields("orderId", taken, "amount", "0"))
	w.mustRBS("paymentorder.do", cardForm(v, open))
	w.wantStatus("open", 6, 909)
	s.mu.Lock()
	s.count = count
	for i := range maxTerminals {
		s.place(merchantTerminal{merchantID: fmt.Sprint(i), centre: atHumo})
	}
	s.mu.Unlock()
	w.refusedSOAP("109", strings.ReplaceAll(humoPayment(a, "SOAP_DMS", "new", 1), "23610001", "onemore"))
	w.mustSOAP(humoPayment(a, "SOAP_DMS", "new", 1)) // a known terminal still works
	w.wantBalance(a.pan, -100, 101)
	w.wantBalance(v.pan, -100, 100)

	for n := range maxRecos + 1 {
		w.mustSOAP(humoPayment(a, "SOAP_RECO", fmt.Sprint("day", n), 1))
	}
	w.refusedSOAP("914", humoConfirmation("day0", 0)) // the oldest is forgotten
	w.mustSOAP(humoConfirmation("day1", 0))

	s.mu.Lock()
	all := s.orders.all
	s.orders.all = make([]*order, maxOrders)
	s.mu.Unlock()
	w.refusedRBS(7, "registerPreAuth.do", fields("orderNumber", "n", "amount", "1", "returnUrl", "https://x.example"))
	s.mu.Lock()
	s.orders.all = all
	s.mu.Unlock()
	w.registered("n", 1)
}
