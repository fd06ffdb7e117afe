package bench

import (
	"errors"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller waits for sockets. On Linux it is epoll with time-outs in nanoseconds (since 5.11): a payment's
// intended start must not wait for the next whole millisecond.
type poller struct {
	fd     int
	events [256]unix.EpollEvent
	ready  []int
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &poller{fd: fd}, err
}

func (p *poller) close() error { return unix.Close(p.fd) }

func (p *poller) add(fd int) error {
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// forget is told of a socket before it is closed. The kernel forgets it by itself.
func (p *poller) forget(int) {}

// wait returns the sockets that can be read, at the latest after within; they are good until the next call.
func (p *poller) wait(within time.Duration) ([]int, error) {
	limit := unix.NsecToTimespec(max(int64(within), 0))
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events)), uintptr(len(p.events)),
		uintptr(unsafe.Pointer(&limit)), 0, 0)
	switch {
	case errno == unix.EINTR:
		return nil, nil
	case errno == unix.ENOSYS:
		return nil, errors.New("bench needs Linux 5.11 or newer (epoll_pwait2)")
	case errno != 0:
		return nil, errno
	}
	p.ready = p.ready[:0]
	for i := range int(n) {
		p.ready = append(p.ready, int(p.events[i].Fd))
	}
	return p.ready, nil
}
