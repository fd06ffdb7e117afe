package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"holdfast"
	"holdfast/internal/postgrestest"
	"holdfast/internal/store"
)

// listener is a shop's endpoint: it takes what one of its keys has signed, and refuses the rest.
type listener struct {
	*httptest.Server

	mu    sync.Mutex
	keys  []string
	away  bool // it answers everything with 503
	heard []heard
}

// heard is a notification as it came.
type heard struct {
	at      time.Time
	uuid    string
	status  string
	attempt string
	key     string // by which it is signed, of those that the listener has; "": by none of them
}

// listenAsShop starts an endpoint that has the shop's key.
func (s *stage) listenAsShop() *listener {
	l := &listener{keys: []string{s.shop.UniqueKey}}
	l.Server = httptest.NewServer(l)
	s.t.Cleanup(l.Close)
	return l
}

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := heard{at: time.Now(), attempt: r.Header.Get("Holdfast-Attempt")}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	var n holdfast.Notification
	if err := json.Unmarshal(body, &n); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	h.uuid, h.status = n.PaymentUUID, n.Status
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range l.keys {
		if _, err := holdfast.VerifyNotification(key, body, r.Header); err == nil {
			h.key = key
		}
	}
	l.heard = append(l.heard, h)
	switch {
	case l.away:
		w.WriteHeader(http.StatusServiceUnavailable)
	case h.key == "":
		w.WriteHeader(http.StatusUnauthorized)
	}
}

func (l *listener) goAway(away bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = away
}

// of is what came about a payment.
func (l *listener) of(uuid string) (all []heard) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.heard {
		if h.uuid == uuid {
			all = append(all, h)
		}
	}
	return all
}

// give lets the endpoint take what a further key has signed.
func (l *listener) give(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys = append(slices.Clone(l.keys), key)
}

// cancelled is a payment that the shop calls off, which it is told at its endpoint.
func (s *stage) cancelled(name, notifyURL string) (uuid string) {
	s.t.Helper()
	request := prepare(name)
	request.NotifyURL = notifyURL
	state, err := s.client().Prepare(s.t.Context(), request)
	if err == nil {
		err = s.accept(state.PaymentUUID, "0")
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return state.PaymentUUID
}

// A shop gets a new unique_key beside the gateway that serves: within a second all is signed with it, and what the endpoint
// has refused meanwhile comes again.
func TestRotateKey(t *testing.T) {
	s := newStage(t)
	shop := s.listenAsShop()
	before := s.cancelled("before", shop.URL)
	s.until("it is told", func() bool { return len(shop.of(before)) == 1 })
	if h := shop.of(before)[0]; h.key != s.shop.UniqueKey {
		t.Fatalf("signed with another key than the shop's: %+v", h)
	}
	s.refuses("there is no shop 9: holdfast shop list shows all", "shop", "rotate-key", "9")

	var said map[string]any
	if err := json.Unmarshal([]byte(s.says(`"shop_id":1`, "shop", "rotate-key", "1", "--json")), &said); err != nil {
		t.Fatal(err)
	}
	rotated, key := time.Now(), said["unique_key"].(string)
	if len(said) != 2 || len(key) != 36 || key == s.shop.UniqueKey {
		t.Fatalf("it says %v", said)
	}
	var refused string
	for i := 0; refused == ""; i++ {
		made := time.Now()
		uuid := s.cancelled(fmt.Sprint("after-", i), shop.URL)
		s.until("it is told", func() bool { return len(shop.of(uuid)) > 0 })
		switch h := shop.of(uuid)[0]; {
		case h.key == "":
			refused = uuid
		case made.Sub(rotated) > time.Second:
			t.Fatalf("signed with the old key %s after there was a new one", made.Sub(rotated))
		}
	}
	shop.give(key)
	s.until("what was refused comes again", func() bool { return len(shop.of(refused)) > 1 })
	if again := shop.of(refused)[1]; again.key != key || again.attempt != "2" {
		t.Errorf("it came again as %+v, want the new key", again)
	}
	// The secret is as it was, and the books are.
	s.cancelled("at the end", shop.URL)
	s.atRest()
}

// What an operator has sent again beside gateways that serve, and without one.
func TestNotificationsByHand(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { notificationsByHand(t, newStage(t)) })
	t.Run("PostgreSQL", func(t *testing.T) {
		s := newStageOn(t, postgrestest.Database(t), "error", nil)
		t.Setenv("HOLDFAST_DB", s.db)
		second := s.beside()
		notificationsByHand(t, s)
		second.kill()
		s.atRest()
	})
}

