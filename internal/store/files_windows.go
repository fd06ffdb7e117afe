package store

import (
	"os"

	"golang.org/x/sys/windows"
)

// takeAlone locks a file for this process, or fails at once where another has it.
func takeAlone(f *os.File) error {
	const exclusive = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	return windows.LockFileEx(windows.Handle(f.Fd()), exclusive, 0, 1, 0, new(windows.Overlapped))
}

// syncDir has nothing to do: Windows has no call for it, and NTFS keeps names in a journal of its own.
func syncDir(string) error { return nil }
