package main

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/bench"
	"holdfast/internal/payment"
	"holdfast/internal/store"
)

// preloadOn makes payments in a store whose clock jumps by jump behind its second commit, and returns what is stored then.
func preloadOn(t *testing.T, count int, jump time.Duration) ([]payment.Payment, error) {
	t.Helper()
	var commits, ahead atomic.Int64
	s, err := store.Open(store.Config{
		Dir: t.TempDir(), Serve: true,
		Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
		At: func(point store.Point) {
			if point == store.Committed && commits.Add(1) == 2 {
				ahead.Store(int64(jump))
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	failed := preload(t.Context(), s, []bench.Shop{{ID: 1}}, count, func(int, int) {})
	made, err := s.List(t.Context(), store.Filter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return made, failed
}

func TestPreload(t *testing.T) {
	made, err := preloadOn(t, 3, 0)
	if err != nil || len(made) != 3 {
		t.Fatalf("%d payments, %v", len(made), err)
	}
	for _, p := range made {
		if p.State != payment.Captured || p.Open != nil {
			t.Errorf("%s is %s", p.Terms.ShopPaymentID, p.State)
		}
	}
}

// TestPreloadOutOfTime: where the machine stood still in the middle of a payment, that is what is said.
func TestPreloadOutOfTime(t *testing.T) {
	made, err := preloadOn(t, 1, 2*time.Hour)
	if err == nil || !strings.Contains(err.Error(), "preload-0 came to the end of its time before it was made") {
		t.Errorf("%v, and stored is %+v", err, made)
	}
}
