package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/inward"
)

// Slow preparing makes the gateway let in fewer at once, down to the least; quick preparing makes them more again.
func TestPace(t *testing.T) {
	p := pace{most: newAtOnce}
	now := time.Unix(1_800_000_000, 0)
	full := func(took time.Duration) {
		n := 0
		for p.begin() {
			n++
		}
		if n != p.most {
			t.Fatalf("%d were let in, most is %d", n, p.most)
		}
		for range n {
			p.end(took, now)
		}
	}
	full(2 * preparedWithin)
	if p.most != newAtOnce*3/4 {
		t.Errorf("after one slow queue %d are let in at once, want a quarter less", p.most)
	}
	for range 100 {
		now = now.Add(2 * preparedWithin)
		full(2 * preparedWithin)
	}
	if p.most != leastPrepared {
		t.Errorf("after 100 slow queues %d are let in at once, want %d", p.most, leastPrepared)
	}
	for _, took := range []time.Duration{preparedWithin / 2, preparedWithin} {
		now = now.Add(2 * preparedWithin)
		if full(took); p.most != leastPrepared {
			t.Errorf("after ones that took %s, neither quick nor slow, %d are let in at once, want %d", took, p.most, leastPrepared)
		}
	}
	p.begin()
	if p.end(time.Millisecond, now); p.most != leastPrepared {
		t.Error("one was quick, and nobody waited: that says nothing")
	}
	if full(time.Millisecond); p.most != leastPrepared+1 {
		t.Errorf("after one quick queue %d are let in at once, want one more than %d", p.most, leastPrepared)
	}
	for range 1000 {
		now = now.Add(2 * preparedWithin)
		full(time.Millisecond)
	}
	if p.most != newAtOnce || p.under != 0 {
		t.Errorf("after quick ones %d are let in at once, want %d; %d are still counted", p.most, newAtOnce, p.under)
	}
}

// listen serves on a port of its own until the end of the test, or until end is called and no connection is left.
func listen(t *testing.T, s *inward.Server) (address string, end func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	end = func() {
		s.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { s.Close() })
	return l.Addr().String(), end
}

