package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A load generator shares the machine with what it measures, so it must cost little itself. One
// goroutine has all sockets, those of the payers and those on which notifications come: a message
// costs one write and one read, and one look for what is ready serves many of them; there is no
// goroutine to wake, no timer to set and nothing to allocate. HTTP/1.1 is written and read by hand, for
// servers that send a Content-Length, as the gateway and the standard library do for small answers.

const (
	dialWithin     = 5 * time.Second
	answerWithin   = 30 * time.Second
	longestMessage = 1 << 20
)

// loop is all sockets of a run.
type loop struct {
	poll  *poller
	conns []*conn // by file descriptor
	now   time.Time
}

// conn is one socket, and what is done with what comes in on it.
type conn struct {
	fd    int
	in    []byte
	take  func(m *message) error // a whole message has come; it is good until take returns
	lost  func(err error)        // the connection has ended; an error of take ends it too
	ready func() error           // in place of reading: a listener
}

func newLoop() (*loop, error) {
	p, err := newPoller()
	if err != nil {
		return nil, fmt.Errorf("bench cannot wait for sockets: %w", err)
	}
	return &loop{poll: p, now: time.Now()}, nil
}

func (l *loop) close() {
	for _, c := range l.conns {
		if c != nil {
			l.drop(c)
		}
	}
	l.poll.close()
}

// add takes a socket in.
func (l *loop) add(c *conn) error {
	if err := l.poll.add(c.fd); err != nil {
		return errors.Join(err, closeSocket(c.fd))
	}
	for len(l.conns) <= c.fd {
		l.conns = append(l.conns, nil)
	}
	l.conns[c.fd] = c
	return nil
}

// drop closes a socket without a word to its owner.
func (l *loop) drop(c *conn) {
	l.poll.forget(c.fd)
	l.conns[c.fd] = nil
	closeSocket(c.fd)
}

// run serves the sockets. Before each look at them it asks next how long it may wait, and ends when that says so.
func (l *loop) run(next func() (wait time.Duration, end bool)) error {
	return onThread(func() error {
		if err := standBack(); err != nil {
			return err
		}
		return l.serveAll(next)
	})
}

func (l *loop) serveAll(next func() (wait time.Duration, end bool)) error {
	for {
		l.now = time.Now()
		wait, end := next()
		if end {
			return nil
		}
		ready, err := l.poll.wait(wait)
		if err != nil {
			return err
		}
		for _, fd := range ready {
			c := l.conns[fd]
			if c == nil {
				continue // dropped since
			}
			if err := l.serve(c); err != nil {
				if l.conns[fd] == c {
					l.drop(c)
				}
				c.lost(err)
			}
		}
	}
}

// serve reads once: what does not fit now makes the socket ready again.
func (l *loop) serve(c *conn) error {
	l.now = time.Now()
	if c.ready != nil {
		return c.ready()
	}
	if cap(c.in)-len(c.in) < 4<<10 {
		if len(c.in) > longestMessage {
			return fmt.Errorf("a message of more than %d bytes is too long", longestMessage)
		}
		c.in = append(make([]byte, 0, 2*cap(c.in)+8<<10), c.in...)
	}
	n, err := read(c.fd, c.in[len(c.in):cap(c.in)])
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return nil
	case err != nil:
		return err
	case n == 0:
		return io.EOF
	}
	c.in = c.in[:len(c.in)+n]
	used := 0
	for used < len(c.in) {
		m, size, err := parse(c.in[used:])
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		used += size
		if err := c.take(&m); err != nil {
			return err
		}
		if l.conns[c.fd] != c {
			return nil // take has dropped it
		}
	}
	c.in = c.in[:copy(c.in, c.in[used:])]
	return nil
}

// send writes a message whole. Each side waits for the other's answer before it writes again, so there is
// always room for one.
func (c *conn) send(b []byte) error {
	n, err := write(c.fd, b)
	if err == nil && n < len(b) {
		err = fmt.Errorf("the system took %d of %d bytes only", n, len(b))
	}
	return err
}

// dial opens a connection to address.
func dial(address string) (fd int, err error) {
	c, err := net.DialTimeout("tcp", address, dialWithin)
	if err != nil {
		return 0, err
	}
	return detach(c.(*net.TCPConn))
}

// detach takes a socket from the Go runtime, which has a poller of its own.
func detach(c interface {
	syscall.Conn
	io.Closer
}) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err == nil {
		var duplicated error
		err = raw.Control(func(f uintptr) { fd, duplicated = duplicateSocket(f) })
		err = errors.Join(err, duplicated)
	}
	return fd, errors.Join(err, c.Close())
}

// message is an HTTP request or answer.
type message struct {
	line, header, body []byte
}

var errNoLength = errors.New("the message has no Content-Length")

// parse reads the message that in begins with; its size is 0 while it is not whole.
func parse(in []byte) (m message, size int, err error) {
	end := bytes.Index(in, []byte("\r\n\r\n"))
	if end < 0 {
		return m, 0, nil
	}
	m.line, m.header, _ = bytes.Cut(in[:end+2], []byte("\r\n"))
	text := m.value("Content-Length")
	if text == nil {
		return m, 0, errNoLength
	}
	length := 0
	for _, digit := range text {
		if digit < '0' || digit > '9' || length > longestMessage {
			return m, 0, fmt.Errorf("%q is no length of a message", text)
		}
		length = 10*length + int(digit-'0')
	}
	if size = end + 4 + length; size > len(in) {
		return m, 0, nil
	}
	m.body = in[end+4 : size]
	return m, size, nil
}

// value is a header's value, or nil.
func (m *message) value(name string) []byte {
	for rest := m.header; len(rest) > 0; {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		if len(line) > len(name) && line[len(name)] == ':' && strings.EqualFold(string(line[:len(name)]), name) {
			return bytes.TrimSpace(line[len(name)+1:])
		}
	}
	return nil
}

// status is an answer's HTTP status.
func (m *message) status() (int, error) {
	if len(m.line) >= 12 && bytes.HasPrefix(m.line, []byte("HTTP/1.1 ")) {
		if n, err := strconv.Atoi(string(m.line[9:12])); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%.40q is not an HTTP/1.1 answer", m.line)
}

// last reports whether the sender closes the connection after the message.
func (m *message) last() bool { return strings.EqualFold(string(m.value("Connection")), "close") }

// appendPost writes a request.
func appendPost(b []byte, path, host string, body []byte) []byte {
	b = append(append(b, "POST "...), path...)
	b = append(append(b, " HTTP/1.1\r\nHost: "...), host...)
	b = append(b, "\r\nContent-Type: application/json\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	return append(append(b, "\r\n\r\n"...), body...)
}

// field is what stands between a key and the end mark in a JSON text that is known in form.
func field(text []byte, key string, end byte) []byte {
	i := bytes.Index(text, []byte(key))
	if i < 0 {
		return nil
	}
	rest := text[i+len(key):]
	j := bytes.IndexByte(rest, end)
	if j < 0 {
		return nil
	}
	return rest[:j]
}
