package holdfast

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// seen is what a test's gateway was sent.
type seen struct{ Method, Path, Type, Body string }

// gateway answers every call with the status and the body, and keeps the last.
func gateway(t *testing.T, status int, answer string) (*Client, *seen) {
	t.Helper()
	last := new(seen)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*last = seen{r.Method, r.URL.Path, r.Header.Get("Content-Type"), string(body)}
		w.Header().Set("Content-Type", "application/json")
		if status == 429 || status == 503 {
			w.Header().Set("Retry-After", "7")
		}
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	return &Client{BaseURL: server.URL, ShopID: 123, Secret: hidden}, last
}

func sampleText(t *testing.T, name string) string {
	return string(readFile(t, "testdata/seed/"+name+".json"))
}

// Each method, against the seed's sample: what is sent, where, what comes back.
func TestClientCalls(t *testing.T) {
	ctx := context.Background()
	const uuid = "04b7f6dd-4693-4afa-96e9-f42790413de7"
	for _, test := range []struct {
		name, answer, path, body string
		call                     func(*Client) (any, error)
		want                     func(any) string // a few words of the data
		expect                   string
	}{
		{"Prepare", sampleText(t, "prepare_payment.answer"), "/prepare_payment",
			`{"octo_shop_id":123,"octo_secret":"` + hidden + `","shop_transaction_id":"a1","auto_capture":false,"test":true,"total_sum":1000.00,"currency":"UZS","return_url":"https://shop.example.uz/back"}`,
			func(c *Client) (any, error) {
				return c.Prepare(ctx, PrepareRequest{ShopID: 9, Secret: "another shop's", ShopTransactionID: "a1", AutoCapture: new(false), Test: true, TotalSum: "1000.00", Currency: "UZS", ReturnURL: "https://shop.example.uz/back"})
			},
			func(data any) string {
				d := data.(*PaymentState)
				return d.Status + " " + string(d.TotalSum) + " " + d.PayURL
			},
			"created 1000.0 https://pay2.octo.uz/pay/e3f40dc3-4955-412a-853a-2ddd28d3201f?language=uz"},
		{"Status", sampleText(t, "prepare_payment.answer"), "/prepare_payment",
			`{"octo_shop_id":123,"octo_secret":"` + hidden + `","shop_transaction_id":"a1"}`,
			func(c *Client) (any, error) { return c.Status(ctx, "a1") },
			func(data any) string { return data.(*PaymentState).PaymentUUID }, "e3f40dc3-4955-412a-853a-2ddd28d3201f"},
		{"Pay", sampleText(t, "pay.answer"), "/pay/" + uuid,
			`{"pan":"8600313260861293","exp":"2602","method":"uzcard","cvc2":"","cardHolderName":"CardHolder Name","email":"client@mail.com"}`,
			func(c *Client) (any, error) {
				return c.Pay(ctx, uuid, PayRequest{PAN: "8600313260861293", Exp: "2602", Method: MethodUzcard, CardHolderName: "CardHolder Name", Email: "client@mail.com"})
			},
			func(data any) string {
				d := data.(*PaymentEntity)
				return fmt.Sprintf("%d %s %t", d.ID, d.Details.CardInfo.Last4, d.Fee == "")
			}, "5520 1293 true"},
		{"Pay with a token", sampleText(t, "pay.answer"), "/pay/" + uuid,
			`{"method":"uzcard","cvc2":"","email":"client@mail.com","card_token":"tok"}`,
			func(c *Client) (any, error) {
				return c.Pay(ctx, uuid, PayRequest{Method: MethodUzcard, Email: "client@mail.com", CardToken: "tok"})
			},
			func(data any) string { return data.(*PaymentEntity).Status }, "created"},
		{"VerificationInfo", sampleText(t, "verificationInfo.answer"), "/verificationInfo/" + uuid, `{"octo_payment_UUID":"` + uuid + `"}`,
			func(c *Client) (any, error) { return c.VerificationInfo(ctx, uuid) },
			func(data any) string {
				d := data.(*VerificationInfo)
				return fmt.Sprintf("%d %s %d", d.VerifyID, d.Phone, d.SecondsLeft)
			}, "819 +998** *****33 221"},
		{"VerificationInfo, expired", sampleText(t, "verificationInfo.expired"), "/verificationInfo/" + uuid, `{"octo_payment_UUID":"` + uuid + `"}`,
			func(c *Client) (any, error) { return c.VerificationInfo(ctx, uuid) },
			func(data any) string { return fmt.Sprint(data.(*VerificationInfo).SecondsLeft) }, "0"},
		{"CheckSMSKey", sampleText(t, "check_sms_key.answer"), "/check_sms_key", `{"smsKey":"317168","paymentId":822,"verifyId":819}`,
			func(c *Client) (any, error) {
				return c.CheckSMSKey(ctx, CheckSMSKeyRequest{SMSKey: "317168", PaymentID: 822, VerifyID: 819})
			},
			func(data any) string {
				d := data.(*ExtendedEntity)
				return d.Status + " " + string(d.TransferSum) + " " + string(d.FiscalDetails.CreateTime)
			}, "succeeded 980.0000 1732700438714"},
		{"CheckPan", sampleText(t, "verificationInfo.answer"), "/check_pan", `{"pan":"8600313260861293","expDate":"2602","paymentId":822}`,
			func(c *Client) (any, error) {
				return c.CheckPan(ctx, CheckPanRequest{PAN: "8600313260861293", ExpDate: "2602", PaymentID: 822})
			},
			func(data any) string { return fmt.Sprint(data.(*VerificationInfo).VerifyID) }, "819"},
		{"Accept", sampleText(t, "set_accept.answer"), "/set_accept",
			`{"octo_shop_id":123,"octo_secret":"` + hidden + `","octo_payment_UUID":"` + uuid + `","accept_status":"capture","final_amount":10.00}`,
			func(c *Client) (any, error) {
				return c.Accept(ctx, AcceptRequest{PaymentUUID: uuid, AcceptStatus: AcceptCapture, FinalAmount: DecimalOf(1000)})
			},
			func(data any) string { d := data.(*PaymentState); return string(d.TransferSum) + " " + d.PayedTime }, "980.00 2024-12-18 16:15:34"},
		{"Refund", `{"error":0,"data":{"octo_payment_UUID":"u","refund_id":"r","refund_time":"2024-12-18 16:15:34","status":"pending"},"refund_id":"r"}`, "/refund",
			`{"octo_shop_id":123,"octo_secret":"` + hidden + `","shop_refund_id":"r1","octo_payment_UUID":"` + uuid + `","amount":5.00}`,
			func(c *Client) (any, error) {
				return c.Refund(ctx, RefundRequest{ShopRefundID: "r1", PaymentUUID: uuid, Amount: "5.00"})
			},
			func(data any) string { d := data.(*Refund); return d.RefundID + " " + d.Status }, "r pending"},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, last := gateway(t, 200, test.answer)
			client.BaseURL += "/base/"
			data, err := test.call(client)
			if err != nil {
				t.Fatal(err)
			}
			if got := test.want(data); got != test.expect {
				t.Errorf("data: %s, want %s", got, test.expect)
			}
			if diff := cmp.Diff(seen{"POST", "/base" + test.path, "application/json", test.body}, *last); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// call makes one call and gives its error.
func callOnce(t *testing.T, client *Client) *Error {
	t.Helper()
	data, err := client.Accept(context.Background(), AcceptRequest{PaymentUUID: "u", AcceptStatus: AcceptCapture})
	var failure *Error
	if !errors.As(err, &failure) || data != nil {
		t.Fatalf("%v, %v; want an *Error and no data", data, err)
	}
	checkHidden(t, "the error", fmt.Sprintf("%v %+v %#v", err, failure, *failure))
	if text := err.Error(); !strings.HasPrefix(text, "holdfast: set_accept: ") || !strings.Contains(text, "; next: ") || strings.ContainsAny(text, "\n\r") {
		t.Errorf("no sentence: %s", text)
	}
	return failure
}

func TestClientFailures(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		answer string
		want   Error
		says   string
	}{
		"wrong secret":   {200, sampleText(t, "set_accept.failure"), Error{Code: CodeWrongSecret, Message: "Wrong secret", Developer: DeprecationNotice, HTTPStatus: 200}, "Wrong secret (error 2); next: check octo_shop_id"},
		"short envelope": {200, sampleText(t, "pay.failure"), Error{Code: CodeWrongSecret, Message: "Wrong secret", HTTPStatus: 200}, "Wrong secret"},
		"old key only":   {200, `{"error":10,"errorMessage":"Captured already.","data":{}}`, Error{Code: CodeStatusFixed, Message: "Captured already.", HTTPStatus: 200}, "Captured already (error 10); next: read in the message"},
		"both keys":      {200, `{"error":10,"errMessage":"New","errorMessage":"Old"}`, Error{Code: CodeStatusFixed, Message: "New", HTTPStatus: 200}, "New (error 10)"},
		"no message":     {200, `{"error":112,"data":[1]}`, Error{Code: CodeBusy, HTTPStatus: 200}, "Another operation on this payment is under way (error 112)"},
		"unknown code":   {200, `{"error":777,"errMessage":"Odd","data":"x"}`, Error{Code: 777, Message: "Odd", HTTPStatus: 200}, "Odd (error 777)"},
		"shed":           {503, `{"error":125,"errMessage":"Starting","data":null}`, Error{Code: CodeStarting, Message: "Starting", HTTPStatus: 503, RetryAfter: 7 * time.Second}, "HTTP 503"},
		"too many":       {429, `{"error":124,"errMessage":"Slowly","data":null}`, Error{Code: CodeTooManyRequests, Message: "Slowly", HTTPStatus: 429, RetryAfter: 7 * time.Second}, "HTTP 429"},
		"a bug of ours":  {500, `{"error":4,"errMessage":"Internal error","data":null}`, Error{Code: CodeInternal, Message: "Internal error", HTTPStatus: 500}, "HTTP 500"},
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := gateway(t, test.status, test.answer)
			got := callOnce(t, client)
			test.want.Call = "set_accept"
			if diff := cmp.Diff(&test.want, got); diff != "" {
				t.Error(diff)
			}
			if !strings.Contains(got.Error(), test.says) {
				t.Errorf("%v does not say %q", got, test.says)
			}
		})
	}
}

