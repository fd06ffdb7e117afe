package sim

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"weak"
)

// RBS is the acquirer's gateway for Visa and Mastercard: the e-commerce REST of BPC as its public documentation has it
// (docs/processors.md §3.4), at POST /rbs/rest/X.do, forms in and JSON out. The directory and the issuer's ACS are in acs.go.
// Where the documentation is silent or leaves a choice to the bank, this simulator has decided [infer]:
//
//   - HTTP status is 200 whatever errorCode says. errorCode is a number; register.do says none if all is well. 1 is a
//     repeated orderNumber, 3 an unknown currency, 4 a field that is missing, 5 a field that is wrong, wrong credentials
//     and a wrong sum, 6 an order that nobody knows, 7 a wrong state and, with the same number, a failed system: after a
//     7 only getOrderStatusExtended.do knows. errorCode 0 from a payment call says nothing about the payment.
//   - jsonParams is a JSON object of strings, and comes back as merchantOrderParams.
//   - A field that comes twice is an error (5). Credentials in the address are not looked at.
//   - An order is paid by one attempt. paymentorder.do with the same card again, and 3ds/continue.do again, answer what
//     they did before, as long as the challenge has not begun, or is still open; once the order is decided they answer 7.
//     A second paymentorder.do with threeDSServerTransId is the same as 3ds/continue.do.
//   - The sum is held (register.do: charged) by finish3dsVer2Payment.do, and only if the ACS has told the directory (RReq)
//     that the payer passed. Called while the challenge is open it answers 7 and changes nothing: a browser that comes
//     back with a forged cres gains nothing and loses nothing. Called again after the decision it answers the same again.
//   - orderStatus is 0 until the challenge is asked for, then 5. A lapsed hold shows 3, as a reversed one. After a refund,
//     however small, it is 4; depositedAmount is then what is left of the deposits, refundedAmount what went back.
//   - deposit.do takes one sum, and the rest of the hold is free; or several ones with Config.SeveralDeposits (orderStatus
//     8 meanwhile; amount 0 takes the rest). reverse.do gives a hold back whole, before any deposit.
//   - refund.do with an externalRefundId that the order has seen moves nothing and answers as the first time. Without one,
//     equal refunds are as many refunds. amount 0 gives back all that is left.
//   - Sessions end by the clock: action code -2007, callback declinedByTimeout. Holds lapse after Config.RBSHold, silently.
//   - 3-D Secure's refusals are -2022 (could not be performed: U), -2023 (refused in the ARes: N, R), -2024 (RReq: N).
//   - Cards have no currency: a minor unit is a minor unit. 860, 840, 643 and 978 are taken.
//   - Callbacks go to dynamicCallbackUrl, else to Config.CallbackURL, else nowhere: approved, deposited, reversed, refunded
//     (status 1; 0 if the payment was refused) and declinedByTimeout. What is not answered 200 comes again, 3 times in all.

// The error codes of RBS.
const (
	rbsDuplicate = 1
	rbsCurrency  = 3
	rbsMissing   = 4
	rbsWrong     = 5
	rbsUnknown   = 6
	rbsSystem    = 7 // also: the order is in another state
)

var rbsMessages = map[int]string{
	0: "Success", rbsDuplicate: "Order number is duplicated, order with given order number is processed already", rbsCurrency: "Unknown currency",
	rbsMissing: "A required parameter is missing", rbsWrong: "Access denied", rbsUnknown: "Order not found", rbsSystem: "System error",
}

// Action codes of the gateway itself; those of the issuers are in actionMessages.
const (
	rbsNoAttempt     = -100
	rbsHostTimeout   = -1
	rbsSessionOver   = -2007
	rbsNo3DS         = -2022
	rbsARes          = -2023
	rbsRReq          = -2024
	rbsPending       = -30001
	actCVC           = 126
	actIssuerDown    = 907
	rbsTerminalID    = "20260001"
	undecidedTime    = 2 * time.Minute
	defaultSession   = 20 * time.Minute
	maxSession       = 30 * 24 * time.Hour
	maxRBSBody       = 64 << 10
	maxFields        = 64
	maxOrders        = 1 << 20
	maxRefunds       = 1000 // of one order
	maxURL           = 512
	maxCallbackTries = 3
	maxCallbacks     = 1000 // waiting at a time; more are not sent
	callbackTime     = 5 * time.Second
)

var rbsActionMessages = map[int]string{
	0: "", rbsNoAttempt: "No payment attempts", rbsHostTimeout: "Issuer timed out", rbsSessionOver: "Payment session has expired",
	rbsNo3DS: "3-D Secure authentication could not be performed", rbsARes: "3-D Secure authentication was declined by the issuer",
	rbsRReq: "Client authentication failed", rbsPending: "Operation is pending",
}

var rbsCurrencies = []string{"860", "840", "643", "978"}

// uuid is an order's mdOrder, or an id of 3-D Secure.
type uuid [16]byte

func (u uuid) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// newUUID is a fresh random one (version 4).
func (s *Sim) newUUID() uuid {
	var u uuid
	binary.LittleEndian.PutUint64(u[:8], s.random.Uint64())
	binary.LittleEndian.PutUint64(u[8:], s.random.Uint64())
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u
}

// parseUUID reads what String writes; anything else is no id of ours.
func parseUUID(text string) (u uuid, ok bool) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != len(u) {
		return u, false
	}
	copy(u[:], b)
	return u, u.String() == text
}

// stage is how far an order's one attempt has come.
type stage uint8

const (
	registered stage = iota
	atMethod         // the card is known, the method page may be shown
	atChallenge
	undecided // the issuer does not answer
	authorised
	refused
)

// order is a payment at the acquirer's gateway. Guarded by Sim.mu.
type order struct {
	id                              uuid // mdOrder
	number                          string
	returnURL, failURL, callbackURL string
	description, ip                 string
	language, currency              string
	params                          []rbsAttribute // jsonParams
	amount                          int64
	atMillis, endMillis             int64 // registered; the session ends
	authMillis, decideMillis        int64 // authorised; the issuer will have answered
	card                            *account
	secure                          *authentication
	captures, refunds               []uint32 // numbers of their records
	operation                       uint32   // number of the hold or charge plus one, 0 if there is none
	actionCode                      int
	stage                           stage
	twoStage, wrongExpiry, wrongCVC bool
	eci                             int8 // -1 until authentication has told
	ares                            byte // transStatus of the ARes, 0 if there was none
}

