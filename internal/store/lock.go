package store

import (
	"fmt"
	"os"
	"path/filepath"
)

// lock makes sure that one process at most serves from a data directory. The kernel lets go of it
// when the process ends, however it ends.
func lock(dir string) (*os.File, error) {
	path := filepath.Join(dir, "holdfast.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the data directory cannot be used: %w", err)
	}
	if err := takeAlone(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("another holdfast serves from %s already: end it first, or use another --data directory", dir)
	}
	return f, nil
}
