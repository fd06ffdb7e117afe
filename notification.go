package holdfast

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// Notification is what the gateway posts to a merchant's notify_url. The body
// has these keys and no others, because strict decoders refuse any other; the
// first five are always there. Source: contract §6.
type Notification struct {
	ShopTransactionID string  `json:"shop_transaction_id"`
	PaymentUUID       string  `json:"octo_payment_UUID"`
	Status            string  `json:"status"`
	Signature         string  `json:"signature"`                 // see [NotificationSignature]
	HashKey           string  `json:"hash_key"`                  // a fresh UUID
	TotalSum          Decimal `json:"total_sum,omitzero"`        // major units
	TransferSum       Decimal `json:"transfer_sum,omitzero"`     // major units: captured less the fee
	RefundedSum       Decimal `json:"refunded_sum,omitzero"`     // major units
	CardCountry       string  `json:"card_country,omitzero"`     // ISO 3166, two letters
	MaskedPAN         string  `json:"maskedPan,omitzero"`        // like 427831** **** 3011
	RRN               string  `json:"rrn,omitzero"`              // the bank's retrieval reference number
	RiskLevel         *int64  `json:"riskLevel,omitzero"`        // nil is absent
	PayedTime         string  `json:"payed_time,omitzero"`       // [TimeLayout]
	CardType          string  `json:"card_type,omitzero"`        // brand of the card
	IsPhysicalCard    *bool   `json:"is_physical_card,omitzero"` // nil is absent
	Currency          string  `json:"currency,omitzero"`         // three letters
	CardVendor        string  `json:"card_vendor,omitzero"`      // issuing bank
}

// NotificationAnswer is what a merchant answers to a notification about held
// money, and what callback answers: the decision. The zero answer is {} and
// decides nothing. Source: seed, callback; contract §6.
type NotificationAnswer struct {
	AcceptStatus string  `json:"accept_status,omitzero"` // one of the Accept constants
	FinalAmount  Decimal `json:"final_amount,omitzero"`  // major units, at most the hold; "" is all of it
}

// The headers of Standard Webhooks (www.standardwebhooks.com), which sign the
// whole body; the signature inside it covers only the id and the status.
const (
	HeaderWebhookID        = "webhook-id"        // the same for each repeat of one notification
	HeaderWebhookTimestamp = "webhook-timestamp" // seconds since 1970 of this try
	HeaderWebhookSignature = "webhook-signature" // "v1," and base64; several are separated by spaces
)

const (
	webhookTolerance     = 5 * time.Minute
	maxNotificationBytes = 64 << 10
)

// NotificationSignature is the value of the key signature: upper-case hex of
// SHA1(uniqueKey + paymentUUID + status), plainly concatenated. uniqueKey is
// the shop's unique_key, issued beside its secret. Source: contract §6.
func NotificationSignature(uniqueKey, paymentUUID, status string) string {
	sum := sha1.Sum([]byte(uniqueKey + paymentUUID + status))
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// WebhookSignature is the value of the header webhook-signature: "v1," and the
// base64 of HMAC-SHA256 over id, the time in seconds and the body, joined by
// dots. Its key is the bytes of the shop's unique_key; a verifier of another
// make wants that key as [WebhookSecret] writes it.
func WebhookSignature(key, id string, at time.Time, body []byte) string {
	return "v1," + base64.StdEncoding.EncodeToString(webhookMAC(key, id, at.Unix(), body))
}

func webhookMAC(key, id string, seconds int64, body []byte) []byte {
	mac := hmac.New(sha256.New, []byte(key))
	head := make([]byte, 0, 64)
	head = append(append(head, id...), '.')
	head = append(strconv.AppendInt(head, seconds, 10), '.')
	mac.Write(head)
	mac.Write(body)
	return mac.Sum(head[:0])
}

// WebhookSecret writes a shop's unique_key as the secret that the Standard
// Webhooks libraries of other languages take: "whsec_" and base64.
func WebhookSecret(uniqueKey string) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(uniqueKey))
}

// SignWebhook sets the three webhook headers for one try to deliver body. The
// gateway's sender calls it; so do a merchant's tests.
func SignWebhook(h http.Header, uniqueKey, id string, at time.Time, body []byte) {
	h[canonicalID] = []string{id}
	h[canonicalTimestamp] = []string{strconv.FormatInt(at.Unix(), 10)}
	h[canonicalSignature] = []string{WebhookSignature(uniqueKey, id, at, body)}
}

// The headers' names as http.Header has them.
var (
	canonicalID        = http.CanonicalHeaderKey(HeaderWebhookID)
	canonicalTimestamp = http.CanonicalHeaderKey(HeaderWebhookTimestamp)
	canonicalSignature = http.CanonicalHeaderKey(HeaderWebhookSignature)
)

