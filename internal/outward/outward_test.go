package outward_test

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/outward"
)

// counted is a server that counts its connections.
func counted(t *testing.T, h http.HandlerFunc) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	var made atomic.Int64
	s := httptest.NewUnstartedServer(h)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			made.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s, &made
}

func call(t testing.TB, tr *outward.Transport, url, body string) (status int, answer string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := tr.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Seen", r.Method+" "+r.Host+" "+r.URL.RequestURI()+" "+r.Header.Get("Content-Type"))
	body, _ := io.ReadAll(r.Body)
	if r.URL.Query().Has("chunked") {
		w.(http.Flusher).Flush()
	}
	w.Write(body)
}

func TestCallsShareAConnection(t *testing.T) {
	s, made := counted(t, echo)
	tr := new(outward.Transport)
	defer tr.CloseIdleConnections()
	for i, query := range []string{"", "?chunked", "?a=%20b", ""} {
		body := strings.Repeat("x", 50_000*i) // from nothing to more than any buffer, and than any header
		status, answer, err := call(t, tr, s.URL+"/path"+query, body)
		if err != nil || status != 200 || answer != body {
			t.Fatalf("call %d: %d, %d bytes, %v", i, status, len(answer), err)
		}
	}
	if made.Load() != 1 {
		t.Errorf("%d connections", made.Load())
	}
}

func TestWhatTheServerSees(t *testing.T) {
	s, _ := counted(t, echo)
	tr := new(outward.Transport)
	defer tr.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodPost, s.URL+"/a%2Fb?x=1&y", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "other.example"
	req.Header.Set("Content-Type", "text/plain")
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := res.Header.Get("X-Seen"); got != "POST other.example /a%2Fb?x=1&y text/plain" {
		t.Errorf("it saw %q", got)
	}
}

func TestManyAtOnce(t *testing.T) {
	s, made := counted(t, echo)
	tr := &outward.Transport{MostIdle: 4}
	defer tr.CloseIdleConnections()
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 50 {
				if status, answer, err := call(t, tr, s.URL, "hello"); status != 200 || answer != "hello" || err != nil {
					t.Errorf("%d %q %v", status, answer, err)
				}
			}
		})
	}
	group.Wait()
	if made.Load() < 1 || made.Load() > 16*50/2 {
		t.Errorf("%d connections for 800 calls", made.Load())
	}
}

// A server that has closed a connection meanwhile costs no call, over TLS neither, nor where the socket cannot be looked at.
func TestConnectionClosedWhileIdle(t *testing.T) {
	hidden := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return struct{ net.Conn }{conn}, err
	}
	for name, c := range map[string]struct {
		start func(*httptest.Server)
		dial  func(ctx context.Context, network, address string) (net.Conn, error)
	}{"plain": {start: (*httptest.Server).Start}, "TLS": {start: (*httptest.Server).StartTLS}, "hidden": {(*httptest.Server).Start, hidden}} {
		t.Run(name, func(t *testing.T) {
			var made atomic.Int64
			s := httptest.NewUnstartedServer(http.HandlerFunc(echo))
			s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					made.Add(1)
				}
			}
			c.start(s)
			defer s.Close()
			tr := &outward.Transport{TLS: trusting(s), Dial: c.dial}
			defer tr.CloseIdleConnections()
			for i := range 5 {
				if _, answer, err := call(t, tr, s.URL, "x"); answer != "x" || err != nil {
					t.Fatalf("call %d: %q, %v", i, answer, err)
				}
				s.CloseClientConnections()
			}
			if made.Load() != 5 {
				t.Errorf("%d connections", made.Load())
			}
		})
	}
}

// trusting is for calls of a server with a certificate of its own; nil where it has none.
func trusting(s *httptest.Server) *tls.Config {
	if s.TLS == nil {
		return nil
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return &tls.Config{RootCAs: roots}
}

// Whatever comes slowly comes whole: a request that does not fit into the socket, an answer that begins late and
// goes on later.
func TestSlowly(t *testing.T) {
	s, made := counted(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(120 * time.Millisecond)
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Length", "20")
		io.WriteString(w, "0123456789")
		w.(http.Flusher).Flush()
		time.Sleep(120 * time.Millisecond)
		io.WriteString(w, strconv.FormatInt(n, 10)+strings.Repeat(" ", 10-len(strconv.FormatInt(n, 10))))
	})
	tr := new(outward.Transport)
	defer tr.CloseIdleConnections()
	for _, size := range []int{1, 16 << 20, 1} {
		_, answer, err := call(t, tr, s.URL, strings.Repeat("x", size))
		if want := "0123456789" + strconv.Itoa(size); err != nil || strings.TrimSpace(answer) != want {
			t.Errorf("%d bytes: %q, %v", size, answer, err)
		}
	}
	if made.Load() != 1 {
		t.Errorf("%d connections", made.Load())
	}
}

