package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/internal/ledger"
	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/store"
)

func paymentCases() []storeCase {
	return []storeCase{
		{"create: the first and the repeat", func(t *testing.T, w *world) {
			first, created, err := w.Create(t.Context(), shop, "order-1", maker(terms("order-1")))
			if err != nil || !created {
				t.Fatalf("created %v, %v", created, err)
			}
			if first.Version != 1 || first.State != payment.Created || first.Number < 1 || first.Number > 1<<31-1 {
				t.Fatalf("a new payment is version %d, %s, number %d", first.Version, first.State, first.Number)
			}
			w.later(time.Minute)
			other := terms("order-1")
			other.Amount = uzs(5)
			again, created, err := w.Create(t.Context(), shop, "order-1", maker(other))
			if err != nil || created {
				t.Fatalf("the repeat: created %v, %v", created, err)
			}
			if diff := cmp.Diff(first, again); diff != "" {
				t.Errorf("the repeat gets another payment (-first +again):\n%s", diff)
			}
			// The same name in another shop is another payment.
			elsewhere, created, err := w.Create(t.Context(), shop+1, "order-1", func(number int64, now time.Time) payment.Change {
				c := maker(terms("order-1"))(number, now)
				c.Payment.Shop = shop + 1
				return c
			})
			if err != nil || !created || elsewhere.ID == first.ID || elsewhere.Number == first.Number {
				t.Errorf("another shop: created %v, %v, id %s, number %d", created, err, elsewhere.ID, elsewhere.Number)
			}
			w.clean()
		}},
		{"create: 100 at once make one payment", func(t *testing.T, w *world) {
			var made atomic.Int32
			got := make([]payment.Payment, 100)
			together(100, func(i int) {
				p, created, err := w.Create(t.Context(), shop, "order-1", maker(terms("order-1")))
				if err != nil {
					t.Error(err)
				}
				if created {
					made.Add(1)
				}
				got[i] = p
			})
			if made.Load() != 1 {
				t.Errorf("%d callers were told that they made it", made.Load())
			}
			for i := range got {
				if diff := cmp.Diff(got[0], got[i]); diff != "" {
					t.Fatalf("caller %d got another answer:\n%s", i, diff)
				}
			}
			list, err := w.List(t.Context(), store.Filter{})
			if err != nil || len(list) != 1 {
				t.Errorf("%d payments are stored, %v", len(list), err)
			}
		}},
		{"create: only the process that serves", func(t *testing.T, w *world) {
			beside := w.openAgain(false)
			if p, created, err := beside.Create(t.Context(), shop, "order-1", maker(terms("order-1"))); err == nil || created || p.Version != 0 {
				t.Errorf("created %v, %v", created, err)
			}
		}},
		{"create: what panics or does not pass the check leaves the name free", func(t *testing.T, w *world) {
			p, created, err := w.Create(t.Context(), shop, "order-1", func(int64, time.Time) payment.Change { panic("boom") })
			if err == nil || !strings.Contains(err.Error(), "boom") || created || p.Version != 0 {
				t.Errorf("a panic: created %v, %v", created, err)
			}
			p, created, err = w.Create(t.Context(), shop, "order-1", func(number int64, now time.Time) payment.Change {
				c := maker(terms("order-1"))(number, now)
				c.Payment.Captured = uzs(1)
				return c
			})
			if err == nil || created || p.Version != 0 {
				t.Errorf("money from nothing: created %v, version %d, %v", created, p.Version, err)
			}
			w.create(terms("order-1"))
			w.clean()
		}},
		{"what is written is what is read", func(t *testing.T, w *world) {
			rich := terms("order-\u202e 1'\";--🙂")
			rich.Amount = uzs(money.MaxMinor)
			rich.Description = strings.Repeat("Ўзбекча тавсиф\n\x00", 200)
			rich.User = &payment.User{ID: "7", Phone: "998901234567", Email: "payer@example.com"}
			rich.Basket = []payment.Item{{Description: "Choy", Count: 3, Price: "437278.66", SPIC: "00702001001000001"}}
			rich.Tag, rich.TspID, rich.Test = "tag", 18, true
			want := w.captured(rich, 123_456_789)
			// A store that did not write it knows it only from the disk.
			for _, s := range []*store.Store{w.Store, w.openAgain(false)} {
				got, err := s.Payment(t.Context(), want.ID)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("stored another payment (-told +read):\n%s", diff)
				}
			}
			w.clean()
		}},
		{"update: every reader sees it once it has returned", func(t *testing.T, w *world) {
			p := w.create(terms("order-1"))
			for range 5 {
				// begin, settle as unknown: the payment goes to and fro, and its version grows.
				want := w.begin(p.ID, pay())
				for name, read := range map[string]func() (payment.Payment, error){
					"Payment":         func() (payment.Payment, error) { return w.Payment(t.Context(), p.ID) },
					"PaymentByNumber": func() (payment.Payment, error) { return w.PaymentByNumber(t.Context(), p.Number) },
					"PaymentByShop":   func() (payment.Payment, error) { return w.PaymentByShop(t.Context(), shop, "order-1") },
					"List": func() (payment.Payment, error) {
						list, err := w.List(t.Context(), store.Filter{})
						return append(list, payment.Payment{})[0], err
					},
					"Timeline": func() (payment.Payment, error) {
						line, err := w.Timeline(t.Context(), p.ID)
						return line.Payment, err
					},
				} {
					got, err := read()
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s is behind (-told +read):\n%s", name, diff)
					}
				}
				w.mustSettle(p.ID, payment.Answer{Outcome: payment.Unknown})
			}
		}},
		{"update: the store's time, in whole microseconds", func(t *testing.T, w *world) {
			w.later(1234567 * time.Nanosecond)
			p := w.create(terms("order-1"))
			change, err := w.Update(t.Context(), p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
				if !now.Equal(t0.Add(1234 * time.Microsecond)) {
					t.Errorf("now is %s", now)
				}
				return payment.Begin(p, pay(), now)
			})
			if err != nil || !change.Payment.UpdatedAt.Equal(t0.Add(1234*time.Microsecond)) {
				t.Errorf("updated at %s, %v", change.Payment.UpdatedAt, err)
			}
		}},
		{"update: a refusal is returned as it is and writes nothing", func(t *testing.T, w *world) {
			p := w.create(terms("order-1"))
			want := &payment.Error{Reason: payment.NotHeld}
			change, err := w.Update(t.Context(), p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
				c, _ := payment.Begin(p, pay(), now)
				return c, want
			})
			if err != error(want) {
				t.Errorf("%v (%T), want the very error", err, err)
			}
			if change.Payment.Version != 0 {
				t.Errorf("a refused change is handed out as stored")
			}
			w.unchanged(p)
		}},
		{"update: an empty change writes nothing and returns the payment", func(t *testing.T, w *world) {
			p := w.create(terms("order-1"))
			change, err := w.Update(t.Context(), p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
				return payment.Begin(p, payment.Lapse{}, now)
			})
			if err != nil || !change.Empty() || cmp.Diff(p, change.Payment) != "" {
				t.Errorf("%v %s", err, cmp.Diff(p, change.Payment))
			}
			w.unchanged(p)
		}},
		{"update: a panic is an error and harms nobody", func(t *testing.T, w *world) {
			p, other := w.create(terms("order-1")), w.create(terms("order-2"))
			release := w.block(other.ID)
			errs := make(chan error, 2)
			w.handIn(func() {
				_, err := w.Update(t.Context(), p.ID, func(payment.Payment, time.Time) (payment.Change, error) { panic("boom") })
				errs <- err
			})
			w.handIn(func() {
				_, err := w.Update(t.Context(), other.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
					return payment.Begin(p, pay(), now)
				})
				errs <- err
			})
			release()
			first, second := <-errs, <-errs
			if first == nil {
				first, second = second, first
			}
			if first == nil || !strings.Contains(first.Error(), "boom") || second != nil {
				t.Errorf("the panic got %v, its neighbour %v", first, second)
			}
			w.unchanged(p)
			if got, _ := w.Payment(t.Context(), other.ID); got.Open == nil {
				t.Error("the neighbour's change is lost")
			}
		}},
		{"update: what the check refuses is not written", func(t *testing.T, w *world) {
			p := w.held(terms("order-1"))
			for name, spoil := range map[string]func(*payment.Change){
				"money from nothing":      func(c *payment.Change) { c.Payment.Held = c.Payment.Held.Add(uzs(1)) },
				"another number":          func(c *payment.Change) { c.Payment.Number++ },
				"another shop":            func(c *payment.Change) { c.Payment.Shop++ },
				"an illegal move":         func(c *payment.Change) { c.Payment.State = payment.Created },
				"an event without number": func(c *payment.Change) { c.Events = append(c.Events, payment.Event{}) },
				"an entry of its own": func(c *payment.Change) {
					c.Entries = append(c.Entries, ledger.Transfer(ledger.Release, "x", ledger.ShopHeld(shop), ledger.PayerHeld, uzs(1)))
				},
			} {
				change, err := w.Update(t.Context(), p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
					c, err := payment.Begin(p, payment.Decide{Accept: payment.Capture, By: payment.ByMerchant}, now)
					spoil(&c)
					return c, err
				})
				if err == nil || change.Payment.Version != 0 {
					t.Errorf("%s: %v, version %d", name, err, change.Payment.Version)
				}
			}
			w.unchanged(p)
			w.clean()
		}},
		{"update: nobody there", func(t *testing.T, w *world) {
			_, err := w.Update(t.Context(), payment.ID{1}, func(payment.Payment, time.Time) (payment.Change, error) {
				t.Error("decided on nothing")
				return payment.Change{}, nil
			})
			_, byID := w.Payment(t.Context(), payment.ID{1})
			_, byShop := w.PaymentByShop(t.Context(), shop, "order-1")
			_, line := w.Timeline(t.Context(), payment.ID{1})
			for _, err := range []error{err, byID, byShop, line} {
				if !errors.Is(err, store.ErrNotFound) {
					t.Errorf("%v, want ErrNotFound", err)
				}
			}
			for _, number := range []int64{-1, 0, 1, 1<<31 - 1, 1 << 31, 1 << 40} {
				if _, err := w.PaymentByNumber(t.Context(), number); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("number %d: %v", number, err)
				}
			}
		}},
		{"update: callers on one payment come one after another", func(t *testing.T, w *world) {
			p := w.asking(terms("order-1"))
			const callers, times = 25, 6
			var decided atomic.Int64
			together(callers, func(int) {
				for range times {
					_, err := w.Update(t.Context(), p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
						decided.Add(1)
						return payment.Begin(p, payment.Resume{Orphan: true}, now) // adds one to Asks
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
			got, err := w.Payment(t.Context(), p.ID)
			if err != nil || got.Open.Asks != p.Open.Asks+callers*times || got.Version != p.Version+callers*times {
				t.Errorf("%v: %d asks, version %d; were %d and %d before %d updates", err, got.Open.Asks, got.Version, p.Open.Asks, p.Version, callers*times)
			}
			if decided.Load() != callers*times {
				t.Errorf("%d updates were decided %d times", callers*times, decided.Load())
			}
		}},
		{"update: another process's write is decided on at once, and nobody's is lost", func(t *testing.T, w *world) {
			p := w.asking(terms("order-1"))
			beside := w.openAgain(false) // the command line beside the server
			ask := func(s *store.Store) int {
				change, err := s.Update(t.Context(), p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
					return payment.Begin(p, payment.Resume{Orphan: true}, now)
				})
				if err != nil {
					t.Fatal(err)
				}
				return change.Payment.Open.Asks - p.Open.Asks
			}
			for n := 1; n <= 6; n += 2 {
				if got := ask(beside); got != n {
					t.Fatalf("update %d beside the server is its %dth", n, got)
				}
				if got := ask(w.Store); got != n+1 {
					t.Fatalf("update %d by the server is its %dth", n+1, got)
				}
			}
			together(4, func(i int) {
				for range 5 {
					ask([]*store.Store{w.Store, beside}[i%2])
				}
			})
			if got := ask(w.Store); got != 6+20+1 {
				t.Errorf("%d updates are counted, want 27", got)
			}
			w.clean()
		}},
		{"update: nobody is told of what is no longer so", func(t *testing.T, w *world) {
			p := w.asking(terms("order-1"))
			beside := w.openAgain(false)
			if _, err := beside.Update(t.Context(), p.ID, answering(payment.Answer{Outcome: payment.Approved, Claim: "1"})); err != nil {
				t.Fatal(err)
			}
			busy := errors.New("its question is being asked")
			_, err := w.Update(t.Context(), p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
				if p.Open != nil {
					return payment.Change{}, busy
				}
				return payment.Begin(p, payment.Decide{Accept: payment.Capture, By: payment.ByMerchant}, now)
			})
			if err != nil {
				t.Errorf("refused: %v", err)
			}
			change, err := beside.Update(t.Context(), p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
				return payment.Settle(p, payment.Answer{Ref: p.Open.Ref, Outcome: payment.Approved, Amount: uzs(total)}, now), nil
			})
			if err != nil || change.Payment.State != payment.Captured {
				t.Fatalf("%s, %v", change.Payment.State, err)
			}
			// Nothing changes: what it is told is how it is.
			change, err = w.Update(t.Context(), p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
				return payment.Change{Payment: p}, nil
			})
			if err != nil || change.Payment.State != payment.Captured {
				t.Errorf("a captured payment is told to be %s, %v", change.Payment.State, err)
			}
			w.clean()
		}},
		{"a hold belongs to one payment", func(t *testing.T, w *world) {
			a, b := w.asking(terms("order-1")), w.asking(terms("order-2"))
			approved := payment.Answer{Outcome: payment.Approved, Claim: "4711", Centre: payment.Centre{Hold: "4711"}}
			if owned, err := w.Claimed(t.Context(), "uzcard", "4711"); owned || err != nil {
				t.Fatalf("claimed %v, %v", owned, err)
			}
			// Both in one batch: the first gets it.
			blocker := w.create(terms("order-3"))
			release := w.block(blocker.ID)
			errs := make(map[payment.ID]error)
			results := make(chan func(), 2)
			for _, id := range []payment.ID{a.ID, b.ID} {
				w.handIn(func() {
					change, err := w.Update(t.Context(), id, answering(approved))
					results <- func() {
						errs[id] = err
						if err != nil && change.Payment.Version != 0 {
							t.Error("what was not stored is handed out")
						}
					}
				})
			}
			release()
			(<-results)()
			(<-results)()
			if errs[a.ID] != nil || !errors.Is(errs[b.ID], store.ErrClaimed) {
				t.Errorf("the first got %v, the second %v", errs[a.ID], errs[b.ID])
			}
			w.unchanged(b)
			if _, err := w.settle(b.ID, approved); !errors.Is(err, store.ErrClaimed) {
				t.Errorf("later: %v", err)
			}
			w.unchanged(b)
			for claim, want := range map[string]bool{"uzcard 4711": true, "uzcard 4712": false, "humo 4711": false} {
				method, hold, _ := strings.Cut(claim, " ")
				if owned, err := w.Claimed(t.Context(), payment.Method(method), hold); owned != want || err != nil {
					t.Errorf("claimed %s: %v, %v", claim, owned, err)
				}
			}
			approved.Claim = "4712"
			if p := w.mustSettle(b.ID, approved); p.State != payment.Held {
				t.Errorf("with a hold of its own it is %s", p.State)
			}
			w.clean()
		}},
		{"due: the longest due first, and only what is due", func(t *testing.T, w *world) {
			young := w.create(terms("young"))
			w.later(-time.Minute)
			old := w.create(terms("old"))
			held := w.held(terms("held"))
			person := w.held(terms("person"))
			w.captured(terms("done"), total)
			// A question past its inquiries waits for a person and is due never.
			w.begin(person.ID, payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant})
			w.later(20 * 24 * time.Hour)
			if p := w.mustSettle(person.ID, payment.Answer{Outcome: payment.Unknown}); !p.Due().IsZero() {
				t.Fatalf("due at %s, want never", p.Due())
			}
			for _, c := range []struct {
				at    time.Duration
				limit int
				want  []payment.ID
			}{
				{-time.Minute + ttl - time.Microsecond, 10, nil},
				{-time.Minute + ttl, 10, []payment.ID{old.ID}},
				{ttl, 10, []payment.ID{old.ID, young.ID}},
				{-time.Minute + holdFor, 10, []payment.ID{old.ID, young.ID, held.ID}},
				{holdFor, 2, []payment.ID{old.ID, young.ID}},
			} {
				got, _, err := w.Due(t.Context(), t0.Add(c.at), store.Cursor{}, c.limit)
				if err != nil || !slices.Equal(got, c.want) {
					t.Errorf("at %s, at most %d: %v, %v, want %v", c.at, c.limit, got, err, c.want)
				}
				// One after another it is the same.
				got = nil
				for after := (store.Cursor{}); len(got) < c.limit; {
					var one []payment.ID
					if one, after, err = w.Due(t.Context(), t0.Add(c.at), after, 1); err != nil || len(one) == 0 {
						break
					}
					got = append(got, one...)
				}
				if err != nil || !slices.Equal(got, c.want) {
					t.Errorf("at %s, at most %d, one after another: %v, %v, want %v", c.at, c.limit, got, err, c.want)
				}
			}
			// One in doubt is due when it is asked about next, whatever was due before: a hold, or, for a refund, nothing.
			hold, refund := w.asking(terms("hold in doubt")), w.captured(terms("refund in doubt"), total)
			w.begin(refund.ID, payment.Reimburse{ID: "refund-1", ShopID: "r1", Amount: uzs(500)})
			for _, p := range []payment.Payment{hold, refund} {
				p = w.mustSettle(p.ID, payment.Answer{Outcome: payment.Unknown})
				for _, early := range []time.Duration{time.Microsecond, 0} {
					got, _, err := w.Due(t.Context(), p.Due().Add(-early), store.Cursor{}, 10)
					if err != nil || slices.Contains(got, p.ID) != (early == 0) {
						t.Errorf("%s, %s before it is asked about: %v, %v", p.Terms.ShopPaymentID, early, got, err)
					}
				}
			}
		}},
		{"soon: a token when a commit leaves something due", func(t *testing.T, w *world) {
			p := w.asking(terms("order-1"))
			if token(w.Soon()) {
				t.Error("woken for nothing")
			}
			// The hold proves to be there after its deadline: it is due at once.
			w.later(holdFor)
			w.mustSettle(p.ID, payment.Answer{Outcome: payment.Approved, Claim: "1"})
			if !token(w.Soon()) {
				t.Error("not woken for a hold past its deadline")
			}
			if token(w.Soon()) {
				t.Error("woken twice")
			}
		}},
		{"open: questions without an answer, oldest first", func(t *testing.T, w *world) {
			w.create(terms("created"))
			w.held(terms("held"))
			w.captured(terms("captured"), total)
			refund := w.captured(terms("refund"), total) // nothing was due of it before
			refund = w.begin(refund.ID, payment.Reimburse{ID: "refund-1", ShopID: "r1", Amount: uzs(500)})
			want := []store.Opened{{ID: refund.ID, Version: refund.Version}}
			for i := range 7 {
				w.later(time.Second)
				p := w.asking(terms(fmt.Sprint("asking-", i)))
				want = append(want, store.Opened{ID: p.ID, Version: p.Version})
			}
			if got, err := w.Open(t.Context()); err != nil || !slices.Equal(got, want) {
				t.Errorf("%v, %v, want %v", got, err, want)
			}
		}},
		{"list: newest first, filtered, page by page", func(t *testing.T, w *world) {
			var all, held []payment.ID
			for i := range 9 {
				name := fmt.Sprint("order-", i)
				var p payment.Payment
				if i%3 == 0 {
					p = w.held(terms(name))
					held = append([]payment.ID{p.ID}, held...)
				} else {
					p = w.create(terms(name))
				}
				all = append([]payment.ID{p.ID}, all...)
			}
			for _, c := range []struct {
				name   string
				filter store.Filter
				want   []payment.ID
			}{
				{"all", store.Filter{}, all},
				{"limit", store.Filter{Limit: 4}, all[:4]},
				{"second page", store.Filter{Limit: 4, Before: all[3]}, all[4:8]},
				{"after the last", store.Filter{Before: all[8]}, nil},
				{"state", store.Filter{State: payment.Held}, held},
				{"state, second page", store.Filter{State: payment.Held, Limit: 1, Before: held[0]}, held[1:2]},
				{"shop", store.Filter{Shop: shop, Limit: 5000}, all},
				{"another shop", store.Filter{Shop: shop + 1}, nil},
			} {
				list, err := w.List(t.Context(), c.filter)
				var got []payment.ID
				for _, p := range list {
					got = append(got, p.ID)
				}
				if err != nil || !slices.Equal(got, c.want) {
					t.Errorf("%s: %v, %v, want %v", c.name, got, err, c.want)
				}
			}
			if _, err := w.List(t.Context(), store.Filter{Before: payment.ID{9}}); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("before a payment that is not there: %v", err)
			}
		}},
		{"timeline: everything, in order", func(t *testing.T, w *world) {
			p := w.captured(terms("order-1"), 60_000)
			line, err := w.Timeline(t.Context(), p.ID)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, op := range line.Operations {
				got = append(got, fmt.Sprintf("%d %s %d %s", op.N, op.Kind, op.Amount.Minor, op.Outcome))
			}
			for _, e := range line.Entries {
				got = append(got, fmt.Sprintf("%d %s %s", e.N, e.Kind, e.AppendLines(nil)))
			}
			for _, e := range line.Events {
				got = append(got, fmt.Sprintf("%d %s %d %d", e.N, e.Status, e.Sums.Captured.Minor, e.Sums.Fee.Minor))
			}
			want := []string{
				"1 challenge 100000 challenged", "2 verify 100000 approved", "3 hold 100000 approved", "4 capture 60000 approved",
				"1 hold payer/held 100000;shop/12/held -100000",
				"2 capture shop/12/held 60000;payer/held -60000;processor/uzcard 60000;shop/12 -60000",
				"3 fee shop/12 1200;fees -1200",
				"4 release shop/12/held 40000;payer/held -40000",
				"1 wait_user_action 0 0", "2 waiting_for_capture 0 0", "3 succeeded 60000 1200",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			a := w.clean()
			if a.Payments != 1 || a.Operations != 4 || a.Entries != 4 || a.Events != 3 || a.InDoubt != 0 {
				t.Errorf("the audit counts %+v", a)
			}
			want2 := map[ledger.Account]int64{"payer/held": 0, "shop/12/held": 0, "processor/uzcard": 60_000, "shop/12": -58_800, "fees": -1200}
			if diff := cmp.Diff(want2, a.Balances[money.UZS]); diff != "" {
				t.Errorf("balances (-want +got):\n%s", diff)
			}
		}},
	}
}

// unchanged fails the test where p is not stored as it was.
func (w *world) unchanged(p payment.Payment) {
	w.t.Helper()
	remembered, err := w.Payment(w.t.Context(), p.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	line, err := w.Timeline(w.t.Context(), p.ID) // from the disk
	if err != nil {
		w.t.Fatal(err)
	}
	for _, got := range []payment.Payment{remembered, line.Payment} {
		if diff := cmp.Diff(p, got); diff != "" {
			w.t.Errorf("something was written (-before +after):\n%s", diff)
		}
	}
}
