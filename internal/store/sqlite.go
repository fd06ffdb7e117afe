package store

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// busyTimeout is how long a writer waits for another process (a command line beside the server).
const busyTimeout = 10 * time.Second

const readerCount = 4

func openWriter(path string) (*sqlite.Conn, error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate|sqlite.OpenWAL)
	if err != nil {
		return nil, explain(err, path)
	}
	// Money is acknowledged only when it is on the disk: every commit is synced. Checkpoints are
	// made by a connection of their own, so that no caller waits for one.
	if err := set(conn, "synchronous = FULL", "wal_autocheckpoint = 0", "cache_size = -65536", "temp_store = MEMORY"); err != nil {
		return nil, errors.Join(explain(err, path), conn.Close())
	}
	conn.SetBusyTimeout(busyTimeout)
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("the store's file cannot be made private: %w", err), conn.Close())
	}
	return conn, nil
}

func openReaders(path string) (*sqlitex.Pool, error) {
	pool, err := sqlitex.NewPool(path, sqlitex.PoolOptions{
		Flags:    sqlite.OpenReadOnly | sqlite.OpenWAL,
		PoolSize: readerCount,
		PrepareConn: func(conn *sqlite.Conn) error {
			conn.SetBusyTimeout(busyTimeout)
			return set(conn, "query_only = ON", "cache_size = -16384")
		},
	})
	if err != nil {
		return nil, explain(err, path)
	}
	return pool, nil
}

// set changes settings of a connection.
func set(conn *sqlite.Conn, pragmas ...string) error {
	for _, pragma := range pragmas {
		if err := sqlitex.ExecuteTransient(conn, "PRAGMA "+pragma, nil); err != nil {
			return err
		}
	}
	return nil
}

// script runs several statements in one transaction.
func script(conn *sqlite.Conn, sql string) error { return sqlitex.ExecScript(conn, sql) }

// explain turns what SQLite says when it is opened or first used into a sentence that says what to do.
func explain(err error, path string) error {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultReadOnly, sqlite.ResultPerm, sqlite.ResultAuth:
		return fmt.Errorf("the store %s is read-only: make the file and its directory writable for this user (%w)", path, err)
	case sqlite.ResultCantOpen:
		return fmt.Errorf("the store %s cannot be opened: check that the directory exists and belongs to this user (%w)", path, err)
	case sqlite.ResultFull:
		return fmt.Errorf("the disk of %s is full: free some space and start again; nothing acknowledged is lost (%w)", path, err)
	case sqlite.ResultCorrupt, sqlite.ResultNotADB:
		return fmt.Errorf("%s is damaged or not a store of holdfast: restore it from a backup (%w)", path, err)
	case sqlite.ResultBusy, sqlite.ResultLocked:
		return fmt.Errorf("the store %s is in use by another program that does not let go: end it and try again (%w)", path, err)
	case sqlite.ResultIOErr:
		return fmt.Errorf("the disk of %s fails: check it, and restore the store from a backup if it is damaged (%w)", path, err)
	}
	return fmt.Errorf("the store %s: %w", path, err)
}

//go:embed schema/*.sql
var schemas embed.FS

// schemaVersion is what this program reads and writes: the number of the last file in schema/.
const schemaVersion = 2

// migrate brings the schema up to date, one transaction a step, and returns the key that
// permutes payment numbers.
func migrate(conn *sqlite.Conn, path string) (numberKey []byte, err error) {
	if err := script(conn, `CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;`); err != nil {
		return nil, explain(err, path)
	}
	for {
		version, err := meta(conn, "schema")
		if err != nil {
			return nil, explain(err, path)
		}
		at := 0
		if version != "" {
			if at, err = strconv.Atoi(version); err != nil {
				return nil, fmt.Errorf("%s is not a store of holdfast: its schema is called %q", path, version)
			}
		}
		switch {
		case at > schemaVersion:
			return nil, fmt.Errorf("the store %s was written by a newer holdfast (schema %d, this program knows %d): use that version", path, at, schemaVersion)
		case at == schemaVersion:
			text, err := meta(conn, "number_key")
			if err != nil {
				return nil, explain(err, path)
			}
			key, err := hex.DecodeString(text)
			if err != nil {
				return nil, fmt.Errorf("the store %s has no usable number key: %w", path, err)
			}
			return key, nil
		}
		if err := migrateTo(conn, at+1); err != nil {
			return nil, explain(err, path)
		}
	}
}

