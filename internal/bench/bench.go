// Package bench drives whole payments through a running gateway as merchants and payers would,
// and measures. It knows the gateway by its public interface only; whether the books are right
// afterwards is looked at by the audit, without which a run has no result.
//
// Order to read: bench.go (a run), payer.go (the calls of a payment), endpoint.go (the merchant's side),
// loop.go (the sockets of both), watch.go (what the processes take of the machine), ceiling.go, plot.go.
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
	Scheme      string // uzcard, humo, visa or mastercard
	Concurrency int    // payers at once
	Rate        int    // payments begun a second, whether earlier ones have ended or not; 0: as fast as the payers can
	Payments    int    // end after so many; 0: no limit
	Duration    time.Duration
	Progress    func(Progress) // called every second; may be nil

	Processes map[string]int                   // to be watched: process ids by name
	Log       string                           // the store's write-ahead log, to be watched; empty: none
	Commits   func() (counted Work, err error) // what the gateway's store has done so far; may be nil
}

// Work is what a store has done.
type Work struct {
	Commits    int64 // made durable; one that wrote anything is a sync of the log
	Operations int64 // answered by them
}

// Progress is how a run stands.
type Progress struct {
	Elapsed  time.Duration
	Payments int64
	LastRate int64 // payments in the last second
	Errors   int64
}

// Result is what a run measured.
type Result struct {
	Payments          int64              `json:"payments"`
	Calls             int64              `json:"calls"`
	Seconds           float64            `json:"seconds"`
	PaymentsPerSecond float64            `json:"payments_per_second"`
	CallsPerSecond    float64            `json:"calls_per_second"`
	LatencyMillis     map[string]Latency `json:"latency_ms"`        // by call; the first one of a payment is counted from its intended start
	CallMillis        Latency            `json:"call_ms"`           // of all calls
	PaymentMillis     Latency            `json:"payment_ms"`        // of whole payments, from the intended start to the captured money
	CallbackDelay     Latency            `json:"callback_delay_ms"` // from the merchant's decision being answered to the notification of it
	Notifications     int64              `json:"notifications"`
	Forged            int64              `json:"notifications_forged"`  // not of this run, or sampled and not signed as they must be
	Missing           int64              `json:"notifications_missing"` // never came, although the bench waited
	Errors            int64              `json:"errors"`
	FirstErrors       []string           `json:"first_errors,omitempty"`

	Processes           map[string]Usage `json:"processes,omitempty"`
	CPUPerPayment       map[string]int64 `json:"cpu_us_per_payment,omitempty"`        // microseconds, by process
	BytesPerPayment     int64            `json:"bytes_written_per_payment,omitempty"` // to the disk, by the gateway
	Commits             int64            `json:"commits,omitempty"`                   // made durable, with one sync of the log each
	OperationsPerCommit float64          `json:"operations_per_commit,omitempty"`
	CommitsPerPayment   float64          `json:"commits_per_payment,omitempty"`
	LogPeakMiB          int64            `json:"wal_peak_mib,omitempty"`
	Samples             []Sample         `json:"samples"` // over the run, at most 120
}

// run is one measurement under way.
type run struct {
	cfg      Config
	loop     *loop
	address  string // of the gateway
	name     string // what the names of its payments begin with
	terms    []byte // the rest of prepare_payment's body
	card     []byte // pay's body
	code     string
	script   []*call
	endpoint *endpoint

	payers  []*payer
	idle    []*payer // have nothing to do; at a rate, until the next payment's start
	resting []*payer // have failed, until restUntil
	rest    time.Time
	looked  time.Time // when the payers were last looked at
	began   time.Time
	next    int // ticket
	over    bool

	payments, errors atomic.Int64 // for progress, which is told elsewhere
	calls            int64
	latencies        map[*call]*histogram
	all, payment     histogram
	firstErrors      []string
}

const (
	restAfterFailure = 100 * time.Millisecond
	lookEvery        = 250 * time.Millisecond
	keptErrors       = 5
)

