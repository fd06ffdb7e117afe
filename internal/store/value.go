package store

import (
	"sync"
	"time"
	"unsafe"
)

// kind is what a value is.
type kind uint8

const (
	isNull kind = iota
	isWhole
	isText
	isBytes
)

// String is the kind's name in SQL.
func (k kind) String() string { return [...]string{"null", "bigint", "text", "bytea"}[k] }

// value is what a statement is given for one of its parameters: a whole number, a text, bytes, or null, which the zero value is.
// In an interface each of them would be an allocation of its own.
type value struct {
	kind  kind
	whole int64
	text  string // of bytes too
}

func num[N ~int | ~int64](n N) value { return value{kind: isWhole, whole: int64(n)} }

func str[S ~string](s S) value { return value{kind: isText, text: string(s)} }

// bin is bytes; they are not copied.
func bin(b []byte) value {
	return value{kind: isBytes, text: unsafe.String(unsafe.SliceData(b), len(b))}
}

// txt is a text; its bytes are not copied.
func txt(b []byte) value {
	return value{kind: isText, text: unsafe.String(unsafe.SliceData(b), len(b))}
}

// moment is a time as it is kept.
func moment(t time.Time) value { return num(micros(t)) }

// orNull is the time for a column in which null means never.
func orNull(t time.Time) value {
	if t.IsZero() {
		return value{}
	}
	return moment(t)
}

// bytes are those of a text or of bytes, which nobody may change.
func (v value) bytes() []byte { return unsafe.Slice(unsafe.StringData(v.text), len(v.text)) }

// desk is room in which a batch's rows are put together. A batch gives its own back when all of it is written, or on its way to
// the server; memory that is used again costs less than new memory.
type desk struct {
	texts  []byte
	values []value
	sheets []*sheet
	used   int // of the sheets
}

// sheet is the rows of one statement, and the jobs that they are of, where somebody asks.
type sheet struct {
	bid
	jobs []*job
}

var desks = sync.Pool{New: func() any { return new(desk) }}

func (d *desk) giveBack() {
	clear(d.values) // what they lead to is not kept
	d.texts, d.values = d.texts[:0], d.values[:0]
	for _, s := range d.sheets[:d.used] {
		clear(s.jobs)
		clear(s.rows)
		s.jobs, s.rows = s.jobs[:0], s.rows[:0]
	}
	d.used = 0
	desks.Put(d)
}

// sheet is an empty one for a statement, good until its desk is given back.
func (d *desk) sheet(of *statement) *sheet {
	if d.used == len(d.sheets) {
		d.sheets = append(d.sheets, new(sheet))
	}
	s := d.sheets[d.used]
	d.used++
	s.statement = of
	return s
}

func (s *sheet) add(row []value) { s.rows = append(s.rows, row) }

// addOf adds a row, and whose it is.
func (s *sheet) addOf(j *job, row []value) {
	s.add(row)
	s.jobs = append(s.jobs, j)
}

// row is a row of these values, good until its desk is given back.
func (d *desk) row(values ...value) []value {
	before := len(d.values)
	d.values = append(d.values, values...)
	return d.values[before:len(d.values):len(d.values)]
}

// write is what add appends, as a text, good until its desk is given back.
func (d *desk) write(add func([]byte) ([]byte, error)) (value, error) {
	before := len(d.texts)
	all, err := add(d.texts)
	d.texts = all
	return txt(all[before:]), err
}
