// Package humo asks Humo's processing centre: PaymentServer, SOAP 1.1 in two-message mode, for the
// money, and the JSON middleware for what is known of a card and its holder's phone. It knows the
// wire formats, what each answer proves and what it leaves open, and nothing else.
//
// # The card
//
// PaymentServer has no tokens: a hold needs the card's number, and that only once the payer's code
// was right. So OpChallenge gives the number and expiry back sealed by the vault, bound to the
// payment (Centre.Sealed), and OpHold and OpCharge open them. In between nobody has them in the open.
//
// # The code
//
// PaymentServer sends no codes either. With Gateway, the default, the code is made here and sent
// through an SMS provider; what is kept of it is the name of the operation that sent it and a hash
// under a key of ours (CentreID), from which nobody can find six digits without that key. With
// Centre the middleware sends and checks it. A code is checked the way it was sent, whatever the
// configuration says by then.
//
// # What a lost answer leaves, and what ends it
//
//	hold, charge   GetPayment by our paymentRef
//	capture, void  GetPayment by the hold's paymentID: its status says whether the payment was
//	               confirmed (and with which sum), cancelled, or is waiting still
//	refund         GetPayment by paymentID: returned, or completed still
//	challenge, verify   nothing can be asked about them: unknown, and no money is at stake
//
// A confirmation that failed leaves the money held: it is refused only where the centre's word proves
// that nothing was done, and gone (payment.HoldGone) only where the centre shows the payment as
// cancelled or lapsed. A refusal of what was sent before is unknown: it says nothing about the first
// request, which may be under way still. Only Query ends such an operation.
package humo

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor"
	"holdfast/internal/processor/wire"
)

// Secret is a password, a token or a key. It prints, logs and marshals as wire.Dots.
type Secret = wire.Secret

// Mode says who sends the payer his code.
type Mode string

// The modes.
const (
	Gateway Mode = "gateway" // we do, through an SMS provider
	Centre  Mode = "pc"      // the processing centre's middleware
)

// Config is our contract with the centre and how to reach it.
type Config struct {
	Name string // of the contract (processor.Processor); default "humo"

	Endpoint   string // the one URL of PaymentServer, http or https, without credentials in it
	Login      string // HTTP Basic credentials; the login is the paymentOriginator too
	Password   Secret
	MerchantID string // 1 to 16 letters and digits
	TerminalID string // 1 to 16 letters and digits
	PointCode  string // at most 32 characters
	CentreID   string // 1 to 32 characters

	MiddlewareURL   string // the middleware's addresses begin with it
	MiddlewareToken Secret // its bearer token

	OTP Mode // default Gateway
	// CodeKey is what the hashes of our codes are made with, 32 bytes at least. Every process of a
	// gateway needs the same one; another one makes the codes under way useless, and nothing else.
	CodeKey Secret
	// SMSURL takes a JSON POST of {"phone", "text"} under SMSToken as bearer token, and answers 200
	// with {"messageId", "status": "sent"}. A 4xx status says that nothing was sent.
	SMSURL   string
	SMSToken Secret

	// Seal and Unseal are the vault's.
	Seal, Unseal func([]byte) ([]byte, error)

	// HTTP does the calls. Only its Transport is used: no redirect is followed, no cookie kept. The
	// default keeps up to 256 idle connections and uses no proxy.
	HTTP *http.Client
	// Answer bounds one question, both calls of it where there are two; default 10 s.
	Answer time.Duration
	// Shown is how long after it was sent an operation may take to be shown; default 2 min.
	Shown time.Duration
	// Now is the clock; default time.Now.
	Now func() time.Time
	// Log gets a line for each question: message, our reference, duration, outcome, code. Default none.
	Log *slog.Logger
}

const (
	defaultAnswer = 10 * time.Second
	defaultShown  = 2 * time.Minute

	// centreKeeps is how long a hold lives at the centre (Humo: 30 days); a hold does not say how long it
	// shall last. outlives is how much earlier than that ours must end.
	centreKeeps = 30 * 24 * time.Hour
	outlives    = time.Hour
	longestHold = centreKeeps - outlives
	// remembers is how long the word of the centre about a reference of ours is believed. It does not say how long
	// it keeps one [infer: as long as a hold].
	remembers = centreKeeps

	shortestKey = 32 // bytes of CodeKey
)

