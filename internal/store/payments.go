package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"holdfast/internal/ledger"
	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// row is a payment where it is kept.
type row struct {
	seq     int64
	due     time.Time // due_at as stored
	batch   uint64    // the commit that wrote it, in this process
	told    int       // as far as this process knows: events up to this one are told or closed
	taken   int       // likewise: they are taken by the merchant, or closed; some are told again until he decides
	payment payment.Payment
}

// shopKey is a payment's name within its shop.
type shopKey struct {
	shop int64
	id   string
}

// Create stores a new payment, or finds the one that the shop already has under that name: of
// many callers at once one creates, and all get the same payment. created says which.
//
// Only a store opened with Config.Serve creates payments.
func (s *Store) Create(ctx context.Context, shop int64, shopPaymentID string, create func(number int64, now time.Time) payment.Change) (p payment.Payment, created bool, err error) {
	if !s.cfg.Serve {
		return p, false, errors.New("this process does not serve: it cannot create payments")
	}
	j := spareJob()
	defer j.giveBack()
	j.create, j.key = create, shopKey{shop, shopPaymentID}
	if err := s.do(ctx, j); err != nil {
		return payment.Payment{}, false, err
	}
	return j.change.Payment, j.made, nil
}

// Update lets decide look at the payment and stores what it decided, durably, before it returns.
// The Change is as stored. decide's own error is returned as it is, and then nothing was written.
func (s *Store) Update(ctx context.Context, id payment.ID, decide Decide) (payment.Change, error) {
	j := spareJob()
	defer j.giveBack()
	j.decide, j.id = decide, id
	if err := s.do(ctx, j); err != nil {
		return payment.Change{}, err // what was decided is not stored
	}
	return j.change, nil
}

// Payment finds a payment by its id.
func (s *Store) Payment(ctx context.Context, id payment.ID) (payment.Payment, error) {
	if r, ok := s.cache.byID(id); ok {
		return s.remembered(ctx, r)
	}
	return s.find(ctx, paymentsByID, bin(id[:]))
}

// Recall is Payment for who asks for what never changes, its terms and whose it is, or does no harm by knowing a little
// late: where several processes serve, it may be the payment as this one remembers it, its event n (0: none) included.
func (s *Store) Recall(ctx context.Context, id payment.ID, n int) (payment.Payment, error) {
	if r, ok := s.cache.byID(id); ok && r.payment.LastEvent >= n && !s.Alone() {
		return r.payment, nil
	}
	return s.Payment(ctx, id)
}

// justNow bounds how late Lately may be.
const justNow = time.Second

// Lately is Payment for who may be told what was so a moment ago: where several processes serve, a payment that was changed
// within the last second may be as this process remembers it.
func (s *Store) Lately(ctx context.Context, id payment.ID) (payment.Payment, error) {
	if r, ok := s.cache.byID(id); ok && !s.Alone() {
		if age := s.Now().Sub(r.payment.UpdatedAt); age >= 0 && age < justNow {
			return r.payment, nil
		}
	}
	return s.Payment(ctx, id)
}

// RecallByNumber is Recall by the public number.
func (s *Store) RecallByNumber(ctx context.Context, number int64) (payment.Payment, error) {
	if seq, ok := s.seqOf(number); ok && !s.Alone() {
		if r, ok := s.cache.bySeqOf(seq); ok {
			return r.payment, nil
		}
	}
	return s.PaymentByNumber(ctx, number)
}

// PaymentByNumber finds a payment by its public number (paymentId of check_sms_key).
func (s *Store) PaymentByNumber(ctx context.Context, number int64) (payment.Payment, error) {
	if err := s.lookForRows(ctx); err != nil {
		return payment.Payment{}, err
	}
	seq, ok := s.seqOf(number)
	if !ok {
		return payment.Payment{}, ErrNotFound
	}
	if r, ok := s.cache.bySeqOf(seq); ok {
		return s.remembered(ctx, r)
	}
	p, err := s.find(ctx, paymentsBySeq, num(seq))
	if errors.Is(err, ErrNotFound) && seq > numberMask {
		// The last row that is reserved need not be written yet; then the number is still that of a payment a round before.
		return s.find(ctx, paymentsBySeq, num(seq-numberMask))
	}
	return p, err
}

// PaymentByShop finds a payment by the shop's own id of it.
func (s *Store) PaymentByShop(ctx context.Context, shop int64, shopPaymentID string) (payment.Payment, error) {
	return s.find(ctx, paymentsByName, num(shop), str(shopPaymentID))
}

