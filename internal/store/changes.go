package store

import (
	"fmt"
	"slices"
	"time"

	"holdfast/internal/payment"
)

// What the third pass of the shared commit writes of the payments that were decided on.

// writeChanges stores what was decided. Where another was faster nothing is written, and the job is held: it must be decided
// anew.
func (s *Store) writeChanges(w writing, changed []*job) error {
	if len(changed) == 0 {
		return nil
	}
	waits, err := s.earlierWait(w, changed)
	if err != nil {
		return err
	}
	on := desks.Get().(*desk)
	defer on.giveBack()
	changed, err = s.contest(w, changed, on)
	if err != nil {
		return err
	}
	payments, terms, operations, entries, events := on.sheet(insertPayment), on.sheet(insertTerms), on.sheet(insertOperation), on.sheet(insertEntry), on.sheet(insertEvent)
	for _, j := range changed {
		c := &j.change
		p := &c.Payment
		if j.made {
			words, err := on.write(p.Terms.AppendJSON)
			if err != nil {
				return fmt.Errorf("payment %s: its terms cannot be written: %w", p.ID, err)
			}
			progress, err := on.write(p.Progress.AppendJSON)
			if err != nil {
				return fmt.Errorf("payment %s: its progress cannot be written: %w", p.ID, err)
			}
			p.Version = 1
			j.row.due = dueAt(p, time.Time{})
			payments.add(on.row(num(j.row.seq), num(p.Version), str(p.State.String()), moment(p.UpdatedAt), orNull(j.row.due), str(openKind(p)),
				num(p.Held.Minor), num(p.Captured.Minor), num(p.Released.Minor), num(p.Refunded.Minor), num(p.Fee.Minor), progress))
			terms.add(on.row(num(j.row.seq), bin(p.ID[:]), num(p.Shop), str(p.Terms.ShopPaymentID), moment(p.CreatedAt),
				str(p.Terms.Amount.Currency), num(p.Terms.Amount.Minor), words))
		}
		if c.Closed != nil {
			record, err := on.write(c.Closed.AppendJSON)
			if err != nil {
				return fmt.Errorf("operation %s cannot be written: %w", c.Closed.Ref, err)
			}
			operations.add(on.row(num(j.row.seq), num(c.Closed.N), record))
		}
		for i, e := range c.Entries {
			n := p.LastEntry - len(c.Entries) + 1 + i
			lines, _ := on.write(func(b []byte) ([]byte, error) { return e.AppendLines(b), nil })
			entries.add(on.row(num(j.row.seq), num(n), str(e.Operation), str(e.Kind), moment(p.UpdatedAt),
				str(p.Terms.Amount.Currency), lines))
		}
		for i := range c.Events {
			events.add(s.eventRow(on, j, &c.Events[i], waits))
		}
		j.row.payment = *p
	}
	for _, rows := range [...]*sheet{payments, terms, operations, entries, events} {
		if err := w.put(rows.statement, rows.rows); err != nil {
			return err
		}
	}
	return nil
}

// contest is the rows of a batch that somebody else may have been faster with. Each is written only where nobody was.
type contest struct {
	names *sheet // of new payments
	holds *sheet // that carry no reference of ours
	// Payments that must be as they were decided on. Where one process serves: those whose due_at stays, and those whose due_at is
	// set. Where several do: all of them (see dueAt).
	kept, moved, earlier *sheet
}

// contest writes what somebody else may have been faster with, and returns the jobs that have won all of theirs. One that has
// won nothing is held, and its next run knows more: that its name leads to a payment, or that its hold is another payment's, for
// which it is refused.
func (s *Store) contest(w writing, changed []*job, on *desk) (winners []*job, err error) {
	c := contest{
		names: on.sheet(claimName), holds: on.sheet(claimHold),
		kept: on.sheet(updatePayment), moved: on.sheet(updateDue), earlier: on.sheet(updateEarlier),
	}
	var entered []*job
	for _, j := range changed {
		if !c.enterHold(j, on) {
			continue
		}
		entered = append(entered, j)
		if j.made {
			c.names.addOf(j, on.row(num(j.key.shop), str(j.key.id), num(j.row.seq)))
		} else if err := c.enterPayment(j, on, s.Alone()); err != nil {
			return nil, err
		}
	}
	if err := w.bidNow(&c.names.bid, &c.holds.bid, &c.kept.bid, &c.moved.bid, &c.earlier.bid); err != nil {
		return nil, err
	}
	if err := s.noteWon(&c); err != nil {
		return nil, err
	}
	winners = entered[:0]
	for _, j := range entered {
		switch {
		case !j.lost:
			winners = append(winners, j)
			if !j.made {
				j.change.Payment.Version++
			}
		case j.won:
			return nil, errAnew
		default:
			j.held = true
		}
	}
	return winners, nil
}

// enterHold enters the hold that a job claims, if it claims one. false: the job is refused, or held.
func (c *contest) enterHold(j *job, on *desk) bool {
	if j.change.Claim == "" {
		return true
	}
	hold := j.hold()
	if hold == j.foreign {
		j.err = refused{ErrClaimed}
		return false
	}
	if slices.ContainsFunc(c.holds.jobs, func(other *job) bool { return other.hold() == hold }) {
		j.held = true // whether the other gets it is not known yet
		return false
	}
	c.holds.addOf(j, on.row(str(hold.method), str(hold.claim), num(j.row.seq)))
	return true
}

