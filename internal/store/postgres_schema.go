package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// migrate brings the schema up to date, one transaction a step, and returns the key that permutes payment
// numbers. Of several gateways that start at once one does it, the others wait for it. On a standby it must be done already.
func (e *postgresEngine) migrate(ctx context.Context) (numberKey []byte, err error) {
	if !e.standby {
		err = e.bringUp(ctx)
	} else {
		err = e.upToDate(ctx)
	}
	if err != nil {
		return nil, err
	}
	text, err := e.meta(ctx, "number_key")
	if err != nil {
		return nil, e.explain(err)
	}
	if numberKey, err = hex.DecodeString(text); err != nil {
		return nil, fmt.Errorf("%s has no usable number key: %w", e.name, err)
	}
	return numberKey, nil
}

// upToDate refuses a standby whose schema is not the one that this program reads.
func (e *postgresEngine) upToDate(ctx context.Context) error {
	version, err := e.meta(ctx, "schema")
	if err != nil {
		return e.explain(err)
	}
	at, err := knownSchema(e.name, version)
	if err == nil && at != schemaVersion {
		err = fmt.Errorf("%s is a standby of a store with schema %d, and this program reads %d: run holdfast migrate up on the primary", e.name, at, schemaVersion)
	}
	return err
}

// schemaTries is how often it is tried to make a table that another makes at the same time.
const schemaTries = 5

// bringUp makes the schema, or what is new in it.
func (e *postgresEngine) bringUp(ctx context.Context) (err error) {
	// Two that make the same table at once: one of them is told that it is there.
	for try := 1; ; try++ {
		err = e.quick(ctx, `CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)`)
		if err == nil {
			break
		}
		if class, state := sqlState(err); class != "23" && class != "42" || state == "42501" || try == schemaTries {
			return e.explain(err)
		}
	}
	for {
		version, err := e.meta(ctx, "schema")
		if err == nil && version == "" { // else it would wait here for who is at a step
			err = e.quick(ctx, `INSERT INTO meta (name, value) VALUES ('schema', '0') ON CONFLICT (name) DO NOTHING`)
		}
		if err != nil {
			return e.explain(err)
		}
		at, err := knownSchema(e.name, version)
		if err != nil {
			return err
		}
		if at == schemaVersion {
			break
		}
		if err := e.migrateFrom(ctx, at); err != nil {
			return e.explain(err)
		}
	}
	if err := e.quick(ctx, `DELETE FROM committers WHERE at > 0 AND at < $1`, time.Now().Add(-staleCommitter).UnixMicro()); err != nil {
		return e.explain(err)
	}
	return nil
}

// quick runs a statement that takes no longer the larger the store is.
func (e *postgresEngine) quick(ctx context.Context, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	_, err := e.writing[0].conn.Exec(ctx, sql, args...)
	return err
}

// migrateFrom takes a step. With all that a large store has it takes as long as it takes, also where statements of gateways may not.
func (e *postgresEngine) migrateFrom(ctx context.Context, version int) error {
	sql, to, err := migration(version)
	if err != nil {
		return err
	}
	tx, err := e.writing[0].conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0`); err != nil {
		return err
	}
	// Whoever else is at it waits here, and then finds that it is done.
	tag, err := tx.Exec(ctx, `UPDATE meta SET value = $1 WHERE name = 'schema' AND value = $2`, strconv.Itoa(to), strconv.Itoa(version))
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	sql = postgresWords.Replace(sql)
	if version == 0 {
		own, err := fs.ReadFile(schemas, "schema/postgres.sql")
		if err != nil {
			return err
		}
		sql += string(own)
	}
	if _, err := e.writing[0].conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		return err
	}
	if version == 0 {
		_, err := tx.Exec(ctx, `INSERT INTO meta (name, value) VALUES ('number_key', $1), ($2, '0')`, newNumberKey(), rowsReserved)
		if err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

// meta is a text of the table meta; "": there is none, or no such table.
func (e *postgresEngine) meta(ctx context.Context, name string) (value string, err error) {
	ctx, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	err = e.writing[0].conn.QueryRow(ctx, `SELECT value FROM meta WHERE name = $1`, name).Scan(&value)
	if _, state := sqlState(err); errors.Is(err, pgx.ErrNoRows) || state == "42P01" {
		return "", nil
	}
	return value, err
}

// Scratch makes a schema in a database for a store that is not kept, and returns the address that leads to it. drop
// removes it with all that is in it.
func Scratch(ctx context.Context, db, what string) (own string, drop func() error, err error) {
	address, err := url.Parse(db)
	if err != nil || !IsPostgres(db) {
		return "", nil, errNoAddress
	}
	name := make([]byte, 6)
	rand.Read(name)
	schema := "holdfast_" + what + "_" + hex.EncodeToString(name)
	run := func(ctx context.Context, sql string) error {
		cfg, err := pgx.ParseConfig(db)
		if err != nil {
			return fmt.Errorf("%w (%w)", errNoAddress, err)
		}
		e := newPostgresEngine(cfg, 1, func() {}, slog.New(slog.DiscardHandler))
		if err := e.writing[0].connect(ctx); err != nil {
			return e.explain(err)
		}
		defer e.writing[0].drop()
		if _, err := e.writing[0].conn.Exec(ctx, sql); err != nil {
			return e.explain(err)
		}
		return nil
	}
	if err := run(ctx, `CREATE SCHEMA `+schema); err != nil {
		return "", nil, err
	}
	settings := address.Query()
	settings.Set("search_path", schema)
	address.RawQuery = settings.Encode()
	return address.String(), func() error {
		ctx, cancel := context.WithTimeout(context.Background(), reachWithin)
		defer cancel()
		return run(ctx, `DROP SCHEMA `+schema+` CASCADE`)
	}, nil
}

// postgresVersion is what a database says of its schema; "": nothing.
func postgresVersion(ctx context.Context, db string) (string, error) {
	cfg, err := pgx.ParseConfig(db)
	if err != nil || !IsPostgres(db) {
		return "", errNoAddress
	}
	ctx, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	e := newPostgresEngine(cfg, 1, func() {}, slog.New(slog.DiscardHandler))
	if err := e.writing[0].connect(ctx); err != nil {
		return "", e.explain(err)
	}
	defer e.writing[0].drop()
	version, err := e.meta(ctx, "schema")
	if err != nil {
		return "", e.explain(err)
	}
	return version, nil
}

// The last row number that is reserved is in the table meta. Gateways reserve a block at a time, with a
// compare-and-set: a sequence is one counter for all machines, and the engines that spread over them have it at a price.
const rowsReserved = "rows"

func (e *postgresEngine) block(ctx context.Context) (first, last int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	for ctx.Err() == nil {
		top, err := e.top(ctx)
		if err != nil {
			return 0, 0, meaning{err, again}
		}
		tag, err := e.readers.Exec(ctx, `UPDATE meta SET value = $2 WHERE name = $1 AND value = $3`,
			rowsReserved, strconv.FormatInt(top+rowsInOneBlock, 10), strconv.FormatInt(top, 10))
		if err != nil {
			return 0, 0, meaning{err, again} // should it have been done, these numbers stay free
		}
		if tag.RowsAffected() == 1 {
			return top + 1, top + rowsInOneBlock, nil
		}
	}
	return 0, 0, meaning{errors.New("others reserve row numbers all the time"), again}
}

func (e *postgresEngine) top(ctx context.Context) (n int64, err error) {
	var text string
	if err := e.readers.QueryRow(ctx, `SELECT value FROM meta WHERE name = $1`, rowsReserved).Scan(&text); err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}
