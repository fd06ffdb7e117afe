package metrics

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"holdfast/internal/store"
)

const (
	lookWithin = 2 * time.Second // how long what waits in the store may take to be read; then it is left out
	lookEvery  = 5 * time.Second // how old what was read may be, or that it could not be
	lookShare  = 5               // and how many times what reading it took: more than a fifth of the time nobody reads
)

// survey reads what waits in the store, once for all who ask at the same time, and not again soon after.
type survey struct {
	read func(context.Context) (store.Backlog, error)
	log  *slog.Logger

	mu      sync.Mutex
	running chan struct{} // closed when what is being read has been
	until   time.Time     // how long the last one counts
	last    store.Backlog
	known   bool // the last one could be read
}

// look is what waits; false: it cannot be read now.
func (s *survey) look() (b store.Backlog, known bool) {
	s.mu.Lock()
	if s.running == nil && time.Now().Before(s.until) {
		defer s.mu.Unlock()
		return s.last, s.known
	}
	if s.running == nil {
		s.running = make(chan struct{})
		go s.run(s.running)
	}
	running := s.running
	s.mu.Unlock()
	late := time.NewTimer(lookWithin + lookWithin/4) // for who reads on although his time is over
	defer late.Stop()
	select {
	case <-running:
	case <-late.C:
		return store.Backlog{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.known
}

func (s *survey) run(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), lookWithin)
	defer cancel()
	began := time.Now()
	b, err := s.read(ctx)
	if err != nil {
		s.log.Debug("what waits in the store cannot be read for the metrics", "error", err)
	}
	s.mu.Lock()
	s.last, s.known, s.running = b, err == nil, nil
	s.until = time.Now().Add(max(lookEvery, lookShare*time.Since(began)))
	s.mu.Unlock()
	close(done)
}
