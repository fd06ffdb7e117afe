package bench

import (
	"fmt"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// timerSlack is by how many nanoseconds a process of a run may be woken late: docs/deploy/holdfast.service says the same
// (TimerSlackNSec). Go's scheduler asks to be woken every 20 µs to look after its threads, which is dear where the kernel
// takes it at its word and unnoticed where it does not.
const timerSlack = 1_000_000

// Start is cmd.Start for a process of a run, which has timerSlack. One that is elsewhere in truth stands back as well.
func Start(cmd *exec.Cmd, elsewhere bool) error {
	return onThread(func() error {
		err := unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0)
		if err == nil && elsewhere {
			err = standBack()
		}
		if err == nil {
			err = cmd.Start() // a process inherits from the thread that makes it
		}
		return err
	})
}

// standBack has the calling thread wait for its turn: woken, it does not push off its core who runs there (SCHED_BATCH,
// sched(7)). Payers and processing centres are other machines in truth; here each word of the gateway's would interrupt it.
func standBack() error {
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH}, 0); err != nil {
		return fmt.Errorf("bench cannot keep out of the way of what it measures: the system refuses sched_setattr: %w", err)
	}
	return nil
}

// onThread runs do on a thread of its own, which ends with it.
func onThread(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		done <- do()
	}()
	return <-done
}
