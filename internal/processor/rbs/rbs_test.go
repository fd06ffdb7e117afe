package rbs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor"
	"holdfast/internal/processor/processortest"
	"holdfast/internal/processor/rbs"
)

var sentAt = time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)

const (
	pan     = "4000001111111118" // BPC's documented test card
	cvc     = "847"
	ref     = "1795426200000_5520"
	mdOrder = "01e9a6d2-8f3b-4c47-a5c1-7d0f5b2e9a10"
	transID = "7c3d1f52-0a4e-4b8b-9c66-2f1de0b7a3c4"
)

// roundTripper answers instead of a network.
type roundTripper func(call string, form url.Values) (status int, answer string, err error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	_, call, _ := strings.Cut(r.URL.Path, "/rest/")
	status, answer, err := f(call, form)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(answer)), Request: r}, nil
}

// canned answers each call with a text; "*" is for all others.
func canned(answers map[string]string) roundTripper {
	return func(call string, _ url.Values) (int, string, error) {
		answer, ok := answers[call]
		if !ok {
			answer = answers["*"]
		}
		return http.StatusOK, answer, nil
	}
}

// question asks about a payment of 1000.00 UZS with everything known that could be.
func question(kind payment.Kind, ask payment.Ask) processor.Question {
	q := processor.Question{
		Payment: payment.ID{1}, Shop: 17, ExpiresAt: sentAt.Add(time.Hour), HoldUntil: sentAt.Add(30 * time.Minute), Language: "ru",
		Operation: payment.Operation{
			Ref: ref, Kind: kind, Ask: ask, Amount: money.New(100_000, money.UZS), BegunAt: sentAt, SentAt: sentAt, Asks: 1,
		},
		Attempt: payment.Attempt{Centre: payment.Centre{Hold: mdOrder}, HoldFor: 1800},
	}
	switch {
	case ask == payment.Continue:
		q.Attempt.Challenge = &payment.Challenge{CentreID: transID, Step: payment.StepChallenge}
	case ask == payment.Send && (kind == payment.OpHold || kind == payment.OpCharge):
		q.Attempt.Centre = payment.Centre{}
		q.Card = payment.Card{Number: pan, Expiry: "3012", CVC: cvc, Holder: "NO NAME"}
	}
	return q
}

// at is the connector's clock, later than sentAt by so much.
func at(later time.Duration) func() time.Time {
	return func() time.Time { return sentAt.Add(later) }
}

func configured(transport http.RoundTripper) rbs.Config {
	return rbs.Config{
		Endpoint: "https://acquirer.example/payment/", Login: "shop-api", Password: "hunter2-of-the-shop",
		ReturnURL: page("return"), MethodNotificationURL: page("method"), Now: at(10 * time.Minute), HTTP: &http.Client{Transport: transport},
	}
}

func connector(t testing.TB, cfg rbs.Config) *rbs.Connector {
	t.Helper()
	c, err := rbs.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	registered = `{"orderId":"` + mdOrder + `","formUrl":"https://acquirer.example/pay"}`
	method     = `{"errorCode":0,"is3DSVer2":true,"threeDSServerTransId":"` + transID + `","threeDSMethodURL":"https://acs.example/method","threeDSMethodDataPacked":"eyJ9"}`
	challenge  = `{"errorCode":"0","is3DSVer2":true,"acsUrl":"https://acs.example/challenge","packedCReq":"eyJ9"}`
	redirect   = `{"redirect":"https://pay.example/","info":"...","errorCode":0}`
)

func failure(code int) string { return fmt.Sprintf(`{"errorCode":%d,"errorMessage":"as told"}`, code) }

// order writes a status of the question's order.
func order(status, action int, more string) string {
	return fmt.Sprintf(`{"errorCode":"0","errorMessage":"Success","orderNumber":"%s","orderStatus":%d,"actionCode":%d,"actionCodeDescription":"as told","amount":100000,`+
		`"currency":"860","attributes":[{"name":"mdOrder","value":"%s"}],"authRefNum":"010967385013","terminalId":"20260001",`+
		`"cardAuthInfo":{"approvalCode":"385013"}%s}`, ref, status, action, mdOrder, more)
}

// sums writes the block of an order's sums.
func sums(approved, deposited, refunded int) string {
	return fmt.Sprintf(`,"paymentAmountInfo":{"approvedAmount":%d,"depositedAmount":"%d","refundedAmount":%d}`, approved, deposited, refunded)
}

// gifts writes the list of an order's refunds.
func gifts(rows ...string) string { return `,"refunds":[` + strings.Join(rows, ",") + `]` }

func gift(id string, amount, action int) string {
	return fmt.Sprintf(`{"externalRefundId":"%s","amount":%d,"actionCode":%d,"referenceNumber":"010967385014"}`, id, amount, action)
}

var moving = []payment.Kind{payment.OpHold, payment.OpCharge, payment.OpCapture, payment.OpVoid, payment.OpRefund}

// TestActionCodes is docs/processors.md §3.2 and §3.4 written once more: why a declined order was declined.
func TestActionCodes(t *testing.T) {
	for _, class := range []struct {
		reason payment.Reason
		codes  []int
	}{
		{payment.CardRefused, []int{100, 103, 104, 107, 108, 119, 2003, 10, -100, 7, 999}},
		{payment.CardExpired, []int{101, 201}},
		{payment.Fraud, []int{102, 202, -2000, -2001}},
		{payment.CardBlocked, []int{106, 206, 125, 200, 204, 207, 208, 209}},
		{payment.Misconfigured, []int{109, 120, 110, 115, 904}},
		{payment.CardUnknown, []int{111, 118}},
		{payment.InsufficientFunds, []int{116}},
		{payment.WrongCVC, []int{117, 126}},
		{payment.CardLimit, []int{121, 123, -2002, -20010}},
		{payment.Unavailable, []int{907, 908, 909, 910, 911, 912, -1, -2200}},
		{payment.AuthenticationFailed, []int{-2007, -2022, -2023, -2024, -2025}},
	} {
		for _, code := range class.codes {
			declined := order(6, code, "")
			for _, test := range []struct {
				kind    payment.Kind
				ask     payment.Ask
				answers map[string]string
			}{
				{payment.OpHold, payment.Send, map[string]string{"registerPreAuth.do": registered, "paymentorder.do": redirect, "*": declined}},
				{payment.OpCharge, payment.Send, map[string]string{"register.do": registered, "paymentorder.do": failure(7), "*": declined}},
				{payment.OpHold, payment.Continue, map[string]string{"finish3dsVer2Payment.do": redirect, "*": declined}},
				{payment.OpCharge, payment.Continue, map[string]string{"finish3dsVer2Payment.do": redirect, "*": declined}},
				{payment.OpCharge, payment.Query, map[string]string{"*": declined}},
			} {
				a := connector(t, configured(canned(test.answers))).Ask(t.Context(), question(test.kind, test.ask))
				if a.Outcome != payment.Refused || a.Reason != class.reason || !strings.Contains(a.Cause, fmt.Sprint(code)) {
					t.Errorf("%d to %s %s: %+v, want %s", code, test.ask, test.kind, a, class.reason)
				}
			}
		}
	}
}

