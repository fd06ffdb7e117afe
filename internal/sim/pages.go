package sim

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

//go:embed pages.html
var pagesHTML string

//go:embed style.css
var styleCSS []byte

var pageTemplates = template.Must(template.New("").Funcs(template.FuncMap{
	"sum":    sum,
	"pan":    spacedPAN,
	"expiry": func(exp string) string { return exp[2:] + "/" + exp[:2] },
	"moment": func(t time.Time) string { return t.Format("2006-01-02 15:04:05") },
	"phone":  func(p string) string { return "+" + p },
}).Parse(pagesHTML))

// page is what every page of the simulator shows beside its own content.
type page struct {
	Tab     string // cards, sms, books or faults
	Title   string
	Refresh int    // seconds after which the browser asks again; 0 is never
	Now     string // the simulator's clock
	Waiting int    // faults still to come
	Notice  string // what the last form did
	Problem string // what was wrong with it
	Content any
}

const pageOperations = 200 // how many operations the books page shows

// pages serves what people look at. No script runs in them, and none may.
func (s *Sim) pages(mux *http.ServeMux, guard *http.CrossOriginProtection) {
	mux.HandleFunc("GET /{$}", s.pageCards)
	mux.HandleFunc("GET /sms", s.pageSMS)
	mux.HandleFunc("GET /books", s.pageBooks)
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, r *http.Request) {
		s.pageFaults(w, http.StatusOK, Fault{}, r.FormValue("done"), "")
	})
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		s.write(w, styleCSS)
	})
	form := func(pattern string, do func(*http.Request) (Fault, string, error)) {
		mux.Handle("POST "+pattern, guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxScript)
			f, done, err := do(r)
			if err != nil {
				s.pageFaults(w, http.StatusBadRequest, f, "", err.Error())
				return
			}
			// After a form comes a redirect, so that reloading the page does not send it again.
			http.Redirect(w, r, "/faults?done="+url.QueryEscape(done), http.StatusSeeOther)
		})))
	}
	form("/faults", s.formFault)
	form("/faults/clear", func(*http.Request) (Fault, string, error) {
		s.ClearFaults()
		return Fault{}, "All faults are cleared.", nil
	})
	form("/clock", func(r *http.Request) (Fault, string, error) {
		minutes, err := strconv.Atoi(r.FormValue("minutes"))
		if err != nil || minutes < 1 || minutes > maxAdvance/60 {
			return Fault{}, "", fmt.Errorf("minutes: %q is no number from 1 to %d", r.FormValue("minutes"), maxAdvance/60)
		}
		now := s.advance(time.Duration(minutes) * time.Minute)
		return Fault{}, "The clock shows " + now.In(tashkent).Format("2006-01-02 15:04") + " now.", nil
	})
	form("/reset", func(*http.Request) (Fault, string, error) {
		s.Reset()
		return Fault{}, "Everything is as at the start.", nil
	})
}

func (s *Sim) formFault(r *http.Request) (Fault, string, error) {
	f := Fault{Method: r.FormValue("method"), Name: r.FormValue("fault")}
	f.PAN = strings.ReplaceAll(strings.TrimSpace(r.FormValue("pan")), " ", "")
	for _, field := range []struct {
		name string
		to   *int
	}{{"times", &f.Times}, {"after", &f.After}, {"code", &f.Code}} {
		if text := strings.TrimSpace(r.FormValue(field.name)); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil {
				return f, "", fmt.Errorf("%s: %q is no whole number", field.name, text)
			}
			*field.to = n
		}
	}
	if err := s.AddFault(f); err != nil {
		return f, "", err
	}
	return f, f.Name + " will happen to " + f.Method + ".", nil
}

