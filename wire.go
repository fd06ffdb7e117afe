package holdfast

import "time"

// The calls of the merchant interface, in the order in which a payment meets
// them. Each call X has an XRequest and an XResponse. Keys stand in the seed's
// order; a key that the seed always shows is always written, as null if there
// is nothing to say; a key marked omitzero may be absent.

// Status words of a payment. There are exactly these five. Source: contract §9.
const (
	StatusCreated           = "created"             // prepared; the payer has not chosen a card yet
	StatusWaitUserAction    = "wait_user_action"    // the payer must enter a code or pass 3-D Secure
	StatusWaitingForCapture = "waiting_for_capture" // the money is held; the merchant must decide
	StatusSucceeded         = "succeeded"           // the money is taken; a refund leaves it so
	StatusCanceled          = "canceled"            // nothing was taken, or the hold was given back
)

// Status words of a refund: [StatusSucceeded], [StatusCanceled], or pending
// while the bank has not answered. Source: contract §5.
const StatusPending = "pending"

// Payment methods. Source: seed, prepare_payment, payment_methods.
const (
	MethodBankCard = "bank_card" // Visa and Mastercard
	MethodUzcard   = "uzcard"
	MethodHumo     = "humo"
)

// Words of accept_status: a merchant's decision about held money. The two
// waiting words decide nothing; they stop the repeats of a notification and
// leave the decision to set_accept. The seed spells one, its sister pages the
// other; both are taken.
const (
	AcceptCapture = "capture"
	AcceptCancel  = "cancel"
	AcceptWait    = "wait_user_action"
	AcceptWaiting = "waiting_user_action"
)

// Words of cardInputType. Source: seed, pay, data.cardInputType.
const (
	CardInputMerchantSite = "merchant_site" // the card came through pay
	CardInputOctoPage     = "octo_page"     // the card was entered on the gateway's page
)

// TimeLayout is the form of times in snake_case answers, as time.Format takes
// it. They are in [Tashkent] time. camelCase entities have epoch milliseconds
// instead. Source: contract §1.
const TimeLayout = "2006-01-02 15:04:05"

// Tashkent is the time zone of the wire, UTC+5 all year.
var Tashkent = time.FixedZone("Asia/Tashkent", 5*60*60)

// FormatTime writes t as payed_time and refund_time have it.
func FormatTime(t time.Time) string { return t.In(Tashkent).Format(TimeLayout) }

// ParseTime reads payed_time and refund_time. It fails on any other form.
func ParseTime(text string) (time.Time, error) {
	return time.ParseInLocation(TimeLayout, text, Tashkent)
}

// DeprecationNotice is what the seed's samples say in apiMessageForDevelopers
// whenever the answer carries the old key errorMessage or top-level copies.
const DeprecationNotice = "The ErrorMessage field is outdated. Please switch to errMessage for unification of the responses. Also, please know that in the future, all fields except error and errMessage will be passed to data. For more information, please contact the technical support of the service."

// Response is the envelope of pay, verificationInfo, check_sms_key and
// check_pan. On success Error is 0, ErrMessage "" and Data is set; on failure
// Data is nil and ErrorMessage repeats ErrMessage for old clients.
// Source: contract §1.
type Response[T any] struct {
	Error        Code   `json:"error"`
	ErrMessage   string `json:"errMessage"`
	Data         *T     `json:"data"`
	ErrorMessage string `json:"errorMessage,omitzero"`            // deprecated twin of ErrMessage
	Developer    string `json:"apiMessageForDevelopers,omitzero"` // a sentence for whoever reads the log
}

// Failure is the envelope of a failed call whose kind of data does not matter:
// Data is always nil.
type Failure = Response[struct{}]

// Fail makes the envelope of a failed call. An empty developer message becomes
// the [DeprecationNotice], as in the seed's samples.
func Fail(code Code, message, developer string) Failure {
	if developer == "" {
		developer = DeprecationNotice
	}
	return Failure{Error: code, ErrMessage: message, ErrorMessage: message, Developer: developer}
}

// ---- prepare_payment --------------------------------------------------------

