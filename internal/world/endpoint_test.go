package world_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/payment"
	"holdfast/internal/store"
)

// endpoint is the merchants' server, on the loopback interface: the notifier knows only real addresses.
// It serves the worlds of one ground one after another.
type endpoint struct {
	*httptest.Server
	mu sync.Mutex
	w  *world
}

// notification is one attempt as the merchant's server met it.
type notification struct {
	n        int // the event's number
	attempt  int
	status   string
	accepted bool // it was answered with 2xx
}

func newEndpoint() *endpoint {
	e := new(endpoint)
	e.Server = httptest.NewServer(e)
	// Each notifier is new and would leave its connection behind.
	e.Config.SetKeepAlivesEnabled(false)
	return e
}

func (e *endpoint) serve(w *world) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.w = w
}

// meet is called where the program and the merchants' server come from one another: what one has done there the other
// sees. That one waits for the other is by way of a socket, which neither Go's memory model nor its race detector knows.
func (e *endpoint) meet() {
	e.mu.Lock()
	defer e.mu.Unlock()
}

// ServeHTTP is called while the world waits for the notifier, so it may touch the world.
func (e *endpoint) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	w := e.w
	e.mu.Unlock()
	status, body := w.notified(r)
	e.meet()
	if status == 0 {
		panic(http.ErrAbortHandler) // the connection is cut
	}
	if status == http.StatusFound {
		rw.Header().Set("Location", "/elsewhere")
	}
	rw.WriteHeader(status)
	io.WriteString(rw, body)
}

// notified is a merchant's server that is told something. It returns what it answers; 0: nothing.
func (w *world) notified(r *http.Request) (status int, answer string) {
	if w.process.dead {
		return 0, ""
	}
	w.figures.Told++
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, ""
	}
	told, err := holdfast.VerifyNotificationAt(shopKey, body, r.Header, w.now())
	if err != nil {
		w.wrong("a notification does not verify: %v", err)
		return 500, ""
	}
	id, number, _ := strings.Cut(r.Header.Get("webhook-id"), ".")
	n, err := strconv.Atoi(number)
	attempt, attemptErr := strconv.Atoi(r.Header.Get("Holdfast-Attempt"))
	name := strings.TrimPrefix(r.URL.Path, "/")
	var p *pay
	for _, candidate := range w.pays {
		if candidate.name == name {
			p = candidate
		}
	}
	switch {
	case p == nil:
		w.wrong("a redirect was followed to %s", r.URL.Path)
		return 500, ""
	case err != nil || attemptErr != nil || id != told.PaymentUUID || told.ShopTransactionID != p.terms.ShopPaymentID:
		w.wrong("%s is told of something else: %s %v", p.name, r.Header.Get("webhook-id"), err)
		return 500, ""
	case p.known && p.id.String() != id:
		w.wrong("%s is told under another id", p.name)
		return 500, ""
	}
	if p.id, err = payment.ParseID(id); err != nil {
		w.wrong("%s: %v", p.name, err)
	}
	got := notification{n: n, attempt: attempt, status: told.Status}
	w.explained(p, got, told)

	what := "wait" // or he would be asked every ten minutes until the deadline
	if !w.calm {
		what = pick(w, "200 {}", "200 {}", "wait", "capture", "capture", "cancel", "500", "404", "down", "hang", "redirect", "garbage", "long")
	}
	status, answer = 200, "{}"
	switch what {
	case "wait":
		answer = `{"accept_status":"wait_user_action"}`
	case "capture", "cancel":
		accept, amount := w.someDecision(p.terms.Amount.Minor)
		if w.waits(p.id, payment.Decide{Accept: accept, Amount: amount, By: payment.ByNotification}) {
			what = "200 {}"
			break
		}
		answer = fmt.Sprintf(`{"accept_status":%q}`, accept)
		if accept == payment.Capture && !amount.IsZero() {
			answer = fmt.Sprintf(`{"accept_status":"capture","final_amount":%s}`, amount.Decimal())
		}
		what += " " + answer
	case "500", "404":
		status, _ = strconv.Atoi(what)
	case "down":
		status = 0
	case "hang":
		w.inside(func() { w.pass(w.now().Add(10 * time.Second)) })
		status = 0
	case "redirect":
		status = http.StatusFound
	case "garbage":
		answer = `{"accept_status":"captured" <<<`
	case "long":
		answer = `{"accept_status":"cancel"` + strings.Repeat(" ", 70_000) + "}"
	}
	got.accepted = status >= 200 && status < 300
	p.got = append(p.got, got)
	w.say("%s is told event %d, %s, attempt %d: %s", p.name, n, told.Status, attempt, what)
	if w.process.dead { // it died while it waited
		return 0, ""
	}
	return status, answer
}

// notAgain are the errors that say to an operator that there is nothing to send again, or not now.
var notAgain = []error{store.ErrNotFound, store.ErrBeingSent, payment.ErrNothingTold, payment.ErrNowhere, payment.ErrDecided}

// tellAgain has an operator send the last notification of a payment once more (holdfast notification send), whatever became of it.
func (w *world) tellAgain(p *pay) {
	if !p.known {
		return
	}
	process, ctx := w.process, context.Background()
	n, err := process.store.SendAgain(ctx, p.id)
	switch {
	case process.dead:
	case isOneOf(err, notAgain):
		w.say("%s is not told again: %v", p.name, err)
	case err != nil:
		w.wrong("%s is not told again: %v", p.name, err)
	default:
		w.figures.Again++
		w.say("%s is to be told event %d again, after %d attempts", p.name, n.N, n.Attempts)
		line, err := process.store.Timeline(ctx, p.id)
		if err != nil {
			w.wrong("%s: %v", p.name, err)
			return
		}
		if e := line.Events[len(line.Events)-1]; e.N != n.N || e.NextAt.IsZero() || e.NextAt.After(w.now()) || len(e.Deliveries) > e.Attempts {
			w.wrong("%s is to be told event %d again, and it stands so: %+v", p.name, n.N, e)
		}
	}
}

// explained holds what a merchant is told against the disk: the event is there, and so is the attempt.
func (w *world) explained(p *pay, got notification, told holdfast.Notification) {
	line, err := w.process.store.Timeline(context.Background(), p.id)
	if err != nil {
		w.wrong("%s is told of what is not there: %v", p.name, err)
		return
	}
	if got.n < 1 || got.n > len(line.Events) {
		w.wrong("%s is told of event %d, and there are %d", p.name, got.n, len(line.Events))
		return
	}
	e := line.Events[got.n-1]
	if string(e.Status) != told.Status || e.Sums.Refunded.Decimal() != string(told.RefundedSum) {
		w.wrong("%s is told %s with %s refunded; event %d says %s with %s", p.name, told.Status, told.RefundedSum, got.n, e.Status, e.Sums.Refunded)
	}
	if e.Attempts < got.attempt {
		w.wrong("%s: attempt %d to tell event %d is not on the disk", p.name, got.attempt, got.n)
	}
	// Who was told something, and whose word for it is on the disk, is never told what was before it.
	for i := range line.Events[got.n:] {
		later := &line.Events[got.n+i]
		if later.Outcome == "delivered" || later.Outcome == "decided" {
			w.wrong("%s is told event %d after it took event %d", p.name, got.n, later.N)
		}
	}
}
