package gateway

import (
	"fmt"
	"sync"
	"time"

	"holdfast/internal/payment"
)

// Three wrong codes end a payment (payment.MaxWrongCodes, counted in the store before the centre sees the
// code). Whoever has a card's number could begin payment after payment with it and guess three times at
// each; so wrong codes are also counted by card, over all payments.

// WrongCodes is how many wrong codes are taken for one card within an hour; of codes of six digits that
// finds one in years.
const WrongCodes = 30

// wrongCodes counts by card. Cards are told apart by what is kept of them in the open.
type wrongCodes struct {
	most  int // 0: no limit
	mu    sync.Mutex
	cards hourly[cardKey]
	// underWay are the payments whose code is at the centre now, and how many callers wait for that: one of them for each
	// payment. Were they not counted too, as many guesses as can be made at once would come before the first is found wrong.
	underWay map[cardKey]map[payment.ID]int
}

type cardKey struct{ first6, last4 string }

func keyOf(f payment.CardFacts) cardKey { return cardKey{f.First6, f.Last4} }

// check refuses a card for which too many wrong codes came.
func (w *wrongCodes) check(card payment.CardFacts, now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refusal(keyOf(card), now)
}

// refusal is check. The caller holds the lock.
func (w *wrongCodes) refusal(k cardKey, now time.Time) error {
	if w.most == 0 || w.cards.of(k, now) < w.most {
		return nil
	}
	return &payment.Error{Reason: payment.TooManyWrongCodes, Detail: fmt.Sprintf("%d wrong codes came for this card within an hour; use another card, or this one in two hours", w.most)}
}

// begin is check before a payment's code goes to the centre. It refuses too what would be too many wrong codes if all that are
// under way are wrong. end is to be called when the answer has been counted.
func (w *wrongCodes) begin(card payment.CardFacts, id payment.ID, now time.Time) (end func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := keyOf(card)
	if err := w.refusal(k, now); err != nil {
		return nil, err
	}
	others := w.underWay[k]
	if w.most > 0 && others[id] == 0 && w.cards.of(k, now)+len(others) >= w.most {
		return nil, &payment.Error{Reason: payment.Busy, Detail: "codes of other payments by this card are being checked"}
	}
	if others == nil {
		if w.underWay == nil {
			w.underWay = make(map[cardKey]map[payment.ID]int)
		}
		others = make(map[payment.ID]int)
		w.underWay[k] = others
	}
	others[id]++
	return func() { w.end(k, id) }, nil
}

func (w *wrongCodes) end(k cardKey, id payment.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.underWay[k]
	if all[id]--; all[id] == 0 {
		delete(all, id)
	}
	if len(all) == 0 {
		delete(w.underWay, k)
	}
}

func (w *wrongCodes) count(card payment.CardFacts, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cards.count(keyOf(card), now)
}
