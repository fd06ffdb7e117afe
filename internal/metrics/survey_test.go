package metrics

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/store"
)

// However many ask, one at a time reads, seldom, and nobody waits for long.
func TestSurvey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took, fails, deaf, reads := time.Duration(0), false, false, 0
		s := survey{log: slog.New(slog.DiscardHandler), read: func(ctx context.Context) (store.Backlog, error) {
			reads++
			n := reads
			if deaf {
				ctx = context.Background()
			}
			select {
			case <-ctx.Done():
				return store.Backlog{}, ctx.Err()
			case <-time.After(took):
			}
			if fails {
				return store.Backlog{}, errors.New("it is away")
			}
			return store.Backlog{Waiting: n}, nil
		}}
		// ask has some ask at once, and expects what they learn, how long they wait, and how often was read up to now.
		ask := func(what string, known bool, waiting int, wait time.Duration, wantReads int) {
			t.Helper()
			began := time.Now()
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() {
					if b, ok := s.look(); ok != known || b.Waiting != waiting {
						t.Errorf("%s: %d wait, known: %t", what, b.Waiting, ok)
					}
				})
			}
			all.Wait()
			waited := time.Since(began)
			synctest.Wait() // for who still reads, until he waits
			if waited != wait || reads != wantReads {
				t.Errorf("%s: it took %s, and %d reads", what, waited, reads)
			}
		}
		ask("the first", true, 1, 0, 1)
		time.Sleep(lookEvery - time.Nanosecond)
		ask("soon after", true, 1, 0, 1)
		time.Sleep(time.Nanosecond)
		took = lookWithin - time.Millisecond
		ask("slowly", true, 2, took, 2)
		time.Sleep(lookEvery)
		ask("not at once again", true, 2, 0, 2)
		time.Sleep(lookShare * took)
		took = time.Hour
		ask("too slowly", false, 0, lookWithin, 3)
		ask("and that is remembered", false, 0, 0, 3)
		time.Sleep(lookShare * lookWithin)
		took, fails = 0, true
		ask("in vain", false, 0, 0, 4)
		time.Sleep(lookEvery)
		took, fails, deaf = time.Hour, false, true
		ask("it does not stop", false, 0, lookWithin+lookWithin/4, 5)
		ask("and nobody reads beside it", false, 0, lookWithin+lookWithin/4, 5)
		time.Sleep(took)
		took, deaf = 0, false
		ask("at last", true, 5, 0, 5)
	})
}
