package humo

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"holdfast/internal/processor"
	"holdfast/internal/processor/wire"
)

// call is one question under way: what was asked of it last, for the log.
type call struct {
	c       *Connector
	ctx     context.Context
	q       processor.Question
	method  string   // message or path sent last
	code    int      // the last code of an error; 0 where there was none
	secrets []string // what must not stand in a cause
}

// trouble is a call that brought no result.
type trouble struct {
	code   int  // the centre's code; 0 where it gave none
	unsent bool // nothing was done: no byte of the request can have left, or the other side said so
	denied bool // HTTP 401
	cause  string
}

func (t *trouble) is(code int) bool { return t != nil && t.code == code }

// The namespaces of an envelope and of what is in it.
const (
	soapSpace = "http://schemas.xmlsoap.org/soap/envelope/"
	humoSpace = "urn:PaymentServer"
)

// message is a SOAP request being written. Elements within the message itself have no namespace, as
// PaymentServer's own clients write them.
type message struct {
	bytes.Buffer
	name string
}

// open begins a message; title is what the log calls it.
func (k *call) open(name, title string) *message {
	k.method = title
	m := &message{name: name}
	m.Grow(1024)
	m.WriteString(xml.Header + `<SOAP-ENV:Envelope xmlns:SOAP-ENV="` + soapSpace + `" xmlns:ebppif1="` + humoSpace + `"><SOAP-ENV:Body>`)
	m.begin("ebppif1:" + name)
	return m
}

// close ends a message with who sends it.
func (m *message) close(originator string) []byte {
	m.element("paymentOriginator", originator)
	m.end("ebppif1:" + m.name)
	m.WriteString(`</SOAP-ENV:Body></SOAP-ENV:Envelope>`)
	return m.Bytes()
}

func (m *message) begin(name string) { m.WriteString("<" + name + ">") }
func (m *message) end(name string)   { m.WriteString("</" + name + ">") }

func (m *message) element(name, value string) {
	m.begin(name)
	xml.EscapeText(m, []byte(value)) // a buffer's Write never fails
	m.end(name)
}

func (m *message) item(name, value string) {
	m.begin("item")
	m.element("name", name)
	m.element("value", value)
	m.end("item")
}

func digits(n int64) string { return strconv.FormatInt(n, 10) }

// node is an element of an answer.
type node struct {
	space, name, text string
	children          []*node
}

const (
	maxDepth    = 16
	maxElements = 4096
	maxText     = 4096 // bytes in one element
)

// find is the child of a name, or nil; no two of one parent have the same name, but items.
func (n *node) find(name string) *node {
	if n != nil {
		for _, c := range n.children {
			if c.name == name {
				return c
			}
		}
	}
	return nil
}

// child is the text of a child, empty where there is none.
func (n *node) child(name string) string {
	if c := n.find(name); c != nil {
		return c.text
	}
	return ""
}

// details reads the list of names and values in an answer.
func (n *node) details() (map[string]string, error) {
	details := make(map[string]string)
	d := n.find("details")
	if d == nil {
		return details, nil
	}
	for _, item := range d.children {
		name, value := item.find("name"), item.find("value")
		if item.name != "item" || name == nil || value == nil || name.text == "" {
			return nil, errors.New("details with something else than names and values")
		}
		if _, twice := details[name.text]; twice {
			return nil, errors.New("details with a name twice")
		}
		details[name.text] = value.text
	}
	return details, nil
}

// parse reads a document of elements and text. Entities but XML's own five, document types and other
// encodings than UTF-8 are refused, and what is wrong is said without a piece of the document.
func parse(document []byte) (*node, error) {
	if !utf8.Valid(document) {
		return nil, errors.New("an answer that is not in UTF-8")
	}
	d := xml.NewDecoder(bytes.NewReader(document))
	root := new(node) // a place for the one element of the document
	open := []*node{root}
	elements := 0
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("no whole XML (byte %d)", d.InputOffset())
		}
		top := open[len(open)-1]
		switch t := t.(type) {
		case xml.StartElement:
			elements++
			switch {
			case elements > maxElements || len(open) > maxDepth:
				return nil, errors.New("an XML document out of all proportion")
			case t.Name.Local != "item" && top.find(t.Name.Local) != nil:
				return nil, errors.New("XML with an element twice")
			}
			n := &node{space: t.Name.Space, name: t.Name.Local}
			top.children = append(top.children, n)
			open = append(open, n)
		case xml.EndElement:
			top.text = strings.TrimSpace(top.text)
			if top.text != "" && len(top.children) > 0 {
				return nil, errors.New("XML with text between elements")
			}
			open = open[:len(open)-1]
		case xml.CharData:
			switch {
			case top != root && len(top.text)+len(t) > maxText:
				return nil, errors.New("an XML document out of all proportion")
			case top != root:
				top.text += string(t)
			case len(bytes.TrimSpace(t)) > 0:
				return nil, errors.New("no XML")
			}
		case xml.Directive:
			return nil, errors.New("XML with a document type")
		}
	}
	// The decoder ends quietly only where nothing is open.
	if len(root.children) != 1 {
		return nil, errors.New("no whole XML")
	}
	return root.children[0], nil
}

