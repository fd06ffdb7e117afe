// Package payment decides; it never does.
//
// A Payment is the last thing known for certain plus at most one open question to a processing
// centre. Begin looks at it and at a command and says what changes; Settle takes the centre's
// answer and says what changes; both are pure: no I/O, no context, no clock, no randomness. What
// crosses from deciding to storing is a Change, and nothing else.
//
// Order to read: state.go (the states and their words on the wire), payment.go (what a payment is),
// operation.go (the open question), begin.go (what may be asked of a payment), change.go (how a Change
// is made), settle.go (what an answer does), check.go (what must hold of every Change, checked once more
// before it is written), doubt.go (a person's word), restore.go (what a backup does not know), card.go
// and ranges.go (card numbers), reason.go (why not), encode.go (how it is kept).
package payment
