package sim

import (
	"bytes"
	"crypto/subtle"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Humo's centre has two fronts: PaymentServer, SOAP 1.1 over HTTP with Basic credentials (POST /humo), and a middleware in
// JSON with a bearer token (POST /humo-middleware/…). Element and field names are those of docs/processors.md §2, seen in
// public client code; where that is silent, this simulator has decided [infer]:
//
//   - A Payment with confirmed is a confirmation, whatever else is in it. Another is a new payment, of the kind that
//     billerRef and payinstrRef both name: SOAP_DMS holds, SOAP_SMS charges at once, SOAP_RECO closes a terminal's day.
//   - paymentRef (1..64 characters) is the caller's and unique for ever: a second payment under it is a Fault with 913,
//     whatever has become of the first, and does nothing. GetPayment finds the first. A payment that was refused leaves
//     nothing behind: its paymentRef is free again, and GetPayment does not know it (914).
//   - paymentID is a number of this centre. Where both are given they must be the same payment's, else 904.
//   - Everything happens to a payment once: confirming one that is confirmed, cancelling one that is cancelled and
//     returning one that is returned is a Fault with 913 and moves nothing, whatever the sum. In any other wrong state the
//     Fault has 902; a payment that nobody knows has 914.
//   - A confirmation takes the whole hold, or the amount of its details if that is not more (else 110); the rest is free.
//   - ReturnPayment gives the whole payment back; an amount in it that is not the whole is a Fault with 110.
//   - GetPayment's status is 4 held, 10 completed, 20 cancelled, 21 lapsed, 30 returned; 4 and 10 are what the answers to
//     Payment call action. Its details show the sum as it stands: amount is what was confirmed, amount1a_original what was
//     held. As in the real answers, details repeat the card number in full: nobody should log them.
//   - Holds lapse after Config.HumoHold. Reconciliation counts a terminal's charges, captures and returns since the last.
//   - A document that is not one whole SOAP 1.1 Envelope around one element of urn:PaymentServer is a Fault of the caller
//     (SOAP-ENV:Client) without an action code. Faults have HTTP status 500, as SOAP 1.1 demands.
//   - The middleware answers HTTP 200 with result or error{code, message}, and echoes id. Amounts are tiyin.
//   - otp/send and otp/verify are this simulator's own invention, for gateways set up to let the centre send the code:
//     no public client shows a step for it. Codes of errors: the constants otpWrong and so on.

const (
	soapSpace  = "http://schemas.xmlsoap.org/soap/envelope/"
	humoSpace  = "urn:PaymentServer"
	soapOpen   = `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<SOAP-ENV:Envelope xmlns:SOAP-ENV="` + soapSpace + `" xmlns:ebppif1="` + humoSpace + `"><SOAP-ENV:Body>`
	soapClose  = `</SOAP-ENV:Body></SOAP-ENV:Envelope>` + "\n"
	humoBank   = "HUMO"
	humoRecoID = 2_000_000_000 // ids of reconciliations begin here, above all that hold ids can reach
)

// Limits of this centre.
const (
	maxHumoBody     = 64 << 10
	maxElements     = 256
	maxElementDepth = 8
	maxElementText  = 1024
	maxPaymentRef   = 64
	maxRecos        = 1024
	maxOTPTries     = 3
)

// Action codes (ISO 8583:1993) that this file answers by itself; actionMessages has all of them.
const (
	actMerchant   = 109
	actAmount     = 110
	actNumber     = 111
	actFunds      = 116
	actNoCard     = 118
	actExpired    = 101
	actState      = 902
	actFormat     = 904
	actSystem     = 909
	actDuplicate  = 913
	actNotTraced  = 914
	actionHeld    = 4
	actionDone    = 10
	humoCancelled = 20
	humoLapsed    = 21
	humoReturned  = 30
)

// Codes of the middleware beside the action codes.
const (
	otpWrong     = 601
	otpExpired   = 602
	otpUsed      = 603
	otpUnknown   = 604
	otpTries     = 605
	otpNoService = 606
	otpNotSent   = 607
)

var actionMessages = map[int]string{
	0: "Approved", 100: "Do not honour", 101: "Expired card", 102: "Suspected fraud", 104: "Restricted card", 106: "Allowable PIN tries exceeded",
	107: "Refer to card issuer", 108: "Refer to card issuer's special conditions", 109: "Invalid merchant", 110: "Invalid amount", 111: "Invalid card number",
	116: "Not sufficient funds", 118: "No card record", 119: "Transaction not permitted to cardholder", 120: "Transaction not permitted to terminal",
	121: "Exceeds withdrawal amount limit", 123: "Exceeds withdrawal frequency limit", 125: "Card not effective", 126: "Invalid card verification value",
	204: "Restricted card, pick up", 206: "Allowable PIN tries exceeded, pick up", 207: "Special conditions, pick up", 208: "Lost card, pick up", 209: "Stolen card, pick up",
	280: "Card blocked by bank", 281: "Card blocked by its holder", 902: "Invalid transaction", 904: "Format error",
	907: "Card issuer or switch inoperative", 908: "Transaction destination cannot be found", 909: "System malfunction", 910: "Card issuer signed off",
	911: "Card issuer timed out", 912: "Card issuer unavailable", 913: "Duplicate transmission", 914: "Not able to trace back to original transaction",
	otpWrong: "The code is wrong", otpExpired: "The code has expired", otpUsed: "The code was used", otpUnknown: "No such code was sent",
	otpTries: "Too many wrong codes", otpNoService: "The card has no SMS service", otpNotSent: "The SMS could not be sent",
}

func actionMessage(code int) string {
	if m, ok := actionMessages[code]; ok {
		return m
	}
	return "Declined"
}

// element is a piece of a parsed document.
type element struct {
	space, name string
	text        string
	children    []element
}

// child is the text of an element's child, without the white space around it; false if there is none.
func (e *element) child(name string) (string, bool) {
	for i := range e.children {
		if e.children[i].name == name {
			return e.children[i].text, true
		}
	}
	return "", false
}

// parseSOAP reads an envelope and gives the one element in its body; why says what is wrong with it, or is "".
func parseSOAP(body []byte) (payload element, why string) {
	if !utf8.Valid(body) {
		return element{}, "the document is not in UTF-8"
	}
	d := xml.NewDecoder(bytes.NewReader(body))
	var root element
	open := []*element{&root} // root is a place for the document element
	count := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return element{}, "the document is no whole XML: " + err.Error()
		}
		top := open[len(open)-1]
		switch t := token.(type) {
		case xml.StartElement:
			if count++; count > maxElements {
				return element{}, "the document has too many elements"
			}
			if len(open) > maxElementDepth {
				return element{}, "the document is nested too deep"
			}
			if t.Name.Local != "item" {
				if _, twice := top.child(t.Name.Local); twice {
					return element{}, t.Name.Local + " comes twice"
				}
			}
			top.children = append(top.children, element{space: t.Name.Space, name: t.Name.Local})
			open = append(open, &top.children[len(top.children)-1])
		case xml.EndElement:
			top.text = strings.TrimSpace(top.text)
			if top.text != "" && len(top.children) > 0 {
				return element{}, "text stands between the elements of " + top.name
			}
			open = open[:len(open)-1]
		case xml.CharData:
			if top == &root && len(bytes.TrimSpace(t)) > 0 {
				return element{}, "text stands outside of the envelope"
			}
			if top.text += string(t); len(top.text) > maxElementText {
				return element{}, top.name + " is too long"
			}
		case xml.Directive:
			return element{}, "a document type is not allowed"
		}
	}
	// The decoder ends quietly at the end of what it was given only where nothing is open.
	if len(root.children) != 1 || root.children[0].name != "Envelope" || root.children[0].space != soapSpace {
		return element{}, "the document must be one Envelope of SOAP 1.1"
	}
	envelope := &root.children[0]
	for i, part := range envelope.children {
		if part.space != soapSpace || part.name != "Body" && (part.name != "Header" || i > 0) {
			return element{}, "the Envelope must have a Header or none, and a Body"
		}
	}
	if len(envelope.children) == 0 || envelope.children[len(envelope.children)-1].name != "Body" {
		return element{}, "the Envelope has no Body"
	}
	inside := envelope.children[len(envelope.children)-1].children
	if len(inside) != 1 {
		return element{}, "the Body must have one element"
	}
	payload = inside[0]
	if payload.space != humoSpace {
		return element{}, payload.name + " is not of the namespace " + humoSpace
	}
	if name := foreignElement(&payload); name != "" {
		return element{}, name + " is of a foreign namespace"
	}
	return payload, ""
}