// PrepareRequest creates a payment: POST /prepare_payment. [Client] fills in
// the credentials. The first call with a ShopTransactionID freezes all of it;
// a repeat answers the state of that first payment.
// Source: seed, prepare_payment; contract §2.
type PrepareRequest struct {
	ShopID            Integer         `json:"octo_shop_id"`
	Secret            Secret          `json:"octo_secret"`
	ShopTransactionID Text            `json:"shop_transaction_id"`      // the merchant's own id of this payment, unique within the shop
	AutoCapture       *bool           `json:"auto_capture,omitzero"`    // false: hold first, decide later; nil is true
	Test              Flag            `json:"test"`                     // no real money moves
	InitTime          AnyText         `json:"init_time,omitzero"`       // [FormatTime]; "" is now
	UserData          *UserData       `json:"user_data,omitzero"`       // shown on the payment page
	TotalSum          Decimal         `json:"total_sum,omitzero"`       // major units, above 0; absent only in the status form
	Currency          string          `json:"currency,omitzero"`        // UZS, USD, RUB or EUR
	Description       string          `json:"description,omitzero"`     // shown to the payer
	Basket            []BasketItem    `json:"basket,omitzero"`          // what is bought, for the page and the fiscal receipt
	PaymentMethods    []PaymentMethod `json:"payment_methods,omitzero"` // nil is all that the shop has contracted
	TspID             Integer         `json:"tsp_id,omitzero"`          // 0 is none
	ReturnURL         string          `json:"return_url,omitzero"`      // complete http(s) URL for the payer after the payment; required to create
	NotifyURL         string          `json:"notify_url,omitzero"`      // "" is the one in the shop's settings
	Language          string          `json:"language,omitzero"`        // en, uz, ru or oz; "" is uz
	TTL               Integer         `json:"ttl,omitzero"`             // minutes, 1 to 43200; 0 is 15
	Tag               string          `json:"tag,omitzero"`             // undocumented; kept and echoed in the entity
}

// StatusRequest is the second form of prepare_payment: without total_sum the
// path answers the state of a payment and changes nothing. Source: contract §2.
type StatusRequest struct {
	ShopID            Integer `json:"octo_shop_id"`
	Secret            Secret  `json:"octo_secret"`
	ShopTransactionID Text    `json:"shop_transaction_id"`
}

// UserData describes the payer. If it is given, pay must carry an e-mail.
type UserData struct {
	UserID Text   `json:"user_id"`
	Phone  Text   `json:"phone"`
	Email  string `json:"email"`
}

// BasketItem is a line of the basket. The last four keys are for the fiscal
// receipt. Source: seed, basket; contract §7.
type BasketItem struct {
	Position    string  `json:"position_desc"`
	Count       Integer `json:"count"`
	Price       Decimal `json:"price"`         // of one piece, major units
	Spic        Text    `json:"spic,omitzero"` // 17 digits if it is to be fiscalised
	PackageCode Text    `json:"package_code,omitzero"`
	Nds         Integer `json:"nds,omitzero"` // value added tax, percent
	Inn         Text    `json:"inn,omitzero"`
	Pinfl       Text    `json:"pinfl,omitzero"`
}

// PaymentMethod names one of the Method constants.
type PaymentMethod struct {
	Method string `json:"method"`
}

// PaymentState is a payment as prepare_payment and set_accept answer it.
type PaymentState struct {
	ShopTransactionID string  `json:"shop_transaction_id"`
	PaymentUUID       string  `json:"octo_payment_UUID"`
	Status            string  `json:"status"`
	PayURL            string  `json:"octo_pay_url"`          // where the payer pays
	TransferSum       Decimal `json:"transfer_sum,omitzero"` // set_accept only: captured less the fee
	RefundedSum       Decimal `json:"refunded_sum"`
	TotalSum          Decimal `json:"total_sum"`           // what was first asked for, also after a partial capture
	PayedTime         string  `json:"payed_time,omitzero"` // set_accept only, [TimeLayout]
}

// StateResponse is the envelope of prepare_payment (both forms) and
// set_accept. It carries the state twice, inside data and at top level,
// because some clients read only the one and some only the other: set Data and
// the embedded PaymentState to the same pointer, or both to nil on failure.
// Source: contract §1.
type StateResponse struct {
	Error        Code          `json:"error"`
	ErrMessage   string        `json:"errMessage,omitzero"`
	Data         *PaymentState `json:"data"`
	ErrorMessage string        `json:"errorMessage,omitzero"`
	Developer    string        `json:"apiMessageForDevelopers"`
	*PaymentState
}

// PrepareResponse answers [PrepareRequest] and [StatusRequest].
type PrepareResponse = StateResponse

// ---- pay --------------------------------------------------------------------

// PayRequest pays with a card (PAN, Exp, Method, CVC2, CardHolderName, Email)
// or with a saved card (CardToken, Method, Email): POST /pay/{uuid}. It
// carries no credentials. Source: seed, pay; contract §3.
type PayRequest struct {
	PAN            Secret `json:"pan,omitzero"`
	Exp            string `json:"exp,omitzero"` // YYMM: "2602" is February 2026
	Method         string `json:"method"`
	CVC2           Secret `json:"cvc2"` // required for bank_card only
	CardHolderName string `json:"cardHolderName,omitzero"`
	Email          string `json:"email"` // required if user_data was given
	CardToken      Secret `json:"card_token,omitzero"`
}

