package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/demo"
	"holdfast/internal/sim"
	"holdfast/internal/store"
	"holdfast/internal/vault"
)

// canaries are what must be found nowhere, each in every form that a careless line of code may give it.
type canaries struct {
	what  map[string]string   // by the form
	start map[string][]string // the forms, by their first startBytes
	codes map[string]bool     // one-time codes: too short to be looked for but as whole numbers
}

const startBytes = 10

func newCanaries() *canaries {
	return &canaries{what: make(map[string]string), start: make(map[string][]string), codes: make(map[string]bool)}
}

func (c *canaries) add(what, secret string) {
	forms := map[string]string{
		"": secret, "upper case": strings.ToUpper(secret), "hex": hex.EncodeToString([]byte(secret)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(secret))),
		"url-encoded": url.QueryEscape(secret), "JSON": strconv.Quote(secret)[1 : len(strconv.Quote(secret))-1],
	}
	// In base64 a text looks differently at each of three places; its inner part is the same whatever is around it.
	for shift := range 3 {
		for name, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			text := encoding.EncodeToString([]byte(strings.Repeat("x", shift) + secret))
			forms[fmt.Sprint(name, shift)] = text[(shift*8+5)/6 : len(text)-1]
		}
	}
	if digits := strings.Trim(secret, "0123456789") == ""; digits && len(secret) == 16 {
		for name, gap := range map[string]string{"spaced": " ", "dashed": "-", "url-spaced": "%20", "plus-spaced": "+", "dotted": "."} {
			forms[name] = secret[:4] + gap + secret[4:8] + gap + secret[8:12] + gap + secret[12:]
		}
		forms["percent-encoded"] = regexp.MustCompile(`\d`).ReplaceAllString(secret, "%3$0")
	}
	for name, form := range forms {
		if _, there := c.what[form]; there || len(form) < startBytes {
			continue
		}
		c.what[form] = strings.TrimSpace(what + " " + name)
		c.start[form[:startBytes]] = append(c.start[form[:startBytes]], form)
	}
}

var wholeNumber = regexp.MustCompile(`[0-9A-Za-z]+`)

// scan is what of the canaries is in a text.
func (c *canaries) scan(text []byte) (found []string) {
	for i := 0; i+startBytes <= len(text); i++ {
		for _, form := range c.start[string(text[i:i+startBytes])] {
			if bytes.HasPrefix(text[i:], []byte(form)) {
				found = append(found, fmt.Sprintf("%s: …%q…", c.what[form], text[max(0, i-40):min(len(text), i+len(form)+40)]))
			}
		}
	}
	for _, at := range wholeNumber.FindAllIndex(text, -1) {
		if c.codes[string(text[at[0]:at[1]])] {
			found = append(found, fmt.Sprintf("a code: …%q…", text[max(0, at[0]-40):min(len(text), at[1]+40)]))
		}
	}
	return found
}

// The scan finds what it is to find.
func TestCanaryScan(t *testing.T) {
	c := newCanaries()
	c.add("a card", "8600495473316478")
	c.add("a secret", "24c5ec66-ae32-4db5-bee6-0ae5c47067a1")
	c.codes["482913"] = true
	for _, text := range []string{
		`{"pan":"8600495473316478"}`, "8600 4954 7331 6478", "8600-4954-7331-6478", "pan=8600%204954%207331%206478", hex.EncodeToString([]byte("a8600495473316478b")),
		base64.StdEncoding.EncodeToString([]byte(`8600495473316478`)), base64.StdEncoding.EncodeToString([]byte(`{8600495473316478}`)), base64.URLEncoding.EncodeToString([]byte(`{"8600495473316478"}`)),
		"secret=24c5ec66-ae32-4db5-bee6-0ae5c47067a1", "24C5EC66-AE32-4DB5-BEE6-0AE5C47067A1", base64.StdEncoding.EncodeToString([]byte(`x: 24c5ec66-ae32-4db5-bee6-0ae5c47067a1`)),
		`"smsKey":"482913"`, "code 482913.", "%38%36%30%30%34%39%35%34%37%33%33%31%36%34%37%38",
	} {
		if len(c.scan([]byte("before "+text+" after"))) == 0 {
			t.Errorf("it is not found in %s", text)
		}
	}
	for _, text := range []string{"860049** **** 6478", "1482913", "48291", "0ae5c47067a1", "a482913"} {
		if found := c.scan([]byte(text)); len(found) > 0 {
			t.Errorf("in %s it finds %v", text, found)
		}
	}
}

