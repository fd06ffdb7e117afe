package rbs_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"holdfast/internal/payment"
	"holdfast/internal/processor/processortest"
	"holdfast/internal/processor/rbs"
	"holdfast/internal/sim"
)

const callbackKey rbs.Secret = "hunter2-of-callbacks"

func sign(key, signed string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(signed))
	return strings.ToUpper(hex.EncodeToString(mac.Sum(nil)))
}

// told is a callback as the acquirer's gateway sends it.
func told() url.Values {
	return url.Values{
		"orderNumber": {ref}, "mdOrder": {mdOrder}, "operation": {"approved"}, "status": {"1"}, "amount": {"100000"}, "sign_alias": {"a key"},
		"checksum": {sign(string(callbackKey), "amount;100000;mdOrder;"+mdOrder+";operation;approved;orderNumber;"+ref+";status;1;")},
	}
}

func TestVerifyCallback(t *testing.T) {
	for name, test := range map[string]struct {
		change func(url.Values)
		err    error
	}{
		"as it came":        {func(url.Values) {}, nil},
		"another alias":     {func(v url.Values) { v.Set("sign_alias", "another") }, nil},
		"no alias":          {func(v url.Values) { v.Del("sign_alias") }, nil},
		"lower case":        {func(v url.Values) { v.Set("checksum", strings.ToLower(v.Get("checksum"))) }, nil},
		"another status":    {func(v url.Values) { v.Set("status", "0") }, rbs.ErrForged},
		"another order":     {func(v url.Values) { v.Set("orderNumber", ref+"1") }, rbs.ErrForged},
		"one more":          {func(v url.Values) { v.Set("x", "y") }, rbs.ErrForged},
		"one less":          {func(v url.Values) { v.Del("amount") }, rbs.ErrForged},
		"one twice":         {func(v url.Values) { v.Add("orderNumber", "1795426200000_5521") }, rbs.ErrForged},
		"one twice, before": {func(v url.Values) { v["mdOrder"] = []string{transID, mdOrder} }, rbs.ErrForged},
		"one without value": {func(v url.Values) { v["status"] = nil }, rbs.ErrForged},
		"too long":          {func(v url.Values) { v.Set("x", strings.Repeat("y", 1<<20)) }, rbs.ErrForged},
		"no checksum":       {func(v url.Values) { v.Del("checksum") }, rbs.ErrUnsigned},
		"empty checksum":    {func(v url.Values) { v.Set("checksum", "") }, rbs.ErrUnsigned},
		"short checksum":    {func(v url.Values) { v.Set("checksum", v.Get("checksum")[:62]) }, rbs.ErrUnsigned},
		"two checksums":     {func(v url.Values) { v.Add("checksum", v.Get("checksum")) }, rbs.ErrUnsigned},
		"no hexadecimal":    {func(v url.Values) { v.Set("checksum", strings.Repeat("g", 64)) }, rbs.ErrUnsigned},
		"many":              {func(v url.Values) { addMany(v) }, rbs.ErrUnsigned},
		"another key's":     {func(v url.Values) { v.Set("checksum", sign("hunter3", "status;1;")) }, rbs.ErrForged},
		"no order":          {func(v url.Values) { v.Del("orderNumber"); v.Del("mdOrder"); resign(v) }, rbs.ErrNoOrder},
		"no number":         {func(v url.Values) { v.Del("orderNumber"); resign(v) }, rbs.ErrNoOrder},
		"no name":           {func(v url.Values) { v.Del("mdOrder"); resign(v) }, rbs.ErrNoOrder},
		"sewn of two":       {func(v url.Values) { v.Set("mdOrder", mdOrder+";operation;approved"); v.Del("operation") }, rbs.ErrNoOrder},
		"sewn, to its limit": {func(v url.Values) {
			v.Set("mdOrder", mdOrder+";operation;approved;orderNumber;"+ref)
			v.Del("operation")
			v.Del("orderNumber")
		}, rbs.ErrNoOrder},
	} {
		v := told()
		test.change(v)
		number, md, err := rbs.VerifyCallback(callbackKey, v)
		if !errors.Is(err, test.err) || err == nil && (number != ref || md != mdOrder) || err != nil && (number != "" || md != "") {
			t.Errorf("%s: %q %q %v, want %v", name, number, md, err, test.err)
		}
	}
	if _, _, err := rbs.VerifyCallback("", func() url.Values { v := told(); v.Set("checksum", sign("", "x;")); return v }()); !errors.Is(err, rbs.ErrUnsigned) {
		t.Errorf("without a key: %v", err)
	}
	if _, _, err := rbs.VerifyCallback(callbackKey, nil); !errors.Is(err, rbs.ErrUnsigned) {
		t.Errorf("nothing: %v", err)
	}
}

