package pages

import (
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/gateway"
	"holdfast/internal/merchant"
	"holdfast/internal/payment"
	"holdfast/internal/web/text"
)

// at fails unless the visitor has come to a place of the payment.
func (v *visitor) at(place string, p payment.Payment) {
	v.w.t.Helper()
	if path, _, _ := strings.Cut(v.last.path, "?"); path != "/"+place+"/"+p.ID.String() || v.last.status != http.StatusOK {
		v.w.t.Fatalf("came to %s (%d), want /%s/…", v.last.path, v.last.status, place)
	}
}

func (v *visitor) sees(words string) {
	v.w.t.Helper()
	if !strings.Contains(v.last.body, words) {
		v.w.t.Fatalf("%s does not say %q", v.last.path, words)
	}
}

func TestWrongCodesCancel(t *testing.T) {
	w := newWorld(t)
	p, c, v := w.prepare("en"), w.card("ok"), w.visitor()
	v.pay(p, c)
	v.at("uzcard/sms", p)
	v.sees("3 attempts left.")
	v.enter(p, "12ab")
	v.at("uzcard/sms", p)
	v.sees("Enter the digits of the code from the SMS.")
	v.sees("3 attempts left.")
	v.enter(p, wrong(w.code(c)))
	v.sees("The code is wrong")
	v.sees("2 attempts left.")
	v.get(v.last.path) // a reload repeats nothing
	v.sees("2 attempts left.")
	v.enter(p, wrong(w.code(c)))
	v.sees("1 attempt left: a wrong code will cancel the payment.")
	v.enter(p, wrong(w.code(c)))
	v.at("status", p)
	v.sees("A wrong code was entered three times")
	v.sees(w.back + "&amp;octo_status=canceled&amp;octo_payment_UUID=" + p.ID.String() + "&amp;shop_transaction_id=" + p.Terms.ShopPaymentID)
	v.enter(p, w.code(c))
	v.at("status", p)
	if got := w.payment(p.ID); got.State != payment.Declined {
		t.Errorf("the payment is %s", got.State)
	}
}

// A card for which too many wrong codes came, over other payments, is refused with its right code too, and the payer is told
// why and what he can do: this payment's tries are not used up, and another payment would not help.
func TestTooManyWrongCodes(t *testing.T) {
	w := newWorld(t)
	w.gateway = gateway.New(gateway.Config{Store: w.store, Live: w.centres, WrongCodes: 2})
	site := httptest.NewServer(New(Config{Gateway: w.gateway, Store: w.store}))
	t.Cleanup(site.Close)
	w.url = site.URL
	c, v, says := w.card("ok"), w.visitor(), text.For("en").Reason(payment.TooManyWrongCodes)
	real := func(t *payment.Terms) { t.Test = false }
	p, other := w.prepare("en", real), w.prepare("en", real)
	v.pay(p, c)
	v.pay(other, c)
	for range 2 {
		v.enter(other, wrong(w.code(c)))
	}
	v.enter(p, w.code(c))
	v.at("uzcard/sms", p)
	v.sees(says)
	v.pay(w.prepare("en", real), c)
	v.sees(says)
	v.pay(p, w.card("ok")) // another card
	v.at("uzcard/sms", p)
	if strings.Contains(v.last.body, says) {
		t.Error("another card is refused too")
	}
}

// A shop that may take no real payments any more takes none that was prepared before either, and the payer is told whom to ask.
func TestShopIsLiveNoMore(t *testing.T) {
	w := newWorld(t)
	p, v := w.prepare("en", func(t *payment.Terms) { t.Test = false }), w.visitor()
	_, err := w.store.UpdateShop(t.Context(), w.shop.ID, func(s *merchant.Shop) error { s.Settings.Live = false; return nil })
	if err != nil {
		t.Fatal(err)
	}
	v.pay(p, w.card("ok"))
	v.at("pay", p)
	v.sees(text.For("en").Reason(payment.NotLive))
}

