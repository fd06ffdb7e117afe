package svgate_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor"
	"holdfast/internal/processor/svgate"
)

var update = flag.Bool("update", false, "write testdata anew from the simulator")

// message is a file of testdata: one call as it was on the wire.
type message struct {
	Request  json.RawMessage `json:"request"`
	Response json.RawMessage `json:"response"`
}

// roundTripper answers instead of a network.
type roundTripper func(request []byte) (status int, answer []byte, err error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	status, answer, err := f(body)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(answer)), ContentLength: int64(len(answer)), Request: r,
	}, nil
}

// TestGolden speaks a whole conversation from testdata: the requests must be the recorded bytes, and
// the recorded answers must mean what they meant. With -update it records it from the simulator.
func TestGolden(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)
	card := payment.Card{Number: "8600313260861293", Expiry: "3012"} // a number that Octo's documentation prints
	amount, part := money.New(1_000_00, money.UZS), money.New(600_00, money.UZS)
	steps := []struct {
		method  string
		kind    payment.Kind
		ask     payment.Ask
		ref     string
		amount  money.Amount
		outcome payment.Outcome
	}{
		{"cards.new.otp", payment.OpChallenge, payment.Send, "1795426200000_5520", amount, payment.ChallengeGiven},
		{"cards.new.verify", payment.OpVerify, payment.Send, "1795426200000_5520_2", amount, payment.Approved},
		{"hold.create", payment.OpHold, payment.Send, "1795426200000_5520_3", amount, payment.Approved},
		{"hold.get.cardId", payment.OpHold, payment.Query, "1795426200000_5520_3", amount, payment.Approved},
		{"hold.dismiss.charge", payment.OpCapture, payment.Send, "1795426200000_5520_4", part, payment.Approved},
		{"trans.ext", payment.OpCapture, payment.Query, "1795426200000_5520_4", part, payment.Approved},
		{"hold.create", payment.OpHold, payment.Send, "1795426200000_5521_3", amount, payment.Approved},
		{"hold.dismiss", payment.OpVoid, payment.Send, "1795426200000_5521_4", amount, payment.Approved},
		{"hold.get.id", payment.OpVoid, payment.Query, "1795426200000_5521_4", amount, payment.Approved},
		{"trans.pay.purpose", payment.OpCharge, payment.Send, "1795426200000_5522_3", amount, payment.Approved},
		{"trans.ext", payment.OpCharge, payment.Query, "1795426200000_5523_3", amount, payment.NeverSeen},
		{"trans.reverse.partial", payment.OpRefund, payment.Send, "1795426200000_5522_4", part, payment.Approved},
		{"trans.ext", payment.OpRefund, payment.Query, "1795426200000_5522_4", part, payment.Approved},
	}
	files := make([]string, len(steps))
	for i, s := range steps {
		files[i] = filepath.Join("testdata", fmt.Sprintf("%02d-%s.json", i+1, s.method))
	}
	next := 0
	var asker processor.Processor
	if *update {
		c := newCentre(t, 10*time.Second)
		c.record = func(method string, request, response []byte) {
			if method != steps[next].method {
				t.Fatalf("call %d is %s", next+1, method)
			}
			b, err := json.MarshalIndent(message{request, response}, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(files[next], append(b, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		asker = c.connector
	} else {
		var err error
		asker, err = svgate.New(svgate.Config{
			Endpoint: "https://centre.example/svgate", Login: "shop", Password: "secret-of-the-shop", MerchantID: "90050017182", TerminalID: "91419475", Port: 16050,
			Now: func() time.Time { return now },
			HTTP: &http.Client{Transport: roundTripper(func(request []byte) (int, []byte, error) {
				b, err := os.ReadFile(files[next])
				if err != nil {
					return 0, nil, err
				}
				var recorded message
				if err := json.Unmarshal(b, &recorded); err != nil {
					return 0, nil, err
				}
				var want bytes.Buffer
				if err := json.Compact(&want, recorded.Request); err != nil {
					return 0, nil, err
				}
				if !bytes.Equal(request, want.Bytes()) {
					t.Errorf("%s: sent\n%s\nrecorded is\n%s", files[next], request, want.Bytes())
				}
				return http.StatusOK, recorded.Response, nil
			})},
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	var attempt payment.Attempt
	for i, s := range steps {
		next = i
		q := processor.Question{
			Shop: 17, Attempt: attempt, HoldUntil: now.Add(30 * time.Minute), Card: card, Code: "861293",
			Operation: payment.Operation{Ref: s.ref, Kind: s.kind, Ask: s.ask, Amount: s.amount, SentAt: now, BegunAt: now, Asks: 1},
			Claimed:   nobodys,
		}
		a := asker.Ask(t.Context(), q)
		if a.Outcome != s.outcome || a.Ref != s.ref {
			t.Fatalf("%s: %+v, want %s", files[i], a, s.outcome)
		}
		switch s.method {
		case "cards.new.otp":
			attempt.Challenge = &payment.Challenge{CentreID: a.CentreID}
			if a.Phone != "+998** *****"+a.Phone[len(a.Phone)-2:] || a.CodeLives != 5*time.Minute {
				t.Errorf("%+v", a)
			}
		case "cards.new.verify":
			attempt.Centre.Token = a.Centre.Token
		case "hold.create":
			attempt.Centre.Hold = a.Centre.Hold
			if !strings.HasSuffix(a.Claim, " "+a.Centre.Hold) || a.Centre.Hold == "" || a.Centre.Terminal != "91419475" {
				t.Errorf("%+v", a)
			}
		case "hold.get.cardId":
			if !strings.HasSuffix(a.Claim, " "+attempt.Centre.Hold) || a.Amount != amount {
				t.Errorf("%+v, the hold was %s", a, attempt.Centre.Hold)
			}
		case "hold.dismiss.charge", "trans.pay.purpose":
			if len(a.Centre.RRN) != 12 || len(a.Centre.Approval) != 6 || a.Amount != s.amount {
				t.Errorf("%+v", a)
			}
			attempt.Centre.RRN = a.Centre.RRN
		case "trans.reverse.partial":
			if a.Amount != s.amount || a.Centre != (payment.Centre{}) {
				t.Errorf("%+v", a)
			}
		}
	}
}
