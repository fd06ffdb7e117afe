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
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"holdfast/internal/postgrestest"
	"holdfast/internal/store"
)

// Here are the cases that SQLite is examined by too. What only a server does is in
//
//	postgres_faults_test.go    a connection is lost, or a statement fails: what is acknowledged is stored, once
//	postgres_away_test.go      the server is away: callers wait, and are told (and postgres_away_linux_test.go)
//	postgres_gateways_test.go  several gateways serve from one database
//	postgres_hope_test.go      a batch is one round trip, as long as nobody else was faster
//	postgres_settings_test.go  what is set on the server, the database or the role
//	postgres_open_test.go      what a store is opened on, and what a person is told where it cannot be

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

// postgres opens stores in one database, wherever their data directories are. They have two committers, also where there are
// so few cores that they would have one.
func postgres(dsn string) engine { return postgresWith(dsn, 2) }

func postgresWith(dsn string, committers int) engine {
	return func(cfg store.Config) (*store.Store, error) {
		cfg.DB, cfg.Committers = dsn, committers
		return store.Open(cfg)
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
