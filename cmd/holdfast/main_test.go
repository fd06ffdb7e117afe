package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"holdfast/internal/store"
)

// TestScripts runs the command line as its users do: see testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TZ", "UTC")
			return nil
		},
	})
}

// TestWalk plays all flows, as the README's first command does.
func TestWalk(t *testing.T) {
	var out, complaints bytes.Buffer
	if code := (program{stdout: &out, stderr: &complaints}).run(t.Context(), []string{"demo", "--walk"}); code != 0 {
		t.Fatalf("demo --walk ended %d: %s\n%s", code, complaints.String(), tail(out.String(), 3000))
	}
	for _, want := range []string{"Everything was as it should be", "lost 0, doubled 0", "clean: every invariant holds"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the walk does not say %q", want)
		}
	}
	if complaints.Len() > 0 {
		t.Errorf("the walk complained: %s", complaints.String())
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// A store in a file is used with its own key alone: none is made where it is lost, and another is refused, also by a store that
// an earlier version made, which has not noted its key.
func TestKeyOfAStoreInAFile(t *testing.T) {
	dir, aside := t.TempDir(), filepath.Join(t.TempDir(), keyFile)
	file := filepath.Join(dir, keyFile)
	command(t, 0, "shop", "create", "--data", dir, "--name", "Toys")
	for _, version := range []string{"this version", "an earlier version"} {
		if version != "this version" {
			conn, err := sqlite.OpenConn(filepath.Join(dir, store.File), sqlite.OpenReadWrite)
			if err == nil {
				err = errors.Join(sqlitex.ExecuteTransient(conn, "DELETE FROM meta WHERE name = 'vault_key'", nil), conn.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(file, aside); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"audit"}, {"shop", "create", "--name", "Books"}, {"serve", "--sim", "http://127.0.0.1:1", "--listen", "127.0.0.1:0"}} {
			if _, complaint := command(t, 1, append(args, "--data", dir)...); !strings.Contains(complaint, file+" is missing, and this store is used with a key already") {
				t.Errorf("%s: %s without the key: %s", version, args, complaint)
			}
			if _, err := os.Stat(file); err == nil {
				t.Fatalf("%s: %s made a new key", version, args)
			}
		}
		if err := os.WriteFile(file, []byte(strings.Repeat("0", 64)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, complaint := command(t, 1, "audit", "--data", dir); !strings.Contains(complaint, file+" is not the key that this store is used with") {
			t.Errorf("%s: with another key: %s", version, complaint)
		}
		if err := os.Rename(aside, file); err != nil {
			t.Fatal(err)
		}
		command(t, 0, "audit", "--data", dir)
	}
}
