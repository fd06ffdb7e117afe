// Package sim is the second party: a simulator of the card processing centres, with its own cards, books, SMS inbox and bad
// days on demand. It shares no code with the gateway, so that one mistake cannot be made on both sides and cancel out.
//
// # What is here
//
// Three centres, each a file of its own over the same card book (cards.go), the same money (books.go) and the same SMS
// inbox (sms.go); each file says what its protocol's sources leave open and how this simulator has decided:
//
//	svgate.go  Uzcard's SVGate, JSON-RPC with Basic credentials: POST /svgate
//	humo.go    Humo's PaymentServer, SOAP 1.1 with Basic credentials: POST /humo
//	           its middleware, JSON with a bearer token: POST /humo-middleware/v3/iiacs/card, and, an invention of this
//	           simulator, POST /humo-middleware/otp/send and /humo-middleware/otp/verify
//	rbs.go     the acquirer's e-commerce gateway for Visa and Mastercard, forms in and JSON out: POST /rbs/rest/X.do
//	acs.go     3-D Secure as the payer's browser sees it: /acs/method, /acs/challenge, /rbs/3ds/…
//	sms.go     an SMS provider for gateways that send their codes themselves, JSON with a bearer token: POST /sms/send
//
// faults.go spoils calls on purpose, and pages.go shows everything to a person at GET /.
//
// # For scripts
//
//	GET    /sim/cards              the card book: []Card
//	GET    /sim/sms?phone=&limit=  the newest messages first: []Message; limit 1..20000, default 100
//	GET    /sim/books              Books
//	GET    /sim/faults             []Fault
//	POST   /sim/faults             Fault
//	DELETE /sim/faults             forgets them, and sends the answers that are withheld
//	POST   /sim/clock              {"advance_seconds": 1..315360000}: holds lapse, codes and cards expire
//	POST   /sim/reset              all cards, books, messages, faults and the clock as at the start; ids go on counting
//	GET    /healthz                200 "ok"
//
// It is a tool for development and tests: it has no users of its own, and belongs on the loopback interface.
package sim

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config sets a simulator up; the zero value is usable.
type Config struct {
	Now         func() time.Time // the clock; default time.Now
	OTPLifetime time.Duration    // how long an SMS code is good, above 0; default 5 minutes
	// Seed decides the random SMS codes and where the ids begin to count; 0 takes one from crypto/rand.
	Seed       uint64
	SlowAnswer time.Duration // how late the fault "slow" answers, and how long "drip" takes, above 0; default 3 seconds
	Logger     *slog.Logger  // told of faults that happen, resets and clock moves; default nobody
	// Login and Password are the payment organisation's HTTP Basic credentials at SVGate; default holdfast and holdfast.
	Login, Password string

	// HumoLogin and HumoPassword are those at PaymentServer, where the login is the paymentOriginator too; HumoToken is the
	// bearer token of the middleware and SMSToken the SMS provider's. All default to holdfast.
	HumoLogin, HumoPassword, HumoToken, SMSToken string
	HumoHold                                     time.Duration // how long a hold of Humo lives, a minute at least; default 30 days

	// RBSLogin and RBSPassword are userName and password at RBS, RBSToken is the token that can stand for them. All
	// default to holdfast.
	RBSLogin, RBSPassword, RBSToken string
	RBSHold                         time.Duration // how long a hold of RBS lives, a minute at least; default 7 days
	SeveralDeposits                 bool          // deposit.do may take a hold in several parts
	AcceptUnavailable               bool          // RBS takes payments that 3-D Secure could tell nothing of (U, ECI 07)

	// CallbackURL is where RBS tells of orders without a dynamicCallbackUrl; "" is nowhere. CallbackMethod is GET (the
	// default) or POST. CallbackKey is the shared key of the checksum, default holdfast. CallbackRepeat is the time between
	// tries, default 30 seconds, by the real clock and not by Now.
	CallbackURL, CallbackMethod, CallbackKey string
	CallbackRepeat                           time.Duration

	// BaseURL is where browsers reach this simulator, such as http://127.0.0.1:8090; "" takes the address by which the
	// acquirer's gateway was called.
	BaseURL string
}

