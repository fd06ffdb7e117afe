package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"holdfast/internal/store"
	"holdfast/internal/vault"
)

type migrateCmd struct {
	Up     migrateUpCmd     `cmd:"" help:"Bring the store's schema up to date."`
	Status migrateStatusCmd `cmd:"" help:"Tell the store's schema, and the one that this program knows."`
}

func (c *migrateCmd) Help() string {
	return `Every command that opens a store brings its schema up to date; this does it at a time of your choosing.
Old gateways do not read a newer schema: docs/deploy.md says how to upgrade several.

  holdfast migrate status --db postgres://holdfast@db.example/holdfast
  holdfast migrate up --data /var/lib/holdfast`
}

type migrateUpCmd struct {
	data
	JSON bool `help:"As JSON."`
}

func (c *migrateUpCmd) Run(ctx context.Context, p program) error {
	s, err := store.Open(store.Config{Dir: c.Data, DB: c.DB})
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	return (*migrateStatusCmd)(c).Run(ctx, p)
}

type migrateStatusCmd struct {
	data
	JSON bool `help:"As JSON."`
}

func (c *migrateStatusCmd) Run(ctx context.Context, p program) error {
	at, known, err := store.Schema(ctx, store.Config{Dir: c.Data, DB: c.DB})
	if err != nil {
		return err
	}
	if c.JSON {
		return p.print(map[string]any{"schema": at, "known": known, "up_to_date": at == known})
	}
	word := "it is up to date"
	switch {
	case at == 0:
		word = "there is no store yet; holdfast migrate up makes one"
	case at < known:
		word = "holdfast migrate up brings it up to date"
	case at > known:
		word = "it was written by a newer holdfast: use that version"
	}
	_, err = fmt.Fprintf(p.stdout, "The store has schema %d, this program knows %d: %s.\n", at, known, word)
	return err
}

type copyCmd struct {
	From string `help:"The store to copy: a data directory that no gateway serves from." required:"" placeholder:"sqlite:DIR"`
	To   string `help:"The database to copy into: an empty one." required:"" placeholder:"postgres://USER:PASSWORD@HOST/NAME"`
	JSON bool   `help:"As JSON."`
}

func (c *copyCmd) Help() string {
	return `Stop the gateway first. Both stores are audited: the copy is complete only if the books of both are right and the same. Interrupted, the
same command goes on where it stopped; until it is complete no gateway serves from the database. The data directory keeps the key, which
the gateways need as before, and the old file, which nobody needs any more.

  holdfast copy --from sqlite:/var/lib/holdfast --to postgres://holdfast@db.example/holdfast
  holdfast serve --data /var/lib/holdfast --db postgres://holdfast@db.example/holdfast`
}

func (c *copyCmd) Run(ctx context.Context, p program) error {
	dir, ok := strings.CutPrefix(c.From, "sqlite:")
	if !ok || dir == "" {
		return fmt.Errorf("--from: %q is not a data directory as sqlite:DIR", c.From)
	}
	if at, _, err := store.Schema(ctx, store.Config{Dir: dir}); err != nil {
		return err
	} else if at == 0 {
		return fmt.Errorf("--from: there is no store in %s", dir)
	}
	if !store.IsPostgres(c.To) {
		return errors.New("--to: name a database as postgres://user:password@host:5432/name")
	}
	place := data{Data: dir, DB: c.To}
	var before, after *auditResult
	var counts store.Counts
	err := data{Data: dir}.onServingStore(func(from *store.Store, v *vault.Vault) (err error) {
		fmt.Fprintln(p.stderr, "checking the books of", dir)
		if before, err = audit(ctx, from, "", p.progress("looked at %d of %d payments")); err != nil {
			return err
		}
		if !before.Clean {
			p.showAudit(before)
			return fmt.Errorf("the books of %s are not right, and are not copied: holdfast audit tells what is wrong", dir)
		}
		to, err := store.Open(store.Config{Dir: dir, DB: c.To})
		if err != nil {
			return err
		}
		if err = checkKey(to, v, filepath.Join(dir, keyFile)); err == nil {
			err = from.CopyTo(ctx, to, p.progress("copied %d of %d rows of payments"))
		}
		if err == nil {
			counts, err = to.Counts(ctx)
		}
		return errors.Join(err, to.Close())
	})
	if err != nil {
		return err
	}
	err = place.onStore(func(s *store.Store, _ *vault.Vault) (err error) {
		fmt.Fprintln(p.stderr, "checking the books of the copy")
		after, err = audit(ctx, s, "", p.progress("looked at %d of %d payments"))
		return err
	})
	if err != nil {
		return err
	}
	if !after.Clean || !reflect.DeepEqual(before, after) {
		p.showAudit(after)
		return errors.New("the copy's books are not those of the original: do not use it, and keep the original")
	}
	if c.JSON {
		return p.print(map[string]any{"rows": counts, "audit": after})
	}
	t := newTable(p.stdout, table.Row{"Table", "Rows"})
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		t.AppendRow(table.Row{name, counts[name]})
	}
	t.Render()
	_, err = fmt.Fprintf(p.stdout, "Copied and checked. From now on: holdfast serve --data %s --db ...\n", dir)
	return err
}
