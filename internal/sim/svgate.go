package sim

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// SVGate is Uzcard's front: JSON-RPC 2.0 over HTTP with Basic credentials. The field names and codes are those of
// docs/processors.md §1; where it is silent, this simulator has decided:
//
//   - hold.create takes time in minutes, 1..43200 (30 days), else -241. createTime is epoch milliseconds, waitingTime is
//     those minutes, and status is 0 live, 1 charged, 2 dismissed, 3 lapsed. A hold's terminal and merchant are shown, for
//     they are all that a caller without a reference of its own can match on. hold.get.cardId answers the newest 1000.
//   - A hold that has ended is not a hold any more: charging it again, or dismissing it again, answers -242. Dismissing a
//     charged one answers -380, "successful, use reverse", so that nobody takes it for given back. A well-formed
//     repeat with the same ext answers -207 whatever has become of the hold.
//   - hold.dismiss gives all back; its amount must be the hold's (-245 if less, -381 if more).
//   - commission must be 0: it would be a second sum to take from the card, and no contract here has one.
//   - A charge that has been reversed in full shows status "ROK" from then on; trans.reverse answers it so, in an array.
//     A second reversal answers -389. A partial one is a movement of its own, with status "OK" and its own ext.
//   - trans.ext and trans.sv answer -208 and -267 if there is nothing, not an empty array.
//   - cards.new.otp shows the token of a card that somebody has bound already, with verified false: the token is no proof
//     that this payer holds the card.
//   - Any well-formed merchant and terminal will do, but terminal "9999NNN" answers the error -NNN.

// Codes of SVGate that this file answers by itself; codeMessages has all of them.
const (
	codeEmpty          = -100
	codeMissing        = -103
	codeRPC            = -199
	codeCardNotFound   = -200
	codeExpired        = -201
	codePAN            = -202
	codeInactive       = -204
	codeExtExists      = -207
	codeTranNotFound   = -208
	codeExpiryFormat   = -212
	codeExpiryWrong    = -216
	codeHoldFunds      = -239
	codeFunds          = -240
	codeHoldPeriod     = -241
	codeHoldNotFound   = -242
	codeAmount         = -245
	codeTerminalFormat = -251
	codeMerchantFormat = -252
	codeTerminals      = -254
	codeBlocked        = -261
	codeSVNotFound     = -267
	codeOTPWrong       = -269
	codeOTPExpired     = -270
	codePhoneFormat    = -290
	codeOTPNotFound    = -294
	codeUnavailable    = -300
	codeAskLater       = -301
	codeOTPUsed        = -314
	codePhoneOther     = -320
	codeDate12         = -329
	codeStan           = -330
	codeCharged        = -380
	codeExceeds        = -381
	codeBIN            = -382
	codeReversedTwice  = -389
)

// Limits of the protocol (§1.1, §1.3) and of this centre.
const (
	maxSVGateBody   = 64 << 10
	maxHoldMinutes  = 30 * 24 * 60
	maxListedHolds  = 1000
	maxWrongCodes   = 5
	blockedFor      = 10 * time.Minute
	maxOTPRequests  = 1 << 20
	magicTerminal   = "9999"
	currencyUZS     = "860"
	declinedResp    = 51
	refNumOfNothing = "000000000000"
)

// homeTerminals are the merchants and terminals that terminal.get lists from the start.
var homeTerminals = []merchantTerminal{{merchantID: "90050017182", terminalID: "91419475"}, {merchantID: "90050017182", terminalID: "91419476"}}

var codeMessages = map[int]string{
	-100: "Empty parameters", -101: "Error while executing the request", -102: "Error while executing the request",
	-103: "Required fields are wrong or missing", -199: "JsonRpc error",
	-200: "Card not found", -201: "Card expired", -202: "Card number has a wrong format", -203: "Card was not reissued",
	-204: "Card status is not active", -205: "Card blocked", -206: "SMS service is not active", -207: "Transaction with this ext exists",
	-208: "Transaction not found", -211: "Server does not answer", -212: "Card number or expiry has a wrong format",
	-215: "Card number with this phone not found", -216: "Expiry is incorrect", -217: "Phone number has a wrong format",
	-224: "Phone numbers differ", -236: "Terminal not found", -237: "Merchant not found", -239: "Not enough funds to hold",
	-240: "Insufficient funds", -241: "Wrong period for a hold", -242: "Hold not found", -244: "Bank is temporarily unavailable",
	-245: "Amount does not fit", -246: "Payment to this provider is prohibited", -247: "EPOS does not exist",
	-249: "Terminal and merchant exist already", -250: "Wrong type of terminal", -251: "Terminal id has a wrong format",
	-252: "Merchant id has a wrong format", -253: "Terminal and merchant not found in SV", -254: "Terminal and merchant not found",
	-255: "Terminal and merchant are not registered", -256: "No access to this method", -258: "Not possible with corporate cards",
	-260: "Insufficient funds, retry", -261: "Card was blocked in SVGate for a time", -262: "Allowed amount exceeded",
	-267: "Transaction not found in SV", -268: "EPOS is not authorised", -269: "OTP is wrong", -270: "OTP has expired",
	-277: "Phone is not the card's", -281: "Error while executing the request", -282: "Transaction not found or cancelled",
	-286: "EPOS not found", -289: "Card is not blocked", -290: "Phone has a wrong format", -292: "SMS could not be sent",
	-294: "OTP request not found", -297: "Phone is incorrect", -298: "This is a POS and no EPOS", -299: "SMS message not found",
	-300: "Service is unavailable", -301: "Ask trans.ext later", -302: "Ask trans.ext later", -303: "Service is unavailable",
	-304: "Service is unavailable", -305: "Service is unavailable", -306: "Service is unavailable", -307: "SV timed out",
	-308: "Ask trans.ext later", -309: "Ask trans.ext later", -310: "Ask trans.ext later", -311: "Ask trans.ext later",
	-314: "Bad OTP request id, ask for a new OTP", -316: "Terminal has no access to payments", -317: "OTP request has expired",
	-318: "Terminal is not of the debit type", -319: "No permission", -320: "Requesting phone is not the card's",
	-329: "date12 has a wrong format", -330: "stan has a wrong format", -333: "Refused by fraud monitoring",
	-374: "EPOS is not activated", -375: "EPOS is activated already", -380: "Transaction is successful, to reverse it use trans.reverse",
	-381: "Exceeds the base amount", -382: "BIN not found", -383: "This issuer is not allowed", -384: "Not all fields are filled",
	-389: "Repeated reversal",
}

