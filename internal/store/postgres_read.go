package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

func (e *postgresEngine) read(ctx context.Context, f func(querier) error) error {
	return f(postgresReader{e, ctx})
}

// postgresReader runs each query on whichever connection is free, and once more on another if it was lost
// before there was an answer.
type postgresReader struct {
	engine *postgresEngine
	ctx    context.Context
}

func (r postgresReader) query(sql string, args []value, row func(record) error) error {
	answered := false
	ask := r.engine.ask(sql, args, func(rec record) error {
		answered = true
		return row(rec)
	})
	return insist(r.ctx, r.engine.readers, func(conn *pgx.Conn) (final bool, err error) {
		err = converse(r.ctx, conn, []asked{ask})
		return answered, err
	})
}

// insist reads on whichever connection of a pool is free, and again if that was lost, or the server said that the read was not
// to blame, unless it says that its outcome is final.
func insist(ctx context.Context, pool *pgxpool.Pool, read func(conn *pgx.Conn) (final bool, err error)) error {
	wait := firstWait
	for try := 1; ; try++ {
		final := false
		conn, err := pool.Acquire(ctx)
		if err == nil {
			if final, err = read(conn.Conn()); outdated(err) {
				conn.Conn().Close(ctx)
			}
			conn.Release()
		}
		if err == nil || final || ctx.Err() != nil || try == readerTries || !passing(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
			wait *= 4
		}
	}
}

// passing reports whether a read that failed may succeed later.
func passing(err error) bool {
	class, _ := sqlState(err)
	return class == "" || class == "57" || class == "40" || outdated(err)
}

// lookups are reads of single payments. Those that come while one round trip is under way go together with the next.
type lookups struct {
	mu      sync.Mutex
	waiting []*lookup
	running int
}

// lookupsAtOnce is how many such round trips may be under way.
const lookupsAtOnce = 1

// lookWithin is how long one may take before it is made once more, on another connection.
const lookWithin = answerWithin / readerTries

type lookup struct {
	ctx       context.Context // of who waits for it
	statement *statement
	row       []value
	found     []postgresRecord
	err       error
	done      chan struct{}
}

func (e *postgresEngine) lookup(ctx context.Context, s *statement, row []value, found func(record) error) error {
	l := &lookup{ctx: ctx, statement: s, row: row, done: make(chan struct{})}
	e.lookups.mu.Lock()
	e.lookups.waiting = append(e.lookups.waiting, l)
	begin := e.lookups.running < lookupsAtOnce
	if begin {
		e.lookups.running++
	}
	e.lookups.mu.Unlock()
	if begin {
		go e.lookUp()
	}
	select {
	case <-l.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if l.err != nil {
		return l.err
	}
	for _, r := range l.found {
		if err := found(r); err != nil {
			return err
		}
	}
	return nil
}

// lookUp makes round trips until nobody waits.
func (e *postgresEngine) lookUp() {
	for {
		e.lookups.mu.Lock()
		e.lookups.waiting = slices.DeleteFunc(e.lookups.waiting, func(l *lookup) bool { return l.ctx.Err() != nil })
		some := slices.Clone(e.lookups.waiting[:min(len(e.lookups.waiting), maxBatch)])
		e.lookups.waiting = slices.Delete(e.lookups.waiting, 0, len(some))
		if len(some) == 0 {
			e.lookups.waiting = nil
			e.lookups.running--
			e.lookups.mu.Unlock()
			return
		}
		e.lookups.mu.Unlock()
		err := e.together(some)
		for _, l := range some {
			if l.err = err; err != nil && len(some) > 1 && !passing(err) {
				l.err = e.together([]*lookup{l}) // what one of them asked for is at fault
			}
			close(l.done)
		}
	}
}

func (e *postgresEngine) together(all []*lookup) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	of := make(map[*statement][]*lookup, 2)
	for _, l := range all {
		of[l.statement] = append(of[l.statement], l)
	}
	var asks []asked
	for s, some := range of {
		rows := make([][]value, len(some))
		for i, l := range some {
			rows[i] = l.row
		}
		ask, err := e.many(s).each(rows, func(i int, r record) error {
			some[i].found = append(some[i].found, r.(postgresRecord).clone())
			return nil
		})
		if err != nil {
			return err
		}
		asks = append(asks, ask)
	}
	return insist(ctx, e.finders, func(conn *pgx.Conn) (final bool, err error) {
		for _, l := range all {
			l.found = nil
		}
		ctx, cancel := context.WithTimeout(ctx, lookWithin)
		defer cancel()
		return false, converse(ctx, conn, asks)
	})
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

func (s postgresSnapshot) query(sql string, args []value, row func(record) error) error {
	ask := s.engine.ask(sql, args, row)
	return converse(s.ctx, s.conn, []asked{ask})
}
