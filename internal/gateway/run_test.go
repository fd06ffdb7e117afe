package gateway_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/payment"
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
	measure := func() (goroutines int, heap uint64) {
		stop := w.running()
		defer stop()
		if _, err := w.store.List(t.Context(), storeFilter); err != nil {
			t.Fatal(err)
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	measure() // connections and caches that come with the first use
	fewGoroutines, fewHeap := measure()
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	many := 100_000
	if underRace {
		many = 5_000
	}
	w.sql(fmt.Sprintf(`CREATE TEMP TABLE n AS WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < %d) SELECT i FROM n;
		INSERT INTO payments SELECT i, version, state, updated_at, due_at, open, held, captured, released, refunded, fee, progress FROM n, payments WHERE seq = 1;
		INSERT INTO terms SELECT i, randomblob(16), shop, 'many-' || i, created_at, currency, amount, terms FROM n, terms WHERE payment = 1;
		INSERT INTO names SELECT shop, shop_payment_id, payment FROM terms WHERE payment > 1;`, many))
	w.start()
	measure()
	manyGoroutines, manyHeap := measure()
	if a, err := w.store.Due(t.Context(), w.clock().Add(ttl), many+1); err != nil || len(a) != many {
		t.Fatalf("%d payments are open, %v", len(a), err)
	}
	t.Logf("1 payment: %d goroutines, %d KB; %d payments: %d goroutines, %d KB", fewGoroutines, fewHeap>>10, many, manyGoroutines, manyHeap>>10)
	if manyGoroutines > fewGoroutines {
		t.Errorf("%d goroutines more", manyGoroutines-fewGoroutines)
	}
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