// ErrNotVerified is what every refusal of [VerifyNotification] wraps.
var ErrNotVerified = errors.New("holdfast: the notification is not verified, do not act on it")

// VerifyNotification reads a notification and proves that the holder of
// uniqueKey made it, with every comparison in constant time.
//
// With h, the request's headers, the webhook headers must be there and must
// sign the body within five minutes of now; then the sums can be trusted too.
// They are not optional, or else a forger would leave them out. With a nil h
// only the signature inside the body is checked, which covers octo_payment_UUID
// and status and nothing else: ask [Client.Status] for the rest.
//
// A notification may come twice, and a repeat bears the same webhook-id. It
// fails with an error that wraps [ErrNotVerified]. Source: contract §6.
func VerifyNotification(uniqueKey string, body []byte, h http.Header) (Notification, error) {
	return VerifyNotificationAt(uniqueKey, body, h, time.Now())
}

// VerifyNotificationAt is [VerifyNotification] at a given time.
func VerifyNotificationAt(uniqueKey string, body []byte, h http.Header, now time.Time) (Notification, error) {
	refuse := func(why string) (Notification, error) {
		return Notification{}, fmt.Errorf("%w: %s", ErrNotVerified, why)
	}
	if uniqueKey == "" {
		return refuse("the shop's unique_key is missing: the gateway's operator gave it to you with the secret")
	}
	if len(body) > maxNotificationBytes {
		return refuse("its body is larger than 64 KiB")
	}
	if h != nil {
		if why := checkWebhook(uniqueKey, body, h, now); why != "" {
			return refuse(why)
		}
	}
	var n Notification
	if err := json.Unmarshal(body, &n); err != nil {
		return refuse("its body is not a notification in JSON")
	}
	if n.PaymentUUID == "" || n.Status == "" {
		return refuse("octo_payment_UUID or status is missing in its body")
	}
	want := NotificationSignature(uniqueKey, n.PaymentUUID, n.Status)
	if !hmac.Equal([]byte(want), []byte(n.Signature)) {
		return refuse("its signature is wrong: check that unique_key is this shop's")
	}
	return n, nil
}

// checkWebhook says what is wrong with the webhook headers, "" if nothing is.
func checkWebhook(key string, body []byte, h http.Header, now time.Time) string {
	id := h.Get(HeaderWebhookID)
	seconds, err := strconv.ParseInt(h.Get(HeaderWebhookTimestamp), 10, 64)
	if id == "" || err != nil {
		return "the headers webhook-id and webhook-timestamp are missing or malformed: hand over the headers of the request"
	}
	if at := time.Unix(seconds, 0); at.Before(now.Add(-webhookTolerance)) || at.After(now.Add(webhookTolerance)) {
		return "its webhook-timestamp is more than five minutes off: check this machine's clock"
	}
	want := webhookMAC(key, id, seconds, body)
	for candidate := range strings.FieldsSeq(h.Get(HeaderWebhookSignature)) {
		encoded, ok := strings.CutPrefix(candidate, "v1,")
		if !ok {
			continue // a version to come; v1 stands beside it
		}
		if got, err := base64.StdEncoding.Strict().DecodeString(encoded); err == nil && hmac.Equal(got, want) {
			return ""
		}
	}
	return "no webhook-signature fits: check that unique_key is this shop's and that the body is the unchanged bytes"
}

// NotificationHandler is a merchant's notify_url: it takes POSTs of at most
// 64 KiB, verifies them with their headers, hands them to decide and sends its
// answer. While a payment is waiting_for_capture the answer is the decision;
// for every other status, and to leave the decision to set_accept later, the
// zero answer will do ([AcceptWait] also stops the repeats).
//
// decide must be quick, the gateway's patience is limited, and safe to call
// twice with one notification. If it fails, the answer is HTTP 500 without its
// error's text, and the gateway will repeat the notification.
func NotificationHandler(uniqueKey string, decide func(context.Context, Notification) (NotificationAnswer, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "notifications are POSTed", http.StatusMethodNotAllowed)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxNotificationBytes))
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			http.Error(w, "a notification is at most 64 KiB", http.StatusRequestEntityTooLarge)
			return
		}
		if err != nil {
			http.Error(w, "the body broke off", http.StatusBadRequest)
			return
		}
		n, err := VerifyNotification(uniqueKey, body, r.Header)
		if err != nil {
			http.Error(w, "the notification is not verified", http.StatusUnauthorized)
			return
		}
		answer, err := decide(r.Context(), n)
		if err != nil {
			http.Error(w, "the notification could not be handled, send it again", http.StatusInternalServerError)
			return
		}
		encoded, err := json.Marshal(answer)
		if err != nil {
			http.Error(w, "the decision could not be written, send it again", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(encoded)
	})
}
