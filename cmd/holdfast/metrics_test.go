package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"holdfast"
	"holdfast/internal/merchant"
	"holdfast/internal/metrics"
	"holdfast/internal/postgrestest"
)

// scraped is what was told by one scrape: values by name and labels, as a{b="c"}.
type scraped map[string]float64

// read reads a scrape, and the labels of each metric.
func readScrape(t *testing.T, text string) (values scraped, labels map[string][]string) {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	values, labels = make(scraped), make(map[string][]string)
	for name, family := range families {
		for _, m := range family.Metric {
			var names, pairs []string
			for _, l := range m.Label {
				names, pairs = append(names, l.GetName()), append(pairs, l.GetName()+`="`+l.GetValue()+`"`)
			}
			labels[name] = names
			key := name
			if len(pairs) > 0 {
				key += "{" + strings.Join(pairs, ",") + "}"
			}
			switch family.GetType() {
			case dto.MetricType_HISTOGRAM:
				values[key] = float64(m.Histogram.GetSampleCount())
			case dto.MetricType_COUNTER:
				values[key] = m.Counter.GetValue()
			default:
				values[key] = m.GetGauge().GetValue()
			}
		}
	}
	return values, labels
}

// has says what of want is not so.
func (s scraped) lacks(want scraped) (missing []string) {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if is, ok := s[key]; !ok || is != want[key] {
			missing = append(missing, key)
		}
	}
	return missing
}

// of is what there is of one metric, but for what is 0.
func (s scraped) of(name string) scraped {
	found := make(scraped)
	for key, value := range s {
		if (key == name || strings.HasPrefix(key, name+"{")) && value != 0 {
			found[key] = value
		}
	}
	return found
}

