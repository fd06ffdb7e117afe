package world_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A mutant is the gateway with one of its rules taken out. The rules are taken out of copies of the sources,
// which the compiler is given in place of them (go build -overlay): the code itself knows nothing of this. One
// program is built that has all mutants in it, and brokenRule in its environment says which it is.
const brokenRule = "HOLDFAST_BROKEN_RULE"

var rules = []rule{
	{"question", "", "a question is committed before it is asked", `^invariant 6: the centre is asked`, []edit{
		{"internal/gateway/gateway.go", `type secrets struct {
`, `type secrets struct {
	early *payment.Answer
`},
		{"internal/gateway/gateway.go", `	change, err := g.begin(ctx, id, c)
	var refused *payment.Error
`, `	if broken("question") {
		if p, err := g.cfg.Store.Payment(ctx, id); err == nil {
			if begun, err := payment.Begin(p, c, g.cfg.Store.Now()); err == nil && !begun.Empty() && begun.Payment.Open != nil {
				answer := g.askCentre(ctx, begun.Payment, s)
				s.early = &answer
			}
		}
	}
	change, err := g.begin(ctx, id, c)
	var refused *payment.Error
`},
		{"internal/gateway/gateway.go", `		answer := g.askCentre(ctx, p, s)
`, `		var answer payment.Answer
		if s.early != nil && s.early.Ref == p.Open.Ref {
			answer = *s.early
		} else {
			answer = g.askCentre(ctx, p, s)
		}
`},
	}},
	{"unknown", "", "unknown is not taken as refused", `^at rest .* refused after|^books: `, []edit{
		{"internal/gateway/gateway.go", `	answer := centre.Ask(ctx, q)
`, `	answer := centre.Ask(ctx, q)
	if broken("unknown") && answer.Outcome == payment.Unknown {
		answer.Outcome, answer.Reason = payment.Refused, payment.Unavailable
	}
`},
	}},
	// This is seen once in some hundred worlds, which on PostgreSQL is minutes.
	{"deadline", "TestWorld", "a hold in doubt is asked about, also past its deadline", `^books: `, []edit{
		{"internal/gateway/run.go", `		if p.Open != nil {
			return payment.Begin(p, payment.Resume{Orphan: p.Version == d.left, Restored: g.restored}, now)
		}
`, `		if broken("deadline") && p.Open != nil && p.Open.Kind == payment.OpHold && !p.HoldDeadline.IsZero() && !now.Before(p.HoldDeadline) {
			return payment.Settle(p, payment.Answer{Ref: p.Open.Ref, Outcome: payment.Refused, Reason: payment.HoldGone}, now), nil
		}
		if p.Open != nil {
			return payment.Begin(p, payment.Resume{Orphan: p.Version == d.left, Restored: g.restored}, now)
		}
`},
	}},
	{"decision", "", "a decision is compared with the one that stands before it is set", `^invariant [36]: `, []edit{
		{"internal/payment/begin.go", `	if stands := p.Decision; stands != nil {
`, `	if stands := p.Decision; stands != nil && (p.State.Terminal() || !broken("decision")) {
`},
		// Two further lines of defence would see it too: while one decision is carried out the payment is busy, and
		// a change is checked once more.
		{"internal/payment/begin.go", `	case p.Open != nil:
		return Change{}, p.busy() // after a restore`, `	case p.Open != nil && !broken("decision"):
		return Change{}, p.busy() // after a restore`},
		{"internal/payment/check.go", `	case was.Decision != nil && (d == nil || *d != *was.Decision):
`, `	case !broken("decision") && was.Decision != nil && (d == nil || *d != *was.Decision):
`},
		{"internal/payment/check.go", `	case was.Open != nil && kept == (c.Closed != nil):
`, `	case !broken("decision") && was.Open != nil && kept == (c.Closed != nil):
`},
	}},
	{"event", "", "an event is written in the transaction of its change", `^invariant 10: `, []edit{
		{"internal/store/changes.go", `		for i := range c.Events {
`, `		told := c.Events
		if broken("event") {
			told = nil
		}
		for i := range told {
`},
		{"internal/store/commit.go", `			c.store.cfg.At(Committed)
`, `			c.store.cfg.At(Committed)
			if broken("event") {
				if err := c.tellLater(batch); err != nil {
					return err
				}
			}
`},
		{"internal/store/commit.go", `// write runs the three passes.
`, `func (c *committer) tellLater(batch []*job) error {
	var rows [][]value
	on := new(desk)
	w, err := c.store.engine.begin(c.number, false)
	if err != nil {
		return err
	}
	for _, j := range batch {
		if j.held || j.err != nil || j.exec != nil {
			continue
		}
		for i := range j.change.Events {
			rows = append(rows, c.store.eventRow(on, j, &j.change.Events[i], nil))
		}
	}
	if err := w.put(insertEvent, rows); err != nil {
		return errors.Join(err, w.rollback())
	}
	return w.commit()
}

// write runs the three passes.
`},
	}},
	// These happen once in some worlds.
	{"restore", "TestWorld", "what a backup brought back is asked about before anything is sent for it", `^after the restore the centre is asked to |^books: `, []edit{
		{"internal/payment/restore.go", `	if !p.CreatedAt.Before(restored) || `, `	if broken("restore") || !p.CreatedAt.Before(restored) || `},
		// A further line of defence: a question of the backup that was to be sent again is asked about first.
		{"internal/payment/begin.go", `	if op.Kind.repeatable() && op.AskedAt.Before(c.Restored) {
`, `	if !broken("restore") && op.Kind.repeatable() && op.AskedAt.Before(c.Restored) {
`},
	}},
	{"person", "TestWorld", "a person speaks after the centre, and not while it is asked", `^a person's word on .* is taken too early`, []edit{
		{"internal/payment/doubt.go", `	case op.beingAsked(p.Attempt.Limits, now):
`, `	case !broken("person") && op.beingAsked(p.Attempt.Limits, now):
`},
		{"internal/payment/doubt.go", `	case op.Ask != Query && op.Outcome != Refused:
`, `	case !broken("person") && op.Ask != Query && op.Outcome != Refused:
`},
	}},
	{"tariff", "TestWorld", "a payment keeps the tariff of when the card was handed in", `costs the shop`, []edit{
		{"internal/gateway/gateway.go", `		return payment.Settle(p, a, now), nil
`, `		if broken("tariff") && p.Attempt != nil {
			shop, err := g.cfg.Store.Shop(ctx, p.Shop)
			if err != nil {
				return payment.Change{}, err
			}
			attempt, today := *p.Attempt, shop.Settings.Tariff.Fee
			attempt.Fee = payment.FeeTerms{TariffID: attempt.Fee.TariffID, Rate: today.Rate, Minimum: today.Minimum, Back: today.Back}
			p.Attempt = &attempt
		}
		return payment.Settle(p, a, now), nil
`},
		// A change is checked once more.
		{"internal/payment/check.go", `a.ThreeDS == b.ThreeDS && a.Fee == b.Fee
`, `a.ThreeDS == b.ThreeDS && (a.Fee == b.Fee || broken("tariff"))
`},
	}},
	// Only another gateway can have changed it meanwhile.
	{"version", "TestWorldOnPostgreSQL", "a payment is written only as long as it is as it was decided on", `^invariant (6|10|11): |duplicate key value`, []edit{
		{"internal/store/changes.go", `		s.kinds += " bigint"
	}
`, `		s.kinds += " bigint"
	}
	if broken("version") {
		s.sql = "UPDATE payments AS t SET version = ?3" + rest + due + " WHERE t.seq = ?1"
		s.strict = s.sql
	}
`},
	}},
	{"guess", "TestWorldOnPostgreSQL", "a COMMIT that is not answered is looked up and not guessed to be done", `^invariant (6|11): |: attempt \d+ to tell event \d+ is not on the disk`, []edit{
		{"internal/store/postgres*.go", `			return meaning{fmt.Errorf("the commit was not done: %w", cause), again}
`, `			if broken("guess") {
				return nil
			}
			return meaning{fmt.Errorf("the commit was not done: %w", cause), again}
`},
	}},
}

