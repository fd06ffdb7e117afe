package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"holdfast/internal/merchant"
	"holdfast/internal/payment"
	"holdfast/internal/postgrestest"
	"holdfast/internal/store"
)

// Two gateways on one database: of many who want the same, one gets it.
func TestPostgreSQLTwoGateways(t *testing.T) {
	w := newWorld(t, postgres(postgrestest.Database(t)))
	gateways := []*store.Store{w.Store, w.openAgain(true)}
	if w.Alone() {
		t.Error("several serve from one database")
	}
	t.Run("one name is one payment", func(t *testing.T) {
		for round := range 20 {
			name := fmt.Sprint("one-", round)
			var made atomic.Int32
			got := make([]payment.Payment, 24)
			together(len(got), func(i int) {
				p, created, err := gateways[i%2].Create(t.Context(), shop, name, maker(terms(name)))
				if err != nil {
					t.Error(err)
				}
				if created {
					made.Add(1)
				}
				got[i] = p
			})
			if made.Load() != 1 {
				t.Errorf("%d callers were told that they made it", made.Load())
			}
			for i := range got {
				if diff := cmp.Diff(got[0], got[i]); diff != "" {
					t.Fatalf("caller %d got another answer:\n%s", i, diff)
				}
				byNumber, err := gateways[i%2].PaymentByNumber(t.Context(), got[i].Number)
				if err != nil || byNumber.ID != got[0].ID {
					t.Errorf("number %d is payment %s, %v", got[i].Number, byNumber.ID, err)
				}
			}
		}
	})
	t.Run("many names at once are as many payments", func(t *testing.T) {
		numbers := make(map[int64]bool)
		var mu sync.Mutex
		together(32, func(i int) {
			for n := range 40 { // more than a block of row numbers
				name := fmt.Sprintf("many-%d-%d", i, n)
				p, created, err := gateways[i%2].Create(t.Context(), shop, name, maker(terms(name)))
				if err != nil || !created {
					t.Errorf("created %v, %v", created, err)
				}
				mu.Lock()
				if numbers[p.Number] {
					t.Errorf("number %d was given twice", p.Number)
				}
				numbers[p.Number] = true
				mu.Unlock()
			}
		})
	})
	t.Run("one hold is decided once", func(t *testing.T) {
		for round := range 20 {
			p := w.held(terms(fmt.Sprint("held-", round)))
			decisions := make([]payment.Change, 16)
			together(len(decisions), func(i int) {
				decide := payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant}
				if i/2%2 == 0 {
					decide = payment.Decide{Accept: payment.Capture, Amount: uzs(int64(total - i)), By: payment.ByMerchant}
				}
				change, err := gateways[i%2].Update(t.Context(), p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
					return payment.Begin(p, decide, now)
				})
				if err == nil {
					decisions[i] = change
				}
			})
			taken := 0
			for _, change := range decisions {
				if !change.Empty() {
					taken++
				}
			}
			if taken != 1 {
				t.Errorf("%d decisions were taken", taken)
			}
			for _, s := range gateways {
				now, err := s.Payment(t.Context(), p.ID)
				if err != nil || now.Version != p.Version+1 {
					t.Errorf("version %d after %d, %v", now.Version, p.Version, err)
				}
			}
		}
	})
	t.Run("one hold at the centre is one payment's", func(t *testing.T) {
		for round := range 10 {
			var asking []payment.Payment
			for i := range 6 {
				asking = append(asking, w.asking(terms(fmt.Sprintf("claim-%d-%d", round, i))))
			}
			var owners atomic.Int32
			together(len(asking), func(i int) {
				_, err := gateways[i%2].Update(t.Context(), asking[i].ID, answering(payment.Answer{Outcome: payment.Approved, Claim: fmt.Sprint("the one of ", round)}))
				if err == nil {
					owners.Add(1)
				} else if !errors.Is(err, store.ErrClaimed) {
					t.Error(err)
				}
			})
			if owners.Load() != 1 {
				t.Errorf("the hold has %d owners", owners.Load())
			}
		}
	})
	t.Run("shops get ids of their own", func(t *testing.T) {
		var mu sync.Mutex
		ids := make(map[int64]bool)
		together(12, func(i int) {
			made, err := gateways[i%2].CreateShop(t.Context(), merchant.Shop{Name: fmt.Sprint("shop ", i), UniqueKey: []byte{1}})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			ids[made.ID] = true
		})
		if len(ids) != 12 {
			t.Errorf("12 shops have %d ids", len(ids))
		}
	})
	w.clean()
}

