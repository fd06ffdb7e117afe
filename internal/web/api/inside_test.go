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
