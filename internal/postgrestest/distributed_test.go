package postgrestest

import (
	"slices"
	"strings"
	"testing"
)

// TestObjections: what a distributed engine does not take is found, and what all take is not objected to.
func TestObjections(t *testing.T) {
	layout := Layout{"payments": "id", "events": "payment", "names": "shop", "shops": ""}
	for _, c := range []struct {
		sql  string
		want []string // how each objection begins; "~" marks one that only asks every machine
	}{
		// What the store's own statements look like.
		{`CREATE TABLE payments (id bytea PRIMARY KEY, version bigint NOT NULL, note text DEFAULT 'for update; nextval(1)')`, nil},
		{`CREATE TABLE events (payment bytea NOT NULL, n bigint NOT NULL, PRIMARY KEY (payment, n)); -- listen` + "\n" + `CREATE INDEX events_due ON events (n) WHERE n IS NOT NULL`, nil},
		{`CREATE TABLE IF NOT EXISTS shops (id bigint PRIMARY KEY, name text UNIQUE)`, nil},
		{`SELECT id, version FROM payments WHERE id = ANY($1)`, nil},
		{`SELECT id FROM payments WHERE id IN ($1, $2)`, nil},
		{`SELECT p.id FROM unnest($1::bytea[]) AS u(id) JOIN payments p ON p.id = u.id`, nil},
		{`SELECT p.id FROM events e JOIN payments AS p ON p.id = e.payment WHERE e.payment = $1`, nil},
		{`SELECT p.id, s.name FROM payments p, shops s WHERE $1 = p.id AND s.id = 7`, nil},
		{`UPDATE payments p SET version = u.v + 1 FROM unnest($1::bytea[], $2::bigint[]) AS u(id, v) WHERE p.id = u.id AND p.version = u.v RETURNING p.id`, nil},
		{`INSERT INTO events (payment, n) SELECT * FROM unnest($1::bytea[], $2::bigint[]) ON CONFLICT (payment, n) DO NOTHING`, nil},
		{`DELETE FROM events WHERE payment = $1 AND n = $2`, nil},
		{`SELECT name FROM shops ORDER BY id`, nil},
		{`BEGIN; COMMIT; ROLLBACK`, nil},

		// Statements that ask every machine.
		{`SELECT id FROM payments WHERE version < $1 ORDER BY version LIMIT 10`, []string{"~payments without id"}},
		{`SELECT p.id FROM events e JOIN payments p ON p.id = e.payment WHERE e.n <= $1`, []string{"~events without payment", "~payments without id"}},
		{`UPDATE payments SET version = $1, id = $2 WHERE version = $3`, []string{"UPDATE of payments that sets id", "~payments without id"}},
		{`UPDATE names SET name = (SELECT name FROM shops WHERE id = $1) WHERE shop = $2`, nil},
		{`UPDATE events SET n = 0 WHERE n > 0`, []string{"~events without payment"}},
		{`DELETE FROM events WHERE n = 3`, []string{"~events without payment"}},
		{`INSERT INTO events (n) VALUES (1)`, []string{"INSERT into events without payment"}},

		// Keys.
		{`CREATE TABLE payments (seq bigint PRIMARY KEY, id bytea NOT NULL UNIQUE)`, []string{"primary key (seq) of payments, which is spread by id"}},
		{`CREATE TABLE payments (id bytea PRIMARY KEY, a text, b text, UNIQUE (a, b))`, []string{"unique (a, b) of payments"}},
		{`CREATE UNIQUE INDEX by_shop ON payments (shop, name)`, []string{"unique index (shop, name) on payments"}},
		{`CREATE UNIQUE INDEX by_shop ON names (shop, name)`, nil},
		{`CREATE TABLE events (payment bytea, n bigint)`, []string{"table events"}},
		{`CREATE TABLE events (n bigint PRIMARY KEY)`, []string{"primary key (n) of events", "table events"}},
		{`CREATE TABLE others (n bigint PRIMARY KEY)`, []string{"table others"}},
		{`CREATE UNIQUE INDEX o ON others (n)`, []string{"table others"}},
		{`CREATE TABLE shops (id bigint PRIMARY KEY, owner bigint REFERENCES payments (id))`, []string{"references"}},

		// Words.
		{`CREATE SEQUENCE numbers`, []string{"create sequence"}},
		{`CREATE TABLE shops (id BIGSERIAL PRIMARY KEY)`, []string{"bigserial"}},
		{`CREATE TABLE shops (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)`, []string{"as identity"}},
		{`INSERT INTO shops (id) VALUES (nextval('numbers'))`, []string{"nextval"}},
		{`SELECT pg_advisory_xact_lock(1)`, []string{"pg_advisory_xact_lock"}},
		{`SELECT pg_try_advisory_lock($1)`, []string{"pg_try_advisory_lock"}},
		{`LISTEN events`, []string{"listen"}},
		{`NOTIFY events, 'x'`, []string{"notify"}},
		{`SELECT pg_notify('events', $1)`, []string{"pg_notify"}},
		{`CREATE TRIGGER t AFTER INSERT ON payments FOR EACH ROW EXECUTE FUNCTION f()`, []string{"trigger"}},
		{`CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT nextval('x') $$`, []string{"create function"}},
		{`SELECT id FROM payments WHERE id = $1 FOR UPDATE`, []string{"for update"}},
		{`SELECT id FROM payments WHERE id = $1 for  no key /* much */ update SKIP LOCKED`, []string{"for no key update"}},
		{`SELECT id FROM payments WHERE id = $1 FOR SHARE`, []string{"for share"}},
		{`LOCK TABLE payments`, []string{"lock"}},
		{`CREATE TYPE state AS ENUM ('held')`, []string{"create type"}},
		{`CREATE TEMP TABLE names (shop bigint PRIMARY KEY)`, []string{"create temp"}},
		{`DO $body$ BEGIN END $body$`, []string{"do"}},
		{`MERGE INTO shops USING names ON true WHEN MATCHED THEN DELETE`, []string{"merge", "INSERT"}[:1]},
		{`WITH gone AS (DELETE FROM events WHERE payment = $1 RETURNING n) SELECT n FROM gone`, []string{"a write in WITH"}},
		{`WITH RECURSIVE r AS (SELECT 1) SELECT * FROM r`, []string{"with recursive"}},
		{`UPDATE payments SET version = random() WHERE id = $1`, []string{"random"}},
		{`SELECT ctid FROM payments WHERE id = $1`, []string{"ctid"}},
		{`SELECT pg_current_xact_id()`, []string{"pg_current_xact_id"}},
		{`ALTER TABLE names ADD CONSTRAINT one UNIQUE (shop) DEFERRABLE`, []string{"deferrable"}},
	} {
		var got []string
		for _, o := range Objections(c.sql, layout) {
			what := o.What
			if o.Scatter {
				what = "~" + what
			}
			got = append(got, what)
		}
		if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
			t.Errorf("%s\n  objections %q, want %q", c.sql, got, c.want)
		}
	}
}