// configurationCodes are what a terminal "9999NNN" can answer: the mistakes in our own set-up of §1.5.
var configurationCodes = []int{-236, -237, -246, -247, -249, -250, -251, -252, -253, -254, -255, -256, -268, -286, -298, -316, -318, -319, -374, -375}

func codeMessage(code int) string {
	if m, ok := codeMessages[code]; ok {
		return m
	}
	switch {
	case code <= -350 && code >= -357:
		return "Wallet card service is unavailable"
	case code <= -400 && code >= -604:
		return "Service is unavailable"
	}
	return "Error"
}

// svgateMethods are all methods served. Each does its work under Sim.mu and appends its result to the answer.
var svgateMethods = map[string]func(*Sim, params, time.Time, *answer) refusal{
	"cards.new.otp":         (*Sim).cardsNewOTP,
	"cards.new.verify":      (*Sim).cardsNewVerify,
	"cards.get":             (*Sim).cardsGet,
	"balance.get":           (*Sim).balanceGet,
	"hold.create":           (*Sim).holdCreate,
	"hold.dismiss.charge":   (*Sim).holdDismissCharge,
	"hold.dismiss":          (*Sim).holdDismiss,
	"hold.get.id":           (*Sim).holdGetID,
	"hold.get.cardId":       (*Sim).holdGetCardID,
	"trans.pay.purpose":     (*Sim).transPayPurpose,
	"trans.ext":             (*Sim).transExt,
	"trans.sv":              (*Sim).transSV,
	"trans.reverse":         (*Sim).transReverse,
	"trans.reverse.partial": (*Sim).transReversePartial,
	"get.bin.list":          (*Sim).getBINList,
	"terminal.get":          (*Sim).terminalGet,
}

// methodNames are all methods that a fault can name, SVGate's first.
func methodNames() []string { return append(slices.Sorted(maps.Keys(svgateMethods)), otherMethods...) }

// answer is a result being written, and the ways in which a fault bends it.
type answer struct {
	b              []byte
	lowerCase      bool  // holdamount and cashbackamount
	currencyString bool  // "860" and not 860
	amountError    int64 // added to the amounts shown
}

// memory is what a call is read into and its answer written in. It is used again: at thousands of calls a second it
// would else be most of the garbage.
type memory struct {
	body   bytes.Buffer
	walker walker
	answer []byte
}

var memories = sync.Pool{New: func() any { return new(memory) }}

// serveSVGate is the endpoint. Whatever is wrong with the call itself is answered with HTTP 200 and an error, as SVGate does.
func (s *Sim) serveSVGate(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "POST only", http.StatusMethodNotAllowed)
		return
	}
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(s.authorization)) != 1 {
		w.Header().Set("WWW-Authenticate", `Basic realm="SVGate"`)
		http.Error(w, "wrong credentials", http.StatusUnauthorized)
		return
	}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		http.Error(w, "Content-Type must be application/json", http.StatusUnsupportedMediaType)
		return
	}
	m := memories.Get().(*memory)
	defer memories.Put(m)
	m.body.Reset()
	if _, err := m.body.ReadFrom(http.MaxBytesReader(w, r.Body, maxSVGateBody)); err != nil {
		http.Error(w, "the body is too long or did not arrive", http.StatusRequestEntityTooLarge)
		return
	}
	method, fault := s.svgate(m, m.body.Bytes())
	if fault.Name != "" {
		s.log.Info("fault", "method", method, "fault", fault.Name)
	}
	s.deliver(w, r, fault, reply{http.StatusOK, jsonType, m.answer})
}

// svgate does a call, or leaves it undone if a fault says so, and writes the answer.
func (s *Sim) svgate(m *memory, body []byte) (method string, fault Fault) {
	c, bad := m.walker.parseCall(body)
	work, known := svgateMethods[c.method]
	switch {
	case bad.code != 0:
	case !known:
		bad = refusal{codeRPC, "method " + c.method + " not found"}
	case c.method == "get.bin.list" || c.method == "terminal.get": // they need no params, and clients send them as [] or {}
	case len(c.params.members)+len(c.params.items) == 0:
		bad = refusal{codeEmpty, ""}
	case c.params.kind != object:
		bad = refusal{codeRPC, "params must be an object"}
	}
	out := answer{b: m.answer[:0]}
	out.b = append(out.b, `{"jsonrpc":"2.0","id":`...)
	out.b = append(out.b, c.id...)
	idEnd := len(out.b)
	if bad.code == 0 {
		s.mu.Lock()
		now := s.clock()
		var kind *faultKind
		if len(s.faults) > 0 {
			fault, kind = s.takeFault(c.method, s.cardOf(&c.params))
		}
		switch {
		case fault.Name == "not_found_once" && c.method == "hold.get.cardId":
			out.b = append(out.b, `,"result":[]`...)
		case fault.Name == "not_found_once":
			bad.code = map[string]int{"trans.ext": codeTranNotFound, "trans.sv": codeSVNotFound, "hold.get.id": codeHoldNotFound}[c.method]
		case fault.Name == "error_code":
			bad.code = fault.Code
		case fault.Name == "unknown_301_not_done":
			bad.code = codeAskLater
		case kind != nil && kind.notDone:
		default:
			out.lowerCase = fault.Name == "lower_case_fields"
			out.currencyString = fault.Name == "currency_string"
			if fault.Name == "wrong_amount" {
				out.amountError = 100
			}
			out.b = append(out.b, `,"result":`...)
			p := params{value: &c.params, bad: &refusal{}}
			bad = work(s, p, now, &out)
			if fault.Name == "unknown_301" && bad.code == 0 {
				bad.code = codeAskLater
			}
		}
		s.mu.Unlock()
	}
	if bad.code != 0 {
		message := codeMessage(bad.code) + "!"
		if bad.detail != "" {
			message += " " + bad.detail
		}
		out.b = append(out.b[:idEnd], `,"error":{"code":`...)
		out.b = strconv.AppendInt(out.b, int64(bad.code), 10)
		out.b = append(out.b, `,"message":`...)
		out.b = append(appendText(out.b, message), '}')
	}
	if fault.Name == "wrong_id" {
		out.b = slices.Replace(out.b, idEnd-len(c.id), idEnd, foreignID(c.id)...)
	}
	m.answer = append(out.b, '}')
	return c.method, fault
}

