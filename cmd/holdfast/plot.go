package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"holdfast/internal/bench"
)

type plotCmd struct {
	Files []string `arg:"" help:"What bench --json has printed, one run a line." type:"existingfile"`
	Out   string   `help:"Directory for the plots; it is made if it is not there." default:"." placeholder:"DIR"`
}

func (c *plotCmd) Help() string {
	return `Writes the plots that the runs have something to say on: rate-by-concurrency.svg from those as fast as
they could, latency-by-rate.svg from those at a fixed rate, rate-over-time.svg and memory-over-time.svg from the longest one.

  holdfast bench --local --sweep rate=100,200,400,800 --duration 20s --json > rates.json
  holdfast plot rates.json --out plots`
}

func (c *plotCmd) Run(p program) error {
	var runs []bench.Plotted
	for _, file := range c.Files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for d := json.NewDecoder(bytes.NewReader(text)); d.More(); {
			var r benchResult
			if err := d.Decode(&r); err != nil {
				return fmt.Errorf("%s is not what bench --json prints: %w", file, err)
			}
			if r.Result == nil || r.Payments == 0 || r.check() != nil {
				return fmt.Errorf("%s has a run without a result in it: remove that line", file)
			}
			runs = append(runs, bench.Plotted{Result: r.Result, Concurrency: r.Concurrency, Rate: r.Rate, Machine: r.Machine})
		}
	}
	if err := os.MkdirAll(c.Out, 0o755); err != nil {
		return err
	}
	plots := bench.Plot(runs)
	for _, name := range slices.Sorted(maps.Keys(plots)) {
		file := filepath.Join(c.Out, name)
		if err := os.WriteFile(file, plots[name], 0o644); err != nil {
			return err
		}
		fmt.Fprintln(p.stdout, file)
	}
	return nil
}
