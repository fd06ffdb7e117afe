package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/postgrestest"
)

// command runs the program and returns what it says.
func command(t *testing.T, wantCode int, args ...string) (said, complaints string) {
	t.Helper()
	var out, errs bytes.Buffer
	if code := (program{stdout: &out, stderr: &errs}).run(t.Context(), args); code != wantCode {
		t.Fatalf("holdfast %s ended %d: %s\n%s", strings.Join(args, " "), code, errs.String(), tail(out.String(), 3000))
	}
	return out.String(), errs.String()
}

// The commands of the README, on PostgreSQL.
func TestCommandsOnPostgreSQL(t *testing.T) {
	db := postgrestest.Database(t)
	walk, _ := command(t, 0, "demo", "--walk", "--db", db)
	for _, want := range []string{"Everything was as it should be", "lost 0, doubled 0", "clean: every invariant holds"} {
		if !strings.Contains(walk, want) {
			t.Errorf("the walk does not say %q", want)
		}
	}
	dir := t.TempDir()
	t.Setenv("HOLDFAST_DB", db)
	for range 2 { // what looks for a store in an empty database leaves it empty
		_, complaint := command(t, 1, "audit", "--data", dir)
		if !strings.Contains(complaint, "there is no store in the database that --db names: check --data and --db") {
			t.Error(complaint)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("beside it were left %v, %v", files, err)
	}
	said, _ := command(t, 0, "shop", "create", "--data", dir, "--name", "Toys", "--json")
	var shop createdShop
	if err := json.Unmarshal([]byte(said), &shop); err != nil || shop.ShopID != 1 { // the walk's schema is gone, and its shops with it
		t.Errorf("%s, %v", said, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "holdfast.db")); err == nil {
		t.Error("a file was made beside the database")
	}
	said, _ = command(t, 0, "audit", "--data", dir, "--json")
	if !strings.Contains(said, `"clean":true`) {
		t.Error(said)
	}
	command(t, 0, "payment", "list", "--data", dir)
	// Who names another directory is told so, and finds nothing new there.
	wrong := t.TempDir()
	for _, where := range []string{wrong, filepath.Join(wrong, "none")} {
		for _, args := range [][]string{{"audit"}, {"payment", "list"}, {"shop", "create", "--name", "Books"}, {"serve", "--sim", "http://127.0.0.1:1", "--listen", "127.0.0.1:0"}} {
			_, complaint := command(t, 1, append(args, "--data", where)...)
			if !strings.Contains(complaint, filepath.Join(where, "holdfast.key")+" is missing, and this store is used with a key already: check --data, or copy the file from your backup or from another gateway of the store") {
				t.Errorf("%s without the key: %s", args, complaint)
			}
			if files, err := os.ReadDir(wrong); err != nil || len(files) > 0 {
				t.Errorf("%s left behind %v, %v", args, files, err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(wrong, "holdfast.key"), []byte(strings.Repeat("0", 64)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, complaint := command(t, 1, "audit", "--data", wrong)
	if !strings.Contains(complaint, "is not the key that this store is used with: copy the file from your backup or from another gateway of the store") {
		t.Errorf("with another key: %s", complaint)
	}
	_, complaint = command(t, 1, "backup", "--data", dir, filepath.Join(dir, "backup"))
	if !strings.Contains(complaint, "pg_basebackup") {
		t.Error(complaint)
	}
}

// Those that start together on a new database make its key together.
func TestFirstOnPostgreSQLTogether(t *testing.T) {
	db, dir := postgrestest.Database(t), filepath.Join(t.TempDir(), "new")
	var together sync.WaitGroup
	for range 4 {
		together.Go(func() {
			var said bytes.Buffer
			if code := (program{stdout: &said, stderr: &said}).run(t.Context(), []string{"shop", "create", "--name", "Toys", "--db", db, "--data", dir}); code != 0 {
				t.Errorf("it ended %d: %s", code, said.String())
			}
		})
	}
	together.Wait()
	if said, _ := command(t, 0, "shop", "list", "--db", db, "--data", dir); strings.Count(said, "Toys") != 4 {
		t.Error(said)
	}
}

// TestBenchOnPostgreSQL: the books are clean, and the command line of no process that bench starts shows the password.
func TestBenchOnPostgreSQL(t *testing.T) {
	cmd := exec.Command(os.Args[0], "bench", "--local", "--payments", "20", "--concurrency", "2", "--json")
	cmd.Env = append(os.Environ(), asProgram+"=1", "HOLDFAST_DB="+postgrestest.Database(t))
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	served, told := false, ""
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for running := true; running; {
		select {
		case err := <-ended:
			running = false
			if err != nil || !strings.Contains(out.String(), `"books_clean":true`) {
				t.Errorf("%v: %s\n%s", err, tail(out.String(), 3000), tail(complaints.String(), 3000))
			}
		case <-look.C:
			shown := commandLines(cmd.Process.Pid)
			served = served || strings.Contains(shown, "\x00serve\x00")
			if strings.Contains(shown, postgrestest.Password) {
				told = shown
			}
		}
	}
	if told != "" {
		t.Errorf("the password is shown: %q", told)
	}
	if runtime.GOOS == "linux" && !served {
		t.Error("no process that serves was seen")
	}
}

// commandLines are those of a process and of all that it has started, as everybody on the machine can read them. What
// has ended meanwhile has none.
func commandLines(pid int) string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	all := string(line) + "\n"
	started, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range started {
		children, _ := os.ReadFile(file)
		for word := range strings.FieldsSeq(string(children)) {
			if child, err := strconv.Atoi(word); err == nil {
				all += commandLines(child)
			}
		}
	}
	return all
}

// A store in a file is copied into a database, and everything goes on there.
func TestCopyToPostgreSQL(t *testing.T) {
	dir, db := t.TempDir(), postgrestest.Database(t)
	command(t, 0, "demo", "--walk", "--data", dir)
	status := func(want string, args ...string) {
		t.Helper()
		if said, _ := command(t, 0, append([]string{"migrate", "status", "--json"}, args...)...); said != want+"\n" {
			t.Errorf("migrate status: %s, want %s", said, want)
		}
	}
	none, current := `{"known":2,"schema":0,"up_to_date":false}`, `{"known":2,"schema":2,"up_to_date":true}`
	status(none, "--data", t.TempDir())
	status(current, "--data", dir)
	status(none, "--db", db)
	said, _ := command(t, 0, "copy", "--from", "sqlite:"+dir, "--to", db)
	if !strings.Contains(said, "Copied and checked") {
		t.Error(said)
	}
	status(current, "--db", db)
	before, _ := command(t, 0, "audit", "--data", dir, "--json")
	after, _ := command(t, 0, "audit", "--data", dir, "--db", db, "--json")
	if before != after || !strings.Contains(after, `"clean":true`) {
		t.Errorf("the books of the file: %s\nof the copy: %s", before, after)
	}
	list, _ := command(t, 0, "payment", "list", "--data", dir)
	if copied, _ := command(t, 0, "payment", "list", "--data", dir, "--db", db); copied != list {
		t.Errorf("in the file:\n%s\nin the copy:\n%s", list, copied)
	}
	said, _ = command(t, 0, "shop", "create", "--name", "After", "--data", dir, "--db", db, "--json") // it goes on there
	if !strings.Contains(said, `"shop_id":3`) {
		t.Error(said)
	}
	for _, c := range []struct{ from, to, want string }{
		{"sqlite:" + dir, db, "is not empty"},
		{"sqlite:" + t.TempDir(), db, "there is no store in"},
		{dir, db, "is not a data directory as sqlite:DIR"},
		{"sqlite:" + dir, "elsewhere", "name a database as postgres://"},
	} {
		if _, complaint := command(t, 1, "copy", "--from", c.from, "--to", c.to); !strings.Contains(complaint, c.want) {
			t.Errorf("%s to %s: %s, want %q", c.from, c.to, complaint, c.want)
		}
	}
}
