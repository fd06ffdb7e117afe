package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/store"
)

// TestMain runs the tests, or, in a process that a test has started, what that test wants of it.
func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		os.Exit(child(role))
	}
	goleak.VerifyTestMain(m)
}

// engine opens stores of one kind. Config.Dir names the data: two stores of one Dir share it.
type engine func(cfg store.Config) (*store.Store, error)

// storeCase is something that every engine must get right.
type storeCase struct {
	name string
	run  func(t *testing.T, w *world)
}

// cases is the one list that every engine is put through.
func cases() []storeCase {
	var all []storeCase
	all = append(all, paymentCases()...)
	all = append(all, commitCases()...)
	all = append(all, eventCases()...)
	all = append(all, noticeCases()...)
	all = append(all, statsCases()...)
	all = append(all, shopCases()...)
	return append(all, cardCases()...)
}

func TestSQLite(t *testing.T) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // most of a case is waiting for the disk
			c.run(t, newWorld(t, store.Open))
		})
	}
}

// t0 is when the tests begin.
var t0 = time.Date(2026, 3, 2, 4, 17, 0, 0, time.UTC)

// world is a store with a clock that only the test moves.
type world struct {
	*store.Store
	t    testing.TB
	open engine
	dir  string

	mu  sync.Mutex
	now time.Time
}

func newWorld(t testing.TB, open engine) *world {
	t.Helper()
	w := &world{t: t, open: open, dir: t.TempDir(), now: t0}
	w.Store = w.openAgain(true)
	return w
}

// openAgain opens a further store on the same data; the test's end closes it.
func (w *world) openAgain(serve bool) *store.Store {
	w.t.Helper()
	s, err := w.open(store.Config{Dir: w.dir, Serve: serve, Now: w.clock, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			w.t.Errorf("close: %v", err)
		}
	})
	return s
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) later(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func uzs(minor int64) money.Amount { return money.New(minor, money.UZS) }

const (
	shop      = 12
	total     = 100_000 // minor units: 1000.00 UZS
	ttl       = 15 * time.Minute
	holdFor   = 30 * time.Minute
	answerMs  = 10_000
	verifyID  = 900_001
	notifyURL = "https://shop.example/notify"
)

func terms(name string) payment.Terms {
	return payment.Terms{
		ShopPaymentID: name, Amount: uzs(total), InitTime: t0, Methods: []payment.Method{payment.Uzcard},
		ReturnURL: "https://shop.example/back", NotifyURL: notifyURL, Language: "uz",
	}
}

// maker is what Create is given: a payment of these terms. id, where it is given, is its ID.
func maker(terms payment.Terms, id ...payment.ID) func(number int64, now time.Time) payment.Change {
	return func(number int64, now time.Time) payment.Change {
		terms.ExpiresAt = now.Add(ttl)
		pid := payment.NewID(now, randomTen())
		if len(id) > 0 {
			pid = id[0]
		}
		return payment.New(pid, number, shop, terms, now)
	}
}

var (
	randomMu sync.Mutex
	random   uint64
)

// randomTen is the rest of an ID: a counter is as good as chance here, and repeats from run to run.
func randomTen() (b [10]byte) {
	randomMu.Lock()
	defer randomMu.Unlock()
	random++
	for i := range 8 {
		b[9-i] = byte(random >> (8 * i))
	}
	return b
}

func (w *world) create(terms payment.Terms) payment.Payment {
	w.t.Helper()
	p, created, err := w.Create(w.t.Context(), shop, terms.ShopPaymentID, maker(terms))
	if err != nil || !created {
		w.t.Fatalf("create %s: created %v, %v", terms.ShopPaymentID, created, err)
	}
	return p
}

// begin puts a command that must be taken.
func (w *world) begin(id payment.ID, c payment.Command) payment.Payment {
	w.t.Helper()
	change, err := w.Update(w.t.Context(), id, beginning(c))
	if err != nil {
		w.t.Fatalf("%T: %v", c, err)
	}
	return change.Payment
}

// settle answers the open question.
func (w *world) settle(id payment.ID, a payment.Answer) (payment.Payment, error) {
	change, err := w.Update(w.t.Context(), id, answering(a))
	return change.Payment, err
}

func (w *world) mustSettle(id payment.ID, a payment.Answer) payment.Payment {
	w.t.Helper()
	p, err := w.settle(id, a)
	if err != nil {
		w.t.Fatalf("settle: %v", err)
	}
	return p
}

func beginning(c payment.Command) store.Decide {
	return func(p payment.Payment, now time.Time) (payment.Change, error) { return payment.Begin(p, c, now) }
}

func answering(a payment.Answer) store.Decide {
	return func(p payment.Payment, now time.Time) (payment.Change, error) {
		if p.Open != nil {
			a.Ref = p.Open.Ref
		}
		return payment.Settle(p, a, now), nil
	}
}

func pay() payment.Pay {
	return payment.Pay{VerifyID: verifyID, Attempt: payment.Attempt{
		Method: payment.Uzcard, Processor: "uzcard", Input: "merchant_site",
		Card:    payment.CardFacts{Scheme: "uzcard", First6: "860031", Last4: "1293", Country: "UZ"}, // 8600313260861293
		Fee:     payment.FeeTerms{TariffID: 1, Rate: 20_000},
		HoldFor: int64(holdFor / time.Second),
		Limits: payment.Limits{AnswerMillis: answerMs, ShownMillis: map[payment.Kind]int64{
			payment.OpHold: 60_000, payment.OpCharge: 60_000,
		}},
	}}
}

// asking leads a payment to the question for its money: the hold, or with AutoCapture the charge.
func (w *world) asking(terms payment.Terms) payment.Payment {
	w.t.Helper()
	p := w.create(terms)
	w.begin(p.ID, pay())
	w.mustSettle(p.ID, payment.Answer{Outcome: payment.ChallengeGiven, CentreID: "77", Phone: "+998** *****33"})
	w.begin(p.ID, payment.SubmitCode{VerifyID: verifyID})
	return w.mustSettle(p.ID, payment.Answer{Outcome: payment.Approved, Centre: payment.Centre{Token: "TOKEN"}})
}

// held leads a payment to a hold of its own.
func (w *world) held(terms payment.Terms) payment.Payment {
	w.t.Helper()
	p := w.asking(terms)
	return w.mustSettle(p.ID, payment.Answer{Outcome: payment.Approved, Claim: "hold of " + terms.ShopPaymentID, Centre: payment.Centre{Hold: "9"}})
}

// captured leads a payment to its end: all of it, or a part.
func (w *world) captured(terms payment.Terms, sum int64) payment.Payment {
	w.t.Helper()
	p := w.held(terms)
	w.begin(p.ID, payment.Decide{Accept: payment.Capture, Amount: uzs(sum), By: payment.ByMerchant})
	return w.mustSettle(p.ID, payment.Answer{Outcome: payment.Approved, Amount: uzs(sum), Centre: payment.Centre{RRN: "700000000001"}})
}

// block keeps the committer busy until the function it returns is called: what is handed in
// meanwhile shares the next commit.
func (w *world) block(id payment.ID) (release func()) {
	w.t.Helper()
	inside, let, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		first := sync.OnceFunc(func() { close(inside); <-let })
		_, err := w.Update(context.Background(), id, func(p payment.Payment, now time.Time) (payment.Change, error) {
			first()
			return payment.Change{}, errStop
		})
		done <- err
	}()
	<-inside
	return func() {
		close(let)
		if err := <-done; !errors.Is(err, errStop) {
			w.t.Errorf("the blocking job: %v", err)
		}
	}
}

