package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/merchant"
)

const seed = "../../../testdata/seed"

// seedDay is a day on which the cards of the seed's samples were still good.
var seedDay = time.Date(2024, 11, 27, 9, 39, 27, 802e6, time.UTC)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(seed, name+".json"))
	check(t, err)
	return b
}

// replaced is a sample with the values of some top-level keys exchanged: ids and secrets, which the
// seed's own cannot be here, and nothing else. A value is JSON.
func replaced(t testing.TB, body []byte, values map[string]string) string {
	t.Helper()
	text := string(body)
	for key, value := range values {
		at := strings.Index(text, fmt.Sprintf("%q:", key))
		if at < 0 {
			t.Fatalf("the sample has no key %s", key)
		}
		start := at + len(key) + 3
		old := json.RawMessage{}
		check(t, json.NewDecoder(strings.NewReader(text[start:])).Decode(&old))
		start += strings.Index(text[start:], string(old))
		text = text[:start] + value + text[start+len(old):]
	}
	return text
}

// leaf is one key of an answer: where it is, and its value's kind and text, in the order of the answer.
type leaf struct{ path, kind, text string }

// leaves walks a JSON value in order. Elements of arrays have the path of the first.
func leaves(t testing.TB, body []byte) []leaf {
	t.Helper()
	var list []leaf
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var walk func(path string)
	walk = func(path string) {
		token, err := dec.Token()
		check(t, err)
		switch v := token.(type) {
		case json.Delim:
			list = append(list, leaf{path, map[json.Delim]string{'{': "object", '[': "array"}[v], ""})
			for dec.More() {
				if v == '[' {
					walk(path + "[]")
					continue
				}
				key, err := dec.Token()
				check(t, err)
				walk(strings.TrimPrefix(path+"."+key.(string), "."))
			}
			_, err := dec.Token()
			check(t, err)
		case json.Number:
			list = append(list, leaf{path, "number", v.String()})
		case string:
			list = append(list, leaf{path, "string", v})
		case bool:
			list = append(list, leaf{path, "bool", fmt.Sprint(v)})
		case nil:
			list = append(list, leaf{path, "null", "null"})
		}
	}
	walk("")
	if _, err := dec.Token(); err != io.EOF {
		t.Fatalf("something follows the JSON: %s", body)
	}
	return list
}

// difference is where an answer may be unlike the sample, and why.
type difference struct {
	value string // the value is our own: an id, a time, an address
	kind  string // the kind may be another
	extra string // a key that the sample does not have
	below string // the sample's keys below it are not looked for
}

// golden compares an answer with the seed's sample: the same keys in the same order, of the same kinds,
// with the same values, letter for letter, wherever differences does not say otherwise.
func golden(t *testing.T, name string, got []byte, differences map[string]difference) {
	t.Helper()
	used := make(map[string]bool)
	allowed := func(path string, reason func(difference) string) bool {
		d, ok := differences[path]
		if !ok || reason(d) == "" {
			return false
		}
		used[path] = true
		return true
	}
	var want, have []leaf
	for _, l := range leaves(t, sample(t, name)) {
		parent := l.path
		for i := strings.LastIndexByte(parent, '.'); i > 0; i = strings.LastIndexByte(parent, '.') {
			parent = parent[:i]
			if allowed(parent, func(d difference) string { return d.below }) {
				break
			}
		}
		if parent == l.path || differences[parent].below == "" {
			want = append(want, l)
		}
	}
	for _, l := range leaves(t, got) {
		if !allowed(l.path, func(d difference) string { return d.extra }) {
			have = append(have, l)
		}
	}
	for i := range max(len(want), len(have)) {
		if i >= len(want) || i >= len(have) || want[i].path != have[i].path {
			at := func(list []leaf) string {
				if i < len(list) {
					return list[i].path
				}
				return "nothing more"
			}
			t.Errorf("%s: key %d is %s, the sample has %s\n%s", name, i+1, at(have), at(want), got)
			return
		}
		w, h := want[i], have[i]
		if w.kind != h.kind && !allowed(w.path, func(d difference) string { return d.kind }) {
			t.Errorf("%s: %s is a %s (%s), in the sample it is a %s (%s)", name, w.path, h.kind, h.text, w.kind, w.text)
		}
		if w.text != h.text && !allowed(w.path, func(d difference) string { return d.value + d.kind }) {
			t.Errorf("%s: %s is %s, in the sample it is %s", name, w.path, h.text, w.text)
		}
	}
	for path := range differences {
		if !used[path] {
			t.Errorf("%s: %s is like the sample after all; take it off the list", name, path)
		}
	}
}

