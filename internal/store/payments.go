package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"
	"zombiezen.com/go/sqlite"

	"holdfast/internal/ledger"
	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// row is a payment where it is kept.
type row struct {
	seq     int64 // 0 where there is none yet
	key     shopKey
	due     time.Time // due_at as stored
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
	if s.lock == nil {
		return p, false, errors.New("this process does not serve: it cannot create payments")
	}
	key := shopKey{shop, shopPaymentID}
	j := &job{create: create, find: func(conn *sqlite.Conn) (row, error) {
		r, err := s.load(conn, paymentByShop, shop, shopPaymentID)
		r.key = key
		return r, err
	}}
	if err := s.committer.do(ctx, j); err != nil {
		return payment.Payment{}, false, err
	}
	return j.change.Payment, j.made, nil
}

// Update lets decide look at the payment and stores what it decided, durably, before it returns.
// The Change is as stored. decide's own error is returned as it is, and then nothing was written.
func (s *Store) Update(ctx context.Context, id payment.ID, decide Decide) (payment.Change, error) {
	j := &job{decide: decide, find: func(conn *sqlite.Conn) (row, error) {
		if r, ok := s.cache.byID(id); ok {
			return r, nil
		}
		return s.load(conn, paymentByID, id[:])
	}}
	if err := s.committer.do(ctx, j); err != nil {
		return payment.Change{}, err // what was decided is not stored
	}
	return j.change, nil
}

// Payment finds a payment by its id.
func (s *Store) Payment(ctx context.Context, id payment.ID) (payment.Payment, error) {
	if r, ok := s.cache.byID(id); ok {
		return r.payment, nil
	}
	return s.find(ctx, paymentByID, id[:])
}

// PaymentByNumber finds a payment by its public number (paymentId of check_sms_key).
func (s *Store) PaymentByNumber(ctx context.Context, number int64) (payment.Payment, error) {
	seq, ok := s.seqOf(number)
	if !ok {
		return payment.Payment{}, ErrNotFound
	}
	if r, ok := s.cache.bySeqOf(seq); ok {
		return r.payment, nil
	}
	return s.find(ctx, paymentBySeq, seq)
}

// PaymentByShop finds a payment by the shop's own id of it.
func (s *Store) PaymentByShop(ctx context.Context, shop int64, shopPaymentID string) (payment.Payment, error) {
	return s.find(ctx, paymentByShop, shop, shopPaymentID)
}

func (s *Store) find(ctx context.Context, sql string, args ...any) (payment.Payment, error) {
	var r row
	err := s.read(ctx, func(conn *sqlite.Conn) (err error) {
		r, err = s.load(conn, sql, args...)
		return err
	})
	return r.payment, err
}

// Due lists payments that want attention at now, the longest due first.
func (s *Store) Due(ctx context.Context, now time.Time, limit int) ([]payment.ID, error) {
	return s.ids(ctx, `SELECT id FROM payments WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2`, micros(now), limit)
}

// Open lists payments with a question whose answer is missing, oldest first, after the payment
// that after names (the zero ID: from the start).
func (s *Store) Open(ctx context.Context, after payment.ID, limit int) ([]payment.ID, error) {
	return s.ids(ctx, `SELECT id FROM payments WHERE open <> '' AND id > ?1 ORDER BY id LIMIT ?2`, after[:], limit)
}

func (s *Store) ids(ctx context.Context, sql string, args ...any) (ids []payment.ID, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		return query(conn, sql, args, func(row *sqlite.Stmt) error {
			ids = append(ids, payment.ID(blob(row, 0)))
			return nil
		})
	})
	return ids, err
}

// Claimed reports whether a payment owns the hold that the claim names. Claims are of a method and not
// of a contract: two contracts with one centre see the same holds.
func (s *Store) Claimed(ctx context.Context, m payment.Method, claim string) (owned bool, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		return query(conn, `SELECT 1 FROM claims WHERE processor = ?1 AND claim = ?2`, []any{string(m), claim}, func(*sqlite.Stmt) error {
			owned = true
			return nil
		})
	})
	return owned, err
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
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		if f.Before != (payment.ID{}) {
			r, err := s.load(conn, paymentByID, f.Before[:])
			if err != nil {
				return err
			}
			before = r.seq
		}
		return query(conn, selectPayment+` WHERE seq < ?1 AND (?2 = 0 OR shop = ?2) AND (?3 = '' OR state = ?3) ORDER BY seq DESC LIMIT ?4`,
			[]any{before, f.Shop, state, min(f.Limit, 1000)}, func(stmt *sqlite.Stmt) error {
				r, err := s.scan(stmt)
				list = append(list, r.payment)
				return err
			})
	})
	return list, err
}

const selectPayment = `SELECT seq, id, shop, shop_payment_id, version, state, created_at, updated_at,
	currency, amount, held, captured, released, refunded, fee, terms, progress, due_at, open FROM payments`

