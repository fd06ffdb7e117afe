// Package ledger states what happened to money as double entries.
//
// An Entry is a fact that belongs to one operation at a processing centre: a list of lines,
// each moving a sum on one account, that add up to zero. Entries are only ever appended; a
// correction is another entry. A balance is the sum of an account's lines, never a stored counter.
package ledger

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"holdfast/internal/money"
)

// Kind says why money moved.
type Kind string

// The kinds of entry.
const (
	Hold    Kind = "hold"    // the payer's money is set aside for the shop
	Capture Kind = "capture" // set-aside money becomes the shop's
	Release Kind = "release" // set-aside money goes back to the payer
	Fee     Kind = "fee"     // the gateway's share of what the shop captured
	Refund  Kind = "refund"  // captured money goes back to the payer
)

// Account is a place where money stands, in one currency (the currency is the line's).
//
// A positive line is a debit, a negative one a credit, as bookkeepers have it: what centres owe
// us is positive, what we owe shops is negative.
//
//	payer/held        what payers have set aside: the mirror of all shops' held accounts
//	shop/12/held      what is set aside for shop 12 and not yet decided
//	shop/12           what we owe shop 12
//	processor/uzcard  what the centre owes us for captured payments
//	fees              what the gateway has earned
type Account string

// PayerHeld mirrors the held accounts of all shops.
const PayerHeld Account = "payer/held"

// Fees is the gateway's income.
const Fees Account = "fees"

// ShopHeld is what is set aside for a shop and not yet decided.
func ShopHeld(shop int64) Account {
	return Account("shop/" + strconv.FormatInt(shop, 10) + "/held")
}

// Shop is what the gateway owes a shop.
func Shop(shop int64) Account { return Account("shop/" + strconv.FormatInt(shop, 10)) }

// Processor is what a processing centre owes the gateway.
func Processor(name string) Account { return Account("processor/" + name) }

// Line moves a sum on one account: above zero a debit, below zero a credit.
type Line struct {
	Account Account
	Amount  money.Amount
}

// Entry is one fact. Operation is the reference of the processor operation it follows from.
type Entry struct {
	Kind      Kind
	Operation string
	Lines     []Line
}

// Transfer is the entry of two lines that most facts are: amount leaves credit and comes to debit.
func Transfer(kind Kind, operation string, debit, credit Account, amount money.Amount) Entry {
	return Entry{Kind: kind, Operation: operation, Lines: []Line{
		{Account: debit, Amount: amount},
		{Account: credit, Amount: amount.Neg()},
	}}
}

// Sum is what the entry is about: the total of its debits. Call it only on an entry that Check accepts.
func (e Entry) Sum() money.Amount {
	sum := e.Lines[0].Amount.Zero()
	for _, l := range e.Lines {
		if l.Amount.Positive() {
			sum = sum.Add(l.Amount)
		}
	}
	return sum
}

// Check reports why e is not a fact: fewer than two lines, several currencies, a line of
// nothing, a sum that is not zero, or no operation.
func (e Entry) Check() error {
	if e.Operation == "" {
		return fmt.Errorf("ledger entry %s belongs to no operation", e.Kind)
	}
	if len(e.Lines) < 2 {
		return fmt.Errorf("ledger entry %s of %s has %d lines, needs at least 2", e.Kind, e.Operation, len(e.Lines))
	}
	sum := e.Lines[0].Amount.Zero()
	for _, l := range e.Lines {
		if l.Amount.Currency != sum.Currency {
			return fmt.Errorf("ledger entry %s of %s mixes %s and %s", e.Kind, e.Operation, sum.Currency, l.Amount.Currency)
		}
		if l.Amount.IsZero() || l.Account == "" || strings.ContainsAny(string(l.Account), " ;") {
			return fmt.Errorf("ledger entry %s of %s has an empty line", e.Kind, e.Operation)
		}
		sum = sum.Add(l.Amount)
	}
	if !sum.IsZero() {
		return fmt.Errorf("ledger entry %s of %s is off by %s", e.Kind, e.Operation, sum)
	}
	return nil
}

// AppendLines writes the lines as the store keeps them: "fees -2000;shop/12 2000", minor units.
func (e Entry) AppendLines(b []byte) []byte {
	for i, l := range e.Lines {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, l.Account...)
		b = append(b, ' ')
		b = strconv.AppendInt(b, l.Amount.Minor, 10)
	}
	return b
}

var errLines = errors.New("ledger lines are not of the form \"account sum;account sum\"")

// ParseLines reads what AppendLines wrote.
func ParseLines(text string, c money.Currency) ([]Line, error) {
	var lines []Line
	for part := range strings.SplitSeq(text, ";") {
		account, sum, _ := strings.Cut(part, " ")
		minor, err := strconv.ParseInt(sum, 10, 64)
		if err != nil || account == "" {
			return nil, fmt.Errorf("%w: %q", errLines, text)
		}
		lines = append(lines, Line{Account: Account(account), Amount: money.New(minor, c)})
	}
	return lines, nil
}
