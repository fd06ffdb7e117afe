package holdfast

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxAnswerBytes = 1 << 20
	defaultTimeout = 15 * time.Second
)

// Client calls a gateway for one shop. Fill in the first three fields; a
// Client may be used by many goroutines and must not be changed meanwhile.
//
// Every method makes one HTTP call and never repeats it by itself. What a call
// answers is its data, or an [*Error]. If there was no usable answer, the code
// of the error is [CodeOutcomeUnknown]: the payment may have gone through, so
// ask [Client.Status] before doing anything else. Repeating the same call is
// safe for Prepare, Status, VerificationInfo, Accept and Refund, which the
// gateway answers the same way again.
type Client struct {
	BaseURL string // of the gateway, such as https://pay.example.uz; a path in it is kept
	ShopID  int64  // octo_shop_id
	Secret  Secret // octo_secret

	// HTTP makes the calls; nil means one with usual settings. Redirects are
	// never followed, whatever it says: a redirect would carry the secret to
	// wherever the answer points. Without a time-out of its own and without a
	// deadline in the call's context, a call ends after 15 seconds.
	HTTP *http.Client

	// Trace, if set, sees every exchange after it happened, from the calling
	// goroutine. Bodies are masked: see [Mask].
	Trace func(Exchange)
}

// Exchange is one HTTP call as it may be shown: secrets, codes and card
// numbers in the bodies are masked.
type Exchange struct {
	Method   string // POST
	Path     string // the URL's path, such as /prepare_payment
	Request  []byte // masked
	Answer   []byte // masked; nil if there was none
	Status   int    // HTTP status; 0 if there was no answer
	Duration time.Duration
	Err      error // why there was no answer, or nil
}

// Error is a call that did not succeed.
type Error struct {
	Call       string        // which call, such as set_accept
	Code       Code          // error of the answer; CodeOutcomeUnknown without a usable answer; CodeDataFormat if nothing was sent
	Message    string        // errMessage of the answer
	Developer  string        // apiMessageForDevelopers of the answer
	HTTPStatus int           // 0 if there was no answer
	RetryAfter time.Duration // what a shed call (HTTP 429, 503) says to wait; 0 if it does not say
	Err        error         // what kept the answer away, for errors.Is; nil if there was one
}

// Error says in one sentence which call failed, why, and what to do next.
func (e *Error) Error() string {
	info := e.Code.Info()
	text := fmt.Sprintf("holdfast: %s: %s (error %d", e.Call, strings.TrimRight(cmp.Or(e.Message, info.Message), ". "), int(e.Code))
	if e.HTTPStatus != 0 && e.HTTPStatus != http.StatusOK {
		text += fmt.Sprintf(", HTTP %d", e.HTTPStatus)
	}
	text += ")"
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text + "; next: " + info.Next
}

// Unwrap gives what kept the answer away.
func (e *Error) Unwrap() error { return e.Err }

// Prepare creates a payment and answers its state and the URL for the payer.
// Repeating it with the same ShopTransactionID answers the first payment.
// Source: seed, prepare_payment; contract §2.
func (c *Client) Prepare(ctx context.Context, request PrepareRequest) (*PaymentState, error) {
	const name = "prepare_payment"
	if request.TotalSum == "" {
		return nil, notSent(name, errors.New("total_sum is missing: set TotalSum, or use Status to ask how a payment stands"))
	}
	request.ShopID, request.Secret = Integer(c.ShopID), c.Secret
	return call[PaymentState](ctx, c, name, "/prepare_payment", request)
}

// Status answers the state of the payment with the merchant's own id and
// changes nothing. An unknown id is [CodeNotFound]. Source: contract §2.
func (c *Client) Status(ctx context.Context, shopTransactionID string) (*PaymentState, error) {
	request := StatusRequest{Integer(c.ShopID), c.Secret, Text(shopTransactionID)}
	return call[PaymentState](ctx, c, "prepare_payment (status)", "/prepare_payment", request)
}

// Pay pays the prepared payment with a card or a card token. The answer says
// in RedirectURL and Details.TransType what the payer has to do next. A
// declined card leaves the payment open for another. Source: seed, pay.
func (c *Client) Pay(ctx context.Context, paymentUUID string, request PayRequest) (*PaymentEntity, error) {
	const name = "pay"
	if err := checkUUID(paymentUUID); err != nil {
		return nil, notSent(name, err)
	}
	return call[PaymentEntity](ctx, c, name, "/pay/"+paymentUUID, request)
}

// VerificationInfo answers where the SMS code went and how many seconds are
// left for it. Source: seed, verificationInfo.
func (c *Client) VerificationInfo(ctx context.Context, paymentUUID string) (*VerificationInfo, error) {
	const name = "verificationInfo"
	if err := checkUUID(paymentUUID); err != nil {
		return nil, notSent(name, err)
	}
	// In the path and in the body: gateways differ in where they look.
	return call[VerificationInfo](ctx, c, name, "/verificationInfo/"+paymentUUID, VerificationInfoRequest{paymentUUID})
}

// CheckSMSKey hands in the payer's code. On success the money is taken
// ([StatusSucceeded]) or held ([StatusWaitingForCapture]).
// Source: seed, check_sms_key.
func (c *Client) CheckSMSKey(ctx context.Context, request CheckSMSKeyRequest) (*ExtendedEntity, error) {
	return call[ExtendedEntity](ctx, c, "check_sms_key", "/check_sms_key", request)
}

