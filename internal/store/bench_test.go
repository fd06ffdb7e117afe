package store_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/postgrestest"
	"holdfast/internal/store"
)

// diskDir is a directory on a disk: to a file system in memory a sync costs nothing.
func diskDir(b *testing.B) string {
	b.Helper()
	const tmpfs, ramfs = 0x01021994, 0x858458f6
	for _, parent := range []string{os.TempDir(), "/var/tmp"} {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(parent, &fs); err != nil || fs.Type == tmpfs || fs.Type == ramfs {
			continue
		}
		dir, err := os.MkdirTemp(parent, "holdfast-bench-")
		if err != nil {
			continue
		}
		b.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				b.Error(err)
			}
		})
		return dir
	}
	b.Fatal("no temporary directory is on a disk: set TMPDIR to one")
	return ""
}

// BenchmarkUpdate shows what the shared commit gains:
//
//	go test -run '^$' -bench Update ./internal/store
//
// Every commit is synced to the disk. times is the rate of the line against that of one caller.
func BenchmarkUpdate(b *testing.B) {
	b.Run("SQLite", func(b *testing.B) { benchmarkUpdate(b, func(*testing.B) string { return "" }) })
	b.Run("PostgreSQL", func(b *testing.B) {
		benchmarkUpdate(b, func(b *testing.B) string { return postgrestest.Database(b) })
	})
}

func benchmarkUpdate(b *testing.B, db func(*testing.B) string) {
	var alone float64
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s, err := store.Open(store.Config{Dir: diskDir(b), DB: db(b), Serve: true, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			defer func() {
				if err := s.Close(); err != nil {
					b.Error(err)
				}
			}()
			// Each caller has a payment of his own, with a question that he asks again and again.
			w := &world{Store: s, t: b}
			ids := make([]payment.ID, callers)
			for i := range ids {
				ids[i] = w.asking(terms(fmt.Sprint("order-", i))).ID
			}
			update := func(id payment.ID) {
				_, err := s.Update(context.Background(), id, func(p payment.Payment, now time.Time) (payment.Change, error) {
					return payment.Begin(p, payment.Resume{Orphan: true}, now)
				})
				if err != nil {
					b.Error(err)
				}
			}
			b.ReportAllocs()
			before := s.Stats()
			b.ResetTimer()
			if callers == 1 {
				for range b.N {
					update(ids[0])
				}
			} else {
				var next atomic.Int64
				b.SetParallelism((callers + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
				b.RunParallel(func(pb *testing.PB) {
					id := ids[int(next.Add(1)-1)%callers]
					for pb.Next() {
						update(id)
					}
				})
			}
			b.StopTimer()
			after := s.Stats()
			rate := float64(b.N) / b.Elapsed().Seconds()
			b.ReportMetric(rate, "ops/s")
			b.ReportMetric(float64(after.Jobs-before.Jobs)/float64(after.Commits-before.Commits), "ops/commit")
			if callers == 1 {
				alone = rate
			} else if alone > 0 {
				b.ReportMetric(rate/alone, "times")
			}
		})
	}
}
