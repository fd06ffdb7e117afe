package inward_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/inward"
)

const patience = 2 * time.Minute

// serve serves until the end of the test.
func serve(t testing.TB, s interface {
	Serve(net.Listener) error
	Close() error
}) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-ended; err != http.ErrServerClosed {
			t.Errorf("Serve says %v", err)
		}
	})
	return l.Addr().String()
}

// silent is a server that logs nothing.
func silent(h http.HandlerFunc) *http.Server {
	return &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0), ReadTimeout: patience, WriteTimeout: patience, IdleTimeout: patience}
}

func ours(h http.HandlerFunc) *inward.Server { return &inward.Server{HTTP: silent(h)} }

func dial(t testing.TB, address string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

func say(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// ends reports whether the server has ended the connection, without another word.
func ends(c net.Conn) error {
	if n, err := c.Read(make([]byte, 1)); n > 0 {
		return errors.New("there is more")
	} else if late, ok := err.(net.Error); ok && late.Timeout() {
		return err
	}
	return nil
}

// post is a plain POST.
func post(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a.example\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

// echo answers with all that it sees.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s %v %s host %s length %d %v close %v\n", r.Method, r.RequestURI, r.Proto, r.URL, r.URL.Path, r.Host, r.ContentLength, r.TransferEncoding, r.Close)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(w, "%s: %q\n", name, r.Header[name])
	}
	fmt.Fprintf(w, "%q %v\n", body, err)
}

// talk sends a text, says that nothing more will come, and returns the answers, in a form of which the order
// of the header and the date are no part.
func talk(t *testing.T, address, text string) string {
	t.Helper()
	c := dial(t, address)
	sent := make(chan struct{})
	go func() { // it may be answered, and the connection closed, before all is sent
		defer close(sent)
		io.WriteString(c, text)
		c.CloseWrite()
	}()
	all, err := io.ReadAll(c)
	<-sent
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return fmt.Sprintf("%q, and then nothing", all)
	}
	var told strings.Builder
	for from := bufio.NewReader(bytes.NewReader(all)); ; {
		if _, err := from.Peek(1); err != nil {
			return told.String()
		}
		res, err := http.ReadResponse(from, nil)
		if err != nil {
			fmt.Fprintf(&told, "%v: %q\n", err, all)
			return told.String()
		}
		body, err := io.ReadAll(res.Body)
		if date := res.Header.Get("Date"); date != "" {
			if _, err := http.ParseTime(date); err != nil {
				t.Error(err)
			}
			res.Header.Set("Date", "some")
		}
		fmt.Fprintf(&told, "%s %s close %v, length %d %v\n", res.Proto, res.Status, res.Close, res.ContentLength, res.TransferEncoding)
		for _, name := range slices.Sorted(maps.Keys(res.Header)) {
			fmt.Fprintf(&told, "%s: %q\n", name, res.Header[name])
		}
		fmt.Fprintf(&told, "%s%v\n", body, err)
	}
}