// orders is the gateway's memory. Guarded by Sim.mu.
type orders struct {
	all      []*order
	byNumber map[string]uint32
	byUUID   map[uuid]uint32 // by mdOrder, threeDSServerTransID and acsTransID
	ends     dues            // sessions, and issuers that will have answered
	outbox   []callback      // caused by the call in hand
	alarm    *time.Timer
}

// orderBy finds an order by one of its ids; which says by which.
func (s *Sim) orderBy(text string, which func(*order) uuid) *order {
	u, ok := parseUUID(text)
	if !ok {
		return nil
	}
	n, ok := s.orders.byUUID[u]
	if !ok || which(s.orders.all[n]) != u {
		return nil
	}
	return s.orders.all[n]
}

func mdOrder(o *order) uuid { return o.id }

func serverTransID(o *order) uuid {
	if o.secure == nil {
		return uuid{}
	}
	return o.secure.serverID
}

// rbsCall is a call being served.
type rbsCall struct {
	fields url.Values
	bad    refusal // the first thing that is wrong with the fields
	base   string  // where this simulator can be reached, without a slash at the end
	fault  string
}

func (c *rbsCall) fail(code int, detail string) {
	if c.bad.code == 0 {
		c.bad = refusal{code, detail}
	}
}

// text reads a field of least to most characters.
func (c *rbsCall) text(name string, least, most int) string {
	v := c.fields.Get(name)
	switch n := utf8.RuneCountInString(v); {
	case n == 0 && least > 0:
		c.fail(rbsMissing, name+" is missing")
	case n < least || n > most:
		c.fail(rbsWrong, fmt.Sprintf("%s must have %d to %d characters", name, least, most))
	case !utf8.ValidString(v):
		c.fail(rbsWrong, name+" is not in UTF-8")
	}
	return v
}

// sum reads an amount of minor units of at most 12 digits. An absent one is 0.
func (c *rbsCall) sum(name string) int64 {
	v := c.text(name, 0, 12)
	if !digits([]byte(v)) {
		c.fail(rbsWrong, name+" must be a whole number of minor units")
		return 0
	}
	return decimal([]byte(v))
}

// address reads an absolute URL.
func (c *rbsCall) address(name string, least int) string {
	v := c.text(name, least, maxURL)
	if v == "" {
		return ""
	}
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		c.fail(rbsWrong, name+" must be an absolute address")
	}
	return v
}

// rbsWork is what each call does, under Sim.mu; nil is an answer that is nothing but errorCode 0.
var rbsWork = map[string]struct {
	method string
	work   func(*Sim, *rbsCall, time.Time) (any, refusal)
}{
	"registerPreAuth.do":        {"rbs.register", (*Sim).rbsRegisterPreAuth},
	"register.do":               {"rbs.register", (*Sim).rbsRegister},
	"paymentorder.do":           {"rbs.paymentorder", (*Sim).rbsPaymentOrder},
	"3ds/continue.do":           {"rbs.continue", (*Sim).rbsContinue},
	"finish3dsVer2Payment.do":   {"rbs.finish", (*Sim).rbsFinish},
	"getOrderStatusExtended.do": {"rbs.status", (*Sim).rbsStatus},
	"deposit.do":                {"rbs.deposit", (*Sim).rbsDeposit},
	"reverse.do":                {"rbs.reverse", (*Sim).rbsReverse},
	"refund.do":                 {"rbs.refund", (*Sim).rbsRefund},
}

// rbsResult is every answer but the status. Which fields there are depends on the call.
type rbsResult struct {
	OrderID                 string `json:"orderId,omitempty"`
	FormURL                 string `json:"formUrl,omitempty"`
	Redirect                string `json:"redirect,omitempty"`
	Info                    string `json:"info,omitempty"`
	Error                   string `json:"error,omitempty"`
	ErrorCode               any    `json:"errorCode,omitempty"` // an int or a string
	Is3DSVer2               bool   `json:"is3DSVer2,omitempty"`
	ErrorTypeName           string `json:"errorTypeName,omitempty"`
	ProcessingErrorType     string `json:"processingErrorType,omitempty"`
	ErrorMessage            string `json:"errorMessage,omitempty"`
	ACSURL                  string `json:"acsUrl,omitempty"`
	PackedCReq              string `json:"packedCReq,omitempty"`
	ThreeDSServerTransID    string `json:"threeDSServerTransId,omitempty"`
	ThreeDSMethodURL        string `json:"threeDSMethodURL,omitempty"`
	ThreeDSMethodURLServer  string `json:"threeDSMethodURLServer,omitempty"`
	ThreeDSMethodDataPacked string `json:"threeDSMethodDataPacked,omitempty"`
}

// errorCode is a code in the form that a fault, if any, has chosen.
func (c *rbsCall) errorCode(code int) any {
	switch {
	case c.fault == "errorCode_string":
		return strconv.Itoa(code)
	case c.fault == "errorCode_absent" && code == 0:
		return nil
	}
	return code
}

// serveRBS is the endpoint of all calls.
func (s *Sim) serveRBS(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "POST only", http.StatusMethodNotAllowed)
		return
	}
	served, known := rbsWork[r.PathValue("call")]
	if !known {
		http.NotFound(w, r)
		return
	}
	if mediaType(r) != "application/x-www-form-urlencoded" {
		http.Error(w, "Content-Type must be application/x-www-form-urlencoded", http.StatusUnsupportedMediaType)
		return
	}
	body, ok := s.readBody(w, r, maxRBSBody)
	if !ok {
		return
	}
	c := &rbsCall{base: s.baseURL(r)}
	c.fields, c.bad = parseForm(string(body))
	fault, answer, sent := s.rbs(served.method, served.work, c)
	s.logFault(served.method, fault)
	// Otherwise callbacks start after the answer; this one comes before, and only its repeats after.
	sent = slices.DeleteFunc(sent, func(cb callback) bool { return cb.fault == "callback_early" && s.callBack(cb, 1) })
	s.deliver(w, r, fault, reply{http.StatusOK, jsonType, answer})
	for _, cb := range sent {
		s.post(cb)
	}
}

