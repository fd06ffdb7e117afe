// Package outward speaks HTTP/1.1 to the servers that a gateway calls again and again: processing
// centres, and merchants at their notify_urls.
//
// Its Transport is an http.RoundTripper that writes the request and reads the answer on the caller's own
// goroutine, over connections that are kept. net/http's own hands each call to two further goroutines and
// back, which costs more than all the rest of a small call. It sends each request once: whether a call that
// broke off took effect is for the caller to find out. It follows no redirect and asks no proxy.
package outward

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Transport is an http.RoundTripper. Set its fields before its first use. The zero Transport is ready.
//
// A request's body must have a known length, and an answer's body must be closed. Errors of connecting
// are *net.OpError with Op "dial": then nothing was sent. A call ends at its context's deadline, and at most
// 50 ms after its context was cancelled.
type Transport struct {
	// Dial connects; default a net.Dialer that gives up after 5 s.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS is for https; default: the system's roots, TLS 1.2 at least.
	TLS *tls.Config
	// MostIdle is how many connections to one server are kept while nobody uses them; default 256.
	MostIdle int
	// IdleFor is how long a connection that nobody uses is kept, up to twice that; default 30 s, before most
	// servers close it.
	IdleFor time.Duration

	mu       sync.Mutex
	idle     map[server][]*conn // the one used last is the last
	sweeping bool               // sweep will come
}

const (
	dialWithin    = 5 * time.Second
	idleFor       = 30 * time.Second
	mostIdle      = 256
	bufferBytes   = 4 << 10
	headerBytes   = 64 << 10 // of an answer
	mostHundreds  = 5        // answers 1xx before the one that counts
	drainAtMost   = 64 << 10 // of an answer's body that nobody read to its end
	keepTCPAlive  = 15 * time.Second
	keptServers   = 4096 // servers with idle connections; with more of them the oldest connections are closed
	tlsShakesHand = 5 * time.Second
	unwatched     = 50 * time.Millisecond // from when on a call heeds that its context was cancelled
)

// server is one that connections lead to.
type server struct {
	secure bool
	host   string // as the URL has it, with a port or without
}

// conn is a connection to one server.
type conn struct {
	net.Conn
	server  server
	limited io.LimitedReader // of an answer's header
	in      *bufio.Reader
	idleAt  time.Time

	socket syscall.RawConn       // what is below; nil: it cannot be reached, and the connection serves one call
	speak  func(fd uintptr) bool // firstWord
	kept   bool                  // it has brought an answer before
	bound  time.Time             // until when it can be read from; zero: watch has set that
	broken error                 // why no more could be read from it
	one    [1]byte               // what is read in vain

	// Of the exchange under way.
	out     []byte // what is to be sent
	spoken  bool   // firstWord was here
	gone    bool   // it found the connection closed
	sent    int    // or sent so many bytes of out
	failed  error  // or could not
	ctx     context.Context
	watched bool        // the end of ctx ends it
	stop    func() bool // ends the watching
}

// RoundTrip sends the request and reads the answer's header; the body comes as it is read.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
		if req.ContentLength <= 0 && req.Body != http.NoBody {
			return nil, errors.New("outward: the request's body has no known length")
		}
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	out := requests.Get().(*[]byte)
	defer func() {
		clear(*out) // it may hold a card number
		if cap(*out) <= 4*bufferBytes {
			requests.Put(out)
		}
	}()
	var err error
	if *out, err = appendRequest((*out)[:0], req); err != nil {
		return nil, err
	}
	for {
		c, err := t.connection(req)
		if err != nil {
			return nil, err
		}
		res, err := c.exchange(t, req, *out)
		if err == nil {
			return res, nil
		}
		c.Close()
		if err != errGone { // else nothing was sent
			return nil, blame(req.Context(), err)
		}
	}
}

// requests are buffers that requests are written in.
var requests = sync.Pool{New: func() any {
	b := make([]byte, 0, bufferBytes)
	return &b
}}

