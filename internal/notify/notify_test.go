package notify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/notify"
	"holdfast/internal/payment"
	"holdfast/internal/sim"
	"holdfast/internal/store"
	"holdfast/internal/web"
	"holdfast/internal/web/api"
)

// allowed are the only keys that a notification may have; the first five it always has (contract §6).
var allowed = strings.Fields(`shop_transaction_id octo_payment_UUID status signature hash_key
	total_sum transfer_sum refunded_sum card_country maskedPan rrn riskLevel payed_time card_type is_physical_card currency card_vendor`)

// Every change of status is told, in order, with these keys and no others, signed in both ways (the
// merchant's server verifies them with the public package).
func TestStatuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	for _, c := range []struct {
		name string
		play func(url string) payment.Payment
		want []string
	}{
		{"two stages, captured", func(url string) payment.Payment { return w.decide(w.hold(w.prepare(url, false)), payment.Capture) },
			[]string{"wait_user_action", "waiting_for_capture", "succeeded"}},
		{"two stages, canceled", func(url string) payment.Payment { return w.decide(w.hold(w.prepare(url, false)), payment.Cancel) },
			[]string{"wait_user_action", "waiting_for_capture", "canceled"}},
		{"one stage", func(url string) payment.Payment { return w.hold(w.prepare(url, true)) },
			[]string{"wait_user_action", "succeeded"}},
		{"canceled before it was paid", func(url string) payment.Payment { return w.decide(w.prepare(url, true), payment.Cancel) },
			[]string{"canceled"}},
	} {
		s := w.newShopServer(nil)
		p := c.play(s.url)
		w.deliver()
		if got := s.statuses(); !slices.Equal(got, c.want) {
			t.Errorf("%s: told %v, want %v", c.name, got, c.want)
		}
		hashes := make(map[string]bool)
		for i, n := range s.all() {
			var keys map[string]json.RawMessage
			check(t, json.Unmarshal(n.body, &keys))
			for key := range keys {
				if !slices.Contains(allowed, key) {
					t.Errorf("%s: the key %s may not be there: %s", c.name, key, n.body)
				}
			}
			for _, key := range allowed[:5] {
				if _, ok := keys[key]; !ok {
					t.Errorf("%s: %s is missing: %s", c.name, key, n.body)
				}
			}
			if n.ShopTransactionID != p.Terms.ShopPaymentID || n.PaymentUUID != p.ID.String() || n.TotalSum != "1000.00" || n.Currency != "UZS" || n.RefundedSum != "0.00" {
				t.Errorf("%s: %s", c.name, n.body)
			}
			if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(n.HashKey) || hashes[n.HashKey] {
				t.Errorf("%s: hash_key is %s, want a fresh UUID", c.name, n.HashKey)
			}
			hashes[n.HashKey] = true
			if p.Attempt != nil && (n.MaskedPAN != "860031** **** 1293" || n.CardType != "uzcard" || n.CardCountry != "UZ" || n.RiskLevel == nil || *n.RiskLevel != 0) {
				t.Errorf("%s: %s", c.name, n.body)
			}
			paid := n.Status == "succeeded"
			if paid != (n.TransferSum == "980.00") || paid != (n.PayedTime == "2026-11-23 09:17:00") {
				t.Errorf("%s: %s", c.name, n.body)
			}
			if want := fmt.Sprintf("%s.%d", p.ID, i+1); n.header.Get(holdfast.HeaderWebhookID) != want || notify.WebhookID(p.ID, i+1) != want {
				t.Errorf("%s: webhook-id is %s, want %s", c.name, n.header.Get(holdfast.HeaderWebhookID), want)
			}
			if n.header.Get("Holdfast-Attempt") != "1" || !strings.HasPrefix(n.header.Get("Content-Type"), "application/json") {
				t.Errorf("%s: %v", c.name, n.header)
			}
		}
	}
	w.audit()
}

// gaps refuses or ignores an event until nothing more is sent, and returns the pauses between the attempts.
func (w *world) gaps(s *shopServer) (pauses []time.Duration) {
	w.t.Helper()
	for range 400 {
		before := len(s.all())
		n, err := w.notifier.Step(context.Background())
		check(w.t, err)
		if n != 1 || len(s.all()) != before+1 {
			w.t.Fatalf("%d events were sent after %v", n, pauses)
		}
		pause, waits := w.next()
		if !waits {
			return pauses
		}
		pauses = append(pauses, pause)
	}
	return pauses
}

