package gateway

import (
	"errors"
	"fmt"
	"testing"
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

func reasonOf(err error) payment.Reason {
	var refused *payment.Error
	if !errors.As(err, &refused) {
		return ""
	}
	return refused.Reason
}
