package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/gateway"
	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/web"
)

// pay tries a card (seed: pay). It carries no credentials: who knows the payment's UUID may pay it.
func (a *API) pay(w http.ResponseWriter, r *http.Request, body []byte) (_ any, err error) {
	ctx := r.Context()
	p, err := a.recall(ctx, "octo_payment_UUID", pathID(r))
	if err != nil {
		return nil, err
	}
	web.Note(w, p.ID.String())
	defer func(language string) { err = toPayer(language, err) }(p.Terms.Language)
	request, err := decode[holdfast.PayRequest](body)
	if err != nil {
		return nil, err
	}
	card, err := a.card(ctx, &request, &p)
	if err != nil {
		return nil, err
	}
	shop, err := a.cfg.Store.Shop(ctx, p.Shop)
	if err != nil {
		return nil, err
	}
	p, err = a.cfg.Gateway.Pay(ctx, shop, p.ID, card)
	if err != nil {
		return nil, err
	}
	if p.CardUnknown() {
		web.Miss(w)
	}
	// A code that is on its way stays good after a wrong one was typed: the same card again gets the same answer.
	if p.State != payment.Challenged || p.Open != nil {
		if err := unpaid(&p); err != nil {
			return nil, err
		}
	}
	return holdfast.PayResponse{Data: a.entity(&p, &shop.Settings)}, nil
}

// card checks what pay sends of a card.
func (a *API) card(ctx context.Context, q *holdfast.PayRequest, p *payment.Payment) (gateway.Card, error) {
	method := payment.Method(q.Method)
	switch {
	case q.CardToken != "":
		return gateway.Card{}, fail(holdfast.CodeNotSupported, "card_token: no cards are saved here; send pan and exp")
	case q.Method == "":
		return gateway.Card{}, bad("method", "required: bank_card, uzcard or humo")
	case !slices.Contains(p.Terms.Methods, method):
		return gateway.Card{}, fail(holdfast.CodePaymentMethod, "method: not one of this payment's methods")
	case q.Email == "" && p.Terms.User != nil:
		return gateway.Card{}, fail(holdfast.CodeEmailRequired, "")
	}
	if err := cmp.Or(checkText("cardHolderName", q.CardHolderName, maxShopID), checkText("email", q.Email, maxShopID)); err != nil {
		return gateway.Card{}, err
	}
	number, ok := payment.CleanNumber(string(q.PAN))
	if !ok {
		return gateway.Card{}, refusal(payment.CardUnknown, "pan: expected the card's number, digits only")
	}
	card := payment.Card{Number: number, Expiry: strings.TrimSpace(q.Exp), CVC: string(q.CVC2), Holder: q.CardHolderName}
	cards, err := a.cfg.Store.Cards(ctx)
	if err != nil {
		return gateway.Card{}, err
	}
	if problem := card.Check(cards.CardTable, method, a.cfg.Store.Now()); problem != nil {
		return gateway.Card{}, refusal(problem.Reason, problem.Field+": "+problem.Detail)
	}
	return gateway.Card{Card: card, Method: method, Email: q.Email, Input: holdfast.CardInputMerchantSite}, nil
}

// unpaid is the failure of a payment that a card or a code did not bring forward, or nil.
func unpaid(p *payment.Payment) error {
	switch {
	case p.Open != nil && p.State == payment.Challenged && p.Open.Outcome == payment.ChallengeGiven:
		return nil // the payer is at his bank
	case p.Open != nil:
		return refusal(payment.InDoubt, "")
	case p.State == payment.Declined:
		return refusal(payment.AttemptsUsedUp, "")
	case p.State == payment.Expired:
		return refusal(payment.PaymentExpired, "")
	case p.State == payment.Voided:
		return refusal(payment.Finished, "")
	case p.LastRefusal != "":
		return refusal(p.LastRefusal, "")
	}
	return nil
}

// verificationInfo says where a code went and how long it is good (seed: verificationInfo).
func (a *API) verificationInfo(w http.ResponseWriter, r *http.Request, body []byte) (any, error) {
	text := pathID(r)
	if text == "" && r.Method == http.MethodGet {
		text = r.URL.Query().Get("octo_payment_UUID")
	}
	if text == "" {
		request, err := decode[holdfast.VerificationInfoRequest](body)
		if err != nil {
			return nil, err
		}
		text = request.PaymentUUID
	}
	id, err := paymentID("octo_payment_UUID", text)
	if err != nil {
		return nil, err
	}
	// It is asked for right after pay; a code that another gateway had the centre send meanwhile came with its own verifyId.
	p, err := a.cfg.Store.Lately(r.Context(), id)
	if err != nil {
		return nil, err
	}
	web.Note(w, p.ID.String())
	return a.verification(&p), nil
}

