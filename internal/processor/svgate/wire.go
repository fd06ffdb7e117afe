package svgate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"holdfast/internal/processor"
)

const (
	maxAnswerBytes = 1 << 20 // no answer we ask for is longer; a list of holds is a few hundred bytes each
	maxCauseBytes  = 300
)

// call is one question under way: what was asked of it last, for the log.
type call struct {
	c      *Connector
	ctx    context.Context
	q      *processor.Question
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
	b := make([]byte, 0, 512)
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
	return quote(b, value)
}

func quote(b []byte, value string) []byte {
	// The only error is invalid UTF-8, which is then replaced; nothing that is sent can hold any.
	b, _ = jsontext.AppendQuote(b, value)
	return b
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
	otpRequest struct { // cards.new.otp
		ID        text `json:"id"`
		PhoneMask text `json:"phoneMask"`
		Token     text `json:"token"`
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
		Reference   text    `json:"crefNo"`
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

// text reads a string or a number as text; null and absent are empty.
type text string

func (t *text) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	token, err := d.ReadToken()
	if err != nil {
		return err
	}
	switch token.Kind() {
	case '"', '0':
		*t = text(token.String())
	case 'n':
		*t = ""
	default:
		return fmt.Errorf("a %s where a text or a number belongs", token.Kind())
	}
	return nil
}

// integer reads an integer or its text; null, "" and absent are not set.
type integer struct {
	n   int64
	set bool
}

func (i *integer) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var digits text
	if err := digits.UnmarshalJSONFrom(d); err != nil {
		return err
	}
	*i = integer{}
	if digits == "" {
		return nil
	}
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return errors.New("something else where an integer belongs") // the text itself might be a card number
	}
	*i = integer{n, true}
	return nil
}

// list reads an array or a single object: SVGate gives both for the same thing.
type list[T any] []T

func (l *list[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		return json.UnmarshalDecode(d, (*[]T)(l))
	}
	one := make([]T, 1)
	if err := json.UnmarshalDecode(d, &one[0]); err != nil {
		return err
	}
	*l = one
	return nil
}

// Some hosts write messages in a Windows code page; that must not hide the code beside them.
var lenient = jsontext.AllowInvalidUTF8(true)

var buffers = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, 4096)) }}

// exchange sends a request that open began and reads its result. Either the result is non-nil or
// the trouble is.
func exchange[T any](k *call, request []byte) (list[T], *trouble) {
	answer := buffers.Get().(*bytes.Buffer)
	answer.Reset()
	defer func() {
		if answer.Cap() <= 64<<10 {
			buffers.Put(answer)
		}
	}()
	if t := k.post(request, answer); t != nil {
		return nil, t
	}
	var e envelope[T]
	if err := json.Unmarshal(answer.Bytes(), &e, lenient); err != nil {
		return nil, &trouble{cause: k.words("unreadable answer: " + decodeError(err))}
	}
	if id := strconv.FormatInt(k.id, 10); string(e.ID) != id {
		return nil, &trouble{cause: k.words(fmt.Sprintf("the answer is to request %q, asked was %s", e.ID, id))}
	}
	if e.Error != nil {
		if e.Error.Code.n == 0 {
			return nil, &trouble{cause: k.words("an error without a code: " + string(e.Error.Message))}
		}
		k.code = e.Error.Code.n
		return nil, &trouble{code: k.code, cause: k.words(strconv.FormatInt(k.code, 10) + " " + string(e.Error.Message))}
	}
	if e.Result == nil {
		return nil, &trouble{cause: k.words("neither result nor error")}
	}
	return e.Result, nil
}

// decodeError is what is wrong with a text without a piece of it: it might show a card number.
func decodeError(err error) string {
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		return fmt.Sprintf("no JSON from byte %d on", syntactic.ByteOffset)
	}
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		return fmt.Sprintf("not what was expected at byte %d", semantic.ByteOffset)
	}
	return "not JSON"
}

