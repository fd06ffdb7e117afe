package holdfast

import (
	"errors"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// The types of this file are exact in what they send and tolerant in what they
// take, because clients of the same interface differ: contract §1, "Accept".
// All of them read null as their zero value.

// Integer is a whole number. It is written as a JSON number and read from a
// number or a numeric string: 18, "18", " 18 " and 18.0 are the same.
type Integer int64

var errNotInteger = errors.New("expected an integer, as a number or a numeric string such as 18")

// UnmarshalJSON takes a JSON number without a fraction, or a string that holds
// one. "" is 0, as is null.
func (n *Integer) UnmarshalJSON(value []byte) error {
	text, err := numericText(value)
	if err != nil {
		return errNotInteger
	}
	if text == "" {
		*n = 0
		return nil
	}
	whole, fraction, _ := strings.Cut(text, ".")
	parsed, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || strings.Trim(fraction, "0") != "" {
		return errNotInteger
	}
	*n = Integer(parsed)
	return nil
}

// Text is a string. It is written as a JSON string and read from a string,
// with the spaces around it cut, or from a whole number: "7", " 7 " and 7 are
// the same. shop_transaction_id is one.
type Text string

var errNotText = errors.New("expected a string or an integer")

// UnmarshalJSON takes a JSON string or a JSON number without a fraction.
func (t *Text) UnmarshalJSON(value []byte) error {
	switch jsontext.Value(value).Kind() {
	case jsontext.KindNull:
		*t = ""
		return nil
	case jsontext.KindString:
		text, err := jsontext.AppendUnquote(nil, value)
		if err != nil {
			return errNotText
		}
		*t = Text(strings.TrimSpace(string(text)))
		return nil
	case jsontext.KindNumber:
		text := strings.TrimSpace(string(value))
		if strings.ContainsAny(text, ".eE") {
			return errNotText
		}
		*t = Text(text)
		return nil
	}
	return errNotText
}

// AnyText is a string that no request fails by: it is written as a JSON string
// and read from any JSON value. What is neither a string nor null is its JSON.
// init_time is one, which some clients send as a number, an array or an object,
// as their languages write a date.
type AnyText string

// UnmarshalJSON takes everything.
func (t *AnyText) UnmarshalJSON(value []byte) error {
	switch jsontext.Value(value).Kind() {
	case jsontext.KindNull:
		*t = ""
	case jsontext.KindString:
		text, err := jsontext.AppendUnquote(nil, value)
		if err != nil {
			return errNotText
		}
		*t = AnyText(text)
	default:
		*t = AnyText(value)
	}
	return nil
}

// Flag is a boolean. It is written as a JSON boolean and read from a boolean,
// from 1 and 0, and from the strings "1", "0", "true", "false" and "" (which
// is false).
type Flag bool

var errNotFlag = errors.New(`expected true or false ("1", "0" and "" are taken too)`)

// UnmarshalJSON takes the forms that Flag names.
func (f *Flag) UnmarshalJSON(value []byte) error {
	switch strings.ToLower(strings.TrimSpace(string(value))) {
	case `true`, `1`, `"1"`, `"true"`:
		*f = true
	case `false`, `0`, `"0"`, `"false"`, `""`, `null`:
		*f = false
	default:
		return errNotFlag
	}
	return nil
}

// numericText gives the number that a JSON number or a JSON string holds,
// letter for letter; "" for null and for a blank string.
func numericText(value []byte) (string, error) {
	var text string
	switch jsontext.Value(value).Kind() {
	case jsontext.KindNull:
		return "", nil
	case jsontext.KindNumber:
		text = strings.TrimSpace(string(value))
	case jsontext.KindString:
		unquoted, err := jsontext.AppendUnquote(nil, value)
		if err != nil {
			return "", err
		}
		if text = strings.TrimSpace(string(unquoted)); text == "" {
			return "", nil
		}
	}
	if !isNumber(text) {
		return "", errNotInteger
	}
	return text, nil
}
