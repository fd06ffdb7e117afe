package humo_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/processor"
	"holdfast/internal/processor/humo"
	"holdfast/internal/processor/processortest"
	"holdfast/internal/sim"
)

// TestExam is held three times: each of the two calls of a challenge is spoiled, the codes are sent by
// us and by the centre, and what the centre says wrongly is said in two ways.
func TestExam(t *testing.T) {
	for _, setup := range []setup{
		{name: "our code", otp: humo.Gateway, challenge: "humo.card", names: simNames},
		{name: "our code, SMS spoiled", otp: humo.Gateway, challenge: "sms.send", names: soapNames},
		{name: "the centre's code", otp: humo.Centre, challenge: "humo.otp", names: simNames},
	} {
		t.Run(setup.name, func(t *testing.T) {
			if testing.Short() && setup.name != "our code" {
				t.Skip("one exam is enough for a short run")
			}
			processortest.Run(t, processortest.Exam{New: func(t *testing.T, answer time.Duration) *processortest.World {
				return newCentre(t, answer, setup).world()
			}})
		})
	}
}

// setup is what differs from one exam to another.
type setup struct {
	name      string
	otp       humo.Mode
	challenge string // the call of a challenge that faults spoil
	names     map[processortest.Fault]string
}

var plainSetup = setup{otp: humo.Gateway, challenge: "humo.card", names: simNames}

// simNames is what the simulator calls the exam's faults.
var simNames = map[processortest.Fault]string{
	processortest.RequestLost: "request_lost", processortest.AnswerLost: "answer_lost", processortest.Reset: "reset",
	processortest.FailedBefore: "fail_before", processortest.FailedAfter: "fail_after_done", processortest.ProxyPage: "http_502",
	processortest.DoubtDone: "system_error", processortest.DoubtNotDone: "system_error_not_done", processortest.Down: "error_code",
	processortest.Slow: "slow", processortest.Drip: "drip", processortest.Garbage: "garbage", processortest.Truncated: "truncated",
	processortest.WrongID: "wrong_id", processortest.WrongSum: "wrong_amount", processortest.NotFoundOnce: "not_found_once",
}

// soapNames has what only SOAP can do in the place of some.
var soapNames = func() map[processortest.Fault]string {
	names := maps.Clone(simNames)
	names[processortest.DoubtDone] = "soap_fault"
	names[processortest.Garbage] = "json_for_xml"
	names[processortest.WrongID] = "wrong_namespace"
	return names
}()

// centre is the simulator on the network, with a clock of its own and somebody in between who can
// spoil calls.
type centre struct {
	setup
	sim       *sim.Sim
	server    *httptest.Server
	connector *humo.Connector
	clock     *processortest.Clock
	log       *processortest.Log

	mu     sync.Mutex
	spoils []spoil
	sealed map[payment.ID]string
	record func(method string, request, response []byte, status int) // of good calls, where somebody wants to know
}

type spoil struct {
	question asked
	method   string
	fault    processortest.Fault
	times    int
}

// asked is the question that a call belongs to. It travels with the call: one call of PaymentServer serves many questions.
type asked struct {
	kind payment.Kind
	ask  payment.Ask
}

type askedKey struct{}

const kindHeader, askHeader = "X-Exam-Kind", "X-Exam-Ask"

// marker writes on each call which question it belongs to.
type marker struct{ http.RoundTripper }

func (m marker) RoundTrip(r *http.Request) (*http.Response, error) {
	if q, ok := r.Context().Value(askedKey{}).(asked); ok {
		r = r.Clone(r.Context())
		r.Header.Set(kindHeader, string(q.kind))
		r.Header.Set(askHeader, string(q.ask))
	}
	return m.RoundTripper.RoundTrip(r)
}

// examined is the connector as the exam has it. It remembers what a payment keeps of the card.
type examined struct {
	*humo.Connector
	centre *centre
}

