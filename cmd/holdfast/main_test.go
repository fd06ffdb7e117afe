package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"holdfast/internal/ledger"
	"holdfast/internal/merchant"
	"holdfast/internal/money"
	"holdfast/internal/store"
	"holdfast/internal/vault"
)

// TestScripts runs the command line as its users do: see testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TZ", "UTC")
			return nil
		},
	})
}

// TestWalk plays all flows, as the README's first command does.
func TestWalk(t *testing.T) {
	var out, complaints bytes.Buffer
	if code := (program{stdout: &out, stderr: &complaints}).run(t.Context(), []string{"demo", "--walk"}); code != 0 {
		t.Fatalf("demo --walk ended %d: %s\n%s", code, complaints.String(), tail(out.String(), 3000))
	}
	for _, want := range []string{"Everything was as it should be", "lost 0, doubled 0", "clean: every invariant holds"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the walk does not say %q", want)
		}
	}
	if complaints.Len() > 0 {
		t.Errorf("the walk complained: %s", complaints.String())
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// A store in a file is used with its own key alone: none is made where it is lost, and another is refused, also by a store that
// an earlier version made, which has not noted its key.
func TestKeyOfAStoreInAFile(t *testing.T) {
	dir, aside := t.TempDir(), filepath.Join(t.TempDir(), keyFile)
	file := filepath.Join(dir, keyFile)
	command(t, 0, "shop", "create", "--data", dir, "--name", "Toys")
	for _, version := range []string{"this version", "an earlier version"} {
		if version != "this version" {
			conn, err := sqlite.OpenConn(filepath.Join(dir, store.File), sqlite.OpenReadWrite)
			if err == nil {
				err = errors.Join(sqlitex.ExecuteTransient(conn, "DELETE FROM meta WHERE name = 'vault_key'", nil), conn.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(file, aside); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"audit"}, {"shop", "create", "--name", "Books"}, {"serve", "--sim", "http://127.0.0.1:1", "--listen", "127.0.0.1:0"}} {
			if _, complaint := command(t, 1, append(args, "--data", dir)...); !strings.Contains(complaint, file+" is missing, and this store is used with a key already") {
				t.Errorf("%s: %s without the key: %s", version, args, complaint)
			}
			if _, err := os.Stat(file); err == nil {
				t.Fatalf("%s: %s made a new key", version, args)
			}
		}
		if err := os.WriteFile(file, []byte(strings.Repeat("0", 64)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, complaint := command(t, 1, "audit", "--data", dir); !strings.Contains(complaint, file+" is not the key that this store is used with") {
			t.Errorf("%s: with another key: %s", version, complaint)
		}
		if err := os.Rename(aside, file); err != nil {
			t.Fatal(err)
		}
		command(t, 0, "audit", "--data", dir)
	}
}

// An audit of broken books ends 1 and says what is broken: to a script all of it, to a person the first.
func TestAuditOfBrokenBooks(t *testing.T) {
	dir := t.TempDir()
	command(t, 0, "shop", "create", "--data", dir, "--name", "Toys")
	conn, err := sqlite.OpenConn(filepath.Join(dir, store.File), sqlite.OpenReadWrite)
	if err == nil {
		err = errors.Join(sqlitex.ExecuteTransient(conn, "INSERT INTO entries VALUES (1, 1, 'x', 'hold', 0, 'UZS', 'shop/1/held 1;payer/held -1')", nil), conn.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	const broken = "invariant 8, payment 00000000-0000-0000-0000-000000000000: 1 rows of entries belong to no payment"
	if said, _ := command(t, 1, "audit", "--data", dir); !strings.Contains(said, "\n  BROKEN: "+broken+"\n") || strings.Contains(said, "clean") {
		t.Errorf("to a person it says %s", said)
	}
	if said, _ := command(t, 1, "audit", "--data", dir, "--json"); !strings.Contains(said, `{"clean":false,`) || !strings.Contains(said, `"violations":["`+broken+`"]`) {
		t.Errorf("to a script it says %s", said)
	}

	books := &booksResult{Operations: 7, Lost: 1, Doubled: 2, Differences: []string{"lost", "doubled"}}
	r := &auditResult{Payments: 1, Operations: 2, Entries: 3, Events: 4, InDoubt: 5, ForPerson: 6, Resolved: 8, Books: books, Balances: map[money.Currency]map[ledger.Account]int64{
		money.UZS: {"shop/12": 12345, "processor/uzcard": -12345, "payer/held": 0}, "USD": {"shop/12": 5},
	}}
	want := `1 payments, 2 operations, 3 ledger entries, 4 events; 5 questions in doubt, 6 of them for a person; 8 resolved by persons
  shop/12                  0.05 USD
  processor/uzcard         -123.45 UZS
  shop/12                  123.45 UZS
7 operations in the centre's books compared: lost 1, doubled 2
`
	for i := range shownViolations - 1 {
		r.Violations = append(r.Violations, fmt.Sprint("violation ", i+1))
		want += fmt.Sprintf("  BROKEN: violation %d\n", i+1)
	}
	want += "  BROKEN: lost\n  ... and 1 more\n"
	var said bytes.Buffer
	if (program{stdout: &said}).showAudit(r); said.String() != want {
		t.Errorf("it says\n%swant\n%s", said.String(), want)
	}
}

// A proxy is named by its address, or by the network in which it is.
func TestProxies(t *testing.T) {
	list, err := networks([]string{"10.0.0.7", "10.1.0.0/16", "2001:db8::7"})
	if got := fmt.Sprint(list); err != nil || got != "[10.0.0.7/32 10.1.0.0/16 2001:db8::7/128]" {
		t.Errorf("%s, %v", got, err)
	}
}

// What is remembered of keys is what was sealed, also after so many that all are forgotten; what cannot be unsealed is not.
func TestKeysAreRemembered(t *testing.T) {
	v, err := vault.Open(filepath.Join(t.TempDir(), keyFile))
	if err != nil {
		t.Fatal(err)
	}
	key := rememberKeys(v)
	for i := range 2*keysRemembered + 1 {
		sealed, err := v.Seal(purposeUniqueKey, []byte(strconv.Itoa(i)))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got, err := key(merchant.Shop{UniqueKey: sealed}); got != strconv.Itoa(i) || err != nil {
				t.Fatalf("the %d. key is %q, %v", i, got, err)
			}
		}
	}
	other, err := v.Seal("another purpose", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := key(merchant.Shop{UniqueKey: other}); got != "" || err == nil {
			t.Errorf("what is no shop's key is %q, %v", got, err)
		}
	}
}

// With a certificate the gateway serves over HTTPS alone, and says so; with that of another key it does not begin.
func TestOverTLS(t *testing.T) {
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pair := func(name string) (cert, key string, roots *x509.CertPool) {
		t.Helper()
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		of := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
		der, err := x509.CreateCertificate(rand.Reader, of, of, private.Public(), private)
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		roots = x509.NewCertPool()
		roots.AddCert(made)
		return write(name+".crt", "CERTIFICATE", der), write(name+".key", "PRIVATE KEY", secret), roots
	}
	cert, key, roots := pair("ours")
	_, other, _ := pair("other")
	c := serveCmd{data: data{Data: filepath.Join(dir, "store")}, Listen: "127.0.0.1:0", Sim: "http://127.0.0.1:1", HoldTimeout: time.Minute, Doubt: time.Minute, TLSCert: cert, TLSKey: other}
	log := slog.New(slog.DiscardHandler)
	if _, err := c.start(log); err == nil || !strings.Contains(err.Error(), "are not a certificate and its private key") {
		t.Errorf("with another key: %v", err)
	}
	c.TLSKey = key
	g, err := c.start(log)
	if err != nil {
		t.Fatal(err)
	}
	defer g.stop()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer client.CloseIdleConnections()
	if res, err := client.Get(g.apiURL + "/readyz"); err != nil || res.Body.Close() != nil || res.StatusCode != http.StatusOK || res.TLS == nil || g.payURL != g.apiURL {
		t.Errorf("%s: %v, %v", g.apiURL, res, err)
	}
	if res, err := http.Get("http://" + g.address + "/readyz"); err == nil && (res.Body.Close() != nil || res.StatusCode == http.StatusOK) {
		t.Errorf("without TLS: HTTP %d", res.StatusCode)
	}
}