// The schedules, as published. They are written once more here, so that a change is meant.
func TestSchedule(t *testing.T) {
	t.Parallel()
	backoff := []time.Duration{5e9, 15e9, 60e9, 120e9, 300e9, 900e9, 1800e9, 3600e9, 7200e9, 14400e9, 21600e9}
	ask := []time.Duration{50e9, 50e9, 50e9, 50e9, 50e9, 50e9, 120e9, 120e9, 120e9, 120e9, 600e9}
	if !slices.Equal(notify.Backoff, backoff) || !slices.Equal(notify.Ask, ask) || notify.GiveUp != 72*time.Hour {
		t.Error("the published schedule has changed: change this test with it, and run make docs")
	}

	// A status that is refused: the pauses of Backoff, the last one repeating, for three days.
	w := newWorld(t, false)
	s := w.newShopServer(always(500, ""))
	p := w.decide(w.prepare(s.url, true), payment.Cancel)
	begun := w.now()
	pauses := w.gaps(s)
	var sum time.Duration
	for i, pause := range pauses {
		sum += pause
		if want := notify.Backoff[min(i, len(notify.Backoff)-1)]; pause != want {
			t.Errorf("pause %d is %v, want %v", i+1, pause, want)
		}
	}
	if last := notify.Backoff[len(notify.Backoff)-1]; sum > notify.GiveUp || sum+last <= notify.GiveUp {
		t.Errorf("it was tried for %v", sum)
	}
	e := w.events(p.ID)[0]
	if e.Outcome != "gave up" || e.Attempts != len(pauses)+1 || len(e.Deliveries) != e.Attempts || e.Deliveries[0].Note != "answered 500" {
		t.Errorf("the event ended as %q after %d attempts (%d on record)", e.Outcome, e.Attempts, len(e.Deliveries))
	}
	ids := make(map[string]bool)
	for i, n := range s.all() {
		ids[n.header.Get(holdfast.HeaderWebhookID)] = true
		if n.header.Get("Holdfast-Attempt") != fmt.Sprint(i+1) || n.header.Get(holdfast.HeaderWebhookTimestamp) != fmt.Sprint(n.at.Unix()) {
			t.Errorf("attempt %d: %v", i+1, n.header)
		}
	}
	if len(ids) != 1 {
		t.Errorf("the repeats have different ids: %v", ids)
	}
	if !s.all()[0].at.Equal(begun) {
		t.Errorf("the first attempt came %v late", s.all()[0].at.Sub(begun))
	}

	// A request for a decision that gets none: the pauses of Ask, until the deadline. Any 2xx accepts it;
	// it repeats all the same.
	w = newWorld(t, false)
	quiet := w.newShopServer(nil)
	p = w.prepare(quiet.url, false)
	w.challenge(p)
	w.deliver()
	p = w.hold(p)
	quiet.told = nil
	for i := range 2 * len(notify.Ask) {
		if n, err := w.notifier.Step(t.Context()); n != 1 || err != nil {
			t.Fatalf("repeat %d: %d events were sent, %v", i, n, err)
		}
		pause, _ := w.next()
		if want := notify.Ask[min(i, len(notify.Ask)-1)]; pause != want {
			t.Errorf("repeat %d comes after %v, want %v", i+1, pause, want)
		}
	}
	if got := w.payment(p.ID); got.State != payment.Held || got.Decision != nil {
		t.Errorf("the payment is %s, %v", got.State, got.Decision)
	}
	// At the deadline the gateway decides; the request ends and the last word is told.
	w.offset.add(w.payment(p.ID).HoldDeadline.Sub(w.now()))
	_, err := w.gateway.Step(t.Context())
	check(t, err)
	before := len(quiet.all())
	w.deliver()
	if got := quiet.statuses()[before:]; !slices.Equal(got, []string{"canceled"}) {
		t.Errorf("after the deadline %v was told, want canceled", got)
	}
	if _, waits, _ := w.store.NextEvent(t.Context()); waits {
		t.Error("something still waits to be told")
	}
	w.audit()
}

