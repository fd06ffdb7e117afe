package gateway_test

import (
	"sync"
	"testing"
	"time"

	"holdfast/internal/gateway"
	"holdfast/internal/payment"
)

// Guessing a card's code over payment after payment comes to an end: what is counted by card outlasts the
// payments, other cards are not concerned, and after two hours the card is as good as any. It makes no difference that the
// gateway which is handed the codes knows the payments as they were before another one paid them.
func TestWrongCodesOfOneCard(t *testing.T) {
	t.Run("one gateway", func(t *testing.T) { wrongCodesOfOneCard(t, newWorld(t)) })
	t.Run("paid at another", func(t *testing.T) { wrongCodesOfOneCard(t, newWorldOn(t, engines[3])) })
}

func wrongCodesOfOneCard(t *testing.T, w *world) {
	const most = 5 // the centre blocks the card itself after six
	w.gateway = gateway.New(gateway.Config{
		Store: w.store, HoldFor: holdFor, WrongCodes: most, At: w.reached, Live: gateway.Centres{{Processor: w.centre, Method: payment.Uzcard}},
	})
	card, other := w.goodCard(1), w.goodCard(2)
	guess := func() (asked int, err error) {
		p := w.prepare()
		if p, err = w.door(1).Pay(t.Context(), w.shop, p.ID, handedIn(card)); err != nil {
			return 0, err
		}
		for asked = 0; p.State == payment.Challenged; asked++ {
			right := w.code(card)
			wrong := "000000"
			if right == wrong {
				wrong = "111111"
			}
			if p, err = w.submit(p, wrong); err != nil {
				return asked, err
			}
		}
		return asked, nil
	}
	total := 0
	for range 10 {
		asked, err := guess()
		total += asked
		if err != nil && reason(err) != payment.TooManyWrongCodes {
			t.Fatal(err)
		}
	}
	if total != most {
		t.Errorf("%d guesses reached the centre, want %d", total, most)
	}
	if _, err := w.pay(w.prepare().ID, card); reason(err) != payment.TooManyWrongCodes {
		t.Errorf("the card is still taken: %v", err)
	}
	w.paid(other)
	w.later(2 * time.Hour)
	w.rest() // the other card's hold has come to its end, at the centre too where it was a short one
	w.paid(card)
	w.clean()
}

// Only wrong codes of real payments count: right ones do not, and what is tried at a simulator keeps no card from a real payment.
func TestWrongCodesOfRealPaymentsCount(t *testing.T) {
	w := newWorld(t)
	w.gateway = gateway.New(gateway.Config{
		Store: w.store, HoldFor: holdFor, WrongCodes: 2, Live: gateway.Centres{{Processor: w.centre, Method: payment.Uzcard}},
		Test: gateway.Centres{{Processor: w.centre, Method: payment.Uzcard}},
	})
	card := w.goodCard(1)
	p := w.prepare(func(t *payment.Terms) { t.Test = true })
	p = w.must(w.pay(p.ID, card))(payment.Challenged)
	for range payment.MaxWrongCodes {
		wrong := "000000"
		if w.code(card) == wrong {
			wrong = "111111"
		}
		if _, err := w.submit(p, wrong); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		w.paid(card)
	}
	w.clean()
}

// A code that is handed in twice at once, by a payer who is impatient, is one guess: the card is refused when as many wrong codes
// were answered as it may have, and no earlier.
func TestWrongCodeHandedInTwiceAtOnce(t *testing.T) {
	w := newWorld(t)
	const most = 5
	w.gateway = gateway.New(gateway.Config{
		Store: w.store, HoldFor: holdFor, WrongCodes: most, At: w.reached, Live: gateway.Centres{{Processor: w.centre, Method: payment.Uzcard}},
	})
	card := w.goodCard(1)
	for answered := 0; ; {
		p := w.prepare()
		p, err := w.door(1).Pay(t.Context(), w.shop, p.ID, handedIn(card))
		if refused := reason(err) == payment.TooManyWrongCodes; refused != (answered >= most) {
			t.Fatalf("after %d wrong codes of %d: %v", answered, most, err)
		} else if refused {
			break
		}
		wrong := "000000"
		if w.code(card) == wrong {
			wrong = "111111"
		}
		var payers sync.WaitGroup
		for range 2 {
			payers.Go(func() {
				if _, err := w.submit(p, wrong); err != nil && reason(err) != payment.TooManyWrongCodes {
					t.Error(err)
				}
			})
		}
		payers.Wait()
		if p, err = w.store.Payment(t.Context(), p.ID); err != nil {
			t.Fatal(err)
		}
		answered += p.WrongCodes
	}
	w.clean()
}