// TestErrorCodes: what a request answered with an error code leaves, while the order stands as before.
func TestErrorCodes(t *testing.T) {
	before := map[payment.Kind]string{
		payment.OpHold: order(0, -100, ""), payment.OpCharge: order(0, -100, ""),
		payment.OpCapture: order(1, 0, sums(100_000, 0, 0)), payment.OpVoid: order(1, 0, sums(100_000, 0, 0)),
		payment.OpRefund: order(2, 0, sums(100_000, 100_000, 0)),
	}
	calls := map[payment.Kind]string{
		payment.OpHold: "paymentorder.do", payment.OpCharge: "paymentorder.do", payment.OpCapture: "deposit.do", payment.OpVoid: "reverse.do",
		payment.OpRefund: "refund.do",
	}
	for _, test := range []struct {
		codes  []int
		reason payment.Reason // none: unknown
	}{
		{[]int{3, 4, 5, 6}, payment.Misconfigured},
		{[]int{1, 2, 7, 8, 10, 13, 999, -1}, ""},
	} {
		for _, code := range test.codes {
			for _, kind := range moving {
				for _, told := range []string{failure(code), fmt.Sprintf(`{"errorCode":"%d"}`, code)} {
					for _, asks := range []int{1, 2} {
						answers := map[string]string{"registerPreAuth.do": registered, "register.do": registered, calls[kind]: told, "*": before[kind]}
						q := question(kind, payment.Send)
						q.Operation.Asks = asks
						a := connector(t, configured(canned(answers))).Ask(t.Context(), q)
						want := payment.Refused
						if test.reason == "" || asks == 2 {
							want = payment.Unknown
						}
						if a.Outcome != want || want == payment.Refused && a.Reason != test.reason {
							t.Errorf("%s, answered %s, asked %d times: %+v, want %s %s", kind, told, asks, a, want, test.reason)
						}
						if !strings.Contains(a.Cause, fmt.Sprint(code)) {
							t.Errorf("%s, answered %s: the cause is %q", kind, told, a.Cause)
						}
					}
				}
			}
		}
	}
	// An order that was given no card cannot be paid, whatever became of its registration. An error of
	// a question proves nothing, unless it says that there is no such order.
	for _, kind := range []payment.Kind{payment.OpHold, payment.OpCharge} {
		for _, told := range []string{failure(7), failure(2), `{}`, `{"errorCode":0}`, `[]`, `null`, ``, `{"orderId":`, `<html>`} {
			a := connector(t, configured(canned(map[string]string{"*": told}))).Ask(t.Context(), question(kind, payment.Send))
			if a.Outcome != payment.Refused || a.Reason != payment.Unavailable {
				t.Errorf("%s, registered with %s: %+v", kind, told, a)
			}
		}
		for _, code := range []int{3, 4, 5, 6} { // the registration says what is wrong with it
			a := connector(t, configured(canned(map[string]string{"*": failure(code)}))).Ask(t.Context(), question(kind, payment.Send))
			if a.Outcome != payment.Refused || a.Reason != payment.Misconfigured {
				t.Errorf("%s, registered with error %d: %+v", kind, code, a)
			}
		}
		a := connector(t, configured(canned(map[string]string{"*": failure(1)}))).Ask(t.Context(), question(kind, payment.Send))
		if a.Outcome != payment.Unknown {
			t.Errorf("%s, registered twice: %+v", kind, a)
		}
	}
	for _, kind := range moving {
		for _, code := range []int{1, 2, 3, 4, 5, 6, 7, 999} {
			// An order that the gateway has named cannot be one that it never saw: it may be held there.
			for _, named := range []bool{false, true} {
				q := question(kind, payment.Query)
				if !named {
					q.Attempt.Centre = payment.Centre{}
				}
				a := connector(t, configured(canned(map[string]string{"*": failure(code)}))).Ask(t.Context(), q)
				want := payment.Unknown
				if code == 6 && !named && (kind == payment.OpHold || kind == payment.OpCharge) {
					want = payment.NeverSeen
				}
				if a.Outcome != want {
					t.Errorf("a question about %s (order named: %t), answered %d: %+v, want %s", kind, named, code, a, want)
				}
			}
		}
	}
}

