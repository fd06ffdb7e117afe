// Package pages is what payers see: the card form, the code from the SMS, the wait, and the
// result. Every page is made on the server and works without JavaScript; one script of ours
// spares people mistakes and waiting.
//
// A form never answers with a page: it sends the browser on to one, so that reload and the back
// button repeat nothing. Of a card no page, address or log line has more than its first six and
// last four digits.
//
// Order to read: pages.go (routes, rules for the browser, drawing), pay.go (the card), code.go
// (the code), bank.go (3-D Secure), status.go (everything else), form.go (reading what people type). The words are in
// web/text; scripts.txt is the inventory of what runs on the card's page.
package pages

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/internal/gateway"
	"holdfast/internal/merchant"
	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/web"
	"holdfast/internal/web/text"
)

// Config is what the pages need.
type Config struct {
	Gateway *gateway.Gateway
	Store   *store.Store
	BaseURL string // where payers reach the pages; with https the browser is told to insist on it
	Log     *slog.Logger
}

// formBytes bounds a form: a card and an e-mail address are far smaller.
const formBytes = 16 << 10

//go:embed page.css
var styles string

//go:embed page.js
var script string

//go:embed icon.svg
var icon []byte

//go:embed page.html
var pageHTML string

var (
	templates = template.Must(template.New("").Parse(pageHTML))
	// They are whole elements, so that the browser hashes exactly the bytes that we do.
	styleElement  = template.HTML("<style>" + styles + "</style>")
	scriptElement = template.HTML("<script>" + script + "</script>")
)

// hash names a source in a Content-Security-Policy.
func hash(source string) string {
	sum := sha256.Sum256([]byte(source))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// policyFor lets the browser run and show what is ours, and nothing else. bank is where else forms may
// go and frames come from; empty on every page but the one before 3-D Secure, which has no card on it.
func policyFor(bank string) string {
	frames := ""
	if bank != "" {
		bank = " " + bank
		frames = "frame-src 'self'" + bank + "; "
	}
	return "default-src 'none'; script-src '" + hash(script) + "'; style-src '" + hash(styles) + "'; img-src 'self'; connect-src 'self'; " + frames +
		"form-action 'self'" + bank + "; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
}

var policy = policyFor("")

// Paths are the first path elements of the pages. /pay is the merchant API's too: the pages take what
// browsers ask for there.
var Paths = []string{"pay", "card", "3ds", "status", "resend", string(payment.Uzcard), string(payment.Humo), string(payment.BankCard), "icon.svg"}

// site answers for the pages.
type site struct {
	cfg    Config
	https  bool
	ranges atomic.Pointer[drawnRanges] // the card range table as the script last got it
}

// New makes the pages. They take GET and HEAD of /pay/…, /{method}/sms/…, /3ds/…, /status/… and
// /icon.svg, and POST of /card/…, /{method}/sms/…, /resend/… and /3ds/…; whatever else comes is told
// that it is not there. A bank's pages (3-D Secure) are to send the payer's browser back to
// /3ds/{uuid}/back, and the hidden frame of the method step to /3ds/{uuid}/method.
func New(cfg Config) http.Handler {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &site{cfg: cfg}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pay/{uuid}", s.with(s.payPage))
	mux.HandleFunc("GET /3ds/{uuid}", s.with(s.bankPage))
	mux.HandleFunc("GET /status/{uuid}", s.with(s.statusPage))
	mux.HandleFunc("POST /card/{uuid}", s.with(s.takeCard))
	for _, m := range payment.Methods {
		mux.HandleFunc("GET /"+string(m)+"/sms/{uuid}", s.with(s.codePage))
		mux.HandleFunc("POST /"+string(m)+"/sms/{uuid}", s.with(s.takeCode))
	}
	mux.HandleFunc("POST /resend/{uuid}", s.with(s.resend))
	// Where forms go there is no page: whoever opens such an address is sent to where he can go on.
	mux.HandleFunc("GET /card/{uuid}", s.with(s.elsewhere))
	mux.HandleFunc("GET /resend/{uuid}", s.with(s.elsewhere))
	mux.HandleFunc("POST /3ds/{uuid}", s.with(s.lookedAt))
	mux.HandleFunc(backPath, s.with(s.backFromBank))
	mux.HandleFunc(methodPath, methodDone)
	mux.HandleFunc("GET /icon.svg", serveIcon)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.sorry(w, r, http.StatusNotFound, "unknown") })

	sameOrigin := http.NewCrossOriginProtection()
	// What comes from a bank comes from elsewhere. It proves nothing and says nothing: the centre is asked.
	sameOrigin.AddInsecureBypassPattern(backPath)
	sameOrigin.AddInsecureBypassPattern(methodPath)
	if u, err := url.Parse(cfg.BaseURL); err == nil && u.Host != "" {
		s.https = u.Scheme == "https"
		// Behind a proxy the Host header may be another than the one that payers see.
		if err := sameOrigin.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
			cfg.Log.Error("the pages' base URL names no origin", "base_url", cfg.BaseURL, "error", err)
		}
	}
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.sorry(w, r, http.StatusForbidden, "foreign") }))
	guarded := sameOrigin.Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.rules(w.Header())
		if status := web.TurnedAway(r); status != 0 {
			s.sorry(w, r, status, "busy")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, formBytes)
		guarded.ServeHTTP(w, r)
	})
}

