package store_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"holdfast/internal/payment"
	"holdfast/internal/store"
)

// These tests start the test binary once more, as a process that can be killed, limited or run as
// somebody else.

const (
	childRole  = "HOLDFAST_TEST_CHILD"
	childDir   = "HOLDFAST_TEST_DIR"
	childLimit = "HOLDFAST_TEST_LIMIT" // bytes that one file may have
)

// child is what such a process does. It prints a line for each payment whose storing the store has
// acknowledged: "id version".
func child(role string) int {
	dir := os.Getenv(childDir)
	if role == "write as nobody" && os.Getuid() == 0 {
		// Permissions do not bind root.
		const nobody = 65534
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
			fmt.Println("cannot become nobody:", err)
			return 2
		}
	}
	var limit syscall.Rlimit
	if _, err := fmt.Sscan(os.Getenv(childLimit), &limit.Cur); err == nil {
		limit.Max = limit.Cur
		signal.Ignore(syscall.SIGXFSZ) // so that a write past the limit is an error and not the end
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			fmt.Println("cannot be limited:", err)
			return 2
		}
	}
	failures := make(checkpointFailures, 1)
	log := slog.New(slog.NewTextHandler(failures, nil))
	s, err := store.Open(store.Config{Dir: dir, Serve: true, Log: log})
	if err != nil {
		fmt.Println("open:", err)
		return 1
	}
	if role == "write once" {
		// What it wrote is in the log and fits there; moving it into the file, in the background, does not.
		_, _, err := s.Create(context.Background(), shop, "once", maker(terms("once")))
		fmt.Println("create:", err)
		select {
		case <-failures:
		case <-time.After(3 * time.Minute):
			fmt.Println("the log was moved")
		}
		// What is written next is not acknowledged, also if nobody has asked how the store is. It says in its log that
		// it failed just before it takes note of it; three further payments fit into the limit.
		for i := 0; i < 3 && err == nil; i++ {
			name := fmt.Sprint("after-", i)
			_, _, err = s.Create(context.Background(), shop, name, maker(terms(name)))
		}
		fmt.Println("after:", err)
		fmt.Println("err:", s.Err())
		return 3
	}
	var printing sync.Mutex
	acknowledged := func(p payment.Payment) {
		printing.Lock()
		defer printing.Unlock()
		fmt.Println(p.ID, p.Version)
	}
	big := strings.Repeat("x", 4096)
	failure := make(chan error, 1)
	const writers = 8
	for n := range writers {
		go func() {
			for i := 0; ; i++ {
				name := fmt.Sprint(os.Getpid(), "-", n, "-", i)
				t := terms(name)
				t.Description = big
				p, _, err := s.Create(context.Background(), shop, name, maker(t))
				if err == nil {
					acknowledged(p)
					var change payment.Change
					change, err = s.Update(context.Background(), p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
						return payment.Begin(p, pay(), now)
					})
					if err == nil {
						acknowledged(change.Payment)
					}
				}
				if err != nil {
					select {
					case failure <- err:
					default:
					}
					return
				}
			}
		}()
	}
	err = <-failure
	// After a failure nothing more is acknowledged, and the store says why.
	_, _, after := s.Create(context.Background(), shop, "after", maker(terms("after")))
	fmt.Println("failed:", err)
	fmt.Println("after:", after)
	fmt.Println("err:", s.Err())
	return 3
}

// checkpointFailures is a log of which only that is looked at: that moving the store's log into its file failed.
type checkpointFailures chan struct{}

func (c checkpointFailures) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("msg=checkpoint ")) {
		select {
		case c <- struct{}{}:
		default: // enough
		}
	}
	return len(line), nil
}

// acknowledgements reads what a child acknowledged, and hands every other line to other.
func acknowledgements(t *testing.T, r io.Reader, last map[payment.ID]int64, each func(n int), other func(line string)) {
	t.Helper()
	n := 0
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, version, _ := strings.Cut(lines.Text(), " ")
		id, err := payment.ParseID(name)
		var v int64
		if err == nil {
			_, err = fmt.Sscan(version, &v)
		}
		if err != nil {
			other(lines.Text())
			continue
		}
		last[id] = max(last[id], v)
		n++
		each(n)
	}
	if err := lines.Err(); err != nil {
		t.Error(err)
	}
}

func self(t *testing.T, role, dir string, env ...string) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), append(env, childRole+"="+role, childDir+"="+dir)...)
	cmd.Stderr = os.Stderr
	return cmd
}