// Whatever is sent is answered as by net/http, and so is what comes after it on the connection.
func TestAsNetHTTP(t *testing.T) {
	our, their := serve(t, ours(echo)), serve(t, silent(echo))
	long := strings.Repeat("x", 64<<10)
	for name, text := range map[string]string{
		"nothing":                  "",
		"plain":                    post("/a", "body"),
		"odd path":                 post("/a%2Fb//../c?d=%20&e#f", ""),
		"two slashes":              post("//host/a", ""),
		"path that is none":        post("/%zz", ""),
		"path with a high byte":    post("/\xc3\xa9", ""),
		"path with a control byte": post("/\x01", ""),
		"path of many bytes":       post("/"+strings.Repeat("a", 3000), "x"),
		"path of too many bytes":   post("/"+long, "x"),
		"no body":                  post("/", ""),
		"one byte":                 post("/", "x"),
		"64 KiB":                   post("/", long),
		"more than 64 KiB":         post("/", long+"x"),
		"1 MiB":                    post("/", strings.Repeat(long, 16)),
		"body like a request":      post("/", post("/inner", "x")),
		"pipelined":                post("/1", "a") + post("/2", "") + post("/3", "ccc"),
		"pipelined, long":          post("/1", long) + post("/2", long[:5000]) + post("/3", long),
		"pipelined, then GET":      post("/1", "a") + "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n" + post("/3", "b"),
		"pipelined, then rubbish":  post("/1", "a") + "rubbish\r\n\r\n",
		"line between":             post("/1", "a") + "\r\n" + post("/2", "b"),
		"GET":                      "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
		"HEAD":                     "HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n",
		"PUT":                      strings.Replace(post("/a", "b"), "POST", "PUT", 1),
		"post":                     strings.Replace(post("/a", "b"), "POST", "post", 1),
		"POSTS":                    strings.Replace(post("/a", "b"), "POST", "POSTS", 1),
		"OPTIONS *":                "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"CONNECT":                  "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
		"HTTP/2":                   "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"HTTP/1.0":                 strings.Replace(post("/a", "b"), "1.1", "1.0", 1),
		"HTTP/1.2":                 strings.Replace(post("/a", "b"), "1.1", "1.2", 1),
		"HTTP/3":                   strings.Replace(post("/a", "b"), "1.1", "3", 1),
		"absolute target":          post("http://b.example/a", "b"),
		"POST *":                   post("*", ""),
		"no target":                "POST  HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
		"no version":               "POST /\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
		"two spaces":               "POST  / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
		"TLS":                      "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"cut in the line":          "POST /a HT",
		"cut in the head":          "POST /a HTTP/1.1\r\nHost: a\r\nCont",
		"cut in the body":          "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc",
		"cut in a short body":      "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\nabc",
		"no host":                  "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
		"empty host":               "POST / HTTP/1.1\r\nHost:\r\nContent-Length: 0\r\n\r\n",
		"host that is none":        "POST / HTTP/1.1\r\nHost: a/b\r\nContent-Length: 0\r\n\r\n",
		"two hosts":                "POST / HTTP/1.1\r\nHost: a\r\nhost: a\r\nContent-Length: 0\r\n\r\n",
		"no length":                "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
		"empty length":             "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
		"length 00003":             "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 00003\r\n\r\nabc",
		"length +3":                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
		"length -3":                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc",
		"length 0x3":               "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc",
		"length 3, 3":              "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
		"length 1 0":               "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 0\r\n\r\nabc",
		"length beyond numbers":    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nabc",
		"two equal lengths":        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
		"two lengths":              "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\ncontent-length: 4\r\n\r\nabcd",
		"length and chunks":        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"chunks and length":        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 30\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"length and odd chunks":    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"chunks in lower case":     "POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 3\r\ntransfer-encoding: Chunked\r\n\r\n0\r\n\r\n",
		"chunks by a tab":          "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
		"chunks after a space":     "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"space before the colon":   "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc",
		"space and a length":       "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
		"tab before the colon":     "POST / HTTP/1.1\r\nHost: a\r\nContent-Length\t: 3\r\n\r\nabc",
		"folded":                   "POST / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\nContent-Length: 3\r\n\r\nabc",
		"folded length":            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n 3\r\n\r\nabc",
		"folded at once":           "POST / HTTP/1.1\r\n Host: a\r\nContent-Length: 3\r\n\r\nabc",
		"bare LF":                  "POST / HTTP/1.1\nHost: a\nContent-Length: 3\n\nabc",
		"bare LF at the end":       "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\nabc",
		"bare LF in a value":       "POST / HTTP/1.1\r\nHost: a\r\nX: 1\nContent-Length: 3\r\n\r\nabc",
		"CR in a value":            "POST / HTTP/1.1\r\nHost: a\r\nX: 1\rContent-Length: 3\r\n\r\nabc",
		"CR CR LF":                 "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\r\n\r\nabc",
		"NUL in a value":           "POST / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\nContent-Length: 3\r\n\r\nabc",
		"NUL in a name":            "POST / HTTP/1.1\r\nHost: a\r\nX\x00: a\r\nContent-Length: 3\r\n\r\nabc",
		"NUL in the line":          "POST /\x00 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
		"DEL in a value":           "POST / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\nContent-Length: 3\r\n\r\nabc",
		"high bytes in a value":    "POST / HTTP/1.1\r\nHost: a\r\nX: \xff\xc3\xa9\r\nContent-Length: 3\r\n\r\nabc",
		"high bytes in a name":     "POST / HTTP/1.1\r\nHost: a\r\nContent-\u212aength: 4\r\nContent-Length: 3\r\n\r\nabc",
		"no colon":                 "POST / HTTP/1.1\r\nHost: a\r\nX\r\nContent-Length: 3\r\n\r\nabc",
		"no name":                  "POST / HTTP/1.1\r\nHost: a\r\n: x\r\nContent-Length: 3\r\n\r\nabc",
		"names as they come":       "POST / HTTP/1.1\r\nhOST: a\r\nx-REQUEST-id: 1\r\nX-Request-Id:\t 2 \t\r\ncontent-LENGTH:3\r\n_x: \r\nx-:\r\n\r\nabc",
		"many headers":             "POST / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-A: b\r\n", 100) + "Content-Length: 3\r\n\r\nabc",
		"a long head":              "POST / HTTP/1.1\r\nHost: a\r\nX-A: " + long[:10000] + "\r\nContent-Length: 3\r\n\r\nabc",
		"keep-alive":               "POST / HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive\r\nContent-Length: 3\r\n\r\nabc",
		"close":                    "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
		"keep-alive, close":        "POST / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\nContent-Length: 3\r\n\r\nabc",
		"keep-alive and close":     "POST / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
		"upgrade":                  "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
		"expect 100":               "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
		"expect something":         "POST / HTTP/1.1\r\nHost: a\r\nExpect: something\r\nContent-Length: 3\r\n\r\nabc",
		"pragma":                   "POST / HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\nContent-Length: 3\r\n\r\nabc",
		"trailer":                  "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X\r\nContent-Length: 3\r\n\r\nabc",
	} {
		t.Run(name, func(t *testing.T) {
			for when, text := range map[string]string{"": text, "after others: ": post("/before", "b") + post("/before", "") + text} {
				for _, then := range []string{"", post("/then", "x")} {
					if name == "HEAD" && then != "" {
						continue // its answer's end could not be told
					}
					got, want := talk(t, our, text+then), talk(t, their, text+then)
					if name == "cut in a short body" { // net/http closes the connection, but does not say so
						got, want = strings.ReplaceAll(got, "close true, length", "close false, length"), strings.ReplaceAll(want, "close true, length", "close false, length")
					}
					if got != want {
						t.Errorf("%s%.300q is answered\n%.600s\n\nbut by net/http\n%.600s", when, text, got, want)
					}
				}
			}
		})
	}
}

