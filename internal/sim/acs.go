package sim

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// 3-D Secure 2 (docs/processors.md §3.3) as the payer's browser sees it: the 3DS server of the acquirer, the directory and the
// issuer's access control server (ACS) are all in this program, so AReq, ARes and RReq are calls of functions and no
// messages. What the browser carries is real:
//
//   - threeDSMethodData, base64url JSON, posted to /acs/method from a hidden frame; the page there posts it back, with the
//     id alone, to the threeDSMethodNotificationURL. It says no more than that the browser has been there.
//   - creq, base64url JSON, posted to /acs/challenge with a threeDSSessionData of the caller's choice. The bank's page asks
//     for the code that it has sent by SMS: three tries, three more messages, or the payer gives up.
//   - cres, base64url JSON, posted with the same threeDSSessionData to threeDSVer2FinishUrl, by a form that a script sends
//     and a person can. A cres is never read here: what the ACS has told the directory (RReq) is authentication.result,
//     which no browser can reach, and finish3dsVer2Payment.do goes by that.
//
// A challenge that was passed, failed or given up is over: sending its form again, or going back, shows the same way out.

const (
	threeDSVersion   = "2.2.0"
	maxCodeTries     = 3
	maxCodeMessages  = 4 // the first and three more
	maxSessionData   = 2048
	maxACSBody       = 16 << 10
	noticeOfMethod   = "threeDSMethodData"
	challengeSession = "threeDSSessionData"
)

// authentication is one attempt to find out who pays. Guarded by Sim.mu.
type authentication struct {
	serverID, acsID      uuid
	finishURL, notifyURL string
	codeMillis           int64 // the code is good until then
	code                 uint32
	messages, wrong      uint8
	result               byte // RReq's transStatus, Y or N; 0 until the ACS knows
}

type methodData struct {
	NotificationURL string `json:"threeDSMethodNotificationURL,omitempty"`
	ServerTransID   string `json:"threeDSServerTransID"`
}

type creq struct {
	ServerTransID string `json:"threeDSServerTransID"`
	Type          string `json:"messageType"`
	Version       string `json:"messageVersion"`
	ACSTransID    string `json:"acsTransID"`
	Window        string `json:"challengeWindowSize,omitempty"`
}

type cres struct {
	ServerTransID string `json:"threeDSServerTransID"`
	ACSTransID    string `json:"acsTransID"`
	Completed     string `json:"challengeCompletionInd"`
	Type          string `json:"messageType"`
	Version       string `json:"messageVersion"`
	TransStatus   string `json:"transStatus"`
}

