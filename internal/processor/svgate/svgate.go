// Package svgate asks Uzcard's processing centre: the SVGate JSON-RPC 2.0 protocol, for cards with
// two-stage and one-stage payments. It knows the wire format, what each answer proves and what it
// leaves open, and nothing else.
//
// # Finding a hold again
//
// hold.create carries no reference of ours, so a hold whose answer was lost has to be recognised
// among the card's holds (hold.get.cardId). Two things make ours stand out. The time a hold shall
// last is written as a multiple of 120 minutes plus a salt of 0 to 119 minutes that is derived from
// the operation's Ref, and the centre gives that time back as waitingTime. And it was created
// between the moment it was sent, less a minute for the clocks, and the moment until which the
// centre may still have been at it (Config.Shown, or Config.Answer if that is longer, plus the same
// minute). A hold is a candidate if sum, terminal, creation and salt fit and no other payment
// claims it. One candidate is the answer, none is never-seen, more than one is unknown: that is for
// a person, or for the next inquiry once the others are claimed. If none fits, but one would with
// another sum, or one has times that cannot be read, that is unknown too.
//
// # What a lost answer leaves, and what ends it
//
//	hold     hold.get.cardId, as above
//	charge   trans.ext
//	capture  trans.ext; if it has nothing, hold.get.id: still live means not done; gone means refused
//	         with payment.HoldGone, but only after Config.Shown, for until then trans.ext may lag
//	void     hold.get.id: dismissed or lapsed means done, live not done, charged refused
//	refund   trans.ext; it is safe to send again at any time, for an ext is good once
//	challenge, verify   nothing can be asked about them: unknown, and no money is at stake
//
// A refusal of a capture, void or refund that was sent before is unknown: it says nothing about the first
// request, which may be under way still. Only Query ends such an operation.
package svgate

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor"
	"holdfast/internal/processor/wire"
)

// Secret is a password, a token or a key. It prints, logs and marshals as wire.Dots.
type Secret = wire.Secret

// Config is our contract with the centre and how to reach it.
type Config struct {
	Name string // of the contract (processor.Processor); default "uzcard"

	Endpoint    string // the one URL of SVGate, http or https, without credentials in it
	Login       string // HTTP Basic credentials of the payment organisation
	Password    Secret
	MerchantID  string // 1 to 16 letters and digits
	TerminalID  string // 1 to 16 letters and digits
	Port        int    // of the terminal, 1 to 65535 (hold.dismiss.charge)
	ServiceName string // shown in the payer's SMS, 1 to 20 characters; default "Holdfast"

	// HTTP does the calls. Only its Transport is used: no redirect is followed, no cookie kept. The
	// default keeps up to 256 idle connections and uses no proxy.
	HTTP *http.Client
	// Answer bounds one question, both calls of it where there are two; default 10 s.
	Answer time.Duration
	// Shown is how long after it was sent a hold or charge may take to be shown; default 2 min.
	Shown time.Duration
	// Now is the clock; default time.Now.
	Now func() time.Time
	// Log gets a line for each question: method, our reference, duration, outcome, code. Default none.
	Log *slog.Logger
}

const (
	defaultAnswer = 10 * time.Second
	defaultShown  = 2 * time.Minute

	// codeLives is how long a code is good; SVGate does not say, and samples count down from about it.
	codeLives = 5 * time.Minute

	// longestHold is the centre's own limit (Uzcard: 30 days). Ours is outlives and saltMinutes shorter.
	longestHold = 30 * 24 * time.Hour
	// remembers is how long the word of the centre about a reference of ours is believed. It does not say how long
	// it keeps one [infer: as long as a hold].
	remembers = longestHold
	// outlives is how much longer than ours the centre's hold must last.
	outlives = time.Hour
	// saltMinutes is the step that hold times are rounded up to, and the number of salts.
	saltMinutes = 120
	// clockAllowance is how far the centre's clock may be from ours.
	clockAllowance = time.Minute
	// fewHolds is up to how many holds of a card a list is taken to be complete.
	fewHolds = 100
)

// Connector is the processor.Processor of Uzcard.
type Connector struct {
	cfg          Config
	http         http.RoundTripper
	request      *http.Request // copied for each call
	capabilities processor.Capabilities
	ids          atomic.Int64  // of requests, within this process
	stan         atomic.Uint32 // system trace audit numbers of the terminal; 999999 of them, then anew
}

