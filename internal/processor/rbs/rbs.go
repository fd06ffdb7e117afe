// Package rbs asks an acquirer's gateway for Visa and Mastercard: the e-commerce REST of BPC ("RBS"),
// forms in and JSON out, with 3-D Secure 2 within the hold or charge. It knows the wire format, what
// each answer proves and what it leaves open, and nothing else.
//
// # One order for a payment
//
// A hold or charge is an order, registered under the operation's Ref (orderNumber) and paid with one
// card. Everything after it names that order by the gateway's own name, mdOrder, which is
// payment.Centre.Hold. The order's session ends with the payment's ttl, so a payer who never comes back
// leaves no order that could still be paid.
//
// # What is believed
//
// errorCode 0 says that a request was taken, not that money moved; what the payer's browser brings back
// says nothing at all. Approved is only what getOrderStatusExtended.do says of the order, its sum and
// its currency, asked server to server; each request that moves money is followed by that question.
//
//	orderStatus          a hold                  a charge
//	1 held               approved                unknown
//	2 deposited          unknown                 approved
//	3 reversed           refused: hold gone      refused: hold gone
//	6 declined           refused, by actionCode  the same
//	0, 5 under way       challenged: the payer is at his bank; refused once the session is over (-2007)
//	7, 0 with -1, -30001 unknown: the payer has done his part and the issuer has not answered
//	no such order        never seen; unknown if it has named the order before
//
// A capture is approved by depositedAmount, a void by orderStatus 3, a refund by the row of refunds with
// our externalRefundId, and only where the answer names the order (attributes) or the payment that it was
// registered for (merchantOrderParams). deposit.do and reverse.do carry no reference of ours, so each is looked up before
// it is sent again, and a deposit is not sent again before Config.Shown has passed.
//
// # What a lost answer leaves
//
// An order that was given no card cannot be paid: register.do moves nothing, and whatever goes wrong
// with it is a refusal. From paymentorder.do on, a lost answer is unknown, and Query finds out. A request
// that was answered with an error is followed by the status at once: error 7 is a wrong state and a failed
// system in one, and only the order itself can tell.
package rbs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor"
	"holdfast/internal/processor/wire"
)

// Secret is a password, a token or a key. It prints, logs and marshals as wire.Dots.
type Secret = wire.Secret

// Config is our contract with the acquirer and how to reach his gateway. The merchant must be set up
// there for one payment attempt and one deposit an order, and for a version of the extended status that
// shows paymentAmountInfo, attributes and refunds.
type Config struct {
	Name string // of the contract (processor.Processor); default "bank_card"

	Endpoint string // what stands before /rest/X.do, http or https, without credentials in it
	Login    string // of the merchant's API user; with Password. Or Token alone.
	Password Secret
	Token    Secret

	// Where the payer's browser comes back to, absolute addresses of the payment's pages:
	// ReturnURL when the order is over, FinishURL from the issuer's page (default: ReturnURL), and
	// MethodNotificationURL from the issuer's hidden frame.
	ReturnURL, FinishURL, MethodNotificationURL func(payment.ID) string
	// CallbackURL is where the gateway tells us of news (see VerifyCallback); "" leaves it to the
	// merchant's settings there.
	CallbackURL string

	// Currencies are what the acquirer takes under the contract; default: all that there are.
	Currencies []money.Currency

	// HTTP does the calls. Only its Transport is used: no redirect is followed, no cookie kept. The
	// default keeps up to 256 idle connections and uses no proxy.
	HTTP *http.Client
	// Answer bounds one question, with all its calls: four at most; default 15 s.
	Answer time.Duration
	// Shown is how long after it was sent a hold, charge or deposit may take to be shown; default 2 min.
	Shown time.Duration
	// Now is the clock; default time.Now.
	Now func() time.Time
	// Log gets a line for each question: method, our reference, duration, outcome, code. Default none.
	Log *slog.Logger
}

