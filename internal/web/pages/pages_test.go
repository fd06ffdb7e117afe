package pages

import (
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/sim"
	"holdfast/internal/web"
	"holdfast/internal/web/text"
)

var update = flag.Bool("update", false, "write scripts.txt anew")

// Every page in every language: whole, within its rules, with nothing from elsewhere, and small.
func TestEveryPage(t *testing.T) {
	for _, language := range text.Languages {
		w := newWorld(t)
		for _, s := range scenes {
			t.Run(language+"/"+s.name, func(t *testing.T) {
				path := s.make(w, language)
				separator := "?"
				if strings.Contains(path, "?") {
					separator = "&"
				}
				got := w.visitor().get(path + separator + "language=" + language)
				want := http.StatusOK
				if s.name == "unknown" || s.name == "no uuid" || s.name == "nothing" {
					want = http.StatusNotFound
				}
				if got.status != want {
					t.Fatalf("%s answers %d, want %d", path, got.status, want)
				}
				checkRules(t, got)
				checkStructure(t, got.body)
				if tag := text.For(language).Tag(); !strings.Contains(got.body, `<html lang="`+tag+`">`) {
					t.Errorf("the page does not say that its language is %s", tag)
				}
				if len(got.body) > 60_000 {
					t.Errorf("the page has %d bytes, more than 60 KB", len(got.body))
				}
			})
		}
	}
}

func checkRules(t *testing.T, got page) {
	t.Helper()
	csp := got.header.Get("Content-Security-Policy")
	for element, directive := range map[string]string{"style": "style-src", "script": "script-src"} {
		sources := regexp.MustCompile(`(?s)<`+element+`>(.*?)</`+element+`>`).FindAllStringSubmatch(got.body, -1)
		if len(sources) != 1 {
			t.Fatalf("the page has %d elements %s, want one", len(sources), element)
		}
		sum := sha256.Sum256([]byte(sources[0][1]))
		if want := directive + " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "';"; !strings.Contains(csp, want) {
			t.Errorf("the policy does not let the page's own %s be used: it has no %q", element, want)
		}
	}
	for _, rule := range []string{"default-src 'none';", "form-action 'self'", "frame-ancestors 'none';", "base-uri 'none';"} {
		if !strings.Contains(csp, rule) {
			t.Errorf("the policy lacks %q: %s", rule, csp)
		}
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "same-origin", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff"} {
		if got := got.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got.header.Get("Permissions-Policy") == "" || got.header.Get("Strict-Transport-Security") != "" {
		t.Error("wanted a Permissions-Policy, and no HSTS over plain HTTP")
	}
}

var (
	tags       = regexp.MustCompile(`(?s)<(/?)([a-z][a-z0-9]*)((?:[^<>"]|"[^"]*")*?)(/?)>`)
	attributes = regexp.MustCompile(`([a-z-]+)(?:="([^"]*)")?`)
	void       = []string{"meta", "link", "input", "br"}
)

