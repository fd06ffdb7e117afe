package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	sqlite3 "modernc.org/sqlite/lib"
	"zombiezen.com/go/sqlite"

	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/postgrestest"
)

// Before 3.51.3 SQLite could lose a commit where one connection begins the log anew while another moves it into the file
// (sqlite.org/wal.html, "The WAL-Reset Bug"). This store does both all day, so no older one may come back with go.mod.
func TestSQLiteLosesNoCommit(t *testing.T) {
	if sqlite3.SQLITE_VERSION_NUMBER < 3_051_003 {
		t.Errorf("SQLite is %s: take a modernc.org/sqlite that has 3.51.3 or later, and the modernc.org/libc that its go.mod names", sqlite3.SQLITE_VERSION)
	}
}

// A disk that fails once is not believed again: those who shared the commit are told so too, and
// are not tried one by one, although by then the disk would take it.
func TestFailureOfTheDiskEndsEverything(t *testing.T) {
	s, err := Open(Config{Dir: t.TempDir(), Serve: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	note := func(name string) *job {
		return &job{exec: func(w writing, _ time.Time) error {
			_, err := w.exec(`INSERT INTO meta (name, value) VALUES (?1, '1')`, []value{str(name)})
			return err
		}}
	}
	asked := 0 // of the disk that fails
	inside, let := make(chan struct{}), make(chan struct{})
	jobs := []*job{
		{exec: func(writing, time.Time) error { close(inside); <-let; return nil }}, // while it runs, the others gather
		note("before"),
		{exec: func(writing, time.Time) error { asked++; return sqlite.ResultIOErrWrite.ToError() }},
		note("after"),
	}
	results := make([]chan error, len(jobs))
	for i, j := range jobs {
		results[i] = make(chan error, 1)
		go func() { results[i] <- s.do(context.Background(), j) }()
		if i == 0 {
			<-inside
			continue
		}
		for end := time.Now().Add(3 * time.Minute); s.Stats().Waiting < i; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the job is not handed in")
			}
		}
	}
	close(let)
	if err := <-results[0]; err != nil {
		t.Errorf("the batch before: %v", err)
	}
	for i, result := range results[1:] {
		if err := <-result; !errors.Is(err, ErrBroken) {
			t.Errorf("job %d of the batch that failed is told %v", i+1, err)
		}
	}
	if failed := s.Stats().Failed; asked != 1 || failed != uint64(len(jobs)-1) {
		t.Errorf("a disk that failed was asked %d times, and failed %d of %d jobs", asked, failed, len(jobs)-1)
	}
	if err := s.do(context.Background(), &job{exec: func(writing, time.Time) error {
		t.Error("something is still tried")
		return nil
	}}); !errors.Is(err, ErrBroken) {
		t.Errorf("later it is told %v", err)
	}
	if err := s.Err(); !errors.Is(err, ErrBroken) || sqlite.ErrCode(err) != sqlite.ResultIOErrWrite {
		t.Errorf("the store says %v", err)
	}
	err = s.engine.read(t.Context(), func(q querier) error {
		return q.query(`SELECT name FROM meta WHERE name IN ('before', 'after')`, nil, func(r record) error {
			t.Errorf("%s is stored although nobody was told so", r.text(0))
			return nil
		})
	})
	if err != nil {
		t.Error(err)
	}
}

