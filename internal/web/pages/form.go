package pages

import (
	"net/mail"
	"slices"
	"strings"
	"time"
	"unicode"

	"holdfast/internal/payment"
)

// What is typed may be longer than what it stands for, by spaces and the like, but not by much.
const (
	longestNumber = 40
	longestExpiry = 12
	longestCVC    = 8
	longestName   = 64
	longestEmail  = 254 // RFC 5321
)

// plain turns what people type or paste into what the rest of the house expects: full-width and
// Arabic digits have one meaning only and become ASCII, every kind of space and dash becomes the
// common one, and what cannot be seen is dropped. Whatever else stands there stays, to be refused.
func plain(typed string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r >= '\uff01' && r <= '\uff5e': // full-width ASCII
			r -= '\uff01' - '!'
		case r >= '\u0660' && r <= '\u0669': // Arabic-Indic
			r -= '\u0660' - '0'
		case r >= '\u06f0' && r <= '\u06f9': // Persian
			r -= '\u06f0' - '0'
		}
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.Is(unicode.Pd, r) || r == '\u2212':
			return '-'
		case unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, typed))
}

// yymm reads an expiry date as people write it: 08/29, 8/29, 08/2029, 0829. Empty: it is none.
func yymm(typed string) string {
	parts := strings.FieldsFunc(plain(typed), func(r rune) bool { return strings.ContainsRune("/-. ", r) })
	var month, year string
	switch {
	case len(parts) == 2:
		month, year = parts[0], parts[1]
	case len(parts) == 1 && (len(parts[0]) == 4 || len(parts[0]) == 6):
		month, year = parts[0][:2], parts[0][2:]
	}
	if len(month) == 1 {
		month = "0" + month
	}
	if len(year) == 4 {
		year = strings.TrimPrefix(year, "20")
	}
	if len(month) != 2 || len(year) != 2 {
		return ""
	}
	return year + month
}

// Problems of fields: each is the end of a text's key, and what an address may say of a form.
const (
	panEmpty   = "pan.empty"
	panDigits  = "pan.digits"
	panWrong   = "pan.wrong"
	panMethod  = "pan.method"
	expWrong   = "exp.wrong"
	expExpired = "exp.expired"
	cvcWrong   = "cvc2"
	nameWrong  = "holder"
	emailWrong = "email"
	codeWrong  = "code"
	otherCard  = "resend"
)

var problems = []string{panEmpty, panDigits, panWrong, panMethod, expWrong, expExpired, cvcWrong, nameWrong, emailWrong, codeWrong, otherCard}

// readCard reads a typed card. Its number says which method it is, whatever was chosen; the choice
// counts where the number says nothing. found is what is wrong, by field.
func readCard(form map[string][]string, cards payment.CardTable, methods []payment.Method, now time.Time) (card payment.Card, method payment.Method, found []string) {
	get := func(name string) string {
		if values := form[name]; len(values) > 0 {
			return values[0]
		}
		return ""
	}
	method = payment.Method(get("method"))
	if !slices.Contains(methods, method) && len(methods) > 0 {
		method = methods[0]
	}
	typed := plain(get("pan"))
	number, digits := payment.CleanNumber(typed)
	if r, ok := cards.Find(number); ok && slices.Contains(methods, r.Method()) {
		method = r.Method()
	}
	card = payment.Card{Number: number, Expiry: yymm(get("exp"))}
	if method == payment.BankCard {
		card.CVC, card.Holder = plain(get("cvc2")), strings.Join(strings.Fields(plain(get("holder"))), " ")
	}
	problem := card.Check(cards, method, now)
	switch {
	case typed == "":
		found = append(found, panEmpty)
	case !digits:
		found = append(found, panDigits)
	case problem == nil:
	case problem.Field == "pan":
		found = append(found, panWrong)
	case problem.Field == "method":
		found = append(found, panMethod)
	case problem.Field == "exp" && problem.Reason == payment.CardExpired:
		found = append(found, expExpired)
	case problem.Field == "exp":
		found = append(found, expWrong)
	default:
		found = append(found, cvcWrong)
	}
	if !embossable(card.Holder) {
		found = append(found, nameWrong)
	}
	return card, method, found
}

// embossable reports whether a card could have the name on it. A card may have none.
func embossable(name string) bool {
	return len(name) <= longestName && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz .-'/") == ""
}

// readEmail accepts a plain address that could exist; its name part in other letters is left to the shop's mail server.
func readEmail(typed string) (string, bool) {
	typed = plain(typed)
	parsed, err := mail.ParseAddress(typed)
	if err != nil || parsed.Address != typed || len(typed) > longestEmail {
		return "", false
	}
	_, host, _ := strings.Cut(typed, "@")
	return typed, strings.Contains(strings.Trim(host, "."), ".")
}

// readCode reads a one-time code.
func readCode(typed string) (payment.OTP, bool) {
	code, ok := payment.CleanNumber(plain(typed))
	return payment.OTP(code), ok && len(code) >= payment.ShortestOTP && len(code) <= payment.LongestOTP
}
