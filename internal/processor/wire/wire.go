// Package wire is what connectors share of talking to a centre: one bounded HTTP call that says what its
// failure proves, JSON as centres write it, and causes without a secret in them. What a centre's answers
// mean is each connector's own.
package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/processor"
)

// Secret is a password, a token or a key. It prints, logs and marshals as dots.
type Secret string

// String, Format, LogValue and MarshalText keep it out of every log and dump.
func (Secret) String() string               { return Dots }
func (Secret) Format(f fmt.State, _ rune)   { io.WriteString(f, Dots) }
func (Secret) LogValue() slog.Value         { return slog.StringValue(Dots) }
func (Secret) MarshalText() ([]byte, error) { return []byte(Dots), nil }

const (
	idleConns      = 256     // for each host
	maxAnswerBytes = 1 << 20 // no answer that a connector asks for is longer
)

// RoundTripper is the client's Transport, or else one of our own for so many hosts. A RoundTripper follows no
// redirect and keeps no cookie. Ours never asks the environment for a proxy, and speaks HTTP/1.1 only: one
// connection that dies then leaves one question in doubt and not all of them.
func RoundTripper(c *http.Client, hosts int) http.RoundTripper {
	if c != nil && c.Transport != nil {
		return c.Transport
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:    5 * time.Second,
		MaxIdleConns:           hosts * idleConns,
		MaxIdleConnsPerHost:    idleConns,
		IdleConnTimeout:        30 * time.Second, // before the centre closes it while we write to it
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		Protocols:              protocols,
	}
}

// Within is ctx, ended after the time given at the latest. A context that ends before is itself enough: the gateway's
// always does.
func Within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if end, limited := ctx.Deadline(); limited && time.Until(end) <= limit {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, limit)
}

// Reply is that a request was answered; the answer itself is in the buffer, as far as it could be read.
type Reply struct {
	Status int
	Denied bool // HTTP 401 of the centre itself: it has not applied the request
}

// Lost is that a request was not answered.
type Lost struct {
	Unsent bool   // no byte of it can have left
	Cause  string // not yet in words that may be shown (see Words)
}

// Post sends a copy of a request with a body, and reads the answer. It goes where it was configured to go and
// nowhere else, and it is not sent twice: net/http repeats a POST only when it had not written a byte of it.
func Post(ctx context.Context, through http.RoundTripper, to *http.Request, body []byte, answer *bytes.Buffer) (Reply, *Lost) {
	req := to.WithContext(ctx)
	req.Body = io.NopCloser(bytes.NewReader(body))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	req.ContentLength = int64(len(body))
	response, err := through.RoundTrip(req)
	if err != nil {
		return Reply{}, unanswered(ctx, err)
	}
	defer response.Body.Close()
	reply := Reply{Status: response.StatusCode}
	if reply.Status == http.StatusUnauthorized {
		// RFC 9110 §15.5.2: an origin server that answers 401 has not applied the request and says
		// how to authenticate. Without that header it was somebody else who answered.
		reply.Denied = response.Header.Get("WWW-Authenticate") != ""
		return reply, nil
	}
	n, err := answer.ReadFrom(io.LimitReader(response.Body, maxAnswerBytes+1))
	switch {
	case err == nil && n <= maxAnswerBytes:
		return reply, nil
	case reply.Status != http.StatusOK:
		answer.Reset() // the status says enough
		return reply, nil
	case err != nil:
		return Reply{}, unanswered(ctx, err)
	}
	return Reply{}, &Lost{Cause: "an answer above 1 MiB"}
}

// unanswered tells a request that never left from one whose answer was lost.
func unanswered(ctx context.Context, err error) *Lost {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return &Lost{Unsent: true, Cause: "no connection: " + dial.Err.Error()}
	}
	switch cause := context.Cause(ctx); {
	case cause == nil:
	case errors.Is(cause, context.DeadlineExceeded):
		return &Lost{Cause: "no answer in time"}
	default:
		return &Lost{Cause: "given up: " + cause.Error()}
	}
	var network *net.OpError
	if errors.As(err, &network) {
		err = network.Err // the addresses belong into the configuration, not into causes
	}
	return &Lost{Cause: "no answer: " + err.Error()}
}

// Undone is what it proves of an operation that a request about it certainly did nothing: that the operation is refused, if the
// request was the first to ask for it. Of one that was sent before only the centre's own record can say that: the earlier request
// may be under way still.
func Undone(op *payment.Operation, reason payment.Reason, cause string) payment.Answer {
	switch {
	case op.Ask != payment.Send:
		return payment.Answer{Outcome: payment.Unknown, Cause: cause}
	case op.Asks > 1 && op.Kind.MovesMoney():
		return payment.Answer{Outcome: payment.Unknown, Cause: cause + " (it was sent before, and may be under way)"}
	}
	return payment.Answer{Outcome: payment.Refused, Reason: reason, Cause: cause}
}

var buffers = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, 4096)) }}

// Buffer is an empty buffer for an answer; Release gives it back, without the card number that was in it.
func Buffer() *bytes.Buffer { return buffers.Get().(*bytes.Buffer) }

// Release gives a buffer back.
func Release(b *bytes.Buffer) {
	if b.Cap() <= 64<<10 {
		clear(b.Bytes())
		b.Reset()
		buffers.Put(b)
	}
}

// Report writes a question's line of the log: method and code are the centre's, of the call made last.
func Report(ctx context.Context, log *slog.Logger, name, method string, code int64, q *processor.Question, a payment.Answer, took time.Duration) {
	level := slog.LevelInfo
	if a.Outcome == payment.Unknown {
		level = slog.LevelWarn
	}
	if !log.Enabled(ctx, level) {
		return
	}
	op := &q.Operation
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs,
		slog.String("processor", name), slog.String("method", method),
		slog.String("kind", string(op.Kind)), slog.String("ask", string(op.Ask)), slog.String("ref", op.Ref),
		slog.Duration("took", took), slog.String("outcome", string(a.Outcome)), slog.Int64("code", code),
	)
	for _, said := range [...]struct{ name, value string }{{"step", string(a.Step)}, {"reason", string(a.Reason)}, {"cause", a.Cause}} {
		if said.value != "" {
			attrs = append(attrs, slog.String(said.name, said.value))
		}
	}
	log.LogAttrs(ctx, level, "asked processor", attrs...)
}
