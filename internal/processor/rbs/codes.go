package rbs

import "holdfast/internal/payment"

// verdict is what an error code proves about the request it answers: Unknown, or Refused with our reason.
type verdict struct {
	outcome payment.Outcome
	reason  payment.Reason
}

// doubt: whether it was done can only be asked.
var doubt = verdict{outcome: payment.Unknown}

// The error codes of a reply that the connector tells apart. They say whether the request was taken,
// and never that a payment was made.
const (
	codeDuplicate = 1 // an order with this number exists
	codeNotFound  = 6 // no such order
)

// errorCodes are the refusals that say that nothing was done. What is not here leaves doubt, above all
// 7, which is a failed system and a wrong state at the same time.
var errorCodes = map[int64]payment.Reason{
	3:            payment.Misconfigured, // unknown currency
	4:            payment.Misconfigured, // a field is missing
	5:            payment.Misconfigured, // a field is wrong, access denied, a sum that cannot be
	codeNotFound: payment.Misconfigured,
}

func judgeCode(code int64) verdict {
	if reason, ok := errorCodes[code]; ok {
		return verdict{payment.Refused, reason}
	}
	return doubt
}

// The action codes of the gateway itself that say more than why.
const (
	actionHostTimeout = -1     // the issuer has not answered
	actionExpired     = -2007  // the payment session is over
	actionPending     = -30001 // what the issuer did is being found out
)

// actionCodes is why an order was declined (status 6): the issuer's codes as in ISO 8583:1993
// (docs/processors.md §3.2), the gateway's own below zero (dev.bpcbt.com, action codes). A declined order is
// final, so that even an issuer who did not answer has not paid it. What is not here is
// payment.CardRefused.
var actionCodes = map[int64]payment.Reason{
	101: payment.CardExpired, 201: payment.CardExpired,
	102: payment.Fraud, 202: payment.Fraud,
	106: payment.CardBlocked, 206: payment.CardBlocked, // PIN or CVC tries exceeded
	109: payment.Misconfigured, 120: payment.Misconfigured, // merchant, terminal
	110: payment.Misconfigured, 115: payment.Misconfigured, 904: payment.Misconfigured, // amount, request, format
	111: payment.CardUnknown, 118: payment.CardUnknown,
	116: payment.InsufficientFunds,
	117: payment.WrongCVC, 126: payment.WrongCVC,
	121: payment.CardLimit, 123: payment.CardLimit,
	125: payment.CardBlocked,                                                                                                         // not effective yet
	200: payment.CardBlocked, 204: payment.CardBlocked, 207: payment.CardBlocked, 208: payment.CardBlocked, 209: payment.CardBlocked, // pick up, lost, stolen

	907: payment.Unavailable, 908: payment.Unavailable, 909: payment.Unavailable, 910: payment.Unavailable,
	911: payment.Unavailable, 912: payment.Unavailable, actionHostTimeout: payment.Unavailable,

	-2000: payment.Fraud, -2001: payment.Fraud, // black lists of cards and addresses
	-2002: payment.CardLimit, -20010: payment.CardLimit,
	// 3-D Secure: the payer did not come back from his bank in time; not possible, not possible for the issuer, no
	// frictionless for this acquirer, refused.
	actionExpired: payment.AuthenticationFailed,
	-2022:         payment.AuthenticationFailed, -2023: payment.AuthenticationFailed, -2024: payment.AuthenticationFailed, -2025: payment.AuthenticationFailed,
	-2200: payment.Unavailable, // no cryptogram
}

func judgeAction(code int64) payment.Reason {
	if reason, ok := actionCodes[code]; ok {
		return reason
	}
	return payment.CardRefused
}
