package store

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"zombiezen.com/go/sqlite"
)

// writes counts the write system calls that this process has made (proc_pid_io(5), syscw).
func writes(t *testing.T) (n int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	var read, wrote, reads int
	if _, err := fmt.Sscanf(string(text), "rchar: %d\nwchar: %d\nsyscr: %d\nsyscw: %d\n", &read, &wrote, &reads, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// run runs statements, each of them one.
func run(t *testing.T, conn *sqlite.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if err := query(conn, sql, nil, nil); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// says is the one value that a query has.
func says(t *testing.T, conn *sqlite.Conn, sql string) (value string) {
	t.Helper()
	if err := query(conn, sql, nil, func(r record) error {
		value = r.text(0)
		return nil
	}); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// rows inserts so many of them, each of which fills most of a page.
func rows(n int) string {
	return fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) INSERT INTO t SELECT randomblob(3000) FROM n", n)
}

// theWriter is a writer at a path with characters that mean something in a URI, and a connection without ours in it.
func theWriter(t *testing.T) (writer, other *sqlite.Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a%41 b?mode=memory#c", File)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	writer, err := openWriter(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { writer.Close() })
	if other, err = sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenWAL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	run(t, writer, "CREATE TABLE t (b BLOB)")
	return writer, other
}

func TestTheLogIsWrittenInOnePiece(t *testing.T) {
	writer, other := theWriter(t)
	// The last transaction is longer than SQLite writes at once.
	stored := 0
	for _, n := range []int{1, 20, 500} {
		// Go's runtime writes, too, to wake its threads: the fewest of some tries count.
		fewest := math.MaxInt
		for range 5 {
			run(t, writer, "BEGIN IMMEDIATE", rows(n))
			before := writes(t)
			run(t, writer, "COMMIT")
			fewest = min(fewest, writes(t)-before)
			stored += n
			if got, want := says(t, other, "SELECT count(*) FROM t"), fmt.Sprint(stored); got != want {
				t.Errorf("another connection sees %s rows, want %s", got, want)
			}
		}
		if most := 1 + n*4200/mostGathered; fewest < 1 || fewest > most { // one for each 120 KiB
			t.Errorf("a transaction of %d pages took %d writes, want at most %d", n, fewest, most)
		}
	}
	if got := says(t, other, "PRAGMA integrity_check"); got != "ok" {
		t.Error(got)
	}
}

// A transaction that does not end well leaves nothing that is written later, over what others wrote meanwhile.
func TestNothingIsLeftInTheLogOfWhatWasUndone(t *testing.T) {
	writer, other := theWriter(t)
	run(t, writer, "BEGIN IMMEDIATE", rows(1030), "ROLLBACK") // a few more than fit into the cache
	run(t, other, rows(200))                                  // over where those few would be
	run(t, writer, rows(20))
	for _, conn := range []*sqlite.Conn{writer, other} {
		if got := says(t, conn, "PRAGMA integrity_check"); got != "ok" {
			t.Fatal(got)
		}
		if got := says(t, conn, "SELECT count(*) FROM t"); got != "220" {
			t.Errorf("%s rows, want 220", got)
		}
	}
}
