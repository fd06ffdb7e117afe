package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"holdfast"
	"holdfast/internal/demo"
)

type demoCmd struct {
	Listen     string `help:"Address of the gateway." default:"127.0.0.1:8080" placeholder:"ADDRESS"`
	SimListen  string `help:"Address of the simulator." default:"127.0.0.1:8090" placeholder:"ADDRESS"`
	ShopListen string `help:"Address of the shop." default:"127.0.0.1:8070" placeholder:"ADDRESS"`
	Data       string `help:"Data directory; default: a temporary one, removed at the end." placeholder:"DIR"`
	DB         string `name:"db" help:"Keep the store in this database of PostgreSQL, without --data in a schema of its own that is removed at the end." placeholder:"postgres://USER:PASSWORD@HOST/NAME"`
	Walk       bool   `help:"Play the flows of the two-stage payment, tell each step, check the books, and end."`
	JSON       bool   `help:"Say where everything is as one line of JSON, once it is ready."`
	logging
}

func (c *demoCmd) Help() string {
	return `Examples:

  holdfast demo            open the shop in a browser, buy something, decide about the money
  holdfast demo --walk     watch all flows on the terminal; ends 0 only if all is as it should be`
}

// walkHold is how long a hold of the second demo shop lasts: the walk shows what happens when nobody confirms.
const walkHold = 5 * time.Second

func (c *demoCmd) Run(ctx context.Context, p program) (err error) {
	log := c.logger(p.stderr)
	if c.Walk {
		log = quiet(p.stderr) // the walk tells what happens
	}
	place := data{Data: c.Data, DB: c.DB}
	if place.Data == "" {
		var drop func() error
		if place, drop, err = scratch(ctx, "", c.DB, "demo"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, drop()) }()
	}
	listen, simListen, shopListen := c.Listen, c.SimListen, c.ShopListen
	if c.Walk {
		// The walk needs nobody to find it, so it is in nobody's way.
		listen, simListen, shopListen = freePort(listen, "127.0.0.1:8080"), freePort(simListen, "127.0.0.1:8090"), ""
	}
	simURL, stopSim, err := serveSim(simListen, log)
	if err != nil {
		return fmt.Errorf("%w: use another --sim-listen", err)
	}
	defer func() { err = errors.Join(err, stopSim()) }()
	serve := serveCmd{data: place, Listen: listen, Sim: simURL, HoldTimeout: 30 * time.Minute, Doubt: 2 * time.Minute}
	g, err := serve.start(log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()

	shop, err := g.createShop(ctx, "Demo shop", settingFlags{Live: new(true), Fee: []string{"2%"}})
	if err != nil {
		return err
	}
	if c.Walk {
		return c.walk(ctx, p, g, simURL, shop)
	}
	base := "http://" + shopListen
	stopShop, err := c.openShop(shopListen, g.apiURL, simURL, shop, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopShop()) }()
	if c.JSON {
		err = p.print(map[string]any{
			"api": g.apiURL, "pages": g.payURL, "sim": simURL, "shop": base,
			"shop_id": shop.ShopID, "secret": shop.Secret, "unique_key": shop.UniqueKey,
		})
	} else {
		fmt.Fprintf(p.stdout, `Everything runs on this machine, and no real money moves. Stop it with Ctrl-C.

  the shop        %s     buy something here
  the SMS inbox   %s/sms    the payer's phone: read the code here
  the centre      %s     test cards, what each of them does, and the books
  the gateway     %s     where the shop sends its calls

  octo_shop_id    %d
  octo_secret     %s
  unique_key      %s

Open the shop, choose something, let it fill in a test card, read the code in the SMS inbox, and then
decide in the shop's own view of the payment: capture all, a part, or cancel.
`, base, simURL, simURL, g.apiURL, shop.ShopID, shop.Secret, shop.UniqueKey)
	}
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-g.failed:
		return err
	}
}

// freePort is any free port instead of the usual one, and what was asked for otherwise.
func freePort(asked, usual string) string {
	if asked == usual {
		return "127.0.0.1:0"
	}
	return asked
}

func (c *demoCmd) openShop(listen, apiURL, simURL string, shop createdShop, log *slog.Logger) (stop func() error, err error) {
	s := demo.NewShop(demo.Config{
		Gateway: apiURL, Sim: simURL, PublicURL: "http://" + listen, Credentials: credentials(shop), Logger: log,
	})
	_, stop, err = listenAndServe(listen, s.Handler(), log)
	if err != nil {
		return nil, fmt.Errorf("%w: use another --shop-listen", err)
	}
	return stop, nil
}

func credentials(shop createdShop) demo.Credentials {
	return demo.Credentials{ShopID: shop.ShopID, Secret: holdfast.Secret(shop.Secret), UniqueKey: holdfast.Secret(shop.UniqueKey)}
}

func (g *running) createShop(ctx context.Context, name string, flags settingFlags) (createdShop, error) {
	return createShop(ctx, g.store, g.vault, name, &flags)
}

// walk plays the flows and then holds our books against the centre's.
func (c *demoCmd) walk(ctx context.Context, p program, g *running, simURL string, shop createdShop) error {
	hasty, err := g.createShop(ctx, "Demo shop with short holds", settingFlags{Live: new(true), Fee: []string{"2%"}, Hold: []string{walkHold.String()}})
	if err != nil {
		return err
	}
	err = demo.Walk(ctx, demo.WalkConfig{
		Gateway: g.apiURL, Sim: simURL, Credentials: credentials(shop), ShortHold: credentials(hasty), ShortHoldTime: walkHold,
		Methods: []string{"uzcard", "humo", "bank_card"},
	}, p.stdout)
	if err != nil {
		return err
	}
	result, err := audit(ctx, g.store, simURL, nil)
	if err != nil {
		return err
	}
	fmt.Fprint(p.stdout, "\nOur ledger, derived again from its entries, beside the centre's books:\n")
	p.showAudit(result)
	if !result.Clean {
		return errSaid
	}
	return nil
}
