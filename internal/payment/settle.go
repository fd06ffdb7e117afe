package payment

import (
	"fmt"
	"time"
)

// Settle takes a centre's answer to the open question. An answer to anything else (late, twice,
// foreign, overtaken by the next question about the same operation) changes nothing. Where the answer
// leads straight to the next question (a verified code to the hold), that question is open in the Change,
// to be committed and asked in turn.
func Settle(p Payment, a Answer, now time.Time) Change {
	if p.Open == nil || p.Open.Ref != a.Ref || p.Open.overtakes(&a) {
		return unchanged(p)
	}
	op := *p.Open
	d := edit(p, now)
	if op.Look {
		d.found(op, a)
		return d.Change
	}
	// A sum that was not asked for proves nothing about the one that was.
	if a.Outcome == Approved && !a.Amount.IsZero() && a.Amount != op.Amount {
		a.Cause = fmt.Sprintf("asked for %s, answered %s: %s", op.Amount, a.Amount, a.Cause)
		a.Outcome = Unknown
	}
	if !op.Kind.MovesMoney() {
		switch {
		case op.Kind == OpChallenge && a.Outcome == ChallengeGiven:
			d.challenged(op, a)
		case op.Kind == OpVerify && a.Outcome == Approved:
			d.verified(a)
		case a.Outcome == Refused:
			d.stopped(op, a)
		default: // nothing is known, and nothing is at stake
			a.Outcome = Unknown
			d.close(a)
			d.Payment.LastRefusal = Unavailable
			if op.Kind == OpChallenge && !op.Resend {
				d.tryAgain(Unavailable)
			}
		}
		return d.Change
	}
	switch a.Outcome {
	case ChallengeGiven:
		d.atBank(op, a)
	case Approved:
		d.done(op, a)
	case Refused:
		d.undone(op, a)
	case NeverSeen:
		proven := p.Attempt.Limits.shown(&op)
		switch {
		case proven && op.Kind.repeatable() && op.Asks <= 2:
			d.keep(a, now) // to be sent again at once
		case proven && !op.Kind.repeatable():
			d.close(a)
			d.tryAgain(Unavailable)
		default:
			d.keep(a, nextInquiry(&op, now))
		}
	default:
		a.Outcome = Unknown
		switch {
		case op.waitsForPayer() && d.payersTime():
			a.Outcome = ChallengeGiven // a failed inquiry takes nothing back: the payer may go on
			d.keep(a, d.nextAboutBank())
		case p.Attempt.ThreeDS && !op.Kind.repeatable() && !d.payersTime():
			d.keep(a, d.nextAboutBank())
		default:
			d.keep(a, nextInquiry(&op, now))
		}
	}
	return d.Change
}

// defaultCodeLives is how long a code is good where the centre does not say.
const defaultCodeLives = 5 * time.Minute

// challenged: a code is on its way to the payer.
func (d *draft) challenged(op Operation, a Answer) {
	d.close(a)
	attempt := d.Payment.Attempt
	lives := a.CodeLives
	if lives <= 0 {
		lives = defaultCodeLives
	}
	ends := d.now.Add(lives)
	if over := d.Payment.Terms.ExpiresAt; ends.After(over) {
		ends = over // nobody takes it later, however long the centre would
	}
	resends := 0
	if op.Resend {
		resends = attempt.Challenge.Resends
	}
	attempt.Challenge = &Challenge{
		VerifyID: op.VerifyID, CentreID: clean(a.CentreID), Phone: clean(a.Phone), Resends: resends,
		SentAt: d.now, ExpiresAt: ends,
	}
	attempt.Centre.merge(a.Centre)
	d.Payment.LastRefusal = ""
	d.move(Challenged)
}

// payerEvery is how often the centre is asked about a payer at his bank, who may never come back.
const payerEvery = 30 * time.Second

// payersTime reports that the payer may still be at his bank.
func (d *draft) payersTime() bool { return !d.now.After(d.Payment.Terms.ExpiresAt.Add(payerEvery)) }

// nextAboutBank is when to ask next about an operation that the payer ends at his bank. When his time is over the centre
// ought to say soon how it ended; one that never does leaves it to a person.
func (d *draft) nextAboutBank() time.Time {
	if d.payersTime() {
		return d.now.Add(payerEvery)
	}
	return inquiryAfter(d.Payment.Terms.ExpiresAt, d.now)
}

