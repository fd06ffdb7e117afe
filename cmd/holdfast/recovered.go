package main

import (
	"context"
	"errors"
	"fmt"

	"holdfast/internal/store"
	"holdfast/internal/vault"
)

type recoveredCmd struct {
	data
	JSON bool `help:"As JSON."`
}

func (c *recoveredCmd) Help() string {
	return `For a database of PostgreSQL that was recovered to a point in time, or a directory that was copied back: nothing in it
tells that it is not of today. Checks its books (audit) and marks it as restored, so that the gateway asks the processing centres, at
its start, about every payment that was under way before it sends anything for it, and is not ready until it has. End all gateways of it
before, and start them after it. What holdfast restore has made is marked already.

Examples:

  holdfast recovered --data /var/lib/holdfast --db postgres://holdfast@one/holdfast
  holdfast recovered --data /var/lib/holdfast`
}

func (c *recoveredCmd) Run(ctx context.Context, p program) error {
	if err := c.isThere(); err != nil {
		return err
	}
	return c.onServingStore(func(s *store.Store, _ *vault.Vault) error {
		result, err := audit(ctx, s, "", p.progress("looked at %d of %d payments"))
		if err != nil {
			return err
		}
		if !result.Clean {
			p.showAudit(result)
			return errors.New("its books are broken: it was not marked; bring back another time's")
		}
		restored, err := s.MarkRestored(ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			return p.print(map[string]any{"newest_change_at": restored.Taken, "marked_at": restored.At, "audit": result})
		}
		p.showAudit(result)
		fmt.Fprintf(p.stdout, "Its newest change is of %s. At its start the gateway asks the processing centres what has happened since.\n", localTime(restored.Taken, toSecond))
		return nil
	})
}
