package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast"
)

// endpoint is the merchant's notify_url: it takes notifications, answers {}, and notes when each
// decision was told. It is as lean as the payers are.
type endpoint struct {
	url      string
	listener net.Listener
	keys     []string
	settled  chan struct{}
	delays   histogram

	received, forged atomic.Int64
	shards           [64]shard
}

// shard is a part of the payments whose end is to be told.
type shard struct {
	mu      sync.Mutex
	decided map[string]time.Time // when set_accept was answered
	told    map[string]time.Time // notifications that came before the answer did
}

const (
	sampleOneIn  = 64 // notifications whose signatures are verified
	settleWithin = 30 * time.Second
	longestNote  = 64 << 10
)

func listen(shops []Shop) (*endpoint, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("the merchant's endpoint: %w", err)
	}
	e := &endpoint{url: "http://" + listener.Addr().String() + "/notify", listener: listener, settled: make(chan struct{})}
	for _, s := range shops {
		e.keys = append(e.keys, s.UniqueKey)
	}
	for i := range e.shards {
		e.shards[i].decided = make(map[string]time.Time)
		e.shards[i].told = make(map[string]time.Time)
	}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // closed
			}
			go e.serve(c)
		}
	}()
	return e, nil
}

func (e *endpoint) close() { e.listener.Close() }

var taken = []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")

func (e *endpoint) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReaderSize(c, 8<<10)
	var body []byte
	for {
		if _, err := in.ReadSlice('\n'); err != nil {
			return // the gateway has closed an idle connection
		}
		header := http.Header{}
		length, err := readSigned(in, header)
		if err != nil || length > longestNote {
			e.forged.Add(1)
			return
		}
		if cap(body) < length {
			body = make([]byte, length)
		}
		body = body[:length]
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		e.take(body, header)
		if _, err := c.Write(taken); err != nil {
			return
		}
	}
}

// readSigned reads a header to its end and keeps the lines that sign the body.
func readSigned(in *bufio.Reader, header http.Header) (length int, err error) {
	length = -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case strings.EqualFold(string(name), "Content-Length"):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 {
				return 0, fmt.Errorf("%q is no length", value)
			}
		case len(name) > 8 && strings.EqualFold(string(name[:8]), "webhook-"):
			header.Set(string(name), string(bytes.TrimSpace(value)))
		}
	}
	if length < 0 {
		return 0, errNoLength
	}
	return length, nil
}

// take notes one notification.
func (e *endpoint) take(body []byte, header http.Header) {
	now := time.Now()
	if e.received.Add(1)%sampleOneIn == 0 && !e.genuine(body, header) {
		e.forged.Add(1)
	}
	if !bytes.Contains(body, []byte(`"status":"succeeded"`)) {
		return
	}
	uuid := string(field(body, `"octo_payment_UUID":"`, '"'))
	s := e.shard(uuid)
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.decided[uuid]; ok {
		delete(s.decided, uuid)
		e.delays.add(now.Sub(at))
		return
	}
	s.told[uuid] = now
}

func (e *endpoint) genuine(body []byte, header http.Header) bool {
	for _, key := range e.keys {
		if _, err := holdfast.VerifyNotification(key, body, header); err == nil {
			return true
		}
	}
	return false
}

// decided notes that a decision was acknowledged and ought to be told.
func (e *endpoint) decided(uuid string) {
	s := e.shard(uuid)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.told[uuid]; ok {
		delete(s.told, uuid)
		e.delays.add(0) // it was told before the answer was read
		return
	}
	s.decided[uuid] = time.Now()
}

func (e *endpoint) shard(uuid string) *shard {
	sum := uint32(2166136261) // FNV-1a
	for i := range len(uuid) {
		sum = (sum ^ uint32(uuid[i])) * 16777619
	}
	return &e.shards[sum%uint32(len(e.shards))]
}

// missing is how many acknowledged decisions were not told.
func (e *endpoint) missing() (n int64) {
	for i := range e.shards {
		s := &e.shards[i]
		s.mu.Lock()
		n += int64(len(s.decided))
		s.mu.Unlock()
	}
	return n
}

// settle waits until everything was told, or the time for it is over.
func (e *endpoint) settle() {
	defer close(e.settled)
	end := time.Now().Add(settleWithin)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for e.missing() > 0 && time.Now().Before(end) {
		<-tick.C
	}
}