// Whatever is not a usable answer leaves the outcome unknown, and says so.
func TestClientUnusableAnswers(t *testing.T) {
	good := sampleText(t, "set_accept.answer")
	for name, test := range map[string]struct {
		status int
		answer string
		says   string
	}{
		"garbage":         {200, "<html>hello</html>", "not the interface's JSON"},
		"nothing":         {200, "", "not the interface's JSON"},
		"no error key":    {200, `{}`, "not the interface's JSON"},
		"an array":        {200, `[]`, "not the interface's JSON"},
		"cut short":       {200, good[:len(good)-20], "not the interface's JSON"},
		"two answers":     {200, good + good, "not the interface's JSON"},
		"duplicate names": {200, `{"error":0,"error":2,"data":{}}`, "not the interface's JSON"},
		"bad UTF-8":       {200, "{\"error\":0,\"data\":{\"status\":\"\xff\"}}", "not the interface's JSON"},
		"page not found":  {404, "404 page not found", "HTTP 404"},
		"error 0 at 404":  {404, good, "error 0 under HTTP 404"},
		"error 0 at 202":  {202, good, "error 0 under HTTP 202"},
		"null data":       {200, `{"error":0,"data":null}`, "no data"},
		"absent data":     {200, `{"error":0}`, "no data"},
		"data of a kind":  {200, `{"error":0,"data":"x"}`, "no data"},
		"another shape":   {200, `{"error":0,"data":{"total_sum":"much"}}`, "another shape"},
		"oversize":        {200, `{"error":0,"data":{},"x":"` + strings.Repeat("x", maxAnswerBytes) + `"}`, "larger than 1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := gateway(t, test.status, test.answer)
			got := callOnce(t, client)
			if got.Code != CodeOutcomeUnknown || got.HTTPStatus != test.status || got.Err == nil {
				t.Errorf("%+v; want code %d, status %d and a cause", got, CodeOutcomeUnknown, test.status)
			}
			if text := got.Error(); !strings.Contains(text, test.says) || !strings.Contains(text, "status form") {
				t.Errorf("%s does not say %q and what to do", text, test.says)
			}
		})
	}
	// Just below the limit is taken.
	padding := maxAnswerBytes - len(`{"error":0,"data":{},"x":""}`)
	client, _ := gateway(t, 200, `{"error":0,"data":{},"x":"`+strings.Repeat("x", padding)+`"}`)
	if _, err := client.Status(context.Background(), "a1"); err != nil {
		t.Error(err)
	}
}

