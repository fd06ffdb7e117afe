package world_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/sim"
)

// wire is the way from a process to the centres. It calls the simulator's handler; what goes wrong on the
// way, and at the centre, is decided here, call by call.
type wire struct {
	w *world
	p *process
}

// lateCall is a request that reaches the centre when nobody waits for its answer any more.
type lateCall struct {
	at      time.Time
	method  string
	ref     string // of the operation that it is about
	request *http.Request
	body    []byte
	set     bool // the clock was set forward since
}

var errDead = errors.New("the process is dead")

// What goes wrong between us and a centre. All else is the simulator's (centreFaults).
const (
	requestLost = "request lost"
	requestLate = "request late"
	answerLost  = "answer lost"
	connReset   = "reset"
	timeOut     = "time-out"      // done, and answered when nobody listens any more
	lateAnswer  = "late answer"   // done, and answered when time has gone on, perhaps past a deadline
	elsewhere   = "meanwhile"     // other things happen before it arrives
	afterwards  = "and meanwhile" // other things happen before its answer is read
)

var wireFaults = []string{requestLost, requestLost, requestLate, answerLost, answerLost, connReset, timeOut, timeOut, lateAnswer}

// centreFaults are the simulator's, for each centre.
var centreFaults = func() map[string][]string {
	all := []string{"fail_before", "fail_after_done", "http_502", "http_429", "garbage", "truncated", "wrong_id", "wrong_amount", "not_found_once", "not_found_once", "error_code"}
	return map[string][]string{
		"svgate": slices.Concat(all, []string{"unknown_301", "unknown_301_not_done", "lower_case_fields", "currency_string"}),
		"humo":   slices.Concat(all, []string{"system_error", "system_error_not_done", "soap_fault", "wrong_namespace", "json_for_xml"}),
		"rbs":    slices.Concat(all, []string{"system_error", "system_error_not_done", "errorCode_string", "errorCode_absent"}),
	}
}()

// downCode is what a centre answers when it is down, by centre.
var downCode = map[string]int{"svgate": -300, "humo": 907, "rbs": 5}

const faultOnceIn = 6 // calls

func (n *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w, p := n.w, n.p
	body := []byte(nil)
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		if err := r.Body.Close(); err != nil {
			return nil, err
		}
	}
	if p.dead {
		return nil, errDead
	}
	w.figures.Calls++
	method, centre := methodOf(r, body)
	question := w.asking[len(w.asking)-1]
	over := func() time.Time { return w.asking[len(w.asking)-1].over } // the clock may be set meanwhile
	if !w.now().Before(over()) {
		return nil, context.DeadlineExceeded
	}
	if w.depth < maxDepth && !w.calm && w.maybe(14) {
		w.say("%s, and %s …", method, elsewhere)
		w.inside(w.meanwhile)
	}
	fault := ""
	if !w.calm && w.maybe(faultOnceIn) {
		fault = pick(w, wireFaults...)
		if w.maybe(2) {
			fault = pick(w, centreFaults[centre]...)
		}
		if shown := w.asking[len(w.asking)-1].shown; fault == "not_found_once" && !shown.IsZero() && !w.now().Before(shown) {
			fault = "http_502" // no centre says that of what it has had so long
		}
		w.figures.Faults++
		w.say("%s: %s", method, fault)
	}
	if p.dead {
		return nil, errDead
	}
	if !w.now().Before(over()) {
		return nil, context.DeadlineExceeded
	}
	switch fault {
	case "":
	case requestLost:
		return nil, errors.New("dial: connection refused after the first byte")
	case requestLate:
		w.late = append(w.late, lateCall{w.now().Add(time.Duration(1+w.rand.IntN(60)) * time.Second), method, question.ref, r, body, false})
		return nil, context.DeadlineExceeded
	case answerLost, connReset, timeOut, lateAnswer:
	default:
		f := sim.Fault{Method: "*", Name: fault}
		if fault == "error_code" {
			f.Code = downCode[centre]
		}
		if err := w.centre.AddFault(f); err != nil {
			w.wrong("the simulator knows no such fault: %v", err)
		}
	}
	res := w.perform(method, question.ref, r, body)
	w.centre.ClearFaults()
	if w.depth < maxDepth && !w.calm && w.maybe(14) {
		w.say("%s, %s …", method, afterwards)
		w.inside(w.meanwhile)
	}
	switch fault {
	case answerLost:
		return nil, io.ErrUnexpectedEOF
	case connReset:
		return nil, syscall.ECONNRESET
	case timeOut:
		w.inside(func() { w.pass(over()) })
	case lateAnswer:
		moment := w.someMoment()
		if last := over().Add(-time.Millisecond); moment.After(last) {
			moment = last
		}
		w.inside(func() { w.pass(moment) })
	}
	if p.dead {
		return nil, errDead
	}
	if !w.now().Before(over()) {
		return nil, context.DeadlineExceeded
	}
	if res == nil {
		return nil, io.ErrUnexpectedEOF
	}
	return res, nil
}

// perform delivers a call that is about one of our operations. SVGate takes no reference of ours for a hold, and so the world
// notes what each came of.
func (w *world) perform(method, ref string, r *http.Request, body []byte) (res *http.Response) {
	if method != "hold.create" {
		return w.deliver(r, body)
	}
	before := len(w.centre.Books().Operations)
	res = w.deliver(r, body)
	for _, op := range w.centre.Books().Operations[before:] {
		if op.Kind == "hold" {
			w.holds[op.HoldID] = ref
		}
	}
	return res
}

// deliver hands a request to the simulator; nil: it hung up.
func (w *world) deliver(r *http.Request, body []byte) (res *http.Response) {
	inner := r.Clone(context.Background())
	inner.Body = io.NopCloser(bytes.NewReader(body))
	inner.RequestURI, inner.RemoteAddr = r.URL.RequestURI(), "192.0.2.1:1234"
	inner.Header = make(http.Header, len(r.Header))
	for name, values := range r.Header {
		inner.Header[http.CanonicalHeaderKey(name)] = values // as they come out of a connection
	}
	if inner.Host == "" {
		inner.Host = r.URL.Host
	}
	defer func() {
		if why := recover(); why != nil {
			if why != http.ErrAbortHandler {
				panic(why)
			}
			res = nil
		}
	}()
	answer := httptest.NewRecorder()
	w.centre.Handler().ServeHTTP(answer, inner)
	return answer.Result()
}

// methodOf names a call, and the centre that it is for.
func methodOf(r *http.Request, body []byte) (method, centre string) {
	switch first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/"); first {
	case "svgate":
		_, rest, _ := strings.Cut(string(body), `"method":"`)
		method, _, _ = strings.Cut(rest, `"`)
		return method, "svgate"
	case "rbs":
		return path.Base(r.URL.Path), "rbs"
	case "humo":
		for _, message := range []string{"GetPayment", "CancelRequest", "ReturnPayment", "Payment"} {
			if bytes.Contains(body, []byte(message)) {
				return "humo " + message, "humo"
			}
		}
		return "humo", "humo"
	default:
		return strings.TrimPrefix(r.URL.Path, "/"), "humo"
	}
}

// browse posts a form as the payer's browser does.
func (w *world) browse(address string, form url.Values) {
	body := []byte(form.Encode())
	r, err := http.NewRequest(http.MethodPost, address, nil)
	if err != nil {
		w.wrong("the payer is sent to %q: %v", address, err)
		return
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if res := w.deliver(r, body); res != nil {
		res.Body.Close()
	}
}
