package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/vault"
)

type shopCmd struct {
	Create       shopCreateCmd   `cmd:"" help:"Create a shop; its secret and unique_key are shown once."`
	List         shopListCmd     `cmd:"" help:"List all shops."`
	Show         shopShowCmd     `cmd:"" help:"Show one shop's settings."`
	Set          shopSetCmd      `cmd:"" help:"Change a shop's settings; takes effect within a second."`
	RotateSecret rotateSecretCmd `cmd:"" help:"Give a shop a new secret; the old one stops working within a second."`
	RotateKey    rotateKeyCmd    `cmd:"" help:"Give a shop a new unique_key; notifications are signed with it within a second."`
}

// settingFlags are a shop's settings as flags; what is not given stays as it is.
type settingFlags struct {
	NotifyURL    *string  `help:"Where to send notifications of payments that name no notify_url." placeholder:"URL"`
	Live         *bool    `help:"The shop may take real payments; without it no card is taken any more, also for payments that are prepared." negatable:""`
	Fee          []string `help:"Fee in percent, for all methods or one: 2%, uzcard=1.5%. Repeatable." placeholder:"[METHOD=]PERCENT" sep:"none"`
	MinFee       []string `help:"Smallest fee, for all methods or one: 500.00, humo=100.00. Repeatable." placeholder:"[METHOD=]SUM" sep:"none"`
	Method       []string `help:"A method the shop has contracted (repeatable; default: all): bank_card, uzcard, humo." placeholder:"METHOD"`
	Currency     []string `help:"A currency the shop may use (repeatable; default: UZS)." placeholder:"CODE"`
	Hold         []string `help:"How long a hold waits for a decision, for all methods or one: 30m, bank_card=24h. Repeatable." placeholder:"[METHOD=]TIME" sep:"none"`
	RequireTsp   *bool    `help:"Every payment must name a tsp_id." negatable:""`
	StrictBasket *bool    `help:"A basket must add up to total_sum." negatable:""`
	RefundLocked *bool    `help:"Refunds are locked." negatable:""`
	RefundLeast  *string  `help:"Smallest sum that may be refunded at a time." placeholder:"SUM"`
	RefundMost   *string  `help:"Largest sum that may be refunded at a time (default: 10000000.00 UZS; none for payments that go back whole only)." placeholder:"SUM"`
	FeeBack      *bool    `help:"A refund gives its share of the fee back to the shop (for all methods)." negatable:""`
	BankCode     *string  `help:"Bank code shown in payments." placeholder:"CODE"`
	Route        []string `help:"The contract (serve --contracts) that real payments go to, for a method or a method and currency: bank_card=usd, bank_card/USD=usd; without a name: where all go. Repeatable." placeholder:"METHOD[/CODE]=[NAME]" sep:"none"`
}

