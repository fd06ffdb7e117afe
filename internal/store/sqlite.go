package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// sqliteEngine is a file of SQLite: a connection that writes, a few that read, and one that moves the log into the file.
type sqliteEngine struct {
	path    string
	writer  *sqlite.Conn
	readers *sqlitex.Pool
	changed func()                // another process has written
	version int64                 // SQLite's count of other connections' writes, as last seen
	gate    sync.Mutex            // held while a batch is committed, and while the log is cut: SQLite's own lock is never free under load
	texts   map[*statement]string // under the gate
	log     *syncer               // the log's; opened at the first sync
	opened  []openedFile          // the file and its log
	stop    context.CancelFunc
	loops   sync.WaitGroup
	lost    atomic.Pointer[error] // why nobody can say what is in the file: moving the log into it failed, or it is not in its place
}

// openedFile is a file as it was found when it was opened.
type openedFile struct {
	path string
	is   identity
}

// busyTimeout is how long a writer waits for another process (a command line beside the server).
const busyTimeout = 10 * time.Second

// newFileRetry is until who found a new file that another was about to make looks again.
const newFileRetry = 5 * time.Millisecond

const readerCount = 4 // where Config does not say

// foreignEvery bounds how long another process's write (an operator's command) may go unnoticed by
// readers. Writers notice it before they decide.
const foreignEvery = 500 * time.Millisecond

// openSQLite opens the file, makes it where there is none and brings its schema up to date. changed is
// called when another process has written.
func openSQLite(cfg Config, changed func()) (e *sqliteEngine, numberKey []byte, err error) {
	path := filepath.Join(cfg.Dir, File)
	e = &sqliteEngine{path: path, changed: changed, texts: make(map[*statement]string)}
	if e.writer, err = openWriter(path); err != nil {
		return nil, nil, err
	}
	if numberKey, err = migrate(e.writer, path); err != nil {
		return nil, nil, errors.Join(err, e.writer.Close())
	}
	for _, name := range []string{path, path + "-wal"} { // both are there as long as the writer is
		is, err := identify(name)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("the store %s: %w", path, err), e.writer.Close())
		}
		e.opened = append(e.opened, openedFile{name, is})
	}
	if e.readers, err = openReaders(path, cfg.Readers); err != nil {
		return nil, nil, errors.Join(err, e.writer.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	e.stop = stop
	e.loops.Go(func() { e.checkpoint(ctx, cfg.Log) })
	e.loops.Go(func() { e.watch(ctx, cfg.Log) })
	return e, numberKey, nil
}

// pageCache is 4 MiB of pages for each connection: what payments under way touch. The rest is a read from the system's
// own cache away, and memory that is used again at once is faster than more of it (docs/performance.md, "Levers").
const pageCache = "cache_size = -4096"

func openWriter(path string) (*sqlite.Conn, error) {
	var conn *sqlite.Conn
	var err error
	for end := time.Now().Add(busyTimeout); ; time.Sleep(newFileRetry) {
		conn, err = sqlite.OpenConn(throughGathering(path), sqlite.OpenReadWrite|sqlite.OpenCreate|sqlite.OpenWAL|sqlite.OpenURI)
		// Those who find a new file at once all want to write into it that it has a log. Each reads it by then, and there SQLite
		// does not wait, for they might wait for each other: all but one are turned away.
		if sqlite.ErrCode(err).ToPrimary() != sqlite.ResultBusy || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		return nil, explain(err, path)
	}
	// Money is acknowledged only when it is on the disk, and sync sees to that: not SQLite within COMMIT,
	// where it would keep the next batch waiting. What else must be synced, NORMAL does: the log and the file in a
	// checkpoint, and the log's header when the log is begun anew. Without that last one (OFF) a loss of power
	// could leave the old header with the first old frames behind it, and they would be taken for news. Checkpoints are
	// made by a connection of their own, so that no caller waits for one. The cache never spills, because of the gathered log.
	if err := set(conn, "synchronous = NORMAL", "wal_autocheckpoint = 0", "cache_spill = OFF", pageCache, "temp_store = MEMORY"); err != nil {
		return nil, errors.Join(explain(err, path), conn.Close())
	}
	conn.SetBusyTimeout(busyTimeout)
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("the store's file cannot be made private: %w", err), conn.Close())
	}
	return conn, nil
}

