package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// keySettings are of sessions that find their rows by their keys, always, as far as the server knows them: they must not be
// led astray by a plan that was made while the tables were empty. A gateway that stands still with a transaction open must not
// hold up the others; where the server gives it less than 30,000 milliseconds, that stays. And what is acknowledged is on the
// disk, whatever a server that was promoted, or is told something new, thinks of synchronous_commit: off is on, and all else
// stays as the session found it.
const keySettings = `SELECT set_config(s.name, coalesce(v.value, CASE s.setting WHEN 'off' THEN 'on' ELSE s.setting END), false) FROM pg_settings s JOIN (VALUES
	('enable_seqscan', 'off'), ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'), ('plan_cache_mode', 'force_generic_plan'), ('jit', 'off'),
	('idle_in_transaction_session_timeout', '30s'), ('synchronous_commit', NULL)) AS v (name, value) ON v.name = s.name
	WHERE NOT (s.name = 'idle_in_transaction_session_timeout' AND s.setting ~ '^([1-9][0-9]{0,3}|[12][0-9]{4})$')`

// roomy has the server ask for a large piece of memory and give it back. With the C library of most systems (mallopt(3),
// M_TRIM_THRESHOLD) the session then keeps up to twice as much for its next statement; else it gives back what each statement
// used at its end, and has it mapped anew, page by page, for the next: an eighth of its time.
const roomy = `SELECT length(repeat(' ', 4194304))`

func byKeys(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, keySettings)
	if err == nil {
		_, err = conn.Exec(ctx, roomy)
	}
	return err
}

// postgresWriter is a connection that writes, one transaction at a time. It is its committer's own.
type postgresWriter struct {
	engine *postgresEngine
	conn   *pgx.Conn // nil: to be connected
	id     []byte    // its own in the table committers
	tried  int64     // the number of the last batch that it tried to commit: 2, 4, 6 …; the database knows the last that it did
}

func newPostgresWriter(e *postgresEngine) *postgresWriter {
	w := &postgresWriter{engine: e, id: make([]byte, 16)}
	rand.Read(w.id)
	return w
}

// close takes the writer's mark away and ends its connection.
func (w *postgresWriter) close() {
	ctx, cancel := context.WithTimeout(context.Background(), connectWithin)
	defer cancel()
	if w.conn != nil && !w.conn.IsClosed() && w.tried > 0 {
		if _, err := w.conn.Exec(ctx, `DELETE FROM committers WHERE id = $1`, w.id); err != nil {
			w.engine.log.Debug("the store's mark stays in the database; a later start takes it away", "error", err)
		}
	}
	w.drop()
}

// connect makes the writer's connection if there is none, in one try.
func (w *postgresWriter) connect(ctx context.Context) error {
	if w.conn != nil && !w.conn.IsClosed() {
		return nil
	}
	w.drop()
	conn, err := pgx.ConnectConfig(context.WithValue(ctx, connecting{}, true), w.engine.database)
	if err != nil {
		return err
	}
	w.engine.changed()
	w.engine.readAnew()
	if err := byKeys(ctx, conn); err != nil {
		conn.Close(ctx)
		return err
	}
	w.conn = conn
	return nil
}

// readAnew has whoever reads connect again, too: what is open leads to where the writer's connection led, and a server that is
// not the primary any more may be gone without a word.
func (e *postgresEngine) readAnew() {
	for _, pool := range []*pgxpool.Pool{e.readers, e.finders} {
		if pool != nil { // it is there once the store is open
			pool.Reset()
		}
	}
}

// connecting marks the context in which a writer connects.
type connecting struct{}

// uncancelled is a dial for writers: pgx would have a statement cancelled whose answer did not come in time, by a
// connection of its own, and PostgreSQL then gives up waiting for its synchronous standby and shows what only it has.
func uncancelled(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if ctx.Value(connecting{}) == nil {
			return nil, errors.New("a writer's statement is not cancelled")
		}
		return dial(ctx, network, address)
	}
}

// drop lets go of the writer's connection; what was not committed on it is undone by the server.
func (w *postgresWriter) drop() {
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectWithin)
	defer cancel()
	w.conn.Close(ctx) // an error says that it was lost already
	select {
	case <-w.conn.PgConn().CleanupDone():
	case <-ctx.Done():
	}
	w.conn = nil
}

