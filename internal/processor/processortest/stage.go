package processortest

import (
	"bytes"
	"log/slog"
	"sync"
	"time"
)

// What every world of an exam has, whatever its centre is: a clock, requests that arrive late, and the connector's log.

// Clock is the one clock of a connector and its centre. Only Advance moves it.
type Clock struct {
	mu   sync.Mutex
	now  time.Time
	late []lateCall
}

// lateCall is a request that reaches the centre when nobody waits for its answer any more.
type lateCall struct {
	at     time.Time
	arrive func()
}

// lateBy is how long a request is on its way that is late (RequestLate).
const lateBy = 20 * time.Second

// NewClock is a clock that stands at a Monday morning.
func NewClock() *Clock { return &Clock{now: time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)} }

// Now is what the clock says.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *Clock) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

// Late has a request arrive 20 s from now: once Advance has come so far.
func (c *Clock) Late(arrive func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late = append(c.late, lateCall{c.now.Add(lateBy), arrive})
}

// Advance moves the clock, and has what is late by then arrive, each at its own time.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	end := c.now.Add(d)
	var due, later []lateCall
	for _, l := range c.late {
		if l.at.After(end) {
			later = append(later, l)
		} else {
			due = append(due, l)
		}
	}
	c.late = later
	c.mu.Unlock()
	for _, l := range due {
		c.set(l.at)
		l.arrive()
	}
	c.set(end)
}

// Log is what a connector has logged: see World.Log.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write is for Logger.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String is all of it so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Logger writes everything but the times that were measured.
func (l *Log) Logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration || a.Value.Kind() == slog.KindTime {
			return slog.Attr{}
		}
		return a
	}}))
}
