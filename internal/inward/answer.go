package inward

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// answer is the http.ResponseWriter. A small answer is sent in one piece when its handler has returned.
type answer struct {
	e       *exchange
	status  int   // 0: none yet
	length  int64 // of the body, as the handler said; -1: it did not
	written int64
	kind    bool // the body's type is said, or not to be guessed
	dated   bool
	close   bool // the connection ends with it
	begun   bool // the head is complete
	chunked bool
	timed   bool // the handler has set a deadline
	over    bool // the handler has returned
	err     error
	*pieces
}

// pieces are what is to be sent.
type pieces struct{ head, body []byte }

var pool = sync.Pool{New: func() any { return &pieces{make([]byte, 0, 512), make([]byte, 0, bufferBytes)} }}

// Header is the header of the answer, for as long as its handler runs.
func (w *answer) Header() http.Header { return w.e.c.header }

func (w *answer) WriteHeader(status int) {
	switch {
	case w.e.c.left:
		w.e.c.s.logf("http: response.WriteHeader on hijacked connection")
		return
	case w.over:
		return
	case w.status != 0:
		w.e.c.s.logf("http: superfluous response.WriteHeader call")
		return
	case status < 100 || status > 999:
		panic(fmt.Sprintf("invalid WriteHeader code %v", status))
	}
	if w.pieces == nil {
		w.pieces = pool.Get().(*pieces)
	}
	w.head = appendStatus(w.head[:0], status)
	if status < 200 && status != http.StatusSwitchingProtocols { // another will follow
		w.appendHeader()
		w.head = append(w.head, "\r\n"...)
		w.push()
		w.kind, w.dated, w.close = false, false, false
		return
	}
	w.status = status
	w.appendHeader()
	h := w.Header()
	if said, ok := h["Content-Length"]; ok && len(said) > 0 && said[0] != "" && mayHaveBody(status) {
		n, err := strconv.ParseInt(said[0], 10, 64)
		if err != nil || n < 0 {
			w.e.c.s.logf("http: invalid Content-Length of %q", said[0])
		} else {
			w.length = n
		}
	}
}

// mayHaveBody: an answer without a body says nothing about it either.
func mayHaveBody(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

func appendStatus(b []byte, status int) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	if text := http.StatusText(status); text != "" {
		b = append(b, text...)
	} else {
		b = append(b, "status code "...)
		b = strconv.AppendInt(b, int64(status), 10)
	}
	return append(b, "\r\n"...)
}

// appendHeader writes the header as it is now, but for what says where the answer ends.
func (w *answer) appendHeader() {
	for name, values := range w.Header() {
		switch name {
		case "Transfer-Encoding":
			w.kind = true
			continue
		case "Content-Length", "Trailer":
			continue
		case "Connection":
			if len(values) > 0 && strings.EqualFold(values[0], "close") {
				w.close = true
				continue
			}
		case "Content-Type":
			w.kind = true
			if w.status == http.StatusNotModified {
				continue
			}
		case "Content-Encoding":
			w.kind = w.kind || len(values) > 0 && values[0] != ""
		case "Date":
			w.dated = true
		}
		if !isToken(name) {
			continue
		}
		for _, value := range values {
			w.head = append(w.head, name...)
			w.head = append(w.head, ": "...)
			w.head = appendValue(w.head, value)
			w.head = append(w.head, "\r\n"...)
		}
	}
}

func isToken(name string) bool {
	for i := range len(name) {
		if !inToken[name[i]] {
			return false
		}
	}
	return name != ""
}

// appendValue keeps a value within its line.
func appendValue(b []byte, value string) []byte {
	at := len(b)
	b = append(b, strings.Trim(value, " \t\r\n")...)
	for i := at; i < len(b); i++ {
		if b[i] == '\r' || b[i] == '\n' {
			b[i] = ' '
		}
	}
	return b
}

// begin completes the head, once it is known whether more than p will come of the body.
func (w *answer) begin(p []byte, whole bool) {
	w.begun = true
	// Who sends all before he reads anything must be let finish, or both would wait.
	if !w.e.body.drain() || w.e.c.s.closing.Load() {
		w.close = true
	}
	if mayHaveBody(w.status) {
		if whole && w.length < 0 {
			w.length = int64(len(p))
		}
		if w.length >= 0 {
			w.head = append(w.head, "Content-Length: "...)
			w.head = strconv.AppendInt(w.head, w.length, 10)
			w.head = append(w.head, "\r\n"...)
		} else {
			w.chunked = true
			w.head = append(w.head, "Transfer-Encoding: chunked\r\n"...)
		}
		if !w.kind && len(p) > 0 {
			w.head = append(w.head, "Content-Type: "...)
			w.head = append(w.head, http.DetectContentType(p)...)
			w.head = append(w.head, "\r\n"...)
		}
	}
	if !w.dated {
		w.head = append(w.head, date(time.Now())...)
	}
	if w.close {
		w.head = append(w.head, "Connection: close\r\n"...)
	}
	w.head = append(w.head, "\r\n"...)
}

