package holdfast

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
)

// wireTypes says which type reads and writes each sample of testdata/seed.
var wireTypes = map[string]func() any{
	"prepare_payment.test-flag": func() any { return new(PrepareRequest) },
	"prepare_payment.request":   func() any { return new(PrepareRequest) },
	"prepare_payment.answer":    func() any { return new(PrepareResponse) },
	"prepare_payment.failure":   func() any { return new(PrepareResponse) },
	"pay.request":               func() any { return new(PayRequest) },
	"pay.answer":                func() any { return new(PayResponse) },
	"pay.failure":               func() any { return new(PayResponse) },
	"verificationInfo.answer":   func() any { return new(VerificationInfoResponse) },
	"verificationInfo.expired":  func() any { return new(VerificationInfoResponse) },
	"check_sms_key.request":     func() any { return new(CheckSMSKeyRequest) },
	"check_sms_key.answer":      func() any { return new(CheckSMSKeyResponse) },
	"check_sms_key.failure":     func() any { return new(CheckSMSKeyResponse) },
	"set_accept.request":        func() any { return new(AcceptRequest) },
	"set_accept.answer":         func() any { return new(AcceptResponse) },
	"set_accept.failure":        func() any { return new(AcceptResponse) },
	"callback.request":          func() any { return new(CallbackRequest) },
	"callback.answer":           func() any { return new(CallbackResponse) },
}

// changed lists, by sample and key, the few places where what we write differs
// from what the sample shows; each with the text we write.
var changed = map[string]map[string]string{
	// The table requires riskLevel, the sample forgets it.
	"pay.answer": {"/data/riskLevel": "0"},
	// Numbers that the samples write as strings.
	"check_sms_key.request": {"/verifyId": "819"},
	"set_accept.request":    {"/octo_shop_id": "123"},
}

func TestSamplesSurviveDecodingAndEncoding(t *testing.T) {
	files, err := filepath.Glob("testdata/seed/*.*.json")
	if err != nil || len(files) != 17 {
		t.Fatalf("found %d samples, %v; the seed has 17", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			sample := readFile(t, file)
			value := wireTypes[name]()
			if err := json.Unmarshal(sample, value, json.RejectUnknownMembers(true)); err != nil {
				t.Fatal(err)
			}
			encoded, err := EncodeRequest(value)
			if err != nil {
				t.Fatal(err)
			}
			if name == "prepare_payment.test-flag" {
				return // a fragment: what is missing is written as empty
			}
			want, got := leaves(t, sample), leaves(t, encoded)
			for i, leaf := range want {
				if text, ok := changed[name][leaf.Pointer]; ok {
					want[i].Text = text
				}
			}
			if name == "pay.answer" {
				at := slices.IndexFunc(want, func(l leaf) bool { return l.Pointer == "/data/bankCode" })
				want = slices.Insert(want, at, leaf{"/data/riskLevel", "0"})
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("keys or values changed (-sample +ours):\n%s", diff)
			}
			// The same through encoding/json.
			second := wireTypes[name]()
			if err := stdjson.Unmarshal(sample, second); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(value, second); diff != "" {
				t.Errorf("encoding/json reads it differently:\n%s", diff)
			}
		})
	}
}

// leaf is a value that holds no other, with its place; a list of them, in
// order, says all about a JSON text but its spacing.
type leaf struct{ Pointer, Text string }

func leaves(t *testing.T, text []byte) (list []leaf) {
	t.Helper()
	dec := jsontext.NewDecoder(bytes.NewReader(text))
	for {
		kind := dec.PeekKind()
		value := ""
		switch kind {
		case jsontext.KindBeginObject, jsontext.KindBeginArray, jsontext.KindEndObject, jsontext.KindEndArray:
			if _, err := dec.ReadToken(); err != nil {
				t.Fatal(err)
			}
			value = kind.String()
		default:
			_, before := dec.StackIndex(dec.StackDepth())
			raw, err := dec.ReadValue()
			if err != nil {
				t.Fatal(err)
			}
			if parent, _ := dec.StackIndex(dec.StackDepth()); parent == jsontext.KindBeginObject && before%2 == 0 {
				continue // a name; it is in its value's pointer
			}
			value = string(raw)
		}
		list = append(list, leaf{string(dec.StackPointer()), value})
		if dec.StackDepth() == 0 {
			return list
		}
	}
}

type seedTable struct {
	Call, Direction, Sample string
	Rows                    []seedRow
}

