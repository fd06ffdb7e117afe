package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/internal/store"
	"holdfast/internal/tally"
)

// collector reads the counts of the rooms.
type collector struct {
	cfg   Config
	waits survey
}

// Describe lists what there may be.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range all {
		to <- m.desc
	}
}

// Collect says what there is now. Times in seconds are the only numbers here that are not whole; of money there is none.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	show := shower(to)
	show.readiness(&c.cfg)
	show.site(&c.cfg)
	show.centres(&c.cfg)
	show.notices(&c.cfg)
	show.store(&c.cfg)
	if b, known := c.waits.look(); known {
		show.backlog(b, c.cfg.Store.Now())
	}
}

// shower is where metrics are shown.
type shower chan<- prometheus.Metric

func (s shower) value(m *metric, value float64, labels ...string) {
	kind := prometheus.GaugeValue
	if m.kind == counter {
		kind = prometheus.CounterValue
	}
	s <- prometheus.MustNewConstMetric(m.desc, kind, value, labels...)
}

func (s shower) times(m *metric, t *tally.Times, labels ...string) {
	within, count, sum := t.Read()
	s.distribution(m, within, count, sum, labels...)
}

func (s shower) distribution(m *metric, within [len(tally.Bounds)]uint64, count uint64, sum time.Duration, labels ...string) {
	buckets := make(map[float64]uint64, len(within))
	for i, n := range within {
		buckets[tally.Bounds[i].Seconds()] = n
	}
	s <- prometheus.MustNewConstHistogram(m.desc, count, sum.Seconds(), buckets, labels...)
}

func (s shower) flag(m *metric, is bool) {
	value := 0.0
	if is {
		value = 1
	}
	s.value(m, value)
}

func (s shower) readiness(cfg *Config) {
	s.flag(ready, cfg.Ready() == nil)
	s.flag(storeFailed, cfg.Store.Err() != nil)
	s.flag(storeAway, cfg.Store.Away() != nil)
	s.flag(reconciling, cfg.Gateway.Ready() != nil)
	s.value(loopIdle, max(time.Since(cfg.Gateway.Stepped()), 0).Seconds(), "deadlines")
	s.value(loopIdle, max(time.Since(cfg.Notifier.Stepped()), 0).Seconds(), "notifications")
	kind := "postgresql"
	if cfg.Store.Alone() {
		kind = "file"
	}
	s.value(build, 1, cfg.Version, cfg.Go, kind)
}

func (s shower) site(cfg *Config) {
	for a, n := range cfg.Site.Answered() {
		name := "none"
		if a.Coded {
			name = a.Code.Info().Name
		}
		s.value(requests, float64(n.Load()), a.Part, strconv.Itoa(a.Status), name)
	}
	for part, times := range cfg.Site.Took() {
		s.times(requestTime, times, part)
	}
	now, most := cfg.Site.UnderWay()
	s.value(requestsNow, float64(now))
	s.value(requestsLimit, float64(most))
}

func (s shower) centres(cfg *Config) {
	for a, n := range cfg.Gateway.Asked() {
		s.value(questions, float64(n.Load()), a.Contract, strconv.FormatBool(a.Test), string(a.Kind), string(a.Ask), string(a.Outcome), string(a.Reason))
	}
	for of, times := range cfg.Gateway.Took() {
		s.times(questionTime, times, of.Contract, strconv.FormatBool(of.Test), string(of.Kind))
	}
	s.value(questionsNow, float64(cfg.Gateway.UnderWay()))
}

func (s shower) notices(cfg *Config) {
	for became, n := range cfg.Notifier.Attempts() {
		s.value(attempts, float64(n.Load()), string(became))
	}
	s.times(attemptTime, cfg.Notifier.Took())
	s.value(gaveUp, float64(cfg.Notifier.GaveUp()))
}

func (s shower) store(cfg *Config) {
	did := cfg.Store.Stats()
	s.value(commits, float64(did.Commits))
	s.value(operations, float64(did.Jobs))
	s.value(failures, float64(did.Failed))
	s.value(syncs, float64(did.Syncs))
	s.value(handedIn, float64(did.Waiting))
	var within [len(tally.Bounds)]uint64
	var count uint64
	var sum time.Duration
	for _, times := range cfg.Store.CommitTimes() { // of each committer
		itsWithin, itsCount, itsSum := times.Read()
		for i, n := range itsWithin {
			within[i] += n
		}
		count, sum = count+itsCount, sum+itsSum
	}
	s.distribution(commitTime, within, count, sum)
	if file, log, ok := cfg.Store.FileSizes(); ok {
		s.value(fileSize, float64(file), "store")
		s.value(fileSize, float64(log), "log")
	}
}

func (s shower) backlog(b store.Backlog, now time.Time) {
	since := func(at time.Time) float64 {
		if at.IsZero() {
			return 0
		}
		return max(now.Sub(at), 0).Seconds()
	}
	for test, d := range map[string]store.Doubts{"false": b.Real, "true": b.Test} {
		s.value(inDoubt, float64(d.Count), test)
		s.value(forPerson, float64(d.ForPerson), test)
		s.value(doubtAge, since(d.Oldest), test)
	}
	s.value(overdue, since(b.OldestDue))
	s.value(waiting, float64(b.Waiting))
	s.value(due, float64(b.Due))
	s.value(overdueNotices, since(b.OldestTold))
}
