package api_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/internal/web"
)

// stalled is a request whose body does not come.
const stalled = "POST /set_accept HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"

// TestOverload fills the server with requests whose bodies do not come. What is more than it can take
// is told to come again; new payments are turned away before the others; its health is still told.
func TestOverload(t *testing.T) {
	w := newWorld(t)
	uuid := w.prepare("before", twoStage)
	w.hold(uuid, w.card("ok"))
	// The server ends a request whose body has not come in ten seconds; on a slow machine others take its place.
	var waiting []net.Conn
	topUp := func(until func() bool) func() bool {
		return func() bool {
			if until() {
				return true
			}
			if len(waiting) < 4*web.AtOnce {
				conn := w.raw()
				_, err := io.WriteString(conn, stalled)
				check(t, err)
				waiting = append(waiting, conn)
			}
			return false
		}
	}
	fill := func(n int) {
		t.Helper()
		for range n {
			conn := w.raw()
			_, err := io.WriteString(conn, stalled)
			check(t, err)
			waiting = append(waiting, conn)
		}
	}
	shed := func(path string, body string) bool {
		t.Helper()
		a, err := w.do("POST", path, strings.NewReader(body))
		check(t, err)
		if a.status == http.StatusOK {
			return false
		}
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
			t.Fatalf("%s: HTTP %d %v", path, a.status, a.header)
		}
		if got := parse(t, a.body).(object); fmt.Sprint(got["error"]) != "124" || got["data"] != nil || got["errMessage"] == "" || got["errMessage"] != got["errorMessage"] {
			t.Errorf("%s: %s", path, a.body)
		}
		return true
	}
	healthy := func() {
		t.Helper()
		for _, path := range []string{"/healthz", "/readyz"} {
			if a, err := w.do("GET", path, nil); err != nil || a.status != http.StatusOK {
				t.Errorf("%s: HTTP %d, %v", path, a.status, err)
			}
		}
	}
	status := fmt.Sprintf(`{%s,"shop_transaction_id":"before"}`, w.shop.credentials())

	// Three quarters full: new payments and new cards are turned away, decisions are not.
	fill(web.AtOnce * 4 / 5)
	eventually(t, "new payments and new cards are shed", topUp(func() bool {
		return shed("/prepare_payment", status) && shed("/pay/"+uuid, `{"method":"uzcard"}`)
	}))
	if shed("/verificationInfo/"+uuid, "") {
		t.Error("a payment under way was turned away before its time")
	}
	if shed("/set_accept", w.accept(uuid, `"accept_status":"capture"`)) {
		t.Error("a decision was turned away before its time")
	}
	healthy()
	// Full: nothing more is let in.
	fill(web.AtOnce / 5)
	eventually(t, "everything is shed", topUp(func() bool { return shed("/set_accept", w.accept(uuid, `"accept_status":"capture"`)) }))
	healthy()
	// Those who wait are gone, and the server takes up work again.
	for _, c := range waiting {
		c.Close()
	}
	eventually(t, "the server takes payments again", func() bool { return !shed("/prepare_payment", status) })
	if p := w.stored(uuid); p.Captured.Minor != 100_000 {
		t.Errorf("captured is %s", p.Captured)
	}
}

// A gateway that is stopping turns calls away with 503 and Retry-After, not as a bug of its own.
func TestStopping(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uuid := w.prepare("stops", "")
	w.pay(uuid, w.card("ok"))
	check(t, w.store.Close())
	for path, body := range map[string]string{
		"/prepare_payment": fmt.Sprintf(`{%s,"shop_transaction_id":"new","total_sum":1,"currency":"UZS","return_url":"https://a.uz"}`, w.shop.credentials()),
	} {
		begun := time.Now()
		a, err := w.do("POST", path, strings.NewReader(body))
		check(t, err)
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || time.Since(begun) > 10*time.Second {
			t.Errorf("%s: HTTP %d %v %s", path, a.status, a.header, a.body)
		}
		if got := parse(t, a.body).(object); fmt.Sprint(got["error"]) != "125" {
			t.Errorf("%s: %s", path, a.body)
		}
	}
}