func openReaders(path string, count int) (*sqlitex.Pool, error) {
	pool, err := sqlitex.NewPool(path, sqlitex.PoolOptions{
		Flags:    sqlite.OpenReadOnly | sqlite.OpenWAL,
		PoolSize: count,
		PrepareConn: func(conn *sqlite.Conn) error {
			conn.SetBusyTimeout(busyTimeout)
			return set(conn, "query_only = ON", pageCache)
		},
	})
	if err != nil {
		return nil, explain(err, path)
	}
	return pool, nil
}

func (e *sqliteEngine) close() error {
	e.stop()
	e.loops.Wait()
	var logErr error
	if e.log != nil {
		logErr = e.log.close()
	}
	// The writer goes last: SQLite then moves all of its log into the file, which readers may not.
	return errors.Join(logErr, e.readers.Close(), e.writer.Close())
}

// sync writes the log to the disk. Transactions stand in it one behind the other, each with a checksum
// over all before it in the log: after a loss of power those that were synced are there, and of the others
// none without those before it. (SQLite does the same within COMMIT under synchronous = FULL.)
func (e *sqliteEngine) sync() (err error) {
	e.lookInPlace()
	if lost := e.lost.Load(); lost != nil {
		return *lost
	}
	if e.log == nil {
		if e.log, err = newSyncer(e.path + "-wal"); err != nil {
			return uncommitted{err}
		}
	}
	if err := e.log.sync(); err != nil {
		return uncommitted{err}
	}
	return nil
}

// lookInPlace sees to it that nothing is acknowledged that the next start would not find: who moves or removes an open file,
// or puts another in its place, leaves us writing what has no name.
func (e *sqliteEngine) lookInPlace() {
	for _, f := range e.opened {
		is, err := identify(f.path)
		if err == nil && !is.same(f.is) {
			err = os.ErrNotExist
		}
		if errors.Is(err, os.ErrNotExist) { // else it cannot be seen just now, and writing to it says the rest
			gone := error(uncommitted{misplaced(f.path)})
			e.lost.CompareAndSwap(nil, &gone)
		}
	}
}

// misplaced is the path of a file that is not there any more.
type misplaced string

func (m misplaced) Error() string { return string(m) + " is not the file that was opened" }

// One process serves from a file, and notices what others write to it.
func (e *sqliteEngine) shared() bool { return false }

func (e *sqliteEngine) block(context.Context) (first, last int64, err error) {
	return 0, 0, errors.New("a file of SQLite has one server, which counts for itself")
}

func (e *sqliteEngine) top(ctx context.Context) (seq int64, err error) {
	err = e.read(ctx, func(q querier) error {
		return q.query(`SELECT coalesce(max(seq), 0) FROM payments`, nil, func(r record) error {
			seq = r.int(0)
			return nil
		})
	})
	return seq, err
}

// A file is there or has failed.
func (e *sqliteEngine) absent(error) bool { return false }

func (e *sqliteEngine) explain(err error) error { return explain(err, e.path) }

func (e *sqliteEngine) failure(err error) failure {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultIOErr, sqlite.ResultCorrupt, sqlite.ResultNotADB, sqlite.ResultReadOnly, sqlite.ResultFull:
		return disk
	case sqlite.ResultBusy:
		return others
	}
	var unsure uncommitted
	if errors.As(err, &unsure) {
		return disk
	}
	return jobs
}

// uncommitted is a commit, or its undoing, that failed: what is stored nobody knows.
type uncommitted struct{ error }

func (u uncommitted) Unwrap() error { return u.error }

// watch looks now and then whether another process has written, or the files are gone.
func (e *sqliteEngine) watch(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(foreignEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		e.lookInPlace()
		e.gate.Lock()
		err := e.lookForeign()
		e.gate.Unlock()
		if err != nil {
			log.Warn("the store cannot tell whether another process wrote", "error", err)
		}
	}
}

