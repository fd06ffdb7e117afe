package demo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast"
)

// The merchant's side. In a real shop it is behind a login; here whoever knows a payment's name may decide about it.

type desk struct {
	P        *payment
	State    holdfast.PaymentState
	Doubt    bool
	Open     bool
	Received holdfast.Decimal
	Refunded int64 // minor units
	HoldTime string
	RefundID string // made with the form, so that a form sent twice asks for one refund
	Log      []exchange
	Version  int
	Amount   string // as it was typed, if the form comes back
}

func (s *Shop) pagePayment(w http.ResponseWriter, r *http.Request, p *payment) {
	problem := ""
	if err := s.status(r.Context(), p); err != nil {
		problem = err.Error()
	}
	s.drawDesk(w, r, p, http.StatusOK, "", problem)
}

// deskPage shows the payment after a call that failed or succeeded, with its state as it is now.
func (s *Shop) deskPage(w http.ResponseWriter, r *http.Request, p *payment, status int, notice, problem string) {
	if state, _ := p.known(); state.Status != "" {
		s.status(r.Context(), p) // if it fails, the page shows what was known before, and the log why
	}
	s.drawDesk(w, r, p, status, notice, problem)
}

func (s *Shop) drawDesk(w http.ResponseWriter, r *http.Request, p *payment, status int, notice, problem string) {
	view := desk{P: p, HoldTime: spoken(holdTime), RefundID: p.ID + "-" + rand.Text()[:8], Amount: r.PostForm.Get("amount")}
	p.mu.Lock()
	view.State, view.Doubt, view.Received, view.Version = p.state, p.doubt, p.received, p.version
	p.mu.Unlock()
	view.Open = open(view.State.Status)
	view.Refunded, _ = view.State.RefundedSum.Minor() // one that cannot be read is not shown here; the log has it
	view.Log = p.exchanges()
	s.show(w, status, "payment", page{Tab: "payments", Title: "Payment " + p.ID, Notice: notice, Problem: sentence(problem), Content: view})
}

// version lets the page's script see that something new was said, without asking the gateway.
func (s *Shop) version(w http.ResponseWriter, r *http.Request, p *payment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprint(w, p.version)
}

// capture confirms all that is held, or a part of it if the form names a sum (the seed's step 18).
func (s *Shop) capture(w http.ResponseWriter, r *http.Request, p *payment) {
	request := holdfast.AcceptRequest{AcceptStatus: holdfast.AcceptCapture}
	if r.PostForm.Get("how") == "part" {
		amount, err := typedSum(r.PostForm.Get("amount"))
		if err != nil {
			s.deskPage(w, r, p, http.StatusUnprocessableEntity, "", err.Error())
			return
		}
		request.FinalAmount = amount
	}
	s.accept(w, r, p, request)
}

func (s *Shop) cancel(w http.ResponseWriter, r *http.Request, p *payment) {
	s.accept(w, r, p, holdfast.AcceptRequest{AcceptStatus: holdfast.AcceptCancel})
}

func (s *Shop) accept(w http.ResponseWriter, r *http.Request, p *payment, request holdfast.AcceptRequest) {
	state, _ := p.known()
	request.PaymentUUID = state.PaymentUUID
	after, err := s.caller(p, "set_accept").Accept(r.Context(), request)
	if err != nil {
		s.deskPage(w, r, p, http.StatusUnprocessableEntity, "", err.Error())
		return
	}
	p.learn(*after)
	http.Redirect(w, r, "/payments/"+p.ID, http.StatusSeeOther)
}

func (s *Shop) refund(w http.ResponseWriter, r *http.Request, p *payment) {
	amount, err := typedSum(r.PostForm.Get("amount"))
	if err != nil {
		s.deskPage(w, r, p, http.StatusUnprocessableEntity, "", err.Error())
		return
	}
	state, _ := p.known()
	refund, err := s.caller(p, "refund").Refund(r.Context(), holdfast.RefundRequest{
		ShopRefundID: holdfast.Text(r.PostForm.Get("refund")), PaymentUUID: state.PaymentUUID, Amount: amount,
	})
	if err != nil {
		s.deskPage(w, r, p, http.StatusUnprocessableEntity, "", err.Error())
		return
	}
	s.deskPage(w, r, p, http.StatusOK, "The refund is "+refund.Status+".", "")
}

// typedSum reads a sum as people type it: 12 500, 12500.50 or 12 500,50.
func typedSum(text string) (holdfast.Decimal, error) {
	text = strings.NewReplacer(" ", "", "\u00a0", "", "\u202f", "", ",", ".").Replace(strings.TrimSpace(text))
	minor, err := holdfast.Decimal(text).Minor()
	if err != nil {
		return "", err
	}
	if minor <= 0 {
		return "", fmt.Errorf("the sum must be above 0: write it in sums, such as 12500.00")
	}
	return holdfast.DecimalOf(minor), nil
}

// ---- all payments -----------------------------------------------------------

const listed = 100 // payments on the page that lists them

