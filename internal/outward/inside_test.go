package outward

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// line is a connection that nobody is at the other end of.
type line struct {
	net.Conn
	closed *int
}

func (l line) Close() error {
	*l.closed++
	return nil
}

// What nobody uses is closed when its time has come, and not before; of too many servers some are forgotten, with all that
// leads to them; and what is kept is one caller's at a time, the one used last first.
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := 0
		to := func(host string) *conn { return &conn{Conn: line{closed: &closed}, server: server{host: host}} }
		tr := &Transport{IdleFor: 30 * time.Second}
		kept := func(when string, servers, shut int) {
			t.Helper()
			synctest.Wait()
			tr.mu.Lock()
			defer tr.mu.Unlock()
			if len(tr.idle) != servers || closed != shut || tr.sweeping != (servers > 0) {
				t.Errorf("%s: %d servers are known, %d connections closed, want %d and %d; sweeping: %t", when, len(tr.idle), closed, servers, shut, tr.sweeping)
			}
		}
		tr.keep(to("a"))
		time.Sleep(10 * time.Second)
		tr.keep(to("b"))
		tr.keep(to("a"))
		kept("at first", 2, 0)
		time.Sleep(20 * time.Second)
		kept("when the first one's time has come", 2, 1)
		time.Sleep(30 * time.Second)
		kept("and the others'", 0, 3)
		tr.keep(to("a"))
		time.Sleep(time.Minute)
		kept("and once more", 0, 4)

		tr.MostIdle, closed = 2, 0
		first, second, third := to("a"), to("a"), to("a")
		for _, c := range []*conn{first, second, third} {
			tr.keep(c)
		}
		kept("as many as may be", 1, 1)
		for i, want := range []*conn{third, second, nil} {
			if c := tr.take(server{host: "a"}); c != want {
				t.Errorf("the %d. that is taken is another one", i+1)
			}
		}
		if len(tr.idle) != 0 {
			t.Error("a server is known to which nothing leads")
		}
		tr.keep(third)
		tr.CloseIdleConnections()
		if c := tr.take(server{host: "a"}); c != nil || closed != 2 {
			t.Errorf("after all are closed one is kept, or %d are closed", closed)
		}

		closed = 0
		for i := range keptServers {
			tr.keep(to(strconv.Itoa(i)))
		}
		tr.keep(to("0"))
		kept("as many servers as may be", keptServers, 0)
		tr.keep(to("one more"))
		if c := tr.take(server{host: "one more"}); c == nil || len(tr.idle) != keptServers-1 || closed < 1 || closed > 2 {
			t.Errorf("one server more: %d are known, %d connections closed", len(tr.idle)+1, closed)
		}
		tr.CloseIdleConnections()
		time.Sleep(time.Minute)
	})
}

// Nothing of a request stays in the memory that the next one is written in, nor does much of it.
func TestRequestsAreForgotten(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	tr := new(Transport)
	defer tr.CloseIdleConnections()
	for _, body := range []string{"8600313260861293", strings.Repeat("8600313260861293", 1<<16)} {
		res, err := (&http.Client{Transport: tr}).Post(s.URL, "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		b := *requests.Get().(*[]byte)
		if b = b[:cap(b)]; len(b) > 4*bufferBytes || bytes.Contains(b, []byte("8600")) {
			t.Errorf("%d bytes are kept, with the request in them", len(b))
		}
	}
}