// rules tell the browser what it may do with our answers.
func (s *site) rules(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("Cache-Control", "no-store")
	// Not no-referrer: that makes browsers send "Origin: null" with our own forms, and those of
	// before 2023 send nothing else to tell our form from a foreign one. Nothing goes to other sites.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Permissions-Policy", "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), midi=(), payment=(), usb=()")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if s.https {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

func serveIcon(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "image/svg+xml")
	w.Header().Set("Cache-Control", "public, max-age=86400")
	w.Write(icon)
}

// visit is one request about a payment.
type visit struct {
	w     http.ResponseWriter
	r     *http.Request
	t     text.Texts
	p     payment.Payment
	shop  merchant.Shop
	cards *store.Cards
	now   time.Time
}

// with finds the payment that the path names.
func (s *site) with(serve func(*visit)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := &visit{w: w, r: r, t: askedLanguage(r), now: s.cfg.Store.Now()}
		var err error
		if v.cards, err = s.cfg.Store.Cards(r.Context()); err != nil {
			s.fail(v, err)
			return
		}
		id, err := payment.ParseID(r.PathValue("uuid"))
		if err != nil {
			s.unknown(v)
			return
		}
		v.p, err = s.cfg.Store.Payment(r.Context(), id)
		if errors.Is(err, store.ErrNotFound) {
			s.unknown(v)
			return
		}
		if err == nil {
			web.Note(w, id.String())
			v.shop, err = s.cfg.Store.Shop(r.Context(), v.p.Shop)
		}
		if err != nil {
			s.fail(v, err)
			return
		}
		if !text.Known(r.URL.Query().Get("language")) {
			v.t = text.For(v.p.Terms.Language)
		}
		serve(v)
	}
}

// unknown takes as long as a page does: a shop is looked up and a page drawn that nobody gets.
func (s *site) unknown(v *visit) {
	v.shop, _ = s.cfg.Store.Shop(v.r.Context(), 0)
	v.p = payment.Payment{State: payment.Created, Terms: payment.Terms{Methods: payment.Methods, User: &payment.User{}}}
	templates.ExecuteTemplate(io.Discard, "pay", s.payView(v))
	s.sorry(v.w, v.r, http.StatusNotFound, "unknown")
}

// askedLanguage is the language of the address, else the first of the browser's that we have.
func askedLanguage(r *http.Request) text.Texts {
	if name := r.URL.Query().Get("language"); text.Known(name) {
		return text.For(name)
	}
	for _, wish := range strings.Split(r.Header.Get("Accept-Language"), ",") {
		name, _, _ := strings.Cut(wish, ";")
		name, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(name)), "-")
		if text.Known(name) {
			return text.For(name)
		}
	}
	return text.For(text.Default)
}

// frame is what every page has.
type frame struct {
	T         text.Texts
	Title     string
	Kind      string // of the page: one or two columns
	Test      bool
	Refresh   int // seconds, for browsers without our script; 0: never
	Style     template.HTML
	Script    template.HTML
	Languages []languageLink
}

type languageLink struct {
	text.Choice
	Href string
}

// kept are the parameters of an address that a change of language keeps.
var kept = []string{"problem", "refused", "sent", "again"}

// newFrame makes the frame of the page at the request's address.
func newFrame(t text.Texts, r *http.Request, title, kind string) frame {
	f := frame{T: t, Title: title, Kind: kind, Style: styleElement, Script: scriptElement}
	query := r.URL.Query()
	for _, c := range t.Choices() {
		other := url.Values{"language": {c.Language}}
		for _, name := range kept {
			if query.Has(name) {
				other[name] = query[name]
			}
		}
		f.Languages = append(f.Languages, languageLink{c, r.URL.EscapedPath() + "?" + other.Encode()})
	}
	return f
}

// href is a page of the payment, in the visit's language.
func (v *visit) href(path string, pairs ...string) string {
	query := url.Values{"language": {v.t.Language()}}
	for i := 0; i+1 < len(pairs); i += 2 {
		query.Add(pairs[i], pairs[i+1])
	}
	return path + "?" + query.Encode()
}

