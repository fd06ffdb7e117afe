// Package postgrestest gives a test a PostgreSQL of its own: the distribution's server, with full sync, on a free
// loopback port and in a temporary folder. It can be killed, followed by a synchronous standby that is promoted in
// its place, and reached through a proxy that cuts a connection at any message. Tests alone import it.
//
// Database is what most tests want: a fresh database on the one server that all tests of a process share. Start is
// for a test that does something to the server itself. Nothing has to be stopped: each server has a keeper, a
// process that ends it and removes its folder when the test process lets go of it, be it by its end, by a panic or
// by kill -9.
//
// A machine without PostgreSQL fails the test and says what to install; nothing is skipped.
//
// Order to read: postgrestest.go (servers and databases), standby.go (a second server that takes over), proxy.go
// (connections that break), refuse.go (statements that fail), stale.go (what a lost keeper left), port.go (ports that stay
// free), distributed.go (what of SQL the engines that spread a database over machines do not take).
package postgrestest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Owner is the role that owns the databases of tests. It may do nothing that an ordinary owner may not.
const (
	Owner    = "holdfast"
	Password = "only-for-tests"
)

// Everything that is waited for has this long; a machine may be slow.
const patience = 90 * time.Second

// settings are those of a production server as far as safety goes, and modest in size.
var settings = []string{
	"fsync=on", "synchronous_commit=on", "full_page_writes=on", "wal_sync_method=fdatasync",
	"listen_addresses=127.0.0.1", "max_connections=100", "shared_buffers=64MB", "max_wal_size=256MB",
	"wal_level=replica", "max_wal_senders=8", "hot_standby=on", "wal_receiver_status_interval=1s", "wal_retrieve_retry_interval=100ms",
	"unix_socket_permissions=0700", "logging_collector=off", "log_line_prefix=%m [%p] %a ",
}

// Server is one PostgreSQL server. Its methods fail the test they are given where something does not work.
type Server struct {
	name string // what it is called at a primary
	dir  string // all that is its: data, socket, log
	own  []string
	port int

	mu      sync.Mutex
	keeper  *exec.Cmd
	leash   io.WriteCloser // the server lives as long as this is open
	process int            // the postmaster's id
}

var shared = sync.OnceValues(func() (*Server, error) { return start("shared") })

// Database is a fresh, empty database on the server that the tests of this process share, as a DSN. It is dropped
// when the test ends.
func Database(t testing.TB) (dsn string) {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	dsn, name := s.database(t)
	t.Cleanup(func() { s.Exec(t, `DROP DATABASE `+name+` WITH (FORCE)`) })
	return dsn
}

// Start starts a server for one test alone. own are settings over the usual ones, each as name=value.
func Start(t testing.TB, own ...string) *Server {
	t.Helper()
	s, err := start("primary", own...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.discard(t) })
	return s
}

var databases atomic.Int64

// Database makes a fresh, empty database that belongs to Owner. It goes with the server.
func (s *Server) Database(t testing.TB) (dsn string) {
	t.Helper()
	dsn, _ = s.database(t)
	return dsn
}

func (s *Server) database(t testing.TB) (dsn, name string) {
	t.Helper()
	name = fmt.Sprintf("test%d", databases.Add(1))
	s.Exec(t, `CREATE DATABASE `+name+` OWNER `+Owner+` TEMPLATE template0`)
	return DSN(name, s), name
}

// DSN names a database on the first of the servers that takes writes.
func DSN(database string, servers ...*Server) string {
	var hosts []string
	for _, s := range servers {
		hosts = append(hosts, s.Address())
	}
	dsn := "postgres://" + Owner + ":" + Password + "@" + strings.Join(hosts, ",") + "/" + database + "?sslmode=disable"
	if len(servers) > 1 {
		return dsn + "&target_session_attrs=read-write&connect_timeout=2"
	}
	return dsn + "&connect_timeout=30" // a busy machine is not one whose server cannot be reached
}

// Address is where the server listens.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Exec runs statements as the server's administrator, each on its own.
func (s *Server) Exec(t testing.TB, statements ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.exec(ctx, statements...); err != nil {
		t.Fatalf("%v; the server's log ends:\n%s", err, s.LogTail())
	}
}

