package store_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/internal/merchant"
	"holdfast/internal/payment"
	"holdfast/internal/postgrestest"
	"holdfast/internal/store"
)

// A copy that is interrupted goes on where it stopped, and until then nobody serves from it. Afterwards everything is
// there: each payment as it was, its number too.
func TestCopyToPostgreSQL(t *testing.T) {
	defer store.CopyInBlocks(5)()
	from := newWorld(t, store.Open)
	from.everything()
	if _, err := from.CreateShop(t.Context(), shopNamed("Choyxona")); err != nil {
		t.Fatal(err)
	}
	contracts := []string{"humo", "toys"}
	if err := from.SetContracts(t.Context(), contracts); err != nil {
		t.Fatal(err)
	}
	want := from.clean()
	open := postgres(postgrestest.Database(t))
	config := store.Config{Dir: t.TempDir(), Now: from.clock, Log: slog.New(slog.DiscardHandler)}
	copyTo := func(from *world, until int) error {
		return from.copyUntil(until, open, config, func(done, of int) {
			if of != everyPayment {
				t.Errorf("%d of %d", done, of)
			}
		})
	}
	if err := copyTo(from, 5); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	serving := config
	serving.Serve = true
	if s, err := open(serving); err == nil || !strings.Contains(err.Error(), "run the same holdfast copy again") {
		t.Fatalf("half a copy is served from: %v, %v", s, err)
	}
	other := newWorld(t, store.Open)
	other.create(terms("order-1"))
	if err := copyTo(other, 100); err == nil || !strings.Contains(err.Error(), "a copy from another store into this one was begun") {
		t.Errorf("another store on top: %v", err)
	}
	if err := copyTo(from, 100); err != nil {
		t.Fatal(err)
	}
	if err := copyTo(from, 100); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("once more: %v", err)
	}
	w := &world{t: t, open: open, dir: config.Dir, now: from.clock()}
	w.Store = w.openAgain(true)
	if diff := cmp.Diff(want, w.clean()); diff != "" {
		t.Errorf("audit (-original +copy):\n%s", diff)
	}
	if names, err := w.Contracts(t.Context()); !slices.Equal(names, contracts) {
		t.Errorf("the copy knows the contracts %q, %v", names, err)
	}
	originals, err := from.List(t.Context(), store.Filter{})
	if err != nil || len(originals) != everyPayment {
		t.Fatalf("%d, %v", len(originals), err)
	}
	for _, p := range originals {
		line, err := from.Timeline(t.Context(), p.ID)
		if err != nil {
			t.Fatal(err)
		}
		copied, err := w.Timeline(t.Context(), p.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(line, copied); diff != "" {
			t.Errorf("payment %s (-original +copy):\n%s", p.ID, diff)
		}
		if found, err := w.PaymentByNumber(t.Context(), p.Number); err != nil || found.ID != p.ID {
			t.Errorf("number %d: %v", p.Number, err)
		}
	}
	// What comes next has numbers of its own, and what was being asked is due when its answer was.
	if p := w.create(terms("after")); p.Number == originals[0].Number {
		t.Error("a number was given twice")
	}
	w.later(2 * time.Minute) // before anything lapses
	due, _, err := w.Due(t.Context(), w.Now(), store.Cursor{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, id := range due {
		if p, err := w.Payment(t.Context(), id); err == nil && p.Open != nil && p.Open.Outcome == "" {
			asked++
		}
	}
	if asked == 0 {
		t.Error("nobody takes up what was being asked when the old gateway was stopped")
	}
}

// copyUntil copies the store into the one that open opens, and is interrupted after so many rows. progress, which may be nil, is
// told of each block.
func (w *world) copyUntil(rows int, open func(store.Config) (*store.Store, error), into store.Config, progress func(done, of int)) error {
	w.t.Helper()
	to, err := open(into)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	err = w.CopyTo(ctx, to, func(done, of int) {
		if progress != nil {
			progress(done, of)
		}
		if done >= rows {
			cancel()
		}
	})
	return errors.Join(err, to.Close())
}

// A copy that is interrupted and goes on after the old store was used once more would have something of before and something
// of after: it is not complete, and nobody serves from it.
func TestCopyOfAStoreThatHasChanged(t *testing.T) {
	defer store.CopyInBlocks(1)()
	for name, change := range map[string]func(from *world, p payment.Payment){
		"a payment": func(from *world, p payment.Payment) {
			from.begin(p.ID, payment.Decide{Accept: payment.Capture, Amount: uzs(total), By: payment.ByMerchant})
		},
		"an event": func(from *world, p payment.Payment) { from.claims("order-1/1 try 1", "order-2/1 try 1") },
		"a shop": func(from *world, p payment.Payment) {
			if _, err := from.UpdateShop(t.Context(), 1, func(s *merchant.Shop) error { s.SecretHash[0] = 42; return nil }); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			from := newWorld(t, store.Open)
			p := from.held(terms("order-1"))
			from.held(terms("order-2"))
			if _, err := from.CreateShop(t.Context(), shopNamed("Choyxona")); err != nil {
				t.Fatal(err)
			}
			open := postgres(postgrestest.Database(t))
			config := store.Config{Dir: t.TempDir(), Now: from.clock, Log: slog.New(slog.DiscardHandler)}
			if err := from.copyUntil(1, open, config, nil); !errors.Is(err, context.Canceled) {
				t.Fatalf("interrupted: %v", err)
			}
			change(from, p)
			if err := from.copyUntil(100, open, config, nil); err == nil || !strings.Contains(err.Error(), "has changed since the copy was begun") || !strings.Contains(err.Error(), "into a new database") {
				t.Errorf("the copy that goes on: %v", err)
			}
			serving := config
			serving.Serve = true
			if s, err := open(serving); err == nil {
				t.Error("it is served from", s.Close())
			}
		})
	}
}
