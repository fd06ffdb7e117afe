package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// postgresEngine is a database of PostgreSQL: a connection that writes, and a pool that reads. Other gateways
// have theirs, and nobody tells us what they write.
//
// What a batch writes is queued and goes out with the next thing that needs an answer, all its rows of a kind in
// one statement: an ordinary batch takes two or three round trips.
type postgresEngine struct {
	name     string // for errors: where it is
	database *pgx.ConnConfig
	readers  *pgxpool.Pool
	log      *slog.Logger
	id       []byte // this process's in the table committers

	// The committer's own.
	writer    *pgx.Conn // nil: to be connected
	committed int64     // how many batches this process has tried to commit; the database knows the last that it did
	retries   int       // batches that failed one after another, and nobody was at fault
	texts     map[*statement]manyRows

	queries sync.Map // of queryKey, texts in PostgreSQL's words
}

// The oldest server that the store is tested with in mind: 13 has all that is used here.
const oldestPostgres = 130000

const (
	connectWithin  = 5 * time.Second  // one try to reach the server, where the DSN does not say
	answerWithin   = 15 * time.Second // one round trip of the writer
	firstWait      = 2 * time.Millisecond
	longestWait    = 500 * time.Millisecond
	readerTries    = 5
	rowsInOneBlock = 256
	staleCommitter = 30 * 24 * time.Hour
)

// Only a test changes these.
var (
	reachWithin   = 30 * time.Second // how long a batch waits for a server that cannot be reached
	resolveWithin = 60 * time.Second // how long it waits to learn what became of a COMMIT
)

// openPostgres connects to a database and brings its schema up to date.
func openPostgres(dsn string, readers int, log *slog.Logger) (e *postgresEngine, numberKey []byte, err error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, nil, fmt.Errorf("%w (%w)", errNoAddress, err)
	}
	c := cfg.ConnConfig
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectWithin
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "holdfast"
	}
	if len(c.Fallbacks) > 0 && c.ValidateConnect == nil {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if !strings.Contains(dsn, "pool_max_conns") {
		cfg.MaxConns = int32(readers) + 1 // one takes row numbers
	}
	e = newPostgresEngine(c, log)
	ctx, cancel := context.WithTimeout(context.Background(), reachWithin)
	defer cancel()
	if err := e.connect(ctx); err != nil {
		return nil, nil, e.explain(err)
	}
	if err := e.check(ctx); err != nil {
		return nil, nil, errors.Join(err, e.close())
	}
	if numberKey, err = e.migrate(ctx); err != nil {
		return nil, nil, errors.Join(err, e.close())
	}
	if e.readers, err = pgxpool.NewWithConfig(context.Background(), cfg); err != nil {
		return nil, nil, errors.Join(e.explain(err), e.close())
	}
	return e, numberKey, nil
}

func newPostgresEngine(c *pgx.ConnConfig, log *slog.Logger) *postgresEngine {
	e := &postgresEngine{
		name: fmt.Sprintf("the database %s at %s", c.Database, c.Host), database: c.Copy(), log: log,
		id: make([]byte, 16), texts: make(map[*statement]manyRows),
	}
	rand.Read(e.id)
	return e
}

// check refuses a server that would lose what it has acknowledged, or cannot be written to.
func (e *postgresEngine) check(ctx context.Context) error {
	settings := make(map[string]string)
	for _, name := range []string{"server_version_num", "server_version", "transaction_read_only", "synchronous_commit"} {
		var value *string
		if err := e.writer.QueryRow(ctx, `SELECT current_setting($1, true)`, name).Scan(&value); err != nil {
			return e.explain(err)
		}
		if value != nil {
			settings[name] = *value
		}
	}
	if n, err := strconv.Atoi(settings["server_version_num"]); err != nil || n < oldestPostgres {
		return fmt.Errorf("%s is PostgreSQL %s, and the store needs 13 or later: upgrade the server", e.name, settings["server_version"])
	}
	if settings["transaction_read_only"] == "on" {
		return fmt.Errorf("%s is a read-only standby: name the primary, or all servers with target_session_attrs=read-write", e.name)
	}
	if settings["synchronous_commit"] == "off" {
		return fmt.Errorf("%s acknowledges what is not on the disk yet (synchronous_commit is off): set it to on for this database or user", e.name)
	}
	return nil
}

func (e *postgresEngine) shared() bool { return true }