func TestExpiredCodeAndResend(t *testing.T) {
	w := newWorld(t)
	p, c, v := w.prepare("en"), w.card("ok"), w.visitor()
	v.pay(p, c)
	old := w.code(c)
	stale := w.payment(p.ID).Attempt.Challenge.VerifyID
	w.pass(6 * time.Minute)
	v.enter(p, old)
	v.at("uzcard/sms", p)
	v.sees("The code has expired")
	v.sees("<details class=\"more\" open>")

	other := w.card("ok")
	resend := "/resend/" + p.ID.String() + "?language=en"
	v.post(resend, "pan", other.PAN, "exp", expiry(other))
	v.sees("This is not the card the code was asked for. Enter card ••••\u00a0" + c.PAN[12:])
	v.post(resend, "pan", "8600", "exp", expiry(c))
	v.sees("There is a mistake in the card number")
	if n := len(w.sim.SMS(c.Phone)); n != 1 {
		t.Fatalf("%d SMS before the resend", n)
	}
	v.post(resend, "pan", spaced(c.PAN), "exp", expiry(c))
	v.at("uzcard/sms", p)
	v.sees("A new code has been sent.")
	v.sees("A new code can be sent 2 more times.")

	// The page that was open before the resend has the old code's name: it is refused, at no cost.
	v.post("/uzcard/sms/"+p.ID.String()+"?language=en", "code", w.code(c), "verify", formatInt(stale))
	v.sees("enter the one from the latest SMS")
	v.sees("3 attempts left.")
	for range 2 {
		v.post(resend, "pan", c.PAN, "exp", expiry(c))
	}
	v.sees("No further code can be sent for this card.")
	v.post(resend, "pan", c.PAN, "exp", expiry(c))
	v.sees("No further code can be sent: enter the last one")
	if strings.Contains(v.last.body, text.For("en").Get("code.expired")) {
		t.Error("the payer is told to have another code sent when this one is over, and none can be")
	}
	v.enter(p, w.code(c))
	v.at("status", p)
	v.sees("Paid")

	late := w.prepare("en")
	v.pay(late, other)
	for range payment.MaxResends {
		v.post("/resend/"+late.ID.String()+"?language=en", "pan", other.PAN, "exp", expiry(other))
	}
	w.pass(6 * time.Minute)
	v.get("/uzcard/sms/" + late.ID.String())
	v.sees(text.For("en").Get("code.over"))
	if strings.Contains(v.last.body, "have a new one sent") {
		t.Error("the payer is told to have another code sent, and none can be")
	}
}

// An address that somebody made up does not have the page speak for the bank: what it refused is in the payment.
func TestRefusalsAreThePayments(t *testing.T) {
	w := newWorld(t)
	en := text.For("en")
	said := func(v *visitor, path string, r payment.Reason) bool {
		v.get(path + "?language=en&refused=" + string(r))
		return strings.Contains(html.UnescapeString(v.last.body), en.Reason(r))
	}
	fresh, held, stopped := w.prepare("en"), w.prepare("en"), w.prepare("en")
	v, other := w.visitor(), w.visitor()
	v.pay(held, w.card("ok"))
	other.pay(stopped, w.card("blocked"))
	for _, r := range []payment.Reason{
		payment.CardRefused, payment.InsufficientFunds, payment.CardExpired, payment.CardBlocked, payment.NoSMS, payment.WrongExpiry, payment.WrongCVC,
		payment.CardLimit, payment.Fraud, payment.Unavailable, payment.AuthenticationFailed, payment.Misconfigured, payment.Unsupported,
		payment.AlreadyPaid, payment.Finished, payment.PaymentExpired, "made_up",
	} {
		for _, path := range []string{"/pay/" + fresh.ID.String(), "/pay/" + held.ID.String(), "/uzcard/sms/" + held.ID.String()} {
			if said(v, path, r) {
				t.Errorf("%s says that it was refused as %s", path, r)
			}
		}
		if !strings.Contains(other.get("/pay/"+stopped.ID.String()+"?language=en&refused="+string(r)).body, en.Reason(payment.CardBlocked)) {
			t.Errorf("the bank's refusal gives way to an address with %s", r)
		}
	}
	for _, r := range []payment.Reason{payment.WrongCode, payment.CodeExpired, payment.CardUnknown, payment.ResendsUsedUp} {
		if said(v, "/pay/"+fresh.ID.String(), r) || !said(v, "/uzcard/sms/"+held.ID.String(), r) {
			t.Errorf("%s is said where no code is awaited, or not where one is", r)
		}
	}
	if !said(v, "/pay/"+fresh.ID.String(), payment.Busy) {
		t.Error("what we refuse without a trace is not said")
	}
}

