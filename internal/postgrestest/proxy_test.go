package postgrestest

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestProxyCutsCommit: a connection that breaks before the COMMIT leaves nothing, one that breaks after it everything,
// and the client sees the same of both.
func TestProxyCutsCommit(t *testing.T) {
	commits := func(m Message) bool { return !m.FromServer && strings.EqualFold(m.Text, "commit") }
	committed := func(m Message) bool { return m.FromServer && m.Type == 'C' && m.Text == "COMMIT" }
	simple := func(ctx context.Context, conn *pgx.Conn) error {
		tx, err := conn.Begin(ctx)
		if err == nil {
			_, err = tx.Exec(ctx, `INSERT INTO things VALUES ($1)`, 1)
		}
		if err != nil {
			return err
		}
		return tx.Commit(ctx)
	}
	pipelined := func(ctx context.Context, conn *pgx.Conn) error {
		batch := new(pgx.Batch)
		batch.Queue(`BEGIN`)
		batch.Queue(`INSERT INTO things VALUES ($1)`, 1)
		batch.Queue(`COMMIT`)
		return conn.SendBatch(ctx, batch).Close()
	}
	for _, c := range []struct {
		name    string
		run     func(context.Context, *pgx.Conn) error
		verdict Verdict
		match   func(Message) bool
		want    int
	}{
		{"before", simple, CutBefore, commits, 0},
		{"after", simple, CutBefore, committed, 1},
		{"the answer comes", simple, CutAfter, func(m Message) bool { return m.FromServer && m.Type == 'Z' }, 0}, // of BEGIN
		{"pipelined, before", pipelined, CutBefore, commits, 0},
		{"pipelined, after", pipelined, CutBefore, committed, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			dsn := Database(t)
			do(t, dsn, `CREATE TABLE things (n bigint)`)
			proxy := NewProxy(t, dsn)
			conn := connect(t, proxy.DSN())
			proxy.Watch(Once(c.verdict, c.match))
			if err := c.run(t.Context(), conn); err == nil || sqlstate(err) != "" {
				t.Errorf("the connection was cut, and the client saw %v", err)
			}
			if n := number(t, connect(t, dsn), `SELECT count(*) FROM things`); n != c.want {
				t.Errorf("%d rows are stored, want %d", n, c.want)
			}
			if err := c.run(t.Context(), connect(t, proxy.DSN())); err != nil {
				t.Errorf("the next connection does not work: %v", err)
			}
		})
	}
}

// TestProxyHandsOnLastWords: why a server ends a connection comes to the client, who writes to it meanwhile.
func TestProxyHandsOnLastWords(t *testing.T) {
	dsn := Database(t)
	proxy, admin := NewProxy(t, dsn), connect(t, dsn)
	for range 30 { // what the server says races with what the client writes
		proxy.Watch(nil)
		conn := connect(t, proxy.DSN())
		said, asked := make(chan struct{}), make(chan struct{})
		ask := sync.OnceFunc(func() { close(asked) })
		proxy.Watch(func(m Message) Verdict {
			switch {
			case m.FromServer && m.Text == "57P01": // admin_shutdown
				close(said)
				<-asked
			case !m.FromServer:
				ask()
			}
			return Pass
		})
		if _, err := admin.Exec(t.Context(), `SELECT pg_terminate_backend($1)`, int32(conn.PgConn().PID())); err != nil {
			t.Fatal(err)
		}
		<-said
		batch := new(pgx.Batch)
		for range 5 {
			batch.Queue(`SELECT 1`)
		}
		if err := conn.SendBatch(t.Context(), batch).Close(); sqlstate(err) != "57P01" {
			t.Fatalf("the client is not told that the server has ended the connection: %v", err)
		}
	}
}

