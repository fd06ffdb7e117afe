// Package notify tells merchants what became of their payments: it takes events from the store's
// outbox, signs and sends them, repeats them by a published schedule, and takes the decision that a
// merchant's answer may carry.
//
// An attempt is on disk before it is sent. No lock and no transaction is open while a merchant
// answers, so he may call the API about the same payment meanwhile. A slow or dead endpoint has a
// place of its own to wait in and holds up nobody else's.
package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"holdfast"
	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/outward"
	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/tally"
)

// Config is what a Notifier needs.
type Config struct {
	Store *store.Store
	// UniqueKey gives a shop's signing key in the clear.
	UniqueKey func(merchant.Shop) (string, error)
	// Decide is the gateway's door for a decision.
	Decide func(ctx context.Context, id payment.ID, accept payment.Accept, amount money.Amount, by payment.By) (payment.Payment, error)
	// AllowPrivate lets notifications go to private and loopback addresses. Only a gateway whose every
	// connector leads to a simulator may: it has nothing to protect, and its shops are on the same machine.
	AllowPrivate bool
	// AnswerWithin is what a whole exchange may take, connecting included; default 10 s.
	AnswerWithin time.Duration
	Log          *slog.Logger
}

// The published schedule (docs/notifications.md; a test holds the two together).
var (
	// Backoff is the pause after each attempt that was not accepted; its last value repeats.
	Backoff = []time.Duration{
		5 * time.Second, 15 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 15 * time.Minute,
		30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 6 * time.Hour,
	}
	// GiveUp is how long an event is tried. What is sent again by hand later than that is tried once.
	GiveUp = 72 * time.Hour
	// Ask is the pause after each request for a decision while none has come; its last value repeats.
	Ask = []time.Duration{
		50 * time.Second, 50 * time.Second, 50 * time.Second, 50 * time.Second, 50 * time.Second, 50 * time.Second,
		2 * time.Minute, 2 * time.Minute, 2 * time.Minute, 2 * time.Minute, 10 * time.Minute,
	}
)

const (
	connectWithin = 3 * time.Second
	answerWithin  = 10 * time.Second
	decideWithin  = 30 * time.Second // what a decision in the answer may take on top
	answerBytes   = 64 << 10
	recordAtOnce  = 256
	mostParked    = 1024
)

// Notifier delivers events. Use New.
type Notifier struct {
	cfg       Config
	transport *outward.Transport
	endpoints *endpoints
	results   chan store.Result
	stepped   atomic.Int64 // see Stepped; nanoseconds
	attempts  tally.By[Attempt, atomic.Uint64]
	took      tally.Times
	gaveUp    atomic.Uint64
}

// New makes a Notifier.
func New(cfg Config) *Notifier {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.AnswerWithin <= 0 {
		cfg.AnswerWithin = answerWithin
	}
	n := &Notifier{
		cfg: cfg, transport: newTransport(cfg.AllowPrivate), endpoints: newEndpoints(),
		results: make(chan store.Result, recordAtOnce),
	}
	n.stepped.Store(time.Now().UnixNano())
	for _, a := range []Attempt{Taken, Refused, Unanswered, Unsent} { // whoever watches the counts sees the first one as a rise
		n.attempts.Of(a)
	}
	return n
}

// lease is how long nobody else takes up an event that this process delivers.
func (n *Notifier) lease() time.Duration { return n.cfg.AnswerWithin + decideWithin + 5*time.Second }

// Stepped is when Run last saw to it that what is due is sent: it asked the store, or had its hands full. While Run
// runs and the store answers, that is less than a second ago.
func (n *Notifier) Stepped() time.Time { return time.Unix(0, n.stepped.Load()) }

// Step delivers what is due now, once, and returns how many events it sent. It is Run without
// waiting, for tests and simulations.
func (n *Notifier) Step(ctx context.Context) (int, error) {
	var claimed []store.Delivery
	for looked := (store.Claims{More: true}); looked.More && len(claimed) < recordAtOnce; {
		var err error
		if looked, err = n.claim(ctx, looked.Next, recordAtOnce-len(claimed)); err != nil {
			return 0, err
		}
		claimed = append(claimed, looked.Deliveries...)
	}
	if len(claimed) == 0 {
		return 0, nil
	}
	results := make([]store.Result, len(claimed))
	var group sync.WaitGroup
	for i, d := range claimed {
		group.Go(func() {
			results[i] = n.deliver(ctx, d)
			n.endpoints.done(d.Endpoint, results[i].Status != 0)
		})
	}
	group.Wait()
	return len(claimed), n.cfg.Store.Record(ctx, results)
}

