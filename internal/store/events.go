package store

import (
	"context"
	"maps"
	"net/url"
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
//
// An event's row says that it
//
//	waits       next_at is when it is due, lease_until is 0
//	is claimed  next_at and lease_until are the end of its lease; then it is due again
//	is closed   next_at is null, and outcome says why
//
// and who changes that is
//
//	eventRow                a new one waits, is claimed at once (Fresh), or is closed where there is nowhere to send
//	Claim                   what is due is claimed, waits a little more for an earlier one, or is closed as not needed any more
//	Record                  what was claimed is closed, or waits for its next attempt; once the merchant has it, those before
//	                        it are closed; and the one behind it is due
//	PutBack, ReleaseLeases  what was claimed and is not sent waits
//	SendAgain, SendGivenUp  the last one of a payment is due, also where it was closed, and what waits before it

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
	// nothing more is sent: delivered, decided, OutcomeGaveUp.
	Accepted bool
	NextAt   time.Time
	Outcome  string
}

// OutcomeGaveUp is that of an event that was tried for long enough.
const OutcomeGaveUp = "gave up"

// Outcomes that the store itself gives to an event.
const (
	outcomeNowhere    = "nowhere to send"        // there is no notify_url
	outcomeSuperseded = "a later one was taken"  // the merchant already knows more
	outcomeDecided    = "the payment is decided" // a repeat that is no longer needed
	outcomeOvertaken  = "there is a later one"   // likewise, of one that was to be sent again although it was taken
)

// freshRoom is how many events may be claimed as they are made and wait to be sent; what comes on
// top is claimed later, as everything else is.
const freshRoom = 4096

// onTheWay is how many may be handed over by batches that do not stand in the queue yet: of each committer one is being
// written, one waits for the disk, one is synced, and a change makes two events at most.
func (s *Store) onTheWay() int { return len(s.committers) * 3 * 2 * maxBatch }

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
func (s *Store) eventRow(on *desk, j *job, e *payment.Event, waits map[EventKey]bool) []value {
	p := &j.change.Payment
	key := EventKey{j.row.seq, e.N}
	nextAt := moment(e.At)
	leaseUntil, attempts, outcome := int64(0), int64(0), ""
	to := endpoint(p.Terms.NotifyURL)
	switch lease := time.Duration(s.lease.Load()); {
	case p.Terms.NotifyURL == "":
		nextAt, outcome = value{}, outcomeNowhere
	case waits != nil && len(s.fresh) < freshRoom-s.onTheWay() && !waits[key]:
		leaseUntil, attempts = micros(e.At.Add(lease)), 1
		nextAt = num(leaseUntil)
		j.fresh = append(j.fresh, Delivery{Key: key, Payment: p.ID, Shop: p.Shop, Event: *e, Endpoint: to, Attempt: 1})
	}
	return on.row(num(j.row.seq), num(e.N), num(p.Shop), str(e.Status), moment(e.At), num(e.Sums.Captured.Minor), num(e.Sums.Fee.Minor), num(e.Sums.Refunded.Minor),
		str(to), nextAt, num(leaseUntil), num(attempts), str(outcome))
}

