package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof" // on --debug-listen, and nowhere else
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"holdfast/internal/gateway"
	"holdfast/internal/merchant"
	"holdfast/internal/notify"
	"holdfast/internal/payment"
	"holdfast/internal/processor/svgate"
	"holdfast/internal/store"
	"holdfast/internal/vault"
	"holdfast/internal/web"
	"holdfast/internal/web/api"
	"holdfast/internal/web/pages"
)

type serveCmd struct {
	data
	Listen      string        `help:"Address to serve on." default:"127.0.0.1:8080" placeholder:"ADDRESS"`
	APIURL      string        `name:"api-url" help:"Where merchants reach the API; default: the address served on." placeholder:"URL"`
	PayURL      string        `name:"pay-url" help:"Where payers reach the pages; default: the address served on." placeholder:"URL"`
	TLSCert     string        `name:"tls-cert" help:"Certificate for HTTPS (PEM)." type:"existingfile" placeholder:"FILE"`
	TLSKey      string        `name:"tls-key" help:"Its private key (PEM)." type:"existingfile" placeholder:"FILE"`
	Sim         string        `help:"A simulator (holdfast sim): for test payments, and for all where no real centre is set." placeholder:"URL"`
	HoldTimeout time.Duration `help:"How long a hold waits for a decision where the shop sets nothing." default:"30m"`
	Doubt       time.Duration `help:"How long after an operation a centre's \"not found\" proves nothing." default:"2m"`
	DebugListen string        `help:"Loopback address for profiles of the running process (net/http/pprof); default: none." placeholder:"ADDRESS"`
	JSON        bool          `help:"Say where it serves as one line of JSON, once it is ready."`

	Uzcard svgateFlags `embed:"" prefix:"uzcard-" group:"Uzcard (SVGate)"`
	logging
}

