package store_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"holdfast/internal/ledger"
	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/postgrestest"
	"holdfast/internal/store"
)

// auditedEngines are those whose stores are audited, and tampered with behind their backs.
var auditedEngines = []struct {
	name string
	new  func(t *testing.T) *world
	// spoilt makes, from a store that everything has filled, stores that a script has tampered with.
	spoilt func(t *testing.T) func(t *testing.T, sql string) *world
}{
	{"SQLite", func(t *testing.T) *world { return newWorld(t, store.Open) }, spoiltFiles},
	{"PostgreSQL", func(t *testing.T) *world { return newWorld(t, postgresWith(postgrestest.Database(t), 1)) }, spoiltDatabase},
}

func spoiltFiles(t *testing.T) func(*testing.T, string) *world {
	file := everythingFile(t)
	return func(t *testing.T, sql string) *world {
		t.Parallel()
		w := &world{t: t, open: store.Open, dir: t.TempDir(), now: t0}
		if err := os.WriteFile(filepath.Join(w.dir, store.File), file, 0o600); err != nil {
			t.Fatal(err)
		}
		w.tamper(sql)
		w.Store = w.openAgain(false)
		return w
	}
}

// tamper changes the store's file behind its back.
func (w *world) tamper(sql string) {
	w.t.Helper()
	conn, err := sqlite.OpenConn(filepath.Join(w.dir, store.File), sqlite.OpenReadWrite|sqlite.OpenWAL)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	if err := sqlitex.ExecScript(conn, sql); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// sqliteWords teaches PostgreSQL what SQLite calls things that the scripts need.
const sqliteWords = `
	CREATE FUNCTION steps(path text) RETURNS text[] LANGUAGE sql AS $$ SELECT string_to_array(substr(path, 3), '.') $$;
	CREATE FUNCTION json_set(doc text, path text, value jsonb) RETURNS text LANGUAGE sql AS $$ SELECT jsonb_set(doc::jsonb, steps(path), value)::text $$;
	CREATE FUNCTION json_set(doc text, path text, value text) RETURNS text LANGUAGE sql AS $$ SELECT json_set(doc, path, to_jsonb(value)) $$;
	CREATE FUNCTION json_set(doc text, path text, value bigint) RETURNS text LANGUAGE sql AS $$ SELECT json_set(doc, path, to_jsonb(value)) $$;
	CREATE FUNCTION json_remove(doc text, path text) RETURNS text LANGUAGE sql AS $$ SELECT (doc::jsonb #- steps(path))::text $$;
	CREATE FUNCTION json_part(doc text, path text) RETURNS jsonb LANGUAGE sql AS $$ SELECT doc::jsonb #> steps(path) $$;
	CREATE FUNCTION json_text(doc text, path text) RETURNS text LANGUAGE sql AS $$ SELECT doc::jsonb #>> steps(path) $$;
	CREATE OPERATOR -> (LEFTARG = text, RIGHTARG = text, FUNCTION = json_part);
	CREATE OPERATOR ->> (LEFTARG = text, RIGHTARG = text, FUNCTION = json_text);`

// spoiltDatabase is one database, whose tables are put back before each script.
func spoiltDatabase(t *testing.T) func(*testing.T, string) *world {
	dsn := postgrestest.Database(t)
	w := newWorld(t, postgresWith(dsn, 1)) // the scripts count rows, and each committer has rows of its own
	w.everything()
	w.Store = w.openAgain(false)
	keep, refill := sqliteWords+`CREATE SCHEMA kept;`, ""
	for table := range layout {
		keep += fmt.Sprintf(`CREATE TABLE kept.%[1]s AS TABLE public.%[1]s;`, table)
		refill += fmt.Sprintf(`DELETE FROM public.%[1]s; INSERT INTO public.%[1]s SELECT * FROM kept.%[1]s;`, table)
	}
	tell(t, dsn, keep)
	return func(t *testing.T, sql string) *world {
		tell(t, dsn, refill+sql)
		return w
	}
}

// everything fills a store with payments in every state, and questions of every kind in doubt. The
// row of a payment is its place here.
func (w *world) everything() {
	w.t.Helper()
	oneStage := func(name string) payment.Terms {
		t := terms(name)
		t.AutoCapture = true
		return t
	}
	unknown := payment.Answer{Outcome: payment.Unknown, Cause: "time-out"}
	w.captured(terms("1 captured in part"), 60_000)
	charged := w.asking(oneStage("2 charged"))
	w.mustSettle(charged.ID, payment.Answer{Outcome: payment.Approved, Centre: payment.Centre{RRN: "700000000002"}})
	w.held(terms("3 held"))
	void := w.held(terms("4 let go"))
	w.begin(void.ID, payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant})
	w.mustSettle(void.ID, payment.Answer{Outcome: payment.Approved})
	gone := w.held(terms("5 the hold was gone"))
	w.begin(gone.ID, payment.Decide{Accept: payment.Capture, By: payment.ByMerchant})
	w.mustSettle(gone.ID, payment.Answer{Outcome: payment.Refused, Reason: payment.HoldGone})
	doubt := w.asking(terms("6 hold in doubt"))
	w.mustSettle(doubt.ID, unknown)
	capture := w.held(terms("7 capture in doubt"))
	w.begin(capture.ID, payment.Decide{Accept: payment.Capture, By: payment.ByMerchant})
	w.mustSettle(capture.ID, unknown)
	w.create(terms("8 created"))
	cancelled := w.create(terms("9 cancelled before"))
	w.begin(cancelled.ID, payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant})
	refused := w.asking(terms("10 refused, waits for another card"))
	w.mustSettle(refused.ID, payment.Answer{Outcome: payment.Refused, Reason: payment.InsufficientFunds})
	asked := w.create(terms("11 code asked for"))
	w.begin(asked.ID, pay())
	lapsed := w.asking(terms("12 the hold was made and had lapsed when it was found"))
	w.mustSettle(lapsed.ID, payment.Answer{Outcome: payment.Refused, Reason: payment.HoldGone})
	lapsedCharge := w.asking(oneStage("13 as 12, in one stage"))
	w.mustSettle(lapsedCharge.ID, payment.Answer{Outcome: payment.Refused, Reason: payment.HoldGone})
	refunded := w.captured(terms("14 refunded in parts, the last in doubt"), 100_000)
	for i := range 3 {
		w.begin(refunded.ID, payment.Reimburse{ID: fmt.Sprint("id ", i), ShopID: fmt.Sprint("refund ", i), Amount: uzs(20_000)})
		if i < 2 {
			w.mustSettle(refunded.ID, payment.Answer{Outcome: payment.Approved})
		}
	}
	w.mustSettle(refunded.ID, unknown)
	another := w.asking(terms("15 paid with the second card"))
	w.mustSettle(another.ID, payment.Answer{Outcome: payment.Refused, Reason: payment.InsufficientFunds})
	w.begin(another.ID, pay())
	w.mustSettle(another.ID, payment.Answer{Outcome: payment.ChallengeGiven})
	w.begin(another.ID, payment.SubmitCode{VerifyID: verifyID})
	w.mustSettle(another.ID, payment.Answer{Outcome: payment.Approved})
	w.mustSettle(another.ID, payment.Answer{Outcome: payment.Approved, Centre: payment.Centre{Hold: "15"}})
	bank := w.create(terms("16 the payer is at his bank"))
	threeDS := pay()
	threeDS.Attempt.ThreeDS = true
	w.begin(bank.ID, threeDS)
	w.mustSettle(bank.ID, payment.Answer{Outcome: payment.ChallengeGiven, Step: payment.StepChallenge})
	said := w.held(terms("17 captured, as a person says"))
	w.begin(said.ID, payment.Decide{Accept: payment.Capture, By: payment.ByMerchant})
	said = w.mustSettle(said.ID, payment.Answer{Outcome: payment.Refused, Reason: payment.Unavailable})
	w.begin(said.ID, payment.Resolve{
		Ref: said.Open.Ref, Resolution: payment.Resolution{Outcome: payment.Approved, By: "Gulnora", Why: "the statement has it"},
	})
}

