package notify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"holdfast/internal/outward"
)

// How many deliveries are under way at once. An endpoint that answers gets more and more places;
// one that does not is left with one, in a room of its own, so that a thousand dead ones take no
// place from a live one.
const (
	places     = 2048 // for endpoints that answer, or are new
	sickPlaces = 256  // for those that did not answer last time
	mostEach   = 256  // for one endpoint
	mostNew    = 64   // for one shop's new endpoints, once half of the places are taken: a shop may name as many as it likes
	growth     = 4    // how many times more places an answer earns
	keptStates = 20_000
)

// endpoints knows how each merchant's server behaves.
type endpoints struct {
	mu     sync.Mutex
	states map[string]*endpointState
	well   int           // deliveries under way to endpoints that answer
	sick   int           // and to those that do not
	fresh  map[int64]int // of well, those to endpoints that are new, by shop
}

type endpointState struct {
	most     int // places it may take
	underWay int
	sick     bool
	inSick   int   // of underWay, those that count as sick
	fresh    bool  // the one under way is the first, and counts
	shop     int64 // as this shop's
}

func newEndpoints() *endpoints {
	return &endpoints{states: make(map[string]*endpointState), fresh: make(map[int64]int)}
}

// room is how many more deliveries may begin.
func (e *endpoints) room() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return places - e.well
}

// admit takes a place for one delivery of a shop's, if the endpoint has one.
func (e *endpoints) admit(endpoint string, shop int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.states[endpoint]
	if s == nil {
		if len(e.states) >= keptStates {
			e.forget()
		}
		// One place until it has answered: else a thousand dead ones with some events each would take them all.
		s = &endpointState{most: 1}
		e.states[endpoint] = s
	}
	fresh := s.most == 1 && !s.sick
	switch {
	case s.underWay >= s.most || !s.sick && e.well >= places:
		return false
	case s.sick && e.sick >= sickPlaces:
		return false
	case fresh && e.well >= places/2 && e.fresh[shop] >= mostNew:
		return false
	case s.sick:
		e.sick++
		s.inSick++
	default:
		e.well++
	}
	if fresh {
		s.fresh, s.shop = true, shop
		e.fresh[shop]++
	}
	s.underWay++
	return true
}

// answers reports whether an endpoint has a delivery under way whose end will make a place free soon.
func (e *endpoints) answers(endpoint string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.states[endpoint]
	return s != nil && !s.sick && s.underWay > 0
}

// done gives a delivery's place back and learns from it.
func (e *endpoints) done(endpoint string, answered bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.leave(endpoint)
	if answered {
		s.sick, s.most = false, min(s.most*growth, mostEach)
	} else {
		s.sick, s.most = true, 1
	}
}

// release gives back a place that nothing was sent from.
func (e *endpoints) release(endpoint string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.leave(endpoint)
}

// leave gives a place back. The caller holds the lock.
func (e *endpoints) leave(endpoint string) *endpointState {
	s := e.states[endpoint]
	s.underWay--
	if s.fresh {
		s.fresh = false
		if e.fresh[s.shop]--; e.fresh[s.shop] == 0 {
			delete(e.fresh, s.shop)
		}
	}
	if s.inSick > 0 {
		s.inSick--
		e.sick--
	} else {
		e.well--
	}
	return s
}

// forget drops what is known of endpoints that nothing is under way to.
func (e *endpoints) forget() {
	for name, s := range e.states {
		if s.underWay == 0 {
			delete(e.states, name)
		}
	}
}

// newTransport makes what posts notifications. It follows no redirect, since a signed
// notification is for one address only. Unless private addresses are allowed it looks at each address
// it is about to connect to, so that no name can lead elsewhere.
func newTransport(allowPrivate bool) *outward.Transport {
	dialer := &net.Dialer{Timeout: connectWithin}
	if !allowPrivate {
		guard(dialer)
	}
	return &outward.Transport{Dial: dialer.DialContext, MostIdle: mostEach}
}

// guard makes a dialer look at the address of each socket before it connects.
func guard(d *net.Dialer) {
	d.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error { return checkPublic(address) }
}

var errPrivate = errors.New("the notify_url leads to a private address, which this gateway does not send to")

// unicast6 is the only part of IPv6 from which public addresses are given out (RFC 4291); what carries an
// IPv4 address inside, and most of what is reserved, lies outside.
var unicast6 = netip.MustParsePrefix("2000::/3")

// notPublic is what netip itself does not name: shared address space, documentation and
// benchmarking ranges, addresses that carry an IPv4 address inside, and reserved ones.
var notPublic = prefixes("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, t := range texts {
		list = append(list, netip.MustParsePrefix(t))
	}
	return list
}

// checkPublic refuses an address ("ip:port") that is not a public unicast one.
func checkPublic(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("the notify_url's address cannot be read: %w", err)
	}
	ip := at.Addr().Unmap()
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || ip.Zone() != "" || ip.Is6() && !unicast6.Contains(ip) {
		return errPrivate
	}
	for _, p := range notPublic {
		if p.Contains(ip) {
			return errPrivate
		}
	}
	return nil
}
