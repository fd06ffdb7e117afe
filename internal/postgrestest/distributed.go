package postgrestest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// PostgreSQL's own parser says whether a text is SQL (PREPARE on a real server). What it does not say is whether the
// engines that spread a database over many machines take it too. Objections does, for what the store must do without.

// Layout says how the tables are spread: by which column of theirs. An empty name means that every machine has the
// whole table, which suits small ones that hardly change.
type Layout map[string]string

// Objection is one thing that a distributed engine does not take, or takes at a price that a hot statement cannot pay.
type Objection struct {
	What string
	Why  string
	// Scatter is set where the statement is taken, but asks every machine: it does not say by the table's column
	// which one it is about. A sweep may do that; what every payment needs may not.
	Scatter bool
}

func (o Objection) String() string { return o.What + ": " + o.Why }

// The reasons, with the pages that give them.
const (
	whySequence = "one counter for all machines is where they queue, and neighbouring values make one of them hot; keys are made by us " +
		"(CockroachDB: SQL performance best practices, unique IDs; YugabyteDB: CREATE SEQUENCE, cache; Citus: SQL support and workarounds)"
	whyAdvisory   = "advisory locks do nothing in CockroachDB, and hold on one machine only in Citus and older YugabyteDB (yugabyte-db#3642); a write expects a version instead"
	whyNotify     = "CockroachDB has no LISTEN and NOTIFY, YugabyteDB has not had them (yugabyte-db#1872), Citus sends them from one machine; loops poll"
	whyTrigger    = "Citus refuses triggers on distributed tables (citus.enable_unsafe_triggers), CockroachDB had none before 24.3; the store writes what follows itself"
	whyRowLock    = "it waits where others retry, holds on one shard only in Citus, and under SERIALIZABLE ends with 40001 all the same; a write expects a version instead"
	whyTableLock  = "YugabyteDB has not had it (yugabyte-db#5384), CockroachDB takes it and does nothing"
	whyDDL        = "at least one of the three has it not, or not for distributed tables (CockroachDB: PostgreSQL compatibility; YugabyteDB: PostgreSQL compatibility; Citus: SQL support and workarounds)"
	whyQuery      = "Citus does not take it across shards (SQL support and workarounds)"
	whyVolatile   = "Citus takes no volatile function in a write to a distributed table, and the store must be able to run a write again: its caller makes the value"
	whySystem     = "it is a number of one machine's storage; CockroachDB and YugabyteDB do not have it, or it means something else"
	whyForeignKey = "Citus takes it only within one shard, the others pay a round trip for each row; the audit looks at what belongs together"
	whyUnique     = "uniqueness is checked where the row is; without the column by which the table is spread, every machine would have to be asked (Citus refuses the key)"
)

// refusedWords are runs of words, in any place of a statement; "name(" is a call. What begins with ^ must begin the statement.
var refusedWords = []struct{ words, why string }{
	{"create sequence", whySequence}, {"alter sequence", whySequence}, {"serial", whySequence}, {"bigserial", whySequence}, {"smallserial", whySequence},
	{"as identity", whySequence}, {"nextval (", whySequence}, {"currval (", whySequence}, {"setval (", whySequence}, {"lastval (", whySequence},
	{"^listen", whyNotify}, {"^unlisten", whyNotify}, {"^notify", whyNotify}, {"pg_notify (", whyNotify},
	{"trigger", whyTrigger}, {"create rule", whyTrigger}, {"create function", whyDDL}, {"create procedure", whyDDL}, {"^do", whyDDL}, {"^call", whyDDL},
	{"for update", whyRowLock}, {"for no key update", whyRowLock}, {"for share", whyRowLock}, {"for key share", whyRowLock},
	{"^lock", whyTableLock},
	{"create type", whyDDL}, {"create domain", whyDDL}, {"create extension", whyDDL}, {"exclude using", whyDDL}, {"exclude (", whyDDL}, {"deferrable", whyDDL},
	{"inherits (", whyDDL}, {"using gist", whyDDL}, {"using gin", whyDDL}, {"using brin", whyDDL}, {"using hash", whyDDL}, {"materialized view", whyDDL},
	{"create temp", whyDDL}, {"create temporary", whyDDL}, {"unlogged", whyDDL}, {"tablespace", whyDDL}, {"generated always as (", whyDDL},
	{"^merge", whyDDL}, {"^declare", whyDDL}, {"^fetch", whyDDL}, {"^copy", whyDDL}, {"^truncate", whyDDL}, {"^cluster", whyDDL}, {"prepare transaction", whyDDL},
	{"references", whyForeignKey}, {"foreign key", whyForeignKey},
	{"with recursive", whyQuery}, {"tablesample", whyQuery}, {"grouping sets", whyQuery}, {"cube (", whyQuery}, {"rollup (", whyQuery}, {"full join", whyQuery},
	{"full outer join", whyQuery}, {"lateral", whyQuery},
	{"random (", whyVolatile}, {"clock_timestamp (", whyVolatile}, {"gen_random_uuid (", whyVolatile}, {"timeofday (", whyVolatile},
	{"ctid", whySystem}, {"xmin", whySystem}, {"xmax", whySystem}, {"tableoid", whySystem},
	{"txid_current (", whySystem}, {"txid_status (", whySystem}, {"pg_current_xact_id (", whySystem}, {"pg_xact_status (", whySystem},
}

