package sim

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Fault is a bad day to come: the next calls of a method that it matches go wrong in one way. It is the body of
// POST /sim/faults and an element of GET /sim/faults, where Times and After are what is left of them.
type Fault struct {
	// Method is a method of a centre: SVGate's own name such as "hold.create", or humo.hold, rbs.deposit and so on; or
	// "*" for any. What the gateway itself is told is rbs.callback, which only the callback faults spoil.
	Method string `json:"method"`
	Name   string `json:"fault"` // request_lost, answer_lost, slow, …: faultKinds has them all, and so has the page
	// Times is how many calls it spoils, 1..1000000; 0 means 1. Only one fault spoils a call: the oldest that matches.
	Times int `json:"times"`
	// PAN limits it to calls about one card, be it named by number, token, OTP request, hold, ext or refNum. "" is any.
	PAN   string `json:"pan,omitempty"`
	After int    `json:"after"` // how many matching calls go well before it begins, 0..1000000
	// Code is for error_code only: what it answers. -1..-32768 are SVGate's and spoil its methods; 1..999 are an action
	// code at Humo and an errorCode at RBS and spoil theirs.
	Code int `json:"code,omitempty"`

	cleared <-chan struct{} // of one that has happened: closed when the faults are cleared
}

const (
	maxFaults     = 1000
	maxFaultCount = 1_000_000
)

// faultKind is a kind of bad day and what it does, as the page lists it.
type faultKind struct {
	Name    string
	Meaning string
	// notDone: the centre does nothing. Every other kind does the call's work first and spoils the answer.
	notDone bool
	methods []string // the only methods it can spoil, "hold.*" being all that begin so; nil is any but rbs.callback
}

// faultKinds are all there are.
var faultKinds = []faultKind{
	{Name: "request_lost", notDone: true, Meaning: "Not done; the connection is closed without an answer."},
	{Name: "answer_lost", Meaning: "Done; then the connection is closed without an answer."},
	{Name: "reset", Meaning: "Done; then the connection is reset (TCP RST) without an answer."},
	{Name: "fail_before", notDone: true, Meaning: "Not done; HTTP 502 with an empty body."},
	{Name: "fail_after_done", Meaning: "Done; then HTTP 500 with an empty body."},
	{Name: "http_502", Meaning: "Done; but a proxy in between answers HTTP 502 with a page of HTML."},
	{Name: "http_429", notDone: true, Meaning: "Not done; HTTP 429, too many requests."},
	{Name: "unknown_301", Meaning: "Done; answers -301, “ask trans.ext later”.", methods: svgateOnly},
	{Name: "unknown_301_not_done", notDone: true, Meaning: "Not done; answers -301, “ask trans.ext later”.", methods: svgateOnly},
	{Name: "system_error", Meaning: "Done; answers that the system has failed: action code 909 at Humo, errorCode 7 at RBS.", methods: othersOnly},
	{Name: "system_error_not_done", notDone: true, Meaning: "Not done; answers that the system has failed: action code 909 at Humo, errorCode 7 at RBS.", methods: othersOnly},
	{Name: "error_code", notDone: true, Meaning: "Not done; answers the error of the field code: -300 at SVGate, action code 907 at Humo, errorCode 5 at RBS."},
	{Name: "slow", Meaning: "Done at once; answered after the simulator's slow time (3 s unless set), or never if the caller has gone by then."},
	{Name: "withheld", Meaning: "Done at once; answered when the faults are cleared, or never if the caller has gone by then."},
	{Name: "drip", Meaning: "Done; the answer comes a byte at a time, and takes as long as a slow one in all."},
	{Name: "garbage", Meaning: "Done; HTTP 200 with something that is neither JSON nor XML."},
	{Name: "truncated", Meaning: "Done; HTTP 200 with the first half of the answer."},
	{Name: "wrong_id", Meaning: "Done; the answer carries another request's id: at Humo another payment's paymentID and paymentRef, in rbs.status another orderNumber and mdOrder.", methods: idMethods},
	{Name: "wrong_amount", Meaning: "Done rightly; but the amounts in the answer (reqamt of a hold) are 100 minor units too high.", methods: amountMethods},
	{Name: "lower_case_fields", Meaning: "Done; holdAmount and cashbackAmount are spelt holdamount and cashbackamount.", methods: []string{"cards.new.verify", "cards.get"}},
	{Name: "currency_string", Meaning: "Done; currency is \"860\" and not 860.", methods: transMethods},
	{Name: "not_found_once", notDone: true, Meaning: "A query answers “not found” (hold.get.cardId: an empty list) although it is there.", methods: queryMethods},
	{Name: "soap_fault", Meaning: "Done; answers a SOAP Fault without an action code in it.", methods: soapMethods},
	{Name: "wrong_namespace", Meaning: "Done; the answer's elements are of the namespace urn:PaymentServer2.", methods: soapMethods},
	{Name: "json_for_xml", Meaning: "Done; HTTP 200 with JSON where XML is due.", methods: soapMethods},
	{Name: "errorCode_string", Meaning: "Done; errorCode is a string such as \"0\" and not a number.", methods: rbsMethodNames},
	{Name: "errorCode_absent", Meaning: "Done; an answer that would say errorCode 0 says nothing of it.", methods: rbsMethodNames},
	{Name: "callback_lost", Meaning: "The callback is never sent.", methods: callbackOnly},
	{Name: "callback_early", Meaning: "The callback is sent, and its answer awaited, before the call that caused it is answered.", methods: callbackOnly},
	{Name: "callback_late", Meaning: "The callback is sent after the simulator's slow time (3 s unless set).", methods: callbackOnly},
	{Name: "callback_twice", Meaning: "The callback is sent twice although it was acknowledged.", methods: callbackOnly},
	{Name: "callback_forged", Meaning: "The callback says the opposite (status), under the checksum of something else.", methods: callbackOnly},
}