// claim takes from the store what is due behind a cursor and has a place at its endpoint.
func (n *Notifier) claim(ctx context.Context, after store.Cursor, limit int) (store.Claims, error) {
	return n.cfg.Store.Claim(ctx, after, limit, n.lease(), store.Places{Admit: n.endpoints.admit, Release: n.endpoints.release})
}

// Run delivers until ctx ends, and then waits for what is under way.
func (n *Notifier) Run(ctx context.Context) {
	r := &round{
		n: n, ctx: context.WithoutCancel(ctx), fresh: n.cfg.Store.Fresh(n.lease()),
		behind: make(map[payment.ID][]store.Delivery), parked: make(map[string][]store.Delivery),
		next: make(chan store.Delivery), finished: make(chan store.Result, recordAtOnce),
		seen: store.DueAt(n.cfg.Store.Now()), first: true,
	}
	recorded := make(chan struct{})
	go func() {
		defer close(recorded)
		n.record(r.ctx)
	}()
	// At worst an event waits this long after its time.
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case d := <-r.fresh:
			r.take(d)
		case result := <-r.finished:
			r.finish(result)
		case <-tick.C:
			r.wake()
		case <-n.cfg.Store.Told(): // the new ones come behind what was due before, or the tick finds them: to look at all of that again costs more the more there is
			r.news = true
		case <-r.ready():
			r.claim(ctx)
		}
	}
	r.giveBack()
	for r.sending > 0 {
		n.results <- <-r.finished
		r.sending--
	}
	close(r.next)
	close(n.results)
	<-recorded
}

// round is what Run keeps in mind. Only its loop touches it.
type round struct {
	n        *Notifier
	ctx      context.Context
	fresh    <-chan store.Delivery
	next     chan store.Delivery // for whoever has just delivered another
	finished chan store.Result
	sending  int
	behind   map[payment.ID][]store.Delivery // for each payment an event is under way of: those that come after it
	parked   map[string][]store.Delivery     // by endpoint, those that have no place there just now
	waiting  int                             // how many are parked
	seen     store.Cursor                    // all that was due before has been looked at
	again    store.Cursor                    // where it is looked at again, for what had no place
	first    bool                            // that is not done for the first time yet
	news     bool                            // what has come to be due is to be looked for
	parts    int                             // of what was due before, that are to be looked at again
}

// take sends a fresh event when it is its turn.
func (r *round) take(d store.Delivery) {
	if queue, busy := r.behind[d.Payment]; busy {
		r.behind[d.Payment] = append(queue, d)
		return
	}
	r.begin(d)
}

// begin sends an event whose turn it is, if its endpoint has a place for it.
func (r *round) begin(d store.Delivery) {
	switch {
	case r.n.endpoints.admit(d.Endpoint, d.Shop):
		r.send(d)
	case r.waiting < mostParked && r.n.endpoints.answers(d.Endpoint):
		r.occupy(d.Payment)
		r.parked[d.Endpoint] = append(r.parked[d.Endpoint], d)
		r.waiting++
	default:
		r.putBack(d, r.n.cfg.Store.Now().Add(time.Second))
	}
}

// occupy makes later events of a payment wait behind the one that is its turn.
func (r *round) occupy(id payment.ID) {
	if _, taken := r.behind[id]; !taken {
		r.behind[id] = nil
	}
}

func (r *round) send(d store.Delivery) {
	r.occupy(d.Payment)
	r.sending++
	select {
	case r.next <- d:
	default:
		go r.deliver(d)
	}
}

// deliver delivers d, and then what comes while it waits: on a new goroutine each delivery would begin with
// making its stack large enough. There are no more of them than there are places for deliveries.
func (r *round) deliver(d store.Delivery) {
	for more := true; more; d, more = <-r.next {
		result := r.n.deliver(r.ctx, d)
		r.n.endpoints.done(d.Endpoint, result.Status != 0)
		r.finished <- result
	}
}

// finish has a result recorded, and goes on with what waited for it.
func (r *round) finish(result store.Result) {
	r.sending--
	r.n.results <- result
	queue := r.behind[result.Payment]
	delete(r.behind, result.Payment)
	switch {
	case len(queue) == 0:
	case result.Accepted || result.NextAt.IsZero():
		r.behind[result.Payment] = queue[1:]
		r.begin(queue[0])
	default: // it is sent again first, or has held up the next one for long enough: the store knows
		r.behind[result.Payment] = queue[1:]
		r.putBack(queue[0], r.n.cfg.Store.Now())
	}
	r.unpark(result.Endpoint)
}

