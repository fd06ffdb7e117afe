package wire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"holdfast/internal/payment"
	"holdfast/internal/processor/wire"
)

// TestWords: nothing in a cause is or could be a card number, a phone or a secret, and it is one short line.
func TestWords(t *testing.T) {
	for say, want := range map[string]string{
		"card 8600313260861293 refused":       "m: card •••• refused",
		"card 8600 3132 6086-1293.":           "m: card ••••.",
		"refNum 010967385013":                 "m: refNum 010967385013",
		"call 998901234533 or 998 90 1234533": "m: call •••• or ••••",
		"code hunter2 is wrong\n\x00now":      "m: code •••• is wrong  now",
		"of 12":                               "m: of 12",
		"13 digits: 8600313260861-":           "m: 13 digits: ••••-",
		"12 digits: 860031326086 ":            "m: 12 digits: 860031326086 ",
		"after 99812 ms, PIN4":                "m: after 99812 ms, ••••",
		strings.Repeat("1", 1195) + "=8600313260861293=" + strings.Repeat("1", 1195) + "=hunter2": "m: ••••=••••=••••=••••", // however long
	} {
		if got := wire.Words("m", say, true, "hunter2", "PIN4", "12", ""); got != want {
			t.Errorf("%q becomes %q, want %q", say, got, want)
		}
	}
	if got := wire.Words("", "998901234533", false); got != "998901234533" {
		t.Errorf("without phones: %q", got)
	}
	if got := wire.Words("m", strings.Repeat("x", 10_000), false); len(got) > 310 {
		t.Errorf("%d bytes", len(got))
	}
}

// TestUndone: a request that did nothing refuses the operation that it was the first to ask for, and proves nothing of any other.
func TestUndone(t *testing.T) {
	for _, c := range []struct {
		ask  payment.Ask
		kind payment.Kind
		asks int
		want payment.Outcome
	}{
		{payment.Send, payment.OpHold, 1, payment.Refused},
		{payment.Send, payment.OpCapture, 2, payment.Unknown},
		{payment.Send, payment.OpVerify, 2, payment.Refused}, // no money is at stake
		{payment.Query, payment.OpHold, 1, payment.Unknown},
		{payment.Query, payment.OpHold, 2, payment.Unknown},
		{payment.Query, payment.OpVerify, 2, payment.Unknown},
		{payment.Continue, payment.OpHold, 2, payment.Unknown},
	} {
		op := payment.Operation{Kind: c.kind, Ask: c.ask, Asks: c.asks}
		a := wire.Undone(&op, payment.Unavailable, "no connection")
		if a.Outcome != c.want || (a.Reason == payment.Unavailable) != (c.want == payment.Refused) || !strings.HasPrefix(a.Cause, "no connection") {
			t.Errorf("%s of a %s, question %d: %s %s (%s), want %s", c.ask, c.kind, c.asks, a.Outcome, a.Reason, a.Cause, c.want)
		}
	}
}

func TestSecretNeverPrints(t *testing.T) {
	secret := wire.Secret("hunter2")
	text, err := json.Marshal(map[string]any{"a": secret})
	for _, said := range []string{fmt.Sprintf("%v %s %q %#v %x", secret, secret, secret, secret, secret), string(text)} {
		if strings.Contains(said, "hunter2") || strings.Contains(said, "68756e74657232") || err != nil {
			t.Errorf("%s, %v", said, err)
		}
	}
}

