package sim

import (
	"fmt"
	"time"
)

// Card is one plastic of the card book as it stands now. GET /sim/cards answers an array of these.
type Card struct {
	PAN    string `json:"pan"`    // 16 digits, Luhn valid
	Exp    string `json:"exp"`    // YYMM
	CVC    string `json:"cvc"`    // three digits for visa and mastercard, "" for uzcard and humo
	Scheme string `json:"scheme"` // uzcard, humo, visa or mastercard
	// Behaviour names what the card does to whoever uses it: "ok", "insufficient_funds", "unknown_then_done", …
	Behaviour string `json:"behaviour"`
	Meaning   string `json:"meaning"` // the behaviour in one sentence
	Balance   int64  `json:"balance"` // minor units (tiyin); live holds are not taken off it
	Held      int64  `json:"held"`    // minor units reserved by live holds, 0..balance
	Phone     string `json:"phone"`   // 12 digits without plus, one for each card
	Holder    string `json:"holder"`
	// FixedOTP is the code that this card's SMS always carry; "" if every SMS has a fresh random one.
	FixedOTP string `json:"fixed_otp,omitempty"`
}

// The schemes of the card book.
const (
	uzcard     = "uzcard"
	humo       = "humo"
	visa       = "visa"
	mastercard = "mastercard"
)

// step is the moment in a payment at which a magic card stops behaving.
type step uint8

const (
	never     step = iota
	atOTP          // the code is asked for
	atVerify       // the code is entered
	atHold         // the hold, or the charge at once
	atCapture      // the capture
	atVoid         // the hold is given back
	atRefund       // the refund
	at3DS          // 3-D Secure: the directory, the method, the challenge
)

var stepWord = [...]string{never: "never", atOTP: "otp", atVerify: "verify", atHold: "hold", atCapture: "capture", atVoid: "void", atRefund: "refund", at3DS: "3ds"}

// stepMethods are the calls of a step, by scheme; what visa has, mastercard has too.
var stepMethods = map[string][]string{
	uzcard: {
		atOTP: "cards.new.otp", atVerify: "cards.new.verify", atHold: "hold.create and trans.pay.purpose",
		atCapture: "hold.dismiss.charge", atVoid: "hold.dismiss", atRefund: "trans.reverse and trans.reverse.partial",
	},
	humo: {
		atOTP: "otp/send", atVerify: "otp/verify", atHold: "Payment",
		atCapture: "Payment confirmed", atVoid: "CancelRequest", atRefund: "ReturnPayment",
	},
	visa: {
		at3DS: "paymentorder.do and 3ds/continue.do", atHold: "The authorisation, at the end of 3-D Secure",
		atCapture: "deposit.do", atVoid: "reverse.do", atRefund: "refund.do",
	},
}

// behaviour is what a card does: at one step it answers an error code, having done the work or not.
type behaviour struct {
	name     string
	meaning  string
	at       step
	code     int  // SVGate's error code (below zero, or declined: see below), an action code, or RBS's errorCode
	done     bool // the work is done and booked although the code is answered
	holdOnly bool // at atHold: hold.create only, a charge at once works
	// status is SVGate's card status (§1.2), other than 0 the card can be verified but not charged; or the action code
	// that Humo's middleware shows as the card's (§2.1).
	status    int
	smsState  string // Humo's mb.state if it is not "on"
	pinTries  int    // Humo's pinTryCount
	secure    secure // visa and mastercard: what 3-D Secure makes of the card
	undecided uint8  // visa and mastercard: the issuer does not answer at first; one of the constants below
	partial   bool   // visa and mastercard: half of the sum is held
}

// secure is what directory and ACS do with a card.
type secure uint8

const (
	challenged      secure = iota // the payer is asked for a code; the right one passes
	frictionless                  // authenticated without a question (Y)
	challengeFails                // the right code does not pass either
	attempted                     // the issuer takes no part, the attempt is proven (A)
	unavailable                   // nobody could tell (U)
	rejected                      // the issuer refuses (R)
	unauthenticated               // the issuer says that it is not the holder (N)
	methodSilent                  // challenged, but the method page never answers
	methodless                    // challenged, and there is no method page
	abandoned                     // challenged, but the payer never comes back
	notEnrolled                   // no 3-D Secure at all
)