func migrateTo(conn *sqlite.Conn, version int) (err error) {
	end, err := sqlitex.ImmediateTransaction(conn)
	if err != nil {
		return err
	}
	defer end(&err)
	// Another process may have been faster.
	if now, err := meta(conn, "schema"); err != nil || now == strconv.Itoa(version) {
		return err
	}
	sql, err := fs.ReadFile(schemas, "schema/"+strconv.Itoa(version)+".sql")
	if err != nil {
		return err
	}
	if err := script(conn, string(sql)); err != nil {
		return err
	}
	if version == 1 {
		key := make([]byte, 16)
		rand.Read(key)
		if err := setMeta(conn, "number_key", hex.EncodeToString(key)); err != nil {
			return err
		}
	}
	return setMeta(conn, "schema", strconv.Itoa(version))
}

func meta(conn *sqlite.Conn, name string) (value string, err error) {
	err = query(conn, `SELECT value FROM meta WHERE name = ?1`, []any{name}, func(row *sqlite.Stmt) error {
		value = row.ColumnText(0)
		return nil
	})
	return value, err
}

func setMeta(conn *sqlite.Conn, name, value string) error {
	return query(conn, `INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)`, []any{name, value}, nil)
}

const (
	checkpointEvery = 200 * time.Millisecond
	cutTimeout      = 50 * time.Millisecond // how long commits wait at most for readers of a log that is to be cut
)

// walCap is the bytes past which the log is cut. Only a test changes it.
var walCap int64 = 64 << 20

// checkpoint moves committed pages from the log into the file, in the background, until ctx ends.
// Under load it never catches up, and the log grows; past walCap it cuts the log, and then holds gate, so
// that nobody commits meanwhile. What it must move then is only what came in since the last look.
func checkpoint(ctx context.Context, path string, gate sync.Locker, log *slog.Logger) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenWAL)
	if err != nil {
		log.Error("the store's log cannot be moved into its file; it will grow", "error", err)
		return
	}
	defer conn.Close()
	conn.SetBusyTimeout(cutTimeout)
	move := func(mode string) {
		if err := set(conn, "wal_checkpoint("+mode+")"); err != nil && sqlite.ErrCode(err).ToPrimary() != sqlite.ResultBusy {
			log.Warn("checkpoint", "error", err)
		}
	}
	tick := time.NewTicker(checkpointEvery)
	defer tick.Stop()
	var seen int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		info, err := os.Stat(path + "-wal")
		if err != nil || info.Size() == 0 {
			continue
		}
		tooLong := info.Size() > walCap
		if !tooLong && info.ModTime().UnixNano() == seen {
			continue // nothing was written since
		}
		seen = info.ModTime().UnixNano()
		move("PASSIVE")
		if tooLong {
			gate.Lock()
			move("TRUNCATE")
			gate.Unlock()
		}
	}
}

// query runs one statement, prepared once per connection, and calls row for each row of its result.
func query(conn *sqlite.Conn, sql string, args []any, row func(*sqlite.Stmt) error) (err error) {
	stmt, err := conn.Prepare(sql)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, stmt.Reset())
		stmt.ClearBindings()
	}()
	for i, arg := range args {
		switch v := arg.(type) {
		case int64:
			stmt.BindInt64(i+1, v)
		case int:
			stmt.BindInt64(i+1, int64(v))
		case string:
			stmt.BindText(i+1, v)
		case []byte:
			stmt.BindBytes(i+1, v)
		case bool:
			stmt.BindBool(i+1, v)
		case nil:
			stmt.BindNull(i + 1)
		default:
			return fmt.Errorf("a %T cannot be bound", v)
		}
	}
	for {
		more, err := stmt.Step()
		if err != nil {
			return err
		}
		if !more {
			return nil
		}
		if row != nil {
			if err := row(stmt); err != nil {
				return err
			}
		}
	}
}

// read runs f on a reader's connection, in one snapshot.
func (s *Store) read(ctx context.Context, f func(conn *sqlite.Conn) error) (err error) {
	conn, err := s.readers.Take(ctx)
	if err != nil {
		return err
	}
	defer s.readers.Put(conn)
	return f(conn)
}

func blob(row *sqlite.Stmt, column int) []byte {
	b := make([]byte, row.ColumnLen(column))
	row.ColumnBytes(column, b)
	return b
}

func micros(t time.Time) int64 { return t.UnixMicro() }

// orNull is the time for a column in which null means never.
func orNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

func timeAt(us int64) time.Time { return time.UnixMicro(us).UTC() }
