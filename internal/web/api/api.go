// Package api speaks the merchant API: it reads a call, checks it, hands it to the gateway, and
// writes the stored payment in the words of the wire.
//
// The wire types are the public package's. prepare.go, pay.go, accept.go and refund.go are the calls;
// entity.go writes payments; errors.go is the one table from our reasons to the wire's codes.
package api

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"holdfast"
	"holdfast/internal/gateway"
	"holdfast/internal/merchant"
	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/web"
)

// Config is what the API needs.
type Config struct {
	Gateway *gateway.Gateway
	Store   *store.Store
	PayURL  string // where the payer's pages are, without a trailing slash
	Log     *slog.Logger
}

// API answers the merchant API's calls.
type API struct {
	cfg Config
}

// New makes the API.
func New(cfg Config) *API { return &API{cfg: cfg} }

// call is a call of the API.
type call struct {
	name string // the first element of its path
	id   bool   // the second is the payment's UUID
	asks bool   // it changes nothing: GET will do too, and the UUID may be in the query or the body instead
	// do answers it: with what to write on success, or the failure.
	do func(a *API, w http.ResponseWriter, r *http.Request, body []byte) (any, error)
}

var calls = []call{
	{name: "prepare_payment", do: (*API).prepare},
	{name: "pay", id: true, do: (*API).pay},
	{name: "verificationInfo", id: true, asks: true, do: (*API).verificationInfo},
	{name: "check_sms_key", do: (*API).checkSMSKey},
	{name: "check_pan", do: (*API).checkPan},
	{name: "set_accept", do: (*API).setAccept},
	{name: "callback", do: (*API).callback},
	{name: "refund", do: (*API).refund},
}

// Calls are the first path elements of the API; paths are whole, as a developer is told them.
var Calls, paths = func() (names, paths []string) {
	for _, c := range calls {
		names, paths = append(names, c.name), append(paths, c.name)
		if c.id {
			paths[len(paths)-1] += "/{uuid}"
		}
	}
	return names, paths
}()

// ServeHTTP answers one call. Failures of the business answer HTTP 200 with an error number, since
// existing clients take any other status for a broken connection (contract §1).
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, id, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	i := slices.IndexFunc(calls, func(c call) bool { return c.name == name })
	if i < 0 {
		web.NotFound(w, r, paths)
		return
	}
	c := &calls[i]
	switch {
	case id != "" && !c.id, id == "" && c.id && !c.asks, strings.Contains(id, "/"):
		web.NotFound(w, r, paths)
		return
	case r.Method != http.MethodPost && (r.Method != http.MethodGet || !c.asks):
		w.Header().Set("Allow", map[bool]string{false: "POST", true: "POST, GET"}[c.asks])
		web.Fail(w, http.StatusMethodNotAllowed, holdfast.Fail(holdfast.CodeDataFormat, "Use POST", "This call takes POST with a JSON body."))
		return
	}
	body, err := web.Body(r)
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			web.Fail(w, http.StatusRequestEntityTooLarge, holdfast.Fail(holdfast.CodeDataFormat, "The body is larger than 64 KiB", "Send less: no call needs that much."))
			return
		}
		web.Fail(w, http.StatusBadRequest, holdfast.Fail(holdfast.CodeDataFormat, "The body broke off", "Send the whole body, within 10 seconds."))
		return
	}
	answer, err := c.do(a, w, r, body)
	if err != nil {
		if guessed(err) {
			web.Miss(w)
		}
		status, failure := a.failure(err)
		web.Fail(w, status, failure)
		return
	}
	web.JSON(w, http.StatusOK, holdfast.CodeOK, answer)
}

// mark is what some systems, 1C among them, put before every text in UTF-8.
var mark = []byte("\ufeff")