// foreignID is another id of the same JSON type.
func foreignID(id []byte) []byte {
	if n, err := strconv.ParseInt(string(id), 10, 63); err == nil {
		return strconv.AppendInt(nil, n+1, 10)
	}
	return []byte(`"of-another-call"`)
}

// cardOf finds the card that a call is about, for faults that are meant for one card; nil if it names none.
func (s *Sim) cardOf(p *value) *account {
	if a := s.byPAN[string(p.get("card").get("pan").text)]; a != nil {
		return a
	}
	if id, ok := p.get("otp").get("id").integer(true); ok {
		if o, _ := s.otps.find(id); o != nil {
			return s.cards[o.card]
		}
	}
	for _, token := range [][]byte{p.get("hold").get("cardId").text, p.get("tran").get("cardId").text, p.get("cardId").text} {
		if a := s.byToken[string(token)]; a != nil {
			return a
		}
	}
	for _, v := range p.get("ids").items {
		if a := s.byToken[string(v.text)]; a != nil {
			return a
		}
	}
	for _, v := range []*value{p.get("hold").get("holdId"), p.get("id")} {
		if id, ok := v.integer(true); ok {
			if _, h := s.byHoldID(id); h != nil {
				return s.cards[h.card]
			}
		}
	}
	if n, ok := s.byExt[string(p.get("extId").text)]; ok {
		return s.cards[s.record(n).card]
	}
	for _, v := range []*value{p.get("svId"), p.get("tranId"), p.get("tran").get("tranId")} {
		if _, r := s.byTranID(v); r != nil {
			return s.cards[r.card]
		}
	}
	return nil
}

// cardToken is SVGate's card id: 32 hex digits that say nothing of the card number. They are the same in every simulator,
// so that cards saved by a gateway survive a restart of this program.
func cardToken(pan string) string {
	sum := sha256.Sum256([]byte("holdfast simulator card token " + pan))
	return strings.ToUpper(hex.EncodeToString(sum[:16]))
}

// otpRequests keeps the newest maxOTPRequests requests; number n lies at n modulo that, and its id is base+n.
type otpRequests struct {
	base, count int64
	ring        []otpRequest
}

type otpRequest struct {
	expiresMillis int64
	card, code    uint32
	used          bool
	wrong         uint8 // wrong codes so far; SVGate counts them by card instead
}

// is tells whether a payer has entered the right code.
func (o *otpRequest) is(code []byte) bool {
	return len(code) == 6 && digits(code) && decimal(code) == int64(o.code)
}

func (q *otpRequests) add(o otpRequest) int64 {
	if len(q.ring) < maxOTPRequests {
		q.ring = append(q.ring, o)
	} else {
		q.ring[q.count%maxOTPRequests] = o
	}
	q.count++
	return q.base + q.count - 1
}

func (q *otpRequests) find(id int64) (*otpRequest, bool) {
	n := id - q.base
	if n < 0 || n >= q.count || n < q.count-int64(len(q.ring)) {
		return nil, false
	}
	return &q.ring[n%maxOTPRequests], true
}

// misbehaves is the code that a card answers at a step, 0 if none, and whether the work is to be done all the same.
func (a *account) misbehaves(at step) (code int, done bool) {
	if a.behaviour.at != at {
		return 0, false
	}
	return a.behaviour.code, a.behaviour.done
}

// blocked refuses a card after too many wrong codes.
func (a *account) blocked(now time.Time) refusal {
	if left := a.blockedMillis - now.UnixMilli(); left > 0 {
		return refusal{codeBlocked, fmt.Sprintf("Will be unblocked in %d seconds", (left+999)/1000)}
	}
	return refusal{}
}