// What is sent again by hand is an attempt like any other, signed as ever, and what comes after it is as after any other: the
// pause that the schedule has for so many attempts, and no further one where the event is older than it is tried. It can be
// sent again as often as somebody wants.
func TestSentAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	s := w.newShopServer(nil)
	p := w.decide(w.prepare(s.url, true), payment.Cancel)
	begun := w.now()
	again := func(answer int, want string, next time.Duration) {
		t.Helper()
		s.answer = always(answer, "")
		before := len(s.all())
		_, err := w.store.SendAgain(t.Context(), p.ID)
		check(t, err)
		w.deliver()
		all, e := s.all(), w.events(p.ID)[0]
		if len(all) != before+1 || all[before].header.Get("Holdfast-Attempt") != fmt.Sprint(before+1) || all[before].header.Get(holdfast.HeaderWebhookID) != notify.WebhookID(p.ID, 1) {
			t.Fatalf("after %d it came %d times, %v", before, len(all), all[before:])
		}
		if e.Outcome != want || next == 0 != e.NextAt.IsZero() || next > 0 && e.NextAt.Sub(w.now()) != next || len(e.Deliveries) != before+1 {
			t.Errorf("attempt %d: %+v, want %q and the next one in %s", before+1, e, want, next)
		}
	}
	w.deliver()
	again(200, "delivered", 0)
	again(503, "", notify.Backoff[2]) // within the time that it is tried for: on the schedule
	w.next()
	w.deliver()
	again(200, "delivered", 0)
	w.offset.add(begun.Add(notify.GiveUp).Sub(w.now()) - notify.Backoff[5])
	again(503, "", notify.Backoff[5]) // the last pause that it is tried for
	w.next()
	again(503, "gave up", 0)
	w.offset.add(30 * 24 * time.Hour)
	again(503, "gave up", 0)
	again(200, "delivered", 0)
	if _, waits := w.next(); waits {
		t.Error("something still waits to be told")
	}

	// Asked again for a decision, the shop gets the pauses that it would have got; its answer decides, as ever.
	quiet := w.newShopServer(func(n told) (int, string) {
		if n.Status == "waiting_for_capture" {
			return 200, `{"accept_status":"wait_user_action"}`
		}
		return 200, ""
	})
	p = w.hold(w.prepare(quiet.url, false))
	w.deliver()
	if e := w.events(p.ID)[1]; e.Outcome != "left to set_accept" {
		t.Fatalf("%+v", e)
	}
	quiet.answer = always(200, "")
	_, err := w.store.SendAgain(t.Context(), p.ID)
	check(t, err)
	w.deliver()
	if e := w.events(p.ID)[1]; e.Attempts != 2 || e.NextAt.Sub(w.now()) != notify.Ask[1] {
		t.Errorf("asked again: %+v", e)
	}
	quiet.answer = always(200, `{"accept_status":"capture"}`)
	_, err = w.store.SendAgain(t.Context(), p.ID)
	check(t, err)
	w.deliver()
	if got := w.payment(p.ID); got.State != payment.Captured || got.Decision.By != payment.ByNotification {
		t.Errorf("it is %s, decided %+v", got.State, got.Decision)
	}
	w.audit()
}

// A merchant whose server is not there is asked to decide as one is who does not answer the question: at the pauses of Ask,
// and until the hold ends.
func TestAskedWhereNobodyIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	w.shop.Settings.HoldSeconds = map[string]int64{"uzcard": int64((notify.GiveUp + 24*time.Hour) / time.Second)} // longer than other events are tried
	// The kernel gives this port to nobody. One that was free a moment ago it would give to the next server, be it of another test.
	p := w.hold(w.prepare("http://127.0.0.1:9/notify", false))
	attempts := 0
	for w.now().Before(p.HoldDeadline) {
		_, err := w.notifier.Step(t.Context())
		check(t, err)
		events := w.events(p.ID)
		switch e := events[len(events)-1]; {
		case e.Status != payment.StatusWaitingForCapture:
			t.Fatal(e.Status)
		case e.NextAt.IsZero():
			t.Fatalf("%q after %d attempts, %v before the end of the hold", e.Outcome, e.Attempts, p.HoldDeadline.Sub(w.now()))
		case e.Attempts > attempts:
			attempts = e.Attempts
			if pause, want := e.NextAt.Sub(w.now()), notify.Ask[min(attempts, len(notify.Ask))-1]; pause > want || pause < want-time.Second {
				t.Errorf("repeat %d comes after %v, want %v", attempts, pause, want)
			}
			if last := e.Deliveries[len(e.Deliveries)-1]; last.Status != 0 || last.Note == "" {
				t.Errorf("attempt %d is noted as %+v", attempts, last)
			}
		}
		w.next()
	}
	if p.HoldDeadline.Sub(p.CreatedAt) <= notify.GiveUp || attempts <= len(notify.Ask) {
		t.Errorf("it was asked %d times only, of a hold until %s", attempts, p.HoldDeadline)
	}
}