// foreignElement finds an element that is neither of Humo's namespace nor of none.
func foreignElement(e *element) string {
	for i := range e.children {
		c := &e.children[i]
		if c.space != "" && c.space != humoSpace {
			return c.name
		}
		if name := foreignElement(c); name != "" {
			return name
		}
	}
	return ""
}

// humoMessage is a call of PaymentServer, read but not yet believed.
type humoMessage struct {
	method     string // as faults name it; "" if there is none such
	id         int64  // paymentID, 0 if absent
	ref        string // paymentRef
	session    string
	originator string
	billerRef  string
	details    map[string]string
	bad        refusal // the first thing that is wrong with it
}

func (m *humoMessage) fail(code int, detail string) {
	if m.bad.code == 0 {
		m.bad = refusal{code, detail}
	}
}

// field reads a child of at most most characters.
func (m *humoMessage) field(e *element, name string, most int) string {
	text, _ := e.child(name)
	if utf8.RuneCountInString(text) > most {
		m.fail(actFormat, fmt.Sprintf("%s must have at most %d characters", name, most))
	}
	return text
}

// detail reads an item of the details of least to most characters.
func (m *humoMessage) detail(name string, least, most int) string {
	text := m.details[name]
	if n := utf8.RuneCountInString(text); n < least || n > most {
		m.fail(actFormat, fmt.Sprintf("%s must have %d to %d characters", name, least, most))
	}
	return text
}

// amount reads a sum of tiyin above zero.
func (m *humoMessage) amount() int64 {
	text := m.detail("amount", 1, 18)
	if !digits([]byte(text)) || decimal([]byte(text)) == 0 {
		m.fail(actAmount, "amount must be a whole number of tiyin above 0")
		return 0
	}
	return decimal([]byte(text))
}

