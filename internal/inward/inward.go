// Package inward answers HTTP/1.1 calls on kept connections on one goroutine for each connection, without the
// second goroutine, the timers and most of the garbage that net/http makes anew for each request. What is not
// a plain POST it hands, connection and all, to net/http.
//
// A plain POST has a short head without any oddity, and a body of a length that is said and at most 64 KiB. head.go
// says what that is, and it is strict: whatever could be understood in two ways is for net/http to understand, or to
// refuse. From then on the connection is net/http's for good.
//
// A handler finds everything as net/http has it, but for this: the end of a request's context is that of its
// connection. It ends neither with the request nor when the client goes away in mid-call: a payment is finished all
// the same. A request, its header and its body are made for it alone, and may be kept; the ResponseWriter and its
// header may not be used after the handler has returned, for the next answer on the connection is written with the same.
// Who reads a body while he writes an answer of more than 4 KiB loses the rest of the body, as with net/http. There are
// no trailers.
package inward

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Server serves an http.Server's handler.
type Server struct {
	// HTTP has the handler, the limits and the hooks, and serves what is not a plain POST. Its Serve is not to be
	// called by others, its ServeTLS may be: then all is net/http's. ConnContext is called once more when
	// a connection becomes net/http's, ConnState tells of such a connection as of one.
	HTTP *http.Server

	prepared sync.Once
	others   others
	tell     func(net.Conn, http.ConnState)

	closing   atomic.Bool
	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	none      chan struct{} // closed when closing, and no connection is left
}

const (
	bufferBytes = 4 << 10         // for a request's head, and of an answer before its length must be known
	mostWait    = 1 * time.Second // after a failure to accept

	mostForgiven = 4 // line ends after a request; net/http, too, bears with old clients that send some

	lingerBytes = 256 << 10 // of a request that is cut off
	lingerFor   = 500 * time.Millisecond
)

func (s *Server) prepare() {
	s.prepared.Do(func() {
		s.others.came, s.others.shut = make(chan net.Conn), make(chan struct{})
		s.listeners, s.conns, s.none = make(map[net.Listener]struct{}), make(map[*conn]struct{}), make(chan struct{})
	})
}

// hook has ConnState told of a connection that is handed over as of one that was there before. It is called before
// net/http serves any: net/http reads the hook without a lock.
func (s *Server) hook() {
	s.tell = func(net.Conn, http.ConnState) {}
	if tell := s.HTTP.ConnState; tell != nil {
		s.tell = tell
		s.HTTP.ConnState = func(c net.Conn, state http.ConnState) {
			if _, known := c.(*conn); !known || state != http.StateNew {
				tell(c, state)
			}
		}
	}
}

// Serve serves the listener's connections until Shutdown or Close, and then returns http.ErrServerClosed.
func (s *Server) Serve(l net.Listener) error {
	s.prepare()
	defer l.Close()
	s.mu.Lock()
	if s.closing.Load() {
		s.mu.Unlock()
		return http.ErrServerClosed
	}
	s.others.serve.Do(func() {
		s.others.of = l
		s.hook()
		go s.HTTP.Serve(&s.others)
	})
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()

	base := context.Background()
	if s.HTTP.BaseContext != nil {
		base = s.HTTP.BaseContext(l)
	}
	base = context.WithValue(base, http.ServerContextKey, s.HTTP)
	var wait time.Duration
	for {
		socket, err := l.Accept()
		var passing interface{ Temporary() bool }
		switch {
		case err == nil:
			wait = 0
			s.take(base, socket)
		case s.closing.Load():
			return http.ErrServerClosed
		case errors.As(err, &passing) && passing.Temporary(): // such as too many open files
			wait = min(max(2*wait, 5*time.Millisecond), mostWait)
			s.logf("inward: cannot accept, trying again in %v: %v", wait, err)
			select {
			case <-time.After(wait):
			case <-s.others.shut:
			}
		default:
			return err
		}
	}
}

// take serves a new connection.
func (s *Server) take(base context.Context, socket net.Conn) {
	c := &conn{Conn: socket, s: s, buf: make([]byte, bufferBytes), header: make(http.Header)}
	ctx := base
	if s.HTTP.ConnContext != nil {
		ctx = s.HTTP.ConnContext(ctx, c)
	}
	ctx, c.cancel = context.WithCancel(context.WithValue(ctx, http.LocalAddrContextKey, socket.LocalAddr()))
	blank := http.Request{Method: http.MethodPost, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: socket.RemoteAddr().String()}
	c.blank = blank.WithContext(ctx)
	s.mu.Lock()
	if s.closing.Load() {
		s.mu.Unlock()
		c.cancel()
		socket.Close()
		s.tell(c, http.StateClosed)
		return
	}
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	s.tell(c, http.StateNew)
	go c.serve()
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.checkNone()
}

