package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/outward"
)

// private is every range that a notification must not reach, each by its first, an inner and its last address
// (IANA's special-purpose registries, RFC 6890, and the clouds' metadata services, which lie in them).
var private = strings.Fields(`
	0.0.0.0 0.0.0.1 0.255.255.255
	10.0.0.0 10.1.2.3 10.255.255.255
	100.64.0.0 100.100.100.200 100.127.255.255
	127.0.0.0 127.0.0.1 127.1.2.3 127.255.255.255
	169.254.0.0 169.254.169.254 169.254.170.2 169.254.255.255
	172.16.0.0 172.17.0.1 172.31.255.255
	192.0.0.0 192.0.0.192 192.0.0.255
	192.0.2.0 192.0.2.255 192.88.99.0 192.88.99.1 192.88.99.255
	192.168.0.0 192.168.1.1 192.168.255.255
	198.18.0.0 198.19.255.255 198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255
	224.0.0.0 224.0.0.1 239.255.255.255
	240.0.0.0 240.0.0.1 255.255.255.254 255.255.255.255
	:: ::1 ::2 ::ffff:ffff
	100:: 100::1 64:ff9b:1:: 64:ff9b:1::7f00:1
	2001:: 2001::1 2001:0:7f00:1::1 2001:10::1 2001:20::1 2001:db8:: 2001:db8::1
	3fff:: 3fff::1 5f00:: 5f00::1
	fc00:: fc00::1 fd00::1 fd00:ec2::254 fdff:ffff::1
	fe80:: fe80::1 fe80::a9fe:a9fe febf::1 fec0:: fec0::1 feff::1
	ff00:: ff01::1 ff02::1 ff02::2 ff05::1 ff0e::1 ffff::1
	4000::1 8000::1 c000::1 e000::1 200::1 400::1 800::1 1000::1 1fff::1
`)

// embedded is how an IPv4 address can lie inside an IPv6 one; whatever lies inside is refused.
var embedded = map[string]func(v4 [4]byte) string{
	"IPv4-mapped":     func(b [4]byte) string { return fmt.Sprintf("::ffff:%d.%d.%d.%d", b[0], b[1], b[2], b[3]) },
	"mapped, in hex":  func(b [4]byte) string { return fmt.Sprintf("0:0:0:0:0:ffff:%02x%02x:%02x%02x", b[0], b[1], b[2], b[3]) },
	"IPv4-compatible": func(b [4]byte) string { return fmt.Sprintf("::%d.%d.%d.%d", b[0], b[1], b[2], b[3]) },
	"translated":      func(b [4]byte) string { return fmt.Sprintf("::ffff:0:%d.%d.%d.%d", b[0], b[1], b[2], b[3]) },
	"NAT64":           func(b [4]byte) string { return fmt.Sprintf("64:ff9b::%d.%d.%d.%d", b[0], b[1], b[2], b[3]) },
	"local NAT64":     func(b [4]byte) string { return fmt.Sprintf("64:ff9b:1::%d.%d.%d.%d", b[0], b[1], b[2], b[3]) },
	"6to4":            func(b [4]byte) string { return fmt.Sprintf("2002:%02x%02x:%02x%02x::1", b[0], b[1], b[2], b[3]) },
	"Teredo":          func(b [4]byte) string { return fmt.Sprintf("2001:0:%02x%02x:%02x%02x::1", b[0], b[1], b[2], b[3]) },
}