type rule struct {
	key   string
	test  string // that plays it; "": on both engines
	rule  string
	seen  string // what a world must fail by, as an expression
	edits []edit
}

// edit replaces a text that stands once in a file, or in one of the files of a pattern.
type edit struct{ file, old, new string }

var failure = regexp.MustCompile(`seed (\d+): (.+)`)

// TestBites: without any one of its rules the gateway fails in the usual number of worlds, and by what the rule is for.
func TestBites(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "mutants")
	build := exec.Command("go", "test", "-c", "-overlay", overlay(t, root, dir), "-o", program, "./internal/world")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the mutants cannot be built: %v\n%s", err, out)
	}
	for _, r := range rules {
		for _, played := range []struct {
			test  string
			seeds int
		}{{"TestWorld", seedsOr(usualOnSQLite)}, {"TestWorldOnPostgreSQL", seedsOr(usualOnPostgreSQL)}} {
			if r.test != "" && r.test != played.test {
				continue
			}
			t.Run(r.key+"/"+played.test, func(t *testing.T) {
				cmd := exec.Command(program, "-test.run", "^"+played.test+"$", "-seeds", fmt.Sprint(played.seeds), "-from", fmt.Sprint(*firstSeed))
				cmd.Dir, cmd.Env = dir, append(os.Environ(), brokenRule+"="+r.key, "TMPDIR="+dir)
				out, err := cmd.CombinedOutput()
				found := failure.FindSubmatch(out)
				switch {
				case err == nil:
					t.Errorf("that %s could be left out, and %d worlds would not notice", r.rule, played.seeds)
				case found == nil:
					t.Errorf("it does not run: %v\n%s", err, out)
				case !regexp.MustCompile(r.seen).Match(found[2]):
					t.Errorf("without the rule that %s: seed %s fails, but by something else: %s", r.rule, found[1], found[2])
				default:
					t.Logf("without the rule that %s: seed %s: %s", r.rule, found[1], found[2])
				}
			})
		}
	}
}

