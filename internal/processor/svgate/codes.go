package svgate

import "holdfast/internal/payment"

// verdict is what an error code or a response code proves: Unknown, or Refused with our reason.
type verdict struct {
	outcome payment.Outcome
	reason  payment.Reason
}

func refusedFor(reason payment.Reason) verdict { return verdict{payment.Refused, reason} }

// doubt: whether it was done can only be asked.
var doubt = verdict{outcome: payment.Unknown}

// codeRange is a run of error codes that mean the same, both ends included.
type codeRange struct {
	from, to int64 // from <= to
	verdict
}

// codes is every JSON-RPC error code that the connector tells apart (docs/processors.md §1.5; the words
// beside them are the centre's own). It says what the answer to a request proves; an answer to a
// question what became of something proves nothing about that (see queried). The classes are the
// document's; where a class could be read in two ways, it is Unknown.
var codes = []codeRange{
	// Whether it was done is not known: ask trans.ext later.
	{-302, -301, doubt},
	{-311, -308, doubt},
	{-102, -101, doubt}, // "error while executing the request"
	{-211, -211, doubt}, // the server does not answer
	{-281, -281, doubt}, // "error while executing the request"
	{-307, -307, doubt}, // the switch timed out

	// Out of service before anything was done.
	{-300, -300, refusedFor(payment.Unavailable)},
	{-306, -303, refusedFor(payment.Unavailable)},
	{-244, -244, refusedFor(payment.Unavailable)}, // this bank is unavailable
	{-292, -292, refusedFor(payment.Unavailable)}, // the SMS was not sent
	{-357, -350, refusedFor(payment.Unavailable)}, // wallet-card service
	{-604, -400, refusedFor(payment.Unavailable)},

	// One-time code. A request for a code that the centre no longer knows is one that has run out.
	{-269, -269, refusedFor(payment.WrongCode)},
	{-270, -270, refusedFor(payment.CodeExpired)},
	{-294, -294, refusedFor(payment.CodeExpired)},
	{-299, -299, refusedFor(payment.CodeExpired)},
	{-314, -314, refusedFor(payment.CodeExpired)},
	{-317, -317, refusedFor(payment.CodeExpired)},

	// Funds.
	{-240, -239, refusedFor(payment.InsufficientFunds)},
	{-260, -260, refusedFor(payment.InsufficientFunds)},
	{-245, -245, refusedFor(payment.CardLimit)},
	{-262, -262, refusedFor(payment.CardLimit)},
	{-381, -381, refusedFor(payment.CardLimit)}, // above the sum it refers to

	// Hold. "Hold not found" is what a second capture or void is told too, after a first one whose
	// answer was lost: it proves that nothing is held, not what became of it.
	{-241, -241, refusedFor(payment.Misconfigured)}, // wrong period
	{-242, -242, doubt},

	// Card.
	{-200, -200, refusedFor(payment.CardUnknown)},
	{-201, -201, refusedFor(payment.CardExpired)},
	{-202, -202, refusedFor(payment.CardUnknown)},
	{-203, -203, refusedFor(payment.CardRefused)}, // not reissued
	{-205, -204, refusedFor(payment.CardBlocked)},
	{-206, -206, refusedFor(payment.NoSMS)},
	{-212, -212, refusedFor(payment.CardUnknown)}, // number or expiry
	{-216, -216, refusedFor(payment.WrongExpiry)},
	{-258, -258, refusedFor(payment.CardRefused)}, // corporate
	{-261, -261, refusedFor(payment.CardBlocked)}, // blocked by SVGate for a time
	{-289, -289, refusedFor(payment.CardRefused)},
	{-333, -333, refusedFor(payment.Fraud)},
	{-382, -382, refusedFor(payment.CardUnknown)}, // no such BIN
	{-383, -383, refusedFor(payment.CardRefused)}, // this issuer is not allowed

	// The phone at the bank: no code can reach the payer.
	{-215, -215, refusedFor(payment.NoSMS)},
	{-217, -217, refusedFor(payment.NoSMS)},
	{-224, -224, refusedFor(payment.NoSMS)},
	{-277, -277, refusedFor(payment.NoSMS)},
	{-290, -290, refusedFor(payment.NoSMS)},
	{-297, -297, refusedFor(payment.NoSMS)},
	{-320, -320, refusedFor(payment.NoSMS)},

	// Our configuration at the centre.
	{-100, -100, refusedFor(payment.Misconfigured)}, // empty parameters
	{-103, -103, refusedFor(payment.Misconfigured)}, // required fields
	{-199, -199, refusedFor(payment.Misconfigured)}, // JSON-RPC error
	{-236, -236, refusedFor(payment.Misconfigured)}, // terminal
	{-237, -237, refusedFor(payment.Misconfigured)}, // merchant
	{-247, -246, refusedFor(payment.Misconfigured)},
	{-256, -249, refusedFor(payment.Misconfigured)},
	{-268, -268, refusedFor(payment.Misconfigured)},
	{-286, -286, refusedFor(payment.Misconfigured)},
	{-298, -298, refusedFor(payment.Misconfigured)},
	{-316, -316, refusedFor(payment.Misconfigured)},
	{-319, -318, refusedFor(payment.Misconfigured)},
	{-330, -329, refusedFor(payment.Misconfigured)}, // date12, stan
	{-375, -374, refusedFor(payment.Misconfigured)},
	{-384, -384, refusedFor(payment.Misconfigured)}, // missing fields

	// Done before, or gone: the operation behind it has to be looked at.
	{codeDuplicate, codeDuplicate, doubt}, // our ext exists
	{codeNotFound, codeNotFound, doubt},
	{codeNotInSwitch, codeNotInSwitch, doubt},
	{-282, -282, doubt}, // not found, or cancelled
	{-380, -380, doubt}, // successful: reverse it
	{-389, -389, doubt}, // repeated reversal
}

