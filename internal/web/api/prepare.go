package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/web"
	"holdfast/internal/web/text"
)

// The limits and defaults of prepare_payment (contract §2); lengths in characters.
const (
	defaultTTL     = 15
	maxTTL         = 43200
	maxShopID      = 255
	maxText        = 4000
	maxURL         = 2048
	maxBasketItems = 500
)

// prepareRequest is prepare_payment as clients send it: for the tag, which the interface does not document, some have a
// number of their own.
type prepareRequest struct {
	holdfast.PrepareRequest
	Tag holdfast.Text `json:"tag"`
}

// prepare answers prepare_payment in both its forms: with total_sum it creates a payment, or
// answers the state of the one that the shop already has under the id; without, it only answers.
func (a *API) prepare(w http.ResponseWriter, r *http.Request, body []byte) (any, error) {
	sent, err := decode[prepareRequest](body)
	if err != nil {
		return nil, err
	}
	request := sent.PrepareRequest
	request.Tag = string(sent.Tag)
	ctx := r.Context()
	shop, err := a.authenticate(ctx, w, request.ShopID, request.Secret)
	if err != nil {
		return nil, err
	}
	name := string(request.ShopTransactionID)
	if name == "" {
		return nil, bad("shop_transaction_id", "required: the shop's own unique id of the payment")
	}
	if err := checkText("shop_transaction_id", name, maxShopID); err != nil {
		return nil, err
	}
	if request.TotalSum == "" {
		return a.status(ctx, w, &request, shop)
	}
	terms, ttl, remarks, err := a.terms(&request, shop)
	if err != nil {
		// The first call has frozen everything: a repeat gets its state, whatever else it says.
		if answer, found := a.repeated(ctx, w, &request, shop); found {
			return answer, nil
		}
		return nil, err
	}
	p, created, err := a.cfg.Gateway.Prepare(ctx, shop, terms, ttl)
	if err != nil {
		return nil, err
	}
	web.Note(w, p.ID.String())
	if !created {
		remarks = differences(&p, &request)
	}
	return stateResponse(a.state(&p), strings.Join(remarks, " ")), nil
}

// status answers the form without total_sum.
func (a *API) status(ctx context.Context, w http.ResponseWriter, request *holdfast.PrepareRequest, shop merchant.Shop) (any, error) {
	p, err := a.cfg.Store.PaymentByShop(ctx, shop.ID, string(request.ShopTransactionID))
	switch {
	case errors.Is(err, store.ErrNotFound) && (request.ReturnURL != "" || request.Currency != ""):
		return nil, bad("total_sum", "required to create a payment (and to ask for a payment's state, send only octo_shop_id, octo_secret and shop_transaction_id)")
	case err != nil:
		return nil, err
	}
	web.Note(w, p.ID.String())
	return stateResponse(a.state(&p), ""), nil
}

// repeated is the answer to a create whose payment exists already.
func (a *API) repeated(ctx context.Context, w http.ResponseWriter, request *holdfast.PrepareRequest, shop merchant.Shop) (any, bool) {
	p, err := a.cfg.Store.PaymentByShop(ctx, shop.ID, string(request.ShopTransactionID))
	if err != nil {
		return nil, false
	}
	web.Note(w, p.ID.String())
	return stateResponse(a.state(&p), strings.Join(differences(&p, request), " ")), true
}

