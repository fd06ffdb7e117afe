package store

import (
	"sync"
	"time"

	"holdfast/internal/payment"
)

// cacheSize is how many payments are remembered: more than are ever under way at once on one
// machine, at about 2 KiB each.
const cacheSize = 16 << 10

// foreignEvery bounds how long another process's write (an operator's command) may go unnoticed by
// readers. Writers notice it before they decide.
const foreignEvery = 500 * time.Millisecond

// cache is the payments written last, as they are in the store. Only the process that serves has one.
// A payment is put in after its commit, by the committer alone; what is kept is never edited, only
// replaced. Another process's write empties it.
type cache struct {
	mu    sync.RWMutex
	bySeq map[int64]*row
	seqs  map[payment.ID]int64
	ring  []int64 // the rows in the order they came, oldest at next
	next  int
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
	c.bySeq, c.seqs = make(map[int64]*row), make(map[payment.ID]int64)
	c.ring, c.next = make([]int64, cacheSize), 0
}

// put remembers a row. On a nil cache it does nothing, and the others find nothing.
func (c *cache) put(r row) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bySeq[r.seq] == nil {
		if old := c.bySeq[c.ring[c.next]]; old != nil {
			delete(c.bySeq, old.seq)
			delete(c.seqs, old.payment.ID)
		}
		c.ring[c.next] = r.seq
		c.next = (c.next + 1) % len(c.ring)
		c.seqs[r.payment.ID] = r.seq
	}
	c.bySeq[r.seq] = &r
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