// There are never more connections than the limit. Those that keep us waiting make room for new ones, the
// longest first: silent ones, ones that send or read slowly, and ones that are idle after a request. One that we
// work for is never closed.
func TestConnections(t *testing.T) {
	const most = 8
	working, finish := make(chan struct{}), make(chan struct{})
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.ReadAll(r.Body)
		if r.URL.Path == "/set_accept/long" {
			close(working)
			<-finish
		}
		io.WriteString(w, "served")
		if r.URL.Path == "/set_accept/large" {
			w.Write(make([]byte, 8<<20))
		}
	})
	site := Site{API: api, Calls: []string{"set_accept"}, Ready: func() error { return nil }, Log: slog.New(slog.DiscardHandler)}
	server := Server(site.Handler(), site.Log)
	all := &conns{most: most}
	all.limit(server.HTTP)
	address, end := listen(t, server)
	var dialled []net.Conn
	dial := func(say string) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		dialled = append(dialled, c)
		if _, err := io.WriteString(c, say); err != nil {
			t.Fatal(err)
		}
		return c
	}
	answer := func(c net.Conn) string {
		t.Helper()
		c.SetReadDeadline(time.Now().Add(2 * time.Minute))
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if err != nil {
			return err.Error()
		}
		return string(b[:n])
	}
	const request = "POST /set_accept HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
	long := dial("POST /set_accept/long HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
	<-working
	for _, say := range []string{
		"",                                // silent
		"POST /set_accept HTTP/1.1\r\nHo", // its headers do not come
		"POST /set_accept HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{", // its body does not come
		"GET /set_accept HTTP/1.1\r\nHo",                                       // and so over net/http
		request + "PUT /set_accept HTTP/1.1\r\n",                               // or from the second request on
		"PUT /set_accept HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{",
	} {
		for range 5 * most {
			dial(say)
		}
		if got := answer(dial(request)); !strings.Contains(got, "served") { // and it is idle from now on
			t.Errorf("beside connections that say %q: %s", say, got)
		}
	}
	for i := range 4 * most { // and answers that are not read
		c := dial([]string{"GET", "POST"}[i%2] + " /set_accept/large HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
		if got := answer(c); !strings.Contains(got, "200 OK") {
			t.Errorf("beside clients that do not read, %d.: %.100s", i, got)
			break
		}
	}
	for i := range 2 * most { // and the newest is not the one that makes room
		c := dial(request)
		first := answer(c)
		io.WriteString(c, []string{request, "GET /set_accept HTTP/1.1\r\nHost: a\r\n\r\n"}[i%2]) // if it is closed the answer says so
		if second := answer(c); !strings.Contains(first, "served") || !strings.Contains(second, "served") {
			t.Errorf("beside connections that are idle after a request, %d.: %s, %s", i, first, second)
			break
		}
	}
	all.mu.Lock()
	if n := len(all.open) - all.shut; n > most {
		t.Errorf("%d connections are open, the limit is %d", n, most)
	}
	all.mu.Unlock()
	closed := make(chan bool, len(dialled))
	for _, c := range dialled[1:] { // all but the one at work
		go func() {
			c.SetReadDeadline(time.Now().Add(2 * time.Minute))
			var late net.Error
			_, err := io.Copy(io.Discard, c)
			closed <- !errors.As(err, &late) || !late.Timeout()
		}()
	}
	for n := range len(dialled) - most {
		if !<-closed {
			t.Errorf("%d of %d connections are closed, want %d", n, len(dialled), len(dialled)-most)
			break
		}
	}
	close(finish)
	if got := answer(long); !strings.Contains(got, "served") {
		t.Errorf("the request under way was not answered: %s", got)
	}
	for _, c := range dialled {
		c.Close()
	}
	end()
	known := func() (open, wait int) {
		all.mu.Lock()
		defer all.mu.Unlock()
		return len(all.open) + all.shut, all.waiting.Len()
	}
	for late := time.Now().Add(2 * time.Minute); ; runtime.Gosched() { // net/http tells of the end of its connections after it
		open, wait := known()
		if open+wait == 0 {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("after the end %d connections are known, %d wait", open, wait)
		}
	}
}

// line is a connection that nobody is at the other end of.
type line struct {
	net.Conn
	closed chan struct{}
}

func (c line) Close() error {
	close(c.closed)
	return nil
}

// The one that makes room is the one whose client has kept us waiting the longest since his last word, and only where there is
// one too many; one that is being closed is none any more, and nobody waits for one that has gone.
func TestLongestWaitMakesRoom(t *testing.T) {
	server, all := new(http.Server), &conns{most: 2}
	all.limit(server)
	came := func() (c line, t *tracked) {
		c = line{closed: make(chan struct{})}
		t = server.ConnContext(context.Background(), c).Value(connKey{}).(*tracked)
		server.ConnState(c, http.StateNew)
		return c, t
	}
	open := func(when string, cs ...line) {
		t.Helper()
		for i, c := range cs {
			select {
			case <-c.closed:
				t.Errorf("%s: the %d. connection is closed", when, i+1)
			default:
			}
		}
	}
	shut := func(when string, c line) {
		t.Helper()
		select {
		case <-c.closed:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the one whose turn it is stays open", when)
		}
	}
	first, firstWork := came()
	second, secondWork := came()
	open("as many as may be", first, second)
	server.ConnState(first, http.StateIdle) // it has had an answer
	third, thirdWork := came()
	shut("one too many", second)
	open("one too many", first, third)
	secondWork.waits() // its answer ends only now
	server.ConnState(first, http.StateClosed)
	fourth, fourthWork := came() // second is known still
	open("one has gone, and another is going", third, fourth)
	server.ConnState(second, http.StateClosed)
	for _, work := range []*tracked{firstWork, secondWork} {
		work.waits()
	}
	if n := all.waiting.Len(); n != 2 {
		t.Errorf("%d are waited for, want 2", n)
	}
	thirdWork.works()
	fourthWork.works()
	fifth, _ := came()
	shut("all are at work", fifth)
	open("all are at work", third, fourth)
}

// Half of the files that the process may open are for connections, if they are fewer than we want, and then the log says so.
func TestMostConnections(t *testing.T) {
	for files, want := range map[uint64]int{0: Connections, 1: 1, 2: 1, 3: 1, 4: 2, 2*Connections - 1: Connections - 1, 2 * Connections: Connections, 1 << 40: Connections} {
		var log bytes.Buffer
		most := mostConnections(files, slog.New(slog.NewTextHandler(&log, nil)))
		if said := fmt.Sprintf("files=%d connections=%d \"want files\"=8192", files, want); most != want || strings.Contains(log.String(), said) != (want < Connections) {
			t.Errorf("with %d files %d connections, want %d: %s", files, most, want, log.String())
		}
	}
}

// An address that misses again and again is turned away for a while, with its IPv6 network or from behind
// a proxy that is known; who claims to be a proxy is not believed.
func TestGuessers(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	g := guessers{proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	from := func(remote string, forwarded ...string) netip.Addr {
		r := httptest.NewRequest("POST", "/pay", nil)
		r.RemoteAddr = remote
		r.Header["X-Forwarded-For"] = forwarded
		return g.address(r)
	}
	for _, c := range []struct {
		remote    string
		forwarded []string
		want      string
	}{
		{"198.51.100.7:1", nil, "198.51.100.7"},
		{"198.51.100.7:1", []string{"203.0.113.1"}, "198.51.100.7"},
		{"10.1.2.3:1", []string{"203.0.113.1"}, "203.0.113.1"},
		{"10.1.2.3:1", []string{"192.0.2.9, 203.0.113.1"}, "203.0.113.1"},
		{"10.1.2.3:1", []string{"192.0.2.9", "203.0.113.1, 10.9.9.9"}, "203.0.113.1"},
		{"127.0.0.1:1", []string{"203.0.113.1"}, "203.0.113.1"},
		{"10.1.2.3:1", []string{"nonsense"}, "10.1.2.3"},
		{"10.1.2.3:1", []string{"10.8.8.8, 10.9.9.9"}, "10.8.8.8"},             // nobody but proxies
		{"10.1.2.3:1", []string{"192.0.2.9, 203.0.113.1:4711"}, "203.0.113.1"}, // as Azure's gateways and IIS write it
		{"10.1.2.3:1", []string{"[2001:db8:1:2:9::1]:4711, 10.9.9.9:80"}, "2001:db8:1:2::"},
		{"10.1.2.3:1", []string{"203.0.113.1:x"}, "10.1.2.3"},
		{"[::ffff:198.51.100.7]:1", nil, "198.51.100.7"},
		{"[2001:db8:1:2:3:4:5:6]:1", nil, "2001:db8:1:2::"},
		{"[::1]:1", []string{"2001:db8:1:2:9::1"}, "2001:db8:1:2::"},
	} {
		if got := from(c.remote, c.forwarded...); got != netip.MustParseAddr(c.want) {
			t.Errorf("%s, %v: %s, want %s", c.remote, c.forwarded, got, c.want)
		}
	}
	guesser, other := from("[2001:db8:1:2:3:4:5:6]:1"), from("198.51.100.7:1")
	for i := range Guesses {
		if !g.may(guesser, now) {
			t.Fatalf("it is turned away after %d misses", i)
		}
		g.missed(guesser, now)
	}
	if g.may(from("[2001:db8:1:2:ffff::]:9"), now) || !g.may(other, now) {
		t.Error("the wrong one is turned away")
	}
	if g.may(guesser, now.Add(guessesFor)) || !g.may(guesser, now.Add(2*guessesFor)) {
		t.Error("it is turned away for another time than said")
	}
	for range Guesses {
		g.missed(guesser, now.Add(2*guessesFor))
	}
	now = now.Add(4 * guessesFor) // nobody asked meanwhile
	if !g.may(guesser, now) {
		t.Error("it is turned away for longer than said")
	}
	shop, later := from("192.0.2.1:1"), now
	for range 2 * Guesses {
		g.missed(shop, later)
	}
	if g.isShop(shop, later); !g.may(shop, later) || g.may(shop, later.Add(shopFor)) != g.may(other, later.Add(shopFor)) {
		t.Error("a shop's server is turned away, or never again")
	}
	for range Guesses {
		g.missed(guesser, later)
	}
	for i := range 3 * mostGuessers {
		one := netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
		g.missed(one, later)
		g.isShop(one, later)
		if i == mostGuessers && g.may(guesser, later) {
			t.Error("as many others as are remembered let it in again")
		}
	}
	if len(g.now)+len(g.before) > 2*mostGuessers+2 || len(g.shops) > mostGuessers+1 {
		t.Errorf("%d addresses are remembered, and %d shops", len(g.now)+len(g.before), len(g.shops))
	}
}

// At the door it is the payer's own address that counts, behind a proxy that the operator names, and his pages count like
// the calls: who names one payment after another that does not exist is turned away for as long as he is told.
func TestGuesserAtTheDoor(t *testing.T) {
	pages := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status := TurnedAway(r); status != 0 {
			w.WriteHeader(status)
			return
		}
		http.NotFound(w, r)
	})
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { Miss(w); io.WriteString(w, "served") })
	site := Site{
		API: api, Calls: []string{"check_pan", "set_accept"}, Pages: pages, Paths: []string{"status"},
		Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Log: slog.New(slog.DiscardHandler),
	}.Handler()
	call := func(from, method, path string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, nil)
		r.RemoteAddr = "10.1.2.3:4711"
		r.Header.Set("X-Forwarded-For", from)
		w := httptest.NewRecorder()
		site.ServeHTTP(w, r)
		return w
	}
	const byPage, byCall, other = "203.0.113.1", "203.0.113.2", "203.0.113.3"
	for range Guesses {
		call(byPage, "GET", "/status/x")
		call(byCall, "POST", "/check_pan")
		call(other, "POST", "/set_accept") // who has credentials may be mistaken
	}
	for _, c := range []struct {
		from, method, path string
		want               int
	}{
		{byPage, "GET", "/status/x", 429}, {byPage, "POST", "/check_pan", 429}, {byPage, "POST", "/set_accept", 200},
		{byCall, "GET", "/status/x", 429}, {byCall, "POST", "/check_pan", 429}, {other, "GET", "/status/x", 404}, {other, "POST", "/check_pan", 200},
	} {
		w := call(c.from, c.method, c.path)
		if w.Code != c.want || c.want == 429 && w.Header().Get("Retry-After") != "600" {
			t.Errorf("%s, %s %s: HTTP %d, Retry-After %q, want %d", c.from, c.method, c.path, w.Code, w.Header().Get("Retry-After"), c.want)
		}
		if c.want != 429 || c.method != "POST" {
			continue
		}
		var f holdfast.Failure // and nothing is served beside it
		if err := json.Unmarshal(w.Body.Bytes(), &f); err != nil || f.ErrMessage != holdfast.CodeTooManyRequests.Info().Message || f.Developer == "" {
			t.Errorf("%s, %s %s: %s (%v)", c.from, c.method, c.path, w.Body, err)
		}
	}
}

