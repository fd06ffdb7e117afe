package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast"
	"holdfast/internal/payment"
	"holdfast/internal/sim"
	"holdfast/internal/store"
	"holdfast/internal/vault"
)

// signCallback is the checksum of a callback's parameters, by the acquirer's rule.
func signCallback(key string, form url.Values) string {
	mac := hmac.New(sha256.New, []byte(key))
	for _, name := range slices.Sorted(maps.Keys(form)) {
		io.WriteString(mac, name+";"+form.Get(name)+";")
	}
	return strings.ToUpper(hex.EncodeToString(mac.Sum(nil)))
}

// TestForgedCallbacks: a payer stands at his bank's page, and somebody sends the real program the
// acquirer's callback that the money is there. Nothing of a forged one has any effect; and a good one that
// says more than is true is only a reason to ask the centre, which knows better.
func TestForgedCallbacks(t *testing.T) {
	s := newStage(t)
	var cards []sim.Card
	s.get("/sim/cards", &cards)
	visa := cards[slices.IndexFunc(cards, func(c sim.Card) bool { return c.Scheme == "visa" && c.Behaviour == "ok" })]
	client := s.client()
	state, err := client.Prepare(t.Context(), prepare("forged"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := client.Prepare(t.Context(), prepare("another"))
	if err != nil {
		t.Fatal(err)
	}
	for _, uuid := range []string{state.PaymentUUID, other.PaymentUUID} {
		if _, err := client.Pay(t.Context(), uuid, holdfast.PayRequest{
			PAN: holdfast.Secret(visa.PAN), Exp: visa.Exp, CVC2: holdfast.Secret(visa.CVC), Method: "bank_card", CardHolderName: "A PAYER",
		}); err != nil {
			t.Fatal(err)
		}
	}
	before := s.stored(state.PaymentUUID)
	if before.State != payment.Challenged || before.Open == nil {
		t.Fatalf("the payer is not at his bank: %s, open %+v", before.State, before.Open)
	}
	books := s.books()
	good := func() url.Values {
		return url.Values{"orderNumber": {before.Open.Ref}, "mdOrder": {before.Attempt.Challenge.CentreID}, "operation": {"deposited"}, "status": {"1"}, "amount": {"100000"}}
	}
	signed := func(form url.Values, key string) url.Values {
		form.Set("checksum", signCallback(key, form))
		return form
	}
	changed := func(name, value string) url.Values { // after it was signed
		form := signed(good(), simLogin)
		form.Set(name, value)
		return form
	}
	another := func() url.Values { // the checksum is that of another order's
		form := good()
		form.Set("orderNumber", s.stored(other.PaymentUUID).Open.Ref)
		sum := signed(form, simLogin).Get("checksum")
		form = good()
		form.Set("checksum", sum)
		return form
	}
	twice := signed(good(), simLogin)
	twice.Add("orderNumber", "1_2_3")
	sewn := url.Values{"a": {"b;orderNumber;" + before.Open.Ref}, "mdOrder": good()["mdOrder"]}
	forged := map[string]url.Values{
		"without a checksum": good(), "with an empty checksum": changed("checksum", ""), "with no hex in it": changed("checksum", "zz"),
		"with zeros for a checksum": changed("checksum", strings.Repeat("0", 64)), "with half a checksum": changed("checksum", signCallback(simLogin, good())[:32]),
		"signed with another key": signed(good(), "another"), "signed with no key": signed(good(), ""), "signed with the shop's secret": signed(good(), s.shop.Secret),
		"signed with the unique_key": signed(good(), s.shop.UniqueKey), "with another operation": changed("operation", "reversed"), "with another sum": changed("amount", "1"),
		"with one more parameter": changed("b", "c"), "with another order's checksum": another(), "with the order twice": twice, "sewn together": signed(sewn, simLogin),
	}
	post := func(form url.Values) int {
		t.Helper()
		res, err := http.PostForm(client.BaseURL+"/"+callbackElement+"/bank_card", form)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	for what, form := range forged {
		if status := post(form); status < 400 || status >= 500 {
			t.Errorf("a callback %s: HTTP %d", what, status)
		}
		if res, err := http.Get(client.BaseURL + "/" + callbackElement + "/bank_card?" + form.Encode()); err != nil || res.StatusCode < 400 || res.StatusCode >= 500 {
			t.Errorf("a callback %s, by GET: %v, %v", what, res, err)
		} else {
			res.Body.Close()
		}
	}
	// Not even a question was asked because of them.
	if diff := cmp.Diff(before, s.stored(state.PaymentUUID)); diff != "" {
		t.Errorf("forged callbacks have changed the payment:\n%s", diff)
	}
	// A good one is a reason to ask, and what it claims is not so.
	if status := post(signed(good(), simLogin)); status != http.StatusOK {
		t.Errorf("a good callback: HTTP %d", status)
	}
	after := s.stored(state.PaymentUUID)
	if after.State != payment.Challenged || after.Held.Positive() || after.Captured.Positive() || after.Open == nil || after.Open.Asks <= before.Open.Asks {
		t.Errorf("after a callback that claims what is not so it is %s with %s held, asked %d times (before %d)", after.State, after.Held, after.Open.Asks, before.Open.Asks)
	}
	if diff := cmp.Diff(books, s.books()); diff != "" {
		t.Errorf("money has moved at the centre:\n%s", diff)
	}
	t.Logf("figures: callbacks: %d forged callbacks, by POST and GET: 0 had an effect", len(forged))
}

// TestForgedCallbacksByTheSimulatorsKey: beside a real acquirer a simulator is connected for test payments. Everybody knows how
// that one signs, and of a real payment nobody hears anything by it, nor has the acquirer asked.
func TestForgedCallbacksByTheSimulatorsKey(t *testing.T) {
	const acquirersKey = "key of the acquirer"
	s := newStage(t)
	s.kill()
	err := s.data().onServingStore(func(st *store.Store, v *vault.Vault) (err error) {
		s.shop, err = createShop(t.Context(), st, v, "Real", &settingFlags{Live: new(true)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.env = []string{
		"HOLDFAST_BANK_URL=" + s.sim.URL + "/rbs", "HOLDFAST_BANK_LOGIN=" + simLogin, "HOLDFAST_BANK_PASSWORD=" + simLogin, "HOLDFAST_BANK_CALLBACK_KEY=" + acquirersKey,
	}
	s.start()
	var cards []sim.Card
	s.get("/sim/cards", &cards)
	visa := cards[slices.IndexFunc(cards, func(c sim.Card) bool { return c.Scheme == "visa" && c.Behaviour == "ok" })]
	for _, c := range []struct {
		test        bool
		key         string
		want        int
		isAReasonTo bool
	}{
		{false, simLogin, http.StatusNotFound, false}, {false, acquirersKey, http.StatusOK, true},
		{true, acquirersKey, http.StatusNotFound, false}, {true, simLogin, http.StatusOK, true},
	} {
		terms := prepare("by " + c.key + map[bool]string{true: ", a test"}[c.test])
		terms.Test = holdfast.Flag(c.test)
		state, err := s.client().Prepare(t.Context(), terms)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.client().Pay(t.Context(), state.PaymentUUID, holdfast.PayRequest{
			PAN: holdfast.Secret(visa.PAN), Exp: visa.Exp, CVC2: holdfast.Secret(visa.CVC), Method: "bank_card", CardHolderName: "A PAYER",
		}); err != nil {
			t.Fatal(err)
		}
		before := s.stored(state.PaymentUUID)
		form := url.Values{"orderNumber": {before.Open.Ref}, "mdOrder": {before.Attempt.Challenge.CentreID}, "operation": {"deposited"}, "status": {"1"}}
		form.Set("checksum", signCallback(c.key, form))
		res, err := http.PostForm(s.client().BaseURL+"/"+callbackElement+"/bank_card", form)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		after := s.stored(state.PaymentUUID)
		if asked := after.Version != before.Version; res.StatusCode != c.want || asked != c.isAReasonTo {
			t.Errorf("news of a payment (test %t) signed by %q: HTTP %d, the centre was asked: %t", c.test, c.key, res.StatusCode, asked)
		}
	}
}

// books is what has moved at the centre.
func (s *stage) books() (moved []sim.Operation) {
	s.t.Helper()
	res, err := http.Get(s.sim.URL + "/sim/books")
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	var books sim.Books
	if err := json.NewDecoder(res.Body).Decode(&books); err != nil {
		s.t.Fatal(err)
	}
	return books.Operations
}
