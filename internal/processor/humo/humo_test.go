package humo_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor"
	"holdfast/internal/processor/humo"
	"holdfast/internal/processor/processortest"
	"holdfast/internal/sim"
)

var sentAt = time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)

const (
	pan   = "9860140000000012"
	code  = "402517"
	phone = "998901234533"
	ref   = "1795426200000_5520"
	hold  = "1136049"
)

var paid = payment.ID{15: 7}

var vault = newSafe(vaultKey)

// sealedAs is a card as the connector seals it.
func sealedAs(number, expiry string, id payment.ID) string {
	b, err := vault.seal([]byte(number + " " + expiry + " " + id.String()))
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(b)
}

// codeName is the CentreID of a code of ours.
func codeName(ref, code, key string) string {
	mac := hmac.New(sha256.New, []byte(key))
	io.WriteString(mac, ref+":"+code)
	return "gateway:" + ref + ":" + hex.EncodeToString(mac.Sum(nil))
}

// question asks about a payment of 1000.00 UZS with everything known that could be.
func question(kind payment.Kind, ask payment.Ask) processor.Question {
	return processor.Question{
		Payment: paid, Shop: 17, Captured: money.New(100_000, money.UZS), HoldUntil: sentAt.Add(30 * time.Minute), Language: "ru",
		Operation: payment.Operation{
			Ref: ref, Kind: kind, Ask: ask, Amount: money.New(100_000, money.UZS), BegunAt: sentAt, SentAt: sentAt, Asks: 1,
		},
		Attempt: payment.Attempt{
			Challenge: &payment.Challenge{CentreID: "pc:271828"},
			Centre:    payment.Centre{Hold: hold, Sealed: sealedAs(pan, "3012", paid)},
		},
		Card: payment.Card{Number: pan, Expiry: "3012"}, Code: code,
	}
}

// at is the connector's clock, later than sentAt by so much.
func at(later time.Duration) func() time.Time {
	return func() time.Time { return sentAt.Add(later) }
}

func configured(transport http.RoundTripper) humo.Config {
	return humo.Config{
		Endpoint: "https://centre.example/humo", Login: "shop", Password: "hunter2-of-the-shop",
		MerchantID: "011860022000001", TerminalID: "2360000X", PointCode: "100010104110", CentreID: "0001",
		MiddlewareURL: "https://centre.example/humo-middleware", MiddlewareToken: "hunter2-of-the-middleware",
		CodeKey: codeKey, SMSURL: "https://centre.example/sms/send", SMSToken: "hunter2-of-the-sms",
		Seal: vault.seal, Unseal: vault.unseal, Now: at(10 * time.Minute), HTTP: &http.Client{Transport: transport},
	}
}