// It may come in any pieces.
func TestByteByByte(t *testing.T) {
	our, their := serve(t, ours(echo)), serve(t, silent(echo))
	text := post("/1", "a") + post("/2", "") + post("/3", "ccc")
	c := dial(t, our)
	go func() {
		for i := range text {
			c.Write([]byte(text[i : i+1]))
		}
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if n := bytes.Count(got, []byte("HTTP/1.1 200 OK\r\n")); err != nil || n != 3 {
		t.Errorf("%d answers, %v: %q", n, err, got)
	}
	if got, want := talk(t, our, text), talk(t, their, text); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Whatever a handler does with its writer reaches the client as from net/http.
func TestAnswers(t *testing.T) {
	large := strings.Repeat("0123456789", 10_000)
	for name, h := range map[string]http.HandlerFunc{
		"nothing": func(w http.ResponseWriter, r *http.Request) {},
		"a word":  func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "word") },
		"a page": func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "<!doctype html><p>")
			io.WriteString(w, "x")
		},
		"error":          func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) },
		"redirect":       func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/there", http.StatusSeeOther) },
		"odd status":     func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(799); io.WriteString(w, "x") },
		"invalid status": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(99) },
		"204": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "3")
			w.WriteHeader(204)
			fmt.Fprint(w, "abc")
		},
		"304": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Etag", "x")
			w.WriteHeader(304)
			_, err := fmt.Fprint(w, "abc")
			if err != http.ErrBodyNotAllowed {
				t.Error(err)
			}
		},
		"two statuses": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(201)
			w.WriteHeader(500)
			fmt.Fprint(w, "x")
		},
		"late header": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(201)
			w.Header().Set("X-Late", "1")
			fmt.Fprint(w, "x")
		},
		"early hints": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</a>")
			w.WriteHeader(103)
			w.Header().Del("Link")
			fmt.Fprint(w, "x")
		},
		"said length": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "3")
			fmt.Fprint(w, "abc")
		},
		"said type": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "x/y")
			fmt.Fprint(w, "abc")
		},
		"no type": func(w http.ResponseWriter, r *http.Request) { w.Header()["Content-Type"] = nil; fmt.Fprint(w, "abc") },
		"encoded": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			fmt.Fprint(w, "abc")
		},
		"said date": func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Date", "Mon, 02 Jan 2006 15:04:05 GMT") },
		"no date":   func(w http.ResponseWriter, r *http.Request) { w.Header()["Date"] = nil },
		"too short": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "9")
			fmt.Fprint(w, "abc")
		},
		"said and split": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100000")
			io.Copy(w, strings.NewReader(large))
		},
		"too long": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "3")
			fmt.Fprint(w, "abc")
			if _, err := fmt.Fprint(w, "d"); err != http.ErrContentLength {
				t.Error(err)
			}
		},
		"large": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, large) },
		"large in pieces": func(w http.ResponseWriter, r *http.Request) {
			for from := 0; from < len(large); from += 1000 {
				fmt.Fprint(w, large[from:from+1000])
			}
		},
		"large of said length": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100000")
			fmt.Fprint(w, large)
		},
		"flushed": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "a")
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			fmt.Fprint(w, "b")
		},
		"flushed first": func(w http.ResponseWriter, r *http.Request) { w.(http.Flusher).Flush(); fmt.Fprint(w, "b") },
		"flushed last":  func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "b"); w.(http.Flusher).Flush() },
		"flushed 204":   func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204); w.(http.Flusher).Flush() },
		"close": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "close")
			fmt.Fprint(w, "b")
		},
		"odd connection": func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Connection", "x"); fmt.Fprint(w, "b") },
		"said chunks": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Transfer-Encoding", "chunked")
			fmt.Fprint(w, large)
		},
		"lines in a value": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X", " a\r\nSet-Cookie: b\n\r\n")
			fmt.Fprint(w, "b")
		},
		"lines in a name": func(w http.ResponseWriter, r *http.Request) { w.Header()["X\r\nY"] = []string{"a"}; fmt.Fprint(w, "b") },
		"values": func(w http.ResponseWriter, r *http.Request) {
			w.Header()["X"] = []string{"a", "", "b"}
			fmt.Fprint(w, "b")
		},
		"abort": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "b"); panic(http.ErrAbortHandler) },
		"abort after flush": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "b")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"panic":            func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "b"); panic("a bug") },
		"exit":             func(w http.ResponseWriter, r *http.Request) { runtime.Goexit() },
		"part of the body": func(w http.ResponseWriter, r *http.Request) { io.ReadFull(r.Body, make([]byte, 2)); fmt.Fprint(w, "b") },
		"limited body": func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, 3))
			fmt.Fprintf(w, "%s %v", b, err)
		},
		"body closed": func(w http.ResponseWriter, r *http.Request) {
			r.Body.Close()
			_, err := r.Body.Read(make([]byte, 1))
			fmt.Fprintf(w, "%v", err)
		},
		"read to its end": func(w http.ResponseWriter, r *http.Request) {
			io.ReadAll(r.Body)
			n, err := r.Body.Read(make([]byte, 1))
			fmt.Fprintf(w, "%d %v", n, err)
		},
		"deadlines": func(w http.ResponseWriter, r *http.Request) {
			control := http.NewResponseController(w)
			fmt.Fprint(w, control.SetReadDeadline(time.Now().Add(patience)), control.SetWriteDeadline(time.Time{}))
		},
		"form": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.FormValue("a"), r.PostFormValue("a")) },
		"context": func(w http.ResponseWriter, r *http.Request) {
			_, isServer := r.Context().Value(http.ServerContextKey).(*http.Server)
			local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
			remote, err := net.ResolveTCPAddr("tcp", r.RemoteAddr)
			fmt.Fprint(w, isServer, local.Network(), remote.IP, err, r.Context().Err())
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := post("/?a=b", "hello, body") + post("/", "") + post("/", strings.Repeat("long", 5000))
			if got, want := talk(t, serve(t, ours(h)), text), talk(t, serve(t, silent(h)), text); got != want {
				t.Errorf("the client got\n%.600s\n\nbut from net/http\n%.600s", got, want)
			}
		})
	}
}

