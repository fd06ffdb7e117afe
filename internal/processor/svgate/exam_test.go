package svgate_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/processor/processortest"
	"holdfast/internal/processor/svgate"
	"holdfast/internal/sim"
)

func TestExam(t *testing.T) {
	processortest.Run(t, processortest.Exam{New: func(t *testing.T, answer time.Duration) *processortest.World {
		return newCentre(t, answer).world()
	}})
}

// centre is the simulator on the network, with a clock of its own and somebody in between who can
// spoil calls.
type centre struct {
	sim       *sim.Sim
	server    *httptest.Server
	connector *svgate.Connector
	clock     *processortest.Clock
	log       *processortest.Log

	mu     sync.Mutex
	spoils []spoil
	record func(method string, request, response []byte) // of good calls, where somebody wants to know
}

type spoil struct {
	methods []string
	fault   processortest.Fault
	times   int
}

func newCentre(t testing.TB, answer time.Duration) *centre {
	t.Helper()
	c := &centre{clock: processortest.NewClock(), log: new(processortest.Log)}
	c.sim = sim.New(sim.Config{Now: c.clock.Now, Seed: 1, SlowAnswer: 4 * answer, Login: "shop", Password: "secret-of-the-shop"})
	c.server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.server.Close)
	connector, err := svgate.New(svgate.Config{
		Endpoint: c.server.URL + "/svgate", Login: "shop", Password: "secret-of-the-shop",
		MerchantID: "90050017182", TerminalID: "91419475", Port: 16050,
		Answer: answer, Now: c.clock.Now, Log: c.log.Logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.connector = connector
	return c
}

// serve stands between connector and simulator.
func (c *centre) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var call struct {
		Method string `json:"method"`
	}
	if json.Unmarshal(body, &call) != nil {
		panic("the connector sent no JSON")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	f, spoilt := c.take(call.Method)
	switch {
	case spoilt && f == processortest.RequestLate:
		late := httptest.NewRequest(http.MethodPost, "/svgate", bytes.NewReader(body))
		late.Header = r.Header.Clone()
		c.clock.Late(func() { c.sim.Handler().ServeHTTP(httptest.NewRecorder(), late) })
		panic(http.ErrAbortHandler)
	case spoilt:
		if err := c.sim.AddFault(simFault(f, call.Method)); err != nil {
			panic(err)
		}
	case c.record != nil:
		answered := httptest.NewRecorder()
		c.sim.Handler().ServeHTTP(answered, r)
		c.record(call.Method, body, answered.Body.Bytes())
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
		if !slices.Contains(s.methods, method) {
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

// methods are the calls that each question makes.
var methods = map[payment.Ask]map[payment.Kind][]string{
	payment.Send: {
		payment.OpChallenge: {"cards.new.otp"}, payment.OpVerify: {"cards.new.verify"}, payment.OpHold: {"hold.create"},
		payment.OpCharge: {"trans.pay.purpose"}, payment.OpCapture: {"hold.dismiss.charge"}, payment.OpVoid: {"hold.dismiss"},
		payment.OpRefund: {"trans.reverse.partial"},
	},
	payment.Query: {
		payment.OpHold: {"hold.get.cardId"}, payment.OpCharge: {"trans.ext"}, payment.OpCapture: {"trans.ext", "hold.get.id"},
		payment.OpVoid: {"hold.get.id"}, payment.OpRefund: {"trans.ext"},
	},
}

// simNames is what the simulator calls the exam's faults.
var simNames = map[processortest.Fault]string{
	processortest.RequestLost: "request_lost", processortest.AnswerLost: "answer_lost", processortest.Reset: "reset",
	processortest.FailedBefore: "fail_before", processortest.FailedAfter: "fail_after_done", processortest.ProxyPage: "http_502",
	processortest.DoubtDone: "unknown_301", processortest.DoubtNotDone: "unknown_301_not_done", processortest.Down: "error_code",
	processortest.Slow: "slow", processortest.Drip: "drip", processortest.Garbage: "garbage", processortest.Truncated: "truncated",
	processortest.WrongID: "wrong_id", processortest.WrongSum: "wrong_amount", processortest.NotFoundOnce: "not_found_once",
}

func simFault(f processortest.Fault, method string) sim.Fault {
	made := sim.Fault{Method: method, Name: simNames[f]}
	if f == processortest.Down {
		made.Code = -300
	}
	return made
}

// possible asks a simulator nobody uses which faults there are.
var possible = sync.OnceValue(func() *sim.Sim { return sim.New(sim.Config{Seed: 1}) })

func (c *centre) fault(kind payment.Kind, ask payment.Ask, f processortest.Fault, times int) bool {
	called := methods[ask][kind]
	for _, method := range called {
		if f == processortest.RequestLate {
			continue
		}
		if err := possible().AddFault(simFault(f, method)); err != nil {
			return false
		}
	}
	possible().ClearFaults()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spoils = append(c.spoils, spoil{called, f, times})
	return len(called) > 0
}

func (c *centre) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spoils = nil
}

// behaviours is what the simulator calls the exam's cards.
var behaviours = map[processortest.Behaviour][]string{
	processortest.Good: {"ok"}, processortest.Poor: {"insufficient_funds"}, processortest.Blocked: {"blocked", "lost", "stolen"},
}

// cards are the Uzcards that behave so; without names, all that are not good.
func (c *centre) cards(names ...string) []payment.Card {
	var found []payment.Card
	for _, card := range c.sim.Cards() {
		if card.Scheme == "uzcard" && (slices.Contains(names, card.Behaviour) || names == nil && card.Behaviour != "ok") {
			found = append(found, payment.Card{Number: card.PAN, Expiry: card.Exp})
		}
	}
	return found
}

// code is the newest SMS of the card's holder.
func (c *centre) code(t testing.TB, number string) payment.OTP {
	t.Helper()
	for _, card := range c.sim.Cards() {
		if card.PAN != number {
			continue
		}
		if messages := c.sim.SMS(card.Phone); len(messages) > 0 {
			return payment.OTP(messages[0].Code)
		}
	}
	t.Fatal("no code was sent")
	return ""
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
		if op.Scheme != "uzcard" || !strings.HasSuffix(number, op.PANLast) {
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
		Pass: func(t *testing.T, card payment.Card, _ payment.Challenge) payment.OTP {
			t.Helper()
			return c.code(t, card.Number)
		},
		Fault:    c.fault,
		Forget:   c.forget,
		Stop:     c.server.Close,
		Standing: c.standing,
		Log:      c.log.String,
	}
}
