package payment_test

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// The store keeps Terms and Progress as JSON, written and read without any option; times are to the
// microsecond, as the store's clock is.

func anyTime(t *rapid.T, name string) time.Time {
	if rapid.IntRange(0, 4).Draw(t, name+" unset") == 0 {
		return time.Time{}
	}
	// From 1684 to 2255; whole seconds, the epoch and the last microsecond of a second among them.
	return time.UnixMicro(rapid.OneOf(
		rapid.Int64Range(-9e15, 9e15), rapid.Just[int64](0), rapid.Just[int64](-1), rapid.Just[int64](999_999), rapid.Just[int64](1_772_425_020_000_000),
	).Draw(t, name)).UTC()
}

// someTime is for what is never left unset.
func someTime(t *rapid.T, name string) time.Time {
	return time.UnixMicro(rapid.Int64Range(-9e15, 9e15).Draw(t, name)).UTC()
}

func anyText(t *rapid.T, name string) string {
	return rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "\x00", "\"\\", "</script>", "\u2028\u202e", "Ўзбекистон", "🧾", "null"})).Draw(t, name)
}

func anyAmount(t *rapid.T, name string) money.Amount {
	return money.New(rapid.Int64().Draw(t, name), rapid.SampledFrom(append(money.Currencies, "")).Draw(t, name+" currency"))
}

func anyMethod(t *rapid.T) payment.Method {
	return rapid.SampledFrom(payment.Methods).Draw(t, "method")
}

func maybe[T any](t *rapid.T, name string, draw func() T) *T {
	if rapid.Bool().Draw(t, name) {
		v := draw()
		return &v
	}
	return nil
}

func anyCentre(t *rapid.T, name string) payment.Centre {
	return payment.Centre{
		Token: anyText(t, name+" token"), Hold: anyText(t, name+" hold"), RRN: anyText(t, name+" rrn"),
		Approval: anyText(t, name+" approval"), Terminal: anyText(t, name+" terminal"), Sealed: anyText(t, name+" sealed"),
	}
}

func anyTerms(t *rapid.T) payment.Terms {
	terms := payment.Terms{
		ShopPaymentID: anyText(t, "shop payment"), Amount: anyAmount(t, "amount"), AutoCapture: rapid.Bool().Draw(t, "auto capture"),
		Test: rapid.Bool().Draw(t, "test"), InitTime: someTime(t, "init time"), ExpiresAt: someTime(t, "expires at"),
		Description: anyText(t, "description"), ReturnURL: anyText(t, "return URL"), NotifyURL: anyText(t, "notify URL"),
		Language: anyText(t, "language"), Tag: anyText(t, "tag"), TspID: rapid.Int64().Draw(t, "tsp"),
		User: maybe(t, "user", func() payment.User {
			return payment.User{ID: anyText(t, "user id"), Phone: anyText(t, "user phone"), Email: anyText(t, "user email")}
		}),
	}
	for range rapid.IntRange(0, 3).Draw(t, "methods") {
		terms.Methods = append(terms.Methods, anyMethod(t))
	}
	for range rapid.IntRange(0, 3).Draw(t, "items") {
		terms.Basket = append(terms.Basket, payment.Item{
			Description: anyText(t, "item"), Count: rapid.Int64().Draw(t, "count"), Price: anyText(t, "price"), SPIC: anyText(t, "spic"),
		})
	}
	return terms
}

func anyAttempt(t *rapid.T) payment.Attempt {
	a := payment.Attempt{
		Method: anyMethod(t), Processor: anyText(t, "processor"), Email: anyText(t, "email"), Input: anyText(t, "input"), ThreeDS: rapid.Bool().Draw(t, "3-D Secure"),
		Card:    payment.CardFacts{Scheme: anyText(t, "scheme"), First6: anyText(t, "first6"), Last4: anyText(t, "last4"), Holder: anyText(t, "holder"), Country: anyText(t, "country")},
		Fee:     payment.FeeTerms{TariffID: rapid.Int64().Draw(t, "tariff"), Rate: money.Rate(rapid.Int64().Draw(t, "rate")), Minimum: rapid.Int64().Draw(t, "minimum"), Back: rapid.Bool().Draw(t, "fee back")},
		HoldFor: rapid.Int64().Draw(t, "hold for"), Limits: payment.Limits{
			AnswerMillis: rapid.Int64().Draw(t, "answer"), RememberedMillis: rapid.Int64().Draw(t, "remembered"), WholeCapture: rapid.Bool().Draw(t, "whole capture"),
			HoldUnnamed: rapid.Bool().Draw(t, "hold unnamed"),
		},
		Challenge: maybe(t, "challenge", func() payment.Challenge {
			return payment.Challenge{
				VerifyID: rapid.Int64().Draw(t, "verify id"), CentreID: anyText(t, "centre id"), Phone: anyText(t, "phone"), URL: anyText(t, "url"),
				Step: payment.Step(anyText(t, "step")), Data: anyText(t, "data"),
				SentAt: anyTime(t, "code sent"), ExpiresAt: anyTime(t, "code ends"), Tries: rapid.Int().Draw(t, "tries"), Resends: rapid.Int().Draw(t, "resends"),
			}
		}),
		Centre: anyCentre(t, "attempt"),
	}
	for _, kind := range kinds {
		if rapid.Bool().Draw(t, "shows "+string(kind)) {
			if a.Limits.ShownMillis == nil {
				a.Limits.ShownMillis = make(map[payment.Kind]int64)
			}
			a.Limits.ShownMillis[kind] = rapid.Int64().Draw(t, "shown "+string(kind))
		}
	}
	return a
}

