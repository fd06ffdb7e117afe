package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"holdfast/internal/payment"
	"holdfast/internal/sim"
	"holdfast/internal/web/text"
)

// callers is how many call at the same moment in a storm.
const callers = 100

// atOnce makes the calls that call names, all at the same moment, and counts the answers by their bytes. Who is
// told that the outcome is not known yet, or to come again later (a loaded machine is slow), asks again, as the answer says he should.
func (w *world) atOnce(call func(i int) (path, body string)) map[string]int {
	w.t.Helper()
	type caller struct{ path, body, answer string }
	all := make([]caller, callers)
	ask := func(c *caller) {
		a, err := w.do("POST", c.path, strings.NewReader(c.body))
		if c.answer = string(a.body); err != nil || a.status != 200 {
			c.answer = fmt.Sprint("HTTP ", a.status, " ", err, " ", c.answer)
		}
	}
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	ready.Add(callers)
	for i := range all {
		c := &all[i]
		c.path, c.body = call(i)
		done.Go(func() {
			ready.Done()
			<-start
			ask(c)
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
	answers := make(map[string]int)
	for i := range all {
		if strings.Contains(all[i].answer, `"error":109,`) || strings.Contains(all[i].answer, `"error":124,`) {
			ask(&all[i])
		}
		answers[all[i].answer]++
	}
	return answers
}

// A hundred identical prepare_payment make one payment, and all are told of the same.
func TestStormPrepare(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for round := range 2 {
		name := fmt.Sprint("storm-", round)
		body := fmt.Sprintf(`{%s,"shop_transaction_id":%q,"total_sum":1000,"currency":"UZS","return_url":"https://octo.uz","language":"uz"}`, w.shop.credentials(), name)
		answers := w.atOnce(func(int) (string, string) { return "/prepare_payment", body })
		if len(answers) != 1 {
			t.Errorf("%d different answers: %v", len(answers), answers)
		}
		for text := range answers {
			if !strings.Contains(text, `"error":0`) {
				t.Error(text)
			}
		}
	}
	if a, err := w.store.Audit(t.Context(), nil); err != nil || a.Payments != 2 {
		t.Errorf("%d payments are stored, want 2 (%v)", a.Payments, err)
	}
	w.audit()
}

// A hundred different decisions on one hold make one decision. Who said the same gets the same answer;
// everybody else is told which decision stands.
func TestStormAccept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for round := range 2 {
		card := w.cards("ok")[round+1]
		uuid := w.prepare(fmt.Sprint("storm-", round), twoStage)
		w.hold(uuid, card)
		decisions := []string{
			`"accept_status":"capture"`, `"accept_status":"capture","final_amount":1000.00`, `"accept_status":"capture","final_amount":"600"`,
			`"accept_status":"capture","final_amount":0.01`, `"accept_status":"cancel"`,
		}
		answers := w.atOnce(func(i int) (string, string) {
			path := "/set_accept"
			if i%10 == 9 {
				path = "/callback"
			}
			return path, w.accept(uuid, decisions[i%len(decisions)])
		})
		// One answer of success for each way to ask (an envelope, or callback's bare decision), and one refusal.
		succeeded, refused := 0, 0
		for text, n := range answers {
			switch {
			case strings.Contains(text, `"error":0`), strings.HasPrefix(text, `{"accept_status"`):
				succeeded += n
			case strings.Contains(text, `"error":10,`) && strings.Contains(text, " by set_accept at ") || strings.Contains(text, " by callback at "):
				refused += n
			default:
				t.Errorf("%d times: %s", n, text)
			}
		}
		if len(answers) > 3 || succeeded < callers/len(decisions) || succeeded+refused != callers {
			t.Errorf("%d succeeded, %d were refused, %d different answers: %v", succeeded, refused, len(answers), answers)
		}
		p := w.stored(uuid)
		effective := 0
		for _, op := range w.sim.Books().Operations {
			if op.PANLast == card.PAN[12:] && (op.Kind == "capture" || op.Kind == "void") {
				effective++
				if op.Kind == "capture" && op.Amount != p.Captured.Minor {
					t.Errorf("the centre captured %d, we say %s", op.Amount, p.Captured)
				}
			}
		}
		if effective != 1 || !p.State.Terminal() || p.Decision == nil {
			t.Errorf("the centre did %d captures and voids; the payment is %s with decision %v", effective, p.State, p.Decision)
		}
	}
	w.audit()
}

// The whole storm on one hold, each through its own door: set_accept and callback with captures of various
// sums and cancels, a notification whose answer decides, and the deadline. One decision; everybody else is
// told which, and by whom.
func TestStormOfAllDoors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	by := make(map[payment.By]int)
	for round := range 4 {
		card := w.cards("ok")[round+1]
		entered, answer := make(chan struct{}), make(chan struct{})
		var once sync.Once
		shop := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			text, err := io.ReadAll(r.Body)
			if err != nil || !strings.Contains(string(text), `"waiting_for_capture"`) {
				return
			}
			once.Do(func() { close(entered) })
			<-answer
			fmt.Fprint(rw, `{"accept_status":"capture","final_amount":700}`)
		}))
		uuid := w.prepare(fmt.Sprint("doors-", round), fmt.Sprintf(`"auto_capture":false,"notify_url":%q`, shop.URL))
		w.hold(uuid, card)
		var notified sync.WaitGroup
		notified.Go(func() {
			for range 3 { // the earlier events first
				if _, err := w.notifier.Step(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
		<-entered
		deadline := w.stored(uuid).HoldDeadline
		early := round%2 == 0 // else the deadline has come when the storm breaks
		if !early {
			w.clock.advance(deadline.Sub(w.clock.Now()))
		}
		decisions := []string{
			`"accept_status":"capture"`, `"accept_status":"capture","final_amount":"600"`, `"accept_status":"capture","final_amount":0.01`, `"accept_status":"cancel"`,
			`"accept_status":"capture","final_amount":700`,
		}
		var timed sync.WaitGroup
		timed.Go(func() {
			if _, err := w.gateway.Step(t.Context()); err != nil {
				t.Error(err)
			}
		})
		close(answer)
		answers := w.atOnce(func(i int) (string, string) {
			return []string{"/set_accept", "/set_accept", "/callback"}[i%3], w.accept(uuid, decisions[i%len(decisions)])
		})
		timed.Wait()
		notified.Wait()
		w.advance(0)
		p := w.stored(uuid)
		succeeded, refused := 0, 0
		for text, n := range answers {
			switch {
			case strings.Contains(text, `"error":0`), strings.HasPrefix(text, `{"accept_status"`):
				succeeded += n
				if !early && !strings.Contains(text, `"status":"canceled"`) && !strings.Contains(text, `"cancel"`) {
					t.Errorf("%d times after the deadline: %s", n, text)
				}
			case strings.Contains(text, `"error":10,`) && p.Decision != nil && (strings.Contains(text, " by "+string(p.Decision.By)+" at ") || !early && strings.Contains(text, "nobody had confirmed it")):
				refused += n
			default:
				t.Errorf("%d times: %s", n, text)
			}
		}
		if p.Decision == nil || !p.State.Terminal() || p.Open != nil || succeeded+refused != callers {
			t.Fatalf("%d succeeded, %d were refused; it is %s, decided %+v", succeeded, refused, p.State, p.Decision)
		}
		if late := !p.Decision.At.Before(deadline); late != (p.Decision.By == payment.ByDeadline) || late != !early {
			t.Errorf("decided by %s at %s, the deadline is %s; %d succeeded", p.Decision.By, p.Decision.At, deadline, succeeded)
		}
		by[p.Decision.By]++
		effective := 0
		for _, op := range w.sim.Books().Operations {
			if op.PANLast == card.PAN[12:] && (op.Kind == "capture" || op.Kind == "void") {
				effective++
			}
		}
		if effective != 1 {
			t.Errorf("the centre did %d captures and voids", effective)
		}
		shop.Close()
	}
	t.Logf("figures: storm: by all doors of the API: decided by %v", by)
	w.audit()
}

// A hundred clicks on "pay" with one card are one attempt and one message.
func TestStormPay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := w.cards("ok")[3]
	uuid := w.prepare("storm", "")
	body := fmt.Sprintf(`{"pan":%q,"exp":%q,"method":"uzcard","cvc2":"","cardHolderName":"A","email":"a@b.uz"}`, card.PAN, card.Exp)
	answers := w.atOnce(func(int) (string, string) { return "/pay/" + uuid, body })
	if len(answers) != 1 {
		t.Errorf("%d different answers: %v", len(answers), answers)
	}
	for text := range answers {
		if !strings.Contains(text, `"error":0`) {
			t.Error(text)
		}
	}
	if n := len(w.sim.SMS("")); n != 1 {
		t.Errorf("%d messages were sent, want 1", n)
	}
	if p := w.stored(uuid); p.Attempts != 1 {
		t.Errorf("%d attempts are counted, want 1", p.Attempts)
	}
	w.audit()
}

// A hundred guesses at once: at most three reach the centre.
func TestStormCodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	card := w.cards("ok")[4]
	uuid := w.prepare("storm", "")
	paymentID, verifyID := w.pay(uuid, card)
	right := w.code(card)
	answers := w.atOnce(func(i int) (string, string) {
		guess := fmt.Sprintf("%06d", i)
		if guess == right {
			guess = "999999"
		}
		return "/check_sms_key", smsKey(paymentID, verifyID, guess)
	})
	for text, n := range answers {
		if !strings.Contains(text, `"error":106,`) && !strings.Contains(text, `"error":108,`) {
			t.Errorf("%d times: %s", n, text)
		}
	}
	// A guess that finds another one under way is answered as that one is, and does not reach the centre; so
	// the storm may end with tries left. They are used up now.
	for range payment.MaxWrongCodes {
		w.post("/check_sms_key", smsKey(paymentID, verifyID, wrong(right)))
	}
	w.refused(108, "", "/check_sms_key", smsKey(paymentID, verifyID, right))
	asked := 0
	timeline, err := w.store.Timeline(t.Context(), w.stored(uuid).ID)
	check(t, err)
	for _, op := range timeline.Operations {
		if op.Kind == payment.OpVerify {
			asked++
		}
	}
	if asked != payment.MaxWrongCodes {
		t.Errorf("the centre was asked about %d codes, want %d", asked, payment.MaxWrongCodes)
	}
	w.audit()
}

// While one card is being tried another one is told to wait (error 112), and so is a decision.
func TestBusy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uuid := w.prepare("busy", "")
	check(t, w.sim.AddFault(sim.Fault{Method: "cards.new.otp", Name: "drip"})) // the answer takes two seconds
	var paid atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		card := w.cards("ok")[5]
		a, err := w.do("POST", "/pay/"+uuid, strings.NewReader(fmt.Sprintf(`{"pan":%q,"exp":%q,"method":"uzcard","cvc2":""}`, card.PAN, card.Exp)))
		paid.Store(err == nil && strings.Contains(string(a.body), `"error":0`))
	}()
	eventually(t, "the first card is with the centre", func() bool { return w.stored(uuid).Open != nil })
	other := w.cards("ok")[6]
	w.refused(112, text.For(text.Default).Reason(payment.Busy), "/pay/"+uuid, fmt.Sprintf(`{"pan":%q,"exp":%q,"method":"uzcard","cvc2":""}`, other.PAN, other.Exp))
	w.refused(112, "under way", "/set_accept", w.accept(uuid, `"accept_status":"cancel"`))
	<-done
	if !paid.Load() {
		t.Error("the first card was not taken")
	}
	w.audit()
}
