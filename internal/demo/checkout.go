package demo

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast"
)

// thing is what the shop sells.
type thing struct {
	Key, Name, About string
	Price            int64 // minor units (tiyin)
}

var things = []thing{
	{"teapot", "Teapot from Rishtan", "Blue glaze, 1.2 litres, with six bowls", 185_000_00},
	{"scarf", "Ikat scarf from Margilan", "Silk, woven by hand, 180 by 60 cm", 420_000_00},
	{"tea", "Green tea No. 95", "A caddy of 250 grams", 48_000_00},
	{"halva", "Walnut halva", "A box of 500 grams, from Samarkand", 32_500_00},
}

const maxCount = 5 // of one thing

// page is what every page shows beside its own content.
type page struct {
	Tab     string // shop or payments
	Title   string
	Sim     string // base URL of the simulator, for links
	Refresh int    // seconds after which the browser looks again; 0 is never
	Notice  string
	Problem string
	Content any
}

//go:embed pages.html
var pagesHTML string

var pageTemplates = template.Must(template.New("").Funcs(template.FuncMap{
	"sum":     pageSum,
	"decimal": pageDecimal,
	"moment":  func(t time.Time) string { return t.In(holdfast.Tashkent).Format("15:04:05.000") },
	"day":     func(t time.Time) string { return t.In(holdfast.Tashkent).Format("2 Jan 15:04:05") },
	"millis":  millis,
	"pretty":  pretty,
	"masked":  maskedCard,
	"plain":   strings.NewReplacer("_", " ").Replace,
	"method":  methodName,
	"counts":  func() []int64 { return []int64{0, 1, 2, 3, 4, 5} },
}).Parse(pagesHTML))