func readHumo(payload *element) humoMessage {
	m := humoMessage{details: map[string]string{}}
	m.billerRef = m.field(payload, "billerRef", 32)
	confirmed, confirms := payload.child("confirmed")
	switch payload.name {
	case "CancelRequest":
		m.method = "humo.cancel"
	case "ReturnPayment":
		m.method = "humo.return"
	case "GetPayment":
		m.method = "humo.get"
	case "Payment":
		switch {
		case confirms:
			m.method = "humo.confirm"
		case m.billerRef == "SOAP_DMS":
			m.method = "humo.hold"
		case m.billerRef == "SOAP_SMS":
			m.method = "humo.charge"
		case m.billerRef == "SOAP_RECO":
			m.method = "humo.reco"
		}
	}
	if m.method == "" {
		return m
	}
	if id, ok := payload.child("paymentID"); ok {
		n, err := strconv.ParseInt(id, 10, 64)
		if err != nil || n <= 0 {
			m.fail(actFormat, "paymentID must be a number")
		}
		m.id = n
	}
	m.ref = m.field(payload, "paymentRef", maxPaymentRef)
	m.session = m.field(payload, "sessionID", 64)
	m.originator = m.field(payload, "paymentOriginator", 64)
	m.field(payload, "language", 8)
	if confirms {
		finished, _ := payload.child("finished")
		if confirmed != "true" || finished != "true" {
			m.fail(actFormat, "confirmed and finished must be true")
		}
	} else if payload.name == "Payment" {
		if instrument, _ := payload.child("payinstrRef"); instrument != m.billerRef {
			m.fail(actFormat, "payinstrRef must be billerRef")
		}
		if m.id != 0 {
			m.fail(actFormat, "a new payment has no paymentID")
		}
	}
	// Payment has its items in details, ReturnPayment beside the rest.
	for i := range payload.children {
		c := &payload.children[i]
		switch c.name {
		case "item":
			m.item(c)
		case "details":
			for j := range c.children {
				if c.children[j].name != "item" {
					m.fail(actFormat, "details may have items only")
				}
				m.item(&c.children[j])
			}
		}
	}
	return m
}

func (m *humoMessage) item(e *element) {
	name, named := e.child("name")
	text, valued := e.child("value")
	if _, twice := m.details[name]; !named || !valued || name == "" || twice {
		m.fail(actFormat, "an item needs a name of its own and a value")
	}
	m.details[name] = text
}

// serveHumo is the endpoint of PaymentServer.
func (s *Sim) serveHumo(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "POST only", http.StatusMethodNotAllowed)
		return
	}
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(s.humoAuthorization)) != 1 {
		w.Header().Set("WWW-Authenticate", `Basic realm="PaymentServer"`)
		http.Error(w, "wrong credentials", http.StatusUnauthorized)
		return
	}
	if kind := mediaType(r); kind != "text/xml" && kind != "application/xml" {
		http.Error(w, "Content-Type must be text/xml", http.StatusUnsupportedMediaType)
		return
	}
	body, ok := s.readBody(w, r, maxHumoBody)
	if !ok {
		return
	}
	action, sent := r.Header["Soapaction"]
	var a reply
	var fault Fault
	payload, why := parseSOAP(body)
	switch {
	case !sent || action[0] != "" && action[0] != `""`:
		a = soapFault("Client", "the header SOAPAction must be there and empty", 0)
	case why != "":
		a = soapFault("Client", why, 0)
	default:
		m := readHumo(&payload)
		if m.method == "" {
			a = soapFault("Client", payload.name+" is not served", 0)
			break
		}
		fault, a = s.humo(&m)
		s.logFault(m.method, fault)
	}
	s.deliver(w, r, fault, a)
}

// soapFault is a refusal: HTTP 500 and, if code is not 0, that action code.
func soapFault(who, why string, code int) reply {
	b := bytes.NewBufferString(soapOpen + `<SOAP-ENV:Fault><faultcode>SOAP-ENV:` + who + `</faultcode><faultstring>`)
	escape(b, why)
	b.WriteString(`</faultstring>`)
	if code != 0 {
		fmt.Fprintf(b, `<detail><ebppif1:PaymentServerException><error>%03d</error></ebppif1:PaymentServerException></detail>`, code)
	}
	b.WriteString(`</SOAP-ENV:Fault>` + soapClose)
	return reply{http.StatusInternalServerError, xmlType, b.Bytes()}
}

var xmlType = []string{"text/xml; charset=utf-8"}

func escape(b *bytes.Buffer, text string) {
	xml.EscapeText(b, []byte(text)) // a buffer's Write never fails
}

