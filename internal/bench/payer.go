package bench

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// call is one step of a payment: a request, and what its answer must be.
type call struct {
	name string // as its latencies are reported
	ask  func(p *payer) (path string)
	take func(p *payer, m *message) error
}

var (
	prepare  = &call{"prepare_payment", (*payer).askPrepare, (*payer).takePrepare}
	pay      = &call{"pay", (*payer).askPay, (*payer).takePay}
	info     = &call{"verificationInfo", (*payer).askInfo, (*payer).takeInfo}
	code     = &call{"check_sms_key", (*payer).askCode, (*payer).takeCode}
	secure   = &call{"3ds", (*payer).askSecure, (*payer).takeSecure}
	accept   = &call{"set_accept", (*payer).askAccept, (*payer).takeAccept}
	allCalls = []*call{prepare, pay, info, code, secure, accept}
)

// Calls names the calls that a payment may have, in their order, as their latencies are reported.
func Calls() (names []string) {
	for _, c := range allCalls {
		names = append(names, c.name)
	}
	return names
}

// whole is the calls of one whole two-stage payment. A payer of Visa or Mastercard proves himself by 3-D
// Secure: his bank has a look at his browser and asks nothing. The browser here has no JavaScript, and
// so only sends the form that the page before the bank has; it does not load pages.
func whole(scheme string) []*call {
	if scheme == "visa" || scheme == "mastercard" {
		return []*call{prepare, pay, secure, accept}
	}
	return []*call{prepare, pay, info, code, accept}
}

// payer makes whole payments, one after another, over one connection.
type payer struct {
	run  *run
	conn *conn // nil while there is none

	n     int       // the payment's ticket
	step  int       // the call under way
	begun time.Time // the payment: its intended start
	asked time.Time // the call: when it ought to be asked
	sent  time.Time // when it was
	busy  bool

	uuid, number, verify []byte
	body, out            []byte
}

// begin starts the payment of a ticket. A call's time is counted from when it ought to begin.
func (p *payer) begin(n int, at time.Time) {
	p.n, p.step, p.begun, p.asked, p.busy = n, 0, at, at, true
	p.ask()
}

// ask sends the call that is next.
func (p *payer) ask() {
	if p.conn == nil {
		if err := p.connect(); err != nil {
			p.fail(err)
			return
		}
	}
	p.sent = p.run.loop.now
	path := p.run.script[p.step].ask(p)
	p.out = appendPost(p.out[:0], path, p.run.address, p.body)
	if err := p.conn.send(p.out); err != nil {
		p.hangUp()
		p.fail(err)
	}
}

func (p *payer) connect() error {
	fd, err := dial(p.run.address)
	if err != nil {
		return err
	}
	c := &conn{fd: fd, take: p.take}
	c.lost = func(err error) {
		p.conn = nil
		if p.busy {
			p.fail(err)
		}
	}
	if err := p.run.loop.add(c); err != nil {
		return err
	}
	p.conn = c
	return nil
}

func (p *payer) hangUp() {
	if p.conn != nil {
		p.run.loop.drop(p.conn)
		p.conn = nil
	}
}

// take looks at an answer and goes on. It returns an error for what ends the connection.
func (p *payer) take(m *message) error {
	if !p.busy {
		return errors.New("an answer to nothing")
	}
	now, c := p.run.loop.now, p.run.script[p.step]
	took := now.Sub(p.asked)
	p.run.took(c, took)
	if m.last() {
		p.hangUp()
	}
	if err := c.take(p, m); err != nil {
		p.fail(err)
		return nil
	}
	if p.step++; p.step < len(p.run.script) {
		p.asked = now
		p.ask()
		return nil
	}
	p.busy = false
	p.run.paid(p, now.Sub(p.begun))
	return nil
}

// look gives up on an answer that does not come.
func (p *payer) look(now time.Time) {
	if p.busy && now.Sub(p.sent) > answerWithin {
		p.hangUp()
		p.fail(fmt.Errorf("no answer within %s", answerWithin))
	}
}

// fail ends the payment.
func (p *payer) fail(err error) {
	p.busy = false
	p.run.failed(fmt.Errorf("%s: %w", p.run.script[p.step].name, err), p)
}

