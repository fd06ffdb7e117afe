package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

func (e *postgresEngine) read(ctx context.Context, f func(querier) error) error {
	return f(postgresReader{e, ctx})
}

// postgresReader runs each query on whichever connection is free, and again on another if it was lost, or did not
// answer in time, before there was an answer.
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
	return r.engine.insist(r.ctx, r.engine.readers, time.Now(), r.engine.readWithin, func(ctx context.Context, conn *pgx.Conn) (final bool, err error) {
		err = converse(ctx, conn, []asked{ask})
		return answered, err
	})
}

// insist reads again and again, for who has waited since then, while the database is away or says that the read was not to
// blame: as long as who writes waits. each bounds one try, for a server that has vanished without a word answers nothing, ever; 0: it may take as long as it takes.
func (e *postgresEngine) insist(ctx context.Context, pool *pgxpool.Pool, since time.Time, each time.Duration, read tryToRead) error {
	wait, until := firstWait, since.Add(reachWithin)
	for {
		final, err := read.once(ctx, pool, each)
		if err == nil {
			return nil
		}
		if final || ctx.Err() != nil || !passing(err) {
			return err
		}
		if !time.Now().Before(until) {
			e.missed(err)
			return e.explain(err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
			wait = min(2*wait, longestWait)
		}
	}
}

// tryToRead reads on a connection. A final outcome is not tried again.
type tryToRead func(ctx context.Context, conn *pgx.Conn) (final bool, err error)

func (read tryToRead) once(ctx context.Context, pool *pgxpool.Pool, within time.Duration) (final bool, err error) {
	if within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, within)
		defer cancel()
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	if final, err = read(ctx, conn.Conn()); outdated(err) {
		conn.Conn().Close(ctx)
	}
	return final, err
}

// passing reports whether a read that failed may succeed later.
func passing(err error) bool {
	class, _ := sqlState(err)
	return class == "" || class == "57" || class == "40" || outdated(err) || errors.As(err, new(*pgconn.ConnectError))
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
const lookWithin = 3 * time.Second

type lookup struct {
	ctx       context.Context // of who waits for it
	since     time.Time
	statement *statement
	row       []value
	found     []postgresRecord
	err       error
	done      chan struct{}
}

func (e *postgresEngine) lookup(ctx context.Context, s *statement, row []value, found func(record) error) error {
	l := &lookup{ctx: ctx, since: time.Now(), statement: s, row: row, done: make(chan struct{})}
	e.lookups.mu.Lock()
	e.lookups.waiting = append(e.lookups.waiting, l)
	begin := e.lookups.running < lookupsAtOnce
	if begin {
		e.lookups.running++
	}
	e.lookups.mu.Unlock()
	if begin {
		go e.serveLookups()
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

// serveLookups makes round trips until nobody waits.
func (e *postgresEngine) serveLookups() {
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
	return e.insist(context.Background(), e.finders, all[0].since, lookWithin, func(ctx context.Context, conn *pgx.Conn) (final bool, err error) {
		for _, l := range all {
			l.found = nil
		}
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
