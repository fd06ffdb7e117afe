package store

import (
	"context"
	"os"
	"time"

	"github.com/go-json-experiment/json"

	"holdfast/internal/payment"
	"holdfast/internal/tally"
)

// What there is to know of the store for who watches it: what it has done, and what waits in it.

// Stats is what the shared commit has done since the store was opened.
type Stats struct {
	Commits uint64 // transactions
	Jobs    uint64 // requests answered by them: Jobs / Commits share one
	Syncs   uint64 // times the disk was asked to make transactions durable
	Failed  uint64 // requests that nothing was stored of, by no fault of their own
	Waiting int    // requests handed in and not yet taken up
}

// Stats counts the work of the shared commit.
func (s *Store) Stats() (all Stats) {
	for _, c := range s.committers {
		all.Commits += c.commits.Load()
		all.Jobs += c.jobs.Load()
		all.Syncs += c.syncs.Load()
		all.Failed += c.failed.Load()
		all.Waiting += len(c.queue)
	}
	return all
}

// CommitTimes is how long each committer's batches took, from when they were taken up until they were durable and their callers
// answered.
func (s *Store) CommitTimes() (all []*tally.Times) {
	for _, c := range s.committers {
		all = append(all, &c.took)
	}
	return all
}

// FileSizes is how large the store's file and its log are, in bytes; false: it is not in a file, or cannot be looked at.
func (s *Store) FileSizes() (file, log int64, ok bool) {
	e, isFile := s.engine.(*sqliteEngine)
	if !isFile {
		return 0, 0, false
	}
	of, fileErr := os.Stat(e.path)
	ofLog, logErr := os.Stat(e.path + "-wal")
	if fileErr != nil || logErr != nil {
		return 0, 0, false
	}
	return of.Size(), ofLog.Size(), true
}

// Backlog is what waits in the store for a centre, a person, a moment or a shop.
type Backlog struct {
	Real, Test Doubts    // of real payments, and of those with test: true
	OldestDue  time.Time // since when the payment that is due the longest wants attention; zero: none does
	Waiting    int       // notifications that will be sent, now or later (again)
	Due        int       // of them, those that could be sent now
	OldestTold time.Time // since when the one of them that is due the longest is; zero: none is
}

// Doubts is payments with money in doubt.
type Doubts struct {
	Count     int
	ForPerson int       // of them, those that wait for a person
	Oldest    time.Time // when the operation that is in doubt the longest was begun; zero: none is
}

func (d *Doubts) add(op *payment.Operation) {
	d.Count++
	if op.WaitsForPerson() {
		d.ForPerson++
	}
	if d.Oldest.IsZero() || op.BegunAt.Before(d.Oldest) {
		d.Oldest = op.BegunAt
	}
}

// How much of what waits is looked at: all of it, as long as there is not more than that. A part is what is read at once, so
// that nobody who cuts the log waits for who reads.
const (
	mostLooked = 100_000
	lookedPart = 1000
)

// Backlog reads what waits. Only the indexes of what is due are walked, and of a payment under way only what it has to say of
// its open question is read.
func (s *Store) Backlog(ctx context.Context) (b Backlog, err error) {
	now := s.Now()
	if err = s.readDoubts(ctx, now, &b); err != nil {
		return b, err
	}
	err = s.engine.read(ctx, func(q querier) error {
		err := q.query(`SELECT p.due_at FROM payments p WHERE p.due_at <= ?1 ORDER BY p.due_at LIMIT 1`, []value{moment(now)}, func(r record) error {
			b.OldestDue = timeAt(r.int(0))
			return nil
		})
		if err != nil {
			return err
		}
		for _, of := range []struct {
			count *int
			until time.Time
		}{{&b.Waiting, never}, {&b.Due, now}} {
			err := q.query(`SELECT count(*) FROM (SELECT next_at FROM events WHERE next_at <= ?1 LIMIT ?2) AS waits`, []value{moment(of.until), num(mostLooked)}, func(r record) error {
				*of.count = int(r.int(0))
				return nil
			})
			if err != nil {
				return err
			}
		}
		return q.query(`SELECT next_at FROM events WHERE next_at <= ?1 ORDER BY next_at LIMIT 1`, []value{moment(now)}, func(r record) error {
			b.OldestTold = timeAt(r.int(0))
			return nil
		})
	})
	return b, err
}

// readDoubts walks the payments that are due one day: each that has an open question is among them. Those that are due first
// are looked at first, and those that wait for a person, which never are, in any case.
func (s *Store) readDoubts(ctx context.Context, now time.Time, b *Backlog) error {
	for _, walk := range []struct{ after, until int64 }{{0, micros(never) - 1}, {micros(never), micros(never)}} {
		at, more := Cursor{due: walk.after}, true
		for looked := 0; more && looked < mostLooked; looked += lookedPart {
			count, from := 0, at
			err := s.engine.read(ctx, func(q querier) error {
				return q.query(openAfter, []value{num(walk.until), num(from.due), num(from.seq), num(lookedPart)}, func(r record) error {
					count++
					at = Cursor{due: r.int(0), seq: r.int(1)}
					b.look(now, r.blob(2), r.blob(3))
					return nil
				})
			})
			if err != nil {
				return err
			}
			more = count == lookedPart
		}
	}
	return nil
}

// openAfter is a part of what is due one day, with what there is to know of open questions.
const openAfter = `SELECT p.due_at, p.seq, CASE WHEN p.open = '' THEN '' ELSE p.progress END,
	CASE WHEN p.open = '' THEN '' ELSE (SELECT t.terms FROM terms t WHERE t.payment = p.seq) END FROM payments p` + dueAfter

// look counts a payment if money is in doubt in it. One that cannot be read hides no other: whoever takes it up says so.
func (b *Backlog) look(now time.Time, progress, terms []byte) {
	if len(progress) == 0 {
		return
	}
	var p payment.Payment
	if json.Unmarshal(progress, &p.Progress) != nil || json.Unmarshal(terms, &p.Terms) != nil || p.Attempt == nil || !p.InDoubt(now) {
		return
	}
	if p.Terms.Test {
		b.Test.add(p.Open)
	} else {
		b.Real.add(p.Open)
	}
}