// The codes that the connector acts on by name.
const (
	codeDuplicate    = -207 // a transaction with this ext exists
	codeNotFound     = -208 // transaction not found
	codeHoldNotFound = -242
	codeNotInSwitch  = -267 // transaction not found in SmartVista
)

// refundCodes is what the codes that speak of an earlier transaction prove about a reversal that was sent
// once: it was not made.
var refundCodes = map[int64]payment.Reason{
	codeNotFound:    payment.Misconfigured, // what shall be given back is not known there
	codeNotInSwitch: payment.Misconfigured,
	-381:            payment.RefundAmount,
	-389:            payment.NothingToRefund, // all of it was given back
}

// judgeCode says what an error code proves about the request it answers. A code nobody has told us
// of proves nothing where money moves; elsewhere it is a refusal.
func judgeCode(code int64, kind payment.Kind) verdict {
	if reason, ok := refundCodes[code]; ok && kind == payment.OpRefund {
		return refusedFor(reason)
	}
	for i := range codes {
		if r := &codes[i]; r.from <= code && code <= r.to {
			return r.verdict
		}
	}
	if kind.MovesMoney() {
		return doubt
	}
	return refusedFor(payment.CardRefused)
}

// responses is the bank's word within a transaction that did not go through (field resp, ISO 8583
// DE 39, docs/processors.md §3.2). What is not here, above all a switch or issuer that did not answer
// (19, 68, 91, 92, 94, 96), leaves doubt.
var responses = map[int64]payment.Reason{
	1: payment.CardRefused, 2: payment.CardRefused, // call the issuer
	3: payment.Misconfigured, 58: payment.Misconfigured, // merchant, terminal
	4: payment.CardBlocked, 7: payment.CardBlocked, 41: payment.CardBlocked, 43: payment.CardBlocked, // pick up
	5:  payment.CardRefused,
	12: payment.Misconfigured, 13: payment.Misconfigured, 30: payment.Misconfigured, // transaction, amount, format
	14: payment.CardUnknown, 15: payment.CardUnknown,
	33: payment.CardExpired, 54: payment.CardExpired,
	34: payment.Fraud, 59: payment.Fraud, 63: payment.Fraud,
	51: payment.InsufficientFunds,
	57: payment.CardRefused, 62: payment.CardRefused, // not permitted
	61: payment.CardLimit, 65: payment.CardLimit,
	75: payment.CardBlocked, // PIN tries exceeded
}

func judgeResponse(resp int64) verdict {
	if reason, ok := responses[resp]; ok {
		return refusedFor(reason)
	}
	return doubt
}

// cardStatuses is why a card with a status other than 0 may not pay (docs/processors.md §1.2). One that is not here is refused
// without a better reason.
var cardStatuses = map[int64]payment.Reason{
	2: payment.CardBlocked,                         // warm card
	6: payment.CardBlocked, 7: payment.CardBlocked, // lost, stolen
	8:  payment.CardBlocked,                                                   // call security
	9:  payment.CardUnknown,                                                   // invalid
	10: payment.CardBlocked,                                                   // pick up
	11: payment.CardBlocked,                                                   // call acquirer security
	12: payment.CardBlocked, 20: payment.CardBlocked, 21: payment.CardBlocked, // blocked by the holder
	13: payment.CardBlocked, 14: payment.CardBlocked, // PIN tries, forced PIN change
	17: payment.CardBlocked, 18: payment.CardBlocked, // not activated, not personalised
	19: payment.Fraud,
}

func judgeCard(status int64) payment.Reason {
	if reason, ok := cardStatuses[status]; ok {
		return reason
	}
	return payment.CardRefused
}
