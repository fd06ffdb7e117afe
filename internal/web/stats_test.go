package web_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast"
	"holdfast/internal/web"
)

// What was answered is counted in our own words: nothing that a client writes is one of them.
func TestAnswersAreCounted(t *testing.T) {
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch body, _ := web.Body(r); string(body) {
		case "bug":
			panic("a bug")
		case "bad":
			web.Fail(w, http.StatusOK, holdfast.Fail(holdfast.CodeDataFormat, "bad", "bad"))
		case "silent":
		default:
			web.JSON(w, http.StatusOK, holdfast.CodeOK, struct{}{})
		}
	})
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) })
	site := web.Site{
		API: api, Calls: []string{"set_accept", "pay"}, Pages: page, Paths: []string{"pay", "status"}, Others: map[string]http.Handler{"processor": page},
		Ready: func() error { return io.EOF }, Log: slog.New(slog.DiscardHandler),
	}.Handler()
	for _, asked := range []string{
		"POST /set_accept", "POST /set_accept ", "POST //set_accept/ bad", "POST /set_accept bug", "POST /set_accept silent", "GET /set_accept",
		"POST /pay/8600313260861293 bad", "GET /pay/8600313260861293", "GET /status/a", "GET /processor/b", "GET /healthz", "GET /readyz", "TELL /8600313260861293", "GET /",
	} {
		method, rest, _ := strings.Cut(asked, " ")
		path, body, _ := strings.Cut(rest, " ")
		site.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, path, strings.NewReader(body)))
	}
	ok := web.Answered{Status: 200, Coded: true}
	in := func(part string, of web.Answered) web.Answered { of.Part = part; return of }
	code := func(part string, status int, c holdfast.Code) web.Answered {
		return web.Answered{part, status, c, true}
	}
	want := map[web.Answered]uint64{
		in("set_accept", ok): 3, code("set_accept", 200, holdfast.CodeDataFormat): 1, code("set_accept", 500, holdfast.CodeInternal): 1,
		{Part: "set_accept", Status: 200}: 1, code("pay", 200, holdfast.CodeDataFormat): 1, {Part: "pages", Status: 404}: 2, {Part: "news", Status: 404}: 1,
		{Part: "health", Status: 200}: 1, {Part: "health", Status: 503}: 1, code("other", 404, holdfast.CodeNotFound): 2,
	}
	got := make(map[web.Answered]uint64)
	for a, n := range site.Answered() {
		if got[a] = n.Load(); got[a] == 0 && a.Code == holdfast.CodeInternal { // it is there before it happens
			delete(got, a)
		}
	}
	if len(site.Answered()) != len(want)+5 {
		t.Errorf("%d counts: those of bugs are not all there", len(site.Answered()))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answered (-want +got):\n%s", diff)
	}
	for part, want := range map[string]uint64{"set_accept": 6, "pay": 1, "pages": 2, "news": 1, "health": 2, "other": 2} {
		if _, n, took := site.Took()[part].Read(); n != want || took <= 0 {
			t.Errorf("%s took %s in %d requests, want %d", part, took, n, want)
		}
	}
	if now, most := site.UnderWay(); now != 0 || most != web.AtOnce {
		t.Errorf("under way are %d of %d", now, most)
	}
}
