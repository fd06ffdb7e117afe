package svgate

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"holdfast/internal/payment"
	"holdfast/internal/processor"
	"holdfast/internal/processor/wire"
)

// call is one question under way: what was asked of it last, for the log.
type call struct {
	c      *Connector
	ctx    context.Context
	q      processor.Question
	method string // JSON-RPC method called last
	id     int64  // of the request sent last
	code   int64  // the last error code; 0 where there was none
}

// trouble is a call that brought no result.
type trouble struct {
	code   int64 // the centre's error code; 0 where it gave none
	unsent bool  // no byte of the request can have left
	denied bool  // HTTP 401
	cause  string
}

func (t *trouble) is(code int64) bool { return t != nil && t.code == code }

// open begins a request: everything up to the value of params.
func (k *call) open(method string) []byte {
	k.method, k.id = method, k.c.ids.Add(1)
	b := make([]byte, 0, 320) // the longest takes 300
	b = append(b, `{"jsonrpc":"2.0","id":`...)
	b = strconv.AppendInt(b, k.id, 10)
	b = append(b, `,"method":"`...)
	b = append(b, method...)
	return append(b, `","params":`...)
}

// member appends ,"name":"value". The first member of an object is written by hand.
func member(b []byte, name, value string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return wire.Quote(b, value)
}

func memberInt(b []byte, name string, value int64) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return strconv.AppendInt(b, value, 10)
}

// envelope is a JSON-RPC 2.0 answer.
type envelope[T any] struct {
	ID     text    `json:"id"`
	Result list[T] `json:"result"`
	Error  *struct {
		Code    integer `json:"code"`
		Message text    `json:"message"`
	} `json:"error"`
}

// What the methods answer. Members that are not used are not read; spellings that differ from host
// to host are not relied on.
type (
	// A card that was bound before has its token here already: that proves nothing about this payer.
	otpRequest struct { // cards.new.otp
		ID        text `json:"id"`
		PhoneMask text `json:"phoneMask"`
	}
	card struct { // cards.new.verify
		ID     text    `json:"id"`
		Status integer `json:"status"`
	}
	holdDone struct { // hold.create, hold.dismiss
		ID          text    `json:"id"`
		Status      integer `json:"status"`
		Description text    `json:"description"`
		Amount      integer `json:"amount"` // not documented; looked at where a host gives it
	}
	holdInfo struct { // hold.get.id, hold.get.cardId
		ID          text    `json:"hid"`
		Amount      integer `json:"reqamt"`
		CreateTime  text    `json:"createTime"`
		WaitingTime text    `json:"waitingTime"`
		Status      integer `json:"status"`
		Terminal    text    `json:"terminalId"` // not documented; looked at where a host gives it
	}
	transaction struct { // hold.dismiss.charge, trans.pay.purpose, trans.ext
		RefNum   text    `json:"refNum"`
		Ext      text    `json:"ext"`
		Amount   integer `json:"amount"`
		Currency text    `json:"currency"`
		Approval text    `json:"field38"`
		Terminal text    `json:"terminalId"`
		Resp     integer `json:"resp"`
		RespText text    `json:"respText"`
		Status   text    `json:"status"`
	}
)

// JSON as centres write it.
type (
	text        = wire.Text
	integer     = wire.Integer
	list[T any] = wire.List[T]
)

// exchange sends a request that open began and reads its result. Either the result is non-nil or
// the trouble is.
func exchange[T comparable](k *call, request []byte) (list[T], *trouble) {
	answer := wire.Buffer()
	defer wire.Release(answer)
	if t := k.post(request, answer); t != nil {
		return nil, t
	}
	var e envelope[T]
	if err := json.Unmarshal(answer.Bytes(), &e, wire.Lenient); err != nil {
		return nil, &trouble{cause: k.words("unreadable answer: " + wire.DecodeError(err))}
	}
	if id := strconv.FormatInt(k.id, 10); string(e.ID) != id {
		return nil, &trouble{cause: k.words(fmt.Sprintf("the answer is to request %q, asked was %s", e.ID, id))}
	}
	if e.Error != nil {
		if slices.ContainsFunc(e.Result, func(r T) bool { return r != *new(T) }) {
			// One of the two is not true: whether the money was moved can only be asked.
			return nil, &trouble{cause: k.words(fmt.Sprintf("a result and error %d in one answer", e.Error.Code.N))}
		}
		if e.Error.Code.N == 0 {
			return nil, &trouble{cause: k.words("an error without a code: " + string(e.Error.Message))}
		}
		k.code = e.Error.Code.N
		return nil, &trouble{code: k.code, cause: k.words(strconv.FormatInt(k.code, 10) + " " + string(e.Error.Message))}
	}
	if e.Result == nil {
		return nil, &trouble{cause: k.words("neither result nor error")}
	}
	return e.Result, nil
}

// post sends a request and reads the body of a good answer.
func (k *call) post(request []byte, answer *bytes.Buffer) *trouble {
	reply, lost := wire.Post(k.ctx, k.c.http, k.c.request, request, answer)
	switch {
	case lost != nil:
		return &trouble{unsent: lost.Unsent, cause: k.words(lost.Cause)}
	case reply.Status != http.StatusOK:
		return &trouble{denied: reply.Denied, cause: k.words("HTTP " + strconv.Itoa(reply.Status))}
	}
	return nil
}

// words makes a cause of the centre's words, without the payer's code and our password.
func (k *call) words(say string) string {
	return wire.Words(k.method, say, false, string(k.q.Code), string(k.c.cfg.Password))
}

// parseTime reads a createTime. SVGate's own form is not documented; hosts of its family write
// these, in Tashkent time unless they say otherwise.
func parseTime(s string) (time.Time, bool) {
	for _, layout := range [...]string{
		"060102150405", "20060102150405",
		"2006-01-02 15:04:05", "2006-01-02T15:04:05", "02.01.2006 15:04:05", time.RFC3339,
		"2006-01-02T15:04:05Z0700",
	} {
		if t, err := time.ParseInLocation(layout, s, payment.Tashkent); err == nil {
			return t, true
		}
	}
	if millis, err := strconv.ParseInt(s, 10, 64); err == nil && len(s) == 13 {
		return time.UnixMilli(millis), true
	}
	return time.Time{}, false
}
