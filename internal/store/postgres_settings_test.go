package store_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"holdfast/internal/merchant"
	"holdfast/internal/postgrestest"
	"holdfast/internal/store"
)

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
				case <-time.After(10 * time.Second):
					t.Error("it stands still for 10 s, and the server does not end it")
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