func connector(t testing.TB, cfg humo.Config) *humo.Connector {
	t.Helper()
	c, err := humo.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// canned answers each of the simulator's methods with a text, * the rest. An envelope with a Fault has
// status 500, all else 200.
func canned(answers map[string]string) roundTripper {
	return func(path string, request []byte) (int, []byte, error) {
		answer, ok := answers[methodOf(path, request)]
		if !ok {
			answer = answers["*"]
		}
		var call struct {
			ID json.RawMessage `json:"id"`
		}
		if json.Unmarshal(request, &call) == nil {
			answer = strings.ReplaceAll(answer, "$ID", string(call.ID))
		}
		if strings.Contains(answer, "Fault>") {
			return http.StatusInternalServerError, []byte(answer), nil
		}
		return http.StatusOK, []byte(answer), nil
	}
}

// soap is an answer of PaymentServer.
func soap(inside string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/" xmlns:ebppif1="urn:PaymentServer"><SOAP-ENV:Body>` +
		inside + `</SOAP-ENV:Body></SOAP-ENV:Envelope>`
}

// made is a PaymentResponse; more stands among its details.
func made(action, amount, more string) string {
	return soap(`<ebppif1:PaymentResponse><paymentID>` + hold + `</paymentID><paymentRef>` + ref + `</paymentRef><details><item><name>amount</name><value>` +
		amount + `</value></item>` + more + `</details><action>` + action + `</action></ebppif1:PaymentResponse>`)
}

// stands is a GetPaymentResponse.
func stands(status, amount, more string) string {
	return soap(`<ebppif1:GetPaymentResponse><paymentID>` + hold + `</paymentID><paymentRef>` + ref + `</paymentRef><status>` + status + `</status><details><item><name>amount</name><value>` +
		amount + `</value></item>` + more + `</details></ebppif1:GetPaymentResponse>`)
}

func item(name, value string) string {
	return `<item><name>` + name + `</name><value>` + value + `</value></item>`
}

func fault(code string) string {
	return soap(`<SOAP-ENV:Fault><faultcode>SOAP-ENV:Server</faultcode><faultstring>as told</faultstring><detail><ebppif1:PaymentServerException><error>` +
		code + `</error></ebppif1:PaymentServerException></detail></SOAP-ENV:Fault>`)
}

func result(text string) string { return `{"id":$ID,"result":` + text + `}` }

// card is what the middleware says of a card.
func card(number, expiry, tries, statuses, mb string) string {
	return result(`{"card":{"primaryAccountNumber":"` + number + `","expiry":"` + expiry + `","pinTryCount":` + tries + `,"statuses":{"item":` + statuses + `}},"mb":` + mb + `}`)
}

const (
	fine    = `[{"type":"card","actionCode":"000"},{"type":"hot","actionCode":"000"}]`
	on      = `{"state":"on","phone":"` + phone + `","message":""}`
	smsSent = `{"messageId":"1","status":"sent"}`
)

var usable = card(pan, "3012", "0", fine, on)

var (
	moving  = []payment.Kind{payment.OpHold, payment.OpCharge, payment.OpCapture, payment.OpVoid, payment.OpRefund}
	resting = []payment.Kind{payment.OpChallenge, payment.OpVerify}
)

// TestCodes is docs/processors.md §2.3 and §3.2, written once more: what each action code means for a request
// that is sent for the first time, and as the status of a card.
func TestCodes(t *testing.T) {
	unknown := payment.Reason("") // stands for the outcome Unknown
	classes := []struct {
		money, idle payment.Reason
		codes       []int
	}{
		{payment.CardRefused, payment.CardRefused, []int{100, 103, 107, 108, 104, 119, 117, 126}},
		{payment.CardExpired, payment.CardExpired, []int{101, 201}},
		{payment.Fraud, payment.Fraud, []int{102, 202}},
		{payment.CardBlocked, payment.CardBlocked, []int{106, 206, 125, 200, 204, 207, 208, 209, 280, 281}},
		{payment.Misconfigured, payment.Misconfigured, []int{109, 110, 115, 120, 904, 916}},
		{payment.CardUnknown, payment.CardUnknown, []int{111, 118}},
		{payment.InsufficientFunds, payment.InsufficientFunds, []int{116}},
		{payment.CardLimit, payment.CardLimit, []int{121, 123}},
		{unknown, payment.Unavailable, []int{907, 910, 912}},
		{unknown, unknown, []int{500, 501, 502, 503, 504, 902, 908, 909, 911, 913, 914, 915}},
		// The middleware's own: they mean nothing in the mouth of PaymentServer.
		{unknown, payment.WrongCode, []int{601}},
		{unknown, payment.CodeExpired, []int{602, 603, 604, 605}},
		{unknown, payment.NoSMS, []int{606}},
		{unknown, payment.Unavailable, []int{607}},
		// Codes nobody has told us of.
		{unknown, payment.CardRefused, []int{2, 99, 105, 122, 124, 127, 203, 210, 282, 301, 400, 600, 608, 700, 903, 905, 906, 917, 999}},
	}
	var told int
	c := connector(t, configured(roundTripper(func(path string, request []byte) (int, []byte, error) {
		answers := map[string]string{
			"*":         fault(fmt.Sprintf("%03d", told)),
			"humo.card": fmt.Sprintf(`{"id":$ID,"error":{"code":%d,"message":"as told"}}`, told),
		}
		answers["humo.otp"] = answers["humo.card"]
		return canned(answers)(path, request)
	})))
	seen := map[int]bool{}
	for _, class := range classes {
		for _, told = range class.codes {
			if seen[told] {
				t.Errorf("%d is in two classes", told)
			}
			seen[told] = true
			for _, kind := range slices.Concat(moving, resting) {
				reason := class.money
				if !kind.MovesMoney() {
					reason = class.idle
				}
				for _, asks := range []int{1, 2} {
					want := payment.Refused
					if reason == unknown || asks > 1 && kind.MovesMoney() { // what was sent before may be under way
						want = payment.Unknown
					}
					q := question(kind, payment.Send)
					q.Operation.Asks = asks
					a := c.Ask(t.Context(), q)
					if a.Outcome != want || want == payment.Refused && a.Reason != reason {
						t.Errorf("%d to send %s the %d. time: %+v, want %s %s", told, kind, asks, a, want, reason)
					}
					if !strings.Contains(a.Cause, fmt.Sprint(told)) {
						t.Errorf("%d to send %s: the cause %q does not say so", told, kind, a.Cause)
					}
				}
			}
		}
	}
	// Of a question only “not found” by our reference says something.
	c = connector(t, configured(roundTripper(func(path string, request []byte) (int, []byte, error) {
		return canned(map[string]string{"*": fault(fmt.Sprintf("%03d", told))})(path, request)
	})))
	for told = range seen {
		for _, kind := range moving {
			want := payment.Unknown
			if told == 914 && (kind == payment.OpHold || kind == payment.OpCharge) {
				want = payment.NeverSeen
			}
			if a := c.Ask(t.Context(), question(kind, payment.Query)); a.Outcome != want {
				t.Errorf("%d to query %s: %+v, want %s", told, kind, a, want)
			}
		}
	}
	// A card's status is the same table: whatever is not 000 does not pay.
	for _, class := range classes {
		for _, code := range class.codes {
			want := class.money
			if want == unknown {
				want = payment.CardRefused
			}
			c := connector(t, configured(canned(map[string]string{
				"humo.card": card(pan, "3012", "0", fmt.Sprintf(`[{"actionCode":"000"},{"actionCode":"%03d"}]`, code), on),
			})))
			if a := c.Ask(t.Context(), question(payment.OpChallenge, payment.Send)); a.Outcome != payment.Refused || a.Reason != want {
				t.Errorf("a card of status %d: %+v, want %s", code, a, want)
			}
		}
	}
}

// TestAnswers is what single answers of PaymentServer prove, beyond what the simulator can say.
func TestAnswers(t *testing.T) {
	const holds, charge, capture, void, refund = payment.OpHold, payment.OpCharge, payment.OpCapture, payment.OpVoid, payment.OpRefund
	const ok, refused, unknown, unseen = payment.Approved, payment.Refused, payment.Unknown, payment.NeverSeen
	const send, query = payment.Send, payment.Query
	good := made("4", "100000", "")
	swap := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not there", old)
		}
		return strings.ReplaceAll(good, old, new)
	}
	cancelled, returned := soap(`<ebppif1:CancelRequestResponse/>`), soap(`<ebppif1:ReturnPaymentResponse></ebppif1:ReturnPaymentResponse>`)
	for _, test := range []struct {
		kind    payment.Kind
		ask     payment.Ask
		answer  string
		outcome payment.Outcome
		reason  payment.Reason
	}{
		// A new payment: everything has to be right.
		{holds, send, good, ok, ""},
		{charge, send, made("10", "100000", ""), ok, ""},
		{holds, send, made("10", "100000", ""), unknown, ""}, // taken at once
		{charge, send, good, unknown, ""},                    // waits for a confirmation
		{holds, send, made("", "100000", ""), unknown, ""},
		{holds, send, made("5", "100000", ""), unknown, ""},
		{holds, send, made("4.0", "100000", ""), unknown, ""},
		{holds, send, made("+4", "100000", ""), unknown, ""},
		{holds, send, made("0004", "100000", ""), unknown, ""},
		{holds, send, made("4", "100001", ""), unknown, ""},
		{holds, send, made("4", "1000.00", ""), unknown, ""},
		{holds, send, made("4", "1e5", ""), unknown, ""},
		{holds, send, made("4", "-100000", ""), unknown, ""},
		{holds, send, made("4", "+100000", ""), unknown, ""},
		{holds, send, made("4", "0000000000000100000", ""), unknown, ""},
		{holds, send, made("4", "", ""), unknown, ""},
		{holds, send, made("4", " 100000 ", ""), ok, ""},
		{holds, send, made("4", "100000", item("amount", "100000")), unknown, ""},
		{holds, send, made("4", "100000", item("transaction_amount", "100000")), ok, ""},
		{holds, send, made("4", "100000", item("transaction_amount", "99999")), unknown, ""},
		{holds, send, made("4", "99999", item("transaction_amount", "100000")), unknown, ""},
		{holds, send, swap(item("amount", "100000"), item("transaction_amount", "100000")), ok, ""},
		{holds, send, swap(item("amount", "100000"), ""), unknown, ""},
		{holds, send, swap(`<details>`+item("amount", "100000")+`</details>`, ""), unknown, ""},
		{holds, send, made("4", "100000", item("ccy_code", "860")), ok, ""},
		{holds, send, made("4", "100000", item("ccy_code", "840")), unknown, ""},
		{holds, send, made("4", "100000", item("auth_action_code", "000")), ok, ""},
		{holds, send, made("4", "100000", item("auth_action_code", "001")), ok, ""},
		{holds, send, made("4", "100000", item("auth_action_code", "116")), unknown, ""},
		{charge, send, made("10", "100000", item("auth_action_code", "000")+item("auth_action_code_final", "000")), ok, ""},
		{charge, send, made("10", "100000", item("auth_action_code", "000")+item("auth_action_code_final", "911")), unknown, ""},
		{holds, send, made("4", "100000", `<item><name>x</name></item>`), unknown, ""},
		{holds, send, made("4", "100000", `<item><value>x</value></item>`), unknown, ""},
		{holds, send, made("4", "100000", `<other>x</other>`), unknown, ""},
		{holds, send, made("4", "100000", `<other><name>x</name><value>y</value></other>`), unknown, ""},
		{holds, send, made("4", "100000", item("", "y")), unknown, ""},
		{holds, send, made("4", "100000", `<item><name>x</name><x:value xmlns:x="urn:x">y</x:value></item>`), unknown, ""},
		{holds, send, swap(ref, ref+"-1"), unknown, ""},
		{holds, send, swap(`<paymentRef>`+ref+`</paymentRef>`, ""), unknown, ""},
		{holds, send, swap(`<paymentID>`+hold+`</paymentID>`, ""), unknown, ""},
		{holds, send, swap(`<paymentID>`+hold+`</paymentID>`, "<paymentID>0</paymentID>"), unknown, ""},
		{holds, send, swap(`<paymentID>`+hold+`</paymentID>`, "<paymentID>1/2</paymentID>"), unknown, ""},
		{holds, send, swap(`<paymentID>`+hold+`</paymentID>`, "<paymentID>1</paymentID><paymentID>2</paymentID>"), unknown, ""},
		{holds, send, swap(`<paymentRef>`, `<sessionID>`+ref+`</sessionID><paymentRef>`), ok, ""},
		{holds, send, swap(`<paymentRef>`, `<sessionID>another</sessionID><paymentRef>`), unknown, ""},
		{holds, send, swap("<action>4</action>", "<action>4</action><action>4</action>"), unknown, ""},

		// The form around it.
		{holds, send, swap("ebppif1", "ns1"), ok, ""},
		{holds, send, swap("SOAP-ENV", "soap"), ok, ""},
		{holds, send, swap("<SOAP-ENV:Body>", "<SOAP-ENV:Header><x>1</x></SOAP-ENV:Header><SOAP-ENV:Body>"), ok, ""},
		{holds, send, swap("<details>", "<!-- what is known --><details>"), ok, ""},
		{holds, send, swap("<paymentID>"+hold, "<paymentID>&#49;"+hold[1:]), ok, ""},
		{holds, send, swap("urn:PaymentServer", "urn:PaymentServer2"), unknown, ""},
		{holds, send, swap("urn:PaymentServer", ""), unknown, ""},
		{holds, send, swap("org/soap/envelope/", "org/soap/envelope"), unknown, ""},
		{holds, send, swap("http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope"), unknown, ""},
		{holds, send, swap("<action>4</action>", `<x:action xmlns:x="urn:x">4</x:action>`), unknown, ""},
		{holds, send, swap("SOAP-ENV:Envelope", "SOAP-ENV:Letter"), unknown, ""},
		{holds, send, swap("SOAP-ENV:Body", "SOAP-ENV:Soul"), unknown, ""},
		{holds, send, swap("SOAP-ENV:Body", "ebppif1:Body"), unknown, ""},
		{holds, send, swap("PaymentResponse", "Payment"), unknown, ""},
		{holds, send, swap("PaymentResponse", "GetPaymentResponse"), unknown, ""},
		{holds, send, swap("<SOAP-ENV:Body>", "<SOAP-ENV:Body><x/>"), unknown, ""},
		{holds, send, swap(`encoding="UTF-8"`, `encoding="windows-1251"`), unknown, ""},
		{holds, send, swap(`<SOAP-ENV:Envelope`, `<!DOCTYPE x [<!ENTITY four "4">]><SOAP-ENV:Envelope`), unknown, ""},
		{holds, send, swap("<action>4</action>", "<action>&four;</action>"), unknown, ""},
		{holds, send, swap("<details>", "text<details>"), unknown, ""},
		{holds, send, good[:len(good)/2], unknown, ""},
		{holds, send, strings.TrimSuffix(good, "</SOAP-ENV:Envelope>"), unknown, ""},
		{holds, send, good + good, unknown, ""},
		{holds, send, good + "<x/>", unknown, ""},
		{holds, send, good + "x", unknown, ""},
		{holds, send, good + "\n", ok, ""},
		{holds, send, soap(""), unknown, ""},
		{holds, send, soap("4"), unknown, ""},
		{holds, send, ``, unknown, ""},
		{holds, send, `{"action":4,"paymentID":` + hold + `,"paymentRef":"` + ref + `","amount":100000}`, unknown, ""},
		{holds, send, `<html><body>It works!</body></html>`, unknown, ""},
		{holds, send, strings.Repeat("<a>", 100_000), unknown, ""},
		{holds, send, swap("<details>", "<x>"+strings.Repeat("<y/><item/>", 4000)+"</x><details>"), unknown, ""},
		{holds, send, swap("<details>", "<x>"+strings.Repeat("a<!-- -->", 5000)+"</x><details>"), unknown, ""},

		// Faults.
		{holds, send, fault("116"), refused, payment.InsufficientFunds},
		{holds, send, strings.ReplaceAll(fault("116"), "ebppif1", "e"), refused, payment.InsufficientFunds},
		{holds, send, strings.ReplaceAll(fault("116"), "urn:PaymentServer", "urn:Other"), unknown, ""},
		{holds, send, strings.ReplaceAll(fault("116"), "PaymentServerException", "Exception"), unknown, ""},
		{holds, send, strings.Replace(fault("116"), "<error>116</error>", "<error>116</error><error>116</error>", 1), unknown, ""},
		{holds, send, strings.Replace(fault("116"), "<faultstring>as told</faultstring>", "", 1), refused, payment.InsufficientFunds},
		{holds, send, fault("16"), unknown, ""},
		{holds, send, fault("1116"), unknown, ""},
		{holds, send, fault("E16"), unknown, ""},
		{holds, send, fault(""), unknown, ""},
		{holds, send, fault("000"), unknown, ""},
		{holds, send, fault("001"), unknown, ""},
		{holds, send, soap(`<SOAP-ENV:Fault><faultcode>SOAP-ENV:Client</faultcode><faultstring>116</faultstring></SOAP-ENV:Fault>`), unknown, ""},
		{holds, send, soap(`<Fault><detail><PaymentServerException><error>116</error></PaymentServerException></detail></Fault>`), unknown, ""},
		{capture, send, fault("902"), unknown, ""},
		{void, send, fault("913"), unknown, ""},

		// Asked by our reference.
		{holds, query, stands("4", "100000", ""), ok, ""},
		{holds, query, stands("4", "100100", ""), unknown, ""},
		{holds, query, stands("10", "100000", ""), unknown, ""},
		{holds, query, stands("20", "100000", ""), refused, payment.HoldGone},
		{holds, query, stands("21", "100000", ""), refused, payment.HoldGone},
		{holds, query, strings.ReplaceAll(stands("21", "100000", ""), ref, ref+"1"), unknown, ""},
		{holds, query, stands("30", "100000", ""), unknown, ""},
		{holds, query, stands("7", "100000", ""), unknown, ""},
		{holds, query, stands("", "100000", ""), unknown, ""},
		{holds, query, strings.ReplaceAll(stands("4", "100000", ""), ref, ref+"1"), unknown, ""},
		{holds, query, good, unknown, ""},
		{charge, query, stands("10", "100000", ""), ok, ""},
		{charge, query, stands("4", "100000", ""), unknown, ""},
		{charge, query, stands("30", "100000", ""), unknown, ""},

		// Confirmation.
		{capture, send, made("10", "100000", ""), ok, ""},
		{capture, send, good, unknown, ""},
		{capture, send, made("10", "50000", ""), unknown, ""},
		{capture, send, strings.ReplaceAll(made("10", "100000", ""), hold, hold+"1"), unknown, ""},
		{capture, send, strings.ReplaceAll(made("10", "100000", ""), ref, "another"), ok, ""}, // the payment's is the hold's
		{capture, query, stands("10", "100000", ""), ok, ""},
		{capture, query, stands("10", "50000", ""), unknown, ""},
		{capture, query, stands("4", "100000", ""), unseen, ""},
		{capture, query, stands("4", "200000", ""), unseen, ""}, // more is held than is taken
		{capture, query, stands("20", "100000", ""), refused, payment.HoldGone},
		{capture, query, stands("21", "100000", ""), refused, payment.HoldGone},
		{capture, query, stands("30", "100000", ""), unknown, ""},
		{capture, query, strings.ReplaceAll(stands("10", "100000", ""), hold, hold+"1"), unknown, ""},
		{capture, query, strings.ReplaceAll(stands("4", "100000", ""), hold, hold+"1"), unknown, ""}, // another one waits still
		{capture, query, strings.ReplaceAll(stands("20", "100000", ""), hold, hold+"1"), unknown, ""},

		// Cancellation.
		{void, send, cancelled, ok, ""},
		{void, send, returned, unknown, ""},
		{void, send, soap(`<ebppif1:CancelRequestResponse>no</ebppif1:CancelRequestResponse>`), unknown, ""},
		{void, send, soap(`<ebppif1:CancelRequestResponse><paymentID>1</paymentID></ebppif1:CancelRequestResponse>`), unknown, ""},
		{void, send, soap(`<CancelRequestResponse/>`), unknown, ""},
		{void, query, stands("20", "100000", ""), ok, ""},
		{void, query, stands("21", "100000", ""), ok, ""},
		{void, query, stands("20", "100100", ""), unknown, ""},
		{void, query, strings.ReplaceAll(stands("20", "100000", ""), item("amount", "100000"), ""), ok, ""},
		{void, query, stands("20", "100000", `<item/>`), unknown, ""},
		{void, query, strings.ReplaceAll(stands("20", "100000", ""), hold, hold+"1"), unknown, ""},
		{void, query, strings.ReplaceAll(stands("21", "100000", ""), hold, hold+"1"), unknown, ""},
		{void, query, strings.ReplaceAll(stands("4", "100000", ""), hold, hold+"1"), unknown, ""},
		{void, query, strings.ReplaceAll(stands("10", "100000", ""), hold, hold+"1"), unknown, ""},
		{void, query, stands("4", "100000", ""), unseen, ""},
		{void, query, stands("10", "100000", ""), refused, payment.AlreadyCaptured},
		{void, query, stands("30", "100000", ""), unknown, ""},

		// Return.
		{refund, send, returned, ok, ""},
		{refund, send, cancelled, unknown, ""},
		{refund, query, stands("30", "100000", ""), ok, ""},
		{refund, query, stands("30", "100100", ""), unknown, ""},
		{refund, query, stands("10", "100000", ""), unseen, ""},
		{refund, query, strings.ReplaceAll(stands("10", "100000", ""), hold, hold+"1"), unknown, ""},
		{refund, query, stands("4", "100000", ""), unknown, ""},
		{refund, query, stands("20", "100000", ""), unknown, ""},
	} {
		answers := map[string]string{"*": test.answer}
		a := connector(t, configured(canned(answers))).Ask(t.Context(), question(test.kind, test.ask))
		if a.Outcome != test.outcome || a.Reason != test.reason {
			t.Errorf("%s %s, answered %.400s:\n%+v, want %s %s", test.ask, test.kind, test.answer, a, test.outcome, test.reason)
		}
		if (a.Outcome == unknown || a.Outcome == refused) && a.Cause == "" {
			t.Errorf("%s %s, answered %.400s: no cause", test.ask, test.kind, test.answer)
		}
	}
}

