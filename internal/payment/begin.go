package payment

import (
	"fmt"
	"slices"
	"time"

	"holdfast/internal/money"
)

// The limits of a payment; each is told to the payer before it is reached.
const (
	MaxAttempts   = 5 // cards tried on one payment
	MaxWrongCodes = 3 // the third cancels the payment (contract §4)
	MaxResends    = 3 // further codes for one card (contract §4, error 17)
	MaxRefunds    = 100
)

// sameCardWithin is how long the same card typed again means the same attempt: a double click or
// a reload must not send a second code.
const sameCardWithin = time.Minute

// New is the payment that the first prepare_payment makes. number is its public number.
func New(id ID, number, shop int64, terms Terms, now time.Time) Change {
	zero := terms.Amount.Zero()
	p := Payment{
		ID: id, Number: number, Shop: shop, CreatedAt: now, UpdatedAt: now, Terms: terms, State: Created,
		Sums: Sums{Held: zero, Captured: zero, Released: zero, Refunded: zero, Fee: zero},
	}
	return Change{Payment: p, changed: true}
}

// Command is what may be asked of a payment: Pay, Resend, SubmitCode, Proceed, Decide, Reimburse, Lapse
// or Resume; Hasten and Resolve of one in doubt; Adopt and Reconcile of one that a backup brought back.
type Command interface {
	begin(p Payment, now time.Time) (Change, error)
}

// Begin puts a question: it says what changes when c is asked of p at now. Where that opens a
// question to the processing centre, Change.Payment.Open holds it, to be committed before it is
// asked. A refusal is an *Error and changes nothing; Change.Empty says that what is asked for is
// already so.
func Begin(p Payment, c Command, now time.Time) (Change, error) { return c.begin(p, now) }

// Pay tries a card (seed: pay).
type Pay struct {
	Attempt  Attempt
	VerifyID int64 // for the verification it starts; random, 1 to 2^31-1
}

func (c Pay) begin(p Payment, now time.Time) (Change, error) {
	if err := p.payable(now); err != nil {
		return Change{}, err
	}
	same := p.Attempt != nil && p.Attempt.Method == c.Attempt.Method && p.Attempt.Card.Same(c.Attempt.Card)
	switch {
	case p.Open.waitsForPayer() && same:
		return unchanged(p), nil // on with the bank's page
	case p.Open.waitsForPayer():
		return Change{}, &Error{Reason: Busy, Detail: "the payer is at his bank with another card; this one can be tried when that has ended"}
	case p.Open != nil && same && (p.Open.Kind == OpChallenge || p.Attempt.ThreeDS):
		return Change{}, refuse(UnderWay)
	case p.Open != nil:
		return Change{}, p.busy()
	case !slices.Contains(p.Terms.Methods, c.Attempt.Method):
		return Change{}, refuse(MethodNotAllowed)
	case same && p.State == Challenged && now.Before(p.Attempt.Challenge.SentAt.Add(sameCardWithin)) && p.Attempt.Challenge.good(now):
		return unchanged(p), nil
	case p.Attempts >= MaxAttempts:
		return Change{}, refuse(AttemptsUsedUp)
	}
	d := edit(p, now)
	d.Payment.Attempts++
	d.Payment.Attempt = &c.Attempt
	d.move(Created)
	kind := OpChallenge
	if c.Attempt.ThreeDS {
		kind = moneyKind(&p)
	}
	d.ask(kind, p.Terms.Amount).VerifyID = c.VerifyID
	return d.Change, nil
}

// good reports whether the code may still be handed in.
func (c *Challenge) good(now time.Time) bool {
	return now.Before(c.ExpiresAt) && c.Tries < MaxWrongCodes
}

// moneyKind is how a payment's money is asked for.
func moneyKind(p *Payment) Kind {
	if p.Terms.AutoCapture {
		return OpCharge
	}
	return OpHold
}