// What the merchant's answer decides while money is held, exactly as set_accept would.
func TestAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	const nothing, stops = "", "stops"
	long := strings.Repeat(" ", 65<<10)
	for _, c := range []struct {
		status int
		body   string
		want   string // capture SUM, cancel, stops (no repeats), or nothing
	}{
		{200, `{"accept_status":"capture"}`, "capture 1000.00"},
		{200, `{"accept_status":"capture","final_amount":1000.00}`, "capture 1000.00"},
		{200, `{"accept_status":"capture","final_amount":400.5}`, "capture 400.50"},
		{200, `{"accept_status":"capture","final_amount":"400.50"}`, "capture 400.50"},
		{200, `{"accept_status":"capture","final_amount":" 400.5000 "}`, "capture 400.50"},
		{200, `{"accept_status":"capture","final_amount":4e2}`, "capture 400.00"},
		{200, `{"accept_status":"capture","final_amount":"\u0034\u0030"}`, "capture 40.00"},
		{200, `{"accept_status":"capture","final_amount":null}`, "capture 1000.00"},
		{200, `{"accept_status":"capture","final_amount":""}`, "capture 1000.00"},
		{201, `{"accept_status":"capture","extra":[1,{}],"final_amount":1}`, "capture 1.00"},
		{200, "\ufeff" + `{"accept_status":"capture","final_amount":400}`, "capture 400.00"}, // a byte order mark
		{200, `{"accept_status":"\u0063apture"}`, "capture 1000.00"},
		{200, `{"accept_status":"cancel"}`, "cancel"},
		{200, `{"accept_status":"cancel","final_amount":5}`, "cancel"}, {200, `{"accept_status":"cancel","final_amount":"all"}`, "cancel"},
		{299, `{"accept_status":"cancel"}`, "cancel"},
		{200, `{"accept_status":"wait_user_action"}`, stops},
		{200, `{"accept_status":"waiting_user_action","final_amount":7}`, stops},

		{200, `{}`, nothing}, {200, ``, nothing}, {204, ``, nothing}, {200, `{"status":"ok"}`, nothing}, {200, `null`, nothing}, {200, `[]`, nothing}, {200, `"capture"`, nothing},
		{200, `capture`, nothing}, {200, `OK`, nothing}, {200, `<html>capture</html>`, nothing},
		{200, `{"accept_status":"completed"}`, nothing}, {200, `{"accept_status":"CAPTURE"}`, nothing}, {200, `{"accept_status":" capture"}`, nothing},
		{200, `{"accept_status":null}`, nothing}, {200, `{"accept_status":true}`, nothing}, {200, `{"accept_status":["capture"]}`, nothing}, {200, `{"Accept_Status":"capture"}`, nothing},
		{200, `{"data":{"accept_status":"capture"}}`, nothing}, {200, `{"accept_status":"capture"`, nothing}, {200, `{"accept_status":"capture"}{}`, nothing},
		{200, `{"accept_status":"capture","accept_status":"cancel"}`, nothing}, {200, "{\"accept_status\":\"capture\",\"x\":\"\xff\"}", nothing},
		{200, `{"accept_status":"capture","final_amount":1000.01}`, nothing}, {200, `{"accept_status":"capture","final_amount":0}`, nothing},
		{200, `{"accept_status":"capture","final_amount":-5}`, nothing}, {200, `{"accept_status":"capture","final_amount":1.001}`, nothing},
		{200, `{"accept_status":"capture","final_amount":"all"}`, nothing}, {200, `{"accept_status":"capture","final_amount":[5]}`, nothing},
		{200, `{"accept_status":"capture","final_amount":true}`, nothing}, {200, `{"accept_status":"capture","final_amount":1e400}`, nothing},
		{200, `{"accept_status":"capture"}` + long, nothing}, // more than is read of an answer
		{400, `{"accept_status":"capture"}`, nothing}, {404, `{"accept_status":"cancel"}`, nothing}, {500, `{"accept_status":"capture"}`, nothing},
		{302, `{"accept_status":"capture"}`, nothing}, {401, ``, nothing},
	} {
		s := w.newShopServer(func(n told) (int, string) {
			if n.Status != "waiting_for_capture" {
				return 200, `{"accept_status":"cancel"}` // decides nothing at any other time
			}
			return c.status, c.body
		})
		p := w.hold(w.prepare(s.url, false))
		w.deliver()
		name := fmt.Sprintf("HTTP %d %.80s", c.status, c.body)
		asked := slices.Index(s.statuses(), "waiting_for_capture")
		if asked < 0 {
			t.Fatalf("%s: no decision was asked for: %v", name, s.statuses())
		}
		p = w.payment(p.ID)
		got := nothing
		if d := p.Decision; d != nil {
			if got = string(d.Accept); d.Accept == payment.Capture {
				got += " " + d.Amount.Decimal()
			}
			if d.By != payment.ByNotification || !p.State.Terminal() {
				t.Errorf("%s: decided by %s, the state is %s", name, d.By, p.State)
			}
		}
		_, repeats := w.next()
		if got == nothing && !repeats {
			got = stops
		}
		for _, e := range w.events(p.ID) {
			outcome := map[string]string{nothing: "", stops: "left to set_accept"}
			if want, undecided := outcome[c.want]; e.Status == payment.StatusWaitingForCapture && e.Outcome != want && (undecided || e.Outcome != "decided") {
				t.Errorf("%s: the request for a decision ended as %q", name, e.Outcome)
			}
			for _, d := range e.Deliveries {
				if e.Status == payment.StatusWaitingForCapture && c.want == nothing && d.Note == "" {
					t.Errorf("%s: nobody is told why it decides nothing", name)
				}
			}
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q (%+v)", name, got, c.want, w.events(p.ID))
		}
		if want := map[bool]string{true: "succeeded", false: "canceled"}[p.State == payment.Captured]; p.Decision != nil && !slices.Contains(s.statuses(), want) {
			t.Errorf("%s: %v was told, and not %s", name, s.statuses(), want)
		}
		if p.Decision == nil {
			// set_accept decides later, whatever the answers said; then nothing waits any more.
			w.decide(p, payment.Cancel)
			for range 10 {
				w.deliver()
				if _, waits := w.next(); !waits {
					break
				}
			}
			if _, waits := w.next(); waits {
				t.Errorf("%s: something still waits to be told after the decision: %+v", name, w.events(p.ID))
			}
		}
	}
	w.audit()
}

