package demo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"holdfast"
)

// exchange is one call or one notification as the log shows it. Its bodies are masked.
type exchange struct {
	Began    time.Time
	Incoming bool   // a notification: the gateway called the shop
	Name     string // the call's name in the interface
	holdfast.Exchange
	Times int // how often the very same was said, one after the other
}

// caller is the shop's client for one payment: whatever it says is in the payment's log.
func (s *Shop) caller(p *payment, name string) *holdfast.Client {
	return &holdfast.Client{
		BaseURL: s.cfg.Gateway, ShopID: s.cfg.ShopID, Secret: s.cfg.Secret, HTTP: s.http,
		Trace: func(x holdfast.Exchange) {
			p.note(exchange{Began: time.Now().Add(-x.Duration), Name: name, Exchange: x})
		},
	}
}

// status asks the gateway how the payment stands. A shop asks rather than believes: what it shows is never older than the
// page, and never only what a notification claimed.
func (s *Shop) status(ctx context.Context, p *payment) error {
	ctx, cancel := context.WithTimeout(ctx, statusWithin)
	defer cancel()
	state, err := s.caller(p, "prepare_payment (status)").Status(ctx, p.ID)
	if err == nil {
		p.learn(*state)
	}
	return err
}

// note puts an exchange into the log, by the time at which it began: a notification may arrive, and be answered, while a
// call of ours is still under way. The same question with the same answer again is counted and not repeated.
func (p *payment) note(x exchange) {
	x.Request, x.Answer = shown(x.Request), shown(x.Answer)
	x.Times = 1
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.log); n > 0 {
		if last := &p.log[n-1]; !x.Incoming && last.Name == x.Name && last.Status == x.Status &&
			bytes.Equal(last.Request, x.Request) && bytes.Equal(last.Answer, x.Answer) {
			last.Times++
			return
		}
	}
	at, _ := slices.BinarySearchFunc(p.log, x.Began, func(e exchange, began time.Time) int {
		return cmp.Or(e.Began.Compare(began), -1) // behind those that began at the same moment
	})
	p.log = slices.Insert(p.log, at, x)
	p.logBytes += len(x.Request) + len(x.Answer)
	p.version++
	for len(p.log) > keptExchanges || p.logBytes > keptBytes && len(p.log) > 1 {
		p.logBytes -= len(p.log[0].Request) + len(p.log[0].Answer)
		p.log = slices.Delete(p.log, 0, 1)
	}
}

// exchanges is a copy of the log.
func (p *payment) exchanges() []exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log)
}

// shown cuts a body to what the log keeps.
func shown(body []byte) []byte {
	if len(body) <= keptBody {
		return body
	}
	return fmt.Appendf(nil, "(%d bytes, too many to show)", len(body))
}

// pretty indents JSON and leaves anything else as it is.
func pretty(body []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, body, "", "  ") != nil {
		return string(body)
	}
	return b.String()
}

// Brief is what an exchange comes down to: the gateway's error code, or the status that was told.
func (x exchange) Brief() string {
	if x.Err != nil {
		return "no answer"
	}
	body := x.Answer
	if x.Incoming {
		body = x.Request
	}
	var said struct {
		Error  *int   `json:"error"`
		Status string `json:"status"`
		Data   struct {
			Status      string `json:"status"`
			SecondsLeft *int64 `json:"secondsLeft"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &said) != nil {
		return ""
	}
	text := cmp.Or(said.Data.Status, said.Status)
	switch {
	case said.Error != nil && *said.Error != 0:
		text = fmt.Sprintf("error %d", *said.Error)
	case said.Data.SecondsLeft != nil:
		text = fmt.Sprintf("%d seconds left", *said.Data.SecondsLeft)
	}
	return text
}

// maxNotification is a byte more than the 64 KiB that holdfast.NotificationHandler takes, so that it can see the excess.
const maxNotification = 64<<10 + 1

// recorded lets next handle a notification and tells see what was said. A merchant needs none of this: it is here so that
// the log has the body, the answer and the time it took.
func recorded(next http.Handler, see func(exchange)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := exchange{Began: time.Now(), Incoming: true, Name: "notification"}
		x.Method, x.Path = r.Method, r.URL.Path
		body, err := io.ReadAll(io.LimitReader(r.Body, maxNotification))
		if err != nil {
			http.Error(w, "the body broke off", http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		keep := &answerKeeper{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(keep, r)
		x.Request, x.Answer, x.Status, x.Duration = holdfast.Mask(body), keep.body.Bytes(), keep.status, time.Since(x.Began)
		see(x)
	})
}

// answerKeeper keeps a copy of an answer, which is the shop's own and short.
type answerKeeper struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (k *answerKeeper) WriteHeader(status int) {
	k.status = status
	k.ResponseWriter.WriteHeader(status)
}

func (k *answerKeeper) Write(b []byte) (int, error) {
	k.body.Write(b)
	return k.ResponseWriter.Write(b)
}
