package store

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

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

// onTheWay is how many may be handed over by batches that do not stand in the queue yet: one is being written, one
// waits for the disk, one is synced, and a change makes two events at most.
const onTheWay = 3 * 2 * maxBatch

// Fresh hands over events as they are made, already claimed for the time of lease: the attempt is on
// the disk with the event itself. Whoever takes them sends them, those of one payment one after
// another, or gives them back with PutBack.
func (s *Store) Fresh(lease time.Duration) <-chan Delivery {
	s.lease.Store(int64(lease))
	return s.fresh
}

var insertEvent = &statement{
	sql: `INSERT INTO events (payment, n, shop, status, at, captured, fee, refunded, endpoint, next_at, lease_until, attempts, accepted, outcome,
			last_at, took, http_status, note)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 0, ?13, 0, 0, 0, '')`,
	kinds: "bigint bigint bigint text bigint bigint bigint bigint text bigint bigint bigint text",
}

// eventRow puts an event into the outbox: claimed for who takes fresh ones, if it is its turn, and
// else due at once.
func (s *Store) eventRow(w writing, j *job, e *payment.Event) ([]any, error) {
	p := &j.change.Payment
	nextAt := any(micros(e.At))
	leaseUntil, attempts, outcome := int64(0), int64(0), ""
	to := endpoint(p.Terms.NotifyURL)
	switch lease := time.Duration(s.lease.Load()); {
	case p.Terms.NotifyURL == "":
		nextAt, outcome = nil, outcomeNowhere
	case lease > 0 && len(s.fresh) < freshRoom-onTheWay:
		waits, err := s.earlierWaits(w, j.row, e)
		if err != nil {
			return nil, err
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
	return []any{j.row.seq, int64(e.N), p.Shop, string(e.Status), micros(e.At), e.Sums.Captured.Minor, e.Sums.Fee.Minor, e.Sums.Refunded.Minor,
		to, nextAt, leaseUntil, attempts, outcome}, nil
}

// earlierWaits reports whether an earlier event of the payment waits to be told (again). One that this
// process is telling right now does not: who takes fresh events keeps their order. Neither does one that the merchant
// has taken, and that is repeated only until he decides. One that another process is telling does.
func (s *Store) earlierWaits(q querier, r row, e *payment.Event) (waits bool, err error) {
	if e.N == r.told+1 {
		return false, nil
	}
	err = q.query(`SELECT n, lease_until, accepted FROM events WHERE payment = ?1 AND n < ?2 AND next_at IS NOT NULL`,
		[]any{r.seq, e.N}, func(rec record) error {
			switch told, taken := rec.int(1) > micros(e.At), rec.int(2) != 0; {
			case told:
				waits = waits || !s.Alone() && !s.flying.has(EventKey{r.seq, int(rec.int(0))})
			case !taken:
				waits = true
			}
			return nil
		})
	return waits, err
}

// flying is events that this process has claimed and has not recorded, with the ends of their leases.
type flying struct {
	mu     sync.Mutex
	leases map[EventKey]time.Time
}

func (f *flying) has(key EventKey) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.leases[key]
	return ok
}

func (f *flying) add(now time.Time, lease time.Duration, deliveries []Delivery) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leases == nil {
		f.leases = make(map[EventKey]time.Time)
	}
	if len(f.leases) > 2*freshRoom { // what was never recorded
		maps.DeleteFunc(f.leases, func(_ EventKey, end time.Time) bool { return end.Before(now) })
	}
	for _, d := range deliveries {
		f.leases[d.Key] = now.Add(lease)
	}
}

func (f *flying) remove(key EventKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.leases, key)
}

