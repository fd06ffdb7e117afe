package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"holdfast/internal/payment"
	"holdfast/internal/store"
	"holdfast/internal/vault"
)

type rangesCmd struct {
	List   rangesListCmd   `cmd:"" help:"Show the card range table."`
	Set    rangesSetCmd    `cmd:"" help:"Add a range of card numbers, or change one."`
	Remove rangesRemoveCmd `cmd:"" help:"Take out a range."`
	Luhn   rangesLuhnCmd   `cmd:"" help:"Say whether a scheme's numbers end in a check digit."`
	Import rangesImportCmd `cmd:"" help:"Replace the whole table by that of a file."`
	Reset  rangesResetCmd  `cmd:"" help:"Go back to the table that is built in."`
}

func (c *rangesCmd) Help() string {
	return `The table says of which scheme a card is by the first digits of its number. The longest prefix wins: a
bank's 8 digits count before a scheme's 4. A running gateway takes a change up within a second.

  holdfast ranges list --data DIR
  holdfast ranges set 56148888 --scheme humo --country UZ --data DIR
  holdfast ranges set 2221-2720 --scheme mastercard --data DIR
  holdfast ranges remove 56148888 --data DIR
  holdfast ranges list --json --data DIR > ranges.json
  holdfast ranges import ranges.json --data DIR`
}

// editCards makes a new edition of the card range table and shows it.
func (p program) editCards(ctx context.Context, d data, asJSON bool, change func(*payment.CardTable) error) error {
	return d.onStore(func(s *store.Store, _ *vault.Vault) error {
		cards, err := s.UpdateCards(ctx, change)
		if err != nil {
			return err
		}
		return p.showCards(cards, asJSON)
	})
}

func (p program) showCards(cards *store.Cards, asJSON bool) error {
	if asJSON {
		return p.print(cards.CardTable)
	}
	t := newTable(p.stdout, table.Row{"Range", "Scheme", "Method", "Country", "Lengths", "Check digit"})
	for _, r := range cards.Ranges {
		var lengths []string
		for _, n := range r.Lengths {
			lengths = append(lengths, strconv.Itoa(n))
		}
		t.AppendRow(table.Row{r, r.Scheme, r.Method(), r.Country, strings.Join(lengths, ", "), yesNo(!slices.Contains(cards.NoLuhn, r.Scheme))})
	}
	t.Render()
	made := "The table that is built in."
	if cards.Edition > 0 {
		made = fmt.Sprintf("Edition %d, made %s.", cards.Edition, localTime(cards.At, toSecond))
	}
	_, err := fmt.Fprintf(p.stdout, "%s The longest prefix wins.\n", made)
	return err
}

type rangesListCmd struct {
	data
	JSON bool `help:"As JSON, as import takes it."`
}

func (c *rangesListCmd) Run(ctx context.Context, p program) error {
	return c.onStore(func(s *store.Store, _ *vault.Vault) error {
		cards, err := s.Cards(ctx)
		if err != nil {
			return err
		}
		return p.showCards(cards, c.JSON)
	})
}

// prefixes are the first and last prefix of a range: 8600, or 51-55.
type prefixes struct {
	Range string `arg:"" help:"The first digits of its numbers: 8600, or 2221-2720."`
}

func (r prefixes) ends() (from, to string) {
	from, to, ok := strings.Cut(r.Range, "-")
	if !ok {
		to = from
	}
	return from, to
}

// is reports whether it is the range that the argument names.
func (r prefixes) is(other payment.Range) bool {
	from, to := r.ends()
	return other.From == from && other.To == to
}

type rangesSetCmd struct {
	data
	prefixes
	Scheme  string `help:"Whose cards they are: uzcard, humo, visa or mastercard." required:"" placeholder:"NAME"`
	Country string `help:"Where all of them are issued, as two letters." placeholder:"CODE"`
	Length  []int  `help:"How many digits the numbers have (repeatable; default: 16)." default:"16"`
	JSON    bool   `help:"Show the table as JSON."`
}

func (c *rangesSetCmd) Run(ctx context.Context, p program) error {
	from, to := c.ends()
	return p.editCards(ctx, c.data, c.JSON, func(t *payment.CardTable) error {
		t.Ranges = append(slices.DeleteFunc(t.Ranges, c.is), payment.Range{From: from, To: to, Scheme: c.Scheme, Country: c.Country, Lengths: c.Length})
		return nil
	})
}

type rangesRemoveCmd struct {
	data
	prefixes
	JSON bool `help:"Show the table as JSON."`
}

func (c *rangesRemoveCmd) Run(ctx context.Context, p program) error {
	return p.editCards(ctx, c.data, c.JSON, func(t *payment.CardTable) error {
		if !slices.ContainsFunc(t.Ranges, c.is) {
			return fmt.Errorf("there is no range %s: holdfast ranges list shows all", c.Range)
		}
		t.Ranges = slices.DeleteFunc(t.Ranges, c.is)
		return nil
	})
}

type rangesLuhnCmd struct {
	data
	Scheme string `arg:"" help:"uzcard, humo, visa or mastercard."`
	State  string `arg:"" help:"on: a number with a wrong check digit is refused. off: it is not looked at." enum:"on,off"`
	JSON   bool   `help:"Show the table as JSON."`
}

func (c *rangesLuhnCmd) Run(ctx context.Context, p program) error {
	return p.editCards(ctx, c.data, c.JSON, func(t *payment.CardTable) error {
		if (payment.Range{Scheme: c.Scheme}).Method() == "" {
			return fmt.Errorf("scheme %q is unknown: use one of %s", c.Scheme, payment.SchemeNames())
		}
		t.NoLuhn = slices.DeleteFunc(t.NoLuhn, func(scheme string) bool { return scheme == c.Scheme })
		if c.State == "off" {
			t.NoLuhn = append(t.NoLuhn, c.Scheme)
		}
		return nil
	})
}

type rangesImportCmd struct {
	data
	File string `arg:"" help:"The table as JSON, as list --json writes it." type:"existingfile"`
	JSON bool   `help:"Show the table as JSON."`
}

func (c *rangesImportCmd) Run(ctx context.Context, p program) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	var read payment.CardTable
	strict := json.NewDecoder(strings.NewReader(string(text)))
	strict.DisallowUnknownFields()
	if err := errors.Join(strict.Decode(&read), noMore(strict)); err != nil {
		return fmt.Errorf("%s is no card range table such as holdfast ranges list --json writes: %w", c.File, err)
	}
	return p.editCards(ctx, c.data, c.JSON, func(t *payment.CardTable) error {
		*t = read
		return nil
	})
}

// noMore reports what stands behind the one value of a file.
func noMore(d *json.Decoder) error {
	if d.More() {
		return errors.New("something stands behind the table")
	}
	return nil
}

type rangesResetCmd struct {
	data
	JSON bool `help:"Show the table as JSON."`
}

func (c *rangesResetCmd) Run(ctx context.Context, p program) error {
	return p.editCards(ctx, c.data, c.JSON, func(t *payment.CardTable) error {
		*t = payment.BuiltInCards()
		return nil
	})
}