// TestAnswers is what single answers prove, beyond what the simulator can say.
func TestAnswers(t *testing.T) {
	const hold, charge, capture, void, refund = payment.OpHold, payment.OpCharge, payment.OpCapture, payment.OpVoid, payment.OpRefund
	const ok, refused, unknown, unseen, given = payment.Approved, payment.Refused, payment.Unknown, payment.NeverSeen, payment.ChallengeGiven
	other := func(s, from, to string) string {
		if !strings.Contains(s, from) {
			t.Fatalf("%q is not in %s", from, s)
		}
		return strings.Replace(s, from, to, 1)
	}
	held, charged := order(1, 0, sums(100_000, 0, 0)), order(2, 0, sums(100_000, 100_000, 0))
	const mine = `{"name":"mdOrder","value":"` + mdOrder + `"}`
	mineBy := `"merchantOrderParams":[{"name":"payment","value":"` + payment.ID{1}.String() + `"}],`
	for _, test := range []struct {
		kind    payment.Kind
		answer  string
		outcome payment.Outcome
		reason  payment.Reason
	}{
		// Hold and charge: everything has to be right.
		{hold, held, ok, ""},
		{charge, charged, ok, ""},
		{hold, charged, unknown, ""},
		{charge, held, unknown, ""},
		{hold, other(held, `"errorCode":"0",`, ``), ok, ""},
		{hold, other(held, `"orderStatus":1`, `"orderStatus":"1"`), ok, ""},
		{hold, other(held, `"amount":100000`, `"amount":"100000"`), ok, ""},
		{hold, other(held, `"currency":"860"`, `"currency":860`), ok, ""},
		{hold, other(held, `"currency":"860"`, `"currency":"840"`), unknown, ""},
		{hold, other(held, `"currency":"860",`, ``), ok, ""},
		{hold, other(held, `"amount":100000`, `"amount":100100`), unknown, ""},
		{hold, other(held, `"amount":100000,`, ``), unknown, ""},
		{hold, other(held, `"approvedAmount":100000`, `"approvedAmount":50000`), unknown, ""}, // a partial authorisation
		{hold, other(held, `"approvedAmount":100000,`, ``), unknown, ""},
		{hold, order(1, 0, ""), unknown, ""},
		{hold, order(1, 0, `,"paymentAmountInfo":null`), unknown, ""},
		{hold, other(held, `"approvedAmount":100000`, `"approvedAmount":1000.00`), unknown, ""},
		{hold, other(held, ref, ref+"1"), unknown, ""},
		{hold, other(held, `"orderNumber":"`+ref+`",`, ``), unknown, ""},
		{hold, other(held, mdOrder, transID), unknown, ""},
		{hold, other(held, mine, ``), ok, ""}, // its name is known
		{hold, other(held, mine, `{"name":"another","value":"x"},`+mine), ok, ""},
		{hold, other(held, `"attributes":[`+mine+`]`, `"attributes":`+mine), ok, ""},
		{hold, other(held, `"attributes":[`+mine+`],`, `"merchantOrderParams":[{"name":"payment","value":"x"}],`), unknown, ""},
		{hold, other(held, `"orderStatus":1,`, ``), unknown, ""},
		{hold, other(held, `"orderStatus":1`, `"orderStatus":null`), unknown, ""},
		{hold, other(held, `"orderStatus":1`, `"orderStatus":1,"orderStatus":1`), unknown, ""},
		{hold, held + held, unknown, ""},
		{hold, `[` + held + `]`, unknown, ""},
		{hold, `{}`, unknown, ""},
		{hold, `null`, unknown, ""},
		{hold, ``, unknown, ""},
		{hold, strings.Repeat("[", 1<<20), unknown, ""},
		{hold, strings.Repeat(`{"orderNumber":`, 1<<16), unknown, ""},
		{hold, `{"errorCode":true}`, unknown, ""},
		{hold, `{"errorCode":"six"}`, unknown, ""},
		{hold, `{"errorCode":6}`, unknown, ""}, // it has named the order
		{hold, `{"errorCode":"6","errorMessage":"Заказ не найден"}`, unknown, ""},
		{hold, "{\"errorCode\":6,\"errorMessage\":\"\xc7\xe0\xea\xe0\xe7\"}", unknown, ""},
		{hold, order(0, -100, sums(0, 0, 0)), given, ""},
		{hold, order(5, -100, ""), given, ""},
		{hold, order(0, -2007, ""), refused, payment.AuthenticationFailed},
		{hold, order(5, -2007, ""), refused, payment.AuthenticationFailed},
		{hold, order(0, -1, ""), unknown, ""},
		{hold, order(0, -30001, ""), unknown, ""},
		{hold, order(7, -30001, ""), unknown, ""},
		{hold, order(7, -2007, ""), unknown, ""}, // the payer has done his part
		{hold, order(2, -2007, sums(100_000, 100_000, 0)), unknown, ""},
		{hold, order(7, 0, sums(100_000, 0, 0)), unknown, ""},
		{hold, order(3, 0, sums(0, 0, 0)), refused, payment.HoldGone},
		{charge, order(3, 0, ""), refused, payment.HoldGone},
		{hold, order(4, 0, sums(100_000, 0, 100_000)), unknown, ""},
		{hold, order(8, 0, sums(100_000, 50_000, 0)), unknown, ""},
		{hold, order(9, 0, sums(100_000, 0, 0)), unknown, ""},
		{hold, order(-1, 0, sums(100_000, 0, 0)), unknown, ""},
		{hold, order(6, 116, ""), refused, payment.InsufficientFunds},
		{hold, other(order(6, 116, ""), `"actionCode":116,`, ``), refused, payment.CardRefused},
		{hold, other(order(6, 116, ""), `"amount":100000`, `"amount":100100`), unknown, ""},
		{hold, other(order(6, 116, ""), `"amount":100000,`, ``), refused, payment.InsufficientFunds},

		// Capture.
		{capture, charged, ok, ""},
		{capture, order(8, 0, sums(200_000, 100_000, 0)), ok, ""},
		{capture, order(2, 0, sums(100_000, 99_999, 0)), unknown, ""},
		{capture, order(8, 0, sums(100_000, 0, 0)), unknown, ""},
		{capture, held, unseen, ""},
		{capture, order(1, 0, sums(100_000, 100_000, 0)), unknown, ""},
		{capture, order(1, 0, ""), unknown, ""},
		{capture, order(3, 0, sums(0, 0, 0)), refused, payment.HoldGone},
		{capture, order(3, 0, ""), refused, payment.HoldGone},
		{capture, order(4, 0, sums(100_000, 50_000, 50_000)), unknown, ""},
		{capture, order(6, 0, sums(100_000, 0, 0)), unknown, ""},
		{capture, order(7, 0, sums(100_000, 0, 0)), unknown, ""},
		{capture, other(charged, mdOrder, transID), unknown, ""},
		{capture, other(charged, `"currency":"860"`, `"currency":"643"`), unknown, ""},
		{capture, other(charged, mine, ``), unknown, ""}, // whose money was taken, it does not say
		{capture, other(charged, `"attributes":[`+mine+`],`, mineBy), ok, ""},
		{capture, other(held, mine, ``), unknown, ""},

		// Void.
		{void, order(3, 0, sums(0, 0, 0)), ok, ""},
		{void, order(3, 0, ""), ok, ""},
		{void, held, unseen, ""},
		{void, charged, refused, payment.AlreadyCaptured},
		{void, order(8, 0, ""), refused, payment.AlreadyCaptured},
		{void, order(4, 0, ""), refused, payment.AlreadyCaptured},
		{void, order(6, 0, ""), unknown, ""},
		{void, order(0, 0, ""), unknown, ""},
		{void, other(order(3, 0, ""), `"amount":100000`, `"amount":100100`), unknown, ""},
		{void, other(order(3, 0, ""), `"amount":100000,`, ``), ok, ""},
		{void, other(order(3, 0, ""), mine, ``), unknown, ""},
		{void, other(order(3, 0, ""), `"attributes":[`+mine+`],`, mineBy), ok, ""},

		// Refund.
		{refund, order(4, 0, sums(300_000, 200_000, 100_000)+gifts(gift(ref, 100_000, 0))), ok, ""},
		{refund, order(4, 0, sums(300_000, 200_000, 100_000)+`,"refunds":`+gift(ref, 100_000, 0)), ok, ""},
		{refund, order(4, 0, sums(300_000, 100_000, 200_000)+gifts(gift(ref+"_9", 100_000, 0), gift(ref, 100_000, 0))), ok, ""},
		{refund, order(4, 0, sums(300_000, 200_000, 100_000)+gifts(gift(ref, 100_001, 0))), unknown, ""},
		{refund, order(4, 0, sums(300_000, 200_000, 100_000)+gifts(gift(ref, 100_000, 0), gift(ref, 100_000, 0))), unknown, ""},
		{refund, order(4, 0, sums(300_000, 100_000, 200_000)+gifts(gift(ref, 100_000, 0), gift(ref, 100_000, 0))), unknown, ""},
		{refund, order(4, 0, sums(300_000, 300_000, 0)+gifts(gift(ref, 100_000, 116))), unknown, ""},
		{refund, order(4, 0, sums(300_000, 200_000, 100_000)+gifts(`{"externalRefundId":"`+ref+`"}`)), unknown, ""},
		{refund, order(4, 0, sums(300_000, 200_000, 100_000)+gifts(`{"externalRefundId":"`+ref+`","amount":100000}`)), unknown, ""},
		{refund, other(order(4, 0, sums(300_000, 200_000, 100_000)+gifts(gift(ref, 100_000, 0))), mine, ``), unknown, ""},
		// One without a name may be ours.
		{refund, order(4, 0, sums(150_000, 50_000, 100_000)+gifts(`{"amount":100000,"actionCode":0}`)), unknown, ""},
		{refund, order(4, 0, sums(300_000, 200_000, 100_000)+gifts(`{"amount":100000,"actionCode":0}`)), unknown, ""},
		{refund, order(4, 0, sums(300_000, 250_000, 50_000)+gifts(`{"amount":50000,"actionCode":0}`)), unseen, ""},
		{refund, order(4, 0, sums(300_000, 200_000, 100_000)+gifts(gift(ref+"_9", 100_000, 0))), unseen, ""},
		{refund, order(4, 0, sums(300_000, 200_000, 100_000)), unknown, ""}, // it does not list them
		{refund, order(2, 0, sums(300_000, 300_000, 0)), unseen, ""},
		{refund, order(2, 0, sums(300_000, 300_000, 0)+`,"refunds":null`), unseen, ""},
		{refund, order(4, 0, sums(300_000, 150_000, 150_000)+gifts(`{"amount":100000,"actionCode":0}`, gift(ref+"_9", 50_000, 0))), unknown, ""},
		// What was not given back counts for nothing.
		{refund, order(2, 0, sums(300_000, 300_000, 0)+gifts(`{"amount":100000,"actionCode":116}`, gift(ref+"_9", 50_000, 116))), unseen, ""},
		{refund, order(8, 0, sums(300_000, 100_000, 0)), unseen, ""},
		{refund, order(2, 0, `,"paymentAmountInfo":{"depositedAmount":300000}`), unknown, ""},
		{refund, order(2, 0, `,"paymentAmountInfo":{"refundedAmount":0}`), unknown, ""},
		{refund, order(2, 0, ""), unknown, ""},
		{refund, order(2, 0, sums(100_000, 99_999, 0)), refused, payment.RefundAmount},
		{refund, order(4, 0, sums(100_000, 0, 100_000)+gifts(gift(ref+"_9", 100_000, 0))), refused, payment.RefundAmount},
		{refund, held, unknown, ""},
		{refund, order(3, 0, sums(0, 0, 0)), unknown, ""},
		{refund, order(7, 0, sums(100_000, 100_000, 0)), unknown, ""},
	} {
		c := connector(t, configured(canned(map[string]string{"*": test.answer})))
		a := c.Ask(t.Context(), question(test.kind, payment.Query))
		if a.Outcome != test.outcome || a.Reason != test.reason || a.Step != "" {
			t.Errorf("%s, answered %.300s:\n%+v, want %s %s", test.kind, test.answer, a, test.outcome, test.reason)
		}
		if (a.Outcome == unknown || a.Outcome == refused) && a.Cause == "" {
			t.Errorf("%s, answered %.300s: no cause", test.kind, test.answer)
		}
		if test.kind != refund && (a.Outcome == ok || a.Outcome == given) && a.Centre.Hold != mdOrder {
			t.Errorf("%s, answered %.300s: the order is called %q", test.kind, test.answer, a.Centre.Hold)
		}
	}
	// A question that does not know the order's name learns it, or does not approve.
	for _, test := range []struct {
		answer  string
		outcome payment.Outcome
	}{
		{held, ok}, {other(held, mine, ``), unknown}, {other(order(6, 116, ""), mine, ``), refused},
		{`{"errorCode":6}`, unseen}, {`{"errorCode":"6","errorMessage":"Заказ не найден"}`, unseen}, {"{\"errorCode\":6,\"errorMessage\":\"\xff\xfe\"}", unseen},
	} {
		q := question(hold, payment.Query)
		q.Attempt.Centre = payment.Centre{}
		a := connector(t, configured(canned(map[string]string{"*": test.answer}))).Ask(t.Context(), q)
		if a.Outcome != test.outcome || a.Outcome == ok && (a.Centre.Hold != mdOrder || a.Centre.RRN != "010967385013" || a.Centre.Approval != "385013") {
			t.Errorf("%+v, want %s", a, test.outcome)
		}
	}
	// A refund that cannot be is not refused as long as it may not be shown yet.
	cfg := configured(canned(map[string]string{"*": order(2, 0, sums(100_000, 99_999, 0))}))
	cfg.Now = at(time.Minute)
	if a := connector(t, cfg).Ask(t.Context(), question(refund, payment.Query)); a.Outcome != unseen {
		t.Errorf("%+v", a)
	}
}