func TestClientDoesNotFollowRedirects(t *testing.T) {
	var reached atomic.Bool
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer thief.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := httptest.NewServer(http.RedirectHandler(thief.URL, status))
		// Not even if the caller's client would.
		for _, own := range []*http.Client{nil, {}, {CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}} {
			got := callOnce(t, &Client{BaseURL: server.URL, Secret: hidden, HTTP: own})
			if got.HTTPStatus != status || got.Code != CodeOutcomeUnknown {
				t.Errorf("%d: %+v", status, got)
			}
		}
		server.Close()
	}
	if reached.Load() {
		t.Error("the secret went where the redirect pointed")
	}
}

func TestClientTimeouts(t *testing.T) {
	release := make(chan struct{})
	hang := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body/set_accept" {
			w.WriteHeader(200)
			io.WriteString(w, `{"error":0,`)
			w.(http.Flusher).Flush()
		}
		<-release
	}))
	defer hang.Close()
	defer close(release)

	// The caller's own limits.
	got := callOnce(t, &Client{BaseURL: hang.URL, Secret: hidden, HTTP: &http.Client{Timeout: 20 * time.Millisecond}})
	if got.Code != CodeOutcomeUnknown || !errors.Is(got, context.DeadlineExceeded) || got.HTTPStatus != 0 {
		t.Errorf("no answer: %+v", got)
	}
	for timeout := 50 * time.Millisecond; timeout < time.Minute; timeout *= 2 { // until the answer has begun before its end
		got = callOnce(t, &Client{BaseURL: hang.URL + "/body", Secret: hidden, HTTP: &http.Client{Timeout: timeout}})
		if got.HTTPStatus != 0 {
			break
		}
	}
	if got.Code != CodeOutcomeUnknown || !errors.Is(got, context.DeadlineExceeded) || got.HTTPStatus != 200 {
		t.Errorf("half an answer: %+v", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := (&Client{BaseURL: hang.URL}).Status(ctx, "a1")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}

	// Without any, 15 seconds: look at the deadline that the transport sees.
	for _, own := range []time.Duration{0, time.Minute} {
		var left time.Duration
		client := &Client{BaseURL: hang.URL, HTTP: &http.Client{Timeout: own, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			deadline, _ := r.Context().Deadline()
			left = time.Until(deadline)
			return nil, errors.New("no network here")
		})}}
		client.Status(context.Background(), "a1")
		want := defaultTimeout
		if own != 0 {
			want = own
		}
		if left > want || left < want-5*time.Second {
			t.Errorf("with a time-out of %v the call has %v", own, left)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		client.Status(ctx, "a1")
		if own == 0 && left < 59*time.Minute {
			t.Errorf("a deadline of the context was cut to %v", left)
		}
	}
}

