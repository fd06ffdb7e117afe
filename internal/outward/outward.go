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

	"golang.org/x/sys/unix"
)

// Transport is an http.RoundTripper. Set its fields before its first use. The zero Transport is ready.
//
// A request's body must have a known length, and an answer's body must be closed. Errors of connecting
// are *net.OpError with Op "dial": then nothing was sent.
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
	idle     map[string][]*conn // by "https://host:port"; the one used last is the last
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
)

// conn is a connection to one server.
type conn struct {
	net.Conn
	server  string
	limited io.LimitedReader // of an answer's header
	in      *bufio.Reader
	out     []byte
	raw     syscall.RawConn // of the socket
	peek    func(fd uintptr)
	dead    bool
	idleAt  time.Time
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
	c, err := t.connection(req)
	if err != nil {
		return nil, err
	}
	res, err := c.exchange(t, req)
	if err != nil {
		c.Close()
		return nil, blame(req.Context(), err)
	}
	return res, nil
}

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

// connection is one that is kept, if there is one alive, or else a new one.
func (t *Transport) connection(req *http.Request) (*conn, error) {
	secure := req.URL.Scheme == "https"
	if !secure && req.URL.Scheme != "http" {
		return nil, fmt.Errorf("outward: the scheme %q is neither http nor https", req.URL.Scheme)
	}
	host, port := req.URL.Hostname(), req.URL.Port()
	if port == "" {
		port = map[bool]string{false: "80", true: "443"}[secure]
	}
	address := net.JoinHostPort(host, port)
	server := req.URL.Scheme + "://" + address
	for c := t.take(server); c != nil; c = t.take(server) {
		if c.alive() {
			return c, nil
		}
		c.Close()
	}
	return t.connect(req.Context(), server, address, host, secure)
}

func (t *Transport) connect(ctx context.Context, server, address, host string, secure bool) (*conn, error) {
	dial := t.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialWithin, KeepAlive: keepTCPAlive}).DialContext
	}
	socket, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, asDial(err)
	}
	c := &conn{Conn: socket, server: server}
	c.watch(socket)
	if secure {
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
	c.limited.R = c.Conn
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

// watch prepares for alive.
func (c *conn) watch(socket net.Conn) {
	s, ok := socket.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	c.raw = raw
	look := make([]unix.PollFd, 1)
	c.peek = func(fd uintptr) {
		look[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}
		// Something to read, or the end, on a connection where nothing was asked: it is of no more use.
		n, err := unix.Poll(look, 0)
		c.dead = n != 0 || err != nil
	}
}

// alive reports whether the server has left an idle connection open.
func (c *conn) alive() bool {
	if c.raw == nil {
		return true
	}
	return c.raw.Control(c.peek) == nil && !c.dead
}

// take is the connection that was used last, or nil.
func (t *Transport) take(server string) *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.idle[server]
	if len(list) == 0 {
		return nil
	}
	c := list[len(list)-1]
	if left := list[:len(list)-1]; len(left) > 0 {
		t.idle[server] = left
	} else {
		delete(t.idle, server)
	}
	return c
}

// keep keeps a connection for the next call.
func (t *Transport) keep(c *conn) {
	c.idleAt = time.Now()
	var shut []*conn
	t.mu.Lock()
	if t.idle == nil {
		t.idle = make(map[string][]*conn)
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

// exchange writes the request in one piece and reads the answer's header.
func (c *conn) exchange(t *Transport, req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	deadline, _ := ctx.Deadline() // zero: none
	if err := c.SetDeadline(deadline); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	if err := c.write(req); err != nil {
		stop()
		return nil, err
	}
	for range mostHundreds {
		c.limited.N = headerBytes
		res, err := http.ReadResponse(c.in, req)
		if err != nil {
			stop()
			if c.limited.N <= 0 {
				err = fmt.Errorf("the answer's header is longer than %d bytes", headerBytes)
			}
			return nil, err
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			c.limited.N = 1<<63 - 1
			res.Body = &body{ReadCloser: res.Body, t: t, c: c, ctx: ctx, stop: stop, again: !res.Close && !req.Close}
			return res, nil
		}
	}
	stop()
	return nil, errors.New("the server sends one interim answer after another")
}

// write sends the whole request.
func (c *conn) write(req *http.Request) error {
	b := append(c.out[:0], orElse(req.Method, http.MethodGet)...)
	b = append(b, ' ')
	b = append(b, req.URL.RequestURI()...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, orElse(req.Host, req.URL.Host)...)
	b = append(b, "\r\n"...)
	for name, values := range req.Header {
		if name == "Host" || name == "Content-Length" || name == "Connection" || name == "Transfer-Encoding" {
			continue
		}
		for _, value := range values {
			if strings.ContainsAny(name, "\r\n: ") || strings.ContainsAny(value, "\r\n\x00") {
				return fmt.Errorf("outward: the header %q cannot be sent", name)
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
	if req.ContentLength > 0 || req.Method == http.MethodPost || req.Method == http.MethodPut {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, req.ContentLength, 10)
		b = append(b, "\r\n"...)
	}
	b = append(b, "\r\n"...)
	if req.ContentLength > 0 && req.Body != nil {
		at := len(b)
		b = slices.Grow(b, int(req.ContentLength))[:at+int(req.ContentLength)]
		if _, err := io.ReadFull(req.Body, b[at:]); err != nil {
			return fmt.Errorf("outward: the request's body is shorter than it says: %w", err)
		}
	}
	if cap(b) <= 4*bufferBytes {
		c.out = b[:0]
	}
	_, err := c.Conn.Write(b)
	clear(b) // it may hold a card number
	return err
}

// body is an answer's body; at its end the connection is free for the next call.
type body struct {
	io.ReadCloser
	t     *Transport
	c     *conn
	ctx   context.Context
	stop  func() bool // of what ends the exchange with its context
	again bool        // the connection can be used again
	ended bool        // the body was read to its end
	shut  bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		b.ended = true
	case err != nil:
		b.again = false
		err = blame(b.ctx, err)
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
		n, err := io.CopyN(io.Discard, b.ReadCloser, drainAtMost)
		b.ended = err == io.EOF && n < drainAtMost
	}
	// Once its context has ended, that may still be about to set the connection's deadline.
	if b.stop() && b.again && b.ended && b.c.in.Buffered() == 0 {
		b.t.keep(b.c)
		return nil
	}
	return b.c.Close()
}
