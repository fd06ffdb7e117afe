package notify_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/gateway"
	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/notify"
	"holdfast/internal/payment"
	"holdfast/internal/processor/svgate"
	"holdfast/internal/sim"
	"holdfast/internal/store"
	"holdfast/internal/vault"
)

// world is the gateway without its web server: the store, the centre's simulator behind its connector, the
// gateway and the notifier, on a clock that a test moves.
type world struct {
	t        testing.TB
	dir      string // of the store
	now      func() time.Time
	offset   *offset
	sim      *sim.Sim
	store    *store.Store
	gateway  *gateway.Gateway
	cfg      notify.Config
	notifier *notify.Notifier
	shop     merchant.Shop
	secret   merchant.Secret
	key      string
	n        atomic.Int64 // payments made so far
	bury     []func()     // what ends the connections of dead endpoints
}

// offset is how far the world's clock has been moved.
type offset struct {
	mu sync.Mutex
	d  time.Duration
}

func (o *offset) add(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.d += d
}

func (o *offset) get() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.d
}

var morning = time.Date(2026, 11, 23, 4, 17, 0, 0, time.UTC)

// newWorld's clock stands still but for what advance moves it; running worlds follow the real clock.
func newWorld(t testing.TB, running bool) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), offset: new(offset), key: string(merchant.NewSecret()), secret: merchant.NewSecret()}
	w.now = func() time.Time { return morning.Add(w.offset.get()) }
	if running {
		w.now = func() time.Time { return time.Now().Add(w.offset.get()) }
	}
	w.sim = sim.New(sim.Config{Now: w.now, Seed: 7})
	centre := httptest.NewServer(w.sim.Handler())
	t.Cleanup(centre.Close)
	uzcard, err := svgate.New(svgate.Config{
		Endpoint: centre.URL + "/svgate", Login: "holdfast", Password: "holdfast", MerchantID: "90050017182", TerminalID: "91419475", Port: 16050, Now: w.now,
	})
	check(t, err)
	quiet := slog.New(slog.DiscardHandler)
	w.store, err = store.Open(store.Config{Dir: w.dir, Serve: true, Now: w.now, Log: quiet})
	check(t, err)
	t.Cleanup(func() { w.store.Close() })
	centres := gateway.Centres{{Processor: uzcard, Method: payment.Uzcard}}
	w.gateway = gateway.New(gateway.Config{Store: w.store, Live: centres, Test: centres, HoldFor: 20 * 24 * time.Hour, Log: quiet})
	keys, err := vault.Open(filepath.Join(t.TempDir(), "key"))
	check(t, err)
	sealed, err := keys.Seal("unique_key", []byte(w.key))
	check(t, err)
	w.shop, err = w.store.CreateShop(t.Context(), merchant.Shop{Name: "Test", SecretHash: w.secret.Hash(), UniqueKey: sealed, Settings: merchant.Settings{
		Live: true, Tariff: merchant.Tariff{Fee: merchant.Fee{Rate: 20_000}},
	}})
	check(t, err)
	w.cfg = notify.Config{
		Store: w.store, Decide: w.gateway.Decide, AllowPrivate: true, Log: quiet,
		UniqueKey: func(s merchant.Shop) (string, error) {
			plain, err := keys.Unseal("unique_key", s.UniqueKey)
			return string(plain), err
		},
	}
	w.notifier = notify.New(w.cfg)
	return w
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition; the deadline is generous, for a loaded machine.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: it never came to that", what)
		}
	}
}

// prepare makes a payment of 1000.00 UZS that tells of itself to an address.
func (w *world) prepare(notifyURL string, autoCapture bool) payment.Payment {
	w.t.Helper()
	p, _, err := w.gateway.Prepare(context.Background(), w.shop, payment.Terms{
		ShopPaymentID: fmt.Sprint("order-", w.n.Add(1)), Amount: money.New(100_000, money.UZS), AutoCapture: autoCapture, Methods: []payment.Method{payment.Uzcard},
		ReturnURL: "https://a.uz", NotifyURL: notifyURL, Language: "uz",
	}, 24*time.Hour)
	check(w.t, err)
	return p
}

