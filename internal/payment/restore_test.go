package payment_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/internal/money"
	"holdfast/internal/payment"
)

// lost is a payment as the backup has it, an hour after it was taken.
func lost(w *walk) (*walk, time.Time) {
	w.later(time.Hour)
	restored := w.now
	return w.later(shows), restored
}

// captured is a payment of which all was captured.
func captured(t testing.TB) *walk { return open["capture"](t).approved() }

func TestWhatARestoreLeavesBehind(t *testing.T) {
	for name, tt := range map[string]struct {
		w    *walk
		want bool
	}{
		"created": {start(t, terms()), true}, "challenged": {start(t, terms()).challenged(), true}, "held": {open["hold"](t).approved(), true},
		"captured": {captured(t), true}, "in doubt": {inquired(t, "capture"), true},
		"being refunded": {captured(t).refund("r", 100_000), true}, "refunded in part": {captured(t).refund("r", 99_999).done(), true},
		"refunded": {captured(t).refund("r", 100_000).done(), false},
		"voided":   {open["void"](t).approved(), false}, "declined": {start(t, terms()).declined(), false},
	} {
		w, restored := lost(tt.w)
		if w.p.Behind(time.Time{}) {
			t.Errorf("%s: behind without a restore", name)
		}
		if got := w.p.Behind(restored); got != tt.want {
			t.Errorf("%s: behind %v", name, got)
		}
		if w.p.Behind(w.p.CreatedAt) {
			t.Errorf("%s: made after the restore, and behind", name)
		}
		if w.p.Open == nil && tt.want {
			if w.begin(payment.Reconcile{Restored: restored}); w.p.Behind(restored) {
				t.Errorf("%s: reconciled, and behind", name)
			}
			// Nobody pays twice on what he may have paid before.
			if waited := name == "created" || name == "challenged"; waited != (w.p.State == payment.Expired) {
				t.Errorf("%s: reconciled, it is %s", name, w.p.State)
			}
			if !w.p.Behind(restored.Add(24*time.Hour)) && !w.p.State.Terminal() {
				t.Errorf("%s: not behind after another restore", name)
			}
		}
	}
}