// terms checks what prepare_payment freezes. remarks are for the developer.
func (a *API) terms(q *holdfast.PrepareRequest, shop merchant.Shop) (terms payment.Terms, ttl time.Duration, remarks []string, err error) {
	fail := func(err error) (payment.Terms, time.Duration, []string, error) { return payment.Terms{}, 0, nil, err }
	settings := &shop.Settings
	if q.Currency == "" {
		return fail(bad("currency", "required: one of UZS, USD, RUB, EUR"))
	}
	currency, err := money.ParseCurrency(strings.ToUpper(q.Currency))
	if err != nil || !settings.TakesCurrency(currency) {
		return fail(&failure{code: holdfast.CodeCurrency, message: fmt.Sprintf("currency: %.10q is not allowed for the shop", q.Currency)})
	}
	amount, err := parseSum("total_sum", q.TotalSum, currency)
	if err != nil {
		return fail(err)
	}
	test := bool(q.Test)
	if !test && !settings.Live {
		return fail(&failure{code: holdfast.CodeNotLive})
	}
	methods, err := a.methods(q.PaymentMethods, shop, currency, test)
	if err != nil {
		return fail(err)
	}
	if settings.RequireTSP && q.TspID == 0 {
		return fail(&failure{code: holdfast.CodeTspRequired})
	}
	if q.ReturnURL == "" {
		return fail(bad("return_url", "required: where the payer goes after the payment, a complete http or https address"))
	}
	// Where several are wrong it is always the same one that is named: equal requests get equal answers.
	if err := cmp.Or(
		checkURL("return_url", q.ReturnURL), checkURL("notify_url", q.NotifyURL),
		checkText("description", q.Description, maxText), checkText("tag", q.Tag, maxText),
	); err != nil {
		return fail(err)
	}
	minutes := int64(q.TTL)
	if minutes == 0 {
		minutes = defaultTTL
	}
	if minutes < 1 || minutes > maxTTL {
		return fail(badf("ttl", "expected minutes from 1 to %d", maxTTL))
	}
	language := strings.ToLower(q.Language)
	if !text.Known(language) {
		remarks = append(remarks, fmt.Sprintf("language: %.10q is not one of %s; %s is used.", q.Language, strings.Join(text.Languages, ", "), text.Default))
		language = text.Default
	}
	user, err := userData(q.UserData)
	if err != nil {
		return fail(err)
	}
	basket, err := basket(q.Basket, amount, settings.StrictBasket)
	if err != nil {
		return fail(err)
	}
	notifyURL := q.NotifyURL
	if notifyURL == "" {
		notifyURL = settings.NotifyURL
	}
	autoCapture := q.AutoCapture == nil || *q.AutoCapture
	if !autoCapture && notifyURL == "" {
		return fail(&failure{code: holdfast.CodeNoNotifyURL})
	}
	return payment.Terms{
		ShopPaymentID: string(q.ShopTransactionID), Amount: amount, AutoCapture: autoCapture, Test: test,
		InitTime: initTime(string(q.InitTime)), Methods: methods, Description: q.Description,
		ReturnURL: q.ReturnURL, NotifyURL: notifyURL, Language: language, Tag: q.Tag, TspID: int64(q.TspID),
		User: user, Basket: basket,
	}, time.Duration(minutes) * time.Minute, remarks, nil
}

// parseSum reads a sum of money from its text, exactly.
func parseSum(field string, text holdfast.Decimal, c money.Currency) (money.Amount, error) {
	amount, err := money.Parse(string(text), c)
	switch {
	case err != nil:
		return amount, bad(field, err.Error())
	case !amount.Positive():
		return amount, bad(field, "must be above 0")
	}
	return amount, nil
}

// methods are what the payer may choose of: those asked for, or all that the shop has contracted. What is
// frozen is what was asked for, so a method that no centre takes now stays among them; but one must be
// payable.
func (a *API) methods(asked []holdfast.PaymentMethod, shop merchant.Shop, c money.Currency, test bool) ([]payment.Method, error) {
	var methods []payment.Method
	for _, q := range asked {
		m := payment.Method(strings.TrimSpace(q.Method))
		if !slices.Contains(payment.Methods, m) || !shop.Settings.Takes(string(m)) {
			return nil, fail(holdfast.CodePaymentMethod, fmt.Sprintf("payment_methods: %.40q is unknown or not contracted", q.Method))
		}
		if !slices.Contains(methods, m) {
			methods = append(methods, m)
		}
	}
	all := len(asked) == 0
	if all {
		methods = slices.DeleteFunc(slices.Clone(payment.Methods), func(m payment.Method) bool { return !shop.Settings.Takes(string(m)) })
	}
	var payable []payment.Method
	var why []string
	code, field := holdfast.CodePaymentMethod, "payment_methods"
	for _, m := range methods {
		err := a.cfg.Gateway.Route(shop, m, c, test)
		var refused *payment.Error
		switch {
		case err == nil:
			payable = append(payable, m)
		case !errors.As(err, &refused):
			return nil, err
		default:
			why = append(why, refused.Detail)
			if refused.Reason == payment.CurrencyNotAllowed {
				code, field = holdfast.CodeCurrency, "currency"
			}
		}
	}
	switch {
	case len(payable) == 0 && len(why) == 0:
		return nil, fail(code, field+": the shop has contracted no payment method; ask the gateway's operator")
	case len(payable) == 0:
		return nil, fail(code, field+": "+strings.Join(why, "; "))
	case all:
		return payable, nil
	}
	return methods, nil
}