// TestCheckPublic goes through the addresses that a socket may be about to connect to.
func TestCheckPublic(t *testing.T) {
	spellings := make(map[string]bool)
	refused := func(address string) {
		t.Helper()
		spellings[address] = true
		if err := checkPublic(address); !errors.Is(err, errPrivate) {
			t.Errorf("%s is let through (%v)", address, err)
		}
	}
	for _, text := range private {
		ip := netip.MustParseAddr(text)
		refused(netip.AddrPortFrom(ip, 80).String())
		refused(netip.AddrPortFrom(ip, 65535).String())
		if ip.Is4() {
			for _, wrap := range embedded {
				refused("[" + wrap(ip.As4()) + "]:443")
			}
		} else {
			refused("[" + ip.StringExpanded() + "]:80")
		}
	}
	for _, zoned := range []string{"[fe80::1%eth0]:80", "[fe80::1%1]:80", "[::1%lo]:80", "[2606:4700::1111%eth0]:80"} {
		spellings[zoned] = true
		if checkPublic(zoned) == nil {
			t.Errorf("%s is let through", zoned)
		}
	}
	// Not addresses at all: what the dialer hands over is always one, and anything else is refused.
	for _, odd := range []string{"", ":80", "localhost:80", "2130706433:80", "0x7f000001:80", "0177.0.0.1:80", "127.1:80", "127.0.0.1", "127.0.0.1:", "[::1]", "127.0.0.1:99999", "127.0.0.1:80 ", "１２７.0.0.1:80"} {
		spellings[odd] = true
		if checkPublic(odd) == nil {
			t.Errorf("%q is let through", odd)
		}
	}
	if len(spellings) < 200 {
		t.Errorf("only %d spellings were tried", len(spellings))
	}
	t.Logf("%d spellings", len(spellings))
	// What is public is let through, up to the ranges' very edges, or else nobody could be told anything.
	for _, public := range strings.Fields(`
		1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0
		192.0.1.0 192.0.3.0 192.88.98.255 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 203.0.112.255 203.0.114.0 223.255.255.255 ::ffff:8.8.8.8
		2606:4700:4700::1111 2a00:1450:4001::1 2001:4860:4860::8888 2001:200::1 2003::1 2400::1 2c0f::1`) {
		if err := checkPublic(netip.AddrPortFrom(netip.MustParseAddr(public), 443).String()); err != nil {
			t.Errorf("%s is refused: %v", public, err)
		}
	}
}

// TestNoPrivateConnections asks the real client to post to this machine under every name it knows for it. Not one
// connection is opened; the same client with AllowPrivate opens them, so the listeners do listen.
func TestNoPrivateConnections(t *testing.T) {
	t.Parallel()
	var connections atomic.Int64
	port := ""
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		if port != "" {
			at = strings.TrimSuffix(at, "0") + port
		}
		listener, err := net.Listen("tcp", at)
		if err != nil {
			t.Logf("this machine has no %s: %v", at, err)
			continue
		}
		defer listener.Close()
		_, port, _ = net.SplitHostPort(listener.Addr().String())
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				connections.Add(1)
				conn.Read(make([]byte, 1024)) // the request, or some of it
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
				conn.Close()
			}
		}()
	}
	var hosts []string
	for _, host := range strings.Fields(`127.0.0.1 127.0.0.2 127.255.255.254 0.0.0.0 0 127.1 127.0.1 2130706433 017700000001 0x7f000001 0x7f.1 0177.0.0.1 0x7f.0x0.0x0.0x1 127.000.000.001
		localhost localhost. LOCALHOST localhost.localdomain ip6-localhost ip6-loopback 127.0.0.1. [::1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:0:0:1] [0000::0001] [::127.0.0.1]
		[::ffff:0:127.0.0.1] [64:ff9b::127.0.0.1] [2002:7f00:1::1] [fe80::1%25lo] [::1%25lo] 127。0。0。1 ①②⑦.⓪.⓪.① 127.0.0.1%00 user@127.0.0.1 8.8.8.8@127.0.0.1 127.0.0.1#@8.8.8.8`) {
		at := strings.Index(host, "#")
		if at < 0 {
			hosts = append(hosts, host+":"+port)
		} else {
			hosts = append(hosts, host[:at]+":"+port+host[at:])
		}
	}
	loopback := len(hosts)
	for _, address := range []string{"127.0.0.1", "10.0.0.1", "10.255.255.254", "172.16.0.1", "192.168.1.1", "169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "0.0.0.0"} {
		for _, host := range spellings(netip.MustParseAddr(address).As4()) {
			hosts = append(hosts, host+":"+port)
		}
	}
	try := func(client *outward.Transport, hosts []string) (opened int64, failures map[string]error) {
		before := connections.Load()
		failures = make(map[string]error)
		var mu sync.Mutex
		var group sync.WaitGroup
		for _, host := range hosts {
			group.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 2*connectWithin)
				defer cancel()
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+host+"/", strings.NewReader("{}"))
				if err == nil {
					var res *http.Response
					if res, err = client.RoundTrip(req); err == nil {
						res.Body.Close()
					}
				}
				mu.Lock()
				defer mu.Unlock()
				failures[host] = err
			})
		}
		group.Wait()
		return connections.Load() - before, failures
	}
	opened, failures := try(newTransport(false), hosts)
	if opened != 0 {
		t.Errorf("%d connections were opened", opened)
	}
	refused := 0
	for host, err := range failures {
		if err == nil {
			t.Errorf("%s answered", host)
		}
		if errors.Is(err, errPrivate) {
			refused++
		}
	}
	// The others are names that do not resolve here, or no URLs.
	if refused < 100 || len(failures) < 200 {
		t.Errorf("only %d of %d were refused by the check: %v", refused, len(failures), failures)
	}
	t.Logf("figures: addresses: %d spellings of private addresses: %d refused by the check, the others no addresses here; 0 connections", len(failures), refused)
	if opened, _ := try(newTransport(true), hosts[:loopback]); opened < 5 {
		t.Errorf("with private addresses allowed only %d connections were opened: this test shows nothing", opened)
	}
}

