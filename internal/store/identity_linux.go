package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// identity tells a file from all others of this machine, whatever its name.
type identity struct {
	device [2]uint32 // major and minor
	inode  uint64
}

// identify says which file stands at a path.
//
// It asks for nothing but that. Who asks when a file was written (as os.Stat does) makes the next write note a new time, to the
// nanosecond, where otherwise a tick's is good enough (Linux 6.13, Documentation/filesystems/multigrain-ts.rst); and then each sync
// may have to write the file's inode as well: a third more than it takes otherwise (docs/performance.md, "Levers").
func identify(path string) (identity, error) {
	var found unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO, &found)
	for err == unix.EINTR {
		err = unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO, &found)
	}
	if err != nil {
		return identity{}, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	return identity{[2]uint32{found.Dev_major, found.Dev_minor}, found.Ino}, nil
}

func (i identity) same(other identity) bool { return i == other }