// A new payment that was served leaves its room to the next, however many there were; where preparing them is slow, no more are
// let in than are served in good time.
func TestPreparedOneAfterAnother(t *testing.T) {
	within := func() {}
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		within()
		io.WriteString(w, "served")
	})
	site := Site{API: api, Calls: []string{"prepare_payment"}, Log: slog.New(slog.DiscardHandler)}.Handler()
	prepare := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		site.ServeHTTP(w, httptest.NewRequest("POST", "/prepare_payment", strings.NewReader("{}")))
		return w
	}
	for i := range 2 * newAtOnce {
		if w := prepare(); w.Code != http.StatusOK {
			t.Fatalf("the %d. is answered HTTP %d", i+1, w.Code)
		}
	}
	if most := site.doors.prepared.most; most != newAtOnce {
		t.Errorf("as if they had been slow, %d are let in at once, want %d", most, newAtOnce)
	}
	for range 2 {
		site.doors.prepared.most = 1 // as if they had been
		first := true
		within = func() {
			if !first {
				t.Error("two are served at once")
				return
			}
			first = false
			if w := prepare(); w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "served") {
				t.Errorf("one more than is let in: HTTP %d %s", w.Code, w.Body)
			}
		}
		if w := prepare(); w.Code != http.StatusOK {
			t.Errorf("the one that is let in: HTTP %d %s", w.Code, w.Body)
		}
	}
}

