package sim

import (
	"errors"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"
)

// Message is one SMS that a centre, or the gateway through its SMS provider, has sent. GET /sim/sms answers an array of these.
type Message struct {
	Phone string    `json:"phone"` // 12 digits without plus
	Text  string    `json:"text"`
	Code  string    `json:"code"` // the first run of 4 to 8 digits in the text, "" if there is none
	At    time.Time `json:"at"`   // RFC 3339, the simulator's clock
}

// sms is a message before it is put into words, which happens only if somebody reads it.
type sms struct {
	atMillis int64
	prev     uint64 // the number of the card's message before plus one; 0 for none
	card     uint32
	code     uint32
	minutes  uint32 // how long the code is good
	// What the gateway has sent: its words, and the phone if no card has it.
	text, phone string
}

// inbox keeps the newest maxMessages. Message number n lies at n modulo maxMessages, and the messages of one card are
// chained, so that neither sending nor reading one phone's messages searches through all.
type inbox struct {
	ring  []sms
	count uint64
}

func (in *inbox) send(a *account, code uint32, lifetime time.Duration, now time.Time) {
	in.add(a, sms{atMillis: now.UnixMilli(), code: code, minutes: uint32(lifetime / time.Minute)})
}

// add keeps a message to the holder of a card, or to m.phone if a is nil.
func (in *inbox) add(a *account, m sms) {
	if a != nil {
		m.card, m.prev = a.index, a.lastSMS
	}
	if len(in.ring) < maxMessages {
		in.ring = append(in.ring, m)
	} else {
		in.ring[in.count%maxMessages] = m
	}
	in.count++
	if a != nil {
		a.lastSMS = in.count
	}
}

// kept reports whether message n has not been overwritten.
func (in *inbox) kept(n uint64) bool { return n < in.count && n+uint64(len(in.ring)) >= in.count }

// newest is at most limit messages to a phone ("" for all), newest first. The answer is never nil: in JSON it is [].
func (in *inbox) newest(cards []*account, phone string, limit int) []Message {
	messages := []Message{}
	if a := holderOf(cards, phone); a != nil { // one card, one phone
		for n := a.lastSMS; n > 0 && in.kept(n-1) && len(messages) < limit; {
			m := &in.ring[(n-1)%maxMessages]
			messages = append(messages, m.message(cards))
			n = m.prev
		}
		return messages
	}
	for n := in.count; n > 0 && in.kept(n-1) && len(messages) < limit; n-- {
		if m := &in.ring[(n-1)%maxMessages]; phone == "" || m.phone == phone {
			messages = append(messages, m.message(cards))
		}
	}
	return messages
}

// holderOf is the card to whose holder a phone belongs, nil if there is none.
func holderOf(cards []*account, phone string) *account {
	for _, a := range cards {
		if a.phone == phone {
			return a
		}
	}
	return nil
}

func (m *sms) message(cards []*account) Message {
	at := time.UnixMilli(m.atMillis).In(tashkent)
	a := cards[m.card]
	if m.text != "" {
		phone := m.phone
		if phone == "" {
			phone = a.phone
		}
		return Message{Phone: phone, Text: m.text, Code: codeIn(m.text), At: at}
	}
	code := fmt.Sprintf("%06d", m.code)
	good := "Valid for less than a minute."
	if m.minutes > 0 {
		good = fmt.Sprintf("Valid for %d min.", m.minutes)
	}
	return Message{
		Phone: a.phone,
		Text:  fmt.Sprintf("Holdfast Test Bank: code %s for card *%s. %s Do not tell it to anybody.", code, a.pan[len(a.pan)-4:], good),
		Code:  code,
		At:    at,
	}
}

// codeIn is the first run of 4 to 8 digits in a text.
func codeIn(text string) string {
	for i := 0; i < len(text); {
		end := i
		for end < len(text) && text[end] >= '0' && text[end] <= '9' {
			end++
		}
		if n := end - i; n >= 4 && n <= 8 {
			return text[i:end]
		}
		i = end + 1
	}
	return ""
}

// Limits of the SMS provider.
const (
	maxSMS   = 1000 // characters
	maxPhone = 15   // digits, as E.164 has it
)

// serveSendSMS is the SMS provider of a gateway that sends its codes itself: POST /sms/send {"phone", "text"} with a bearer
// token, answered {"messageId", "status": "sent"}. Anybody's phone will do. This protocol is the simulator's own.
func (s *Sim) serveSendSMS(w http.ResponseWriter, r *http.Request) {
	body, ok := s.readJSONCall(w, r, s.smsToken)
	if !ok {
		return
	}
	v, why := parse(body)
	phone, err := bareNumber(string(v.get("phone").text))
	message := v.get("text")
	switch {
	case why != "":
		err = errors.New("body: " + why)
	case err != nil:
	case v.get("phone").kind != text || len(phone) < 7 || len(phone) > maxPhone:
		err = fmt.Errorf("phone: 7 to %d digits are needed", maxPhone)
	case message.kind != text || len(message.text) == 0 || utf8.RuneCount(message.text) > maxSMS:
		err = fmt.Errorf("text: 1 to %d characters are needed", maxSMS)
	}
	s.mu.Lock()
	now := s.clock()
	a := holderOf(s.cards, phone)
	fault, kind := s.takeFault("sms.send", a)
	status, answer := http.StatusOK, fmt.Sprintf(`{"messageId":"%d","status":"sent"}`, s.inbox.count+1)
	switch {
	case kind != nil && kind.notDone: // error_code too: the provider refuses the message
		status, answer = http.StatusBadRequest, fmt.Sprintf(`{"error":{"code":%d,"message":"refused"}}`, fault.Code)
	case err == nil:
		m := sms{atMillis: now.UnixMilli(), text: string(message.text)}
		if a == nil {
			m.phone = phone
		}
		s.inbox.add(a, m)
	}
	s.mu.Unlock()
	s.logFault("sms.send", fault)
	if err != nil && kind == nil {
		s.refuse(w, err)
		return
	}
	s.deliver(w, r, fault, reply{status, jsonType, []byte(answer)})
}
