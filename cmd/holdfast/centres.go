package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/gateway"
	"holdfast/internal/payment"
	"holdfast/internal/processor"
	"holdfast/internal/processor/humo"
	"holdfast/internal/processor/rbs"
	"holdfast/internal/processor/svgate"
	"holdfast/internal/store"
	"holdfast/internal/vault"
	"holdfast/internal/web"
)

// centreFlags are the contracts with the real processing centres.
type centreFlags struct {
	Uzcard svgateFlags `embed:"" prefix:"uzcard-" group:"Uzcard (SVGate)"`
	Humo   humoFlags   `embed:"" prefix:"humo-" group:"Humo (PaymentServer)"`
	Bank   rbsFlags    `embed:"" prefix:"bank-" group:"Visa and Mastercard (an acquirer's e-commerce gateway)"`
}

type svgateFlags struct {
	URL      string        `help:"SVGate's address." placeholder:"URL"`
	Login    string        `help:"Login at SVGate." placeholder:"NAME"`
	Password svgate.Secret `help:"Password at SVGate; better given as HOLDFAST_UZCARD_PASSWORD." placeholder:"SECRET"`
	Merchant string        `help:"Merchant id at SVGate." placeholder:"ID"`
	Terminal string        `help:"Terminal id at SVGate." placeholder:"ID"`
	Port     int           `help:"Port of the terminal at SVGate." default:"1"`
}

type humoFlags struct {
	URL             string      `help:"PaymentServer's address." placeholder:"URL"`
	Login           string      `help:"Login at PaymentServer, also the originator of payments." placeholder:"NAME"`
	Password        humo.Secret `help:"Password at PaymentServer; better given as HOLDFAST_HUMO_PASSWORD." placeholder:"SECRET"`
	Merchant        string      `help:"Merchant id at Humo." placeholder:"ID"`
	Terminal        string      `help:"Terminal id at Humo." placeholder:"ID"`
	Point           string      `help:"Point code at Humo." placeholder:"CODE"`
	Centre          string      `help:"Centre id at Humo." placeholder:"ID"`
	MiddlewareURL   string      `help:"Address of the card middleware." placeholder:"URL"`
	MiddlewareToken humo.Secret `help:"Its bearer token." placeholder:"SECRET"`
	OTP             humo.Mode   `name:"otp" help:"Who makes and sends the payer's code: gateway (through --humo-sms-url) or pc." default:"gateway"`
	SMSURL          string      `name:"sms-url" help:"SMS provider: takes a JSON POST of phone and text." placeholder:"URL"`
	SMSToken        humo.Secret `name:"sms-token" help:"Its bearer token." placeholder:"SECRET"`
}

type rbsFlags struct {
	URL         string     `help:"Address of the acquirer's gateway, without /rest/…" placeholder:"URL"`
	Login       string     `help:"Login there." placeholder:"NAME"`
	Password    rbs.Secret `help:"Password there; better given as HOLDFAST_BANK_PASSWORD." placeholder:"SECRET"`
	CallbackKey rbs.Secret `help:"Key of the checksum of its callbacks." placeholder:"SECRET"`
}

// check reports what cannot be before anything is opened.
func (f *centreFlags) check(sim string) error {
	if sim != "" {
		if base, err := url.Parse(sim); err != nil || base.Host == "" {
			return fmt.Errorf("--sim %q is not a complete address such as http://127.0.0.1:8090", sim)
		}
	}
	if sim == "" && f.Uzcard.URL == "" && f.Humo.URL == "" && f.Bank.URL == "" {
		return errors.New("no processing centre is set: use --sim URL for development (start one with holdfast sim), or --uzcard-url, --humo-url, --bank-url")
	}
	return nil
}

// connecting is what connectors need beside their contracts.
type connecting struct {
	sim            string
	doubt          time.Duration
	apiURL, payURL string
	vault          *vault.Vault
	http           *http.Client // what carries the calls
	log            *slog.Logger
}

// centres is what the gateway is connected to.
type centres struct {
	live, test   gateway.Centres
	simulated    bool // every payment goes to a simulator
	callbackKeys []rbs.Secret
}

// What the simulator is told; it takes any merchant and terminal.
const (
	simLogin    = "holdfast"
	simMerchant = "90000001"
	simTerminal = "91000001"
)

// connect makes the connectors: those that lead to the simulator for payments under test, and the
// real ones for real payments. Where nothing real is connected nothing real can happen, and the
// simulator takes all.
func (f centreFlags) connect(with connecting) (c centres, err error) {
	c = centres{live: gateway.Centres{}, test: gateway.Centres{}}
	if err := f.connectTo(c.live, with); err != nil {
		return c, err
	}
	if f.Bank.URL != "" && f.Bank.CallbackKey != "" {
		c.callbackKeys = append(c.callbackKeys, f.Bank.CallbackKey)
	}
	if with.sim != "" {
		if err := simulatedFlags(with.sim, f.Humo.OTP).connectTo(c.test, with); err != nil {
			return c, fmt.Errorf("--sim: %w", err)
		}
		c.callbackKeys = append(c.callbackKeys, simLogin)
	}
	if len(c.live) == 0 {
		c.live, c.simulated = c.test, true
	}
	return c, nil
}

