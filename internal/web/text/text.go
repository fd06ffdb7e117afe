// Package text is the words that payers see, in their language: Uzbek in Latin letters, Russian
// and English. The words themselves are in uz.json, ru.json and en.json; the package looks them
// up, fills in names, and writes sums, times and counts as each language does.
package text

import (
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// Languages are the names that the merchant API has for languages. Its "oz" is Uzbek in Latin
// letters, and so is our "uz": both have the same words.
var Languages = []string{"uz", "oz", "ru", "en"}

// Default is the language of whoever asks for none, or for one we do not have.
const Default = "uz"

//go:embed *.json
var files embed.FS

// language is how a language writes what is not words.
type language struct {
	tag      string // BCP 47, for the page's lang attribute
	name     string // of itself
	group    string // between thousands
	decimal  string
	layout   string // of a time
	plural   func(n int) string
	messages map[string]message
}

// message is a text, or its plural forms.
type message map[string]string

const only = "" // the form of a text that has no plural

// narrow keeps the groups of a number on one line (U+202F); unbroken keeps a sum and its currency together.
const (
	narrow   = "\u202f"
	unbroken = "\u00a0"
)

var languages = map[string]*language{
	"uz": load("uz", language{tag: "uz-Latn", name: "Oʻzbekcha", group: narrow, decimal: ",", layout: "02.01.2006, 15:04", plural: oneOrOther}),
	"ru": load("ru", language{tag: "ru", name: "Русский", group: narrow, decimal: ",", layout: "02.01.2006, 15:04", plural: slavic}),
	"en": load("en", language{tag: "en", name: "English", group: ",", decimal: ".", layout: "2 Jan 2006, 15:04", plural: oneOrOther}),
}

// oneOrOther and slavic are the plural rules of CLDR for whole numbers.
func oneOrOther(n int) string {
	if n == 1 {
		return "one"
	}
	return "other"
}

func slavic(n int) string {
	switch {
	case n%10 == 1 && n%100 != 11:
		return "one"
	case n%10 >= 2 && n%10 <= 4 && (n%100 < 12 || n%100 > 14):
		return "few"
	}
	return "other"
}

func load(file string, l language) *language {
	data, err := fs.ReadFile(files, file+".json")
	if err != nil {
		panic(err) // the file is embedded
	}
	var raw map[string]jsontext.Value
	if err := json.Unmarshal(data, &raw); err != nil {
		panic(fmt.Sprintf("text: %s.json: %v", file, err))
	}
	l.messages = make(map[string]message, len(raw))
	for key, value := range raw {
		m := message{}
		if value.Kind() == '"' {
			var s string
			err = json.Unmarshal(value, &s)
			m[only] = s
		} else {
			err = json.Unmarshal(value, &m)
		}
		if err != nil {
			panic(fmt.Sprintf("text: %s.json: %s: %v", file, key, err))
		}
		l.messages[key] = m
	}
	return &l
}

// Texts are the words of one language.
type Texts struct {
	name string
	l    *language
}

// Known reports whether name is one of Languages.
func Known(name string) bool { return find(name) != nil }

func find(name string) *language {
	if name == "oz" {
		name = "uz"
	}
	return languages[name]
}

// For gives the words of a language by its name in the merchant API; those of Default where we have none.
func For(name string) Texts {
	l := find(name)
	if l == nil {
		name, l = Default, languages[Default]
	}
	return Texts{name: name, l: l}
}

// Language is the name under which the texts were asked for: uz, oz, ru or en.
func (t Texts) Language() string { return t.name }

// Tag is the language for an HTML lang attribute.
func (t Texts) Tag() string { return t.l.tag }

// Choice is a language that a reader may choose.
type Choice struct {
	Language string // its name in the merchant API
	Tag      string
	Name     string // what its speakers call it
	Chosen   bool
}

// Choices lists the languages to choose from. uz and oz are one.
func (t Texts) Choices() []Choice {
	var all []Choice
	for _, name := range []string{"uz", "ru", "en"} {
		l := languages[name]
		all = append(all, Choice{Language: name, Tag: l.tag, Name: l.name, Chosen: l == t.l})
	}
	return all
}

// Get is the text of a key, with its {names} filled in from pairs of name and value. A key that is
// not there gives itself: a page with one odd word is better than none.
func (t Texts) Get(key string, pairs ...string) string {
	s, ok := t.l.messages[key][only]
	if !ok {
		return key
	}
	return fill(s, pairs)
}

// InAll is the text of a key in every language, for somebody whose language is not known.
func InAll(key string) string {
	var all []string
	for _, c := range For(Default).Choices() {
		all = append(all, For(c.Language).Get(key))
	}
	return strings.Join(all, " / ")
}

// Count is the text of a key in the plural form that n needs; {n} in it is n.
func (t Texts) Count(key string, n int, pairs ...string) string {
	s, ok := t.l.messages[key][t.l.plural(n)]
	if !ok {
		return key
	}
	return fill(s, append([]string{"n", strconv.Itoa(n)}, pairs...))
}

func fill(s string, pairs []string) string {
	if len(pairs) == 0 {
		return s
	}
	old := make([]string, 0, len(pairs))
	for i := 0; i+1 < len(pairs); i += 2 {
		old = append(old, "{"+pairs[i]+"}", pairs[i+1])
	}
	return strings.NewReplacer(old...).Replace(s)
}

// Reason tells the payer in one sentence why something was refused and what he can do.
func (t Texts) Reason(r payment.Reason) string {
	key := "reason." + string(r)
	if _, ok := t.l.messages[key]; !ok {
		key = "reason.other" // one of the reasons that only merchants meet
	}
	return t.Get(key)
}

// Money writes a sum: "1 000,00 soʻm", "1,000.00 UZS". Its parts do not come apart at the end of a line.
func (t Texts) Money(a money.Amount) string {
	return t.Number(a) + unbroken + t.Unit(a.Currency)
}

// Number writes a sum without its currency.
func (t Texts) Number(a money.Amount) string {
	whole, cents, _ := strings.Cut(a.Decimal(), ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "\u2212", whole[1:]
	}
	var b strings.Builder
	b.WriteString(sign)
	for i, digit := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteString(t.l.group)
		}
		b.WriteRune(digit)
	}
	return b.String() + t.l.decimal + cents
}

// Unit is what people call a currency.
func (t Texts) Unit(c money.Currency) string { return t.Get("unit." + string(c)) }

// Time writes a moment in the time of Tashkent.
func (t Texts) Time(at time.Time) string { return at.In(payment.Tashkent).Format(t.l.layout) }

// Hour writes the time of day of a moment in Tashkent.
func (t Texts) Hour(at time.Time) string { return at.In(payment.Tashkent).Format("15:04") }

// Clock writes seconds as minutes and seconds: "4:05".
func (t Texts) Clock(seconds int) string { return fmt.Sprintf("%d:%02d", seconds/60, seconds%60) }
