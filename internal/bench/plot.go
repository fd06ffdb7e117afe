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
		c := chart{title: "Whole payments a second by payers at once", x: axis{name: "payers at once", scale: doubling}, y: axis{name: "whole payments a second"}}
		rate := line{name: "payments/s"}
		for _, r := range closed {
			rate.points = append(rate.points, point{float64(r.Concurrency), r.PaymentsPerSecond})
		}
		c.lines = []line{rate}
		plots["rate-by-concurrency.svg"] = c.draw(closed[0].Machine)
	}
	if len(open) > 1 && open[0].Rate < open[len(open)-1].Rate {
		c := chart{title: "Latency of a call by payments begun a second", x: axis{name: "payments begun a second"}, y: axis{name: "milliseconds", scale: decades}}
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

// axis is one of a chart's two.
type axis struct {
	name     string
	scale    scale
	min, max float64
}

// scale is how values lie on an axis, and which of them are written at it.
type scale int

const (
	linear   scale = iota // from zero; about five round ones
	doubling              // logarithmic; the powers of two
	decades               // logarithmic; 1, 2, 5, 10, 20 …, beyond three powers of ten only these
)

// chart is lines over two axes.
type chart struct {
	title string
	x, y  axis
	lines []line
}

// The chart's measures, in its own units.
const (
	width, height       = 720, 420
	left, right, bottom = 72, 24, 56
	labelled            = 12 // so many points at most have their values beside them
)

// Colours that can be seen on light and on dark ground.
var colours = []string{"#3b82c4", "#d9822b", "#4c9a5b", "#a862b8", "#8a8a3c"}

// draw writes the chart. It brings its own ground: the page that shows it may be light where the reader's system is
// dark, and the other way round.
func (c *chart) draw(machine string) []byte {
	c.x.fit(c.lines, func(p point) float64 { return p.x })
	c.y.fit(c.lines, func(p point) float64 { return p.y })
	c.y.round()
	single := len(c.lines) == 1 // its name is the title's, and there is room for its values
	top := 76
	if single {
		top = 64
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">
<style>
text { font: 13px system-ui, sans-serif; fill: #333 }
.title { font-size: 16px; font-weight: 600 } .small { font-size: 11px }
.value { font-size: 12px; paint-order: stroke; stroke: #fff; stroke-width: 4px; stroke-linejoin: round }
.ground { fill: #fff } .grid { stroke: #8884; stroke-width: 1 } .axis { stroke: #888; stroke-width: 1 }
.line { fill: none; stroke-width: 2; stroke-linejoin: round }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .ground { fill: #0d1117 } .value { stroke: #0d1117 } }
</style>
<rect class="ground" width="%d" height="%d" rx="6"/>
`, width, height, html.EscapeString(c.title), width, height)
	text := func(x, y float64, class, anchor, words string) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`+"\n", x, y, class, anchor, html.EscapeString(words))
	}
	stroke := func(class string, x1, y1, x2, y2 float64) {
		fmt.Fprintf(&b, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", class, x1, y1, x2, y2)
	}
	text(left, 22, "title", "start", c.title)
	text(left, 40, "small", "start", machine)
	across := func(v float64) float64 { return left + c.x.part(v)*(width-left-right) }
	up := func(v float64) float64 { return height - bottom - c.y.part(v)*float64(height-top-bottom) }
	for _, v := range c.y.ticks() {
		stroke("grid", left, up(v), width-right, up(v))
		text(left-8, up(v)+4, "", "end", label(v))
	}
	for _, v := range c.x.ticks() {
		stroke("axis", across(v), height-bottom, across(v), height-bottom+5)
		text(across(v), height-bottom+20, "", "middle", label(v))
	}
	stroke("axis", left, height-bottom, width-right, height-bottom)
	stroke("axis", left, float64(top), left, height-bottom)
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
		if single {
			break
		}
		fmt.Fprintf(&b, `<rect x="%.1f" y="54" width="12" height="4" fill="%s"/>`+"\n", legend, colour)
		text(legend+17, 60, "", "start", l.name)
		legend += 40 + 7.5*float64(len(l.name))
	}
	if points := c.lines[0].points; single && len(points) <= labelled {
		for _, p := range points {
			anchor := "middle"
			if across(p.x) > width-right-20 {
				anchor = "end"
			}
			text(max(across(p.x), left+16), up(p.y)-10, "value", anchor, label(p.y))
		}
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// fit makes the axis hold all points.
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
	if a.scale == linear {
		a.min, a.max = 0, high
		return
	}
	a.min, a.max = max(low, high/1e6), high
	if a.min == a.max {
		a.min, a.max = a.min/2, a.max*2
	}
}

// round lets the axis end at values that are written at it.
func (a *axis) round() {
	switch a.scale {
	case linear:
		step := nice(a.max / 5)
		a.max = step * math.Ceil(a.max/step*0.9999)
	case decades:
		a.min, a.max = stepDown(a.min), 1/stepDown(1/a.max)
		if a.wide() {
			a.min, a.max = math.Pow10(int(math.Floor(math.Log10(a.min)))), math.Pow10(int(math.Ceil(math.Log10(a.max))))
		}
	}
}

// wide tells whether an axis has room for the powers of ten only.
func (a *axis) wide() bool { return a.max > 1000.1*a.min }

// stepDown is the greatest of …, 0.5, 1, 2, 5, 10, 20, … that is not above v.
func stepDown(v float64) float64 {
	power := math.Pow10(int(math.Floor(math.Log10(v))))
	for _, times := range []float64{10, 5, 2} {
		if times*power <= v*1.0001 {
			return times * power
		}
	}
	return power
}

// part is where a value stands between the axis's ends, 0 to 1.
func (a *axis) part(v float64) float64 {
	if a.scale == linear {
		return (v - a.min) / (a.max - a.min)
	}
	return (math.Log(max(v, a.min)) - math.Log(a.min)) / (math.Log(a.max) - math.Log(a.min))
}

// ticks are the values that are written at the axis.
func (a *axis) ticks() (ticks []float64) {
	add := func(v float64) {
		if v >= a.min*0.9999 && v <= a.max*1.0001 {
			ticks = append(ticks, v)
		}
	}
	switch a.scale {
	case linear:
		step := nice((a.max - a.min) / 5)
		for i := 0.0; a.min+i*step <= a.max*1.0001; i++ {
			add(a.min + i*step)
		}
	case doubling:
		for v := math.Exp2(math.Floor(math.Log2(a.min))); v <= a.max*1.0001; v *= 2 {
			add(v)
		}
	case decades:
		for v := math.Pow10(int(math.Floor(math.Log10(a.min)))); v <= a.max*1.0001; v *= 10 {
			add(v)
			if !a.wide() {
				add(2 * v)
				add(5 * v)
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

// label is a value as it is written: whole from 100 on, its thousands set apart, and three figures that count below.
func label(v float64) string {
	if v < 100 {
		rounded, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64)
		return strconv.FormatFloat(rounded, 'f', -1, 64)
	}
	text := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
