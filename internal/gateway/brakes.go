package gateway

import (
	"hash/maphash"
	"sync"
	"time"
)

// CodesSent is how many codes are sent for one card within an hour: whoever has a card's number could have its holder's
// telephone ring, at the operator's expense, with payment after payment.
const CodesSent = 30

const (
	brakeFor  = time.Hour
	mostCards = 1 << 16
)

// hourly counts by card, for one to two times brakeFor. It is in memory: what it is for is a brake, and a restart releases it.
// The caller sees to it that one at a time uses it.
type hourly[Card comparable] struct {
	now, before map[Card]int
	since       time.Time
}

func (h *hourly[Card]) of(card Card, now time.Time) int {
	h.turn(now)
	return h.now[card] + h.before[card]
}

func (h *hourly[Card]) count(card Card, now time.Time) {
	h.turn(now)
	if h.now[card]++; len(h.now) > mostCards {
		h.before, h.now, h.since = h.now, make(map[Card]int), now
	}
}

func (h *hourly[Card]) turn(now time.Time) {
	if age := now.Sub(h.since); age >= brakeFor || h.now == nil {
		h.before, h.now = h.now, make(map[Card]int)
		if age >= 2*brakeFor {
			h.before = nil
		}
		h.since = now
	}
}

// sentCodes counts the codes sent for a card, over all payments. Cards are told apart by a hash that means nothing outside
// this process.
type sentCodes struct {
	most  int // 0: no limit
	seed  maphash.Seed
	mu    sync.Mutex
	cards hourly[uint64]
}

// take reports whether one more may be sent, and counts it if so.
func (s *sentCodes) take(number string, now time.Time) bool {
	if s.most == 0 {
		return true
	}
	card := maphash.String(s.seed, number)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cards.of(card, now) >= s.most {
		return false
	}
	s.cards.count(card, now)
	return true
}
