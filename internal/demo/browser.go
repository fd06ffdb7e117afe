package demo

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"

	"holdfast"
)

// The payer's browser of the walk: it opens addresses and sends the forms of the page it is on, as the scripts of the pages
// would. It knows nothing of the gateway but the address that the shop sends it to.

func newBrowser() *http.Client {
	jar, _ := cookiejar.New(nil) // without options it cannot fail
	return &http.Client{Timeout: 20 * time.Second, Jar: jar}
}

// screen is what the browser shows.
type screen struct {
	at   *url.URL
	text string
}

// form is a form of a page.
type form struct {
	action *url.URL
	fields url.Values
}

const maxPage = 1 << 20

var (
	formTag  = regexp.MustCompile(`(?s)<form\b([^>]*)>(.*?)</form>`)
	inputTag = regexp.MustCompile(`<input\b[^>]*>`)
	titleTag = regexp.MustCompile(`(?s)<title>(.*?)</title>`)
)

// attribute is an attribute of a tag, "" if it has none of the name.
func attribute(tag, name string) string {
	_, rest, ok := strings.Cut(tag, " "+name+`="`)
	value, _, closed := strings.Cut(rest, `"`)
	if !ok || !closed {
		return ""
	}
	return html.UnescapeString(value)
}

// title is the page's name, for the story.
func (p screen) title() string {
	if m := titleTag.FindStringSubmatch(p.text); m != nil {
		return strings.TrimSpace(html.UnescapeString(m[1]))
	}
	return "a page without a title"
}

// place is where the page is, without what may be long or nobody's business.
func place(u *url.URL) string { return u.Scheme + "://" + u.Host + u.Path }

// form is the page's form that has a field.
func (p screen) form(field string) (f form, ok bool) {
	for _, m := range formTag.FindAllStringSubmatch(p.text, -1) {
		f = form{action: p.at, fields: url.Values{}}
		if to, err := p.at.Parse(attribute(m[1], "action")); err == nil {
			f.action = to
		}
		for _, tag := range inputTag.FindAllString(m[2], -1) {
			if name := attribute(tag, "name"); name != "" {
				f.fields.Set(name, attribute(tag, "value"))
			}
		}
		if f.fields.Has(field) {
			return f, true
		}
	}
	return form{}, false
}

// visit opens an address.
func (w *walker) visit(ctx context.Context, address string) (screen, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return screen{}, err
	}
	return w.show(request)
}

// send sends a form of a page. Like every browser it says where the form was.
func (w *walker) send(ctx context.Context, from screen, f form) (screen, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.action.String(), strings.NewReader(f.fields.Encode()))
	if err != nil {
		return screen{}, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", from.at.Scheme+"://"+from.at.Host)
	return w.show(request)
}

