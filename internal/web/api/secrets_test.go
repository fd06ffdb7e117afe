package api_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/merchant"
)

// An unknown shop and a wrong secret are not told apart by a single byte, in any call that takes credentials.
func TestWrongSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uuid := w.prepare("mine", "")
	guess := string(merchant.NewSecret())
	for _, call := range []struct{ path, format string }{
		{"/prepare_payment", `{"octo_shop_id":%s,"octo_secret":%q,"shop_transaction_id":"mine"}`},
		{"/prepare_payment", `{"octo_shop_id":%s,"octo_secret":%q,"shop_transaction_id":"new","total_sum":1,"currency":"UZS","return_url":"https://a.uz"}`},
		{"/set_accept", `{"octo_shop_id":%s,"octo_secret":%q,"octo_payment_UUID":"` + uuid + `","accept_status":"cancel"}`},
		{"/refund", `{"octo_shop_id":%s,"octo_secret":%q,"octo_payment_UUID":"` + uuid + `","shop_refund_id":"r","amount":1}`},
	} {
		known := w.post(call.path, fmt.Sprintf(call.format, fmt.Sprint(w.shop.id), guess))
		if !bytes.HasPrefix(known, []byte(`{"error":2,"errMessage":"Wrong secret","data":null,`)) {
			t.Errorf("%s: %s", call.path, known)
		}
		for _, id := range []string{"999999", "-1", `"4611686018427387904"`, fmt.Sprint(w.other.id)} {
			if got := w.post(call.path, fmt.Sprintf(call.format, id, guess)); !bytes.Equal(got, known) {
				t.Errorf("%s: shop %s answers %s\na shop that exists answers %s", call.path, id, got, known)
			}
		}
		// Another shop's secret is as wrong as any, and so is a part of the right one, and its hash.
		for _, secret := range []string{string(w.other.secret), string(w.shop.secret)[:35], string(w.shop.secret) + " ", string(w.shop.key), fmt.Sprintf("%x", w.shop.secret.Hash())} {
			if got := w.post(call.path, fmt.Sprintf(call.format, fmt.Sprint(w.shop.id), secret)); !bytes.Equal(got, known) {
				t.Errorf("%s with a wrong secret: %s", call.path, got)
			}
		}
	}
	if p := w.stored(uuid); p.Decision != nil {
		t.Error("a wrong secret has decided")
	}
}

// digits is what could be a code; a code inside a longer number is another number.
var digits = regexp.MustCompile(`\d+`)

// took is how long something took: six digits by chance, and never a code.
var took = regexp.MustCompile(`"took":\d+`)

