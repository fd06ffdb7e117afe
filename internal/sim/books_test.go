package sim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestBooksAlwaysBalance drives random operations, right and wrong ones, over a few cards and compares
// each card after every one with what its callers were told, and now and then with the operations in the books.
func TestBooksAlwaysBalance(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 0))
		c := &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
		s := New(Config{Now: c.Now, Seed: seed + 1})
		var m memory // used again, as the endpoint does
		ask := func(method, params string) (json.RawMessage, bool) {
			s.svgate(&m, fmt.Appendf(nil, `{"jsonrpc":"2.0","method":%q,"id":1,"params":%s}`, method, params))
			var envelope struct {
				Result json.RawMessage
				Error  any
			}
			if err := json.Unmarshal(m.answer, &envelope); err != nil {
				t.Fatalf("seed %d: %v: %s", seed, err, m.answer)
			}
			return envelope.Result, envelope.Error == nil
		}
		// What the caller believes, kept apart from the simulator's books.
		type told struct{ moved, held int64 }
		pans := []string{otherPAN, "8600069195406311"}
		belief := map[string]*told{}
		type held struct {
			pan    string
			amount int64
			until  time.Time
		}
		holds := map[int64]*held{}
		type paid struct {
			pan  string
			left int64
		}
		payments := map[string]*paid{}
		for _, pan := range pans {
			belief[pan] = &told{}
			// A poor card meets its limits within a few operations.
			s.byPAN[pan].opening, s.byPAN[pan].balance = 10_000, 10_000
		}
		anyHold := func() int64 {
			for id := range holds {
				return id
			}
			return 5
		}
		anyPayment := func() string {
			for ref := range payments {
				return ref
			}
			return "5"
		}
		for n := range 300 {
			amount := random.Int64N(4000) - 100
			ext := fmt.Sprint("e", random.IntN(200))
			switch random.IntN(7) {
			case 0, 1:
				pan := pans[random.IntN(len(pans))]
				minutes := random.IntN(60)
				if result, ok := ask("hold.create", holdParams(s.byPAN[pan].token, amount, minutes)); ok {
					var h struct{ ID int64 }
					if err := json.Unmarshal(result, &h); err != nil {
						t.Fatal(err)
					}
					holds[h.ID] = &held{pan, amount, c.now.Add(time.Duration(minutes) * time.Minute)}
					belief[pan].held += amount
				}
			case 2:
				id := anyHold()
				if result, ok := ask("hold.dismiss.charge", captureParams(id, ext, amount)); ok {
					var m tran
					if err := json.Unmarshal(result, &m); err != nil {
						t.Fatal(err)
					}
					h := holds[id]
					belief[h.pan].held -= h.amount
					belief[h.pan].moved -= amount
					payments[m.RefNum] = &paid{h.pan, amount}
					delete(holds, id)
				}
			case 3:
				id := anyHold()
				if h := holds[id]; h != nil && random.IntN(2) == 0 {
					amount = h.amount
				}
				if _, ok := ask("hold.dismiss", dismissParams(id, amount)); ok {
					belief[holds[id].pan].held -= holds[id].amount
					delete(holds, id)
				}
			case 4:
				pan := pans[random.IntN(len(pans))]
				if result, ok := ask("trans.pay.purpose", payParams(s.byPAN[pan].token, ext, amount)); ok {
					var m tran
					if err := json.Unmarshal(result, &m); err != nil {
						t.Fatal(err)
					}
					belief[pan].moved -= amount
					payments[m.RefNum] = &paid{pan, amount}
				}
			case 5:
				ref := anyPayment()
				if random.IntN(3) == 0 {
					if _, ok := ask("trans.reverse", fmt.Sprintf(`{"tranId":%q}`, ref)); ok {
						belief[payments[ref].pan].moved += payments[ref].left
						payments[ref].left = 0
					}
				} else if _, ok := ask("trans.reverse.partial", partialParams(ref, ext, amount)); ok {
					belief[payments[ref].pan].moved += amount
					payments[ref].left -= amount
				}
			case 6:
				c.move(time.Duration(random.IntN(600)) * time.Second)
				for id, h := range holds {
					if !c.now.Before(h.until) {
						belief[h.pan].held -= h.amount
						delete(holds, id)
					}
				}
			}
			s.mu.Lock()
			s.clock()
			cards := s.cardBooks()
			s.mu.Unlock()
			if n%25 == 24 {
				checkBooks(t, s.Books())
			}
			for _, card := range cards {
				b := belief[card.PAN]
				if b == nil {
					b = &told{}
				}
				if card.Balance-card.Opening != b.moved || card.Held != b.held {
					t.Fatalf("seed %d, operation %d: card %s has %+d and %d held, its caller was told %+d and %d",
						seed, n, card.PAN, card.Balance-card.Opening, card.Held, b.moved, b.held)
				}
			}
			for ref, p := range payments {
				if p.left < 0 {
					t.Fatalf("seed %d, operation %d: %s was given back more than once", seed, n, ref)
				}
			}
			if t.Failed() {
				t.Fatalf("seed %d, operation %d", seed, n)
			}
		}
	}
}