// date is the line with the date, which is written once a second.
func date(now time.Time) string {
	second := now.Unix()
	if d := today.Load(); d != nil && d.second == second {
		return d.line
	}
	d := &dated{second, "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"}
	today.Store(d)
	return d.line
}

type dated struct {
	second int64
	line   string
}

var today atomic.Pointer[dated]

func (w *answer) Write(p []byte) (int, error) {
	switch {
	case w.e.c.left:
		return 0, http.ErrHijacked
	case w.over:
		return 0, errOver
	case w.status == 0:
		w.WriteHeader(http.StatusOK)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if !mayHaveBody(w.status) {
		return 0, http.ErrBodyNotAllowed
	}
	if w.written += int64(len(p)); w.length >= 0 && w.written > w.length {
		return 0, http.ErrContentLength
	}
	rest := p
	if room := bufferBytes - len(w.body); len(p) > room {
		w.body = append(w.body, p[:room]...)
		w.send(w.body, false)
		w.body = w.body[:0]
		if rest = p[room:]; len(rest) > bufferBytes {
			w.send(rest, false)
			rest = nil
		}
	}
	w.body = append(w.body, rest...)
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

var errOver = errors.New("inward: the handler has returned")

// send sends the head, if it has not been sent, and a part of the body.
func (w *answer) send(p []byte, last bool) {
	if !w.begun {
		w.begin(p, last)
	}
	if len(p) > 0 {
		if w.chunked {
			w.head = strconv.AppendInt(w.head, int64(len(p)), 16)
			w.head = append(w.head, "\r\n"...)
		}
		if len(p) <= bufferBytes {
			w.head = append(w.head, p...)
		} else {
			w.push()
			w.write(p)
		}
		if w.chunked {
			w.head = append(w.head, "\r\n"...)
		}
	}
	if w.chunked && last {
		w.head = append(w.head, "0\r\n\r\n"...)
	}
	w.push()
}

func (w *answer) push() {
	if len(w.head) > 0 {
		w.write(w.head)
		w.head = w.head[:0]
	}
}

func (w *answer) write(p []byte) {
	if w.err != nil {
		return
	}
	c := w.e.c
	if !w.timed {
		w.timed = true
		w.err = c.write.set(c.SetWriteDeadline, after(w.e.began, c.s.HTTP.WriteTimeout), time.Now())
	}
	if w.err == nil {
		_, w.err = c.Conn.Write(p)
	}
}

// finish sends what has not been sent. false: the connection is of no more use.
func (e *exchange) finish() (again bool) {
	w, c := &e.answer, e.c
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.over = true
	w.send(w.body, true)
	if cap(w.head) <= 4*bufferBytes {
		w.head, w.body = w.head[:0], w.body[:0]
		pool.Put(w.pieces)
	}
	w.pieces = nil
	clear(c.header)
	if e.request.MultipartForm != nil {
		e.request.MultipartForm.RemoveAll()
	}
	short := mayHaveBody(w.status) && w.length >= 0 && w.length != w.written
	if !w.close && !short && w.err == nil {
		return true
	}
	if e.body.left > 0 {
		c.linger()
	}
	return false
}

// The rest is for http.ResponseController. A deadline may come early by a quarter of the time until then.

func (w *answer) Flush() { w.FlushError() }

func (w *answer) FlushError() error {
	switch {
	case w.e.c.left:
		return http.ErrHijacked
	case w.over:
		return errOver
	case w.status == 0:
		w.WriteHeader(http.StatusOK)
	}
	w.send(w.body, false)
	w.body = w.body[:0]
	return w.err
}

func (w *answer) SetReadDeadline(t time.Time) error {
	w.e.body.timed = true
	return w.e.c.read.set(w.e.c.SetReadDeadline, t, time.Now())
}

func (w *answer) SetWriteDeadline(t time.Time) error {
	w.timed = true
	return w.e.c.write.set(w.e.c.SetWriteDeadline, t, time.Now())
}

// Hijack hands the connection over to the handler, which closes it.
func (w *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c := w.e.c
	if c.left {
		return nil, nil, http.ErrHijacked
	}
	if w.over {
		return nil, nil, errOver
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return nil, nil, err
	}
	c.left = true
	c.s.tell(c, http.StateHijacked)
	return c, bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c)), nil
}
