package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// scene is one flow under way: what the buyer, the shop and the bank know so far. Each method that a step plays does what
// the step says, tells it, and fails if the world is not as it should be then.
type scene struct {
	*walker
	ctx    context.Context
	flow   *flow
	method string
	shop   Credentials
	client *holdfast.Client
	quiet  bool // the calls are not told

	id     string // shop_transaction_id
	card   simCard
	before standing // of the card, when the flow began
	count  int      // operations in the books at that time

	state  *holdfast.PaymentState
	entity *holdfast.PaymentEntity
	info   *holdfast.VerificationInfo
	code   holdfast.Secret
	paid   *holdfast.ExtendedEntity
	after  *holdfast.PaymentState // as set_accept answered it
	seen   []string               // webhook-ids of this payment's notifications

	step      int    // which is being played
	decidedAt int    // the step of set_accept
	paidAt    int    // the step after which the payment was paid or held
	screen    screen // what the payer's browser shows
	heldAt    time.Time
	held, fee int64 // minor units

	refund   holdfast.RefundRequest // the last one that was accepted
	answered *holdfast.Refund       // its answer
	refunded int64                  // minor units
}

// standing is a card in the simulator's books, minor units.
type standing struct{ Balance, Held int64 }

func (w *walker) newScene(ctx context.Context, f *flow, method string) (*scene, error) {
	s := &scene{walker: w, ctx: ctx, flow: f, method: method, shop: w.cfg.Credentials, id: newName()}
	if f.ShortHold {
		s.shop = w.cfg.ShortHold
	}
	s.client = &holdfast.Client{BaseURL: w.cfg.Gateway, ShopID: s.shop.ShopID, Secret: s.shop.Secret, Trace: func(x holdfast.Exchange) {
		if !s.quiet {
			w.tell.call(x)
		}
	}}
	cards, err := w.sim.cards(ctx)
	if err != nil {
		return nil, err
	}
	if s.card, err = pick(cards, method, cartSum, w.used); err != nil {
		return nil, err
	}
	w.used = append(w.used, s.card.PAN)
	books, err := w.sim.books(ctx)
	if err != nil {
		return nil, err
	}
	s.count = len(books.Operations)
	s.before, err = s.find(books)
	return s, err
}

// find looks the card up in the books.
func (s *scene) find(books simBooks) (standing, error) {
	for _, c := range books.Cards {
		if c.PAN == s.card.PAN {
			return standing{c.Balance, c.Held}, nil
		}
	}
	return standing{}, fmt.Errorf("the card %s is not in the simulator's books: restart the simulator", maskedCard(s.card.PAN))
}

// books reads what the centre believes of the card, and what it did with it since the flow began.
func (s *scene) books() (now standing, done []simOperation, err error) {
	books, err := s.sim.books(s.ctx)
	if err != nil {
		return now, nil, err
	}
	if len(books.Operations) < s.count {
		return now, nil, errors.New("the simulator's books are shorter than before: it was reset during the walk")
	}
	for _, op := range books.Operations[s.count:] {
		if op.Scheme == s.card.Scheme && strings.HasSuffix(s.card.PAN, op.PANLast) {
			done = append(done, op)
		}
	}
	now, err = s.find(books)
	return now, done, err
}

// bank expects that the books show the card with this much taken and held by this payment, and the last operation to be of
// the kind, sum and state; and tells what they say.
func (s *scene) bank(taken, held int64, last simOperation) error {
	now, done, err := s.books()
	if err != nil {
		return err
	}
	if len(done) == 0 {
		return differ("operations with the card in the centre's books", "none", last.Kind)
	}
	op := done[len(done)-1]
	s.tell.say("The centre's books: %s of %s, %s (refNum %s). On the card %s, of it held %s.",
		op.Kind, sums(op.Amount), op.State, op.RefNum, sums(now.Balance), sums(now.Held))
	return first(
		s.expect("the last operation in the centre's books", simOperation{Kind: op.Kind, Amount: op.Amount, State: op.State}, last),
		s.expect("the card's balance in the centre's books, minor units", now.Balance, s.before.Balance-taken),
		s.expect("what is held on the card in the centre's books, minor units", now.Held, s.before.Held+held),
	)
}