const (
	defaultAnswer = 15 * time.Second
	defaultShown  = 2 * time.Minute

	// acquirerHolds is how long issuers keep a hold (Visa, Mastercard: 7 days), and outlives how much
	// longer than ours it must last.
	acquirerHolds = 7 * 24 * time.Hour
	outlives      = time.Hour
	// remembers is how long the word of the gateway about an order is believed. It does not say how long it keeps
	// one [infer: longer than disputes may take to begin].
	remembers = 30 * 24 * time.Hour

	maxReference = 32              // externalRefundId; an orderNumber may be 36
	maxMinor     = 999_999_999_999 // amounts have 12 digits
	maxEmail     = 40
	// longestSession is how long a payer may be at his bank, which is what the gateway gives him where nothing is said
	// (sessionTimeoutSecs, default 1200). Until it is over a payer who went away cannot try another card.
	longestSession = 20 * time.Minute
)

// Connector is the processor.Processor of Visa and Mastercard.
type Connector struct {
	cfg          Config
	http         http.RoundTripper
	request      *http.Request // copied for each call
	capabilities processor.Capabilities
}

// String and GoString keep the credentials out of dumps.
func (c *Connector) String() string   { return "rbs " + c.request.URL.Host }
func (c *Connector) GoString() string { return c.String() }

// New checks the configuration; nothing is sent.
func New(cfg Config) (*Connector, error) {
	endpoint, err := url.Parse(cfg.Endpoint)
	switch {
	case err != nil:
		return nil, errors.New("rbs: Endpoint is not a URL")
	case endpoint.Scheme != "https" && endpoint.Scheme != "http" || endpoint.Host == "":
		return nil, errors.New("rbs: Endpoint must be an http or https URL")
	case endpoint.User != nil:
		return nil, errors.New("rbs: Endpoint must not hold credentials: use Login and Password, or Token")
	case endpoint.RawQuery != "" || endpoint.Fragment != "":
		return nil, errors.New("rbs: Endpoint must be what stands before /rest/, and nothing after it")
	case (cfg.Token == "") == (cfg.Login == "" && cfg.Password == ""):
		return nil, errors.New("rbs: either Login and Password or Token must be set")
	case cfg.Token == "" && (cfg.Login == "" || cfg.Password == ""):
		return nil, errors.New("rbs: Login and Password belong together")
	case cfg.ReturnURL == nil || cfg.MethodNotificationURL == nil:
		return nil, errors.New("rbs: ReturnURL and MethodNotificationURL must be set")
	case cfg.CallbackURL != "" && !absolute(cfg.CallbackURL):
		return nil, errors.New("rbs: CallbackURL must be an http or https URL")
	case cfg.Answer < 0 || cfg.Shown < 0:
		return nil, errors.New("rbs: Answer and Shown must not be negative")
	}
	if cfg.FinishURL == nil {
		cfg.FinishURL = cfg.ReturnURL
	}
	for _, page := range []func(payment.ID) string{cfg.ReturnURL, cfg.FinishURL, cfg.MethodNotificationURL} {
		if !absolute(page(payment.ID{})) {
			return nil, errors.New("rbs: ReturnURL, FinishURL and MethodNotificationURL must give http or https URLs")
		}
	}
	if cfg.Name == "" {
		cfg.Name = "bank_card"
	}
	if len(cfg.Currencies) == 0 {
		cfg.Currencies = money.Currencies
	}
	for _, c := range cfg.Currencies {
		if !slices.Contains(money.Currencies, c) {
			return nil, fmt.Errorf("rbs: Currencies must be of %v", money.Currencies)
		}
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
	endpoint.Path, endpoint.RawPath = strings.TrimRight(endpoint.Path, "/"), ""
	request, err := http.NewRequest(http.MethodPost, endpoint.String(), nil)
	if err != nil {
		return nil, errors.New("rbs: Endpoint is not a URL")
	}
	request.Header = http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"},
		"Accept":       {"application/json"},
		"User-Agent":   {"holdfast"},
	}
	return &Connector{
		cfg: cfg, http: wire.RoundTripper(cfg.HTTP, 1), request: request,
		capabilities: processor.Capabilities{
			Answer:     cfg.Answer,
			Currencies: cfg.Currencies,
			// A hold or charge is never sent again. A deposit is, and carries no reference of ours: it
			// must not meet one that is still on its way. A reversal does nothing the second time, and a
			// refund is done once under its externalRefundId.
			Shown: map[payment.Kind]time.Duration{
				payment.OpHold: cfg.Shown, payment.OpCharge: cfg.Shown, payment.OpCapture: cfg.Shown,
			},
			LongestHold:    acquirerHolds - outlives,
			Remembers:      remembers,
			PartialCapture: true,
			ReleasesRest:   true,
			PartialRefund:  true,
			ThreeDS:        true,
		},
	}, nil
}

