package web

import (
	"cmp"
	"container/list"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast"
)

// What one client can take of the server, and what all can take together. A place is what is scarce: a
// request has one from when the whole of it is here until the first byte of its answer is ready, so a
// client that sends or reads slowly holds none. A connection on which nothing of ours is under way is
// the first to be closed when there are too many.
const (
	// AtOnce is how many requests are served at once; further ones are shed. New payments are shed
	// earlier, so that those under way can be brought to their end.
	AtOnce    = 1024
	newAtOnce = 768

	// Connections is how many connections may be open, where the process may open twice as many files.
	Connections = 4096

	// A prepare_payment that takes longer than this, although it asks nobody outside, shows that the
	// gateway is behind: fewer of them are then let in at once, down to leastPrepared.
	preparedWithin = 250 * time.Millisecond
	leastPrepared  = 16

	promised = 4 << 10 // of a body that has not come yet, in bytes

	answerReadWithin = 10 * time.Second // how long a client may take to read an answer

	// Guesses is how many calls of one address may name payments, codes or cards that do not exist within
	// guessesFor, before its further calls without credentials are turned away.
	Guesses      = 60
	guessesFor   = 10 * time.Minute
	mostGuessers = 1 << 16

	// shopFor is how long an address from which a call with a shop's good credentials came is a shop's server. All
	// that the payers type on the shop's own page comes from there, so that one of them who guesses would
	// shut all the others out: it is not turned away.
	shopFor = 24 * time.Hour

	// ofOneAtOnce is how many requests without credentials are served at once to one address that is no shop's server: a
	// stranger who has many wait for one slow answer of a centre's leaves places for the others.
	ofOneAtOnce = AtOnce / 4
)

// doors lets requests in.
type doors struct {
	places   chan struct{}
	prepared pace
	guessers guessers
	// open are the first path elements of what can be asked without credentials.
	open map[string]bool
}

func newDoors(s Site) *doors {
	d := &doors{
		places: make(chan struct{}, cmp.Or(s.places, AtOnce)), prepared: pace{most: newAtOnce},
		guessers: guessers{proxies: s.Proxies}, open: map[string]bool{"pay": true, "verificationInfo": true, "check_sms_key": true, "check_pan": true},
	}
	for _, p := range s.Paths {
		d.open[p] = true
	}
	return d
}

// admit takes a place for a request, once the whole of it is here. false: it has been answered already, by
// pages if a payer's page was asked for. leave is to be called when the request has been served.
func (d *doors) admit(o *observed, r *http.Request, call string, pages http.Handler) bool {
	o.open = d.open[call]
	o.address = d.guessers.address(r)
	if o.open && !d.guessers.may(o.address, time.Now()) {
		o.Header().Set("Retry-After", strconv.Itoa(int(guessesFor/time.Second)))
		info := holdfast.CodeTooManyRequests.Info()
		turnAway(o, r, pages, http.StatusTooManyRequests, holdfast.Fail(info.Code, info.Message, "Too many calls from this address named payments, codes or cards that do not exist."))
		return false
	}
	isNew := call == "prepare_payment" || call == "pay"
	if full := len(d.places); full >= cap(d.places) || isNew && full >= newAtOnce { // before its body is waited for
		shed(o, r, pages)
		return false
	}
	receive(o, r)
	if o.open && !d.guessers.enter(o.address, time.Now()) {
		shed(o, r, pages)
		return false
	}
	select {
	case d.places <- struct{}{}:
	default:
		if o.open {
			d.guessers.exit(o.address)
		}
		shed(o, r, pages)
		return false
	}
	o.places, o.doors = d.places, d
	o.conn, _ = r.Context().Value(connKey{}).(*tracked)
	o.conn.works()
	o.admitted = time.Now()
	paced := call == "prepare_payment"
	if isNew && len(d.places) > newAtOnce || paced && !d.prepared.begin() {
		shed(o, r, pages)
		return false
	}
	o.paced = paced
	return true
}

// leave is what a request that was let in leaves behind.
func (d *doors) leave(o *observed) {
	now := time.Now()
	if o.paced {
		d.prepared.end(now.Sub(o.admitted), now)
	}
	if o.open && (o.missed || o.status == http.StatusNotFound) {
		d.guessers.missed(o.address, now)
	}
	if o.shop {
		d.guessers.isShop(o.address, now)
	}
	o.answered()
}

// answered gives the request's place back.
func (o *observed) answered() {
	if o.places == nil {
		return
	}
	<-o.places
	o.places = nil
	if o.open {
		o.doors.guessers.exit(o.address)
	}
	o.conn.waits()
	// On a connection that cannot have one the server's own, longer limit stands.
	http.NewResponseController(o.ResponseWriter).SetWriteDeadline(time.Now().Add(answerReadWithin))
}

