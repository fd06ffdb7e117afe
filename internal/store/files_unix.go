//go:build unix

package store

import (
	"errors"
	"os"
	"syscall"
)

// takeAlone locks a file for this process, or fails at once where another has it.
func takeAlone(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
