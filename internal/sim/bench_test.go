package sim

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// BenchmarkHotCalls measures the four calls of a two-stage payment without the network: the whole handler, credentials,
// parsing and answer included. An operation is one payment, that is four calls.
func BenchmarkHotCalls(b *testing.B) {
	s := New(Config{Seed: 1})
	token := s.byPAN[sharedPAN].token
	otp := otpParams(s, sharedPAN)
	create := holdParams(token, 100, 30)
	var payments atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		call := func(method, params string) []byte {
			r := httptest.NewRequest("POST", "/svgate", strings.NewReader(`{"jsonrpc":"2.0","method":"`+method+`","id":7,"params":`+params+`}`))
			r.Header["Authorization"] = []string{s.authorization}
			r.Header["Content-Type"] = jsonType
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			return w.Body.Bytes()
		}
		for pb.Next() {
			n := payments.Add(1)
			call("cards.new.verify", fmt.Sprintf(`{"otp":{"id":%d,"code":%q}}`, resultID(b, call("cards.new.otp", otp)), sharedCode))
			hold := resultID(b, call("hold.create", create))
			if answer := string(call("hold.dismiss.charge", captureParams(hold, fmt.Sprint("bench", n), 100))); !strings.Contains(answer, `"status":"OK"`) {
				b.Error(answer)
				return
			}
		}
	})
	b.ReportMetric(4*float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

// BenchmarkHTTP is the same over loopback with kept connections, client included.
func BenchmarkHTTP(b *testing.B) {
	s := New(Config{Seed: 1})
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	token := s.byPAN[sharedPAN].token
	create := `{"jsonrpc":"2.0","method":"hold.create","id":7,"params":` + holdParams(token, 100, 30) + `}`
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, err := http.NewRequest("POST", server.URL+"/svgate", strings.NewReader(create))
			if err != nil {
				b.Error(err)
				return
			}
			r.SetBasicAuth("holdfast", "holdfast")
			r.Header.Set("Content-Type", "application/json")
			response, err := client.Do(r)
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := io.Copy(io.Discard, response.Body); err != nil {
				b.Error(err)
			}
			if err := response.Body.Close(); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

func resultID(b *testing.B, answer []byte) int64 {
	var a struct{ Result struct{ ID int64 } }
	if err := json.Unmarshal(answer, &a); err != nil || a.Result.ID == 0 {
		b.Errorf("%v %s", err, answer)
	}
	return a.Result.ID
}
