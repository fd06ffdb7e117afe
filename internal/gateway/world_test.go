package gateway_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"holdfast/internal/gateway"
	"holdfast/internal/ledger"
	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor/svgate"
	"holdfast/internal/sim"
	"holdfast/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// t0 is when the tests begin.
var t0 = time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)

const (
	total   = 100_000 // minor units: 1000.00 UZS
	ttl     = 15 * time.Minute
	holdFor = 30 * time.Minute
)

func uzs(minor int64) money.Amount { return money.New(minor, money.UZS) }

// world is a gateway with its store, the real connector, and over HTTP the simulated centre with
// books of its own. One clock, which only the test moves, is everybody's.
type world struct {
	t       testing.TB
	dir     string
	sim     *sim.Sim
	centre  *svgate.Connector
	gateway *gateway.Gateway
	store   *store.Store
	open    opener  // of the stores; see regimes_test.go
	others  []other // further gateways on the same database
	shop    merchant.Shop

	db string // a database of PostgreSQL; "": a file in dir

	elapsed func() time.Duration // see store.Config, where a test sets the clock

	mu   sync.Mutex
	now  time.Time
	at   func(gateway.Point, payment.ID) // at each named point, where a test wants to know
	call func(method string)             // when a call comes in at the centre, where a test wants to know
	n    int                             // payments so far
}

// newWorld makes a world; answer is how long the centre may take (real time), default 10 s.
func newWorld(t testing.TB, answer ...time.Duration) *world {
	t.Helper()
	return newWorldOn(t, engines[0], answer...)
}

func newWorldOn(t testing.TB, e engine, answer ...time.Duration) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), now: t0, open: e.open, others: make([]other, e.gateways-1), shop: merchant.Shop{ID: 1, Settings: merchant.Settings{
		Live:   true,
		Tariff: merchant.Tariff{ID: 3, Fee: merchant.Fee{Rate: 20_000}},
	}}}
	if e.database != nil {
		w.db = e.database(t)
	}
	w.sim = sim.New(sim.Config{Now: w.clock, Seed: 7, SlowAnswer: 2 * time.Second})
	server := httptest.NewServer(http.HandlerFunc(w.serve))
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	cfg := svgate.Config{
		Endpoint: server.URL + "/svgate", Login: "holdfast", Password: "holdfast",
		MerchantID: "90050017182", TerminalID: "91419475", Port: 16050,
		HTTP: &http.Client{Transport: transport}, Now: w.clock,
	}
	if len(answer) > 0 {
		cfg.Answer = answer[0]
	}
	var err error
	if w.centre, err = svgate.New(cfg); err != nil {
		t.Fatal(err)
	}
	w.start()
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Errorf("close: %v", err)
		}
		transport.CloseIdleConnections()
		server.Close()
	})
	return w
}

// start opens the store and makes a gateway on it.
func (w *world) start() {
	w.t.Helper()
	w.store, w.gateway = w.serveFrom(nil)
	for i := range w.others {
		w.others[i].store, w.others[i].gateway = w.serveFrom(w.store)
	}
}

func (w *world) serveFrom(first *store.Store) (*store.Store, *gateway.Gateway) {
	w.t.Helper()
	s, err := w.open(store.Config{Dir: w.dir, DB: w.db, Serve: true, Now: w.clock, Elapsed: w.elapsed, Log: slog.New(slog.DiscardHandler)}, first)
	if err != nil {
		w.t.Fatal(err)
	}
	return s, gateway.New(gateway.Config{
		Store: s, HoldFor: holdFor, Log: slog.New(slog.DiscardHandler), At: w.reached,
		Live: gateway.Centres{{Processor: w.centre, Method: payment.Uzcard}},
	})
}

// close closes the stores.
func (w *world) close() error {
	for _, o := range w.others {
		if err := o.store.Close(); err != nil {
			return err
		}
	}
	return w.store.Close()
}