// Sim is the simulator. All methods may be called from many goroutines at once.
type Sim struct {
	now           func() time.Time
	otpLifetime   time.Duration
	slowAnswer    time.Duration
	log           *slog.Logger
	login         string
	authorization string // the one value of the header that is let in
	handler       http.Handler

	humoLogin, humoAuthorization, humoToken, smsToken string
	rbsLogin, rbsPassword, rbsToken                   string
	humoHold, rbsHold                                 uint32 // minutes
	severalDeposits, acceptUnavailable                bool
	callbackURL, callbackMethod, base                 string
	callbackKey                                       []byte
	callbackRepeat                                    time.Duration
	client                                            *http.Client
	waiting                                           atomic.Int64 // callbacks under way, and repeats to come

	mu     sync.Mutex // over all below; held for one call's work, never over I/O
	offset time.Duration
	random *mathrand.Rand
	books
	otps      otpRequests
	inbox     inbox
	faults    []Fault
	cleared   chan struct{} // closed when the faults are cleared, and then made anew
	orders    orders
	recos     []reco            // Humo's, not yet confirmed
	recoCount int64             // how many there ever were
	recoFrom  map[string]uint32 // by terminal id: the first operation after its last reconciliation
	life      context.Context   // of what goes on by itself; a reset ends it and begins another
	end       context.CancelFunc
}

// New makes a simulator with its full card book and empty books.
func New(cfg Config) *Sim {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.OTPLifetime <= 0 {
		cfg.OTPLifetime = 5 * time.Minute
	}
	if cfg.SlowAnswer <= 0 {
		cfg.SlowAnswer = 3 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	for _, secret := range []*string{
		&cfg.Login, &cfg.Password, &cfg.HumoLogin, &cfg.HumoPassword, &cfg.HumoToken, &cfg.SMSToken, &cfg.RBSLogin, &cfg.RBSPassword, &cfg.RBSToken,
		&cfg.CallbackKey,
	} {
		if *secret == "" {
			*secret = "holdfast"
		}
	}
	if cfg.HumoHold < time.Minute {
		cfg.HumoHold = 30 * 24 * time.Hour
	}
	if cfg.RBSHold < time.Minute {
		cfg.RBSHold = 7 * 24 * time.Hour
	}
	if cfg.CallbackRepeat <= 0 {
		cfg.CallbackRepeat = 30 * time.Second
	}
	var seed [32]byte
	if cfg.Seed == 0 {
		rand.Read(seed[:]) // never fails: it ends the program rather than return weak bytes
	} else {
		binary.LittleEndian.PutUint64(seed[:], cfg.Seed)
	}
	s := &Sim{
		now: cfg.Now, otpLifetime: cfg.OTPLifetime, slowAnswer: cfg.SlowAnswer, log: cfg.Logger, login: cfg.Login,
		authorization: basic(cfg.Login, cfg.Password),
		humoLogin:     cfg.HumoLogin, humoAuthorization: basic(cfg.HumoLogin, cfg.HumoPassword), humoToken: cfg.HumoToken, smsToken: cfg.SMSToken,
		rbsLogin: cfg.RBSLogin, rbsPassword: cfg.RBSPassword, rbsToken: cfg.RBSToken,
		humoHold: uint32(cfg.HumoHold / time.Minute), rbsHold: uint32(cfg.RBSHold / time.Minute),
		severalDeposits: cfg.SeveralDeposits, acceptUnavailable: cfg.AcceptUnavailable,
		callbackURL: cfg.CallbackURL, callbackMethod: cfg.CallbackMethod, callbackKey: []byte(cfg.CallbackKey), callbackRepeat: cfg.CallbackRepeat,
		base: strings.TrimSuffix(cfg.BaseURL, "/"),
		client: &http.Client{
			Transport:     &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: 10 * time.Second},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		random: mathrand.New(mathrand.NewChaCha8(seed)),
	}
	// Ids begin at a random place: a simulator that was started anew must not give out again what a gateway with an older
	// database has seen already. Hold ids and OTP ids stay inside 32 bits, refNums have 12 digits.
	s.holdBase = 1_000_000_000 + s.random.Int64N(900_000_000)
	s.refBase = 100_000_000_000 + s.random.Int64N(800_000_000_000)
	s.otps.base = 100_000_000 + s.random.Int64N(900_000_000)
	s.open()
	s.handler = s.routes()
	return s
}

func basic(login, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(login+":"+password))
}

// Close ends what goes on by itself: callbacks that are under way or to be repeated, and the timer that ends payment
// sessions. The handler still answers.
func (s *Sim) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
	if s.orders.alarm != nil {
		s.orders.alarm.Stop()
		s.orders.alarm = nil
	}
	s.client.CloseIdleConnections()
}

