package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"holdfast"
	"holdfast/internal/payment"
	"holdfast/internal/postgrestest"
	"holdfast/internal/sim"
	"holdfast/internal/store"
	"holdfast/internal/vault"
)

// The kill campaign: the real program, as a process, ended by kill -9 and started again on the same
// store, while the simulator and the shop live on. What the shop was told must still be so
// afterwards, and the centre's books must say the same as ours.

// asProgram makes the test binary the program itself.
const asProgram = "HOLDFAST_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	testscript.Main(m, map[string]func(){"holdfast": main})
}

// readyWithin is how soon after a kill the gateway must take payments again.
const readyWithin = 5 * time.Second

// patience is how long a test waits for what must come; it costs nothing when it comes.
const patience = 2 * time.Minute

// stage is everything around the process that is killed.
type stage struct {
	t       *testing.T
	dir     string
	db      string // a database of PostgreSQL; "": a file in dir
	sim     *httptest.Server
	listen  string // the same address after each restart
	shop    createdShop
	process *exec.Cmd
	kills   int
	env     []string      // for the program
	within  time.Duration // in place of readyWithin
	level   string        // of the log
	log     io.Writer     // where the log goes beside the test's own eyes; nil: nowhere
}

func newStage(t *testing.T) *stage { return newStageLogging(t, "error", nil) }

func newStageLogging(t *testing.T, level string, log io.Writer) *stage {
	return newStageOn(t, "", level, log)
}

