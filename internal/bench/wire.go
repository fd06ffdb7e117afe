package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// A load generator shares the machine with what it measures, so it must cost little itself: this is
// HTTP/1.1 over one kept connection, written and read by hand. It speaks to servers that send a
// Content-Length, as the gateway and the standard library do for small answers.

const (
	dialWithin    = 5 * time.Second
	answerWithin  = 30 * time.Second
	longestAnswer = 1 << 20
)

// conn is one connection to one server.
type conn struct {
	address string // host:port
	host    string // the Host header
	net     net.Conn
	in      *bufio.Reader
	out     []byte
	body    []byte
}

func newConn(address string) *conn { return &conn{address: address, host: address} }

// post sends one request and returns the answer's status and body, which is good until the next call.
func (c *conn) post(path string, body []byte) (status int, answer []byte, err error) {
	if c.net == nil {
		if c.net, err = net.DialTimeout("tcp", c.address, dialWithin); err != nil {
			return 0, nil, err
		}
		if c.in == nil {
			c.in = bufio.NewReaderSize(c.net, 8<<10)
		} else {
			c.in.Reset(c.net)
		}
	}
	status, answer, err = c.exchange(path, body)
	if err != nil {
		c.close()
	}
	return status, answer, err
}

func (c *conn) close() {
	if c.net != nil {
		c.net.Close()
		c.net = nil
	}
}

func (c *conn) exchange(path string, body []byte) (int, []byte, error) {
	b := append(c.out[:0], "POST "...)
	b = append(b, path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, c.host...)
	b = append(b, "\r\nContent-Type: application/json\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	b = append(b, body...)
	c.out = b
	if err := c.net.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return 0, nil, err
	}
	if _, err := c.net.Write(b); err != nil {
		return 0, nil, err
	}
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, nil, fmt.Errorf("%q is not an HTTP/1.1 answer", line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, nil, fmt.Errorf("%q is not an HTTP/1.1 answer", line)
	}
	length, shut, err := readHeader(c.in)
	if err != nil {
		return 0, nil, err
	}
	if length > longestAnswer {
		return 0, nil, fmt.Errorf("an answer of %d bytes is too long", length)
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	if _, err := io.ReadFull(c.in, c.body); err != nil {
		return 0, nil, err
	}
	if shut {
		c.close()
	}
	return status, c.body, nil
}

var errNoLength = errors.New("the message has no Content-Length")

// readHeader reads header lines to their end and returns what matters of them.
func readHeader(in *bufio.Reader) (length int, shut bool, err error) {
	length = -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case len(name) == 14 && strings.EqualFold(string(name), "Content-Length"):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 {
				return 0, false, fmt.Errorf("%q is no length", value)
			}
		case len(name) == 10 && strings.EqualFold(string(name), "Connection"):
			shut = strings.EqualFold(string(bytes.TrimSpace(value)), "close")
		}
	}
	if length < 0 {
		return 0, false, errNoLength
	}
	return length, shut, nil
}