// The merchant may call set_accept about the payment while our notification is still open; and then his answer
// says the same or the opposite.
func TestSetAcceptWithinNotification(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	quiet := slog.New(slog.DiscardHandler)
	site := web.Site{API: api.New(api.Config{Gateway: w.gateway, Store: w.store, PayURL: "https://pay.example", Log: quiet}), Calls: api.Calls, Ready: w.store.Err, Log: quiet}
	server := httptest.NewServer(site.Handler())
	defer server.Close()
	client := holdfast.Client{BaseURL: server.URL, ShopID: w.shop.ID, Secret: holdfast.Secret(w.secret)}
	for answer, want := range map[string]struct{ outcome, note string }{
		`{}`:                          {"delivered", "the answer has no accept_status: nothing was decided"},
		`{"accept_status":"capture"}`: {"decided", "the answer says capture, but capture was decided before"},
		`{"accept_status":"capture","final_amount":300}`: {"decided", "the answer decided: capture"},
		`{"accept_status":"cancel"}`:                     {"decided", "the answer says cancel, but capture was decided before"},
		`{"accept_status":"wait_user_action"}`:           {"left to set_accept", ""},
	} {
		var failed atomic.Value
		s := w.newShopServer(func(n told) (int, string) {
			if n.Status != "waiting_for_capture" {
				return 200, ""
			}
			state, err := client.Accept(context.Background(), holdfast.AcceptRequest{PaymentUUID: n.PaymentUUID, AcceptStatus: holdfast.AcceptCapture, FinalAmount: "300"})
			if err != nil || state.Status != "succeeded" {
				failed.Store(fmt.Sprint(state, err))
			}
			return 200, answer
		})
		p := w.hold(w.prepare(s.url, false))
		w.deliver()
		if failed.Load() != nil {
			t.Errorf("set_accept within the notification: %v", failed.Load())
		}
		p = w.payment(p.ID)
		if p.Captured != money.New(30_000, money.UZS) || p.Decision.By != payment.ByMerchant {
			t.Errorf("answered %s: captured is %s by %s", answer, p.Captured, p.Decision.By)
		}
		if got := s.statuses(); got[len(got)-1] != "succeeded" {
			t.Errorf("answered %s: told %v", answer, got)
		}
		if e := w.events(p.ID)[1]; e.Outcome != want.outcome || len(e.Deliveries) != 1 || e.Deliveries[0].Note != want.note {
			t.Errorf("answered %s: %q, %+v, want %+v", answer, e.Outcome, e.Deliveries, want)
		}
	}
	w.audit()
}

// A decision that is in doubt at the centre is one: who took the request within which it came is not asked again, and who
// did not take it gets it by the schedule of what is refused.
func TestDecidedWithinAndInDoubt(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]time.Duration{200: 0, 500: notify.Backoff[0]} {
		w := newWorld(t, false)
		s := w.newShopServer(nil)
		s.answer = func(n told) (int, string) {
			if n.Status != "waiting_for_capture" {
				return 200, ""
			}
			id, err := payment.ParseID(n.PaymentUUID)
			check(t, err)
			check(t, w.sim.AddFault(sim.Fault{Method: "hold.dismiss.charge", Name: "answer_lost"}))
			if p := w.decide(w.payment(id), payment.Capture); p.Open == nil || p.State != payment.Held {
				t.Errorf("it is %s, and not in doubt", p.State)
			}
			return status, ""
		}
		p := w.hold(w.prepare(s.url, false))
		w.deliver()
		e := w.events(p.ID)[1]
		if pause := max(e.NextAt.Sub(w.now()), 0); e.Attempts != 1 || pause != want || status == 200 && e.Outcome != "delivered" {
			t.Errorf("answered %d: %q after %d attempts, again in %v, want %v", status, e.Outcome, e.Attempts, pause, want)
		}
	}
}