// absolute reports whether a browser can be sent there.
func absolute(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil
}

// Name is the contract's: Config.Name.
func (c *Connector) Name() string { return c.cfg.Name }

// Capabilities is what the gateway can do. The map is shared: it must not be changed.
func (c *Connector) Capabilities() processor.Capabilities { return c.capabilities }

// Ask asks one question: one to four calls within Config.Answer in all.
func (c *Connector) Ask(ctx context.Context, q processor.Question) payment.Answer {
	begun := time.Now()
	ctx, cancel := wire.Within(ctx, c.cfg.Answer)
	defer cancel()
	k := &call{c: c, ctx: ctx, q: q, order: q.Attempt.Centre.Hold}
	if q.Attempt.Challenge != nil {
		k.secure = q.Attempt.Challenge.CentreID
	}
	a := k.ask()
	a.Ref = q.Operation.Ref
	wire.Report(ctx, c.cfg.Log, c.Name(), k.method, k.code, &k.q, a, time.Since(begun))
	return a
}

func (k *call) ask() payment.Answer {
	op := &k.q.Operation
	switch {
	case !slices.Contains(k.c.capabilities.Currencies, op.Amount.Currency):
		return k.refuse(payment.Unsupported, "the contract is for other currencies than "+string(op.Amount.Currency))
	case !op.Amount.Positive() || op.Amount.Minor > maxMinor:
		return k.refuse(payment.Unsupported, "the gateway moves positive sums of up to 12 digits")
	case op.Ref == "" || len(op.Ref) > maxReference:
		return k.refuse(payment.Unsupported, "the gateway takes references of 1 to 32 characters")
	}
	switch op.Ask {
	case payment.Send:
		switch op.Kind {
		case payment.OpHold, payment.OpCharge:
			return k.pay()
		case payment.OpCapture:
			return k.change("deposit.do", form{}.with("amount", minor(op.Amount)), k.judgeCapture)
		case payment.OpVoid:
			return k.change("reverse.do", form{}, k.judgeVoid)
		case payment.OpRefund:
			return k.change("refund.do", form{}.with("amount", minor(op.Amount)).with("externalRefundId", op.Ref), k.judgeRefund)
		}
		return k.refuse(payment.Unsupported, "the gateway is not asked for a "+string(op.Kind)+": the payer proves himself at his bank")
	case payment.Continue:
		if op.Kind == payment.OpHold || op.Kind == payment.OpCharge {
			return k.proceed()
		}
	case payment.Query:
		switch op.Kind {
		case payment.OpHold, payment.OpCharge:
			return k.find(k.judgeOrder)
		case payment.OpCapture:
			return k.find(k.judgeCapture)
		case payment.OpVoid:
			return k.find(k.judgeVoid)
		case payment.OpRefund:
			return k.find(k.judgeRefund)
		}
	}
	return k.unknown(fmt.Sprintf("the gateway has no answer to %s %s", op.Ask, op.Kind))
}