// Run drives payments until the limits of cfg are reached or ctx ends.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if len(cfg.Shops) == 0 || cfg.Concurrency < 1 {
		return nil, errors.New("a bench needs a shop and at least one payer")
	}
	if cfg.Payments == 0 && cfg.Duration == 0 {
		return nil, errors.New("a bench needs an end: a number of payments or a duration")
	}
	api, err := url.Parse(cfg.API)
	if err != nil || api.Scheme != "http" || api.Port() == "" {
		return nil, fmt.Errorf("the gateway's address %q is not of the form http://127.0.0.1:8080", cfg.API)
	}
	r := &run{
		cfg: cfg, address: api.Host, name: fmt.Sprintf("bench-%x-", time.Now().UnixNano()), script: whole(cfg.Scheme),
		latencies: make(map[*call]*histogram),
	}
	for _, c := range r.script {
		r.latencies[c] = new(histogram)
	}
	if err := r.chooseCard(ctx); err != nil {
		return nil, err
	}
	if r.loop, err = newLoop(); err != nil {
		return nil, err
	}
	defer r.loop.close()
	if r.endpoint, err = listen(r.loop, r.name, cfg.Shops); err != nil {
		return nil, err
	}
	r.terms = fmt.Appendf(nil, `","auto_capture":false,"test":true,"init_time":"2026-01-02 09:17:00","total_sum":1000.00,"currency":"UZS",`+
		`"description":"A teapot","user_data":{"user_id":"7","phone":"998901234567","email":"payer@example.uz"},`+
		`"basket":[{"position_desc":"Teapot","count":1,"price":1000.00}],"payment_methods":[{"method":%q}],`+
		`"return_url":"https://shop.example/thanks","notify_url":%q,"language":"uz","ttl":15}`, methodOf(cfg.Scheme), r.endpoint.url)
	for range cfg.Concurrency {
		p := &payer{run: r}
		if err := p.connect(); err != nil {
			return nil, fmt.Errorf("the gateway cannot be reached: %w", err)
		}
		r.payers, r.idle = append(r.payers, p), append(r.idle, p)
	}
	return r.drive(ctx)
}

// methodOf is what the merchant API calls the way of paying with a scheme's cards.
func methodOf(scheme string) string {
	if scheme == "visa" || scheme == "mastercard" {
		return "bank_card"
	}
	return scheme
}

// drive lets the payers pay, and then waits for the notifications that are still to come.
func (r *run) drive(ctx context.Context) (*Result, error) {
	before, err := r.count()
	if err != nil {
		return nil, err
	}
	r.began = time.Now()
	watch := startWatch(r)
	err = r.loop.run(func() (time.Duration, bool) { return r.step(ctx) })
	elapsed := r.loop.now.Sub(r.began)
	result := r.result(elapsed)
	watch.end(result) // what follows is no part of the measurement
	if err != nil {
		return nil, err
	}
	after, err := r.count()
	if err != nil {
		return nil, err
	}
	if commits := after.Commits - before.Commits; commits > 0 {
		result.Commits = commits
		result.OperationsPerCommit = float64(after.Operations-before.Operations) / float64(commits)
		result.CommitsPerPayment = float64(commits) / float64(max(result.Payments, 1))
	}
	giveUp := time.Now().Add(settleWithin)
	err = r.loop.run(func() (time.Duration, bool) {
		return lookEvery, r.endpoint.missing() == 0 || r.loop.now.After(giveUp)
	})
	e := r.endpoint
	result.CallbackDelay, result.Notifications, result.Forged, result.Missing = e.delays.latency(), e.received, e.forged, e.missing()
	return result, err
}

func (r *run) count() (Work, error) {
	if r.cfg.Commits == nil {
		return Work{}, nil
	}
	return r.cfg.Commits()
}

// step gives idle payers what is to be begun now. It says until when there is nothing to begin, and
// whether the run is at its end.
func (r *run) step(ctx context.Context) (wait time.Duration, end bool) {
	now := r.loop.now
	r.over = r.over || ctx.Err() != nil || r.cfg.Duration > 0 && now.Sub(r.began) >= r.cfg.Duration
	if now.Sub(r.looked) >= lookEvery {
		r.looked = now
		for _, p := range r.payers {
			p.look(now)
		}
	}
	if len(r.resting) > 0 && !now.Before(r.rest) {
		r.idle, r.resting = append(r.idle, r.resting...), r.resting[:0]
	}
	for len(r.idle) > 0 {
		p := r.idle[len(r.idle)-1]
		n, at, ok := r.ticket(now)
		if !ok {
			break
		}
		r.idle = r.idle[:len(r.idle)-1]
		p.begin(n, at)
	}
	if r.over {
		return lookEvery, len(r.idle)+len(r.resting) == len(r.payers)
	}
	wait = lookEvery
	if len(r.resting) > 0 {
		wait = min(wait, r.rest.Sub(now))
	}
	if len(r.idle) > 0 && r.cfg.Rate > 0 {
		wait = min(wait, r.start(r.next).Sub(now))
	}
	return wait, false
}