// simulatedFlags are the contracts with the simulator; otp says who makes Humo's codes.
func simulatedFlags(sim string, otp humo.Mode) (f centreFlags) {
	at := func(path string) string { return strings.TrimSuffix(sim, "/") + path }
	f.Uzcard = svgateFlags{URL: at("/svgate"), Login: simLogin, Password: simLogin, Merchant: simMerchant, Terminal: simTerminal, Port: 1}
	f.Humo = humoFlags{
		URL: at("/humo"), Login: simLogin, Password: simLogin, Merchant: simMerchant, Terminal: simTerminal, Point: "100010", Centre: "HOLDFAST",
		MiddlewareURL: at("/humo-middleware"), MiddlewareToken: simLogin, OTP: otp, SMSURL: at("/sms/send"), SMSToken: simLogin,
	}
	f.Bank = rbsFlags{URL: at("/rbs"), Login: simLogin, Password: simLogin, CallbackKey: simLogin}
	return f
}

func (f centreFlags) connectTo(to gateway.Centres, with connecting) error {
	add := func(m payment.Method, p processor.Processor, err error) error {
		if err == nil {
			to[m] = p
		}
		return err
	}
	if u := f.Uzcard; u.URL != "" {
		connector, err := svgate.New(svgate.Config{
			Endpoint: u.URL, Login: u.Login, Password: u.Password, MerchantID: u.Merchant, TerminalID: u.Terminal, Port: u.Port,
			HTTP: with.http, Shown: with.doubt, Log: with.log,
		})
		if err := add(payment.Uzcard, connector, err); err != nil {
			return err
		}
	}
	if h := f.Humo; h.URL != "" {
		key, err := with.vault.Key("humo codes")
		if err != nil {
			return err
		}
		connector, err := humo.New(humo.Config{
			Endpoint: h.URL, Login: h.Login, Password: h.Password, MerchantID: h.Merchant, TerminalID: h.Terminal, PointCode: h.Point, CentreID: h.Centre,
			MiddlewareURL: h.MiddlewareURL, MiddlewareToken: h.MiddlewareToken, OTP: h.OTP, SMSURL: h.SMSURL, SMSToken: h.SMSToken,
			CodeKey: humo.Secret(base64.RawStdEncoding.EncodeToString(key)),
			Seal:    func(plain []byte) ([]byte, error) { return with.vault.Seal(purposeCard, plain) },
			Unseal:  func(sealed []byte) ([]byte, error) { return with.vault.Unseal(purposeCard, sealed) },
			HTTP:    with.http, Shown: with.doubt, Log: with.log,
		})
		if err := add(payment.Humo, connector, err); err != nil {
			return err
		}
	}
	if b := f.Bank; b.URL != "" {
		page := func(below string) func(payment.ID) string {
			return func(id payment.ID) string { return with.payURL + "/3ds/" + id.String() + below }
		}
		connector, err := rbs.New(rbs.Config{
			Endpoint: b.URL, Login: b.Login, Password: b.Password,
			ReturnURL: page("/back"), FinishURL: page("/back"), MethodNotificationURL: page("/method"),
			CallbackURL: with.apiURL + "/" + callbackElement + "/bank_card", HTTP: with.http, Shown: with.doubt, Log: with.log,
		})
		if err := add(payment.BankCard, connector, err); err != nil {
			return err
		}
	}
	return nil
}

const purposeCard = "card"

// callbackElement is the first path element under which processing centres send us news.
const callbackElement = "processor"

// acquirerCallback takes an acquirer's news of an order. It is only a reason to ask: what it says is
// not looked at beyond the order's name, and an unsigned one is refused.
func acquirerCallback(g *gateway.Gateway, s *store.Store, keys []rbs.Secret, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			http.Error(w, "the form cannot be read", http.StatusBadRequest)
			return
		}
		order, signed := "", false
		for _, key := range keys {
			if name, _, err := rbs.VerifyCallback(key, r.Form); err == nil {
				order, signed = name, true
			}
		}
		if !signed {
			http.Error(w, "the checksum is wrong", http.StatusForbidden)
			return
		}
		// The order is named after the operation: creation time, payment number, operation.
		parts := strings.Split(order, "_")
		if len(parts) < 2 {
			http.Error(w, "there is no such order", http.StatusNotFound)
			return
		}
		number, err := strconv.ParseInt(parts[1], 10, 64)
		if err != nil {
			http.Error(w, "there is no such order", http.StatusNotFound)
			return
		}
		p, err := s.PaymentByNumber(r.Context(), number)
		switch {
		case errors.Is(err, store.ErrNotFound):
			http.Error(w, "there is no such order", http.StatusNotFound)
			return
		case err == nil && p.Open != nil && p.Open.Ref == order:
			web.Note(w, p.ID.String())
			_, err = g.Inquire(r.Context(), p.ID)
		}
		if err != nil {
			// It is sent again, and the payment is asked about at its time anyway.
			log.Error("news of an order cannot be followed", "order", order, "error", err)
			http.Error(w, "later", http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusOK)
	})
}
