package web

import (
	"errors"
	"log/slog"
	"net"
	"time"
)

// Listener is a listener that tells the log where no connection can be accepted (no more files may be opened, say) for longer
// than it takes idle ones to make room: whoever serves tries again until they can, and nobody who calls is told anything.
func Listener(l net.Listener, log *slog.Logger) net.Listener { return &listener{Listener: l, log: log} }

const (
	tellAfter = 5 * time.Second
	tellEvery = time.Minute
)

// listener is accepted from by one goroutine.
type listener struct {
	net.Listener
	log    *slog.Logger
	failed time.Time // the first time in a row; zero: the last one succeeded
	told   time.Time
}

func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	now := time.Now()
	switch {
	case err == nil || errors.Is(err, net.ErrClosed):
		l.failed = time.Time{}
	case l.failed.IsZero():
		l.failed = now
	case now.Sub(l.failed) >= tellAfter && now.Sub(l.told) >= tellEvery:
		l.told = now
		l.log.Error("connections cannot be accepted, and wait until they can; if too many files are open, raise LimitNOFILE in the unit, or ulimit -n",
			"since", l.failed, "error", err)
	}
	return conn, err
}