// refuse says that the request did nothing.
func (k *call) refuse(reason payment.Reason, cause string) payment.Answer {
	return wire.Undone(&k.q.Operation, reason, cause)
}

func (k *call) unknown(cause string) payment.Answer {
	return payment.Answer{Outcome: payment.Unknown, Cause: k.words(cause)}
}

func (k *call) refused(reason payment.Reason, cause string) payment.Answer {
	return payment.Answer{Outcome: payment.Refused, Reason: reason, Cause: k.words(cause)}
}

func (k *call) neverSeen(cause string) payment.Answer {
	return payment.Answer{Outcome: payment.NeverSeen, Cause: k.words(cause)}
}

// failed says what a call that brought no result proves.
func (k *call) failed(t *trouble) payment.Answer {
	if t.undone() {
		return k.refuse(payment.Unavailable, t.cause)
	}
	if v := judgeCode(t.code); v.outcome == payment.Refused {
		return k.refuse(v.reason, t.cause)
	}
	return payment.Answer{Outcome: payment.Unknown, Cause: t.cause}
}

// early reports whether the operation was sent so lately that the gateway may not show all of it yet.
func (k *call) early() bool { return k.c.cfg.Now().Sub(k.q.Operation.SentAt) < k.c.cfg.Shown }

func minor(a money.Amount) string { return strconv.FormatInt(a.Minor, 10) }

// pay registers an order and hands in the card (registerPreAuth.do or register.do, paymentorder.do).
func (k *call) pay() payment.Answer {
	card, op := &k.q.Card, &k.q.Operation
	lives := min(k.q.ExpiresAt.Sub(k.c.cfg.Now()), longestSession) / time.Second
	switch {
	case len(card.Number) < 13 || len(card.Number) > 19 || !wire.AllDigits(card.Number):
		return k.refuse(payment.CardUnknown, "a card number has 13 to 19 digits")
	case len(card.Expiry) != 4 || !wire.AllDigits(card.Expiry) || card.Expiry[2:] < "01" || card.Expiry[2:] > "12":
		return k.refuse(payment.WrongExpiry, "an expiry has 4 digits, YYMM")
	case len(card.CVC) != 3 || !wire.AllDigits(card.CVC):
		return k.refuse(payment.WrongCVC, "a CVC has 3 digits")
	case lives < 1:
		return k.refuse(payment.CodeExpired, "the payment's time is over")
	case op.Kind == payment.OpHold && time.Duration(k.q.Attempt.HoldFor)*time.Second > k.c.capabilities.LongestHold,
		op.Kind == payment.OpHold && k.q.HoldUntil.Sub(op.SentAt) > k.c.capabilities.LongestHold:
		return k.refuse(payment.Unsupported, "issuers keep no hold for more than 7 days")
	}
	language := language(k.q.Language)
	f := form{}.with("orderNumber", op.Ref).with("amount", minor(op.Amount)).with("currency", op.Amount.Currency.Numeric()).
		with("returnUrl", k.c.cfg.ReturnURL(k.q.Payment)).with("language", language).
		with("sessionTimeoutSecs", strconv.FormatInt(int64(lives), 10)).
		with("jsonParams", fmt.Sprintf(`{"payment":%q,"shop":"%d"}`, k.q.Payment, k.q.Shop))
	if k.c.cfg.CallbackURL != "" {
		f = f.with("dynamicCallbackUrl", k.c.cfg.CallbackURL)
	}
	method := "registerPreAuth.do"
	if op.Kind == payment.OpCharge {
		method = "register.do"
	}
	order, t := exchange[reply](k, method, f)
	switch {
	case t != nil && t.code == codeDuplicate:
		return k.unknown(t.cause) // there was a request with this reference before
	case t != nil && judgeCode(t.code).outcome == payment.Refused:
		return k.failed(t)
	case t != nil:
		return k.refuse(payment.Unavailable, t.cause+" (the card was not handed in)")
	case order.OrderID == "":
		return k.refuse(payment.Unavailable, k.words("an answer without an orderId (the card was not handed in)"))
	}
	k.order = string(order.OrderID)

	holder := card.Holder
	if holder == "" {
		holder = "CARDHOLDER"
	}
	f = form{}.with("MDORDER", k.order).with("$PAN", card.Number).with("$CVC", card.CVC).
		with("YYYY", "20"+card.Expiry[:2]).with("MM", card.Expiry[2:]).with("TEXT", holder).with("language", language).
		with("threeDSVer2FinishUrl", k.c.cfg.FinishURL(k.q.Payment)).
		with("threeDSMethodNotificationUrl", k.c.cfg.MethodNotificationURL(k.q.Payment))
	if email := k.q.Attempt.Email; email != "" && len(email) <= maxEmail {
		f = f.with("email", email)
	}
	paid, t := exchange[reply](k, "paymentorder.do", f)
	switch {
	case t != nil && t.code == 0:
		return k.failed(t)
	case t != nil:
		return k.outcome(t)
	}
	k.secure = string(paid.ServerTransID)
	switch {
	case k.secure != "" && paid.MethodURL != "":
		return k.step(payment.StepMethod, paid.MethodURL, paid.MethodData)
	case paid.ACSURL != "":
		return k.challenge(paid)
	case k.secure != "":
		return k.authenticate() // the issuer has no method page
	}
	return k.outcome(nil)
}