// PayResponse answers [PayRequest].
type PayResponse = Response[PaymentEntity]

// ---- verificationInfo, check_sms_key, check_pan -----------------------------

// VerificationInfoRequest asks how the SMS code of a payment stands: POST
// /verificationInfo/. It carries no credentials. Source: seed, verificationInfo.
type VerificationInfoRequest struct {
	PaymentUUID string `json:"octo_payment_UUID"`
}

// VerificationInfo says where a code went and for how long it is good.
type VerificationInfo struct {
	VerifyID    Integer `json:"verifyId"`
	Phone       string  `json:"phone"`       // masked: +998** *****33
	SecondsLeft Integer `json:"secondsLeft"` // 0: expired or not active; still error 0
}

// VerificationInfoResponse answers [VerificationInfoRequest].
type VerificationInfoResponse = Response[VerificationInfo]

// CheckSMSKeyRequest hands in the payer's code: POST /check_sms_key. At most
// three wrong codes are taken; the third cancels the payment.
// Source: seed, check_sms_key; contract §4.
type CheckSMSKeyRequest struct {
	SMSKey    Secret  `json:"smsKey"`
	PaymentID Integer `json:"paymentId"` // the id of [PaymentEntity]
	VerifyID  Integer `json:"verifyId"`  // the verifyId of [VerificationInfo]
}

// CheckSMSKeyResponse answers [CheckSMSKeyRequest].
type CheckSMSKeyResponse = Response[ExtendedEntity]

// CheckPanRequest asks for a new SMS code: POST /check_pan.
// Source: contract §4.
type CheckPanRequest struct {
	PAN       Secret  `json:"pan"`
	ExpDate   string  `json:"expDate"`   // YYMM
	PaymentID Integer `json:"paymentId"` // the id of [PaymentEntity]
}

// CheckPanResponse answers [CheckPanRequest] with the new code's id and time.
type CheckPanResponse = Response[VerificationInfo]

// ---- set_accept, callback ---------------------------------------------------

// AcceptRequest decides about held money: POST /set_accept. The same decision
// again gets the same answer; another one is refused with [CodeStatusFixed].
// Source: seed, set_accept; contract §5.
type AcceptRequest struct {
	ShopID       Integer `json:"octo_shop_id"`
	Secret       Secret  `json:"octo_secret"`
	PaymentUUID  string  `json:"octo_payment_UUID"`
	AcceptStatus string  `json:"accept_status"`         // capture or cancel
	FinalAmount  Decimal `json:"final_amount,omitzero"` // major units, at most the hold; "" is all of it
}

// AcceptResponse answers [AcceptRequest].
type AcceptResponse = StateResponse

// CallbackRequest is the same decision without a shop id: POST /callback.
// Source: seed, callback.
type CallbackRequest struct {
	Secret       Secret  `json:"octo_secret"`
	PaymentUUID  string  `json:"octo_payment_UUID"`
	AcceptStatus string  `json:"accept_status"`
	FinalAmount  Decimal `json:"final_amount,omitzero"`
}

// CallbackResponse answers [CallbackRequest] with the decision that stands: no
// envelope on success. It has the shape of a merchant's answer to a
// notification, because the seed describes both with one structure.
type CallbackResponse = NotificationAnswer

// ---- refund -----------------------------------------------------------------

// RefundRequest gives captured money back: POST /refund. The same
// ShopRefundID again gets the same answer. Source: contract §5.
type RefundRequest struct {
	ShopID       Integer `json:"octo_shop_id"`
	Secret       Secret  `json:"octo_secret"`
	ShopRefundID Text    `json:"shop_refund_id"` // the merchant's own id of this refund, 1 to 255 characters
	PaymentUUID  string  `json:"octo_payment_UUID"`
	Amount       Decimal `json:"amount"` // major units
}

// Refund is a refund as it stands.
type Refund struct {
	PaymentUUID string `json:"octo_payment_UUID"`
	RefundID    string `json:"refund_id"`   // a UUID of the gateway's
	RefundTime  string `json:"refund_time"` // [TimeLayout]
	Status      string `json:"status"`      // succeeded, pending or canceled
}

// RefundResponse answers [RefundRequest]. Like [StateResponse] it carries the
// refund twice: set Data and the embedded Refund to the same pointer.
type RefundResponse struct {
	Error        Code    `json:"error"`
	ErrMessage   string  `json:"errMessage,omitzero"`
	Data         *Refund `json:"data"`
	ErrorMessage string  `json:"errorMessage,omitzero"`
	Developer    string  `json:"apiMessageForDevelopers"`
	*Refund
}