// decode reads a call's JSON. Its error names the field and what was expected.
func decode[T any](body []byte) (T, error) {
	var request T
	body = bytes.TrimPrefix(body, mark)
	err := json.Unmarshal(body, &request)
	if err == nil {
		return request, nil
	}
	var syntax *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case len(body) == 0:
		return request, bad("", "the body is empty: send a JSON object")
	case errors.As(err, &semantic):
		field := fieldName(semantic.JSONPointer)
		if field == "" {
			return request, bad("", "the body is not a JSON object")
		}
		expected := "expected " + kindOf(semantic)
		if semantic.Err != nil && strings.HasPrefix(semantic.Err.Error(), "expected ") {
			expected = semantic.Err.Error()
		}
		return request, bad(field, expected)
	case errors.As(err, &syntax) && errors.Is(err, jsontext.ErrDuplicateName):
		return request, bad(fieldName(syntax.JSONPointer), "the key is there twice: send it once")
	case errors.As(err, &syntax):
		return request, bad(fieldName(syntax.JSONPointer), "not valid JSON: "+syntax.Err.Error())
	}
	return request, bad("", "not valid JSON")
}

// fieldName is a JSON pointer as developers write it: "/basket/0/count" is "basket.0.count".
func fieldName(p jsontext.Pointer) string {
	name := strings.ReplaceAll(strings.TrimPrefix(string(p), "/"), "/", ".")
	if len(name) > 100 {
		name = name[:100] + "…"
	}
	return strings.ToValidUTF8(name, "?")
}

func kindOf(e *json.SemanticError) string {
	if e.GoType == nil {
		return "another type"
	}
	switch kind := e.GoType.Kind().String(); kind {
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	case "slice":
		return "an array"
	case "struct":
		return "an object"
	default:
		return "a number"
	}
}

// authenticate finds the shop. An unknown one and a wrong secret get the same answer after the same work.
func (a *API) authenticate(ctx context.Context, w http.ResponseWriter, id holdfast.Integer, secret holdfast.Secret) (merchant.Shop, error) {
	switch {
	case id == 0:
		return merchant.Shop{}, bad("octo_shop_id", "required: the shop's id, a number")
	case secret == "":
		return merchant.Shop{}, bad("octo_secret", "required: the shop's secret")
	}
	shop, err := a.cfg.Store.Shop(ctx, int64(id))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return shop, err
	}
	// An unknown shop has the zero hash, which nothing matches.
	if !shop.SecretHash.Matches(merchant.Secret(secret)) {
		return merchant.Shop{}, fail(holdfast.CodeWrongSecret, "")
	}
	web.Shop(w)
	return shop, nil
}

// paymentID reads a payment's UUID.
func paymentID(field, text string) (payment.ID, error) {
	if text == "" {
		return payment.ID{}, bad(field, "required: the payment's UUID")
	}
	id, err := payment.ParseID(strings.TrimSpace(text))
	if err != nil {
		return id, bad(field, "expected a UUID such as e3f40dc3-4955-412a-853a-2ddd28d3201f")
	}
	return id, nil
}

// find reads a payment, whoever's it is.
func (a *API) find(ctx context.Context, field, text string) (payment.Payment, error) {
	id, err := paymentID(field, text)
	if err != nil {
		return payment.Payment{}, err
	}
	return a.cfg.Store.Payment(ctx, id)
}

// recall is find for whose terms and shop are all that is asked for: they never change.
func (a *API) recall(ctx context.Context, field, text string) (payment.Payment, error) {
	id, err := paymentID(field, text)
	if err != nil {
		return payment.Payment{}, err
	}
	return a.cfg.Store.Recall(ctx, id, 0)
}

// checkText refuses what cannot be kept: it is too long, or has a NUL in it.
func checkText(field, text string, longest int) error {
	switch {
	case utf8.RuneCountInString(text) > longest:
		return badf(field, "longer than %d characters", longest)
	case strings.ContainsRune(text, 0):
		return bad(field, "has a NUL character in it")
	}
	return nil
}