// Over TLS as over plain HTTP, the wait that an answer names is told if it can be one, whatever else the answer is; and
// the connection is given back.
func TestClientRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"7": 7 * time.Second, "0": 0, "": 0, "-1": 0, "soon": 0, "7s": 0, "Wed, 18 Dec 2024 11:15:34 GMT": 0,
		"86400": 24 * time.Hour, "86401": 0, "99999999999999999999": 0,
	} {
		for _, answer := range []string{`{"error":125,"errMessage":"Starting","data":null}`, "<html>a proxy's own page</html>"} {
			body := &closed{Reader: strings.NewReader(answer)}
			client := &Client{BaseURL: "https://pay.example.uz", Secret: hidden, HTTP: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				if r.URL.String() != "https://pay.example.uz/set_accept" {
					t.Errorf("it goes to %s", r.URL)
				}
				return &http.Response{StatusCode: 503, Header: http.Header{"Retry-After": {header}}, Body: body}, nil
			})}}
			if got := callOnce(t, client); got.RetryAfter != want || got.HTTPStatus != 503 || !body.done {
				t.Errorf("%q: %+v, closed %t; want %v", header, got, body.done, want)
			}
		}
	}
}

// closed is a body that knows whether it was closed.
type closed struct {
	io.Reader
	done bool
}