// A merchant who refuses one status for ever still gets the later ones, in their order.
func TestRefusedStatus(t *testing.T) {
	t.Parallel()
	for _, refused := range []string{"wait_user_action", "waiting_for_capture"} {
		w := newWorld(t, false)
		s := w.newShopServer(func(n told) (int, string) {
			if n.Status == refused {
				return 500, ""
			}
			return 200, ""
		})
		p := w.decide(w.hold(w.prepare(s.url, false)), payment.Capture)
		for range 50 {
			w.deliver()
			if _, waits := w.next(); !waits {
				break
			}
		}
		var taken []string
		for _, n := range s.all() {
			if n.Status != refused {
				taken = append(taken, n.Status)
			}
		}
		want := slices.DeleteFunc([]string{"wait_user_action", "waiting_for_capture", "succeeded"}, func(s string) bool { return s == refused })
		if !slices.Equal(taken, want) {
			t.Errorf("%s is refused for ever: %v was taken, want %v", refused, taken, want)
		}
		if n := len(s.all()) - len(taken); n != store.Patience {
			t.Errorf("%s was tried %d times before the next was told, want %d", refused, n, store.Patience)
		}
		// It was overtaken: told now it would turn the merchant's state back.
		for _, e := range w.events(p.ID) {
			if string(e.Status) == refused && (!e.NextAt.IsZero() || e.Outcome == "") {
				t.Errorf("%s still waits to be told: %+v", refused, e)
			}
		}
		w.audit()
	}
}

// A merchant who decides while he is being asked, and then does not answer, is told what became of it by the same rule as
// ever: at once where he has taken the question before, or refused it often enough, and not when that would have been repeated.
func TestDecidedWithinAQuestionThatFails(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]struct {
		status, attempts int // of the question, before the one within which he decides
	}{"taken before": {200, 1}, "refused often enough": {500, store.Patience}} {
		w := newWorld(t, true)
		var asked atomic.Int32
		s := w.newShopServer(nil)
		s.answer = func(n told) (int, string) {
			switch {
			case n.Status != "waiting_for_capture":
				return 200, ""
			case int(asked.Add(1)) <= before.attempts:
				return before.status, ""
			}
			id, err := payment.ParseID(n.PaymentUUID)
			check(t, err)
			w.decide(w.payment(id), payment.Capture)
			return 500, ""
		}
		stop := w.run()
		p := w.hold(w.prepare(s.url, false))
		for i := range before.attempts {
			eventually(t, "it is asked", func() bool {
				e := w.events(p.ID)[1]
				return len(e.Deliveries) == i+1 && e.NextAt.After(w.store.Now())
			})
			w.offset.add(w.events(p.ID)[1].NextAt.Sub(w.store.Now()))
		}
		eventually(t, name+": the decision is told", func() bool { return slices.Contains(s.statuses(), "succeeded") })
		stop()
		w.audit()
	}
}

// Events of one payment are told one after another: the next one waits for the answer to the one before.
func TestOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	var underWay, most atomic.Int32
	s := w.newShopServer(func(told) (int, string) {
		most.Store(max(most.Load(), underWay.Add(1)))
		time.Sleep(20 * time.Millisecond) // a merchant takes his time; what came beside it would be seen
		underWay.Add(-1)
		return 200, ""
	})
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() { defer close(ran); w.notifier.Run(ctx) }()
	for range 5 {
		p := w.decide(w.hold(w.prepare(s.url, false)), payment.Capture)
		eventually(t, "all is told", func() bool {
			events := w.events(p.ID)
			return len(events) == 3 && !slices.ContainsFunc(events, func(e store.EventRecord) bool { return !e.NextAt.IsZero() })
		})
	}
	stop()
	<-ran
	want := slices.Repeat([]string{"wait_user_action", "waiting_for_capture", "succeeded"}, 5)
	// A waiting_for_capture whose decision came before it was sent is told once, or not at all where a later one was faster.
	if got := s.statuses(); !slices.Equal(got, want) {
		t.Errorf("told %v", got)
	}
	if most.Load() != 1 {
		t.Errorf("%d were told of at once", most.Load())
	}
	w.audit()
}

