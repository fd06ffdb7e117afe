//go:build unix && !linux

package bench

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// poller waits for sockets. Where there is no epoll it is poll, which costs more and counts in milliseconds.
type poller struct {
	fds   []unix.PollFd
	ready []int
}

func newPoller() (*poller, error) { return new(poller), nil }

func (p *poller) close() error { return nil }

func (p *poller) add(fd int) error {
	p.fds = append(p.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	return nil
}

// forget is told of a socket before it is closed.
func (p *poller) forget(fd int) {
	p.fds = slices.DeleteFunc(p.fds, func(f unix.PollFd) bool { return int(f.Fd) == fd })
}

// wait returns the sockets that can be read, at the latest after within; they are good until the next call.
func (p *poller) wait(within time.Duration) ([]int, error) {
	p.ready = p.ready[:0]
	if _, err := unix.Poll(p.fds, int(max(within, 0)/time.Millisecond)); err != nil {
		if errors.Is(err, unix.EINTR) {
			err = nil
		}
		return nil, err
	}
	for _, f := range p.fds {
		if f.Revents != 0 {
			p.ready = append(p.ready, int(f.Fd))
		}
	}
	return p.ready, nil
}

// read and write are those of a socket that does not block.
func read(fd int, b []byte) (int, error)  { return unix.Read(fd, b) }
func write(fd int, b []byte) (int, error) { return unix.Write(fd, b) }
