package sim

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// The centre reads JSON with its own small reader rather than into structs: encoding/json takes "holdid" for "holdId" and
// the second of two equal keys without a word, and the real SVGate would not. It is also several times cheaper, which
// matters when a load test runs beside it on the same two cores.

const (
	maxDepth   = 8  // of a call
	maxMembers = 64 // of one object, and of one array
	maxID      = 64 // bytes of a call's id
)

type valueKind byte

const (
	absent valueKind = iota
	null
	boolean
	number
	text
	list
	object
)

// value is a piece of a parsed call. It points into the body and lives as long as that.
type value struct {
	kind    valueKind
	source  []byte // as it stood in the body; of scalars only
	text    []byte // a string's characters, escapes undone
	members []member
	items   []value
}

type member struct {
	name  []byte
	value value
}

func (v *value) get(name string) *value {
	if found := find(v.members, name); found != nil {
		return found
	}
	return &absentValue
}

var absentValue value

// find is the value of the member of that name, or nil.
func find[T string | []byte](members []member, name T) *value {
	for i := range members {
		if string(members[i].name) == string(name) {
			return &members[i].value
		}
	}
	return nil
}

// integer reads a whole number; a string of digits is taken too if quoted is set.
func (v *value) integer(quoted bool) (int64, bool) {
	digits := v.source
	if v.kind == text && quoted {
		digits = v.text
	} else if v.kind != number {
		return 0, false
	}
	n, err := strconv.ParseInt(string(digits), 10, 64) // refuses a point, an exponent and what does not fit
	return n, err == nil
}

// parse reads one JSON value; why says what is wrong with the body, or is "".
func parse(body []byte) (v value, why string) { return new(walker).parse(body) }

// walker steps through JSON that json.Valid has found right, so it need not look for a missing quote or bracket.
type walker struct {
	b   []byte
	i   int
	why string
	// Members of the objects that are not at their end yet, and of those that are.
	open, closed []member
}

// parse is that of the package, in memory that the walker keeps: the value is good until the next one is parsed.
func (w *walker) parse(body []byte) (v value, why string) {
	if !utf8.Valid(body) || !json.Valid(body) {
		return value{}, "the body is no JSON in UTF-8"
	}
	*w = walker{b: body, open: w.open[:0], closed: w.closed[:0]}
	v = w.value(0)
	return v, w.why
}

func (w *walker) space() {
	for w.i < len(w.b) && (w.b[w.i] == ' ' || w.b[w.i] == '\n' || w.b[w.i] == '\r' || w.b[w.i] == '\t') {
		w.i++
	}
}

func (w *walker) value(depth int) value {
	w.space()
	if depth > maxDepth {
		w.why = "nested too deep"
	}
	if w.why != "" {
		return value{}
	}
	start := w.i
	switch w.b[w.i] {
	case '{':
		first := len(w.open)
		for w.i++; w.more('}'); {
			name := w.string()
			w.space()
			w.i++ // the colon
			if find(w.open[first:], name) != nil {
				w.why = "the key " + string(name) + " comes twice"
			}
			v := w.value(depth + 1)
			w.open = append(w.open, member{name, v})
			if len(w.open)-first > maxMembers {
				w.why = "too many keys"
			}
		}
		all := len(w.closed)
		w.closed = append(w.closed, w.open[first:]...)
		w.open = w.open[:first]
		return value{kind: object, members: w.closed[all:]}
	case '[':
		v := value{kind: list}
		for w.i++; w.more(']'); {
			v.items = append(v.items, w.value(depth+1))
			if len(v.items) > maxMembers {
				w.why = "too many elements"
			}
		}
		return v
	case '"':
		s := w.string()
		return value{kind: text, text: s, source: w.b[start:w.i]}
	case 't', 'f', 'n':
		kind := boolean
		if w.b[start] == 'n' {
			kind = null
		}
		for w.i < len(w.b) && w.b[w.i] >= 'a' && w.b[w.i] <= 'z' {
			w.i++
		}
		return value{kind: kind, source: w.b[start:w.i]}
	default:
		for w.i < len(w.b) && bytes.IndexByte([]byte("+-.0123456789eE"), w.b[w.i]) >= 0 {
			w.i++
		}
		return value{kind: number, source: w.b[start:w.i]}
	}
}

// more steps over white space and a comma; false at the closing bracket, which it takes, and once something is wrong.
func (w *walker) more(closing byte) bool {
	if w.why != "" {
		return false
	}
	w.space()
	if w.b[w.i] == ',' {
		w.i++
		w.space()
	}
	if w.b[w.i] == closing {
		w.i++
		return false
	}
	return true
}

