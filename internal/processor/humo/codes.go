package humo

import "holdfast/internal/payment"

// verdict is what an action code proves: Unknown, or Refused with our reason.
type verdict struct {
	outcome payment.Outcome
	reason  payment.Reason
	// idle is the reason where no money moves and the code says that nothing was done: nobody was there
	// to do it. Empty: unknown there too.
	idle payment.Reason
}

func refusedFor(reason payment.Reason) verdict {
	return verdict{outcome: payment.Refused, reason: reason}
}

var (
	// doubt: whether it was done can only be asked.
	doubt = verdict{outcome: payment.Unknown}
	// absent: whoever should have done it was not there. With money that is doubt all the same: a
	// switch says so, and may be mistaken about what reached the bank.
	absent = verdict{outcome: payment.Unknown, idle: payment.Unavailable}
)

// actions is every action code (ISO 8583:1993) that the connector tells apart (docs/processors.md §2.3 and
// §3.2). It says what a Fault proves about the request it answers, and why a card with that status may
// not pay. Where the documents can be read in two ways, it is Unknown.
var actions = map[int]verdict{
	100: refusedFor(payment.CardRefused), // do not honour
	101: refusedFor(payment.CardExpired),
	102: refusedFor(payment.Fraud),
	103: refusedFor(payment.CardRefused), // call acquirer
	104: refusedFor(payment.CardRefused), // restricted
	106: refusedFor(payment.CardBlocked), // PIN tries
	107: refusedFor(payment.CardRefused), // call issuer
	108: refusedFor(payment.CardRefused), // call issuer, special conditions
	109: refusedFor(payment.Misconfigured),
	110: refusedFor(payment.Misconfigured), // amount
	111: refusedFor(payment.CardUnknown),
	115: refusedFor(payment.Misconfigured), // function not supported
	116: refusedFor(payment.InsufficientFunds),
	117: refusedFor(payment.CardRefused), // wrong PIN: we send none
	118: refusedFor(payment.CardUnknown),
	119: refusedFor(payment.CardRefused),   // not permitted to cardholder
	120: refusedFor(payment.Misconfigured), // not permitted to terminal
	121: refusedFor(payment.CardLimit),
	123: refusedFor(payment.CardLimit),
	125: refusedFor(payment.CardBlocked), // not effective yet
	126: refusedFor(payment.CardRefused), // wrong card verification value: we send none

	// Pick up.
	200: refusedFor(payment.CardBlocked),
	201: refusedFor(payment.CardExpired),
	202: refusedFor(payment.Fraud),
	204: refusedFor(payment.CardBlocked), // restricted
	206: refusedFor(payment.CardBlocked), // PIN tries
	207: refusedFor(payment.CardBlocked), // special conditions
	208: refusedFor(payment.CardBlocked), // lost
	209: refusedFor(payment.CardBlocked), // stolen
	280: refusedFor(payment.CardBlocked), // by the bank
	281: refusedFor(payment.CardBlocked), // by the holder

	// Reconciliation: no answer to anything we ask.
	500: doubt, 501: doubt, 502: doubt, 503: doubt, 504: doubt, 915: doubt,

	// The system. 902 is what a confirmation is told after a cancellation, and the reverse: it may be
	// the second of two requests, so how the payment stands has to be asked.
	902: doubt,
	904: refusedFor(payment.Misconfigured), // format
	907: absent,                            // issuer or switch inoperative
	908: doubt,                             // no such destination
	909: doubt,                             // system malfunction
	910: absent,                            // issuer signed off
	911: doubt,                             // issuer timed out
	912: absent,                            // issuer unavailable
	913: doubt,                             // duplicate: the first one has to be looked at
	914: doubt,                             // original not found
	916: refusedFor(payment.Misconfigured), // MAC
}

// codeNotTraced is GetPayment's word for a payment that is not there.
const codeNotTraced = 914

// codes are the middleware's own, about one-time codes. No public client has them: they are those of the
// simulator, to be confirmed with the bank. A code that can no longer be used is one that has run out.
var codes = map[int]payment.Reason{
	601: payment.WrongCode,
	602: payment.CodeExpired,
	603: payment.CodeExpired, // used
	604: payment.CodeExpired, // not known
	605: payment.CodeExpired, // too many tries
	606: payment.NoSMS,
	607: payment.Unavailable, // the SMS could not be sent
}

// judge says what a code proves about the request it answers. A code nobody has told us of proves
// nothing where money moves; elsewhere it is a refusal.
func judge(code int, kind payment.Kind) verdict {
	v, known := actions[code]
	switch {
	case kind.MovesMoney() && known:
		return v
	case kind.MovesMoney():
		return doubt
	case v.idle != "":
		return refusedFor(v.idle)
	case known:
		return v
	}
	if reason, ok := codes[code]; ok {
		return refusedFor(reason)
	}
	return refusedFor(payment.CardRefused)
}

// judgeCard is why a card with an action code as its status may not pay; empty if it may.
func judgeCard(code int) payment.Reason {
	if code == 0 {
		return ""
	}
	if v := actions[code]; v.outcome == payment.Refused {
		return v.reason
	}
	return payment.CardRefused
}

// accepted reports whether an action code is an approval.
func accepted(text string) bool { return text == "000" || text == "001" }
