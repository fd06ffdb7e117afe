package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"golang.org/x/sync/errgroup"

	"holdfast/internal/bench"
	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/vault"
)

type benchCmd struct {
	Local       bool          `help:"Start gateway and simulator as processes of their own, with a store on this machine's disk."`
	Data        string        `help:"With --local: where the store is made and removed (default: the system's temporary directory). Else the gateway's own data directory, for the check of the books." placeholder:"DIR"`
	DB          string        `name:"db" help:"With --local: a database of PostgreSQL, in which a schema is made and removed. Else the gateway's own. With a password better given as HOLDFAST_DB." placeholder:"postgres://USER:PASSWORD@HOST/NAME"`
	API         string        `name:"api" help:"A running gateway to drive instead, with --sim, --data, --shop-id, --secret and --unique-key." placeholder:"URL"`
	Sim         string        `help:"Its simulator, started on an empty store together with it." placeholder:"URL"`
	ShopID      int64         `help:"The shop to pay at." placeholder:"ID"`
	Secret      string        `help:"Its secret." placeholder:"SECRET"`
	UniqueKey   string        `help:"Its unique_key." placeholder:"KEY"`
	Concurrency int           `help:"Payers at once." default:"64"`
	Rate        int           `help:"Begin so many payments a second, whether earlier ones have ended or not (0: as fast as the payers can)."`
	Payments    int           `help:"End after so many payments (0: only --duration ends it)."`
	Duration    time.Duration `help:"End after this time." default:"30s"`
	Shops       int           `help:"Spread the payments over so many shops (with --local)." default:"1"`
	Scheme      string        `help:"uzcard, humo, visa or mastercard (through 3-D Secure, and the bank asks nothing)." enum:"uzcard,humo,visa,mastercard" default:"uzcard"`
	DebugListen string        `help:"Loopback address for profiles of the gateway of --local." default:"127.0.0.1:0" placeholder:"ADDRESS"`
	Preload     int           `help:"So many finished payments are in the store beforehand (with --local)."`
	Ceiling     bool          `help:"Also measure, before and after, a server that does nothing, with the same client and bodies."`
	Sweep       string        `help:"Several runs, each on a new store, with a flag's values in turn: concurrency, rate, shops or preload (with --local)." placeholder:"FLAG=N,N,..."`
	JSON        bool          `help:"The result as one line of JSON for each run."`

	ServeEmpty bool `hidden:"" help:"Serve the answers of a server that does nothing, for --ceiling."`
}

func (c *benchCmd) Help() string {
	return `Each payment is whole: prepare_payment, pay, verificationInfo, check_sms_key, set_accept, and its
notifications received and answered. Afterwards the books are checked; a run whose books are not
right has no result and ends 1. A running gateway must serve with --humo-otp pc for --scheme humo.

  holdfast bench --local --duration 60s --concurrency 64 --ceiling --json
  holdfast bench --local --rate 500 --duration 60s      latencies at a fixed rate, from the intended start
  holdfast bench --local --sweep concurrency=1,4,16,64,256 --json > runs.json
  holdfast bench --local --sweep preload=0,1000000      does it slow down as it fills?
  holdfast bench --local --sweep shops=1,100            is one busy shop a bottleneck?
  holdfast plot runs.json --out plots             SVG: rate, latencies, memory over time`
}

// benchResult is what bench prints.
type benchResult struct {
	*bench.Result
	CeilingCallsPerSecond []float64 `json:"ceiling_calls_per_second,omitempty"` // before and after
	CeilingRatio          float64   `json:"ceiling_ratio,omitempty"`

	Lost       int  `json:"lost"`
	Doubled    int  `json:"doubled"`
	InDoubt    int  `json:"in_doubt"`
	BooksClean bool `json:"books_clean"`

	StoreBytesPerPayment int64    `json:"store_bytes_per_payment,omitempty"` // of the file, after the run
	Scheme               string   `json:"scheme"`
	Concurrency          int      `json:"concurrency"`
	Rate                 int      `json:"rate,omitempty"`
	Shops                int      `json:"shops"`
	Preloaded            int      `json:"preloaded,omitempty"`
	Machine              string   `json:"machine"`
	Problems             []string `json:"problems,omitempty"`
}

