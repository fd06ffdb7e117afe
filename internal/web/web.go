// Package web is what every page and every call of the gateway's server has in common: limits on
// bodies, time and the number of requests under way, tidy paths, one line in the log for each
// request, and an answer of the right kind when something goes wrong.
package web

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"holdfast"
	"holdfast/internal/inward"
)

// The limits of the server.
const (
	BodyBytes        = 64 << 10 // a request's body (contract §1)
	headerBytes      = 16 << 10
	readHeaderWithin = 5 * time.Second
	readWithin       = 10 * time.Second
	writeWithin      = 60 * time.Second // more than the slowest processing centre takes
	idleFor          = 2 * time.Minute
)

// Server makes a server with limits on everything a client can draw out.
func Server(handler http.Handler, log *slog.Logger) *inward.Server {
	return server(handler, mostConnections(openable(), log), log)
}

// sideConnections is how many connections may be open to a server that is beside the site.
const sideConnections = 16

// SideServer is Server for what is asked beside the site by few who are known, and must take nothing from it, whoever connects.
func SideServer(handler http.Handler, log *slog.Logger) *inward.Server {
	return server(handler, sideConnections, log)
}

func server(handler http.Handler, connections int, log *slog.Logger) *inward.Server {
	s := &http.Server{
		Handler: handler, ReadHeaderTimeout: readHeaderWithin, ReadTimeout: readWithin, WriteTimeout: writeWithin,
		IdleTimeout: idleFor, MaxHeaderBytes: headerBytes, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Protocols: new(http.Protocols),
	}
	// No HTTP/2, which ServeTLS would offer: there a connection's 250 streams may each have a body buffered, before any
	// has a place, and the limits on connections bound nothing.
	s.Protocols.SetHTTP1(true)
	(&conns{most: connections}).limit(s)
	return &inward.Server{HTTP: s}
}

// Site routes requests to what answers them.
type Site struct {
	API   http.Handler // the merchant API
	Calls []string     // the first path elements that are the API's
	Pages http.Handler // the payer's pages, and the answer to a browser that is lost; nil: there are none
	Paths []string     // the first path elements that are the pages'; of /pay they have GET
	// Others answer what comes under other first path elements: news from processing centres.
	Others map[string]http.Handler
	// Proxies are those beside this machine itself whose X-Forwarded-For is believed.
	Proxies []netip.Prefix
	Ready   func() error // why the gateway cannot take payments now; nil: it can
	Log     *slog.Logger
	places  int // 0: AtOnce; fewer in tests
}

// Handler is the whole site.
func (s Site) Handler() *Handler {
	calls, paths := make(map[string]bool), make(map[string]bool)
	for _, c := range s.Calls {
		calls[c] = true
	}
	for _, p := range s.Paths {
		paths[p] = true
	}
	ours := map[string]bool{"": true, "healthz": true, "readyz": true}
	for first := range s.Others {
		ours[first] = true
	}
	maps.Copy(ours, calls)
	maps.Copy(ours, paths)
	doors := newDoors(s)
	served := &Handler{doors: doors}
	served.expect(append([]string{partPages, partNews, partHealth, partOther}, s.Calls...))
	served.serve = func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		r.URL.Path = tidy(r.URL.Path)
		call := firstElement(r.URL.Path)
		o := &observed{ResponseWriter: w, id: requestID(), part: partOther}
		h := o.Header()
		h["X-Request-Id"] = []string{o.id}
		h["X-Content-Type-Options"] = noSniff
		defer s.finish(o, r, ours, served, began)
		switch call {
		case "healthz":
			o.part = partHealth
			io.WriteString(o, "ok\n")
			return
		case "readyz":
			o.part = partHealth
			s.ready(o)
			return
		}
		looks := r.Method == http.MethodGet || r.Method == http.MethodHead
		lost := looks && strings.Contains(r.Header.Get("Accept"), "text/html") // a person, and not a shop's program
		var pages http.Handler
		if paths[call] && (looks || !calls[call]) {
			pages = s.Pages
		}
		switch {
		case pages != nil:
			o.part = partPages
		case calls[call]:
			o.part = call
		case s.Others[call] != nil:
			o.part = partNews
		}
		if !doors.admit(o, r, call, pages) {
			return
		}
		defer doors.leave(o)
		switch {
		case pages != nil:
			pages.ServeHTTP(o, r)
		case calls[call]:
			s.API.ServeHTTP(o, r)
		case s.Others[call] != nil:
			s.Others[call].ServeHTTP(o, r)
		case s.Pages != nil && lost:
			s.Pages.ServeHTTP(o, r)
		default:
			NotFound(o, r, s.Calls)
		}
	}
	return served
}

// finish answers for a panic, writes the request's line and counts it. ours are the first path elements that we know.
func (s Site) finish(o *observed, r *http.Request, ours map[string]bool, served *Handler, began time.Time) {
	path := loggedPath(r, ours)
	if p := recover(); p != nil {
		s.Log.Error("a request failed by a bug of ours", "request", o.id, "path", path, "panic", p, "stack", string(debug.Stack()))
		if o.status == 0 {
			Fail(o, http.StatusInternalServerError, holdfast.Fail(holdfast.CodeInternal, "Internal error", "Ask support and name request "+o.id+"."))
		}
	}
	o.status = cmp.Or(o.status, http.StatusOK) // net/http's word where nothing was said
	level := slog.LevelInfo
	if o.status >= 500 {
		level = slog.LevelWarn
	}
	took := time.Since(began)
	s.Log.LogAttrs(context.Background(), level, "request", slog.String("id", o.id), slog.String("method", loggedMethod(r)), slog.String("path", path),
		slog.Int("status", o.status), slog.Int("error", o.code), slog.String("payment", o.payment), slog.Duration("took", took))
	served.count(o, took)
}

