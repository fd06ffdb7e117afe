// Package tally counts what happens, for whoever asks later how much of it there was and how long it took.
//
// The rooms in which things happen own the counts and say them by a method; who shows them reads them there. To count
// something takes no lock and no memory, so that it can be done on the way of every request.
package tally

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// By has a count of its own for each key: an atomic.Uint64, or a Times. A key's count is made when it is first asked for and
// is never given up, so there must be few keys: nothing that others make up. The zero By is ready for use.
type By[K comparable, C any] struct {
	known atomic.Pointer[map[K]*C] // replaced as a whole where a key is new
	mu    sync.Mutex               // of who replaces it
}

// Of is the count of a key.
func (b *By[K, C]) Of(key K) *C {
	if known := b.known.Load(); known != nil {
		if count, ok := (*known)[key]; ok {
			return count
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	more := maps.Clone(b.All())
	if count, ok := more[key]; ok { // somebody was faster
		return count
	}
	if more == nil {
		more = make(map[K]*C)
	}
	count := new(C)
	more[key] = count
	b.known.Store(&more)
	return count
}

// All is the counts of all keys that were asked for. The map is nobody's to change.
func (b *By[K, C]) All() map[K]*C {
	if known := b.known.Load(); known != nil {
		return *known
	}
	return nil
}

// Bounds are the times that Times tells apart: from a commit of a fast disk to a processing centre that is waited for in vain.
var Bounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond,
	5 * time.Second, 10 * time.Second, 30 * time.Second, 60 * time.Second,
}

// Times is how long something took, each time that it happened. The zero Times is ready for use.
type Times struct {
	counts [len(Bounds) + 1]atomic.Uint64 // up to each bound, and above all
	sum    atomic.Int64                   // in nanoseconds
}

// Add counts one that took d.
func (t *Times) Add(d time.Duration) {
	i := 0
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	t.counts[i].Add(1)
	t.sum.Add(int64(d))
}

// Read is what was counted up to now: how many took at most each of Bounds, how many there were in all, and how long they took
// together.
func (t *Times) Read() (within [len(Bounds)]uint64, count uint64, sum time.Duration) {
	for i := range t.counts {
		count += t.counts[i].Load()
		if i < len(within) {
			within[i] = count
		}
	}
	return within, count, time.Duration(t.sum.Load())
}
