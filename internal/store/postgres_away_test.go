package store_test

import (
	"context"
	"errors"
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

// While the database is away callers are told so after a while, and go on when it is back. Only where the outcome
// of a commit cannot be known is nothing more acknowledged.
func TestPostgreSQLAway(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		proxy := postgrestest.NewProxy(t, postgrestest.Database(t))
		w := newWorld(t, postgres(proxy.DSN()))
		p := w.asking(terms("order-1"))
		defer store.Impatient(3 * time.Second)() // not in parallel with others
		proxy.Close()
		isTold(t, "cannot be reached", func() error { return ask(w.Store, p.ID) })
		proxy.Open()
		goesWell(t, func() error { return ask(w.Store, p.ID) })
		if got := w.asked(p); got != 1 {
			t.Errorf("%d updates are stored, want 1", got)
		}
	})
	t.Run("after COMMIT", func(t *testing.T) {
		proxy := postgrestest.NewProxy(t, postgrestest.Database(t))
		w := newWorld(t, postgres(proxy.DSN()))
		p := w.asking(terms("order-1"))
		defer store.Impatient(time.Second)()
		proxy.Watch(func(m postgrestest.Message) postgrestest.Verdict {
			if m.FromServer && m.Type == 'C' && m.Text == "COMMIT" {
				proxy.Close()
			}
			return postgrestest.Pass
		})
		if err := ask(w.Store, p.ID); !errors.Is(err, store.ErrBroken) {
			t.Errorf("told %v", err)
		}
		proxy.Watch(nil)
		proxy.Open()
		if err := ask(w.Store, p.ID); !errors.Is(err, store.ErrBroken) {
			t.Errorf("later: %v", err)
		}
	})
}

// Who reads waits for the database like who writes: a call begins with a read.
func TestPostgreSQLAwayFromReaders(t *testing.T) {
	proxy := postgrestest.NewProxy(t, postgrestest.Database(t))
	w := newWorld(t, postgres(proxy.DSN()))
	p := w.create(terms("order-1"))
	read := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, one := w.Store.Payment(ctx, p.ID)
		_, all := w.Shops(ctx)
		return errors.Join(one, all)
	}
	t.Run("for a moment", func(t *testing.T) {
		proxy.Close()
		defer time.AfterFunc(time.Second, proxy.Open).Stop()
		if err := read(); err != nil {
			t.Errorf("it was away for a second, and the reader is told %v", err)
		}
	})
	t.Run("for long", func(t *testing.T) {
		defer store.Impatient(time.Second)() // not in parallel with others
		proxy.Close()
		isTold(t, "cannot be reached", read)
		if w.Away() == nil || w.Err() != nil {
			t.Errorf("away: %v, failed: %v", w.Away(), w.Err())
		}
		proxy.Open()
		goesWell(t, read)
		eventually(t, "payments are taken again", func() bool { return w.Away() == nil })
	})
	t.Run("without a word", func(t *testing.T) {
		store.ReadWithin(w.Store, time.Second)
		first := newest(t, proxy, read)
		thaw := make(chan struct{})
		proxy.Watch(func(m postgrestest.Message) postgrestest.Verdict {
			if m.Connection <= first {
				<-thaw
			}
			return postgrestest.Pass
		})
		defer func() { close(thaw); proxy.Watch(nil) }()
		if err := read(); err != nil {
			t.Errorf("nothing that was connected is answered any more, and the reader is told %v", err)
		}
	})
	t.Run("as the writer finds", func(t *testing.T) {
		before := newest(t, proxy, read)
		proxy.Watch(postgrestest.Once(postgrestest.CutBefore, isCommit))
		if w.create(terms("order-2")); newest(t, proxy, read) <= before {
			t.Error("the writer has connected anew, and readers go on where they were")
		}
	})
}

// newest is the last of the connections that readers use.
func newest(t *testing.T, proxy *postgrestest.Proxy, read func() error) int {
	t.Helper()
	var last atomic.Int64
	proxy.Watch(func(m postgrestest.Message) postgrestest.Verdict {
		for n := last.Load(); n < int64(m.Connection) && !last.CompareAndSwap(n, int64(m.Connection)); n = last.Load() {
		}
		return postgrestest.Pass
	})
	defer proxy.Watch(nil)
	if err := read(); err != nil {
		t.Fatal(err)
	}
	return int(last.Load())
}

