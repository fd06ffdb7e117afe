package api_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"holdfast/internal/payment"
	"holdfast/internal/sim"
	"holdfast/internal/web"
)

// How many guesses are made, and from how many connections at once: GUESSES sets how many (make guesses).
const guessers = 16

// Whoever guesses codes, or ids of payments, learns nothing: at most three codes of a verification reach
// the centre, no answer tells an id that exists from one that does not, and an address that goes on is
// turned away while others are served.
func TestGuesses(t *testing.T) {
	guesses := 3000
	if text := os.Getenv("GUESSES"); text != "" {
		var err error
		if guesses, err = strconv.Atoi(text); err != nil {
			t.Fatalf("GUESSES=%q is not a number", text)
		}
	}
	w := newWorld(t)
	type victim struct {
		uuid, number, verifyID string
		card                   sim.Card
	}
	victims := make([]victim, 8)
	for i := range victims {
		v := &victims[i]
		v.card, v.uuid = w.cards("ok")[i+1], w.prepare(fmt.Sprint("victim-", i), twoStage)
		v.number, v.verifyID = w.pay(v.uuid, v.card)
	}
	sms := len(w.sim.SMS(""))

	// What an outsider may hear, by the kind of guess. Everything else is a leak.
	var mu sync.Mutex
	heard := map[string]map[string]int{}
	hear := func(kind string, answer string) {
		mu.Lock()
		defer mu.Unlock()
		if heard[kind] == nil {
			heard[kind] = make(map[string]int)
		}
		heard[kind][answer]++
	}
	var left, turnedAway atomic.Int64
	left.Store(int64(guesses))
	var group sync.WaitGroup
	for g := range guessers {
		random := rand.New(rand.NewPCG(uint64(g), 1))
		group.Go(func() {
			for left.Add(-1) >= 0 {
				v := &victims[random.IntN(len(victims))]
				code := fmt.Sprintf("%06d", random.IntN(1_000_000))
				if code == w.code(v.card) {
					continue // a lucky guess is no leak
				}
				kind, path, body := "", "/check_sms_key", ""
				switch random.IntN(8) {
				case 0, 1:
					kind, body = "a code of a payment that is known", smsKey(v.number, v.verifyID, code)
				case 2:
					kind, body = "a code with another verifyId", smsKey(v.number, fmt.Sprint(1+random.IntN(1<<31-1)), code)
				case 3:
					kind, body = "a code with another paymentId", smsKey(fmt.Sprint(1+random.IntN(1<<31-1)), v.verifyID, code)
				case 4:
					kind, path, body = "a paymentId and a card", "/check_pan", fmt.Sprintf(`{"pan":"8600495473316478","expDate":"3012","paymentId":%d}`, 1+random.IntN(1<<31-1))
				case 5:
					kind, path, body = "a payment that is known and a card", "/check_pan", fmt.Sprintf(`{"pan":"9860140000000007","expDate":"3012","paymentId":%s}`, v.number)
				case 6:
					kind, path = "a UUID", "/verificationInfo/"+neighbour(v.uuid, random)
				case 7:
					kind, path, body = "a UUID and a card", "/pay/"+neighbour(v.uuid, random), `{"pan":"8600495473316478","exp":"3012","method":"uzcard","cvc2":""}`
				}
				// Half of them come from one address each, the others from anywhere.
				from := fmt.Sprintf("198.51.100.%d", g)
				if g%2 == 0 {
					from = fmt.Sprintf("203.0.%d.%d", random.IntN(256), random.IntN(256))
				}
				status, answer, err := w.from(from, path, body)
				switch {
				case err != nil:
					t.Error(err)
				case status == http.StatusTooManyRequests:
					turnedAway.Add(1)
				case status != http.StatusOK:
					t.Errorf("%s: HTTP %d %s", kind, status, answer)
				default:
					hear(kind, answer)
				}
			}
		})
	}
	group.Wait()

	wrong := string(w.post("/check_sms_key", smsKey("1", "1", "000000"))) // nobody's
	unknownCard := string(w.post("/check_pan", `{"pan":"8600495473316478","expDate":"3012","paymentId":1}`))
	unknown := string(w.post("/verificationInfo/"+neighbour(victims[0].uuid, rand.New(rand.NewPCG(9, 9))), ""))
	learnt := 0
	for kind, allowed := range map[string][]string{
		"a code with another verifyId":       {wrong},
		"a code with another paymentId":      {wrong},
		"a paymentId and a card":             {unknownCard},
		"a payment that is known and a card": {unknownCard},
		"a UUID":                             {unknown},
		"a UUID and a card":                  {unknown},
	} {
		for answer, n := range heard[kind] {
			if !slices.Contains(allowed, answer) {
				learnt += n
				t.Errorf("%s: %d times %s", kind, n, answer)
			}
		}
		if len(heard[kind]) == 0 {
			t.Errorf("nobody guessed %s", kind)
		}
	}
	asked := 0
	for _, v := range victims {
		line, err := w.store.Timeline(t.Context(), w.stored(v.uuid).ID)
		check(t, err)
		n := 0
		for _, op := range line.Operations {
			if op.Kind == payment.OpVerify {
				n++
			}
		}
		asked += n
		if n > payment.MaxWrongCodes {
			t.Errorf("%d codes of one verification reached the centre", n)
		}
	}
	if n := int(w.verifies.Load()); n != asked {
		t.Errorf("the centre was asked about %d codes, by our rows about %d", n, asked)
	}
	if n := len(w.sim.SMS("")); n != sms {
		t.Errorf("%d messages were sent by guessing", n-sms)
	}
	if turnedAway.Load() == 0 {
		t.Error("no address was turned away")
	}
	// Who has not guessed is served.
	uuid := w.prepare("after", twoStage)
	w.hold(uuid, w.cards("ok")[12])
	w.audit()
	t.Logf("figures: guesses: %d guesses of %d kinds: %d codes of %d verifications reached the centre, %d calls turned away, %d answers told something", guesses, len(heard), asked, len(victims), turnedAway.Load(), learnt)
}

