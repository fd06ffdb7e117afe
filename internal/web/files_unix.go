//go:build unix

package web

import "syscall"

// openable is how many files and connections this process may have open; 0: nobody says.
func openable() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Cur)
}