// ticket is the right to begin a payment now; at is when it ought to begin.
func (r *run) ticket(now time.Time) (n int, at time.Time, ok bool) {
	if r.over || r.cfg.Payments > 0 && r.next >= r.cfg.Payments {
		r.over = true
		return 0, at, false
	}
	at = now
	if r.cfg.Rate > 0 {
		if at = r.start(r.next); at.After(now) {
			return 0, at, false
		}
	}
	r.next++
	return r.next - 1, at, true
}

// start is when a payment ought to begin at the rate.
func (r *run) start(n int) time.Time {
	return r.began.Add(time.Duration(n) * time.Second / time.Duration(r.cfg.Rate))
}

// took notes a call's time.
func (r *run) took(c *call, d time.Duration) {
	r.calls++
	r.latencies[c].add(d)
	r.all.add(d)
}

// paid notes a payment, and lets the payer begin the next one.
func (r *run) paid(p *payer, took time.Duration) {
	r.payments.Add(1)
	r.payment.add(took)
	if n, at, ok := r.ticket(r.loop.now); ok {
		p.begin(n, at)
		return
	}
	r.idle = append(r.idle, p)
}

// failed notes an error. The payer rests a little: where nobody listens errors come fast.
func (r *run) failed(err error, p *payer) {
	r.errors.Add(1)
	if len(r.firstErrors) < keptErrors {
		r.firstErrors = append(r.firstErrors, err.Error())
	}
	r.rest = r.loop.now.Add(restAfterFailure)
	r.resting = append(r.resting, p)
}

func (r *run) result(elapsed time.Duration) *Result {
	result := &Result{
		Payments: r.payments.Load(), Calls: r.calls, Seconds: elapsed.Seconds(), Errors: r.errors.Load(), FirstErrors: r.firstErrors,
		LatencyMillis: make(map[string]Latency), CallMillis: r.all.latency(), PaymentMillis: r.payment.latency(),
	}
	result.PaymentsPerSecond = float64(result.Payments) / elapsed.Seconds()
	result.CallsPerSecond = float64(result.Calls) / elapsed.Seconds()
	for c, h := range r.latencies {
		result.LatencyMillis[c.name] = h.latency()
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

// chooseCard takes a card that many payers can share. For Uzcard and Humo it is the scheme's first good one,
// whose code is the same each time and is learnt from an SMS, by one payment made for the purpose; for Visa
// and Mastercard the one whose bank asks nothing.
func (r *run) chooseCard(ctx context.Context) error {
	method, behaviour := methodOf(r.cfg.Scheme), "ok"
	if method == "bank_card" {
		behaviour = "frictionless"
	}
	var cards []simCard
	if err := getJSON(ctx, r.cfg.Sim+"/sim/cards", &cards); err != nil {
		return err
	}
	for _, c := range cards {
		if c.Scheme != r.cfg.Scheme || c.Behaviour != behaviour {
			continue
		}
		r.card = fmt.Appendf(nil, `{"pan":%q,"exp":%q,"method":%q,"cvc2":%q,"cardHolderName":"A PAYER","email":"payer@example.uz"}`, c.PAN, c.Exp, method, c.CVC)
		if behaviour == "frictionless" {
			return nil
		}
		return r.learnCode(ctx, c)
	}
	return fmt.Errorf("the simulator has no card of the scheme %s that is %s", r.cfg.Scheme, behaviour)
}

// learnCode makes one payment up to the SMS.
func (r *run) learnCode(ctx context.Context, card simCard) error {
	client := &holdfast.Client{BaseURL: r.cfg.API, ShopID: r.cfg.Shops[0].ID, Secret: holdfast.Secret(r.cfg.Shops[0].Secret)}
	state, err := client.Prepare(ctx, holdfast.PrepareRequest{
		ShopTransactionID: holdfast.Text(r.name + "code"), Test: true, TotalSum: "1.00", Currency: "UZS", ReturnURL: "https://shop.example/thanks",
	})
	if err != nil {
		return err
	}
	_, err = client.Pay(ctx, state.PaymentUUID, holdfast.PayRequest{PAN: holdfast.Secret(card.PAN), Exp: card.Exp, Method: r.cfg.Scheme, CVC2: holdfast.Secret(card.CVC)})
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
	body, err := io.ReadAll(io.LimitReader(res.Body, longestMessage))
	if err != nil {
		return err
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(to); err != nil {
		return fmt.Errorf("%s does not answer as a simulator does: %w", address, err)
	}
	return nil
}
