package store

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A write after a look at a file's identity need not note a new time. (Before Linux 6.13 none does, as long as the clock has not ticked.)
func TestIdentifyAsksForNoTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write := func() {
		if _, err := f.WriteAt([]byte("x"), 0); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 { // the clock ticks now and then
		write()
		written := time.Now()
		if _, err := identify(path); err != nil {
			t.Fatal(err)
		}
		write()
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if info.ModTime().Before(written) {
			return
		}
	}
	t.Fatal("each write notes a new time: who looks which file it is has asked when it was written")
}

// Where the system answers only os.Stat's question, a file is the same one.
func TestIdentifyByStat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	one, err := identify(path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := identifyByStat(path)
	if err != nil || !one.same(other) || one == (identity{}) {
		t.Errorf("identify: %+v, by stat: %+v, %v", one, other, err)
	}
}