func ours(paths ...string) map[string]difference {
	d := make(map[string]difference)
	for _, p := range paths {
		d[p] = difference{value: "ours"}
	}
	return d
}

// TestSeedSamples sends the seed's own requests and compares the answers with the seed's own.
func TestSeedSamples(t *testing.T) {
	t.Parallel()
	w := newWorldAt(t, seedDay)
	shop := map[string]string{"octo_shop_id": fmt.Sprint(w.shop.id), "octo_secret": fmt.Sprintf("%q", string(w.shop.secret))}
	with := func(name string, more map[string]string) string {
		values := make(map[string]string)
		body := sample(t, name)
		for key, value := range shop {
			if bytes.Contains(body, []byte(`"`+key+`":`)) {
				values[key] = value
			}
		}
		for key, value := range more {
			values[key] = value
		}
		return replaced(t, body, values)
	}

	// The sums have two decimals, also where prepare_payment's sample writes 0 and 1000.0 (contract §1).
	prepared := ours("data.shop_transaction_id", "data.octo_payment_UUID", "data.octo_pay_url", "data.refunded_sum", "data.total_sum",
		"shop_transaction_id", "octo_payment_UUID", "octo_pay_url", "refunded_sum", "total_sum")
	answer := w.post("/prepare_payment", with("prepare_payment.request", nil))
	golden(t, "prepare_payment.answer", answer, prepared)
	first := parse(t, answer).(object)
	if first["shop_transaction_id"] != "0000_0000_0000_0000_0010" || first["total_sum"] != json.Number("1000.00") || first["refunded_sum"] != json.Number("0.00") {
		t.Errorf("prepare_payment: %s", answer)
	}
	for _, call := range []string{"prepare_payment", "set_accept"} {
		golden(t, call+".failure", w.post("/"+call, string(sample(t, call+".request"))), nil)
	}

	// The payment of the entity's samples: no basket, a tag, and a payer called Elbek.
	uuid := w.ok("/prepare_payment", fmt.Sprintf(`{%s, "shop_transaction_id": "638421f6-dbc0-4875-8ff9-c6ffe3766087", "auto_capture": true, "test": false,
		"init_time": "2024-05-02 09:17:00", "user_data": {"user_id": "Elbek", "phone": "998901234567", "email": "octo@mail.com"}, "total_sum": 1000.0,
		"currency": "UZS", "description": "TEST_PAYMENT", "payment_methods": [{"method": "bank_card"}, {"method": "uzcard"}, {"method": "humo"}],
		"return_url": "https://octo.uz", "language": "uz", "ttl": 15, "tag": "ticket"}`, w.shop.credentials()))["octo_payment_UUID"].(string)
	// The simulated card of that number expires in another month than the seed's.
	answer = w.post("/pay/"+uuid, with("pay.request", map[string]string{"exp": fmt.Sprintf("%q", w.card("ok").Exp)}))
	differences := ours("data.id", "data.uuid", "data.merchantId", "data.expireTime", "data.returnUrl", "data.redirectUrl")
	differences["data.riskLevel"] = difference{extra: "in the seed's table and not in its sample"}
	golden(t, "pay.answer", answer, differences)
	entity := parse(t, answer).(object)["data"].(object)
	if want := "https://pay.example/uzcard/sms/" + uuid; entity["redirectUrl"] != want {
		t.Errorf("pay: redirectUrl is %v, want %s", entity["redirectUrl"], want)
	}

	answer = w.post("/verificationInfo/", fmt.Sprintf(`{"octo_payment_UUID": %q}`, uuid))
	golden(t, "verificationInfo.answer", answer, ours("data.verifyId", "data.phone", "data.secondsLeft"))
	info := parse(t, answer).(object)["data"].(object)
	if !strings.HasPrefix(info["phone"].(string), "+998** *****") || len(info["phone"].(string)) != len("+998** *****33") {
		t.Errorf("verificationInfo: phone is %v, want it like +998** *****33", info["phone"])
	}

	// verifyId travels as a string, as in the seed's sample.
	answer = w.post("/check_sms_key", with("check_sms_key.request", map[string]string{
		"smsKey": fmt.Sprintf("%q", w.code(w.card("ok"))), "paymentId": fmt.Sprint(entity["id"]), "verifyId": fmt.Sprintf(`"%s"`, info["verifyId"]),
	}))
	differences = ours("data.id", "data.uuid", "data.processorKey", "data.merchantId", "data.expireTime", "data.peyedTime", "data.returnUrl", "data.redirectUrl", "data.processingReference")
	differences["data.fiscalDetails"] = difference{kind: "null until a receipt is made", below: "so"}
	golden(t, "check_sms_key.answer", answer, differences)

	// The expired form.
	uuid = w.prepare("expires", "")
	w.pay(uuid, w.card("ok"))
	w.advance(6 * time.Minute)
	golden(t, "verificationInfo.expired", w.post("/verificationInfo/"+uuid, ""), ours("data.verifyId", "data.phone"))

	// set_accept: the sample's answer is that of a full capture (its request's final_amount is 10.00).
	uuid = w.prepare("6354c573-040a-490f-8d1f-2bb5c89b6d9d", `"auto_capture":false,"notify_url":"https://notify-url.uz"`)
	w.hold(uuid, w.card("ok"))
	answer = w.post("/set_accept", with("set_accept.request", map[string]string{
		"octo_shop_id": fmt.Sprintf(`"%d"`, w.shop.id), "octo_payment_UUID": fmt.Sprintf("%q", uuid), "final_amount": "1000.00",
	}))
	differences = ours("data.octo_payment_UUID", "data.octo_pay_url", "data.payed_time")
	for _, twin := range []string{"shop_transaction_id", "octo_payment_UUID", "status", "octo_pay_url", "transfer_sum", "refunded_sum", "total_sum", "payed_time"} {
		differences[twin] = difference{extra: "the contract has every key twice"}
	}
	golden(t, "set_accept.answer", answer, differences)

	// And with the sample's own 10.00.
	uuid = w.prepare("ten", `"auto_capture":false,"notify_url":"https://notify-url.uz"`)
	w.hold(uuid, w.card("ok"))
	ten := w.ok("/set_accept", with("set_accept.request", map[string]string{"octo_payment_UUID": fmt.Sprintf("%q", uuid)}))
	if ten["transfer_sum"] != json.Number("9.80") || ten["total_sum"] != json.Number("1000.00") {
		t.Errorf("set_accept of 10.00: %v", ten)
	}

	uuid = w.ok("/prepare_payment", fmt.Sprintf(`{%s,"shop_transaction_id":"cb","total_sum":437278.66,"currency":"UZS","return_url":"https://octo.uz",%s}`,
		w.shop.credentials(), twoStage))["octo_payment_UUID"].(string)
	w.hold(uuid, w.card("ok"))
	answer = w.post("/callback", with("callback.request", map[string]string{"octo_payment_UUID": fmt.Sprintf("%q", uuid)}))
	golden(t, "callback.answer", answer, ours("final_amount"))
	if !strings.Contains(string(answer), `"final_amount":437278.66`) {
		t.Errorf("callback: %s", answer)
	}
	w.audit()
}