// to is the address of a page or form of the payment by the path before its UUID.
func (v *visit) to(place string, pairs ...string) string {
	return v.href("/"+place+"/"+v.p.ID.String(), pairs...)
}

// next is the path of the page on which the payer goes on.
func next(p *payment.Payment, now time.Time) string {
	place := "status"
	switch {
	case lapsed(p, now):
	case atBank(p):
		place = "3ds"
	case p.Open != nil:
	case p.State == payment.Created:
		place = "pay"
	case p.State == payment.Challenged:
		place = string(p.Attempt.Method) + "/sms"
	}
	return "/" + place + "/" + p.ID.String()
}

// lapsed reports that nobody can pay any more, although the gateway may not have noted it yet.
func lapsed(p *payment.Payment, now time.Time) bool {
	return (p.State == payment.Created || p.State == payment.Challenged) && !now.Before(p.Terms.ExpiresAt)
}

// atBank reports that the payer has to prove himself at his bank (3-D Secure), within a question that is open.
func atBank(p *payment.Payment) bool {
	return p.State == payment.Challenged && p.Open != nil && p.Open.Outcome == payment.ChallengeGiven
}

// goOn sends the payer to where he goes on.
func (s *site) goOn(v *visit) { v.redirect(v.href(next(&v.p, v.now))) }

// elsewhere does so for a page or form that is not the one where he goes on: he may have come to it
// by the back button.
func (s *site) elsewhere(v *visit) {
	if atBank(&v.p) {
		v.redirect(v.href(next(&v.p, v.now), "again", "1"))
		return
	}
	s.goOn(v)
}

func (v *visit) redirect(to string) { http.Redirect(v.w, v.r, to, http.StatusSeeOther) }

// after sends the payer on from a form that the gateway has answered.
func (s *site) after(v *visit, p payment.Payment, err error, pairs ...string) {
	var refused *payment.Error
	if errors.As(err, &refused) {
		// What refused it may have happened since the page was made: where he goes on is in the store.
		if p, err = s.cfg.Store.Payment(v.r.Context(), v.p.ID); err == nil {
			pairs = []string{"refused", string(refused.Reason)}
		}
	}
	if err != nil {
		s.fail(v, err)
		return
	}
	v.redirect(v.href(next(&p, s.cfg.Store.Now()), pairs...))
}

// draw writes a page.
func (s *site) draw(w http.ResponseWriter, status int, name string, view any) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, view); err != nil {
		s.cfg.Log.Error("a page cannot be drawn", "page", name, "error", err)
		http.Error(w, "The page cannot be drawn.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

// sorry is the page about something that is not as it should be; what is the beginning of its texts' keys. It leads on to
// the payment: whoever was sent here by a shop has no other link to it, and a reload would send a form again.
func (s *site) sorry(w http.ResponseWriter, r *http.Request, status int, what string) {
	t := askedLanguage(r)
	view := statusView{frame: newFrame(t, r, t.Get(what+".title"), "status"), Mood: "bad", Heading: t.Get(what + ".title"), Text: t.Get(what + ".text")}
	if id := w.Header().Get("X-Request-Id"); status >= 500 && id != "" {
		view.Text += " " + t.Get("failed.id", "id", id)
	}
	if id, ok := named(r); ok && status != http.StatusNotFound {
		view.OnHref = "/status/" + id.String()
		if asked := r.URL.Query().Get("language"); text.Known(asked) { // else the payment's own, which is not known here
			view.OnHref += "?language=" + asked
		}
	}
	s.draw(w, status, "status", view)
}

// named is the payment that a page's address names, whether there is one or not.
func named(r *http.Request) (payment.ID, bool) {
	for element := range strings.SplitSeq(r.URL.Path, "/") {
		if id, err := payment.ParseID(element); err == nil {
			return id, true
		}
	}
	return payment.ID{}, false
}

// fail answers for a failure of ours.
func (s *site) fail(v *visit, err error) {
	status := http.StatusInternalServerError
	switch {
	case v.r.Context().Err() != nil, errors.Is(err, store.ErrClosed): // the payer or the process is leaving
		status = http.StatusServiceUnavailable
	default:
		s.cfg.Log.Error("a page failed by us", "payment", v.p.ID, "error", err)
	}
	s.sorry(v.w, v.r, status, "failed")
}

// readForm reads a form's body; what is in the address does not count.
func (s *site) readForm(v *visit) bool {
	err := v.r.ParseForm()
	if err == nil && len(v.r.PostForm) > 0 {
		return true
	}
	status := http.StatusBadRequest
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		status = http.StatusRequestEntityTooLarge
	}
	s.sorry(v.w, v.r, status, "form")
	return false
}