// TestPartialRefund: Humo returns whole payments only, so nothing is returned unless the sum is the whole.
func TestPartialRefund(t *testing.T) {
	for _, test := range []struct {
		taken   int64
		asks    int
		outcome payment.Outcome
		reason  payment.Reason
		sent    bool
	}{
		{100_000, 1, payment.Approved, "", true},
		{100_000, 2, payment.Approved, "", true},
		{100_100, 1, payment.Refused, payment.Unsupported, false},
		{100_100, 2, payment.Unknown, "", false},
		{99_900, 1, payment.Refused, payment.Unsupported, false},
		{0, 1, payment.Refused, payment.Unsupported, false},
	} {
		sent := false
		c := connector(t, configured(roundTripper(func(path string, request []byte) (int, []byte, error) {
			sent = sent || methodOf(path, request) == "humo.return"
			return canned(map[string]string{"humo.return": soap(`<ebppif1:ReturnPaymentResponse/>`)})(path, request)
		})))
		q := question(payment.OpRefund, payment.Send)
		q.Operation.Asks, q.Captured = test.asks, money.New(test.taken, money.UZS)
		if a := c.Ask(t.Context(), q); a.Outcome != test.outcome || a.Reason != test.reason || sent != test.sent {
			t.Errorf("%d was taken: %+v, returned: %v; want %s %s, %v", test.taken, a, sent, test.outcome, test.reason, test.sent)
		}
	}
}