const rbsCallback = "rbs.callback"

// The methods of the centres but for SVGate, as faults name them.
var (
	soapMethods    = []string{"humo.hold", "humo.charge", "humo.confirm", "humo.cancel", "humo.return", "humo.get", "humo.reco"}
	rbsMethodNames = []string{"rbs.register", "rbs.paymentorder", "rbs.continue", "rbs.finish", "rbs.status", "rbs.deposit", "rbs.reverse", "rbs.refund"}
	otherMethods   = slices.Concat(soapMethods, []string{"humo.card", "humo.otp"}, rbsMethodNames, []string{"sms.send", rbsCallback})
)

var (
	svgateOnly    = []string{"cards.*", "balance.*", "hold.*", "trans.*", "get.*", "terminal.*"}
	othersOnly    = slices.Concat(soapMethods, []string{"humo.card", "humo.otp"}, rbsMethodNames)
	callbackOnly  = []string{rbsCallback}
	transMethods  = []string{"hold.dismiss.charge", "trans.pay.purpose", "trans.ext", "trans.sv", "trans.reverse", "trans.reverse.partial"}
	queryMethods  = []string{"trans.ext", "trans.sv", "hold.get.id", "hold.get.cardId", "humo.get", "rbs.status"}
	idMethods     = slices.Concat(svgateOnly, []string{"humo.hold", "humo.charge", "humo.confirm", "humo.get", "rbs.status"})
	amountMethods = slices.Concat([]string{"hold.get.id", "hold.get.cardId"}, transMethods,
		[]string{"humo.hold", "humo.charge", "humo.confirm", "humo.get", "rbs.status", rbsCallback})
)

func faultNamed(name string) *faultKind {
	for i := range faultKinds {
		if faultKinds[i].Name == name {
			return &faultKinds[i]
		}
	}
	return nil
}

