// Package gateway is the shell around the pure core: it commits a question, asks it, and commits
// the answer. It keeps the deadlines, and takes up whatever a crash or a lost answer left open.
//
// The live request and the recovery call the same function, ask. No transaction and no lock is
// open while a processing centre is asked.
//
// Order to read: gateway.go (the doors; ask, the one way to a centre), run.go (what time demands), turns.go (how many at a time),
// routes.go (which contract a payment goes to), doubt.go (a person's word), restore.go (a store that is behind its
// centres), guesses.go and brakes.go (codes that are wrong, or sent, too often).
package gateway

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor"
	"holdfast/internal/store"
	"holdfast/internal/tally"
)

// Config is what a gateway needs.
type Config struct {
	Store   *store.Store
	Live    Centres       // for real payments
	Test    Centres       // for payments with test: true; a simulator, so that no money moves
	HoldFor time.Duration // how long an undecided hold lasts where the shop sets nothing; default 30 minutes
	// AtOnce is how many payments Run takes up at the same time for each centre, and Step, Recover and Reconcile for all of
	// them; default 32.
	AtOnce int
	Log    *slog.Logger
	// WrongCodes is how many wrong codes are taken for one card within an hour, over all its real payments;
	// 0: no limit but each payment's own.
	WrongCodes int
	// CodesSent is how many codes are sent for one card within an hour, over all its real payments; 0: no limit but each
	// payment's own.
	CodesSent int
	// At, which may be nil, is called at each named point between two steps of a question, for tests
	// that end the process there.
	At func(point Point, id payment.ID)
}

// Point names a place where a process may die.
type Point string

// The points, in the order in which a question passes them (docs/payment-cycle.md).
const (
	QuestionCommitted Point = "question committed"
	Answered          Point = "answered"
	AnswerCommitted   Point = "answer committed"
)

// DefaultHoldFor is how long an undecided hold lasts (contract §5).
const DefaultHoldFor = 30 * time.Minute

// Gateway takes payments. It is safe for concurrent use.
type Gateway struct {
	cfg         Config
	restored    time.Time     // of the backup that the store began as; zero: it did not
	longest     time.Duration // see longestCall
	reconciling atomic.Bool   // see Ready
	wrongCodes  wrongCodes
	sentCodes   sentCodes

	mu     sync.Mutex
	asking map[payment.ID]chan struct{} // closed when the question of this process is answered
	behind []payment.ID                 // of a restored backup: in doubt when the others were reconciled
	left   []store.Opened               // see Inherit
	unsaid map[payment.ID]time.Time     // of a restored backup: until when Run leaves alone those of which no centre says anything
	asked  int                          // questions under way
	idle   *sync.Cond                   // no question is under way

	stepped atomic.Int64 // when Step last got something done, in nanoseconds

	asks tally.By[Asked, atomic.Uint64]
	took tally.By[AskedOf, tally.Times]
}