// What is asked about, and what each answer of the centre makes of the payment.
func TestAdoptWhatTheCentreDid(t *testing.T) {
	yes := payment.Answer{Outcome: payment.Approved}
	no := payment.Answer{Outcome: payment.NeverSeen}
	failed := payment.Answer{Outcome: payment.Refused, Reason: payment.Unavailable}
	gone := payment.Answer{Outcome: payment.Refused, Reason: payment.HoldGone}
	unsure := payment.Answer{Outcome: payment.Unknown, Cause: "asked for 100000, answered 60000"}
	for _, tt := range []struct {
		name   string
		walk   *walk
		answer payment.Answer
		looks  int
		adopt  payment.Kind
		then   payment.Answer
		want   string
	}{
		{"held, and it is", open["hold"](t).approved(), no, 1, "", no, ""},
		{"held, and a capture failed", open["hold"](t).approved(), failed, 1, "", no, ""},
		{"held, was captured", open["hold"](t).approved(), yes, 1, payment.OpCapture, yes, ">captured closed +capture +fee event succeeded"},
		{"held, was let go", open["hold"](t).approved(), gone, 1, payment.OpCapture, gone, ">voided closed +release event canceled"},
		{"held, another sum was captured", open["hold"](t).approved(), unsure, 1, payment.OpCapture, unsure, "kept"},
		{"held, the centre was away", open["hold"](t).approved(), unsure, 1, payment.OpCapture, no, "closed"},
		{"captured", captured(t), no, 3, "", no, ""},
		{"captured, was refunded", captured(t), yes, 3, payment.OpRefund, yes, "closed +refund event succeeded"},
		{"captured, the centre was away", captured(t), unsure, 3, payment.OpRefund, no, "closed"},
		{"one stage, was paid", start(t, oneStage()), yes, 12, payment.OpCharge, yes, ">captured closed +hold +capture +fee event succeeded"},
		{"one stage, the centre was away", start(t, oneStage()), unsure, 12, payment.OpCharge, no, "closed"},
		{"challenged, was captured", start(t, terms()).challenged(), yes, 24, payment.OpCharge, yes, ">captured closed +hold +capture +fee event succeeded"},
		{"challenged, is held", start(t, terms()).challenged(), yes, 24, payment.OpHold, yes, ">held closed +hold event waiting_for_capture"},
		{"challenged, nothing is known", start(t, terms()).challenged(), no, 24, "", no, ""},
		{"challenged, the centre was away", start(t, terms()).challenged(), unsure, 24, payment.OpHold, no, "closed"},
	} {
		w, restored := lost(tt.walk)
		before := w.p
		looks := w.p.Looks([]payment.Attempt{attempt(payment.CardFacts{})}, restored)
		if len(looks) != tt.looks {
			t.Fatalf("%s: %d looks", tt.name, len(looks))
		}
		look := looks[len(looks)-1] // the furthest: those before it were used up
		for i := range looks {
			if looks[i].Operation.Kind == tt.adopt {
				look = looks[i]
			}
		}
		adopt, ok := look.Means(tt.answer, w.now)
		if adopt != (tt.adopt != "") || !ok {
			t.Errorf("%s: adopt %v, %v", tt.name, adopt, ok)
		}
		if !adopt {
			continue
		}
		w.begin(payment.Adopt{Look: look, RefundID: "r", Restored: restored})
		op := *w.p.Open
		if op.Ref != look.Operation.Ref || op.Ask != payment.Query || op.N != before.LastOperation+1 {
			t.Errorf("%s: adopted as %+v", tt.name, op)
		}
		if w.p.State == payment.Challenged || w.p.Attempt.Card != look.Attempt.Card {
			t.Errorf("%s: it is %s, by %+v", tt.name, w.p.State, w.p.Attempt.Card)
		}
		before = w.p
		if got := outcome(before, w.settle(tt.then).lastSeen); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if err := books(w.p, w.entries); err != nil && w.p.Refunded.IsZero() {
			t.Errorf("%s: %v", tt.name, err)
		}
		// It is never sent, whatever time passes.
		for w.p.Open != nil && !w.p.Open.WaitsForPerson() {
			if w.at(w.p.Due()).begin(payment.Resume{}); w.p.Open.Ask != payment.Query {
				t.Fatalf("%s: %s", tt.name, w.p.Open.Ask)
			}
			w.unknown()
		}
		if w.p.Open != nil {
			continue
		}
		// No reference up to the one found is given again.
		if next := w.p.Looks([]payment.Attempt{attempt(payment.CardFacts{})}, restored); len(next) > 0 && next[0].N != look.N+1 {
			t.Errorf("%s: %d was looked for, next is %d", tt.name, look.N, next[0].N)
		}
	}
}