// table is one of the seed's parameter tables (testdata/seed/README.md).
type table struct {
	Call, Direction, Sample string
	Rows                    []struct {
		Row, Path    string
		JSON         []string
		Null, Always bool
	}
}

func tables(t testing.TB) (list []table) {
	t.Helper()
	check(t, json.Unmarshal(sample(t, "tables"), &list))
	return list
}

func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case json.Number:
		return "number"
	case bool:
		return "bool"
	case []any:
		return "array"
	}
	return "object"
}

// walk goes down a path and calls found with every value there; missing is where it ends early.
func walk(v any, path []string, found func(any), missing func()) {
	if v == nil {
		return // null on the way: the row says nothing about this answer
	}
	if len(path) == 0 {
		found(v)
		return
	}
	key, isArray := strings.CutSuffix(path[0], "[]")
	o, ok := v.(object)
	if !ok {
		missing()
		return
	}
	below, there := o[key]
	switch {
	case !there:
		missing()
	case isArray:
		for _, element := range below.([]any) {
			walk(element, path[1:], found, missing)
		}
	case len(path) == 1:
		found(below)
	default:
		walk(below, path[1:], found, missing)
	}
}

// TestSeedTables holds the answers about real payments, in one stage and in two, to every row of the
// seed's tables, and sends every parameter of the requests in every form that is to be taken.
func TestSeedTables(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	answers := make(map[string][][]byte) // by call and direction
	add := func(name string, answer []byte) { answers[name] = append(answers[name], answer) }
	full := fmt.Sprintf(`"user_data":{"user_id":"7","phone":"998901234567","email":"a@b.uz"},"basket":[{"position_desc":"a","count":1,"price":5,"spic":"x"}],"tag":"t","tsp_id":18,"notify_url":%q`, nowhere)
	for _, stage := range []struct {
		name, more string
		last       string // what decides
	}{
		{"one, and nothing that may be absent", "", ""},
		{"one", full, ""},
		{"two, captured", full + `,"auto_capture":false`, `"accept_status":"capture"`},
		{"two, in part", full + `,"auto_capture":false`, `"accept_status":"capture","final_amount":1.5`},
		{"two, canceled", full + `,"auto_capture":false`, `"accept_status":"cancel"`},
	} {
		uuid := w.prepare(stage.name, stage.more)
		add("prepare_payment answer", w.post("/prepare_payment", fmt.Sprintf(`{%s,"shop_transaction_id":%q}`, w.shop.credentials(), stage.name)))
		card := w.card("ok")
		answer := w.post("/pay/"+uuid, fmt.Sprintf(`{"pan":%q,"exp":%q,"method":"uzcard","cvc2":"","cardHolderName":"A","email":"a@b.uz"}`, card.PAN, card.Exp))
		add("pay answer", answer)
		id := fmt.Sprint(parse(t, answer).(object)["data"].(object)["id"])
		answer = w.post("/verificationInfo/"+uuid, "")
		add("verificationInfo answer", answer)
		verify := fmt.Sprint(parse(t, answer).(object)["data"].(object)["verifyId"])
		add("check_sms_key failure", w.post("/check_sms_key", smsKey(id, verify, wrong(w.code(card)))))
		key := smsKey(id, verify, w.code(card))
		add("check_sms_key answer", w.post("/check_sms_key", key))
		add("verificationInfo failure", w.post("/verificationInfo/"+uuid, ""))
		add("pay failure", w.post("/pay/"+uuid, `{"method":"uzcard"}`))
		if stage.last != "" {
			add("set_accept answer", w.post("/set_accept", w.accept(uuid, stage.last)))
			add("callback answer", w.post("/callback", w.accept(uuid, stage.last)))
			if !strings.Contains(stage.last, "cancel") {
				add("check_sms_key answer", w.post("/check_sms_key", key)) // the entity after the decision
			}
		}
		add("set_accept failure", w.post("/set_accept", w.accept(uuid, `"accept_status":"neither"`)))
		add("prepare_payment failure", w.post("/prepare_payment", `{"octo_shop_id":1,"octo_secret":"x"}`))
	}
	rows := 0
	for _, table := range tables(t) {
		name := table.Call + " " + table.Direction
		if table.Direction == "request" {
			continue
		}
		if len(answers[name]) == 0 {
			t.Errorf("%s: no answer was made to hold against the table", name)
		}
		for _, row := range table.Rows {
			rows++
			for _, body := range answers[name] {
				walk(parse(t, body), strings.Split(row.Path, "."), func(v any) {
					kind := kindOf(v)
					if kind == "null" && row.Null || strings.Contains(strings.Join(row.JSON, " "), kind) {
						return
					}
					t.Errorf("%s: %s is %s, want %v (null: %v)\n%s", name, row.Path, kind, row.JSON, row.Null, body)
				}, func() {
					if row.Always {
						t.Errorf("%s: %s is missing\n%s", name, row.Path, body)
					}
				})
			}
		}
	}
	rows += w.walkRequests()
	if rows != 208 {
		t.Errorf("%d rows were walked, the seed has 208", rows)
	}
	w.audit()
}