// Of a payment that a restored backup shows as waiting nobody knows whether it was paid since: the payer is not told that no
// money was taken, nor simply to pay again.
func TestPaymentLostWithABackup(t *testing.T) {
	w := newWorld(t)
	p, v, en := w.prepare("en"), w.visitor(), text.For("en")
	v.pay(p, w.card("ok"))
	w.lost(p)
	v.get("/status/" + p.ID.String())
	v.at("status", p)
	v.sees(en.Get("lost.text"))
	if strings.Contains(v.last.body, "No money was taken") {
		t.Error("the payer is told what nobody knows")
	}
}

// What the shop knows is not for us to say: nobody is told of a payment without a notify_url, and a shop's server may be away.
func TestPaidSaysNothingOfTheShop(t *testing.T) {
	w := newWorld(t)
	p, v := w.paid("en"), w.visitor()
	for language, knows := range map[string]string{"en": "knows", "ru": "знает", "uz": "xabardor"} {
		v.get("/status/" + p.ID.String() + "?language=" + language)
		v.sees(text.For(language).Get("paid.title"))
		if strings.Contains(v.last.body, knows) {
			t.Errorf("%s: the payer is told that the shop knows of a payment that it was not told of", language)
		}
	}
}

// A shop that has cancelled takes no money, also where the bank has not let go of it yet: the payer is not told that his
// payment was accepted.
func TestCancelledBeforeTheBankKnows(t *testing.T) {
	w := newWorld(t)
	v, en := w.visitor(), text.For("en")
	for _, s := range scenes {
		if s.name == "hold being let go" {
			v.get(s.make(w, "en") + "?language=en")
		}
	}
	v.sees(en.Get("cancelled.title"))
	v.sees(en.Get("cancelled.soon"))
	if strings.Contains(v.last.body, en.Get("held.title")) {
		t.Error("the payer is told that it was accepted")
	}
}

// The last card that may be tried is waited for with its code: the payer is offered no other, and is not sent away by a
// refusal of one while he can still pay.
func TestLastCard(t *testing.T) {
	w := newWorld(t)
	p, v, en := w.prepare("en"), w.visitor(), text.For("en")
	for range payment.MaxAttempts - 1 {
		v.pay(p, w.card("blocked"))
		w.pass(2 * time.Minute) // the same card at once would be the same try
	}
	v.sees("You can try 1 more card.")
	c := w.card("ok")
	v.pay(p, c)
	v.at("uzcard/sms", p)
	if strings.Contains(v.last.body, en.Get("code.other")) {
		t.Error("another card is offered")
	}
	v.sees(en.Get("back"))
	v.get("/pay/" + p.ID.String())
	v.at("uzcard/sms", p)
	v.pay(p, w.card("ok")) // from a form that was open before
	v.at("uzcard/sms", p)
	if strings.Contains(v.last.body, en.Reason(payment.AttemptsUsedUp)) {
		t.Error("the payer is told to go back to the shop while he can still pay")
	}
	v.enter(p, w.code(c))
	v.at("status", p)
	v.sees(en.Get("paid.title"))
}

// However often and at once a card is handed in, one SMS is sent.
func TestDoublePost(t *testing.T) {
	w := newWorld(t)
	p, c := w.prepare("ru"), w.card("ok")
	var group sync.WaitGroup
	for range 8 {
		v := w.visitor()
		group.Go(func() {
			v.pay(p, c)
			v.at("uzcard/sms", p)
		})
	}
	group.Wait()
	if n := len(w.sim.SMS(c.Phone)); n != 1 {
		t.Fatalf("%d SMS were sent", n)
	}
	codes := w.code(c)
	for range 4 {
		v := w.visitor()
		group.Go(func() {
			v.enter(p, codes)
			v.at("status", p)
		})
	}
	group.Wait()
	if n := len(w.sim.Books().Operations); n != 1 {
		t.Errorf("%d operations at the centre", n)
	}
}

