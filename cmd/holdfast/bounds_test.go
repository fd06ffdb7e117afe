package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/vault"
)

// What the real program does when more is asked of it than it can do, and when it is told to stop.

const (
	// measured is how long is looked at what the program can take, and by how many callers at once.
	measured    = 2 * time.Second
	measuringBy = 64

	// recoversWithin is how soon after an overload new payments are taken again.
	recoversWithin = 30 * time.Second
	// onTime is how long a capture, and then the notification of it, may take in an overload. It is far above
	// what they take on a machine that has nothing else to do, and below what clients and shops wait.
	onTime = 10 * time.Second
	// letGoWithin is invariant 9.
	letGoWithin = 60 * time.Second
)

// TestOverload measures how many new payments the program can take, and then asks it for five times as many.
// It sheds, and says when to come again; captures, the releases of holds nobody confirmed, and notifications go
// on, on time and while the crowd is there; and when the crowd has gone it takes new payments again. OVERLOAD
// sets how long (make overload).
func TestOverload(t *testing.T) {
	lasts := 8 * time.Second
	const callers = 1000 // more than are let in at once
	times := float64(pushes)
	if underRace {
		times = 2
	}
	if text := os.Getenv("OVERLOAD"); text != "" {
		var err error
		if lasts, err = time.ParseDuration(text); err != nil {
			t.Fatalf("OVERLOAD=%q is not a time such as 60s", text)
		}
	}
	var mu sync.Mutex
	told := make(map[string]time.Time) // when success was told first, by payment
	merchantSide := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n struct {
			UUID   string `json:"octo_payment_UUID"`
			Status string `json:"status"`
		}
		if json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&n) == nil && n.Status == "succeeded" {
			mu.Lock()
			if told[n.UUID].IsZero() {
				told[n.UUID] = time.Now()
			}
			mu.Unlock()
		}
		io.WriteString(w, `{"accept_status":"wait_user_action"}`)
	}))
	defer merchantSide.Close()
	s := newStage(t)
	s.kill()
	var hasty createdShop
	err := s.data().onServingStore(func(st *store.Store, v *vault.Vault) (err error) {
		hasty, err = createShop(t.Context(), st, v, "Hasty", &settingFlags{Fee: []string{"2%"}, Hold: []string{"5s"}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	shop := s.client()
	hold := func(client *holdfast.Client, name string, card simCard) string {
		t.Helper()
		request := prepare(name)
		request.NotifyURL = merchantSide.URL
		state, err := client.Prepare(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		s.payFor(client, state.PaymentUUID, card)
		return state.PaymentUUID
	}
	const captures = 40
	toCapture := make([]string, captures)
	for i := range toCapture {
		toCapture[i] = hold(shop, fmt.Sprint("capture-", i), s.card(i))
	}

	// What it can take.
	few := &crowd{t: t, shop: s.shop, at: s.listen, name: "few"}
	ctx, stop := context.WithTimeout(t.Context(), measured)
	few.come(ctx, measuringBy, nil)
	stop()
	capacity := float64(few.served.Load()) / measured.Seconds()
	if capacity == 0 {
		t.Fatal("it takes no payment at all")
	}

	// The crowd, and holds whose end falls into its time.
	var toRelease []string
	hastyShop := &holdfast.Client{BaseURL: shop.BaseURL, ShopID: hasty.ShopID, Secret: holdfast.Secret(hasty.Secret)}
	for i := range 8 {
		toRelease = append(toRelease, hold(hastyShop, fmt.Sprint("release-", i), s.card(i+12)))
	}
	all := &crowd{t: t, shop: s.shop, at: s.listen, name: "crowd"}
	ctx, stop = context.WithCancel(t.Context())
	turns := make(chan struct{}, callers)
	began := time.Now()
	var group sync.WaitGroup
	group.Go(func() { all.come(ctx, callers, turns) })
	group.Go(func() { all.push(ctx, times, capacity, turns) })
	// Meanwhile the shop captures what is held, all the time that the crowd is there.
	took, captured := make([]time.Duration, captures), make([]time.Time, captures)
	var capturing sync.WaitGroup
	for i, uuid := range toCapture {
		<-time.After(time.Until(began.Add(time.Duration(i+1) * lasts / (captures + 1))))
		capturing.Go(func() {
			since := time.Now()
			state, err := shop.Accept(t.Context(), holdfast.AcceptRequest{PaymentUUID: uuid, AcceptStatus: holdfast.AcceptCapture, FinalAmount: "600.00"})
			if err != nil || state.Status != holdfast.StatusSucceeded {
				t.Errorf("a capture in the overload: %v", err)
			}
			captured[i] = time.Now()
			took[i] = captured[i].Sub(since)
		})
	}
	<-time.After(time.Until(began.Add(lasts)))
	s.until("a hold has come to its end in that time", func() bool {
		return slices.ContainsFunc(toRelease, func(uuid string) bool {
			p := s.stored(uuid)
			return p.State == payment.Voided && p.Decision.At.After(began)
		})
	})
	capturing.Wait()
	gone := time.Now()
	served, shed := all.served.Load(), all.shed.Load()
	stop()
	group.Wait()
	for {
		_, err := shop.Prepare(t.Context(), prepare("after"))
		if err == nil {
			break
		}
		if time.Since(gone) > recoversWithin {
			t.Fatalf("%s after the overload it takes no payment: %v", recoversWithin, err)
		}
	}
	recovered := time.Since(gone)

	crowded := gone.Sub(began).Seconds()
	offered := served + shed // requests without an answer do not count
	if !underRace && offered < fold*served {
		t.Errorf("%d new payments were asked for and %d served: this was no overload of %d times", offered, served, fold)
	}
	s.until("every capture is told of", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return !slices.ContainsFunc(toCapture, func(uuid string) bool { return told[uuid].IsZero() })
	})
	var toldAfter time.Duration
	toldMeanwhile := 0
	mu.Lock()
	for i, uuid := range toCapture {
		toldAfter = max(toldAfter, told[uuid].Sub(captured[i]))
		if told[uuid].Before(gone) {
			toldMeanwhile++
		}
	}
	mu.Unlock()
	slices.Sort(took)
	if slowest := took[captures-1]; !underRace && (slowest > onTime || toldAfter > onTime) {
		t.Errorf("in the overload a capture took %s, and one was told of after %s", slowest, toldAfter)
	}
	var late time.Duration
	letGoMeanwhile := 0
	s.until("the holds that nobody confirmed are let go", func() bool {
		late, letGoMeanwhile = 0, 0
		for _, uuid := range toRelease {
			p := s.stored(uuid)
			if p.State != payment.Voided {
				return false
			}
			late = max(late, p.Decision.At.Sub(p.HoldDeadline))
			if p.Decision.At.After(began) && p.Decision.At.Before(gone) {
				letGoMeanwhile++
			}
		}
		return true
	})
	if late > letGoWithin {
		t.Errorf("a hold was let go %s after its deadline", late)
	}
	if all.shed.Load() == 0 {
		t.Error("nothing was shed: this was no overload")
	}
	if letGoMeanwhile == 0 || toldMeanwhile == 0 {
		t.Errorf("while the crowd was there %d holds were let go and %d captures told of: nothing is shown", letGoMeanwhile, toldMeanwhile)
	}
	ms := time.Millisecond
	result := s.atRest()
	t.Logf("figures: overload: %.0f new payments a second can be taken, by %d callers; %d asked for %.0f a second in %.1f s, of which %.0f a second were served, %d in all, and %d shed; "+
		"%d captures, 0 shed, half within %s, the slowest %s; told of at most %s later, %d while the crowd was there; %d of %d holds let go while it was there, the latest %s after its deadline; "+
		"new payments again after %s; lost %d, doubled %d",
		capacity, measuringBy, callers, float64(offered)/crowded, crowded, float64(served)/crowded, served, shed,
		captures, took[captures/2].Round(ms), took[captures-1].Round(ms), toldAfter.Round(ms), toldMeanwhile, letGoMeanwhile, len(toRelease), late.Round(ms),
		recovered.Round(ms), result.Books.Lost, result.Books.Doubled)
}

// payFor leads a payment to its hold.
func (s *stage) payFor(client *holdfast.Client, uuid string, card simCard) {
	s.t.Helper()
	ctx := s.t.Context()
	entity, err := client.Pay(ctx, uuid, pay(card))
	if err != nil {
		s.t.Fatal(err)
	}
	info, err := client.VerificationInfo(ctx, uuid)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err = client.CheckSMSKey(ctx, holdfast.CheckSMSKeyRequest{SMSKey: s.code(card), PaymentID: entity.ID, VerifyID: info.VerifyID}); err != nil {
		s.t.Fatal(err)
	}
}

// stored is a payment as it is on disk.
func (s *stage) stored(uuid string) (p payment.Payment) {
	s.t.Helper()
	id, err := payment.ParseID(uuid)
	if err == nil {
		err = s.data().onStore(func(st *store.Store, _ *vault.Vault) (err error) {
			p, err = st.Payment(s.t.Context(), id)
			return err
		})
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// until waits for a condition; the deadline is generous, for a loaded machine.
func (s *stage) until(what string, is func() bool) {
	s.t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%s: it never came to that", what)
		}
	}
}

// TestStop ends the program by SIGTERM while payers pay, again and again. Requests under way are answered,
// it ends in good order within its limits, and nothing is lost or left in doubt.
func TestStop(t *testing.T) {
	s := newStage(t)
	const stops, payers = 3, 8
	told, inDoubt := 0, 0
	for n := range stops {
		ctx, stop := context.WithCancel(t.Context())
		logs := make([][]acknowledged, payers)
		client := s.client()
		var group sync.WaitGroup
		for i := range payers {
			card := s.card(i)
			group.Go(func() { logs[i] = s.payOn(ctx, client, card, "stop-"+strconv.Itoa(n)+"-"+strconv.Itoa(i)) })
		}
		s.until("payments are under way", func() bool { return s.audited().Operations > (n+1)*payers*4 })
		asked := time.Now()
		if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- s.process.Wait() }()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("it did not end in good order: %v", err)
			}
		case <-time.After(patience): // it gives itself stopWithin and loopsWithin
			t.Fatal("it does not stop")
		}
		s.process = nil
		stop()
		group.Wait()
		result := s.audited()
		if !result.Clean || result.InDoubt > 0 {
			t.Errorf("stopped after %s: in doubt %d, violations %v, books %+v", time.Since(asked), result.InDoubt, result.Violations, result.Books)
		}
		inDoubt += result.InDoubt
		told += s.checkAll(logs)
		s.start()
	}
	result := s.atRest()
	t.Logf("figures: stop: %d stops under load: %d payments acknowledged, %d in doubt, lost %d, doubled %d", stops, told, inDoubt, result.Books.Lost, result.Books.Doubled)
}

func (s *stage) audited() (result *auditResult) {
	s.t.Helper()
	err := s.data().onStore(func(st *store.Store, _ *vault.Vault) (err error) {
		result, err = audit(s.t.Context(), st, s.sim.URL, nil)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return result
}
