package web_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/merchant"
	"holdfast/internal/payment"
	"holdfast/internal/web"
)

// The server around the merchant API, looked at from outside; the API itself and the limits on bodies, time and
// requests at once are examined in web/api.

func serve(t *testing.T, site web.Site) (url string, log *logs) {
	t.Helper()
	log = new(logs)
	site.Log = slog.New(slog.NewJSONHandler(log, nil))
	if site.Ready == nil {
		site.Ready = func() error { return nil }
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := web.Server(site.Handler(), site.Log)
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return "http://" + l.Addr().String(), log
}

func get(t *testing.T, url string) (*http.Response, []byte) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, body
}

// logs keeps what is logged, a line for each request.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A bug of ours answers 500 with the envelope and the request's id, and logs what happened; the client learns nothing
// of the inside, and the server lives on.
func TestPanic(t *testing.T) {
	t.Parallel()
	buggy := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/late") {
			web.Fail(w, http.StatusOK, holdfast.Fail(holdfast.CodeNotFound, "said before", ""))
		}
		panic("the inside")
	})
	url, log := serve(t, web.Site{API: buggy, Calls: []string{"call"}, Pages: buggy})
	for range 3 {
		res, body := get(t, url+"/call")
		var f holdfast.Failure
		if err := json.Unmarshal(body, &f); err != nil || res.StatusCode != 500 || f.Error != holdfast.CodeInternal || f.ErrMessage == "" || f.ErrMessage != f.ErrorMessage {
			t.Errorf("HTTP %d %s (%v)", res.StatusCode, body, err)
		}
		id := res.Header.Get("X-Request-Id")
		if id == "" || !strings.Contains(f.Developer, id) || bytes.Contains(body, []byte("the inside")) {
			t.Errorf("request %q: %s", id, body)
		}
		if !strings.Contains(log.String(), id) || !strings.Contains(log.String(), "the inside") || !strings.Contains(log.String(), "web_test.go") {
			t.Errorf("the log does not say what happened: %s", log)
		}
	}
	if n := strings.Count(log.String(), `"level":"WARN","msg":"request"`); n != 3 {
		t.Errorf("%d of 3 requests that failed stand out in the log: %s", n, log)
	}
	// What was said before the panic stands.
	if res, body := get(t, url+"/call/late"); res.StatusCode != 200 || !json.Valid(body) {
		t.Errorf("HTTP %d %s", res.StatusCode, body)
	}
}