func (w *walker) show(request *http.Request) (p screen, err error) {
	request.Header.Set("Accept", "text/html")
	response, err := w.browser.Do(request)
	if err != nil {
		return p, fmt.Errorf("the payer's browser gets no answer: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxPage))
	if err != nil {
		return p, fmt.Errorf("a page for the payer broke off: %w", err)
	}
	p = screen{response.Request.URL, string(text)}
	if response.StatusCode != http.StatusOK {
		return p, fmt.Errorf("the payer's browser is at %s: expected HTTP 200, got %d (%s)", place(p.at), response.StatusCode, p.title())
	}
	return p, nil
}

// ---- the steps of 3-D Secure ------------------------------------------------

func (s *scene) orderOpened() error {
	s.tell.say("It did so inside the call above, after it had written the question down. The bank wants to see the buyer first, so nothing is %s yet.",
		either(s.flow.OneStage, "taken", "held"))
	now, done, err := s.books()
	if err != nil {
		return err
	}
	return first(
		s.expect("operations with the card in the centre's books", len(done), 0),
		s.expect("what is held on the card in the centre's books, minor units", now.Held, s.before.Held),
	)
}

func (s *scene) hasForm() error {
	s.tell.say("Visa and Mastercard call it 3-D Secure: the code is entered on the page of the buyer's bank, where neither the shop nor the gateway sees it.")
	return s.expect("pay's answer has a redirectUrl", s.entity.RedirectURL != "", true)
}

func (s *scene) formTold() error {
	s.tell.say("redirectUrl is %s; it leads on to the bank. The payment's number is %d, and the shop's server is told that the buyer has something to do:",
		s.entity.RedirectURL, s.entity.ID)
	if err := s.expect("redirectUrl ends with /3ds/ and the payment's UUID", strings.HasSuffix(s.entity.RedirectURL, "/3ds/"+s.state.PaymentUUID), true); err != nil {
		return err
	}
	_, err := s.notified(holdfast.StatusWaitUserAction)
	return err
}

// seesForm follows the redirectUrl to the bank's form: the forms on the way are sent by scripts, without the payer's doing.
func (s *scene) seesForm() (err error) {
	if s.screen, err = s.visit(s.ctx, s.entity.RedirectURL); err != nil {
		return err
	}
	s.tell.say("The buyer's browser opens %s: “%s”.", place(s.screen.at), s.screen.title())
	return s.until(messageWithin, "the bank's form for the code", func() (bool, error) {
		if _, ok := s.screen.form("code"); ok {
			s.tell.say("It is at %s now: “%s”.", place(s.screen.at), s.screen.title())
			return true, nil
		}
		if look, ok := s.screen.form("threeDSMethodData"); ok {
			own, ok := s.screen.form("step")
			if !ok {
				return false, errors.New("the page on which the bank looks at the browser has no form of its own to go on with")
			}
			s.tell.say("In a hidden frame the bank looks at the browser (%s), and then the page goes on.", place(look.action))
			if _, err := s.send(s.ctx, s.screen, look); err != nil {
				return false, err
			}
			s.screen, err = s.send(s.ctx, s.screen, own)
			return false, err
		}
		if ask, ok := s.screen.form("creq"); ok {
			s.tell.say("The page sends the browser on to the bank (%s).", place(ask.action))
			s.screen, err = s.send(s.ctx, s.screen, ask)
			return false, err
		}
		s.screen, err = s.visit(s.ctx, s.entity.RedirectURL) // still under way
		return false, err
	})
}

func (s *scene) sendsCode() (err error) {
	f, ok := s.screen.form("code")
	if !ok {
		return errors.New("the bank's page has no form for the code")
	}
	s.tell.say("The buyer types %s into the form of the bank.", s.code)
	f.fields.Set("code", string(s.code))
	f.fields.Set("do", "submit")
	if s.screen, err = s.send(s.ctx, s.screen, f); err != nil {
		return err
	}
	_, ok = s.screen.form("cres")
	return s.expect("the bank sends the browser back with its answer", ok, true)
}

// comesBack is the moment at which the bank's answer reaches the gateway.
func (s *scene) comesBack() (err error) {
	f, ok := s.screen.form("cres")
	if !ok {
		return errors.New("the bank's page has no form that leads back")
	}
	if s.screen, err = s.send(s.ctx, s.screen, f); err != nil {
		return err
	}
	s.tell.say("The browser brings it to %s and is shown “%s” at %s. The gateway takes neither the browser's word nor a callback's for it: it asks the centre.",
		place(f.action), s.screen.title(), place(s.screen.at))
	if err := s.expect("where the browser is", s.screen.at.Path, "/status/"+s.state.PaymentUUID); err != nil {
		return err
	}
	s.quiet = true
	state := s.state
	err = s.until(messageWithin, "the outcome of 3-D Secure", func() (bool, error) {
		state, err = s.client.Status(s.ctx, s.id)
		return err == nil && state.Status != holdfast.StatusWaitUserAction, err
	})
	s.quiet = false
	if err != nil {
		return err
	}
	s.heldAt, s.paidAt = time.Now(), s.step
	if err := s.expect("status", state.Status, either(s.flow.OneStage, holdfast.StatusSucceeded, holdfast.StatusWaitingForCapture)); err != nil {
		return err
	}
	if s.flow.OneStage {
		return s.chargeConfirmed()
	}
	return s.holdConfirmed()
}

// ---- the steps of a refund --------------------------------------------------

func (s *scene) refundsPart() error { return s.refunds("bowl", refundSum) }

func (s *scene) refundsRest() error { return s.refunds("all", s.flow.Capture-s.refunded) }

// refunds gives a sum back under a name of the shop's.
func (s *scene) refunds(name string, sum int64) (err error) {
	s.refund = s.refundOf(name, sum)
	if s.answered, err = s.client.Refund(s.ctx, s.refund); err != nil {
		return err
	}
	s.refunded += sum
	return first(
		s.expect("status of the refund", s.answered.Status, holdfast.StatusSucceeded),
		s.expect("octo_payment_UUID", s.answered.PaymentUUID, s.state.PaymentUUID),
		s.expect("the refund has an id", s.answered.RefundID != "", true),
	)
}

func (s *scene) refundOf(name string, sum int64) holdfast.RefundRequest {
	return holdfast.RefundRequest{
		ShopRefundID: holdfast.Text(s.id + "-" + name), PaymentUUID: s.state.PaymentUUID, Amount: holdfast.DecimalOf(sum),
	}
}

func (s *scene) refundConfirmed() error {
	sum, err := s.refund.Amount.Minor()
	if err != nil {
		return err
	}
	return s.bank(s.flow.Capture-s.refunded, 0, simOperation{Kind: "refund", Amount: sum, State: "done"})
}

func (s *scene) refundTold() error {
	n, err := s.notified(holdfast.StatusSucceeded)
	if err != nil {
		return err
	}
	return s.sum("refunded_sum in the notification", n.RefundedSum, s.refunded)
}

func (s *scene) refundsAgain() error {
	again, err := s.client.Refund(s.ctx, s.refund)
	if err != nil {
		return err
	}
	if err := s.expect("the answer to the same refund", *again, *s.answered); err != nil {
		return err
	}
	return s.refundConfirmed() // the last operation in the books is still the same
}

func (s *scene) refundsTooMuch() error {
	_, err := s.client.Refund(s.ctx, s.refundOf("more", s.flow.Capture-s.refunded+1))
	return s.refused(err, holdfast.CodeRefundAmount, "")
}

func (s *scene) refundsPartInVain() error {
	_, err := s.client.Refund(s.ctx, s.refundOf("bowl", refundSum))
	return s.refused(err, holdfast.CodeNotSupported, "whole payments only")
}

// refused expects a call to have failed with a code and words.
func (s *scene) refused(err error, code holdfast.Code, say string) error {
	var refused *holdfast.Error
	switch {
	case err == nil:
		return differ("error", "none: the call was accepted", code)
	case !errors.As(err, &refused):
		return err
	}
	return first(
		s.expect("error", refused.Code, code),
		s.expect("errMessage says why", strings.Contains(refused.Message, say), true),
	)
}
