package pages

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// statusView is the page that says how things stand.
type statusView struct {
	frame
	Mood       string // good, bad, or empty while the outcome is open
	Heading    string
	Number     string // of the sum
	Unit       string // of the sum
	Text       string
	Poll, Seen string // where to look for news, and what is known already
	Facts      []fact
	ReturnHref string
	OnHref     string // where the payer finds what became of a payment of which this page can say nothing
	Soon       string // what is said while the browser is about to go back to the shop, separated by bars
}

type fact struct{ Name, Value string }

// How the status page behaves.
const (
	refreshSeconds = 3                // without our script
	returnSeconds  = 15               // until the browser goes back to the shop
	freshFor       = 10 * time.Minute // how long after the payment it does so at all
)

// What the status page may be waiting for.
const (
	seenWait  = "wait"  // a question is under way
	seenDoubt = "doubt" // its answer is missing
	seenBank  = "bank"  // the payer is at his bank: the page before it asks, for he may be back in another tab
)

// statusPage says how things stand, or sends the payer to where he has to do something.
func (s *site) statusPage(v *visit) {
	here := next(&v.p, v.now) == v.r.URL.Path
	waiting := ""
	if !here && atBank(&v.p) {
		waiting = seenBank
	} else if p := &v.p; here && p.Open != nil && (p.State == payment.Created || p.State == payment.Challenged) {
		waiting = seenWait
		if p.Open.Outcome != "" {
			waiting = seenDoubt
		}
	}
	if seen := v.r.Header.Get("X-Seen"); seen != "" {
		// Our script only wants to know whether there is news.
		if seen == waiting {
			v.w.WriteHeader(http.StatusNoContent)
		}
		return
	}
	if !here {
		s.goOn(v)
		return
	}
	s.draw(v.w, http.StatusOK, "status", v.statusView(waiting))
}

func (v *visit) statusView(waiting string) *statusView {
	p, t := &v.p, v.t
	view := &statusView{frame: newFrame(t, v.r, "", "status"), Mood: "bad", ReturnHref: returnURL(p)}
	view.Test = p.Terms.Test
	sum := func(a money.Amount) { view.Number, view.Unit = t.Number(a), t.Unit(a.Currency) }
	say := func(what string) { view.Heading, view.Text = t.Get(what+".title"), t.Get(what+".text") }
	switch {
	case waiting != "":
		view.Mood, view.Refresh, view.Seen, view.Poll = "", refreshSeconds, waiting, v.href(v.r.URL.Path)
		sum(p.Terms.Amount)
		if waiting == seenWait {
			view.ReturnHref = "" // it takes but a moment
		}
		say(waiting)
	case lettingGo(p):
		view.Heading, view.Text, view.Facts = t.Get("cancelled.title"), t.Get("cancelled.soon"), v.facts()
	case p.State == payment.Held || p.State == payment.Captured:
		say("held")
		sum(p.Held)
		if p.State == payment.Captured {
			say("paid")
			sum(p.Captured)
		}
		view.Mood, view.Facts = "good", v.facts()
		if v.now.Sub(paidAt(p)) < freshFor {
			words := make([]string, 0, returnSeconds)
			for n := 1; n <= returnSeconds; n++ {
				words = append(words, t.Count("back.soon", n))
			}
			view.Soon = strings.Join(words, "|")
		}
	case p.State == payment.Voided:
		say("cancelled")
		if p.Held.Positive() {
			view.Text, view.Facts = t.Get("cancelled.held"), v.facts()
		}
	case p.State == payment.Declined:
		view.Heading, view.Text = t.Get("declined.title"), t.Get("declined.cards")
		if p.WrongCodes >= payment.MaxWrongCodes {
			view.Text = t.Get("declined.codes")
		}
	case !p.Restored.IsZero():
		say("lost") // payment.Reconcile: what he did since the backup was taken is not known, and money may be set aside
	default:
		say("expired")
	}
	view.Title = view.Heading + " · " + v.shop.Name
	return view
}

// lettingGo reports that the money is still set aside and nobody will take it: the decision stands until the bank has done it.
func lettingGo(p *payment.Payment) bool {
	return p.State == payment.Held && p.Decision != nil && p.Decision.Accept == payment.Cancel
}

// paidAt is when the payer's part was done.
func paidAt(p *payment.Payment) time.Time {
	switch {
	case !p.HoldDeadline.IsZero() && p.Attempt != nil:
		return p.HoldDeadline.Add(-time.Duration(p.Attempt.HoldFor) * time.Second)
	case !p.PaidAt.IsZero():
		return p.PaidAt
	}
	return p.UpdatedAt
}

// facts are what a payer may need when he asks his bank or the shop.
func (v *visit) facts() (facts []fact) {
	p, t := &v.p, v.t
	add := func(key, value string) {
		if value != "" {
			facts = append(facts, fact{t.Get(key), value})
		}
	}
	add("receipt.shop", v.shop.Name)
	purpose := v.purpose()
	if runes := []rune(purpose); len(runes) > shortText {
		purpose = string(runes[:shortText]) + "…"
	}
	add("receipt.for", purpose)
	switch {
	case p.State == payment.Voided || lettingGo(p):
		add("receipt.sum", t.Money(p.Held))
	case p.State == payment.Captured && p.Captured != p.Held:
		add("receipt.held", t.Money(p.Held))
	}
	if p.Refunded.Positive() {
		add("receipt.refunded", t.Money(p.Refunded))
	}
	if p.Attempt != nil {
		add("receipt.card", schemeName(p.Attempt.Card.Scheme)+" "+masked(p.Attempt.Card))
		add("receipt.rrn", p.Attempt.Centre.RRN)
	}
	add("receipt.time", t.Time(paidAt(p)))
	add("receipt.number", p.Terms.ShopPaymentID)
	return facts
}

// schemeName is a scheme as people write it: "Uzcard".
func schemeName(scheme string) string {
	if scheme == "" {
		return ""
	}
	return strings.ToUpper(scheme[:1]) + scheme[1:]
}

// returnURL is the way back to the shop: its own address as it gave it, with what became of the
// payment added. It proves nothing: the shop asks us, or waits for our notification.
func returnURL(p *payment.Payment) string {
	u, err := url.Parse(p.Terms.ReturnURL)
	if err != nil {
		return ""
	}
	ours := [][2]string{{"octo_status", string(p.Status())}, {"octo_payment_UUID", p.ID.String()}, {"shop_transaction_id", p.Terms.ShopPaymentID}}
	var pairs []string
	for _, pair := range strings.Split(u.RawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if pair != "" && name != ours[0][0] && name != ours[1][0] && name != ours[2][0] {
			pairs = append(pairs, pair)
		}
	}
	for _, o := range ours {
		pairs = append(pairs, o[0]+"="+url.QueryEscape(o[1]))
	}
	u.RawQuery = strings.Join(pairs, "&")
	return u.String()
}
