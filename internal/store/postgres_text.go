package store

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// text is a statement with parameters $1, $2, …, each with its type: PostgreSQL would guess it from its first use.
func (e *postgresEngine) text(sql string, args []value) string {
	type queryKey struct{ sql, types string }
	types := make([]byte, len(args))
	for i, arg := range args {
		types[i] = byte(arg.kind)
	}
	key := queryKey{sql, string(types)}
	if text, ok := e.queries.Load(key); ok {
		return text.(string)
	}
	text := parameters(sql, func(n int) string {
		parameter := "$" + strconv.Itoa(n)
		if k := args[n-1].kind; k != isNull {
			parameter += "::" + k.String()
		}
		return parameter
	})
	e.queries.Store(key, text)
	return text
}

// parameters replaces ?1, ?2, … The store's statements have no other question marks.
func parameters(sql string, name func(n int) string) string {
	var b strings.Builder
	for {
		before, rest, more := strings.Cut(sql, "?")
		b.WriteString(before)
		if !more {
			return b.String()
		}
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.Atoi(rest[:digits])
		if err != nil {
			panic("a statement with a parameter that has no number: " + sql)
		}
		b.WriteString(name(n))
		sql = rest[digits:]
	}
}

// manyRows is a statement for all its rows at once: its parameters are arrays, one a column.
type manyRows struct {
	sql       string
	returning string // sql that returns the keys of the rows it changed
	strict    string // see statement
	kinds     []string
	key       []string // kinds of the key's columns
}

func (e *postgresEngine) many(s *statement) *manyRows {
	if m, ok := e.texts.Load(s); ok {
		return m.(*manyRows)
	}
	m, _ := e.texts.LoadOrStore(s, manyRowsOf(s))
	return m.(*manyRows)
}

// manyRowsOf derives the text for many rows from that for one:
//
//	INSERT INTO t (…) VALUES (?1, 0) …   INSERT INTO t (…) SELECT v.p1, 0 FROM (SELECT unnest($1::bigint[]) AS p1) AS v …
//	UPDATE x AS t SET … WHERE …          UPDATE x AS t SET … FROM (SELECT unnest($1::bigint[]) AS p1, …) AS v WHERE …
//	SELECT … FROM … WHERE …              SELECT …, v.p9 FROM …, (SELECT …, unnest($9::bigint[]) AS p9) AS v WHERE …
//
// The arrays stand in the list of SELECT and not in FROM, where the server would first put each of them into a store of its
// own: the memory for those, asked of the system and given back at each statement, was a quarter of its time.
func manyRowsOf(s *statement) *manyRows {
	m := &manyRows{kinds: strings.Fields(s.kinds)}
	m.sql = manyRowsText(s.sql, m.kinds)
	if s.strict != "" {
		m.strict = manyRowsText(s.strict, m.kinds)
	}
	if s.key != "" {
		columns := strings.Split(s.key, ", ")
		m.key = m.kinds[:len(columns)]
		if strings.HasPrefix(m.sql, "UPDATE") {
			for i := range columns {
				columns[i] = "t." + columns[i]
			}
		}
		m.returning = m.sql + " RETURNING " + strings.Join(columns, ", ")
	}
	return m
}

func manyRowsText(sql string, kinds []string) string {
	sql = parameters(strings.Join(strings.Fields(sql), " "), func(n int) string { return "v.p" + strconv.Itoa(n) })
	verb, _, _ := strings.Cut(sql, " ")
	if verb == "SELECT" {
		kinds = append(slices.Clone(kinds), "bigint")
	}
	var arrays []string
	for i, kind := range kinds {
		arrays = append(arrays, fmt.Sprintf("unnest($%d::%s[]) AS p%d", i+1, kind, i+1))
	}
	source := "(SELECT " + strings.Join(arrays, ", ") + ") AS v"
	switch verb {
	case "INSERT":
		head, rest, _ := strings.Cut(sql, " VALUES (")
		values, tail, _ := strings.Cut(rest, ")")
		return head + " SELECT " + values + " FROM " + source + tail
	case "UPDATE":
		head, condition, _ := strings.Cut(sql, " WHERE ")
		return head + " FROM " + source + " WHERE " + condition
	case "SELECT":
		columns, rest, _ := strings.Cut(sql, " FROM ")
		from, condition, _ := strings.Cut(rest, " WHERE ")
		return columns + ", v.p" + strconv.Itoa(len(kinds)) + " FROM " + from + ", " + source + " WHERE " + condition
	}
	panic("a statement that cannot be put for many rows: " + sql)
}

func (m *manyRows) keyOf(row []value) string {
	var b strings.Builder
	for i, kind := range m.key {
		if kind == "bigint" {
			b.WriteString(strconv.FormatInt(row[i].whole, 10))
		} else {
			b.WriteString(row[i].text)
		}
		b.WriteByte(0)
	}
	return b.String()
}

func (m *manyRows) foundKey(r record) string {
	var b strings.Builder
	for i, kind := range m.key {
		if kind == "bigint" {
			b.WriteString(strconv.FormatInt(r.int(i), 10))
		} else {
			b.WriteString(r.text(i))
		}
		b.WriteByte(0)
	}
	return b.String()
}

// sorted puts rows in the order of their keys: who locks rows in one order does not stand in another's way.
func (m *manyRows) sorted(rows [][]value) [][]value {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b []value) int {
		for i, kind := range m.key {
			order := 0
			if kind == "bigint" {
				x, y := a[i].whole, b[i].whole
				order = int(min(max(x-y, -1), 1))
			} else {
				order = strings.Compare(a[i].text, b[i].text)
			}
			if order != 0 {
				return order
			}
		}
		return 0
	})
	return rows
}

// rounds splits rows so that in each part every key is once, and sorts the parts.
func (m *manyRows) rounds(rows [][]value) (parts [][][]value) {
	if len(m.key) == 0 {
		return [][][]value{rows}
	}
	times := make(map[string]int, len(rows))
	for _, row := range rows {
		key := m.keyOf(row)
		n := times[key]
		times[key]++
		if n == len(parts) {
			parts = append(parts, nil)
		}
		parts[n] = append(parts[n], row)
	}
	for i := range parts {
		parts[i] = m.sorted(parts[i])
	}
	return parts
}
