package processortest

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/processor"
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

// GivenUp has a connector ask what its caller has given up before it could be sent. It fails unless the first time that is no
// doubt, and later one: an earlier request may have done it. q is a question that moves money.
func GivenUp(t *testing.T, c processor.Processor, q processor.Question) {
	t.Helper()
	ended, end := context.WithCancel(t.Context())
	end()
	for asks, want := range map[int]payment.Outcome{1: payment.Refused, 2: payment.Unknown} {
		q.Operation.Asks = asks
		if a := c.Ask(ended, q); a.Outcome != want || want == payment.Refused && a.Reason != payment.Unavailable {
			t.Errorf("given up before, asked %d times: %+v, want %s", asks, a, want)
		}
	}
}
