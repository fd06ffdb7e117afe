package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
	"time"

	"holdfast/internal/payment"
)

// A database may be away: it cannot be reached, takes no writes, or has no room for them. Callers wait for it as long as it
// makes sense, and are then told that nothing was stored. From the first of them on the store says so, until it has itself
// written and read again.

const (
	probeEvery = time.Second     // how often it tries
	quietFor   = 5 * time.Second // and how long nobody must have been told no: who tries does not do all that a payment does
)

var errAway = errors.New("the database does not answer, or takes no writes (the log says why); payments are taken again as soon as it does")

// away is since when the database takes nothing from anybody.
type away struct {
	mu     sync.Mutex
	since  time.Time // zero: it is there
	missed time.Time // when a caller was told no last

	probing sync.WaitGroup
	ctx     context.Context // until the store is closed
	end     context.CancelFunc
}

// Away says that the database takes nothing from anybody for now. Unlike Err it passes.
func (s *Store) Away() error {
	s.away.mu.Lock()
	defer s.away.mu.Unlock()
	if s.away.since.IsZero() {
		return nil
	}
	return errAway
}

// missed notes that a caller who waited for the database as long as he may is told no.
func (s *Store) missed(err error) {
	if !s.cfg.Serve || !s.engine.absent(err) {
		return
	}
	a := &s.away
	a.mu.Lock()
	defer a.mu.Unlock()
	a.missed = time.Now()
	if !a.since.IsZero() || a.ctx.Err() != nil {
		return
	}
	a.since = a.missed
	s.cfg.Log.Error("the database takes no payments; calls fail until it does again", "error", s.engine.explain(err))
	a.probing.Go(s.probe)
}

// probe tries until the database does what payments need, and goes on doing it.
func (s *Store) probe() {
	a := &s.away
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-tick.C:
		}
		if s.try(a.ctx) == nil && s.back() {
			return
		}
	}
}

// back ends what missed began, unless somebody was told no a moment ago.
func (s *Store) back() bool {
	a := &s.away
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.missed) < quietFor {
		return false
	}
	s.cfg.Log.Info("the database takes payments again", "after", time.Since(a.since).Round(time.Millisecond))
	a.since = time.Time{}
	return true
}

// try writes as each committer does, makes sure that there is room, and reads as calls do. Of what it writes only the
// committers' marks stay.
func (s *Store) try(ctx context.Context) error {
	for _, c := range s.committers {
		if err := c.do(ctx, &job{exec: writeNothing}); err != nil {
			return err
		}
	}
	// Whatever else is wrong with a table of its own, such as a right that is missing, says nothing of payments.
	if err := s.do(ctx, &job{exec: findRoom}); err != nil && s.engine.absent(err) {
		return err
	}
	if _, err := s.HasKey(ctx); err != nil {
		return err
	}
	_, err := s.Payment(ctx, payment.ID{})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// writeNothing makes its transaction one that writes: no row of meta has this name.
func writeNothing(w writing, _ time.Time) error {
	_, err := w.exec(`UPDATE meta SET value = value WHERE name = 'room'`, nil)
	return err
}

// roomBytes is more than a payment takes, in all its tables and their indexes.
const roomBytes = 256 << 10

// roomName is this process's own, and the same each time: what a connection has prepared stays with it.
var roomName = sync.OnceValue(func() string {
	var name [8]byte
	rand.Read(name[:])
	return hex.EncodeToString(name[:])
})

// findRoom fails where the disk is full. In the tables that are there a row may find room all the same, where another was; a
// new one must have it from the disk, and gives it back.
func findRoom(w writing, _ time.Time) error {
	filling := make([]byte, roomBytes/2)
	rand.Read(filling) // what repeats itself would be compressed
	name := "room_" + roomName()
	for _, step := range []struct {
		sql  string
		args []value
	}{
		{`CREATE TABLE ` + name + ` (filling TEXT)`, nil},
		{`INSERT INTO ` + name + ` VALUES (?1)`, []value{str(hex.EncodeToString(filling))}},
		{`DROP TABLE ` + name, nil},
	} {
		if _, err := w.exec(step.sql, step.args); err != nil {
			return err
		}
	}
	return nil
}
