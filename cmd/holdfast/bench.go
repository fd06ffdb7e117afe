package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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
	Data        string        `help:"Where the store of --local is made and removed; default: the system's temporary directory." placeholder:"DIR"`
	API         string        `name:"api" help:"A running gateway to drive instead, with --sim, --shop-id, --secret and --unique-key." placeholder:"URL"`
	Sim         string        `help:"Its simulator." placeholder:"URL"`
	ShopID      int64         `help:"The shop to pay at." placeholder:"ID"`
	Secret      string        `help:"Its secret." placeholder:"SECRET"`
	UniqueKey   string        `help:"Its unique_key." placeholder:"KEY"`
	Concurrency int           `help:"Payers at once." default:"64"`
	Rate        int           `help:"Begin so many payments a second, whether earlier ones have ended or not (0: as fast as the payers can)."`
	Payments    int           `help:"End after so many payments (0: only --duration ends it)."`
	Duration    time.Duration `help:"End after this time." default:"30s"`
	Shops       int           `help:"Spread the payments over so many shops." default:"1"`
	Scheme      string        `help:"uzcard or humo." enum:"uzcard,humo" default:"uzcard"`
	DebugListen string        `help:"Loopback address for profiles of the gateway of --local." placeholder:"ADDRESS"`
	Preload     int           `help:"So many finished payments are in the store beforehand (with --local)."`
	Ceiling     bool          `help:"Also measure, before and after, a server that does nothing, with the same client and bodies."`
	JSON        bool          `help:"The result as one line of JSON."`

	ServeEmpty bool `hidden:"" help:"Serve the answers of a server that does nothing, for --ceiling."`
}

func (c *benchCmd) Help() string {
	return `Each payment is whole: prepare_payment, pay, verificationInfo, check_sms_key, set_accept, and its
three notifications received. Afterwards the books are checked; a run whose books are not right has
no result and ends 1.

  holdfast bench --local --duration 60s --concurrency 64 --ceiling --json
  holdfast bench --local --rate 500 --duration 60s      latencies at a fixed rate, from the intended start`
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

	Processes       map[string]usage `json:"processes,omitempty"`
	BytesPerPayment int64            `json:"bytes_written_per_payment,omitempty"` // by the gateway, to the disk
	CommitsPerOp    string           `json:"operations_per_commit,omitempty"`
	Concurrency     int              `json:"concurrency"`
	Rate            int              `json:"rate,omitempty"`
	Shops           int              `json:"shops"`
	Preloaded       int              `json:"preloaded,omitempty"`
	Machine         string           `json:"machine"`
	Problems        []string         `json:"problems,omitempty"`
}

// usage is what a process took of the machine.
type usage struct {
	CPUSeconds float64 `json:"cpu_seconds"`
	PeakMiB    int64   `json:"peak_mib"`
	WroteMiB   int64   `json:"wrote_mib"`
}

func (c *benchCmd) Run(ctx context.Context, p program) (err error) {
	if c.ServeEmpty {
		return bench.ServeEmpty(ctx, p.stdout)
	}
	if !c.Local && (c.API == "" || c.Sim == "" || c.ShopID == 0 || c.Secret == "") {
		return errors.New("use --local, or --api, --sim, --shop-id, --secret and --unique-key of a gateway that runs")
	}
	result := &benchResult{
		Concurrency: c.Concurrency, Rate: c.Rate, Shops: c.Shops, Preloaded: c.Preload,
		Machine: fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version()),
	}
	cfg := bench.Config{
		API: c.API, Sim: c.Sim, Method: c.Scheme, Concurrency: c.Concurrency, Rate: c.Rate, Payments: c.Payments, Duration: c.Duration,
		Shops: []bench.Shop{{ID: c.ShopID, Secret: c.Secret, UniqueKey: c.UniqueKey}},
		Progress: func(now bench.Progress) {
			fmt.Fprintf(p.stderr, "%4.0f s  %8d payments  %6d/s  %d errors\n", now.Elapsed.Seconds(), now.Payments, now.LastRate, now.Errors)
		},
	}
	measure := func() error {
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
	if c.Local {
		err = c.local(ctx, p, &cfg, result, measure)
	} else {
		err = measure()
		result.BooksClean = true // they are the other gateway's to audit
	}
	if err != nil {
		return err
	}
	if result.Errors > 0 || result.Missing > 0 || result.Forged > 0 {
		result.Problems = append(result.Problems, fmt.Sprintf("%d errors, %d notifications missing, %d not signed as they must be", result.Errors, result.Missing, result.Forged))
		result.Problems = append(result.Problems, result.FirstErrors...)
	}
	if c.JSON {
		err = p.print(result)
	} else {
		p.showBench(result)
	}
	if err == nil && (!result.BooksClean || result.Lost+result.Doubled+result.InDoubt > 0 || len(result.Problems) > 0) {
		return errors.New("this run has no result: " + strings.Join(append(result.Problems, fmt.Sprintf("lost %d, doubled %d, in doubt %d, books clean: %t",
			result.Lost, result.Doubled, result.InDoubt, result.BooksClean)), "; "))
	}
	return err
}