// TestCard: what the middleware must say of a card before a code is sent to anybody.
func TestCard(t *testing.T) {
	const given, refused, unknown = payment.ChallengeGiven, payment.Refused, payment.Unknown
	for _, test := range []struct {
		answer  string
		outcome payment.Outcome
		reason  payment.Reason
	}{
		{usable, given, ""},
		{strings.Replace(usable, `"id":$ID`, `"id":7`, 1), unknown, ""},
		{card(pan, "3012", `"2"`, `{"actionCode":"000"}`, on), given, ""},
		{card(pan, "3012", "2", `[{"actionCode":0}]`, on), given, ""},
		{card(pan, "3012", "0", fine, `{"state":"on","phone":998901234533}`), given, ""},
		{card(pan, "3012", "0", fine, `{"state":"on","phone":"+998901234533"}`), given, ""},
		{card("9860140000000020", "3012", "0", fine, on), unknown, ""},
		{card("986014******0012", "3012", "0", fine, on), unknown, ""},
		{card(pan, "3011", "0", fine, on), refused, payment.WrongExpiry},
		{card(pan, "", "0", fine, on), unknown, ""},
		{card(pan, "12/30", "0", fine, on), unknown, ""},
		{card(pan, "30123", "0", fine, on), unknown, ""},
		{card(pan, "3o12", "0", fine, on), unknown, ""},
		{card(pan, "3012", "3", fine, on), refused, payment.CardBlocked},
		{card(pan, "3012", "4", fine, on), refused, payment.CardBlocked},
		{card(pan, "3012", "null", fine, on), unknown, ""},
		{card(pan, "3012", "0", `[]`, on), unknown, ""},
		{card(pan, "3012", "0", `[{"actionCode":""}]`, on), unknown, ""},
		{card(pan, "3012", "0", `[{"actionCode":"OK"}]`, on), unknown, ""},
		{card(pan, "3012", "0", `[{"actionCode":"208"}]`, on), refused, payment.CardBlocked},
		{card(pan, "3012", "0", fine, `{"state":"off","phone":"`+phone+`"}`), refused, payment.NoSMS},
		{card(pan, "3012", "0", fine, `{"state":"no-phone","phone":""}`), refused, payment.NoSMS},
		{card(pan, "3012", "0", fine, `{"state":"ON","phone":"`+phone+`"}`), refused, payment.NoSMS},
		{card(pan, "3012", "0", fine, `{"state":"on","phone":""}`), refused, payment.NoSMS},
		{card(pan, "3012", "0", fine, `{"state":"on","phone":"9989\" 01"}`), refused, payment.NoSMS},
		{card(pan, "3012", "0", fine, `{}`), unknown, ""},
		{card(pan, "3012", "0", fine, `null`), unknown, ""},
		{result(`{}`), unknown, ""},
		{result(`null`), unknown, ""},
		{result(`[]`), unknown, ""},
		{usable + usable, unknown, ""},
		{usable[:len(usable)/2], unknown, ""},
		{`{"id":$ID,"error":{"message":"?"}}`, unknown, ""},
		{`{"id":$ID,"error":{"code":"118","message":"?"}}`, refused, payment.CardUnknown},
		{"{\"id\":$ID,\"error\":{\"code\":118,\"message\":\"\xcd\xe5\xf2\"}}", refused, payment.CardUnknown},
		{`<xml/>`, unknown, ""},
	} {
		sent := 0
		cfg := configured(roundTripper(func(path string, request []byte) (int, []byte, error) {
			if methodOf(path, request) == "sms.send" {
				sent++
			}
			return canned(map[string]string{"humo.card": test.answer, "sms.send": smsSent})(path, request)
		}))
		a := connector(t, cfg).Ask(t.Context(), question(payment.OpChallenge, payment.Send))
		if a.Outcome != test.outcome || a.Reason != test.reason {
			t.Errorf("%s:\n%+v, want %s %s", test.answer, a, test.outcome, test.reason)
		}
		if (sent > 0) != (test.outcome == given) || sent > 1 {
			t.Errorf("%s: %d messages", test.answer, sent)
		}
	}
	// The month is Tashkent's: the card is good until its last day there ends.
	for _, test := range []struct {
		now  time.Time
		good bool
	}{
		{time.Date(2030, 12, 31, 18, 59, 59, 0, time.UTC), true},
		{time.Date(2030, 12, 31, 19, 0, 0, 0, time.UTC), false},
	} {
		cfg := configured(canned(map[string]string{"humo.card": usable, "sms.send": smsSent}))
		cfg.Now = func() time.Time { return test.now }
		a := connector(t, cfg).Ask(t.Context(), question(payment.OpChallenge, payment.Send))
		if test.good && a.Outcome != given || !test.good && (a.Outcome != refused || a.Reason != payment.CardExpired) {
			t.Errorf("%v: %+v", test.now, a)
		}
	}
	// A phone has 9 to 15 digits, and whoever sees the payment sees the last two.
	for number, mask := range map[string]string{
		phone: "+998** *****33", "+" + phone: "+998** *****33", "79161234512": "+*********12", "996312345678": "+**********78", "99890123453": "+*********53",
		"901234533": "+*******33", "123456789012345": "+*************45", "90123453": "", "1234567890123456": "", "99890123453x": "",
	} {
		cfg := configured(canned(map[string]string{"humo.card": card(pan, "3012", "0", fine, `{"state":"on","phone":"`+number+`"}`), "sms.send": smsSent}))
		a := connector(t, cfg).Ask(t.Context(), question(payment.OpChallenge, payment.Send))
		if mask != "" && a.Outcome != given || mask == "" && (a.Outcome != refused || a.Reason != payment.NoSMS) || a.Phone != mask {
			t.Errorf("%s: %+v, want %s", number, a, mask)
		}
		cfg.HTTP.Transport = roundTripper(func(path string, request []byte) (int, []byte, error) {
			if methodOf(path, request) == "sms.send" {
				return 0, nil, errors.New("no way to " + strings.TrimPrefix(number, "+"))
			}
			return canned(map[string]string{"humo.card": card(pan, "3012", "0", fine, `{"state":"on","phone":"`+number+`"}`)})(path, request)
		})
		if a := connector(t, cfg).Ask(t.Context(), question(payment.OpChallenge, payment.Send)); strings.Contains(a.Cause, strings.TrimPrefix(number, "+")) {
			t.Errorf("%s shows: %s", number, a.Cause)
		}
	}
	// What is typed wrong is refused without a call.
	for _, typed := range []payment.Card{{}, {Number: pan}, {Number: pan[1:], Expiry: "3012"}, {Number: pan, Expiry: "3013"}, {Number: pan, Expiry: "3000"}, {Number: pan, Expiry: "30123"}, {Number: pan, Expiry: "3x12"}, {Number: pan[:15] + "x", Expiry: "3012"}, {Number: pan, Expiry: "1230"[:3]}, {Number: "９860140000000016", Expiry: "3012"}} {
		c := connector(t, configured(roundTripper(func(path string, b []byte) (int, []byte, error) {
			t.Errorf("sent %s", b)
			return 0, nil, errors.New("no")
		})))
		q := question(payment.OpChallenge, payment.Send)
		q.Card = typed
		if a := c.Ask(t.Context(), q); a.Outcome != refused || a.Reason != payment.CardUnknown && a.Reason != payment.WrongExpiry {
			t.Errorf("%+v", a)
		}
	}
}

// TestSMS: what the provider must say, and what the payer reads.
func TestSMS(t *testing.T) {
	const given, refused, unknown = payment.ChallengeGiven, payment.Refused, payment.Unknown
	for _, test := range []struct {
		status  int
		answer  string
		outcome payment.Outcome
		reason  payment.Reason
	}{
		{200, smsSent, given, ""},
		{200, `{"messageId":17,"status":"sent","parts":2}`, given, ""},
		{200, `{"messageId":"1","status":"rejected"}`, unknown, ""},
		{200, `{"status":"sent"}`, unknown, ""},
		{200, `{}`, unknown, ""},
		{200, `[]`, unknown, ""},
		{200, ``, unknown, ""},
		{200, `<html>`, unknown, ""},
		{200, smsSent + smsSent, unknown, ""},
		{202, smsSent, unknown, ""},
		{302, smsSent, unknown, ""},
		{400, `{"error":{"code":1}}`, refused, payment.Unavailable},
		{403, ``, refused, payment.Unavailable},
		{429, ``, refused, payment.Unavailable},
		{401, ``, unknown, ""}, // of somebody
		{408, ``, unknown, ""},
		{500, smsSent, unknown, ""},
		{502, `<html>`, unknown, ""},
	} {
		c := connector(t, configured(roundTripper(func(path string, request []byte) (int, []byte, error) {
			if methodOf(path, request) == "sms.send" {
				return test.status, []byte(test.answer), nil
			}
			return canned(map[string]string{"humo.card": usable})(path, request)
		})))
		if a := c.Ask(t.Context(), question(payment.OpChallenge, payment.Send)); a.Outcome != test.outcome || a.Reason != test.reason {
			t.Errorf("%d %s: %+v, want %s %s", test.status, test.answer, a, test.outcome, test.reason)
		}
	}
	for err, want := range map[error]payment.Outcome{&net.OpError{Op: "dial", Err: errors.New("refused")}: refused, &net.OpError{Op: "read", Err: errors.New("reset")}: unknown} {
		c := connector(t, configured(roundTripper(func(path string, request []byte) (int, []byte, error) {
			if methodOf(path, request) == "sms.send" {
				return 0, nil, err
			}
			return canned(map[string]string{"humo.card": usable})(path, request)
		})))
		if a := c.Ask(t.Context(), question(payment.OpChallenge, payment.Send)); a.Outcome != want || want == refused && a.Reason != payment.Unavailable {
			t.Errorf("%v: %+v, want %s", err, a, want)
		}
	}
	for language, want := range map[string]string{
		"uz": "so'm to'lov uchun kod", "oz": "сўм тўлов учун код", "ru": "код для оплаты", "en": "is your code to pay", "": "is your code to pay",
	} {
		var sms struct{ Phone, Text string }
		c := connector(t, configured(roundTripper(func(path string, request []byte) (int, []byte, error) {
			if methodOf(path, request) == "sms.send" {
				if err := json.Unmarshal(request, &sms); err != nil {
					t.Error(err)
				}
			}
			return canned(map[string]string{"humo.card": usable, "sms.send": smsSent})(path, request)
		})))
		q := question(payment.OpChallenge, payment.Send)
		q.Language, q.Operation.Amount = language, money.New(12_345_678_901_200, money.UZS)
		a := c.Ask(t.Context(), q)
		one := 160
		if language == "oz" || language == "ru" {
			one = 70
		}
		if a.Outcome != given || sms.Phone != phone || !strings.Contains(sms.Text, want) || !strings.Contains(sms.Text, "123456789012.00") ||
			!regexp.MustCompile(`^\d{6}\D`).MatchString(sms.Text) || len([]rune(sms.Text)) > one {
			t.Errorf("%q: %+v, %+v", language, sms, a)
		}
	}
}

