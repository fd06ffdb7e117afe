package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/tally"
)

// The shared commit. Callers queue; the committer takes all that wait, at most maxBatch and each
// payment once, and runs three passes over them: load, decide, write. One commit makes all of it
// durable, and only then is anybody answered. A database that takes several transactions at once may
// have several committers, each for payments of its own.
//
// There are no savepoints. A job that is refused has written nothing, because deciding comes
// before writing. Should a write fail all the same, everything is rolled back and the jobs are run
// again one by one, so that one bad job takes no other down.
//
// The life of a job, by the functions that lead it. It
//
//	do      waits in the queue
//	run     comes into a batch
//	write   is refused, changes nothing, is written, or is held for the next batch
//	commit  is committed with its batch; or nothing of the batch is stored
//	insist    through nobody's fault (again, errHope, errAnew): the batch runs once more
//	serve     through a job's (jobs): each runs alone; else (others, disk) all are told so
//	hand    is remembered with what it wrote, and the next batch builds on that
//	sync    is on the disk
//	answer  is over, and its caller goes on

const (
	maxBatch = 256
	maxQueue = 4096 // jobs that wait; further callers wait to be let in
)

// How long it waits before a batch is run again that stood in somebody's way, at first and at most.
const (
	firstWait   = 2 * time.Millisecond
	longestWait = 500 * time.Millisecond
)

// insistFor is how long that goes on: then its callers are told that nothing is stored. Only a test changes it.
var insistFor = 30 * time.Second

// Decide looks at a payment and says what changes. It is pure: the store may run it again. now is
// the store's time, the same that is written.
type Decide func(p payment.Payment, now time.Time) (payment.Change, error)

// job is one caller's request. It is either about one payment, found by its id or by its shop's name for
// it, or a write of another kind (exec).
type job struct {
	id     payment.ID
	key    shopKey
	decide Decide
	create func(number int64, now time.Time) payment.Change // a payment that has no such name yet
	exec   func(w writing, now time.Time) error

	// What earlier runs of it have found.
	exists  bool    // what create would make, so that it is looked for by its name
	foreign holdKey // a hold that it wanted and another payment has
	stale   int     // how often it was decided on a payment that another process had changed meanwhile

	lastRun
	done chan struct{} // gets one when the caller may go on; nothing touches the job after that
}

// lastRun is what a job has come to since its batch was begun the last time.
type lastRun struct {
	generation uint64         // of the cache, when its transaction had begun
	row        row            // what was found; its seq is 0 where there is nothing
	known      bool           // row is what this process remembers
	held       bool           // nothing is written: it runs again with the next batch
	change     payment.Change // what was decided, and what is stored in the end
	made       bool           // the payment is new
	won        bool           // something of what others may have been faster with (contest)
	lost       bool           // likewise: with something another was faster
	fresh      []Delivery     // events that are claimed already, for who delivers them
	err        error
}

// spare are jobs of before: memory that is used again costs less than new memory.
var spare = sync.Pool{New: func() any { return new(job) }}

// spareJob is an empty job, for who gives it back when he has his answer and all that is in it.
func spareJob() *job { return spare.Get().(*job) }

func (j *job) giveBack() {
	*j = job{done: j.done}
	spare.Put(j)
}

// mostStale bounds how often a job is decided anew.
const mostStale = 100

// refused marks a job's own error: nothing was written for it, and the batch goes on.
type refused struct{ error }

// errAnew says that a part of a job could be written and another could not: nothing of the batch may stay.
var errAnew = errors.New("what was decided is not possible any more")

// errHope says that somebody else was faster where a transaction hoped that nobody was (postgresWriting).
var errHope = errors.New("another process was faster than was hoped")

// careful is how many batches are written with care after one that another process got in the way of: where that
// happens often, hope costs more than it gains.
const careful = 100

