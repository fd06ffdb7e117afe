//go:build unix

package bench

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Possible is nil where this system can measure, and says otherwise why it cannot.
func Possible() error { return nil }

// duplicateSocket is a second descriptor of a socket, which does not block.
func duplicateSocket(socket uintptr) (int, error) {
	fd, err := unix.FcntlInt(socket, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	return fd, unix.SetNonblock(fd, true)
}

// acceptSocket is the next connection to a listener; it does not block.
func acceptSocket(listener int) (int, error) {
	fd, _, err := unix.Accept(listener)
	if err != nil {
		return 0, err
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return 0, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func closeSocket(fd int) error { return unix.Close(fd) }
