package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"holdfast/internal/merchant"
	"holdfast/internal/payment"
	"holdfast/internal/postgrestest"
	"holdfast/internal/store"
)

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

// Texts are UTF-8 on the way to the database, whatever is usual there: a shop's name for a payment that was written in another
// way is another name, and the payment would be made again.
func TestPostgreSQLTexts(t *testing.T) {
	dsn := postgrestest.Database(t)
	const name = "Заказ №1"
	makes := func(dsn string, wantNew bool) {
		w := newWorld(t, postgres(dsn))
		terms := terms("any")
		terms.ShopPaymentID = name
		if _, made, err := w.Create(t.Context(), shop, name, maker(terms)); err != nil || made != wantNew {
			t.Errorf("made: %v, %v", made, err)
		}
	}
	makes(dsn, true)
	makes(dsn+"&client_encoding=LATIN1", false)
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	tell(t, dsn, `ALTER DATABASE `+cfg.Database+` SET client_encoding = 'WIN1251'`)
	makes(dsn, false)
}

// The statement_timeout of the gateways' role is for gateways: an audit, and a step of the schema, take as long as they take.
func TestPostgreSQLTakesItsTime(t *testing.T) {
	const timeout = 5 * time.Second
	defer store.Impatient(timeout)() // not in parallel with others
	// slow is a database, in which another session has run a statement that what is done in it must wait for.
	slow := func(t *testing.T, statement string, prepare func(dsn string), do func(dsn string) error) {
		t.Helper()
		dsn := postgrestest.Database(t)
		prepare(dsn)
		cfg, err := pgx.ParseConfig(dsn)
		if err != nil {
			t.Fatal(err)
		}
		tell(t, dsn, fmt.Sprintf(`ALTER DATABASE %s SET statement_timeout = %d`, cfg.Database, timeout.Milliseconds()))
		connect := func() *pgx.Conn {
			conn, err := pgx.Connect(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}
		holds, looks := connect(), connect()
		defer looks.Close(context.Background())
		defer holds.Close(context.Background())
		if _, err := holds.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- do(dsn) }()
		const waits = `SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'holdfast'
			AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > '7 s')`
		for long := false; !long; {
			if err := looks.QueryRow(t.Context(), waits).Scan(&long); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-done:
				t.Fatalf("what takes longer than %s: %v", timeout, err)
			default:
			}
		}
		if _, err := holds.Exec(t.Context(), `COMMIT`); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Run("an audit", func(t *testing.T) {
		slow(t, `BEGIN; LOCK TABLE entries IN ACCESS EXCLUSIVE MODE`, func(dsn string) {
			newWorld(t, postgres(dsn)).captured(terms("order-1"), total)
		}, func(dsn string) error {
			return opened(t, dsn, func(s *store.Store) error {
				_, err := s.Audit(t.Context(), nil)
				return err
			})
		})
	})
	t.Run("a step of the schema", func(t *testing.T) {
		slow(t, `BEGIN; UPDATE meta SET value = '0' WHERE name = 'schema'`, func(dsn string) {
			tell(t, dsn, `CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL); INSERT INTO meta VALUES ('schema', '0')`)
		}, func(dsn string) error {
			return opened(t, dsn, func(*store.Store) error { return nil })
		})
	})
}

