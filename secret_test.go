package holdfast

import (
	"bytes"
	stdjson "encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

const hidden = "537da54b-835a-4968-9864-c2ae02c5902e"

// checkHidden fails if text gives the secret away, also as hex or in part.
func checkHidden(t *testing.T, how, text string) {
	t.Helper()
	for _, trace := range []string{hidden, hidden[:8], hidden[24:], fmt.Sprintf("%x", hidden[:4]), fmt.Sprintf("%X", hidden[:4])} {
		if strings.Contains(text, trace) {
			t.Errorf("%s shows the secret: %s", how, text)
			return
		}
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	s := Secret(hidden)
	client := Client{BaseURL: "https://pay.example.uz", Secret: s}
	for _, verb := range strings.Split("v +v #v s q x X d t c U e 10s -10v 010d # x .3s b o T", " ") {
		for _, value := range []any{s, &s, []Secret{s}, [1]Secret{s}, map[string]Secret{"k": s}, map[Secret]int{s: 1}, struct{ S Secret }{s}, client, &client, PrepareRequest{Secret: s}, any(s)} {
			checkHidden(t, "%"+verb, fmt.Sprintf("%"+verb, value))
		}
	}
	checkHidden(t, "Sprint", fmt.Sprint(s, &s))
	checkHidden(t, "String", s.String())
	checkHidden(t, "Errorf", fmt.Errorf("it was %v: %w", s, errors.New(s.String())).Error())
	if got := fmt.Sprintf("%s|%v|%q|%#v|%s", s, s, s, s, Secret("")); got != `••••••|••••••|"••••••"|"••••••"|` {
		t.Errorf("prints as %s", got)
	}
	if fmt.Sprint(Secret("a")) != fmt.Sprint(Secret("a much longer one")) {
		t.Error("the dots show the length")
	}
}

func TestSecretIsNotLogged(t *testing.T) {
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var out bytes.Buffer
		s := Secret(hidden)
		request := AcceptRequest{Secret: s, AcceptStatus: AcceptCapture}
		slog.New(handler(&out)).With("with", s).Info("call", "secret", s, "pointer", &s, "request", request, "list", []Secret{s}, slog.Group("g", "s", s), "err", &Error{Call: "pay", Code: CodeWrongSecret})
		checkHidden(t, name, out.String())
		if !strings.Contains(out.String(), dots) {
			t.Errorf("%s logs no dots: %s", name, out.String())
		}
	}
}

func TestSecretIsNotEncoded(t *testing.T) {
	s := Secret(hidden)
	request := PrepareRequest{Secret: s, ShopTransactionID: "1"}
	for name, encode := range map[string]func(any) ([]byte, error){
		"json-experiment": func(v any) ([]byte, error) { return json.Marshal(v) },
		"encoding/json":   stdjson.Marshal,
		"encoding/xml":    xml.Marshal,
	} {
		for _, value := range []any{s, &s, []Secret{s}, request} {
			encoded, err := encode(value)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			checkHidden(t, name, string(encoded))
			if !bytes.Contains(encoded, []byte(dots)) {
				t.Errorf("%s writes %s", name, encoded)
			}
		}
	}
}

// The one door, and the way in.
func TestSecretTravels(t *testing.T) {
	encoded, err := EncodeRequest(&CheckPanRequest{PAN: "8600313260861293", ExpDate: "2602", PaymentID: 7})
	if want := `{"pan":"8600313260861293","expDate":"2602","paymentId":7}`; err != nil || string(encoded) != want {
		t.Errorf("%s, %v; want %s", encoded, err, want)
	}
	for name, decode := range map[string]func([]byte, any) error{
		"json-experiment": func(b []byte, v any) error { return json.Unmarshal(b, v) },
		"encoding/json":   stdjson.Unmarshal,
	} {
		var request PayRequest
		if err := decode([]byte(`{"pan":"8600313260861293","cvc2":""}`), &request); err != nil || string(request.PAN) != "8600313260861293" || request.CVC2 != "" {
			t.Errorf("%s reads %q, %v", name, string(request.PAN), err)
		}
	}
	// Encoding fails without telling what it could not encode.
	_, err = EncodeRequest(PayRequest{PAN: Secret(hidden + "\xff")})
	if err == nil {
		t.Fatal("bad UTF-8 was encoded")
	}
	checkHidden(t, "the error", err.Error())
}
