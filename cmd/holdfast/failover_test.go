package main

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"holdfast/internal/postgrestest"
)

// backWithin is how soon after the loss of its primary a gateway must take payments again.
const backWithin = 15 * time.Second

// TestFailover kills the primary of a PostgreSQL with a synchronous standby while payers pay at two gateways,
// and promotes the standby: the gateways follow by themselves, and nothing that was acknowledged is missing.
func TestFailover(t *testing.T) {
	primary := postgrestest.Start(t)
	database, err := url.Parse(primary.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	standby := primary.Standby(t, "second")
	s := newStageOn(t, postgrestest.DSN(strings.TrimPrefix(database.Path, "/"), primary, standby), "error", nil)
	gateways := []*stage{s, s.beside()}
	l := newLoad(t, gateways)
	before := eachPays(t, gateways, "before")
	primary.Kill(t)
	began := time.Now()
	standby.Promote(t)
	promoted := time.Since(began)
	eachPays(t, gateways, "after")
	back := time.Since(began)
	figures := l.end()
	t.Logf("figures: failover: the primary was killed; the standby was promoted after %s, both gateways paid again after %s (a payment took %s before); %s",
		promoted.Round(time.Millisecond), back.Round(time.Millisecond), before.Round(time.Millisecond), figures)
	if back > backWithin {
		t.Errorf("the gateways take payments again only after %s", back)
	}
}

// eachPays returns when each gateway has prepared a payment, and says how long the slowest took from the call on.
func eachPays(t *testing.T, gateways []*stage, name string) (took time.Duration) {
	t.Helper()
	began := time.Now()
	for i, s := range gateways {
		for {
			_, err := s.client().Prepare(t.Context(), prepare(name+"-"+string(rune('a'+i))))
			if err == nil {
				break
			}
			if time.Since(began) > patience {
				t.Fatalf("gateway %d takes no payment: %v", i, err)
			}
		}
	}
	return time.Since(began)
}
