package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"holdfast/internal/postgrestest"
	"holdfast/internal/store"
)

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// watched is a store with a log.
func watched(t *testing.T, dsn string) (w *world, log *lines) {
	t.Helper()
	log = new(lines)
	return newWorld(t, func(cfg store.Config) (*store.Store, error) {
		cfg.Log = slog.New(slog.NewTextHandler(log, nil))
		return postgresWith(dsn, 2)(cfg)
	}), log
}

// saysOnce fails unless the log tells once why the database was away, and once that this is over.
func (l *lines) saysOnce(t *testing.T, why string) {
	t.Helper()
	for _, line := range []string{"the database takes no payments; calls fail until it does again", why, "the database takes payments again"} {
		if n := strings.Count(l.String(), line); n != 1 {
			t.Errorf("the log says %d times %q:\n%s", n, line, l)
		}
	}
}

// endSessions has the server end all sessions of a database but the one that says so.
const endSessions = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`

// A database that only reads is away, until it takes writes again; nobody has to call for that to be seen.
func TestPostgreSQLOnlyReads(t *testing.T) {
	dsn := postgrestest.Database(t)
	w, log := watched(t, dsn)
	p := w.asking(terms("order-1"))
	defer store.Impatient(2 * time.Second)() // not in parallel with others
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	tell(t, dsn, `ALTER DATABASE `+cfg.Database+` SET default_transaction_read_only = on; `+endSessions)
	isTold(t, "only reads (it is a standby, or default_transaction_read_only is on)", func() error { return ask(w.Store, p.ID) })
	if _, err := w.Payment(t.Context(), p.ID); err != nil { // who reads is still answered
		t.Error(err)
	}
	if w.Away() == nil || w.Err() != nil {
		t.Errorf("away: %v, failed: %v", w.Away(), w.Err())
	}
	tell(t, dsn, `SET transaction_read_only = off; ALTER DATABASE `+cfg.Database+` RESET default_transaction_read_only`)
	eventually(t, "payments are taken again", func() bool { return w.Away() == nil })
	goesWell(t, func() error { return ask(w.Store, p.ID) })
	log.saysOnce(t, "only reads")
	w.clean()
}

// What may be wrong with a page or a payment alone does not make the database one that takes no payments.
func TestPostgreSQLNotAway(t *testing.T) {
	for state, away := range map[string]bool{"XX001": false, "58030": false, "22003": false, "53100": true, "53200": true} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.Database(t)
			w, log := watched(t, dsn)
			p := w.asking(terms("order-1"))
			refused := postgrestest.Refuse(t, dsn, "payments", postgrestest.AtStatement, state, 0, 1)
			if err := ask(w.Store, p.ID); err == nil || refused() != 1 {
				t.Errorf("told %v after %d refusals", err, refused())
			}
			if got := w.Away(); (got != nil) != away {
				t.Errorf("away: %v", got)
			}
			if away { // for some seconds, as the log tells
				eventually(t, "payments are taken again", func() bool { return w.Away() == nil })
				log.saysOnce(t, state)
			}
		})
	}
}

// A database whose disk is full is away as long as it is, also where what is tried finds room in a page that is there.
func TestPostgreSQLFullDisk(t *testing.T) {
	disk := smallDisk(t)
	if disk == "" {
		return
	}
	server := postgrestest.Start(t)
	dsn := server.Database(t)
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	server.Exec(t, `CREATE TABLESPACE small LOCATION '`+disk+`'`, `ALTER DATABASE `+cfg.Database+` SET TABLESPACE small`)
	t.Cleanup(func() { server.Exec(t, `DROP DATABASE `+cfg.Database+` WITH (FORCE)`, `DROP TABLESPACE small`) })
	w, log := watched(t, dsn)
	stored := w.captured(terms("before"), total)
	filling := fill(t, disk)
	for n := 0; err == nil; n++ { // until no page has room for one more
		terms := terms(fmt.Sprint("full-", n))
		_, _, err = w.Create(t.Context(), shop, terms.ShopPaymentID, maker(terms))
	}
	if !strings.Contains(err.Error(), "is full: free some space; nothing acknowledged is lost") {
		t.Errorf("told %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second) // longer than nobody has to be told no
	defer cancel()
	for look := time.NewTicker(100 * time.Millisecond); ctx.Err() == nil; <-look.C {
		if w.Away() == nil {
			t.Fatal("the disk is full, and payments are taken")
		}
	}
	if err := os.Remove(filling); err != nil {
		t.Fatal(err)
	}
	eventually(t, "payments are taken again", func() bool { return w.Away() == nil })
	w.create(terms("after"))
	log.saysOnce(t, "is full")
	if p, err := w.Payment(t.Context(), stored.ID); err != nil || p.Captured.Minor != total {
		t.Errorf("what was acknowledged before: %+v, %v", p, err)
	}
	w.clean()
}

// smallDisk is a file system of its own for PostgreSQL; "": none can be made here.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "holdfast-disk-") // where whoever runs the server may go
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	options := "size=48m,mode=700"
	if who, err := user.Lookup("postgres"); err == nil {
		options += ",uid=" + who.Uid + ",gid=" + who.Gid
	}
	if err = os.Chmod(dir, 0o755); err == nil {
		err = syscall.Mount("tmpfs", dir, "tmpfs", 0, options)
	}
	if err != nil {
		t.Logf("no small disk can be made here (%v): that the server may say so all the same is TestPostgreSQLNotAway's", err)
		return ""
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill leaves no byte free, and says which file has them.
func fill(t *testing.T, disk string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(disk, "filling"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, endless{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk does not fill up: %v", err)
	}
	return f.Name()
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }
