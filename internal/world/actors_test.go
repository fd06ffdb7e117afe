package world_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/gateway"
	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor/rbs"
	"holdfast/internal/sim"
)

// Those who act: shops, payers, the acquirer with his callbacks, an operator, and time. What they do is
// drawn; what they get is remembered in a pay and held against the store ever after (rules_test.go).

// pay is a payment as the world knows it from outside.
type pay struct {
	name   string
	shop   merchant.Shop
	terms  payment.Terms
	method payment.Method
	card   sim.Card

	id    payment.ID
	known bool // the shop was told its id
	// tariffs are those that were in force when a card was handed in, by their ids; nil: there was none.
	tariffs map[int64]merchant.Fee
	told    payment.Payment // what was acknowledged last, to anybody
	got     []notification  // what the merchant's server was told
}

const (
	mostPays = 5 // of one world
	maxDepth = 2 // how many things happen inside one another
)

// act lets one thing happen. What happens inside another thing is never about a payment that a centre is being
// asked about, unless it does not wait for that answer: nobody else would bring it.
func (w *world) act() {
	switch n := w.rand.IntN(72); {
	case len(w.pays) == 0 || n < 4:
		w.prepare()
	case n < 40:
		w.customer(w.some())
	case n < 42:
		w.decide(w.some())
	case n < 43:
		w.refund(w.some())
	case n < 45:
		w.callback(w.some())
	case n < 46:
		w.inquire(w.some())
	case n < 51:
		w.tell()
	case n < 52:
		w.tellAgain(pick(w, w.pays...))
	case n < 59:
		w.pass(w.someMoment())
	case n < 60:
		w.set()
	case n < 63:
		w.doubts()
	case n < 64:
		w.setClock(w.someStep())
	case n < 66:
		w.backup()
	case n < 70:
		if w.depth == 0 && w.kept != nil {
			w.restore()
		}
	case w.depth == 0:
		if w.maybe(2) {
			w.say("a good stop")
			w.restart(slices.Index(w.processes, w.process))
		} else {
			w.process.crash = 1
			w.process.reached("in between")
		}
	}
}

// meanwhile lets things happen in the middle of a call to a centre.
func (w *world) meanwhile() {
	for range 1 + w.rand.IntN(2) {
		if len(w.broken) > 0 || !w.turn() {
			return
		}
		switch w.rand.IntN(8) {
		case 0, 1:
			// What is asked about right now is where it is most interesting.
			if p := w.named(w.asking[len(w.asking)-1].payment); p != nil {
				w.decide(p)
			}
		case 2:
			id := w.asking[len(w.asking)-1].payment
			if p := w.named(id); p != nil && len(w.processes) > 1 && w.maybe(2) {
				w.inquire(p)
			} else if w.maybe(4) {
				w.person(id)
			} else {
				w.step()
			}
		case 3:
			w.tell()
		default:
			w.act()
		}
	}
}

// doubts has a person look at a payment, mostly one that is in doubt.
func (w *world) doubts() {
	var doubts []payment.ID
	for _, p := range w.list() {
		if p.Open != nil && p.Open.Kind.MovesMoney() {
			doubts = append(doubts, p.ID)
		}
	}
	if len(doubts) > 0 && !w.maybe(8) {
		w.person(pick(w, doubts...))
	} else if p := w.some(); p.known {
		w.person(p.id)
	}
}

// some is a payment, mostly one that goes on still.
func (w *world) some() *pay {
	var open []*pay
	for _, p := range w.pays {
		if !p.told.State.Terminal() || p.told.State == payment.Captured && len(p.told.Refunds) < 2 {
			open = append(open, p)
		}
	}
	if len(open) == 0 || w.maybe(8) {
		return pick(w, w.pays...)
	}
	return pick(w, open...)
}

func (w *world) named(id payment.ID) *pay {
	for _, p := range w.pays {
		if p.id == id {
			return p
		}
	}
	return nil
}