func (c *benchCmd) Run(ctx context.Context, p program) error {
	if c.ServeEmpty {
		return bench.ServeEmpty(ctx, p.stdout)
	}
	if err := bench.Possible(); err != nil {
		return err
	}
	if !c.Local && (c.API == "" || c.Sim == "" || c.Data == "" || c.ShopID == 0 || c.Secret == "" || c.UniqueKey == "") {
		return errors.New("use --local, or --api, --sim, --data, --shop-id, --secret and --unique-key of a gateway that runs")
	}
	if !c.Local && (c.Shops != 1 || c.Preload != 0 || c.Sweep != "") {
		return errors.New("--shops, --preload and --sweep go with --local: they need a new store")
	}
	flag, runs, err := c.sweep()
	if err != nil {
		return err
	}
	var results []*benchResult
	for i := range runs {
		if len(runs) > 1 {
			fmt.Fprintf(p.stderr, "run %d of %d: %s\n", i+1, len(runs), runs[i].setting(flag))
		}
		result, err := runs[i].measure(ctx, p)
		if err != nil {
			return err
		}
		if c.JSON {
			err = p.print(result)
		} else {
			p.showBench(result)
		}
		if err == nil {
			err = result.check()
		}
		if err != nil {
			return err
		}
		results = append(results, result)
	}
	if len(runs) > 1 && !c.JSON {
		p.showSweep(flag, runs, results)
	}
	return nil
}

// sweep is the runs that are asked for, and the flag in which they differ.
func (c *benchCmd) sweep() (flag string, runs []benchCmd, err error) {
	if c.Sweep == "" {
		return "", []benchCmd{*c}, nil
	}
	flag, values, _ := strings.Cut(c.Sweep, "=")
	for value := range strings.SplitSeq(values, ",") {
		run := *c
		set := map[string]*int{"concurrency": &run.Concurrency, "rate": &run.Rate, "shops": &run.Shops, "preload": &run.Preload}[flag]
		if set == nil {
			return "", nil, fmt.Errorf("--sweep %s: the flag must be concurrency, rate, shops or preload", c.Sweep)
		}
		if *set, err = strconv.Atoi(value); err != nil || *set < 0 {
			return "", nil, fmt.Errorf("--sweep %s: %q is not a number; write it like concurrency=1,4,16", c.Sweep, value)
		}
		runs = append(runs, run)
	}
	return flag, runs, nil
}

// setting is a flag of a run as it was set.
func (c *benchCmd) setting(flag string) string {
	return fmt.Sprintf("--%s %d", flag, map[string]int{"concurrency": c.Concurrency, "rate": c.Rate, "shops": c.Shops, "preload": c.Preload}[flag])
}

// measure makes one run.
func (c *benchCmd) measure(ctx context.Context, p program) (*benchResult, error) {
	result := &benchResult{
		Scheme: c.Scheme, Concurrency: c.Concurrency, Rate: c.Rate, Shops: c.Shops, Preloaded: c.Preload, Machine: machine(),
	}
	cfg := bench.Config{
		API: c.API, Sim: c.Sim, Scheme: c.Scheme, Concurrency: c.Concurrency, Rate: c.Rate, Payments: c.Payments, Duration: c.Duration,
		Shops:     []bench.Shop{{ID: c.ShopID, Secret: c.Secret, UniqueKey: c.UniqueKey}},
		Processes: map[string]int{"load": os.Getpid()},
		Progress: func(now bench.Progress) {
			fmt.Fprintf(p.stderr, "%4.0f s  %8d payments  %6d/s  %d errors\n", now.Elapsed.Seconds(), now.Payments, now.LastRate, now.Errors)
		},
	}
	drive := c.drive
	if c.Local {
		drive = c.local
	}
	if err := drive(ctx, p, cfg, result); err != nil {
		return nil, err
	}
	if result.Payments == 0 {
		result.Problems = append(result.Problems, "no payment was made")
	}
	if result.Errors > 0 || result.Missing > 0 || result.Forged > 0 {
		result.Problems = append(result.Problems, fmt.Sprintf("%d errors, %d notifications missing, %d not signed as they must be", result.Errors, result.Missing, result.Forged))
		result.Problems = append(result.Problems, result.FirstErrors...)
	}
	return result, nil
}