// body is the one element in the body of a SOAP 1.1 envelope.
func body(document []byte) (*node, error) {
	e, err := parse(document)
	if err != nil {
		return nil, err
	}
	if e.name != "Envelope" || e.space != soapSpace {
		return nil, errors.New("no envelope of SOAP 1.1")
	}
	b := e.find("Body")
	if b == nil || b.space != soapSpace || len(b.children) != 1 {
		return nil, errors.New("an envelope without one thing in its body")
	}
	return b.children[0], nil
}

// native reports whether all that is within an element is of the centre's namespace or of none.
func (n *node) native() bool {
	for _, c := range n.children {
		if c.space != "" && c.space != humoSpace || !c.native() {
			return false
		}
	}
	return true
}

// exchange sends a message and reads the answer of that name. Either the answer is non-nil or the trouble is.
func (k *call) exchange(m *message, answer string) (*node, *trouble) {
	buffer := wire.Buffer()
	defer wire.Release(buffer)
	status, t := k.post(k.c.soap, m.close(k.c.cfg.Login), buffer)
	if t != nil {
		return nil, t
	}
	n, err := body(buffer.Bytes())
	switch {
	case err != nil && status == http.StatusOK:
		return nil, &trouble{cause: k.words("unreadable answer: " + err.Error())}
	case err != nil:
		return nil, &trouble{cause: k.words("HTTP " + strconv.Itoa(status))}
	case n.name == "Fault" && n.space == soapSpace:
		return nil, k.fault(n, status)
	case status != http.StatusOK: // a Fault is all that SOAP has for another status
		return nil, &trouble{cause: k.words("HTTP " + strconv.Itoa(status) + " with something else than a Fault")}
	case n.name != answer:
		return nil, &trouble{cause: k.words("an answer of another kind than " + answer)}
	case n.space != humoSpace || !n.native():
		return nil, &trouble{cause: k.words("an answer of another namespace than " + humoSpace)}
	}
	return n, nil
}

// fault reads an action code: Fault/detail/PaymentServerException/error. Without one a Fault proves nothing.
func (k *call) fault(n *node, status int) *trouble {
	exception := n.find("detail").find("PaymentServerException")
	say := fmt.Sprintf("HTTP %d, a Fault", status)
	if text := n.child("faultstring"); text != "" {
		say += ": " + text
	}
	if exception == nil || exception.space != "" && exception.space != humoSpace || !exception.native() {
		return &trouble{cause: k.words(say)}
	}
	code, ok := number(exception.child("error"))
	if !ok || code == 0 {
		return &trouble{cause: k.words(say)}
	}
	k.code = code
	if text := n.child("faultstring"); text != "" {
		return &trouble{code: code, cause: k.words(fmt.Sprintf("%03d %s", code, text))}
	}
	return &trouble{code: code, cause: k.words(fmt.Sprintf("%03d", code))}
}

// number reads a number of at most three digits.
func number(s string) (int, bool) {
	if !wire.AllDigits(s) || len(s) > 3 {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// wholeNumber reads a sum of tiyin.
func wholeNumber(s string) (int64, bool) {
	if !wire.AllDigits(s) || len(s) > 18 {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// token is what names things: 1 to 64 letters, digits, hyphens and underscores.
func token(s string) bool {
	for i := range len(s) {
		if c := s[i]; !wire.IsDigit(c) && (c|0x20 < 'a' || 'z' < c|0x20) && c != '-' && c != '_' {
			return false
		}
	}
	return 1 <= len(s) && len(s) <= 64
}

// short is a name of at most so many characters, or nothing. What comes from details may stand in the
// store only if it cannot be a card number.
func short(s string, most int) string {
	if !token(s) || len(s) > most || wire.CouldBeCard(s) {
		return ""
	}
	return s
}

// plain is a code for a cause, if it is one.
func plain(s string) string {
	if s == "" {
		return "missing"
	}
	if s = short(s, 8); s == "" {
		return "unreadable"
	}
	return s
}

// What the middleware answers. Members that are not used are not read.
type (
	cardInfo struct { // v3/iiacs/card
		Card struct {
			Number   text `json:"primaryAccountNumber"`
			Expiry   text `json:"expiry"`
			PINTries text `json:"pinTryCount"`
			Statuses struct {
				Item list[cardStatus] `json:"item"`
			} `json:"statuses"`
		} `json:"card"`
		MB struct {
			State text `json:"state"`
			Phone text `json:"phone"`
		} `json:"mb"`
	}
	cardStatus struct {
		ActionCode text `json:"actionCode"`
	}
	otpSent struct { // otp/send
		ID      text `json:"otpId"`
		Seconds text `json:"lifetimeSeconds"`
	}
	otpChecked struct { // otp/verify
		Verified *bool `json:"verified"`
	}
)

// JSON as centres write it.
type (
	text        = wire.Text
	list[T any] = wire.List[T]
)

// exchangeJSON asks the middleware; params writes the members of the request's params. Either the result
// is non-nil or the trouble is.
func exchangeJSON[T any](k *call, to *http.Request, method string, params func([]byte) []byte) (*T, *trouble) {
	k.method = method
	id := strconv.FormatInt(k.c.ids.Add(1), 10)
	b := append(make([]byte, 0, 256), `{"id":"`...)
	b = append(b, id...)
	b = append(b, `","params":{`...)
	b = append(params(b), `}}`...)
	buffer := wire.Buffer()
	defer wire.Release(buffer)
	status, t := k.post(to, b, buffer)
	switch {
	case t != nil:
		return nil, t
	case status != http.StatusOK:
		return nil, &trouble{cause: k.words("HTTP " + strconv.Itoa(status))}
	}
	var e struct {
		ID     text `json:"id"`
		Result *T   `json:"result"`
		Error  *struct {
			Code    text `json:"code"`
			Message text `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(buffer.Bytes(), &e, wire.Lenient); err != nil {
		return nil, &trouble{cause: k.words("unreadable answer: " + wire.DecodeError(err))}
	}
	switch {
	case string(e.ID) != id:
		return nil, &trouble{cause: k.words("the answer is to another request")}
	case e.Error != nil:
		code, ok := number(string(e.Error.Code))
		if !ok || code == 0 {
			return nil, &trouble{cause: k.words("an error without a code: " + string(e.Error.Message))}
		}
		k.code = code
		return nil, &trouble{code: code, cause: k.words(fmt.Sprintf("%03d %s", code, e.Error.Message))}
	case e.Result == nil:
		return nil, &trouble{cause: k.words("neither result nor error")}
	}
	return e.Result, nil
}

// sendSMS is the client of the SMS provider (Config.SMSURL). No trouble: the message is on its way.
func (k *call) sendSMS(phone, words string) *trouble {
	k.method = "sms"
	b := append(make([]byte, 0, 256), `{"phone":`...)
	b = wire.Quote(b, phone)
	b = append(b, `,"text":`...)
	b = append(wire.Quote(b, words), '}')
	buffer := wire.Buffer()
	defer wire.Release(buffer)
	status, t := k.post(k.c.sms, b, buffer)
	switch {
	case t != nil:
		return t
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout:
		return &trouble{unsent: true, cause: k.words("HTTP " + strconv.Itoa(status))}
	case status != http.StatusOK:
		return &trouble{cause: k.words("HTTP " + strconv.Itoa(status))}
	}
	var sent struct {
		ID     text `json:"messageId"`
		Status text `json:"status"`
	}
	if err := json.Unmarshal(buffer.Bytes(), &sent, wire.Lenient); err != nil {
		return &trouble{cause: k.words("unreadable answer: " + wire.DecodeError(err))}
	}
	if sent.ID == "" || sent.Status != "sent" {
		return &trouble{cause: k.words("an answer that does not say that the message was sent")}
	}
	return nil
}

// post sends a request and reads the answer, of whatever status but 401.
func (k *call) post(to *http.Request, request []byte, answer *bytes.Buffer) (status int, t *trouble) {
	reply, lost := wire.Post(k.ctx, k.c.http, to, request, answer)
	switch {
	case lost != nil:
		return 0, &trouble{unsent: lost.Unsent, cause: k.words(lost.Cause)}
	case reply.Status == http.StatusUnauthorized:
		return 0, &trouble{denied: reply.Denied, cause: k.words("HTTP 401")}
	}
	return reply.Status, nil
}

// words makes a cause of somebody's words, without a secret of this question or of ours, and without phones.
func (k *call) words(say string) string {
	cfg := &k.c.cfg
	secrets := append(k.secrets, string(cfg.Password), string(cfg.MiddlewareToken), string(cfg.SMSToken), string(cfg.CodeKey))
	return wire.Words(k.method, say, true, secrets...)
}