// Two operators change a shop at once, each by a process of his own: both changes are stored.
func TestPostgreSQLTwoChangeAShop(t *testing.T) {
	dsn := postgrestest.Database(t)
	w := newWorld(t, postgres(dsn))
	other := w.openAgain(false)
	made, err := w.CreateShop(t.Context(), shopNamed("before"))
	if err != nil {
		t.Fatal(err)
	}
	server, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close(context.Background())
	waits := func() (waits bool) {
		err := server.QueryRow(t.Context(), `SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waits)
		if err != nil {
			t.Error(err)
		}
		return waits
	}
	var second sync.WaitGroup
	begin := sync.OnceFunc(func() {
		var done atomic.Bool
		second.Go(func() {
			_, err := other.UpdateShop(context.Background(), made.ID, func(s *merchant.Shop) error { s.SecretHash[0] = 42; return nil })
			if err != nil {
				t.Error(err)
			}
			done.Store(true)
		})
		eventually(t, "the second is through, or waits for the first", func() bool { return done.Load() || waits() })
	})
	_, err = w.UpdateShop(t.Context(), made.ID, func(s *merchant.Shop) error {
		begin()
		s.Name = "after"
		return nil
	})
	second.Wait()
	if err != nil {
		t.Fatal(err)
	}
	shops, err := w.Shops(t.Context())
	if err != nil || len(shops) != 1 || shops[0].Name != "after" || shops[0].SecretHash[0] != 42 {
		t.Errorf("a change that was acknowledged is lost: %+v, %v", shops, err)
	}
}

// What a gateway remembers is enough to recall terms, and never to say how a payment stands.
func TestPostgreSQLRemembered(t *testing.T) {
	w := newWorld(t, postgres(postgrestest.Database(t)))
	other := w.openAgain(true)
	p := w.held(terms("order-1"))
	change, err := other.Update(t.Context(), p.ID, beginning(payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant}))
	if err != nil {
		t.Fatal(err)
	}
	read := func(find func() (payment.Payment, error)) payment.Payment {
		t.Helper()
		p, err := find()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	recalled := read(func() (payment.Payment, error) { return w.Recall(t.Context(), p.ID, p.LastEvent) })
	byNumber := read(func() (payment.Payment, error) { return w.RecallByNumber(t.Context(), p.Number) })
	for _, got := range []payment.Payment{recalled, byNumber} {
		if got.Version != p.Version || got.Terms.ShopPaymentID != "order-1" {
			t.Errorf("recalled version %d of %q", got.Version, got.Terms.ShopPaymentID)
		}
	}
	if got := read(func() (payment.Payment, error) { return w.Recall(t.Context(), p.ID, p.LastEvent+1) }); got.Version != change.Payment.Version {
		t.Errorf("version %d is said to have an event that only %d can have", got.Version, change.Payment.Version)
	}
	// What another wrote is seen however it is asked for, by many at once.
	if _, err := other.Update(t.Context(), p.ID, answering(payment.Answer{Outcome: payment.Approved})); err != nil {
		t.Fatal(err)
	}
	together(16, func(i int) {
		got, err := w.Payment(t.Context(), p.ID)
		if i%2 == 0 {
			got, err = w.PaymentByNumber(t.Context(), p.Number)
		}
		if err != nil || got.State != payment.Voided {
			t.Errorf("found %s, %v", got.State, err)
		}
	})
	// What was so a moment ago is told to who has asked for that, and no longer.
	p = w.held(terms("order-2"))
	if _, err := other.Update(t.Context(), p.ID, beginning(payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant})); err != nil {
		t.Fatal(err)
	}
	for _, age := range []time.Duration{0, time.Second - time.Microsecond, time.Second} {
		w.later(age - w.Now().Sub(p.UpdatedAt))
		got := read(func() (payment.Payment, error) { return w.Lately(t.Context(), p.ID) })
		if remembered := got.Version == p.Version; remembered != (age < time.Second) {
			t.Errorf("after %s version %d is told, %d is remembered", age, got.Version, p.Version)
		}
	}
	// One that asks for what cannot be asked for is no trouble of the others.
	together(16, func(i int) {
		name := "order-1"
		if i%4 == 0 {
			name = "a\x00b"
		}
		if _, err := w.PaymentByShop(t.Context(), shop, name); (err != nil) != (i%4 == 0) {
			t.Errorf("%q: %v", name, err)
		}
	})
	w.clean()
}

// A payment that cannot be read, because a later version wrote it or it is damaged, keeps up no other that is due.
func TestPostgreSQLDueUnreadable(t *testing.T) {
	dsn := postgrestest.Database(t)
	w := newWorld(t, postgres(dsn))
	bad, good := w.create(terms("bad")), w.create(terms("good"))
	tell(t, dsn, `UPDATE payments SET state = 'from the future' WHERE seq = (SELECT payment FROM terms WHERE shop_payment_id = 'bad')`)
	ids, _, err := w.Due(t.Context(), bad.Terms.ExpiresAt.Add(time.Hour), store.Cursor{}, 10)
	if err != nil || len(ids) != 2 || !slices.Contains(ids, good.ID) || !slices.Contains(ids, bad.ID) {
		t.Errorf("due are %v, want %v and %v, %v", ids, bad.ID, good.ID, err)
	}
}

// A payment's next time is written where it comes to be earlier; who finds it too early puts it right.
func TestPostgreSQLDueTooEarly(t *testing.T) {
	dsn := postgrestest.Database(t)
	w := newWorld(t, postgres(dsn))
	slow, left := w.create(terms("slow")), w.create(terms("left alone"))
	w.begin(slow.ID, pay()) // due when the answer is
	p := w.mustSettle(slow.ID, payment.Answer{Outcome: payment.ChallengeGiven, CentreID: "77", Phone: "+998** *****33"})
	stored := func() int64 {
		t.Helper()
		var due int64
		conn, err := pgx.Connect(t.Context(), dsn)
		if err == nil {
			err = conn.QueryRow(t.Context(), `SELECT p.due_at FROM payments p JOIN terms t ON t.payment = p.seq WHERE t.id = $1`, slow.ID[:]).Scan(&due)
			err = errors.Join(err, conn.Close(t.Context()))
		}
		if err != nil {
			t.Fatal(err)
		}
		return due
	}
	early := stored()
	if early >= p.Due().UnixMicro() {
		t.Fatalf("the time of the question is gone: due_at is %d, the payment is due at %d", early, p.Due().UnixMicro())
	}
	w.clean() // the audit takes it
	due := func(at time.Time) (ids []payment.ID) {
		t.Helper()
		ids, _, err := w.Due(t.Context(), at, store.Cursor{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	if ids := due(time.UnixMicro(early)); len(ids) != 0 {
		t.Errorf("due: %v", ids)
	}
	if got := stored(); got != p.Due().UnixMicro() {
		t.Errorf("due_at is %d, want %d", got, p.Due().UnixMicro())
	}
	if ids := due(p.Due()); !slices.Equal(ids, []payment.ID{slow.ID, left.ID}) && !slices.Equal(ids, []payment.ID{left.ID, slow.ID}) {
		t.Errorf("at its end due: %v", ids)
	}
	w.begin(slow.ID, payment.SubmitCode{VerifyID: verifyID}) // earlier again
	if now, err := w.Payment(t.Context(), slow.ID); err != nil || stored() != now.Due().UnixMicro() {
		t.Errorf("due_at is %d, the payment is due at %s, %v", stored(), now.Due(), err)
	}
	// A gateway that died forgot to say when it must be looked at: the audit does not take that.
	tell(t, dsn, `UPDATE payments SET due_at = due_at + 1000000`)
	audit, err := w.Audit(t.Context(), nil)
	if err != nil || len(audit.Violations) == 0 {
		t.Errorf("late, and the audit says %+v, %v", audit, err)
	}
}

// Each event goes to one gateway, in the order of its payment, whichever gateway made it.
func TestPostgreSQLTwoGatewaysTell(t *testing.T) {
	w := newWorld(t, postgres(postgrestest.Database(t)))
	gateways := []*store.Store{w.Store, w.openAgain(true)}
	const payments = 60
	for i := range payments {
		w.captured(terms(fmt.Sprint("order-", i)), total) // three events
	}
	var mu sync.Mutex
	told := make(map[payment.ID][]int)
	var places [2]atomic.Int64 // taken and not given back
	together(6, func(i int) {
		s, places := gateways[i%2], &places[i%2]
		for {
			claimed, err := s.Claim(t.Context(), store.Cursor{}, 5, time.Hour, store.Places{
				Admit: func(string, int64) bool {
					places.Add(1)
					return true
				},
				Release: func(string) { places.Add(-1) },
			})
			got := claimed.Deliveries
			places.Add(-int64(len(got)))
			if err != nil {
				t.Error(err)
				return
			}
			if len(got) == 0 {
				if _, waits, err := s.NextEvent(t.Context()); err != nil || !waits {
					return
				}
				w.later(10 * time.Millisecond)
				continue
			}
			var results []store.Result
			mu.Lock()
			for _, d := range got {
				if d.Attempt != 1 {
					t.Errorf("event %d is sent for the %d. time", d.Event.N, d.Attempt)
				}
				told[d.Payment] = append(told[d.Payment], d.Event.N)
				r := delivered(d)
				r.At = w.Now()
				results = append(results, r)
			}
			mu.Unlock()
			if err := s.Record(t.Context(), results); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range places {
		if n := places[i].Load(); n != 0 { // of what the other gateway was faster with
			t.Errorf("gateway %d has lost %d places at merchants", i, n)
		}
	}
	for id, events := range told {
		if !slices.Equal(events, []int{1, 2, 3}) {
			t.Errorf("payment %s: told %v", id, events)
		}
	}
	if len(told) != payments {
		t.Errorf("%d payments were told of", len(told))
	}
	// A fresh one waits for an earlier one that another gateway is sending.
	other := gateways[1].Fresh(lease)
	fresh := w.Fresh(lease)
	p := w.asking(terms("fresh"))
	first := <-fresh
	if _, err := gateways[1].Update(t.Context(), p.ID, answering(payment.Answer{Outcome: payment.Approved, Claim: "fresh"})); err != nil {
		t.Fatal(err)
	}
	if len(other) > 0 {
		t.Errorf("handed over out of its turn: %+v", <-other)
	}
	w.record(delivered(first))
	w.claims("fresh/2 try 1")
	// And for one that another sends again, because this one's lease had ended.
	p = w.asking(terms("lapsed"))
	<-fresh
	w.later(lease)
	claimed, err := gateways[1].Claim(t.Context(), store.Cursor{}, 10, lease, everywhere)
	again := claimed.Deliveries
	if err != nil || !slices.ContainsFunc(again, func(d store.Delivery) bool { return d.Payment == p.ID }) {
		t.Fatalf("the other gateway sends %+v, %v", again, err)
	}
	w.mustSettle(p.ID, payment.Answer{Outcome: payment.Approved, Claim: "lapsed"})
	if len(fresh) > 0 {
		t.Errorf("handed over out of its turn: %+v", <-fresh)
	}
	w.clean()
}

// While one gateway is about to put an event off, for the one before it is being told, another records that it was: the
// event is due at once, and not at the end of the lease that has ended.
func TestPostgreSQLPutOffBesideAResult(t *testing.T) {
	dsn := postgrestest.Database(t)
	w := newWorld(t, postgres(dsn))
	proxy := postgrestest.NewProxy(t, dsn)
	w.open = postgres(proxy.DSN())
	other := w.openAgain(true)
	p := w.captured(terms("order-1"), total)
	w.later(time.Second)
	claimed, err := w.Claim(t.Context(), store.Cursor{}, 1, time.Hour, everywhere)
	told := claimed.Deliveries
	if err != nil || len(told) != 1 || told[0].Event.N != 1 {
		t.Fatalf("%+v, %v", told, err)
	}
	w.later(time.Second)
	var once sync.Once
	proxy.Watch(func(m postgrestest.Message) postgrestest.Verdict {
		if !m.FromServer && strings.Contains(m.Text, "UPDATE events") {
			once.Do(func() { w.record(delivered(told[0])) })
		}
		return postgrestest.Pass
	})
	claimed, err = other.Claim(t.Context(), store.Cursor{}, 5, time.Hour, everywhere)
	if err != nil || len(claimed.Deliveries) > 0 {
		t.Errorf("claimed by what it had read before: %+v, %v", claimed, err)
	}
	once.Do(func() { t.Error("it has put nothing off") })
	claimed, err = w.Claim(t.Context(), store.Cursor{}, 1, time.Hour, everywhere)
	if next := claimed.Deliveries; err != nil || len(next) != 1 || next[0].Payment != p.ID || next[0].Event.N != 2 {
		t.Errorf("the event after the one that was told is not due: %+v, %v", next, err)
	}
}

// What a gateway has told is sent again by another one, because a person wants it: news is not told beside that, whether or not
// the first one has heard of it.
func TestPostgreSQLToldAgain(t *testing.T) {
	for name, hears := range map[string]bool{"unheard": false, "heard": true} {
		w := newWorld(t, postgres(postgrestest.Database(t)))
		other, person := w.openAgain(true), w.openAgain(false)
		fresh := w.Fresh(lease)
		p := w.captured(terms(name), total)
		for range 3 {
			w.record(delivered(<-fresh))
		}
		if _, err := person.SendAgain(t.Context(), p.ID); err != nil {
			t.Fatal(err)
		}
		claimed, err := other.Claim(t.Context(), store.Cursor{}, 10, lease, everywhere)
		again := claimed.Deliveries
		if err != nil || len(again) != 1 || again[0].Event.N != 3 || again[0].Attempt != 2 {
			t.Fatalf("%s: the other gateway sends %+v, %v", name, again, err)
		}
		if hears {
			if _, err := w.Payment(t.Context(), p.ID); err != nil {
				t.Fatal(err)
			}
		}
		w.refunded(p)
		if len(fresh) > 0 {
			t.Errorf("%s: handed over out of its turn: %+v", name, <-fresh)
		}
		r := delivered(again[0])
		r.At = w.Now()
		if err := other.Record(t.Context(), []store.Result{r}); err != nil {
			t.Fatal(err)
		}
		w.record(delivered(w.claims(name + "/4 try 1")[0]))
		w.outcomesAre(p, "1 wait_user_action: delivered", "2 waiting_for_capture: delivered", "3 succeeded: delivered", "4 succeeded: delivered")
		w.clean()
	}
}

// What was given up when all of a shop's is sent again, and is taken before it comes to that, is left alone.
func TestPostgreSQLSendGivenUpBesideAnother(t *testing.T) {
	for what, at := range map[string]string{"before it is read": "WHERE t.id = ", "after it was read": "SET version = t.version + 1"} {
		dsn := postgrestest.Database(t)
		w := newWorld(t, postgres(dsn))
		proxy := postgrestest.NewProxy(t, dsn)
		w.open = postgres(proxy.DSN())
		person := w.openAgain(false)
		p := w.calledOff(shop, "order-1")
		w.record(w.gaveUp(w.claims("order-1/1 try 1")[0]))
		var once sync.Once
		proxy.Watch(func(m postgrestest.Message) postgrestest.Verdict {
			if !m.FromServer && strings.Contains(m.Text, at) {
				once.Do(func() {
					w.again(p)
					w.record(delivered(w.claims("order-1/1 try 2")[0]))
				})
			}
			return postgrestest.Pass
		})
		if n, err := person.SendGivenUp(t.Context(), shop, time.Time{}); n != 0 || err != nil {
			t.Errorf("%s: %d are due, %v", what, n, err)
		}
		once.Do(func() { t.Errorf("%s: nobody came before it", what) })
		w.outcomesAre(p, "1 canceled: delivered")
	}
}

// Who looks for what was given up finds the last event of each payment by the index, and reads nothing else of the table, whatever
// PostgreSQL knows of it.
func TestPostgreSQLGivenUpByTheIndex(t *testing.T) {
	dsn := postgrestest.Database(t)
	w := newWorld(t, postgres(dsn))
	const payments, part = 20000, 1000
	defer store.NoticesPart(part)() // not in parallel with others
	tell(t, dsn, fmt.Sprintf(`INSERT INTO terms (payment, id, shop, shop_payment_id, created_at, currency, amount, terms)
		SELECT p, decode(lpad(to_hex(p), 32, '0'), 'hex'), %d, 'order-' || p, 1, 'UZS', 1, '{}' FROM generate_series(1, %[2]d) p;
		INSERT INTO events (payment, n, shop, status, at, captured, fee, refunded, endpoint, lease_until, attempts, accepted, outcome, last_at, took, http_status, note)
		SELECT p, n, %[1]d, 'succeeded', 1, 0, 0, 0, 'https://shop.example', 0, 1, 1, CASE WHEN p = 7777 THEN 'gave up' ELSE 'delivered' END, 1, 1, 200, ''
		FROM generate_series(1, %[2]d) p, generate_series(1, 2) n;
		ANALYZE`, shop, payments))
	looked := func() (rows, tables int) {
		t.Helper()
		ctx := t.Context()
		conn, err := pgx.Connect(ctx, dsn)
		if err == nil {
			err = conn.QueryRow(ctx, `SELECT coalesce(sum(idx_scan), 0), sum(seq_scan) FROM pg_stat_user_tables WHERE relname = 'events'`).Scan(&rows, &tables)
			err = errors.Join(err, conn.Close(ctx))
		}
		if err != nil {
			t.Fatal(err)
		}
		return rows, tables
	}
	rowsBefore, before := looked()
	person := w.openAgain(false)
	list, err := person.GivenUp(t.Context(), store.NoticeFilter{Shop: shop})
	err = errors.Join(err, person.Close()) // then the server counts what its sessions did
	if err != nil || len(list) != 1 || list[0].ShopPaymentID != "order-7777" || list[0].N != 2 {
		t.Fatalf("given up are %+v, %v", list, err)
	}
	eventually(t, "it has looked for each payment's last event", func() bool {
		rows, tables := looked()
		if tables-before >= payments/part {
			t.Fatalf("for %d payments it has looked for %d rows, and through all of the table %d times", payments, rows-rowsBefore, tables-before)
		}
		return rows-rowsBefore >= payments
	})
}

// Persons who want the same sent again while gateways send and shops decide: each attempt has a number of its own, and
// everything comes to rest.
func TestPostgreSQLSendAgainBesideAll(t *testing.T) {
	w := newWorld(t, postgres(postgrestest.Database(t)))
	gateways := []*store.Store{w.Store, w.openAgain(true)}
	person := w.openAgain(false)
	const payments = 20
	var all []payment.Payment
	for i := range payments {
		all = append(all, w.captured(terms(fmt.Sprint("order-", i)), total))
	}
	var mu sync.Mutex
	sent := make(map[store.EventKey]map[int]bool)
	var asked atomic.Int64
	together(6, func(i int) {
		s := gateways[i%2]
		for round := range 400 {
			switch p := all[round%payments]; {
			case i == 0 && round < 2*payments:
				if _, err := person.SendAgain(t.Context(), p.ID); err == nil {
					asked.Add(1)
				} else if !errors.Is(err, store.ErrBeingSent) {
					t.Error(err)
				}
			case i == 1 && round < payments:
				begun, err := s.Update(t.Context(), p.ID, beginning(payment.Reimburse{ID: "r", ShopID: "r", Amount: uzs(1)}))
				if err == nil {
					_, err = s.Update(t.Context(), begun.Payment.ID, answering(payment.Answer{Outcome: payment.Approved}))
				}
				if err != nil {
					t.Error(err)
				}
			}
			claimed, err := s.Claim(t.Context(), store.Cursor{}, 5, time.Hour, everywhere)
			if err != nil {
				t.Error(err)
				return
			}
			if len(claimed.Deliveries) == 0 {
				w.later(100 * time.Millisecond)
				if _, waits, err := s.NextEvent(t.Context()); err != nil || !waits && round > 2*payments {
					return
				}
			}
			var results []store.Result
			mu.Lock()
			for _, d := range claimed.Deliveries {
				if sent[d.Key] == nil {
					sent[d.Key] = make(map[int]bool)
				}
				if sent[d.Key][d.Attempt] {
					t.Errorf("attempt %d to tell event %d is made twice", d.Attempt, d.Event.N)
				}
				sent[d.Key][d.Attempt] = true
				r := delivered(d)
				r.At = w.Now()
				results = append(results, r)
			}
			mu.Unlock()
			if err := s.Record(t.Context(), results); err != nil {
				t.Error(err)
			}
		}
	})
	if asked.Load() == 0 {
		t.Error("nothing was sent again")
	}
	for _, p := range all {
		line, err := w.Timeline(t.Context(), p.ID)
		if err != nil {
			t.Fatal(err)
		}
		if len(line.Events) != 4 || line.Events[3].Outcome != "delivered" {
			t.Errorf("%s: %v", p.Terms.ShopPaymentID, w.outcomes(p))
		}
	}
	w.clean()
}