// bounded is an answer that knows how long its client may take to read it.
type bounded struct {
	*httptest.ResponseRecorder
	until time.Time
}

func (w *bounded) SetWriteDeadline(t time.Time) error {
	w.until = t
	return nil
}

// Who reads his answer slowly holds no place, and not for ever a connection.
func TestSlowReaders(t *testing.T) {
	large := strings.Repeat("x", 8<<20)
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/set_accept" {
			io.WriteString(w, "served")
			return
		}
		io.WriteString(w, large)
	})
	site := Site{API: api, Calls: []string{"set_accept"}, Ready: func() error { return nil }, Log: slog.New(slog.DiscardHandler), places: 8}
	address, _ := listen(t, Server(site.Handler(), site.Log))
	for i := range 6 * site.places {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "%s /set_accept/large HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", []string{"GET", "POST"}[i%2])
		if _, err := c.Read(make([]byte, 1)); err != nil { // it has been begun, and the rest is not read
			t.Fatal(err)
		}
	}
	w := &bounded{ResponseRecorder: httptest.NewRecorder()}
	site.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/set_accept", nil))
	if left := time.Until(w.until); left < answerReadWithin/2 || left > answerReadWithin {
		t.Errorf("who reads slowly has %s, want %s", left, answerReadWithin)
	}
	for range 10 {
		res, err := http.Get("http://" + address + "/set_accept")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusOK || string(body) != "served" {
			t.Errorf("beside slow readers: HTTP %d %s", res.StatusCode, body)
		}
	}
}

