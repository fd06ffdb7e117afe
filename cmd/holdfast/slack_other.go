//go:build !linux

package main

import "os/exec"

// startSlack is cmd.Start: nobody here can say how late a process may be woken.
func startSlack(cmd *exec.Cmd) error { return cmd.Start() }
