package gateway_test

import (
	"fmt"
	"hash/fnv"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/gateway"
	"holdfast/internal/payment"
	"holdfast/internal/sim"
)

// ways are the lives that a payment can have, and the calls that each makes at the centre.
var ways = []struct {
	name   string
	change func(*payment.Terms)
	accept payment.Accept
	sum    int64
	calls  []string
	done   map[string]int // what the centre shall have done, exactly once each
	state  payment.State
}{
	{"capture", func(*payment.Terms) {}, payment.Capture, 60_000, []string{"cards.new.otp", "cards.new.verify", "hold.create", "hold.dismiss.charge"},
		map[string]int{"hold": 1, "capture": 1}, payment.Captured},
	{"cancel", func(*payment.Terms) {}, payment.Cancel, 0, []string{"hold.create", "hold.dismiss"},
		map[string]int{"hold": 1, "void": 1}, payment.Voided},
	{"one stage", oneStage, payment.Capture, 0, []string{"cards.new.verify", "trans.pay.purpose"},
		map[string]int{"charge": 1}, payment.Captured},
}

// spoilers are the ways in which a call to the centre goes wrong.
var spoilers = []string{
	"request_lost", "answer_lost", "reset", "fail_before", "fail_after_done", "http_502", "unknown_301", "unknown_301_not_done",
	"error_code", "garbage", "truncated", "wrong_id", "wrong_amount",
}

// queries are the calls that ask what became of a call.
var queries = map[string][]string{
	"hold.create": {"hold.get.cardId"}, "trans.pay.purpose": {"trans.ext"},
	"hold.dismiss.charge": {"trans.ext", "hold.get.id"}, "hold.dismiss": {"hold.get.id"},
}

// spoil arranges a bad day; false: it cannot happen to that call.
func (w *world) spoil(method, name string, after int) bool {
	f := sim.Fault{Method: method, Name: name, After: after}
	if name == "error_code" {
		f.Code = -300
	}
	return w.sim.AddFault(f) == nil
}

// once fails the test where the centre did anything but what it should have done, once.
func (w *world) once(before, want map[string]int, what string) {
	w.t.Helper()
	after := w.made()
	for _, kind := range []string{"hold", "charge", "capture", "void", "lapse", "refund"} {
		if got := after[kind] - before[kind]; got != want[kind] {
			w.t.Errorf("%s: the centre did %s %d times, want %d", what, kind, got, want[kind])
		}
	}
}

// Each call of each life of a payment goes wrong in each way, alone and together with the first
// inquiry about it: at rest the payment has ended as it should, and nothing was done twice.
func TestEveryCallGoesWrong(t *testing.T) {
	var spoilt atomic.Int64
	t.Cleanup(func() {
		if !t.Failed() { // else it has been said what was
			t.Logf("figures: faults: %d payments of which calls went wrong; at rest lost 0, doubled 0", spoilt.Load())
		}
	})
	for _, way := range ways {
		for _, method := range way.calls {
			t.Run(way.name+", "+method, func(t *testing.T) {
				t.Parallel() // most of it is waiting for the disk
				w := newWorld(t)
				card := w.goodCard(0)
				run := func(what string) {
					before := w.made()
					p := w.drive(w.prepare(way.change).ID, card, way.accept, way.sum)
					if p.State != way.state {
						t.Errorf("%s: it ends as %s, last refusal %q", what, p.State, p.LastRefusal)
					}
					w.once(before, way.done, what)
					w.clean()
					spoilt.Add(1)
					w.sim.ClearFaults()
					if t.Failed() {
						t.Logf("so far: %s", what)
					}
				}
				for i, name := range spoilers {
					if underRace && (i+len(method))%6 != 0 || !w.spoil(method, name, 0) {
						continue
					}
					run(name)
					// And the inquiry goes wrong too.
					for _, query := range queries[method] {
						for _, second := range []string{"answer_lost", "garbage", "not_found_once", "unknown_301", "wrong_amount"} {
							if name != "answer_lost" && name != "request_lost" {
								continue
							}
							if w.spoil(method, name, 0) && w.spoil(query, second, 0) {
								run(name + ", then " + query + " " + second)
							}
							w.sim.ClearFaults()
						}
					}
				}
			})
		}
	}
}

