package store

import (
	"context"
	"crypto/aes"
	"encoding/binary"
	"time"
)

// A payment has two numbers. Its row's, seq, goes up from 1; where several processes serve, each reserves a block at a time.
// The public one is 31 bits, given without repetition and not guessable from one another: seq under a keyed permutation.
// Past 2^31 payments they come round again, and a number means the newest payment that has it; nobody asks for the others
// by number.
const (
	numberBits = 31
	numberMask = 1<<numberBits - 1
	rounds     = 6
)

// permute is a Feistel network of two halves of 16 bits, walked until the result is a positive
// 31-bit number again.
func (s *Store) permute(n uint32, reverse bool) uint32 {
	for {
		left, right := uint16(n>>16), uint16(n)
		for i := range rounds {
			if reverse {
				left, right = right^s.round(rounds-1-i, left), left
			} else {
				left, right = right, left^s.round(i, right)
			}
		}
		if n = uint32(left)<<16 | uint32(right); n > 0 && n <= numberMask {
			return n
		}
	}
}

func (s *Store) round(i int, half uint16) uint16 {
	var b [aes.BlockSize]byte
	b[0] = byte(i)
	binary.BigEndian.PutUint16(b[1:], half)
	s.numbers.Encrypt(b[:], b[:])
	return binary.BigEndian.Uint16(b[:])
}

// numberOf is the public number of the payment in row seq.
func (s *Store) numberOf(seq int64) int64 {
	// Row numbers start at 1 and leave out what is 0 modulo 2^31-1, so the permuted domain is 1 … 2^31-1.
	return int64(s.permute(uint32((seq-1)%numberMask)+1, false))
}

// seqOf is the newest row that has the number, as far as this process knows.
func (s *Store) seqOf(number int64) (int64, bool) {
	if number <= 0 || number > numberMask {
		return 0, false
	}
	low := int64(s.permute(uint32(number), true)) // 1 … 2^31-1
	last := s.lastSeq.Load()
	if low > last {
		return low, true // perhaps made by another process; the row says
	}
	return last - (last-low)%numberMask, true
}

// rowsFresh is how old a shared engine's last row number may be, as far as this process knows it: in that time nobody
// makes so many payments that numbers come round.
const rowsFresh = time.Minute

// lookForRows learns how far row numbers have come: at the start, and, where others reserve some too, now and then.
func (s *Store) lookForRows(ctx context.Context) error {
	if looked := s.lookedForRows.Load(); looked != 0 && (s.Alone() || time.Since(time.Unix(0, looked)) < rowsFresh) {
		return nil
	}
	top, err := s.engine.top(ctx)
	if err != nil {
		return err
	}
	s.sawRow(top)
	s.lookedForRows.Store(time.Now().UnixNano())
	return nil
}

func (s *Store) sawRow(seq int64) {
	for last := s.lastSeq.Load(); last < seq && !s.lastSeq.CompareAndSwap(last, seq); last = s.lastSeq.Load() {
	}
}

// reserve sees to it that there are row numbers for so many new payments.
func (c *committer) reserve(payments int) error {
	if c.store.Alone() {
		return nil
	}
	free := 0
	for _, r := range c.rows {
		free += int(r.last - r.next + 1)
	}
	for free < payments {
		first, last, err := c.store.engine.block(context.Background())
		if err != nil {
			return err
		}
		c.rows = append(c.rows, rowRange{first, last})
		c.store.sawRow(last)
		free += int(last - first + 1)
	}
	return nil
}

// rowRange is row numbers that are this process's.
type rowRange struct{ next, last int64 }

// nextSeq is the row for a new payment.
func (c *committer) nextSeq() int64 {
	if c.store.Alone() {
		return c.store.lastSeq.Add(1)
	}
	r := &c.rows[0]
	seq := r.next
	if r.next++; r.next > r.last {
		c.rows = c.rows[1:]
	}
	return seq
}
