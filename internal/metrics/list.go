package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// metric is one that is shown. The documentation's table is made from them (make docs).
type metric struct {
	name, kind, help string
	labels           []string
	desc             *prometheus.Desc
}

// all is every metric but those of Go and of the process, in the order in which the documentation has them.
var all []*metric

func define(kind, name, help string, labels ...string) *metric {
	m := &metric{name, kind, help, labels, prometheus.NewDesc(name, help, labels, nil)}
	all = append(all, m)
	return m
}

const (
	counter   = "counter"
	gauge     = "gauge"
	histogram = "histogram"
)

var (
	ready       = define(gauge, "holdfast_ready", "1: payments can be taken, as /readyz says; 0: they cannot.")
	storeFailed = define(gauge, "holdfast_store_failed", "1: the disk has failed under the store, nothing more is acknowledged, and only a restart can mend it.")
	storeAway   = define(gauge, "holdfast_store_away", "1: the database takes nothing from anybody; it is tried again each second.")
	reconciling = define(gauge, "holdfast_reconciling", "1: a restored backup is being reconciled with the processing centres.")
	loopIdle    = define(gauge, "holdfast_loop_idle_seconds", "How long ago a loop (deadlines, notifications) last got something done. It looks at least each second while the store answers.", "loop")
	build       = define(gauge, "holdfast_build_info", "Always 1: the program's version, what it was built with, and where its store is (file, postgresql).", "version", "go", "store")

	requests      = define(counter, "holdfast_requests_total", "Requests answered. part: a call of the merchant API by its name, or pages (the payer's), news (of processing centres), health, or other (what leads nowhere). error: the name of the answer's error number, as in the table of the merchant API; ok; or none, where an answer has no such number.", "part", "status", "error")
	requestTime   = define(histogram, "holdfast_request_seconds", "How long a request took, its processing centre's time included.", "part")
	requestsNow   = define(gauge, "holdfast_requests_under_way", "Requests being served now.")
	requestsLimit = define(gauge, "holdfast_requests_under_way_limit", "How many can be; new payments are turned away from three quarters of it on.")

	questions    = define(counter, "holdfast_questions_total", "Questions answered by processing centres, or not. contract: the name of the contract. test: true for test payments. operation: challenge, verify, hold, charge, capture, void, refund. ask: send (do it), continue (after the payer was at his bank), query (what became of it). outcome: approved, challenged (the payer must act), refused, unknown, never_seen. reason: why it was refused.", "contract", "test", "operation", "ask", "outcome", "reason")
	questionTime = define(histogram, "holdfast_question_seconds", "How long a processing centre took to answer, or was waited for in vain.", "contract", "test", "operation")
	questionsNow = define(gauge, "holdfast_questions_under_way", "Payments of which a processing centre is being asked now.")

	inDoubt   = define(gauge, "holdfast_payments_in_doubt", "Payments of which a centre was asked to move money, and whose answer is missing (holdfast doubt list). One whose first answer is still waited for is none.", "test")
	forPerson = define(gauge, "holdfast_payments_for_person", "Of them, those that no centre is asked about any more: a person must say what became of them.", "test")
	doubtAge  = define(gauge, "holdfast_oldest_doubt_age_seconds", "How long ago the operation that is in doubt the longest was begun; 0: none is.", "test")
	overdue   = define(gauge, "holdfast_payments_overdue_seconds", "For how long the payment that is due the longest (its hold is to be let go, a centre is to be asked, its time is over) has been due; 0: none is.")

	attempts       = define(counter, "holdfast_notification_attempts_total", "Attempts to tell shops. result: taken (2xx), refused (another status), unanswered, unsent (what it is about could not be read).", "result")
	attemptTime    = define(histogram, "holdfast_notification_attempt_seconds", "How long shops took to answer, or were waited for in vain.")
	gaveUp         = define(counter, "holdfast_notifications_given_up_total", "Notifications given up: no attempt was taken for three days.")
	waiting        = define(gauge, "holdfast_notifications_waiting", "Notifications that will be sent, now or later, repeats of requests for a decision included.")
	due            = define(gauge, "holdfast_notifications_due", "Of them, those that are due and not being sent.")
	overdueNotices = define(gauge, "holdfast_notifications_overdue_seconds", "For how long the notification that is due the longest has been due; 0: none is.")

	commits    = define(counter, "holdfast_store_commits_total", "Transactions of the store.")
	operations = define(counter, "holdfast_store_operations_total", "What callers had stored by them: many share one.")
	failures   = define(counter, "holdfast_store_operations_failed_total", "What callers handed in and was not stored, by no fault of its own: the disk failed, or the database was away.")
	syncs      = define(counter, "holdfast_store_syncs_total", "Times the disk was asked to make transactions durable (a store in a file).")
	commitTime = define(histogram, "holdfast_store_commit_seconds", "How long a batch took from when it was taken up until it was durable.")
	handedIn   = define(gauge, "holdfast_store_waiting", "What callers have handed in and is not taken up yet.")
	fileSize   = define(gauge, "holdfast_store_file_bytes", "Size of a store in a file: the file itself (store), and its log (log).", "file")
)

// Row describes a metric to the documentation.
type Row struct {
	Name, Kind, Help string
	Labels           []string
}

// Table is every metric but those of Go (go_…) and of the process (process_…).
func Table() (rows []Row) {
	for _, m := range all {
		rows = append(rows, Row{m.name, m.kind, m.help, slices.Clone(m.labels)})
	}
	return rows
}