// sync has nothing to do: COMMIT is answered when it is durable.
func (e *postgresEngine) sync() error { return nil }

func (e *postgresEngine) close() (err error) {
	if e.readers != nil {
		e.readers.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectWithin)
	defer cancel()
	if e.writer != nil && !e.writer.IsClosed() && e.committed > 0 {
		if _, err := e.writer.Exec(ctx, `DELETE FROM committers WHERE id = $1`, e.id); err != nil {
			e.log.Debug("the store's mark stays in the database; a later start takes it away", "error", err)
		}
	}
	e.drop()
	return nil
}

// ---- the writer -------------------------------------------------------------

// writerSettings are of its sessions, as far as the server knows them. The writer finds its rows by their
// keys, always, and must not be led astray by a plan that was made while the tables were empty. And a gateway that
// stands still with a transaction open must not hold up the others.
const writerSettings = `SELECT set_config(s.name, v.value, false) FROM pg_settings s JOIN (VALUES
	('enable_seqscan', 'off'), ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'), ('plan_cache_mode', 'force_generic_plan'), ('jit', 'off'),
	('idle_in_transaction_session_timeout', '30s')) AS v (name, value) ON v.name = s.name`

// connect makes the writer's connection if there is none, in one try.
func (e *postgresEngine) connect(ctx context.Context) error {
	if e.writer != nil && !e.writer.IsClosed() {
		return nil
	}
	e.drop()
	conn, err := pgx.ConnectConfig(ctx, e.database)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, writerSettings); err != nil {
		conn.Close(ctx)
		return err
	}
	e.writer = conn
	return nil
}

// drop lets go of the writer's connection; what was not committed on it is undone by the server.
func (e *postgresEngine) drop() {
	if e.writer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectWithin)
	defer cancel()
	e.writer.Close(ctx) // an error says that it was lost already
	select {
	case <-e.writer.PgConn().CleanupDone():
	case <-ctx.Done():
	}
	e.writer = nil
}