// Each request has an id and a line in the log that names it.
func TestRequestLine(t *testing.T) {
	t.Parallel()
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		web.Note(w, "the payment")
		web.JSON(w, http.StatusOK, holdfast.CodeBusy, map[string]int{})
	})
	url, log := serve(t, web.Site{API: api, Calls: []string{"call"}})
	ids := make(map[string]bool)
	for range 10 {
		res, _ := get(t, url+"//call/?secret=in-the-query")
		ids[res.Header.Get("X-Request-Id")] = true
		if res.Header.Get("X-Content-Type-Options") != "nosniff" || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v", res.Header)
		}
	}
	if len(ids) != 10 {
		t.Errorf("%d ids for 10 requests", len(ids))
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	for _, line := range lines {
		var l struct {
			ID, Method, Path, Payment string
			Status, Error             int
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil || !ids[l.ID] || l.Method != "GET" || l.Path != "/call" || l.Status != 200 || l.Error != int(holdfast.CodeBusy) || l.Payment != "the payment" {
			t.Errorf("%s (%v)", line, err)
		}
	}
	if len(lines) != 10 || strings.Contains(log.String(), "in-the-query") {
		t.Errorf("%d lines for 10 requests: %s", len(lines), log)
	}
}

// Of a method and a path the log has what is ours and a payment's id. What else stands there may be a secret.
func TestNothingOfAClientsIsLogged(t *testing.T) {
	t.Parallel()
	const card = "8600313260861293" // of a processing centre's documentation
	secret, id := string(merchant.NewSecret()), payment.NewID(time.Now(), [10]byte{0xab, 0xcd, 0xef}).String()
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/bug") {
			panic("a bug")
		}
	})
	pages := http.NewServeMux()
	pages.Handle("/uzcard/sms/{uuid}", answer)
	pages.Handle("/3ds/{uuid}/back", answer)
	pages.Handle("/", answer)
	url, log := serve(t, web.Site{
		API: answer, Calls: []string{"pay", "prepare_payment"}, Pages: pages, Paths: []string{"pay", "uzcard", "3ds"},
		Others: map[string]http.Handler{"news": answer},
	})
	for _, c := range []struct{ method, path, want string }{
		{"POST", "/pay/" + id, "POST /pay/" + id},
		{"POST", "/pay/" + strings.ToUpper(id), "POST /pay/" + strings.ToUpper(id)},
		{"POST", "/pay/" + card, "POST /pay/…"},
		{"GET", "/pay/" + card, "GET /pay/…"},
		{"POST", "/pay/" + id + "/" + card, "POST /pay/" + id + "/…"},
		{"POST", "/pay/" + card + "/bug", "POST /pay/…"},
		{"POST", "/pay/" + card + id[:20], "POST /pay/…"},
		{"POST", "/pay/" + secret, "POST /pay/…"},
		{"POST", "/pay/00000000000000700000" + card, "POST /pay/…"},
		{"POST", "/pay/" + id[:24] + "in_my_secret", "POST /pay/…"},
		{"POST", "/prepare_payment/" + secret, "POST /prepare_payment/…"},
		{"POST", "/prepare_payment/" + secret + "/x/y/z", "POST /prepare_payment/…"},
		{"POST", "/uzcard/sms/" + id, "POST /uzcard/sms/" + id},
		{"POST", "/uzcard/sms/" + card, "POST /uzcard/sms/…"},
		{"POST", "/3ds/" + id + "/back", "POST /3ds/" + id + "/back"},
		{"POST", "/news/" + secret, "POST /news/…"},
		{"GET", "/" + secret, "GET /…"},
		{"GET", "/" + card + "/pay", "GET /…"},
		{"GET", "/", "GET /"},
		{"GET", "/healthz", "GET /healthz"},
		{"GET", "/readyz/" + card, "GET /readyz/…"},
		{"X" + card, "/pay/" + id, "… /pay/" + id},
	} {
		req, err := http.NewRequest(c.method, url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		var l struct{ Method, Path string }
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &l); err != nil || l.Method+" "+l.Path != c.want {
			t.Errorf("%s %s is logged as %s %s, want %s (%v)", c.method, c.path, l.Method, l.Path, c.want, err)
		}
	}
	for _, canary := range []string{card, secret, "in_my_secret"} {
		if at := strings.Index(log.String(), canary); at >= 0 {
			t.Errorf("the log has %s: %s", canary, log.String()[max(0, at-100):at])
		}
	}
}

// Health is a matter of the process, readiness one of the store.
func TestHealth(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var broken error
	url, log := serve(t, web.Site{API: http.NotFoundHandler(), Ready: func() error { mu.Lock(); defer mu.Unlock(); return broken }})
	for path, want := range map[string]string{"/healthz": "ok\n", "/healthz/": "ok\n", "//healthz": "ok\n", "/readyz": "ready\n"} {
		if res, body := get(t, url+path); res.StatusCode != 200 || string(body) != want {
			t.Errorf("%s: HTTP %d %s", path, res.StatusCode, body)
		}
	}
	if n := strings.Count(log.String(), `"status":200`); n != 4 {
		t.Errorf("%d of 4 are good in the log: %s", n, log)
	}
	mu.Lock()
	broken = errors.New("the disk is full")
	mu.Unlock()
	if res, _ := get(t, url+"/healthz"); res.StatusCode != 200 {
		t.Errorf("healthz: HTTP %d", res.StatusCode)
	}
	if res, body := get(t, url+"/readyz"); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || string(body) != "the disk is full\n" {
		t.Errorf("readyz: HTTP %d %v %s", res.StatusCode, res.Header, body)
	}
}

// Over TLS, too, the server speaks HTTP/1.1 alone: its limits are on connections, and one of HTTP/2 is as many as it likes.
func TestNoHTTP2(t *testing.T) {
	t.Parallel()
	lender := httptest.NewTLSServer(nil) // of a certificate
	defer lender.Close()
	server := web.Server(web.Site{Ready: func() error { return nil }, Log: slog.New(slog.DiscardHandler)}.Handler(), slog.New(slog.DiscardHandler))
	server.HTTP.TLSConfig = &tls.Config{Certificates: lender.TLS.Certificates}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.HTTP.ServeTLS(l, "", "")
	t.Cleanup(func() { server.Close() })
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("the server chose %q, want http/1.1", got)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	res, err := client.Get("https://" + l.Addr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.ProtoMajor != 1 || res.StatusCode != http.StatusOK {
		t.Errorf("%s, HTTP %d", res.Proto, res.StatusCode)
	}
}

// Behind the balancers that we ship each payer has the address that he connects from, and cannot choose it: else all
// have the balancer's, and one who guesses shuts all of them out.
func TestShippedBalancersSayWhoCalls(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"nginx.conf":  "proxy_set_header X-Forwarded-For $remote_addr;",
		"haproxy.cfg": "http-request set-header X-Forwarded-For %[src]",
	} {
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", "deploy", file))
		if err != nil {
			t.Fatal(err)
		}
		var set []string
		for line := range strings.Lines(string(text)) {
			line, _, _ = strings.Cut(line, "#")
			if line = strings.Join(strings.Fields(line), " "); strings.Contains(strings.ToLower(line), "forwarded-for") || strings.Contains(line, "option forwardfor") {
				set = append(set, line)
			}
		}
		if !slices.Equal(set, []string{want}) {
			t.Errorf("%s sets X-Forwarded-For by %q, want %q alone", file, set, want)
		}
	}
}