// A connection is kept, and net/http's client works with it.
func TestClient(t *testing.T) {
	s := ours(echo)
	var states states
	s.HTTP.ConnState = states.tell
	address := serve(t, s)
	for _, method := range []string{"POST", "POST", "GET", "POST", "PUT", "POST"} {
		req, _ := http.NewRequest(method, "http://"+address+"/path", strings.NewReader("{}"))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if !strings.HasPrefix(string(body), method+" /path") || err != nil {
			t.Errorf("%s %v", body, err)
		}
	}
	if got := states.of(); !strings.HasPrefix(got, strings.TrimSpace("new "+strings.Repeat("active idle ", 5))) || strings.Count(got, "new") != 1 {
		t.Errorf("the hooks saw %s", got)
	}
}

// states remembers what the hook is told, of one connection.
type states struct {
	mu    sync.Mutex
	of1   net.Conn
	list  []string
	wrong bool
}

func (s *states) tell(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of1 == nil {
		s.of1 = c
	}
	s.wrong = s.wrong || s.of1 != c
	s.list = append(s.list, state.String())
}

func (s *states) of() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[bool]string{true: "of several connections "}[s.wrong] + strings.Join(s.list, " ")
}

// until waits for what the hook is told.
func (s *states) until(t *testing.T, want string) {
	t.Helper()
	for late := time.Now().Add(patience); s.of() != want; runtime.Gosched() {
		if time.Now().After(late) {
			t.Fatalf("the hook saw %q, want %q", s.of(), want)
		}
	}
}

