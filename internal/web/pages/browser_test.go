package pages

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/sim"
	"holdfast/internal/web/text"
)

// One browser serves all tests; each tab has a profile of its own.
var chromium struct {
	once    sync.Once
	context context.Context
	stop    func()
	err     error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if chromium.stop != nil {
		chromium.stop()
	}
	os.Exit(code)
}

func startChromium() {
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		chromium.err = fmt.Errorf("there is no Chromium on this machine and without it the payer's pages are not tested: run make needs")
		return
	}
	profile, err := os.MkdirTemp("", "holdfast-chromium-")
	if err != nil {
		chromium.err = err
		return
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Headless, chromedp.WSURLReadTimeout(patience),
	}
	for _, flag := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage", "disable-prompt-on-repost", "disable-background-timer-throttling", "disable-backgrounding-occluded-windows", "disable-renderer-backgrounding",
		"allow-pre-commit-input"} { // else a click at a page that has just come may be lost
		options = append(options, chromedp.Flag(flag, true))
	}
	allocator, endAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	var endBrowser context.CancelFunc
	chromium.context, endBrowser = chromedp.NewContext(allocator)
	chromium.stop = func() {
		endBrowser()
		endAllocator()
		os.RemoveAll(profile)
	}
	if err := chromedp.Do(chromium.context); err != nil {
		chromium.err = fmt.Errorf("Chromium (%s) does not start: %w", path, err)
	}
}

// tab is a payer's browser.
type tab struct {
	w      *world
	ctx    context.Context
	name   string // of screenshots
	clocks cdppage.ScriptIdentifier
	mu     sync.Mutex
	broken []string // what the browser complained of
}

// device is what a payer holds in his hands.
type device struct {
	name          string
	width, height int64
	phone, dark   bool
	noScript      bool
}

var (
	phone   = device{name: "phone", width: 360, height: 740, phone: true}
	desktop = device{name: "desktop", width: 1280, height: 800}
)

func (d device) withoutScript() device { d.name += "-noscript"; d.noScript = true; return d }
func (d device) inTheDark() device     { d.name += "-dark"; d.dark = true; return d }

func (w *world) tab(d device, name string) *tab {
	w.t.Helper()
	chromium.once.Do(startChromium)
	if chromium.err != nil {
		w.t.Fatal(chromium.err)
	}
	ctx, end := chromedp.NewContext(chromium.context, chromedp.WithNewBrowserContext())
	ctx, endInTime := context.WithTimeout(ctx, 5*patience)
	w.t.Cleanup(func() { endInTime(); end() })
	b := &tab{w: w, ctx: ctx, name: name + "-" + d.name}
	err := chromedp.Listen(ctx, func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *cdplog.EventEntryAdded: // violations of the policy, requests that failed
			if strings.HasPrefix(e.Entry.URL, w.url) || e.Entry.URL == "" {
				b.broken = append(b.broken, fmt.Sprintf("%s: %s (%s)", e.Entry.Level, e.Entry.Text, e.Entry.URL))
			}
		case *runtime.EventExceptionThrown:
			b.broken = append(b.broken, "exception: "+e.ExceptionDetails.Text+" "+e.ExceptionDetails.Exception.Description)
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	scheme := "light"
	if d.dark {
		scheme = "dark"
	}
	var options []chromedp.EmulateViewportOption
	if d.phone {
		options = append(options, chromedp.EmulateMobile, chromedp.EmulateScale(2))
	}
	b.run(chromedp.EmulateViewport(d.width, d.height, options...))
	call(b, cdplog.Enable, cdp.Empty{})
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: d.noScript})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	b.stands(nil)
	return b
}

// After so many milliseconds our script goes on by itself.
const (
	countsDown = 1000  // to the shop, again and again
	goesOn     = 10000 // to the bank, whatever has become of its look at the browser
	rests      = 20000 // and lets the payer press again
)

// stands has our script, in the pages opened from now on, not go on by itself, as it would under the hands of a test on a slow
// machine; but for the times given, which become others.
func (b *tab) stands(but map[int]int) {
	b.w.t.Helper()
	if b.clocks != "" {
		call(b, cdppage.RemoveScriptToEvaluateOnNewDocument, cdppage.RemoveScriptToEvaluateOnNewDocumentParams{Identifier: b.clocks})
	}
	becomes := map[int]int{countsDown: 0, goesOn: 0, rests: 0}
	maps.Copy(becomes, but)
	times, err := json.Marshal(becomes)
	if err != nil {
		b.w.t.Fatal(err)
	}
	b.clocks = call(b, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: fmt.Sprintf(`
		for (const name of ["setTimeout", "setInterval"]) {
			const original = window[name], becomes = %s;
			window[name] = (f, ms, ...more) => becomes[ms] === 0 ? 0 : original(f, becomes[ms] ?? ms, ...more);
		}`, times)}).Identifier
}

func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.w.t.Helper()
	result, err := chromedp.Call(b.ctx, command, params)
	if err != nil {
		b.w.t.Fatal(err)
	}
	return result
}

func (b *tab) run(steps ...chromedp.Action[chromedp.Void]) {
	b.w.t.Helper()
	ctx, end := context.WithTimeout(b.ctx, patience)
	defer end()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.stuck(err.Error())
	}
}

// stuck ends the test and says where the browser is.
func (b *tab) stuck(why string) {
	b.w.t.Helper()
	at, _ := chromedp.Run(b.ctx, chromedp.Location())
	says, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.w.t.Fatalf("%s\nat %s\n%s\n%s", why, at, says, strings.Join(b.broken, "\n"))
}

// until waits for something. A page that is just being left has not got it yet, and of a page that is just changing the browser
// may say many an error: it is asked again.
func (b *tab) until(what string, done func() (bool, error)) {
	b.w.t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var ok bool
		if ok, err = done(); err == nil && ok {
			return
		}
	}
	b.stuck(fmt.Sprintf("waited in vain for %s (%v)", what, err))
}

// ask has the browser do something that it may be asked for again.
func ask[T any](b *tab, what string, action chromedp.Action[T]) (result T) {
	b.w.t.Helper()
	b.until(what, func() (ok bool, err error) {
		ctx, end := context.WithTimeout(b.ctx, patience/4) // of a page that is just being left there may be no answer at all
		defer end()
		result, err = chromedp.Run(ctx, action)
		return err == nil, err
	})
	return result
}