// show fills in what all pages have and sends one.
func (s *Sim) show(w http.ResponseWriter, status int, p page) {
	s.mu.Lock()
	p.Now = s.clock().In(tashkent).Format("2006-01-02 15:04:05")
	p.Waiting = len(s.faults)
	s.mu.Unlock()
	var b bytes.Buffer
	if err := pageTemplates.ExecuteTemplate(&b, "page", p); err != nil {
		s.log.Error("cannot draw a page", "page", p.Tab, "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h["Content-Type"] = htmlType
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	s.write(w, b.Bytes())
}

// cardGroup is a part of the cards page: cards of a scheme that go wrong at the same moment.
type cardGroup struct {
	Title, Intro string
	Cards        []Card
}

// schemeCards is one scheme's part of the page.
type schemeCards struct {
	Scheme, Name, Rule string
	Groups             []cardGroup
}

var stepTitle = [...]string{
	never: "Poor, lost and stolen", atOTP: "Refused when the SMS code is asked for", atVerify: "Refused when the code is entered",
	atHold: "Wrong at the hold, or at the charge at once", atCapture: "Wrong at the capture", atVoid: "Wrong when the hold is given back",
	atRefund: "Wrong at the refund", at3DS: "3-D Secure",
}

func (s *Sim) pageCards(w http.ResponseWriter, r *http.Request) {
	schemes := []schemeCards{
		{Scheme: uzcard, Name: "Uzcard", Rule: "860014"}, {Scheme: humo, Name: "Humo", Rule: "986014"},
		{Scheme: visa, Name: "Visa", Rule: "400000"}, {Scheme: mastercard, Name: "Mastercard", Rule: "555555"},
	}
	s.mu.Lock()
	s.clock()
	for i := range schemes {
		c := &schemes[i]
		methods := stepMethods[c.Scheme]
		if methods == nil {
			methods = stepMethods[visa]
		}
		works := cardGroup{Title: "Cards that work", Intro: "The first has money without end and always the same SMS code."}
		steps := make([]cardGroup, len(stepTitle))
		for at := range steps {
			steps[at].Title = stepTitle[at]
			if at < len(methods) {
				steps[at].Intro = methods[at]
			}
		}
		for _, a := range s.cards {
			switch {
			case a.scheme != c.Scheme:
			case a.behaviour.name == "ok":
				works.Cards = append(works.Cards, a.card())
			default:
				at := a.behaviour.at
				steps[at].Cards = append(steps[at].Cards, a.card())
			}
		}
		c.Groups = []cardGroup{works}
		// 3-D Secure comes before the rest, as it does in a payment.
		for _, at := range []step{never, at3DS, atOTP, atVerify, atHold, atCapture, atVoid, atRefund} {
			if len(steps[at].Cards) > 0 {
				c.Groups = append(c.Groups, steps[at])
			}
		}
	}
	s.mu.Unlock()
	s.show(w, http.StatusOK, page{Tab: "cards", Title: "Test cards", Content: schemes})
}

func (s *Sim) pageSMS(w http.ResponseWriter, r *http.Request) {
	asked := r.FormValue("phone")
	phone, err := bareNumber(asked)
	p := page{Tab: "sms", Title: "SMS inbox", Refresh: 3}
	status := http.StatusOK
	var messages []Message
	if err != nil {
		p.Problem, p.Refresh, status = err.Error(), 0, http.StatusBadRequest
	} else {
		s.mu.Lock()
		messages = s.inbox.newest(s.cards, phone, defaultLimit)
		s.mu.Unlock()
	}
	p.Content = struct {
		Phone    string
		Messages []Message
	}{asked, messages}
	s.show(w, status, p)
}

func (s *Sim) pageBooks(w http.ResponseWriter, r *http.Request) {
	var content struct {
		Cards      []CardBook
		Operations []Operation
		Count      uint32
		Shown      int
	}
	s.mu.Lock()
	s.clock()
	for _, c := range s.cardBooks() {
		if c.Balance != c.Opening || c.Held != 0 {
			content.Cards = append(content.Cards, c)
		}
	}
	content.Count = s.count
	for n := s.count; n > 0 && s.count-n < pageOperations; n-- {
		content.Operations = append(content.Operations, s.operation(n-1))
	}
	s.mu.Unlock()
	content.Shown = len(content.Operations)
	s.show(w, http.StatusOK, page{Tab: "books", Title: "The centre's books", Content: content})
}

func (s *Sim) pageFaults(w http.ResponseWriter, status int, form Fault, notice, problem string) {
	if form.Times == 0 {
		form.Times = 1
	}
	s.show(w, status, page{Tab: "faults", Title: "Faults", Notice: notice, Problem: problem, Content: struct {
		Form    Fault
		Waiting []Fault
		Names   []faultKind
		Methods []string
	}{form, s.Faults(), faultKinds, append([]string{"*"}, methodNames()...)}})
}

// sum writes tiyin as sums, with thin groups of three: 1234567 is "12 345.67".
func sum(tiyin int64) string {
	text := strconv.FormatInt(tiyin/100, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "\u202f" + text[i:] // a narrow space that does not break the line
	}
	return fmt.Sprintf("%s.%02d", text, tiyin%100)
}

// spacedPAN writes a card number in fours.
func spacedPAN(pan string) string {
	var b strings.Builder
	for i, c := range pan {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return b.String()
}