// humo does a call, or leaves it undone if a fault says so, and writes the answer.
func (s *Sim) humo(m *humoMessage) (Fault, reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	fault, kind := s.takeFault(m.method, s.cardOfHumo(m))
	b := &humoAnswer{}
	b.WriteString(soapOpen)
	switch fault.Name {
	case "wrong_amount":
		b.amountError = 100
	case "wrong_id":
		b.idError = 1
	}
	var bad refusal
	switch {
	case fault.Name == "not_found_once":
		bad.code = actNotTraced
	case fault.Name == "error_code":
		bad.code = fault.Code
	case fault.Name == "system_error_not_done":
		bad.code = actSystem
	case kind != nil && kind.notDone:
	case m.bad.code != 0:
		bad = m.bad
	case m.originator != s.humoLogin:
		bad = refusal{actMerchant, "paymentOriginator must be the login"}
	default:
		bad = humoWork[m.method](s, m, now, b)
	}
	if bad.code == 0 && fault.Name == "system_error" {
		bad.code = actSystem
	}
	switch {
	case fault.Name == "soap_fault":
		return fault, soapFault("Server", "Internal error", 0)
	case bad.code != 0:
		text := actionMessage(bad.code)
		if bad.detail != "" {
			text += ": " + bad.detail
		}
		return fault, soapFault("Server", text, bad.code)
	}
	b.WriteString(soapClose)
	body := b.Bytes()
	if fault.Name == "wrong_namespace" {
		body = bytes.ReplaceAll(body, []byte(humoSpace), []byte(humoSpace+"2"))
	}
	return fault, reply{http.StatusOK, xmlType, body}
}

// humoWork is what each method does, under Sim.mu.
var humoWork = map[string]func(*Sim, *humoMessage, time.Time, *humoAnswer) refusal{
	"humo.hold":    (*Sim).humoPay,
	"humo.charge":  (*Sim).humoPay,
	"humo.confirm": (*Sim).humoConfirm,
	"humo.cancel":  (*Sim).humoCancel,
	"humo.return":  (*Sim).humoReturn,
	"humo.get":     (*Sim).humoGet,
	"humo.reco":    (*Sim).humoReco,
}

// humoAnswer is an answer being written, and the ways in which a fault bends it.
type humoAnswer struct {
	bytes.Buffer
	amountError int64
	idError     int64
}

func (b *humoAnswer) element(name, text string) {
	b.WriteString("<" + name + ">")
	escape(&b.Buffer, text)
	b.WriteString("</" + name + ">")
}

func (b *humoAnswer) item(name, text string) {
	b.WriteString("<item>")
	b.element("name", name)
	b.element("value", text)
	b.WriteString("</item>")
}

func (b *humoAnswer) names(id int64, ref string) {
	if b.idError != 0 && ref != "" {
		ref += "-1"
	}
	b.element("paymentID", strconv.FormatInt(id+b.idError, 10))
	b.element("paymentRef", ref)
}

// cardOfHumo finds the card that a call is about, for faults that are meant for one card; nil if it names none.
func (s *Sim) cardOfHumo(m *humoMessage) *account {
	if a := s.byPAN[m.details["pan"]]; a != nil {
		return a
	}
	if n, bad := s.humoFind(m); bad.code == 0 {
		return s.cards[s.record(n).card]
	}
	return nil
}

// humoFind finds the hold or charge that a message names by paymentID, paymentRef or both.
func (s *Sim) humoFind(m *humoMessage) (uint32, refusal) {
	if m.id == 0 && m.ref == "" {
		return 0, refusal{actFormat, "paymentID or paymentRef is missing"}
	}
	byID := uint32(0)
	if m.id != 0 {
		n := m.id - s.holdBase
		if n < 0 || n >= int64(s.count) {
			return 0, refusal{actNotTraced, ""}
		}
		byID = uint32(n)
		if r := s.record(byID); r.centre != atHumo || r.kind != kindHold && r.kind != kindCharge {
			return 0, refusal{actNotTraced, ""}
		}
		if m.ref == "" {
			return byID, refusal{}
		}
	}
	byRef, ok := s.byRef[m.ref]
	switch {
	case !ok:
		return 0, refusal{actNotTraced, ""}
	case m.id != 0 && byRef != byID:
		return 0, refusal{actFormat, "paymentID and paymentRef are of two payments"}
	}
	return byRef, refusal{}
}

// humoStatus is how a payment stands, and the record of its capture if it has one (or itself, for a charge).
func (s *Sim) humoStatus(n uint32) (status int, taken uint32) {
	r := s.record(n)
	taken = n
	if r.kind == kindHold {
		switch r.state {
		case stateHeld:
			return actionHeld, 0
		case stateDismissed:
			return humoCancelled, 0
		case stateLapsed:
			return humoLapsed, 0
		}
		taken = r.stan - 1
	}
	if s.record(taken).state == stateReversed {
		return humoReturned, taken
	}
	return actionDone, taken
}

