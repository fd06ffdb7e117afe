package world_test

import (
	"context"
	"fmt"
	"time"

	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// An operator changes what a shop may do and pays (holdfast shop set), while its payments go on. What a payment was begun with
// stays: its tariff and the contract that it went to are those of the moment when the card was handed in.

// set changes one setting of a shop.
func (w *world) set() {
	ctx, id := context.Background(), pick(w, w.shops...).ID
	what := ""
	_, err := w.process.store.UpdateShop(ctx, id, func(shop *merchant.Shop) error {
		s := &shop.Settings
		switch w.rand.IntN(4) {
		case 0, 1:
			s.Tariff.ID = int64(len(w.tariffs) + 1)
			s.Tariff.Fee = merchant.Fee{Rate: pick(w, money.Rate(0), 15_000, 33_333), Minimum: pick(w, int64(0), 700, 60_000), Back: w.maybe(2)}
			w.tariffs[s.Tariff.ID] = s.Tariff.Fee
			what = fmt.Sprintf("tariff %d: %+v", s.Tariff.ID, s.Tariff.Fee)
		case 2:
			method := pick(w, payment.Methods...)
			hold := pick(w, 5*time.Minute, 20*time.Minute, 3*time.Hour)
			s.HoldSeconds = map[string]int64{string(method): int64(hold / time.Second)}
			what = fmt.Sprintf("%s is held for %s", method, hold)
		default:
			what = "uzcard goes where all go"
			if s.Routes = nil; w.maybe(2) {
				s.Routes = map[string]string{string(payment.Uzcard): secondContract}
				what = "uzcard goes to the second contract"
			}
		}
		return nil
	})
	if err != nil && !w.process.dead {
		w.wrong("the settings of shop %d are not changed: %v", id, err)
	}
	w.say("shop %d: %s", id, what)
}

// settings is a shop as it is now: whoever calls is authenticated with it.
func (w *world) settings(p *pay) merchant.Shop {
	shop, err := w.process.store.Shop(context.Background(), p.shop.ID)
	if err != nil && !w.process.dead {
		w.wrong("shop %d cannot be read: %v", p.shop.ID, err)
	}
	return shop
}

// fee holds what the shop of a payment pays against the tariff of the moment when the card was handed in, by sums of its own.
func (w *world) fee(p *payment.Payment) {
	mine := w.named(p.ID)
	if p.State != payment.Captured || mine == nil || mine.tariffs == nil {
		return
	}
	tariff, known := mine.tariffs[p.Attempt.Fee.TariffID]
	if !known && w.lost != nil { // it was paid after the backup was taken: the tariff is that of when it was found
		tariff, known = w.tariffs[p.Attempt.Fee.TariffID]
	}
	fee := min(max((p.Captured.Minor*int64(tariff.Rate)*2+1_000_000)/2_000_000, tariff.Minimum), p.Captured.Minor)
	if left := p.Captured.Minor - p.Refunded.Minor; tariff.Back {
		fee = (fee*left + p.Captured.Minor - 1) / p.Captured.Minor
	}
	if !known || p.Fee.Minor != fee {
		w.wrong("%s, of which %d was captured and %d refunded, costs the shop %d; by tariff %d, %+v, that is %d", mine.name, p.Captured.Minor, p.Refunded.Minor, p.Fee.Minor,
			p.Attempt.Fee.TariffID, tariff, fee)
	}
}