// check is why a run has no result.
func (r *benchResult) check() error {
	if r.BooksClean && r.Lost+r.Doubled+r.InDoubt == 0 && len(r.Problems) == 0 {
		return nil
	}
	return errors.New("this run has no result: " + strings.Join(append(r.Problems, fmt.Sprintf("lost %d, doubled %d, in doubt %d, books clean: %t",
		r.Lost, r.Doubled, r.InDoubt, r.BooksClean)), "; "))
}

// drive measures a gateway that runs already, and checks its books while it serves. The simulator was started on an
// empty store together with it, so that all payments of both are compared.
func (c *benchCmd) drive(ctx context.Context, p program, cfg bench.Config, result *benchResult) error {
	if err := c.run(ctx, p, cfg, result); err != nil {
		return err
	}
	return checkBooks(ctx, p, data{Data: c.Data, DB: c.DB}, cfg.Sim, time.Time{}, result)
}

// run drives the payments, between two looks at the ceiling.
func (c *benchCmd) run(ctx context.Context, p program, cfg bench.Config, result *benchResult) (err error) {
	if c.Ceiling {
		if err := c.ceiling(ctx, result, p); err != nil {
			return err
		}
	}
	if result.Result, err = bench.Run(ctx, cfg); err != nil {
		return err
	}
	if c.Ceiling {
		if err := c.ceiling(ctx, result, p); err != nil {
			return err
		}
		result.CeilingRatio = 2 * result.CallsPerSecond / (result.CeilingCallsPerSecond[0] + result.CeilingCallsPerSecond[1])
	}
	return nil
}

// local starts a simulator and a gateway as processes, measures, ends the gateway and checks the books.
func (c *benchCmd) local(ctx context.Context, p program, cfg bench.Config, result *benchResult) (err error) {
	place, drop, err := scratch(ctx, c.Data, c.DB, "bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	if cfg.Shops, err = c.stock(ctx, p, place); err != nil {
		return err
	}
	since := time.Now()
	simulator, said, err := startSelf(p.stderr, nil, true, "sim", "--listen", "127.0.0.1:0", "--json", "--log-level", "warn")
	if err != nil {
		return err
	}
	defer simulator.end()
	cfg.Sim = said["sim"]
	gateway, said, err := startSelf(p.stderr, []string{"HOLDFAST_DB=" + place.DB}, false, "serve", "--data", place.Data, "--listen", "127.0.0.1:0", "--sim", cfg.Sim, "--log-level", "warn", "--debug-listen", c.DebugListen, "--json",
		"--humo-otp", "pc") // the code of a card that many payers share is known beforehand only if the centre makes it
	if err != nil {
		return err
	}
	defer gateway.end()
	cfg.API = said["api"]
	cfg.Processes[bench.Gateway], cfg.Processes["simulator"] = gateway.cmd.Process.Pid, simulator.cmd.Process.Pid
	if place.DB == "" {
		cfg.Log = filepath.Join(place.Data, store.File+"-wal")
	}
	cfg.Commits = func() (bench.Work, error) { return commitsOf(ctx, said["debug"]) }
	if err := c.run(ctx, p, cfg, result); err != nil {
		return err
	}
	if err := gateway.end(); err != nil {
		return fmt.Errorf("the gateway did not end as it should: %w", err)
	}
	if place.DB == "" {
		info, err := os.Stat(filepath.Join(place.Data, store.File))
		if err != nil {
			return err
		}
		result.StoreBytesPerPayment = info.Size() / max(result.Payments+int64(c.Preload), 1)
	}
	return checkBooks(ctx, p, place, cfg.Sim, since, result)
}

