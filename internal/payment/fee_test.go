package payment_test

import (
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast/internal/ledger"
	"holdfast/internal/money"
	"holdfast/internal/payment"
)

func TestFee(t *testing.T) {
	for _, tt := range []struct {
		rate     money.Rate
		minimum  int64
		captured int64
		want     int64
	}{
		{20_000, 0, 100_000, 2_000}, // the seed's sample: 1000.00, fee 20.0000
		{20_000, 0, 24, 0},
		{20_000, 0, 25, 1}, // a half upwards
		{20_000, 0, 75, 2},
		{20_000, 0, 125, 3},
		{0, 0, 100_000, 0},
		{money.MaxRate, 0, 100_000, 100_000},

		{20_000, 500, 100_000, 2_000}, // the minimum is met
		{20_000, 2_000, 100_000, 2_000},
		{20_000, 2_001, 100_000, 2_001},
		{0, 500, 100_000, 500},
		{20_000, 500, 24_999, 500}, // 499.98 is rounded to the minimum
		{20_000, 500, 24_900, 500},

		{20_000, 500, 501, 500}, // never more than the sum itself
		{20_000, 500, 500, 500},
		{20_000, 500, 499, 499},
		{20_000, 500, 1, 1},
		{20_000, 500, 0, 0},
		{money.MaxRate, 500, 1, 1},
		{20_000, 0, money.MaxMinor, 20_000_000_000_000},
	} {
		fee := payment.FeeTerms{Rate: tt.rate, Minimum: tt.minimum}
		if got := fee.Of(uzs(tt.captured)); got != uzs(tt.want) {
			t.Errorf("%s, at least %d, of %d = %v, want %d", tt.rate, tt.minimum, tt.captured, got, tt.want)
		}
	}
}

// A fee is the exact share rounded once, half up, between the minimum and the sum; a larger capture
// never costs less; and what the shop gets is never below nothing.
func TestFeeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fee := payment.FeeTerms{
			Rate:    money.Rate(rapid.Int64Range(0, int64(money.MaxRate)).Draw(t, "ppm")),
			Minimum: rapid.Int64Range(0, 10_000).Draw(t, "minimum"),
		}
		captured := rapid.OneOf(rapid.Int64Range(0, 1_000), rapid.Int64Range(0, money.MaxMinor)).Draw(t, "captured")
		exact := new(big.Int).Mul(big.NewInt(2*captured), big.NewInt(int64(fee.Rate)))
		exact.Add(exact, big.NewInt(int64(money.MaxRate))).Div(exact, big.NewInt(2*int64(money.MaxRate)))
		want := min(max(exact.Int64(), fee.Minimum), captured)
		got := fee.Of(uzs(captured))
		if got != uzs(want) {
			t.Fatalf("%s, at least %d, of %d = %v, want %d", fee.Rate, fee.Minimum, captured, got, want)
		}
		more := rapid.Int64Range(0, 10_000).Draw(t, "more")
		if fee.Of(uzs(captured+more)).Cmp(got) < 0 {
			t.Fatalf("%d costs %v, %d costs less", captured, got, captured+more)
		}
	})
}

// The fee is on what is captured, by the tariff of the card that paid.
func TestFeeIsOnWhatIsCaptured(t *testing.T) {
	w := start(t, terms()).paid()
	if !w.p.Fee.IsZero() {
		t.Errorf("a hold costs %v", w.p.Fee)
	}
	if w.capture(75).done(); w.p.Fee != uzs(2) || w.p.Transfer() != uzs(73) {
		t.Errorf("0.75 captured costs %v, transferred %v", w.p.Fee, w.p.Transfer())
	}
	if w = start(t, terms()).paid().cancel().done(); !w.p.Fee.IsZero() || !w.p.Transfer().IsZero() {
		t.Errorf("a void costs %v, transferred %v", w.p.Fee, w.p.Transfer())
	}
}

// Where the tariff says so, a refund takes the fee's share along: in the books and in what the shop gets, whether the money
// goes back at once or in parts, and all of the fee with all of the money. Elsewhere the gateway keeps it.
func TestFeeGoesBack(t *testing.T) {
	for _, tt := range []struct {
		back     bool
		refunds  []int64 // of 600.00 captured of 1000.00, fee 12.00
		want     []int64 // the fee after each
		transfer int64   // of the captured sum, at the end
	}{
		{true, []int64{60_000}, []int64{0}, 60_000},
		{true, []int64{20_000, 1, 39_999}, []int64{800, 800, 0}, 60_000}, // 7.9998 is rounded upwards
		{true, []int64{59_999}, []int64{1}, 59_999},
		{false, []int64{20_000, 40_000}, []int64{1_200, 1_200}, 58_800},
	} {
		w := start(t, terms())
		a := attempt(uzcard)
		a.Fee.Back = tt.back
		w.begin(payment.Pay{Attempt: a, VerifyID: verifyID}).codeSent().code().approved().approved().capture(60_000).done()
		for i, minor := range tt.refunds {
			w.later(time.Minute).refund(fmt.Sprint("r", i), minor).done()
			if w.p.Fee != uzs(tt.want[i]) {
				t.Errorf("back %t, %v: after refund %d the fee is %s, want %d", tt.back, tt.refunds, i+1, w.p.Fee, tt.want[i])
			}
			if err := books(refunded(w)); err != nil {
				t.Errorf("back %t, %v: %v", tt.back, tt.refunds, err)
			}
		}
		if w.p.Transfer() != uzs(tt.transfer) {
			t.Errorf("back %t, %v: the shop gets %s, want %d", tt.back, tt.refunds, w.p.Transfer(), tt.transfer)
		}
	}
}

// refunded is a payment and its entries as they would be had what was given back never been taken.
func refunded(w *walk) (payment.Payment, []ledger.Entry) {
	entries := w.entries
	if back := w.p.Refunded; back.Positive() {
		entries = append(slices.Clone(entries), ledger.Transfer(ledger.Refund, "none", ledger.Processor("uzcard"), ledger.Shop(w.p.Shop), back))
	}
	return w.p, entries
}
