package sim

import (
	"fmt"
	"strconv"
	"time"
)

// Books is what the centres believe about money: every card's standing and every operation ever done, oldest first. All
// amounts are minor units (tiyin). For each card
//
//	balance = opening - charges and captures + refunds
//	held    = the sum over its live holds
type Books struct {
	Cards      []CardBook  `json:"cards"`
	Operations []Operation `json:"operations"`
}

// CardBook is one card's standing, minor units.
type CardBook struct {
	PAN     string `json:"pan"`
	Scheme  string `json:"scheme"`
	Opening int64  `json:"opening"` // the balance after the last reset
	Balance int64  `json:"balance"` // live holds are not taken off it
	Held    int64  `json:"held"`    // 0..balance
}

// Operation is one entry of the books. An operation that failed, or was never done, has none.
type Operation struct {
	// Reference is what an auditor matches on, within a scheme and a kind:
	//
	//	uzcard              the caller's ext for a charge, a capture and a partial refund; the hold id for a hold, a void
	//	                    and a lapse (hold.create has no caller reference); the operation's own refNum for a full
	//	                    reversal (trans.reverse has none either)
	//	humo                the paymentRef for everything that happens to a payment: PaymentServer knows no other
	//	                    reference, and each kind happens to a payment once at most
	//	visa, mastercard    the orderNumber for a hold, a charge, a void, a lapse and the first deposit, with #2, #3, …
	//	                    behind it for further deposits (deposit.do has no caller reference); the externalRefundId
	//	                    for a refund that has one, else its own refNum
	Reference string `json:"reference"`
	Kind      string `json:"kind"`   // hold, charge, capture, void, lapse, refund
	Amount    int64  `json:"amount"` // minor units, above 0
	// State is held, captured, dismissed or lapsed for a hold; done, partly_reversed or reversed for a charge and a
	// capture; done for a void, a lapse and a refund.
	State   string `json:"state"`
	Scheme  string `json:"scheme"`
	PANLast string `json:"pan_last4"`
	RefNum  string `json:"refNum"`           // 12 digits
	HoldID  int64  `json:"holdId,omitempty"` // of a hold, and of its capture, void or lapse; Humo's paymentID
	// Of is the reference of the charge or capture that a refund gives back.
	Of         string    `json:"of,omitempty"`
	Captured   int64     `json:"captured"` // of a hold: how much was taken
	Released   int64     `json:"released"` // of a hold: how much went back; captured + released + still held = amount
	Refunded   int64     `json:"refunded"` // of a charge or capture: how much was given back
	MerchantID string    `json:"merchantId"`
	TerminalID string    `json:"terminalId"`
	At         time.Time `json:"at"` // RFC 3339, the simulator's clock
}

type kind uint8

const (
	kindHold kind = iota
	kindCharge
	kindCapture
	kindVoid
	kindLapse
	kindRefund
)

var kindName = [...]string{"hold", "charge", "capture", "void", "lapse", "refund"}

type state uint8

// The first four are a hold's, and their numbers are what hold.get.id answers as status: 0 live, 1 charged, 2 dismissed, 3 lapsed.
const (
	stateHeld state = iota
	stateCaptured
	stateDismissed
	stateLapsed
	stateDone
	statePartlyReversed
	stateReversed
)

var stateName = [...]string{"held", "captured", "dismissed", "lapsed", "done", "partly_reversed", "reversed"}

// record is an operation at 72 bytes, so that millions of them fit: ids and authorisation codes are computed from its
// number, merchants and terminals are interned, and the only string is the caller's reference.
type record struct {
	ext      string // SVGate's ext, Humo's paymentRef (of hold and charge), an orderNumber or externalRefundId
	amount   int64  // minor units
	part     int64  // hold: captured; charge and capture: refunded; minor units
	atMillis int64
	date12   int64  // yyMMddHHmmss as a number
	card     uint32 // index in the card book
	// link is a record's number plus one, 0 for none: a hold's predecessor on its card, a capture's, void's or lapse's
	// hold, a refund's charge or capture.
	link     uint32
	stan     uint32 // hold: number plus one of what took from it or freed it last, 0 for nothing; the others: six digits
	minutes  uint32 // hold: how long it lives; capture: which deposit of its hold it is, from 1
	terminal uint16
	kind     kind
	state    state
	centre   centre
}

