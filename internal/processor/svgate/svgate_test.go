package svgate_test

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
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor"
	"holdfast/internal/processor/processortest"
	"holdfast/internal/processor/svgate"
)

func nobodys(context.Context, string) (bool, error) { return false, nil }

var sentAt = time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)

const (
	pan  = "8600495473316478" // Payme's documented test card
	code = "402517"
)

// question asks about a payment of 1000.00 UZS with everything known that could be.
func question(kind payment.Kind, ask payment.Ask) processor.Question {
	return processor.Question{
		Shop: 17, HoldUntil: sentAt.Add(30 * time.Minute), Claimed: nobodys,
		Operation: payment.Operation{
			Ref: "1795426200000_5520", Kind: kind, Ask: ask, Amount: money.New(100_000, money.UZS), BegunAt: sentAt, SentAt: sentAt, Asks: 1,
		},
		Attempt: payment.Attempt{
			Challenge: &payment.Challenge{CentreID: "271828"},
			Centre:    payment.Centre{Token: "2A5E4F5B7D0C4E1F9A6B3C2D1E0F4A5B", Hold: "136049", RRN: "010967385012"},
		},
		Card: payment.Card{Number: pan, Expiry: "3012"}, Code: code,
	}
}

// at is the connector's clock, later than sentAt by so much.
func at(later time.Duration) func() time.Time {
	return func() time.Time { return sentAt.Add(later) }
}

func configured(transport http.RoundTripper) svgate.Config {
	return svgate.Config{
		Endpoint: "https://centre.example/svgate", Login: "shop", Password: "hunter2-of-the-shop", MerchantID: "90050017182", TerminalID: "91419475",
		Port: 16050, Now: at(10 * time.Minute), HTTP: &http.Client{Transport: transport},
	}
}

func connector(t testing.TB, cfg svgate.Config) *svgate.Connector {
	t.Helper()
	c, err := svgate.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// canned answers each method with a text in which $ID is the request's id. Several texts are given one after another.
func canned(answers map[string]string) roundTripper {
	return func(request []byte) (int, []byte, error) {
		var call struct {
			ID     json.RawMessage
			Method string
		}
		if err := json.Unmarshal(request, &call); err != nil {
			return 0, nil, err
		}
		answer, ok := answers[call.Method]
		if !ok {
			answer = answers["*"]
		}
		return http.StatusOK, []byte(strings.ReplaceAll(answer, "$ID", string(call.ID))), nil
	}
}

func result(text string) string { return `{"jsonrpc":"2.0","id":$ID,"result":` + text + `}` }

func failure(code int) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":$ID,"error":{"code":%d,"message":"as told"}}`, code)
}

// TestCodes is docs/processors.md §1.5, written once more: class by class, what each code means for a
// request that is sent for the first time.
func TestCodes(t *testing.T) {
	span := func(from, to int) (all []int) {
		for code := from; code >= to; code-- {
			all = append(all, code)
		}
		return all
	}
	unknown := payment.Reason("") // stands for the outcome Unknown
	classes := []struct {
		reason payment.Reason
		codes  []int
	}{
		{unknown, []int{-301, -302, -308, -309, -310, -311, -101, -102, -211, -281, -307}},
		{payment.Unavailable, append(append([]int{-300, -303, -304, -305, -306, -244, -292}, span(-350, -357)...), span(-400, -604)...)},
		{payment.WrongCode, []int{-269}},
		{payment.CodeExpired, []int{-270, -314, -317, -294, -299}},
		{payment.InsufficientFunds, []int{-240, -239, -260}},
		{payment.CardLimit, []int{-262, -245, -381}},
		{payment.Misconfigured, []int{-241}},
		{unknown, []int{-242}},
		{payment.CardUnknown, []int{-200, -202, -212, -382}},
		{payment.CardExpired, []int{-201}},
		{payment.CardBlocked, []int{-204, -205, -261}},
		{payment.CardRefused, []int{-203, -258, -289, -383}},
		{payment.NoSMS, []int{-206}},
		{payment.WrongExpiry, []int{-216}},
		{payment.Fraud, []int{-333}},
		{payment.NoSMS, []int{-215, -217, -224, -277, -290, -297, -320}},
		{payment.Misconfigured, append([]int{-199, -100, -103, -384, -237, -236, -247, -286, -298, -374, -375, -246, -256, -268, -316, -318, -319, -329, -330}, span(-249, -255)...)},
		{unknown, []int{-207, -208, -267, -282, -380, -389}},
	}
	known := map[int]bool{}
	moving := []payment.Kind{payment.OpHold, payment.OpCharge, payment.OpCapture, payment.OpVoid, payment.OpRefund}
	// Of a reversal these say that it was not made.
	ofRefunds := map[int]payment.Reason{
		-381: payment.RefundAmount, -389: payment.NothingToRefund, -208: payment.Misconfigured, -267: payment.Misconfigured,
	}
	resting := []payment.Kind{payment.OpChallenge, payment.OpVerify}
	var told int
	c := connector(t, configured(roundTripper(func(request []byte) (int, []byte, error) {
		return canned(map[string]string{"*": failure(told)})(request)
	})))
	expect := func(kind payment.Kind, ask payment.Ask, asks int, outcome payment.Outcome, reason payment.Reason) {
		t.Helper()
		q := question(kind, ask)
		q.Operation.Asks = asks
		a := c.Ask(t.Context(), q)
		if a.Outcome != outcome || a.Reason != reason {
			t.Errorf("%d to %s %s: %s %s, want %s %s", told, ask, kind, a.Outcome, a.Reason, outcome, reason)
		}
		if !strings.Contains(a.Cause, fmt.Sprint(told)) && outcome != payment.NeverSeen && reason != payment.HoldGone && told != -242 {
			t.Errorf("%d to %s %s: the cause %q does not say so", told, ask, kind, a.Cause)
		}
	}
	for _, class := range classes {
		for _, told = range class.codes {
			if known[told] {
				t.Errorf("%d is in two classes", told)
			}
			known[told] = true
			for _, kind := range append(moving, resting...) {
				outcome, reason := payment.Refused, class.reason
				if own, ok := ofRefunds[told]; ok && kind == payment.OpRefund {
					reason = own
				}
				if reason == unknown {
					outcome = payment.Unknown
				}
				expect(kind, payment.Send, 1, outcome, reason)
			}
			for _, kind := range moving { // what was sent before may be under way
				expect(kind, payment.Send, 2, payment.Unknown, "")
			}
			for _, kind := range moving { // an error of a question proves nothing, unless it says “not found”
				switch {
				case (kind == payment.OpCharge || kind == payment.OpRefund) && (told == -208 || told == -267):
					expect(kind, payment.Query, 2, payment.NeverSeen, "")
				case kind == payment.OpCapture && (told == -208 || told == -267):
					// hold.get.id answers the same code, which is no answer about a hold
					expect(kind, payment.Query, 2, payment.Unknown, "")
				default:
					expect(kind, payment.Query, 2, payment.Unknown, "")
				}
			}
		}
	}
	for _, told = range append(span(-1, -700), -32700, 7) { // what nobody has told us of
		if known[told] {
			continue
		}
		for _, kind := range moving {
			expect(kind, payment.Send, 1, payment.Unknown, "")
		}
		for _, kind := range resting {
			expect(kind, payment.Send, 1, payment.Refused, payment.CardRefused)
		}
	}
}

