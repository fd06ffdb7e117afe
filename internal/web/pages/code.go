package pages

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/payment"
)

const dayLong = 24 * time.Hour

// codeForm is the page for the code from the SMS.
type codeForm struct {
	frame
	sumView
	told
	Sent, Action  string
	VerifyID      int64
	Alive         bool   // the code can still be entered
	Over          string // why not
	Code          *field
	Tries         string
	Seconds       int
	Last          bool   // no other code can come: when this one is over, so is the payment
	AfterThat     string // what is said then
	GoodUntil     string
	Resend        bool
	ResendOpen    bool
	Resends       int
	ResendAction  string
	Masked        string
	Ranges, Month string
	PAN, Expiry   *field
	OtherHref     string // where another card is tried; empty where none can be
	ReturnHref    string // the way back to the shop, in its place
}

// codePage asks for the code.
func (s *site) codePage(v *visit) {
	if place := next(&v.p, v.now); place != v.r.URL.Path {
		s.elsewhere(v)
		return
	}
	s.draw(v.w, 200, "code", s.codeView(v))
}

func (s *site) codeView(v *visit) *codeForm {
	attempt := v.p.Attempt
	challenge := attempt.Challenge
	card := masked(attempt.Card)
	found := v.problems()
	methods := []payment.Method{attempt.Method}
	view := &codeForm{
		frame: newFrame(v.t, v.r, v.t.Get("code.title")+" · "+v.shop.Name, "two"), sumView: v.sum(),
		Sent: v.t.Get("code.sent", "phone", strings.ReplaceAll(challenge.Phone, " ", unbroken), "card", card), Action: v.href(v.r.URL.Path), VerifyID: challenge.VerifyID,
		Resends: payment.MaxResends - challenge.Resends, ResendAction: v.to("resend"), Masked: card, Ranges: s.rangesJSON(v.cards), Month: month(v),
		PAN: v.panField(found, methods, methodNames(v.t, methods)), Expiry: v.expiryField(found),
	}
	if v.p.Attempts < payment.MaxAttempts {
		view.OtherHref = v.to("pay")
	} else {
		view.ReturnHref = returnURL(&v.p)
	}
	view.Test = v.p.Terms.Test
	if challenge.Phone == "" {
		view.Sent = v.t.Get("code.sent.nophone", "card", card)
	}
	if found[otherCard] != "" {
		view.PAN.Problem = v.t.Get("field."+otherCard, "card", card)
	}
	view.Resend = view.Resends > 0
	if r := v.refusal(); r != "" {
		view.RefusedTitle, view.Refused = v.t.Get("code.refused"), v.t.Reason(r)
		if r == payment.AttemptsUsedUp { // of cards: with this one he can still pay
			view.Refused = v.t.Get("code.last")
		}
	}
	if v.r.URL.Query().Has("sent") && view.Refused == "" {
		view.Notice = v.t.Get("resend.sent")
	}
	tries := payment.MaxWrongCodes - max(challenge.Tries, v.p.WrongCodes)
	left := challenge.ExpiresAt.Sub(v.now)
	expired, none := v.t.Get("code.expired"), v.t.Get("code.none")
	if !view.Resend { // both say to have a new one sent
		expired, none = v.t.Get("code.over"), v.t.Get("code.over")
	}
	switch {
	case left <= 0:
		view.Over = expired
	case tries <= 0:
		view.Over = none
	default:
		view.Alive = true
		view.Seconds = int((left + time.Second - 1) / time.Second)
		view.GoodUntil = v.t.Hour(challenge.ExpiresAt)
		view.AfterThat = expired
		if view.Last = !challenge.ExpiresAt.Before(v.p.Terms.ExpiresAt); view.Last {
			view.AfterThat = v.t.Reason(payment.PaymentExpired)
		}
		view.Code = &field{
			ID: "code", Type: "text", Mode: "numeric", Autocomplete: "one-time-code", Capitals: "off", Longest: 4 * payment.LongestOTP, Required: true,
			Label: v.t.Get("code.label"), Hint: v.t.Count("code.tries", tries), Problem: found[codeWrong], Words: map[string]string{"wrong": v.t.Get("field.code")},
		}
	}
	view.ResendOpen = !view.Alive || view.PAN.Problem+view.Expiry.Problem != ""
	// A refusal of a code that is over says nothing that the page does not say already.
	if !view.Alive && view.Refused == v.t.Reason(payment.CodeExpired) {
		view.Refused = ""
	}
	focusFirst(view.Code, view.PAN, view.Expiry)
	if view.Code != nil && !view.ResendOpen {
		view.Code.Focus = true
	}
	return view
}

// takeCode hands in the code.
func (s *site) takeCode(v *visit) {
	if !s.readForm(v) {
		return
	}
	if v.p.State != payment.Challenged || lapsed(&v.p, v.now) {
		s.elsewhere(v)
		return
	}
	code, ok := readCode(v.r.PostForm.Get("code"))
	if !ok {
		v.redirect(v.href(next(&v.p, v.now), "problem", codeWrong))
		return
	}
	verify, _ := strconv.ParseInt(v.r.PostForm.Get("verify"), 10, 64) // what is no number is refused as a wrong one
	p, err := s.cfg.Gateway.SubmitCode(v.r.Context(), v.p.ID, verify, code)
	var refused *payment.Error
	if errors.As(err, &refused) && refused.Reason == payment.AttemptsUsedUp {
		s.goOn(v) // of this one code: the page says so itself
		return
	}
	s.after(v, p, err)
}

// resend has a further code sent. The centre wants the card for it, and so the payer is asked for it
// again: it is kept nowhere.
func (s *site) resend(v *visit) {
	if !s.readForm(v) {
		return
	}
	if v.p.State != payment.Challenged || lapsed(&v.p, v.now) {
		s.elsewhere(v)
		return
	}
	card, _, found := readCard(v.r.PostForm, v.cards.CardTable, []payment.Method{v.p.Attempt.Method}, v.now)
	switch {
	case len(found) > 0 && found[0] == cvcWrong: // not needed for a further code
		found = nil
	case len(found) == 0 && !card.Facts(v.cards.CardTable).Same(v.p.Attempt.Card):
		found = []string{otherCard}
	}
	if len(found) > 0 {
		v.redirect(v.href(next(&v.p, v.now), problemPairs(found)...))
		return
	}
	p, err := s.cfg.Gateway.Resend(v.r.Context(), v.p.ID, card)
	s.after(v, p, err, "sent", "1")
}
