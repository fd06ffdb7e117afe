package bench

// Plotted is a run to be drawn.
type Plotted struct {
	*Result
	Concurrency, Rate int
	Machine           string
}

func Plot(runs []Plotted) map[string][]byte { return nil }