// A connection that nobody uses is closed, also when its server is never called again.
func TestIdleConnectionsEnd(t *testing.T) {
	closed := make(chan struct{}, 1)
	s := httptest.NewUnstartedServer(http.HandlerFunc(echo))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	s.Start()
	defer s.Close()
	tr := &outward.Transport{IdleFor: 20 * time.Millisecond}
	if _, _, err := call(t, tr, s.URL, "x"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
	case <-time.After(2 * time.Minute):
		t.Error("it is kept for ever")
	}
}

// A request is sent once, also when the connection breaks before the answer.
func TestNothingIsSentTwice(t *testing.T) {
	var seen atomic.Int64
	s, _ := counted(t, func(w http.ResponseWriter, r *http.Request) {
		if seen.Add(1); r.URL.Path == "/break" {
			panic(http.ErrAbortHandler)
		}
		echo(w, r)
	})
	tr := new(outward.Transport)
	defer tr.CloseIdleConnections()
	if _, _, err := call(t, tr, s.URL, "x"); err != nil { // a connection that is kept
		t.Fatal(err)
	}
	_, _, err := call(t, tr, s.URL+"/break", "x")
	var op *net.OpError
	if err == nil || errors.As(err, &op) && op.Op == "dial" {
		t.Errorf("it says %v", err)
	}
	if seen.Load() != 2 {
		t.Errorf("the server saw %d requests, want 2", seen.Load())
	}
}

func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	_, _, err = call(t, new(outward.Transport), "http://"+l.Addr().String(), "x")
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "dial" {
		t.Errorf("it says %v, want an error of dialling", err)
	}
}

// atEnd says when a context ended.
func atEnd(ctx context.Context) <-chan time.Time {
	at := make(chan time.Time, 1)
	context.AfterFunc(ctx, func() { at <- time.Now() })
	return at
}

func TestTimeLimit(t *testing.T) {
	let := make(chan struct{})
	s, _ := counted(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.(http.Flusher).Flush()
		}
		<-let
	})
	defer close(let)
	tr := new(outward.Transport)
	for _, path := range []string{"/header", "/body"} {
		for name, context := range map[string]func() (context.Context, context.CancelFunc){
			"deadline": func() (context.Context, context.CancelFunc) {
				return context.WithTimeout(context.Background(), 50*time.Millisecond)
			},
			"late deadline": func() (context.Context, context.CancelFunc) {
				return context.WithTimeout(context.Background(), 200*time.Millisecond)
			},
			"cancelled": func() (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(20*time.Millisecond, cancel)
				return ctx, cancel
			},
			"cancelled late": func() (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(200*time.Millisecond, cancel)
				return ctx, cancel
			},
		} {
			ctx, cancel := context()
			ended := atEnd(ctx)
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+path, strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			res, err := tr.RoundTrip(req)
			if err == nil {
				_, err = io.ReadAll(res.Body)
				res.Body.Close()
			}
			if late := time.Since(<-ended); late > 3*time.Second { // the socket's clock may be a moment faster
				t.Errorf("%s, %s: heeded %v late", path, name, late)
			}
			if !errors.Is(err, ctx.Err()) {
				t.Errorf("%s, %s: %v, context %v", path, name, err, ctx.Err())
			}
			cancel()
		}
	}
}