// complaints fails the test if the browser had anything to complain of.
func (b *tab) complaints() {
	b.w.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.broken {
		b.w.t.Errorf("the browser complains: %s", c)
	}
}

// open goes to a page, as a person would again where the page before is just loading anew.
func (b *tab) open(path string) {
	b.w.t.Helper()
	ask(b, path, chromedp.Navigate(b.w.url+path))
}

// reload presses the button for it.
func (b *tab) reload() { b.w.t.Helper(); ask(b, "the page anew", chromedp.Reload()) }

func (b *tab) location() string { b.w.t.Helper(); return ask(b, "its place", chromedp.Location()) }

// settled is that a page is there, and has put the payer into the field where he begins, if it does: who is in another
// field before has the browser say that it leaves him there.
const settled = `document.readyState === "complete" && !(document.activeElement === document.body && document.querySelector("[autofocus]"))`

// reaches waits until the tab is at a place of the payment and something is there.
func (b *tab) reaches(place string, p payment.Payment, selector string) {
	b.w.t.Helper()
	want := b.w.url + "/" + place + "/" + p.ID.String()
	b.until(want+" with "+selector, func() (bool, error) {
		return chromedp.Run(b.ctx, chromedp.Evaluate[bool](fmt.Sprintf(
			`location.href.startsWith(%q) && %s && Boolean(document.querySelector(%q)?.offsetParent)`, want, settled, selector)))
	})
}

func (b *tab) types(selector, what string) {
	b.w.t.Helper()
	b.run(chromedp.Click(chromedp.CSS(selector)), chromedp.SendKeys(chromedp.CSS(selector), what))
}

func evaluate[T any](b *tab, expression string) T {
	b.w.t.Helper()
	return ask(b, expression, chromedp.Evaluate[T](expression))
}

func (b *tab) is(expression string) bool { b.w.t.Helper(); return evaluate[bool](b, expression) }

func (b *tab) value(selector string) string {
	b.w.t.Helper()
	return evaluate[string](b, fmt.Sprintf(`document.querySelector(%q).value`, selector))
}

func (b *tab) words(selector string) string {
	b.w.t.Helper()
	return evaluate[string](b, fmt.Sprintf(`document.querySelector(%q).textContent.trim()`, selector))
}

func (b *tab) waitWords(selector, want string) {
	b.w.t.Helper()
	b.until(fmt.Sprintf("%s to say %q", selector, want), func() (bool, error) {
		return chromedp.Run(b.ctx, chromedp.Evaluate[bool](fmt.Sprintf(
			`%s && [...document.querySelectorAll(%q)].some((e) => e.textContent.includes(%q))`, settled, selector, want)))
	})
}

// press presses a button that leads to another page.
func (b *tab) press(selector string) {
	b.w.t.Helper()
	b.run(chromedp.Click(chromedp.CSS(selector)))
}

// middle is where on the screen something can be pressed.
func (b *tab) middle(selector string) (x, y float64) {
	b.w.t.Helper()
	at := evaluate[[]float64](b, fmt.Sprintf(`(() => {
		const e = document.querySelector(%q);
		e.scrollIntoView({block: "center"});
		const box = e.getBoundingClientRect();
		return [box.x + box.width / 2, box.y + box.height / 2];
	})()`, selector))
	return at[0], at[1]
}

// pressAt presses at a place, also while the page is about to be left; click counts a double click's.
func (b *tab) pressAt(x, y float64, click int64) {
	b.w.t.Helper()
	for _, kind := range []input.DispatchMouseEventType{input.DispatchMouseEventTypeMousePressed, input.DispatchMouseEventTypeMouseReleased} {
		call(b, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: x, Y: y, Button: input.MouseButtonLeft, ClickCount: click})
	}
}

// back presses the back button and waits until the browser is at another place of its history. A page that it had kept whole has no
// load event.
func (b *tab) back() {
	b.w.t.Helper()
	before := b.pressBack()
	b.until("the page before", func() (bool, error) {
		history, err := b.history()
		return history.CurrentIndex < before, err
	})
	b.until("all of the page before", func() (bool, error) {
		return chromedp.Run(b.ctx, chromedp.Evaluate[bool]("document.readyState === 'complete'"))
	})
}

// pressBack presses the back button, whatever comes of it, and gives the place in the browser's history where that was. Just after
// the browser has shown again a page that it had kept whole, it says for a while that there is none.
func (b *tab) pressBack() (before int64) {
	b.w.t.Helper()
	b.until("the back button", func() (bool, error) {
		history, err := b.history()
		if err != nil || history.CurrentIndex == 0 {
			return false, err
		}
		before = history.CurrentIndex
		to := cdppage.NavigateToHistoryEntryParams{EntryID: history.Entries[before-1].ID}
		_, err = chromedp.Call(b.ctx, cdppage.NavigateToHistoryEntry, to)
		return true, err
	})
	return before
}

func (b *tab) history() (cdppage.GetNavigationHistoryResult, error) {
	return chromedp.Call(b.ctx, cdppage.GetNavigationHistory, cdp.Empty{})
}

// shot keeps a picture of the page where git does not look.
func (b *tab) shot(what string) {
	b.w.t.Helper()
	// The page must not be wider than the screen, on a phone least of all.
	if b.is("document.documentElement.scrollWidth > document.documentElement.clientWidth") {
		b.w.t.Errorf("%s-%s: the page is wider than the screen", b.name, what)
	}
	picture := ask(b, "a picture", chromedp.FullScreenshot(100))
	dir := filepath.Join("..", "..", "..", "artefacts")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, b.name+"-"+what+".png"), picture, 0o644); err != nil {
		b.w.t.Fatal(err)
	}
}

// fillCard fills the card form in. Without our script the payer says himself what kind of card it is.
func (b *tab) fillCard(d device, p payment.Payment, c sim.Card) {
	b.w.t.Helper()
	b.reaches("pay", p, "#pan")
	method := methodOf[c.Scheme]
	if d.noScript {
		b.press(".tile:has([value=" + string(method) + "])")
	}
	typed := expiry(c)
	if !d.noScript {
		typed = strings.ReplaceAll(typed, "/", "") // our script puts it
	}
	b.types("#pan", c.PAN)
	b.types("#exp", typed)
	if method == payment.BankCard {
		b.types("#cvc2", c.CVC)
		b.types("#holder", c.Holder)
	}
}

