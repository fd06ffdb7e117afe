package bench

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// The calls of one whole two-stage payment, in order.
const (
	callPrepare = iota
	callPay
	callInfo
	callCode
	callAccept
	callCount
)

// Calls names them, as the latencies are reported.
var Calls = [callCount]string{"prepare_payment", "pay", "verificationInfo", "check_sms_key", "set_accept"}

// payer makes whole payments, one after another, over one connection.
type payer struct {
	run  *run
	conn *conn
	id   int
	made int
	body []byte
}

// pay makes one payment. At each call, done is told how long it took.
func (p *payer) pay(shop *Shop, done func(call int, took time.Duration)) error {
	p.made++
	name := fmt.Sprintf("%s-%d-%d", p.run.name, p.id, p.made)
	began := time.Now()
	call := func(n int, path string) ([]byte, error) {
		status, answer, err := p.conn.post(path, p.body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", Calls[n], err)
		}
		if status != 200 || !bytes.HasPrefix(answer, []byte(`{"error":0,`)) {
			return nil, fmt.Errorf("%s: HTTP %d %.200s", Calls[n], status, answer)
		}
		now := time.Now()
		done(n, now.Sub(began))
		began = now
		return answer, nil
	}
	p.body = append(p.body[:0], `{"octo_shop_id":`...)
	p.body = strconv.AppendInt(p.body, shop.ID, 10)
	p.body = append(append(append(p.body, `,"octo_secret":"`...), shop.Secret...), `","shop_transaction_id":"`...)
	p.body = append(append(p.body, name...), p.run.terms...)
	answer, err := call(callPrepare, "/prepare_payment")
	if err != nil {
		return err
	}
	uuid := string(field(answer, `"octo_payment_UUID":"`, '"'))

	p.body = append(p.body[:0], p.run.card...)
	if answer, err = call(callPay, "/pay/"+uuid); err != nil {
		return err
	}
	number := string(field(answer, `"id":`, ','))

	p.body = append(append(append(p.body[:0], `{"octo_payment_UUID":"`...), uuid...), `"}`...)
	if answer, err = call(callInfo, "/verificationInfo"); err != nil {
		return err
	}
	verify := string(field(answer, `"verifyId":`, ','))

	p.body = append(append(append(p.body[:0], `{"smsKey":"`...), p.run.code...), `","paymentId":`...)
	p.body = append(append(append(append(p.body, number...), `,"verifyId":`...), verify...), '}')
	if answer, err = call(callCode, "/check_sms_key"); err != nil {
		return err
	}
	if !bytes.Contains(answer, []byte(`"status":"waiting_for_capture"`)) {
		return fmt.Errorf("check_sms_key: the payment is not held: %.200s", answer)
	}

	p.body = append(p.body[:0], `{"octo_shop_id":`...)
	p.body = strconv.AppendInt(p.body, shop.ID, 10)
	p.body = append(append(append(p.body, `,"octo_secret":"`...), shop.Secret...), `","octo_payment_UUID":"`...)
	p.body = append(append(p.body, uuid...), `","accept_status":"capture"}`...)
	if answer, err = call(callAccept, "/set_accept"); err != nil {
		return err
	}
	if !bytes.Contains(answer, []byte(`"status":"succeeded"`)) {
		return fmt.Errorf("set_accept: the payment is not captured: %.200s", answer)
	}
	p.run.endpoint.decided(uuid)
	return nil
}

// field is what stands between a key and the end mark in a JSON text that is known in form.
func field(text []byte, key string, end byte) []byte {
	i := bytes.Index(text, []byte(key))
	if i < 0 {
		return nil
	}
	rest := text[i+len(key):]
	j := bytes.IndexByte(rest, end)
	if j < 0 {
		return nil
	}
	return rest[:j]
}