func (f *faultKind) spoils(method string) bool {
	if f.methods == nil {
		return method != rbsCallback
	}
	for _, m := range f.methods {
		if prefix, all := strings.CutSuffix(m, "*"); m == method || all && strings.HasPrefix(method, prefix) {
			return true
		}
	}
	return false
}

// matches tells whether a fault is meant for a call of a method about a card, nil if it names none.
func (f *Fault) matches(method string, a *account) bool {
	if f.Method != "*" && f.Method != method || f.PAN != "" && (a == nil || a.pan != f.PAN) {
		return false
	}
	// A code below zero means nothing to Humo and RBS, and one above zero nothing to SVGate.
	if f.Code != 0 && (f.Code > 0) != slices.Contains(otherMethods, method) {
		return false
	}
	return faultNamed(f.Name).spoils(method)
}

// AddFault arranges a bad day. The error is a sentence that names the field and what is allowed there.
func (s *Sim) AddFault(f Fault) error {
	kind := faultNamed(f.Name)
	if kind == nil {
		var all []string
		for _, k := range faultKinds {
			all = append(all, k.Name)
		}
		return fmt.Errorf("fault: %q is not known; allowed are %s", f.Name, strings.Join(all, ", "))
	}
	if f.Method != "*" {
		if !slices.Contains(methodNames(), f.Method) {
			return fmt.Errorf("method: %q is not known; allowed are * and %s", f.Method, strings.Join(methodNames(), ", "))
		}
		if !kind.spoils(f.Method) {
			return fmt.Errorf("method: %s cannot happen to %s; allowed are * and %s", f.Name, f.Method, strings.Join(kind.methods, ", "))
		}
	}
	if f.Times == 0 {
		f.Times = 1
	}
	if f.Times < 1 || f.Times > maxFaultCount {
		return fmt.Errorf("times: %d is out of range; allowed are 1 to %d", f.Times, maxFaultCount)
	}
	if f.After < 0 || f.After > maxFaultCount {
		return fmt.Errorf("after: %d is out of range; allowed are 0 to %d", f.After, maxFaultCount)
	}
	switch {
	case f.Name != "error_code" && f.Code != 0:
		return fmt.Errorf("code: only error_code has one, %s has none", f.Name)
	case f.Name == "error_code" && (f.Code == 0 || f.Code < -32768 || f.Code > 999):
		return fmt.Errorf("code: %d is out of range; error_code needs -1 to -32768 for SVGate, for example -300, or 1 to 999 for the others", f.Code)
	case f.Code != 0 && f.Method != "*" && (f.Code > 0) != slices.Contains(otherMethods, f.Method):
		return fmt.Errorf("code: %d is no code of %s; allowed are -1 to -32768 for SVGate and 1 to 999 for the others", f.Code, f.Method)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.PAN != "" && s.byPAN[f.PAN] == nil {
		return fmt.Errorf("pan: no such card; allowed are the card numbers of GET /sim/cards")
	}
	if len(s.faults) >= maxFaults {
		return fmt.Errorf("fault: %d are waiting already; clear them first (DELETE /sim/faults)", maxFaults)
	}
	s.faults = append(s.faults, f)
	return nil
}

// ClearFaults forgets all faults that have not happened yet, and sends the answers that are withheld.
func (s *Sim) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetFaults()
}

// forgetFaults does so. The caller holds mu, or owns s alone.
func (s *Sim) forgetFaults() {
	s.faults = nil
	if s.cleared != nil {
		close(s.cleared)
	}
	s.cleared = make(chan struct{})
}

// Faults are the bad days still to come, oldest first.
func (s *Sim) Faults() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Fault{}, s.faults...)
}

