package world_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"holdfast/internal/postgrestest"
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(400) // a world lives for some milliseconds and leaves much behind
	goleak.VerifyTestMain(m)
}

var (
	seedCount = flag.Int("seeds", 0, fmt.Sprintf("how many worlds TestWorld plays; 0: %d on SQLite, %d on PostgreSQL", usualOnSQLite, usualOnPostgreSQL))
	firstSeed = flag.Uint64("from", 1, "the first of them: to go on where an earlier run ended")
	oneSeed   = flag.Uint64("seed", 0, "the one world that TestWorld plays, and shows; 0: all of -seeds")
)

// seedsOr is how many worlds are played where the flag does not say.
func seedsOr(usual int) int {
	if *seedCount > 0 {
		return *seedCount
	}
	return usual
}

// How many worlds are usual.
const (
	usualOnSQLite     = 2000
	usualOnPostgreSQL = 80
)

// TestWorld plays worlds until one fails. A seed that fails does so again:
//
//	go test ./internal/world -run TestWorld$ -seed N
func TestWorld(t *testing.T) {
	count := seedsOr(usualOnSQLite)
	if underRace {
		count = min(count, 16)
	}
	playWorlds(t, onSQLite, count)
}

// TestWorldOnPostgreSQL is TestWorld on the other engine. There the connection breaks too, and a commit is looked up; and
// every other world has two gateways, which know nothing of each other but what is stored.
//
//	go test ./internal/world -run TestWorldOnPostgreSQL -seed N
func TestWorldOnPostgreSQL(t *testing.T) {
	count := seedsOr(usualOnPostgreSQL)
	sum := playWorlds(t, onPostgreSQL(t, postgreSQL(t)), count)
	if *oneSeed > 0 || count < 20 {
		return
	}
	if sum.Fates[commitLost] == 0 || sum.Fates[commitDone] == 0 {
		t.Errorf("COMMITs have met only %v", sum.Fates)
	}
	if sum.Shared == 0 || sum.Shared == sum.Seeds {
		t.Errorf("of %d worlds %d had two gateways: both kinds are to be played", sum.Seeds, sum.Shared)
	}
}

// postgreSQL starts a server for a test, in memory as the files of SQLite are. It is not the one that dies.
func postgreSQL(t *testing.T) *postgrestest.Server {
	t.Setenv("TMPDIR", memory())
	return postgrestest.Start(t)
}

func playWorlds(t *testing.T, kind func(dir string) engine, count int) (sum figures) {
	t.Helper()
	if *oneSeed > 0 {
		r := play(testGround(t, kind), *oneSeed)
		t.Logf("%s", r.trace)
		for _, what := range r.broken {
			t.Errorf("seed %d: %s", r.seed, what)
		}
		return r.figures
	}
	failed, sum := playMany(t, kind, *firstSeed, count)
	report(t, failed)
	t.Logf("figures: world: %s", sum)
	return sum
}

// String is the line that a run ends with.
func (f figures) String() string {
	fates := ""
	for _, how := range slices.Sorted(maps.Keys(f.Fates)) {
		fates += fmt.Sprintf(", %d times a %s", f.Fates[how], how)
	}
	fates += fmt.Sprintf(", %d backups restored, %d doubts ended by persons, %d notifications sent again by hand, %d times the clock was set",
		f.Restores, f.Resolved, f.Again, f.ClockSteps)
	if f.Shared > 0 {
		fates = fmt.Sprintf(", %d of them with two gateways at the same time", f.Shared) + fates
	}
	return fmt.Sprintf("%d seeds: %d payments, %d commands, %d calls to centres of which %d went wrong, %d notifications, %d crashes, %d starts%s; "+
		"%d operations in the centres' books; lost %d, doubled %d",
		f.Seeds, f.Payments, f.Commands, f.Calls, f.Faults, f.Told, f.Crashes, f.Recoveries, fates, f.Operations, f.Lost, f.Doubled)
}

// report shows the first seed that failed and how it is played again.
func report(t *testing.T, failed []result) {
	t.Helper()
	for _, r := range failed {
		path := filepath.Join(traces, fmt.Sprintf("holdfast-world-%d.txt", r.seed))
		if err := os.WriteFile(path, r.trace, 0o600); err != nil {
			t.Log(err)
		}
		for _, what := range r.broken {
			t.Errorf("seed %d: %s", r.seed, what)
		}
		t.Errorf("seed %d again: go test ./internal/world -run '^%s$' -seed %d (its trace is in %s)", r.seed, t.Name(), r.seed, path)
	}
}

// traces is where the traces of worlds that failed are put; a test may change where temporary files go.
var traces = os.TempDir()

const progressEvery = 10 * time.Second

// playMany plays seeds on all cores and stops at the first that fails.
func playMany(t testing.TB, kind func(dir string) engine, from uint64, count int) (failed []result, sum figures) {
	t.Helper()
	var (
		next  atomic.Uint64
		mu    sync.Mutex
		group sync.WaitGroup
		stop  atomic.Bool
		said  = time.Now()
	)
	next.Store(from)
	playing := make([]uint64, runtime.GOMAXPROCS(0)) // by each core, under mu
	for i := range playing {
		g := testGround(t, kind)
		playing[i] = from
		group.Go(func() {
			for !stop.Load() {
				seed := next.Add(1) - 1
				if seed >= from+uint64(count) {
					return
				}
				mu.Lock()
				playing[i] = seed
				mu.Unlock()
				r := play(g, seed)
				mu.Lock()
				sum.add(r.figures)
				if len(r.broken) > 0 {
					failed = append(failed, r)
					stop.Store(true)
				}
				if time.Since(said) > progressEvery {
					said = time.Now()
					fmt.Printf("world: played all below seed %d; %s\n", slices.Min(playing), sum)
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return failed, sum
}

func testGround(t testing.TB, kind func(dir string) engine) *ground {
	t.Helper()
	g, done, err := newGround(kind)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := done(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// TestReplay: the same seed is the same world, byte for byte, also on other ground.
func TestReplay(t *testing.T) {
	seeds := 40
	if underRace {
		seeds = 2
	}
	replay(t, onSQLite, seeds)
}

func TestReplayOnPostgreSQL(t *testing.T) { replay(t, onPostgreSQL(t, postgreSQL(t)), 5) }

func replay(t *testing.T, kind func(dir string) engine, seeds int) {
	t.Helper()
	one, other := testGround(t, kind), testGround(t, kind)
	lines := 0
	for seed := range uint64(seeds) {
		first, second := play(one, seed+1), play(other, seed+1)
		lines += bytes.Count(first.trace, []byte("\n"))
		if !bytes.Equal(first.trace, second.trace) {
			a, b := bytes.Split(first.trace, []byte("\n")), bytes.Split(second.trace, []byte("\n"))
			for i := range min(len(a), len(b)) {
				if !bytes.Equal(a[i], b[i]) {
					t.Fatalf("seed %d goes another way at line %d:\n%s\n%s", seed+1, i+1, a[i], b[i])
				}
			}
			t.Fatalf("seed %d has %d lines and then %d", seed+1, len(a), len(b))
		}
	}
	if lines < 30*seeds {
		t.Errorf("%d seeds have %d lines: that is no world", seeds, lines)
	}
}
