package payment_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/internal/payment"
)

// inquired is an operation in doubt of which the centre was asked in vain what became of it.
func inquired(t testing.TB, name string) *walk {
	t.Helper()
	return open[name](t).unknown().later(5 * time.Second).begin(payment.Resume{}).later(time.Second).unknown()
}

func says(w *walk, r payment.Resolution) payment.Resolve {
	r.By, r.Why = "Gulnora, on duty", "the centre's statement of 2 March, line 17"
	return payment.Resolve{Ref: w.p.Open.Ref, Resolution: r}
}

// A person's word does what the centre's would have done, and stays on record with the operation.
func TestResolve(t *testing.T) {
	approved, refused := payment.Resolution{Outcome: payment.Approved}, payment.Resolution{Outcome: payment.Refused}
	hold := payment.Resolution{Outcome: payment.Approved, Hold: "778", RRN: "000123456789"}
	gone := payment.Resolution{Outcome: payment.Refused, Reason: payment.HoldGone}
	for _, tt := range []struct {
		open string
		says payment.Resolution
		want string
	}{
		{"hold", hold, ">held closed +hold event waiting_for_capture"},
		{"hold", refused, ">created closed"},
		{"hold, last card", refused, ">declined closed event canceled"},
		{"charge", hold, ">captured closed +hold +capture +fee event succeeded"},
		{"charge", approved, ">captured closed +hold +capture +fee event succeeded"},
		{"charge", refused, ">created closed"},
		{"capture", approved, ">captured closed +capture +fee event succeeded"},
		{"capture part", approved, ">captured closed +capture +fee +release event succeeded"},
		{"capture", refused, "kept"}, // decided is decided: it is sent again
		{"capture", gone, ">voided closed +release event canceled"},
		{"void", approved, ">voided closed +release event canceled"},
		{"void", refused, "kept"},
		{"void", gone, ">voided closed +release event canceled"},
	} {
		w := inquired(t, tt.open)
		before := w.p
		// "created" after a challenge is told to the shop as it was before.
		if got := strings.TrimSpace(outcome(before, w.later(time.Hour).begin(says(w, tt.says)).lastSeen)); got != tt.want {
			t.Errorf("%s, %s %s: %q, want %q", tt.open, tt.says.Outcome, tt.says.Reason, got, tt.want)
			continue
		}
		op := w.p.Open
		if op == nil {
			op = &w.closed[len(w.closed)-1]
		}
		if len(op.Resolutions) != 1 {
			t.Fatalf("%s: on record are %+v", tt.open, op.Resolutions)
		}
		if r := op.Resolutions[0]; r.By != "Gulnora, on duty" || r.Why == "" || r.At != w.now || r.Outcome != tt.says.Outcome || r.Reason != tt.says.Reason {
			t.Errorf("%s: on record is %+v", tt.open, r)
		}
		if !strings.Contains(op.Cause, "Gulnora") || op.Outcome != tt.says.Outcome {
			t.Errorf("%s: on record is %s, %q", tt.open, op.Outcome, op.Cause)
		}
		if err := books(w.p, w.entries); err != nil {
			t.Errorf("%s: %v", tt.open, err)
		}
		// The hold that he names is this payment's, and no other may have it.
		claim := tt.says.Hold
		if tt.open == "charge" {
			claim = "" // it has a reference of ours
		}
		if c := w.p.Attempt.Centre; w.lastSeen.Claim != claim || c.Hold != tt.says.Hold || c.RRN != tt.says.RRN {
			t.Errorf("%s: claimed is %q, kept %+v", tt.open, w.lastSeen.Claim, c)
		}
		if tt.want != "kept" {
			if change, err := payment.Begin(w.p, says(&walk{p: before}, tt.says), w.now); !errors.Is(err, payment.ErrNoDoubt) || !change.Empty() {
				t.Errorf("%s: said again: %v", tt.open, err)
			}
			continue
		}
		// It is sent again at once, and the person's word stays on record whatever the centre says.
		if w.p.Due() != w.now {
			t.Errorf("%s: sent again %v later", tt.open, w.p.Due().Sub(w.now))
		}
		if w.begin(payment.Resume{}); w.p.Open.Ask != payment.Send || w.p.Open.Ref != before.Open.Ref {
			t.Errorf("%s: then %s %s is asked", tt.open, w.p.Open.Ask, w.p.Open.Ref)
		}
		if w.done(); len(w.closed[len(w.closed)-1].Resolutions) != 1 {
			t.Errorf("%s: the person's word is gone", tt.open)
		}
	}
}

