//go:build unix

package outward

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// reach finds the system's socket below a connection.
func (c *conn) reach(below net.Conn) {
	if s, ok := below.(syscall.Conn); ok {
		c.socket, _ = s.SyscallConn() // nil where it fails
		c.speak = c.firstWord
	}
}

// firstWord is called with the socket: at once, and when something came.
func (c *conn) firstWord(fd uintptr) (done bool) {
	if c.spoken {
		return true
	}
	c.spoken = true
	if c.kept {
		// Something to read, or the end, where nothing was asked: the connection is of no more use.
		if _, err := again(unix.Read, fd, c.one[:]); err != unix.EAGAIN {
			c.gone = true
			return true
		}
	}
	if c.server.secure {
		return true
	}
	n, err := again(unix.Write, fd, c.out)
	if err != nil && err != unix.EAGAIN {
		c.failed = &net.OpError{Op: "write", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("write", err)}
		return true
	}
	c.sent = max(n, 0)
	return c.sent < len(c.out)
}

// again calls the system once more where a signal came between.
func again(call func(fd int, b []byte) (int, error), fd uintptr, b []byte) (int, error) {
	for {
		if n, err := call(int(fd), b); err != unix.EINTR {
			return n, err
		}
	}
}