// cardsNewOTP serves cards.new.otp (§1.2): it sends a code to the phone of the card.
func (s *Sim) cardsNewOTP(p params, now time.Time, out *answer) refusal {
	card := p.object("card")
	pan := card.text("pan", 1, 64, codePAN)
	expiry := card.text("expiry", 1, 64, codeExpiryFormat)
	p.text("serviceName", 0, 20, codeMissing)
	phone := p.text("requestorPhone", 0, 64, codePhoneFormat)
	if p.has("sms") {
		sms := p.object("sms")
		sms.text("ussd", 0, 160, codeMissing)
		sms.text("hash", 0, 12, codeMissing)
		if sms.has("templateId") {
			if id := sms.integer("templateId"); id < 0 || id > 9999 {
				sms.fail(codeMissing, "templateId", "must be 0 to 9999")
			}
		}
	}
	if p.bad.code != 0 {
		return *p.bad
	}
	switch {
	case len(pan) != 16 || !digits(pan) || !validLuhn(string(pan)):
		return refusal{codePAN, "card.pan must be 16 digits, the last one right by Luhn"}
	case len(expiry) != 4 || !digits(expiry) || string(expiry[2:]) < "01" || string(expiry[2:]) > "12":
		return refusal{codeExpiryFormat, "card.expiry must be YYMM"}
	case phone != nil && (len(phone) != 12 || !digits(phone)):
		return refusal{codePhoneFormat, "requestorPhone must be 12 digits"}
	case !uzcardBIN(pan):
		return refusal{codeBIN, ""}
	}
	a := s.byPAN[string(pan)]
	if a == nil {
		return refusal{codeCardNotFound, ""}
	}
	if blocked := a.blocked(now); blocked.code != 0 {
		return blocked
	}
	switch {
	case a.exp != string(expiry):
		return refusal{codeExpiryWrong, ""}
	case phone != nil && a.phone != string(phone):
		return refusal{codePhoneOther, ""}
	}
	if code, _ := a.misbehaves(atOTP); code != 0 {
		return refusal{code, ""}
	}
	if a.expired(now) {
		return refusal{codeExpired, ""}
	}
	id := s.sendCode(a, now)
	token := ""
	if a.bound {
		token = a.token
	}
	b := append(out.b, `{"id":`...)
	b = strconv.AppendInt(b, id, 10)
	b = append(b, `,"phoneMask":"`...)
	b = append(b, maskedPhone(a.phone)...)
	b = append(b, `","token":"`...)
	b = append(b, token...)
	out.b = append(b, `","verified":false}`...)
	return refusal{}
}

// cardsNewVerify serves cards.new.verify (§1.2): the right code binds the card and answers its token.
func (s *Sim) cardsNewVerify(p params, now time.Time, out *answer) refusal {
	otp := p.object("otp")
	id := otp.identifier("id")
	code := otp.text("code", 1, 64, codeOTPWrong)
	if p.bad.code != 0 {
		return *p.bad
	}
	o, ok := s.otps.find(id)
	if !ok || s.cards[o.card].scheme != uzcard {
		return refusal{codeOTPNotFound, ""}
	}
	if o.used {
		return refusal{codeOTPUsed, ""}
	}
	a := s.cards[o.card]
	if blocked := a.blocked(now); blocked.code != 0 {
		return blocked
	}
	if code, _ := a.misbehaves(atVerify); code != 0 {
		return refusal{code, ""}
	}
	millis := now.UnixMilli()
	if millis >= o.expiresMillis {
		return refusal{codeOTPExpired, ""}
	}
	if !o.is(code) {
		if millis-a.wrongMillis > blockedFor.Milliseconds() {
			a.wrongCodes = 0
		}
		a.wrongCodes++
		a.wrongMillis = millis
		if a.wrongCodes >= maxWrongCodes {
			a.wrongCodes = 0
			a.blockedMillis = millis + blockedFor.Milliseconds()
		}
		return refusal{codeOTPWrong, ""}
	}
	o.used = true
	a.wrongCodes = 0
	a.bound = true
	out.b = s.appendCard(out.b, a, out.lowerCase, false)
	return refusal{}
}

// appendCard writes the card object of §1.2. Only cards.get shows the expiry.
func (s *Sim) appendCard(b []byte, a *account, lowerCase, expiry bool) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, a.token...)
	b = append(b, `","username":`...)
	b = appendText(b, s.login)
	b = append(b, `,"pan":"`...)
	b = append(b, masked(a.pan)...)
	if expiry {
		b = append(b, `","expiry":"`...)
		b = append(b, a.exp...)
	}
	b = append(b, `","status":`...)
	b = strconv.AppendInt(b, int64(a.behaviour.status), 10)
	b = append(b, `,"phone":"`...)
	b = append(b, a.phone...)
	b = append(b, `","fullName":`...)
	b = appendText(b, a.holder)
	b = append(b, `,"balance":`...)
	b = strconv.AppendInt(b, a.balance, 10)
	b = append(b, `,"sms":true,"pincnt":0,"aacct":`...)
	b = appendPadded(b, a.accountNumber(), 20)
	b = append(b, `,"par":"","cardtype":"UZCARD",`...)
	name, cashback := `"holdAmount":`, `,"cashbackAmount":0}`
	if lowerCase {
		name, cashback = `"holdamount":`, `,"cashbackamount":0}`
	}
	b = append(b, name...)
	b = strconv.AppendInt(b, a.held, 10)
	return append(b, cashback...)
}

// accountNumber is the bank account behind the card; 22618 is how balances of private persons begin in Uzbekistan.
func (a *account) accountNumber() int64 { return 2_261_800_000_000_000_000 + int64(a.index) }

// cardIDs reads params.ids (1..64 tokens) and finds their cards; tokens that nobody has are left out.
func (s *Sim) cardIDs(p params) ([]*account, refusal) {
	ids := p.value.get("ids")
	if ids.kind != list || len(ids.items) == 0 {
		return nil, refusal{codeMissing, "ids must be an array of card ids"}
	}
	var found []*account
	for i := range ids.items {
		if ids.items[i].kind != text {
			return nil, refusal{codeRPC, "ids must be strings"}
		}
		if a := s.byToken[string(ids.items[i].text)]; a != nil && a.scheme == uzcard {
			found = append(found, a)
		}
	}
	if found == nil {
		return nil, refusal{codeCardNotFound, ""}
	}
	return found, refusal{}
}

