package payment

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"holdfast/internal/money"
)

// The store writes terms for each payment, progress at each of its steps and an operation at each answer, so these are
// written by hand: the same text that package json makes of their tags, at a tenth of the cost. A test holds
// the two together.

// encoder appends JSON.
type encoder struct {
	b     []byte
	comma bool
	err   error
}

func (e *encoder) open() {
	e.b = append(e.b, '{')
	e.comma = false
}

func (e *encoder) close() {
	e.b = append(e.b, '}')
	e.comma = true
}

func (e *encoder) key(name string) {
	if e.comma {
		e.b = append(e.b, ',')
	}
	e.comma = true
	e.b = append(e.b, '"')
	e.b = append(e.b, name...)
	e.b = append(e.b, '"', ':')
}

func (e *encoder) quote(s string) {
	b, err := jsontext.AppendQuote(e.b, s)
	if err != nil && e.err == nil {
		e.err = err
	}
	e.b = b
}

func text[T ~string](e *encoder, name string, s T) {
	e.key(name)
	e.quote(string(s))
}

func textUnlessZero[T ~string](e *encoder, name string, s T) {
	if s != "" {
		text(e, name, s)
	}
}

// list appends a list in which each element is what write appends of it.
func list[T any](e *encoder, all []T, write func(*T)) {
	e.b = append(e.b, '[')
	for i := range all {
		if i > 0 {
			e.b = append(e.b, ',')
		}
		write(&all[i])
	}
	e.b = append(e.b, ']')
}

func (e *encoder) int(name string, n int64) {
	e.key(name)
	e.b = strconv.AppendInt(e.b, n, 10)
}

func (e *encoder) intUnlessZero(name string, n int64) {
	if n != 0 {
		e.int(name, n)
	}
}

func (e *encoder) bool(name string, v bool) {
	e.key(name)
	e.b = strconv.AppendBool(e.b, v)
}

func (e *encoder) trueOnly(name string, v bool) {
	if v {
		e.bool(name, v)
	}
}

func (e *encoder) time(name string, t time.Time) {
	e.key(name)
	e.b = append(e.b, '"')
	e.b = t.AppendFormat(e.b, time.RFC3339Nano)
	e.b = append(e.b, '"')
}

func (e *encoder) timeUnlessZero(name string, t time.Time) {
	if !t.IsZero() {
		e.time(name, t)
	}
}

func (e *encoder) amount(a money.Amount) {
	e.key("amount")
	e.open()
	e.int("minor", a.Minor)
	text(e, "currency", a.Currency)
	e.close()
}

// AppendJSON appends the terms as the store keeps them. The error is one of text that is no UTF-8.
func (t *Terms) AppendJSON(b []byte) ([]byte, error) {
	e := &encoder{b: b}
	e.open()
	text(e, "shop_payment_id", t.ShopPaymentID)
	e.amount(t.Amount)
	e.bool("auto_capture", t.AutoCapture)
	e.trueOnly("test", t.Test)
	e.time("init_time", t.InitTime)
	e.time("expires_at", t.ExpiresAt)
	e.key("methods")
	list(e, t.Methods, func(m *Method) { e.quote(string(*m)) })
	textUnlessZero(e, "description", t.Description)
	text(e, "return_url", t.ReturnURL)
	textUnlessZero(e, "notify_url", t.NotifyURL)
	text(e, "language", t.Language)
	textUnlessZero(e, "tag", t.Tag)
	e.intUnlessZero("tsp_id", t.TspID)
	if u := t.User; u != nil {
		e.key("user")
		e.open()
		textUnlessZero(e, "id", u.ID)
		textUnlessZero(e, "phone", u.Phone)
		textUnlessZero(e, "email", u.Email)
		e.close()
	}
	if t.Basket != nil {
		e.key("basket")
		list(e, t.Basket, func(i *Item) {
			e.open()
			text(e, "description", i.Description)
			e.int("count", i.Count)
			text(e, "price", i.Price)
			textUnlessZero(e, "spic", i.SPIC)
			e.close()
		})
	}
	e.close()
	return e.b, e.err
}

// AppendJSON appends the progress as the store keeps it. The error is one of text that is no UTF-8.
func (p *Progress) AppendJSON(b []byte) ([]byte, error) {
	e := &encoder{b: b}
	e.open()
	if p.Attempt != nil {
		e.attempt(p.Attempt)
	}
	if p.Open != nil {
		e.key("open")
		e.operation(p.Open)
	}
	if d := p.Decision; d != nil {
		e.key("decision")
		e.open()
		text(e, "accept", d.Accept)
		e.amount(d.Amount)
		text(e, "by", d.By)
		e.time("at", d.At)
		e.close()
	}
	e.trueOnly("tried", p.Tried)
	e.intUnlessZero("attempts", int64(p.Attempts))
	e.intUnlessZero("wrong_codes", int64(p.WrongCodes))
	e.timeUnlessZero("hold_deadline", p.HoldDeadline)
	e.timeUnlessZero("paid_at", p.PaidAt)
	if len(p.Refunds) > 0 {
		e.key("refunds")
		list(e, p.Refunds, func(r *Refund) {
			e.open()
			text(e, "id", r.ID)
			text(e, "shop_id", r.ShopID)
			e.amount(r.Amount)
			e.time("asked_at", r.AskedAt)
			e.int("operation", int64(r.Operation))
			text(e, "state", r.State)
			textUnlessZero(e, "reason", r.Reason)
			e.close()
		})
	}
	textUnlessZero(e, "last_refusal", p.LastRefusal)
	e.timeUnlessZero("restored", p.Restored)
	e.intUnlessZero("skipped", int64(p.Skipped))
	e.intUnlessZero("last_operation", int64(p.LastOperation))
	e.intUnlessZero("last_entry", int64(p.LastEntry))
	e.intUnlessZero("last_event", int64(p.LastEvent))
	e.close()
	return e.b, e.err
}