// humoPay serves a new Payment: SOAP_DMS holds, SOAP_SMS charges at once.
func (s *Sim) humoPay(m *humoMessage, now time.Time, b *humoAnswer) refusal {
	pan := m.detail("pan", 1, 19)
	expiry := m.detail("expiry", 4, 4)
	currency := m.detail("ccy_code", 3, 3)
	amount := m.amount()
	place := merchantTerminal{
		merchantID: m.detail("merchant_id", 1, 16), terminalID: m.detail("terminal_id", 1, 16),
		pointCode: m.detail("point_code", 0, 32), centreID: m.detail("centre_id", 0, 32), centre: atHumo,
	}
	if m.ref == "" {
		m.fail(actFormat, "paymentRef is missing")
	}
	if m.bad.code != 0 {
		return m.bad
	}
	switch {
	case len(pan) != 16 || !digits([]byte(pan)) || !validLuhn(pan):
		return refusal{actNumber, "pan must be 16 digits, the last one right by Luhn"}
	case !digits([]byte(expiry)) || expiry[2:] < "01" || expiry[2:] > "12":
		return refusal{actFormat, "expiry must be YYMM"}
	case currency != currencyUZS:
		return refusal{actFormat, "ccy_code must be 860"}
	}
	// Before anything that could have changed since: a repeat is a repeat.
	if _, taken := s.byRef[m.ref]; taken {
		return refusal{actDuplicate, "paymentRef was used before"}
	}
	a := s.byPAN[pan]
	if a == nil || a.scheme != humo {
		return refusal{actNoCard, ""}
	}
	if a.exp != expiry || a.expired(now) {
		return refusal{actExpired, ""}
	}
	code, done := a.misbehaves(atHold)
	switch {
	case code != 0 && !done:
		return refusal{code, ""}
	case a.available() < amount:
		return refusal{actFunds, ""}
	case s.full():
		return refusal{actSystem, "the simulator's books are full; reset it"}
	}
	terminal, ok := s.place(place)
	if !ok {
		return refusal{actMerchant, "the simulator knows too many terminals; reset it"}
	}
	var n uint32
	action := actionHeld
	if m.method == "humo.hold" {
		n = s.reserve(a, record{
			centre: atHumo, ext: m.ref, amount: amount, minutes: s.humoHold, terminal: terminal, date12: date12(now),
		}, now)
	} else {
		n = s.chargeAt(atHumo, a, amount, m.ref, terminal, now)
		action = actionDone
	}
	s.humoPayment(m, n, action, b)
	return refusal{code, ""}
}

// humoPayment writes the answer to a Payment.
func (s *Sim) humoPayment(m *humoMessage, n uint32, action int, b *humoAnswer) {
	b.WriteString("<ebppif1:PaymentResponse>")
	if m.session != "" {
		b.element("sessionID", m.session)
	}
	b.names(s.holdID(n), s.record(n).ext)
	s.humoDetails(n, b)
	b.element("action", strconv.Itoa(action))
	b.WriteString("</ebppif1:PaymentResponse>")
}

// humoDetails writes what is known of a payment as a list of names and values (§2.3).
func (s *Sim) humoDetails(n uint32, b *humoAnswer) {
	r := s.record(n)
	a := s.cards[r.card]
	t := s.terminals[r.terminal]
	status, taken := s.humoStatus(n)
	final := n
	amount := r.amount
	if taken != 0 || r.kind == kindCharge {
		final, amount = taken, s.record(taken).amount
	}
	sum := strconv.FormatInt(amount+b.amountError, 10)
	date := func(r *record) string { return time.UnixMilli(r.atMillis).In(tashkent).Format("20060102150405") }
	b.WriteString("<details>")
	b.item("pan", a.pan)
	b.item("expiry", a.exp)
	b.item("ccy_code", currencyUZS)
	b.item("amount", sum)
	b.item("merchant_id", t.merchantID)
	b.item("terminal_id", t.terminalID)
	b.item("point_code", t.pointCode)
	b.item("centre_id", t.centreID)
	b.item("internal_pan_masked", masked(a.pan))
	b.item("transaction_amount", sum)
	b.item("cardholder_amount", sum)
	b.item("cardholder_ccy_code", currencyUZS)
	b.item("conversion_rate", "1")
	b.item("auth_action_code", "000")
	b.item("auth_appr_code", approval(final))
	b.item("auth_ref_number", s.refNum(final))
	b.item("auth_stan", fmt.Sprintf("%06d", stanOf(final)))
	b.item("auth_time", date(s.record(final)))
	b.item("card_type", humoBank)
	b.item("acq_inst", "HOLDFAST")
	if r.kind == kindHold {
		b.item("amount1a", sum)
		b.item("amount1a_original", strconv.FormatInt(r.amount, 10))
		b.item("auth_appr_code1a", approval(n))
		b.item("auth_stan1a", fmt.Sprintf("%06d", stanOf(n)))
		b.item("ret_ref_numb1a", s.refNum(n))
	}
	if status == actionDone || status == humoReturned {
		b.item("auth_action_code_final", "000")
		b.item("reconcile_info", date(s.record(final))[:8])
	}
	b.WriteString("</details>")
}

// approval is the authorisation code of an operation: six digits.
func approval(n uint32) string { return fmt.Sprintf("%06d", (int64(n)*7919+104_729)%1_000_000) }

// humoConfirm serves a Payment with confirmed: the second message of a payment, or of a reconciliation.
func (s *Sim) humoConfirm(m *humoMessage, now time.Time, b *humoAnswer) refusal {
	if reco := s.humoFindReco(m); reco != nil {
		return s.humoRecoConfirm(m, reco, b)
	}
	n, bad := s.humoFind(m)
	if bad.code != 0 {
		return bad
	}
	h := s.record(n)
	amount := h.amount
	if _, changed := m.details["amount"]; changed {
		if amount = m.amount(); m.bad.code != 0 {
			return m.bad
		}
	}
	switch status, _ := s.humoStatus(n); {
	case status == actionDone || status == humoReturned:
		return refusal{actDuplicate, "the payment is confirmed"}
	case status != actionHeld:
		return refusal{actState, "the payment is " + stateName[h.state]}
	case amount > h.amount:
		return refusal{actAmount, "amount is more than was held"}
	}
	code, done := s.cards[h.card].misbehaves(atCapture)
	switch {
	case code != 0 && !done:
		return refusal{code, ""}
	case s.full():
		return refusal{actSystem, "the simulator's books are full; reset it"}
	}
	s.capture(n, amount, "", stanOf(s.count), date12(now), now)
	s.humoPayment(m, n, actionDone, b)
	return refusal{code, ""}
}

