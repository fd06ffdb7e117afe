package notify_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/internal/notify"
	"holdfast/internal/payment"
)

// Each attempt is counted once, by what became of it, and so is what is given up.
func TestAttemptsAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	counted := func(what string, gaveUp uint64, want map[notify.Attempt]uint64) {
		t.Helper()
		got, sent := make(map[notify.Attempt]uint64), uint64(0)
		for a, n := range w.notifier.Attempts() {
			if n.Load() > 0 {
				got[a] = n.Load()
			}
			sent += n.Load()
		}
		if len(w.notifier.Attempts()) != 4 {
			t.Errorf("%s: not all that may become of attempts has a count", what)
		}
		if diff := cmp.Diff(want, got); diff != "" || w.notifier.GaveUp() != gaveUp {
			t.Errorf("%s: given up were %d, attempts (-want +got):\n%s", what, w.notifier.GaveUp(), diff)
		}
		if _, n, took := w.notifier.Took().Read(); n != sent || took <= 0 {
			t.Errorf("%s: %d attempts took %s, want %d", what, n, took, sent)
		}
	}
	w.decide(w.prepare(w.newShopServer(always(299, "")).url, true), payment.Cancel)
	w.deliver()
	counted("one that is taken", 0, map[notify.Attempt]uint64{notify.Taken: 1})

	refusing := w.newShopServer(always(300, ""))
	w.decide(w.prepare(refusing.url, true), payment.Cancel)
	pauses := uint64(len(w.gaps(refusing)))
	counted("one that is never taken", 1, map[notify.Attempt]uint64{notify.Taken: 1, notify.Refused: pauses + 1})

	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer silent.Close()
	w.decide(w.prepare(silent.URL, true), payment.Cancel)
	if _, err := w.notifier.Step(context.Background()); err != nil {
		t.Fatal(err)
	}
	counted("one that is not answered", 1, map[notify.Attempt]uint64{notify.Taken: 1, notify.Refused: pauses + 1, notify.Unanswered: 1})
}