var methodOf = map[string]payment.Method{"uzcard": payment.Uzcard, "humo": payment.Humo, "visa": payment.BankCard, "mastercard": payment.BankCard}

// toTheBank presses the buttons that our script presses by itself, until the bank asks for its code.
func (b *tab) toTheBank(d device, p payment.Payment) {
	b.w.t.Helper()
	if d.noScript {
		b.reaches("3ds", p, "#proceed button")
		b.press("#proceed button")
		b.reaches("3ds", p, "#bank button")
		b.press("#bank button")
	}
	b.run(chromedp.WaitVisible(chromedp.CSS("input[name=code]")))
}

// tellTheBank enters a code at the bank.
func (b *tab) tellTheBank(code string) {
	b.w.t.Helper()
	b.types("input[name=code]", code)
	b.press("button[value=submit]")
}

// fromTheBank comes back from it.
func (b *tab) fromTheBank(d device) {
	b.w.t.Helper()
	if d.noScript {
		b.run(chromedp.WaitVisible(chromedp.CSS("input[name=cres] ~ button")))
		b.press("input[name=cres] ~ button")
	}
}

// All three methods in each language, with and without JavaScript, on a phone, and some on a desktop; in light and in the dark.
func TestPayInTheBrowser(t *testing.T) {
	t.Parallel()
	type trip struct {
		language, scheme string
		device           device
	}
	var trips []trip
	for i, language := range text.Languages {
		for j, scheme := range []string{"uzcard", "humo", []string{"visa", "mastercard"}[i%2]} {
			d := phone
			if (i+j)%2 == 1 {
				d = d.inTheDark()
			}
			trips = append(trips, trip{language, scheme, d}, trip{language, scheme, d.withoutScript()})
		}
	}
	trips = append(trips, trip{"uz", "uzcard", desktop}, trip{"oz", "humo", desktop.inTheDark()}, trip{"ru", "visa", desktop.withoutScript()}, trip{"en", "mastercard", desktop.inTheDark()})
	for i, c := range trips {
		language, d := c.language, c.device
		t.Run(language+"/"+c.scheme+"/"+d.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			texts := text.For(language)
			change, status, heading := twoStage, "waiting_for_capture", "held.title"
			if i%3 == 2 {
				change, status, heading = func(*payment.Terms) {}, "succeeded", "paid.title"
			}
			p, c := w.prepare(language, change), w.cardOf(c.scheme, "ok")
			b := w.tab(d, "pay-"+language+"-"+c.Scheme)
			b.open("/pay/" + p.ID.String() + "?language=" + language)
			b.shot("1-card")
			b.fillCard(d, p, c)
			if !d.noScript {
				if got, want := b.value("#pan"), c.PAN[:4]+" "+c.PAN[4:8]+" "+c.PAN[8:12]+" "+c.PAN[12:]; got != want {
					t.Errorf("the number is shown as %q", got)
				}
				if got := b.value("#exp"); got != expiry(c) {
					t.Errorf("the expiry is shown as %q, want %q", got, expiry(c))
				}
				if got := b.words("#pan-brand"); !strings.EqualFold(got, c.Scheme) {
					t.Errorf("the brand is %q", got)
				}
				if asked := b.is(`document.querySelector("#cvc2").offsetParent !== null`); asked != (c.CVC != "") {
					t.Errorf("a %s is asked for a CVC: %v", c.Scheme, asked)
				}
			}
			b.shot("2-filled")
			b.press("#card button")
			if method := methodOf[c.Scheme]; method == payment.BankCard {
				b.toTheBank(d, p)
				b.shot("3-bank")
				b.tellTheBank(w.code(c))
				b.fromTheBank(d)
			} else {
				b.reaches(string(method)+"/sms", p, "#code")
				if got := b.words("h1"); got != texts.Get("code.heading") {
					t.Errorf("the code page is headed %q", got)
				}
				b.shot("3-code")
				b.types("#code", w.code(c))
				b.press("#sms button")
			}
			b.reaches("status", p, "#return")
			if got := b.words("h1"); got != texts.Get(heading) {
				t.Errorf("the result is headed %q", got)
			}
			receipt := b.words("dl")
			stored := w.payment(p.ID)
			for _, fact := range []string{w.shop.Name, p.Terms.Description, c.PAN[12:], stored.Attempt.Centre.RRN, p.Terms.ShopPaymentID} {
				if !strings.Contains(receipt, fact) {
					t.Errorf("the receipt has no %q", fact)
				}
			}
			if stored.Attempt.Input != "octo_page" || stored.Attempts != 1 {
				t.Errorf("the card came by %s, in %d attempts", stored.Attempt.Input, stored.Attempts)
			}
			b.shot("4-result")
			b.press("#return")
			b.run(chromedp.WaitVisible(chromedp.CSS("#shop")))
			at, err := url.Parse(b.location())
			if q := at.Query(); err != nil || q.Get("octo_status") != status || q.Get("octo_payment_UUID") != p.ID.String() ||
				q.Get("shop_transaction_id") != p.Terms.ShopPaymentID || q.Get("cart") != "7" {
				t.Errorf("the payer came back to %s", at)
			}
			b.complaints()
		})
	}
}