// humoCancel serves CancelRequest: all of the hold is free again.
func (s *Sim) humoCancel(m *humoMessage, now time.Time, b *humoAnswer) refusal {
	n, bad := s.humoFind(m)
	if bad.code != 0 {
		return bad
	}
	switch status, _ := s.humoStatus(n); status {
	case actionHeld:
	case humoCancelled:
		return refusal{actDuplicate, "the payment is cancelled"}
	default:
		return refusal{actState, "the payment is not waiting for confirmation"}
	}
	code, done := s.cards[s.record(n).card].misbehaves(atVoid)
	switch {
	case code != 0 && !done:
		return refusal{code, ""}
	case s.full():
		return refusal{actSystem, "the simulator's books are full; reset it"}
	}
	s.release(n, kindVoid, now.UnixMilli())
	b.WriteString("<ebppif1:CancelRequestResponse/>")
	return refusal{code, ""}
}

// humoReturn serves ReturnPayment: the whole payment goes back.
func (s *Sim) humoReturn(m *humoMessage, now time.Time, b *humoAnswer) refusal {
	n, bad := s.humoFind(m)
	if bad.code != 0 {
		return bad
	}
	for _, name := range []string{"merchant_id", "terminal_id", "centre_id"} {
		m.detail(name, 1, 32)
	}
	if m.bad.code != 0 {
		return m.bad
	}
	r := s.record(n)
	if t := s.terminals[r.terminal]; t.merchantID != m.details["merchant_id"] || t.terminalID != m.details["terminal_id"] {
		return refusal{actMerchant, "the payment was made at another terminal"}
	}
	status, taken := s.humoStatus(n)
	switch status {
	case actionDone:
	case humoReturned:
		return refusal{actDuplicate, "the payment is returned"}
	default:
		return refusal{actState, "the payment is not completed"}
	}
	whole := s.record(taken).amount
	if _, given := m.details["amount"]; given && (m.amount() != whole || m.bad.code != 0) {
		return refusal{actAmount, "only the whole payment can be returned"}
	}
	code, done := s.cards[r.card].misbehaves(atRefund)
	switch {
	case code != 0 && !done:
		return refusal{code, ""}
	case s.full():
		return refusal{actSystem, "the simulator's books are full; reset it"}
	}
	s.refund(taken, whole, "", now)
	b.WriteString("<ebppif1:ReturnPaymentResponse/>")
	return refusal{code, ""}
}

func (s *Sim) humoGet(m *humoMessage, _ time.Time, b *humoAnswer) refusal {
	n, bad := s.humoFind(m)
	if bad.code != 0 {
		return bad
	}
	status, _ := s.humoStatus(n)
	b.WriteString("<ebppif1:GetPaymentResponse>")
	b.names(s.holdID(n), s.record(n).ext)
	b.element("status", strconv.Itoa(status))
	s.humoDetails(n, b)
	b.WriteString("</ebppif1:GetPaymentResponse>")
	return refusal{}
}

// reco is a terminal's closing of the day: made, then confirmed.
type reco struct {
	id         int64
	ref        string
	terminalID string
}

// humoReco serves a Payment with SOAP_RECO: it makes a reconciliation of one terminal, which a confirmation then does.
func (s *Sim) humoReco(m *humoMessage, _ time.Time, b *humoAnswer) refusal {
	terminalID := m.detail("terminal_id", 1, 16)
	if m.bad.code != 0 {
		return m.bad
	}
	if _, taken := s.byRef[m.ref]; taken || m.ref != "" && s.humoFindReco(m) != nil {
		return refusal{actDuplicate, "paymentRef was used before"}
	}
	if len(s.recos) >= maxRecos { // the oldest that nobody has confirmed is forgotten
		s.recos = slices.Delete(s.recos, 0, 1)
	}
	s.recoCount++
	c := reco{humoRecoID + s.recoCount, m.ref, terminalID}
	s.recos = append(s.recos, c)
	b.WriteString("<ebppif1:PaymentResponse>")
	b.names(c.id, c.ref)
	b.WriteString("<details>")
	b.item("terminal_id", terminalID)
	b.item("ttl", "300")
	b.item("ttl_action", "cancel")
	b.WriteString("</details>")
	b.element("action", strconv.Itoa(actionHeld))
	b.WriteString("</ebppif1:PaymentResponse>")
	return refusal{}
}

func (s *Sim) humoFindReco(m *humoMessage) *reco {
	for i := range s.recos {
		if c := &s.recos[i]; m.id != 0 && c.id == m.id || m.id == 0 && m.ref != "" && c.ref == m.ref {
			return c
		}
	}
	return nil
}

