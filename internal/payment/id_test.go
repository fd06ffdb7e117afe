package payment_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast/internal/payment"
)

func anyID(t *rapid.T, name string) (payment.ID, time.Time, [10]byte) {
	// From 1970 to the year 10889, where the 48 bits of milliseconds end (RFC 9562 §5.7).
	now := time.UnixMilli(rapid.Int64Range(0, 1<<48-1).Draw(t, name+" time")).UTC()
	random := [10]byte(rapid.SliceOfN(rapid.Byte(), 10, 10).Draw(t, name+" random"))
	return payment.NewID(now, random), now, random
}

// The bits of RFC 9562 §5.7: milliseconds, version 7, variant 10, and the rest random.
func TestNewID(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id, now, random := anyID(t, "id")
		text := id.String()
		if text[14] != '7' || !strings.ContainsRune("89ab", rune(text[19])) {
			t.Fatalf("%s is of version %c, variant %c", id, text[14], text[19])
		}
		ms := int64(0)
		for _, b := range id[:6] {
			ms = ms<<8 | int64(b)
		}
		if ms != now.UnixMilli() {
			t.Fatalf("%s was made at %d ms, says %d", id, now.UnixMilli(), ms)
		}
		// All of the random bits but the six that say version and variant are in it.
		got := [10]byte(id[6:])
		got[0], got[2] = got[0]&0x0f|random[0]&0xf0, got[2]&0x3f|random[2]&0xc0
		if got != random {
			t.Fatalf("%s lost random bits of %x", id, random)
		}
	})
}

// Keys made one after another lie side by side: the later ID is the greater, as bytes and as text.
func TestIDsAreInTimeOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, at, _ := anyID(t, "a")
		b, bt, _ := anyID(t, "b")
		if bt.Before(at) {
			a, at, b, bt = b, bt, a, at
		}
		if at.UnixMilli() == bt.UnixMilli() {
			return
		}
		if bytes.Compare(a[:], b[:]) >= 0 || a.String() >= b.String() {
			t.Fatalf("%s at %v is not before %s at %v", a, at, b, bt)
		}
	})
}

func TestParseID(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := payment.ID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		text := id.String()
		if text != strings.ToLower(text) || len(text) != 36 {
			t.Fatalf("%x prints %q", [16]byte(id), text)
		}
		for _, form := range []string{text, strings.ToUpper(text)} {
			if got, err := payment.ParseID(form); err != nil || got != id {
				t.Fatalf("ParseID(%q) = %s, %v", form, got, err)
			}
		}
		other := rapid.SampledFrom([]byte("gG xz\x00\xff/:@`{_+.")).Draw(t, "wrong")
		for i := range text {
			// One character wrong, anywhere, is refused.
			wrong := []byte(text)
			wrong[i] = other
			if got, err := payment.ParseID(string(wrong)); err == nil || got != (payment.ID{}) {
				t.Fatalf("ParseID(%q) = %s, %v", wrong, got, err)
			}
			// So is a hyphen where a digit belongs.
			if wrong[i] = '-'; text[i] != '-' {
				if got, err := payment.ParseID(string(wrong)); err == nil {
					t.Fatalf("ParseID(%q) = %s", wrong, got)
				}
			}
		}
	})
	const good = "0195549c-9ae0-7f02-8304-05060708090a"
	for _, text := range []string{
		"", good[:35], good + "0", " " + good, good + " ", "{" + good + "}", "urn:uuid:" + good, strings.ReplaceAll(good, "-", ""),
		"0195549c9-ae0-7f02-8304-05060708090a", "0195549c-9ae0-7f02-830405-060708090a", strings.Repeat("-", 36), good[:8] + "\u2010" + good[9:34],
	} {
		if got, err := payment.ParseID(text); err == nil || got != (payment.ID{}) {
			t.Errorf("ParseID(%q) = %s, %v", text, got, err)
		}
	}
}

// A reference names the payment's number, whichever operation it is of.
func TestNumberIn(t *testing.T) {
	w := start(t, terms()).paid()
	if got := w.p.Reference(); got != w.closed[0].Ref {
		t.Errorf("the payment is called %q, its first operation %q", got, w.closed[0].Ref)
	}
	for _, op := range w.closed {
		if number, ok := payment.NumberIn(op.Ref); !ok || number != w.p.Number {
			t.Errorf("%s is of payment %d, %t", op.Ref, number, ok)
		}
	}
	for _, ref := range []string{"", "_", "5520", "1772425020000", "1772425020000_", "1772425020000_x", "1772425020000_9223372036854775808", "1772425020000__2"} {
		if number, ok := payment.NumberIn(ref); ok {
			t.Errorf("%q is of payment %d", ref, number)
		}
	}
}