// endpoint is what deliveries to one merchant's server have in common.
func endpoint(notifyURL string) string {
	u, err := url.Parse(notifyURL)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

var (
	earlierEvents = &statement{
		sql:   `SELECT n, lease_until, accepted FROM events WHERE payment = ?1 AND n < ?2 AND next_at IS NOT NULL`,
		kinds: "bigint bigint",
	}
	// noneEarlier fails where one of these events has not been taken, or is being told at the time that ?3 says.
	noneEarlier = &statement{
		sql: `SELECT 1 / CASE WHEN accepted = 0 OR lease_until > ?3 THEN 0 ELSE 1 END FROM events
			WHERE payment = ?1 AND n < ?2 AND next_at IS NOT NULL`,
		kinds: "bigint bigint bigint",
	}
)

// earlierWait says which new events must wait for an earlier one of their payment that waits to be told (again). One that this
// process is telling right now does not make them wait: who takes fresh events keeps their order. Neither does one that the
// merchant has taken, and that is repeated only until he decides. One that another process is telling does.
func (s *Store) earlierWait(w writing, changed []*job) (waits map[EventKey]bool, err error) {
	if s.lease.Load() == 0 {
		return nil, nil // nobody takes fresh ones: none is handed over
	}
	waits = make(map[EventKey]bool)
	var asked []*payment.Event
	var rows, hoped [][]value
	for _, j := range changed {
		for i := range j.change.Events {
			e := &j.change.Events[i]
			key := EventKey{j.row.seq, e.N}
			if e.N <= j.row.told+1 {
				continue
			}
			// Those before own are taken or closed, as far as this process knows; own and those after it it is telling itself.
			if own := s.flying.since(key, e.At); own <= max(j.row.told, j.row.taken)+1 && (s.Alone() || w.hopes()) {
				if !s.Alone() && own > j.row.told+1 {
					hoped = append(hoped, []value{num(j.row.seq), num(own), moment(e.At)})
				}
				continue
			}
			asked, rows = append(asked, e), append(rows, []value{num(j.row.seq), num(e.N)})
		}
	}
	if err := w.each(noneEarlier, hoped, func(int, record) error { return nil }); err != nil || len(rows) == 0 {
		return waits, err
	}
	err = w.each(earlierEvents, rows, func(i int, r record) error {
		seq, e := rows[i][0].whole, asked[i]
		earlier, told, taken := EventKey{seq, int(r.int(0))}, timeAt(r.int(1)).After(e.At), r.int(2) != 0
		if told && !s.Alone() && !s.flying.has(earlier, e.At) || !told && !taken {
			waits[EventKey{seq, e.N}] = true
		}
		return nil
	})
	if err == nil {
		err = w.flush()
	}
	return waits, err
}

// flying is events that this process has claimed and has not recorded, with the ends of their leases, as they are stored:
// from then on anybody may send them.
type flying struct {
	mu     sync.Mutex
	leases map[EventKey]time.Time
}

func (f *flying) has(key EventKey, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leases[key].After(now)
}

// since is the first of the events before key's, one after another up to it, that are all flying; key's own number where
// the one before is not.
func (f *flying) since(key EventKey, now time.Time) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ; key.n > 1; key.n-- {
		if !f.leases[EventKey{key.seq, key.n - 1}].After(now) {
			break
		}
	}
	return key.n
}

func (f *flying) add(now, end time.Time, deliveries []Delivery) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leases == nil {
		f.leases = make(map[EventKey]time.Time)
	}
	if len(f.leases) > 2*freshRoom { // what was never recorded
		maps.DeleteFunc(f.leases, func(_ EventKey, end time.Time) bool { return end.Before(now) })
	}
	for _, d := range deliveries {
		f.leases[d.Key] = end
	}
}

func (f *flying) remove(key EventKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.leases, key)
}

// PutBack gives up claims on events that were not sent; they are due again at the time given.
func (s *Store) PutBack(ctx context.Context, deliveries []Delivery, until time.Time) error {
	for _, d := range deliveries {
		s.flying.remove(d.Key)
	}
	return s.do(ctx, &job{exec: func(w writing, now time.Time) error {
		var rows [][]value
		for _, d := range deliveries {
			rows = append(rows, []value{num(d.Key.seq), num(d.Key.n), moment(until), num(d.Attempt)})
		}
		return w.put(unclaimEvent, rows)
	}})
}

// candidates bounds how many due events one Claim looks at.
const candidates = 512

// Places are the caller's own count of how many deliveries it may have under way, to each endpoint and to all of them.
type Places struct {
	// Admit takes a place for one more event of a shop's to an endpoint, if there is one.
	Admit func(endpoint string, shop int64) bool
	// Release gives back a place to an endpoint that nothing is sent from.
	Release func(endpoint string)
}

// has reports whether there is a place for an event, and takes none.
func (p Places) has(d dueEvent) bool {
	admitted := p.Admit(d.Endpoint, d.Shop)
	if admitted {
		p.Release(d.Endpoint)
	}
	return admitted
}

// Claims is what a call of Claim came to.
type Claims struct {
	Deliveries []Delivery // the caller's to send; each has taken a place
	Next       Cursor     // how far it has looked
	More       bool       // there may be more behind Next
}