// answering is a server that says a fixed text to whatever it is asked, and then closes.
func answering(t *testing.T, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				req, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				io.Copy(io.Discard, req.Body)
				io.WriteString(c, text)
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

func TestOddAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string
		fails      bool
	}{
		"until the connection ends": {"HTTP/1.1 200 OK\r\n\r\nhello", "hello", false},
		"interim answers":           {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", false},
		"another protocol":          {"HTTP/1.1 101 Switching Protocols\r\n\r\n", "", false},
		"only interim answers":      {strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20), "", true},
		"cut short":                 {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "hello", true},
		"cut short in chunks":       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "hello", true},
		"no HTTP":                   {"SSH-2.0-OpenSSH\r\n", "", true},
		"nothing":                   {"", "", true},
		"an endless header":         {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 100), "", true},
		"two lengths":               {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			var open atomic.Int64
			tr := &outward.Transport{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, address)
				if err != nil {
					return nil, err
				}
				open.Add(1)
				return &opened{conn.(*net.TCPConn), &open}, nil
			}}
			_, answer, err := call(t, tr, answering(t, c.text), "x")
			if answer != c.want || (err != nil) != c.fails {
				t.Errorf("%q, %v", answer, err)
			}
			if n := open.Load(); c.fails && n != 0 {
				t.Errorf("the call failed and leaves %d connections open", n)
			}
			if long := strings.Contains(c.text, "X-A"); long && !strings.Contains(err.Error(), "longer than 65536 bytes") || strings.Contains(name, "cut short") && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("it says %v", err)
			}
		})
	}
}

// opened is a connection that is counted while it is open.
type opened struct {
	*net.TCPConn
	open *atomic.Int64
}

func (c *opened) Close() error {
	c.open.Add(-1)
	return c.TCPConn.Close()
}

// An error says what is wrong with an answer and repeats nothing of it: it may be a secret, and as long as it likes.
func TestErrorsQuoteNothing(t *testing.T) {
	const secret = "canary-8600313260861293"
	for text, want := range map[string]string{
		"SSH-2.0-" + secret + "\r\n":                                                       "malformed HTTP",
		"HTTP/" + secret + " 200 OK\r\n\r\n":                                               "malformed HTTP",
		"HTTP/1.1 " + secret + "\r\n\r\n":                                                  "malformed HTTP status code",
		"HTTP/1.1 200 OK\r\n" + secret + "\r\n\r\n":                                        "malformed MIME header",
		"HTTP/1.1 200 OK\r\n " + secret + "\r\n\r\n":                                       "malformed MIME header",
		"HTTP/1.1 200 OK\r\nX: " + secret + "\x00\r\n\r\n":                                 "malformed MIME header",
		"HTTP/1.1 200 OK\r\nContent-Length: " + secret + "\r\n\r\n":                        "bad Content-Length",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: " + secret + "\r\n\r\n":   "multiple Content-Length",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + secret + "\r\n\r\n":                     "unsupported transfer encoding",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + secret + "\r\n":          "chunk",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + secret + "\r\n\r\n": "malformed MIME header",
	} {
		_, _, err := call(t, new(outward.Transport), answering(t, text), "x")
		if err == nil || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), secret[7:]) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// What a server says beyond its answer is nobody's next answer.
func TestSmuggledAnswer(t *testing.T) {
	tr := new(outward.Transport)
	url := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
	for range 2 {
		if _, answer, err := call(t, tr, url, "x"); answer != "ok" || err != nil {
			t.Errorf("%q, %v", answer, err)
		}
	}
}

// Over TLS neither, where it may have come in one record with the answer.
func TestSmuggledAnswerOverTLS(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	for _, n := range []int{2, 12_000} { // more than is read at once
		ok := strings.Repeat("o", n)
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for err == nil { // it answers whatever comes
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: "+strconv.Itoa(n)+"\r\n\r\n"+ok+evil)
				_, err = c.Read(make([]byte, 1000))
			}
		}))
		s.TLS = &tls.Config{DynamicRecordSizingDisabled: true}
		s.StartTLS()
		defer s.Close()
		tr := &outward.Transport{TLS: trusting(s)}
		defer tr.CloseIdleConnections()
		for range 2 {
			req, err := http.NewRequest(http.MethodPost, s.URL, strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			res, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			answer := make([]byte, max(res.ContentLength, 0))
			if _, err := io.ReadFull(res.Body, answer); err != nil || string(answer) != ok {
				t.Errorf("%d bytes are asked for, and %d come: %.10q, %v", n, len(answer), answer, err)
			}
			res.Body.Close()
		}
	}
}

