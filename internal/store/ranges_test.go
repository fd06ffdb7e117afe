package store_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/store"
)

func cardCases() []storeCase {
	scheme := func(t *testing.T, s *store.Store, number string) string {
		t.Helper()
		cards, err := s.Cards(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r, _ := cards.Find(number)
		return r.Scheme
	}
	bank := payment.Range{From: "56148888", To: "56148888", Scheme: "humo", Country: "UZ", Lengths: []int{16}}
	add := func(t *payment.CardTable) error { t.Ranges = append(t.Ranges, bank); return nil }
	return []storeCase{
		{"cards: the built-in table until there is another", func(t *testing.T, w *world) {
			cards, err := w.Cards(t.Context())
			if err != nil || cards.Edition != 0 || !reflect.DeepEqual(cards.CardTable, payment.BuiltInCards()) {
				t.Errorf("%+v, %v", cards, err)
			}
			made, err := w.UpdateCards(t.Context(), add)
			if err != nil || made.Edition != 1 || !made.At.Equal(t0) {
				t.Errorf("%+v, %v", made, err)
			}
			if now, _ := cards.Find("56148888"); now.Scheme != "uzcard" {
				t.Error("who has the earlier edition sees it change")
			}
			made, err = w.UpdateCards(t.Context(), func(t *payment.CardTable) error { t.NoLuhn = []string{"humo"}; return nil })
			read, readErr := w.Cards(t.Context())
			if err != nil || readErr != nil || made.Edition != 2 || !reflect.DeepEqual(made, read) {
				t.Errorf("made %+v, %v; read %+v, %v", made, err, read, readErr)
			}
			again, err := w.Cards(t.Context())
			if err != nil || again != read {
				t.Errorf("the same edition is another value: %v", err)
			}
			w.later(time.Minute)
			if again, err = w.Cards(t.Context()); err != nil || again != read {
				t.Errorf("the same edition is another value a minute later: %v", err)
			}
		}},
		{"cards: a change is seen at once here, and within a second elsewhere", func(t *testing.T, w *world) {
			beside := w.openAgain(false)
			if scheme(t, w.Store, "56148888") != "uzcard" || scheme(t, beside, "56148888") != "uzcard" {
				t.Fatal("it is not the built-in table")
			}
			if _, err := beside.UpdateCards(t.Context(), add); err != nil {
				t.Fatal(err)
			}
			if scheme(t, beside, "56148888") != "humo" {
				t.Error("who changed it does not see it")
			}
			w.later(time.Second)
			if scheme(t, w.Store, "56148888") != "humo" {
				t.Error("it is not seen a second later")
			}
		}},
		{"cards: what cannot be is refused, and nothing is stored", func(t *testing.T, w *world) {
			_, err := w.UpdateCards(t.Context(), func(t *payment.CardTable) error {
				t.Ranges = append(t.Ranges, payment.Range{From: "54", To: "54", Scheme: "humo", Lengths: []int{16}})
				return nil
			})
			if err == nil || !strings.Contains(err.Error(), "overlap") {
				t.Errorf("%v", err)
			}
			mine := errors.New("no")
			if _, err := w.UpdateCards(t.Context(), func(*payment.CardTable) error { return mine }); !errors.Is(err, mine) {
				t.Errorf("%v", err)
			}
			if cards, err := w.Cards(t.Context()); err != nil || cards.Edition != 0 || scheme(t, w.Store, "54") != "mastercard" {
				t.Errorf("%+v, %v", cards, err)
			}
		}},
	}
}
