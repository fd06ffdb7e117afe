package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/internal/payment"
	"holdfast/internal/store"
)

const lease = 30 * time.Second

func anywhere(string, int64) bool { return true }

// uncounted are places of which no count is kept.
func uncounted(admit func(endpoint string, shop int64) bool) store.Places {
	return store.Places{Admit: admit, Release: func(string) {}}
}

var everywhere = uncounted(anywhere)

// claim calls Claim for what is due, and names what it has got: "order-1/2 try 1".
func (w *world) claim(limit int, admit func(string, int64) bool) (names []string, claimed []store.Delivery) {
	w.t.Helper()
	places := 0 // that are kept, and are given back by who sends
	claims, err := w.Claim(w.t.Context(), store.Cursor{}, limit, lease, store.Places{
		Admit: func(endpoint string, shop int64) bool {
			has := admit(endpoint, shop)
			if has {
				places++
			}
			return has
		},
		Release: func(string) { places-- },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	claimed = claims.Deliveries
	if places != len(claimed) {
		w.t.Errorf("%d events are claimed, and %d places are kept for them", len(claimed), places)
	}
	for _, d := range claimed {
		p, err := w.Payment(w.t.Context(), d.Payment)
		if err != nil {
			w.t.Fatal(err)
		}
		names = append(names, fmt.Sprintf("%s/%d try %d", p.Terms.ShopPaymentID, d.Event.N, d.Attempt))
	}
	return names, claimed
}

// claims calls Claim for all that is due, and expects exactly this.
func (w *world) claims(want ...string) []store.Delivery {
	w.t.Helper()
	names, claimed := w.claim(100, anywhere)
	if diff := cmp.Diff(want, names); diff != "" {
		w.t.Fatalf("claimed (-want +got):\n%s", diff)
	}
	return claimed
}

func (w *world) record(results ...store.Result) {
	w.t.Helper()
	for i := range results {
		results[i].At = w.Now()
		results[i].Took = time.Millisecond
	}
	if err := w.Record(w.t.Context(), results); err != nil {
		w.t.Fatal(err)
	}
}

func delivered(d store.Delivery) store.Result {
	return store.Result{Delivery: d, Status: 200, Accepted: true, Outcome: "delivered"}
}

// failed is to be sent again after a while.
func (w *world) failed(d store.Delivery, after time.Duration) store.Result {
	return store.Result{Delivery: d, Status: 500, Note: "internal error", NextAt: w.Now().Add(after)}
}

// outcomes is how the events of a payment stand.
func (w *world) outcomes(p payment.Payment) (all []string) {
	w.t.Helper()
	line, err := w.Timeline(w.t.Context(), p.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range line.Events {
		state := e.Outcome
		if !e.NextAt.IsZero() {
			state = "due " + e.NextAt.Sub(t0).String()
		}
		all = append(all, fmt.Sprintf("%d %s: %s", e.N, e.Status, state))
	}
	return all
}

func (w *world) outcomesAre(p payment.Payment, want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.outcomes(p)); diff != "" {
		w.t.Errorf("events (-want +got):\n%s", diff)
	}
}

func eventCases() []storeCase {
	return []storeCase{
		{"events: claimed once, sent again when the lease ends", func(t *testing.T, w *world) {
			w.held(terms("order-1")) // events 1 and 2
			first := w.claims("order-1/1 try 1")
			want := store.Delivery{
				Key: first[0].Key, Payment: first[0].Payment, Shop: shop, Endpoint: "https://shop.example", Attempt: 1,
				Event: payment.Event{
					N: 1, Status: payment.StatusWaitUserAction, At: t0,
					Sums: payment.Sums{Captured: uzs(0), Fee: uzs(0), Refunded: uzs(0)},
				},
			}
			if diff := cmp.Diff(want, first[0], cmp.AllowUnexported(store.EventKey{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			w.claims()
			w.later(lease - time.Microsecond)
			w.claims()
			w.later(time.Microsecond)
			w.claims("order-1/1 try 2")
		}},
		{"events: a restart makes what was being sent due at once", func(t *testing.T, w *world) {
			w.held(terms("order-1"))
			w.claims("order-1/1 try 1")
			if err := w.ReleaseLeases(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !w.Alone() { // it may be another gateway that sends it
				w.claims()
				w.later(lease)
			}
			w.claims("order-1/1 try 2")
		}},
		{"events: in order, the next as soon as the one before is taken", func(t *testing.T, w *world) {
			p := w.captured(terms("order-1"), total)
			token(w.Told())
			d := w.claims("order-1/1 try 1")
			w.record(delivered(d[0]))
			if !token(w.Told()) {
				t.Error("the next event waits, and nobody is woken")
			}
			d = w.claims("order-1/2 try 1")
			w.record(delivered(d[0]))
			d = w.claims("order-1/3 try 1")
			if d[0].Event.Sums.Captured != uzs(total) || d[0].Event.Sums.Fee != uzs(2000) {
				t.Errorf("told of %v, fee %v", d[0].Event.Sums.Captured, d[0].Event.Sums.Fee)
			}
			w.record(delivered(d[0]))
			w.claims()
			w.outcomesAre(p, "1 wait_user_action: delivered", "2 waiting_for_capture: delivered", "3 succeeded: delivered")
			if _, waits, err := w.NextEvent(t.Context()); waits || err != nil {
				t.Errorf("something is still due: %v", err)
			}
			line, _ := w.Timeline(t.Context(), p.ID)
			want := []store.DeliveryRecord{{Attempt: 1, At: t0, Took: time.Millisecond, Status: 200}}
			if diff := cmp.Diff(want, line.Events[2].Deliveries); diff != "" {
				t.Errorf("deliveries (-want +got):\n%s", diff)
			}
			w.clean()
		}},
		{"events: the limit, and the endpoint without room", func(t *testing.T, w *world) {
			busy := terms("busy")
			busy.NotifyURL = "http://busy.example:8080/x"
			w.asking(busy)
			for i := range 3 {
				w.later(time.Millisecond)
				w.asking(terms(fmt.Sprint("order-", i)))
			}
			notBusy := func(endpoint string, _ int64) bool { return endpoint != "http://busy.example:8080" }
			if names, _ := w.claim(1, notBusy); cmp.Diff([]string{"order-0/1 try 1"}, names) != "" {
				t.Errorf("claimed %v", names)
			}
			free := uncounted(notBusy)
			claimed, err := w.Claim(t.Context(), store.Cursor{}, 1, lease, free)
			if err != nil || len(claimed.Deliveries) != 1 || !claimed.More {
				t.Errorf("there is more than the limit: %+v, %v", claimed, err)
			}
			// What comes behind that is the last one, and not the busy one, which came before.
			claimed, err = w.Claim(t.Context(), claimed.Next, 2, lease, everywhere)
			if err != nil || len(claimed.Deliveries) != 1 || claimed.Deliveries[0].Endpoint != "https://shop.example" || claimed.More {
				t.Errorf("behind it: %+v, %v", claimed, err)
			}
			claimed, err = w.Claim(t.Context(), store.Cursor{}, 2, lease, free)
			if err != nil || len(claimed.Deliveries) > 0 || claimed.More {
				t.Errorf("only the busy one is due: %+v, %v", claimed, err)
			}
			claimed, err = w.Claim(t.Context(), claimed.Next, 2, lease, everywhere)
			if err != nil || len(claimed.Deliveries) > 0 {
				t.Errorf("it has been looked at, and is found behind that again: %+v, %v", claimed, err)
			}
			// It has been due for the longest, and stays so: from a cursor behind it on it is in nobody's way.
			behind := store.DueAt(w.Now())
			if at, waits, err := w.NextEvent(t.Context()); !waits || err != nil || !at.Before(w.Now()) {
				t.Errorf("the busy endpoint's event is due at %s, %v; it is %s", at, err, w.Now())
			}
			claimed, err = w.Claim(t.Context(), behind, 2, lease, everywhere)
			if err != nil || len(claimed.Deliveries) > 0 || claimed.More || claimed.Next != behind {
				t.Errorf("behind it: %+v, %v", claimed, err)
			}
			w.claims("busy/1 try 1")
		}},
		{"events: a claim that is run again, because another's write failed, keeps one place for each event", func(t *testing.T, w *world) {
			w.asking(terms("order-1"))
			release := w.block(w.create(terms("blocker")).ID)
			places := 0
			claimed, failed := make(chan store.Claims, 1), make(chan error, 1)
			w.handIn(func() {
				claims, err := w.Claim(t.Context(), store.Cursor{}, 10, lease, store.Places{
					Admit:   func(string, int64) bool { places++; return true },
					Release: func(string) { places-- },
				})
				if err != nil {
					t.Error(err)
				}
				claimed <- claims
			})
			w.handIn(func() { failed <- store.WriteInVain(w.Store) })
			release()
			if err := <-failed; err == nil {
				t.Error("the other write did not fail")
			}
			if claims := <-claimed; len(claims.Deliveries) != 1 || claims.Deliveries[0].Attempt != 1 || places != 1 {
				t.Errorf("claimed are %+v, with %d places", claims, places)
			}
		}},
		{"events: a failing one holds up the later ones only for so long", func(t *testing.T, w *world) {
			p := w.held(terms("order-1"))
			for try := 1; try <= store.Patience; try++ {
				d := w.claims(fmt.Sprintf("order-1/1 try %d", try))
				w.record(w.failed(d[0], time.Minute))
				if try < store.Patience {
					w.later(time.Minute - time.Microsecond)
					w.claims() // the second event waits with the first
					w.later(time.Microsecond)
				}
			}
			d := w.claims("order-1/2 try 1")
			w.outcomesAre(p, "1 wait_user_action: due 3m0s", "2 waiting_for_capture: due 2m30s")
			// That it fails too says nothing of the first.
			w.record(w.failed(d[0], time.Second))
			w.outcomesAre(p, "1 wait_user_action: due 3m0s", "2 waiting_for_capture: due 2m1s")
			w.later(time.Second)
			// Taken, it makes the first old news.
			w.record(delivered(w.claims("order-1/2 try 2")[0]))
			w.outcomesAre(p, "1 wait_user_action: a later one was taken", "2 waiting_for_capture: delivered")
			w.later(time.Hour)
			w.claims()
			line, err := w.Timeline(t.Context(), p.ID)
			if err != nil {
				t.Fatal(err)
			}
			fail := store.DeliveryRecord{At: t0, Took: time.Millisecond, Status: 500, Note: "internal error"}
			try := func(r store.DeliveryRecord, n int, at time.Duration) store.DeliveryRecord {
				r.Attempt, r.At = n, t0.Add(at)
				return r
			}
			for i, want := range [][]store.DeliveryRecord{
				{try(fail, 1, 0), try(fail, 2, time.Minute), try(fail, 3, 2*time.Minute)},
				{try(fail, 1, 2*time.Minute), try(store.DeliveryRecord{Took: time.Millisecond, Status: 200}, 2, 2*time.Minute+time.Second)},
			} {
				if diff := cmp.Diff(want, line.Events[i].Deliveries); diff != "" {
					t.Errorf("tries of event %d (-want +got):\n%s", i+1, diff)
				}
			}
		}},
		{"events: one that has failed often goes before the next, and not beside it", func(t *testing.T, w *world) {
			p := w.asking(terms("order-1"))
			for try := 1; try <= store.Patience; try++ {
				w.record(w.failed(w.claims(fmt.Sprintf("order-1/1 try %d", try))[0], time.Minute))
				w.later(time.Minute)
			}
			w.later(time.Second)
			w.mustSettle(p.ID, payment.Answer{Outcome: payment.Approved, Centre: payment.Centre{Hold: "9"}})
			d := w.claims("order-1/1 try 4") // both are due
			w.claims()
			w.record(w.failed(d[0], time.Minute))
			w.claims("order-1/2 try 1")
		}},
		{"events: old news is not sent again although its own attempt ends later", func(t *testing.T, w *world) {
			for _, firstHangs := range []time.Duration{lease / 2, 10 * lease} { // within its lease, and past it
				name := fmt.Sprint("order-", firstHangs)
				p := w.held(terms(name))
				for try := 1; try <= store.Patience; try++ {
					w.record(w.failed(w.claims(fmt.Sprintf("%s/1 try %d", name, try))[0], time.Minute))
					if try < store.Patience {
						w.later(time.Minute)
					}
				}
				// The second goes while the first waits for its next try; both are on their way then.
				claimed, err := w.Claim(t.Context(), store.Cursor{}, 1, time.Hour, everywhere)
				second := claimed.Deliveries
				if err != nil || len(second) != 1 || second[0].Event.N != 2 {
					t.Fatalf("%v, %v", second, err)
				}
				w.later(time.Minute)
				first := w.claims(name + "/1 try 4")
				w.later(firstHangs)
				w.record(delivered(second[0]))
				w.record(w.failed(first[0], time.Minute))
				w.later(time.Hour)
				w.claims()
				w.outcomesAre(p, "1 wait_user_action: a later one was taken", "2 waiting_for_capture: delivered")
			}
		}},
		{"events: a failure that is known when the event is claimed again says nothing of that, a success does", func(t *testing.T, w *world) {
			p := w.asking(terms("order-1"))
			first := w.claims("order-1/1 try 1")
			w.later(lease)
			w.claims("order-1/1 try 2")
			w.record(w.failed(first[0], time.Millisecond))
			w.outcomesAre(p, "1 wait_user_action: due 1m0s") // when the second lease ends
			givenUp := w.failed(first[0], 0)
			givenUp.NextAt, givenUp.Outcome = time.Time{}, "gave up"
			w.record(givenUp)
			w.outcomesAre(p, "1 wait_user_action: due 1m0s")
			w.later(time.Second)
			w.claims()
			w.record(delivered(first[0]))
			w.outcomesAre(p, "1 wait_user_action: delivered")
		}},
		{"events: a merchant who took the request and decided is not asked again", func(t *testing.T, w *world) {
			p := w.held(terms("order-1"))
			w.record(delivered(w.claims("order-1/1 try 1")[0]))
			d := w.claims("order-1/2 try 1")
			// Accepted, but without a decision: it is repeated until there is one.
			r := w.failed(d[0], time.Minute)
			r.Accepted, r.Status, r.Note = true, 200, "no decision"
			w.record(r)
			w.later(time.Minute)
			r.Delivery, r.NextAt = w.claims("order-1/2 try 2")[0], w.Now().Add(time.Minute)
			w.record(r)
			w.begin(p.ID, payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant})
			w.mustSettle(p.ID, payment.Answer{Outcome: payment.Approved})
			// The news need not wait for a merchant who has the request.
			d = w.claims("order-1/3 try 1")
			w.record(w.failed(d[0], time.Hour))
			w.later(time.Minute)
			w.claims()
			w.outcomesAre(p, "1 wait_user_action: delivered", "2 waiting_for_capture: the payment is decided", "3 canceled: due 1h1m0s")
		}},
		{"events: a note that is no text is no reason to forget what became of a delivery", func(t *testing.T, w *world) {
			p := w.asking(terms("order-1"))
			r := delivered(w.claims("order-1/1 try 1")[0])
			r.Note = "\xff a \x00 b"
			w.record(r)
			line, err := w.Timeline(t.Context(), p.ID)
			if err != nil || line.Events[0].Deliveries[0].Note != "\uFFFD a  b" {
				t.Errorf("%+v, %v", line.Events, err)
			}
		}},
		{"events: nowhere to send", func(t *testing.T, w *world) {
			quiet := terms("order-1")
			quiet.NotifyURL = ""
			p := w.held(quiet)
			w.claims()
			w.outcomesAre(p, "1 wait_user_action: nowhere to send", "2 waiting_for_capture: nowhere to send")
			w.clean()
		}},
		{"events: a commit wakes whoever sends, one without news does not", func(t *testing.T, w *world) {
			p := w.create(terms("order-1"))
			w.begin(p.ID, pay())
			if token(w.Told()) {
				t.Error("woken for nothing")
			}
			w.mustSettle(p.ID, payment.Answer{Outcome: payment.ChallengeGiven})
			if !token(w.Told()) {
				t.Error("not woken")
			}
		}},
		{"fresh: handed over claimed and in order, once it is on the disk", func(t *testing.T, w *world) {
			fresh := w.Fresh(lease)
			next := func() (d store.Delivery) {
				t.Helper()
				select {
				case d = <-fresh:
				default:
					t.Fatal("nothing is handed over")
				}
				return d
			}
			p := w.held(terms("order-1"))
			first, second := next(), next() // who takes them keeps their order
			if first.Payment != p.ID || first.Event.N != 1 || first.Attempt != 1 || first.Endpoint != "https://shop.example" || second.Event.N != 2 {
				t.Errorf("handed over: %+v, %+v", first, second)
			}
			w.claims() // nobody else may send them
			w.outcomesAre(p, "1 wait_user_action: due 30s", "2 waiting_for_capture: due 30s")
			// The first failed and is to be sent again: what comes now waits with it, and is not handed over.
			w.record(w.failed(first, time.Hour))
			w.begin(p.ID, payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant})
			w.mustSettle(p.ID, payment.Answer{Outcome: payment.Approved})
			if len(fresh) > 0 {
				t.Errorf("handed over out of its turn: %+v", <-fresh)
			}
			w.record(delivered(second))
			w.claims("order-1/3 try 1")
			// Who took it and died: it is sent again when the lease ends.
			w.later(lease)
			w.claims("order-1/3 try 2")
			w.clean()
		}},
		{"fresh: one whose lease has ended is not on its way any more, and what comes now waits for it", func(t *testing.T, w *world) {
			fresh := w.Fresh(lease)
			p := w.asking(terms("order-1"))
			<-fresh
			w.later(lease) // who took it stood still
			w.mustSettle(p.ID, payment.Answer{Outcome: payment.Approved, Claim: "hold", Centre: payment.Centre{Hold: "9"}})
			if len(fresh) > 0 {
				t.Errorf("handed over out of its turn: %+v", <-fresh)
			}
			w.record(delivered(w.claims("order-1/1 try 2")[0]))
			w.claims("order-1/2 try 1")
			w.clean()
		}},
		{"fresh: given up late, when another sends it again, it is not over", func(t *testing.T, w *world) {
			fresh := w.Fresh(lease)
			p := w.asking(terms("order-1"))
			first := <-fresh
			w.later(lease)
			w.claims("order-1/1 try 2")
			late := w.failed(first, 0)
			late.NextAt, late.Outcome = time.Time{}, "gave up"
			w.record(late)
			w.later(lease)
			w.mustSettle(p.ID, payment.Answer{Outcome: payment.Approved, Claim: "hold", Centre: payment.Centre{Hold: "9"}})
			if len(fresh) > 0 {
				t.Errorf("handed over out of its turn: %+v", <-fresh)
			}
			w.claims("order-1/1 try 3")
		}},
		{"fresh: put back, it is due again, and the attempt does not count", func(t *testing.T, w *world) {
			fresh := w.Fresh(lease)
			p := w.asking(terms("order-1"))
			d := <-fresh
			if err := w.PutBack(t.Context(), []store.Delivery{d}, w.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			w.claims()
			w.outcomesAre(p, "1 wait_user_action: due 1s")
			w.later(time.Second)
			w.claims("order-1/1 try 1")
		}},
		{"fresh: what is not stored is not handed over, and what is tried twice is handed over once", func(t *testing.T, w *world) {
			fresh := w.Fresh(lease)
			var asked []payment.Payment
			for i := range 3 {
				asked = append(asked, w.create(terms(fmt.Sprint("order-", i))))
				w.begin(asked[i].ID, pay())
			}
			release := w.block(asked[0].ID)
			errs := make(chan error, 4)
			for _, id := range []payment.ID{asked[1].ID, asked[2].ID} {
				w.handIn(func() {
					_, err := w.Update(t.Context(), id, answering(payment.Answer{Outcome: payment.ChallengeGiven}))
					errs <- err
				})
			}
			same := payment.NewID(t0, randomTen()) // the second of these cannot be written, so all are run again
			for _, name := range []string{"twin-1", "twin-2"} {
				w.handIn(func() {
					_, _, err := w.Create(t.Context(), shop, name, maker(terms(name), same))
					errs <- err
				})
			}
			release()
			failed := 0
			for range 4 {
				if err := <-errs; err != nil {
					failed++
				}
			}
			if failed != 1 {
				t.Errorf("%d jobs failed, want the second twin's", failed)
			}
			seen := make(map[payment.ID]int)
			for len(fresh) > 0 {
				seen[(<-fresh).Payment]++
			}
			if len(seen) != 2 || seen[asked[1].ID] != 1 || seen[asked[2].ID] != 1 {
				t.Errorf("handed over: %v", seen)
			}
		}},
		{"fresh: one that a batch's failure took back is not handed over", func(t *testing.T, w *world) {
			fresh := w.Fresh(lease)
			p := w.asking(terms("order-1"))
			w.record(delivered(<-fresh))
			other := w.held(terms("order-2"))
			w.record(delivered(<-fresh))
			approved := payment.Answer{Outcome: payment.Approved, Claim: "hold of order-2"} // which is order-2's
			if _, err := w.settle(p.ID, approved); err == nil {
				t.Fatal("the hold has two owners")
			}
			for len(fresh) > 0 {
				if d := <-fresh; d.Payment != other.ID {
					t.Errorf("handed over: %+v", d)
				}
			}
			w.outcomesAre(p, "1 wait_user_action: delivered")
		}},
		{"events: many takers, each event once", func(t *testing.T, w *world) {
			const n = 60
			together(n, func(i int) {
				name := fmt.Sprint("order-", i)
				p, _, err := w.Create(t.Context(), shop, name, maker(terms(name)))
				if err == nil {
					_, err = w.Update(t.Context(), p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) { return payment.Begin(p, pay(), now) })
				}
				if err == nil {
					_, err = w.settle(p.ID, payment.Answer{Outcome: payment.ChallengeGiven})
				}
				if err != nil {
					t.Error(err)
				}
			})
			taken := make(chan store.Delivery, 10*n)
			together(8, func(int) {
				for range n {
					claimed, err := w.Claim(t.Context(), store.Cursor{}, 3, lease, everywhere)
					if err != nil {
						t.Error(err)
					}
					for _, d := range claimed.Deliveries {
						taken <- d
					}
				}
			})
			close(taken)
			seen := make(map[payment.ID]int)
			for d := range taken {
				seen[d.Payment]++
			}
			if len(seen) != n {
				t.Errorf("%d of %d events were taken", len(seen), n)
			}
			for id, times := range seen {
				if times != 1 {
					t.Errorf("the event of %s was taken %d times", id, times)
				}
			}
		}},
	}
}