// TestOurCode: codes differ, the right one and no other passes, and nobody without the key can tell which
// it is.
func TestOurCode(t *testing.T) {
	var sent string
	cfg := configured(roundTripper(func(path string, request []byte) (int, []byte, error) {
		if m := ourCode.FindSubmatch(request); m != nil {
			sent = string(m[1])
		}
		return canned(map[string]string{"humo.card": usable, "sms.send": smsSent})(path, request)
	}))
	c := connector(t, cfg)
	seen := map[string]bool{}
	for range 200 {
		a := c.Ask(t.Context(), question(payment.OpChallenge, payment.Send))
		if a.Outcome != payment.ChallengeGiven {
			t.Fatalf("%+v", a)
		}
		seen[sent] = true
		if a.CentreID != codeName(ref, sent, codeKey) {
			t.Fatalf("%s for %s", a.CentreID, sent)
		}
		if strings.Contains(a.CentreID, ":"+sent) {
			t.Errorf("%s shows %s", a.CentreID, sent)
		}
	}
	if len(seen) < 190 {
		t.Errorf("%d codes of 200", len(seen))
	}

	a := c.Ask(t.Context(), question(payment.OpChallenge, payment.Send))
	// Who has the store but not the key tries every code under every hash he can think of, in vain.
	stolen := a.CentreID[strings.LastIndex(a.CentreID, ":")+1:]
	hash, err := hex.DecodeString(stolen)
	if err != nil {
		t.Fatal(err)
	}
	guess := []byte(ref + ":000000")
	for range 1_000_000 {
		if plain := sha256.Sum256(guess); bytes.Equal(plain[:], hash) {
			t.Fatal("the hash is not keyed")
		}
		for i := len(guess) - 1; ; i-- { // the next number
			if guess[i] != '9' || guess[i-1] == ':' {
				guess[i]++
				break
			}
			guess[i] = '0'
		}
	}
	if codeName(ref, sent, "another key of the codes, of 32 bytes") == a.CentreID {
		t.Error("the key does not matter")
	}

	other := fmt.Sprintf("%06d", (atoi(t, sent)+1)%1_000_000)
	for _, test := range []struct {
		name     string
		centreID string
		code     string
		expires  time.Time
		reason   payment.Reason // empty: approved
	}{
		{"right", a.CentreID, sent, sentAt.Add(time.Hour), ""},
		{"right, no time known", a.CentreID, sent, time.Time{}, ""},
		{"wrong", a.CentreID, other, sentAt.Add(time.Hour), payment.WrongCode},
		{"late", a.CentreID, sent, sentAt.Add(10 * time.Minute), payment.CodeExpired},
		{"too short", a.CentreID, sent[:5], sentAt.Add(time.Hour), payment.WrongCode},
		{"too long", a.CentreID, sent + "0", sentAt.Add(time.Hour), payment.WrongCode},
		{"spaces", a.CentreID, " " + sent[:5], sentAt.Add(time.Hour), payment.WrongCode},
		{"another challenge's", codeName(ref+"_9", sent, codeKey), sent, time.Time{}, ""},
		{"another challenge's name", strings.Replace(a.CentreID, ref, ref+"_9", 1), sent, time.Time{}, payment.WrongCode},
		{"another key", codeName(ref, sent, "another key of the codes, of 32 bytes"), sent, time.Time{}, payment.WrongCode},
		{"cut", a.CentreID[:len(a.CentreID)-1], sent, time.Time{}, payment.WrongCode},
		{"no hash", "gateway:" + ref + ":", sent, time.Time{}, payment.WrongCode},
		{"no name", "gateway:", sent, time.Time{}, payment.CodeExpired},
		{"nothing", "", sent, time.Time{}, payment.CodeExpired},
		{"upper case", strings.ToUpper(a.CentreID), sent, time.Time{}, payment.CodeExpired},
		{"something else", "271828", sent, time.Time{}, payment.CodeExpired},
	} {
		q := question(payment.OpVerify, payment.Send)
		q.Attempt.Challenge = &payment.Challenge{CentreID: test.centreID, ExpiresAt: test.expires}
		q.Code = payment.OTP(test.code)
		got := c.Ask(t.Context(), q)
		want := payment.Refused
		if test.reason == "" {
			want = payment.Approved
		}
		if got.Outcome != want || got.Reason != test.reason {
			t.Errorf("%s: %+v, want %s %s", test.name, got, want, test.reason)
		}
	}
	q := question(payment.OpVerify, payment.Send)
	q.Attempt.Challenge = nil
	if got := c.Ask(t.Context(), q); got.Reason != payment.CodeExpired {
		t.Errorf("no challenge: %+v", got)
	}

	// A gateway that has been told meanwhile to let the centre send the codes still knows its own.
	cfg.OTP, cfg.SMSURL = humo.Centre, ""
	q = question(payment.OpVerify, payment.Send)
	q.Attempt.Challenge, q.Code = &payment.Challenge{CentreID: a.CentreID}, payment.OTP(sent)
	if got := connector(t, cfg).Ask(t.Context(), q); got.Outcome != payment.Approved {
		t.Errorf("%+v", got)
	}
	cfg.CodeKey = ""
	if got := connector(t, cfg).Ask(t.Context(), q); got.Outcome != payment.Refused || got.Reason != payment.CodeExpired {
		t.Errorf("without the key: %+v", got)
	}
}

