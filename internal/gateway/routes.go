package gateway

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/payment"
	"holdfast/internal/processor"
)

// Centre is a contract with a processing centre: its connector, and which payments come to it. Its
// Name is the contract's, and no other's among the Centres.
type Centre struct {
	processor.Processor
	Method payment.Method
	// Named: only payments of shops whose settings name the contract come to it (merchant.Settings.Routes).
	Named bool
}

// Centres are the contracts that payments may go to, in the order in which they are looked at.
type Centres []Centre

// named is the contract of a name, or nil.
func (all Centres) named(name string) *Centre {
	for i := range all {
		if all[i].Name() == name {
			return &all[i]
		}
	}
	return nil
}

// takes reports whether payments by m in currency c may come here.
func (c *Centre) takes(m payment.Method, currency money.Currency) bool {
	return c.Method == m && slices.Contains(c.Capabilities().Currencies, currency)
}

// centres are the contracts that payments of a kind go to.
func (g *Gateway) centres(test bool) Centres {
	if test {
		return g.cfg.Test
	}
	return g.cfg.Live
}

// route finds the contract that a new attempt by m in currency c goes to: the one that the shop's
// settings name for the method and the currency, or else the first that takes both. Test payments go
// to the simulator, whatever a shop's routes say. An error is a *payment.Error and says what to do.
//
// Only new attempts are routed. What is under way goes back to the contract that began it, whose name
// is kept with the attempt.
func (g *Gateway) route(shop merchant.Shop, m payment.Method, c money.Currency, test bool) (*Centre, error) {
	all := g.centres(test)
	if name, ok := shop.Settings.Route(string(m), c); ok && !test {
		switch centre := all.named(name); {
		case centre == nil:
			return nil, &payment.Error{Reason: payment.MethodNotAllowed, Detail: fmt.Sprintf("the shop's %s payments go to the contract %s, which is not connected: ask the gateway's operator", m, name)}
		case !centre.takes(m, c):
			return nil, &payment.Error{Reason: payment.CurrencyNotAllowed, Detail: fmt.Sprintf("the shop's %s payments go to the contract %s, which takes no %s: ask the gateway's operator", m, name, c)}
		default:
			return centre, nil
		}
	}
	var currencies []string // of the method's contracts
	for i := range all {
		switch {
		case all[i].Method != m || all[i].Named:
		case all[i].takes(m, c):
			return &all[i], nil
		default:
			for _, taken := range all[i].Capabilities().Currencies {
				if !slices.Contains(currencies, string(taken)) {
					currencies = append(currencies, string(taken))
				}
			}
		}
	}
	if currencies == nil {
		return nil, &payment.Error{Reason: payment.MethodNotAllowed, Detail: fmt.Sprintf("no processing centre is connected for %s", m)}
	}
	return nil, &payment.Error{Reason: payment.CurrencyNotAllowed, Detail: fmt.Sprintf("%s payments are taken in %s, and not in %s", m, strings.Join(currencies, ", "), c)}
}

// Route reports whether a payment of the shop can be paid by a method in a currency now. If not, the
// error is a *payment.Error with payment.MethodNotAllowed or payment.CurrencyNotAllowed.
func (g *Gateway) Route(shop merchant.Shop, m payment.Method, c money.Currency, test bool) error {
	_, err := g.route(shop, m, c, test)
	return err
}