func (s *Server) exec(ctx context.Context, statements ...string) error {
	conn, err := pgx.Connect(ctx, s.adminDSN())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// Ask answers a query of one row and one column as text, as the server's administrator.
func (s *Server) Ask(t testing.TB, query string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := s.ask(ctx, query)
	if err != nil {
		t.Fatalf("%s: %v; the server's log ends:\n%s", query, err, s.LogTail())
	}
	return answer
}

func (s *Server) ask(ctx context.Context, query string) (answer string, err error) {
	conn, err := pgx.Connect(ctx, s.adminDSN())
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, `SELECT (`+query+`)::text`).Scan(&answer)
	return answer, err
}

// adminDSN leads to the socket in the server's folder, which is closed to others.
func (s *Server) adminDSN() string {
	return fmt.Sprintf("host='%s' port=%d user=postgres dbname=postgres connect_timeout=60", s.dir, s.port)
}

// await polls until a query, see ask, gives the answer that is wanted.
func (s *Server) await(t testing.TB, query, want string) {
	t.Helper()
	var last string
	err := eventually(func() (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if last, err = s.ask(ctx, query); err == nil && last != want {
			err = fmt.Errorf("%s is %q, not %q", query, last, want)
		}
		return err
	})
	if err != nil {
		t.Fatalf("%v; the server's log ends:\n%s", err, s.LogTail())
	}
}

// eventually calls f until it returns nil, and gives up with its last error.
func eventually(f func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		if err := f(); err == nil || time.Now().After(end) {
			return err
		}
	}
}

// ---- a server's life --------------------------------------------------------

// start makes a cluster and starts it.
func start(name string, own ...string) (*Server, error) {
	s, err := newServer(name, own...)
	if err != nil {
		return nil, err
	}
	// The administrator comes through the socket; over TCP everybody needs his password.
	hba := "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
	err = run("initdb", "--pgdata", s.data(), "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions")
	if err == nil {
		err = os.WriteFile(filepath.Join(s.data(), "pg_hba.conf"), []byte(hba), 0o600)
	}
	if err == nil {
		err = s.up()
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err = s.exec(ctx, `CREATE ROLE `+Owner+` LOGIN PASSWORD '`+Password+`'`)
	}
	if err != nil {
		return nil, errors.Join(err, s.end())
	}
	return s, nil
}

// newServer makes a server's folder.
func newServer(name string, own ...string) (*Server, error) {
	who, err := runAs()
	if err != nil {
		return nil, err
	}
	sweep()
	// The name of a socket must be short, and that of a test's own folder may be long.
	dir, err := os.MkdirTemp("", folders)
	if err != nil {
		return nil, err
	}
	if who != nil {
		err = os.Chown(dir, int(who.Uid), int(who.Gid))
	}
	return &Server{name: name, dir: dir, own: own}, err
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }
func (s *Server) log() string  { return filepath.Join(s.dir, "log") }

// LogTail is the end of the server's log.
func (s *Server) LogTail() string {
	text, err := os.ReadFile(s.log())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}

// keeper is the script of a server's keeper: it starts the server, says its process id, and ends it when standard
// input ends. The folder goes with it, unless the word on standard input is "keep".
const keeper = `
program=$1 folder=$2
shift 2
"$program" -D "$folder/data" "$@" >>"$folder/log" 2>&1 </dev/null &
server=$!
echo $server
read -r word
kill -s QUIT $server 2>>"$folder/log"
wait $server
[ "$word" = keep ] || rm -rf "$folder"
`

// up starts the server on a free port and waits until it takes connections. A server that had a port keeps it.
func (s *Server) up() error {
	for try := 1; ; try++ {
		if try > 1 || s.port == 0 {
			port, err := FreePort()
			if err != nil {
				return err
			}
			s.port = port
		}
		err := s.launch()
		if err == nil {
			return nil
		}
		// Between asking for a free port and using it, another process may have taken it.
		if try == 5 || !strings.Contains(s.LogTail(), "could not bind") {
			return fmt.Errorf("PostgreSQL does not start: %w; its log ends:\n%s", err, s.LogTail())
		}
		if err := s.down("keep"); err != nil {
			return err
		}
	}
}