// answered is what every call of the merchant API answers if it worked.
func answered(m *message) error {
	status, err := m.status()
	if err != nil {
		return err
	}
	if status != 200 || !bytes.HasPrefix(m.body, []byte(`{"error":0,`)) {
		return fmt.Errorf("HTTP %d %.200s", status, m.body)
	}
	return nil
}

var errForm = errors.New("the answer has not the form that bench knows")

// keep copies a field of an answer, which is gone with the next one.
func keep(to *[]byte, m *message, key string, end byte) error {
	value := field(m.body, key, end)
	if len(value) == 0 {
		return fmt.Errorf("%w: %s is missing: %.200s", errForm, key, m.body)
	}
	*to = append((*to)[:0], value...)
	return nil
}

func (p *payer) shop() *Shop { return &p.run.cfg.Shops[p.n%len(p.run.cfg.Shops)] }

// credentials begins a body with the shop's.
func (p *payer) credentials() {
	p.body = append(p.body[:0], `{"octo_shop_id":`...)
	p.body = strconv.AppendInt(p.body, p.shop().ID, 10)
	p.body = append(append(p.body, `,"octo_secret":"`...), p.shop().Secret...)
}

func (p *payer) askPrepare() string {
	p.credentials()
	p.body = append(append(p.body, `","shop_transaction_id":"`...), p.run.name...)
	p.body = append(strconv.AppendInt(p.body, int64(p.n), 10), p.run.terms...)
	return "/prepare_payment"
}

func (p *payer) takePrepare(m *message) error {
	if err := answered(m); err != nil {
		return err
	}
	return keep(&p.uuid, m, `"octo_payment_UUID":"`, '"')
}

func (p *payer) askPay() string {
	p.body = append(p.body[:0], p.run.card...)
	return "/pay/" + string(p.uuid)
}

func (p *payer) takePay(m *message) error {
	if err := answered(m); err != nil {
		return err
	}
	return keep(&p.number, m, `"id":`, ',')
}

func (p *payer) askInfo() string {
	p.body = append(append(append(p.body[:0], `{"octo_payment_UUID":"`...), p.uuid...), `"}`...)
	return "/verificationInfo"
}

func (p *payer) takeInfo(m *message) error {
	if err := answered(m); err != nil {
		return err
	}
	return keep(&p.verify, m, `"verifyId":`, ',')
}

func (p *payer) askCode() string {
	p.body = append(append(append(p.body[:0], `{"smsKey":"`...), p.run.code...), `","paymentId":`...)
	p.body = append(append(append(append(p.body, p.number...), `,"verifyId":`...), p.verify...), '}')
	return "/check_sms_key"
}

func (p *payer) takeCode(m *message) error {
	if err := answered(m); err != nil {
		return err
	}
	if !bytes.Contains(m.body, []byte(`"status":"waiting_for_capture"`)) {
		return fmt.Errorf("the payment is not held: %.200s", m.body)
	}
	return nil
}

func (p *payer) askSecure() string {
	p.body = p.body[:0]
	return "/3ds/" + string(p.uuid)
}

// takeSecure expects to be sent on to the page that says how the payment stands; whether the money is
// held shows when it is captured.
func (p *payer) takeSecure(m *message) error {
	status, err := m.status()
	if err != nil {
		return err
	}
	if where := m.value("Location"); status != 303 || !bytes.Contains(where, []byte("/status/")) {
		return fmt.Errorf("the payment is not held: HTTP %d to %q", status, where)
	}
	return nil
}

func (p *payer) askAccept() string {
	p.credentials()
	p.body = append(append(p.body, `","octo_payment_UUID":"`...), p.uuid...)
	p.body = append(p.body, `","accept_status":"capture"}`...)
	return "/set_accept"
}

func (p *payer) takeAccept(m *message) error {
	if err := answered(m); err != nil {
		return err
	}
	if !bytes.Contains(m.body, []byte(`"status":"succeeded"`)) {
		return fmt.Errorf("the payment is not captured: %.200s", m.body)
	}
	p.run.endpoint.decide(p.n)
	return nil
}
