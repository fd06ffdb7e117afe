package bench

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// histogram counts times in buckets that are 1/32 wide, from a microsecond to over an hour. It is
// safe for concurrent use.
type histogram struct {
	buckets [32 * 40]atomic.Int64
	max     atomic.Int64
}

func bucketOf(us int64) int {
	if us < 32 {
		return int(max(us, 0))
	}
	shift := bits.Len64(uint64(us)) - 6
	return min(32*shift+int(us>>shift), 32*40-1)
}

// upper is the largest time, in microseconds, that falls into a bucket.
func upper(bucket int) int64 {
	if bucket < 64 {
		return int64(bucket)
	}
	shift := bucket/32 - 1
	return (int64(bucket%32+32)+1)<<shift - 1
}

func (h *histogram) add(d time.Duration) {
	us := d.Microseconds()
	h.buckets[bucketOf(us)].Add(1)
	for {
		was := h.max.Load()
		if us <= was || h.max.CompareAndSwap(was, us) {
			return
		}
	}
}

func (h *histogram) latency() Latency {
	var counts [len(h.buckets)]int64
	total := int64(0)
	for i := range h.buckets {
		counts[i] = h.buckets[i].Load()
		total += counts[i]
	}
	// at is the time that perMille of a thousand stay within.
	at := func(perMille int64) float64 {
		need, seen := (total*perMille+999)/1000, int64(0)
		for i, n := range counts {
			if seen += n; seen >= need && n > 0 {
				return float64(min(upper(i), h.max.Load())) / 1000
			}
		}
		return 0
	}
	return Latency{Count: total, P50: at(500), P95: at(950), P99: at(990), P999: at(999), Max: float64(h.max.Load()) / 1000}
}
