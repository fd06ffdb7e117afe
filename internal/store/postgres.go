package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// postgresEngine is a database of PostgreSQL: connections that write, and a pool that reads. Other gateways
// have theirs, and nobody tells us what they write.
//
// Order to read: postgres_write.go (hope and care), postgres_read.go, postgres_wire.go (how it is said), postgres_text.go (in which
// words), postgres_schema.go.
type postgresEngine struct {
	name     string // for errors: where it is
	database *pgx.ConnConfig
	writing  []*postgresWriter
	readers  *pgxpool.Pool
	finders  *pgxpool.Pool // for lookups
	lookups  lookups
	changed  func()      // it may be another database than before: one that was promoted, or restored
	missed   func(error) // a reader was told no
	standby  bool        // it takes no writes
	log      *slog.Logger

	readWithin time.Duration // one try of a gateway to read; 0: a person asks, and it may take as long as it takes

	queries sync.Map // of queryKey, texts in PostgreSQL's words
	texts   sync.Map // of *statement, its *manyRows
}

// The oldest server that the store is tested with in mind: 13 has all that is used here.
const oldestPostgres = 130000

const (
	connectWithin  = 5 * time.Second  // one try to reach the server, where the DSN does not say
	answerWithin   = 15 * time.Second // one round trip of a gateway
	clocksApart    = 10 * time.Second // how far a gateway's clock may be from the server's, and so two gateways' by twice as much
	rowsInOneBlock = 256
	staleCommitter = 30 * 24 * time.Hour
)

// Only a test changes these.
var (
	reachWithin   = 30 * time.Second // how long a batch, or a read, waits for a server that cannot be reached
	resolveWithin = 60 * time.Second // how long it waits to learn what became of a COMMIT
	machineTime   = time.Now         // what this machine's clock says, whatever Config.Now does
)

