package store

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// syncer makes what was written to a file durable, for one caller at a time.
//
// A thread that waits in fdatasync keeps one of Go's processors, with all that is ready to run on it, until the scheduler
// notices: on one processor that stopped everything for as long as the disk took, at each commit. So the kernel is handed
// the question (linux/aio_abi.h, IOCB_CMD_FDSYNC, Linux 4.18), and says through a descriptor that Go's poller watches when
// it has the answer. Where it takes no such question, fdatasync is called.
type syncer struct {
	file   *os.File
	kernel uintptr  // the kernel's name for our questions; 0: it takes none
	ready  *os.File // an eventfd that counts answers
	ask    iocb
	asked  [1]*iocb
	answer ioEvent
}

// iocb is struct iocb of linux/aio_abi.h, a question.
type iocb struct {
	_        uint64 // ours to tell answers apart
	_        uint64 // the kernel's
	opcode   uint16
	_        uint16 // priority
	fd       uint32
	buffer   uint64
	bytes    uint64
	_        int64 // offset
	_        uint64
	flags    uint32
	resultFD uint32
}

// ioEvent is struct io_event of linux/aio_abi.h, an answer.
type ioEvent struct {
	_, _   uint64 // which question it answers: there is only one
	result int64  // 0, or an error's number, negative
	_      int64
}

const (
	iocbFDSync   = 3 // IOCB_CMD_FDSYNC
	iocbToResult = 1 // IOCB_FLAG_RESFD: count the answer in resultFD
)

func newSyncer(path string) (*syncer, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	s := &syncer{file: file}
	if _, _, e := unix.Syscall(unix.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&s.kernel)), 0); e != 0 {
		s.kernel = 0
		return s, nil
	}
	ready, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil { // it can be done without
		if _, _, e := unix.Syscall(unix.SYS_IO_DESTROY, s.kernel, 0, 0); e != 0 {
			return nil, errors.Join(e, file.Close())
		}
		s.kernel = 0
		return s, nil
	}
	s.ready = os.NewFile(uintptr(ready), "eventfd")
	s.ask = iocb{opcode: iocbFDSync, fd: uint32(file.Fd()), flags: iocbToResult, resultFD: uint32(ready)}
	s.asked[0] = &s.ask
	return s, nil
}

// sync returns when all that was written to the file before is on the disk.
func (s *syncer) sync() error {
	if s.kernel == 0 {
		return s.syncHere()
	}
	if _, _, e := unix.Syscall(unix.SYS_IO_SUBMIT, s.kernel, 1, uintptr(unsafe.Pointer(&s.asked))); e != 0 {
		return s.syncHere() // which says what is wrong with the file, if anything is
	}
	var count [8]byte
	if _, err := s.ready.Read(count[:]); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	for {
		_, _, e := unix.Syscall6(unix.SYS_IO_GETEVENTS, s.kernel, 1, 1, uintptr(unsafe.Pointer(&s.answer)), 0, 0)
		switch {
		case e == unix.EINTR:
			continue
		case e != 0:
			return fmt.Errorf("sync: %w", e)
		case s.answer.result < 0:
			return fmt.Errorf("sync: %w", syscall.Errno(-s.answer.result))
		}
		return nil
	}
}

func (s *syncer) syncHere() error {
	if err := unix.Fdatasync(int(s.file.Fd())); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

func (s *syncer) close() error {
	var err error
	if s.kernel != 0 {
		if _, _, e := unix.Syscall(unix.SYS_IO_DESTROY, s.kernel, 0, 0); e != 0 {
			err = e
		}
	}
	if s.ready != nil {
		err = errors.Join(err, s.ready.Close())
	}
	return errors.Join(err, s.file.Close())
}