// someMoment is a moment to come: just before, at, or just after something ends, or soon.
func (w *world) someMoment() time.Time {
	var moments []time.Time
	add := func(t time.Time) {
		if t.After(w.now()) {
			moments = append(moments, t)
		}
	}
	for _, p := range w.list() {
		add(p.Due())
		if !p.State.Terminal() {
			add(p.Terms.ExpiresAt)
			add(p.HoldDeadline)
			if p.Attempt != nil && p.Attempt.Challenge != nil {
				add(p.Attempt.Challenge.ExpiresAt)
			}
		}
	}
	soon := w.now().Add(pick(w, time.Second, 5*time.Second, 31*time.Second, time.Minute, 3*time.Minute))
	if len(moments) == 0 || w.maybe(2) {
		return soon
	}
	at := pick(w, moments...).Add(pick(w, -time.Microsecond, 0, 0, time.Microsecond, time.Second))
	if !at.After(w.now()) {
		return soon
	}
	return at
}

// command puts a command to the gateway and remembers its answer.
func (w *world) command(p *pay, what string, do func(ctx context.Context, g *gateway.Gateway) (payment.Payment, error)) (got payment.Payment, ok bool) {
	process := w.process
	w.figures.Commands++
	w.say("%s: %s", p.name, what)
	got, err := do(context.Background(), process.gateway)
	if process.dead {
		return got, false // no answer
	}
	var refused *payment.Error
	if err != nil && !errors.As(err, &refused) {
		w.wrong("%s: %s: %v", p.name, what, err)
		return got, false
	}
	if err != nil {
		w.say("%s: %s: refused: %s", p.name, what, refused.Reason)
		return got, false
	}
	w.say("%s: %s: %s", p.name, what, describe(&got))
	w.acknowledged(p, &got)
	return got, true
}

func describe(p *payment.Payment) string {
	text := p.State.String()
	if p.Open != nil {
		text += fmt.Sprintf(", %s open: %s after %d asks", p.Open.Kind, p.Open.Outcome, p.Open.Asks)
	}
	if d := p.Decision; d != nil {
		text += fmt.Sprintf(", %s %d by %s", d.Accept, d.Amount.Minor, d.By)
	}
	if p.LastRefusal != "" {
		text += ", " + string(p.LastRefusal)
	}
	if len(p.Refunds) > 0 {
		text += fmt.Sprintf(", refunded %d", p.Refunded.Minor)
	}
	return text
}

// usable are the behaviours of cards whose payments end by themselves.
var usable = map[string][]string{
	"uzcard":     {"insufficient_funds", "unknown_then_done", "unknown_not_done", "capture_unknown_then_done", "void_unknown_then_done", "otp_always_wrong", "limit_exceeded"},
	"humo":       {"insufficient_funds", "unknown_then_done", "unknown_not_done", "capture_unknown_then_done", "void_unknown_then_done", "otp_always_wrong"},
	"visa":       {"insufficient_funds", "frictionless", "challenge_fails", "attempt", "rejected", "abandoned", "no_3ds", "no_method", "method_timeout", "issuer_down", "issuer_down_declined", "issuer_silent", "capture_unknown_then_done", "void_unknown_then_done"},
	"mastercard": {"frictionless", "stolen", "issuer_down"},
}

// someCard is a card of a scheme: mostly one of three that work, so that holds resemble one another.
func (w *world) someCard(scheme string) sim.Card {
	behaviour := "ok"
	if w.maybe(5) {
		behaviour = pick(w, usable[scheme]...)
	}
	var found []sim.Card
	for _, c := range w.cards {
		if c.Scheme == scheme && c.Behaviour == behaviour && len(found) < 3 {
			found = append(found, c)
		}
	}
	if len(found) == 0 {
		w.wrong("there is no %s card that behaves as %s", scheme, behaviour)
		return sim.Card{}
	}
	return pick(w, found...)
}

