// Package metrics shows what a gateway counts, in Prometheus' text format: what an operator on call and a bank's risk officer
// are woken by. It is the one room that knows Prometheus' library.
//
// The rooms own their counts and know nothing of this one, which reads them when it is asked. What it shows is for other
// machines to see: no card, secret, payment, shop or address is in it, and no label has a value that somebody outside made up.
//
// Order to read: metrics.go (who asks is answered), list.go (all metrics), collect.go (where their values come from), survey.go
// (what waits in the store, read seldom and within bounds).
package metrics

import (
	"bytes"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"holdfast/internal/gateway"
	"holdfast/internal/notify"
	"holdfast/internal/store"
	"holdfast/internal/web"
)

// Config is what there is to show.
type Config struct {
	Version, Go string // of the program, and what it was built with
	Store       *store.Store
	Gateway     *gateway.Gateway
	Notifier    *notify.Notifier
	Site        *web.Handler
	Ready       func() error // why the gateway cannot take payments now; nil: it can
	Log         *slog.Logger
}

// Path is where the metrics are.
const Path = "/metrics"

// New answers GET /metrics, and nothing else. It answers within a few seconds, whatever the store does: what cannot be read is
// left out.
func New(cfg Config) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{cfg: cfg, waits: survey{read: cfg.Store.Backlog, log: cfg.Log}},
	)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, func(w http.ResponseWriter, _ *http.Request) {
		families, err := registry.Gather() // and those without fault, where one has any
		if err != nil {
			cfg.Log.Error("some metrics cannot be shown", "error", err)
		}
		var text bytes.Buffer
		format := expfmt.NewFormat(expfmt.TypeTextPlain)
		encoder := expfmt.NewEncoder(&text, format)
		for _, family := range families {
			if err := encoder.Encode(family); err != nil {
				cfg.Log.Error("a metric cannot be written", "name", family.GetName(), "error", err)
			}
		}
		w.Header().Set("Content-Type", string(format))
		w.Write(text.Bytes())
	})
	return mux
}