// Resend asks for a further code for the card being tried (contract §4: check_pan).
type Resend struct {
	Card     CardFacts
	VerifyID int64
}

func (c Resend) begin(p Payment, now time.Time) (Change, error) {
	if err := p.payable(now); err != nil {
		return Change{}, err
	}
	switch {
	case p.Open.waitsForPayer():
		return Change{}, &Error{Reason: Busy, Detail: "the payer is at his bank"}
	case p.Open != nil:
		return Change{}, p.busy()
	case p.State != Challenged:
		return Change{}, refuse(NoChallenge)
	case !p.Attempt.Card.Same(c.Card):
		return Change{}, &Error{Reason: CardUnknown, Detail: "this is not the card that is being tried; use pay for another card"}
	case p.Attempt.Challenge.Resends >= MaxResends:
		return Change{}, refuse(ResendsUsedUp)
	}
	d := edit(p, now)
	d.Payment.Attempt.Challenge.Resends++ // counted before the centre sees it, like a try
	op := d.ask(OpChallenge, p.Terms.Amount)
	op.VerifyID, op.Resend = c.VerifyID, true
	return d.Change, nil
}

// SubmitCode hands in the payer's code (seed: check_sms_key). A wrong VerifyID is refused as a
// wrong code is. The try is counted here, before the centre sees it.
type SubmitCode struct {
	VerifyID int64
}

func (c SubmitCode) begin(p Payment, now time.Time) (Change, error) {
	if p.Attempt == nil || p.Attempt.Challenge == nil || p.Attempt.ThreeDS || p.Attempt.Challenge.VerifyID != c.VerifyID {
		return Change{}, refuse(WrongCode)
	}
	challenge := p.Attempt.Challenge
	switch {
	case p.State == Held || p.State == Captured:
		return unchanged(p), nil // the same code again: the same answer
	case p.Open != nil && p.Open.Kind != OpChallenge:
		return Change{}, refuse(UnderWay)
	case p.Open != nil:
		return Change{}, p.busy()
	}
	if err := p.payable(now); err != nil {
		return Change{}, err
	}
	switch {
	case p.State != Challenged:
		return Change{}, refuse(NoChallenge)
	case challenge.Tries >= MaxWrongCodes:
		return Change{}, refuse(AttemptsUsedUp)
	case !challenge.good(now):
		return Change{}, refuse(CodeExpired)
	}
	d := edit(p, now)
	d.Payment.Attempt.Challenge.Tries++
	d.ask(OpVerify, p.Terms.Amount)
	return d.Change, nil
}

// Proceed goes on after the payer's browser came back from a step of 3-D Secure. What it brought is
// not looked at: the centre is asked. A step that is over already (a reload, a double post, a forged
// one) changes nothing.
type Proceed struct {
	Step Step
}

func (c Proceed) begin(p Payment, now time.Time) (Change, error) {
	switch {
	case p.Open == nil:
		return unchanged(p), nil
	case !p.Open.waitsForPayer():
		return Change{}, refuse(UnderWay)
	case p.Attempt.Challenge == nil || p.Attempt.Challenge.Step != c.Step:
		return unchanged(p), nil
	}
	d := edit(p, now)
	op := d.Payment.Open
	op.Ask, op.SentAt, op.Outcome = Continue, now, ""
	op.asked(p.Attempt.Limits, now)
	d.startHold()
	return d.Change, nil
}

// startHold begins the hold's time: with the question, so that the centre's own hold outlives ours.
func (d *draft) startHold() {
	p := &d.Payment
	if !p.Terms.AutoCapture && p.HoldDeadline.IsZero() {
		p.HoldDeadline = d.now.Add(time.Duration(p.Attempt.HoldFor) * time.Second)
	}
}

// Decide is the word on a hold, whoever says it (seed: set_accept, callback).
type Decide struct {
	Accept Accept
	Amount money.Amount // the sum to capture; the zero Amount means all that is held
	By     By
}

