package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"holdfast/internal/payment"
)

// A copy takes everything from one store into an empty one, of whichever engine. It goes by blocks of payments, each in
// one commit with the mark of how far it has come: interrupted, it goes on from there. Until it is complete nobody
// serves from the new store.

// The names of a copy's marks in the table meta.
const (
	metaCopying = "copying" // from which store; the copy is not complete
	metaCopied  = "copied"  // the last row number that is copied
)

// copyRows is how many row numbers are copied in one commit. Only a test changes it.
var copyRows int64 = 1000

// table is a table as it is copied: its columns, and how its rows are found.
type table struct {
	name, columns, kinds string
	where                string // of payments, where it is not payment
	rises                string // a column that is larger after each change of a row, if there is one
}

// Tables whose rows belong to payments, and those that are copied whole.
var (
	paymentTables = []table{
		{"payments", "seq, version, state, updated_at, due_at, open, held, captured, released, refunded, fee, progress",
			"bigint bigint text bigint bigint text bigint bigint bigint bigint bigint text", "seq", "version"},
		{"terms", "payment, id, shop, shop_payment_id, created_at, currency, amount, terms", "bigint bytea bigint text bigint text bigint text", "", ""},
		{"operations", "payment, n, record", "bigint bigint text", "", ""},
		{"entries", "payment, n, operation, kind, at, currency, lines", "bigint bigint text text bigint text text", "", ""},
		{"events", "payment, n, shop, status, at, captured, fee, refunded, endpoint, next_at, lease_until, attempts, accepted, outcome, last_at, took, http_status, note",
			"bigint bigint bigint text bigint bigint bigint bigint text bigint bigint bigint bigint text bigint bigint bigint text", "", "attempts"},
		{"deliveries", "payment, event, attempt, at, took, status, note", "bigint bigint bigint bigint bigint bigint text", "", ""},
		{"names", "shop, shop_payment_id, payment", "bigint text bigint", "", ""},
		{"claims", "processor, claim, payment", "text text bigint", "", ""},
	}
	wholeTables = []table{
		{"shops", "id, name, secret_hash, unique_key, created_at, settings", "bigint text bytea bytea bigint text", "", ""},
		{"card_tables", "edition, at, cards", "bigint bigint text", "", ""},
	}
)

// insert is the statement that writes the table's rows.
func (t table) insert() *statement {
	n := len(strings.Fields(t.kinds))
	places := make([]string, n)
	for i := range places {
		places[i] = "?" + strconv.Itoa(i+1)
	}
	return &statement{sql: "INSERT INTO " + t.name + " (" + t.columns + ") VALUES (" + strings.Join(places, ", ") + ")", kinds: t.kinds}
}

// read reads the rows that a condition selects.
func (t table) read(q querier, condition string, args ...value) (rows [][]value, err error) {
	kinds := strings.Fields(t.kinds)
	err = q.query("SELECT "+t.columns+" FROM "+t.name+condition, args, func(r record) error {
		row := make([]value, len(kinds))
		for i, kind := range kinds {
			switch {
			case r.null(i):
			case kind == "bigint":
				row[i] = num(r.int(i))
			case kind == "text":
				row[i] = str(r.text(i))
			default:
				row[i] = bin(r.blob(i))
			}
		}
		rows = append(rows, row)
		return nil
	})
	return rows, err
}

// Counts is how many rows the tables of a store have.
type Counts map[string]int64

// Counts counts the rows of all tables that a copy takes over.
func (s *Store) Counts(ctx context.Context) (Counts, error) {
	c, err := s.contents(ctx)
	return c.counts, err
}

// contents is what two stores are compared by.
type contents struct {
	counts  Counts
	changes map[string]int64     // sums of table.rises
	whole   map[string][][]value // the rows of tables that are copied whole
}

func (s *Store) contents(ctx context.Context) (contents, error) {
	c := contents{make(Counts), make(map[string]int64), make(map[string][][]value)}
	err := s.engine.snapshot(ctx, func(q querier) error {
		for _, t := range append(wholeTables, paymentTables...) {
			rises := cmp.Or(t.rises, "0")
			err := q.query("SELECT count(*), CAST(coalesce(sum("+rises+"), 0) AS BIGINT) FROM "+t.name, nil, func(r record) error {
				c.counts[t.name], c.changes[t.name] = r.int(0), r.int(1)
				return nil
			})
			if err != nil {
				return err
			}
		}
		for _, t := range wholeTables {
			var err error
			if c.whole[t.name], err = t.read(q, " ORDER BY 1"); err != nil {
				return err
			}
		}
		return nil
	})
	return c, err
}

// differs is the first table in which a copy is not what its original is now, and how.
func (c contents) differs(original contents) (table, how string) {
	for _, t := range append(wholeTables, paymentTables...) {
		switch n := original.counts[t.name]; {
		case c.counts[t.name] != n:
			return t.name, fmt.Sprintf("has %d rows, and %d were copied", n, c.counts[t.name])
		case c.changes[t.name] != original.changes[t.name], !slices.EqualFunc(c.whole[t.name], original.whole[t.name], slices.Equal[[]value]):
			return t.name, "has rows that are not as they were copied"
		}
	}
	return "", ""
}

