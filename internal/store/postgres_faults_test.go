package store_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"holdfast/internal/payment"
	"holdfast/internal/postgrestest"
	"holdfast/internal/store"
)

// Whatever happens to the connection around a commit: what is acknowledged is stored, once.
func TestPostgreSQLFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(p *postgrestest.Proxy)
	}{
		{"lost before a statement", func(p *postgrestest.Proxy) {
			p.Watch(postgrestest.Once(postgrestest.CutBefore, func(m postgrestest.Message) bool {
				return !m.FromServer && m.Type == 'E' && strings.HasPrefix(m.Text, "UPDATE payments")
			}))
		}},
		{"lost after a statement", func(p *postgrestest.Proxy) {
			p.Watch(postgrestest.Once(postgrestest.CutBefore, func(m postgrestest.Message) bool {
				return m.FromServer && m.Type == 'C' && strings.HasPrefix(m.Text, "UPDATE")
			}))
		}},
		{"lost before COMMIT", func(p *postgrestest.Proxy) { p.Watch(postgrestest.Once(postgrestest.CutBefore, isCommit)) }},
		{"lost with COMMIT", func(p *postgrestest.Proxy) { p.Watch(postgrestest.Once(postgrestest.CutAfter, isCommit)) }},
		{"COMMIT is done, and its answer lost", func(p *postgrestest.Proxy) {
			p.Watch(postgrestest.Once(postgrestest.CutBefore, func(m postgrestest.Message) bool {
				return m.FromServer && m.Type == 'C' && m.Text == "COMMIT"
			}))
		}},
		{"COMMIT is done, its answer lost, and so is the first look", func(p *postgrestest.Proxy) {
			var done atomic.Int32
			p.Watch(func(m postgrestest.Message) postgrestest.Verdict {
				if done.Load() == 0 && m.FromServer && m.Type == 'C' && m.Text == "COMMIT" && done.CompareAndSwap(0, 1) ||
					done.Load() == 1 && m.FromServer && m.Type == 'C' && strings.HasPrefix(m.Text, "INSERT") && done.CompareAndSwap(1, 2) {
					return postgrestest.CutBefore
				}
				return postgrestest.Pass
			})
		}},
		{"lost before COMMIT, and whoever looks hears no answer either", func(p *postgrestest.Proxy) {
			var lost atomic.Bool
			var looks, cut atomic.Int32 // the connection on which somebody looks; that it was cut
			p.Watch(func(m postgrestest.Message) postgrestest.Verdict {
				if lost.Load() && !m.FromServer && m.Type == 'E' && strings.Contains(m.Text, "UPDATE committers") {
					looks.CompareAndSwap(0, int32(m.Connection))
				}
				if isCommit(m) && lost.CompareAndSwap(false, true) ||
					m.FromServer && m.Type == 'C' && m.Text == "COMMIT" && int32(m.Connection) == looks.Load() && cut.CompareAndSwap(0, 1) {
					return postgrestest.CutBefore
				}
				return postgrestest.Pass
			})
		}},
		{"every tenth COMMIT's answer is lost", func(p *postgrestest.Proxy) {
			var n atomic.Int32
			p.Watch(func(m postgrestest.Message) postgrestest.Verdict {
				if m.FromServer && m.Type == 'C' && m.Text == "COMMIT" && n.Add(1)%10 == 0 {
					return postgrestest.CutBefore
				}
				return postgrestest.Pass
			})
		}},
		{"all connections are cut, again and again", func(p *postgrestest.Proxy) {
			var n atomic.Int32
			p.Watch(func(m postgrestest.Message) postgrestest.Verdict {
				if !m.FromServer && m.Type == 'E' && n.Add(1)%50 == 0 {
					p.Cut()
				}
				return postgrestest.Pass
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			proxy := postgrestest.NewProxy(t, postgrestest.Database(t))
			w := newWorld(t, postgres(proxy.DSN()))
			const callers, times = 8, 10
			var asking []payment.Payment
			for i := range callers / 2 {
				asking = append(asking, w.asking(terms(fmt.Sprint("order-", i))))
			}
			c.fault(proxy)
			together(callers, func(i int) {
				for n := range times {
					if err := ask(w.Store, asking[i%len(asking)].ID); err != nil {
						t.Error(err)
					}
					name := fmt.Sprintf("new-%d-%d", i, n)
					if _, created, err := w.Create(t.Context(), shop, name, maker(terms(name))); err != nil || !created {
						t.Errorf("create: %v, %v", created, err)
					}
				}
			})
			proxy.Watch(nil)
			for _, p := range asking {
				if got := w.asked(p); got != 2*times {
					t.Errorf("%d of %d updates are stored", got, 2*times)
				}
			}
			if a := w.clean(); a.Payments != len(asking)+callers*times {
				t.Errorf("%d payments are stored", a.Payments)
			}
			if err := w.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A server that refuses because somebody else was in the way is asked again, and nobody notices.
func TestPostgreSQLRetries(t *testing.T) {
	for _, when := range []postgrestest.When{postgrestest.AtStatement, postgrestest.AtCommit} {
		for _, state := range []string{"40001", "40P01"} {
			t.Run(string(when)+" "+state, func(t *testing.T) {
				t.Parallel()
				dsn := postgrestest.Database(t)
				w := newWorld(t, postgres(dsn))
				p, q := w.asking(terms("order-1")), w.asking(terms("order-2"))
				refused := postgrestest.Refuse(t, dsn, "payments", when, state, 3, 5)
				together(4, func(i int) {
					for range 10 {
						if err := ask(w.Store, []payment.ID{p.ID, q.ID}[i%2]); err != nil {
							t.Error(err)
						}
					}
				})
				if n := refused(); n != 5 {
					t.Fatalf("%d refusals", n)
				}
				if w.asked(p) != 20 || w.asked(q) != 20 {
					t.Errorf("%d and %d updates of 20 are stored", w.asked(p), w.asked(q))
				}
				w.clean()
			})
		}
	}
}

// What the database does not take is its own job's trouble, and nobody else's.
func TestPostgreSQLOneBadRow(t *testing.T) {
	w := newWorld(t, postgresWith(postgrestest.Database(t), 1)) // all wait behind one
	for _, name := range []string{"a\x00b", "\xff", strings.Repeat("long", 1<<20)} {
		blocker := w.create(terms(fmt.Sprintf("blocker-%d", len(name))))
		release := w.block(blocker.ID)
		results := make(chan error, 3)
		for i, name := range []string{fmt.Sprint("before-", len(name)), name, fmt.Sprint("after-", len(name))} {
			w.handIn(func() {
				fine := terms("fine") // the name is what cannot be stored
				fine.ShopPaymentID = name
				_, _, err := w.Create(t.Context(), shop, name, maker(fine))
				if (err != nil) != (i == 1) {
					t.Errorf("%.20q: %v", name, err)
				}
				results <- err
			})
		}
		release()
		for range 3 {
			<-results
		}
	}
	if a := w.clean(); a.Payments != 9 {
		t.Errorf("%d payments are stored, want 9", a.Payments)
	}
}

// A session that the server ends before it comes to COMMIT has stored nothing: that need not be looked up, and where the
// database is away afterwards nothing is in doubt.
func TestPostgreSQLEndedBeforeCommit(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.Database(t)
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	proxy := postgrestest.NewProxy(t, dsn)
	w := newWorld(t, postgresWith(proxy.DSN(), 1))
	p := w.asking(terms("order-1"))
	for range 2 { // then a batch is one round trip
		if err := ask(w.Store, p.ID); err != nil {
			t.Fatal(err)
		}
	}
	defer store.Impatient(5 * time.Second)() // not in parallel with others
	letIn := func(most string) string { return `ALTER DATABASE ` + cfg.Database + ` CONNECTION LIMIT ` + most }
	// The server says once why it lets nobody in, and then takes its time: what is told is what it said.
	var refused atomic.Int64
	quick := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(quick) })
	defer goOn()
	proxy.Watch(func(m postgrestest.Message) postgrestest.Verdict {
		if m.FromServer && m.Type == 'E' && m.Text == "53300" {
			refused.CompareAndSwap(0, int64(m.Connection))
		}
		if first := refused.Load(); first > 0 && int64(m.Connection) > first {
			<-quick
		}
		return postgrestest.Pass
	})
	server.Exec(t, letIn("0"), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '`+cfg.Database+`'`)
	isTold(t, "has no connection left for us", func() error { return ask(w.Store, p.ID) })
	server.Exec(t, letIn("-1"))
	goOn()
	goesWell(t, func() error { return ask(w.Store, p.ID) })
	if got := w.asked(p); got != 3 {
		t.Errorf("%d updates are stored, want 3", got)
	}
}

// ask asks a payment's question once more: what is stored counts how often.
func ask(s *store.Store, id payment.ID) error {
	_, err := s.Update(context.Background(), id, func(p payment.Payment, now time.Time) (payment.Change, error) {
		return payment.Begin(p, payment.Resume{Orphan: true}, now)
	})
	return err
}

// asked is how often that was done, as it is stored.
func (w *world) asked(p payment.Payment) int {
	w.t.Helper()
	now, err := w.Payment(w.t.Context(), p.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	if int(now.Version-p.Version) != now.Open.Asks-p.Open.Asks {
		w.t.Errorf("%d asks, %d versions", now.Open.Asks-p.Open.Asks, now.Version-p.Version)
	}
	return now.Open.Asks - p.Open.Asks
}

func isCommit(m postgrestest.Message) bool {
	return !m.FromServer && m.Type == 'E' && m.Text == "COMMIT"
}
