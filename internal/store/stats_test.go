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

// waits expects what waits in the store to be this.
func (w *world) waits(what string, want store.Backlog) {
	w.t.Helper()
	got, err := w.Backlog(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func statsCases() []storeCase {
	quiet := func(name string, test bool) payment.Terms {
		of := terms(name)
		of.NotifyURL, of.Test = "", test // nothing is told of it
		return of
	}
	return []storeCase{
		{"backlog: money in doubt", func(t *testing.T, w *world) {
			w.waits("in an empty store", store.Backlog{})
			w.held(quiet("held", false))
			w.create(quiet("new", false))
			over := w.captured(quiet("over", false), total)
			real := w.asking(quiet("in doubt", false))
			w.waits("what is being asked is not in doubt yet", store.Backlog{})
			w.mustSettle(real.ID, payment.Answer{Outcome: payment.Unknown})
			one := store.Backlog{Real: store.Doubts{Count: 1, Oldest: t0}}
			w.waits("one whose answer is unknown", one)
			w.later(5 * time.Second)
			w.begin(real.ID, payment.Resume{})
			if got, err := w.Backlog(t.Context()); err != nil || got.Real != one.Real {
				t.Errorf("it is so too while it is asked about: %+v, %v", got, err)
			}

			tried := w.asking(quiet("a test", true))
			w.later(answerMs * time.Millisecond) // and nobody came with the answer: his process died
			got, err := w.Backlog(t.Context())
			if err != nil || got.Test != (store.Doubts{Count: 1, Oldest: tried.Open.BegunAt}) || got.Real != one.Real {
				t.Errorf("a test payment whose asker died: %+v, %v", got, err)
			}
			w.mustSettle(tried.ID, payment.Answer{Outcome: payment.Refused, Reason: payment.CardRefused})

			w.begin(over.ID, payment.Reimburse{ID: "r", ShopID: "r", Amount: uzs(100)})
			w.mustSettle(over.ID, payment.Answer{Outcome: payment.Unknown})
			for day := range 15 {
				w.later(24 * time.Hour)
				w.begin(real.ID, payment.Resume{})
				p := w.mustSettle(real.ID, payment.Answer{Outcome: payment.Unknown})
				if waits := p.Open.WaitsForPerson(); waits != (day >= 13) {
					t.Fatalf("day %d: waits for a person: %t", day, waits)
				}
				if day >= 13 {
					break
				}
			}
			got, err = w.Backlog(t.Context())
			if want := (store.Doubts{Count: 2, ForPerson: 1, Oldest: t0}); err != nil || got.Real != want || got.Test != (store.Doubts{}) {
				t.Errorf("of two one waits for a person: %+v, %v; want %+v", got, err, want)
			}
			if _, err := w.Update(t.Context(), real.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
				return payment.Begin(p, payment.Resolve{Ref: p.Open.Ref, Resolution: payment.Resolution{
					Outcome: payment.Refused, By: "Gulnora Karimova", Why: "the centre's letter",
				}}, now)
			}); err != nil {
				t.Fatal(err)
			}
			if got, err = w.Backlog(t.Context()); err != nil || got.Real.Count != 1 || got.Real.ForPerson != 0 || got.Real.Oldest.Equal(t0) {
				t.Errorf("after the person's word: %+v, %v", got, err)
			}
			w.clean()
		}},
		{"backlog: more than is read at once", func(t *testing.T, w *world) {
			const many = 2100
			doubtful := w.asking(quiet("in doubt", false))
			w.mustSettle(doubtful.ID, payment.Answer{Outcome: payment.Unknown, Cause: "no answer"})
			w.later(time.Second)
			together(many, func(i int) {
				if _, _, err := w.Create(t.Context(), shop, fmt.Sprint("order-", i), maker(quiet(fmt.Sprint("order-", i), false))); err != nil {
					t.Error(err)
				}
			})
			last := w.asking(quiet("the last", false))
			w.later(ttl + time.Second)
			w.begin(last.ID, payment.Resume{Orphan: true})
			w.mustSettle(last.ID, payment.Answer{Outcome: payment.Unknown})
			got, err := w.Backlog(t.Context())
			if want := (store.Doubts{Count: 2, Oldest: t0}); err != nil || got.Real != want {
				t.Errorf("before and behind %d others: %+v, %v", many, got, err)
			}
		}},
		{"backlog: notifications", func(t *testing.T, w *world) {
			w.held(terms("order-1")) // events 1 and 2
			want := store.Backlog{Waiting: 2, Due: 2, OldestTold: t0}
			w.waits("nobody has taken them", want)
			w.later(time.Second)
			d := w.claims("order-1/1 try 1")
			got, err := w.Backlog(t.Context())
			if err != nil || got.Waiting != 2 || got.Due > 1 { // the second one waits for the first
				t.Errorf("one is being sent: %+v, %v", got, err)
			}
			w.record(w.failed(d[0], time.Hour))
			w.later(time.Hour)
			d = w.claims("order-1/1 try 2")
			w.record(delivered(d[0]))
			d = w.claims("order-1/2 try 1")
			w.record(delivered(d[0]))
			got, err = w.Backlog(t.Context()) // (where several serve, a payment's time may stand there too early, until it comes)
			if err != nil || got.Waiting != 0 || got.Due != 0 || !got.OldestTold.IsZero() || w.Alone() && !got.OldestDue.Equal(t0.Add(holdFor)) {
				t.Errorf("all are told, and the hold is past its time: %+v, %v", got, err)
			}
		}},
		{"stats: commits are counted and timed", func(t *testing.T, w *world) {
			before, took := w.Stats(), uint64(0)
			w.held(terms("order-1"))
			after := w.Stats()
			if after.Jobs-before.Jobs != 6 || after.Failed != 0 {
				t.Errorf("a hold took %+v, and before it were %+v", after, before)
			}
			_, err := w.Update(t.Context(), payment.ID{1}, func(payment.Payment, time.Time) (payment.Change, error) { return payment.Change{}, nil })
			if did := w.Stats(); !errors.Is(err, store.ErrNotFound) || did.Failed != 0 || did.Syncs != after.Syncs {
				t.Errorf("what is refused by its own fault (%v) counts as failed, or is synced: %+v, before %+v", err, did, after)
			}
			for _, times := range w.CommitTimes() {
				_, count, _ := times.Read()
				took += count
			}
			if took < after.Commits {
				t.Errorf("%d batches were timed, and there were %d commits", took, after.Commits)
			}
			file, log, ok := w.FileSizes()
			if ok != w.Alone() || ok && (file == 0 || log == 0) {
				t.Errorf("the file has %d bytes, the log %d, %t", file, log, ok)
			}
		}},
	}
}

// A payment that cannot be read hides no other that is in doubt.
func TestBacklogUnreadable(t *testing.T) {
	w := newWorld(t, store.Open)
	for _, name := range []string{"damaged", "without a card", "whole"} {
		p := w.asking(terms(name))
		w.mustSettle(p.ID, payment.Answer{Outcome: payment.Unknown})
	}
	of := ` WHERE seq = (SELECT payment FROM terms WHERE shop_payment_id = `
	w.tamper(`UPDATE payments SET progress = '{"open' ` + of + `'damaged');
		UPDATE payments SET progress = json_remove(progress, '$.attempt')` + of + `'without a card');`)
	if got, err := w.Backlog(t.Context()); err != nil || got.Real.Count != 1 {
		t.Errorf("of three in doubt one can be read: %+v, %v", got, err)
	}
}
