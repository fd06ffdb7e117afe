package gateway

import (
	"fmt"
	"sync"
	"time"

	"holdfast/internal/payment"
)

// Three wrong codes end a payment (payment.MaxWrongCodes, counted in the store before the centre sees the
// code). Whoever has a card's number could begin payment after payment with it and guess three times at
// each; so wrong codes are also counted by card, over all payments. This count is in memory: it is a
// brake, and a restart releases it.

const (
	// WrongCodes is how many wrong codes are taken for one card within an hour; of codes of six digits that
	// finds one in years.
	WrongCodes    = 30
	wrongCodesFor = time.Hour
	mostCards     = 1 << 16
)

// wrongCodes counts by card, for one to two times wrongCodesFor. Cards are told apart by what is kept of
// them in the open.
type wrongCodes struct {
	most        int // 0: no limit
	mu          sync.Mutex
	now, before map[cardKey]int
	since       time.Time
}

type cardKey struct{ first6, last4 string }

func keyOf(f payment.CardFacts) cardKey { return cardKey{f.First6, f.Last4} }

// check refuses a card for which too many wrong codes came.
func (w *wrongCodes) check(card payment.CardFacts, now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turn(now)
	if k := keyOf(card); w.most == 0 || w.now[k]+w.before[k] < w.most {
		return nil
	}
	return &payment.Error{Reason: payment.TooManyWrongCodes, Detail: fmt.Sprintf("%d wrong codes came for this card within an hour; use another card, or this one in two hours", w.most)}
}

func (w *wrongCodes) count(card payment.CardFacts, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turn(now)
	if w.now[keyOf(card)]++; len(w.now) > mostCards {
		w.before, w.now, w.since = w.now, make(map[cardKey]int), now
	}
}

func (w *wrongCodes) turn(now time.Time) {
	if age := now.Sub(w.since); age >= wrongCodesFor || w.now == nil {
		w.before, w.now = w.now, make(map[cardKey]int)
		if age >= 2*wrongCodesFor {
			w.before = nil
		}
		w.since = now
	}
}
