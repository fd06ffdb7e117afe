package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"holdfast"
	"holdfast/internal/payment"
)

// Each reason of the core has its row in the table, and none of them says that all went well.
func TestEveryReasonHasACode(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../payment/reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Reason" {
			reason, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			declared++
			if code, ok := codes[payment.Reason(reason)]; !ok || code == holdfast.CodeOK {
				t.Errorf("%s has no code", reason)
			}
		}
		return true
	})
	if declared != len(codes) {
		t.Errorf("%d reasons are declared, the table has %d", declared, len(codes))
	}
	// A centre that refuses and does not say why has refused all the same.
	if f := refusal("", ""); f.code != holdfast.CodeCardRefused {
		t.Errorf("without a reason it is error %d", f.code)
	}
}

// What a card or a code came to, whatever the payment became while the centre was asked.
func TestUnpaid(t *testing.T) {
	open := func(outcome payment.Outcome) payment.Progress {
		return payment.Progress{Open: &payment.Operation{Kind: payment.OpCharge, Outcome: outcome}}
	}
	for _, tt := range []struct {
		p    payment.Payment
		want holdfast.Code // 0: it is well so far
	}{
		{payment.Payment{State: payment.Created}, 0},
		{payment.Payment{State: payment.Created, Progress: payment.Progress{LastRefusal: payment.CardBlocked}}, holdfast.CodeCardBlocked},
		{payment.Payment{State: payment.Challenged}, 0},
		{payment.Payment{State: payment.Challenged, Progress: open(payment.ChallengeGiven)}, 0}, // he is at his bank
		{payment.Payment{State: payment.Challenged, Progress: open(payment.Unknown)}, holdfast.CodeOutcomeUnknown},
		{payment.Payment{State: payment.Created, Progress: open(payment.ChallengeGiven)}, holdfast.CodeOutcomeUnknown}, // and nobody knows where that is
		{payment.Payment{State: payment.Held, Progress: open("")}, holdfast.CodeOutcomeUnknown},
		{payment.Payment{State: payment.Declined, Progress: payment.Progress{LastRefusal: payment.WrongCode}}, holdfast.CodeAttemptsUsedUp},
		{payment.Payment{State: payment.Expired}, holdfast.CodePaymentExpired},
		{payment.Payment{State: payment.Voided}, holdfast.CodePaymentFinished},
	} {
		got := holdfast.CodeOK
		if err := unpaid(&tt.p); err != nil {
			got = err.(*failure).code
		}
		if got != tt.want {
			t.Errorf("%s, open %+v, refused because %q: error %d, want %d", tt.p.State, tt.p.Open, tt.p.LastRefusal, got, tt.want)
		}
	}
}
