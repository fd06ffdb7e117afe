package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof" // on --debug-listen, and nowhere else
	"net/netip"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"holdfast/internal/gateway"
	"holdfast/internal/inward"
	"holdfast/internal/merchant"
	"holdfast/internal/metrics"
	"holdfast/internal/notify"
	"holdfast/internal/outward"
	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/vault"
	"holdfast/internal/web"
	"holdfast/internal/web/api"
	"holdfast/internal/web/pages"
)

type serveCmd struct {
	data
	Listen      string        `help:"Address to serve on, where systemd hands over no socket." default:"127.0.0.1:8080" placeholder:"ADDRESS"`
	APIURL      string        `name:"api-url" help:"Where merchants reach the API; default: the address served on." placeholder:"URL"`
	PayURL      string        `name:"pay-url" help:"Where payers reach the pages; default: the address served on." placeholder:"URL"`
	TLSCert     string        `name:"tls-cert" help:"Certificate for HTTPS (PEM)." type:"existingfile" placeholder:"FILE"`
	TLSKey      string        `name:"tls-key" help:"Its private key (PEM)." type:"existingfile" placeholder:"FILE"`
	Proxy       []string      `help:"Address or network of a reverse proxy whose X-Forwarded-For is believed; those on this machine are. Repeatable." placeholder:"NETWORK"`
	Sim         string        `help:"A simulator (holdfast sim): for test payments, and for all where no real centre is set." placeholder:"URL"`
	HoldTimeout time.Duration `help:"How long a hold waits for a decision where the shop sets nothing." default:"30m"`
	Doubt       time.Duration `help:"How long after an operation a centre's \"not found\" proves nothing." default:"2m"`
	Gone        []string      `help:"A contract of which nobody can ask any more what was paid there since a backup was taken that was restored. Repeatable." placeholder:"NAME"`
	DebugListen string        `help:"Loopback address for profiles of the running process (net/http/pprof) and the store's counts of commits (/debug/store); default: none." placeholder:"ADDRESS"`
	// Unlike DebugListen it may be reached from another machine: the scraper is one.
	MetricsListen string `help:"Address for what the gateway counts, in Prometheus' text format (/metrics), over plain HTTP; there are no secrets in it; default: none." placeholder:"ADDRESS"`
	JSON          bool   `help:"Say where it serves as one line of JSON, once it is ready."`

	centreFlags
	logging
}

func (c *serveCmd) Help() string {
	return `Examples:

  holdfast serve --data /var/lib/holdfast --listen 127.0.0.1:8080 --sim http://127.0.0.1:8090
      for development: every payment goes to the simulator

  HOLDFAST_UZCARD_PASSWORD=... holdfast serve --data /var/lib/holdfast --uzcard-url https://svgate.bank.example/api \
      --uzcard-login shop --uzcard-merchant 90123456 --uzcard-terminal 92400001 --sim http://127.0.0.1:8090
      real payments go to the centre, those with test: true to the simulator

GET /healthz says that it runs, GET /readyz that it can take payments.`
}

func (c *serveCmd) Run(ctx context.Context, p program) error {
	if err := cmp.Or(loopback(c.DebugListen), reachable(c.MetricsListen)); err != nil {
		return err
	}
	log := c.logger(p.stderr)
	var profiles, scraped side
	defer profiles.close()
	defer scraped.close()
	if err := cmp.Or(profiles.open("--debug-listen", c.DebugListen), scraped.open("--metrics-listen", c.MetricsListen)); err != nil {
		return err
	}
	g, err := c.start(log)
	if err != nil {
		return err
	}
	says := map[string]string{"api": g.apiURL, "pages": g.payURL, "data": c.Data}
	if c.DebugListen != "" {
		says["debug"] = profiles.serve(plainServer(g.debug(), log), log)
	}
	if c.MetricsListen != "" {
		says["metrics"] = scraped.serve(web.SideServer(g.metrics(log), log), log) + metrics.Path
	}
	if c.JSON {
		err = p.print(says)
	} else {
		fmt.Fprintf(p.stdout, "holdfast serves at %s (data in %s). Stop it with Ctrl-C.\n", g.apiURL, c.Data)
	}
	version, _ := built()
	kind := "PostgreSQL"
	if g.store.Alone() {
		kind = "SQLite"
	}
	log.Info("serving", "address", g.address, "version", version, "store", kind, "centres", g.centres)
	tell(daemon.SdNotifyReady, log)
	watched, endWatch := context.WithCancel(ctx)
	var watchdog sync.WaitGroup
	watchdog.Go(func() { feed(watched, g.alive, log) })
	select {
	case <-ctx.Done():
	case err = <-g.failed:
	}
	endWatch()
	watchdog.Wait()
	tell(daemon.SdNotifyStopping, log)
	log.Info("stopping")
	began := time.Now()
	err = errors.Join(err, g.stop())
	log.Info("stopped", "took", time.Since(began))
	return err
}