// PutBack gives up claims on events that were not sent; they are due again at the time given.
func (s *Store) PutBack(ctx context.Context, deliveries []Delivery, until time.Time) error {
	return s.committer.do(ctx, &job{exec: func(w writing, now time.Time) error {
		for _, d := range deliveries {
			s.flying.remove(d.Key)
			_, err := w.exec(`UPDATE events SET next_at = ?3, lease_until = 0, attempts = attempts - 1 WHERE payment = ?1 AND n = ?2 AND attempts = ?4`,
				[]any{d.Key.seq, d.Key.n, micros(until), d.Attempt})
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
	// When nothing is due a look is all it costs.
	at, waits, err := s.NextEvent(ctx)
	if err != nil || !waits || at.After(s.Now()) {
		return nil, err
	}
	err = s.committer.do(ctx, &job{exec: func(w writing, now time.Time) error {
		claimed = claimed[:0]
		type candidate struct {
			Delivery
			accepted bool
		}
		var due []candidate
		err := w.query(`SELECT e.payment, e.n, e.shop, e.status, e.at, e.captured, e.fee, e.refunded, e.endpoint, e.attempts, e.accepted, t.id, t.currency
			FROM events e JOIN terms t ON t.payment = e.payment WHERE e.next_at <= ?1 ORDER BY e.next_at LIMIT ?2`,
			[]any{micros(now), candidates}, func(r record) error {
				sum := func(column int) money.Amount { return money.New(r.int(column), money.Currency(r.text(12))) }
				due = append(due, candidate{Delivery{
					Key: EventKey{r.int(0), int(r.int(1))}, Payment: payment.ID(r.blob(11)), Shop: r.int(2),
					Event: payment.Event{
						N: int(r.int(1)), Status: payment.Status(r.text(3)), At: timeAt(r.int(4)),
						Sums: payment.Sums{Captured: sum(5), Fee: sum(6), Refunded: sum(7)},
					},
					Endpoint: r.text(8), Attempt: int(r.int(9)) + 1,
				}, r.int(10) != 0})
				return nil
			})
		if err != nil {
			return err
		}
		for _, d := range due {
			if len(claimed) == limit {
				break
			}
			wait, overtaken, oldNews, err := inOrder(w, d.Key, now)
			if err != nil {
				return err
			}
			switch {
			case oldNews:
				// A later one was taken while this one was on its way; see Record.
				err = closeEvent(w, d.Key, d.Attempt-1, outcomeSuperseded)
			case overtaken && d.accepted:
				// The merchant took the request to decide, and has decided since.
				err = closeEvent(w, d.Key, d.Attempt-1, outcomeDecided)
			case !wait.IsZero():
				err = putOff(w, d.Key, d.Attempt-1, wait)
			case !admit(d.Endpoint):
				err = putOff(w, d.Key, d.Attempt-1, now.Add(time.Second))
			default:
				var mine int
				mine, err = w.exec(`UPDATE events SET attempts = ?3, next_at = ?4, lease_until = ?4 WHERE payment = ?1 AND n = ?2 AND attempts = ?3 - 1`,
					[]any{d.Key.seq, d.Key.n, d.Attempt, micros(now.Add(lease))})
				if mine == 1 { // else another process has it
					claimed = append(claimed, d.Delivery)
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	}})
	if err == nil {
		s.flying.add(s.Now(), lease, claimed)
	}
	return claimed, err
}

// inOrder says until when an event must wait for an earlier one of its payment, whether a later
// one exists already, and whether the merchant took a later one.
func inOrder(q querier, key EventKey, now time.Time) (wait time.Time, overtaken, oldNews bool, err error) {
	err = q.query(`SELECT n, next_at, lease_until, attempts, accepted FROM events WHERE payment = ?1 AND (n > ?2 OR n < ?2 AND next_at IS NOT NULL)`,
		[]any{key.seq, key.n}, func(r record) error {
			if int(r.int(0)) > key.n {
				overtaken = true
				oldNews = oldNews || r.int(4) != 0
				return nil
			}
			next, lease, attempts, accepted := timeAt(r.int(1)), timeAt(r.int(2)), r.int(3), r.int(4) != 0
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

// closeEvent and putOff do nothing to an event that another process has claimed since it had so many attempts.
func closeEvent(w writing, key EventKey, attempts int, outcome string) error {
	_, err := w.exec(`UPDATE events SET next_at = NULL, lease_until = 0, outcome = ?3 WHERE payment = ?1 AND n = ?2 AND attempts = ?4`,
		[]any{key.seq, key.n, outcome, attempts})
	return err
}

func putOff(w writing, key EventKey, attempts int, until time.Time) error {
	_, err := w.exec(`UPDATE events SET next_at = ?3 WHERE payment = ?1 AND n = ?2 AND attempts = ?4 AND next_at IS NOT NULL`, []any{key.seq, key.n, micros(until), attempts})
	return err
}

// What a result writes.
var (
	recordResult = &statement{
		sql: `UPDATE events AS t SET next_at = ?3, lease_until = 0, accepted = CASE WHEN t.accepted > ?4 THEN t.accepted ELSE ?4 END, outcome = ?5,
			last_at = ?6, took = ?7, http_status = ?8, note = ?9 WHERE t.payment = ?1 AND t.n = ?2`,
		kinds: "bigint bigint bigint bigint text bigint bigint bigint text", key: "payment, n",
	}
	insertDelivery = &statement{
		sql: `INSERT INTO deliveries (payment, event, attempt, at, took, status, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
			ON CONFLICT (payment, event, attempt) DO UPDATE SET at = excluded.at, took = excluded.took, status = excluded.status, note = excluded.note`,
		kinds: "bigint bigint bigint bigint bigint bigint text", key: "payment, event, attempt",
	}
	// Told now, an earlier event would turn the merchant's state back.
	supersede = &statement{
		sql: `UPDATE events AS t SET next_at = NULL, lease_until = 0, outcome = ?3
			WHERE t.payment = ?1 AND t.n < ?2 AND t.next_at IS NOT NULL AND t.lease_until <= ?4`,
		kinds: "bigint bigint text bigint",
	}
	// The event after it has waited for it.
	wakeNext = &statement{
		sql:   `UPDATE events AS t SET next_at = ?3 WHERE t.payment = ?1 AND t.n = ?2 AND t.next_at > ?3 AND t.attempts = 0`,
		kinds: "bigint bigint bigint", key: "payment, n",
	}
)

// Record stores what became of deliveries, many in one commit.
func (s *Store) Record(ctx context.Context, results []Result) error {
	more := false
	err := s.committer.do(ctx, &job{exec: func(w writing, now time.Time) error {
		more = false
		var records, deliveries, older, next [][]any
		for _, r := range results {
			n := int64(r.Key.n)
			r.Note = cleanNote(r.Note)
			records = append(records, []any{r.Key.seq, n, orNull(r.NextAt), asInt(r.Accepted), r.Outcome, micros(r.At), r.Took.Microseconds(), int64(r.Status), r.Note})
			if !r.NextAt.IsZero() {
				deliveries = append(deliveries, []any{r.Key.seq, n, int64(r.Attempt), micros(r.At), r.Took.Microseconds(), int64(r.Status), r.Note})
			}
			first, last := s.cache.neighbours(r.Key)
			if r.Accepted && !first {
				older = append(older, []any{r.Key.seq, n, outcomeSuperseded, micros(now)})
			}
			if !last || !s.Alone() { // another process may have made a later one
				next = append(next, []any{r.Key.seq, n + 1, micros(now)})
			}
		}
		for _, rows := range []struct {
			statement *statement
			rows      [][]any
		}{{recordResult, records}, {insertDelivery, deliveries}, {supersede, older}} {
			if err := w.put(rows.statement, rows.rows); err != nil {
				return err
			}
		}
		woken := &claim{statement: wakeNext, rows: next}
		err := w.claim(woken)
		more = slices.Contains(woken.hit, true)
		return err
	}})
	if err == nil {
		s.cache.closed(results)
	}
	for _, r := range results {
		s.flying.remove(r.Key)
	}
	if more {
		wake(s.events)
	}
	return err
}

// cleanNote takes from a note what is no text, and what PostgreSQL does not take for one: it is for people to read, and must
// not be what a result cannot be stored for.
func cleanNote(note string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(note, "\uFFFD"), "\x00", "")
}

func asInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// NextEvent is when the next event is due; false: none waits.
func (s *Store) NextEvent(ctx context.Context) (at time.Time, waits bool, err error) {
	err = s.engine.read(ctx, func(q querier) error {
		return q.query(`SELECT next_at FROM events WHERE next_at IS NOT NULL ORDER BY next_at LIMIT 1`, nil, func(r record) error {
			at, waits = timeAt(r.int(0)), true
			return nil
		})
	})
	return at, waits, err
}

// ReleaseLeases makes what a process that died was sending due again. Only the
// process that serves may call it. Where several serve it does nothing: leases end by themselves.
func (s *Store) ReleaseLeases(ctx context.Context) error {
	if !s.Alone() {
		return nil
	}
	return s.committer.do(ctx, &job{exec: func(w writing, now time.Time) error {
		_, err := w.exec(`UPDATE events SET next_at = ?1, lease_until = 0 WHERE next_at IS NOT NULL AND lease_until > 0`, []any{micros(now)})
		return err
	}})
}

func eventRecords(q querier, r row) (events []EventRecord, err error) {
	currency := r.payment.Terms.Amount.Currency
	last := make(map[int]DeliveryRecord)
	err = q.query(`SELECT n, status, at, captured, fee, refunded, next_at, attempts, outcome, last_at, took, http_status, note
		FROM events WHERE payment = ?1 ORDER BY n`,
		[]any{r.seq}, func(rec record) error {
			sum := func(column int) money.Amount { return money.New(rec.int(column), currency) }
			e := EventRecord{Event: payment.Event{
				N: int(rec.int(0)), Status: payment.Status(rec.text(1)), At: timeAt(rec.int(2)),
				Sums: payment.Sums{Captured: sum(3), Fee: sum(4), Refunded: sum(5)},
			}, Attempts: int(rec.int(7)), Outcome: rec.text(8)}
			if !rec.null(6) {
				e.NextAt = timeAt(rec.int(6))
			}
			if rec.int(9) > 0 && rec.null(6) {
				last[e.N] = DeliveryRecord{
					Attempt: e.Attempts, At: timeAt(rec.int(9)), Took: time.Duration(rec.int(10)) * time.Microsecond,
					Status: int(rec.int(11)), Note: rec.text(12),
				}
			}
			events = append(events, e)
			return nil
		})
	if err != nil {
		return nil, err
	}
	err = q.query(`SELECT event, attempt, at, took, status, note FROM deliveries WHERE payment = ?1 ORDER BY event, attempt`,
		[]any{r.seq}, func(rec record) error {
			for i := range events {
				if events[i].N == int(rec.int(0)) {
					events[i].Deliveries = append(events[i].Deliveries, DeliveryRecord{
						Attempt: int(rec.int(1)), At: timeAt(rec.int(2)),
						Took: time.Duration(rec.int(3)) * time.Microsecond, Status: int(rec.int(4)), Note: rec.text(5),
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