// booksAgree expects, at the end of a flow, that exactly what was captured and not refunded is gone from the card and that
// nothing is held.
func (s *scene) booksAgree() error {
	now, _, err := s.books()
	if err != nil {
		return err
	}
	s.quiet = true
	state, err := s.client.Status(s.ctx, s.id)
	s.quiet = false
	if err != nil {
		return err
	}
	return first(
		s.sum("refunded_sum", state.RefundedSum, s.flow.Refunded),
		s.expect("what went back in refunds, minor units", s.refunded, s.flow.Refunded),
		s.expect("the card's balance, minor units", now.Balance, s.before.Balance-s.flow.Capture+s.refunded),
		s.expect("what is held on the card, minor units", now.Held, s.before.Held),
	)
}

// until looks again and again until done says yes, for at most within.
func (s *scene) until(within time.Duration, what string, done func() (bool, error)) error {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("%s has not happened within %s", what, within)
		case <-s.ctx.Done():
			return fmt.Errorf("the walk was ended while it waited for this: %s: %w", what, context.Cause(s.ctx))
		}
	}
}

// notified waits for the payment's next notification and expects it to tell the status. Its signature has been verified by
// the handler; one that was not ends the walk.
func (s *scene) notified(status string) (n holdfast.Notification, err error) {
	deadline := time.NewTimer(messageWithin)
	defer deadline.Stop()
	for {
		l, ok := s.inbox.take()
		if !ok {
			select {
			case <-s.inbox.news:
				continue
			case <-deadline.C:
				return n, fmt.Errorf("no notification with the status %s has come within %s", status, messageWithin)
			case <-s.ctx.Done():
				return n, fmt.Errorf("the walk was ended while it waited for a notification: %w", context.Cause(s.ctx))
			}
		}
		if err := s.expect("the shop's answer to a notification (HTTP 401: its signature does not fit)", l.Status, http.StatusOK); err != nil {
			return n, err
		}
		if err := json.Unmarshal(l.Request, &n); err != nil {
			return n, fmt.Errorf("a notification cannot be read: %w", err)
		}
		if n.PaymentUUID != s.state.PaymentUUID || slices.Contains(s.seen, l.webhookID) {
			continue // about another payment, or a repeat
		}
		s.seen = append(s.seen, l.webhookID)
		s.tell.notified(l.Exchange)
		return n, first(
			s.expect("the status in the notification", n.Status, status),
			s.expect("shop_transaction_id in the notification", n.ShopTransactionID, s.id),
			s.sum("total_sum in the notification", n.TotalSum, cartSum),
		)
	}
}

// sum expects a sum of the wire, in minor units.
func (s *scene) sum(what string, got holdfast.Decimal, want int64) error {
	minor, err := got.Minor()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return s.expect(what, sums(minor), sums(want))
}

// ---- the steps --------------------------------------------------------------

func (s *scene) selects() error {
	s.tell.say("The cart has %s: %s UZS. The buyer's %s card %s has %s on it.", cartText, sums(cartSum), schemeName(s.card.Scheme),
		maskedCard(s.card.PAN), sums(s.before.Balance))
	return nil
}

// schemeName is what is printed on a card.
func schemeName(scheme string) string {
	switch scheme {
	case "visa":
		return "Visa"
	case "mastercard":
		return "Mastercard"
	}
	return methodName(scheme)
}

func (s *scene) clicks() error {
	s.tell.say("The shop gives the payment a name of its own: %s.", s.id)
	return nil
}

func (s *scene) prepares() (err error) {
	notify := either(s.flow.ShortHold, "/notify/short", "/notify")
	request := holdfast.PrepareRequest{
		ShopTransactionID: holdfast.Text(s.id), AutoCapture: &s.flow.OneStage, Test: true, InitTime: holdfast.AnyText(holdfast.FormatTime(time.Now())),
		UserData: &holdfast.UserData{UserID: "dilnoza", Phone: "998901234567", Email: "dilnoza@example.uz"},
		TotalSum: holdfast.DecimalOf(cartSum), Currency: "UZS", Description: "A teapot and two bowls",
		PaymentMethods: []holdfast.PaymentMethod{{Method: s.method}},
		ReturnURL:      s.url + "/return?id=" + s.id, NotifyURL: s.url + notify, Language: "en", TTL: 15,
	}
	if s.state, err = s.client.Prepare(s.ctx, request); err != nil {
		return err
	}
	return first(
		s.expect("status", s.state.Status, holdfast.StatusCreated),
		s.expect("shop_transaction_id", s.state.ShopTransactionID, s.id),
		s.sum("total_sum", s.state.TotalSum, cartSum),
	)
}