// remembered is a payment that this process knows, as it is stored.
func (s *Store) remembered(ctx context.Context, r row) (payment.Payment, error) {
	if s.Alone() {
		return r.payment, s.committers[0].await(r.batch)
	}
	p, err := s.find(ctx, paymentsIfChanged, num(r.seq), num(r.payment.Version))
	if errors.Is(err, ErrNotFound) {
		return r.payment, nil
	}
	return p, err
}

func (s *Store) find(ctx context.Context, stored *statement, args ...value) (payment.Payment, error) {
	var r row
	generation := s.cache.generation()
	err := s.engine.lookup(ctx, stored, args, func(rec record) (err error) {
		r, err = s.scan(rec)
		return err
	})
	if err = s.shown(err); err == nil && r.seq == 0 {
		err = ErrNotFound
	}
	if err == nil && !s.Alone() {
		s.cache.put(r, generation)
	}
	return r.payment, err
}

// shown ends a read whose outcome is err: it returns when all of this process's that the read may have seen is durable.
func (s *Store) shown(err error) error {
	if err != nil || !s.Alone() { // where several serve, what can be read is durable
		return err
	}
	c := s.committers[0]
	return c.await(c.lastBatch.Load())
}

// Cursor is how far somebody has come in the list of payments, or of events, that are due. The zero Cursor is before the first.
type Cursor struct{ due, seq, n int64 }

// DueAt is the cursor before all that is due at a time or later.
func DueAt(t time.Time) Cursor { return Cursor{due: micros(t)} }

// Due lists payments that want attention at now and come after a cursor, the longest due first. next is at the last one that
// it looked at.
func (s *Store) Due(ctx context.Context, now time.Time, after Cursor, limit int) (ids []payment.ID, next Cursor, err error) {
	if s.Alone() {
		next = after
		err = s.engine.read(ctx, func(q querier) error {
			return q.query(`SELECT t.id, p.due_at, p.seq FROM payments p JOIN terms t ON t.payment = p.seq`+dueAfter, after.upTo(now, limit), func(rec record) error {
				ids, next = append(ids, payment.ID(rec.blob(0))), Cursor{due: rec.int(1), seq: rec.int(2)}
				return nil
			})
		})
		return ids, next, err
	}
	for next = after; ; {
		var early [][]value
		ids, early, next, err = s.dueOrEarly(ctx, now, next, limit)
		if err != nil || len(early) == 0 {
			return ids, next, err
		}
		err = s.do(ctx, &job{exec: func(w writing, _ time.Time) error { return w.put(moveDue, early) }})
		switch {
		case err == nil && len(ids) == 0: // behind those that were all too early there may be others
		case err == nil:
			return ids, next, nil
		case len(ids) > 0: // the next look finds the early ones again
			s.cfg.Log.Warn("payments that are due later could not be put off", "error", err)
			return ids, next, nil
		default:
			return nil, after, err
		}
	}
}

// dueOrEarly is Due where several serve: due_at may be left as it was when a payment's next time came to be later (dueAt). early
// are rows of moveDue for those of which it was.
func (s *Store) dueOrEarly(ctx context.Context, now time.Time, after Cursor, limit int) (ids []payment.ID, early [][]value, next Cursor, err error) {
	next = after
	err = s.engine.read(ctx, func(q querier) error {
		return q.query(selectPayment+dueAfter, after.upTo(now, limit), func(rec record) error {
			r, err := s.scan(rec)
			if due := dueAt(&r.payment, time.Time{}); err == nil && due.After(now) {
				early = append(early, []value{num(r.seq), num(r.payment.Version), moment(due)})
			} else { // one that cannot be read says so to who takes it up, and keeps up no other
				ids = append(ids, r.payment.ID)
			}
			next = Cursor{due: rec.int(15), seq: rec.int(0)}
			return nil
		})
	})
	return ids, early, next, err
}

var moveDue = &statement{
	sql:   `UPDATE payments AS t SET due_at = ?3 WHERE t.seq = ?1 AND t.version = ?2`,
	kinds: "bigint bigint bigint", key: "seq",
}

const dueAfter = ` WHERE p.due_at <= ?1 AND (p.due_at, p.seq) > (?2, ?3) ORDER BY p.due_at, p.seq LIMIT ?4`

// upTo is what dueAfter wants.
func (c Cursor) upTo(now time.Time, limit int) []value {
	return []value{moment(now), num(c.due), num(c.seq), num(limit)}
}

// Opened is a payment with a question whose answer is missing, as long as it is of that version.
type Opened struct {
	ID      payment.ID
	Version int64
}

