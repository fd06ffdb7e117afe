package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"holdfast/internal/ledger"
	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// Violation is a broken invariant.
type Violation struct {
	Invariant int // its number in docs/payment-cycle.md
	Payment   payment.ID
	Text      string
}

func (v Violation) String() string {
	return fmt.Sprintf("invariant %d, payment %s: %s", v.Invariant, v.Payment, v.Text)
}

// Audit is what a check of the whole store found.
type Audit struct {
	Payments, Operations, Entries, Events int
	InDoubt                               int // questions whose answer is missing
	ForPerson                             int // of these, what waits for a person
	Resolved                              int // operations on which persons gave their word
	Balances                              map[money.Currency]map[ledger.Account]int64
	Violations                            []Violation // the first maxViolations
}

const (
	maxViolations = 1000
	auditChunk    = 1000 // payments read in one snapshot, so that a long audit holds up no checkpoint
)

// Audit derives everything again from the stored rows and compares: invariants 1-8, 10, 12, 13 and 16
// of docs/payment-cycle.md. It can run beside a serving gateway. progress, which may be nil, is called
// now and then with the number of payments looked at and the number there are.
func (s *Store) Audit(ctx context.Context, progress func(done, of int)) (*Audit, error) {
	a := &Audit{Balances: make(map[money.Currency]map[ledger.Account]int64)}
	total := 0
	err := s.engine.read(ctx, func(q querier) error {
		return q.query(`SELECT count(*) FROM payments`, nil, func(r record) error {
			total = int(r.int(0))
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	for from := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		last := from
		err := s.engine.snapshot(ctx, func(q querier) (err error) {
			last, err = s.auditChunk(q, a, from)
			return err
		})
		if err != nil {
			return nil, err
		}
		if last == from {
			break
		}
		from = last
		if progress != nil {
			progress(a.Payments, total)
		}
	}
	if err := s.auditOrphans(ctx, a); err != nil {
		return nil, err
	}
	for currency, accounts := range a.Balances {
		sum := int64(0)
		for _, balance := range accounts {
			sum += balance
		}
		if sum != 0 {
			a.violate(7, payment.ID{}, "the ledger in %s is off by %d minor units", currency, sum)
		}
	}
	return a, nil
}

func (a *Audit) violate(invariant int, id payment.ID, format string, args ...any) {
	if len(a.Violations) < maxViolations {
		a.Violations = append(a.Violations, Violation{invariant, id, fmt.Sprintf(format, args...)})
	}
}

// audited is one payment with all its rows.
type audited struct {
	row
	open       string // as stored
	early      bool   // it may be due too early
	operations []payment.Operation
	entries    []Entry
	events     []payment.Event
	shops      []int64 // of the events
}

// auditChunk looks at the payments after row from and returns the last row it saw.
func (s *Store) auditChunk(q querier, a *Audit, from int64) (last int64, err error) {
	var chunk []*audited
	bySeq := make(map[int64]*audited)
	last = from
	err = q.query(selectPayment+` WHERE p.seq > ?1 ORDER BY p.seq LIMIT ?2`,
		[]value{num(from), num(auditChunk)}, func(rec record) error {
			r, err := s.scan(rec)
			if err != nil {
				a.violate(7, r.payment.ID, "%v", err)
			}
			p := &audited{row: r, early: !s.Alone(), open: rec.text(16)}
			last = r.seq
			bySeq[r.seq] = p
			if err == nil {
				chunk = append(chunk, p)
			}
			return nil
		})
	if err != nil || last == from {
		return last, err
	}
	// rows goes through a table's rows of these payments, but for those of none; see auditOrphans.
	rows := func(columnsFrom string, each func(p *audited, n int, rec record)) error {
		return q.query(`SELECT payment, n, `+columnsFrom+` WHERE payment > ?1 AND payment <= ?2 ORDER BY payment, n`, []value{num(from), num(last)}, func(rec record) error {
			if p := bySeq[rec.int(0)]; p != nil {
				each(p, int(rec.int(1)), rec)
			}
			return nil
		})
	}
	err = rows(`record FROM operations`, func(p *audited, n int, rec record) {
		var op payment.Operation
		if err := json.Unmarshal(rec.blob(2), &op); err != nil {
			a.violate(6, p.payment.ID, "operation %d cannot be read: %v", n, err)
			return
		}
		if op.N != n {
			a.violate(6, p.payment.ID, "operation %d calls itself %d", n, op.N)
		}
		p.operations = append(p.operations, op)
		a.Operations++
	})
	if err != nil {
		return last, err
	}
	err = rows(`operation, kind, currency, lines FROM entries`, func(p *audited, n int, rec record) {
		lines, err := ledger.ParseLines(rec.text(5), money.Currency(rec.text(4)))
		if err != nil {
			a.violate(7, p.payment.ID, "entry %d: %v", n, err)
			return
		}
		p.entries = append(p.entries, Entry{N: n, Entry: ledger.Entry{Operation: rec.text(2), Kind: ledger.Kind(rec.text(3)), Lines: lines}})
		a.Entries++
	})
	if err != nil {
		return last, err
	}
	err = rows(`status, shop FROM events`, func(p *audited, n int, rec record) {
		p.events = append(p.events, payment.Event{N: n, Status: payment.Status(rec.text(2))})
		p.shops = append(p.shops, rec.int(3))
		a.Events++
	})
	if err != nil {
		return last, err
	}
	for _, p := range chunk {
		a.check(p)
	}
	return last, nil
}

// check derives one payment again from its rows.
func (a *Audit) check(r *audited) {
	a.Payments++
	p := &r.payment
	fail := func(invariant int, format string, args ...any) { a.violate(invariant, p.ID, format, args...) }
	defer func() {
		// Package money panics on sums that no payment of ours can have; on rows that somebody changed it may meet them.
		if why := recover(); why != nil {
			fail(7, "its sums cannot be added up: %v", why)
		}
	}()

	if p.Captured.Cmp(p.Held) > 0 || p.Refunded.Cmp(p.Captured) > 0 {
		fail(2, "held %s, captured %s, refunded %s", p.Held, p.Captured, p.Refunded)
	} else if err := p.CheckSums(); err != nil {
		fail(1, "%v", err)
	}

	// What was asked of the centre, the last one perhaps open.
	all := slices.Clone(r.operations)
	if p.Open != nil {
		all = append(all, *p.Open)
		if p.Open.Outcome != payment.ChallengeGiven { // else the payer is at his bank
			a.InDoubt++
		}
		if p.Open.NextAt.IsZero() {
			a.ForPerson++
		}
	}
	effective := a.checkOperations(p, all, fail)
	checkDecision(p, effective, fail)
	a.checkEntries(r, all, fail)
	checkEvents(r, fail)

	// What is in doubt will be asked about.
	if due := dueAt(p, r.due); !r.due.Equal(due) && !(r.early && !r.due.IsZero() && r.due.Before(due)) {
		fail(16, "the payment is due at %s, the store wakes it at %s", p.Due(), r.due)
	}
	if r.open != openKind(p) {
		fail(16, "the open question is %q, the store lists it as %q", openKind(p), r.open)
	}
}

// failing notes what breaks an invariant of the payment that is looked at.
type failing func(invariant int, format string, args ...any)

// checkOperations looks at what was asked of the centre: 1, 2, 3 …, with a name of its own each. effective is the last of each
// kind that took effect.
func (a *Audit) checkOperations(p *payment.Payment, all []payment.Operation, fail failing) (effective map[payment.Kind]*payment.Operation) {
	effective = make(map[payment.Kind]*payment.Operation)
	refs := make(map[string]bool)
	own := p.Reference() // of the first; that of the others goes on with their numbers
	for i := range all {
		op := &all[i]
		if op.N != i+1 {
			fail(6, "operation %d stands where %d should", op.N, i+1)
		}
		if refs[op.Ref] {
			fail(4, "two operations are called %s", op.Ref)
		} else if op.Ref != own && !strings.HasPrefix(op.Ref, own+"_") {
			fail(4, "operation %s bears another payment's name", op.Ref) // names are unique over all payments
		}
		refs[op.Ref] = true
		if len(op.Resolutions) > 0 {
			a.Resolved++
		}
		if op.Outcome != payment.Approved {
			continue
		}
		if effective[op.Kind] != nil && op.Kind.MovesMoney() && op.Kind != payment.OpRefund {
			fail(4, "%s and %s are both an effective %s", effective[op.Kind].Ref, op.Ref, op.Kind)
		}
		effective[op.Kind] = op
	}
	if len(all) != p.LastOperation {
		fail(6, "%d operations are on record, %d were begun", len(all), p.LastOperation)
	}
	if effective[payment.OpHold] != nil && effective[payment.OpCharge] != nil || effective[payment.OpCapture] != nil && effective[payment.OpVoid] != nil {
		fail(4, "both a hold and a charge, or both a capture and a void, took effect")
	}
	return effective
}

// checkDecision looks at the decision, and at what came of it.
func checkDecision(p *payment.Payment, effective map[payment.Kind]*payment.Operation, fail failing) {
	capture, void := effective[payment.OpCapture], effective[payment.OpVoid]
	switch d := p.Decision; {
	case d == nil && (capture != nil || void != nil):
		fail(3, "money was captured or let go without a decision")
	case d != nil && capture != nil && (d.Accept != payment.Capture || d.Amount != capture.Amount):
		fail(3, "%s was captured, the decision is %s %s", capture.Amount, d.Accept, d.Amount)
	case d != nil && void != nil && d.Accept != payment.Cancel:
		fail(3, "the hold was let go, the decision is %s", d.Accept)
	}
	if p.State.Terminal() && p.Open != nil && p.Open.Kind != payment.OpRefund {
		fail(5, "a %s payment still asks for a %s", p.State, p.Open.Kind)
	}
	took := effective[payment.OpCharge]
	if took == nil {
		took = capture
	}
	if (p.State == payment.Captured) != (took != nil) {
		fail(5, "the state is %s, and the centre %s", p.State, map[bool]string{true: "took money", false: "took none"}[took != nil])
	}
}

// checkEntries adds the ledger up and compares it with the payment's sums.
func (a *Audit) checkEntries(r *audited, operations []payment.Operation, fail failing) {
	p := &r.payment
	currency := p.Terms.Amount.Currency
	balances := a.Balances[currency]
	if balances == nil {
		balances = make(map[ledger.Account]int64)
		a.Balances[currency] = balances
	}
	shopHeld, shop := ledger.ShopHeld(p.Shop), ledger.Shop(p.Shop)
	var held, captured, released, refunded, fee int64
	entriesOf := make(map[string]int)
	for i, e := range r.entries {
		if e.N != i+1 {
			fail(8, "entry %d stands where %d should", e.N, i+1)
		}
		if err := e.Check(); err != nil {
			fail(7, "entry %d: %v", e.N, err)
		}
		entriesOf[e.Operation]++
		for _, l := range e.Lines {
			balances[l.Account] += l.Amount.Minor
			if l.Amount.Currency != currency {
				fail(7, "entry %d is in %s", e.N, l.Amount.Currency)
			}
			switch minor := l.Amount.Minor; {
			case strings.HasPrefix(string(l.Account), "shop/") && l.Account != shopHeld && l.Account != shop:
				fail(13, "entry %d touches %s", e.N, l.Account)
			case e.Kind == ledger.Hold && l.Account == shopHeld:
				held -= minor
			case e.Kind == ledger.Release && l.Account == shopHeld:
				released += minor
			case e.Kind == ledger.Capture && l.Account == shop:
				captured -= minor
			case e.Kind == ledger.Refund && l.Account == shop:
				refunded += minor
			case e.Kind == ledger.Fee && l.Account == ledger.Fees:
				fee -= minor
			}
		}
	}
	for _, sum := range []struct {
		name    string
		stored  money.Amount
		derived int64
	}{
		{"held", p.Held, held}, {"captured", p.Captured, captured}, {"released", p.Released, released},
		{"refunded", p.Refunded, refunded}, {"fee", p.Fee, fee},
	} {
		if sum.stored.Minor != sum.derived {
			fail(7, "%s is stored as %d, the entries say %d", sum.name, sum.stored.Minor, sum.derived)
		}
	}
	if len(r.entries) != p.LastEntry {
		fail(8, "%d entries are on record, %d were made", len(r.entries), p.LastEntry)
	}
	for _, op := range operations {
		// A void or capture that found the hold gone released it too: it is refused with that reason. A hold
		// or charge that was over when it was found moved nothing here.
		released := (op.Kind == payment.OpVoid || op.Kind == payment.OpCapture) &&
			op.Reason == payment.HoldGone && !op.AnsweredAt.IsZero() && op.NextAt.IsZero()
		moved := op.Kind.MovesMoney() && op.Outcome == payment.Approved || released
		if moved != (entriesOf[op.Ref] > 0) {
			fail(8, "operation %s (%s, %s) has %d entries", op.Ref, op.Kind, op.Outcome, entriesOf[op.Ref])
		}
		delete(entriesOf, op.Ref)
	}
	for ref := range entriesOf {
		fail(8, "entries follow from operation %s, which is not on record", ref)
	}
}

// checkEvents looks at the events: 1, 2, 3 …, the last one of the payment's status.
func checkEvents(r *audited, fail failing) {
	p := &r.payment
	for i, e := range r.events {
		if e.N != i+1 {
			fail(10, "event %d stands where %d should", e.N, i+1)
		}
		if r.shops[i] != p.Shop {
			fail(13, "event %d belongs to shop %d, the payment to %d", e.N, r.shops[i], p.Shop)
		}
	}
	if len(r.events) != p.LastEvent {
		fail(10, "%d events are on record, %d were made", len(r.events), p.LastEvent)
	}
	told := payment.StatusCreated
	if n := len(r.events); n > 0 {
		told = r.events[n-1].Status
	}
	if told != p.Status() {
		fail(10, "the status is %s, the last one told is %s", p.Status(), told)
	}
}

// auditOrphans looks for rows whose payment does not exist.
func (s *Store) auditOrphans(ctx context.Context, a *Audit) error {
	return s.engine.read(ctx, func(q querier) error {
		for table, invariant := range map[string]int{"terms": 12, "names": 12, "operations": 6, "entries": 8, "events": 10, "deliveries": 10, "claims": 4} {
			err := q.query(`SELECT count(*) FROM `+table+` x WHERE NOT EXISTS (SELECT 1 FROM payments p WHERE p.seq = x.payment)`, nil, func(r record) error {
				if n := r.int(0); n > 0 {
					a.violate(invariant, payment.ID{}, "%d rows of %s belong to no payment", n, table)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		// A payment is read with its terms; one that has none, or whose name leads elsewhere, would not be seen.
		for what, sql := range map[string]string{
			"payments have no terms":                           `SELECT count(*) FROM payments p WHERE NOT EXISTS (SELECT 1 FROM terms t WHERE t.payment = p.seq)`,
			"names lead to payments that are called otherwise": `SELECT count(*) FROM names n JOIN terms t ON t.payment = n.payment WHERE t.shop <> n.shop OR t.shop_payment_id <> n.shop_payment_id`,
			"payments are not found by their shop's names":     `SELECT count(*) FROM terms t LEFT JOIN names n ON n.shop = t.shop AND n.shop_payment_id = t.shop_payment_id WHERE n.payment IS NULL OR n.payment <> t.payment`,
		} {
			err := q.query(sql, nil, func(r record) error {
				if n := r.int(0); n > 0 {
					a.violate(12, payment.ID{}, "%d %s", n, what)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}
