package gateway_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"holdfast/internal/gateway"
	"holdfast/internal/payment"
	"holdfast/internal/sim"
)

// Concurrent histories: what callers were told, with the moments of asking and of being told, is
// explained by some order of the calls, one after another (linearizability, checked by porcupine against
// a payment of a few lines). Answers of the centre are lost meanwhile.

// asked is one call of a history.
type asked struct {
	Payment string // the shop's name for it
	Op      string // prepare, pay, capture, cancel, refund, look
	Sum     int64  // of a capture or a refund
	Refund  int    // which of the payment's refunds
}

// told is what a call answered.
type told struct {
	Said    string // done, pending, busy; or why not: not held, not captured, too much, or the decision that stands
	Created bool   // prepare
	ID      payment.ID
	State   payment.State // look
	Taken   int64         // look
	Refunds [refundNames]refund
}

// refundNames is how many refunds a shop has names for, on one payment.
const refundNames = 4

type refund struct {
	Amount int64
	Done   bool
}

// modelled is a payment as the model has it.
type modelled struct {
	made     bool
	id       payment.ID
	paid     bool
	decision string // in words; "" until there is one
	taken    int64  // by the decision
	settled  bool   // somebody was told that the decision is carried out
	refunds  [refundNames]refund
}

func decisionWords(accept payment.Accept, sum int64) string { return fmt.Sprintf("%s %d", accept, sum) }

var paymentModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		by := make(map[string][]porcupine.Operation)
		for _, o := range history {
			if o.Output.(told).Said == "busy" {
				continue // who is told to come again has changed nothing
			}
			name := o.Input.(asked).Payment
			by[name] = append(by[name], o)
		}
		for _, part := range by {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return modelled{} },
	Step: func(state, input, output any) (bool, any) {
		was, in, out := state.(modelled), input.(asked), output.(told)
		is, ok := was.step(in, out)
		return ok, is
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// step says what the payment is after a call, and whether the call may have answered so.
func (p modelled) step(in asked, out told) (modelled, bool) {
	if in.Op == "prepare" {
		if p.made {
			return p, !out.Created && out.ID == p.id
		}
		p.made, p.id = true, out.ID
		return p, out.Created
	}
	if !p.made {
		return p, false
	}
	canceled := strings.HasPrefix(p.decision, "cancel")
	switch in.Op {
	case "pay":
		if out.Said == "finished" {
			return p, canceled && !p.paid
		}
		ok := out.Said == "done" && !p.paid && p.decision == ""
		p.paid = true
		return p, ok
	case "capture", "cancel":
		mine := decisionWords(payment.Accept(in.Op), in.Sum)
		switch {
		case out.Said == "not held":
			return p, !p.paid && p.decision == "" && in.Op == "capture"
		case p.decision != "" && p.decision != mine:
			return p, out.Said == p.decision
		case p.decision == "" && !p.paid && in.Op == "capture":
			return p, false
		}
		p.decision, p.taken = mine, in.Sum
		return p, out.Said == "done" || out.Said == "pending"
	case "refund":
		r := &p.refunds[in.Refund]
		left := p.taken
		for _, r := range p.refunds {
			left -= r.Amount
		}
		switch out.Said {
		case "not captured":
			return p, !p.settled || canceled
		case "too much":
			return p, r.Amount == 0 && p.paid && in.Sum > left
		}
		if r.Amount == 0 { // it is new
			if canceled || p.decision == "" || in.Sum > left {
				return p, false
			}
			r.Amount, p.settled = in.Sum, true
		}
		got := out.Refunds[in.Refund]
		return p, got.Amount == r.Amount && got.Done == (out.Said == "done")
	case "look":
		switch out.State {
		case payment.Created, payment.Challenged:
			if p.paid || p.decision != "" {
				return p, false
			}
		case payment.Held:
			if !p.paid || p.settled {
				return p, false
			}
		case payment.Captured:
			if canceled || p.decision == "" {
				return p, false
			}
			p.settled = true
		case payment.Voided:
			if !canceled {
				return p, false
			}
			p.settled = true
		default:
			return p, false
		}
		if out.State == payment.Captured && out.Taken != p.taken || out.State != payment.Captured && out.Taken != 0 {
			return p, false
		}
		for i, r := range p.refunds {
			if got := out.Refunds[i]; got.Amount != r.Amount || r.Done && !got.Done {
				return p, false
			}
			p.refunds[i].Done = out.Refunds[i].Done
		}
		return p, true
	}
	return p, false
}

// recorder is a history in the making.
type recorder struct {
	w     *world
	begun time.Time
	mu    sync.Mutex
	all   []porcupine.Operation
}

func (h *recorder) call(client int, in asked, do func() told) told {
	called := time.Since(h.begun)
	out := do()
	returned := time.Since(h.begun)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, porcupine.Operation{ClientId: client, Input: in, Call: int64(called), Output: out, Return: int64(returned)})
	if in.Op != "prepare" && in.Op != "pay" && in.Op != "look" && (out.Said == "done" || out.Said == "pending") {
		// Such a call does two things, one after the other: it has something begun, and looks how it stands.
		look := asked{Payment: in.Payment, Op: "look"}
		h.all = append(h.all, porcupine.Operation{ClientId: client, Input: look, Call: int64(called), Output: out, Return: int64(returned)})
	}
	return out
}