func addMany(v url.Values) {
	for i := range 100 {
		v.Set(fmt.Sprint(i), "")
	}
}

func resign(v url.Values) {
	signed := ""
	for _, name := range []string{"amount", "mdOrder", "operation", "orderNumber", "status"} {
		if v.Has(name) {
			signed += name + ";" + v.Get(name) + ";"
		}
	}
	v.Set("checksum", sign(string(callbackKey), signed))
}

// FuzzVerifyCallback: nobody finds a callback that is believed and is not the one that was signed.
func FuzzVerifyCallback(f *testing.F) {
	f.Add(told().Encode())
	f.Fuzz(func(t *testing.T, query string) {
		v, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		if number, md, err := rbs.VerifyCallback(callbackKey, v); err == nil && (number != ref || md != mdOrder) {
			t.Errorf("believed: %q %q", number, md)
		}
	})
}

// TestCallbacksOfTheSimulator: what the acquirer's gateway sends is believed, by GET and by POST, and what
// somebody has changed is not.
func TestCallbacksOfTheSimulator(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		heard := make(chan url.Values, 8)
		shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := r.ParseForm(); err != nil || r.Method != method {
				t.Errorf("%s %v", r.Method, err)
			}
			heard <- r.Form
		}))
		defer shop.Close()
		c := newCentre(t, 10*time.Second, sim.Config{CallbackURL: shop.URL, CallbackMethod: method, CallbackKey: string(callbackKey)})
		hear := func() url.Values {
			t.Helper()
			select {
			case v := <-heard:
				return v
			case <-time.After(10 * time.Second):
				t.Fatal("no callback came")
				return nil
			}
		}
		card := c.cards(behaviours[processortest.Frictionless]...)[0]
		pay := func(ref string) payment.Answer {
			t.Helper()
			q := question(payment.OpHold, payment.Send)
			q.Card, q.Operation.Ref, q.Operation.SentAt, q.ExpiresAt = card, ref, c.clock.Now(), c.clock.Now().Add(time.Hour)
			q.HoldUntil = time.Time{}
			a := c.connector.Ask(t.Context(), q)
			q.Operation.Ask, q.Card, q.Attempt.Centre = payment.Continue, payment.Card{}, a.Centre
			q.Attempt.Challenge = &payment.Challenge{CentreID: a.CentreID, Step: a.Step, URL: a.URL, Data: a.Data}
			if a = c.connector.Ask(t.Context(), q); a.Outcome != payment.Approved {
				t.Fatalf("%+v", a)
			}
			return a
		}
		a := pay("1795426200000_5520")
		v := hear()
		if number, md, err := rbs.VerifyCallback(callbackKey, v); err != nil || number != "1795426200000_5520" || md != a.Centre.Hold {
			t.Errorf("%q %q %v of %v", number, md, err, v)
		}
		if err := c.sim.AddFault(sim.Fault{Method: "rbs.callback", Name: "callback_forged"}); err != nil {
			t.Fatal(err)
		}
		pay("1795426200000_5521")
		if _, _, err := rbs.VerifyCallback(callbackKey, hear()); !errors.Is(err, rbs.ErrForged) {
			t.Errorf("a forged callback: %v", err)
		}
	}
}