// stock makes a store with shops and, if asked for, finished payments.
func (c *benchCmd) stock(ctx context.Context, p program, place data) (shops []bench.Shop, err error) {
	return shops, place.onServingStore(func(s *store.Store, v *vault.Vault) error {
		for i := range max(c.Shops, 1) {
			shop, err := createShop(ctx, s, v, "Bench "+strconv.Itoa(i+1), &settingFlags{Fee: []string{"2%"}})
			if err != nil {
				return err
			}
			shops = append(shops, bench.Shop{ID: shop.ShopID, Secret: shop.Secret, UniqueKey: shop.UniqueKey})
		}
		return preload(ctx, s, shops, c.Preload, p.progress("made %d of %d finished payments"))
	})
}

// commitsOf asks the gateway what its store has done.
func commitsOf(ctx context.Context, debugURL string) (w bench.Work, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, debugURL+debugStore, nil)
	if err != nil {
		return w, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return w, fmt.Errorf("the gateway does not tell of its commits: %w", err)
	}
	defer res.Body.Close()
	var stats storeStats
	if err := json.NewDecoder(res.Body).Decode(&stats); err != nil {
		return w, fmt.Errorf("the gateway does not tell of its commits: %w", err)
	}
	return bench.Work{Commits: int64(stats.Commits), Operations: int64(stats.Operations)}, nil
}

// checkBooks audits the store and compares payments made since then with the simulator's books.
func checkBooks(ctx context.Context, p program, place data, sim string, since time.Time, result *benchResult) error {
	return place.onStore(func(s *store.Store, _ *vault.Vault) error {
		fmt.Fprintln(p.stderr, "checking the books")
		a, err := auditSince(ctx, s, sim, since, p.progress("looked at %d of %d payments"))
		if err != nil {
			return err
		}
		result.BooksClean, result.InDoubt = a.Clean, a.InDoubt
		result.Lost, result.Doubled = a.Books.Lost, a.Books.Doubled
		result.Problems = append(append(result.Problems, a.Violations...), a.Books.Differences...)
		return nil
	})
}

// ceiling measures the server that does nothing, as a process of its own.
func (c *benchCmd) ceiling(ctx context.Context, result *benchResult, p program) error {
	fmt.Fprintln(p.stderr, "measuring a server that does nothing")
	empty, said, err := startSelf(p.stderr, nil, false, "bench", "--serve-empty")
	if err != nil {
		return err
	}
	defer empty.end()
	rate, err := bench.Ceiling(ctx, said["api"], c.Concurrency, max(c.Duration/10, 3*time.Second))
	result.CeilingCallsPerSecond = append(result.CeilingCallsPerSecond, rate)
	return err
}

// machine names what a run was made on.
func machine() string {
	model := "processor unknown"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d cores (%s), %s/%s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// scratch is a place for a store that is not kept: a directory below parent ("": the system's), and in a database a schema.
func scratch(ctx context.Context, parent, db, what string) (place data, drop func() error, err error) {
	dir, err := os.MkdirTemp(parent, "holdfast-"+what+"-")
	if err != nil {
		return place, nil, err
	}
	place, drop = data{Data: dir}, func() error { return os.RemoveAll(dir) }
	if db != "" {
		own, dropSchema, err := store.Scratch(ctx, db, what)
		if err != nil {
			return place, nil, errors.Join(err, drop())
		}
		place.DB, drop = own, func() error { return errors.Join(dropSchema(), os.RemoveAll(dir)) }
	}
	return place, drop, nil
}

// child is a process of ours.
type child struct {
	cmd   *exec.Cmd
	ended bool
}

// startSelf starts this program with other arguments and reads the line of JSON it says when it is ready. own is added
// to the environment: unlike arguments, nobody else on the machine can read it. elsewhere is a process that stands for
// another machine (bench.Start).
func startSelf(stderr io.Writer, own []string, elsewhere bool, args ...string) (*child, map[string]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(self, args...)
	cmd.Env, cmd.Stderr = append(os.Environ(), own...), stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := bench.Start(cmd, elsewhere); err != nil {
		return nil, nil, err
	}
	c := &child{cmd: cmd}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var said map[string]string
	if err == nil {
		err = json.Unmarshal(line, &said)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("holdfast %s did not start: %w", args[0], err), c.end())
	}
	return c, said, nil
}