// A double click on Pay, and another click while the bank is being asked, are one attempt; with our script and without.
func TestDoubleClickInTheBrowser(t *testing.T) {
	t.Parallel()
	for _, d := range []device{phone, desktop.withoutScript()} {
		t.Run(d.name, func(t *testing.T) {
			w := newWorld(t)
			p, c := w.prepare("en"), w.card("ok")
			w.fault(sim.Fault{Method: "cards.new.otp", Name: "withheld"})
			b := w.tab(d, "double")
			b.open("/pay/" + p.ID.String())
			b.fillCard(d, p, c)
			if !d.noScript { // what the payer sees of it: the browser does not tell while a form is under way
				got := evaluate[[]string](b, `(() => {
					const form = document.getElementById("card"), button = form.querySelector("button");
					let sent = 0;
					form.addEventListener("submit", (e) => { if (!e.defaultPrevented) sent++; e.preventDefault(); });
					button.click();
					button.click();
					return [String(sent), button.getAttribute("aria-disabled"), button.textContent];
				})()`)
				if want := []string{"1", "true", text.For("en").Get("pay.busy")}; !slices.Equal(got, want) {
					t.Errorf("after two clicks: %q, want %q", got, want)
				}
				b.shot("busy")
				b.open("/pay/" + p.ID.String())
				b.fillCard(d, p, c)
			}
			x, y := b.middle("#card button")
			b.pressAt(x, y, 1)
			b.pressAt(x, y, 2)
			w.happened()
			arrived := w.posts.Load()
			b.pressAt(x, y, 1)
			if d.noScript {
				b.until("another form to arrive", func() (bool, error) { return w.posts.Load() > arrived, nil })
			}
			w.sim.ClearFaults()
			b.reaches("uzcard/sms", p, "#code")
			if got := w.posts.Load(); !d.noScript && got != 1 {
				t.Errorf("%d forms were sent in the end", got)
			}
			if n := len(w.sim.SMS(c.Phone)); n != 1 {
				t.Errorf("%d SMS were sent", n)
			}
			if got := w.payment(p.ID).Attempts; got != 1 {
				t.Errorf("%d attempts were made", got)
			}
			b.complaints()
		})
	}
}

// A form that got nowhere, because the payer stopped it or his network failed, can be sent again; together they are one attempt.
func TestStoppedInTheBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, c := w.prepare("en"), w.card("ok")
	b := w.tab(phone, "stopped")
	b.stands(map[int]int{rests: 500})
	b.open("/pay/" + p.ID.String())
	b.fillCard(phone, p, c)
	words := b.words("#card button")
	w.fault(sim.Fault{Method: "cards.new.otp", Name: "withheld"})
	b.press("#card button")
	w.happened()
	b.run(chromedp.Stop())
	b.waitWords("#card button", words)
	if b.is(`document.querySelector("#card button").hasAttribute("aria-disabled")`) {
		t.Error("the button is still said to be disabled")
	}
	b.press("#card button")
	b.until("the form to arrive again", func() (bool, error) { return w.posts.Load() == 2, nil })
	w.sim.ClearFaults()
	b.reaches("uzcard/sms", p, "#code")
	if n, attempts := len(w.sim.SMS(c.Phone)), w.payment(p.ID).Attempts; n != 1 || attempts != 1 {
		t.Errorf("%d SMS were sent, in %d attempts", n, attempts)
	}
	b.complaints()
}

// Wrong code, reload, resend, language switch, back button, third wrong code.
func TestTroubleInTheBrowser(t *testing.T) {
	t.Parallel()
	for _, d := range []device{phone, phone.withoutScript()} {
		t.Run(d.name, func(t *testing.T) {
			w := newWorld(t)
			p, c := w.prepare("en"), w.card("ok")
			b := w.tab(d, "trouble")
			b.open("/pay/" + p.ID.String() + "?language=en")
			b.fillCard(d, p, c)
			b.press("#card button")
			b.reaches("uzcard/sms", p, "#code")

			b.types("#code", wrong(w.code(c)))
			b.press("#sms button")
			b.waitWords("#code-hint", "2 attempts left.")
			b.shot("1-wrong-code")
			b.reload()
			b.waitWords("#code-hint", "2 attempts left.")

			b.press("nav a[hreflang=ru]")
			b.waitWords("#code-hint", "Осталось 2 попытки.")
			if got := b.words("h1"); got != text.For("ru").Get("code.heading") {
				t.Errorf("after the change of language the page is headed %q", got)
			}
			b.press("details.more summary")
			b.types("#pan", c.PAN)
			b.types("#exp", expiry(c))
			b.shot("2-resend")
			b.press("#again button")
			b.waitWords("[role=status]", "Новый код отправлен.")
			b.shot("3-resent")
			if n := len(w.sim.SMS(c.Phone)); n != 2 {
				t.Errorf("%d SMS were sent", n)
			}

			// Back to the card: nothing happens, and the way on is shown.
			for range 3 { // the resend, the language, the wrong code
				b.back()
			}
			b.open("/pay/" + p.ID.String() + "?language=ru")
			b.waitWords(".box-note", "уже отправлен")
			b.shot("4-back")
			b.press(".box-note a")
			b.reaches("uzcard/sms", p, "#code")

			for _, left := range []string{"Осталась 1 попытка", ""} {
				b.types("#code", wrong(w.code(c)))
				b.press("#sms button")
				if left != "" {
					b.waitWords("#code-hint", left)
				}
			}
			b.reaches("status", p, "#return")
			b.waitWords("main", "Код трижды введён неверно")
			b.shot("5-declined")
			b.back() // without our script the browser may show the old page; the way on is the same from there
			b.open("/uzcard/sms/" + p.ID.String() + "?language=ru")
			b.reaches("status", p, "#return")
			if n := len(w.sim.SMS(c.Phone)); n != 2 {
				t.Errorf("%d SMS were sent in the end", n)
			}
			b.complaints()
		})
	}
}

// The code runs out before the payer's eyes, and he has a new one sent.
func TestExpiredCodeInTheBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, c := w.prepare("uz"), w.card("ok")
	b := w.tab(phone, "expired")
	b.open("/pay/" + p.ID.String())
	b.fillCard(phone, p, c)
	b.press("#card button")
	b.reaches("uzcard/sms", p, "#code")
	b.shot("1-code")
	w.pass(5*time.Minute + time.Second)
	b.is(`(() => { const now = performance.now.bind(performance); performance.now = () => now() + 301000; return true; })()`)
	b.waitWords("#over", text.For("uz").Get("code.expired"))
	b.shot("2-ran-out")
	b.types("#code", w.code(c))
	b.press("#sms button")
	b.run(chromedp.WaitNotPresent(chromedp.CSS("#sms")))
	b.shot("3-over")
	b.types("#pan", c.PAN)
	b.types("#exp", expiry(c))
	b.press("#again button")
	b.run(chromedp.WaitVisible(chromedp.CSS("#sms")))
	b.types("#code", w.code(c))
	b.press("#sms button")
	b.reaches("status", p, "#return")
	b.complaints()
}

