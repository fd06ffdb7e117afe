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

	mu     sync.RWMutex // held shared while a job is handed in, so that close finds the queue complete
	closed bool
	cause  atomic.Pointer[error] // of ErrBroken

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

func (c *committer) close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	close(c.queue)
	c.mu.Unlock()
	<-c.ended
	return c.conn.Close()
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
	for {
		batch := held
		held = nil
		if len(batch) == 0 {
			j, ok := <-c.queue
			if !ok {
				return
			}
			batch = append(batch, j)
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
	taken, held, err := c.commit(batch)
	if err != nil && len(taken) > 1 {
		// One job's write failed; which one does not matter. Each gets a transaction of its own.
		for _, j := range taken {
			_, _, j.err = c.commit([]*job{j})
		}
	} else if err != nil {
		taken[0].err = err
	}
	told, due := false, false
	now := c.store.Now()
	for _, j := range taken {
		if j.err == nil && j.find != nil {
			told = told || len(j.change.Events) > 0
			at := j.change.Payment.Due()
			due = due || !at.IsZero() && !at.After(now)
		}
		close(j.done)
	}
	if told {
		wake(c.store.events)
	}
	if due {
		wake(c.store.due)
	}
	return held
}

// commit runs the batch in one transaction. taken are the jobs it ran, held those whose payment
// another job of the batch had already. An error means that nothing of the batch is stored.
func (c *committer) commit(batch []*job) (taken, held []*job, err error) {
	if err := script1(c.conn, "BEGIN IMMEDIATE"); err != nil {
		return batch, nil, c.failed(err)
	}
	taken, held, err = c.write(batch)
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
		j.err = nil
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
