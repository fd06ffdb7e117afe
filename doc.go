// Package holdfast is what a merchant imports to take payments through a
// Holdfast gateway: the types on the wire, a client for the calls, and the
// verification of notifications. It needs nothing else of the house, and the
// gateway itself speaks through the same types.
//
// # A payment, from the merchant's side
//
// A two-stage payment is prepared with auto_capture false, paid by the payer,
// held by the bank, and then captured (all of it or less) or canceled by the
// merchant:
//
//	Client.Prepare            created                 send the payer to PayURL, or take the card yourself:
//	Client.Pay                wait_user_action        the payer gets a code by SMS, or a 3-D Secure page
//	Client.VerificationInfo                           where the code went, how long it is good
//	Client.CheckSMSKey        waiting_for_capture     the money is held
//	(notification)                                    the gateway asks for the decision
//	Client.Accept             succeeded or canceled   the decision, once
//	Client.Refund             succeeded               captured money goes back
//
// A one-stage payment goes from wait_user_action to succeeded at once. A hold
// that nobody decides about is given back after 30 minutes, unless the shop's
// settings say otherwise.
//
// Three rules keep money right. Ask [Client.Status] whenever an outcome is not
// known, and never guess it. Use your own ids (shop_transaction_id,
// shop_refund_id) and repeat them: the gateway answers the first call again.
// Compare sums as minor units ([Decimal.Minor]), never as text or floats.
//
// # The tour, bottom-up: read this first
//
//   - decimal.go: [Decimal], a sum as exact text. Sums are in major units on
//     the wire and in minor units (int64) everywhere else.
//   - tolerant.go: [Integer], [Text], [AnyText] and [Flag], exact in what they send and
//     tolerant in what they take.
//   - secret.go: [Secret], which shows as dots wherever it goes, and
//     [EncodeRequest], the one door through which it does not.
//   - mask.go: [Mask], for bodies that somebody will look at.
//   - wire.go: the words of the wire (statuses, methods, decisions) and a
//     request and a response for each call; entity.go: the long camelCase
//     description of a payment that pay and check_sms_key answer.
//   - codes.go: [Codes], the one table of error codes, each with what to do next.
//   - client.go: [Client] makes the calls; its failures are of type [*Error].
//   - notification.go: [VerifyNotification] and [NotificationHandler] for the
//     merchant, and the signing that the gateway's sender does.
//
// All types encode to the same bytes with encoding/json, if its HTML escaping
// is off, and with github.com/go-json-experiment/json, which the gateway uses.
// (The exceptions: slices marked "never nil", and the rare characters U+2028
// and U+2029, which encoding/json always escapes.)
//
// Comments name their source: "seed" is the two-stage payment page of the Octo
// documentation, "contract" docs/merchant-api.md. The
// seed's samples and tables are in testdata/seed, and tests hold the types to
// every key of them.
package holdfast
