package world_test

import "time"

// The clock of the machine is set while the gateway runs: it jumps, and no time has passed for anybody else.

// setClock sets the gateway's clock by a step, forward or back.
func (w *world) setClock(step time.Duration) {
	w.figures.ClockSteps++
	w.say("the clock is set by %s", step)
	w.skew.Add(-int64(step))
	now := w.now().Add(step)
	w.moment.Store(&now)
	for _, p := range w.processes {
		if p != nil {
			p.store.Now() // as it looks all the time
		}
	}
	if quiet := now.Add(shown); step > 0 && w.lost != nil && w.lost.quiet.Before(quiet) {
		w.lost.quiet = quiet
	}
	for i := range w.late {
		w.late[i].at = w.late[i].at.Add(step)
		w.late[i].set = w.late[i].set || step > 0
	}
	for i := range w.asking {
		a := &w.asking[i]
		a.over = a.over.Add(step)
		if !a.shown.IsZero() {
			a.shown = a.shown.Add(step)
		}
	}
}

// someStep is how far a clock may be set.
func (w *world) someStep() time.Duration {
	step := pick(w, time.Second, 20*time.Second, 3*time.Minute, time.Hour, 5*time.Hour)
	if w.maybe(2) {
		return -step
	}
	return step
}
