package holdfast

// Code is the error number of an answer. 0 is success, numbers below 100 and
// 403 are the documented ones, numbers from 100 are Holdfast's own.
// Source: contract §8.
type Code int

// The documented codes. [Codes] tells what each means and what to do next.
const (
	CodeOK            Code = 0
	CodeDataFormat    Code = 1
	CodeWrongSecret   Code = 2
	CodeBasketTotal   Code = 3
	CodeInternal      Code = 4
	CodeNotLive       Code = 5
	CodeCurrency      Code = 6
	CodePaymentMethod Code = 7
	CodeSupplierShop  Code = 8
	CodeNoNotifyURL   Code = 9
	CodeStatusFixed   Code = 10
	CodeNotFound      Code = 11
	CodeTspRequired   Code = 13
	CodeResendsUsedUp Code = 17
	CodeRefundAmount  Code = 22
	CodeFiscalUnknown Code = 403
)

// Holdfast's own codes.
const (
	CodeCardRefused     Code = 100
	CodeNoFunds         Code = 101
	CodeCardExpired     Code = 102
	CodeCardBlocked     Code = 103
	CodeCardNumber      Code = 104
	CodeNoSMSService    Code = 105
	CodeWrongCode       Code = 106
	CodeCodeExpired     Code = 107
	CodeAttemptsUsedUp  Code = 108
	CodeOutcomeUnknown  Code = 109
	CodePaymentExpired  Code = 110
	CodePaymentFinished Code = 111
	CodeBusy            Code = 112
	CodeUnavailable     Code = 113
	CodeCardLimit       Code = 114
	CodeFraud           Code = 115
	CodeExpiry          Code = 116
	CodeCVC             Code = 117
	CodeEmailRequired   Code = 118
	CodeNotSupported    Code = 119
	CodeAmountRange     Code = 120
	CodeAuthentication  Code = 121
	CodeRefundLocked    Code = 122
	CodeNothingToRefund Code = 123
	CodeTooManyRequests Code = 124
	CodeStarting        Code = 125
)

// CodeInfo explains a code.
type CodeInfo struct {
	Code    Code
	Name    string // a stable word for logs, metrics and the documentation
	Message string // the errMessage a developer sees, in English
	Next    string // what to do next, one sentence without a full stop
}

// Codes lists every code that an answer may carry, ascending. It is the one
// table: answers, the client's errors and the documentation are made from it.
// The caller owns the slice.
func Codes() []CodeInfo { return append([]CodeInfo(nil), codes...) }

// Info explains the code. For a code that is not in the table, Name and
// Message are general and Code is c.
func (c Code) Info() CodeInfo {
	for _, info := range codes {
		if info.Code == c {
			return info
		}
	}
	return CodeInfo{Code: c, Name: "unknown_code", Message: "Unknown error", Next: "see apiMessageForDevelopers, or ask the gateway's operator with the time of the call"}
}