type seedRow struct {
	Row, Path, Type, Required, Note string
	JSON                            []string
	Null, Always                    bool
}

func seedTables(t *testing.T) (tables []seedTable) {
	t.Helper()
	// The keys are lower case in the file.
	if err := json.Unmarshal(readFile(t, "testdata/seed/tables.json"), &tables, json.MatchCaseInsensitiveNames(true), json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	return tables
}

func TestTablesAreWhole(t *testing.T) {
	var got []string
	for _, table := range seedTables(t) {
		got = append(got, fmt.Sprintf("%s %s %d", table.Call, table.Direction, len(table.Rows)))
		for _, row := range table.Rows {
			required := row.Required
			if row.Path == "" || len(row.JSON) == 0 || !strings.HasSuffix(row.Row, row.Type+required) {
				t.Errorf("%s %s: row %+v is not filled in", table.Call, table.Direction, row)
			}
		}
	}
	// Counted in the seed's text: 208 rows.
	want := []string{
		"prepare_payment request 24", "prepare_payment answer 9", "prepare_payment failure 5",
		"pay request 6", "pay answer 45", "pay failure 3",
		"verificationInfo answer 6", "verificationInfo failure 6",
		"check_sms_key request 3", "check_sms_key answer 71", "check_sms_key failure 3",
		"set_accept request 5", "set_accept answer 11", "set_accept failure 5",
		"callback request 4", "callback answer 2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Every row of a request's table: its key is taken in the kinds that the row
// allows, refused in the others, and written again under the same path.
func TestRequestTables(t *testing.T) {
	values := map[string]string{"number": `18`, "string": `"18"`, "bool": `true`, "object": `{}`, "array": `[]`}
	for _, table := range seedTables(t) {
		if table.Direction != "request" {
			continue
		}
		for _, row := range table.Rows {
			for kind, value := range values {
				if row.Path == "test" {
					value = map[string]string{"number": `1`, "string": `"1"`, "bool": `true`, "object": `{}`, "array": `[]`}[kind]
				}
				request := wireTypes[table.Call+".request"]()
				body := nest(row.Path, value)
				err := json.Unmarshal([]byte(body), request, json.RejectUnknownMembers(true))
				if !slices.Contains(row.JSON, kind) {
					if err == nil {
						t.Errorf("%s: %s is taken, want %v", table.Call, body, row.JSON)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s: %s is refused: %v", table.Call, body, err)
					continue
				}
				encoded, err := EncodeRequest(request)
				if err != nil {
					t.Errorf("%s: %s: %v", table.Call, body, err)
					continue
				}
				if row.JSON[0] == "object" || row.JSON[0] == "array" {
					continue // empty ones may be left out; their members have rows of their own
				}
				got, state := find(t, encoded, row.Path)
				want := row.JSON[0] // the first is the one we write
				if state != "" || kindOf(got) != want {
					t.Errorf("%s: %s is written again as %v %s in %s, want %s", table.Call, row.Path, got, state, encoded, want)
				}
			}
		}
	}
}

// nest builds the smallest body with a value at the path.
func nest(path, value string) string {
	name, rest, deeper := strings.Cut(path, ".")
	if deeper {
		value = nest(rest, value)
	}
	if element, isArray := strings.CutSuffix(name, "[]"); isArray {
		name, value = element, "["+value+"]"
	}
	return `{"` + name + `":` + value + `}`
}

// Every row of an answer's table, walked over the sample as our types write it
// and over a value of our types that has something in every field.
func TestAnswerTables(t *testing.T) {
	walked := 0
	for _, table := range seedTables(t) {
		if table.Direction == "request" {
			continue
		}
		name := strings.TrimSuffix(table.Sample, ".json")
		fromSample := wireTypes[name]()
		if err := json.Unmarshal(readFile(t, "testdata/seed/"+table.Sample), fromSample); err != nil {
			t.Fatal(err)
		}
		full := wireTypes[name]()
		fill(reflect.ValueOf(full).Elem(), 0)
		for label, value := range map[string]any{"sample": fromSample, "full": full} {
			encoded, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range table.Rows {
				got, state := find(t, encoded, row.Path)
				if problem := judge(row, got, state); problem != "" {
					t.Errorf("%s %s, %s: %s %s", table.Call, table.Direction, label, row.Path, problem)
				}
				if label == "full" && (state != "" || got == nil) {
					t.Errorf("%s %s: our type has no room for %s: %s", table.Call, table.Direction, row.Path, encoded)
				}
				walked++
			}
		}
	}
	if walked != 2*(208-42) {
		t.Errorf("walked %d rows", walked)
	}
	// The walk itself must be able to fail.
	row := seedRow{Path: "a", JSON: []string{"number"}, Always: true}
	for _, body := range []string{`{}`, `{"a":"1"}`, `{"a":null}`} {
		got, state := find(t, []byte(body), "a")
		if judge(row, got, state) == "" {
			t.Errorf("%s passes for %+v", body, row)
		}
	}
}

func judge(row seedRow, got any, state string) string {
	switch {
	case state == "nothing to say":
	case state == "absent":
		if row.Always {
			return "is missing"
		}
	case got == nil:
		if !row.Null {
			return "is null"
		}
	case !slices.Contains(row.JSON, kindOf(got)):
		return fmt.Sprintf("is a %s, want %v", kindOf(got), row.JSON)
	}
	return ""
}

// find goes down a path of tables.json. state is "", "absent", or "nothing to
// say" if something on the way is null or empty.
func find(t *testing.T, body []byte, path string) (value any, state string) {
	t.Helper()
	if err := stdjson.Unmarshal(body, &value); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	for name := range strings.SplitSeq(path, ".") {
		if value == nil {
			return nil, "nothing to say"
		}
		name, element := strings.CutSuffix(name, "[]")
		object, ok := value.(map[string]any)
		if !ok {
			t.Fatalf("%s: %v is no object", path, value)
		}
		if value, ok = object[name]; !ok {
			return nil, "absent"
		}
		if list, ok := value.([]any); ok && element {
			if len(list) == 0 {
				return nil, "nothing to say"
			}
			value = list[0]
		}
	}
	return value, ""
}

func kindOf(value any) string {
	switch value.(type) {
	case string:
		return "string"
	case bool:
		return "bool"
	case map[string]any:
		return "object"
	case []any:
		return "array"
	case nil:
		return "null"
	}
	return "number"
}

// fill puts something into every field.
func fill(v reflect.Value, depth int) {
	switch v.Interface().(type) {
	case Decimal:
		v.SetString("1234.50")
		return
	case stdjson.RawMessage:
		v.SetBytes([]byte(`{"x":[1,2.50]}`))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("Йогурт <&> \"" + fmt.Sprint(depth))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(1 + depth))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), depth+1)
		fill(v.Index(1), depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), depth+1)
		}
	default:
		panic(v.Type().String())
	}
}