// Miss notes that a request named a payment, a code or a card that does not exist: many of them from one
// address are guesses.
func Miss(w http.ResponseWriter) {
	if o, ok := w.(*observed); ok {
		o.missed = true
	}
}

// Shop notes that a request bore a shop's good credentials.
func Shop(w http.ResponseWriter) {
	if o, ok := w.(*observed); ok {
		o.shop = true
	}
}

// receive reads a request's body before the request takes a place. What is wrong with the body is told
// to whoever reads it then.
func receive(w http.ResponseWriter, r *http.Request) {
	if r.Body == http.NoBody {
		return
	}
	if r.ContentLength > BodyBytes {
		r.Body = &received{end: &http.MaxBytesError{Limit: BodyBytes}}
		if r.Header.Get("Expect") != "" {
			w.Header().Set("Connection", "close") // else net/http asks for the body, to throw it away
		}
		return
	}
	from := r.Body
	if r.ContentLength < 0 { // else net/http reads no more than it says
		from = http.MaxBytesReader(w, from, BodyBytes)
	}
	// As long as it says, but no more than has come: a promise costs nothing.
	room := promised
	if 0 < r.ContentLength && r.ContentLength < promised {
		room = int(r.ContentLength)
	}
	b := received{rest: make([]byte, 0, room)}
	for b.end == nil {
		if len(b.rest) == cap(b.rest) {
			b.rest = slices.Grow(b.rest, promised)
		}
		var n int
		n, b.end = from.Read(b.rest[len(b.rest):cap(b.rest)])
		b.rest = b.rest[:len(b.rest)+n]
	}
	r.Body = &b
}

// received is a body that is here.
type received struct {
	rest []byte
	end  error // what comes after it: io.EOF, or what went wrong
}

func (b *received) Read(p []byte) (n int, err error) {
	n = copy(p, b.rest)
	if b.rest = b.rest[n:]; len(b.rest) == 0 {
		err = b.end
	}
	return n, err
}

// Body is the whole body of a request, which is the caller's.
func Body(r *http.Request) ([]byte, error) {
	b, here := r.Body.(*received)
	if !here {
		return io.ReadAll(r.Body)
	}
	if b.end != io.EOF {
		return nil, b.end
	}
	whole := b.rest
	b.rest = nil
	return whole, nil
}

func (b *received) Close() error { return nil }

// pace finds out how many prepare_payment the gateway can serve at once in good time: each that takes too
// long makes them fewer by a quarter, and each that is quick while all places are taken makes them one more.
type pace struct {
	mu          sync.Mutex
	most, under int
	cut         time.Time // when they last became fewer
}

func (p *pace) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.under >= p.most {
		return false
	}
	p.under++
	return true
}

func (p *pace) end(took time.Duration, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	full := p.under >= p.most
	p.under--
	switch {
	case took > preparedWithin && now.Sub(p.cut) > preparedWithin: // once for all that waited in the same queue
		p.most, p.cut = max(p.most*3/4, leastPrepared), now
	case took < preparedWithin/2 && full:
		p.most = min(p.most+1, newAtOnce)
	}
}

// guessers counts each address's misses, for one to two times guessesFor, and its requests under way.
type guessers struct {
	proxies     []netip.Prefix
	mu          sync.Mutex
	now, before map[netip.Addr]int
	since       time.Time
	shops       map[netip.Addr]time.Time // until when an address is a shop's server
	inside      map[netip.Addr]int       // requests without credentials that have a place
}

// address is where a request comes from; behind a proxy that is known, what the proxy says. Of IPv6 it is
// the network, for a client has as many addresses in it as it likes.
func (g *guessers) address(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address := at.Addr().Unmap()
	said := r.Header["X-Forwarded-For"]
	for i := len(said) - 1; i >= 0 && g.isProxy(address); i-- {
		hops := strings.Split(said[i], ",")
		for j := len(hops) - 1; j >= 0 && g.isProxy(address); j-- {
			hop, ok := parseHop(strings.TrimSpace(hops[j]))
			if !ok {
				return address
			}
			address = hop.Unmap().WithZone("")
		}
	}
	if address.Is6() {
		network, _ := address.Prefix(64)
		address = network.Addr()
	}
	return address
}

// parseHop reads an address as proxies write it: some with the client's port.
func parseHop(text string) (netip.Addr, bool) {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.Addr(), true
	}
	address, err := netip.ParseAddr(text)
	return address, err == nil
}

