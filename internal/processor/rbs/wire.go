package rbs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"holdfast/internal/processor"
)

const (
	maxAnswerBytes = 1 << 20
	maxCauseBytes  = 300
)

// call is one question under way.
type call struct {
	c      *Connector
	ctx    context.Context
	q      *processor.Question
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
	MethodData    text `json:"threeDSMethodDataPacked"` //
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

// list reads an array, or an object where a version gives a single one.
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
	answer, t := k.post(method, f)
	if t != nil {
		return nil, t
	}
	if !bytes.HasPrefix(bytes.TrimLeft(answer, " \t\r\n"), []byte{'{'}) {
		return nil, &trouble{cause: k.words("unreadable answer: no JSON object")}
	}
	var e struct {
		Code    integer `json:"errorCode"`
		Message text    `json:"errorMessage"`
	}
	into := new(T)
	for _, v := range []any{&e, into} {
		if err := json.Unmarshal(answer, v, lenient); err != nil {
			return nil, &trouble{cause: k.words("unreadable answer: " + decodeError(err))}
		}
	}
	if e.Code.n != 0 {
		k.code = e.Code.n
		return nil, &trouble{code: k.code, cause: k.words(fmt.Sprintf("error %d %s", k.code, k.theirs(e.Message)))}
	}
	return into, nil
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

// post sends a form and reads the body of a good answer. It goes where it was configured to go and
// nowhere else, for a RoundTripper follows no redirect; and it is not sent twice: net/http repeats a
// POST only when it had not written a byte of it.
func (k *call) post(method string, f form) ([]byte, *trouble) {
	c := k.c
	if c.cfg.Token != "" {
		f = f.with("token", string(c.cfg.Token))
	} else {
		f = f.with("userName", c.cfg.Login).with("password", string(c.cfg.Password))
	}
	req := c.request.WithContext(k.ctx)
	address := *c.request.URL
	address.Path += "/rest/" + method
	req.URL = &address
	req.Body = io.NopCloser(bytes.NewReader(f))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(f)), nil }
	req.ContentLength = int64(len(f))
	response, err := c.http.RoundTrip(req)
	if err != nil {
		return nil, k.unanswered(err)
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusTooManyRequests:
		return nil, &trouble{busy: true, cause: k.words("HTTP 429: too many requests")}
	case response.StatusCode != http.StatusOK:
		return nil, &trouble{cause: k.words("HTTP " + strconv.Itoa(response.StatusCode))}
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes+1))
	if err != nil {
		return nil, k.unanswered(err)
	}
	if len(answer) > maxAnswerBytes {
		return nil, &trouble{cause: k.words("an answer above 1 MiB")}
	}
	return answer, nil
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

// theirs is a text of the acquirer's without the CVC, which is too short to be found by its length.
func (k *call) theirs(say text) string {
	cvc, s := k.q.Card.CVC, string(say)
	if len(cvc) < 3 || !allDigits(cvc) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if !isDigit(s[i]) {
			b.WriteByte(s[i])
			i++
			continue
		}
		end := i
		for end < len(s) && isDigit(s[end]) {
			end++
		}
		if s[i:end] == cvc {
			b.WriteString(dots)
		} else {
			b.WriteString(s[i:end])
		}
		i = end
	}
	return b.String()
}

// words makes a cause: on one line, bounded, and with nothing in it that is or could be a card number.
func (k *call) words(say string) string {
	if len(say) > 4*maxCauseBytes {
		say = say[:4*maxCauseBytes]
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

func allDigits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}

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
