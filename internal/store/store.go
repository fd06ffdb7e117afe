// Package store keeps everything that must survive: shops, payments, what was asked of
// processing centres, the ledger, and what merchants shall be told.
//
// It is a file of SQLite in the data directory, which one process serves from, or a database of PostgreSQL, which
// several may. All SQL is here. Writers hand in pure closures; a committer takes all that wait, runs them,
// writes their changes and makes them durable with one commit, and only then answers. Readers
// never wait for it.
//
// Order to read:
//
//	commit.go               the shared commit: how a job goes on
//	changes.go              what a job writes of a payment
//	payments.go, cache.go   payments as they are read; what of them is remembered
//	numbers.go              their row numbers and their public numbers
//	events.go               the outbox
//	notices.go              the same, as its operator sees it
//	shops.go, ranges.go     shops and card ranges
//	engine.go, value.go     the seam to the database, and what is handed to it
//	schema.go, schema/      the tables
//	sqlite.go               a file; sqlite_log.go and sync_linux.go are how its log gets onto the disk
//	postgres.go             a database, and which files come after it
//	audit.go                the invariants, checked on the stored rows
//	backup.go, copy.go      copies: of a file, and into another store
//	stats.go                what there is to watch
//	away.go, clock.go       a database that is away; time
package store

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Errors that callers tell apart.
var (
	ErrNotFound = errors.New("not found")
	ErrClaimed  = errors.New("another payment owns this hold") // see payment.Change.Claim
	ErrClosed   = errors.New("the store is closed")
	ErrBroken   = errors.New("the store no longer acknowledges anything")
)

// Config says where the store is and how it tells the time.
type Config struct {
	Dir   string           // the data directory; without DB, holdfast.db is in it
	DB    string           // postgres://…: the store is a database of PostgreSQL, which several processes may serve from; "": a file in Dir
	Serve bool             // this process serves payments: it creates them and keeps their deadlines; without it DB may be a standby, to be read
	Now   func() time.Time // default time.Now
	// Elapsed is how much time has gone by, by a clock that nobody sets; default the machine's, or, with Now, none: Now is then
	// never set.
	Elapsed func() time.Duration
	Log     *slog.Logger // default slog.Default
	// Readers is how many may read at the same time; default 4.
	Readers int
	// Committers is how many write at the same time to a database that takes several, each for payments of its own;
	// default one for every four cores, and at most two: a second one waits less for the disk and the network, but
	// its batches are half as large, which on two cores costs more than the waiting.
	Committers int
	// At, which may be nil, is called at each named point of a commit, for tests that end the process there.
	At func(point Point)
}

// mostCommitters bounds Config.Committers: more would leave no room for fresh events (onTheWay).
const mostCommitters = 2

// Point names a place in a commit where a process may die.
type Point string

// The points (docs/payment-cycle.md, the crash table).
const (
	BeforeCommit Point = "before commit" // all is written, and nothing of it committed
	Committed    Point = "committed"     // all outlives the process, and not yet the machine
	Durable      Point = "durable"       // all is on the disk, and nobody is answered
)

// File is the name of the store's file in the data directory.
const File = "holdfast.db"

// Store is open until Close. It is safe for concurrent use.
type Store struct {
	cfg        Config
	clock      clock
	engine     engine
	committers []*committer
	cause      atomic.Pointer[error] // of ErrBroken
	shops      shopCache
	cards      cardCache
	cache      *cache       // nil unless serving
	numbers    cipher.Block // permutes payment numbers
	restored   Restored     // from a backup
	lastSeq    atomic.Int64 // of the payments, as far as this process knows

	lookedForRows atomic.Int64 // when it was learnt from the engine

	spread  maphash.Seed // of names over committers
	lock    *os.File     // held while serving
	away    away
	closing sync.Once
	fresh   chan Delivery // events claimed as they are made
	lease   atomic.Int64  // of fresh events, in nanoseconds; 0: nobody takes them
	flying  flying        // events that this process sends right now
	events  chan struct{} // holds a token when a commit made something to tell
	due     chan struct{} // holds a token when a commit made a payment due soon
}

// Open opens the store in cfg.Dir, makes it where there is none and brings its schema up to date.
// The errors are sentences for the person who starts the program.
func Open(cfg Config) (*Store, error) {
	if cfg.Now == nil {
		began := time.Now()
		cfg.Now, cfg.Elapsed = time.Now, func() time.Duration { return time.Since(began) }
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Readers <= 0 {
		cfg.Readers = readerCount
	}
	if cfg.Committers <= 0 {
		cfg.Committers = max(runtime.GOMAXPROCS(0)/4, 1)
	}
	cfg.Committers = min(cfg.Committers, mostCommitters)
	if cfg.At == nil {
		cfg.At = func(Point) {}
	}
	if cfg.DB == "" {
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("the data directory cannot be made: %w", err)
		}
	}
	s := &Store{cfg: cfg, clock: clock{wall: cfg.Now, elapsed: cfg.Elapsed, log: cfg.Log}, spread: maphash.MakeSeed(), events: make(chan struct{}, 1), due: make(chan struct{}, 1),
		fresh: make(chan Delivery, freshRoom)}
	s.away.ctx, s.away.end = context.WithCancel(context.Background())
	if cfg.Serve && cfg.DB == "" {
		held, err := lock(cfg.Dir)
		if err != nil {
			return nil, err
		}
		s.lock = held
	}
	if cfg.Serve {
		s.cache = newCache()
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.unlock())
	}
	return s, nil
}

