package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"holdfast/internal/merchant"
)

// CreateShop stores a new shop and gives it the next id.
func (s *Store) CreateShop(ctx context.Context, shop merchant.Shop) (merchant.Shop, error) {
	settings, err := json.Marshal(&shop.Settings, json.Deterministic(true))
	if err != nil {
		return shop, fmt.Errorf("the shop's settings cannot be written: %w", err)
	}
	err = s.do(ctx, &job{exec: func(w writing, now time.Time) error {
		shop.CreatedAt, shop.ID = now, 0
		for range mostStale { // another process may take the same id
			err := w.query(`INSERT INTO shops (id, name, secret_hash, unique_key, created_at, settings)
				VALUES ((SELECT coalesce(max(id), 0) + 1 FROM shops), ?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO NOTHING RETURNING id`,
				[]value{str(shop.Name), bin(shop.SecretHash[:]), bin(shop.UniqueKey), moment(now), txt(settings)}, func(r record) error {
					shop.ID = r.int(0)
					return nil
				})
			if err != nil || shop.ID != 0 {
				return err
			}
		}
		return refused{errors.New("others create shops all the time: try again")}
	}})
	s.shops.forget(shop.ID)
	return shop, err
}

// UpdateShop lets change edit a shop as it is stored, and stores it.
func (s *Store) UpdateShop(ctx context.Context, id int64, change func(*merchant.Shop) error) (shop merchant.Shop, err error) {
	err = s.do(ctx, &job{exec: func(w writing, now time.Time) error {
		// It takes the row: another process's change waits until this one is stored, or was before and is read now.
		if _, err := w.exec(`UPDATE shops SET name = name WHERE id = ?1`, []value{num(id)}); err != nil {
			return err
		}
		shop, err = shopByID(w, id)
		if err != nil {
			return refused{err}
		}
		if err := change(&shop); err != nil {
			return refused{err}
		}
		settings, err := json.Marshal(&shop.Settings, json.Deterministic(true))
		if err != nil {
			return refused{fmt.Errorf("the shop's settings cannot be written: %w", err)}
		}
		_, err = w.exec(`UPDATE shops SET name = ?2, secret_hash = ?3, unique_key = ?4, settings = ?5 WHERE id = ?1`,
			[]value{num(id), str(shop.Name), bin(shop.SecretHash[:]), bin(shop.UniqueKey), txt(settings)})
		return err
	}})
	s.shops.forget(id)
	return shop, err
}

// shopFresh is how old what Shop says may be: a setting changed by another process (the command
// line beside the server) takes effect within this time.
const shopFresh = time.Second

// shopsKept bounds the shops, and the numbers that are no shop's, that are remembered.
const shopsKept = 10_000

// shopCache spares the hot path a read for each request. What is not there is remembered too, so
// that asking for it takes no longer than for a shop.
type shopCache struct {
	mu    sync.RWMutex
	shops map[int64]cachedShop
}

type cachedShop struct {
	shop merchant.Shop
	err  error
	at   time.Time
}

// Shop finds a shop as it was at most a second ago.
func (s *Store) Shop(ctx context.Context, id int64) (merchant.Shop, error) {
	s.shops.mu.RLock()
	c, ok := s.shops.shops[id]
	s.shops.mu.RUnlock()
	now := s.cfg.Now()
	if age := now.Sub(c.at); ok && 0 <= age && age < shopFresh {
		return c.shop, c.err
	}
	return s.readShop(ctx, id, now)
}

// readShop finds a shop as it is stored, and remembers it.
func (s *Store) readShop(ctx context.Context, id int64, now time.Time) (merchant.Shop, error) {
	c := cachedShop{at: now}
	err := s.engine.read(ctx, func(q querier) error {
		c.shop, c.err = shopByID(q, id)
		return nil
	})
	if err != nil || c.err != nil && !errors.Is(c.err, ErrNotFound) {
		return c.shop, errors.Join(err, c.err)
	}
	s.shops.mu.Lock()
	defer s.shops.mu.Unlock()
	if s.shops.shops == nil || len(s.shops.shops) >= shopsKept {
		s.shops.shops = make(map[int64]cachedShop)
	}
	s.shops.shops[id] = c
	return c.shop, c.err
}

// forget makes what this process changed visible to itself at once.
func (c *shopCache) forget(id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.shops, id)
}

// Shops lists all shops by id.
func (s *Store) Shops(ctx context.Context) (shops []merchant.Shop, err error) {
	err = s.engine.read(ctx, func(q querier) error {
		return q.query(selectShop+` ORDER BY id`, nil, func(r record) error {
			shop, err := scanShop(r)
			shops = append(shops, shop)
			return err
		})
	})
	return shops, err
}

const selectShop = `SELECT id, name, secret_hash, unique_key, created_at, settings FROM shops`

func shopByID(q querier, id int64) (shop merchant.Shop, err error) {
	err = q.query(selectShop+` WHERE id = ?1`, []value{num(id)}, func(r record) (err error) {
		shop, err = scanShop(r)
		return err
	})
	if err == nil && shop.ID == 0 {
		err = fmt.Errorf("shop %d: %w", id, ErrNotFound)
	}
	return shop, err
}

func scanShop(r record) (merchant.Shop, error) {
	shop := merchant.Shop{ID: r.int(0), Name: r.text(1), UniqueKey: r.blob(3), CreatedAt: timeAt(r.int(4))}
	copy(shop.SecretHash[:], r.blob(2))
	if err := json.Unmarshal(r.blob(5), &shop.Settings); err != nil {
		return shop, fmt.Errorf("the settings of shop %d cannot be read: %w", shop.ID, err)
	}
	return shop, nil
}
