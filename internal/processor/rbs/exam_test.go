package rbs_test

import (
	"bytes"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor/processortest"
	"holdfast/internal/processor/rbs"
	"holdfast/internal/sim"
)

func TestExam(t *testing.T) {
	processortest.Run(t, processortest.Exam{New: func(t *testing.T, answer time.Duration) *processortest.World {
		return newCentre(t, answer, sim.Config{}).world()
	}})
}

// centre is the simulator on the network, with a clock of its own and somebody in between who can
// spoil calls.
type centre struct {
	sim       *sim.Sim
	server    *httptest.Server
	connector *rbs.Connector
	clock     *processortest.Clock
	log       *processortest.Log

	mu     sync.Mutex
	spoils []spoil
	record func(method string, request, response []byte) // of good calls, where somebody wants to know
}

type spoil struct {
	method string
	fault  processortest.Fault
	times  int
}

func newCentre(t testing.TB, answer time.Duration, cfg sim.Config) *centre {
	t.Helper()
	c := &centre{clock: processortest.NewClock(), log: new(processortest.Log)}
	cfg.Now, cfg.Seed, cfg.SlowAnswer = c.clock.Now, 1, 4*answer
	cfg.RBSLogin, cfg.RBSPassword = "shop-api", "secret-of-the-shop"
	c.sim = sim.New(cfg)
	c.server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.server.Close)
	connector, err := rbs.New(rbs.Config{
		Currencies: []money.Currency{money.UZS},
		Endpoint:   c.server.URL + "/rbs", Login: "shop-api", Password: "secret-of-the-shop",
		ReturnURL: page("return"), MethodNotificationURL: page("method"),
		Answer: answer, Now: c.clock.Now, Log: c.log.Logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.connector = connector
	return c
}

// page is a page of ours that the payer's browser comes back to.
func page(name string) func(payment.ID) string {
	return func(id payment.ID) string { return "https://pay.example/3ds/" + id.String() + "/" + name }
}

// simMethods is what the simulator calls the calls.
var simMethods = map[string]string{
	"registerPreAuth.do": "rbs.register", "register.do": "rbs.register", "paymentorder.do": "rbs.paymentorder", "3ds/continue.do": "rbs.continue",
	"finish3dsVer2Payment.do": "rbs.finish", "getOrderStatusExtended.do": "rbs.status",
	"deposit.do": "rbs.deposit", "reverse.do": "rbs.reverse", "refund.do": "rbs.refund",
}

// serve stands between connector and simulator.
func (c *centre) serve(w http.ResponseWriter, r *http.Request) {
	call, ours := strings.CutPrefix(r.URL.Path, "/rbs/rest/")
	if !ours {
		c.sim.Handler().ServeHTTP(w, r) // the payer's browser
		return
	}
	method, known := simMethods[call]
	if !known || r.URL.RawQuery != "" {
		panic("the connector called " + r.URL.String())
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	f, spoilt := c.take(method)
	switch {
	case spoilt && f == processortest.RequestLate:
		late := httptest.NewRequest(http.MethodPost, r.URL.Path, bytes.NewReader(body))
		late.Header = r.Header.Clone()
		c.clock.Late(func() { c.sim.Handler().ServeHTTP(httptest.NewRecorder(), late) })
		panic(http.ErrAbortHandler)
	case spoilt:
		if err := c.sim.AddFault(simFault(f, method)); err != nil {
			panic(err)
		}
	case c.record != nil:
		answered := httptest.NewRecorder()
		c.sim.Handler().ServeHTTP(answered, r)
		c.record(call, body, answered.Body.Bytes())
		w.Write(answered.Body.Bytes())
		return
	}
	c.sim.Handler().ServeHTTP(w, r)
}

// take finds the fault for a call.
func (c *centre) take(method string) (processortest.Fault, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.spoils {
		s := &c.spoils[i]
		if s.method != method {
			continue
		}
		f := s.fault
		if s.times--; s.times == 0 {
			c.spoils = slices.Delete(c.spoils, i, i+1)
		}
		return f, true
	}
	return "", false
}

// methods are the calls of each question that hand in the card or move the money.
var methods = map[payment.Ask]map[payment.Kind]string{
	payment.Send: {
		payment.OpHold: "rbs.paymentorder", payment.OpCharge: "rbs.paymentorder", payment.OpCapture: "rbs.deposit", payment.OpVoid: "rbs.reverse",
		payment.OpRefund: "rbs.refund",
	},
	payment.Continue: {payment.OpHold: "rbs.finish", payment.OpCharge: "rbs.finish"},
	payment.Query: {
		payment.OpHold: "rbs.status", payment.OpCharge: "rbs.status", payment.OpCapture: "rbs.status", payment.OpVoid: "rbs.status",
		payment.OpRefund: "rbs.status",
	},
}

// steps are all calls of a hold or charge.
var steps = map[payment.Step][]string{
	"":                    {"rbs.register", "rbs.paymentorder"},
	payment.StepMethod:    {"rbs.continue", "rbs.status"},
	payment.StepChallenge: {"rbs.finish", "rbs.status"},
}

// simNames is what the simulator calls the exam's faults.
var simNames = map[processortest.Fault]string{
	processortest.RequestLost: "request_lost", processortest.AnswerLost: "answer_lost", processortest.Reset: "reset",
	processortest.FailedBefore: "fail_before", processortest.FailedAfter: "fail_after_done", processortest.ProxyPage: "http_502",
	processortest.DoubtDone: "system_error", processortest.DoubtNotDone: "system_error_not_done", processortest.Down: "http_429",
	processortest.Slow: "slow", processortest.Drip: "drip", processortest.Garbage: "garbage", processortest.Truncated: "truncated",
	processortest.WrongID: "wrong_id", processortest.WrongSum: "wrong_amount", processortest.NotFoundOnce: "not_found_once",
}

func simFault(f processortest.Fault, method string) sim.Fault {
	return sim.Fault{Method: method, Name: simNames[f]}
}

// possible asks a simulator nobody uses which faults there are.
var possible = sync.OnceValue(func() *sim.Sim { return sim.New(sim.Config{Seed: 1}) })

func (c *centre) spoil(method string, f processortest.Fault, times int) bool {
	if method == "" {
		return false
	}
	if f != processortest.RequestLate {
		if err := possible().AddFault(simFault(f, method)); err != nil {
			return false
		}
		possible().ClearFaults()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spoils = append(c.spoils, spoil{method, f, times})
	return true
}

func (c *centre) fault(kind payment.Kind, ask payment.Ask, f processortest.Fault, times int) bool {
	return c.spoil(methods[ask][kind], f, times)
}

func (c *centre) faultAt(_ payment.Kind, at processortest.Spot, f processortest.Fault) bool {
	calls := steps[at.Step]
	return at.Call < len(calls) && c.spoil(calls[at.Call], f, 1)
}

func (c *centre) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spoils = nil
}

// behaviours is what the simulator calls the exam's cards.
var behaviours = map[processortest.Behaviour][]string{
	processortest.Good: {"ok"}, processortest.Poor: {"insufficient_funds"}, processortest.Blocked: {"lost", "stolen"},
	processortest.Frictionless: {"frictionless", "no_3ds"}, processortest.Attempt: {"attempt"}, processortest.FailsAtBank: {"challenge_fails"},
	processortest.BankUnable: {"unavailable"}, processortest.BankRejects: {"rejected", "not_authenticated"},
	processortest.WalksAway: {"abandoned"}, processortest.MethodTimeout: {"method_timeout", "no_method"},
}

// cards are those of Visa and Mastercard that behave so; without names, all that are not good.
func (c *centre) cards(names ...string) []payment.Card {
	var found []payment.Card
	for _, card := range c.sim.Cards() {
		if card.Scheme != "visa" && card.Scheme != "mastercard" {
			continue
		}
		if slices.Contains(names, card.Behaviour) || names == nil && card.Behaviour != "ok" {
			found = append(found, payment.Card{Number: card.PAN, Expiry: card.Exp, CVC: card.CVC, Holder: card.Holder})
		}
	}
	return found
}

// code is the newest message to the card's holder.
func (c *centre) code(t testing.TB, number string) string {
	t.Helper()
	for _, card := range c.sim.Cards() {
		if card.PAN != number {
			continue
		}
		if messages := c.sim.SMS(card.Phone); len(messages) > 0 {
			return messages[0].Code
		}
	}
	t.Fatal("no code was sent")
	return ""
}

var (
	formAction = regexp.MustCompile(`<form method="post" action="([^"]*)"`)
	formField  = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)
)

// browse posts a form as a browser does, and reads the form of the page that comes.
func browse(t testing.TB, address string, fields url.Values) (action string, form url.Values) {
	t.Helper()
	response, err := http.PostForm(address, fields)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: HTTP %d %v\n%s", address, response.StatusCode, err, page)
	}
	form = url.Values{}
	for _, field := range formField.FindAllStringSubmatch(string(page), -1) {
		form.Set(html.UnescapeString(field[1]), html.UnescapeString(field[2]))
	}
	if found := formAction.FindStringSubmatch(string(page)); found != nil {
		base, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		to, err := base.Parse(html.UnescapeString(found[1]))
		if err != nil {
			t.Fatal(err)
		}
		action = to.String()
	}
	return action, form
}