// Connector is the processor.Processor of Humo.
type Connector struct {
	cfg          Config
	http         http.RoundTripper
	soap, sms    *http.Request // copied for each call; sms is nil where we send no codes
	card         *http.Request
	otpSend      *http.Request
	otpVerify    *http.Request
	capabilities processor.Capabilities
	ids          atomic.Int64 // of requests to the middleware, within this process
}

// String and Format keep the credentials out of dumps.
func (c *Connector) String() string             { return "humo " + c.cfg.TerminalID }
func (c *Connector) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// New checks the configuration; nothing is sent.
func New(cfg Config) (*Connector, error) {
	if cfg.OTP == "" {
		cfg.OTP = Gateway
	}
	endpoint, err := address("Endpoint", cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	middleware, err := address("MiddlewareURL", cfg.MiddlewareURL)
	if err != nil {
		return nil, err
	}
	switch {
	case cfg.Login == "" || strings.Contains(cfg.Login, ":"):
		return nil, errors.New("humo: Login must be set and hold no colon")
	case cfg.Password == "":
		return nil, errors.New("humo: Password must be set")
	case !shortID(cfg.MerchantID):
		return nil, errors.New("humo: MerchantID must be 1 to 16 letters and digits")
	case !shortID(cfg.TerminalID):
		return nil, errors.New("humo: TerminalID must be 1 to 16 letters and digits")
	case len(cfg.PointCode) > 32:
		return nil, errors.New("humo: PointCode must be at most 32 characters")
	case cfg.CentreID == "" || len(cfg.CentreID) > 32:
		return nil, errors.New("humo: CentreID must be 1 to 32 characters")
	case !headerSafe(string(cfg.MiddlewareToken)) || cfg.MiddlewareToken == "":
		return nil, errors.New("humo: MiddlewareToken must be set and hold printable ASCII only")
	case cfg.Seal == nil || cfg.Unseal == nil:
		return nil, errors.New("humo: Seal and Unseal must be the vault's")
	case cfg.OTP != Gateway && cfg.OTP != Centre:
		return nil, fmt.Errorf("humo: OTP must be %q or %q", Gateway, Centre)
	case len(cfg.CodeKey) < shortestKey && (cfg.OTP == Gateway || cfg.CodeKey != ""):
		return nil, fmt.Errorf("humo: CodeKey must have %d bytes at least", shortestKey)
	case cfg.Answer < 0 || cfg.Shown < 0:
		return nil, errors.New("humo: Answer and Shown must not be negative")
	}
	if cfg.Name == "" {
		cfg.Name = "humo"
	}
	if cfg.Answer == 0 {
		cfg.Answer = defaultAnswer
	}
	if cfg.Shown == 0 {
		cfg.Shown = defaultShown
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Connector{
		cfg: cfg, http: wire.RoundTripper(cfg.HTTP, 3),
		capabilities: processor.Capabilities{
			Answer:     cfg.Answer,
			Currencies: []money.Currency{money.UZS},
			// PaymentServer refuses a second payment under a paymentRef, but holds and charges are never
			// sent again: the payer's consent was for one try. "Not found" ends them, and must not be
			// believed while the request may still be on its way or the books of the centre behind.
			//
			// Confirmation, cancellation and return name the payment and carry no reference of their own,
			// and that a second one does nothing is promised nowhere: confirming a credit twice is known
			// to pay twice. So one is sent again only when the centre, asked long after the first must
			// have arrived if it ever did, still shows the payment as it was before.
			Shown: map[payment.Kind]time.Duration{
				payment.OpHold: cfg.Shown, payment.OpCharge: cfg.Shown,
				payment.OpCapture: cfg.Shown, payment.OpVoid: cfg.Shown, payment.OpRefund: cfg.Shown,
			},
			LongestHold:    longestHold,
			Remembers:      remembers,
			PartialCapture: true,
			ReleasesRest:   true,
			PartialRefund:  false, // ReturnPayment has no sum
			SendsCode:      cfg.OTP == Centre,
		},
	}
	credentials := base64.StdEncoding.EncodeToString([]byte(cfg.Login + ":" + string(cfg.Password)))
	c.soap = &http.Request{Method: http.MethodPost, URL: endpoint, Host: endpoint.Host, Header: http.Header{
		"Authorization": {"Basic " + credentials},
		"Content-Type":  {"text/xml; charset=utf-8"},
		"Accept":        {"text/xml"},
		"SOAPAction":    {`""`}, // spelt as it stands in SOAP 1.1, for servers that look closely
		"User-Agent":    {"holdfast"},
	}}
	c.card = jsonRequest(middleware.JoinPath("v3/iiacs/card"), cfg.MiddlewareToken)
	c.otpSend = jsonRequest(middleware.JoinPath("otp/send"), cfg.MiddlewareToken)
	c.otpVerify = jsonRequest(middleware.JoinPath("otp/verify"), cfg.MiddlewareToken)
	if cfg.OTP == Gateway {
		sms, err := address("SMSURL", cfg.SMSURL)
		if err != nil {
			return nil, err
		}
		if !headerSafe(string(cfg.SMSToken)) {
			return nil, errors.New("humo: SMSToken must hold printable ASCII only")
		}
		c.sms = jsonRequest(sms, cfg.SMSToken)
	}
	return c, nil
}

// address reads a URL of the configuration. What is wrong with it is said without a piece of it.
func address(name, text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("humo: %s is not a URL", name)
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return nil, fmt.Errorf("humo: %s must be an http or https URL", name)
	case u.User != nil:
		return nil, fmt.Errorf("humo: %s must not hold credentials", name)
	}
	return u, nil
}

func jsonRequest(to *url.URL, token Secret) *http.Request {
	return &http.Request{Method: http.MethodPost, URL: to, Host: to.Host, Header: http.Header{
		"Authorization": {"Bearer " + string(token)},
		"Content-Type":  {"application/json; charset=utf-8"},
		"Accept":        {"application/json"},
		"User-Agent":    {"holdfast"},
	}}
}

// shortID is what is accepted as merchant_id and terminal_id.
func shortID(s string) bool { return token(s) && len(s) <= 16 && !strings.ContainsAny(s, "-_") }

func headerSafe(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Name is the contract's: Config.Name.
func (c *Connector) Name() string { return c.cfg.Name }

// Capabilities is what Humo can do. The map is shared: it must not be changed.
func (c *Connector) Capabilities() processor.Capabilities { return c.capabilities }

// Ask asks one question. It makes one call, or two for a challenge (the card, then the code), within
// Config.Answer in all.
func (c *Connector) Ask(ctx context.Context, q processor.Question) payment.Answer {
	begun := time.Now()
	ctx, cancel := wire.Within(ctx, c.cfg.Answer)
	defer cancel()
	k := &call{c: c, ctx: ctx, q: q, secrets: []string{q.Card.Number, string(q.Code)}}
	a := k.ask()
	a.Ref = q.Operation.Ref
	wire.Report(ctx, c.cfg.Log, c.Name(), k.method, int64(k.code), &k.q, a, time.Since(begun))
	return a
}

func (k *call) ask() payment.Answer {
	op := &k.q.Operation
	switch {
	case k.ctx.Err() != nil:
		return k.failed(&trouble{unsent: true, cause: "given up before anything was sent"})
	case op.Amount.Currency != money.UZS || !op.Amount.Positive():
		return k.refuse(payment.Unsupported, "Humo moves positive sums of UZS only")
	case !token(op.Ref):
		return k.refuse(payment.Unsupported, "Humo takes references of 1 to 64 letters, digits, hyphens and underscores")
	}
	switch op.Ask {
	case payment.Send:
		switch op.Kind {
		case payment.OpChallenge:
			return k.challenge()
		case payment.OpVerify:
			return k.verify()
		case payment.OpHold:
			return k.hold()
		case payment.OpCharge:
			return k.pay("SOAP_SMS", stateCompleted)
		case payment.OpCapture:
			return k.capture()
		case payment.OpVoid:
			return k.void()
		case payment.OpRefund:
			return k.refund()
		}
		return k.refuse(payment.Unsupported, "Humo is not asked for a "+string(op.Kind))
	case payment.Query:
		switch op.Kind {
		case payment.OpHold:
			return k.findNew(stateWaiting)
		case payment.OpCharge:
			return k.findNew(stateCompleted)
		case payment.OpCapture, payment.OpVoid, payment.OpRefund:
			return k.findDone()
		}
		return k.unknown("Humo cannot be asked what became of a " + string(op.Kind))
	}
	// Nothing here is done in steps; above all it must not be done a second time.
	return k.unknown("Humo has nothing to go on with: " + string(op.Ask))
}

// refuse says that the request did nothing.
func (k *call) refuse(reason payment.Reason, cause string) payment.Answer {
	return wire.Undone(&k.q.Operation, reason, cause)
}

func (k *call) unknown(cause string) payment.Answer {
	return payment.Answer{Outcome: payment.Unknown, Cause: k.words(cause)}
}

// failed says what a call that brought no result proves.
func (k *call) failed(t *trouble) payment.Answer {
	switch {
	case t.unsent:
		return k.refuse(payment.Unavailable, t.cause)
	case t.denied:
		return k.refuse(payment.Misconfigured, t.cause)
	case t.code != 0:
		if v := judge(t.code, k.q.Operation.Kind); v.outcome == payment.Refused {
			return k.refuse(v.reason, t.cause)
		}
	}
	return payment.Answer{Outcome: payment.Unknown, Cause: t.cause}
}

func (k *call) neverSeen(cause string) payment.Answer {
	return payment.Answer{Outcome: payment.NeverSeen, Cause: k.words(cause)}
}

// How a payment stands: PaymentResponse calls it action, GetPaymentResponse status. Only the first two
// are documented; the others are the simulator's and have to be confirmed with the bank. Any other
// number is unknown.
const (
	stateWaiting   = 4  // authorised, waiting for confirmation
	stateCompleted = 10 // confirmed, or charged at once
	stateCancelled = 20
	stateLapsed    = 21
	stateReturned  = 30
)

// hold sets money aside (PaymentServer Payment, SOAP_DMS). How long it stays there is the centre's
// affair, so a hold that shall last longer than that is not begun.
func (k *call) hold() payment.Answer {
	op := &k.q.Operation
	switch {
	case !k.q.HoldUntil.After(op.SentAt):
		return k.refuse(payment.Unsupported, "a hold needs an end after its beginning")
	case k.q.HoldUntil.Sub(op.SentAt) > longestHold:
		return k.refuse(payment.Unsupported, "Humo keeps no hold for more than 30 days less an hour")
	}
	return k.pay("SOAP_DMS", stateWaiting)
}

// pay makes a new payment of a kind; action is what the answer must say.
func (k *call) pay(kind string, action int) payment.Answer {
	op := &k.q.Operation
	card, a := k.unseal()
	if card.Number == "" {
		return a
	}
	m := k.open("Payment", "Payment "+kind)
	m.element("language", centreLanguage(k.q.Language))
	m.element("billerRef", kind)
	m.element("payinstrRef", kind)
	m.element("sessionID", op.Ref)
	m.element("paymentRef", op.Ref)
	m.begin("details")
	m.item("pan", card.Number)
	m.item("expiry", card.Expiry)
	m.item("ccy_code", op.Amount.Currency.Numeric())
	m.item("amount", digits(op.Amount.Minor))
	m.item("merchant_id", k.c.cfg.MerchantID)
	m.item("terminal_id", k.c.cfg.TerminalID)
	m.item("point_code", k.c.cfg.PointCode)
	m.item("centre_id", k.c.cfg.CentreID)
	m.end("details")
	p, t := k.exchange(m, "PaymentResponse")
	if t != nil {
		return k.failed(t)
	}
	if session := p.child("sessionID"); session != "" && session != op.Ref {
		return k.unknown("an answer of another session")
	}
	return k.approve(p, "action", action)
}

// centreLanguage is the payer's language as Humo has it: one spelling of Uzbek.
func centreLanguage(language string) string {
	switch language {
	case "uz", "oz":
		return "uz"
	case "ru":
		return "ru"
	}
	return "en"
}

// approve takes a payment that stands as it was asked to stand: our reference, the centre's name for
// it, state, sum and currency have to be right. Whatever else it is, it is unknown.
func (k *call) approve(p *node, field string, state int) payment.Answer {
	op := &k.q.Operation
	if stands, ok := number(p.child(field)); !ok || stands != state {
		return k.unknown(fmt.Sprintf("%s %s, due was %d", field, plain(p.child(field)), state))
	}
	facts, why := k.read(p)
	switch {
	case why != "":
		return k.unknown(why)
	case facts.sum != op.Amount.Minor:
		return k.unknown(facts.otherSum(op.Amount))
	}
	return payment.Answer{
		Outcome: payment.Approved, Amount: op.Amount,
		Centre: payment.Centre{Hold: facts.id, RRN: facts.rrn, Approval: facts.approval, Terminal: facts.terminal},
	}
}

// facts is what an answer says of a payment. An id is always there, a sum where hasSum says so.
type facts struct {
	id, rrn, approval, terminal string
	sum                         int64
	hasSum                      bool
}

func (f *facts) otherSum(asked money.Amount) string {
	if !f.hasSum {
		return "an answer without a sum"
	}
	return fmt.Sprintf("asked for %d, answered %d", asked.Minor, f.sum)
}

// read reads what PaymentResponse and GetPaymentResponse share. why says what makes the answer useless:
// above all that it is about another payment than the question. Nothing of it is repeated but numbers:
// details hold the card number.
func (k *call) read(p *node) (f facts, why string) {
	op, known := &k.q.Operation, k.q.Attempt.Centre.Hold
	details, err := p.details()
	if err != nil {
		return f, err.Error()
	}
	f.id = p.child("paymentID")
	made := op.Kind == payment.OpHold || op.Kind == payment.OpCharge
	switch ref := p.child("paymentRef"); {
	case !token(f.id) || strings.Trim(f.id, "0") == "":
		return f, "an answer without a paymentID"
	case made && ref != op.Ref:
		return f, "an answer about another paymentRef"
	case !made && f.id != known:
		return f, "an answer about another paymentID"
	}
	for _, name := range [...]string{"auth_action_code", "auth_action_code_final"} {
		if code, ok := details[name]; ok && !accepted(code) {
			return f, name + " " + plain(code)
		}
	}
	if currency, ok := details["ccy_code"]; ok && currency != op.Amount.Currency.Numeric() {
		return f, "asked for currency " + op.Amount.Currency.Numeric() + ", answered " + plain(currency)
	}
	for _, name := range [...]string{"amount", "transaction_amount"} {
		text, ok := details[name]
		if !ok {
			continue
		}
		sum, ok := wholeNumber(text)
		switch {
		case !ok:
			return f, name + " is no number of tiyin"
		case f.hasSum && f.sum != sum:
			return f, fmt.Sprintf("amount %d, but %s %d", f.sum, name, sum)
		}
		f.sum, f.hasSum = sum, true
	}
	f.rrn = short(details["auth_ref_number"], 12)
	f.approval = short(details["auth_appr_code"], 6)
	if f.terminal = short(details["terminal_id"], 16); f.terminal == "" {
		f.terminal = k.c.cfg.TerminalID
	}
	return f, ""
}

// findNew asks for the payment with our paymentRef (PaymentServer GetPayment).
func (k *call) findNew(state int) payment.Answer {
	m := k.open("GetPayment", "GetPayment")
	m.element("paymentRef", k.q.Operation.Ref)
	p, t := k.exchange(m, "GetPaymentResponse")
	switch {
	case t.is(codeNotTraced):
		return k.neverSeen("no payment has this paymentRef")
	case t != nil:
		return k.failed(t)
	}
	stands, ok := number(p.child("status"))
	if !ok || stands != stateCancelled && stands != stateLapsed {
		return k.approve(p, "status", state)
	}
	if _, why := k.read(p); why != "" {
		return k.unknown(why)
	}
	// It was made, and the payer has his money back: for the payment that is no hold.
	return payment.Answer{Outcome: payment.Refused, Reason: payment.HoldGone, Cause: k.words(fmt.Sprintf("it was made, but it is over (status %d)", stands))}
}

// getPayment asks how the payment of the attempt stands (PaymentServer GetPayment by paymentID). Without
// trouble it is about that payment.
func (k *call) getPayment() (stands int, f facts, t *trouble) {
	id := k.q.Attempt.Centre.Hold
	if id == "" {
		return 0, f, &trouble{cause: "no payment is known at the centre"}
	}
	m := k.open("GetPayment", "GetPayment")
	m.element("paymentID", id)
	p, t := k.exchange(m, "GetPaymentResponse")
	if t != nil {
		return 0, f, t
	}
	f, why := k.read(p)
	stands, ok := number(p.child("status"))
	switch {
	case why != "":
		return 0, f, &trouble{cause: k.words(why)}
	case !ok:
		return 0, f, &trouble{cause: k.words("no status")}
	}
	return stands, f, nil
}

// findDone says what became of a capture, a void or a refund: that is how the payment stands.
func (k *call) findDone() payment.Answer {
	op := &k.q.Operation
	stands, f, t := k.getPayment()
	if t != nil {
		// “Not found” too: the centre once gave this payment its paymentID.
		return payment.Answer{Outcome: payment.Unknown, Cause: t.cause}
	}
	before, after := stateWaiting, stateCompleted
	if op.Kind == payment.OpRefund {
		before, after = stateCompleted, stateReturned
	}
	approved := payment.Answer{
		Outcome: payment.Approved,
		Centre:  payment.Centre{Hold: f.id, RRN: f.rrn, Approval: f.approval, Terminal: f.terminal},
	}
	over := stands == stateCancelled || stands == stateLapsed
	switch {
	case stands == before:
		return k.neverSeen(fmt.Sprintf("the payment has status %d still", stands))
	case stands == after && op.Kind != payment.OpVoid:
		if f.sum != op.Amount.Minor {
			return k.unknown(f.otherSum(op.Amount))
		}
		approved.Amount = op.Amount
		return approved
	case over && op.Kind == payment.OpVoid:
		if f.hasSum && f.sum != op.Amount.Minor {
			return k.unknown(f.otherSum(op.Amount))
		}
		if stands == stateLapsed {
			approved.Cause = k.words("the hold lapsed")
		}
		return approved
	case over && op.Kind == payment.OpCapture:
		// A payment that is over cannot be confirmed any more, not even by a request of ours that is late.
		return payment.Answer{Outcome: payment.Refused, Reason: payment.HoldGone, Cause: k.words(fmt.Sprintf("the payment is over (status %d)", stands))}
	case stands == stateCompleted && op.Kind == payment.OpVoid:
		// Not payment.HoldGone: that would say that the payer has his money back.
		return payment.Answer{Outcome: payment.Refused, Reason: payment.AlreadyCaptured, Cause: k.words("the payment was confirmed, not cancelled")}
	}
	return k.unknown(fmt.Sprintf("the payment has status %d", stands))
}

// capture confirms the payment with its sum or a smaller one; the centre gives back the rest
// (PaymentServer Payment with paymentID and confirmed). The sum is always written: a confirmation
// without one takes all that is held.
func (k *call) capture() payment.Answer {
	id := k.q.Attempt.Centre.Hold
	if id == "" {
		return k.refuse(payment.Unsupported, "a capture needs the hold")
	}
	m := k.open("Payment", "Payment confirmed")
	m.element("paymentID", id)
	m.element("confirmed", "true")
	m.element("finished", "true")
	m.begin("details")
	m.item("amount", digits(k.q.Operation.Amount.Minor))
	m.end("details")
	p, t := k.exchange(m, "PaymentResponse")
	if t != nil {
		return k.failed(t)
	}
	return k.approve(p, "action", stateCompleted)
}

// void lets go of what is set aside (PaymentServer CancelRequest).
func (k *call) void() payment.Answer {
	id := k.q.Attempt.Centre.Hold
	if id == "" {
		return k.refuse(payment.Unsupported, "a void needs the hold")
	}
	m := k.open("CancelRequest", "CancelRequest")
	m.element("paymentID", id)
	return k.done(m, "CancelRequestResponse")
}

// refund returns the payment (PaymentServer ReturnPayment). That has no sum: the whole payment goes
// back, whatever it was, so a part of what was taken is not begun.
func (k *call) refund() payment.Answer {
	op := &k.q.Operation
	switch taken := k.q.Captured; {
	case k.q.Attempt.Centre.Hold == "":
		return k.refuse(payment.Unsupported, "a refund needs the payment at the centre")
	case taken != op.Amount:
		return k.refuse(payment.Unsupported, fmt.Sprintf("Humo returns whole payments only: this one is of %s, asked was for %s", taken, op.Amount))
	}
	m := k.open("ReturnPayment", "ReturnPayment")
	m.element("paymentID", k.q.Attempt.Centre.Hold)
	m.item("merchant_id", k.c.cfg.MerchantID)
	m.item("centre_id", k.c.cfg.CentreID)
	m.item("terminal_id", k.c.cfg.TerminalID)
	return k.done(m, "ReturnPaymentResponse")
}

// done sends a message whose good answer is an empty element.
func (k *call) done(m *message, answer string) payment.Answer {
	p, t := k.exchange(m, answer)
	switch {
	case t != nil:
		return k.failed(t)
	case len(p.children) > 0 || p.text != "":
		return k.unknown("an answer that is not empty")
	}
	return payment.Answer{Outcome: payment.Approved, Centre: payment.Centre{Hold: k.q.Attempt.Centre.Hold}}
}