func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(echo))
	var made atomic.Int64
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			made.Add(1)
		}
	}
	s.StartTLS()
	defer s.Close()
	tr := &outward.Transport{TLS: trusting(s)}
	defer tr.CloseIdleConnections()
	for range 3 {
		if status, answer, err := call(t, tr, s.URL, "sealed"); status != 200 || answer != "sealed" || err != nil {
			t.Fatalf("%d %q %v", status, answer, err)
		}
	}
	if made.Load() != 1 {
		t.Errorf("%d connections", made.Load())
	}
	// A stranger's certificate is as if nobody were there: nothing was sent.
	var open atomic.Int64
	_, _, err := call(t, &outward.Transport{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		open.Add(1)
		return &opened{conn.(*net.TCPConn), &open}, nil
	}}, s.URL, "x")
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "dial" || open.Load() != 0 {
		t.Errorf("it says %v, and leaves %d connections open", err, open.Load())
	}
}

// A call goes to the server that it names, at the port of its scheme where it names none, and nowhere else.
func TestWhereCallsGo(t *testing.T) {
	var dialled string
	tr := &outward.Transport{Dial: func(_ context.Context, network, address string) (net.Conn, error) {
		dialled = network + " " + address
		return nil, &net.OpError{Op: "read", Err: io.EOF}
	}}
	for url, want := range map[string]string{
		"http://bank.example/pay": "tcp bank.example:80", "https://bank.example/pay": "tcp bank.example:443", "https://bank.example:8443/": "tcp bank.example:8443",
		"http://[::1]/": "tcp [::1]:80", "http://[2001:db8::1]:8080/": "tcp [2001:db8::1]:8080", "ftp://bank.example/": "", "//bank.example/": "",
	} {
		dialled = ""
		_, _, err := call(t, tr, url, "x")
		var op *net.OpError
		if dialled != want || err == nil || want != "" && (!errors.As(err, &op) || op.Op != "dial" || !errors.Is(err, io.EOF)) {
			t.Errorf("%s: %q is dialled, want %q: %v", url, dialled, want, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://bank.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	dialled = ""
	if _, err := tr.RoundTrip(req); !errors.Is(err, context.Canceled) || dialled != "" {
		t.Errorf("a call that is over: %v, and %q is dialled", err, dialled)
	}
	// What is kept leads to one server alone.
	tr = new(outward.Transport)
	defer tr.CloseIdleConnections()
	named := func(name string) string {
		s, _ := counted(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) })
		return s.URL
	}
	bank, shop := named("bank"), named("shop")
	for range 2 {
		for url, want := range map[string]string{bank: "bank", shop: "shop"} {
			if _, answer, err := call(t, tr, url, "x"); answer != want || err != nil {
				t.Errorf("%s answers in place of %s (%v)", answer, want, err)
			}
		}
	}
}

// spoken is a server that says the same to each request, closes nothing, and keeps what it was told, to the end of the header.
func spoken(t *testing.T, answer string) (url string, told func() []string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all []string
	go func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go func() {
				for in := bufio.NewReader(c); ; {
					var head strings.Builder
					fmt.Fprintf(&head, "%d: ", n)
					length := 0
					for line := ""; line != "\r\n"; {
						if line, err = in.ReadString('\n'); err != nil {
							return
						}
						head.WriteString(line)
						fmt.Sscanf(line, "Content-Length: %d", &length)
					}
					if _, err := in.Discard(length); err != nil {
						return
					}
					mu.Lock()
					all = append(all, head.String())
					mu.Unlock()
					io.WriteString(c, answer)
				}
			}()
		}
	}()
	t.Cleanup(func() { l.Close() })
	return "http://" + l.Addr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// What is sent is what was asked for: a length where there is a body or could be one, and nothing that is not meant.
