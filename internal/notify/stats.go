package notify

import (
	"sync/atomic"

	"holdfast/internal/store"
	"holdfast/internal/tally"
)

// Attempt is what became of an attempt to tell a shop.
type Attempt string

// What may become of one.
const (
	Taken      Attempt = "taken"      // answered with 2xx
	Refused    Attempt = "refused"    // answered with another status
	Unanswered Attempt = "unanswered" // not answered, or only in part
	Unsent     Attempt = "unsent"     // what it is about could not be read
)

func (n *Notifier) count(r *store.Result, sent bool) {
	became := Taken
	switch {
	case !sent:
		became = Unsent
	case r.Status == 0:
		became = Unanswered
	case r.Status < 200 || r.Status >= 300:
		became = Refused
	}
	n.attempts.Of(became).Add(1)
	if r.Outcome == store.OutcomeGaveUp {
		n.gaveUp.Add(1)
	}
}

// Attempts is how many attempts were made to tell shops, by what became of them.
func (n *Notifier) Attempts() map[Attempt]*atomic.Uint64 { return n.attempts.All() }

// Took is how long shops took to answer, or were waited for in vain.
func (n *Notifier) Took() *tally.Times { return &n.took }

// GaveUp is how many notifications were given up.
func (n *Notifier) GaveUp() uint64 { return n.gaveUp.Load() }
