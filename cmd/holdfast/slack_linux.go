package main

import (
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// timerSlack is by how many nanoseconds a process of ours may be woken late: docs/deploy/holdfast.service says the same
// (TimerSlackNSec). Go's scheduler asks to be woken every 20 µs to look after its threads, which is dear where the kernel
// takes it at its word and unnoticed where it does not.
const timerSlack = 1_000_000

// startSlack is cmd.Start for a process that has timerSlack.
func startSlack(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		// A process inherits the slack of the thread that makes it. This one is locked and so ends with its goroutine.
		runtime.LockOSThread()
		err := unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	return <-started
}
