package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast"
)

// WalkConfig says what the walk walks through: a gateway and a simulator that run, and two shops of the gateway.
type WalkConfig struct {
	Gateway string // base URL of the merchant interface
	Sim     string // base URL of the simulator
	Credentials
	// ShortHold is a shop that is like the other, but whose undecided holds are released after ShortHoldTime.
	ShortHold     Credentials
	ShortHoldTime time.Duration
	// Methods are played one after the other; default Uzcard alone.
	Methods []string
}

// How long the walk waits for what must happen by itself.
const (
	messageWithin = 15 * time.Second // an SMS, a notification
	releaseGrace  = 30 * time.Second // beyond the time of a hold
	lookEvery     = 50 * time.Millisecond
)

// Walk plays the flows of the seed over HTTP and tells them to out. It gives an error, one sentence with the flow and the
// step, as soon as something is not as it should be, and nil if all was.
func Walk(ctx context.Context, cfg WalkConfig, out io.Writer) error {
	if len(cfg.Methods) == 0 {
		cfg.Methods = []string{holdfast.MethodUzcard}
	}
	w := &walker{cfg: cfg, tell: &story{out: out}, sim: newSimulator(strings.TrimRight(cfg.Sim, "/")), browser: newBrowser()}
	if err := w.openDoor(); err != nil {
		return err
	}
	defer w.closeDoor()

	w.tell.line("Holdfast: a card payment from the first click to the last tiyin")
	w.tell.line("")
	w.tell.line("  gateway     %s   the product: it takes the merchant's calls", cfg.Gateway)
	w.tell.line("  simulator   %s   plays the bank's processing centre and keeps books of its own", cfg.Sim)
	w.tell.line("  the shop    %s   the walk itself, as a merchant's server: it only knows the public interface", w.url)
	w.tell.line("")
	w.tell.paragraph("Each number is a step of the scheme in the documentation of the two-stage payment, word for word. BE and FE are the " +
		"gateway's back-end and front-end, PC is the bank's processing centre, the Partner is the shop. → is a call of the shop and ← its " +
		"answer; ⇐ is a notification of the gateway and ⇒ what the shop answers. Sums are in UZS. Secrets, codes and card numbers are " +
		"masked, long answers shortened to what matters here.")

	var rows []row
	for _, method := range cfg.Methods {
		flows, err := flowsOf(method)
		if err != nil {
			return err
		}
		for i := range flows {
			r, err := w.play(ctx, &flows[i], method)
			if err != nil {
				return errors.Join(err, w.tell.err)
			}
			rows = append(rows, r)
		}
	}
	w.tell.line("")
	w.tell.line("All flows (UZS)")
	w.tell.line("")
	w.tell.table(rows)
	w.tell.line("")
	w.tell.paragraph(fmt.Sprintf("Everything was as it should be: %d expectations held. After every flow the centre's books said of the card "+
		"exactly what the gateway had said of the payment.", w.checks))
	return w.tell.err
}

// flow is one way of a payment through the world.
type flow struct {
	Letter string
	Short  string // its name in the table
	Title  string // the seed's heading, where it has one
	About  string
	// What is to happen. Decide is the accept_status of the shop, "" if it says nothing; Capture is how much it takes in the
	// end, minor units.
	OneStage  bool
	ShortHold bool
	Decide    string
	Capture   int64
	Refunded  int64 // of it, how much goes back to the buyer in the end
	Steps     []step
}

// step is a line of a scheme. Its number is its place.
type step struct {
	Text string // the seed's words, where it has any
	play func(*scene) error
}

// cartSum is what the buyer of every flow pays, minor units.
const (
	cartSum   = 250_000_00
	partSum   = 180_000_00
	refundSum = 100_000_00 // what the first of two refunds gives back
	cartText  = "a teapot from Rishtan and two bowls"
)

// flowsOf is the table of what the walk plays with a method.
func flowsOf(method string) ([]flow, error) {
	switch method {
	case holdfast.MethodUzcard:
		return codeBySMS(refundInParts), nil
	case holdfast.MethodHumo:
		return codeBySMS(refundWhole), nil
	case holdfast.MethodBankCard:
		return threeDS(), nil
	}
	return nil, fmt.Errorf("the walk has no flows for the method %q: use uzcard, humo or bank_card", method)
}

