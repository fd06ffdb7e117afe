package bench

import (
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// policy is how the kernel schedules a process, or a thread (0: the one that asks).
func policy(t *testing.T, pid int) uint32 {
	t.Helper()
	a, err := unix.SchedGetAttr(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	return a.Policy
}

// Who stands for another machine interrupts nobody; what is measured is scheduled as it would be anyway.
func TestWhoIsElsewhereStandsBack(t *testing.T) {
	usual := policy(t, 0)
	for elsewhere, want := range map[bool]uint32{true: unix.SCHED_BATCH, false: usual} {
		cmd := exec.Command("cat")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := Start(cmd, elsewhere); err != nil {
			t.Fatal(err)
		}
		if got := policy(t, cmd.Process.Pid); got != want {
			t.Errorf("elsewhere %t: a process has the policy %d, want %d", elsewhere, got, want)
		}
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	l, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if err := l.run(func() (time.Duration, bool) {
		if got := policy(t, 0); got != unix.SCHED_BATCH {
			t.Errorf("the payers have the policy %d", got)
		}
		return 0, true
	}); err != nil {
		t.Error(err)
	}
	if got := policy(t, 0); got != usual {
		t.Errorf("after it the process has the policy %d", got)
	}
}
