package payment

// Reason says why something was refused, by a centre or by us. The merchant API turns each into
// a code and a message; the payer's page into a sentence in his language.
type Reason string

// Refused by the processing centre or the card's bank.
const (
	CardRefused          Reason = "card_refused" // no better reason was given
	InsufficientFunds    Reason = "insufficient_funds"
	CardExpired          Reason = "card_expired"
	CardBlocked          Reason = "card_blocked"
	CardUnknown          Reason = "card_unknown"
	NoSMS                Reason = "no_sms"
	WrongExpiry          Reason = "wrong_expiry"
	WrongCVC             Reason = "wrong_cvc"
	CardLimit            Reason = "card_limit"
	Fraud                Reason = "fraud"
	WrongCode            Reason = "wrong_code"
	CodeExpired          Reason = "code_expired"
	Unavailable          Reason = "unavailable" // the centre or the bank is out of service and did nothing
	AuthenticationFailed Reason = "authentication_failed"
	HoldGone             Reason = "hold_gone"     // the centre no longer has the hold
	Misconfigured        Reason = "misconfigured" // our merchant, terminal or credentials at the centre
	Unsupported          Reason = "unsupported"   // the centre cannot do this at all
)

// Refused by us.
const (
	InDoubt            Reason = "in_doubt"             // the centre has not answered; the outcome is not known yet
	Busy               Reason = "busy"                 // another operation of this payment is under way
	UnderWay           Reason = "under_way"            // the same was asked before and its answer is awaited
	AlreadyPaid        Reason = "already_paid"         // held or captured: no further card
	AlreadyCaptured    Reason = "already_captured"     // one-stage: a refund is the way
	Finished           Reason = "finished"             // cancelled, declined or expired
	PaymentExpired     Reason = "payment_expired"      // its ttl has passed
	NotHeld            Reason = "not_held"             // nothing is set aside yet
	DecisionStands     Reason = "decision_stands"      // a different decision came first
	DeadlinePassed     Reason = "deadline_passed"      // the hold's time is over
	AmountAboveHold    Reason = "amount_above_hold"    // more than was set aside
	AttemptsUsedUp     Reason = "attempts_used_up"     // of cards or codes
	TooManyWrongCodes  Reason = "too_many_wrong_codes" // for the card, over all payments
	TooManyCodes       Reason = "too_many_codes"       // were sent for the card, over all payments
	ResendsUsedUp      Reason = "resends_used_up"      // of further codes
	MethodNotAllowed   Reason = "method_not_allowed"   // not among the payment's methods, or no centre takes it
	CurrencyNotAllowed Reason = "currency_not_allowed" // no centre takes the method in the payment's currency
	NotLive            Reason = "not_live"             // the shop may take no real payments now
	NotCaptured        Reason = "not_captured"         // no money was taken
	NothingToRefund    Reason = "nothing_to_refund"    // all of it went back
	RefundAmount       Reason = "refund_amount"        // more than can be given back, or outside the shop's limits
	NoChallenge        Reason = "no_challenge"         // no code is awaited
)

// Error is a command refused: nothing was changed.
type Error struct {
	Reason   Reason
	Detail   string    // a sentence for the developer; may be empty
	Decision *Decision // the one that stands, with DecisionStands and AlreadyCaptured
}

func (e *Error) Error() string {
	if e.Detail != "" {
		return string(e.Reason) + ": " + e.Detail
	}
	return string(e.Reason)
}

func refuse(r Reason) error { return &Error{Reason: r} }