var kinds = []payment.Kind{payment.OpChallenge, payment.OpVerify, payment.OpHold, payment.OpCharge, payment.OpCapture, payment.OpVoid, payment.OpRefund}

func anyOperation(t *rapid.T) payment.Operation {
	return payment.Operation{
		N: rapid.Int().Draw(t, "n"), Ref: anyText(t, "ref"), Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Amount: anyAmount(t, "operation"),
		BegunAt: someTime(t, "begun"), Ask: rapid.SampledFrom([]payment.Ask{payment.Send, payment.Query, payment.Continue}).Draw(t, "ask"),
		SentAt: someTime(t, "sent"), AskedAt: someTime(t, "asked"), Asks: rapid.Int().Draw(t, "asks"), NextAt: anyTime(t, "next"),
		VerifyID: rapid.Int64().Draw(t, "operation verify id"), Resend: rapid.Bool().Draw(t, "resend"),
		Outcome: payment.Outcome(anyText(t, "outcome")), Reason: payment.Reason(anyText(t, "reason")), Cause: anyText(t, "cause"),
		AnsweredAt: anyTime(t, "answered"), Centre: anyCentre(t, "operation"),
		Look: rapid.Bool().Draw(t, "look"), Resolutions: anyResolutions(t),
	}
}

func anyResolutions(t *rapid.T) (resolutions []payment.Resolution) {
	for range rapid.IntRange(0, 2).Draw(t, "resolutions") {
		resolutions = append(resolutions, payment.Resolution{
			Outcome: payment.Outcome(anyText(t, "resolved")), Reason: payment.Reason(anyText(t, "resolution reason")), Amount: rapid.SampledFrom([]money.Amount{{}, uzs(rapid.Int64Min(1).Draw(t, "resolution"))}).Draw(t, "resolved sum"),
			Hold: anyText(t, "resolution hold"), RRN: anyText(t, "resolution rrn"), By: anyText(t, "resolved by"), Why: anyText(t, "why"), At: someTime(t, "resolved at"),
		})
	}
	return resolutions
}

func anyProgress(t *rapid.T) payment.Progress {
	var refunds []payment.Refund
	for range rapid.IntRange(0, 3).Draw(t, "refunds") {
		refunds = append(refunds, payment.Refund{
			ID: anyText(t, "refund"), ShopID: anyText(t, "shop refund"), Amount: anyAmount(t, "refunded"), AskedAt: someTime(t, "refund asked"),
			Operation: rapid.Int().Draw(t, "refund operation"), State: payment.RefundState(anyText(t, "refund state")), Reason: payment.Reason(anyText(t, "refund reason")),
		})
	}
	return payment.Progress{
		Refunds: refunds,
		Attempt: maybe(t, "attempt", func() payment.Attempt { return anyAttempt(t) }),
		Open:    maybe(t, "open", func() payment.Operation { return anyOperation(t) }),
		Decision: maybe(t, "decision", func() payment.Decision {
			return payment.Decision{
				Accept: rapid.SampledFrom([]payment.Accept{payment.Capture, payment.Cancel}).Draw(t, "accept"), Amount: anyAmount(t, "decided"),
				By: payment.By(anyText(t, "by")), At: someTime(t, "decided at"),
			}
		}),
		Tried: rapid.Bool().Draw(t, "tried"), Attempts: rapid.Int().Draw(t, "attempts"), WrongCodes: rapid.Int().Draw(t, "wrong codes"),
		HoldDeadline: anyTime(t, "deadline"), PaidAt: anyTime(t, "paid"), LastRefusal: payment.Reason(anyText(t, "refusal")),
		Restored: anyTime(t, "restored"), Skipped: rapid.Int().Draw(t, "skipped"),
		LastOperation: rapid.Int().Draw(t, "last operation"), LastEntry: rapid.Int().Draw(t, "last entry"), LastEvent: rapid.Int().Draw(t, "last event"),
	}
}