// language is the payer's as ISO 639-1 has it: oz is Uzbek too, in another alphabet.
func language(l string) string {
	switch l {
	case "ru", "en":
		return l
	}
	return "uz"
}

// step sends the payer's browser to his bank.
func (k *call) step(step payment.Step, address, data text) payment.Answer {
	if k.secure == "" || !absolute(string(address)) || data == "" {
		return k.unknown(fmt.Sprintf("a %s without an id, an address or data for the payer's browser", step))
	}
	return payment.Answer{
		Outcome: payment.ChallengeGiven, Step: step, CentreID: k.secure, URL: string(address), Data: string(data),
		Centre: payment.Centre{Hold: k.order},
	}
}

func (k *call) challenge(r *reply) payment.Answer {
	if r.CReq == "" {
		// 3-D Secure 1 (acsUrl and paReq) ended in 2022. Without its end the order cannot be paid.
		return k.unknown("a challenge without packedCReq: the issuer offers a version of 3-D Secure that is not spoken here")
	}
	if r.ServerTransID != "" {
		k.secure = string(r.ServerTransID)
	}
	return k.step(payment.StepChallenge, r.ACSURL, r.CReq)
}

// waiting says that nothing is decided, and that the payer can bring it about.
func (k *call) waiting(cause string) payment.Answer {
	return payment.Answer{Outcome: payment.ChallengeGiven, CentreID: k.secure, Cause: cause, Centre: payment.Centre{Hold: k.order}}
}

// proceed goes on after the payer's browser came back from a step. That it came back is all that is known.
func (k *call) proceed() payment.Answer {
	challenge := k.q.Attempt.Challenge
	if k.order == "" || challenge == nil {
		return k.unknown("there is nothing to go on with: the payer was sent nowhere")
	}
	if challenge.Step == payment.StepMethod {
		return k.authenticate()
	}
	if k.secure == "" {
		return k.unknown("there is no name for what the payer came back from")
	}
	_, t := exchange[reply](k, "finish3dsVer2Payment.do", form{}.with("threeDSServerTransId", k.secure))
	switch {
	case t.undone():
		return k.waiting(t.cause) // as if he had not come back yet
	case t != nil && t.code == 0:
		return k.failed(t)
	}
	return k.outcome(t)
}