func (w *walker) string() []byte {
	start, escaped := w.i, false
	for w.i++; w.b[w.i] != '"'; w.i++ {
		if w.b[w.i] == '\\' {
			escaped = true
			w.i++
		}
	}
	w.i++
	if !escaped {
		return w.b[start+1 : w.i-1]
	}
	var s string
	if err := json.Unmarshal(w.b[start:w.i], &s); err != nil {
		w.why = "a string cannot be read"
	}
	return []byte(s)
}

// call is a JSON-RPC 2.0 request.
type call struct {
	id     []byte // as it came, a number or a quoted string; "null" if it could not be read
	method string
	params value
}

// parseCall reads a request; it is good until the walker's next one. On a refusal the id is still given if it could be found.
func (w *walker) parseCall(body []byte) (call, refusal) {
	c := call{id: []byte("null")}
	v, why := w.parse(body)
	if why != "" {
		return c, refusal{codeRPC, why}
	}
	if v.kind != object {
		return c, refusal{codeRPC, "the body must be one object; batches are not served"}
	}
	id := v.get("id")
	if id.kind != text && id.kind != number || len(id.source) > maxID {
		return c, refusal{codeRPC, "id must be a string or a number of at most 64 bytes"}
	}
	c.id = id.source
	if version := v.get("jsonrpc"); version.kind != text || string(version.text) != "2.0" {
		return c, refusal{codeRPC, `jsonrpc must be "2.0"`}
	}
	method := v.get("method")
	if method.kind != text {
		return c, refusal{codeRPC, "method must be a string"}
	}
	c.method = string(method.text)
	c.params = *v.get("params")
	return c, refusal{}
}

// refusal is an SVGate error: its code, below zero, and what exactly is wrong. Code 0 is none.
type refusal struct {
	code   int
	detail string
}

// params reads a method's parameters and remembers the first thing that is wrong with them.
type params struct {
	value *value
	path  string // of the object being read, with a dot at its end
	bad   *refusal
}

func (p params) fail(code int, name, detail string) {
	if p.bad.code == 0 {
		*p.bad = refusal{code, p.path + name + " " + detail}
	}
}

// object steps into a member that is an object. If it is missing, so are its fields, and they say so.
func (p params) object(name string) params {
	v := p.value.get(name)
	switch v.kind {
	case object:
	case absent, null:
		p.fail(codeMissing, name, "is missing")
	default:
		p.fail(codeRPC, name, "must be an object")
	}
	return params{v, p.path + name + ".", p.bad}
}

func (p params) has(name string) bool {
	kind := p.value.get(name).kind
	return kind != absent && kind != null
}

// text reads a string of least to most characters; outside of that code is the error.
func (p params) text(name string, least, most, code int) []byte {
	v := p.value.get(name)
	switch {
	case v.kind == absent || v.kind == null:
		if least > 0 {
			p.fail(codeMissing, name, "is missing")
		}
		return nil
	case v.kind != text:
		p.fail(codeRPC, name, "must be a string")
		return nil
	}
	if n := utf8.RuneCount(v.text); n < least || n > most {
		p.fail(code, name, "must have "+strconv.Itoa(least)+" to "+strconv.Itoa(most)+" characters")
	}
	return v.text
}

// integer reads a whole number.
func (p params) integer(name string) int64 { return p.wholeNumber(name, false) }

// identifier reads a number that clients also send as a string of digits.
func (p params) identifier(name string) int64 { return p.wholeNumber(name, true) }

func (p params) wholeNumber(name string, quoted bool) int64 {
	v := p.value.get(name)
	if v.kind == absent || v.kind == null {
		p.fail(codeMissing, name, "is missing")
		return 0
	}
	n, ok := v.integer(quoted)
	if !ok {
		p.fail(codeRPC, name, "must be a whole number")
	}
	return n
}

// amount reads a sum of tiyin above zero.
func (p params) amount(name string) int64 {
	n := p.integer(name)
	if n <= 0 {
		p.fail(codeAmount, name, "must be above 0 tiyin")
	}
	return n
}

// appendText writes a JSON string.
func appendText[T string | []byte](b []byte, s T) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x7f {
			quoted, err := json.Marshal(string(s))
			if err != nil {
				return append(b, `""`...) // a string always has a JSON form: this is never reached
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// appendPadded writes n with leading zeros to width digits, in quotes.
func appendPadded(b []byte, n int64, width int) []byte {
	var digits [20]byte
	i := len(digits)
	for ; n > 0 || len(digits)-i < width; n /= 10 {
		i--
		digits[i] = byte('0' + n%10)
	}
	b = append(b, '"')
	b = append(b, digits[i:]...)
	return append(b, '"')
}
