package tally_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/tally"
)

type key struct {
	call string
	code int
}

func TestTimes(t *testing.T) {
	var times tally.Times
	for _, d := range []time.Duration{-time.Second, 0, time.Millisecond, time.Millisecond + 1, time.Hour} {
		times.Add(d)
	}
	within, count, sum := times.Read()
	if count != 5 || sum != time.Hour-time.Second+2*time.Millisecond+1 {
		t.Errorf("%d took %v together", count, sum)
	}
	for i, bound := range tally.Bounds {
		want := uint64(4)
		switch bound {
		case 500 * time.Microsecond:
			want = 2
		case time.Millisecond: // a bound is within itself
			want = 3
		}
		if within[i] != want {
			t.Errorf("%d took at most %v, want %d", within[i], bound, want)
		}
		if i > 0 && bound <= tally.Bounds[i-1] {
			t.Errorf("the bounds do not ascend at %v", bound)
		}
	}
}

// However many count at once, also what nobody has counted before, nothing is lost.
func TestCountsAtOnce(t *testing.T) {
	var counts tally.By[key, atomic.Uint64]
	if counts.All() != nil {
		t.Error("it begins with something")
	}
	const callers, keys, each = 8, 50, 20
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range each {
				for code := range keys {
					counts.Of(key{"pay", code}).Add(1)
				}
			}
		})
	}
	all.Wait()
	if len(counts.All()) != keys {
		t.Errorf("%d keys, want %d", len(counts.All()), keys)
	}
	for k, n := range counts.All() {
		if n.Load() != callers*each {
			t.Errorf("%v was counted %d times, want %d", k, n.Load(), callers*each)
		}
	}
}

// Counting is on the way of every request.
func TestCountingTakesNoMemory(t *testing.T) {
	var counts tally.By[key, atomic.Uint64]
	var times tally.By[string, tally.Times]
	if n := testing.AllocsPerRun(100, func() {
		counts.Of(key{"set_accept", 10}).Add(1)
		times.Of("set_accept").Add(3 * time.Millisecond)
	}); n != 0 {
		t.Errorf("counting allocates %v times", n)
	}
}

func BenchmarkCount(b *testing.B) {
	var counts tally.By[key, atomic.Uint64]
	var times tally.By[string, tally.Times]
	b.ReportAllocs()
	for b.Loop() {
		counts.Of(key{"set_accept", 10}).Add(1)
		times.Of("set_accept").Add(3 * time.Millisecond)
	}
}