func (e examined) Ask(ctx context.Context, q processor.Question) payment.Answer {
	c := e.centre
	c.mu.Lock()
	if q.Attempt.Centre.Sealed == "" {
		q.Attempt.Centre.Sealed = c.sealed[q.Payment]
	}
	c.mu.Unlock()
	a := e.Connector.Ask(context.WithValue(ctx, askedKey{}, asked{q.Operation.Kind, q.Operation.Ask}), q)
	if a.Centre.Sealed != "" {
		c.mu.Lock()
		c.sealed[q.Payment] = a.Centre.Sealed
		c.mu.Unlock()
	}
	return a
}

// safe is a vault of one key.
type safe struct{ cipher.AEAD }

func newSafe(key string) safe {
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return safe{aead}
}

func (s safe) seal(open []byte) ([]byte, error)     { return s.Seal(nil, nil, open, nil), nil }
func (s safe) unseal(sealed []byte) ([]byte, error) { return s.Open(nil, nil, sealed, nil) }

const (
	vaultKey = "the vault's key, of 32 bytes ..."
	codeKey  = "the key of the codes, of 32 bytes or more"
)

func newCentre(t testing.TB, answer time.Duration, s setup) *centre {
	t.Helper()
	c := &centre{setup: s, clock: processortest.NewClock(), log: new(processortest.Log), sealed: map[payment.ID]string{}}
	c.sim = sim.New(sim.Config{
		Now: c.clock.Now, Seed: 1, SlowAnswer: 4 * answer,
		HumoLogin: "shop", HumoPassword: "secret-of-the-shop", HumoToken: "token-of-the-middleware", SMSToken: "token-of-the-sms",
	})
	c.server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.server.Close)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 16
	t.Cleanup(transport.CloseIdleConnections)
	vault := newSafe(vaultKey)
	connector, err := humo.New(humo.Config{
		Endpoint: c.server.URL + "/humo", Login: "shop", Password: "secret-of-the-shop",
		MerchantID: "011860022000001", TerminalID: "2360000X", PointCode: "100010104110", CentreID: "0001",
		MiddlewareURL: c.server.URL + "/humo-middleware", MiddlewareToken: "token-of-the-middleware",
		OTP: s.otp, CodeKey: codeKey, SMSURL: c.server.URL + "/sms/send", SMSToken: "token-of-the-sms",
		Seal: vault.seal, Unseal: vault.unseal, HTTP: &http.Client{Transport: marker{transport}},
		Answer: answer, Now: c.clock.Now, Log: c.log.Logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.connector = connector
	return c
}

// methodOf is what the simulator calls a call.
func methodOf(path string, body []byte) string {
	has := func(part string) bool { return bytes.Contains(body, []byte(part)) }
	switch {
	case path == "/sms/send":
		return "sms.send"
	case path == "/humo-middleware/v3/iiacs/card":
		return "humo.card"
	case strings.HasPrefix(path, "/humo-middleware/otp/"):
		return "humo.otp"
	case has("<ebppif1:GetPayment>"):
		return "humo.get"
	case has("<ebppif1:CancelRequest>"):
		return "humo.cancel"
	case has("<ebppif1:ReturnPayment>"):
		return "humo.return"
	case has("<confirmed>"):
		return "humo.confirm"
	case has("SOAP_SMS"):
		return "humo.charge"
	case has("SOAP_DMS"):
		return "humo.hold"
	}
	panic("the connector sent " + path)
}

// serve stands between connector and simulator.
func (c *centre) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	method := methodOf(r.URL.Path, body)
	f, spoilt := c.take(asked{payment.Kind(r.Header.Get(kindHeader)), payment.Ask(r.Header.Get(askHeader))}, method)
	switch {
	case spoilt && f == processortest.RequestLate:
		late := httptest.NewRequest(http.MethodPost, r.URL.Path, bytes.NewReader(body))
		late.Header = r.Header.Clone()
		c.clock.Late(func() { c.sim.Handler().ServeHTTP(httptest.NewRecorder(), late) })
		panic(http.ErrAbortHandler)
	case spoilt:
		if err := c.sim.AddFault(c.simFault(f, method)); err != nil {
			panic(err)
		}
	case c.record != nil:
		answered := httptest.NewRecorder()
		c.sim.Handler().ServeHTTP(answered, r)
		c.record(method, body, answered.Body.Bytes(), answered.Code)
		w.WriteHeader(answered.Code)
		w.Write(answered.Body.Bytes())
		return
	}
	c.sim.Handler().ServeHTTP(w, r)
}