// prepare makes a payment, or asks for one that is there once more.
func (w *world) prepare() {
	var p *pay
	if len(w.pays) >= mostPays || len(w.pays) > 0 && w.maybe(4) {
		p = w.some()
	} else {
		p = &pay{name: fmt.Sprint("p", w.figures.Payments+1), shop: pick(w, w.shops...)}
		scheme := pick(w, "uzcard", "uzcard", "humo", "visa", "visa", "mastercard")
		p.card = w.someCard(scheme)
		p.method = map[string]payment.Method{"uzcard": payment.Uzcard, "humo": payment.Humo, "visa": payment.BankCard, "mastercard": payment.BankCard}[scheme]
		p.terms = payment.Terms{
			ShopPaymentID: "order-" + p.name, Amount: uzs(pick(w, int64(100_000), 100_000, 60_000, 250_050)), AutoCapture: w.maybe(4),
			Methods: []payment.Method{payment.Uzcard, payment.Humo, payment.BankCard}, ReturnURL: "https://shop.example/back", Language: "uz",
		}
		if !w.maybe(6) {
			p.terms.NotifyURL = w.server.URL + "/" + p.name
		}
		w.pays = append(w.pays, p)
		w.figures.Payments++
	}
	w.arrive(w.now().Add(time.Millisecond)) // ids of one millisecond have no order, and recovery goes by them
	ttl := pick(w, 5*time.Minute, 15*time.Minute, 15*time.Minute, time.Hour)
	what := fmt.Sprintf("prepare %d from shop %d, %s %s, auto_capture %v", p.terms.Amount.Minor, p.shop.ID, p.card.Scheme, p.card.Behaviour, p.terms.AutoCapture)
	created := false
	got, ok := w.command(p, what, func(ctx context.Context, g *gateway.Gateway) (got payment.Payment, err error) {
		got, created, err = g.Prepare(ctx, p.shop, p.terms, ttl)
		return got, err
	})
	if !ok {
		return
	}
	if p.known && (created || got.ID != p.id) {
		w.wrong("%s: the same prepare_payment made a second payment", p.name)
	}
	p.id, p.known = got.ID, true
	w.acknowledged(p, &got)
}

// free reports that a payment is there, and that no centre is being asked about it.
func (w *world) free(p *pay) bool { return p.known && !w.isAsked(p.id) }

// news reports that the acting gateway may be told that there is news of a payment. Another one that asks about it right now
// knows nothing of that.
func (w *world) news(p *pay) bool { return p.known && !w.iAsk(p.id) }

// left reports that the process that asked the open question has died, and nobody has taken it up yet. Who has to wait for
// the answer would wait in real time, and in vain.
func (w *world) left(now *payment.Payment) bool {
	return now.Open != nil && now.Open.Outcome == "" && !w.isAsked(now.ID)
}

func (w *world) read(p *pay) payment.Payment {
	got, err := w.process.store.Payment(context.Background(), p.id)
	if err != nil && !w.process.dead {
		w.wrong("%s cannot be read: %v", p.name, err)
	}
	return got
}

func (p *pay) handedIn() payment.Card {
	return payment.Card{Number: p.card.PAN, Expiry: p.card.Exp, CVC: p.card.CVC}
}

// customer lets payer or shop do what is their turn now.
func (w *world) customer(p *pay) {
	if !w.free(p) {
		return
	}
	switch now := w.read(p); now.State {
	case payment.Held:
		w.decide(p)
	case payment.Captured:
		w.refund(p)
	default:
		w.payer(p)
	}
}

// payer does what somebody who wants to pay may do now, or something else.
func (w *world) payer(p *pay) {
	if !w.free(p) {
		return
	}
	now := w.read(p)
	challenge := (*payment.Challenge)(nil)
	if now.Attempt != nil {
		challenge = now.Attempt.Challenge
	}
	switch {
	case now.State == payment.Challenged && challenge.Step != "" && !w.maybe(8):
		w.atBank(p, challenge)
	case now.State == payment.Challenged && challenge.Step == "" && !w.maybe(6):
		if w.maybe(8) {
			w.resend(p)
			return
		}
		w.submit(p, challenge.VerifyID)
	case now.State.Terminal() && !w.maybe(4):
	case now.Attempt != nil && w.waits(p.id, payment.Pay{Attempt: *now.Attempt}):
	default:
		if now.State == payment.Created && now.Attempts > 0 && w.maybe(2) {
			p.card = w.someCard(p.card.Scheme)
		}
		shop := w.settings(p)
		if p.tariffs == nil {
			p.tariffs = make(map[int64]merchant.Fee)
		}
		tariff := shop.Settings.Tariff
		p.tariffs[tariff.ID] = tariff.Fee
		w.command(p, "pay with "+p.card.Scheme+" "+p.card.Behaviour, func(ctx context.Context, g *gateway.Gateway) (payment.Payment, error) {
			return g.Pay(ctx, shop, p.id, gateway.Card{Card: p.handedIn(), Method: p.method, Input: "merchant_site"})
		})
	}
}