// checkStructure looks for what a careless template gets wrong: elements that are not closed, ids
// that are there twice, references to nothing, inputs without a label, styles and scripts in
// attributes, addresses of others, words that are missing.
func checkStructure(t *testing.T, body string) {
	t.Helper()
	body = regexp.MustCompile(`(?s)<(style|script)>.*?</(style|script)>`).ReplaceAllString(body, "")
	var open []string
	ids, labels, inputs := map[string]bool{}, map[string]bool{}, map[string]bool{}
	var references []string
	headings := 0
	for _, tag := range tags.FindAllStringSubmatch(body, -1) {
		name := tag[2]
		if tag[1] == "/" {
			if len(open) == 0 || open[len(open)-1] != name {
				t.Fatalf("</%s> closes %v", name, open)
			}
			open = open[:len(open)-1]
			continue
		}
		has := map[string]string{}
		for _, a := range attributes.FindAllStringSubmatch(tag[3], -1) {
			if _, twice := has[a[1]]; twice {
				t.Errorf("<%s> has the attribute %s twice", name, a[1])
			}
			has[a[1]] = a[2]
			if a[1] == "style" || strings.HasPrefix(a[1], "on") {
				t.Errorf("<%s> has the attribute %s, which the policy forbids", name, a[1])
			}
		}
		if id := has["id"]; id != "" {
			if ids[id] {
				t.Errorf("the id %s is there twice", id)
			}
			ids[id] = true
		}
		references = append(references, strings.Fields(has["aria-describedby"])...)
		if to := has["for"]; to != "" {
			references = append(references, to)
			labels[to] = true
		}
		if kind := has["type"]; name == "input" && kind != "hidden" && kind != "radio" {
			inputs[has["id"]] = true
			if (has["id"] == "pan" || has["id"] == "cvc2" || has["id"] == "code") && has["value"] != "" {
				t.Errorf("the field %s comes with a value", has["id"])
			}
		}
		if name == "h1" {
			headings++
		}
		if !slices.Contains(void, name) && tag[4] != "/" && name != "doctype" {
			open = append(open, name)
		}
	}
	if len(open) > 0 {
		t.Errorf("not closed: %v", open)
	}
	for _, id := range references {
		if !ids[id] {
			t.Errorf("something refers to the id %q, which is not there", id)
		}
	}
	for id := range inputs {
		if !labels[id] {
			t.Errorf("the input %q has no label", id)
		}
	}
	if headings != 1 {
		t.Errorf("the page has %d headings of the first level", headings)
	}
	for _, address := range regexp.MustCompile(`(?:src|href|action)="([^"]*)"`).FindAllStringSubmatch(body, -1) {
		a := address[1]
		if !strings.HasPrefix(a, "/") && !strings.HasPrefix(a, "http://127.0.0.1:") && !strings.HasPrefix(a, "http://localhost:") {
			t.Errorf("the page refers to %s", a)
		}
	}
	words := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(body, "\n")
	if found := regexp.MustCompile(`\b(pay|code|field|resend|reason|wait|receipt|back|method|held|paid|cancelled|declined|expired|unknown|failed|doubt|bank|form|foreign|unit)\.[a-z.]+\b|\{[a-z]+\}|ZgotmplZ|%!`).FindString(words); found != "" {
		t.Errorf("the page says %q", found)
	}
	if found := regexp.MustCompile(`ZgotmplZ|\{(sum|methods|card|phone|time|n)\}`).FindString(body); found != "" {
		t.Errorf("the page has %q in it", found)
	}
}

// What the templates and the code ask for must be there.
func TestEveryKeyHasWords(t *testing.T) {
	used := 0
	for _, file := range []string{"page.html", "pages.go", "pay.go", "code.go", "bank.go", "status.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\b(?:[tT]\.)?(Get|Count|add|say)\(? ?"([a-z0-9_]+\.[a-z0-9_.]+|back|test|to|privacy|language|receipt)"`).FindAllStringSubmatch(string(source), -1) {
			key := m[2]
			if strings.HasSuffix(key, ".") {
				continue // the rest is a value
			}
			used++
			for _, language := range text.Languages {
				texts := text.For(language)
				said := texts.Get(key)
				switch m[1] {
				case "Count":
					said = texts.Count(key, 2)
				case "say":
					said = texts.Get(key + ".title")
				}
				if said == key || said == key+".title" {
					t.Errorf("%s asks for %q, which has no words in %s", file, key, language)
				}
			}
		}
	}
	if used < 40 {
		t.Errorf("found only %d keys", used)
	}
	for _, problem := range problems {
		if text.For("en").Get("field."+problem) == "field."+problem {
			t.Errorf("the problem %s has no words", problem)
		}
	}
}