// allThere fails the test where something acknowledged is missing.
func (w *world) allThere(last map[payment.ID]int64) {
	w.t.Helper()
	for id, version := range last {
		if p, err := w.Payment(w.t.Context(), id); err != nil || p.Version < version {
			w.t.Errorf("payment %s was acknowledged at version %d; now %d, %v", id, version, p.Version, err)
		}
	}
	w.clean()
}

func TestKilledProcessLosesNothing(t *testing.T) {
	dir := t.TempDir()
	last := make(map[payment.ID]int64)
	rounds := 5
	if underRace {
		rounds = 2
	}
	for round := range rounds {
		cmd := self(t, "write", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		before := len(last)
		acknowledgements(t, out, last, func(n int) {
			if n == 20+60*round { // in the middle of whatever it is doing then
				if err := cmd.Process.Kill(); err != nil {
					t.Error(err)
				}
			}
		}, func(line string) { t.Error(line) })
		if err := cmd.Wait(); err == nil {
			t.Error("it ended by itself")
		}
		if len(last) == before {
			t.Fatal("nothing was acknowledged")
		}
		s, err := store.Open(store.Config{Dir: dir, Serve: true})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		(&world{Store: s, t: t, dir: dir}).allThere(last)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// fills runs a child until its disk is full, and looks at what it said and at what is there.
func fills(t *testing.T, dir, mustSay string, env ...string) {
	t.Helper()
	cmd := self(t, "write", dir, env...)
	var out bytes.Buffer
	cmd.Stdout = &out
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Fatalf("%v\n%s", err, &out)
	}
	last := make(map[payment.ID]int64)
	said := ""
	acknowledgements(t, &out, last, func(int) {}, func(line string) { said += line + "\n" })
	if len(last) < 10 {
		t.Errorf("it failed before it had begun: %d payments", len(last))
	}
	for _, want := range []string{"failed: " + store.ErrBroken.Error(), "after: " + store.ErrBroken.Error(), "err: " + store.ErrBroken.Error(), mustSay} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q, but:\n%s", want, said)
		}
	}
	s, err := store.Open(store.Config{Dir: dir, Serve: true})
	if err != nil {
		t.Fatalf("with room again it does not open: %v", err)
	}
	w := &world{Store: s, t: t, dir: dir}
	w.allThere(last)
	w.create(terms("room again"))
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestDiskThatTakesNoMore(t *testing.T) {
	fills(t, t.TempDir(), "the disk of ", childLimit+"=3000000")
}

// The disk fails only when the log is moved into the file, in the background: that too ends all acknowledgements, for
// after a failed write or sync nobody can say what is in the file, and the next attempt might not fail.
func TestDiskFailsInTheBackground(t *testing.T) {
	w := newWorld(t, store.Open)
	big := strings.Repeat("x", 4096)
	for i := range 200 {
		terms := terms(fmt.Sprint("order-", i))
		terms.Description = big
		w.create(terms)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := self(t, "write once", w.dir, childLimit+"=500000")
	var out bytes.Buffer
	cmd.Stdout = &out
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Fatalf("%v\n%s", err, &out)
	}
	if said := out.String(); !strings.Contains(said, "create: <nil>\n") || !strings.Contains(said, "after: "+store.ErrBroken.Error()) || !strings.Contains(said, "err: "+store.ErrBroken.Error()) {
		t.Errorf("it says %s", said)
	}
	// What it acknowledged is there on a disk that works.
	s, err := store.Open(store.Config{Dir: w.dir, Serve: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PaymentByShop(t.Context(), shop, "once"); err != nil {
		t.Errorf("what was acknowledged is lost: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// What is written to a file that lies there no more is found by nobody: it is not acknowledged, from the first on.
func TestFilesAreMovedAwayUnderTheStore(t *testing.T) {
	away := func(name string) func(dir string) error {
		return func(dir string) error { return os.Rename(filepath.Join(dir, name), filepath.Join(dir, "away")) }
	}
	for name, c := range map[string]struct{ spoil, mend func(dir string) error }{
		"the file is moved": {away(store.File), func(dir string) error {
			return os.Rename(filepath.Join(dir, "away"), filepath.Join(dir, store.File))
		}},
		"the log is moved": {away(store.File + "-wal"), func(dir string) error {
			return os.Rename(filepath.Join(dir, "away"), filepath.Join(dir, store.File+"-wal"))
		}},
		"another file is put in its place": {
			func(dir string) error {
				file := filepath.Join(dir, store.File)
				return errors.Join(os.Rename(file, filepath.Join(dir, "away")), os.WriteFile(file, nil, 0o600))
			}, func(dir string) error {
				return os.Rename(filepath.Join(dir, "away"), filepath.Join(dir, store.File))
			}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, store.Open)
			w.create(terms("before"))
			if err := c.spoil(w.dir); err != nil {
				t.Fatal(err)
			}
			_, _, err := w.Create(t.Context(), shop, "after", maker(terms("after")))
			if !errors.Is(err, store.ErrBroken) || !strings.Contains(err.Error(), "moved, removed or replaced") {
				t.Errorf("a payment that the next start would not find was made: %v", err)
			}
			if err := w.Err(); !errors.Is(err, store.ErrBroken) {
				t.Errorf("the store is said to be well: %v", err)
			}
			if err := errors.Join(w.Close(), c.mend(w.dir)); err != nil {
				t.Fatal(err)
			}
			if _, err := w.openAgain(true).PaymentByShop(t.Context(), shop, "before"); err != nil {
				t.Errorf("put back, it has lost what was acknowledged: %v", err)
			}
		})
	}
}

func TestReadOnlyStoreIsRefusedWithASentence(t *testing.T) {
	for name, forbid := range map[string]func(dir string) error{
		"the file": func(dir string) error {
			// The lock and the directory are nobody's own, the file is not.
			return errors.Join(os.Chmod(dir, 0o777), os.Chmod(filepath.Join(dir, store.File), 0o444), os.Chmod(filepath.Join(dir, "holdfast.lock"), 0o666))
		},
		"the directory": func(dir string) error { return os.Chmod(dir, 0o555) },
		"all of it": func(dir string) error {
			return errors.Join(os.Chmod(filepath.Join(dir, store.File), 0o444), os.Chmod(filepath.Join(dir, "holdfast.lock"), 0o666), os.Chmod(dir, 0o555))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "holdfast-readonly-") // t.TempDir lies in a directory that nobody else may enter
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := errors.Join(os.Chmod(dir, 0o700), os.RemoveAll(dir)); err != nil {
					t.Error(err)
				}
			})
			s, err := store.Open(store.Config{Dir: dir, Serve: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.Close(), forbid(dir)); err != nil {
				t.Fatal(err)
			}
			cmd := self(t, "write as nobody", dir)
			var out bytes.Buffer
			cmd.Stdout = &out
			var exit *exec.ExitError
			if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Fatalf("%v, want a refusal to open:\n%s", err, &out)
			}
			said := out.String()
			if strings.Count(said, "\n") != 1 || !strings.Contains(said, dir) ||
				!slices.ContainsFunc([]string{"is read-only", "cannot be opened", "cannot be used", "cannot be made private"}, func(why string) bool { return strings.Contains(said, why) }) {
				t.Errorf("it says %q", said)
			}
		})
	}
}

