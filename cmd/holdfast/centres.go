package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"holdfast/internal/gateway"
	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor"
	"holdfast/internal/processor/humo"
	"holdfast/internal/processor/rbs"
	"holdfast/internal/processor/svgate"
	"holdfast/internal/store"
	"holdfast/internal/vault"
	"holdfast/internal/web"
)

// centreFlags are the contracts with the real processing centres: one a method as flags of its own, and
// as many more as there are.
type centreFlags struct {
	Contracts contracts `help:"More contracts with processing centres, as JSON; belongs into the config file (see Contracts)." placeholder:"JSON"`

	Uzcard svgateFlags `embed:"" prefix:"uzcard-" group:"Uzcard (SVGate)"`
	Humo   humoFlags   `embed:"" prefix:"humo-" group:"Humo (PaymentServer)"`
	Bank   rbsFlags    `embed:"" prefix:"bank-" group:"Visa and Mastercard (an acquirer's e-commerce gateway)"`
}

type svgateFlags struct {
	URL      string        `json:"url" help:"SVGate's address." placeholder:"URL"`
	Login    string        `json:"login" help:"Login at SVGate." placeholder:"NAME"`
	Password svgate.Secret `json:"password" help:"Password at SVGate; better given as HOLDFAST_UZCARD_PASSWORD." placeholder:"SECRET"`
	Merchant string        `json:"merchant" help:"Merchant id at SVGate." placeholder:"ID"`
	Terminal string        `json:"terminal" help:"Terminal id at SVGate." placeholder:"ID"`
	Port     int           `json:"port" help:"Port of the terminal at SVGate." default:"1"`
	Service  string        `json:"service-name" name:"service-name" help:"Whose name stands in the SMS with the code, at most 20 characters; default: Holdfast." placeholder:"NAME"`
}

type humoFlags struct {
	URL             string      `json:"url" help:"PaymentServer's address." placeholder:"URL"`
	Login           string      `json:"login" help:"Login at PaymentServer, also the originator of payments." placeholder:"NAME"`
	Password        humo.Secret `json:"password" help:"Password at PaymentServer; better given as HOLDFAST_HUMO_PASSWORD." placeholder:"SECRET"`
	Merchant        string      `json:"merchant" help:"Merchant id at Humo." placeholder:"ID"`
	Terminal        string      `json:"terminal" help:"Terminal id at Humo." placeholder:"ID"`
	Point           string      `json:"point" help:"Point code at Humo." placeholder:"CODE"`
	Centre          string      `json:"centre" help:"Centre id at Humo." placeholder:"ID"`
	MiddlewareURL   string      `json:"middleware-url" help:"Address of the card middleware." placeholder:"URL"`
	MiddlewareToken humo.Secret `json:"middleware-token" help:"Its bearer token." placeholder:"SECRET"`
	OTP             humo.Mode   `json:"otp" name:"otp" help:"Who makes and sends the payer's code: gateway (through --humo-sms-url) or pc." default:"gateway"`
	SMSURL          string      `json:"sms-url" name:"sms-url" help:"SMS provider: takes a JSON POST of phone and text." placeholder:"URL"`
	SMSToken        humo.Secret `json:"sms-token" name:"sms-token" help:"Its bearer token." placeholder:"SECRET"`
}

type rbsFlags struct {
	URL         string           `json:"url" help:"Address of the acquirer's gateway, without /rest/…" placeholder:"URL"`
	Login       string           `json:"login" help:"Login there." placeholder:"NAME"`
	Password    rbs.Secret       `json:"password" help:"Password there; better given as HOLDFAST_BANK_PASSWORD." placeholder:"SECRET"`
	CallbackKey rbs.Secret       `json:"callback-key" help:"Key of the checksum of its callbacks." placeholder:"SECRET"`
	Currency    []money.Currency `json:"currencies" help:"A currency that the acquirer takes (repeatable; default: all)." placeholder:"CODE"`
}