// atBank: the operation has begun at the centre, and its end is the payer's to bring about.
func (d *draft) atBank(op Operation, a Answer) {
	p := &d.Payment
	if op.Kind != OpHold && op.Kind != OpCharge {
		a.Outcome = Unknown
		d.keep(a, nextInquiry(&op, d.now))
		return
	}
	next := d.nextAboutBank()
	if next.IsZero() {
		a.Outcome = Unknown
	}
	d.keep(a, next)
	p.Attempt.Centre.merge(a.Centre)
	p.HoldDeadline = time.Time{} // he may take his time: the hold's begins when he is done
	if a.Step != "" {
		p.Attempt.Challenge = &Challenge{
			VerifyID: op.VerifyID, CentreID: clean(a.CentreID), Step: a.Step, URL: clean(a.URL), Data: clean(a.Data),
			SentAt: d.now, ExpiresAt: p.Terms.ExpiresAt,
		}
		p.LastRefusal = ""
		d.move(Challenged)
	}
}

// verified: the code was right, so the money itself is asked for. The ttl is looked at here once
// more, since here that question is planned.
func (d *draft) verified(a Answer) {
	p := &d.Payment
	d.close(a)
	p.Attempt.Centre.merge(a.Centre)
	p.LastRefusal = ""
	if !d.now.Before(p.Terms.ExpiresAt) {
		d.move(Expired)
		return
	}
	d.startHold()
	d.ask(moneyKind(p), p.Terms.Amount)
}

// stopped: the centre refused a card or a code before any money was asked for.
func (d *draft) stopped(op Operation, a Answer) {
	p := &d.Payment
	d.close(a)
	p.LastRefusal = a.Reason
	switch {
	case op.Kind == OpVerify && a.Reason == WrongCode:
		if p.WrongCodes++; p.WrongCodes >= MaxWrongCodes {
			d.move(Declined)
		}
	case op.Kind == OpVerify && a.Reason == CodeExpired:
		p.Attempt.Challenge.ExpiresAt = d.now
	case a.Reason == Unavailable || a.Reason == Misconfigured:
		// Not the card's fault: it costs the payer no attempt. A code may still be good.
		if op.Kind == OpChallenge && !op.Resend {
			p.Attempts--
		}
	case op.Resend:
		// The earlier code may still be good.
	default:
		d.tryAgain(a.Reason)
	}
}

// tryAgain leaves the payment open for another card, unless the attempts are used up.
func (d *draft) tryAgain(why Reason) {
	p := &d.Payment
	p.LastRefusal = why
	p.HoldDeadline = time.Time{}
	if p.Attempts >= MaxAttempts {
		d.move(Declined)
		return
	}
	d.move(Created)
}

// done: the centre moved the money.
func (d *draft) done(op Operation, a Answer) {
	p := &d.Payment
	d.close(a)
	p.Attempt.Centre.merge(a.Centre)
	p.LastRefusal = ""
	d.Claim = a.Claim
	switch op.Kind {
	case OpHold:
		d.startHold()
		d.hold(op.Ref, op.Amount)
		d.move(Held)
	case OpCharge:
		d.hold(op.Ref, p.Terms.Amount)
		d.capture(op.Ref, op.Amount)
		d.release(op.Ref) // nothing, but of a hold that was captured in part before a restore
		d.move(Captured)
	case OpCapture:
		d.capture(op.Ref, op.Amount)
		d.release(op.Ref)
		d.move(Captured)
	case OpVoid:
		d.release(op.Ref)
		d.move(Voided)
	case OpRefund:
		d.refund(op.Ref, op.Amount)
		d.mark(op, RefundDone, "")
		d.tell()
	}
}

// mark notes what became of the refund that an operation was for.
func (d *draft) mark(op Operation, state RefundState, why Reason) {
	for i := range d.Payment.Refunds {
		if r := &d.Payment.Refunds[i]; r.Operation == op.N {
			r.State, r.Reason = state, why
		}
	}
}

// undone: the centre says for certain that it did not move the money.
func (d *draft) undone(op Operation, a Answer) {
	switch {
	case !op.Kind.repeatable():
		d.close(a)
		d.tryAgain(a.Reason)
	case op.Kind == OpRefund && a.Reason != Unavailable:
		d.close(a)
		d.mark(op, RefundRefused, a.Reason)
	case a.Reason == HoldGone:
		// The centre no longer has the hold, so the payer has his money back, whatever was decided.
		d.close(a)
		d.release(op.Ref)
		d.move(Voided)
	default:
		// The decision stands and the money is still set aside: it is tried again until it works,
		// and shown to a person meanwhile. So is a refund that could not be asked for, or that the centre
		// was not there to do: nobody has said no to it, and its sum stays reserved. Where it is a person who
		// says so, it is tried at once.
		next := nextInquiry(&op, d.now)
		if a.Resolution != nil {
			next = d.now
		}
		d.keep(a, next)
	}
}
