package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"

	"holdfast/internal/sim"
)

type simCmd struct {
	Listen string `help:"Address to serve on." default:"127.0.0.1:8090" placeholder:"ADDRESS"`
	JSON   bool   `help:"Say where it serves as one line of JSON, once it is ready."`
	logging
}

func (c *simCmd) Help() string {
	return `The simulator keeps its cards, SMS messages and books in memory: a restart forgets them.

  holdfast sim --listen 127.0.0.1:8090
  curl http://127.0.0.1:8090/sim/cards        test cards, and what each of them does
  curl http://127.0.0.1:8090/sim/sms          the SMS inbox, newest first
  curl http://127.0.0.1:8090/sim/books        what the centre believes about money
  curl http://127.0.0.1:8090/sim/faults -d '{"method":"hold.create","fault":"answer_lost","times":1}'

The same for people, in a browser: http://127.0.0.1:8090/`
}

func (c *simCmd) Run(ctx context.Context, p program) error {
	collectLess()
	oneProcessor()
	log := c.logger(p.stderr)
	url, stop, err := serveSim(c.Listen, log)
	if err != nil {
		return fmt.Errorf("%w: use another --listen", err)
	}
	if c.JSON {
		err = p.print(map[string]string{"sim": url})
	} else {
		_, err = fmt.Fprintf(p.stdout, "The simulator serves at %s. Stop it with Ctrl-C.\n", url)
	}
	if err == nil {
		<-ctx.Done()
	}
	return errors.Join(err, stop())
}

// serveSim serves a simulator on a loopback address until stop is called.
func serveSim(address string, log *slog.Logger) (url string, stop func() error, err error) {
	s := sim.New(sim.Config{Logger: log})
	url, stopServing, err := listenAndServe(address, s.Handler(), log)
	return url, func() error {
		s.ClearFaults() // who withholds an answer would keep the server waiting
		return stopServing()
	}, err
}

// oneProcessor makes the program run Go on one processor, unless GOMAXPROCS says otherwise. A simulator's work is a few
// microseconds a call: one processor does all of it, and on two a good part would be looking for work in vain, on the
// machine on which the gateway is measured.
func oneProcessor() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
}