// check reports what cannot be before anything is opened.
func (f *centreFlags) check(sim string) error {
	if err := complete("--sim", sim, "http://127.0.0.1:8090"); err != nil {
		return err
	}
	if err := f.Contracts.err; err != nil {
		return fmt.Errorf("--contracts: %w", err)
	}
	sms := "needed where the gateway makes the codes only"
	if f.Humo.OTP != humo.Centre {
		sms = f.Humo.SMSURL
	}
	for _, need := range []struct{ address, centre, flag, value string }{
		{f.Uzcard.URL, "--uzcard-url", "--uzcard-login", f.Uzcard.Login},
		{f.Uzcard.URL, "--uzcard-url", "--uzcard-password", string(f.Uzcard.Password)},
		{f.Uzcard.URL, "--uzcard-url", "--uzcard-merchant", f.Uzcard.Merchant},
		{f.Uzcard.URL, "--uzcard-url", "--uzcard-terminal", f.Uzcard.Terminal},
		{f.Humo.URL, "--humo-url", "--humo-login", f.Humo.Login},
		{f.Humo.URL, "--humo-url", "--humo-password", string(f.Humo.Password)},
		{f.Humo.URL, "--humo-url", "--humo-merchant", f.Humo.Merchant},
		{f.Humo.URL, "--humo-url", "--humo-terminal", f.Humo.Terminal},
		{f.Humo.URL, "--humo-url", "--humo-centre", f.Humo.Centre},
		{f.Humo.URL, "--humo-url", "--humo-middleware-url", f.Humo.MiddlewareURL},
		{f.Humo.URL, "--humo-url", "--humo-middleware-token", string(f.Humo.MiddlewareToken)},
		{f.Humo.URL, "--humo-url", "--humo-sms-url", sms},
		{f.Bank.URL, "--bank-url", "--bank-login", f.Bank.Login},
		{f.Bank.URL, "--bank-url", "--bank-password", string(f.Bank.Password)},
	} {
		if need.address != "" && need.value == "" {
			return fmt.Errorf("%s goes with %s: give both", need.centre, need.flag)
		}
	}
	if sim == "" && len(f.all()) == 0 {
		return errors.New("no processing centre is set: use --sim URL for development (start one with holdfast sim), or --uzcard-url, --humo-url, --bank-url, --contracts")
	}
	return nil
}

// all are the contracts in the order in which they are looked at: those of --contracts, each of which
// says what it is for, before the ones that take the rest.
func (f *centreFlags) all() []contract {
	all := slices.Clone(f.Contracts.list)
	for _, c := range []contract{
		{Name: string(payment.Uzcard), Method: payment.Uzcard, uzcard: f.Uzcard},
		{Name: string(payment.Humo), Method: payment.Humo, humo: f.Humo},
		{Name: string(payment.BankCard), Method: payment.BankCard, bank: f.Bank},
	} {
		if c.uzcard.URL+c.humo.URL+c.bank.URL != "" {
			all = append(all, c)
		}
	}
	return all
}

// contract is a contract with a processing centre: its name, the payments it takes, and how it is
// reached, as the flags of its method have it.
type contract struct {
	Name   string         `json:"name"`
	Method payment.Method `json:"method"`
	Named  bool           `json:"named"` // only for shops whose route names it

	uzcard svgateFlags // one of the three, by Method
	humo   humoFlags
	bank   rbsFlags
}

// contracts is --contracts: a list of objects in the config file, or its text.
type contracts struct {
	list []contract
	err  error // for check to report: what is wrong with the flag, which holds passwords, is not shown with its value
}

// Decode reads the flag's value (kong.MapperValue).
func (all *contracts) Decode(ctx *kong.DecodeContext) error {
	token, err := ctx.Scan.PopValue("contracts")
	if err != nil {
		return err
	}
	text, ok := token.Value.(string)
	if !ok { // of the config file
		list, err := json.Marshal(token.Value)
		if err != nil {
			return err
		}
		text = string(list)
	}
	all.list, all.err = readContracts([]byte(text))
	return nil
}

