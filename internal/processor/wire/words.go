package wire

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Dots is how every secret prints.
const Dots = "••••"

const (
	maxCauseBytes = 300
	minCardDigits = 13 // no card number is shorter (ISO/IEC 7812-1)
	phoneDigits   = 12 // of an Uzbek number with 998
)

// Words makes a cause of somebody's words about a call of the method, which may be empty: on one line,
// bounded, and with nothing in it that is one of the secrets, or could be a card number. phones: nor a phone
// of Uzbekistan.
func Words(method, say string, phones bool, secrets ...string) string {
	for _, secret := range secrets {
		if len(secret) > 3 { // less says nothing, and is part of many a word
			say = strings.ReplaceAll(say, secret, Dots)
		}
	}
	b := make([]byte, 0, len(method)+len(say)+2)
	if method != "" {
		b = append(append(b, method...), ": "...)
	}
	for i := 0; i < len(say) && len(b) < maxCauseBytes; {
		if IsDigit(say[i]) {
			end, digits := digitRun(say, i)
			if digits >= minCardDigits || phones && digits == phoneDigits && strings.HasPrefix(say[i:], "998") {
				b = append(b, Dots...)
			} else {
				b = append(b, say[i:end]...)
			}
			i = end
			continue
		}
		r, size := utf8.DecodeRuneInString(say[i:])
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			r = ' '
		}
		b = utf8.AppendRune(b, r)
		i += size
	}
	return string(b)
}

// CouldBeCard reports whether a text is digits, and so many that it may be a card number.
func CouldBeCard(s string) bool { return len(s) >= minCardDigits && AllDigits(s) }

// IsDigit reports whether c is one of 0 to 9.
func IsDigit(c byte) bool { return '0' <= c && c <= '9' }

// AllDigits reports whether s is digits and nothing else, one at least.
func AllDigits(s string) bool {
	for i := range len(s) {
		if !IsDigit(s[i]) {
			return false
		}
	}
	return s != ""
}

// digitRun finds the end of a run of digits, which single spaces and hyphens do not interrupt.
func digitRun(s string, i int) (end, digits int) {
	for i < len(s) {
		switch {
		case IsDigit(s[i]):
			digits++
			i++
		case (s[i] == ' ' || s[i] == '-') && i+1 < len(s) && IsDigit(s[i+1]):
			i++
		default:
			return i, digits
		}
	}
	return i, digits
}
