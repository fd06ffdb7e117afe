package store

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"

	"holdfast/internal/payment"
)

// The shared commit. Callers queue; the committer takes all that wait, at most maxBatch and each
// payment once, and runs three passes over them: load, decide, write. One commit makes all of it
// durable, and only then is anybody answered.
//
// There are no savepoints. A job that is refused has written nothing, because deciding comes
// before writing. Should a write fail all the same, everything is rolled back and the jobs are run
// again one by one, so that one bad job takes no other down.

const (
	maxBatch = 256
	maxQueue = 4096 // jobs that wait; further callers wait to be let in
)

// Decide looks at a payment and says what changes. It is pure: the store may run it again. now is
// the store's time, the same that is written.
type Decide func(p payment.Payment, now time.Time) (payment.Change, error)

// job is one caller's request. It is either about one payment (find, decide) or a write of
// another kind (exec).
type job struct {
	find   func(conn *sqlite.Conn) (row, error)
	decide Decide
	create func(number int64, now time.Time) payment.Change // where find finds nothing
	exec   func(conn *sqlite.Conn, now time.Time) error

	row    row            // what was found
	change payment.Change // what was decided, and what is stored in the end
	made   bool           // the payment is new
	fresh  []Delivery     // events that are claimed already, for who delivers them
	err    error
	done   chan struct{}
}

// refused marks a job's own error: nothing was written for it, and the batch goes on.
type refused struct{ error }

func (r refused) Unwrap() error { return r.error }

type committer struct {
	conn  *sqlite.Conn
	store *Store
	queue chan *job
	ended chan struct{}
	gate  sync.Mutex // held while a batch is committed, and while the log is cut: SQLite's own lock is never free under load

	mu     sync.RWMutex // held shared while a job is handed in, so that close finds the queue complete
	closed bool
	cause  atomic.Pointer[error] // of ErrBroken

	foreign int64 // SQLite's count of other connections' writes, as last seen

	commits, jobs atomic.Uint64
}

func newCommitter(conn *sqlite.Conn, s *Store) *committer {
	return &committer{conn: conn, store: s, queue: make(chan *job, maxQueue), ended: make(chan struct{})}
}

// do hands in a job and waits for it. Once a job is handed in, its outcome is waited for whatever
// becomes of ctx: a caller must not learn less than what is stored.
func (c *committer) do(ctx context.Context, j *job) error {
	j.done = make(chan struct{})
	c.mu.RLock()
	if c.closed {
		c.mu.RUnlock()
		return ErrClosed
	}
	select {
	case c.queue <- j:
		c.mu.RUnlock()
	case <-ctx.Done():
		c.mu.RUnlock()
		return ctx.Err()
	}
	<-j.done
	var r refused
	if errors.As(j.err, &r) {
		return r.error
	}
	return j.err
}

// close takes no more jobs and waits until those handed in are answered.
func (c *committer) close() {
	c.mu.Lock()
	c.closed = true
	close(c.queue)
	c.mu.Unlock()
	<-c.ended
}

func (c *committer) broken() error {
	if cause := c.cause.Load(); cause != nil {
		return fmt.Errorf("%w: %w", ErrBroken, *cause)
	}
	return nil
}

func (c *committer) run() {
	defer close(c.ended)
	var held []*job // came in for a payment that the running batch already had
	idle := time.NewTicker(foreignEvery)
	defer idle.Stop()
	for {
		batch := held
		held = nil
		if len(batch) == 0 {
			select {
			case j, ok := <-c.queue:
				if !ok {
					return
				}
				batch = append(batch, j)
			case <-idle.C:
				if err := c.lookForeign(); err != nil {
					c.store.cfg.Log.Warn("the store cannot tell whether another process wrote", "error", err)
				}
				continue
			}
		}
	more:
		for len(batch) < maxBatch {
			select {
			case j, ok := <-c.queue:
				if !ok {
					break more
				}
				batch = append(batch, j)
			default:
				break more
			}
		}
		held = c.serve(batch)
	}
}

// serve commits a batch, answers its jobs and returns those that must wait for the next one.
func (c *committer) serve(batch []*job) (held []*job) {
	if err := c.broken(); err != nil {
		for _, j := range batch {
			j.err = err
			close(j.done)
		}
		return nil
	}
	c.gate.Lock()
	taken, held, err := c.commit(batch)
	if err != nil {
		// One job's write failed; which one does not matter. Each gets a transaction of its own, unless
		// it is the disk that failed, or another process that does not let us in.
		oneByOne := len(taken) > 1 && sqlite.ErrCode(err).ToPrimary() != sqlite.ResultBusy
		for _, j := range taken {
			if oneByOne && c.broken() == nil {
				if _, _, err = c.commit([]*job{j}); err == nil {
					continue // stored, or refused: j.err says which
				}
			}
			if j.err = c.broken(); j.err == nil {
				j.err = err
			}
		}
	}
	c.gate.Unlock()
	told, due := false, false
	now := c.store.Now()
	for _, j := range taken {
		if j.err != nil || j.find == nil || j.change.Empty() {
			continue
		}
		c.store.cache.put(row{seq: j.row.seq, due: j.row.due, payment: j.change.Payment})
		for _, d := range j.fresh {
			c.store.fresh <- d // there is room: writeEvent saw to it
		}
		told = told || len(j.change.Events) > len(j.fresh)
		at := j.change.Payment.Due()
		due = due || !at.IsZero() && !at.After(now)
	}
	if told {
		wake(c.store.events)
	}
	if due {
		wake(c.store.due)
	}
	for _, j := range taken {
		close(j.done)
	}
	return held
}