// everyPayment is how many payments everything makes.
const everyPayment = 17

func TestAuditOfACleanStore(t *testing.T) {
	for _, engine := range auditedEngines {
		t.Run(engine.name, func(t *testing.T) { auditOfACleanStore(engine.new(t)) })
	}
}

func auditOfACleanStore(w *world) {
	t := w.t
	if a := w.clean(); a.Payments != 0 {
		t.Errorf("an empty store has %d payments", a.Payments)
	}
	w.everything()
	calls := 0
	a, err := w.Audit(context.Background(), func(done, of int) {
		calls++
		if done != everyPayment || of != everyPayment {
			t.Errorf("progress: %d of %d", done, of)
		}
	})
	if err != nil || len(a.Violations) != 0 {
		t.Fatalf("%v %v", err, a.Violations)
	}
	if a.Payments != everyPayment || a.InDoubt != 4 || a.ForPerson != 0 || a.Resolved != 1 || calls != 1 {
		t.Errorf("%d payments, %d in doubt, %d for a person, %d resolved, %d calls", a.Payments, a.InDoubt, a.ForPerson, a.Resolved, calls)
	}
	if a.Operations != 48 || a.Entries != 22 || a.Events != 31 {
		t.Errorf("%d operations, %d entries, %d events", a.Operations, a.Entries, a.Events)
	}
	want := map[ledger.Account]int64{
		// Held still: payments 3, 7 and 15. Captured: 60000 with a fee of 1200, three times 100000 with one of 2000, of which
		// 40000 went back.
		"payer/held": 300_000, "shop/12/held": -300_000,
		"processor/uzcard": 320_000, "shop/12": -312_800, "fees": -7200,
	}
	if diff := cmp.Diff(want, a.Balances[money.UZS]); diff != "" {
		t.Errorf("balances (-want +got):\n%s", diff)
	}
}

