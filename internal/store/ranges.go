package store

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"holdfast/internal/payment"
)

// Cards is an edition of the card range table. Whoever makes something of it may keep that for as long as
// the pointer is the same.
type Cards struct {
	payment.CardTable
	Edition int64     // 1, 2, 3 …; 0: the one that is built in
	At      time.Time // when it was made
}

// cardCache is the edition last read, and when it was last known to be in force.
type cardCache struct{ last atomic.Pointer[cardsAsOf] }

type cardsAsOf struct {
	*Cards
	at time.Time
}

// cardsFresh is how old what Cards says may be.
const cardsFresh = time.Second

var builtIn = &Cards{CardTable: payment.BuiltInCards()}

// Cards is the card range table as it was at most a second ago.
func (s *Store) Cards(ctx context.Context) (*Cards, error) {
	now := s.cfg.Now()
	last := s.cards.last.Load()
	if last != nil {
		if age := now.Sub(last.at); 0 <= age && age < cardsFresh {
			return last.Cards, nil
		}
	}
	var cards *Cards
	err := s.engine.read(ctx, func(q querier) (err error) {
		cards, err = newestCards(q, last)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.cards.last.Store(&cardsAsOf{cards, now})
	return cards, nil
}

// UpdateCards lets change edit the card range table and makes a new edition of it, which a running server
// takes up within a second. A table that cannot be is refused (payment.CardTable.Checked).
func (s *Store) UpdateCards(ctx context.Context, change func(*payment.CardTable) error) (*Cards, error) {
	var made *Cards
	err := s.do(ctx, &job{exec: func(w writing, now time.Time) error {
		cards, err := newestCards(w, nil)
		if err != nil {
			return refused{err}
		}
		next := Cards{Edition: cards.Edition + 1, At: now}
		next.Ranges, next.NoLuhn = slices.Clone(cards.Ranges), slices.Clone(cards.NoLuhn) // others read them
		if err := change(&next.CardTable); err != nil {
			return refused{err}
		}
		if next.CardTable, err = next.CardTable.Checked(); err != nil {
			return refused{err}
		}
		text, err := json.Marshal(&next.CardTable, json.Deterministic(true))
		if err != nil {
			return refused{fmt.Errorf("the card range table cannot be written: %w", err)}
		}
		made = &next
		_, err = w.exec(`INSERT INTO card_tables (edition, at, cards) VALUES (?1, ?2, ?3)`, []value{num(next.Edition), moment(now), txt(text)})
		return err
	}})
	s.cards.last.Store(nil)
	if err != nil {
		return nil, err
	}
	return made, nil
}

// newestCards reads the table in force; known, which may be nil, is not read again.
func newestCards(q querier, known *cardsAsOf) (*Cards, error) {
	cards := builtIn
	err := q.query(`SELECT edition, at, cards FROM card_tables ORDER BY edition DESC LIMIT 1`, nil, func(r record) error {
		edition := r.int(0)
		if known != nil && known.Edition == edition {
			cards = known.Cards
			return nil
		}
		var table payment.CardTable
		err := json.Unmarshal(r.blob(2), &table)
		if err == nil {
			table, err = table.Checked()
		}
		if err != nil {
			return fmt.Errorf("edition %d of the card range table cannot be read: %w", edition, err)
		}
		cards = &Cards{CardTable: table, Edition: edition, At: timeAt(r.int(1))}
		return nil
	})
	return cards, err
}