// authenticate has the issuer asked who the payer is: he says so, or wants to see him (3ds/continue.do).
func (k *call) authenticate() payment.Answer {
	r, t := exchange[reply](k, "3ds/continue.do", form{}.with("mdOrder", k.order))
	switch {
	case t.undone() && k.q.Operation.Ask == payment.Continue:
		return k.waiting(t.cause)
	case t.undone():
		return payment.Answer{Outcome: payment.Unknown, Cause: t.cause} // the card was handed in
	case t != nil && t.code == 0:
		return k.failed(t)
	case t == nil && r.ACSURL != "":
		return k.challenge(r)
	}
	return k.outcome(t)
}

// outcome asks how the order stands after a request about it that was answered, with t or without.
func (k *call) outcome(t *trouble) payment.Answer {
	s, lost := k.status()
	if lost != nil {
		if t != nil {
			lost = t
		}
		return payment.Answer{Outcome: payment.Unknown, Cause: lost.cause}
	}
	a := k.judgeOrder(s)
	switch {
	case a.Outcome == payment.Approved || a.Outcome == payment.Refused:
		return a
	case k.q.Operation.Ask == payment.Continue && a.Outcome == payment.ChallengeGiven:
		if t != nil {
			a.Cause = t.cause
		}
		return a
	case t != nil:
		return k.failed(t)
	case a.Outcome == payment.ChallengeGiven:
		return k.unknown("the payment was taken, and nothing is decided")
	}
	return a
}

// change asks for something to be done to the order, and then how it stands.
func (k *call) change(method string, f form, judge func(*status) payment.Answer) payment.Answer {
	if k.order == "" {
		return k.refuse(payment.Unsupported, "this needs the order")
	}
	if k.q.Operation.Asks > 1 {
		s, t := k.status()
		if t != nil {
			return payment.Answer{Outcome: payment.Unknown, Cause: t.cause}
		}
		if a := judge(s); a.Outcome != payment.NeverSeen {
			return a
		}
	}
	_, t := exchange[reply](k, method, f.with("orderId", k.order))
	if t != nil && t.code == 0 {
		return k.failed(t)
	}
	s, lost := k.status()
	if lost == nil {
		if a := judge(s); a.Outcome == payment.Approved || a.Outcome == payment.Refused {
			return a
		} else if t == nil {
			return payment.Answer{Outcome: payment.Unknown, Cause: "accepted, but " + a.Cause}
		}
	}
	if t == nil {
		t = lost
		t.unsent, t.busy, t.code = false, false, 0 // it is about the question, and not about what was asked for
	}
	return k.failed(t)
}

// find asks what became of the operation.
func (k *call) find(judge func(*status) payment.Answer) payment.Answer {
	if k.order == "" && !k.ordering() {
		return k.unknown("the order is not known")
	}
	s, t := k.status()
	switch {
	case t != nil && t.code == codeNotFound && k.order != "":
		// It has named the order before. Whichever of its two words is wrong, this one proves nothing.
		return k.unknown("no such order, and it was " + k.order)
	case t != nil && t.code == codeNotFound:
		return k.neverSeen("no such order")
	case t != nil:
		return payment.Answer{Outcome: payment.Unknown, Cause: t.cause}
	}
	return judge(s)
}

// ordering reports whether the operation is the order itself.
func (k *call) ordering() bool {
	return k.q.Operation.Kind == payment.OpHold || k.q.Operation.Kind == payment.OpCharge
}