// TestPost: what each failure of a call proves.
func TestPost(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 1 { // centres do not take chunks
			t.Errorf("%s: a length of %d", r.URL.Path, r.ContentLength)
		}
		switch r.URL.Path {
		case "/denied":
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(401)
		case "/proxy":
			w.WriteHeader(401)
		case "/long":
			w.Write(make([]byte, 2<<20))
		case "/half":
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("half"))
		case "/half502":
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(502)
			w.Write([]byte("half"))
		case "/away":
			http.Redirect(w, r, "/denied", http.StatusTemporaryRedirect)
		case "/reset":
			connection, _, err := http.NewResponseController(w).Hijack()
			if err := errors.Join(err, connection.(*net.TCPConn).SetLinger(0), connection.Close()); err != nil {
				t.Error(err)
			}
		}
	}))
	t.Cleanup(server.Close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err := errors.Join(err, closed.Close()); err != nil {
		t.Fatal(err)
	}
	through := wire.RoundTripper(nil, 1)
	for address, want := range map[string]struct {
		reply  wire.Reply
		unsent bool
		cause  string
	}{
		server.URL + "/":                         {wire.Reply{Status: 200}, false, ""},
		server.URL + "/denied":                   {wire.Reply{Status: 401, Denied: true}, false, ""},
		server.URL + "/proxy":                    {wire.Reply{Status: 401}, false, ""},
		server.URL + "/away":                     {wire.Reply{Status: 307}, false, ""},
		server.URL + "/half502":                  {wire.Reply{Status: 502}, false, ""},
		server.URL + "/half":                     {wire.Reply{}, false, "no answer: unexpected EOF"},
		server.URL + "/long":                     {wire.Reply{}, false, "an answer above 1 MiB"},
		server.URL + "/reset":                    {wire.Reply{}, false, "no answer: read: connection reset by peer"}, // it may have been acted on
		"http://" + closed.Addr().String() + "/": {wire.Reply{}, true, "no connection"},
	} {
		to, err := http.NewRequest(http.MethodPost, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		buffer := wire.Buffer()
		reply, lost := wire.Post(t.Context(), through, to, []byte("x"), buffer)
		if reply.Status != 0 && buffer.Len() > 0 {
			t.Errorf("%s: a piece of an answer is left: %q", address, buffer)
		}
		wire.Release(buffer)
		if reply != want.reply || (lost != nil) != (want.cause != "") || lost != nil && (lost.Unsent != want.unsent || !strings.HasPrefix(lost.Cause, want.cause)) {
			t.Errorf("%s: %+v, %+v; want %+v", address, reply, lost, want)
		}
	}
	// Who was given up was not answered, and perhaps was asked.
	ended, end := context.WithCancelCause(t.Context())
	end(errors.New("the gateway stops"))
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	for ctx, want := range map[context.Context]string{ended: "given up: the gateway stops", late: "no answer in time"} {
		to, err := http.NewRequest(http.MethodPost, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, lost := wire.Post(ctx, through, to, []byte("x"), new(bytes.Buffer)); lost == nil || lost.Unsent || lost.Cause != want {
			t.Errorf("%+v, want %s", lost, want)
		}
	}
	through.(*http.Transport).CloseIdleConnections()
}

// TestWithin: what ends first ends a question.
func TestWithin(t *testing.T) {
	begun := time.Now()
	for _, has := range []time.Duration{0, time.Minute, time.Hour} {
		ctx, cancel := t.Context(), func() {}
		if has > 0 {
			ctx, cancel = context.WithDeadline(ctx, begun.Add(has))
		}
		within, stop := wire.Within(ctx, 10*time.Minute)
		want := 10 * time.Minute
		if has == time.Minute {
			want = has
		}
		if end, limited := within.Deadline(); !limited || end.Sub(begun) < want || end.Sub(begun) > want+30*time.Second {
			t.Errorf("%v: ends after %v, want %v", has, end.Sub(begun), want)
		}
		stop()
		cancel()
	}
}

// TestAppendID: an id goes back as what it was. A number is one only if nothing of it is lost on the way.
func TestAppendID(t *testing.T) {
	for id, want := range map[string]string{
		"271828": `271828`, "0": `0`, "007": `"007"`, "": `""`, "a1": `"a1"`, "-1": `"-1"`,
		"999999999999999999": `999999999999999999`, "9999999999999999999": `"9999999999999999999"`,
	} {
		if got := string(wire.AppendID(nil, id)); got != want {
			t.Errorf("%q goes back as %s, want %s", id, got, want)
		}
	}
}

// TestCouldBeCard: 13 digits and more.
func TestCouldBeCard(t *testing.T) {
	for text, want := range map[string]bool{"": false, "860031326086": false, "8600313260861": true, "8600313260861293": true, "86003132-60861293": false, ":600313260861293": false, "/600313260861293": false} {
		if wire.CouldBeCard(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

// TestTolerantJSON: a number or its text, one or several.
func TestTolerantJSON(t *testing.T) {
	var got struct {
		A, B, C wire.Integer
		D       wire.Text
		E, F    wire.List[wire.Text]
		G       wire.List[struct{ X wire.Text }]
	}
	if err := json.Unmarshal([]byte(`{"A":7,"B":"7","C":null,"D":860,"E":["x",1],"F":[],"G":{"X":"y"}}`), &got); err != nil {
		t.Fatal(err)
	}
	seven := wire.Integer{N: 7, Set: true}
	if got.A != seven || got.B != seven || got.C.Set || got.D != "860" || len(got.E) != 2 || got.E[1] != "1" || len(got.G) != 1 || got.G[0].X != "y" {
		t.Errorf("%+v", got)
	}
	for _, bad := range []string{`{"A":"8600313260861293x"}`, `{"A":1.5}`, `{"A":true}`, `{"D":{}}`, `{"A":`} {
		err := json.Unmarshal([]byte(bad), &got)
		if err == nil || strings.Contains(wire.DecodeError(err), "86003") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