// openPostgres connects to a database and brings its schema up to date. A standby will do for who only reads.
func openPostgres(of Config, changed func(), missed func(error)) (e *postgresEngine, numberKey []byte, err error) {
	cfg, err := pgxpool.ParseConfig(of.DB)
	if err != nil {
		return nil, nil, fmt.Errorf("%w (%w)", errNoAddress, err)
	}
	c := cfg.ConnConfig
	if severalServers(c) && c.ValidateConnect == nil {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if !strings.Contains(of.DB, "pool_max_conns") {
		cfg.MaxConns = int32(of.Readers) + 1 // one takes row numbers
	}
	e = newPostgresEngine(c, of.Committers, changed, of.Log)
	e.missed = missed
	if of.Serve {
		e.readWithin = answerWithin
	} else {
		cfg.AfterConnect = asLongAsItTakes
	}
	ctx, cancel := context.WithTimeout(context.Background(), reachWithin)
	defer cancel()
	if err := e.writing[0].connect(ctx); err != nil {
		return nil, nil, e.explain(err)
	}
	if err := e.check(ctx, of.Serve); err != nil {
		return nil, nil, errors.Join(err, e.close())
	}
	if numberKey, err = e.migrate(context.Background()); err != nil {
		return nil, nil, errors.Join(err, e.close())
	}
	if e.readers, err = pgxpool.NewWithConfig(context.Background(), cfg); err != nil {
		return nil, nil, errors.Join(e.explain(err), e.close())
	}
	cfg = cfg.Copy()
	// One more, for a connection that does not answer keeps its place while it is being closed: up to 15 s.
	cfg.MaxConns, cfg.MinConns, cfg.MinIdleConns, cfg.AfterConnect = lookupsAtOnce+1, 0, 0, byKeys
	if e.finders, err = pgxpool.NewWithConfig(context.Background(), cfg); err != nil {
		return nil, nil, errors.Join(e.explain(err), e.close())
	}
	return e, numberKey, nil
}

// asLongAsItTakes is for who asks as a person: the statement_timeout of a gateway's role is none for the audit of a large store.
func asLongAsItTakes(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SET statement_timeout = 0`)
	return err
}

// severalServers reports whether an address names more than one server. (One has a fallback too, from TLS to none.)
func severalServers(c *pgx.ConnConfig) bool {
	return slices.ContainsFunc(c.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.Host != c.Host || f.Port != c.Port })
}

// newPostgresEngine sets in c what the address leaves open.
func newPostgresEngine(c *pgx.ConnConfig, writers int, changed func(), log *slog.Logger) *postgresEngine {
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectWithin
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "holdfast"
	}
	c.RuntimeParams["client_encoding"] = "UTF8" // whatever the role, the database or the address says: all our texts are
	e := &postgresEngine{
		name: fmt.Sprintf("the database %s at %s", c.Database, c.Host), database: c.Copy(), changed: changed, log: log,
	}
	e.database.DialFunc = uncancelled(c.DialFunc)
	for range writers {
		e.writing = append(e.writing, newPostgresWriter(e))
	}
	return e
}

// check refuses a server that would lose what it has acknowledged, or that a gateway could not write to.
func (e *postgresEngine) check(ctx context.Context, serve bool) error {
	settings := make(map[string]string)
	for _, name := range []string{"server_version_num", "server_version", "transaction_read_only", "synchronous_commit", "server_encoding"} {
		var value *string
		ask := `SELECT current_setting($1, true)`
		if name == "synchronous_commit" { // what it was before keySettings
			ask = `SELECT max(reset_val) FROM pg_settings WHERE name = $1`
		}
		if err := e.writing[0].conn.QueryRow(ctx, ask, name).Scan(&value); err != nil {
			return e.explain(err)
		}
		if value != nil {
			settings[name] = *value
		}
	}
	if n, err := strconv.Atoi(settings["server_version_num"]); err != nil || n < oldestPostgres {
		return fmt.Errorf("%s is PostgreSQL %s, and the store needs 13 or later: upgrade the server", e.name, settings["server_version"])
	}
	if e.standby = settings["transaction_read_only"] == "on"; e.standby && serve {
		return e.onlyReads()
	}
	if settings["synchronous_commit"] == "off" {
		return fmt.Errorf("%s acknowledges what is not on the disk yet (synchronous_commit is off): set it to on for this database or user", e.name)
	}
	if encoding := settings["server_encoding"]; encoding != "UTF8" && encoding != "SQL_ASCII" { // which keeps what it is given
		return fmt.Errorf("%s keeps texts in %s, which has no place for what shops and payers write: make it with createdb --encoding UTF8 --template template0", e.name, encoding)
	}
	if serve {
		return e.checkClock(ctx)
	}
	return nil
}

// checkClock refuses a gateway whose clock is not the server's. One whose clock is ahead of another gateway's takes what that one is
// asking a centre for something that was asked long ago, and the centre's word that it does not know of it for the truth.
func (e *postgresEngine) checkClock(ctx context.Context) error {
	var theirs time.Time
	before := machineTime()
	if err := e.writing[0].conn.QueryRow(ctx, `SELECT now()`).Scan(&theirs); err != nil {
		return e.explain(err)
	}
	after := machineTime()
	if theirs.Before(before.Add(-clocksApart)) || theirs.After(after.Add(clocksApart)) {
		return fmt.Errorf("this machine's clock says %s, and that of %s %s: set the clocks right first, for gateways whose clocks are apart take each other's questions for lost",
			after.UTC().Format(time.RFC3339), e.name, theirs.UTC().Format(time.RFC3339))
	}
	return nil
}

func (e *postgresEngine) onlyReads() error {
	return explained{fmt.Errorf("%s only reads (it is a standby, or default_transaction_read_only is on): name the primary, or all servers with target_session_attrs=read-write", e.name)}
}

func (e *postgresEngine) writers() int { return len(e.writing) }

func (e *postgresEngine) shared() bool { return true }

// sync has nothing to do: COMMIT is answered when it is durable.
func (e *postgresEngine) sync() error { return nil }

func (e *postgresEngine) close() error {
	for _, pool := range []*pgxpool.Pool{e.readers, e.finders} {
		if pool != nil {
			pool.Close()
		}
	}
	for _, w := range e.writing {
		w.close()
	}
	return nil
}

var errNoAddress = errors.New("the address of the database is not understood: write it as postgres://user:password@host:5432/name")

// explained is an error that says what to do.
type explained struct{ error }

func (e explained) Unwrap() error { return e.error }

// explain turns what PostgreSQL says into a sentence that says what to do. Explaining it again adds nothing.
func (e *postgresEngine) explain(err error) error {
	if errors.As(err, new(explained)) {
		return err
	}
	return explained{e.explanation(err)}
}

func (e *postgresEngine) explanation(err error) error {
	class, state := sqlState(err)
	switch {
	case class == "28":
		return fmt.Errorf("%s does not let us in: check the user and the password in its address (%w)", e.name, err)
	case state == "3D000":
		return fmt.Errorf("%s does not exist: make it with createdb, owned by the user of the address (%w)", e.name, err)
	case state == "42501":
		return fmt.Errorf("the user of %s lacks a right: make him the owner of the database, or of the schema in its search_path (%w)", e.name, err)
	case state == "25006":
		return fmt.Errorf("%w (%w)", e.onlyReads(), err)
	case state == "53100":
		return fmt.Errorf("the disk of %s is full: free some space; nothing acknowledged is lost (%w)", e.name, err)
	case state == "53300":
		return fmt.Errorf("%s has no connection left for us: raise max_connections, or end other programs (%w)", e.name, err)
	case class != "":
	case errors.As(err, new(*pgconn.ParseConfigError)):
		return fmt.Errorf("%w (%w)", errNoAddress, err)
	case errors.As(err, new(*pgconn.ConnectError)):
		if strings.Contains(err.Error(), "read only connection") {
			return fmt.Errorf("%s: no server of its address takes writes: name the primary too, or promote a standby (%w)", e.name, oneLine{err})
		}
		return fmt.Errorf("%s cannot be reached: check that it runs and that its address is right (%w)", e.name, oneLine{err})
	}
	return fmt.Errorf("%s: %w", e.name, err)
}

// oneLine is an error whose text has a line for each server that was tried.
type oneLine struct{ error }

func (o oneLine) Error() string { return strings.Join(strings.Fields(o.error.Error()), " ") }
func (o oneLine) Unwrap() error { return o.error }

// meaning is an error of which it is known what it means.
type meaning struct {
	error
	failure failure
}

func (m meaning) Unwrap() error { return m.error }

// absent: it cannot be reached, ends, is out of something, or only reads. What is damaged may be one page alone, and what stood
// in another's way did not stand in everybody's.
func (e *postgresEngine) absent(err error) bool {
	class, state := sqlState(err)
	switch {
	case class == "08", class == "53", class == "57", state == "25006", errors.As(err, new(*pgconn.ConnectError)):
		return true
	}
	return class == ""
}

func (e *postgresEngine) failure(err error) failure {
	var known meaning
	if errors.As(err, &known) {
		return known.failure
	}
	return jobs
}

// judge says what an error means that came up before COMMIT was sent: the server has stored nothing.
func (e *postgresEngine) judge(conn *pgx.Conn, err error) error {
	if err == nil || errors.As(err, new(meaning)) {
		return err
	}
	class, state := sqlState(err)
	switch class {
	case "40": // it stood in another's way
		return meaning{err, again}
	case "53", "58", "XX": // it is out of something, or damaged: no job is at fault
		return meaning{err, others}
	}
	switch {
	case class == "08", class == "57", state == "25006", state == "25P03", outdated(err):
		// It ends, or is not the primary any more.
		conn.Close(context.Background())
		return meaning{err, again}
	case conn.IsClosed():
		return meaning{err, again}
	}
	return err
}

// outdated reports that the schema, or what the server knows of the connection, is not what it was when we connected.
func outdated(err error) bool {
	_, state := sqlState(err)
	return state == "26000" || state == "0A000"
}

// sqlState is what the server calls an error of its own, with the class of such errors; "" is none of its own.
func sqlState(err error) (class, state string) {
	var server *pgconn.PgError
	if errors.As(err, &server) && len(server.SQLState()) == 5 {
		state = server.SQLState()
		return state[:2], state
	}
	return "", ""
}