// everythingFile is the file of a store that everything has filled.
func everythingFile(t *testing.T) []byte {
	t.Helper()
	w := newWorld(t, store.Open)
	w.everything()
	if err := w.Close(); err != nil { // moves the log into the file
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(w.dir, store.File))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Each invariant that the audit checks, broken in the tables as consistently as one who wants to hide
// it would: exactly that invariant is named.
func TestAuditNamesTheBrokenInvariant(t *testing.T) {
	for _, engine := range auditedEngines {
		t.Run(engine.name, func(t *testing.T) {
			spoilt := engine.spoilt(t)
			for _, c := range tamperings() {
				t.Run(c.name, func(t *testing.T) {
					w := spoilt(t, c.sql)
					a, err := w.Audit(t.Context(), nil)
					if err != nil {
						t.Fatal(err)
					}
					named := make(map[int]bool)
					for _, v := range a.Violations {
						named[v.Invariant] = true
					}
					if got := slices.Sorted(maps.Keys(named)); !slices.Equal(got, c.names) {
						t.Errorf("named %v, want %v:", got, c.names)
						for _, v := range a.Violations {
							t.Log(v)
						}
					}
				})
			}
		})
	}
}

// tampering is a script, in words that both engines know (see sqliteWords), and the invariants that it breaks.
type tampering struct {
	name  string
	sql   string
	names []int
}

func tamperings() []tampering {
	bump := func(seq int, field string) string {
		return fmt.Sprintf(`UPDATE payments SET progress = json_set(progress, '$.%[2]s', CAST(progress ->> '$.%[2]s' AS INTEGER) + 1) WHERE seq = %[1]d;`, seq, field)
	}
	ref := func(seq, n int) string {
		return fmt.Sprintf(`(SELECT record ->> '$.ref' FROM operations WHERE payment = %d AND n = %d)`, seq, n)
	}
	return []tampering{
		{"1: part of a hold has vanished", `
			UPDATE payments SET released = 90000 WHERE seq = 4;
			UPDATE entries SET lines = 'shop/12/held 90000;payer/held -90000' WHERE payment = 4 AND kind = 'release';`, []int{1}},
		{"1: money is held after the end", `
			UPDATE payments SET released = 0 WHERE seq = 4;
			DELETE FROM entries WHERE payment = 4 AND kind = 'release';`, []int{1, 8}},
		{"2: more was captured than was held", `
			UPDATE payments SET captured = 130000, released = 0 WHERE seq = 1;
			DELETE FROM entries WHERE payment = 1 AND kind = 'release';
			UPDATE payments SET progress = json_set(json_set(progress, '$.last_entry', 3), '$.decision.amount.minor', 130000) WHERE seq = 1;
			UPDATE operations SET record = json_set(record, '$.amount.minor', 130000) WHERE payment = 1 AND record ->> '$.kind' = 'capture';
			UPDATE entries SET lines = 'shop/12/held 130000;payer/held -130000;processor/uzcard 130000;shop/12 -130000' WHERE payment = 1 AND kind = 'capture';`, []int{2}},
		{"2: more was refunded than captured", `
			UPDATE payments SET refunded = 100001 WHERE seq = 2;` + bump(2, "last_entry") + `
			INSERT INTO entries SELECT payment, 4, operation, 'refund', at, currency, 'shop/12 100001;processor/uzcard -100001' FROM entries WHERE payment = 2 AND n = 1;`, []int{2}},
		{"3: captured without a decision", `UPDATE payments SET progress = json_remove(progress, '$.decision') WHERE seq = 1;`, []int{3}},
		{"3: let go without a decision", `UPDATE payments SET progress = json_remove(progress, '$.decision') WHERE seq = 4;`, []int{3}},
		{"3: captured although cancel was decided", `UPDATE payments SET progress = json_set(json_set(progress, '$.decision.accept', 'cancel'), '$.decision.amount.minor', 60000) WHERE seq = 1;`, []int{3}},
		{"3: captured another sum than was decided", `UPDATE payments SET progress = json_set(progress, '$.decision.amount.minor', 60001) WHERE seq = 1;`, []int{3}},
		{"3: let go although capture was decided", `UPDATE payments SET progress = json_set(progress, '$.decision.accept', 'capture') WHERE seq = 4;`, []int{3}},
		{"4: two operations of one name", `
			UPDATE operations SET record = json_set(record, '$.ref', ` + ref(1, 2) + `) WHERE payment = 1 AND n = 1;`, []int{4}},
		{"4: two payments' operations of one name", `
			UPDATE operations SET record = json_set(record, '$.ref', ` + ref(1, 2) + `) WHERE payment = 4 AND n = 1;`, []int{4}},
		{"4: a name that goes on like another payment's number", `
			UPDATE operations SET record = json_set(record, '$.ref', ` + ref(1, 1) + ` || '7') WHERE payment = 1 AND n = 1;`, []int{4}},
		{"4 (and so 7): two holds took effect", `
			INSERT INTO operations SELECT payment, 4, json_set(json_set(record, '$.ref', (record ->> '$.ref') || '_9'), '$.n', 4) FROM operations WHERE payment = 3 AND n = 3;
			INSERT INTO entries SELECT payment, 2, operation || '_9', kind, at, currency, lines FROM entries WHERE payment = 3 AND n = 1;
			UPDATE payments SET progress = json_set(json_set(progress, '$.last_operation', 4), '$.last_entry', 2) WHERE seq = 3;`, []int{4, 7}},
		{"4: held and charged", `
			INSERT INTO operations SELECT payment, 4, json_set(json_set(json_set(record, '$.ref', (record ->> '$.ref') || '_9'), '$.n', 4), '$.kind', 'hold') FROM operations WHERE payment = 2 AND n = 3;
			UPDATE entries SET operation = operation || '_9' WHERE payment = 2 AND kind = 'hold';` + bump(2, "last_operation"), []int{4}},
		{"4 (and so 3): captured and let go", `
			INSERT INTO operations SELECT payment, 5, json_set(json_set(json_set(record, '$.ref', (record ->> '$.ref') || '_9'), '$.n', 5), '$.kind', 'void') FROM operations WHERE payment = 1 AND n = 4;
			UPDATE entries SET operation = operation || '_9' WHERE payment = 1 AND kind = 'release';` + bump(1, "last_operation"), []int{3, 4}},
		{"4: one hold counted for two payments", `DELETE FROM claims; INSERT INTO claims VALUES ('uzcard', 'x', 99);`, []int{4}},
		{"5: an ended payment still asks", `
			UPDATE payments SET open = 'capture', due_at = 9223372036854775807, progress = json_set(json_set(progress, '$.last_operation', 5), '$.open', (
				SELECT json_remove(json_set(json_set(progress, '$.open.n', 5), '$.open.ref', ` + ref(4, 4) + ` || '_9'), '$.open.next_at') FROM payments WHERE seq = 7) -> '$.open')
			WHERE seq = 4;`, []int{5}},
		{"5: money was taken, and the payment waits for it", `
			UPDATE payments SET state = 'voided' WHERE seq = 2;
			UPDATE events SET status = 'canceled' WHERE payment = 2 AND status = 'succeeded';`, []int{1, 5}},
		{"6: an operation is missing", `DELETE FROM operations WHERE payment = 1 AND n = 1;`, []int{6}},
		{"6: the last operation is missing", `DELETE FROM operations WHERE payment = 10 AND n = 3;`, []int{6}},
		{"6: an operation under another's number", `UPDATE operations SET record = json_set(record, '$.n', 2) WHERE payment = 1 AND n = 1;`, []int{6}},
		{"6: an operation counted twice", `INSERT INTO operations SELECT payment, 4, json_set(record, '$.ref', (record ->> '$.ref') || '_9') FROM operations WHERE payment = 10 AND n = 3;` + bump(10, "last_operation"), []int{6}},
		{"6: operations numbered with a gap", `UPDATE operations SET n = 9, record = json_set(record, '$.n', 9) WHERE payment = 1 AND n = 4;`, []int{6}},
		{"6: an operation of nobody", `INSERT INTO operations SELECT 99, n, record FROM operations WHERE payment = 1 AND n = 1;`, []int{6}},
		{"6: an operation that cannot be read", `UPDATE operations SET record = '{' WHERE payment = 1 AND n = 1;`, []int{6}},
		{"7: an entry does not add up", `UPDATE entries SET lines = 'shop/12/held 40000;payer/held -39999' WHERE payment = 1 AND kind = 'release';`, []int{7}},
		{"7: a stored sum is not what the entries say", `UPDATE payments SET fee = 1199 WHERE seq = 1;`, []int{7}},
		{"7: an entry of nothing readable", `UPDATE entries SET lines = 'fees' WHERE payment = 1 AND kind = 'fee';`, []int{7, 8}},
		{"7: an entry in another currency", `UPDATE entries SET currency = 'USD' WHERE payment = 1 AND kind = 'fee';`, []int{7}},
		{"7: sums beyond all bounds", `UPDATE entries SET lines = 'shop/12/held 9223372036854775807;payer/held 9223372036854775807' WHERE payment = 4 AND kind = 'release';`, []int{7}},
		{"1: another currency", `UPDATE terms SET currency = 'USD' WHERE payment = 3;`, []int{1}},
		{"7: a state that there is not", `UPDATE payments SET state = 'frozen' WHERE seq = 3;`, []int{7}},
		{"8: an entry of no operation", `UPDATE entries SET operation = 'nobody' WHERE payment = 1 AND kind = 'release';`, []int{8}},
		{"8: an operation without entries", `UPDATE entries SET operation = ` + ref(1, 3) + ` WHERE payment = 1;`, []int{8}},
		{"8: entries numbered with a gap", `UPDATE entries SET n = 9 WHERE payment = 1 AND n = 4;`, []int{8}},
		{"8: an entry more was made", bump(1, "last_entry"), []int{8}},
		{"8: entries of nobody", `INSERT INTO entries SELECT 99, n, operation, kind, at, currency, lines FROM entries WHERE payment = 1;`, []int{8}},
		{"8: a refused charge has entries", `
			INSERT INTO entries SELECT 10, 1, ` + ref(10, 3) + `, 'release', 0, 'UZS', 'a 1;b -1';` +
			`UPDATE payments SET progress = json_set(progress, '$.last_entry', 1) WHERE seq = 10;`, []int{8}},
		{"10: an event is missing", `DELETE FROM events WHERE payment = 1 AND n = 2;`, []int{10}},
		{"10: the last event is missing", `DELETE FROM events WHERE payment = 1 AND n = 3;`, []int{10}},
		{"10: events numbered with a gap", `UPDATE events SET n = 9 WHERE payment = 1 AND n = 3;`, []int{10}},
		{"10: an event more was made", bump(1, "last_event"), []int{10}},
		{"10: the merchant was told something else", `UPDATE events SET status = 'canceled' WHERE payment = 1 AND n = 3;`, []int{10}},
		{"10: an event of nobody", `UPDATE events SET payment = 99 WHERE payment = 8; INSERT INTO deliveries VALUES (99, 1, 1, 0, 0, 0, '');`, []int{10}},
		{"12: a payment without terms", `DELETE FROM terms WHERE payment = 8;`, []int{12}},
		{"12: terms of nobody", `INSERT INTO terms SELECT 99, substr(id, 1, 15), shop, shop_payment_id, created_at, currency, amount, terms FROM terms WHERE payment = 8;`, []int{12}},
		{"12: a name that leads to another payment", `UPDATE names SET payment = 3 WHERE payment = 8;`, []int{12}},
		{"12: a second name leads to a payment", `INSERT INTO names SELECT shop, 'another', payment FROM names WHERE payment = 8;`, []int{12}},
		{"12: another shop's name leads to a payment", `INSERT INTO names SELECT 13, shop_payment_id, payment FROM names WHERE payment = 8;`, []int{12}},
		{"12: a name that leads to nobody", `INSERT INTO names VALUES (12, 'another', 99);`, []int{12}},
		{"12: a name is missing", `DELETE FROM names WHERE payment = 8;`, []int{12}},
		{"13: an event of another shop", `UPDATE events SET shop = 13 WHERE payment = 1 AND n = 1;`, []int{13}},
		{"13: another shop's money", `
			UPDATE entries SET lines = lines || ';shop/13 5;shop/12/x -5' WHERE payment = 1 AND kind = 'release';`, []int{13}},
		{"16: nobody will ask again", `UPDATE payments SET due_at = NULL WHERE seq = 6;`, []int{16}},
		{"16: it is asked too late", `UPDATE payments SET due_at = due_at + 1 WHERE seq = 7;`, []int{16}},
		{"16: after a crash nobody would know", `UPDATE payments SET open = '' WHERE seq = 7;`, []int{16}},
	}
}

// A question that waits for a person is counted, and is no violation: its next inquiry is nobody's.
func TestAuditCountsWhatWaitsForAPerson(t *testing.T) {
	for _, engine := range auditedEngines {
		t.Run(engine.name, func(t *testing.T) {
			w := engine.new(t)
			p := w.asking(terms("order-1"))
			w.later(15 * 24 * 60 * 60 * 1e9)
			w.mustSettle(p.ID, payment.Answer{Outcome: payment.Unknown})
			if a := w.clean(); a.InDoubt != 1 || a.ForPerson != 1 {
				t.Errorf("%d in doubt, %d for a person", a.InDoubt, a.ForPerson)
			}
		})
	}
}
