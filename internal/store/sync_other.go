//go:build !linux

package store

import (
	"fmt"
	"os"
)

// syncer makes what was written to a file durable, for one caller at a time.
type syncer struct{ file *os.File }

func newSyncer(path string) (*syncer, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	return &syncer{file}, err
}

// sync returns when all that was written to the file before is on the disk.
func (s *syncer) sync() error {
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

func (s *syncer) close() error { return s.file.Close() }