func (c Decide) begin(p Payment, now time.Time) (Change, error) {
	amount := c.Amount
	byDeadline := c.By == ByDeadline
	switch {
	case byDeadline && (c.Accept != Cancel || p.State != Held):
		return unchanged(p), nil // time lets go of holds, and does nothing else
	case amount.Currency != p.Terms.Amount.Currency && amount != money.Amount{}:
		return Change{}, &Error{Reason: AmountAboveHold, Detail: fmt.Sprintf("the payment is in %s", p.Terms.Amount.Currency)}
	}
	switch {
	case c.Accept == Cancel:
		amount = p.Terms.Amount.Zero()
	case amount == money.Amount{}:
		amount = p.Held
	}
	if stands := p.Decision; stands != nil {
		switch {
		case stands.Accept != c.Accept || stands.Amount != amount:
			return Change{}, &Error{Reason: DecisionStands, Decision: stands}
		case p.Open != nil:
			return Change{}, refuse(UnderWay)
		}
		return unchanged(p), nil
	}
	switch p.State {
	case Created, Challenged:
		return c.beforeHold(p, now)
	case Held:
	case Captured:
		return Change{}, refuse(AlreadyCaptured)
	default:
		return Change{}, refuse(Finished)
	}
	switch late := !now.Before(p.HoldDeadline); {
	case late && !byDeadline:
		return Change{}, &Error{Reason: DeadlinePassed, Detail: "the hold's time ended at " + p.HoldDeadline.Format(time.RFC3339)}
	case !late && byDeadline:
		return unchanged(p), nil
	case c.Accept == Capture && amount.Cmp(p.Held) > 0:
		return Change{}, &Error{Reason: AmountAboveHold, Detail: fmt.Sprintf("%s is held", p.Held)}
	case c.Accept == Capture && !amount.Positive():
		return Change{}, &Error{Reason: AmountAboveHold, Detail: "the sum must be above 0"}
	case c.Accept == Capture && p.Attempt.Limits.WholeCapture && amount != p.Held:
		return Change{}, &Error{Reason: Unsupported, Detail: fmt.Sprintf("the processing centre captures whole holds only: %s", p.Held)}
	case p.Open != nil:
		return Change{}, p.busy() // after a restore: whether it was captured before is not known yet
	}
	d := edit(p, now)
	d.Payment.Decision = &Decision{Accept: c.Accept, Amount: amount, By: c.By, At: now}
	if c.Accept == Capture {
		d.ask(OpCapture, amount)
	} else {
		d.ask(OpVoid, p.StillHeld())
	}
	return d.Change, nil
}

// beforeHold: nothing is set aside yet, so there is nothing to capture, and a cancellation moves no money.
func (c Decide) beforeHold(p Payment, now time.Time) (Change, error) {
	switch {
	case p.Open != nil:
		return Change{}, p.busy()
	case c.Accept == Capture:
		return Change{}, refuse(NotHeld)
	}
	d := edit(p, now)
	d.Payment.Decision = &Decision{Accept: Cancel, Amount: p.Terms.Amount.Zero(), By: c.By, At: now}
	d.move(Voided)
	return d.Change, nil
}

// Reimburse gives captured money back (contract §5: refund). The same ShopID again is the same refund,
// whatever else it says.
type Reimburse struct {
	ID     string // a fresh UUID
	ShopID string
	Amount money.Amount
	Whole  bool // the centre gives back whole payments only
}