// What is acknowledged is on the disk, also where a server that the gateway comes to later is told that this does not matter: it is
// checked at the start alone.
func TestPostgreSQLStaysSynchronous(t *testing.T) {
	dsn := postgrestest.Database(t)
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, postgresWith(dsn, 1))
	p := w.asking(terms("order-1"))
	for told, want := range map[string]string{"off": "on", "remote_apply": "remote_apply"} {
		tell(t, dsn, `CREATE OR REPLACE FUNCTION synchronous() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN
				IF current_setting('synchronous_commit') <> '`+want+`' THEN RAISE EXCEPTION 'synchronous_commit is %', current_setting('synchronous_commit'); END IF;
				RETURN NEW;
			END $$; CREATE OR REPLACE TRIGGER synchronous BEFORE UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION synchronous()`)
		tell(t, dsn, `ALTER DATABASE `+cfg.Database+` SET synchronous_commit = `+told+`; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		if err := ask(w.Store, p.ID); err != nil {
			t.Errorf("told that it is %s: %v", told, err)
		}
	}
	if got := w.asked(p); got != 2 {
		t.Errorf("%d updates are stored, want 2", got)
	}
}

// A gateway that stands still with a transaction open is ended by the server when the server says so, where that is sooner than the
// store would have it.
func TestPostgreSQLStandsStill(t *testing.T) {
	dsn := postgrestest.Database(t)
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	tell(t, dsn, `ALTER DATABASE `+cfg.Database+` SET idle_in_transaction_session_timeout = '1s'`)
	proxy := postgrestest.NewProxy(t, dsn)
	w := newWorld(t, postgresWith(proxy.DSN(), 1))
	ended := make(chan struct{})
	var still, end sync.Once
	proxy.Watch(func(m postgrestest.Message) postgrestest.Verdict {
		switch {
		case m.FromServer && m.Type == 'E' && m.Text == "25P03":
			end.Do(func() { close(ended) })
		case !m.FromServer && strings.HasPrefix(m.Text, "INSERT INTO committers"): // all before it is on its way
			still.Do(func() {
				select {
				case <-ended:
				case <-time.After(time.Minute):
					t.Error("it stands still for a minute, and the server does not end it")
				}
			})
		}
		return postgrestest.Pass
	})
	if _, err := w.CreateShop(t.Context(), merchant.Shop{Name: "Toys"}); err != nil {
		t.Error(err)
	}
	if shops, err := w.Shops(t.Context()); err != nil || len(shops) != 1 {
		t.Errorf("%d shops, %v", len(shops), err)
	}
}

// opened does something with a store that is opened beside those that serve.
func opened(t *testing.T, dsn string, do func(*store.Store) error) error {
	s, err := postgres(dsn)(store.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return errors.Join(do(s), s.Close())
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

// Where the database goes away while the jobs of a batch are tried one by one, they do not wait for it one behind the other.
func TestPostgreSQLAwayOneByOne(t *testing.T) {
	proxy := postgrestest.NewProxy(t, postgrestest.Database(t))
	w := newWorld(t, postgresWith(proxy.DSN(), 1)) // all wait behind one
	blocker := w.create(terms("blocker"))
	const patience, callers = 2 * time.Second, 20
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
	if took := time.Since(begin); took > callers*patience*3/4 {
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

// Two gateways on one database: of many who want the same, one gets it.
func TestPostgreSQLTwoGateways(t *testing.T) {
	w := newWorld(t, postgres(postgrestest.Database(t)))
	gateways := []*store.Store{w.Store, w.openAgain(true)}
	if w.Alone() {
		t.Error("several serve from one database")
	}
	t.Run("one name is one payment", func(t *testing.T) {
		for round := range 20 {
			name := fmt.Sprint("one-", round)
			var made atomic.Int32
			got := make([]payment.Payment, 24)
			together(len(got), func(i int) {
				p, created, err := gateways[i%2].Create(t.Context(), shop, name, maker(terms(name)))
				if err != nil {
					t.Error(err)
				}
				if created {
					made.Add(1)
				}
				got[i] = p
			})
			if made.Load() != 1 {
				t.Errorf("%d callers were told that they made it", made.Load())
			}
			for i := range got {
				if diff := cmp.Diff(got[0], got[i]); diff != "" {
					t.Fatalf("caller %d got another answer:\n%s", i, diff)
				}
				byNumber, err := gateways[i%2].PaymentByNumber(t.Context(), got[i].Number)
				if err != nil || byNumber.ID != got[0].ID {
					t.Errorf("number %d is payment %s, %v", got[i].Number, byNumber.ID, err)
				}
			}
		}
	})
	t.Run("many names at once are as many payments", func(t *testing.T) {
		numbers := make(map[int64]bool)
		var mu sync.Mutex
		together(32, func(i int) {
			for n := range 40 { // more than a block of row numbers
				name := fmt.Sprintf("many-%d-%d", i, n)
				p, created, err := gateways[i%2].Create(t.Context(), shop, name, maker(terms(name)))
				if err != nil || !created {
					t.Errorf("created %v, %v", created, err)
				}
				mu.Lock()
				if numbers[p.Number] {
					t.Errorf("number %d was given twice", p.Number)
				}
				numbers[p.Number] = true
				mu.Unlock()
			}
		})
	})
	t.Run("one hold is decided once", func(t *testing.T) {
		for round := range 20 {
			p := w.held(terms(fmt.Sprint("held-", round)))
			decisions := make([]payment.Change, 16)
			together(len(decisions), func(i int) {
				decide := payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant}
				if i/2%2 == 0 {
					decide = payment.Decide{Accept: payment.Capture, Amount: uzs(int64(total - i)), By: payment.ByMerchant}
				}
				change, err := gateways[i%2].Update(t.Context(), p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
					return payment.Begin(p, decide, now)
				})
				if err == nil {
					decisions[i] = change
				}
			})
			taken := 0
			for _, change := range decisions {
				if !change.Empty() {
					taken++
				}
			}
			if taken != 1 {
				t.Errorf("%d decisions were taken", taken)
			}
			for _, s := range gateways {
				now, err := s.Payment(t.Context(), p.ID)
				if err != nil || now.Version != p.Version+1 {
					t.Errorf("version %d after %d, %v", now.Version, p.Version, err)
				}
			}
		}
	})
	t.Run("one hold at the centre is one payment's", func(t *testing.T) {
		for round := range 10 {
			var asking []payment.Payment
			for i := range 6 {
				asking = append(asking, w.asking(terms(fmt.Sprintf("claim-%d-%d", round, i))))
			}
			var owners atomic.Int32
			together(len(asking), func(i int) {
				_, err := gateways[i%2].Update(t.Context(), asking[i].ID, answering(payment.Answer{Outcome: payment.Approved, Claim: fmt.Sprint("the one of ", round)}))
				if err == nil {
					owners.Add(1)
				} else if !errors.Is(err, store.ErrClaimed) {
					t.Error(err)
				}
			})
			if owners.Load() != 1 {
				t.Errorf("the hold has %d owners", owners.Load())
			}
		}
	})
	t.Run("shops get ids of their own", func(t *testing.T) {
		var mu sync.Mutex
		ids := make(map[int64]bool)
		together(12, func(i int) {
			made, err := gateways[i%2].CreateShop(t.Context(), merchant.Shop{Name: fmt.Sprint("shop ", i), UniqueKey: []byte{1}})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			ids[made.ID] = true
		})
		if len(ids) != 12 {
			t.Errorf("12 shops have %d ids", len(ids))
		}
	})
	w.clean()
}

// Two operators change a shop at once, each by a process of his own: both changes are stored.
func TestPostgreSQLTwoChangeAShop(t *testing.T) {
	dsn := postgrestest.Database(t)
	w := newWorld(t, postgres(dsn))
	other := w.openAgain(false)
	made, err := w.CreateShop(t.Context(), shopNamed("before"))
	if err != nil {
		t.Fatal(err)
	}
	server, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close(context.Background())
	waits := func() (waits bool) {
		err := server.QueryRow(t.Context(), `SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waits)
		if err != nil {
			t.Error(err)
		}
		return waits
	}
	var second sync.WaitGroup
	begin := sync.OnceFunc(func() {
		var done atomic.Bool
		second.Go(func() {
			_, err := other.UpdateShop(context.Background(), made.ID, func(s *merchant.Shop) error { s.SecretHash[0] = 42; return nil })
			if err != nil {
				t.Error(err)
			}
			done.Store(true)
		})
		eventually(t, "the second is through, or waits for the first", func() bool { return done.Load() || waits() })
	})
	_, err = w.UpdateShop(t.Context(), made.ID, func(s *merchant.Shop) error {
		begin()
		s.Name = "after"
		return nil
	})
	second.Wait()
	if err != nil {
		t.Fatal(err)
	}
	shops, err := w.Shops(t.Context())
	if err != nil || len(shops) != 1 || shops[0].Name != "after" || shops[0].SecretHash[0] != 42 {
		t.Errorf("a change that was acknowledged is lost: %+v, %v", shops, err)
	}
}