func (e *sqliteEngine) lookForeign() error {
	return query(e.writer, "PRAGMA data_version", nil, func(row record) error {
		if version := row.int(0); version != e.version {
			e.version = version
			e.changed()
		}
		return nil
	})
}

func (e *sqliteEngine) read(ctx context.Context, f func(querier) error) error {
	return e.borrow(ctx, func(conn *sqlite.Conn) error { return f(sqliteConn{conn}) })
}

// borrow runs f on a reader's connection.
func (e *sqliteEngine) borrow(ctx context.Context, f func(*sqlite.Conn) error) (err error) {
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err) // SQLite only says that it was interrupted
		}
	}()
	conn, err := e.readers.Take(ctx)
	if err != nil {
		return err
	}
	defer e.readers.Put(conn)
	return f(conn)
}

func (e *sqliteEngine) snapshot(ctx context.Context, f func(querier) error) error {
	return e.borrow(ctx, func(conn *sqlite.Conn) (err error) {
		if err := query(conn, "BEGIN", nil, nil); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, endSnapshot(conn)) }()
		return f(sqliteConn{conn})
	})
}

// endSnapshot ends a reader's transaction, also where the caller has gone: an interrupted connection would not do it, and
// whoever reads on it next would see the past.
func endSnapshot(conn *sqlite.Conn) error {
	conn.SetInterrupt(nil)
	return query(conn, "COMMIT", nil, nil)
}

func (e *sqliteEngine) lookup(ctx context.Context, s *statement, row []value, found func(record) error) error {
	return e.read(ctx, func(q querier) error { return q.query(s.sql, row, found) })
}

func (e *sqliteEngine) writers() int { return 1 }

func (e *sqliteEngine) begin(int, bool) (writing, error) {
	e.gate.Lock()
	err := query(e.writer, "BEGIN IMMEDIATE", nil, nil)
	if err == nil {
		if err = e.lookForeign(); err == nil {
			return &sqliteWriting{sqliteConn{e.writer}, e}, nil
		}
		err = errors.Join(err, query(e.writer, "ROLLBACK", nil, nil))
	}
	e.gate.Unlock()
	return nil, err
}

// sqliteConn is one connection.
type sqliteConn struct{ conn *sqlite.Conn }

func (c sqliteConn) query(sql string, args []value, row func(record) error) error {
	return query(c.conn, sql, args, row)
}

// sqliteWriting is a transaction of the writer. It holds the gate until its end.
type sqliteWriting struct {
	sqliteConn
	engine *sqliteEngine
}

func (w *sqliteWriting) exec(sql string, args []value) (int, error) {
	if err := query(w.conn, sql, args, nil); err != nil {
		return 0, err
	}
	return w.conn.Changes(), nil
}

func (w *sqliteWriting) put(s *statement, rows [][]value) error {
	sql := w.engine.text(s)
	for _, args := range rows {
		if err := query(w.conn, sql, args, nil); err != nil {
			return err
		}
	}
	return nil
}

// text is a statement in SQLite's words. A row that cannot be written ends the whole transaction: then
// SQLite need not be able to undo a single statement, and keeps no journal of each.
func (e *sqliteEngine) text(s *statement) string {
	text, ok := e.texts[s]
	if !ok {
		verb, rest, _ := strings.Cut(s.sql, " ")
		text = verb + " OR ROLLBACK " + rest
		e.texts[s] = text
	}
	return text
}

func (w *sqliteWriting) each(s *statement, rows [][]value, found func(int, record) error) error {
	for i, args := range rows {
		if err := query(w.conn, s.sql, args, func(r record) error { return found(i, r) }); err != nil {
			return err
		}
	}
	return nil
}

func (w *sqliteWriting) bid(all ...*bid) error {
	for _, b := range all {
		b.unknown()
		sql := w.engine.text(b.statement)
		for i, args := range b.rows {
			changed, err := w.exec(sql, args)
			if err != nil {
				return err
			}
			b.won[i] = changed > 0
		}
	}
	return nil
}

