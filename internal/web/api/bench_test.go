package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"holdfast/internal/sim"
	"holdfast/internal/web"
	"holdfast/internal/web/api"
)

// shared is the card that a million payments can be made with; its code is known beforehand.
func (w *world) shared() (card sim.Card, code string) {
	card = w.card("ok")
	return card, card.FixedOTP
}

// BenchmarkPayment is a whole two-stage payment over real HTTP: prepare_payment, pay, verificationInfo,
// check_sms_key, set_accept, with the simulated centre and all commits. allocs/op counts both sides.
func BenchmarkPayment(b *testing.B) {
	w := newWorld(b)
	card, code := w.shared()
	n := 0
	for b.Loop() {
		n++
		uuid := w.prepare(fmt.Sprint("bench-", n), twoStage)
		paymentID, verifyID := w.pay(uuid, card)
		w.ok("/check_sms_key", smsKey(paymentID, verifyID, code))
		w.ok("/set_accept", w.accept(uuid, `"accept_status":"capture"`))
	}
}

// BenchmarkPayments is the same from many callers at once, who share commits.
func BenchmarkPayments(b *testing.B) {
	w := newWorld(b)
	card, code := w.shared()
	b.SetParallelism(32)
	var names atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			uuid := w.prepare(fmt.Sprint("bench-", names.Add(1)), twoStage)
			paymentID, verifyID := w.pay(uuid, card)
			w.ok("/check_sms_key", smsKey(paymentID, verifyID, code))
			w.ok("/set_accept", w.accept(uuid, `"accept_status":"capture"`))
		}
	})
}

// benchmarkCall is one call at the handler, without a network and without a commit: what reading, checking,
// a look into the store and writing cost.
func benchmarkCall(b *testing.B, w *world, path, body string) {
	site := web.Site{API: api.New(api.Config{Gateway: w.gateway, Store: w.store, PayURL: "https://pay.example", Log: quiet}), Calls: api.Calls, Ready: w.store.Err, Log: quiet}.Handler()
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		recorded := httptest.NewRecorder()
		site.ServeHTTP(recorded, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
		if recorded.Code != http.StatusOK || !strings.Contains(recorded.Body.String(), `"error":0`) {
			b.Fatal(recorded.Body)
		}
	}
}

// The seed's own request, answered with the state of the payment that it made the first time.
func BenchmarkPrepareRepeated(b *testing.B) {
	w := newWorld(b)
	body := replaced(b, sample(b, "prepare_payment.request"), map[string]string{"octo_shop_id": fmt.Sprint(w.shop.id), "octo_secret": fmt.Sprintf("%q", string(w.shop.secret))})
	w.ok("/prepare_payment", body)
	benchmarkCall(b, w, "/prepare_payment", body)
}

func BenchmarkStatus(b *testing.B) {
	w := newWorld(b)
	w.prepare("asked", "")
	benchmarkCall(b, w, "/prepare_payment", fmt.Sprintf(`{%s,"shop_transaction_id":"asked"}`, w.shop.credentials()))
}

func BenchmarkSetAcceptRepeated(b *testing.B) {
	w := newWorld(b)
	card, code := w.shared()
	uuid := w.prepare("accepted", twoStage)
	paymentID, verifyID := w.pay(uuid, card)
	w.ok("/check_sms_key", smsKey(paymentID, verifyID, code))
	body := w.accept(uuid, `"accept_status":"capture","final_amount":10.00`)
	w.ok("/set_accept", body)
	benchmarkCall(b, w, "/set_accept", body)
}
