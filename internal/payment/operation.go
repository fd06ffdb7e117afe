package payment

import (
	"strconv"
	"strings"
	"time"

	"holdfast/internal/money"
)

// Kind says what a processing centre is asked to do.
type Kind string

// The kinds of operation. Challenge and Verify move no money at a centre that sends codes; all
// others do, and their answer is never guessed.
const (
	OpChallenge Kind = "challenge" // send the payer a code
	OpVerify    Kind = "verify"    // check the code; gives the card's token
	OpHold      Kind = "hold"      // set money aside
	OpCharge    Kind = "charge"    // take money in one stage
	OpCapture   Kind = "capture"   // take what is set aside, or part of it; the rest goes back
	OpVoid      Kind = "void"      // let go of what is set aside
	OpRefund    Kind = "refund"    // give back what was taken, or part of it
)

// allKinds is every kind, in the order of their names.
var allKinds = []Kind{OpCapture, OpChallenge, OpCharge, OpHold, OpRefund, OpVerify, OpVoid}

// MovesMoney reports whether a lost answer leaves money in doubt.
func (k Kind) MovesMoney() bool { return k != OpChallenge && k != OpVerify }

// repeatable reports whether the operation can be sent again without the payer: what it needs
// is stored, and the centre's own record says whether it was done.
func (k Kind) repeatable() bool { return k == OpCapture || k == OpVoid || k == OpRefund }

// Ask is what is asked about an operation.
type Ask string

// What may be asked: to do it, to go on with it, or what became of it.
const (
	Send     Ask = "send"
	Query    Ask = "query"
	Continue Ask = "continue" // go on with it: the payer came back from his bank (3-D Secure)
)

// Operation is one thing a processing centre is asked to do. While its answer is not known it is
// Payment.Open; afterwards it is a row of the payment's record.
type Operation struct {
	N       int          `json:"n"`   // 1, 2, 3 … within the payment
	Ref     string       `json:"ref"` // our reference at the centre, unique over all payments
	Kind    Kind         `json:"kind"`
	Amount  money.Amount `json:"amount"`
	BegunAt time.Time    `json:"begun_at"`

	Ask     Ask       `json:"ask"`              // what was asked last
	SentAt  time.Time `json:"sent_at"`          // when it was last asked to be done
	AskedAt time.Time `json:"asked_at"`         // when anything was last asked
	Asks    int       `json:"asks"`             // questions asked so far
	NextAt  time.Time `json:"next_at,omitzero"` // when to ask next; zero: a person must look

	VerifyID int64 `json:"verify_id,omitzero"` // OpChallenge: the name of the verification it starts
	Resend   bool  `json:"resend,omitzero"`    // OpChallenge: a further code for the same attempt

	// Look: this store never sent it, or does not know that it did; it is only asked about (see Adopt).
	Look bool `json:"look,omitzero"`

	// What is known of the answer. Outcome is empty while nothing is.
	Outcome    Outcome   `json:"outcome,omitzero"`
	Reason     Reason    `json:"reason,omitzero"`
	Cause      string    `json:"cause,omitzero"`       // the centre's own words, for the log and for people
	AnsweredAt time.Time `json:"answered_at,omitzero"` // zero: it has not been answered since it was asked last
	Centre     Centre    `json:"centre,omitzero"`

	// Resolutions are what persons said of it while it was in doubt, in the order in which they did.
	Resolutions []Resolution `json:"resolutions,omitempty"`
}

// Limits is how far the word of a payment's processing centre goes, as its connector declares it.
// It is kept with the attempt, so that a restart under other settings reads a question as it was asked.
type Limits struct {
	// AnswerMillis bounds one call, in milliseconds: nobody asks again before it has passed.
	AnswerMillis int64 `json:"answer_ms"`
	// ShownMillis is how long after sending an operation the centre may take to show it, in
	// milliseconds: "not found" proves nothing before. A kind is absent where the centre refuses a
	// second use of our reference, so that sending again is safe at any time.
	ShownMillis map[Kind]int64 `json:"shown_ms,omitempty"`
	// RememberedMillis is how long after sending an operation the centre knows it, in milliseconds: "not
	// found" proves nothing afterwards. 0: for ever.
	RememberedMillis int64 `json:"remembered_ms,omitzero"`
	// WholeCapture: a hold is captured whole or not at all.
	WholeCapture bool `json:"whole_capture,omitzero"`
	// HoldUnnamed: a hold bears no reference of ours, and is found by what else is known of it only.
	HoldUnnamed bool `json:"hold_unnamed,omitzero"`
}

func (l Limits) answer() time.Duration { return time.Duration(l.AnswerMillis) * time.Millisecond }

// shown reports whether op was sent long enough before it was asked about for "not found" to be the
// truth, and not so long that the centre may have forgotten it. When the answer came, or is looked at, does
// not matter.
func (l Limits) shown(op *Operation) bool {
	window := time.Duration(l.ShownMillis[op.Kind]) * time.Millisecond
	if !op.Kind.repeatable() || op.Look {
		// It is given up for good on this word, so the call itself must be over too, whoever made it.
		window = max(window, l.answer())
	}
	age, remembered := op.AskedAt.Sub(op.SentAt), time.Duration(l.RememberedMillis)*time.Millisecond
	return age >= window && (remembered == 0 || age <= remembered)
}

