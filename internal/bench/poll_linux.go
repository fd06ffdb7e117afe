package bench

import (
	"errors"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// These calls do not tell Go's scheduler of themselves. Told of a call that waits, it watches the thread and gives
// its place to another, which was a third of all that the load generator cost. Reads and writes here never wait;
// the wait does, and so one processor of Go's is the loop's for the run. The scheduler's signal ends it
// whenever the world must be stopped.

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
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events)), uintptr(len(p.events)),
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

// read and write are those of a socket that does not block.
func read(fd int, b []byte) (int, error)  { return transfer(unix.SYS_READ, fd, b) }
func write(fd int, b []byte) (int, error) { return transfer(unix.SYS_WRITE, fd, b) }

func transfer(call uintptr, fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