const (
	paymentByID   = selectPayment + ` WHERE id = ?1`
	paymentBySeq  = selectPayment + ` WHERE seq = ?1`
	paymentByShop = selectPayment + ` WHERE shop = ?1 AND shop_payment_id = ?2`
)

func (s *Store) load(conn *sqlite.Conn, sql string, args ...any) (r row, err error) {
	err = query(conn, sql, args, func(stmt *sqlite.Stmt) (err error) {
		r, err = s.scan(stmt)
		return err
	})
	if err == nil && r.seq == 0 {
		err = ErrNotFound
	}
	return r, err
}

func (s *Store) scan(stmt *sqlite.Stmt) (row, error) {
	r := row{seq: stmt.ColumnInt64(0)}
	p := &r.payment
	stmt.ColumnBytes(1, p.ID[:])
	p.Number = s.numberOf(r.seq)
	p.Shop = stmt.ColumnInt64(2)
	p.Version = stmt.ColumnInt64(4)
	state, err := payment.ParseState(stmt.ColumnText(5))
	if err != nil {
		return r, err
	}
	p.State = state
	p.CreatedAt, p.UpdatedAt = timeAt(stmt.ColumnInt64(6)), timeAt(stmt.ColumnInt64(7))
	currency := money.Currency(stmt.ColumnText(8))
	sum := func(column int) money.Amount { return money.New(stmt.ColumnInt64(column), currency) }
	p.Sums = payment.Sums{Held: sum(10), Captured: sum(11), Released: sum(12), Refunded: sum(13), Fee: sum(14)}
	if err := json.Unmarshal(blob(stmt, 15), &p.Terms); err != nil {
		return r, fmt.Errorf("payment %s: its terms cannot be read: %w", p.ID, err)
	}
	if err := json.Unmarshal(blob(stmt, 16), &p.Progress); err != nil {
		return r, fmt.Errorf("payment %s: its progress cannot be read: %w", p.ID, err)
	}
	if !stmt.ColumnIsNull(17) {
		r.due = timeAt(stmt.ColumnInt64(17))
	}
	return r, nil
}

const updatePayment = `version = ?3, state = ?4, updated_at = ?5, open = ?6,
	held = ?7, captured = ?8, released = ?9, refunded = ?10, fee = ?11, progress = ?12`

// dueAt is what due_at says of a payment from now on. A question that is being asked has an answer
// soon, or a process that died and is recovered: so due_at, which is indexed, is then left as it is.
func dueAt(p *payment.Payment, stored time.Time) time.Time {
	if p.Open != nil && p.Open.Outcome == "" && !stored.IsZero() {
		return stored
	}
	return p.Due()
}

// writeChange stores what was decided. What can refuse comes first: the claim, then the version.
func (s *Store) writeChange(conn *sqlite.Conn, j *job) error {
	c := &j.change
	p := &c.Payment
	if c.Claim != "" {
		err := query(conn, `INSERT OR IGNORE INTO claims (processor, claim, payment) VALUES (?1, ?2, ?3)`,
			[]any{string(p.Attempt.Method), c.Claim, j.row.seq}, nil)
		if err != nil {
			return err
		}
		if conn.Changes() == 0 {
			return refused{ErrClaimed}
		}
	}
	progress, err := json.Marshal(&p.Progress)
	if err != nil {
		return fmt.Errorf("payment %s: its progress cannot be written: %w", p.ID, err)
	}
	p.Version++
	due := dueAt(p, j.row.due)
	if j.made {
		terms, err := json.Marshal(&p.Terms)
		if err != nil {
			return fmt.Errorf("payment %s: its terms cannot be written: %w", p.ID, err)
		}
		err = query(conn, `INSERT INTO payments (seq, id, shop, shop_payment_id, version, state, created_at, updated_at, due_at, open,
				currency, amount, held, captured, released, refunded, fee, terms, progress)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)`,
			[]any{j.row.seq, p.ID[:], p.Shop, p.Terms.ShopPaymentID, p.Version, p.State.String(), micros(p.CreatedAt), micros(p.UpdatedAt),
				orNull(due), openKind(p), string(p.Terms.Amount.Currency), p.Terms.Amount.Minor, p.Held.Minor, p.Captured.Minor,
				p.Released.Minor, p.Refunded.Minor, p.Fee.Minor, string(terms), string(progress)}, nil)
		if err != nil {
			return err
		}
	} else {
		args := []any{j.row.seq, p.Version - 1, p.Version, p.State.String(), micros(p.UpdatedAt), openKind(p),
			p.Held.Minor, p.Captured.Minor, p.Released.Minor, p.Refunded.Minor, p.Fee.Minor, string(progress)}
		if due.Equal(j.row.due) {
			err = query(conn, `UPDATE payments SET `+updatePayment+` WHERE seq = ?1 AND version = ?2`, args, nil)
		} else {
			err = query(conn, `UPDATE payments SET `+updatePayment+`, due_at = ?13 WHERE seq = ?1 AND version = ?2`, append(args, orNull(due)), nil)
		}
		if err != nil {
			return err
		}
		if conn.Changes() != 1 {
			return fmt.Errorf("payment %s is no longer at version %d", p.ID, p.Version-1)
		}
	}
	j.row.due = due
	for i := range c.Closed {
		op := &c.Closed[i]
		record, err := json.Marshal(op)
		if err != nil {
			return fmt.Errorf("operation %s cannot be written: %w", op.Ref, err)
		}
		err = query(conn, `INSERT INTO operations (payment, n, ref, kind, amount, outcome, answered_at, record)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)`,
			[]any{j.row.seq, op.N, op.Ref, string(op.Kind), op.Amount.Minor, string(op.Outcome), micros(op.AnsweredAt), string(record)}, nil)
		if err != nil {
			return err
		}
	}
	for i, e := range c.Entries {
		n := p.LastEntry - len(c.Entries) + 1 + i
		err := query(conn, `INSERT INTO entries (payment, n, operation, kind, at, currency, lines) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)`,
			[]any{j.row.seq, n, e.Operation, string(e.Kind), micros(p.UpdatedAt), string(p.Terms.Amount.Currency), string(e.AppendLines(nil))}, nil)
		if err != nil {
			return err
		}
	}
	for i := range c.Events {
		if err := s.writeEvent(conn, j, &c.Events[i]); err != nil {
			return err
		}
	}
	return nil
}