// Objections goes over statements, separated by semicolons, in PostgreSQL's spelling.
func Objections(sql string, layout Layout) (all []Objection) {
	for _, s := range statements(sql) {
		for _, refused := range refusedWords {
			words, atBegin := strings.CutPrefix(refused.words, "^")
			if at := s.find(strings.Fields(words)); at == 0 || at > 0 && !atBegin {
				all = append(all, Objection{What: strings.TrimSuffix(words, " ("), Why: refused.why})
			}
		}
		for _, word := range s {
			if strings.HasPrefix(word, "pg_advisory_") || strings.HasPrefix(word, "pg_try_advisory_") {
				all = append(all, Objection{What: word, Why: whyAdvisory})
			}
		}
		switch {
		case s.begins("create", "table"):
			all = append(all, s.table(layout)...)
		case s.begins("create", "unique", "index"):
			all = append(all, s.uniqueIndex(layout)...)
		case s.begins("with"):
			if s.find([]string{"insert", "into"}) > 0 || s.find([]string{"delete", "from"}) > 0 || s.find([]string{"update"}) > 0 {
				all = append(all, Objection{What: "a write in WITH", Why: whyQuery})
			}
			all = append(all, s.spread(layout)...)
		case s.begins("insert"), s.begins("select"), s.begins("update"), s.begins("delete"):
			all = append(all, s.spread(layout)...)
		}
	}
	return all
}

// statement is one statement's words, signs and literals. Words are in small letters; a literal is one token that
// begins with '.
type statement []string

// find is where the run of tokens begins; -1: nowhere.
func (s statement) find(run []string) int {
	for i := 0; i+len(run) <= len(s); i++ {
		if slices.Equal(s[i:i+len(run)], run) {
			return i
		}
	}
	return -1
}

func (s statement) begins(run ...string) bool {
	return len(s) >= len(run) && slices.Equal(s[:len(run)], run)
}

func (s statement) at(i int) string {
	if i < 0 || i >= len(s) {
		return ""
	}
	return s[i]
}

// list is what stands between the parenthesis at open and the one that closes it, split at its commas.
func (s statement) list(open int) (parts []statement) {
	if s.at(open) != "(" {
		return nil
	}
	depth, from := 0, open+1
	for i := open; i < len(s); i++ {
		switch s[i] {
		case "(":
			depth++
		case ")":
			if depth--; depth == 0 {
				return append(parts, s[from:i])
			}
		case ",":
			if depth == 1 {
				parts = append(parts, s[from:i])
				from = i + 1
			}
		}
	}
	return append(parts, s[from:])
}

// names are the first words of a list's parts: the columns of a key.
func names(parts []statement) (all []string) {
	for _, p := range parts {
		all = append(all, p.at(0))
	}
	return all
}