// A code late in the payment's time: the clock counts to that time's end, and then no further code is offered.
func TestLateCodeInTheBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, c := w.prepare("en"), w.card("ok")
	w.pass(13 * time.Minute) // of fifteen
	w.visitor().pay(p, c)
	b := w.tab(phone, "late")
	b.open("/uzcard/sms/" + p.ID.String())
	b.reaches("uzcard/sms", p, "#code")
	if got := b.words(".left b"); got > "2:00" {
		t.Errorf("two minutes before the payment's end the code is said to be good for %s", got)
	}
	w.pass(121 * time.Second)
	b.is(`(() => { const now = performance.now.bind(performance); performance.now = () => now() + 121000; return true; })()`)
	b.waitWords("#over", text.For("en").Reason(payment.PaymentExpired))
	if b.is(`document.querySelector("details.more").open`) {
		t.Error("a further code is offered for a payment that is over")
	}
	b.types("#code", w.code(c))
	b.press("#sms button")
	b.reaches("status", p, "#return")
	b.waitWords("h1", text.For("en").Get("expired.title"))
	b.complaints()
}

// The checks as the payer types, by keyboard alone.
func TestChecksInTheBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.prepare("en", only(payment.Uzcard, payment.BankCard))
	texts := text.For("en")
	b := w.tab(desktop, "checks")
	b.open("/pay/" + p.ID.String())
	b.run(chromedp.WaitVisible(chromedp.CSS("#pan")))
	press := func(keys string) { b.run(chromedp.KeyEvent(keys)) }
	focus := func() string {
		return evaluate[string](b, "document.activeElement.id || document.activeElement.tagName")
	}

	b.run(chromedp.Focus(chromedp.CSS("#pan")))
	press("8600 4954 7331 6479")
	press(kb.Tab)
	if got := focus(); got != "exp" {
		t.Errorf("after the number comes %v", got)
	}
	b.waitWords("#pan-error", texts.Get("field.pan.wrong"))
	press("1")
	press("320")
	press(kb.Tab)
	b.waitWords("#exp-error", texts.Get("field.exp.wrong"))
	b.shot("1-wrong")
	press(kb.Enter) // from the e-mail: nothing is sent, the first wrong field has the focus
	b.until("the number to have the focus", func() (bool, error) { return focus() == "pan", nil })

	leave := func() { b.run(chromedp.Focus(chromedp.CSS("#exp"))) }
	set := func(id, value string) {
		b.is(fmt.Sprintf(`(() => { const i = document.getElementById(%q); i.value = ""; i.focus(); return true; })()`, id))
		call(b, input.InsertText, input.InsertTextParams{Text: value})
	}
	set("pan", "９８６０ 0101 2345 6789")
	leave()
	b.waitWords("#pan-error", texts.Get("field.pan.wrong"))
	set("pan", "💳 my card")
	leave()
	b.waitWords("#pan-error", texts.Get("field.pan.digits"))
	if got := b.value("#pan"); got != "💳 my card" {
		t.Errorf("what was typed became %q", got)
	}
	set("pan", "9860010112345676") // Humo, which this payment does not take; the check digit is right or the first message stays
	leave()
	if humo := b.words("#pan-error"); humo == "" {
		t.Error("a card of another method passes")
	}
	set("pan", "４１１１-1111 1111‑1111")
	if got := b.value("#pan"); got != "4111 1111 1111 1111" {
		t.Errorf("the number became %q", got)
	}
	b.run(chromedp.WaitVisible(chromedp.CSS("#cvc2")))
	if got := b.words("#pan-brand"); got != "VISA" {
		t.Errorf("the brand is %q", got)
	}
	set("exp", "1230")
	if got := b.value("#exp"); got != "12/30" {
		t.Errorf("the expiry became %q", got)
	}
	// Whoever types the slash himself gets no second one, and can take it back.
	set("exp", "")
	for _, key := range []string{"1", "2", "/", "3", "0"} {
		press(key)
	}
	if got := b.value("#exp"); got != "12/30" {
		t.Errorf("the expiry typed with its slash became %q", got)
	}
	for range 3 {
		press(kb.Backspace)
	}
	if got := b.value("#exp"); got != "12" {
		t.Errorf("after three times backspace the expiry is %q", got)
	}
	set("exp", "1230")
	b.press("#card button")
	b.waitWords("#cvc2-error", texts.Get("field.cvc2"))
	b.shot("2-visa")
	if state := w.payment(p.ID); state.Attempts != 0 {
		t.Error("a form with mistakes was sent")
	}
	// Editing in the middle leaves the cursor where it was.
	b.is(`(() => { const i = document.getElementById("pan"); i.focus(); i.setSelectionRange(6, 6); return true; })()`)
	press(kb.Backspace)
	press("2")
	if got, at := b.value("#pan"), evaluate[int](b, `document.getElementById("pan").selectionStart`); got != "4111 2111 1111 1111" || at != 6 {
		t.Errorf("after editing in the middle: %q with the cursor at %v", got, at)
	}
	b.complaints()
}

// Whoever presses another kind of card than his number is of, is still asked for all that his card needs.
func TestOtherKindInTheBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.prepare("en", anonymous)
	b := w.tab(phone, "kind")
	b.open("/pay/" + p.ID.String())
	b.reaches("pay", p, "#pan")
	b.types("#pan", visa)
	b.types("#exp", "1230")
	b.press(".tile:has([value=uzcard])")
	b.press("#card button")
	b.until("the CVC to be asked for", func() (bool, error) {
		return chromedp.Run(b.ctx, chromedp.Evaluate[bool](`document.activeElement.id === "cvc2" && document.querySelector("#cvc2-error").offsetParent !== null`))
	})
	if got := evaluate[string](b, `document.querySelector("[name=method]:checked").value`); got != "bank_card" {
		t.Errorf("with a Visa number the form says %s", got)
	}
	b.complaints()
}