// humoRecoConfirm adds up what the terminal has done since its last reconciliation.
func (s *Sim) humoRecoConfirm(m *humoMessage, c *reco, b *humoAnswer) refusal {
	id, ref, terminalID := c.id, c.ref, c.terminalID
	var debits, credits, debited, credited int64
	for n := s.recoFrom[terminalID]; n < s.count; n++ {
		r := s.record(n)
		if r.centre != atHumo || s.terminals[r.terminal].terminalID != terminalID {
			continue
		}
		switch r.kind {
		case kindCharge, kindCapture:
			debits++
			debited += r.amount
		case kindRefund:
			credits++
			credited += r.amount
		}
	}
	s.recoFrom[terminalID] = s.count
	s.recos = slices.DeleteFunc(s.recos, func(other reco) bool { return other.id == id })
	b.WriteString("<ebppif1:PaymentResponse>")
	b.names(id, ref)
	b.WriteString("<details>")
	b.item("terminal_id", terminalID)
	b.item("debits_number", strconv.FormatInt(debits, 10))
	b.item("debits_amount", strconv.FormatInt(debited, 10))
	b.item("credits_reversal_number", strconv.FormatInt(credits, 10))
	b.item("credits_reversal_amount", strconv.FormatInt(credited, 10))
	b.item("reconcile_info", "500")
	b.WriteString("</details>")
	b.element("action", strconv.Itoa(actionDone))
	b.WriteString("</ebppif1:PaymentResponse>")
	return refusal{}
}

// serveMiddleware serves the JSON side of Humo; work answers with what stands behind "result".
func (s *Sim) serveMiddleware(method string, work func(*Sim, params, time.Time, *answer) refusal) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, ok := s.readJSONCall(w, r, s.humoToken)
		if !ok {
			return
		}
		v, why := parse(body)
		id := v.get("id")
		if why == "" && (v.kind != object || id.kind == object || id.kind == list || len(id.source) > maxID) {
			why = "the body must be an object with id and params"
		}
		idText := []byte("null")
		if why == "" && id.kind != absent {
			idText = id.source
		}
		out := answer{b: append(append([]byte(`{"id":`), idText...), `,"result":`...)}
		idEnd := len(`{"id":`) + len(idText)
		var bad refusal
		s.mu.Lock()
		now := s.clock()
		fault, kind := s.takeFault(method, s.cardOfMiddleware(v.get("params")))
		switch {
		case fault.Name == "error_code":
			bad.code = fault.Code
		case fault.Name == "system_error_not_done":
			bad.code = actSystem
		case kind != nil && kind.notDone:
		case why != "":
			bad = refusal{actFormat, why}
		default:
			p := params{value: v.get("params"), path: "params.", bad: &refusal{}}
			bad = work(s, p, now, &out)
			if bad.code == 0 && fault.Name == "system_error" {
				bad.code = actSystem
			}
		}
		s.mu.Unlock()
		if bad.code != 0 {
			message := actionMessage(bad.code)
			if bad.detail != "" {
				message += ": " + bad.detail
			}
			out.b = append(out.b[:idEnd], `,"error":{"code":`...)
			out.b = strconv.AppendInt(out.b, int64(bad.code), 10)
			out.b = append(out.b, `,"message":`...)
			out.b = append(appendText(out.b, message), '}')
		}
		s.logFault(method, fault)
		s.deliver(w, r, fault, reply{http.StatusOK, jsonType, append(out.b, '}')})
	}
}

// cardOfMiddleware finds the card that a call is about, by its number or a code sent to it.
func (s *Sim) cardOfMiddleware(p *value) *account {
	if a := s.byPAN[string(p.get("primaryAccountNumber").text)]; a != nil {
		return a
	}
	if id, ok := p.get("otpId").integer(true); ok {
		if o, _ := s.otps.find(id); o != nil {
			return s.cards[o.card]
		}
	}
	return nil
}

// humoCard finds the card that the middleware is asked about.
func (s *Sim) humoCard(p params) (*account, refusal) {
	pan := p.text("primaryAccountNumber", 1, 19, actFormat)
	if p.bad.code != 0 {
		return nil, refusal{actFormat, p.bad.detail}
	}
	if len(pan) != 16 || !digits(pan) || !validLuhn(string(pan)) {
		return nil, refusal{actNumber, ""}
	}
	a := s.byPAN[string(pan)]
	if a == nil || a.scheme != humo {
		return nil, refusal{actNoCard, ""}
	}
	return a, refusal{}
}

// smsState is the card's SMS service, and its phone if that is to be had.
func (a *account) smsState() (state, phone string) {
	if a.behaviour.smsState != "" {
		return a.behaviour.smsState, ""
	}
	return "on", a.phone
}