// What a gateway remembers is enough to recall terms, and never to say how a payment stands.
func TestPostgreSQLRemembered(t *testing.T) {
	w := newWorld(t, postgres(postgrestest.Database(t)))
	other := w.openAgain(true)
	p := w.held(terms("order-1"))
	change, err := other.Update(t.Context(), p.ID, beginning(payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant}))
	if err != nil {
		t.Fatal(err)
	}
	read := func(find func() (payment.Payment, error)) payment.Payment {
		t.Helper()
		p, err := find()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	recalled := read(func() (payment.Payment, error) { return w.Recall(t.Context(), p.ID, p.LastEvent) })
	byNumber := read(func() (payment.Payment, error) { return w.RecallByNumber(t.Context(), p.Number) })
	for _, got := range []payment.Payment{recalled, byNumber} {
		if got.Version != p.Version || got.Terms.ShopPaymentID != "order-1" {
			t.Errorf("recalled version %d of %q", got.Version, got.Terms.ShopPaymentID)
		}
	}
	if got := read(func() (payment.Payment, error) { return w.Recall(t.Context(), p.ID, p.LastEvent+1) }); got.Version != change.Payment.Version {
		t.Errorf("version %d is said to have an event that only %d can have", got.Version, change.Payment.Version)
	}
	// What another wrote is seen however it is asked for, by many at once.
	if _, err := other.Update(t.Context(), p.ID, answering(payment.Answer{Outcome: payment.Approved})); err != nil {
		t.Fatal(err)
	}
	together(16, func(i int) {
		got, err := w.Payment(t.Context(), p.ID)
		if i%2 == 0 {
			got, err = w.PaymentByNumber(t.Context(), p.Number)
		}
		if err != nil || got.State != payment.Voided {
			t.Errorf("found %s, %v", got.State, err)
		}
	})
	// What was so a moment ago is told to who has asked for that, and no longer.
	p = w.held(terms("order-2"))
	if _, err := other.Update(t.Context(), p.ID, beginning(payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant})); err != nil {
		t.Fatal(err)
	}
	for _, age := range []time.Duration{0, time.Second - time.Microsecond, time.Second} {
		w.later(age - w.Now().Sub(p.UpdatedAt))
		got := read(func() (payment.Payment, error) { return w.Lately(t.Context(), p.ID) })
		if remembered := got.Version == p.Version; remembered != (age < time.Second) {
			t.Errorf("after %s version %d is told, %d is remembered", age, got.Version, p.Version)
		}
	}
	// One that asks for what cannot be asked for is no trouble of the others.
	together(16, func(i int) {
		name := "order-1"
		if i%4 == 0 {
			name = "a\x00b"
		}
		if _, err := w.PaymentByShop(t.Context(), shop, name); (err != nil) != (i%4 == 0) {
			t.Errorf("%q: %v", name, err)
		}
	})
	w.clean()
}

// A payment that cannot be read, because a later version wrote it or it is damaged, keeps up no other that is due.
func TestPostgreSQLDueUnreadable(t *testing.T) {
	dsn := postgrestest.Database(t)
	w := newWorld(t, postgres(dsn))
	bad, good := w.create(terms("bad")), w.create(terms("good"))
	tell(t, dsn, `UPDATE payments SET state = 'from the future' WHERE seq = (SELECT payment FROM terms WHERE shop_payment_id = 'bad')`)
	ids, _, err := w.Due(t.Context(), bad.Terms.ExpiresAt.Add(time.Hour), store.Cursor{}, 10)
	if err != nil || len(ids) != 2 || !slices.Contains(ids, good.ID) || !slices.Contains(ids, bad.ID) {
		t.Errorf("due are %v, want %v and %v, %v", ids, bad.ID, good.ID, err)
	}
}