// centre tells whose operation a record is: references of one centre mean nothing to another.
type centre uint8

const (
	atSVGate centre = iota
	atHumo
	atRBS
)

// Limits of the books.
const (
	maxOperations = 16 << 20 // about 2.5 GB; beyond it the centre says -300 until a reset
	maxTerminals  = 4096     // distinct merchant and terminal pairs
	chunkBits     = 13       // records are allocated 8192 at a time: growing never copies what is there
)

// due is a moment at which something ends by itself, unless it has ended before: hold n lapses, or order n's time is over.
type due struct {
	atMillis int64
	n        uint32
}

// dues is a binary heap, the earliest first.
type dues []due

// merchantTerminal is where a payment is made. Point and centre are Humo's (point_code, centre_id).
type merchantTerminal struct {
	merchantID, terminalID string
	pointCode, centreID    string
	centre                 centre
}

// books is the memory behind Books. Guarded by Sim.mu. An operation's number is its place, counted from 0; hold ids and
// refNums are that number plus a base, so neither needs an index.
type books struct {
	cards   []*account
	byPAN   map[string]*account
	byToken map[string]*account

	chunks [][]record
	count  uint32
	byExt  map[string]uint32 // SVGate's
	byRef  map[string]uint32 // Humo's paymentRef: its hold or charge
	lapses dues

	terminals  []merchantTerminal
	byTerminal map[string]uint16 // SVGate: merchant id, NUL, terminal id; the others begin with a NUL

	holdBase, refBase int64
}

func (b *books) record(n uint32) *record { return &b.chunks[n>>chunkBits][n&(1<<chunkBits-1)] }

func (b *books) full() bool { return b.count >= maxOperations }

func (b *books) append(r record) uint32 {
	n := b.count
	if int(n>>chunkBits) == len(b.chunks) {
		b.chunks = append(b.chunks, make([]record, 1<<chunkBits))
	}
	*b.record(n) = r
	b.count++
	switch {
	case r.ext == "" || r.centre == atRBS: // orders know their own operations
	case r.centre == atSVGate:
		b.byExt[r.ext] = n
	default:
		b.byRef[r.ext] = n
	}
	return n
}

func (b *books) holdID(n uint32) int64 { return b.holdBase + int64(n) }

// refNum is the retrieval reference number: a 12 digit counter.
func (b *books) refNum(n uint32) string { return strconv.FormatInt(b.refBase+int64(n), 10) }

// byHoldID finds a hold of SVGate by the id that hold.create answered.
func (b *books) byHoldID(id int64) (uint32, *record) {
	n := id - b.holdBase
	if n < 0 || n >= int64(b.count) {
		return 0, nil
	}
	if r := b.record(uint32(n)); r.kind == kindHold && r.centre == atSVGate {
		return uint32(n), r
	}
	return 0, nil
}

// byRefNum finds a charge, capture or refund of SVGate by its refNum; a hold, void or lapse has none that callers know.
func (b *books) byRefNum(ref int64) (uint32, *record) {
	n := ref - b.refBase
	if n < 0 || n >= int64(b.count) {
		return 0, nil
	}
	r := b.record(uint32(n))
	if r.centre != atSVGate {
		return 0, nil
	}
	switch r.kind {
	case kindCharge, kindCapture, kindRefund:
		return uint32(n), r
	default:
		return 0, nil
	}
}

// terminal interns SVGate's pair of merchant and terminal; false if there are too many.
func (b *books) terminal(merchantID, terminalID []byte) (uint16, bool) {
	var space [48]byte
	key := append(append(append(space[:0], merchantID...), 0), terminalID...)
	if t, ok := b.byTerminal[string(key)]; ok {
		return t, true
	}
	return b.addTerminal(string(key), merchantTerminal{merchantID: string(merchantID), terminalID: string(terminalID)})
}