// spellings are ways to write an IPv4 address as the host of a URL, some of which only some programs read.
func spellings(b [4]byte) (all []string) {
	number := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	low := number & 0xffffff
	dotted := fmt.Sprintf("%d.%d.%d.%d", b[0], b[1], b[2], b[3])
	all = []string{
		dotted, dotted + ".", "user@" + dotted, "8.8.8.8@" + dotted, "user:8.8.8.8@" + dotted, strings.ReplaceAll(dotted, ".", "%2e"), strings.ReplaceAll(dotted, ".", "。"),
		fmt.Sprint(number), fmt.Sprintf("0x%x", number), fmt.Sprintf("0X%X", number), fmt.Sprintf("0%o", number), fmt.Sprintf("00000%o", number),
		fmt.Sprintf("%d.%d", b[0], low), fmt.Sprintf("0x%x.0x%x", b[0], low), fmt.Sprintf("%d.%d.%d", b[0], b[1], number&0xffff),
		fmt.Sprintf("0x%x.0x%x.0x%x.0x%x", b[0], b[1], b[2], b[3]), fmt.Sprintf("0%o.0%o.0%o.0%o", b[0], b[1], b[2], b[3]), fmt.Sprintf("%03d.%03d.%03d.%03d", b[0], b[1], b[2], b[3]),
		fmt.Sprintf("%d.0x%x.0%o.%d", b[0], b[1], b[2], b[3]), fmt.Sprintf("[::ffff:%s%%25lo]", dotted), fmt.Sprintf("[0000:0000:0000:0000:0000:FFFF:%02X%02X:%02X%02X]", b[0], b[1], b[2], b[3]),
	}
	for _, wrap := range embedded {
		all = append(all, "["+wrap(b)+"]")
	}
	return all
}

// A name that led to a public address when somebody looked, and leads to this machine when it is dialled, is
// refused: the check sees the address of the socket and not the name. Here the name server answers so.
func TestRebinding(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var connections atomic.Int64
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			conn.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	names := newNames(t, [4]byte{127, 0, 0, 1})
	dialer := &net.Dialer{Timeout: connectWithin, Resolver: names}
	private := &net.Dialer{Timeout: 2 * time.Minute, Resolver: names}
	guard(dialer)
	if conn, err := dialer.DialContext(t.Context(), "tcp", "shop.example.uz:"+port); !errors.Is(err, errPrivate) {
		t.Errorf("dialled %v, %v", conn, err)
	}
	if connections.Load() != 0 {
		t.Error("a connection was opened")
	}
	conn, err := private.DialContext(t.Context(), "tcp", "shop.example.uz:"+port)
	if err != nil {
		t.Fatalf("without the check the name does not lead here, so this test shows nothing: %v", err)
	}
	conn.Close()
}

// newNames is a resolver whose server answers every name with one address.
func newNames(t *testing.T, address [4]byte) *net.Resolver {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go func() {
		question := make([]byte, 512)
		for {
			n, from, err := server.ReadFrom(question)
			if err != nil {
				return
			}
			answer := append([]byte(nil), question[:n]...)
			answer[2], answer[3] = 0x81, 0x80 // a response, no error
			answer[10], answer[11] = 0, 0     // drop the additional records
			end := 12                         // past the name
			for end < n && answer[end] != 0 {
				end += int(answer[end]) + 1
			}
			end++
			kind := answer[end+1]
			answer = answer[:end+4]
			if kind == 1 { // A
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
				answer = append(answer, address[:]...)
			}
			server.WriteTo(answer, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: time.Second}
		return d.DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}