// A mistake in the e-mail address or the name is told before anything is sent: whoever hears of it afterwards has to type
// the whole card again.
func TestMistakesAreToldBeforeSending(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, c := w.prepare("en", func(t *payment.Terms) { t.User.Email = "" }), w.cardOf("visa", "ok")
	b := w.tab(phone, "mistakes")
	b.open("/pay/" + p.ID.String())
	b.fillCard(phone, p, c)
	clear := func(selector string) {
		b.is(fmt.Sprintf(`(() => { document.querySelector(%q).value = ""; return true; })()`, selector))
	}
	told := func(field, key string) {
		t.Helper()
		b.run(chromedp.Focus(chromedp.CSS("#exp")), chromedp.KeyEvent(kb.Enter))
		b.waitWords("#"+field+"-error", text.For("en").Get(key))
		if got := evaluate[string](b, "document.activeElement.id"); got != field {
			t.Errorf("the cursor is in %q, not in the field %s, which is wrong", got, field)
		}
		if w.posts.Load() != 0 {
			t.Fatal("a form with a mistake was sent")
		}
	}
	for _, wrong := range []string{"", "guest", "guest@example", "guest @", "@example.uz", "guest@.uz"} {
		clear("#email")
		if wrong != "" {
			b.types("#email", wrong)
		}
		told("email", "field.email")
	}
	clear("#email")
	b.types("#email", "guest+tea@mail.example.uz")
	clear("#holder")
	b.types("#holder", "Алишер")
	told("holder", "field.holder")
	clear("#holder")
	b.types("#holder", "D'ARTAGNAN-NAVOIY J.")
	b.press("#card button")
	b.toTheBank(phone, p)
	b.complaints()
}

// What the operator makes of the card range table: longer prefixes of another scheme, and a scheme without check digits.
// Our script, which looks at the first four digits, keeps nobody from paying whom the server would let pay.
func TestRangesInTheBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.store.UpdateCards(t.Context(), func(cards *payment.CardTable) error {
		cards.Ranges = append(cards.Ranges,
			payment.Range{From: "56148888", To: "56148888", Scheme: "humo", Lengths: []int{16}},
			payment.Range{From: "86005500", To: "86005500", Scheme: "visa", Lengths: []int{16}})
		cards.NoLuhn = []string{"humo"}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b := w.tab(phone, "ranges")
	tries := func(p payment.Payment, pan, cvc string) {
		t.Helper()
		b.reaches("pay", p, "#pan")
		b.types("#pan", pan)
		b.types("#exp", "1230")
		if cvc != "" {
			b.types("#cvc2", cvc)
		}
		b.press("#card button")
	}
	tried := func(p payment.Payment, pan string) {
		t.Helper()
		b.until("the card "+pan+" to be tried", func() (bool, error) {
			stored := w.payment(p.ID)
			return stored.Attempt != nil && stored.Attempt.Card.Last4 == pan[12:], nil
		})
	}
	// A number whose prefix of four digits is otherwise a method's that the payment does not take; and one without a check digit.
	for _, pan := range []string{"5614888800000015", "9860000000000001"} {
		p := w.prepare("en", only(payment.Humo), anonymous)
		b.open("/pay/" + p.ID.String())
		tries(p, pan, "")
		tried(p, pan)
	}
	// One of which the server says that its CVC is needed, which is then asked for, also while the number is typed again.
	p, visa := w.prepare("en", anonymous), "8600550000000019"
	b.open("/pay/" + p.ID.String())
	tries(p, visa, "")
	b.waitWords("#cvc2-error", text.For("en").Get("field.cvc2"))
	tries(p, visa, "123")
	tried(p, visa)
	b.complaints()
}

// The longest card numbers are seen whole on the narrowest phone, in the letters that are there and in wider ones.
func TestCardNumberFits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, c := w.prepare("ru"), w.card("ok")
	w.visitor().pay(p, c)
	b := w.tab(phone, "fits")
	for _, path := range []string{"/pay/", "/uzcard/sms/"} {
		b.open(path + p.ID.String())
		b.is(`(() => { for (const d of document.querySelectorAll("details")) d.open = true; return true; })()`) // the form for a further code
		for _, letters := range []string{"", "font-family: monospace", "font-family: serif; font-weight: bold", "font-family: 'DejaVu Sans', Verdana, sans-serif; font-weight: bold; letter-spacing: .03em"} {
			for _, number := range []string{"8600313260861293", "8888888888888888", "4000000000000000006", "4888888888888888888"} {
				b.is(fmt.Sprintf(`(() => { const i = document.getElementById("pan"); i.style.cssText = %q; i.value = ""; i.focus(); return true; })()`, letters))
				call(b, input.InsertText, input.InsertTextParams{Text: number})
				got := evaluate[[]float64](b, `(() => { const i = document.getElementById("pan"); return [i.scrollWidth, i.clientWidth, i.value.length, parseFloat(getComputedStyle(i).fontSize)]; })()`)
				if got[0] > got[1] {
					t.Errorf("%s, %q: %s needs %v pixels and has %v", path, letters, number, got[0], got[1])
				}
				if want := len(number) + (len(number)-1)/4; int(got[2]) != want {
					t.Errorf("%s is shown with %v characters, want %d", number, got[2], want)
				}
				if got[3] < 16 {
					t.Errorf("the number is shown with %v pixels: phones zoom in below 16", got[3])
				}
			}
		}
		b.shot("number" + strings.ReplaceAll(strings.TrimSuffix(path, "/"), "/", "-"))
	}
}

// Sums, and a shop's longest words, on the narrowest screen that there is (WCAG 2.2, 1.4.10): nothing is cut off or wider than
// the screen, and no sum that people pay is torn in the middle.
func TestSumsFit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.tab(device{name: "narrow", width: 320, height: 640, phone: true}, "sums")
	lines := `Math.max(...[...document.querySelectorAll(".amount span, .amount small")].map((e) => e.getClientRects().length))`
	for _, language := range []string{"uz", "ru", "en"} {
		for _, sum := range []int64{12_345_000_00, 999_999_999_99, money.MaxMinor} {
			p := w.prepare(language, func(t *payment.Terms) {
				t.Amount, t.Description = money.New(sum, money.UZS), strings.Repeat("Superlongword", 30)
			})
			c, v, name := w.card("ok"), w.visitor(), fmt.Sprintf("%s-%d", language, len(p.Terms.Amount.Decimal()))
			look := func(page string) {
				t.Helper()
				b.shot(name + "-" + page)
				if n := evaluate[int](b, lines); n != 1 && sum != money.MaxMinor {
					t.Errorf("%s, %s: %s is torn into %d lines", page, language, text.For(language).Money(p.Terms.Amount), n)
				}
			}
			b.open("/pay/" + p.ID.String())
			look("card")
			v.pay(p, c)
			b.open("/uzcard/sms/" + p.ID.String())
			look("code")
			w.whileAsked("cards.new.verify", c, func() { w.visitor().enter(p, w.code(c)) })
			b.open("/status/" + p.ID.String())
			look("wait")
		}
	}
}