// To the hooks a connection is one, whoever serves it.
func TestHooks(t *testing.T) {
	type key struct{}
	for name, c := range map[string]struct{ text, want string }{
		"plain":       {post("/", "x") + post("/", ""), "new active idle active idle closed"},
		"net/http's":  {"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + post("/", "x"), "new active idle active idle closed"},
		"handed over": {post("/", "x") + "GET / HTTP/1.1\r\nHost: a\r\n\r\n" + post("/", "x"), "new active idle active idle active idle closed"},
		"aborted":     {post("/abort", "x"), "new active closed"},
		"hijacked":    {post("/hijack", "x"), "new active hijacked"},
		"silent":      {"", "new closed"},
	} {
		t.Run(name, func(t *testing.T) {
			var states states
			s := ours(func(w http.ResponseWriter, r *http.Request) {
				states.mu.Lock()
				if states.of1 != r.Context().Value(key{}) {
					t.Errorf("the context is that of another connection")
				}
				states.mu.Unlock()
				switch r.URL.Path {
				case "/abort":
					panic(http.ErrAbortHandler)
				case "/hijack":
					c, _, err := http.NewResponseController(w).Hijack()
					if err != nil {
						t.Error(err)
					}
					c.Close()
				}
			})
			s.HTTP.ConnState = states.tell
			s.HTTP.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, key{}, c) }
			address := serve(t, s)
			conn := dial(t, address)
			say(t, conn, c.text)
			conn.CloseWrite()
			io.ReadAll(conn)
			states.until(t, c.want)
		})
	}
}

// Who hijacks has all that was not read yet, and no deadlines.
func TestHijack(t *testing.T) {
	address := serve(t, ours(func(w http.ResponseWriter, r *http.Request) {
		io.ReadAll(r.Body)
		c, both, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if _, ok := c.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn); !ok {
			t.Error("there is no socket below")
		}
		if _, err := w.Write([]byte("x")); err != http.ErrHijacked {
			t.Error(err)
		}
		line, err := both.ReadString('\n')
		fmt.Fprintf(both, "you said %s%v", line, err)
		both.Flush()
		c.Close()
	}))
	c := dial(t, address)
	say(t, c, post("/", "body")+"more\n")
	if got, err := io.ReadAll(c); string(got) != "you said more\n<nil>" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// No client holds a connection for longer than the limits say, however it goes about it, nor is one cut before.