// All that payers type on a shop's own card page comes from the shop's server: one of them who guesses does not shut
// the others out. Elsewhere, who claims to be a shop is believed only with its secret.
func TestGuesserOnAShopsPage(t *testing.T) {
	const server, second, stranger = "198.51.100.20", "198.51.100.22", "198.51.100.21"
	w := newWorld(t)
	card := w.cards("ok")[1]
	uuid := w.prepare("guessed", twoStage)
	number, _ := w.pay(uuid, card)
	for from, call := range map[string]struct{ path, body, hears string }{
		server:   {"/prepare_payment", fmt.Sprintf(`{%s,"shop_transaction_id":"guessed"}`, w.shop.credentials()), uuid},
		second:   {"/callback", fmt.Sprintf(`{"octo_secret":%q,"octo_payment_UUID":%q,"accept_status":"capture"}`, string(w.shop.secret), uuid), "nothing is held yet"},
		stranger: {"/prepare_payment", fmt.Sprintf(`{"octo_shop_id":%d,"octo_secret":"nonsense","shop_transaction_id":"guessed"}`, w.shop.id), "Wrong secret"},
	} {
		_, answer, err := w.from(from, call.path, call.body)
		check(t, err)
		if !strings.Contains(answer, call.hears) {
			t.Fatalf("%s hears %s", from, answer)
		}
		for range 2 * web.Guesses {
			_, _, err := w.from(from, "/check_pan", fmt.Sprintf(`{"pan":"9860140000000007","expDate":"3012","paymentId":%s}`, number))
			check(t, err)
		}
		status, answer, err := w.from(from, "/verificationInfo/"+uuid, "")
		check(t, err)
		if want := map[string]int{server: http.StatusOK, second: http.StatusOK, stranger: http.StatusTooManyRequests}[from]; status != want {
			t.Errorf("another payer who comes from %s is answered HTTP %d %s, want %d", from, status, answer, want)
		}
	}
}

// Whoever tries which card numbers exist, at one payment after another, is turned away as other guessers are.
func TestGuessedCards(t *testing.T) {
	const guesser, payer = "198.51.100.30", "198.51.100.31"
	w := newWorld(t)
	try := func(from, uuid, pan, exp string) (int, string) {
		t.Helper()
		status, answer, err := w.from(from, "/pay/"+uuid, fmt.Sprintf(`{"pan":%q,"exp":%q,"method":"uzcard","cvc2":"","cardHolderName":"A","email":"a@b.uz"}`, pan, exp))
		check(t, err)
		return status, answer
	}
	uuid := ""
	for i := range web.Guesses {
		if i%payment.MaxAttempts == 0 {
			uuid = w.prepare(fmt.Sprint("guessed-", i), twoStage)
		}
		// The centre knows none of them.
		if status, answer := try(guesser, uuid, checked(fmt.Sprintf("86001477%07d", i)), "3012"); status != http.StatusOK || !strings.Contains(answer, `"data":null`) {
			t.Fatalf("guess %d: HTTP %d %s", i, status, answer)
		}
	}
	card := w.cards("ok")[1]
	for from, want := range map[string]int{guesser: http.StatusTooManyRequests, payer: http.StatusOK} {
		if status, answer := try(from, w.prepare("by-"+from, twoStage), card.PAN, card.Exp); status != want {
			t.Errorf("after %d card numbers that do not exist %s is answered HTTP %d %s, want %d", web.Guesses, from, status, answer, want)
		}
	}
	w.audit()
}