// TestMetrics plays payments with a wrong secret, a wrong code, a centre that is silent and shops that do not answer through the
// program: what is told is exactly what happened, and nothing of what is nobody's business.
func TestMetrics(t *testing.T) {
	address := postgrestest.FreeAddress(t)
	t.Setenv("HOLDFAST_METRICS_LISTEN", address)
	var refusals atomic.Int64
	refusals.Store(1)
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var told holdfast.Notification
		if err := json.NewDecoder(r.Body).Decode(&told); err != nil {
			t.Error(err)
		}
		if told.Status == holdfast.StatusSucceeded && refusals.Add(-1) >= 0 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer shop.Close()
	s := newStage(t)
	secret := newCanaries()
	secret.add("the shop's secret", s.shop.Secret)
	secret.add("the shop's key", s.shop.UniqueKey)
	var text string
	scrape := func() scraped {
		t.Helper()
		res, err := http.Get("http://" + address + metrics.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		all, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
			t.Fatalf("%s, %v: %s", res.Status, err, all)
		}
		text += string(all)
		values, _ := readScrape(t, string(all))
		return values
	}
	// until scrapes until this is so.
	until := func(want scraped) (last scraped) {
		t.Helper()
		s.until(fmt.Sprintf("the metrics are %v", want), func() bool {
			last = scrape()
			return len(last.lacks(want)) == 0
		})
		return last
	}

	ctx, client, card, other := t.Context(), s.client(), s.card(0), s.card(1)
	request := prepare("order-86003132")
	request.NotifyURL = shop.URL + "/private-path"
	state, err := client.Prepare(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	s.payWith(state.PaymentUUID, card)
	secret.codes[string(s.code(card))] = true
	for what, word := range map[string]string{"a card": card.PAN, "another": other.PAN, "a payment": state.PaymentUUID, "a path": "/private-path", "a name": "order-86003132", "a shop's address": shop.URL} {
		secret.add(what, word)
	}
	wrong := func(err error, want holdfast.Code) {
		t.Helper()
		var refused *holdfast.Error
		if !errors.As(err, &refused) || refused.Code != want {
			t.Fatalf("answered was %v, want %s", err, want.Info().Name)
		}
	}
	stranger := s.client()
	stranger.Secret = "24c5ec66-ae32-4db5-bee6-0ae5c47067a1"
	secret.add("a stranger's secret", string(stranger.Secret))
	_, err = stranger.Accept(ctx, holdfast.AcceptRequest{PaymentUUID: state.PaymentUUID, AcceptStatus: holdfast.AcceptCancel})
	wrong(err, holdfast.CodeWrongSecret)

	// A shop that is not there, and a wrong code.
	dead, err := client.Prepare(ctx, prepare("dead"))
	if err != nil {
		t.Fatal(err)
	}
	entity, err := client.Pay(ctx, dead.PaymentUUID, pay(other))
	if err != nil {
		t.Fatal(err)
	}
	info, err := client.VerificationInfo(ctx, dead.PaymentUUID)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CheckSMSKey(ctx, holdfast.CheckSMSKeyRequest{SMSKey: "000000", PaymentID: entity.ID, VerifyID: info.VerifyID})
	wrong(err, holdfast.CodeWrongCode)
	for _, path := range []string{"/4111111111111111", "/pay/4111111111111111/" + state.PaymentUUID} { // what others make up is in no label
		res, err := http.Post("http://"+s.listen+path, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	secret.add("a path", "4111111111111111")

	// The centre takes the capture and says nothing.
	s.fault(map[string]any{"method": "hold.dismiss.charge", "fault": "answer_lost"})
	s.fault(map[string]any{"method": "trans.ext", "fault": "garbage", "times": 1000})
	wrong(s.accept(state.PaymentUUID, "600.00"), holdfast.CodeOutcomeUnknown)
	inDoubt := until(scraped{`holdfast_payments_in_doubt{test="true"}`: 1, `holdfast_payments_in_doubt{test="false"}`: 0, `holdfast_payments_for_person{test="true"}`: 0})
	if age := inDoubt[`holdfast_oldest_doubt_age_seconds{test="true"}`]; age <= 0 || age > 120 {
		t.Errorf("it has been in doubt for %v seconds", age)
	}
	clear, err := http.NewRequestWithContext(ctx, http.MethodDelete, s.sim.URL+"/sim/faults", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(clear)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	s.says("answered", "doubt", "ask", state.PaymentUUID)

	told := until(scraped{
		`holdfast_payments_in_doubt{test="true"}`: 0, `holdfast_oldest_doubt_age_seconds{test="true"}`: 0,
		// The code is awaited, a decision is, and the money is taken: that the shop refused at first.
		`holdfast_notification_attempts_total{result="taken"}`: 3, `holdfast_notification_attempts_total{result="refused"}`: 1, `holdfast_notification_attempts_total{result="unsent"}`: 0,
		`holdfast_notifications_given_up_total`: 0, `holdfast_notifications_waiting`: 1,
		`holdfast_ready`: 1, `holdfast_store_failed`: 0, `holdfast_store_away`: 0, `holdfast_reconciling`: 0, `holdfast_store_operations_failed_total`: 0,
	})
	if told[`holdfast_notification_attempts_total{result="unanswered"}`] < 1 {
		t.Error("nobody has tried to tell the shop that is not there")
	}
	requests := told.of("holdfast_requests_total")
	maps.DeleteFunc(requests, func(key string, _ float64) bool { return strings.Contains(key, `part="health"`) }) // the stage asks until it is ready
	call := func(part, status, name string) string {
		return `holdfast_requests_total{error="` + name + `",part="` + part + `",status="` + status + `"}`
	}
	want := scraped{
		call("prepare_payment", "200", "ok"): 2, call("pay", "200", "ok"): 2, call("verificationInfo", "200", "ok"): 2,
		call("check_sms_key", "200", "ok"): 1, call("check_sms_key", "200", "wrong_code"): 1,
		call("set_accept", "200", "wrong_secret"): 1, call("set_accept", "200", "outcome_unknown"): 1,
		call("other", "404", "not_found"): 1, call("pay", "404", "not_found"): 1,
	}
	if !maps.Equal(requests, want) {
		t.Errorf("requests are %v, want %v", requests, want)
	}
	if n := told[`holdfast_request_seconds{part="pay"}`]; n != 3 {
		t.Errorf("%v calls of pay were timed", n)
	}
	asked := told.of("holdfast_questions_total")
	question := func(operation, ask, outcome, reason string) string {
		return `holdfast_questions_total{ask="` + ask + `",contract="uzcard",operation="` + operation + `",outcome="` + outcome + `",reason="` + reason + `",test="true"}`
	}
	delete(asked, question("capture", "query", "unknown", "")) // as often as it was asked about in vain
	want = scraped{
		question("challenge", "send", "challenged", ""): 2, question("verify", "send", "approved", ""): 1, question("verify", "send", "refused", "wrong_code"): 1,
		question("hold", "send", "approved", ""): 1, question("capture", "send", "unknown", ""): 1, question("capture", "query", "approved", ""): 1,
	}
	if !maps.Equal(asked, want) {
		t.Errorf("questions are %v, want %v", asked, want)
	}
	if n := told[`holdfast_question_seconds{contract="uzcard",operation="hold",test="true"}`]; n != 1 {
		t.Errorf("%v holds were timed", n)
	}
	if told["holdfast_store_commits_total"] == 0 || told["holdfast_store_commit_seconds"] < told["holdfast_store_commits_total"] || told[`holdfast_store_file_bytes{file="log"}`] == 0 {
		t.Errorf("of the store it says %v", told)
	}
	for _, found := range secret.scan([]byte(text)) {
		t.Errorf("it tells %s", found)
	}
	documented := documentedMetrics(t)
	_, labels := readScrape(t, text[strings.LastIndex(text, "# HELP go_gc_duration_seconds"):]) // of the last scrape
	for name, its := range labels {
		switch row, there := documented[name]; {
		case strings.HasPrefix(name, "go_"), strings.HasPrefix(name, "process_"):
		case !there:
			t.Errorf("docs/operating.md has no row for %s", name)
		case !slices.Equal(slices.Sorted(slices.Values(row)), its):
			t.Errorf("%s has the labels %q, and in docs/operating.md %q", name, its, row)
		}
	}
	for name := range documented {
		if _, there := labels[name]; !there {
			t.Errorf("docs/operating.md has a row for %s, which is not told", name)
		}
	}
	for path, want := range map[string]int{"/": http.StatusNotFound, "/debug/pprof/": http.StatusNotFound, "/prepare_payment": http.StatusNotFound, "/readyz": http.StatusNotFound} {
		res, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s is answered with %s", path, res.Status)
		}
	}
}

// TestMetricsHoldUpNoStop: whoever asks for them and does not read what is told does not keep the process from ending.
func TestMetricsHoldUpNoStop(t *testing.T) {
	address := postgrestest.FreeAddress(t)
	t.Setenv("HOLDFAST_METRICS_LISTEN", address)
	s := newStage(t)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// It takes no more requests once nothing more of its answers goes out.
	requests := []byte(strings.Repeat("GET "+metrics.Path+" HTTP/1.1\r\nHost: x\r\n\r\n", 1000))
	for err == nil {
		if err = c.SetWriteDeadline(time.Now().Add(2 * time.Second)); err == nil {
			_, err = c.Write(requests)
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	began := time.Now()
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.process.Wait(); err != nil {
		t.Error(err)
	}
	s.process = nil
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it ended %s after it was told to", took)
	}
}

// documentedMetrics are the rows of docs/operating.md: names and labels.
func documentedMetrics(t *testing.T) map[string][]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string][]string)
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`holdfast_") {
			continue
		}
		labels := strings.FieldsFunc(cells[3], func(r rune) bool { return strings.ContainsRune(" `,–", r) })
		rows[strings.Trim(cells[1], " `")] = labels
	}
	if len(rows) < 20 {
		t.Fatalf("docs/operating.md has %d metrics", len(rows))
	}
	return rows
}