// local starts a simulator and a gateway as processes, measures, ends the gateway and checks the books.
func (c *benchCmd) local(ctx context.Context, p program, cfg *bench.Config, result *benchResult, measure func() error) (err error) {
	dir, err := os.MkdirTemp(c.Data, "holdfast-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cfg.Shops = nil
	err = onServingStore(dir, func(s *store.Store, v *vault.Vault) error {
		for i := range max(c.Shops, 1) {
			shop, err := createShop(ctx, s, v, "Bench "+strconv.Itoa(i+1), &settingFlags{Fee: []string{"2%"}})
			if err != nil {
				return err
			}
			cfg.Shops = append(cfg.Shops, bench.Shop{ID: shop.ShopID, Secret: shop.Secret, UniqueKey: shop.UniqueKey})
		}
		if c.Preload > 0 {
			return preload(ctx, s, cfg.Shops[0].ID, c.Preload, p.progress("made %d of %d finished payments"))
		}
		return nil
	})
	if err != nil {
		return err
	}
	since := time.Now()
	simulator, said, err := startSelf(p.stderr, "sim", "--listen", "127.0.0.1:0", "--json")
	if err != nil {
		return err
	}
	defer simulator.end()
	cfg.Sim = said["sim"]
	gateway, said, err := startSelf(p.stderr, "serve", "--data", dir, "--listen", "127.0.0.1:0", "--sim", cfg.Sim, "--log-level", "warn", "--debug-listen", c.DebugListen, "--json")
	if err != nil {
		return err
	}
	defer gateway.end()
	cfg.API = said["api"]
	before := map[string]usage{"gateway": gateway.usage(), "simulator": simulator.usage(), "load": usageOf(os.Getpid())}
	if err := measure(); err != nil {
		return err
	}
	result.Processes = make(map[string]usage)
	for name, after := range map[string]usage{"gateway": gateway.usage(), "simulator": simulator.usage(), "load": usageOf(os.Getpid())} {
		after.CPUSeconds -= before[name].CPUSeconds
		after.WroteMiB -= before[name].WroteMiB
		result.Processes[name] = after
	}
	if result.Payments > 0 {
		result.BytesPerPayment = result.Processes["gateway"].WroteMiB << 20 / result.Payments
	}
	if err := gateway.end(); err != nil {
		return fmt.Errorf("the gateway did not end as it should: %w", err)
	}
	return onStore(dir, func(s *store.Store, _ *vault.Vault) error {
		fmt.Fprintln(p.stderr, "checking the books")
		a, err := auditSince(ctx, s, cfg.Sim, since, p.progress("looked at %d of %d payments"))
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
	empty, said, err := startSelf(p.stderr, "bench", "--serve-empty")
	if err != nil {
		return err
	}
	defer empty.end()
	rate, err := bench.Ceiling(ctx, said["api"], c.Concurrency, max(c.Duration/10, 3*time.Second))
	result.CeilingCallsPerSecond = append(result.CeilingCallsPerSecond, rate)
	return err
}

// onServingStore is onStore for what only a serving process may do.
func onServingStore(dir string, f func(*store.Store, *vault.Vault) error) error {
	s, err := store.Open(store.Config{Dir: dir, Serve: true})
	if err != nil {
		return err
	}
	v, err := openVault(dir)
	if err == nil {
		err = f(s, v)
	}
	return errors.Join(err, s.Close())
}

// child is a process of ours.
type child struct {
	cmd   *exec.Cmd
	ended bool
}

// startSelf starts this program with other arguments and reads the line of JSON it says when it is ready.
func startSelf(stderr io.Writer, args ...string) (*child, map[string]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(self, args...)
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
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

func (c *child) usage() usage { return usageOf(c.cmd.Process.Pid) }

// usageOf reads what the kernel has counted for a process; where it tells nothing, zeros.
func usageOf(pid int) (u usage) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	if stat, err := os.ReadFile(filepath.Join(dir, "stat")); err == nil {
		_, rest, _ := strings.Cut(string(stat), ") ")
		if f := strings.Fields(rest); len(f) > 12 {
			ticks := 0
			for _, field := range f[11:13] {
				n, _ := strconv.Atoi(field)
				ticks += n
			}
			u.CPUSeconds = float64(ticks) / 100
		}
	}
	number := func(file, key string) int64 {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return 0
		}
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, key); ok {
				n, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
				return n
			}
		}
		return 0
	}
	u.PeakMiB = number("status", "VmHWM:") >> 10
	u.WroteMiB = number("io", "write_bytes:") >> 20
	return u
}