func TestRefusedCardLeavesThePaymentOpen(t *testing.T) {
	w := newWorld(t)
	p, v := w.prepare("en"), w.visitor()
	v.pay(p, w.card("blocked"))
	v.at("pay", p)
	v.sees("The card is blocked: ask your bank or use another one.")
	poor := w.card("limit_exceeded")
	v.pay(p, poor)
	v.at("uzcard/sms", p)
	v.enter(p, w.code(poor))
	v.at("pay", p)
	v.sees("The card was not charged")
	v.sees("You can try 3 more cards.")
	good := w.card("ok")
	v.pay(p, good)
	v.enter(p, w.code(good))
	v.at("status", p)
	v.sees("octo_status=succeeded")
}

func TestCentreDown(t *testing.T) {
	w := newWorld(t)
	p, c, v := w.prepare("en"), w.card("wallet_down"), w.visitor()
	v.pay(p, c)
	v.enter(p, w.code(c))
	v.sees("The bank cannot be reached right now")
}

// While the answer is missing the page waits, and moves on by itself when it has come.
func TestWaiting(t *testing.T) {
	w := newWorld(t)
	p, c, v := w.prepare("en"), w.card("unknown_then_done"), w.visitor()
	v.pay(p, c)
	v.enter(p, w.code(c))
	v.at("status", p)
	v.sees("The bank has not answered yet")
	v.sees(`<noscript><meta http-equiv="refresh" content="3"></noscript>`)
	v.sees("octo_status=wait_user_action")
	poll := func(seen string) int {
		request, _ := http.NewRequest("GET", w.url+"/status/"+p.ID.String(), nil)
		request.Header.Set("X-Seen", seen)
		return v.do(request).status
	}
	if got := poll("doubt"); got != http.StatusNoContent {
		t.Errorf("nothing is new, and the answer is %d", got)
	}
	if got := poll("wait"); got != http.StatusOK {
		t.Errorf("there is news, and the answer is %d", got)
	}
	for _, path := range []string{"/pay/", "/uzcard/sms/", "/card/", "/resend/"} {
		v.get(path + p.ID.String())
		v.at("status", p)
	}
	v.pay(p, w.card("ok")) // no second payment meanwhile
	v.at("status", p)
	w.pass(3 * time.Minute)
	if _, err := w.gateway.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.get("/status/" + p.ID.String() + "?language=en")
	v.sees("Paid")
}

func TestLanguages(t *testing.T) {
	w := newWorld(t)
	p, v := w.prepare("oz"), w.visitor()
	v.get("/pay/" + p.ID.String())
	v.sees("Karta raqami")
	v.get("/pay/" + p.ID.String() + "?language=de")
	v.sees("Karta raqami")
	v.post("/card/"+p.ID.String()+"?language=ru", "pan", "8600", "exp", "", "email", "guest@example.uz")
	v.sees("В номере карты ошибка")
	// The other languages keep the message.
	for _, link := range []string{"language=en&amp;problem=pan.wrong", "language=uz&amp;problem=pan.wrong"} {
		v.sees(link)
	}
	// A browser's wish counts where no payment says anything.
	request, _ := http.NewRequest("GET", w.url+"/pay/x", nil)
	request.Header.Set("Accept-Language", "de-DE,de;q=0.9,ru-RU;q=0.8,en;q=0.7")
	v.do(request)
	v.sees("Такого платежа нет")
}

