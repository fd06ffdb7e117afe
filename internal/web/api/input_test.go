package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/web"
	"holdfast/internal/web/api"
)

// nasty are bodies that have broken JSON readers, for every call. $SHOP, $SECRET, $UUID, $ID and $VERIFY become
// those of a payment that exists, so that what is behind the credentials is reached too.
var nasty = []string{
	``, ` `, `{}`, `[]`, `null`, `true`, `0`, `""`, `{`, `}`, `{"`, `{"a"`, `{"a":`, `{"a":}`, `{,}`, `{"a":1,}`, "\ufeff{}", `{}{}`, `{} x`,
	"\x00", "{\"a\":\"\x00\"}", "{\"\x00\":1}", "{\"a\":\"\xff\xfe\"}", "{\"\xc3\x28\":1}", `{"a":"\ud800"}`, `{"a":"\udc00\ud800"}`, `{"a":"\u0000"}`, `{"a":"\x41"}`,
	`{"octo_shop_id":NaN}`, `{"octo_shop_id":Infinity}`, `{"octo_shop_id":-0}`, `{"octo_shop_id":01}`, `{"octo_shop_id":1e400}`, `{"octo_shop_id":1E-400}`, `{"octo_shop_id":.5}`,
	`{"octo_shop_id":9223372036854775808}`, `{"octo_shop_id":-9223372036854775808}`, `{"octo_shop_id":"0x1F"}`, `{"octo_shop_id":"１２"}`,
	`{"octo_shop_id":1,"octo_shop_id":2}`, `{"octo_secret":"a","octo_secret":"b"}`, `{"octo_\u0073ecret":"a","octo_secret":"b"}`,
	"{\"shop_transaction_id\":\"\u202egnp.exe\"}", "{\"\u202e\u0000\":1,\"octo_shop_id\":\"\u202e\"}", `{"octo_shop_id":{"a":{"b":{"c":[[[[{}]]]]}}}}`,
	`{"octo_shop_id":$SHOP,"octo_secret":"$SECRET","shop_transaction_id":"n\u0000l","total_sum":1,"currency":"UZS","return_url":"https://a.uz"}`,
	"{\"octo_shop_id\":$SHOP,\"octo_secret\":\"$SECRET\",\"shop_transaction_id\":\"\u202e\",\"total_sum\":1,\"currency\":\"U\u0000S\",\"return_url\":\"https://a.uz\"}",
	`{"octo_shop_id":$SHOP,"octo_secret":"$SECRET","shop_transaction_id":"b","total_sum":1e400,"currency":"UZS","return_url":"https://a.uz"}`,
	`{"octo_shop_id":$SHOP,"octo_secret":"$SECRET","shop_transaction_id":"b","total_sum":92233720368547758.08,"currency":"UZS","return_url":"https://a.uz"}`,
	`{"octo_shop_id":$SHOP,"octo_secret":"$SECRET","shop_transaction_id":"b","total_sum":0.000000000000000000000000000000000000000000000000000000001,"currency":"UZS","return_url":"https://a.uz"}`,
	`{"octo_shop_id":$SHOP,"octo_secret":"$SECRET","shop_transaction_id":"b","total_sum":1e-1,"currency":"UZS","return_url":"http://[::1","basket":[null]}`,
	`{"octo_shop_id":$SHOP,"octo_secret":"$SECRET","shop_transaction_id":"b","total_sum":1,"currency":"UZS","return_url":"http://%zz","payment_methods":[null,{}]}`,
	`{"octo_shop_id":$SHOP,"octo_secret":"$SECRET","shop_transaction_id":"b","total_sum":1,"currency":"UZS","return_url":"https://a.uz","basket":[{"position_desc":"a","count":9223372036854775807,"price":92233720368547758.07}]}`,
	`{"octo_shop_id":$SHOP,"octo_secret":"$SECRET","shop_transaction_id":"b","total_sum":1,"currency":"UZS","return_url":"https://a.uz","ttl":9223372036854775807,"init_time":"9999-99-99 99:99:99"}`,
	`{"octo_shop_id":$SHOP,"octo_secret":"$SECRET","shop_transaction_id":"ok","total_sum":1,"currency":"UZS","return_url":"https://a.uz","language":"` + "\u202e" + `","init_time":"0000-01-01 00:00:00"}`,
	`{"octo_shop_id":$SHOP,"octo_secret":"$SECRET","octo_payment_UUID":"$UUID","accept_status":"capture","final_amount":1e400}`,
	`{"octo_shop_id":$SHOP,"octo_secret":"$SECRET","octo_payment_UUID":"$UUID","accept_status":"capture","final_amount":"NaN"}`,
	`{"octo_shop_id":$SHOP,"octo_secret":"$SECRET","octo_payment_UUID":"$UUID","accept_status":"capture","final_amount":[1]}`,
	`{"octo_shop_id":$SHOP,"octo_secret":"$SECRET","octo_payment_UUID":"$UUID","accept_status":"\u0000"}`,
	`{"octo_secret":"$SECRET","octo_payment_UUID":"$UUID","accept_status":"capture","final_amount":-1e-400}`,
	`{"octo_shop_id":$SHOP,"octo_secret":"$SECRET","octo_payment_UUID":"$UUID","shop_refund_id":"\u0000","amount":1}`,
	`{"octo_shop_id":$SHOP,"octo_secret":"$SECRET","octo_payment_UUID":"$UUID","shop_refund_id":7,"amount":1e400}`,
	`{"octo_payment_UUID":"$UUID"}`, `{"octo_payment_UUID":"zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz"}`, `{"octo_payment_UUID":["$UUID"]}`,
	`{"smsKey":"000000","paymentId":$ID,"verifyId":$VERIFY,"smsKey":"111111"}`, `{"smsKey":"٠٠٠٠٠٠","paymentId":$ID,"verifyId":$VERIFY}`, `{"smsKey":"000000","paymentId":1e9,"verifyId":1e400}`,
	`{"smsKey":{"$ne":null},"paymentId":$ID,"verifyId":$VERIFY}`, `{"smsKey":"000000","paymentId":4294967297,"verifyId":-1}`,
	`{"pan":"4111111111111111' OR 1=1 --","exp":"3012","method":"uzcard"}`, `{"pan":"８６００","exp":"3012","method":"uzcard"}`, `{"pan":"8600313260861293","exp":"٣٠١٢","method":"uzcard"}`,
	`{"pan":"8600313260861293","exp":"3012","method":"bank_card","cvc2":"\u0000"}`, `{"pan":"8600313260861293","exp":"3012","method":"uzcard","cardHolderName":"\u0000","email":{}}`,
	`{"pan":"8600313260861293","expDate":"3012","paymentId":$ID}`, `{"pan":["8600313260861293"],"expDate":3012,"paymentId":"$ID"}`,
	strings.Repeat(`[`, 20_000), strings.Repeat(`{"a":`, 10_000), `{"basket":` + strings.Repeat(`[`, 15_000) + strings.Repeat(`]`, 15_000) + `}`,
	`{"a":` + strings.Repeat(`9`, 60_000) + `}`, `{"octo_shop_id":` + strings.Repeat(`9`, 60_000) + `}`, `{"octo_shop_id":"` + strings.Repeat(` `, 60_000) + `"}`,
	`{"` + strings.Repeat(`k`, 60_000) + `":1,"` + strings.Repeat(`k`, 60) + `":1}`, `{"a":"` + strings.Repeat(`\u0041`, 10_000) + `"}`,
	`{"total_sum":1` + strings.Repeat(`0`, 60_000) + `,"octo_shop_id":$SHOP,"octo_secret":"$SECRET","shop_transaction_id":"b"}`,
	`{"total_sum":"1e` + strings.Repeat(`9`, 60_000) + `","octo_shop_id":$SHOP,"octo_secret":"$SECRET","shop_transaction_id":"b"}`,
}

