package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast/internal/ledger"
	"holdfast/internal/money"
	"holdfast/internal/store"
	"holdfast/internal/vault"
)

type auditCmd struct {
	data
	Sim  string `help:"Also compare with the books of this simulator, operation by operation." placeholder:"URL"`
	JSON bool   `help:"As JSON."`
}

func (c *auditCmd) Help() string {
	return `Ends 0 if every invariant holds, 1 if one is broken; docs/payment-cycle.md explains them.
It may run while the gateway serves, and on a standby of its database. --sim is for a store whose
payments all went to that simulator, when nothing is under way.

  holdfast audit --data /var/lib/holdfast
  holdfast audit --data /var/lib/holdfast --db postgres://holdfast@standby/holdfast
  holdfast audit --data DIR --sim http://127.0.0.1:8090`
}

// auditResult is an audit for scripts; sums in minor units.
type auditResult struct {
	Clean      bool                                        `json:"clean"`
	Payments   int                                         `json:"payments"`
	Operations int                                         `json:"operations"`
	Entries    int                                         `json:"entries"`
	Events     int                                         `json:"events"`
	InDoubt    int                                         `json:"in_doubt"`
	ForPerson  int                                         `json:"for_person"`
	Resolved   int                                         `json:"resolved"` // operations on which persons gave their word
	Balances   map[money.Currency]map[ledger.Account]int64 `json:"balances"`
	Violations []string                                    `json:"violations"`
	Books      *booksResult                                `json:"books,omitempty"`
}

func (c *auditCmd) Run(ctx context.Context, p program) error {
	if err := complete("--sim", c.Sim, "http://127.0.0.1:8090"); err != nil {
		return err
	}
	return c.onStore(func(s *store.Store, _ *vault.Vault) error {
		result, err := audit(ctx, s, c.Sim, p.progress("looked at %d of %d payments"))
		if err != nil {
			return err
		}
		if c.JSON {
			err = p.print(result)
		} else {
			p.showAudit(result)
		}
		if err == nil && !result.Clean {
			return errSaid
		}
		return err
	})
}

// audit checks the store, and compares it with a simulator's books if there is one.
func audit(ctx context.Context, s *store.Store, simURL string, progress func(done, of int)) (*auditResult, error) {
	return auditSince(ctx, s, simURL, time.Time{}, progress)
}

// auditSince compares only payments made since a time with the simulator's books: the simulator was
// started then.
func auditSince(ctx context.Context, s *store.Store, simURL string, since time.Time, progress func(done, of int)) (*auditResult, error) {
	a, err := s.Audit(ctx, progress)
	if err != nil {
		return nil, err
	}
	result := &auditResult{
		Payments: a.Payments, Operations: a.Operations, Entries: a.Entries, Events: a.Events,
		InDoubt: a.InDoubt, ForPerson: a.ForPerson, Resolved: a.Resolved, Balances: a.Balances, Violations: []string{},
	}
	for _, v := range a.Violations {
		result.Violations = append(result.Violations, v.String())
	}
	result.Clean = len(a.Violations) == 0
	if simURL != "" {
		if result.Books, err = compareBooks(ctx, s, simURL, since); err != nil {
			return nil, err
		}
		result.Clean = result.Clean && len(result.Books.Differences) == 0
	}
	return result, nil
}

// shownViolations bounds what a person is shown.
const shownViolations = 20

func (p program) showAudit(r *auditResult) {
	fmt.Fprintf(p.stdout, "%d payments, %d operations, %d ledger entries, %d events; %d questions in doubt, %d of them for a person; %d resolved by persons\n",
		r.Payments, r.Operations, r.Entries, r.Events, r.InDoubt, r.ForPerson, r.Resolved)
	for _, currency := range slices.Sorted(maps.Keys(r.Balances)) {
		accounts := r.Balances[currency]
		for _, account := range slices.Sorted(maps.Keys(accounts)) {
			if accounts[account] != 0 {
				fmt.Fprintf(p.stdout, "  %-24s %s\n", account, money.New(accounts[account], currency))
			}
		}
	}
	differences := slices.Clone(r.Violations)
	if r.Books != nil {
		fmt.Fprintf(p.stdout, "%d operations in the centre's books compared: lost %d, doubled %d\n", r.Books.Operations, r.Books.Lost, r.Books.Doubled)
		differences = append(differences, r.Books.Differences...)
	}
	for i, text := range differences {
		if i == shownViolations {
			fmt.Fprintf(p.stdout, "  ... and %d more\n", len(differences)-i)
			break
		}
		fmt.Fprintf(p.stdout, "  BROKEN: %s\n", text)
	}
	if r.Clean {
		fmt.Fprintln(p.stdout, "clean: every invariant holds")
	}
}

// progress makes a function that tells how far long work is, at most once a second.
func (p program) progress(format string) func(done, of int) {
	last := time.Now()
	return func(done, of int) {
		if time.Since(last) > time.Second {
			last = time.Now()
			fmt.Fprintf(p.stderr, format+"\n", done, of)
		}
	}
}