func readContracts(text []byte) (all []contract, err error) {
	var list []json.RawMessage
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, errors.New(`expected a JSON list of contracts, such as [{"name": "usd", "method": "bank_card", "currencies": ["USD"], "url": …}]`)
	}
	taken := methodNames() // they are the names of the contracts that have flags of their own
	for i, text := range list {
		c, err := readContract(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("contract %d: %w", i+1, err)
		case slices.Contains(taken, c.Name):
			return nil, fmt.Errorf("contract %d: name: %s is taken", i+1, c.Name)
		}
		taken = append(taken, c.Name)
		all = append(all, c)
	}
	return all, nil
}

// readContract reads one contract. A key that means nothing is an error that names it.
func readContract(text []byte) (c contract, err error) {
	if err := json.Unmarshal(text, &c); err != nil {
		return c, errors.New("expected an object with name, method, url and what the method's own flags are called")
	}
	if !merchant.ContractName(c.Name) {
		return c, errors.New("name: expected 1 to 32 lower-case letters, digits, hyphens and underscores")
	}
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	var address *string
	switch c.Method {
	case payment.Uzcard:
		c.uzcard.Port = 1
		address, err = &c.uzcard.URL, strict.Decode(&struct {
			*contract
			*svgateFlags
		}{&c, &c.uzcard})
	case payment.Humo:
		address, err = &c.humo.URL, strict.Decode(&struct {
			*contract
			*humoFlags
		}{&c, &c.humo})
	case payment.BankCard:
		address, err = &c.bank.URL, strict.Decode(&struct {
			*contract
			*rbsFlags
		}{&c, &c.bank})
	default:
		return c, fmt.Errorf("%s: method: expected one of %s", c.Name, strings.Join(methodNames(), ", "))
	}
	switch {
	case err != nil:
		return c, fmt.Errorf("%s: %w", c.Name, err)
	case *address == "":
		return c, fmt.Errorf("%s: url: required: where the centre is reached", c.Name)
	}
	return c, nil
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
	live, test gateway.Centres
	simulated  bool // every payment goes to a simulator
	signers    []signer
}

// signer is who may send us news: an acquirer of real payments, the simulator of those that go to it. Its key is known to
// everybody.
type signer struct {
	key        rbs.Secret
	live, test bool // of which payments
}