// code is what the newest message to the card's holder says; or a wrong one.
func (w *world) code(p *pay) string {
	messages := w.centre.SMS(p.card.Phone)
	if len(messages) == 0 {
		return "123456"
	}
	code := messages[0].Code
	if w.maybe(10) && code != "" {
		code = string('0'+(code[0]-'0'+1)%10) + code[1:]
	}
	return code
}

func (w *world) submit(p *pay, verifyID int64) {
	code := w.code(p)
	if w.maybe(25) {
		verifyID++
	}
	if w.waits(p.id, payment.SubmitCode{VerifyID: verifyID}) {
		return
	}
	w.command(p, "hand in a code", func(ctx context.Context, g *gateway.Gateway) (payment.Payment, error) {
		return g.SubmitCode(ctx, p.id, verifyID, payment.OTP(code))
	})
}

func (w *world) resend(p *pay) {
	w.command(p, "ask for another code", func(ctx context.Context, g *gateway.Gateway) (payment.Payment, error) {
		return g.Resend(ctx, p.id, p.handedIn())
	})
}

// atBank is a payer in a step of 3-D Secure: he does it, or says only that he has.
func (w *world) atBank(p *pay, c *payment.Challenge) {
	if !w.maybe(6) {
		switch c.Step {
		case payment.StepMethod:
			w.browse(c.URL, url.Values{"threeDSMethodData": {c.Data}})
		case payment.StepChallenge:
			w.browse(c.URL, url.Values{"creq": {c.Data}, "threeDSSessionData": {""}})
			var creq struct {
				ACSTransID string `json:"acsTransID"`
			}
			b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(c.Data, "="))
			if err == nil {
				err = json.Unmarshal(b, &creq)
			}
			if err != nil {
				w.wrong("%s: the creq cannot be read: %v", p.name, err)
				return
			}
			form := url.Values{"transaction": {creq.ACSTransID}, "code": {w.code(p)}}
			if w.maybe(10) {
				form.Set("do", pick(w, "cancel", "resend"))
			}
			w.browse(simURL+"/acs/code", form)
		}
	}
	step := c.Step
	if w.maybe(12) {
		step = pick(w, payment.StepMethod, payment.StepChallenge)
	}
	if w.waits(p.id, payment.Proceed{Step: step}) {
		return
	}
	w.command(p, "back from "+string(step), func(ctx context.Context, g *gateway.Gateway) (payment.Payment, error) {
		return g.Proceed(ctx, p.id, step)
	})
}

// someDecision is what a shop may say of a hold of a sum.
func (w *world) someDecision(held int64) (payment.Accept, money.Amount) {
	if w.maybe(3) {
		return payment.Cancel, money.Amount{}
	}
	return payment.Capture, pick(w, money.Amount{}, money.Amount{}, uzs(held), uzs(held/2), uzs(1), uzs(held+1))
}

// waits reports that a command would wait for the answer to a question that a centre is being asked, which only who asks can
// bring, or that was left.
func (w *world) waits(id payment.ID, c payment.Command) bool {
	p, err := w.process.store.Payment(context.Background(), id)
	if err != nil {
		return true
	}
	_, err = payment.Begin(p, c, w.now())
	var refused *payment.Error
	return (w.isAsked(id) || w.left(&p)) && errors.As(err, &refused) && refused.Reason == payment.UnderWay
}

