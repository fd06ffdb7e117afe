package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"holdfast/internal/payment"
)

// The outbox as its operator sees it: what waits, what was given up, and what he has sent again.

// Notice is an event for who looks after what shops are told.
type Notice struct {
	Payment       payment.ID
	Shop          int64
	ShopPaymentID string
	N             int // the event's number within the payment
	Status        payment.Status
	At            time.Time // when it happened
	Endpoint      string    // scheme and host of the notify_url
	NextAt        time.Time // when it is sent (again); zero: never
	BeingSent     bool      // right now, as far as is known: until NextAt nobody else sends it
	Outcome       string    // why nothing more is sent
	Attempts      int
	LastAt        time.Time // when the last attempt was made whose result is known; zero: there is none
	LastStatus    int       // what that was answered, HTTP; 0: nothing
	Note          string    // what was made of it
}

// noticeColumns are read by notice, of events e and terms t.
const noticeColumns = `t.id, t.shop, t.shop_payment_id, e.n, e.status, e.at, e.endpoint, e.next_at, e.lease_until, e.attempts, e.outcome, e.last_at, e.http_status, e.note`

func notice(r record, now time.Time) Notice {
	n := Notice{
		Payment: payment.ID(r.blob(0)), Shop: r.int(1), ShopPaymentID: r.text(2), N: int(r.int(3)), Status: payment.Status(r.text(4)), At: timeAt(r.int(5)),
		Endpoint: r.text(6), BeingSent: timeAt(r.int(8)).After(now), Attempts: int(r.int(9)), Outcome: r.text(10), LastStatus: int(r.int(12)), Note: r.text(13),
	}
	if !r.null(7) {
		n.NextAt = timeAt(r.int(7))
	}
	if at := r.int(11); at > 0 {
		n.LastAt = timeAt(at)
	}
	return n
}

// NoticeFilter narrows Waiting and GivenUp; zero values do not.
type NoticeFilter struct {
	Shop  int64
	Since time.Time // of payments that were created then or later
	Limit int       // default 50, at most 1000
}

func (f *NoticeFilter) limit() int {
	return min(cmp.Or(max(f.Limit, 0), 50), 1000)
}

// noticesPart is how many events, or payments, are looked at in one read: nobody who cuts the log waits long for who looks.
// Only the tests change it.
var noticesPart = 1000

// Waiting lists what is to be told, or is being told, soonest first. Only the index of what is due is walked.
func (s *Store) Waiting(ctx context.Context, f NoticeFilter) (list []Notice, err error) {
	now, least := s.Now(), firstID(f.Since)
	for at, more := (Cursor{}), true; more && len(list) < f.limit(); {
		count, from := 0, at
		err := s.engine.read(ctx, func(q querier) error {
			return q.query(`SELECT `+noticeColumns+`, e.payment FROM events e JOIN terms t ON t.payment = e.payment
				WHERE e.next_at <= ?1 AND (e.next_at, e.payment, e.n) > (?2, ?3, ?4) ORDER BY e.next_at, e.payment, e.n LIMIT ?5`,
				[]value{moment(never), num(from.due), num(from.seq), num(from.n), num(noticesPart)}, func(r record) error {
					n := notice(r, now)
					count++
					at = Cursor{micros(n.NextAt), r.int(14), int64(n.N)}
					if (f.Shop == 0 || n.Shop == f.Shop) && bytes.Compare(n.Payment[:], least[:]) >= 0 && len(list) < f.limit() {
						list = append(list, n)
					}
					return nil
				})
		})
		if err != nil {
			return nil, err
		}
		more = count == noticesPart
	}
	return list, s.shown(nil)
}

// GivenUp lists what was given up as long as it is the last that there is to tell of its payment, oldest payments first. It
// walks all payments since f.Since.
func (s *Store) GivenUp(ctx context.Context, f NoticeFilter) (list []Notice, err error) {
	now := s.Now()
	err = s.givenUp(ctx, f, func(part []lastTold) (bool, error) {
		err := s.engine.read(ctx, func(q querier) error {
			for _, l := range part[:min(len(part), f.limit()-len(list))] {
				err := q.query(`SELECT `+noticeColumns+` FROM events e JOIN terms t ON t.payment = e.payment WHERE e.payment = ?1 AND e.n = ?2`,
					[]value{num(l.event.seq), num(l.event.n)}, func(r record) error {
						if n := notice(r, now); n.Outcome == OutcomeGaveUp { // else it has been sent again since
							list = append(list, n)
						}
						return nil
					})
				if err != nil {
					return err
				}
			}
			return nil
		})
		return len(list) < f.limit(), s.shown(err)
	})
	return list, err
}

