package payment

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/internal/money"
)

// ID is a payment's UUID: version 7, so that keys made one after another lie side by side in
// the store, with 74 unguessable bits.
type ID [16]byte

// NewID makes an ID of a time and ten random bytes.
func NewID(now time.Time, random [10]byte) ID {
	var id ID
	ms := uint64(now.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	copy(id[6:], random[:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// String is the lower-case hyphenated form.
func (id ID) String() string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:36], id[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

var errID = errors.New("not a UUID of the form 8-4-4-4-12")

// ParseID reads the hyphenated form, in either case.
func ParseID(text string) (ID, error) {
	var id ID
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return id, errID
	}
	compact := text[0:8] + text[9:13] + text[14:18] + text[19:23] + text[24:36]
	if _, err := hex.Decode(id[:], []byte(compact)); err != nil {
		return ID{}, errID
	}
	return id, nil
}

// Terms are what the first prepare_payment froze.
type Terms struct {
	ShopPaymentID string       `json:"shop_payment_id"` // shop_transaction_id, unique within the shop
	Amount        money.Amount `json:"amount"`          // total_sum
	AutoCapture   bool         `json:"auto_capture"`    // true: one-stage
	Test          bool         `json:"test,omitzero"`
	InitTime      time.Time    `json:"init_time"`
	ExpiresAt     time.Time    `json:"expires_at"` // creation + ttl
	Methods       []Method     `json:"methods"`    // what the payer may choose of
	Description   string       `json:"description,omitzero"`
	ReturnURL     string       `json:"return_url"`
	NotifyURL     string       `json:"notify_url,omitzero"` // the payment's own, else the shop's at that time
	Language      string       `json:"language"`            // uz, oz, ru or en
	Tag           string       `json:"tag,omitzero"`
	TspID         int64        `json:"tsp_id,omitzero"`
	User          *User        `json:"user,omitzero"`
	Basket        []Item       `json:"basket,omitzero"`
}

// User is the payer as the shop knows him (seed: user_data).
type User struct {
	ID    string `json:"id,omitzero"`
	Phone string `json:"phone,omitzero"`
	Email string `json:"email,omitzero"`
}

// Item is a position of the basket (seed: basket). Price is the decimal text of the request: the
// basket is for receipts and is never added to a sum here.
type Item struct {
	Description string `json:"description"`
	Count       int64  `json:"count"`
	Price       string `json:"price"`
	SPIC        string `json:"spic,omitzero"`
}

// Payment is one payment of one shop.
type Payment struct {
	ID        ID
	Number    int64 // the entity's id and paymentId of check_sms_key: 1 to 2^31-1, not guessable in sequence
	Version   int64 // counts the writes; each write expects the one before
	Shop      int64
	CreatedAt time.Time
	UpdatedAt time.Time
	Terms     Terms
	State     State
	Sums
	Progress
}

// Sums are kept apart: captured + released + what is still held = held at first, and
// refunded ≤ captured. All are in the payment's currency.
type Sums struct {
	Held     money.Amount // what was set aside at first
	Captured money.Amount
	Released money.Amount
	Refunded money.Amount
	Fee      money.Amount // the gateway's share of Captured
}

// StillHeld is what is set aside and neither captured nor released.
func (s Sums) StillHeld() money.Amount { return s.Held.Sub(s.Captured).Sub(s.Released) }

// Progress is the part of a payment that changes as it goes on, beside state and sums.
type Progress struct {
	Attempt  *Attempt   `json:"attempt,omitzero"`  // the card being tried, or that paid
	Open     *Operation `json:"open,omitzero"`     // the question whose answer we do not have
	Decision *Decision  `json:"decision,omitzero"` // written once

	Tried      bool `json:"tried,omitzero"`       // the payer was challenged at least once
	Attempts   int  `json:"attempts,omitzero"`    // cards tried so far
	WrongCodes int  `json:"wrong_codes,omitzero"` // codes refused so far, over all attempts

	HoldDeadline time.Time `json:"hold_deadline,omitzero"` // when an undecided hold is let go
	PaidAt       time.Time `json:"paid_at,omitzero"`       // when money was taken

	Refunds []Refund `json:"refunds,omitempty"` // in the order they were asked for

	LastRefusal Reason `json:"last_refusal,omitzero"` // why the last card or code was refused

	// Restored is the restore of a backup after which the payment was reconciled with its centre, and Skipped
	// how many references it had given to operations that the backup does not know (see Adopt).
	Restored time.Time `json:"restored,omitzero"`
	Skipped  int       `json:"skipped,omitzero"`

	LastOperation int `json:"last_operation,omitzero"` // numbers given so far, without gaps
	LastEntry     int `json:"last_entry,omitzero"`
	LastEvent     int `json:"last_event,omitzero"`
}

// Refund is captured money on its way back to the payer. Its name at the shop makes it unique.
type Refund struct {
	ID        string       `json:"id"`      // refund_id, a UUID
	ShopID    string       `json:"shop_id"` // shop_refund_id
	Amount    money.Amount `json:"amount"`
	AskedAt   time.Time    `json:"asked_at"`
	Operation int          `json:"operation"` // its number among the payment's
	State     RefundState  `json:"state"`
	Reason    Reason       `json:"reason,omitzero"` // why it was refused
}

// RefundState is what is known of a refund.
type RefundState string

// The states of a refund, in the words of the wire (contract §5).
const (
	RefundPending RefundState = "pending" // asked for, and reserved; its outcome is not known yet
	RefundDone    RefundState = "succeeded"
	RefundRefused RefundState = "canceled"
)

// Attempt is one card tried on a payment.
type Attempt struct {
	Method    Method     `json:"method"`
	Processor string     `json:"processor"` // the connector that is asked
	Card      CardFacts  `json:"card"`
	Email     string     `json:"email,omitzero"`
	Input     string     `json:"input"`             // cardInputType: merchant_site or octo_page
	ThreeDS   bool       `json:"three_ds,omitzero"` // the payer proves himself at his bank, within the hold or charge itself
	Fee       FeeTerms   `json:"fee"`
	HoldFor   int64      `json:"hold_for_s"` // seconds an undecided hold may last
	Limits    Limits     `json:"limits"`
	Challenge *Challenge `json:"challenge,omitzero"`
	Centre    Centre     `json:"centre"`
}

// CardFacts is what may be kept of a card in the open.
type CardFacts struct {
	Scheme  string `json:"scheme"` // uzcard, humo, visa, mastercard
	First6  string `json:"first6"`
	Last4   string `json:"last4"`
	Holder  string `json:"holder,omitzero"`
	Country string `json:"country,omitzero"` // ISO 3166 alpha-2 where the range tells it
}

// Challenge is a one-time code on its way, or a 3-D Secure page.
type Challenge struct {
	VerifyID  int64     `json:"verify_id"` // random, 1 to 2^31-1
	CentreID  string    `json:"centre_id,omitzero"`
	Phone     string    `json:"phone,omitzero"` // masked
	Step      Step      `json:"step,omitzero"`  // of 3-D Secure
	URL       string    `json:"url,omitzero"`   // 3-D Secure: where the payer's browser posts Data
	Data      string    `json:"data,omitzero"`  // 3-D Secure: threeDSMethodData or creq
	SentAt    time.Time `json:"sent_at,omitzero"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	Tries     int       `json:"tries,omitzero"`   // codes sent on to the centre
	Resends   int       `json:"resends,omitzero"` // further codes asked for, over the attempt
}

// Step is where a payer stands in 3-D Secure 2.
type Step string

// The steps of 3-D Secure. What the browser brings back from either proves nothing: it only says that
// it is time to ask the centre.
const (
	StepMethod    Step = "method"    // the bank looks at the browser, in a hidden frame
	StepChallenge Step = "challenge" // the bank asks the payer, on a page of its own
)

// Centre is what the processing centre calls things: needed to ask again and shown to people.
type Centre struct {
	Token    string `json:"token,omitzero"`    // the card at the centre (SVGate cardId)
	Hold     string `json:"hold,omitzero"`     // the hold or payment at the centre
	RRN      string `json:"rrn,omitzero"`      // retrieval reference number (SVGate refNum), 12 characters
	Approval string `json:"approval,omitzero"` // approval code (ISO 8583 DE 38)
	Terminal string `json:"terminal,omitzero"`

	// Sealed is the card in the vault's ciphertext, where the centre wants it once more after the
	// payer's code (Humo). It is kept with the attempt only, and only until the money is asked for.
	Sealed string `json:"sealed,omitzero"`
}

// clean is a centre's text as it can be kept: valid UTF-8, whatever the centre writes in, and bounded.
func clean(text string) string {
	const longest = 8 << 10
	if len(text) > longest {
		text = text[:longest]
	}
	return strings.ToValidUTF8(text, "?")
}

// merge keeps what an answer adds and forgets nothing.
func (c *Centre) merge(a Centre) {
	set := func(to *string, from string) {
		if from != "" {
			*to = clean(from)
		}
	}
	set(&c.Token, a.Token)
	set(&c.Hold, a.Hold)
	set(&c.RRN, a.RRN)
	set(&c.Approval, a.Approval)
	set(&c.Terminal, a.Terminal)
	set(&c.Sealed, a.Sealed)
}

// FeeTerms is the tariff that was in force for the method when the payer paid.
type FeeTerms struct {
	TariffID int64      `json:"tariff_id"`
	Rate     money.Rate `json:"rate"`              // parts per million of what is captured
	Minimum  int64      `json:"minimum,omitempty"` // minor units of the payment's currency
	Back     bool       `json:"back,omitzero"`     // a refund gives its share of the fee back to the shop
}

// Of is the fee for a captured sum: the rate's share, rounded to the nearest minor unit (a half
// upwards), at least the minimum, and never more than the sum itself.
func (f FeeTerms) Of(captured money.Amount) money.Amount {
	fee := captured.Share(f.Rate)
	if fee.Minor < f.Minimum {
		fee.Minor = f.Minimum
	}
	if fee.Cmp(captured) > 0 {
		return captured
	}
	return fee
}

// After is the fee that is left once refunded of captured has gone back: the same share of the fee as
// of the money, rounded upwards, where the tariff gives the fee back; else all of it.
func (f FeeTerms) After(captured, refunded money.Amount) money.Amount {
	fee := f.Of(captured)
	if !f.Back || !captured.Positive() {
		return fee
	}
	return fee.Part(captured.Sub(refunded), captured)
}

// Refundable is what may still be given back: refunds in doubt are reserved.
func (p *Payment) Refundable() money.Amount {
	left := p.Captured.Sub(p.Refunded)
	for _, r := range p.Refunds {
		if r.State == RefundPending {
			left = left.Sub(r.Amount)
		}
	}
	return left
}

// FindRefund is the refund that the shop calls shopID, or nil.
func (p *Payment) FindRefund(shopID string) *Refund {
	for i := range p.Refunds {
		if p.Refunds[i].ShopID == shopID {
			return &p.Refunds[i]
		}
	}
	return nil
}

// CardUnknown reports that the card tried last does not exist, says its centre.
func (p *Payment) CardUnknown() bool {
	return p.Open == nil && p.State != Challenged && p.LastRefusal == CardUnknown
}

// Transfer is what the shop gets of the captured sum (seed: transfer_sum).
func (p *Payment) Transfer() money.Amount { return p.Captured.Sub(p.Fee) }

// Accept is a merchant's word on a hold (seed: accept_status).
type Accept string

// The two decisions.
const (
	Capture Accept = "capture"
	Cancel  Accept = "cancel"
)

// By says who decided.
type By string

// Who may decide.
const (
	ByMerchant     By = "set_accept"
	ByCallback     By = "callback"
	ByNotification By = "notification"
	ByOperator     By = "operator"
	ByDeadline     By = "deadline"
	ByRestore      By = "restore" // read from the centre's record after a restore: who decided is not known
)

// Decision is written once and never changed.
type Decision struct {
	Accept Accept       `json:"accept"`
	Amount money.Amount `json:"amount"` // the sum to capture; nothing for cancel
	By     By           `json:"by"`
	At     time.Time    `json:"at"`
}

// Event is what the merchant shall be told: one for each change of Status, and one for each refund.
type Event struct {
	N      int       `json:"n"` // 1, 2, 3 … within the payment
	Status Status    `json:"status"`
	At     time.Time `json:"at"`
	Sums   Sums      `json:"sums"` // as they were at that moment
}

// Why a shop is not told again how a payment stands.
var (
	ErrNothingTold = errors.New("nothing has happened to this payment yet that its shop is told")
	ErrNowhere     = errors.New("this payment has no notify_url, and its shop had none when it was prepared")
	ErrDecided     = errors.New("its shop was asked for a decision last, and there is one")
)

// TellAgain says why the last event of a payment is not to be told once more; nil: it may be.
func (p *Payment) TellAgain() error {
	switch d := p.Decision; {
	case p.LastEvent == 0:
		return ErrNothingTold
	case p.Terms.NotifyURL == "":
		return ErrNowhere
	case d != nil && p.Status() == StatusWaitingForCapture:
		return fmt.Errorf("%w: %s, by %s; it is told as soon as it is known what became of that", ErrDecided, d.Accept, d.By)
	}
	return nil
}

// Due is when the payment wants attention although nobody asks for it: the next inquiry about
// its open question, the end of its ttl, or the end of its hold. The zero time means never.
func (p *Payment) Due() time.Time {
	switch {
	case p.Open != nil:
		return p.Open.NextAt // zero when it waits for a person
	case p.State == Created || p.State == Challenged:
		return p.Terms.ExpiresAt
	case p.State == Held && p.Decision == nil:
		return p.HoldDeadline
	}
	return time.Time{}
}
