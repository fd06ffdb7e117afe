package rbs

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"holdfast/internal/processor"
	"holdfast/internal/processor/wire"
)

// call is one question under way.
type call struct {
	c      *Connector
	ctx    context.Context
	q      processor.Question
	method string // called last, for causes and the log
	code   int64  // the last error code; 0 where there was none
	order  string // the gateway's name of the order (mdOrder), where it is known
	secure string // its 3-D Secure (threeDSServerTransId), where there is one
}

// trouble is a call that brought no result.
type trouble struct {
	code   int64 // errorCode; 0 where there was none
	unsent bool  // no byte of the request can have left
	busy   bool  // HTTP 429: not done
	cause  string
}

// undone reports that the request cannot have been acted on.
func (t *trouble) undone() bool { return t != nil && (t.unsent || t.busy) }

// reply is what every call but the status answers. Members that are not used are not read.
type reply struct {
	OrderID       text `json:"orderId"`                 // register
	ServerTransID text `json:"threeDSServerTransId"`    // 3-D Secure 2 begins
	MethodURL     text `json:"threeDSMethodURL"`        // of the issuer; absent where he has none
	MethodData    text `json:"threeDSMethodDataPacked"` // what the browser takes there
	ACSURL        text `json:"acsUrl"`                  // the issuer's page
	CReq          text `json:"packedCReq"`              // what the browser takes there
}

// status is the answer of getOrderStatusExtended.do. Which members there are depends on the version
// that the acquirer has set for the merchant; what is missing is not guessed.
type status struct {
	OrderNumber   text       `json:"orderNumber"`
	OrderStatus   integer    `json:"orderStatus"`
	ActionCode    integer    `json:"actionCode"`
	ActionWords   text       `json:"actionCodeDescription"`
	Amount        integer    `json:"amount"`
	Currency      text       `json:"currency"`
	Attributes    list[pair] `json:"attributes"`
	Params        list[pair] `json:"merchantOrderParams"` // jsonParams of the registration
	AuthRefNum    text       `json:"authRefNum"`
	TerminalID    text       `json:"terminalId"`
	CardAuthInfo  cardInfo   `json:"cardAuthInfo"`
	PaymentAmount amounts    `json:"paymentAmountInfo"`
	Refunds       list[gift] `json:"refunds"`
}

type (
	pair struct {
		Name  text `json:"name"`
		Value text `json:"value"`
	}
	cardInfo struct {
		ApprovalCode text `json:"approvalCode"`
	}
	amounts struct {
		Approved  integer `json:"approvedAmount"`
		Deposited integer `json:"depositedAmount"`
		Refunded  integer `json:"refundedAmount"`
	}
	gift struct {
		ExternalID text    `json:"externalRefundId"`
		Amount     integer `json:"amount"`
		ActionCode integer `json:"actionCode"`
		Reference  text    `json:"referenceNumber"`
	}
)

// mdOrder is the gateway's own name of the order, or empty.
func (s *status) mdOrder() string { return named(s.Attributes, "mdOrder") }

// named is the value of a name among pairs, or empty.
func named(pairs []pair, name text) string {
	for _, p := range pairs {
		if p.Name == name {
			return string(p.Value)
		}
	}
	return ""
}

// JSON as centres write it.
type (
	text        = wire.Text
	integer     = wire.Integer
	list[T any] = wire.List[T]
)

// form is a form being written, in the order of its fields.
type form []byte

func (f form) with(name, value string) form {
	if len(f) > 0 {
		f = append(f, '&')
	}
	f = append(f, url.QueryEscape(name)...)
	f = append(f, '=')
	return append(f, url.QueryEscape(value)...)
}

// exchange makes one call. Without trouble the reply has been read and has no error code.
func exchange[T any](k *call, method string, f form) (*T, *trouble) {
	k.method = method
	if k.ctx.Err() != nil {
		return nil, &trouble{unsent: true, cause: k.words("given up before it was sent")}
	}
	buffer := wire.Buffer()
	defer wire.Release(buffer)
	if t := k.post(method, f, buffer); t != nil {
		return nil, t
	}
	answer := buffer.Bytes()
	if !bytes.HasPrefix(bytes.TrimLeft(answer, " \t\r\n"), []byte{'{'}) {
		return nil, &trouble{cause: k.words("unreadable answer: no JSON object")}
	}
	var e struct {
		Code    integer `json:"errorCode"`
		Message text    `json:"errorMessage"`
	}
	into := new(T)
	for _, v := range []any{&e, into} {
		if err := json.Unmarshal(answer, v, wire.Lenient); err != nil {
			return nil, &trouble{cause: k.words("unreadable answer: " + wire.DecodeError(err))}
		}
	}
	if e.Code.N != 0 {
		k.code = e.Code.N
		return nil, &trouble{code: k.code, cause: k.words(fmt.Sprintf("error %d %s", k.code, k.theirs(e.Message)))}
	}
	return into, nil
}

// post sends a form and reads the body of a good answer.
func (k *call) post(method string, f form, answer *bytes.Buffer) *trouble {
	c := k.c
	if c.cfg.Token != "" {
		f = f.with("token", string(c.cfg.Token))
	} else {
		f = f.with("userName", c.cfg.Login).with("password", string(c.cfg.Password))
	}
	to, address := *c.request, *c.request.URL
	address.Path += "/rest/" + method
	to.URL = &address
	reply, lost := wire.Post(k.ctx, c.http, &to, f, answer)
	switch {
	case lost != nil:
		return &trouble{unsent: lost.Unsent, cause: k.words(lost.Cause)}
	case reply.Status == http.StatusTooManyRequests:
		return &trouble{busy: true, cause: k.words("HTTP 429: too many requests")}
	case reply.Status != http.StatusOK:
		return &trouble{cause: k.words("HTTP " + strconv.Itoa(reply.Status))}
	}
	return nil
}

// theirs is a text of the acquirer's without the CVC, which is too short to be found by its length.
func (k *call) theirs(say text) string {
	cvc, s := k.q.Card.CVC, string(say)
	if len(cvc) < 3 || !wire.AllDigits(cvc) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if !wire.IsDigit(s[i]) {
			b.WriteByte(s[i])
			i++
			continue
		}
		end := i
		for end < len(s) && wire.IsDigit(s[end]) {
			end++
		}
		if s[i:end] == cvc {
			b.WriteString(wire.Dots)
		} else {
			b.WriteString(s[i:end])
		}
		i = end
	}
	return b.String()
}

// words makes a cause, without what is in each request of ours and might be said back.
func (k *call) words(say string) string {
	return wire.Words(k.method, say, false, string(k.c.cfg.Password), string(k.c.cfg.Token))
}