// lastTold is the last event of a payment.
type lastTold struct {
	payment payment.ID
	event   EventKey
}

// givenUp hands over what GivenUp lists, a part at a time, as long as each wants more. What is looked for of a payment is
// one row of an index, whatever the database believes of its tables.
func (s *Store) givenUp(ctx context.Context, f NoticeFilter, each func([]lastTold) (more bool, err error)) error {
	for at, more := firstID(f.Since), true; more; {
		var part []lastTold
		count, from := 0, at
		err := s.engine.read(ctx, func(q querier) error {
			return q.query(`SELECT id, payment, CASE WHEN ?4 = 0 OR shop = ?4 THEN
					(SELECT CASE WHEN e.outcome = ?3 THEN e.n END FROM events e WHERE e.payment = terms.payment ORDER BY e.n DESC LIMIT 1) END
				FROM terms WHERE id > ?1 ORDER BY id LIMIT ?2`,
				[]value{bin(from[:]), num(noticesPart), str(OutcomeGaveUp), num(f.Shop)}, func(r record) error {
					count++
					at = payment.ID(r.blob(0))
					if !r.null(2) {
						part = append(part, lastTold{at, EventKey{r.int(1), int(r.int(2))}})
					}
					return nil
				})
		})
		if err = s.shown(err); err != nil {
			return err
		}
		more = count == noticesPart
		if len(part) > 0 {
			wants, err := each(part)
			if err != nil {
				return err
			}
			more = more && wants
		}
	}
	return nil
}

// firstID is before those of all payments that were created at a time or later, and behind all others'.
func firstID(since time.Time) payment.ID {
	if since.IsZero() {
		return payment.ID{}
	}
	return payment.NewID(since, [10]byte{})
}

// ErrBeingSent says that an event is on its way right now, so that it is not sent again.
var ErrBeingSent = errors.New("it is being sent right now")

// SendAgain makes the last event of a payment due now, whatever its outcome, and those before it that wait: they go first, as
// always. Whoever serves sends it within a second, as another attempt. What comes after that attempt is as after any other. The
// errors are ErrNotFound, those of payment.TellAgain, and ErrBeingSent; then nothing was changed.
func (s *Store) SendAgain(ctx context.Context, id payment.ID) (Notice, error) {
	a := &repeat{id: id}
	err := s.sendAgain(ctx, []*repeat{a}, "")
	return a.notice, cmp.Or(err, a.refused)
}

// SendGivenUp is SendAgain for all that GivenUp lists, without a limit. It returns how many are due now, also with an error.
func (s *Store) SendGivenUp(ctx context.Context, shop int64, since time.Time) (count int, err error) {
	err = s.givenUp(ctx, NoticeFilter{Shop: shop, Since: since}, func(part []lastTold) (bool, error) {
		asked := make([]*repeat, len(part))
		for i := range asked {
			asked[i] = &repeat{id: part[i].payment}
		}
		if err := s.sendAgain(ctx, asked, OutcomeGaveUp); err != nil {
			return false, err
		}
		for _, a := range asked {
			if a.refused == nil {
				count++
			}
		}
		return true, nil
	})
	return count, err
}

// repeat is a payment whose last event is to be sent again, and what became of that.
type repeat struct {
	id      payment.ID
	row     row
	last    []value // what its row says of its last attempt, as insertDelivery wants it; nil: nothing that may get lost
	notice  Notice
	refused error
	stale   bool // another process has changed the payment meanwhile
}

var (
	errNotGivenUp = errors.New("it is not given up any more")

	lastEvent = &statement{
		sql: `SELECT ` + noticeColumns + `, e.took FROM events e JOIN terms t ON t.payment = e.payment
			WHERE e.payment = ?1 AND e.n = ?2`,
		kinds: "bigint bigint",
	}
	// raisePayment tells other processes that what they remember of a payment is old: what was told is due again.
	raisePayment = &statement{
		sql:   `UPDATE payments AS t SET version = t.version + 1 WHERE t.seq = ?1 AND t.version = ?2`,
		kinds: "bigint bigint", key: "seq",
	}
	reopenEvent = &statement{
		sql:   `UPDATE events AS t SET next_at = ?3, lease_until = 0, outcome = '' WHERE t.payment = ?1 AND t.n = ?2 AND t.lease_until <= ?3`,
		kinds: "bigint bigint bigint", key: "payment, n",
	}
	hastenEarlier = &statement{
		sql:   `UPDATE events AS t SET next_at = ?3 WHERE t.payment = ?1 AND t.n < ?2 AND t.next_at > ?3 AND t.lease_until <= ?3`,
		kinds: "bigint bigint bigint",
	}
	// keepDelivery puts the last attempt of an event that was closed beside the others, before the next one takes its place.
	keepDelivery = &statement{
		sql: `INSERT INTO deliveries (payment, event, attempt, at, took, status, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
			ON CONFLICT (payment, event, attempt) DO NOTHING`,
		kinds: "bigint bigint bigint bigint bigint bigint text", key: "payment, event, attempt",
	}
)

