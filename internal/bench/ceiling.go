package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// The ceiling is what the standard library's server does with such a call when nothing has to be
// done: it decodes the request and answers as much as the gateway does.

const (
	emptyRequest = `{"octo_shop_id":1,"octo_secret":"537da54b-835a-4968-9864-c2ae02c5902e","octo_payment_UUID":"6b6b4477-ab8b-49dc-97eb-638b15b9b3e9","accept_status":"capture","final_amount":1000.00}`
	emptyAnswer  = `{"error":0,"data":{"shop_transaction_id":"6354c573-040a-490f-8d1f-2bb5c89b6d9d","octo_payment_UUID":"6b6b4477-ab8b-49dc-97eb-638b15b9b3e9","status":"succeeded","octo_pay_url":"https://pay.example/pay/6b6b4477-ab8b-49dc-97eb-638b15b9b3e9?language=uz","transfer_sum":980.00,"refunded_sum":0.00,"total_sum":1000.00,"payed_time":"2024-12-18 16:15:34"},"apiMessageForDevelopers":""}`
)

// ServeEmpty serves until ctx ends, and says where as one line of JSON.
func ServeEmpty(ctx context.Context, out io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			ShopID  int64  `json:"octo_shop_id"`
			Secret  string `json:"octo_secret"`
			Payment string `json:"octo_payment_UUID"`
			Accept  string `json:"accept_status"`
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, emptyAnswer)
	})}
	fmt.Fprintf(out, "{\"api\":\"http://%s\"}\n", listener.Addr())
	go func() {
		<-ctx.Done()
		server.Close()
	}()
	if err := server.Serve(listener); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// Ceiling is the calls a second that such a server answers to as many callers, with the client that the
// payers have.
func Ceiling(ctx context.Context, baseURL string, concurrency int, duration time.Duration) (float64, error) {
	l, err := newLoop()
	if err != nil {
		return 0, err
	}
	defer l.close()
	address := strings.TrimPrefix(baseURL, "http://")
	request := appendPost(nil, "/set_accept", address, []byte(emptyRequest))
	calls, waiting := 0, concurrency
	began := time.Now()
	var failed error
	for range concurrency {
		fd, err := dial(address)
		if err != nil {
			return 0, fmt.Errorf("the empty server: %w", err)
		}
		c := &conn{fd: fd, lost: func(err error) { failed = err }}
		c.take = func(m *message) error {
			if status, err := m.status(); err != nil || status != http.StatusOK {
				return fmt.Errorf("the empty server answers %q", m.line)
			}
			calls++
			if l.now.Sub(began) >= duration || ctx.Err() != nil {
				waiting--
				return nil
			}
			return c.send(request)
		}
		if err := errors.Join(l.add(c), c.send(request)); err != nil {
			return 0, fmt.Errorf("the empty server: %w", err)
		}
	}
	err = l.run(func() (time.Duration, bool) {
		return lookEvery, waiting == 0 || failed != nil || l.now.Sub(began) > duration+answerWithin
	})
	if err = errors.Join(err, failed, ctx.Err()); err != nil {
		return 0, fmt.Errorf("the empty server: %w", err)
	}
	if waiting > 0 {
		return 0, errors.New("the empty server does not answer all of its callers")
	}
	return float64(calls) / l.now.Sub(began).Seconds(), nil
}
