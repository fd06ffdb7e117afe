package sim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestShapes holds every method's answer against its exact JSON.
func TestShapes(t *testing.T) {
	w := newWorld(t)
	s := w.sim
	tok := s.byPAN[sharedPAN].token
	if len(tok) != 32 || strings.ToUpper(tok) != tok || strings.Contains(tok, sharedPAN) {
		t.Fatalf("token %q", tok)
	}
	hid := func(n int64) string { return strconv.FormatInt(s.holdBase+n, 10) }
	ref := func(n int64) string { return strconv.FormatInt(s.refBase+n, 10) }
	movement := func(n int64, ext, kind, date, amount, stan, status string) string {
		return fmt.Sprintf(`{"id":"%016X","username":"holdfast","refNum":"%s","ext":"%s","pan":"860031******1293","pan2":"","expiry":"3012",`+
			`"tranType":"%s","transType":1,"date7":"%s","date12":"%s","amount":%s,"commission":0,"currency":860,"stan":"%s","field38":"%06d",`+
			`"field48":null,"field91":null,"merchantId":"90050017182","terminalId":"91419475","resp":0,"respText":"Approved","respSV":"00","status":"%s"}`,
			uint64(s.refBase+n)*tranIDFactor, ref(n), ext, kind, date[2:], date, amount, stan, (n*7919+104729)%1000000, status)
	}
	holdObject := func(n int64, amount int, status int, remark string) string {
		return fmt.Sprintf(`{"hid":%s,"crefNo":"0000000001","reqamt":%d,"createTime":1795435200000,"waitingTime":30,"status":%d,"remark":"%s",`+
			`"accNo":"02261800000000000000","userName":"holdfast","merchantId":"90050017182","terminalId":"91419475"}`, hid(n), amount, status, remark)
	}
	card := func(expiry string, balance, held int64) string {
		return fmt.Sprintf(`{"id":"%s","username":"holdfast","pan":"860031******1293",%s"status":0,"phone":"998901234500","fullName":"AZIZ KARIMOV","balance":%d,`+
			`"sms":true,"pincnt":0,"aacct":"02261800000000000000","par":"","cardtype":"UZCARD","holdAmount":%d,"cashbackAmount":0}`, tok, expiry, balance, held)
	}
	balance := int64(sharedBalance)
	for _, step := range []struct{ method, params, want string }{
		{"cards.new.otp", otpParams(s, sharedPAN), fmt.Sprintf(`{"id":%d,"phoneMask":"+99890*****00","token":"","verified":false}`, s.otps.base)},
		{"cards.new.verify", fmt.Sprintf(`{"otp":{"id":%d,"code":"861293"}}`, s.otps.base), card("", balance, 0)},
		{"cards.new.otp", otpParams(s, sharedPAN), fmt.Sprintf(`{"id":%d,"phoneMask":"+99890*****00","token":"%s","verified":false}`, s.otps.base+1, tok)},
		{"hold.create", holdParams(tok, 150_000, 30), `{"id":` + hid(0) + `,"status":0,"description":"OK"}`},
		{"cards.get", `{"ids":["` + tok + `"]}`, `[` + card(`"expiry":"3012",`, balance, 150_000) + `]`},
		{"balance.get", `{"ids":["` + tok + `","UNKNOWN"]}`, fmt.Sprintf(`[{"id":"%s","balance":%d,"holdAmount":150000}]`, tok, balance)},
		{"hold.get.id", `{"id":` + hid(0) + `}`, holdObject(0, 150_000, 0, "live")},
		{"hold.get.id", `{"id":"` + hid(0) + `"}`, holdObject(0, 150_000, 0, "live")},
		{"hold.dismiss.charge", captureParams(s.holdBase, "e1", 100_000), movement(1, "e1", "DEBIT", "261123170102", "100000", "000017", "OK")},
		{"hold.create", holdParams(tok, 70_000, 30), `{"id":` + hid(2) + `,"status":0,"description":"OK"}`},
		{"hold.dismiss", dismissParams(s.holdBase+2, 70_000), `{"id":` + hid(2) + `,"status":0,"description":"OK"}`},
		{"hold.get.cardId", `{"cardId":"` + tok + `"}`, `[` + holdObject(2, 70_000, 2, "dismissed") + `,` + holdObject(0, 150_000, 1, "charged") + `]`},
		{"trans.pay.purpose", payParams(tok, "e2", 5_000), movement(4, "e2", "DEBIT", "261123170000", "5000", "000005", "OK")},
		{"trans.ext", `{"extId":"e1"}`, `[` + movement(1, "e1", "DEBIT", "261123170102", "100000", "000017", "OK") + `]`},
		{"trans.sv", `{"svId":"` + ref(4) + `"}`, `[` + movement(4, "e2", "DEBIT", "261123170000", "5000", "000005", "OK") + `]`},
		{"trans.reverse.partial", partialParams(ref(1), "r1", 40_000), movement(5, "r1", "REVERSAL", "261123170000", "40000", "000006", "OK")},
		{"trans.reverse", `{"tranId":"` + ref(4) + `"}`, `[` + movement(4, "e2", "DEBIT", "261123170000", "5000", "000005", "ROK") + `]`},
		{"get.bin.list", `[]`, `[{"instId":"01","bin":"860006"},{"instId":"02","bin":"860014"},{"instId":"03","bin":"860031"},{"instId":"04","bin":"860049"}]`},
		{"terminal.get", `{}`, `[{"pid":1,"terminalId":"91419475","merchantId":"90050017182","username":"holdfast","terminalType":1,"instId":"01","name":"Holdfast test terminal","port":443,"purpose":"DEFAULT"},` +
			`{"pid":2,"terminalId":"91419476","merchantId":"90050017182","username":"holdfast","terminalType":1,"instId":"01","name":"Holdfast test terminal","port":443,"purpose":"DEFAULT"}]`},
	} {
		if got := w.must(step.method, step.params, nil); got != step.want {
			t.Errorf("%s\n got %s\nwant %s", step.method, got, step.want)
		}
	}
	w.wantBalance(sharedPAN, -100_000-5_000+40_000+5_000, 0)

	// The books of the same day, as an auditor reads them.
	_, body := w.get("/sim/books")
	var books Books
	if err := json.Unmarshal([]byte(body), &books); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, op := range books.Operations {
		got = append(got, fmt.Sprintf("%s %s %d %s *%s captured %d released %d refunded %d of %q", op.Reference, op.Kind, op.Amount, op.State, op.PANLast, op.Captured, op.Released, op.Refunded, op.Of))
	}
	want := []string{
		hid(0) + ` hold 150000 captured *1293 captured 100000 released 50000 refunded 0 of ""`,
		`e1 capture 100000 partly_reversed *1293 captured 0 released 0 refunded 40000 of ""`,
		hid(2) + ` hold 70000 dismissed *1293 captured 0 released 70000 refunded 0 of ""`,
		hid(2) + ` void 70000 done *1293 captured 0 released 0 refunded 0 of ""`,
		`e2 charge 5000 reversed *1293 captured 0 released 0 refunded 5000 of ""`,
		`r1 refund 40000 done *1293 captured 0 released 0 refunded 0 of "e1"`,
		ref(6) + ` refund 5000 done *1293 captured 0 released 0 refunded 0 of "e2"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("books\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// TestEnvelope covers what is wrong before a method is reached.
func TestEnvelope(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ name, body, want string }{
		{"int id", `{"jsonrpc":"2.0","method":"trans.ext","id":12,"params":{"extId":"x"}}`, `{"jsonrpc":"2.0","id":12,"error":{"code":-208,`},
		{"string id", `{"jsonrpc":"2.0","method":"trans.ext","id":"a \"é","params":{"extId":"x"}}`, `{"jsonrpc":"2.0","id":"a \"é","error":{"code":-208,`},
		{"unknown method", `{"jsonrpc":"2.0","method":"hold.steal","id":1,"params":{}}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-199,`},
		{"no method", `{"jsonrpc":"2.0","id":1,"params":{}}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-199,`},
		{"wrong version", `{"jsonrpc":"1.0","method":"terminal.get","id":1}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-199,`},
		{"no id", `{"jsonrpc":"2.0","method":"terminal.get"}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-199,`},
		{"object id", `{"jsonrpc":"2.0","method":"terminal.get","id":{}}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-199,`},
		{"batch", `[{"jsonrpc":"2.0","method":"terminal.get","id":1}]`, `{"jsonrpc":"2.0","id":null,"error":{"code":-199,`},
		{"no JSON", `{"jsonrpc":`, `{"jsonrpc":"2.0","id":null,"error":{"code":-199,`},
		{"empty", ``, `{"jsonrpc":"2.0","id":null,"error":{"code":-199,`},
		{"bad UTF-8", "{\"jsonrpc\":\"2.0\",\"method\":\"\xff\",\"id\":1}", `{"jsonrpc":"2.0","id":null,"error":{"code":-199,`},
		{"equal keys", `{"jsonrpc":"2.0","method":"trans.ext","id":1,"params":{"extId":"a","extId":"b"}}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-199,`},
		{"equal keys, escaped", `{"jsonrpc":"2.0","method":"trans.ext","id":1,"params":{"extId":"a","ext\u0049d":"b"}}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-199,`},
		{"too deep", `{"jsonrpc":"2.0","method":"trans.ext","id":1,"params":{"a":` + strings.Repeat("[", 50) + strings.Repeat("]", 50) + `}}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-199,`},
		{"wide array", `{"jsonrpc":"2.0","method":"cards.get","id":1,"params":{"ids":["a"` + strings.Repeat(`,"a"`, 100) + `]}}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-199,`},
		{"no params", `{"jsonrpc":"2.0","method":"trans.ext","id":1}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-100,`},
		{"empty params", `{"jsonrpc":"2.0","method":"hold.create","id":1,"params":{}}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-100,`},
		{"params array", `{"jsonrpc":"2.0","method":"hold.create","id":1,"params":["x"]}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-199,`},
		{"other case", `{"jsonrpc":"2.0","method":"trans.ext","id":1,"params":{"extid":"x"}}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-103,`},
		{"spaces and order", " {\n\"params\" : {\"extId\"\t:\"x\" , \"more\":[1,-2.5e3,true,false,null,{}] }, \"id\":1 ,\"method\":\"trans.ext\",\"jsonrpc\":\"2.0\"}\r\n", `{"jsonrpc":"2.0","id":1,"error":{"code":-208,`},
	} {
		response, body, err := w.post(c.body)
		if err != nil || response.StatusCode != 200 || !strings.HasPrefix(body, c.want) || !json.Valid([]byte(body)) {
			t.Errorf("%s: %v %s, want %s", c.name, err, body, c.want)
		}
	}
}

func TestTransport(t *testing.T) {
	w := newWorld(t)
	send := func(method, contentType, login, password, body string) int {
		r, err := http.NewRequest(method, w.server.URL+"/svgate", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if login != "" {
			r.SetBasicAuth(login, password)
		}
		r.Header.Set("Content-Type", contentType)
		response, _, err := w.do(r)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode == 401 && response.Header.Get("WWW-Authenticate") == "" {
			t.Error("401 without WWW-Authenticate")
		}
		return response.StatusCode
	}
	const body = `{"jsonrpc":"2.0","method":"terminal.get","id":1}`
	for _, c := range []struct {
		name string
		got  int
		want int
	}{
		{"right", send("POST", "application/json", "holdfast", "holdfast", body), 200},
		{"no credentials", send("POST", "application/json", "", "", body), 401},
		{"wrong password", send("POST", "application/json", "holdfast", "x", body), 401},
		{"GET", send("GET", "application/json", "holdfast", "holdfast", ""), 405},
		{"a form", send("POST", "application/x-www-form-urlencoded", "holdfast", "holdfast", body), 415},
		{"too long", send("POST", "application/json", "holdfast", "holdfast", strings.Repeat(" ", maxSVGateBody+1)), 413},
	} {
		if c.got != c.want {
			t.Errorf("%s: HTTP %d, want %d", c.name, c.got, c.want)
		}
	}
}

// TestRefusals walks through every limit of the protocol.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	token := w.token(sharedPAN)
	hold := w.hold(token, 1000)
	paid := w.pay(token, "taken", 500)
	// change replaces one thing in parameters that are right otherwise.
	change := func(params, old, new string) string {
		if strings.Count(params, old) != 1 {
			t.Fatalf("%q is in %s %d times", old, params, strings.Count(params, old))
		}
		return strings.Replace(params, old, new, 1)
	}
	otp := otpParams(w.sim, sharedPAN)
	create := holdParams(token, 1000, 30)
	capture := captureParams(hold, "new", 1000)
	dismiss := dismissParams(hold, 1000)
	pay := payParams(token, "new", 700)
	part := partialParams(paid.RefNum, "new", 100)
	for _, c := range []struct {
		code           int
		method, params string
	}{
		{-103, "cards.new.otp", `{"x":1}`},
		{-199, "cards.new.otp", `{"card":"x"}`},
		{-103, "cards.new.otp", `{"card":{"pan":"8600313260861293"}}`},
		{-199, "cards.new.otp", change(otp, `"8600313260861293"`, `8600313260861293`)},
		{-202, "cards.new.otp", change(otp, "8600313260861293", "860031326086129")},
		{-202, "cards.new.otp", change(otp, "8600313260861293", "86003132608612930")},
		{-202, "cards.new.otp", change(otp, "8600313260861293", "860031326086129x")},
		{-202, "cards.new.otp", change(otp, "8600313260861293", "8600313260861294")},
		{-202, "cards.new.otp", change(otp, "8600313260861293", luhn("86003132608612x"))},
		{-382, "cards.new.otp", change(otp, "8600313260861293", "4111111111111111")},
		{-200, "cards.new.otp", change(otp, "8600313260861293", luhn("860031999999999"))},
		{-212, "cards.new.otp", change(otp, `"3012"`, `"301"`)},
		{-212, "cards.new.otp", change(otp, `"3012"`, `"3013"`)},
		{-212, "cards.new.otp", change(otp, `"3012"`, `"3000"`)},
		{-212, "cards.new.otp", change(otp, `"3012"`, `"30 1"`)},
		{-212, "cards.new.otp", change(otp, `"3012"`, `"3x12"`)},
		{-216, "cards.new.otp", change(otp, `"3012"`, `"3011"`)},
		{-216, "cards.new.otp", change(otp, `"3012"`, `"3001"`)},
		{-103, "cards.new.otp", change(otp, `"serviceName":"holdfast"`, `"serviceName":"`+strings.Repeat("x", 21)+`"`)},
		{-103, "cards.new.otp", change(otp, `"serviceName"`, `"sms":{"ussd":"`+strings.Repeat("x", 161)+`"},"serviceName"`)},
		{-103, "cards.new.otp", change(otp, `"serviceName"`, `"sms":{"hash":"1234567890123"},"serviceName"`)},
		{-103, "cards.new.otp", change(otp, `"serviceName"`, `"sms":{"templateId":10000},"serviceName"`)},
		{-290, "cards.new.otp", change(otp, `"serviceName"`, `"requestorPhone":"+998901234500","serviceName"`)},
		{-290, "cards.new.otp", change(otp, `"serviceName"`, `"requestorPhone":"99890123450","serviceName"`)},
		{-290, "cards.new.otp", change(otp, `"serviceName"`, `"requestorPhone":"99890123450x","serviceName"`)},
		{-320, "cards.new.otp", change(otp, `"serviceName"`, `"requestorPhone":"998901234599","serviceName"`)},
		{0, "cards.new.otp", change(otp, `"serviceName"`, `"requestorPhone":"998901234500","sms":{"ussd":"u","hash":"h","templateId":9999},"serviceName"`)},

		{-103, "cards.new.verify", `{"otp":{"id":1}}`},
		{-199, "cards.new.verify", `{"otp":{"id":1.5,"code":"123456"}}`},
		{-294, "cards.new.verify", `{"otp":{"id":1,"code":"123456"}}`},
		{-103, "cards.get", `{"ids":[]}`},
		{-103, "cards.get", `{"ids":"x"}`},
		{-199, "cards.get", `{"ids":[1]}`},
		{-200, "cards.get", `{"ids":["x"]}`},
		{-200, "balance.get", `{"ids":["x"]}`},

		{-103, "hold.create", `{"hold":{}}`},
		{-200, "hold.create", change(create, token, "0123456789ABCDEF0123456789ABCDEF")},
		{-200, "hold.create", change(create, token, token+"0")},
		{-252, "hold.create", change(create, "90050017182", "12345678901234567")},
		{-252, "hold.create", change(create, "90050017182", "a b")},
		{-251, "hold.create", change(create, "91419475", "12345678901234567")},
		{-251, "hold.create", change(create, "91419475", "9141_475")},
		{-245, "hold.create", change(create, `"amount":1000`, `"amount":0`)},
		{-245, "hold.create", change(create, `"amount":1000`, `"amount":-1`)},
		{-199, "hold.create", change(create, `"amount":1000`, `"amount":1000.0`)},
		{-199, "hold.create", change(create, `"amount":1000`, `"amount":1e3`)},
		{-199, "hold.create", change(create, `"amount":1000`, `"amount":"1000"`)},
		{-199, "hold.create", change(create, `"amount":1000`, `"amount":9223372036854775808`)},
		{-239, "hold.create", change(create, `"amount":1000`, `"amount":9223372036854775807`)},
		{-241, "hold.create", change(create, `"time":30`, `"time":0`)},
		{-241, "hold.create", change(create, `"time":30`, `"time":-30`)},
		{-241, "hold.create", change(create, `"time":30`, `"time":43201`)},
		{-236, "hold.create", change(create, "91419475", "9999236")},
		{-374, "hold.create", change(create, "91419475", "9999374")},
		{0, "hold.create", change(change(create, "91419475", "9999999"), `"time":30`, `"time":43200`)}, // no code of that class: an ordinary terminal

		{-103, "hold.dismiss.charge", change(capture, `"ext":"new"`, `"ext":""`)},
		{-103, "hold.dismiss.charge", change(capture, `"ext":"new"`, `"ext":"`+strings.Repeat("x", 76)+`"`)},
		{-207, "hold.dismiss.charge", change(capture, `"ext":"new"`, `"ext":"taken"`)},
		{-103, "hold.dismiss.charge", change(capture, `"port":443,`, ``)},
		{-103, "hold.dismiss.charge", change(capture, `"port":443`, `"port":0`)},
		{-103, "hold.dismiss.charge", change(capture, `"port":443`, `"port":65536`)},
		{-330, "hold.dismiss.charge", change(capture, `"000017"`, `"17"`)},
		{-330, "hold.dismiss.charge", change(capture, `"000017"`, `"000000"`)},
		{-330, "hold.dismiss.charge", change(capture, `"000017"`, `"00001x"`)},
		{-199, "hold.dismiss.charge", change(capture, `"000017"`, `17`)},
		{-329, "hold.dismiss.charge", change(capture, `"261123170102"`, `"26112317010"`)},
		{-329, "hold.dismiss.charge", change(capture, `"261123170102"`, `"261323170102"`)},
		{-329, "hold.dismiss.charge", change(capture, `"261123170102"`, `"20261123170102"`)},
		{-329, "hold.dismiss.charge", change(capture, `"261123170102"`, `"261123170102.5"`)},
		{-381, "hold.dismiss.charge", change(capture, `"amount":1000`, `"amount":1001`)},
		{-245, "hold.dismiss.charge", change(capture, `"amount":1000`, `"amount":0`)},
		{-242, "hold.dismiss.charge", change(capture, "91419475", "91419476")},
		{-242, "hold.dismiss.charge", captureParams(hold+1_000_000, "new", 1000)},
		{-242, "hold.dismiss.charge", captureParams(1, "new", 1000)},
		{-242, "hold.dismiss", dismissParams(1, 1000)},
		{-242, "hold.dismiss", change(dismiss, "90050017182", "1")},
		{-199, "hold.dismiss", change(dismiss, `"amount":1000`, `"amount":"1000"`)},
		{-245, "hold.dismiss", change(dismiss, `"amount":1000`, `"amount":999`)},
		{-381, "hold.dismiss", change(dismiss, `"amount":1000`, `"amount":1001`)},
		{-242, "hold.get.id", `{"id":1}`},
		{-103, "hold.get.id", `{"x":1}`},
		{-200, "hold.get.cardId", `{"cardId":"x"}`},
		{-103, "hold.get.cardId", `{"x":1}`},

		{-103, "trans.pay.purpose", change(pay, `"purpose":"payment"`, `"purpose":""`)},
		{-103, "trans.pay.purpose", change(pay, `"purpose":"payment"`, `"purpose":"`+strings.Repeat("x", 21)+`"`)},
		{-103, "trans.pay.purpose", change(pay, `"r1"`, `"`+strings.Repeat("x", 251)+`"`)},
		{-103, "trans.pay.purpose", change(pay, `"commission":0`, `"commission":10`)},
		{-103, "trans.pay.purpose", change(pay, `"currency":"860"`, `"currency":"840"`)},
		{-207, "trans.pay.purpose", change(pay, `"ext":"new"`, `"ext":"taken"`)},
		{-240, "trans.pay.purpose", change(pay, `"amount":700`, `"amount":100000000000000001`)},
		{-236, "trans.pay.purpose", change(pay, "91419475", "9999236")},
		{-103, "trans.pay.purpose", change(pay, `"commission"`, `"merchantInfo":{"mcc":"60","legalName":"x","legalType":1,"legalId":"1"},"commission"`)},
		{-103, "trans.pay.purpose", change(pay, `"commission"`, `"merchantInfo":{"mcc":"60x0","legalName":"x","legalType":1,"legalId":"1"},"commission"`)},
		{-103, "trans.pay.purpose", change(pay, `"commission"`, `"merchantInfo":{"mcc":"6010","legalName":"x","legalType":1,"legalId":"123456789012345"},"commission"`)},
		{-103, "trans.pay.purpose", change(pay, `"commission"`, `"merchantInfo":{"mcc":"6010","legalName":"x","legalType":1,"legalId":"1","legalOKED":"015001"},"commission"`)},
		{-208, "trans.ext", `{"extId":"new"}`},
		{-103, "trans.ext", `{"x":1}`},
		{-103, "trans.sv", `{"x":1}`},
		{-267, "trans.sv", `{"svId":"000000000000"}`},
		{-267, "trans.sv", fmt.Sprintf(`{"svId":"%d"}`, w.sim.refBase)}, // that one is a hold: callers know no refNum of it
		{-208, "trans.reverse", `{"tranId":"000000000000"}`},
		{-103, "trans.reverse", `{"x":1}`},
		{-208, "trans.reverse.partial", change(part, paid.RefNum, "1")},
		{-207, "trans.reverse.partial", change(part, `"ext":"new"`, `"ext":"taken"`)},
		{-245, "trans.reverse.partial", change(part, `"reverseAmount":100`, `"reverseAmount":0`)},
		{-381, "trans.reverse.partial", change(part, `"reverseAmount":100`, `"reverseAmount":501`)},
	} {
		w.refused(c.code, c.method, c.params)
	}
	// Nothing of all that has moved money, beyond the hold at the ordinary terminal.
	w.wantBalance(sharedPAN, -500, 2000)

	w.must("trans.pay.purpose", change(change(pay, `"currency":"860"`, `"currency":860`), `"commission"`,
		`"merchantInfo":{"mcc":"6010","legalName":"x","legalType":1,"legalId":"1","legalOKED":"01500"},"commission"`), nil)
}

func TestHoldLifecycle(t *testing.T) {
	w := newWorld(t)
	token := w.token(sharedPAN)

	// Taken in part: the rest is free, and the hold is over.
	hold := w.hold(token, 1000)
	w.wantBalance(sharedPAN, 0, 1000)
	if c := w.capture(hold, "c1", 600); c.Status != "OK" || c.Amount != 600 || c.Stan != "000017" || len(c.RefNum) != 12 {
		t.Errorf("%+v", c)
	}
	w.wantBalance(sharedPAN, -600, 0)
	w.refused(-207, "hold.dismiss.charge", captureParams(hold, "c1", 600))
	w.refused(-242, "hold.dismiss.charge", captureParams(hold, "c2", 400))
	w.refused(-380, "hold.dismiss", dismissParams(hold, 1000))

	// Given back.
	hold = w.hold(token, 1000)
	w.must("hold.dismiss", dismissParams(hold, 1000), nil)
	w.wantBalance(sharedPAN, -600, 0)
	w.refused(-242, "hold.dismiss", dismissParams(hold, 1000))
	w.refused(-242, "hold.dismiss.charge", captureParams(hold, "c3", 1000))

	// Lapsed, to the millisecond; also when nobody asks about it.
	hold = w.hold(token, 1000)
	w.clock.move(30*time.Minute - time.Millisecond)
	w.wantBalance(sharedPAN, -600, 1000)
	w.clock.move(time.Millisecond)
	w.wantBalance(sharedPAN, -600, 0)
	w.refused(-242, "hold.dismiss.charge", captureParams(hold, "c4", 1000))
	w.refused(-242, "hold.dismiss", dismissParams(hold, 1000))
	var h struct{ Status, WaitingTime int }
	w.must("hold.get.id", fmt.Sprintf(`{"id":%d}`, hold), &h)
	if h.Status != 3 || h.WaitingTime != 30 {
		t.Errorf("%+v", h)
	}
	operations := w.sim.Books().Operations
	if last := operations[len(operations)-1]; last.Kind != "lapse" || last.Reference != strconv.FormatInt(hold, 10) || last.Amount != 1000 {
		t.Errorf("%+v", last)
	}
	// None of the refused captures has used its ext up.
	w.pay(token, "c4", 1)

	// What is held cannot be spent.
	poor := otherPAN
	token = w.token(poor)
	w.hold(token, ordinaryBalance-100)
	w.refused(-239, "hold.create", holdParams(token, 101, 30))
	w.refused(-240, "trans.pay.purpose", payParams(token, "p1", 101))
	w.pay(token, "p1", 60)
	w.hold(token, 40)
	w.refused(-239, "hold.create", holdParams(token, 1, 30))
	w.wantBalance(poor, -60, ordinaryBalance-60)
	w.clock.move(time.Hour)
	w.hold(token, ordinaryBalance-60)
}

// TestHoldsLapseInOrder lets many holds of all lengths end, some early by other means.
func TestHoldsLapseInOrder(t *testing.T) {
	w := newWorld(t)
	token := w.token(sharedPAN)
	for i := range 200 {
		var a struct{ ID int64 }
		minutes := i*37%100 + 1
		w.must("hold.create", holdParams(token, 1, minutes), &a)
		if i%5 == 0 {
			w.capture(a.ID, fmt.Sprint("c", i), 1)
		}
	}
	for minute := range 101 {
		live := int64(0)
		for i := range 200 {
			if i*37%100+1 > minute && i%5 != 0 {
				live++
			}
		}
		w.wantBalance(sharedPAN, -40, live)
		w.clock.move(time.Minute)
	}
}

func TestHoldList(t *testing.T) {
	w := newWorld(t)
	token, other := w.token(sharedPAN), w.token(otherPAN)
	if got := w.must("hold.get.cardId", fmt.Sprintf(`{"cardId":%q}`, token), nil); got != "[]" {
		t.Errorf("no hold yet: %s", got)
	}
	s := w.sim
	s.mu.Lock()
	for i := range maxListedHolds + 5 {
		s.hold(s.byToken[token], int64(i+1), 30, 0, w.clock.now)
		s.hold(s.byToken[other], 7, 30, 0, w.clock.now)
	}
	s.mu.Unlock()
	var holds []struct {
		HID    int64
		ReqAmt int64
	}
	w.must("hold.get.cardId", fmt.Sprintf(`{"cardId":%q}`, token), &holds)
	if len(holds) != 1000 {
		t.Fatalf("%d holds are listed", len(holds))
	}
	for i, h := range holds {
		if h.ReqAmt != int64(maxListedHolds+5-i) {
			t.Fatalf("place %d has the hold of %d: not the newest first", i, h.ReqAmt)
		}
	}
}

func TestReversals(t *testing.T) {
	w := newWorld(t)
	token := w.token(sharedPAN)
	paid := w.pay(token, "p", 1000)

	w.must("trans.reverse.partial", partialParams(paid.RefNum, "r1", 300), nil)
	w.wantBalance(sharedPAN, -700, 0)
	w.refused(-207, "trans.reverse.partial", partialParams(paid.RefNum, "r1", 300))
	w.refused(-381, "trans.reverse.partial", partialParams(paid.RefNum, "r2", 701))
	// The refNum, the id, and a refNum as a number all name the same charge.
	w.must("trans.reverse.partial", partialParams(paid.ID, "r2", 100), nil)
	w.must("trans.reverse.partial", strings.Replace(partialParams(paid.RefNum, "r3", 100), `"`+paid.RefNum+`"`, paid.RefNum, 1), nil)
	var query []tran
	w.must("trans.ext", `{"extId":"p"}`, &query)
	if query[0].Status != "OK" || query[0].Amount != 1000 {
		t.Errorf("partly reversed: %+v", query)
	}
	w.must("trans.ext", `{"extId":"r1"}`, &query)
	if query[0].Status != "OK" || query[0].Amount != 300 || query[0].TranType != "REVERSAL" {
		t.Errorf("the reversal: %+v", query)
	}
	w.refused(-208, "trans.reverse", fmt.Sprintf(`{"tranId":%q}`, query[0].RefNum)) // a reversal cannot be reversed

	w.must("trans.reverse", fmt.Sprintf(`{"tranId":%q}`, paid.RefNum), &query)
	if query[0].Status != "ROK" || query[0].RefNum != paid.RefNum {
		t.Errorf("reversed: %+v", query)
	}
	w.wantBalance(sharedPAN, 0, 0)
	w.refused(-389, "trans.reverse", fmt.Sprintf(`{"tranId":%q}`, paid.RefNum))
	w.refused(-389, "trans.reverse.partial", partialParams(paid.RefNum, "r4", 1))
	w.must("trans.ext", `{"extId":"p"}`, &query)
	if query[0].Status != "ROK" {
		t.Errorf("after it all: %+v", query)
	}

	// A capture is reversed like a charge; taking all of it in parts is the same as taking it whole.
	captured := w.capture(w.hold(token, 50), "c", 40)
	w.must("trans.reverse.partial", partialParams(captured.RefNum, "r5", 40), nil)
	w.refused(-389, "trans.reverse", fmt.Sprintf(`{"tranId":%q}`, captured.RefNum))
	w.wantBalance(sharedPAN, 0, 0)
}

func TestOTP(t *testing.T) {
	w := newWorld(t)
	verify := func(id int64, code string) int {
		_, got := w.ask("cards.new.verify", fmt.Sprintf(`{"otp":{"id":%d,"code":%q}}`, id, code))
		return got
	}
	want := func(what string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	code := func(pan string) string { return w.sim.SMS(w.sim.byPAN[pan].phone)[0].Code }
	wrong := func(pan string) string { // a code that is not the right one
		n, _ := strconv.Atoi(code(pan))
		return fmt.Sprintf("%06d", (n+1)%1_000_000)
	}

	// The shared card's code never changes, so concurrent payers do not disturb each other.
	first, second := w.otp(sharedPAN), w.otp(sharedPAN)
	want("the older request", verify(first, sharedCode), 0)
	want("the same again", verify(first, sharedCode), -314)
	want("the newer request", verify(second, sharedCode), 0)

	// Another card's is new each time.
	codes := map[string]bool{}
	for range 20 {
		w.otp(otherPAN)
		codes[code(otherPAN)] = true
	}
	if len(codes) < 19 {
		t.Errorf("20 requests had %d codes", len(codes))
	}

	id := w.otp(otherPAN)
	want("wrong", verify(id, wrong(otherPAN)), -269)
	want("five digits", verify(id, code(otherPAN)[:5]), -269)
	want("a sign", verify(id, "+12345"), -269)
	want("right at last", verify(id, code(otherPAN)), 0)

	id = w.otp(otherPAN)
	w.clock.move(5*time.Minute - time.Millisecond)
	want("at the last moment", verify(id, code(otherPAN)), 0)
	id = w.otp(otherPAN)
	w.clock.move(5 * time.Minute)
	want("too late", verify(id, code(otherPAN)), -270)
	want("an id from nowhere", verify(id+1, "123456"), -294)

	// Five wrong codes in a row, over however many requests, block the card at SVGate for ten minutes.
	for range 4 {
		id = w.otp(otherPAN)
		want("wrong", verify(id, wrong(otherPAN)), -269)
	}
	token := w.sim.byPAN[otherPAN].token
	w.hold(token, 1) // not yet
	want("the fifth", verify(id, wrong(otherPAN)), -269)
	want("the right one now", verify(id, code(otherPAN)), -261)
	w.refused(-261, "cards.new.otp", otpParams(w.sim, otherPAN))
	w.refused(-261, "hold.create", holdParams(token, 1, 30))
	w.refused(-261, "trans.pay.purpose", payParams(token, "x", 1))
	w.clock.move(10*time.Minute - time.Millisecond)
	w.refused(-261, "cards.new.otp", otpParams(w.sim, otherPAN))
	w.clock.move(time.Millisecond)
	want("after a while", verify(w.otp(otherPAN), code(otherPAN)), 0)

	// A right code, or ten quiet minutes, forgive the wrong ones.
	for range 4 {
		id = w.otp(otherPAN)
		want("wrong", verify(id, wrong(otherPAN)), -269)
	}
	w.clock.move(11 * time.Minute)
	id = w.otp(otherPAN)
	want("wrong after a while", verify(id, wrong(otherPAN)), -269)
	want("still open", verify(id, code(otherPAN)), 0)

	// Cards expire by the simulator's clock, at the end of their month in Tashkent.
	w.clock.now = time.Date(2030, 12, 31, 18, 59, 59, 0, time.UTC)
	w.otp(otherPAN)
	w.clock.move(time.Second)
	w.refused(-201, "cards.new.otp", otpParams(w.sim, otherPAN))
	w.refused(-201, "hold.create", holdParams(token, 1, 30))
}

func TestOTPRequestsAreBounded(t *testing.T) {
	q := otpRequests{base: 100, ring: make([]otpRequest, maxOTPRequests), count: maxOTPRequests}
	q.ring[0].code = 1
	if o, _ := q.find(100); o == nil || o.code != 1 {
		t.Fatal("the oldest is not there yet")
	}
	if id := q.add(otpRequest{code: 2}); id != 100+maxOTPRequests || len(q.ring) != maxOTPRequests {
		t.Errorf("id %d, %d kept", id, len(q.ring))
	}
	if o, ok := q.find(100); ok {
		t.Errorf("overwritten, yet found: %+v", o)
	}
	if o, _ := q.find(100 + maxOTPRequests); o == nil || o.code != 2 {
		t.Error("the newest is not there")
	}
	if _, ok := q.find(101 + maxOTPRequests); ok {
		t.Error("one from the future is there")
	}
}

// TestMagicCards uses every misbehaving card to the step at which it misbehaves, and looks at what the books say then.
func TestMagicCards(t *testing.T) {
	w := newWorld(t)
	tried := 0
	for _, a := range w.sim.cards {
		b := a.behaviour
		if a.scheme != uzcard || b.name == "ok" {
			continue
		}
		tried++
		pan, ext := a.pan, func(kind string) string { return kind + a.pan }
		check := func(at step, method, params string) (stopped bool) {
			t.Helper()
			if b.at != at {
				return false
			}
			result, code := w.ask(method, params)
			switch {
			case b.code == declined:
				if code != 0 || strings.Contains(result, `"status":"OK"`) || strings.Contains(result, `"status":0`) {
					t.Errorf("%s: %s: %d %s", b.name, method, code, result)
				}
			case code != b.code:
				t.Errorf("%s: %s answered %d, not %d", b.name, method, code, b.code)
			}
			return true
		}
		if check(atOTP, "cards.new.otp", otpParams(w.sim, pan)) {
			if n := len(w.sim.SMS(a.phone)); n != 0 {
				t.Errorf("%s: an SMS was sent", b.name)
			}
			continue
		}
		id := w.otp(pan)
		verify := fmt.Sprintf(`{"otp":{"id":%d,"code":%q}}`, id, w.sim.SMS(a.phone)[0].Code)
		if check(atVerify, "cards.new.verify", verify) {
			continue
		}
		var card struct{ Status int }
		w.must("cards.new.verify", verify, &card)
		if card.Status != b.status {
			t.Errorf("%s: card status %d", b.name, card.Status)
		}
		if b.status != 0 {
			w.refused(-204, "hold.create", holdParams(a.token, 100, 30))
			w.refused(-204, "trans.pay.purpose", payParams(a.token, ext("p"), 100))
			continue
		}
		if b.name == "insufficient_funds" {
			w.refused(-239, "hold.create", holdParams(a.token, 1, 30))
			w.refused(-240, "trans.pay.purpose", payParams(a.token, ext("p"), 1))
			continue
		}
		done := int64(0)
		if b.done {
			done = 1
		}
		if check(atHold, "hold.create", holdParams(a.token, 100, 30)) {
			w.wantBalance(pan, 0, 100*done)
			if b.holdOnly {
				w.pay(a.token, ext("p"), 70)
				w.wantBalance(pan, -70, 0)
				continue
			}
			check(atHold, "trans.pay.purpose", payParams(a.token, ext("p"), 70))
			w.wantBalance(pan, -70*done, 100*done)
			if _, code := w.ask("trans.ext", fmt.Sprintf(`{"extId":%q}`, ext("p"))); (code == 0) != b.done {
				t.Errorf("%s: asked later, trans.ext says %d", b.name, code)
			}
			continue
		}
		hold := w.hold(a.token, 100)
		if check(atCapture, "hold.dismiss.charge", captureParams(hold, ext("c"), 80)) {
			w.wantBalance(pan, -80*done, 100-100*done)
			continue
		}
		if check(atVoid, "hold.dismiss", dismissParams(hold, 100)) {
			w.wantBalance(pan, 0, 100-100*done)
			continue
		}
		ref := w.capture(hold, ext("c"), 80).RefNum
		if !check(atRefund, "trans.reverse.partial", partialParams(ref, ext("r"), 30)) {
			t.Errorf("%s did nothing odd", b.name)
		}
		w.wantBalance(pan, -80+30*done, 0)
		check(atRefund, "trans.reverse", fmt.Sprintf(`{"tranId":%q}`, ref))
		w.wantBalance(pan, -80+80*done, 0)
	}
	if tried < 100 {
		t.Errorf("only %d cards misbehave", tried)
	}
	// Every code of §1.5 that a card can cause has its card.
	have := map[int]bool{}
	for _, b := range magicBehaviours() {
		have[b.code] = true
	}
	for _, codes := range [][]int{cardCodes, phoneCodes, otpCodes, fundsCodes, holdCodes, unknownCodes, temporaryCodes} {
		for _, code := range codes {
			if !have[code] || codeMessage(code) == "Error" {
				t.Errorf("%d has no card, or no message", code)
			}
		}
	}
	for _, code := range configurationCodes {
		if codeMessages[code] == "" {
			t.Errorf("%d has no message", code)
		}
	}
}

func TestFullBooksRefuse(t *testing.T) {
	w := newWorld(t)
	token := w.token(sharedPAN)
	hold := w.hold(token, 100)
	paid := w.pay(token, "p", 100)
	w.sim.mu.Lock()
	count := w.sim.count
	w.sim.count = maxOperations
	w.sim.mu.Unlock()
	w.refused(-300, "hold.create", holdParams(token, 1, 1))
	w.refused(-300, "trans.pay.purpose", payParams(token, "q", 1))
	w.refused(-300, "hold.dismiss.charge", captureParams(hold, "c", 1))
	w.refused(-300, "hold.dismiss", dismissParams(hold, 100))
	w.refused(-300, "trans.reverse", fmt.Sprintf(`{"tranId":%q}`, paid.RefNum))
	w.refused(-300, "trans.reverse.partial", partialParams(paid.RefNum, "r", 1))
	w.sim.mu.Lock()
	w.sim.count = count
	for i := range maxTerminals {
		w.sim.terminal([]byte(strconv.Itoa(i)), []byte("t"))
	}
	w.sim.mu.Unlock()
	w.wantBalance(sharedPAN, -100, 100)
	w.refused(-254, "hold.create", strings.Replace(holdParams(token, 1, 1), "91419475", "onemore", 1))
	w.hold(token, 1) // a known terminal still works
}

// TestNestedObjectsKeepApart reads several bodies with one walker: an object's members are its own, wherever others stand
// around it, and nothing of an earlier body is left.
func TestNestedObjectsKeepApart(t *testing.T) {
	var w walker
	for _, body := range []string{
		`{"a":{"b":{"a":1,"d":2},"a":3},"list":[{"a":4},{"b":{"c":5}}],"b":6}`,
		`{"b":{},"c":{"a":{"a":{"a":7}}}}`,
		`{}`,
	} {
		var want any
		numbers := json.NewDecoder(strings.NewReader(body))
		numbers.UseNumber()
		if err := numbers.Decode(&want); err != nil {
			t.Fatal(err)
		}
		v, why := w.parse([]byte(body))
		if got := plain(&v); why != "" || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is read as %v %s", body, got, why)
		}
	}
	if _, why := w.parse([]byte(`{"a":{"b":1,"c":{},"b":2}}`)); why != "the key b comes twice" {
		t.Error(why)
	}
}

// plain is a value as encoding/json reads it.
func plain(v *value) any {
	switch v.kind {
	case object:
		all := map[string]any{}
		for i := range v.members {
			all[string(v.members[i].name)] = plain(&v.members[i].value)
		}
		return all
	case list:
		all := []any{}
		for i := range v.items {
			all = append(all, plain(&v.items[i]))
		}
		return all
	default:
		n, _ := v.integer(false)
		return json.Number(strconv.FormatInt(n, 10))
	}
}

// FuzzSVGate sends anything at all: the answer is always one JSON-RPC answer, and the books balance.
func FuzzSVGate(f *testing.F) {
	token := cardToken(sharedPAN)
	for _, params := range []string{
		holdParams(token, 100, 30), captureParams(1, "e", 1), dismissParams(1, 1), payParams(token, "e", 5), partialParams("1", "r", 1),
		`{"card":{"pan":"8600313260861293","expiry":"3012"}}`, `{"otp":{"id":"5","code":"861293"}}`, `{"ids":["` + token + `"]}`, `{"extId":"e"}`, `[]`, `null`, `{"a\u0062":[1,-1.5e+3,"\"",{}]}`,
	} {
		for method := range svgateMethods {
			f.Add(fmt.Sprintf(`{"jsonrpc":"2.0","method":%q,"id":"7","params":%s}`, method, params))
		}
	}
	s := New(Config{Seed: 1, Now: func() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }})
	f.Fuzz(func(t *testing.T, body string) {
		var m memory
		s.svgate(&m, []byte(body))
		var envelope struct{ Result, Error json.RawMessage }
		if err := json.Unmarshal(m.answer, &envelope); err != nil || (envelope.Result == nil) == (envelope.Error == nil) {
			t.Fatalf("%q: %v: %s", body, err, m.answer)
		}
		checkBooks(t, s.Books())
		if s.count > 100 {
			s.Reset()
		}
	})
}
