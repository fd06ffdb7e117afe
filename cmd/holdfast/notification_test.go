package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast"
)

// listener is a shop's endpoint: it takes what one of its keys has signed, and refuses the rest.
type listener struct {
	*httptest.Server

	mu    sync.Mutex
	keys  []string
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
	if h.key == "" {
		w.WriteHeader(http.StatusUnauthorized)
	}
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