// apply puts the flags that were given into the settings.
func (f *settingFlags) apply(s *merchant.Settings) error {
	set(&s.NotifyURL, f.NotifyURL)
	set(&s.Live, f.Live)
	set(&s.RequireTSP, f.RequireTsp)
	set(&s.StrictBasket, f.StrictBasket)
	set(&s.RefundLocked, f.RefundLocked)
	set(&s.BankCode, f.BankCode)
	for flag, limit := range map[string]struct {
		text *string
		to   *int64
	}{"--refund-least": {f.RefundLeast, &s.RefundLeast}, "--refund-most": {f.RefundMost, &s.RefundMost}} {
		if limit.text == nil {
			continue
		}
		sum, err := money.Parse(*limit.text, money.UZS)
		if err != nil || sum.Minor < 0 {
			return fmt.Errorf("%s: %q is not a sum such as 12000.00", flag, *limit.text)
		}
		*limit.to = sum.Minor
	}
	if f.FeeBack != nil {
		s.Tariff.Fee.Back = *f.FeeBack
		for m, fee := range s.Tariff.ByMethod {
			fee.Back = *f.FeeBack
			s.Tariff.ByMethod[m] = fee
		}
	}
	if f.Method != nil {
		s.Methods = f.Method
	}
	if f.Currency != nil {
		s.Currencies = nil
		for _, code := range f.Currency {
			c, err := money.ParseCurrency(code)
			if err != nil {
				return fmt.Errorf("--currency: %w", err)
			}
			s.Currencies = append(s.Currencies, c)
		}
	}
	for _, text := range f.Fee {
		method, percent := forMethod(text)
		rate, err := money.ParseRate(percent)
		if err != nil {
			return fmt.Errorf("--fee: %w", err)
		}
		changeFee(&s.Tariff, method, func(fee *merchant.Fee) { fee.Rate = rate })
	}
	for _, text := range f.MinFee {
		method, sum := forMethod(text)
		minimum, err := money.Parse(sum, money.UZS)
		if err != nil || minimum.Minor < 0 {
			return fmt.Errorf("--min-fee: %q is not a sum such as 500.00", sum)
		}
		changeFee(&s.Tariff, method, func(fee *merchant.Fee) { fee.Minimum = minimum.Minor })
	}
	for _, text := range f.Hold {
		method, duration := forMethod(text)
		hold, err := time.ParseDuration(duration)
		if err != nil || hold < time.Second {
			return fmt.Errorf("--hold: %q is not a time such as 30m, 24h or 90s", duration)
		}
		if s.HoldSeconds == nil {
			s.HoldSeconds = make(map[string]int64)
		}
		for _, m := range methodNames() {
			if method == "" || method == m {
				s.HoldSeconds[m] = int64(hold / time.Second)
			}
		}
		if method != "" {
			s.HoldSeconds[method] = int64(hold / time.Second) // an unknown method is refused by Check
		}
	}
	for _, text := range f.Route {
		kind, contract, ok := strings.Cut(text, "=")
		if !ok {
			return fmt.Errorf("--route: %q is not of the form bank_card=usd or bank_card/USD=usd", text)
		}
		if contract == "" {
			delete(s.Routes, kind)
			continue
		}
		if s.Routes == nil {
			s.Routes = make(map[string]string)
		}
		s.Routes[kind] = contract // what cannot be is refused by Check
	}
	if s.Tariff.ID == 0 {
		s.Tariff.ID = 1
	}
	return s.Check(methodNames())
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// forMethod splits "uzcard=1.5%"; without a method it is for all.
func forMethod(text string) (method, value string) {
	if method, value, ok := strings.Cut(text, "="); ok {
		return method, value
	}
	return "", text
}

func changeFee(t *merchant.Tariff, method string, change func(*merchant.Fee)) {
	if method == "" {
		change(&t.Fee)
		return
	}
	fee := t.For(method)
	change(&fee)
	if t.ByMethod == nil {
		t.ByMethod = make(map[string]merchant.Fee)
	}
	t.ByMethod[method] = fee
}

func methodNames() (names []string) {
	for _, m := range payment.Methods {
		names = append(names, string(m))
	}
	return names
}

type shopCreateCmd struct {
	data
	Name string `help:"The shop's name, as payers see it." required:""`
	settingFlags
	JSON bool `help:"As JSON: shop_id, secret, unique_key."`
}

func (c *shopCreateCmd) Help() string {
	return `Examples:

  holdfast shop create --data DIR --name "Toys" --notify-url https://toys.example/notify --fee 2%
  holdfast shop create --data DIR --name "Toys" --live --fee 2% --fee humo=1.5% --min-fee 500.00 --json`
}

func (c *shopCreateCmd) Run(ctx context.Context, p program) error {
	return c.onAnyStore(func(s *store.Store, v *vault.Vault) error {
		created, err := createShop(ctx, s, v, c.Name, &c.settingFlags)
		if err != nil {
			return err
		}
		if c.JSON {
			return p.print(created)
		}
		fmt.Fprintf(p.stdout, "Shop %d was created. Keep these now; the secret is not kept here and cannot be shown again.\n\n", created.ShopID)
		_, err = fmt.Fprintf(p.stdout, "  octo_shop_id  %d\n  octo_secret   %s\n  unique_key    %s\n", created.ShopID, created.Secret, created.UniqueKey)
		return err
	})
}

// createdShop is what is shown of a new shop, once.
type createdShop struct {
	ShopID    int64  `json:"shop_id"`
	Secret    string `json:"secret"`
	UniqueKey string `json:"unique_key"`
}

func createShop(ctx context.Context, s *store.Store, v *vault.Vault, name string, flags *settingFlags) (createdShop, error) {
	var shop merchant.Shop
	if err := rename(&shop, name); err != nil {
		return createdShop{}, err
	}
	if err := flags.apply(&shop.Settings); err != nil {
		return createdShop{}, err
	}
	secret, key := merchant.NewSecret(), merchant.NewSecret()
	shop.SecretHash = secret.Hash()
	if err := sealKey(&shop, v, key); err != nil {
		return createdShop{}, err
	}
	shop, err := s.CreateShop(ctx, shop)
	return createdShop{shop.ID, string(secret), string(key)}, err
}

// sealKey gives a shop the key that signs what it is told.
func sealKey(shop *merchant.Shop, v *vault.Vault, key merchant.Secret) (err error) {
	shop.UniqueKey, err = v.Seal(purposeUniqueKey, []byte(key))
	return err
}

// rename gives a shop the name that payers see.
func rename(shop *merchant.Shop, name string) error {
	name = strings.TrimSpace(name)
	if name == "" || len(name) > 200 {
		return errors.New("--name: a shop needs a name of 1 to 200 bytes")
	}
	shop.Name = name
	return nil
}

// shownShop is a shop as it may be shown.
type shownShop struct {
	ID        int64             `json:"shop_id"`
	Name      string            `json:"name"`
	CreatedAt time.Time         `json:"created_at"`
	Settings  merchant.Settings `json:"settings"`
}

func shown(s merchant.Shop) shownShop { return shownShop{s.ID, s.Name, s.CreatedAt, s.Settings} }

type shopListCmd struct {
	data
	JSON bool `help:"As JSON, a line for each shop."`
}

func (c *shopListCmd) Run(ctx context.Context, p program) error {
	return c.onStore(func(s *store.Store, _ *vault.Vault) error {
		shops, err := s.Shops(ctx)
		if err != nil {
			return err
		}
		t := newTable(p.stdout, table.Row{"Shop", "Name", "Live", "Fee", "Notifications to"})
		for _, shop := range shops {
			if c.JSON {
				if err := p.print(shown(shop)); err != nil {
					return err
				}
			}
			t.AppendRow(table.Row{shop.ID, shop.Name, yesNo(shop.Settings.Live), describeTariff(shop.Settings.Tariff), shop.Settings.NotifyURL})
		}
		if !c.JSON {
			t.Render()
		}
		return nil
	})
}

type shopShowCmd struct {
	data
	ID   int64 `arg:"" help:"The shop's id."`
	JSON bool  `help:"As JSON."`
}

func (c *shopShowCmd) Run(ctx context.Context, p program) error {
	return c.onStore(func(s *store.Store, _ *vault.Vault) error {
		shop, err := s.Shop(ctx, c.ID)
		if err != nil {
			return noShop(c.ID, err)
		}
		return p.showShop(shop, c.JSON)
	})
}

func noShop(id int64, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("there is no shop %d: holdfast shop list shows all", id)
	}
	return err
}

