package store_test

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"holdfast/internal/payment"
	"holdfast/internal/store"
)

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		// A file system of our own takes rights that not every machine gives. What a full disk does to
		// the store is what TestDiskThatTakesNoMore does, under another number.
		t.Logf("no small disk can be made here (%v): TestDiskThatTakesNoMore must do", err)
		return
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	// Room again is a larger disk.
	full := self(t, "write", dir)
	var out bytes.Buffer
	full.Stdout = &out
	var exit *exec.ExitError
	if err := full.Run(); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Fatalf("%v\n%s", err, &out)
	}
	last := make(map[payment.ID]int64)
	said := ""
	acknowledgements(t, &out, last, func(int) {}, func(line string) { said += line + "\n" })
	for _, want := range []string{"failed: ", "is full", "after: " + store.ErrBroken.Error(), "err: " + store.ErrBroken.Error()} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q, but:\n%s", want, said)
		}
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(store.Config{Dir: dir, Serve: true})
	if err != nil {
		t.Fatalf("with room again it does not open: %v", err)
	}
	(&world{Store: s, t: t, dir: dir}).allThere(last)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