func (s *Sim) cardsGet(p params, _ time.Time, out *answer) refusal {
	cards, bad := s.cardIDs(p)
	for i, a := range cards {
		out.b = s.appendCard(append(out.b, separator(i)), a, out.lowerCase, true)
	}
	out.b = append(out.b, ']')
	return bad
}

func (s *Sim) balanceGet(p params, _ time.Time, out *answer) refusal {
	cards, bad := s.cardIDs(p)
	for i, a := range cards {
		out.b = fmt.Appendf(append(out.b, separator(i)), `{"id":"%s","balance":%d,"holdAmount":%d}`, a.token, a.balance, a.held)
	}
	out.b = append(out.b, ']')
	return bad
}

// separator opens an array before its first element and stands between the others.
func separator(i int) byte {
	if i == 0 {
		return '['
	}
	return ','
}

// merchantAndTerminal reads the pair that most calls carry.
func merchantAndTerminal(p params) (merchantID, terminalID []byte) {
	merchantID = p.text("merchantId", 1, 16, codeMerchantFormat)
	terminalID = p.text("terminalId", 1, 16, codeTerminalFormat)
	if !alphanumeric(merchantID) {
		p.fail(codeMerchantFormat, "merchantId", "must be letters and digits")
	}
	if !alphanumeric(terminalID) {
		p.fail(codeTerminalFormat, "terminalId", "must be letters and digits")
	}
	return merchantID, terminalID
}

// acceptTerminal registers the pair, or refuses a magic terminal with the error that it stands for.
func (s *Sim) acceptTerminal(merchantID, terminalID []byte) (uint16, refusal) {
	if suffix, magic := bytes.CutPrefix(terminalID, []byte(magicTerminal)); magic && len(suffix) == 3 {
		if n, err := strconv.Atoi(string(suffix)); err == nil && slices.Contains(configurationCodes, -n) {
			return 0, refusal{-n, ""}
		}
	}
	t, ok := s.terminal(merchantID, terminalID)
	if !ok {
		return 0, refusal{codeTerminals, "the simulator knows too many terminals; reset it"}
	}
	return t, refusal{}
}

// chargeable finds the card behind a token and makes sure that money may be asked of it.
func (s *Sim) chargeable(token []byte, now time.Time) (*account, refusal) {
	a := s.byToken[string(token)]
	if a == nil || a.scheme != uzcard {
		return nil, refusal{codeCardNotFound, "cardId"}
	}
	if blocked := a.blocked(now); blocked.code != 0 {
		return nil, blocked
	}
	switch {
	case a.behaviour.status != 0:
		return nil, refusal{codeInactive, ""}
	case a.expired(now):
		return nil, refusal{codeExpired, ""}
	case s.full():
		return nil, refusal{codeUnavailable, "the simulator's books are full; reset it"}
	}
	return a, refusal{}
}

// holdCreate serves hold.create (§1.3). There is no caller reference in it: that is the protocol's trap.
func (s *Sim) holdCreate(p params, now time.Time, out *answer) refusal {
	h := p.object("hold")
	token := h.text("cardId", 1, 32, codeCardNotFound)
	merchantID, terminalID := merchantAndTerminal(h)
	amount := h.amount("amount")
	minutes := h.integer("time")
	if p.bad.code != 0 {
		return *p.bad
	}
	if minutes < 1 || minutes > maxHoldMinutes {
		return refusal{codeHoldPeriod, "hold.time must be 1 to 43200 minutes"}
	}
	t, bad := s.acceptTerminal(merchantID, terminalID)
	if bad.code != 0 {
		return bad
	}
	a, bad := s.chargeable(token, now)
	if bad.code != 0 {
		return bad
	}
	code, done := a.misbehaves(atHold)
	switch {
	case code == declined:
		out.b = append(out.b, `{"id":0,"status":51,"description":"Insufficient funds"}`...)
		return refusal{}
	case code != 0 && !done:
		return refusal{code, ""}
	case a.available() < amount:
		return refusal{codeHoldFunds, ""}
	}
	n := s.hold(a, amount, uint32(minutes), t, now)
	out.b = append(out.b, `{"id":`...)
	out.b = strconv.AppendInt(out.b, s.holdID(n), 10)
	out.b = append(out.b, `,"status":0,"description":"OK"}`...)
	return refusal{code, ""}
}

// liveHold finds the hold that a call wants to end. Another terminal's hold is as good as none.
func (s *Sim) liveHold(id int64, merchantID, terminalID []byte) (uint32, *record, refusal) {
	n, h := s.byHoldID(id)
	if h == nil {
		return 0, nil, refusal{codeHoldNotFound, ""}
	}
	if t := s.terminals[h.terminal]; t.merchantID != string(merchantID) || t.terminalID != string(terminalID) {
		return 0, nil, refusal{codeHoldNotFound, "it was made at another terminal"}
	}
	if h.state != stateHeld {
		return n, h, refusal{codeHoldNotFound, "it is " + stateName[h.state]}
	}
	return n, h, refusal{}
}

// extOf reads the caller's reference and makes sure it is new.
func (s *Sim) extOf(p params) []byte {
	ext := p.text("ext", 1, 75, codeMissing)
	if _, taken := s.byExt[string(ext)]; taken {
		p.fail(codeExtExists, "ext", "was used before")
	}
	return ext
}

