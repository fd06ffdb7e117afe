package world_test

import (
	"context"
	"slices"

	"holdfast/internal/payment"
	"holdfast/internal/sim"
	"holdfast/internal/store"
)

// book is one operation in the centres' books that was found in ours, or not.
type book struct {
	sim.Operation
	found bool
}

// compare holds our books against the centres', operation by operation and both ways. Nothing may be in
// doubt any more.
func (w *world) compare() {
	books := w.centre.Books()
	w.figures.Operations += len(books.Operations)
	theirs := make(map[string]*book)
	var order []string
	lost := func(format string, args ...any) {
		w.figures.Lost++
		w.wrong(format, args...)
	}
	doubled := func(format string, args ...any) {
		w.figures.Doubled++
		w.wrong(format, args...)
	}
	for _, op := range books.Operations {
		key := centreOf(op.Scheme) + " " + op.Kind + " " + op.Reference
		if theirs[key] != nil {
			doubled("books: the centre has two of %s", key)
		}
		theirs[key] = &book{Operation: op}
		order = append(order, key)
	}
	var held, taken int64
	var names []string // of our payments at the centres
	err := w.process.store.Each(context.Background(), func(t *store.Timeline) error {
		p := &t.Payment
		name := w.name(p.ID)
		names = append(names, p.Reference())
		if p.Open != nil {
			w.wrong("books: %s is in doubt at rest: %s", name, describe(p))
			return nil
		}
		held += p.StillHeld().Minor
		taken += p.Captured.Minor - p.Refunded.Minor
		find := func(op *payment.Operation, kind, reference string) *book {
			key := string(p.Attempt.Method) + " " + kind + " " + reference
			b := theirs[key]
			switch {
			case b == nil:
				lost("books: the centre does not have %s's %s of %d", name, kind, op.Amount.Minor)
				return nil
			case b.found:
				doubled("books: %s's %s counts for another operation too", name, kind)
			case b.Amount != op.Amount.Minor:
				w.wrong("books: %s's %s is %d here and %d at the centre", name, kind, op.Amount.Minor, b.Amount)
			}
			b.found = true
			return b
		}
		begun := "" // what the payment's money is called at the centre, by our own reference
		var hold *book
		for i := range t.Operations {
			op := &t.Operations[i]
			if !op.Kind.MovesMoney() {
				continue
			}
			gone := op.Reason == payment.HoldGone && (op.Kind == payment.OpCapture || op.Kind == payment.OpVoid)
			if op.Outcome != payment.Approved && !gone {
				continue
			}
			if op.Kind == payment.OpHold || op.Kind == payment.OpCharge {
				begun = op.Ref
			}
			centre := string(p.Attempt.Method)
			reference := referenceAt(centre, op, begun)
			switch {
			case op.Kind == payment.OpHold:
				hold = find(op, "hold", reference)
			case gone:
				// The centre let go of it by itself; that is in the hold's own state.
			case op.Kind == payment.OpVoid:
				reference = begun
				if centre == string(payment.Uzcard) {
					reference = p.Attempt.Centre.Hold
				}
				kind := "void"
				if theirs[centre+" lapse "+reference] != nil {
					kind = "lapse"
				}
				find(op, kind, reference)
			case op.Kind == payment.OpCharge && op.Look && theirs[centre+" capture "+reference] != nil:
				// Found after a restore: it was taken in two stages, of which this store never saw the first.
				capture := find(op, "capture", reference)
				for _, of := range theirs {
					if of.Kind == "hold" && of.Scheme == capture.Scheme && of.HoldID == capture.HoldID {
						of.found = true
					}
				}
			default:
				find(op, string(op.Kind), reference)
			}
		}
		if hold != nil && (hold.Captured != p.Captured.Minor || hold.Released != p.Released.Minor) {
			w.wrong("books: %s captured %d and released %d; at the centre %d and %d", name, p.Captured.Minor, p.Released.Minor, hold.Captured, hold.Released)
		}
		return nil
	})
	if err != nil {
		w.wrong("books: %v", err)
	}
	for _, key := range slices.Compact(order) {
		op := theirs[key]
		// What lapsed before we knew of it is nobody's: the payer has his money back. So it is with what a gateway let go of that
		// was lost with its store.
		over := op.Kind == "lapse" || op.Kind == "hold" && op.State == "lapsed"
		if w.lost != nil {
			over = over || op.Kind == "void" || op.Kind == "hold" && op.State == "dismissed"
			// But a hold that bears our reference is found by it, and does not wait for days until it lapses.
			over = over && !(op.State == "lapsed" && op.Scheme != string(payment.Uzcard))
		}
		ref := op.Reference
		if made, ok := w.holds[op.HoldID]; ok && op.Scheme == string(payment.Uzcard) {
			ref = made
		}
		switch {
		case op.found || over:
		case w.tooLate(ref, names):
			switch op.Kind {
			case "charge", "capture":
				taken += op.Amount
			case "refund":
				taken -= op.Amount
			case "hold":
				held += op.Amount - op.Captured - op.Released
			}
		default:
			doubled("books: the centre did a %s of %d (%s, %s, %s), and nothing of ours says so", op.Kind, op.Amount, op.Scheme, op.State, ref)
		}
	}
	var theirHeld, theirTaken int64
	for _, c := range books.Cards {
		theirHeld += c.Held
		theirTaken += c.Opening - c.Balance
	}
	if held != theirHeld || taken != theirTaken {
		w.wrong("books: we hold %d and keep %d; the centres hold %d and keep %d", held, taken, theirHeld, theirTaken)
	}
}

// centreOf is what the gateway calls the centre of a scheme.
func centreOf(scheme string) string {
	if scheme == "visa" || scheme == "mastercard" {
		return string(payment.BankCard)
	}
	return scheme
}

// referenceAt is what a centre's books call an operation (see sim.Operation): a centre that takes no
// reference of ours for it has its own, or that of the operation which the payment's money began with.
func referenceAt(centre string, op *payment.Operation, begun string) string {
	switch {
	case centre == string(payment.Uzcard) && op.Kind == payment.OpHold:
		return op.Centre.Hold
	case centre == string(payment.Humo), centre == string(payment.BankCard) && op.Kind == payment.OpCapture:
		return begun
	}
	return op.Ref
}
