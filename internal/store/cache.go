package store

import (
	"sync"
	"sync/atomic"

	"holdfast/internal/payment"
)

// cacheSize is how many payments are remembered, at about 2 KiB each: those that calls follow upon each other of. What
// waits for a payer longer than that costs a read.
const cacheSize = 4 << 10

// cache is the payments written last, as they are in the store. Only the process that serves has one.
// A payment is put in after its commit, by its committer, or, where others write too, by who has read a later version.
// Who asks for one gets a copy. Another process's write to a file empties it.
type cache struct {
	mu      sync.RWMutex
	bySeq   map[int64]*row
	seqs    map[payment.ID]int64
	ring    []int64 // the rows in the order they came, oldest at next
	next    int
	emptied atomic.Uint64 // how often
}

func newCache() *cache {
	c := new(cache)
	c.clear()
	return c
}

// clear forgets everything.
func (c *cache) clear() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.emptied.Add(1)
	c.bySeq, c.seqs = make(map[int64]*row), make(map[payment.ID]int64)
	c.ring, c.next = make([]int64, cacheSize), 0
}

// generation is what put wants of a row that is read, or committed, from now on. Each time the cache is emptied begins the next.
func (c *cache) generation() uint64 {
	if c == nil {
		return 0
	}
	return c.emptied.Load()
}

// put remembers a row of a generation, unless a later version of it is known, or the cache was emptied since: then another
// process may have changed the payment meanwhile. On a nil cache it does nothing, and the others find nothing.
func (c *cache) put(r row, generation uint64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.emptied.Load() {
		return
	}
	known := c.bySeq[r.seq]
	if known != nil {
		if known.payment.Version > r.payment.Version {
			return
		}
		next := known.payment.Version
		if r.batch > 0 { // this process wrote it
			next++
		}
		if r.payment.Version <= next { // else another has changed it, and what was told may be due again (SendAgain)
			r.told = max(r.told, known.told)
		}
		r.taken = max(r.taken, known.taken) // where others write too, it is no more than a hope
	} else {
		if known = c.bySeq[c.ring[c.next]]; known != nil { // the oldest, whose memory it gets
			delete(c.bySeq, known.seq)
			delete(c.seqs, known.payment.ID)
		} else {
			known = new(row)
		}
		c.ring[c.next] = r.seq
		c.next = (c.next + 1) % len(c.ring)
		c.seqs[r.payment.ID] = r.seq
		c.bySeq[r.seq] = known
	}
	*known = r
}

func (c *cache) byID(id payment.ID) (row, bool) {
	if c == nil {
		return row{}, false
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return found(c.bySeq[c.seqs[id]])
}

func (c *cache) bySeqOf(seq int64) (row, bool) {
	if c == nil {
		return row{}, false
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return found(c.bySeq[seq])
}

func found(r *row) (row, bool) {
	if r == nil {
		return row{}, false
	}
	return *r, true
}

// forget drops a row that is not as it is remembered.
func (c *cache) forget(seq int64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.bySeq[seq]; r != nil {
		delete(c.bySeq, seq)
		delete(c.seqs, r.payment.ID)
	}
}

// closed notes that events are told, or taken by the merchant. Of one that is given up only the store can say that it is
// closed: another process may have claimed it again.
func (c *cache) closed(results []Result) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, result := range results {
		r := c.bySeq[result.Key.seq]
		if r == nil || !result.Accepted {
			continue
		}
		if result.Key.n == r.told+1 && result.NextAt.IsZero() {
			r.told++
		}
		if result.Key.n == r.taken+1 {
			r.taken++
		}
	}
}

// neighbours says whether an event is known to be the first of its payment that may not be told yet, and
// the last that there is.
func (c *cache) neighbours(key EventKey) (first, last bool) {
	r, _ := c.bySeqOf(key.seq) // of one that is not remembered no event is told, and none is the last
	return key.n <= r.told+1, key.n == r.payment.LastEvent
}