// status asks how the order stands, by our name for it where it has one and by the gateway's otherwise.
// Without trouble the answer is about our order and its currency, and orderStatus is set.
func (k *call) status() (*status, *trouble) {
	f := form{}.with("orderId", k.order)
	if k.ordering() {
		f = form{}.with("orderNumber", k.q.Operation.Ref)
	}
	s, t := exchange[status](k, "getOrderStatusExtended.do", f)
	if t != nil {
		return nil, t
	}
	say := ""
	currency := k.q.Operation.Amount.Currency.Numeric()
	switch name, of := s.mdOrder(), named(s.Params, "payment"); {
	case k.ordering() && string(s.OrderNumber) != k.q.Operation.Ref:
		say = fmt.Sprintf("the answer is about order %q", s.OrderNumber)
	case k.order != "" && name != "" && name != k.order:
		say = fmt.Sprintf("the answer is about %q, asked was about %s", name, k.order)
	case of != "" && of != k.q.Payment.String():
		say = "the answer is about another payment"
	case !k.ordering() && name == "" && of == "":
		say = "the answer does not say which order it is about"
	case !s.OrderStatus.Set:
		say = "no orderStatus"
	case s.Currency != "" && string(s.Currency) != currency:
		say = fmt.Sprintf("asked for currency %s, answered %q", currency, s.Currency)
	default:
		if k.order == "" {
			k.order = name
		}
		return s, nil
	}
	return nil, &trouble{cause: k.words(say)}
}

// The states of an order (orderStatus).
const (
	orderRegistered = 0
	orderHeld       = 1
	orderDeposited  = 2
	orderReversed   = 3
	orderRefunded   = 4
	orderAtBank     = 5
	orderDeclined   = 6
	orderPending    = 7
	orderPartly     = 8 // deposited in part, and the rest is held still
)

// judgeOrder says what a status proves about a hold or charge.
func (k *call) judgeOrder(s *status) payment.Answer {
	asked, state, action := k.q.Operation.Amount.Minor, s.OrderStatus.N, s.ActionCode.N
	say := fmt.Sprintf("orderStatus %d, actionCode %d %s", state, action, k.theirs(s.ActionWords))
	if s.Amount.Set && s.Amount.N != asked {
		return k.unknown(fmt.Sprintf("asked for %d, the order is of %d", asked, s.Amount.N))
	}
	moved, made := s.PaymentAmount.Approved, int64(orderHeld)
	if k.q.Operation.Kind == payment.OpCharge {
		moved, made = s.PaymentAmount.Deposited, orderDeposited
	}
	switch {
	case state == made && !moved.Set:
		return k.unknown(say + ": it does not say which sum")
	case state == made && moved.N != asked:
		return k.unknown(fmt.Sprintf("asked for %d, answered %d", asked, moved.N))
	case state == made && !s.Amount.Set:
		return k.unknown(say + ": it does not say of which sum the order is")
	case state == made && k.order == "":
		return k.unknown(say + ": it does not say what the order is called")
	case state == made:
		return payment.Answer{
			Outcome: payment.Approved, Amount: k.q.Operation.Amount,
			Centre: payment.Centre{
				Hold: k.order, RRN: string(s.AuthRefNum), Approval: string(s.CardAuthInfo.ApprovalCode), Terminal: string(s.TerminalID),
			},
		}
	case state == orderReversed:
		// It was made, and the payer has his money back: for the payment that is no hold.
		return k.refused(payment.HoldGone, say)
	case state == orderDeclined, (state == orderRegistered || state == orderAtBank) && action == actionExpired:
		return k.refused(judgeAction(action), say)
	case state == orderPending, action == actionHostTimeout, action == actionPending:
		return k.unknown(say)
	case state == orderRegistered, state == orderAtBank:
		return k.waiting(k.words(say))
	}
	return k.unknown(say)
}

// judgeCapture says what a status proves about a deposit of our sum.
func (k *call) judgeCapture(s *status) payment.Answer {
	asked, state, deposited := k.q.Operation.Amount.Minor, s.OrderStatus.N, s.PaymentAmount.Deposited
	say := fmt.Sprintf("orderStatus %d, deposited %d", state, deposited.N)
	switch {
	case state == orderReversed:
		return k.refused(payment.HoldGone, say)
	case !deposited.Set:
		return k.unknown(fmt.Sprintf("orderStatus %d, and it does not say how much was deposited", state))
	case state == orderHeld && deposited.N == 0:
		return k.neverSeen(say)
	case (state == orderDeposited || state == orderPartly) && deposited.N == asked:
		a := payment.Answer{
			Outcome: payment.Approved, Amount: k.q.Operation.Amount,
			Centre: payment.Centre{Hold: k.order, RRN: string(s.AuthRefNum), Approval: string(s.CardAuthInfo.ApprovalCode), Terminal: string(s.TerminalID)},
		}
		if state == orderPartly {
			a.Cause = k.words("the rest of the hold is not given back until it lapses: the merchant is set up there for several deposits")
		}
		return a
	}
	return k.unknown(fmt.Sprintf("asked for %d; %s", asked, say))
}