// sendAgain is SendAgain for several payments, as far as their last events have this outcome; "": whatever they have.
func (s *Store) sendAgain(ctx context.Context, asked []*repeat, outcome string) error {
	for range mostStale {
		err := s.do(ctx, &job{exec: func(w writing, now time.Time) error { return s.reopen(w, now, asked, outcome) }})
		if err != nil {
			return err
		}
		asked = slices.DeleteFunc(slices.Clone(asked), func(a *repeat) bool { return !a.stale })
		if len(asked) == 0 {
			wake(s.events)
			return nil
		}
	}
	return errors.New("others change these payments all the time: try again")
}

// reopen makes the last events of payments due.
func (s *Store) reopen(w writing, now time.Time, asked []*repeat, outcome string) error {
	ids := make([][]value, len(asked))
	for i, a := range asked {
		*a = repeat{id: a.id, refused: ErrNotFound}
		ids[i] = []value{bin(a.id[:])}
	}
	err := w.each(paymentsByID, ids, func(i int, r record) (err error) {
		a := asked[i]
		a.row, err = s.scan(r)
		a.refused = a.row.payment.TellAgain()
		return err
	})
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		return err
	}
	left := make([]*repeat, 0, len(asked))
	var rows [][]value
	for _, a := range asked {
		if a.refused == nil {
			left, rows = append(left, a), append(rows, []value{num(a.row.seq), num(a.row.payment.LastEvent)})
		}
	}
	err = w.each(lastEvent, rows, func(i int, r record) error {
		a := left[i]
		a.notice = notice(r, now)
		switch n := &a.notice; {
		case outcome != "" && n.Outcome != outcome:
			a.refused = errNotGivenUp
		case n.NextAt.IsZero() && !n.LastAt.IsZero():
			a.last = []value{num(a.row.seq), num(n.N), num(n.Attempts), moment(n.LastAt), num(r.int(14)), num(n.LastStatus), str(n.Note)}
		}
		return nil
	})
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		return err
	}
	// Where others serve, who changes such a payment at this moment, or decides on it as it was, must find out.
	if !s.Alone() {
		if left, err = bidFor(w, raisePayment, left, func(a *repeat) []value { return []value{num(a.row.seq), num(a.row.payment.Version)} },
			func(a *repeat) { a.stale = true }); err != nil {
			return err
		}
	}
	left, err = bidFor(w, reopenEvent, left, func(a *repeat) []value { return []value{num(a.row.seq), num(a.notice.N), moment(now)} },
		func(a *repeat) { a.refused = ErrBeingSent })
	if err != nil {
		return err
	}
	var kept, earlier [][]value
	for _, a := range left {
		if a.last != nil {
			kept = append(kept, a.last)
		}
		if a.notice.N > 1 {
			earlier = append(earlier, []value{num(a.row.seq), num(a.notice.N), moment(now)})
		}
		a.notice.NextAt, a.notice.Outcome = now, ""
	}
	if err := w.put(keepDelivery, kept); err != nil {
		return err
	}
	return w.put(hastenEarlier, earlier)
}

// bidFor writes a row for each that is not refused, and returns those that were won; lost is called for the others.
func bidFor(w writing, s *statement, all []*repeat, row func(*repeat) []value, lost func(*repeat)) (won []*repeat, err error) {
	b := &bid{statement: s}
	var asked []*repeat
	for _, a := range all {
		if a.refused == nil {
			asked, b.rows = append(asked, a), append(b.rows, row(a))
		}
	}
	if len(asked) == 0 {
		return nil, nil
	}
	if err = w.bid(b); err == nil {
		err = w.flush()
	}
	if err != nil {
		return nil, err
	}
	for i, a := range asked {
		if b.won[i] {
			won = append(won, a)
		} else {
			lost(a)
		}
	}
	return won, nil
}
