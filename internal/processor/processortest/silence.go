package processortest

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/payment"
)

// Silence has a connector ask a centre that takes a request and says nothing, and returns how many requests came: ask waits no
// longer than it is told, and calls counts what has come to the centre. It fails unless nothing is known when that time is over,
// and the cause has none of the secrets. Where the machine stood still for as long as was waited, the centre was not asked; then
// it is asked again, and waited for longer.
func Silence(t *testing.T, calls *atomic.Int32, ask func(within time.Duration) payment.Answer, secrets ...string) int32 {
	t.Helper()
	calls.Store(0)
	for within := time.Second; calls.Load() == 0 && within < time.Minute; within *= 2 {
		begun := time.Now()
		a := ask(within)
		took := time.Since(begun)
		if calls.Load() > 0 && (a.Outcome != payment.Unknown || a.Reason != "" || took > within+3*time.Second) {
			t.Errorf("silence: %+v after %s", a, took)
		}
		for _, secret := range secrets {
			if strings.Contains(a.Cause, secret) {
				t.Errorf("silence: the cause is %q", a.Cause)
			}
		}
	}
	return calls.Load()
}
