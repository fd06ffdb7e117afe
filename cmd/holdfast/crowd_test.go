package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// crowd is callers who ask for new payments, each over a connection of its own. It shares the machine with the
// program that it asks for more than that can do, so it must cost little itself: requests are written and
// answers read with no client and no timer around them, and several of one connection go out in one write
// (HTTP/1.1 calls it pipelining: the program takes one after the other).
type crowd struct {
	t    *testing.T
	shop createdShop
	at   string // the program's address
	name string // its payments' names begin so

	served, shed atomic.Int64
}

const (
	// fold is how many times the load that the program can take is asked for in an overload; the crowd asks for
	// some more than it must, because the program may come to serve more than was measured before.
	fold   = 5
	pushes = 6
	// inOneWrite is how many requests a caller sends at a time.
	inOneWrite = 8
)

// come makes callers ask until the time is over. turns: before each write a caller waits for one; nil: it
// sends again as soon as it has its answers.
func (c *crowd) come(ctx context.Context, callers int, turns <-chan struct{}) {
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			if err := c.ask(ctx, i, turns); err != nil && ctx.Err() == nil {
				c.t.Errorf("caller %d of the crowd: %v", i, err)
			}
		})
	}
	group.Wait()
}

// push gives turns out, so that in all, from its beginning on, so many times of what was served, or could be
// served in a second as was measured before, is asked for.
func (c *crowd) push(ctx context.Context, times, capacity float64, turns chan<- struct{}) {
	began := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for given := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		want := times * max(capacity*time.Since(began).Seconds(), float64(c.served.Load())) / inOneWrite
	giving:
		for ; given < int(want); given++ {
			select {
			case turns <- struct{}{}:
			default: // all callers wait for answers
				break giving
			}
		}
	}
}

func (c *crowd) ask(ctx context.Context, i int, turns <-chan struct{}) error {
	var conn net.Conn
	var in *bufio.Reader
	var body, requests []byte
	for n := 0; ctx.Err() == nil; n++ {
		if turns != nil {
			select {
			case <-turns:
			case <-ctx.Done():
				return nil
			}
		}
		if conn == nil { // not before the first turn: who connects and says nothing is hung up on
			var err error
			if conn, err = net.Dial("tcp", c.at); err != nil {
				return err
			}
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			defer conn.Close()
			in = bufio.NewReaderSize(conn, 16<<10)
		}
		requests = requests[:0]
		for k := range inOneWrite {
			body = fmt.Appendf(body[:0], `{"octo_shop_id":%d,"octo_secret":%q,"shop_transaction_id":"%s-%d-%d-%d","auto_capture":true,"test":true,"total_sum":10,"currency":"UZS","return_url":"https://shop.example/"}`,
				c.shop.ShopID, c.shop.Secret, c.name, i, n, k)
			requests = fmt.Appendf(requests, "POST /prepare_payment HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
		if _, err := conn.Write(requests); err != nil {
			return err
		}
		for range inOneWrite {
			if err := c.hear(in); err != nil {
				return err
			}
		}
	}
	return nil
}

// hear reads an answer: a new payment, or that there is none now and when to come again. The program writes
// Content-Length for answers as small as these.
func (c *crowd) hear(in *bufio.Reader) error {
	status, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	ok, full := bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")), bytes.HasPrefix(status, []byte("HTTP/1.1 503 ")) || bytes.HasPrefix(status, []byte("HTTP/1.1 429 "))
	length, again := 0, false
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		name, value, header := bytes.Cut(bytes.TrimSpace(line), []byte(": "))
		switch {
		case len(name) == 0:
			answer, err := in.Peek(length)
			switch {
			case err != nil:
				return err
			case ok && bytes.HasPrefix(answer, []byte(`{"error":0`)):
				c.served.Add(1)
			case full && again:
				c.shed.Add(1)
			default:
				return fmt.Errorf("an answer that is neither a payment nor the word to come again (200 %t, 503 or 429 %t, Retry-After %t): %s", ok, full, again, answer)
			}
			_, err = in.Discard(length)
			return err
		case header && string(name) == "Content-Length":
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		case string(name) == "Retry-After":
			again = len(value) > 0
		}
	}
}