var codes = []CodeInfo{
	{CodeOK, "ok", "", "nothing: the call succeeded"},
	{CodeDataFormat, "data_format", "Wrong data format", "correct the field that the message names and send the request again"},
	{CodeWrongSecret, "wrong_secret", "Wrong secret", "check octo_shop_id and octo_secret against what the gateway's operator gave you; both belong to one shop"},
	{CodeBasketTotal, "basket_total", "The basket does not add up to total_sum", "make the sum of count times price equal to total_sum"},
	{CodeInternal, "internal", "Internal error", "ask for the payment's status before repeating; if it stays, report the request id to the gateway's operator"},
	{CodeNotLive, "not_live", "The shop may not take real payments", "send test: true, or have the shop switched to live"},
	{CodeCurrency, "currency", "The currency is not allowed for the shop", "use a currency that the shop has contracted"},
	{CodePaymentMethod, "payment_method", "The payment method is unknown or not allowed", "use bank_card, uzcard or humo, as far as the shop has contracted them and the payment allows them"},
	{CodeSupplierShop, "supplier_shop", "Wrong supplier_shop_id", "check the supplier_shop_id of the basket"},
	{CodeNoNotifyURL, "no_notify_url", "auto_capture is false and there is no notify_url", "send notify_url, or have the gateway's operator set one for the shop (holdfast shop set --notify-url)"},
	{CodeStatusFixed, "status_fixed", "The status could not be changed", "read in the message why; only money that is held can be captured or canceled, and captured money goes back by refund"},
	{CodeNotFound, "not_found", "The payment was not found", "check the id; a payment is visible only to the shop that prepared it"},
	{CodeTspRequired, "tsp_required", "tsp_id is required", "send the tsp_id of the point of sale"},
	{CodeResendsUsedUp, "resends_used_up", "Maximum number of SMS resend attempts", "use the last code that was sent, or prepare a new payment"},
	{CodeRefundAmount, "refund_amount", "Wrong amount to refund", "refund at least the smallest sum allowed and at most what is captured and not yet refunded"},
	{CodeCardRefused, "card_refused", "The bank refused the card", "let the payer call the bank or use another card"},
	{CodeNoFunds, "insufficient_funds", "There is not enough money on the card", "let the payer top up or use another card"},
	{CodeCardExpired, "card_expired", "The card has expired", "let the payer use another card"},
	{CodeCardBlocked, "card_blocked", "The card is blocked or not active", "let the payer call the bank or use another card"},
	{CodeCardNumber, "card_number", "The card number is wrong", "let the payer check the number and the method; the payment is still open"},
	{CodeNoSMSService, "no_sms_service", "The card has no SMS service", "let the payer switch SMS on at the bank or use another card"},
	{CodeWrongCode, "wrong_code", "The code is wrong", "let the payer enter the code again; the third wrong code cancels the payment"},
	{CodeCodeExpired, "code_expired", "The code has expired", "send a new code with check_pan"},
	{CodeAttemptsUsedUp, "attempts_used_up", "The attempts are used up", "prepare a new payment"},
	{CodeOutcomeUnknown, "outcome_unknown", "The outcome is still unknown: the bank has not answered yet", "ask again with the status form of prepare_payment, and neither deliver nor repeat the payment before it answers"},
	{CodePaymentExpired, "payment_expired", "The payment has expired", "prepare a new payment"},
	{CodePaymentFinished, "payment_finished", "The payment is already finished", "ask for its status; a payment that is held, paid or canceled takes no further card"},
	{CodeBusy, "busy", "Another operation on this payment is under way", "ask for the status in a few seconds, then repeat if it is still needed"},
	{CodeUnavailable, "unavailable", "The issuer or the card network is unavailable", "try again in a few minutes or let the payer use another card"},
	{CodeCardLimit, "card_limit", "The card's amount limit is exceeded", "let the payer raise the limit at the bank or use another card"},
	{CodeFraud, "suspected_fraud", "The payment was refused on suspicion of fraud", "do not repeat it with this card; let the payer call the bank"},
	{CodeExpiry, "expiry", "The card's expiry date is wrong", "send exp as YYMM, as printed on the card; the payment is still open"},
	{CodeCVC, "cvc", "The CVC2 is wrong or missing", "send the three digits from the back of the card; they are required for bank_card"},
	{CodeEmailRequired, "email_required", "email is required", "send the payer's email, as user_data was given when the payment was prepared"},
	{CodeNotSupported, "not_supported", "The processing centre does not support this", "do without it: capture or refund the whole sum, or use another method"},
	{CodeAmountRange, "amount_range", "The amount is out of range", "send an amount within the limits that the message names"},
	{CodeAuthentication, "authentication", "The cardholder was not authenticated (3-D Secure)", "let the payer try again or use another card"},
	{CodeRefundLocked, "refund_locked", "Refunds of this payment are locked", "ask the gateway's operator to unlock it"},
	{CodeNothingToRefund, "nothing_to_refund", "There is nothing left to refund", "nothing: all captured money is refunded, or a refund in doubt still covers it"},
	{CodeTooManyRequests, "too_many_requests", "Too many requests", "wait for the time in Retry-After and send the request again"},
	{CodeStarting, "starting", "The gateway is starting or stopping", "wait for the time in Retry-After and send the request again"},
	{CodeFiscalUnknown, "fiscal_unknown", "The fiscal object is unknown", "register the item's spic for the shop, or correct it"},
}