// uniqueCard is a number of a scheme's range that no other payment has, with its check digit.
func uniqueCard(prefix string, n int) string {
	body := fmt.Sprintf("%s%0*d", prefix, 15-len(prefix), 7_000_000+n)
	sum := 0
	for i := range 15 {
		d := int(body[14-i] - '0')
		if i%2 == 0 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return body + strconv.Itoa((10-sum%10)%10)
}

// TestCanaries plays payments of all schemes through the real program, with its log at its most talkative and
// kill -9 in between, and then looks for card numbers, CVC, codes and secrets in every byte of the data
// directory and of the log. CANARIES sets how many payments (make canary).
func TestCanaries(t *testing.T) {
	payments := 60
	if text := os.Getenv("CANARIES"); text != "" {
		var err error
		if payments, err = strconv.Atoi(text); err != nil {
			t.Fatalf("CANARIES=%q is not a number", text)
		}
	}
	logFile, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer logFile.Close()
	s := newStageLogging(t, "debug", logFile)
	s.kill()
	var hasty createdShop
	err = s.data().onServingStore(func(st *store.Store, v *vault.Vault) (err error) {
		hasty, err = createShop(t.Context(), st, v, "Hasty", &settingFlags{Live: new(true), Fee: []string{"2%"}, Hold: []string{walkHold.String()}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	look := newCanaries()
	for _, shop := range []createdShop{s.shop, hasty} {
		look.add("octo_secret", shop.Secret)
		look.add("unique_key", shop.UniqueKey)
	}
	var cards []sim.Card
	s.get("/sim/cards", &cards)
	for _, c := range cards {
		look.add("a card number", c.PAN)
	}
	method := map[string]string{"uzcard": "uzcard", "humo": "humo", "visa": "bank_card", "mastercard": "bank_card"}
	prefix := map[string]string{"uzcard": "860014", "humo": "986014", "visa": "400000", "mastercard": "555555"}
	schemes := []string{"uzcard", "humo", "visa", "mastercard"}
	ends := make(map[string]int)
	ctx := t.Context()
	for i := range payments {
		if i%(payments/4+1) == payments/8 {
			s.restart()
		}
		client := s.client()
		scheme := schemes[i%4]
		state, err := client.Prepare(ctx, prepare(fmt.Sprint("canary-", i)))
		if err != nil {
			t.Fatal(err)
		}
		try := func(pan, exp, cvc string) (*holdfast.PaymentEntity, error) {
			return client.Pay(ctx, state.PaymentUUID, holdfast.PayRequest{PAN: holdfast.Secret(pan), Exp: exp, CVC2: holdfast.Secret(cvc), Method: method[scheme], CardHolderName: "A PAYER"})
		}
		// A card of its own, which the centre does not know, with a CVC that is easy to find; and slips of the pen.
		own, cvc := uniqueCard(prefix[scheme], i), fmt.Sprintf("CVC-canary-%06d", i)
		look.add("a card number", own)
		look.add("a CVC", cvc)
		exp := cards[0].Exp
		for _, wrong := range []struct{ pan, exp, cvc string }{{own, exp, cvc}, {own[:15], exp, "987"}, {own, "2001", cvc}, {own, exp, "987"}} {
			if _, err := try(wrong.pan, wrong.exp, wrong.cvc); err == nil {
				ends["taken that ought not be"]++
			}
		}
		// And one of the centre's, of every behaviour in turn.
		var mine []sim.Card
		for _, c := range cards {
			if c.Scheme == scheme {
				mine = append(mine, c)
			}
		}
		card := mine[(i/4*7+1)%len(mine)]
		entity, err := try(card.PAN, card.Exp, card.CVC)
		if err != nil {
			ends[scheme+" refused"]++
			continue
		}
		if method[scheme] == "bank_card" {
			ends[scheme+" at the bank"]++
			if i%8 == 2 {
				s.restart()
			}
			continue
		}
		info, err := client.VerificationInfo(ctx, state.PaymentUUID)
		if err != nil {
			t.Fatal(err)
		}
		code := string(s.code(simCard{Phone: card.Phone}))
		wrong := fmt.Sprintf("97%06d", i) // eight digits, so that it is nothing else
		look.codes[code], look.codes[wrong] = true, true
		for _, key := range []string{wrong, code} {
			if _, err = client.CheckSMSKey(ctx, holdfast.CheckSMSKeyRequest{SMSKey: holdfast.Secret(key), PaymentID: entity.ID, VerifyID: info.VerifyID}); err == nil {
				ends[scheme+" held"]++
				client.Accept(ctx, holdfast.AcceptRequest{PaymentUUID: state.PaymentUUID, AcceptStatus: holdfast.AcceptCapture, FinalAmount: "5.00"}) // whatever comes of it
			}
		}
	}
	if os.Getenv("CANARIES") != "" { // 3-D Secure to its end, refunds, deadlines: all flows of the seed
		var story bytes.Buffer
		if err := demo.Walk(ctx, demo.WalkConfig{
			Gateway: s.client().BaseURL, Sim: s.sim.URL, Credentials: credentials(s.shop), ShortHold: credentials(hasty), ShortHoldTime: walkHold,
			Methods: []string{"uzcard", "humo", "bank_card"},
		}, &story); err != nil {
			t.Errorf("the walk: %v", err)
		}
		ends["flows walked"] = strings.Count(story.String(), "All flows")
	}
	var messages []sim.Message
	s.get("/sim/sms?limit=20000", &messages)
	firsts := make(map[string]bool)
	for _, c := range cards {
		firsts[c.PAN[:6]] = true
	}
	for _, m := range messages {
		look.codes[m.Code] = true
	}
	for first := range firsts {
		delete(look.codes, first) // the first six digits of a card may be kept
	}
	s.kill()

	looked, files := 0, 0
	scan := func(path string) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		looked += len(content)
		files++
		for i, found := range look.scan(content) {
			if i < 3 {
				t.Errorf("%s has %s", filepath.Base(path), found)
			}
		}
	}
	err = filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			scan(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := logFile.Stat(); err != nil || info.Size() < int64(payments)*1000 {
		t.Errorf("the log has only %d bytes: nothing was looked at", info.Size())
	}
	scan(logFile.Name())
	t.Logf("figures: canary: %d payments, %d kills, %v; %d forms of secrets and %d codes looked for in %d files of %d KB: found 0 times", payments, s.kills, ends, len(look.what), len(look.codes), files, looked>>10)
	for _, must := range []string{"uzcard held", "humo held", "visa at the bank"} {
		if ends[must] == 0 {
			t.Errorf("no payment came to %q", must)
		}
	}
}
