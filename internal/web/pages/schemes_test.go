package pages

import (
	"testing"

	"github.com/chromedp/chromedp"

	"holdfast/internal/payment"
	"holdfast/internal/sim"
)

// schemeCard is a card of a scheme that behaves so, and is not the one that many share.
func (w *world) schemeCard(scheme, behaviour string) sim.Card {
	w.t.Helper()
	for _, c := range w.sim.Cards() {
		if c.Scheme == scheme && c.Behaviour == behaviour && c.FixedOTP == "" {
			return c
		}
	}
	w.t.Fatalf("the simulator has no %s card that is %s", scheme, behaviour)
	return sim.Card{}
}

// Humo and Visa, through our connectors and the simulator's centres: its SMS, its directory and its
// bank's code page, with and without JavaScript, in each language.
func TestEverySchemeInTheBrowser(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		language, scheme, behaviour string
		device                      device
	}{
		{"uz", "humo", "ok", phone}, {"ru", "humo", "ok", desktop.withoutScript()}, {"en", "humo", "ok", phone.withoutScript()},
		{"uz", "visa", "ok", phone.withoutScript()}, {"ru", "visa", "ok", phone}, {"en", "visa", "ok", desktop},
		{"en", "visa", "frictionless", phone}, {"ru", "visa", "challenge_fails", phone},
	} {
		t.Run(c.language+"/"+c.scheme+"/"+c.behaviour+"/"+c.device.name, func(t *testing.T) {
			w := newWorld(t)
			card := w.schemeCard(c.scheme, c.behaviour)
			p := w.prepare(c.language, twoStage, real)
			b := w.tab(c.device, "scheme-"+c.language+"-"+c.scheme+"-"+c.behaviour)
			b.open("/pay/" + p.ID.String() + "?language=" + c.language)
			method := payment.Humo
			if c.scheme == "visa" {
				method = payment.BankCard
			}
			if c.device.noScript {
				b.press(".tile:has([value=" + string(method) + "])")
			}
			b.fill(p, card.PAN, expiry(card))
			if method == payment.BankCard {
				b.types("#cvc2", card.CVC)
				b.types("#holder", "ALISHER NAVOIY")
			}
			b.press("#card button")
			if method == payment.Humo {
				b.reaches("humo/sms", p, "#code")
				b.types("#code", w.code(card))
				b.press("#sms button")
			} else if c.behaviour != "frictionless" {
				if c.device.noScript {
					b.reaches("3ds", p, "#proceed button")
					b.press("#proceed button")
					b.run(chromedp.WaitVisible(chromedp.CSS("#bank button")))
					b.press("#bank button")
				}
				tries := 1
				if c.behaviour == "challenge_fails" {
					tries = 3
				}
				for range tries {
					b.run(chromedp.WaitVisible(chromedp.CSS("input[name=code]")))
					b.types("input[name=code]", w.code(card))
					b.run(chromedp.Submit(chromedp.CSS("input[name=code]")))
				}
				if c.device.noScript {
					b.run(chromedp.WaitVisible(chromedp.CSS("form button")))
					b.press("form button")
				}
			}
			want := payment.Held
			if c.behaviour == "challenge_fails" {
				want = payment.Created // the payment waits for another card
				b.reaches("pay", p, "#pan")
			} else {
				b.reaches("status", p, "#return")
			}
			if stored := w.payment(p.ID); stored.State != want {
				t.Errorf("the payment is %s, want %s", stored.State, want)
			}
			b.shot("end")
		})
	}
}