// restart drops the gateway as it is and starts a new one, which takes up what was left open.
func (w *world) restart() {
	w.t.Helper()
	if err := w.close(); err != nil {
		w.t.Fatal(err)
	}
	w.start()
	if _, err := w.gateway.Recover(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) set(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = now
}

func (w *world) later(d time.Duration) { w.set(w.clock().Add(d)) }

func (w *world) watch(at func(gateway.Point, payment.ID), call func(method string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at, w.call = at, call
}

func (w *world) reached(point gateway.Point, id payment.ID) {
	w.mu.Lock()
	at := w.at
	w.mu.Unlock()
	if at != nil {
		at(point, id)
	}
}

// serve is the centre's front.
func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	call := w.call
	w.mu.Unlock()
	if call != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		_, rest, _ := strings.Cut(string(body), `"method":"`)
		method, _, _ := strings.Cut(rest, `"`)
		call(method)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
	}
	w.sim.Handler().ServeHTTP(rw, r)
}

// goodCard is the n-th Uzcard of the centre that works: 8600313260861293, 8600495473316478, ….
func (w *world) goodCard(n int) sim.Card {
	w.t.Helper()
	for _, c := range w.sim.Cards() {
		if c.Scheme == "uzcard" && c.Behaviour == "ok" {
			if n == 0 {
				return c
			}
			n--
		}
	}
	w.t.Fatal("the centre has no such card")
	return sim.Card{}
}

func (w *world) prepare(change ...func(*payment.Terms)) payment.Payment {
	w.t.Helper()
	w.n++
	terms := payment.Terms{
		ShopPaymentID: fmt.Sprint("order-", w.n), Amount: uzs(total), Methods: []payment.Method{payment.Uzcard},
		ReturnURL: "https://shop.example/back", NotifyURL: "https://shop.example/notify", Language: "uz",
	}
	for _, change := range change {
		change(&terms)
	}
	p, created, err := w.gateway.Prepare(w.t.Context(), w.shop, terms, ttl)
	if err != nil || !created {
		w.t.Fatalf("prepare: created %v, %v", created, err)
	}
	return p
}

func oneStage(t *payment.Terms) { t.AutoCapture = true }

func (w *world) pay(id payment.ID, card sim.Card) (payment.Payment, error) {
	return w.gateway.Pay(context.Background(), w.shop, id, handedIn(card))
}

func handedIn(card sim.Card) gateway.Card {
	return gateway.Card{Card: payment.Card{Number: card.PAN, Expiry: card.Exp}, Method: payment.Uzcard, Input: "merchant_site"}
}

func (w *world) submit(p payment.Payment, code string) (payment.Payment, error) {
	return w.gateway.SubmitCode(context.Background(), p.ID, p.Attempt.Challenge.VerifyID, payment.OTP(code))
}

func (w *world) decide(id payment.ID, accept payment.Accept, sum int64) (payment.Payment, error) {
	amount := money.Amount{}
	if sum > 0 {
		amount = uzs(sum)
	}
	return w.gateway.Decide(context.Background(), id, accept, amount, payment.ByMerchant)
}

// code is what the newest message to the card's holder says.
func (w *world) code(card sim.Card) string {
	w.t.Helper()
	messages := w.sim.SMS(card.Phone)
	if len(messages) == 0 {
		w.t.Fatal("no code was sent")
	}
	return messages[0].Code
}

// must fails the test on an error or another state.
func (w *world) must(p payment.Payment, err error) func(payment.State) payment.Payment {
	w.t.Helper()
	return func(want payment.State) payment.Payment {
		w.t.Helper()
		if err != nil || p.State != want || p.Open != nil {
			w.t.Fatalf("%s, open %v, last refusal %q, %v; want %s", p.State, p.Open, p.LastRefusal, err, want)
		}
		return p
	}
}

// paid leads a new payment through its payer: to a hold, or with oneStage to its end.
func (w *world) paid(card sim.Card, change ...func(*payment.Terms)) payment.Payment {
	w.t.Helper()
	p := w.prepare(change...)
	p = w.must(w.pay(p.ID, card))(payment.Challenged)
	want := payment.Held
	if p.Terms.AutoCapture {
		want = payment.Captured
	}
	return w.must(w.submit(p, w.code(card)))(want)
}

