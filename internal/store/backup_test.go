package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"holdfast/internal/payment"
	"holdfast/internal/postgrestest"
	"holdfast/internal/store"
)

// restored opens what a backup becomes.
func restored(t *testing.T, file string, now time.Time) *world {
	t.Helper()
	w := &world{t: t, open: store.Open, dir: t.TempDir(), now: now}
	if _, err := store.RestoreInto(w.dir, file, now); err != nil {
		t.Fatal(err)
	}
	w.Store = w.openAgain(true)
	return w
}

// Backups are taken one after another while callers write: each holds everything that was acknowledged before it was
// begun, its books are clean, and nobody who wrote was refused.
func TestBackupWhileCallersWrite(t *testing.T) {
	w := newWorld(t, store.Open)
	var orders atomic.Int64
	for range 50 {
		w.held(terms(fmt.Sprint("order-", orders.Add(1))))
	}
	ctx, stop := context.WithCancel(t.Context())
	var acknowledged sync.Map // payment.ID to version
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for ctx.Err() == nil {
				name := fmt.Sprint("order-", orders.Add(1))
				p, _, err := w.Create(context.Background(), shop, name, maker(terms(name)))
				if err != nil {
					t.Error(err)
					return
				}
				change, err := w.Update(context.Background(), p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
					return payment.Begin(p, pay(), now)
				})
				if err != nil {
					t.Error(err)
					return
				}
				acknowledged.Store(p.ID, change.Payment.Version)
			}
		})
	}
	const backups = 3
	var files [backups]string
	var before [backups]map[payment.ID]int64
	dir := t.TempDir()
	for i := range files {
		before[i] = make(map[payment.ID]int64)
		acknowledged.Range(func(id, version any) bool { before[i][id.(payment.ID)] = version.(int64); return true })
		files[i] = filepath.Join(dir, fmt.Sprint("backup-", i))
		steps, of := 0, 0
		if err := w.Backup(t.Context(), files[i], func(done, all int) { steps++; of = all - done }); err != nil {
			t.Fatal(err)
		}
		if steps == 0 || of != 0 {
			t.Errorf("progress was told %d times, at last that %d pages are left", steps, of)
		}
	}
	stop()
	writers.Wait()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != backups {
		t.Errorf("beside the backups there lies %v, %v", entries, err)
	}
	for i, file := range files {
		if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		r := restored(t, file, t0.Add(time.Hour))
		r.allThere(before[i])
		mark := r.Restored()
		if !mark.At.Equal(t0.Add(time.Hour)) || !mark.Taken.Equal(t0) || mark.Reconciled {
			t.Errorf("the mark is %+v", mark)
		}
		t.Logf("backup %d: %d payments acknowledged before it are in it", i, len(before[i]))
	}
	if mark := w.Restored(); !mark.At.IsZero() {
		t.Errorf("the store itself says that it was restored: %+v", mark)
	}
}

// A store that was brought back by other means is marked by hand, and is from its next start on like a restored one.
func TestMarkedAsRestored(t *testing.T) {
	for name, open := range map[string]engine{"SQLite": store.Open, "PostgreSQL": postgres(postgrestest.Database(t))} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, open)
			again := func() store.Restored {
				t.Helper()
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				w.Store = w.openAgain(true)
				return w.Restored()
			}
			if _, err := w.MarkRestored(t.Context()); err == nil || !strings.Contains(err.Error(), "no payment") {
				t.Errorf("an empty store: %v", err)
			}
			w.everything()
			w.later(time.Hour)
			made := w.create(terms("while the clock was ahead"))
			newest := w.clock()
			w.now = w.now.Add(-time.Hour)
			w.begin(made.ID, payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant})
			w.later(time.Minute)
			if _, err := w.MarkRestored(t.Context()); err == nil || !strings.Contains(err.Error(), "set the clock right") {
				t.Errorf("before its newest change: %v", err)
			}
			if mark := again(); !mark.At.IsZero() {
				t.Errorf("what was refused has marked it: %+v", mark)
			}
			for range 2 { // it may happen more than once
				w.later(2 * time.Hour)
				want := store.Restored{At: w.clock(), Taken: newest}
				if mark, err := w.MarkRestored(t.Context()); err != nil || mark != want {
					t.Errorf("marked as %+v, want %+v (%v)", mark, want, err)
				}
				if mark := again(); mark != want {
					t.Errorf("the mark is %+v, want %+v", mark, want)
				}
				if err := w.SetReconciled(t.Context()); err != nil || !again().Reconciled {
					t.Errorf("reconciled, it is %+v, %v", w.Restored(), err)
				}
			}
			w.clean()
		})
	}
}

func TestRestoreIsRememberedAndReconciledOnce(t *testing.T) {
	w := newWorld(t, store.Open)
	w.everything()
	w.later(time.Hour)
	file := filepath.Join(t.TempDir(), "backup")
	if err := w.Backup(t.Context(), file, nil); err != nil {
		t.Fatal(err)
	}
	r := restored(t, file, w.clock().Add(time.Hour))
	r.clean()
	again := func() store.Restored {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r.Store = r.openAgain(true)
		return r.Restored()
	}
	first := again()
	if err := r.SetReconciled(t.Context()); err != nil || first.Reconciled {
		t.Errorf("%+v, %v", first, err)
	}
	if second := again(); !second.Reconciled || !second.At.Equal(first.At) || !second.Taken.Equal(first.Taken) {
		t.Errorf("%+v, then %+v", first, second)
	}
	// A backup of what was restored, restored, begins anew.
	next := filepath.Join(t.TempDir(), "backup")
	r.now = w.clock().Add(2 * time.Hour)
	if err := r.Backup(t.Context(), next, nil); err != nil {
		t.Fatal(err)
	}
	if third := restored(t, next, w.clock().Add(3*time.Hour)).Restored(); third.Reconciled || !third.At.After(first.At) {
		t.Errorf("%+v, then %+v", first, third)
	}
}

