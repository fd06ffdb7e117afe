package store_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/store"
)

// Where Go has one processor the committer does not run ahead of those who are about to hand in a job, and nobody stands
// still while the disk syncs: all that can share a commit do.
func TestOneProcessorShares(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	w := newWorld(t, store.Open)
	const callers, rounds = 32, 20
	before := w.Stats()
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for n := range rounds {
				terms := terms(fmt.Sprintf("order-%d-%d", i, n))
				if _, created, err := w.Create(t.Context(), shop, terms.ShopPaymentID, maker(terms)); err != nil || !created {
					t.Errorf("created %v, %v", created, err)
				}
			}
		})
	}
	all.Wait()
	after := w.Stats()
	jobs, commits := after.Jobs-before.Jobs, after.Commits-before.Commits
	if jobs != callers*rounds || jobs/commits < callers*3/8 {
		t.Errorf("%d callers: %d commits for %d jobs", callers, commits, jobs)
	}
}

// Another process changes a payment between a commit of it and the moment at which it would be remembered, and the store has
// noticed that somebody wrote: what it remembers then is not what was so before.
func TestWrittenBehindACommit(t *testing.T) {
	var behind atomic.Pointer[func()] // runs once, after the next commit
	w := newWorld(t, func(cfg store.Config) (*store.Store, error) {
		cfg.At = func(at store.Point) {
			if at != store.Committed {
				return
			}
			if f := behind.Swap(nil); f != nil {
				(*f)()
			}
		}
		return store.Open(cfg)
	})
	beside := w.openAgain(false)
	p := w.held(terms("order-1"))
	settle := func() {
		if _, err := beside.Update(context.Background(), p.ID, answering(payment.Answer{Outcome: payment.Approved})); err != nil {
			t.Error(err)
		}
		eventually(t, "the store notices what another wrote", func() bool { return !w.Remembers(p.ID) })
	}
	behind.Store(&settle)
	w.begin(p.ID, payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant})
	if now, err := w.Payment(t.Context(), p.ID); err != nil || now.State != payment.Voided {
		t.Errorf("it is %s, version %d, and the store says %s, version %d, %v", payment.Voided, p.Version+2, now.State, now.Version, err)
	}
}