// TestBanksWord is docs/processors.md §3.2 and the statuses of cards of §1.2, written once more: what the bank says of a transaction
// or hold that did not go through, and of a card.
func TestBanksWord(t *testing.T) {
	responses, statuses := map[int]payment.Reason{}, map[int]payment.Reason{}
	for reason, said := range map[payment.Reason][2][]int{
		payment.CardRefused:       {{1, 2, 5, 57, 62}, nil},
		payment.Misconfigured:     {{3, 12, 13, 30, 58}, nil},
		payment.CardBlocked:       {{4, 7, 41, 43, 75}, {2, 6, 7, 8, 10, 11, 12, 13, 14, 17, 18, 20, 21}},
		payment.CardUnknown:       {{14, 15}, {9}},
		payment.CardExpired:       {{33, 54}, nil},
		payment.Fraud:             {{34, 59, 63}, {19}},
		payment.InsufficientFunds: {{51}, nil},
		payment.CardLimit:         {{61, 65}, nil},
	} {
		for i, into := range []map[int]payment.Reason{responses, statuses} {
			for _, code := range said[i] {
				into[code] = reason
			}
		}
	}
	for code := -1; code < 1000; code++ {
		transaction := fmt.Sprintf(`{"ext":"1795426200000_5520","refNum":"010967385013","amount":100000,"resp":%d,"status":"ERR"}`, code)
		reason, known := responses[code]
		card := statuses[code]
		if card == "" && code != 0 {
			card = payment.CardRefused
		}
		for _, test := range []struct {
			kind    payment.Kind
			ask     payment.Ask
			asks    int
			answer  string
			refused bool
			reason  payment.Reason
		}{
			{payment.OpCharge, payment.Send, 1, transaction, known, reason},
			{payment.OpCharge, payment.Query, 2, transaction, known, reason},
			{payment.OpCapture, payment.Send, 1, transaction, known, reason},
			{payment.OpCapture, payment.Send, 2, transaction, false, ""}, // the first may be under way
			{payment.OpRefund, payment.Send, 2, transaction, false, ""},
			{payment.OpHold, payment.Send, 1, fmt.Sprintf(`{"id":0,"status":%d}`, code), known, reason},
			{payment.OpVoid, payment.Send, 1, fmt.Sprintf(`{"status":%d}`, code), known, reason},
			{payment.OpVoid, payment.Send, 2, fmt.Sprintf(`{"status":%d}`, code), false, ""},
			{payment.OpVerify, payment.Send, 1, fmt.Sprintf(`{"id":"2A5E","status":%d}`, code), code != 0, card},
		} {
			q := question(test.kind, test.ask)
			q.Operation.Asks = test.asks
			a := connector(t, configured(canned(map[string]string{"*": result(test.answer)}))).Ask(t.Context(), q)
			want := payment.Unknown
			switch {
			case test.refused:
				want = payment.Refused
			case test.kind == payment.OpVerify:
				want = payment.Approved
			}
			if a.Outcome != want || a.Reason != test.reason {
				t.Errorf("%s %s, asked %d times, answered %s: %+v, want %s %s", test.ask, test.kind, test.asks, test.answer, a, want, test.reason)
			}
		}
	}
}

const (
	good     = `"refNum":"010967385013","ext":"1795426200000_5520","amount":100000,"currency":860,"resp":0,"respSV":"00","field38":"385013"`
	holdLine = `{"hid":%s,"reqamt":%s,"createTime":%s,"waitingTime":%s,"status":%s}`
)

// waits is the time, in minutes, that the question's hold is asked for, and so many more.
func waits(t *testing.T, more int) string {
	t.Helper()
	var call struct {
		Params struct{ Hold struct{ Time int } }
	}
	connector(t, configured(roundTripper(func(b []byte) (int, []byte, error) {
		return http.StatusOK, nil, json.Unmarshal(b, &call)
	}))).Ask(t.Context(), question(payment.OpHold, payment.Send))
	if minutes := call.Params.Hold.Time; minutes < 120 || minutes > 239 {
		t.Fatalf("a hold of 30 minutes is asked for as %d", minutes)
	}
	return fmt.Sprint(call.Params.Hold.Time + more)
}

