package holdfast

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const (
	uniqueKey   = "9c1d6d1e-0b0c-4f55-9a44-2c8f7c5b1a10"
	paymentUUID = "e3f40dc3-4955-412a-853a-2ddd28d3201f"
)

var sentAt = time.Unix(1734520534, 0)

func notificationBody(status string) []byte {
	return []byte(`{"shop_transaction_id":"a1","octo_payment_UUID":"` + paymentUUID + `","status":"` + status + `","signature":"` +
		NotificationSignature(uniqueKey, paymentUUID, status) + `","hash_key":"h","total_sum":1000.00,"maskedPan":"427831** **** 3011"}`)
}

func signedHeaders(body []byte) http.Header {
	h := http.Header{}
	SignWebhook(h, uniqueKey, "msg_1", sentAt, body)
	return h
}

// Values of others: the first is the test vector of FIPS 180 for SHA-1, the
// second the example of the Standard Webhooks specification.
func TestSignaturesAgainstOtherPrograms(t *testing.T) {
	if got, want := NotificationSignature("a", "b", "c"), "A9993E364706816ABA3E25717850C26C9CD0D89D"; got != want {
		t.Errorf("SHA1(abc) is %s, want %s", got, want)
	}
	if NotificationSignature("a", "bc", "") != NotificationSignature("ab", "c", "") {
		t.Error("it is not the plain concatenation that the contract wants")
	}
	const secret = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	decoded, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	key := string(decoded)
	body := []byte(`{"test": 2432232314}`)
	got := WebhookSignature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), body)
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := WebhookSecret(key), "whsec_"+secret; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestVerifyNotification(t *testing.T) {
	body := notificationBody(StatusWaitingForCapture)
	for name, h := range map[string]http.Header{"with headers": signedHeaders(body), "without": nil} {
		n, err := VerifyNotificationAt(uniqueKey, body, h, sentAt.Add(time.Minute))
		if err != nil || n.ShopTransactionID != "a1" || n.Status != StatusWaitingForCapture || n.TotalSum != "1000.00" || n.MaskedPAN != "427831** **** 3011" {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
	// The clock of VerifyNotification is the real one.
	fresh := http.Header{}
	SignWebhook(fresh, uniqueKey, "msg_1", time.Now(), body)
	if _, err := VerifyNotification(uniqueKey, body, fresh); err != nil {
		t.Error(err)
	}
	if _, err := VerifyNotification(uniqueKey, body, signedHeaders(body)); err == nil {
		t.Error("an old notification passes")
	}
}

func TestVerifyNotificationRefuses(t *testing.T) {
	good := notificationBody(StatusSucceeded)
	replace := func(from, to string) []byte {
		changed := bytes.Replace(good, []byte(from), []byte(to), 1)
		if bytes.Equal(changed, good) {
			t.Fatalf("%q is not in the body", from)
		}
		return changed
	}
	signature := NotificationSignature(uniqueKey, paymentUUID, StatusSucceeded)
	headers := func(change func(http.Header)) http.Header {
		h := signedHeaders(good)
		change(h)
		return h
	}
	for name, test := range map[string]struct {
		key  string
		body []byte
		h    http.Header
		now  time.Time
		says string
	}{
		"another key":          {"another", good, nil, sentAt, "unique_key"},
		"another key, headers": {"another", good, signedHeaders(good), sentAt, "unique_key"},
		"no key":               {"", []byte(`{"octo_payment_UUID":"u","status":"s","signature":"` + NotificationSignature("", "u", "s") + `"}`), nil, sentAt, "unique_key is missing"},
		"another status":       {uniqueKey, replace(`"succeeded"`, `"canceled"`), nil, sentAt, "signature is wrong"},
		"another payment":      {uniqueKey, replace(paymentUUID, strings.Replace(paymentUUID, "e3", "e4", 1)), nil, sentAt, "signature is wrong"},
		"no signature":         {uniqueKey, replace(signature, ""), nil, sentAt, "signature is wrong"},
		"half a signature":     {uniqueKey, replace(signature, signature[:20]), nil, sentAt, "signature is wrong"},
		"another sum":          {uniqueKey, replace("1000.00", "9000.00"), signedHeaders(good), sentAt, "webhook-signature"},
		"the sum, headers cut": {uniqueKey, replace("1000.00", "9000.00"), http.Header{}, sentAt, "webhook-id"},
		"no id":                {uniqueKey, good, headers(func(h http.Header) { h.Del(HeaderWebhookID) }), sentAt, "webhook-id"},
		"another id":           {uniqueKey, good, headers(func(h http.Header) { h.Set(HeaderWebhookID, "msg_2") }), sentAt, "webhook-signature"},
		"no timestamp":         {uniqueKey, good, headers(func(h http.Header) { h.Del(HeaderWebhookTimestamp) }), sentAt, "webhook-timestamp"},
		"a timestamp in words": {uniqueKey, good, headers(func(h http.Header) { h.Set(HeaderWebhookTimestamp, "now") }), sentAt, "webhook-timestamp"},
		"another timestamp":    {uniqueKey, good, headers(func(h http.Header) { h.Set(HeaderWebhookTimestamp, "1734520535") }), sentAt, "webhook-signature"},
		"too old":              {uniqueKey, good, signedHeaders(good), sentAt.Add(5*time.Minute + time.Second), "five minutes"},
		"too new":              {uniqueKey, good, signedHeaders(good), sentAt.Add(-5*time.Minute - time.Second), "five minutes"},
		"no webhook-signature": {uniqueKey, good, headers(func(h http.Header) { h.Del(HeaderWebhookSignature) }), sentAt, "webhook-signature"},
		"a signature of v2": {uniqueKey, good, headers(func(h http.Header) {
			h.Set(HeaderWebhookSignature, strings.Replace(h.Get(HeaderWebhookSignature), "v1,", "v2,", 1))
		}), sentAt, "webhook-signature"},
		"signature without v1":  {uniqueKey, good, headers(func(h http.Header) { h.Set(HeaderWebhookSignature, h.Get(HeaderWebhookSignature)[3:]) }), sentAt, "webhook-signature"},
		"an empty v1":           {uniqueKey, good, headers(func(h http.Header) { h.Set(HeaderWebhookSignature, "v1,") }), sentAt, "webhook-signature"},
		"garbage after it":      {uniqueKey, good, headers(func(h http.Header) { h.Set(HeaderWebhookSignature, h.Get(HeaderWebhookSignature)+"!") }), sentAt, "webhook-signature"},
		"not base64":            {uniqueKey, good, headers(func(h http.Header) { h.Set(HeaderWebhookSignature, "v1,???") }), sentAt, "webhook-signature"},
		"a space at the end":    {uniqueKey, append(bytes.Clone(good), ' '), signedHeaders(good), sentAt, "webhook-signature"},
		"no JSON":               {uniqueKey, []byte("status=succeeded"), nil, sentAt, "JSON"},
		"duplicate names":       {uniqueKey, replace(`{"shop`, `{"status":"canceled","shop`), nil, sentAt, "JSON"},
		"no status":             {uniqueKey, []byte(`{"octo_payment_UUID":"u","status":"","signature":"` + NotificationSignature(uniqueKey, "u", "") + `"}`), nil, sentAt, "missing in its body"},
		"key, id and all moved": {uniqueKey, []byte(`{"octo_payment_UUID":"","status":"s","signature":"` + NotificationSignature(uniqueKey, "", "s") + `"}`), nil, sentAt, "missing in its body"},
		"an oversize body":      {uniqueKey, append(bytes.Clone(good), bytes.Repeat([]byte(" "), maxNotificationBytes)...), nil, sentAt, "64 KiB"},
	} {
		n, err := VerifyNotificationAt(test.key, test.body, test.h, test.now)
		if !errors.Is(err, ErrNotVerified) || n != (Notification{}) {
			t.Errorf("%s: %+v, %v", name, n, err)
			continue
		}
		if text := err.Error(); !strings.Contains(text, test.says) || strings.Contains(text, uniqueKey) || strings.Contains(text, signature) {
			t.Errorf("%s: %s; want it to say %q and no secrets", name, text, test.says)
		}
	}

	// The edges of what is taken.
	for name, test := range map[string]struct {
		h   http.Header
		now time.Time
	}{
		"five minutes old":   {signedHeaders(good), sentAt.Add(5 * time.Minute)},
		"five minutes early": {signedHeaders(good), sentAt.Add(-5 * time.Minute)},
		"the second signature": {headers(func(h http.Header) {
			h.Set(HeaderWebhookSignature, "v1a,xyz v1,AAAA  "+h.Get(HeaderWebhookSignature)+" v2,zz")
		}), sentAt},
	} {
		if _, err := VerifyNotificationAt(uniqueKey, good, test.h, test.now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNotificationHandler(t *testing.T) {
	var got []Notification
	answer, fail := NotificationAnswer{}, error(nil)
	handler := NotificationHandler(uniqueKey, func(_ context.Context, n Notification) (NotificationAnswer, error) {
		got = append(got, n)
		return answer, fail
	})
	post := func(method string, body []byte, change func(http.Header)) (int, string) {
		t.Helper()
		request := httptest.NewRequest(method, "/notify", bytes.NewReader(body))
		SignWebhook(request.Header, uniqueKey, "msg_1", time.Now(), body)
		if change != nil {
			change(request.Header)
		}
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		text, _ := io.ReadAll(recorder.Body)
		if recorder.Code == 200 && recorder.Header().Get("Content-Type") != "application/json" {
			t.Errorf("Content-Type %q", recorder.Header().Get("Content-Type"))
		}
		return recorder.Code, string(text)
	}
	body := notificationBody(StatusWaitingForCapture)
	for _, test := range []struct {
		answer NotificationAnswer
		want   string
	}{
		{NotificationAnswer{AcceptStatus: AcceptCapture, FinalAmount: "437278.66"}, `{"accept_status":"capture","final_amount":437278.66}`},
		{NotificationAnswer{AcceptStatus: AcceptCancel}, `{"accept_status":"cancel"}`},
		{NotificationAnswer{AcceptStatus: AcceptWait}, `{"accept_status":"wait_user_action"}`},
		{NotificationAnswer{}, `{}`},
	} {
		answer = test.answer
		if code, text := post("POST", body, nil); code != 200 || text != test.want {
			t.Errorf("%d %s, want %s", code, text, test.want)
		}
	}
	if len(got) != 4 || got[0].PaymentUUID != paymentUUID {
		t.Fatalf("decide saw %+v", got)
	}

	// Nothing of this reaches decide.
	got = nil
	if code, _ := post("GET", body, nil); code != 405 {
		t.Errorf("GET: %d", code)
	}
	if code, _ := post("POST", body, func(h http.Header) { h.Set(HeaderWebhookID, "x") }); code != 401 {
		t.Errorf("forged: %d", code)
	}
	if code, _ := post("POST", body, func(h http.Header) { h.Del(HeaderWebhookSignature) }); code != 401 {
		t.Errorf("unsigned: %d", code)
	}
	if code, _ := post("POST", append(bytes.Clone(body), bytes.Repeat([]byte(" "), maxNotificationBytes)...), nil); code != 413 {
		t.Errorf("oversize: %d", code)
	}
	padded := append(bytes.Clone(body), bytes.Repeat([]byte(" "), maxNotificationBytes-len(body))...)
	if len(got) != 0 {
		t.Errorf("decide saw %+v", got)
	}
	if code, _ := post("POST", padded, nil); code != 200 {
		t.Errorf("at the limit: %d", code)
	}

	// A failure does not tell the gateway its cause.
	fail = errors.New("our database is on fire")
	if code, text := post("POST", body, nil); code != 500 || strings.Contains(text, "fire") {
		t.Errorf("%d %s", code, text)
	}
	// Nor does an amount that cannot be written go out.
	fail, answer = nil, NotificationAnswer{AcceptStatus: AcceptCapture, FinalAmount: "all"}
	if code, text := post("POST", body, nil); code != 500 || strings.Contains(text, "capture") {
		t.Errorf("%d %s", code, text)
	}
}

func FuzzVerifyNotification(f *testing.F) {
	body := notificationBody(StatusSucceeded)
	h := signedHeaders(body)
	f.Add(body, h.Get(HeaderWebhookID), h.Get(HeaderWebhookTimestamp), h.Get(HeaderWebhookSignature))
	f.Add([]byte(`{}`), "", "", "")
	f.Add(body, "msg_1", "9223372036854775807", "v1,")
	f.Add(body, "msg_1", "-1", "v1,AAAA v1,")
	f.Fuzz(func(t *testing.T, changed []byte, id, timestamp, signature string) {
		h := http.Header{}
		h.Set(HeaderWebhookID, id)
		h.Set(HeaderWebhookTimestamp, timestamp)
		h.Set(HeaderWebhookSignature, signature)
		// The fuzzer has the one signed body and no key: with headers nothing
		// but that body may pass, and without them nothing that says other
		// than that body about the payment and its status.
		if n, err := VerifyNotificationAt(uniqueKey, changed, h, sentAt); err == nil && !bytes.Equal(changed, body) {
			t.Fatalf("forged: %+v from %q", n, changed)
		}
		if n, err := VerifyNotificationAt(uniqueKey, changed, nil, sentAt); err == nil && (n.PaymentUUID+n.Status != paymentUUID+StatusSucceeded) {
			t.Fatalf("forged: %+v from %q", n, changed)
		}
		// And the same under a key that the fuzzer does know, to get past the
		// first check.
		SignWebhook(h, uniqueKey, "id"+id, sentAt, changed)
		if _, err := VerifyNotificationAt(uniqueKey, changed, h, sentAt); err != nil && strings.Contains(err.Error(), "webhook") {
			t.Fatalf("our own signature is refused: %v", err)
		}
	})
}