// An attempt is on disk before it is sent: what a process that died had claimed is sent again, under the same id.
func TestCrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	s := w.newShopServer(nil)
	p := w.decide(w.prepare(s.url, true), payment.Cancel)
	claim := func() []store.Delivery {
		t.Helper()
		everywhere := store.Places{Admit: func(string, int64) bool { return true }, Release: func(string) {}}
		claims, err := w.store.Claim(t.Context(), store.Cursor{}, 10, time.Minute, everywhere)
		check(t, err)
		return claims.Deliveries
	}
	lost := claim() // and here the process dies, before or after it sent
	if len(lost) != 1 || lost[0].Attempt != 1 || w.events(p.ID)[0].Attempts != 1 {
		t.Fatalf("claimed %+v, on record %+v", lost, w.events(p.ID))
	}
	if again := claim(); len(again) != 0 {
		t.Errorf("what is being sent was claimed again: %+v", again)
	}
	w.deliver()
	if len(s.all()) != 0 {
		t.Error("what another sender has claimed was sent")
	}
	check(t, w.store.ReleaseLeases(t.Context())) // the next process begins
	w.deliver()
	got := s.all()
	if len(got) != 1 || got[0].header.Get(holdfast.HeaderWebhookID) != notify.WebhookID(p.ID, 1) || got[0].header.Get("Holdfast-Attempt") != "2" {
		t.Errorf("told %+v", got)
	}
	// Without a restart the lease ends by itself.
	p = w.decide(w.prepare(s.url, true), payment.Cancel)
	claim()
	w.offset.add(time.Minute)
	w.deliver()
	if got := s.all(); len(got) != 2 || got[1].PaymentUUID != p.ID.String() {
		t.Errorf("told %d", len(got))
	}
	w.audit()
}

// A redirect is an answer like any other, and not followed: a signed notification is for one address.
func TestRedirect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	elsewhere := w.newShopServer(nil)
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := httptest.NewServer(http.RedirectHandler(elsewhere.url, status))
		defer s.Close()
		p := w.decide(w.prepare(s.URL, true), payment.Cancel)
		w.deliver()
		e := w.events(p.ID)[0]
		if len(e.Deliveries) != 1 || e.Deliveries[0].Status != status || e.NextAt.IsZero() {
			t.Errorf("HTTP %d: %+v", status, e)
		}
	}
	if n := len(elsewhere.all()); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

// Nobody but the merchant's own server, asked about a hold, decides; and it decides about that payment alone.
func TestForgedAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	capture := `{"accept_status":"capture"}`
	impostor := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, capture) }))
	impostor.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains that its certificate is not believed
	impostor.StartTLS()
	defer impostor.Close()
	other := w.hold(w.prepare(w.newShopServer(nil).url, false))
	for what, server := range map[string]*shopServer{
		"a server whose certificate nobody has signed": {url: impostor.URL},
		"a redirect that says capture":                 w.newShopServer(always(302, capture)),
		"an error that says capture":                   w.newShopServer(always(500, capture)),
		"two words in one answer":                      w.newShopServer(always(200, `{"accept_status":"wait_user_action","accept_status":"capture"}`)),
		"a word in another field":                      w.newShopServer(always(200, `{"status":"capture","data":{"accept_status":"capture"}}`)),
		"a word in another case":                       w.newShopServer(always(200, `{"Accept_Status":"capture"}`)),
		"a list of words":                              w.newShopServer(always(200, `{"accept_status":["capture"]}`)),
		"more than is held":                            w.newShopServer(always(200, `{"accept_status":"capture","final_amount":1000.01}`)),
		"less than nothing":                            w.newShopServer(always(200, `{"accept_status":"capture","final_amount":-1}`)),
		"a sum that is none":                           w.newShopServer(always(200, `{"accept_status":"capture","final_amount":"1e3x"}`)),
		"words after the answer":                       w.newShopServer(always(200, `{}`+capture)),
		"the answer to another question": w.newShopServer(func(n told) (int, string) {
			if n.Status == "waiting_for_capture" {
				return 200, "{}"
			}
			return 200, capture
		}),
	} {
		p := w.hold(w.prepare(server.url, false))
		w.deliver()
		if p = w.payment(p.ID); p.State != payment.Held || p.Decision != nil || p.Open != nil {
			t.Errorf("%s: it is %s, decided %+v", what, p.State, p.Decision)
		}
	}
	// An answer that names another payment decides about the one that was asked about.
	named := w.newShopServer(always(200, `{"accept_status":"cancel","octo_payment_UUID":"`+other.ID.String()+`","shop_transaction_id":"order-1"}`))
	p := w.hold(w.prepare(named.url, false))
	w.deliver()
	if p = w.payment(p.ID); p.State != payment.Voided || w.payment(other.ID).Decision != nil {
		t.Errorf("it is %s; the other one was decided: %+v", p.State, w.payment(other.ID).Decision)
	}
	w.audit()
}