// TestAnswers is what single answers prove, beyond what the simulator can say.
func TestAnswers(t *testing.T) {
	const hold, charge, capture, void, refund = payment.OpHold, payment.OpCharge, payment.OpCapture, payment.OpVoid, payment.OpRefund
	const verify, challenge = payment.OpVerify, payment.OpChallenge
	const ok, refused, unknown, unseen = payment.Approved, payment.Refused, payment.Unknown, payment.NeverSeen
	fits, other, longer := waits(t, 0), waits(t, 1), waits(t, 120)
	line := func(hid, sum, created, waits, status string) string {
		return fmt.Sprintf(holdLine, hid, sum, created, waits, status)
	}
	millis := func(d time.Duration) string { return fmt.Sprint(sentAt.Add(d).UnixMilli()) }
	mine := line("5", "100000", millis(0), fits, "0")
	for _, test := range []struct {
		kind    payment.Kind
		ask     payment.Ask
		answer  string
		outcome payment.Outcome
		reason  payment.Reason
	}{
		// Charge and capture: everything has to be right.
		{charge, payment.Send, result(`{` + good + `,"status":"OK"}`), ok, ""},
		{charge, payment.Send, result(`[{` + good + `,"status":"OK"}]`), ok, ""},
		{charge, payment.Send, `{"id":"$ID","result":{` + good + `,"status":"OK"},"error":null}`, ok, ""},
		{charge, payment.Send, result(`{"refNum":"010967385013","amount":"100000","currency":"860","status":"OK"}`), ok, ""},
		{charge, payment.Send, result(`{"refNum":10967385013,"amount":100000,"currency":null,"resp":"0","status":"OK"}`), ok, ""},
		{charge, payment.Send, result(`[]`), unknown, ""},
		{charge, payment.Send, result(`null`), unknown, ""},
		{charge, payment.Send, result(`{}`), unknown, ""},
		{charge, payment.Send, result(`"OK"`), unknown, ""},
		{charge, payment.Send, result(`true`), unknown, ""},
		{charge, payment.Send, result(`[{` + good + `,"status":"OK"},{` + good + `,"status":"OK"}]`), unknown, ""},
		{charge, payment.Send, result(`{` + good + `}`), unknown, ""},
		{charge, payment.Send, result(`{` + good + `,"status":"ok"}`), unknown, ""},
		{charge, payment.Send, result(`{` + good + `,"status":"PENDING"}`), unknown, ""},
		{charge, payment.Send, result(`{` + good + `,"status":"ROK"}`), unknown, ""},
		{charge, payment.Send, result(`{"refNum":"000000000000","amount":100000,"status":"OK"}`), unknown, ""},
		{charge, payment.Send, result(`{"refNum":"","amount":100000,"status":"OK"}`), unknown, ""},
		{charge, payment.Send, result(`{"refNum":null,"amount":100000,"status":"OK"}`), unknown, ""},
		{charge, payment.Send, result(`{"refNum":"010967385013","status":"OK"}`), unknown, ""},
		{charge, payment.Send, result(`{"refNum":"010967385013","amount":99999,"status":"OK"}`), unknown, ""},
		{charge, payment.Send, result(`{"refNum":"010967385013","amount":1000.00,"status":"OK"}`), unknown, ""},
		{charge, payment.Send, result(`{"refNum":"010967385013","amount":1e5,"status":"OK"}`), unknown, ""},
		{charge, payment.Send, result(`{"refNum":"010967385013","amount":100000,"currency":"840","status":"OK"}`), unknown, ""},
		{charge, payment.Send, result(`{"refNum":"010967385013","amount":100000,"ext":"1795426200000_5521","status":"OK"}`), unknown, ""},
		{charge, payment.Send, result(`{"refNum":"010967385013","amount":100000,"resp":51,"status":"OK"}`), unknown, ""},
		{charge, payment.Send, result(`{"refNum":"000000000000","amount":100000,"resp":51,"status":"ERR"}`), refused, payment.InsufficientFunds},
		{charge, payment.Send, result(`{"refNum":"010967385013","amount":100000,"resp":"54","status":"ERR"}`), refused, payment.CardExpired},
		{charge, payment.Send, result(`{"refNum":"010967385013","amount":100000,"resp":91,"status":"ERR"}`), unknown, ""},
		{charge, payment.Send, result(`{"refNum":"010967385013","amount":100000,"resp":96}`), unknown, ""},
		{charge, payment.Send, result(`{"refNum":"010967385013","amount":100000,"resp":777,"status":"ERR"}`), unknown, ""},
		{charge, payment.Send, `{"id":null,"result":{` + good + `,"status":"OK"}}`, unknown, ""},
		{charge, payment.Send, `{"result":{` + good + `,"status":"OK"}}`, unknown, ""},
		{charge, payment.Send, `{"id":999,"result":{` + good + `,"status":"OK"}}`, unknown, ""},
		{charge, payment.Send, `{"id":null,"error":{"code":-300,"message":"?"}}`, unknown, ""},
		{charge, payment.Send, `{"id":$ID,"error":{"message":"?"}}`, unknown, ""},
		{charge, payment.Send, `{"id":$ID,"error":{"code":-300},"result":{` + good + `,"status":"OK"}}`, unknown, ""}, // which of both is true?
		{charge, payment.Send, `{"id":$ID,"error":{"code":-240},"result":[{"refNum":"010967385013"}]}`, unknown, ""},
		{charge, payment.Send, `{"id":$ID,"error":{"code":-240},"result":null}`, refused, payment.InsufficientFunds},
		{charge, payment.Send, `{"id":$ID,"error":{"code":-240},"result":{}}`, refused, payment.InsufficientFunds},
		{charge, payment.Send, `{"id":$ID,"error":{"code":-240},"result":[]}`, refused, payment.InsufficientFunds},
		{charge, payment.Query, `{"id":$ID,"error":{"code":-208},"result":[{` + good + `,"status":"OK"}]}`, unknown, ""},
		{charge, payment.Send, "{\"id\":$ID,\"error\":{\"code\":\"-240\",\"message\":\"\xcd\xe5 \xf5\xe2\xe0\xf2\xe0\xe5\xf2\"}}", refused, payment.InsufficientFunds},
		{charge, payment.Send, `{"id":$ID,"result":{` + good + `,"status":"OK","status":"OK"}}`, unknown, ""},
		{charge, payment.Send, result(`{`+good+`,"status":"OK"}`) + `{}`, unknown, ""},
		{charge, payment.Send, ``, unknown, ""},
		{charge, payment.Send, strings.Repeat("[", 1<<20), unknown, ""},
		{charge, payment.Query, result(`[{` + good + `,"status":"OK"}]`), ok, ""},
		{charge, payment.Query, result(`[]`), unseen, ""},
		{charge, payment.Query, result(`null`), unknown, ""}, // that is not an empty list
		{charge, payment.Query, `{"id":$ID}`, unknown, ""},
		{charge, payment.Query, failure(-208), unseen, ""},
		{charge, payment.Query, failure(-267), unseen, ""},
		{charge, payment.Query, failure(-282), unknown, ""},
		{charge, payment.Query, failure(-300), unknown, ""},
		{charge, payment.Query, result(`[{` + good + `,"status":"OK"},{` + good + `,"status":"OK"}]`), unknown, ""},
		{charge, payment.Query, result(`[{"ext":"1795426200000_5520","resp":51,"status":"ERR"}]`), refused, payment.InsufficientFunds},
		{charge, payment.Query, result(`[{"ext":"1795426200000_5520","resp":51,"status":"ERR"},{"ext":"1795426200000_5520","resp":5,"status":"ERR"}]`), refused, payment.InsufficientFunds},
		{charge, payment.Query, result(`[{` + good + `,"status":"OK"},{"ext":"1795426200000_5520","resp":51,"status":"ERR"}]`), unknown, ""},
		{charge, payment.Query, result(`[{"ext":"1795426200000_5520","resp":51,"status":"ERR"},{` + good + `,"status":"OK"}]`), unknown, ""},
		{charge, payment.Query, result(`[{"ext":"another","refNum":"010967385013","amount":100000,"status":"OK"}]`), unknown, ""},
		{capture, payment.Send, result(`{` + good + `,"status":"OK"}`), ok, ""},
		{capture, payment.Send, failure(-242), unknown, ""},

		// Refund: judged as what takes money is.
		{refund, payment.Send, result(`{` + good + `,"tranType":"REVERSAL","status":"OK"}`), ok, ""},
		{refund, payment.Send, result(`{"refNum":"010967385013","amount":99999,"status":"OK"}`), unknown, ""},
		{refund, payment.Send, result(`{"refNum":"000000000000","amount":100000,"status":"OK"}`), unknown, ""},
		{refund, payment.Send, result(`{` + good + `,"status":"RER"}`), unknown, ""},
		{refund, payment.Send, result(`{"refNum":"000000000000","amount":100000,"resp":5,"status":"RER"}`), refused, payment.CardRefused},
		{refund, payment.Send, result(`[]`), unknown, ""},
		{refund, payment.Send, failure(-207), unknown, ""},
		{refund, payment.Send, failure(-282), unknown, ""},
		{refund, payment.Query, result(`[{` + good + `,"status":"OK"}]`), ok, ""},
		{refund, payment.Query, result(`[]`), unseen, ""},
		{refund, payment.Query, failure(-208), unseen, ""},
		{refund, payment.Query, failure(-389), unknown, ""},

		// Hold and void.
		{hold, payment.Send, result(`{"id":136050,"status":0}`), ok, ""},
		{hold, payment.Send, result(`[{"id":"136050","status":"0","description":"OK"}]`), ok, ""},
		{hold, payment.Send, result(`{"id":136050}`), unknown, ""},
		{hold, payment.Send, result(`{"status":0}`), unknown, ""},
		{hold, payment.Send, result(`{"id":0,"status":0}`), unknown, ""},
		{hold, payment.Send, result(`{"id":136050,"status":0,"amount":100000}`), ok, ""},
		{hold, payment.Send, result(`{"id":136050,"status":0,"amount":100100}`), unknown, ""},
		{hold, payment.Send, result(`{"id":0,"status":51,"description":"Insufficient funds"}`), refused, payment.InsufficientFunds},
		{hold, payment.Send, result(`{"id":136050,"status":51}`), unknown, ""},
		{hold, payment.Send, result(`{"id":0,"status":91}`), unknown, ""},
		{hold, payment.Send, result(`[{"id":136050,"status":0},{"id":136051,"status":0}]`), unknown, ""},
		{void, payment.Send, result(`{"id":136049,"status":0}`), ok, ""},
		{void, payment.Send, result(`{"id":136049,"status":0,"amount":100100}`), unknown, ""},
		{void, payment.Send, result(`{"id":136049,"status":51}`), unknown, ""},
		{void, payment.Send, result(`[]`), unknown, ""},
		{void, payment.Send, result(`{"id":136050,"status":0}`), unknown, ""},
		{void, payment.Send, failure(-380), unknown, ""},
		{void, payment.Query, result(`{"hid":136049,"status":0}`), unseen, ""},
		{void, payment.Query, result(`{"hid":136049,"status":1}`), refused, payment.AlreadyCaptured},
		{void, payment.Query, result(`{"hid":136049,"status":2}`), ok, ""},
		{void, payment.Query, result(`[{"hid":"136049","status":"3","reqamt":"100000"}]`), ok, ""},
		{void, payment.Query, result(`{"hid":136049,"status":4}`), unknown, ""},
		{void, payment.Query, result(`{"hid":136049}`), unknown, ""},
		{void, payment.Query, result(`{"hid":136050,"status":2}`), unknown, ""},
		{void, payment.Query, result(`[{"hid":136049,"status":2},{"hid":136049,"status":1}]`), unknown, ""},
		{void, payment.Query, result(`{"hid":136049,"status":2,"reqamt":100100}`), unknown, ""},
		{void, payment.Query, failure(-242), unknown, ""},

		// Finding a hold.
		{hold, payment.Query, result(`[` + mine + `]`), ok, ""},
		{hold, payment.Query, result(mine), ok, ""},
		{hold, payment.Query, result(`[]`), unseen, ""},
		{hold, payment.Query, result(`null`), unknown, ""},
		{hold, payment.Query, `{"id":$ID}`, unknown, ""},
		{hold, payment.Query, failure(-200), unknown, ""},
		{hold, payment.Query, `{"id":$ID,"error":{"code":-242},"result":[` + mine + `]}`, unknown, ""},
		{hold, payment.Query, result(`[` + mine + `,` + line("6", "100000", millis(time.Second), fits, "0") + `]`), unknown, ""},
		{hold, payment.Query, result(`[` + mine + `,` + line("6", "100000", millis(time.Second), other, "0") + `]`), ok, ""},
		{hold, payment.Query, result(`[` + line("6", "100000", millis(time.Second), other, "0") + `]`), unseen, ""},
		{hold, payment.Query, result(`[` + mine + `,` + line("6", "100100", millis(time.Second), fits, "0") + `]`), ok, ""},
		{hold, payment.Query, result(`[` + line("6", "100100", millis(time.Second), fits, "0") + `]`), unknown, ""},
		{hold, payment.Query, result(`[` + line("5", "100000", millis(0), longer, "0") + `]`), ok, ""}, // any number of steps
		{hold, payment.Query, result(`[` + line("5", "100000", millis(-50*time.Second), fits, "0") + `]`), ok, ""},
		{hold, payment.Query, result(`[` + line("5", "100000", millis(-70*time.Second), fits, "0") + `]`), unseen, ""},
		{hold, payment.Query, result(`[` + line("5", "100000", millis(170*time.Second), fits, "0") + `]`), ok, ""},
		{hold, payment.Query, result(`[` + line("5", "100000", millis(190*time.Second), fits, "0") + `]`), unseen, ""},
		{hold, payment.Query, result(`[` + line("5", "100000", `"soon"`, fits, "0") + `]`), unknown, ""},
		{hold, payment.Query, result(`[` + line("5", "100000", `"tomorrow noon"`, fits, "0") + `]`), unknown, ""},
		{hold, payment.Query, result(`[` + line("5", "100000", `1795426200`, fits, "0") + `]`), unknown, ""}, // seconds, or milliseconds of 1970
		{hold, payment.Query, result(`[` + line("5", "100000", millis(0), `"long"`, "0") + `]`), unknown, ""},
		{hold, payment.Query, result(`[` + line("5", "null", millis(0), fits, "0") + `]`), unknown, ""},
		{hold, payment.Query, result(`[` + line("0", "100000", millis(0), fits, "0") + `]`), unknown, ""},
		{hold, payment.Query, result(`[` + line("null", "100000", millis(0), fits, "0") + `]`), unknown, ""},
		{hold, payment.Query, result(`[` + line("5", "100000", millis(0), fits, "2") + `]`), refused, payment.HoldGone},
		{hold, payment.Query, result(`[` + line("5", "100000", millis(0), fits, "3") + `]`), refused, payment.HoldGone},
		{hold, payment.Query, result(`[` + line("5", "100000", millis(0), fits, "1") + `]`), unknown, ""},
		{hold, payment.Query, result(`[` + line("5", "100000", millis(0), fits, "null") + `]`), unknown, ""},
		{hold, payment.Query, result(`[` + line("5", "100000", `"261123143000"`, fits, "0") + `]`), ok, ""},
		{hold, payment.Query, result(`[` + line("5", "100000", `"20261123143000"`, fits, "0") + `]`), ok, ""},
		{hold, payment.Query, result(`[` + line("5", "100000", `"23.11.2026 14:30:05"`, fits, "0") + `]`), ok, ""},
		{hold, payment.Query, result(`[` + line("5", "100000", `"2026-11-23T14:30:05"`, fits, "0") + `]`), ok, ""},
		{hold, payment.Query, result(`[` + line("5", "100000", `"2026-11-23T14:30:05+0500"`, fits, "0") + `]`), ok, ""},
		{hold, payment.Query, result(`[` + line("5", "100000", `"2026-11-23 14:30:05"`, fits, "0") + `]`), ok, ""},
		{hold, payment.Query, result(`[` + line("5", "100000", `"2026-11-23T14:30:05.123+05:00"`, fits, "0") + `]`), ok, ""},
		{hold, payment.Query, result(`[` + line("5", "100000", `"2026-11-23T09:30:05Z"`, fits, "0") + `]`), ok, ""},
		{hold, payment.Query, result(`[` + line("5", "100000", `"2026-11-23 09:30:05"`, fits, "0") + `]`), unseen, ""}, // Tashkent's morning
		{hold, payment.Query, result(`[{"hid":5,"terminalId":"91419475",` + mine[len(`{"hid":5,`):] + `]`), ok, ""},
		{hold, payment.Query, result(`[{"hid":5,"terminalId":"91419476",` + mine[len(`{"hid":5,`):] + `]`), unseen, ""},
		{hold, payment.Query, result(`[` + strings.Repeat(line("6", "1", millis(time.Second), other, "0")+`,`, 99) + line("6", "1", millis(0), other, "0") + `]`), unknown, ""},
		{hold, payment.Query, result(`[` + strings.Repeat(line("6", "1", millis(time.Second), other, "0")+`,`, 99) + line("6", "1", millis(-time.Hour), other, "0") + `]`), unseen, ""},
		{hold, payment.Query, result(`[` + strings.Repeat(line("6", "1", millis(time.Second), other, "0")+`,`, 99) + mine + `]`), ok, ""},

		// Codes and cards.
		{challenge, payment.Send, result(`{"id":271828,"phoneMask":"99890*****33","token":null}`), payment.ChallengeGiven, ""},
		{challenge, payment.Send, result(`{"id":271828,"token":"2A5E4F5B7D0C4E1F9A6B3C2D1E0F4A5B"}`), payment.ChallengeGiven, ""},
		{challenge, payment.Send, result(`{"phoneMask":"99890*****33"}`), unknown, ""},
		{challenge, payment.Send, result(`{"id":0}`), unknown, ""},
		{challenge, payment.Send, result(`[{"id":271828},{"id":271829}]`), unknown, ""},
		{challenge, payment.Send, `<html>`, unknown, ""},
		{challenge, payment.Query, result(`{}`), unknown, ""},
		{verify, payment.Send, result(`{"id":"2A5E","status":0}`), ok, ""},
		{verify, payment.Send, result(`{"id":"2A5E","status":"0","holdamount":5}`), ok, ""},
		{verify, payment.Send, result(`{"id":"2A5E"}`), unknown, ""},
		{verify, payment.Send, result(`{"status":0}`), unknown, ""},
		{verify, payment.Send, result(`[{"id":"2A5E","status":0},{"id":"2A5F","status":0}]`), unknown, ""},
		{verify, payment.Send, `<html>`, unknown, ""},
		{verify, payment.Send, result(`{"id":"2A5E","status":6}`), refused, payment.CardBlocked},
		{verify, payment.Send, result(`{"id":"2A5E","status":19}`), refused, payment.Fraud},
		{verify, payment.Send, result(`{"id":"2A5E","status":3}`), refused, payment.CardRefused},
		{verify, payment.Send, result(`{"id":"2A5E","status":99}`), refused, payment.CardRefused},
		{verify, payment.Query, result(`{}`), unknown, ""},
	} {
		c := connector(t, configured(canned(map[string]string{"*": test.answer})))
		a := c.Ask(t.Context(), question(test.kind, test.ask))
		if a.Outcome != test.outcome || a.Reason != test.reason {
			t.Errorf("%s %s, answered %.300s:\n%+v, want %s %s", test.ask, test.kind, test.answer, a, test.outcome, test.reason)
		}
		if (a.Outcome == unknown || a.Outcome == refused) && a.Cause == "" {
			t.Errorf("%s %s, answered %.300s: no cause", test.ask, test.kind, test.answer)
		}
		if test.kind == refund && a.Outcome == ok && (a.Centre != (payment.Centre{}) || !strings.Contains(a.Cause, "010967385013")) {
			t.Errorf("a refund must not rename what it gives back: %+v", a)
		}
		if test.kind == challenge && a.Centre != (payment.Centre{}) {
			t.Errorf("a token is given to who has not proved anything yet: %+v", a)
		}
		if test.kind == hold && test.ask == payment.Query && a.Outcome == ok && (a.Centre != payment.Centre{Hold: "5", Terminal: "91419475"} || a.Amount != money.New(100_000, money.UZS)) {
			t.Errorf("not all is said of the hold that was found: %+v", a)
		}
	}
}

