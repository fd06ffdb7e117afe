package notify_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"holdfast/internal/notify"
	"holdfast/internal/payment"
	"holdfast/internal/store"
)

// dead is many merchants' servers that are no more: those of which refuses is true refuse connections, the others
// accept them and say nothing for ever. No two are the same endpoint.
func (w *world) dead(n int, refuses func(i int) bool) (urls []string) {
	w.t.Helper()
	for i := range n {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.%d.%d:0", 1+i/250, 1+i%250))
		check(w.t, err)
		urls = append(urls, "http://"+listener.Addr().String()+"/")
		if refuses(i) {
			listener.Close()
			continue
		}
		var mu sync.Mutex
		var held []net.Conn
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				mu.Lock()
				held = append(held, conn)
				mu.Unlock()
				go io.Copy(io.Discard, conn)
			}
		}()
		bury := sync.OnceFunc(func() {
			listener.Close()
			<-closed
			for _, c := range held {
				c.Close()
			}
		})
		w.bury = append(w.bury, bury)
		w.t.Cleanup(bury)
	}
	return urls
}

func everyOther(i int) bool { return i%2 == 0 }
func none(int) bool         { return false }

// run starts the notifier as the program does; the test's end stops it.
func (w *world) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.notifier.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		for _, bury := range w.bury {
			bury() // else it waits for them to time out
		}
		<-done
	})
	w.t.Cleanup(stop)
	return stop
}

// canceled makes payments, many at once, each with one event to tell: canceled.
func (w *world) canceled(urls []string) (made []payment.Payment) {
	w.t.Helper()
	made = make([]payment.Payment, len(urls))
	var group sync.WaitGroup
	places := make(chan struct{}, 64)
	for i, url := range urls {
		places <- struct{}{}
		group.Go(func() { made[i] = w.decide(w.prepare(url, true), payment.Cancel); <-places })
	}
	group.Wait()
	return made
}

// prompt sees to it that a live merchant is told at once, twenty times, while everything else is as it is: half of
// the times within a second (five under the race detector, which slows the store tenfold), and never as late
// as if he had waited for a dead one to time out.
func (w *world) prompt(live *shopServer) {
	w.t.Helper()
	within := time.Second
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		within *= 5
	}
	var took []time.Duration
	for range 20 {
		took = append(took, w.firstAttempt(live))
	}
	slices.Sort(took)
	w.t.Logf("figures: endpoint: %s: a live merchant beside dead ones waited %v, at worst %v", w.t.Name(), took[10], took[19])
	if took[10] > within || took[19] > 9*time.Second {
		w.t.Errorf("that is too long: %v", took)
	}
}

// firstAttempt is how long a live merchant waits for his first notification while everything else is as it is.
func (w *world) firstAttempt(live *shopServer) time.Duration {
	w.t.Helper()
	before := len(live.all())
	p := w.prepare(live.url, true)
	begun := time.Now()
	w.decide(p, payment.Cancel)
	eventually(w.t, "the live one is told", func() bool { return len(live.all()) > before })
	return time.Since(begun)
}

// The three tests that follow look at times, and so have the machine for themselves.

// A thousand dead endpoints beside a live one: the live one is told within a second, each time, and no event is lost.
func TestDeadEndpoints(t *testing.T) {
	w := newWorld(t, true)
	live := w.newShopServer(nil)
	made := w.canceled(w.dead(1000, everyOther))
	w.run()
	w.prompt(live)
	eventually(t, "every dead one was tried", func() bool {
		for _, p := range made {
			if w.events(p.ID)[0].Attempts == 0 {
				return false
			}
		}
		return true
	})
	// Not one is lost: each still waits for its next attempt, or is being tried.
	for _, p := range made {
		if e := w.events(p.ID)[0]; e.NextAt.IsZero() || e.Outcome != "" {
			t.Fatalf("an event was lost: %+v", e)
		}
	}
	w.audit()
}

// The same where none even refuses and each has several payments, so that more of their events wait than there are
// places: nobody has more than one of those before he has answered once.
func TestDeadEndpointsBusy(t *testing.T) {
	w := newWorld(t, true)
	live := w.newShopServer(nil)
	w.canceled(slices.Repeat(w.dead(700, none), 3))
	w.run()
	w.prompt(live)
	w.audit()
}

// One merchant whose notify_urls are at more dead servers than there are places, each new to us, takes no place of another's.
func TestDeadEndpointsOfOneMerchant(t *testing.T) {
	w := newWorld(t, true)
	live := w.newShopServer(nil)
	w.canceled(w.dead(2100, none))
	other := w.shop
	other.ID, other.Name = 0, "Another"
	var err error
	w.shop, err = w.store.CreateShop(t.Context(), other)
	check(t, err)
	w.run()
	w.prompt(live)
	w.audit()
}

// One dead merchant with a long backlog does not stand in front of a live one.
func TestBacklog(t *testing.T) {
	w := newWorld(t, true)
	live := w.newShopServer(nil)
	made := w.canceled(slices.Repeat(w.dead(1, none), 1500))
	w.run()
	eventually(t, "the backlog is being worked at", func() bool {
		return slices.ContainsFunc(made, func(p payment.Payment) bool { return w.events(p.ID)[0].Attempts > 0 })
	})
	w.prompt(live)
	w.audit()
}