// An answer of 10 MB is not read to its end. It was taken all the same, and decides nothing.
func TestHugeAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	var written atomic.Int64
	done := make(chan struct{}, 10)
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		defer func() { done <- struct{}{} }()
		fmt.Fprint(rw, `{"accept_status":"capture","x":"`)
		for range 10 << 10 {
			n, err := rw.Write(make([]byte, 1<<10))
			written.Add(int64(n))
			if err != nil {
				return
			}
		}
	}))
	defer s.Close()
	p := w.decide(w.prepare(s.URL, true), payment.Cancel)
	w.deliver()
	<-done
	if n := written.Load(); n >= 10<<20 {
		t.Errorf("all %d bytes were taken", n)
	}
	if e := w.events(p.ID)[0]; e.Outcome != "delivered" || e.Deliveries[0].Status != 200 {
		t.Errorf("%+v", e)
	}
	held := w.hold(w.prepare(s.URL, false))
	w.deliver()
	if got := w.payment(held.ID); got.Decision != nil {
		t.Errorf("half an answer has decided: %+v", got.Decision)
	}
	// What an answer says of its length is no reason to make room for it.
	boasting := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Length", strconv.Itoa(1<<62))
		rw.Write(make([]byte, 65<<10))
	}))
	defer boasting.Close()
	p = w.decide(w.prepare(boasting.URL, true), payment.Cancel)
	w.deliver()
	if e := w.events(p.ID)[0]; e.Outcome != "delivered" {
		t.Errorf("%+v", e)
	}
}

// Where a shop's key cannot be read nothing is sent: signed with another key it would be refused, or believed of anybody. It
// is tried again.
func TestKeyCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	s := w.newShopServer(nil)
	p := w.decide(w.prepare(s.url, true), payment.Cancel)
	cfg := w.cfg
	cfg.UniqueKey = func(merchant.Shop) (string, error) { return "", errors.New("it is sealed with another key") }
	blind := notify.New(cfg)
	if n, err := blind.Step(t.Context()); n != 1 || err != nil || blind.Attempts()[notify.Unsent].Load() != 1 {
		t.Fatalf("%d, %v, %d counted", n, err, blind.Attempts()[notify.Unsent].Load())
	}
	if e := w.events(p.ID)[0]; len(s.all()) != 0 || e.NextAt.Sub(w.now()) != notify.Backoff[0] || e.Deliveries[0].Note != "the shop's key cannot be read: it is sealed with another key" {
		t.Errorf("%d were sent; %+v", len(s.all()), e)
	}
	w.next()
	w.deliver()
	if got := s.statuses(); len(got) != 1 || w.events(p.ID)[0].Outcome != "delivered" {
		t.Errorf("then %v, %+v", got, w.events(p.ID))
	}
}

// Without an address nothing is sent, and that is on record.
func TestNowhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	p := w.hold(w.prepare("", true))
	w.deliver()
	for _, e := range w.events(p.ID) {
		if e.Attempts != 0 || e.Outcome == "" || !e.NextAt.IsZero() {
			t.Errorf("%+v", e)
		}
	}
}

// The body of every status, key by key: keys never vary by chance.
func TestBodyKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	s := w.newShopServer(nil)
	w.decide(w.hold(w.prepare(s.url, false)), payment.Capture)
	w.deliver()
	want := map[string]string{
		"wait_user_action":    "card_country card_type currency hash_key maskedPan octo_payment_UUID refunded_sum riskLevel rrn shop_transaction_id signature status total_sum",
		"waiting_for_capture": "card_country card_type currency hash_key maskedPan octo_payment_UUID refunded_sum riskLevel rrn shop_transaction_id signature status total_sum",
		"succeeded":           "card_country card_type currency hash_key maskedPan octo_payment_UUID payed_time refunded_sum riskLevel rrn shop_transaction_id signature status total_sum transfer_sum",
	}
	for _, n := range s.all() {
		var keys map[string]json.RawMessage
		check(t, json.Unmarshal(n.body, &keys))
		if got := strings.Join(slices.Sorted(maps.Keys(keys)), " "); got != want[n.Status] {
			t.Errorf("%s has the keys %s\nwant %s", n.Status, got, want[n.Status])
		}
	}
}