// challenge has a code sent for it: wait_user_action.
func (w *world) challenge(p payment.Payment) payment.Payment {
	w.t.Helper()
	card := w.sim.Cards()[0] // the shared one, whose code is known
	p, err := w.gateway.Pay(context.Background(), w.shop, p.ID, gateway.Card{Method: payment.Uzcard, Card: payment.Card{Number: card.PAN, Expiry: card.Exp}})
	check(w.t, err)
	return p
}

// hold brings it to waiting_for_capture, or in one stage to succeeded.
func (w *world) hold(p payment.Payment) payment.Payment {
	w.t.Helper()
	p = w.challenge(p)
	p, err := w.gateway.SubmitCode(context.Background(), p.ID, p.Attempt.Challenge.VerifyID, payment.OTP(w.sim.Cards()[0].FixedOTP))
	check(w.t, err)
	return p
}

func (w *world) decide(p payment.Payment, accept payment.Accept) payment.Payment {
	w.t.Helper()
	p, err := w.gateway.Decide(context.Background(), p.ID, accept, money.Amount{}, payment.ByMerchant)
	check(w.t, err)
	return p
}

func (w *world) payment(id payment.ID) payment.Payment {
	w.t.Helper()
	p, err := w.store.Payment(context.Background(), id)
	check(w.t, err)
	return p
}

// deliver sends all that is due now and within the next second.
func (w *world) deliver() {
	w.t.Helper()
	for range 10_000 {
		n, err := w.notifier.Step(context.Background())
		check(w.t, err)
		next, waits, err := w.store.NextEvent(context.Background())
		check(w.t, err)
		switch {
		case n > 0:
		case !waits || next.Sub(w.store.Now()) > time.Second:
			return
		default:
			w.offset.add(max(next.Sub(w.store.Now()), 10*time.Millisecond))
		}
	}
	w.t.Fatal("the notifications do not end")
}

// next moves the clock to when the next event is due, and says how far; false: none is.
func (w *world) next() (time.Duration, bool) {
	w.t.Helper()
	at, waits, err := w.store.NextEvent(context.Background())
	check(w.t, err)
	if !waits {
		return 0, false
	}
	pause := at.Sub(w.store.Now())
	w.offset.add(max(pause, 0))
	return pause, true
}

// events is what is known of a payment's events.
func (w *world) events(id payment.ID) []store.EventRecord {
	w.t.Helper()
	timeline, err := w.store.Timeline(context.Background(), id)
	check(w.t, err)
	return timeline.Events
}

func (w *world) audit() {
	w.t.Helper()
	a, err := w.store.Audit(context.Background(), nil)
	check(w.t, err)
	for _, v := range a.Violations {
		w.t.Error(v)
	}
}

// told is one notification as the merchant's server got it.
type told struct {
	at     time.Time // the world's clock
	header http.Header
	body   []byte
	holdfast.Notification
}

// shopServer is a merchant's notify_url.
type shopServer struct {
	w   *world
	url string

	mu   sync.Mutex
	told []told
	// answer says what is answered; nil: 200 and {}.
	answer func(told) (status int, body string)
}

func (w *world) newShopServer(answer func(told) (int, string)) *shopServer {
	s := &shopServer{w: w, answer: answer}
	server := httptest.NewServer(s)
	w.t.Cleanup(server.Close)
	s.url = server.URL + "/notify?order=1"
	return s
}

func (s *shopServer) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	n, err := holdfast.VerifyNotificationAt(s.w.key, body, r.Header, s.w.now())
	if err != nil {
		s.w.t.Errorf("the notification does not verify: %v\n%v %s", err, r.Header, body)
	}
	got := told{s.w.now(), r.Header.Clone(), body, n}
	s.mu.Lock()
	s.told = append(s.told, got)
	answer := s.answer
	s.mu.Unlock()
	if answer == nil {
		io.WriteString(rw, "{}")
		return
	}
	status, text := answer(got)
	rw.WriteHeader(status)
	io.WriteString(rw, text)
}

// all is what was told so far.
func (s *shopServer) all() []told {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.told)
}

func (s *shopServer) statuses() (list []string) {
	for _, n := range s.all() {
		list = append(list, n.Status)
	}
	return list
}

func always(status int, body string) func(told) (int, string) {
	return func(told) (int, string) { return status, body }
}
