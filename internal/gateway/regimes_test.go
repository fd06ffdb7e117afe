package gateway_test

import (
	"os"
	"strconv"
	"testing"

	"holdfast/internal/gateway"
	"holdfast/internal/postgrestest"
	"holdfast/internal/store"
)

// The storm, the histories and the edge of the deadline are played on each way to keep payments. A
// further one (another database, more gateways on it) is a further line in engines and nothing else.

// opener opens the store of a gateway. first is the store of the gateway that was opened first on the
// same database, or nil: whoever cannot have two stores on one database gives that one again.
type opener func(cfg store.Config, first *store.Store) (*store.Store, error)

// engine is where payments are kept, and how many gateways serve from there.
type engine struct {
	name     string
	open     opener
	database func(testing.TB) (dsn string) // a new one of PostgreSQL; nil: a file
	gateways int
}

var engines = []engine{
	{"SQLite", openSQLite, nil, 1},
	{"SQLite, two gateways", openSQLite, nil, 2},
	{"PostgreSQL", openPostgreSQL, postgrestest.Database, 1},
	{"PostgreSQL, two gateways", openPostgreSQL, postgrestest.Database, 2},
}

// openPostgreSQL: each gateway has a store of its own on the database.
func openPostgreSQL(cfg store.Config, _ *store.Store) (*store.Store, error) { return store.Open(cfg) }

// openSQLite: one process serves from a SQLite file, so its gateways share the store. They share nothing
// else, and neither knows what the other asks.
func openSQLite(cfg store.Config, first *store.Store) (*store.Store, error) {
	if first != nil {
		return first, nil
	}
	return store.Open(cfg)
}

// other is a further gateway on the same database.
type other struct {
	store   *store.Store
	gateway *gateway.Gateway
}

func onEachEngine(t *testing.T, play func(t *testing.T, w func() *world)) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			play(t, func() *world { return newWorldOn(t, e) })
		})
	}
}

// door is the gateway that caller i comes to.
func (w *world) door(i int) *gateway.Gateway {
	if i %= len(w.others) + 1; i > 0 {
		return w.others[i-1].gateway
	}
	return w.gateway
}

// stormRounds is how often a regime is played: short, or as often as STORM says (make storm).
func stormRounds(t *testing.T, short int) int {
	text := os.Getenv("STORM")
	if text == "" {
		return short
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("STORM=%q is not a number of rounds", text)
	}
	return n
}