func (s signer) knows(p *payment.Payment) bool {
	if p.Terms.Test {
		return s.test
	}
	return s.live
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
func (f *centreFlags) connect(with connecting) (c centres, err error) {
	for _, contract := range f.all() {
		connector, err := contract.connect(with)
		if err != nil {
			return c, fmt.Errorf("the contract %s: %w", contract.Name, err)
		}
		c.live = append(c.live, gateway.Centre{Processor: connector, Method: contract.Method, Named: contract.Named})
		if key := contract.bank.CallbackKey; key != "" {
			c.signers = append(c.signers, signer{key: key, live: true})
		}
	}
	if with.sim != "" {
		simulated := simulatedFlags(with.sim, f.Humo.OTP)
		for _, contract := range simulated.all() {
			connector, err := contract.connect(with)
			if err != nil {
				return c, fmt.Errorf("--sim: %w", err)
			}
			c.test = append(c.test, gateway.Centre{Processor: connector, Method: contract.Method})
		}
	}
	if len(c.live) == 0 {
		c.live, c.simulated = c.test, true
	}
	if with.sim != "" {
		c.signers = append(c.signers, signer{key: simLogin, live: c.simulated, test: true})
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

// connect makes the contract's connector; nothing is sent.
func (c *contract) connect(with connecting) (processor.Processor, error) {
	switch c.Method {
	case payment.Uzcard:
		u := &c.uzcard
		return svgate.New(svgate.Config{
			Name: c.Name, Endpoint: u.URL, Login: u.Login, Password: u.Password, MerchantID: u.Merchant, TerminalID: u.Terminal, Port: u.Port, ServiceName: u.Service,
			HTTP: with.http, Shown: with.doubt, Log: with.log,
		})
	case payment.Humo:
		h := &c.humo
		key, err := with.vault.Key("humo codes")
		if err != nil {
			return nil, err
		}
		return humo.New(humo.Config{
			Name: c.Name, Endpoint: h.URL, Login: h.Login, Password: h.Password,
			MerchantID: h.Merchant, TerminalID: h.Terminal, PointCode: h.Point, CentreID: h.Centre,
			MiddlewareURL: h.MiddlewareURL, MiddlewareToken: h.MiddlewareToken, OTP: h.OTP, SMSURL: h.SMSURL, SMSToken: h.SMSToken,
			CodeKey: humo.Secret(base64.RawStdEncoding.EncodeToString(key)),
			Seal:    func(plain []byte) ([]byte, error) { return with.vault.Seal(purposeCard, plain) },
			Unseal:  func(sealed []byte) ([]byte, error) { return with.vault.Unseal(purposeCard, sealed) },
			HTTP:    with.http, Shown: with.doubt, Log: with.log,
		})
	}
	b := &c.bank
	page := func(below string) func(payment.ID) string {
		return func(id payment.ID) string { return with.payURL + "/3ds/" + id.String() + below }
	}
	return rbs.New(rbs.Config{
		Name: c.Name, Endpoint: b.URL, Login: b.Login, Password: b.Password, Currencies: b.Currency,
		ReturnURL: page("/back"), FinishURL: page("/back"), MethodNotificationURL: page("/method"),
		CallbackURL: with.apiURL + "/" + callbackElement + "/" + c.Name, HTTP: with.http, Shown: with.doubt, Log: with.log,
	})
}

const purposeCard = "card"

// callbackElement is the first path element under which processing centres send us news.
const callbackElement = "processor"

// newsWaits bounds how long an acquirer waits for us to follow its news: it may tell us before it answers the
// very question that we are asking it.
const newsWaits = time.Second

// acquirerCallback takes an acquirer's news of an order (GET or POST). It is only a reason to ask: what it
// says is not looked at beyond the order's name, and an unsigned one is refused.
func acquirerCallback(g *gateway.Gateway, s *store.Store, signers []signer, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodPost {
			w.Header().Set("Allow", "GET, POST")
			http.Error(w, "news come by GET or POST", http.StatusMethodNotAllowed)
			return
		}
		if err := r.ParseForm(); err != nil {
			http.Error(w, "the form cannot be read", http.StatusBadRequest)
			return
		}
		order := ""
		var signed []signer
		for _, by := range signers {
			if name, _, err := rbs.VerifyCallback(by.key, r.Form); err == nil {
				order, signed = name, append(signed, by)
			}
		}
		if len(signed) == 0 {
			http.Error(w, "the checksum is wrong", http.StatusForbidden)
			return
		}
		number, ok := payment.NumberIn(order) // an order has the operation's name
		if !ok {
			http.Error(w, "there is no such order", http.StatusNotFound)
			return
		}
		p, err := s.PaymentByNumber(r.Context(), number)
		switch {
		case errors.Is(err, store.ErrNotFound), err == nil && !slices.ContainsFunc(signed, func(by signer) bool { return by.knows(&p) }):
			http.Error(w, "there is no such order", http.StatusNotFound)
			return
		case err == nil && p.Open != nil && p.Open.Ref == order:
			web.Note(w, p.ID.String())
			ctx, cancel := context.WithTimeout(r.Context(), newsWaits)
			defer cancel()
			_, err = g.Inquire(ctx, p.ID)
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