func (c *closed) Close() error { c.done = true; return nil }

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestClientWithoutGateway(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	if got := callOnce(t, &Client{BaseURL: server.URL, Secret: hidden}); got.Code != CodeOutcomeUnknown || got.Err == nil {
		t.Errorf("%+v", got)
	}
}

// What can be seen to be wrong is not sent.
func TestClientSendsNothingWrong(t *testing.T) {
	ctx := context.Background()
	for name, call := range map[string]func(*Client) error{
		"no sum":          func(c *Client) error { _, err := c.Prepare(ctx, PrepareRequest{}); return err },
		"a sum in words":  func(c *Client) error { _, err := c.Prepare(ctx, PrepareRequest{TotalSum: "ten"}); return err },
		"no uuid":         func(c *Client) error { _, err := c.Pay(ctx, "", PayRequest{}); return err },
		"a path for uuid": func(c *Client) error { _, err := c.Pay(ctx, "../refund", PayRequest{}); return err },
		"a query in it":   func(c *Client) error { _, err := c.VerificationInfo(ctx, "a?b"); return err },
		"no base": func(c *Client) error {
			_, err := (&Client{Secret: c.Secret}).Status(ctx, "a")
			return err
		},
		"a base without scheme": func(c *Client) error {
			_, err := (&Client{BaseURL: strings.TrimPrefix(c.BaseURL, "http://"), Secret: c.Secret}).Status(ctx, "a")
			return err
		},
		"a base without host": func(c *Client) error {
			_, err := (&Client{BaseURL: "http:///pay", Secret: c.Secret}).Status(ctx, "a")
			return err
		},
		"another scheme": func(c *Client) error {
			_, err := (&Client{BaseURL: "ftp://pay.example.uz", Secret: c.Secret}).Status(ctx, "a")
			return err
		},
	} {
		client, last := gateway(t, 200, "{}")
		err := call(client)
		var failure *Error
		if !errors.As(err, &failure) || failure.Code != CodeDataFormat || failure.HTTPStatus != 0 ||
			failure.Call == "" || failure.Err == nil || !strings.Contains(failure.Message, "not sent") {
			t.Errorf("%s: %v", name, err)
		}
		if last.Method != "" {
			t.Errorf("%s was sent: %+v", name, *last)
		}
		checkHidden(t, name, fmt.Sprintf("%+v", err))
	}
}

func TestClientTrace(t *testing.T) {
	var exchanges []Exchange
	client, _ := gateway(t, 200, `{"error":0,"data":{"id":1},"octo_secret":"`+hidden+`"}`)
	client.Trace = func(e Exchange) { exchanges = append(exchanges, e) }
	if _, err := client.Pay(context.Background(), "ab-12", PayRequest{PAN: "8600313260861293", CVC2: "123", Exp: "2602", Method: MethodUzcard}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Status(context.Background(), "a1"); err != nil {
		t.Fatal(err)
	}
	client.BaseURL = "http://127.0.0.1:1"
	client.Status(context.Background(), "a1")
	if len(exchanges) != 3 {
		t.Fatalf("%d exchanges", len(exchanges))
	}
	first := exchanges[0]
	if first.Method != "POST" || first.Path != "/pay/ab-12" || first.Status != 200 || first.Duration <= 0 || first.Err != nil {
		t.Errorf("%+v", first)
	}
	if got, want := string(first.Request), `{"pan":"860031******1293","exp":"2602","method":"uzcard","cvc2":"••••••","email":""}`; got != want {
		t.Errorf("request %s, want %s", got, want)
	}
	if got, want := string(first.Answer), `{"error":0,"data":{"id":1},"octo_secret":"••••••"}`; got != want {
		t.Errorf("answer %s, want %s", got, want)
	}
	checkHidden(t, "the trace", string(exchanges[1].Request)+string(exchanges[1].Answer))
	if last := exchanges[2]; last.Status != 0 || last.Err == nil || last.Answer != nil {
		t.Errorf("%+v", last)
	}
}
