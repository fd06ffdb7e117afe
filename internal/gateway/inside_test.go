package gateway

import (
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
