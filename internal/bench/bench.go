// Package bench drives whole payments through a running gateway as merchants and payers would,
// and measures. It knows the gateway by its public interface only; whether the books are right
// afterwards is looked at by the audit, without which a run has no result.
package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"holdfast"
)

// Shop is a shop to pay at.
type Shop struct {
	ID        int64
	Secret    string
	UniqueKey string
}

// Config says what to drive and how hard.
type Config struct {
	API         string // base URL of the gateway, http
	Sim         string // base URL of the simulator: cards and codes come from there
	Shops       []Shop // payments go to them in turn
	Method      string // uzcard or humo
	Concurrency int    // payers at once
	Rate        int    // payments begun a second, whether earlier ones have ended or not; 0: as fast as the payers can
	Payments    int    // end after so many; 0: no limit
	Duration    time.Duration
	Progress    func(Progress) // called every second; may be nil
}

// Progress is how a run stands.
type Progress struct {
	Elapsed  time.Duration
	Payments int64
	LastRate int64 // payments in the last second
	Errors   int64
}

// Latency is the distribution of one call's times, in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50"`
	P95   float64 `json:"p95"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

// Result is what a run measured.
type Result struct {
	Payments          int64              `json:"payments"`
	Calls             int64              `json:"calls"`
	Seconds           float64            `json:"seconds"`
	PaymentsPerSecond float64            `json:"payments_per_second"`
	CallsPerSecond    float64            `json:"calls_per_second"`
	LatencyMillis     map[string]Latency `json:"latency_ms"`
	CallbackDelay     Latency            `json:"callback_delay_ms"` // from the merchant's decision being answered to the notification of it
	Notifications     int64              `json:"notifications"`
	Forged            int64              `json:"notifications_forged"`  // sampled, and not signed as they must be
	Missing           int64              `json:"notifications_missing"` // never came, although the bench waited
	Errors            int64              `json:"errors"`
	FirstErrors       []string           `json:"first_errors,omitempty"`
}

// run is one measurement under way.
type run struct {
	cfg      Config
	name     string // makes the names of payments unique
	terms    []byte // the rest of prepare_payment's body
	card     []byte // pay's body
	code     string
	endpoint *endpoint

	payments, calls, errors atomic.Int64
	latencies               [callCount]histogram

	mu     sync.Mutex
	failed []string
}

// Run drives payments until the limits of cfg are reached or ctx ends.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if len(cfg.Shops) == 0 || cfg.Concurrency < 1 {
		return nil, errors.New("a bench needs a shop and at least one payer")
	}
	api, err := url.Parse(cfg.API)
	if err != nil || api.Scheme != "http" || api.Host == "" {
		return nil, fmt.Errorf("the gateway's address %q is not of the form http://127.0.0.1:8080", cfg.API)
	}
	r := &run{cfg: cfg, name: fmt.Sprintf("bench-%x", time.Now().UnixNano())}
	if err := r.chooseCard(ctx); err != nil {
		return nil, err
	}
	r.endpoint, err = listen(cfg.Shops)
	if err != nil {
		return nil, err
	}
	defer r.endpoint.close()
	r.terms = fmt.Appendf(nil, `","auto_capture":false,"test":true,"init_time":"2026-01-02 09:17:00","total_sum":1000.00,"currency":"UZS",`+
		`"description":"A teapot","user_data":{"user_id":"7","phone":"998901234567","email":"payer@example.uz"},`+
		`"basket":[{"position_desc":"Teapot","count":1,"price":1000.00}],"payment_methods":[{"method":%q}],`+
		`"return_url":"https://shop.example/thanks","notify_url":%q,"language":"uz","ttl":15}`, cfg.Method, r.endpoint.url)
	return r.drive(ctx, api.Host)
}

// drive lets the payers pay.
func (r *run) drive(ctx context.Context, address string) (*Result, error) {
	if r.cfg.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.cfg.Duration)
		defer cancel()
	}
	began := time.Now()
	starts := r.starts(ctx, began)
	var payers sync.WaitGroup
	for id := range r.cfg.Concurrency {
		payers.Go(func() {
			p := &payer{run: r, conn: newConn(address), id: id}
			defer p.conn.close()
			for start := range starts {
				r.one(p, start)
			}
		})
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		r.tell(ctx, began)
	}()
	payers.Wait()
	elapsed := time.Since(began)
	r.endpoint.settle()
	<-told
	return r.result(elapsed), nil
}

// one makes one payment. Waiting for a free payer counts as the first call's time when payments
// have an intended start.
func (r *run) one(p *payer, start ticket) {
	late := time.Duration(0)
	if !start.at.IsZero() {
		late = time.Since(start.at)
	}
	err := p.pay(&r.cfg.Shops[start.n%len(r.cfg.Shops)], func(call int, took time.Duration) {
		if call == callPrepare {
			took += late
		}
		r.latencies[call].add(took)
		r.calls.Add(1)
	})
	if err != nil {
		r.errors.Add(1)
		r.mu.Lock()
		if len(r.failed) < 5 {
			r.failed = append(r.failed, err.Error())
		}
		r.mu.Unlock()
		return
	}
	r.payments.Add(1)
}