// However much waits for a merchant who is not there, another who does not take a notification gets it again at its time.
func TestLongBacklogAndARepeat(t *testing.T) {
	const backlog = 100_000
	t.Parallel()
	w := newWorld(t, true)
	w.canceled(w.dead(1, none))
	conn, err := sqlite.OpenConn(filepath.Join(w.dir, store.File), sqlite.OpenReadWrite|sqlite.OpenWAL)
	check(t, err)
	check(t, sqlitex.ExecScript(conn, fmt.Sprintf(`CREATE TEMP TABLE n AS WITH RECURSIVE n (i) AS (SELECT 1001 UNION ALL SELECT i + 1 FROM n WHERE i < 1000 + %d) SELECT i FROM n;
		INSERT INTO payments SELECT i, version, state, updated_at, due_at, open, held, captured, released, refunded, fee, progress FROM n, payments WHERE seq = 1;
		INSERT INTO terms SELECT i, randomblob(16), shop, 'many-' || i, created_at, currency, amount, terms FROM n, terms WHERE payment = 1;
		INSERT INTO events SELECT i, e.n, shop, status, at, captured, fee, refunded, endpoint, next_at, lease_until, attempts, accepted, outcome, last_at, took, http_status, note
			FROM n, events e WHERE payment = 1;`, backlog)))
	check(t, conn.Close())
	w.run()
	var refuse atomic.Bool
	refuse.Store(true)
	live := w.newShopServer(func(told) (int, string) {
		if refuse.Swap(false) {
			return http.StatusInternalServerError, ""
		}
		return http.StatusOK, "{}"
	})
	w.decide(w.prepare(live.url, true), payment.Cancel)
	eventually(t, "it is sent again", func() bool { return len(live.all()) == 2 })
	if told := live.all(); told[1].at.Sub(told[0].at) > notify.Backoff[0]+15*time.Second {
		t.Errorf("it is sent again after %s", told[1].at.Sub(told[0].at))
	}
}

// A merchant who takes the request and never answers: no answer in ten seconds is none, and it is tried again.
// (The notifier's own time-out; it takes those ten seconds.)
func TestHangingEndpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	p := w.canceled(w.dead(1, none))[0]
	begun := time.Now()
	n, err := w.notifier.Step(t.Context())
	check(t, err)
	e := w.events(p.ID)[0]
	if took := time.Since(begun); n != 1 || took > 20*time.Second || took < 5*time.Second {
		t.Errorf("%d were sent in %v", n, took)
	}
	if len(e.Deliveries) != 1 || e.Deliveries[0].Status != 0 || e.Deliveries[0].Note == "" || e.NextAt.IsZero() {
		t.Errorf("%+v", e)
	}
}

// A merchant who comes back to life gets everything that he missed.
func TestRecovery(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	alive := false
	s := w.newShopServer(nil)
	s.answer = func(told) (int, string) {
		if !alive {
			return 503, ""
		}
		return 200, ""
	}
	made := w.canceled(slices.Repeat([]string{s.url}, 50))
	w.deliver()
	w.offset.add(time.Hour)
	s.mu.Lock()
	alive, s.told = true, nil
	s.mu.Unlock()
	for range 100 {
		w.deliver()
		if _, waits := w.next(); !waits {
			break
		}
	}
	got := make(map[string]int)
	for _, n := range s.all() {
		got[n.PaymentUUID]++
	}
	for _, p := range made {
		if got[p.ID.String()] != 1 {
			t.Errorf("payment %s was told %d times", p.ID, got[p.ID.String()])
		}
		if e := w.events(p.ID)[0]; e.Outcome != "delivered" {
			t.Errorf("%+v", e)
		}
	}
}

// Stopping waits for what is under way and records it; what was claimed is not lost and not told twice.
func TestStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	begun, goOn := make(chan struct{}, 100), make(chan struct{})
	s := w.newShopServer(func(told) (int, string) { begun <- struct{}{}; <-goOn; return 200, "" })
	p := w.canceled([]string{s.url})[0]
	stop := w.run()
	<-begun
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	select {
	case <-stopped:
		t.Error("it stopped while a notification was under way")
	case <-time.After(50 * time.Millisecond):
	}
	close(goOn)
	<-stopped
	if e := w.events(p.ID)[0]; e.Outcome != "delivered" || len(e.Deliveries) != 1 {
		t.Errorf("%+v", e)
	}
	if n, err := w.notifier.Step(t.Context()); n != 0 || err != nil || len(s.all()) != 1 {
		t.Errorf("%d more were sent (%v)", n, err)
	}
}

// What waits for its turn when it stops, be it for a place at its endpoint or behind an earlier one of its payment, is due at
// once: a gateway beside it, or the next, need not wait for the end of a lease.
func TestStopGivesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	begun, goOn := make(chan struct{}, 100), make(chan struct{})
	s := w.newShopServer(func(told) (int, string) { begun <- struct{}{}; <-goOn; return 200, "" })
	stop := w.run()
	var all []payment.Payment
	for range 20 {
		all = append(all, w.canceled([]string{s.url})...)
	}
	<-begun
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	close(goOn)
	<-stopped
	now := w.store.Now()
	for _, p := range all {
		for _, e := range w.events(p.ID) {
			if e.Outcome == "" && e.NextAt.After(now) {
				t.Errorf("event %d waits for another %s: %+v", e.N, e.NextAt.Sub(now), e)
			}
		}
	}
}