// packed writes a message as browsers carry it.
func packed(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "" // structs of strings always have a JSON form
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// unpack reads a message; some write it with padding.
func unpack(text string, v any) bool {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	return err == nil && json.Unmarshal(b, v) == nil
}

// begin3DS makes an order's authentication. The caller holds mu.
func (s *Sim) begin3DS(o *order, finishURL, notifyURL, base string) {
	if finishURL == "" {
		finishURL = o.returnURL
	}
	if notifyURL == "" {
		notifyURL = base + "/rbs/3ds/notification"
	}
	o.secure = &authentication{serverID: s.newUUID(), acsID: s.newUUID(), finishURL: finishURL, notifyURL: notifyURL}
	n := s.orders.byUUID[o.id]
	s.orders.byUUID[o.secure.serverID], s.orders.byUUID[o.secure.acsID] = n, n
}

func acsTransID(o *order) uuid {
	if o.secure == nil {
		return uuid{}
	}
	return o.secure.acsID
}

//go:embed acs.html
var acsHTML string

var acsTemplates = template.Must(template.New("").Funcs(template.FuncMap{"sum": sum}).Parse(acsHTML))

// acsScript sends the one form of a page that is only there to be sent.
const acsScript = `document.forms[0].submit()`

// acsPolicy lets acsScript run and nothing else. The pages may stand in a frame of the shop's, as 3-D Secure has it, and
// their forms may go to any shop.
var acsPolicy = func() string {
	hash := sha256.Sum256([]byte(acsScript))
	return "default-src 'none'; style-src 'self'; base-uri 'none'; script-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'"
}()

// acsPage is what the pages show.
type acsPage struct {
	Title, Problem   string
	Action           string // where the form goes
	Fields           []rbsAttribute
	Script           template.JS
	Scheme, Shop     string
	Amount           int64
	Currency, Masked string
	Phone            string
	Tries, Messages  int // left
}

func (s *Sim) showACS(w http.ResponseWriter, status int, name string, p acsPage) {
	p.Script = acsScript
	var b bytes.Buffer
	if err := acsTemplates.ExecuteTemplate(&b, name, p); err != nil {
		s.log.Error("cannot draw a page", "page", name, "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h["Content-Type"] = htmlType
	h.Set("Content-Security-Policy", acsPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	s.write(w, b.Bytes())
}

// secure serves what browsers meet. These forms come from other sites by design; what they may do hangs on ids that only
// the payer's browser has been given.
func (s *Sim) secure(mux *http.ServeMux) {
	form := func(pattern string, serve func(http.ResponseWriter, *http.Request)) {
		mux.HandleFunc("POST "+pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxACSBody)
			if err := r.ParseForm(); err != nil {
				s.strangePage(w, "This form cannot be read.")
				return
			}
			serve(w, r)
		})
	}
	form("/acs/method", s.acsMethod)
	form("/acs/challenge", s.acsChallenge)
	form("/acs/code", s.acsCode)
	empty := func(w http.ResponseWriter, r *http.Request) { s.showACS(w, http.StatusOK, "empty", acsPage{}) }
	mux.HandleFunc("/rbs/3ds/gather", empty) // the 3DS server's own look at the browser
	mux.HandleFunc("/rbs/3ds/notification", empty)
	mux.HandleFunc("GET /rbs/payment", func(w http.ResponseWriter, r *http.Request) {
		s.showACS(w, http.StatusOK, "message", acsPage{Title: "No card page here", Problem: "This simulator's acquirer takes cards from the shop's gateway (paymentorder.do)."})
	})
}

func (s *Sim) strangePage(w http.ResponseWriter, problem string) {
	s.showACS(w, http.StatusBadRequest, "message", acsPage{Title: "This did not work", Problem: problem})
}

// acsMethod is the page of a hidden frame: it learns about the browser, and says when it has.
func (s *Sim) acsMethod(w http.ResponseWriter, r *http.Request) {
	var data methodData
	if !unpack(r.PostFormValue(noticeOfMethod), &data) {
		s.strangePage(w, "threeDSMethodData cannot be read.")
		return
	}
	s.mu.Lock()
	s.clock()
	o := s.orderBy(data.ServerTransID, serverTransID)
	notify := ""
	if o != nil && o.card.behaviour.secure != methodSilent {
		notify = o.secure.notifyURL
	}
	s.mu.Unlock()
	if notify == "" {
		s.showACS(w, http.StatusOK, "empty", acsPage{})
		return
	}
	s.showACS(w, http.StatusOK, "send", acsPage{
		Title: "One moment", Action: notify, Fields: []rbsAttribute{{noticeOfMethod, packed(methodData{ServerTransID: data.ServerTransID})}},
	})
}

// acsChallenge is where the payer's browser arrives: the bank's page, and the code on its way.
func (s *Sim) acsChallenge(w http.ResponseWriter, r *http.Request) {
	var q creq
	session := r.PostFormValue(challengeSession)
	if !unpack(r.PostFormValue("creq"), &q) || q.Type != "CReq" || len(session) > maxSessionData {
		s.strangePage(w, "creq cannot be read.")
		return
	}
	s.mu.Lock()
	now := s.clock()
	o := s.orderBy(q.ACSTransID, acsTransID)
	if o == nil || o.secure.serverID.String() != q.ServerTransID || o.ares != 'C' {
		s.mu.Unlock()
		s.strangePage(w, "The bank does not know of this payment.")
		return
	}
	if o.secure.messages == 0 && o.stage == atChallenge {
		s.sendACSCode(o, now)
	}
	name, page := s.acsView(o, session, "")
	s.mu.Unlock()
	s.showACS(w, http.StatusOK, name, page)
}

// sendACSCode sends the card's holder a code. The caller holds mu.
func (s *Sim) sendACSCode(o *order, now time.Time) {
	o.secure.messages++
	id := s.sendCode(o.card, now)
	sent, _ := s.otps.find(id) // it was kept a moment ago
	o.secure.code, o.secure.codeMillis = sent.code, sent.expiresMillis
}

// acsCode takes the form of the bank's page: the code, the wish for another, or the end.
func (s *Sim) acsCode(w http.ResponseWriter, r *http.Request) {
	session := r.PostFormValue(challengeSession)
	s.mu.Lock()
	now := s.clock()
	o := s.orderBy(r.PostFormValue("transaction"), acsTransID)
	if o == nil || o.ares != 'C' || len(session) > maxSessionData {
		s.mu.Unlock()
		s.strangePage(w, "The bank does not know of this payment.")
		return
	}
	problem, gone := "", false
	t := o.secure
	if o.stage == atChallenge && t.result == 0 {
		code := []byte(strings.Join(strings.Fields(r.PostFormValue("code")), ""))
		right := (&otpRequest{code: t.code}).is(code) && o.card.behaviour.secure != challengeFails
		switch do := r.PostFormValue("do"); {
		case do == "cancel":
			t.result = 'N'
		case do == "resend" && t.messages >= maxCodeMessages:
			problem = "No more messages are sent for this payment."
		case do == "resend":
			s.sendACSCode(o, now)
		case now.UnixMilli() >= t.codeMillis:
			problem = "This code has expired. Ask for a new one."
		case right && o.card.behaviour.secure == abandoned:
			gone = true
		case right:
			t.result = 'Y'
		default:
			if t.wrong++; t.wrong >= maxCodeTries {
				t.result = 'N'
				break
			}
			problem = "This code is not right."
		}
	}
	name, page := s.acsView(o, session, problem)
	s.mu.Unlock()
	if gone {
		s.showACS(w, http.StatusOK, "message", acsPage{
			Title: "The payer has gone", Problem: "This card's holder never comes back from here: the payment session will end by itself.",
		})
		return
	}
	s.showACS(w, http.StatusOK, name, page)
}

// acsView is the page that a payer sees now: the bank's, or the way out. The caller holds mu.
func (s *Sim) acsView(o *order, session, problem string) (name string, p acsPage) {
	t := o.secure
	if o.stage == atChallenge && t.result == 0 {
		return "code", acsPage{
			Title: "Confirm your payment", Problem: problem, Action: "/acs/code",
			Fields: []rbsAttribute{{"transaction", t.acsID.String()}, {challengeSession, session}},
			Scheme: o.card.scheme, Shop: s.rbsLogin, Amount: o.amount, Currency: currencyName[o.currency], Masked: masked(o.card.pan),
			Phone: maskedPhone(o.card.phone), Tries: maxCodeTries - int(t.wrong), Messages: maxCodeMessages - int(t.messages),
		}
	}
	status := "N"
	if t.result == 'Y' {
		status = "Y"
	}
	fields := []rbsAttribute{{"cres", packed(cres{
		ServerTransID: t.serverID.String(), ACSTransID: t.acsID.String(), Completed: "Y", Type: "CRes", Version: threeDSVersion, TransStatus: status,
	})}}
	if session != "" {
		fields = append(fields, rbsAttribute{challengeSession, session})
	}
	return "send", acsPage{Title: "Back to the shop", Action: t.finishURL, Fields: fields}
}

var currencyName = map[string]string{"860": "UZS", "840": "USD", "643": "RUB", "978": "EUR"}

// Host is where a way out leads, for people.
func (p acsPage) Host() string {
	u, err := url.Parse(p.Action)
	if err != nil {
		return ""
	}
	return u.Host
}
