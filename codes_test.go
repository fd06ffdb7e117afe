package holdfast

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
)

func TestCodesTable(t *testing.T) {
	table := Codes()
	names := map[string]bool{}
	inTable := map[Code]bool{}
	for i, info := range table {
		if i > 0 && table[i-1].Code >= info.Code {
			t.Errorf("%d is out of order", info.Code)
		}
		if info.Name == "" || names[info.Name] || strings.Trim(info.Name, "abcdefghijklmnopqrstuvwxyz_3") != "" {
			t.Errorf("%d: the name %q is empty, taken or no plain word", info.Code, info.Name)
		}
		if (info.Message == "") != (info.Code == CodeOK) || info.Next == "" || strings.HasSuffix(info.Next, ".") || strings.HasSuffix(info.Message, ".") {
			t.Errorf("%d: message %q, next %q", info.Code, info.Message, info.Next)
		}
		names[info.Name], inTable[info.Code] = true, true
		if info.Code.Info() != info {
			t.Errorf("%d: Info is another", info.Code)
		}
	}

	// Every constant of the file is in the table, and nothing else.
	file, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	constants := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if literal, ok := spec.Values[0].(*ast.BasicLit); ok {
			value, _ := strconv.Atoi(literal.Value)
			if constants++; !inTable[Code(value)] {
				t.Errorf("%s is not in the table", spec.Names[0])
			}
		}
		return true
	})
	if constants != len(table) {
		t.Errorf("%d constants, %d rows", constants, len(table))
	}

	// Contract §8 and the messages it fixes.
	for _, code := range []Code{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 17, 22, 403} {
		if !inTable[code] {
			t.Errorf("the documented code %d is missing", code)
		}
	}
	for code, want := range map[Code]string{2: "Wrong secret", 17: "Maximum number of SMS resend attempts", 22: "Wrong amount to refund"} {
		if got := code.Info().Message; got != want {
			t.Errorf("%d says %q, want %q", code, got, want)
		}
	}
	for code := Code(100); code <= 125; code++ {
		if !inTable[code] {
			t.Errorf("our code %d is missing", code)
		}
	}

	table[0].Name = "spoilt"
	if Codes()[0].Name == "spoilt" {
		t.Error("the caller can change the table")
	}
	if info := Code(9999).Info(); info.Code != 9999 || info.Message == "" || info.Next == "" {
		t.Errorf("an unknown code is %+v", info)
	}
}