// TestProxyIsTransparent: without a rule nothing changes; the messages say what they are about.
func TestProxyIsTransparent(t *testing.T) {
	proxy := NewProxy(t, Database(t))
	seen := make(chan Message, 1000)
	proxy.Watch(func(m Message) Verdict {
		seen <- m
		return Pass
	})
	conn := connect(t, strings.Replace(proxy.DSN(), "sslmode=disable", "sslmode=prefer", 1)) // it is told that there is no TLS
	for range 2 {                                                                            // prepared, and again
		if n := number(t, conn, `SELECT 41 + 1`); n != 42 {
			t.Errorf("the answer is %d", n)
		}
	}
	if _, err := conn.Exec(t.Context(), `SELECT 1 / 0`); sqlstate(err) != "22012" {
		t.Errorf("a server's error came as %v", err)
	}
	proxy.Watch(nil)
	close(seen)
	var executed, completed, refused int
	for m := range seen {
		switch {
		case !m.FromServer && m.Type == 'E' && m.Text == `SELECT 41 + 1`:
			executed++
		case m.FromServer && m.Type == 'C' && m.Text == "SELECT 1":
			completed++
		case m.FromServer && m.Type == 'E' && m.Text == "22012":
			refused++
		}
	}
	if executed != 2 || completed != 2 || refused != 1 {
		t.Errorf("%d executed, %d completed, %d refused", executed, completed, refused)
	}
}

// TestProxyCloses: a closed proxy cuts and lets nobody in, an opened one does again.
func TestProxyCloses(t *testing.T) {
	proxy := NewProxy(t, Database(t))
	conn := connect(t, proxy.DSN())
	proxy.Close()
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a cut connection works")
	}
	if _, err := pgx.Connect(t.Context(), proxy.DSN()); err == nil {
		t.Error("a closed proxy lets somebody in")
	}
	proxy.Open()
	if err := connect(t, proxy.DSN()).Ping(t.Context()); err != nil {
		t.Error(err)
	}
	proxy.Cut()
	if err := connect(t, proxy.DSN()).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestRefuse: as many writes are refused as said, with their whole transactions, and then none.
func TestRefuse(t *testing.T) {
	for _, when := range []When{AtStatement, AtCommit} {
		t.Run(string(when), func(t *testing.T) {
			dsn := Database(t)
			do(t, dsn, `CREATE TABLE things (n bigint)`, `CREATE TABLE others (n bigint)`)
			refused := Refuse(t, dsn, "things", when, "40001", 1, 2)
			conn := connect(t, dsn)
			for i, want := range []string{"", "40001", "40001", "", ""} {
				tx, err := conn.Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if _, err = tx.Exec(t.Context(), `INSERT INTO others VALUES (1)`); err != nil {
					t.Fatal(err)
				}
				_, wrote := tx.Exec(t.Context(), `INSERT INTO things VALUES (1)`)
				committed := tx.Commit(t.Context())
				if when == AtStatement && sqlstate(wrote) != want || when == AtCommit && (wrote != nil || sqlstate(committed) != want) {
					t.Errorf("write %d: %v, then %v; want %q", i+1, wrote, committed, want)
				}
			}
			if n := refused(); n != 2 {
				t.Errorf("%d were refused, want 2", n)
			}
			if n := number(t, conn, `SELECT count(*) FROM others`); n != 3 {
				t.Errorf("%d transactions are stored, want 3", n)
			}
		})
	}
}

// TestProxyLeads: whoever comes after Lead is in another database, and what was open is rolled back.
func TestProxyLeads(t *testing.T) {
	here, there := Database(t), Database(t)
	do(t, here, `CREATE TABLE things (n bigint)`)
	do(t, there, `CREATE TABLE things (n bigint)`)
	cfg, err := pgx.ParseConfig(there)
	if err != nil {
		t.Fatal(err)
	}
	proxy := NewProxy(t, here)
	conn := connect(t, proxy.DSN())
	for _, sql := range []string{`INSERT INTO things VALUES (1)`, `BEGIN`, `INSERT INTO things VALUES (2)`} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	proxy.Lead(cfg.Database)
	if _, err := conn.Exec(t.Context(), `COMMIT`); err == nil {
		t.Error("a connection that was cut commits")
	}
	do(t, proxy.DSN(), `INSERT INTO things VALUES (3)`)
	proxy.Lead("")
	do(t, proxy.DSN(), `INSERT INTO things VALUES (4)`)
	for dsn, want := range map[string]int{here: 1 + 4, there: 3} {
		if n := number(t, connect(t, dsn), `SELECT sum(n) FROM things`); n != want {
			t.Errorf("the rows add up to %d, want %d", n, want)
		}
	}
}