// The ways in which an issuer is down: undecidedTime later it has answered all the same.
const (
	pendingThenHeld     uint8 = iota + 1 // orderStatus 7 meanwhile
	pendingThenDeclined                  // orderStatus 7 meanwhile
	silentThenHeld                       // orderStatus 0 meanwhile, as if nobody had paid
)

// declined is the behaviour code of a refusal that comes as a result and not as an error: status "ERR" (or "RER" for a
// reversal), resp 51 and a refNum of zeros. Clients that only look for "error" take it for money.
const declined = -1

// Opening balances in minor units. The first ok card of each scheme is shared by a whole load test: a million payments of
// up to 100 million sum are 10^16 tiyin. 10^17 leaves room, and the sum over all cards still fits an int64.
const (
	sharedBalance   = 100_000_000_000_000_000
	ordinaryBalance = 10_000_000_000_000
)

// okCards is how many generated ok cards each scheme has beside its documented ones.
const okCards = 24

// account is a card with its money and its standing at the centre. Guarded by Sim.mu.
type account struct {
	pan, exp, cvc string
	scheme        string
	phone, holder string
	token         string // SVGate card id: 32 upper-case hex digits, the same for a card number in every simulator
	fixedOTP      string
	behaviour     *behaviour
	index         uint32

	opening, balance, held int64 // minor units

	bound         bool // somebody has verified the card since the last reset
	lastHold      uint32
	lastSMS       uint64
	wrongCodes    int
	wrongMillis   int64 // when the last wrong code came
	blockedMillis int64 // blocked at SVGate until then; 0 if not
}