func TestForms(t *testing.T) {
	w := newWorld(t)
	p, v := w.prepare("en"), w.visitor()
	id := p.ID.String()
	if got := v.post("/card/" + id).status; got != http.StatusBadRequest {
		t.Errorf("an empty form is answered %d", got)
	}
	if got := v.post("/card/"+id, "pan", strings.Repeat("8", formBytes)).status; got != http.StatusRequestEntityTooLarge {
		t.Errorf("a large form is answered %d", got)
	}
	if got := v.post("/card/"+strings.ToUpper(id), "pan", "1").status; got != http.StatusOK {
		t.Errorf("a UUID in capitals is answered %d", got)
	}
	for _, address := range []string{"/card/", "/resend/", "/uzcard/sms/", "/3ds/", "/status/"} {
		v.get(address + id)
		v.at("pay", p)
	}
	// What the address says of a refusal is one of our sentences or none.
	v.get("/pay/" + id + "?language=en&refused=%3Cscript%3E&problem=%3Cscript%3E&sent=%3Cscript%3E")
	if strings.Contains(v.last.body, "<script>&") || strings.Contains(v.last.body, "&lt;script") {
		t.Error("the page repeats what the address says")
	}
	if strings.Contains(v.last.body, text.For("en").Get("pay.refused")) {
		t.Error("the page tells of a refusal that only the address speaks of")
	}
	// A shop's words are words.
	hostile := w.prepare("en", func(t *payment.Terms) {
		t.Description = `</p><script>alert(1)</script>` + strings.Repeat("ж", 300)
		t.User.Email = `"><script>`
	})
	v.get("/pay/" + hostile.ID.String())
	if strings.Contains(v.last.body, "<script>alert") || strings.Count(v.last.body, "<script>") != 1 {
		t.Error("a description became a script")
	}
	checkStructure(t, v.last.body)
}

func TestBasketStandsInForADescription(t *testing.T) {
	w := newWorld(t)
	p := w.prepare("en", func(t *payment.Terms) {
		t.Description, t.Basket = "", []payment.Item{{Description: "Teapot", Count: 2, Price: "10.00"}, {Description: "Bowl", Count: 1, Price: "5.00"}}
	})
	v := w.visitor()
	v.get("/pay/" + p.ID.String())
	v.sees("Teapot × 2, Bowl")
}

// Nothing of a card but its first six and last four digits comes back, is logged, or is stored.
func TestCardLeavesNoTrace(t *testing.T) {
	w := newWorld(t)
	p, c, v := w.prepare("en"), w.card("ok"), w.visitor()
	visa := w.cardOf("visa", "ok")
	cvc, number := visa.CVC, visa.PAN
	var shown strings.Builder
	look := func(got page) {
		shown.WriteString(got.path + "\n" + got.body)
		for _, values := range got.header {
			shown.WriteString(strings.Join(values, "\n"))
		}
	}
	look(v.post("/card/"+p.ID.String(), "pan", spaced(c.PAN), "exp", "01/20", "email", "guest@example.uz"))
	look(v.post("/card/"+p.ID.String(), "pan", c.PAN+"x", "exp", expiry(c), "email", "guest@example.uz"))
	look(v.post("/card/"+p.ID.String(), "pan", number, "exp", "01/20", "cvc2", cvc, "email", "bad"))
	look(v.pay(p, c))
	code := w.code(c)
	look(v.enter(p, wrong(code)))
	look(v.post("/resend/"+p.ID.String(), "pan", c.PAN, "exp", "01/20"))
	look(v.enter(p, code))
	v.at("status", p)
	bank := w.prepare("en")
	look(v.post("/card/"+bank.ID.String(), "pan", number, "exp", expiry(visa), "cvc2", cvc, "email", "a@example.uz", "holder", "ALISHER NAVOIY"))
	v.at("3ds", bank)

	places := map[string]string{"a page": shown.String(), "the log": w.log.String()}
	files, err := filepath.Glob(filepath.Join(w.dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the store has no files: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		places["the store"] += string(data)
	}
	for place, content := range places {
		for _, secret := range []string{c.PAN, spaced(c.PAN), url.QueryEscape(spaced(c.PAN)), number, c.PAN[:12], c.PAN[6:], "value=\"" + cvc, "cvc2=" + cvc, code} {
			if strings.Contains(content, secret) {
				t.Errorf("%s has %q in it", place, secret)
			}
		}
	}
}

var (
	formAction = regexp.MustCompile(`<form[^>]* action="([^"]+)"`)
	hidden     = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)"`)
)