type committer struct {
	store   *Store
	number  int // of the engine's writer
	wary    int // how many batches more are written with care
	queue   chan *job
	written chan *batch // committed, and not known to be durable; one waits while another is synced
	ended   chan struct{}

	mu     sync.RWMutex // held shared while a job is handed in, so that close finds the queue complete
	closed bool
	rows   []rowRange // row numbers that are this committer's and not used yet

	commits, jobs atomic.Uint64
	syncs         atomic.Uint64
	failed        atomic.Uint64 // jobs that came to nothing by no fault of their own
	took          tally.Times   // a batch, from when it was taken up until its callers are answered

	lastBatch atomic.Uint64 // the number of the one that was committed last, or is being committed: no read has seen a later one
	durable   watermark
}

// watermark is the number of the last batch that is durable, with all before it.
type watermark struct {
	mu     sync.Mutex
	moved  sync.Cond // it was raised, or never will be again
	number uint64
}

func (m *watermark) raise(number uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.number = number
	m.moved.Broadcast()
}

// end is for when the store is broken: who waits for a batch learns that it will never be durable.
func (m *watermark) end() {
	m.mu.Lock()
	defer m.mu.Unlock() // who has just found the store whole waits by now, and is woken
	m.moved.Broadcast()
}

// batch is jobs that were committed together.
type batch struct {
	number uint64    // 1, 2, 3 …
	began  time.Time // when it was taken up
	wrote  bool      // there is something to make durable
	jobs   []*job
}

func newCommitter(s *Store, number int) *committer {
	c := &committer{store: s, number: number, queue: make(chan *job, maxQueue), written: make(chan *batch), ended: make(chan struct{})}
	c.durable.moved.L = &c.durable.mu
	return c
}

// do hands in a job and waits for it. Once a job is handed in, its outcome is waited for whatever
// becomes of ctx: a caller must not learn less than what is stored.
func (c *committer) do(ctx context.Context, j *job) error {
	if j.done == nil {
		j.done = make(chan struct{}, 1)
	}
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

func (c *committer) run() {
	go c.sync()
	defer close(c.written)
	var held []*job // came in for a payment that the running batch already had
	for {
		batch := held
		if len(batch) == 0 {
			j, ok := <-c.queue
			if !ok {
				return
			}
			batch = append(batch, j)
		}
		runtime.Gosched() // who is about to hand in a job comes first: it shares the commit
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
	began := time.Now()
	err := c.store.broken()
	if err == nil {
		err = c.insist(batch)
	}
	if err != nil {
		// One job's write failed; which one does not matter. Each gets a transaction of its own, unless
		// it is the disk that failed, or another process that does not let us in.
		oneByOne := len(batch) > 1 && c.store.engine.failure(err) == jobs
		for _, j := range batch {
			if oneByOne && c.store.broken() == nil {
				if err = c.insist([]*job{j}); err == nil {
					continue // stored, refused or held
				}
				oneByOne = c.store.engine.failure(err) == jobs // else the others would wait for the same in vain
			}
			j.lastRun = lastRun{err: cmp.Or(c.store.broken(), err)}
		}
	}
	return c.hand(batch, began)
}

// insist commits a batch, again and again as long as nobody is at fault that it fails.
func (c *committer) insist(batch []*job) (err error) {
	wait, until := firstWait, time.Now().Add(insistFor)
	for range mostStale {
		err = c.commit(batch)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errHope):
			c.wary = careful
		case errors.Is(err, errAnew):
		case c.store.engine.failure(err) == again && time.Now().Before(until):
			time.Sleep(wait)
			wait = min(2*wait, longestWait)
		default:
			return c.toldNo(err)
		}
	}
	return c.toldNo(err)
}

// toldNo is what callers are told whose batch came to nothing.
func (c *committer) toldNo(err error) error {
	if f := c.store.engine.failure(err); f != again && f != others {
		return err
	}
	c.store.missed(err)
	return c.store.engine.explain(err)
}

