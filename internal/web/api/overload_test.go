package api_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/internal/web"
)

// stalled is a request whose body does not come.
const stalled = "POST /set_accept HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"

// More requests than there are places, whose bodies do not come, hold up nobody: a payment goes through
// beside them. What is shed when the places are really taken is looked at in package web.
func TestStalledBodies(t *testing.T) {
	w := newWorld(t)
	for range web.AtOnce + 64 {
		conn := w.raw()
		_, err := io.WriteString(conn, stalled)
		check(t, err)
	}
	uuid := w.prepare("beside", twoStage)
	w.hold(uuid, w.card("ok"))
	w.ok("/set_accept", w.accept(uuid, `"accept_status":"capture"`))
	if p := w.stored(uuid); p.Captured.Minor != 100_000 {
		t.Errorf("captured is %s", p.Captured)
	}
	w.audit()
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
