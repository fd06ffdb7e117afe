package postgrestest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
)

// Systems give ports from 32768 on, or 49152, to whoever takes any.
const firstPort, lastPort = 10_000, 32_000

var port = func() *atomic.Uint32 { // a random one first: other processes look for ports too
	n := new(atomic.Uint32)
	n.Store(rand.Uint32N(lastPort - firstPort))
	return n
}()

// FreePort is a loopback port on which nobody listens, for a server that is started later, or again and again at the same
// place. It stays free meanwhile: it is none of those that the system gives to whoever takes any port, as most tests do.
func FreePort() (int, error) {
	var failed error
	for range 100 {
		n := firstPort + int(port.Add(1)%(lastPort-firstPort))
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(n)))
		if err == nil {
			return n, l.Close()
		}
		failed = errors.Join(failed, err)
	}
	return 0, fmt.Errorf("no port is free: %w", failed)
}

// FreeAddress is a loopback address with such a port.
func FreeAddress(t testing.TB) string {
	t.Helper()
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