// place interns a terminal of the other centres.
func (b *books) place(t merchantTerminal) (uint16, bool) {
	key := fmt.Sprintf("\x00%d\x00%s\x00%s\x00%s\x00%s", t.centre, t.merchantID, t.terminalID, t.pointCode, t.centreID)
	if n, ok := b.byTerminal[key]; ok {
		return n, true
	}
	return b.addTerminal(key, t)
}

func (b *books) addTerminal(key string, t merchantTerminal) (uint16, bool) {
	if len(b.terminals) >= maxTerminals {
		return 0, false
	}
	n := uint16(len(b.terminals))
	b.terminals = append(b.terminals, t)
	b.byTerminal[key] = n
	return n, true
}

// hold reserves money. The caller has checked that the card has it available.
func (b *books) hold(a *account, amount int64, minutes uint32, terminal uint16, now time.Time) uint32 {
	return b.reserve(a, record{amount: amount, minutes: minutes, terminal: terminal}, now)
}

// reserve books a hold; the record says how much, for how long, where and under which reference.
func (b *books) reserve(a *account, r record, now time.Time) uint32 {
	r.kind, r.state, r.card, r.link, r.atMillis = kindHold, stateHeld, a.index, a.lastHold, now.UnixMilli()
	n := b.append(r)
	a.lastHold = n + 1
	a.held += r.amount
	b.lapses.push(due{r.atMillis + int64(r.minutes)*60_000, n})
	return n
}

// capture ends a live hold: amount (1..held) is taken and the rest is free again.
func (b *books) capture(hold uint32, amount int64, ext string, stan uint32, date12 int64, now time.Time) uint32 {
	return b.take(hold, record{amount: amount, ext: ext, stan: stan, date12: date12, minutes: 1}, true, now)
}

// take books a capture of a live hold. Only the last one frees what is left of it.
func (b *books) take(hold uint32, r record, last bool, now time.Time) uint32 {
	h := b.record(hold)
	a := b.cards[h.card]
	a.balance -= r.amount
	if last {
		h.state = stateCaptured
		a.held -= h.amount - h.part
	} else {
		a.held -= r.amount
	}
	h.part += r.amount
	r.kind, r.state, r.centre, r.terminal, r.card = kindCapture, stateDone, h.centre, h.terminal, h.card
	r.link, r.atMillis = hold+1, now.UnixMilli()
	n := b.append(r)
	h.stan = n + 1
	return n
}

// release ends a live hold and gives back what has not been captured of it: a void or a lapse.
func (b *books) release(hold uint32, how kind, millis int64) {
	h := b.record(hold)
	rest := h.amount - h.part
	b.cards[h.card].held -= rest
	h.state = stateDismissed
	if how == kindLapse {
		h.state = stateLapsed
	}
	h.stan = 1 + b.append(record{
		kind: how, state: stateDone, amount: rest, terminal: h.terminal, centre: h.centre, card: h.card, link: hold + 1, atMillis: millis,
	})
}

// charge takes money at once. The caller has checked that the card has it available.
func (b *books) charge(a *account, amount int64, ext string, terminal uint16, now time.Time) uint32 {
	return b.chargeAt(atSVGate, a, amount, ext, terminal, now)
}

func (b *books) chargeAt(c centre, a *account, amount int64, ext string, terminal uint16, now time.Time) uint32 {
	a.balance -= amount
	return b.append(record{
		kind: kindCharge, state: stateDone, centre: c, amount: amount, ext: ext, terminal: terminal, card: a.index,
		stan: stanOf(b.count), date12: date12(now), atMillis: now.UnixMilli(),
	})
}

// stanOf is the six digits of an operation whose caller has not given it any.
func stanOf(n uint32) uint32 { return n%999_999 + 1 }

// refund gives back amount (1..what is left) of a charge or capture. ext is "" for a full reversal.
func (b *books) refund(of uint32, amount int64, ext string, now time.Time) uint32 {
	r := b.record(of)
	r.part += amount
	r.state = statePartlyReversed
	if r.part == r.amount {
		r.state = stateReversed
	}
	b.cards[r.card].balance += amount
	return b.append(record{
		kind: kindRefund, state: stateDone, centre: r.centre, amount: amount, ext: ext, terminal: r.terminal, card: r.card, link: of + 1,
		stan: stanOf(b.count), date12: date12(now), atMillis: now.UnixMilli(),
	})
}