// reach connects, again and again, until ctx ends. Of a try that ctx has cut off there is nothing to be told, if there was one before.
func (w *postgresWriter) reach(ctx context.Context) (err error) {
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		tried := w.connect(ctx)
		if tried == nil {
			return nil
		}
		if err == nil || ctx.Err() == nil {
			err = tried
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

func (e *postgresEngine) begin(writer int, hope bool) (writing, error) {
	if e.standby {
		return nil, meaning{e.onlyReads(), others}
	}
	w := e.writing[writer]
	ctx, cancel := context.WithTimeout(context.Background(), reachWithin)
	defer cancel()
	if err := w.reach(ctx); err != nil {
		return nil, meaning{err, others}
	}
	return &postgresWriting{postgresWriter: w, conn: w.conn, queued: []asked{{sql: "BEGIN"}}, hope: hope}, nil
}

// postgresWriting is a transaction of a writer. What it is asked for is queued, and goes out with the next thing that needs an
// answer, all rows of a kind in one statement. A batch is written in one of two ways:
//
//	in hope    (optimistically) in one round trip, which ends with COMMIT. All that can refuse it is put in strict words
//	           (statement.strict, noneEarlier): where a name, a hold, a payment or an event is not as this process
//	           remembers it, or as it hopes, they fail, and all of the batch with them: errHope.
//	with care  in two: all that can refuse (Store.contest), whose answers say what each job has won; then the rest and COMMIT.
//	           A job that has won nothing is held for the next batch. If one has won a part, all is undone: errAnew.
//
// After errHope the batch is run again with care, and so are the next hundred (careful); likewise after one that held a job.
type postgresWriting struct {
	*postgresWriter
	conn   *pgx.Conn // stays the same, also when the writer has got another
	queued []asked   // goes out with the next flush
	sent   bool
	wrote  bool
	marked int // rows that markCommit has written, as far as it is answered
	hope   bool
	hoped  []*hoped
}

// hoped is rows of which it was hoped that they can be changed.
type hoped struct{ rows, changed int }

// flush sends what is queued and reads the answers.
func (w *postgresWriting) flush() error {
	if len(w.queued) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	w.sent = true
	err := converse(ctx, w.conn, w.queued)
	clear(w.queued)
	w.queued = w.queued[:0]
	// So strict statements fail: there is such a name, a payment's version is null (class 23: a constraint), or something is divided
	// by zero (22012).
	if class, state := sqlState(err); w.hope && (class == "23" || state == "22012") {
		return fmt.Errorf("%w: %w", errHope, err)
	}
	return w.engine.judge(w.conn, err)
}

func (w *postgresWriting) hopes() bool { return w.hope }

// missing is the error of a batch that was committed without a row that it should have changed. Nobody takes such rows away.
func (w *postgresWriting) missing() error {
	for _, h := range w.hoped {
		if h.changed != h.rows {
			return meaning{fmt.Errorf("%d of %d rows that were to be changed are not in the database: somebody else has removed them", h.rows-h.changed, h.rows), disk}
		}
	}
	return nil
}

func (w *postgresWriting) query(sql string, args []value, row func(record) error) error {
	w.wrote = w.wrote || !strings.HasPrefix(sql, "SELECT")
	w.queued = append(w.queued, w.engine.ask(sql, args, row))
	return w.flush()
}

func (w *postgresWriting) exec(sql string, args []value) (changed int, err error) {
	w.wrote = true
	ask := w.engine.ask(sql, args, nil)
	ask.changed = &changed
	w.queued = append(w.queued, ask)
	err = w.flush()
	return changed, err
}

func (w *postgresWriting) each(s *statement, rows [][]value, found func(int, record) error) error {
	if len(rows) == 0 {
		return nil
	}
	ask, err := w.engine.many(s).each(rows, found)
	w.queued = append(w.queued, ask)
	return err
}

func (w *postgresWriting) put(s *statement, rows [][]value) error {
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
		w.queued = append(w.queued, asked{sql: many.sql, args: args})
	}
	return nil
}

func (w *postgresWriting) bid(all ...*bid) error { return w.queue(all, asking) }

func (w *postgresWriting) bidNow(all ...*bid) error {
	if w.hope {
		return w.queue(all, w.hoping)
	}
	if err := w.bid(all...); err != nil {
		return err
	}
	return w.flush()
}

// queue queues bids, each in the words of asking or hoping.
func (w *postgresWriting) queue(all []*bid, words func(*manyRows, *bid) (asked, error)) error {
	for _, b := range all {
		b.unknown()
		if len(b.rows) == 0 {
			continue
		}
		w.wrote = true
		ask, err := words(w.engine.many(b.statement), b)
		if err != nil {
			return err
		}
		w.queued = append(w.queued, ask)
	}
	return nil
}

// asking has the server say which rows were won.
func asking(many *manyRows, b *bid) (asked, error) {
	first := make(map[string]int, len(b.rows)) // of several rows of one key only the first can be written
	rows := make([][]value, 0, len(b.rows))
	for i, row := range b.rows {
		key := many.keyOf(row)
		if _, later := first[key]; !later {
			first[key] = i
			rows = append(rows, row)
		}
	}
	args, err := many.columns(many.sorted(rows))
	return asked{sql: many.returning, args: args, row: func(r record) error {
		b.won[first[many.foundKey(r)]] = true
		return nil
	}}, err
}

// hoping takes it that all rows, each of a key of its own, are won.
func (w *postgresWriting) hoping(many *manyRows, b *bid) (asked, error) {
	for i := range b.won {
		b.won[i] = true
	}
	h := &hoped{rows: len(b.rows)}
	w.hoped = append(w.hoped, h)
	args, err := many.columns(many.sorted(b.rows))
	return asked{sql: many.strict, args: args, changed: &h.changed}, err
}

// markCommit is written with each batch: when its COMMIT is not answered, the row says whether it was done. A mark that
// does not raise the number ends its transaction, as n may not be null: the batch was looked for, and was not there.
// (txid_status would do it without a row, but not on the engines that spread over machines.)
const markCommit = `INSERT INTO committers (id, n, at) VALUES ($1, $2, $3)
	ON CONFLICT (id) DO UPDATE SET n = CASE WHEN committers.n < excluded.n THEN excluded.n END, at = excluded.at`

// lookCommit waits for a transaction that still holds the row, and is itself a write: when it is answered, what it
// saw is as durable as any answer is, on a synchronous standby too. fenceCommit follows in the same transaction: what the
// server still has of a batch that was not there, and would do later, fails at its mark. It leaves a number that no batch has:
// whoever looks once more, because the answer to this was lost too, must not take it for the batch's.
const (
	lookCommit  = `INSERT INTO committers (id, n, at) VALUES ($1, 0, 0) ON CONFLICT (id) DO UPDATE SET n = committers.n RETURNING n`
	fenceCommit = `UPDATE committers SET n = $2::bigint + 1 WHERE id = $1 AND n < $2`
)

// end queues what ends the transaction.
func (w *postgresWriting) end() {
	if w.wrote {
		w.tried += 2
		mark := asked{sql: markCommit, args: make([][]byte, 3), changed: &w.marked}
		for i, arg := range []value{bin(w.id), num(w.tried), moment(time.Now())} {
			mark.args[i] = arg.appendTo(nil)
		}
		w.queued = append(w.queued, mark)
	}
	w.queued = append(w.queued, asked{sql: "COMMIT"})
}

func (w *postgresWriting) commit() error {
	if !w.sent && len(w.queued) == 1 { // BEGIN: nothing was asked, nothing is to be written
		w.queued = nil
		return nil
	}
	w.end()
	err := w.flush()
	var server *pgconn.PgError
	switch {
	case err == nil:
		return w.missing()
	case !w.conn.IsClosed():
		return err // the server said no
	case !w.wrote:
		return err // done or not, it comes to the same
	case errors.As(err, &server) && (server.Severity == "ERROR" || ended(server) && w.marked == 0):
		return err // likewise: what comes before COMMIT has no answer, and the server gives none but in order
	case pgconn.SafeToRetry(err):
		return err // it was not sent
	}
	return w.resolve(err)
}

// ended reports that a session of PostgreSQL says itself that it ends, and not a pooler in front of it, which does not know
// what the server has done.
func ended(err *pgconn.PgError) bool { return err.Routine == "ProcessInterrupts" }

// resolve finds out what became of the last batch, whose COMMIT was not answered.
func (w *postgresWriter) resolve(cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), resolveWithin)
	defer cancel()
	w.engine.log.Warn("the database did not answer a commit; looking whether it was done", "error", cause)
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		n, err := w.lastCommitted(ctx)
		switch {
		case err == nil && n == w.tried:
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

// lastCommitted is the number of the last batch that was committed; none up to the present one is any more.
func (w *postgresWriter) lastCommitted(ctx context.Context) (n int64, err error) {
	if err := w.connect(ctx); err != nil {
		return 0, err
	}
	err = pgx.BeginFunc(ctx, w.conn, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, lookCommit, w.id).Scan(&n); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, fenceCommit, w.id, w.tried)
		return err
	})
	if err != nil {
		w.drop()
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
		w.drop() // then the server does it
	}
	return nil
}