func atoi(t *testing.T, s string) (n int) {
	t.Helper()
	if _, err := fmt.Sscanf(s, "%d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCentresCode: a code that the centre sends and checks.
func TestCentresCode(t *testing.T) {
	const given, refused, unknown, ok = payment.ChallengeGiven, payment.Refused, payment.Unknown, payment.Approved
	for _, test := range []struct {
		kind    payment.Kind
		answer  string
		outcome payment.Outcome
		reason  payment.Reason
	}{
		{payment.OpChallenge, result(`{"otpId":271828,"phoneMask":"99890*****33","lifetimeSeconds":180}`), given, ""},
		{payment.OpChallenge, result(`{"otpId":"271828"}`), given, ""},
		{payment.OpChallenge, result(`{"otpId":0}`), unknown, ""},
		{payment.OpChallenge, result(`{"otpId":"a:b"}`), unknown, ""},
		{payment.OpChallenge, result(`{}`), unknown, ""},
		{payment.OpChallenge, result(`true`), unknown, ""},
		{payment.OpVerify, result(`{"verified":true}`), ok, ""},
		{payment.OpVerify, result(`{"verified":false}`), refused, payment.WrongCode},
		{payment.OpVerify, result(`{"verified":"true"}`), unknown, ""},
		{payment.OpVerify, result(`{}`), unknown, ""},
		{payment.OpVerify, result(`true`), unknown, ""},
		{payment.OpVerify, `{"id":99,"result":{"verified":true}}`, unknown, ""},
		{payment.OpVerify, `{"result":{"verified":true}}`, unknown, ""},
		{payment.OpVerify, `{"id":$ID,"result":{"verified":true},"error":{"code":601,"message":"wrong"}}`, refused, payment.WrongCode},
		{payment.OpVerify, result(`{"verified":true,"verified":true}`), unknown, ""},
	} {
		cfg := configured(canned(map[string]string{"humo.card": usable, "humo.otp": test.answer}))
		cfg.OTP, cfg.CodeKey, cfg.SMSURL = humo.Centre, "", ""
		a := connector(t, cfg).Ask(t.Context(), question(test.kind, payment.Send))
		if a.Outcome != test.outcome || a.Reason != test.reason {
			t.Errorf("%s: %+v, want %s %s", test.answer, a, test.outcome, test.reason)
		}
		if a.Outcome == given && (a.CentreID != "pc:271828" || a.Phone != "+998** *****33" || a.Centre.Sealed == "" || a.CodeLives != 3*time.Minute && a.CodeLives != 5*time.Minute) {
			t.Errorf("%s: %+v", test.answer, a)
		}
	}
	// An answer of another status is none.
	for _, status := range []int{201, 302, 403, 500} {
		c := connector(t, configured(roundTripper(func(path string, request []byte) (int, []byte, error) {
			_, answer, err := canned(map[string]string{"humo.card": usable, "humo.otp": result(`{"verified":true}`)})(path, request)
			return status, answer, err
		})))
		for _, kind := range []payment.Kind{payment.OpChallenge, payment.OpVerify} {
			if a := c.Ask(t.Context(), question(kind, payment.Send)); a.Outcome != unknown {
				t.Errorf("HTTP %d to a %s: %+v", status, kind, a)
			}
		}
	}
	// A life that nobody can mean is not believed.
	for said, want := range map[string]time.Duration{
		"180": 3 * time.Minute, `"1"`: time.Second, "3600": time.Hour, "3601": 5 * time.Minute, "0": 5 * time.Minute, "-1": 5 * time.Minute, `"soon"`: 5 * time.Minute, "null": 5 * time.Minute,
	} {
		cfg := configured(canned(map[string]string{"humo.card": usable, "humo.otp": result(`{"otpId":271828,"lifetimeSeconds":` + said + `}`)}))
		cfg.OTP, cfg.CodeKey, cfg.SMSURL = humo.Centre, "", ""
		if a := connector(t, cfg).Ask(t.Context(), question(payment.OpChallenge, payment.Send)); a.Outcome != given || a.CodeLives != want {
			t.Errorf("%s: %+v, want %v", said, a, want)
		}
	}
}

// TestSealed: the card opens with the vault, in its own payment, and not otherwise; and without it no
// money is asked for.
func TestSealed(t *testing.T) {
	c := connector(t, configured(canned(map[string]string{"humo.card": usable, "sms.send": smsSent})))
	a := c.Ask(t.Context(), question(payment.OpChallenge, payment.Send))
	sealed, err := base64.StdEncoding.DecodeString(a.Centre.Sealed)
	if err != nil || bytes.Contains(sealed, []byte(pan)) || bytes.Contains(sealed, []byte("3012")) {
		t.Fatalf("%v", err)
	}
	if open, err := vault.unseal(sealed); err != nil || !strings.HasPrefix(string(open), pan+" 3012 ") {
		t.Errorf("%s, %v", open, err)
	}
	if _, err := newSafe("another vault's key, 32 bytes...").unseal(sealed); err == nil {
		t.Error("another vault opens it")
	}
	if again := c.Ask(t.Context(), question(payment.OpChallenge, payment.Send)); again.Centre.Sealed == a.Centre.Sealed {
		t.Error("the same card looks the same when sealed again")
	}

	// A refusal gives no card away, not even a sealed one.
	for name, answers := range map[string]map[string]string{
		"card": {"humo.card": card(pan, "3012", "3", fine, on)}, "sms": {"humo.card": usable, "sms.send": "?"},
	} {
		if a := connector(t, configured(canned(answers))).Ask(t.Context(), question(payment.OpChallenge, payment.Send)); a.Centre != (payment.Centre{}) {
			t.Errorf("%s: %+v", name, a)
		}
	}
	cfg := configured(canned(map[string]string{"humo.card": usable, "sms.send": "a message must not be sent"}))
	cfg.Seal = func([]byte) ([]byte, error) { return nil, errors.New("the vault is shut over " + pan) }
	if a := connector(t, cfg).Ask(t.Context(), question(payment.OpChallenge, payment.Send)); a.Outcome != payment.Refused || a.Reason != payment.Misconfigured || strings.Contains(a.Cause, pan) {
		t.Errorf("%+v", a)
	}

	var sent struct {
		Language string   `xml:"Body>Payment>language"`
		Names    []string `xml:"Body>Payment>details>item>name"`
		Values   []string `xml:"Body>Payment>details>item>value"`
	}
	c = connector(t, configured(roundTripper(func(_ string, request []byte) (int, []byte, error) {
		sent.Names, sent.Values, sent.Language = nil, nil, ""
		return 200, []byte(made("4", "100000", "")), xml.Unmarshal(request, &sent)
	})))
	q := question(payment.OpHold, payment.Send)
	q.Card = payment.Card{} // the core has it no more
	q.Attempt.Centre.Sealed = a.Centre.Sealed
	if a := c.Ask(t.Context(), q); a.Outcome != payment.Approved || a.Centre.Sealed != "" {
		t.Errorf("%+v", a)
	}
	if i := slices.Index(sent.Names, "pan"); i < 0 || sent.Values[i] != pan {
		t.Errorf("%+v", sent)
	}
	if i := slices.Index(sent.Names, "expiry"); i < 0 || sent.Values[i] != "3012" {
		t.Errorf("%+v", sent)
	}

	for language, want := range map[string]string{"uz": "uz", "oz": "uz", "ru": "ru", "en": "en", "": "en"} {
		q.Language = language
		if a := c.Ask(t.Context(), q); a.Outcome != payment.Approved || sent.Language != want {
			t.Errorf("%q: %q, %+v", language, sent.Language, a)
		}
	}

	c = connector(t, configured(roundTripper(func(_ string, b []byte) (int, []byte, error) {
		t.Errorf("sent %s", b)
		return 0, nil, errors.New("no")
	})))
	otherVault, err := newSafe("another vault's key, 32 bytes...").seal([]byte(pan + " 3012 " + paid.String()))
	if err != nil {
		t.Fatal(err)
	}
	for name, sealed := range map[string]string{
		"nothing": "", "open": pan, "not base64": "*", "another payment's": sealedAs(pan, "3012", payment.ID{15: 8}),
		"another vault's": base64.StdEncoding.EncodeToString(otherVault), "half": a.Centre.Sealed[:len(a.Centre.Sealed)/2/4*4],
	} {
		for _, kind := range []payment.Kind{payment.OpHold, payment.OpCharge} {
			q := question(kind, payment.Send)
			q.Attempt.Centre.Sealed = sealed
			got := c.Ask(t.Context(), q)
			if got.Outcome != payment.Refused || got.Reason != payment.Misconfigured && got.Reason != payment.Unsupported {
				t.Errorf("%s: %+v", name, got)
			}
		}
	}
}

// TestNothingSent: what cannot be asked of Humo is refused without a call, and without believing that an
// earlier call was not made.
func TestNothingSent(t *testing.T) {
	c := connector(t, configured(roundTripper(func(_ string, b []byte) (int, []byte, error) {
		t.Errorf("sent %s", b)
		return 0, nil, errors.New("no")
	})))
	for _, kind := range moving {
		for _, ask := range []payment.Ask{payment.Continue, ""} {
			if a := c.Ask(t.Context(), question(kind, ask)); a.Outcome != payment.Unknown {
				t.Errorf("%s %s: %+v", ask, kind, a)
			}
		}
	}
	for _, kind := range resting {
		if a := c.Ask(t.Context(), question(kind, payment.Query)); a.Outcome != payment.Unknown {
			t.Errorf("query %s: %+v", kind, a)
		}
	}
	for name, spoil := range map[string]func(*processor.Question){
		"dollars":           func(q *processor.Question) { q.Operation.Amount = money.New(1, money.USD) },
		"nothing":           func(q *processor.Question) { q.Operation.Amount = money.New(0, money.UZS) },
		"less":              func(q *processor.Question) { q.Operation.Amount = money.New(-1, money.UZS) },
		"no reference":      func(q *processor.Question) { q.Operation.Ref = "" },
		"long reference":    func(q *processor.Question) { q.Operation.Ref = strings.Repeat("1", 65) },
		"another reference": func(q *processor.Question) { q.Operation.Ref = "1<2" },
		"no kind":           func(q *processor.Question) { q.Operation.Kind = "salute" },
		"nothing known":     func(q *processor.Question) { q.Attempt.Centre = payment.Centre{} },
	} {
		for _, kind := range moving {
			for _, asks := range []int{1, 2} {
				q := question(kind, payment.Send)
				q.Operation.Asks = asks
				spoil(&q)
				a := c.Ask(t.Context(), q)
				want := payment.Refused
				if asks == 2 && q.Operation.Kind.MovesMoney() {
					want = payment.Unknown
				}
				if a.Outcome != want || want == payment.Refused && a.Reason != payment.Unsupported {
					t.Errorf("%s, %s, asked %d times: %+v, want %s", name, kind, asks, a, want)
				}
				if name == "nothing known" && (kind == payment.OpHold || kind == payment.OpCharge) {
					continue // these are asked for by our reference
				}
				q.Operation.Ask = payment.Query
				if a := c.Ask(t.Context(), q); a.Outcome != payment.Unknown {
					t.Errorf("%s, query %s: %+v", name, kind, a)
				}
			}
		}
	}
	for _, until := range []time.Time{{}, sentAt, sentAt.Add(-time.Hour), sentAt.Add(30*24*time.Hour - time.Hour + time.Second)} {
		q := question(payment.OpHold, payment.Send)
		q.HoldUntil = until
		if a := c.Ask(t.Context(), q); a.Outcome != payment.Refused || a.Reason != payment.Unsupported {
			t.Errorf("until %v: %+v", until, a)
		}
	}
	for name, test := range map[string]struct {
		reason payment.Reason
		spoil  func(*processor.Question)
	}{
		"no challenge":  {payment.CodeExpired, func(q *processor.Question) { q.Attempt.Challenge = nil }},
		"no name of it": {payment.CodeExpired, func(q *processor.Question) { q.Attempt.Challenge.CentreID = "" }},
		"nobody's":      {payment.CodeExpired, func(q *processor.Question) { q.Attempt.Challenge.CentreID = "271828" }},
		"of nothing":    {payment.CodeExpired, func(q *processor.Question) { q.Attempt.Challenge.CentreID = "gateway::00" }},
		"half":          {payment.CodeExpired, func(q *processor.Question) { q.Attempt.Challenge.CentreID = "gateway:" + ref }},
		"short code":    {payment.WrongCode, func(q *processor.Question) { q.Code = "40251" }},
		"long code":     {payment.WrongCode, func(q *processor.Question) { q.Code = code + "1" }},
		"no code":       {payment.WrongCode, func(q *processor.Question) { q.Code = "40251x" }},
	} {
		q := question(payment.OpVerify, payment.Send)
		test.spoil(&q)
		if a := c.Ask(t.Context(), q); a.Outcome != payment.Refused || a.Reason != test.reason {
			t.Errorf("%s: %+v, want %s", name, a, test.reason)
		}
	}
	processortest.GivenUp(t, c, question(payment.OpCapture, payment.Send))
}

// TestEscaped: values from outside stay values.
func TestEscaped(t *testing.T) {
	const odd = `</centre_id>&<"'`
	cfg := configured(roundTripper(func(_ string, request []byte) (int, []byte, error) {
		var sent struct {
			Values     []string `xml:"Body>Payment>details>item>value"`
			Originator string   `xml:"Body>Payment>paymentOriginator"`
		}
		if err := xml.Unmarshal(request, &sent); err != nil || !slices.Contains(sent.Values, odd) || sent.Originator != "sh<o>p&" {
			t.Errorf("%s: %v", request, err)
		}
		return 200, []byte(made("4", "100000", "")), nil
	}))
	cfg.CentreID, cfg.Login = odd, "sh<o>p&"
	if a := connector(t, cfg).Ask(t.Context(), question(payment.OpHold, payment.Send)); a.Outcome != payment.Approved {
		t.Errorf("%+v", a)
	}
}

// TestFacts: what is stored of an answer cannot be a card number, whatever the centre writes there.
func TestFacts(t *testing.T) {
	for _, test := range []struct {
		more                    string
		rrn, approval, terminal string
	}{
		{item("auth_ref_number", "010967385013") + item("auth_appr_code", "38501A") + item("terminal_id", "236X0001"), "010967385013", "38501A", "236X0001"},
		{item("auth_ref_number", pan) + item("auth_appr_code", pan) + item("terminal_id", pan), "", "", "2360000X"},
		{item("auth_ref_number", "1 2") + item("auth_appr_code", "<![CDATA[<x>]]>"), "", "", "2360000X"},
		{"", "", "", "2360000X"},
	} {
		a := connector(t, configured(canned(map[string]string{"*": made("4", "100000", test.more)}))).Ask(t.Context(), question(payment.OpHold, payment.Send))
		want := payment.Centre{Hold: hold, RRN: test.rrn, Approval: test.approval, Terminal: test.terminal}
		if a.Outcome != payment.Approved || a.Centre != want {
			t.Errorf("%s: %+v, want %+v", test.more, a, want)
		}
	}
}

// TestHTTP is what lies below XML.
func TestHTTP(t *testing.T) {
	var calls atomic.Int32
	var serve atomic.Value // http.HandlerFunc
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		serve.Load().(http.HandlerFunc)(w, r)
	}))
	defer server.Close()
	cfg := configured(nil)
	cfg.Endpoint, cfg.HTTP, cfg.Answer = server.URL, nil, time.Minute // a loaded machine may need some of it
	c := connector(t, cfg)
	ok := []byte(made("10", "100000", ""))
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status); io.WriteString(w, body) }
	}
	for _, test := range []struct {
		name    string
		serve   http.HandlerFunc
		outcome payment.Outcome
		reason  payment.Reason
	}{
		{"good", func(w http.ResponseWriter, r *http.Request) {
			user, password, _ := r.BasicAuth()
			if user != "shop" || password != "hunter2-of-the-shop" || r.Header.Get("Content-Type") != "text/xml; charset=utf-8" || r.Header.Get("SOAPAction") != `""` {
				t.Errorf("%v", r.Header)
			}
			w.Write(ok)
		}, payment.Approved, ""},
		{"chunked", func(w http.ResponseWriter, r *http.Request) {
			for _, b := range ok {
				w.Write([]byte{b})
				w.(http.Flusher).Flush()
			}
		}, payment.Approved, ""},
		{"401 of the centre", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", `Basic realm="PaymentServer"`)
			w.WriteHeader(401)
		}, payment.Refused, payment.Misconfigured},
		{"401 of somebody", answer(401, ""), payment.Unknown, ""},
		{"403", answer(403, ""), payment.Unknown, ""},
		{"201", answer(201, string(ok)), payment.Unknown, ""},
		{"204", answer(204, ""), payment.Unknown, ""},
		{"307", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, payment.Unknown, ""},
		{"302", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, payment.Unknown, ""},
		{"400 with a Fault", answer(400, fault("116")), payment.Refused, payment.InsufficientFunds},
		{"200 with a Fault", answer(200, fault("116")), payment.Refused, payment.InsufficientFunds},
		{"500 with a Fault", answer(500, fault("116")), payment.Refused, payment.InsufficientFunds},
		{"500 with half a Fault", answer(500, fault("116")[:len(fault("116"))-10]), payment.Unknown, ""},
		{"500 with a payment", answer(500, string(ok)), payment.Unknown, ""},
		{"500", answer(500, ""), payment.Unknown, ""},
		{"502", answer(502, "<html><body>116</body></html>"), payment.Unknown, ""},
		{"gzip", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write([]byte("\x1f\x8b\x08\x00"))
		}, payment.Unknown, ""},
		{"2 MiB", func(w http.ResponseWriter, r *http.Request) {
			w.Write(append(bytes.Repeat([]byte{' '}, 2<<20), ok...))
		}, payment.Unknown, ""},
		{"no end", func(w http.ResponseWriter, r *http.Request) {
			for _, err := w.Write(ok); err == nil; {
				_, err = w.Write([]byte("                "))
			}
		}, payment.Unknown, ""},
		{"short", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(ok)+1))
			w.Write(ok)
		}, payment.Unknown, ""},
	} {
		serve.Store(test.serve)
		calls.Store(0)
		begun := time.Now()
		a := c.Ask(t.Context(), question(payment.OpCharge, payment.Send))
		if a.Outcome != test.outcome || a.Reason != test.reason {
			t.Errorf("%s: %+v, want %s %s", test.name, a, test.outcome, test.reason)
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("%s: %d calls", test.name, n)
		}
		if took := time.Since(begun); took > 4*time.Second {
			t.Errorf("%s took %v", test.name, took)
		}
		if strings.Contains(a.Cause, server.URL) || strings.Contains(a.Cause, "hunter2") {
			t.Errorf("%s: the cause is %q", test.name, a.Cause)
		}
	}

	serve.Store(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); <-r.Context().Done() }))
	if n := processortest.Silence(t, &calls, func(within time.Duration) payment.Answer {
		cfg.Answer = within
		return connector(t, cfg).Ask(t.Context(), question(payment.OpCharge, payment.Send))
	}, server.URL, "hunter2"); n != 1 {
		t.Errorf("silence: %d calls", n)
	}

	// A connection that dies while it is idle: net/http may try another one only if nothing was sent.
	serve.Store(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		calls.Add(100)
		w.Write(ok)
	}))
	for range 50 {
		calls.Store(0)
		server.CloseClientConnections()
		a := c.Ask(t.Context(), question(payment.OpCharge, payment.Send))
		if calls.Load() > 101 {
			t.Fatalf("sent %d times", calls.Load())
		}
		if a.Outcome != payment.Approved && a.Outcome != payment.Unknown {
			t.Errorf("%+v", a)
		}
	}
}

