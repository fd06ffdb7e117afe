package bench

import (
	"math/bits"
	"time"
)

// histogram counts times in buckets: exactly to the microsecond up to 256 µs, and above that in buckets
// that are 1/128 of their time wide, up to over an hour. So a percentile is never too low, and too high
// by less than 0.8 %, whatever is counted and however much of it.
type histogram struct {
	buckets [34 * perOctave]int64
	max     int64 // microseconds
}

const (
	perOctave = 1 << octaveBits
	// octaveBits decides the precision: 2^octaveBits buckets for each doubling of the time.
	octaveBits = 7
)

func bucketOf(us int64) int {
	if us < perOctave {
		return int(max(us, 0))
	}
	shift := bits.Len64(uint64(us)) - octaveBits - 1
	return min(perOctave*shift+int(us>>shift), len(histogram{}.buckets)-1)
}

// upper is the largest time, in microseconds, that falls into a bucket.
func upper(bucket int) int64 {
	if bucket < 2*perOctave {
		return int64(bucket)
	}
	shift := bucket/perOctave - 1
	return (int64(bucket%perOctave+perOctave)+1)<<shift - 1
}

func (h *histogram) add(d time.Duration) {
	us := d.Microseconds()
	h.buckets[bucketOf(us)]++
	h.max = max(h.max, us)
}

// Latency is the distribution of times, in milliseconds. Percentiles are never too low, and too high by
// less than 0.8 %; max is exact.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50"`
	P95   float64 `json:"p95"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

func (h *histogram) latency() Latency {
	total := int64(0)
	for _, n := range h.buckets {
		total += n
	}
	// at is the time that perMille of a thousand stay within.
	at := func(perMille int64) float64 {
		need, seen := (total*perMille+999)/1000, int64(0)
		for i, n := range h.buckets {
			if seen += n; seen >= need && n > 0 {
				return float64(min(upper(i), h.max)) / 1000
			}
		}
		return 0
	}
	return Latency{Count: total, P50: at(500), P95: at(950), P99: at(990), P999: at(999), Max: float64(h.max) / 1000}
}