// blame names the context's end where that is why a call broke off.
func blame(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil {
		return cause
	}
	if _, limited := ctx.Deadline(); limited && errors.Is(err, os.ErrDeadlineExceeded) {
		return context.DeadlineExceeded // the socket's clock was a moment faster
	}
	return err
}

// printable reports whether a text has no space, no control character, and no byte above most.
func printable(s string, most byte) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == 0x7f || c > most {
			return false
		}
	}
	return true
}

// appendRequest writes the whole request.
func appendRequest(b []byte, req *http.Request) ([]byte, error) {
	target, host := req.URL.RequestURI(), orElse(req.Host, req.URL.Host)
	if !printable(target, 0xff) {
		return b, asDial(errors.New("outward: the address has a space or a control character: write a space as %20"))
	}
	if !printable(req.URL.Host, 0x7e) || !printable(host, 0x7e) {
		return b, asDial(fmt.Errorf("outward: the host %.200q is not in ASCII: write a national domain in its form xn--…", req.URL.Host))
	}
	b = append(b, orElse(req.Method, http.MethodGet)...)
	b = append(b, ' ')
	b = append(b, target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, "\r\n"...)
	for name, values := range req.Header {
		if name == "Host" || name == "Content-Length" || name == "Connection" || name == "Transfer-Encoding" {
			continue
		}
		for _, value := range values {
			if !sendable(name) || !sendable(value) || strings.Contains(name, ":") || strings.Contains(name, " ") {
				return b, fmt.Errorf("outward: the header %q cannot be sent", name)
			}
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, value...)
			b = append(b, "\r\n"...)
		}
	}
	if req.Close {
		b = append(b, "Connection: close\r\n"...)
	}
	length := int(req.ContentLength)
	if req.Body == nil { // whatever it says
		length = 0
	}
	if length > 0 || req.Method == http.MethodPost || req.Method == http.MethodPut {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(length), 10)
		b = append(b, "\r\n"...)
	}
	b = append(b, "\r\n"...)
	if length > 0 {
		at := len(b)
		b = slices.Grow(b, length)[:at+length]
		if _, err := io.ReadFull(req.Body, b[at:]); err != nil {
			return b, fmt.Errorf("outward: the request's body is shorter than it says: %w", err)
		}
	}
	return b, nil
}

// sendable reports whether a text stays within its line.
func sendable(s string) bool {
	for i := range len(s) {
		if c := s[i]; c == '\r' || c == '\n' || c == 0 {
			return false
		}
	}
	return true
}

// connection is one that is kept, if there is one, or else a new one.
func (t *Transport) connection(req *http.Request) (*conn, error) {
	secure := req.URL.Scheme == "https"
	if !secure && req.URL.Scheme != "http" {
		return nil, fmt.Errorf("outward: the scheme %q is neither http nor https", req.URL.Scheme)
	}
	to := server{secure, req.URL.Host}
	if c := t.take(to); c != nil {
		return c, nil
	}
	host, port := req.URL.Hostname(), req.URL.Port()
	if port == "" {
		port = map[bool]string{false: "80", true: "443"}[secure]
	}
	return t.connect(req.Context(), to, host, net.JoinHostPort(host, port))
}

func (t *Transport) connect(ctx context.Context, to server, host, address string) (*conn, error) {
	dial := t.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialWithin, KeepAlive: keepTCPAlive}).DialContext
	}
	socket, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, asDial(err)
	}
	c := &conn{Conn: socket, server: to}
	c.reach(socket)
	if to.secure {
		cfg := t.TLS.Clone()
		if cfg == nil {
			cfg = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if cfg.ServerName == "" {
			cfg.ServerName = host
		}
		shake, cancel := context.WithTimeout(ctx, tlsShakesHand)
		defer cancel()
		protected := tls.Client(socket, cfg)
		if err := protected.HandshakeContext(shake); err != nil {
			socket.Close()
			return nil, asDial(fmt.Errorf("TLS: %w", err)) // nothing of the request was sent
		}
		c.Conn = protected
	}
	c.limited.R = reader{c}
	c.in = bufio.NewReaderSize(&c.limited, bufferBytes)
	return c, nil
}

func asDial(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return err
	}
	return &net.OpError{Op: "dial", Net: "tcp", Err: err}
}