// All that a browser loads for the card page comes from us, and is light.
func TestNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.tab(phone, "network")
	var mu sync.Mutex
	var asked []string
	weight := 0.0
	err := chromedp.Listen(b.ctx, func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			asked = append(asked, e.Request.URL)
		case *network.EventLoadingFinished:
			weight += e.EncodedDataLength // with its headers
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	call(b, network.Enable, network.EnableParams{})
	p := w.prepare("ru")
	b.open("/pay/" + p.ID.String())
	b.reaches("pay", p, "#pan")
	b.until("the page to be counted", func() (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		return len(asked) > 0 && weight > 0, nil
	})
	loaded := evaluate[[]string](b, `performance.getEntriesByType("resource").map((e) => e.name)`)
	mu.Lock()
	defer mu.Unlock()
	for _, address := range append(loaded, asked...) {
		if !strings.HasPrefix(address, w.url+"/") {
			t.Errorf("the card page asks for %s", address)
		}
	}
	if asked[0] != w.url+"/pay/"+p.ID.String() {
		t.Errorf("the first request is %s", asked[0])
	}
	t.Logf("%.0f bytes in %d requests", weight, len(asked))
	if weight > 60_000 {
		t.Errorf("the card page weighs %.0f bytes, more than 60 KB", weight)
	}
	b.complaints()
}

// While the bank does not answer the page waits, says when it takes longer, and shows the result when it is there.
func TestWaitingInTheBrowser(t *testing.T) {
	t.Parallel()
	for _, d := range []device{phone, desktop.withoutScript()} {
		t.Run(d.name, func(t *testing.T) {
			w := newWorld(t)
			p, c := w.prepare("ru"), w.card("unknown_then_done")
			b := w.tab(d, "waiting")
			b.open("/pay/" + p.ID.String())
			b.fillCard(d, p, c)
			b.press("#card button")
			b.reaches("uzcard/sms", p, "#code")
			b.types("#code", w.code(c))
			w.fault(sim.Fault{Method: "cards.new.verify", Name: "withheld"})
			b.press("#sms button")
			w.happened()
			b.open("/pay/" + p.ID.String()) // he opens the link once more, out of impatience
			b.reaches("status", p, "[data-poll]")
			b.waitWords("h1", text.For("ru").Get("wait.title"))
			b.shot("1-wait")
			w.sim.ClearFaults() // the code is right; of the charge the bank says that it does not know yet
			b.waitWords("h1", text.For("ru").Get("doubt.title"))
			b.shot("2-doubt")
			w.pass(3 * time.Minute)
			if _, err := w.gateway.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.waitWords("h1", text.For("ru").Get("paid.title"))
			b.run(chromedp.WaitVisible(chromedp.CSS("#return")))
			if !d.noScript {
				b.waitWords("#soon", "Вы вернётесь в магазин через")
				b.press("#stay")
				b.run(chromedp.WaitNotVisible(chromedp.CSS("#soon")))
			}
			b.shot("3-paid")
			if n := len(w.sim.Books().Operations); n != 1 {
				t.Errorf("%d operations at the centre", n)
			}
			b.complaints()
		})
	}
}

// Whoever has paid is back at the shop after a while; who then comes back to the result stays there.
func TestBackToTheShopInTheBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.paid("en")
	b := w.tab(phone, "gone")
	b.stands(map[int]int{countsDown: 50})
	b.open("/status/" + p.ID.String())
	b.run(chromedp.WaitVisible(chromedp.CSS("#shop")))
	if at := b.location(); !strings.HasPrefix(at, w.back+"&") || !strings.Contains(at, "octo_status=succeeded") {
		t.Errorf("the payer came back to %s", at)
	}
	b.back()
	b.reaches("status", p, "#return")
	if !b.is(`document.querySelector("#soon").hidden`) {
		t.Error("the payer is about to be sent to the shop again")
	}
	b.complaints()
}

// 3-D Secure: the hidden frame, the bank's page on another site, a wrong code there, the back button and reload in the
// middle of it, and the way back; with and without JavaScript.
func TestBankInTheBrowser(t *testing.T) {
	t.Parallel()
	for _, d := range []device{phone, desktop.withoutScript()} {
		t.Run(d.name, func(t *testing.T) {
			w := newWorld(t)
			p, c := w.prepare("en"), w.cardOf("visa", "ok")
			b := w.tab(d, "bank")
			b.open("/pay/" + p.ID.String())
			b.fillCard(d, p, c)
			b.press("#card button")
			if d.noScript {
				b.reaches("3ds", p, "#proceed button")
				b.shot("1-look")
			}
			b.toTheBank(d, p)
			if at := b.location(); !strings.HasPrefix(at, "http://localhost:") {
				t.Errorf("the bank's page is at %s", at)
			}
			b.tellTheBank(wrong(w.code(c)))
			b.waitWords("[role=alert]", "This code is not right.")
			b.reload() // the browser posts once more, and the try is counted as what it is
			b.waitWords("form", "left.")
			// Back from the bank's page: ours waits there and does not throw him forward again.
			for range 3 {
				if strings.HasPrefix(b.location(), w.url) {
					break
				}
				b.back()
			}
			b.reaches("3ds", p, "#bank button")
			b.reload()
			b.reaches("3ds", p, "#bank button")
			b.shot("2-back")
			// The form for the card is no place to go back to: the payment is at the bank.
			b.open("/pay/" + p.ID.String())
			b.reaches("3ds", p, "#bank button")
			b.press("#bank button")
			b.run(chromedp.WaitVisible(chromedp.CSS("input[name=code]")))
			b.tellTheBank(w.code(c))
			b.fromTheBank(d)
			b.reaches("status", p, "#return")
			b.waitWords("dl", w.payment(p.ID).Attempt.Centre.RRN)
			b.shot("3-paid")
			b.complaints()
			// Whoever goes back now would send the bank's form once more, which our page does not allow, or ends here again.
			b.pressBack()
			b.open("/3ds/" + p.ID.String())
			b.reaches("status", p, "#return")
			if got := w.payment(p.ID); got.State != payment.Captured || got.Attempts != 1 {
				t.Errorf("the payment is %s after %d attempts", got.State, got.Attempts)
			}
			if n := len(w.sim.SMS(c.Phone)); n != 1 {
				t.Errorf("%d SMS were sent", n)
			}
		})
	}
}