// TestCaptureEnds: a capture whose transaction is not there ends by what became of the hold, but not
// before the transaction would be shown.
func TestCaptureEnds(t *testing.T) {
	for _, test := range []struct {
		hold    string
		after   time.Duration
		outcome payment.Outcome
		reason  payment.Reason
	}{
		{result(`{"hid":136049,"status":0}`), time.Second, payment.NeverSeen, ""},
		{result(`{"hid":136049,"status":1}`), time.Hour, payment.Unknown, ""},
		{result(`{"hid":136049,"status":2}`), time.Second, payment.Unknown, ""},
		{result(`{"hid":136049,"status":2}`), 2 * time.Minute, payment.Refused, payment.HoldGone},
		{result(`{"hid":136049,"status":3}`), 2 * time.Minute, payment.Refused, payment.HoldGone},
		{failure(-242), time.Minute, payment.Unknown, ""},
		{failure(-242), 2 * time.Minute, payment.Refused, payment.HoldGone},
		{failure(-300), time.Hour, payment.Unknown, ""},
		{result(`{"hid":136049}`), time.Hour, payment.Unknown, ""},
		{result(`{"hid":136048,"status":3}`), time.Hour, payment.Unknown, ""},
	} {
		cfg := configured(canned(map[string]string{"trans.ext": failure(-208), "hold.get.id": test.hold}))
		cfg.Now = at(test.after)
		a := connector(t, cfg).Ask(t.Context(), question(payment.OpCapture, payment.Query))
		if a.Outcome != test.outcome || a.Reason != test.reason {
			t.Errorf("hold %s after %v: %+v, want %s %s", test.hold, test.after, a, test.outcome, test.reason)
		}
	}
	// Who reads why it was not done is not told that the hold itself is missing.
	for _, kind := range []payment.Kind{payment.OpCapture, payment.OpVoid} {
		c := connector(t, configured(canned(map[string]string{"trans.ext": failure(-208), "hold.get.id": result(`{"hid":136049,"status":0}`)})))
		if a := c.Ask(t.Context(), question(kind, payment.Query)); a.Outcome != payment.NeverSeen || !strings.Contains(a.Cause, "the hold is live") {
			t.Errorf("%s: %+v", kind, a)
		}
	}
	// A void of a hold that the centre has forgotten is done once the hold's own time is over.
	for _, after := range []time.Duration{5 * time.Hour, 6 * time.Hour} {
		cfg := configured(canned(map[string]string{"hold.get.id": failure(-242)}))
		cfg.Now = at(after)
		a := connector(t, cfg).Ask(t.Context(), question(payment.OpVoid, payment.Query))
		if want := map[bool]payment.Outcome{true: payment.Approved, false: payment.Unknown}[after > 5*time.Hour+30*time.Minute]; a.Outcome != want {
			t.Errorf("after %v: %+v, want %s", after, a, want)
		}
		q := question(payment.OpVoid, payment.Query)
		q.HoldUntil = time.Time{}
		if a := connector(t, cfg).Ask(t.Context(), q); a.Outcome != payment.Unknown {
			t.Errorf("nobody knows until when the hold is: %+v", a)
		}
	}
}