// What each answer to a look calls for: only what was done, or is not known, is adopted.
func TestMeans(t *testing.T) {
	refused := func(r payment.Reason) payment.Answer { return payment.Answer{Outcome: payment.Refused, Reason: r} }
	for _, tt := range []struct {
		kind  payment.Kind
		a     payment.Answer
		adopt bool
	}{
		{payment.OpHold, payment.Answer{Outcome: payment.Approved}, true},
		{payment.OpHold, payment.Answer{Outcome: payment.Unknown}, true},
		{payment.OpHold, refused(payment.CardRefused), false},
		{payment.OpHold, refused(payment.HoldGone), false},
		{payment.OpCharge, payment.Answer{Outcome: payment.Approved}, true},
		{payment.OpCharge, payment.Answer{Outcome: payment.Unknown}, true},
		{payment.OpCharge, payment.Answer{Outcome: payment.ChallengeGiven}, true},
		{payment.OpCharge, refused(payment.HoldGone), false},
		{payment.OpCapture, payment.Answer{Outcome: payment.Approved}, true},
		{payment.OpCapture, payment.Answer{Outcome: payment.Unknown}, true},
		{payment.OpCapture, refused(payment.HoldGone), true},
		{payment.OpCapture, refused(payment.Unavailable), false},
		{payment.OpRefund, payment.Answer{Outcome: payment.Approved}, true},
		{payment.OpRefund, payment.Answer{Outcome: payment.Unknown}, true},
		{payment.OpRefund, refused(payment.HoldGone), false},
	} {
		look := payment.Look{Operation: payment.Operation{Kind: tt.kind, SentAt: t0, Look: true}, Attempt: attempt(uzcard)}
		if adopt, ok := look.Means(tt.a, t0); adopt != tt.adopt || !ok {
			t.Errorf("%s, %s %s: adopt %t, %t", tt.kind, tt.a.Outcome, tt.a.Reason, adopt, ok)
		}
		// Where the hold under the same reference is asked about next, only that it was taken is an answer.
		look.HoldNext = true
		if adopt, ok := look.Means(tt.a, t0); tt.kind == payment.OpCharge && (adopt != (tt.a.Outcome == payment.Approved) || !ok) {
			t.Errorf("%s before a hold, %s %s: adopt %t, %t", tt.kind, tt.a.Outcome, tt.a.Reason, adopt, ok)
		}
	}
}

// A look is a question of its own about what the payment would have been asked next, and is put as one that was sent
// before the restore; what is adopted of it is that question.
func TestLooksAndWhatIsAdopted(t *testing.T) {
	w, restored := lost(captured(t))
	looks := w.p.Looks(nil, restored)
	for i, look := range looks {
		want := payment.Operation{
			N: w.p.LastOperation + 1, Ref: fmt.Sprintf("1772425020000_5520_%d", w.p.LastOperation+1+i), Kind: payment.OpRefund, Amount: asked,
			BegunAt: restored, SentAt: restored, Ask: payment.Query, Look: true,
		}
		if diff := cmp.Diff(want, look.Operation); diff != "" || look.N != w.p.LastOperation+1+i {
			t.Errorf("look %d (%d): %s", i, look.N, diff)
		}
	}
	// A hold that bears no reference of ours is not looked for under one; nor is one looked for in one stage.
	unnamed := attempt(payment.CardFacts{})
	unnamed.Limits.HoldUnnamed = true
	waits, once := start(t, terms()).challenged(), start(t, oneStage()).challenged()
	for _, look := range append(waits.p.Looks([]payment.Attempt{unnamed}, restored), once.p.Looks([]payment.Attempt{attempt(payment.CardFacts{})}, restored)...) {
		if look.HoldNext || look.Operation.Kind != payment.OpCharge {
			t.Errorf("%s is looked for, and the hold next: %t", look.Operation.Kind, look.HoldNext)
		}
	}
	// Who is not behind adopts nothing, and is not reconciled.
	for name, c := range map[string]payment.Command{
		"adopt, no restore": payment.Adopt{Look: looks[0], RefundID: "r"}, "reconcile, no restore": payment.Reconcile{},
		"adopt, made after it":     payment.Adopt{Look: looks[0], RefundID: "r", Restored: w.p.CreatedAt},
		"reconcile, made after it": payment.Reconcile{Restored: w.p.CreatedAt},
	} {
		if w.begin(c); !w.lastSeen.Empty() {
			t.Errorf("%s: it changes something", name)
		}
	}
	w.begin(payment.Adopt{Look: looks[1], RefundID: "r", Restored: restored})
	r := payment.Refund{ID: "r", Amount: asked, AskedAt: w.now, Operation: w.p.Open.N, State: payment.RefundPending}
	if len(w.p.Refunds) != 1 || w.p.Refunds[0] != r || w.p.Skipped != 1 || w.p.Open.Ref != looks[1].Operation.Ref {
		t.Errorf("adopted is %+v, asked %s, skipped %d", w.p.Refunds, w.p.Open.Ref, w.p.Skipped)
	}
	// While that is asked about nothing else is adopted, and the payment is not reconciled.
	for name, c := range map[string]payment.Command{
		"another": payment.Adopt{Look: looks[2], RefundID: "r2", Restored: restored}, "reconcile": payment.Reconcile{Restored: restored},
	} {
		if w.begin(c); !w.lastSeen.Empty() {
			t.Errorf("%s: it changes something", name)
		}
	}
	// What was used up is not given again.
	if w.settle(payment.Answer{Outcome: payment.Refused}).begin(payment.Adopt{Look: looks[0], RefundID: "r3", Restored: restored}); !w.lastSeen.Empty() {
		t.Error("a reference before the one that was found is adopted")
	}
	if w.p.Refunds[0].State != payment.RefundRefused || w.p.Refundable() != asked {
		t.Errorf("refused, it is %+v, and %s can be given back", w.p.Refunds[0], w.p.Refundable())
	}
}