func openKind(p *payment.Payment) string {
	if p.Open == nil {
		return ""
	}
	return string(p.Open.Kind)
}

// endpoint is what deliveries to one merchant's server have in common.
func endpoint(notifyURL string) string {
	u, err := url.Parse(notifyURL)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func (s *Store) findLastSeq() error {
	return s.read(context.Background(), func(conn *sqlite.Conn) error {
		return query(conn, `SELECT coalesce(max(seq), 0) FROM payments`, nil, func(row *sqlite.Stmt) error {
			s.lastSeq.Store(row.ColumnInt64(0))
			return nil
		})
	})
}

// nextSeq is the row for a new payment. Only the process that serves creates payments.
func (s *Store) nextSeq() int64 { return s.lastSeq.Add(1) }

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
	err = s.read(ctx, func(conn *sqlite.Conn) (err error) {
		defer func() { err = errors.Join(err, script1(conn, "COMMIT")) }()
		if err := script1(conn, "BEGIN"); err != nil {
			return err
		}
		r, err := s.load(conn, paymentByID, id[:])
		if err != nil {
			return err
		}
		t, err = timeline(conn, r)
		return err
	})
	return t, err
}

func timeline(conn *sqlite.Conn, r row) (Timeline, error) {
	t := Timeline{Payment: r.payment}
	currency := r.payment.Terms.Amount.Currency
	err := query(conn, `SELECT record FROM operations WHERE payment = ?1 ORDER BY n`, []any{r.seq}, func(stmt *sqlite.Stmt) error {
		var op payment.Operation
		err := json.Unmarshal(blob(stmt, 0), &op)
		t.Operations = append(t.Operations, op)
		return err
	})
	if err != nil {
		return t, err
	}
	err = query(conn, `SELECT n, operation, kind, at, lines FROM entries WHERE payment = ?1 ORDER BY n`, []any{r.seq}, func(stmt *sqlite.Stmt) error {
		lines, err := ledger.ParseLines(stmt.ColumnText(4), currency)
		t.Entries = append(t.Entries, Entry{
			N: stmt.ColumnInt(0), At: timeAt(stmt.ColumnInt64(3)),
			Entry: ledger.Entry{Operation: stmt.ColumnText(1), Kind: ledger.Kind(stmt.ColumnText(2)), Lines: lines},
		})
		return err
	})
	if err != nil {
		return t, err
	}
	t.Events, err = eventRecords(conn, r)
	return t, err
}

// Each calls f with everything known of every payment, oldest first; each payment is as it was in one snapshot.
func (s *Store) Each(ctx context.Context, f func(*Timeline) error) error {
	for from := int64(0); ; {
		var chunk []Timeline
		err := s.read(ctx, func(conn *sqlite.Conn) (err error) {
			if err := script1(conn, "BEGIN"); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, script1(conn, "COMMIT")) }()
			var rows []row
			err = query(conn, selectPayment+` WHERE seq > ?1 ORDER BY seq LIMIT ?2`, []any{from, auditChunk}, func(stmt *sqlite.Stmt) error {
				r, err := s.scan(stmt)
				rows = append(rows, r)
				return err
			})
			if err != nil {
				return err
			}
			for _, r := range rows {
				t, err := timeline(conn, r)
				if err != nil {
					return err
				}
				chunk = append(chunk, t)
				from = r.seq
			}
			return nil
		})
		if err != nil || len(chunk) == 0 {
			return err
		}
		for i := range chunk {
			if err := f(&chunk[i]); err != nil {
				return err
			}
		}
	}
}