// walkRequests sends each parameter of each request in each JSON form that the tables list, and in one that
// they do not, which must be refused by name. It returns the number of rows it saw.
func (w *world) walkRequests() (rows int) {
	t := w.t
	w.settings(func(s *merchant.Settings) { s.NotifyURL = nowhere })
	n := 0
	for _, table := range tables(t) {
		if table.Direction != "request" {
			continue
		}
		for _, row := range table.Rows {
			rows++
			for _, kind := range []string{"number", "string", "bool", "object", "array"} {
				n++
				taken := strings.Contains(strings.Join(row.JSON, " "), kind)
				path, body := w.requestFor(table.Call, n)
				set(t, body, strings.Split(row.Path, "."), kind)
				text, err := json.Marshal(body)
				check(t, err)
				got := parse(t, w.post(path, string(text))).(object)
				code := fmt.Sprint(got["error"])
				message, _ := got["errMessage"].(string)
				name := strings.ReplaceAll(row.Path, "[]", ".0")
				switch {
				case taken && (code != "0" && got["error"] != nil):
					t.Errorf("%s: %s as a %s is refused: %v\n%s", table.Call, row.Path, kind, got, text)
				case !taken && (code != "1" || !strings.HasPrefix(message, name+": expected ")):
					t.Errorf("%s: %s as a %s answers %v, want error 1 that names %s\n%s", table.Call, row.Path, kind, got, name, text)
				}
			}
		}
	}
	return rows
}