// Of what was found, only the sum that was looked for proves that it was done, and "not found" only what the centre must
// have shown by then.
func TestFoundAfterARestore(t *testing.T) {
	approved := func(minor int64) payment.Answer { return payment.Answer{Outcome: payment.Approved, Amount: uzs(minor)} }
	for _, tt := range []struct {
		name string
		w    *walk
		look int
		a    payment.Answer
		soon bool // asked before the centre must show
		want string
	}{
		{"captured all", open["hold"](t).approved(), 0, approved(100_000), false, ">captured closed +capture +fee event succeeded"},
		{"captured another sum", open["hold"](t).approved(), 0, approved(60_000), false, "kept"},
		{"refunded another sum", captured(t), 0, approved(1), false, "kept"},
		{"charged another sum", start(t, oneStage()).challenged(), 0, approved(1), false, "kept"},
		{"challenged", start(t, oneStage()).challenged(), 0, payment.Answer{Outcome: payment.ChallengeGiven}, false, "kept"},
		{"not found", open["hold"](t).approved(), 0, payment.Answer{Outcome: payment.NeverSeen}, false, "closed"},
		{"not found, too early", open["hold"](t).approved(), 0, payment.Answer{Outcome: payment.NeverSeen}, true, "kept"},
		{"a refund refused with a word for holds", captured(t), 0, payment.Answer{Outcome: payment.Refused, Reason: payment.HoldGone}, false, "closed"},
		{"the capture refused", open["hold"](t).approved(), 0, payment.Answer{Outcome: payment.Refused, Reason: payment.Unavailable}, false, "closed"},
		{"the capture refused, soon", open["hold"](t).approved(), 0, payment.Answer{Outcome: payment.Refused, Reason: payment.Unavailable}, true, "closed"},
	} {
		w, restored := lost(tt.w)
		if tt.soon {
			w.at(restored.Add(shows - time.Second))
		}
		look := w.p.Looks([]payment.Attempt{attempt(payment.CardFacts{})}, restored)[tt.look]
		w.begin(payment.Adopt{Look: look, RefundID: "r", Restored: restored})
		before := w.p
		if got := outcome(before, w.settle(tt.a).lastSeen); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if op := w.p.Open; op != nil && (op.Amount != look.Operation.Amount || op.NextAt.IsZero() || op.Outcome != payment.Unknown && op.Outcome != payment.NeverSeen) {
			t.Errorf("%s: asked is %+v", tt.name, op)
		}
		if d := w.p.Decision; w.p.State == payment.Captured && look.Operation.Kind == payment.OpCapture &&
			(d == nil || *d != payment.Decision{Accept: payment.Capture, Amount: asked, By: payment.ByRestore, At: w.now}) {
			t.Errorf("%s: decided is %+v", tt.name, d)
		}
	}
}