// TestOtherBooksAlwaysBalance is the same at Humo and RBS, with a bank that lets a hold be taken in several parts or one that
// does not: what the callers were told is what the cards have.
func TestOtherBooksAlwaysBalance(t *testing.T) {
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 1))
		c := &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
		s := New(Config{Now: c.Now, Seed: seed + 1, HumoHold: time.Hour, RBSHold: time.Hour, SeveralDeposits: seed%2 == 1})
		defer s.Close()
		type payment struct {
			card             *account
			held, left       int64 // left to be taken
			taken, given     int64
			until            time.Time
			order, ref       string
			single, finished bool
		}
		var payments []*payment
		moved, held := map[*account]int64{}, map[*account]int64{}
		var cards []*account
		for _, a := range s.cards {
			if a.scheme == humo && a.behaviour.name == "ok" && len(cards) < 2 || a.behaviour.name == "no_3ds" {
				a.opening, a.balance = 10_000, 10_000 // a poor card meets its limits within a few operations
				cards = append(cards, a)
			}
		}
		soap := func(message string) bool {
			payload, why := parseSOAP([]byte(envelope(message)))
			if why != "" {
				t.Fatal(why)
			}
			m := readHumo(&payload)
			_, answer := s.humo(&m)
			return answer.status == 200
		}
		rbs := func(call string, pairs ...string) (rbsResult, bool) {
			form := fields(append(pairs, "token", "holdfast")...)
			_, answer, _ := s.rbs(rbsWork[call].method, rbsWork[call].work, &rbsCall{fields: form, base: "http://sim.example"})
			var r rbsResult
			if err := json.Unmarshal(answer, &r); err != nil {
				t.Fatal(err)
			}
			return r, (r.ErrorCode == nil || r.ErrorCode == float64(0)) && r.Error == ""
		}
		free := func(p *payment) {
			held[p.card] -= p.left
			p.left, p.finished = 0, true
		}
		for n := range 400 {
			amount := random.Int64N(4000) - 100
			var p *payment
			if len(payments) > 0 {
				p = payments[random.IntN(len(payments))]
			}
			switch what := random.IntN(8); {
			case what < 3 || p == nil:
				a := cards[random.IntN(len(cards))]
				single := random.IntN(4) == 0
				p := &payment{card: a, ref: fmt.Sprint("p", random.IntN(300)), until: c.now.Add(time.Hour), single: single}
				if a.scheme == humo {
					if !soap(humoPayment(a, map[bool]string{true: "SOAP_SMS", false: "SOAP_DMS"}[single], p.ref, amount)) {
						continue
					}
				} else {
					r, ok := rbs(map[bool]string{true: "register.do", false: "registerPreAuth.do"}[single], "orderNumber", p.ref, "amount", fmt.Sprint(amount), "returnUrl", "https://x.example")
					if !ok {
						continue
					}
					form := cardForm(a, r.OrderID)
					var pairs []string
					for name := range form {
						pairs = append(pairs, name, form.Get(name))
					}
					if _, ok := rbs("paymentorder.do", pairs...); !ok {
						continue
					}
					p.order = r.OrderID
				}
				payments = append(payments, p)
				if single {
					p.finished, p.taken = true, amount
					moved[a] -= amount
				} else {
					p.held, p.left = amount, amount
					held[a] += amount
				}
			case what < 5:
				last := true
				if p.card.scheme == humo {
					if amount == 0 || !soap(humoConfirmation(p.ref, amount)) {
						continue
					}
				} else {
					if _, ok := rbs("deposit.do", "orderId", p.order, "amount", fmt.Sprint(amount)); !ok {
						continue
					}
					if amount == 0 {
						amount = p.left
					}
					last = seed%2 == 0 || amount == p.left
				}
				p.taken += amount
				p.left -= amount
				held[p.card] -= amount
				moved[p.card] -= amount
				if last {
					free(p)
				}
			case what == 5:
				ok := p.card.scheme == humo && soap(humoAbout("CancelRequest", p.ref))
				if p.card.scheme != humo {
					_, ok = rbs("reverse.do", "orderId", p.order)
				}
				if ok {
					free(p)
				}
			case what == 6:
				if p.card.scheme == humo {
					if amount = p.taken; !soap(humoAbout("ReturnPayment", p.ref)) {
						continue
					}
				} else {
					if _, ok := rbs("refund.do", "orderId", p.order, "amount", fmt.Sprint(amount), "externalRefundId", fmt.Sprint("r", n)); !ok {
						continue
					}
					if amount == 0 {
						amount = p.taken - p.given
					}
				}
				p.given += amount
				moved[p.card] += amount
			case what == 7:
				c.move(time.Duration(random.IntN(900)) * time.Second)
				for _, p := range payments {
					if !p.finished && !c.now.Before(p.until) {
						free(p)
					}
				}
			}
			s.mu.Lock()
			s.clock()
			for _, a := range cards {
				if a.balance-a.opening != moved[a] || a.held != held[a] {
					t.Errorf("card %s has %+d and %d held, its caller was told %+d and %d", a.pan, a.balance-a.opening, a.held, moved[a], held[a])
				}
			}
			s.mu.Unlock()
			for _, p := range payments {
				if p.taken > max(p.held, p.taken*b2i(p.single)) || p.given > p.taken || p.left < 0 {
					t.Errorf("%+v", p)
				}
			}
			if n%50 == 49 {
				checkBooks(t, s.Books())
			}
			if t.Failed() {
				t.Fatalf("seed %d, operation %d", seed, n)
			}
		}
		if s.count < 50 {
			t.Errorf("seed %d: only %d operations", seed, s.count)
		}
	}
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// TestConcurrentPayers pays from many goroutines on one card over HTTP, captures each hold from two sides at once, and
// counts afterwards.
func TestConcurrentPayers(t *testing.T) {
	w := newWorld(t)
	token := w.token(sharedPAN)
	const payers, payments = 8, 25
	var wait sync.WaitGroup
	for payer := range payers {
		wait.Go(func() {
			for n := range payments {
				id := w.otp(sharedPAN)
				w.must("cards.new.verify", fmt.Sprintf(`{"otp":{"id":%d,"code":%q}}`, id, sharedCode), nil)
				hold := w.hold(token, 100)
				var race sync.WaitGroup
				won := make([]bool, 2)
				for side := range won {
					race.Go(func() {
						_, code := w.ask("hold.dismiss.charge", captureParams(hold, fmt.Sprintf("%d-%d-%d", payer, n, side), 90))
						won[side] = code == 0
						if code != 0 && code != codeHoldNotFound {
							t.Errorf("the loser got %d", code)
						}
					})
				}
				race.Wait()
				if won[0] == won[1] {
					t.Errorf("hold %d: both sides won, or none: %v", hold, won)
				}
			}
		})
	}
	// Meanwhile others read.
	wait.Go(func() {
		for range 20 {
			w.get("/sim/books")
			w.get("/")
			w.get("/sms")
			w.get("/books")
		}
	})
	wait.Wait()
	w.wantBalance(sharedPAN, -90*payers*payments, 0)
	if n := len(w.sim.SMS("")); n != payers*payments+1 {
		t.Errorf("%d messages", n)
	}
}