func (c Reimburse) begin(p Payment, now time.Time) (Change, error) {
	if r := p.FindRefund(c.ShopID); r != nil {
		if r.State == RefundPending {
			return Change{}, refuse(UnderWay)
		}
		return unchanged(p), nil
	}
	if i := p.unnamedRefund(c.Amount); i >= 0 {
		d := edit(p, now)
		d.Payment.Refunds[i].ShopID = c.ShopID
		return d.Change, nil
	}
	left := p.Refundable()
	switch {
	case c.Amount.Currency != left.Currency:
		return Change{}, &Error{Reason: RefundAmount, Detail: fmt.Sprintf("the payment is in %s", left.Currency)}
	case p.State != Captured:
		return Change{}, refuse(NotCaptured)
	case !left.Positive():
		return Change{}, refuse(NothingToRefund)
	case c.Amount.Cmp(left) > 0 || !c.Amount.Positive():
		return Change{}, &Error{Reason: RefundAmount, Detail: fmt.Sprintf("%s can be given back", left)}
	case c.Whole && c.Amount != p.Captured:
		return Change{}, &Error{Reason: Unsupported, Detail: fmt.Sprintf("the processing centre gives back whole payments only: %s", p.Captured)}
	case len(p.Refunds) >= MaxRefunds:
		return Change{}, &Error{Reason: RefundAmount, Detail: fmt.Sprintf("a payment takes %d refunds", MaxRefunds)}
	case p.Open != nil:
		return Change{}, p.busy()
	}
	d := edit(p, now)
	op := d.ask(OpRefund, c.Amount)
	d.Payment.Refunds = append(d.Payment.Refunds, Refund{
		ID: c.ID, ShopID: c.ShopID, Amount: c.Amount, AskedAt: now, Operation: op.N, State: RefundPending,
	})
	return d.Change, nil
}

// Lapse does what time does: it ends a payment nobody paid, and lets go of a hold nobody
// confirmed. Before its time it changes nothing.
type Lapse struct{}

func (c Lapse) begin(p Payment, now time.Time) (Change, error) {
	switch {
	case p.Open != nil:
		return Change{}, p.busy()
	case p.State == Held && p.Decision == nil:
		return Decide{Accept: Cancel, By: ByDeadline}.begin(p, now)
	case (p.State == Created || p.State == Challenged) && !now.Before(p.Terms.ExpiresAt):
		d := edit(p, now)
		d.move(Expired)
		return d.Change, nil
	}
	return unchanged(p), nil
}

// Resume takes up a question whose answer never came: the process died, or the centre did not
// say. Orphan asks at once, without waiting for the question's time: whoever says so knows that
// nobody is still asking it. Restored is when the store began as a backup, if it did.
type Resume struct {
	Orphan   bool
	Restored time.Time
}

func (c Resume) begin(p Payment, now time.Time) (Change, error) {
	op := p.Open
	if op == nil || !c.Orphan && (op.NextAt.IsZero() || now.Before(op.NextAt)) {
		return unchanged(p), nil
	}
	if !op.Kind.MovesMoney() {
		// The code or card it needs is gone with the request, and no money is at stake: the payer tries again.
		return Settle(p, Answer{Ref: op.Ref, Outcome: Unknown, Cause: "the request that asked this was lost"}, now), nil
	}
	known := *op
	if op.Kind.repeatable() && op.AskedAt.Before(c.Restored) {
		// That it was not done was said before the backup was taken. It may have been sent again until the restore.
		known.Outcome, known.SentAt = Unknown, c.Restored
	}
	d := edit(p, now)
	*d.Payment.Open = Next(known, p.Attempt.Limits, now)
	return d.Change, nil
}

// payable reports why no card or code can be taken now.
func (p *Payment) payable(now time.Time) error {
	switch {
	case p.State == Held || p.State == Captured:
		return refuse(AlreadyPaid)
	case p.State == Declined:
		return refuse(AttemptsUsedUp)
	case p.State == Expired:
		return refuse(PaymentExpired)
	case p.State.Terminal():
		return refuse(Finished)
	case p.Open == nil && !now.Before(p.Terms.ExpiresAt):
		return refuse(PaymentExpired)
	}
	return nil
}

// busy tells a question that is being asked from one whose answer is in doubt.
func (p *Payment) busy() error {
	if p.Open.Outcome != "" {
		return refuse(InDoubt)
	}
	return refuse(Busy)
}
