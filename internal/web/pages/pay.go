package pages

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"holdfast"
	"holdfast/internal/gateway"
	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/web"
	"holdfast/internal/web/text"
)

// field is an input with its label, its hint and what is wrong with it.
type field struct {
	ID, Type, Mode, Autocomplete, Capitals string
	Label, Hint, Value, Problem            string
	Longest                                int
	Required, Wide, Focus                  bool
	Marks                                  []mark
	Words                                  map[string]string // messages for the script, by problem
}

// mark is a scheme's name, drawn by us.
type mark struct {
	Scheme, Name string
	Fill         string
	Width, Word  int
	Hidden       bool
}

// Half is where the middle of the mark is.
func (m mark) Half() int { return m.Width / 2 }

var marks = map[payment.Method][]mark{
	payment.Uzcard:   {{Scheme: "uzcard", Name: "UZCARD", Fill: "#15539e", Width: 62, Word: 48}},
	payment.Humo:     {{Scheme: "humo", Name: "HUMO", Fill: "#7a5a12", Width: 50, Word: 36}},
	payment.BankCard: {{Scheme: "visa", Name: "VISA", Fill: "#2b2f7f", Width: 46, Word: 32}, {Scheme: "mastercard", Name: "Mastercard", Fill: "#a3341c", Width: 78, Word: 64}},
}

// sumView says what is paid for.
type sumView struct {
	Shop, Sum, Number, Unit, For, ForMore, Until string
}

// shortText is how many characters of a description stand beside the sum; the rest unfolds.
const shortText = 140

func (v *visit) sum() sumView {
	amount := v.p.Terms.Amount
	view := sumView{
		Shop: v.shop.Name, Sum: v.t.Money(amount), Number: v.t.Number(amount), Unit: v.t.Unit(amount.Currency), For: v.purpose(),
		Until: v.t.Hour(v.p.Terms.ExpiresAt),
	}
	if v.p.Terms.ExpiresAt.Sub(v.now) > dayLong {
		view.Until = v.t.Time(v.p.Terms.ExpiresAt)
	}
	if runes := []rune(view.For); len(runes) > shortText {
		view.For, view.ForMore = string(runes[:shortText])+"…", view.For
	}
	return view
}

// purpose is what the payment is for: the shop's description, else the basket.
func (v *visit) purpose() string {
	if d := strings.TrimSpace(v.p.Terms.Description); d != "" {
		return d
	}
	var items []string
	for _, item := range v.p.Terms.Basket {
		line := item.Description
		if item.Count > 1 {
			line += " × " + strconv.FormatInt(item.Count, 10)
		}
		items = append(items, line)
	}
	return strings.Join(items, ", ")
}

// told is what a page says of what happened before.
type told struct {
	Refused, RefusedTitle, RefusedMore string
	Notice, NoticeLink, NoticeHref     string
}

// payForm is the page for the card.
type payForm struct {
	frame
	sumView
	told
	Action, Ranges, Month    string
	Methods                  []methodTile
	PAN, Expiry, CVC, Holder *field
	Email                    *field
}

type methodTile struct {
	Method payment.Method
	Name   string
	Marks  []mark
	Chosen bool
}

// payPage shows the card form, also while a code is on its way: the payer may want another card, if he may try one.
func (s *site) payPage(v *visit) {
	if v.p.Open != nil || lapsed(&v.p, v.now) || v.p.State != payment.Created && (v.p.State != payment.Challenged || v.p.Attempts >= payment.MaxAttempts) {
		s.elsewhere(v)
		return
	}
	s.draw(v.w, 200, "pay", s.payView(v))
}

// methods are those the payer can really use: the payment's, as far as a centre takes them.
func (s *site) methods(v *visit) []payment.Method {
	t := &v.p.Terms
	connected := slices.DeleteFunc(slices.Clone(t.Methods), func(m payment.Method) bool {
		return s.cfg.Gateway.Route(v.shop, m, t.Amount.Currency, t.Test) != nil
	})
	if len(connected) == 0 {
		return t.Methods
	}
	return connected
}

