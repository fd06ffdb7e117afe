package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What cannot be synced is said, whoever is asked: here a pipe stands for a disk that refuses.
func TestSyncer(t *testing.T) {
	dir := t.TempDir()
	file, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "pipe")
	if err := os.WriteFile(file, []byte("written"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		here       bool // fdatasync is called; otherwise the kernel may be asked
		want       error
	}{
		{"a file", file, false, nil},
		{"a file, here", file, true, nil},
		{"a pipe", pipe, false, unix.EINVAL},
		{"a pipe, here", pipe, true, unix.EINVAL},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := newSyncer(c.path)
			if err != nil {
				t.Fatal(err)
			}
			kernel := s.kernel
			if c.here {
				s.kernel = 0
			}
			for range 3 {
				if err := s.sync(); !errors.Is(err, c.want) {
					t.Errorf("sync says %v, not %v", err, c.want)
				}
			}
			s.kernel = kernel
			if err := s.close(); err != nil {
				t.Error(err)
			}
		})
	}
	if s, err := newSyncer(filepath.Join(dir, "nothing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: %v, %v", s, err)
	}
}

// An answer of the kernel that says no is an error, and the next answer is the next question's.
func TestSyncerAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := newSyncer(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	if s.kernel == 0 {
		t.Fatal("this kernel takes no questions: what it answers cannot be tested")
	}
	good := s.ask
	// A read into nowhere.
	s.ask.opcode, s.ask.buffer, s.ask.bytes = 0 /* IOCB_CMD_PREAD */, 1, 1
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.sync(); !errors.Is(err, unix.EFAULT) {
		t.Errorf("a question that the kernel cannot do is answered with %v", err)
	}
	s.ask = good
	s.answer.result = 1
	if err := s.sync(); err != nil || s.answer.result != 0 {
		t.Errorf("the next one is answered with %v, by the kernel with %d", err, s.answer.result)
	}
}