// table judges the keys of a CREATE TABLE.
func (s statement) table(layout Layout) (all []Objection) {
	at := 2
	if s.begins("create", "table", "if", "not", "exists") {
		at = 5
	}
	name := s.at(at)
	by, known := layout[name]
	if !known {
		return []Objection{{What: "table " + name, Why: "nobody has said how it is spread"}}
	}
	parts := s.list(at + 1)
	primary := false
	has := by == ""
	for _, part := range parts {
		has = has || part.at(0) == by
		for _, kind := range [][]string{{"primary", "key"}, {"unique"}} {
			i := part.find(kind)
			if i < 0 {
				continue
			}
			primary = primary || len(kind) == 2
			columns := []string{part.at(0)} // of a column
			if listed := part.list(i + len(kind)); listed != nil {
				columns = names(listed)
			}
			if by != "" && !slices.Contains(columns, by) {
				all = append(all, Objection{What: fmt.Sprintf("%s (%s) of %s, which is spread by %s", strings.Join(kind, " "), strings.Join(columns, ", "), name, by), Why: whyUnique})
			}
		}
	}
	if !has {
		all = append(all, Objection{What: "table " + name, Why: "it has no column " + by + ", by which it is to be spread"})
	}
	if !primary {
		all = append(all, Objection{What: "table " + name, Why: "it has no primary key, by which the engines keep their rows"})
	}
	return all
}

// uniqueIndex judges a CREATE UNIQUE INDEX.
func (s statement) uniqueIndex(layout Layout) []Objection {
	on := s.find([]string{"on"})
	name := s.at(on + 1)
	open := slices.Index(s, "(")
	by, known := layout[name]
	columns := s.list(open)
	switch {
	case !known:
		return []Objection{{What: "table " + name, Why: "nobody has said how it is spread"}}
	case by != "" && !slices.Contains(names(columns), by):
		return []Objection{{What: fmt.Sprintf("unique index (%s) on %s, which is spread by %s", strings.Join(names(columns), ", "), name, by), Why: whyUnique}}
	}
	return nil
}

// notAlias are words that follow a table's name and are not another name of it.
var notAlias = []string{"set", "where", "on", "using", "join", "inner", "left", "right", "cross", "natural", "order", "group", "having", "limit", "offset",
	"union", "except", "intersect", "values", "select", "returning", "default", "from", "for", "as", "window", "overriding"}

// spread judges whether a statement says which machine it is about.
func (s statement) spread(layout Layout) (all []Objection) {
	// The tables, by the names that they go by here.
	tables := make(map[string]string)
	for i, word := range s {
		by, known := layout[word]
		if !known || !slices.Contains([]string{"from", "join", "update", "into", ",", "only"}, s.at(i-1)) || s.at(i-1) == "," && s.at(i+1) == "." {
			continue
		}
		if s.at(i-1) == "into" {
			columns := s.list(i + 1)
			if by != "" && !slices.Contains(names(columns), by) {
				all = append(all, Objection{What: "INSERT into " + word + " without " + by, Why: "nobody knows where the row belongs"})
			}
			continue
		}
		alias := s.at(i + 1)
		if alias == "as" {
			alias = s.at(i + 2)
		}
		if !isName(alias) || slices.Contains(notAlias, alias) {
			alias = word
		}
		tables[alias] = word
	}
	// What each table's column is compared with: something given, or another table's column.
	bound := make(map[string]bool)
	setFrom, setTo := s.assignments()
	equal := make(map[string][]string)
	for alias, table := range tables {
		by := layout[table]
		if by == "" {
			bound[alias] = true
			continue
		}
		for i, word := range s {
			if word != by || s.at(i+1) == "." || s.at(i+1) == "(" {
				continue
			}
			if setFrom <= i && i < setTo {
				if s.at(i+1) == "=" && (s.at(i-1) == "set" || s.at(i-1) == ",") && s.at(1) == table {
					all = append(all, Objection{What: "UPDATE of " + table + " that sets " + by, Why: "the row would have to move to another machine"})
				}
				continue
			}
			begin := i
			if s.at(i-1) == "." {
				if s.at(i-2) != alias {
					continue
				}
				begin = i - 2
			} else if len(tables) > 1 && !onlyOne(tables, layout, by) {
				continue // it may be another table's
			}
			for _, other := range []statement{s.operand(begin-2, begin, "="), s.operand(i+2, i, "=")} {
				switch {
				case len(other) == 0:
				case len(other) == 3 && other[1] == "." && tables[other[0]] != "":
					if layout[tables[other[0]]] == other[2] {
						equal[alias] = append(equal[alias], other[0])
					}
				default:
					bound[alias] = true
				}
			}
			if s.at(i+1) == "in" {
				bound[alias] = true
			}
		}
	}
	for again := true; again; {
		again = false
		for alias, others := range equal {
			for _, other := range others {
				if bound[other] && !bound[alias] {
					bound[alias], again = true, true
				}
				if bound[alias] && !bound[other] {
					bound[other], again = true, true
				}
			}
		}
	}
	for alias, table := range tables {
		if !bound[alias] {
			all = append(all, Objection{What: table + " without " + layout[table], Why: "every machine is asked", Scatter: true})
		}
	}
	slices.SortFunc(all, func(a, b Objection) int { return strings.Compare(a.What, b.What) })
	return all
}