func (s *site) payView(v *visit) *payForm {
	methods := s.methods(v)
	names := methodNames(v.t, methods)
	found := v.problems()
	view := &payForm{
		frame: newFrame(v.t, v.r, "", "two"), sumView: v.sum(), told: v.payTold(), Action: v.to("card"), Ranges: s.rangesJSON(v.cards), Month: month(v),
		PAN: v.panField(found, methods, names), Expiry: v.expiryField(found),
	}
	view.Title = v.t.Get("pay.title", "sum", view.Sum, "shop", v.shop.Name)
	view.Test = v.p.Terms.Test
	for _, m := range methods {
		tile := methodTile{Method: m, Name: v.t.Get("method." + string(m)), Marks: marks[m], Chosen: m == payment.BankCard && found[cvcWrong] != ""}
		view.Methods = append(view.Methods, tile)
	}
	if slices.Contains(methods, payment.BankCard) {
		view.CVC = &field{
			ID: "cvc2", Type: "password", Mode: "numeric", Autocomplete: "cc-csc", Capitals: "off", Longest: longestCVC,
			Label: v.t.Get("pay.cvc"), Hint: v.t.Get("pay.cvc.hint"), Problem: found[cvcWrong], Words: map[string]string{"wrong": v.t.Get("field.cvc2")},
		}
		view.Holder = &field{
			ID: "holder", Type: "text", Mode: "text", Autocomplete: "cc-name", Capitals: "characters", Longest: longestName, Wide: true,
			Label: v.t.Get("pay.holder"), Hint: v.t.Get("pay.holder.hint"), Problem: found[nameWrong], Words: map[string]string{"wrong": v.t.Get("field.holder")},
		}
	}
	if user := v.p.Terms.User; user != nil {
		view.Email = &field{
			ID: "email", Type: "email", Mode: "email", Autocomplete: "email", Capitals: "off", Longest: longestEmail, Required: true,
			Label: v.t.Get("pay.email"), Hint: v.t.Get("pay.email.hint"), Value: user.Email, Problem: found[emailWrong],
			Words: map[string]string{"wrong": v.t.Get("field.email")},
		}
		if v.p.Attempt != nil && v.p.Attempt.Email != "" {
			view.Email.Value = v.p.Attempt.Email
		}
	}
	focusFirst(view.PAN, view.Expiry, view.CVC, view.Holder, view.Email)
	return view
}

// focusFirst puts the cursor into the first field that is wrong.
func focusFirst(fields ...*field) {
	for _, f := range fields {
		if f != nil && f.Problem != "" {
			f.Focus = true
			return
		}
	}
}

func (v *visit) panField(found map[string]string, methods []payment.Method, names string) *field {
	f := &field{
		ID: "pan", Type: "text", Mode: "numeric", Autocomplete: "cc-number", Capitals: "off", Longest: longestNumber, Required: true, Label: v.t.Get("pay.number"),
		Words: map[string]string{
			"empty": v.t.Get("field.pan.empty"), "digits": v.t.Get("field.pan.digits"), "wrong": v.t.Get("field.pan.wrong"),
			"method": v.t.Get("field.pan.method", "methods", names),
		},
	}
	for _, m := range methods {
		for _, k := range marks[m] {
			k.Hidden = true
			f.Marks = append(f.Marks, k)
		}
	}
	for _, problem := range []string{panEmpty, panDigits, panWrong, panMethod} {
		if message := found[problem]; message != "" {
			f.Problem = strings.ReplaceAll(message, "{methods}", names)
		}
	}
	return f
}

func (v *visit) expiryField(found map[string]string) *field {
	return &field{
		ID: "exp", Type: "text", Mode: "numeric", Autocomplete: "cc-exp", Capitals: "off", Longest: longestExpiry, Required: true,
		Label: v.t.Get("pay.expiry"), Hint: v.t.Get("pay.expiry.hint"), Problem: cmp.Or(found[expWrong], found[expExpired]),
		Words: map[string]string{"wrong": v.t.Get("field.exp.wrong"), "expired": v.t.Get("field.exp.expired")},
	}
}

func methodNames(t text.Texts, methods []payment.Method) string {
	var names []string
	for _, m := range methods {
		names = append(names, t.Get("method."+string(m)))
	}
	return strings.Join(names, ", ")
}

// problems are the messages at fields that the address speaks of.
func (v *visit) problems() map[string]string {
	found := make(map[string]string)
	for _, problem := range v.r.URL.Query()["problem"] {
		if slices.Contains(problems, problem) {
			found[problem] = v.t.Get("field." + problem)
		}
	}
	return found
}

// refusal is why a card or code was refused last. Anybody can write an address: it is believed only where it says what
// we refuse without a trace in the payment. What a bank refused, the payment knows.
func (v *visit) refusal() payment.Reason {
	switch r := payment.Reason(v.r.URL.Query().Get("refused")); r {
	case payment.Busy, payment.UnderWay, payment.InDoubt, payment.NotLive, payment.MethodNotAllowed, payment.CurrencyNotAllowed, payment.AttemptsUsedUp, payment.TooManyWrongCodes, payment.NoChallenge:
		return r
	case payment.WrongCode, payment.CodeExpired, payment.CardUnknown, payment.ResendsUsedUp:
		if v.p.State == payment.Challenged {
			return r
		}
	}
	return v.p.LastRefusal
}

// fewCards is from when on the payer is told how many cards he may still try.
const fewCards = 3

