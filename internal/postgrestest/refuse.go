package postgrestest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

// When says when a write is refused.
type When string

// The moments of a refusal.
const (
	AtStatement When = "statement" // the statement that writes fails
	AtCommit    When = "commit"    // all statements succeed, and COMMIT fails
)

var refusals atomic.Int64

// Refuse makes the server refuse writes to a table: of the rows written from now on the first after go well, and each
// of the next times fails with the SQLSTATE, and its transaction with it, as for any such error: it is the server's
// own. refused says how often that has happened; it does not count back with a transaction.
func Refuse(t testing.TB, dsn, table string, when When, sqlstate string, after, times int) (refused func() int) {
	t.Helper()
	name := fmt.Sprintf("refusal%d", refusals.Add(1))
	trigger := `CREATE TRIGGER ` + name + ` BEFORE INSERT OR UPDATE OR DELETE ON ` + table
	if when == AtCommit {
		trigger = `CREATE CONSTRAINT TRIGGER ` + name + ` AFTER INSERT OR UPDATE OR DELETE ON ` + table + ` DEFERRABLE INITIALLY DEFERRED`
	}
	// A sequence goes on counting whatever becomes of the transaction.
	do(t, dsn,
		`CREATE SEQUENCE `+name,
		fmt.Sprintf(`CREATE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql AS $$
			DECLARE n bigint := nextval('%s');
			BEGIN
				IF n > %d AND n <= %d THEN RAISE EXCEPTION 'refused for a test' USING ERRCODE = '%s'; END IF;
				RETURN coalesce(NEW, OLD);
			END $$`, name, name, after, after+times, sqlstate),
		trigger+` FOR EACH ROW EXECUTE FUNCTION `+name+`()`,
	)
	return func() int {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		var counted int
		if err := conn.QueryRow(ctx, `SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM `+name).Scan(&counted); err != nil {
			t.Fatal(err)
		}
		return min(max(counted-after, 0), times)
	}
}

// do runs statements on a database as its owner, each on its own.
func do(t testing.TB, dsn string, statements ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}
