package web_test

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/web"
)

// full is a listener of a process that may open no more files.
type full struct{ net.Listener }

func (full) Accept() (net.Conn, error) {
	return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
}

// ended is a listener that was closed.
type ended struct{ net.Listener }

func (ended) Accept() (net.Conn, error) {
	return nil, &net.OpError{Op: "accept", Net: "tcp", Err: net.ErrClosed}
}

// busy is a listener that can accept every fourth connection.
type busy struct {
	net.Listener
	conn  net.Conn
	tried int
}

func (l *busy) Accept() (net.Conn, error) {
	if l.tried++; l.tried%4 != 0 {
		return full{}.Accept()
	}
	return l.conn, nil
}

// That no connection can be accepted is in the log, once a minute; that one could not for a moment, or that the server was ended,
// is no trouble.
func TestNoConnectionsInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		log := slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelInfo}))
		count := func() int { return strings.Count(said.String(), "connections cannot be accepted") }
		tries := func(l net.Listener, seconds int) {
			for range seconds {
				l.Accept()
				time.Sleep(time.Second)
			}
		}
		tries(web.Listener(ended{}, log), 10)
		one, _ := net.Pipe()
		defer one.Close()
		b := web.Listener(&busy{conn: one}, log)
		for i := range 20 {
			if c, err := b.Accept(); (c == one) != (i%4 == 3) || (err == nil) != (c == one) {
				t.Errorf("the %d. is %v, %v", i+1, c, err)
			}
			time.Sleep(2 * time.Second)
		}
		l := web.Listener(full{}, log)
		tries(l, 5)
		if count() != 0 {
			t.Errorf("too early, or at the end: %s", said.String())
		}
		tries(l, 60)
		if count() != 1 || !strings.Contains(said.String(), "too many open files") || !strings.Contains(said.String(), "level=ERROR") {
			t.Errorf("within a minute: %s", said.String())
		}
		if tries(l, 1); count() != 2 {
			t.Errorf("after a minute: %s", said.String())
		}
	})
}
