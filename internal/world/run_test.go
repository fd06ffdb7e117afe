package world_test

import (
	"bytes"
	"flag"
	"fmt"
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
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(400) // a world lives for some milliseconds and leaves much behind
	goleak.VerifyTestMain(m)
}

var (
	seedCount = flag.Int("seeds", 2000, "how many worlds TestWorld plays")
	firstSeed = flag.Uint64("from", 1, "the first of them: to go on where an earlier run ended")
	oneSeed   = flag.Uint64("seed", 0, "the one world that TestWorld plays, and shows; 0: all of -seeds")
)

// TestWorld plays worlds until one fails. A seed that fails does so again:
//
//	go test ./internal/world -run TestWorld -seed N
func TestWorld(t *testing.T) {
	if *oneSeed > 0 {
		g := testGround(t)
		r := play(g, *oneSeed)
		t.Logf("%s", r.trace)
		for _, what := range r.broken {
			t.Errorf("seed %d: %s", r.seed, what)
		}
		return
	}
	count := *seedCount
	if underRace {
		count = min(count, 16)
	}
	failed, sum := playMany(t, *firstSeed, count, true)
	report(t, failed)
	t.Logf("figures: world: %s", sum)
}

// String is the line that a run ends with.
func (f figures) String() string {
	return fmt.Sprintf("%d seeds: %d payments, %d commands, %d calls to centres of which %d went wrong, %d notifications, %d crashes, %d starts; "+
		"%d operations in the centres' books; lost %d, doubled %d",
		f.Seeds, f.Payments, f.Commands, f.Calls, f.Faults, f.Told, f.Crashes, f.Recoveries, f.Operations, f.Lost, f.Doubled)
}

// report shows the first seed that failed and how it is played again.
func report(t *testing.T, failed []result) {
	t.Helper()
	for _, r := range failed {
		path := filepath.Join(os.TempDir(), fmt.Sprintf("holdfast-world-%d.txt", r.seed))
		if err := os.WriteFile(path, r.trace, 0o600); err != nil {
			t.Log(err)
		}
		for _, what := range r.broken {
			t.Errorf("seed %d: %s", r.seed, what)
		}
		t.Errorf("seed %d again: go test ./internal/world -run TestWorld -seed %d (its trace is in %s)", r.seed, r.seed, path)
	}
}

const progressEvery = 10 * time.Second

// playMany plays seeds on all cores and stops at the first that fails.
func playMany(t testing.TB, from uint64, count int, aloud bool) (failed []result, sum figures) {
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
		g := testGround(t)
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
				if aloud && time.Since(said) > progressEvery {
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

func testGround(t testing.TB) *ground {
	t.Helper()
	g, done, err := newGround(sqliteEngine)
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
	one, other := testGround(t), testGround(t)
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