// AppendJSON appends the operation as the store keeps it. The error is one of text that is no UTF-8.
func (op *Operation) AppendJSON(b []byte) ([]byte, error) {
	e := &encoder{b: b}
	e.operation(op)
	return e.b, e.err
}

func (e *encoder) operation(op *Operation) {
	e.open()
	e.int("n", int64(op.N))
	text(e, "ref", op.Ref)
	text(e, "kind", op.Kind)
	e.amount(op.Amount)
	e.time("begun_at", op.BegunAt)
	text(e, "ask", op.Ask)
	e.time("sent_at", op.SentAt)
	e.time("asked_at", op.AskedAt)
	e.int("asks", int64(op.Asks))
	e.timeUnlessZero("next_at", op.NextAt)
	e.intUnlessZero("verify_id", op.VerifyID)
	e.trueOnly("resend", op.Resend)
	e.trueOnly("look", op.Look)
	textUnlessZero(e, "outcome", op.Outcome)
	textUnlessZero(e, "reason", op.Reason)
	textUnlessZero(e, "cause", op.Cause)
	e.timeUnlessZero("answered_at", op.AnsweredAt)
	if op.Centre != (Centre{}) {
		e.centre(&op.Centre)
	}
	if len(op.Resolutions) > 0 {
		e.key("resolutions")
		list(e, op.Resolutions, e.resolution)
	}
	e.close()
}

func (e *encoder) resolution(r *Resolution) {
	e.open()
	text(e, "outcome", r.Outcome)
	textUnlessZero(e, "reason", r.Reason)
	if !r.Amount.IsZero() {
		e.amount(r.Amount)
	}
	textUnlessZero(e, "hold", r.Hold)
	textUnlessZero(e, "rrn", r.RRN)
	text(e, "by", r.By)
	text(e, "why", r.Why)
	e.time("at", r.At)
	e.close()
}

func (e *encoder) attempt(a *Attempt) {
	e.key("attempt")
	e.open()
	text(e, "method", a.Method)
	text(e, "processor", a.Processor)
	e.key("card")
	e.open()
	text(e, "scheme", a.Card.Scheme)
	text(e, "first6", a.Card.First6)
	text(e, "last4", a.Card.Last4)
	textUnlessZero(e, "holder", a.Card.Holder)
	textUnlessZero(e, "country", a.Card.Country)
	e.close()
	textUnlessZero(e, "email", a.Email)
	text(e, "input", a.Input)
	e.trueOnly("three_ds", a.ThreeDS)
	e.key("fee")
	e.open()
	e.int("tariff_id", a.Fee.TariffID)
	e.int("rate", int64(a.Fee.Rate))
	e.int("minimum", a.Fee.Minimum)
	e.trueOnly("back", a.Fee.Back)
	e.close()
	e.int("hold_for_s", a.HoldFor)
	e.key("limits")
	e.open()
	e.int("answer_ms", a.Limits.AnswerMillis)
	if len(a.Limits.ShownMillis) > 0 {
		e.key("shown_ms")
		e.open()
		for _, kind := range allKinds {
			if ms, ok := a.Limits.ShownMillis[kind]; ok {
				e.int(string(kind), ms)
			}
		}
		e.close()
	}
	e.intUnlessZero("remembered_ms", a.Limits.RememberedMillis)
	e.trueOnly("whole_capture", a.Limits.WholeCapture)
	e.trueOnly("hold_unnamed", a.Limits.HoldUnnamed)
	e.close()
	if c := a.Challenge; c != nil {
		e.key("challenge")
		e.open()
		e.int("verify_id", c.VerifyID)
		textUnlessZero(e, "centre_id", c.CentreID)
		textUnlessZero(e, "phone", c.Phone)
		textUnlessZero(e, "step", c.Step)
		textUnlessZero(e, "url", c.URL)
		textUnlessZero(e, "data", c.Data)
		e.timeUnlessZero("sent_at", c.SentAt)
		e.timeUnlessZero("expires_at", c.ExpiresAt)
		e.intUnlessZero("tries", int64(c.Tries))
		e.intUnlessZero("resends", int64(c.Resends))
		e.close()
	}
	e.centre(&a.Centre)
	e.close()
}

func (e *encoder) centre(c *Centre) {
	e.key("centre")
	e.open()
	textUnlessZero(e, "token", c.Token)
	textUnlessZero(e, "hold", c.Hold)
	textUnlessZero(e, "rrn", c.RRN)
	textUnlessZero(e, "approval", c.Approval)
	textUnlessZero(e, "terminal", c.Terminal)
	textUnlessZero(e, "sealed", c.Sealed)
	e.close()
}