func (w *world) read(id payment.ID) payment.Payment {
	w.t.Helper()
	p, err := w.store.Payment(context.Background(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) all() []payment.Payment {
	w.t.Helper()
	all, err := w.store.List(context.Background(), store.Filter{Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

func (w *world) step() int {
	w.t.Helper()
	n, err := w.gateway.Step(context.Background())
	if err != nil {
		w.t.Fatalf("step: %v", err)
	}
	return n
}

// rest moves the clock from inquiry to inquiry until no question is open.
func (w *world) rest() {
	w.t.Helper()
	for range 200 {
		if w.step() > 0 {
			continue
		}
		var next time.Time
		for _, p := range w.all() {
			if p.Open == nil {
				continue
			}
			if p.Open.NextAt.IsZero() {
				w.t.Fatalf("payment %s waits for a person: %s %s, %s", p.ID, p.Open.Kind, p.Open.Outcome, p.Open.Cause)
			}
			if next.IsZero() || p.Open.NextAt.Before(next) {
				next = p.Open.NextAt
			}
		}
		if next.IsZero() {
			return
		}
		if next.After(w.clock()) {
			w.set(next)
		}
	}
	w.t.Fatal("it does not come to rest")
}

// drive does what a patient payer and a patient shop do, until the payment has ended: pays, hands
// in codes, asks for new ones, tries again when something went wrong, and decides.
func (w *world) drive(id payment.ID, card sim.Card, accept payment.Accept, sum int64) payment.Payment {
	w.t.Helper()
	for range 40 {
		p := w.read(id)
		var err error
		switch {
		case p.Open != nil:
			w.rest()
		case p.State.Terminal():
			return p
		case p.State == payment.Created:
			_, err = w.pay(id, card)
		case p.State == payment.Challenged && p.LastRefusal == "":
			_, err = w.submit(p, w.code(card))
		case p.State == payment.Challenged && p.Attempt.Challenge.Resends < payment.MaxResends:
			// The code was perhaps used up by a request whose answer was lost.
			if p, err = w.gateway.Resend(context.Background(), id, handedIn(card).Card); err == nil && p.State == payment.Challenged && p.Open == nil {
				_, err = w.submit(p, w.code(card))
			}
		case p.State == payment.Challenged:
			w.later(time.Minute)
			_, err = w.pay(id, card)
		case p.State == payment.Held:
			_, err = w.decide(id, accept, sum)
		}
		var refused *payment.Error
		if err != nil && !errors.As(err, &refused) {
			w.t.Fatal(err)
		}
	}
	w.t.Fatalf("payment %s does not end: %+v", id, w.read(id))
	return payment.Payment{}
}

// clean fails the test where the audit finds anything, or where our books are not the centre's.
func (w *world) clean() {
	w.t.Helper()
	a, err := w.store.Audit(context.Background(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, v := range a.Violations {
		w.t.Errorf("audit: %s", v)
	}
	for _, difference := range w.compare() {
		w.t.Errorf("books: %s", difference)
	}
}

// compare says where our books and the centre's differ, both ways: each hold, its captured and
// released sums, each capture, charge and void, and each card's standing. It is meant for a gateway at
// rest: a question in doubt is a difference.
func (w *world) compare() (differences []string) {
	w.t.Helper()
	differ := func(format string, args ...any) { differences = append(differences, fmt.Sprintf(format, args...)) }
	books := w.sim.Books()
	theirs := make(map[string]sim.Operation) // by kind and reference
	for _, op := range books.Operations {
		key := op.Kind + " " + op.Reference
		if _, twice := theirs[key]; twice {
			differ("the centre has %s twice", key)
		}
		theirs[key] = op
	}
	seen := make(map[string]bool)
	var held, taken, entered int64
	for _, p := range w.all() {
		line, err := w.store.Timeline(context.Background(), p.ID)
		if err != nil {
			w.t.Fatal(err)
		}
		if p.Open != nil {
			differ("payment %s is in doubt: %s", p.ID, p.Open.Kind)
		}
		for _, e := range line.Entries {
			for _, l := range e.Lines {
				if l.Account == ledger.Processor("uzcard") {
					entered += l.Amount.Minor
				}
			}
		}
		held += p.StillHeld().Minor
		taken += p.Captured.Minor - p.Refunded.Minor
		for _, op := range line.Operations {
			if op.Look && op.Reason == payment.HoldGone {
				seen["void "+p.Attempt.Centre.Hold] = true // let go before a restore
			}
			if op.Outcome != payment.Approved {
				continue
			}
			key, sum := "", op.Amount.Minor
			switch op.Kind {
			case payment.OpHold:
				key = "hold " + p.Attempt.Centre.Hold
				h := theirs[key]
				if h.Captured != p.Captured.Minor || h.Released != p.Released.Minor {
					differ("payment %s: captured %d and released %d, at the centre %d and %d", p.ID, p.Captured.Minor, p.Released.Minor, h.Captured, h.Released)
				}
			case payment.OpCapture, payment.OpCharge, payment.OpRefund:
				key = string(op.Kind) + " " + op.Ref
				if op.Look && op.Kind == payment.OpCharge && !p.Terms.AutoCapture {
					// Found after a restore: taken in two stages, of which this store never saw the first.
					key = "capture " + op.Ref
					seen[fmt.Sprint("hold ", theirs[key].HoldID)] = true
				}
			case payment.OpVoid:
				key = "void " + p.Attempt.Centre.Hold
				if _, lapsed := theirs["lapse "+p.Attempt.Centre.Hold]; lapsed {
					key = "lapse " + p.Attempt.Centre.Hold
				}
			default:
				continue
			}
			if got, there := theirs[key]; !there || got.Amount != sum {
				differ("payment %s: %s of %d (%s), at the centre %d", p.ID, key, sum, op.Ref, got.Amount)
			}
			if seen[key] {
				differ("%s counts for two operations of ours", key)
			}
			seen[key] = true
		}
	}
	for key, op := range theirs {
		// A hold that lapsed before we found it is nobody's: the payer has his money back.
		over := op.Kind == "lapse" || op.Kind == "hold" && op.State == "lapsed"
		if !seen[key] && !over {
			differ("%s of %d (%s) is not in our books", key, op.Amount, op.State)
		}
	}
	var theirHeld, theirTaken int64
	for _, c := range books.Cards {
		theirHeld += c.Held
		theirTaken += c.Opening - c.Balance
	}
	if held != theirHeld || taken != theirTaken || entered != taken {
		differ("we hold %d and have taken %d (%d by the entries); the centre holds %d and has taken %d", held, taken, entered, theirHeld, theirTaken)
	}
	slices.Sort(differences)
	return differences
}

// made counts what the centre did: "hold", "capture", ….
func (w *world) made() map[string]int {
	made := make(map[string]int)
	for _, op := range w.sim.Books().Operations {
		made[op.Kind]++
	}
	return made
}

func (w *world) fault(f sim.Fault) {
	w.t.Helper()
	if err := w.sim.AddFault(f); err != nil {
		w.t.Fatal(err)
	}
}

// sql changes the store's file, which nobody may have open.
func (w *world) sql(script string) {
	w.t.Helper()
	conn, err := sqlite.OpenConn(filepath.Join(w.dir, store.File), sqlite.OpenReadWrite|sqlite.OpenWAL)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := errors.Join(sqlitex.ExecScript(conn, script), conn.Close()); err != nil {
		w.t.Fatal(err)
	}
}

// fixNumbers makes the numbers of payments, and so our references at the centre, the same in every run.
func (w *world) fixNumbers() {
	w.t.Helper()
	if err := w.store.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.sql(`UPDATE meta SET value = '000102030405060708090a0b0c0d0e0f' WHERE name = 'number_key'`)
	w.start()
}

// together runs f n times at once.
func together(n int, f func(i int)) {
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	ready.Add(n)
	for i := range n {
		done.Go(func() {
			ready.Done()
			<-start
			f(i)
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
}

// eventually waits until a condition holds that another goroutine brings about. It leaves the processor to that, and the deadline is
// generous, for a loaded machine.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	const patience = 3 * time.Minute
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in %s it did not come about that %s", patience, what)
		}
	}
}

// reason is why a command was refused; "" where it was not.
func reason(err error) payment.Reason {
	var refused *payment.Error
	if errors.As(err, &refused) {
		return refused.Reason
	}
	return payment.Reason(cmp.Or(fmt.Sprint(err), ""))
}
