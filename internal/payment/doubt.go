package payment

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"holdfast/internal/money"
)

// Resolution is a person's word on an operation in doubt, where the processing centre cannot say. It
// is an answer like any other, and it stays on record with the operation: who, when and why.
type Resolution struct {
	Outcome Outcome      `json:"outcome"`         // Approved or Refused
	Reason  Reason       `json:"reason,omitzero"` // HoldGone with Refused: the centre no longer has the hold
	Amount  money.Amount `json:"amount,omitzero"` // with Approved, of an operation found after a restore: the sum it moved; else what was asked for
	Hold    string       `json:"hold,omitzero"`   // with Approved: what the centre calls the hold or payment
	RRN     string       `json:"rrn,omitzero"`    // with Approved: the reference number of the money taken
	By      string       `json:"by"`              // the person, 1 to 100 characters
	Why     string       `json:"why"`             // what it was learned from, 1 to 1000 characters
	At      time.Time    `json:"at"`              // when it was said
}

// Why a person's word on an operation is not taken: it came too late, or too early, or (the last one) it cannot be. Nothing
// was changed.
var (
	ErrNoDoubt    = errors.New("no operation of this payment is in doubt")
	ErrOtherDoubt = errors.New("this operation has been answered meanwhile, and another is in doubt")
	ErrBeingAsked = errors.New("the processing centre is being asked right now")
	ErrNotAsked   = errors.New("the processing centre has not been asked yet what became of the operation")
	ErrAtBank     = errors.New("the payer is at his bank: the operation ends when he is done or his time is over")
	ErrResolution = errors.New("this resolution cannot be taken")
)

// Doubt is the open question of a payment if money is in doubt in it, or nil: its answer is missing,
// and it is neither being asked right now nor waits for a payer at his bank.
func (p *Payment) Doubt(now time.Time) *Operation {
	op, _ := p.inDoubt(now)
	return op
}

// InDoubt reports whether money is in doubt in a payment, for who counts such payments: unlike Doubt it says so as well while
// the centre is being asked again what became of it.
func (p *Payment) InDoubt(now time.Time) bool {
	op := p.Open
	return op != nil && op.Kind.MovesMoney() && !op.waitsForPayer() && (op.Outcome != "" || !op.beingAsked(p.Attempt.Limits, now))
}

// beingAsked reports whether a call to the centre about the operation may be under way at now.
func (op *Operation) beingAsked(limits Limits, now time.Time) bool {
	return op.AnsweredAt.IsZero() && now.Before(op.AskedAt.Add(limits.answer()))
}

// WaitsForPerson reports that time alone asks no more about the operation.
func (op *Operation) WaitsForPerson() bool { return op.NextAt.IsZero() }

// ForPersonAt is when the inquiries about an operation in doubt end, and it waits for a person.
func (op *Operation) ForPersonAt() time.Time { return op.BegunAt.Add(patience) }

// Hasten makes an operation in doubt due at once: whoever serves asks what became of it.
type Hasten struct{}

func (c Hasten) begin(p Payment, now time.Time) (Change, error) {
	if _, err := p.inDoubt(now); err != nil {
		return Change{}, err
	}
	d := edit(p, now)
	d.Payment.Open.NextAt = now
	return d.Change, nil
}

// Resolve takes a person's word on the operation in doubt that bears the reference ref. The centre must
// have been asked what became of it before, for its word comes first. A capture or void that is refused
// stays decided: it is sent again at once, unless the hold is gone.
type Resolve struct {
	Ref        string
	Resolution Resolution
}

func (c Resolve) begin(p Payment, now time.Time) (Change, error) {
	r := c.Resolution
	op, err := p.inDoubt(now)
	switch {
	case err != nil:
		return Change{}, err
	case op.Ref != c.Ref:
		return Change{}, fmt.Errorf("%w: %s", ErrOtherDoubt, op.Ref)
	case op.Ask != Query && op.Outcome != Refused:
		return Change{}, ErrNotAsked
	}
	if err := r.check(&p, op); err != nil {
		return Change{}, err
	}
	r.At = now
	a := Answer{
		Ref: op.Ref, Outcome: r.Outcome, Reason: r.Reason, Amount: r.Amount, Resolution: &r,
		Cause:  fmt.Sprintf("%s says so: %s", r.By, r.Why),
		Centre: Centre{Hold: r.Hold, RRN: r.RRN},
	}
	if op.Kind == OpHold {
		a.Claim = r.Hold
	}
	return Settle(p, a, now), nil
}

// inDoubt is the operation that a person may speak about, or why there is none.
func (p *Payment) inDoubt(now time.Time) (*Operation, error) {
	op := p.Open
	switch {
	case op == nil || !op.Kind.MovesMoney():
		return nil, ErrNoDoubt
	case op.waitsForPayer():
		return nil, ErrAtBank
	case op.beingAsked(p.Attempt.Limits, now):
		return nil, ErrBeingAsked
	}
	return op, nil
}

// The longest texts of a resolution, in characters.
const (
	longestName   = 100
	longestReason = 1000
	longestCentre = 100
)

// check holds a resolution against the operation that it is about.
func (r *Resolution) check(p *Payment, op *Operation) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrResolution, fmt.Sprintf(format, args...))
	}
	for _, text := range []struct {
		name, value string
		most        int
		must        bool
	}{
		{"who says so", r.By, longestName, true}, {"why", r.Why, longestReason, true},
		{"the centre's name for the hold", r.Hold, longestCentre, false}, {"the reference number", r.RRN, longestCentre, false},
	} {
		switch n := utf8.RuneCountInString(text.value); {
		case text.must && n == 0:
			return fail("it must be said %s", text.name)
		case n > text.most:
			return fail("%s has %d characters; at most %d are kept", text.name, n, text.most)
		case !utf8.ValidString(text.value):
			return fail("%s is not UTF-8", text.name)
		}
	}
	approved := r.Outcome == Approved
	switch {
	case !approved && r.Outcome != Refused:
		return fail("the outcome is %q, and must be approved or refused", r.Outcome)
	case r.Reason != "" && (approved || r.Reason != HoldGone):
		return fail("the reason can only be that the hold is gone, and of what is refused")
	case r.Reason == HoldGone && op.Kind != OpCapture && op.Kind != OpVoid:
		return fail("a %s can be refused or approved; only a capture or a void can find the hold gone", op.Kind)
	case !approved && (r.Amount != money.Amount{} || r.Hold != "" || r.RRN != ""):
		return fail("a sum, a hold and a reference number are those of something that was done")
	case approved && op.Look && r.Amount != money.Amount{} &&
		(op.Kind == OpCapture || op.Kind == OpRefund || op.Kind == OpCharge && !p.Terms.AutoCapture):
		if r.Amount.Currency != op.Amount.Currency || !r.Amount.Positive() || r.Amount.Cmp(op.Amount) > 0 {
			return fail("the %s can be of %s at most, and not of %s", op.Kind, op.Amount, r.Amount)
		}
	case approved && r.Amount != money.Amount{} && r.Amount != op.Amount:
		return fail("the %s is of %s, and cannot be approved with %s", op.Kind, op.Amount, r.Amount)
	case approved && op.Kind == OpHold && r.Hold == "" && p.Attempt.Centre.Hold == "":
		return fail("the centre's name for the hold is needed: without it the hold can neither be captured nor let go")
	}
	return nil
}
