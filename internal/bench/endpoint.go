package bench

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"holdfast"
)

// endpoint is the merchant's notify_url: it takes notifications, answers {}, and notes when each
// decision was told.
type endpoint struct {
	url     string
	loop    *loop
	name    []byte // what the names of the run's payments begin with
	shops   []Shop
	decided map[int]time.Time // when set_accept was answered; gone once it is told
	early   map[int]time.Time // told before the answer was read

	received, forged int64
	delays           histogram
}

const (
	sampleOneIn  = 64 // notifications whose signatures are verified
	settleWithin = 30 * time.Second
)

func listen(l *loop, name string, shops []Shop) (*endpoint, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("the merchant's endpoint: %w", err)
	}
	e := &endpoint{
		url: "http://" + listener.Addr().String() + "/notify", loop: l, name: []byte(name), shops: shops,
		decided: make(map[int]time.Time), early: make(map[int]time.Time),
	}
	fd, err := detach(listener.(*net.TCPListener))
	if err != nil {
		return nil, fmt.Errorf("the merchant's endpoint: %w", err)
	}
	return e, l.add(&conn{fd: fd, ready: func() error { return e.accept(fd) }, lost: func(error) {}})
}

// accept takes in a connection of the gateway's.
func (e *endpoint) accept(listener int) error {
	fd, err := acceptSocket(listener)
	if err != nil {
		return nil // it has gone again; the next one is accepted all the same
	}
	c := &conn{fd: fd}
	c.take = func(m *message) error {
		e.take(m)
		return c.send(thanks)
	}
	c.lost = func(err error) {
		if errors.Is(err, errNoLength) {
			e.forged++
		}
	}
	return e.loop.add(c)
}

var thanks = []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")

// take notes one notification.
func (e *endpoint) take(m *message) {
	e.received++
	rest, ours := bytes.CutPrefix(field(m.body, `"shop_transaction_id":"`, '"'), e.name)
	n, err := strconv.Atoi(string(rest))
	if !ours || err != nil {
		e.forged++
		return
	}
	if e.received%sampleOneIn == 0 && !e.genuine(m, n) {
		e.forged++
	}
	if !bytes.Contains(m.body, []byte(`"status":"succeeded"`)) {
		return
	}
	if at, ok := e.decided[n]; ok {
		delete(e.decided, n)
		e.delays.add(e.loop.now.Sub(at))
		return
	}
	e.early[n] = e.loop.now
}

// genuine verifies a notification's signatures as a careful merchant does.
func (e *endpoint) genuine(m *message, n int) bool {
	header := http.Header{}
	for _, name := range []string{holdfast.HeaderWebhookID, holdfast.HeaderWebhookTimestamp, holdfast.HeaderWebhookSignature} {
		header.Set(name, string(m.value(name)))
	}
	_, err := holdfast.VerifyNotification(e.shops[n%len(e.shops)].UniqueKey, m.body, header)
	return err == nil
}

// decide notes that a decision was acknowledged and ought to be told.
func (e *endpoint) decide(n int) {
	if _, ok := e.early[n]; ok {
		delete(e.early, n)
		e.delays.add(0)
		return
	}
	e.decided[n] = e.loop.now
}

// missing is how many acknowledged decisions were not told.
func (e *endpoint) missing() int64 { return int64(len(e.decided)) }