// Claim takes up to limit due events that come after a cursor, for the caller to send within lease. One that finds no place
// stays as it is.
func (s *Store) Claim(ctx context.Context, after Cursor, limit int, lease time.Duration, places Places) (Claims, error) {
	// Where nothing is due, or has a place, a look is all it costs.
	var due []dueEvent
	err := s.engine.read(ctx, func(q querier) (err error) {
		due, err = dueEvents(q, s.Now(), after)
		return err
	})
	if err != nil || len(due) == 0 {
		return Claims{Next: after}, err
	}
	if !slices.ContainsFunc(due, places.has) {
		return Claims{Next: due[len(due)-1].cursor(), More: len(due) == candidates}, nil
	}
	c := &claim{after: after, limit: limit, lease: lease, places: places}
	if err := s.do(ctx, &job{exec: c.run}); err != nil {
		c.giveUp()
		return Claims{Next: after}, err
	}
	won := c.won()
	s.flying.add(s.Now(), c.leaseEnd, won)
	return Claims{Deliveries: won, Next: c.next, More: c.more}, nil
}

// claim is a call of Claim on its way.
type claim struct {
	after  Cursor
	limit  int
	lease  time.Duration
	places Places

	claimRun
}

// claimRun is what a claim has come to since its transaction was begun the last time.
type claimRun struct {
	now      time.Time
	leaseEnd time.Time
	next     Cursor
	more     bool

	bids  bid           // for the events that are to be sent
	tried []Delivery    // the same events; each has taken a place
	first map[int64]int // by payment, the first of them
	over  [][]value     // rows of those that need not be told any more
	later [][]value     // and of those that must wait for an earlier one
}

// run is the transaction of a claim. Where it runs once more, nothing of the time before is stored.
func (c *claim) run(w writing, now time.Time) error {
	c.giveUp()
	c.claimRun = claimRun{now: now, leaseEnd: now.Add(c.lease), next: c.after, bids: bid{statement: claimEvent}, first: make(map[int64]int)}
	due, err := dueEvents(w, now, c.after)
	if err != nil {
		return err
	}
	c.more = len(due) == candidates
	for len(due) > 0 && len(c.tried) < c.limit {
		some := due[:min(len(due), c.limit-len(c.tried))]
		due = due[len(some):]
		order, err := inOrder(w, some, now)
		if err != nil {
			return err
		}
		for i, d := range some {
			c.consider(d, order[i])
		}
	}
	c.more = c.more || len(due) > 0
	return c.write(w)
}

// consider says what is done to a due event.
func (c *claim) consider(d dueEvent, is turn) {
	c.next = d.cursor()
	key, before := d.Key, int64(d.Attempt-1)
	first, claimed := c.first[key.seq]
	if claimed && first < key.n {
		is.wait = d.behind(first, c.leaseEnd, c.now) // one before it is about to be sent
	}
	switch {
	case is.over != "":
		c.over = append(c.over, []value{num(key.seq), num(key.n), str(is.over), num(before)})
	case !c.places.Admit(d.Endpoint, d.Shop): // it stays as it is
	case !is.wait.IsZero():
		c.places.Release(d.Endpoint)
		c.later = append(c.later, []value{num(key.seq), num(key.n), moment(is.wait), num(before), moment(d.nextAt)})
	default:
		c.tried = append(c.tried, d.Delivery)
		c.bids.rows = append(c.bids.rows, []value{num(key.seq), num(key.n), num(d.Attempt), moment(c.leaseEnd)})
		if !claimed || key.n < first {
			c.first[key.seq] = key.n
		}
	}
}

func (c *claim) write(w writing) error {
	if err := w.put(closeEvent, c.over); err != nil {
		return err
	}
	if err := w.put(putOff, c.later); err != nil {
		return err
	}
	if err := w.bid(&c.bids); err != nil {
		return err
	}
	return w.flush()
}

// won is what was claimed, once it is stored. The places of what another process has are given back.
func (c *claim) won() (won []Delivery) {
	for i, d := range c.tried {
		if c.bids.won[i] {
			won = append(won, d)
		} else {
			c.places.Release(d.Endpoint)
		}
	}
	return won
}

// giveUp gives back the places of all that was to be claimed.
func (c *claim) giveUp() {
	for _, d := range c.tried {
		c.places.Release(d.Endpoint)
	}
	c.tried = nil
}

// dueEvent is one that may be claimed.
type dueEvent struct {
	Delivery
	accepted bool
	nextAt   time.Time
}

func (d *dueEvent) cursor() Cursor { return Cursor{micros(d.nextAt), d.Key.seq, int64(d.Key.n)} }