func TestDamagedStoreIsRefusedWithASentence(t *testing.T) {
	whole := everythingFile(t)
	sql := func(statement string) func(path string) error {
		return func(path string) error {
			conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
			if err != nil {
				return err
			}
			return errors.Join(sqlitex.ExecScript(conn, statement), conn.Close())
		}
	}
	write := func(b []byte) func(path string) error {
		return func(path string) error { return os.WriteFile(path, b, 0o600) }
	}
	garbled := bytes.Clone(whole)
	for i := 20; i < 4096; i++ {
		garbled[i] ^= 0x5a
	}
	for _, c := range []struct {
		name  string
		spoil func(path string) error
		says  string
	}{
		{"garbage", write(bytes.Repeat([]byte("this is no store. "), 1000)), "damaged or not a store"},
		{"cut short", write(whole[:4096*3+100]), "damaged or not a store"},
		{"its first page is garbled", write(garbled), "damaged or not a store"},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o700) }, "cannot be opened"},
		{"written by a newer holdfast", func(path string) error {
			return errors.Join(os.WriteFile(path, whole, 0o600), sql(`UPDATE meta SET value = '999' WHERE name = 'schema'`)(path))
		}, "written by a newer holdfast (schema 999, this program knows 2)"},
		{"of another program, which calls its schema otherwise", func(path string) error {
			return sql(`CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT); INSERT INTO meta VALUES ('schema', 'v2-beta')`)(path)
		}, "not a store of holdfast"},
		{"without its number key", func(path string) error {
			return errors.Join(os.WriteFile(path, whole, 0o600), sql(`DELETE FROM meta WHERE name = 'number_key'`)(path))
		}, "number key"},
		{"with a number key that is none", func(path string) error {
			return errors.Join(os.WriteFile(path, whole, 0o600), sql(`UPDATE meta SET value = 'xyz' WHERE name = 'number_key'`)(path))
		}, "number key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, store.File)
			if err := c.spoil(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadFile(path)
			s, err := store.Open(store.Config{Dir: dir, Serve: true})
			if err == nil {
				t.Fatalf("it opens: %v", s.Close())
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("it says %q, want %q and the path", err, c.says)
			}
			// SQLite notes in the header of a file that it has a log now; nothing else may change.
			const header = 100
			if after, _ := os.ReadFile(path); len(after) != len(before) || len(after) > header && !bytes.Equal(before[header:], after[header:]) {
				t.Error("what could not be opened was changed")
			}
			// The refusal lets go of everything: put right, it opens.
			if err := errors.Join(os.RemoveAll(path), os.RemoveAll(path+"-wal"), os.RemoveAll(path+"-shm")); err != nil {
				t.Fatal(err)
			}
			if s, err = store.Open(store.Config{Dir: dir, Serve: true}); err != nil {
				t.Fatalf("put right: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOneProcessServes(t *testing.T) {
	w := newWorld(t, store.Open)
	p := w.create(terms("order-1"))
	if _, err := store.Open(store.Config{Dir: w.dir, Serve: true}); err == nil || !strings.Contains(err.Error(), w.dir) {
		t.Fatalf("a second one serves: %v", err)
	}
	// Beside it others may look, and write what makes no payment.
	beside := w.openAgain(false)
	if got, err := beside.Payment(t.Context(), p.ID); err != nil || got.Number != p.Number {
		t.Errorf("beside it the payment is %d, %v; want %d", got.Number, err, p.Number)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	next := &world{t: t, open: store.Open, dir: w.dir, now: t0}
	next.Store = next.openAgain(true)
	if got, err := next.PaymentByNumber(t.Context(), p.Number); err != nil || got.ID != p.ID {
		t.Errorf("the number leads elsewhere after a restart: %v", err)
	}
	if q := next.create(terms("order-2")); q.Number == p.Number {
		t.Error("a number was given twice")
	}
}

func TestManyOpenANewStoreAtOnce(t *testing.T) {
	dir := t.TempDir()
	stores := make([]*store.Store, 6)
	together(len(stores), func(i int) {
		var err error
		if stores[i], err = store.Open(store.Config{Dir: dir, Serve: i == 0}); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	// All have the same key: a number means the same payment to each.
	p, _, err := stores[0].Create(t.Context(), shop, "order-1", maker(terms("order-1")))
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range stores {
		if got, err := s.PaymentByNumber(t.Context(), p.Number); err != nil || got.ID != p.ID {
			t.Errorf("store %d: %v", i, err)
		}
	}
	for _, s := range stores {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestFilesAreTheirOwnersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	s, err := store.Open(store.Config{Dir: dir, Serve: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateShop(t.Context(), shopNamed("one")); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 3 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range append(files, dirEntry{dir}) {
		if info, err := f.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is %v, %v", f.Name(), info.Mode(), err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// dirEntry is a directory by its own path.
type dirEntry struct{ path string }

func (d dirEntry) Name() string               { return d.path }
func (d dirEntry) IsDir() bool                { return true }
func (d dirEntry) Type() os.FileMode          { return os.ModeDir }
func (d dirEntry) Info() (os.FileInfo, error) { return os.Stat(d.path) }

// The log is cut under load: it does not grow with what is written. It is looked at every 200 ms, and what comes in until
// it is cut is more where the disk is fast; so it is written to for a time. And until that is a good many times what the
// log may keep, which a slow disk does not reach in that time, and a few times the longest that it was while the machine stood still.
func TestLogStaysBounded(t *testing.T) {
	const most, size = 1 << 20, 20_000
	const atLeast, patience = 5 * time.Second, 2 * time.Minute
	t.Cleanup(store.CapLog(most)) // after the store is closed
	w := newWorld(t, store.Open)
	big := strings.Repeat("x", size)
	var written, longest atomic.Int64
	begun := time.Now()
	together(32, func(caller int) {
		for i := 0; time.Since(begun) < atLeast || written.Load() < 32*most || written.Load() < min(4*longest.Load(), 400*most); i++ {
			if time.Since(begun) > patience {
				t.Errorf("only %d MB were written in %v", written.Load()>>20, patience)
				return
			}
			name := fmt.Sprintf("order-%d-%d", caller, i)
			terms := terms(name)
			terms.Description = big
			if _, _, err := w.Create(context.Background(), shop, name, maker(terms)); err != nil {
				t.Error(err)
				return
			}
			written.Add(size)
			if info, err := os.Stat(filepath.Join(w.dir, store.File) + "-wal"); err == nil && info.Size() > longest.Load() {
				longest.Store(info.Size())
			}
		}
	})
	t.Logf("the log had %d MB at most, of %d MB written", longest.Load()>>20, written.Load()>>20)
	if longest.Load() > written.Load()/3 {
		t.Errorf("the log grew to %d MB", longest.Load()>>20)
	}
}
