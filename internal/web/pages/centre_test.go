package pages

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor"
)

// bank stands for Visa and Mastercard's centre and the bank behind it until their connector is there:
// it wants to look at the browser, then asks the payer, and approves when he has said yes.
type bank struct {
	acs   *httptest.Server // on another site than the pages
	pages string           // where the browser comes back to
	yes   chan struct{}    // holds a token when the payer has said yes
	saw   chan string      // what was posted to the method URL
}

func newBank(t testing.TB) *bank {
	b := &bank{yes: make(chan struct{}, 8), saw: make(chan string, 8)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /method/{uuid}", func(w http.ResponseWriter, r *http.Request) {
		b.saw <- r.FormValue("threeDSMethodData")
		fmt.Fprintf(w, `<!doctype html><form id=f method=post action="%s/3ds/%s/method"><input name=threeDSMethodData value=x></form><script>f.submit()</script>`, b.pages, r.PathValue("uuid"))
	})
	mux.HandleFunc("POST /challenge/{uuid}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `<!doctype html><title>Bank</title><p id=creq>%s</p><form method=post action="/answer/%s"><button id=yes>Yes, it is me</button></form>`, r.FormValue("creq"), r.PathValue("uuid"))
	})
	mux.HandleFunc("POST /answer/{uuid}", func(w http.ResponseWriter, r *http.Request) {
		b.yes <- struct{}{}
		fmt.Fprintf(w, `<!doctype html><form id=f method=post action="%s/3ds/%s/back"><input name=cres value=forged><button id=back>Back</button></form><script>f.submit()</script>`, b.pages, r.PathValue("uuid"))
	})
	b.acs = httptest.NewServer(mux)
	t.Cleanup(b.acs.Close)
	return b
}

func (b *bank) Name() string { return "bank" }

func (b *bank) Capabilities() processor.Capabilities {
	return processor.Capabilities{Answer: time.Second, Currencies: money.Currencies, LongestHold: time.Hour, ThreeDS: true}
}

func (b *bank) url(step string, id payment.ID) string {
	return "http://localhost:" + b.acs.URL[len("http://127.0.0.1:"):] + "/" + step + "/" + id.String()
}

func (b *bank) Ask(_ context.Context, q processor.Question) payment.Answer {
	switch {
	case q.Operation.Ask == payment.Send:
		return payment.Answer{Outcome: payment.ChallengeGiven, Step: payment.StepMethod, URL: b.url("method", q.Payment), Data: "look-at-me"}
	case q.Operation.Ask == payment.Continue && q.Attempt.Challenge.Step == payment.StepMethod:
		return payment.Answer{Outcome: payment.ChallengeGiven, Step: payment.StepChallenge, URL: b.url("challenge", q.Payment), Data: "ask-me"}
	}
	select {
	case <-b.yes:
		return payment.Answer{Outcome: payment.Approved, Amount: q.Operation.Amount, Centre: payment.Centre{RRN: "123456789012"}}
	default:
		return payment.Answer{Outcome: payment.ChallengeGiven}
	}
}
