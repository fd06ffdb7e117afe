package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestHistogramKeepsItsPrecision(t *testing.T) {
	for us := int64(0); us < 1<<36; us += 1 + us/300 {
		b := bucketOf(us)
		if high := upper(b); high < us || float64(high-us) > 0.008*float64(us) {
			t.Fatalf("%d µs falls into the bucket up to %d µs", us, high)
		}
		if b > 0 && upper(b-1) >= us {
			t.Fatalf("%d µs falls into bucket %d, and the one before goes up to %d µs", us, b, upper(b-1))
		}
	}
}

func TestPercentiles(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	h := new(histogram)
	var all []int64
	for range 100_000 {
		us := int64(random.ExpFloat64() * 3000)
		all = append(all, us)
		h.add(time.Duration(us) * time.Microsecond)
	}
	slices.Sort(all)
	l := h.latency()
	for name, c := range map[string]struct {
		got      float64
		perMille int
	}{"p50": {l.P50, 500}, "p95": {l.P95, 950}, "p99": {l.P99, 990}, "p999": {l.P999, 999}} {
		want := float64(all[len(all)*c.perMille/1000-1]) / 1000
		if c.got < want || c.got > want*1.008+0.001 {
			t.Errorf("%s is %f ms, exactly it is %f ms", name, c.got, want)
		}
	}
	if want := float64(all[len(all)-1]) / 1000; l.Max != want || l.Count != 100_000 {
		t.Errorf("max %f ms of %d, want %f ms", l.Max, l.Count, want)
	}
	if empty := new(histogram).latency(); empty != (Latency{}) {
		t.Errorf("nothing was measured, and that is %v", empty)
	}
}

func TestParse(t *testing.T) {
	whole := "HTTP/1.1 303 See Other\r\nlocation: /status/7\r\nContent-length:  5 \r\nConnection: close\r\n\r\nhello"
	for cut := range len(whole) {
		if _, size, err := parse([]byte(whole[:cut])); size != 0 || err != nil {
			t.Fatalf("%q is whole: %d bytes, %v", whole[:cut], size, err)
		}
	}
	m, size, err := parse([]byte(whole + "HTTP/1.1 200 OK"))
	if err != nil || size != len(whole) || string(m.body) != "hello" || string(m.value("Location")) != "/status/7" || !m.last() {
		t.Fatalf("%d bytes, body %q, Location %q, last %t: %v", size, m.body, m.value("Location"), m.last(), err)
	}
	if status, err := m.status(); status != 303 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
	for text, want := range map[string]string{
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n": errNoLength.Error(),
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n":                                "is no length",
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n":              "is no length",
	} {
		if _, _, err := parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want: %s", text, err, want)
		}
	}
	if _, err := (&message{line: []byte("SSH-2.0-OpenSSH")}).status(); err == nil {
		t.Error("that is not HTTP")
	}
}

// Notifications come from a real client here: those that are signed wrongly, or are of another run, are counted.
func TestEndpointFindsForgedNotifications(t *testing.T) {
	l, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	e, err := listen(l, "mine-", []Shop{{UniqueKey: "key"}})
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		post := func(name string) error {
			body := fmt.Sprintf(`{"shop_transaction_id":%q,"octo_payment_UUID":"u","status":"succeeded","signature":"F00","hash_key":"h"}`, name)
			res, err := http.Post(e.url, "application/json", strings.NewReader(body))
			if err != nil {
				return err
			}
			defer res.Body.Close()
			if answer, err := io.ReadAll(res.Body); err != nil || string(answer) != "{}" {
				return fmt.Errorf("answered %q, %v", answer, err)
			}
			return nil
		}
		var err error
		for n := range sampleOneIn {
			err = errors.Join(err, post(fmt.Sprint("mine-", n)))
		}
		sent <- errors.Join(err, post("another-1"))
	}()
	giveUp := time.Now().Add(time.Minute)
	err = l.run(func() (time.Duration, bool) {
		return lookEvery, e.received == sampleOneIn+1 || l.now.After(giveUp)
	})
	if err := errors.Join(err, <-sent); err != nil {
		t.Fatal(err)
	}
	if e.received != sampleOneIn+1 || e.forged != 2 {
		t.Errorf("%d notifications, %d of them forged; want %d and 2", e.received, e.forged, sampleOneIn+1)
	}
	if len(e.early) != sampleOneIn {
		t.Errorf("%d ends of payments were told", len(e.early))
	}
	e.decide(3)
	e.decide(1000)
	if e.missing() != 1 {
		t.Errorf("%d decisions were not told, want the one", e.missing())
	}
}

func TestThinKeepsThePayments(t *testing.T) {
	samples := thin([]Sample{{Seconds: 1, PaymentsPerSecond: 10}, {Seconds: 2, PaymentsPerSecond: 30}, {Seconds: 3, PaymentsPerSecond: 5}, {Seconds: 5, PaymentsPerSecond: 20}})
	if len(samples) != 2 || samples[0].PaymentsPerSecond != 20 || samples[1].PaymentsPerSecond != 15 || samples[1].Seconds != 5 {
		t.Errorf("%+v", samples)
	}
}

func TestPlots(t *testing.T) {
	run := func(concurrency, rate int, perSecond float64) Plotted {
		return Plotted{Concurrency: concurrency, Rate: rate, Machine: "2 cores (a < b & c)", Result: &Result{
			Seconds: 2, PaymentsPerSecond: perSecond, CallMillis: Latency{P50: 0.4, P99: 7, P999: 1234.5},
			Samples: []Sample{{Seconds: 1, PaymentsPerSecond: perSecond, MemoryMiB: map[string]int64{Gateway: 40, "load": 20}}, {Seconds: 2, MemoryMiB: map[string]int64{Gateway: 41, "load": 20}}},
		}}
	}
	plots := Plot([]Plotted{run(64, 0, 2000), run(1, 0, 300), run(64, 500, 500), run(64, 1000, 999)})
	want := map[string][]string{
		"rate-by-concurrency.svg": {"payers at once", "whole payments a second", ">2,000<", ">32<", `class="value" text-anchor="end">2,000<`, "2 cores (a &lt; b &amp; c)"},
		"latency-by-rate.svg":     {"payments begun a second", "milliseconds", "p99.9", ">0.1<", ">10,000<"}, // it ends at written values
		"rate-over-time.svg":      {"seconds"},
		"memory-over-time.svg":    {"MiB", "gateway", "load", "write-ahead log"},
	}
	if len(plots) != len(want) {
		t.Errorf("%d plots, want %d", len(plots), len(want))
	}
	for name, words := range want {
		svg := plots[name]
		for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s is not well-formed: %v", name, err)
			}
		}
		for _, word := range words {
			if !bytes.Contains(svg, []byte(word)) {
				t.Errorf("%s does not say %q", name, word)
			}
		}
		if bytes.Contains(svg, []byte("NaN")) || bytes.Contains(svg, []byte("Inf")) {
			t.Errorf("%s has no place for a point", name)
		}
	}
	if plots := Plot([]Plotted{run(64, 0, 2000)}); len(plots) != 2 {
		t.Errorf("of one run there are %d plots, want those over time", len(plots))
	}
	if plots := Plot(nil); len(plots) != 0 {
		t.Errorf("of no run there are %d plots", len(plots))
	}
}
