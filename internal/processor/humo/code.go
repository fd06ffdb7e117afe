package humo

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/processor/wire"
)

const (
	codeDigits = 6
	codeLives  = 5 * time.Minute // of a code that we send, and where the middleware does not say

	pinTries = 3    // at so many wrong PINs a card is blocked
	smsOn    = "on" // mb.state of a card whose holder gets messages; no other state is one
)

// challenge looks at the card and has a code sent to its holder's phone. The card is sealed before
// anything is sent: without it a code would be of no use.
func (k *call) challenge() payment.Answer {
	card := k.q.Card
	switch {
	case len(card.Number) != 16 || !wire.AllDigits(card.Number):
		return k.refuse(payment.CardUnknown, "a Humo number has 16 digits")
	case len(card.Expiry) != 4 || !wire.AllDigits(card.Expiry) || card.Expiry[2:] < "01" || card.Expiry[2:] > "12":
		return k.refuse(payment.WrongExpiry, "an expiry has 4 digits, YYMM")
	}
	phone, a := k.usable()
	if phone == "" {
		return a
	}
	sealed, err := k.seal(card)
	if err != nil {
		return k.refuse(payment.Misconfigured, "the card could not be sealed")
	}
	if k.c.cfg.OTP == Centre {
		a = k.centreSends(phone)
	} else {
		a = k.weSend(phone)
	}
	if a.Outcome == payment.ChallengeGiven {
		a.Centre.Sealed = sealed
	}
	return a
}

// usable asks the middleware for the card (v3/iiacs/card) and gives its holder's phone, or the answer
// that says why the card cannot pay.
func (k *call) usable() (phone string, a payment.Answer) {
	card := k.q.Card
	info, t := exchangeJSON[cardInfo](k, k.c.card, "v3/iiacs/card", func(b []byte) []byte {
		b = append(b, `"primaryAccountNumber":`...)
		b = wire.Quote(b, card.Number)
		return append(b, `,"mb_flag":1`...)
	})
	switch {
	case t != nil:
		return "", k.failed(t)
	case string(info.Card.Number) != card.Number:
		return "", k.unknown("an answer about another card")
	case len(info.Card.Statuses.Item) == 0 || info.MB.State == "":
		return "", k.unknown("an answer without the card's statuses or its SMS service")
	}
	for _, s := range info.Card.Statuses.Item {
		code, ok := number(string(s.ActionCode))
		if !ok {
			return "", k.unknown("a card status that is no action code")
		}
		if reason := judgeCard(code); reason != "" {
			return "", k.refuse(reason, k.words(fmt.Sprintf("the card has status %03d", code)))
		}
	}
	expiry := string(info.Card.Expiry)
	tries, err := strconv.Atoi(string(info.Card.PINTries))
	switch {
	case len(expiry) != 4 || !wire.AllDigits(expiry) || err != nil:
		return "", k.unknown("an answer without the card's expiry or its wrong PINs")
	case expiry != card.Expiry:
		return "", k.refuse(payment.WrongExpiry, k.words("the card has another expiry"))
	case expiry < k.c.cfg.Now().In(payment.Tashkent).Format("0601"):
		return "", k.refuse(payment.CardExpired, k.words("the card has expired"))
	case tries >= pinTries:
		return "", k.refuse(payment.CardBlocked, k.words(fmt.Sprintf("%d wrong PINs", tries)))
	case info.MB.State != smsOn:
		return "", k.refuse(payment.NoSMS, k.words("the SMS service is "+string(info.MB.State)))
	}
	phone = strings.TrimPrefix(string(info.MB.Phone), "+")
	if len(phone) < 9 || len(phone) > 15 || !wire.AllDigits(phone) {
		return "", k.refuse(payment.NoSMS, k.words("the card has no phone"))
	}
	k.secrets = append(k.secrets, phone)
	return phone, payment.Answer{}
}

// centreSends has the middleware send a code (otp/send).
func (k *call) centreSends(phone string) payment.Answer {
	card := k.q.Card
	sent, t := exchangeJSON[otpSent](k, k.c.otpSend, "otp/send", func(b []byte) []byte {
		b = append(b, `"primaryAccountNumber":`...)
		b = wire.Quote(b, card.Number)
		b = append(b, `,"expiry":`...)
		return wire.Quote(b, card.Expiry)
	})
	if t != nil {
		return k.failed(t)
	}
	id := string(sent.ID)
	if !token(id) || id == "0" {
		return k.unknown("a code without an otpId")
	}
	lives := codeLives
	if seconds, err := strconv.Atoi(string(sent.Seconds)); err == nil && 0 < seconds && seconds <= 3600 {
		lives = time.Duration(seconds) * time.Second
	}
	return payment.Answer{Outcome: payment.ChallengeGiven, CentreID: centrePrefix + id, Phone: maskPhone(phone), CodeLives: lives}
}

// weSend makes a code and sends it through the SMS provider. Nobody but the payer has it afterwards.
func (k *call) weSend(phone string) payment.Answer {
	n, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
	if err != nil {
		return k.refuse(payment.Misconfigured, "no random numbers")
	}
	code := fmt.Sprintf("%06d", n)
	k.secrets = append(k.secrets, code)
	op := &k.q.Operation
	if t := k.sendSMS(phone, smsText(k.q.Language, code, op.Amount.Decimal())); t != nil {
		return k.failed(t)
	}
	return payment.Answer{Outcome: payment.ChallengeGiven, CentreID: k.name(op.Ref, code), Phone: maskPhone(phone), CodeLives: codeLives}
}