// TestClaims: a hold that another payment owns is not ours, and who cannot ask does not guess.
func TestClaims(t *testing.T) {
	hold := fmt.Sprintf(holdLine, "5", "100000", fmt.Sprint(sentAt.UnixMilli()), waits(t, 0), "0")
	c := connector(t, configured(canned(map[string]string{"*": result(`[` + hold + `]`)})))
	for _, test := range []struct {
		claimed func(context.Context, string) (bool, error)
		outcome payment.Outcome
	}{
		{nobodys, payment.Approved},
		{func(context.Context, string) (bool, error) { return true, nil }, payment.NeverSeen},
		{func(context.Context, string) (bool, error) { return false, errors.New("the store is down") }, payment.Unknown},
		{nil, payment.Unknown},
	} {
		q := question(payment.OpHold, payment.Query)
		q.Claimed = test.claimed
		if a := c.Ask(t.Context(), q); a.Outcome != test.outcome || a.Outcome == payment.Approved && a.Claim != "centre.example/svgate 5" {
			t.Errorf("%+v, want %s", a, test.outcome)
		}
	}
}

// TestNothingSent: what cannot be asked of SVGate is refused without a call, and without believing
// that an earlier call was not made.
func TestNothingSent(t *testing.T) {
	c := connector(t, configured(roundTripper(func(b []byte) (int, []byte, error) {
		t.Errorf("sent %s", b)
		return 0, nil, errors.New("no")
	})))
	for _, kind := range []payment.Kind{payment.OpHold, payment.OpCharge, payment.OpCapture, payment.OpVoid, payment.OpRefund} {
		for _, ask := range []payment.Ask{"continue", ""} {
			if a := c.Ask(t.Context(), question(kind, ask)); a.Outcome != payment.Unknown {
				t.Errorf("%s %s: %+v", ask, kind, a)
			}
		}
	}
	for name, spoil := range map[string]func(*processor.Question){
		"dollars":        func(q *processor.Question) { q.Operation.Amount = money.New(1, money.USD) },
		"nothing":        func(q *processor.Question) { q.Operation.Amount = money.New(0, money.UZS) },
		"less":           func(q *processor.Question) { q.Operation.Amount = money.New(-1, money.UZS) },
		"no reference":   func(q *processor.Question) { q.Operation.Ref = "" },
		"long reference": func(q *processor.Question) { q.Operation.Ref = strings.Repeat("1", 76) },
		"no kind":        func(q *processor.Question) { q.Operation.Kind = "present" },
		"no token or hold": func(q *processor.Question) {
			q.Attempt.Centre = payment.Centre{}
		},
	} {
		for _, kind := range []payment.Kind{payment.OpHold, payment.OpCharge, payment.OpCapture, payment.OpVoid, payment.OpRefund} {
			for _, asks := range []int{1, 2} {
				q := question(kind, payment.Send)
				q.Operation.Asks = asks
				spoil(&q)
				a := c.Ask(t.Context(), q)
				want := payment.Refused
				if asks == 2 {
					want = payment.Unknown
				}
				if a.Outcome != want || want == payment.Refused && a.Reason != payment.Unsupported {
					t.Errorf("%s, %s, asked %d times: %+v, want %s", name, kind, asks, a, want)
				}
				q.Operation.Ask = payment.Query
				if name == "no token or hold" && (kind == payment.OpCharge || kind == payment.OpCapture || kind == payment.OpRefund) {
					continue // these are asked for by our reference
				}
				if a := c.Ask(t.Context(), q); a.Outcome != payment.Unknown {
					t.Errorf("%s, query %s: %+v", name, kind, a)
				}
			}
		}
	}
	// So is what is no card, no code or no hold for which there is a time.
	for name, test := range map[string]struct {
		kind   payment.Kind
		reason payment.Reason
		spoil  func(*processor.Question)
	}{
		"short number":  {payment.OpChallenge, payment.CardUnknown, func(q *processor.Question) { q.Card.Number = pan[:15] }},
		"no number":     {payment.OpChallenge, payment.CardUnknown, func(q *processor.Question) { q.Card.Number = pan[:15] + "x" }},
		"short expiry":  {payment.OpChallenge, payment.WrongExpiry, func(q *processor.Question) { q.Card.Expiry = "301" }},
		"no expiry":     {payment.OpChallenge, payment.WrongExpiry, func(q *processor.Question) { q.Card.Expiry = "30/2" }},
		"no challenge":  {payment.OpVerify, payment.CodeExpired, func(q *processor.Question) { q.Attempt.Challenge = nil }},
		"no name of it": {payment.OpVerify, payment.CodeExpired, func(q *processor.Question) { q.Attempt.Challenge = &payment.Challenge{} }},
		"short code":    {payment.OpVerify, payment.WrongCode, func(q *processor.Question) { q.Code = "402" }},
		"long code":     {payment.OpVerify, payment.WrongCode, func(q *processor.Question) { q.Code = "402517402" }},
		"no code":       {payment.OpVerify, payment.WrongCode, func(q *processor.Question) { q.Code = "40251x" }},
		"over":          {payment.OpHold, payment.Unsupported, func(q *processor.Question) { q.HoldUntil = sentAt }},
		"too long":      {payment.OpHold, payment.Unsupported, func(q *processor.Question) { q.HoldUntil = sentAt.Add(30 * 24 * time.Hour) }},
	} {
		q := question(test.kind, payment.Send)
		test.spoil(&q)
		if a := c.Ask(t.Context(), q); a.Outcome != payment.Refused || a.Reason != test.reason {
			t.Errorf("%s: %+v, want %s", name, a, test.reason)
		}
	}
	processortest.GivenUp(t, c, question(payment.OpCapture, payment.Send))
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
	cfg.Endpoint, cfg.HTTP, cfg.Answer = server.URL, nil, time.Minute // a loaded machine may need some of it
	c := connector(t, cfg)
	ok := func(r *http.Request) []byte {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		_, answer, err := canned(map[string]string{"*": result(`{` + good + `,"status":"OK"}`)})(body)
		if err != nil {
			t.Error(err)
		}
		return answer
	}
	for _, test := range []struct {
		name    string
		serve   http.HandlerFunc
		outcome payment.Outcome
		reason  payment.Reason
	}{
		{"good", func(w http.ResponseWriter, r *http.Request) {
			user, password, _ := r.BasicAuth()
			if user != "shop" || password != "hunter2-of-the-shop" || r.Header.Get("Content-Type") != "application/json; charset=utf-8" {
				t.Errorf("%v", r.Header)
			}
			w.Write(ok(r))
		}, payment.Approved, ""},
		{"chunked", func(w http.ResponseWriter, r *http.Request) {
			for _, b := range ok(r) {
				w.Write([]byte{b})
				w.(http.Flusher).Flush()
			}
		}, payment.Approved, ""},
		{"401 of the centre", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", `Basic realm="SVGate"`)
			w.WriteHeader(401)
		}, payment.Refused, payment.Misconfigured},
		{"401 of somebody", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(401) }, payment.Unknown, ""},
		{"403", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) }, payment.Unknown, ""},
		{"201", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(201); w.Write(ok(r)) }, payment.Unknown, ""},
		{"204", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }, payment.Unknown, ""},
		{"307", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, payment.Unknown, ""},
		{"302", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, payment.Unknown, ""},
		{"502", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(502) }, payment.Unknown, ""},
		{"gzip", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write([]byte("\x1f\x8b\x08\x00"))
		}, payment.Unknown, ""},
		{"2 MiB", func(w http.ResponseWriter, r *http.Request) {
			w.Write(append(bytes.Repeat([]byte{' '}, 2<<20), ok(r)...))
		}, payment.Unknown, ""},
		{"no end", func(w http.ResponseWriter, r *http.Request) {
			for _, err := w.Write(ok(r)); err == nil; {
				_, err = w.Write([]byte("                "))
			}
		}, payment.Unknown, ""},
		{"short", func(w http.ResponseWriter, r *http.Request) {
			answer := ok(r)
			w.Header().Set("Content-Length", fmt.Sprint(len(answer)+1))
			w.Write(answer)
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
		answer := ok(r)
		calls.Add(100)
		w.Write(answer)
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
	cfg.Endpoint, cfg.HTTP = "http://"+address, nil
	c := connector(t, cfg)
	for _, test := range []struct {
		kind    payment.Kind
		ask     payment.Ask
		asks    int
		outcome payment.Outcome
	}{
		{payment.OpChallenge, payment.Send, 1, payment.Refused}, {payment.OpHold, payment.Send, 1, payment.Refused},
		{payment.OpCapture, payment.Send, 1, payment.Refused}, {payment.OpCapture, payment.Send, 3, payment.Unknown},
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

// TestLog is one line for each question, with the stated things in it and no others' secrets.
func TestLog(t *testing.T) {
	var out bytes.Buffer
	cfg := configured(canned(map[string]string{
		"cards.new.otp":    fmt.Sprintf(`{"id":$ID,"error":{"code":-200,"message":"card %s (%s %s) not found\n\u0000\u202e"}}`, pan, pan[:4]+" "+pan[4:8], pan[8:12]+"-"+pan[12:]),
		"cards.new.verify": `{"id":$ID,"error":{"code":-269,"message":"` + code + ` is wrong"}}`,
		"*":                result(`{` + good + `,"status":"OK"}`),
	}))
	cfg.Log = slog.New(slog.NewJSONHandler(&out, nil))
	c := connector(t, cfg)
	var causes string
	for _, kind := range []payment.Kind{payment.OpChallenge, payment.OpVerify, payment.OpCharge} {
		causes += c.Ask(t.Context(), question(kind, payment.Send)).Cause + "\n"
	}
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
	if last.Method != "trans.pay.purpose" || last.Ref != "1795426200000_5520" || last.Outcome != "approved" || last.Took == nil || last.Code == nil {
		t.Errorf("%s", lines[2])
	}
	for _, secret := range []string{pan, pan[:8], pan[8:], pan[:4] + " " + pan[4:8], code, "hunter2"} {
		if strings.Contains(out.String()+causes, secret) {
			t.Errorf("%q shows in\n%s%s", secret, out.String(), causes)
		}
	}
	if strings.ContainsAny(causes, "\x00\u202e") {
		t.Errorf("%q", causes)
	}
	cfg.HTTP = nil
	for _, dump := range []string{fmt.Sprint(cfg), fmt.Sprintf("%+v", cfg), fmt.Sprintf("%#v", cfg), fmt.Sprintf("%v %+v %#v", c, c, c)} {
		if strings.Contains(dump, "hunter2") || strings.Contains(dump, "Basic") {
			t.Errorf("the password shows in %s", dump)
		}
	}
}

func TestNew(t *testing.T) {
	for name, spoil := range map[string]func(*svgate.Config){
		"no endpoint": func(c *svgate.Config) { c.Endpoint = "" },
		"ftp":         func(c *svgate.Config) { c.Endpoint = "ftp://centre.example/" },
		"credentials": func(c *svgate.Config) { c.Endpoint = "https://shop:hunter2@centre.example/" },
		"no URL":      func(c *svgate.Config) { c.Endpoint = "https://hunter2@centre.example:port/" },
		"no login":    func(c *svgate.Config) { c.Login = "" },
		"colon":       func(c *svgate.Config) { c.Login = "a:b" },
		"no password": func(c *svgate.Config) { c.Password = "" },
		"merchant":    func(c *svgate.Config) { c.MerchantID = "12345678901234567" },
		"terminal":    func(c *svgate.Config) { c.TerminalID = "9141 9475" },
		"symbols":     func(c *svgate.Config) { c.TerminalID = "9141{475" },
		"no terminal": func(c *svgate.Config) { c.TerminalID = "" },
		"port":        func(c *svgate.Config) { c.Port = 0 },
		"high port":   func(c *svgate.Config) { c.Port = 65536 },
		"no host":     func(c *svgate.Config) { c.Endpoint = "https:///svgate" },
		"shown":       func(c *svgate.Config) { c.Shown = -1 },
		"service":     func(c *svgate.Config) { c.ServiceName = strings.Repeat("я", 21) },
		"answer":      func(c *svgate.Config) { c.Answer = -1 },
	} {
		cfg := configured(nil)
		spoil(&cfg)
		if c, err := svgate.New(cfg); err == nil || c != nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := connector(t, configured(nil))
	if caps := c.Capabilities(); c.Name() != "uzcard" || caps.Answer != 10*time.Second || caps.LongestHold != 717*time.Hour || !caps.PartialCapture || !caps.PartialRefund || !caps.SendsCode ||
		!caps.ReleasesRest || !caps.HoldUnnamed || caps.Remembers != 720*time.Hour || len(caps.Currencies) != 1 ||
		caps.Shown[payment.OpHold] != 2*time.Minute || caps.Shown[payment.OpCharge] != 2*time.Minute || caps.Shown[payment.OpCapture] != 0 || caps.Shown[payment.OpVoid] != 0 || caps.Shown[payment.OpRefund] != 0 {
		t.Errorf("%+v", caps)
	}
}

// FuzzAnswer: whatever the centre says, the connector does not fall over, says why, and approves a
// movement of money only where the sum stands in the answer.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		result(`{` + good + `,"status":"OK"}`), result(`[{"hid":136049,"reqamt":100000,"createTime":1795426200000,"waitingTime":198,"status":0}]`),
		result(`{"id":136049,"status":0}`), failure(-300), failure(-208), result(`{"id":271828,"phoneMask":"+99890*****33"}`), `[[[`, "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		c := connector(t, configured(canned(map[string]string{"*": answer})))
		for _, ask := range []payment.Ask{payment.Send, payment.Query} {
			for _, kind := range []payment.Kind{
				payment.OpChallenge, payment.OpVerify, payment.OpHold, payment.OpCharge, payment.OpCapture, payment.OpVoid, payment.OpRefund,
			} {
				a := c.Ask(t.Context(), question(kind, ask))
				if (a.Outcome == payment.Unknown || a.Outcome == payment.Refused) && a.Cause == "" {
					t.Errorf("%s %s: no cause", ask, kind)
				}
				takes := kind == payment.OpCharge || kind == payment.OpCapture || kind == payment.OpRefund
				if takes && a.Outcome == payment.Approved && !strings.Contains(answer, "100000") && !strings.Contains(answer, `\u`) {
					t.Errorf("%s %s approved by %q", ask, kind, answer)
				}
				if strings.Contains(a.Cause, pan) || strings.Contains(a.Cause, code) || len(a.Cause) > 400 {
					t.Errorf("%s %s: the cause is %q", ask, kind, a.Cause)
				}
			}
		}
	})
}

// BenchmarkAsk is the connector's own share of a payment's four calls: no network, no centre.
func BenchmarkAsk(b *testing.B) {
	c := connector(b, configured(canned(map[string]string{
		"cards.new.otp": result(`{"id":271828,"phoneMask":"+99890*****33","token":"","verified":false}`),
		"cards.new.verify": result(`{"id":"2A5E4F5B7D0C4E1F9A6B3C2D1E0F4A5B","username":"shop","pan":"860049******6478","status":0,"phone":"998901234533",` +
			`"fullName":"AZIZ KARIMOV","balance":1000000,"sms":true,"pincnt":0,"aacct":"22618000000000000001","par":"","cardtype":"UZCARD","holdAmount":0,"cashbackAmount":0}`),
		"hold.create": result(`{"id":136049,"status":0,"description":"OK"}`),
		"hold.dismiss.charge": result(`{"id":"433835907","username":"shop","refNum":"010967385013","ext":"1795426200000_5520","pan":"860049******6478","pan2":"",` +
			`"expiry":"3012","tranType":"DEBIT","transType":1,"date7":"1123143000","date12":"261123143000","amount":100000,"commission":0,"currency":860,"stan":"000001",` +
			`"field38":"385013","field48":null,"field91":null,"merchantId":"90050017182","terminalId":"91419475","resp":0,"respText":"Approved","respSV":"00","status":"OK"}`),
	})))
	for _, kind := range []payment.Kind{payment.OpChallenge, payment.OpVerify, payment.OpHold, payment.OpCapture} {
		b.Run(string(kind), func(b *testing.B) {
			q := question(kind, payment.Send)
			b.ReportAllocs()
			for b.Loop() {
				if a := c.Ask(b.Context(), q); a.Outcome != payment.Approved && a.Outcome != payment.ChallengeGiven {
					b.Fatalf("%+v", a)
				}
			}
		})
	}
}

// BenchmarkPayment is four calls over the loopback interface to the simulator, many payments at a time.
func BenchmarkPayment(b *testing.B) {
	c := newCentre(b, 10*time.Second)
	direct := httptest.NewServer(c.sim.Handler())
	defer direct.Close()
	cfg := configured(nil)
	cfg.Endpoint, cfg.HTTP, cfg.Password, cfg.Now = direct.URL+"/svgate", nil, "secret-of-the-shop", c.clock.Now
	gate := connector(b, cfg)
	card := c.cards("ok")[0]
	var n atomic.Int64
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			q := question(payment.OpChallenge, payment.Send)
			q.Card, q.Code, q.Attempt = card, payment.OTP(card.Number[10:]), payment.Attempt{}
			q.Operation.Amount, q.Operation.Ref = money.New(100, money.UZS), fmt.Sprint(n.Add(1))
			for _, kind := range []payment.Kind{payment.OpChallenge, payment.OpVerify, payment.OpHold, payment.OpCapture} {
				q.Operation.Kind = kind
				a := gate.Ask(b.Context(), q)
				switch {
				case a.Outcome == payment.ChallengeGiven:
					q.Attempt.Challenge = &payment.Challenge{CentreID: a.CentreID}
				case a.Outcome == payment.Approved && kind == payment.OpVerify:
					q.Attempt.Centre.Token = a.Centre.Token
				case a.Outcome == payment.Approved && kind == payment.OpHold:
					q.Attempt.Centre.Hold = a.Centre.Hold
				case a.Outcome != payment.Approved:
					b.Errorf("%s: %+v", kind, a)
					return
				}
			}
		}
	})
}