// luhn completes 15 digits with their Luhn check digit.
func luhn(fifteen string) string {
	sum := 0
	for i := range len(fifteen) {
		d := int(fifteen[len(fifteen)-1-i] - '0')
		if i%2 == 0 { // these are doubled once the check digit stands behind them
			d *= 2
			if d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return fifteen + string(rune('0'+(10-sum%10)%10))
}

// validLuhn reports whether the last digit of an all-digit card number is right.
func validLuhn(pan string) bool { return len(pan) > 1 && luhn(pan[:len(pan)-1]) == pan }

// magicPAN writes the card number of a behaviour. The rule, so that anybody can find a card without this program:
//
//	860014  S  V  0000  NNN  L
//
// S is the step (1 the code is asked for, 2 the code is entered, 3 hold or charge, 4 capture, 5 void, 6 refund, 7 3-D
// Secure, 0 a card that is simply ok, 9 the behaviours that have no code of their own); V is 1 if the work is done
// although the error is answered, 2 for the same code in a second form; NNN is the error code without its minus (at step
// 7 and 9 a number of its own); L is the Luhn digit. In place of 860014 humo has 986014, visa 400000, mastercard 555555.
func magicPAN(bin string, s, v, nnn int) string {
	return luhn(fmt.Sprintf("%s%d%d0000%03d", bin, s, v, nnn))
}

// The codes of docs/processors.md §1.5 that a card can bring about, by the step at which it does so.
var (
	cardCodes      = []int{-200, -201, -202, -203, -204, -205, -206, -212, -216, -258, -261, -289, -333, -382, -383}
	phoneCodes     = []int{-215, -217, -224, -277, -290, -297, -320}
	otpCodes       = []int{-269, -270, -294, -299, -314, -317}
	fundsCodes     = []int{-239, -240, -245, -260, -262, -381}
	holdCodes      = []int{-241, -242}
	heldCardCodes  = []int{-200, -201, -203, -204, -205, -258, -261, -289, -333, -383} // the card fell ill after its OTP
	temporaryCodes = []int{-244, -300, -303, -304, -305, -306, -350, -351, -352, -353, -354, -355, -356, -357, -400, -500, -604}
	unknownCodes   = []int{-101, -102, -211, -281, -301, -302, -307, -308, -309, -310, -311}
	reversalCodes  = []int{-208, -267, -282, -380, -381, -389, -300}
)

// magicName gives the cards that people ask for by name theirs; every other one is called after its step and code.
var magicName = map[behaviour]string{
	{at: atOTP, code: -200}:                     "not_found",
	{at: atOTP, code: -201}:                     "expired",
	{at: atOTP, code: -205}:                     "blocked",
	{at: atOTP, code: -206}:                     "no_sms",
	{at: atOTP, code: -292}:                     "sms_not_sent",
	{at: atVerify, code: -269}:                  "otp_always_wrong",
	{at: atVerify, code: -270}:                  "otp_always_expired",
	{at: atHold, code: -241, holdOnly: true}:    "hold_limit",
	{at: atHold, code: -244}:                    "issuer_unavailable",
	{at: atHold, code: -262}:                    "limit_exceeded",
	{at: atHold, code: -300}:                    "wallet_down",
	{at: atHold, code: -301}:                    "unknown_not_done",
	{at: atHold, code: -301, done: true}:        "unknown_then_done",
	{at: atHold, code: -307}:                    "switch_timeout",
	{at: atHold, code: -307, done: true}:        "switch_timeout_done",
	{at: atHold, code: -333}:                    "fraud",
	{at: atCapture, code: -242}:                 "capture_hold_not_found",
	{at: atCapture, code: -301}:                 "capture_unknown_not_done",
	{at: atCapture, code: -301, done: true}:     "capture_unknown_then_done",
	{at: atVoid, code: -301}:                    "void_unknown_not_done",
	{at: atVoid, code: -301, done: true}:        "void_unknown_then_done",
	{at: atRefund, code: -301}:                  "refund_unknown_not_done",
	{at: atRefund, code: -301, done: true}:      "refund_unknown_then_done",
	{at: atRefund, code: declined, done: false}: "refund_refused",
	{at: atHold, code: declined}:                "declined_in_result",
	{at: atCapture, code: declined}:             "capture_declined_in_result",
}

// magicBehaviours is the whole table of misbehaving Uzcard cards, in the order of the page.
func magicBehaviours() []behaviour {
	var all []behaviour
	add := func(at step, done bool, codes ...int) {
		for _, code := range codes {
			// These two concern a hold and nothing else; a charge at once with such a card works.
			holdOnly := at == atHold && (code == -239 || code == -241)
			all = append(all, behaviour{at: at, code: code, done: done, holdOnly: holdOnly})
		}
	}
	add(atOTP, false, cardCodes...)
	add(atOTP, false, phoneCodes...)
	add(atOTP, false, -244, -292, -300)
	add(atVerify, false, otpCodes...)
	add(atVerify, false, -300)
	add(atHold, false, fundsCodes[:len(fundsCodes)-1]...) // -381 speaks of an earlier sum: it belongs to capture and refund
	add(atHold, false, holdCodes[0])
	add(atHold, false, heldCardCodes...)
	add(atHold, false, temporaryCodes...)
	add(atHold, false, unknownCodes...)
	add(atHold, true, unknownCodes...)
	add(atHold, false, declined)
	add(atCapture, false, holdCodes[1], -381, -300, -244, -301, -307)
	add(atCapture, true, -301, -307)
	add(atCapture, false, declined)
	add(atVoid, false, holdCodes[1], -300, -301, -307)
	add(atVoid, true, -301, -307)
	add(atRefund, false, reversalCodes...)
	add(atRefund, false, -301, -307)
	add(atRefund, true, -301, -307)
	add(atRefund, false, declined)

	for i := range all {
		b := &all[i]
		name, named := magicName[*b]
		if !named {
			name = fmt.Sprintf("%s_%d", stepWord[b.at], -b.code)
			if b.done {
				name += "_done"
			}
		}
		methods := stepMethods[uzcard][b.at]
		if b.holdOnly {
			methods = "hold.create"
		}
		switch {
		case b.code == declined && b.at == atHold:
			b.meaning = "No error, but a refusal as a result: hold.create with status 51 and id 0, trans.pay.purpose with status ERR, resp 51 and refNum 000000000000. Nothing was done."
		case b.code == declined:
			b.meaning = fmt.Sprintf("%s: no error, but a result with status ERR or RER, resp 51 and refNum 000000000000. Nothing was done.", methods)
		case b.done:
			b.meaning = fmt.Sprintf("%s: answers %d (%s) although it WAS done.", methods, b.code, codeMessage(b.code))
		default:
			b.meaning = fmt.Sprintf("%s: answers %d (%s). Nothing was done.", methods, b.code, codeMessage(b.code))
		}
		b.name = name // last: magicName is looked up without it
	}
	return all
}

// magicCard is a behaviour with its place in the rule of magicPAN.
type magicCard struct {
	behaviour
	s, v, nnn int
	exp       string // "" is a good one
}

const longExpired = "2012" // December 2020

// uzcardMagic is every misbehaving Uzcard card.
func uzcardMagic() []magicCard {
	cards := []magicCard{
		{s: 9, nnn: 6, behaviour: behaviour{name: "lost", status: 6,
			meaning: "The OTP works, but cards.new.verify shows card status 6 (lost); hold.create and trans.pay.purpose answer -204."}},
		{s: 9, nnn: 7, behaviour: behaviour{name: "stolen", status: 7,
			meaning: "The OTP works, but cards.new.verify shows card status 7 (stolen); hold.create and trans.pay.purpose answer -204."}},
	}
	for _, b := range magicBehaviours() {
		c := magicCard{behaviour: b, s: int(b.at), nnn: -b.code}
		if b.done {
			c.v = 1
		}
		if b.code == declined {
			c.nnn = 0
		}
		if b.name == "expired" {
			c.exp = longExpired
		}
		cards = append(cards, c)
	}
	// A merchant's form refuses a date in the past by itself; this one only the centre knows to be expired.
	return append(cards, magicCard{s: int(atOTP), v: 2, nnn: 201, behaviour: behaviour{name: "expired_at_bank", at: atOTP, code: -201,
		meaning: "The date is in the future, yet cards.new.otp answers -201 (" + codeMessage(-201) + "). Nothing was done."}})
}

// humoMagic is every misbehaving Humo card: the action codes of docs/processors.md §2.3, each at the steps where it can come.
func humoMagic() []magicCard {
	var cards []magicCard
	// What the middleware shows is what PaymentServer answers.
	for _, c := range []struct {
		name string
		code int
		exp  string
	}{
		{"expired", 101, longExpired}, {"restricted", 104, ""}, {"pin_tries", 106, ""}, {"not_effective", 125, ""}, {"pick_up", 204, ""},
		{"special", 207, ""}, {"lost", 208, ""}, {"stolen", 209, ""}, {"blocked_by_bank", 280, ""}, {"blocked", 281, ""},
	} {
		b := behaviour{name: c.name, at: atHold, code: c.code, status: c.code, meaning: fmt.Sprintf(
			"The middleware shows the card's status %03d (%s); Payment answers %d. Nothing was done.", c.code, actionMessage(c.code), c.code)}
		if c.code == 106 {
			b.pinTries = 3
			b.meaning = "The middleware shows pinTryCount 3; " + b.meaning
		}
		cards = append(cards, magicCard{behaviour: b, s: int(atHold), nnn: c.code, exp: c.exp})
	}
	for n, c := range []struct{ name, state string }{
		{"no_sms", "off"}, {"sms_off_phone", "off-phone"}, {"no_phone", "no-phone"}, {"sms_off_card", "off-card"}, {"no_customer", "no-customer"},
	} {
		cards = append(cards, magicCard{s: 9, nnn: 11 + n, behaviour: behaviour{name: c.name, smsState: c.state, meaning: fmt.Sprintf(
			"The middleware shows mb.state %s and no phone, and otp/send answers %d. PaymentServer, which sends no SMS, would take it.", c.state, otpNoService)}})
	}
	add := func(name string, at step, code int, done bool) {
		v, answers := 0, "answers %d (%s). Nothing was done."
		if done {
			v, answers = 1, "answers %d (%s) although it WAS done."
		}
		cards = append(cards, magicCard{s: int(at), v: v, nnn: code, behaviour: behaviour{name: name, at: at, code: code, done: done,
			meaning: stepMethods[humo][at] + ": " + fmt.Sprintf(answers, code, actionMessage(code))}})
	}
	add("sms_not_sent", atOTP, otpNotSent, false)
	add("otp_always_wrong", atVerify, otpWrong, false)
	add("otp_always_expired", atVerify, otpExpired, false)
	for _, c := range []struct {
		name string
		code int
	}{
		{"do_not_honour", 100}, {"fraud", 102}, {"call_issuer", 107}, {"call_issuer_special", 108}, {"wrong_merchant", 109}, {"wrong_amount", 110},
		{"wrong_number", 111}, {"not_found", 118}, {"not_at_terminal", 120}, {"limit_exceeded", 121}, {"frequency_exceeded", 123},
	} {
		add(c.name, atHold, c.code, false)
	}
	cards = append(cards, magicCard{s: int(atHold), v: 2, nnn: 101, behaviour: behaviour{name: "expired_at_bank", at: atHold, code: 101,
		meaning: "The date is in the future and the middleware finds nothing wrong, yet Payment answers 101 (" + actionMessage(101) + "). Nothing was done."}})
	for _, code := range doubtfulActions {
		for _, done := range []bool{false, true} {
			add(doubtfulName(atHold, code, done), atHold, code, done)
		}
	}
	add("capture_refused", atCapture, 100, false)
	add("refund_refused", atRefund, 100, false)
	for _, at := range []step{atCapture, atVoid, atRefund} {
		for _, done := range []bool{false, true} {
			add(doubtfulName(at, 911, done), at, 911, done)
		}
	}
	return cards
}

// doubtfulActions are the action codes that leave open whether anything was done.
var doubtfulActions = []int{907, 908, 909, 910, 911, 912}

// doubtfulName calls 911 what Uzcard's -301 is called, 907 after the issuer, and the others after their step and code.
func doubtfulName(at step, code int, done bool) string {
	prefix := ""
	if at != atHold {
		prefix = stepWord[at] + "_"
	}
	switch {
	case code == 911 && done:
		return prefix + "unknown_then_done"
	case code == 911:
		return prefix + "unknown_not_done"
	case code == 907 && done:
		return prefix + "issuer_down_done"
	case code == 907:
		return prefix + "issuer_down"
	case done:
		return fmt.Sprintf("%s_%d_done", stepWord[at], code)
	}
	return fmt.Sprintf("%s_%d", stepWord[at], code)
}

// rbsMagic is every misbehaving card of visa, and of mastercard.
func rbsMagic() []magicCard {
	var cards []magicCard
	for _, c := range []struct {
		nnn           int
		secure        secure
		name, meaning string
	}{
		{1, frictionless, "frictionless", "3ds/continue.do: the issuer asks nothing (ARes Y) and the sum is held at once. ECI 05, 02 for mastercard."},
		{2, challengeFails, "challenge_fails", "The bank's page takes the right code for a wrong one (RReq N): refused with action code -2024."},
		{3, attempted, "attempt", "The issuer takes no part, the attempt is proven (ARes A): held, ECI 06, 01 for mastercard."},
		{4, unavailable, "unavailable", "Nobody could tell (ARes U): refused with action code -2022, unless the simulator is set to take such payments."},
		{5, rejected, "rejected", "The issuer rejects (ARes R): refused with action code -2023."},
		{6, methodSilent, "method_timeout", "The method page never answers; after its time-out all goes on, with a challenge."},
		{7, abandoned, "abandoned", "The payer never comes back from the bank's page; the session ends: refused with action code -2007, callback declinedByTimeout."},
		{8, notEnrolled, "no_3ds", "No 3-D Secure: paymentorder.do holds at once and answers the redirect. ECI 07."},
		{9, methodless, "no_method", "paymentorder.do names no threeDSMethodURL; then a challenge."},
		{10, unauthenticated, "not_authenticated", "The issuer says that this is not the holder (ARes N): refused with action code -2023, without a question."},
	} {
		cards = append(cards, magicCard{s: int(at3DS), nnn: c.nnn, behaviour: behaviour{name: c.name, at: at3DS, secure: c.secure, meaning: c.meaning}})
	}
	refused := func(name, exp string, v, code int) {
		cards = append(cards, magicCard{s: int(atHold), v: v, nnn: code, exp: exp, behaviour: behaviour{name: name, at: atHold, code: code,
			meaning: fmt.Sprintf("The right code passes 3-D Secure, then the issuer refuses: action code %d (%s).", code, actionMessage(code))}})
	}
	refused("do_not_honour", "", 0, 100)
	cards = append(cards, magicCard{s: int(atHold), nnn: 101, exp: longExpired, behaviour: behaviour{name: "expired", at: atHold, code: 101, secure: notEnrolled,
		meaning: "paymentorder.do refuses at once: action code 101 (" + actionMessage(101) + ")."}})
	refused("expired_at_bank", "", 2, 101)
	for _, c := range []struct {
		name string
		code int
	}{
		{"fraud", 102}, {"restricted", 104}, {"call_issuer", 107}, {"wrong_number", 111}, {"not_permitted", 119}, {"not_at_terminal", 120},
		{"limit_exceeded", 121}, {"frequency_exceeded", 123}, {"not_effective", 125}, {"lost", 208}, {"stolen", 209},
	} {
		refused(c.name, "", 0, c.code)
	}
	for _, c := range []struct {
		v             int
		undecided     uint8
		name, meaning string
	}{
		{1, pendingThenHeld, "issuer_down", "The issuer does not answer: orderStatus 7, action code -30001. Two minutes later the sum IS held."},
		{0, pendingThenDeclined, "issuer_down_declined", "The issuer does not answer: orderStatus 7, action code -30001. Two minutes later it is refused, action code 907."},
		{2, silentThenHeld, "issuer_silent", "The issuer does not answer and orderStatus is 0 again, action code -1. Two minutes later the sum IS held."},
	} {
		cards = append(cards, magicCard{s: int(atHold), v: c.v, nnn: 907, behaviour: behaviour{name: c.name, at: atHold, undecided: c.undecided, meaning: c.meaning}})
	}
	cards = append(cards, magicCard{s: int(atHold), nnn: 10, behaviour: behaviour{name: "partial_auth", at: atHold, partial: true,
		meaning: "Only half of the sum is held: orderStatus 1 with an approvedAmount below amount."}})
	for _, at := range []step{atCapture, atVoid, atRefund} {
		method := stepMethods[visa][at]
		cards = append(cards,
			magicCard{s: int(at), nnn: rbsSystem, behaviour: behaviour{name: doubtfulName(at, 911, false), at: at, code: rbsSystem,
				meaning: method + ": answers errorCode 7 (System error). Nothing was done."}},
			magicCard{s: int(at), v: 1, nnn: rbsSystem, behaviour: behaviour{name: doubtfulName(at, 911, true), at: at, code: rbsSystem, done: true,
				meaning: method + ": answers errorCode 7 (System error) although it WAS done."}},
			magicCard{s: int(at), nnn: rbsWrong, behaviour: behaviour{name: stepWord[at] + "_refused", at: at, code: rbsWrong,
				meaning: method + ": answers errorCode 5 (Access denied), each time. Nothing was done."}})
	}
	return cards
}

// newCardBook makes the fixed book: the same cards in the same order in every simulator. Cards that are good expire in
// December four years ahead of now.
func newCardBook(now time.Time) []*account {
	good := fmt.Sprintf("%02d12", (now.In(tashkent).Year()+4)%100)
	ok := &behaviour{name: "ok", meaning: "Works."}
	shared := &behaviour{name: "ok", meaning: "Works. Its OTP code is always the last six digits of the card number, so that many payers can share it."}
	var book []*account
	add := func(scheme, pan, exp string, b *behaviour, balance int64) *account {
		n := len(book)
		a := &account{
			pan: pan, exp: exp, scheme: scheme, behaviour: b, index: uint32(n),
			phone:   fmt.Sprintf("%012d", 998901234500+n),
			holder:  holderName(n),
			token:   cardToken(pan),
			opening: balance, balance: balance,
		}
		if scheme == visa || scheme == mastercard {
			a.cvc = "123"
		}
		book = append(book, a)
		return a
	}
	// The documented numbers stand first; docs/processors.md §7 has checked those of Uzcard and Visa.
	for _, s := range []struct {
		scheme, bin string
		documented  []string
		poor        string // what happens to the card without money
		magic       []magicCard
	}{
		{uzcard, "860014", []string{"8600313260861293", "8600495473316478", "8600069195406311"},
			"Balance 0: hold.create answers -239, trans.pay.purpose -240.", uzcardMagic()},
		{humo, "986014", nil, "Balance 0: Payment answers 116.", humoMagic()},
		{visa, "400000", []string{"4111111111111111", "4000001111111118"},
			"Balance 0: the right code passes 3-D Secure, then the issuer refuses: action code 116.", rbsMagic()},
		// 5000001111111115 of the BPC documentation is left out: 50 lies outside Mastercard's own ranges.
		{mastercard, "555555", []string{"5555555555554444", "5105105105105100", "2221000000000009", "2223003122003222"},
			"Balance 0: the right code passes 3-D Secure, then the issuer refuses: action code 116.", rbsMagic()},
	} {
		pans := s.documented
		for n := 1; n <= okCards; n++ {
			pans = append(pans, magicPAN(s.bin, 0, 0, n))
		}
		first := add(s.scheme, pans[0], good, shared, sharedBalance)
		// Fixed by the card number and by nothing else, the seed included.
		first.fixedOTP = pans[0][len(pans[0])-6:]
		for _, pan := range pans[1:] {
			add(s.scheme, pan, good, ok, ordinaryBalance)
		}
		add(s.scheme, magicPAN(s.bin, 9, 0, 1), good, &behaviour{name: "insufficient_funds", meaning: s.poor}, 0)
		for i := range s.magic {
			m := &s.magic[i]
			exp := m.exp
			if exp == "" {
				exp = good
			}
			add(s.scheme, magicPAN(s.bin, m.s, m.v, m.nnn), exp, &m.behaviour, ordinaryBalance)
		}
	}
	return book
}

var (
	givenNames  = []string{"AZIZ", "DILNOZA", "JASUR", "KAMOLA", "OYBEK", "NARGIZA", "RUSTAM", "SEVARA", "TIMUR", "ZUHRA", "BEKZOD"}
	familyNames = []string{"KARIMOV", "RAHIMOV", "YUSUPOV", "TOSHEV", "ALIYEV", "NAZAROV", "SALIMOV"}
)

// holderName is an invented person; 11 and 7 have no common factor, so neighbours in the book differ.
func holderName(n int) string {
	given := n % len(givenNames)
	family := familyNames[n%len(familyNames)]
	if given%2 == 1 { // the women of the list
		family += "A"
	}
	return givenNames[given] + " " + family
}

// masked shows the first six and the last four digits, as SVGate does.
func masked(pan string) string { return pan[:6] + "******" + pan[len(pan)-4:] }

// maskedPhone keeps the operator's code and the last two digits: +99890*****33.
func maskedPhone(phone string) string { return "+" + phone[:5] + "*****" + phone[len(phone)-2:] }

// available is what can still be held or charged, minor units.
func (a *account) available() int64 { return a.balance - a.held }

// expired tells whether the last moment of the card's month has passed in Tashkent.
func (a *account) expired(now time.Time) bool {
	year, month := now.In(tashkent).Year()%100, int(now.In(tashkent).Month())
	cardYear := int(a.exp[0]-'0')*10 + int(a.exp[1]-'0')
	cardMonth := int(a.exp[2]-'0')*10 + int(a.exp[3]-'0')
	return cardYear < year || cardYear == year && cardMonth < month
}

func (a *account) card() Card {
	return Card{
		PAN: a.pan, Exp: a.exp, CVC: a.cvc, Scheme: a.scheme, Behaviour: a.behaviour.name, Meaning: a.behaviour.meaning,
		Balance: a.balance, Held: a.held, Phone: a.phone, Holder: a.holder, FixedOTP: a.fixedOTP,
	}
}