// holdDismissCharge serves hold.dismiss.charge (§1.3): it takes amount, and the rest of the hold is free again.
func (s *Sim) holdDismissCharge(p params, now time.Time, out *answer) refusal {
	h := p.object("hold")
	holdID := h.identifier("holdId")
	merchantID, terminalID := merchantAndTerminal(h)
	if port := h.identifier("port"); port < 1 || port > 65535 {
		h.fail(codeMissing, "port", "must be 1 to 65535")
	}
	stan := h.text("stan", 1, 64, codeStan)
	if len(stan) != 6 || !digits(stan) || string(stan) == "000000" {
		h.fail(codeStan, "stan", "must be 6 digits, not all of them zero")
	}
	date := h.text("date12", 1, 64, codeDate12)
	if len(date) != 12 || !digits(date) || !validDate12(date) {
		h.fail(codeDate12, "date12", "must be yyMMddHHmmss")
	}
	amount := h.amount("amount")
	ext := s.extOf(h)
	if p.bad.code != 0 {
		return *p.bad
	}
	n, hold, bad := s.liveHold(holdID, merchantID, terminalID)
	if bad.code != 0 {
		return bad
	}
	if amount > hold.amount {
		return refusal{codeExceeds, ""}
	}
	code, done := s.cards[hold.card].misbehaves(atCapture)
	switch {
	case code == declined:
		s.appendDeclined(out, s.cards[hold.card], s.terminals[hold.terminal], ext, amount, now, "ERR")
		return refusal{}
	case code != 0 && !done:
		return refusal{code, ""}
	case s.full():
		return refusal{codeUnavailable, "the simulator's books are full; reset it"}
	}
	c := s.capture(n, amount, string(ext), uint32(decimal(stan)), decimal(date), now)
	s.appendTran(out, c)
	return refusal{code, ""}
}

// holdDismiss serves hold.dismiss (§1.3): all of the hold is free again.
func (s *Sim) holdDismiss(p params, now time.Time, out *answer) refusal {
	h := p.object("hold")
	holdID := h.identifier("holdId")
	merchantID, terminalID := merchantAndTerminal(h)
	amount := h.amount("amount")
	if p.bad.code != 0 {
		return *p.bad
	}
	n, hold, bad := s.liveHold(holdID, merchantID, terminalID)
	if hold != nil && hold.state == stateCaptured {
		return refusal{codeCharged, ""}
	}
	if bad.code != 0 {
		return bad
	}
	switch {
	case amount > hold.amount:
		return refusal{codeExceeds, ""}
	case amount < hold.amount:
		return refusal{codeAmount, "hold.amount must be the whole hold"}
	}
	code, done := s.cards[hold.card].misbehaves(atVoid)
	if code != 0 && !done {
		return refusal{code, ""}
	}
	if s.full() {
		return refusal{codeUnavailable, "the simulator's books are full; reset it"}
	}
	s.release(n, kindVoid, now.UnixMilli())
	out.b = append(out.b, `{"id":`...)
	out.b = strconv.AppendInt(out.b, holdID, 10)
	out.b = append(out.b, `,"status":0,"description":"OK"}`...)
	return refusal{code, ""}
}

var holdRemark = [...]string{stateHeld: "live", stateCaptured: "charged", stateDismissed: "dismissed", stateLapsed: "lapsed"}

// appendHold writes the hold object of hold.get.id and hold.get.cardId (§1.3).
func (s *Sim) appendHold(out *answer, n uint32) {
	h := s.record(n)
	a := s.cards[h.card]
	t := s.terminals[h.terminal]
	b := append(out.b, `{"hid":`...)
	b = strconv.AppendInt(b, s.holdID(n), 10)
	b = append(b, `,"crefNo":`...)
	b = appendPadded(b, int64(a.index)+1, 10)
	b = append(b, `,"reqamt":`...)
	b = strconv.AppendInt(b, h.amount+out.amountError, 10)
	b = append(b, `,"createTime":`...)
	b = strconv.AppendInt(b, h.atMillis, 10)
	b = append(b, `,"waitingTime":`...)
	b = strconv.AppendUint(b, uint64(h.minutes), 10)
	b = append(b, `,"status":`...)
	b = strconv.AppendUint(b, uint64(h.state), 10)
	b = append(b, `,"remark":"`...)
	b = append(b, holdRemark[h.state]...)
	b = append(b, `","accNo":`...)
	b = appendPadded(b, a.accountNumber(), 20)
	b = append(b, `,"userName":`...)
	b = appendText(b, s.login)
	b = append(b, `,"merchantId":`...)
	b = appendText(b, t.merchantID)
	b = append(b, `,"terminalId":`...)
	b = appendText(b, t.terminalID)
	out.b = append(b, '}')
}

func (s *Sim) holdGetID(p params, _ time.Time, out *answer) refusal {
	id := p.identifier("id")
	if p.bad.code != 0 {
		return *p.bad
	}
	n, h := s.byHoldID(id)
	if h == nil {
		return refusal{codeHoldNotFound, ""}
	}
	s.appendHold(out, n)
	return refusal{}
}

// holdGetCardID serves hold.get.cardId (§1.3): the card's newest maxListedHolds holds, live or not, newest first.
func (s *Sim) holdGetCardID(p params, _ time.Time, out *answer) refusal {
	token := p.text("cardId", 1, 32, codeCardNotFound)
	if p.bad.code != 0 {
		return *p.bad
	}
	a := s.byToken[string(token)]
	if a == nil || a.scheme != uzcard {
		return refusal{codeCardNotFound, "cardId"}
	}
	out.b = append(out.b, '[')
	listed := 0
	for link := a.lastHold; link != 0 && listed < maxListedHolds; listed++ {
		if listed > 0 {
			out.b = append(out.b, ',')
		}
		s.appendHold(out, link-1)
		link = s.record(link - 1).link
	}
	out.b = append(out.b, ']')
	return refusal{}
}