// New makes a gateway.
func New(cfg Config) *Gateway {
	if cfg.HoldFor <= 0 {
		cfg.HoldFor = DefaultHoldFor
	}
	if cfg.AtOnce <= 0 {
		cfg.AtOnce = stepAtOnce
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.At == nil {
		cfg.At = func(Point, payment.ID) {}
	}
	g := &Gateway{cfg: cfg, asking: make(map[payment.ID]chan struct{}), unsaid: make(map[payment.ID]time.Time)}
	g.wrongCodes.most, g.sentCodes.most, g.sentCodes.seed = cfg.WrongCodes, cfg.CodesSent, maphash.MakeSeed()
	restored := cfg.Store.Restored()
	g.restored, g.longest = restored.At, cfg.longestCall()
	g.reconciling.Store(!restored.At.IsZero() && !restored.Reconciled)
	g.idle = sync.NewCond(&g.mu)
	g.stepped.Store(time.Now().UnixNano())
	return g
}

// Prepare creates a payment of the shop, or finds the one that it already has under the name
// (seed: prepare_payment). created says which.
func (g *Gateway) Prepare(ctx context.Context, shop merchant.Shop, terms payment.Terms, ttl time.Duration) (p payment.Payment, created bool, err error) {
	var random [10]byte
	rand.Read(random[:])
	return g.cfg.Store.Create(ctx, shop.ID, terms.ShopPaymentID, func(number int64, now time.Time) payment.Change {
		terms.ExpiresAt = now.Add(ttl)
		if terms.InitTime.IsZero() {
			terms.InitTime = now
		}
		return payment.New(payment.NewID(now, random), number, shop.ID, terms, now)
	})
}

// Card is what a payer hands in to pay.
type Card struct {
	payment.Card
	Method payment.Method
	Email  string
	Input  string // cardInputType: merchant_site or octo_page
}

// Pay tries a card on a payment (seed: pay). Whoever hands in the same card at the same moment gets
// the same attempt. The payment returned says what the payer has to do now; where the card was
// refused, its LastRefusal says why.
func (g *Gateway) Pay(ctx context.Context, shop merchant.Shop, id payment.ID, card Card) (payment.Payment, error) {
	p, err := g.cfg.Store.Recall(ctx, id, 0) // its terms
	if err != nil {
		return p, err
	}
	if !p.Terms.Test && !shop.Settings.Live {
		return p, &payment.Error{Reason: payment.NotLive} // it was live when the payment was prepared
	}
	centre, err := g.route(shop, card.Method, p.Terms.Amount.Currency, p.Terms.Test)
	if err != nil {
		return p, err
	}
	cards, err := g.cfg.Store.Cards(ctx)
	if err != nil {
		return p, err
	}
	if !p.Terms.Test {
		if err := g.wrongCodes.check(card.Facts(cards.CardTable), g.cfg.Store.Now()); err != nil {
			return p, err
		}
	}
	attempt := g.attempt(shop, card.Method, centre)
	attempt.Card, attempt.Email, attempt.Input = card.Facts(cards.CardTable), card.Email, card.Input
	return g.do(ctx, id, payment.Pay{Attempt: attempt, VerifyID: newVerifyID()}, secrets{card: card.Card})
}

// attempt is what a payment at a centre goes by today, without the card.
func (g *Gateway) attempt(shop merchant.Shop, m payment.Method, centre processor.Processor) payment.Attempt {
	capabilities := centre.Capabilities()
	fee := shop.Settings.Tariff.For(string(m))
	holdFor := min(shop.Settings.HoldFor(string(m), g.cfg.HoldFor), capabilities.LongestHold)
	return payment.Attempt{
		Method: m, Processor: centre.Name(), ThreeDS: capabilities.ThreeDS,
		Fee:     payment.FeeTerms{TariffID: shop.Settings.Tariff.ID, Rate: fee.Rate, Minimum: fee.Minimum, Back: fee.Back},
		HoldFor: int64(holdFor / time.Second), Limits: capabilities.Limits(),
	}
}

// Resend asks for a further code for the card that is being tried (contract §4: check_pan).
func (g *Gateway) Resend(ctx context.Context, id payment.ID, card payment.Card) (payment.Payment, error) {
	cards, err := g.cfg.Store.Cards(ctx)
	if err != nil {
		return payment.Payment{}, err
	}
	return g.do(ctx, id, payment.Resend{Card: card.Facts(cards.CardTable), VerifyID: newVerifyID()}, secrets{card: card})
}

// SubmitCode hands in the payer's code (seed: check_sms_key).
func (g *Gateway) SubmitCode(ctx context.Context, id payment.ID, verifyID int64, code payment.OTP) (payment.Payment, error) {
	// The card is what matters, and stays the same as long as this code is asked for.
	asksFor := func(p *payment.Payment) bool {
		return p.Attempt != nil && p.Attempt.Challenge != nil && p.Attempt.Challenge.VerifyID == verifyID
	}
	before, err := g.cfg.Store.Recall(ctx, id, 0)
	if err == nil && !asksFor(&before) {
		before, err = g.cfg.Store.Payment(ctx, id)
	}
	if err != nil {
		return before, err
	}
	if asksFor(&before) && !before.Terms.Test && before.State == payment.Challenged {
		end, err := g.wrongCodes.begin(before.Attempt.Card, id, g.cfg.Store.Now())
		if err != nil {
			return before, err
		}
		defer end()
	}
	return g.do(ctx, id, payment.SubmitCode{VerifyID: verifyID}, secrets{code: code})
}

// Proceed goes on after the payer's browser came back from a step of 3-D Secure.
func (g *Gateway) Proceed(ctx context.Context, id payment.ID, step payment.Step) (payment.Payment, error) {
	return g.do(ctx, id, payment.Proceed{Step: step}, secrets{})
}

// Inquire asks the centre what became of a payment's open question, now: the centre has said that
// there is news (a callback), or a person wants to know. What the news claims is not looked at.
func (g *Gateway) Inquire(ctx context.Context, id payment.ID) (payment.Payment, error) {
	if g.underWay(id) != nil {
		return g.await(ctx, id)
	}
	return g.do(ctx, id, payment.Resume{Orphan: true, Restored: g.restored}, secrets{})
}

// ReturnsWhole reports whether what was captured of a payment goes back whole or not at all: its centre cannot give
// back a part.
func (g *Gateway) ReturnsWhole(p *payment.Payment) bool {
	if p.Attempt == nil {
		return false
	}
	centre := g.centres(p.Terms.Test).named(p.Attempt.Processor)
	return centre != nil && !centre.Capabilities().PartialRefund
}

// Refund gives captured money back (contract §5). The payment returned has the refund under its name
// at the shop; another refund of the payment that is under way is waited for first.
func (g *Gateway) Refund(ctx context.Context, id payment.ID, shopRefundID string, amount money.Amount) (payment.Payment, error) {
	p, err := g.cfg.Store.Payment(ctx, id)
	if err != nil {
		return p, err
	}
	c := payment.Reimburse{ID: newUUID(), ShopID: shopRefundID, Amount: amount, Whole: g.ReturnsWhole(&p)}
	for range payment.MaxRefunds {
		p, err = g.do(ctx, id, c, secrets{})
		var refused *payment.Error
		if !errors.As(err, &refused) || refused.Reason != payment.Busy {
			return p, err
		}
		if p, err = g.await(ctx, id); err != nil || p.Open != nil {
			break
		}
	}
	if err == nil {
		err = &payment.Error{Reason: payment.Busy}
	}
	return p, err
}

// newUUID is a time-ordered UUID with 74 random bits.
func newUUID() string {
	var random [10]byte
	rand.Read(random[:])
	return payment.NewID(time.Now(), random).String()
}

// Decide says what becomes of a hold: the one function behind set_accept, /callback and the
// answer to a notification. The zero amount captures all that is held.
func (g *Gateway) Decide(ctx context.Context, id payment.ID, accept payment.Accept, amount money.Amount, by payment.By) (payment.Payment, error) {
	return g.do(ctx, id, payment.Decide{Accept: accept, Amount: amount, By: by}, secrets{})
}

func newVerifyID() int64 {
	var b [4]byte
	for {
		rand.Read(b[:])
		if id := int64(binary.BigEndian.Uint32(b[:]) >> 1); id > 0 {
			return id
		}
	}
}

// secrets go from a request to a centre and nowhere else.
type secrets struct {
	card payment.Card
	code payment.OTP
}

// do puts a command to a payment and asks whatever question that opens. The payment returned is as
// stored last; a question still open in it is in doubt.
func (g *Gateway) do(ctx context.Context, id payment.ID, c payment.Command, s secrets) (payment.Payment, error) {
	// Once a question is committed it is asked to its end, whatever becomes of the caller: his answer
	// is in the store.
	detached := context.WithoutCancel(ctx)
	if p, err := g.caughtUp(ctx, id); err != nil {
		return p, err
	}
	change, err := g.begin(ctx, id, c)
	var refused *payment.Error
	if errors.As(err, &refused) && refused.Reason == payment.UnderWay {
		return g.await(ctx, id)
	}
	if err != nil || change.Empty() {
		return change.Payment, err
	}
	p, err := g.ask(detached, change.Payment, s)
	if err == nil && p.Open != nil && p.Open.Outcome == "" {
		return g.await(ctx, id) // another asks it
	}
	return p, err
}

// ask asks the open question of p, which is committed, commits the answer, and goes on with the
// question that the answer opens, if it does. It is the only place where a centre is asked to do something; look, after a restore,
// only reads.
func (g *Gateway) ask(ctx context.Context, p payment.Payment, s secrets) (payment.Payment, error) {
	defer g.enter(p.ID)()
	for p.Open != nil {
		g.cfg.At(QuestionCommitted, p.ID)
		answer := g.askCentre(ctx, p, s)
		answer.AskedAt = p.Open.AskedAt // another process may have asked again by now
		g.cfg.At(Answered, p.ID)
		change, err := g.settle(ctx, p.ID, answer)
		if errors.Is(err, store.ErrClaimed) {
			// The hold found belongs to another payment: it is not the answer to this question.
			answer = payment.Answer{
				Ref: answer.Ref, AskedAt: answer.AskedAt, Outcome: payment.Unknown, Cause: "hold " + answer.Claim + " belongs to another payment",
			}
			change, err = g.settle(ctx, p.ID, answer)
		}
		if err != nil {
			return p, err
		}
		g.cfg.At(AnswerCommitted, p.ID)
		if change.Empty() {
			// Somebody else was faster: this question is over, and one that is open now is his to ask.
			return change.Payment, nil
		}
		asked := p.Open.Ref
		p = change.Payment
		if op := change.Closed; op != nil && op.Kind == payment.OpVerify && op.Reason == payment.WrongCode && !p.Terms.Test {
			g.wrongCodes.count(p.Attempt.Card, g.cfg.Store.Now())
		}
		if p.Open == nil {
			break
		}
		if p.Open.Ref == asked {
			// No answer, or one that allows to ask again at once.
			again, err := g.begin(ctx, p.ID, payment.Resume{Restored: g.restored})
			if err != nil || again.Empty() {
				return p, err
			}
			p = again.Payment
		}
		s = secrets{} // each secret is for one question
	}
	return p, nil
}

// askCentre asks a payment's centre its open question, once, and sees to it that there is an answer: also where it cannot be asked.
func (g *Gateway) askCentre(ctx context.Context, p payment.Payment, s secrets) payment.Answer {
	centre := g.centres(p.Terms.Test).named(p.Attempt.Processor)
	if centre == nil {
		return payment.Answer{Ref: p.Open.Ref, Outcome: payment.Unknown, Cause: "no processing centre " + p.Attempt.Processor + " is connected"}
	}
	within := time.Duration(p.Attempt.Limits.AnswerMillis) * time.Millisecond
	if late := g.cfg.Store.Now().Sub(p.Open.AskedAt); late > within && p.Open.Ask != payment.Query {
		return unsent(p.Open, late)
	}
	if p.Open.Kind == payment.OpChallenge && !p.Terms.Test && !g.sentCodes.take(s.card.Number, g.cfg.Store.Now()) {
		return payment.Answer{
			Ref: p.Open.Ref, Outcome: payment.Refused, Reason: payment.TooManyCodes,
			Cause: fmt.Sprintf("not asked: %d codes were sent for this card within an hour", g.cfg.CodesSent),
		}
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	method := p.Attempt.Method // and not the whole payment, which Claimed would keep
	q := processor.Question{
		Payment: p.ID, Shop: p.Shop, Operation: *p.Open, Attempt: *p.Attempt, Captured: p.Captured,
		HoldUntil: p.HoldDeadline, ExpiresAt: p.Terms.ExpiresAt, Language: p.Terms.Language,
		Claimed: func(ctx context.Context, claim string) (bool, error) {
			return g.cfg.Store.Claimed(ctx, method, claim)
		},
	}
	if p.Open.Ask == payment.Send {
		q.Card, q.Code = s.card, s.code
	}
	began := time.Now()
	answer := centre.Ask(ctx, q)
	answer.Ref = p.Open.Ref
	answer = g.believed(answer, p.Open)
	g.count(&p, &answer, time.Since(began))
	return answer
}

// believed is what counts of an answer. What a centre does not know of, or no longer holds, is true if it was sent long enough
// ago; where the clock was set forward since, that seems longer ago than it is, and counts from then.
func (g *Gateway) believed(a payment.Answer, op *payment.Operation) payment.Answer {
	steady := g.cfg.Store.Steady()
	undone := a.Outcome == payment.NeverSeen || a.Outcome == payment.Refused
	tooSoon := op.SentAt.Before(steady) && op.AskedAt.Before(steady.Add(g.longest))
	if op.Ask == payment.Query && !op.AskedAt.IsZero() && undone && tooSoon {
		return payment.Answer{Ref: a.Ref, Outcome: payment.Unknown, Cause: fmt.Sprintf("%s, too soon after the clock was set forward: %s", a.Outcome, a.Cause)}
	}
	return a
}

// unsent is the answer to a question that was committed and could not be asked in time, because the
// process stood still in between (a machine that was suspended). Nobody may send it any more: whoever asks what
// became of it counts from when it should have been sent.
func unsent(op *payment.Operation, late time.Duration) payment.Answer {
	a := payment.Answer{Ref: op.Ref, Outcome: payment.Unknown, Cause: fmt.Sprintf("it was not sent: the process stood still for %s", late)}
	if op.Ask == payment.Send && op.Asks == 1 {
		a.Outcome, a.Reason = payment.Refused, payment.Unavailable
	}
	return a
}

// begin puts a command to a payment, and commits what it changes. A question that it opens is the caller's to ask.
func (g *Gateway) begin(ctx context.Context, id payment.ID, c payment.Command) (payment.Change, error) {
	return g.cfg.Store.Update(ctx, id, func(p payment.Payment, now time.Time) (payment.Change, error) {
		return payment.Begin(p, c, now)
	})
}

// settle commits what an answer changes.
func (g *Gateway) settle(ctx context.Context, id payment.ID, a payment.Answer) (payment.Change, error) {
	return g.cfg.Store.Update(ctx, id, func(p payment.Payment, now time.Time) (payment.Change, error) {
		return payment.Settle(p, a, now), nil
	})
}

// enter notes that this process asks about a payment; the function it returns ends that.
func (g *Gateway) enter(id payment.ID) (end func()) {
	done := make(chan struct{})
	g.mu.Lock()
	g.asked++
	g.asking[id] = done
	g.mu.Unlock()
	return func() {
		g.mu.Lock()
		if g.asking[id] == done { // else the next question of the payment has begun already
			delete(g.asking, id)
		}
		if g.asked--; g.asked == 0 {
			g.idle.Broadcast()
		}
		g.mu.Unlock()
		close(done)
	}
}

// underWay is closed when the question that this process asks about a payment is answered; nil:
// it asks none.
func (g *Gateway) underWay(id payment.ID) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asking[id]
}

// How long, and how often, a caller waits for a question that another process asks.
const (
	awaitAtMost = 15 * time.Second
	awaitEvery  = 50 * time.Millisecond
)

// await waits until the question that is open now is answered, by whoever asks it, and returns the
// payment. Where no answer comes in time the question is still open in it.
func (g *Gateway) await(ctx context.Context, id payment.ID) (payment.Payment, error) {
	p, err := g.cfg.Store.Payment(ctx, id)
	if err != nil || p.Open == nil {
		return p, err
	}
	ctx, cancel := context.WithTimeout(ctx, awaitAtMost)
	defer cancel()
	tick := time.NewTicker(awaitEvery)
	defer tick.Stop()
	for p.Open != nil && p.Open.Outcome == "" {
		select {
		case <-ctx.Done():
			return p, nil
		case <-g.underWay(id):
		case <-tick.C:
		}
		if p, err = g.cfg.Store.Payment(context.WithoutCancel(ctx), id); err != nil {
			return p, err
		}
	}
	return p, nil
}