func commitCases() []storeCase {
	return []storeCase{
		{"commit: what waits together shares one", func(t *testing.T, w *world) {
			const callers = 100
			blocker := w.create(terms("blocker"))
			release := w.block(blocker.ID)
			before := w.Stats()
			errs := make(chan error, callers)
			for i := range callers {
				go func() {
					_, _, err := w.Create(t.Context(), shop, fmt.Sprint("order-", i), maker(terms(fmt.Sprint("order-", i))))
					errs <- err
				}()
			}
			w.waiting(callers)
			release()
			for range callers {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			// One commit for the job that blocked, one for the hundred.
			if after := w.Stats(); after.Commits != before.Commits+2 || after.Jobs != before.Jobs+callers+1 {
				t.Errorf("%d jobs took %d commits", after.Jobs-before.Jobs, after.Commits-before.Commits)
			}
		}},
		{"commit: whoever writes waits for the disk, whoever else shares his commit", func(t *testing.T, w *world) {
			blocker, p, q := w.create(terms("blocker")), w.create(terms("order-1")), w.create(terms("order-2"))
			refuse := func() error {
				_, err := w.Update(context.Background(), q.ID, func(payment.Payment, time.Time) (payment.Change, error) {
					return payment.Change{}, errStop
				})
				if errors.Is(err, errStop) {
					return nil
				}
				return fmt.Errorf("a refused job: %w", err)
			}
			change := func() error {
				_, err := w.Update(context.Background(), p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
					return payment.Begin(p, pay(), now)
				})
				return err
			}
			look := func() error {
				_, err := w.Update(context.Background(), q.ID, func(p payment.Payment, _ time.Time) (payment.Change, error) {
					return payment.Change{Payment: p}, nil
				})
				return err
			}
			write := func() error { // of another kind
				return w.PutBack(context.Background(), []store.Delivery{{}}, w.Now())
			}
			for _, c := range []struct {
				name  string
				jobs  []func() error
				syncs uint64
			}{
				{"refused", []func() error{refuse}, 0},
				{"changed nothing", []func() error{look}, 0},
				{"changed, refused", []func() error{change, refuse}, 1},
				{"refused, of another kind", []func() error{refuse, write}, 1},
				{"of another kind, refused", []func() error{write, refuse}, 1},
			} {
				before := w.Stats().Syncs
				release := w.block(blocker.ID)
				errs := make(chan error)
				for _, job := range c.jobs {
					w.handIn(func() { errs <- job() })
				}
				release()
				for range c.jobs {
					if err := <-errs; err != nil {
						t.Errorf("%s: %v", c.name, err)
					}
				}
				if syncs := w.Stats().Syncs - before; syncs != c.syncs {
					t.Errorf("%s: the disk was asked %d times to keep it, want %d", c.name, syncs, c.syncs)
				}
			}
		}},
		{"commit: jobs of one payment take their turns, and others do not wait for them", func(t *testing.T, w *world) {
			blocker, p := w.create(terms("blocker")), w.asking(terms("order-1"))
			release := w.block(blocker.ID)
			before := w.Stats()
			errs := make(chan error, 5)
			for range 5 {
				go func() {
					_, err := w.Update(t.Context(), p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
						return payment.Begin(p, payment.Resume{Orphan: true}, now)
					})
					errs <- err
				}()
			}
			w.waiting(5)
			release()
			for range 5 {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			if got := w.Stats().Commits - before.Commits; got != 6 {
				t.Errorf("%d commits, want one for the blocker and five for the turns", got)
			}
		}},
		{"commit: a name that two want at once costs its neighbours nothing", func(t *testing.T, w *world) {
			blocker := w.create(terms("blocker"))
			release := w.block(blocker.ID)
			before := w.Stats()
			errs := make(chan error, 6)
			for i := range 6 {
				name := fmt.Sprint("order-", i/2)
				w.handIn(func() {
					_, _, err := w.Create(t.Context(), shop, name, maker(terms(name)))
					errs <- err
				})
			}
			release()
			for range 6 {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			// The blocker's, one for the three who make, one for the three who find.
			if got := w.Stats().Commits - before.Commits; got != 3 {
				t.Errorf("%d commits, want 3", got)
			}
		}},
		{"commit: one job's failing write takes no other down", func(t *testing.T, w *world) {
			blocker := w.create(terms("blocker"))
			one, two, three := w.asking(terms("one")), w.asking(terms("two")), w.asking(terms("three"))
			same := payment.NewID(t0, randomTen())
			release := w.block(blocker.ID)
			type result struct {
				name    string
				p       payment.Payment
				created bool
				err     error
			}
			results := make(chan result, 15)
			create := func(name string, id ...payment.ID) {
				w.handIn(func() {
					p, created, err := w.Create(t.Context(), shop, name, maker(terms(name), id...))
					results <- result{name, p, created, err}
				})
			}
			for i := range 5 {
				create(fmt.Sprint("before-", i))
			}
			create("blocker") // is there, and gets another turn to be found
			// Two payments with one ID: the second's row cannot be written.
			create("twin-1", same)
			create("twin-2", same)
			w.handIn(func() {
				change, err := w.Update(t.Context(), one.ID, answering(payment.Answer{Outcome: payment.Approved, Claim: "1"}))
				results <- result{"one", change.Payment, true, err}
			})
			// A refusal stays a refusal, although its neighbour's trouble makes the store run it twice.
			no := errors.New("no")
			w.handIn(func() {
				_, err := w.Update(t.Context(), two.ID, func(payment.Payment, time.Time) (payment.Change, error) { return payment.Change{}, no })
				results <- result{"refused", payment.Payment{}, false, err}
			})
			w.handIn(func() {
				_, err := w.Update(t.Context(), three.ID, answering(payment.Answer{Outcome: payment.Approved, Claim: "1"}))
				results <- result{"claimed", payment.Payment{}, false, err}
			})
			for i := range 4 {
				create(fmt.Sprint("after-", i))
			}
			release()
			for range 15 {
				r := <-results
				switch {
				case r.name == "blocker":
					if r.err != nil || r.created || r.p.ID != blocker.ID {
						t.Errorf("the one that is there: %s, created %v, %v", r.p.ID, r.created, r.err)
					}
				case r.name == "refused":
					if r.err != no {
						t.Errorf("the refused one got %v", r.err)
					}
				case r.name == "claimed":
					if !errors.Is(r.err, store.ErrClaimed) {
						t.Errorf("the second owner of a hold got %v", r.err)
					}
				case r.name == "twin-2":
					if r.err == nil || r.created || r.p.Version != 0 {
						t.Errorf("%s: created %v, version %d, %v", r.name, r.created, r.p.Version, r.err)
					}
				case r.err != nil || !r.created:
					t.Errorf("%s: created %v, %v", r.name, r.created, r.err)
				default:
					w.unchanged(r.p) // what it was told is what is stored
				}
			}
			if err := w.Err(); err != nil {
				t.Errorf("the store thinks that the disk failed: %v", err)
			}
			// The store goes on, and the name that failed is free.
			w.create(terms("twin-2"))
			w.clean()
		}},
		{"commit: text that cannot be stored is its own caller's trouble", func(t *testing.T, w *world) {
			bad := terms("order-1")
			bad.Description = "\xff\xfe"
			if _, created, err := w.Create(t.Context(), shop, "order-1", maker(bad)); err == nil || created {
				t.Errorf("created %v, %v", created, err)
			}
			w.create(terms("order-1"))
		}},
		{"commit: a caller who has gone before is not let in, one who goes meanwhile learns the outcome", func(t *testing.T, w *world) {
			p, blocker := w.create(terms("order-1")), w.create(terms("blocker"))
			release := w.block(blocker.ID)
			ctx, cancel := context.WithCancel(t.Context())
			got := make(chan error, 1)
			w.handIn(func() {
				_, err := w.Update(ctx, p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) { return payment.Begin(p, pay(), now) })
				got <- err
			})
			cancel()
			release()
			if err := <-got; err != nil {
				t.Errorf("his change is stored, and he is told %v", err)
			}
			if now, _ := w.Payment(t.Context(), p.ID); now.Open == nil {
				t.Error("the change is lost")
			}
			// Whether one who comes with a dead context is let in or not: what he is told is so.
			for i := range 20 {
				name := fmt.Sprint("late-", i)
				_, _, err := w.Create(ctx, shop, name, maker(terms(name)))
				_, found := w.PaymentByShop(t.Context(), shop, name)
				if (err == nil) != (found == nil) {
					t.Errorf("told %v, found %v", err, found)
				}
			}
		}},
		{"close: finishes what was handed in and takes nothing more", func(t *testing.T, w *world) {
			s := w.openAgain(false) // a store of its own, for the world's is closed by the test's end
			p := w.create(terms("order-1"))
			inside, let := make(chan struct{}), make(chan struct{})
			got, closed := make(chan error, 1), make(chan error, 1)
			go func() {
				_, err := s.Update(t.Context(), p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
					close(inside)
					<-let
					return payment.Begin(p, pay(), now)
				})
				got <- err
			}()
			<-inside
			go func() { closed <- s.Close() }()
			close(let)
			if err := <-got; err != nil {
				t.Errorf("handed in before: %v", err)
			}
			if err := <-closed; err != nil {
				t.Errorf("close: %v", err)
			}
			if _, err := s.Update(t.Context(), p.ID, answering(payment.Answer{})); !errors.Is(err, store.ErrClosed) {
				t.Errorf("after: %v", err)
			}
			// The serving store notices another one's write, if not at once.
			eventually(t, "the serving store has the change", func() bool {
				got, err := w.Payment(t.Context(), p.ID)
				if err != nil {
					t.Fatal(err)
				}
				return got.Open != nil
			})
			if err := s.Close(); err != nil {
				t.Errorf("closing twice: %v", err)
			}
		}},
	}
}