func (s *Store) open() (err error) {
	var numberKey []byte
	switch {
	case IsPostgres(s.cfg.DB):
		s.engine, numberKey, err = openPostgres(s.cfg, s.cache.clear, s.missed)
	case s.cfg.DB != "":
		err = errNoAddress
	default:
		s.engine, numberKey, err = openSQLite(s.cfg, s.cache.clear)
	}
	if err != nil {
		return err
	}
	if err := s.learn(numberKey); err != nil {
		return errors.Join(s.engine.explain(err), s.engine.close())
	}
	for number := range s.engine.writers() {
		s.committers = append(s.committers, newCommitter(s, number))
	}
	for _, c := range s.committers {
		go c.run()
	}
	return nil
}

// learn reads what a store must know of what it keeps before anybody uses it.
func (s *Store) learn(numberKey []byte) (err error) {
	if s.numbers, err = aes.NewCipher(numberKey); err != nil {
		return fmt.Errorf("the number key cannot be used: %w", err)
	}
	if s.restored, err = restoredMark(s.engine); err != nil {
		return err
	}
	if s.cfg.Serve {
		begun, err := s.copying()
		if err == nil && begun {
			err = errCopying
		}
		if err != nil {
			return err
		}
	}
	return s.lookForRows(context.Background())
}

// IsPostgres reports whether a text is meant as the address of a database of PostgreSQL.
func IsPostgres(db string) bool {
	return strings.HasPrefix(db, "postgres://") || strings.HasPrefix(db, "postgresql://")
}

// Alone reports whether at most one process serves from this store at a time: what a process that serves finds
// open at its start was left by one that is gone.
func (s *Store) Alone() bool { return !s.engine.shared() }

// SameKey reports whether the store is used with the key that has this fingerprint. The first one's is noted.
func (s *Store) SameKey(ctx context.Context, fingerprint string) (same bool, err error) {
	noted, err := s.meta(ctx, metaKey)
	if err == nil && noted == "" {
		err = s.do(ctx, &job{exec: func(w writing, _ time.Time) (err error) {
			if _, err := w.exec(`INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING`, []value{str(metaKey), str(fingerprint)}); err != nil {
				return err
			}
			noted, err = meta(w, metaKey)
			return err
		}})
	}
	return noted == fingerprint, err
}

// HasKey reports whether a key was noted by SameKey.
func (s *Store) HasKey(ctx context.Context) (bool, error) {
	noted, err := s.meta(ctx, metaKey)
	return noted != "", err
}

// meta is a text of the table meta; "": there is none.
func (s *Store) meta(ctx context.Context, name string) (found string, err error) {
	err = s.engine.read(ctx, func(q querier) (err error) {
		found, err = meta(q, name)
		return err
	})
	return found, err
}

const metaKey = "vault_key"

// Close finishes what was handed in and closes the store. Closing it again does nothing.
func (s *Store) Close() (err error) {
	s.closing.Do(func() {
		s.away.end()
		for _, c := range s.committers {
			c.close()
		}
		s.away.probing.Wait()
		err = errors.Join(s.engine.close(), s.unlock())
	})
	return err
}

func (s *Store) unlock() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

// Err is ErrBroken with its cause once the disk has failed under the store; nothing is
// acknowledged after that, and only a restart can mend it.
func (s *Store) Err() error {
	if e, ok := s.engine.(*sqliteEngine); ok {
		if lost := e.lost.Load(); lost != nil {
			return s.failed(*lost)
		}
	}
	return s.broken()
}

func (s *Store) broken() error {
	if cause := s.cause.Load(); cause != nil {
		return fmt.Errorf("%w: %w", ErrBroken, *cause)
	}
	return nil
}

// failed notes an error that is the disk's and not a job's.
func (s *Store) failed(err error) error {
	if err == nil || s.engine.failure(err) != disk {
		return err
	}
	// After a failed sync nobody can say what is on the disk: all acknowledgements end.
	cause := s.engine.explain(err)
	if s.cause.CompareAndSwap(nil, &cause) {
		s.cfg.Log.Error("the store failed; nothing more is acknowledged until a restart", "error", err)
	}
	return s.broken()
}

// do hands a job to its committer and waits for it. Jobs of one payment have the same, as have those for the same name;
// what is not one payment's goes to the first.
func (s *Store) do(ctx context.Context, j *job) error {
	n := uint64(0)
	switch {
	case j.create != nil:
		n = maphash.String(s.spread, j.key.id)
	case j.exec == nil:
		n = uint64(j.id[len(j.id)-1]) // chance
	}
	return s.committers[n%uint64(len(s.committers))].do(ctx, j)
}

// Told wakes whoever delivers events: a token is in the channel when a commit made one.
func (s *Store) Told() <-chan struct{} { return s.events }

// Soon wakes whoever keeps deadlines: a token is in the channel when a commit left a payment that is due already.
func (s *Store) Soon() <-chan struct{} { return s.due }

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