// parseForm reads a form, each field of which comes once.
func parseForm(body string) (url.Values, refusal) {
	fields, err := url.ParseQuery(body)
	switch {
	case err != nil:
		return url.Values{}, refusal{rbsWrong, "the form cannot be read"}
	case len(fields) > maxFields:
		return url.Values{}, refusal{rbsWrong, "too many fields"}
	}
	for name, values := range fields {
		if len(values) > 1 && name != "features" {
			return fields, refusal{rbsWrong, name + " comes twice"}
		}
	}
	return fields, refusal{}
}

// rbs does a call, or leaves it undone if a fault says so, and writes the answer. sent are the callbacks that it caused.
func (s *Sim) rbs(method string, work func(*Sim, *rbsCall, time.Time) (any, refusal), c *rbsCall) (fault Fault, answer []byte, sent []callback) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	fault, kind := s.takeFault(method, s.cardOfRBS(c))
	c.fault = fault.Name
	var result any
	bad := c.bad
	switch {
	case fault.Name == "not_found_once":
		bad = refusal{rbsUnknown, ""}
	case fault.Name == "error_code":
		bad = refusal{fault.Code, ""}
	case fault.Name == "system_error_not_done":
		bad = refusal{rbsSystem, ""}
	case kind != nil && kind.notDone:
	case bad.code != 0:
	case !s.rbsAdmits(c):
		bad = refusal{rbsWrong, ""}
	default:
		result, bad = work(s, c, now)
		if bad.code == 0 && fault.Name == "system_error" {
			bad = refusal{rbsSystem, ""}
		}
	}
	sent, s.orders.outbox = s.orders.outbox, nil
	switch {
	case bad.code != 0:
		message, known := rbsMessages[bad.code]
		if !known {
			message = "Error"
		}
		if bad.detail != "" {
			message = bad.detail
		}
		result = rbsResult{ErrorCode: c.errorCode(bad.code), ErrorMessage: message}
	case result == nil:
		result = rbsResult{ErrorCode: c.errorCode(0), ErrorMessage: rbsMessages[0]}
	}
	answer, err := json.Marshal(result)
	if err != nil {
		s.log.Error("cannot encode an answer", "error", err)
	}
	return fault, answer, sent
}

// rbsAdmits checks the credentials: userName and password, or token.
func (s *Sim) rbsAdmits(c *rbsCall) bool {
	same := func(name, want string) bool {
		return subtle.ConstantTimeCompare([]byte(c.fields.Get(name)), []byte(want)) == 1
	}
	if c.fields.Has("token") {
		return !c.fields.Has("userName") && !c.fields.Has("password") && same("token", s.rbsToken)
	}
	user, password := same("userName", s.rbsLogin), same("password", s.rbsPassword)
	return user && password
}

// cardOfRBS finds the card that a call is about, for faults that are meant for one card; nil if it names none.
func (s *Sim) cardOfRBS(c *rbsCall) *account {
	if a := s.byPAN[c.fields.Get("$PAN")]; a != nil {
		return a
	}
	if o := s.orderOf(c); o != nil {
		return o.card
	}
	return nil
}

// orderOf finds the order that a call names in any way.
func (s *Sim) orderOf(c *rbsCall) *order {
	for _, name := range []string{"orderId", "mdOrder", "MDORDER"} {
		if id := c.fields.Get(name); id != "" {
			return s.orderBy(id, mdOrder)
		}
	}
	for _, name := range []string{"threeDSServerTransId", "threeDSServerTransID"} {
		if id := c.fields.Get(name); id != "" {
			return s.orderBy(id, serverTransID)
		}
	}
	if n, ok := s.orders.byNumber[c.fields.Get("orderNumber")]; ok {
		return s.orders.all[n]
	}
	return nil
}