func (p program) showShop(shop merchant.Shop, asJSON bool) error {
	if asJSON {
		return p.print(shown(shop))
	}
	s := shop.Settings
	t := newTable(p.stdout, nil)
	t.AppendRows([]table.Row{
		{"octo_shop_id", shop.ID}, {"name", shop.Name}, {"created", localTime(shop.CreatedAt, toSecond)}, {"live", yesNo(s.Live)},
		{"notify_url", s.NotifyURL}, {"fee", describeTariff(s.Tariff)}, {"methods", orAll(s.Methods)}, {"currencies", orDefault(s.Currencies)},
		{"hold", describeHolds(s.HoldSeconds)}, {"tsp_id required", yesNo(s.RequireTSP)}, {"strict basket", yesNo(s.StrictBasket)},
		{"refunds locked", yesNo(s.RefundLocked)}, {"refund at a time", describeRefunds(s)}, {"bank code", s.BankCode}, {"routes", describeRoutes(s.Routes)},
	})
	t.Render()
	return nil
}

type shopSetCmd struct {
	data
	ID   int64   `arg:"" help:"The shop's id."`
	Name *string `help:"The shop's name."`
	settingFlags
	JSON bool `help:"As JSON."`
}

func (c *shopSetCmd) Help() string {
	return `Examples:

  holdfast shop set 3 --data DIR --fee 1.8% --hold 1h --no-live
  holdfast shop set 3 --data DIR --route bank_card/USD=usd --route uzcard=toys
      dollars go to the contract usd, Uzcard to the contract toys
  holdfast shop set 3 --data DIR --route uzcard=
      Uzcard goes where all go again`
}