func TestSlowClients(t *testing.T) {
	const limit = 5 * time.Second
	large := bytes.Repeat([]byte("x"), 1<<20)
	const half = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\nabc"
	for name, c := range map[string]struct {
		limit   func(s *http.Server)
		text    string
		drip    string // what comes again and again then
		handler bool   // it is told
	}{
		"silent from the start":           {func(s *http.Server) { s.ReadHeaderTimeout = limit }, "", "", false},
		"silent after a call":             {func(s *http.Server) { s.IdleTimeout = limit }, post("/", "x"), "", false},
		"half a head":                     {func(s *http.Server) { s.ReadHeaderTimeout = limit }, "POST / HT", "", false},
		"half a second head":              {func(s *http.Server) { s.ReadHeaderTimeout = limit }, post("/", "x") + "POST / HT", "", false},
		"a head in drops":                 {func(s *http.Server) { s.ReadHeaderTimeout = limit }, "POST /", "a", false},
		"a head in drops, of ReadTimeout": {func(s *http.Server) { s.ReadTimeout = limit }, "POST / HTTP/1.1\r\nX: ", "a", false},
		"half a body":                     {func(s *http.Server) { s.ReadTimeout = limit }, half, "", true},
		"a body in drops":                 {func(s *http.Server) { s.ReadTimeout = limit }, half, "a", true},
		"it does not read":                {func(s *http.Server) { s.WriteTimeout = limit }, post("/large", ""), "", true},
	} {
		for _, kept := range []bool{false, true} {
			if kept && c.text == "" {
				continue
			}
			t.Run(fmt.Sprint(name, ", kept ", kept), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					failed := make(chan error, 1)
					s := ours(func(w http.ResponseWriter, r *http.Request) {
						_, err := io.ReadAll(r.Body)
						for r.URL.Path == "/large" && err == nil {
							_, err = w.Write(large)
						}
						if err != nil {
							failed <- err
						}
					})
					s.HTTP.ReadTimeout, s.HTTP.WriteTimeout, s.HTTP.IdleTimeout = time.Hour, time.Hour, time.Hour
					c.limit(s.HTTP)
					var states states
					s.HTTP.ConnState = states.tell
					conn := servePipe(t, s)
					from := bufio.NewReader(conn)
					if kept { // the limit of its first request is not that of this one
						say(t, conn, post("/", ""))
						if _, err := http.ReadResponse(from, nil); err != nil {
							t.Fatal(err)
						}
						time.Sleep(limit - time.Second)
					}
					if name != "it does not read" {
						go io.Copy(io.Discard, from)
					}
					say(t, conn, c.text)
					if c.drip != "" {
						go func() {
							for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
								if _, err := io.WriteString(conn, c.drip); err != nil {
									return
								}
							}
						}()
					}
					time.Sleep(limit * 7 / 10) // a deadline may come early by a quarter
					synctest.Wait()
					if strings.HasSuffix(states.of(), " closed") || len(failed) > 0 {
						t.Errorf("it is cut too early: %s", states.of())
					}
					time.Sleep(limit*3/10 + time.Second) // it lingers a little
					synctest.Wait()
					if !strings.HasSuffix(states.of(), " closed") {
						t.Errorf("the connection is not cut: %s", states.of())
					}
					select {
					case err := <-failed:
						if !c.handler || !isTimeout(err) {
							t.Errorf("the handler was told %v", err)
						}
					default:
						if c.handler {
							t.Error("the handler was told nothing")
						}
					}
				})
			})
		}
	}
}

// pipes is a listener whose connections are pipes, for a test with a clock of its own.
type pipes struct {
	came  chan net.Conn
	close sync.Once
	shut  chan struct{}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.came:
		return c, nil
	case <-l.shut:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error   { l.close.Do(func() { close(l.shut) }); return nil }
func (l *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// servePipe serves one connection, by the clock of the bubble that the test runs in.
func servePipe(t *testing.T, s *inward.Server) net.Conn {
	l := &pipes{came: make(chan net.Conn), shut: make(chan struct{})}
	go s.Serve(l)
	c, served := net.Pipe()
	t.Cleanup(func() {
		s.Close()
		c.Close()
	})
	l.came <- served
	return c
}

// Line ends that come together with a request are not the beginning of the next: a client that sends them may wait
// as long as others do, and no longer.
func TestLineEndsAfterARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ours(echo)
		s.HTTP.ReadHeaderTimeout, s.HTTP.ReadTimeout, s.HTTP.IdleTimeout = 5*time.Second, 10*time.Second, 2*time.Minute
		c := servePipe(t, s)
		c.SetDeadline(time.Now().Add(time.Hour))
		from := bufio.NewReader(c)
		for _, ends := range []string{"", "\r\n", "\n", "\r\n\r\n", "\r\n"} {
			if _, err := io.WriteString(c, post("/", "x")+ends); err != nil {
				t.Fatalf("before %q: %v", ends, err)
			}
			res, err := http.ReadResponse(from, nil)
			if err != nil {
				t.Fatalf("before %q: %v", ends, err)
			}
			io.Copy(io.Discard, res.Body)
			time.Sleep(80 * time.Second)
		}
		time.Sleep(41 * time.Second)
		if _, err := from.ReadByte(); err != io.EOF {
			t.Errorf("after more than its time the connection says %v, want its end", err)
		}
	})
}

func isTimeout(err error) bool {
	var late net.Error
	return errors.As(err, &late) && late.Timeout()
}

