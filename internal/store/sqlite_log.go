package store

import (
	"encoding/binary"
	"fmt"
	"net/url"
	"sync"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLite writes its log frame by frame, each with two system calls, one for the frame's header of 24 bytes and one for its page:
// forty a commit. So a file system of SQLite's kind (a VFS) lies over the system's, the same in all but this: what is written to a
// log is gathered, and goes to the file in one piece with the frame that ends the transaction. Only then SQLite tells other
// connections that the frames are there. A connection that uses it must never spill its cache (PRAGMA cache_spill): then
// frames are written only by a commit, all of them, under the lock of the one who writes; nothing gathered is left behind.

// gathering is the file system's name.
const gathering = "holdfast"

// throughGathering is a store's path in SQLite's words, opened through that file system.
func throughGathering(path string) string {
	makeGathering()
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?vfs=" + gathering
}

var makeGathering = sync.OnceFunc(func() {
	tls := libc.NewTLS()
	defer tls.Close()
	system := at[sqlite3.Tsqlite3_vfs](sqlite3.Xsqlite3_vfs_find(tls, 0))
	address, rc := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(*system))), int32(sqlite3.SQLITE_NOMEM)
	name, err := libc.CString(gathering)
	if address != 0 && err == nil {
		vfs := at[sqlite3.Tsqlite3_vfs](address) // it stays there as long as the process lives
		*vfs = *system
		vfs.FpNext, vfs.FzName, vfs.FxOpen = 0, name, pointer(openLog)
		openFile = goFunc[openFunc](system.FxOpen)
		rc = sqlite3.Xsqlite3_vfs_register(tls, address, 0)
	}
	if rc != sqlite3.SQLITE_OK {
		panic(fmt.Sprintf("SQLite does not take a file system: error %d", rc))
	}
})

var openFile openFunc // the system's

// logFile is a log that a connection has open. SQLite reaches it by the address of its methods, which come first, and it is
// in SQLite's memory, where Go's collector does not look: there are no pointers of Go's in it.
type logFile struct {
	methods sqlite3.Tsqlite3_io_methods
	system  sqlite3.Tsqlite3_io_methods // those of the file under it

	start    int64 // where in the file the first byte belongs that is gathered
	length   int   // how many are
	ends     bool  // the frame whose header came last ends its transaction
	gathered [mostGathered]byte
}

const (
	// Write-Ahead Log File Format, "The WAL Frame Header": bytes 4 to 7 are zero but in a frame that ends a transaction.
	frameHeader = 24
	// SQLite's own write does less than 128 KiB at once (os_unix.c, seekAndWriteFd).
	mostGathered = 120 << 10
)

func openLog(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32 {
	rc := openFile(tls, vfs, name, file, flags, outFlags)
	if rc != sqlite3.SQLITE_OK || flags&sqlite3.SQLITE_OPEN_WAL == 0 {
		return rc
	}
	methods := at[uintptr](file)
	system := *at[sqlite3.Tsqlite3_io_methods](*methods)
	address := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(logFile{})))
	if address == 0 {
		goFunc[closeFunc](system.FxClose)(tls, file)
		return sqlite3.SQLITE_NOMEM
	}
	l := at[logFile](address)
	l.system, l.methods = system, system
	l.methods.FxWrite, l.methods.FxClose = pointer(writeLog), pointer(closeLog)
	*methods = address
	return rc
}

// writeLog is sqlite3_io_methods.xWrite: a frame's header, its page, or the header of the log.
func writeLog(tls *libc.TLS, file, bytes uintptr, amount int32, offset int64) int32 {
	l := *at[*logFile](file) // a file begins with the address of its methods
	if offset != l.start+int64(l.length) || l.length+int(amount) > mostGathered {
		if rc := l.flush(tls, file); rc != sqlite3.SQLITE_OK {
			return rc
		}
		l.start = offset
	}
	written := unsafe.Slice(at[byte](bytes), amount)
	l.length += copy(l.gathered[l.length:], written)
	if amount == frameHeader {
		l.ends = binary.BigEndian.Uint32(written[4:]) != 0
		return sqlite3.SQLITE_OK
	}
	logHeader := offset == 0
	if logHeader || l.ends {
		return l.flush(tls, file)
	}
	return sqlite3.SQLITE_OK
}

// flush writes what is gathered. What cannot be written is dropped: its transaction will be none.
func (l *logFile) flush(tls *libc.TLS, file uintptr) int32 {
	if l.length == 0 {
		return sqlite3.SQLITE_OK
	}
	rc := goFunc[writeFunc](l.system.FxWrite)(tls, file, uintptr(unsafe.Pointer(&l.gathered)), int32(l.length), l.start)
	l.start, l.length = l.start+int64(l.length), 0
	return rc
}

// closeLog is sqlite3_io_methods.xClose.
func closeLog(tls *libc.TLS, file uintptr) int32 {
	methods := at[uintptr](file)
	address := *methods
	defer libc.Xfree(tls, address)
	system := at[logFile](address).system
	return goFunc[closeFunc](system.FxClose)(tls, file)
}

type (
	openFunc  = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32
	writeFunc = func(tls *libc.TLS, file, bytes uintptr, amount int32, offset int64) int32
	closeFunc = func(tls *libc.TLS, file uintptr) int32
)

// at is what stands at an address in SQLite's memory, which Go's collector does not move; go vet, which cannot know that, would
// not have an address made a pointer more directly.
func at[T any](address uintptr) *T { return *(**T)(unsafe.Pointer(&address)) }

// pointer is a function of Go as SQLite, which is translated from C to Go, calls it: a word that leads to its code. The function must
// be one of the package's own, of which there is always one. goFunc is the reverse.
func pointer[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&f)) }

func goFunc[F any](pointer uintptr) F { return *(*F)(unsafe.Pointer(&pointer)) }