// elided stands in the log for what a client wrote and we do not know: by a mistake of his it may be a card number or
// a secret.
const elided = "…"

// loggedPath is the request's path up to the first element that is neither ours nor has the form of a payment's id.
func loggedPath(r *http.Request, ours map[string]bool) string {
	first, rest, more := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if !ours[first] {
		return "/" + elided
	}
	known := "/" + first
	for more {
		var element string
		element, rest, more = strings.Cut(rest, "/")
		if !isID(element) && !slices.Contains(strings.Split(r.Pattern, "/"), element) {
			return known + "/" + elided
		}
		known += "/" + element
	}
	return known
}

func loggedMethod(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return elided
}

// isID: it has the form of a payment's id, a UUID of version 7. Shops' secrets are UUIDs too, of version 4.
func isID(s string) bool {
	if len(s) != 36 || s[14] != '7' {
		return false
	}
	for i := range len(s) {
		hyphen := i == 8 || i == 13 || i == 18 || i == 23
		if hyphen != (s[i] == '-') || !hyphen && !strings.ContainsRune("0123456789abcdefABCDEF", rune(s[i])) {
			return false
		}
	}
	return true
}

func (s Site) ready(w http.ResponseWriter) {
	if err := s.Ready(); err != nil {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, err.Error()+"\n")
		return
	}
	io.WriteString(w, "ready\n")
}

// NotFound answers for a path that leads nowhere. calls are those that the developer may have meant.
func NotFound(w http.ResponseWriter, r *http.Request, calls []string) {
	Fail(w, http.StatusNotFound, holdfast.Fail(holdfast.CodeNotFound, "No such call: "+r.URL.Path, "The calls are "+strings.Join(calls, ", ")+"."))
}

// shed turns a request away that there is no room for.
func shed(w http.ResponseWriter, r *http.Request, pages http.Handler) {
	info := holdfast.CodeTooManyRequests.Info()
	turnAway(w, r, pages, http.StatusServiceUnavailable, holdfast.Fail(info.Code, info.Message, info.Next+"."))
}

// turnAway answers a request that is not let in: a shop's program in the API's words, a payer with a page.
func turnAway(w http.ResponseWriter, r *http.Request, pages http.Handler, status int, f holdfast.Failure) {
	if pages == nil {
		Fail(w, status, f)
		return
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	pages.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), turnedAwayKey{}, status)))
}

type turnedAwayKey struct{}

// TurnedAway is the HTTP status with which a page is to say that nobody can be let in now, and do nothing
// else; 0: the request is let in.
func TurnedAway(r *http.Request) int {
	status, _ := r.Context().Value(turnedAwayKey{}).(int)
	return status
}

// Fail writes a failed call's envelope with an HTTP status.
func Fail(w http.ResponseWriter, status int, f holdfast.Failure) {
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	JSON(w, status, f.Error, f)
}

// JSON writes an answer of the merchant API. code is the error number in it, for the log.
func JSON(w http.ResponseWriter, status int, code holdfast.Code, answer any) {
	body := answers.Get().(*bytes.Buffer)
	defer func() {
		if body.Cap() <= BodyBytes {
			body.Reset()
			answers.Put(body)
		}
	}()
	// A message may quote a path, and a path may be any bytes.
	if err := json.MarshalWrite(body, answer, jsontext.AllowInvalidUTF8(true)); err != nil {
		panic(err) // a bug: every answer of ours can be written
	}
	if o, ok := w.(*observed); ok {
		o.code, o.coded = int(code), true
	}
	h := w.Header()
	h["Content-Type"] = asJSON
	h["Content-Length"] = []string{strconv.Itoa(body.Len())}
	h["Cache-Control"] = noStore
	w.WriteHeader(status)
	w.Write(body.Bytes())
}

// answers are buffers that answers are written in.
var answers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// Values of headers that every answer has. They are shared: nobody may change them, and net/http does not.
var (
	asJSON  = []string{"application/json"}
	noStore = []string{"no-store"}
	noSniff = []string{"nosniff"}
)

// Note puts the payment that a request is about into the request's line.
func Note(w http.ResponseWriter, payment string) {
	if o, ok := w.(*observed); ok {
		o.payment = payment
	}
}

// observed remembers what was answered.
type observed struct {
	http.ResponseWriter
	id      string
	status  int
	code    int // the answer's error number, if it is coded
	coded   bool
	part    string // of the site; see Answered
	payment string
	missed  bool // see Miss
	shop    bool // see Shop

	// Of the doors.
	places   chan struct{} // where it has a place; nil: it has none
	doors    *doors        // that let it in
	conn     *tracked
	admitted time.Time
	paced    bool // it is a prepare_payment that was let in
	open     bool // it needs no credentials
	address  netip.Addr
}

func (o *observed) WriteHeader(status int) {
	o.answered()
	if o.status == 0 {
		o.status = status
	}
	o.ResponseWriter.WriteHeader(status)
}

func (o *observed) Write(b []byte) (int, error) {
	o.answered()
	if o.status == 0 {
		o.status = http.StatusOK
	}
	return o.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (o *observed) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func requestID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// tidy forgives a doubled and a trailing slash (contract §1).
func tidy(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	return path
}

func firstElement(path string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return first
}
