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
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/vault"
)

// What the real program does when more is asked of it than it can do, and when it is told to stop.

// crowd is how many callers ask for new payments at once in the overload: each as soon as it has its answer, and
// those who are shed ten times a second, whatever Retry-After says.
const (
	crowd      = 600
	impatience = 100 * time.Millisecond
)

// recoversWithin is how soon after an overload new payments are taken again.
const recoversWithin = 30 * time.Second

// TestOverload asks for far more new payments than the program can take. It sheds, and says when to come
// again; captures, the releases of holds nobody confirmed, and notifications go on; and when the crowd has
// gone it takes new payments again. OVERLOAD sets how long (make overload).
func TestOverload(t *testing.T) {
	lasts := 4 * time.Second
	if text := os.Getenv("OVERLOAD"); text != "" {
		var err error
		if lasts, err = time.ParseDuration(text); err != nil {
			t.Fatalf("OVERLOAD=%q is not a time such as 60s", text)
		}
	}
	var mu sync.Mutex
	told := make(map[string]bool) // payments of which success was told
	merchantSide := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n struct {
			UUID   string `json:"octo_payment_UUID"`
			Status string `json:"status"`
		}
		if json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&n) == nil && n.Status == "succeeded" {
			mu.Lock()
			told[n.UUID] = true
			mu.Unlock()
		}
		io.WriteString(w, `{"accept_status":"wait_user_action"}`)
	}))
	defer merchantSide.Close()
	s := newStage(t)
	s.kill()
	var hasty createdShop
	err := onServingStore(s.dir, func(st *store.Store, v *vault.Vault) (err error) {
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
	var toRelease []string
	hastyShop := &holdfast.Client{BaseURL: shop.BaseURL, ShopID: hasty.ShopID, Secret: holdfast.Secret(hasty.Secret)}
	for i := range 8 {
		toRelease = append(toRelease, hold(hastyShop, fmt.Sprint("release-", i), s.card(i+12)))
	}

	// The crowd.
	var served, shed atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	transport := &http.Transport{MaxIdleConnsPerHost: crowd, MaxConnsPerHost: crowd}
	client := &http.Client{Transport: transport}
	body := func(i int, n int) string {
		return fmt.Sprintf(`{"octo_shop_id":%d,"octo_secret":%q,"shop_transaction_id":"crowd-%d-%d","auto_capture":true,"test":true,"total_sum":10,"currency":"UZS","return_url":"https://shop.example/"}`,
			s.shop.ShopID, s.shop.Secret, i, n)
	}
	began := time.Now()
	var callers sync.WaitGroup
	for i := range crowd {
		callers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, shop.BaseURL+"/prepare_payment", strings.NewReader(body(i, n)))
				if err != nil {
					t.Error(err)
					return
				}
				res, err := client.Do(req)
				if err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					return
				}
				answer, _ := io.ReadAll(res.Body)
				res.Body.Close()
				switch {
				case res.StatusCode == http.StatusOK && strings.HasPrefix(string(answer), `{"error":0`):
					served.Add(1)
				case (res.StatusCode == http.StatusServiceUnavailable || res.StatusCode == http.StatusTooManyRequests) && res.Header.Get("Retry-After") != "":
					shed.Add(1)
					select {
					case <-ctx.Done():
					case <-time.After(impatience):
					}
				case ctx.Err() == nil:
					t.Errorf("HTTP %d %s", res.StatusCode, answer)
				}
			}
		})
	}
	// Meanwhile the shop captures what is held, one after the other and all the time that the crowd is there.
	took := make([]time.Duration, captures)
	for i, uuid := range toCapture {
		<-time.After(time.Until(began.Add(time.Duration(i+1) * lasts / (captures + 1)))) // spread over the overload
		since := time.Now()
		state, err := shop.Accept(t.Context(), holdfast.AcceptRequest{PaymentUUID: uuid, AcceptStatus: holdfast.AcceptCapture, FinalAmount: "600.00"})
		if err != nil || state.Status != holdfast.StatusSucceeded {
			t.Errorf("a capture in the overload: %v", err)
		}
		took[i] = time.Since(since)
	}
	if rest := time.Until(began.Add(lasts)); rest > 0 {
		<-time.After(rest)
	}
	stop()
	callers.Wait()
	transport.CloseIdleConnections()
	crowded := time.Since(began)
	gone := time.Now()
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
	s.until("every capture is told of", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return !slices.ContainsFunc(toCapture, func(uuid string) bool { return !told[uuid] })
	})
	var late time.Duration
	s.until("the holds that nobody confirmed are let go", func() bool {
		all := true
		for _, uuid := range toRelease {
			p := s.stored(uuid)
			all = all && p.State == payment.Voided
			if p.State == payment.Voided {
				late = max(late, p.Decision.At.Sub(p.HoldDeadline))
			}
		}
		return all
	})
	if late > 60*time.Second { // invariant 9
		t.Errorf("a hold was let go %s after its deadline", late)
	}
	if shed.Load() == 0 {
		t.Error("nothing was shed: this was no overload")
	}
	slices.Sort(took)
	t.Logf("%d callers for %s: %d new payments served, %d shed; %d captures, 0 shed, the slowest %s, half within %s; %d holds let go, the latest %s after its deadline; new payments again after %s",
		crowd, crowded.Round(time.Millisecond), served.Load(), shed.Load(), captures, took[captures-1].Round(time.Millisecond), took[captures/2].Round(time.Millisecond), len(toRelease),
		late.Round(time.Millisecond), recovered.Round(time.Millisecond))
	s.atRest()
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
		err = onStore(s.dir, func(st *store.Store, _ *vault.Vault) (err error) {
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
	for end := time.Now().Add(90 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
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
		case <-time.After(stopWithin + loopsWithin + 30*time.Second):
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
		err := onStore(s.dir, func(st *store.Store, _ *vault.Vault) error {
			for _, log := range logs {
				for _, a := range log {
					told++
					s.checkAcknowledged(st, a)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		s.start()
	}
	result := s.atRest()
	t.Logf("%d stops under load: %d payments acknowledged, %d in doubt, lost %d, doubled %d", stops, told, inDoubt, result.Books.Lost, result.Books.Doubled)
}

func (s *stage) audited() (result *auditResult) {
	s.t.Helper()
	err := onStore(s.dir, func(st *store.Store, _ *vault.Vault) (err error) {
		result, err = audit(s.t.Context(), st, s.sim.URL, nil)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return result
}