// behind is until when it waits for one before it that is being sent, until leaseEnd at most. The result of that wakes the very
// next one, if it was never sent, and no other (wakeNext).
func (d *dueEvent) behind(earlier int, leaseEnd, now time.Time) time.Time {
	if d.Attempt > 1 || earlier < d.Key.n-1 {
		return now.Add(time.Second)
	}
	return leaseEnd
}

func dueEvents(q querier, now time.Time, after Cursor) (due []dueEvent, err error) {
	err = q.query(`SELECT e.payment, e.n, e.shop, e.status, e.at, e.captured, e.fee, e.refunded, e.endpoint, e.attempts, e.accepted, t.id, t.currency, e.next_at
		FROM events e JOIN terms t ON t.payment = e.payment WHERE e.next_at <= ?1 AND (e.next_at, e.payment, e.n) > (?2, ?3, ?4)
		ORDER BY e.next_at, e.payment, e.n LIMIT ?5`,
		[]value{moment(now), num(after.due), num(after.seq), num(after.n), num(candidates)}, func(r record) error {
			sum := func(column int) money.Amount { return money.New(r.int(column), money.Currency(r.text(12))) }
			due = append(due, dueEvent{Delivery{
				Key: EventKey{r.int(0), int(r.int(1))}, Payment: payment.ID(r.blob(11)), Shop: r.int(2),
				Event: payment.Event{
					N: int(r.int(1)), Status: payment.Status(r.text(3)), At: timeAt(r.int(4)),
					Sums: payment.Sums{Captured: sum(5), Fee: sum(6), Refunded: sum(7)},
				},
				Endpoint: r.text(8), Attempt: int(r.int(9)) + 1,
			}, r.int(10) != 0, timeAt(r.int(13))})
			return nil
		})
	return due, err
}

// turn says whether it is an event's turn.
type turn struct {
	wait time.Time // until when it must wait for an earlier one of its payment; zero: not at all
	over string    // the outcome of one that need not be told any more
}

var neighbourEvents = &statement{
	sql: `SELECT n, next_at, lease_until, attempts, accepted FROM events
		WHERE payment = ?1 AND (n > ?2 OR n < ?2 AND next_at IS NOT NULL)`,
	kinds: "bigint bigint",
}

// inOrder says of each event whether it is its turn.
func inOrder(w writing, events []dueEvent, now time.Time) (all []turn, err error) {
	all = make([]turn, len(events))
	rows := make([][]value, len(events))
	for i, e := range events {
		rows[i] = []value{num(e.Key.seq), num(e.Key.n)}
	}
	err = w.each(neighbourEvents, rows, func(i int, r record) error {
		is := &all[i]
		next, lease, attempts, accepted := timeAt(r.int(1)), timeAt(r.int(2)), r.int(3), r.int(4) != 0
		if int(r.int(0)) > events[i].Key.n {
			switch {
			case accepted: // while this one was on its way; see Record
				is.over = outcomeSuperseded
			case !events[i].accepted || is.over != "":
			case events[i].Event.Status == payment.StatusWaitingForCapture: // the merchant took the request, and has decided since
				is.over = outcomeDecided
			default: // he took it, and it was to be sent again (SendAgain): not beside news, and not in its way
				is.over = outcomeOvertaken
			}
			return nil
		}
		until := next
		switch {
		case lease.After(now): // it is being sent right now
			until = events[i].behind(int(r.int(0)), lease, now)
		case accepted || attempts >= Patience:
			return nil
		case !next.After(now):
			until = now.Add(10 * time.Millisecond) // it is due itself and goes first
		}
		if until.After(is.wait) {
			is.wait = until
		}
		return nil
	})
	if err == nil {
		err = w.flush()
	}
	return all, err
}

// What a claim writes. Nothing is done to an event that another process has claimed since it had so many attempts.
var (
	claimEvent = &statement{
		sql:   `UPDATE events AS t SET attempts = ?3, next_at = ?4, lease_until = ?4 WHERE t.payment = ?1 AND t.n = ?2 AND t.attempts = ?3 - 1 AND t.next_at IS NOT NULL`,
		kinds: "bigint bigint bigint bigint", key: "payment, n",
	}
	closeEvent = &statement{
		sql:   `UPDATE events AS t SET next_at = NULL, lease_until = 0, outcome = ?3 WHERE t.payment = ?1 AND t.n = ?2 AND t.attempts = ?4`,
		kinds: "bigint bigint text bigint", key: "payment, n",
	}
	// What another process has just woken (wakeNext) stays awake.
	putOff = &statement{
		sql:   `UPDATE events AS t SET next_at = ?3 WHERE t.payment = ?1 AND t.n = ?2 AND t.attempts = ?4 AND t.next_at = ?5`,
		kinds: "bigint bigint bigint bigint bigint", key: "payment, n",
	}
	unclaimEvent = &statement{
		sql:   `UPDATE events AS t SET next_at = ?3, lease_until = 0, attempts = t.attempts - 1 WHERE t.payment = ?1 AND t.n = ?2 AND t.attempts = ?4`,
		kinds: "bigint bigint bigint bigint", key: "payment, n",
	}
)

