package holdfast

import (
	stdjson "encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMask(t *testing.T) {
	for body, want := range map[string]string{
		`{"octo_shop_id":123,"octo_secret":"s3cret"}`:         `{"octo_shop_id":123,"octo_secret":"••••••"}`,
		"{\n  \"pan\" : \"8600313260861293\" ,\n \"a\":1 }":   "{\n  \"pan\" : \"860031******1293\" ,\n \"a\":1 }",
		`{"pan":8600313260861293}`:                            `{"pan":"860031******1293"}`,
		`{"pan":"8600 3132-6086 1293"}`:                       `{"pan":"860031******1293"}`,
		`{"pan":"860031******1293"}`:                          `{"pan":"860031******1293"}`,
		`{"pan":"12345678901"}`:                               `{"pan":"••••••"}`,
		`{"pan":"123456789012"}`:                              `{"pan":"123456**9012"}`,
		`{"pan":"1234567890123456789"}`:                       `{"pan":"123456*********6789"}`,
		`{"pan":"12345678901234567890"}`:                      `{"pan":"••••••"}`,
		`{"unique_key":"k","smsKey":12,"cvc2":[]}`:            `{"unique_key":"••••••","smsKey":"••••••","cvc2":"••••••"}`,
		`{"pan":"not a number at all"}`:                       `{"pan":"••••••"}`,
		`{"pan":["8600313260861293"]}`:                        `{"pan":"••••••"}`,
		`{"pan":{"x":"8600313260861293"},"cvc2":true}`:        `{"pan":"••••••","cvc2":"••••••"}`,
		`{"smsKey":317168,"cvc2":"123","card_token":"t"}`:     `{"smsKey":"••••••","cvc2":"••••••","card_token":"••••••"}`,
		`{"cvc2":"","octo_secret":null,"pan":""}`:             `{"cvc2":"","octo_secret":null,"pan":""}`,
		`[{"a":{"OCTO_SECRET":"x"}},{"SmsKey":"1"}]`:          `[{"a":{"OCTO_SECRET":"••••••"}},{"SmsKey":"••••••"}]`,
		`{"p\u0061n":"8600313260861293"}`:                     `{"p\u0061n":"860031******1293"}`,
		`{"pan":"86003132608612\u00393"}`:                     `{"pan":"860031******1293"}`,
		`{"pan":"8600313260861293","pan":"8600313260861293"}`: `{"pan":"860031******1293","pan":"860031******1293"}`,
		`{"a":"octo_secret","b":["pan","8600"]}`:              `{"a":"octo_secret","b":["pan","8600"]}`,
		`{"octo_secret":"a"} {"octo_secret":"b"}`:             `{"octo_secret":"••••••"} {"octo_secret":"••••••"}`,
		`{"octo_secret":"open`:                                `(20 bytes that are not JSON)`,
		`octo_secret=s3cret&pan=8600313260861293`:             `(39 bytes that are not JSON)`,
		`{"octo_secret":"x"}}`:                                `(20 bytes that are not JSON)`,
		``:                                                    ``,
		`17`:                                                  `17`,
	} {
		before := strings.Clone(body)
		if got := string(Mask([]byte(body))); got != want {
			t.Errorf("%s\n got %s\nwant %s", body, got, want)
		}
		if body != before {
			t.Errorf("the body itself was changed: %s", body)
		}
	}
}

// Whatever a request of ours holds, its masked body does not.
func TestMaskHidesRequests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := func(label string) Secret {
			return Secret("Z" + rapid.StringMatching(`[0-9A-Za-z"\\<é]{6,40}`).Draw(t, label))
		}
		pan := rapid.StringMatching(`[0-9]{12,19}`).Draw(t, "pan")
		for _, request := range []any{
			PrepareRequest{Secret: secret("a"), Description: "d"},
			PayRequest{PAN: Secret(pan), CVC2: secret("b"), CardToken: secret("c")},
			CheckSMSKeyRequest{SMSKey: secret("d")},
			CallbackRequest{Secret: secret("e")},
		} {
			body, err := EncodeRequest(request)
			if err != nil {
				t.Fatal(err)
			}
			masked := string(Mask(body))
			if strings.Contains(masked, pan) || strings.Contains(masked, `"Z`) {
				t.Fatalf("%s shows too much of %s", masked, body)
			}
		}
	})
}

func FuzzMask(f *testing.F) {
	for _, seed := range []string{`{"pan":"8600313260861293"}`, `{"a":[{"octo_secret":"x"}],"cvc2":1}`, `{"pan":`, `{}{}`, "\xff", `{"pan":"\ud800"}`, `{"Pan":{"pan":null}}`, `{"card_token":""}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		masked := Mask(body)
		if stdjson.Valid(body) && !stdjson.Valid(masked) {
			t.Fatalf("%q is JSON, %q is not", body, masked)
		}
		if again := Mask(masked); stdjson.Valid(masked) && string(again) != string(masked) {
			t.Fatalf("%q masked twice is %q", masked, again)
		}
		// Look for what must not be there by another way: decode and walk.
		dec := stdjson.NewDecoder(strings.NewReader(string(masked)))
		for {
			var value any
			if dec.Decode(&value) != nil {
				return
			}
			checkMasked(t, value)
		}
	})
}

func checkMasked(t *testing.T, value any) {
	switch value := value.(type) {
	case []any:
		for _, element := range value {
			checkMasked(t, element)
		}
	case map[string]any:
		for key, member := range value {
			switch strings.ToLower(key) {
			case "octo_secret", "unique_key", "cvc2", "smskey", "card_token":
				if member != nil && member != "" && member != dots {
					t.Fatalf("%s is %v", key, member)
				}
			case "pan":
				if text, ok := member.(string); member != nil && (!ok || strings.Count(strings.Trim(text, "0123456789"), "*")+10 < len(text) && text != dots && text != "") {
					t.Fatalf("pan is %v", member)
				}
			default:
				checkMasked(t, member)
			}
		}
	}
}