// target is a world for fuzzing: calls go to the site's handler, without a network in between.
type target struct {
	*world
	site     http.Handler
	uuid     string // of a payment that waits for its code
	replacer *strings.Replacer
}

func newTarget(f *testing.F) *target {
	w := newWorld(f)
	site := web.Site{API: api.New(api.Config{Gateway: w.gateway, Store: w.store, PayURL: "https://pay.example", Log: quiet}), Calls: api.Calls, Ready: w.store.Err, Log: quiet}
	x := &target{world: w, site: site.Handler(), uuid: w.prepare("target", "")}
	paymentID, verifyID := w.pay(x.uuid, w.card("ok"))
	x.replacer = strings.NewReplacer("$SHOP", fmt.Sprint(w.shop.id), "$SECRET", string(w.shop.secret), "$UUID", x.uuid, "$ID", paymentID, "$VERIFY", verifyID)
	return x
}

// newest is the payment that was made last, with its version.
func (x *target) newest(t *testing.T) payment.Payment {
	list, err := x.store.List(context.Background(), store.Filter{Limit: 1})
	check(t, err)
	return list[0]
}

// try makes a call with a body that may be anything and checks what must hold of every answer.
func (x *target) try(t *testing.T, path string, body []byte) {
	here := *x.world
	here.t = t // the fuzz target must not touch the *testing.F that the world was made with
	x = &target{&here, x.site, x.uuid, x.replacer}
	body = []byte(x.replacer.Replace(string(body)))
	before, newest := x.stored(x.uuid), x.newest(t)
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	recorded := httptest.NewRecorder()
	x.site.ServeHTTP(recorded, r) // a panic is answered 500, and so fails below
	got := recorded.Body.Bytes()
	switch {
	case recorded.Code == http.StatusRequestEntityTooLarge && len(body) > web.BodyBytes:
	case recorded.Code != http.StatusOK:
		t.Fatalf("%s: HTTP %d %s", path, recorded.Code, got)
	}
	if !utf8.Valid(got) {
		t.Errorf("%s: the answer is not UTF-8: %q", path, got)
	}
	answered, ok := parse(t, got).(object)
	if !ok {
		t.Fatalf("%s: the answer is no object: %s", path, got)
	}
	if _, bare := answered["accept_status"]; bare && path == "/callback" {
		return // a decision, without an envelope
	}
	code, ok := answered["error"].(json.Number)
	message, _ := answered["errMessage"].(string)
	_, hasData := answered["data"]
	switch {
	case !ok || !hasData:
		t.Errorf("%s: not an envelope: %s", path, got)
	case code == "0" && answered["data"] == nil:
		t.Errorf("%s: a success without data: %s", path, got)
	case code != "0" && (message == "" || message != answered["errorMessage"] || answered["data"] != nil || answered["apiMessageForDevelopers"] == ""):
		t.Errorf("%s: not the envelope of a failure: %s", path, got)
	case code == "4":
		t.Errorf("%s: an internal error by what was sent: %s", path, got)
	}
	for _, secret := range []string{string(x.shop.secret), x.card("ok").PAN} {
		if bytes.Contains(got, []byte(secret)) {
			t.Errorf("%s: the answer repeats a secret: %s", path, got)
		}
	}
	if code != "1" && code != "2" {
		return
	}
	if after := x.stored(x.uuid); after.Version != before.Version {
		t.Errorf("%s: the answer is error %s, and something was stored of the payment: %s", path, code, body)
	}
	if after := x.newest(t); after.ID != newest.ID || after.Version != newest.Version {
		t.Errorf("%s: the answer is error %s, and a payment was stored: %s", path, code, body)
	}
}

