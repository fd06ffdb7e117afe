package wire

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Lenient: some hosts write messages in a Windows code page; that must not hide the code beside them.
var Lenient = jsontext.AllowInvalidUTF8(true)

// Text reads a string or a number as text; null and absent are empty.
type Text string

// UnmarshalJSONFrom reads it.
func (t *Text) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	token, err := d.ReadToken()
	if err != nil {
		return err
	}
	switch token.Kind() {
	case '"', '0':
		*t = Text(token.String())
	case 'n':
		*t = ""
	default:
		return fmt.Errorf("a %s where a text or a number belongs", token.Kind())
	}
	return nil
}

// Integer reads an integer or its text; null, "" and absent are not set.
type Integer struct {
	N   int64
	Set bool
}

// UnmarshalJSONFrom reads it.
func (i *Integer) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var digits Text
	if err := digits.UnmarshalJSONFrom(d); err != nil {
		return err
	}
	*i = Integer{}
	if digits == "" {
		return nil
	}
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return errors.New("something else where an integer belongs") // the text itself might be a card number
	}
	*i = Integer{n, true}
	return nil
}

// List reads an array or a single object: centres give both for the same thing.
type List[T any] []T

// UnmarshalJSONFrom reads it.
func (l *List[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
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

// Quote appends a JSON string.
func Quote(b []byte, value string) []byte {
	// The only error is invalid UTF-8, which is then replaced; nothing that is sent can hold any.
	b, _ = jsontext.AppendQuote(b, value)
	return b
}

// AppendID writes an id that the centre gave as the number it was, if it was one.
func AppendID(b []byte, id string) []byte {
	if AllDigits(id) && len(id) <= 18 && (id[0] != '0' || id == "0") {
		return append(b, id...)
	}
	return Quote(b, id)
}

// DecodeError is what is wrong with a text without a piece of it: it might show a card number.
func DecodeError(err error) string {
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