// middlewareCard serves v3/iiacs/card (§2.1): card, statuses, balance in tiyin and, if mb_flag is 1, phone.
func (s *Sim) middlewareCard(p params, now time.Time, out *answer) refusal {
	a, bad := s.humoCard(p)
	if bad.code != 0 {
		return bad
	}
	// The second item is what the stop list says: a card has no entry there that its own status does not show.
	state, since := a.behaviour.status, "2024-01-01T00:00:00"
	b := fmt.Appendf(out.b, `{"card":{"institutionId":"%s","primaryAccountNumber":"%s","expiry":"%s","cardSequenceNumber":1,"cardholderId":"%08d","nameOnCard":`,
		a.pan[4:6], a.pan, a.exp, a.index+1)
	b = appendText(b, a.holder)
	b = fmt.Appendf(b, `,"cardUserId":"%08d","bankC":"%s","pinTryCount":%d,"statuses":{"item":[`+
		`{"type":"card","actionCode":"%03d","actionDescription":"%s","effectiveDate":"%s"},{"type":"hot","actionCode":"000","actionDescription":"Approved","effectiveDate":"%s"}]}}`,
		a.index+1, a.pan[4:6], a.behaviour.pinTries, state, actionMessage(state), since, since)
	b = fmt.Appendf(b, `,"account":[{"institutionId":"%s","accountId":"%d","bankAccountId":"%020d","currency":"%s","cardholderId":"%08d","accountType":"DEBIT","priority":"1","status":"0","availableAmount":%d}]`,
		a.pan[4:6], a.index+1, a.accountNumber(), currencyUZS, a.index+1, a.available())
	b = fmt.Appendf(b, `,"balance":{"currency":"%s","initialAmount":%d,"bonusAmount":0,"creditLimit":0,"lockedBackofficeAmount":0,"lockedBackofficeAmountOffline":0,"lockedAmount":%d,"availableAmount":%d}`,
		currencyUZS, a.balance, a.held, a.available())
	if flag, _ := p.value.get("mb_flag").integer(true); flag == 1 {
		state, phone := a.smsState()
		b = fmt.Appendf(b, `,"mb":{"state":"%s","phone":"%s","message":""}`, state, phone)
	}
	out.b = append(b, '}')
	return refusal{}
}

// otpSend serves otp/send [infer]: it sends a code to the phone of the card.
func (s *Sim) otpSend(p params, now time.Time, out *answer) refusal {
	a, bad := s.humoCard(p)
	if bad.code != 0 {
		return bad
	}
	if expiry := p.text("expiry", 0, 4, actFormat); expiry != nil && a.exp != string(expiry) {
		return refusal{actExpired, ""}
	}
	if _, phone := a.smsState(); phone == "" {
		return refusal{otpNoService, ""}
	}
	if code, _ := a.misbehaves(atOTP); code != 0 {
		return refusal{code, ""}
	}
	id := s.sendCode(a, now)
	out.b = fmt.Appendf(out.b, `{"otpId":%d,"phoneMask":"%s","lifetimeSeconds":%d}`, id, maskedPhone(a.phone), int64(s.otpLifetime/time.Second))
	return refusal{}
}

// otpVerify serves otp/verify [infer]: the right code, once, within its time and three tries.
func (s *Sim) otpVerify(p params, now time.Time, out *answer) refusal {
	id := p.identifier("otpId")
	code := p.text("code", 1, 64, actFormat)
	if p.bad.code != 0 {
		return refusal{actFormat, p.bad.detail}
	}
	o, ok := s.otps.find(id)
	if !ok || s.cards[o.card].scheme != humo {
		return refusal{otpUnknown, ""}
	}
	a := s.cards[o.card]
	switch {
	case o.used:
		return refusal{otpUsed, ""}
	case o.wrong >= maxOTPTries:
		return refusal{otpTries, ""}
	case now.UnixMilli() >= o.expiresMillis:
		return refusal{otpExpired, ""}
	}
	if code, _ := a.misbehaves(atVerify); code != 0 {
		return refusal{code, ""}
	}
	if !o.is(code) {
		o.wrong++
		return refusal{otpWrong, fmt.Sprintf("%d tries are left", maxOTPTries-o.wrong)}
	}
	o.used = true
	out.b = append(out.b, `{"verified":true}`...)
	return refusal{}
}

// sendCode sends the holder of a card a code and gives the number of the request.
func (s *Sim) sendCode(a *account, now time.Time) int64 {
	code := uint32(s.random.Uint64N(1_000_000))
	if a.fixedOTP != "" {
		code = uint32(decimal([]byte(a.fixedOTP)))
	}
	s.inbox.send(a, code, s.otpLifetime, now)
	return s.otps.add(otpRequest{expiresMillis: now.Add(s.otpLifetime).UnixMilli(), card: a.index, code: code})
}

// mediaType is the Content-Type of a request without its parameters.
func mediaType(r *http.Request) string {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// readBody reads at most most bytes of a body; if that fails it has answered.
func (s *Sim) readBody(w http.ResponseWriter, r *http.Request, most int64) ([]byte, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err != nil {
		http.Error(w, "the body is too long or did not arrive", http.StatusRequestEntityTooLarge)
		return nil, false
	}
	return body, true
}

// readJSONCall lets in a POST of JSON with a bearer token; public clients write "Bearer: " too. If not, it has answered.
func (s *Sim) readJSONCall(w http.ResponseWriter, r *http.Request, token string) ([]byte, bool) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "POST only", http.StatusMethodNotAllowed)
		return nil, false
	}
	got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer")
	got = strings.TrimPrefix(strings.TrimPrefix(got, ":"), " ")
	if !ok || subtle.ConstantTimeCompare([]byte(got), []byte(token)) != 1 {
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "wrong token", http.StatusUnauthorized)
		return nil, false
	}
	if mediaType(r) != "application/json" {
		http.Error(w, "Content-Type must be application/json", http.StatusUnsupportedMediaType)
		return nil, false
	}
	return s.readBody(w, r, maxHumoBody)
}

func (s *Sim) logFault(method string, fault Fault) {
	if fault.Name != "" {
		s.log.Info("fault", "method", method, "fault", fault.Name)
	}
}