// decide is set_accept, or the shop's callback; and sometimes the same once more.
func (w *world) decide(p *pay) {
	if !p.known {
		return
	}
	accept, amount := w.someDecision(p.terms.Amount.Minor)
	by := pick(w, payment.ByMerchant, payment.ByMerchant, payment.ByCallback)
	if w.waits(p.id, payment.Decide{Accept: accept, Amount: amount, By: by}) {
		return
	}
	what := fmt.Sprintf("%s: %s %d", by, accept, amount.Minor)
	say := func(ctx context.Context, g *gateway.Gateway) (payment.Payment, error) {
		return g.Decide(ctx, p.id, accept, amount, by)
	}
	first, ok := w.command(p, what, say)
	if !ok || first.Open != nil || !w.maybe(3) || w.isAsked(p.id) {
		return
	}
	again, ok := w.command(p, what+" again", say)
	switch {
	case w.process.dead:
	case !ok, again.State != first.State, *again.Decision != *first.Decision, again.Captured != first.Captured, again.Released != first.Released:
		w.wrong("invariant 12: %s: the same %s gets another answer: %s, then %s", p.name, what, describe(&first), describe(&again))
	}
}

func (w *world) refund(p *pay) {
	if !w.free(p) {
		return
	}
	now := w.read(p)
	if w.depth > 0 && now.Open != nil || w.left(&now) {
		return
	}
	name, captured := fmt.Sprint("refund-", w.refunds), now.Captured.Minor
	if w.refunds == 0 || !w.maybe(5) {
		w.refunds++
		name = fmt.Sprint("refund-", w.refunds)
	}
	amount := uzs(pick(w, captured, captured, captured/2, 1, captured+1))
	got, ok := w.command(p, fmt.Sprintf("%s of %d", name, amount.Minor), func(ctx context.Context, g *gateway.Gateway) (payment.Payment, error) {
		return g.Refund(ctx, p.id, name, amount)
	})
	if ok && got.FindRefund(name) == nil {
		w.wrong("%s: %s was acknowledged and is not there", p.name, name)
	}
}

func (w *world) inquire(p *pay) {
	if !w.news(p) {
		return
	}
	w.command(p, "an operator inquires", func(ctx context.Context, g *gateway.Gateway) (payment.Payment, error) {
		return g.Inquire(ctx, p.id)
	})
}

// callback is the acquirer's news of an order: early, late, twice or forged. It is taken as the program takes
// it: believed if it is signed, and then nothing but a reason to ask.
func (w *world) callback(p *pay) {
	if !w.news(p) || p.method != payment.BankCard {
		return
	}
	now := w.read(p)
	order := now.Reference()
	if now.Open != nil && !w.maybe(4) {
		order = now.Open.Ref
	}
	form := url.Values{
		"mdOrder": {"3ff6962a-7dcc-4283-ab50-a6d7dd3386fe"}, "orderNumber": {order}, "status": {pick(w, "0", "1")},
		"operation": {pick(w, "approved", "deposited", "reversed", "refunded", "declinedByTimeout")},
	}
	key, forged := simKey, w.maybe(3)
	if forged {
		key = "guessed"
	}
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range form {
			if !yield(name) {
				return
			}
		}
	})
	mac := hmac.New(sha256.New, []byte(key))
	for _, name := range names {
		fmt.Fprintf(mac, "%s;%s;", name, form.Get(name))
	}
	form.Set("checksum", strings.ToUpper(hex.EncodeToString(mac.Sum(nil))))
	times := 1
	if w.maybe(3) {
		times = 2
	}
	for range times {
		if w.process.dead {
			return
		}
		name, _, err := rbs.VerifyCallback(simKey, form)
		if forged != (err != nil) {
			w.wrong("%s: a callback with forged %v is taken so: %v", p.name, forged, err)
		}
		if err != nil {
			w.say("%s: a forged callback", p.name)
			return
		}
		number, err := strconv.ParseInt(strings.Split(name, "_")[1], 10, 64)
		if err != nil {
			w.wrong("%s: the order %q has no number", p.name, name)
			return
		}
		got, err := w.process.store.PaymentByNumber(context.Background(), number)
		if err != nil || got.ID != p.id {
			w.wrong("%s: its number leads elsewhere: %v", p.name, err)
			return
		}
		if got.Open == nil || got.Open.Ref != name {
			w.say("%s: a callback about what is over", p.name)
			continue
		}
		w.command(p, "the acquirer calls back", func(ctx context.Context, g *gateway.Gateway) (payment.Payment, error) {
			return g.Inquire(ctx, p.id)
		})
	}
}
