package store_test

import (
	_ "embed"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/internal/payment"
	"holdfast/internal/store"
)

// firstSchema is schema 1 as it was, without the table meta.
//
//go:embed testdata/schema-1.sql
var firstSchema string

// back turns a store of schema 2 into what schema 1 kept of the same payments.
const back = `
	ALTER TABLE payments RENAME TO p2; ALTER TABLE operations RENAME TO o2; ALTER TABLE entries RENAME TO e2; ALTER TABLE shops RENAME TO s2;
	ALTER TABLE events RENAME TO v2; ALTER TABLE deliveries RENAME TO d2; ALTER TABLE claims RENAME TO c2;
	DROP INDEX payments_due; DROP INDEX events_due;`

const backFill = `
	INSERT INTO shops SELECT * FROM s2;
	INSERT INTO payments SELECT seq, id, shop, shop_payment_id, version, state, created_at, updated_at, nullif(due_at, 9223372036854775807), open, currency, amount,
		held, captured, released, refunded, fee, terms, progress FROM p2 JOIN terms ON payment = seq;
	INSERT INTO operations SELECT payment, n, record ->> '$.ref', record ->> '$.kind', record ->> '$.amount.minor', record ->> '$.outcome', 0, record FROM o2;
	INSERT INTO entries SELECT payment, n, operation, kind, at, currency, lines FROM e2;
	INSERT INTO events SELECT * FROM v2; INSERT INTO deliveries SELECT * FROM d2; INSERT INTO claims SELECT * FROM c2;
	DROP TABLE s2; DROP TABLE p2; DROP TABLE o2; DROP TABLE e2; DROP TABLE v2; DROP TABLE d2; DROP TABLE c2; DROP TABLE terms; DROP TABLE names; DROP TABLE card_tables;
	UPDATE meta SET value = '1' WHERE name = 'schema';`

// A store of the first schema is brought up to date, with everything that is in it, and goes on.
func TestFirstSchemaIsBroughtUpToDate(t *testing.T) {
	w := newWorld(t, store.Open)
	w.everything()
	person := w.asking(terms("waits for a person"))
	w.later(15 * 24 * time.Hour)
	w.mustSettle(person.ID, payment.Answer{Outcome: payment.Unknown})
	all := func() (list []store.Timeline) {
		if err := w.Each(t.Context(), func(t *store.Timeline) error { list = append(list, *t); return nil }); err != nil {
			t.Fatal(err)
		}
		return list
	}
	before := all()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w.tamper(back + firstSchema + backFill)
	w.Store = w.openAgain(true)
	if diff := cmp.Diff(before, all()); diff != "" {
		t.Errorf("(-before +after)\n%s", diff)
	}
	a := w.clean()
	if a.Payments != len(before) || a.ForPerson != 1 {
		t.Errorf("%d payments, %d wait for a person", a.Payments, a.ForPerson)
	}
	// Names lead where they led, new payments come behind the others, and the new tables are there.
	if p, created, err := w.Create(t.Context(), shop, "3 held", maker(terms("3 held"))); err != nil || created || p.State != payment.Held {
		t.Errorf("%s, created %v, %v", p.State, created, err)
	}
	w.captured(terms("after"), 60_000)
	if made, err := w.UpdateCards(t.Context(), func(*payment.CardTable) error { return nil }); err != nil || made.Edition != 1 {
		t.Errorf("%+v, %v", made, err)
	}
	w.clean()
}
