package world_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/internal/gateway"
	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/notify"
	"holdfast/internal/payment"
	"holdfast/internal/processor"
	"holdfast/internal/processor/humo"
	"holdfast/internal/processor/rbs"
	"holdfast/internal/processor/svgate"
	"holdfast/internal/sim"
	"holdfast/internal/store"
	"holdfast/internal/vault"
)

// t0 is when a world begins.
var t0 = time.Date(2026, 11, 23, 4, 17, 0, 0, time.UTC)

const (
	holdFor = 30 * time.Minute
	shown   = 2 * time.Minute // until when a centre may take to show what it did
	simURL  = "http://centres.example"

	secondContract = "second"   // with the centre of Uzcard
	simKey         = "holdfast" // all credentials at the simulator
	shopKey        = "e0726d5a-7ac4-4ee0-9c22-c65ed4b0a4a7"

	pinNumbers = `UPDATE meta SET value = '000102030405060708090a0b0c0d0e0f' WHERE name = 'number_key'`
)

// engine is a kind of store. It keeps what every world of a ground begins with.
type engine interface {
	// begin opens a new store, to be filled.
	begin(cfg store.Config) (*store.Store, error)
	// keep keeps what the store, which is closed by now, was filled with, and makes the numbers of payments, and so our
	// references at the centres, the same in every run.
	keep() error
	// home is a home that has what was kept. dir is a directory of its own.
	home(dir string) (home, error)
}

// home is where the processes of one world keep their data.
type home interface {
	// seats are those of the processes that may serve at the same time.
	seats() []seat
	// backup copies everything, as it is now, beside from, which serves. Where there are several ways to copy, it takes them in turn.
	backup(from *store.Store) error
	// restore brings the copy back, marked as restored at now, for the processes that start next. None runs.
	restore(now func() time.Time) error
	// met is how often each of the fates was met.
	met() map[fate]int
	// pieces shows everything that is stored.
	pieces(show func(name string, b []byte)) error
}

// seat is the way to the data for processes that serve one after another.
type seat interface {
	// open opens the store for a process; the one before it is closed.
	open(cfg store.Config) (*store.Store, error)
	// die ends the process that runs: the next one finds what is durable now, and whatever this one still does is
	// done elsewhere. Before a commit there may be several ways to die.
	die(how fate) error
	// breaks breaks the way to the store at the commit that comes next, in one of the fates. The process lives on.
	breaks(how fate)
	// fates are what may become of a commit when the way to the store breaks; none, where nothing lies between.
	fates() []fate
}

// fate is what becomes of a commit when the way to the store breaks. The zero fate is none: it breaks before.
type fate string

// ground is what many worlds, played one after another, share.
type ground struct {
	engine engine // keeps a new store with the shops in it
	dir    string // a directory of its own, in memory where the machine has that
	vault  *vault.Vault
	shops  []merchant.Shop
	cards  []sim.Card // of the centres; they are the same in every world
	server *endpoint  // the merchants' server
}

// memory is a directory in memory, where the machine has that. A store in it is synced all the same, only faster.
func memory() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return os.TempDir()
}

// newGround prepares worlds; done removes what they leave.
func newGround(kind func(dir string) engine) (g *ground, done func() error, err error) {
	dir, err := os.MkdirTemp(memory(), "holdfast-world-")
	if err != nil {
		return nil, nil, err
	}
	g = &ground{engine: kind(dir), dir: dir, server: newEndpoint()}
	done = func() error {
		g.server.Close()
		return os.RemoveAll(dir)
	}
	if err := g.prepare(); err != nil {
		done()
		return nil, nil, err
	}
	return g, done, nil
}