// refusal is a refusal in the model's words.
func refusal(err error) (string, bool) {
	var refused *payment.Error
	if !errors.As(err, &refused) {
		return fmt.Sprint(err), false
	}
	switch refused.Reason {
	case payment.Busy, payment.InDoubt, payment.UnderWay:
		return "busy", true
	case payment.NotHeld:
		return "not held", true
	case payment.NotCaptured:
		return "not captured", true
	case payment.RefundAmount, payment.NothingToRefund:
		return "too much", true
	case payment.DecisionStands:
		return decisionWords(refused.Decision.Accept, refused.Decision.Amount.Minor), true
	}
	return string(refused.Reason), false
}

// shown is a payment as a caller sees it.
func shown(p payment.Payment) (out told) {
	out.State, out.Taken = p.State, p.Captured.Minor
	for _, r := range p.Refunds {
		var n int
		if _, err := fmt.Sscanf(r.ShopID, "refund-%d", &n); err == nil {
			out.Refunds[n] = refund{r.Amount.Minor, r.State == payment.RefundDone}
		}
	}
	return out
}

// payer pays a payment, whatever goes wrong at the centre.
func (h *recorder) payer(client int, name string, id payment.ID, door *gateway.Gateway, card sim.Card) {
	h.call(client, asked{Payment: name, Op: "pay"}, func() told {
		for range 2_000 {
			p, err := h.w.store.Payment(h.w.t.Context(), id)
			switch {
			case p.State == payment.Held || p.State == payment.Captured:
				return told{Said: "done"}
			case p.State == payment.Voided && p.Held.IsZero():
				return told{Said: "finished"}
			case p.State.Terminal(): // it was paid and is over
				return told{Said: "done"}
			case p.Open != nil:
				eventually(h.w.t, "the open question is answered", func() bool { return h.w.read(id).Open == nil })
			case p.State == payment.Created:
				_, err = door.Pay(h.w.t.Context(), h.w.shop, id, handedIn(card))
			default:
				// The newest code to the phone may be another payment's, for the same card: then it is tried again.
				code := h.w.code(card)
				_, err = door.SubmitCode(h.w.t.Context(), id, p.Attempt.Challenge.VerifyID, payment.OTP(code))
			}
			switch reason(err) {
			case payment.CodeExpired, // time went on for another payment's sake
				payment.AttemptsUsedUp: // or the centre was not reached with this code too often: there must be a new one
				_, err = door.Pay(h.w.t.Context(), h.w.shop, id, handedIn(card))
			}
			var refused *payment.Error
			if err != nil && !errors.As(err, &refused) {
				h.w.t.Error(err)
			}
		}
		p := h.w.read(id)
		h.w.t.Errorf("payment %s is not paid: %s, open %+v, %+v, refused for %q, attempt %+v", id, p.State, p.Open, p.Progress.WrongCodes, p.LastRefusal, p.Attempt)
		return told{Said: "never paid"}
	})
}