// Outcome is what a processing centre said.
type Outcome string

// The outcomes. Only Approved and Refused move a payment; Unknown is never guessed into Refused.
const (
	Approved       Outcome = "approved"
	ChallengeGiven Outcome = "challenged" // the payer must act first
	Refused        Outcome = "refused"
	Unknown        Outcome = "unknown"
	NeverSeen      Outcome = "never_seen" // the centre says that it does not know the operation
)

// Answer is what a connector made of a centre's answer, or of its absence.
type Answer struct {
	Ref     string    // the operation it answers
	AskedAt time.Time // the question about it that it answers: Operation.AskedAt; zero: none in particular
	Outcome Outcome
	Reason  Reason       // why Refused, in our words
	Cause   string       // the centre's code and words, or the transport's error; never a secret
	Amount  money.Amount // the sum the centre says it acted on; zero where it does not say
	Centre  Centre       // what the centre calls it
	Claim   string       // see Change.Claim

	Resolution *Resolution // the person whose word this is, where it is not the centre's

	// With ChallengeGiven.
	CentreID  string        // the code request at the centre
	Phone     string        // masked
	Step      Step          // of 3-D Secure; empty on an inquiry that found the payer still at it
	URL       string        // 3-D Secure: where the payer's browser posts Data
	Data      string        // 3-D Secure: threeDSMethodData or creq
	CodeLives time.Duration // how long the code is good; 0 where the centre does not say
}

// waitsForPayer reports that the operation has begun at the centre and the payer is at his bank.
func (op *Operation) waitsForPayer() bool { return op != nil && op.Outcome == ChallengeGiven }

// overtakes reports that the operation was asked about again since the question that a answers, by another process
// while the one that asked stood still. What a says was true then, but only what was done, or is never sent again, is so for ever.
func (op *Operation) overtakes(a *Answer) bool {
	switch {
	case a.AskedAt.IsZero() || a.AskedAt.Equal(op.AskedAt):
		return false
	case a.Outcome == Refused:
		return op.Kind.repeatable()
	}
	return a.Outcome != Approved
}

// Reference is the payment's name in the form the centres are used to (seed: processingReference).
func (p *Payment) Reference() string { return p.reference(1) }

// reference is our name for the n-th operation of a payment, in the form the centres are used to
// ("1732700437604_5520", seed: processingReference): creation in epoch milliseconds, the payment's
// number, and n from the second operation on. At most 28 characters.
func (p *Payment) reference(n int) string {
	b := make([]byte, 0, 32)
	b = strconv.AppendInt(b, p.CreatedAt.UnixMilli(), 10)
	b = append(b, '_')
	b = strconv.AppendInt(b, p.Number, 10)
	if n > 1 {
		b = append(b, '_')
		b = strconv.AppendInt(b, int64(n), 10)
	}
	return string(b)
}

// NumberIn is the payment's number in one of our references. Whether the payment of that number has the reference, only the
// whole of it tells.
func NumberIn(ref string) (number int64, ok bool) {
	parts := strings.Split(ref, "_")
	if len(parts) < 2 {
		return 0, false
	}
	number, err := strconv.ParseInt(parts[1], 10, 64)
	return number, err == nil
}

// inquiries is when an operation in doubt is asked about, counted from when it was begun; after
// the last it is asked daily until patience ends, and then a person must look.
var inquiries = [...]time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour}

const (
	daily    = 24 * time.Hour
	patience = 14 * daily
)

// nextInquiry is when to ask again about an operation that now is in doubt; zero: ask a person.
func nextInquiry(op *Operation, now time.Time) time.Time { return inquiryAfter(op.BegunAt, now) }

func inquiryAfter(begun, now time.Time) time.Time {
	for _, after := range inquiries {
		if at := begun.Add(after); at.After(now) {
			return at
		}
	}
	if now.Sub(begun) > patience {
		return time.Time{}
	}
	return now.Add(daily)
}

// Next says what to ask now about an operation whose answer is missing: what became of it, or, where
// the centre has said that it did not do it, to do it again.
func Next(op Operation, limits Limits, now time.Time) Operation {
	op.Ask = Query
	undone := op.Outcome == Refused || op.Outcome == NeverSeen && limits.shown(&op)
	if undone && op.Kind.repeatable() && !op.Look {
		if op.SentAt.Before(op.BegunAt) {
			op.Asks = 0 // it was only asked about so far: a refusal of this first sending can be believed
		}
		// What was known was of the earlier sending: of this one nothing is known until it is answered.
		op.Ask, op.SentAt, op.Outcome = Send, now, Unknown
	}
	if op.Ask == Query && op.Outcome == NeverSeen {
		op.Outcome = Unknown // that was said too early to prove anything, and does not come to prove it because it is asked again
	}
	op.asked(limits, now)
	return op
}

// asked stamps a question that is about to be asked. Should the process die now, nobody asks
// again before this call can no longer be under way.
func (op *Operation) asked(limits Limits, now time.Time) {
	op.AskedAt, op.AnsweredAt = now, time.Time{}
	op.Asks++
	op.NextAt = now.Add(limits.answer() + inquiries[0])
}