// take finds the fault for a call.
func (c *centre) take(q asked, method string) (processortest.Fault, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.spoils {
		s := &c.spoils[i]
		if s.question != q || s.method != method {
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

// called is the call of each question that faults spoil; none where nothing is called.
func (c *centre) called(kind payment.Kind, ask payment.Ask) string {
	if ask == payment.Query {
		if !kind.MovesMoney() {
			return ""
		}
		return "humo.get"
	}
	switch kind {
	case payment.OpChallenge:
		return c.challenge
	case payment.OpVerify:
		if c.otp == humo.Centre {
			return "humo.otp"
		}
		return "" // the connector itself knows
	}
	return map[payment.Kind]string{
		payment.OpHold: "humo.hold", payment.OpCharge: "humo.charge", payment.OpCapture: "humo.confirm",
		payment.OpVoid: "humo.cancel", payment.OpRefund: "humo.return",
	}[kind]
}

func (c *centre) simFault(f processortest.Fault, method string) sim.Fault {
	made := sim.Fault{Method: method, Name: c.names[f]}
	if f == processortest.Down {
		made.Code = 907
	}
	return made
}

// possible asks a simulator nobody uses which faults there are.
var possible = sync.OnceValue(func() *sim.Sim { return sim.New(sim.Config{Seed: 1}) })

func (c *centre) fault(kind payment.Kind, ask payment.Ask, f processortest.Fault, times int) bool {
	method := c.called(kind, ask)
	if method == "" {
		return false
	}
	if f != processortest.RequestLate {
		if err := possible().AddFault(c.simFault(f, method)); err != nil {
			return false
		}
		possible().ClearFaults()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spoils = append(c.spoils, spoil{asked{kind, ask}, method, f, times})
	return true
}

func (c *centre) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spoils = nil
}

// behaviours is what the simulator calls the exam's cards.
var behaviours = map[processortest.Behaviour][]string{
	processortest.Good: {"ok"}, processortest.Poor: {"insufficient_funds"},
	processortest.Blocked: {"blocked", "blocked_by_bank", "lost", "stolen", "pick_up", "special", "pin_tries"},
}

// cards are the Humo cards that behave so; without names, all that are not good.
func (c *centre) cards(names ...string) []payment.Card {
	var found []payment.Card
	for _, card := range c.sim.Cards() {
		if card.Scheme == "humo" && (slices.Contains(names, card.Behaviour) || names == nil && card.Behaviour != "ok") {
			found = append(found, payment.Card{Number: card.PAN, Expiry: card.Exp})
		}
	}
	return found
}

// code is in the newest SMS of the card's holder.
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
			s.Held = card.Held
		}
	}
	for _, op := range books.Operations {
		if op.Scheme != "humo" || !strings.HasSuffix(number, op.PANLast) {
			continue
		}
		switch op.Kind {
		case "hold":
			s.Made++
			if op.State == "held" {
				s.Holds++
			}
		case "charge", "capture":
			s.Takings++
			s.Taken += op.Amount
		case "refund":
			s.Refunds++
			s.Refunded += op.Amount
		}
	}
	return s
}

func (c *centre) world() *processortest.World {
	return &processortest.World{
		Processor: examined{c.connector, c},
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
