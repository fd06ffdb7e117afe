package inward

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// heads are the beginnings of requests, most of them odd.
var heads = []string{
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"POST /set_accept?a=b%20c HTTP/1.1\r\nHost: a.example:8080\r\nUser-Agent: x\r\nContent-Length: 2\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n{}",
	"POST //a/../b#c HTTP/1.1\r\nhost: [::1]\r\ncontent-length:02\r\nconnection: Keep-Alive\r\nx-a: 1\r\nX-A:\t2 \r\nX-Empty:\r\n\r\n{}POST / HTTP/1.1\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nX-Long: \xff\xfe caf\xc3\xa9 \"quoted\"\r\n\r\nabc",
	"POST http://b/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"POST /%zz HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"POST  / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"POST /a b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"POST / HTTP/1.1\nHost: a\nContent-Length: 0\n\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 1\r\n\r\na",
	"POST / HTTP/1.1\r\nHost: a\r\nX: 1\r\n Content-Length: 9\r\nContent-Length: 1\r\n\r\na",
	"POST / HTTP/1.1\r\nHost: a\r\nX: \x00\r\nContent-Length: 1\r\n\r\na",
	"POST / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\nContent-Length: 1\r\n\r\na",
	"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 1\r\n\r\na",
	"POST / HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\nContent-Length: 1\r\n\r\na",
	"\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST /\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"POST /\x7f HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost:\r\nContent-Length: 0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\na", // 1, where it is counted in 64 bits
	"POST / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-A\r\nContent-Length: 0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
	"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
}

// FuzzHead: whatever is taken for a plain POST is what net/http takes it for, to the last byte, and that is known
// no sooner than its last byte is there.
func FuzzHead(f *testing.F) {
	for _, head := range heads {
		f.Add([]byte(head))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > bufferBytes {
			return
		}
		var h head
		if h.parse(b) != plain {
			return
		}
		for n := range h.size {
			var part head
			if v := part.parse(b[:n]); v != unfinished {
				t.Fatalf("%q is %d", b[:n], v)
			}
		}
		c := &conn{blank: new(http.Request), buf: b, to: len(b)}
		from := bufio.NewReader(bytes.NewReader(b))
		want, err := http.ReadRequest(from)
		e := c.exchange(&h, time.Time{})
		if e == nil {
			if err == nil {
				t.Logf("%q is for net/http", b) // it costs nothing
			}
			return
		}
		if err != nil {
			t.Fatalf("%q is refused by net/http: %v", b, err)
		}
		r := &e.request
		if want.Method != "POST" || want.Proto != "HTTP/1.1" || want.Close || want.TransferEncoding != nil || want.Trailer != nil || want.Header.Get("Expect") != "" ||
			r.RequestURI != want.RequestURI || r.Host != want.Host || r.ContentLength != want.ContentLength ||
			!reflect.DeepEqual(r.URL, want.URL) || !reflect.DeepEqual(r.Header, want.Header) {
			t.Fatalf("%q is\n%+v, net/http has\n%+v", b, r, want)
		}
		if len(b)-h.size < h.length {
			return // the rest would be read from the connection
		}
		body, err := io.ReadAll(r.Body)
		wantBody, wantErr := io.ReadAll(want.Body)
		rest, _ := io.ReadAll(from)
		if err != nil || wantErr != nil || !bytes.Equal(body, wantBody) || !bytes.Equal(rest, b[c.from:]) {
			t.Fatalf("%q: body %q, then %q (%v); net/http has %q, then %q (%v)", b, body, b[c.from:], err, wantBody, rest, wantErr)
		}
	})
}

// Who calls often must not be handed over: those that the clients of a shop's programs send are plain.
func TestPlainHeads(t *testing.T) {
	for i, text := range heads {
		var h head
		if v := h.parse([]byte(text)); (v == plain) != (i < 4 || strings.Contains(text, "%zz")) {
			t.Errorf("%q is %d", text, v)
		}
	}
}

// A request that comes at the moment at which Shutdown closes the connection is not begun.
func TestShutMeanwhile(t *testing.T) {
	for _, state := range []int32{idle, shut} {
		c := &conn{s: &Server{HTTP: new(http.Server)}, blank: new(http.Request), buf: []byte(heads[0]), to: len(heads[0])}
		c.state.Store(state)
		if e := c.next(0); (e != nil) != (state == idle) {
			t.Errorf("in state %d: %v", state, e)
		}
	}
}