// TestObjectionsAreToSQL: what the table above calls SQL is: PostgreSQL's own parser takes the store's kind of statements.
func TestObjectionsAreToSQL(t *testing.T) {
	dsn := Database(t)
	do(t, dsn, `CREATE TABLE payments (id bytea PRIMARY KEY, version bigint NOT NULL)`, `CREATE TABLE events (payment bytea NOT NULL, n bigint NOT NULL, PRIMARY KEY (payment, n))`)
	conn := connect(t, dsn)
	for _, sql := range []string{
		`UPDATE payments p SET version = u.v + 1 FROM unnest($1::bytea[], $2::bigint[]) AS u(id, v) WHERE p.id = u.id AND p.version = u.v RETURNING p.id`,
		`INSERT INTO events (payment, n) SELECT * FROM unnest($1::bytea[], $2::bigint[]) ON CONFLICT (payment, n) DO NOTHING`,
		`SELECT p.id FROM unnest($1::bytea[]) AS u(id) JOIN payments p ON p.id = u.id`,
	} {
		if err := Parses(t.Context(), conn, sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for _, sql := range []string{`SELECT nothing FROM payments`, `INSERT OR IGNORE INTO payments VALUES (1)`, `SELECT id FROM payments WHERE id = ?1`} {
		if err := Parses(t.Context(), conn, sql); err == nil {
			t.Errorf("%s is no SQL of PostgreSQL", sql)
		}
	}
}
