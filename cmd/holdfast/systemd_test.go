package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/merchant"
	"holdfast/internal/postgrestest"
)

// systemd is the far end of sd_notify: what a service says, it hears.
type systemd struct {
	t    *testing.T
	conn *net.UnixConn
	path string
}

func newSystemd(t *testing.T) *systemd {
	// The name of a socket must be short, and that of a test's folder may be long.
	dir, err := os.MkdirTemp("", "holdfast-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &systemd{t, conn, path}
}

// hear is the next thing that a service says within the time; "": nothing.
func (s *systemd) hear(within time.Duration) string {
	s.t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		s.t.Fatal(err)
	}
	b := make([]byte, 1000)
	n, err := s.conn.Read(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		s.t.Fatal(err)
	}
	return string(b[:n])
}

// hearAt fails unless the service says this, after what else it may say.
func (s *systemd) hearAt(want string, skip string) {
	s.t.Helper()
	for {
		switch said := s.hear(time.Minute); said {
		case want:
			return
		case skip:
		default:
			s.t.Fatalf("the service says %q, want %s", said, want)
		}
	}
}

// service is the program as systemd starts it.
type service struct {
	*exec.Cmd
	said map[string]string // its line of JSON
	log  *bytes.Buffer     // complete once it has ended
}

// launch starts `serve` under a shell, which sets what must name the process's own id, with the sockets given.
func (s *stage) launch(before string, env []string, sockets ...*os.File) service {
	s.t.Helper()
	cmd := exec.Command("sh", "-c", before+` LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$0" "$@"`, os.Args[0],
		"serve", "--data", s.dir, "--listen", "127.0.0.1:0", "--sim", s.sim.URL, "--log-level", "warn", "--json")
	cmd.Env = append(append(os.Environ(), asProgram+"=1"), env...)
	cmd.ExtraFiles = sockets
	if len(sockets) > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(sockets)))
	}
	log := new(bytes.Buffer)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		s.t.Fatal(err)
	}
	said := map[string]string{}
	if len(line) > 0 {
		if err := json.Unmarshal(line, &said); err != nil {
			s.t.Fatalf("%v: %s", err, line)
		}
	}
	return service{cmd, said, log}
}

func (s service) end(t *testing.T) {
	t.Helper()
	if err := errors.Join(s.Process.Signal(syscall.SIGTERM), s.Wait()); err != nil {
		t.Errorf("the service ended with %v: %s", err, s.log)
	}
}

// TestSystemdNotifies: ready when it serves, the watchdog fed, stopping when it is asked to stop.
func TestSystemdNotifies(t *testing.T) {
	s := newStage(t)
	s.kill()
	d := newSystemd(t)
	service := s.launch("", []string{"NOTIFY_SOCKET=" + d.path, "WATCHDOG_USEC=200000"})
	d.hearAt("READY=1", "")
	if res, err := http.Get(service.said["api"] + "/readyz"); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("it says that it is ready, and is not: %v", err)
	}
	for range 3 {
		d.hearAt("WATCHDOG=1", "")
	}
	service.end(t)
	d.hearAt("STOPPING=1", "WATCHDOG=1")
}

// TestSystemdSocket: requests that come while no gateway runs wait in systemd's socket for the next one.
func TestSystemdSocket(t *testing.T) {
	s := newStage(t)
	s.kill()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	url := "http://" + listener.Addr().String()
	for range 2 {
		answered := make(chan error, 1)
		go func() {
			client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
			res, err := client.Get(url + "/readyz")
			if err == nil && res.StatusCode != http.StatusOK {
				err = errors.New(res.Status)
			}
			answered <- err
		}()
		service := s.launch("", nil, socket)
		if service.said["api"] != url {
			t.Errorf("it serves at %s, and systemd's socket is at %s", service.said["api"], url)
		}
		if err := <-answered; err != nil {
			t.Errorf("a request that came before the gateway was answered with %v", err)
		}
		service.end(t)
	}

	// Two sockets are a mistake in the unit.
	service := s.launch("", nil, socket, socket)
	if err := service.Wait(); err == nil || !strings.Contains(service.log.String(), "systemd hands over 2 sockets") {
		t.Errorf("two sockets: %v: %s", err, service.log)
	}
}

// TestWatchdogStarves: a gateway whose disk has failed is not fed any more, so that systemd restarts it.
func TestWatchdogStarves(t *testing.T) {
	s := newStage(t)
	s.kill()
	d := newSystemd(t)
	// No file of this process may grow past a megabyte.
	service := s.launch("ulimit -f 1024;", []string{"NOTIFY_SOCKET=" + d.path, "WATCHDOG_USEC=200000"})
	d.hearAt("READY=1", "")
	d.hearAt("WATCHDOG=1", "")
	client := &holdfast.Client{BaseURL: service.said["api"], ShopID: s.shop.ShopID, Secret: holdfast.Secret(s.shop.Secret)}
	for i := 0; ; i++ {
		if i > 20_000 {
			t.Fatal("the disk does not fail")
		}
		if _, err := client.Prepare(t.Context(), prepare(fmt.Sprint("fill-", i))); err != nil {
			break
		}
	}
	// What it said before the disk failed has been said; from the failure on it says nothing.
	quiet := ""
	for said := d.hear(time.Second); said != ""; said = d.hear(time.Second) {
		if quiet += said; len(quiet) > 100*len("WATCHDOG=1") {
			t.Fatal("the watchdog of a gateway with a broken store is fed")
		}
	}
	res, err := http.Get(service.said["api"] + "/readyz")
	if err != nil || res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the store is broken, and the gateway says %v, %v", res.Status, err)
	}
	service.Process.Signal(syscall.SIGTERM)
	service.Wait() // it ends with the store's error
	if !strings.Contains(service.log.String(), "the watchdog is not fed") {
		t.Errorf("it does not say why: %s", service.log)
	}
}

// TestAlive: a gateway gets something done again and again; one whose loops have ended does not.
func TestAlive(t *testing.T) {
	s := newStage(t)
	g := s.inProcess()
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond) // the loops tell nobody
	defer tick.Stop()
	for end := began.Add(time.Minute); g.gateway.Stepped().Before(began) || g.notifier.Stepped().Before(began); {
		if time.Now().After(end) {
			t.Fatal("a loop gets nothing done")
		}
		<-tick.C
	}
	if err := g.alive(time.Now()); err != nil {
		t.Errorf("a living gateway: %v", err)
	}
	g.endLoops()
	g.loops.Wait()
	last := g.gateway.Stepped()
	if other := g.notifier.Stepped(); other.After(last) {
		last = other
	}
	if err := g.alive(last.Add(stuckAfter + time.Second)); err == nil {
		t.Error("a gateway without its loops counts as alive")
	}
}

// TestAliveWhileTheDatabaseIsAway: a gateway whose database is away lives, however long its loops wait for it: a restart
// would not mend that, and a gateway cannot start without its database.
func TestAliveWhileTheDatabaseIsAway(t *testing.T) {
	db := postgrestest.Database(t)
	s := newStageOn(t, db, "error", nil)
	g := s.inProcess()
	postgrestest.Refuse(t, db, "shops", postgrestest.AtStatement, "53100", 0, math.MaxInt32) // its disk is full
	s.until("it is not to be restarted", func() bool {                                       // and its database is away for some seconds after a shop could not be made
		if _, err := g.store.CreateShop(t.Context(), merchant.Shop{Name: "Toys"}); err == nil {
			t.Fatal("a shop is made on a full disk")
		}
		alive := g.alive(time.Now().Add(stuckAfter + time.Second))
		return alive == nil && g.store.Away() != nil
	})
}