// isProxy: on this machine everybody is believed what he says of others.
func (g *guessers) isProxy(address netip.Addr) bool {
	if address.IsLoopback() {
		return true
	}
	for _, p := range g.proxies {
		if p.Contains(address) {
			return true
		}
	}
	return false
}

func (g *guessers) may(address netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.turn(now)
	return g.now[address]+g.before[address] < Guesses || now.Before(g.shops[address])
}

// enter counts a request without credentials that is about to take a place; false: its address has enough of them.
func (g *guessers) enter(address netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside[address] >= ofOneAtOnce && !now.Before(g.shops[address]) {
		return false
	}
	if g.inside == nil {
		g.inside = make(map[netip.Addr]int)
	}
	g.inside[address]++
	return true
}

// exit is for a request that has given its place back.
func (g *guessers) exit(address netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside[address]--; g.inside[address] == 0 {
		delete(g.inside, address)
	}
}

func (g *guessers) missed(address netip.Addr, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.turn(now)
	if g.now[address]++; len(g.now) > mostGuessers {
		g.before, g.now, g.since = g.now, make(map[netip.Addr]int), now
	}
}

func (g *guessers) isShop(address netip.Addr, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shops == nil || len(g.shops) > mostGuessers {
		g.shops = make(map[netip.Addr]time.Time)
	}
	g.shops[address] = now.Add(shopFor)
}

func (g *guessers) turn(now time.Time) {
	if age := now.Sub(g.since); age >= guessesFor { // at first it is as old as time
		g.before, g.now = g.now, make(map[netip.Addr]int)
		if age >= 2*guessesFor {
			g.before = nil
		}
		g.since = now
	}
}

// conns knows the server's connections, and which of them have been waiting for their client the longest.
type conns struct {
	most    int
	mu      sync.Mutex
	open    map[net.Conn]*tracked
	shut    int       // of those in open: they have been closed by us, and their end has not been told yet
	waiting list.List // of *tracked, the longest first
}

// tracked is one connection.
type tracked struct {
	all  *conns
	conn net.Conn
	turn *list.Element // in waiting; nil while something of ours is under way
	shut bool
}

type connKey struct{}

// mostConnections is how many connections are served by a process that may have so many files open (0: nobody says). Half
// is left for the store, the centres and the merchants: where all are taken by clients, nobody new is accepted at all, and
// none of those that are idle makes room.
func mostConnections(files uint64, log *slog.Logger) int {
	if files == 0 || files/2 >= Connections {
		return Connections
	}
	most := max(int(files/2), 1)
	log.Warn("the process may open few files, so fewer connections are served; raise LimitNOFILE in its unit, or ulimit -n",
		"files", files, "connections", most, "want files", 2*Connections)
	return most
}

// limit has a server keep to most connections.
func (c *conns) limit(s *http.Server) {
	c.open = make(map[net.Conn]*tracked)
	s.ConnState = func(conn net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			c.came(conn)
		case http.StateIdle:
			c.find(conn).waits()
		case http.StateClosed, http.StateHijacked:
			c.gone(conn)
		}
	}
	s.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c.find(conn))
	}
}

func (c *conns) find(conn net.Conn) *tracked {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.open[conn]
	if t == nil {
		t = &tracked{all: c, conn: conn}
		t.turn = c.waiting.PushBack(t)
		c.open[conn] = t
	}
	return t
}

// came makes room for a new connection by closing the one that has kept us waiting the longest; if all
// have work of ours under way, that is the new one.
func (c *conns) came(conn net.Conn) {
	c.find(conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open)-c.shut <= c.most || c.waiting.Len() == 0 {
		return
	}
	longest := c.waiting.Remove(c.waiting.Front()).(*tracked)
	longest.turn, longest.shut = nil, true
	c.shut++
	go longest.conn.Close() // over TLS it says goodbye first
}

func (c *conns) gone(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.open[conn]; t != nil {
		t.leave()
		delete(c.open, conn)
		if t.shut {
			c.shut--
		}
	}
}

// waits: the next word is the client's.
func (t *tracked) waits() {
	if t == nil {
		return // the connection is not the server's: a test calls the handler itself
	}
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	switch {
	case t.turn != nil:
		t.all.waiting.MoveToBack(t.turn)
	case t.all.open[t.conn] == t && !t.shut:
		t.turn = t.all.waiting.PushBack(t)
	}
}

// works: the next word is ours.
func (t *tracked) works() {
	if t == nil {
		return
	}
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	t.leave()
}

func (t *tracked) leave() {
	if t.turn != nil {
		t.all.waiting.Remove(t.turn)
		t.turn = nil
	}
}