// Open lists all payments with a question whose answer is missing, oldest first. Such a payment is always due one day, so only
// the index of what is due is read.
func (s *Store) Open(ctx context.Context) (open []Opened, err error) {
	err = s.engine.read(ctx, func(q querier) error {
		open = nil
		return q.query(`SELECT t.id, p.version FROM payments p JOIN terms t ON t.payment = p.seq WHERE p.due_at > 0 AND p.open <> '' ORDER BY p.seq + 0`, nil, func(r record) error {
			open = append(open, Opened{payment.ID(r.blob(0)), r.int(1)})
			return nil
		})
	})
	return open, err
}

// Claimed reports whether a payment owns the hold that the claim names. Claims are of a method and not
// of a contract: two contracts with one centre see the same holds.
func (s *Store) Claimed(ctx context.Context, m payment.Method, claim string) (owned bool, err error) {
	err = s.engine.read(ctx, func(q querier) error {
		return q.query(`SELECT 1 FROM claims WHERE processor = ?1 AND claim = ?2`, []value{str(m), str(claim)}, func(record) error {
			owned = true
			return nil
		})
	})
	return owned, s.shown(err)
}

// Filter narrows List; zero values do not.
type Filter struct {
	Shop   int64
	State  payment.State
	Before payment.ID // older than this one
	Limit  int        // default 50, at most 1000
}

// List is payments, newest first.
func (s *Store) List(ctx context.Context, f Filter) (list []payment.Payment, err error) {
	if f.Limit <= 0 {
		f.Limit = 50
	}
	state := ""
	if f.State != 0 {
		state = f.State.String()
	}
	before := int64(1<<63 - 1)
	err = s.engine.read(ctx, func(q querier) error {
		if f.Before != (payment.ID{}) {
			r, err := s.load(q, paymentByID, bin(f.Before[:]))
			if err != nil {
				return err
			}
			before = r.seq
		}
		return q.query(selectPayment+` WHERE p.seq < ?1 AND (?2 = 0 OR t.shop = ?2) AND (?3 = '' OR p.state = ?3) ORDER BY p.seq DESC LIMIT ?4`,
			[]value{num(before), num(f.Shop), str(state), num(min(f.Limit, 1000))}, func(rec record) error {
				r, err := s.scan(rec)
				list = append(list, r.payment)
				return err
			})
	})
	return list, s.shown(err)
}

const selectPayment = `SELECT p.seq, t.id, t.shop, p.version, p.state, t.created_at, p.updated_at, t.currency,
	p.held, p.captured, p.released, p.refunded, p.fee, t.terms, p.progress, p.due_at, p.open FROM payments p JOIN terms t ON t.payment = p.seq`

const paymentByID = selectPayment + ` WHERE t.id = ?1`

var (
	paymentsByID      = &statement{sql: paymentByID, kinds: "bytea"}
	paymentsBySeq     = &statement{sql: selectPayment + ` WHERE p.seq = ?1`, kinds: "bigint"}
	paymentsByName    = &statement{sql: selectPayment + ` JOIN names n ON n.payment = p.seq WHERE n.shop = ?1 AND n.shop_payment_id = ?2`, kinds: "bigint text"}
	paymentsIfChanged = &statement{sql: selectPayment + ` WHERE p.seq = ?1 AND p.version <> ?2`, kinds: "bigint bigint"}
)

func (s *Store) load(q querier, sql string, args ...value) (r row, err error) {
	err = q.query(sql, args, func(rec record) (err error) {
		r, err = s.scan(rec)
		return err
	})
	if err == nil && r.seq == 0 {
		err = ErrNotFound
	}
	return r, err
}

func (s *Store) scan(rec record) (row, error) {
	r := row{seq: rec.int(0)}
	p := &r.payment
	p.ID = payment.ID(rec.blob(1))
	p.Number = s.numberOf(r.seq)
	p.Shop = rec.int(2)
	p.Version = rec.int(3)
	state, err := payment.ParseState(rec.text(4))
	if err != nil {
		return r, err
	}
	p.State = state
	p.CreatedAt, p.UpdatedAt = timeAt(rec.int(5)), timeAt(rec.int(6))
	currency := money.Currency(rec.text(7))
	sum := func(column int) money.Amount { return money.New(rec.int(column), currency) }
	p.Sums = payment.Sums{Held: sum(8), Captured: sum(9), Released: sum(10), Refunded: sum(11), Fee: sum(12)}
	if err := json.Unmarshal(rec.blob(13), &p.Terms); err != nil {
		return r, fmt.Errorf("payment %s: its terms cannot be read: %w", p.ID, err)
	}
	if err := json.Unmarshal(rec.blob(14), &p.Progress); err != nil {
		return r, fmt.Errorf("payment %s: its progress cannot be read: %w", p.ID, err)
	}
	if !rec.null(15) {
		r.due = timeAt(rec.int(15))
	}
	return r, nil
}