// transPayPurpose serves trans.pay.purpose (§1.4): a charge at once.
func (s *Sim) transPayPurpose(p params, now time.Time, out *answer) refusal {
	t := p.object("tran")
	t.text("purpose", 1, 20, codeMissing)
	t.text("receiverId", 1, 250, codeMissing)
	token := t.text("cardId", 1, 32, codeCardNotFound)
	amount := t.amount("amount")
	if t.integer("commission") != 0 {
		t.fail(codeMissing, "commission", "must be 0")
	}
	if currency := t.value.get("currency"); string(currency.text) != currencyUZS && string(currency.source) != currencyUZS {
		t.fail(codeMissing, "currency", `must be "860"`)
	}
	merchantID, terminalID := merchantAndTerminal(t)
	if t.has("merchantInfo") {
		m := t.object("merchantInfo")
		if mcc := m.text("mcc", 1, 64, codeMissing); len(mcc) != 4 || !digits(mcc) {
			m.fail(codeMissing, "mcc", "must be 4 digits")
		}
		m.text("legalName", 1, 250, codeMissing)
		m.identifier("legalType")
		m.text("legalId", 1, 14, codeMissing)
		m.text("legalOKED", 0, 5, codeMissing)
	}
	ext := s.extOf(t)
	if p.bad.code != 0 {
		return *p.bad
	}
	terminal, bad := s.acceptTerminal(merchantID, terminalID)
	if bad.code != 0 {
		return bad
	}
	a, bad := s.chargeable(token, now)
	if bad.code != 0 {
		return bad
	}
	code, done := a.misbehaves(atHold)
	if a.behaviour.holdOnly {
		code = 0
	}
	switch {
	case code == declined:
		s.appendDeclined(out, a, s.terminals[terminal], ext, amount, now, "ERR")
		return refusal{}
	case code != 0 && !done:
		return refusal{code, ""}
	case a.available() < amount:
		return refusal{codeFunds, ""}
	}
	s.appendTran(out, s.charge(a, amount, string(ext), terminal, now))
	return refusal{code, ""}
}

func (s *Sim) transExt(p params, _ time.Time, out *answer) refusal {
	ext := p.text("extId", 1, 75, codeMissing)
	if p.bad.code != 0 {
		return *p.bad
	}
	n, ok := s.byExt[string(ext)]
	if !ok {
		return refusal{codeTranNotFound, ""}
	}
	out.b = append(out.b, '[')
	s.appendTran(out, n)
	out.b = append(out.b, ']')
	return refusal{}
}

func (s *Sim) transSV(p params, _ time.Time, out *answer) refusal {
	ref := p.identifier("svId")
	if p.bad.code != 0 {
		return *p.bad
	}
	n, r := s.byRefNum(ref)
	if r == nil {
		return refusal{codeSVNotFound, ""}
	}
	out.b = append(out.b, '[')
	s.appendTran(out, n)
	out.b = append(out.b, ']')
	return refusal{}
}

// reversible finds the charge or capture that a reversal is about.
func (s *Sim) reversible(p params) (uint32, *record) {
	v := p.value.get("tranId")
	if v.kind == absent || v.kind == null {
		p.fail(codeMissing, "tranId", "is missing")
		return 0, nil
	}
	n, r := s.byTranID(v)
	if r == nil || r.kind == kindRefund {
		p.fail(codeTranNotFound, "tranId", "is no refNum of a charge")
		return 0, nil
	}
	return n, r
}

// transReverse serves trans.reverse (§1.4): all that has not been given back yet goes back.
func (s *Sim) transReverse(p params, now time.Time, out *answer) refusal {
	n, r := s.reversible(p)
	if p.bad.code != 0 {
		return *p.bad
	}
	if r.state == stateReversed {
		return refusal{codeReversedTwice, ""}
	}
	code, done := s.cards[r.card].misbehaves(atRefund)
	switch {
	case code == declined:
		out.b = append(out.b, '[')
		s.appendDeclined(out, s.cards[r.card], s.terminals[r.terminal], []byte(r.ext), r.amount, now, "RER")
		out.b = append(out.b, ']')
		return refusal{}
	case code != 0 && !done:
		return refusal{code, ""}
	case s.full():
		return refusal{codeUnavailable, "the simulator's books are full; reset it"}
	}
	s.refund(n, r.amount-r.part, "", now)
	out.b = append(out.b, '[')
	s.appendTran(out, n)
	out.b = append(out.b, ']')
	return refusal{code, ""}
}

// transReversePartial serves trans.reverse.partial (§1.4): a part goes back, under an ext of its own.
func (s *Sim) transReversePartial(p params, now time.Time, out *answer) refusal {
	t := p.object("tran")
	amount := t.amount("reverseAmount")
	ext := s.extOf(t)
	if p.bad.code != 0 {
		return *p.bad
	}
	n, r := s.reversible(t)
	if p.bad.code != 0 {
		return *p.bad
	}
	switch {
	case r.state == stateReversed:
		return refusal{codeReversedTwice, ""}
	case amount > r.amount-r.part:
		return refusal{codeExceeds, ""}
	}
	code, done := s.cards[r.card].misbehaves(atRefund)
	switch {
	case code == declined:
		s.appendDeclined(out, s.cards[r.card], s.terminals[r.terminal], ext, amount, now, "RER")
		return refusal{}
	case code != 0 && !done:
		return refusal{code, ""}
	case s.full():
		return refusal{codeUnavailable, "the simulator's books are full; reset it"}
	}
	s.appendTran(out, s.refund(n, amount, string(ext), now))
	return refusal{code, ""}
}

// Movements show an id beside the refNum: the refNum times an odd number modulo 2^64, as 16 hex digits. Both are found
// again without an index, and nobody can take one for the other.
const (
	tranIDFactor  uint64 = 0x9E3779B97F4A7C15
	tranIDInverse uint64 = 0xF1DE83E19937733D // tranIDFactor times this is 1 modulo 2^64
)

