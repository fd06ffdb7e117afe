package pages

import (
	"io"
	"net/http"
	"net/url"

	"holdfast/internal/payment"
)

// Where a bank's pages send the payer's browser back to.
const (
	backPath   = "/3ds/{uuid}/back"   // after the challenge; its cres is not read
	methodPath = "/3ds/{uuid}/method" // after the method step, in its hidden frame
)

// bankView is the page between ours and the bank's.
type bankView struct {
	frame
	sumView
	BankHref, Name, Data string // where the browser posts, and what
	Look                 bool   // the method step: in a hidden frame
	Proceed              string // where our own form goes on after it
	Auto                 bool   // our script goes on by itself
	Poll, Seen           string // as on the status page, for who stays here
	ReturnHref           string
}

// bankPage sends the payer's browser to his bank, or lets the bank look at it. Whoever comes back, by
// the back button or before he has finished there, finds a button and is not thrown forward again. Without our
// script there is only the button; the method step is then left out, and the centre knows what that means. He may have
// confirmed the payment in another tab: the page looks for news. And the bank's page may not work: then the shop's is the
// only other way.
func (s *site) bankPage(v *visit) {
	if place := next(&v.p, v.now); place != v.r.URL.Path {
		s.goOn(v)
		return
	}
	c := v.p.Attempt.Challenge
	view := bankView{frame: newFrame(v.t, v.r, v.t.Get("bank.title"), "two"), sumView: v.sum(), BankHref: c.URL, Data: c.Data, Name: "creq", Auto: !v.r.URL.Query().Has("again")}
	view.Test = v.p.Terms.Test
	if c.Step == payment.StepMethod {
		view.Look, view.Name, view.Proceed = true, "threeDSMethodData", v.to("3ds")
	} else if !view.Auto {
		view.Poll, view.Seen, view.ReturnHref = v.to("status"), seenBank, returnURL(&v.p)
	}
	bank := "https:" // banks send browsers on to other hosts of theirs
	if u, err := url.Parse(c.URL); err == nil && u.Scheme == "http" {
		bank += " http://" + u.Host // a simulator's
	}
	v.w.Header().Set("Content-Security-Policy", policyFor(bank))
	s.draw(v.w, http.StatusOK, "bank", view)
}

// lookedAt goes on after the method step.
func (s *site) lookedAt(v *visit) {
	p, err := s.cfg.Gateway.Proceed(v.r.Context(), v.p.ID, payment.StepMethod)
	s.after(v, p, err)
}

// backFromBank goes on after the challenge, however often the browser says so.
func (s *site) backFromBank(v *visit) {
	if v.r.Method != http.MethodGet && v.r.Method != http.MethodPost {
		s.goOn(v)
		return
	}
	p, err := s.cfg.Gateway.Proceed(v.r.Context(), v.p.ID, payment.StepChallenge)
	s.after(v, p, err, "again", "1") // still at it: he must not be thrown to and fro
}

// methodDone answers in the hidden frame: our page around it sees that the bank has finished looking.
func methodDone(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'")
	h.Set("X-Frame-Options", "SAMEORIGIN")
	h.Set("Content-Type", "text/html; charset=utf-8")
	io.WriteString(w, "<!doctype html><title>done</title>")
}
