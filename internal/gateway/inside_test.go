package gateway

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/payment"
)

// Many cards with a wrong code each do not make the gateway forget the one with many.
func TestWrongCodesOfManyCards(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)
	w := wrongCodes{most: WrongCodes}
	guessed := payment.CardFacts{First6: "860031", Last4: "1293"}
	for range WrongCodes {
		w.count(guessed, now)
	}
	for i := range mostCards {
		w.count(payment.CardFacts{First6: fmt.Sprintf("%06d", 400_000+i/10_000), Last4: fmt.Sprintf("%04d", i%10_000)}, now)
	}
	if w.check(guessed, now.Add(time.Second)) == nil {
		t.Errorf("after wrong codes of %d other cards, the card with %d of them is taken again", mostCards, WrongCodes)
	}
}

// What came in the hour before counts too, for codes under way as well; and is forgotten after the next.
func TestWrongCodesOfTheHourBefore(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)
	w := wrongCodes{most: 3}
	card := payment.CardFacts{First6: "860031", Last4: "1293"}
	w.count(card, now)
	w.count(card, now)
	now = now.Add(brakeFor)
	first, second := payment.NewID(now, [10]byte{1}), payment.NewID(now, [10]byte{2})
	end, err := w.begin(card, first, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.begin(card, second, now); reasonOf(err) != payment.Busy {
		t.Errorf("two were wrong, one is at the centre, and another may go there too: %v", err)
	}
	w.count(card, now)
	end()
	if _, err := w.begin(card, second, now); reasonOf(err) != payment.TooManyWrongCodes {
		t.Errorf("after three: %v", err)
	}
	now = now.Add(brakeFor)
	if end, err = w.begin(card, second, now); err != nil {
		t.Fatalf("one within the last hour: %v", err)
	}
	end()
	if len(w.underWay) != 0 {
		t.Errorf("%d cards are under way", len(w.underWay))
	}
}

// Of each contract's payments so many are attended to at a time, whatever becomes of another's, each in its turn; one that is
// taken is not taken again before it has been attended to.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 2
		var mu sync.Mutex
		hanging, quick := contract{name: "uzcard"}, contract{name: "uzcard", test: true}
		finish, began := make(chan struct{}), make(map[contract][]byte)
		all := newTurns(most, func(d duty) {
			mu.Lock()
			began[d.contract] = append(began[d.contract], d.id[0])
			mu.Unlock()
			if d.contract == hanging {
				<-finish
			}
		})
		take := func(of contract, ids ...byte) {
			for _, id := range ids {
				all.take(duty{id: payment.ID{id}, contract: of})
			}
		}
		expect := func(of contract, want ...byte) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			got := slices.Clone(began[of])
			slices.Sort(got) // those that are begun together
			if !slices.Equal(got, want) {
				t.Errorf("of %v %v were begun, want %v", of, got, want)
			}
		}
		for round := range 3 { // each leaves the places to the next
			clear(began)
			take(hanging, 1, 2, 3, 4, 5)
			take(hanging, 1, 5)
			expect(hanging, 1, 2)
			take(quick, 11, 12, 13, 14)
			expect(quick, 11, 12, 13, 14)
			if !all.has(payment.ID{1}) || !all.has(payment.ID{5}) || all.has(payment.ID{6}) || all.has(payment.ID{11}) {
				t.Errorf("in round %d the wrong ones are taken", round+1)
			}
			finish <- struct{}{}
			expect(hanging, 1, 2, 3)
			for range 4 {
				finish <- struct{}{}
			}
			expect(hanging, 1, 2, 3, 4, 5)
			all.all.Wait()
		}
	})
}

func reasonOf(err error) payment.Reason {
	var refused *payment.Error
	if !errors.As(err, &refused) {
		return ""
	}
	return refused.Reason
}
