package gateway

import (
	"sync"

	"holdfast/internal/payment"
)

// turns are the payments that Run attends to. Each centre has a queue of its own, from which some are attended to at a time:
// a centre that hangs keeps waiting what is to be asked of it, and nothing else. What waits is little for each, for it may be
// many.
type turns struct {
	most    int // at a time, for each centre
	attend  func(duty)
	mu      sync.Mutex
	taken   map[payment.ID]struct{} // begun, or waiting
	begun   map[contract]int        // by contract
	waiting map[contract][]duty     // likewise
	all     sync.WaitGroup
}

// newTurns: attend is called when it is a payment's turn at its centre.
func newTurns(most int, attend func(duty)) *turns {
	return &turns{most: most, attend: attend, taken: make(map[payment.ID]struct{}), begun: make(map[contract]int), waiting: make(map[contract][]duty)}
}

// has says that a payment is taken. Of no turns, none is.
func (t *turns) has(id payment.ID) bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.taken[id]
	return ok
}

// take has a payment attended to when it is its turn, on a goroutine of its own, unless it is taken already.
func (t *turns) take(d duty) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.taken[d.id]; ok {
		return
	}
	t.taken[d.id] = struct{}{}
	t.all.Add(1)
	if t.begun[d.contract] == t.most {
		t.waiting[d.contract] = append(t.waiting[d.contract], d)
		return
	}
	t.begun[d.contract]++
	go t.turn(d)
}

// turn attends to a payment, and then gives its place at its centre to the next one.
func (t *turns) turn(d duty) {
	defer t.end(d)
	t.attend(d)
}

func (t *turns) end(d duty) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.taken, d.id)
	if queue := t.waiting[d.contract]; len(queue) > 0 {
		t.waiting[d.contract] = queue[1:]
		go t.turn(queue[0])
	} else {
		t.begun[d.contract]--
	}
	t.all.Done()
}
