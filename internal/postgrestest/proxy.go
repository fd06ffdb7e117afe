package postgrestest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Proxy stands between a client and a server and can cut a connection at any message: before the server learns of a
// COMMIT, or after it has done it and before the client hears so. It speaks the protocol's version 3 without TLS.
type Proxy struct {
	dsn, address string
	listener     net.Listener
	watch        atomic.Pointer[func(Message) Verdict]
	words        atomic.Pointer[strings.Replacer] // for what the server says
	work         sync.WaitGroup

	mu     sync.Mutex
	open   map[*link]bool
	closed bool   // no further connection is let in
	leads  string // to which database; "": the one that is asked for
	count  int
}

// Message is one message on its way through a proxy.
type Message struct {
	Connection int  // counted from 1, in the order in which they came
	FromServer bool // else it is the client's
	// Type as in the protocol. A client's: Q query, P parse, B bind, E execute, S sync; a server's: C command
	// complete, E error, Z ready for the next. 0 is the client's first message, which has no type.
	Type byte
	// Text is the SQL of Q, P, B and E, the tag of C ("COMMIT", "UPDATE 32"), the SQLSTATE of a server's E.
	Text string
}

// Verdict is what a proxy does with a message.
type Verdict int

// The verdicts. A cut connection is reset on both sides.
const (
	Pass      Verdict = iota
	CutBefore         // whom it is for never gets it
	CutAfter          // he gets it, and nothing after it
)

// NewProxy makes a proxy in front of a database and ends it with the test.
func NewProxy(t testing.TB, dsn string) *Proxy {
	t.Helper()
	cfg, err := pgconn.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(dsn)
	if err != nil {
		t.Fatalf("a proxy leads to one server: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to.Host = listener.Addr().String()
	p := &Proxy{dsn: to.String(), address: net.JoinHostPort(cfg.Host, fmt.Sprint(cfg.Port)), listener: listener, open: make(map[*link]bool)}
	p.Watch(nil)
	p.work.Go(p.accept)
	t.Cleanup(func() {
		p.Close()
		listener.Close()
		p.work.Wait()
	})
	return p
}

// DSN is the database's, through the proxy.
func (p *Proxy) DSN() string { return p.dsn }

// Watch has f judge every message from now on; nil lets all pass. f may wait, and so hold its message back, or do
// something else meanwhile; it is called for several connections at once.
func (p *Proxy) Watch(f func(Message) Verdict) {
	if f == nil {
		f = func(Message) Verdict { return Pass }
	}
	p.watch.Store(&f)
}

// Once gives the first message that matches the verdict, and lets all others pass.
func Once(v Verdict, match func(Message) bool) func(Message) Verdict {
	var done atomic.Bool
	return func(m Message) Verdict {
		if match(m) && done.CompareAndSwap(false, true) {
			return v
		}
		return Pass
	}
}

// Say has the server say other words in its rows and in what it reports of itself: oldnew are pairs of texts of the same
// length, the second in place of the first.
func (p *Proxy) Say(t testing.TB, oldnew ...string) {
	t.Helper()
	for i := 0; i < len(oldnew); i += 2 {
		if len(oldnew[i]) != len(oldnew[i+1]) { // lengths stand before texts
			t.Fatalf("%q is not as long as %q", oldnew[i+1], oldnew[i])
		}
	}
	p.words.Store(strings.NewReplacer(oldnew...))
}

// Cut cuts every connection there is now.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.open {
		l.cut()
	}
}

// Close cuts every connection and lets no further one in until Open.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Cut()
}

// Lead cuts every connection there is now, and leads those that come from now on to another database of the server;
// "" is the one that they ask for. What a process does whose connections were cut so is done elsewhere.
func (p *Proxy) Lead(database string) {
	p.mu.Lock()
	p.leads = database
	p.mu.Unlock()
	p.Cut()
}

// Open lets connections in again.
func (p *Proxy) Open() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = false
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // the test ends
		}
		p.work.Go(func() { p.serve(client) })
	}
}

// serve carries the messages of one connection until one side ends it or it is cut.
func (p *Proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.address)
	if err != nil {
		reset(client)
		return
	}
	l := &link{client: client, server: server, prepared: make(map[string]string), portals: make(map[string]string)}
	p.mu.Lock()
	if p.closed {
		l.cut()
	}
	p.count++
	l.number = p.count
	p.open[l] = true
	leads := p.leads
	p.mu.Unlock()
	var sides sync.WaitGroup
	sides.Go(func() {
		if l.first(leads) == nil && p.carry(l, false) {
			return // the server has ended the connection: its last words are on their way, and end it for the client
		}
		l.cut()
	})
	sides.Go(func() {
		p.carry(l, true)
		l.cut()
	})
	sides.Wait()
	p.mu.Lock()
	delete(p.open, l)
	p.mu.Unlock()
}

