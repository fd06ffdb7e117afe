package rbs_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor"
	"holdfast/internal/processor/rbs"
	"holdfast/internal/sim"
)

var update = flag.Bool("update", false, "write testdata anew from the simulator")

// message is a file of testdata: one call as it was on the wire, the form as its fields.
type message struct {
	Call     string            `json:"call"`
	Request  map[string]string `json:"request"`
	Response json.RawMessage   `json:"response"`
}

func fields(form url.Values) map[string]string {
	all := map[string]string{}
	for name, values := range form {
		all[name] = strings.Join(values, "\x00")
	}
	return all
}

// acquirer is where the recorded gateway is.
const acquirer = "https://acquirer.example"

// TestGolden speaks a whole conversation from testdata: the requests must be the recorded ones, and the
// recorded answers must mean what they meant. With -update it records it from the simulator.
func TestGolden(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)
	id := payment.NewID(now, [10]byte{7})
	visa := payment.Card{Number: "4111111111111111", Expiry: "3012", CVC: "123", Holder: "AZIZ KARIMOV"} // numbers that public documentation prints
	frictionless := payment.Card{Number: "4000007000000015", Expiry: "3012", CVC: "123"}
	amount, part, gift := money.New(1_000_00, money.UZS), money.New(600_00, money.UZS), money.New(150_00, money.UZS)
	dollars := money.New(49_99, money.USD)
	steps := []struct {
		kind    payment.Kind
		ask     payment.Ask
		ref     string
		amount  money.Amount
		card    payment.Card
		calls   []string
		outcome payment.Outcome
		step    payment.Step
	}{
		{payment.OpHold, payment.Send, "1795426200000_5520", amount, visa, []string{"registerPreAuth.do", "paymentorder.do"}, payment.ChallengeGiven, payment.StepMethod},
		{payment.OpHold, payment.Continue, "1795426200000_5520", amount, visa, []string{"3ds/continue.do"}, payment.ChallengeGiven, payment.StepChallenge},
		{payment.OpHold, payment.Query, "1795426200000_5520", amount, visa, []string{"getOrderStatusExtended.do"}, payment.ChallengeGiven, ""},
		{payment.OpHold, payment.Continue, "1795426200000_5520", amount, visa, []string{"finish3dsVer2Payment.do", "getOrderStatusExtended.do"}, payment.Approved, ""},
		{payment.OpCapture, payment.Send, "1795426200000_5520_2", part, visa, []string{"deposit.do", "getOrderStatusExtended.do"}, payment.Approved, ""},
		{payment.OpRefund, payment.Send, "1795426200000_5520_3", gift, visa, []string{"refund.do", "getOrderStatusExtended.do"}, payment.Approved, ""},
		{payment.OpRefund, payment.Query, "1795426200000_5520_3", gift, visa, []string{"getOrderStatusExtended.do"}, payment.Approved, ""},
		{payment.OpHold, payment.Send, "1795426200000_5521", dollars, frictionless, []string{"registerPreAuth.do", "paymentorder.do"}, payment.ChallengeGiven, payment.StepMethod},
		{payment.OpHold, payment.Continue, "1795426200000_5521", dollars, frictionless, []string{"3ds/continue.do", "getOrderStatusExtended.do"}, payment.Approved, ""},
		{payment.OpVoid, payment.Send, "1795426200000_5521_2", dollars, frictionless, []string{"reverse.do", "getOrderStatusExtended.do"}, payment.Approved, ""},
		{payment.OpCharge, payment.Send, "1795426200000_5522", dollars, frictionless, []string{"register.do", "paymentorder.do"}, payment.ChallengeGiven, payment.StepMethod},
		{payment.OpCharge, payment.Query, "1795426200000_5523", dollars, frictionless, []string{"getOrderStatusExtended.do"}, payment.NeverSeen, ""},
	}
	var files, calls []string
	for _, s := range steps {
		for _, call := range s.calls {
			calls = append(calls, call)
			name := strings.TrimSuffix(path.Base(call), ".do")
			files = append(files, filepath.Join("testdata", fmt.Sprintf("%02d-%s.json", len(calls), name)))
		}
	}
	next := 0
	var asker processor.Processor
	var c *centre
	if *update {
		c = newCentre(t, 10*time.Second, sim.Config{})
		c.record = func(call string, request, response []byte) {
			if next >= len(calls) || call != calls[next] {
				t.Errorf("call %d is %s", next+1, call)
				return
			}
			form, err := url.ParseQuery(string(request))
			if err != nil {
				t.Error(err)
			}
			answer := strings.ReplaceAll(string(response), c.server.URL, acquirer)
			b, err := json.MarshalIndent(message{call, fields(form), json.RawMessage(answer)}, "", "\t")
			if err != nil {
				t.Error(err)
			}
			if err := os.WriteFile(files[next], append(b, '\n'), 0o644); err != nil {
				t.Error(err)
			}
			next++
		}
		asker = c.connector
	} else {
		asker = connector(t, rbs.Config{
			Endpoint: acquirer + "/rbs", Login: "shop-api", Password: "secret-of-the-shop",
			ReturnURL: page("return"), MethodNotificationURL: page("method"), Now: func() time.Time { return now },
			HTTP: &http.Client{Transport: roundTripper(func(call string, form url.Values) (int, string, error) {
				if next >= len(files) {
					return 0, "", fmt.Errorf("one call too many: %s", call)
				}
				file := files[next]
				next++
				b, err := os.ReadFile(file)
				if err != nil {
					return 0, "", err
				}
				var recorded message
				if err := json.Unmarshal(b, &recorded); err != nil {
					return 0, "", err
				}
				if call != recorded.Call || !maps.Equal(fields(form), recorded.Request) {
					t.Errorf("%s: sent\n%s %q\nrecorded is\n%s %q", file, call, fields(form), recorded.Call, recorded.Request)
				}
				return http.StatusOK, string(recorded.Response), nil
			})},
		})
	}

	var attempt payment.Attempt
	for i, s := range steps {
		q := processor.Question{
			Payment: id, Shop: 17, Attempt: attempt, ExpiresAt: now.Add(15 * time.Minute), Language: "oz",
			Operation: payment.Operation{Ref: s.ref, Kind: s.kind, Ask: s.ask, Amount: s.amount, SentAt: now, BegunAt: now, Asks: 1},
		}
		if s.ask == payment.Send && (s.kind == payment.OpHold || s.kind == payment.OpCharge) {
			attempt = payment.Attempt{Email: "payer@shop.example", HoldFor: 1800}
			q.Attempt, q.Card = attempt, s.card
		}
		if s.outcome == payment.NeverSeen {
			q.Attempt.Centre = payment.Centre{} // the gateway has named no order
		}
		a := asker.Ask(t.Context(), q)
		if a.Outcome != s.outcome || a.Ref != s.ref || a.Step != s.step {
			t.Fatalf("question %d, %s %s: %+v, want %s %s", i+1, s.ask, s.kind, a, s.outcome, s.step)
		}
		if a.Centre.Hold != "" {
			attempt.Centre = a.Centre
		}
		switch {
		case a.Step != "":
			attempt.Challenge = &payment.Challenge{CentreID: a.CentreID, Step: a.Step, URL: a.URL, Data: a.Data}
			if len(a.CentreID) != 36 || len(a.Centre.Hold) != 36 || !*update && !strings.HasPrefix(a.URL, acquirer+"/acs/") || a.Data == "" {
				t.Errorf("question %d: %+v", i+1, a)
			}
			if *update {
				c.pass(t, s.card, *attempt.Challenge)
			}
		case s.kind == payment.OpRefund:
			if a.Centre != (payment.Centre{}) || a.Amount != s.amount {
				t.Errorf("question %d: %+v", i+1, a)
			}
		case a.Outcome == payment.Approved && s.kind != payment.OpVoid:
			if len(a.Centre.RRN) != 12 || len(a.Centre.Approval) != 6 || len(a.Centre.Hold) != 36 || a.Amount != s.amount {
				t.Errorf("question %d: %+v", i+1, a)
			}
		}
	}
	if next != len(calls) {
		t.Errorf("%d calls, recorded are %d", next, len(calls))
	}
}