// Codes of many payments that are handed in at once are no more guesses than one behind the other.
func TestWrongCodesOfOneCardAtOnce(t *testing.T) {
	w := newWorld(t)
	const most, payments = 3, 12
	w.gateway = gateway.New(gateway.Config{
		Store: w.store, HoldFor: holdFor, WrongCodes: most, At: w.reached, Live: gateway.Centres{{Processor: w.centre, Method: payment.Uzcard}},
	})
	card := w.goodCard(1)
	var all []payment.Payment
	for range payments {
		p, err := w.door(1).Pay(t.Context(), w.shop, w.prepare().ID, handedIn(card))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	wrong := "000000"
	if w.code(card) == wrong {
		wrong = "111111"
	}
	// None is checked before all are on their way to the centre, or are refused.
	var let, guessers sync.WaitGroup
	let.Add(payments)
	w.watch(func(at gateway.Point, _ payment.ID) {
		if at == gateway.QuestionCommitted {
			let.Done()
			let.Wait()
		}
	}, nil)
	for _, p := range all {
		guessers.Go(func() {
			_, err := w.submit(p, wrong)
			switch {
			case err == nil:
				return
			case reason(err) != payment.Busy:
				t.Error(err)
			}
			let.Done()
		})
	}
	guessers.Wait()
	w.watch(nil, nil)
	guesses := 0
	for _, p := range all {
		p, err := w.store.Payment(t.Context(), p.ID)
		if err != nil {
			t.Fatal(err)
		}
		guesses += p.WrongCodes
	}
	if guesses != most {
		t.Errorf("%d wrong codes were taken at once, want %d", guesses, most)
	}
	if _, err := w.submit(all[0], wrong); reason(err) != payment.TooManyWrongCodes {
		t.Errorf("after them another is taken: %v", err)
	}
	w.clean()
}

// A card's holder is sent no more than so many codes within an hour, over all payments, further codes for a payment among
// them; other cards are not concerned, and neither are test payments.
func TestCodesSentForOneCard(t *testing.T) {
	const most = 5
	w := newWorld(t)
	w.gateway = gateway.New(gateway.Config{
		Store: w.store, HoldFor: holdFor, CodesSent: most, Live: gateway.Centres{{Processor: w.centre, Method: payment.Uzcard}},
		Test: gateway.Centres{{Processor: w.centre, Method: payment.Uzcard}},
	})
	card, other := w.goodCard(1), w.goodCard(2)
	sent := func() int { return len(w.sim.SMS(card.Phone)) }
	first := w.must(w.pay(w.prepare().ID, card))(payment.Challenged)
	for range 10 { // the same attempt
		w.must(w.pay(first.ID, card))(payment.Challenged)
	}
	again, err := w.gateway.Resend(t.Context(), first.ID, handedIn(card).Card)
	if err != nil || sent() != 2 {
		t.Fatalf("%d codes were sent, %v", sent(), err)
	}
	code := w.code(card)
	payments := make([]payment.Payment, 8)
	for i := range payments {
		payments[i] = w.prepare()
	}
	together(len(payments), func(i int) {
		p, err := w.pay(payments[i].ID, card)
		if payments[i] = p; err != nil {
			t.Error(err)
		}
	})
	if sent() != most {
		t.Errorf("%d codes were sent, want %d", sent(), most)
	}
	refused := 0
	for _, p := range payments {
		if p.State == payment.Created && p.LastRefusal == payment.TooManyCodes {
			refused++
			w.must(w.pay(p.ID, other))(payment.Challenged)
		}
	}
	if refused != len(payments)-(most-2) {
		t.Errorf("%d payments were refused a code", refused)
	}
	if p, err := w.gateway.Resend(t.Context(), again.ID, handedIn(card).Card); err != nil || p.State != payment.Challenged || p.LastRefusal != payment.TooManyCodes || sent() != most {
		t.Errorf("a further code: %s, %s, %v", p.State, p.LastRefusal, err)
	}
	w.must(w.pay(w.prepare(func(t *payment.Terms) { t.Test = true }).ID, card))(payment.Challenged)
	w.must(w.submit(again, code))(payment.Held) // the code that it has is good
	w.later(2 * time.Hour)
	w.must(w.pay(w.prepare().ID, card))(payment.Challenged)
}
