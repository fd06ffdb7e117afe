package humo_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor"
	"holdfast/internal/processor/humo"
)

var update = flag.Bool("update", false, "write testdata anew from the simulator")

// roundTripper answers instead of a network.
type roundTripper func(path string, request []byte) (status int, answer []byte, err error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	status, answer, err := f(r.URL.Path, body)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(answer)), ContentLength: int64(len(answer)), Request: r,
	}, nil
}

// between stands in a file of testdata between a request and its answer, with the status of HTTP.
var between = regexp.MustCompile(`\n\n=== HTTP (\d{3})\n\n`)

// ourCode finds the code in a message that we send: it is another one each time. theirCode is one on its
// way back to the centre.
var (
	ourCode   = regexp.MustCompile(`"text":"(\d{6})`)
	theirCode = regexp.MustCompile(`"code":"\d{6}"`)
)

// TestGolden speaks whole conversations from testdata: the requests must be the recorded bytes, and the
// recorded answers must mean what they meant. With -update it records them from the simulator.
func TestGolden(t *testing.T) {
	const good, poor = "9860140000000012", "9860149000000013"
	full, part := money.New(1_000_00, money.UZS), money.New(600_00, money.UZS)
	const challenge, verify, hold, charge, capture, void, refund = payment.OpChallenge, payment.OpVerify, payment.OpHold, payment.OpCharge, payment.OpCapture, payment.OpVoid, payment.OpRefund
	steps := []struct {
		otp     humo.Mode
		kind    payment.Kind
		ask     payment.Ask
		ref     string
		card    string
		amount  money.Amount
		outcome payment.Outcome
	}{
		{humo.Gateway, challenge, payment.Send, "1795426200000_5520", good, full, payment.ChallengeGiven},
		{humo.Gateway, verify, payment.Send, "1795426200000_5520_2", good, full, payment.Approved},
		{humo.Gateway, hold, payment.Send, "1795426200000_5520_3", good, full, payment.Approved},
		{humo.Gateway, hold, payment.Query, "1795426200000_5520_3", good, full, payment.Approved},
		{humo.Gateway, capture, payment.Query, "1795426200000_5520_4", good, part, payment.NeverSeen},
		{humo.Gateway, capture, payment.Send, "1795426200000_5520_4", good, part, payment.Approved},
		{humo.Gateway, capture, payment.Query, "1795426200000_5520_4", good, part, payment.Approved},
		{humo.Gateway, refund, payment.Send, "1795426200000_5520_5", good, part, payment.Approved},
		{humo.Gateway, refund, payment.Query, "1795426200000_5520_5", good, part, payment.Approved},
		{humo.Gateway, hold, payment.Send, "1795426200000_5521_3", good, full, payment.Approved},
		{humo.Gateway, void, payment.Send, "1795426200000_5521_4", good, full, payment.Approved},
		{humo.Gateway, void, payment.Query, "1795426200000_5521_4", good, full, payment.Approved},
		{humo.Gateway, charge, payment.Send, "1795426200000_5522_3", good, full, payment.Approved},
		{humo.Gateway, charge, payment.Query, "1795426200000_5522_3", good, full, payment.Approved},
		{humo.Gateway, charge, payment.Query, "1795426200000_5523_3", good, full, payment.NeverSeen},
		{humo.Centre, challenge, payment.Send, "1795426200000_5524", poor, full, payment.ChallengeGiven},
		{humo.Centre, verify, payment.Send, "1795426200000_5524_2", poor, full, payment.Approved},
		{humo.Centre, hold, payment.Send, "1795426200000_5524_3", poor, full, payment.Refused},
	}
	calls := 0
	var code string // of the newest message
	connectors := map[humo.Mode]processor.Processor{}
	var exchange roundTripper
	if *update {
		c := newCentre(t, 10*time.Second, plainSetup)
		old, err := filepath.Glob("testdata/*.txt")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range old {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
		c.record = func(method string, request, response []byte, status int) {
			if m := ourCode.FindSubmatch(request); m != nil {
				code = string(m[1])
				request = bytes.Replace(request, m[1], []byte("000000"), 1)
			}
			if method == "humo.otp" {
				code = string(c.code(t, poor))
				request = theirCode.ReplaceAll(request, []byte(`"code":"271828"`))
			}
			calls++
			file := filepath.Join("testdata", fmt.Sprintf("%02d-%s.txt", calls, method))
			text := fmt.Sprintf("%s\n\n=== HTTP %d\n\n%s", request, status, response)
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		exchange = func(path string, request []byte) (int, []byte, error) {
			r, err := http.NewRequest(http.MethodPost, c.server.URL+path, bytes.NewReader(request))
			if err != nil {
				return 0, nil, err
			}
			switch {
			case path == "/humo":
				r.SetBasicAuth("shop", "secret-of-the-shop")
				r.Header.Set("Content-Type", "text/xml")
				r.Header.Set("SOAPAction", `""`)
			case path == "/sms/send":
				r.Header.Set("Authorization", "Bearer token-of-the-sms")
				r.Header.Set("Content-Type", "application/json")
			default:
				r.Header.Set("Authorization", "Bearer token-of-the-middleware")
				r.Header.Set("Content-Type", "application/json")
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				return 0, nil, err
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			return answer.StatusCode, body, err
		}
	} else {
		files, err := filepath.Glob("testdata/*.txt")
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if calls != len(files) {
				t.Errorf("%d calls were made, %d are recorded", calls, len(files))
			}
		}()
		exchange = func(path string, request []byte) (int, []byte, error) {
			if calls == len(files) {
				t.Fatalf("a further call: %s", request)
			}
			file := files[calls]
			calls++
			b, err := os.ReadFile(file)
			if err != nil {
				return 0, nil, err
			}
			cut := between.FindSubmatchIndex(b)
			if cut == nil {
				t.Fatalf("%s is not two messages", file)
			}
			if m := ourCode.FindSubmatch(request); m != nil {
				code = string(m[1])
				request = bytes.Replace(request, m[1], []byte("000000"), 1)
			}
			if method := methodOf(path, request); !strings.HasSuffix(file, "-"+method+".txt") {
				t.Errorf("%s, but called was %s", file, method)
			}
			if !bytes.Equal(request, b[:cut[0]]) {
				t.Errorf("%s: sent\n%s\nrecorded is\n%s", file, request, b[:cut[0]])
			}
			status, err := strconv.Atoi(string(b[cut[2]:cut[3]]))
			if strings.HasSuffix(file, "-humo.otp.txt") {
				code = "271828" // whatever it was: the centre checks it
			}
			return status, b[cut[1]:], err
		}
	}
	for _, otp := range []humo.Mode{humo.Gateway, humo.Centre} {
		cfg := configured(exchange)
		cfg.OTP, cfg.Now = otp, at(0)
		connectors[otp] = connector(t, cfg)
	}

	var attempt payment.Attempt
	for i, s := range steps {
		if s.kind == challenge {
			attempt = payment.Attempt{}
		}
		q := processor.Question{
			Payment: payment.ID{15: 1}, Shop: 17, Attempt: attempt, HoldUntil: sentAt.Add(30 * time.Minute), Language: "uz",
			Operation: payment.Operation{Ref: s.ref, Kind: s.kind, Ask: s.ask, Amount: s.amount, SentAt: sentAt, BegunAt: sentAt, Asks: 1},
			Captured:  part,
		}
		switch s.kind {
		case challenge:
			q.Card = payment.Card{Number: s.card, Expiry: "3012"}
		case verify:
			q.Code = payment.OTP(code)
		}
		a := connectors[s.otp].Ask(t.Context(), q)
		if a.Outcome != s.outcome || a.Ref != s.ref {
			t.Fatalf("step %d, %s %s: %+v, want %s", i+1, s.ask, s.kind, a, s.outcome)
		}
		switch {
		case s.kind == challenge:
			attempt.Challenge = &payment.Challenge{CentreID: a.CentreID}
			attempt.Centre.Sealed = a.Centre.Sealed
			if a.Phone != "+998** *****"+a.Phone[len(a.Phone)-2:] || a.CodeLives != 5*time.Minute || a.Centre.Sealed == "" {
				t.Errorf("%+v", a)
			}
		case a.Outcome == payment.Refused:
			if a.Reason != payment.InsufficientFunds {
				t.Errorf("%+v", a)
			}
		case (s.kind == hold || s.kind == charge || s.kind == capture) && a.Outcome == payment.Approved:
			if len(a.Centre.RRN) != 12 || len(a.Centre.Approval) != 6 || a.Centre.Hold == "" || a.Centre.Terminal != "2360000X" || a.Amount != s.amount {
				t.Errorf("step %d: %+v", i+1, a)
			}
			if s.ask == payment.Query && attempt.Centre.Hold != a.Centre.Hold {
				t.Errorf("step %d: %+v, it was %s", i+1, a, attempt.Centre.Hold)
			}
			attempt.Centre.Hold = a.Centre.Hold
		}
	}
}
