package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"holdfast"
	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/web"
)

// setAccept takes the merchant's decision (seed: set_accept).
func (a *API) setAccept(w http.ResponseWriter, r *http.Request, body []byte) (any, error) {
	request, err := decode[holdfast.AcceptRequest](body)
	if err != nil {
		return nil, err
	}
	ctx := r.Context()
	shop, err := a.authenticate(ctx, w, request.ShopID, request.Secret)
	if err != nil {
		return nil, err
	}
	p, err := a.recall(ctx, "octo_payment_UUID", request.PaymentUUID)
	if err != nil {
		return nil, err
	}
	if p.Shop != shop.ID {
		return nil, store.ErrNotFound // another shop's payment does not exist
	}
	web.Note(w, p.ID.String())
	p, err = a.decide(ctx, &p, request.AcceptStatus, request.FinalAmount, payment.ByMerchant)
	if err != nil {
		return nil, err
	}
	state := a.state(&p)
	state.TransferSum = sum(p.Transfer())
	if !p.PaidAt.IsZero() {
		state.PayedTime = holdfast.FormatTime(p.PaidAt)
	}
	return stateResponse(state, holdfast.DeprecationNotice), nil
}

// callback takes the same decision in the seed's other form: by the secret alone, and without an envelope.
func (a *API) callback(w http.ResponseWriter, r *http.Request, body []byte) (any, error) {
	request, err := decode[holdfast.CallbackRequest](body)
	if err != nil {
		return nil, err
	}
	if request.Secret == "" {
		return nil, bad("octo_secret", "required: the shop's secret")
	}
	ctx := r.Context()
	p, err := a.recall(ctx, "octo_payment_UUID", request.PaymentUUID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	// A payment that is not there and a wrong secret are not told apart: this call names no shop.
	shop, err := a.cfg.Store.Shop(ctx, p.Shop)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if !shop.SecretHash.Matches(merchant.Secret(request.Secret)) {
		return nil, fail(holdfast.CodeWrongSecret, "")
	}
	web.Shop(w)
	web.Note(w, p.ID.String())
	p, err = a.decide(ctx, &p, request.AcceptStatus, request.FinalAmount, payment.ByCallback)
	if err != nil {
		return nil, err
	}
	return holdfast.CallbackResponse{AcceptStatus: string(p.Decision.Accept), FinalAmount: sum(p.Captured)}, nil
}

// decide checks a decision's words, has it carried out, and says how it came out.
func (a *API) decide(ctx context.Context, p *payment.Payment, word string, final holdfast.Decimal, by payment.By) (payment.Payment, error) {
	accept := payment.Accept(word)
	amount := money.Amount{}
	switch accept {
	case payment.Cancel: // its final_amount, if there is one, says nothing
	case payment.Capture:
		if final != "" {
			var err error
			if amount, err = parseSum("final_amount", final, p.Terms.Amount.Currency); err != nil {
				return *p, err
			}
		}
	default:
		return *p, bad("accept_status", "expected capture or cancel")
	}
	decided, err := a.cfg.Gateway.Decide(ctx, p.ID, accept, amount, by)
	var refused *payment.Error
	if errors.As(err, &refused) {
		if now, err := a.cfg.Store.Payment(ctx, p.ID); err == nil {
			p = &now // else why it was refused is known all the same
		}
		return decided, undecided(refused, p)
	}
	switch {
	case err != nil:
		return decided, err
	case decided.State == payment.Held:
		return decided, &failure{
			code:    holdfast.CodeOutcomeUnknown,
			message: "The decision stands, but the bank has not answered yet: " + describeOpen(&decided),
		}
	case accept == payment.Capture && decided.State == payment.Voided:
		return decided, refusal(payment.HoldGone, holdGone)
	}
	return decided, nil
}

// undecided says why a decision was refused, in the words of set_accept.
func undecided(refused *payment.Error, p *payment.Payment) error {
	message := ""
	switch refused.Reason {
	case payment.DecisionStands:
		message = describe(refused.Decision, p)
	case payment.NotHeld:
		message = "nothing is held yet; the payment's status is " + string(p.Status())
	case payment.AlreadyCaptured:
		message = "the payment is already captured; use refund to give money back"
	case payment.Finished:
		message = "the payment is already " + string(p.Status())
	case payment.DeadlinePassed:
		message = refused.Detail + " and nobody had confirmed it; the money goes back to the card"
	case payment.Busy, payment.InDoubt:
		return notDone("Nothing was decided by this call", refused, p)
	case payment.AmountAboveHold:
		return &failure{code: holdfast.CodeAmountRange, message: "final_amount: at most what is held may be captured: " + refused.Detail}
	default:
		return refused
	}
	return &failure{code: holdfast.CodeStatusFixed, message: "The status could not be changed: " + message}
}

// holdGone is why a capture that was decided took nothing.
const holdGone = "the bank no longer held the money; it is back on the card"

// describe says which decision stands. Of a capture it does not say that it was done: that may not be known yet, and
// whoever asks meanwhile and afterwards gets one answer.
func describe(d *payment.Decision, p *payment.Payment) string {
	at := holdfast.FormatTime(d.At)
	if d.Accept == payment.Cancel {
		return fmt.Sprintf("it was canceled by %s at %s", d.By, at)
	}
	decided := fmt.Sprintf("the capture of %s was decided by %s at %s", d.Amount, d.By, at)
	if p.State == payment.Voided {
		decided += "; " + holdGone
	}
	return decided
}

func describeOpen(p *payment.Payment) string {
	if p.Decision.Accept == payment.Cancel {
		return "the hold is being let go"
	}
	return p.Decision.Amount.String() + " is being captured"
}
