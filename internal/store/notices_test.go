package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/internal/payment"
	"holdfast/internal/store"
)

// again has the last event of a payment sent again, which must be taken.
func (w *world) again(p payment.Payment) store.Notice {
	w.t.Helper()
	n, err := w.SendAgain(w.t.Context(), p.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// refusesAgain expects that it is not sent again, and that nothing is changed.
func (w *world) refusesAgain(p payment.Payment, want error) {
	w.t.Helper()
	before := w.outcomes(p)
	if _, err := w.SendAgain(w.t.Context(), p.ID); !errors.Is(err, want) {
		w.t.Errorf("it is sent again: %v, want %v", err, want)
	}
	if diff := cmp.Diff(before, w.outcomes(p)); diff != "" {
		w.t.Errorf("refused, it changes (-before +after):\n%s", diff)
	}
}

func (w *world) gaveUp(d store.Delivery) store.Result {
	return store.Result{Delivery: d, Status: 503, Note: "answered 503", Outcome: store.OutcomeGaveUp}
}

// calledOff is a payment of a shop's that is cancelled before anybody has paid: one event.
func (w *world) calledOff(shop int64, name string) payment.Payment {
	w.t.Helper()
	p, _, err := w.Create(w.t.Context(), shop, name, func(number int64, now time.Time) payment.Change {
		terms := terms(name)
		terms.ExpiresAt = now.Add(ttl)
		return payment.New(payment.NewID(now, randomTen()), number, shop, terms, now)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.begin(p.ID, payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant})
}

// refunded leads a captured payment to its refund: one event more.
func (w *world) refunded(p payment.Payment) payment.Payment {
	w.t.Helper()
	w.begin(p.ID, payment.Reimburse{ID: "r-" + p.Terms.ShopPaymentID, ShopID: "refund-1", Amount: uzs(total / 2)})
	return w.mustSettle(p.ID, payment.Answer{Outcome: payment.Approved})
}

// tries are the attempts on record to tell a payment's last event: "1: 200".
func (w *world) tries(p payment.Payment) (all []string) {
	w.t.Helper()
	line, err := w.Timeline(w.t.Context(), p.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range line.Events[len(line.Events)-1].Deliveries {
		all = append(all, fmt.Sprintf("%d: %d", d.Attempt, d.Status))
	}
	return all
}

func (w *world) triesAre(p payment.Payment, want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.tries(p)); diff != "" {
		w.t.Errorf("attempts (-want +got):\n%s", diff)
	}
}

// named is what a list shows: "order-1/1 canceled, 2 tries".
func named(list []store.Notice) (names []string) {
	for _, n := range list {
		names = append(names, fmt.Sprintf("%s/%d %s, %d tries", n.ShopPaymentID, n.N, n.Status, n.Attempts))
	}
	return names
}

func noticeCases() []storeCase {
	return []storeCase{
		{"again: what was taken is due, is another attempt, and nothing of before is lost", func(t *testing.T, w *world) {
			p := w.captured(terms("order-1"), total)
			for n := 1; n <= 3; n++ {
				w.record(delivered(w.claims(fmt.Sprintf("order-1/%d try 1", n))[0]))
			}
			w.later(time.Hour)
			token(w.Told())
			want := store.Notice{
				Payment: p.ID, Shop: shop, ShopPaymentID: "order-1", N: 3, Status: payment.StatusSucceeded, At: t0, Endpoint: "https://shop.example",
				NextAt: w.Now(), Attempts: 1, LastAt: t0, LastStatus: 200,
			}
			if diff := cmp.Diff(want, w.again(p)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !token(w.Told()) {
				t.Error("nobody is woken")
			}
			w.triesAre(p, "1: 200")
			w.outcomesAre(p, "1 wait_user_action: delivered", "2 waiting_for_capture: delivered", "3 succeeded: due 1h0m0s")
			w.again(p) // once more changes nothing
			d := w.claims("order-1/3 try 2")[0]
			if d.Event.Sums.Captured != uzs(total) {
				t.Errorf("told of %v", d.Event.Sums.Captured)
			}
			// Not taken, it is on the schedule like any other; and by hand it need not wait for that.
			w.record(w.failed(d, 6*time.Hour))
			w.claims()
			w.again(p)
			w.record(w.gaveUp(w.claims("order-1/3 try 3")[0]))
			w.triesAre(p, "1: 200", "2: 500", "3: 503")
			w.again(p)
			w.record(delivered(w.claims("order-1/3 try 4")[0]))
			w.triesAre(p, "1: 200", "2: 500", "3: 503", "4: 200")
			w.outcomesAre(p, "1 wait_user_action: delivered", "2 waiting_for_capture: delivered", "3 succeeded: delivered")
			w.claims()
			if a := w.clean(); a.Events != 3 {
				t.Errorf("there are %d events", a.Events)
			}
		}},
		{"again: what waits before it goes first, at once too", func(t *testing.T, w *world) {
			p := w.captured(terms("order-1"), total)
			first := w.claims("order-1/1 try 1")[0]
			w.record(w.failed(first, time.Minute))
			w.again(p)
			w.record(delivered(w.claims("order-1/1 try 2")[0]))
			w.record(delivered(w.claims("order-1/2 try 1")[0]))
			w.record(delivered(w.claims("order-1/3 try 1")[0]))
			w.clean()
		}},
		{"again: it waits for the one before it that is being sent, and not for the end of its lease", func(t *testing.T, w *world) {
			w.held(terms("order-1"))
			for try := 1; try <= store.Patience; try++ {
				w.record(w.failed(w.claims(fmt.Sprintf("order-1/1 try %d", try))[0], time.Minute))
				if try < store.Patience {
					w.later(time.Minute)
				}
			}
			second := w.claims("order-1/2 try 1")[0]
			w.record(w.failed(second, time.Hour))
			w.later(time.Minute)
			first := w.claims("order-1/1 try 4")[0]
			if _, err := w.SendAgain(t.Context(), second.Payment); err != nil {
				t.Fatal(err)
			}
			w.claims()
			w.record(w.failed(first, time.Hour))
			w.later(time.Second)
			w.record(delivered(w.claims("order-1/2 try 2")[0]))
			w.clean()
		}},
		{"again: tried before, it waits for the one before it that is claimed together with it, and not for the end of its lease", func(t *testing.T, w *world) {
			p := w.held(terms("order-1"))
			for try := 1; try <= store.Patience; try++ {
				w.record(w.failed(w.claims(fmt.Sprintf("order-1/1 try %d", try))[0], time.Hour))
				if try < store.Patience {
					w.later(time.Hour)
				}
			}
			w.record(w.failed(w.claims("order-1/2 try 1")[0], time.Hour))
			w.again(p)
			w.record(delivered(w.claims("order-1/1 try 4")[0]))
			w.later(time.Second)
			w.record(delivered(w.claims("order-1/2 try 2")[0]))
			w.clean()
		}},
		{"again: news does not wait for the end of the lease of what is told beside one that is taken", func(t *testing.T, w *world) {
			w.captured(terms("order-1"), total)
			for try := 1; try <= store.Patience; try++ {
				w.record(w.failed(w.claims(fmt.Sprintf("order-1/1 try %d", try))[0], 10*time.Second))
				if try < store.Patience {
					w.later(10 * time.Second)
				}
			}
			second := w.claims("order-1/2 try 1")[0]
			w.later(10 * time.Second)
			first := w.claims("order-1/1 try 4")[0]
			w.record(delivered(second))
			w.claims()
			w.record(delivered(first))
			w.later(time.Second)
			w.record(delivered(w.claims("order-1/3 try 1")[0]))
			w.clean()
		}},
		{"again: not while it is being sent", func(t *testing.T, w *world) {
			p := w.calledOff(shop, "order-1")
			d := w.claims("order-1/1 try 1")[0]
			w.refusesAgain(p, store.ErrBeingSent)
			w.later(lease - time.Microsecond)
			w.refusesAgain(p, store.ErrBeingSent)
			w.record(delivered(d))
			w.again(p)
			w.claims("order-1/1 try 2")
			w.later(lease) // who sent it is gone
			w.again(p)
			w.claims("order-1/1 try 3")
		}},
		{"again: not where there is nothing to tell, or nobody, or the shop is asked what it has decided", func(t *testing.T, w *world) {
			if _, err := w.SendAgain(t.Context(), payment.ID{1}); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("of no payment: %v", err)
			}
			w.refusesAgain(w.create(terms("new")), payment.ErrNothingTold)
			quiet := terms("quiet")
			quiet.NotifyURL = ""
			w.refusesAgain(w.held(quiet), payment.ErrNowhere)

			p := w.held(terms("order-1"))
			w.record(delivered(w.claims("order-1/1 try 1")[0]))
			stopped := delivered(w.claims("order-1/2 try 1")[0])
			stopped.Outcome = "left to set_accept"
			w.record(stopped)
			w.again(p) // nobody has decided yet: it is asked again
			w.record(w.failed(w.claims("order-1/2 try 2")[0], time.Minute))
			w.begin(p.ID, payment.Decide{Accept: payment.Capture, Amount: uzs(total), By: payment.ByMerchant})
			w.refusesAgain(p, payment.ErrDecided)
			w.mustSettle(p.ID, payment.Answer{Outcome: payment.Approved, Amount: uzs(total), Centre: payment.Centre{RRN: "700000000001"}})
			w.again(p) // what became of it
			w.claims("order-1/3 try 1")
			w.clean()
		}},
		{"again: news is not held up by what was taken and is to be sent again, nor followed by it", func(t *testing.T, w *world) {
			p := w.captured(terms("order-1"), total)
			for n := 1; n <= 3; n++ {
				w.record(delivered(w.claims(fmt.Sprintf("order-1/%d try 1", n))[0]))
			}
			w.again(p)
			w.refunded(p)
			w.record(delivered(w.claims("order-1/4 try 1")[0]))
			w.claims()
			w.outcomesAre(p, "1 wait_user_action: delivered", "2 waiting_for_capture: delivered", "3 succeeded: there is a later one", "4 succeeded: delivered")
			w.clean()
		}},
		{"again: news waits for what was given up after few attempts, and is to be sent again", func(t *testing.T, w *world) {
			fresh := w.Fresh(lease)
			p := w.captured(terms("order-1"), total)
			first, second, third := <-fresh, <-fresh, <-fresh
			w.record(delivered(first))
			w.record(delivered(second))
			w.record(w.gaveUp(third))
			w.again(p)
			w.refunded(p)
			if len(fresh) > 0 {
				t.Errorf("handed over out of its turn: %+v", <-fresh)
			}
			w.record(delivered(w.claims("order-1/3 try 2")[0]))
			w.claims("order-1/4 try 1")
			w.clean()
		}},
		{"again: news waits for what this process has told, and tells again", func(t *testing.T, w *world) {
			fresh := w.Fresh(lease)
			p := w.captured(terms("order-1"), total)
			for range 3 {
				w.record(delivered(<-fresh))
			}
			other := w.openAgain(false)
			if _, err := other.SendAgain(t.Context(), p.ID); err != nil {
				t.Fatal(err)
			}
			d := w.claims("order-1/3 try 2")[0]
			w.refunded(p) // who takes fresh ones keeps their order
			if next := <-fresh; next.Event.N != 4 {
				t.Errorf("handed over: %+v", next)
			} else {
				w.record(delivered(d), delivered(next))
			}
			w.outcomesAre(p, "1 wait_user_action: delivered", "2 waiting_for_capture: delivered", "3 succeeded: delivered", "4 succeeded: delivered")
			w.clean()
		}},
		{"notices: what waits, and what was given up last of its payment", func(t *testing.T, w *world) {
			const other = shop + 1
			for i := range 5 {
				w.later(time.Second)
				w.calledOff(shop+int64(i%2), fmt.Sprint("order-", i))
			}
			list := func(read func(store.NoticeFilter) ([]store.Notice, error), f store.NoticeFilter, want ...string) {
				t.Helper()
				got, err := read(f)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, named(got)); diff != "" {
					t.Errorf("%+v (-want +got):\n%s", f, diff)
				}
			}
			waiting := func(f store.NoticeFilter) ([]store.Notice, error) { return w.Waiting(t.Context(), f) }
			givenUp := func(f store.NoticeFilter) ([]store.Notice, error) { return w.GivenUp(t.Context(), f) }
			list(waiting, store.NoticeFilter{}, "order-0/1 canceled, 0 tries", "order-1/1 canceled, 0 tries", "order-2/1 canceled, 0 tries", "order-3/1 canceled, 0 tries", "order-4/1 canceled, 0 tries")
			list(waiting, store.NoticeFilter{Limit: 2}, "order-0/1 canceled, 0 tries", "order-1/1 canceled, 0 tries")
			list(waiting, store.NoticeFilter{Shop: other}, "order-1/1 canceled, 0 tries", "order-3/1 canceled, 0 tries")
			list(waiting, store.NoticeFilter{Since: t0.Add(4 * time.Second)}, "order-3/1 canceled, 0 tries", "order-4/1 canceled, 0 tries")
			list(givenUp, store.NoticeFilter{})

			d := w.claims("order-0/1 try 1", "order-1/1 try 1", "order-2/1 try 1", "order-3/1 try 1", "order-4/1 try 1")
			w.record(w.failed(d[0], time.Hour), w.gaveUp(d[2]), w.gaveUp(d[3]), w.gaveUp(d[4]))
			got, err := waiting(store.NoticeFilter{})
			if err != nil || len(got) != 2 || !got[0].BeingSent || got[0].ShopPaymentID != "order-1" || got[1].BeingSent ||
				got[1].LastStatus != 500 || got[1].Note != "internal error" || !got[1].LastAt.Equal(w.Now()) || !got[1].NextAt.Equal(w.Now().Add(time.Hour)) {
				t.Errorf("waiting are %+v, %v", got, err)
			}
			list(givenUp, store.NoticeFilter{}, "order-2/1 canceled, 1 tries", "order-3/1 canceled, 1 tries", "order-4/1 canceled, 1 tries")
			list(givenUp, store.NoticeFilter{Limit: 2}, "order-2/1 canceled, 1 tries", "order-3/1 canceled, 1 tries")
			list(givenUp, store.NoticeFilter{Shop: shop}, "order-2/1 canceled, 1 tries", "order-4/1 canceled, 1 tries")
			list(givenUp, store.NoticeFilter{Since: t0.Add(4 * time.Second)}, "order-3/1 canceled, 1 tries", "order-4/1 canceled, 1 tries")
			list(givenUp, store.NoticeFilter{Since: w.Now().Add(time.Millisecond)})

			// All of a shop's is sent again, and nothing else.
			if n, err := w.SendGivenUp(t.Context(), shop, t0.Add(4*time.Second)); n != 1 || err != nil {
				t.Errorf("%d are due, %v", n, err)
			}
			w.claims("order-4/1 try 2")
			if n, err := w.SendGivenUp(t.Context(), shop, t0); n != 1 || err != nil {
				t.Errorf("%d are due, %v", n, err)
			}
			w.record(w.gaveUp(w.claims("order-2/1 try 2")[0]))
			list(givenUp, store.NoticeFilter{}, "order-2/1 canceled, 2 tries", "order-3/1 canceled, 1 tries")

			// What is no news any more is no matter for anybody.
			p := w.captured(terms("later"), total)
			w.record(delivered(w.claims("later/1 try 1")[0]))
			w.record(w.gaveUp(w.claims("later/2 try 1")[0]))
			list(givenUp, store.NoticeFilter{}, "order-2/1 canceled, 2 tries", "order-3/1 canceled, 1 tries")
			w.record(w.gaveUp(w.claims("later/3 try 1")[0]))
			list(givenUp, store.NoticeFilter{Since: p.CreatedAt}, "later/3 succeeded, 1 tries")
			w.clean()
		}},
	}
}
