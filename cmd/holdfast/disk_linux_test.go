package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"holdfast"
	"holdfast/internal/sim"
)

// The disk fails under the real program: the kernel itself refuses to sync, or to write, from a moment on that the test
// chooses. Nothing here needs rights: a process may always take some from itself.

// diskFails makes the program (see TestMain) obey two signals: on the first the kernel refuses every sync from then on,
// on the second every write that would make a file grow.
const diskFails = "HOLDFAST_TEST_DISK_FAILS"

func init() {
	if os.Getenv(diskFails) == "" {
		return
	}
	signal.Ignore(syscall.SIGXFSZ) // so that a write past the limit is an error and not the end
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		var err error
		if <-signals == syscall.SIGUSR1 {
			err = refuseSync()
		} else {
			err = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "the disk cannot be made to fail:", err)
			os.Exit(3)
		}
	}()
}

// refuseSync has the kernel answer EIO to each fsync and fdatasync of this process (seccomp, a filter of five instructions).
func refuseSync() error {
	type instruction struct {
		code    uint16
		yes, no uint8
		k       uint32
	}
	type program struct {
		length uint16
		filter *instruction
	}
	const (
		loadNumber, jumpIfEqual, answer = 0x20, 0x15, 0x06
		fail, allow                     = 0x0005_0000 | uint32(syscall.EIO), 0x7fff_0000
		noNewPrivileges                 = 38 // prctl
		setFilter, allThreads           = 1, 1
	)
	seccomp := map[string]uintptr{"amd64": 317, "arm64": 277}[runtime.GOARCH]
	filter := []instruction{
		{loadNumber, 0, 0, 0},
		{jumpIfEqual, 1, 0, syscall.SYS_FSYNC},
		{jumpIfEqual, 0, 1, syscall.SYS_FDATASYNC},
		{answer, 0, 0, fail},
		{answer, 0, 0, allow},
	}
	// Both calls are made by one thread; the second takes the others along.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, noNewPrivileges, 1, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	p := program{uint16(len(filter)), &filter[0]}
	if _, _, errno := syscall.RawSyscall(seccomp, setFilter, allThreads, uintptr(unsafe.Pointer(&p))); errno != 0 {
		return errno
	}
	return nil
}

func TestDiskFailsUnderTheProgram(t *testing.T) {
	for name, failure := range map[string]syscall.Signal{"a sync fails": syscall.SIGUSR1, "the disk is full": syscall.SIGUSR2} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			s := newStageLogging(t, "error", &log)
			s.kill()
			s.env = []string{diskFails + "=1"}
			s.start()
			const payers = 4
			var group sync.WaitGroup
			logs := make([][]acknowledged, payers)
			enough := make(chan struct{}, 1000)
			for i := range payers {
				card := s.card(i)
				group.Go(func() { logs[i] = s.payUntilItFails(card, fmt.Sprint("disk-", i), enough) })
			}
			for range 3 * payers {
				<-enough
			}
			if err := s.process.Process.Signal(failure); err != nil {
				t.Fatal(err)
			}
			group.Wait() // each payer was told no
			// It stops at once, and says so; it lives, so that somebody can ask it why.
			for i, until := 0, time.Now().Add(2*time.Second); i < 20 || time.Now().Before(until); i++ {
				if _, err := s.client().Prepare(t.Context(), prepare(fmt.Sprint("after-", i))); err == nil {
					t.Error("a payment is acknowledged after the disk has failed")
				}
			}
			if status, body := s.ask("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "no longer acknowledges") || !strings.Contains(body, "the disk of ") {
				t.Errorf("readyz: %d %q", status, body)
			}
			if status, _ := s.ask("/healthz"); status != http.StatusOK {
				t.Errorf("healthz: %d", status)
			}
			// It can still be stopped, within its time.
			if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { s.process.Wait(); close(ended) }()
			select {
			case <-ended:
				s.process = nil
			case <-time.After(patience): // it gives itself stopWithin
				t.Fatal("it cannot be stopped")
			}
			// The log says it once, and not whenever somebody looks for work.
			for _, loop := range []string{"cannot be taken from the store", "deadlines cannot be kept"} {
				if strings.Contains(log.String(), loop) {
					t.Errorf("the log repeats that the store has failed: %s", log.String())
				}
			}
			if strings.Count(log.String(), "the store failed; nothing more is acknowledged until a restart") != 1 {
				t.Errorf("the log does not say once that the store has failed: %s", log.String())
			}
			// On a disk that works everything that was acknowledged is there.
			s.env = nil
			s.start()
			result := s.atRest()
			told := s.checkAll(logs)
			t.Logf("figures: disk: %d payments acknowledged before the disk failed, %d stored; lost %d, doubled %d", told, result.Payments, result.Books.Lost, result.Books.Doubled)
		})
	}
}

func (s *stage) ask(path string) (status int, body string) {
	s.t.Helper()
	res, err := http.Get("http://" + s.listen + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Error(err)
	}
	return res.StatusCode, string(text)
}

// payUntilItFails makes payments one after another until a call is not answered with yes, and remembers what was
// acknowledged.
func (s *stage) payUntilItFails(card simCard, name string, made chan<- struct{}) (log []acknowledged) {
	client, ctx := s.client(), context.Background()
	for n := 0; n < cap(made); n++ {
		state, err := client.Prepare(ctx, prepare(fmt.Sprint(name, "-", n)))
		if err != nil {
			return log
		}
		log = append(log, acknowledged{uuid: state.PaymentUUID})
		a := &log[len(log)-1]
		entity, err := client.Pay(ctx, state.PaymentUUID, pay(card))
		if err != nil {
			return log
		}
		info, err := client.VerificationInfo(ctx, state.PaymentUUID)
		if err != nil {
			return log
		}
		var messages []sim.Message
		s.get("/sim/sms?limit=1&phone="+card.Phone, &messages)
		if len(messages) == 0 {
			return log
		}
		_, err = client.CheckSMSKey(ctx, holdfast.CheckSMSKeyRequest{SMSKey: holdfast.Secret(messages[0].Code), PaymentID: entity.ID, VerifyID: info.VerifyID})
		if err != nil {
			return log
		}
		a.held = true
		if _, err = client.Accept(ctx, holdfast.AcceptRequest{PaymentUUID: state.PaymentUUID, AcceptStatus: holdfast.AcceptCapture, FinalAmount: "400.00"}); err != nil {
			return log
		}
		a.decided = "400.00"
		select {
		case made <- struct{}{}:
		default:
		}
	}
	s.t.Error("the disk never failed")
	return log
}