// enterPayment enters the payment that a job has changed. alone: no other process serves (see dueAt).
func (c *contest) enterPayment(j *job, on *desk, alone bool) error {
	p := &j.change.Payment
	progress, err := on.write(p.Progress.AppendJSON)
	if err != nil {
		return fmt.Errorf("payment %s: its progress cannot be written: %w", p.ID, err)
	}
	due := dueAt(p, time.Time{})
	if alone {
		due = dueAt(p, j.row.due)
	}
	row := on.row(num(j.row.seq), num(p.Version), num(p.Version+1), str(p.State.String()), moment(p.UpdatedAt), str(openKind(p)),
		num(p.Held.Minor), num(p.Captured.Minor), num(p.Released.Minor), num(p.Refunded.Minor), num(p.Fee.Minor), progress, orNull(due))
	switch {
	case !alone:
		c.earlier.addOf(j, row)
	case due.Equal(j.row.due):
		c.kept.addOf(j, row[:len(row)-1])
	default:
		j.row.due = due
		c.moved.addOf(j, row)
	}
	return nil
}

// noteWon notes what each job has won and lost, and of what it has lost what its next run must know.
func (s *Store) noteWon(c *contest) error {
	for _, rows := range [...]*sheet{c.names, c.holds, c.kept, c.moved, c.earlier} {
		for i, j := range rows.jobs {
			if rows.won[i] {
				j.won = true
				continue
			}
			j.lost = true
			switch rows {
			case c.names:
				j.exists = true
			case c.holds:
				j.foreign = j.hold()
			default:
				s.cache.forget(j.row.seq)
				if j.stale++; j.stale > mostStale {
					return fmt.Errorf("payment %s is never as it was read: others change it all the time", j.change.Payment.ID)
				}
			}
		}
	}
	return nil
}

// holdKey is a hold that carries no reference of ours: the method's name and the claim.
type holdKey struct{ method, claim string }

// hold is the hold that its change claims, if it claims one.
func (j *job) hold() holdKey {
	return holdKey{string(j.change.Payment.Attempt.Method), j.change.Claim}
}

func openKind(p *payment.Payment) string {
	if p.Open == nil {
		return ""
	}
	return string(p.Open.Kind)
}

// What a change writes.
var (
	claimName = &statement{
		sql:   `INSERT INTO names (shop, shop_payment_id, payment) VALUES (?1, ?2, ?3) ON CONFLICT (shop, shop_payment_id) DO NOTHING`,
		kinds: "bigint text bigint", key: "shop, shop_payment_id",
		strict: `INSERT INTO names (shop, shop_payment_id, payment) VALUES (?1, ?2, ?3)`,
	}
	claimHold = &statement{
		sql:   `INSERT INTO claims (processor, claim, payment) VALUES (?1, ?2, ?3) ON CONFLICT (processor, claim) DO NOTHING`,
		kinds: "text text bigint", key: "processor, claim",
		strict: `INSERT INTO claims (processor, claim, payment) VALUES (?1, ?2, ?3)`,
	}
	updatePayment = updateOf("")
	// updateDue is apart, for the index of due_at is written anew wherever due_at is set.
	updateDue = updateOf(", due_at = ?13")
	// updateEarlier is both of them.
	updateEarlier = updateOf(", due_at = CASE WHEN t.due_at <= ?13 THEN t.due_at ELSE ?13 END")
	insertPayment = &statement{
		sql: `INSERT INTO payments (seq, version, state, updated_at, due_at, open, held, captured, released, refunded, fee, progress)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)`,
		kinds: "bigint bigint text bigint bigint text bigint bigint bigint bigint bigint text",
	}
	insertTerms = &statement{
		sql:   `INSERT INTO terms (payment, id, shop, shop_payment_id, created_at, currency, amount, terms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)`,
		kinds: "bigint bytea bigint text bigint text bigint text",
	}
	insertOperation = &statement{
		sql:   `INSERT INTO operations (payment, n, record) VALUES (?1, ?2, ?3)`,
		kinds: "bigint bigint text",
	}
	insertEntry = &statement{
		sql:   `INSERT INTO entries (payment, n, operation, kind, at, currency, lines) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)`,
		kinds: "bigint bigint text text bigint text text",
	}
)

// updateOf changes a payment that is as it was decided on. due is what it does to due_at, which ?13 is for.
func updateOf(due string) *statement {
	const rest = `, state = ?4, updated_at = ?5, open = ?6, held = ?7, captured = ?8, released = ?9, refunded = ?10, fee = ?11, progress = ?12`
	s := &statement{
		sql:    `UPDATE payments AS t SET version = ?3` + rest + due + ` WHERE t.seq = ?1 AND t.version = ?2`,
		strict: `UPDATE payments AS t SET version = CASE WHEN t.version = ?2 THEN ?3 END` + rest + due + ` WHERE t.seq = ?1`,
		kinds:  "bigint bigint bigint text bigint text bigint bigint bigint bigint bigint text", key: "seq",
	}
	if due != "" {
		s.kinds += " bigint"
	}
	return s
}
