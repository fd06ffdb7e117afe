package gateway_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/gateway"
	"holdfast/internal/payment"
	"holdfast/internal/processor/rbs"
	"holdfast/internal/processor/svgate"
	"holdfast/internal/sim"
	"holdfast/internal/store"
)

// backup takes one, and restore loses everything that came after it and starts a gateway on what it holds.
func (w *world) backup() (file string) {
	w.t.Helper()
	file = filepath.Join(w.t.TempDir(), "backup.db")
	if err := w.store.Backup(w.t.Context(), file, nil); err != nil {
		w.t.Fatal(err)
	}
	return file
}

func (w *world) restore(file string) {
	w.t.Helper()
	if err := w.store.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.dir = w.t.TempDir()
	if _, err := store.RestoreInto(w.dir, file, w.clock()); err != nil {
		w.t.Fatal(err)
	}
	w.start()
}

// withShop puts the shop into the store, where the gateway looks it up after a restore.
func (w *world) withShop() {
	w.t.Helper()
	shop := w.shop
	shop.Name, shop.UniqueKey = "Shop", []byte{1}
	created, err := w.store.CreateShop(w.t.Context(), shop)
	if err != nil {
		w.t.Fatal(err)
	}
	w.shop = created
}

// connectToys gives the gateway a second contract for Uzcard, with a centre of its own, to which only the payments of shops go
// that name it, and that centre's acquirer.
func (w *world) connectToys(centre *sim.Sim) {
	w.t.Helper()
	server := httptest.NewServer(centre.Handler())
	transport := new(http.Transport)
	w.t.Cleanup(func() { transport.CloseIdleConnections(); server.Close() })
	toys, err := svgate.New(svgate.Config{
		Name: "toys", Endpoint: server.URL + "/svgate", Login: "holdfast", Password: "holdfast",
		MerchantID: "90050017182", TerminalID: "TOYS", Port: 16050, HTTP: &http.Client{Transport: transport}, Now: w.clock,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	page := func(id payment.ID) string { return "https://pay.example/3ds/" + id.String() }
	bank, err := rbs.New(rbs.Config{
		Endpoint: server.URL + "/rbs", Login: "holdfast", Password: "holdfast", ReturnURL: page, MethodNotificationURL: page,
		HTTP: &http.Client{Transport: transport}, Now: w.clock,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.gateway = gateway.New(gateway.Config{
		Store: w.store, HoldFor: holdFor, Log: slog.New(slog.DiscardHandler),
		Live: gateway.Centres{
			{Processor: w.centre, Method: payment.Uzcard}, {Processor: toys, Method: payment.Uzcard, Named: true}, {Processor: bank, Method: payment.BankCard},
		},
	})
}

func (w *world) reconcile() {
	w.t.Helper()
	if err := w.gateway.Ready(); err == nil || !strings.Contains(err.Error(), "restored from a backup") {
		w.t.Errorf("ready before anything was reconciled: %v", err)
	}
	if err := w.gateway.Reconcile(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	if err := w.gateway.Ready(); err != nil {
		w.t.Errorf("not ready afterwards: %v", err)
	}
}

func (w *world) resolve(id payment.ID, r payment.Resolution) payment.Payment {
	w.t.Helper()
	p := w.read(id)
	if p.Open == nil {
		w.t.Fatalf("payment %s is not in doubt, but %s", id, p.State)
	}
	r.By, r.Why = "Gulnora", "the statement"
	p, err := w.gateway.Resolve(w.t.Context(), id, p.Open.Ref, r)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// refund gives money back and fails the test unless that is known at once.
func (w *world) refund(id payment.ID, name string, minor int64) {
	w.t.Helper()
	p, err := w.gateway.Refund(w.t.Context(), id, name, uzs(minor))
	if err != nil || p.Open != nil {
		w.t.Fatalf("refund: open %+v, %v", p.Open, err)
	}
}

// A backup is taken, the world goes on, the store is lost and the backup restored: nothing is sent before the centre was
// asked, and at rest our books are the centre's for every payment that the backup knows.
func TestRestoredBackupIsReconciled(t *testing.T) {
	w := newWorld(t)
	w.withShop()
	card := w.goodCard(0)
	names := make(map[payment.ID]string)
	is := func(name string, p payment.Payment) payment.ID { names[p.ID] = name; return p.ID }
	captured := func() payment.Payment {
		p := w.paid(card)
		return w.must(w.decide(p.ID, payment.Capture, 0))(payment.Captured)
	}
	all := is("held, captured since", w.paid(card))
	part := is("held, a part captured since", w.paid(card))
	void := is("held, let go since", w.paid(card))
	held := is("held", w.paid(card))
	kept := is("captured", captured())
	back := is("captured, refunded since", captured())
	half := is("captured, a part refunded since", captured())
	several := is("captured, refunded in two parts since", captured())
	waited := is("created", w.prepare())
	paysLater := is("created, held since", w.prepare())
	takenLater := is("created, captured since", w.prepare())
	charged := w.prepare(oneStage)
	charged = w.must(w.pay(charged.ID, card))(payment.Challenged)
	is("challenged, charged since", charged)
	w.fault(sim.Fault{Method: "hold.dismiss.charge", Name: "answer_lost"})
	inDoubt := is("capture in doubt, refunded since", w.paid(card))
	if p, err := w.decide(inDoubt, payment.Capture, 70_000); err != nil || p.Open == nil {
		t.Fatalf("open %v, %v", p.Open, err)
	}
	lostHold := w.prepare()
	is("hold in doubt, captured since", lostHold)
	lostHold = w.must(w.pay(lostHold.ID, card))(payment.Challenged)
	w.fault(sim.Fault{Method: "hold.create", Name: "answer_lost"})
	if p, err := w.submit(lostHold, w.code(card)); err != nil || p.Open == nil {
		t.Fatalf("open %v, %v", p.Open, err)
	}

	w.later(time.Second)
	file := w.backup()
	w.later(time.Second)

	w.must(w.decide(all, payment.Capture, 0))(payment.Captured)
	w.must(w.decide(part, payment.Capture, 60_000))(payment.Captured)
	w.must(w.decide(void, payment.Cancel, 0))(payment.Voided)
	w.refund(back, "r1", total)
	w.refund(half, "r2", 30_000)
	w.refund(several, "r3", 10_000)
	w.refund(several, "r4", 20_000)
	pay := func(id payment.ID, want payment.State) {
		p := w.must(w.pay(id, card))(payment.Challenged)
		w.must(w.submit(p, w.code(card)))(want)
	}
	pay(paysLater, payment.Held)
	pay(takenLater, payment.Held)
	w.must(w.decide(takenLater, payment.Capture, 0))(payment.Captured)
	w.must(w.submit(charged, w.code(card)))(payment.Captured)
	w.later(30 * time.Second)
	w.step()
	w.refund(inDoubt, "r5", 70_000)
	w.must(w.decide(lostHold.ID, payment.Capture, 0))(payment.Captured)
	heldAtCentre := w.read(lostHold.ID).Attempt.Centre.Hold
	// The backup does not know of these at all.
	unknown := []payment.Payment{w.paid(w.goodCard(1)), w.paid(w.goodCard(1), oneStage)}
	w.must(w.decide(unknown[0].ID, payment.Capture, 50_000))(payment.Captured)
	before := w.made()

	w.later(3 * time.Minute)
	w.restore(file)
	w.later(3 * time.Minute)
	var mu sync.Mutex // many payments are reconciled at once
	asked := make(map[string]bool)
	w.watch(nil, func(method string) {
		mu.Lock()
		defer mu.Unlock()
		asked[method] = true
	})
	if _, err := w.gateway.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.reconcile()
	w.watch(nil, nil)
	mu.Lock()
	defer mu.Unlock()
	for method := range asked {
		if !slices.Contains([]string{"trans.ext", "hold.get.id", "hold.get.cardId"}, method) {
			t.Errorf("%s was called while the backup was reconciled", method)
		}
	}
	if !asked["trans.ext"] {
		t.Error("nobody asked")
	}
	for id, want := range map[payment.ID]payment.State{
		all: payment.Captured, void: payment.Voided, held: payment.Held, kept: payment.Captured, back: payment.Captured, charged.ID: payment.Captured,
		takenLater: payment.Captured, waited: payment.Expired, paysLater: payment.Expired,
	} {
		if p := w.read(id); p.State != want || p.Open != nil {
			t.Errorf("%s: it is %s, open %+v", names[id], p.State, p.Open)
		}
	}
	if p := w.read(back); p.Refunded != uzs(total) {
		t.Errorf("%s: refunded %s", names[back], p.Refunded)
	}
	if d := w.read(all).Decision; d == nil || d.By != payment.ByRestore {
		t.Errorf("%s: decided %+v", names[all], d)
	}

	// What the centre's answer leaves open, a person says, and the rest is asked of the centre again.
	w.resolve(part, payment.Resolution{Outcome: payment.Approved, Amount: uzs(60_000)})
	w.resolve(half, payment.Resolution{Outcome: payment.Approved, Amount: uzs(30_000)})
	w.resolve(several, payment.Resolution{Outcome: payment.Approved, Amount: uzs(10_000)})
	if p, err := w.gateway.Refund(t.Context(), several, "r4", uzs(20_000)); err == nil || p.Open != nil && !p.Open.Look {
		t.Errorf("a refund is sent while another is found: open %+v, %v", p.Open, err)
	}
	w.resolve(several, payment.Resolution{Outcome: payment.Approved, Amount: uzs(20_000)})
	w.resolve(inDoubt, payment.Resolution{Outcome: payment.Approved}) // the centre calls it reversed
	w.resolve(lostHold.ID, payment.Resolution{Outcome: payment.Approved, Hold: heldAtCentre})
	if p, err := w.decide(lostHold.ID, payment.Capture, 0); err != nil || p.State != payment.Captured {
		t.Errorf("%s: %s, %v", names[lostHold.ID], p.State, err)
	}

	w.step() // goes on where a person has helped
	if p := w.read(inDoubt); p.Refunded != uzs(70_000) {
		t.Errorf("%s: refunded %s, open %+v", names[inDoubt], p.Refunded, p.Open)
	}

	// The shop asks again for what it was never told of, and for what is new.
	w.refund(half, "r2", 30_000)
	w.refund(half, "r6", 5_000)
	w.refund(kept, "r7", 1_000)
	w.must(w.decide(held, payment.Capture, 40_000))(payment.Captured)
	if _, err := w.pay(waited, card); reason(err) != payment.PaymentExpired {
		t.Errorf("paid after the restore, perhaps a second time: %v", err)
	}

	// Without the gateway that was lost a hold of a payer lapses; and nothing was doubled.
	w.later(48 * time.Hour)
	w.step()
	after := w.made()
	want := map[string]int{"hold": 0, "charge": 0, "capture": 1, "void": 0, "refund": 2}
	for kind, n := range want {
		if got := after[kind] - before[kind]; got != n {
			t.Errorf("after the restore the centre did %s %d times, want %d", kind, got, n)
		}
	}
	audit, err := w.store.Audit(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range audit.Violations {
		t.Errorf("audit: %s (%s)", v, names[v.Payment])
	}
	if audit.InDoubt != 0 || audit.Resolved != 6 {
		t.Errorf("in doubt %d, resolved %d", audit.InDoubt, audit.Resolved)
	}
	// Only what the backup never knew is missing: it is for the centre's statement.
	left := 0
	for _, difference := range w.compare() {
		ofUnknown := false
		for _, p := range unknown {
			ofUnknown = ofUnknown || strings.Contains(difference, " "+p.Reference()) || strings.Contains(difference, "hold "+p.Attempt.Centre.Hold+" ")
		}
		switch {
		case strings.HasPrefix(difference, "we hold 0 and have taken") && ofTheUnknown(difference, 50_000+total):
		case ofUnknown:
			left++
		default:
			t.Errorf("books: %s", difference)
		}
	}
	if left != 3 {
		t.Errorf("%d operations of the centre are missing here, want 3", left)
	}

	// Once reconciled it stays so, and another loss begins anew.
	w.restart()
	if err := w.gateway.Ready(); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	w.restore(file)
	w.later(3 * time.Minute)
	w.reconcile()
	if p := w.read(kept); p.Open == nil || !p.Open.Look {
		t.Errorf("restored once more, the refund that was made since is not found: open %+v", p.Open)
	}
}

// ofTheUnknown reports whether a difference of what was taken is exactly that sum.
func ofTheUnknown(difference string, sum int64) bool {
	var held, taken, entered, theirHeld, theirTaken int64
	_, err := fmt.Sscanf(difference, "we hold %d and have taken %d (%d by the entries); the centre holds %d and has taken %d", &held, &taken, &entered, &theirHeld, &theirTaken)
	return err == nil && held == theirHeld && entered == taken && theirTaken-taken == sum
}

// A payer who could have paid at several centres has paid at one of them, and another does not say whether he has: what the first did
// is found all the same.
func TestOneCentreDoesNotSayWhatAnotherDid(t *testing.T) {
	w := newWorld(t)
	w.withShop()
	toys := sim.New(sim.Config{Now: w.clock, Seed: 8})
	t.Cleanup(toys.Close)
	w.connectToys(toys)
	w.shop.Settings.Routes = map[string]string{"uzcard": "toys"}
	p := w.prepare(oneStage)
	w.later(time.Second)
	file := w.backup()
	p = w.must(w.pay(p.ID, w.goodCard(0)))(payment.Challenged)
	w.must(w.submit(p, toys.SMS(w.goodCard(0).Phone)[0].Code))(payment.Captured) // the third of its operations
	w.later(time.Second)
	w.restore(file)
	w.connectToys(toys)
	w.later(3 * time.Minute)
	calls := 0
	w.watch(nil, func(string) { // at the contract that is asked first
		if calls++; calls == 3 {
			w.fault(sim.Fault{Method: "trans.ext", Name: "garbage"})
		}
	})
	_, err := w.decide(p.ID, payment.Cancel, 0)
	w.watch(nil, nil)
	if got := w.read(p.ID); got.State != payment.Captured || reason(err) != payment.AlreadyCaptured {
		t.Errorf("its money was taken, and it is %s, open %+v, %v", got.State, got.Open, err)
	}
	if done := toys.Books().Operations; len(done) != 1 || len(w.sim.Books().Operations) != 0 {
		t.Errorf("the centres did %+v", done)
	}
}

// A hold that a payer made after the backup was taken stays a hold, whichever inquiry about it fails: the shop can capture it.
func TestHoldMadeAfterTheBackupIsHeld(t *testing.T) {
	for failures := range 3 {
		t.Run(fmt.Sprint(failures, " inquiries fail"), func(t *testing.T) {
			w := newWorld(t)
			w.withShop()
			w.connectToys(w.sim)
			var card sim.Card
			for _, c := range w.sim.Cards() {
				if c.Scheme == "visa" && c.Behaviour == "frictionless" {
					card = c
				}
			}
			p := w.prepare(func(t *payment.Terms) { t.Methods = []payment.Method{payment.BankCard} })
			w.later(time.Second)
			file := w.backup()
			handed := handedIn(card)
			handed.Method, handed.CVC = payment.BankCard, card.CVC
			if _, err := w.gateway.Pay(t.Context(), w.shop, p.ID, handed); err != nil {
				t.Fatal(err)
			}
			w.must(w.gateway.Proceed(t.Context(), p.ID, payment.StepMethod))(payment.Held)
			w.later(time.Second)
			w.restore(file)
			w.connectToys(w.sim)
			w.later(3 * time.Minute)
			if failures > 0 {
				w.fault(sim.Fault{Method: "*", Name: "garbage", Times: failures})
			}
			w.reconcile()
			w.later(5 * time.Second)
			w.step()
			w.must(w.read(p.ID), nil)(payment.Held)
			w.must(w.decide(p.ID, payment.Capture, 0))(payment.Captured)
			w.restart()
			if err := w.gateway.Ready(); err != nil {
				t.Errorf("it was reconciled: %v", err)
			}
		})
	}
}

// restoredForTwoMethods is a payment of a backup that its payer could have paid at centres of two methods since.
func restoredForTwoMethods(t *testing.T) (*world, payment.Payment) {
	w := newWorld(t)
	w.withShop()
	p := w.prepare(oneStage, func(t *payment.Terms) { t.Methods = []payment.Method{payment.Uzcard, payment.BankCard} })
	file := w.backup()
	w.later(time.Second)
	w.restore(file)
	w.connectToys(w.sim)
	return w, p
}

// Two centres do not say what they have done under one reference: neither is taken to be the one, and both are asked again.
func TestTwoCentresDoNotSay(t *testing.T) {
	w, p := restoredForTwoMethods(t)
	w.later(3 * time.Minute)
	w.fault(sim.Fault{Method: "*", Name: "garbage", Times: 3}) // each contract is asked about the first reference
	if got, err := w.decide(p.ID, payment.Cancel, 0); reason(err) != payment.InDoubt {
		t.Errorf("it is %s, %v", got.State, err)
	}
	if got := w.read(p.ID); got.State != payment.Created || got.Open != nil {
		t.Errorf("it is %s, open %+v", got.State, got.Open)
	}
	if got, err := w.decide(p.ID, payment.Cancel, 0); reason(err) != payment.Finished {
		t.Errorf("when they say that they did nothing it is %s, %v", got.State, err)
	}
	w.must(w.read(p.ID), nil)(payment.Expired)
}

// Centres that say nothing of what they did since the backup was taken are not asked all the time: the machine is new to them,
// and they may take it for an attack.
func TestSilentCentresAreLeftAlone(t *testing.T) {
	w, p := restoredForTwoMethods(t)
	w.fault(sim.Fault{Method: "*", Name: "http_429", Times: 1_000_000})
	var calls atomic.Int64
	w.watch(nil, func(string) { calls.Add(1) })
	w.later(ttl)
	stop := w.running()
	eventually(t, "the centre is asked", func() bool { return calls.Load() > 0 })
	last := w.gateway.Stepped()
	for range 6 {
		eventually(t, "Run looks again what is due", func() bool { return w.gateway.Stepped().After(last) })
		last = w.gateway.Stepped()
	}
	stop()
	if n := calls.Load(); n != 1 {
		t.Errorf("%d calls came to the centre", n)
	}
	w.must(w.read(p.ID), nil)(payment.Created)
	w.sim.ClearFaults()
	if _, err := w.decide(p.ID, payment.Cancel, 0); reason(err) != payment.Finished { // a shop that asks need not wait
		t.Errorf("when they say that they did nothing: %v", err)
	}
}

// Where no centre is connected that could say whether a payer has paid since the backup was taken, it is not taken that he has
// not.
func TestNoCentreCouldSay(t *testing.T) {
	w := newWorld(t)
	w.withShop()
	p := w.prepare(oneStage)
	w.later(time.Second)
	file := w.backup()
	p = w.must(w.pay(p.ID, w.goodCard(0)))(payment.Challenged)
	w.must(w.submit(p, w.code(w.goodCard(0))))(payment.Captured)
	w.later(time.Second)
	w.restore(file)
	w.later(3 * time.Minute)
	connected := w.gateway
	w.gateway = gateway.New(gateway.Config{Store: w.store, HoldFor: holdFor, Log: slog.New(slog.DiscardHandler)})
	if _, err := w.decide(p.ID, payment.Cancel, 0); err == nil || !strings.Contains(err.Error(), "no processing centre is connected") {
		t.Errorf("cancelled without asking anybody: %v", err)
	}
	w.must(w.read(p.ID), nil)(payment.Created)
	w.gateway = connected
	w.reconcile()
	w.must(w.read(p.ID), nil)(payment.Captured)
	w.clean()
}

// Whoever comes before the reconciling is through: his payment is asked about first.
func TestCommandOnARestoredPaymentAsksFirst(t *testing.T) {
	w := newWorld(t)
	w.withShop()
	card := w.goodCard(0)
	a, b, c := w.paid(card), w.paid(card), w.paid(card)
	w.later(time.Second)
	file := w.backup()
	w.must(w.decide(a.ID, payment.Capture, 0))(payment.Captured)
	w.must(w.decide(b.ID, payment.Cancel, 0))(payment.Voided)
	w.later(time.Second)
	w.restore(file)
	// So soon the centre's "not found" proves nothing.
	if p, err := w.decide(c.ID, payment.Capture, 0); reason(err) != payment.InDoubt {
		t.Errorf("right after the restore: %s, %v", p.State, err)
	}
	w.later(3 * time.Minute)
	if _, err := w.decide(a.ID, payment.Cancel, 0); reason(err) != payment.DecisionStands {
		t.Errorf("captured at the centre, and cancelled here: %v", err)
	}
	if _, err := w.decide(b.ID, payment.Capture, 0); reason(err) != payment.Finished {
		t.Errorf("let go at the centre, and captured here: %v", err)
	}
	// The deadline asks first too, and then lets go.
	w.later(holdFor)
	w.step()
	if p := w.read(c.ID); p.State != payment.Voided || p.Decision == nil || p.Decision.By != payment.ByDeadline {
		t.Errorf("it is %s, decided %+v", p.State, p.Decision)
	}
	w.once(nil, map[string]int{"hold": 3, "capture": 1, "void": 2}, "in all")
	w.clean()
}

// A hold that was in doubt when the backup was taken, and has been captured since, is none any more for its centre: a
// person says that it was made, and the capture is found.
func TestHoldInDoubtIsCapturedAfterTheBackup(t *testing.T) {
	w := newWorld(t)
	w.withShop()
	w.fault(sim.Fault{Method: "hold.create", Name: "fail_after_done"})
	p := w.must(w.pay(w.prepare().ID, w.goodCard(0)))(payment.Challenged)
	p, err := w.submit(p, w.code(w.goodCard(0)))
	if err != nil || p.Open == nil {
		t.Fatalf("%s, %v: it should be in doubt", p.State, err)
	}
	file := w.backup()
	w.set(p.Due())
	w.step()
	hold := w.read(p.ID).Attempt.Centre.Hold
	w.must(w.decide(p.ID, payment.Capture, 0))(payment.Captured)
	w.later(time.Second)
	w.restore(file)
	w.later(3 * time.Minute)
	w.reconcile()
	if open := w.read(p.ID).Open; open == nil || open.Kind != payment.OpHold || !strings.Contains(open.Cause, hold) {
		t.Fatalf("it is in doubt, and its cause names hold %s: %+v", hold, open)
	}
	w.resolve(p.ID, payment.Resolution{Outcome: payment.Approved, Hold: hold})
	w.step()
	w.must(w.read(p.ID), nil)(payment.Captured)
	w.clean()
}

// What the centre was not there to do when the backup was taken may have been done since: it is asked about before it is
// sent again, whoever comes first.
func TestUndoneInTheBackupIsAskedFirst(t *testing.T) {
	for name, take := range map[string]func(w *world, id payment.ID){
		"reconciled":         func(w *world, _ payment.ID) { w.reconcile() },
		"an operator comes":  func(w *world, id payment.ID) { w.gateway.Inquire(t.Context(), id) },
		"the gateway starts": func(w *world, _ payment.ID) { w.gateway.Recover(t.Context()) },
	} {
		for _, method := range []string{"trans.reverse.partial", "hold.dismiss.charge"} {
			t.Run(name+", "+method, func(t *testing.T) {
				w := newWorld(t)
				w.withShop()
				w.fault(sim.Fault{Method: method, Name: "error_code", Code: -300})
				var p payment.Payment
				if method == "hold.dismiss.charge" {
					p = w.paid(w.goodCard(0))
					p, _ = w.decide(p.ID, payment.Capture, 60_000)
				} else {
					p = w.paid(w.goodCard(0), oneStage)
					p, _ = w.gateway.Refund(t.Context(), p.ID, "r1", uzs(30_000))
				}
				if p.Open == nil || p.Open.Outcome != payment.Refused {
					t.Fatalf("it is to be sent again: %+v", p.Open)
				}
				file := w.backup()
				w.set(p.Due())
				w.step()
				if p = w.read(p.ID); p.Open != nil {
					t.Fatalf("not done: %+v", p.Open)
				}
				w.later(time.Second)
				w.restore(file)
				w.later(3 * time.Minute)
				w.watch(nil, func(called string) {
					if called == method {
						t.Errorf("%s is sent again, and was done after the backup was taken", called)
					}
				})
				take(w, p.ID)
				w.watch(nil, nil)
				if got := w.read(p.ID); got.Open != nil || got.Captured != p.Captured || got.Refunded != p.Refunded {
					t.Errorf("captured %s, refunded %s, open %+v", got.Captured, got.Refunded, got.Open)
				}
			})
		}
	}
}

// The centre is away when the restored gateway starts: nothing is guessed, and when it is back all is found.
func TestReconcileWhileTheCentreIsAway(t *testing.T) {
	w := newWorld(t)
	w.withShop()
	card := w.goodCard(0)
	a, b := w.paid(card), w.paid(card)
	refunded := w.paid(card, oneStage)
	waits := w.prepare()
	w.later(time.Second)
	file := w.backup()
	w.must(w.decide(a.ID, payment.Capture, 0))(payment.Captured)
	w.refund(refunded.ID, "r1", total)
	w.later(time.Minute)
	w.restore(file)
	w.later(3 * time.Minute)
	w.fault(sim.Fault{Method: "*", Name: "fail_before", Times: 1000})
	w.reconcile()
	for _, p := range []payment.Payment{a, b, refunded} {
		if got := w.read(p.ID); got.Open == nil || !got.Open.Look || got.State != p.State {
			t.Errorf("it is %s, open %+v", got.State, got.Open)
		}
	}
	if _, err := w.decide(b.ID, payment.Capture, 0); reason(err) != payment.InDoubt {
		t.Errorf("captured in doubt: %v", err)
	}
	// What is in doubt is not reconciled, and is gone on with after a restart too.
	w.step()
	w.restart()
	if err := w.gateway.Ready(); err == nil {
		t.Error("reconciled while the centre has not said a word")
	}
	w.reconcile()
	w.step()
	w.sim.ClearFaults()
	w.rest()
	w.restart()
	if err := w.gateway.Ready(); err != nil {
		t.Errorf("when the centre has said all: %v", err)
	}
	w.must(w.read(a.ID), nil)(payment.Captured)
	w.must(w.read(waits.ID), nil)(payment.Expired)
	if p := w.read(refunded.ID); p.Refunded != uzs(total) {
		t.Errorf("refunded %s", p.Refunded)
	}
	w.later(holdFor)
	w.rest()
	w.must(w.read(b.ID), nil)(payment.Voided)
	w.once(nil, map[string]int{"hold": 2, "capture": 1, "charge": 1, "refund": 1, "void": 1}, "in all")
	w.clean()
}

// A person's word beside the gateway that serves, from a process of its own.
func TestResolveBesideTheServer(t *testing.T) {
	w := newWorld(t)
	card := w.goodCard(0)
	p := w.paid(card)
	w.fault(sim.Fault{Method: "hold.dismiss.charge", Name: "answer_lost"})
	w.fault(sim.Fault{Method: "trans.ext", Name: "garbage", Times: 1000})
	if p, err := w.decide(p.ID, payment.Capture, 60_000); err != nil || p.Open == nil {
		t.Fatalf("open %v, %v", p.Open, err)
	}
	w.later(5 * time.Second)
	w.step()
	beside, other := w.beside()
	ref := w.read(p.ID).Open.Ref
	r := payment.Resolution{Outcome: payment.Approved, By: "Gulnora", Why: "the statement", RRN: "000000000001"}

	// While the server asks, nobody else speaks.
	w.later(time.Minute)
	w.watch(nil, func(method string) {
		if _, err := beside.Resolve(t.Context(), p.ID, ref, r); reason(err) != payment.Reason(payment.ErrBeingAsked.Error()) {
			t.Errorf("while it is asked: %v", err)
		}
	})
	w.step()
	w.watch(nil, nil)
	if got, err := beside.Resolve(t.Context(), p.ID, ref, r); err != nil || got.State != payment.Captured {
		t.Fatalf("it is %s, %v", got.State, err)
	}
	// Whatever the server had in mind, it sees it: by its own reading soon, and before it writes at once.
	if got, err := w.decide(p.ID, payment.Capture, 60_000); err != nil || got.State != payment.Captured || got.Open != nil {
		t.Errorf("the server says %s, open %+v, %v", got.State, got.Open, err)
	}
	eventually(t, "the server sees it", func() bool { return w.read(p.ID).State == payment.Captured })
	if _, err := other.Payment(t.Context(), p.ID); err != nil {
		t.Error(err)
	}
	w.sim.ClearFaults()
	w.clean()
}

// beside opens the same store as another process would.
func (w *world) beside() (*gateway.Gateway, *store.Store) {
	w.t.Helper()
	s, err := store.Open(store.Config{Dir: w.dir, Now: w.clock})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return gateway.New(gateway.Config{Store: s, Log: slog.New(slog.DiscardHandler)}), s
}