// never is when a question that waits for a person is due: later than any time there is.
var never = time.UnixMicro(1<<63 - 1).UTC()

// dueAt is what due_at says of a payment from now on, where one process serves. A question that is being asked has an answer
// soon, or a process that died and is recovered: so due_at, which is indexed, is then left as it is.
//
// Where several serve, nobody takes up at his start what one that died was asking: it must be due when its answer is. There
// due_at is left as it is as long as it is not too late (updateEarlier), and who finds it too early puts it right (Due).
func dueAt(p *payment.Payment, stored time.Time) time.Time {
	switch {
	case p.Open != nil && p.Open.Outcome == "" && !stored.IsZero():
		return stored
	case p.Open != nil && p.Open.NextAt.IsZero():
		return never
	}
	return p.Due()
}

// Timeline is everything known of one payment.
type Timeline struct {
	Payment    payment.Payment
	Operations []payment.Operation // answered; the open one is in Payment.Open
	Entries    []Entry
	Events     []EventRecord
}

// Entry is a ledger entry as stored.
type Entry struct {
	N  int
	At time.Time
	ledger.Entry
}

// EventRecord is an event with what became of it.
type EventRecord struct {
	payment.Event
	NextAt     time.Time // zero: nothing more is sent
	Attempts   int
	Outcome    string
	Deliveries []DeliveryRecord
}

// DeliveryRecord is one attempt to tell the merchant.
type DeliveryRecord struct {
	Attempt int
	At      time.Time
	Took    time.Duration
	Status  int // HTTP; 0 where there was no answer
	Note    string
}

// Timeline reads everything known of a payment, in one snapshot.
func (s *Store) Timeline(ctx context.Context, id payment.ID) (t Timeline, err error) {
	err = s.engine.snapshot(ctx, func(q querier) error {
		r, err := s.load(q, paymentByID, bin(id[:]))
		if err != nil {
			return err
		}
		t, err = timeline(q, r)
		return err
	})
	return t, s.shown(err)
}

func timeline(q querier, r row) (Timeline, error) {
	t := Timeline{Payment: r.payment}
	currency := r.payment.Terms.Amount.Currency
	err := q.query(`SELECT record FROM operations WHERE payment = ?1 ORDER BY n`, []value{num(r.seq)}, func(rec record) error {
		var op payment.Operation
		err := json.Unmarshal(rec.blob(0), &op)
		t.Operations = append(t.Operations, op)
		return err
	})
	if err != nil {
		return t, err
	}
	err = q.query(`SELECT n, operation, kind, at, lines FROM entries WHERE payment = ?1 ORDER BY n`, []value{num(r.seq)}, func(rec record) error {
		lines, err := ledger.ParseLines(rec.text(4), currency)
		t.Entries = append(t.Entries, Entry{
			N: int(rec.int(0)), At: timeAt(rec.int(3)),
			Entry: ledger.Entry{Operation: rec.text(1), Kind: ledger.Kind(rec.text(2)), Lines: lines},
		})
		return err
	})
	if err != nil {
		return t, err
	}
	t.Events, err = eventRecords(q, r)
	return t, err
}

// Each calls f with everything known of every payment, oldest first; each payment is as it was in one snapshot.
func (s *Store) Each(ctx context.Context, f func(*Timeline) error) error {
	for from := int64(0); ; {
		var chunk []Timeline
		err := s.engine.snapshot(ctx, func(q querier) error {
			var rows []row
			err := q.query(selectPayment+` WHERE p.seq > ?1 ORDER BY p.seq LIMIT ?2`, []value{num(from), num(auditChunk)}, func(rec record) error {
				r, err := s.scan(rec)
				rows = append(rows, r)
				return err
			})
			if err != nil {
				return err
			}
			for _, r := range rows {
				t, err := timeline(q, r)
				if err != nil {
					return err
				}
				chunk = append(chunk, t)
				from = r.seq
			}
			return nil
		})
		if err = s.shown(err); err != nil || len(chunk) == 0 {
			return err
		}
		for i := range chunk {
			if err := f(&chunk[i]); err != nil {
				return err
			}
		}
	}
}