// TestBooksInSlices reads more operations than GET /sim/books writes at a time.
func TestBooksInSlices(t *testing.T) {
	w := newWorld(t)
	s := w.sim
	const count = 2*booksSlice + 3
	s.mu.Lock()
	a := s.byPAN[sharedPAN]
	for i := range count {
		s.charge(a, 1, fmt.Sprint("e", i), 0, w.clock.now)
	}
	s.mu.Unlock()
	status, body := w.get("/sim/books")
	var b Books
	if err := json.Unmarshal([]byte(body), &b); err != nil || status != 200 {
		t.Fatal(status, err)
	}
	if len(b.Operations) != count || len(b.Cards) != len(s.cards) {
		t.Fatalf("%d operations, %d cards", len(b.Operations), len(b.Cards))
	}
	for i, op := range b.Operations {
		if op.Reference != fmt.Sprint("e", i) {
			t.Fatalf("place %d has %s", i, op.Reference)
		}
	}
	if fmt.Sprint(b) != fmt.Sprint(func() Books {
		var again Books
		text, err := json.Marshal(s.Books())
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		return again
	}()) {
		t.Error("the books over HTTP and in Go differ")
	}
}

// TestMillionOperationsFit fills the books with half a million payments, each a hold and its capture.
func TestMillionOperationsFit(t *testing.T) {
	if testing.Short() {
		t.Skip("needs some hundred megabytes")
	}
	w := newWorld(t)
	s := w.sim
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	s.mu.Lock()
	a := s.byPAN[sharedPAN]
	for i := range 500_000 {
		hold := s.hold(a, 100, 30, 0, w.clock.now)
		s.capture(hold, 100, fmt.Sprintf("1732700437604_%012d", i), 1, 261123170000, w.clock.now)
	}
	s.mu.Unlock()
	used := heap() - before
	t.Logf("a million operations take %d MB", used>>20)
	if used > 400<<20 {
		t.Errorf("a million operations take %d MB", used>>20)
	}
	if s.count != 1_000_000 {
		t.Error(s.count)
	}
}

func TestSum(t *testing.T) {
	for tiyin, want := range map[int64]string{0: "0.00", 5: "0.05", 99_999: "999.99", 100_000: "1_000.00", 123_456_789_01: "123_456_789.01", sharedBalance: "1_000_000_000_000_000.00"} {
		if got := strings.ReplaceAll(sum(tiyin), "\u202f", "_"); got != want {
			t.Errorf("%d: %s, want %s", tiyin, got, want)
		}
	}
}