// end stops the process and waits for it; a second call does nothing.
func (c *child) end() error {
	if c.ended {
		return nil
	}
	c.ended = true
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return c.cmd.Wait()
}

func (p program) showBench(r *benchResult) {
	fmt.Fprintf(p.stdout, "%d whole payments in %.1f s: %.0f/s, %.0f calls/s, %d errors\n", r.Payments, r.Seconds, r.PaymentsPerSecond, r.CallsPerSecond, r.Errors)
	if r.CeilingRatio > 0 {
		fmt.Fprintf(p.stdout, "a server that does nothing: %.0f and %.0f calls/s; ratio %.3f\n", r.CeilingCallsPerSecond[0], r.CeilingCallsPerSecond[1], r.CeilingRatio)
	}
	times := newTable(p.stdout, table.Row{"milliseconds", "p50", "p95", "p99", "p99.9", "max"})
	row := func(name string, l bench.Latency) {
		cells := table.Row{name}
		for _, ms := range []float64{l.P50, l.P95, l.P99, l.P999, l.Max} {
			cells = append(cells, fmt.Sprintf("%.2f", ms))
		}
		times.AppendRow(cells)
	}
	for _, call := range bench.Calls() {
		if l, ok := r.LatencyMillis[call]; ok {
			row(call, l)
		}
	}
	row("any call", r.CallMillis)
	row("whole payment", r.PaymentMillis)
	row("notification after decision", r.CallbackDelay)
	times.Render()
	processes := newTable(p.stdout, table.Row{"process", "CPU s", "CPU µs a payment", "peak MiB", "wrote MiB"})
	for _, name := range slices.Sorted(maps.Keys(r.Processes)) {
		u := r.Processes[name]
		processes.AppendRow(table.Row{name, fmt.Sprintf("%.1f", u.CPUSeconds), r.CPUPerPayment[name], u.PeakMiB, u.WroteMiB})
	}
	processes.Render()
	if r.Commits > 0 {
		fmt.Fprintf(p.stdout, "%d durable commits: %.1f operations each, %.2f a payment; %d bytes written a payment; %d bytes of store a payment; log at most %d MiB\n",
			r.Commits, r.OperationsPerCommit, r.CommitsPerPayment, r.BytesPerPayment, r.StoreBytesPerPayment, r.LogPeakMiB)
	}
	fmt.Fprintf(p.stdout, "%d notifications; lost %d, doubled %d, in doubt %d, books clean: %t\n", r.Notifications, r.Lost, r.Doubled, r.InDoubt, r.BooksClean)
}

// showSweep holds the runs of a sweep against the first one.
func (p program) showSweep(flag string, runs []benchCmd, results []*benchResult) {
	t := newTable(p.stdout, table.Row{flag, "payments/s", "of the first", "call p50 ms", "p99", "p99.9", "gateway CPU µs a payment", "gateway peak MiB", "log peak MiB"})
	for i, r := range results {
		_, value, _ := strings.Cut(runs[i].setting(flag), " ")
		t.AppendRow(table.Row{
			value, fmt.Sprintf("%.0f", r.PaymentsPerSecond), fmt.Sprintf("%.2f", r.PaymentsPerSecond/results[0].PaymentsPerSecond),
			fmt.Sprintf("%.2f", r.CallMillis.P50), fmt.Sprintf("%.2f", r.CallMillis.P99), fmt.Sprintf("%.2f", r.CallMillis.P999),
			r.CPUPerPayment[bench.Gateway], r.Processes[bench.Gateway].PeakMiB, r.LogPeakMiB,
		})
	}
	t.Render()
}