// verification is what is known of the code on its way. Expired or not active: no seconds are left. With 3-D Secure the
// code, if there is one, is between the payer and his bank.
func (a *API) verification(p *payment.Payment) holdfast.VerificationInfoResponse {
	info := &holdfast.VerificationInfo{}
	if p.Attempt != nil && !p.Attempt.ThreeDS && p.Attempt.Challenge != nil {
		c := p.Attempt.Challenge
		info.VerifyID, info.Phone = holdfast.Integer(c.VerifyID), c.Phone
		if left := c.ExpiresAt.Sub(a.cfg.Store.Now()); p.State == payment.Challenged && left > 0 && c.Tries < payment.MaxWrongCodes {
			info.SecondsLeft = holdfast.Integer((left.Milliseconds() + 999) / 1000)
		}
	}
	return holdfast.VerificationInfoResponse{Data: info}
}

// checkSMSKey hands in the payer's code (seed: check_sms_key). Wrong ids are answered as a wrong code is.
func (a *API) checkSMSKey(w http.ResponseWriter, r *http.Request, body []byte) (_ any, err error) {
	request, err := decode[holdfast.CheckSMSKeyRequest](body)
	if err != nil {
		return nil, err
	}
	code := strings.TrimSpace(string(request.SMSKey))
	switch {
	case code == "":
		return nil, bad("smsKey", "required: the code from the SMS")
	case len(code) < payment.ShortestOTP || len(code) > payment.LongestOTP || strings.Trim(code, "0123456789") != "":
		return nil, badf("smsKey", "expected %d to %d digits", payment.ShortestOTP, payment.LongestOTP)
	case request.PaymentID <= 0:
		return nil, bad("paymentId", "required: the id that pay answered")
	case request.VerifyID <= 0:
		return nil, bad("verifyId", "required: the verifyId that verificationInfo answered")
	}
	ctx := r.Context()
	p, err := a.byNumber(ctx, int64(request.PaymentID))
	if err != nil {
		return nil, err
	}
	web.Note(w, p.ID.String())
	defer func(language string) { err = toPayer(language, err) }(p.Terms.Language)
	p, err = a.cfg.Gateway.SubmitCode(ctx, p.ID, int64(request.VerifyID), payment.OTP(code))
	if err != nil {
		return nil, err
	}
	if p.State != payment.Captured && (p.State != payment.Held || p.Open != nil && p.Decision == nil) {
		if err := unpaid(&p); err != nil {
			return nil, err
		}
		return nil, refusal(payment.CardRefused, "")
	}
	shop, err := a.cfg.Store.Shop(ctx, p.Shop)
	if err != nil {
		return nil, err
	}
	return holdfast.CheckSMSKeyResponse{Data: a.extended(&p, &shop.Settings)}, nil
}

// byNumber recalls the payment that the entity called id. One that is not there is no other than a wrong code.
func (a *API) byNumber(ctx context.Context, number int64) (payment.Payment, error) {
	p, err := a.cfg.Store.RecallByNumber(ctx, number)
	if errors.Is(err, store.ErrNotFound) {
		return p, &payment.Error{Reason: payment.WrongCode}
	}
	return p, err
}

// checkPan has a further code sent (contract §4).
func (a *API) checkPan(w http.ResponseWriter, r *http.Request, body []byte) (_ any, err error) {
	request, err := decode[holdfast.CheckPanRequest](body)
	if err != nil {
		return nil, err
	}
	if request.PaymentID <= 0 {
		return nil, bad("paymentId", "required: the id that pay answered")
	}
	number, ok := payment.CleanNumber(string(request.PAN))
	if !ok {
		return nil, refusal(payment.CardUnknown, "pan: expected the card's number, digits only")
	}
	ctx := r.Context()
	p, err := a.cfg.Store.PaymentByNumber(ctx, int64(request.PaymentID))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	cards, cardsErr := a.cfg.Store.Cards(ctx)
	if cardsErr != nil {
		return nil, cardsErr
	}
	card := payment.Card{Number: number, Expiry: strings.TrimSpace(request.ExpDate)}
	// Who does not know the card learns nothing of the payment, not even whether there is one.
	if err != nil || p.Attempt == nil || !p.Attempt.Card.Same(card.Facts(cards.CardTable)) {
		return nil, &payment.Error{Reason: payment.CardUnknown, Detail: "pan: not the card that is being tried on this payment; use pay for another card"}
	}
	web.Note(w, p.ID.String())
	defer func(language string) { err = toPayer(language, err) }(p.Terms.Language)
	if problem := card.Check(cards.CardTable, p.Attempt.Method, a.cfg.Store.Now()); problem != nil && problem.Reason != payment.WrongCVC {
		field := problem.Field
		if field == "exp" {
			field = "expDate"
		}
		return nil, refusal(problem.Reason, field+": "+problem.Detail)
	}
	p, err = a.cfg.Gateway.Resend(ctx, p.ID, card)
	if err != nil {
		return nil, err
	}
	if err := unpaid(&p); err != nil {
		return nil, err
	}
	return a.verification(&p), nil
}

// pathID is the path's second element.
func pathID(r *http.Request) string {
	_, id, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return id
}