// baseURL is where browsers reach this simulator: as set, or as the caller did.
func (s *Sim) baseURL(r *http.Request) string {
	if s.base != "" {
		return s.base
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

func (s *Sim) rbsRegisterPreAuth(c *rbsCall, now time.Time) (any, refusal) {
	return s.register(c, now, true)
}

func (s *Sim) rbsRegister(c *rbsCall, now time.Time) (any, refusal) { return s.register(c, now, false) }

// register serves registerPreAuth.do and register.do.
func (s *Sim) register(c *rbsCall, now time.Time, twoStage bool) (any, refusal) {
	o := &order{
		number: c.text("orderNumber", 1, 36), amount: c.sum("amount"), currency: c.text("currency", 0, 3),
		returnURL: c.address("returnUrl", 1), failURL: c.address("failUrl", 0), callbackURL: c.address("dynamicCallbackUrl", 0),
		description: c.text("description", 0, 598), language: c.text("language", 0, 2), ip: c.text("ip", 0, 39),
		twoStage: twoStage, actionCode: rbsNoAttempt, eci: -1, atMillis: now.UnixMilli(),
	}
	c.text("clientId", 0, 255)
	c.text("email", 0, 40)
	if params := c.text("jsonParams", 0, 4096); params != "" {
		v, why := parse([]byte(params))
		if why != "" || v.kind != object {
			c.fail(rbsWrong, "jsonParams must be a JSON object")
		}
		for _, m := range v.members {
			if m.value.kind != text {
				c.fail(rbsWrong, "jsonParams must be strings")
			}
			o.params = append(o.params, rbsAttribute{string(m.name), string(m.value.text)})
		}
	}
	session := defaultSession
	if text := c.text("sessionTimeoutSecs", 0, 9); text != "" {
		if !digits([]byte(text)) || decimal([]byte(text)) == 0 || time.Duration(decimal([]byte(text)))*time.Second > maxSession {
			c.fail(rbsWrong, "sessionTimeoutSecs must be 1 to 2592000")
		}
		session = time.Duration(decimal([]byte(text))) * time.Second
	}
	if text := c.text("expirationDate", 0, 19); text != "" {
		until, err := time.ParseInLocation("2006-01-02T15:04:05", text, tashkent)
		if session = until.Sub(now); err != nil || session <= 0 || session > maxSession {
			c.fail(rbsWrong, "expirationDate must be yyyy-MM-ddTHH:mm:ss in the future")
		}
	}
	if o.currency == "" {
		o.currency = currencyUZS
	}
	switch {
	case c.bad.code != 0:
		return nil, c.bad
	case o.amount == 0:
		return nil, refusal{rbsWrong, "amount must be above 0"}
	case !slices.Contains(rbsCurrencies, o.currency):
		return nil, refusal{rbsCurrency, ""}
	}
	if _, taken := s.orders.byNumber[o.number]; taken {
		return nil, refusal{rbsDuplicate, ""}
	}
	if len(s.orders.all) >= maxOrders {
		return nil, refusal{rbsSystem, "the simulator knows too many orders; reset it"}
	}
	if o.failURL == "" {
		o.failURL = o.returnURL
	}
	if o.language == "" {
		o.language = "en"
	}
	o.id = s.newUUID()
	o.endMillis = o.atMillis + session.Milliseconds()
	n := uint32(len(s.orders.all))
	s.orders.all = append(s.orders.all, o)
	s.orders.byNumber[o.number] = n
	s.orders.byUUID[o.id] = n
	s.remind(due{o.endMillis, n}, now)
	result := rbsResult{OrderID: o.id.String(), FormURL: c.base + "/rbs/payment?mdOrder=" + o.id.String()}
	if c.fault == "errorCode_string" {
		result.ErrorCode = "0"
	}
	return result, refusal{}
}

// remind makes the gateway look at an order when something is due, also if nobody calls by then.
func (s *Sim) remind(d due, now time.Time) {
	s.orders.ends.push(d)
	wait := time.UnixMilli(s.orders.ends[0].atMillis).Sub(now)
	if s.orders.alarm == nil {
		// The timer alone must not keep a simulator in memory that everybody else has forgotten, as a test's.
		forgettable := weak.Make(s)
		s.orders.alarm = time.AfterFunc(wait, func() {
			if s := forgettable.Value(); s != nil {
				s.wake()
			}
		})
		return
	}
	s.orders.alarm.Reset(wait)
}

// wake looks at what is due, and sets the alarm for what is due next.
func (s *Sim) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	if len(s.orders.ends) > 0 && s.orders.alarm != nil {
		// A clock that stands still, or has been set back, is asked again in a while.
		s.orders.alarm.Reset(max(time.UnixMilli(s.orders.ends[0].atMillis).Sub(now), time.Second))
	}
}

// endDue ends the sessions whose time is over, and lets issuers answer. Each call does it first.
func (s *Sim) endDue(now time.Time) {
	millis := now.UnixMilli()
	for len(s.orders.ends) > 0 && s.orders.ends[0].atMillis <= millis {
		o := s.orders.all[s.orders.ends.pop().n]
		switch {
		case o.stage == undecided && o.decideMillis <= millis:
			s.decide(o, now)
		case o.stage < undecided && o.endMillis <= millis:
			o.stage, o.actionCode = refused, rbsSessionOver
			s.announce(o, "declinedByTimeout", true, o.amount)
		}
	}
	// Nobody's call has caused these.
	for _, cb := range s.orders.outbox {
		s.post(cb)
	}
	s.orders.outbox = nil
}

// rbsPaymentOrder serves paymentorder.do: the card is entered. With threeDSServerTransId it goes on instead.
func (s *Sim) rbsPaymentOrder(c *rbsCall, now time.Time) (any, refusal) {
	id := c.text("MDORDER", 1, 36)
	pan := c.text("$PAN", 1, 19)
	cvc := c.text("$CVC", 3, 3)
	expiry := c.text("$EXPIRY", 0, 6)
	if expiry == "" {
		expiry = c.text("YYYY", 4, 4) + c.text("MM", 2, 2)
	}
	c.text("TEXT", 1, 512)
	c.text("language", 0, 2)
	ip := c.text("ip", 0, 39)
	c.text("email", 0, 40)
	c.text("phone", 0, 16)
	if browser := c.text("clientBrowserInfo", 0, 8192); browser != "" && !json.Valid([]byte(browser)) {
		c.fail(rbsWrong, "clientBrowserInfo must be JSON")
	}
	finishURL := c.address("threeDSVer2FinishUrl", 0)
	notifyURL := c.address("threeDSMethodNotificationUrl", 0)
	again := c.text("threeDSServerTransId", 0, 36) + c.text("threeDSServerTransID", 0, 36)
	switch {
	case c.bad.code != 0:
		return nil, c.bad
	case len(pan) < 13 || !digits([]byte(pan)) || !validLuhn(pan):
		return nil, refusal{rbsWrong, "$PAN must be 13 to 19 digits, the last one right by Luhn"}
	case !digits([]byte(cvc)):
		return nil, refusal{rbsWrong, "$CVC must be 3 digits"}
	case len(expiry) != 6 || !digits([]byte(expiry)) || expiry[4:] < "01" || expiry[4:] > "12":
		return nil, refusal{rbsWrong, "the expiry must be a year of 4 digits and a month of 2"}
	}
	o := s.orderBy(id, mdOrder)
	if o == nil {
		return nil, refusal{rbsUnknown, ""}
	}
	a := s.byPAN[pan]
	if again != "" {
		if again != serverTransID(o).String() || o.card != a {
			return nil, refusal{rbsUnknown, "threeDSServerTransId is not of this order and card"}
		}
		return s.proceed(c, o, now)
	}
	if o.stage > atMethod || o.stage == atMethod && o.card != a {
		return nil, refusal{rbsSystem, "Payment must be in the correct state"}
	}
	if ip != "" {
		o.ip = ip
	}
	if a == nil || a.scheme != visa && a.scheme != mastercard {
		s.decline(o, actNumber)
		return s.outcome(c, o, "CLIENT_ERROR"), refusal{}
	}
	if o.stage == registered {
		o.card = a
		o.wrongExpiry, o.wrongCVC = expiry != "20"+a.exp, cvc != a.cvc
		o.stage = atMethod
		switch {
		case a.behaviour.secure == notEnrolled || a.expired(now):
			o.eci = eci(a, 7)
			s.authorise(o, now)
			return s.outcome(c, o, "CLIENT_ERROR"), refusal{}
		}
		s.begin3DS(o, finishURL, notifyURL, c.base)
	}
	t := o.secure
	result := rbsResult{
		ErrorCode: c.errorCode(0), Is3DSVer2: true, ThreeDSServerTransID: t.serverID.String(),
		ThreeDSMethodURLServer: c.base + "/rbs/3ds/gather?threeDSServerTransID=" + t.serverID.String(),
	}
	if o.card.behaviour.secure != methodless {
		result.ThreeDSMethodURL = c.base + "/acs/method"
		result.ThreeDSMethodDataPacked = packed(methodData{NotificationURL: t.notifyURL, ServerTransID: t.serverID.String()})
	}
	return result, refusal{}
}

// eci is a scheme's number for what authentication has proven: Visa's 5 all, 6 an attempt, 7 nothing.
func eci(a *account, visas int8) int8 {
	if a.scheme == mastercard {
		return 7 - visas
	}
	return visas
}

func (s *Sim) rbsContinue(c *rbsCall, now time.Time) (any, refusal) {
	id := c.text("mdOrder", 1, 36)
	if c.bad.code != 0 {
		return nil, c.bad
	}
	o := s.orderBy(id, mdOrder)
	if o == nil {
		return nil, refusal{rbsUnknown, ""}
	}
	return s.proceed(c, o, now)
}

// proceed asks the issuer, through the directory, who the payer is (AReq), and goes on as it answers (ARes).
func (s *Sim) proceed(c *rbsCall, o *order, now time.Time) (any, refusal) {
	switch o.stage {
	case atMethod:
	case atChallenge:
		return s.challenge(c, o), refusal{}
	default:
		return nil, refusal{rbsSystem, "Payment must be in the correct state"}
	}
	switch o.card.behaviour.secure {
	case frictionless:
		o.ares, o.eci = 'Y', eci(o.card, 5)
		s.authorise(o, now)
	case attempted:
		o.ares, o.eci = 'A', eci(o.card, 6)
		s.authorise(o, now)
	case unavailable:
		o.ares, o.eci = 'U', eci(o.card, 7)
		if !s.acceptUnavailable {
			s.decline(o, rbsNo3DS)
			break
		}
		s.authorise(o, now)
	case rejected, unauthenticated:
		o.ares = 'R'
		if o.card.behaviour.secure == unauthenticated {
			o.ares = 'N'
		}
		s.decline(o, rbsARes)
	default:
		o.ares = 'C'
		o.stage = atChallenge
		return s.challenge(c, o), refusal{}
	}
	return s.outcome(c, o, "MANDATORY_3DSECURE"), refusal{}
}

// challenge is the answer that sends the payer's browser to the ACS.
func (s *Sim) challenge(c *rbsCall, o *order) rbsResult {
	return rbsResult{
		Info: "Your order is proceeded, redirecting...", ErrorCode: c.errorCode(0), Is3DSVer2: true, ACSURL: c.base + "/acs/challenge",
		PackedCReq: packed(creq{
			ServerTransID: o.secure.serverID.String(), ACSTransID: o.secure.acsID.String(), Type: "CReq", Version: threeDSVersion, Window: "05",
		}),
	}
}

// outcome is the answer of a payment call once the order is decided, or left to the issuer: where to send the payer. It is
// no proof of anything.
func (s *Sim) outcome(c *rbsCall, o *order, processing string) rbsResult {
	back := func(address string) string {
		u, err := url.Parse(address)
		if err != nil { // register has parsed it
			return address
		}
		q := u.Query()
		q.Set("orderId", o.id.String())
		q.Set("lang", o.language)
		u.RawQuery = q.Encode()
		return u.String()
	}
	if o.stage != refused {
		return rbsResult{
			Redirect: back(o.returnURL), Info: "Your payment has been processed, redirecting...", ErrorCode: c.errorCode(0), Is3DSVer2: o.secure != nil,
		}
	}
	text, kind := "Operation declined. Please check the data and available balance of the account.", "DATA_INPUT_ERROR"
	if o.actionCode == rbsNo3DS || o.actionCode == rbsARes || o.actionCode == rbsRReq {
		text, kind = "Error 3-D Secure authorization.", "TDS_UNKNOWN_ARES_STATUS"
	} else {
		processing = "CLIENT_ERROR"
	}
	return rbsResult{
		Redirect: back(o.failURL), Error: text, ErrorCode: c.errorCode(0), Is3DSVer2: o.secure != nil,
		ErrorTypeName: kind, ProcessingErrorType: processing, ErrorMessage: text,
	}
}

// rbsFinish serves finish3dsVer2Payment.do: the payer is said to be back; what counts is what the ACS has told.
func (s *Sim) rbsFinish(c *rbsCall, now time.Time) (any, refusal) {
	id := c.text("threeDSServerTransId", 1, 36)
	if c.bad.code != 0 {
		return nil, c.bad
	}
	o := s.orderBy(id, serverTransID)
	if o == nil {
		return nil, refusal{rbsUnknown, ""}
	}
	switch {
	case o.stage < atChallenge || o.stage == atChallenge && o.secure.result == 0:
		return nil, refusal{rbsSystem, "3-D Secure authentication is not finished"}
	case o.stage == atChallenge && o.secure.result == 'Y':
		o.eci = eci(o.card, 5)
		s.authorise(o, now)
	case o.stage == atChallenge:
		s.decline(o, rbsRReq)
	}
	return s.outcome(c, o, "MANDATORY_3DSECURE"), refusal{}
}

// taking is what a payment of this order is called when it succeeds.
func (o *order) taking() string {
	if o.twoStage {
		return "approved"
	}
	return "deposited"
}

// decline ends an order unpaid.
func (s *Sim) decline(o *order, actionCode int) {
	o.stage, o.actionCode = refused, actionCode
	s.announce(o, o.taking(), false, o.amount)
}

// authorise asks the issuer for the money.
func (s *Sim) authorise(o *order, now time.Time) {
	b := o.card.behaviour
	if b.undecided != 0 {
		o.stage, o.actionCode = undecided, rbsPending
		if b.undecided == silentThenHeld {
			o.actionCode = rbsHostTimeout
		}
		o.decideMillis = now.Add(undecidedTime).UnixMilli()
		s.remind(due{o.decideMillis, s.orders.byUUID[o.id]}, now)
		return
	}
	s.decide(o, now)
}

// decide is the issuer's answer: the money is held (or charged), or not.
func (s *Sim) decide(o *order, now time.Time) {
	a := o.card
	b := a.behaviour
	amount := o.amount
	if b.partial {
		amount -= amount / 2
	}
	place, known := s.place(merchantTerminal{merchantID: s.rbsLogin, terminalID: rbsTerminalID, centre: atRBS})
	code := 0
	switch {
	case b.undecided == pendingThenDeclined:
		code = actIssuerDown
	case a.expired(now) || o.wrongExpiry:
		code = actExpired
	case o.wrongCVC:
		code = actCVC
	case b.at == atHold && b.code != 0:
		code = b.code
	case a.available() < amount:
		code = actFunds
	case s.full() || !known:
		code = actSystem
	}
	if code != 0 {
		s.decline(o, code)
		return
	}
	if o.twoStage {
		o.operation = 1 + s.reserve(a, record{centre: atRBS, ext: o.number, amount: amount, minutes: s.rbsHold, terminal: place, date12: date12(now)}, now)
	} else {
		o.operation = 1 + s.chargeAt(atRBS, a, amount, o.number, place, now)
		o.captures = append(o.captures, o.operation-1)
	}
	o.stage, o.actionCode, o.authMillis = authorised, 0, now.UnixMilli()
	s.announce(o, o.taking(), true, amount)
}

// sums is what has been approved, taken and given back of an order.
func (s *Sim) sums(o *order) (approved, taken, refunded int64) {
	if o.operation == 0 {
		return 0, 0, 0
	}
	for _, n := range o.captures {
		r := s.record(n)
		taken += r.amount
		refunded += r.part
	}
	return s.record(o.operation - 1).amount, taken, refunded
}

// orderStatus is how an order stands (§3.4).
func (s *Sim) orderStatus(o *order) (status int, state string) {
	switch o.stage {
	case registered, atMethod:
		return 0, "CREATED"
	case atChallenge:
		return 5, "CREATED"
	case undecided:
		if o.actionCode == rbsHostTimeout {
			return 0, "CREATED"
		}
		return 7, "CREATED"
	case refused:
		return 6, "DECLINED"
	}
	_, taken, refunded := s.sums(o)
	live := s.record(o.operation-1).state == stateHeld
	switch {
	case refunded > 0:
		return 4, "REFUNDED"
	case live && taken > 0:
		return 8, "DEPOSITED"
	case live:
		return 1, "APPROVED"
	case taken > 0:
		return 2, "DEPOSITED"
	}
	return 3, "REVERSED"
}

// rbsStatusResult is the answer of getOrderStatusExtended.do; the blocks of a newer "version" than 30 are left out.
type rbsStatusResult struct {
	ErrorCode             any             `json:"errorCode,omitempty"`
	ErrorMessage          string          `json:"errorMessage"`
	OrderNumber           string          `json:"orderNumber"`
	OrderStatus           int             `json:"orderStatus"`
	ActionCode            int             `json:"actionCode"`
	ActionCodeDescription string          `json:"actionCodeDescription"`
	Amount                int64           `json:"amount"`
	Currency              string          `json:"currency"`
	Date                  int64           `json:"date"`
	OrderDescription      string          `json:"orderDescription,omitempty"`
	IP                    string          `json:"ip"`
	MerchantOrderParams   []rbsAttribute  `json:"merchantOrderParams"`
	TransactionAttributes []rbsAttribute  `json:"transactionAttributes"`
	Attributes            []rbsAttribute  `json:"attributes"`
	CardAuthInfo          *rbsCard        `json:"cardAuthInfo,omitempty"`
	AuthDateTime          int64           `json:"authDateTime,omitempty"`
	TerminalID            string          `json:"terminalId,omitempty"`
	AuthRefNum            string          `json:"authRefNum,omitempty"`
	DepositedDate         int64           `json:"depositedDate,omitempty"`
	RefundedDate          int64           `json:"refundedDate,omitempty"`
	ReversedDate          int64           `json:"reversedDate,omitempty"`
	PaymentAmountInfo     rbsAmounts      `json:"paymentAmountInfo"`
	BankInfo              *rbsBank        `json:"bankInfo,omitempty"`
	Refunds               []rbsRefundInfo `json:"refunds,omitempty"`
}

type rbsAttribute struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type rbsCard struct {
	MaskedPAN      string         `json:"maskedPan"`
	Expiration     string         `json:"expiration"`
	CardholderName string         `json:"cardholderName"`
	ApprovalCode   string         `json:"approvalCode,omitempty"`
	PaymentSystem  string         `json:"paymentSystem"`
	Product        string         `json:"product"`
	SecureAuthInfo *rbsSecureInfo `json:"secureAuthInfo,omitempty"`
}

type rbsSecureInfo struct {
	ECI             *int8     `json:"eci,omitempty"`
	ThreeDSInfo     *rbsProof `json:"threeDSInfo,omitempty"`
	ARes            string    `json:"aResTransStatus,omitempty"`
	RReq            string    `json:"rReqTransStatus,omitempty"`
	ProtocolVersion string    `json:"threeDSProtocolVersion,omitempty"`
}

type rbsProof struct {
	CAVV string `json:"cavv"`
	XID  string `json:"xid"`
}

type rbsAmounts struct {
	PaymentState    string `json:"paymentState"`
	ApprovedAmount  int64  `json:"approvedAmount"`
	DepositedAmount int64  `json:"depositedAmount"`
	RefundedAmount  int64  `json:"refundedAmount"`
	TotalAmount     int64  `json:"totalAmount"`
}

type rbsBank struct {
	BankName        string `json:"bankName"`
	BankCountryCode string `json:"bankCountryCode"`
	BankCountryName string `json:"bankCountryName"`
}

type rbsRefundInfo struct {
	ExternalRefundID string `json:"externalRefundId,omitempty"`
	ApprovalCode     string `json:"approvalCode"`
	ActionCode       int    `json:"actionCode"`
	ReferenceNumber  string `json:"referenceNumber"`
	Amount           int64  `json:"amount"`
}

// rbsStatus serves getOrderStatusExtended.do, by orderId or orderNumber; the first has priority.
func (s *Sim) rbsStatus(c *rbsCall, _ time.Time) (any, refusal) {
	o, bad := s.namedOrder(c)
	if bad.code != 0 {
		return nil, bad
	}
	extra := int64(0)
	if c.fault == "wrong_amount" {
		extra = 100
	}
	status, state := s.orderStatus(o)
	approved, taken, refunded := s.sums(o)
	result := rbsStatusResult{
		ErrorCode: c.errorCode(0), ErrorMessage: rbsMessages[0], OrderNumber: o.number, OrderStatus: status, ActionCode: o.actionCode,
		ActionCodeDescription: rbsActionMessages[o.actionCode], Amount: o.amount + extra, Currency: o.currency, Date: o.atMillis,
		OrderDescription: o.description, IP: o.ip, MerchantOrderParams: append([]rbsAttribute{}, o.params...), TransactionAttributes: []rbsAttribute{},
		Attributes:        []rbsAttribute{{"mdOrder", o.id.String()}},
		PaymentAmountInfo: rbsAmounts{PaymentState: state, RefundedAmount: refunded, TotalAmount: o.amount + extra},
	}
	if c.fault == "wrong_id" {
		other := o.id
		other[0]++
		result.OrderNumber, result.Attributes[0].Value, result.MerchantOrderParams = o.number+"-1", other.String(), []rbsAttribute{}
	}
	if o.actionCode > 0 {
		result.ActionCodeDescription = actionMessage(o.actionCode)
	}
	if approved > 0 {
		result.PaymentAmountInfo.ApprovedAmount = approved + extra
	}
	if taken > 0 {
		result.PaymentAmountInfo.DepositedAmount = taken - refunded + extra
	}
	if o.card != nil {
		result.CardAuthInfo = o.cardInfo()
		result.BankInfo = &rbsBank{"HOLDFAST TEST BANK", "UZ", "Uzbekistan"}
	}
	if o.operation != 0 {
		result.CardAuthInfo.ApprovalCode = approval(o.operation - 1)
		result.AuthDateTime, result.TerminalID, result.AuthRefNum = o.authMillis, rbsTerminalID, s.refNum(o.operation-1)
		if h := s.record(o.operation - 1); state == "REVERSED" && h.stan != 0 {
			result.ReversedDate = s.record(h.stan - 1).atMillis
		}
	}
	if n := len(o.captures); n > 0 {
		result.DepositedDate = s.record(o.captures[n-1]).atMillis
	}
	for _, n := range o.refunds {
		r := s.record(n)
		result.RefundedDate = r.atMillis
		result.Refunds = append(result.Refunds, rbsRefundInfo{r.ext, approval(n), 0, s.refNum(n), r.amount})
	}
	return result, refusal{}
}

// cardInfo is what the gateway shows of the card and its authentication.
func (o *order) cardInfo() *rbsCard {
	info := &rbsCard{
		MaskedPAN: o.card.pan[:6] + "**" + o.card.pan[len(o.card.pan)-4:], Expiration: "20" + o.card.exp, CardholderName: o.card.holder,
		PaymentSystem: strings.ToUpper(o.card.scheme),
	}
	if o.stage < undecided && o.ares == 0 {
		return info
	}
	secure := &rbsSecureInfo{}
	if o.eci >= 0 {
		secure.ECI = &o.eci
	}
	if t := o.secure; t != nil {
		secure.ProtocolVersion = threeDSVersion
		if o.ares != 0 {
			secure.ARes = string(rune(o.ares))
		}
		if t.result != 0 {
			secure.RReq = string(rune(t.result))
		}
		if o.ares == 'Y' || o.ares == 'A' || t.result == 'Y' {
			secure.ThreeDSInfo = &rbsProof{
				CAVV: base64.StdEncoding.EncodeToString(append(t.acsID[:], t.serverID[:4]...)),
				XID:  base64.StdEncoding.EncodeToString(append(t.serverID[:], t.acsID[:4]...)),
			}
		}
	}
	info.SecureAuthInfo = secure
	return info
}

// namedOrder finds the order of a call by orderId, or else by orderNumber.
func (s *Sim) namedOrder(c *rbsCall) (*order, refusal) {
	id, number := c.text("orderId", 0, 36), c.text("orderNumber", 0, 36)
	if id == "" && number == "" {
		c.fail(rbsMissing, "orderId or orderNumber is missing")
	}
	if c.bad.code != 0 {
		return nil, c.bad
	}
	var o *order
	if id != "" {
		o = s.orderBy(id, mdOrder)
	} else if n, ok := s.orders.byNumber[number]; ok {
		o = s.orders.all[n]
	}
	if o == nil {
		return nil, refusal{rbsUnknown, ""}
	}
	return o, refusal{}
}

// rbsDeposit serves deposit.do: amount, or all if that is 0, is taken.
func (s *Sim) rbsDeposit(c *rbsCall, now time.Time) (any, refusal) {
	amount := c.sum("amount")
	o, bad := s.namedOrder(c)
	if bad.code != 0 {
		return nil, bad
	}
	if !c.fields.Has("amount") {
		return nil, refusal{rbsMissing, "amount is missing"}
	}
	if o.stage != authorised || !o.twoStage || s.record(o.operation-1).state != stateHeld {
		return nil, refusal{rbsSystem, "Payment must be in the correct state"}
	}
	h := s.record(o.operation - 1)
	rest := h.amount - h.part
	if amount == 0 {
		amount = rest
	}
	if amount > rest {
		return nil, refusal{rbsWrong, "Deposit amount exceeds the approved amount"}
	}
	code, done := o.card.misbehaves(atCapture)
	switch {
	case code != 0 && !done:
		return nil, refusal{code, ""}
	case s.full():
		return nil, refusal{rbsSystem, "the simulator's books are full; reset it"}
	}
	n := s.take(o.operation-1, record{
		amount: amount, stan: stanOf(s.count), date12: date12(now), minutes: uint32(len(o.captures) + 1),
	}, !s.severalDeposits || amount == rest, now)
	o.captures = append(o.captures, n)
	s.announce(o, "deposited", true, amount)
	return nil, refusal{code, ""}
}

// rbsReverse serves reverse.do: all of the hold is free again.
func (s *Sim) rbsReverse(c *rbsCall, now time.Time) (any, refusal) {
	amount := c.sum("amount")
	o, bad := s.namedOrder(c)
	if bad.code != 0 {
		return nil, bad
	}
	if o.stage != authorised || !o.twoStage || s.record(o.operation-1).state != stateHeld || len(o.captures) > 0 {
		return nil, refusal{rbsSystem, "Reversal is impossible for current transaction state"}
	}
	if h := s.record(o.operation - 1); amount != 0 && amount != h.amount {
		return nil, refusal{rbsWrong, "Only the whole sum can be reversed"}
	}
	code, done := o.card.misbehaves(atVoid)
	switch {
	case code != 0 && !done:
		return nil, refusal{code, ""}
	case s.full():
		return nil, refusal{rbsSystem, "the simulator's books are full; reset it"}
	}
	s.release(o.operation-1, kindVoid, now.UnixMilli())
	s.announce(o, "reversed", true, s.record(o.operation-1).amount)
	return nil, refusal{code, ""}
}

// rbsRefund serves refund.do: amount, or all that is left if that is 0, goes back.
func (s *Sim) rbsRefund(c *rbsCall, now time.Time) (any, refusal) {
	amount := c.sum("amount")
	external := c.text("externalRefundId", 0, 32)
	expected := c.sum("expectedDepositedAmount")
	o, bad := s.namedOrder(c)
	if bad.code != 0 {
		return nil, bad
	}
	if !c.fields.Has("amount") {
		return nil, refusal{rbsMissing, "amount is missing"}
	}
	for _, n := range o.refunds {
		if external != "" && s.record(n).ext == external {
			return nil, refusal{} // it was done, and is done once
		}
	}
	_, taken, refunded := s.sums(o)
	left := taken - refunded
	switch {
	case taken == 0:
		return nil, refusal{rbsSystem, "Payment must be in the correct state"}
	case c.fields.Has("expectedDepositedAmount") && expected != left:
		return nil, refusal{rbsWrong, "expectedDepositedAmount is not the deposited amount"}
	case amount == 0:
		amount = left
	}
	if left == 0 || amount > left {
		return nil, refusal{rbsSystem, "Refund amount exceeds deposited amount"}
	}
	code, done := o.card.misbehaves(atRefund)
	switch {
	case code != 0 && !done:
		return nil, refusal{code, ""}
	case s.full() || len(o.refunds) >= maxRefunds:
		return nil, refusal{rbsSystem, "the simulator's books are full; reset it"}
	}
	// Deposits are given back in their order. A refund that needs more than one of them is as many operations.
	rest, reference, parts := amount, external, 1
	for i := 0; rest > 0; i++ {
		r := s.record(o.captures[i])
		part := min(rest, r.amount-r.part)
		if part == 0 {
			continue
		}
		o.refunds = append(o.refunds, s.refund(o.captures[i], part, reference, now))
		if rest -= part; external != "" {
			parts++
			reference = fmt.Sprintf("%s#%d", external, parts)
		}
	}
	s.announce(o, "refunded", true, amount)
	return nil, refusal{code, ""}
}

// callback is one notification to the shop's gateway.
type callback struct {
	life    context.Context // ends with a reset
	address string
	params  map[string]string // checksum and sign_alias included
	fault   string
	mdOrder string // for the log
}

// announce puts a callback into the outbox, if anybody is to be called. The caller holds mu.
func (s *Sim) announce(o *order, operation string, success bool, amount int64) {
	address := o.callbackURL
	if address == "" {
		address = s.callbackURL
	}
	if address == "" {
		return
	}
	fault, _ := s.takeFault(rbsCallback, o.card)
	s.logFault(rbsCallback, fault)
	if fault.Name == "callback_lost" {
		return
	}
	if fault.Name == "wrong_amount" {
		amount += 100
	}
	status := map[bool]string{true: "1", false: "0"}
	params := map[string]string{
		"mdOrder": o.id.String(), "orderNumber": o.number, "operation": operation, "status": status[success], "amount": strconv.FormatInt(amount, 10),
		"callbackCreationDate": s.now().Add(s.offset).In(tashkent).Format("Mon Jan 02 15:04:05 UZT 2006"),
	}
	params["checksum"] = checksum(params, s.callbackKey)
	params["sign_alias"] = "holdfast-hmac"
	if fault.Name == "callback_forged" {
		params["status"] = status[!success]
	}
	s.orders.outbox = append(s.orders.outbox, callback{s.life, address, params, fault.Name, o.id.String()})
}

// checksum signs a callback (§3.4): HMAC-SHA256 over "name;value;" in the order of the names, in upper-case hex.
func checksum(params map[string]string, key []byte) string {
	mac := hmac.New(sha256.New, key)
	for _, name := range slices.Sorted(maps.Keys(params)) {
		mac.Write([]byte(name + ";" + params[name] + ";"))
	}
	return strings.ToUpper(hex.EncodeToString(mac.Sum(nil)))
}

// post sends a callback in its own time; nobody waits for it.
func (s *Sim) post(cb callback) {
	if s.waiting.Add(1) > maxCallbacks {
		s.waiting.Add(-1)
		s.log.Warn("callback dropped: too many are waiting", "mdOrder", cb.mdOrder)
		return
	}
	wait := time.Duration(0)
	if cb.fault == "callback_late" {
		wait = s.slowAnswer
	}
	var try func(n int)
	try = func(n int) {
		done := s.callBack(cb, n)
		if !done && n < maxCallbackTries && cb.life.Err() == nil {
			time.AfterFunc(s.callbackRepeat, func() { try(n + 1) })
			return
		}
		if done && cb.fault == "callback_twice" {
			s.callBack(cb, n+1)
		}
		s.waiting.Add(-1)
	}
	time.AfterFunc(wait, func() { try(1) })
}

// callBack sends a callback once and tells whether it was acknowledged.
func (s *Sim) callBack(cb callback, n int) bool {
	ctx, stop := context.WithTimeout(cb.life, callbackTime)
	defer stop()
	form := url.Values{}
	for name, v := range cb.params {
		form.Set(name, v)
	}
	var r *http.Request
	var err error
	if s.callbackMethod == http.MethodPost {
		r, err = http.NewRequestWithContext(ctx, http.MethodPost, cb.address, strings.NewReader(form.Encode()))
		if err == nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
	} else {
		r, err = http.NewRequestWithContext(ctx, http.MethodGet, cb.address, nil)
		if err == nil {
			query := r.URL.Query()
			maps.Copy(query, form)
			r.URL.RawQuery = query.Encode()
		}
	}
	var response *http.Response
	if err == nil {
		response, err = s.client.Do(r)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(response.Body, maxRBSBody))
		err = errors.Join(err, response.Body.Close())
		if response.StatusCode == http.StatusOK {
			return true
		}
		err = errors.Join(err, fmt.Errorf("HTTP %d", response.StatusCode))
	}
	s.log.Info("callback not acknowledged", "mdOrder", cb.mdOrder, "operation", cb.params["operation"], "try", n, "error", err)
	return false
}