// ticket is the right to begin one payment.
type ticket struct {
	n  int
	at time.Time // when it ought to begin; zero: now
}

// starts hands out tickets until the run ends: as fast as they are taken, or at the rate.
func (r *run) starts(ctx context.Context, began time.Time) <-chan ticket {
	tickets := make(chan ticket, 4096)
	if r.cfg.Rate == 0 {
		tickets = make(chan ticket)
	}
	go func() {
		defer close(tickets)
		for n := 0; r.cfg.Payments == 0 || n < r.cfg.Payments; n++ {
			t := ticket{n: n}
			if r.cfg.Rate > 0 {
				t.at = began.Add(time.Duration(n) * time.Second / time.Duration(r.cfg.Rate))
				if wait := time.Until(t.at); wait > 0 {
					select {
					case <-ctx.Done():
						return
					case <-time.After(wait):
					}
				}
			}
			select {
			case <-ctx.Done():
				return
			case tickets <- t:
			}
		}
	}()
	return tickets
}

func (r *run) tell(ctx context.Context, began time.Time) {
	if r.cfg.Progress == nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := int64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.endpoint.settled:
			return
		case <-tick.C:
			now := r.payments.Load()
			r.cfg.Progress(Progress{Elapsed: time.Since(began), Payments: now, LastRate: now - last, Errors: r.errors.Load()})
			last = now
		}
	}
}

func (r *run) result(elapsed time.Duration) *Result {
	e := r.endpoint
	result := &Result{
		Payments: r.payments.Load(), Calls: r.calls.Load(), Seconds: elapsed.Seconds(), Errors: r.errors.Load(), FirstErrors: r.failed,
		LatencyMillis: make(map[string]Latency), CallbackDelay: e.delays.latency(), Notifications: e.received.Load(),
		Forged: e.forged.Load(), Missing: e.missing(),
	}
	result.PaymentsPerSecond = float64(result.Payments) / elapsed.Seconds()
	result.CallsPerSecond = float64(result.Calls) / elapsed.Seconds()
	for i := range r.latencies {
		result.LatencyMillis[Calls[i]] = r.latencies[i].latency()
	}
	return result
}

// simCard is a card of the simulator.
type simCard struct {
	PAN       string `json:"pan"`
	Exp       string `json:"exp"`
	CVC       string `json:"cvc"`
	Scheme    string `json:"scheme"`
	Behaviour string `json:"behaviour"`
	Phone     string `json:"phone"`
}

// chooseCard takes the scheme's first good card. Its code is the same each time, so that many payers
// can share it; it is learnt from an SMS, by one payment made for the purpose.
func (r *run) chooseCard(ctx context.Context) error {
	var cards []simCard
	if err := getJSON(ctx, r.cfg.Sim+"/sim/cards", &cards); err != nil {
		return err
	}
	for _, c := range cards {
		if c.Scheme == r.cfg.Method && c.Behaviour == "ok" {
			r.card = fmt.Appendf(nil, `{"pan":%q,"exp":%q,"method":%q,"cvc2":%q,"cardHolderName":"A PAYER","email":"payer@example.uz"}`, c.PAN, c.Exp, r.cfg.Method, c.CVC)
			return r.learnCode(ctx, c)
		}
	}
	return fmt.Errorf("the simulator has no good card of the scheme %s", r.cfg.Method)
}

// learnCode makes one payment up to the SMS.
func (r *run) learnCode(ctx context.Context, card simCard) error {
	client := &holdfast.Client{BaseURL: r.cfg.API, ShopID: r.cfg.Shops[0].ID, Secret: holdfast.Secret(r.cfg.Shops[0].Secret)}
	state, err := client.Prepare(ctx, holdfast.PrepareRequest{
		ShopTransactionID: holdfast.Text(r.name + "-code"), Test: true, TotalSum: "1.00", Currency: "UZS", ReturnURL: "https://shop.example/thanks",
	})
	if err != nil {
		return err
	}
	_, err = client.Pay(ctx, state.PaymentUUID, holdfast.PayRequest{PAN: holdfast.Secret(card.PAN), Exp: card.Exp, Method: r.cfg.Method, CVC2: holdfast.Secret(card.CVC)})
	if err != nil {
		return err
	}
	var messages []struct {
		Code string `json:"code"`
	}
	if err := getJSON(ctx, r.cfg.Sim+"/sim/sms?limit=1&phone="+card.Phone, &messages); err != nil {
		return err
	}
	if len(messages) == 0 {
		return errors.New("the simulator sent no SMS for the card")
	}
	r.code = messages[0].Code
	return nil
}

func getJSON(ctx context.Context, address string, to any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("the simulator does not answer: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, longestAnswer))
	if err != nil {
		return err
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(to); err != nil {
		return fmt.Errorf("%s does not answer as a simulator does: %w", address, err)
	}
	return nil
}