// A stranger who has as many requests wait as he can leaves places for others, and gets further ones himself when they are
// answered; a shop's server, which speaks for all its payers, is not held to that.
func TestCrowdOfOneAddress(t *testing.T) {
	const stranger, shop, other = "198.51.100.7", "198.51.100.8", "198.51.100.9"
	finish, entered := make(chan struct{}), make(chan struct{}, AtOnce)
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/set_accept" {
			Shop(w)
		} else if r.Header.Get("Long") != "" {
			entered <- struct{}{}
			<-finish
		}
		io.WriteString(w, "served")
	})
	site := Site{API: api, Calls: []string{"check_sms_key", "set_accept"}, Log: slog.New(slog.DiscardHandler)}.Handler()
	call := func(from, path, long string) int {
		r := httptest.NewRequest("POST", path, strings.NewReader("{}"))
		r.RemoteAddr = from + ":1"
		r.Header.Set("Long", long)
		w := httptest.NewRecorder()
		site.ServeHTTP(w, r)
		return w.Code
	}
	call(shop, "/set_accept", "")
	var waiting sync.WaitGroup
	for _, from := range []string{stranger, shop} {
		for range ofOneAtOnce {
			waiting.Go(func() {
				if status := call(from, "/check_sms_key", "yes"); status != http.StatusOK {
					t.Errorf("one of %s that waited: HTTP %d", from, status)
				}
			})
			<-entered
		}
	}
	for from, want := range map[string]int{stranger: http.StatusServiceUnavailable, shop: http.StatusOK, other: http.StatusOK} {
		if status := call(from, "/check_sms_key", ""); status != want {
			t.Errorf("one more of %s: HTTP %d, want %d", from, status, want)
		}
	}
	close(finish)
	waiting.Wait()
	for range 2 * ofOneAtOnce {
		if status := call(stranger, "/check_sms_key", ""); status != http.StatusOK {
			t.Fatalf("after all were answered: HTTP %d", status)
		}
	}
}

// unread is a body that nobody may wait for.
type unread struct{ t *testing.T }

func (b unread) Read([]byte) (int, error) {
	b.t.Error("the body of a request that is not let in was waited for")
	return 0, io.EOF
}

// noBugs is a log in which no bug may stand.
type noBugs struct{ t *testing.T }

func (l noBugs) Write(line []byte) (int, error) {
	l.t.Errorf("%s", line)
	return len(line), nil
}