// A payment's next time is written where it comes to be earlier; who finds it too early puts it right.
func TestPostgreSQLDueTooEarly(t *testing.T) {
	dsn := postgrestest.Database(t)
	w := newWorld(t, postgres(dsn))
	slow, left := w.create(terms("slow")), w.create(terms("left alone"))
	w.begin(slow.ID, pay()) // due when the answer is
	p := w.mustSettle(slow.ID, payment.Answer{Outcome: payment.ChallengeGiven, CentreID: "77", Phone: "+998** *****33"})
	stored := func() int64 {
		t.Helper()
		var due int64
		conn, err := pgx.Connect(t.Context(), dsn)
		if err == nil {
			err = conn.QueryRow(t.Context(), `SELECT p.due_at FROM payments p JOIN terms t ON t.payment = p.seq WHERE t.id = $1`, slow.ID[:]).Scan(&due)
			err = errors.Join(err, conn.Close(t.Context()))
		}
		if err != nil {
			t.Fatal(err)
		}
		return due
	}
	early := stored()
	if early >= p.Due().UnixMicro() {
		t.Fatalf("the time of the question is gone: due_at is %d, the payment is due at %d", early, p.Due().UnixMicro())
	}
	w.clean() // the audit takes it
	due := func(at time.Time) (ids []payment.ID) {
		t.Helper()
		ids, _, err := w.Due(t.Context(), at, store.Cursor{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	if ids := due(time.UnixMicro(early)); len(ids) != 0 {
		t.Errorf("due: %v", ids)
	}
	if got := stored(); got != p.Due().UnixMicro() {
		t.Errorf("due_at is %d, want %d", got, p.Due().UnixMicro())
	}
	if ids := due(p.Due()); !slices.Equal(ids, []payment.ID{slow.ID, left.ID}) && !slices.Equal(ids, []payment.ID{left.ID, slow.ID}) {
		t.Errorf("at its end due: %v", ids)
	}
	w.begin(slow.ID, payment.SubmitCode{VerifyID: verifyID}) // earlier again
	if now, err := w.Payment(t.Context(), slow.ID); err != nil || stored() != now.Due().UnixMicro() {
		t.Errorf("due_at is %d, the payment is due at %s, %v", stored(), now.Due(), err)
	}
	// A gateway that died forgot to say when it must be looked at: the audit does not take that.
	tell(t, dsn, `UPDATE payments SET due_at = due_at + 1000000`)
	audit, err := w.Audit(t.Context(), nil)
	if err != nil || len(audit.Violations) == 0 {
		t.Errorf("late, and the audit says %+v, %v", audit, err)
	}
}

// Each event goes to one gateway, in the order of its payment, whichever gateway made it.
// While one gateway is about to put an event off, for the one before it is being told, another records that it was: the
// event is due at once, and not at the end of the lease that has ended.
func TestPostgreSQLPutOffBesideAResult(t *testing.T) {
	dsn := postgrestest.Database(t)
	w := newWorld(t, postgres(dsn))
	proxy := postgrestest.NewProxy(t, dsn)
	w.open = postgres(proxy.DSN())
	other := w.openAgain(true)
	p := w.captured(terms("order-1"), total)
	w.later(time.Second)
	claimed, err := w.Claim(t.Context(), store.Cursor{}, 1, time.Hour, everywhere)
	told := claimed.Deliveries
	if err != nil || len(told) != 1 || told[0].Event.N != 1 {
		t.Fatalf("%+v, %v", told, err)
	}
	w.later(time.Second)
	var once sync.Once
	proxy.Watch(func(m postgrestest.Message) postgrestest.Verdict {
		if !m.FromServer && strings.Contains(m.Text, "UPDATE events") {
			once.Do(func() { w.record(delivered(told[0])) })
		}
		return postgrestest.Pass
	})
	claimed, err = other.Claim(t.Context(), store.Cursor{}, 5, time.Hour, everywhere)
	if err != nil || len(claimed.Deliveries) > 0 {
		t.Errorf("claimed by what it had read before: %+v, %v", claimed, err)
	}
	once.Do(func() { t.Error("it has put nothing off") })
	claimed, err = w.Claim(t.Context(), store.Cursor{}, 1, time.Hour, everywhere)
	if next := claimed.Deliveries; err != nil || len(next) != 1 || next[0].Payment != p.ID || next[0].Event.N != 2 {
		t.Errorf("the event after the one that was told is not due: %+v, %v", next, err)
	}
}

func TestPostgreSQLTwoGatewaysTell(t *testing.T) {
	w := newWorld(t, postgres(postgrestest.Database(t)))
	gateways := []*store.Store{w.Store, w.openAgain(true)}
	const payments = 60
	for i := range payments {
		w.captured(terms(fmt.Sprint("order-", i)), total) // three events
	}
	var mu sync.Mutex
	told := make(map[payment.ID][]int)
	var places [2]atomic.Int64 // taken and not given back
	together(6, func(i int) {
		s, places := gateways[i%2], &places[i%2]
		for {
			claimed, err := s.Claim(t.Context(), store.Cursor{}, 5, time.Hour, store.Places{
				Admit: func(string, int64) bool {
					places.Add(1)
					return true
				},
				Release: func(string) { places.Add(-1) },
			})
			got := claimed.Deliveries
			places.Add(-int64(len(got)))
			if err != nil {
				t.Error(err)
				return
			}
			if len(got) == 0 {
				if _, waits, err := s.NextEvent(t.Context()); err != nil || !waits {
					return
				}
				w.later(10 * time.Millisecond)
				continue
			}
			var results []store.Result
			mu.Lock()
			for _, d := range got {
				if d.Attempt != 1 {
					t.Errorf("event %d is sent for the %d. time", d.Event.N, d.Attempt)
				}
				told[d.Payment] = append(told[d.Payment], d.Event.N)
				r := delivered(d)
				r.At = w.Now()
				results = append(results, r)
			}
			mu.Unlock()
			if err := s.Record(t.Context(), results); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range places {
		if n := places[i].Load(); n != 0 { // of what the other gateway was faster with
			t.Errorf("gateway %d has lost %d places at merchants", i, n)
		}
	}
	for id, events := range told {
		if !slices.Equal(events, []int{1, 2, 3}) {
			t.Errorf("payment %s: told %v", id, events)
		}
	}
	if len(told) != payments {
		t.Errorf("%d payments were told of", len(told))
	}
	// A fresh one waits for an earlier one that another gateway is sending.
	other := gateways[1].Fresh(lease)
	fresh := w.Fresh(lease)
	p := w.asking(terms("fresh"))
	first := <-fresh
	if _, err := gateways[1].Update(t.Context(), p.ID, answering(payment.Answer{Outcome: payment.Approved, Claim: "fresh"})); err != nil {
		t.Fatal(err)
	}
	if len(other) > 0 {
		t.Errorf("handed over out of its turn: %+v", <-other)
	}
	w.record(delivered(first))
	w.takes("fresh/2 try 1")
	// And for one that another sends again, because this one's lease had ended.
	p = w.asking(terms("lapsed"))
	<-fresh
	w.later(lease)
	claimed, err := gateways[1].Claim(t.Context(), store.Cursor{}, 10, lease, everywhere)
	again := claimed.Deliveries
	if err != nil || !slices.ContainsFunc(again, func(d store.Delivery) bool { return d.Payment == p.ID }) {
		t.Fatalf("the other gateway sends %+v, %v", again, err)
	}
	w.mustSettle(p.ID, payment.Answer{Outcome: payment.Approved, Claim: "lapsed"})
	if len(fresh) > 0 {
		t.Errorf("handed over out of its turn: %+v", <-fresh)
	}
	w.clean()
}

// What a gateway has told is sent again by another one, because a person wants it: news is not told beside that, whether or not
// the first one has heard of it.
func TestPostgreSQLToldAgain(t *testing.T) {
	for name, hears := range map[string]bool{"unheard": false, "heard": true} {
		w := newWorld(t, postgres(postgrestest.Database(t)))
		other, person := w.openAgain(true), w.openAgain(false)
		fresh := w.Fresh(lease)
		p := w.captured(terms(name), total)
		for range 3 {
			w.record(delivered(<-fresh))
		}
		if _, err := person.SendAgain(t.Context(), p.ID); err != nil {
			t.Fatal(err)
		}
		claimed, err := other.Claim(t.Context(), store.Cursor{}, 10, lease, everywhere)
		again := claimed.Deliveries
		if err != nil || len(again) != 1 || again[0].Event.N != 3 || again[0].Attempt != 2 {
			t.Fatalf("%s: the other gateway sends %+v, %v", name, again, err)
		}
		if hears {
			if _, err := w.Payment(t.Context(), p.ID); err != nil {
				t.Fatal(err)
			}
		}
		w.refunded(p)
		if len(fresh) > 0 {
			t.Errorf("%s: handed over out of its turn: %+v", name, <-fresh)
		}
		r := delivered(again[0])
		r.At = w.Now()
		if err := other.Record(t.Context(), []store.Result{r}); err != nil {
			t.Fatal(err)
		}
		w.record(delivered(w.takes(name + "/4 try 1")[0]))
		w.outcomesAre(p, "1 wait_user_action: delivered", "2 waiting_for_capture: delivered", "3 succeeded: delivered", "4 succeeded: delivered")
		w.clean()
	}
}

// What was given up when all of a shop's is sent again, and is taken before it comes to that, is left alone.
func TestPostgreSQLSendGivenUpBesideAnother(t *testing.T) {
	for what, at := range map[string]string{"before it is read": "WHERE t.id = ", "after it was read": "SET version = t.version + 1"} {
		dsn := postgrestest.Database(t)
		w := newWorld(t, postgres(dsn))
		proxy := postgrestest.NewProxy(t, dsn)
		w.open = postgres(proxy.DSN())
		person := w.openAgain(false)
		p := w.calledOff(shop, "order-1")
		w.record(w.gaveUp(w.takes("order-1/1 try 1")[0]))
		var once sync.Once
		proxy.Watch(func(m postgrestest.Message) postgrestest.Verdict {
			if !m.FromServer && strings.Contains(m.Text, at) {
				once.Do(func() {
					w.again(p)
					w.record(delivered(w.takes("order-1/1 try 2")[0]))
				})
			}
			return postgrestest.Pass
		})
		if n, err := person.SendGivenUp(t.Context(), shop, time.Time{}); n != 0 || err != nil {
			t.Errorf("%s: %d are due, %v", what, n, err)
		}
		once.Do(func() { t.Errorf("%s: nobody came before it", what) })
		w.outcomesAre(p, "1 canceled: delivered")
	}
}

// Persons who want the same sent again while gateways send and shops decide: each attempt has a number of its own, and
// everything comes to rest.
func TestPostgreSQLSendAgainBesideAll(t *testing.T) {
	w := newWorld(t, postgres(postgrestest.Database(t)))
	gateways := []*store.Store{w.Store, w.openAgain(true)}
	person := w.openAgain(false)
	const payments = 20
	var all []payment.Payment
	for i := range payments {
		all = append(all, w.captured(terms(fmt.Sprint("order-", i)), total))
	}
	var mu sync.Mutex
	sent := make(map[store.EventKey]map[int]bool)
	var asked atomic.Int64
	together(6, func(i int) {
		s := gateways[i%2]
		for round := range 400 {
			switch p := all[round%payments]; {
			case i == 0 && round < 2*payments:
				if _, err := person.SendAgain(t.Context(), p.ID); err == nil {
					asked.Add(1)
				} else if !errors.Is(err, store.ErrBeingSent) {
					t.Error(err)
				}
			case i == 1 && round < payments:
				begun, err := s.Update(t.Context(), p.ID, beginning(payment.Reimburse{ID: "r", ShopID: "r", Amount: uzs(1)}))
				if err == nil {
					_, err = s.Update(t.Context(), begun.Payment.ID, answering(payment.Answer{Outcome: payment.Approved}))
				}
				if err != nil {
					t.Error(err)
				}
			}
			claimed, err := s.Claim(t.Context(), store.Cursor{}, 5, time.Hour, everywhere)
			if err != nil {
				t.Error(err)
				return
			}
			if len(claimed.Deliveries) == 0 {
				w.later(100 * time.Millisecond)
				if _, waits, err := s.NextEvent(t.Context()); err != nil || !waits && round > 2*payments {
					return
				}
			}
			var results []store.Result
			mu.Lock()
			for _, d := range claimed.Deliveries {
				if sent[d.Key] == nil {
					sent[d.Key] = make(map[int]bool)
				}
				if sent[d.Key][d.Attempt] {
					t.Errorf("attempt %d to tell event %d is made twice", d.Attempt, d.Event.N)
				}
				sent[d.Key][d.Attempt] = true
				r := delivered(d)
				r.At = w.Now()
				results = append(results, r)
			}
			mu.Unlock()
			if err := s.Record(t.Context(), results); err != nil {
				t.Error(err)
			}
		}
	})
	if asked.Load() == 0 {
		t.Error("nothing was sent again")
	}
	for _, p := range all {
		line, err := w.Timeline(t.Context(), p.ID)
		if err != nil {
			t.Fatal(err)
		}
		if len(line.Events) != 4 || line.Events[3].Outcome != "delivered" {
			t.Errorf("%s: %v", p.Terms.ShopPaymentID, w.outcomes(p))
		}
	}
	w.clean()
}

// What a person is told who starts the program on a database that cannot be used.
func TestPostgreSQLCannotBeUsed(t *testing.T) {
	server := postgrestest.Start(t)
	standby := server.Standby(t, "second")
	dsn := server.Database(t)
	edit := func(from, to string) string { return strings.Replace(dsn, from, to, 1) }
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	database := func(spoil func(dsn string)) string {
		own := server.Database(t)
		spoil(own)
		return own
	}
	latin := func() string {
		server.Exec(t, `CREATE DATABASE latin OWNER `+postgrestest.Owner+` TEMPLATE template0 ENCODING 'LATIN1'`)
		return postgrestest.DSN("latin", server)
	}
	// An older server speaks through a proxy: the distribution has only one.
	old := postgrestest.NewProxy(t, dsn)
	number, version := server.Ask(t, `current_setting('server_version_num')`), server.Ask(t, `current_setting('server_version')`)
	old.Say(t, number, "12"+number[2:], version, "12"+version[2:])
	server.Exec(t, `CREATE ROLE stranger LOGIN PASSWORD 'only-for-tests'`, `REVOKE CREATE ON SCHEMA public FROM PUBLIC`)
	for _, c := range []struct{ name, dsn, want string }{
		{"no address", "postgres://%zz", "is not understood: write it as postgres://"},
		{"another kind of address", "mysql://localhost/x", "is not understood: write it as postgres://"},
		{"nobody there", "postgres://holdfast@127.0.0.1:1/x?sslmode=disable&connect_timeout=1", "cannot be reached: check that it runs"},
		{"wrong password", edit(postgrestest.Password, "guess"), "does not let us in: check the user and the password"},
		{"no such database", edit("/"+cfg.Database, "/nothing"), "does not exist: make it with createdb"},
		{"no rights", edit(postgrestest.Owner+":", "stranger:"), "lacks a right: make him the owner"},
		{"a standby", postgrestest.DSN(cfg.Database, standby), "only reads (it is a standby, or default_transaction_read_only is on): name the primary"},
		{"a standby, with TLS if it has it", strings.Replace(postgrestest.DSN(cfg.Database, standby), "sslmode=disable", "sslmode=prefer", 1), "only reads (it is a standby, or default_transaction_read_only is on): name the primary"},
		{"a standby and nobody", strings.Replace(postgrestest.DSN(cfg.Database, standby), standby.Address(), standby.Address()+",127.0.0.1:1", 1), "no server of its address takes writes: name the primary too"},
		{"an older server", old.DSN(), "is PostgreSQL 12" + version[2:] + ", and the store needs 13 or later: upgrade the server"},
		{"synchronous_commit is off", dsn + "&synchronous_commit=off", "synchronous_commit is off): set it to on"},
		{"texts in another encoding", latin(), "keeps texts in LATIN1, which has no place for what shops and payers write: make it with createdb --encoding UTF8"},
		{"a newer schema", database(func(dsn string) {
			tell(t, dsn, `CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL); INSERT INTO meta VALUES ('schema', '9999')`)
		}), "was written by a newer holdfast (schema 9999"},
		{"another's tables", database(func(dsn string) {
			tell(t, dsn, `CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL); INSERT INTO meta VALUES ('schema', 'blog')`)
		}), `is not a store of holdfast: its schema is called "blog"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := store.Open(store.Config{Dir: t.TempDir(), DB: c.dsn, Serve: true, Log: slog.New(slog.DiscardHandler)})
			if err == nil {
				t.Fatal("opened", s.Close())
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), postgrestest.Password) || strings.Contains(err.Error(), "\n") {
				t.Errorf("told %v\nwant %s", err, c.want)
			}
		})
	}
}

// Gateways of one database go by its clock, or do not start. Who only reads may.
func TestPostgreSQLClocksApart(t *testing.T) {
	dsn := postgrestest.Database(t)
	open := func(serve bool) error {
		s, err := store.Open(store.Config{Dir: t.TempDir(), DB: dsn, Serve: serve, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			err = s.Close()
		}
		return err
	}
	for _, apart := range []time.Duration{-time.Minute, time.Minute} {
		restore := store.SetMachine(apart)
		serving, reading := open(true), open(false)
		restore()
		if serving == nil || !strings.Contains(serving.Error(), "set the clocks right first") {
			t.Errorf("%s apart, and told %v", apart, serving)
		}
		if reading != nil {
			t.Errorf("%s apart, it cannot be read: %v", apart, reading)
		}
	}
	if err := open(true); err != nil {
		t.Error(err)
	}
}

// Who only reads may do so on a standby, which is a little late, and cannot write there.
func TestPostgreSQLStandby(t *testing.T) {
	server := postgrestest.Start(t)
	standby := server.Standby(t, "second")
	on := func(server *postgrestest.Server, dsn string) (*store.Store, error) {
		cfg, err := pgx.ParseConfig(dsn)
		if err != nil {
			t.Fatal(err)
		}
		address := strings.Replace(postgrestest.DSN(cfg.Database, server), "sslmode=disable", "sslmode=prefer", 1) // as it is when nothing is said
		return store.Open(store.Config{Dir: t.TempDir(), DB: address, Log: slog.New(slog.DiscardHandler)})
	}
	empty, dsn := server.Database(t), server.Database(t)
	w := newWorld(t, postgres(dsn))
	w.everything()
	want := w.clean()
	var s *store.Store
	eventually(t, "the standby has all of it", func() bool {
		var err error
		if s, err = on(standby, dsn); err != nil { // it has not been told yet that there is such a store
			return false
		}
		got, err := s.Audit(t.Context(), nil)
		if err == nil && cmp.Diff(want, got) == "" {
			return true
		}
		if err := errors.Join(err, s.Close()); err != nil {
			t.Fatal(err)
		}
		return false
	})
	defer s.Close()
	all, err := s.List(t.Context(), store.Filter{Limit: 100})
	if err != nil || len(all) != want.Payments {
		t.Errorf("%d payments are listed, %v", len(all), err)
	}
	for _, p := range all {
		if now, err := w.Payment(t.Context(), p.ID); err != nil || cmp.Diff(now, p) != "" {
			t.Errorf("%v %s", err, cmp.Diff(now, p))
		}
	}
	_, err = s.CreateShop(t.Context(), merchant.Shop{Name: "Toys", UniqueKey: []byte{1}})
	if err == nil || !strings.Contains(err.Error(), "only reads (it is a standby, or default_transaction_read_only is on): name the primary") {
		t.Errorf("a shop is made: %v", err)
	}
	if s, err := on(standby, empty); err == nil || !strings.Contains(err.Error(), "run holdfast migrate up on the primary") {
		t.Errorf("without a store: %v %v", s, err)
	}
}

// TestPostgreSQLPlainIndexOfIDs: where the index of IDs cannot be unique, as docs/scale-out.md says of Citus, all is as it was.
func TestPostgreSQLPlainIndexOfIDs(t *testing.T) {
	dsn := postgrestest.Database(t)
	w := newWorld(t, postgres(dsn))
	tell(t, dsn, `DROP INDEX terms_by_id; CREATE INDEX terms_by_id ON terms (id)`)
	w.everything()
	if a := w.clean(); a.Payments != everyPayment {
		t.Errorf("%d payments are stored, want %d", a.Payments, everyPayment)
	}
	again := w.openAgain(false) // remembers nothing
	all, err := again.List(t.Context(), store.Filter{Limit: 100})
	if err != nil || len(all) != everyPayment {
		t.Fatalf("%d payments are listed, %v", len(all), err)
	}
	for _, p := range all {
		found, err := again.Payment(t.Context(), p.ID)
		if diff := cmp.Diff(p, found); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
	}
}

// Many that start at once on an empty database make one store.
func TestPostgreSQLManyStartAtOnce(t *testing.T) {
	dsn := postgrestest.Database(t)
	stores := make([]*store.Store, 8)
	together(len(stores), func(i int) {
		var err error
		stores[i], err = store.Open(store.Config{Dir: t.TempDir(), DB: dsn, Serve: true, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Error(err)
		}
	})
	numbers := make(map[int64]bool)
	for i, s := range stores {
		if s == nil {
			continue
		}
		name := fmt.Sprint("order-", i)
		p, _, err := s.Create(t.Context(), shop, name, maker(terms(name)))
		if err != nil {
			t.Error(err)
		}
		numbers[p.Number] = true
		got, err := stores[0].PaymentByNumber(t.Context(), p.Number) // they have one key for numbers
		if err != nil || got.ID != p.ID {
			t.Errorf("%v", err)
		}
	}
	if len(numbers) != len(stores) {
		t.Errorf("%d numbers", len(numbers))
	}
	for _, s := range stores {
		if s != nil {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// layout says how the tables lie on an engine that spreads them over machines; docs/scale-out.md explains it.
var layout = postgrestest.Layout{
	"payments": "seq", "terms": "payment", "operations": "payment", "entries": "payment", "events": "payment", "deliveries": "payment",
	"names": "shop_payment_id", "claims": "claim", "committers": "id", "shops": "", "card_tables": "", "meta": "",
}

// known are the objections to statements with a text in them that docs/scale-out.md answers.
var known = []struct{ statement, objection string }{
	// What every payment needs, and what it costs there.
	{"CREATE UNIQUE INDEX terms_by_id", "unique index (id) on terms"},
	{"WHERE t.id = ", "terms without"}, {"WHERE t.id = ", "payments without"},
	{"JOIN names n ON n.payment = p.seq", "terms without"}, {"JOIN names n ON n.payment = p.seq", "payments without"},
	// They get their keys a few lines later, in schema/postgres.sql.
	{"CREATE TABLE operations", "table operations"}, {"CREATE TABLE entries", "table entries"},
	// Sweeps: what is due, lists, the audit, what a start takes away.
	{"p.due_at ", ""}, {"next_at <= ", ""}, {"SELECT next_at FROM events", ""}, {"WHERE p.seq < $1", ""}, {"WHERE p.seq > $1", ""},
	{"FROM terms WHERE id > $1", ""},
	{"WHERE payment > $1::bigint AND payment <= $2", ""}, {"SELECT count(*) FROM", ""}, {"DELETE FROM committers WHERE at", ""},
	// It names its row; a column is called like the table, which misleads the search.
	{"INSERT INTO terms (payment,", "terms without payment"},
}

func TestPostgreSQL(t *testing.T) {
	dsn := postgrestest.Database(t)
	proxy := postgrestest.NewProxy(t, dsn)
	var mu sync.Mutex
	said := make(map[string]bool)
	proxy.Watch(func(m postgrestest.Message) postgrestest.Verdict {
		if !m.FromServer && (m.Type == 'P' || m.Type == 'Q') {
			mu.Lock()
			defer mu.Unlock()
			said[m.Text] = true
		}
		return postgrestest.Pass
	})
	t.Run("cases", func(t *testing.T) {
		for i, c := range cases() {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				// A schema costs less than a database.
				schema := fmt.Sprint("case", i)
				tell(t, dsn, "CREATE SCHEMA "+schema)
				c.run(t, newWorld(t, postgresWith(proxy.DSN()+"&search_path="+schema, 1))) // some count commits
			})
		}
	})
	// All that the store has said, as it said it, is what the engines take too that spread a database over machines.
	for _, sql := range slices.Sorted(maps.Keys(said)) {
		for _, o := range postgrestest.Objections(sql, layout) {
			answered := false
			for _, k := range known {
				answered = answered || strings.Contains(sql, k.statement) && strings.HasPrefix(o.What, k.objection)
			}
			if !answered {
				t.Errorf("%s\n\t%s (scatter %v)", sql, o, o.Scatter)
			}
		}
	}
	if len(said) < 40 {
		t.Errorf("the store said %d things only", len(said))
	}
}

// postgres opens stores in one database, wherever their data directories are. They have two committers, also where there are
// so few cores that they would have one.
func postgres(dsn string) engine { return postgresWith(dsn, 2) }

func postgresWith(dsn string, committers int) engine {
	return func(cfg store.Config) (*store.Store, error) {
		cfg.DB, cfg.Committers = dsn, committers
		return store.Open(cfg)
	}
}

// tell runs SQL in a database behind the store's back.
func tell(t testing.TB, dsn, sql string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err == nil {
		_, err = conn.Exec(ctx, sql)
		err = errors.Join(err, conn.Close(ctx))
	}
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