// String and GoString keep the credentials out of dumps.
func (c *Connector) String() string   { return "svgate " + c.cfg.TerminalID }
func (c *Connector) GoString() string { return c.String() }

// New checks the configuration; nothing is sent.
func New(cfg Config) (*Connector, error) {
	endpoint, err := url.Parse(cfg.Endpoint)
	switch {
	case err != nil:
		return nil, errors.New("svgate: Endpoint is not a URL")
	case endpoint.Scheme != "https" && endpoint.Scheme != "http" || endpoint.Host == "":
		return nil, errors.New("svgate: Endpoint must be an http or https URL")
	case endpoint.User != nil:
		return nil, errors.New("svgate: Endpoint must not hold credentials: use Login and Password")
	case cfg.Login == "" || strings.Contains(cfg.Login, ":"):
		return nil, errors.New("svgate: Login must be set and hold no colon")
	case cfg.Password == "":
		return nil, errors.New("svgate: Password must be set")
	case !shortID(cfg.MerchantID):
		return nil, errors.New("svgate: MerchantID must be 1 to 16 letters and digits")
	case !shortID(cfg.TerminalID):
		return nil, errors.New("svgate: TerminalID must be 1 to 16 letters and digits")
	case cfg.Port < 1 || cfg.Port > 65535:
		return nil, errors.New("svgate: Port must be 1 to 65535")
	case utf8.RuneCountInString(cfg.ServiceName) > 20:
		return nil, errors.New("svgate: ServiceName must be at most 20 characters")
	case cfg.Answer < 0 || cfg.Shown < 0:
		return nil, errors.New("svgate: Answer and Shown must not be negative")
	}
	if cfg.ServiceName == "" {
		cfg.ServiceName = "Holdfast"
	}
	if cfg.Name == "" {
		cfg.Name = "uzcard"
	}
	if cfg.Answer == 0 {
		cfg.Answer = defaultAnswer
	}
	if cfg.Shown == 0 {
		cfg.Shown = defaultShown
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	request, err := http.NewRequest(http.MethodPost, endpoint.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("svgate: Endpoint: %w", err)
	}
	credentials := base64.StdEncoding.EncodeToString([]byte(cfg.Login + ":" + string(cfg.Password)))
	request.Header = http.Header{
		"Authorization": {"Basic " + credentials},
		"Content-Type":  {"application/json; charset=utf-8"},
		"Accept":        {"application/json"},
		"User-Agent":    {"holdfast"},
	}
	c := &Connector{
		cfg: cfg, http: wire.RoundTripper(cfg.HTTP, 1), request: request,
		capabilities: processor.Capabilities{
			Answer:     cfg.Answer,
			Currencies: []money.Currency{money.UZS},
			// A charge honours our ext, but it is never sent again: the payer's consent was for one
			// try. So "not found" ends it, and must not be believed too early. Capture, void and
			// refund are sent again until they are done, and a second one does nothing: ext is refused
			// when it is used twice, and a hold is let go of once.
			Shown:          map[payment.Kind]time.Duration{payment.OpHold: cfg.Shown, payment.OpCharge: cfg.Shown},
			LongestHold:    longestHold - outlives - saltMinutes*time.Minute,
			Remembers:      remembers,
			PartialCapture: true,
			ReleasesRest:   true,
			PartialRefund:  true,
			HoldUnnamed:    true,
			SendsCode:      true,
		},
	}
	// Trace numbers go on from the time of day, so that a restart does not begin at 1 again.
	c.stan.Store(uint32(cfg.Now().UnixMilli() / 100 % 999_999))
	return c, nil
}

// shortID is what SVGate accepts as merchantId and terminalId.
func shortID(s string) bool {
	for i := range len(s) {
		if c := s[i]; !wire.IsDigit(c) && (c|0x20 < 'a' || 'z' < c|0x20) {
			return false
		}
	}
	return 1 <= len(s) && len(s) <= 16
}

// Name is the contract's: Config.Name.
func (c *Connector) Name() string { return c.cfg.Name }

// Capabilities is what SVGate can do. The map is shared: it must not be changed.
func (c *Connector) Capabilities() processor.Capabilities { return c.capabilities }

// Ask asks one question. It makes one call, or two where a capture is queried, within
// Config.Answer in all.
func (c *Connector) Ask(ctx context.Context, q processor.Question) payment.Answer {
	begun := time.Now()
	ctx, cancel := wire.Within(ctx, c.cfg.Answer)
	defer cancel()
	k := &call{c: c, ctx: ctx, q: q}
	a := k.ask()
	a.Ref = q.Operation.Ref
	wire.Report(ctx, c.cfg.Log, c.Name(), k.method, k.code, &k.q, a, time.Since(begun))
	return a
}

func (k *call) ask() payment.Answer {
	op := &k.q.Operation
	switch {
	case k.ctx.Err() != nil:
		return k.failed(&trouble{unsent: true, cause: "given up before anything was sent"})
	case op.Amount.Currency != money.UZS || !op.Amount.Positive():
		return k.refuse(payment.Unsupported, "SVGate moves positive sums of UZS only")
	case op.Ref == "" || len(op.Ref) > 75:
		return k.refuse(payment.Unsupported, "SVGate takes references of 1 to 75 characters")
	}
	switch op.Ask {
	case payment.Send:
		switch op.Kind {
		case payment.OpChallenge:
			return k.challenge()
		case payment.OpVerify:
			return k.verify()
		case payment.OpHold:
			return k.hold()
		case payment.OpCharge:
			return k.charge()
		case payment.OpCapture:
			return k.capture()
		case payment.OpVoid:
			return k.void()
		case payment.OpRefund:
			return k.refund()
		}
		return k.refuse(payment.Unsupported, "SVGate is not asked for a "+string(op.Kind))
	case payment.Query:
		switch op.Kind {
		case payment.OpHold:
			return k.findHold()
		case payment.OpCharge:
			return k.findTransaction(k.unmade)
		case payment.OpRefund:
			return given(k.findTransaction(k.unmade))
		case payment.OpCapture:
			return k.findTransaction(k.uncaptured)
		case payment.OpVoid:
			return k.findVoid()
		}
		return k.unknown("SVGate cannot be asked what became of a " + string(op.Kind))
	}
	// Nothing here is done in steps; above all it must not be done a second time.
	return k.unknown("SVGate has nothing to go on with: " + string(op.Ask))
}

// refuse says that the request did nothing.
func (k *call) refuse(reason payment.Reason, cause string) payment.Answer {
	return wire.Undone(&k.q.Operation, reason, cause)
}

func (k *call) unknown(cause string) payment.Answer {
	return payment.Answer{Outcome: payment.Unknown, Cause: k.words(cause)}
}

// failed says what a call that brought no result proves.
func (k *call) failed(t *trouble) payment.Answer {
	switch {
	case t.unsent:
		return k.refuse(payment.Unavailable, t.cause)
	case t.denied:
		return k.refuse(payment.Misconfigured, t.cause)
	case t.code != 0:
		if v := judgeCode(t.code, k.q.Operation.Kind); v.outcome == payment.Refused {
			return k.refuse(v.reason, t.cause)
		}
	}
	return payment.Answer{Outcome: payment.Unknown, Cause: t.cause}
}

func (k *call) neverSeen(cause string) payment.Answer {
	return payment.Answer{Outcome: payment.NeverSeen, Cause: k.words(cause)}
}

// unmade says so of a charge or refund that has no transaction.
func (k *call) unmade() payment.Answer { return k.neverSeen("no transaction has this ext") }

// early reports whether the operation was sent so lately that the centre may not show it yet.
func (k *call) early() bool { return k.c.cfg.Now().Sub(k.q.Operation.SentAt) < k.c.cfg.Shown }

// challenge has a code sent to the card's phone (SVGate cards.new.otp).
func (k *call) challenge() payment.Answer {
	number, expiry := k.q.Card.Number, k.q.Card.Expiry
	switch {
	case len(number) != 16 || !wire.AllDigits(number):
		return k.refuse(payment.CardUnknown, "a Uzcard number has 16 digits")
	case len(expiry) != 4 || !wire.AllDigits(expiry):
		return k.refuse(payment.WrongExpiry, "an expiry has 4 digits, YYMM")
	}
	b := k.open("cards.new.otp")
	b = append(b, `{"card":{"pan":`...)
	b = wire.Quote(b, number)
	b = member(b, "expiry", expiry)
	b = append(b, '}')
	b = member(b, "serviceName", k.c.cfg.ServiceName)
	b = append(b, `}}`...)
	result, t := exchange[otpRequest](k, b)
	if t != nil {
		return k.failed(t)
	}
	if len(result) != 1 || result[0].ID == "" || result[0].ID == "0" {
		return k.unknown("a result without an id")
	}
	return payment.Answer{
		Outcome: payment.ChallengeGiven, CentreID: string(result[0].ID),
		Phone: maskPhone(string(result[0].PhoneMask)), CodeLives: codeLives,
	}
}

// verify checks the payer's code, which gives the card's token (SVGate cards.new.verify).
func (k *call) verify() payment.Answer {
	code, challenge := string(k.q.Code), k.q.Attempt.Challenge
	switch {
	case challenge == nil || challenge.CentreID == "":
		return k.refuse(payment.CodeExpired, "no code was asked for")
	case len(code) < payment.ShortestOTP || len(code) > payment.LongestOTP || !wire.AllDigits(code):
		return k.refuse(payment.WrongCode, "a code has six digits")
	}
	b := k.open("cards.new.verify")
	b = append(b, `{"otp":{"id":`...)
	b = wire.AppendID(b, challenge.CentreID)
	b = member(b, "code", code)
	b = append(b, `}}}`...)
	result, t := exchange[card](k, b)
	if t != nil {
		return k.failed(t)
	}
	switch {
	case len(result) != 1 || result[0].ID == "" || !result[0].Status.Set:
		return k.unknown("a result without a card")
	case result[0].Status.N != 0:
		return k.refuse(judgeCard(result[0].Status.N), k.words(fmt.Sprintf("the card has status %d", result[0].Status.N)))
	}
	return payment.Answer{Outcome: payment.Approved, Centre: payment.Centre{Token: string(result[0].ID)}}
}

// hold sets money aside (SVGate hold.create), for a time that tells it from others.
func (k *call) hold() payment.Answer {
	op := &k.q.Operation
	minutes, ok := holdMinutes(op.Ref, k.q.HoldUntil.Sub(op.SentAt))
	switch {
	case k.q.Attempt.Centre.Token == "":
		return k.refuse(payment.Unsupported, "a hold needs the card's token")
	case !k.q.HoldUntil.After(op.SentAt):
		return k.refuse(payment.Unsupported, "a hold needs an end after its beginning")
	case !ok:
		return k.refuse(payment.Unsupported, "SVGate keeps no hold for more than 30 days")
	}
	b := k.open("hold.create")
	b = append(b, `{"hold":{"cardId":`...)
	b = wire.Quote(b, k.q.Attempt.Centre.Token)
	b = k.appendTerminal(b)
	b = memberInt(b, "amount", op.Amount.Minor)
	b = memberInt(b, "time", minutes)
	b = append(b, `}}}`...)
	result, t := exchange[holdDone](k, b)
	if t != nil {
		return k.failed(t)
	}
	made, a := k.judgeHold(result)
	if made == nil {
		return a
	}
	return payment.Answer{
		Outcome: payment.Approved, Amount: amountOf(made.Amount), Claim: k.claim(made.ID),
		Centre: payment.Centre{Hold: string(made.ID), Terminal: k.c.cfg.TerminalID},
	}
}

// claim is the name of a hold over all centres: another centre has holds of the same numbers.
func (k *call) claim(id text) string {
	endpoint := k.c.request.URL
	return endpoint.Host + endpoint.Path + " " + string(id)
}

// judgeHold says what the result of hold.create or hold.dismiss proves: either it is the hold that
// was made or let go, or the answer says why not.
func (k *call) judgeHold(result list[holdDone]) (*holdDone, payment.Answer) {
	if len(result) != 1 || !result[0].Status.Set {
		return nil, k.unknown("a result without a status")
	}
	r := &result[0]
	named := r.ID != "" && r.ID != "0"
	switch {
	case r.Status.N == 0 && named && r.Amount.Set && r.Amount.N != k.q.Operation.Amount.Minor:
		return nil, k.unknown(fmt.Sprintf("asked for %d, answered %d", k.q.Operation.Amount.Minor, r.Amount.N))
	case r.Status.N == 0 && named:
		return r, payment.Answer{}
	case !named:
		say := fmt.Sprintf("status %d %s", r.Status.N, r.Description)
		if v := judgeResponse(r.Status.N); v.outcome == payment.Refused {
			return nil, k.refuse(v.reason, k.words(say))
		}
		return nil, k.unknown(say)
	}
	return nil, k.unknown(fmt.Sprintf("status %d for hold %q %s", r.Status.N, r.ID, r.Description))
}

// holdMinutes is how long a hold is asked for: until an hour after ours ends at least, 30 days at
// most, and leaving the reference's salt when divided by saltMinutes. false if no such time exists.
func holdMinutes(ref string, lasts time.Duration) (minutes int64, ok bool) {
	const most = int64(longestHold / time.Minute)
	least := int64((lasts + outlives + time.Minute - 1) / time.Minute)
	minutes = (least+saltMinutes-1)/saltMinutes*saltMinutes + salt(ref)
	for minutes > most {
		minutes -= saltMinutes
	}
	return minutes, minutes >= least
}

// salt is 0 to 119, the same for a reference at any time.
func salt(ref string) int64 {
	h := fnv.New32a()
	h.Write([]byte(ref)) // never fails
	return int64(h.Sum32() % saltMinutes)
}

// The states of a hold at the centre (hold.get.id, hold.get.cardId). The numbers are not
// documented; any other is unknown.
const (
	holdLive      = 0
	holdCharged   = 1
	holdDismissed = 2
	holdLapsed    = 3
)

// findHold looks for the hold among those of the card (SVGate hold.get.cardId).
func (k *call) findHold() payment.Answer {
	op := &k.q.Operation
	if k.q.Attempt.Centre.Token == "" {
		return k.unknown("a hold cannot be found without the card's token")
	}
	b := k.open("hold.get.cardId")
	b = append(b, `{"cardId":`...)
	b = wire.Quote(b, k.q.Attempt.Centre.Token)
	b = append(b, `}}`...)
	holds, t := exchange[holdInfo](k, b)
	if t != nil {
		return k.failed(t)
	}
	from := op.SentAt.Add(-clockAllowance)
	until := op.SentAt.Add(max(k.c.cfg.Answer, k.c.cfg.Shown) + clockAllowance)
	reachesBack := len(holds) < fewHolds
	var candidates []*holdInfo
	var doubtful []string
	for i := range holds {
		h := &holds[i]
		created, known := parseTime(string(h.CreateTime))
		if known && created.Before(from) {
			reachesBack = true
			continue
		}
		if known && created.After(until) || h.Terminal != "" && string(h.Terminal) != k.c.cfg.TerminalID {
			continue
		}
		lasts, err := strconv.ParseInt(string(h.WaitingTime), 10, 64)
		if err == nil && lasts%saltMinutes != salt(op.Ref) {
			continue
		}
		if k.q.Claimed == nil {
			return k.unknown(fmt.Sprintf("nobody can say whether hold %s is another payment's", h.ID))
		}
		claimed, failed := k.q.Claimed(k.ctx, k.claim(h.ID))
		switch {
		case failed != nil:
			return k.unknown(fmt.Sprintf("whether hold %s is another payment's: %v", h.ID, failed))
		case claimed:
			continue
		case !known || err != nil || h.ID == "" || h.ID == "0" || h.Amount.N != op.Amount.Minor:
			// Nothing but its sum, or what cannot be read, speaks against it.
			doubtful = append(doubtful, string(h.ID))
		default:
			candidates = append(candidates, h)
		}
	}
	switch {
	case len(candidates) > 1:
		ids := make([]string, 0, len(candidates))
		for _, h := range candidates {
			ids = append(ids, string(h.ID))
		}
		return k.unknown("more than one hold may be this one: " + strings.Join(ids, ", "))
	case len(candidates) == 0 && len(doubtful) > 0:
		return k.unknown("no hold fits, but these may be this one, with another sum or a time that cannot be read: " + strings.Join(doubtful, ", "))
	case len(candidates) == 0 && !reachesBack:
		return k.unknown(fmt.Sprintf("not among the newest %d holds of the card, and older ones are not shown", len(holds)))
	case len(candidates) == 0:
		return k.neverSeen("no hold of the card is this one")
	}
	h := candidates[0]
	switch {
	case !h.Status.Set:
	case h.Status.N == holdLive:
		return payment.Answer{
			Outcome: payment.Approved, Amount: amountOf(h.Amount), Claim: k.claim(h.ID),
			Centre: payment.Centre{Hold: string(h.ID), Terminal: k.c.cfg.TerminalID},
		}
	case h.Status.N == holdDismissed || h.Status.N == holdLapsed:
		// It was made, and the payer has his money back: for the payment that is no hold.
		return payment.Answer{
			Outcome: payment.Refused, Reason: payment.HoldGone,
			Cause: k.words(fmt.Sprintf("hold %s was made, but it is over (status %d)", h.ID, h.Status.N)),
		}
	}
	// Charged: not by us, who do not know it yet.
	return k.unknown(fmt.Sprintf("hold %s is this one, but it has status %d", h.ID, h.Status.N))
}

// charge takes money in one stage (SVGate trans.pay.purpose).
func (k *call) charge() payment.Answer {
	op := &k.q.Operation
	if k.q.Attempt.Centre.Token == "" {
		return k.refuse(payment.Unsupported, "a charge needs the card's token")
	}
	b := k.open("trans.pay.purpose")
	b = append(b, `{"tran":{"purpose":"payment"`...)
	b = member(b, "receiverId", strconv.FormatInt(k.q.Shop, 10))
	b = member(b, "cardId", k.q.Attempt.Centre.Token)
	b = memberInt(b, "amount", op.Amount.Minor)
	b = memberInt(b, "commission", 0)
	b = member(b, "currency", op.Amount.Currency.Numeric())
	b = member(b, "ext", op.Ref)
	b = k.appendTerminal(b)
	b = append(b, `}}}`...)
	return k.moved(b)
}

// capture takes of what is set aside; the centre gives back the rest (SVGate hold.dismiss.charge).
func (k *call) capture() payment.Answer {
	op := &k.q.Operation
	if k.q.Attempt.Centre.Hold == "" {
		return k.refuse(payment.Unsupported, "a capture needs the hold")
	}
	b := k.open("hold.dismiss.charge")
	b = append(b, `{"hold":{"holdId":`...)
	b = wire.Quote(b, k.q.Attempt.Centre.Hold)
	b = member(b, "ext", op.Ref)
	b = k.appendTerminal(b)
	b = append(b, `,"port":"`...)
	b = strconv.AppendInt(b, int64(k.c.cfg.Port), 10)
	b = append(b, `","stan":"`...)
	b = appendStan(b, k.c.stan.Add(1))
	b = append(b, '"')
	b = memberInt(b, "amount", op.Amount.Minor)
	b = append(b, `,"date12":"`...)
	b = k.c.cfg.Now().In(payment.Tashkent).AppendFormat(b, "060102150405")
	b = append(b, `"}}}`...)
	return k.moved(b)
}

// refund gives back a part of what was taken, or all of it (SVGate trans.reverse.partial).
func (k *call) refund() payment.Answer {
	if k.q.Attempt.Centre.RRN == "" {
		return k.refuse(payment.Unsupported, "a refund needs the reference number of what was taken")
	}
	b := k.open("trans.reverse.partial")
	b = append(b, `{"tran":{"tranId":`...)
	b = wire.Quote(b, k.q.Attempt.Centre.RRN)
	b = memberInt(b, "reverseAmount", k.q.Operation.Amount.Minor)
	b = member(b, "ext", k.q.Operation.Ref)
	b = append(b, `}}}`...)
	return given(k.moved(b))
}

// given is the answer to a refund. Its reference number goes on record as words only: the payment's own
// is that of the money taken, by which the next refund names it.
func given(a payment.Answer) payment.Answer {
	if a.Outcome == payment.Approved {
		a.Cause, a.Centre = "reversal "+a.Centre.RRN, payment.Centre{}
	}
	return a
}

// moved sends a request that takes money or gives it back, and judges the transaction that comes back.
func (k *call) moved(request []byte) payment.Answer {
	result, t := exchange[transaction](k, request)
	switch {
	case t != nil:
		return k.failed(t)
	case len(result) != 1:
		return k.unknown(fmt.Sprintf("%d transactions where one was asked for", len(result)))
	}
	a := k.judgeTransaction(&result[0])
	if a.Outcome == payment.Refused {
		return k.refuse(a.Reason, a.Cause)
	}
	return a
}

// judgeTransaction says what a transaction of our ext proves. Approved takes everything: status,
// response, reference number, sum and currency.
func (k *call) judgeTransaction(t *transaction) payment.Answer {
	asked := k.q.Operation.Amount
	say := fmt.Sprintf
	switch {
	case t.Ext != "" && string(t.Ext) != k.q.Operation.Ref:
		return k.unknown(say("transaction %q where %q was asked for", t.Ext, k.q.Operation.Ref))
	case t.Status != "OK":
		v := judgeResponse(t.Resp.N)
		return payment.Answer{Outcome: v.outcome, Reason: v.reason, Cause: k.words(say("status %q, resp %d %s", t.Status, t.Resp.N, t.RespText))}
	case t.Resp.N != 0:
		return k.unknown(say("status OK with resp %d %s", t.Resp.N, t.RespText))
	case strings.Trim(string(t.RefNum), "0") == "":
		return k.unknown(say("status OK with refNum %q", t.RefNum))
	case !t.Amount.Set:
		return k.unknown("status OK without a sum")
	case t.Amount.N != asked.Minor:
		return k.unknown(say("asked for %d, answered %d", asked.Minor, t.Amount.N))
	case t.Currency != "" && string(t.Currency) != asked.Currency.Numeric():
		return k.unknown(say("asked for currency %s, answered %q", asked.Currency.Numeric(), t.Currency))
	}
	return payment.Answer{
		Outcome: payment.Approved, Amount: amountOf(t.Amount),
		Centre: payment.Centre{RRN: string(t.RefNum), Approval: string(t.Approval), Terminal: string(t.Terminal)},
	}
}

// findTransaction asks for the transaction with our ext (SVGate trans.ext); missing says what it
// means that there is none.
func (k *call) findTransaction(missing func() payment.Answer) payment.Answer {
	b := k.open("trans.ext")
	b = append(b, `{"extId":`...)
	b = wire.Quote(b, k.q.Operation.Ref)
	b = append(b, `}}`...)
	found, t := exchange[transaction](k, b)
	switch {
	case t.is(codeNotFound) || t.is(codeNotInSwitch) || t == nil && len(found) == 0:
		return missing()
	case t != nil:
		return k.failed(t)
	}
	a := k.judgeTransaction(&found[0])
	for i := range found[1:] {
		// An ext is good once; of several rows none can be called the one.
		if b := k.judgeTransaction(&found[1+i]); b.Outcome != payment.Refused || a.Outcome != payment.Refused {
			return k.unknown(fmt.Sprintf("%d transactions under one reference", len(found)))
		}
	}
	return a
}

// uncaptured says what it means that there is no transaction for a capture: that depends on the
// hold (SVGate hold.get.id).
func (k *call) uncaptured() payment.Answer {
	h, t := k.getHold()
	over := ""
	switch {
	case t.is(codeHoldNotFound):
		over = "the centre does not know the hold"
	case t != nil:
		return k.failed(t)
	case h.Status.N == holdLive:
		return k.neverSeen("the hold is live, and there is no transaction of ours")
	case h.Status.N == holdDismissed || h.Status.N == holdLapsed:
		over = fmt.Sprintf("the hold is over (status %d)", h.Status.N)
	default:
		return k.unknown(fmt.Sprintf("the hold has status %d, and there is no transaction of ours", h.Status.N))
	}
	if k.early() {
		return k.unknown(over + "; a transaction of ours may be shown later")
	}
	return payment.Answer{Outcome: payment.Refused, Reason: payment.HoldGone, Cause: k.words(over + ", and no transaction of ours was ever made")}
}

// void lets go of what is set aside (SVGate hold.dismiss).
func (k *call) void() payment.Answer {
	id := k.q.Attempt.Centre.Hold
	if id == "" {
		return k.refuse(payment.Unsupported, "a void needs the hold")
	}
	b := k.open("hold.dismiss")
	b = append(b, `{"hold":{"holdId":`...)
	b = wire.Quote(b, id)
	b = k.appendTerminal(b)
	b = memberInt(b, "amount", k.q.Operation.Amount.Minor)
	b = append(b, `}}}`...)
	result, t := exchange[holdDone](k, b)
	if t != nil {
		return k.failed(t)
	}
	done, a := k.judgeHold(result)
	switch {
	case done == nil:
		return a
	case string(done.ID) != id:
		return k.unknown(fmt.Sprintf("hold %s was asked for, the answer is about %s", id, done.ID))
	}
	return payment.Answer{Outcome: payment.Approved, Amount: amountOf(done.Amount), Centre: payment.Centre{Hold: id}}
}

// findVoid asks how the hold stands (SVGate hold.get.id).
func (k *call) findVoid() payment.Answer {
	h, t := k.getHold()
	switch {
	case t.is(codeHoldNotFound):
		// The centre may have forgotten a hold that is over. While ours could still be live, it is
		// more likely to be mistaken.
		if end := k.q.HoldUntil.Add(outlives + 2*saltMinutes*time.Minute); !k.q.HoldUntil.IsZero() && k.c.cfg.Now().After(end) {
			return payment.Answer{Outcome: payment.Approved, Cause: k.words("the centre does not know the hold, and its time is over")}
		}
		return k.unknown("the centre does not know the hold, although its time is not over")
	case t != nil:
		return k.failed(t)
	}
	if asked := k.q.Operation.Amount.Minor; h.Amount.Set && h.Amount.N != asked {
		return k.unknown(fmt.Sprintf("asked for %d, the hold is of %d", asked, h.Amount.N))
	}
	switch h.Status.N {
	case holdLive:
		return k.neverSeen("the hold is live still")
	case holdDismissed:
		return payment.Answer{Outcome: payment.Approved, Centre: payment.Centre{Hold: string(h.ID)}}
	case holdLapsed:
		return payment.Answer{Outcome: payment.Approved, Cause: k.words("the hold lapsed"), Centre: payment.Centre{Hold: string(h.ID)}}
	case holdCharged:
		// Not payment.HoldGone: that would say that the payer has his money back.
		return payment.Answer{Outcome: payment.Refused, Reason: payment.AlreadyCaptured, Cause: k.words("the hold was charged, not let go")}
	}
	return k.unknown(fmt.Sprintf("the hold has status %d", h.Status.N))
}

// getHold asks for the hold of the attempt. Without trouble its status is set.
func (k *call) getHold() (*holdInfo, *trouble) {
	id := k.q.Attempt.Centre.Hold
	if id == "" {
		return nil, &trouble{cause: "no hold is known"}
	}
	b := k.open("hold.get.id")
	b = append(b, `{"id":`...)
	b = wire.AppendID(b, id)
	b = append(b, `}}`...)
	result, t := exchange[holdInfo](k, b)
	switch {
	case t != nil:
		return nil, t
	case len(result) != 1 || string(result[0].ID) != id || !result[0].Status.Set:
		return nil, &trouble{cause: k.words("an answer that is not about hold " + id)}
	}
	return &result[0], nil
}

func (k *call) appendTerminal(b []byte) []byte {
	b = member(b, "merchantId", k.c.cfg.MerchantID)
	return member(b, "terminalId", k.c.cfg.TerminalID)
}

// appendStan writes the n-th trace number: 000001 to 999999.
func appendStan(b []byte, n uint32) []byte {
	n = n%999_999 + 1
	for unit := uint32(100_000); unit > 0; unit /= 10 {
		b = append(b, byte('0'+n/unit%10))
	}
	return b
}

func amountOf(i integer) money.Amount {
	if !i.Set {
		return money.Amount{}
	}
	return money.New(i.N, money.UZS)
}

// maskPhone brings the centre's mask into the form that payers know from Octo, "+998** *****33":
// whatever the centre shows of an Uzbek number, only its last two digits are passed on. A mask that
// hides those shows none; one with another country's code keeps its length alone.
func maskPhone(mask string) string {
	var shown []byte // a mask without its punctuation
	for i := range len(mask) {
		if c := mask[i]; wire.IsDigit(c) || c == '*' || c|0x20 == 'x' || c == '#' {
			shown = append(shown, c)
		}
	}
	last := "**"
	if n := len(shown); n >= 2 && wire.IsDigit(shown[n-1]) && wire.IsDigit(shown[n-2]) {
		last = string(shown[n-2:])
	}
	if strings.HasPrefix(mask, "+") && len(shown) >= 4 && wire.IsDigit(shown[0]) && !strings.HasPrefix(string(shown), "998") {
		return "+" + strings.Repeat("*", len(shown)-2) + last
	}
	return "+998** *****" + last
}