func (w *sqliteWriting) bidNow(all ...*bid) error { return w.bid(all...) }

func (w *sqliteWriting) hopes() bool { return false } // it knows

func (w *sqliteWriting) flush() error { return nil } // nothing is put off

func (w *sqliteWriting) commit() error {
	if err := query(w.conn, "COMMIT", nil, nil); err != nil {
		return uncommitted{err}
	}
	w.engine.gate.Unlock()
	return nil
}

func (w *sqliteWriting) rollback() error {
	defer w.engine.gate.Unlock()
	if w.conn.AutocommitEnabled() {
		return nil
	}
	if err := query(w.conn, "ROLLBACK", nil, nil); err != nil {
		return uncommitted{err}
	}
	return nil
}

// sqliteRecord is a row of a result.
type sqliteRecord struct{ *sqlite.Stmt }

func (r sqliteRecord) int(column int) int64   { return r.ColumnInt64(column) }
func (r sqliteRecord) text(column int) string { return r.ColumnText(column) }
func (r sqliteRecord) null(column int) bool   { return r.ColumnIsNull(column) }
func (r sqliteRecord) blob(column int) []byte {
	b := make([]byte, r.ColumnLen(column))
	r.ColumnBytes(column, b)
	return b
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
	if errors.As(err, new(misplaced)) {
		return fmt.Errorf("somebody has moved, removed or replaced the files of the store %s while they were in use: put holdfast.db and holdfast.db-wal back together, and start again (%w)", path, err)
	}
	var unsure uncommitted
	if errors.As(err, &unsure) {
		return fmt.Errorf("the disk of %s fails: check it, and restore the store from a backup if it is damaged (%w)", path, err)
	}
	return fmt.Errorf("the store %s: %w", path, err)
}

// migrate brings the schema up to date, one transaction a step, and returns the key that
// permutes payment numbers.
func migrate(conn *sqlite.Conn, path string) (numberKey []byte, err error) {
	if err := script(conn, `CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;`); err != nil {
		return nil, explain(err, path)
	}
	for {
		version, err := meta(sqliteConn{conn}, "schema")
		if err != nil {
			return nil, explain(err, path)
		}
		at, err := knownSchema("the store "+path, version)
		if err != nil {
			return nil, err
		}
		if at == schemaVersion {
			text, err := meta(sqliteConn{conn}, "number_key")
			if err != nil {
				return nil, explain(err, path)
			}
			key, err := hex.DecodeString(text)
			if err != nil {
				return nil, fmt.Errorf("the store %s has no usable number key: %w", path, err)
			}
			return key, nil
		}
		if err := migrateFrom(conn, at); err != nil {
			return nil, explain(err, path)
		}
	}
}

func migrateFrom(conn *sqlite.Conn, version int) (err error) {
	end, err := sqlitex.ImmediateTransaction(conn)
	if err != nil {
		return err
	}
	defer end(&err)
	// Another process may have been faster.
	if now, err := meta(sqliteConn{conn}, "schema"); err != nil || now != "" && now != strconv.Itoa(version) {
		return err
	}
	sql, to, err := migration(version)
	if err != nil {
		return err
	}
	if err := script(conn, sql); err != nil {
		return err
	}
	if version == 0 {
		if err := setMeta(conn, "number_key", newNumberKey()); err != nil {
			return err
		}
	}
	return setMeta(conn, "schema", strconv.Itoa(to))
}

func setMeta(conn *sqlite.Conn, name, to string) error {
	return query(conn, `INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)`, []value{str(name), str(to)}, nil)
}

const (
	checkpointEvery = 200 * time.Millisecond
	restartTimeout  = 50 * time.Millisecond // how long commits wait at most for readers of a log that is to be begun anew
	restartPause    = 2 * time.Second       // until that is tried again: a backup may read for long
)

// walCap is the bytes past which the log is begun anew: small, so that it stays in the processor's reach. Only a test
// changes it.
var walCap int64 = 16 << 20

