package world_test

import (
	"fmt"
	"os"
	"path/filepath"

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
	dir   string
	place string // of the process that runs, or of the next one
	n     int    // places so far
	dead  bool   // the process that runs works in a place that nobody looks at any more
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
	h.n++
	h.place, h.dead = filepath.Join(h.dir, fmt.Sprint("store-", h.n)), true
	if err := os.Mkdir(h.place, 0o700); err != nil {
		return err
	}
	// First the file and then its log: what moves from the log into the file meanwhile is in both.
	for _, name := range []string{store.File, store.File + "-wal"} {
		b, err := os.ReadFile(filepath.Join(from, name))
		if os.IsNotExist(err) && name != store.File {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(h.place, name), b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
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