// reach connects, again and again, until ctx ends.
func (e *postgresEngine) reach(ctx context.Context) (err error) {
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		if err = e.connect(ctx); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// meaning is an error of which it is known what it means.
type meaning struct {
	error
	failure failure
}

func (m meaning) Unwrap() error { return m.error }

func (e *postgresEngine) failure(err error) failure {
	var known meaning
	if errors.As(err, &known) {
		return known.failure
	}
	return jobs
}

// judge says what an error means that came up before COMMIT was sent: the server has stored nothing.
func (e *postgresEngine) judge(conn *pgx.Conn, err error) error {
	if err == nil || errors.As(err, new(meaning)) {
		return err
	}
	class, state := sqlState(err)
	switch class {
	case "40": // it stood in another's way
		return meaning{err, again}
	case "53", "58", "XX": // it is out of something, or damaged: no job is at fault
		return meaning{err, others}
	}
	switch {
	case class == "08", class == "57", state == "25006", state == "25P03", state == "26000", state == "0A000":
		// It ends, or is not the primary any more, or the schema is not what it was when we connected.
		conn.Close(context.Background())
		return meaning{err, again}
	case conn.IsClosed():
		return meaning{err, again}
	}
	return err
}

// sqlState is what the server calls an error of its own, with the class of such errors; "" is none of its own.
func sqlState(err error) (class, state string) {
	var server *pgconn.PgError
	if errors.As(err, &server) && len(server.SQLState()) == 5 {
		state = server.SQLState()
		return state[:2], state
	}
	return "", ""
}

func (e *postgresEngine) begin() (writing, error) {
	if e.retries > 0 {
		time.Sleep(min(firstWait<<min(e.retries, 16), longestWait))
	}
	e.retries++ // until a batch succeeds
	ctx, cancel := context.WithTimeout(context.Background(), reachWithin)
	defer cancel()
	if err := e.reach(ctx); err != nil {
		return nil, meaning{e.explain(err), others}
	}
	w := &postgresWriting{engine: e, conn: e.writer}
	w.queue("BEGIN", nil, nil)
	return w, nil
}

// postgresWriting is a transaction of the writer.
type postgresWriting struct {
	engine *postgresEngine
	conn   *pgx.Conn
	queued []queued
	sent   bool
	wrote  bool
}

// queued is a statement that goes out with the next flush.
type queued struct {
	sql     string
	args    []any
	row     func(record) error
	changed *int
}

func (w *postgresWriting) queue(sql string, args []any, row func(record) error) *queued {
	w.queued = append(w.queued, queued{sql: sql, args: args, row: row})
	return &w.queued[len(w.queued)-1]
}

// flush sends what is queued and reads the answers.
func (w *postgresWriting) flush() error {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	batch := new(pgx.Batch)
	for _, q := range w.queued {
		batch.Queue(q.sql, q.args...)
	}
	w.sent = true
	results := w.conn.SendBatch(ctx, batch)
	var caller error // of a function that was given a row
	for _, q := range w.queued {
		rows, err := results.Query()
		if err != nil {
			break // Close says it again
		}
		for rows.Next() {
			if q.row != nil && caller == nil {
				caller = q.row(postgresRecord{rows})
			}
		}
		rows.Close()
		if q.changed != nil {
			*q.changed = int(rows.CommandTag().RowsAffected())
		}
	}
	w.queued = w.queued[:0]
	if err := results.Close(); err != nil {
		return w.engine.judge(w.conn, err)
	}
	return caller
}

func (w *postgresWriting) query(sql string, args []any, row func(record) error) error {
	w.wrote = w.wrote || !strings.HasPrefix(sql, "SELECT")
	w.queue(w.engine.text(sql, args), given(args), row)
	return w.flush()
}

func (w *postgresWriting) exec(sql string, args []any) (changed int, err error) {
	w.wrote = true
	w.queue(w.engine.text(sql, args), given(args), nil).changed = &changed
	err = w.flush()
	return changed, err
}

func (w *postgresWriting) each(s *statement, rows [][]any, found func(int, record) error) error {
	if len(rows) == 0 {
		return nil
	}
	many := w.engine.many(s)
	args, err := many.columns(rows)
	if err != nil {
		return err
	}
	numbers := make([]int64, len(rows))
	for i := range numbers {
		numbers[i] = int64(i)
	}
	w.queue(many.sql, append(args, numbers), func(r record) error { return found(int(r.int(r.(postgresRecord).width()-1)), r) })
	return w.flush()
}

func (w *postgresWriting) put(s *statement, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	w.wrote = true
	many := w.engine.many(s)
	for _, round := range many.rounds(rows) {
		args, err := many.columns(round)
		if err != nil {
			return err
		}
		w.queue(many.sql, args, nil)
	}
	return nil
}

func (w *postgresWriting) claim(all ...*claim) error {
	asked := false
	for _, c := range all {
		c.hit = make([]bool, len(c.rows))
		if len(c.rows) == 0 {
			continue
		}
		asked, w.wrote = true, true
		many := w.engine.many(c.statement)
		first := make(map[string]int, len(c.rows)) // of several rows of one key only the first can be written
		var rows [][]any
		for i, row := range c.rows {
			key := many.keyOf(row)
			if _, later := first[key]; !later {
				first[key] = i
				rows = append(rows, row)
			}
		}
		args, err := many.columns(many.sorted(rows))
		if err != nil {
			return err
		}
		w.queue(many.returning, args, func(r record) error {
			c.hit[first[many.foundKey(r)]] = true
			return nil
		})
	}
	if !asked {
		return nil
	}
	return w.flush()
}

// markCommit is written with each batch: when its COMMIT is not answered, the row says whether it was done.
// (txid_status would do it without a row, but not on the engines that spread over machines.)
const markCommit = `INSERT INTO committers (id, n, at) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET n = excluded.n, at = excluded.at`

// lookCommit waits for a transaction that still holds the row, and is itself a write: when it is answered, what it
// saw is as durable as any answer is, on a synchronous standby too.
const lookCommit = `INSERT INTO committers (id, n, at) VALUES ($1, 0, 0) ON CONFLICT (id) DO UPDATE SET n = committers.n RETURNING n`

func (w *postgresWriting) commit() error {
	e := w.engine
	if !w.sent && len(w.queued) == 1 { // BEGIN: nothing was asked, nothing is to be written
		w.queued = nil
		e.retries = 0
		return nil
	}
	if w.wrote {
		e.committed++
		w.queue(markCommit, []any{e.id, e.committed, time.Now().UnixMicro()}, nil)
	}
	w.queue("COMMIT", nil, nil)
	err := w.flush()
	var server *pgconn.PgError
	switch {
	case err == nil:
	case !w.conn.IsClosed(), !w.wrote:
		return err // the server said no
	case errors.As(err, &server) && server.Severity == "ERROR":
		return err
	case pgconn.SafeToRetry(err):
		return err // it was not sent
	default:
		if err := e.resolve(err); err != nil {
			return err
		}
	}
	e.retries = 0
	return nil
}

// resolve finds out what became of the last batch, whose COMMIT was not answered.
func (e *postgresEngine) resolve(cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), resolveWithin)
	defer cancel()
	e.log.Warn("the database did not answer a commit; looking whether it was done", "error", cause)
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		n, err := e.lastCommitted(ctx)
		switch {
		case err == nil && n == e.committed:
			return nil
		case err == nil:
			return meaning{fmt.Errorf("the commit was not done: %w", cause), again}
		}
		select {
		case <-ctx.Done():
			return meaning{fmt.Errorf("the database did not answer a commit (%w), and whether it was done cannot be seen: %w", cause, err), disk}
		case <-time.After(wait):
		}
	}
}

