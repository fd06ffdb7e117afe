package sim

import (
	"fmt"
	"time"
)

// Message is one SMS that a centre has sent. GET /sim/sms answers an array of these.
type Message struct {
	Phone string    `json:"phone"` // 12 digits without plus
	Text  string    `json:"text"`
	Code  string    `json:"code"` // the six digits of the text
	At    time.Time `json:"at"`   // RFC 3339, the simulator's clock
}

// sms is a message before it is put into words, which happens only if somebody reads it.
type sms struct {
	atMillis int64
	prev     uint64 // the number of the card's message before plus one; 0 for none
	card     uint32
	code     uint32
	minutes  uint32 // how long the code is good
}

// inbox keeps the newest maxMessages. Message number n lies at n modulo maxMessages, and the messages of one card are
// chained, so that neither sending nor reading one phone's messages searches through all.
type inbox struct {
	ring  []sms
	count uint64
}

func (in *inbox) send(a *account, code uint32, lifetime time.Duration, now time.Time) {
	m := sms{atMillis: now.UnixMilli(), prev: a.lastSMS, card: a.index, code: code, minutes: uint32(lifetime / time.Minute)}
	if len(in.ring) < maxMessages {
		in.ring = append(in.ring, m)
	} else {
		in.ring[in.count%maxMessages] = m
	}
	in.count++
	a.lastSMS = in.count
}

// kept reports whether message n has not been overwritten.
func (in *inbox) kept(n uint64) bool { return n < in.count && n+uint64(len(in.ring)) >= in.count }

// newest is at most limit messages to a phone ("" for all), newest first. The answer is never nil: in JSON it is [].
func (in *inbox) newest(cards []*account, phone string, limit int) []Message {
	messages := []Message{}
	if phone == "" {
		for n := in.count; n > 0 && in.kept(n-1) && len(messages) < limit; n-- {
			messages = append(messages, in.ring[(n-1)%maxMessages].message(cards))
		}
		return messages
	}
	for _, a := range cards {
		if a.phone != phone {
			continue
		}
		for n := a.lastSMS; n > 0 && in.kept(n-1) && len(messages) < limit; {
			m := &in.ring[(n-1)%maxMessages]
			messages = append(messages, m.message(cards))
			n = m.prev
		}
		break // one card, one phone
	}
	return messages
}

func (m *sms) message(cards []*account) Message {
	a := cards[m.card]
	code := fmt.Sprintf("%06d", m.code)
	good := "Valid for less than a minute."
	if m.minutes > 0 {
		good = fmt.Sprintf("Valid for %d min.", m.minutes)
	}
	return Message{
		Phone: a.phone,
		Text:  fmt.Sprintf("Holdfast Test Bank: code %s for card *%s. %s Do not tell it to anybody.", code, a.pan[len(a.pan)-4:], good),
		Code:  code,
		At:    time.UnixMilli(m.atMillis).In(tashkent),
	}
}