var errStop = errors.New("stop")

// waiting returns once so many jobs are handed in and not taken up.
func (w *world) waiting(n int) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("%d jobs wait", n), func() bool { return w.Stats().Waiting >= n })
}

// handIn has a job handed in behind those that wait while the store is blocked.
func (w *world) handIn(job func()) {
	w.t.Helper()
	before := w.Stats().Waiting
	go job()
	w.waiting(before + 1)
}

// eventually waits until a condition holds that another goroutine brings about. It leaves the processor to that, and the deadline is
// generous, for a loaded machine.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	const patience = 3 * time.Minute
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in %s it did not come about that %s", patience, what)
		}
	}
}

// goesWell does what must go well with a database that is there, and isTold what must be told why it is not.
func goesWell(t testing.TB, do func() error) {
	t.Helper()
	if err := do(); err != nil {
		t.Errorf("the database is there, and it is told %v", err)
	}
}

func isTold(t testing.TB, why string, do func() error) {
	t.Helper()
	if err := do(); err == nil || errors.Is(err, store.ErrBroken) || !strings.Contains(err.Error(), why) {
		t.Errorf("told %v, and not that the database %s", err, why)
	}
}

// together runs f n times at once.
func together(n int, f func(i int)) {
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	ready.Add(n)
	for i := range n {
		done.Go(func() {
			ready.Done()
			<-start
			f(i)
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
}

// token reports whether a wake-up is in the channel, and takes it.
func token(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// clean fails the test where the audit finds anything.
func (w *world) clean() *store.Audit {
	w.t.Helper()
	a, err := w.Audit(w.t.Context(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, v := range a.Violations {
		w.t.Errorf("audit: %s", v)
	}
	return a
}