// open lays out the card book and empty books; ids go on from where they are. The caller holds mu, or owns s alone.
func (s *Sim) open() {
	s.holdBase += int64(s.books.count)
	s.refBase += int64(s.books.count)
	s.otps = otpRequests{base: s.otps.base + s.otps.count}
	s.inbox = inbox{}
	s.forgetFaults()
	s.offset = 0
	if s.end != nil {
		s.end()
	}
	s.life, s.end = context.WithCancel(context.Background())
	if s.orders.alarm != nil {
		s.orders.alarm.Stop()
	}
	s.orders = orders{byNumber: map[string]uint32{}, byUUID: map[uuid]uint32{}}
	s.recos, s.recoFrom = nil, map[string]uint32{}
	s.books = books{
		cards:      newCardBook(s.now()),
		byPAN:      map[string]*account{},
		byToken:    map[string]*account{},
		byExt:      map[string]uint32{},
		byRef:      map[string]uint32{},
		byTerminal: map[string]uint16{},
		holdBase:   s.holdBase,
		refBase:    s.refBase,
	}
	for _, a := range s.cards {
		s.byPAN[a.pan] = a
		s.byToken[a.token] = a
	}
	for _, t := range homeTerminals {
		s.terminal([]byte(t.merchantID), []byte(t.terminalID))
	}
}

// clock is the simulator's time: the clock it was given, moved by POST /sim/clock. Holds that are over lapse first, and
// payment sessions that are over end. The caller holds mu.
func (s *Sim) clock() time.Time {
	now := s.now().Add(s.offset)
	s.lapseDue(now)
	if len(s.orders.ends) > 0 {
		s.endDue(now)
	}
	return now
}

// Handler is the whole HTTP surface: the centres' protocols, /sim for scripts and the pages.
func (s *Sim) Handler() http.Handler { return s.handler }

// Cards is the card book in its fixed order: uzcard, humo, visa, mastercard; in each the shared ok card first.
func (s *Sim) Cards() []Card {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock()
	all := make([]Card, len(s.cards))
	for i, a := range s.cards {
		all[i] = a.card()
	}
	return all
}

// SMS is what lies in the inbox of a phone (12 digits; "" for all phones), newest first: at most the newest 20000.
func (s *Sim) SMS(phone string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inbox.newest(s.cards, phone, maxMessages)
}

// Books is an exact picture of all money and all operations, oldest first.
func (s *Sim) Books() Books {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock()
	b := Books{Cards: s.cardBooks(), Operations: make([]Operation, s.count)}
	for n := range s.count {
		b.Operations[n] = s.operation(n)
	}
	return b
}

// Reset returns cards, books, messages, faults and the clock to the beginning. Ids and refNums are not used again.
func (s *Sim) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open()
}

// advance moves the simulator's clock forward and says what it shows then.
func (s *Sim) advance(d time.Duration) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset += d
	return s.clock()
}

const (
	maxMessages  = 20_000
	maxScript    = 16 << 10 // bytes in the body of a /sim request
	booksSlice   = 4096     // operations written at a time by GET /sim/books
	maxAdvance   = 10 * 365 * 24 * 60 * 60
	defaultLimit = 100
)

var (
	jsonType = []string{"application/json; charset=utf-8"}
	htmlType = []string{"text/html; charset=utf-8"}
)

func (s *Sim) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/humo", s.serveHumo)
	mux.HandleFunc("/humo-middleware/v3/iiacs/card", s.serveMiddleware("humo.card", (*Sim).middlewareCard))
	mux.HandleFunc("/humo-middleware/otp/send", s.serveMiddleware("humo.otp", (*Sim).otpSend))
	mux.HandleFunc("/humo-middleware/otp/verify", s.serveMiddleware("humo.otp", (*Sim).otpVerify))
	mux.HandleFunc("/rbs/rest/{call...}", s.serveRBS)
	mux.HandleFunc("/sms/send", s.serveSendSMS)
	s.secure(mux)
	mux.HandleFunc("GET /sim/cards", func(w http.ResponseWriter, r *http.Request) { s.answer(w, http.StatusOK, s.Cards()) })
	mux.HandleFunc("GET /sim/sms", s.serveSMS)
	mux.HandleFunc("GET /sim/books", s.serveBooks)
	mux.HandleFunc("GET /sim/faults", func(w http.ResponseWriter, r *http.Request) { s.answer(w, http.StatusOK, s.Faults()) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { s.write(w, []byte("ok\n")) })
	// A web page elsewhere must not turn the bad days on in somebody's browser.
	guard := http.NewCrossOriginProtection()
	mux.Handle("POST /sim/faults", guard.Handler(http.HandlerFunc(s.serveAddFault)))
	mux.Handle("DELETE /sim/faults", guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.ClearFaults()
		s.answer(w, http.StatusOK, s.Faults())
	})))
	mux.Handle("POST /sim/clock", guard.Handler(http.HandlerFunc(s.serveClock)))
	mux.Handle("POST /sim/reset", guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Reset()
		s.log.Info("simulator reset")
		s.answer(w, http.StatusOK, struct {
			Reset bool `json:"reset"`
		}{true})
	})))
	s.pages(mux, guard)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/svgate" {
			s.serveSVGate(w, r) // the busiest of all: it is not looked for among the others
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// write sends bytes; that the caller has gone is no concern of the centre's beyond a line in its log.
func (s *Sim) write(w io.Writer, b []byte) {
	if _, err := w.Write(b); err != nil {
		s.log.Debug("caller has gone", "error", err)
	}
}