// unpark gives the places that an endpoint has now to those that wait for one.
func (r *round) unpark(endpoint string) {
	list := r.parked[endpoint]
	for len(list) > 0 && r.n.endpoints.admit(endpoint, list[0].Shop) {
		r.send(list[0])
		list = list[1:]
		r.waiting--
	}
	if len(list) > 0 && !r.n.endpoints.answers(endpoint) {
		for _, d := range list {
			r.putBack(d, r.n.cfg.Store.Now().Add(time.Second))
		}
		r.waiting -= len(list)
		list = nil
	}
	if len(list) == 0 {
		delete(r.parked, endpoint)
		return
	}
	r.parked[endpoint] = list
}

// putBack gives an event back to the store, with those of its payment that come after it.
func (r *round) putBack(d store.Delivery, until time.Time) {
	all := append([]store.Delivery{d}, r.behind[d.Payment]...)
	delete(r.behind, d.Payment)
	if err := r.n.cfg.Store.PutBack(r.ctx, all, until); err != nil {
		r.n.cfg.Log.Error("notifications cannot be put off; they are sent when their leases end", "error", err)
	}
}

// giveBack gives all that waits here back to the store, for whoever serves beside or next: else it would wait for the end of
// its lease.
func (r *round) giveBack() {
	var waiting []store.Delivery
	for _, queue := range r.behind {
		waiting = append(waiting, queue...)
	}
	for _, queue := range r.parked {
		waiting = append(waiting, queue...)
	}
	for more := true; more; {
		select {
		case d := <-r.fresh:
			waiting = append(waiting, d)
		default:
			more = false
		}
	}
	if len(waiting) == 0 {
		return
	}
	if err := r.n.cfg.Store.PutBack(r.ctx, waiting, r.n.cfg.Store.Now()); err != nil {
		r.n.cfg.Log.Error("notifications that wait cannot be given back; they are sent when their leases end", "error", err)
	}
}

// againAtOnce is how many parts of what was due before are looked at again at a time.
const againAtOnce = 8

// wake has the store looked into.
func (r *round) wake() { r.news, r.parts = true, againAtOnce }

// ready is closed where the store is to be looked into.
func (r *round) ready() <-chan struct{} {
	if r.news || r.parts > 0 {
		return closed
	}
	return nil
}

var closed = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// claim sends a part of what is due in the store, as long as there is room. What has no place at its endpoint stays due, however
// much it is, and must not hide what comes after it: what comes to be due is looked for behind all that was due before. That
// is looked at again a part at a time, for what had no place; all of it the first time, and as long as there is something to send.
func (r *round) claim(ctx context.Context) {
	room, after := r.n.endpoints.room(), &r.seen
	if !r.news {
		after = &r.again
	}
	if room <= 0 {
		r.n.stepped.Store(time.Now().UnixNano())
		r.news, r.parts = false, 0
		return
	}
	claims, err := r.n.claim(ctx, *after, min(room, recordAtOnce))
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, store.ErrBroken) { // which the store has said, once, and nothing here will mend
			r.n.cfg.Log.Error("notifications cannot be taken from the store", "error", err)
		}
		r.news, r.parts = false, 0
		return
	}
	r.n.stepped.Store(time.Now().UnixNano())
	for _, d := range claims.Deliveries {
		r.send(d)
	}
	*after = claims.Next
	switch {
	case r.news:
		r.news = claims.More
	case !claims.More:
		r.again, r.first, r.parts = store.Cursor{}, false, 0
	case !r.first && len(claims.Deliveries) == 0:
		r.parts--
	}
}

// record writes down what became of deliveries, many in one commit.
func (n *Notifier) record(ctx context.Context) {
	batch := make([]store.Result, 0, recordAtOnce) // Record does not keep it
	for r := range n.results {
		batch = append(batch[:0], r)
	more:
		for len(batch) < recordAtOnce {
			select {
			case r, ok := <-n.results:
				if !ok {
					break more
				}
				batch = append(batch, r)
			default:
				break more
			}
		}
		if err := n.cfg.Store.Record(ctx, batch); err != nil {
			// Their leases end, and they are sent again.
			n.cfg.Log.Error("results of notifications cannot be recorded", "count", len(batch), "error", err)
		}
	}
}