func TestBackupIsRefused(t *testing.T) {
	w := newWorld(t, store.Open)
	w.everything()
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		file string
		says string
	}{
		"something is there": {t.Context(), there, "is not overwritten"},
		"no such directory":  {t.Context(), filepath.Join(dir, "none", "backup"), "cannot be made"},
		"given up":           {cancelled, filepath.Join(dir, "given-up"), "context canceled"},
	} {
		if err := w.Backup(c.ctx, c.file, nil); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Given up half way, it leaves nothing behind either.
	ctx, giveUp := context.WithCancel(t.Context())
	if err := w.Backup(ctx, filepath.Join(dir, "half"), func(int, int) { giveUp() }); err == nil {
		// It was so small that it was through by then: then it is whole.
		restored(t, filepath.Join(dir, "half"), t0.Add(time.Hour)).clean()
	}
	if text, err := os.ReadFile(there); err != nil || string(text) != "precious" {
		t.Errorf("%q, %v", text, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".backup-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRestoreIsRefused(t *testing.T) {
	w := newWorld(t, store.Open)
	w.everything()
	w.later(time.Hour)
	good := filepath.Join(t.TempDir(), "backup")
	if err := w.Backup(t.Context(), good, nil); err != nil {
		t.Fatal(err)
	}
	bytes, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	sql := func(statement string) func(file string) error {
		return func(file string) error {
			if err := os.WriteFile(file, bytes, 0o600); err != nil {
				return err
			}
			conn, err := sqlite.OpenConn(file, sqlite.OpenReadWrite)
			if err != nil {
				return err
			}
			return errors.Join(sqlitex.ExecScript(conn, statement), conn.Close())
		}
	}
	write := func(b []byte) func(file string) error {
		return func(file string) error { return os.WriteFile(file, b, 0o600) }
	}
	damaged := append([]byte(nil), bytes...)
	for i := 4096; i < 5*4096; i++ {
		damaged[i] ^= 0x5a
	}
	late := w.clock().Add(time.Hour)
	for name, c := range map[string]struct {
		make func(file string) error
		now  time.Time
		says string
	}{
		"a directory":           {func(file string) error { return os.Mkdir(file, 0o700) }, late, "cannot be copied"},
		"garbage":               {write([]byte(strings.Repeat("no backup. ", 1000))), late, "damaged or not a store"},
		"cut short":             {write(bytes[:len(bytes)/2]), late, "damaged"},
		"a page is damaged":     {write(damaged), late, "damaged"},
		"a store, not a backup": {sql(`DELETE FROM meta WHERE name = 'backup_taken_at'`), late, "no backup"},
		"a store and its log": {func(file string) error {
			return errors.Join(sql(`DELETE FROM meta WHERE name = 'backup_taken_at'`)(file), os.WriteFile(file+"-wal", nil, 0o600))
		}, late, "no backup: only what holdfast backup made can be restored; if "},
		"a damaged one and its log": {func(file string) error {
			return errors.Join(write(damaged)(file), os.WriteFile(file+"-wal", nil, 0o600))
		}, late, "-wal is its log, it is a store's own file"},
		"of a newer holdfast": {sql(`UPDATE meta SET value = '999' WHERE name = 'schema'`), late, "newer holdfast (schema 999"},
		"the clock is behind": {write(bytes), w.clock().Add(-time.Minute), "set the clock right"},
	} {
		t.Run(name, func(t *testing.T) {
			file, dir := filepath.Join(t.TempDir(), "file"), t.TempDir()
			if err := c.make(file); err != nil {
				t.Fatal(err)
			}
			if _, err := store.RestoreInto(dir, file, c.now); err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), file) && c.says != "set the clock right" {
				t.Errorf("it says %v, want %q", err, c.says)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
	if _, err := store.RestoreInto(w.dir, good, late); err == nil || !strings.Contains(err.Error(), "holds a store already") {
		t.Errorf("over a store: %v", err)
	}
	w.clean()
}

// Of those who restore into one directory at once one does, and nobody else takes away what he has made.
func TestManyRestoreAtOnce(t *testing.T) {
	w := newWorld(t, store.Open)
	w.everything()
	file := filepath.Join(t.TempDir(), "backup")
	if err := w.Backup(t.Context(), file, nil); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		r := &world{t: t, open: store.Open, dir: t.TempDir(), now: t0.Add(time.Hour)}
		var made atomic.Int32
		together(8, func(int) {
			_, err := store.RestoreInto(r.dir, file, r.now)
			switch {
			case err == nil:
				made.Add(1)
			case !strings.Contains(err.Error(), "holds a store already"):
				t.Error(err)
			}
		})
		if made.Load() != 1 {
			t.Fatalf("%d have made it", made.Load())
		}
		r.Store = r.openAgain(true)
		if a := r.clean(); a.Payments != everyPayment {
			t.Errorf("%d payments are restored, want %d", a.Payments, everyPayment)
		}
	}
}
