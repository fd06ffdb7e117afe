package bench

import (
	"cmp"
	"fmt"
	"html"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Plotted is a run to be drawn.
type Plotted struct {
	*Result
	Concurrency, Rate int
	Machine           string
}

// Plot draws what the runs have something to say on, as SVG by file name:
//   - rate-by-concurrency.svg from the runs that were as fast as they could, if they differ in payers;
//   - latency-by-rate.svg from those at a fixed rate;
//   - rate-over-time.svg and memory-over-time.svg from the longest run.
func Plot(runs []Plotted) map[string][]byte {
	plots := make(map[string][]byte)
	if len(runs) == 0 {
		return plots
	}
	var closed, open []Plotted
	for _, r := range runs {
		if r.Rate > 0 {
			open = append(open, r)
		} else {
			closed = append(closed, r)
		}
	}
	slices.SortStableFunc(closed, func(a, b Plotted) int { return cmp.Compare(a.Concurrency, b.Concurrency) })
	slices.SortStableFunc(open, func(a, b Plotted) int { return cmp.Compare(a.Rate, b.Rate) })
	if len(closed) > 1 && closed[0].Concurrency < closed[len(closed)-1].Concurrency {
		c := chart{title: "Whole payments a second by payers at once", x: axis{name: "payers at once", log: true}, y: axis{name: "whole payments a second"}}
		rate := line{name: "payments/s"}
		for _, r := range closed {
			rate.points = append(rate.points, point{float64(r.Concurrency), r.PaymentsPerSecond})
		}
		c.lines = []line{rate}
		plots["rate-by-concurrency.svg"] = c.draw(closed[0].Machine)
	}
	if len(open) > 1 && open[0].Rate < open[len(open)-1].Rate {
		c := chart{title: "Latency of a call by payments begun a second", x: axis{name: "payments begun a second"}, y: axis{name: "milliseconds", log: true}}
		of := func(name string, ms func(Latency) float64) {
			l := line{name: name}
			for _, r := range open {
				l.points = append(l.points, point{float64(r.Rate), ms(r.CallMillis)})
			}
			c.lines = append(c.lines, l)
		}
		of("p50", func(l Latency) float64 { return l.P50 })
		of("p99", func(l Latency) float64 { return l.P99 })
		of("p99.9", func(l Latency) float64 { return l.P999 })
		plots["latency-by-rate.svg"] = c.draw(open[0].Machine)
	}
	longest := slices.MaxFunc(runs, func(a, b Plotted) int { return cmp.Compare(a.Seconds, b.Seconds) })
	if len(longest.Samples) > 1 {
		seconds := axis{name: "seconds"}
		rate := chart{title: "Whole payments a second over time", x: seconds, y: axis{name: "whole payments a second"}, lines: []line{{name: "payments/s"}}}
		memory := chart{title: "Memory over time", x: seconds, y: axis{name: "MiB"}}
		names := slices.Sorted(maps.Keys(longest.Samples[0].MemoryMiB))
		for _, name := range names {
			memory.lines = append(memory.lines, line{name: name})
		}
		memory.lines = append(memory.lines, line{name: "write-ahead log, on the disk"})
		for _, s := range longest.Samples {
			rate.lines[0].points = append(rate.lines[0].points, point{s.Seconds, s.PaymentsPerSecond})
			for i, name := range names {
				memory.lines[i].points = append(memory.lines[i].points, point{s.Seconds, float64(s.MemoryMiB[name])})
			}
			memory.lines[len(names)].points = append(memory.lines[len(names)].points, point{s.Seconds, float64(s.LogMiB)})
		}
		plots["rate-over-time.svg"] = rate.draw(longest.Machine)
		plots["memory-over-time.svg"] = memory.draw(longest.Machine)
	}
	return plots
}

type point struct{ x, y float64 }

type line struct {
	name   string
	points []point
}

// axis is one of a chart's two. A logarithmic one begins at its smallest value, another at zero.
type axis struct {
	name     string
	log      bool
	min, max float64
}

// chart is lines over two axes.
type chart struct {
	title string
	x, y  axis
	lines []line
}

// The chart's measures, in its own units.
const (
	width, height            = 720, 420
	left, right, top, bottom = 72, 24, 76, 56
)

// Colours that can be seen on light and on dark ground.
var colours = []string{"#3b82c4", "#d9822b", "#4c9a5b", "#a862b8", "#8a8a3c"}

func (c *chart) draw(machine string) []byte {
	c.x.fit(c.lines, func(p point) float64 { return p.x })
	c.y.fit(c.lines, func(p point) float64 { return p.y })
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">
<style>
text { font: 13px system-ui, sans-serif; fill: #333 }
.title { font-size: 16px; font-weight: 600 } .small { font-size: 11px }
.grid { stroke: #8884; stroke-width: 1 } .axis { stroke: #888; stroke-width: 1 }
.line { fill: none; stroke-width: 2; stroke-linejoin: round }
@media (prefers-color-scheme: dark) { text { fill: #ddd } }
</style>
`, width, height, html.EscapeString(c.title))
	text := func(x, y float64, class, anchor, words string) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`+"\n", x, y, class, anchor, html.EscapeString(words))
	}
	stroke := func(class string, x1, y1, x2, y2 float64) {
		fmt.Fprintf(&b, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", class, x1, y1, x2, y2)
	}
	text(left, 22, "title", "start", c.title)
	text(left, 40, "small", "start", machine)
	across := func(v float64) float64 { return left + c.x.part(v)*(width-left-right) }
	up := func(v float64) float64 { return height - bottom - c.y.part(v)*(height-top-bottom) }
	for _, v := range c.y.ticks() {
		stroke("grid", left, up(v), width-right, up(v))
		text(left-8, up(v)+4, "", "end", label(v))
	}
	for _, v := range c.x.ticks() {
		stroke("axis", across(v), height-bottom, across(v), height-bottom+5)
		text(across(v), height-bottom+20, "", "middle", label(v))
	}
	stroke("axis", left, height-bottom, width-right, height-bottom)
	stroke("axis", left, top, left, height-bottom)
	text(left+(width-left-right)/2, height-14, "", "middle", c.x.name)
	fmt.Fprintf(&b, `<text transform="translate(16 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n", top+(height-top-bottom)/2, html.EscapeString(c.y.name))
	legend := float64(left)
	for i, l := range c.lines {
		colour := colours[i%len(colours)]
		fmt.Fprintf(&b, `<polyline class="line" stroke="%s" points="`, colour)
		for _, p := range l.points {
			fmt.Fprintf(&b, "%.1f,%.1f ", across(p.x), up(p.y))
		}
		b.WriteString(`"/>` + "\n")
		if len(l.points) <= 20 { // each is a run of its own
			for _, p := range l.points {
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s: %s</title></circle>`+"\n", across(p.x), up(p.y), colour, label(p.x), label(p.y))
			}
		}
		fmt.Fprintf(&b, `<rect x="%.1f" y="54" width="12" height="4" fill="%s"/>`+"\n", legend, colour)
		text(legend+17, 60, "", "start", l.name)
		legend += 40 + 7.5*float64(len(l.name))
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// fit makes the axis hold all points, and a little room above them.
func (a *axis) fit(lines []line, value func(point) float64) {
	low, high := math.Inf(1), 0.0
	for _, l := range lines {
		for _, p := range l.points {
			low, high = min(low, value(p)), max(high, value(p))
		}
	}
	if high <= 0 {
		low, high = 1, 1 // nothing was seen: an axis all the same
	}
	if a.log {
		a.min, a.max = max(low, high/1e6), high
		if a.min == a.max {
			a.min, a.max = a.min/2, a.max*2
		}
		return
	}
	step := nice(high / 5)
	a.min, a.max = 0, step*math.Ceil(high/step)
}

// part is where a value stands between the axis's ends, 0 to 1.
func (a *axis) part(v float64) float64 {
	if a.log {
		return (math.Log(max(v, a.min)) - math.Log(a.min)) / (math.Log(a.max) - math.Log(a.min))
	}
	return (v - a.min) / (a.max - a.min)
}

// ticks are the values that are written at the axis: about five round ones; at a logarithmic one powers of two
// within three orders of magnitude, and 1, 2, 5, 10, 20 … beyond.
func (a *axis) ticks() (ticks []float64) {
	if !a.log {
		step := nice((a.max - a.min) / 5)
		for i := 0.0; a.min+i*step <= a.max*1.0001; i++ {
			ticks = append(ticks, a.min+i*step)
		}
		return ticks
	}
	if a.min >= 1 && a.max <= 1100*a.min {
		for v := math.Exp2(math.Ceil(math.Log2(a.min))); v <= a.max*1.0001; v *= 2 {
			ticks = append(ticks, v)
		}
		return ticks
	}
	for power := math.Pow10(int(math.Floor(math.Log10(a.min)))); power <= a.max; power *= 10 {
		for _, v := range []float64{power, 2 * power, 5 * power} {
			if v >= a.min*0.9999 && v <= a.max*1.0001 {
				ticks = append(ticks, v)
			}
		}
	}
	return ticks
}

// nice is the round step next above a rough one: 1, 2, 2.5 or 5 times a power of ten.
func nice(rough float64) float64 {
	power := math.Pow10(int(math.Floor(math.Log10(rough))))
	for _, times := range []float64{1, 2, 2.5, 5, 10} {
		if step := times * power; step >= rough*0.9999 {
			return step
		}
	}
	return 10 * power
}

// label is a value with four figures that count.
func label(v float64) string {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}