func roundTrip[T any](t *rapid.T, v T) {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("%+v is not written: %v", v, err)
	}
	var got T
	if err := json.Unmarshal(b, &got, json.RejectUnknownMembers(true)); err != nil {
		t.Fatalf("%s is not read: %v", b, err)
	}
	// An empty list and none are the same; times must be the same instant in the same place, so that
	// a decision read twice is equal by ==.
	if diff := cmp.Diff(v, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b time.Time) bool { return a == b })); diff != "" {
		t.Fatalf("%s: %s", b, diff)
	}
	again, err := json.Marshal(got, json.Deterministic(true))
	first, _ := json.Marshal(v, json.Deterministic(true))
	if err != nil || string(again) != string(first) {
		t.Fatalf("%s is written again as %s, %v", first, again, err)
	}
}

func TestTermsComeBackFromTheStore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { roundTrip(t, anyTerms(t)) })
}

func TestProgressComesBackFromTheStore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { roundTrip(t, anyProgress(t)) })
}

// What is written by hand is what package json writes.
func TestStoreFormByHand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		terms, progress, op := anyTerms(t), anyProgress(t), anyOperation(t)
		for _, c := range []struct {
			value  any
			append func([]byte) ([]byte, error)
		}{{&terms, terms.AppendJSON}, {&progress, progress.AppendJSON}, {&op, op.AppendJSON}} {
			want, err := json.Marshal(c.value, json.Deterministic(true))
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.append([]byte("before "))
			if err != nil || string(got) != "before "+string(want) {
				t.Fatalf("by hand, %v:\n%s\nby json:\n%s", err, got, want)
			}
		}
	})
	// Every field that there is was in what was compared: a new one must be written, too.
	for _, c := range []struct {
		of   any
		want int
	}{{payment.Terms{}, 15}, {payment.User{}, 3}, {payment.Item{}, 4}, {payment.Progress{}, 15}, {payment.Operation{}, 19}, {payment.Attempt{}, 11}, {payment.Challenge{}, 10}, {payment.Centre{}, 6},
		{payment.CardFacts{}, 5}, {payment.FeeTerms{}, 4}, {payment.Limits{}, 5}, {payment.Refund{}, 7}, {payment.Decision{}, 4}, {payment.Resolution{}, 8}} {
		if n := reflect.TypeOf(c.of).NumField(); n != c.want {
			t.Errorf("%T has %d fields, not %d: write the new one in encode.go, draw it in this file, and correct this table", c.of, n, c.want)
		}
	}
	// Whatever else is written before and after it.
	op, terms := payment.Operation{Ref: "1_1", Cause: "\xff"}, payment.Terms{Description: "\xff", Tag: "tag"}
	for _, write := range []func([]byte) ([]byte, error){op.AppendJSON, terms.AppendJSON} {
		if b, err := write(nil); err == nil {
			t.Errorf("text that is no UTF-8 is written: %q", b)
		}
	}
}

func TestEventsComeBackFromTheStore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roundTrip(t, payment.Event{
			N: rapid.Int().Draw(t, "n"), Status: payment.Status(anyText(t, "status")), At: someTime(t, "at"),
			Sums: payment.Sums{
				Held: anyAmount(t, "held"), Captured: anyAmount(t, "captured"), Released: anyAmount(t, "released"),
				Refunded: anyAmount(t, "refunded"), Fee: anyAmount(t, "fee"),
			},
		})
	})
}

// Every situation of a payment comes back as it was and goes on the same.
func TestSituationsComeBackFromTheStore(t *testing.T) {
	for _, s := range situations {
		w := s.walk(t)
		b, err := json.Marshal(w.p.Progress)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		stored := w.p
		stored.Progress = payment.Progress{}
		if err := json.Unmarshal(b, &stored.Progress); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if diff := cmp.Diff(w.p, stored, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", s.name, diff)
		}
		for head, all := range commands {
			for _, c := range all {
				want, wantErr := payment.Begin(w.p, c, w.now)
				got, gotErr := payment.Begin(stored, c, w.now)
				if outcome(w.p, want) != outcome(stored, got) || (wantErr == nil) != (gotErr == nil) || wantErr != nil && wantErr.Error() != gotErr.Error() {
					t.Errorf("%s, %s: %q, %v from memory; %q, %v from the store", s.name, head, outcome(w.p, want), wantErr, outcome(stored, got), gotErr)
				}
			}
		}
	}
}

// No card number, code or CVC is in what the store keeps in the open (invariant 14).
func TestStoreFormHoldsNoCard(t *testing.T) {
	number := "8600313260861293"
	card := payment.Card{Number: number, Expiry: "2712", CVC: "739"}
	a := attempt(card.Facts(builtIn))
	w := start(t, terms())
	w.begin(payment.Pay{Attempt: a, VerifyID: verifyID}).codeSent().code().approved().approved().capture(60_000).done()
	b, err := json.Marshal(struct {
		payment.Progress
		Closed []payment.Operation
	}{w.p.Progress, w.closed})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+7 <= len(number); i++ {
		if part := number[i : i+7]; bytes.Contains(b, []byte(part)) {
			t.Errorf("seven digits of the card stand in %s", b)
		}
	}
}