// newStageOn keeps the payments in a database of PostgreSQL, or in a file where db is "".
func newStageOn(t *testing.T, db, level string, log io.Writer) *stage {
	s := &stage{t: t, dir: t.TempDir(), db: db, sim: httptest.NewServer(sim.New(sim.Config{}).Handler()), listen: postgrestest.FreeAddress(t), level: level, log: log}
	t.Cleanup(s.sim.Close)
	err := s.data().onServingStore(func(st *store.Store, v *vault.Vault) (err error) {
		s.shop, err = createShop(t.Context(), st, v, "Kill", &settingFlags{Fee: []string{"2%"}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	t.Cleanup(func() { s.kill() })
	return s
}

func (s *stage) data() data { return data{Data: s.dir, DB: s.db} }

// beside is a second gateway on the same database.
func (s *stage) beside() *stage {
	second := *s
	second.listen, second.process, second.kills = postgrestest.FreeAddress(s.t), nil, 0
	second.start()
	s.t.Cleanup(func() { second.kill() })
	return &second
}

// inProcess starts a gateway on the stage's store in this process, in place of the program, until the test ends.
func (s *stage) inProcess() *running {
	s.t.Helper()
	s.kill()
	c := serveCmd{data: s.data(), Listen: "127.0.0.1:0", Sim: s.sim.URL, HoldTimeout: time.Minute, Doubt: time.Minute}
	g, err := c.start(slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { g.stop() })
	return g
}

// start starts the program and waits until it takes payments.
func (s *stage) start() {
	s.t.Helper()
	began := time.Now()
	cmd := exec.Command(os.Args[0], "serve", "--data", s.dir, "--db", s.db, "--listen", s.listen, "--sim", s.sim.URL, "--doubt", "2s", "--log-level", s.level, "--json")
	cmd.Env = append(append(os.Environ(), s.env...), asProgram+"=1")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	if s.log != nil {
		cmd.Stderr = s.log
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.process = cmd
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var said map[string]string
	if err == nil {
		err = json.Unmarshal(line, &said)
	}
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait() // now all its complaints are here
		s.process = nil
		s.t.Fatalf("the program did not start: %v: %s", err, complaints.String())
	}
	s.listen = strings.TrimPrefix(said["api"], "http://")
	for {
		res, err := http.Get("http://" + s.listen + "/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		if within := cmp.Or(s.within, readyWithin); time.Since(began) > within {
			s.t.Fatalf("the gateway is not ready %s after its start: %v", within, err)
		}
	}
}

// kill ends the process as a power cut would.
func (s *stage) kill() {
	if s.process == nil {
		return
	}
	if err := s.process.Process.Kill(); err != nil {
		s.t.Error(err)
	}
	s.process.Wait() // its exit status is the kill's
	s.process = nil
	s.kills++
}

func (s *stage) restart() {
	s.t.Helper()
	s.kill()
	s.start()
}

func (s *stage) client() *holdfast.Client {
	return &holdfast.Client{BaseURL: "http://" + s.listen, ShopID: s.shop.ShopID, Secret: holdfast.Secret(s.shop.Secret)}
}

// card is a good card of its own for each payer, so that each has his own code.
func (s *stage) card(i int) simCard {
	s.t.Helper()
	var cards, good []simCard
	s.get("/sim/cards", &cards)
	for _, c := range cards {
		if c.Scheme == "uzcard" && c.Behaviour == "ok" {
			good = append(good, c)
		}
	}
	return good[i%len(good)]
}

type simCard struct {
	PAN, Exp, Scheme, Behaviour, Phone string
}

func (s *stage) get(path string, to any) {
	s.t.Helper()
	res, err := http.Get(s.sim.URL + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(to); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) code(c simCard) holdfast.Secret {
	s.t.Helper()
	var messages []sim.Message
	s.get("/sim/sms?limit=1&phone="+c.Phone, &messages)
	if len(messages) == 0 {
		s.t.Fatal("no SMS came")
	}
	return holdfast.Secret(messages[0].Code)
}

// atRest waits until nothing is in doubt, ends the gateway and checks everything.
func (s *stage) atRest() *auditResult {
	s.t.Helper()
	s.start0()
	deadline := time.Now().Add(patience)
	var result *auditResult
	for {
		err := s.data().onStore(func(st *store.Store, _ *vault.Vault) (err error) {
			result, err = audit(s.t.Context(), st, s.sim.URL, nil)
			return err
		})
		if err != nil {
			s.t.Fatal(err)
		}
		if result.InDoubt == 0 || time.Now().After(deadline) {
			break
		}
	}
	if !result.Clean || result.InDoubt > 0 {
		s.t.Errorf("after %d kills: in doubt %d, violations %v, books %+v", s.kills, result.InDoubt, result.Violations, result.Books)
	}
	return result
}

// start0 starts the program if it does not run.
func (s *stage) start0() {
	if s.process == nil {
		s.start()
	}
}

// TestKillBetweenSteps kills the gateway before each step of a payment; the payment goes on.
func TestKillBetweenSteps(t *testing.T) {
	s := newStage(t)
	const steps = 5
	for before := range steps + 1 {
		card := s.card(before)
		ctx := t.Context()
		var state *holdfast.PaymentState
		var entity *holdfast.PaymentEntity
		var info *holdfast.VerificationInfo
		var err error
		for step := range steps {
			if step == before {
				s.restart()
			}
			client := s.client()
			switch step {
			case 0:
				state, err = client.Prepare(ctx, prepare("between-"+strconv.Itoa(before)))
			case 1:
				entity, err = client.Pay(ctx, state.PaymentUUID, pay(card))
			case 2:
				info, err = client.VerificationInfo(ctx, state.PaymentUUID)
			case 3:
				_, err = client.CheckSMSKey(ctx, holdfast.CheckSMSKeyRequest{SMSKey: s.code(card), PaymentID: entity.ID, VerifyID: info.VerifyID})
			case 4:
				state, err = client.Accept(ctx, holdfast.AcceptRequest{PaymentUUID: state.PaymentUUID, AcceptStatus: holdfast.AcceptCapture, FinalAmount: "600.00"})
			}
			if err != nil {
				t.Fatalf("killed before step %d, step %d: %v", before, step, err)
			}
		}
		if before == steps {
			s.restart()
		}
		if state, err = s.client().Status(ctx, "between-"+strconv.Itoa(before)); err != nil || state.Status != holdfast.StatusSucceeded {
			t.Errorf("killed before step %d: the payment is %+v, %v", before, state, err)
		}
	}
	s.atRest()
}

func prepare(name string) holdfast.PrepareRequest {
	twoStage := false
	return holdfast.PrepareRequest{
		ShopTransactionID: holdfast.Text(name), AutoCapture: &twoStage, Test: true, TotalSum: "1000.00", Currency: "UZS",
		ReturnURL: "https://shop.example/", NotifyURL: "http://127.0.0.1:9/", Language: "en",
	}
}

func pay(c simCard) holdfast.PayRequest {
	return holdfast.PayRequest{PAN: holdfast.Secret(c.PAN), Exp: c.Exp, Method: "uzcard", CardHolderName: "A PAYER"}
}

// acknowledged is what the shop was told of one payment.
type acknowledged struct {
	uuid    string
	held    bool
	decided holdfast.Decimal // "" none, "0" cancel, else the captured sum
}

// TestKillUnderLoad kills the gateway at random moments while payers pay. KILLS sets how often, over all
// ways to keep the payments.
func TestKillUnderLoad(t *testing.T) {
	kills := 20
	if text := os.Getenv("KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatalf("KILLS=%q is not a number", text)
		}
	}
	for _, way := range []struct {
		name  string
		open  func(t *testing.T) []*stage
		share int // of the kills, in tenths
	}{
		{"SQLite", func(t *testing.T) []*stage { return []*stage{newStage(t)} }, 6},
		{"PostgreSQL", func(t *testing.T) []*stage {
			return []*stage{newStageOn(t, postgrestest.Database(t), "error", nil)}
		}, 2},
		{"two gateways on PostgreSQL", func(t *testing.T) []*stage {
			s := newStageOn(t, postgrestest.Database(t), "error", nil)
			return []*stage{s, s.beside()}
		}, 2},
	} {
		t.Run(way.name, func(t *testing.T) { killUnderLoad(t, way.open(t), kills*way.share/10) })
	}
}

// killUnderLoad kills gateways that share a store, one after another, while payers pay at all of them.
func killUnderLoad(t *testing.T, gateways []*stage, kills int) {
	load := newLoad(t, gateways)
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for i := range kills {
		// Any moment will do: the wait is the experiment, and nothing depends on its length.
		<-time.After(time.Duration(20+random.IntN(180)) * time.Millisecond)
		gateways[i%len(gateways)].restart()
	}
	figures := load.end()
	t.Logf("figures: kill: %s: %d kills; %s", t.Name(), kills, figures)
}

// load is payers at work.
type load struct {
	t        *testing.T
	gateways []*stage
	stop     context.CancelFunc
	group    sync.WaitGroup
	logs     [][]acknowledged
}

// newLoad lets payers pay at gateways that share a store, until end.
func newLoad(t *testing.T, gateways []*stage) *load {
	const payers = 8
	l := &load{t: t, gateways: gateways, logs: make([][]acknowledged, payers)}
	ctx, stop := context.WithCancel(t.Context())
	l.stop = stop
	for i := range payers {
		s := gateways[i%len(gateways)]
		card, client := s.card(i), s.client()
		l.group.Go(func() { l.logs[i] = s.payOn(ctx, client, card, "load-"+strconv.Itoa(i)) })
	}
	return l
}

// end stops the payers, lets what is under way come to its end, and holds what they were told against the
// store, and the store against the centre's books.
func (l *load) end() (figures string) {
	l.t.Helper()
	l.stop()
	l.group.Wait()
	s := l.gateways[0]
	result := s.atRest()
	told := s.checkAll(l.logs)
	if told == 0 {
		l.t.Error("no payment was acknowledged: nothing was tested")
	}
	return fmt.Sprintf("%d payments acknowledged, %d stored; lost %d, doubled %d", told, result.Payments, result.Books.Lost, result.Books.Doubled)
}

// payOn makes payments until ctx ends, and remembers what was acknowledged. Errors are expected: the
// gateway is being killed. After each the shop does what a careful shop does: it asks again.
func (s *stage) payOn(ctx context.Context, client *holdfast.Client, card simCard, name string) (log []acknowledged) {
	for n := 0; ctx.Err() == nil; n++ {
		log = append(log, acknowledged{})
		a := &log[len(log)-1]
		state, err := client.Prepare(ctx, prepare(name+"-"+strconv.Itoa(n)))
		if err != nil {
			log = log[:len(log)-1]
			continue
		}
		a.uuid = state.PaymentUUID
		entity, err := client.Pay(ctx, state.PaymentUUID, pay(card))
		if err != nil {
			continue
		}
		info, err := client.VerificationInfo(ctx, state.PaymentUUID)
		if err != nil {
			continue
		}
		var messages []sim.Message
		if res, err := http.Get(s.sim.URL + "/sim/sms?limit=1&phone=" + card.Phone); err == nil {
			err = json.NewDecoder(res.Body).Decode(&messages)
			res.Body.Close()
			if err != nil || len(messages) == 0 {
				continue
			}
		}
		_, err = client.CheckSMSKey(ctx, holdfast.CheckSMSKeyRequest{SMSKey: holdfast.Secret(messages[0].Code), PaymentID: entity.ID, VerifyID: info.VerifyID})
		if err != nil {
			continue
		}
		a.held = true
		request := holdfast.AcceptRequest{PaymentUUID: state.PaymentUUID, AcceptStatus: holdfast.AcceptCapture}
		switch n % 3 {
		case 1:
			request.FinalAmount = "400.00"
		case 2:
			request.AcceptStatus = holdfast.AcceptCancel
		}
		for range 20 { // the same decision again is the same answer
			if _, err = client.Accept(ctx, request); err == nil {
				a.decided = "0"
				if request.AcceptStatus == holdfast.AcceptCapture {
					a.decided = orDecimal(request.FinalAmount, "1000.00")
				}
				break
			}
			var refused *holdfast.Error
			if errors.As(err, &refused) && refused.Code != holdfast.CodeOutcomeUnknown && refused.Code != holdfast.CodeBusy {
				s.t.Errorf("payment %s: a decision after a kill: %v", a.uuid, err)
				break
			}
			if ctx.Err() != nil {
				break
			}
		}
	}
	return log
}

func orDecimal(d, otherwise holdfast.Decimal) holdfast.Decimal {
	if d == "" {
		return otherwise
	}
	return d
}

// checkAll looks whether all that shops were told is in the store, and returns of how many payments it was.
func (s *stage) checkAll(logs [][]acknowledged) (told int) {
	s.t.Helper()
	err := s.data().onStore(func(st *store.Store, _ *vault.Vault) error {
		for _, log := range logs {
			for _, a := range log {
				told++
				s.checkAcknowledged(st, a)
			}
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return told
}

// checkAcknowledged looks whether what the shop was told is in the store.
func (s *stage) checkAcknowledged(st *store.Store, a acknowledged) {
	s.t.Helper()
	id, err := payment.ParseID(a.uuid)
	if err != nil {
		s.t.Error(err)
		return
	}
	p, err := st.Payment(s.t.Context(), id)
	switch {
	case err != nil:
		s.t.Errorf("LOST: payment %s was acknowledged: %v", a.uuid, err)
	case a.held && !p.Held.Positive():
		s.t.Errorf("LOST: payment %s was acknowledged as held, and is %s", a.uuid, p.State)
	case a.decided == "0" && p.State != payment.Voided:
		s.t.Errorf("LOST: payment %s was acknowledged as cancelled, and is %s", a.uuid, p.State)
	case a.decided != "" && a.decided != "0" && (p.State != payment.Captured || p.Captured.Decimal() != string(a.decided)):
		s.t.Errorf("LOST: payment %s was acknowledged as captured with %s, and is %s with %s", a.uuid, a.decided, p.State, p.Captured)
	}
}
