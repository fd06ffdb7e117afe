package gateway_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/internal/gateway"
	"holdfast/internal/payment"
)

// asked expects exactly these questions to have been put to the centre.
func (w *world) asked(what string, test bool, want map[string]uint64) {
	w.t.Helper()
	got, took := make(map[string]uint64), uint64(0)
	for a, n := range w.gateway.Asked() {
		if a.Contract != "uzcard" || a.Test != test {
			w.t.Errorf("%s: asked was %+v", what, a)
		}
		got[string(a.Kind)+" "+string(a.Ask)+" "+string(a.Outcome)+" "+string(a.Reason)] = n.Load()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
	all := uint64(0)
	for _, n := range want {
		all += n
	}
	for _, times := range w.gateway.Took() {
		_, n, sum := times.Read()
		if took += n; sum <= 0 {
			w.t.Errorf("%s: %d questions took %s", what, n, sum)
		}
	}
	if took != all {
		w.t.Errorf("%s: %d questions were timed, want %d", what, took, all)
	}
	if n := w.gateway.UnderWay(); n != 0 {
		w.t.Errorf("%s: %d questions are under way", what, n)
	}
}

// Each question is counted once, as it was put and as it was answered.
func TestQuestionsAreCounted(t *testing.T) {
	w := newWorld(t)
	w.call = func(method string) {
		if n := w.gateway.UnderWay(); n != 1 {
			t.Errorf("while the centre does %s %d questions are under way", method, n)
		}
	}
	p := w.paid(w.goodCard(0))
	want := map[string]uint64{"challenge send challenged ": 1, "verify send approved ": 1, "hold send approved ": 1}
	w.asked("a hold", false, want)

	w.spoil("hold.dismiss.charge", "answer_lost", 0)
	w.spoil("trans.ext", "garbage", 0)
	if _, err := w.decide(p.ID, payment.Capture, 60_000); err != nil {
		t.Fatal(err)
	}
	if p = w.read(p.ID); !p.InDoubt(w.clock()) {
		t.Fatalf("the capture is not in doubt: %+v", p.Open)
	}
	want["capture send unknown "] = 1
	w.asked("a capture whose answer is lost", false, want)
	for _, answer := range []string{"unknown", "approved"} {
		w.later(time.Minute)
		w.step()
		want["capture query "+answer+" "] = 1
		w.asked("and asked about", false, want)
	}

	p = w.prepare()
	p = w.must(w.pay(p.ID, w.goodCard(0)))(payment.Challenged)
	if _, err := w.submit(p, "000000"); err != nil {
		t.Fatal(err)
	}
	want["challenge send challenged "], want["verify send refused wrong_code"] = 2, 1
	w.asked("a wrong code", false, want)
	w.clean()
}

// What is asked of a simulator is counted as that.
func TestQuestionsOfTestPaymentsAreCounted(t *testing.T) {
	w := newWorld(t)
	w.gateway = gateway.New(gateway.Config{Store: w.store, HoldFor: holdFor, Test: gateway.Centres{{Processor: w.centre, Method: payment.Uzcard}}})
	w.paid(w.goodCard(0), func(terms *payment.Terms) { terms.Test = true })
	w.asked("a hold", true, map[string]uint64{"challenge send challenged ": 1, "verify send approved ": 1, "hold send approved ": 1})
}

// Of a centre that is not connected nothing is asked.
func TestUnaskedIsNotCounted(t *testing.T) {
	w := newWorld(t)
	p := w.paid(w.goodCard(0))
	w.gateway = gateway.New(gateway.Config{Store: w.store})
	if _, err := w.decide(p.ID, payment.Capture, 60_000); err != nil {
		t.Fatal(err)
	}
	w.asked("without a centre", false, map[string]uint64{})
}