func (e *postgresEngine) lastCommitted(ctx context.Context) (n int64, err error) {
	if err := e.connect(ctx); err != nil {
		return 0, err
	}
	err = e.writer.QueryRow(ctx, lookCommit, e.id).Scan(&n)
	if err != nil {
		e.drop()
	}
	return n, err
}

func (w *postgresWriting) rollback() error {
	w.queued = nil
	if w.conn.IsClosed() || w.conn.PgConn().TxStatus() == 'I' {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	if _, err := w.conn.Exec(ctx, "ROLLBACK"); err != nil {
		w.engine.drop() // then the server does it
	}
	return nil
}

// ---- row numbers ------------------------------------------------------------

// The last row number that was given away is in the table meta. Gateways take a block at a time, with a
// compare-and-set: a sequence is one counter for all machines, and the engines that spread over them have it at a price.
const rowsTaken = "rows"

func (e *postgresEngine) block(ctx context.Context) (first, last int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	for ctx.Err() == nil {
		top, err := e.top(ctx)
		if err != nil {
			return 0, 0, meaning{err, again}
		}
		tag, err := e.readers.Exec(ctx, `UPDATE meta SET value = $2 WHERE name = $1 AND value = $3`,
			rowsTaken, strconv.FormatInt(top+rowsInOneBlock, 10), strconv.FormatInt(top, 10))
		if err != nil {
			return 0, 0, meaning{err, again} // should it have been done, these numbers stay free
		}
		if tag.RowsAffected() == 1 {
			return top + 1, top + rowsInOneBlock, nil
		}
	}
	return 0, 0, meaning{errors.New("others take row numbers all the time"), again}
}

func (e *postgresEngine) top(ctx context.Context) (n int64, err error) {
	var text string
	if err := e.readers.QueryRow(ctx, `SELECT value FROM meta WHERE name = $1`, rowsTaken).Scan(&text); err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}

// ---- readers ----------------------------------------------------------------

func (e *postgresEngine) read(ctx context.Context, f func(querier) error) error {
	return f(postgresReader{e, ctx})
}

// postgresReader runs each query on whichever connection is free, and once more on another if it was lost
// before there was an answer.
type postgresReader struct {
	engine *postgresEngine
	ctx    context.Context
}

func (r postgresReader) query(sql string, args []any, row func(record) error) (err error) {
	wait := firstWait
	for try := 1; ; try++ {
		answered := false
		err = r.once(sql, args, func(rec record) error {
			answered = true
			return row(rec)
		})
		class, _ := sqlState(err)
		if err == nil || answered || r.ctx.Err() != nil || try == readerTries || class != "" && class != "57" && class != "40" {
			return err
		}
		select {
		case <-r.ctx.Done():
			return err
		case <-time.After(wait):
			wait *= 4
		}
	}
}

func (r postgresReader) once(sql string, args []any, row func(record) error) error {
	conn, err := r.engine.readers.Acquire(r.ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return r.engine.query(r.ctx, conn.Conn(), sql, args, row)
}

func (e *postgresEngine) query(ctx context.Context, conn *pgx.Conn, sql string, args []any, row func(record) error) error {
	rows, err := conn.Query(ctx, e.text(sql, args), given(args)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(postgresRecord{rows}); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (e *postgresEngine) snapshot(ctx context.Context, f func(querier) error) error {
	conn, err := e.readers.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	err = f(postgresSnapshot{e, ctx, conn.Conn()})
	return errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))
}

type postgresSnapshot struct {
	engine *postgresEngine
	ctx    context.Context
	conn   *pgx.Conn
}

func (s postgresSnapshot) query(sql string, args []any, row func(record) error) error {
	return s.engine.query(s.ctx, s.conn, sql, args, row)
}

// postgresRecord is a row of a result. Whole numbers, texts and bytes are all that the store keeps.
type postgresRecord struct{ rows pgx.Rows }

func (r postgresRecord) width() int             { return len(r.rows.RawValues()) }
func (r postgresRecord) text(column int) string { return string(r.rows.RawValues()[column]) }
func (r postgresRecord) blob(column int) []byte { return slices.Clone(r.rows.RawValues()[column]) }
func (r postgresRecord) null(column int) bool   { return r.rows.RawValues()[column] == nil }
func (r postgresRecord) int(column int) int64 {
	switch raw := r.rows.RawValues()[column]; len(raw) {
	case 8:
		return int64(binary.BigEndian.Uint64(raw))
	case 4:
		return int64(int32(binary.BigEndian.Uint32(raw)))
	case 0: // null
		return 0
	default:
		panic(fmt.Sprintf("a whole number of %d bytes", len(raw)))
	}
}

// ---- texts ------------------------------------------------------------------

// text is a statement with parameters $1, $2, …, each with its type: PostgreSQL would guess it from its first use.
func (e *postgresEngine) text(sql string, args []any) string {
	type queryKey struct{ sql, types string }
	types := make([]byte, len(args))
	for i, arg := range args {
		switch arg.(type) {
		case int, int64:
			types[i] = 'i'
		case string:
			types[i] = 's'
		case []byte:
			types[i] = 'b'
		default:
			types[i] = 'n'
		}
	}
	key := queryKey{sql, string(types)}
	if text, ok := e.queries.Load(key); ok {
		return text.(string)
	}
	casts := map[byte]string{'i': "::bigint", 's': "::text", 'b': "::bytea"}
	text := parameters(sql, func(n int) string { return "$" + strconv.Itoa(n) + casts[types[n-1]] })
	e.queries.Store(key, text)
	return text
}

// given is arguments as they are meant: no bytes are bytes too, and nil alone is null.
func given(args []any) []any {
	for i, arg := range args {
		if b, ok := arg.([]byte); ok && b == nil {
			args = slices.Clone(args)
			args[i] = []byte{}
		}
	}
	return args
}

// parameters replaces ?1, ?2, … The store's statements have no other question marks.
func parameters(sql string, name func(n int) string) string {
	var b strings.Builder
	for {
		before, rest, more := strings.Cut(sql, "?")
		b.WriteString(before)
		if !more {
			return b.String()
		}
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.Atoi(rest[:digits])
		if err != nil {
			panic("a statement with a parameter that has no number: " + sql)
		}
		b.WriteString(name(n))
		sql = rest[digits:]
	}
}

// manyRows is a statement for all its rows at once: its parameters are arrays, one a column.
type manyRows struct {
	sql       string
	returning string // sql that returns the keys of the rows it changed
	kinds     []string
	key       []string // kinds of the key's columns
}

func (e *postgresEngine) many(s *statement) manyRows {
	m, ok := e.texts[s]
	if !ok {
		m = manyRowsOf(s)
		e.texts[s] = m
	}
	return m
}

// manyRowsOf derives the text for many rows from that for one:
//
//	INSERT INTO t (…) VALUES (?1, 0) …   INSERT INTO t (…) SELECT v.p1, 0 FROM unnest($1::bigint[]) AS v (p1) …
//	UPDATE x AS t SET … WHERE …          UPDATE x AS t SET … FROM unnest(…) AS v (…) WHERE …
//	SELECT … FROM … WHERE …              SELECT …, v.row FROM …, unnest(…, $n::bigint[]) AS v (…, row) WHERE …
func manyRowsOf(s *statement) manyRows {
	m := manyRows{kinds: strings.Fields(s.kinds)}
	sql := parameters(strings.Join(strings.Fields(s.sql), " "), func(n int) string { return "v.p" + strconv.Itoa(n) })
	kinds := m.kinds
	verb, _, _ := strings.Cut(sql, " ")
	if verb == "SELECT" {
		kinds = append(slices.Clone(kinds), "bigint")
	}
	var arrays, names []string
	for i, kind := range kinds {
		arrays = append(arrays, fmt.Sprintf("$%d::%s[]", i+1, kind))
		names = append(names, fmt.Sprintf("p%d", i+1))
	}
	source := "unnest(" + strings.Join(arrays, ", ") + ") AS v (" + strings.Join(names, ", ") + ")"
	switch verb {
	case "INSERT":
		head, rest, _ := strings.Cut(sql, " VALUES (")
		values, tail, _ := strings.Cut(rest, ")")
		m.sql = head + " SELECT " + values + " FROM " + source + tail
	case "UPDATE":
		head, condition, _ := strings.Cut(sql, " WHERE ")
		m.sql = head + " FROM " + source + " WHERE " + condition
	case "SELECT":
		columns, rest, _ := strings.Cut(sql, " FROM ")
		from, condition, _ := strings.Cut(rest, " WHERE ")
		m.sql = columns + ", v." + names[len(names)-1] + " FROM " + from + ", " + source + " WHERE " + condition
	default:
		panic("a statement that cannot be put for many rows: " + s.sql)
	}
	if s.key != "" {
		columns := strings.Split(s.key, ", ")
		m.key = m.kinds[:len(columns)]
		if verb == "UPDATE" {
			for i := range columns {
				columns[i] = "t." + columns[i]
			}
		}
		m.returning = m.sql + " RETURNING " + strings.Join(columns, ", ")
	}
	return m
}

// columns turns rows into arrays, one a column.
func (m manyRows) columns(rows [][]any) ([]any, error) {
	args := make([]any, len(m.kinds), len(m.kinds)+1)
	for c, kind := range m.kinds {
		var err error
		switch kind {
		case "bigint":
			args[c], err = column[int64](rows, c)
		case "text":
			args[c], err = column[string](rows, c)
		case "bytea":
			args[c], err = column[[]byte](rows, c)
		default:
			err = fmt.Errorf("a column of %s", kind)
		}
		if err != nil {
			return nil, err
		}
	}
	return args, nil
}

func column[T any](rows [][]any, c int) (any, error) {
	values := make([]T, len(rows))
	var null []bool
	for i, row := range rows {
		if row[c] == nil {
			if null == nil {
				null = make([]bool, len(rows))
			}
			null[i] = true
			continue
		}
		v, ok := row[c].(T)
		if !ok {
			return nil, fmt.Errorf("a %T stands where a %T should", row[c], v)
		}
		values[i] = v
	}
	if null == nil {
		return values, nil
	}
	pointers := make([]*T, len(rows))
	for i := range values {
		if !null[i] {
			pointers[i] = &values[i]
		}
	}
	return pointers, nil
}

func (m manyRows) keyOf(row []any) string {
	var b strings.Builder
	for i := range m.key {
		fmt.Fprintf(&b, "%v\x00", row[i])
	}
	return b.String()
}

func (m manyRows) foundKey(r record) string {
	var b strings.Builder
	for i, kind := range m.key {
		if kind == "bigint" {
			b.WriteString(strconv.FormatInt(r.int(i), 10))
		} else {
			b.WriteString(r.text(i))
		}
		b.WriteByte(0)
	}
	return b.String()
}

// sorted puts rows in the order of their keys: who locks rows in one order does not stand in another's way.
func (m manyRows) sorted(rows [][]any) [][]any {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b []any) int {
		for i, kind := range m.key {
			order := 0
			if kind == "bigint" {
				x, y := a[i].(int64), b[i].(int64)
				order = int(min(max(x-y, -1), 1))
			} else {
				order = strings.Compare(a[i].(string), b[i].(string))
			}
			if order != 0 {
				return order
			}
		}
		return 0
	})
	return rows
}

// rounds splits rows so that in each part every key is once, and sorts the parts.
func (m manyRows) rounds(rows [][]any) (parts [][][]any) {
	if len(m.key) == 0 {
		return [][][]any{rows}
	}
	times := make(map[string]int, len(rows))
	for _, row := range rows {
		key := m.keyOf(row)
		n := times[key]
		times[key]++
		if n == len(parts) {
			parts = append(parts, nil)
		}
		parts[n] = append(parts[n], row)
	}
	for i := range parts {
		parts[i] = m.sorted(parts[i])
	}
	return parts
}

// ---- schema -----------------------------------------------------------------

// migrate brings the schema up to date, one transaction a step, and returns the key that permutes payment
// numbers. Of several gateways that start at once one does it, the others wait for it.
func (e *postgresEngine) migrate(ctx context.Context) (numberKey []byte, err error) {
	// Two that make the same table at once: one of them is told that it is there.
	for try := 1; ; try++ {
		_, err = e.writer.Exec(ctx, `CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)`)
		if err == nil {
			break
		}
		if class, state := sqlState(err); class != "23" && class != "42" || state == "42501" || try == readerTries {
			return nil, e.explain(err)
		}
	}
	if _, err := e.writer.Exec(ctx, `INSERT INTO meta (name, value) VALUES ('schema', '0') ON CONFLICT (name) DO NOTHING`); err != nil {
		return nil, e.explain(err)
	}
	for {
		version, err := e.meta(ctx, "schema")
		if err != nil {
			return nil, e.explain(err)
		}
		at, err := knownSchema(e.name, version)
		if err != nil {
			return nil, err
		}
		if at == schemaVersion {
			break
		}
		if err := e.migrateFrom(ctx, at); err != nil {
			return nil, e.explain(err)
		}
	}
	text, err := e.meta(ctx, "number_key")
	if err != nil {
		return nil, e.explain(err)
	}
	if numberKey, err = hex.DecodeString(text); err != nil {
		return nil, fmt.Errorf("%s has no usable number key: %w", e.name, err)
	}
	_, err = e.writer.Exec(ctx, `DELETE FROM committers WHERE at > 0 AND at < $1`, time.Now().Add(-staleCommitter).UnixMicro())
	return numberKey, err
}