// take is the connection that was used last, or nil.
func (t *Transport) take(from server) *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.idle[from]
	if len(list) == 0 {
		return nil
	}
	c := list[len(list)-1]
	if left := list[:len(list)-1]; len(left) > 0 {
		t.idle[from] = left
	} else {
		delete(t.idle, from)
	}
	return c
}

// keep keeps a connection for the next call.
func (t *Transport) keep(c *conn) {
	c.kept, c.idleAt = true, time.Now()
	var shut []*conn
	t.mu.Lock()
	if t.idle == nil {
		t.idle = make(map[server][]*conn)
	}
	list := t.idle[c.server]
	if len(list) >= orElse(t.MostIdle, mostIdle) {
		shut, list = append(shut, list[0]), list[1:]
	}
	if len(list) == 0 && len(t.idle) >= keptServers {
		for server, others := range t.idle { // any will do
			shut = append(shut, others...)
			delete(t.idle, server)
			break
		}
	}
	t.idle[c.server] = append(list, c)
	if !t.sweeping {
		t.sweeping = true
		time.AfterFunc(orElse(t.IdleFor, idleFor), t.sweep)
	}
	t.mu.Unlock()
	for _, c := range shut {
		c.Close()
	}
}

// sweep closes what nobody has used for long, and comes again as long as anything is kept: a server that is never
// called again costs no connection for ever.
func (t *Transport) sweep() {
	keep := orElse(t.IdleFor, idleFor)
	oldest := time.Now().Add(-keep)
	var shut []*conn
	t.mu.Lock()
	for server, list := range t.idle {
		for len(list) > 0 && !list[0].idleAt.After(oldest) {
			shut, list = append(shut, list[0]), list[1:]
		}
		if t.idle[server] = list; len(list) == 0 {
			delete(t.idle, server)
		}
	}
	if t.sweeping = len(t.idle) > 0; t.sweeping {
		time.AfterFunc(keep, t.sweep)
	}
	t.mu.Unlock()
	for _, c := range shut {
		c.Close()
	}
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// CloseIdleConnections closes the connections that nobody uses.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	all := t.idle
	t.idle = nil
	t.mu.Unlock()
	for _, list := range all {
		for _, c := range list {
			c.Close()
		}
	}
}

// exchange sends the request, written in out, and reads the answer's header.
func (c *conn) exchange(t *Transport, req *http.Request, out []byte) (*http.Response, error) {
	c.ctx, c.watched, c.out = req.Context(), false, out
	err := c.send()
	c.out = nil
	if err != nil {
		return nil, c.end(err)
	}
	for range mostHundreds {
		c.limited.N = headerBytes
		res, err := http.ReadResponse(c.in, req)
		if err != nil {
			if c.limited.N <= 0 {
				err = fmt.Errorf("the answer's header is longer than %d bytes", headerBytes)
			}
			return nil, c.end(c.unquoted(err))
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			c.limited.N = 1<<63 - 1
			res.Body = &body{ReadCloser: res.Body, t: t, c: c, again: !res.Close && !req.Close && res.StatusCode != http.StatusSwitchingProtocols}
			return res, nil
		}
	}
	return nil, c.end(errors.New("the server sends one interim answer after another"))
}

// errGone is that the server had closed the connection before anything was sent on it.
var errGone = errors.New("outward: the connection was closed while it was idle")

// send sends out, and waits until something of the answer is there, or for unwatched at most.
//
// Over a socket without TLS that is one wait within one hold of the socket: sent before the wait is prepared, the
// request could be answered before, and each exchange would have to try to read in vain first. The read in vain
// comes before the request instead, and sees whether the server has left the connection open.
func (c *conn) send() error {
	c.spoken, c.gone, c.sent, c.failed = false, false, 0, nil
	if c.socket != nil {
		if err := c.begin(); err != nil {
			return err
		}
		err := c.socket.Read(c.speak)
		if !c.spoken && errors.Is(err, os.ErrDeadlineExceeded) { // this process stood still for so long
			if err = c.watch(); err == nil {
				err = c.socket.Read(c.speak)
			}
		}
		switch {
		case c.gone:
			return errGone
		case c.failed != nil:
			return c.failed
		case !c.spoken || err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case c.sent == len(c.out):
			return nil
		}
	}
	if err := c.watch(); err != nil {
		return err
	}
	_, err := c.Conn.Write(c.out[c.sent:])
	return err
}

