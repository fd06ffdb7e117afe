package store

import (
	"log/slog"
	"sync"
	"time"
)

// clock is the store's time. Whoever reckons from it how long ago something was must know when it was set forward: by as much that
// seems longer ago than it is.
type clock struct {
	wall    func() time.Time
	elapsed func() time.Duration // nil: nobody sets it
	log     *slog.Logger

	mu    sync.Mutex
	began time.Time // what the wall would have said when nothing had elapsed, the earliest so far
	set   time.Time // see Steady
}

// setBy is how much the clock must be ahead of what has elapsed before it counts as set forward.
const setBy = time.Second

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.wall().UTC().Truncate(time.Microsecond)
	if c.elapsed == nil {
		return now
	}
	began := now.Add(-c.elapsed())
	switch by := began.Sub(c.began); {
	case c.began.IsZero() || by < 0:
		c.began = began
	case by > setBy:
		c.began, c.set = began, now
		c.log.Warn("the clock was set forward, or the machine stood still: what a centre does not know of that was sent before is given some more time", "by", by)
	}
	return now
}

// Now is the store's time: microseconds, UTC.
func (s *Store) Now() time.Time { return s.clock.now() }

// Steady is since when the clock has not been set forward, as far as this process knows; zero: it never was. What seems to
// lie before may be as little ago as that.
func (s *Store) Steady() time.Time {
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	return s.clock.set
}