func (s *Server) checkNone() {
	if !s.closing.Load() || len(s.conns) > 0 {
		return
	}
	select {
	case <-s.none:
	default:
		close(s.none)
	}
}

// stop has no connection come any more, and shuts those that wait for a request.
func (s *Server) stop() (err error) {
	s.prepare()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing.Store(true)
	for l := range s.listeners {
		err = errors.Join(err, l.Close())
	}
	clear(s.listeners)
	for c := range s.conns {
		if c.state.CompareAndSwap(idle, shut) {
			c.Close()
		}
	}
	s.checkNone()
	return err
}

// Shutdown closes the listeners and what is idle, and waits until the requests under way are answered, or for the
// context's end, which it then returns.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.stop()
	if err := s.HTTP.Shutdown(ctx); err != nil {
		return err
	}
	select {
	case <-s.none:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close closes the listeners and all connections, and ends the contexts of the requests under way.
func (s *Server) Close() error {
	err := s.stop()
	s.mu.Lock()
	for c := range s.conns {
		c.cancel()
		c.Close()
	}
	s.mu.Unlock()
	return errors.Join(err, s.HTTP.Close())
}

func (s *Server) logf(format string, args ...any) {
	if s.HTTP.ErrorLog != nil {
		s.HTTP.ErrorLog.Printf(format, args...)
	} else {
		log.Printf(format, args...)
	}
}

// others is the listener from which net/http accepts the connections that are handed to it.
type others struct {
	serve sync.Once
	of    net.Listener // where they came from first
	came  chan net.Conn
	close sync.Once
	shut  chan struct{}
}

func (o *others) Accept() (net.Conn, error) {
	select {
	case c := <-o.came:
		return c, nil
	case <-o.shut:
		return nil, net.ErrClosed
	}
}

func (o *others) Close() error {
	o.close.Do(func() { close(o.shut) })
	return nil
}

func (o *others) Addr() net.Addr { return o.of.Addr() }

// What a connection is doing.
const (
	idle int32 = iota // it waits for a request; Shutdown may shut it
	busy
	shut
)

// conn is a connection. To the hooks, and to net/http when it is handed over, it is a net.Conn, and reading from it
// begins with what was read here and not used.
type conn struct {
	net.Conn
	s        *Server
	state    atomic.Int32
	blank    *http.Request // what its requests have in common
	cancel   context.CancelFunc
	header   http.Header // of the answer under way
	buf      []byte
	from, to int   // of buf: what was read and not used
	read     bound // of reading
	write    bound // of writing
	left     bool  // it is somebody else's
	forgiven int   // line ends before the next request
}

// Read is for whoever the connection was handed to.
func (c *conn) Read(p []byte) (int, error) {
	if c.from == c.to {
		c.buf = nil
		return c.Conn.Read(p)
	}
	n := copy(p, c.buf[c.from:c.to])
	c.from += n
	return n, nil
}

// CloseWrite is for net/http.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// NetConn is the connection below, as (*tls.Conn).NetConn is.
func (c *conn) NetConn() net.Conn { return c.Conn }

// bound is a socket's deadline. It is set anew only when it has to be: one that comes early by a quarter of the time
// is good enough, and a busy connection then hardly ever changes a timer.
type bound struct{ at time.Time }

func (b *bound) set(socket func(time.Time) error, at, now time.Time) error {
	if at.IsZero() && b.at.IsZero() || !b.at.After(at) && at.Sub(b.at) <= at.Sub(now)/4 {
		return nil
	}
	b.at = at
	return socket(at)
}

// after is when a time of the configuration is over; zero: never.
func after(now time.Time, limit time.Duration) time.Time {
	if limit <= 0 {
		return time.Time{}
	}
	return now.Add(limit)
}

func orElse(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// serve serves a connection to its end, or until it is handed over.
func (c *conn) serve() {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			stack := make([]byte, 64<<10)
			c.s.logf("http: panic serving %v: %v\n%s", c.RemoteAddr(), p, stack[:runtime.Stack(stack, false)])
		}
		c.cancel()
		if !c.left {
			c.Close()
			c.s.tell(c, http.StateClosed)
		}
		c.s.forget(c)
	}()
	handler := c.s.HTTP.Handler
	if handler == nil {
		handler = http.DefaultServeMux
	}
	wait := orElse(c.s.HTTP.ReadHeaderTimeout, c.s.HTTP.ReadTimeout) // for the first
	for {
		e := c.next(wait)
		if e == nil {
			return
		}
		c.s.tell(c, http.StateActive)
		handler.ServeHTTP(&e.answer, &e.request)
		if c.left || !e.finish() {
			return
		}
		c.tidy()
		c.forgiven = mostForgiven
		c.s.tell(c, http.StateIdle)
		c.state.Store(idle)
		if c.s.closing.Load() {
			return
		}
		wait = orElse(c.s.HTTP.IdleTimeout, c.s.HTTP.ReadTimeout)
	}
}