// What was only looked for is never sent, whatever is on record of it.
func TestLookIsNeverSent(t *testing.T) {
	limits := attempt(uzcard).Limits
	for _, kind := range kinds {
		for _, outcome := range []payment.Outcome{"", payment.Unknown, payment.Refused, payment.NeverSeen} {
			op := payment.Operation{Kind: kind, Look: true, Outcome: outcome, SentAt: t0, AskedAt: t0.Add(time.Hour)}
			if next := payment.Next(op, limits, t0.Add(2*time.Hour)); next.Ask != payment.Query {
				t.Errorf("%s, %s: %s", kind, outcome, next.Ask)
			}
			// Nor is what needs the payer, whether it was looked for or sent.
			op.Look = false
			if next := payment.Next(op, limits, t0.Add(2*time.Hour)); next.Ask != payment.Query && kind != payment.OpCapture && kind != payment.OpVoid && kind != payment.OpRefund {
				t.Errorf("%s, %s: %s again", kind, outcome, next.Ask)
			}
		}
	}
}

// "Not found" soon after the restore proves nothing: the last call of the gateway that was lost may be under way.
func TestLookTooEarly(t *testing.T) {
	held, captured := open["hold"](t).approved().later(time.Hour), captured(t).later(time.Hour)
	for _, tt := range []struct {
		w     *walk
		after time.Duration
		proof bool
	}{
		{held, 0, false}, {held, shows - microsecond, false}, {held, shows, true},
		// A refund is shown at once, and yet it takes a call.
		{captured, 0, false}, {captured, answers - microsecond, false}, {captured, answers, true},
	} {
		look := tt.w.p.Looks(nil, tt.w.now)[0]
		if _, ok := look.Means(payment.Answer{Outcome: payment.NeverSeen}, tt.w.now.Add(tt.after)); ok != tt.proof {
			t.Errorf("%s, %v after the restore: proof %v", look.Operation.Kind, tt.after, ok)
		}
	}
}

// Reconciled, a payment goes on; and since a reference may have been used all the same, the centre is asked
// about it before anything is sent under it.
func TestAskedBeforeSentAfterARestore(t *testing.T) {
	sum := uzs(60_000)
	for name, begin := range map[string]payment.Command{
		"capture": payment.Decide{Accept: payment.Capture, Amount: sum, By: payment.ByMerchant},
		"cancel":  payment.Decide{Accept: payment.Cancel, By: payment.ByMerchant},
		"refund":  payment.Reimburse{ID: "r", ShopID: "refund-1", Amount: sum},
	} {
		again := func() *walk {
			w := open["hold"](t).approved()
			if name == "refund" {
				w = captured(t)
			}
			w.later(time.Minute)
			w.later(time.Microsecond).begin(payment.Reconcile{Restored: w.now})
			return w.later(shows).begin(begin)
		}
		w := again()
		if w.p.Open.Ask != payment.Query {
			t.Fatalf("%s: begins with %s", name, w.p.Open.Ask)
		}
		ref := w.p.Open.Ref
		w.settle(payment.Answer{Outcome: payment.NeverSeen}).begin(payment.Resume{})
		if w.p.Open.Ask != payment.Send || w.p.Open.Ref != ref || w.p.Open.Asks != 1 || w.p.Open.SentAt != w.now {
			t.Errorf("%s: never seen, and then %+v", name, w.p.Open)
		}
		if w.approved(); w.p.Open != nil {
			t.Errorf("%s: done, open %+v", name, w.p.Open)
		}
		if w = again().approved(); w.p.Open != nil {
			t.Errorf("%s: found done, open %+v", name, w.p.Open)
		}
	}
}

