package postgrestest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func number(t testing.TB, conn *pgx.Conn, query string) (n int) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func sqlstate(err error) string {
	if e := new(pgconn.PgError); errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// TestDatabase: each database is empty, belongs to an ordinary role with a password, and keeps what is committed.
func TestDatabase(t *testing.T) {
	first, second := Database(t), Database(t)
	do(t, first, `CREATE TABLE things (n bigint)`, `INSERT INTO things VALUES (1)`)
	if n := number(t, connect(t, second), `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`); n != 0 {
		t.Errorf("a fresh database has %d tables", n)
	}
	conn := connect(t, first)
	if n := number(t, conn, `SELECT count(*) FROM things`); n != 1 {
		t.Errorf("%d rows are stored, want 1", n)
	}
	for setting, want := range map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "is_superuser": "off", "listen_addresses": "127.0.0.1"} {
		var is string
		if err := conn.QueryRow(t.Context(), `SHOW `+setting).Scan(&is); err != nil || is != want {
			t.Errorf("%s is %q, want %q (%v)", setting, is, want, err)
		}
	}
	if _, err := pgx.Connect(t.Context(), strings.Replace(first, Password, "wrong", 1)); sqlstate(err) != "28P01" {
		t.Errorf("a wrong password: %v", err)
	}
}

// TestKill: what was acknowledged is there after a kill and a restart, what was not committed is not.
func TestKill(t *testing.T) {
	s := Start(t)
	dsn := s.Database(t)
	do(t, dsn, `CREATE TABLE things (n bigint)`, `INSERT INTO things VALUES (1)`)
	conn := connect(t, dsn)
	tx, err := conn.Begin(t.Context())
	if err == nil {
		_, err = tx.Exec(t.Context(), `INSERT INTO things VALUES (2)`)
	}
	if err != nil {
		t.Fatal(err)
	}
	process := s.process
	s.Kill(t)
	if err := tx.Commit(t.Context()); err == nil {
		t.Error("a killed server has committed")
	}
	if s.alive() || running(process) {
		t.Error("a killed server runs")
	}
	s.Restart(t)
	if n := number(t, connect(t, dsn), `SELECT sum(n) FROM things`); n != 1 {
		t.Errorf("the rows add up to %d, want 1", n)
	}
}

// TestFailover: a commit is acknowledged only when the standby has it; the standby, promoted, has all of them, and a
// DSN of both leads to whoever takes writes.
func TestFailover(t *testing.T) {
	primary := Start(t)
	primary.Database(t) // so that the names of databases are not by chance the same on both
	dsn := primary.Database(t)
	standby := primary.Standby(t, "second")
	name := dsn[strings.LastIndex(dsn, "/")+1 : strings.Index(dsn, "?")]
	both := DSN(name, standby, primary)
	do(t, both, `CREATE TABLE things (n bigint PRIMARY KEY)`)

	conn := connect(t, both)
	acknowledged := 0
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		primary.Kill(t)
	}()
	for {
		if _, err := conn.Exec(context.Background(), `INSERT INTO things VALUES ($1)`, acknowledged+1); err != nil {
			break
		}
		acknowledged++
	}
	<-killed
	if _, err := pgx.Connect(t.Context(), both); err == nil {
		t.Error("a standby passes for a server that takes writes")
	}
	standby.Promote(t)
	conn = connect(t, both)
	if n := number(t, conn, `SELECT count(*) FROM things WHERE n <= `+strconv.Itoa(acknowledged)); n != acknowledged {
		t.Errorf("%d commits were acknowledged, and %d of them are there", acknowledged, n)
	}
	if _, err := conn.Exec(t.Context(), `INSERT INTO things VALUES (-1)`); err != nil {
		t.Errorf("the promoted standby takes no writes: %v", err)
	}
}

// TestSynchronous: without its standby a primary acknowledges nothing.
func TestSynchronous(t *testing.T) {
	primary := Start(t)
	dsn := primary.Database(t)
	standby := primary.Standby(t, "second")
	do(t, dsn, `CREATE TABLE things (n bigint)`, `INSERT INTO things VALUES (1)`)
	standby.Kill(t)
	conn := connect(t, dsn)
	inserted := make(chan error, 1)
	go func() {
		// A time-out of statements does not end the wait, which would pass for a commit (docs/deploy.md).
		batch := new(pgx.Batch)
		batch.Queue(`BEGIN`)
		batch.Queue(`SET LOCAL statement_timeout = '200ms'`)
		batch.Queue(`INSERT INTO things VALUES (2)`)
		batch.Queue(`COMMIT`)
		inserted <- conn.SendBatch(context.Background(), batch).Close()
	}()
	primary.await(t, `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query_start < clock_timestamp() - interval '1 s'`, "1")
	select {
	case err := <-inserted:
		t.Fatalf("the commit did not wait for the standby: %v", err)
	default:
	}
	standby.Restart(t)
	if err := <-inserted; err != nil {
		t.Errorf("the standby is back, and the commit fails: %v", err)
	}
}

// TestNothingIsLeft: however a test process ends, its server ends and its folder goes.
func TestNothingIsLeft(t *testing.T) {
	const role = "HOLDFAST_TEST_START_AND_WAIT"
	if os.Getenv(role) != "" {
		s, err := shared()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("\nstarted %d %s\n", s.process, s.dir)
		select {} // until it is killed
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestNothingIsLeft$")
	cmd.Env = append(os.Environ(), role+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var process int
	var dir string
	for lines := bufio.NewScanner(out); process == 0 && lines.Scan(); {
		fmt.Sscanf(lines.Text(), "started %d %s", &process, &dir)
	}
	if !running(process) || !kept(dir) {
		t.Errorf("process %d of PostgreSQL does not run, or %s has no keeper", process, dir)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // its exit status is the kill's
	if err := eventually(func() error {
		if _, err := os.Stat(dir); running(process) || err == nil {
			return fmt.Errorf("process %d or %s is left", process, dir)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestSweep: what a keeper left that was itself killed is cleared away, and nothing else.
func TestSweep(t *testing.T) {
	s := Start(t)
	if !kept(s.dir) {
		t.Fatal("a folder in use counts as left")
	}
	if err := s.keeper.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	s.keeper.Wait() // its exit status is the kill's
	if !running(s.process) || kept(s.dir) {
		t.Fatal("the server should run without a keeper")
	}
	other := filepath.Join(t.TempDir(), folders+"1")
	if err := os.MkdirAll(filepath.Join(other, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	// The process that a foreign folder names is not ended: it does not work there.
	if err := os.WriteFile(filepath.Join(other, "data", "postmaster.pid"), fmt.Appendf(nil, "%d\n", s.process), 0o600); err != nil {
		t.Fatal(err)
	}
	remove(other)
	if !running(s.process) {
		t.Error("another folder's server was ended")
	}
	remove(s.dir)
	if _, err := os.Stat(s.dir); running(s.process) || err == nil {
		t.Errorf("process %d or %s is left", s.process, s.dir)
	}
	s.keeper = nil
}

// A free port is none that most systems give away, and nobody is given it twice.
func TestFreePort(t *testing.T) {
	given := make(map[int]bool)
	for range 50 {
		n, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if n < firstPort || n >= lastPort || given[n] {
			t.Errorf("%d is given, after %v", n, given)
		}
		given[n] = true
	}
}
