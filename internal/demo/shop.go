// Package demo is a small shop that integrates with Holdfast as any merchant would: through the public package holdfast and
// over HTTP, and through nothing else. Beside it is the walk, which plays the flows of the seed step by step against a
// running gateway and tells them as a story.
//
// Order to read: shop.go (what the shop is and what it remembers), exchange.go (the log of what was said), checkout.go (the
// payer's side), desk.go (the merchant's side and the notifications), simulator.go (test cards, SMS, books), walk.go (the
// walk's frame and its table of flows), scene.go (what each step does), story.go (how it is told).
package demo

import (
	"crypto/rand"
	"embed"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"holdfast"
)

// Credentials are what the gateway's operator gives a shop.
type Credentials struct {
	ShopID    int64           // octo_shop_id
	Secret    holdfast.Secret // octo_secret
	UniqueKey holdfast.Secret // unique_key: proves that notifications come from the gateway
}

// Config says where the shop stands and whom it talks to.
type Config struct {
	Gateway   string // base URL of the merchant interface
	Sim       string // base URL of the simulator, for its test cards and links to its SMS inbox; "" hides both
	PublicURL string // where payers and the gateway reach the shop, such as http://127.0.0.1:8081
	Credentials
	Logger *slog.Logger // told of pages that cannot be drawn and of notifications that are refused; default nobody
}

// holdTime is how long the gateway keeps a hold that nobody decides about, where a shop's settings say nothing; the pages say so.
const holdTime = 30 * time.Minute

// What the shop remembers. It has no store: what it forgets, the gateway still knows.
const (
	keptPayments  = 1000
	keptExchanges = 200       // of one payment
	keptBytes     = 128 << 10 // of one payment's exchanges
	keptBody      = 32 << 10  // of one body, as it is shown
	keptRefused   = 20        // notifications that were not verified
	maxForm       = 16 << 10  // bytes of a form
)

// How long the shop waits for the gateway: a bank may think about a card for a while, a look at the status is answered from
// the gateway's own store.
const (
	callWithin   = 40 * time.Second
	statusWithin = 4 * time.Second
)

// Shop is a web shop. Use NewShop.
type Shop struct {
	cfg  Config
	http *http.Client
	sim  simulator
	log  *slog.Logger

	mu       sync.Mutex
	payments map[string]*payment
	names    []string  // of the payments, oldest first
	refused  []refusal // notifications that were not verified, oldest first
}

// NewShop makes a shop that has sold nothing yet.
func NewShop(cfg Config) *Shop {
	cfg.PublicURL = strings.TrimRight(cfg.PublicURL, "/")
	cfg.Sim = strings.TrimRight(cfg.Sim, "/")
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Shop{
		cfg: cfg, http: &http.Client{Timeout: callWithin}, sim: newSimulator(cfg.Sim), log: cfg.Logger,
		payments: make(map[string]*payment),
	}
}

//go:embed style.css shop.js
var assets embed.FS

// Handler is the whole shop: pages, forms and the address for notifications.
func (s *Shop) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.pageCatalogue)
	mux.HandleFunc("GET /checkout/{id}", s.withPayment(s.pageCard))
	mux.HandleFunc("GET /checkout/{id}/code", s.withPayment(s.pageCode))
	mux.HandleFunc("GET /return", s.pageReturn)
	mux.HandleFunc("GET /payments", s.pagePayments)
	mux.HandleFunc("GET /payments/{id}", s.withPayment(s.pagePayment))
	mux.HandleFunc("GET /payments/{id}/version", s.withPayment(s.version))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("ok\n")) })
	for _, name := range []string{"style.css", "shop.js"} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, assets, name) })
	}

	// Forms move money, so a page elsewhere must not send them from somebody's browser.
	guard := http.NewCrossOriginProtection()
	form := func(pattern string, do http.HandlerFunc) {
		mux.Handle("POST "+pattern, guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			if err := r.ParseForm(); err != nil {
				s.sorry(w, http.StatusBadRequest, "The form could not be read", "Go back and send it again.")
				return
			}
			do(w, r)
		})))
	}
	form("/buy", s.buy)
	form("/checkout/{id}", s.withPayment(s.pay))
	form("/checkout/{id}/code", s.withPayment(s.enterCode))
	form("/checkout/{id}/resend", s.withPayment(s.resend))
	form("/payments/{id}/capture", s.withPayment(s.capture))
	form("/payments/{id}/cancel", s.withPayment(s.cancel))
	form("/payments/{id}/refund", s.withPayment(s.refund))

	mux.Handle("/notify", s.notifyHandler())
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.sorry(w, http.StatusNotFound, "There is no such page", "Start from the catalogue.")
	})
	return mux
}

