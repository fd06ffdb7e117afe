package world_test

import (
	"context"
	"runtime/debug"
	"time"
)

// result is a world that was played.
type result struct {
	seed    uint64
	broken  []string
	trace   []byte
	figures figures
}

const (
	stepsEach    = 24 // of one seed, before it comes to rest
	longestLapse = 31 * 24 * time.Hour
)

// play plays one seed.
func play(g *ground, seed uint64) (r result) {
	r.seed = seed
	w, err := newWorld(g, seed)
	if err != nil {
		return result{seed: seed, broken: []string{err.Error()}}
	}
	defer func() {
		if why := recover(); why != nil {
			w.wrong("panic: %v\n%s", why, debug.Stack())
		}
		w.close()
		w.figures.Seeds = 1
		r.broken, r.trace, r.figures = w.broken, w.trace.Bytes(), w.figures
	}()
	for range stepsEach {
		if len(w.broken) > 0 {
			return
		}
		w.one()
	}
	w.rest()
	return
}

// one is a step: something happens, the process perhaps dies of it, and what must be true is.
func (w *world) one() {
	w.figures.Steps++
	for _, p := range w.processes {
		p.crash = 0
	}
	w.turn()
	if w.maybe(12) {
		w.process.crash = 1 + w.rand.IntN(10)
	}
	w.act()
	if w.turn() {
		w.reconcile()
	}
	// A process that lives keeps its deadlines, if not always before the next request.
	if w.turn() && w.maybe(2) {
		w.step()
	}
	for range 10 { // what one step finds out may be the next one's work
		if !w.turn() || !w.overdue() {
			break
		}
		w.step()
	}
	w.alive()
	if len(w.broken) == 0 {
		w.check()
	}
}

// overdue reports that something should have been done long ago, so that a process that lives would have.
func (w *world) overdue() bool {
	next := w.nextDue()
	return !next.IsZero() && w.now().Sub(next) > 30*time.Second
}

// rest lets nothing more happen and nothing more go wrong, until everything has come to its end: nothing is
// in doubt, no payment is open, and every merchant knows.
func (w *world) rest() {
	w.say("calm")
	w.calm = true
	for _, p := range w.processes {
		p.crash = 0
	}
	w.alive()
	for range 2000 {
		if len(w.broken) > 0 {
			return
		}
		for _, p := range w.processes {
			w.process = p
			w.reconcile()
			w.step()
		}
		w.turn()
		for w.tell() && len(w.broken) == 0 {
		}
		next := w.nextDue()
		at, waits, err := w.process.store.NextEvent(context.Background())
		if err != nil {
			w.wrong("the next event cannot be read: %v", err)
			return
		}
		if waits && (next.IsZero() || at.Before(next)) {
			next = at
		}
		for _, call := range w.late {
			if next.IsZero() || call.at.Before(next) {
				next = call.at
			}
		}
		if w.lost != nil && w.now().Before(w.lost.quiet) && (next.IsZero() || w.lost.quiet.Before(next)) {
			next = w.lost.quiet
		}
		if next.IsZero() {
			if w.persons() {
				continue
			}
			w.atRest()
			return
		}
		w.arrive(maxTime(next, w.now().Add(time.Millisecond)))
	}
	w.wrong("it does not come to rest")
}

// persons has what waits for a person looked at, and reports that there was some.
func (w *world) persons() (some bool) {
	for _, p := range w.list() {
		if p.Open != nil && p.Open.WaitsForPerson() {
			some = true
			w.person(p.ID)
		}
	}
	return some
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (w *world) atRest() {
	w.check()
	for _, p := range w.list() {
		if !p.State.Terminal() || p.Open != nil {
			w.wrong("at rest %s is %s", w.name(p.ID), describe(&p))
		}
	}
	if w.lost != nil || w.figures.ClockSteps > 0 {
		// Holds that were made for payments which nobody here knows of, or does not know to have been held, end by themselves.
		w.arrive(w.now().Add(longestLapse))
	}
	w.compare()
	for _, p := range w.list() {
		w.fee(&p)
	}
	w.knows()
	w.canary()
	w.say("at rest: %d payments, %d operations", len(w.list()), w.figures.Operations)
}

// knows: each merchant was told how his payment ended, whatever his server did.
func (w *world) knows() {
	for _, p := range w.list() {
		mine := w.named(p.ID)
		if mine == nil || mine.terms.NotifyURL == "" || p.LastEvent == 0 {
			continue
		}
		last := notification{}
		for _, n := range mine.got {
			if n.accepted && n.n > last.n {
				last = n
			}
		}
		line, err := w.process.store.Timeline(context.Background(), p.ID)
		if err != nil {
			w.wrong("%s: %v", mine.name, err)
			continue
		}
		e := line.Events[len(line.Events)-1]
		if e.Outcome == "gave up" {
			continue // his server was down for three days
		}
		if last.n != p.LastEvent || last.status != string(p.Status()) {
			w.figures.Lost++
			w.wrong("%s is %s, event %d; its shop last took event %d, %s", mine.name, p.Status(), p.LastEvent, last.n, last.status)
		}
	}
}