// commit runs the batch in one transaction. taken are the jobs it ran, held those whose payment
// another job of the batch had already. An error means that nothing of the batch is stored.
func (c *committer) commit(batch []*job) (taken, held []*job, err error) {
	if err := script1(c.conn, "BEGIN IMMEDIATE"); err != nil {
		return batch, nil, c.failed(err)
	}
	taken = batch
	if err = c.lookForeign(); err == nil {
		taken, held, err = c.write(batch)
	}
	if err == nil {
		// From here on the outcome is the disk's. If it does not say yes, nobody is told yes.
		if err = script1(c.conn, "COMMIT"); err == nil {
			c.commits.Add(1)
			c.jobs.Add(uint64(len(taken)))
			return taken, held, nil
		}
		c.fail(err)
	}
	if !c.conn.AutocommitEnabled() {
		if back := script1(c.conn, "ROLLBACK"); back != nil {
			c.fail(back)
		}
	}
	return append(taken, held...), nil, c.failed(err)
}

// lookForeign empties the cache if another process has written since the last look.
func (c *committer) lookForeign() error {
	return query(c.conn, "PRAGMA data_version", nil, func(row *sqlite.Stmt) error {
		if version := row.ColumnInt64(0); version != c.foreign {
			c.foreign = version
			c.store.cache.clear()
		}
		return nil
	})
}

// failed notes an error that is the disk's and not a job's.
func (c *committer) failed(err error) error {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultIOErr, sqlite.ResultCorrupt, sqlite.ResultNotADB, sqlite.ResultReadOnly, sqlite.ResultFull:
		c.fail(err)
		return c.broken()
	}
	return err
}

// fail ends all acknowledgements: after a failed sync nobody can say what is on the disk.
func (c *committer) fail(err error) {
	cause := explain(err, c.store.cfg.Dir)
	if c.cause.CompareAndSwap(nil, &cause) {
		c.store.cfg.Log.Error("the store failed; nothing more is acknowledged until a restart", "error", err)
	}
}

// write runs the three passes.
func (c *committer) write(batch []*job) (taken, held []*job, err error) {
	now := c.store.Now()
	seen := make(map[int64]bool, len(batch))
	created := make(map[shopKey]bool)
	for _, j := range batch {
		j.err, j.made, j.fresh = nil, false, nil
		if j.find == nil {
			taken = append(taken, j)
			continue
		}
		j.row, err = j.find(c.conn)
		switch {
		case errors.Is(err, ErrNotFound) && j.create != nil && created[j.row.key]:
			held = append(held, j)
			continue
		case errors.Is(err, ErrNotFound) && j.create != nil:
			created[j.row.key] = true
		case errors.Is(err, ErrNotFound):
			j.err = refused{ErrNotFound}
		case err != nil:
			return batch, nil, err
		case seen[j.row.seq]:
			held = append(held, j)
			continue
		default:
			seen[j.row.seq] = true
		}
		taken = append(taken, j)
	}
	for _, j := range taken {
		if j.err == nil && j.find != nil {
			j.err = c.decide(j, now)
		}
	}
	for _, j := range taken {
		if j.err != nil {
			continue
		}
		if j.exec != nil {
			err = j.exec(c.conn, now)
		} else if !j.change.Empty() {
			err = c.store.writeChange(c.conn, j)
		}
		var r refused
		switch {
		case errors.As(err, &r):
			j.err = err
		case err != nil:
			return append(taken, held...), nil, err
		}
	}
	return taken, held, nil
}

// decide runs the caller's closure and checks what it decided. Whatever goes wrong is the job's own.
func (c *committer) decide(j *job, now time.Time) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.store.cfg.Log.Error("a decision panicked; nothing was stored", "panic", p, "stack", string(debug.Stack()))
			err = refused{fmt.Errorf("a decision panicked: %v", p)}
		}
	}()
	if j.row.seq == 0 {
		seq := c.store.nextSeq()
		j.change = j.create(c.store.numberOf(seq), now)
		j.row.seq, j.made = seq, true
		if err := j.change.Check(nil); err != nil {
			return refused{err}
		}
		return nil
	}
	if j.decide == nil {
		j.change = payment.Change{Payment: j.row.payment}
		return nil
	}
	change, err := j.decide(j.row.payment, now)
	if err != nil {
		return refused{err}
	}
	if !change.Empty() {
		if err := change.Check(&j.row.payment); err != nil {
			return refused{err}
		}
	}
	j.change = change
	return nil
}

// Stats is what the shared commit has done since the store was opened.
type Stats struct {
	Commits uint64 // transactions made durable
	Jobs    uint64 // requests answered by them: Jobs / Commits share one
	Waiting int    // requests handed in and not yet taken up
}

// Stats counts the work of the shared commit.
func (s *Store) Stats() Stats {
	c := s.committer
	return Stats{Commits: c.commits.Load(), Jobs: c.jobs.Load(), Waiting: len(c.queue)}
}

// script1 runs one prepared statement without arguments.
func script1(conn *sqlite.Conn, sql string) error { return query(conn, sql, nil, nil) }
