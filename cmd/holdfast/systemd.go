package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// Under systemd the gateway takes the socket that systemd keeps open while it restarts, says when it takes payments
// and when it stops, and feeds the watchdog, which restarts a gateway that no longer gets anything done. Without
// systemd nothing of this happens.

// listen takes the socket that systemd hands over (sd_listen_fds(3)), and where there is none opens the address.
func listen(address string) (net.Listener, error) {
	given, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("the socket from systemd cannot be used: %w", err)
	}
	switch {
	case len(given) == 1 && given[0] != nil:
		return given[0], nil
	case len(given) > 0:
		for _, l := range given {
			if l != nil {
				err = errors.Join(err, l.Close())
			}
		}
		return nil, errors.Join(fmt.Errorf("systemd hands over %d sockets, and holdfast serves on one that takes connections: keep one ListenStream= in its .socket unit", len(given)), err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w (use another --listen)", address, err)
	}
	return l, nil
}

// tell tells systemd what the service does (sd_notify(3)).
func tell(state string, log *slog.Logger) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd cannot be told what the gateway does; it will think that it hangs", "state", state, "error", err)
	}
}

// feed feeds systemd's watchdog, twice in each of its intervals, while alive returns nil, until ctx ends. It returns
// at once where there is no watchdog.
func feed(ctx context.Context, alive func(now time.Time) error, log *slog.Logger) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Error("the watchdog that systemd wants cannot be fed", "error", err)
	}
	if interval <= 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for fed := true; ; {
		err := alive(time.Now())
		if err == nil {
			tell(daemon.SdNotifyWatchdog, log)
		} else if fed {
			log.Error("the watchdog is not fed; systemd restarts the gateway if this lasts", "error", err)
		}
		fed = err == nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// stuckAfter is how long a loop may get nothing done: more than a processing centre, a merchant and a database that
// fails over take together.
const stuckAfter = 2 * time.Minute

// alive says why the gateway does not do its work. What a restart cannot mend does not count, as long as it passes.
func (g *running) alive(now time.Time) error {
	if err := g.store.Err(); err != nil {
		return err
	}
	if g.store.Away() != nil { // the loops wait for it too
		return nil
	}
	for loop, last := range map[string]time.Time{"deadlines": g.gateway.Stepped(), "notifications": g.notifier.Stepped()} {
		if since := now.Sub(last); since > stuckAfter {
			return fmt.Errorf("nobody has looked after %s for %s", loop, since.Round(time.Second))
		}
	}
	return nil
}