// The balancers that we ship leave it to the gateway to refuse a body that is too long: a balancer would do it by a page of
// HTML, which a shop's program cannot read.
func TestShippedBalancersLeaveLongBodiesToTheGateway(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "deploy", "nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	said := regexp.MustCompile(`(?m)^\s*client_max_body_size (\d+)m;`).FindSubmatch(text)
	if said == nil {
		t.Fatal("nginx.conf has no client_max_body_size in megabytes; nginx's own is 1m")
	}
	if most, _ := strconv.Atoi(string(said[1])); most<<20 < 16*web.BodyBytes {
		t.Errorf("nginx takes bodies of %d MiB, hardly more than the gateway's %d bytes", most, web.BodyBytes)
	}
}

// Each path goes to whose it is; a path that is nobody's is not there, and a person is told so by a
// page, a program by the envelope.
func TestPages(t *testing.T) {
	t.Parallel()
	named := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Who", name+" "+r.URL.Path)
			io.WriteString(w, "he")
		})
	}
	api := named("api")
	url, _ := serve(t, web.Site{
		API: api, Calls: []string{"call", "both"}, Pages: named("page"), Paths: []string{"page", "both"},
		Others: map[string]http.Handler{"news": named("other")},
	})
	for _, c := range []struct{ method, path, accept, want string }{
		{"POST", "/call", "", "api /call"}, {"GET", "/call/a//b/", "", "api /call/a/b"},
		{"GET", "//page//", "", "page /page"}, {"POST", "/page/x", "", "page /page/x"},
		{"GET", "/both/x", "", "page /both/x"}, {"HEAD", "/both/x", "", "page /both/x"}, {"HEAD", "/nobody", "text/html", "page /nobody"}, {"POST", "/both/x", "text/html", "api /both/x"},
		{"POST", "/news/x", "", "other /news/x"},
		{"GET", "/nobody", "text/html,*/*", "page /nobody"}, {"GET", "/", "text/html", "page /"},
	} {
		req, err := http.NewRequest(c.method, url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", c.accept)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != 200 || res.Header.Get("Who") != c.want || (string(body) == "he") != (c.method != "HEAD") {
			t.Errorf("%s %s: HTTP %d %q %q, want %q (%v)", c.method, c.path, res.StatusCode, res.Header.Get("Who"), body, c.want, err)
		}
	}
	// Nobody looks at a page that answers a POST, and where there are no pages, nobody at any.
	bare, _ := serve(t, web.Site{API: api, Calls: []string{"call"}})
	for _, c := range []struct{ method, url string }{{"POST", url}, {"GET", bare}} {
		req, err := http.NewRequest(c.method, c.url+"/nobody", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/html")
		if res, err := http.DefaultClient.Do(req); err != nil || res.StatusCode != 404 || res.Header.Get("Content-Type") != "application/json" || res.Body.Close() != nil {
			t.Errorf("%s /nobody: %v, %v", c.method, res, err)
		}
	}
	for _, path := range []string{"/", "/callx", "/x/call"} {
		if res, _ := get(t, url+path); res.StatusCode != 404 || res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: HTTP %d %s", path, res.StatusCode, res.Header.Get("Content-Type"))
		}
	}
	for _, path := range []string{"/", "/x", "/%ff%fe", "/%00"} {
		res, body := get(t, bare+path)
		var f holdfast.Failure
		if err := json.Unmarshal(body, &f); err != nil || res.StatusCode != 404 || f.Error != holdfast.CodeNotFound || res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: HTTP %d %s (%v)", path, res.StatusCode, body, err)
		}
	}
}
