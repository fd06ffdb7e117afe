package store

import (
	"crypto/aes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func numbered(t interface{ Fatal(...any) }, key []byte) *Store {
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return &Store{numbers: block}
}

// A number is given once in 2^31-1 payments, it is in the range of the merchant API, and it leads
// back to the newest payment that has it.
func TestNumbersAreABijection(t *testing.T) {
	const domain = int64(numberMask) // 2^31-1 numbers
	rapid.Check(t, func(t *rapid.T) {
		s := numbered(t, rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "key"))
		seq := rapid.OneOf(
			rapid.Int64Range(1, 3*domain+5),
			rapid.SampledFrom([]int64{1, 2, domain - 1, domain, domain + 1, 2 * domain, 2*domain + 1, 1 << 31, 1<<32 + 1}),
		).Draw(t, "seq")
		number := s.numberOf(seq)
		if number < 1 || number > domain {
			t.Fatalf("row %d has the number %d", seq, number)
		}
		if other := s.numberOf(seq + domain); other != number {
			t.Fatalf("rows %d and %d are a whole round apart and have the numbers %d and %d", seq, seq+domain, number, other)
		}
		// last is the newest row: in the same round as seq, or some rounds later.
		last := seq + rapid.Int64Range(0, 2*domain).Draw(t, "later rows")
		s.lastSeq.Store(last)
		got, ok := s.seqOf(number)
		want := seq + (last-seq)/domain*domain
		if !ok || got != want {
			t.Fatalf("number %d is row %d (%v), want %d: rows end at %d", number, got, ok, want, last)
		}
		// A number that nobody has had yet is looked for where the next process would put it.
		s.lastSeq.Store(0)
		if got, ok := s.seqOf(number); !ok || got != (seq-1)%domain+1 {
			t.Fatalf("with no payments, number %d is row %d (%v)", number, got, ok)
		}
	})
}

func TestNumbersAreDistinctAndInNoSequence(t *testing.T) {
	s := numbered(t, []byte("sixteen byte key"))
	const n = 50_000
	numbers := make([]int64, n)
	closeBy := 0
	for i := range numbers {
		numbers[i] = s.numberOf(int64(i + 1))
		if i > 0 && max(numbers[i]-numbers[i-1], numbers[i-1]-numbers[i]) < 1000 {
			closeBy++
		}
	}
	slices.Sort(numbers)
	if len(slices.Compact(numbers)) != n {
		t.Error("a number was given twice")
	}
	// By chance about one neighbour in a million is so close.
	if closeBy > 10 {
		t.Errorf("%d neighbours are less than 1000 apart: the next number can be guessed", closeBy)
	}
	if other := numbered(t, []byte("another key used")); other.numberOf(1) == s.numberOf(1) && other.numberOf(2) == s.numberOf(2) {
		t.Error("the numbers do not depend on the key")
	}
}

func TestNumbersOutsideTheDomainAreNobodys(t *testing.T) {
	s := numbered(t, make([]byte, 16))
	for _, n := range []int64{-1 << 63, -1, 0, 1 << 31, 1 << 62} {
		if seq, ok := s.seqOf(n); ok {
			t.Errorf("%d is row %d", n, seq)
		}
	}
}
