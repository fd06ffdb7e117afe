package store

import (
	"context"
	"errors"
	"time"

	"zombiezen.com/go/sqlite"

	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// The outbox. An event becomes due, is claimed (the attempt is on disk before it is sent), and its
// result is recorded. Events of one payment are told in order; an endpoint that does not take one
// of them gets the later ones all the same, after Patience attempts.

// Patience is how many attempts an event gets before the next one of its payment may overtake it.
const Patience = 3

// EventKey names an event.
type EventKey struct {
	seq int64
	n   int
}

// Delivery is an event claimed: to be sent by whoever claimed it, until its lease ends.
type Delivery struct {
	Key      EventKey
	Payment  payment.ID
	Shop     int64
	Event    payment.Event
	Endpoint string
	Attempt  int // this one: 1, 2, 3 …
}

// Result is what became of a delivery.
type Result struct {
	Delivery
	At     time.Time     // when it was sent
	Took   time.Duration // until the answer
	Status int           // HTTP; 0: no answer
	Note   string        // for people
	// Accepted: the merchant has it. NextAt: when to send it (again); zero: never. Outcome says why
	// nothing more is sent: delivered, decided, gave up.
	Accepted bool
	NextAt   time.Time
	Outcome  string
}

// Outcomes that the store itself gives to an event.
const (
	outcomeNowhere    = "nowhere to send"        // there is no notify_url
	outcomeSuperseded = "a later one was taken"  // the merchant already knows more
	outcomeDecided    = "the payment is decided" // a repeat that is no longer needed
)

// freshRoom is how many events may be claimed as they are made and wait to be sent; what comes on
// top is claimed later, as everything else is.
const freshRoom = 4096

// Fresh hands over events as they are made, already claimed for the time of lease: the attempt is on
// the disk with the event itself. Whoever takes them sends them, those of one payment one after
// another, or gives them back with PutBack.
func (s *Store) Fresh(lease time.Duration) <-chan Delivery {
	s.lease.Store(int64(lease))
	return s.fresh
}

// writeEvent puts an event into the outbox: claimed for who takes fresh ones, if it is its turn, and
// else due at once.
func (s *Store) writeEvent(conn *sqlite.Conn, j *job, e *payment.Event) error {
	p := &j.change.Payment
	var nextAt any = micros(e.At)
	leaseUntil, attempts, outcome := int64(0), 0, ""
	to := endpoint(p.Terms.NotifyURL)
	switch lease := time.Duration(s.lease.Load()); {
	case p.Terms.NotifyURL == "":
		nextAt, outcome = nil, outcomeNowhere
	case lease > 0 && len(s.fresh) < freshRoom-maxBatch:
		waits, err := earlierWaits(conn, j.row.seq, e)
		if err != nil {
			return err
		}
		if waits {
			break
		}
		leaseUntil, attempts = micros(e.At.Add(lease)), 1
		nextAt = leaseUntil
		j.fresh = append(j.fresh, Delivery{
			Key: EventKey{j.row.seq, e.N}, Payment: p.ID, Shop: p.Shop, Event: *e, Endpoint: to, Attempt: 1,
		})
	}
	return query(conn, `INSERT INTO events (payment, n, shop, status, at, captured, fee, refunded, endpoint, next_at, lease_until, attempts, accepted, outcome,
			last_at, took, http_status, note)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 0, ?13, 0, 0, 0, '')`,
		[]any{j.row.seq, e.N, p.Shop, string(e.Status), micros(e.At), e.Sums.Captured.Minor, e.Sums.Fee.Minor, e.Sums.Refunded.Minor,
			to, nextAt, leaseUntil, attempts, outcome}, nil)
}

// earlierWaits reports whether an earlier event of the payment waits to be told (again). One that is
// being told right now does not: who takes fresh events keeps their order.
func earlierWaits(conn *sqlite.Conn, seq int64, e *payment.Event) (waits bool, err error) {
	if e.N == 1 {
		return false, nil
	}
	err = query(conn, `SELECT 1 FROM events WHERE payment = ?1 AND n < ?2 AND next_at IS NOT NULL AND lease_until <= ?3 LIMIT 1`,
		[]any{seq, e.N, micros(e.At)}, func(*sqlite.Stmt) error {
			waits = true
			return nil
		})
	return waits, err
}

// PutBack gives up claims on events that were not sent; they are due again at the time given.
func (s *Store) PutBack(ctx context.Context, deliveries []Delivery, until time.Time) error {
	return s.committer.do(ctx, &job{exec: func(conn *sqlite.Conn, now time.Time) error {
		for _, d := range deliveries {
			err := query(conn, `UPDATE events SET next_at = ?3, lease_until = 0, attempts = attempts - 1 WHERE payment = ?1 AND n = ?2`,
				[]any{d.Key.seq, d.Key.n, micros(until)}, nil)
			if err != nil {
				return err
			}
		}
		return nil
	}})
}

// candidates bounds how many due events one Claim looks at.
const candidates = 512

// Claim takes up to limit due events for the caller to send within lease. admit says whether the
// caller has room for one more to an endpoint; an event without room is put off by a second, so that
// it does not stand in the way of others.
func (s *Store) Claim(ctx context.Context, limit int, lease time.Duration, admit func(endpoint string) bool) (claimed []Delivery, err error) {
	err = s.committer.do(ctx, &job{exec: func(conn *sqlite.Conn, now time.Time) error {
		claimed = claimed[:0]
		type candidate struct {
			Delivery
			accepted bool
		}
		var due []candidate
		err := query(conn, `SELECT e.payment, e.n, e.shop, e.status, e.at, e.captured, e.fee, e.refunded, e.endpoint, e.attempts, e.accepted, p.id, p.currency
			FROM events e JOIN payments p ON p.seq = e.payment WHERE e.next_at <= ?1 ORDER BY e.next_at LIMIT ?2`,
			[]any{micros(now), candidates}, func(row *sqlite.Stmt) error {
				sum := func(column int) money.Amount {
					return money.New(row.ColumnInt64(column), money.Currency(row.ColumnText(12)))
				}
				due = append(due, candidate{Delivery{
					Key: EventKey{row.ColumnInt64(0), row.ColumnInt(1)}, Payment: payment.ID(blob(row, 11)), Shop: row.ColumnInt64(2),
					Event: payment.Event{
						N: row.ColumnInt(1), Status: payment.Status(row.ColumnText(3)), At: timeAt(row.ColumnInt64(4)),
						Sums: payment.Sums{Captured: sum(5), Fee: sum(6), Refunded: sum(7)},
					},
					Endpoint: row.ColumnText(8), Attempt: row.ColumnInt(9) + 1,
				}, row.ColumnInt(10) != 0})
				return nil
			})
		if err != nil {
			return err
		}
		for _, d := range due {
			if len(claimed) == limit {
				break
			}
			wait, overtaken, oldNews, err := inOrder(conn, d.Key, now)
			if err != nil {
				return err
			}
			switch {
			case oldNews:
				// A later one was taken while this one was on its way; see Record.
				err = closeEvent(conn, d.Key, outcomeSuperseded)
			case overtaken && d.accepted:
				// The merchant took the request to decide, and has decided since.
				err = closeEvent(conn, d.Key, outcomeDecided)
			case !wait.IsZero():
				err = putOff(conn, d.Key, wait)
			case !admit(d.Endpoint):
				err = putOff(conn, d.Key, now.Add(time.Second))
			default:
				until := micros(now.Add(lease))
				err = query(conn, `UPDATE events SET attempts = ?3, next_at = ?4, lease_until = ?4 WHERE payment = ?1 AND n = ?2`,
					[]any{d.Key.seq, d.Key.n, d.Attempt, until}, nil)
				claimed = append(claimed, d.Delivery)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}})
	return claimed, err
}

// inOrder says until when an event must wait for an earlier one of its payment, whether a later
// one exists already, and whether the merchant took a later one.
func inOrder(conn *sqlite.Conn, key EventKey, now time.Time) (wait time.Time, overtaken, oldNews bool, err error) {
	err = query(conn, `SELECT n, next_at, lease_until, attempts, accepted FROM events WHERE payment = ?1 AND (n > ?2 OR n < ?2 AND next_at IS NOT NULL)`,
		[]any{key.seq, key.n}, func(row *sqlite.Stmt) error {
			if row.ColumnInt(0) > key.n {
				overtaken = true
				oldNews = oldNews || row.ColumnInt(4) != 0
				return nil
			}
			next, lease, attempts, accepted := timeAt(row.ColumnInt64(1)), timeAt(row.ColumnInt64(2)), row.ColumnInt(3), row.ColumnInt(4) != 0
			until := next
			switch {
			case lease.After(now):
				until = lease // it is being sent right now; its result wakes this one
			case accepted || attempts >= Patience:
				return nil
			case !next.After(now):
				until = now.Add(10 * time.Millisecond) // it is due itself and goes first
			}
			if until.After(wait) {
				wait = until
			}
			return nil
		})
	return wait, overtaken, oldNews, err
}

func closeEvent(conn *sqlite.Conn, key EventKey, outcome string) error {
	return query(conn, `UPDATE events SET next_at = NULL, lease_until = 0, outcome = ?3 WHERE payment = ?1 AND n = ?2`,
		[]any{key.seq, key.n, outcome}, nil)
}

func putOff(conn *sqlite.Conn, key EventKey, until time.Time) error {
	return query(conn, `UPDATE events SET next_at = ?3 WHERE payment = ?1 AND n = ?2`, []any{key.seq, key.n, micros(until)}, nil)
}

// Record stores what became of deliveries, many in one commit.
func (s *Store) Record(ctx context.Context, results []Result) error {
	more := false
	err := s.committer.do(ctx, &job{exec: func(conn *sqlite.Conn, now time.Time) error {
		more = false
		for _, r := range results {
			err := query(conn, `UPDATE events SET next_at = ?3, lease_until = 0, accepted = max(accepted, ?4), outcome = ?5,
					last_at = ?6, took = ?7, http_status = ?8, note = ?9 WHERE payment = ?1 AND n = ?2`,
				[]any{r.Key.seq, r.Key.n, orNull(r.NextAt), r.Accepted, r.Outcome, micros(r.At), r.Took.Microseconds(), r.Status, r.Note}, nil)
			if err != nil {
				return err
			}
			if !r.NextAt.IsZero() {
				err = query(conn, `INSERT OR REPLACE INTO deliveries (payment, event, attempt, at, took, status, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)`,
					[]any{r.Key.seq, r.Key.n, r.Attempt, micros(r.At), r.Took.Microseconds(), r.Status, r.Note}, nil)
				if err != nil {
					return err
				}
			}
			woke, err := neighbours(conn, r, now)
			if err != nil {
				return err
			}
			more = more || woke
		}
		return nil
	}})
	if more {
		wake(s.events)
	}
	return err
}

// neighbours does to the payment's other events what a result means for them: those before it are no
// news any more once it was taken, and told now they would turn the merchant's state back; the one
// after it has waited for it.
func neighbours(conn *sqlite.Conn, r Result, now time.Time) (woke bool, err error) {
	var old, next []EventKey
	err = query(conn, `SELECT n, next_at, lease_until, attempts FROM events WHERE payment = ?1 AND n <> ?2 AND next_at IS NOT NULL`,
		[]any{r.Key.seq, r.Key.n}, func(row *sqlite.Stmt) error {
			switch n := row.ColumnInt(0); {
			case n < r.Key.n && r.Accepted && row.ColumnInt64(2) <= micros(now):
				old = append(old, EventKey{r.Key.seq, n})
			case n == r.Key.n+1 && row.ColumnInt(3) == 0 && row.ColumnInt64(1) > micros(now):
				next = append(next, EventKey{r.Key.seq, n})
			}
			return nil
		})
	for _, key := range old {
		err = errors.Join(err, closeEvent(conn, key, outcomeSuperseded))
	}
	for _, key := range next {
		err = errors.Join(err, putOff(conn, key, now))
	}
	return len(next) > 0, err
}

// NextEvent is when the next event is due; false: none waits.
func (s *Store) NextEvent(ctx context.Context) (at time.Time, waits bool, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		return query(conn, `SELECT next_at FROM events WHERE next_at IS NOT NULL ORDER BY next_at LIMIT 1`, nil, func(row *sqlite.Stmt) error {
			at, waits = timeAt(row.ColumnInt64(0)), true
			return nil
		})
	})
	return at, waits, err
}

// ReleaseLeases makes what a process that died was sending due again. Only the
// process that serves may call it.
func (s *Store) ReleaseLeases(ctx context.Context) error {
	return s.committer.do(ctx, &job{exec: func(conn *sqlite.Conn, now time.Time) error {
		return query(conn, `UPDATE events SET next_at = ?1, lease_until = 0 WHERE next_at IS NOT NULL AND lease_until > 0`, []any{micros(now)}, nil)
	}})
}

func eventRecords(conn *sqlite.Conn, r row) (events []EventRecord, err error) {
	currency := r.payment.Terms.Amount.Currency
	last := make(map[int]DeliveryRecord)
	err = query(conn, `SELECT n, status, at, captured, fee, refunded, next_at, attempts, outcome, last_at, took, http_status, note
		FROM events WHERE payment = ?1 ORDER BY n`,
		[]any{r.seq}, func(row *sqlite.Stmt) error {
			sum := func(column int) money.Amount { return money.New(row.ColumnInt64(column), currency) }
			e := EventRecord{Event: payment.Event{
				N: row.ColumnInt(0), Status: payment.Status(row.ColumnText(1)), At: timeAt(row.ColumnInt64(2)),
				Sums: payment.Sums{Captured: sum(3), Fee: sum(4), Refunded: sum(5)},
			}, Attempts: row.ColumnInt(7), Outcome: row.ColumnText(8)}
			if !row.ColumnIsNull(6) {
				e.NextAt = timeAt(row.ColumnInt64(6))
			}
			if row.ColumnInt64(9) > 0 && row.ColumnIsNull(6) {
				last[e.N] = DeliveryRecord{
					Attempt: e.Attempts, At: timeAt(row.ColumnInt64(9)), Took: time.Duration(row.ColumnInt64(10)) * time.Microsecond,
					Status: row.ColumnInt(11), Note: row.ColumnText(12),
				}
			}
			events = append(events, e)
			return nil
		})
	if err != nil {
		return nil, err
	}
	err = query(conn, `SELECT event, attempt, at, took, status, note FROM deliveries WHERE payment = ?1 ORDER BY event, attempt`,
		[]any{r.seq}, func(row *sqlite.Stmt) error {
			for i := range events {
				if events[i].N == row.ColumnInt(0) {
					events[i].Deliveries = append(events[i].Deliveries, DeliveryRecord{
						Attempt: row.ColumnInt(1), At: timeAt(row.ColumnInt64(2)),
						Took: time.Duration(row.ColumnInt64(3)) * time.Microsecond, Status: row.ColumnInt(4), Note: row.ColumnText(5),
					})
				}
			}
			return nil
		})
	for i := range events {
		e := &events[i]
		// An event that was closed otherwise than by its last attempt has that attempt on record already.
		if r, ok := last[e.N]; ok && (len(e.Deliveries) == 0 || e.Deliveries[len(e.Deliveries)-1].Attempt < r.Attempt) {
			e.Deliveries = append(e.Deliveries, r)
		}
	}
	return events, err
}
