package store

import (
	"context"
	"slices"
)

// The seam between what is stored and where. SQL is written once, in the words that both engines
// know, with parameters ?1, ?2, …; an engine translates what it must.

// engine is a database.
type engine interface {
	// read runs f on a reader's connection. Readers never wait for writers.
	read(ctx context.Context, f func(querier) error) error
	// snapshot is read in which all queries see the same moment.
	snapshot(ctx context.Context, f func(querier) error) error
	// lookup runs a SELECT … FROM … WHERE … on a reader's connection for one row of arguments; an engine may run it for
	// several callers at once.
	lookup(ctx context.Context, s *statement, row []value, found func(record) error) error
	// writers is how many transactions that write may be open at the same time in this process.
	writers() int
	// begin opens a transaction that writes, the only one of its writer: 0, 1, 2 … With hope (see postgresWriting) it may take
	// it that nobody else has written meanwhile, and then fails with errHope where somebody has.
	begin(writer int, hope bool) (writing, error)
	// sync makes everything committed so far durable before it returns.
	sync() error
	// failure says what an error of a transaction means.
	failure(err error) failure
	// shared reports whether others write to the same data unnoticed: what is remembered may then be old.
	shared() bool
	// block reserves row numbers that nobody else gets: first to last. Only a shared engine has to be asked.
	block(ctx context.Context) (first, last int64, err error)
	// top is the last row number that anybody has reserved.
	top(ctx context.Context) (int64, error)
	// absent reports whether an error says that the database takes nothing from anybody for now.
	absent(err error) bool
	// explain turns an error into a sentence that says what happened and what to do.
	explain(err error) error
	close() error
}

// failure is what an error means for the batch it came up in.
type failure int

const (
	jobs   failure = iota // one of the jobs is at fault: each is tried alone
	again                 // nothing was stored, and nobody is at fault: the batch runs once more
	others                // another process does not let us in; nothing was stored
	disk                  // nobody can say what is stored: nothing more is acknowledged
)

// querier runs single statements. A record is good until row returns; row may be nil.
type querier interface {
	query(sql string, args []value, row func(record) error) error
}

// record is one row of a result.
type record interface {
	int(column int) int64
	text(column int) string
	blob(column int) []byte // a copy
	null(column int) bool
}

// writing is a transaction. After an error it can only be rolled back. What is done for many rows may be done later, but
// in the order in which it was asked for, before anything that is asked for singly, and before flush or commit returns.
type writing interface {
	querier
	// exec runs a single statement and says how many rows it changed.
	exec(sql string, args []value) (changed int, err error)
	// each runs a SELECT … FROM … WHERE … once for each row of arguments; what it finds comes in no order, with the
	// number of the row that it was found for.
	each(s *statement, rows [][]value, found func(i int, r record) error) error
	// put runs a statement once for each row of arguments, in no order among them.
	put(s *statement, rows [][]value) error
	// bid is put of statements that say which rows they could change.
	bid(all ...*bid) error
	// bidNow is bid whose answer is there when it returns, a hope where the transaction hopes.
	bidNow(all ...*bid) error
	// hopes reports whether what is remembered may be taken for what is stored, as long as statements go with it that fail
	// where it is not.
	hopes() bool
	// flush waits until all that was asked for is done.
	flush() error
	// commit ends the transaction; what comes after sees it, but only sync makes it durable.
	commit() error
	rollback() error
}

// bid is rows that can be written only where nobody was faster. won, as long as rows, says which were. Without a flush
// before it, a commit whose answer was lost leaves won as it is known.
type bid struct {
	statement *statement
	rows      [][]value
	won       []bool
}

// unknown makes room for won, in which nothing is won yet.
func (b *bid) unknown() {
	b.won = slices.Grow(b.won[:0], len(b.rows))[:len(b.rows)]
	clear(b.won)
}

// statement is for many rows of one kind. An engine may run it row by row, or for all rows at once
// with its parameters as arrays.
type statement struct {
	// sql is an INSERT … VALUES (?1, …), an UPDATE … AS t SET … WHERE …, or a SELECT … FROM … WHERE … (with nothing
	// behind its condition), for one row.
	sql string
	// kinds are the types of the parameters, in order: bigint, text or bytea.
	kinds string
	// key names the columns that the first parameters are compared with or put into. bid tells rows apart by them;
	// rows of one key are not written at once.
	key string
	// strict is sql that fails, and its transaction with it, where sql would leave a row as it is; but for a row that is not
	// there. What is bid for in hope has one.
	strict string
}
