//go:build !linux

package bench

import "os/exec"

// Start is cmd.Start: nobody here can say how late a process may be woken, and whom it may interrupt.
func Start(cmd *exec.Cmd, elsewhere bool) error { return cmd.Start() }

func standBack() error { return nil }

func onThread(do func() error) error { return do() }