// A server that lets nobody in is away, whatever it says why: too many are there, the password was changed. Who reads waits for
// it like who writes, and is told in a sentence.
func TestPostgreSQLLetsNobodyIn(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.Database(t)
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, postgres(dsn))
	p := w.create(terms("order-1"))
	read := func() error {
		_, one := w.Store.Payment(t.Context(), p.ID)
		_, all := w.Shops(t.Context())
		return errors.Join(one, all)
	}
	for _, c := range []struct{ never, again, want string }{
		{`ALTER DATABASE ` + cfg.Database + ` CONNECTION LIMIT 0`, `ALTER DATABASE ` + cfg.Database + ` CONNECTION LIMIT -1`, "has no connection left for us: raise max_connections"},
		{`ALTER ROLE ` + cfg.User + ` PASSWORD 'changed'`, `ALTER ROLE ` + cfg.User + ` PASSWORD '` + postgrestest.Password + `'`, "does not let us in: check the user and the password"},
	} {
		t.Run(c.want, func(t *testing.T) {
			const end = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '` + postgrestest.Owner + `'`
			server.Exec(t, c.never, end)
			back := time.AfterFunc(time.Second, func() { server.Exec(t, c.again) })
			if err := read(); err != nil || back.Stop() {
				t.Errorf("for a second nobody was let in, and the reader is told %v", err)
			}
			server.Exec(t, c.never, end)
			defer store.Impatient(time.Second)() // not in parallel with others
			isTold(t, c.want, read)
			if w.Away() == nil || w.Err() != nil {
				t.Errorf("away: %v, failed: %v", w.Away(), w.Err())
			}
			server.Exec(t, c.again)
			eventually(t, "payments are taken again", func() bool { return w.Away() == nil })
			goesWell(t, read)
		})
	}
}

// Where the database goes away while the jobs of a batch are tried one by one, they do not wait for it one behind the other.
func TestPostgreSQLAwayOneByOne(t *testing.T) {
	proxy := postgrestest.NewProxy(t, postgrestest.Database(t))
	w := newWorld(t, postgresWith(proxy.DSN(), 1)) // all wait behind one
	blocker := w.create(terms("blocker"))
	const patience, callers = time.Second, 20
	defer store.Impatient(patience)() // not in parallel with others
	release := w.block(blocker.ID)
	told := make(chan error, callers)
	for i := range callers {
		name := fmt.Sprint("order-", i)
		if i == 0 {
			name = "a\x00b" // which cannot be stored
		}
		w.handIn(func() {
			fine := terms("fine") // the name is what cannot be stored
			fine.ShopPaymentID = name
			_, _, err := w.Create(context.Background(), shop, name, maker(fine))
			told <- err
		})
	}
	proxy.Watch(func(m postgrestest.Message) postgrestest.Verdict {
		if m.FromServer && m.Type == 'C' && m.Text == "ROLLBACK" { // of them all together
			proxy.Close()
		}
		return postgrestest.Pass
	})
	begin := time.Now()
	release()
	for range callers {
		if err := <-told; err == nil || !strings.Contains(err.Error(), "cannot be reached") {
			t.Errorf("told %v", err)
		}
	}
	if took := time.Since(begin); took > callers*patience/2 {
		t.Errorf("%d callers were told after %s that the database was away for %s", callers, took, patience)
	}
	proxy.Watch(nil)
	proxy.Open()
	goesWell(t, func() error {
		back := terms("when it is back")
		_, _, err := w.Create(t.Context(), shop, back.ShopPaymentID, maker(back))
		return err
	})
}

// The primary dies in the middle of everything, and its synchronous standby takes over: what was acknowledged is
// there, once.
func TestPostgreSQLFailover(t *testing.T) {
	primary := postgrestest.Start(t)
	standby := primary.Standby(t, "second")
	dsn := primary.Database(t)
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, postgres(postgrestest.DSN(cfg.Database, primary, standby)))
	const callers = 8
	var asking []payment.Payment
	for i := range callers {
		asking = append(asking, w.asking(terms(fmt.Sprint("order-", i))))
	}
	var acknowledged [callers]atomic.Int64
	var end atomic.Bool
	var load sync.WaitGroup
	for i := range callers {
		load.Go(func() {
			for !end.Load() {
				if err := ask(w.Store, asking[i].ID); err != nil {
					t.Errorf("told %v", err)
					return
				}
				acknowledged[i].Add(1)
			}
		})
	}
	reached := func(n int64) {
		t.Helper()
		eventually(t, "all callers go on", func() bool {
			for i := range acknowledged {
				if acknowledged[i].Load() < n && !t.Failed() {
					return false
				}
			}
			return true
		})
	}
	reached(20)
	primary.Kill(t)
	standby.Promote(t)
	var most int64
	for i := range acknowledged {
		most = max(most, acknowledged[i].Load())
	}
	reached(most + 20)
	end.Store(true)
	load.Wait()
	for i, p := range asking {
		if got := int64(w.asked(p)); got != acknowledged[i].Load() {
			t.Errorf("%d updates were acknowledged, %d are stored", acknowledged[i].Load(), got)
		}
	}
	w.clean()
}
