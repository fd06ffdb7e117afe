package store

import (
	"context"
	"errors"
	"time"

	"holdfast/internal/payment"
)

// Lists are read in several parts by few.
func init() { noticesPart = 2 }

// NoticesPart makes lists be read in parts of so many; restore undoes that.
func NoticesPart(n int) (restore func()) {
	was := noticesPart
	noticesPart = n
	return func() { noticesPart = was }
}

// CapLog makes stores opened from now on cut their log at so many bytes; restore undoes that.
func CapLog(bytes int64) (restore func()) {
	was := walCap
	walCap = bytes
	return func() { walCap = was }
}

// Impatient makes stores wait no longer than d for a database that is away; restore undoes that.
func Impatient(d time.Duration) (restore func()) {
	reach, resolve, insist := reachWithin, resolveWithin, insistFor
	reachWithin, resolveWithin, insistFor = d, d, d
	return func() { reachWithin, resolveWithin, insistFor = reach, resolve, insist }
}

// SetMachine sets the clock of the machine that stores are opened on by d; restore undoes that.
func SetMachine(d time.Duration) (restore func()) {
	was := machineTime
	machineTime = func() time.Time { return was().Add(d) }
	return func() { machineTime = was }
}

// ReadWithin bounds each try of a store on PostgreSQL to read.
func ReadWithin(s *Store, d time.Duration) { s.engine.(*postgresEngine).readWithin = d }

// CopyInBlocks makes copies commit so many rows of payments at a time; restore undoes that.
func CopyInBlocks(rows int64) (restore func()) {
	was := copyRows
	copyRows = rows
	return func() { copyRows = was }
}

// Remembers reports whether the store answers for a payment without reading it.
func (s *Store) Remembers(id payment.ID) bool {
	_, ok := s.cache.byID(id)
	return ok
}

// WriteInVain hands in a write that fails, and with it, the first time, those that share its commit.
func WriteInVain(s *Store) error {
	return s.do(context.Background(), &job{exec: func(writing, time.Time) error { return errors.New("it cannot be written") }})
}