// That something was not done was said before the backup was taken, and it may have been sent again until the restore: it is
// asked about, as of then, before it is sent once more. What is never sent again is asked about as it was sent.
func TestOpenQuestionOfABackup(t *testing.T) {
	for name, answer := range map[string]payment.Answer{
		"capture": {Outcome: payment.Refused, Reason: payment.Unavailable}, "void": {Outcome: payment.Refused, Reason: payment.Misconfigured},
		"refund": {Outcome: payment.Refused, Reason: payment.Unavailable}, "hold": {Outcome: payment.Unknown},
	} {
		var w *walk
		if name == "refund" {
			w = captured(t).later(time.Minute).begin(payment.Reimburse{ID: "r", ShopID: "refund-1", Amount: asked})
		} else {
			w = open[name](t)
		}
		sent := w.p.Open.SentAt
		w.later(time.Second).settle(answer)
		w, restored := lost(w)
		if name != "hold" {
			sent = restored
		}
		w.begin(payment.Resume{Orphan: true, Restored: restored})
		if op := w.p.Open; op.Ask != payment.Query || op.SentAt != sent {
			t.Errorf("%s: %s, sent at %v, want %v", name, op.Ask, op.SentAt, sent)
		}
		// What is said since the restore is the truth again.
		if w.settle(answer).later(time.Hour).begin(payment.Resume{Orphan: true, Restored: restored}); name != "hold" && w.p.Open.Ask != payment.Send {
			t.Errorf("%s: then %s", name, w.p.Open.Ask)
		}
	}
}

// Whether a hold was captured before the restore is asked first: until that is known nobody decides about it.
func TestNoDecisionWhileALookIsOpen(t *testing.T) {
	w := open["hold"](t).approved().later(time.Minute)
	restored := w.now
	w.begin(payment.Adopt{Look: w.p.Looks(nil, restored)[0], Restored: restored})
	for _, accept := range []payment.Accept{payment.Capture, payment.Cancel} {
		w.refused(payment.Decide{Accept: accept, By: payment.ByMerchant}, payment.Busy)
	}
	w.unknown().refused(payment.Decide{Accept: payment.Capture, By: payment.ByMerchant}, payment.InDoubt)
}

// A person says what the centre's answer could not: that another sum was captured before.
func TestResolveAnotherSumAfterARestore(t *testing.T) {
	w, restored := lost(open["hold"](t).approved())
	w.begin(payment.Adopt{Look: w.p.Looks(nil, restored)[0], Restored: restored}).later(time.Second).unknown()
	w.refused(payment.Decide{Accept: payment.Capture, Amount: uzs(60_000), By: payment.ByMerchant}, payment.DeadlinePassed)
	w.refused(payment.Lapse{}, payment.InDoubt)
	w.later(time.Minute).begin(says(w, payment.Resolution{Outcome: payment.Approved, Amount: uzs(60_000)}))
	d := w.p.Decision
	if w.p.State != payment.Captured || w.p.Captured != uzs(60_000) || w.p.Released != uzs(40_000) || d == nil || d.By != payment.ByRestore || d.Amount != uzs(60_000) {
		t.Errorf("it is %s with %s, decided %+v", w.p.State, w.p.Captured, d)
	}
	if err := books(w.p, w.entries); err != nil {
		t.Error(err)
	}
	// The same of a payment whose hold the backup does not know.
	w, restored = lost(start(t, terms()).challenged())
	looks := w.p.Looks([]payment.Attempt{attempt(payment.CardFacts{})}, restored)
	w.begin(payment.Adopt{Look: looks[0], Restored: restored}).later(time.Second).unknown()
	w.later(time.Minute).begin(says(w, payment.Resolution{Outcome: payment.Approved, Amount: uzs(60_000)}))
	if w.p.State != payment.Captured || w.p.Captured != uzs(60_000) || w.p.Released != uzs(40_000) {
		t.Errorf("it is %s with %s", w.p.State, w.p.Captured)
	}
	if err := books(w.p, w.entries); err != nil {
		t.Error(err)
	}
}

