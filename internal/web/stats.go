package web

import (
	"net/http"
	"sync/atomic"
	"time"

	"holdfast"
	"holdfast/internal/tally"
)

// Handler serves a site, and counts what it has answered.
type Handler struct {
	serve    http.HandlerFunc
	doors    *doors
	answered tally.By[Answered, atomic.Uint64]
	took     tally.By[string, tally.Times]
}

// Answered is how a request was answered. It has no words in it but our own, of which there are few.
type Answered struct {
	// Part is a call of the API by its name, or pages, news (of processing centres), health (of the gateway) or other: what
	// leads nowhere.
	Part   string
	Status int           // HTTP's
	Code   holdfast.Code // the error number in the answer; 0 where it has none
	Coded  bool          // it has one
}

// The parts that are no calls.
const (
	partPages  = "pages"
	partNews   = "news"
	partHealth = "health"
	partOther  = "other"
)

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.serve(w, r) }

// expect begins the counts of what shall never be answered: whoever watches them sees the first one as a rise.
func (h *Handler) expect(parts []string) {
	for _, part := range parts {
		h.answered.Of(Answered{part, http.StatusInternalServerError, holdfast.CodeInternal, true})
	}
}

func (h *Handler) count(o *observed, took time.Duration) {
	h.answered.Of(Answered{o.part, o.status, holdfast.Code(o.code), o.coded}).Add(1)
	h.took.Of(o.part).Add(took)
}

// Answered is how many requests were answered, by how they were.
func (h *Handler) Answered() map[Answered]*atomic.Uint64 { return h.answered.All() }

// Took is how long requests took, by the part that they asked for.
func (h *Handler) Took() map[string]*tally.Times { return h.took.All() }

// UnderWay is how many requests are being served, and how many can be at once.
func (h *Handler) UnderWay() (now, most int) { return len(h.doors.places), cap(h.doors.places) }