// byTranID finds a movement by its refNum or its id.
func (s *Sim) byTranID(v *value) (uint32, *record) {
	if v.kind == text && len(v.text) == 16 {
		if id, err := strconv.ParseUint(string(v.text), 16, 64); err == nil {
			return s.byRefNum(int64(id * tranIDInverse))
		}
	}
	ref, ok := v.integer(true)
	if !ok {
		return 0, nil
	}
	return s.byRefNum(ref)
}

var tranType = [...]string{kindCharge: "DEBIT", kindCapture: "DEBIT", kindRefund: "REVERSAL"}

// appendTran writes the movement object of §1.4.
func (s *Sim) appendTran(out *answer, n uint32) {
	r := s.record(n)
	status := "OK"
	if r.state == stateReversed {
		status = "ROK"
	}
	s.appendMovement(out, movement{
		id: uint64(s.refBase+int64(n)) * tranIDFactor, ref: s.refBase + int64(n), ext: []byte(r.ext), card: s.cards[r.card],
		tranType: tranType[r.kind], date12: r.date12, amount: r.amount, stan: int64(r.stan),
		field38: (int64(n)*7919 + 104_729) % 1_000_000, terminal: s.terminals[r.terminal],
		respText: "Approved", respSV: "00", status: status,
	})
}

// appendDeclined writes a refusal that looks like a movement: nothing is in the books, and the refNum is zeros.
func (s *Sim) appendDeclined(out *answer, a *account, t merchantTerminal, ext []byte, amount int64, now time.Time, status string) {
	s.appendMovement(out, movement{
		ext: ext, card: a, tranType: "DEBIT", date12: date12(now), amount: amount, terminal: t,
		resp: declinedResp, respText: "Insufficient funds", respSV: "51", status: status,
	})
}

type movement struct {
	id                       uint64
	ref                      int64
	ext                      []byte
	card                     *account
	tranType                 string
	date12                   int64
	amount                   int64
	stan                     int64
	field38                  int64
	terminal                 merchantTerminal
	resp                     int64
	respText, respSV, status string
}

func (s *Sim) appendMovement(out *answer, m movement) {
	b := append(out.b, `{"id":"`...)
	b = fmt.Appendf(b, "%016X", m.id)
	b = append(b, `","username":`...)
	b = appendText(b, s.login)
	b = append(b, `,"refNum":`...)
	b = appendPadded(b, m.ref, len(refNumOfNothing))
	b = append(b, `,"ext":`...)
	b = appendText(b, m.ext)
	b = append(b, `,"pan":"`...)
	b = append(b, masked(m.card.pan)...)
	b = append(b, `","pan2":"","expiry":"`...)
	b = append(b, m.card.exp...)
	b = append(b, `","tranType":"`...)
	b = append(b, m.tranType...)
	b = append(b, `","transType":1,"date7":`...)
	b = appendPadded(b, m.date12%10_000_000_000, 10)
	b = append(b, `,"date12":`...)
	b = appendPadded(b, m.date12, 12)
	b = append(b, `,"amount":`...)
	b = strconv.AppendInt(b, m.amount+out.amountError, 10)
	b = append(b, `,"commission":0,"currency":`...)
	if out.currencyString {
		b = append(b, `"`+currencyUZS+`"`...)
	} else {
		b = append(b, currencyUZS...)
	}
	b = append(b, `,"stan":`...)
	b = appendPadded(b, m.stan, 6)
	b = append(b, `,"field38":`...)
	b = appendPadded(b, m.field38, 6)
	b = append(b, `,"field48":null,"field91":null,"merchantId":`...)
	b = appendText(b, m.terminal.merchantID)
	b = append(b, `,"terminalId":`...)
	b = appendText(b, m.terminal.terminalID)
	b = append(b, `,"resp":`...)
	b = strconv.AppendInt(b, m.resp, 10)
	b = append(b, `,"respText":"`...)
	b = append(b, m.respText...)
	b = append(b, `","respSV":"`...)
	b = append(b, m.respSV...)
	b = append(b, `","status":"`...)
	b = append(b, m.status...)
	out.b = append(b, `"}`...)
}

// bins are the card number ranges of the book.
var bins = []string{"860006", "860014", "860031", "860049"}

// uzcardBIN tells whether a number can be Uzcard's at all (docs/processors.md §4).
func uzcardBIN(pan []byte) bool {
	switch string(pan[:4]) {
	case "8600", "5614", "6262":
		return true
	}
	return false
}

func (s *Sim) getBINList(_ params, _ time.Time, out *answer) refusal {
	for i, bin := range bins {
		out.b = fmt.Appendf(append(out.b, separator(i)), `{"instId":"%02d","bin":"%s"}`, i+1, bin)
	}
	out.b = append(out.b, ']')
	return refusal{}
}

// terminalGet serves terminal.get: the merchants and terminals seen so far, maxTerminals at most.
func (s *Sim) terminalGet(_ params, _ time.Time, out *answer) refusal {
	listed := 0
	for i, t := range s.terminals {
		if t.centre != atSVGate {
			continue
		}
		out.b = append(out.b, separator(listed))
		listed++
		out.b = fmt.Appendf(out.b, `{"pid":%d,"terminalId":"%s","merchantId":"%s","username":`, i+1, t.terminalID, t.merchantID)
		out.b = appendText(out.b, s.login)
		out.b = append(out.b, `,"terminalType":1,"instId":"01","name":"Holdfast test terminal","port":443,"purpose":"DEFAULT"}`...)
	}
	out.b = append(out.b, ']')
	return refusal{}
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// decimal is the number that at most 18 digits write.
func decimal(b []byte) int64 {
	n := int64(0)
	for _, c := range b {
		n = n*10 + int64(c-'0')
	}
	return n
}

func alphanumeric(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// validDate12 tells whether yyMMddHHmmss is a moment of the calendar.
func validDate12(b []byte) bool {
	_, err := time.Parse("060102150405", string(b))
	return err == nil
}