// debugStore is where --debug-listen tells of the store's work.
const debugStore = "/debug/store"

// storeStats is what it tells, counted from the start of the process.
type storeStats struct {
	Commits    uint64 `json:"commits"`    // made durable
	Operations uint64 `json:"operations"` // answered by them
	Waiting    int    `json:"waiting"`    // handed in and not yet taken up
}

// debug serves what --debug-listen has beside the profiles.
func (g *running) debug() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", http.DefaultServeMux)
	mux.HandleFunc("GET "+debugStore, func(w http.ResponseWriter, _ *http.Request) {
		s := g.store.Stats()
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(storeStats{Commits: s.Commits, Operations: s.Jobs, Waiting: s.Waiting})
	})
	return mux
}

// metrics is what --metrics-listen serves.
func (g *running) metrics(log *slog.Logger) http.Handler {
	version, goVersion := built()
	return metrics.New(metrics.Config{
		Version: version, Go: goVersion, Store: g.store, Gateway: g.gateway, Notifier: g.notifier, Site: g.site, Ready: g.ready, Log: log,
	})
}

// ready says why the gateway cannot take payments now; nil: it can.
func (g *running) ready() error { return cmp.Or(g.store.Err(), g.store.Away(), g.gateway.Ready()) }

// running is a gateway that serves.
type running struct {
	apiURL, payURL string
	address        string // that it serves on
	centres        int    // that payments can go to; without a real one, the simulator's
	store          *store.Store
	vault          *vault.Vault
	gateway        *gateway.Gateway
	notifier       *notify.Notifier
	site           *web.Handler
	server         *inward.Server
	failed         chan error // the server's end, if nobody asked for it
	endLoops       context.CancelFunc
	loops          sync.WaitGroup
}

// start opens the store, takes up what an earlier process left, and serves.
func (c *serveCmd) start(log *slog.Logger) (*running, error) {
	if err := cmp.Or(complete("--api-url", c.APIURL, "https://api.example.uz"), complete("--pay-url", c.PayURL, "https://pay.example.uz")); err != nil {
		return nil, err
	}
	if err := c.check(c.Sim); err != nil {
		return nil, err
	}
	// A method that allows less cuts it down to that.
	if longest := merchant.LongestHold(string(payment.Uzcard)); c.HoldTimeout < time.Second || c.HoldTimeout > longest {
		return nil, fmt.Errorf("--hold-timeout is %s: use 1s to %s", c.HoldTimeout, longest)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return nil, errors.New("--tls-cert and --tls-key belong together: give both or none")
	}
	if c.TLSCert != "" {
		if _, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey); err != nil {
			return nil, fmt.Errorf("--tls-cert %s and --tls-key %s are not a certificate and its private key: %w", c.TLSCert, c.TLSKey, err)
		}
	}
	proxies, err := networks(c.Proxy)
	if err != nil {
		return nil, err
	}
	collectLess()
	s, v, err := c.open(true, log)
	if err != nil {
		return nil, err
	}
	g := &running{store: s, vault: v, failed: make(chan error, 1)}
	if err := g.serve(c, proxies, log); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return g, nil
}

// What a gateway keeps in memory is little, and what it throws away is much: with the usual settings an eighth
// of its time goes into collecting it.
const (
	garbagePercent = 400
	memoryBytes    = 192 << 20 // from here on it collects as often as it must
)

// collectLess tunes the garbage collector, where the environment does not.
func collectLess() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(garbagePercent)
		debug.SetMemoryLimit(memoryBytes)
	}
}

