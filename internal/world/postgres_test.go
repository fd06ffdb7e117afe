package world_test

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"holdfast/internal/postgrestest"
	"holdfast/internal/store"
)

// On PostgreSQL a process that dies loses its connections, and the server goes on: it rolls back what was not
// committed. A COMMIT that was under way may have been done or not; both are played. The process reaches the server
// through a proxy. At its death the proxy cuts all its connections and leads what it still does into another database,
// at which nobody looks.

// What may become of a COMMIT. Whether the process dies of it or lives and looks what became of it is another matter.
const (
	commitLost fate = "COMMIT never arrives"
	commitDone fate = "COMMIT is done and not answered"
)

// postgresEngine is a database, in which the worlds of a ground are played one after another, and one for the dead.
type postgresEngine struct {
	dir       string // with nothing in it
	dsn       string
	elsewhere string // the database of the dead
	proxies   [seatsOnPostgreSQL]*postgrestest.Proxy
	conn      *pgx.Conn // past the proxy
	refill    string    // brings back what was kept
}

const askWithin = time.Minute // a machine may be slow

// seatsOnPostgreSQL is how many gateways serve from one database at the same time.
const seatsOnPostgreSQL = 2

// onPostgreSQL makes engines on a server. What they need ends with the test.
func onPostgreSQL(t testing.TB, server *postgrestest.Server) func(dir string) engine {
	return func(dir string) engine {
		t.Helper()
		e := &postgresEngine{dir: dir, dsn: server.Database(t)}
		for i := range e.proxies {
			e.proxies[i] = postgrestest.NewProxy(t, e.dsn)
		}
		ctx, cancel := context.WithTimeout(context.Background(), askWithin)
		defer cancel()
		var err error
		if e.conn, err = pgx.Connect(ctx, e.dsn); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.conn.Close(context.Background()) })
		elsewhere := server.Database(t)
		cfg, err := pgx.ParseConfig(elsewhere)
		if err != nil {
			t.Fatal(err)
		}
		e.elsewhere = cfg.Database
		empty, err := store.Open(store.Config{Dir: dir, DB: elsewhere})
		if err == nil {
			err = empty.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
}

func (e *postgresEngine) begin(cfg store.Config) (*store.Store, error) {
	cfg.Dir, cfg.DB = e.dir, e.dsn
	return store.Open(cfg)
}

// run runs statements, all or none.
func (e *postgresEngine) run(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), askWithin)
	defer cancel()
	_, err := e.conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// tables are those of the store.
func (e *postgresEngine) tables() ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askWithin)
	defer cancel()
	rows, err := e.conn.Query(ctx, `SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// keep copies all tables. To bring them back is cheaper than a database for each world.
func (e *postgresEngine) keep() (err error) {
	if err := e.run(pinNumbers); err != nil {
		return err
	}
	e.refill, err = e.copyInto("kept")
	return err
}

// copyInto copies all tables into a schema, in the place of what was in it, and says how they are brought back.
func (e *postgresEngine) copyInto(schema string) (refill string, err error) {
	tables, err := e.tables()
	if err != nil {
		return "", err
	}
	keep := fmt.Sprintf(`DROP SCHEMA IF EXISTS %[1]s CASCADE; CREATE SCHEMA %[1]s;`, schema)
	for _, table := range tables {
		keep += fmt.Sprintf(`CREATE TABLE %[2]s.%[1]s AS TABLE public.%[1]s;`, table, schema)
		refill += fmt.Sprintf(`DELETE FROM public.%[1]s; INSERT INTO public.%[1]s SELECT * FROM %[2]s.%[1]s;`, table, schema)
	}
	return refill, e.run(keep)
}

func (e *postgresEngine) home(dir string) (home, error) {
	return &postgresHome{postgresEngine: e, dir: dir}, e.run(e.refill)
}

type postgresHome struct {
	*postgresEngine
	dir        string
	lost, done atomic.Int64 // COMMITs
	recover    string       // brings back the backup
}

// backup is what a recovery to a point in time leads back to.
func (h *postgresHome) backup(*store.Store) (err error) {
	h.recover, err = h.copyInto("taken")
	return err
}

func (h *postgresHome) restore(now func() time.Time) error {
	if err := h.run(h.recover); err != nil {
		return err
	}
	return markRestored(store.Config{Dir: h.dir, DB: h.dsn, Serve: true, Now: now})
}

func (h *postgresHome) seats() (all []seat) {
	for _, proxy := range h.proxies {
		all = append(all, &postgresSeat{postgresHome: h, proxy: proxy})
	}
	return all
}

type postgresSeat struct {
	*postgresHome
	proxy *postgrestest.Proxy
	dead  atomic.Bool // the process that runs reaches another database
}

func (h *postgresSeat) open(cfg store.Config) (*store.Store, error) {
	h.proxy.Watch(nil)
	h.proxy.Lead("")
	h.dead.Store(false)
	cfg.Dir, cfg.DB = h.dir, h.proxy.DSN()
	return store.Open(cfg)
}

func (h *postgresSeat) die(how fate) error {
	if how == "" {
		h.bury()
	} else {
		h.await(how, h.bury)
	}
	return nil
}

func (h *postgresSeat) bury() {
	if h.dead.CompareAndSwap(false, true) {
		h.proxy.Lead(h.elsewhere)
	}
}

func (h *postgresSeat) breaks(how fate) { h.await(how, func() {}) }

// await cuts the connection that the next COMMIT goes through, before the COMMIT or behind it, once.
func (h *postgresSeat) await(how fate, then func()) {
	counter, met := &h.lost, func(m postgrestest.Message) bool { return !m.FromServer && m.Type == 'E' && m.Text == "COMMIT" }
	if how == commitDone {
		counter, met = &h.done, func(m postgrestest.Message) bool { return m.FromServer && m.Type == 'C' && m.Text == "COMMIT" }
	}
	h.proxy.Watch(postgrestest.Once(postgrestest.CutBefore, func(m postgrestest.Message) bool {
		if !met(m) {
			return false
		}
		h.proxy.Watch(nil)
		counter.Add(1)
		then()
		return true
	}))
}

func (h *postgresSeat) fates() []fate { return []fate{commitLost, commitDone} }

func (h *postgresHome) met() map[fate]int {
	return map[fate]int{commitLost: int(h.lost.Load()), commitDone: int(h.done.Load())}
}

func (h *postgresHome) pieces(show func(name string, b []byte)) error {
	tables, err := h.tables()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), askWithin)
	defer cancel()
	for _, table := range tables {
		var b bytes.Buffer
		if _, err := h.conn.PgConn().CopyTo(ctx, &b, `COPY public.`+table+` TO STDOUT (FORMAT binary)`); err != nil {
			return err
		}
		show(table, b.Bytes())
	}
	return nil
}
