package world_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"holdfast/internal/store"
)

// On SQLite the store is files, and at a crash they are copied as they lie on the disk.

// sqliteEngine keeps a store in a directory.
type sqliteEngine struct{ template string }

func onSQLite(dir string) engine { return sqliteEngine{filepath.Join(dir, "template")} }

func (e sqliteEngine) begin(cfg store.Config) (*store.Store, error) {
	cfg.Dir = e.template
	return store.Open(cfg)
}

func (e sqliteEngine) keep() error {
	conn, err := sqlite.OpenConn(filepath.Join(e.template, store.File), sqlite.OpenReadWrite|sqlite.OpenWAL)
	if err != nil {
		return err
	}
	if err := sqlitex.ExecScript(conn, pinNumbers); err != nil {
		conn.Close()
		return err
	}
	return conn.Close()
}

func (e sqliteEngine) home(dir string) (home, error) {
	h := &sqliteHome{dir: dir, place: e.template}
	return h, h.die("")
}

type sqliteHome struct {
	dir    string
	place  string // of the process that runs, or of the next one
	n      int    // places so far
	copies int    // backups so far
	file   string // the last one, or the directory with it
	dead   bool   // the process that runs works in a place that nobody looks at any more
}

func (h *sqliteHome) seats() []seat { return []seat{h} } // one process serves from a file

func (h *sqliteHome) open(cfg store.Config) (*store.Store, error) {
	cfg.Dir, h.dead = h.place, false
	return store.Open(cfg)
}

func (h *sqliteHome) die(fate) error {
	if h.dead {
		return nil
	}
	from := h.place
	h.dead = true
	if err := h.move(); err != nil {
		return err
	}
	return copyStore(h.place, from)
}

// move has the next process find its files in a new place.
func (h *sqliteHome) move() error {
	h.n++
	h.place = filepath.Join(h.dir, fmt.Sprint("store-", h.n))
	return os.Mkdir(h.place, 0o700)
}

// copyStore copies the files of a store as they lie on the disk.
func copyStore(to, from string) error {
	// First the file and then its log: what moves from the log into the file meanwhile is in both.
	for _, name := range []string{store.File, store.File + "-wal"} {
		b, err := os.ReadFile(filepath.Join(from, name))
		if os.IsNotExist(err) && name != store.File {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// backup is holdfast backup, or a copy of the directory.
func (h *sqliteHome) backup(from *store.Store) error {
	h.copies++
	h.file = filepath.Join(h.dir, fmt.Sprint("backup-", h.copies))
	if h.copies%2 == 1 {
		return from.Backup(context.Background(), h.file, nil)
	}
	if err := os.Mkdir(h.file, 0o700); err != nil {
		return err
	}
	return copyStore(h.file, h.place)
}

func (h *sqliteHome) restore(now func() time.Time) error {
	if err := h.move(); err != nil {
		return err
	}
	if h.copies%2 == 1 {
		_, err := store.RestoreInto(h.place, h.file, now())
		return err
	}
	if err := copyStore(h.place, h.file); err != nil {
		return err
	}
	return markRestored(store.Config{Dir: h.place, Serve: true, Now: now})
}

// markRestored is holdfast recovered.
func markRestored(cfg store.Config) error {
	cfg.Log = slog.New(slog.DiscardHandler)
	s, err := store.Open(cfg)
	if err != nil {
		return err
	}
	_, err = s.MarkRestored(context.Background())
	return errors.Join(err, s.Close())
}

func (h *sqliteHome) breaks(fate)       {}
func (h *sqliteHome) fates() []fate     { return nil }
func (h *sqliteHome) met() map[fate]int { return nil }

func (h *sqliteHome) pieces(show func(name string, b []byte)) error {
	files, err := os.ReadDir(h.place)
	if err != nil {
		return err
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(h.place, f.Name()))
		if err != nil {
			return err
		}
		show(f.Name(), b)
	}
	return nil
}