// TestSteps is the payer's way through 3-D Secure, answer by answer.
func TestSteps(t *testing.T) {
	const ok, refused, unknown, given = payment.Approved, payment.Refused, payment.Unknown, payment.ChallengeGiven
	held := order(1, 0, sums(100_000, 0, 0))
	atMethod := func(q *processor.Question) { q.Attempt.Challenge.Step = payment.StepMethod }
	for name, test := range map[string]struct {
		ask     payment.Ask
		change  func(*processor.Question)
		answers map[string]string // "*" is paymentorder, continue or finish; "status" the status
		outcome payment.Outcome
		step    payment.Step
	}{
		"method":                   {payment.Send, nil, map[string]string{"*": method}, given, payment.StepMethod},
		"no method page":           {payment.Send, nil, map[string]string{"*": `{"threeDSServerTransId":"` + transID + `"}`, "3ds/continue.do": challenge}, given, payment.StepChallenge},
		"no method, frictionless":  {payment.Send, nil, map[string]string{"*": `{"threeDSServerTransId":"` + transID + `"}`, "3ds/continue.do": redirect, "status": held}, ok, ""},
		"challenge at once":        {payment.Send, nil, map[string]string{"*": `{"threeDSServerTransId":"` + transID + `","acsUrl":"https://acs.example/","packedCReq":"e"}`}, given, payment.StepChallenge},
		"no 3-D Secure":            {payment.Send, nil, map[string]string{"*": redirect, "status": held}, ok, ""},
		"challenge, no id":         {payment.Send, nil, map[string]string{"*": challenge}, unknown, ""},
		"a challenge of a script":  {payment.Send, nil, map[string]string{"*": `{"threeDSServerTransId":"` + transID + `","acsUrl":"javascript://acs.example/%0Aalert(1)","packedCReq":"e"}`}, unknown, ""},
		"a challenge nowhere":      {payment.Send, nil, map[string]string{"*": `{"threeDSServerTransId":"` + transID + `","acsUrl":"https:///challenge","packedCReq":"e"}`}, unknown, ""},
		"a challenge with a name":  {payment.Send, nil, map[string]string{"*": `{"threeDSServerTransId":"` + transID + `","acsUrl":"https://bank@acs.example/","packedCReq":"e"}`}, unknown, ""},
		"nothing decided":          {payment.Send, nil, map[string]string{"*": redirect, "status": order(0, -100, "")}, unknown, ""},
		"3-D Secure 1":             {payment.Send, nil, map[string]string{"*": `{"acsUrl":"https://acs.example/","paReq":"e","termUrl":"https://x.example/"}`}, unknown, ""},
		"a method without data":    {payment.Send, nil, map[string]string{"*": strings.Replace(method, "eyJ9", "", 1)}, unknown, ""},
		"a method of a script":     {payment.Send, nil, map[string]string{"*": strings.Replace(method, "https://acs.example/method", "javascript:alert(1)", 1)}, unknown, ""},
		"a method without a host":  {payment.Send, nil, map[string]string{"*": strings.Replace(method, "https://acs.example/method", "/method", 1)}, unknown, ""},
		"asked, challenge":         {payment.Continue, atMethod, map[string]string{"*": challenge}, given, payment.StepChallenge},
		"asked, frictionless":      {payment.Continue, atMethod, map[string]string{"*": redirect, "status": held}, ok, ""},
		"asked, declined":          {payment.Continue, atMethod, map[string]string{"*": redirect, "status": order(6, -2023, "")}, refused, ""},
		"asked, in vain":           {payment.Continue, atMethod, map[string]string{"*": failure(7), "status": order(0, -100, "")}, given, ""},
		"asked twice":              {payment.Continue, atMethod, map[string]string{"*": failure(7), "status": held}, ok, ""},
		"asked, no page":           {payment.Continue, atMethod, map[string]string{"*": `{"acsUrl":"https://acs.example/"}`}, unknown, ""},
		"asked, lost":              {payment.Continue, atMethod, map[string]string{"*": `{"acsU`}, unknown, ""},
		"finished":                 {payment.Continue, nil, map[string]string{"*": redirect, "status": held}, ok, ""},
		"finished, not passed yet": {payment.Continue, nil, map[string]string{"*": failure(7), "status": order(5, -100, "")}, given, ""},
		"finished, refused":        {payment.Continue, nil, map[string]string{"*": failure(5), "status": order(5, -100, "")}, given, ""},
		"finished twice":           {payment.Continue, nil, map[string]string{"*": failure(7), "status": held}, ok, ""},
		"finished, issuer silent":  {payment.Continue, nil, map[string]string{"*": redirect, "status": order(7, -30001, "")}, unknown, ""},
		"finished, status lost":    {payment.Continue, nil, map[string]string{"*": redirect, "status": `<html>`}, unknown, ""},
		"finished, no order":       {payment.Continue, nil, map[string]string{"*": redirect, "status": failure(6)}, unknown, ""},
		"finished, lost":           {payment.Continue, nil, map[string]string{"*": ``, "status": held}, unknown, ""},
		"finished, without a name": {payment.Continue, func(q *processor.Question) { q.Attempt.Challenge.CentreID = "" }, map[string]string{"*": redirect, "status": held}, unknown, ""},
		"sent nowhere":             {payment.Continue, func(q *processor.Question) { q.Attempt.Challenge = nil }, map[string]string{"*": redirect, "status": held}, unknown, ""},
		"no order":                 {payment.Continue, func(q *processor.Question) { q.Attempt.Centre.Hold = "" }, map[string]string{"*": redirect, "status": held}, unknown, ""},
	} {
		answers := map[string]string{"registerPreAuth.do": registered, "getOrderStatusExtended.do": test.answers["status"]}
		for call, answer := range test.answers {
			answers[call] = answer
		}
		q := question(payment.OpHold, test.ask)
		q.Operation.Asks = 3
		if test.ask == payment.Send {
			q.Operation.Asks = 1
		}
		if test.change != nil {
			test.change(&q)
		}
		a := connector(t, configured(canned(answers))).Ask(t.Context(), q)
		if a.Outcome != test.outcome || a.Step != test.step {
			t.Errorf("%s: %+v, want %s %s", name, a, test.outcome, test.step)
		}
		if a.Step != "" && (a.CentreID != transID || a.Centre.Hold != mdOrder || a.URL == "" || a.Data == "") {
			t.Errorf("%s: %+v", name, a)
		}
	}
	// Who is told to come back later has not come back.
	for _, step := range []payment.Step{payment.StepMethod, payment.StepChallenge} {
		c := connector(t, configured(roundTripper(func(string, url.Values) (int, string, error) { return http.StatusTooManyRequests, "", nil })))
		q := question(payment.OpHold, payment.Continue)
		q.Attempt.Challenge.Step = step
		if a := c.Ask(t.Context(), q); a.Outcome != given || a.Step != "" || a.CentreID != transID || a.Centre.Hold != mdOrder {
			t.Errorf("%s, too many requests: %+v", step, a)
		}
	}
	// But the card of a payer without a method page has been handed in by then.
	c := connector(t, configured(roundTripper(func(call string, _ url.Values) (int, string, error) {
		switch call {
		case "registerPreAuth.do":
			return http.StatusOK, registered, nil
		case "paymentorder.do":
			return http.StatusOK, `{"threeDSServerTransId":"` + transID + `"}`, nil
		}
		return http.StatusTooManyRequests, "", nil
	})))
	if a := c.Ask(t.Context(), question(payment.OpHold, payment.Send)); a.Outcome != unknown || a.Cause == "" {
		t.Errorf("too many requests, after the card: %+v", a)
	}
}

// TestAccepted: that a request was taken proves nothing, and neither does whatever goes wrong with the question that follows it.
func TestAccepted(t *testing.T) {
	unsent := &net.OpError{Op: "dial", Err: errors.New("refused")}
	for _, kind := range []payment.Kind{payment.OpCapture, payment.OpVoid, payment.OpRefund} {
		for _, told := range []string{`{"errorCode":0}`, failure(7)} {
			for _, test := range []struct {
				name    string
				code    int
				status  string
				err     error
				outcome payment.Outcome
				reason  payment.Reason
			}{
				{"as before", 200, map[payment.Kind]string{
					payment.OpCapture: order(1, 0, sums(100_000, 0, 0)), payment.OpVoid: order(1, 0, sums(100_000, 0, 0)), payment.OpRefund: order(2, 0, sums(100_000, 100_000, 0)),
				}[kind], nil, payment.Unknown, ""},
				{"over", 200, map[payment.Kind]string{
					payment.OpCapture: order(3, 0, ""), payment.OpVoid: order(2, 0, sums(100_000, 100_000, 0)), payment.OpRefund: order(2, 0, sums(100_000, 50_000, 0)),
				}[kind], nil, payment.Refused, map[payment.Kind]payment.Reason{
					payment.OpCapture: payment.HoldGone, payment.OpVoid: payment.AlreadyCaptured, payment.OpRefund: payment.RefundAmount,
				}[kind]},
				{"access denied", 200, failure(5), nil, payment.Unknown, ""},
				{"no such order", 200, failure(6), nil, payment.Unknown, ""},
				{"too many requests", 429, "", nil, payment.Unknown, ""},
				{"unreadable", 200, `<html>`, nil, payment.Unknown, ""},
				{"no connection", 0, "", unsent, payment.Unknown, ""},
			} {
				c := connector(t, configured(roundTripper(func(call string, _ url.Values) (int, string, error) {
					if call == "getOrderStatusExtended.do" {
						return test.code, test.status, test.err
					}
					return http.StatusOK, told, nil
				})))
				if a := c.Ask(t.Context(), question(kind, payment.Send)); a.Outcome != test.outcome || a.Reason != test.reason || a.Cause == "" {
					t.Errorf("%s, answered %s, then %s: %+v, want %s %s", kind, told, test.name, a, test.outcome, test.reason)
				}
			}
		}
	}
}

// TestRegistered is what an order is registered and paid with.
func TestRegistered(t *testing.T) {
	for _, test := range []struct {
		kind     payment.Kind
		amount   money.Amount
		left     time.Duration
		language string
		email    string
		sent     []string
	}{
		{payment.OpHold, money.New(100_000, money.UZS), 20*time.Minute - 1, "uz", "", []string{"registerPreAuth.do", "100000", "860", "1199", "uz"}},
		{payment.OpHold, money.New(1, money.USD), 90*time.Second + 999*time.Millisecond, "oz", "client@mail.com", []string{"registerPreAuth.do", "1", "840", "90", "uz"}},
		{payment.OpCharge, money.New(999_999_999_999, money.RUB), time.Second, "ru", strings.Repeat("c", 31) + "@mail.com", []string{"register.do", "999999999999", "643", "1", "ru"}},
		{payment.OpCharge, money.New(5, money.EUR), 300 * 24 * time.Hour, "en", strings.Repeat("c", 32) + "@mail.com", []string{"register.do", "5", "978", "1200", "en"}},
	} {
		var calls []string
		var forms []url.Values
		cfg := configured(roundTripper(func(call string, form url.Values) (int, string, error) {
			calls, forms = append(calls, call), append(forms, form)
			if len(calls) == 1 {
				return http.StatusOK, registered, nil
			}
			return http.StatusOK, method, nil
		}))
		cfg.Now, cfg.CallbackURL = at(0), "https://pay.example/callback/bank_card"
		q := question(test.kind, payment.Send)
		q.Operation.Amount, q.ExpiresAt, q.Language, q.Attempt.Email = test.amount, sentAt.Add(test.left), test.language, test.email
		if a := connector(t, cfg).Ask(t.Context(), q); a.Outcome != payment.ChallengeGiven {
			t.Fatalf("%+v", a)
		}
		f, p := forms[0], forms[1]
		got := []string{calls[0], f.Get("amount"), f.Get("currency"), f.Get("sessionTimeoutSecs"), f.Get("language")}
		if !slices.Equal(got, test.sent) || calls[1] != "paymentorder.do" || len(calls) != 2 {
			t.Errorf("%s of %s: sent %q, want %q", test.kind, test.amount, got, test.sent)
		}
		id := q.Payment.String()
		for name, want := range map[string]string{
			"orderNumber": ref, "returnUrl": page("return")(q.Payment), "dynamicCallbackUrl": cfg.CallbackURL, "userName": "shop-api",
			"password": "hunter2-of-the-shop", "jsonParams": `{"payment":"` + id + `","shop":"17"}`,
		} {
			if f.Get(name) != want {
				t.Errorf("registered with %s %q, want %q", name, f.Get(name), want)
			}
		}
		for name, want := range map[string]string{
			"MDORDER": mdOrder, "$PAN": pan, "$CVC": cvc, "YYYY": "2030", "MM": "12", "TEXT": "NO NAME",
			"threeDSVer2FinishUrl": page("return")(q.Payment), "threeDSMethodNotificationUrl": page("method")(q.Payment), "password": "hunter2-of-the-shop",
		} {
			if p.Get(name) != want {
				t.Errorf("paid with %s %q, want %q", name, p.Get(name), want)
			}
		}
		// An address that the gateway does not take is not worth a payment.
		if want := len(test.email) > 0 && len(test.email) <= 40; p.Has("email") != want || want && p.Get("email") != test.email {
			t.Errorf("paid with the address %q, known was %q", p.Get("email"), test.email)
		}
		if text := f.Encode(); strings.Contains(text, pan) || f.Has("$CVC") {
			t.Error("the card is in the registration")
		}
	}
	// A token stands for login and password.
	cfg := configured(roundTripper(func(call string, form url.Values) (int, string, error) {
		if form.Get("token") != "hunter3" || form.Has("userName") || form.Has("password") {
			t.Errorf("%s: %v", call, form)
		}
		return http.StatusOK, order(1, 0, sums(100_000, 0, 0)), nil
	}))
	cfg.Login, cfg.Password, cfg.Token = "", "", "hunter3"
	if a := connector(t, cfg).Ask(t.Context(), question(payment.OpHold, payment.Query)); a.Outcome != payment.Approved {
		t.Errorf("%+v", a)
	}
}