func (g *running) serve(c *serveCmd, proxies []netip.Prefix, log *slog.Logger) (err error) {
	listener, err := listen(c.Listen)
	if err != nil {
		return err
	}
	listener = web.Listener(listener, log)
	scheme := "http"
	if c.TLSCert != "" {
		scheme = "https"
	}
	base := scheme + "://" + listener.Addr().String()
	g.apiURL, g.payURL = strings.TrimSuffix(cmp.Or(c.APIURL, base), "/"), strings.TrimSuffix(cmp.Or(c.PayURL, base), "/")
	centres, err := c.connect(connecting{sim: c.Sim, doubt: c.Doubt, apiURL: g.apiURL, payURL: g.payURL, vault: g.vault, http: &http.Client{Transport: new(outward.Transport)}, log: log})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	if err := cmp.Or(knownAgain(g.store, centres.live, c.Gone, log), warnOfRoutes(g.store, centres.live, log)); err != nil {
		return errors.Join(err, listener.Close())
	}
	g.address, g.centres = listener.Addr().String(), len(centres.live)
	cfg := gateway.Config{Store: g.store, Live: centres.live, Test: centres.test, HoldFor: c.HoldTimeout, WrongCodes: gateway.WrongCodes, Log: log}
	if !centres.simulated { // a simulator's cards are everybody's, and its codes reach nobody
		cfg.CodesSent = gateway.CodesSent
	}
	g.gateway = gateway.New(cfg)
	g.notifier = notify.New(notify.Config{
		Store: g.store, Decide: g.gateway.Decide, AllowPrivate: centres.simulated, Log: log,
		UniqueKey: rememberKeys(g.vault),
	})
	ctx, endLoops := context.WithCancel(context.Background())
	g.endLoops = endLoops
	// Where nobody else serves from this store, what is open was left by a process that is gone.
	if err := g.store.ReleaseLeases(ctx); err != nil {
		return errors.Join(err, listener.Close())
	}
	if n, err := g.gateway.Inherit(ctx); err != nil {
		return errors.Join(err, listener.Close())
	} else if n > 0 {
		log.Info("questions were left open, and are taken up", "count", n)
	}
	g.loops.Go(func() { g.gateway.Run(ctx) })
	g.loops.Go(func() {
		if err := g.gateway.Reconcile(ctx); err != nil && ctx.Err() == nil {
			log.Error("the restored backup cannot be reconciled with the processing centres; start again to try again", "error", err)
		}
	})
	g.loops.Go(func() { g.notifier.Run(ctx) })

	site := web.Site{
		API:   api.New(api.Config{Gateway: g.gateway, Store: g.store, PayURL: g.payURL, Log: log}),
		Calls: api.Calls,
		Pages: pages.New(pages.Config{Gateway: g.gateway, Store: g.store, BaseURL: g.payURL, Log: log}),
		Paths: pages.Paths,
		Others: map[string]http.Handler{
			callbackElement: acquirerCallback(g.gateway, g.store, centres.signers, log),
		},
		Proxies: proxies,
		Ready:   g.ready,
		Log:     log,
	}
	g.site = site.Handler()
	g.server = web.Server(g.site, log)
	go func() {
		var err error
		if c.TLSCert != "" {
			err = g.server.HTTP.ServeTLS(listener, c.TLSCert, c.TLSKey)
		} else {
			err = g.server.Serve(listener)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			g.failed <- fmt.Errorf("the server ended: %w", err)
		}
	}()
	return nil
}

// knownAgain notes which contracts are connected, for a store that a backup brings back: of that, none may be missing that payments
// could go to when it was taken. What was paid there since would be ended unasked, for the others know nothing of it. gone are
// those of which the operator says that nobody can ask them any more.
func knownAgain(s *store.Store, live gateway.Centres, gone []string, log *slog.Logger) error {
	ctx := context.Background()
	before, err := s.Contracts(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, centre := range live {
		names = append(names, centre.Name())
	}
	slices.Sort(names)
	restored := s.Restored()
	behind := !restored.At.IsZero() && !restored.Reconciled
	for _, name := range before {
		switch {
		case slices.Contains(names, name):
		case !behind:
			log.Warn("a contract that was connected at the last start is not now: what is under way there stays as it is", "contract", name)
		case slices.Contains(gone, name):
			log.Warn("a contract is gone: what was paid there since the backup was taken is not asked about", "contract", name)
		default:
			return fmt.Errorf("the contract %s was connected when the backup was taken that this store was restored from, and is not now: connect it again, for what was paid there since would be ended without asking it (where nobody can ask it any more: --gone %[1]s)", name)
		}
	}
	if slices.Equal(before, names) {
		return nil
	}
	return s.SetContracts(ctx, names)
}

// warnOfRoutes tells of shops whose payments go to a contract that is not connected.
func warnOfRoutes(s *store.Store, live gateway.Centres, log *slog.Logger) error {
	shops, err := s.Shops(context.Background())
	for _, shop := range shops {
		for kind, contract := range shop.Settings.Routes {
			if !slices.ContainsFunc(live, func(c gateway.Centre) bool { return c.Name() == contract }) {
				log.Warn("a shop's payments go to a contract that is not connected, and are refused", "shop", shop.ID, "payments", kind, "contract", contract)
			}
		}
	}
	return err
}

// complete refuses a flag's address that others could not be sent to; none is good.
func complete(flag, address, example string) error {
	if address == "" {
		return nil
	}
	if base, err := url.Parse(address); err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return fmt.Errorf("%s %q is not a complete address such as %s", flag, address, example)
	}
	return nil
}