func (s *Sim) answer(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		s.log.Error("cannot encode an answer", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header()["Content-Type"] = jsonType
	w.WriteHeader(status)
	s.write(w, append(b, '\n'))
}

// refuse answers a script's mistake: {"error": "field: what is wrong; what is allowed"}.
func (s *Sim) refuse(w http.ResponseWriter, err error) {
	s.answer(w, http.StatusBadRequest, struct {
		Error string `json:"error"`
	}{err.Error()})
}

// script reads a /sim body into v and refuses what it does not know.
func script(w http.ResponseWriter, r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxScript))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return fmt.Errorf("%s: a %s was sent where %s belongs", wrong.Field, wrong.Value, wrong.Type)
		}
		return fmt.Errorf("body: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("body: one JSON object is allowed, and nothing after it")
	}
	return nil
}

func (s *Sim) serveAddFault(w http.ResponseWriter, r *http.Request) {
	var f Fault
	err := script(w, r, &f)
	if err != nil {
		err = fmt.Errorf("%w; allowed fields are method, fault, times, pan, after, code", err)
	} else {
		err = s.AddFault(f)
	}
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.answer(w, http.StatusOK, s.Faults())
}

func (s *Sim) serveClock(w http.ResponseWriter, r *http.Request) {
	var move struct {
		AdvanceSeconds int64 `json:"advance_seconds"`
	}
	err := script(w, r, &move)
	if err == nil && (move.AdvanceSeconds < 1 || move.AdvanceSeconds > maxAdvance) {
		err = fmt.Errorf("advance_seconds: %d is out of range; allowed are 1 to %d", move.AdvanceSeconds, maxAdvance)
	}
	if err != nil {
		s.refuse(w, err)
		return
	}
	now := s.advance(time.Duration(move.AdvanceSeconds) * time.Second)
	s.log.Info("simulator's clock moved", "now", now)
	s.answer(w, http.StatusOK, struct {
		Now time.Time `json:"now"`
	}{now})
}

func (s *Sim) serveSMS(w http.ResponseWriter, r *http.Request) {
	limit := defaultLimit
	if text := r.FormValue("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxMessages {
			s.refuse(w, fmt.Errorf("limit: %q is no number from 1 to %d", text, maxMessages))
			return
		}
		limit = n
	}
	phone, err := bareNumber(r.FormValue("phone"))
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.mu.Lock()
	messages := s.inbox.newest(s.cards, phone, limit)
	s.mu.Unlock()
	s.answer(w, http.StatusOK, messages)
}

// bareNumber takes a phone with or without plus, spaces, hyphens and brackets. ("+" in a query arrives as a space.)
func bareNumber(phone string) (string, error) {
	var digits []byte
	for _, c := range []byte(phone) {
		switch {
		case c >= '0' && c <= '9':
			digits = append(digits, c)
		case strings.IndexByte("+ -()", c) < 0:
			return "", fmt.Errorf("phone: %q is no phone number; allowed are digits, plus, spaces, hyphens and brackets", phone)
		}
	}
	return string(digits), nil
}

// serveBooks writes the books a slice at a time: a million operations never stand in memory as text, and payments go on in
// between. Up to booksSlice operations it is one exact picture; beyond, ask when nothing is under way.
func (s *Sim) serveBooks(w http.ResponseWriter, r *http.Request) {
	w.Header()["Content-Type"] = jsonType
	var b bytes.Buffer
	encode := json.NewEncoder(&b)
	var next, count uint32
	for first := true; first || next < count; first = false {
		b.Reset()
		var cards []CardBook
		s.mu.Lock()
		if first {
			s.clock()
			cards, count = s.cardBooks(), s.count
		}
		if s.count < count { // reset in between: what is gone cannot be told
			count = s.count
		}
		operations := make([]Operation, 0, min(booksSlice, count-next))
		for ; next < count && len(operations) < booksSlice; next++ {
			operations = append(operations, s.operation(next))
		}
		s.mu.Unlock()

		if first {
			b.WriteString(`{"cards":`)
			if err := encode.Encode(cards); err != nil {
				s.log.Error("cannot encode the books", "error", err)
				return
			}
			b.WriteString(`,"operations":[`)
		}
		for i := range operations {
			if !first || i > 0 {
				b.WriteByte(',')
			}
			if err := encode.Encode(&operations[i]); err != nil {
				s.log.Error("cannot encode the books", "error", err)
				return
			}
		}
		if _, err := w.Write(b.Bytes()); err != nil {
			return // the caller has gone; a million operations more would not reach it either
		}
	}
	s.write(w, []byte("]}\n"))
}