// Who cannot be served is told so before his body is waited for, once, and is not served beside that. Who finds no room only
// when his body is here is told the same, and nothing is kept for him.
func TestBodiesAtAFullServer(t *testing.T) {
	finish, entered := make(chan struct{}), make(chan struct{}, AtOnce)
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Long") != "" {
			entered <- struct{}{}
			<-finish
		}
		io.WriteString(w, "served")
	})
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(max(TurnedAway(r), http.StatusOK)) })
	calls := []string{"prepare_payment", "check_sms_key", "set_accept"}
	site := Site{API: api, Calls: calls, Pages: page, Paths: []string{"status"}, Log: slog.New(slog.NewTextHandler(noBugs{t}, &slog.HandlerOptions{Level: slog.LevelError}))}.Handler()
	call := func(path, long string, body io.Reader) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", path, body)
		r.Header.Set("Long", long)
		w := httptest.NewRecorder()
		site.ServeHTTP(w, r)
		return w
	}
	var waiting sync.WaitGroup
	fill := func(n int) {
		for range n {
			waiting.Go(func() { call("/set_accept", "yes", strings.NewReader("{}")) })
			<-entered
		}
	}
	// begin returns when the rest of a request's body is waited for; end sends it.
	begin := func(path string) (end func() *httptest.ResponseRecorder) {
		r, w := io.Pipe()
		answer := make(chan *httptest.ResponseRecorder, 1)
		go func() { answer <- call(path, "", r) }()
		io.WriteString(w, "{")
		return func() *httptest.ResponseRecorder {
			io.WriteString(w, "}")
			w.Close()
			return <-answer
		}
	}
	shed := func(what string, w *httptest.ResponseRecorder) {
		t.Helper()
		var f holdfast.Failure
		if err := json.Unmarshal(w.Body.Bytes(), &f); err != nil || w.Code != http.StatusServiceUnavailable || f.Error != holdfast.CodeTooManyRequests {
			t.Errorf("%s: HTTP %d %s (%v)", what, w.Code, w.Body, err)
		}
	}
	fill(newAtOnce - 1)
	if now, most := site.UnderWay(); now != newAtOnce-1 || most != AtOnce {
		t.Errorf("under way are %d of %d", now, most)
	}
	if w := call("/prepare_payment", "", strings.NewReader("{}")); w.Code != http.StatusOK {
		t.Errorf("the last new payment that there is room for: HTTP %d", w.Code)
	}
	end := begin("/prepare_payment")
	fill(1)
	shed("a new payment whose body came late", end())
	shed("a new payment", call("/prepare_payment", "", unread{t}))
	ends := []func() *httptest.ResponseRecorder{begin("/check_sms_key"), begin("/set_accept")}
	fill(AtOnce - newAtOnce)
	for i, end := range ends {
		shed(calls[i+1]+" whose body came late", end())
	}
	for _, c := range calls {
		shed(c, call("/"+c, "", unread{t}))
	}
	if w := call("/status/x", "", unread{t}); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" {
		t.Errorf("a page: HTTP %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	close(finish)
	waiting.Wait()
	if d := site.doors; len(d.places) != 0 || len(d.guessers.inside) != 0 || d.prepared.under != 0 {
		t.Errorf("when all are answered %d have places, %d addresses are inside, %d payments are prepared", len(d.places), len(d.guessers.inside), d.prepared.under)
	}
}

// A full server sheds new payments first, then everything, and says when to come again; it takes up work
// as soon as there is room.
func TestShedding(t *testing.T) {
	finish := make(chan struct{})
	entered := make(chan struct{}, AtOnce)
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Long") != "" {
			entered <- struct{}{}
			<-finish
		}
		io.WriteString(w, "served")
	})
	calls := []string{"prepare_payment", "pay", "set_accept", "refund"}
	site := Site{API: api, Calls: calls, Ready: func() error { return nil }, Log: slog.New(slog.DiscardHandler)}
	address, _ := listen(t, Server(site.Handler(), site.Log))
	answered := make(chan error, AtOnce)
	fill := func(n int) {
		for range n {
			go func() {
				req, _ := http.NewRequest("POST", "http://"+address+"/set_accept", strings.NewReader("{}"))
				req.Header.Set("Long", "yes")
				res, err := http.DefaultClient.Do(req)
				if err == nil {
					res.Body.Close()
					if res.StatusCode != http.StatusOK {
						err = fmt.Errorf("HTTP %d", res.StatusCode)
					}
				}
				answered <- err
			}()
		}
		for range n {
			<-entered
		}
	}
	expect := func(status int, calls ...string) {
		t.Helper()
		for _, call := range calls {
			res, err := http.Post("http://"+address+"/"+call, "application/json", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != status || status != http.StatusOK && res.Header.Get("Retry-After") == "" {
				t.Errorf("%s: HTTP %d, Retry-After %q, want %d", call, res.StatusCode, res.Header.Get("Retry-After"), status)
			}
		}
	}
	expect(200, calls...)
	fill(newAtOnce)
	expect(503, "prepare_payment", "pay")
	expect(200, "set_accept", "refund")
	fill(AtOnce - newAtOnce)
	expect(503, calls...)
	expect(200, "healthz", "readyz")
	close(finish)
	for range AtOnce {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
	expect(200, calls...)
}