// bankForm is where the page's first form goes and what is in it.
func (v *visitor) bankForm() (action string, fields []string) {
	v.w.t.Helper()
	found := formAction.FindStringSubmatch(v.last.body)
	if found == nil {
		v.w.t.Fatalf("there is no form on %s", v.last.path)
	}
	for _, f := range hidden.FindAllStringSubmatch(v.last.body, -1) {
		fields = append(fields, f[1], html.UnescapeString(f[2]))
	}
	to, err := v.last.at.Parse(html.UnescapeString(found[1]))
	if err != nil {
		v.w.t.Fatal(err)
	}
	return to.String(), fields
}

// The bank's page, and what comes back from it forged, doubled and late, without a browser.
func TestBankPage(t *testing.T) {
	w := newWorld(t)
	p, c, v := w.prepare("en"), w.cardOf("visa", "ok"), w.visitor()
	id := p.ID.String()
	v.pay(p, c)
	v.at("3ds", p)
	v.sees(`name="threeDSMethodData"`)
	if csp := v.last.header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' https: http://localhost:") || !strings.Contains(csp, "frame-src 'self' https:") {
		t.Errorf("the policy does not let the payer go to his bank: %s", csp)
	}
	for _, path := range []string{"/pay/", "/status/", "/uzcard/sms/"} {
		v.get(path + id)
		v.at("3ds", p)
	}
	v.post("/3ds/"+id+"/method", "threeDSMethodData", "x")
	if v.last.status != http.StatusOK || !strings.Contains(v.last.body, "<title>done</title>") || v.last.header.Get("X-Frame-Options") != "SAMEORIGIN" {
		t.Errorf("the hidden frame is answered %d %s", v.last.status, v.last.body)
	}
	back := func(fields ...string) {
		form := url.Values{}
		for i := 0; i+1 < len(fields); i += 2 {
			form.Add(fields[i], fields[i+1])
		}
		request, _ := http.NewRequest("POST", w.url+"/3ds/"+id+"/back", strings.NewReader(form.Encode()))
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Sec-Fetch-Site", "cross-site")
		request.Header.Set("Origin", "https://acs.bank.example")
		v.do(request)
	}
	back("cres", "forged") // too early: the method step is not over
	v.sees("threeDSMethodData")
	for range 2 { // the second time it changes nothing
		v.post("/3ds/"+id+"?language=en", "step", "method")
		v.at("3ds", p)
		v.sees(`name="creq"`)
	}
	back("cres", "forged") // the bank has not asked him yet: what he brings proves nothing
	v.at("3ds", p)
	creqTo, creq := v.bankForm()
	v.post(creqTo, creq...)
	v.sees("Confirm your payment")
	codeTo, fields := v.bankForm()
	v.post(codeTo, append(slices.Clone(fields), "code", wrong(w.code(c)), "do", "submit")...)
	v.sees("This code is not right.")
	v.post(creqTo, creq...) // a reload in the middle
	v.sees("2 tries are left.")
	back("cres", "forged") // and the way back before he has answered
	v.at("3ds", p)
	v.post(codeTo, append(slices.Clone(fields), "code", w.code(c), "do", "submit")...)
	_, cres := v.bankForm()
	for range 2 {
		back(cres...)
		v.at("status", p)
		v.sees(w.payment(p.ID).Attempt.Centre.RRN)
	}
	v.get("/3ds/" + id + "/back")
	v.at("status", p)
	v.post(creqTo, creq...) // the old page of the bank leads nowhere else
	_, cres = v.bankForm()
	back(cres...)
	v.at("status", p)
	if n := len(w.sim.SMS(c.Phone)); n != 1 {
		t.Errorf("%d SMS were sent", n)
	}
	if got := w.payment(p.ID); got.State != payment.Captured || got.Attempts != 1 {
		t.Errorf("the payment is %s after %d attempts", got.State, got.Attempts)
	}
}