// smsText is what the payer reads: the code first, then what it is for. A message in Cyrillic has 70 letters, another 160.
func smsText(language, code, sum string) string {
	switch language {
	case "uz":
		return code + " - " + sum + " so'm to'lov uchun kod. Uni hech kimga aytmang."
	case "oz":
		return code + " - " + sum + " сўм тўлов учун код. Уни ҳеч кимга айтманг."
	case "ru":
		return code + " - код для оплаты " + sum + " сум. Никому его не говорите."
	}
	return code + " is your code to pay " + sum + " UZS. Tell it to nobody."
}

// The forms of CentreID: "gateway:", our reference and the hash of a code that we have sent; or "pc:" and
// the centre's name of one that it has sent.
const (
	ourPrefix    = string(Gateway) + ":"
	centrePrefix = string(Centre) + ":"
)

// name is the CentreID of a code of ours. A million codes are quickly tried, so without the key the hash
// must not be of use to anybody who reads the store.
func (k *call) name(ref, code string) string {
	mac := hmac.New(sha256.New, []byte(k.c.cfg.CodeKey))
	mac.Write([]byte(ref + ":" + code)) // never fails
	return ourPrefix + ref + ":" + hex.EncodeToString(mac.Sum(nil))
}

// verify checks the payer's code. How long and how often is the core's affair; of its times, the end of
// the code's life is looked at once more.
func (k *call) verify() payment.Answer {
	code, challenge := string(k.q.Code), k.q.Attempt.Challenge
	switch {
	case challenge == nil || challenge.CentreID == "":
		return k.refuse(payment.CodeExpired, "no code was asked for")
	case len(code) != codeDigits || !wire.AllDigits(code):
		return k.refuse(payment.WrongCode, "a code has six digits")
	}
	if id, centres := strings.CutPrefix(challenge.CentreID, centrePrefix); centres {
		return k.centreVerifies(id, code)
	}
	rest, ours := strings.CutPrefix(challenge.CentreID, ourPrefix)
	ref, _, whole := strings.Cut(rest, ":")
	k.method = "code"
	switch {
	case !ours || !whole || ref == "" || k.c.cfg.CodeKey == "":
		return k.refuse(payment.CodeExpired, "this code cannot be checked: another one is needed")
	case !challenge.ExpiresAt.IsZero() && !k.c.cfg.Now().Before(challenge.ExpiresAt):
		return k.refuse(payment.CodeExpired, "the code's time is over")
	case !hmac.Equal([]byte(k.name(ref, code)), []byte(challenge.CentreID)):
		return k.refuse(payment.WrongCode, "the code is wrong")
	}
	return payment.Answer{Outcome: payment.Approved}
}

// centreVerifies has the middleware check a code that it has sent (otp/verify).
func (k *call) centreVerifies(id, code string) payment.Answer {
	checked, t := exchangeJSON[otpChecked](k, k.c.otpVerify, "otp/verify", func(b []byte) []byte {
		b = append(b, `"otpId":`...)
		b = wire.AppendID(b, id)
		b = append(b, `,"code":`...)
		return wire.Quote(b, code)
	})
	switch {
	case t != nil:
		return k.failed(t)
	case checked.Verified == nil:
		return k.unknown("an answer that does not say whether the code was right")
	case !*checked.Verified:
		return k.refuse(payment.WrongCode, k.words("the code is wrong"))
	}
	return payment.Answer{Outcome: payment.Approved}
}

// seal makes of a card what may be stored until the money is asked for: it opens with the vault only,
// and in this payment only.
func (k *call) seal(card payment.Card) (string, error) {
	open := []byte(card.Number + " " + card.Expiry + " " + k.q.Payment.String())
	defer clear(open)
	sealed, err := k.c.cfg.Seal(open)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(sealed), nil
}

// unseal opens the attempt's card; without one the answer says why.
func (k *call) unseal() (payment.Card, payment.Answer) {
	if k.q.Attempt.Centre.Sealed == "" {
		return payment.Card{}, k.refuse(payment.Unsupported, "Humo needs the card, and none is sealed with the attempt")
	}
	sealed, err := base64.StdEncoding.DecodeString(k.q.Attempt.Centre.Sealed)
	if err != nil {
		return payment.Card{}, k.refuse(payment.Misconfigured, "the sealed card is damaged")
	}
	open, err := k.c.cfg.Unseal(sealed)
	if err != nil {
		return payment.Card{}, k.refuse(payment.Misconfigured, "the sealed card does not open with this vault's key")
	}
	defer clear(open)
	fields := strings.Fields(string(open))
	if len(fields) != 3 || fields[2] != k.q.Payment.String() {
		return payment.Card{}, k.refuse(payment.Misconfigured, "the sealed card is not this payment's")
	}
	k.secrets = append(k.secrets, fields[0])
	return payment.Card{Number: fields[0], Expiry: fields[1]}, payment.Answer{}
}

// maskPhone is the form that payers know from Octo, "+998** *****33". Of another country's number only
// the length is told beside its last two digits.
func maskPhone(phone string) string {
	last := phone[len(phone)-2:]
	if strings.HasPrefix(phone, "998") && len(phone) == 12 {
		return "+998** *****" + last
	}
	return "+" + strings.Repeat("*", len(phone)-2) + last
}
