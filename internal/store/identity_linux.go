package store

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// identity tells a file from all others of this machine, whatever its name.
type identity struct {
	major, minor uint32 // the device's
	inode        uint64
}

// identify says which file stands at a path.
//
// It asks for nothing but that. Who asks when a file was written (as os.Stat does) makes the next write note a new time, to the
// nanosecond, where otherwise a tick's is good enough (Linux 6.13, Documentation/filesystems/multigrain-ts.rst); and then each sync
// may have to write the file's inode as well: a third more than it takes otherwise (docs/performance.md, "Levers").
func identify(path string) (identity, error) {
	var found unix.Statx_t
	err := unix.EINTR
	for err == unix.EINTR {
		err, _ = unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO, &found).(unix.Errno)
	}
	switch err {
	case 0:
		return identity{found.Dev_major, found.Dev_minor, found.Ino}, nil
	case unix.ENOSYS, unix.EPERM: // a kernel, or a sandbox, from before there was such a call
		return identifyByStat(path)
	}
	return identity{}, &os.PathError{Op: "statx", Path: path, Err: err}
}

// identifyByStat is identify for who may ask only for all that there is to know.
func identifyByStat(path string) (identity, error) {
	info, err := os.Stat(path)
	if err != nil {
		return identity{}, err
	}
	found := info.Sys().(*syscall.Stat_t)
	return identity{unix.Major(found.Dev), unix.Minor(found.Dev), found.Ino}, nil
}

func (i identity) same(other identity) bool { return i == other }