// show draws a page. Nothing from elsewhere runs or is loaded in it; form-action is left open, because forms lead on to
// the gateway's page and to the bank's, whose addresses are not the shop's to know.
func (s *Shop) show(w http.ResponseWriter, status int, name string, p page) {
	p.Sim = s.cfg.Sim
	var b bytes.Buffer
	if err := pageTemplates.ExecuteTemplate(&b, name, p); err != nil {
		s.log.Error("cannot draw a page", "page", name, "error", err)
		http.Error(w, "the page cannot be drawn", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

// sorry is the page for what cannot be shown.
func (s *Shop) sorry(w http.ResponseWriter, status int, title, text string) {
	s.show(w, status, "sorry", page{Tab: "shop", Title: title, Content: text})
}

// ---- the catalogue ----------------------------------------------------------

type catalogue struct {
	Things    []thing
	Counts    map[string]int64
	Choice    choice
	HoldTime  string
	Languages []language
}

type language struct{ Code, Name string }

var languages = []language{{"en", "English"}, {"uz", "Oʻzbekcha"}, {"ru", "Русский"}}

func (s *Shop) pageCatalogue(w http.ResponseWriter, r *http.Request) {
	s.catalogue(w, http.StatusOK, choice{
		TwoStage: true, Method: holdfast.MethodUzcard, OwnPage: true, Language: "en", Answer: answerWait,
		Lines: []line{{things[0], 1}, {things[2], 1}},
	}, "")
}

func (s *Shop) catalogue(w http.ResponseWriter, status int, c choice, problem string) {
	counts := make(map[string]int64)
	for _, l := range c.Lines {
		counts[l.Thing.Key] = l.Count
	}
	s.show(w, status, "catalogue", page{Tab: "shop", Title: "What would you like?", Problem: problem, Content: catalogue{
		Things: things, Counts: counts, Choice: c, HoldTime: spoken(holdTime), Languages: languages,
	}})
}

// readChoice reads the catalogue's form.
func readChoice(form url.Values) (c choice, err error) {
	oneOf := func(field string, values ...string) string {
		value := form.Get(field)
		if !slices.Contains(values, value) {
			err = errors.Join(err, fmt.Errorf("choose %s", field))
			return values[0]
		}
		return value
	}
	c.TwoStage = oneOf("stages", "two", "one") == "two"
	c.Method = oneOf("method", holdfast.MethodUzcard, holdfast.MethodHumo, holdfast.MethodBankCard)
	c.OwnPage = oneOf("page", "shop", "gateway") == "shop"
	c.Language = oneOf("language", "en", "uz", "ru")
	c.Answer = oneOf("answer", answerWait, answerCapture, answerCancel, answerNothing)
	for _, t := range things {
		text := form.Get("count-" + t.Key)
		if text == "" {
			continue
		}
		count, notNumber := strconv.ParseInt(text, 10, 64)
		if notNumber != nil || count < 0 || count > maxCount {
			err = errors.Join(err, fmt.Errorf("choose 0 to %d of %s", maxCount, t.Name))
			continue
		}
		if count > 0 {
			l := line{t, count}
			c.Lines = append(c.Lines, l)
			c.Total += l.Sum()
		}
	}
	if c.Total == 0 {
		err = errors.Join(err, errors.New("the cart is empty: choose at least one thing"))
	}
	return c, err
}

// buy prepares the payment and sends the payer to where he pays (the seed's steps 2 to 5).
func (s *Shop) buy(w http.ResponseWriter, r *http.Request) {
	c, err := readChoice(r.PostForm)
	if err != nil {
		s.catalogue(w, http.StatusUnprocessableEntity, c, sentence(strings.ReplaceAll(err.Error(), "\n", "; ")))
		return
	}
	p := &payment{ID: newName(), Created: time.Now(), Choice: c}
	s.remember(p) // before the call, so that a notification finds it
	state, err := s.caller(p, "prepare_payment").Prepare(r.Context(), s.prepareRequest(p))
	if err != nil {
		s.deskPage(w, r, p, http.StatusBadGateway, "", err.Error())
		return
	}
	p.learn(*state)
	if c.OwnPage {
		http.Redirect(w, r, "/checkout/"+p.ID, http.StatusSeeOther)
		return
	}
	s.leadOn(w, r, p, state.PayURL)
}

func (s *Shop) prepareRequest(p *payment) holdfast.PrepareRequest {
	atOnce := !p.Choice.TwoStage
	request := holdfast.PrepareRequest{
		ShopTransactionID: holdfast.Text(p.ID), AutoCapture: &atOnce, Test: true, InitTime: holdfast.AnyText(holdfast.FormatTime(p.Created)),
		UserData: &holdfast.UserData{UserID: "guest", Phone: "998901234567", Email: "guest@example.uz"},
		TotalSum: holdfast.DecimalOf(p.Choice.Total), Currency: "UZS", Description: p.Choice.Title(),
		PaymentMethods: []holdfast.PaymentMethod{{Method: p.Choice.Method}}, Language: p.Choice.Language, TTL: 15,
		ReturnURL: s.cfg.PublicURL + "/return?id=" + p.ID, NotifyURL: s.cfg.PublicURL + "/notify",
	}
	for _, l := range p.Choice.Lines {
		request.Basket = append(request.Basket, holdfast.BasketItem{
			Position: l.Thing.Name, Count: holdfast.Integer(l.Count), Price: holdfast.DecimalOf(l.Thing.Price),
		})
	}
	return request
}

// Title is the cart in a few words.
func (c choice) Title() string {
	var parts []string
	for _, l := range c.Lines {
		text := l.Thing.Name
		if l.Count > 1 {
			text += fmt.Sprintf(" × %d", l.Count)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// leadOn sends the payer to a page of the gateway or of a bank.
func (s *Shop) leadOn(w http.ResponseWriter, r *http.Request, p *payment, target string) {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		s.deskPage(w, r, p, http.StatusBadGateway, "", "The gateway's answer has no complete address to send the payer to; see the exchange below.")
		return
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
}

// ---- the card ---------------------------------------------------------------

type cardForm struct {
	P       *payment
	Sim     string
	Cards   []simCard
	Chosen  int // of Cards; -1 is none
	Card    simCard
	SimDown string
}

// Expiry is the chosen card's, as it is printed on it: MM/YY.
func (f cardForm) Expiry() string {
	if len(f.Card.Exp) != 4 {
		return ""
	}
	return f.Card.Exp[2:] + "/" + f.Card.Exp[:2]
}

// testCards fetches the simulator's cards for a form, and which of them the payer chose.
func (s *Shop) testCards(ctx context.Context, p *payment, chosen string) (form cardForm) {
	form = cardForm{P: p, Sim: s.cfg.Sim, Chosen: -1}
	if s.cfg.Sim == "" {
		return form
	}
	ctx, cancel := context.WithTimeout(ctx, statusWithin)
	defer cancel()
	cards, err := s.sim.cards(ctx)
	if err != nil {
		form.SimDown = sentence(err.Error())
		return form
	}
	form.Cards = offer(cards, p.Choice.Method)
	if i, err := strconv.Atoi(chosen); err == nil && i >= 0 && i < len(form.Cards) {
		form.Chosen, form.Card = i, form.Cards[i]
	}
	return form
}

func (s *Shop) pageCard(w http.ResponseWriter, r *http.Request, p *payment) {
	if state, _ := p.known(); !open(state.Status) {
		s.goReturn(w, r, p)
		return
	}
	s.cardPage(w, r, p, http.StatusOK, r.FormValue("card"), "")
}

func (s *Shop) cardPage(w http.ResponseWriter, r *http.Request, p *payment, status int, chosen, problem string) {
	s.show(w, status, "card", page{Tab: "shop", Title: "Pay by card", Problem: problem, Content: s.testCards(r.Context(), p, chosen)})
}

// pay takes the card from the form and hands it to the gateway (the seed's steps 6 to 8). It is kept nowhere, and a form
// that is shown again comes back without it.
func (s *Shop) pay(w http.ResponseWriter, r *http.Request, p *payment) {
	state, _ := p.known()
	chosen := r.PostForm.Get("card")
	entity, err := s.caller(p, "pay").Pay(r.Context(), state.PaymentUUID, holdfast.PayRequest{
		PAN: cardNumber(r.PostForm), Exp: expiry(r.PostForm.Get("exp")), Method: p.Choice.Method,
		CVC2: holdfast.Secret(strings.TrimSpace(r.PostForm.Get("cvc"))), CardHolderName: strings.TrimSpace(r.PostForm.Get("holder")),
		Email: strings.TrimSpace(r.PostForm.Get("email")),
	})
	if err != nil {
		s.refusedCard(w, r, p, err, chosen)
		return
	}
	p.mu.Lock()
	p.number, p.doubt = entity.ID, false
	p.mu.Unlock()
	if p.Choice.Method != holdfast.MethodBankCard {
		http.Redirect(w, r, "/checkout/"+p.ID+"/code?card="+url.QueryEscape(chosen), http.StatusSeeOther)
		return
	}
	s.leadOn(w, r, p, entity.RedirectURL) // to the bank's 3-D Secure page; from there he comes back to /return
}

// refusedCard shows the payer what to do about a card that was not taken.
func (s *Shop) refusedCard(w http.ResponseWriter, r *http.Request, p *payment, err error, chosen string) {
	code, message := payerSees(err)
	if over(code) {
		s.afterDoubt(w, r, p, code)
		return
	}
	s.cardPage(w, r, p, http.StatusUnprocessableEntity, chosen, message)
}

// over reports that the payer's part is finished, well or badly, or that only the gateway knows: he goes to /return.
func over(code holdfast.Code) bool {
	switch code {
	case holdfast.CodeOutcomeUnknown, holdfast.CodeBusy, holdfast.CodePaymentFinished, holdfast.CodePaymentExpired,
		holdfast.CodeAttemptsUsedUp, holdfast.CodeInternal:
		return true
	}
	return false
}

func (s *Shop) afterDoubt(w http.ResponseWriter, r *http.Request, p *payment, code holdfast.Code) {
	if code == holdfast.CodeOutcomeUnknown || code == holdfast.CodeBusy || code == holdfast.CodeInternal {
		p.mu.Lock()
		p.doubt = true
		p.mu.Unlock()
	}
	s.goReturn(w, r, p)
}

func (s *Shop) goReturn(w http.ResponseWriter, r *http.Request, p *payment) {
	http.Redirect(w, r, "/return?id="+p.ID, http.StatusSeeOther)
}

// open reports that the payer still has to do something.
func open(status string) bool {
	return status == holdfast.StatusCreated || status == holdfast.StatusWaitUserAction
}

func cardNumber(form url.Values) holdfast.Secret {
	return holdfast.Secret(strings.NewReplacer(" ", "", "-", "", "\u00a0", "").Replace(form.Get("pan")))
}

// expiry turns MM/YY, as it is printed on a card, into the interface's YYMM. What is not four digits goes on as it is: the
// gateway says what is wrong with it.
func expiry(text string) string {
	digits := strings.NewReplacer("/", "", " ", "", "-", "", ".", "").Replace(text)
	if len(digits) != 4 {
		return digits
	}
	return digits[2:] + digits[:2]
}

// payerSees gives the code of a failed call and what the payer may be told.
func payerSees(err error) (holdfast.Code, string) {
	var failed *holdfast.Error
	if !errors.As(err, &failed) {
		return holdfast.CodeInternal, sentence(err.Error())
	}
	info := failed.Code.Info()
	message := failed.Message
	if message == "" {
		message = info.Message
	}
	return failed.Code, sentence(message)
}

// sentence makes a message one.
func sentence(text string) string {
	text = strings.TrimSpace(text)
	if text == "" {
		return text
	}
	if first := text[0]; first >= 'a' && first <= 'z' {
		text = string(first-'a'+'A') + text[1:]
	}
	if !strings.ContainsAny(text[len(text)-1:], ".!?") {
		text += "."
	}
	return text
}

// ---- the code ---------------------------------------------------------------

type codeForm struct {
	cardForm
	Info    holdfast.VerificationInfo
	Seconds int64
}

func (s *Shop) pageCode(w http.ResponseWriter, r *http.Request, p *payment) {
	if state, _ := p.known(); !open(state.Status) {
		s.goReturn(w, r, p)
		return
	}
	s.codePage(w, r, p, http.StatusOK, r.FormValue("card"), "", "")
}

// codePage asks where the code went and how long it is good (the seed's steps 9 and 10), and shows the form for it.
func (s *Shop) codePage(w http.ResponseWriter, r *http.Request, p *payment, status int, chosen, notice, problem string) {
	state, _ := p.known()
	info, err := s.caller(p, "verificationInfo").VerificationInfo(r.Context(), state.PaymentUUID)
	if err != nil {
		_, message := payerSees(err)
		s.cardPage(w, r, p, http.StatusBadGateway, chosen, strings.TrimSpace(problem+" "+message))
		return
	}
	form := codeForm{cardForm: s.testCards(r.Context(), p, chosen), Info: *info, Seconds: max(int64(info.SecondsLeft), 0)}
	s.show(w, status, "code", page{Tab: "shop", Title: "Enter the code", Notice: notice, Problem: problem, Content: form})
}

// enterCode hands the payer's code in (the seed's steps 12 and 13).
func (s *Shop) enterCode(w http.ResponseWriter, r *http.Request, p *payment) {
	chosen := r.PostForm.Get("card")
	verifyID, _ := strconv.ParseInt(r.PostForm.Get("verify"), 10, 64) // a number that is none is refused as a wrong one
	p.mu.Lock()
	number := p.number
	p.mu.Unlock()
	entity, err := s.caller(p, "check_sms_key").CheckSMSKey(r.Context(), holdfast.CheckSMSKeyRequest{
		SMSKey: holdfast.Secret(strings.TrimSpace(r.PostForm.Get("code"))), PaymentID: number, VerifyID: holdfast.Integer(verifyID),
	})
	if err == nil {
		p.mu.Lock()
		p.state.Status = entity.Status
		p.doubt = false
		p.mu.Unlock()
		s.goReturn(w, r, p)
		return
	}
	switch code, message := payerSees(err); {
	case over(code):
		s.afterDoubt(w, r, p, code)
	case code == holdfast.CodeWrongCode, code == holdfast.CodeCodeExpired, code == holdfast.CodeDataFormat, code == holdfast.CodeUnavailable:
		s.codePage(w, r, p, http.StatusUnprocessableEntity, chosen, "", message)
	default:
		// The bank looked at the card and said no; the payment is open for another one.
		s.cardPage(w, r, p, http.StatusUnprocessableEntity, chosen, message)
	}
}

// resend has a new code sent. The gateway wants the card again, and so the shop asks the payer for it: it has not kept it.
func (s *Shop) resend(w http.ResponseWriter, r *http.Request, p *payment) {
	chosen := r.PostForm.Get("card")
	p.mu.Lock()
	number := p.number
	p.mu.Unlock()
	_, err := s.caller(p, "check_pan").CheckPan(r.Context(), holdfast.CheckPanRequest{
		PAN: cardNumber(r.PostForm), ExpDate: expiry(r.PostForm.Get("exp")), PaymentID: number,
	})
	if err == nil {
		s.codePage(w, r, p, http.StatusOK, chosen, "A new code is on its way.", "")
		return
	}
	code, message := payerSees(err)
	if over(code) {
		s.afterDoubt(w, r, p, code)
		return
	}
	s.codePage(w, r, p, http.StatusUnprocessableEntity, chosen, "", message)
}

// ---- the way back -----------------------------------------------------------

// pageReturn is where the payer comes back, from his own form or from the gateway's page. What the address claims does not
// count: the gateway is asked.
func (s *Shop) pageReturn(w http.ResponseWriter, r *http.Request) {
	p := s.find(r.FormValue("id"))
	if p == nil {
		s.sorry(w, http.StatusNotFound, "The shop does not know this payment",
			"It remembers the last thousand and forgets all when it is restarted; the gateway still knows it.")
		return
	}
	err := s.status(r.Context(), p)
	state, doubt := p.known()
	view := page{Tab: "shop", Title: "Thank you", Content: struct {
		P     *payment
		State holdfast.PaymentState
		Doubt bool
	}{p, state, doubt}}
	switch {
	case err != nil:
		view.Title, view.Refresh = "We are asking the bank", 3
		view.Problem = "The payment service does not answer just now; this page looks again by itself."
	case doubt:
		view.Title, view.Refresh = "We are asking the bank", 3
	case state.Status == holdfast.StatusCanceled:
		view.Title = "Not paid"
	case open(state.Status):
		view.Title = "Not finished yet"
	}
	s.show(w, http.StatusOK, "return", view)
}