// codeBySMS are the flows of Uzcard and Humo, where the payer proves himself with a code from an SMS.
func codeBySMS(refund []step) []flow {
	full := []step{
		{"The client selected a product/service", (*scene).selects},
		{`Clicked "Pay" in the shopping cart`, (*scene).clicks},
		{"The partner initiates the transaction using the prepare_payment method", (*scene).prepares},
		{"Our Back-end (BE) sends a link to our Front-end (FE) for payment", (*scene).hasLink},
		{"The partner displays their payment page to the client", (*scene).showsPage},
		{"The client fills in and sends the bank card details", (*scene).givesCard},
		{"The partner conducts the transaction by initiating the pay method", (*scene).pays},
		{"Our BE confirms", (*scene).payConfirmed},
		{"The partner initiates the verificationInfo method to receive the payment id and the OTP code expiration date", (*scene).asksVerification},
		{"Our BE confirms", (*scene).verificationConfirmed},
		{"The processing center (PC) sends the OTP code to the client", (*scene).getsSMS},
		{"The client sends the OTP code to the partner", (*scene).givesCode},
		{"The partner initiates the check_sms_key method to send the OTP code", (*scene).checksCode},
		{"Our BE sends a request to hold funds in the PC", (*scene).holdAsked},
		{"The PC confirms the hold or refuses", (*scene).holdConfirmed},
		{"We notify the Partner about successful/unsuccessful hold", (*scene).heldTold},
		{"We send a request to confirm the amount in the form of a callback", (*scene).askedToConfirm},
		{"The Partner confirms the full payment amount by initiating the set_accept method", (*scene).decides},
		{"We made sure that the amount has not changed", (*scene).amountUnchanged},
		{"Confirmed the PC amount", (*scene).captureAsked},
		{"Received confirmation from the PC", (*scene).captureConfirmed},
		{"Sent a response to confirm the amount", (*scene).captureTold},
		{"Redirected the client back to the Partner's website", (*scene).goesBack},
	}
	partial := []step{
		{"The client selected a product/service", (*scene).selects},
		{`Clicked "Pay" in the cart`, (*scene).clicks},
		{"The Partner initiates the transaction using the prepare_payment method", (*scene).prepares},
		{"Our Back-end (BE) sends a link to our Front-end (FE) for payment", (*scene).hasLink},
		{"The Partner displays their payment page to the Client", (*scene).showsPage},
		{"The Client fills in and sends their bank card details", (*scene).givesCard},
		{"The Partner conducts the transaction by initiating the pay method", (*scene).pays},
		{"Our BE confirms", (*scene).payConfirmed},
		{"The Partner initiates the verificationInfo method to receive the payment id and the OTP code expiration date", (*scene).asksVerification},
		{"Our BE confirms", (*scene).verificationConfirmed},
		{"The Processing Center (PC) sends the OTP code to the Client", (*scene).getsSMS},
		{"The Client sends the OTP code to the Partner", (*scene).givesCode},
		{"The Partner initiates the check_sms_key method to send the OTP code", (*scene).checksCode},
		{"Our BE sends a request to hold funds to the PC", (*scene).holdAsked},
		{"The PC confirms the hold or refuses", (*scene).holdConfirmed},
		{"We notify the Partner about successful/unsuccessful holding", (*scene).heldTold},
		{"We send a request to confirm the amount in the form of a callback", (*scene).askedToConfirm},
		{"The Partner confirms part of the payment amount by initiating the set_accept method", (*scene).decides},
		{"We received an amount less than the original", (*scene).amountLess},
		{"We adjusted the transaction amount", (*scene).captureAsked},
		{"We received confirmation from the PC", (*scene).captureConfirmed},
		{"We sent a response to confirm the amount", (*scene).captureTold},
		{"We redirected the client back to the Partner's website", (*scene).goesBack},
		{"The PC returned the remaining funds to the client", (*scene).restReturned},
	}
	return ways{
		Scheme: "Humo/Uzcard (PC)", Full: full, Partial: partial, Refund: refund,
		Paid: 13, Asked: 17, Settled: 22,
		OneStage: append(slices.Clone(full[:13]),
			step{"Our BE sends a request to take the money at once", (*scene).chargeAsked},
			step{"The PC confirms the payment or refuses", (*scene).chargeConfirmed},
		),
	}.flows()
}