func TestBothEncodersWriteTheSameBytes(t *testing.T) {
	values := map[string]func() any{
		"StatusRequest":           func() any { return new(StatusRequest) },
		"VerificationInfoRequest": func() any { return new(VerificationInfoRequest) },
		"CheckPanRequest":         func() any { return new(CheckPanRequest) },
		"CheckPanResponse":        func() any { return new(CheckPanResponse) },
		"RefundRequest":           func() any { return new(RefundRequest) },
		"RefundResponse":          func() any { return new(RefundResponse) },
		"Notification":            func() any { return new(Notification) },
		"NotificationAnswer":      func() any { return new(NotificationAnswer) },
		"Failure":                 func() any { return new(Failure) },
	}
	for name, value := range wireTypes {
		values[name] = value
	}
	for name, make := range values {
		zero, full := make(), make()
		fill(reflect.ValueOf(full).Elem(), 0)
		for _, value := range []any{zero, full} {
			ours, err := json.Marshal(value)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var std bytes.Buffer
			enc := stdjson.NewEncoder(&std)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(value); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff(string(ours)+"\n", std.String()); diff != "" {
				t.Errorf("%s (-json-experiment +encoding/json):\n%s", name, diff)
			}
			// And back, through both.
			if value == zero {
				continue
			}
			first, second := make(), make()
			if err := json.Unmarshal(ours, first, json.RejectUnknownMembers(true)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := stdjson.Unmarshal(ours, second); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if diff := cmp.Diff(first, second); diff != "" {
				t.Errorf("%s is read differently:\n%s", name, diff)
			}
		}
	}
}

// prepare_payment, set_accept and refund carry their fields twice.
func TestFieldsStandTwice(t *testing.T) {
	state := &PaymentState{ShopTransactionID: "c1", PaymentUUID: "u1", Status: StatusSucceeded, PayURL: "https://pay.example.uz/pay/u1",
		TransferSum: "980.00", RefundedSum: "0.00", TotalSum: "1000.00", PayedTime: "2024-12-18 16:15:34"}
	checkEncoding(t, AcceptResponse{Data: state, Developer: DeprecationNotice, PaymentState: state},
		`{"error":0,"data":{"shop_transaction_id":"c1","octo_payment_UUID":"u1","status":"succeeded","octo_pay_url":"https://pay.example.uz/pay/u1","transfer_sum":980.00,"refunded_sum":0.00,"total_sum":1000.00,"payed_time":"2024-12-18 16:15:34"},`+
			`"apiMessageForDevelopers":"`+DeprecationNotice+`","shop_transaction_id":"c1","octo_payment_UUID":"u1","status":"succeeded","octo_pay_url":"https://pay.example.uz/pay/u1","transfer_sum":980.00,"refunded_sum":0.00,"total_sum":1000.00,"payed_time":"2024-12-18 16:15:34"}`)

	refund := &Refund{PaymentUUID: "u1", RefundID: "r1", RefundTime: "2024-12-18 16:15:34", Status: StatusPending}
	checkEncoding(t, RefundResponse{Data: refund, Refund: refund},
		`{"error":0,"data":{"octo_payment_UUID":"u1","refund_id":"r1","refund_time":"2024-12-18 16:15:34","status":"pending"},"apiMessageForDevelopers":"","octo_payment_UUID":"u1","refund_id":"r1","refund_time":"2024-12-18 16:15:34","status":"pending"}`)

	checkEncoding(t, Fail(CodeWrongSecret, "Wrong secret", ""),
		`{"error":2,"errMessage":"Wrong secret","data":null,"errorMessage":"Wrong secret","apiMessageForDevelopers":"`+DeprecationNotice+`"}`)
	checkEncoding(t, Fail(CodeDataFormat, "ttl", "ttl is 1 to 43200"),
		`{"error":1,"errMessage":"ttl","data":null,"errorMessage":"ttl","apiMessageForDevelopers":"ttl is 1 to 43200"}`)
}

// The first five keys of a notification are always there, the others only with
// something to say, and there are no more than the contract lists.
func TestNotificationKeys(t *testing.T) {
	checkEncoding(t, Notification{}, `{"shop_transaction_id":"","octo_payment_UUID":"","status":"","signature":"","hash_key":""}`)
	checkEncoding(t, Notification{RiskLevel: new(int64), IsPhysicalCard: new(bool)},
		`{"shop_transaction_id":"","octo_payment_UUID":"","status":"","signature":"","hash_key":"","riskLevel":0,"is_physical_card":false}`)
	var full Notification
	fill(reflect.ValueOf(&full).Elem(), 0)
	encoded, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, leaf := range leaves(t, encoded) {
		if leaf.Pointer != "" {
			got = append(got, leaf.Pointer[1:])
		}
	}
	want := strings.Split("shop_transaction_id, octo_payment_UUID, status, signature, hash_key, total_sum, transfer_sum, refunded_sum, card_country, maskedPan, rrn, riskLevel, payed_time, card_type, is_physical_card, currency, card_vendor", ", ")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestStatusWords(t *testing.T) {
	got := []string{StatusCreated, StatusWaitUserAction, StatusWaitingForCapture, StatusSucceeded, StatusCanceled}
	want := []string{"created", "wait_user_action", "waiting_for_capture", "succeeded", "canceled"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTimesAreTashkent(t *testing.T) {
	at, err := ParseTime("2024-12-18 16:15:34")
	if err != nil || at.Unix() != 1734520534 {
		t.Errorf("ParseTime: %v (%d), %v; want 11:15:34 UTC", at, at.Unix(), err)
	}
	if got := FormatTime(at.UTC()); got != "2024-12-18 16:15:34" {
		t.Errorf("FormatTime: %s", got)
	}
	if _, err := ParseTime("18.12.2024"); err == nil {
		t.Error("another form is taken")
	}
}

func TestTolerantTypes(t *testing.T) {
	type body struct {
		N Integer `json:"n"`
		T Text    `json:"t"`
		A AnyText `json:"a"`
		F Flag    `json:"f"`
		D Decimal `json:"d"`
	}
	good := map[string]body{
		`{"n":18}`:                             {N: 18},
		`{"n":"18"}`:                           {N: 18},
		`{"n":" 18 "}`:                         {N: 18},
		`{"n":18.0}`:                           {N: 18},
		`{"n":-3}`:                             {N: -3},
		`{"n":""}`:                             {},
		`{"n":null,"t":null}`:                  {},
		`{"n":9223372036854775807}`:            {N: 9223372036854775807},
		`{"t":"  a b "}`:                       {T: "a b"},
		`{"t":7}`:                              {T: "7"},
		`{"t":"\u0061"}`:                       {T: "a"},
		`{"t":123456789012345678901234567890}`: {T: "123456789012345678901234567890"},
		`{"a":" \u0061 "}`:                     {A: " a "},
		`{"a":""}`:                             {},
		`{"a":null}`:                           {},
		`{"a":1234}`:                           {A: "1234"},
		`{"a":1.5e3}`:                          {A: "1.5e3"},
		`{"a":false}`:                          {A: "false"},
		`{"a":[2026,11]}`:                      {A: "[2026,11]"},
		`{"a":{"b":"c"}}`:                      {A: `{"b":"c"}`},
		`{"f":true}`:                           {F: true},
		`{"f":"1"}`:                            {F: true},
		`{"f":1}`:                              {F: true},
		`{"f":"true"}`:                         {F: true},
		`{"f":"0"}`:                            {},
		`{"f":0}`:                              {},
		`{"f":false}`:                          {},
		`{"f":"False"}`:                        {},
		`{"f":""}`:                             {},
		`{"f":null}`:                           {},
		`{"d":1000.0}`:                         {D: "1000.0"},
		`{"d":"1000.00"}`:                      {D: "1000.00"},
		`{"d":" 1000 "}`:                       {D: "1000"},
		`{"d":1.0E7}`:                          {D: "1.0E7"},
		`{"d":null}`:                           {},
		`{"d":""}`:                             {},
		`{"d":0.10000000000000000001}`:         {D: "0.10000000000000000001"},
	}
	for text, want := range good {
		var ours, std body
		if err := json.Unmarshal([]byte(text), &ours); err != nil || ours != want {
			t.Errorf("%s: %+v, %v; want %+v", text, ours, err, want)
		}
		if err := stdjson.Unmarshal([]byte(text), &std); err != nil || std != want {
			t.Errorf("%s through encoding/json: %+v, %v; want %+v", text, std, err, want)
		}
	}
	// What reads as nothing leaves nothing of what was there.
	for _, text := range []string{`{"n":null,"t":null,"a":null,"f":null,"d":null}`, `{"n":"","t":"","a":"","f":"","d":""}`} {
		got := body{N: 1, T: "t", A: "a", F: true, D: "1"}
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != (body{}) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	bad := []string{
		`{"n":18.5}`, `{"n":"x"}`, `{"n":true}`, `{"n":[]}`, `{"n":9223372036854775808}`, `{"n":1e3}`, `{"n":"0x10"}`, `{"n":"1_000"}`, `{"n":"+1"}`,
		`{"t":true}`, `{"t":{}}`, `{"t":1.5}`, `{"t":1e5}`,
		`{"f":"yes"}`, `{"f":2}`, `{"f":[]}`,
		`{"d":"ten"}`, `{"d":"1,5"}`, `{"d":true}`, `{"d":{}}`, `{"d":"NaN"}`, `{"d":"1 000"}`, `{"d":"0x1p-2"}`, `{"d":"1e"}`, `{"d":` + strings.Repeat("1", 65) + `}`,
	}
	for _, text := range bad {
		var got body
		err := json.Unmarshal([]byte(text), &got)
		if err == nil {
			t.Errorf("%s is taken as %+v", text, got)
			continue
		}
		// The gateway tells the merchant which field, and what was expected.
		if text := err.Error(); !strings.Contains(text, "expected") || !strings.Contains(text, "/") {
			t.Errorf("the error does not help: %v", err)
		}
		if stdjson.Unmarshal([]byte(text), &got) == nil {
			t.Errorf("encoding/json takes %s", text)
		}
	}
}

func checkEncoding(t *testing.T, value any, want string) {
	t.Helper()
	got, err := json.Marshal(value)
	if err != nil {
		t.Error(err)
		return
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// One encoding of the longest answer and one of the most frequent.
func BenchmarkEncode(b *testing.B) {
	for _, name := range []string{"pay.answer", "prepare_payment.answer"} {
		b.Run(name, func(b *testing.B) {
			sample, err := os.ReadFile("testdata/seed/" + name + ".json")
			if err != nil {
				b.Fatal(err)
			}
			value := wireTypes[name]()
			if err := json.Unmarshal(sample, value); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := json.Marshal(value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