// What is committed and does not get onto the disk is shown to nobody, however it is asked for.
func TestNothingIsShownBeforeItIsDurable(t *testing.T) {
	s, err := Open(Config{Dir: t.TempDir(), Serve: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fails := error(uncommitted{errors.New("the disk fails")})
	s.engine.(*sqliteEngine).lost.Store(&fails)
	var id payment.ID
	_, _, err = s.Create(t.Context(), 12, "order-1", func(number int64, now time.Time) payment.Change {
		id = payment.NewID(now, [10]byte{1})
		terms := payment.Terms{ShopPaymentID: "order-1", Amount: money.New(100, money.UZS), Methods: []payment.Method{payment.Uzcard}, ExpiresAt: now.Add(time.Hour)}
		return payment.New(id, number, 12, terms, now)
	})
	if !errors.Is(err, ErrBroken) {
		t.Fatalf("whoever creates it is told %v", err)
	}
	if top, err := s.engine.top(t.Context()); err != nil || top != 1 {
		t.Fatalf("it is not committed: %d rows, %v", top, err)
	}
	for name, read := range map[string]func() error{
		"Payment":       func() error { _, err := s.Payment(t.Context(), id); return err },
		"PaymentByShop": func() error { _, err := s.PaymentByShop(t.Context(), 12, "order-1"); return err },
		"List":          func() error { _, err := s.List(t.Context(), Filter{}); return err },
		"Timeline":      func() error { _, err := s.Timeline(t.Context(), id); return err },
		"Each":          func() error { return s.Each(t.Context(), func(*Timeline) error { return nil }) },
		"Claimed":       func() error { _, err := s.Claimed(t.Context(), payment.Uzcard, "1"); return err },
	} {
		if err := read(); !errors.Is(err, ErrBroken) {
			t.Errorf("%s shows it: %v", name, err)
		}
	}
}

// Those who wait for something to do are woken by any job of a batch that leaves some, whichever it is, and by no other.
func TestAnyJobOfABatchWakes(t *testing.T) {
	s, err := Open(Config{Dir: t.TempDir(), Serve: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	now := s.Now()
	committed := func(ttl time.Duration, events ...payment.Event) *job {
		terms := payment.Terms{ShopPaymentID: "order-1", Amount: money.New(100, money.UZS), Methods: []payment.Method{payment.Uzcard}, ExpiresAt: now.Add(ttl)}
		j := &job{done: make(chan struct{}, 1), lastRun: lastRun{change: payment.New(payment.NewID(now, [10]byte{1}), 1, 12, terms, now)}}
		j.change.Events = events
		return j
	}
	nothing := func() *job { return committed(time.Hour) }
	undone := committed(0, payment.Event{N: 1})
	undone.err = refused{ErrNotFound}
	never := committed(time.Hour)
	never.change.Payment.Terms.ExpiresAt = time.Time{} // it is due at no time
	for i, c := range []struct {
		jobs            []*job
		events, dueSoon int
	}{
		{[]*job{nothing(), nothing()}, 0, 0},
		{[]*job{undone, never}, 0, 0},
		{[]*job{committed(time.Hour, payment.Event{N: 1}), nothing()}, 1, 0},
		{[]*job{nothing(), committed(time.Hour, payment.Event{N: 1})}, 1, 0},
		{[]*job{committed(0), nothing()}, 0, 1},
		{[]*job{nothing(), committed(0)}, 0, 1},
	} {
		s.committers[0].answer(c.jobs)
		if len(s.events) != c.events || len(s.due) != c.dueSoon {
			t.Errorf("the %d. batch wakes %d of events and %d of what is due, want %d and %d", i+1, len(s.events), len(s.due), c.events, c.dueSoon)
		}
		for _, woken := range []chan struct{}{s.events, s.due} {
			select {
			case <-woken:
			default:
			}
		}
	}
}

// Who reads what is committed and not on the disk yet waits, and is shown it when it is there. Where it never will be, he is told.
func TestReadersWaitForTheDisk(t *testing.T) {
	for _, c := range []struct {
		name  string
		until Point // where the commit stands still, and the reader waits
		fails bool
		want  error
	}{
		{"it is there", Durable, false, nil},
		{"the disk fails", Committed, true, ErrBroken},
	} {
		t.Run(c.name, func(t *testing.T) {
			reached, let := make(chan struct{}), make(chan struct{})
			goOn := sync.OnceFunc(func() { close(let) })
			first := sync.OnceFunc(func() { close(reached); <-let })
			s, err := Open(Config{Dir: t.TempDir(), Serve: true, Log: slog.New(slog.DiscardHandler), At: func(at Point) {
				if at == c.until {
					first()
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			defer goOn()
			errs := make(chan error, 2)
			go func() {
				_, _, err := s.Create(t.Context(), 12, "order-1", func(number int64, now time.Time) payment.Change {
					terms := payment.Terms{ShopPaymentID: "order-1", Amount: money.New(100, money.UZS), Methods: []payment.Method{payment.Uzcard}, ExpiresAt: now.Add(time.Hour)}
					return payment.New(payment.NewID(now, [10]byte{1}), number, 12, terms, now)
				})
				errs <- err
			}()
			<-reached
			go func() {
				_, err := s.PaymentByShop(t.Context(), 12, "order-1")
				errs <- err
			}()
			waits := func() bool {
				stacks := make([]byte, 1<<20)
				for _, stack := range strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
					if strings.Contains(stack, "(*committer).await") && strings.Contains(stack, "(*Cond).Wait") {
						return true
					}
				}
				return false
			}
			for deadline := time.Now().Add(3 * time.Minute); !waits(); runtime.Gosched() {
				if len(errs) > 0 || time.Now().After(deadline) {
					t.Fatal("the reader does not wait")
				}
			}
			if c.fails {
				lost := error(uncommitted{errors.New("the disk fails")})
				s.engine.(*sqliteEngine).lost.Store(&lost)
			}
			goOn()
			for range 2 {
				select {
				case err := <-errs:
					if !errors.Is(err, c.want) {
						t.Errorf("told %v, want %v", err, c.want)
					}
				case <-time.After(3 * time.Minute):
					t.Fatal("who waited for the disk waits still")
				}
			}
		})
	}
}

// Who gives up in the middle of a snapshot leaves nothing of it to who reads next on the same connection.
func TestSnapshotEndsWithItsCaller(t *testing.T) {
	for name, giveUp := range map[string]func(ctx context.Context, s *Store, gone func()) error{
		"a read": func(ctx context.Context, s *Store, gone func()) error {
			return s.engine.snapshot(ctx, func(q querier) error {
				return q.query(`SELECT count(*) FROM meta`, nil, func(record) error {
					gone()
					return nil
				})
			})
		},
		"a backup": func(ctx context.Context, s *Store, gone func()) error {
			return s.Backup(ctx, filepath.Join(t.TempDir(), "backup"), func(int, int) { gone() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(Config{Dir: t.TempDir(), Serve: true, Readers: 1, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			ctx, gone := context.WithCancel(t.Context())
			if err := giveUp(ctx, s, gone); err != nil && !errors.Is(err, context.Canceled) { // it may have been through by then
				t.Fatal(err)
			}
			err = s.do(t.Context(), &job{exec: func(w writing, _ time.Time) error {
				_, err := w.exec(`INSERT INTO meta (name, value) VALUES ('later', '1')`, nil)
				return err
			}})
			if err != nil {
				t.Fatal(err)
			}
			seen := false
			err = s.engine.read(t.Context(), func(q querier) error {
				return q.query(`SELECT 1 FROM meta WHERE name = 'later'`, nil, func(record) error {
					seen = true
					return nil
				})
			})
			if err != nil || !seen {
				t.Errorf("what was acknowledged meanwhile is seen: %v, %v", seen, err)
			}
			if err := s.engine.snapshot(t.Context(), func(querier) error { return nil }); err != nil {
				t.Errorf("the next snapshot: %v", err)
			}
		})
	}
}

// Where the log cannot be moved into the file for a while, as when there is no file to open left, that is said once, and it is
// moved when it can be.
func TestLogIsMovedWhenItCanBe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := errors.Join(os.Mkdir(path, 0o700), os.WriteFile(path+"-wal", []byte("something"), 0o600)); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	m := logMover{engine: &sqliteEngine{path: path}, log: slog.New(slog.NewTextHandler(&said, nil))}
	defer m.close()
	for range 3 {
		m.look() // a directory is not opened
	}
	if lines := strings.Count(said.String(), "cannot be moved"); lines != 1 {
		t.Errorf("it is said %d times:\n%s", lines, said.String())
	}
	if err := errors.Join(os.Remove(path), os.Remove(path+"-wal")); err != nil {
		t.Fatal(err)
	}
	conn, err := openWriter(path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := script(conn, `CREATE TABLE meta (name TEXT PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	m.look()
	if after, err := os.Stat(path); err != nil || after.Size() <= before.Size() {
		t.Errorf("the file had %d bytes and has %d, %v\n%s", before.Size(), after.Size(), err, said.String())
	}
}

// A log that is begun anew must have its header on the disk before what follows, or a loss of power could leave the old
// header with the first old frames behind it. No test can cut the power; SQLite syncs the header wherever
// synchronous is not OFF (0), and leaves each commit to us at NORMAL (1).
func TestHeaderOfTheLogIsSynced(t *testing.T) {
	defer CapLog(1)()
	s, err := Open(Config{Dir: t.TempDir(), Serve: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	e := s.engine.(*sqliteEngine)
	for range 2 { // before the log is begun anew by us, and after
		e.gate.Lock()
		err := query(e.writer, "PRAGMA synchronous", nil, func(r record) error {
			if r.int(0) != 1 {
				t.Errorf("synchronous is %d, want 1 (NORMAL)", r.int(0))
			}
			return nil
		})
		e.gate.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.restartLog(); err != nil {
			t.Fatal(err)
		}
	}
}

// A batch whose COMMIT was not answered and that was not there when it was looked for is not done later either: it has run
// again since. Neither is a statement of a writer cancelled, for then a server stops waiting for its standby.
func TestPostgreSQLDoesNothingLate(t *testing.T) {
	s, err := Open(Config{Dir: t.TempDir(), DB: postgrestest.Database(t), Serve: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	e := s.engine.(*postgresEngine)
	for round := range 2 { // the first batch of a writer, and a later one
		begun, err := e.begin(0, false)
		if err != nil {
			t.Fatal(err)
		}
		late := begun.(*postgresWriting)
		insert := &statement{sql: `INSERT INTO meta (name, value) VALUES (?1, ?2)`, kinds: "text text"}
		if err := late.put(insert, [][]value{{str(fmt.Sprint("late ", round)), str("1")}}); err != nil {
			t.Fatal(err)
		}
		late.end() // and here it stays, on its way
		slow := late.conn
		late.postgresWriter.conn = nil
		if err := late.resolve(errors.New("no answer")); e.failure(err) != again {
			t.Fatalf("round %d: what was not there is %v", round, err)
		}
		var server *pgconn.PgError
		if err := converse(t.Context(), slow, late.queued); !errors.As(err, &server) || server.Code != "23502" {
			t.Errorf("round %d: done late: %v", round, err)
		}
		if err := slow.PgConn().CancelRequest(t.Context()); err == nil || !strings.Contains(err.Error(), "is not cancelled") {
			t.Errorf("round %d: cancelled: %v", round, err)
		}
		slow.Close(t.Context())
		next, err := e.begin(0, false)
		if err == nil {
			err = errors.Join(next.put(insert, [][]value{{str(fmt.Sprint("again ", round)), str("1")}}), next.commit())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	names := ""
	err = e.read(t.Context(), func(q querier) error {
		return q.query(`SELECT name FROM meta WHERE name LIKE 'late%' OR name LIKE 'again%' ORDER BY name`, nil, func(r record) error {
			names += r.text(0) + " "
			return nil
		})
	})
	if want := "again 0 again 1 "; err != nil || names != want {
		t.Errorf("stored are %q, want %q, %v", names, want, err)
	}
}

// What is remembered of payments: the latest version of each, for as many as there is room for, and nothing of before the cache
// was emptied.
func TestCache(t *testing.T) {
	c := newCache()
	id := func(seq int64) payment.ID { return payment.ID{15: byte(seq), 14: byte(seq >> 8), 13: byte(seq >> 16)} }
	written := uint64(0) // by which commit of this process; 0: it is read
	put := func(seq, version, generation int64) {
		c.put(row{seq: seq, batch: written, payment: payment.Payment{ID: id(seq), Version: version, Progress: payment.Progress{LastEvent: int(version)}}}, uint64(generation))
	}
	is := func(what string, seq, version int64) { // 0: nothing
		t.Helper()
		byID, ok := c.byID(id(seq))
		bySeq, also := c.bySeqOf(seq)
		if ok != (version != 0) || ok != also || byID.payment.Version != version || bySeq.payment.Version != version || ok && byID.seq != seq {
			t.Errorf("%s: version %d by its id, %d by its row, want %d", what, byID.payment.Version, bySeq.payment.Version, version)
		}
	}
	generation := int64(c.generation())
	put(1, 2, generation)
	is("put in", 1, 2)
	put(1, 1, generation)
	is("an earlier version", 1, 2)
	put(1, 3, generation)
	is("a later one", 1, 3)
	put(1, 4, generation+1)
	is("of another generation", 1, 3)

	// Events that are told and taken stay so when this process changes the payment. When another has changed it they may be told
	// again, and what is taken is no more than a hope.
	one := EventKey{seq: 1, n: 1}
	result := func(n int, accepted, again bool) Result {
		r := Result{Delivery: Delivery{Key: EventKey{1, n}}, Accepted: accepted}
		if again {
			r.NextAt = time.Unix(1, 0)
		}
		return r
	}
	know := func(what string, told, taken int) {
		t.Helper()
		if r, _ := c.bySeqOf(1); r.told != told || r.taken != taken {
			t.Errorf("%s: told up to %d, taken up to %d, want %d and %d", what, r.told, r.taken, told, taken)
		}
	}
	c.closed([]Result{result(1, false, false), {Delivery: Delivery{Key: EventKey{7, 1}}, Accepted: true}})
	know("given up, only the store can say it", 0, 0)
	c.closed([]Result{result(2, true, false)})
	know("the second before the first", 0, 0)
	c.closed([]Result{result(1, true, true)})
	know("taken, and told again", 0, 1)
	c.closed([]Result{result(1, true, false), result(2, true, false)})
	know("two at once", 2, 2)
	written = 1
	put(1, 4, generation)
	know("changed since", 2, 2)
	written = 0
	put(1, 4, generation)
	know("read again", 2, 2)
	for _, want := range []struct {
		key         EventKey
		first, last bool
	}{
		{one, true, false}, {EventKey{1, 3}, true, false}, {EventKey{1, 4}, false, true}, {EventKey{1, 5}, false, false},
		{EventKey{7, 1}, true, false}, {EventKey{7, 2}, false, false},
	} {
		if first, last := c.neighbours(want.key); first != want.first || last != want.last {
			t.Errorf("event %d of %d: the first %t, the last %t", want.key.n, want.key.seq, first, last)
		}
	}

	put(1, 5, generation)
	know("changed by another", 0, 2)
	c.closed([]Result{result(1, true, false), result(2, true, false)})
	know("told again", 2, 2)
	written = 1
	put(1, 7, generation)
	know("changed upon a change of another's", 0, 2)
	written = 0

	// The oldest makes room, and memory that is used again keeps nothing of it.
	for seq := int64(2); seq <= cacheSize; seq++ {
		put(seq, seq, generation)
	}
	is("full", 1, 7)
	put(cacheSize+1, 1, generation)
	is("the oldest", 1, 0)
	is("the newest", cacheSize+1, 1)
	is("the second", 2, 2)
	if r, _ := c.bySeqOf(cacheSize + 1); r.told != 0 || r.taken != 0 {
		t.Errorf("it is told up to %d, taken up to %d", r.told, r.taken)
	}
	c.forget(2)
	is("forgotten", 2, 0)
	if len(c.bySeq) != cacheSize-1 || len(c.seqs) != cacheSize-1 {
		t.Errorf("%d and %d are remembered", len(c.bySeq), len(c.seqs))
	}
	put(2, 5, generation)
	is("put in again", 2, 5)
	c.clear()
	put(3, 9, generation) // read before that
	is("emptied", 3, 0)
	put(3, 9, generation+1)
	is("and after", 3, 9)

	c = nil // as in a process that does not serve
	c.clear()
	put(1, 1, int64(c.generation()))
	c.closed([]Result{result(1, true, false)})
	c.forget(1)
	is("no cache", 1, 0)
}