// A deadline that a handler sets is kept, and is none of the next request's.
func TestDeadlines(t *testing.T) {
	failed := make(chan error, 1)
	large := bytes.Repeat([]byte("x"), 1<<20)
	s := ours(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		switch r.URL.Path {
		case "/past":
			if err := control.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadAll(r.Body); !isTimeout(err) {
				t.Errorf("the handler was told %v", err)
			}
		case "/write":
			control.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			for {
				if _, err := w.Write(large); err != nil {
					failed <- err
					return
				}
			}
		case "/short": // and yet long enough for the answer on a slow machine
			control.SetWriteDeadline(time.Now().Add(3 * time.Second))
		case "/later":
			<-time.After(3100 * time.Millisecond) // the last one's is past
		}
		fmt.Fprint(w, "ok")
	})
	s.HTTP.WriteTimeout = 0
	address := serve(t, s)
	c := dial(t, address)
	from := bufio.NewReader(c)
	for _, text := range []string{post("/", "x"), post("/short", "x"), post("/later", "x"), post("/short", "x"), "GET /later HTTP/1.1\r\nHost: a\r\n\r\n"} {
		say(t, c, text)
		if res, err := http.ReadResponse(from, nil); err != nil || res.StatusCode != 200 {
			t.Fatal(text, err)
		} else {
			io.ReadAll(res.Body)
		}
	}
	c = dial(t, address)
	say(t, c, post("/write", ""))
	if err := <-failed; !isTimeout(err) {
		t.Errorf("the handler was told %v", err)
	}
	c = dial(t, address)
	say(t, c, "POST /past HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
	if got, err := io.ReadAll(c); !strings.HasPrefix(string(got), "HTTP/1.1 200 OK\r\n") || !strings.Contains(string(got), "Connection: close\r\n") {
		t.Errorf("%q, %v", got, err)
	}
}

