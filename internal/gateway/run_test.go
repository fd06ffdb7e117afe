package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/gateway"
	"holdfast/internal/payment"
	"holdfast/internal/processor/svgate"
	"holdfast/internal/sim"
	"holdfast/internal/store"
)

// running starts Run; stop ends it and waits until it has returned.
func (w *world) running() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.gateway.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

func TestRunKeepsDeadlines(t *testing.T) {
	w := newWorld(t)
	p := w.paid(w.goodCard(0))
	stop := w.running()
	w.set(p.HoldDeadline)
	eventually(t, "the hold is let go", func() bool { return w.read(p.ID).State == payment.Voided })
	stop()
	w.clean()
}

// Run waits for the questions under way, its own and those of requests.
func TestRunEndsWithWhatItBegan(t *testing.T) {
	w := newWorld(t)
	card := w.goodCard(0)
	requested, lapsing := w.prepare(), w.paid(card)
	arrived, let := make(chan string, 2), make(chan struct{})
	w.watch(nil, func(method string) {
		arrived <- method
		<-let
	})
	stop := w.running()
	go func() {
		if _, err := w.pay(requested.ID, card); err != nil {
			t.Error(err)
		}
	}()
	<-arrived
	w.set(lapsing.HoldDeadline) // now the request's question is overdue too, and yet it is under way
	<-arrived
	go func() {
		// A Run that does not wait is back long before this.
		for range 200 {
			w.read(requested.ID)
		}
		close(let)
	}()
	stop()
	for _, p := range []payment.Payment{w.read(requested.ID), w.read(lapsing.ID)} {
		if p.Open != nil {
			t.Errorf("Run is back, and the question about payment %s is not settled: %s", p.ID, p.Open.Kind)
		}
	}
	w.clean()
}

// Requests that come while Run ends disturb nothing (this is a test for the race detector).
func TestRequestsWhileRunEnds(t *testing.T) {
	w := newWorld(t)
	card := w.goodCard(0)
	for range 5 {
		p := w.prepare()
		stop := w.running()
		together(2, func(who int) {
			if who == 0 {
				stop()
				return
			}
			if _, err := w.pay(p.ID, card); err != nil {
				t.Error(err)
			}
		})
	}
}