// pass is a payer's browser at a step of 3-D Secure. It reports whether it comes back to us.
func (c *centre) pass(t *testing.T, card payment.Card, challenge payment.Challenge) bool {
	t.Helper()
	if challenge.Step == payment.StepMethod {
		to, form := browse(t, challenge.URL, url.Values{"threeDSMethodData": {challenge.Data}})
		if to != "" && (!strings.HasSuffix(to, "/method") || form.Get("threeDSMethodData") == "") {
			t.Errorf("the hidden frame posts %v to %s", form, to)
		}
		return true // silent or not: the page goes on
	}
	to, form := browse(t, challenge.URL, url.Values{"creq": {challenge.Data}, "threeDSSessionData": {"c2Vzc2lvbg"}})
	for range 4 {
		if form.Get("cres") != "" {
			if !strings.HasPrefix(to, "https://pay.example/3ds/") || !strings.HasSuffix(to, "/return") || form.Get("threeDSSessionData") != "c2Vzc2lvbg" {
				t.Errorf("the bank's page posts %v to %s", form, to)
			}
			return true
		}
		if to == "" {
			return false
		}
		form.Set("code", c.code(t, card.Number))
		form.Set("do", "submit")
		to, form = browse(t, to, form)
	}
	t.Error("the bank's page has no end")
	return false
}