func (g *ground) prepare() (err error) {
	g.cards = sim.New(sim.Config{Now: func() time.Time { return t0 }, Seed: 1}).Cards()
	if g.vault, err = vault.Open(filepath.Join(g.dir, "key")); err != nil {
		return err
	}
	s, err := g.engine.begin(store.Config{Serve: true, Now: func() time.Time { return t0 }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	for i, fee := range []merchant.Fee{{Rate: 20_000}, {Rate: 35_000, Minimum: 500, Back: true}} {
		shop := merchant.Shop{Name: fmt.Sprint("Shop ", i+1), UniqueKey: []byte(shopKey), Settings: merchant.Settings{
			Live: true, Tariff: merchant.Tariff{ID: int64(i + 1), Fee: fee},
		}}
		if i == 1 {
			shop.Settings.HoldSeconds = map[string]int64{"uzcard": 600, "bank_card": 2 * 60 * 60}
		}
		if shop, err = s.CreateShop(context.Background(), shop); err != nil {
			s.Close()
			return err
		}
		g.shops = append(g.shops, shop)
	}
	if err := s.Close(); err != nil {
		return err
	}
	return g.engine.keep()
}

// world is one seed being played.
type world struct {
	*ground
	seed   uint64
	rand   *rand.Rand
	dir    string
	home   home
	trace  bytes.Buffer
	broken []string // what was found wrong; the first ends the play

	moment *atomic.Pointer[time.Time] // of the one clock; a notifier whose call has broken off may still look at it
	skew   *atomic.Int64              // how far the centres' clock is from ours, in nanoseconds
	centre *sim.Sim
	late   []lateCall       // requests that will arrive when nobody waits for them any more
	holds  map[int64]string // which of our operations each of SVGate's holds came of
	calm   bool             // nothing goes wrong any more
	depth  int              // how many things are happening inside one another
	asking []asked          // what centres are being asked, one inside the other

	recovering bool // the process takes up what the one before it left open

	process   *process   // who is acting
	processes []*process // by their seats
	listed    diskState
	payments  []payment.Payment // as they were in that state
	audited   diskState

	pays    []*pay
	refunds int
	tariffs map[int64]merchant.Fee // all that were in force, by their ids
	kept    *kept                  // the backup; nil: none was taken
	lost    *lost                  // what it brought back; nil: it was not restored
	figures figures
}

// asked is a question to a centre that is under way.
type asked struct {
	by      *process
	payment payment.ID
	ref     string    // of the operation that it is about
	over    time.Time // until when its answer is waited for
	until   time.Time // until when nobody else speaks: it may be under way
	shown   time.Time // from when on the centre must show what it was asked to do; zero: it need not
}

// isAsked reports that a centre is being asked about a payment right now.
func (w *world) isAsked(id payment.ID) bool {
	return slices.ContainsFunc(w.asking, func(a asked) bool { return a.payment == id })
}

// iAsk reports that it is the acting process that asks.
func (w *world) iAsk(id payment.ID) bool {
	return slices.ContainsFunc(w.asking, func(a asked) bool { return a.payment == id && a.by == w.process })
}

// figures are what was played.
type figures struct {
	Seeds, Steps, Commands, Payments, Operations int // operations in the centres' books
	Crashes, Recoveries, Calls, Faults, Told     int
	Shared                                       int // worlds in which several gateways served at the same time
	Restores, Resolved, Again, ClockSteps        int
	Lost, Doubled                                int
	Fates                                        map[fate]int // of commits
}

func (f *figures) add(o figures) {
	f.Seeds += o.Seeds
	f.Steps += o.Steps
	f.Commands += o.Commands
	f.Payments += o.Payments
	f.Operations += o.Operations
	f.Crashes += o.Crashes
	f.Recoveries += o.Recoveries
	f.Calls += o.Calls
	f.Faults += o.Faults
	f.Told += o.Told
	f.Shared += o.Shared
	f.Restores += o.Restores
	f.Resolved += o.Resolved
	f.Again += o.Again
	f.ClockSteps += o.ClockSteps
	f.Lost += o.Lost
	f.Doubled += o.Doubled
	for how, n := range o.Fates {
		if f.Fates == nil {
			f.Fates = make(map[fate]int)
		}
		f.Fates[how] += n
	}
}

// process is a gateway from its start to its end.
type process struct {
	w       *world
	name    string
	seat    seat
	store   *store.Store
	gateway *gateway.Gateway
	dead    bool
	crash   int // how many points it still passes; 0: it does not die

	reconciled bool               // it goes through the backup that it was started on, or has
	giveUp     context.CancelFunc // ends its reconciling, where that would try again in real time
}

func newWorld(g *ground, seed uint64) (*world, error) {
	w := &world{
		ground: g, seed: seed, rand: rand.New(rand.NewPCG(seed, 0x686f6c6466617374)), moment: new(atomic.Pointer[time.Time]), skew: new(atomic.Int64),
		holds: make(map[int64]string), tariffs: make(map[int64]merchant.Fee),
	}
	for _, s := range g.shops {
		w.tariffs[s.Settings.Tariff.ID] = s.Settings.Tariff.Fee
	}
	start := t0
	w.moment.Store(&start)
	w.dir = filepath.Join(g.dir, fmt.Sprint("seed-", seed))
	if err := os.Mkdir(w.dir, 0o700); err != nil {
		return nil, err
	}
	w.skew.Store(int64(w.rand.IntN(41)-20) * int64(time.Second))
	w.centre = sim.New(sim.Config{
		Now: func() time.Time { return w.now().Add(time.Duration(w.skew.Load())) }, Seed: seed + 1, BaseURL: simURL,
	})
	var err error
	if w.home, err = g.engine.home(w.dir); err != nil {
		return nil, err
	}
	// Every other world has a gateway on each seat.
	seats := w.home.seats()
	seats = seats[:1+seed%uint64(len(seats))]
	w.processes = make([]*process, len(seats))
	if len(seats) > 1 {
		w.figures.Shared = 1
	}
	for i, s := range seats {
		if err := w.start(i, s); err != nil {
			w.close()
			return nil, err
		}
	}
	return w, nil
}

// close ends the world and removes it.
func (w *world) close() {
	w.centre.Close()
	for _, p := range w.processes {
		if p == nil {
			continue
		}
		if err := p.store.Close(); err != nil {
			w.wrong("the store does not close: %v", err)
		}
	}
	w.figures.Fates = w.home.met()
	if err := os.RemoveAll(w.dir); err != nil {
		w.wrong("%v", err)
	}
}

// say adds a line to the trace. It holds nothing that differs from run to run: no random id, no real time.
func (w *world) say(format string, args ...any) {
	fmt.Fprintf(&w.trace, "%12s %s", w.now().Sub(t0), strings.Repeat("  ", w.depth))
	fmt.Fprintf(&w.trace, format, args...)
	w.trace.WriteByte('\n')
}

// wrong notes that something is not as it must be.
func (w *world) wrong(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	w.say("WRONG: %s", what)
	w.broken = append(w.broken, what)
}

// maybe is true once in n times.
func (w *world) maybe(n int) bool { return w.rand.IntN(n) == 0 }

func pick[T any](w *world, of ...T) T { return of[w.rand.IntN(len(of))] }

// now is what all clocks say, but for the centres'.
func (w *world) now() time.Time { return *w.moment.Load() }

// elapsed is how much time has gone by: the centres' clock is never set.
func (w *world) elapsed() time.Duration { return w.now().Add(time.Duration(w.skew.Load())).Sub(t0) }

// start opens the store from a seat and makes a gateway on it, which acts from now on.
func (w *world) start(i int, from seat) error {
	p := &process{w: w, name: fmt.Sprint("gateway ", i+1), seat: from}
	var err error
	quiet := slog.New(slog.DiscardHandler)
	p.store, err = from.open(store.Config{
		Serve: true, Now: w.now, Elapsed: w.elapsed, Log: quiet, Readers: 1,
		At: func(point store.Point) { p.reached(string(point)) },
	})
	if err != nil {
		return err
	}
	centres, err := w.connect(p)
	if err != nil {
		p.store.Close()
		return err
	}
	p.giveUp = func() {}
	p.gateway = gateway.New(gateway.Config{
		Store: p.store, Live: centres, HoldFor: holdFor, AtOnce: 1, Log: slog.New(impatient{slog.DiscardHandler, p}),
		At: func(point gateway.Point, _ payment.ID) { p.reached(string(point)) },
	})
	w.process, w.processes[i] = p, p
	return nil
}

// turn has one of the processes that live act from now on; false: none lives.
func (w *world) turn() bool {
	var alive []*process
	for _, p := range w.processes {
		if !p.dead {
			alive = append(alive, p)
		}
	}
	switch len(alive) {
	case 0:
		return false
	case 1:
		w.process = alive[0]
	default:
		w.process = pick(w, alive...)
	}
	return true
}

// inside has things happen in the middle of what the acting process does, which then goes on.
func (w *world) inside(happen func()) {
	acting := w.process
	w.depth++
	happen()
	w.depth--
	w.process = acting
}

// connect makes the connectors of a process.
func (w *world) connect(p *process) (gateway.Centres, error) {
	client := &http.Client{Transport: &wire{w, p}}
	now := w.now
	uzcard, err := svgate.New(svgate.Config{
		Endpoint: simURL + "/svgate", Login: simKey, Password: simKey, MerchantID: "90050017182", TerminalID: "91419475", Port: 16050,
		HTTP: client, Shown: shown, Now: now,
	})
	if err != nil {
		return nil, err
	}
	// A second contract with the same centre, to which only shops go whose settings name it.
	second, err := svgate.New(svgate.Config{
		Name: secondContract, Endpoint: simURL + "/svgate", Login: simKey, Password: simKey, MerchantID: "90050017183", TerminalID: "91419476", Port: 16051,
		HTTP: client, Shown: shown, Now: now,
	})
	if err != nil {
		return nil, err
	}
	humoCards, err := humo.New(humo.Config{
		Endpoint: simURL + "/humo", Login: simKey, Password: simKey, MerchantID: "90000001", TerminalID: "91000001", PointCode: "100010", CentreID: "HOLDFAST",
		MiddlewareURL: simURL + "/humo-middleware", MiddlewareToken: simKey, OTP: []humo.Mode{humo.Gateway, humo.Centre}[w.seed%2],
		SMSURL: simURL + "/sms/send", SMSToken: simKey, CodeKey: "0123456789abcdef0123456789abcdef",
		Seal:   func(plain []byte) ([]byte, error) { return w.vault.Seal("card", plain) },
		Unseal: func(sealed []byte) ([]byte, error) { return w.vault.Unseal("card", sealed) },
		HTTP:   client, Shown: shown, Now: now,
	})
	if err != nil {
		return nil, err
	}
	page := func(id payment.ID) string { return "https://pay.example/3ds/" + id.String() }
	bank, err := rbs.New(rbs.Config{
		Endpoint: simURL + "/rbs", Login: simKey, Password: simKey, ReturnURL: page, FinishURL: page, MethodNotificationURL: page,
		HTTP: client, Shown: shown, Now: now,
	})
	if err != nil {
		return nil, err
	}
	return gateway.Centres{
		{Processor: watched{uzcard, w, p}, Method: payment.Uzcard}, {Processor: watched{humoCards, w, p}, Method: payment.Humo},
		{Processor: watched{bank, w, p}, Method: payment.BankCard}, {Processor: watched{second, w, p}, Method: payment.Uzcard, Named: true},
	}, nil
}

// watched is a connector that is looked at whenever it is asked.
type watched struct {
	processor.Processor
	w *world
	p *process
}

// Ask holds invariant 6 against the disk: what a centre sees has a row that was durable before.
func (c watched) Ask(ctx context.Context, q processor.Question) payment.Answer {
	w := c.w
	// What may have been done since a backup was taken is only looked for, and what only reads is not committed.
	looks := q.Operation.Look && q.Operation.Ask == payment.Query
	if !c.p.dead && !looks {
		if on := w.onDisk(q.Payment); on == nil || on.Open == nil || on.Open.Ref != q.Operation.Ref || on.Open.Ask != q.Operation.Ask {
			w.wrong("invariant 6: the centre is asked to %s the %s of %s, and that is not on the disk", q.Operation.Ask, q.Operation.Kind, w.name(q.Payment))
		}
		w.askedFirst(&q)
	}
	question := asked{
		by: c.p, payment: q.Payment, ref: q.Operation.Ref,
		over: w.now().Add(c.Capabilities().Answer), until: q.Operation.AskedAt.Add(c.Capabilities().Answer),
	}
	if window := c.Capabilities().Shown[q.Operation.Kind]; window > 0 {
		question.shown = q.Operation.SentAt.Add(window)
	}
	w.asking = append(w.asking, question)
	defer func() { w.asking = w.asking[:len(w.asking)-1] }()
	a := c.Processor.Ask(ctx, q)
	if !c.p.dead {
		w.say("%s: %s of %s: %s %s", c.Name(), q.Operation.Ask, w.operation(q.Payment, &q.Operation), a.Outcome, a.Reason)
		if *oneSeed > 0 {
			w.say("  %s", a.Cause)
		}
	}
	return a
}

// reached is called at each named point. There the process may die.
func (p *process) reached(point string) {
	w := p.w
	w.server.meet()
	defer w.server.meet()
	if p.dead {
		p.end("") // it was to die of a commit, and there was nothing to be committed
		return
	}
	if !w.calm && point == string(gateway.QuestionCommitted) && w.maybe(30) {
		// The machine stands still: nobody keeps a deadline, and nobody notices.
		w.arrive(w.someMoment())
		w.say("the process stood still: %s", point)
	}
	var fates []fate
	if point == string(store.BeforeCommit) {
		fates = p.seat.fates()
	}
	if p.crash == 0 && len(fates) > 0 && !w.calm && w.maybe(20) {
		how := pick(w, fates...)
		w.say("the way to the store breaks: %s", how)
		p.seat.breaks(how)
	}
	if p.crash == 0 {
		return
	}
	if p.crash--; p.crash > 0 {
		return
	}
	how := fate("")
	p.giveUp()
	if len(fates) > 0 && !w.maybe(3) {
		how = pick(w, fates...)
	}
	w.say("%s dies: %s", p.name, strings.TrimSpace(point+" "+string(how)))
	w.figures.Crashes++
	p.dead = true
	p.end(how)
}

// end ends the process, as far as the store is concerned.
func (p *process) end(how fate) {
	if err := p.seat.die(how); err != nil {
		p.w.wrong("what is durable cannot be kept: %v", err)
	}
}

// alive starts the next process where one has died, until one lives there. Where another lives that may be later.
func (w *world) alive() {
	for i := range w.processes {
		for len(w.broken) == 0 && w.processes[i].dead {
			others := w.turn()
			if others && !w.calm && w.maybe(2) {
				break
			}
			if w.maybe(4) {
				w.pass(w.now().Add(w.downtime())) // only others keep deadlines meanwhile, or nobody
			}
			w.restart(i)
		}
	}
}

// downtime is how long a process stays away that was not started again at once.
func (w *world) downtime() time.Duration {
	return pick(w, time.Second, 20*time.Second, 3*time.Minute, 20*time.Minute, 2*time.Hour, 3*24*time.Hour)
}

// restart ends a process, with grace or without, and starts the next one on its seat, which takes up what was left
// open and may die of it.
func (w *world) restart(i int) {
	old := w.processes[i]
	if err := old.store.Close(); err != nil {
		w.wrong("the store does not close: %v", err)
		return
	}
	for i, call := range w.late {
		if call.set {
			w.late[i].at = w.now() // the next process does not know that the clock was set; it has started only when this has arrived
		}
	}
	w.arrive(w.now())
	w.say("%s starts", old.name)
	if err := w.start(i, old.seat); err != nil {
		w.processes[i] = nil
		w.wrong("the store does not open after a crash: %v", err)
		return
	}
	w.figures.Recoveries++
	p := w.process
	if !w.calm && w.maybe(6) {
		p.crash = 1 + w.rand.IntN(8)
	}
	if err := p.store.ReleaseLeases(context.Background()); err != nil {
		w.wrong("leases are not released: %v", err)
		return
	}
	if p.dead {
		return
	}
	w.recovering = true
	if _, err := p.gateway.Recover(context.Background()); err != nil {
		w.wrong("recovery: %v", err)
	}
	w.recovering = false
	for range 10 { // its loop begins so
		if p.dead || !w.overdue() {
			break
		}
		w.step()
	}
}

// pass lets time go on to a moment, from one deadline to the next, as a process does that looks at its
// deadlines all the time. Those of the moment itself are left: who comes first then is a race.
func (w *world) pass(to time.Time) {
	for rounds := 0; len(w.broken) == 0 && w.turn(); rounds++ {
		next := w.nextDue()
		if next.IsZero() || !next.Before(to) {
			break
		}
		if rounds > 1000 {
			w.wrong("time does not go on: a payment is due at %s", next.Sub(t0))
		}
		w.arrive(next)
		w.reconcile()
		w.step()
	}
	w.arrive(to)
}

// arrive sets the clock; what was sent late arrives at the centres meanwhile.
func (w *world) arrive(to time.Time) {
	for {
		first := -1
		for i, call := range w.late {
			if !call.at.After(to) && (first < 0 || call.at.Before(w.late[first].at)) {
				first = i
			}
		}
		if first < 0 {
			break
		}
		call := w.late[first]
		w.late = slices.Delete(w.late, first, first+1)
		if call.at.After(w.now()) {
			w.moment.Store(&call.at)
		}
		w.say("%s arrives late", call.method)
		if res := w.perform(call.method, call.ref, call.request, call.body); res != nil {
			res.Body.Close()
		}
	}
	if to.After(w.now()) {
		w.moment.Store(&to)
	}
}

// step does what time demands.
func (w *world) step() {
	p := w.process
	n, err := p.gateway.Step(context.Background())
	if p.dead {
		return
	}
	if err != nil {
		w.wrong("step: %v", err)
	}
	if n > 0 {
		w.say("step: %d due", n)
	}
}

// nextDue is when the next payment is due that nobody is asking about; zero: never.
func (w *world) nextDue() (next time.Time) {
	for _, p := range w.list() {
		due := p.Due()
		if due.IsZero() || w.isAsked(p.ID) {
			continue
		}
		if w.recovering && p.Open != nil && p.Open.Outcome == "" {
			continue // the process before this one asked it, and Recover has not come to it yet
		}
		if w.lost != nil && p.Behind(w.lost.at) && due.Before(w.lost.quiet) {
			due = w.lost.quiet // until then its centre is not asked
		}
		if next.IsZero() || due.Before(next) {
			next = due
		}
	}
	return next
}

// list is all payments as they are on the disk, oldest first.
func (w *world) list() []payment.Payment {
	if w.listed == w.state() {
		return w.payments
	}
	w.listed = w.state()
	list, err := w.process.store.List(context.Background(), store.Filter{Limit: 1000})
	if err != nil {
		w.wrong("payments cannot be listed: %v", err)
	}
	slices.Reverse(list)
	w.payments = list
	return list
}

// diskState tells one state of the disk from the next: what no commit has changed is not read again. A process that died may
// have taken a commit along of which it does not know.
type diskState struct {
	starts, deaths int
	commits        uint64
}

func (w *world) state() diskState {
	s := diskState{starts: w.figures.Recoveries, deaths: w.figures.Crashes}
	for _, p := range w.processes {
		s.commits += p.store.Stats().Commits
	}
	return s
}

func (w *world) onDisk(id payment.ID) *payment.Payment {
	for _, p := range w.list() {
		if p.ID == id {
			return &p
		}
	}
	return nil
}

// notifier is new for each delivery: it gives an endpoint that it does not know one place, so one event
// is told at a time.
func (w *world) notifier() *notify.Notifier {
	p := w.process
	decide := func(ctx context.Context, id payment.ID, accept payment.Accept, amount money.Amount, by payment.By) (payment.Payment, error) {
		w.server.meet()
		return p.gateway.Decide(ctx, id, accept, amount, by)
	}
	return notify.New(notify.Config{
		Store: p.store, Decide: decide, AllowPrivate: true, Log: slog.New(slog.DiscardHandler),
		AnswerWithin: time.Hour, // of real time, which here is nobody's: whatever the machine, the server is waited for
		UniqueKey:    func(s merchant.Shop) (string, error) { return string(s.UniqueKey), nil },
	})
}

// tell delivers one event that is due, if there is one.
func (w *world) tell() bool {
	p := w.process
	w.server.serve(w)
	n, err := w.notifier().Step(context.Background())
	w.server.meet()
	if p.dead {
		return n > 0
	}
	if err != nil {
		w.wrong("notify: %v", err)
	}
	return n > 0
}

// name is what the trace calls a payment.
func (w *world) name(id payment.ID) string {
	for _, p := range w.pays {
		if p.id == id {
			return p.name
		}
	}
	return "a payment that nobody was told of"
}

// operation is what the trace calls an operation.
func (w *world) operation(id payment.ID, op *payment.Operation) string {
	return fmt.Sprintf("%s's %d. (%s %d)", w.name(id), op.N, op.Kind, op.Amount.Minor)
}

func uzs(minor int64) money.Amount { return money.New(minor, money.UZS) }
