package payment

import "fmt"

// State is what is known for certain of a payment.
type State uint8

// The states. Captured, Voided, Declined and Expired are terminal: a refund leaves Captured.
const (
	Created    State = iota + 1 // waits for a card
	Challenged                  // waits for the payer: a code was sent, or 3-D Secure began
	Held                        // money is set aside and waits for the merchant's decision
	Captured                    // money is taken
	Voided                      // the hold was let go, or the merchant cancelled before there was one
	Declined                    // the payer's tries are used up
	Expired                     // nobody paid within the ttl
)

var stateNames = [...]string{"", "created", "challenged", "held", "captured", "voided", "declined", "expired"}

// String is the state's name in the store, the log and the timeline.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// Terminal reports whether the payment can no longer change its state.
func (s State) Terminal() bool { return s >= Captured }

// follows says which states may come after a state; a state may always stay as it is.
var follows = map[State][]State{
	Created:    {Challenged, Held, Captured, Voided, Declined, Expired},
	Challenged: {Created, Held, Captured, Voided, Declined, Expired},
	Held:       {Captured, Voided},
}

// Status is a payment's state in the words of the merchant API (contract §9: exactly these five).
type Status string

// The statuses on the wire.
const (
	StatusCreated           Status = "created"
	StatusWaitUserAction    Status = "wait_user_action"
	StatusWaitingForCapture Status = "waiting_for_capture"
	StatusSucceeded         Status = "succeeded"
	StatusCanceled          Status = "canceled"
)

// Status is what the merchant is told. Once a payer was challenged the payment stays
// wait_user_action until it is paid or cancelled, also while it waits for another card.
func (p *Payment) Status() Status {
	switch p.State {
	case Created:
		if p.Tried {
			return StatusWaitUserAction
		}
		return StatusCreated
	case Challenged:
		return StatusWaitUserAction
	case Held:
		return StatusWaitingForCapture
	case Captured:
		return StatusSucceeded
	default:
		return StatusCanceled
	}
}

// ParseState reads what State.String wrote.
func ParseState(name string) (State, error) {
	for s := Created; s <= Expired; s++ {
		if stateNames[s] == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("unknown payment state %q", name)
}