// An acquirer who says our request back says our password back: it is not kept, nor logged.
func TestNoPasswordInACause(t *testing.T) {
	for _, cfg := range []rbs.Config{{Login: "shop-api", Password: "hunter2-of-the-shop"}, {Token: "hunter3-of-the-shop"}} {
		var out bytes.Buffer
		full := configured(roundTripper(func(_ string, form url.Values) (int, string, error) {
			return http.StatusOK, `{"errorCode":5,"errorMessage":"Access denied: ` + form.Get("password") + form.Get("token") + `"}`, nil
		}))
		full.Login, full.Password, full.Token, full.Log = cfg.Login, cfg.Password, cfg.Token, slog.New(slog.NewJSONHandler(&out, nil))
		a := connector(t, full).Ask(t.Context(), question(payment.OpRefund, payment.Send))
		if said := a.Cause + out.String(); strings.Contains(said, "hunter") || !strings.Contains(said, "Access denied") {
			t.Errorf("kept and logged: %s", said)
		}
	}
}

// TestSentAgain: a deposit, a reversal or a refund is looked up before it is sent once more.
func TestSentAgain(t *testing.T) {
	done := map[payment.Kind]string{
		payment.OpCapture: order(2, 0, sums(100_000, 100_000, 0)), payment.OpVoid: order(3, 0, sums(0, 0, 0)),
		payment.OpRefund: order(4, 0, sums(100_000, 0, 100_000)+gifts(gift(ref, 100_000, 0))),
	}
	before := map[payment.Kind]string{
		payment.OpCapture: order(1, 0, sums(100_000, 0, 0)), payment.OpVoid: order(1, 0, sums(100_000, 0, 0)),
		payment.OpRefund: order(2, 0, sums(100_000, 100_000, 0)),
	}
	for kind := range done {
		for _, test := range []struct {
			name    string
			first   string // status
			sent    int
			outcome payment.Outcome
		}{
			{"done", done[kind], 0, payment.Approved},
			{"not done", before[kind], 1, payment.Approved},
			{"not to be found out", `<html>`, 0, payment.Unknown},
			{"of another order", strings.ReplaceAll(done[kind], mdOrder, transID), 0, payment.Unknown},
		} {
			sent, asked := 0, 0
			c := connector(t, configured(roundTripper(func(call string, form url.Values) (int, string, error) {
				if call != "getOrderStatusExtended.do" {
					sent++
					if form.Get("orderId") != mdOrder || kind != payment.OpVoid && form.Get("amount") != "100000" ||
						kind == payment.OpRefund && form.Get("externalRefundId") != ref {
						t.Errorf("%s: %v", call, form)
					}
					return http.StatusOK, `{"errorCode":0}`, nil
				}
				if asked++; asked == 1 {
					return http.StatusOK, test.first, nil
				}
				return http.StatusOK, done[kind], nil
			})))
			q := question(kind, payment.Send)
			q.Operation.Asks = 2
			if a := c.Ask(t.Context(), q); a.Outcome != test.outcome || sent != test.sent {
				t.Errorf("%s, %s: %+v, sent %d times", kind, test.name, a, sent)
			}
		}
	}
}

// TestNothingSent: what cannot be asked of the gateway is refused without a call, and without believing
// that an earlier call was not made.
func TestNothingSent(t *testing.T) {
	c := connector(t, configured(roundTripper(func(call string, form url.Values) (int, string, error) {
		t.Errorf("sent %s %v", call, form)
		return 0, "", errors.New("no")
	})))
	for _, kind := range moving {
		if a := c.Ask(t.Context(), question(kind, "")); a.Outcome != payment.Unknown {
			t.Errorf("%s: %+v", kind, a)
		}
	}
	for _, kind := range []payment.Kind{payment.OpCapture, payment.OpVoid, payment.OpRefund} {
		if a := c.Ask(t.Context(), question(kind, payment.Continue)); a.Outcome != payment.Unknown {
			t.Errorf("continue %s: %+v", kind, a)
		}
		q := question(kind, payment.Query)
		q.Attempt.Centre.Hold = ""
		if a := c.Ask(t.Context(), q); a.Outcome != payment.Unknown {
			t.Errorf("query %s without an order: %+v", kind, a)
		}
	}
	all := moving
	orders := []payment.Kind{payment.OpHold, payment.OpCharge}
	for name, test := range map[string]struct {
		kinds  []payment.Kind
		reason payment.Reason
		spoil  func(*processor.Question)
	}{
		"no currency":    {all, payment.Unsupported, func(q *processor.Question) { q.Operation.Amount = money.New(1, "XAU") }},
		"nothing":        {all, payment.Unsupported, func(q *processor.Question) { q.Operation.Amount = money.New(0, money.UZS) }},
		"less":           {all, payment.Unsupported, func(q *processor.Question) { q.Operation.Amount = money.New(-1, money.UZS) }},
		"too much":       {all, payment.Unsupported, func(q *processor.Question) { q.Operation.Amount = money.New(1_000_000_000_000, money.UZS) }},
		"no reference":   {all, payment.Unsupported, func(q *processor.Question) { q.Operation.Ref = "" }},
		"long reference": {all, payment.Unsupported, func(q *processor.Question) { q.Operation.Ref = strings.Repeat("1", 33) }},
		"no kind":        {all, payment.Unsupported, func(q *processor.Question) { q.Operation.Kind = "present" }},
		"a code":         {all, payment.Unsupported, func(q *processor.Question) { q.Operation.Kind = payment.OpChallenge }},
		"no order": {[]payment.Kind{payment.OpCapture, payment.OpVoid, payment.OpRefund}, payment.Unsupported, func(q *processor.Question) {
			q.Attempt.Centre = payment.Centre{}
		}},
		"no card":       {orders, payment.CardUnknown, func(q *processor.Question) { q.Card = payment.Card{} }},
		"short number":  {orders, payment.CardUnknown, func(q *processor.Question) { q.Card.Number = "411111111111" }},
		"long number":   {orders, payment.CardUnknown, func(q *processor.Question) { q.Card.Number = "41111111111111111111" }},
		"letters":       {orders, payment.CardUnknown, func(q *processor.Question) { q.Card.Number = "4111 1111 1111 111l" }},
		"no expiry":     {orders, payment.WrongExpiry, func(q *processor.Question) { q.Card.Expiry = "" }},
		"month 0":       {orders, payment.WrongExpiry, func(q *processor.Question) { q.Card.Expiry = "3000" }},
		"a long expiry": {orders, payment.WrongExpiry, func(q *processor.Question) { q.Card.Expiry = "30123" }},
		"no year":       {orders, payment.WrongExpiry, func(q *processor.Question) { q.Card.Expiry = "x012" }},
		"CVC of ABC":    {orders, payment.WrongCVC, func(q *processor.Question) { q.Card.CVC = "ABC" }},
		"month 13":      {orders, payment.WrongExpiry, func(q *processor.Question) { q.Card.Expiry = "3013" }},
		"no CVC":        {orders, payment.WrongCVC, func(q *processor.Question) { q.Card.CVC = "" }},
		"CVC of 4":      {orders, payment.WrongCVC, func(q *processor.Question) { q.Card.CVC = "1234" }},
		"Arabic digits": {orders, payment.WrongCVC, func(q *processor.Question) { q.Card.CVC = "١٢٣" }},
		"no time":       {orders, payment.CodeExpired, func(q *processor.Question) { q.ExpiresAt = time.Time{} }},
		"too late":      {orders, payment.CodeExpired, func(q *processor.Question) { q.ExpiresAt = sentAt.Add(10 * time.Minute) }},
		"8 days": {orders[:1], payment.Unsupported, func(q *processor.Question) {
			q.HoldUntil, q.Attempt.HoldFor = time.Time{}, 8*24*3600
		}},
		"7 days": {orders[:1], payment.Unsupported, func(q *processor.Question) { q.HoldUntil = sentAt.Add(7 * 24 * time.Hour) }},
	} {
		for _, kind := range test.kinds {
			for _, asks := range []int{1, 2} {
				q := question(kind, payment.Send)
				q.Operation.Asks = asks
				test.spoil(&q)
				a := c.Ask(t.Context(), q)
				want := payment.Refused
				if asks == 2 && q.Operation.Kind.MovesMoney() {
					want = payment.Unknown
				}
				if a.Outcome != want || want == payment.Refused && a.Reason != test.reason || a.Cause == "" {
					t.Errorf("%s, %s, asked %d times: %+v, want %s %s", name, kind, asks, a, want, test.reason)
				}
			}
		}
	}
}