// svgateFlags is the contract with Uzcard's processing centre.
type svgateFlags struct {
	URL      string        `help:"SVGate's address." placeholder:"URL"`
	Login    string        `help:"Login at SVGate." placeholder:"NAME"`
	Password svgate.Secret `help:"Password at SVGate; better given as HOLDFAST_UZCARD_PASSWORD." placeholder:"SECRET"`
	Merchant string        `help:"Merchant id at SVGate." placeholder:"ID"`
	Terminal string        `help:"Terminal id at SVGate." placeholder:"ID"`
	Port     int           `help:"Port of the terminal at SVGate." default:"1"`
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

// What the simulator is told; it takes any merchant and terminal.
const (
	simLogin    = "holdfast"
	simMerchant = "90000001"
	simTerminal = "91000001"
)

// centres connects the processing centres that the flags name.
func (c *serveCmd) centres(log *slog.Logger) (live, test gateway.Centres, err error) {
	live, test = gateway.Centres{}, gateway.Centres{}
	if c.Sim != "" {
		base, err := url.Parse(c.Sim)
		if err != nil || base.Host == "" {
			return nil, nil, fmt.Errorf("--sim %q is not a complete address such as http://127.0.0.1:8090", c.Sim)
		}
		uzcard, err := svgate.New(svgate.Config{
			Endpoint: base.JoinPath("svgate").String(), Login: simLogin, Password: simLogin,
			MerchantID: simMerchant, TerminalID: simTerminal, Port: 1, Shown: c.Doubt, Log: log,
		})
		if err != nil {
			return nil, nil, fmt.Errorf("--sim: %w", err)
		}
		test[payment.Uzcard] = uzcard
	}
	if c.Uzcard.URL != "" {
		uzcard, err := svgate.New(svgate.Config{
			Endpoint: c.Uzcard.URL, Login: c.Uzcard.Login, Password: c.Uzcard.Password, MerchantID: c.Uzcard.Merchant,
			TerminalID: c.Uzcard.Terminal, Port: c.Uzcard.Port, Shown: c.Doubt, Log: log,
		})
		if err != nil {
			return nil, nil, fmt.Errorf("--uzcard-…: %w", err)
		}
		live[payment.Uzcard] = uzcard
	}
	switch {
	case len(live) == 0 && len(test) == 0:
		return nil, nil, errors.New("no processing centre is set: use --sim URL for development (start one with holdfast sim), or --uzcard-url")
	case len(live) == 0:
		live = test // nothing real is connected, so nothing real can happen
	}
	return live, test, nil
}

// simulated reports that every payment goes to a simulator.
func (c *serveCmd) simulated() bool { return c.Uzcard.URL == "" }

func (c *serveCmd) Run(ctx context.Context, p program) error {
	g, err := c.start(c.logger(p.stderr))
	if err != nil {
		return err
	}
	if c.JSON {
		err = p.print(map[string]string{"api": g.apiURL, "pages": g.payURL, "data": c.Data})
	} else {
		fmt.Fprintf(p.stdout, "holdfast serves at %s (data in %s). Stop it with Ctrl-C.\n", g.apiURL, c.Data)
	}
	if c.DebugListen != "" {
		_, stop, err := listenAndServe(c.DebugListen, http.DefaultServeMux, c.logger(p.stderr))
		if err != nil {
			return errors.Join(err, g.stop())
		}
		defer stop()
	}
	select {
	case <-ctx.Done():
	case err = <-g.failed:
	}
	return errors.Join(err, g.stop())
}

// running is a gateway that serves.
type running struct {
	apiURL, payURL string
	store          *store.Store
	vault          *vault.Vault
	gateway        *gateway.Gateway
	server         *http.Server
	failed         chan error // the server's end, if nobody asked for it
	endLoops       context.CancelFunc
	loops          sync.WaitGroup
}

// start opens the store, takes up what an earlier process left, and serves.
func (c *serveCmd) start(log *slog.Logger) (*running, error) {
	live, test, err := c.centres(log)
	if err != nil {
		return nil, err
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return nil, errors.New("--tls-cert and --tls-key belong together: give both or none")
	}
	s, err := store.Open(store.Config{Dir: c.Data, Serve: true, Log: log})
	if err != nil {
		return nil, err
	}
	g := &running{store: s, failed: make(chan error, 1)}
	if err := g.serve(c, live, test, log); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return g, nil
}

func (g *running) serve(c *serveCmd, live, test gateway.Centres, log *slog.Logger) (err error) {
	if g.vault, err = openVault(c.Data); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w (use another --listen)", c.Listen, err)
	}
	scheme := "http"
	if c.TLSCert != "" {
		scheme = "https"
	}
	base := scheme + "://" + listener.Addr().String()
	g.apiURL, g.payURL = orElse(c.APIURL, base), orElse(c.PayURL, base)
	g.gateway = gateway.New(gateway.Config{Store: g.store, Live: live, Test: test, HoldFor: c.HoldTimeout, Log: log})
	notifier := notify.New(notify.Config{
		Store: g.store, Decide: g.gateway.Decide, AllowPrivate: c.simulated(), Log: log,
		UniqueKey: func(shop merchant.Shop) (string, error) { return uniqueKey(g.vault, shop) },
	})
	// Nobody else serves from this store: what is open was left by a process that is gone.
	ctx, endLoops := context.WithCancel(context.Background())
	g.endLoops = endLoops
	if err := g.store.ReleaseLeases(ctx); err != nil {
		return errors.Join(err, listener.Close())
	}
	g.loops.Go(func() {
		if n, err := g.gateway.Recover(ctx); err != nil {
			log.Error("questions that were left open cannot all be taken up now; they are when they are due", "taken up", n, "error", err)
		} else if n > 0 {
			log.Info("took up questions that were left open", "count", n)
		}
		g.gateway.Run(ctx)
	})
	g.loops.Go(func() { notifier.Run(ctx) })

	site := web.Site{
		API:   api.New(api.Config{Gateway: g.gateway, Store: g.store, PayURL: g.payURL, Log: log}),
		Calls: api.Calls,
		Pages: pages.New(pages.Config{Gateway: g.gateway, Store: g.store, BaseURL: g.payURL, Log: log}),
		Paths: pages.Paths,
		Ready: g.store.Err,
		Log:   log,
	}
	g.server = web.Server(site.Handler(), log)
	go func() {
		var err error
		if c.TLSCert != "" {
			err = g.server.ServeTLS(listener, c.TLSCert, c.TLSKey)
		} else {
			err = g.server.Serve(listener)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			g.failed <- fmt.Errorf("the server ended: %w", err)
		}
	}()
	return nil
}

// stopWithin is how long requests under way may take to end when the gateway is stopped; what a
// centre has not answered by then is taken up at the next start.
const stopWithin = 20 * time.Second

// stop ends what is under way and closes the store.
func (g *running) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	err := g.server.Shutdown(ctx)
	g.endLoops()
	g.loops.Wait()
	return errors.Join(err, g.store.Close())
}

func openVault(dir string) (*vault.Vault, error) {
	return vault.Open(filepath.Join(dir, "holdfast.key"))
}

const purposeUniqueKey = "unique_key"

func uniqueKey(v *vault.Vault, shop merchant.Shop) (string, error) {
	key, err := v.Unseal(purposeUniqueKey, shop.UniqueKey)
	return string(key), err
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return strings.TrimSuffix(text, "/")
}

// listenAndServe serves a handler on a loopback address until stop is called.
func listenAndServe(address string, h http.Handler, log *slog.Logger) (baseURL string, stop func() error, err error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", nil, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("a server ended", "address", address, "error", err)
		}
	}()
	return "http://" + listener.Addr().String(), func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		return server.Shutdown(ctx)
	}, nil
}

// quiet is a logger that says only what goes wrong.
func quiet(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelError}))
}