// history lets callers loose on payments and records what they are told.
func (w *world) history(payments, callers, calls int, round int) []porcupine.Operation {
	h := &recorder{w: w, begun: time.Now()}
	for _, method := range []string{"hold.dismiss.charge", "hold.dismiss", "trans.reverse", "trans.reverse.partial", "hold.create"} {
		for i, name := range []string{"answer_lost", "fail_after_done", "request_lost", "unknown_301", "reset"} {
			if method == "hold.create" && name != "answer_lost" {
				continue
			}
			w.fault(sim.Fault{Method: method, Name: name, Times: 2, After: 2*i + round%3})
		}
	}
	// Time stands still while a question is under way: for the one who asks it would be the process that stood still, the
	// question would be put off, and time would go on to that, by days in the end.
	var begun sync.Map // by Operation.Ref, Operation.Asks of the last question that was begun
	var underWay atomic.Int32
	w.watch(func(point gateway.Point, id payment.ID) {
		switch point {
		case gateway.QuestionCommitted:
			underWay.Add(1)
			if op := w.read(id).Open; op != nil { // else another gateway had the answer before
				begun.Store(op.Ref, op.Asks)
			}
		case gateway.AnswerCommitted:
			underWay.Add(-1)
		}
	}, nil)
	defer w.watch(nil, nil)
	var over atomic.Bool
	var clock sync.WaitGroup
	clock.Go(func() { // time goes on to the next inquiry
		for !over.Load() {
			var next time.Time
			asking := underWay.Load() > 0
			for _, p := range w.all() {
				if op := p.Open; op != nil && !op.NextAt.IsZero() { // else it waits for a person, and rest says so
					asks, _ := begun.Load(op.Ref)
					asking = asking || asks != op.Asks
					if next.IsZero() || op.NextAt.Before(next) {
						next = op.NextAt
					}
				}
			}
			if !asking && next.After(w.clock()) {
				w.set(next)
			}
			for i := range len(w.others) + 1 {
				if _, err := w.door(i).Step(w.t.Context()); err != nil {
					w.t.Error(err)
				}
			}
		}
	})
	terms := w.prepare().Terms
	// The deadline is the storm's business: here nobody's time ends.
	const long = 29 * 24 * time.Hour
	w.shop.Settings.HoldSeconds = map[string]int64{string(payment.Uzcard): int64(long / time.Second)}
	together(callers, func(client int) {
		door := w.door(client)
		for i := range payments {
			name := fmt.Sprint("history-", i)
			terms := terms
			terms.ShopPaymentID = name
			prepared := h.call(client, asked{Payment: name, Op: "prepare"}, func() told {
				p, created, err := door.Prepare(w.t.Context(), w.shop, terms, long)
				if err != nil {
					w.t.Error(err)
				}
				return told{Created: created, ID: p.ID}
			})
			if client == i%callers {
				h.payer(client, name, prepared.ID, door, w.goodCard(i))
			}
			for n := range calls {
				if n == calls/4 { // most calls are about money that is there
					eventually(w.t, "it is paid", func() bool { p := w.read(prepared.ID); return p.Held.Positive() || p.State.Terminal() })
				}
				if n == calls/2 {
					eventually(w.t, "the decision is carried out", func() bool { return w.read(prepared.ID).State.Terminal() })
				}
				in := asked{Payment: name, Op: []string{"look", "capture", "refund", "look", "refund", "cancel", "refund", "capture"}[(client+i+3*n)%8]}
				switch {
				case in.Op == "cancel" && i%4 != 3: // else nothing would ever be captured
					in.Op = "look"
				case in.Op == "capture":
					in.Sum = int64(10_000 * (5 + client%3))
				case in.Op == "refund":
					in.Refund, in.Sum = (client+n)%(refundNames-1), int64(25_000+1000*(client%3))
				}
				if n == calls-1 { // more than can be there
					in.Op, in.Sum, in.Refund = "refund", total, refundNames-1
				}
				h.call(client, in, func() told { return w.ask(door, in, prepared.ID) })
			}
		}
	})
	over.Store(true)
	clock.Wait()
	return h.all
}

// ask makes one call of a history.
func (w *world) ask(door *gateway.Gateway, in asked, id payment.ID) told {
	var p payment.Payment
	var err error
	switch in.Op {
	case "capture":
		p, err = door.Decide(w.t.Context(), id, payment.Capture, uzs(in.Sum), payment.ByMerchant)
	case "cancel":
		p, err = door.Decide(w.t.Context(), id, payment.Cancel, uzs(0).Zero(), payment.ByMerchant)
	case "refund":
		p, err = door.Refund(w.t.Context(), id, fmt.Sprint("refund-", in.Refund), uzs(in.Sum))
	case "look":
		p, err = w.store.Payment(w.t.Context(), id)
	}
	if err != nil {
		said, known := refusal(err)
		if !known {
			w.t.Errorf("%+v: %s", in, said)
		}
		return told{Said: said}
	}
	out := shown(p)
	out.Said = "done"
	switch {
	case in.Op == "refund" && !out.Refunds[in.Refund].Done, in.Op != "refund" && p.Open != nil && p.Refunds == nil:
		out.Said = "pending"
	}
	return out
}