// CopyTo copies everything into a store that is empty, or into which an earlier copy from this one was begun.
// Nobody may write to either meanwhile: this store must be opened with Config.Serve, and to without. to is to be
// closed afterwards and opened anew. progress, which may be nil, is called now and then with the row
// number that is reached and the last one.
func (s *Store) CopyTo(ctx context.Context, to *Store, progress func(done, of int)) error {
	if !s.cfg.Serve || !s.Alone() || to.cfg.Serve {
		return errors.New("a copy is made from a store in a file that nobody else serves from, into one that nobody serves from")
	}
	last, err := s.engine.top(ctx)
	if err != nil {
		return err
	}
	done, err := s.beginCopy(ctx, to)
	if err != nil {
		return err
	}
	for done < last {
		next := min(done+copyRows, last)
		if err := s.copyBlock(ctx, to, done, next); err != nil {
			return fmt.Errorf("the copy stopped behind row %d; the same command goes on from there: %w", done, err)
		}
		done = next
		if progress != nil {
			progress(int(done), int(last))
		}
	}
	original, err := s.contents(ctx)
	if err != nil {
		return err
	}
	copied, err := to.contents(ctx)
	if err != nil {
		return err
	}
	if table, how := copied.differs(original); table != "" {
		return fmt.Errorf("the store has changed since the copy was begun (%s %s): copy it into a new database", table, how)
	}
	return to.do(ctx, &job{exec: func(w writing, _ time.Time) error {
		if _, err := w.exec(`UPDATE meta SET value = ?2 WHERE name = ?1`, []value{str(rowsReserved), str(strconv.FormatInt(last, 10))}); err != nil {
			return err
		}
		_, err := w.exec(`DELETE FROM meta WHERE name IN (?1, ?2)`, []value{str(metaCopying), str(metaCopied)})
		return err
	}})
}

// beginCopy marks the new store, gives it what is not of payments, and says how far an earlier copy has come.
func (s *Store) beginCopy(ctx context.Context, to *Store) (done int64, err error) {
	meta := make(map[string]string)
	whole := make(map[string][][]value)
	err = s.engine.snapshot(ctx, func(q querier) error {
		err := q.query(`SELECT name, value FROM meta`, nil, func(r record) error {
			meta[r.text(0)] = r.text(1)
			return nil
		})
		for _, t := range wholeTables {
			if err == nil {
				whole[t.name], err = t.read(q, "")
			}
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	sum := sha256.Sum256([]byte(meta["number_key"]))
	source := hex.EncodeToString(sum[:8])
	counts, err := to.Counts(ctx)
	if err != nil {
		return 0, err
	}
	err = to.do(ctx, &job{exec: func(w writing, _ time.Time) error {
		mark := make(map[string]string)
		err := w.query(`SELECT name, value FROM meta WHERE name IN (?1, ?2)`, []value{str(metaCopying), str(metaCopied)}, func(r record) error {
			mark[r.text(0)] = r.text(1)
			return nil
		})
		if err != nil {
			return err
		}
		switch mark[metaCopying] {
		case source:
			done, err = strconv.ParseInt(mark[metaCopied], 10, 64)
			return err
		case "":
			for name, n := range counts {
				if n > 0 {
					return refused{fmt.Errorf("the store to copy into is not empty (%s has %d rows): use a new database", name, n)}
				}
			}
		default:
			return refused{errors.New("a copy from another store into this one was begun: use a new database")}
		}
		for _, name := range []string{"number_key", metaRestored, metaFrom, metaReconciled, metaContracts} {
			if value, ok := meta[name]; ok {
				mark[name] = value
			}
		}
		mark[metaCopying], mark[metaCopied] = source, "0"
		for name, what := range mark {
			if err := putMeta(w, name, what); err != nil {
				return err
			}
		}
		for _, t := range wholeTables {
			if err := w.put(t.insert(), whole[t.name]); err != nil {
				return err
			}
		}
		return nil
	}})
	return done, err
}

// copyBlock copies the payments of rows after from, up to and with last.
func (s *Store) copyBlock(ctx context.Context, to *Store, from, last int64) error {
	rows := make([][][]value, len(paymentTables))
	err := s.engine.snapshot(ctx, func(q querier) (err error) {
		for i, t := range paymentTables {
			column := "payment"
			if t.where != "" {
				column = t.where
			}
			if rows[i], err = t.read(q, " WHERE "+column+" > ?1 AND "+column+" <= ?2", num(from), num(last)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !to.Alone() {
		if err := wakeOpen(rows[0]); err != nil {
			return err
		}
	}
	return to.do(ctx, &job{exec: func(w writing, _ time.Time) error {
		for i, t := range paymentTables {
			if err := w.put(t.insert(), rows[i]); err != nil {
				return err
			}
		}
		_, err := w.exec(`UPDATE meta SET value = ?2 WHERE name = ?1 AND value = ?3`, []value{str(metaCopied), str(strconv.FormatInt(last, 10)), str(strconv.FormatInt(from, 10))})
		return err
	}})
}

// wakeOpen makes questions that were being asked due when their answers are: where several gateways serve, nobody takes
// them up at a start (see dueAt).
func wakeOpen(payments [][]value) error {
	const due, open, progress = 4, 5, 11
	for _, row := range payments {
		if row[open].text == "" {
			continue
		}
		var p payment.Payment
		if err := json.Unmarshal(row[progress].bytes(), &p.Progress); err != nil {
			return fmt.Errorf("the payment in row %d cannot be read: %w", row[0].whole, err)
		}
		row[due] = orNull(dueAt(&p, time.Time{}))
	}
	return nil
}

// errCopying is why a store into which a copy was begun is not served from.
var errCopying = errors.New("a copy into this store was begun and is not complete: run the same holdfast copy again, it goes on where it stopped")

// copying reports whether a copy into this store is not complete.
func (s *Store) copying() (begun bool, err error) {
	err = s.engine.read(context.Background(), func(q querier) error {
		return q.query(`SELECT 1 FROM meta WHERE name = ?1`, []value{str(metaCopying)}, func(record) error {
			begun = true
			return nil
		})
	})
	return begun, err
}
