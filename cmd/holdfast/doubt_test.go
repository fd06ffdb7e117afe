package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/vault"
)

// The operator's commands beside the real program, which serves.

// command runs the program's command line on the stage's data directory; what it printed, and how it ended.
func (s *stage) command(args ...string) (said string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience) // a server that ought not to have started ends then
	defer cancel()
	var out bytes.Buffer
	code = program{stdout: &out, stderr: &out}.run(ctx, append(args, "--data", s.dir))
	return out.String(), code
}

// says runs a command that must end well and say something.
func (s *stage) says(want string, args ...string) string {
	s.t.Helper()
	said, code := s.command(args...)
	if code != 0 || !strings.Contains(said, want) {
		s.t.Errorf("%s ends %d and says %q, want %q", strings.Join(args, " "), code, said, want)
	}
	return said
}

// refuses runs a command that must not work, and say why.
func (s *stage) refuses(want string, args ...string) {
	s.t.Helper()
	said, code := s.command(args...)
	if code == 0 || !strings.Contains(said, want) {
		s.t.Errorf("%s ends %d and says %q, want %q", strings.Join(args, " "), code, said, want)
	}
}

func (s *stage) fault(f map[string]any) {
	s.t.Helper()
	body, err := json.Marshal(f)
	if err != nil {
		s.t.Fatal(err)
	}
	res, err := http.Post(s.sim.URL+"/sim/faults", "application/json", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || res.StatusCode >= 300 {
		s.t.Fatalf("fault: %s %s, %v", res.Status, text, err)
	}
}

// paid leads a payment to its hold.
func (s *stage) paid(name string, card simCard) (uuid string) {
	s.t.Helper()
	state, err := s.client().Prepare(s.t.Context(), prepare(name))
	if err != nil {
		s.t.Fatal(err)
	}
	s.payWith(state.PaymentUUID, card)
	return state.PaymentUUID
}

func (s *stage) payWith(uuid string, card simCard) {
	s.t.Helper()
	ctx, client := s.t.Context(), s.client()
	request := pay(card)
	request.Method = card.Scheme
	entity, err := client.Pay(ctx, uuid, request)
	if err != nil {
		s.t.Fatal(err)
	}
	info, err := client.VerificationInfo(ctx, uuid)
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = client.CheckSMSKey(ctx, holdfast.CheckSMSKeyRequest{SMSKey: s.code(card), PaymentID: entity.ID, VerifyID: info.VerifyID})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) accept(uuid string, sum holdfast.Decimal) error {
	request := holdfast.AcceptRequest{PaymentUUID: uuid, AcceptStatus: holdfast.AcceptCapture, FinalAmount: sum}
	if sum == "0" {
		request.AcceptStatus, request.FinalAmount = holdfast.AcceptCancel, ""
	}
	_, err := s.client().Accept(s.t.Context(), request)
	return err
}

// What a shop calls a payment comes to the operator's terminal as text, and steers nothing there.
func TestTerminalIsTheOperators(t *testing.T) {
	s := newStage(t)
	state, err := s.client().Prepare(t.Context(), prepare("a\x1b]0;b\a\nc\u202e ö"))
	if err != nil {
		t.Fatal(err)
	}
	list := s.says(`a\x1b]0;b\a\nc\u202e ö`, "payment", "list")
	for text, command := range map[string]string{list: "payment list", s.says("created", "payment", "show", state.PaymentUUID): "payment show"} {
		if strings.ContainsAny(text, "\x1b\a\u202e") {
			t.Errorf("%s says %q", command, text)
		}
	}
}

// A centre's words are shown as it said them, to their last character.
func TestCausesAreShownWhole(t *testing.T) {
	op := payment.Operation{Kind: payment.OpHold, Outcome: payment.Unknown, Asks: 1, Ask: payment.Send, Cause: "see https://bank.example/help/"}
	if said := known(&op); !strings.HasSuffix(said, ": "+op.Cause) {
		t.Errorf("of an operation with the cause %q it says: %s", op.Cause, said)
	}
}

// A payment is found by what its people have in hand: its UUID, the shop's word for it, our name for it in a centre's statement.
func TestPaymentIsFoundByItsNames(t *testing.T) {
	s := newStage(t)
	first, second := s.paid("order-1", s.card(0)), s.paid("order-2", s.card(1))
	if err := s.accept(first, "600.00"); err != nil {
		t.Fatal(err)
	}
	refs := make(map[string][]string) // by payment
	err := s.data().onStore(func(st *store.Store, _ *vault.Vault) error {
		for _, uuid := range []string{first, second} {
			id, err := payment.ParseID(uuid)
			if err != nil {
				return err
			}
			known, err := st.Timeline(t.Context(), id)
			if err != nil {
				return err
			}
			for _, op := range known.Operations {
				refs[uuid] = append(refs[uuid], op.Ref)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(refs[first]) < 4 || len(refs[second]) < 3 { // a code is sent and checked, the sum held, and taken
		t.Fatalf("asked were %q", refs)
	}
	show := func(args ...string) []string { return append([]string{"payment", "show"}, args...) }
	for i, uuid := range []string{first, second} {
		want := "Payment " + uuid + " of shop 1, called "
		s.says(want, show(uuid)...)
		s.says(want, show("--shop", "1", fmt.Sprintf("order-%d", i+1))...)
		for _, ref := range refs[uuid] {
			s.says(want, show(ref)...)
		}
	}
	s.refuses(`shop 1 calls no payment "order-3": holdfast payment list --shop 1 shows what it has`, show("--shop", "1", "order-3")...)
	s.refuses("there is no shop 2 here: holdfast shop list shows all", show("--shop", "2", "order-1")...)
	s.refuses("with --shop ID it is what that shop calls a payment", show("order-1")...)
	// A reference with the right number in it is not yet the payment's.
	own, other := strings.Split(refs[first][0], "_"), strings.Split(refs[second][0], "_")
	for _, wrong := range []string{own[1], "1_" + own[1], own[0] + "_" + other[1], own[0] + "1_" + own[1], own[0] + "_" + own[1] + "1", own[0] + "_" + own[1] + "x"} {
		s.refuses("with --shop ID it is what that shop calls a payment", show(wrong)...)
	}
	s.refuses(`payment `+first+` has no operation "`+refs[first][0]+`_77": holdfast payment show `+first, show(refs[first][0]+"_77")...)
	s.refuses("has no operation", show(refs[first][1]+"_2")...)
}

func TestDoubtBesideTheServer(t *testing.T) {
	s := newStage(t)
	s.says("nothing is in doubt", "doubt", "list")
	uuid := s.paid("doubt-1", s.card(0))
	s.fault(map[string]any{"method": "hold.dismiss.charge", "fault": "answer_lost"})
	s.fault(map[string]any{"method": "trans.ext", "fault": "garbage", "times": 1000})
	var refused *holdfast.Error
	if err := s.accept(uuid, "600.00"); !errors.As(err, &refused) || refused.Code != holdfast.CodeOutcomeUnknown {
		t.Fatalf("a capture whose answer is lost: %v", err)
	}
	// What was sent, what is known, when it is asked next, who decides.
	shown := s.says("capture 600.00 UZS as ", "payment", "show", uuid)
	for _, want := range []string{": sent ", "capture unknown after ", "what became of the capture is asked; the centre decides, and from ", " on a person"} {
		if !strings.Contains(shown, want) {
			t.Errorf("payment show does not say %q:\n%s", want, shown)
		}
	}
	// Whoever reads a time need not know the zone of the machine.
	const second, zone = `20\d\d-\d\d-\d\d \d\d:\d\d:\d\d`, ` [+-]\d\d\d\d`
	for _, c := range []struct{ text, want string }{
		{shown, `(?m)^ *` + second + `\.\d\d\d` + zone + ` +created `},
		{shown, `: sent ` + second + zone + `\b`},
		{shown, `and from ` + second + zone + ` on a person`},
		{s.says("", "payment", "list"), ` ` + second + zone + ` +held, capture in doubt`},
		{s.says("", "doubt", "list"), `(?m)( ` + second + zone + `| is being asked) *$`},
	} {
		if !regexp.MustCompile(c.want).MatchString(c.text) {
			t.Errorf("%s is not in\n%s", c.want, c.text)
		}
	}
	var listed shownDoubt
	if err := json.Unmarshal([]byte(s.says(uuid, "doubt", "list", "--json")), &listed); err != nil {
		t.Fatal(err)
	}
	if listed.Kind != payment.OpCapture || listed.Amount != 60_000 || listed.Processor != "uzcard" || listed.NextInquiry == nil && !listed.BeingAsked || listed.WaitsForPerson || listed.Cause == "" || listed.Reference == "" {
		t.Errorf("listed is %+v", listed)
	}
	s.says(listed.Reference, "doubt", "list")
	s.says("Payment "+uuid, "payment", "show", listed.Reference)

	resolve := []string{"doubt", "resolve", uuid, "--by", "Gulnora", "--why", "line 17 of the statement", "--rrn", "000000000017"}
	hold, _ := strings.CutSuffix(listed.Reference, "_4")
	byReference := []string{"doubt", "resolve", hold + "_3", "--by", "Gulnora", "--why", "line 17 of the statement", "--outcome", "approved"}
	s.refuses("another is in doubt", byReference...)
	s.refuses("there is no payment 01a20ac1-48ca-78ba-97ae-d77a5bd59e02 here", "doubt", "ask", "01a20ac1-48ca-78ba-97ae-d77a5bd59e02")
	for _, named := range [][]string{{uuid}, {listed.Reference}, {"--shop", "1", "doubt-1"}} {
		s.says("asked, and still in doubt: capture unknown", append([]string{"doubt", "ask"}, named...)...)
	}
	s.refuses("another is in doubt", append(resolve, "--outcome", "approved", "--reference", "1_1")...)
	s.refuses("--outcome must be one of", append(resolve, "--outcome", "perhaps")...)
	s.refuses("a sum, a hold and a reference number are those of something that was done", append(resolve, "--outcome", "refused")...)
	s.refuses("--amount", append(resolve, "--outcome", "approved", "--amount", "much")...)
	s.says("is captured now", append(resolve, "--outcome", "approved")...)
	s.refuses("nothing was changed: no operation of this payment is in doubt", append(resolve, "--outcome", "approved")...)
	s.refuses("no operation of this payment is in doubt", "doubt", "ask", uuid)

	// The server knows it soon, and goes by it.
	s.until("the server says so", func() bool {
		state, err := s.client().Status(t.Context(), "doubt-1")
		return err == nil && state.Status == holdfast.StatusSucceeded
	})
	s.says("says Gulnora: line 17 of the statement", "payment", "show", uuid)
	if result := s.atRest(); result.Resolved != 1 {
		t.Errorf("the audit counts %d resolved", result.Resolved)
	}
	s.says("1 resolved by persons", "audit")

	// Alone, without a server: it is asked at the next start, or a person decides.
	next := s.paid("doubt-2", s.card(1))
	s.fault(map[string]any{"method": "hold.dismiss.charge", "fault": "request_lost"})
	if err := s.accept(next, "0"); err != nil {
		t.Fatal(err)
	}
	third := s.paid("doubt-3", s.card(2))
	if err := s.accept(third, ""); err == nil {
		t.Fatal("a capture whose request is lost is acknowledged")
	}
	s.says("asked, and still in doubt", "doubt", "ask", third)
	s.kill()
	s.says("nobody has asked within 100ms", "doubt", "ask", third, "--wait", "100ms")
	s.says("it is sent again", "doubt", "resolve", "--shop", "1", "doubt-3", "--outcome", "refused", "--by", "Gulnora", "--why", "not in the statement")
	s.start()
	s.until("what a person calls not done is sent again", func() bool {
		state, err := s.client().Status(t.Context(), "doubt-3")
		return err == nil && state.Status == holdfast.StatusSucceeded
	})
	if result := s.atRest(); result.Resolved != 2 {
		t.Errorf("the audit counts %d resolved", result.Resolved)
	}
}

// A backup is taken beside the server, the server is lost, and the backup restored: at rest the books are the centre's.
func TestBackupAndRestoreOfTheProgram(t *testing.T) {
	s := newStage(t)
	humo := s.cardOf("humo")
	kept, all, void := s.paid("kept", s.card(0)), s.paid("all", s.card(1)), s.paid("void", s.card(2))
	later, err := s.client().Prepare(t.Context(), prepare("later"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.client().Prepare(t.Context(), prepare("never"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "holdfast.backup")
	s.says("checked and on the disk", "backup", file)
	s.refuses("is not overwritten", "backup", file)
	for uuid, sum := range map[string]holdfast.Decimal{all: "", void: "0"} {
		if err := s.accept(uuid, sum); err != nil {
			t.Fatal(err)
		}
	}
	s.payWith(later.PaymentUUID, humo)
	s.kill()

	key := filepath.Join(s.dir, keyFile)
	s.refuses("is not empty", "restore", file, "--key", key)
	lost := s.dir
	s.dir = filepath.Join(dir, "new", "data")
	wrong := filepath.Join(dir, "wrong.key")
	if err := os.WriteFile(wrong, []byte(strings.Repeat("0", 64)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.refuses("is not the key that belongs to this backup", "restore", file, "--key", wrong)
	s.refuses("is not the key of a vault", "restore", file, "--key", file)
	s.refuses("holdfast.db-wal is its log, it is a store's own file: put the two into a directory", "restore", filepath.Join(lost, store.File), "--key", key)
	if left, err := os.ReadDir(filepath.Dir(s.dir)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	s.says("clean: every invariant holds", "restore", file, "--key", key)
	s.refuses("connect it again", "serve", "--uzcard-url", "https://a.example", "--uzcard-login", "a", "--uzcard-password", "b", "--uzcard-merchant", "1", "--uzcard-terminal", "2", "--listen", "127.0.0.1:0")
	s.within = time.Minute // the centres are given the time of their longest call
	s.start()
	for name, want := range map[string]string{
		"kept": holdfast.StatusWaitingForCapture, "all": holdfast.StatusSucceeded, "void": holdfast.StatusCanceled,
		"later": holdfast.StatusWaitingForCapture, "never": holdfast.StatusCanceled,
	} {
		if state, err := s.client().Status(t.Context(), name); err != nil || state.Status != want {
			t.Errorf("%s: it is %+v, %v; want %s", name, state, err, want)
		}
	}
	if err := s.accept(kept, "400.00"); err != nil {
		t.Errorf("kept: %v", err)
	}
	if err := s.accept(later.PaymentUUID, ""); err != nil {
		// Humo shows a confirmation late, and is asked before it is sent one: it may take a while.
		t.Logf("later: %v", err)
	}
	s.atRest()
	s.says("found after a restore, not sent from here", "payment", "show", all)
	s.says("by restore", "payment", "show", all)
	// Nobody but the owner can read it.
	for _, name := range []string{file, s.dir, filepath.Join(s.dir, store.File), filepath.Join(s.dir, keyFile)} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is %v, %v", name, info.Mode(), err)
		}
	}
	err = s.data().onStore(func(st *store.Store, _ *vault.Vault) error {
		if r := st.Restored(); r.At.IsZero() || !r.Reconciled {
			t.Errorf("the store says %+v", r)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A copy of the directory that was put back is a backup that nothing marks: an operator does, and the gateway asks the centre
// before it acts on old news.
func TestRecoveredByOtherMeans(t *testing.T) {
	s := newStage(t)
	taken := s.paid("taken", s.card(0))
	s.refuses("end it first", "recovered")
	s.kill()
	before := filepath.Join(t.TempDir(), "before")
	if err := os.CopyFS(before, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	s.start()
	if err := s.accept(taken, ""); err != nil {
		t.Fatal(err)
	}
	s.kill()
	s.dir = before
	s.says("asks the processing centres", "recovered")
	s.within = time.Minute // the centres are given the time of their longest call
	s.start()
	if state, err := s.client().Status(t.Context(), "taken"); err != nil || state.Status != holdfast.StatusSucceeded {
		t.Errorf("it is %+v, %v; and was captured after the copy was made", state, err)
	}
	s.atRest()
}

// cardOf is a good card of a scheme.
func (s *stage) cardOf(scheme string) simCard {
	s.t.Helper()
	var cards []simCard
	s.get("/sim/cards", &cards)
	for _, c := range cards {
		if c.Scheme == scheme && c.Behaviour == "ok" {
			return c
		}
	}
	s.t.Fatalf("the simulator has no card of %s", scheme)
	return simCard{}
}
