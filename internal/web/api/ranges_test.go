package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/store"
)

// TestCardRangesAreTakenUp: what an operator does to the card range table, beside the server, counts for the
// next card within a second.
func TestCardRangesAreTakenUp(t *testing.T) {
	w := newWorld(t)
	beside, err := store.Open(store.Config{Dir: w.dir, Now: w.clock.Now})
	check(t, err)
	t.Cleanup(func() { beside.Close() })
	pay := func(number string) string {
		uuid := w.prepare(fmt.Sprint(t.Name(), w.clock.Now().UnixNano()), twoStage)
		return string(w.post("/pay/"+uuid, fmt.Sprintf(`{"pan":%q,"exp":"3012","method":"uzcard"}`, number)))
	}
	edit := func(change func(*payment.CardTable)) {
		_, err := beside.UpdateCards(t.Context(), func(c *payment.CardTable) error { change(c); return nil })
		check(t, err)
		w.advance(time.Second)
	}
	const good, mistyped = "8600313260861293", "8600313260861294"
	if got := pay(good); !strings.Contains(got, `"error":0`) {
		t.Fatal(got)
	}
	edit(func(c *payment.CardTable) {
		c.Ranges = append(c.Ranges, payment.Range{From: "86003132", To: "86003132", Scheme: "humo", Country: "UZ", Lengths: []int{16}})
	})
	if got := pay(good); !strings.Contains(got, `"error":7`) || !strings.Contains(got, "this is a humo card: its method is humo") {
		t.Errorf("a card of the new range: %s", got)
	}
	edit(func(c *payment.CardTable) { *c = payment.BuiltInCards() })
	if got := pay(mistyped); !strings.Contains(got, "check digit") {
		t.Errorf("a wrong check digit: %s", got)
	}
	edit(func(c *payment.CardTable) { c.NoLuhn = []string{"uzcard"} })
	if got := pay(mistyped); strings.Contains(got, "check digit") || strings.Contains(got, `"error":0`) {
		t.Errorf("the check digit is the centre's affair now: %s", got)
	}
}