// TestCanary plays payments of every kind with logging at its most talkative, and then looks for card numbers,
// codes and secrets in every log line, every answer and every byte of the data directory, the write-ahead
// log included. The simulator knows the cards too, but keeps nothing in that directory.
func TestCanary(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var answers bytes.Buffer
	canaries := map[string]string{
		string(w.shop.secret): "the secret", string(w.other.secret): "the other secret", string(w.shop.key): "the unique_key", string(w.other.key): "the other unique_key",
	}
	codes := map[string]bool{}
	post := func(path, body string) object {
		t.Helper()
		text := w.post(path, body)
		answers.Write(text)
		return parse(t, text).(object)
	}
	// A merchant who answers takes part: his answers are kept, and what he is sent must be clean too.
	var mu sync.Mutex
	var told bytes.Buffer
	shopServer := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(&told, r.Header)
		told.ReadFrom(r.Body)
		fmt.Fprint(rw, `{"accept_status":"wait_user_action"}`)
	}))
	defer shopServer.Close()
	const cvc = "CVC-canary-7391" // nobody's CVC, and easy to find
	behaviours := []string{"ok", "insufficient_funds", "blocked", "otp_always_wrong", "unknown_then_done", "lost", "issuer_unavailable", "fraud"}
	for i, behaviour := range behaviours {
		cards := w.cards(behaviour)
		card := cards[len(cards)-1] // not the shared one, whose code is made of its number
		canaries[card.PAN] = "a card number"
		canaries[card.PAN[:4]+" "+card.PAN[4:8]+" "+card.PAN[8:12]+" "+card.PAN[12:]] = "a card number as people write it"
		name := fmt.Sprint("canary-", i)
		uuid := w.prepare(name, fmt.Sprintf(`"auto_capture":false,"notify_url":%q,"user_data":{"user_id":"7","phone":"998901234567","email":"a@b.uz"}`, shopServer.URL))
		// Secrets where they do not belong: a wrong type, a wrong place, broken JSON.
		post("/prepare_payment", fmt.Sprintf(`{"octo_shop_id":%q,"octo_secret":%q}`, string(w.shop.secret), string(w.shop.secret)))
		post("/prepare_payment", fmt.Sprintf(`{"octo_shop_id":1,"octo_secret":%q`, string(w.shop.secret)))
		post("/pay/"+uuid, fmt.Sprintf(`{"pan":%s,"exp":%q,"method":"uzcard","cvc2":%q}`, card.PAN, card.Exp, cvc))
		post("/pay/"+uuid, fmt.Sprintf(`{"pan":"%s","exp":%q,"method":"uzcard","cvc2":%q`, card.PAN, card.Exp, cvc))
		post("/pay/"+uuid, fmt.Sprintf(`{"pan":%q,"exp":%q,"method":"uzcard","cvc2":%q,"cardHolderName":"A","email":"a@b.uz"}`, card.PAN[:15]+"0", card.Exp, cvc))
		post("/pay/"+uuid, fmt.Sprintf(`{"pan":%q,"exp":"2001","method":"uzcard","cvc2":%q,"cardHolderName":"A","email":"a@b.uz"}`, card.PAN, cvc))
		paid := post("/pay/"+uuid, fmt.Sprintf(`{"pan":%q,"exp":%q,"method":"uzcard","cvc2":%q,"cardHolderName":"A","email":"a@b.uz"}`, card.PAN, card.Exp, cvc))
		if data, ok := paid["data"].(object); ok {
			id := fmt.Sprint(data["id"])
			post("/check_pan", fmt.Sprintf(`{"pan":%q,"expDate":%q,"paymentId":%s}`, card.PAN, card.Exp, id))
			verify := fmt.Sprint(post("/verificationInfo/"+uuid, "")["data"].(object)["verifyId"])
			right := w.code(card)
			codes[right], codes[wrong(right)] = true, true
			for _, m := range w.sim.SMS(card.Phone) {
				codes[m.Code] = true
			}
			post("/check_sms_key", fmt.Sprintf(`{"smsKey":%s,"paymentId":%s,"verifyId":%s}`, strings.TrimLeft(right, "0"), id, verify)) // a number
			post("/check_sms_key", smsKey(id, verify, wrong(right)))
			post("/check_sms_key", smsKey(id, verify, right))
			post("/set_accept", w.accept(uuid, `"accept_status":"capture","final_amount":5`))
			post("/callback", w.accept(uuid, `"accept_status":"cancel"`))
		}
		w.advance(10 * time.Second)
		_, err := w.notifier.Step(t.Context())
		check(t, err)
	}
	w.advance(time.Hour)
	_, err := w.notifier.Step(t.Context())
	check(t, err)

	places := map[string][]byte{"the log": w.logs.Bytes(), "an answer": answers.Bytes()}
	mu.Lock()
	places["a notification"] = told.Bytes()
	mu.Unlock()
	check(t, filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		places[filepath.Base(path)] = content
		return err
	}))
	for _, must := range []string{"the log", "an answer", "a notification", "holdfast.db", "holdfast.db-wal"} {
		if len(places[must]) < 1000 {
			t.Errorf("%s has only %d bytes: nothing was looked at", must, len(places[must]))
		}
	}
	canaries[cvc] = "a CVC"
	for place, content := range places {
		for canary, what := range canaries {
			for _, form := range []string{canary, strings.ToUpper(canary), fmt.Sprintf("%x", canary)} {
				if at := bytes.Index(content, []byte(form)); at >= 0 {
					t.Errorf("%s is in %s: …%q…", what, place, content[max(0, at-60):min(len(content), at+60)])
				}
			}
		}
		content = took.ReplaceAll(content, nil)
		for _, number := range digits.FindAll(content, -1) {
			if codes[string(number)] {
				at := bytes.Index(content, number)
				t.Errorf("a code is in %s: …%q…", place, content[max(0, at-60):min(len(content), at+60)])
			}
		}
	}
	if len(codes) < 10 {
		t.Errorf("only %d codes were looked for", len(codes))
	}
	w.audit()
}

// A merchant with the public client, who knows nothing of the inside, comes through too: his Trace shows no secret.
func TestClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var seen bytes.Buffer
	client := holdfast.Client{BaseURL: w.url + "/", ShopID: w.shop.id, Secret: holdfast.Secret(w.shop.secret), HTTP: w.http,
		Trace: func(e holdfast.Exchange) { fmt.Fprintf(&seen, "%+v\n", e) }}
	ctx := context.Background()
	stage := false
	state, err := client.Prepare(ctx, holdfast.PrepareRequest{ShopTransactionID: "c", AutoCapture: &stage, TotalSum: "1000", Currency: "UZS", ReturnURL: "https://a.uz", NotifyURL: nowhere})
	check(t, err)
	card := w.cards("ok")[2]
	paid, err := client.Pay(ctx, state.PaymentUUID, holdfast.PayRequest{PAN: holdfast.Secret(card.PAN), Exp: card.Exp, Method: holdfast.MethodUzcard})
	check(t, err)
	info, err := client.VerificationInfo(ctx, state.PaymentUUID)
	check(t, err)
	held, err := client.CheckSMSKey(ctx, holdfast.CheckSMSKeyRequest{SMSKey: holdfast.Secret(w.code(card)), PaymentID: paid.ID, VerifyID: info.VerifyID})
	check(t, err)
	if held.Status != holdfast.StatusWaitingForCapture {
		t.Errorf("the status is %s", held.Status)
	}
	state, err = client.Accept(ctx, holdfast.AcceptRequest{PaymentUUID: state.PaymentUUID, AcceptStatus: holdfast.AcceptCapture, FinalAmount: "250.5"})
	check(t, err)
	if state.Status != holdfast.StatusSucceeded || state.TransferSum != "245.49" {
		t.Errorf("the capture answers %+v", state)
	}
	for _, secret := range []string{string(w.shop.secret), card.PAN} {
		if bytes.Contains(seen.Bytes(), []byte(secret)) {
			t.Errorf("the trace shows %s", secret)
		}
	}
	if seen.Len() < 1000 {
		t.Error("the trace is empty")
	}
}
