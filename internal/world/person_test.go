package world_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/sim"
)

// A person who ends doubts (holdfast doubt ask and resolve). He looks up in the centre's own books what became of an operation
// and says so. He is right, but may come too early: then nothing may be taken of him.

// tooEarly are the errors that say to a person that there is nothing to speak about, or not yet.
var tooEarly = []error{payment.ErrNoDoubt, payment.ErrOtherDoubt, payment.ErrBeingAsked, payment.ErrNotAsked, payment.ErrAtBank}

// statementIn is how long after an operation was sent the centre's books show it for certain, whatever was late.
const statementIn = shown + time.Minute

// person has a person look at a payment.
func (w *world) person(id payment.ID) {
	process, ctx := w.process, context.Background()
	now, err := process.store.Payment(ctx, id)
	if err != nil {
		if !process.dead {
			w.wrong("%s cannot be read: %v", w.name(id), err)
		}
		return
	}
	op := now.Open
	early := op == nil || w.beingAsked(id) || op.Ask != payment.Query && op.Outcome != payment.Refused
	if !early && !w.calm && w.maybe(3) {
		w.say("%s: a person has it asked about", w.name(id))
		_, err := process.gateway.Hasten(ctx, id)
		if err != nil && !process.dead && !isOneOf(err, tooEarly) {
			w.wrong("%s: a person has it asked about: %v", w.name(id), err)
		}
		return
	}
	r, ref := payment.Resolution{Outcome: payment.Refused, By: "Gulnora", Why: "the centre's statement"}, "none"
	if op != nil {
		ref = op.Ref
		if !early && !w.shows(op) {
			return // he waits for a statement that has it
		}
		var ok bool
		if r, ok = w.statement(&now); !ok {
			return
		}
	}
	w.figures.Commands++
	w.say("%s: a person says of %s %s: %s %s of %d", w.name(id), kindOf(op), ref, r.Outcome, r.Reason, r.Amount.Minor)
	got, err := process.gateway.Resolve(ctx, id, ref, r)
	switch {
	case process.dead:
	case err == nil && early:
		w.wrong("a person's word on %s is taken too early: %s", w.name(id), describe(&now))
	case err != nil && !isOneOf(err, tooEarly), err != nil && w.calm && now.Doubt(w.now()) != nil && !early:
		w.wrong("a person's word on %s is not taken: %v", w.name(id), err)
	case err != nil:
		w.say("%s: a person: refused: %v", w.name(id), err)
	default:
		w.figures.Resolved++
		w.say("%s: a person: %s", w.name(id), describe(&got))
		if p := w.named(id); p != nil {
			w.acknowledged(p, &got)
		}
	}
}

func kindOf(op *payment.Operation) payment.Kind {
	if op == nil {
		return "nothing"
	}
	return op.Kind
}

func isOneOf(err error, of []error) bool {
	return slices.ContainsFunc(of, func(one error) bool { return errors.Is(err, one) })
}

// beingAsked reports that a centre is being asked about a payment, within the time for its answer.
func (w *world) beingAsked(id payment.ID) bool {
	return slices.ContainsFunc(w.asking, func(a asked) bool { return a.payment == id && w.now().Before(a.until) })
}

// shows reports that the centre's books tell all that there will ever be to tell of an operation, unless it is sent again.
func (w *world) shows(op *payment.Operation) bool {
	onTheWay := slices.ContainsFunc(w.late, func(c lateCall) bool { return c.ref == op.Ref })
	return !onTheWay && w.now().Sub(op.SentAt) > statementIn
}

// statement is what the centre's books say of the open operation of a payment. false: nothing that a person could say of it.
func (w *world) statement(p *payment.Payment) (r payment.Resolution, ok bool) {
	op, centre := p.Open, string(p.Attempt.Method)
	r = payment.Resolution{Outcome: payment.Refused, By: "Gulnora", Why: "the centre's statement"}
	line, err := w.process.store.Timeline(context.Background(), p.ID)
	if err != nil {
		return r, false
	}
	begun := op.Ref // what the payment's money is called at the centre, by our own reference
	for _, was := range line.Operations {
		if was.Outcome == payment.Approved && (was.Kind == payment.OpHold || was.Kind == payment.OpCharge) {
			begun = was.Ref
		}
	}
	var hold, found *sim.Operation
	books := w.centre.Books().Operations
	for i := range books {
		b := &books[i]
		if centreOf(b.Scheme) != centre {
			continue
		}
		ours := b.Reference == begun
		if centre == string(payment.Uzcard) {
			ours = w.holds[b.HoldID] == begun && b.HoldID != 0
		}
		if b.Kind == "hold" && ours {
			hold = b
		}
		switch op.Kind {
		case payment.OpHold:
			ours = ours && b.Kind == "hold"
		case payment.OpVoid:
			ours = ours && (b.Kind == "void" || b.Kind == "lapse")
		case payment.OpCharge: // one that was found after a restore may have been taken in two stages
			ours = b.Reference == op.Ref && (b.Kind == "charge" || op.Look && b.Kind == "capture")
		default:
			ours = b.Reference == referenceAt(centre, op, begun) && b.Kind == string(op.Kind)
		}
		if ours {
			found = b
		}
	}
	over := hold != nil && (hold.State == "dismissed" || hold.State == "lapsed")
	switch {
	case found == nil && op.Kind == payment.OpVoid && hold != nil && hold.State == "captured":
		return r, false
	case found == nil && op.Kind == payment.OpCapture && over:
		r.Reason = payment.HoldGone
	case found == nil, op.Kind == payment.OpHold && over:
	default:
		r.Outcome = payment.Approved
		if op.Look && found.Amount != op.Amount.Minor {
			r.Amount = money.New(found.Amount, op.Amount.Currency)
		}
		switch op.Kind {
		case payment.OpHold, payment.OpCharge:
			if r.Hold = strconv.FormatInt(found.HoldID, 10); centre == string(payment.BankCard) {
				r.Hold = w.orderAt(op.Ref)
			} else if found.HoldID == 0 {
				r.Hold = ""
			}
		}
		if op.Kind == payment.OpCharge || op.Kind == payment.OpCapture {
			r.RRN = found.RefNum
		}
	}
	return r, true
}

// orderAt is what the bank of Visa and Mastercard calls an order, as its own pages show it.
func (w *world) orderAt(number string) string {
	form := url.Values{"userName": {simKey}, "password": {simKey}, "orderNumber": {number}}.Encode()
	r, err := http.NewRequest(http.MethodPost, simURL+"/rbs/rest/getOrderStatusExtended.do", nil)
	if err != nil {
		w.wrong("%v", err)
		return ""
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res := w.deliver(r, []byte(form))
	if res == nil {
		return ""
	}
	defer res.Body.Close()
	var answer struct {
		Attributes []struct{ Name, Value string }
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		w.wrong("the order %s cannot be looked up: %v", number, err)
	}
	for _, a := range answer.Attributes {
		if strings.EqualFold(a.Name, "mdOrder") {
			return a.Value
		}
	}
	w.wrong("the bank does not say what the order %s is called: %v", number, fmt.Sprint(answer))
	return ""
}