// threeDS are the flows of Visa and Mastercard, where the payer proves himself at his bank: on the bank's own page, to which
// ours leads.
func threeDS() []flow {
	full := []step{
		{"The customer selected a product/service", (*scene).selects},
		{`Clicked "Pay" in the shopping cart`, (*scene).clicks},
		{"The partner initiates a transaction using the prepare_payment method", (*scene).prepares},
		{"Our Back-end (BE) sends a link to our Front-end (FE) for payment", (*scene).hasLink},
		{"The customer fills in and sends the bank card details on the Partner's page", (*scene).givesCard},
		{"The partner conducts the transaction by initiating the pay method", (*scene).pays},
		{"Our BE sends a request to hold funds to the PC", (*scene).orderOpened},
		{"The PC sends a link to the OTP code entry form", (*scene).hasForm},
		{"Our BE confirms the transaction and sends a link to the on-screen OTP code entry form", (*scene).formTold},
		{"The partner displays the OTP code entry page to the customer", (*scene).seesForm},
		{"The PC sends the OTP code to the customer", (*scene).getsSMS},
		{"The customer sends the OTP code", (*scene).sendsCode},
		{"The PC sends us a notification about confirmation of holding funds", (*scene).comesBack},
		{"We notify the Partner about successful/unsuccessful holding", (*scene).heldTold},
		{"We send a request to confirm the amount in the form of a callback", (*scene).askedToConfirm},
		{"The Partner confirms the full payment amount by initiating the set_accept method", (*scene).decides},
		{"We made sure that the amount has not changed", (*scene).amountUnchanged},
		{"Confirmed the PC amount", (*scene).captureAsked},
		{"Received confirmation from the PC", (*scene).captureConfirmed},
		{"Sent a response to confirm the amount", (*scene).captureTold},
	}
	partial := []step{
		{"The Client selected a product/service", (*scene).selects},
		{`Clicked "Pay" in the cart`, (*scene).clicks},
		{"The partner initiates a transaction using the prepare_payment method", (*scene).prepares},
		{"Our Back-end (BE) sends a link to our Front-end (FE) for payment", (*scene).hasLink},
		{"The Client fills in and sends the bank card details on the Partner's page", (*scene).givesCard},
		{"The Partner conducts the transaction by initiating the pay method", (*scene).pays},
		{"Our BE sends a request to hold funds to the PC", (*scene).orderOpened},
		{"The PC sends a link to the OTP code entry form", (*scene).hasForm},
		{"Our BE confirms the transaction and sends a link to the on-screen OTP code entry form", (*scene).formTold},
		{"The Partner displays the OTP code entry page to the client", (*scene).seesForm},
		{"The PC sends the OTP code to the client", (*scene).getsSMS},
		{"The client sends the OTP code", (*scene).sendsCode},
		{"The PC sends us a notification about confirmation of holding funds", (*scene).comesBack},
		{"We notify the Partner about successful/unsuccessful holding", (*scene).heldTold},
		{"We send a request to confirm the amount in the form of a callback", (*scene).askedToConfirm},
		{"The Partner confirms part of the payment amount by initiating the set_accept method", (*scene).decides},
		{"We received an amount less than the original", (*scene).amountLess},
		{"We adjusted the transaction amount", (*scene).captureAsked},
		{"We received confirmation from the PC", (*scene).captureConfirmed},
		{"We sent a response to confirm the amount", (*scene).captureTold},
		{"The PC returned the remaining funds to the client", (*scene).restReturned},
	}
	return ways{
		Scheme: "Visa/MC (PC)", Full: full, Partial: partial, Refund: refundInParts,
		Paid: 6, Asked: 15, Settled: 20,
		OneStage: slices.Concat(full[:6],
			[]step{{"Our BE sends a request to take the money to the PC", (*scene).orderOpened}},
			full[7:12],
			[]step{{"The PC confirms the payment or refuses", (*scene).comesBack}},
		),
	}.flows()
}

// refundInParts follows a full confirmation where the centre gives back any sum.
var refundInParts = []step{
	{"A bowl has arrived broken: the Partner gives a part back by initiating the refund method", (*scene).refundsPart},
	{"We ask the PC to give the part back, and it confirms", (*scene).refundConfirmed},
	{"We notify the Partner about the refund", (*scene).refundTold},
	{"The Partner is not sure and says it again, with the same shop_refund_id: the same answer, and nothing moves", (*scene).refundsAgain},
	{"The Partner wants to give back more than is left: we refuse", (*scene).refundsTooMuch},
	{"The client sends everything back: the Partner refunds the rest", (*scene).refundsRest},
	{"We ask the PC to give the rest back, and it confirms", (*scene).refundConfirmed},
	{"We notify the Partner about the refund", (*scene).refundTold},
}