// preload makes finished payments, through the same decisions, checks and commits as real ones, without
// asking a centre or telling a merchant. Each commit carries as many as it can.
func preload(ctx context.Context, s *store.Store, shops []bench.Shop, count int, progress func(done, of int)) error {
	const atOnce = 512 // two commits' worth: one is put together while the other is made
	var made atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for worker := range min(atOnce, count) {
		group.Go(func() error {
			for n := worker; n < count; n += atOnce {
				if err := finish(ctx, s, shops[n%len(shops)].ID, fmt.Sprintf("preload-%d", n)); err != nil {
					return err
				}
				if done := int(made.Add(1)); worker == 0 {
					progress(done, count)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// finish makes one payment and brings it to its end. Nobody stands between an answer and the next
// question here, so both go into one commit, as those of the code and the hold always do.
func finish(ctx context.Context, s *store.Store, shop int64, name string) error {
	pay := payment.Pay{VerifyID: 1, Attempt: payment.Attempt{
		Method: payment.Uzcard, Processor: "uzcard", Card: payment.CardFacts{Scheme: "uzcard", First6: "860031", Last4: "1293", Country: "UZ"},
		Input: "merchant_site", Fee: payment.FeeTerms{TariffID: 1, Rate: 20_000}, HoldFor: 1800, Limits: payment.Limits{AnswerMillis: 10_000},
	}}
	var refused error
	p, _, err := s.Create(ctx, shop, name, func(number int64, now time.Time) payment.Change {
		var random [10]byte
		rand.Read(random[:])
		made := payment.New(payment.NewID(now, random), number, shop, payment.Terms{
			ShopPaymentID: name, Amount: money.New(100_000, money.UZS), Test: true, InitTime: now, ExpiresAt: now.Add(time.Hour),
			Methods: []payment.Method{payment.Uzcard}, Description: "A teapot", ReturnURL: "https://shop.example/thanks", Language: "uz",
			User: &payment.User{ID: "7", Phone: "998901234567", Email: "payer@example.uz"},
		}, now)
		made, refused = then(made, pay, now)
		return made
	})
	if err := errors.Join(err, refused); err != nil {
		return err
	}
	for _, next := range []payment.Command{
		payment.SubmitCode{VerifyID: 1}, // once it is sent
		nil,                             // once it is right: the hold follows by itself
		payment.Decide{Accept: payment.Capture, By: payment.ByMerchant}, // once the money is held
		nil,
	} {
		_, err := s.Update(ctx, p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
			if p.Open == nil {
				return payment.Change{}, fmt.Errorf("%s came to the end of its time before it was made: the machine stood still, so begin again", name)
			}
			answer := payment.Answer{Ref: p.Open.Ref, Outcome: payment.Approved, Centre: payment.Centre{RRN: "000000000001"}}
			if p.Open.Kind == payment.OpChallenge {
				answer.Outcome = payment.ChallengeGiven
			}
			return then(payment.Settle(p, answer, now), next, now)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// then adds to a change what a command changes after it; nil is no command.
func then(c payment.Change, command payment.Command, now time.Time) (payment.Change, error) {
	if command == nil {
		return c, nil
	}
	next, err := payment.Begin(c.Payment, command, now)
	next.Closed = c.Closed // no question is open that the command could close
	next.Entries, next.Events = append(c.Entries, next.Entries...), append(c.Events, next.Events...)
	return next, err
}