// loopback refuses a --debug-listen that others than this machine could reach: a profile shows what is in the memory of
// a process through which card numbers go.
func loopback(address string) error {
	if address == "" {
		return nil
	}
	if at, err := net.ResolveTCPAddr("tcp", address); err != nil || !at.IP.IsLoopback() {
		return fmt.Errorf("--debug-listen %q is not an address on the loopback interface such as 127.0.0.1:6060, and nobody else may see profiles", address)
	}
	return nil
}

// reachable refuses a --metrics-listen that nobody can listen on.
func reachable(address string) error {
	if address == "" {
		return nil
	}
	if _, err := net.ResolveTCPAddr("tcp", address); err != nil {
		return fmt.Errorf("--metrics-listen %q is not an address such as 10.0.0.5:9464", address)
	}
	return nil
}

// networks reads --proxy: networks, or single addresses.
func networks(texts []string) (list []netip.Prefix, err error) {
	for _, text := range texts {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			address, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("--proxy %q is neither an address such as 10.0.0.7 nor a network such as 10.0.0.0/8", text)
			}
			network = netip.PrefixFrom(address, address.BitLen())
		}
		list = append(list, network)
	}
	return list, nil
}

// How long requests under way may take to end when the gateway is stopped, and how long then what it does
// by itself: what a centre or a shop has not answered by then is taken up at the next start.
const (
	stopWithin  = 20 * time.Second
	loopsWithin = 10 * time.Second
)

// stop ends what is under way and closes the store.
func (g *running) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	err := g.server.Shutdown(ctx)
	if err != nil {
		err = fmt.Errorf("requests under way did not end within %s, and are taken up at the next start: %w", stopWithin, errors.Join(err, g.server.Close()))
	}
	g.endLoops()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.loops.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(loopsWithin):
		err = errors.Join(err, fmt.Errorf("questions or notifications under way did not end within %s, and are taken up at the next start", loopsWithin))
	}
	return errors.Join(err, g.store.Close())
}

// keyFile is the vault's key in the data directory.
const keyFile = "holdfast.key"

const purposeUniqueKey = "unique_key"

func uniqueKey(v *vault.Vault, shop merchant.Shop) (string, error) {
	key, err := v.Unseal(purposeUniqueKey, shop.UniqueKey)
	return string(key), err
}

// keysRemembered bounds how many unsealed keys are kept in memory.
const keysRemembered = 10_000

// rememberKeys is uniqueKey for those who need the same keys again and again: unsealing one costs more than the
// signatures that are made with it.
func rememberKeys(v *vault.Vault) func(merchant.Shop) (string, error) {
	var mu sync.Mutex
	keys := make(map[string]string) // by how they are sealed
	return func(shop merchant.Shop) (string, error) {
		sealed := string(shop.UniqueKey)
		mu.Lock()
		key, ok := keys[sealed]
		mu.Unlock()
		if ok {
			return key, nil
		}
		key, err := uniqueKey(v, shop)
		if err != nil {
			return "", err
		}
		mu.Lock()
		defer mu.Unlock()
		if len(keys) >= keysRemembered {
			clear(keys)
		}
		keys[sealed] = key
		return key, nil
	}
}

// listenAndServe serves a handler on an address until stop is called.
func listenAndServe(address string, h http.Handler, log *slog.Logger) (baseURL string, stop func() error, err error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", nil, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	server := plainServer(h, log)
	go serveOn(listener, server, log)
	return "http://" + listener.Addr().String(), func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		return server.Shutdown(ctx)
	}, nil
}

// plainServer is a server for who is on this machine.
func plainServer(h http.Handler, log *slog.Logger) *inward.Server {
	return &inward.Server{HTTP: &http.Server{
		Handler: h, ReadTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
}

// serveOn has a server serve until it is ended.
func serveOn(listener net.Listener, server *inward.Server, log *slog.Logger) {
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Error("a server ended", "address", listener.Addr(), "error", err)
	}
}

// side is a server beside the gateway's, on an address of its own. It has the address before the gateway serves, so that one that
// cannot be had ends none that does; until then whoever connects waits.
type side struct {
	listener net.Listener
	server   *inward.Server
}

// open takes the address that a flag gives, if it gives one.
func (s *side) open(flag, address string) (err error) {
	if address == "" {
		return nil
	}
	if s.listener, err = net.Listen("tcp", address); err != nil {
		return fmt.Errorf("cannot listen on %s: %w: use another %s", address, err, flag)
	}
	return nil
}

func (s *side) serve(server *inward.Server, log *slog.Logger) (baseURL string) {
	s.server = server
	go serveOn(s.listener, server, log)
	return "http://" + s.listener.Addr().String()
}

// close ends it at once: whoever asks and does not read must not hold up the end.
func (s *side) close() {
	switch {
	case s.server != nil:
		s.server.Close()
	case s.listener != nil:
		s.listener.Close()
	}
}

// quiet is a logger that says only what goes wrong.
func quiet(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelError}))
}
