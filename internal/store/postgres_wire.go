package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// What goes over the wire: statements that a connection has prepared once, many sent in one go, with arguments and
// results as PostgreSQL keeps them, in binary.

// asked is a statement that is sent with others.
type asked struct {
	sql     string
	args    [][]byte           // nil is null
	row     func(record) error // gets each row of the result; may be nil
	changed *int               // gets how many rows were changed; may be nil
}

// ask is a single statement with its arguments.
func (e *postgresEngine) ask(sql string, args []value, row func(record) error) asked {
	a := asked{sql: e.text(sql, args), args: make([][]byte, len(args)), row: row}
	for i, arg := range args {
		if arg.kind != isNull {
			a.args[i] = arg.appendTo(make([]byte, 0, arg.size()))
		}
	}
	return a
}

var inBinary = []int16{pgx.BinaryFormatCode} // all of them

// converse sends statements in one go and reads what is answered. The error is the server's, or the connection's; where
// neither has one, it is the first that a row's function returned.
func converse(ctx context.Context, conn *pgx.Conn, all []asked) error {
	prepared := make([]*pgconn.StatementDescription, len(all))
	for i := range all {
		var err error
		if prepared[i], err = conn.Prepare(ctx, all[i].sql, all[i].sql); err != nil { // known already, but for the first time
			return err
		}
	}
	line := conn.PgConn().StartPipeline(ctx)
	for i := range all {
		line.SendQueryStatement(prepared[i], all[i].args, inBinary, inBinary)
	}
	err := line.Sync()
	var caller error
	for i := 0; err == nil && i < len(all); i++ {
		caller, err = answer(line, &all[i], caller)
	}
	if closing := line.Close(); err == nil { // it reads what is left
		err = closing
	}
	if err == nil {
		err = caller
	}
	return err
}

func answer(line *pgconn.Pipeline, a *asked, before error) (caller, err error) {
	caller = before
	got, err := line.GetResults()
	if err != nil {
		return caller, err
	}
	results, ok := got.(*pgconn.ResultReader)
	if !ok {
		return caller, fmt.Errorf("the database answered a statement with %T", got)
	}
	for results.NextRow() {
		if a.row != nil && caller == nil {
			caller = a.row(postgresRecord(results.Values()))
		}
	}
	tag, err := results.Close()
	if a.changed != nil {
		*a.changed = int(tag.RowsAffected())
	}
	return caller, err
}

// postgresRecord is a row of a result. Whole numbers, texts and bytes are all that the store keeps.
type postgresRecord [][]byte

func (r postgresRecord) text(column int) string { return string(r[column]) }
func (r postgresRecord) blob(column int) []byte { return slices.Clone(r[column]) }
func (r postgresRecord) null(column int) bool   { return r[column] == nil }
func (r postgresRecord) int(column int) int64 {
	switch raw := r[column]; len(raw) {
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

// clone is a record that stays.
func (r postgresRecord) clone() postgresRecord {
	size := 0
	for _, value := range r {
		size += len(value)
	}
	all := make([]byte, 0, size)
	kept := make(postgresRecord, len(r))
	for i, value := range r {
		if value != nil {
			all = append(all, value...)
			kept[i] = all[len(all)-len(value):]
		}
	}
	return kept
}

// appendTo appends a value that is not null, as the server takes it. No bytes are bytes too.
func (v value) appendTo(b []byte) []byte {
	if v.kind == isWhole {
		return binary.BigEndian.AppendUint64(b, uint64(v.whole))
	}
	return append(b, v.text...)
}

// size is how many bytes appendTo appends.
func (v value) size() int {
	if v.kind == isWhole {
		return 8
	}
	return len(v.text)
}

// each is a SELECT for many rows; found gets with each record the number of the row that it is for.
func (m *manyRows) each(rows [][]value, found func(i int, r record) error) (asked, error) {
	args, err := m.columns(rows)
	return asked{sql: m.sql, args: append(args, numbers(len(rows))), row: func(r record) error {
		return found(int(r.int(len(r.(postgresRecord))-1)), r)
	}}, err
}

// columns turns rows into arrays, one a column.
func (m *manyRows) columns(rows [][]value) ([][]byte, error) {
	args := make([][]byte, len(m.kinds), len(m.kinds)+1)
	for c, kind := range m.kinds {
		size := 0
		for _, row := range rows {
			size += 4 + row[c].size()
		}
		b := beginArray(size, kind, len(rows))
		for _, row := range rows {
			switch is := row[c].kind; {
			case is == isNull:
				b = binary.BigEndian.AppendUint32(b, 1<<32-1)
			case is.String() == kind:
				b = binary.BigEndian.AppendUint32(b, uint32(row[c].size()))
				b = row[c].appendTo(b)
			default:
				return nil, fmt.Errorf("a %s stands where a %s should", is, kind)
			}
		}
		args[c] = b
	}
	return args, nil
}

// numbers is the array 0, 1, 2 … n-1.
func numbers(n int) []byte {
	b := beginArray(12*n, "bigint", n)
	for i := range n {
		b = binary.BigEndian.AppendUint32(b, 8)
		b = binary.BigEndian.AppendUint64(b, uint64(i))
	}
	return b
}

// The numbers by which PostgreSQL knows its types, for ever.
var typeNumbers = map[string]uint32{"bigint": 20, "text": 25, "bytea": 17}

// beginArray is the head of an array of n elements, with room for size bytes of them: one dimension, nulls allowed,
// counted from 1.
func beginArray(size int, kind string, n int) []byte {
	b := make([]byte, 0, 20+size)
	for _, word := range [...]uint32{1, 1, typeNumbers[kind], uint32(n), 1} {
		b = binary.BigEndian.AppendUint32(b, word)
	}
	return b
}