// assignments is where an UPDATE's SET begins and ends.
func (s statement) assignments() (from, to int) {
	if !s.begins("update") {
		return 0, 0
	}
	from = s.find([]string{"set"})
	depth := 0
	for to = from + 1; to < len(s); to++ {
		switch s[to] {
		case "(":
			depth++
		case ")":
			depth--
		case "from", "where", "returning":
			if depth == 0 {
				return from, to
			}
		}
	}
	return from, to
}

// operand is what stands at the other side of a comparison: a value, a parameter, or name.column. at is where it
// begins (to the right) or ends (to the left of begin).
func (s statement) operand(at, begin int, sign string) statement {
	if at > begin { // to the right
		if s.at(begin+1) != sign {
			return nil
		}
		if s.at(at+1) == "." {
			return s[at:min(at+3, len(s))]
		}
		return s[at:min(at+1, len(s))]
	}
	if s.at(begin-1) != sign || at < 0 {
		return nil
	}
	if s.at(at-1) == "." {
		return s[max(at-2, 0) : at+1]
	}
	return s[at : at+1]
}

// onlyOne reports whether a column's name can mean one of the tables only, as far as their layout tells.
func onlyOne(tables map[string]string, layout Layout, column string) bool {
	n := 0
	for _, table := range tables {
		if layout[table] == column {
			n++
		}
	}
	return n == 1
}

func isName(word string) bool {
	return word != "" && (word[0] == '_' || word[0] >= 'a' && word[0] <= 'z')
}

// statements splits a text into its statements' tokens. Comments are left out.
func statements(sql string) (all []statement) {
	var s statement
	end := func() {
		if len(s) > 0 {
			all = append(all, s)
		}
		s = nil
	}
	for i := 0; i < len(sql); {
		rest := sql[i:]
		c := sql[i]
		switch {
		case strings.HasPrefix(rest, "--"):
			i += through(rest, 2, "\n")
		case strings.HasPrefix(rest, "/*"):
			i += through(rest, 2, "*/")
		case c == ';':
			end()
			i++
		case c <= ' ':
			i++
		case c == '\'':
			n := through(rest, 1, "'")
			s = append(s, rest[:n])
			i += n
		case c == '"':
			n := through(rest, 1, `"`)
			s = append(s, strings.Trim(rest[:n], `"`))
			i += n
		case c == '$' && dollarQuote(rest) != "":
			quote := dollarQuote(rest)
			n := through(rest, len(quote), quote)
			s = append(s, "'"+rest[:n])
			i += n
		case isWord(c):
			n := 1
			for n < len(rest) && isWord(rest[n]) {
				n++
			}
			s = append(s, strings.ToLower(rest[:n]))
			i += n
		default:
			s = append(s, string(c))
			i++
		}
	}
	end()
	return all
}

// through is how long text is up to the end of the mark, which is looked for from an offset on.
func through(text string, from int, mark string) int {
	if i := strings.Index(text[from:], mark); i >= 0 {
		return from + i + len(mark)
	}
	return len(text)
}

// dollarQuote is the mark that a dollar-quoted literal begins and ends with; "": it is a parameter.
func dollarQuote(text string) string {
	end := strings.IndexByte(text[1:], '$')
	if end < 0 || end > 0 && !isName(strings.ToLower(text[1:2])) || strings.ContainsFunc(text[1:1+end], func(r rune) bool { return r > 127 || !isWord(byte(r)) }) {
		return ""
	}
	return text[:end+2]
}

func isWord(c byte) bool {
	return c == '_' || c == '$' || c == '?' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// Parses asks a server whether it takes a statement: the tables, columns and types in it are there, and fit. Nothing is run.
func Parses(ctx context.Context, conn *pgx.Conn, sql string) error {
	_, err := conn.Prepare(ctx, "", sql)
	return err
}