// lapseDue lets every hold end whose time is over. Each operation calls it first, so nobody sees a hold outlive its time.
func (b *books) lapseDue(now time.Time) {
	millis := now.UnixMilli()
	for len(b.lapses) > 0 && b.lapses[0].atMillis <= millis {
		d := b.lapses.pop()
		if b.record(d.n).state == stateHeld {
			b.release(d.n, kindLapse, d.atMillis)
		}
	}
}

func (q *dues) push(d due) {
	h := append(*q, d)
	i := len(h) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if h[parent].atMillis <= h[i].atMillis {
			break
		}
		h[parent], h[i] = h[i], h[parent]
		i = parent
	}
	*q = h
}

func (q *dues) pop() due {
	h := *q
	top := h[0]
	last := len(h) - 1
	h[0] = h[last]
	h = h[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h[child+1].atMillis < h[child].atMillis {
			child++
		}
		if h[i].atMillis <= h[child].atMillis {
			break
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
	*q = h
	return top
}

// operation writes record n for the auditor.
func (b *books) operation(n uint32) Operation {
	r := b.record(n)
	a := b.cards[r.card]
	t := b.terminals[r.terminal]
	op := Operation{
		Reference: b.reference(n), Kind: kindName[r.kind], Amount: r.amount, State: stateName[r.state],
		Scheme: a.scheme, PANLast: a.pan[len(a.pan)-4:], RefNum: b.refNum(n),
		MerchantID: t.merchantID, TerminalID: t.terminalID, At: time.UnixMilli(r.atMillis).In(tashkent),
	}
	switch r.kind {
	case kindHold:
		op.HoldID = b.holdID(n)
		op.Captured = r.part
		if r.state != stateHeld {
			op.Released = r.amount - r.part
		}
	case kindVoid, kindLapse:
		op.HoldID = b.holdID(r.link - 1)
	case kindCapture:
		op.HoldID = b.holdID(r.link - 1)
		op.Refunded = r.part
	case kindCharge:
		op.Refunded = r.part
	case kindRefund:
		op.Of = b.reference(r.link - 1)
	}
	return op
}

// reference is what an auditor matches record n on: see Operation.
func (b *books) reference(n uint32) string {
	r := b.record(n)
	switch {
	case r.ext != "":
		return r.ext
	case r.centre == atSVGate && r.kind == kindHold:
		return strconv.FormatInt(b.holdID(n), 10)
	case r.kind == kindVoid || r.kind == kindLapse:
		return b.reference(r.link - 1)
	case r.kind == kindCapture && r.minutes > 1:
		return b.reference(r.link-1) + "#" + strconv.FormatUint(uint64(r.minutes), 10)
	case r.kind == kindCapture:
		return b.reference(r.link - 1)
	case r.kind == kindRefund && r.centre == atHumo:
		return b.record(b.root(n)).ext
	}
	return b.refNum(n)
}

// root is the hold or charge that record n goes back to.
func (b *books) root(n uint32) uint32 {
	for {
		switch r := b.record(n); r.kind {
		case kindHold, kindCharge:
			return n
		default:
			n = r.link - 1
		}
	}
}

func (b *books) cardBooks() []CardBook {
	all := make([]CardBook, len(b.cards))
	for i, a := range b.cards {
		all[i] = CardBook{PAN: a.pan, Scheme: a.scheme, Opening: a.opening, Balance: a.balance, Held: a.held}
	}
	return all
}

// tashkent is fixed: Uzbekistan has kept UTC+5 without summer time since 1992, and no zone file is needed.
var tashkent = time.FixedZone("Asia/Tashkent", 5*60*60)

// date12 is yyMMddHHmmss in Tashkent as a number.
func date12(now time.Time) int64 {
	t := now.In(tashkent)
	day := int64(t.Year()%100)*10_000 + int64(t.Month())*100 + int64(t.Day())
	return day*1_000_000 + int64(t.Hour())*10_000 + int64(t.Minute())*100 + int64(t.Second())
}
