package api

import (
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

// refund gives captured money back (contract §5).
func (a *API) refund(w http.ResponseWriter, r *http.Request, body []byte) (any, error) {
	request, err := decode[holdfast.RefundRequest](body)
	if err != nil {
		return nil, err
	}
	ctx := r.Context()
	shop, err := a.authenticate(ctx, w, request.ShopID, request.Secret)
	if err != nil {
		return nil, err
	}
	name := string(request.ShopRefundID)
	if name == "" {
		return nil, bad("shop_refund_id", "required: the shop's own unique id of the refund")
	}
	if err := checkText("shop_refund_id", name, maxShopID); err != nil {
		return nil, err
	}
	p, err := a.find(ctx, "octo_payment_UUID", request.PaymentUUID)
	if err != nil {
		return nil, err
	}
	if p.Shop != shop.ID {
		return nil, store.ErrNotFound
	}
	web.Note(w, p.ID.String())
	if p.FindRefund(name) == nil {
		amount, err := a.refundAmount(&request, &p, shop)
		if err != nil {
			return nil, err
		}
		refunded, err := a.cfg.Gateway.Refund(ctx, p.ID, name, amount)
		if err != nil {
			return nil, unrefunded(err, &p)
		}
		p = refunded
	}
	refund := p.FindRefund(name)
	if refund.State == payment.RefundRefused {
		refused := refusal(refund.Reason, "")
		refused.message = "The bank refused the refund: " + refused.code.Info().Message
		// What the table says to do next is for a payer whose card is refused.
		refused.developer = "A new shop_refund_id tries again; if that is refused too, ask the gateway's operator."
		return nil, refused
	}
	answer := &holdfast.Refund{
		PaymentUUID: p.ID.String(), RefundID: refund.ID, RefundTime: holdfast.FormatTime(refund.AskedAt), Status: string(refund.State),
	}
	return holdfast.RefundResponse{Data: answer, Refund: answer, Developer: holdfast.DeprecationNotice}, nil
}

// refundAmount checks a refund's sum against the shop's limits.
func (a *API) refundAmount(q *holdfast.RefundRequest, p *payment.Payment, shop merchant.Shop) (money.Amount, error) {
	if shop.Settings.RefundLocked {
		return money.Amount{}, &failure{code: holdfast.CodeRefundLocked}
	}
	if q.Amount == "" {
		return money.Amount{}, bad("amount", "required: the sum to give back, such as 1000.00")
	}
	currency := p.Terms.Amount.Currency
	amount, err := money.Parse(string(q.Amount), currency)
	least, most := shop.Settings.RefundLimits(currency, a.cfg.Gateway.ReturnsWhole(p))
	wrong := func(format string, args ...any) (money.Amount, error) {
		return amount, &failure{code: holdfast.CodeRefundAmount, message: "Wrong amount to refund: " + fmt.Sprintf(format, args...)}
	}
	switch {
	case err != nil:
		return wrong("%v", err)
	case !amount.Positive():
		return wrong("it must be above 0")
	case amount.Cmp(least) < 0:
		return wrong("at least %s goes back at a time", least)
	case most.Positive() && amount.Cmp(most) > 0:
		return wrong("at most %s goes back at a time", most)
	}
	return amount, nil
}

// unrefunded says why a refund was not begun, in the words of refund.
func unrefunded(err error, p *payment.Payment) error {
	var refused *payment.Error
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Reason {
	case payment.Busy, payment.InDoubt:
		return notDone("The refund was not begun by this call", refused, p)
	case payment.NotCaptured:
		return &failure{code: holdfast.CodeStatusFixed, message: "The status could not be changed: only captured money can be given back, and the payment is " + string(p.Status())}
	}
	return refused
}
