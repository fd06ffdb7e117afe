package store_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/postgrestest"
	"holdfast/internal/store"
)

// A gateway that nobody gets in the way of writes in hope: what it remembers goes to the server with all that rests on it, and
// the server refuses all of it where it is not so.
func TestPostgreSQLHope(t *testing.T) {
	hoping := func(t *testing.T, dsn string) (w *world, other *store.Store, trips func(func()) int64) {
		proxy := postgrestest.NewProxy(t, dsn)
		w = newWorld(t, postgresWith(proxy.DSN(), 1))
		w.open = postgresWith(dsn, 1)
		other = w.openAgain(true)
		var syncs atomic.Int64
		proxy.Watch(func(m postgrestest.Message) postgrestest.Verdict {
			if !m.FromServer && m.Type == 'S' {
				syncs.Add(1)
			}
			return postgrestest.Pass
		})
		return w, other, func(f func()) int64 {
			before := syncs.Load()
			f()
			return syncs.Load() - before
		}
	}
	cancel := payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant}
	// steps makes a payment and leads it to a hold: batches like any others.
	steps := func(w *world, name string) payment.Payment { return w.held(terms(name)) }

	t.Run("another gateway has changed the payment", func(t *testing.T) {
		w, other, trips := hoping(t, postgrestest.Database(t))
		p := w.captured(terms("prepares the statements"), total)
		w.begin(steps(w, "likewise").ID, cancel)
		p, alone, after := steps(w, "changed"), steps(w, "alone"), w.begin(steps(w, "after").ID, cancel)
		if n := trips(func() { w.begin(alone.ID, cancel) }); n != 1 {
			t.Errorf("a batch takes %d round trips", n)
		}
		if _, err := other.Update(t.Context(), p.ID, beginning(cancel)); err != nil {
			t.Fatal(err)
		}
		// Decided on what is remembered this would be a first decision, and another one than the first.
		_, err := w.Update(t.Context(), p.ID, beginning(payment.Decide{Accept: payment.Capture, Amount: uzs(total), By: payment.ByMerchant}))
		var refused *payment.Error
		if !errors.As(err, &refused) {
			t.Errorf("a second decision: %v", err)
		}
		if _, err := other.Update(t.Context(), p.ID, answering(payment.Answer{Outcome: payment.Approved})); err != nil {
			t.Fatal(err)
		}
		if now, err := w.Payment(t.Context(), p.ID); err != nil || now.State != payment.Voided || now.Captured.Minor != 0 {
			t.Errorf("it is %s with %d captured, %v", now.State, now.Captured.Minor, err)
		}
		// Hope that was in vain is given up for a while.
		w.mustSettle(after.ID, payment.Answer{Outcome: payment.Approved}) // prepares what is said with care
		if n := trips(func() { w.mustSettle(alone.ID, payment.Answer{Outcome: payment.Approved}) }); n != 2 {
			t.Errorf("after that a batch takes %d round trips, with care it would be 2", n)
		}
		for i := range 30 {
			steps(w, fmt.Sprint("quiet-", i))
		}
		p = steps(w, "hopeful again")
		if n := trips(func() { w.begin(p.ID, cancel) }); n != 1 {
			t.Errorf("long after that a batch takes %d round trips", n)
		}
		w.clean()
	})
	t.Run("another gateway has the name", func(t *testing.T) {
		w, other, _ := hoping(t, postgrestest.Database(t))
		p, _, err := other.Create(t.Context(), shop, "order-1", maker(terms("order-1")))
		if err != nil {
			t.Fatal(err)
		}
		got, created, err := w.Create(t.Context(), shop, "order-1", maker(terms("order-1")))
		if err != nil || created || got.ID != p.ID {
			t.Errorf("created %v: %s, want %s, %v", created, got.ID, p.ID, err)
		}
		w.clean()
	})
	t.Run("another gateway tells an event again", func(t *testing.T) {
		w, other, trips := hoping(t, postgrestest.Database(t))
		fresh := w.Fresh(lease)
		w.captured(terms("prepares the statements"), total)
		for range 3 {
			w.record(delivered(<-fresh))
		}
		const repeat = 5 * time.Second
		undecided := func(name string) payment.Payment {
			p := steps(w, name)
			w.record(delivered(<-fresh))
			asked := delivered(<-fresh)
			asked.Accepted, asked.Outcome, asked.NextAt = true, "", w.Now().Add(repeat)
			w.record(asked)
			return w.begin(p.ID, cancel)
		}
		voided := payment.Answer{Outcome: payment.Approved}
		p := undecided("nobody tells it")
		w.mustSettle(undecided("prepares the rest").ID, voided)
		<-fresh
		if n := trips(func() { w.mustSettle(p.ID, voided) }); n != 1 {
			t.Errorf("what the merchant has taken is asked for: %d round trips", n)
		}
		if d := <-fresh; d.Payment != p.ID || d.Event.N != 3 {
			t.Errorf("handed over: %+v", d)
		}
		p = undecided("another tells it")
		w.later(repeat)
		claimed, err := other.Claim(t.Context(), store.Cursor{}, 10, lease, everywhere)
		told := claimed.Deliveries
		if err != nil || len(told) != 1 || told[0].Payment != p.ID || told[0].Event.N != 2 {
			t.Fatalf("the other claims %+v, %v", told, err)
		}
		w.mustSettle(p.ID, voided)
		if len(fresh) > 0 {
			t.Errorf("handed over while an earlier one is on its way: %+v", <-fresh)
		}
		if err := other.Record(t.Context(), []store.Result{delivered(told[0])}); err != nil {
			t.Fatal(err)
		}
		w.claims("another tells it/3 try 1")
		w.clean()
	})
	t.Run("a payment is gone", func(t *testing.T) {
		dsn := postgrestest.Database(t)
		w, _, _ := hoping(t, dsn)
		p := steps(w, "order-1")
		tell(t, dsn, `DELETE FROM payments`)
		if _, err := w.Update(t.Context(), p.ID, beginning(cancel)); !errors.Is(err, store.ErrBroken) {
			t.Errorf("told %v", err)
		}
		if err := w.Err(); err == nil {
			t.Error("the store goes on")
		}
	})
}
