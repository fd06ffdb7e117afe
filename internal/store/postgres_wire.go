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
func (e *postgresEngine) ask(sql string, args []any, row func(record) error) (asked, error) {
	a := asked{sql: e.text(sql, args), args: make([][]byte, len(args)), row: row}
	for i, arg := range args {
		if arg == nil {
			continue
		}
		value, err := appendValue(make([]byte, 0, 8), arg)
		if err != nil {
			return a, err
		}
		a.args[i] = value
	}
	return a, nil
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

// appendValue appends a value that is not null. No bytes are bytes too.
func appendValue(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case int64:
		return binary.BigEndian.AppendUint64(b, uint64(v)), nil
	case int:
		return binary.BigEndian.AppendUint64(b, uint64(v)), nil
	case string:
		return append(b, v...), nil
	case text:
		return append(b, v...), nil
	case []byte:
		return append(b, v...), nil
	}
	return nil, fmt.Errorf("a %T is nothing that the database is given", v)
}

// each is a SELECT for many rows; found gets with each record the number of the row that it is for.
func (m *manyRows) each(rows [][]any, found func(i int, r record) error) (asked, error) {
	args, err := m.columns(rows)
	return asked{sql: m.sql, args: append(args, numbers(len(rows))), row: func(r record) error {
		return found(int(r.int(len(r.(postgresRecord))-1)), r)
	}}, err
}

// columns turns rows into arrays, one a column.
func (m *manyRows) columns(rows [][]any) ([][]byte, error) {
	args := make([][]byte, len(m.kinds), len(m.kinds)+1)
	for c, kind := range m.kinds {
		size := 0
		for _, row := range rows {
			size += 4 + sizeOf(row[c])
		}
		b := beginArray(size, kind, len(rows))
		for _, row := range rows {
			if row[c] == nil {
				b = binary.BigEndian.AppendUint32(b, 1<<32-1)
				continue
			}
			if !isOf(kind, row[c]) {
				return nil, fmt.Errorf("a %T stands where a %s should", row[c], kind)
			}
			b = binary.BigEndian.AppendUint32(b, uint32(sizeOf(row[c])))
			b, _ = appendValue(b, row[c])
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

func sizeOf(v any) int {
	switch v := v.(type) {
	case int64:
		return 8
	case string:
		return len(v)
	case text:
		return len(v)
	case []byte:
		return len(v)
	}
	return 0
}

func isOf(kind string, v any) (ok bool) {
	switch kind {
	case "bigint":
		_, ok = v.(int64)
	case "text":
		switch v.(type) {
		case string, text:
			ok = true
		}
	case "bytea":
		_, ok = v.([]byte)
	}
	return ok
}
