package gateway

import (
	"context"
	"time"

	"holdfast/internal/payment"
)

// Hasten makes the operation in doubt of a payment due at once: whoever serves from the store asks what became of it.
// The errors that payment.Hasten names say why there is nothing to ask.
func (g *Gateway) Hasten(ctx context.Context, id payment.ID) (payment.Payment, error) {
	change, err := g.begin(ctx, id, payment.Hasten{})
	return change.Payment, err
}

// Resolve takes a person's word on the operation in doubt of a payment that bears the reference ref, where the centre
// cannot say. It asks the centre nothing, and may run beside the process that serves: if that process, or the
// centre, is faster, the word is refused and nothing is changed. The errors are those that payment.Resolve names.
func (g *Gateway) Resolve(ctx context.Context, id payment.ID, ref string, r payment.Resolution) (payment.Payment, error) {
	change, err := g.begin(ctx, id, payment.Resolve{Ref: ref, Resolution: r})
	if err == nil {
		g.cfg.Log.Warn("a person's word ends a doubt", "payment", id, "operation", ref, "outcome", r.Outcome, "by", r.By, "why", r.Why)
	}
	return change.Payment, err
}

// logDoubt logs a payment whose open question was asked in vain: what was sent, what is known, when it is asked next, who
// decides.
func (g *Gateway) logDoubt(p payment.Payment) {
	op := p.Open
	if op == nil || op.Outcome == payment.ChallengeGiven {
		return
	}
	decides := "the centre, until " + op.ForPersonAt().Format(time.RFC3339)
	if op.WaitsForPerson() {
		decides = "a person: holdfast doubt list"
	}
	g.cfg.Log.Warn("payment in doubt", "payment", p.ID, "operation", op.Ref, "kind", op.Kind, "amount", op.Amount.String(),
		"processor", p.Attempt.Processor, "sent", op.SentAt, "asks", op.Asks, "outcome", op.Outcome, "cause", op.Cause,
		"next", op.NextAt, "decides", decides)
}
