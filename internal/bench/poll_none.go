//go:build !unix

package bench

import (
	"errors"
	"time"
)

// Possible is nil where this system can measure, and says otherwise why it cannot.
func Possible() error { return errNoPoll }

var errNoPoll = errors.New("this system has no poll(2), which the load generator needs: run it on Linux, macOS or FreeBSD")

// poller is for nothing here: payers that cost as little as the measurement needs are not to be had, and dearer ones would
// measure themselves.
type poller struct{}

func newPoller() (*poller, error) { return nil, errNoPoll }

func (*poller) close() error                      { return nil }
func (*poller) add(int) error                     { return errNoPoll }
func (*poller) forget(int)                        {}
func (*poller) wait(time.Duration) ([]int, error) { return nil, errNoPoll }

func read(int, []byte) (int, error)        { return 0, errNoPoll }
func write(int, []byte) (int, error)       { return 0, errNoPoll }
func duplicateSocket(uintptr) (int, error) { return 0, errNoPoll }
func acceptSocket(int) (int, error)        { return 0, errNoPoll }
func closeSocket(int) error                { return nil }