// An answer comes when its question is long over (a person has said what became of the hold), and the payer's next card is
// being asked for its code. It is no answer to that, and whoever heard it asks nothing.
func TestLateAnswerAsksNothing(t *testing.T) {
	w := newWorld(t)
	w.fault(sim.Fault{Method: "hold.create", Name: "request_lost"})
	p := w.prepare()
	challenged := w.must(w.pay(p.ID, w.goodCard(0)))(payment.Challenged)
	if p, err := w.submit(challenged, w.code(w.goodCard(0))); err != nil || p.Open == nil {
		t.Fatalf("%s, %v: it should be in doubt", p.State, err)
	}
	w.later(6 * time.Second)

	arrived, let := make(chan string, 10), [...]chan struct{}{make(chan struct{}), make(chan struct{})}
	var calls, codes atomic.Int64
	w.watch(nil, func(method string) {
		if method == "cards.new.otp" {
			codes.Add(1)
		}
		if n := int(calls.Add(1)); n <= len(let) {
			arrived <- method
			<-let[n-1]
		}
	})
	var inquiring, paying sync.WaitGroup
	inquiring.Go(func() { w.step() })
	if method := <-arrived; method != "hold.get.cardId" {
		t.Fatal(method)
	}
	w.later(time.Minute) // the process stands still
	w.resolve(p.ID, payment.Resolution{Outcome: payment.Refused})
	paying.Go(func() { w.must(w.pay(p.ID, w.goodCard(1)))(payment.Challenged) })
	if method := <-arrived; method != "cards.new.otp" {
		t.Fatal(method)
	}
	close(let[0])
	inquiring.Wait()
	open := w.read(p.ID).Open
	close(let[1])
	paying.Wait()
	if open == nil || open.Kind != payment.OpChallenge || codes.Load() != 1 {
		t.Fatalf("after the late answer %+v is open, and the centre was asked for %d codes", open, codes.Load())
	}
	w.must(w.submit(w.read(p.ID), w.code(w.goodCard(1))))(payment.Held)
	w.clean()
}

// One of two gateways stands still with the centre's word that it does not know of the hold, which was too early to prove
// anything. While the other asks again it goes on: the payer must not pay a second time.
func TestAnswerOvertakenByAnotherGateway(t *testing.T) {
	alone := func(e engine) bool { return e.gateways < 2 }
	for _, e := range slices.DeleteFunc(slices.Clone(engines), alone) {
		t.Run(e.name, func(t *testing.T) {
			w := newWorldOn(t, e)
			w.fault(sim.Fault{Method: "hold.create", Name: "fail_after_done"})
			w.fault(sim.Fault{Method: "hold.get.cardId", Name: "not_found_once"})
			p := w.must(w.pay(w.prepare().ID, w.goodCard(0)))(payment.Challenged)
			p, err := w.submit(p, w.code(w.goodCard(0)))
			if err != nil || p.Open == nil {
				t.Fatalf("%s, %v: it should be in doubt", p.State, err)
			}
			w.set(p.Due())
			answered, goOn := make(chan struct{}), make(chan struct{})
			w.watch(func(at gateway.Point, _ payment.ID) {
				if at == gateway.Answered {
					close(answered)
					<-goOn
				}
			}, nil)
			var first sync.WaitGroup
			first.Go(func() { w.step() })
			<-answered
			w.later(3 * time.Minute)
			w.watch(func(at gateway.Point, _ payment.ID) {
				if at == gateway.QuestionCommitted {
					close(goOn)
					first.Wait()
				}
			}, nil)
			if _, err := w.others[0].gateway.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.watch(nil, nil)
			w.must(w.read(p.ID), nil)(payment.Held)
			w.clean()
		})
	}
}

// An answer that comes after we have given up waiting is as good as lost.
func TestAnswerAfterTheTimeOut(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			// Long enough for a call on a busy machine, and shorter than the slow answer of 2 s.
			w := newWorld(t, 500*time.Millisecond)
			for _, method := range way.calls[1:] {
				w.fault(sim.Fault{Method: method, Name: "slow"})
			}
			before := w.made()
			p := w.drive(w.prepare(way.change).ID, w.goodCard(0), way.accept, way.sum)
			if p.State != way.state {
				t.Errorf("it ends as %s", p.State)
			}
			w.once(before, way.done, "slow")
			w.clean()
		})
	}
}

