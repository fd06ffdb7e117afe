package notify

import (
	"fmt"
	"testing"
)

// taken is how many of so many deliveries to endpoints, each of its own or all the same, find a place.
func (e *endpoints) taken(tries int, shop int64, endpoint func(i int) string) (n int) {
	for i := range tries {
		if e.admit(endpoint(i), shop) {
			n++
		}
	}
	return n
}

func one(name string) func(int) string    { return func(int) string { return name } }
func each(name string) func(i int) string { return func(i int) string { return fmt.Sprint(name, i) } }

func TestPlacesOfOneEndpoint(t *testing.T) {
	e := newEndpoints()
	is := func(what string, want int) {
		t.Helper()
		if got := e.taken(1000, 1, one("a")); got != want {
			t.Errorf("%s it has %d places, want %d", what, got, want)
		}
		if got := e.room(); got != places-want && !e.states["a"].sick {
			t.Errorf("%s there is room for %d more", what, got)
		}
	}
	end := func(n int, answered bool) {
		for range n {
			e.done("a", answered)
		}
	}
	if e.answers("a") {
		t.Error("an answer of one that nothing was sent to is waited for")
	}
	is("new", 1)
	if !e.answers("a") {
		t.Error("its first answer is not waited for")
	}
	end(1, true)
	if e.answers("a") {
		t.Error("nothing is under way, and an answer is waited for")
	}
	is("answered once,", growth)
	end(growth, true)
	is("answered often,", mostEach)
	end(mostEach-1, true)
	end(1, false)
	is("once it did not answer,", 1)
	if e.answers("a") || e.room() != places || e.sick != 1 {
		t.Errorf("not answering, it is waited for, or takes a place from others: room %d, sick %d", e.room(), e.sick)
	}
	e.release("a")
	is("not answering, with nothing sent,", 1)
	end(1, true)
	is("answering again,", growth)
	for range growth {
		e.release("a")
	}
	if e.well != 0 || e.sick != 0 || len(e.fresh) != 0 {
		t.Errorf("at rest %d and %d are under way, %v new", e.well, e.sick, e.fresh)
	}
}

func TestPlacesOfMany(t *testing.T) {
	e := newEndpoints()
	// Those that do not answer share a room of their own.
	for i := range 2 * sickPlaces {
		e.admit(each("dead")(i), 1)
		e.done(each("dead")(i), false)
	}
	if got := e.taken(2*sickPlaces, 1, each("dead")); got != sickPlaces || e.room() != places {
		t.Errorf("%d that do not answer have a place, want %d; room for %d others", got, sickPlaces, e.room())
	}
	// New ones of one shop take what they like of the first half, and little of the second.
	if got := e.taken(places, 1, each("new")); got != places/2 {
		t.Errorf("%d new ones of one shop have a place, want %d", got, places/2)
	}
	if got := e.taken(places, 2, each("second shop's")); got != mostNew {
		t.Errorf("%d new ones of another have a place, want %d", got, mostNew)
	}
	e.done(each("second shop's")(0), true)
	if got := e.taken(places, 2, each("and another of the second's")); got != 1 {
		t.Errorf("when one has answered, %d more have a place, want 1", got)
	}
	if got := e.taken(1, 2, one(each("second shop's")(0))); got != 1 {
		t.Error("one that has answered has no place")
	}
	for shop := int64(3); e.room() > 0; shop++ {
		if e.taken(1, shop, one(fmt.Sprint("shop ", shop))) != 1 {
			t.Fatalf("there is room for %d, and a further shop's endpoint has no place", e.room())
		}
	}
	if e.taken(1, 1_000_000, one("late")) != 0 {
		t.Error("all places are taken, and there is one more")
	}
	e.done(each("dead")(0), false)
	if e.taken(1, 1, one(each("dead")(0))) != 1 {
		t.Error("all places are taken, and one that does not answer has none in its own room")
	}
}

func TestEndpointsAreForgotten(t *testing.T) {
	e := newEndpoints()
	e.admit("under way", 1)
	for i := range 2 * keptStates {
		e.admit(each("a")(i), 1)
		e.done(each("a")(i), true)
	}
	if len(e.states) > keptStates || e.states["under way"] == nil {
		t.Errorf("%d endpoints are remembered, at most %d; the one under way: %v", len(e.states), keptStates, e.states["under way"])
	}
	e.done("under way", true)
}
