package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	_, complaint := command(t, 1, "audit", "--data", t.TempDir())
	if !strings.Contains(complaint, "is not the key that this database is used with: copy the file from another gateway of it") {
		t.Errorf("with another key: %s", complaint)
	}
	_, complaint = command(t, 1, "backup", "--data", dir, filepath.Join(dir, "backup"))
	if !strings.Contains(complaint, "pg_basebackup") {
		t.Error(complaint)
	}
}