// refundWhole follows a full confirmation where the centre knows no sum when it gives back.
var refundWhole = []step{
	{"The Partner wants to give back more than was paid: we refuse", (*scene).refundsTooMuch},
	{"A bowl has arrived broken: the Partner wants to give a part back; this PC cannot, and we say so", (*scene).refundsPartInVain},
	{"The client sends everything back: the Partner refunds the whole payment by initiating the refund method", (*scene).refundsRest},
	{"We ask the PC to give it back, and it confirms", (*scene).refundConfirmed},
	{"We notify the Partner about the refund", (*scene).refundTold},
	{"The Partner is not sure and says it again, with the same shop_refund_id: the same answer, and nothing moves", (*scene).refundsAgain},
}

// ways are the seed's two schemes of a kind of card, and what the other flows need of them. Paid, Asked and Settled are
// numbers of steps of Full, which flows without a scheme of their own begin with: the last that a one-stage payment shares,
// the gateway's question for the decision, and the answer to set_accept.
type ways struct {
	Scheme                          string
	Full, Partial, OneStage, Refund []step
	Paid, Asked, Settled            int
}

func (w ways) flows() []flow {
	// The seed has no scheme for four of them: they begin like the first, and then go their own way.
	oneStage := slices.Concat(w.OneStage, []step{
		{"We notify the Partner about the successful payment", (*scene).chargeTold},
		{"Redirected the client back to the Partner's website", (*scene).goesBack},
	})
	canceled := slices.Concat(w.Full[:w.Asked], []step{
		{"The Partner cancels by initiating the set_accept method", (*scene).decides},
		{"We ask the PC to release the hold, and it confirms", (*scene).released},
		{"Sent a response about the cancellation, and notify the Partner", (*scene).cancelTold},
		{"The Partner changes its mind, too late: the first decision stands", (*scene).secondThought},
		{"Redirected the client back to the Partner's website", (*scene).goesBack},
	})
	undecided := slices.Concat(w.Full[:w.Asked], []step{
		{"The Partner says nothing; the time for a decision passes", (*scene).waitsForRelease},
		{"We ask the PC to release the hold, and it confirms", (*scene).released},
		{"We notify the Partner that the payment is canceled", (*scene).cancelTold},
	})
	shared := func(n int) string { return fmt.Sprintf(" Steps 1 to %d are those of the first scheme.", n) }
	return []flow{
		{
			Letter: "a", Short: "full confirmation", Title: "Scheme of work when confirming the entire amount, " + w.Scheme,
			About:  "A shop wants to be sure of its money before it looks into the storeroom. It has the money held on the card, finds everything there, and takes all of it.",
			Decide: holdfast.AcceptCapture, Capture: cartSum, Steps: w.Full,
		},
		{
			Letter: "b", Short: "partial confirmation", Title: "Scheme of work with partial confirmation of the amount, " + w.Scheme,
			About:  "This time the bowls are out of stock. The shop takes the price of the teapot, and the rest of the hold goes back to the card by itself.",
			Decide: holdfast.AcceptCapture, Capture: partSum, Steps: w.Partial,
		},
		{
			Letter: "c", Short: "one-stage", Title: "A one-stage payment (auto_capture true), " + w.Scheme,
			About:    "Tickets and top-ups need no second thought: the money is taken as soon as the code is right." + shared(w.Paid),
			OneStage: true, Capture: cartSum, Steps: oneStage,
		},
		{
			Letter: "d", Short: "cancel", Title: "The Partner cancels a held payment, " + w.Scheme,
			About:  "Nothing is left in the storeroom. The shop cancels, and the buyer has his money back at once: it had never left the card." + shared(w.Asked),
			Decide: holdfast.AcceptCancel, Steps: canceled,
		},
		{
			Letter: "e", Short: "nobody confirms", Title: "Nobody confirms a held payment, " + w.Scheme,
			About:     "The shop's server has forgotten all about it. A hold must not last for ever, so the gateway gives it back when the shop's time is over." + shared(w.Asked),
			ShortHold: true, Steps: undecided,
		},
		{
			Letter: "f", Short: "refund", Title: "The Partner gives captured money back, " + w.Scheme,
			About:  "The money is the shop's already, and the goods are at the buyer's, when he is not content with them." + shared(w.Settled),
			Decide: holdfast.AcceptCapture, Capture: cartSum, Refunded: cartSum, Steps: slices.Concat(w.Full[:w.Settled], w.Refund),
		},
	}
}

