package inward

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"
)

const (
	mostFields = 32       // lines of a head
	mostBody   = 64 << 10 // bytes
)

// verdict is what a connection's next bytes are.
type verdict int

const (
	unfinished verdict = iota // a part of a head that may become plain
	plain
	odd // for net/http
)

// head is where the parts of a request's head are in its bytes.
type head struct {
	target span
	fields [mostFields]field
	count  int // of fields
	host   int // the field that says it; -1: none has
	length int // of the body; -1: no field has said it
	size   int // of the head
}

type span struct{ from, to uint16 }

func (s span) of(text string) string { return text[s.from:s.to] }

type field struct{ name, value span }

const (
	method  = "POST "
	version = " HTTP/1.1\r"
)

// parse reads the head of a plain POST. A line that is not as it must be is found as soon as it is there, as by
// net/http, and all that net/http might read in another way is odd.
func (h *head) parse(b []byte) verdict {
	if n := min(len(b), len(method)); string(b[:n]) != method[:n] {
		return odd
	}
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		return unfinished
	}
	target, ok := bytes.CutSuffix(b[len(method):max(end, len(method))], []byte(version))
	if !ok || len(target) == 0 || target[0] != '/' {
		return odd
	}
	for _, c := range target {
		if c <= ' ' || c >= 0x7f {
			return odd
		}
	}
	h.target = span{uint16(len(method)), uint16(len(method) + len(target))}
	h.count, h.host, h.length = 0, -1, -1
	for at := end + 1; ; at = end + 1 {
		if end = bytes.IndexByte(b[at:], '\n'); end < 0 {
			return unfinished
		}
		end += at
		switch {
		case end == at || b[end-1] != '\r':
			return odd
		case end == at+1:
			if h.size = end + 1; h.host < 0 || h.length < 0 {
				return odd
			}
			return plain
		case h.count == mostFields || !h.field(b, at, end-1):
			return odd
		}
	}
}

// field reads a line of the head. false: it is odd.
func (h *head) field(b []byte, from, to int) bool {
	colon := from
	for colon < to && inToken[b[colon]] {
		colon++
	}
	if colon == from || colon == to || b[colon] != ':' {
		return false
	}
	name := b[from:colon]
	from = colon + 1
	for from < to && (b[from] == ' ' || b[from] == '\t') {
		from++
	}
	for from < to && (b[to-1] == ' ' || b[to-1] == '\t') {
		to--
	}
	value := b[from:to]
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	start := colon - len(name)
	h.fields[h.count] = field{span{uint16(start), uint16(colon)}, span{uint16(from), uint16(to)}}
	h.count++
	switch len(name) {
	case len("Host"):
		if is(name, "Host") {
			if h.host >= 0 || len(value) == 0 {
				return false
			}
			for _, c := range value {
				if !inHost[c] {
					return false
				}
			}
			h.host = h.count - 1
		}
	case len("Content-Length"):
		if is(name, "Content-Length") {
			if h.length >= 0 || len(value) == 0 || len(value) > len("65536") {
				return false
			}
			h.length = 0
			for _, c := range value {
				if c < '0' || c > '9' {
					return false
				}
				h.length = 10*h.length + int(c-'0')
			}
			return h.length <= mostBody
		}
	case len("Connection"):
		return !is(name, "Connection") || is(value, "keep-alive")
	case len("Transfer-Encoding"):
		return !is(name, "Transfer-Encoding")
	case len("Expect"): // and Pragma, for which net/http makes a Cache-Control
		return !is(name, "Expect") && !is(name, "Pragma")
	case len("Upgrade"): // and Trailer
		return !is(name, "Upgrade") && !is(name, "Trailer")
	}
	return true
}

func is(b []byte, word string) bool {
	return len(b) == len(word) && strings.EqualFold(string(b), word)
}

// inToken are the bytes of a field's name, inHost those of a host.
var inToken, inHost = bytesOf("!#$%&'*+-.^_`|~"), bytesOf("!$%&()*+,-.:;='[]_~")

func bytesOf(others string) (set [256]bool) {
	for _, c := range others + "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		set[c] = true
	}
	return set
}

// exchange is the request that begins with a head; nil: its target cannot be understood.
func (c *conn) exchange(h *head, began time.Time) *exchange {
	text := string(c.buf[:h.size])
	target := h.target.of(text)
	u, err := url.ParseRequestURI(target)
	if err != nil || u.Host != "" {
		return nil
	}
	e := &exchange{c: c, began: began, request: *c.blank}
	r := &e.request
	r.URL, r.RequestURI = u, target
	r.Header = make(http.Header, h.count-1)
	values := make([]string, h.count)
	for i, f := range h.fields[:h.count] {
		if i == h.host {
			r.Host = f.value.of(text)
			continue
		}
		name := textproto.CanonicalMIMEHeaderKey(f.name.of(text))
		if before, again := r.Header[name]; again {
			r.Header[name] = append(before, f.value.of(text))
			continue
		}
		values[i] = f.value.of(text)
		r.Header[name] = values[i : i+1 : i+1]
	}
	r.ContentLength, r.Body = int64(h.length), http.NoBody
	if h.length > 0 {
		r.Body = &e.body
	}
	e.body = body{e: e, left: h.length}
	e.answer = answer{e: e, length: -1}
	c.from = h.size
	return e
}
