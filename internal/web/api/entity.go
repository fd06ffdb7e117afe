package api

import (
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/payment"
)

func sum(a money.Amount) holdfast.Decimal  { return holdfast.Decimal(a.Decimal()) }
func sum4(a money.Amount) holdfast.Decimal { return holdfast.Decimal(a.Decimal4()) }

// orNull is a string that is null on the wire where there is none.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func millis(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	ms := t.UnixMilli()
	return &ms
}

// state is a payment as prepare_payment answers it.
func (a *API) state(p *payment.Payment) *holdfast.PaymentState {
	return &holdfast.PaymentState{
		ShopTransactionID: p.Terms.ShopPaymentID, PaymentUUID: p.ID.String(), Status: string(p.Status()),
		PayURL:      a.cfg.PayURL + "/pay/" + p.ID.String() + "?language=" + p.Terms.Language,
		RefundedSum: sum(p.Refunded), TotalSum: sum(p.Terms.Amount),
	}
}

func stateResponse(s *holdfast.PaymentState, developer string) holdfast.StateResponse {
	return holdfast.StateResponse{Data: s, PaymentState: s, Developer: developer}
}

// core is what pay and check_sms_key say of a payment alike.
func (a *API) core(p *payment.Payment, settings *merchant.Settings) holdfast.EntityCore {
	t := &p.Terms
	total := t.Amount
	if p.State == payment.Captured {
		total = p.Captured
	}
	init := t.InitTime.UTC()
	core := holdfast.EntityCore{
		ID: holdfast.Integer(p.Number), UUID: p.ID.String(), MerchantID: holdfast.Integer(p.Shop), MerchantTransID: t.ShopPaymentID,
		InitialSum: sum(t.Amount), TotalSum: sum(total), SplittedSum: sum(total), Currency: string(t.Amount.Currency),
		CreateTime: p.CreatedAt.UnixMilli(), ExpireTime: t.ExpiresAt.UnixMilli(), PeyedTime: millis(p.PaidAt), ExpiredHoldTime: millis(p.HoldDeadline),
		// The seed's sample drops the date: 09:17:00 in Tashkent is 15420000.
		MerCreateTime: int64(init.Hour()*3600+init.Minute()*60+init.Second()) * 1000,
		Description:   t.Description, AutoCapture: t.AutoCapture, IsTest: t.Test, RefundLocked: settings.RefundLocked,
		ReturnURL: t.ReturnURL, RedirectURL: a.redirectURL(p), Status: string(p.Status()),
		PayMethods: make([]holdfast.PayMethod, 0, len(t.Methods)),
	}
	for _, m := range t.Methods {
		core.PayMethods = append(core.PayMethods, holdfast.PayMethod{Method: string(m)})
	}
	if t.Basket != nil {
		basket := make([]holdfast.BasketItem, 0, len(t.Basket))
		for _, i := range t.Basket {
			basket = append(basket, holdfast.BasketItem{
				Position: i.Description, Count: holdfast.Integer(i.Count), Price: holdfast.Decimal(i.Price), Spic: holdfast.Text(i.SPIC),
			})
		}
		core.Basket = &basket
	}
	if u := t.User; u != nil {
		core.User = &holdfast.User{Email: u.Email, Phone: u.Phone, UserID: u.ID}
		if p.Attempt != nil && p.Attempt.Email != "" {
			core.User.Email = p.Attempt.Email
		}
	}
	if p.Attempt != nil {
		core.ProcessorKey = orNull(p.Attempt.Centre.RRN)
	}
	return core
}

// redirectURL is where the payer goes next: the code's page, the 3-D Secure form, or the result.
func (a *API) redirectURL(p *payment.Payment) string {
	if p.State == payment.Challenged {
		if p.Attempt.ThreeDS {
			return a.cfg.PayURL + "/3ds/" + p.ID.String()
		}
		return a.cfg.PayURL + "/" + string(p.Attempt.Method) + "/sms/" + p.ID.String()
	}
	return a.cfg.PayURL + "/status/" + p.ID.String()
}

func transType(m payment.Method) string {
	if m == payment.BankCard {
		return "3DS"
	}
	return "SMS"
}

// entity is a payment as pay answers it. While the payer still has to act its status is created,
// as in the seed's sample.
func (a *API) entity(p *payment.Payment, settings *merchant.Settings) *holdfast.PaymentEntity {
	e := &holdfast.PaymentEntity{
		EntityCore: a.core(p, settings), Language: p.Terms.Language, RefundedSum: sum(p.Refunded),
		BankCode: settings.BankCode, Tag: orNull(p.Terms.Tag), Test: p.Terms.Test,
	}
	if p.Status() == payment.StatusWaitUserAction {
		e.Status = string(payment.StatusCreated)
	}
	if p.State == payment.Captured {
		e.Fee = sum4(p.Fee)
	}
	if attempt := p.Attempt; attempt != nil {
		e.TariffID = holdfast.Integer(attempt.Fee.TariffID)
		e.CardInputType = attempt.Input
		e.Details = &holdfast.Details{TransType: transType(attempt.Method), CardInfo: &holdfast.CardInfo{
			First6: attempt.Card.First6, Last4: attempt.Card.Last4,
			IssuerCountryCode: orNull(attempt.Card.Country), CardHolder: orNull(attempt.Card.Holder),
		}}
	}
	return e
}

// extended is a payment as check_sms_key answers it.
func (a *API) extended(p *payment.Payment, settings *merchant.Settings) *holdfast.ExtendedEntity {
	e := &holdfast.ExtendedEntity{
		EntityCore: a.core(p, settings), Language: p.Terms.Language, RefundedSum: sum(p.Refunded),
		BankCode: settings.BankCode, ProcessingReference: p.Reference(), Tag: orNull(p.Terms.Tag), Test: p.Terms.Test,
	}
	if p.Terms.TspID != 0 {
		tsp := holdfast.Integer(p.Terms.TspID)
		e.TspID = &tsp
	}
	if attempt := p.Attempt; attempt != nil {
		// While the money is only held: what they will be if all of it is captured. They are never null.
		fee, transfer := p.Fee, p.Transfer()
		if p.State != payment.Captured {
			fee = attempt.Fee.Of(p.Terms.Amount)
			transfer = p.Terms.Amount.Sub(fee)
		}
		e.Fee, e.TransferSum = sum4(fee), sum4(transfer)
		e.SelectedMethod = orNull(string(attempt.Method))
		e.TariffID = holdfast.Integer(attempt.Fee.TariffID)
		e.ProvCode = string(attempt.Method)
		e.CardInputType = attempt.Input
		e.Details = &holdfast.Details{
			TransType: transType(attempt.Method), Commission: attempt.Fee.Rate.Percent(), CardType: attempt.Card.Scheme,
		}
		if p.Open != nil {
			e.CurrentStep = orNull(string(p.Open.Kind))
			e.RequestProcessingStatus = orNull(strings.ToLower(string(p.Open.Outcome)))
			e.RequestProcessingTryCount = holdfast.Integer(p.Open.Asks)
		}
	}
	return e
}
