package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/sim"
	"holdfast/internal/store"
)

// booksResult is our record held against the centre's own books.
type booksResult struct {
	Operations  int      `json:"operations"` // in the centre's books
	Lost        int      `json:"lost"`       // we say it was done, the centre does not have it
	Doubled     int      `json:"doubled"`    // the centre did it, and nothing of ours says so
	InDoubt     int      `json:"in_doubt"`   // the centre did it, and we do not know yet
	Differences []string `json:"differences"`
}

// maxDifferences bounds what is remembered.
const maxDifferences = 1000

func (r *booksResult) differ(format string, args ...any) {
	if len(r.Differences) < maxDifferences {
		r.Differences = append(r.Differences, fmt.Sprintf(format, args...))
	}
}

// compareBooks goes through both records and matches every operation that moved money: what we
// say was done must be in the centre's books with the same sum, once, and nothing else may be there.
func compareBooks(ctx context.Context, s *store.Store, simURL string, since time.Time) (*booksResult, error) {
	books, err := fetchBooks(ctx, simURL)
	if err != nil {
		return nil, err
	}
	r := &booksResult{Operations: len(books.Operations), Differences: []string{}}
	theirs := make(map[string]*sim.Operation, len(books.Operations))
	for i := range books.Operations {
		op := &books.Operations[i]
		if op.Kind == "void" || op.Kind == "lapse" {
			continue // seen in the state of the hold
		}
		key := centreOf(op) + " " + op.Kind + " " + op.Reference
		if theirs[key] != nil {
			r.Doubled++
			r.differ("the centre has two of %s", key)
		}
		theirs[key] = op
	}
	doubt := make(map[string]int) // open questions by what the centre may have done
	find := func(p *payment.Payment, op *payment.Operation, reference string) *sim.Operation {
		key := string(p.Attempt.Method) + " " + string(op.Kind) + " " + reference
		found := theirs[key]
		if found == nil {
			r.Lost++
			r.differ("payment %s: the centre does not have %s", p.ID, key)
			return nil
		}
		delete(theirs, key)
		if found.Amount != op.Amount.Minor {
			r.differ("payment %s: %s is %d here and %d at the centre", p.ID, key, op.Amount.Minor, found.Amount)
		}
		return found
	}
	err = s.Each(ctx, func(t *store.Timeline) error {
		p := &t.Payment
		if p.CreatedAt.Before(since) {
			return nil
		}
		if p.Open != nil && p.Open.Kind.MovesMoney() {
			doubt[fmt.Sprintf("%s %s %d", p.Attempt.Method, p.Open.Kind, p.Open.Amount.Minor)]++
		}
		begun := "" // what the payment's money is called at the centre, by our own reference
		for i := range t.Operations {
			op := &t.Operations[i]
			if op.Outcome != payment.Approved || !op.Kind.MovesMoney() {
				continue
			}
			if op.Kind == payment.OpHold || op.Kind == payment.OpCharge {
				begun = op.Ref
			}
			switch reference := referenceAt(p.Attempt.Method, op, begun); op.Kind {
			case payment.OpHold:
				if hold := find(p, op, reference); hold != nil {
					r.compareHold(p, hold)
				}
			case payment.OpCharge:
				if op.Look && !p.Terms.AutoCapture {
					// Found after a restore: it was taken in two stages, of which this store never saw the first.
					found := *op
					found.Kind = payment.OpCapture
					if capture := find(p, &found, reference); capture != nil {
						for key, hold := range theirs {
							if hold.Kind == "hold" && hold.Scheme == capture.Scheme && hold.HoldID == capture.HoldID {
								delete(theirs, key)
							}
						}
					}
					break
				}
				find(p, op, reference)
			case payment.OpCapture, payment.OpRefund:
				find(p, op, reference)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for key, op := range theirs {
		if open := fmt.Sprintf("%s %s %d", centreOf(op), op.Kind, op.Amount); doubt[open] > 0 {
			doubt[open]--
			r.InDoubt++
			continue
		}
		r.Doubled++
		r.differ("the centre did %s of %d, and no payment says so", key, op.Amount)
	}
	return r, nil
}

// centreOf is what the gateway calls the centre that did an operation of the books.
func centreOf(op *sim.Operation) string {
	if op.Scheme == "visa" || op.Scheme == "mastercard" {
		return string(payment.BankCard)
	}
	return op.Scheme
}

// referenceAt is what a centre's books call an operation (see sim.Operation): a centre that takes no
// reference of ours for it has its own, or that of the operation which the payment's money began with.
func referenceAt(m payment.Method, op *payment.Operation, begun string) string {
	switch {
	case m == payment.Uzcard && op.Kind == payment.OpHold:
		return op.Centre.Hold
	case m == payment.Humo, m == payment.BankCard && op.Kind == payment.OpCapture:
		return begun
	}
	return op.Ref
}

// compareHold matches what became of a hold.
func (r *booksResult) compareHold(p *payment.Payment, hold *sim.Operation) {
	if p.Open != nil {
		return // its end is in doubt
	}
	fits := false
	switch p.State {
	case payment.Held:
		fits = hold.State == "held"
	case payment.Captured:
		fits = hold.State == "captured" && hold.Captured == p.Captured.Minor
	case payment.Voided:
		fits = hold.State == "dismissed" || hold.State == "lapsed"
	}
	if !fits {
		r.differ("payment %s is %s with %d captured; at the centre its hold is %s with %d captured", p.ID, p.State, p.Captured.Minor, hold.State, hold.Captured)
	}
}

func fetchBooks(ctx context.Context, simURL string) (*sim.Books, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(simURL, "/")+"/sim/books", nil)
	if err != nil {
		return nil, fmt.Errorf("--sim: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the simulator's books cannot be read: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the simulator's books cannot be read: %s answers %s", req.URL, res.Status)
	}
	var books sim.Books
	if err := json.NewDecoder(res.Body).Decode(&books); err != nil {
		return nil, fmt.Errorf("the simulator's books cannot be read: %w", err)
	}
	return &books, nil
}