func FuzzPrepare(f *testing.F) { fuzz(f, "/prepare_payment") }

func FuzzPay(f *testing.F) { fuzz(f, "/pay/") }

func FuzzVerificationInfo(f *testing.F) { fuzz(f, "/verificationInfo") }

func FuzzCheckSMSKey(f *testing.F) { fuzz(f, "/check_sms_key") }

func FuzzCheckPan(f *testing.F) { fuzz(f, "/check_pan") }

func FuzzSetAccept(f *testing.F) { fuzz(f, "/set_accept") }

func FuzzCallback(f *testing.F) { fuzz(f, "/callback") }

func FuzzRefund(f *testing.F) { fuzz(f, "/refund") }

func fuzz(f *testing.F, path string) {
	x := newTarget(f)
	for _, body := range nasty {
		f.Add([]byte(body))
	}
	if strings.HasSuffix(path, "/") {
		path += x.uuid
	}
	f.Fuzz(func(t *testing.T, body []byte) { x.try(t, path, body) })
}

// FuzzPath: whatever the path and the verb are, the answer is JSON, and never a 5xx.
func FuzzPath(f *testing.F) {
	x := newTarget(f)
	for _, path := range []string{
		"/", "//", "/pay/\xff", "/pay/$UUID/..", "/../../etc/passwd", "/prepare_payment/\x00", "/verificationInfo/$UUID", "/check_sms_key/\u202e", "*", "/pay/" + strings.Repeat("a/", 5000),
		strings.Repeat("/", 8000) + "set_accept", "/set_accept\n", "/callback;x=1", "/healthz/x", "/readyz",
	} {
		f.Add("POST", path)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}"))
		r.Method, r.URL.Path = method, x.replacer.Replace(path)
		recorded := httptest.NewRecorder()
		x.site.ServeHTTP(recorded, r)
		if recorded.Code >= 500 || recorded.Code == 0 {
			t.Errorf("%q %q: HTTP %d %s", method, path, recorded.Code, recorded.Body)
		}
		if recorded.Header().Get("Content-Type") == "application/json" {
			parse(t, recorded.Body.Bytes())
		}
	})
}