func (e *postgresEngine) migrateFrom(ctx context.Context, version int) error {
	sql, to, err := migration(version)
	if err != nil {
		return err
	}
	tx, err := e.writer.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
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
	if _, err := e.writer.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		return err
	}
	if version == 0 {
		_, err := tx.Exec(ctx, `INSERT INTO meta (name, value) VALUES ('number_key', $1), ($2, '0')`, newNumberKey(), rowsTaken)
		if err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

func (e *postgresEngine) meta(ctx context.Context, name string) (value string, err error) {
	err = e.writer.QueryRow(ctx, `SELECT value FROM meta WHERE name = $1`, name).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) {
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
		e := newPostgresEngine(cfg, slog.New(slog.DiscardHandler))
		if err := e.connect(ctx); err != nil {
			return e.explain(err)
		}
		defer e.drop()
		if _, err := e.writer.Exec(ctx, sql); err != nil {
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
	e := newPostgresEngine(cfg, slog.New(slog.DiscardHandler))
	if err := e.connect(ctx); err != nil {
		return "", e.explain(err)
	}
	defer e.drop()
	version, err := e.meta(ctx, "schema")
	if _, state := sqlState(err); state == "42P01" { // there is no such table
		return "", nil
	}
	if err != nil {
		return "", e.explain(err)
	}
	return version, nil
}

var errNoAddress = errors.New("the address of the database is not understood: write it as postgres://user:password@host:5432/name")

// explain turns what PostgreSQL says into a sentence that says what to do.
func (e *postgresEngine) explain(err error) error {
	class, state := sqlState(err)
	switch {
	case class == "28":
		return fmt.Errorf("%s does not let us in: check the user and the password in its address (%w)", e.name, err)
	case state == "3D000":
		return fmt.Errorf("%s does not exist: make it with createdb, owned by the user of the address (%w)", e.name, err)
	case state == "42501":
		return fmt.Errorf("the user of %s lacks a right: make him the owner of the database, or of the schema in its search_path (%w)", e.name, err)
	case state == "25006":
		return fmt.Errorf("%s is a read-only standby: name the primary, or all servers with target_session_attrs=read-write (%w)", e.name, err)
	case state == "53100":
		return fmt.Errorf("the disk of %s is full: free some space; nothing acknowledged is lost (%w)", e.name, err)
	case state == "53300":
		return fmt.Errorf("%s has no connection left for us: raise max_connections, or end other programs (%w)", e.name, err)
	case class != "":
	case errors.As(err, new(*pgconn.ParseConfigError)):
		return fmt.Errorf("%w (%w)", errNoAddress, err)
	case errors.As(err, new(*pgconn.ConnectError)):
		if strings.Contains(err.Error(), "read only connection") {
			return fmt.Errorf("%s: no server of its address takes writes: name the primary too, or promote a standby (%w)", e.name, err)
		}
		return fmt.Errorf("%s cannot be reached: check that it runs and that its address is right (%w)", e.name, err)
	}
	return fmt.Errorf("%s: %w", e.name, err)
}