// requestFor is a call that succeeds, as the seed's sample has it, for a payment of its own.
func (w *world) requestFor(call string, n int) (path string, body object) {
	t := w.t
	body = parse(t, sample(t, call+".request")).(object)
	card := w.cards("ok")[n%20]
	for key, value := range map[string]any{
		"octo_shop_id": json.Number(fmt.Sprint(w.shop.id)), "octo_secret": string(w.shop.secret), "exp": card.Exp, "pan": card.PAN,
		"shop_transaction_id": fmt.Sprint(7_000_000 + n),
	} {
		if _, has := body[key]; has {
			body[key] = value
		}
	}
	if call == "prepare_payment" {
		return "/prepare_payment", body
	}
	uuid := w.prepare(fmt.Sprint(8_000_000+n), `"auto_capture":false`)
	if call == "pay" {
		return "/pay/" + uuid, body
	}
	paymentID, verifyID := w.pay(uuid, card)
	if call == "check_sms_key" {
		body["paymentId"], body["verifyId"] = json.Number(paymentID), verifyID
		body["smsKey"] = w.code(card)
		return "/check_sms_key", body
	}
	w.ok("/check_sms_key", smsKey(paymentID, verifyID, w.code(card)))
	body["octo_payment_UUID"] = uuid
	body["final_amount"] = json.Number("10.00")
	return "/" + call, body
}

// set puts a value of a kind where the path leads; where the old one can be said in that kind, it is the old one.
func set(t testing.TB, body any, path []string, kind string) {
	t.Helper()
	key, isArray := strings.CutSuffix(path[0], "[]")
	o := body.(object)
	switch {
	case isArray:
		set(t, o[key].([]any)[0], path[1:], kind)
		return
	case len(path) > 1:
		set(t, o[key], path[1:], kind)
		return
	}
	old := o[key]
	if kindOf(old) == kind {
		return
	}
	text := fmt.Sprint(old)
	switch kind {
	case "number":
		if text == "false" || text == "true" {
			text = map[string]string{"false": "0", "true": "1"}[text]
		} else if _, err := json.Number(text).Int64(); err != nil {
			text = "7"
		}
		o[key] = json.Number(text)
	case "string":
		o[key] = text
		if text == "false" {
			o[key] = "0"
		}
	case "bool":
		o[key] = true
	case "object":
		o[key] = object{"a": json.Number("1")}
	case "array":
		o[key] = []any{}
	}
}