// post sends a request and reads the body of a good answer. It goes where it was configured to go
// and nowhere else, for a RoundTripper follows no redirect; and it is not sent twice: net/http
// repeats a POST only when it had not written a byte of it.
func (k *call) post(request []byte, answer *bytes.Buffer) *trouble {
	c := k.c
	req := c.request.WithContext(k.ctx)
	req.Body = io.NopCloser(bytes.NewReader(request))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(request)), nil }
	req.ContentLength = int64(len(request))
	response, err := c.http.RoundTrip(req)
	if err != nil {
		return k.unanswered(err)
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusUnauthorized:
		// RFC 9110 §15.5.2: an origin server that answers 401 has not applied the request and says
		// how to authenticate. Without that header it was somebody else who answered.
		return &trouble{denied: response.Header.Get("WWW-Authenticate") != "", cause: k.words("HTTP 401")}
	case response.StatusCode != http.StatusOK:
		return &trouble{cause: k.words("HTTP " + strconv.Itoa(response.StatusCode))}
	}
	n, err := answer.ReadFrom(io.LimitReader(response.Body, maxAnswerBytes+1))
	if err != nil {
		return k.unanswered(err)
	}
	if n > maxAnswerBytes {
		return &trouble{cause: k.words("an answer above 1 MiB")}
	}
	return nil
}

// unanswered tells a request that never left from one whose answer was lost.
func (k *call) unanswered(err error) *trouble {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return &trouble{unsent: true, cause: k.words("no connection: " + dial.Err.Error())}
	}
	switch cause := context.Cause(k.ctx); {
	case cause == nil:
	case errors.Is(cause, context.DeadlineExceeded):
		return &trouble{cause: k.words("no answer in time")}
	default:
		return &trouble{cause: k.words("given up: " + cause.Error())}
	}
	var network *net.OpError
	if errors.As(err, &network) {
		err = network.Err // the addresses belong into the configuration, not into causes
	}
	return &trouble{cause: k.words("no answer: " + err.Error())}
}

// words makes a cause of the centre's words: on one line, bounded, and with nothing in it that is or
// could be a card number or the code.
func (k *call) words(say string) string {
	if len(say) > 4*maxCauseBytes {
		say = say[:4*maxCauseBytes]
	}
	if code := string(k.q.Code); code != "" {
		say = strings.ReplaceAll(say, code, dots)
	}
	b := make([]byte, 0, len(k.method)+len(say)+2)
	if k.method != "" {
		b = append(append(b, k.method...), ": "...)
	}
	for i := 0; i < len(say) && len(b) < maxCauseBytes; {
		if isDigit(say[i]) {
			end, digits := digitRun(say, i)
			if digits >= minCardDigits {
				b = append(b, dots...)
			} else {
				b = append(b, say[i:end]...)
			}
			i = end
			continue
		}
		r, size := utf8.DecodeRuneInString(say[i:])
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			r = ' '
		}
		b = utf8.AppendRune(b, r)
		i += size
	}
	return string(b)
}

const (
	dots          = "••••"
	minCardDigits = 13 // no card number is shorter (ISO/IEC 7812-1)
)

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// digitRun finds the end of a run of digits, which single spaces and hyphens do not interrupt.
func digitRun(s string, i int) (end, digits int) {
	for i < len(s) {
		switch {
		case isDigit(s[i]):
			digits++
			i++
		case (s[i] == ' ' || s[i] == '-') && i+1 < len(s) && isDigit(s[i+1]):
			i++
		default:
			return i, digits
		}
	}
	return i, digits
}

// parseTime reads a createTime. SVGate's own form is not documented; hosts of its family write
// these, in Tashkent time unless they say otherwise.
func parseTime(s string) (time.Time, bool) {
	for _, layout := range [...]string{
		"060102150405", "20060102150405",
		"2006-01-02 15:04:05", "2006-01-02T15:04:05", "02.01.2006 15:04:05", time.RFC3339,
		"2006-01-02T15:04:05Z0700",
	} {
		if t, err := time.ParseInLocation(layout, s, tashkent); err == nil {
			return t, true
		}
	}
	if millis, err := strconv.ParseInt(s, 10, 64); err == nil && len(s) == 13 {
		return time.UnixMilli(millis), true
	}
	return time.Time{}, false
}

// tashkent is fixed: Uzbekistan has kept UTC+5 without summer time since 1992.
var tashkent = time.FixedZone("Asia/Tashkent", 5*60*60)
