package postgrestest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// folders is how the folders of servers are called, and how those that were left are known.
const folders = "holdfast-postgres-"

// abandonedAfter is how old a folder is before it can count as left: its keeper has started long ago.
const abandonedAfter = 10 * time.Minute

// sweep ends servers whose keeper is gone, and removes their folders. A keeper cleans up behind itself; only one that
// was killed itself leaves something.
var sweep = sync.OnceFunc(func() {
	found, _ := filepath.Glob(filepath.Join(os.TempDir(), folders+"*")) // the pattern is a good one
	for _, dir := range found {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > abandonedAfter && isLinux() && !kept(dir) {
			remove(dir)
		}
	}
})

// kept reports whether a keeper of the folder runs: its name is among the words that it was started with.
func kept(dir string) bool {
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range processes {
		if words, err := os.ReadFile(file); err == nil && strings.Contains(string(words), "keeper\x00") && strings.Contains(string(words), "\x00"+dir+"\x00") {
			return true
		}
	}
	return false
}

// remove ends the server of a folder, if it still runs, and removes the folder. Another user's stays where it is.
func remove(dir string) {
	data := filepath.Join(dir, "data")
	text, _ := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	first, _, _ := strings.Cut(string(text), "\n")
	// The number may be another process's by now: the server is the one that works in the folder.
	if process, err := strconv.Atoi(first); err == nil {
		if where, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", process)); err == nil && where == data {
			syscall.Kill(process, syscall.SIGQUIT)
			eventually(func() error {
				if running(process) {
					return fmt.Errorf("process %d runs", process)
				}
				return nil
			})
		}
	}
	os.RemoveAll(dir)
}