// checkURL wants a complete http or https address; an empty one is for the caller to refuse.
func checkURL(field, text string) error {
	if text == "" {
		return nil
	}
	if err := checkText(field, text, maxURL); err != nil {
		return err
	}
	u, err := merchant.ParseURL(text)
	switch {
	case err != nil:
		return bad(field, err.Error())
	case u.User != nil:
		return bad(field, "expected an address without a name and password")
	}
	return nil
}

func userData(q *holdfast.UserData) (*payment.User, error) {
	if q == nil {
		return nil, nil
	}
	user := &payment.User{ID: string(q.UserID), Phone: string(q.Phone), Email: q.Email}
	err := cmp.Or(
		checkText("user_data.user_id", user.ID, maxShopID), checkText("user_data.phone", user.Phone, maxShopID),
		checkText("user_data.email", user.Email, maxShopID),
	)
	return user, err
}

// basket takes the positions as they are. The seed's own sample does not add up to its total_sum, so
// only a strict shop's must.
func basket(q []holdfast.BasketItem, amount money.Amount, strict bool) ([]payment.Item, error) {
	if len(q) > maxBasketItems {
		return nil, badf("basket", "more than %d positions", maxBasketItems)
	}
	var items []payment.Item
	total := amount.Zero()
	for i, item := range q {
		field := fmt.Sprintf("basket.%d.", i)
		if err := checkText(field+"position_desc", item.Position, maxText); err != nil {
			return nil, err
		}
		if err := checkText(field+"spic", string(item.Spic), maxShopID); err != nil {
			return nil, err
		}
		price, err := money.Parse(string(item.Price), amount.Currency)
		if err != nil || price.Minor < 0 {
			return nil, bad(field+"price", "expected a decimal number such as 10.00, with at most 2 decimals")
		}
		if item.Count < 1 || item.Count > 1_000_000 {
			return nil, bad(field+"count", "expected a whole number from 1 to 1000000")
		}
		if strict && price.Positive() {
			// Compared by division, so that no product can overflow.
			if int64(item.Count) > amount.Sub(total).Minor/price.Minor {
				return nil, fail(holdfast.CodeBasketTotal, "")
			}
			total = total.Add(money.New(price.Minor*int64(item.Count), amount.Currency))
		}
		items = append(items, payment.Item{Description: item.Position, Count: int64(item.Count), Price: price.Decimal(), SPIC: string(item.Spic)})
	}
	if strict && len(q) > 0 && total != amount {
		return nil, fail(holdfast.CodeBasketTotal, "")
	}
	return items, nil
}

// initTimes are the forms in which clients send init_time; the first is the seed's.
var initTimes = []string{holdfast.TimeLayout, time.RFC3339, "2006-01-02T15:04:05", "02.01.2006 15:04:05", "2006-01-02"}

// initTime reads init_time; where that cannot be, the zero time means now (contract §2).
func initTime(text string) time.Time {
	for _, layout := range initTimes {
		if t, err := time.ParseInLocation(layout, strings.TrimSpace(text), holdfast.Tashkent); err == nil && t.Year() > 2000 && t.Year() < 2200 {
			return t.UTC()
		}
	}
	return time.Time{}
}

// differences names each frozen term that a repeat asks for otherwise.
func differences(p *payment.Payment, q *holdfast.PrepareRequest) (remarks []string) {
	differs := func(field, was, is string) {
		remarks = append(remarks, fmt.Sprintf("%s: the payment was created with %s, this call says %s; the first call stands.", field, was, is))
	}
	if amount, err := money.Parse(string(q.TotalSum), p.Terms.Amount.Currency); err != nil || amount != p.Terms.Amount {
		differs("total_sum", p.Terms.Amount.Decimal(), fmt.Sprintf("%.40s", q.TotalSum))
	}
	if !strings.EqualFold(q.Currency, string(p.Terms.Amount.Currency)) {
		differs("currency", string(p.Terms.Amount.Currency), fmt.Sprintf("%.10q", q.Currency))
	}
	if autoCapture := q.AutoCapture == nil || *q.AutoCapture; autoCapture != p.Terms.AutoCapture {
		differs("auto_capture", fmt.Sprint(p.Terms.AutoCapture), fmt.Sprint(autoCapture))
	}
	if bool(q.Test) != p.Terms.Test {
		differs("test", fmt.Sprint(p.Terms.Test), fmt.Sprint(bool(q.Test)))
	}
	return remarks
}