func (p program) showBench(r *benchResult) {
	fmt.Fprintf(p.stdout, "%d whole payments in %.1f s: %.0f/s, %.0f calls/s, %d errors\n", r.Payments, r.Seconds, r.PaymentsPerSecond, r.CallsPerSecond, r.Errors)
	if r.CeilingRatio > 0 {
		fmt.Fprintf(p.stdout, "a server that does nothing: %.0f and %.0f calls/s; ratio %.3f\n", r.CeilingCallsPerSecond[0], r.CeilingCallsPerSecond[1], r.CeilingRatio)
	}
	t := newTable(p.stdout, table.Row{"milliseconds", "p50", "p95", "p99", "p99.9", "max"})
	for _, call := range append(bench.Calls[:], "notification after decision") {
		l, ok := r.LatencyMillis[call]
		if !ok {
			l = r.CallbackDelay
		}
		t.AppendRow(table.Row{call, l.P50, l.P95, l.P99, l.P999, l.Max})
	}
	t.Render()
	for _, name := range []string{"gateway", "simulator", "load"} {
		if u, ok := r.Processes[name]; ok {
			fmt.Fprintf(p.stdout, "%-10s %6.1f s of CPU, %d MiB at most, wrote %d MiB\n", name, u.CPUSeconds, u.PeakMiB, u.WroteMiB)
		}
	}
	fmt.Fprintf(p.stdout, "lost %d, doubled %d, in doubt %d, books clean: %t\n", r.Lost, r.Doubled, r.InDoubt, r.BooksClean)
}

// preload makes finished payments, through the same decisions and commits as real ones, without
// asking a centre or telling a merchant.
func preload(ctx context.Context, s *store.Store, shop int64, count int, progress func(done, of int)) error {
	const atOnce = 256
	var made atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for worker := range atOnce {
		group.Go(func() error {
			for n := worker; n < count; n += atOnce {
				if err := finish(ctx, s, shop, fmt.Sprintf("preload-%d", n)); err != nil {
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

// finish makes one payment and brings it to its end.
func finish(ctx context.Context, s *store.Store, shop int64, name string) error {
	p, _, err := s.Create(ctx, shop, name, func(number int64, now time.Time) payment.Change {
		var random [10]byte
		rand.Read(random[:])
		return payment.New(payment.NewID(now, random), number, shop, payment.Terms{
			ShopPaymentID: name, Amount: money.New(100_000, money.UZS), Test: true, InitTime: now, ExpiresAt: now.Add(time.Hour),
			Methods: []payment.Method{payment.Uzcard}, Description: "A teapot", ReturnURL: "https://shop.example/thanks", Language: "uz",
			User: &payment.User{ID: "7", Phone: "998901234567", Email: "payer@example.uz"},
		}, now)
	})
	if err != nil {
		return err
	}
	attempt := payment.Attempt{
		Method: payment.Uzcard, Processor: "uzcard", Card: payment.CardFacts{Scheme: "uzcard", First6: "860031", Last4: "1293", Country: "UZ"},
		Input: "merchant_site", Fee: payment.FeeTerms{TariffID: 1, Rate: 20_000}, HoldFor: 1800, Limits: payment.Limits{AnswerMillis: 10_000},
	}
	steps := []payment.Command{
		payment.Pay{Attempt: attempt, VerifyID: 1},
		payment.SubmitCode{VerifyID: 1},
		nil, // the hold follows from the code
		payment.Decide{Accept: payment.Capture, By: payment.ByMerchant},
	}
	for _, command := range steps {
		if command != nil {
			_, err := s.Update(ctx, p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) { return payment.Begin(p, command, now) })
			if err != nil {
				return err
			}
		}
		_, err := s.Update(ctx, p.ID, func(p payment.Payment, now time.Time) (payment.Change, error) {
			answer := payment.Answer{Ref: p.Open.Ref, Outcome: payment.Approved, Centre: payment.Centre{RRN: "000000000001"}}
			if p.Open.Kind == payment.OpChallenge {
				answer.Outcome = payment.ChallengeGiven
			}
			return payment.Settle(p, answer, now), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