// next waits for a request; nil: none is coming, or not here.
func (c *conn) next(wait time.Duration) *exchange {
	var h head
	var began time.Time
	waits := false
	blank := c.forgiven
	for {
		for ; blank > 0 && c.to > 0 && (c.buf[0] == '\r' || c.buf[0] == '\n'); blank-- {
			c.to = copy(c.buf, c.buf[1:c.to])
		}
		if c.to == 0 && !waits { // line ends that came with the last request are not the beginning of this one
			waits = true
			now := time.Now()
			if c.read.set(c.SetReadDeadline, after(now, wait), now) != nil {
				return nil
			}
		}
		if c.to > 0 {
			if began.IsZero() {
				if began = time.Now(); !c.state.CompareAndSwap(idle, busy) {
					return nil // Shutdown was faster
				}
			}
			switch h.parse(c.buf[:c.to]) {
			case plain:
				if e := c.exchange(&h, began); e != nil {
					return e
				}
				c.hand()
				return nil
			case odd:
				c.hand()
				return nil
			}
			if c.to == len(c.buf) {
				c.hand()
				return nil
			}
			limit := orElse(c.s.HTTP.ReadHeaderTimeout, c.s.HTTP.ReadTimeout)
			if c.read.set(c.SetReadDeadline, after(began, limit), began) != nil {
				return nil
			}
		}
		n, err := c.Conn.Read(c.buf[c.to:])
		c.to += n
		if n == 0 && err != nil {
			if err == io.EOF && c.to > 0 {
				c.hand()
			}
			return nil
		}
	}
}

// tidy moves what came after a request to the front. What was read may be a card number, and is wiped.
func (c *conn) tidy() {
	rest := copy(c.buf, c.buf[c.from:c.to])
	clear(c.buf[rest:c.to])
	c.from, c.to = 0, rest
}

// hand gives the connection to net/http, which sets deadlines of its own.
func (c *conn) hand() {
	if c.SetDeadline(time.Time{}) != nil {
		return
	}
	select {
	case c.s.others.came <- c:
		c.left = true
	case <-c.s.others.shut:
	}
}

// linger reads on for a moment, so that the client can read the answer before it learns that the rest of its request
// was not wanted.
func (c *conn) linger() {
	c.CloseWrite()
	if c.SetReadDeadline(time.Now().Add(lingerFor)) == nil {
		io.CopyN(io.Discard, c.Conn, lingerBytes)
	}
}

// exchange is a request and its answer. It is made anew for each, since handlers may keep requests.
type exchange struct {
	c       *conn
	began   time.Time
	request http.Request
	body    body
	answer  answer
}

// body is a request's body.
type body struct {
	e     *exchange
	mu    sync.Mutex
	left  int   // of it, to be read
	err   error // why it cannot be read
	timed bool  // the handler has set a deadline
	shut  bool  // by the handler, or because that has returned
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shut {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.take(p)
}

func (b *body) take(p []byte) (n int, err error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.left == 0:
		return 0, io.EOF
	}
	c := b.e.c
	p = p[:min(len(p), b.left)]
	if c.from < c.to {
		n = copy(p, c.buf[c.from:c.to])
		c.from += n
	} else {
		if !b.timed {
			b.timed = true
			b.err = c.read.set(c.SetReadDeadline, after(b.e.began, c.s.HTTP.ReadTimeout), time.Now())
		}
		if b.err == nil {
			n, b.err = c.Conn.Read(p)
			if b.err == io.EOF {
				b.err = io.ErrUnexpectedEOF
			}
		}
	}
	if b.left -= n; b.left == 0 {
		b.err = io.EOF
	}
	return n, b.err
}

func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shut = true
	return nil
}

// drain reads what the handler did not. false: it does not come.
func (b *body) drain() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shut = true
	if b.left == 0 {
		return true
	}
	rest := make([]byte, min(b.left, bufferBytes))
	for b.left > 0 {
		if _, err := b.take(rest); err != nil && err != io.EOF {
			return false
		}
	}
	return true
}
