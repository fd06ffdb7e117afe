package store

import "context"

// The seam between what is stored and where. SQL is written once, in the words that both engines
// know, with parameters ?1, ?2, …; an engine translates what it must.

// engine is a database.
type engine interface {
	// read runs f on a reader's connection. Readers never wait for writers.
	read(ctx context.Context, f func(querier) error) error
	// snapshot is read in which all queries see the same moment.
	snapshot(ctx context.Context, f func(querier) error) error
	// begin opens a transaction that writes. One at a time is open in this process.
	begin() (writing, error)
	// sync makes everything committed so far durable before it returns.
	sync() error
	// failure says what an error of a transaction means.
	failure(err error) failure
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
	query(sql string, args []any, row func(record) error) error
}

// record is one row of a result.
type record interface {
	int(column int) int64
	text(column int) string
	blob(column int) []byte // a copy
	null(column int) bool
}

// writing is a transaction. After an error it can only be rolled back.
type writing interface {
	querier
	// exec runs a single statement and says how many rows it changed.
	exec(sql string, args []any) (changed int, err error)
	// put runs a statement once for each row of arguments, in no order among them.
	put(s *statement, rows [][]any) error
	// claim is put of a statement that says which rows it could change: hit is as long as rows.
	claim(s *statement, rows [][]any) (hit []bool, err error)
	// commit ends the transaction; what comes after sees it, but only sync makes it durable.
	commit() error
	rollback() error
}

// statement writes many rows of one kind. An engine may run it row by row, or for all rows at once
// with its parameters as arrays.
type statement struct {
	// sql is an INSERT … VALUES (?1, …) or an UPDATE … AS t SET … WHERE …, for one row.
	sql string
	// kinds are the types of the parameters, in order: bigint, text or bytea.
	kinds string
	// key names the columns that the first parameters are compared with or put into; claim tells rows apart by them.
	key string
}