// 100,000 open payments cost the gateway no goroutine and no memory of their own.
func TestOpenPaymentsCostNothing(t *testing.T) {
	w := newWorld(t)
	w.prepare()
	// measure waits for as few goroutines as that, for Run has some that are soon over.
	measure := func(few int) (goroutines int, heap uint64) {
		stop := w.running()
		defer stop()
		if _, err := w.store.List(t.Context(), storeFilter); err != nil {
			t.Fatal(err)
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		eventually(t, fmt.Sprintf("there are %d goroutines or fewer", few), func() bool {
			goroutines = runtime.NumGoroutine()
			return goroutines <= few
		})
		return goroutines, m.HeapAlloc
	}
	measure(math.MaxInt) // connections and caches that come with the first use
	fewGoroutines, fewHeap := measure(math.MaxInt)
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	many := 100_000
	if underRace {
		many = 20_000
	}
	w.sql(fmt.Sprintf(`CREATE TEMP TABLE n AS WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < %d) SELECT i FROM n;
		INSERT INTO payments SELECT i, version, state, updated_at, due_at, open, held, captured, released, refunded, fee, progress FROM n, payments WHERE seq = 1;
		INSERT INTO terms SELECT i, randomblob(16), shop, 'many-' || i, created_at, currency, amount, terms FROM n, terms WHERE payment = 1;
		INSERT INTO names SELECT shop, shop_payment_id, payment FROM terms WHERE payment > 1;`, many))
	w.start()
	measure(math.MaxInt)
	manyGoroutines, manyHeap := measure(fewGoroutines)
	if a, _, err := w.store.Due(t.Context(), w.clock().Add(ttl), store.Cursor{}, many+1); err != nil || len(a) != many {
		t.Fatalf("%d payments are open, %v", len(a), err)
	}
	t.Logf("1 payment: %d goroutines, %d KB; %d payments: %d goroutines, %d KB", fewGoroutines, fewHeap>>10, many, manyGoroutines, manyHeap>>10)
	if manyHeap > fewHeap+uint64(8*many) { // a pointer each would be seen
		t.Errorf("%d bytes of heap more", manyHeap-fewHeap)
	}
}

// BenchmarkPayment is a whole two-stage payment (8 commits, 4 calls over HTTP) with the connector and the
// simulated centre in this process, by 64 payers at once.
func BenchmarkPayment(b *testing.B) {
	w := newWorld(b)
	card := w.goodCard(0)
	terms := w.prepare().Terms
	var n counter
	b.ReportAllocs()
	b.SetParallelism((64 + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	begun := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			terms := terms
			terms.ShopPaymentID = n.next()
			p, _, err := w.gateway.Prepare(context.Background(), w.shop, terms, ttl)
			if err == nil {
				p, err = w.pay(p.ID, card)
			}
			if err == nil {
				p, err = w.submit(p, card.FixedOTP)
			}
			if err == nil {
				p, err = w.decide(p.ID, payment.Capture, 0)
			}
			if err != nil || p.State != payment.Captured {
				b.Errorf("%s, %v", p.State, err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/time.Since(begun).Seconds(), "payments/s")
}

var storeFilter = store.Filter{Limit: 1}

// counter gives names that are used once.
type counter struct{ n atomic.Int64 }

func (c *counter) next() string { return fmt.Sprint("bench-", c.n.Add(1)) }

// A centre that hangs keeps waiting what is to be asked of it, and no deadline at another one, however many questions are
// due to it and have been for longer.
func TestOneCentreHangs(t *testing.T) {
	t.Run("while it runs", func(t *testing.T) { oneCentreHangs(t, false, false) })
	t.Run("since before it started", func(t *testing.T) { oneCentreHangs(t, true, false) })
	t.Run("the simulator, and real payments", func(t *testing.T) { oneCentreHangs(t, false, true) })
}

// oneCentreHangs: the questions are due or, with inherited, they are not and were left open by a process before. With
// simulator the one that hangs is for test payments, and has the name of the other.
func oneCentreHangs(t *testing.T, inherited, simulator bool) {
	const atOnce = 4
	doubts := 15_000
	if underRace {
		doubts = 2_000
	}
	w := newWorld(t)
	let, dismissed := make(chan struct{}), make(chan struct{}, 1)
	var hangs atomic.Bool
	var asked atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		switch {
		case err != nil:
			return
		case r.URL.RawQuery == "sick" && hangs.Load():
			asked.Add(1)
			<-let
			return
		case r.URL.RawQuery == "well" && strings.Contains(string(body), `"hold.dismiss"`):
			dismissed <- struct{}{}
		}
		r.Body, r.URL.RawQuery = io.NopCloser(bytes.NewReader(body)), ""
		w.sim.Handler().ServeHTTP(rw, r)
	}))
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(func() { transport.CloseIdleConnections(); front.Close() })
	contract := func(name, health string) *svgate.Connector {
		c, err := svgate.New(svgate.Config{
			Name: name, Endpoint: front.URL + "/svgate?" + health, Login: "holdfast", Password: "holdfast", MerchantID: "90050017182",
			TerminalID: "91419475", Port: 16050, HTTP: &http.Client{Transport: transport}, Now: w.clock,
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	well := gateway.Centre{Processor: contract("well", "well"), Method: payment.Uzcard, Named: true}
	cfg := gateway.Config{
		Store: w.store, HoldFor: holdFor, AtOnce: atOnce, Log: slog.New(slog.DiscardHandler),
		Live: gateway.Centres{{Processor: contract("sick", "sick"), Method: payment.Uzcard}, well},
	}
	if simulator {
		cfg.Live, cfg.Test = gateway.Centres{well}, gateway.Centres{{Processor: contract("well", "sick"), Method: payment.Uzcard}}
	}
	w.gateway = gateway.New(cfg)
	card := w.goodCard(0)
	w.fault(sim.Fault{Method: "trans.pay.purpose", Name: "reset"})
	doubt := w.must(w.pay(w.prepare(oneStage, func(terms *payment.Terms) { terms.Test = simulator }).ID, card))(payment.Challenged)
	if p, err := w.submit(doubt, card.FixedOTP); err != nil || p.Open == nil {
		t.Fatalf("%s, %v: it should be in doubt", p.State, err)
	}
	w.shop.Settings.Routes = map[string]string{"uzcard": "well"}
	held := w.paid(card)
	w.sql(fmt.Sprintf(`CREATE TEMP TABLE n AS WITH RECURSIVE n (i) AS (SELECT 1001 UNION ALL SELECT i + 1 FROM n WHERE i < 1000 + %d) SELECT i FROM n;
		INSERT INTO payments SELECT i, version, state, updated_at, due_at, open, held, captured, released, refunded, fee, progress FROM n, payments WHERE seq = 1;
		INSERT INTO terms SELECT i, randomblob(16), shop, 'many-' || i, created_at, currency, amount, terms FROM n, terms WHERE payment = 1;`, doubts))
	w.set(held.HoldDeadline.Add(-time.Second))
	hangs.Store(true)
	began := time.Now()
	ids, _, err := w.store.Due(t.Context(), w.clock(), store.Cursor{}, 2*doubts)
	if inherited {
		w.sql(`UPDATE payments SET due_at = due_at + 86400000000 WHERE seq > 1000`)
		if _, err := w.gateway.Inherit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range ids {
		w.read(id)
	}
	once := time.Since(began) // to look at all that is due
	if err != nil || len(ids) < doubts {
		t.Fatalf("%d are due, %v", len(ids), err)
	}
	stop := w.running()
	eventually(t, "the one that hangs is asked", func() bool { return asked.Load() >= atOnce })
	w.set(held.HoldDeadline)
	began = time.Now()
	select {
	case <-dismissed:
		t.Logf("let go after %s; to look at all that is due takes %s", time.Since(began), once)
	case <-time.After(5*time.Second + 8*once):
		t.Errorf("in %s the hold was not let go; to look at all that is due takes %s", time.Since(began), once)
	}
	close(let)
	stop()
}

// A question that was left open may have to wait long for its turn. What has been asked about meanwhile is not asked about then.
func TestInheritedAndAskedMeanwhile(t *testing.T) {
	w := newWorld(t, time.Minute)
	var doubts []payment.ID
	for i := range 3 {
		card := w.goodCard(i)
		p := w.must(w.pay(w.prepare(oneStage).ID, card))(payment.Challenged)
		w.fault(sim.Fault{Method: "trans.pay.purpose", Name: "reset"})
		if p, err := w.submit(p, w.code(card)); err != nil || p.Open == nil {
			t.Fatalf("%s, %v: it should be in doubt", p.State, err)
		}
		doubts = append(doubts, p.ID)
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.gateway = gateway.New(gateway.Config{
		Store: w.store, HoldFor: holdFor, AtOnce: 1, Log: slog.New(slog.DiscardHandler), Live: gateway.Centres{{Processor: w.centre, Method: payment.Uzcard}},
	})
	if n, err := w.gateway.Inherit(t.Context()); err != nil || n != len(doubts) {
		t.Fatalf("%d, %v", n, err)
	}
	arrived, let := make(chan struct{}), make(chan struct{})
	var calls atomic.Int64
	w.watch(nil, func(string) {
		if calls.Add(1) == 1 {
			close(arrived)
			<-let
		}
	})
	stop := w.running()
	<-arrived // the first one's; the others wait
	w.fault(sim.Fault{Method: "trans.ext", Name: "http_502"})
	meanwhile, err := w.gateway.Inquire(t.Context(), doubts[1])
	if err != nil || meanwhile.Open == nil || meanwhile.Open.Asks != 2 {
		t.Fatalf("%+v, %v", meanwhile.Open, err)
	}
	close(let)
	eventually(t, "the last one is taken up", func() bool { p := w.read(doubts[2]); return p.Open == nil || p.Open.Asks > 1 })
	if p := w.read(doubts[1]); p.Version != meanwhile.Version {
		t.Errorf("it was asked about again before its time: %+v", p.Open)
	}
	stop()
}

// A payment whose time is over has nothing to ask its centre, and ends on time where that one hangs.
func TestTimeEndsWhereItsCentreHangs(t *testing.T) {
	w := newWorld(t, time.Minute)
	doubt := w.must(w.pay(w.prepare(oneStage).ID, w.goodCard(0)))(payment.Challenged)
	w.fault(sim.Fault{Method: "trans.pay.purpose", Name: "reset"})
	if p, err := w.submit(doubt, w.code(w.goodCard(0))); err != nil || p.Open == nil {
		t.Fatalf("%s, %v: it should be in doubt", p.State, err)
	}
	waiting := w.must(w.pay(w.prepare().ID, w.goodCard(1)))(payment.Challenged)
	w.gateway = gateway.New(gateway.Config{
		Store: w.store, HoldFor: holdFor, AtOnce: 1, Log: slog.New(slog.DiscardHandler), Live: gateway.Centres{{Processor: w.centre, Method: payment.Uzcard}},
	})
	arrived, let := make(chan struct{}), make(chan struct{})
	w.watch(nil, func(string) { close(arrived); <-let })
	stop := w.running()
	defer func() { close(let); stop() }()
	w.later(5 * time.Second)
	<-arrived
	w.watch(nil, nil)
	w.later(ttl)
	eventually(t, "the time of the one that waits for its payer is over", func() bool { return w.read(waiting.ID).State == payment.Expired })
}

// While nobody can say what a restored backup is worth, its payments are left alone without a word, and what has come since
// is attended to.
func TestRunBesideABackup(t *testing.T) {
	w := newWorld(t)
	w.withShop()
	w.fault(sim.Fault{Method: "trans.pay.purpose", Name: "reset"})
	doubt := w.must(w.pay(w.prepare(oneStage).ID, w.goodCard(0)))(payment.Challenged)
	if p, err := w.submit(doubt, w.code(w.goodCard(0))); err != nil || p.Open == nil {
		t.Fatalf("%s, %v: it should be in doubt", p.State, err)
	}
	for range 1100 { // more than are looked for at a time
		w.prepare()
	}
	w.later(ttl)
	file := w.backup()
	w.later(time.Second)
	w.restore(file)
	var log bytes.Buffer
	w.gateway = gateway.New(gateway.Config{
		Store: w.store, HoldFor: holdFor, Log: slog.New(slog.NewTextHandler(&log, nil)), Live: gateway.Centres{{Processor: w.centre, Method: payment.Uzcard}},
	})
	terms := payment.Terms{
		ShopPaymentID: "new", Amount: uzs(total), Methods: []payment.Method{payment.Uzcard}, ReturnURL: "https://shop.example/back", Language: "uz",
	}
	p, _, err := w.gateway.Prepare(t.Context(), w.shop, terms, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	stop := w.running()
	w.later(2 * time.Second)
	eventually(t, "the new payment's time is over", func() bool { return w.read(p.ID).State == payment.Expired })
	stop()
	if log.Len() > 0 {
		t.Errorf("it said %s", log.String())
	}
}