// endless is a body of a hundred megabytes, which counts what is read of it.
type endless struct {
	mu   sync.Mutex
	read int
}

const hundredMB = 100 << 20

func (e *endless) Read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := min(len(p), hundredMB-e.read)
	if n == 0 {
		return 0, io.EOF
	}
	for i := range p[:n] {
		p[i] = 'a'
	}
	if e.read == 0 {
		copy(p, `{"x":"`)
	}
	e.read += n
	return n, nil
}

// A body of 100 MB is not read to its end, declared or not, and costs no memory.
func TestHugeBody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"/prepare_payment", "/pay/" + w.prepare("huge", ""), "/verificationInfo", "/check_sms_key", "/check_pan", "/set_accept", "/callback", "/refund"} {
		for _, declared := range []int64{-1, hundredMB} {
			body := new(endless)
			req, err := http.NewRequest("POST", w.url+path, body)
			check(t, err)
			req.ContentLength = declared
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			res, err := w.http.Do(req)
			runtime.ReadMemStats(&after)
			// The server ends the connection while the client still writes, so the client may miss the answer.
			if err == nil {
				got, _ := io.ReadAll(res.Body)
				res.Body.Close()
				if res.StatusCode != http.StatusRequestEntityTooLarge || parse(t, got).(object)["error"] != json.Number("1") {
					t.Errorf("%s: HTTP %d %s", path, res.StatusCode, got)
				}
			}
			body.mu.Lock()
			// What is beyond the limit lies in the buffers of the sockets.
			if body.read > 16<<20 {
				t.Errorf("%s: %d MB of the body were taken", path, body.read>>20)
			}
			body.mu.Unlock()
			// The other tests of the package allocate at the same time; a body kept would be 100 MB.
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 64<<20 {
				t.Errorf("%s: the heap grew by %d MB", path, grown>>20)
			}
		}
	}
	// The server itself, without sockets in between: it reads its limit and one byte.
	site := web.Site{API: api.New(api.Config{Gateway: w.gateway, Store: w.store, Log: quiet}), Calls: api.Calls, Ready: w.store.Err, Log: quiet}.Handler()
	body := new(endless)
	recorded := httptest.NewRecorder()
	site.ServeHTTP(recorded, httptest.NewRequest("POST", "/set_accept", body))
	if recorded.Code != http.StatusRequestEntityTooLarge || body.read > 2*web.BodyBytes {
		t.Errorf("HTTP %d after %d bytes", recorded.Code, body.read)
	}
}