// Two payments of one card and one sum, and of both the answer to the hold is lost: each finds its own.
func TestTwinsInDoubt(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprintf("restarted %v", restarted), func(t *testing.T) {
			w := newWorld(t)
			w.fixNumbers()
			card := w.goodCard(0)
			var twins []payment.Payment
			for range 2 {
				p := w.prepare()
				twins = append(twins, w.must(w.pay(p.ID, card))(payment.Challenged))
			}
			w.fault(sim.Fault{Method: "hold.create", Name: "answer_lost", Times: 2})
			together(2, func(i int) {
				if p, err := w.submit(twins[i], card.FixedOTP); err != nil || p.Open == nil {
					t.Errorf("%s, %v", p.State, err)
				}
			})
			if restarted {
				w.restart()
			}
			w.rest()
			a, b := w.read(twins[0].ID), w.read(twins[1].ID)
			if a.State != payment.Held || b.State != payment.Held || a.Attempt.Centre.Hold == b.Attempt.Centre.Hold {
				t.Errorf("they are %s with hold %s, and %s with hold %s", a.State, a.Attempt.Centre.Hold, b.State, b.Attempt.Centre.Hold)
			}
			w.clean()
			w.must(w.decide(a.ID, payment.Capture, 60_000))(payment.Captured)
			w.must(w.decide(b.ID, payment.Cancel, 0))(payment.Voided)
			if made := w.made(); made["hold"] != 2 || made["capture"] != 1 || made["void"] != 1 {
				t.Errorf("the centre did %v", made)
			}
			w.clean()
		})
	}
}

// resembling makes two payments whose holds the connector cannot tell apart: same card, same sum, and
// the same salt in the time they shall last (package svgate: FNV-1a of our reference, modulo 120).
func (w *world) resembling(card sim.Card) (twins [2]payment.Payment) {
	w.t.Helper()
	bySalt := make(map[uint32]payment.Payment)
	for range 121 {
		p := w.prepare()
		h := fnv.New32a()
		fmt.Fprint(h, p.Reference(), "_3") // after the code and its check
		if other, found := bySalt[h.Sum32()%120]; found {
			for i, p := range []payment.Payment{other, p} {
				twins[i] = w.must(w.pay(p.ID, card))(payment.Challenged)
			}
			return twins
		}
		bySalt[h.Sum32()%120] = p
	}
	w.t.Fatal("121 payments with 121 of 120 salts")
	return twins
}

// One has its hold; the other's request never arrived, and the hold it finds is not its own.
func TestHoldThatBelongsToAnother(t *testing.T) {
	w := newWorld(t)
	card := w.goodCard(0)
	twins := w.resembling(card)
	w.must(w.submit(twins[0], card.FixedOTP))(payment.Held)
	w.fault(sim.Fault{Method: "hold.create", Name: "request_lost"})
	if p, err := w.submit(twins[1], card.FixedOTP); err != nil || p.Open == nil {
		t.Fatalf("%s, %v", p.State, err)
	}
	w.rest()
	if p := w.must(w.read(twins[1].ID), nil)(payment.Created); p.LastRefusal != payment.Unavailable {
		t.Errorf("refused for %q", p.LastRefusal)
	}
	if made := w.made(); made["hold"] != 1 {
		t.Errorf("the centre did %v", made)
	}
	w.clean()
}

// Both look for their hold at the same moment, and there is one: one of them gets it.
func TestOneHoldWantedByTwo(t *testing.T) {
	w := newWorld(t)
	card := w.goodCard(0)
	twins := w.resembling(card)
	for i, name := range []string{"answer_lost", "request_lost"} {
		w.fault(sim.Fault{Method: "hold.create", Name: name})
		if _, err := w.submit(twins[i], card.FixedOTP); err != nil {
			t.Fatal(err)
		}
	}
	// Neither answer is committed before both are there.
	var both sync.WaitGroup
	both.Add(2)
	w.watch(func(at gateway.Point, _ payment.ID) {
		if at == gateway.Answered {
			both.Done()
			both.Wait()
		}
	}, nil)
	w.later(6 * time.Second)
	if n := w.step(); n != 2 {
		t.Fatalf("%d payments were taken up, want 2", n)
	}
	w.watch(nil, nil)
	a, b := w.read(twins[0].ID), w.read(twins[1].ID)
	if a.State != payment.Held {
		a, b = b, a
	}
	if a.State != payment.Held || b.Open == nil || b.Open.Outcome != payment.Unknown || !strings.HasSuffix(b.Open.Cause, a.Attempt.Centre.Hold+" belongs to another payment") {
		t.Errorf("one is %s, the other %s with %+v open", a.State, b.State, b.Open)
	}
	w.rest()
	w.must(w.read(b.ID), nil)(payment.Created)
	if made := w.made(); made["hold"] != 1 {
		t.Errorf("the centre did %v", made)
	}
	w.clean()
}