// TestUnreachable: only a connection that was never made proves that nothing was sent.
func TestUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	cfg := configured(nil)
	cfg.HTTP = nil
	cfg.Endpoint, cfg.MiddlewareURL, cfg.SMSURL = "http://"+address, "http://"+address, "http://"+address
	c := connector(t, cfg)
	for _, test := range []struct {
		kind    payment.Kind
		ask     payment.Ask
		asks    int
		outcome payment.Outcome
	}{
		{payment.OpChallenge, payment.Send, 1, payment.Refused}, {payment.OpVerify, payment.Send, 1, payment.Refused},
		{payment.OpHold, payment.Send, 1, payment.Refused}, {payment.OpRefund, payment.Send, 1, payment.Refused},
		{payment.OpCapture, payment.Send, 1, payment.Refused}, {payment.OpCapture, payment.Send, 3, payment.Unknown},
		{payment.OpRefund, payment.Send, 3, payment.Unknown},
		{payment.OpHold, payment.Query, 2, payment.Unknown}, {payment.OpCapture, payment.Query, 2, payment.Unknown},
	} {
		q := question(test.kind, test.ask)
		q.Operation.Asks = test.asks
		a := c.Ask(t.Context(), q)
		if a.Outcome != test.outcome || test.outcome == payment.Refused && a.Reason != payment.Unavailable {
			t.Errorf("%s %s: %+v, want %s", test.ask, test.kind, a, test.outcome)
		}
		if strings.Contains(a.Cause, address) {
			t.Errorf("the cause is %q", a.Cause)
		}
	}
}

// TestLog is one line for each question, with the stated things in it and nobody's secrets, although
// everybody repeats them.
func TestLog(t *testing.T) {
	var out bytes.Buffer
	var ours string
	loud := func(sms string) string {
		return strings.Join([]string{pan, pan[:4] + " " + pan[4:8] + " " + pan[8:12] + "-" + pan[12:], "3012", code, phone, sms,
			"hunter2-of-the-shop", "hunter2-of-the-middleware", "hunter2-of-the-sms", codeKey, "\n\u202e"}, ", ") // apart, lest one hides the next
	}
	transport := roundTripper(func(path string, request []byte) (int, []byte, error) {
		if m := ourCode.FindSubmatch(request); m != nil {
			ours = string(m[1])
			return 0, nil, errors.New("the provider says " + loud(ours))
		}
		var cause bytes.Buffer
		if err := xml.EscapeText(&cause, []byte(loud(""))); err != nil {
			t.Error(err)
		}
		quoted, err := json.Marshal(loud(""))
		if err != nil {
			t.Error(err)
		}
		return canned(map[string]string{
			"humo.card":   usable,
			"humo.otp":    `{"id":$ID,"error":{"code":601,"message":` + string(quoted) + `}}`,
			"humo.hold":   strings.ReplaceAll(fault("116"), "as told", cause.String()),
			"humo.charge": made("10", "100000", item("pan", pan)),
			"humo.get":    stands("7", "100000", item("pan", pan)),
		})(path, request)
	})
	cfg := configured(transport)
	cfg.Log = slog.New(slog.NewJSONHandler(&out, nil))
	c := connector(t, cfg)
	var said string
	for _, kind := range []payment.Kind{payment.OpChallenge, payment.OpVerify, payment.OpHold, payment.OpCharge} {
		a := c.Ask(t.Context(), question(kind, payment.Send))
		said += fmt.Sprintf("%+v\n", a)
	}
	said += fmt.Sprintf("%+v\n", c.Ask(t.Context(), question(payment.OpHold, payment.Query)))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 5 {
		t.Fatalf("%d lines:\n%s", len(lines), out.String())
	}
	var line struct {
		Processor, Method, Ref, Outcome string
		Took, Code                      *int64
	}
	if err := json.Unmarshal([]byte(lines[3]), &line); err != nil {
		t.Fatal(err)
	}
	if line.Processor != "humo" || line.Method != "Payment SOAP_SMS" || line.Ref != ref || line.Outcome != "approved" || line.Took == nil || line.Code == nil {
		t.Errorf("%s", lines[3])
	}
	if ours == "" {
		t.Fatal("no code was sent")
	}
	for _, secret := range []string{pan, pan[:8], pan[8:], pan[:4] + " " + pan[4:8], code, ours, phone, "hunter2", codeKey} {
		if strings.Contains(out.String()+said, secret) {
			t.Errorf("%q shows in\n%s%s", secret, out.String(), said)
		}
	}
	if strings.ContainsAny(said, "\x00\u202e") {
		t.Errorf("%q", said)
	}
	for _, dump := range []string{fmt.Sprint(cfg), fmt.Sprintf("%+v", cfg), fmt.Sprintf("%#v", cfg), fmt.Sprintf("%v %+v %#v %d", c, c, c, cfg.CodeKey)} {
		if strings.Contains(dump, "hunter2") || strings.Contains(dump, "Basic") || strings.Contains(dump, codeKey) {
			t.Errorf("a secret shows in %s", dump)
		}
	}
}

