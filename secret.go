package holdfast

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Secret is a string that must not be seen: a shop's secret, a card number, a
// card's CVC2, a code from an SMS, a card token. Whatever prints it, logs it
// or encodes it gets dots, and always as many, so that not even its length
// shows; only an empty Secret is empty, so that a missing one can be noticed.
//
// Dots go into JSON as well, although requests carry secrets as JSON. The
// reason is that a log's JSON handler and a debugging json.Marshal(request)
// are encoders like any other, and there are more of them than clients. So the
// safe form is what every encoder writes, and the one place that sends
// requests asks for the other by name: [EncodeRequest]. Reading is not
// changed: a Secret is decoded from a plain JSON string.
//
// string(s) gives the value. Three gaps are not ours to close, since these ask
// no method before they print a string: fmt on an unexported field, so keep a
// Secret in an exported field of anything that may be printed; the verb %p,
// which go vet refuses; and encoding/json on the key of a map.
type Secret string

const dots = "••••••"

// String gives dots, or "" for an empty Secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return dots
}

// Format writes dots for every verb of fmt, %x, %d and %#v included.
func (s Secret) Format(f fmt.State, verb rune) {
	text := s.String()
	if verb == 'q' || (verb == 'v' && f.Flag('#')) {
		text = `"` + text + `"`
	}
	io.WriteString(f, text)
}

// LogValue gives slog dots.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText gives every encoder dots: JSON (both packages), XML and the rest.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// EncodeRequest gives the body of a request as it travels, with its secrets in
// clear. [Client] uses it; so does whoever sends requests by other means. The
// bytes must go nowhere but to the gateway: [Mask] them before they are shown.
func EncodeRequest(request any) ([]byte, error) {
	return json.Marshal(request, revealSecrets)
}

var revealSecrets = json.WithMarshalers(json.MarshalToFunc(func(enc *jsontext.Encoder, s Secret) error {
	return enc.WriteToken(jsontext.String(string(s)))
}))