// What a result writes.
var (
	// One that comes so late that the event has been claimed again says nothing of that, unless the merchant has it.
	recordResult = &statement{
		sql: `UPDATE events AS t SET next_at = ?3, lease_until = 0, accepted = CASE WHEN t.accepted > ?4 THEN t.accepted ELSE ?4 END, outcome = ?5,
			last_at = ?6, took = ?7, http_status = ?8, note = ?9
			WHERE t.payment = ?1 AND t.n = ?2 AND (?4 = 1 OR t.attempts = ?10)`,
		kinds: "bigint bigint bigint bigint text bigint bigint bigint text bigint", key: "payment, n",
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
	// The event after it has waited for it. (It is found by its key, and not by the index of what is due.) It is written also
	// where it is due already, so that another process that is about to put it off (putOff) finds it changed.
	wakeNext = &statement{
		sql:   `UPDATE events AS t SET next_at = ?3 WHERE t.payment = ?1 AND t.n = ?2 AND coalesce(t.next_at, 0) > 0 AND t.attempts = 0`,
		kinds: "bigint bigint bigint", key: "payment, n",
	}
)

// Record stores what became of deliveries, many in one commit.
func (s *Store) Record(ctx context.Context, results []Result) error {
	var woken *sheet
	on := desks.Get().(*desk)
	defer on.giveBack()
	err := s.do(ctx, &job{exec: func(w writing, now time.Time) error {
		records, deliveries, older := on.sheet(recordResult), on.sheet(insertDelivery), on.sheet(supersede)
		woken = on.sheet(wakeNext)
		for _, r := range results {
			n := int64(r.Key.n)
			r.Note = cleanNote(r.Note)
			records.add(on.row(num(r.Key.seq), num(n), orNull(r.NextAt), num(asInt(r.Accepted)), str(r.Outcome), moment(r.At), num(r.Took.Microseconds()), num(r.Status), str(r.Note), num(r.Attempt)))
			if !r.NextAt.IsZero() {
				deliveries.add(on.row(num(r.Key.seq), num(n), num(r.Attempt), moment(r.At), num(r.Took.Microseconds()), num(r.Status), str(r.Note)))
			}
			first, last := s.cache.neighbours(r.Key)
			if r.Accepted && !first {
				older.add(on.row(num(r.Key.seq), num(n), str(outcomeSuperseded), moment(now)))
			}
			if !last || !s.Alone() { // another process may have made a later one
				woken.add(on.row(num(r.Key.seq), num(n+1), moment(now)))
			}
		}
		for _, rows := range [...]*sheet{records, deliveries, older} {
			if err := w.put(rows.statement, rows.rows); err != nil {
				return err
			}
		}
		return w.bid(&woken.bid)
	}})
	if err == nil {
		s.cache.closed(results)
	}
	for _, r := range results {
		s.flying.remove(r.Key)
	}
	if err == nil && slices.Contains(woken.won, true) {
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

// NextEvent is when the next event is due, for tests and simulations, which set their clock to it; false: none waits.
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
	return s.do(ctx, &job{exec: func(w writing, now time.Time) error {
		_, err := w.exec(`UPDATE events SET next_at = ?1, lease_until = 0 WHERE next_at IS NOT NULL AND lease_until > 0`, []value{moment(now)})
		return err
	}})
}

func eventRecords(q querier, r row) (events []EventRecord, err error) {
	currency := r.payment.Terms.Amount.Currency
	last := make(map[int]DeliveryRecord)
	err = q.query(`SELECT n, status, at, captured, fee, refunded, next_at, attempts, outcome, last_at, took, http_status, note
		FROM events WHERE payment = ?1 ORDER BY n`,
		[]value{num(r.seq)}, func(rec record) error {
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
		[]value{num(r.seq)}, func(rec record) error {
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
