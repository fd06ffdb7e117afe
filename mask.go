package holdfast

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Mask gives a copy of a request or answer body that may be shown: secrets,
// codes and tokens as dots, card numbers as their first six and last four
// digits. It goes by the keys of the interface, at any depth and in any case
// of letters: octo_secret, unique_key, cvc2, smsKey, card_token and pan.
// Everything else, spacing included, stays as it is. null and "" stay, so that
// a missing value can be noticed.
//
// A body that is not JSON cannot be searched by keys; a note of its length
// stands for all of it.
func Mask(body []byte) []byte {
	masked, err := maskJSON(body)
	if err != nil {
		return fmt.Appendf(nil, "(%d bytes that are not JSON)", len(body))
	}
	return masked
}

func maskJSON(body []byte) ([]byte, error) {
	// Duplicate names and bad UTF-8 are refused elsewhere. Here they must be
	// read through, because a body that was refused is shown as well.
	dec := jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	var out []byte
	copied := 0 // body[:copied] is in out
	for {
		// A name is a string at an even place of an object.
		depth := dec.StackDepth()
		kind, members := dec.StackIndex(depth)
		isName := kind == jsontext.KindBeginObject && members%2 == 0
		token, err := dec.ReadToken()
		if errors.Is(err, io.EOF) && depth == 0 {
			return append(out, body[copied:]...), nil
		}
		if err != nil {
			return nil, err
		}
		if !isName || token.Kind() != jsontext.KindString {
			continue
		}
		hide := maskOf(token.String())
		if hide == nil {
			continue
		}
		value, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		end := int(dec.InputOffset())
		start := end - len(value)
		out = append(out, body[copied:start]...)
		out = append(out, hide(value)...)
		copied = end
	}
}

// maskOf gives what replaces the value of the key, nil for a harmless one.
func maskOf(key string) func(jsontext.Value) []byte {
	switch strings.ToLower(key) {
	case "octo_secret", "unique_key", "cvc2", "smskey", "card_token":
		return maskSecret
	case "pan":
		return maskPAN
	}
	return nil
}

func maskSecret(value jsontext.Value) []byte {
	if kind := value.Kind(); kind == jsontext.KindNull || (kind == jsontext.KindString && len(value) == len(`""`)) {
		return value
	}
	return []byte(`"` + dots + `"`)
}

func maskPAN(value jsontext.Value) []byte {
	text := string(value)
	if value.Kind() == jsontext.KindString {
		unquoted, err := jsontext.AppendUnquote(nil, value)
		if err != nil {
			return maskSecret(value)
		}
		text = string(unquoted)
	}
	digits := strings.NewReplacer(" ", "", "-", "").Replace(text)
	// Stars are let through so that a masked body can be masked again.
	if len(digits) < 12 || len(digits) > 19 || strings.Trim(digits, "0123456789*") != "" {
		return maskSecret(value)
	}
	return []byte(`"` + digits[:6] + strings.Repeat("*", len(digits)-10) + digits[len(digits)-4:] + `"`)
}