// The sum that a person names of what was found is one that can have been moved.
func TestResolutionOfALook(t *testing.T) {
	for _, tt := range []struct {
		name string
		w    *walk
		look int
		sum  money.Amount
		ok   bool
	}{
		{"a capture, of all since no sum is named", open["hold"](t).approved(), 0, money.Amount{}, true},
		{"a capture of all", open["hold"](t).approved(), 0, asked, true},
		{"a capture of a part", open["hold"](t).approved(), 0, uzs(1), true},
		{"a capture of more", open["hold"](t).approved(), 0, uzs(100_001), false},
		{"a capture of nothing", open["hold"](t).approved(), 0, uzs(0), false},
		{"a capture of less", open["hold"](t).approved(), 0, uzs(-1), false},
		{"a capture in dollars", open["hold"](t).approved(), 0, money.New(1, money.USD), false},
		{"a refund of a part", captured(t), 0, uzs(1), true},
		{"a refund of more", captured(t), 0, uzs(100_001), false},
		{"a hold of all", start(t, terms()).challenged(), 1, asked, true},
		{"a hold of a part", start(t, terms()).challenged(), 1, uzs(1), false},
		{"a capture of a part, of a hold that is not known", start(t, terms()).challenged(), 0, uzs(1), true},
		{"a part in one stage", start(t, oneStage()).challenged(), 0, uzs(1), false},
		{"all in one stage", start(t, oneStage()).challenged(), 0, asked, true},
	} {
		w, restored := lost(tt.w)
		look := w.p.Looks([]payment.Attempt{attempt(payment.CardFacts{})}, restored)[tt.look]
		w.begin(payment.Adopt{Look: look, RefundID: "r", Restored: restored}).later(time.Second).unknown().later(time.Minute)
		change, err := payment.Begin(w.p, says(w, payment.Resolution{Outcome: payment.Approved, Amount: tt.sum, Hold: "h"}), w.now)
		want := tt.sum
		if want == (money.Amount{}) {
			want = asked
		}
		switch {
		case tt.ok != (err == nil) || !tt.ok && (!errors.Is(err, payment.ErrResolution) || !change.Empty()):
			t.Errorf("%s: %v", tt.name, err)
		case tt.ok && (change.Closed == nil || change.Closed.Amount != want || change.Check(&w.p) != nil):
			t.Errorf("%s: closed is %+v, %v", tt.name, change.Closed, change.Check(&w.p))
		}
	}
}

// The shop asks again for a refund that it was never told of: it is the one that was found.
func TestRefundFoundAfterARestoreIsNotGivenTwice(t *testing.T) {
	w, restored := lost(captured(t))
	w.begin(payment.Adopt{Look: w.p.Looks(nil, restored)[0], RefundID: "r", Restored: restored}).later(time.Second).unknown()
	w.refused(payment.Reimburse{ID: "r2", ShopID: "refund-1", Amount: uzs(30_000)}, payment.NothingToRefund) // all of it is reserved
	w.later(time.Minute).begin(says(w, payment.Resolution{Outcome: payment.Approved, Amount: uzs(30_000)}))
	w.begin(payment.Reconcile{Restored: restored})
	w.begin(payment.Reimburse{ID: "r0", ShopID: "refund-0", Amount: uzs(20_000)}).done() // of another sum it is another
	if w.p.Refunded != uzs(50_000) || w.p.FindRefund("refund-0").ID != "r0" {
		t.Errorf("another sum is taken for the one that was found: %+v", w.p.Refunds)
	}
	w.begin(payment.Reimburse{ID: "r2", ShopID: "refund-1", Amount: uzs(30_000)})
	if w.p.Open != nil || len(w.p.Refunds) != 2 || w.p.Refunds[0].ShopID != "refund-1" || w.p.Refunded != uzs(50_000) {
		t.Errorf("open %+v, refunds %+v", w.p.Open, w.p.Refunds)
	}
	w.begin(payment.Reimburse{ID: "r3", ShopID: "refund-2", Amount: uzs(30_000)})
	if w.p.Open == nil {
		t.Error("another one of the same sum is taken for it too")
	}
	// One that was not given back after all takes no name.
	w, restored = lost(captured(t))
	w.begin(payment.Adopt{Look: w.p.Looks(nil, restored)[0], RefundID: "r", Restored: restored}).settle(payment.Answer{Outcome: payment.Refused})
	if w.begin(payment.Reimburse{ID: "r2", ShopID: "refund-1", Amount: asked}); w.p.Open == nil {
		t.Error("what was refused is taken for what the shop asks for")
	}
}
