package store_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"holdfast/internal/merchant"
	"holdfast/internal/postgrestest"
	"holdfast/internal/store"
)

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