func TestWhatIsSent(t *testing.T) {
	for _, c := range []struct {
		method string
		body   io.Reader
		edit   func(*http.Request)
		want   string
	}{
		{"", nil, nil, "GET / HTTP/1.1\r\nHost: *\r\n\r\n"},
		{"DELETE", nil, nil, "DELETE / HTTP/1.1\r\nHost: *\r\n\r\n"},
		{"POST", nil, nil, "POST / HTTP/1.1\r\nHost: *\r\nContent-Length: 0\r\n\r\n"},
		{"PUT", http.NoBody, nil, "PUT / HTTP/1.1\r\nHost: *\r\nContent-Length: 0\r\n\r\n"},
		{"PATCH", strings.NewReader("hello"), nil, "PATCH / HTTP/1.1\r\nHost: *\r\nContent-Length: 5\r\n\r\n"},
		{"POST", nil, func(r *http.Request) { r.ContentLength = 5 }, "POST / HTTP/1.1\r\nHost: *\r\nContent-Length: 0\r\n\r\n"},
		{"GET", nil, func(r *http.Request) { r.Close = true }, "GET / HTTP/1.1\r\nHost: *\r\nConnection: close\r\n\r\n"},
	} {
		url, told := spoken(t, "HTTP/1.1 204 No Content\r\n\r\n")
		req, err := http.NewRequest(c.method, url+"/", c.body)
		if err != nil {
			t.Fatal(err)
		}
		req.Method = c.method
		if c.edit != nil {
			c.edit(req)
		}
		tr := new(outward.Transport)
		res, err := tr.RoundTrip(req)
		if err != nil {
			t.Errorf("%s: %v", c.want, err)
			continue
		}
		res.Body.Close()
		tr.CloseIdleConnections()
		if want := "1: " + strings.Replace(c.want, "*", req.Host, 1); len(told()) != 1 || told()[0] != want {
			t.Errorf("%q was sent, want %q", told(), want)
		}
	}
}

// A connection serves the next call if the server and the caller will have it so, and nothing of the last answer is left in it
// but a little; it is free once the answer's body has been closed, and once only.
func TestWhichConnectionsServeAgain(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
	answer := func(n int) string {
		return "HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(n) + "\r\n\r\n" + strings.Repeat("x", n)
	}
	for name, c := range map[string]struct {
		answer string
		close  bool // as the caller says
		read   int  // bytes of each body
		want   int  // connections for 3 calls
	}{
		"read to the end":            {ok, false, 10, 1},
		"not read":                   {ok, false, 0, 1},
		"a little is not read":       {answer(60_000), false, 1, 1},
		"much is not read":           {answer(80_000), false, 1, 3},
		"the server will close":      {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", false, 10, 3},
		"so does an old one":         {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, 10, 3},
		"the caller wants it closed": {ok, true, 10, 3},
		"another protocol":           {"HTTP/1.1 101 Switching Protocols\r\n\r\n", false, 0, 3},
	} {
		t.Run(name, func(t *testing.T) {
			url, told := spoken(t, c.answer)
			tr := new(outward.Transport)
			defer tr.CloseIdleConnections()
			for range 3 {
				req, err := http.NewRequest("GET", url, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Close = c.close
				res, err := tr.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				if n, err := io.CopyN(io.Discard, res.Body, int64(c.read)); err != nil && err != io.EOF {
					t.Errorf("after %d bytes: %v", n, err)
				}
				for range 2 {
					if err := res.Body.Close(); err != nil {
						t.Error(err)
					}
				}
				if n, err := res.Body.Read(make([]byte, 1)); n != 0 || err != http.ErrBodyReadAfterClose {
					t.Errorf("of a closed body %d bytes are read: %v", n, err)
				}
			}
			made := make(map[string]bool)
			for _, head := range told() {
				number, _, _ := strings.Cut(head, ":")
				made[number] = true
			}
			if len(told()) != 3 || len(made) != c.want {
				t.Errorf("%d calls were made over %d connections, want %d", len(told()), len(made), c.want)
			}
		})
	}
	// It was closed twice, and is not given to two.
	both := make(chan struct{})
	var entered atomic.Int64
	s, made := counted(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/both" {
			if entered.Add(1) == 2 {
				close(both)
			}
			<-both
		}
	})
	tr := new(outward.Transport)
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr}).Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	res.Body.Close()
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() {
			if _, _, err := call(t, tr, s.URL+"/both", "x"); err != nil {
				t.Error(err)
				if entered.Add(1) == 2 {
					close(both)
				}
			}
		})
	}
	calls.Wait()
	if made.Load() != 2 {
		t.Errorf("%d connections, want 2", made.Load())
	}
}