// TestMetricsWhileTheDatabaseIsAway: it says so, within bounds; what it cannot read it leaves out, until it can again.
func TestMetricsWhileTheDatabaseIsAway(t *testing.T) {
	server := postgrestest.Start(t)
	db := server.Database(t)
	s := newStageOn(t, db, "error", nil)
	g := s.inProcess()
	told := g.metrics(slog.New(slog.DiscardHandler))
	const within = 5 * time.Second
	scrape := func() scraped {
		t.Helper()
		began, w := time.Now(), httptest.NewRecorder()
		told.ServeHTTP(w, httptest.NewRequest(http.MethodGet, metrics.Path, nil))
		if took := time.Since(began); took > within || w.Code != http.StatusOK {
			t.Errorf("it answered with %d after %s", w.Code, took)
		}
		values, _ := readScrape(t, w.Body.String())
		return values
	}
	until := func(what string, is func(scraped) bool) {
		t.Helper()
		s.until(what, func() bool { return is(scrape()) })
	}
	const waits = `holdfast_payments_in_doubt{test="false"}`
	if missing := scrape().lacks(scraped{"holdfast_ready": 1, "holdfast_store_away": 0, waits: 0, "holdfast_notifications_waiting": 0}); len(missing) > 0 {
		t.Fatalf("at first it is not so: %q", missing)
	}
	postgrestest.Refuse(t, db, "shops", postgrestest.AtStatement, "53100", 0, math.MaxInt32) // its disk is full
	refused := 0.0
	s.until("a scrape on a full disk", func() bool { // which it is for some seconds after a shop could not be made
		if _, err := g.store.CreateShop(t.Context(), merchant.Shop{Name: "Toys"}); err == nil {
			t.Fatal("a shop is made on a full disk")
		}
		refused++
		return len(scrape().lacks(scraped{"holdfast_ready": 0, "holdfast_store_away": 1, "holdfast_store_failed": 0, "holdfast_store_operations_failed_total": refused})) == 0
	})
	server.Kill(t)
	until("a scrape without what cannot be read", func(told scraped) bool {
		_, known := told[waits]
		_, commits := told["holdfast_store_commits_total"]
		return !known && commits && told["holdfast_ready"] == 0
	})
	server.Restart(t)
	until("a scrape when it is there again", func(told scraped) bool {
		n, known := told[waits]
		return known && n == 0 && told["holdfast_ready"] == 1
	})
}