// deliver sends one event and says what became of it.
func (n *Notifier) deliver(ctx context.Context, d store.Delivery) (r store.Result) {
	sent := false
	defer func() { n.count(&r, sent) }()
	r = store.Result{Delivery: d, At: n.cfg.Store.Now()}
	p, err := n.cfg.Store.Recall(ctx, d.Payment, d.Event.N)
	if err != nil {
		return n.again(r, "the payment cannot be read: "+err.Error())
	}
	shop, err := n.cfg.Store.Shop(ctx, d.Shop)
	if err != nil {
		return n.again(r, "the shop cannot be read: "+err.Error())
	}
	key, err := n.cfg.UniqueKey(shop)
	if err != nil {
		return n.again(r, "the shop's key cannot be read: "+err.Error())
	}
	body := bodies.Get().(*bytes.Buffer)
	defer bodies.Put(body) // the transport reads it to its end before it returns
	body.Reset()
	if err := writeBody(body, &p, d.Event, key); err != nil {
		return n.again(r, "the notification cannot be written: "+err.Error())
	}
	began := time.Now()
	status, answer, err := n.post(ctx, &p, d, key, body.Bytes())
	n.took.Add(time.Since(began))
	sent = true
	r.Took = n.cfg.Store.Now().Sub(r.At)
	r.Status = status
	trouble := "" // why it is not taken
	switch {
	case err != nil:
		trouble = err.Error()
	case status < 200 || status >= 300:
		trouble = "answered " + strconv.Itoa(status)
	}
	if d.Event.Status == payment.StatusWaitingForCapture {
		return n.asked(ctx, r, &p, trouble, answer)
	}
	if trouble != "" {
		return n.again(r, trouble)
	}
	r.Accepted, r.Outcome = true, "delivered"
	return r
}

// again puts an event that was not taken on the schedule.
func (n *Notifier) again(r store.Result, note string) store.Result {
	r.Note = note
	pause := Backoff[min(r.Attempt, len(Backoff))-1]
	next := r.At.Add(pause)
	if next.Sub(r.Event.At) > GiveUp {
		r.Outcome = store.OutcomeGaveUp
		return r
	}
	r.NextAt = next
	return r
}

// asked reads the answer to a request for a decision, and says when to ask again: until the end of the hold, also where the
// merchant's server is not there.
func (n *Notifier) asked(ctx context.Context, r store.Result, p *payment.Payment, trouble string, answer []byte) store.Result {
	taken := trouble == ""
	word, note := n.decide(ctx, p, taken, answer)
	r.Note = cmp.Or(note, trouble)
	switch word {
	case decided:
		r.Accepted, r.Outcome = true, "decided"
		return r
	case stopped:
		r.Accepted, r.Outcome = true, "left to set_accept"
		return r
	}
	// Where another gateway has taken the decision and this one does not know it, the event is closed when it comes up again.
	now, err := n.cfg.Store.Recall(ctx, p.ID, 0)
	if err != nil {
		return n.again(r, "the payment cannot be read: "+err.Error())
	}
	undecided := now.State == payment.Held && now.Decision == nil
	switch {
	case undecided:
		r.Accepted = taken
		r.NextAt = r.At.Add(Ask[min(r.Attempt, len(Ask))-1])
		return r
	case taken:
		r.Accepted, r.Outcome = true, "delivered"
		return r
	}
	return n.again(r, trouble)
}

type word int

const (
	nothing word = iota
	stopped
	decided
)

// mark is what some servers put before every text in UTF-8: 1C, and PHP of a file that was saved with it.
var mark = []byte("\ufeff")

