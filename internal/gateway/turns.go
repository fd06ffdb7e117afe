package gateway

import (
	"sync"

	"holdfast/internal/payment"
)

// turns are the payments that Run attends to. Each centre has a queue of its own, from which some are attended to at a time:
// a centre that hangs keeps waiting what is to be asked of it, and nothing else.
type turns struct {
	most    int // at a time, for each centre
	mu      sync.Mutex
	taken   map[payment.ID]struct{} // begun, or waiting
	begun   map[string]int          // by centre
	waiting map[string][]func()     // likewise
	all     sync.WaitGroup
}

func newTurns(most int) *turns {
	return &turns{most: most, taken: make(map[payment.ID]struct{}), begun: make(map[string]int), waiting: make(map[string][]func())}
}

// count is how many payments are taken.
func (t *turns) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.taken)
}

// take has attend called when it is the payment's turn at its centre, on a goroutine of its own. false: it is taken already.
func (t *turns) take(d due, attend func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.taken[d.id]; ok {
		return false
	}
	t.taken[d.id] = struct{}{}
	t.all.Add(1)
	turn := func() {
		defer t.end(d)
		attend()
	}
	if t.begun[d.centre] == t.most {
		t.waiting[d.centre] = append(t.waiting[d.centre], turn)
		return true
	}
	t.begun[d.centre]++
	go turn()
	return true
}

// end gives a payment's place at its centre to the next one.
func (t *turns) end(d due) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.taken, d.id)
	if next := t.waiting[d.centre]; len(next) > 0 {
		t.waiting[d.centre] = next[1:]
		go next[0]()
	} else {
		t.begun[d.centre]--
	}
	t.all.Done()
}