// hand passes on what is committed, or refused, and returns what is held. The next batch builds on it at once; the
// callers are answered when it is durable.
func (c *committer) hand(all []*job, began time.Time) (held []*job) {
	b := &batch{number: c.lastBatch.Load(), began: began}
	for _, j := range all {
		if j.held {
			held = append(held, j)
			continue
		}
		b.jobs = append(b.jobs, j)
		b.wrote = b.wrote || j.err == nil && (j.exec != nil || !j.change.Empty())
		if j.changed() {
			j.row.batch = b.number
			c.store.cache.put(j.row, j.generation)
		}
	}
	c.written <- b
	return held
}

// sync makes batches durable, one behind the other, and answers their callers. While it waits for the disk
// the next batch is written.
func (c *committer) sync() {
	defer close(c.ended)
	var err error // of the first sync that failed: a later one that succeeds proves nothing
	for b := range c.written {
		if err == nil && b.wrote {
			c.syncs.Add(1)
			if err = c.store.failed(c.store.engine.sync()); err == nil {
				c.store.cfg.At(Durable)
			}
		}
		if err == nil {
			c.durable.raise(b.number)
		} else {
			for _, j := range b.jobs {
				j.err = err // a refusal too: it may rest on what is not on the disk
			}
			c.durable.end()
		}
		c.took.Add(time.Since(b.began))
		c.answer(b.jobs)
	}
}

// await returns when a batch is durable, or never will be. What is read is shown to nobody before that.
func (c *committer) await(number uint64) error {
	d := &c.durable
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.number < number && c.store.broken() == nil {
		d.moved.Wait()
	}
	if d.number < number {
		return c.store.broken()
	}
	return nil
}

// changed reports that the job has changed its payment.
func (j *job) changed() bool { return j.err == nil && j.exec == nil && !j.change.Empty() }

// answer lets the callers go on.
func (c *committer) answer(jobs []*job) {
	news, due := false, false // events that nobody is handed, and payments that are due already
	now := c.store.Now()
	for _, j := range jobs {
		if j.err != nil && !errors.As(j.err, new(refused)) {
			c.failed.Add(1)
		}
		if !j.changed() {
			continue
		}
		if len(j.fresh) > 0 {
			c.store.flying.add(now, j.fresh[0].Event.At.Add(time.Duration(c.store.lease.Load())), j.fresh)
		}
		for _, d := range j.fresh {
			c.store.fresh <- d // there is room: eventRow saw to it
		}
		news = news || len(j.change.Events) > len(j.fresh)
		at := j.change.Payment.Due()
		due = due || !at.IsZero() && !at.After(now)
	}
	if news {
		wake(c.store.events)
	}
	if due {
		wake(c.store.due)
	}
	for _, j := range jobs {
		j.done <- struct{}{}
	}
}

// commit runs the batch in one transaction. An error means that nothing of it is stored.
func (c *committer) commit(batch []*job) error {
	w, err := c.store.engine.begin(c.number, c.wary == 0)
	if err != nil {
		return c.store.failed(err)
	}
	if err = c.write(w, batch); err == nil {
		// From here on the outcome is the disk's. Until it says yes, nobody is told yes, readers included.
		c.lastBatch.Add(1)
		c.store.cfg.At(BeforeCommit)
		if err = w.commit(); err == nil {
			c.store.cfg.At(Committed)
			c.commits.Add(1)
			for _, j := range batch {
				if !j.held {
					c.jobs.Add(1)
				}
			}
			c.wary = max(c.wary-1, 0)
			return nil
		}
	}
	if back := w.rollback(); back != nil {
		err = errors.Join(err, back)
	}
	return c.store.failed(err)
}

// write runs the three passes.
func (c *committer) write(w writing, batch []*job) error {
	now, generation := c.store.Now(), c.store.cache.generation()
	for _, j := range batch {
		j.lastRun = lastRun{generation: generation}
	}
	if err := c.find(w, batch); err != nil {
		return err
	}
	deciding, making := choose(batch)
	if err := c.reserve(making); err != nil {
		return err
	}
	for _, j := range deciding {
		c.decide(j, now)
	}
	if !c.store.Alone() {
		if err := c.decideAnew(w, deciding, now); err != nil {
			return err
		}
	}
	changed := slices.DeleteFunc(deciding, func(j *job) bool { return !j.changed() })
	if err := c.store.writeChanges(w, changed); err != nil {
		return err
	}
	for _, j := range changed {
		if j.held { // another was faster
			c.wary = careful
		}
	}
	for _, j := range batch {
		if j.exec == nil {
			continue
		}
		err := j.exec(w, now)
		if errors.As(err, new(refused)) {
			j.err = err
		} else if err != nil {
			return err
		}
	}
	return nil
}