// Whoever has come back to the page before the bank's and confirms the payment in another tab sees here that it is paid, and
// does not go to the bank once more; and whoever gets no further at the bank finds the way to the shop.
func TestConfirmedInAnotherTab(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, c, other := w.prepare("en"), w.cardOf("visa", "ok"), w.visitor()
	other.pay(p, c)
	other.post("/3ds/"+p.ID.String()+"?language=en", "step", "method")
	to, fields := other.bankForm()
	b := w.tab(phone, "another-tab")
	b.open("/3ds/" + p.ID.String() + "?again=1")
	b.reaches("3ds", p, "#bank button")
	if to := evaluate[string](b, `document.querySelector("#return").href`); !strings.HasPrefix(to, w.back) || !strings.Contains(to, "octo_status=wait_user_action") {
		t.Errorf("the way to the shop is %s", to)
	}
	b.shot("waits")
	other.post(to, fields...)
	to, fields = other.bankForm()
	other.post(to, append(slices.Clone(fields), "code", w.code(c), "do", "submit")...)
	if got := w.payment(p.ID).State; got != payment.Challenged {
		t.Fatalf("the payment is %s before anybody has asked", got)
	}
	b.reaches("3ds", p, "#bank button")
	to, fields = other.bankForm()
	other.post(to, fields...)
	b.reaches("status", p, "#return")
	b.waitWords("h1", text.For("en").Get("paid.title"))
	b.complaints()
}

// What else a bank may do: ask nothing, let its page never load, refuse the payer, or be given up by him.
func TestBanksInTheBrowser(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		language, scheme, behaviour string
		device                      device
	}{
		{"en", "visa", "frictionless", phone}, {"uz", "mastercard", "no_method", phone.inTheDark()}, {"en", "mastercard", "method_timeout", desktop},
		{"ru", "visa", "challenge_fails", phone}, {"uz", "visa", "challenge_fails", phone.withoutScript()}, {"en", "visa", "given up", phone},
	} {
		t.Run(c.scheme+"/"+c.behaviour+"/"+c.device.name, func(t *testing.T) {
			w := newWorld(t)
			behaviour := c.behaviour
			if behaviour == "given up" {
				behaviour = "ok"
			}
			texts, card := text.For(c.language), w.cardOf(c.scheme, behaviour)
			p := w.prepare(c.language, twoStage)
			b := w.tab(c.device, "bank-"+strings.ReplaceAll(c.behaviour, " ", "-"))
			if c.behaviour == "method_timeout" {
				b.stands(map[int]int{goesOn: 500})
			}
			b.open("/pay/" + p.ID.String() + "?language=" + c.language)
			b.fillCard(c.device, p, card)
			b.press("#card button")
			if c.behaviour != "frictionless" {
				b.toTheBank(c.device, p)
			}
			switch c.behaviour {
			case "challenge_fails":
				for left := 2; left >= 0; left-- {
					b.tellTheBank(w.code(card))
					if left > 0 {
						b.waitWords("form", fmt.Sprintf("%d tr", left))
					}
				}
				b.fromTheBank(c.device)
			case "given up":
				b.press("button[value=cancel]")
				b.fromTheBank(c.device)
			case "no_method", "method_timeout":
				b.tellTheBank(w.code(card))
			}
			if c.behaviour != "challenge_fails" && c.behaviour != "given up" {
				b.reaches("status", p, "#return")
				if got := w.payment(p.ID).State; got != payment.Held {
					t.Errorf("the payment is %s", got)
				}
				b.complaints()
				return
			}
			b.reaches("pay", p, "#pan")
			b.waitWords("[role=alert]", texts.Reason(payment.AuthenticationFailed))
			b.shot("refused")
			if got := w.payment(p.ID).State; got != payment.Created {
				t.Errorf("the payment is %s and does not wait for another card", got)
			}
			b.complaints()
		})
	}
}

// What can be pressed is large enough for a thumb, and what can be read stands out from its ground
// (WCAG 2.2, 2.5.5 and 1.4.3), in light and in the dark.
func TestThumbsAndEyes(t *testing.T) {
	t.Parallel()
	const audit = `(() => {
		const found = [], luminance = (c) => {
			const [r, g, b] = c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
			return 0.2126 * r + 0.7152 * g + 0.0722 * b;
		};
		const rgb = (s) => (s.match(/[0-9.]+/g) || []).map(Number);
		const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
		for (const e of document.querySelectorAll("a, button, summary, .tile, input:not([type=hidden]):not([type=radio])")) {
			const box = e.getBoundingClientRect();
			if (box.width && (box.height < 44 || box.width < 44)) found.push("small: " + e.outerHTML.slice(0, 80) + " " + box.width + "x" + box.height);
		}
		for (const e of document.querySelectorAll("body *")) {
			if (!e.getClientRects().length || e.closest("svg") || ![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
			const a = luminance(rgb(getComputedStyle(e).color).slice(0, 3)), b = luminance(ground(e));
			const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
			if (ratio < 4.5) found.push("faint: " + ratio.toFixed(2) + " " + e.textContent.trim().slice(0, 60));
		}
		return found.join("\n");
	})()`
	for _, d := range []device{phone, phone.inTheDark()} {
		w := newWorld(t)
		b := w.tab(d, "eyes")
		for _, s := range scenes {
			b.open(s.make(w, "ru"))
			if found := evaluate[string](b, audit); found != "" {
				t.Errorf("%s, %s:\n%s", d.name, s.name, found)
			}
		}
	}
}

// The pages that nobody wants to see, for the eye.
func TestPicturesOfTheRest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.tab(phone, "rest")
	for _, s := range scenes {
		if strings.Contains("card refused, cancelled, expired, unknown, hold let go, card with problems, code expired, captured in part", s.name) {
			path := s.make(w, "uz")
			b.open(path)
			b.run(chromedp.WaitVisible(chromedp.CSS("h1")))
			b.shot(strings.ReplaceAll(s.name, " ", "-"))
		}
	}
}