// decide carries out what the merchant's answer decides, and says what was made of it. Whatever is not one of the words of
// the seed decides nothing. Of what the merchant wrote nothing is repeated: by a mistake of his it may be a secret.
func (n *Notifier) decide(ctx context.Context, p *payment.Payment, taken bool, answer []byte) (word, string) {
	if !taken {
		return nothing, ""
	}
	var a struct {
		Accept jsontext.Value `json:"accept_status"`
		Amount jsontext.Value `json:"final_amount"`
	}
	switch {
	case len(answer) == 0:
		return nothing, "the answer is empty: nothing was decided"
	case len(answer) > answerBytes:
		return nothing, "the answer is longer than 64 KiB: nothing was decided"
	case json.Unmarshal(bytes.TrimPrefix(answer, mark), &a) != nil:
		return nothing, "the answer cannot be read as an object of JSON: nothing was decided"
	case a.Accept.Kind() != '"':
		return nothing, "the answer has no accept_status: nothing was decided"
	}
	said, err := jsontext.AppendUnquote(nil, a.Accept)
	if err != nil {
		return nothing, "the answer's accept_status cannot be read: nothing was decided"
	}
	var accept payment.Accept
	switch string(said) {
	case holdfast.AcceptWait, holdfast.AcceptWaiting:
		return stopped, ""
	case holdfast.AcceptCapture:
		accept = payment.Capture
	case holdfast.AcceptCancel:
		accept = payment.Cancel
	default:
		return nothing, fmt.Sprintf("the answer's accept_status is none of %s, %s and %s: nothing was decided", holdfast.AcceptCapture, holdfast.AcceptCancel, holdfast.AcceptWaiting)
	}
	amount := money.Amount{}
	var final holdfast.Decimal // read as set_accept reads it: null and "" mean all that is held
	if a.Amount != nil && accept == payment.Capture && json.Unmarshal(a.Amount, &final) != nil {
		return nothing, "the answer's final_amount is not a sum: nothing was decided"
	}
	if final != "" {
		if amount, err = money.Parse(string(final), p.Terms.Amount.Currency); err != nil {
			return nothing, "the answer's final_amount is " + err.Error() + ": nothing was decided"
		}
		if !amount.Positive() {
			return nothing, "the answer's final_amount is not above 0: nothing was decided"
		}
	}
	ctx, cancel := context.WithTimeout(ctx, decideWithin)
	defer cancel()
	if _, err := n.cfg.Decide(ctx, p.ID, accept, amount, payment.ByNotification); err != nil {
		var refused *payment.Error
		if errors.As(err, &refused) && refused.Reason == payment.DecisionStands {
			return decided, fmt.Sprintf("the answer says %s, but %s was decided before", accept, refused.Decision.Accept)
		}
		return nothing, fmt.Sprintf("the answer says %s: %v", accept, err)
	}
	return decided, "the answer decided: " + string(accept)
}

// post sends one notification. The answer may be a little more than answerBytes: then it was taken, whatever it says at such
// length; a decision it is not.
func (n *Notifier) post(ctx context.Context, p *payment.Payment, d store.Delivery, key string, body []byte) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.AnswerWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.Terms.NotifyURL, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("the notify_url cannot be used: %w", err)
	}
	if user := req.URL.User; user != nil {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", "Holdfast")
	req.Header.Set("Holdfast-Attempt", strconv.Itoa(d.Attempt))
	holdfast.SignWebhook(req.Header, key, WebhookID(d.Payment, d.Event.N), n.cfg.Store.Now(), body)
	res, err := n.transport.RoundTrip(req)
	if err != nil {
		return 0, nil, fmt.Errorf("no answer: %w", err)
	}
	defer res.Body.Close()
	answer, err := readAnswer(res)
	if err != nil {
		return 0, nil, fmt.Errorf("the answer broke off: %w", err)
	}
	return res.StatusCode, answer, nil
}

// readAnswer reads an answer's body, or a little more than answerBytes of it.
func readAnswer(res *http.Response) ([]byte, error) {
	if res.ContentLength < 0 || res.ContentLength > answerBytes {
		return io.ReadAll(io.LimitReader(res.Body, answerBytes+1))
	}
	answer := make([]byte, res.ContentLength)
	_, err := io.ReadFull(res.Body, answer)
	return answer, err
}

// WebhookID names an event to the merchant: the same at each repeat.
func WebhookID(id payment.ID, n int) string { return id.String() + "." + strconv.Itoa(n) }

// bodies are buffers that notifications are written in.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// writeBody writes a notification (contract §6: these keys and no others).
func writeBody(w io.Writer, p *payment.Payment, e payment.Event, uniqueKey string) error {
	id := p.ID.String()
	m := holdfast.Notification{
		ShopTransactionID: p.Terms.ShopPaymentID, PaymentUUID: id, Status: string(e.Status),
		Signature: holdfast.NotificationSignature(uniqueKey, id, string(e.Status)), HashKey: newUUID(),
		TotalSum: holdfast.Decimal(p.Terms.Amount.Decimal()), Currency: string(p.Terms.Amount.Currency),
		RefundedSum: holdfast.Decimal(e.Sums.Refunded.Decimal()),
	}
	if e.Sums.Captured.Positive() {
		m.TransferSum = holdfast.Decimal(e.Sums.Captured.Sub(e.Sums.Fee).Decimal())
		m.PayedTime = holdfast.FormatTime(p.PaidAt)
	}
	if a := p.Attempt; a != nil {
		m.CardCountry = a.Card.Country
		m.MaskedPAN = a.Card.Masked()
		m.RRN = a.Centre.RRN
		m.CardType = a.Card.Scheme
		risk := int64(0)
		m.RiskLevel = &risk
	}
	return json.MarshalWrite(w, &m)
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return h[0:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:32]
}
