package gateway

import (
	"sync/atomic"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/tally"
)

// AskedOf is a contract with a processing centre, and what it was asked to do.
type AskedOf struct {
	Contract string
	Test     bool // of a test payment: a simulator may have the name of a real contract
	Kind     payment.Kind
}

// Asked is what was asked of a centre, and what it answered.
type Asked struct {
	AskedOf
	Ask     payment.Ask
	Outcome payment.Outcome
	Reason  payment.Reason // why it was refused; "" where it was not
}

// count counts one question and its answer.
func (g *Gateway) count(p *payment.Payment, a *payment.Answer, took time.Duration) {
	of := AskedOf{p.Attempt.Processor, p.Terms.Test, p.Open.Kind}
	g.asks.Of(Asked{of, p.Open.Ask, a.Outcome, a.Reason}).Add(1)
	g.took.Of(of).Add(took)
}

// Asked is how many questions were put to processing centres, by what they were and how they were answered. Those that could
// not be put (no centre of the name is connected, the process stood still, too many codes) are not among them.
func (g *Gateway) Asked() map[Asked]*atomic.Uint64 { return g.asks.All() }

// Took is how long the centres took to answer.
func (g *Gateway) Took() map[AskedOf]*tally.Times { return g.took.All() }

// UnderWay is how many questions are being asked now.
func (g *Gateway) UnderWay() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked
}
