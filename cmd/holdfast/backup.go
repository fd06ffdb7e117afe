package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"holdfast/internal/store"
	"holdfast/internal/vault"
)

type backupCmd struct {
	data
	File string `arg:"" help:"The new file; nothing is overwritten." placeholder:"FILE"`
	JSON bool   `help:"As JSON."`
}

func (c *backupCmd) Help() string {
	return `The file holds the whole store as it was at one moment. It may be taken while the gateway serves; nobody waits for it.
The vault's key is not in it: who steals a backup can read neither the shops' unique keys nor the few
cards that are sealed in it. Keep a copy of holdfast.key elsewhere; restore asks for it.

  holdfast backup --data /var/lib/holdfast /backup/holdfast-$(date +%F).db`
}

func (c *backupCmd) Run(ctx context.Context, p program) error {
	if c.DB != "" {
		return errors.New("a database of PostgreSQL is backed up with its own means, pg_basebackup or pg_dump: see docs/deploy.md")
	}
	return c.onStore(func(s *store.Store, _ *vault.Vault) error {
		pages := 0
		show := p.progress("copied %d of %d pages")
		err := s.Backup(ctx, c.File, func(done, of int) { pages = of; show(done, of) })
		if err != nil {
			return err
		}
		info, err := os.Stat(c.File)
		if err != nil {
			return err
		}
		if c.JSON {
			return p.print(map[string]any{"file": c.File, "bytes": info.Size(), "pages": pages})
		}
		fmt.Fprintf(p.stdout, "%s: %d bytes, checked and on the disk. The vault's key is not in it: keep a copy of %s elsewhere.\n",
			c.File, info.Size(), filepath.Join(c.Data, keyFile))
		return nil
	})
}

type restoreCmd struct {
	data
	File string `arg:"" help:"What holdfast backup made." type:"existingfile" placeholder:"FILE"`
	Key  string `help:"The vault's key that belongs to it (holdfast.key)." type:"existingfile" required:"" placeholder:"FILE"`
	JSON bool   `help:"As JSON."`
}

func (c *restoreCmd) Help() string {
	return `Checks the backup page by page, its schema and its books (audit), and makes the data directory of it, which must be new or
empty. What happened after the backup was taken is not in it: when the gateway is started, it asks the processing
centres about every payment that was under way before it sends anything for it, and is not ready until it has.
Never start it while the old gateway may still run.

  holdfast restore /backup/holdfast-2026-03-02.db --key /safe/holdfast.key --data /var/lib/holdfast`
}

// Run builds the data directory beside its place and moves it there when it is whole.
func (c *restoreCmd) Run(ctx context.Context, p program) (err error) {
	if c.DB != "" {
		return errors.New("a backup is restored into a data directory; holdfast copy takes it from there to a database")
	}
	if files, err := os.ReadDir(c.Data); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--data: %w", err)
	} else if len(files) > 0 {
		return fmt.Errorf("%s is not empty: name a new directory, so that nothing is lost", c.Data)
	}
	place, err := filepath.Abs(c.Data)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	temp, err := os.MkdirTemp(filepath.Dir(place), ".restoring-*") // 0700
	if err != nil {
		return fmt.Errorf("the data directory cannot be made: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	key, err := os.ReadFile(c.Key)
	if err != nil {
		return fmt.Errorf("--key: %w", err)
	}
	if err := os.WriteFile(filepath.Join(temp, keyFile), key, 0o600); err != nil {
		return fmt.Errorf("the key cannot be copied: %w", err)
	}
	restored, err := store.RestoreInto(temp, c.File, time.Now())
	if err != nil {
		return err
	}
	result, err := c.check(ctx, temp, p)
	if err != nil {
		return err
	}
	if err := os.Remove(place); err != nil && !errors.Is(err, fs.ErrNotExist) { // it was looked at: at most an empty directory
		return fmt.Errorf("--data: %w", err)
	}
	if err := os.Rename(temp, place); err != nil {
		return fmt.Errorf("the data directory cannot be put in its place: %w", err)
	}
	if c.JSON {
		return p.print(map[string]any{"data": c.Data, "backup_taken_at": restored.Taken, "restored_at": restored.At, "audit": result})
	}
	p.showAudit(result)
	fmt.Fprintf(p.stdout, "%s is as it was at %s. At its start the gateway asks the processing centres what has happened since.\n", c.Data, localTime(restored.Taken, toSecond))
	return nil
}

// check opens what was restored as the gateway would, with its key, and audits it.
func (c *restoreCmd) check(ctx context.Context, dir string, p program) (result *auditResult, err error) {
	s, err := store.Open(store.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	v, err := vault.Read(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, fmt.Errorf("--key: %s is not the key of a vault (64 hexadecimal digits)", c.Key)
	}
	shops, err := s.Shops(ctx)
	if err != nil {
		return nil, err
	}
	for _, shop := range shops {
		if _, err := uniqueKey(v, shop); err != nil {
			return nil, fmt.Errorf("--key: %s is not the key that belongs to this backup: shop %d's unique key cannot be read with it", c.Key, shop.ID)
		}
	}
	if result, err = audit(ctx, s, "", p.progress("looked at %d of %d payments")); err != nil {
		return nil, err
	}
	if !result.Clean {
		p.showAudit(result)
		return nil, fmt.Errorf("the books of %s are broken: it was not restored; use an earlier backup", c.File)
	}
	return result, nil
}