// After two weeks an operation waits for a person, and his word ends it.
func TestResolveWhatWaitsForAPerson(t *testing.T) {
	w := open["capture part"](t).unknown()
	for !w.p.Open.WaitsForPerson() {
		w.at(w.p.Due()).begin(payment.Resume{}).unknown()
	}
	if w.now.Before(w.p.Open.ForPersonAt()) {
		t.Errorf("it waits for a person already at %s, and says %s", w.now, w.p.Open.ForPersonAt())
	}
	// He has it asked about once more first.
	if w.begin(payment.Hasten{}); w.p.Due() != w.now {
		t.Errorf("hastened, it is due at %s", w.p.Due())
	}
	if w.begin(payment.Resume{}); w.p.Open.Ask != payment.Query {
		t.Errorf("hastened, it is asked %s", w.p.Open.Ask)
	}
	if w.later(time.Second).unknown(); !w.p.Open.WaitsForPerson() {
		t.Errorf("asked once more in vain, it is asked next at %s", w.p.Due())
	}
	if w.begin(says(w, payment.Resolution{Outcome: payment.Approved})); w.p.State != payment.Captured || w.p.Captured != uzs(60_000) {
		t.Errorf("it is %s with %s", w.p.State, w.p.Captured)
	}
}

// The centre's word comes first, and a person's word is not taken while it may be on its way.
func TestResolveIsRefused(t *testing.T) {
	approved := payment.Resolution{Outcome: payment.Approved}
	answeredAlready := inquired(t, "capture")
	late := says(answeredAlready, approved)
	answeredAlready.approved()
	overtaken := inquired(t, "hold")
	lateHold := says(overtaken, payment.Resolution{Outcome: payment.Approved, Hold: "1"})
	overtaken.approved().capture(1_000).unknown().later(30 * time.Second).begin(payment.Resume{}).unknown()
	sent := open["capture"](t)
	asking := inquired(t, "capture").later(time.Minute).begin(payment.Resume{Orphan: true})
	bank := atBank(t, ttl, holdFor).later(time.Minute)
	for name, tt := range map[string]struct {
		w    *walk
		c    payment.Command
		want error
	}{
		"answered meanwhile":            {answeredAlready, late, payment.ErrNoDoubt},
		"another is in doubt":           {overtaken, lateHold, payment.ErrOtherDoubt},
		"sent a moment ago":             {sent, says(sent, approved), payment.ErrBeingAsked},
		"asked about a moment ago":      {asking, says(asking, approved), payment.ErrBeingAsked},
		"hastened while it is asked":    {asking, payment.Hasten{}, payment.ErrBeingAsked},
		"the payer is at his bank":      {bank, says(bank, approved), payment.ErrAtBank},
		"a code":                        {open["verify"](t).later(time.Hour), payment.Resolve{}, payment.ErrNoDoubt},
		"nothing open":                  {start(t, terms()), payment.Hasten{}, payment.ErrNoDoubt},
		"never asked what became of it": {open["capture"](t).unknown().later(time.Hour), says(open["capture"](t), approved), payment.ErrNotAsked},
	} {
		change, err := payment.Begin(tt.w.p, tt.c, tt.w.now)
		if !errors.Is(err, tt.want) || !change.Empty() {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	// Where the centre has refused what must be done, there is nothing more to ask it.
	refused := open["capture"](t).refusedFor(payment.Misconfigured).later(time.Minute)
	if refused.begin(says(refused, payment.Resolution{Outcome: payment.Refused, Reason: payment.HoldGone})); refused.p.State != payment.Voided {
		t.Errorf("refused, and the hold is gone: %s", refused.p.State)
	}
	// A process that died while it asked does not hold up a person for ever.
	asking.later(answers)
	asking.begin(says(asking, approved))
	if asking.p.State != payment.Captured {
		t.Errorf("it is %s", asking.p.State)
	}
}

func TestResolutionMustMakeSense(t *testing.T) {
	approved, refused := payment.Approved, payment.Refused
	for name, tt := range map[string]struct {
		open string
		r    payment.Resolution
	}{
		"nobody":                          {"capture", payment.Resolution{Outcome: approved, Why: "x"}},
		"no reason":                       {"capture", payment.Resolution{Outcome: approved, By: "x"}},
		"no outcome":                      {"capture", payment.Resolution{By: "x", Why: "x"}},
		"unknown is no outcome":           {"capture", payment.Resolution{Outcome: payment.Unknown, By: "x", Why: "x"}},
		"a novel":                         {"capture", payment.Resolution{Outcome: approved, By: "x", Why: strings.Repeat("x", 1001)}},
		"no text":                         {"capture", payment.Resolution{Outcome: approved, By: "x", Why: "\xff"}},
		"another sum":                     {"capture", payment.Resolution{Outcome: approved, By: "x", Why: "x", Amount: uzs(1)}},
		"a hold that nobody can find":     {"hold", payment.Resolution{Outcome: approved, By: "x", Why: "x"}},
		"a hold gone that was never made": {"hold", payment.Resolution{Outcome: refused, Reason: payment.HoldGone, By: "x", Why: "x"}},
		"approved and gone":               {"capture", payment.Resolution{Outcome: approved, Reason: payment.HoldGone, By: "x", Why: "x"}},
		"a reason of a bank":              {"hold", payment.Resolution{Outcome: refused, Reason: payment.Fraud, By: "x", Why: "x"}},
		"refused with a hold":             {"hold", payment.Resolution{Outcome: refused, Hold: "7", By: "x", Why: "x"}},
		"refused with a sum":              {"hold", payment.Resolution{Outcome: refused, Amount: asked, By: "x", Why: "x"}},
		"refused with a reference number": {"hold", payment.Resolution{Outcome: refused, RRN: "7", By: "x", Why: "x"}},
		"a name of 101":                   {"capture", payment.Resolution{Outcome: approved, By: strings.Repeat("ы", 101), Why: "x"}},
	} {
		w := inquired(t, tt.open)
		change, err := payment.Begin(w.p, payment.Resolve{Ref: w.p.Open.Ref, Resolution: tt.r}, w.now)
		if !errors.Is(err, payment.ErrResolution) || !change.Empty() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The longest texts that are kept are kept whole; they are counted in characters.
func TestLongestResolution(t *testing.T) {
	w := inquired(t, "capture")
	by, why := strings.Repeat("ы", 100), strings.Repeat("ы", 1000)
	w.begin(payment.Resolve{Ref: w.p.Open.Ref, Resolution: payment.Resolution{Outcome: payment.Approved, By: by, Why: why}})
	if r := w.closed[len(w.closed)-1].Resolutions; len(r) != 1 || r[0].By != by || r[0].Why != why {
		t.Errorf("%+v", r)
	}
}

// Where the centre has named the hold already, a person need not.
func TestResolveWhatTheCentreNamed(t *testing.T) {
	w := atBank(t, ttl, holdFor).later(time.Minute).begin(payment.Resume{})
	w.settle(payment.Answer{Outcome: payment.ChallengeGiven, Centre: payment.Centre{Hold: "4711"}})
	w.later(time.Hour).begin(payment.Resume{}).unknown()
	if w.begin(says(w, payment.Resolution{Outcome: payment.Approved})); w.p.State != payment.Held || w.p.Attempt.Centre.Hold != "4711" {
		t.Errorf("it is %s, its hold %q", w.p.State, w.p.Attempt.Centre.Hold)
	}
}

// A refund that a person says was done, or was not.
func TestResolveRefund(t *testing.T) {
	for _, says := range []payment.Outcome{payment.Approved, payment.Refused} {
		w := open["capture"](t).approved().later(time.Minute)
		w.begin(payment.Reimburse{ID: "r", ShopID: "refund-1", Amount: uzs(30_000)}).unknown()
		w.later(5 * time.Second).begin(payment.Resume{}).later(time.Second).unknown()
		w.begin(payment.Resolve{Ref: w.p.Open.Ref, Resolution: payment.Resolution{Outcome: says, By: "x", Why: "x"}})
		want, state := int64(0), payment.RefundRefused
		if says == payment.Approved {
			want, state = 30_000, payment.RefundDone
		}
		if w.p.Refunded != uzs(want) || w.p.Refunds[0].State != state || w.p.Open != nil {
			t.Errorf("%s: refunded %s, %+v", says, w.p.Refunded, w.p.Refunds)
		}
	}
}

// While the centre is being asked no person's word is taken, also where the clock stands still, or was set back after the
// last answer.
func TestNoWordWhileTheCentreIsAsked(t *testing.T) {
	for _, step := range []time.Duration{time.Second, 0, -time.Hour} {
		w := open["capture"](t).later(time.Second).unknown()
		w.now = w.now.Add(step)
		w.begin(payment.Resume{Orphan: true})
		if _, err := payment.Begin(w.p, says(w, payment.Resolution{Outcome: payment.Refused}), w.now); !errors.Is(err, payment.ErrBeingAsked) || w.p.Doubt(w.now) != nil {
			t.Errorf("asked %s after the last answer: %v", step, err)
		}
	}
}