// One twin's request never arrived, the other's answer was lost: the one hold is not shared.
func TestOneHoldOfTwins(t *testing.T) {
	w := newWorld(t)
	w.fixNumbers()
	card := w.goodCard(0)
	var twins []payment.Payment
	for range 2 {
		p := w.prepare()
		twins = append(twins, w.must(w.pay(p.ID, card))(payment.Challenged))
	}
	for i, name := range []string{"answer_lost", "request_lost"} {
		w.fault(sim.Fault{Method: "hold.create", Name: name})
		if _, err := w.submit(twins[i], card.FixedOTP); err != nil {
			t.Fatal(err)
		}
	}
	w.rest()
	a, b := w.read(twins[0].ID), w.read(twins[1].ID)
	if a.State != payment.Held || b.State != payment.Created || b.LastRefusal != payment.Unavailable {
		t.Errorf("they are %s and %s (%q)", a.State, b.State, b.LastRefusal)
	}
	if made := w.made(); made["hold"] != 1 {
		t.Errorf("the centre did %v", made)
	}
	w.clean()
}

// A machine that was suspended between the commit of a question and its sending does not send it any more: asked
// about meanwhile the centre would have said that it knows nothing of it, and been believed.
func TestStoodStillBeforeSending(t *testing.T) {
	for _, way := range ways {
		for skip := range 4 {
			t.Run(fmt.Sprintf("%s, question %d", way.name, skip+1), func(t *testing.T) {
				w := newWorld(t)
				card := w.goodCard(0)
				p := w.prepare(way.change)
				questions, stood := 0, false
				w.watch(func(at gateway.Point, _ payment.ID) {
					if at != gateway.QuestionCommitted {
						return
					}
					if questions++; questions == skip+1 {
						w.later(time.Minute)
						stood = true
					}
				}, func(method string) {
					if stood && questions == skip+1 {
						t.Errorf("%s is sent a minute too late", method)
					}
				})
				p = w.drive(p.ID, card, way.accept, way.sum)
				w.watch(nil, nil)
				if p.State != way.state {
					t.Errorf("it ends as %s, last refusal %q", p.State, p.LastRefusal)
				}
				w.once(map[string]int{}, way.done, "stood still")
				w.clean()
			})
		}
	}
}

// dies runs a command in a goroutine that may end at a named point, as a process does that is killed.
func dies(command func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		command()
	}()
	<-done
}

// killAt makes the n-th point from now the last one that the gateway reaches; it returns whether it
// came to that.
func (w *world) killAt(n int) (died func() bool) {
	var reached atomic.Int64
	var dead atomic.Bool
	w.watch(func(gateway.Point, payment.ID) {
		if reached.Add(1) == int64(n) {
			dead.Store(true)
			runtime.Goexit()
		}
	}, nil)
	return dead.Load
}

// The process dies at each named point of each life of a payment, and once more while it recovers:
// the payment goes on and ends as it should, and nothing was done twice.
func TestCrashAtEachPoint(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			card := w.goodCard(0)
			points := 0
			stride := 1
			if underRace {
				stride = 3
			}
			for crash := 1; ; crash += stride {
				if crash > 40 {
					t.Fatal("a payment that passes more than 40 points")
				}
				before := w.made()
				p := w.prepare(way.change)
				died := w.killAt(crash)
				dies(func() { w.drive(p.ID, card, way.accept, way.sum) })
				if !died() {
					w.watch(nil, nil)
					break
				}
				points += stride
				// It dies again in its recovery, if that asks anything; each time a little later.
				for again := 1; again <= 3; again++ {
					died := w.killAt(again)
					dies(w.restart)
					if !died() {
						break
					}
				}
				w.watch(nil, nil)
				w.restart()
				p = w.drive(p.ID, card, way.accept, way.sum)
				if p.State != way.state {
					t.Errorf("crash %d: it ends as %s, last refusal %q", crash, p.State, p.LastRefusal)
				}
				w.once(before, way.done, fmt.Sprint("crash ", crash))
				w.clean()
				if t.Failed() {
					t.FailNow()
				}
			}
			// Three points for each question: the code's, its check, the money, and what becomes of a hold.
			if want := map[string]int{"capture": 12, "cancel": 12, "one stage": 9}[way.name]; points != want {
				t.Errorf("it died at %d points, want %d", points, want)
			}
		})
	}
}