func (c *centre) standing(number string) processortest.Standing {
	var s processortest.Standing
	books := c.sim.Books()
	for _, card := range books.Cards {
		if card.PAN == number {
			s.Held, s.Taken = card.Held, card.Opening-card.Balance
		}
	}
	for _, op := range books.Operations {
		if op.Scheme != "visa" && op.Scheme != "mastercard" || !strings.HasSuffix(number, op.PANLast) {
			continue
		}
		switch {
		case op.Kind == "hold":
			s.Made++
			if op.State == "held" {
				s.Holds++
			}
		case op.Kind == "charge" || op.Kind == "capture":
			s.Takings++
		case op.Kind == "refund":
			s.Refunds++
			s.Refunded += op.Amount
		}
	}
	s.Taken += s.Refunded // the balance has them back
	return s
}

func (c *centre) world() *processortest.World {
	return &processortest.World{
		Processor: c.connector,
		Now:       c.clock.Now,
		Advance:   c.clock.Advance,
		Cards:     func(b processortest.Behaviour) []payment.Card { return c.cards(behaviours[b]...) },
		Browser:   c.pass,
		Fault:     c.fault,
		FaultAt:   c.faultAt,
		Forget:    c.forget,
		Stop:      c.server.Close,
		Standing:  c.standing,
		Log:       c.log.String,
	}
}