// scripts.txt is the inventory of what runs beside a card number (PCI DSS 6.4.3).
func TestScriptInventory(t *testing.T) {
	want := "# Every script that runs on the payer's pages, the card's included; there is no other, and the\n" +
		"# Content-Security-Policy lets no other run. Made by: make docs\n" +
		fmt.Sprintf("%s  page.js  %d bytes  ours; checks the card form as it is typed, counts the code's seconds down, looks for the result\n", hash(script), len(script))
	if *update {
		if err := os.WriteFile("scripts.txt", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("scripts.txt")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("scripts.txt is not up to date: review page.js and run make docs\n%s", want)
	}
	if got := strings.Count(pageHTML, "<script"); got != 0 {
		t.Errorf("page.html has %d script elements of its own", got)
	}
}

// The price of a page that everybody downloads on a phone.
func TestWeight(t *testing.T) {
	w := newWorld(t)
	got := w.visitor().get("/pay/" + w.prepare("ru").ID.String())
	weight := len(got.body) + len(icon)
	t.Logf("the card page weighs %d bytes: style %d, script %d", weight, len(styles), len(script))
	if weight > 60_000 {
		t.Errorf("the card page weighs %d bytes with its icon, more than 60 KB", weight)
	}
}

// An unknown payment must not be told from a known one by the time of the answer. Times on a busy machine prove
// nothing; what is done for the answer, counted in allocations, does: a page is drawn for both.
func TestUnknownTakesAsLong(t *testing.T) {
	w := newWorld(t)
	pages := New(Config{Gateway: w.gateway, Store: w.store, BaseURL: w.url, Log: slog.New(slog.DiscardHandler)})
	known, unknown := "/pay/"+w.prepare("uz").ID.String(), "/pay/01a0b6d4-0000-7000-8000-000000000000"
	var took [2][]time.Duration
	work := func(n int, path string) float64 {
		return testing.AllocsPerRun(100, func() {
			began := time.Now()
			record(pages, "GET", path)
			took[n] = append(took[n], time.Since(began))
		})
	}
	a, b := work(0, known), work(1, unknown)
	slices.Sort(took[0])
	slices.Sort(took[1])
	t.Logf("known: %.0f allocations, median %v; unknown: %.0f, %v", a, took[0][len(took[0])/2], b, took[1][len(took[1])/2])
	if b < a || b > 1.5*a {
		t.Errorf("for a known payment %.0f allocations are made, for an unknown one %.0f", a, b)
	}
}

// Who is turned away at the door, because his network guesses, is told so by a page in his language, and
// let in again later; a shop's program is told in the API's words.
func TestTurnedAway(t *testing.T) {
	w := newWorld(t)
	log := slog.New(slog.DiscardHandler)
	site := web.Site{
		API: http.NotFoundHandler(), Calls: []string{"pay"}, Log: log,
		Pages: New(Config{Gateway: w.gateway, Store: w.store, BaseURL: w.url, Log: log}), Paths: Paths,
	}.Handler()
	known := "/pay/" + w.prepare("en").ID.String() + "?language=ru"
	if got := record(site, "GET", known); got.Code != http.StatusOK {
		t.Fatalf("before any guess: %d", got.Code)
	}
	for range web.Guesses {
		if got := record(site, "GET", "/pay/01a0b6d4-0000-7000-8000-000000000000"); got.Code != http.StatusNotFound {
			t.Fatalf("a guess: %d", got.Code)
		}
	}
	for _, language := range text.Languages {
		got := record(site, "GET", strings.Replace(known, "=ru", "="+language, 1))
		if got.Code != http.StatusTooManyRequests || got.Header().Get("Retry-After") == "" || got.Header().Get("Content-Security-Policy") != policy {
			t.Errorf("%s: answered %d with %v", language, got.Code, got.Header())
		}
		if !strings.Contains(got.Body.String(), text.For(language).Get("busy.title")) {
			t.Errorf("%s: it says\n%s", language, got.Body)
		}
		checkStructure(t, got.Body.String())
	}
	if got := record(site, "POST", known); got.Code != http.StatusTooManyRequests || !strings.HasPrefix(got.Body.String(), `{"error":124,`) {
		t.Errorf("a shop's program is told %d %s", got.Code, got.Body)
	}
}

func TestHTTPSInsists(t *testing.T) {
	w := newWorld(t)
	recorder := record(New(Config{Gateway: w.gateway, Store: w.store, BaseURL: "https://pay.example.uz"}), "GET", "/pay/x")
	if got := recorder.Header().Get("Strict-Transport-Security"); !strings.HasPrefix(got, "max-age=") {
		t.Errorf("HSTS is %q", got)
	}
}

// Whoever tries on our page which card numbers exist is turned away as other guessers are.
func TestGuessedCards(t *testing.T) {
	w := newWorld(t)
	v := w.visitor()
	var p payment.Payment
	for i := range web.Guesses {
		if i%payment.MaxAttempts == 0 {
			p = w.prepare("en")
		}
		number := fmt.Sprintf("86001477%07d", i)
		for digit := '0'; digit <= '9'; digit++ { // the check digit
			if payment.Luhn(number + string(digit)) {
				number += string(digit)
				break
			}
		}
		if v.pay(p, sim.Card{PAN: number, Exp: "3012"}); i+1 < web.Guesses && v.last.status != http.StatusOK {
			t.Fatalf("guess %d: HTTP %d", i, v.last.status)
		}
	}
	if v.pay(w.prepare("en"), w.card("ok")); v.last.status != http.StatusTooManyRequests {
		t.Errorf("after %d card numbers that do not exist the next is answered %d", web.Guesses, v.last.status)
	}
}

// Forms from other websites are turned away; our own come through even where the browser hides where it is.
func TestForeignForms(t *testing.T) {
	w := newWorld(t)
	p, c := w.prepare("en"), w.card("ok")
	for _, headers := range []map[string]string{{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}} {
		request, _ := http.NewRequest("POST", w.url+"/card/"+p.ID.String(), strings.NewReader("pan="+c.PAN+"&exp=1230&email=a@example.uz"))
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for name, value := range headers {
			request.Header.Set(name, value)
		}
		got := w.visitor().do(request)
		if got.status != http.StatusForbidden {
			t.Errorf("%v: answered %d", headers, got.status)
		}
		checkStructure(t, got.body)
	}
	if len(w.sim.SMS(c.Phone)) != 0 {
		t.Error("a foreign form sent an SMS")
	}
}

// Whoever meets a page that can say nothing of his payment finds the way back to it, in the language that he reads.
func TestWayOn(t *testing.T) {
	w := newWorld(t)
	log := slog.New(slog.DiscardHandler)
	site := web.Site{Pages: New(Config{Gateway: w.gateway, Store: w.store, BaseURL: w.url, Log: log}), Paths: Paths, Log: log}.Handler()
	p := w.prepare("en")
	w.visitor().pay(p, w.card("ok"))
	id := p.ID.String()
	send := func(method, path string, headers ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(""))
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		recorder := httptest.NewRecorder()
		site.ServeHTTP(recorder, r)
		return recorder
	}
	leads := func(got *httptest.ResponseRecorder, status int, query string) {
		t.Helper()
		way := `<a class="deed" href="/status/` + id + query + `">`
		if got.Code != status || !strings.Contains(got.Body.String(), way) {
			t.Errorf("answered %d, want %d and %s", got.Code, status, way)
		}
		checkStructure(t, got.Body.String())
	}
	leads(send("POST", "/card/"+id+"?language=ru", "Sec-Fetch-Site", "cross-site"), http.StatusForbidden, "?language=ru")
	leads(send("POST", "/uzcard/sms/"+id, "Content-Type", "application/x-www-form-urlencoded"), http.StatusBadRequest, "")
	if got := w.visitor().get("/status/" + id); got.at.Path != "/uzcard/sms/"+id {
		t.Errorf("from there the payer comes to %s", got.path)
	}
	for range web.Guesses {
		if got := send("GET", "/pay/01a0b6d4-0000-7000-8000-000000000000"); strings.Contains(got.Body.String(), "/status/") {
			t.Fatal("a page of no payment leads on to it")
		}
	}
	leads(send("GET", "/pay/"+id+"?language=uz"), http.StatusTooManyRequests, "?language=uz")
}

func TestReturnURL(t *testing.T) {
	p := payment.Payment{State: payment.Captured, Terms: payment.Terms{ShopPaymentID: "a b&c"}}
	tail := "octo_status=succeeded&octo_payment_UUID=" + p.ID.String() + "&shop_transaction_id=a+b%26c"
	for from, want := range map[string]string{
		"https://shop.uz":                            "https://shop.uz?" + tail,
		"https://shop.uz/r?x=%20y&b=2;3#top":         "https://shop.uz/r?x=%20y&b=2;3&" + tail + "#top",
		"http://shop.uz/r?octo_status=failed&cart=7": "http://shop.uz/r?cart=7&" + tail,
	} {
		p.Terms.ReturnURL = from
		if got := returnURL(&p); got != want {
			t.Errorf("%s gives %s, want %s", from, got, want)
		}
	}
}