// judgeVoid says what a status proves about the reversal of the whole hold.
func (k *call) judgeVoid(s *status) payment.Answer {
	asked, state := k.q.Operation.Amount.Minor, s.OrderStatus.N
	say := fmt.Sprintf("orderStatus %d", state)
	if s.Amount.Set && s.Amount.N != asked {
		return k.unknown(fmt.Sprintf("asked for %d, the order is of %d", asked, s.Amount.N))
	}
	switch state {
	case orderHeld:
		return k.neverSeen(say)
	case orderReversed:
		return payment.Answer{Outcome: payment.Approved, Centre: payment.Centre{Hold: k.order}}
	case orderDeposited, orderRefunded, orderPartly:
		// Not payment.HoldGone: that would say that the payer has his money back.
		return k.refused(payment.AlreadyCaptured, say)
	}
	return k.unknown(say)
}

// judgeRefund says what a status proves about the refund with our reference.
func (k *call) judgeRefund(s *status) payment.Answer {
	op := &k.q.Operation
	listed := int64(0)
	var ours []gift
	unnamed := false // one of our sum may be ours: not every version shows our references
	for _, g := range s.Refunds {
		if string(g.ExternalID) == op.Ref {
			ours = append(ours, g)
		}
		unnamed = unnamed || g.ExternalID == "" && g.Amount.N == op.Amount.Minor && g.ActionCode.N == 0
		if g.ActionCode.N == 0 {
			listed += g.Amount.N
		}
	}
	deposited, refunded := s.PaymentAmount.Deposited, s.PaymentAmount.Refunded
	say := fmt.Sprintf("orderStatus %d, deposited %d, refunded %d", s.OrderStatus.N, deposited.N, refunded.N)
	switch {
	case len(ours) > 1:
		return k.unknown(fmt.Sprintf("%d refunds under one reference", len(ours)))
	case len(ours) == 1 && !ours[0].ActionCode.Set:
		return k.unknown("the refund is listed, and whether it was made is not")
	case len(ours) == 1 && ours[0].ActionCode.N != 0:
		return k.unknown(fmt.Sprintf("the refund has actionCode %d", ours[0].ActionCode.N))
	case len(ours) == 1 && (!ours[0].Amount.Set || ours[0].Amount.N != op.Amount.Minor):
		return k.unknown(fmt.Sprintf("asked for %d, the refund is of %d", op.Amount.Minor, ours[0].Amount.N))
	case len(ours) == 1:
		// Its reference number is no name for the payment, whose Centre is about the money taken.
		return payment.Answer{Outcome: payment.Approved, Amount: op.Amount, Cause: k.words("refund " + string(ours[0].Reference))}
	case unnamed:
		return k.unknown(say + ", and a refund of this sum has no reference: it may be this one")
	case !refunded.Set || !deposited.Set || refunded.N != listed:
		return k.unknown(say + ", and it does not list what was refunded")
	case s.OrderStatus.N != orderDeposited && s.OrderStatus.N != orderRefunded && s.OrderStatus.N != orderPartly:
		return k.unknown(say)
	case deposited.N < op.Amount.Minor && !k.early():
		return k.refused(payment.RefundAmount, fmt.Sprintf("asked for %d; %s", op.Amount.Minor, say))
	}
	return k.neverSeen(say)
}