// takeFault finds the fault that spoils this call, if any, and uses it up by one. Every matching fault that is still
// waiting counts the call. The caller holds mu.
func (s *Sim) takeFault(method string, a *account) (Fault, *faultKind) {
	var hit Fault
	var kind *faultKind
	kept := s.faults[:0]
	for _, f := range s.faults {
		if !f.matches(method, a) {
			kept = append(kept, f)
			continue
		}
		switch {
		case f.After > 0:
			f.After--
		case kind == nil:
			hit, kind = f, faultNamed(f.Name)
			hit.cleared = s.cleared
			f.Times--
		}
		if f.Times > 0 {
			kept = append(kept, f)
		}
	}
	s.faults = kept
	return hit, kind
}

const garbageAnswer = "<<< SVFE 8.4 dump: 0210 F23C \x00\x01 segment lost >>>"

const proxyPage = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><center><h1>502 Bad Gateway</h1></center></body>\r\n</html>\r\n"

// reply is a centre's answer before it is sent, or spoiled. A reply without a body has a status and nothing else.
type reply struct {
	status      int
	contentType []string
	body        []byte
}

// deliver sends an answer in the way that the fault, if any, has chosen. The work is done or left undone by now.
func (s *Sim) deliver(w http.ResponseWriter, r *http.Request, fault Fault, a reply) {
	switch fault.Name {
	case "request_lost", "answer_lost":
		s.hangUp(w, false)
		return
	case "reset":
		s.hangUp(w, true)
		return
	case "fail_before":
		w.WriteHeader(http.StatusBadGateway)
		return
	case "fail_after_done":
		w.WriteHeader(http.StatusInternalServerError)
		return
	case "http_429":
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests", http.StatusTooManyRequests)
		return
	case "http_502":
		w.Header()["Content-Type"] = htmlType
		w.WriteHeader(http.StatusBadGateway)
		s.write(w, []byte(proxyPage))
		return
	case "slow":
		wait := time.NewTimer(s.slowAnswer)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-r.Context().Done():
			return
		}
	case "withheld":
		select {
		case <-fault.cleared:
		case <-r.Context().Done():
			return
		}
	case "drip":
		s.drip(w, r, a)
		return
	case "garbage":
		a.status, a.body = http.StatusOK, []byte(garbageAnswer)
	case "truncated":
		a.status, a.body = http.StatusOK, a.body[:len(a.body)/2]
	case "json_for_xml":
		a = reply{http.StatusOK, jsonType, []byte(`{"status":"ok","service":"PaymentServer"}`)}
	}
	w.Header()["Content-Type"] = a.contentType
	if a.status != http.StatusOK {
		w.WriteHeader(a.status)
	}
	s.write(w, a.body)
}

// drip sends the answer a byte at a time over the time of a slow one, whatever its length.
func (s *Sim) drip(w http.ResponseWriter, r *http.Request, a reply) {
	control := http.NewResponseController(w)
	tick := time.NewTicker(max(s.slowAnswer/time.Duration(len(a.body)+1), 100*time.Microsecond))
	defer tick.Stop()
	over := time.NewTimer(2 * s.slowAnswer) // a long list at a slow tick ends all the same
	defer over.Stop()
	w.Header()["Content-Type"] = a.contentType
	w.WriteHeader(a.status)
	for i := range a.body {
		s.write(w, a.body[i:i+1])
		if err := control.Flush(); err != nil {
			return // the caller has gone
		}
		select {
		case <-tick.C:
		case <-over.C:
			s.write(w, a.body[i+1:])
			return
		case <-r.Context().Done():
			return
		}
	}
}

// hangUp closes the connection without a byte of answer, politely (FIN) or not (RST).
func (s *Sim) hangUp(w http.ResponseWriter, reset bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		// A writer that cannot be hijacked (HTTP/2, a recorder): the server then drops the stream itself.
		panic(http.ErrAbortHandler)
	}
	if below, ok := conn.(interface{ NetConn() net.Conn }); ok && reset {
		conn = below.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		err = tcp.SetLinger(0) // with nothing to linger for, closing sends RST
	}
	if err := errors.Join(err, conn.Close()); err != nil {
		s.log.Debug("caller has gone before it could be left", "error", err)
	}
}