// Who asks before he sends a body that is too long is told so at once, and not to go on; one that is not too long is
// asked for. A longer one that comes unasked is answered as well.
func TestLongBodyIsNotAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"/set_accept", "/pay/" + w.prepare("long", "")} {
		for _, c := range []struct {
			length int
			asks   bool
			want   []string // status lines
		}{
			{web.BodyBytes + 1, true, []string{"413"}},
			{web.BodyBytes + 1, false, []string{"413"}},
			{web.BodyBytes, true, []string{"100", "200"}},
		} {
			conn := w.raw()
			check(t, conn.SetDeadline(time.Now().Add(2*time.Minute)))
			head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n", path, c.length)
			body := strings.Repeat(" ", c.length)
			if c.asks {
				head += "Expect: 100-continue\r\n"
			}
			_, err := io.WriteString(conn, head+"\r\n")
			check(t, err)
			var got []string
			for from := bufio.NewReader(conn); len(got) < len(c.want); {
				if !c.asks || len(got) > 0 {
					_, err := io.WriteString(conn, body)
					check(t, err)
				}
				res, err := http.ReadResponse(from, nil)
				check(t, err)
				got = append(got, fmt.Sprint(res.StatusCode))
				if res.StatusCode != http.StatusContinue {
					answer, err := io.ReadAll(res.Body)
					check(t, err)
					if parse(t, answer).(object)["error"] != json.Number("1") {
						t.Errorf("%s: %s", path, answer)
					}
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s, %d bytes, asked for %v: HTTP %v, want %v", path, c.length, c.asks, got, c.want)
			}
			conn.Close()
		}
	}
}

// Who sends his body a byte at a time, or not at all, or not even his headers, is cut off in the server's time.
// It takes those ten seconds, beside the other tests.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	head := "POST /prepare_payment HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
	var clients sync.WaitGroup
	for _, slow := range []struct {
		name, first string
		drip        bool
		within      time.Duration
	}{
		{"one byte of the body, and no more", head + "{", false, 20 * time.Second},
		{"a byte of the body now and then", head, true, 20 * time.Second},
		{"half the headers", head[:30], false, 15 * time.Second},
		{"headers now and then", "POST / HTTP/1.1\r\nX-A: ", true, 15 * time.Second},
		{"nothing", "", false, 15 * time.Second},
	} {
		conn := w.raw()
		begun := time.Now()
		check(t, conn.SetDeadline(begun.Add(2*time.Minute)))
		_, err := io.WriteString(conn, slow.first)
		check(t, err)
		ended := make(chan struct{})
		if slow.drip {
			clients.Go(func() {
				tick := time.NewTicker(200 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-ended:
						return
					case <-tick.C:
						conn.Write([]byte("a"))
					}
				}
			})
		}
		clients.Go(func() {
			defer close(ended)
			answer, err := io.ReadAll(conn) // until the server ends it
			if took := time.Since(begun); took > slow.within {
				t.Errorf("%s: the server ended it after %v (%v)", slow.name, took, err)
			}
			if strings.HasPrefix(slow.first, head) && !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
				t.Errorf("%s: the answer is %q", slow.name, answer)
			}
		})
	}
	clients.Wait()
}

// Too many headers, and paths without end.
func TestHugeHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, text := range map[string]string{
		"many headers":  "POST /prepare_payment HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", 10_000) + "\r\n",
		"a long header": "POST /prepare_payment HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
		"a long path":   "POST /" + strings.Repeat("a/", 1<<19) + " HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		conn := w.raw()
		check(t, conn.SetDeadline(time.Now().Add(2*time.Minute)))
		go io.WriteString(conn, text) // the server ends it in between
		answer, _ := io.ReadAll(conn)
		if !strings.HasPrefix(string(answer), "HTTP/1.1 431 ") && len(answer) > 0 {
			t.Errorf("%s: %.200q", name, answer)
		}
	}
	// A deep path that fits is one that leads nowhere.
	a, err := w.do("POST", "/"+strings.Repeat("a/", 4000), strings.NewReader("{}"))
	check(t, err)
	if a.status != http.StatusNotFound {
		t.Errorf("a deep path: HTTP %d", a.status)
	}
	parse(t, a.body)
	// And the server is well.
	w.prepare("after", "")
}