// overlay writes the changed files, and the list of them that the compiler reads.
func overlay(t *testing.T, root, dir string) string {
	t.Helper()
	list := struct{ Replace map[string]string }{make(map[string]string)}
	replace := func(file, text string) {
		changed := filepath.Join(dir, strings.ReplaceAll(file, "/", "-"))
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		list.Replace[filepath.Join(root, filepath.FromSlash(file))] = changed
	}
	texts := make(map[string]string)
	for _, r := range rules {
		for _, e := range r.edits {
			files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(e.file)))
			if err != nil {
				t.Fatal(err)
			}
			found := 0
			for _, name := range files {
				file, err := filepath.Rel(root, name)
				if err != nil {
					t.Fatal(err)
				}
				file = filepath.ToSlash(file)
				text, edited := texts[file]
				if !edited {
					b, err := os.ReadFile(name)
					if err != nil {
						t.Fatal(err)
					}
					text = string(b)
				}
				if n := strings.Count(text, e.old); n > 0 {
					found += n
					texts[file] = strings.Replace(text, e.old, e.new, 1)
				}
			}
			if found != 1 {
				t.Fatalf("%s has this %d times, want once; the rule has moved, and this test must follow it:\n%s", e.file, found, e.old)
			}
		}
	}
	for file, text := range texts {
		replace(file, text)
		// And a file that is not there otherwise says which rule is broken.
		room := path.Dir(file)
		replace(room+"/broken.go", fmt.Sprintf("package %s\n\nimport \"os\"\n\nvar brokenRule = os.Getenv(%q)\n\nfunc broken(rule string) bool { return rule == brokenRule }\n",
			path.Base(room), brokenRule))
	}
	b, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