// TestHTTP is what lies below JSON.
func TestHTTP(t *testing.T) {
	var calls atomic.Int32
	var serve atomic.Value // http.HandlerFunc
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		serve.Load().(http.HandlerFunc)(w, r)
	}))
	defer server.Close()
	cfg := configured(nil)
	cfg.Endpoint, cfg.HTTP, cfg.Answer = server.URL+"/payment", nil, time.Minute // a loaded machine may need some of it
	c := connector(t, cfg)
	answer := []byte(order(1, 0, sums(100_000, 0, 0)))
	for _, test := range []struct {
		name           string
		serve          http.HandlerFunc
		query, capture payment.Outcome
		reason         payment.Reason
	}{
		{"good", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || r.Method != "POST" || r.URL.RawQuery != "" ||
				!strings.HasPrefix(r.URL.Path, "/payment/rest/") || r.PostFormValue("password") != "hunter2-of-the-shop" {
				t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
			}
			w.Write(answer)
		}, payment.Approved, payment.Unknown, ""},
		{"chunked", func(w http.ResponseWriter, r *http.Request) {
			for _, b := range answer {
				w.Write([]byte{b})
				w.(http.Flusher).Flush()
			}
		}, payment.Approved, payment.Unknown, ""},
		{"429", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(429); w.Write(answer) }, payment.Unknown, payment.Refused, payment.Unavailable},
		{"400", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(400) }, payment.Unknown, payment.Unknown, ""},
		{"401", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(401) }, payment.Unknown, payment.Unknown, ""},
		{"404", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) }, payment.Unknown, payment.Unknown, ""},
		{"201", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(201); w.Write(answer) }, payment.Unknown, payment.Unknown, ""},
		{"204", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }, payment.Unknown, payment.Unknown, ""},
		{"307", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, payment.Unknown, payment.Unknown, ""},
		{"302", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, payment.Unknown, payment.Unknown, ""},
		{"502", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(502) }, payment.Unknown, payment.Unknown, ""},
		{"2 MiB", func(w http.ResponseWriter, r *http.Request) {
			w.Write(append(bytes.Repeat([]byte{' '}, 2<<20), answer...))
		}, payment.Unknown, payment.Unknown, ""},
		{"no end", func(w http.ResponseWriter, r *http.Request) {
			for _, err := w.Write(answer); err == nil; {
				_, err = w.Write([]byte("                "))
			}
		}, payment.Unknown, payment.Unknown, ""},
		{"short", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(answer)+1))
			w.Write(answer)
		}, payment.Unknown, payment.Unknown, ""},
	} {
		serve.Store(test.serve)
		for _, ask := range []payment.Ask{payment.Query, payment.Send} {
			kind, want, reason := payment.OpHold, test.query, payment.Reason("")
			if ask == payment.Send {
				kind, want, reason = payment.OpCapture, test.capture, test.reason
			}
			calls.Store(0)
			begun := time.Now()
			a := c.Ask(t.Context(), question(kind, ask))
			if a.Outcome != want || a.Reason != reason {
				t.Errorf("%s, %s %s: %+v, want %s %s", test.name, ask, kind, a, want, reason)
			}
			if n := calls.Load(); n > 2 || n > 1 && want != payment.Unknown {
				t.Errorf("%s: %d calls", test.name, n)
			}
			if took := time.Since(begun); took > 4*time.Second {
				t.Errorf("%s took %v", test.name, took)
			}
			if strings.Contains(a.Cause, server.URL) || strings.Contains(a.Cause, "hunter2") {
				t.Errorf("%s: the cause is %q", test.name, a.Cause)
			}
		}
	}

	serve.Store(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); <-r.Context().Done() }))
	for _, q := range []processor.Question{question(payment.OpHold, payment.Query), question(payment.OpCapture, payment.Send)} {
		if n := processortest.Silence(t, &calls, func(within time.Duration) payment.Answer {
			cfg.Answer = within
			return connector(t, cfg).Ask(t.Context(), q)
		}, server.URL, "hunter2"); n < 1 || n > 2 {
			t.Errorf("silence, %s: %d calls", q.Operation.Kind, n)
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
	cfg.Endpoint, cfg.HTTP = "http://"+address, nil
	c := connector(t, cfg)
	for _, test := range []struct {
		kind    payment.Kind
		ask     payment.Ask
		asks    int
		outcome payment.Outcome
	}{
		{payment.OpHold, payment.Send, 1, payment.Refused}, {payment.OpCharge, payment.Send, 1, payment.Refused},
		{payment.OpCapture, payment.Send, 1, payment.Refused}, {payment.OpCapture, payment.Send, 3, payment.Unknown},
		{payment.OpRefund, payment.Send, 1, payment.Refused}, {payment.OpRefund, payment.Send, 2, payment.Unknown},
		{payment.OpHold, payment.Query, 2, payment.Unknown}, {payment.OpCapture, payment.Query, 2, payment.Unknown},
		{payment.OpHold, payment.Continue, 2, payment.ChallengeGiven},
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
	// Out of time between two calls: the card was not handed in.
	ctx, cancel := context.WithCancel(t.Context())
	cfg = configured(roundTripper(func(call string, _ url.Values) (int, string, error) {
		cancel()
		return http.StatusOK, registered, nil
	}))
	if a := connector(t, cfg).Ask(ctx, question(payment.OpHold, payment.Send)); a.Outcome != payment.Refused || a.Reason != payment.Unavailable {
		t.Errorf("%+v", a)
	}
}

// TestLog is one line for each question, with the stated things in it and no others' secrets.
func TestLog(t *testing.T) {
	var out bytes.Buffer
	spaced := pan[:4] + " " + pan[4:8] + " " + pan[8:12] + "-" + pan[12:]
	cfg := configured(canned(map[string]string{
		"registerPreAuth.do": registered, "register.do": registered,
		"paymentorder.do": fmt.Sprintf(`{"errorCode":5,"errorMessage":"card %s (%s) with CVC %s, code 8470 is wrong\n\u0000\u202e"}`, pan, spaced, cvc),
		"*":               order(0, -100, ""),
	}))
	cfg.Log = slog.New(slog.NewJSONHandler(&out, nil))
	c := connector(t, cfg)
	var causes string
	for _, kind := range []payment.Kind{payment.OpHold, payment.OpCharge} {
		causes += c.Ask(t.Context(), question(kind, payment.Send)).Cause + "\n"
	}
	c.Ask(t.Context(), question(payment.OpHold, payment.Query))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines:\n%s", len(lines), out.String())
	}
	var last struct {
		Method, Ref, Outcome string
		Took                 *int64
		Code                 *int64
	}
	if err := json.Unmarshal([]byte(lines[2]), &last); err != nil {
		t.Fatal(err)
	}
	if last.Method != "getOrderStatusExtended.do" || last.Ref != ref || last.Outcome != "challenged" || last.Took == nil || last.Code == nil {
		t.Errorf("%s", lines[2])
	}
	for _, secret := range []string{pan, pan[:8], pan[8:], pan[:4] + " " + pan[4:8], "CVC " + cvc, "hunter2"} {
		if strings.Contains(out.String()+causes, secret) {
			t.Errorf("%q shows in\n%s%s", secret, out.String(), causes)
		}
	}
	if !strings.Contains(causes, "8470") || strings.ContainsAny(causes, "\x00\u202e") {
		t.Errorf("%q", causes)
	}
	cfg.HTTP = nil
	for _, dump := range []string{fmt.Sprint(cfg), fmt.Sprintf("%+v", cfg), fmt.Sprintf("%#v", cfg), fmt.Sprintf("%v %+v %#v", c, c, c)} {
		if strings.Contains(dump, "hunter2") {
			t.Errorf("the password shows in %s", dump)
		}
	}
}

func TestNew(t *testing.T) {
	nowhere := func(payment.ID) string { return "/3ds" }
	for name, spoil := range map[string]func(*rbs.Config){
		"no endpoint":   func(c *rbs.Config) { c.Endpoint = "" },
		"ftp":           func(c *rbs.Config) { c.Endpoint = "ftp://acquirer.example/" },
		"credentials":   func(c *rbs.Config) { c.Endpoint = "https://shop:hunter2@acquirer.example/" },
		"no URL":        func(c *rbs.Config) { c.Endpoint = "https://hunter2@acquirer.example:port/" },
		"a query":       func(c *rbs.Config) { c.Endpoint += "?password=hunter2" },
		"no login":      func(c *rbs.Config) { c.Login = "" },
		"no password":   func(c *rbs.Config) { c.Password = "" },
		"nothing":       func(c *rbs.Config) { c.Login, c.Password = "", "" },
		"everything":    func(c *rbs.Config) { c.Token = "hunter2" },
		"no return":     func(c *rbs.Config) { c.ReturnURL = nil },
		"no method":     func(c *rbs.Config) { c.MethodNotificationURL = nil },
		"relative":      func(c *rbs.Config) { c.FinishURL = nowhere },
		"callback":      func(c *rbs.Config) { c.CallbackURL = "pay.example" },
		"answer":        func(c *rbs.Config) { c.Answer = -1 },
		"shown":         func(c *rbs.Config) { c.Shown = -1 },
		"relative also": func(c *rbs.Config) { c.ReturnURL = nowhere },
	} {
		cfg := configured(nil)
		spoil(&cfg)
		if c, err := rbs.New(cfg); err == nil || c != nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := connector(t, configured(nil))
	caps := c.Capabilities()
	if c.Name() != "bank_card" || caps.Answer != 15*time.Second || caps.LongestHold != 167*time.Hour || !caps.PartialCapture || !caps.PartialRefund ||
		!caps.ThreeDS || caps.SendsCode || !caps.ReleasesRest || caps.SeveralCaptures || caps.Remembers != 720*time.Hour || caps.Shown[payment.OpHold] != 2*time.Minute || caps.Shown[payment.OpCharge] != 2*time.Minute || caps.Shown[payment.OpCapture] != 2*time.Minute ||
		caps.Shown[payment.OpVoid] != 0 || caps.Shown[payment.OpRefund] != 0 {
		t.Errorf("%+v", caps)
	}
}

// FuzzAnswer: whatever the gateway says, the connector does not fall over, says why, and approves a
// movement of money only where the sum stands in the answer.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		order(1, 0, sums(100_000, 0, 0)), order(2, 0, sums(100_000, 100_000, 0)), order(3, 0, ""), order(6, 116, ""),
		order(4, 0, sums(100_000, 0, 100_000)+gifts(gift(ref, 100_000, 0))), registered, method, challenge, redirect, failure(7), failure(6), `[[[`, "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		c := connector(t, configured(canned(map[string]string{"registerPreAuth.do": registered, "register.do": registered, "*": answer})))
		for _, ask := range []payment.Ask{payment.Send, payment.Continue, payment.Query} {
			for _, kind := range moving {
				a := c.Ask(t.Context(), question(kind, ask))
				if (a.Outcome == payment.Unknown || a.Outcome == payment.Refused) && a.Cause == "" {
					t.Errorf("%s %s: no cause", ask, kind)
				}
				if kind != payment.OpVoid && a.Outcome == payment.Approved && !strings.Contains(answer, "100000") && !strings.Contains(answer, `\u`) {
					t.Errorf("%s %s approved by %q", ask, kind, answer)
				}
				if a.Outcome == payment.NeverSeen && ask != payment.Query {
					t.Errorf("%s %s: %+v", ask, kind, a)
				}
				if a.Step != "" && (a.CentreID == "" || !strings.HasPrefix(a.URL, "http")) {
					t.Errorf("%s %s: %+v", ask, kind, a)
				}
				if strings.Contains(a.Cause, pan) || len(a.Cause) > 500 {
					t.Errorf("%s %s: the cause is %q", ask, kind, a.Cause)
				}
			}
		}
	})
}

// BenchmarkAsk is the connector's own share of a payment's questions: no network, no gateway.
func BenchmarkAsk(b *testing.B) {
	held, captured := order(1, 0, sums(100_000, 0, 0)), order(2, 0, sums(100_000, 100_000, 0))
	for _, test := range []struct {
		name    string
		q       processor.Question
		answers map[string]string
	}{
		{"hold", question(payment.OpHold, payment.Send), map[string]string{"registerPreAuth.do": registered, "*": method}},
		{"finish", question(payment.OpHold, payment.Continue), map[string]string{"finish3dsVer2Payment.do": redirect, "*": held}},
		{"capture", question(payment.OpCapture, payment.Send), map[string]string{"deposit.do": `{"errorCode":0}`, "*": captured}},
	} {
		b.Run(test.name, func(b *testing.B) {
			c := connector(b, configured(canned(test.answers)))
			b.ReportAllocs()
			for b.Loop() {
				if a := c.Ask(b.Context(), test.q); a.Outcome != payment.Approved && a.Outcome != payment.ChallengeGiven {
					b.Fatalf("%+v", a)
				}
			}
		})
	}
}
