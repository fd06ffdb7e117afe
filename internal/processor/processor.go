// Package processor is the one contract between the gateway and a processing centre: a Question
// goes in, an Answer comes out.
//
// A connector knows one centre's wire format and nothing else. It never decides, never retries a
// question that moves money, and never returns an error: it says approved, refused, unknown or
// never seen, with the cause for the log. What every connector must get right is written down as
// an exam in processortest.
package processor

import (
	"context"
	"time"

	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// Processor is a connector to one processing centre. It is safe for concurrent use.
type Processor interface {
	// Name is how the store and the ledger call the contract with the centre: "uzcard", where there is
	// one only. What is under way goes back to the contract of the name, so it must not change.
	Name() string
	// Capabilities is what the centre can do, as examined by processortest.
	Capabilities() Capabilities
	// Ask asks one question and waits for its answer until ctx ends. Whatever goes wrong after
	// the first byte was sent is Unknown; what certainly never left is Refused with
	// payment.Unavailable.
	Ask(ctx context.Context, q Question) payment.Answer
}

// Question is one thing to ask a centre. The gateway has committed it before it asks.
type Question struct {
	Payment   payment.ID
	Shop      int64
	Operation payment.Operation // Kind, Ref, Amount, Ask, SentAt
	Attempt   payment.Attempt   // what is known of the card and of the hold so far

	// Captured is what was taken of the payer's money, whatever was given back of it since; zero before.
	Captured money.Amount

	// HoldUntil is when the gateway lets an undecided hold go; the centre's own hold must outlive it.
	HoldUntil time.Time

	// ExpiresAt is the end of the payment's ttl: a payer at his bank has time until then.
	ExpiresAt time.Time
	Language  string // of the payer: uz, oz, ru or en

	// In memory only, for the one question that needs it, and with Send only.
	Card payment.Card // with OpChallenge, or with OpHold and OpCharge where the payer proves himself at his bank
	Code payment.OTP  // with OpVerify

	// Claimed reports whether another payment owns a hold of this centre. It is asked when a
	// hold without a reference of ours must be found again (SVGate hold.get.cardId). An error
	// makes the answer Unknown.
	Claimed func(ctx context.Context, claim string) (bool, error)
}

// Capabilities is what a centre can do and how far its word goes.
type Capabilities struct {
	// Answer bounds one call to the centre.
	Answer time.Duration
	// Currencies are what the centre moves under the contract. Others are refused.
	Currencies []money.Currency
	// Shown says for each kind of operation how long after sending it the centre may take to
	// show it when asked; "not found" proves nothing before. 0 only for kinds that payment sends
	// again: there the centre does nothing about a second one with our reference, so that sending
	// again is safe at any time.
	Shown map[payment.Kind]time.Duration
	// LongestHold is how long the centre keeps money aside at most.
	LongestHold time.Duration
	// Remembers is how long after an operation the centre knows our reference, or the hold that it is about:
	// finds it when asked, and does nothing about a second one. "Not found" proves nothing afterwards.
	Remembers time.Duration
	// PartialCapture: a smaller sum than was held may be captured.
	PartialCapture bool
	// SeveralCaptures: what a capture leaves of a hold may be captured later, until nothing is left. Else the
	// first capture is the last, and another moves nothing. The gateway itself asks for one (seed: set_accept).
	SeveralCaptures bool
	// ReleasesRest: when less than was held is captured, the centre gives back the rest by itself, at once. Where
	// it does not, the gateway captures whole holds only: it would leave the payer without the rest.
	ReleasesRest bool
	// PartialRefund: a part of what was captured may be given back, and so several times.
	PartialRefund bool
	// HoldUnnamed: the centre takes no reference of ours for a hold, which is found by what else is known of it only, above all
	// by the card.
	HoldUnnamed bool
	// ThreeDS: the payer proves himself at his bank (3-D Secure) within the hold or charge; else by a
	// one-time code before it.
	ThreeDS bool
	// SendsCode: the centre sends the one-time code itself.
	SendsCode bool
}

// Limits is what of the capabilities is kept with a payment.
func (c Capabilities) Limits() payment.Limits {
	limits := payment.Limits{
		AnswerMillis: c.Answer.Milliseconds(), RememberedMillis: c.Remembers.Milliseconds(),
		WholeCapture: !c.PartialCapture || !c.ReleasesRest, HoldUnnamed: c.HoldUnnamed,
	}
	for kind, shown := range c.Shown {
		if shown > 0 {
			if limits.ShownMillis == nil {
				limits.ShownMillis = make(map[payment.Kind]int64)
			}
			limits.ShownMillis[kind] = shown.Milliseconds()
		}
	}
	return limits
}