// begin bounds the wait for the answer's first word. Most answers are there before its end, and nobody needs to
// watch their contexts. A bound of the call before is good enough while most of it is still to come.
func (c *conn) begin() error {
	now := time.Now()
	deadline, limited := c.ctx.Deadline()
	if c.bound.Sub(now) > unwatched/2 && !(limited && deadline.Before(c.bound)) {
		return nil
	}
	c.bound = now.Add(unwatched)
	if limited && deadline.Before(c.bound) {
		c.bound = deadline
	}
	return c.SetReadDeadline(c.bound)
}

// watch has the end of the context end the exchange.
func (c *conn) watch() error {
	if c.watched {
		return nil
	}
	c.bound = time.Time{}
	deadline, _ := c.ctx.Deadline() // zero: none
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	c.watched = true
	c.stop = context.AfterFunc(c.ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	return nil
}

// end ends the watching, and passes an error on.
func (c *conn) end(err error) error {
	c.release()
	return err
}

// release ends the watching. false: the context has ended, and may still be about to set the connection's deadline.
func (c *conn) release() bool {
	c.ctx = nil
	return !c.watched || c.stop()
}

// reader reads an answer for as long as its context allows.
type reader struct{ c *conn }

func (r reader) Read(p []byte) (int, error) {
	n, err := r.c.Conn.Read(p)
	if n == 0 && !r.c.watched && errors.Is(err, os.ErrDeadlineExceeded) {
		if err = r.c.watch(); err == nil {
			n, err = r.c.Conn.Read(p)
		}
	}
	r.c.broken = err
	return n, err
}

// unquoted is an error of reading an answer without what it quotes of that: what a server says where an answer should be may
// be a secret or a card number, is as long as it likes, and errors are kept.
func (c *conn) unquoted(err error) error {
	if c.broken != nil && errors.Is(err, c.broken) || errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF {
		return err
	}
	said := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "net/"), "http: ")
	if quote := strings.IndexAny(said, "\":;"); quote >= 0 {
		said = said[:quote]
	}
	return errors.New(strings.TrimSpace(said))
}

// body is an answer's body; at its end the connection is free for the next call.
type body struct {
	io.ReadCloser
	t     *Transport
	c     *conn
	again bool // the connection can be used again
	ended bool // the body was read to its end
	shut  bool
}

func (b *body) Read(p []byte) (int, error) {
	if b.shut {
		return 0, http.ErrBodyReadAfterClose // the connection may be another call's by now
	}
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		b.ended = true
	case err != nil:
		b.again = false
		err = blame(b.c.ctx, b.c.unquoted(err))
	}
	return n, err
}

// Close ends the exchange. A short rest that nobody read is read, so that the connection can be kept.
func (b *body) Close() error {
	if b.shut {
		return nil
	}
	b.shut = true
	if b.again && !b.ended {
		_, err := io.CopyN(io.Discard, b.ReadCloser, drainAtMost)
		b.ended = err == io.EOF
	}
	if b.c.release() && b.again && b.ended && b.c.socket != nil && b.c.quiet() {
		b.t.keep(b.c)
		return nil
	}
	return b.c.Close()
}

// quiet reports whether the server has said nothing beyond its answer, as far as that has been taken from the socket: of
// what is still in there firstWord will know. TLS takes whole records, and hands out no more of one than it is asked for.
func (c *conn) quiet() bool {
	if c.in.Buffered() > 0 || !c.server.secure {
		return c.in.Buffered() == 0
	}
	if c.SetReadDeadline(time.Unix(1, 0)) != nil { // bound is zero: over TLS each exchange is watched
		return false
	}
	_, err := c.Conn.Read(c.one[:])
	return errors.Is(err, os.ErrDeadlineExceeded)
}