// walker is a walk under way.
type walker struct {
	cfg     WalkConfig
	tell    *story
	sim     simulator
	checks  int          // expectations that held
	used    []string     // cards of the flows before
	browser *http.Client // the payer's
	url     string       // of the walk's own server
	door    *http.Server
	inbox   inbox
}

// play plays one flow from its first step to its last.
func (w *walker) play(ctx context.Context, f *flow, method string) (row, error) {
	began := time.Now()
	name := fmt.Sprintf("(%s) %s, %s", f.Letter, f.Short, either(method == holdfast.MethodBankCard, "Visa/MC", methodName(method)))
	s, err := w.newScene(ctx, f, method)
	if err != nil {
		return row{}, fmt.Errorf("flow %s cannot begin: %w", name, err)
	}
	w.tell.line("")
	w.tell.line("%s", strings.Repeat("━", pageWidth))
	w.tell.line("(%s) %s", f.Letter, f.Title)
	w.tell.line("")
	w.tell.paragraph(f.About)
	for i, step := range f.Steps {
		w.tell.line("")
		w.tell.wrapped(fmt.Sprintf(" %3d. ", i+1), indent, words(step.Text))
		s.step = i + 1
		if err := step.play(s); err != nil {
			w.tell.say("✗ This is not as it should be; the walk ends here.")
			return row{}, fmt.Errorf("flow %s, step %d (%s): %w", name, i+1, step.Text, err)
		}
	}
	if err := s.booksAgree(); err != nil {
		return row{}, fmt.Errorf("flow %s, the books at its end: %w", name, err)
	}
	return row{
		Flow: name, Held: s.held, Captured: f.Capture, GivenBack: max(s.held-f.Capture, 0), Refunded: s.refunded, Fee: s.fee,
		TookMillis: time.Since(began).Milliseconds(),
	}, w.tell.err
}

// expect is an expectation of the walk.
func (w *walker) expect(what string, got, want any) error {
	if got != want {
		return differ(what, got, want)
	}
	w.checks++
	return nil
}

// openDoor starts the merchant's own server: its notify_url and its return_url.
func (w *walker) openDoor() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("the walk cannot listen for notifications on the loopback interface: %w", err)
	}
	w.url = "http://" + listener.Addr().String()
	w.inbox.news = make(chan struct{}, 1)
	mux := http.NewServeMux()
	mux.Handle("/notify", w.notifyHandler(w.cfg.UniqueKey))
	mux.Handle("/notify/short", w.notifyHandler(w.cfg.ShortHold.UniqueKey))
	mux.HandleFunc("GET /return", func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, thanks) })
	w.door = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	go w.door.Serve(listener)
	return nil
}

// closeDoor lets the answer to the last notification leave, and then closes.
func (w *walker) closeDoor() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if w.door.Shutdown(ctx) != nil {
		w.door.Close()
	}
	w.browser.CloseIdleConnections()
	w.sim.http.CloseIdleConnections()
}

const thanks = "Thank you for your purchase."

// notifyHandler takes notifications of one shop. It never decides by its answer: the seed's flows do so by set_accept.
func (w *walker) notifyHandler(key holdfast.Secret) http.Handler {
	verified := holdfast.NotificationHandler(string(key), func(_ context.Context, n holdfast.Notification) (holdfast.NotificationAnswer, error) {
		if n.Status == holdfast.StatusWaitingForCapture {
			return holdfast.NotificationAnswer{AcceptStatus: holdfast.AcceptWait}, nil
		}
		return holdfast.NotificationAnswer{}, nil
	})
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(holdfast.HeaderWebhookID)
		recorded(verified, func(x exchange) { w.inbox.put(letter{x, id}) }).ServeHTTP(rw, r)
	})
}

// letter is a notification that came.
type letter struct {
	exchange
	webhookID string
}

// inbox keeps the notifications that came, until a scene takes them.
type inbox struct {
	mu      sync.Mutex
	letters []letter
	news    chan struct{} // holds a token when a letter came
}

const keptLetters = 1000

func (in *inbox) put(l letter) {
	in.mu.Lock()
	if len(in.letters) < keptLetters {
		in.letters = append(in.letters, l)
	}
	in.mu.Unlock()
	select {
	case in.news <- struct{}{}:
	default:
	}
}

// take removes the oldest letter, if there is one.
func (in *inbox) take() (l letter, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.letters) == 0 {
		return l, false
	}
	l = in.letters[0]
	in.letters = in.letters[1:]
	return l, true
}