type listedPayment struct {
	P     *payment
	State holdfast.PaymentState
	Doubt bool
}

func (s *Shop) pagePayments(w http.ResponseWriter, r *http.Request) {
	var content struct {
		Payments []listedPayment
		Refused  []refusal
	}
	for _, p := range s.newest(listed) {
		state, doubt := p.known()
		content.Payments = append(content.Payments, listedPayment{p, state, doubt})
	}
	s.mu.Lock()
	content.Refused = append(content.Refused, s.refused...)
	s.mu.Unlock()
	s.show(w, http.StatusOK, "payments", page{Tab: "payments", Title: "Payments", Content: content})
}

// ---- notifications ----------------------------------------------------------

// refusal is a notification that could not be proved to be the gateway's. Nothing of its body is kept: anybody may send one.
type refusal struct {
	At     time.Time
	From   string
	Status int
}

// notifyHandler is the shop's notify_url. holdfast.NotificationHandler does all that a merchant needs; the rest is for the log.
func (s *Shop) notifyHandler() http.Handler {
	verified := holdfast.NotificationHandler(string(s.cfg.UniqueKey), s.decide)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorded(verified, func(x exchange) {
			if x.Status != http.StatusOK {
				s.refuse(refusal{x.Began, r.RemoteAddr, x.Status})
				return
			}
			var said struct {
				ShopTransactionID string `json:"shop_transaction_id"`
			}
			if json.Unmarshal(x.Request, &said) != nil {
				return // cannot be: it was verified
			}
			if p := s.find(said.ShopTransactionID); p != nil {
				p.note(x)
			}
		}).ServeHTTP(w, r)
	})
}

func (s *Shop) refuse(f refusal) {
	s.log.Warn("notification refused", "from", f.From, "status", f.Status)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.refused) >= keptRefused {
		s.refused = s.refused[1:]
	}
	s.refused = append(s.refused, f)
}

// decide answers a notification that is the gateway's. It decides about held money only as the buyer's form said, and does
// not take the state from it: that is asked for.
func (s *Shop) decide(_ context.Context, n holdfast.Notification) (holdfast.NotificationAnswer, error) {
	p := s.find(n.ShopTransactionID)
	if p == nil {
		return holdfast.NotificationAnswer{}, nil // forgotten; a hold among these is given back at its deadline
	}
	if n.TransferSum != "" {
		p.mu.Lock()
		p.received = n.TransferSum
		p.mu.Unlock()
	}
	if n.Status != holdfast.StatusWaitingForCapture {
		return holdfast.NotificationAnswer{}, nil
	}
	switch p.Choice.Answer {
	case answerCapture:
		return holdfast.NotificationAnswer{AcceptStatus: holdfast.AcceptCapture}, nil
	case answerCancel:
		return holdfast.NotificationAnswer{AcceptStatus: holdfast.AcceptCancel}, nil
	case answerWait:
		return holdfast.NotificationAnswer{AcceptStatus: holdfast.AcceptWait}, nil
	}
	return holdfast.NotificationAnswer{}, nil
}

// ---- words ------------------------------------------------------------------

// sums writes minor units in major ones, in groups of three: 25000050 is "250 000.50". The spaces do not break a line.
func sums(minor int64) string {
	text, fraction, _ := strings.Cut(strings.TrimPrefix(string(holdfast.DecimalOf(minor)), "-"), ".")
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + glue + text[i:]
	}
	if minor < 0 {
		text = "-" + text
	}
	return text + "." + fraction
}

// pageSum is sums with narrow spaces.
func pageSum(minor int64) string { return strings.ReplaceAll(sums(minor), glue, "\u202f") }

func pageDecimal(d holdfast.Decimal) string {
	minor, err := d.Minor()
	if err != nil {
		return string(d)
	}
	return pageSum(minor)
}

// maskedCard shows the first six and the last four digits.
func maskedCard(pan string) string {
	if len(pan) < 12 {
		return strings.Repeat("•", len(pan))
	}
	return pan[:4] + glue + pan[4:6] + "••" + glue + "••••" + glue + pan[len(pan)-4:]
}

func methodName(method string) string {
	switch method {
	case holdfast.MethodUzcard:
		return "Uzcard"
	case holdfast.MethodHumo:
		return "Humo"
	case holdfast.MethodBankCard:
		return "Visa or Mastercard"
	}
	return method
}

// spoken writes a time as people say it.
func spoken(d time.Duration) string {
	count, unit := int64(d/time.Second), "second"
	if d >= 2*time.Minute && d%time.Minute == 0 {
		count, unit = int64(d/time.Minute), "minute"
	}
	if count == 1 {
		return "1 " + unit
	}
	return strconv.FormatInt(count, 10) + " " + unit + "s"
}

// millis writes how long something took, to a tenth of a millisecond.
func millis(d time.Duration) string {
	tenths := d.Microseconds() / 100
	return fmt.Sprintf("%d.%d ms", tenths/10, tenths%10)
}