// withPayment finds the payment that the path names.
func (s *Shop) withPayment(do func(http.ResponseWriter, *http.Request, *payment)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p := s.find(r.PathValue("id"))
		if p == nil {
			s.sorry(w, http.StatusNotFound, "The shop does not know this payment",
				"It remembers the last thousand and forgets all when it is restarted; the gateway still knows it.")
			return
		}
		do(w, r, p)
	}
}

// choice is what the buyer chose on the catalogue page. It does not change afterwards.
type choice struct {
	Lines    []line
	Total    int64  // minor units
	TwoStage bool   // hold first, decide later
	Method   string // one of the Method constants of holdfast
	OwnPage  bool   // the card is taken on the shop's page, not on the gateway's
	Language string // of the gateway's page and messages
	Answer   string // what the shop answers when it is asked for the decision: one of the answer constants
}

// line is one position of the cart.
type line struct {
	Thing thing
	Count int64
}

// Sum is in minor units.
func (l line) Sum() int64 { return l.Thing.Price * l.Count }

// What the shop may answer to the notification that money is held.
const (
	answerWait    = "wait"    // leave the decision to set_accept
	answerCapture = "capture" // the answer itself captures all
	answerCancel  = "cancel"  // the answer itself cancels
	answerNothing = "nothing" // decide nothing; the gateway asks again
)

// payment is one payment as the shop knows it. There is no card in it, and there must never be: a card goes from the form
// to the client and is gone.
type payment struct {
	ID      string // the shop's own name for it: shop_transaction_id
	Created time.Time
	Choice  choice

	mu       sync.Mutex // over all below; never held during a call
	state    holdfast.PaymentState
	number   holdfast.Integer // paymentId of check_sms_key
	doubt    bool             // the bank has not answered; cleared by the next status that is certain
	received holdfast.Decimal // transfer_sum as the gateway said it last
	log      []exchange
	logBytes int
	version  int // counts what the page shows, for the script that looks for news
}

// newName is 100 random bits, since whoever knows a payment's name can see it here.
func newName() string { return "demo-" + strings.ToLower(rand.Text()[:20]) }

// remember puts a new payment in, and forgets the oldest one if there are too many.
func (s *Shop) remember(p *payment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.names) >= keptPayments {
		delete(s.payments, s.names[0])
		s.names = s.names[1:]
	}
	s.payments[p.ID] = p
	s.names = append(s.names, p.ID)
}

func (s *Shop) find(id string) *payment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.payments[id]
}

// newest gives the newest payments first, at most n.
func (s *Shop) newest(n int) []*payment {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*payment
	for i := len(s.names) - 1; i >= 0 && len(list) < n; i-- {
		list = append(list, s.payments[s.names[i]])
	}
	return list
}

// learn takes over what the gateway said of the payment's state.
func (p *payment) learn(state holdfast.PaymentState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = state
	if state.TransferSum != "" {
		p.received = state.TransferSum
	}
	switch state.Status {
	case holdfast.StatusWaitingForCapture, holdfast.StatusSucceeded, holdfast.StatusCanceled:
		p.doubt = false
	}
}

// known is the state as the gateway said it last; its Status is "" while the gateway has not said any.
func (p *payment) known() (state holdfast.PaymentState, doubt bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.doubt
}