func TestNew(t *testing.T) {
	for name, spoil := range map[string]func(*humo.Config){
		"no endpoint":    func(c *humo.Config) { c.Endpoint = "" },
		"ftp":            func(c *humo.Config) { c.Endpoint = "ftp://centre.example/" },
		"credentials":    func(c *humo.Config) { c.Endpoint = "https://shop:hunter2@centre.example/" },
		"no URL":         func(c *humo.Config) { c.Endpoint = "https://hunter2@centre.example:port/" },
		"no middleware":  func(c *humo.Config) { c.MiddlewareURL = "" },
		"no provider":    func(c *humo.Config) { c.SMSURL = "" },
		"no login":       func(c *humo.Config) { c.Login = "" },
		"colon":          func(c *humo.Config) { c.Login = "a:b" },
		"no password":    func(c *humo.Config) { c.Password = "" },
		"merchant":       func(c *humo.Config) { c.MerchantID = "12345678901234567" },
		"terminal":       func(c *humo.Config) { c.TerminalID = "2360 0001" },
		"point":          func(c *humo.Config) { c.PointCode = strings.Repeat("1", 33) },
		"centre":         func(c *humo.Config) { c.CentreID = "" },
		"no token":       func(c *humo.Config) { c.MiddlewareToken = "" },
		"token":          func(c *humo.Config) { c.MiddlewareToken = "hunter2\r\nX: y" },
		"provider token": func(c *humo.Config) { c.SMSToken = "hunter2\n" },
		"mode":           func(c *humo.Config) { c.OTP = "ours" },
		"short key":      func(c *humo.Config) { c.CodeKey = "hunter2" },
		"no key":         func(c *humo.Config) { c.CodeKey = "" },
		"no vault":       func(c *humo.Config) { c.Unseal = nil },
		"answer":         func(c *humo.Config) { c.Answer = -1 },
		"shown":          func(c *humo.Config) { c.Shown = -1 },
		"no host":        func(c *humo.Config) { c.Endpoint = "https:///humo" },
		"hyphen":         func(c *humo.Config) { c.TerminalID = "2360-0001" },
		"long centre":    func(c *humo.Config) { c.CentreID = strings.Repeat("1", 33) },
		"half a vault":   func(c *humo.Config) { c.Seal = nil },
		"a key unused":   func(c *humo.Config) { c.OTP, c.CodeKey = humo.Centre, "hunter2" },
	} {
		cfg := configured(nil)
		spoil(&cfg)
		if c, err := humo.New(cfg); err == nil || c != nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := connector(t, configured(nil))
	caps := c.Capabilities()
	if c.Name() != "humo" || caps.Answer != 10*time.Second || caps.LongestHold != 719*time.Hour || !caps.PartialCapture || caps.PartialRefund || caps.SendsCode || caps.ThreeDS ||
		!caps.ReleasesRest || caps.SeveralCaptures || caps.HoldUnnamed || caps.Remembers != 720*time.Hour || len(caps.Currencies) != 1 {
		t.Errorf("%+v", caps)
	}
	for _, kind := range moving {
		if caps.Shown[kind] != 2*time.Minute {
			t.Errorf("%s is shown after %v", kind, caps.Shown[kind])
		}
	}
	cfg := configured(nil)
	cfg.OTP = humo.Centre
	if !connector(t, cfg).Capabilities().SendsCode {
		t.Error("the centre sends the code")
	}
}

// TestSecondCalls: the calls of a question that the exam leaves alone. A challenge asks for the card first:
// whatever goes wrong there, nobody is asked for a code.
func TestSecondCalls(t *testing.T) {
	faults := []string{
		"request_lost", "answer_lost", "reset", "fail_before", "fail_after_done", "http_502", "http_429", "system_error", "system_error_not_done",
		"error_code", "garbage", "truncated", "wrong_id", "wrong_amount", "not_found_once", "soap_fault", "wrong_namespace", "json_for_xml",
	}
	for _, otp := range []humo.Mode{humo.Gateway, humo.Centre} {
		c := newCentre(t, 10*time.Second, setup{otp: otp})
		add := func(method, name string) bool {
			f := sim.Fault{Method: method, Name: name}
			if name == "error_code" {
				f.Code = 907
			}
			return c.sim.AddFault(f) == nil
		}
		cards := c.cards("ok")
		ask := func(q processor.Question) payment.Answer { return c.connector.Ask(t.Context(), q) }
		n := 0
		fresh := func(kind payment.Kind) processor.Question {
			n++
			q := question(kind, payment.Send)
			q.Operation.Ref = fmt.Sprintf("%s_%d", ref, n)
			q.Attempt.Centre.Sealed = sealedAs(cards[1].Number, cards[1].Expiry, paid)
			q.Card = cards[1]
			return q
		}
		for _, method := range []string{"humo.card", "humo.otp", "sms.send"} {
			for _, name := range faults {
				if !add(method, name) {
					continue
				}
				a := ask(fresh(payment.OpChallenge))
				if len(c.sim.Faults()) > 0 { // a call that this mode does not make
					c.sim.ClearFaults()
					continue
				}
				if a.Outcome != payment.Unknown && (a.Outcome != payment.Refused || a.Reason != payment.Unavailable) || a.Centre.Sealed != "" {
					t.Errorf("%s of %s: %+v", name, method, a)
				}
			}
		}
	}
}

// TestGivenUp: a challenge that ends between its two calls.
func TestGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cfg := configured(roundTripper(func(path string, request []byte) (int, []byte, error) {
		if methodOf(path, request) == "sms.send" {
			return 0, nil, ctx.Err()
		}
		cancel()
		return canned(map[string]string{"humo.card": usable})(path, request)
	}))
	if a := connector(t, cfg).Ask(ctx, question(payment.OpChallenge, payment.Send)); a.Outcome != payment.Unknown || a.Centre.Sealed != "" {
		t.Errorf("%+v", a)
	}
}

// FuzzAnswer: whatever anybody says, the connector does not fall over, says why, and approves a movement of
// money only where the sum stands in the answer.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		made("4", "100000", ""), made("10", "100000", item("pan", pan)), stands("4", "100000", ""), stands("30", "100000", ""), fault("116"), fault("914"),
		soap(`<ebppif1:CancelRequestResponse/>`), soap(`<ebppif1:ReturnPaymentResponse/>`), usable, smsSent, result(`{"otpId":1}`), result(`{"verified":true}`), `<<<`, "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		for _, otp := range []humo.Mode{humo.Gateway, humo.Centre} {
			cfg := configured(canned(map[string]string{"*": answer}))
			cfg.OTP = otp
			c := connector(t, cfg)
			for _, ask := range []payment.Ask{payment.Send, payment.Query} {
				for _, kind := range slices.Concat(moving, resting) {
					a := c.Ask(t.Context(), question(kind, ask))
					if (a.Outcome == payment.Unknown || a.Outcome == payment.Refused) && a.Cause == "" {
						t.Errorf("%s %s: no cause", ask, kind)
					}
					takes := kind == payment.OpHold || kind == payment.OpCharge || kind == payment.OpCapture
					if takes && a.Outcome == payment.Approved && !strings.Contains(answer, "100000") && !strings.Contains(answer, "&#") && !strings.Contains(answer, "<!") {
						t.Errorf("%s %s approved by %q", ask, kind, answer)
					}
					if strings.Contains(a.Cause, pan) || strings.Contains(a.Cause, code) || len(a.Cause) > 400 {
						t.Errorf("%s %s: the cause is %q", ask, kind, a.Cause)
					}
					if strings.Contains(fmt.Sprintf("%+v", a.Centre), pan) {
						t.Errorf("%s %s: %+v", ask, kind, a.Centre)
					}
				}
			}
		}
	})
}

// BenchmarkAsk is the connector's own share of a payment's calls: no network, no centre.
func BenchmarkAsk(b *testing.B) {
	c := connector(b, configured(canned(map[string]string{
		"humo.card": usable, "sms.send": smsSent,
		"humo.hold":    made("4", "100000", item("auth_ref_number", "010967385013")+item("auth_appr_code", "385013")+item("pan", pan)),
		"humo.confirm": made("10", "100000", item("auth_ref_number", "010967385013")+item("auth_appr_code", "385013")+item("pan", pan)),
	})))
	for _, kind := range []payment.Kind{payment.OpChallenge, payment.OpVerify, payment.OpHold, payment.OpCapture} {
		b.Run(string(kind), func(b *testing.B) {
			q := question(kind, payment.Send)
			if kind == payment.OpVerify {
				q.Attempt.Challenge = &payment.Challenge{CentreID: codeName(ref, code, codeKey)}
			}
			b.ReportAllocs()
			for b.Loop() {
				if a := c.Ask(b.Context(), q); a.Outcome != payment.Approved && a.Outcome != payment.ChallengeGiven {
					b.Fatalf("%+v", a)
				}
			}
		})
	}
}