// CheckPan has a new SMS code sent. Too many are [CodeResendsUsedUp].
// Source: contract §4.
func (c *Client) CheckPan(ctx context.Context, request CheckPanRequest) (*VerificationInfo, error) {
	return call[VerificationInfo](ctx, c, "check_pan", "/check_pan", request)
}

// Accept decides about held money: capture, all or in part, or cancel. The
// first decision stands; a different one is [CodeStatusFixed].
// Source: seed, set_accept.
func (c *Client) Accept(ctx context.Context, request AcceptRequest) (*PaymentState, error) {
	request.ShopID, request.Secret = Integer(c.ShopID), c.Secret
	return call[PaymentState](ctx, c, "set_accept", "/set_accept", request)
}

// Refund gives captured money back. Its Status may be [StatusPending]: ask
// again with the same ShopRefundID. Source: contract §5.
func (c *Client) Refund(ctx context.Context, request RefundRequest) (*Refund, error) {
	request.ShopID, request.Secret = Integer(c.ShopID), c.Secret
	return call[Refund](ctx, c, "refund", "/refund", request)
}

// checkUUID keeps a payment's id from changing the path it is put into.
func checkUUID(id string) error {
	if id == "" || strings.Trim(id, "0123456789abcdefABCDEF-") != "" {
		return errors.New("the payment's UUID is missing or is not one: use PaymentUUID of Prepare's answer")
	}
	return nil
}

func notSent(name string, err error) *Error {
	return &Error{Call: name, Code: CodeDataFormat, Message: "the request was not sent", Err: err}
}

// call makes one exchange and takes data of type T from the answer.
func call[T any](ctx context.Context, c *Client, name, path string, request any) (*T, error) {
	body, err := EncodeRequest(request)
	if err != nil {
		return nil, notSent(name, err)
	}
	target, err := url.Parse(c.BaseURL)
	if err != nil || target.Host == "" || (target.Scheme != "http" && target.Scheme != "https") {
		return nil, notSent(name, errors.New("BaseURL must be a complete http or https URL"))
	}
	if target.Path == "" {
		target.Path = "/" // without it JoinPath makes a relative path
	}
	target = target.JoinPath(path)

	status, header, answer, err := c.exchange(ctx, target, body)
	if err != nil {
		return nil, &Error{Call: name, Code: CodeOutcomeUnknown, Message: "there is no usable answer", HTTPStatus: status, Err: err}
	}
	var envelope struct {
		Error        *Code          `json:"error"`
		ErrMessage   string         `json:"errMessage"`
		Data         jsontext.Value `json:"data"` // read once it is known to be T: failures may put anything here
		ErrorMessage string         `json:"errorMessage"`
		Developer    string         `json:"apiMessageForDevelopers"`
	}
	unusable := func(reason error) error {
		return &Error{Call: name, Code: CodeOutcomeUnknown, Message: "there is no usable answer", HTTPStatus: status, RetryAfter: retryAfter(header), Err: reason}
	}
	if err := json.Unmarshal(answer, &envelope); err != nil || envelope.Error == nil {
		return nil, unusable(fmt.Errorf("the answer, HTTP %d with %d bytes, is not the interface's JSON: check BaseURL", status, len(answer)))
	}
	if *envelope.Error != CodeOK {
		return nil, &Error{
			Call: name, Code: *envelope.Error, Message: cmp.Or(envelope.ErrMessage, envelope.ErrorMessage),
			Developer: envelope.Developer, HTTPStatus: status, RetryAfter: retryAfter(header),
		}
	}
	if status != http.StatusOK {
		return nil, unusable(fmt.Errorf("the answer says error 0 under HTTP %d: check BaseURL", status))
	}
	if kind := envelope.Data.Kind(); kind != jsontext.KindBeginObject {
		return nil, unusable(errors.New("the answer says error 0 and has no data"))
	}
	data := new(T)
	if err := json.Unmarshal(envelope.Data, data); err != nil {
		return nil, unusable(fmt.Errorf("the answer's data has another shape: %w", err))
	}
	return data, nil
}

// exchange posts the body and reads the answer, whatever its status.
func (c *Client) exchange(ctx context.Context, target *url.URL, body []byte) (status int, header http.Header, answer []byte, err error) {
	client := http.Client{}
	if c.HTTP != nil {
		client = *c.HTTP
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if _, ok := ctx.Deadline(); !ok && client.Timeout == 0 {
		client.Timeout = defaultTimeout
	}
	if c.Trace != nil {
		began := time.Now()
		defer func() {
			c.Trace(Exchange{
				Method: http.MethodPost, Path: target.Path, Request: Mask(body), Answer: Mask(answer),
				Status: status, Duration: time.Since(began), Err: err,
			})
		}()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, nil, err
	}
	defer response.Body.Close()
	status = response.StatusCode
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes+1))
	if err != nil {
		return status, response.Header, nil, fmt.Errorf("the answer broke off: %w", err)
	}
	if len(answer) > maxAnswerBytes {
		return status, response.Header, nil, errors.New("the answer is larger than 1 MiB: check BaseURL")
	}
	return status, response.Header, answer, nil
}

// retryAfter reads the header's seconds; its other form, a date, is not one
// that the gateway sends.
func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.Atoi(header.Get("Retry-After"))
	if err != nil || seconds < 0 || seconds > 24*60*60 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