func either(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

// first is the first expectation that failed: one sentence is enough to end the walk.
func first(failed ...error) error {
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *scene) hasLink() error {
	s.tell.say("%s is the gateway's own page, for shops that have none.", s.state.PayURL)
	return s.expect("octo_pay_url ends with the payment's UUID and the language",
		strings.HasSuffix(s.state.PayURL, "/pay/"+s.state.PaymentUUID+"?language=en"), true)
}

func (s *scene) showsPage() error {
	s.tell.say("This shop has its own card form, and so the card comes to the shop first.")
	return nil
}

func (s *scene) givesCard() error {
	s.tell.say("%s, valid until %s/%s, %s.", maskedCard(s.card.PAN), s.card.Exp[2:], s.card.Exp[:2], s.card.Holder)
	return nil
}

func (s *scene) pays() (err error) {
	s.entity, err = s.client.Pay(s.ctx, s.state.PaymentUUID, holdfast.PayRequest{
		PAN: holdfast.Secret(s.card.PAN), Exp: s.card.Exp, Method: s.method, CVC2: holdfast.Secret(s.card.CVC),
		CardHolderName: s.card.Holder, Email: "dilnoza@example.uz",
	})
	if err != nil {
		return err
	}
	if s.entity.Details == nil {
		return differ("details of the answer", "nothing", "how the card is charged")
	}
	return first(
		s.expect("uuid", s.entity.UUID, s.state.PaymentUUID),
		s.expect("details.transType", s.entity.Details.TransType, either(s.method == holdfast.MethodBankCard, "3DS", "SMS")),
		s.sum("totalSum", s.entity.TotalSum, cartSum),
	)
}

func (s *scene) payConfirmed() error {
	s.tell.say("Nothing is held yet. The payment's number is %d; the payer has to enter a code now, and the shop's server is told so, too:", s.entity.ID)
	_, err := s.notified(holdfast.StatusWaitUserAction)
	return err
}

func (s *scene) asksVerification() (err error) {
	s.info, err = s.client.VerificationInfo(s.ctx, s.state.PaymentUUID)
	return err
}

func (s *scene) verificationConfirmed() error {
	s.tell.say("The code goes to %s and is good for %d seconds; the shop shows both to the payer.", s.info.Phone, int64(s.info.SecondsLeft))
	return s.expect("secondsLeft is above 0", s.info.SecondsLeft > 0, true)
}

func (s *scene) getsSMS() error {
	var message simMessage
	err := s.until(messageWithin, "the SMS with the code", func() (bool, error) {
		messages, err := s.sim.sms(s.ctx, s.card.Phone)
		if err != nil || len(messages) == 0 {
			return false, err
		}
		message = messages[0]
		return true, nil
	})
	if err != nil {
		return err
	}
	s.code = holdfast.Secret(message.Code)
	s.tell.say("The buyer's phone shows: “%s”", strings.ReplaceAll(message.Text, message.Code, s.code.String()))
	return s.expect("the SMS has a code", message.Code != "", true)
}

func (s *scene) givesCode() error {
	s.tell.say("The buyer types %s into the shop's form.", s.code)
	return nil
}

func (s *scene) checksCode() (err error) {
	s.paid, err = s.client.CheckSMSKey(s.ctx, holdfast.CheckSMSKeyRequest{SMSKey: s.code, PaymentID: s.entity.ID, VerifyID: s.info.VerifyID})
	if err != nil {
		return err
	}
	s.heldAt, s.paidAt = time.Now(), s.step
	want := either(s.flow.OneStage, holdfast.StatusSucceeded, holdfast.StatusWaitingForCapture)
	return first(
		s.expect("status", s.paid.Status, want),
		s.sum("totalSum", s.paid.TotalSum, cartSum),
	)
}

func (s *scene) holdAsked() error {
	s.tell.say("The code was right, so the gateway asked the centre to hold %s – inside the call above, after it had written the question down.", sums(cartSum))
	return nil
}

func (s *scene) holdConfirmed() error {
	s.held = cartSum
	return s.bank(0, cartSum, simOperation{Kind: "hold", Amount: cartSum, State: "held"})
}

func (s *scene) heldTold() error {
	if s.paid != nil {
		s.tell.say("The answer to step %d said so already: status %s.", s.paidAt, s.paid.Status)
		return nil
	}
	s.tell.say("Nobody but the buyer was there, so the shop asks; it could also wait for the next step.")
	state, err := s.client.Status(s.ctx, s.id)
	if err != nil {
		return err
	}
	return s.expect("status", state.Status, holdfast.StatusWaitingForCapture)
}

func (s *scene) askedToConfirm() error {
	s.tell.say("The notification asks for the decision. The shop could decide by its answer; it says that it will use set_accept.")
	_, err := s.notified(holdfast.StatusWaitingForCapture)
	return err
}

func (s *scene) decides() (err error) {
	request := holdfast.AcceptRequest{PaymentUUID: s.state.PaymentUUID, AcceptStatus: s.flow.Decide}
	if s.flow.Decide == holdfast.AcceptCapture {
		request.FinalAmount = holdfast.DecimalOf(s.flow.Capture)
	}
	if s.after, err = s.client.Accept(s.ctx, request); err != nil {
		return err
	}
	s.decidedAt = s.step
	want := either(s.flow.Decide == holdfast.AcceptCapture, holdfast.StatusSucceeded, holdfast.StatusCanceled)
	return first(
		s.expect("status", s.after.Status, want),
		s.sum("total_sum, which stays what was first asked for", s.after.TotalSum, cartSum),
	)
}

func (s *scene) amountUnchanged() error {
	s.tell.say("%s were asked for, %s were held, %s are confirmed.", sums(cartSum), sums(s.held), sums(s.flow.Capture))
	return s.expect("the confirmed sum is the held one", s.flow.Capture, s.held)
}

func (s *scene) amountLess() error {
	s.tell.say("%s were held, %s are confirmed: %s are to go back to the card.", sums(s.held), sums(s.flow.Capture), sums(s.held-s.flow.Capture))
	return s.expect("the confirmed sum is less than the held one", s.flow.Capture < s.held, true)
}

func (s *scene) captureAsked() error {
	s.tell.say("The gateway wrote the decision down and asked the centre to take %s of the hold.", sums(s.flow.Capture))
	return nil
}

func (s *scene) captureConfirmed() error {
	return s.bank(s.flow.Capture, 0, simOperation{Kind: "capture", Amount: s.flow.Capture, State: "done"})
}

func (s *scene) captureTold() error {
	transfer, err := s.after.TransferSum.Minor()
	if err != nil {
		return fmt.Errorf("transfer_sum of set_accept's answer: %w", err)
	}
	s.fee = s.flow.Capture - transfer
	s.tell.say("It is the answer to step %d: %s of %s come to the shop, the gateway's fee is %s. The notification says the same:",
		s.decidedAt, sums(transfer), sums(s.flow.Capture), sums(s.fee))
	n, err := s.notified(holdfast.StatusSucceeded)
	if err != nil {
		return err
	}
	return first(
		s.expect("the fee is from 0 to what was captured", s.fee >= 0 && s.fee <= s.flow.Capture, true),
		s.sum("transfer_sum in the notification", n.TransferSum, transfer),
	)
}

func (s *scene) chargeAsked() error {
	s.tell.say("The code was right, so the gateway asked the centre to take %s – inside the call above.", sums(cartSum))
	return nil
}

func (s *scene) chargeConfirmed() error {
	return s.bank(cartSum, 0, simOperation{Kind: "charge", Amount: cartSum, State: "done"})
}

func (s *scene) chargeTold() error {
	if s.paid != nil {
		s.tell.say("The answer to step %d said it already; the notification says the same:", s.paidAt)
	}
	n, err := s.notified(holdfast.StatusSucceeded)
	if err != nil {
		return err
	}
	transfer, err := n.TransferSum.Minor()
	if err != nil {
		return fmt.Errorf("transfer_sum in the notification: %w", err)
	}
	s.fee = cartSum - transfer
	s.tell.say("%s come to the shop, the gateway's fee is %s.", sums(transfer), sums(s.fee))
	err = s.expect("the fee is from 0 to what was captured", s.fee >= 0 && s.fee <= s.flow.Capture, true)
	if err != nil || s.paid == nil {
		return err
	}
	return first(
		s.sum("transferSum of check_sms_key's answer", s.paid.TransferSum, transfer),
		s.sum("fee of check_sms_key's answer", s.paid.Fee, s.fee),
	)
}

func (s *scene) restReturned() error {
	s.tell.say("%s are free again on the buyer's card, and %s are paid.", sums(s.held-s.flow.Capture), sums(s.flow.Capture))
	now, _, err := s.books()
	if err != nil {
		return err
	}
	return s.expect("what the buyer can spend, minor units", now.Balance-now.Held, s.before.Balance-s.before.Held-s.flow.Capture)
}

func (s *scene) released() error {
	return s.bank(0, 0, simOperation{Kind: "void", Amount: cartSum, State: "done"})
}

func (s *scene) cancelTold() error {
	_, err := s.notified(holdfast.StatusCanceled)
	return err
}

func (s *scene) secondThought() error {
	_, err := s.client.Accept(s.ctx, holdfast.AcceptRequest{PaymentUUID: s.state.PaymentUUID, AcceptStatus: holdfast.AcceptCapture})
	var refused *holdfast.Error
	if !errors.As(err, &refused) {
		return errors.New("a capture after the cancellation was accepted: expected error 10")
	}
	return s.expect("error", refused.Code, holdfast.CodeStatusFixed)
}

// waitsForRelease asks again and again, until the gateway has given up waiting for the shop.
func (s *scene) waitsForRelease() error {
	s.tell.say("The shop's holds last %s. It only watches:", spoken(s.cfg.ShortHoldTime))
	var state *holdfast.PaymentState
	look := func() (err error) {
		state, err = s.client.Status(s.ctx, s.id)
		return err
	}
	if err := look(); err != nil {
		return err
	}
	if err := s.expect("status before the time is over", state.Status, holdfast.StatusWaitingForCapture); err != nil {
		return err
	}
	s.quiet = true
	err := s.until(s.cfg.ShortHoldTime+releaseGrace, "the release of the hold", func() (bool, error) {
		err := look()
		return err == nil && state.Status != holdfast.StatusWaitingForCapture, err
	})
	s.quiet = false
	if err != nil {
		return err
	}
	took := time.Since(s.heldAt)
	s.tell.say("… and %s after the hold the same question has another answer:", took.Round(100*time.Millisecond))
	if err := look(); err != nil {
		return err
	}
	return first(
		s.expect("status after the time", state.Status, holdfast.StatusCanceled),
		s.expect("the hold lasted as long as the shop's time, to a second", took > s.cfg.ShortHoldTime-time.Second, true),
	)
}

func (s *scene) goesBack() error {
	request, err := http.NewRequestWithContext(s.ctx, http.MethodGet, s.url+"/return?id="+s.id, nil)
	if err != nil {
		return err
	}
	response, err := s.browser.Do(request)
	if err != nil {
		return fmt.Errorf("the shop's return page does not answer: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	if err != nil {
		return fmt.Errorf("the shop's return page broke off: %w", err)
	}
	// The address alone proves nothing, so the shop asks before it says anything.
	state, err := s.client.Status(s.ctx, s.id)
	if err != nil {
		return err
	}
	s.tell.say("The buyer's browser is at %s/return, and after a look at the status the shop says: “%s”", s.url,
		either(s.flow.Capture > 0, string(text), "Your purchase was canceled, nothing was taken."))
	return s.expect("status", state.Status, either(s.flow.Capture > 0, holdfast.StatusSucceeded, holdfast.StatusCanceled))
}