func (c *shopSetCmd) Run(ctx context.Context, p program) error {
	return c.onStore(func(s *store.Store, _ *vault.Vault) error {
		shop, err := s.UpdateShop(ctx, c.ID, func(shop *merchant.Shop) error {
			if c.Name != nil {
				if err := rename(shop, *c.Name); err != nil {
					return err
				}
			}
			return c.settingFlags.apply(&shop.Settings)
		})
		if err != nil {
			return noShop(c.ID, err)
		}
		return p.showShop(shop, c.JSON)
	})
}

type rotateSecretCmd struct{ rotated }

func (c *rotateSecretCmd) Help() string {
	return `Examples:

  holdfast shop rotate-secret 3 --data DIR
  holdfast shop rotate-secret 3 --data DIR --json      {"secret":"…","shop_id":3}`
}

func (c *rotateSecretCmd) Run(ctx context.Context, p program) error {
	return c.rotate(ctx, p, "secret", func(shop *merchant.Shop, _ *vault.Vault, secret merchant.Secret) error {
		shop.SecretHash = secret.Hash()
		return nil
	})
}

type rotateKeyCmd struct{ rotated }

func (c *rotateKeyCmd) Help() string {
	return `The shop cannot know the new key before it is in use. So that nothing is lost, its endpoint takes both keys for a while,
and refuses what neither has signed with a status that is not 2xx: that is sent again, 5 s, 15 s, 1 min … later.

  holdfast shop rotate-key 3 --data DIR
  holdfast shop rotate-key 3 --data DIR --json      {"shop_id":3,"unique_key":"…"}`
}

func (c *rotateKeyCmd) Run(ctx context.Context, p program) error {
	return c.rotate(ctx, p, "unique_key", sealKey)
}

// rotated is a shop that gets a new secret of one kind, which is shown once.
type rotated struct {
	data
	ID   int64 `arg:"" help:"The shop's id."`
	JSON bool  `help:"As JSON."`
}

func (c *rotated) rotate(ctx context.Context, p program, name string, give func(*merchant.Shop, *vault.Vault, merchant.Secret) error) error {
	return c.onStore(func(s *store.Store, v *vault.Vault) error {
		secret := merchant.NewSecret()
		_, err := s.UpdateShop(ctx, c.ID, func(shop *merchant.Shop) error { return give(shop, v, secret) })
		if err != nil {
			return noShop(c.ID, err)
		}
		if c.JSON {
			return p.print(map[string]any{"shop_id": c.ID, name: string(secret)})
		}
		_, err = fmt.Fprintf(p.stdout, "The new %s of shop %d, shown once: %s\n", name, c.ID, string(secret))
		return err
	})
}

func describeTariff(t merchant.Tariff) string {
	describe := func(f merchant.Fee) string {
		text := f.Rate.String()
		if f.Minimum != 0 {
			text += ", at least " + money.New(f.Minimum, money.UZS).Decimal()
		}
		if f.Back {
			text += ", given back with a refund"
		}
		return text
	}
	text := describe(t.Fee)
	for _, m := range methodNames() {
		if f, ok := t.ByMethod[m]; ok {
			text += "; " + m + " " + describe(f)
		}
	}
	return text
}

// describeRefunds says how much may be refunded at a time; a limit holds in the payment's currency.
func describeRefunds(s merchant.Settings) string {
	least, most := s.RefundLimits(money.UZS, false)
	text := fmt.Sprintf("%s to %s", least.Decimal(), most.Decimal())
	if s.RefundMost == 0 {
		text += " (in other currencies than UZS, and of payments that go back whole only, there is no largest)"
	}
	return text
}

func describeHolds(holds map[string]int64) string {
	var parts []string
	for _, m := range methodNames() {
		if seconds := holds[m]; seconds > 0 {
			parts = append(parts, m+" "+(time.Duration(seconds)*time.Second).String())
		}
	}
	if parts == nil {
		return "as the gateway's --hold-timeout"
	}
	return strings.Join(parts, "; ")
}

func describeRoutes(routes map[string]string) string {
	if len(routes) == 0 {
		return "where all go"
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(routes)) {
		parts = append(parts, kind+" to "+routes[kind])
	}
	return strings.Join(parts, "; ")
}

func orAll(methods []string) string {
	if len(methods) == 0 {
		return "all"
	}
	return strings.Join(methods, ", ")
}

func orDefault(currencies []money.Currency) string {
	if len(currencies) == 0 {
		return string(money.UZS)
	}
	var codes []string
	for _, c := range currencies {
		codes = append(codes, string(c))
	}
	return strings.Join(codes, ", ")
}

func yesNo(b bool) string { return map[bool]string{true: "yes", false: "no"}[b] }