func (v *visit) payTold() (t told) {
	if r := v.refusal(); r != "" && (v.p.State == payment.Created || v.r.URL.Query().Has("refused")) {
		t.RefusedTitle, t.Refused = v.t.Get("pay.refused"), v.t.Reason(r)
		if left := payment.MaxAttempts - v.p.Attempts; left <= fewCards && left > 0 {
			t.RefusedMore = v.t.Count("pay.left", left)
		}
	} else if len(v.problems()) > 0 {
		// The messages are at the fields; the fields are empty again, since nothing of a card comes back.
		t.Notice = v.t.Get("pay.problems")
	}
	if v.p.State == payment.Challenged {
		t.NoticeHref = v.href(next(&v.p, v.now))
		t.Notice, t.NoticeLink = v.t.Get("pay.code", "card", masked(v.p.Attempt.Card)), v.t.Get("pay.code.link")
	}
	return t
}

// unbroken is a space at which no line ends.
const unbroken = "\u00a0"

// masked is a card as its owner knows it.
func masked(c payment.CardFacts) string { return "••••" + unbroken + c.Last4 }

// month is the present one in Tashkent, as cards write it.
func month(v *visit) string { return v.now.In(holdfast.Tashkent).Format("0601") }

// takeCard tries a card.
func (s *site) takeCard(v *visit) {
	if !s.readForm(v) {
		return
	}
	if v.p.State != payment.Created && v.p.State != payment.Challenged || lapsed(&v.p, v.now) {
		s.elsewhere(v)
		return
	}
	card, method, found := readCard(v.r.PostForm, v.cards.CardTable, s.methods(v), v.now)
	email := ""
	if v.p.Terms.User != nil {
		var ok bool
		if email, ok = readEmail(v.r.PostForm.Get("email")); !ok {
			found = append(found, emailWrong)
		}
	}
	if len(found) > 0 {
		v.redirect(v.to("pay", problemPairs(found)...))
		return
	}
	p, err := s.cfg.Gateway.Pay(v.r.Context(), v.shop, v.p.ID, gateway.Card{Card: card, Method: method, Email: email, Input: holdfast.CardInputOctoPage})
	if err == nil && p.CardUnknown() {
		web.Miss(v.w)
	}
	s.after(v, p, err)
}

func problemPairs(found []string) (pairs []string) {
	for _, problem := range found {
		pairs = append(pairs, "problem", problem)
	}
	return pairs
}

// hinted is how many of a number's first digits the script looks at.
const hinted = 4

// cardRange is a run of card numbers by their first digits, for the script. Where numbers that begin so are of several
// schemes, by a longer prefix, it says what they have in common.
type cardRange struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Scheme string `json:"scheme"`
	Method string `json:"method"`
	Luhn   bool   `json:"luhn"` // the check digit is looked at
}

// drawnRanges is an edition of the card range table, and how the script has it.
type drawnRanges struct {
	of   *store.Cards
	json string
}

// rangesJSON is the card range table for the script, which only hints with it by a number's first four
// digits: the server decides.
func (s *site) rangesJSON(cards *store.Cards) string {
	if drawn := s.ranges.Load(); drawn != nil && drawn.of == cards {
		return drawn.json
	}
	out, err := json.Marshal(hints(cards.CardTable))
	if err != nil {
		panic(err) // strings can be written
	}
	s.ranges.Store(&drawnRanges{cards, string(out)})
	return string(out)
}

func hints(table payment.CardTable) []cardRange {
	longer := make(map[string][]string) // the schemes of longer prefixes, by their first digits
	for _, r := range table.Ranges {
		if len(r.From) <= hinted {
			continue
		}
		first, _ := strconv.Atoi(r.From[:hinted]) // digits, by Checked
		last, _ := strconv.Atoi(r.To[:hinted])
		for n := first; n <= last; n++ {
			prefix := beginning(n)
			longer[prefix] = append(longer[prefix], r.Scheme)
		}
	}
	ranges := []cardRange{}
	for n := range 10_000 {
		prefix := beginning(n)
		schemes := longer[prefix]
		if r, ok := table.Find(prefix); ok {
			schemes = append(schemes, r.Scheme)
		}
		if len(schemes) == 0 {
			continue
		}
		hint := cardRange{From: prefix, To: prefix, Scheme: schemes[0], Method: methodOfScheme(schemes[0]), Luhn: true}
		for _, scheme := range schemes {
			if scheme != hint.Scheme {
				hint.Scheme = ""
			}
			if methodOfScheme(scheme) != hint.Method {
				hint.Method = ""
			}
			hint.Luhn = hint.Luhn && !slices.Contains(table.NoLuhn, scheme)
		}
		if i := len(ranges) - 1; i >= 0 && ranges[i].To == beginning(n-1) && ranges[i].says(hint) {
			ranges[i].To = prefix
			continue
		}
		ranges = append(ranges, hint)
	}
	return ranges
}

// says reports whether both tell the same of a number.
func (r cardRange) says(other cardRange) bool {
	r.From, r.To = other.From, other.To
	return r == other
}

func beginning(n int) string { return fmt.Sprintf("%0*d", hinted, n) }

func methodOfScheme(scheme string) string { return string(payment.Range{Scheme: scheme}.Method()) }