// checked is a card number with its check digit.
func checked(number string) string {
	for digit := range 10 {
		if whole := number + strconv.Itoa(digit); payment.Luhn(whole) {
			return whole
		}
	}
	panic("no digit fits")
}

// neighbour is a UUID like another one, made at the same time.
func neighbour(uuid string, random *rand.Rand) string {
	return uuid[:24] + fmt.Sprintf("%012x", random.Uint64()>>16)
}

// from makes a call as a proxy on this machine hands it on.
func (w *world) from(address, path, body string) (int, string, error) {
	req, err := http.NewRequest(http.MethodPost, w.url+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("X-Forwarded-For", address)
	res, err := w.http.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	return res.StatusCode, string(answer), err
}

// A shop that calls with its own good credentials about another shop's payment hears exactly what it hears
// of a payment that does not exist, in every call that there is, and changes nothing.
func TestShopsAreApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const name = "mine-alone-4711"
	uuid := w.prepare(name, twoStage+`,"description":"a-secret-teapot"`)
	w.hold(uuid, w.card("ok"))
	taken := w.prepare(name+"-taken", twoStage)
	w.hold(taken, w.cards("ok")[1])
	w.ok("/set_accept", w.accept(taken, `"accept_status":"capture"`))
	w.ok("/refund", fmt.Sprintf(`{%s,"octo_payment_UUID":%q,"shop_refund_id":"my-refund","amount":100}`, w.shop.credentials(), taken))
	nobodys := neighbour(uuid, rand.New(rand.NewPCG(3, 3)))
	before, takenBefore := w.stored(uuid), w.stored(taken)

	for _, c := range []struct{ path, body string }{ // $UUID is another shop's, and then nobody's
		{"/set_accept", `{%s,"octo_payment_UUID":"$UUID","accept_status":"capture"}`},
		{"/set_accept", `{%s,"octo_payment_UUID":"$UUID","accept_status":"capture","final_amount":"1.00"}`},
		{"/set_accept", `{%s,"octo_payment_UUID":"$UUID","accept_status":"cancel"}`},
		{"/callback", `{%s,"octo_payment_UUID":"$UUID","accept_status":"capture"}`},
		{"/callback", `{%s,"octo_payment_UUID":"$UUID","accept_status":"cancel"}`},
		{"/refund", `{%s,"octo_payment_UUID":"$UUID","shop_refund_id":"theirs","amount":100}`},
		{"/refund", `{%s,"octo_payment_UUID":"$UUID","shop_refund_id":"my-refund","amount":100}`},
	} {
		body := fmt.Sprintf(c.body, w.other.credentials())
		unknown := w.post(c.path, strings.ReplaceAll(body, "$UUID", nobodys))
		for _, id := range []string{uuid, taken, strings.ToUpper(uuid)} {
			if got := w.post(c.path, strings.ReplaceAll(body, "$UUID", id)); !bytes.Equal(got, unknown) {
				t.Errorf("%s %s\nanswers %s\nand of nobody's payment %s", c.path, body, got, unknown)
			}
		}
	}
	// A name is the shop's own: the same name at another shop is another payment, or none.
	status := `{%s,"shop_transaction_id":%q}`
	unknown := w.post("/prepare_payment", fmt.Sprintf(status, w.other.credentials(), "nobodys"))
	if got := w.post("/prepare_payment", fmt.Sprintf(status, w.other.credentials(), name)); !bytes.Equal(got, unknown) {
		t.Errorf("the status of another shop's payment: %s", got)
	}
	own := w.post("/prepare_payment", fmt.Sprintf(`{%s,"shop_transaction_id":%q,"total_sum":7,"currency":"UZS","return_url":"https://a.uz"}`, w.other.credentials(), name))
	for _, leak := range []string{uuid, "1000", "teapot"} {
		if bytes.Contains(own, []byte(leak)) {
			t.Errorf("another shop's payment of the same name shows %q: %s", leak, own)
		}
	}
	// Credentials mixed of two shops are wrong.
	for _, mixed := range []string{
		fmt.Sprintf(`"octo_shop_id":%d,"octo_secret":%q`, w.shop.id, string(w.other.secret)), fmt.Sprintf(`"octo_shop_id":%d,"octo_secret":%q`, w.other.id, string(w.shop.secret)),
	} {
		for _, path := range []string{"/prepare_payment", "/set_accept", "/refund"} {
			w.refused(2, "Wrong secret", path, fmt.Sprintf(`{%s,"shop_transaction_id":%q,"octo_payment_UUID":%q,"accept_status":"cancel","shop_refund_id":"x","amount":1}`, mixed, name, uuid))
		}
	}
	after, takenAfter := w.stored(uuid), w.stored(taken)
	if before.Version != after.Version || takenBefore.Version != takenAfter.Version {
		t.Error("another shop has changed a payment")
	}
	w.audit()
}