// What a handler keeps stays as it was: a request, its header and its body.
func TestWhatIsKept(t *testing.T) {
	var mu sync.Mutex
	var kept []*http.Request
	address := serve(t, ours(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		kept = append(kept, r)
	}))
	c := dial(t, address)
	const n = 20
	for i := range n {
		say(t, c, fmt.Sprintf("POST /%d HTTP/1.1\r\nHost: h%d\r\nX: %d\r\nContent-Length: 4\r\n\r\nbody", i, i, i))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != 200 {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for i, r := range kept {
		if got, want := fmt.Sprint(r.RequestURI, r.URL.Path, r.Host, r.Header["X"], len(r.Header)), fmt.Sprintf("/%d/%dh%d[%d] 2", i, i, i, i); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if b, err := io.ReadAll(r.Body); len(b) > 0 || err != http.ErrBodyReadAfterClose {
			t.Errorf("the body says %q %v", b, err)
		}
	}
	if len(kept) != n {
		t.Errorf("%d requests", len(kept))
	}
}

// Shutdown closes what is idle at once, also of net/http, lets the call under way be answered, and no other comes.
func TestShutdown(t *testing.T) {
	for _, method := range []string{"POST", "GET"} {
		t.Run(method, func(t *testing.T) {
			under, finish := make(chan struct{}), make(chan struct{})
			s := ours(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/long" {
					close(under)
					<-finish
				}
				fmt.Fprint(w, "served")
			})
			address := serve(t, s)
			fresh, idle, theirs, long := dial(t, address), dial(t, address), dial(t, address), dial(t, address)
			for c, text := range map[net.Conn]string{idle: post("/", ""), theirs: "GET / HTTP/1.1\r\nHost: a\r\n\r\n"} {
				say(t, c, text)
				res, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil || res.StatusCode != 200 {
					t.Fatal(err)
				}
			}
			say(t, long, method+" /long HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
			<-under
			soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := s.Shutdown(soon); err != context.DeadlineExceeded {
				t.Errorf("with a call under way it says %v", err)
			}
			for _, c := range []net.Conn{fresh, idle, theirs} {
				if err := ends(c); err != nil {
					t.Error(err)
				}
			}
			if c, err := net.Dial("tcp", address); err == nil {
				c.Close()
				t.Error("it still listens")
			}
			ended := make(chan error, 1)
			go func() { ended <- s.Shutdown(context.Background()) }()
			close(finish)
			res, err := http.ReadResponse(bufio.NewReader(long), nil)
			if err != nil || res.StatusCode != 200 || !res.Close {
				t.Errorf("%v, %v", res, err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if err := s.Serve(&closedListener{}); err != http.ErrServerClosed {
				t.Errorf("it says %v", err)
			}
		})
	}
}

// A connection whose answer had begun when Shutdown came is closed after it, although that could not be said.
func TestShutdownInMidAnswer(t *testing.T) {
	under, finish := make(chan struct{}), make(chan struct{})
	s := ours(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		close(under)
		<-finish
	})
	c := dial(t, serve(t, s))
	say(t, c, post("/", "")+post("/again", ""))
	<-under
	soon, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := s.Shutdown(soon); err != context.DeadlineExceeded {
		t.Errorf("with a call under way it says %v", err)
	}
	close(finish)
	if all, err := io.ReadAll(c); bytes.Count(all, []byte("HTTP/1.1")) != 1 || !bytes.HasSuffix(all, []byte("\r\n0\r\n\r\n")) {
		t.Errorf("%q, %v", all, err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

type closedListener struct{ net.Listener }

func (closedListener) Close() error { return nil }

// Close ends what is under way, too; its context ends then.
func TestClose(t *testing.T) {
	under, over := make(chan struct{}), make(chan struct{})
	s := ours(func(w http.ResponseWriter, r *http.Request) {
		close(under)
		<-r.Context().Done()
		close(over)
	})
	address := serve(t, s)
	c := dial(t, address)
	say(t, c, post("/", ""))
	<-under
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	io.Copy(io.Discard, c)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	<-over
}

// A panic is logged as by net/http, but for the one that is meant.
func TestPanicIsLogged(t *testing.T) {
	var logged bytes.Buffer
	s := ours(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/meant" {
			panic(http.ErrAbortHandler)
		}
		panic("a bug")
	})
	s.HTTP.ErrorLog = log.New(&logged, "", 0)
	address := serve(t, s)
	for _, path := range []string{"/meant", "/"} {
		c := dial(t, address)
		say(t, c, post(path, ""))
		if err := ends(c); err != nil {
			t.Error(err)
		}
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if text := logged.String(); !strings.HasPrefix(text, "http: panic serving 127.0.0.1:") || !strings.Contains(text, "a bug") || !strings.Contains(text, "inward_test.go") || strings.Count(text, "panic serving") != 1 {
		t.Error(text)
	}
}

// Many connections at once, each with its own calls in their order.
func TestManyAtOnce(t *testing.T) {
	address := serve(t, ours(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Write(body)
	}))
	var group sync.WaitGroup
	for i := range 32 {
		group.Go(func() {
			c := dial(t, address)
			from := bufio.NewReader(c)
			for j := range 50 {
				body := fmt.Sprint(i, " ", j, strings.Repeat("x", 200*j))
				if j%10 == 9 {
					say(t, c, strings.Replace(post("/", body), "HTTP/1.1", "HTTP/1.1\r\nPragma: x", 1)) // from the tenth on
				} else {
					say(t, c, post("/", body))
				}
				res, err := http.ReadResponse(from, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := io.ReadAll(res.Body); string(got) != body || err != nil {
					t.Errorf("%.20q, %v, want %.20q", got, err, body)
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkExchange(b *testing.B) {
	h := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header()["Content-Type"] = []string{"application/json"}
		io.WriteString(w, `{"error":0}`)
	}
	for name, address := range map[string]string{"inward": serve(b, ours(h)), "net/http": serve(b, silent(h))} {
		b.Run(name, func(b *testing.B) {
			c := dial(b, address)
			c.SetDeadline(time.Time{})
			request := []byte(post("/set_accept", strings.Repeat("x", 200)))
			answer := make([]byte, 4096)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(request); err != nil {
					b.Fatal(err)
				}
				if _, err := c.Read(answer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A server whose connections are all net/http's, as with TLS, is shut like any other, while it answers.
func TestShutdownOfWhatIsNetHTTPs(t *testing.T) {
	under, finish := make(chan struct{}), make(chan struct{})
	s := ours(func(w http.ResponseWriter, r *http.Request) {
		close(under)
		<-finish
	})
	var told atomic.Int32
	s.HTTP.ConnState = func(net.Conn, http.ConnState) { told.Add(1) }
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.HTTP.Serve(l) }()
	c := dial(t, l.Addr().String())
	say(t, c, post("/", ""))
	<-under
	ended := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { ended <- s.Shutdown(ctx) }()
	close(finish)
	if err := <-served; err != http.ErrServerClosed {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if told.Load() < 2 {
		t.Errorf("the hook was told %d times", told.Load())
	}
}

// fullListener has no file descriptors left.
type fullListener struct {
	asked atomic.Int32
	again chan struct{} // closed when it was asked often enough for a long wait
}

func (l *fullListener) Accept() (net.Conn, error) {
	if l.asked.Add(1) == 6 {
		close(l.again)
	}
	return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
}

func (l *fullListener) Close() error   { return nil }
func (l *fullListener) Addr() net.Addr { return &net.TCPAddr{} }

// A failure to accept that passes does not end the server, and the wait after it does not hold up the server's end.
func TestAcceptFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ours(nil)
		l := &fullListener{again: make(chan struct{})}
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		<-l.again
		synctest.Wait() // it waits for 160 ms now
		closed := time.Now()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != http.ErrServerClosed {
			t.Error(err)
		}
		if waited := time.Since(closed); waited > 0 {
			t.Errorf("its end was held up for %v", waited)
		}
	})
}