// checkpoint moves committed pages from the log into the file, in the background, until ctx ends.
// Under load it never catches up, and the log grows; past walCap the writer begins it anew, and nobody
// commits meanwhile. What it must move then is only what came in since the last look. The log's file keeps
// its size: writing where there is something already spares the disk the bookkeeping of a file that grows.
func (e *sqliteEngine) checkpoint(ctx context.Context, log *slog.Logger) {
	m := logMover{engine: e, log: log}
	defer m.close()
	tick := time.NewTicker(checkpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m.look()
	}
}

// logMover moves the log into the file.
type logMover struct {
	engine    *sqliteEngine
	log       *slog.Logger
	conn      *sqlite.Conn // opened when there is something to move
	said      bool         // that it could not be opened
	seen      int64        // when the log was written, as last seen
	restartAt time.Time
}

// look moves what was written since it last looked.
func (m *logMover) look() {
	e := m.engine
	info, err := os.Stat(e.path + "-wal")
	if err != nil || info.Size() == 0 || info.ModTime().UnixNano() == m.seen {
		return
	}
	if m.conn == nil {
		if m.conn, err = sqlite.OpenConn(e.path, sqlite.OpenReadWrite|sqlite.OpenWAL); err != nil {
			if !m.said {
				m.log.Error("the store's log cannot be moved into its file, and grows until it can: see that the program may open more files", "error", err)
			}
			m.said = true
			return // and the next look tries again
		}
	}
	m.seen = info.ModTime().UnixNano()
	length, _, err := moveLog(m.conn, "PASSIVE")
	if err == nil && length > walCap && !time.Now().Before(m.restartAt) {
		var done bool
		if done, err = e.restartLog(); !done {
			m.restartAt = time.Now().Add(restartPause)
		}
	}
	if err != nil && sqlite.ErrCode(err).ToPrimary() != sqlite.ResultBusy {
		m.log.Warn("checkpoint", "error", err)
	}
	if err != nil && e.failure(err) == disk {
		// After a write or sync that failed the next one might not, although the pages are gone.
		err := error(uncommitted{err})
		e.lost.Store(&err)
	}
}

func (m *logMover) close() {
	if m.conn != nil {
		m.conn.Close()
	}
}

// restartLog is the writer's own, for then it knows that what it remembers of the file still holds. done is false where
// a reader still needs the old log.
func (e *sqliteEngine) restartLog() (done bool, err error) {
	e.gate.Lock()
	defer e.gate.Unlock()
	e.writer.SetBusyTimeout(restartTimeout)
	defer e.writer.SetBusyTimeout(busyTimeout)
	_, busy, err := moveLog(e.writer, "RESTART")
	return !busy, err
}

// moveLog moves pages from the log into the file and returns the log's length in bytes, and whether others were
// in the way.
func moveLog(conn *sqlite.Conn, mode string) (length int64, busy bool, err error) {
	const pageBytes = 4096
	err = query(conn, "PRAGMA wal_checkpoint("+mode+")", nil, func(row record) error {
		busy, length = row.int(0) != 0, row.int(1)*pageBytes
		return nil
	})
	return length, busy, err
}

// query runs one statement, prepared once per connection, and calls row for each row of its result.
func query(conn *sqlite.Conn, sql string, args []value, row func(record) error) (err error) {
	stmt, err := conn.Prepare(sql)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stmt.Reset()) }()
	for i, arg := range args {
		switch arg.kind {
		case isNull:
			stmt.BindNull(i + 1)
		case isWhole:
			stmt.BindInt64(i+1, arg.whole)
		case isText:
			stmt.BindText(i+1, arg.text) // it makes a copy
		case isBytes:
			stmt.BindBytes(i+1, arg.bytes()) // likewise
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
			if err := row(sqliteRecord{stmt}); err != nil {
				return err
			}
		}
	}
}

func micros(t time.Time) int64 { return t.UnixMicro() }

func timeAt(us int64) time.Time { return time.UnixMicro(us).UTC() }
