package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"holdfast"
	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/web/text"
)

// failure is a call refused: the one error kind of the API.
type failure struct {
	code      holdfast.Code
	message   string         // errMessage; empty: the code's own
	developer string         // apiMessageForDevelopers; empty: what the code says to do next
	reason    payment.Reason // of a refusal by the core
}

func (f *failure) Error() string { return f.message }

func fail(code holdfast.Code, message string) error { return &failure{code: code, message: message} }

// bad is a call whose data is not as expected; it names the field.
func bad(field, expected string) error {
	message := expected
	if field != "" {
		message = field + ": " + expected
	}
	return &failure{code: holdfast.CodeDataFormat, message: message}
}

func badf(field, format string, args ...any) error { return bad(field, fmt.Sprintf(format, args...)) }

// codes is the table from our reasons to the wire's codes.
var codes = map[payment.Reason]holdfast.Code{
	payment.CardRefused:          holdfast.CodeCardRefused,
	payment.InsufficientFunds:    holdfast.CodeNoFunds,
	payment.CardExpired:          holdfast.CodeCardExpired,
	payment.CardBlocked:          holdfast.CodeCardBlocked,
	payment.CardUnknown:          holdfast.CodeCardNumber,
	payment.NoSMS:                holdfast.CodeNoSMSService,
	payment.WrongExpiry:          holdfast.CodeExpiry,
	payment.WrongCVC:             holdfast.CodeCVC,
	payment.CardLimit:            holdfast.CodeCardLimit,
	payment.Fraud:                holdfast.CodeFraud,
	payment.WrongCode:            holdfast.CodeWrongCode,
	payment.CodeExpired:          holdfast.CodeCodeExpired,
	payment.Unavailable:          holdfast.CodeUnavailable,
	payment.AuthenticationFailed: holdfast.CodeAuthentication,
	payment.HoldGone:             holdfast.CodeStatusFixed,
	payment.Misconfigured:        holdfast.CodeUnavailable,
	payment.Unsupported:          holdfast.CodeNotSupported,

	payment.InDoubt:            holdfast.CodeOutcomeUnknown,
	payment.Busy:               holdfast.CodeBusy,
	payment.UnderWay:           holdfast.CodeBusy,
	payment.AlreadyPaid:        holdfast.CodePaymentFinished,
	payment.AlreadyCaptured:    holdfast.CodeStatusFixed,
	payment.Finished:           holdfast.CodePaymentFinished,
	payment.PaymentExpired:     holdfast.CodePaymentExpired,
	payment.NotHeld:            holdfast.CodeStatusFixed,
	payment.DecisionStands:     holdfast.CodeStatusFixed,
	payment.DeadlinePassed:     holdfast.CodeStatusFixed,
	payment.AmountAboveHold:    holdfast.CodeAmountRange,
	payment.AttemptsUsedUp:     holdfast.CodeAttemptsUsedUp,
	payment.TooManyWrongCodes:  holdfast.CodeAttemptsUsedUp,
	payment.TooManyCodes:       holdfast.CodeResendsUsedUp,
	payment.ResendsUsedUp:      holdfast.CodeResendsUsedUp,
	payment.MethodNotAllowed:   holdfast.CodePaymentMethod,
	payment.CurrencyNotAllowed: holdfast.CodeCurrency,
	payment.NotLive:            holdfast.CodeNotLive,
	payment.NoChallenge:        holdfast.CodeCodeExpired,
	payment.NotCaptured:        holdfast.CodeStatusFixed,
	payment.NothingToRefund:    holdfast.CodeNothingToRefund,
	payment.RefundAmount:       holdfast.CodeRefundAmount,
}

// refusal is the failure for a reason. detail, which may be empty, is for the developer.
func refusal(r payment.Reason, detail string) *failure {
	code, ok := codes[r]
	if !ok {
		code = holdfast.CodeCardRefused
	}
	f := &failure{code: code, reason: r}
	if detail != "" {
		f.message = code.Info().Message + ": " + detail
	}
	switch r {
	case payment.TooManyCodes:
		f.message = code.Info().Message + ": too many codes were sent for this card within an hour; use another card, or this one in two hours"
	case payment.WrongCode:
		// The same for a wrong code, a wrong verification and a payment that is not there, which has no language
		// (contract §4): so it is in all of them.
		f.message = text.InAll("code.wrong")
	}
	return f
}

// notDone is the failure of a call that nothing was done about, because of another operation on its payment. Where the
// outcome of that one is unknown, this one's is not: who was told so would wait for it in vain.
func notDone(what string, because *payment.Error, p *payment.Payment) *failure {
	why := "another operation on this payment is under way"
	switch {
	case p.Open != nil && p.Open.Outcome == payment.ChallengeGiven:
		why = "the payer is at his bank"
	case because.Reason == payment.InDoubt:
		why = "what became of an earlier operation on this payment is not known yet"
	}
	return &failure{code: holdfast.CodeBusy, message: what + ": " + why}
}

// documented are the codes whose words existing clients know.
const documented = holdfast.Code(100)

// toPayer puts a refusal into the payer's language, because shops show the errMessage of pay, check_sms_key
// and check_pan on card pages of their own (contract §8). What it is in English goes before the developer's hint.
func toPayer(language string, err error) error {
	var f *failure
	var refused *payment.Error
	switch {
	case errors.As(err, &f):
	case errors.As(err, &refused):
		f = refusal(refused.Reason, refused.Detail)
	}
	if f == nil || f.reason == "" || f.reason == payment.WrongCode || f.code < documented {
		return err
	}
	info := f.code.Info()
	english := cmp.Or(f.message, info.Message)
	return &failure{code: f.code, message: text.For(language).Reason(f.reason), developer: english + ". " + sentence(info.Next)}
}

// guessed reports that a call named a payment, a code's id or a card that there is not. A code that the
// centre found wrong is none of them: its tries are counted with the payment.
func guessed(err error) bool {
	var refused *payment.Error
	return errors.Is(err, store.ErrNotFound) || errors.As(err, &refused) && (refused.Reason == payment.WrongCode || refused.Reason == payment.CardUnknown)
}

// failure turns whatever went wrong into what is answered.
func (a *API) failure(err error) (httpStatus int, _ holdfast.Failure) {
	var f *failure
	var refused *payment.Error
	switch {
	case errors.As(err, &f):
	case errors.As(err, &refused):
		f = refusal(refused.Reason, refused.Detail)
	case errors.Is(err, store.ErrNotFound):
		f = &failure{code: holdfast.CodeNotFound}
	case errors.Is(err, store.ErrClosed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		info := holdfast.CodeStarting.Info()
		return http.StatusServiceUnavailable, holdfast.Fail(info.Code, info.Message, sentence(info.Next))
	default:
		a.cfg.Log.LogAttrs(context.Background(), slog.LevelError, "a call failed by us", slog.Any("error", err))
		info := holdfast.CodeInternal.Info()
		return http.StatusInternalServerError, holdfast.Fail(info.Code, info.Message, sentence(info.Next))
	}
	info := f.code.Info()
	message, developer := f.message, f.developer
	if message == "" {
		message = info.Message
	}
	if developer == "" && f.code != holdfast.CodeWrongSecret {
		developer = sentence(info.Next)
	}
	return http.StatusOK, holdfast.Fail(f.code, message, developer)
}

// sentence makes one of the table's half sentences whole.
func sentence(next string) string {
	return string(next[0]-'a'+'A') + next[1:] + "."
}