func notificationsByHand(t *testing.T, s *stage) {
	shop := s.listenAsShop()
	uuid := s.cancelled("order-1", shop.URL)
	attempts := func(n int) func() bool { return func() bool { return len(shop.of(uuid)) == n } }
	s.until("it is told", attempts(1))
	s.until("that is on record", func() bool {
		said, _ := s.command("notification", "list")
		return strings.Contains(said, "no notification waits to be sent")
	})

	// Taken, it is sent again, at once, and signed as ever; by whichever name the payment is called.
	for i, named := range [][]string{{uuid}, {"--shop", "1", "order-1"}} {
		began := time.Now()
		s.says(fmt.Sprintf("notification 1 of payment %s (canceled) to %s, attempt %d: HTTP 200; delivered", uuid, shop.URL, i+2), append([]string{"notification", "send"}, named...)...)
		took := time.Since(began)
		all := shop.of(uuid)
		if len(all) != i+2 || all[i+1].key != s.shop.UniqueKey || all[i+1].attempt != fmt.Sprint(i+2) || all[i+1].status != "canceled" {
			t.Fatalf("it came as %+v", all)
		}
		t.Logf("sent %s after it was asked for, and known %s after", all[i+1].at.Sub(began).Round(time.Millisecond), took.Round(time.Millisecond))
	}
	var sent shownNotice
	if err := json.Unmarshal([]byte(s.says(uuid, "notification", "send", uuid, "--json")), &sent); err != nil {
		t.Fatal(err)
	}
	if sent.Attempts != 4 || sent.LastStatus != 200 || sent.Outcome != "delivered" || sent.NextAt != nil || sent.LastAt == nil || sent.BeingSent || sent.ShopPaymentID != "order-1" || sent.Number != 1 {
		t.Errorf("it says %+v", sent)
	}

	// Not taken, it waits for its next attempt.
	shop.goAway(true)
	s.says("attempt 5: answered 503; it is sent again at 20", "notification", "send", uuid)
	listed := s.says("answered 503", "notification", "list")
	for _, want := range []string{uuid, "1 canceled", shop.URL} {
		if !strings.Contains(listed, want) {
			t.Errorf("the list does not say %q:\n%s", want, listed)
		}
	}
	s.says("no notification waits", "notification", "list", "--shop", "2")
	s.says("no notification waits", "notification", "list", "--since", "0s")
	s.says(uuid, "notification", "list", "--since", "1h", "--shop", "1", "--json")
	s.says("no notification was given up", "notification", "list", "--given-up")

	// What cannot be is refused, and says why.
	state, err := s.client().Prepare(t.Context(), prepare("order-2"))
	if err != nil {
		t.Fatal(err)
	}
	s.refuses("nothing was changed: nothing has happened to this payment yet that its shop is told", "notification", "send", state.PaymentUUID)
	silent := prepare("order-3")
	silent.NotifyURL, silent.AutoCapture = "", new(true)
	if state, err = s.client().Prepare(t.Context(), silent); err == nil {
		err = s.accept(state.PaymentUUID, "0")
	}
	if err != nil {
		t.Fatal(err)
	}
	s.refuses("this payment has no notify_url, and its shop had none when it was prepared: the shop can ask for its status", "notification", "send", state.PaymentUUID)
	held := s.paid("order-4", s.card(0))
	s.fault(map[string]any{"method": "hold.dismiss.charge", "fault": "answer_lost"})
	s.fault(map[string]any{"method": "trans.ext", "fault": "garbage", "times": 1000})
	if err := s.accept(held, "600.00"); err == nil {
		t.Fatal("a capture whose answer is lost is acknowledged")
	}
	s.refuses("nothing was changed: its shop was asked for a decision last, and there is one: capture, by set_accept; it is told as soon as it is known what became of that\n", "notification", "send", held)

	if s.db == "" {
		givenUp(t, s, shop, uuid)
	}
	if req, err := http.NewRequest(http.MethodDelete, s.sim.URL+"/sim/faults", nil); err != nil {
		t.Fatal(err)
	} else if res, err := http.DefaultClient.Do(req); err != nil {
		t.Fatal(err)
	} else {
		res.Body.Close()
	}
	s.says("", "doubt", "ask", held)
	if s.db == "" {
		s.atRest()
	}
}

// givenUp goes on where the shop's endpoint is away: for so long that it is given up.
func givenUp(t *testing.T, s *stage, shop *listener, uuid string) {
	s.kill()
	s.says("nobody has sent notification 1 of payment "+uuid, "notification", "send", uuid, "--wait", "100ms")
	conn, err := sqlite.OpenConn(filepath.Join(s.dir, store.File), sqlite.OpenReadWrite)
	if err == nil { // it is told of what was four days ago
		err = errors.Join(sqlitex.ExecuteTransient(conn, "UPDATE events SET at = at - 345600000000", nil), conn.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	s.start() // and sends what nobody has sent
	list := func() string {
		said, _ := s.command("notification", "list", "--given-up", "--since", "1h")
		return said
	}
	s.until("it is given up", func() bool { return strings.Contains(list(), uuid) })
	if said := list(); !strings.Contains(said, "answered 503") || !strings.Contains(said, "gave up 20") {
		t.Errorf("what was given up is listed as\n%s", said)
	}
	s.says("attempt 7: answered 503; gave up", "notification", "send", uuid)
	s.says(uuid, "notification", "list", "--given-up")
	s.refuses("there is no shop 2", "notification", "send-all", "--shop", "2", "--since", "1h")
	s.says("notifications of shop 1 that were given up, and are due now: 0", "notification", "send-all", "--shop", "1", "--since", "0s")
	shop.goAway(false)
	before := len(shop.of(uuid))
	s.says(`"shop_id":1`, "notification", "send-all", "--shop", "1", "--since", time.Now().Add(-time.Hour).Format("2006-01-02 15:04"), "--json")
	s.until("it comes", func() bool { return len(shop.of(uuid)) == before+1 })
	s.until("that is on record", func() bool { return !strings.Contains(list(), uuid) })
	if h := shop.of(uuid)[before]; h.key != s.shop.UniqueKey || h.attempt != "8" {
		t.Errorf("it came as %+v", h)
	}
}