// carry hands on the messages of one side. gone: whom they are for has ended the connection.
func (p *Proxy) carry(l *link, fromServer bool) (gone bool) {
	from, to := l.client, l.server
	if fromServer {
		from, to = l.server, l.client
	}
	for {
		head := make([]byte, 5)
		body, err := readMessage(from, head)
		if err != nil {
			return false
		}
		m := Message{Connection: l.number, FromServer: fromServer, Type: head[0]}
		if words := p.words.Load(); words != nil && fromServer && (m.Type == 'D' || m.Type == 'S') {
			body = []byte(words.Replace(string(body)))
		}
		if fromServer {
			m.Text = answered(m.Type, body)
		} else {
			m.Text = l.asked(m.Type, body)
		}
		verdict := (*p.watch.Load())(m)
		if verdict == CutBefore {
			return false
		}
		if _, err := to.Write(append(head, body...)); err != nil {
			return true
		}
		if verdict == CutAfter {
			return false
		}
	}
}

// largest is more than a test's message has.
const largest = 64 << 20

// readMessage reads a message whose head, the last four bytes of which are its length, is as long as given.
func readMessage(from io.Reader, head []byte) (body []byte, err error) {
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(head[len(head)-4:])
	if length < 4 || length > largest {
		return nil, fmt.Errorf("a message of %d bytes", length)
	}
	body = make([]byte, length-4)
	_, err = io.ReadFull(from, body)
	return body, err
}

// link is one client's connection and the one to the server that belongs to it.
type link struct {
	number            int
	client, server    net.Conn
	prepared, portals map[string]string // SQL by name; only the client's side touches them
}

func (l *link) cut() {
	reset(l.client)
	reset(l.server)
}

// reset ends a connection at once: what was not yet sent is not sent, and the other side sees an error.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}

// Codes that stand in the place of the protocol's version in a client's first message.
const (
	wantsTLS       = 80877103
	wantsGSSAPI    = 80877104
	wantsToCancel  = 80877102
	versionOfProto = 3 << 16
)

// first hands on the client's first message, which has no type, to the database that the proxy leads to.
func (l *link) first(leads string) error {
	for {
		head := make([]byte, 4)
		body, err := readMessage(l.client, head)
		if err != nil {
			return err
		}
		if len(body) < 4 {
			return errors.New("a first message without a version")
		}
		switch code := binary.BigEndian.Uint32(body); {
		case code == wantsTLS || code == wantsGSSAPI:
			if _, err := l.client.Write([]byte("N")); err != nil {
				return err
			}
		case code == wantsToCancel:
			_, err := l.server.Write(append(head, body...))
			return err
		case code >= versionOfProto:
			if leads != "" {
				body = withDatabase(body, leads)
				binary.BigEndian.PutUint32(head, uint32(len(head)+len(body)))
			}
			_, err := l.server.Write(append(head, body...))
			return err
		default:
			return fmt.Errorf("a first message of version %d", code)
		}
	}
}

// withDatabase is a first message that asks for another database: the version, and names and values that end with 0,
// the last of them with one more.
func withDatabase(body []byte, database string) []byte {
	changed := slices.Clone(body[:4])
	words := bytes.Split(body[4:], []byte{0})
	for i := 0; i+1 < len(words) && len(words[i]) > 0; i += 2 {
		value := words[i+1]
		if string(words[i]) == "database" {
			value = []byte(database)
		}
		changed = append(append(append(append(changed, words[i]...), 0), value...), 0)
	}
	return append(changed, 0)
}

// asked is the SQL that a client's message is about.
func (l *link) asked(kind byte, body []byte) string {
	words := bytes.SplitN(body, []byte{0}, 3)
	word := func(i int) string {
		if i < len(words) {
			return string(words[i])
		}
		return ""
	}
	switch kind {
	case 'Q':
		return word(0)
	case 'P':
		l.prepared[word(0)] = word(1)
		return word(1)
	case 'B':
		l.portals[word(0)] = l.prepared[word(1)]
		return l.portals[word(0)]
	case 'E':
		return l.portals[word(0)]
	}
	return ""
}

// answered is what a server's message says, as far as tests want to know.
func answered(kind byte, body []byte) string {
	switch kind {
	case 'C':
		return string(bytes.TrimRight(body, "\x00"))
	case 'E':
		for field := range bytes.SplitSeq(body, []byte{0}) {
			if len(field) > 0 && field[0] == 'C' {
				return string(field[1:])
			}
		}
	}
	return ""
}