func TestHeadersCannotBeForged(t *testing.T) {
	s, made := counted(t, echo)
	tr := new(outward.Transport)
	defer tr.CloseIdleConnections()
	post := func(header http.Header) (string, error) {
		req, err := http.NewRequest(http.MethodPost, s.URL, strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		res, err := tr.RoundTrip(req)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		return strconv.Itoa(res.StatusCode) + " " + string(answer), err
	}
	for _, header := range []http.Header{
		{"X-Note": {"a\r\nX-Admin: yes"}}, {"X-Note": {"a\nX-Admin: yes"}}, {"X-Note": {"a\rb"}}, {"X-Note": {"a\x00b"}},
		{"X-Admin\r\nX-Note": {"a"}}, {"X-Admin:": {"a"}}, {"X Admin": {"a"}},
	} {
		if _, err := post(header); err == nil {
			t.Errorf("%q was sent", header)
		}
	}
	if made.Load() != 0 {
		t.Errorf("%d connections were made for what cannot be sent", made.Load())
	}
	// Where a request goes and where it ends is the transport's to say: said twice, it could be read in two ways.
	for range 2 {
		if answer, err := post(http.Header{"Host": {"other.example"}, "Content-Length": {"2"}, "Transfer-Encoding": {"chunked"}, "Connection": {"close"}}); answer != "200 hello" {
			t.Errorf("%q, %v", answer, err)
		}
	}
	if made.Load() != 1 {
		t.Errorf("%d connections, want 1", made.Load())
	}
}

// body is a request's body that says whether it was closed.
type body struct {
	io.Reader
	closed bool
}

func (b *body) Close() error {
	b.closed = true
	return nil
}

// A request whose body is not as long as it says is not sent, and each body is closed.
func TestBodiesOfRequests(t *testing.T) {
	s, made := counted(t, echo)
	for _, c := range []struct {
		length int64
		fails  bool
	}{{-1, true}, {0, true}, {5, false}, {6, true}} {
		tr, b := new(outward.Transport), &body{Reader: strings.NewReader("hello")}
		req, err := http.NewRequest(http.MethodPost, s.URL, b)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = c.length
		before := made.Load()
		res, err := tr.RoundTrip(req)
		if err == nil {
			res.Body.Close()
		}
		if (err != nil) != c.fails || c.fails && made.Load() != before || !b.closed {
			t.Errorf("a body of 5 bytes that says it has %d: %v, %d connections more, closed %t", c.length, err, made.Load()-before, b.closed)
		}
		tr.CloseIdleConnections()
	}
}

// An address that cannot be written as it is, is refused before anybody is called: a national domain, and what would
// end the request's line.
func TestAddressesThatCannotBeSent(t *testing.T) {
	s, made := counted(t, echo)
	tr := &outward.Transport{Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
	}}
	if _, _, err := call(t, tr, "http://xn--e1aybc.uz/%20", "x"); err != nil || made.Load() != 1 {
		t.Fatalf("%v, %d connections", err, made.Load())
	}
	for _, c := range []struct {
		url, host string
		want      string
	}{
		{"http://тест.uz/notify", "", "xn--"},
		{"http://xn--e1aybc.uz/notify", "тест.uz", "xn--"},
		{"http://тест.uz/notify", "xn--e1aybc.uz", "xn--"},
		{"http://xn--e1aybc.uz/notify", "a.uz\r\nX-Admin: yes", "xn--"},
		{"http://xn--e1aybc.uz/notify?a=b c", "", "%20"},
		{"http://xn--e1aybc.uz/notify?a= HTTP/1.1", "", "%20"},
		{"http://xn--e1aybc.uz/notify", "a.uz\x7f", "xn--"},
	} {
		req, err := http.NewRequest(http.MethodPost, c.url, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = cmp.Or(c.host, req.Host)
		var op *net.OpError
		if _, err := tr.RoundTrip(req); err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &op) || op.Op != "dial" {
			t.Errorf("%s of %q: %v, want an error of dialling that says %s", c.url, c.host, err, c.want)
		}
	}
	if made.Load() != 1 {
		t.Errorf("%d connections were made, want 1", made.Load())
	}
}

// BenchmarkCall is a small call over a kept connection, beside net/http's own client:
//
//	go test -run '^$' -bench Call ./internal/outward
func BenchmarkCall(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(echo))
	defer s.Close()
	for name, tripper := range map[string]http.RoundTripper{"outward": new(outward.Transport), "net/http": new(http.Transport)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				one := func() {
					ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
					defer cancel()
					req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, strings.NewReader(`{"a":1}`))
					if err != nil {
						b.Error(err)
						return
					}
					res, err := tripper.RoundTrip(req)
					if err != nil {
						b.Error(err)
						return
					}
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				for pb.Next() {
					one()
				}
			})
		})
	}
}
