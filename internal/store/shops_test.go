package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/store"
)

func shopCases() []storeCase {
	return []storeCase{
		{"shops: what is stored is what is read", func(t *testing.T, w *world) {
			want := merchant.Shop{
				Name: "Choyxona", SecretHash: merchant.Secret("s").Hash(), UniqueKey: []byte{0, 1, 2, 255},
				Settings: merchant.Settings{
					NotifyURL: notifyURL, Live: true, Methods: []string{"uzcard"}, Currencies: []money.Currency{money.UZS, money.USD},
					HoldSeconds: map[string]int64{"uzcard": 5400},
					Tariff:      merchant.Tariff{ID: 7, Fee: merchant.Fee{Rate: 20_000, Minimum: 100}, ByMethod: map[string]merchant.Fee{"humo": {Rate: 1}}},
				},
			}
			made, err := w.CreateShop(t.Context(), want)
			if err != nil {
				t.Fatal(err)
			}
			want.ID, want.CreatedAt = 1, t0
			if diff := cmp.Diff(want, made); diff != "" {
				t.Errorf("made (-want +got):\n%s", diff)
			}
			second, err := w.CreateShop(t.Context(), merchant.Shop{Name: "Second", UniqueKey: []byte{1}})
			if err != nil || second.ID != 2 {
				t.Errorf("the second shop has id %d, %v", second.ID, err)
			}
			read, err := w.Shop(t.Context(), 1)
			if diff := cmp.Diff(want, read); err != nil || diff != "" {
				t.Errorf("read, %v (-want +got):\n%s", err, diff)
			}
			list, err := w.Shops(t.Context())
			if diff := cmp.Diff([]merchant.Shop{want, second}, list); err != nil || diff != "" {
				t.Errorf("listed, %v (-want +got):\n%s", err, diff)
			}
		}},
		{"shops: a change is seen at once here, and within a second elsewhere", func(t *testing.T, w *world) {
			beside := w.openAgain(false)
			made, err := beside.CreateShop(t.Context(), merchant.Shop{Name: "before"})
			if err != nil {
				t.Fatal(err)
			}
			name := func(s *store.Store) string {
				t.Helper()
				shop, err := s.Shop(t.Context(), made.ID)
				if err != nil {
					t.Fatal(err)
				}
				return shop.Name
			}
			if name(w.Store) != "before" || name(beside) != "before" {
				t.Fatal("the new shop is not there")
			}
			changed, err := beside.UpdateShop(t.Context(), made.ID, func(s *merchant.Shop) error { s.Name = "after"; return nil })
			if err != nil || changed.Name != "after" {
				t.Fatalf("%q, %v", changed.Name, err)
			}
			if name(beside) != "after" {
				t.Error("who changed it does not see it")
			}
			w.later(999 * time.Millisecond)
			if name(w.Store) != "before" {
				t.Error("the cache was not used: each request reads the shop")
			}
			w.later(time.Millisecond)
			if name(w.Store) != "after" {
				t.Error("after a second the old shop is still believed")
			}
		}},
		{"shops: one that is not there is remembered too, for a second", func(t *testing.T, w *world) {
			beside := w.openAgain(false)
			missing := func(s *store.Store) bool {
				_, err := s.Shop(t.Context(), 1)
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					t.Fatal(err)
				}
				return err != nil
			}
			if !missing(w.Store) || !missing(beside) {
				t.Fatal("a shop from nothing")
			}
			if _, err := beside.CreateShop(t.Context(), merchant.Shop{Name: "new"}); err != nil {
				t.Fatal(err)
			}
			if missing(beside) {
				t.Error("who made it does not see it")
			}
			w.later(time.Second)
			if missing(w.Store) {
				t.Error("after a second it is still missing")
			}
		}},
		{"shops: a refused change writes nothing", func(t *testing.T, w *world) {
			made, err := w.CreateShop(t.Context(), merchant.Shop{Name: "before"})
			if err != nil {
				t.Fatal(err)
			}
			no := errors.New("no")
			if _, err := w.UpdateShop(t.Context(), made.ID, func(s *merchant.Shop) error { s.Name = "after"; return no }); err != no {
				t.Errorf("%v, want the very error", err)
			}
			if _, err := w.UpdateShop(t.Context(), made.ID+1, func(*merchant.Shop) error { return nil }); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("a shop that is not there: %v", err)
			}
			if shops, _ := w.Shops(t.Context()); len(shops) != 1 || shops[0].Name != "before" {
				t.Errorf("%+v", shops)
			}
		}},
	}
}

func shopNamed(name string) merchant.Shop { return merchant.Shop{Name: name, UniqueKey: []byte{1}} }