func (s *Server) launch() error {
	bin, err := programFile("postgres")
	if err != nil {
		return err
	}
	args := []string{"-c", keeper, "keeper", bin, s.dir}
	for _, setting := range slices.Concat(settings, s.own, []string{"port=" + strconv.Itoa(s.port), "unix_socket_directories=" + s.dir}) {
		args = append(args, "-c", setting)
	}
	cmd, err := command("sh", args...)
	if err != nil {
		return err
	}
	cmd.SysProcAttr.Setpgid = true // Ctrl-C is for the test; the keeper learns of it by the test's end
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return errors.Join(err, stdin.Close(), cmd.Wait())
	}
	process, err := strconv.Atoi(strings.TrimSpace(line))
	s.mu.Lock()
	s.keeper, s.leash, s.process = cmd, stdin, process
	s.mu.Unlock()
	if err != nil {
		return err
	}
	gone := error(nil)
	err = eventually(func() error {
		if !running(process) {
			gone = errors.New("it ended at once")
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := s.ask(ctx, `SELECT 1`)
		return err
	})
	return errors.Join(gone, err)
}

// down lets go of the keeper and waits for its end. word says what becomes of the folder.
func (s *Server) down(word string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keeper == nil {
		return nil
	}
	_, err := io.WriteString(s.leash, word+"\n")
	err = errors.Join(err, s.leash.Close())
	late := time.AfterFunc(patience, func() {
		syscall.Kill(s.process, syscall.SIGKILL)
	})
	// Its exit status is that of its last command, which says nothing: whether the server is gone can be seen.
	s.keeper.Wait()
	late.Stop()
	if running(s.process) {
		err = errors.Join(err, fmt.Errorf("process %d of PostgreSQL does not end", s.process))
	}
	s.keeper, s.leash, s.process = nil, nil, 0
	return err
}

// end ends the server and removes its folder.
func (s *Server) end() error { return errors.Join(s.down(""), os.RemoveAll(s.dir)) }

func (s *Server) discard(t testing.TB) {
	if err := s.end(); err != nil {
		t.Errorf("PostgreSQL cannot be ended: %v", err)
	}
}

func (s *Server) alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keeper != nil && running(s.process)
}

// Kill ends the server as a power cut would: every process of it at once, without a word to its clients.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keeper == nil {
		t.Fatal("the server does not run")
	}
	// While the postmaster stands still it makes no further processes.
	if err := syscall.Kill(s.process, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	processes := append(children(s.process), s.process)
	for _, process := range processes {
		if err := syscall.Kill(process, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
	err := eventually(func() error {
		for _, process := range processes {
			if running(process) {
				return fmt.Errorf("process %d of PostgreSQL was killed and does not end", process)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Restart starts a server again that was killed, or one that runs, which is then ended as by Kill.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if s.alive() {
		s.Kill(t)
	}
	if err := s.down("keep"); err != nil {
		t.Fatal(err)
	}
	if err := s.up(); err != nil {
		t.Fatal(err)
	}
}

// ---- processes and programs -------------------------------------------------

// running reports whether a process runs; one that has ended and waits to be looked at does not.
func running(process int) bool {
	if process <= 0 || syscall.Kill(process, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist) || !isLinux()
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func isLinux() bool {
	_, err := os.Stat("/proc/self/stat")
	return err == nil
}

// children are the processes that a process has started. Where the system does not tell there are none, and a
// server's processes then end by themselves, once they see that their postmaster is gone.
func children(process int) (found []int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", process, process))
	if err != nil {
		return nil
	}
	for word := range strings.FieldsSeq(string(text)) {
		if child, err := strconv.Atoi(word); err == nil {
			found = append(found, child)
		}
	}
	return found
}

// programFile finds a program of PostgreSQL: the newest in Debian's place, or the one in PATH.
func programFile(name string) (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil {
		return "", err
	}
	version := func(file string) int {
		n, _ := strconv.Atoi(strings.Split(file, "/")[4])
		return n
	}
	if len(found) > 0 {
		return slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) }), nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("this test needs PostgreSQL, and there is no %s: run make needs, or install the package postgresql", name)
	}
	return path, nil
}

// runAs is whom PostgreSQL runs as: it refuses root, so root gives way to postgres. nil: as we do.
var runAs = sync.OnceValues(func() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and there is nobody else: %w (the package postgresql makes the user)", err)
	}
	uid, err := strconv.ParseUint(who.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(who.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
})

// command is a program to be run as whom PostgreSQL runs as.
func command(name string, args ...string) (*exec.Cmd, error) {
	who, err := runAs()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	return cmd, nil
}

// run runs a program of PostgreSQL to its end.
func run(name string, args ...string) error {
	path, err := programFile(name)
	if err != nil {
		return err
	}
	cmd, err := command(path, args...)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}
