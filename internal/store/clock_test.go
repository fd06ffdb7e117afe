package store_test

import (
	"log/slog"
	"testing"
	"time"

	"holdfast/internal/store"
)

// The store knows when its clock was set forward: at once, little by little, or after it was set back.
func TestSteady(t *testing.T) {
	now, elapsed := t0, time.Duration(0)
	s, err := store.Open(store.Config{
		Dir: t.TempDir(), Now: func() time.Time { return now }, Elapsed: func() time.Duration { return elapsed }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var want time.Time
	for i, c := range []struct {
		says, passes time.Duration
		forward      bool
	}{
		{0, 0, false},
		{time.Hour, time.Hour, false},
		{time.Minute, 0, true},
		{time.Minute, time.Minute, false},
		{600 * time.Millisecond, 0, false},
		{600 * time.Millisecond, 0, true},
		{-time.Hour, 0, false},
		{time.Minute, time.Minute, false},
		{time.Hour, time.Second, true},
		{0, time.Hour, false}, // as set back
	} {
		now, elapsed = now.Add(c.says), elapsed+c.passes
		s.Now()
		if c.forward {
			want = now
		}
		if got := s.Steady(); !got.Equal(want) {
			t.Fatalf("%d: steady since %s, want %s", i, got, want)
		}
	}
}