func TestHistories(t *testing.T) {
	onEachEngine(t, func(t *testing.T, newWorld func() *world) {
		payments, callers, calls := 8, 6, 12
		if underRace {
			payments = 4
		}
		// What callers are told is a race. One history at least must show everything that is to be doctored.
		must := []string{"capture: done", "capture: pending", "refund: done", "refund: pending", "refund: too much", "pay: done"}
		const most = 20
		least, played, recorded, said := stormRounds(t, 1), 0, 0, make(map[string]int)
		var full []porcupine.Operation
		for ; played < least || full == nil && played < most; played++ {
			w := newWorld()
			history, here := w.history(payments, callers, calls, played), make(map[string]int)
			recorded += len(history)
			for _, o := range history {
				what := o.Input.(asked).Op + ": " + o.Output.(told).Said
				said[what]++
				here[what]++
			}
			explained(t, history)
			// One refund that is done may be as well explained without it; of several one is not.
			if !slices.ContainsFunc(must, func(what string) bool { return here[what] == 0 }) && here["refund: done"] > 3 {
				full = history
			}
			w.sim.ClearFaults()
			w.rest()
			w.clean()
		}
		t.Logf("figures: history: %s: %d histories, %d calls, 0 violations; they said %v", t.Name(), played, recorded, said)
		if full == nil {
			t.Fatalf("none of %d histories shows all of %q, and more than three refunds that are done", played, must)
		}
		doctor(t, full)
	})
}

// explained fails the test where no order of the calls explains what they returned, and shows how far one does.
func explained(t *testing.T, history []porcupine.Operation) {
	t.Helper()
	for _, part := range paymentModel.Partition(history) {
		result, info := porcupine.CheckOperationsVerbose(paymentModel, part, 2*time.Minute)
		if result == porcupine.Ok {
			continue
		}
		t.Errorf("no order of the calls explains what they returned: %s", result)
		var longest []int
		for _, orders := range info.PartialLinearizations() {
			for _, order := range orders {
				if len(order) > len(longest) {
					longest = order
				}
			}
		}
		show := func(i int, what string) {
			o := part[i]
			in, out := o.Input.(asked), o.Output.(told)
			t.Logf("%s by %d: %s %d (refund %d): %q, %s, %d taken, %v [%d, %d]", what, o.ClientId, in.Op, in.Sum, in.Refund, out.Said, out.State, out.Taken, out.Refunds, o.Call/1000, o.Return/1000)
		}
		for _, i := range longest {
			show(i, "explained")
		}
		for i := range part {
			if !slices.Contains(longest, i) {
				show(i, "NOT EXPLAINED")
			}
		}
	}
}

// doctor shows that the checker bites: one answer of a history that was found good is changed, in ways
// that a gateway with one rule broken would change it, and each time the history is refused.
func doctor(t *testing.T, history []porcupine.Operation) {
	t.Helper()
	for name, change := range map[string]func(in asked, out *told) bool{
		"a second payment was made": func(in asked, out *told) bool {
			if in.Op != "prepare" || out.Created {
				return false
			}
			out.Created = true
			return true
		},
		"another payment was answered": func(in asked, out *told) bool {
			if in.Op != "prepare" || out.Created {
				return false
			}
			out.ID[15]++
			return true
		},
		"a second decision was taken": func(in asked, out *told) bool {
			if in.Op != "capture" || !strings.HasPrefix(out.Said, "capture ") {
				return false
			}
			out.Said = "done"
			return true
		},
		"a decision was denied to the one who took it": func(in asked, out *told) bool {
			if in.Op != "capture" || out.Said != "done" {
				return false
			}
			out.Said = "cancel 0"
			return true
		},
		"another sum was taken": func(in asked, out *told) bool {
			if in.Op != "look" || out.State != payment.Captured {
				return false
			}
			out.Taken++
			return true
		},
		"a refund was forgotten": func(in asked, out *told) bool {
			done := slices.IndexFunc(out.Refunds[:], func(r refund) bool { return r.Done })
			if in.Op != "look" || done < 0 {
				return false
			}
			out.Refunds[done] = refund{}
			return true
		},
		"a refund was made twice as large": func(in asked, out *told) bool {
			if in.Op != "refund" || out.Said != "done" {
				return false
			}
			out.Refunds[in.Refund].Amount *= 2
			return true
		},
		"a refund was denied although there is money": func(in asked, out *told) bool {
			if in.Op != "refund" || out.Said != "done" {
				return false
			}
			out.Said = "not captured"
			return true
		},
	} {
		bitten, tried := 0, 0
		for i, o := range slices.Backward(history) {
			out := o.Output.(told)
			if !change(o.Input.(asked), &out) {
				continue
			}
			doctored := slices.Clone(history)
			doctored[i].Output = out
			name := o.Input.(asked).Payment
			doctored = slices.DeleteFunc(doctored, func(o porcupine.Operation) bool { return o.Input.(asked).Payment != name })
			tried++
			if porcupine.CheckOperationsTimeout(paymentModel, doctored, 20*time.Second) == porcupine.Illegal {
				bitten++
			}
			if tried == 3 {
				break
			}
		}
		// One or the other may be no contradiction: what is said to be missing came about at that very moment.
		if bitten == 0 {
			t.Errorf("%s: the checker refuses %d of %d histories that were doctored so", name, bitten, tried)
		}
	}
}