// choose returns the jobs of a batch that decide in this run, and how many of them make a payment. Of several for one payment, or
// for one name that nobody has yet, it is the first; the others are held.
func choose(batch []*job) (deciding []*job, making int) {
	payments := make(map[int64]bool, len(batch))
	names := make(map[shopKey]bool)
	for _, j := range batch {
		switch {
		case j.exec != nil:
		case j.create != nil && names[j.key]:
			j.exists, j.held = true, true
		case j.create != nil && j.row.seq == 0: // nobody has the name, or who was to make it was refused
			names[j.key], j.exists = true, false
			deciding = append(deciding, j)
		case j.row.seq == 0:
			j.err = refused{ErrNotFound}
		case payments[j.row.seq]:
			j.held = true
		default:
			payments[j.row.seq] = true
			deciding = append(deciding, j)
		}
	}
	return deciding, len(names)
}

// find gives each job the payment that it is about, as this process remembers it or as it is stored.
func (c *committer) find(w writing, batch []*job) error {
	var byID, byName []*job
	for _, j := range batch {
		switch {
		case j.exec != nil:
		case j.create == nil:
			if j.row, j.known = c.store.cache.byID(j.id); !j.known {
				byID = append(byID, j)
			}
		case j.exists:
			byName = append(byName, j)
		}
	}
	if len(byID)+len(byName) == 0 {
		return nil
	}
	err := c.read(w, paymentsByID, byID, func(j *job) []value { return []value{bin(j.id[:])} })
	if err == nil {
		err = c.read(w, paymentsByName, byName, func(j *job) []value { return []value{num(j.key.shop), str(j.key.id)} })
	}
	if err == nil {
		err = w.flush()
	}
	return err
}

func (c *committer) read(w writing, s *statement, batch []*job, args func(*job) []value) error {
	rows := make([][]value, len(batch))
	for i, j := range batch {
		rows[i] = args(j)
	}
	return w.each(s, rows, func(i int, rec record) (err error) {
		batch[i].row, err = c.store.scan(rec)
		batch[i].known = false
		return err
	})
}

// decideAnew decides again, on the payment as it is stored, what came to nothing on a payment as it was
// remembered, where another gateway has changed it. (What came to something is written only if the payment is still
// as it was decided on.)
func (c *committer) decideAnew(w writing, decided []*job, now time.Time) error {
	var doubtful []*job
	for _, j := range decided {
		if j.known && (j.err != nil || j.change.Empty()) {
			doubtful = append(doubtful, j)
		}
	}
	if len(doubtful) == 0 {
		return nil
	}
	err := c.read(w, paymentsIfChanged, doubtful, func(j *job) []value { return []value{num(j.row.seq), num(j.row.payment.Version)} })
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		return err
	}
	for _, j := range doubtful {
		if !j.known {
			c.decide(j, now)
		}
	}
	return nil
}

// decide runs the caller's closure and checks what it decided. Whatever goes wrong is the job's own.
func (c *committer) decide(j *job, now time.Time) {
	defer func() {
		if p := recover(); p != nil {
			c.store.cfg.Log.Error("a decision panicked; nothing was stored", "panic", p, "stack", string(debug.Stack()))
			j.err = refused{fmt.Errorf("a decision panicked: %v", p)}
		}
	}()
	j.err = c.decision(j, now)
}

func (c *committer) decision(j *job, now time.Time) error {
	if j.create != nil && !j.exists {
		seq := c.nextSeq()
		j.change = j.create(c.store.numberOf(seq), now)
		j.row, j.made = row{seq: seq}, true
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
