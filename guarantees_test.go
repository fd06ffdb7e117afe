package holdfast_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestGuarantees: every test that docs/guarantees.md names is there, in the room that it says, and every
// command that runs it longer is a target of the Makefile.
func TestGuarantees(t *testing.T) {
	const page = "docs/guarantees.md"
	tests := make(map[string]map[string]bool) // by directory
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(read(t, path), -1) {
			dir := filepath.ToSlash(filepath.Dir(path))
			if tests[dir] == nil {
				tests[dir] = make(map[string]bool)
			}
			tests[dir][m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	makefile := read(t, "Makefile")
	named := 0
	for i, line := range strings.Split(read(t, page), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), "|")
		if !strings.HasPrefix(line, "|") || len(cells) < 3 {
			continue
		}
		// A row's tests are in `room` TestName, TestName; `room` TestName: each name belongs to the room before it.
		dir := ""
		for _, m := range regexp.MustCompile("`([^`]*)`|\\b((?:Test|Fuzz)[A-Z]\\w*)").FindAllStringSubmatch(cells[1], -1) {
			switch {
			case m[1] != "":
				dir = m[1]
				if dir != "." && dir != "cmd/holdfast" {
					dir = "internal/" + dir
				}
				if tests[dir] == nil {
					t.Errorf("%s:%d: there are no tests in %q", page, i+1, m[1])
				}
			default:
				named++
				if !tests[dir][m[2]] {
					t.Errorf("%s:%d: there is no %s in %q", page, i+1, m[2], dir)
				}
			}
		}
		for _, m := range regexp.MustCompile("make ([a-z]+)").FindAllStringSubmatch(cells[2], -1) {
			if !regexp.MustCompile(`(?m)^` + m[1] + `:`).MatchString(makefile) {
				t.Errorf("%s:%d: there is no make %s", page, i+1, m[1])
			}
		}
	}
	if named < 40 {
		t.Errorf("%s names %d tests only", page, named)
	}
}

// What is a secret by its name, and who may be compared in the open all the same.
var (
	secretName = regexp.MustCompile(`(?i)(secret|hash|signature|checksum|hmac|\bmac\b|password|token|uniquekey|callbackkey|smskey|code$|otp$)`)
	notSecret  = []string{
		"internal/sim/",      // the other side: it has nothing to protect, and compares with crypto/subtle all the same
		"internal/demo/",     // a shop to click through
		"internal/bench/",    // drives a gateway and measures
		"internal/web/text/", // words
	}
)

// TestSecretsAreComparedInConstantTime looks at every comparison of the program: what is secret by its name is
// compared with nothing but the empty text, but by crypto/subtle or hmac.Equal, and the places where the
// secrets of shops, acquirers and payers are compared do that.
func TestSecretsAreComparedInConstantTime(t *testing.T) {
	constant := make(map[string]int) // comparisons in constant time, by file
	compared := 0
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		path = filepath.ToSlash(path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && strings.HasPrefix(d.Name(), "."), d.IsDir() && path == "tools":
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"),
			slices.ContainsFunc(notSecret, func(p string) bool { return strings.HasPrefix(path, p) }):
			return nil
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				switch called := expression(n.Fun); called {
				case "subtle.ConstantTimeCompare", "hmac.Equal":
					constant[path]++
				case "bytes.Equal", "strings.EqualFold", "bytes.Compare", "strings.Compare", "strings.HasPrefix", "reflect.DeepEqual", "cmp.Compare":
					for _, a := range n.Args {
						if secretName.MatchString(expression(a)) {
							t.Errorf("%s: %s compares the secret %s in a time that tells of it: use crypto/subtle", files.Position(n.Pos()), called, expression(a))
						}
					}
				}
			case *ast.BinaryExpr:
				if n.Op != token.EQL && n.Op != token.NEQ {
					return true
				}
				compared++
				x, y := expression(n.X), expression(n.Y)
				for _, side := range [2][2]string{{x, y}, {y, x}} {
					if secretName.MatchString(side[0]) && !harmless(side[0], side[1]) {
						t.Errorf("%s: %s %s %s compares a secret in a time that tells of it: use crypto/subtle", files.Position(n.Pos()), x, n.Op, y)
						break
					}
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{"notification.go", "internal/merchant/merchant.go", "internal/processor/rbs/callback.go", "internal/processor/humo/code.go"} {
		if constant[place] == 0 {
			t.Errorf("%s compares no secret in constant time any more: where is it done now?", place)
		}
	}
	if compared < 300 {
		t.Errorf("only %d comparisons were looked at", compared)
	}
}

// expression is a part of the program as text, as far as names go.
func expression(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.BasicLit:
		return e.Value
	case *ast.SelectorExpr:
		return expression(e.X) + "." + e.Sel.Name
	case *ast.CallExpr:
		var args []string
		for _, a := range e.Args {
			args = append(args, expression(a))
		}
		return expression(e.Fun) + "(" + strings.Join(args, ",") + ")"
	case *ast.IndexExpr:
		return expression(e.X) + "[]"
	case *ast.SliceExpr:
		return expression(e.X) + "[:]"
	case *ast.StarExpr:
		return expression(e.X)
	case *ast.ParenExpr:
		return expression(e.X)
	case *ast.UnaryExpr:
		return expression(e.X)
	}
	return fmt.Sprintf("%T", e)
}

// harmless reports that a comparison with other tells nothing of what is named so.
func harmless(name, other string) bool {
	switch other {
	case `""`, "nil", "0", "-1", "true", "false":
		return true // whether there is one
	}
	if strings.HasPrefix(name, "len(") || strings.HasPrefix(other, "len(") {
		return true
	}
	// Words and numbers that say how something went (t.code is a centre's), or which way of several is set.
	return slices.Contains([]string{"cfg.OTP", "k.c.cfg.OTP", "f.Humo.OTP", "token.Kind()", "info.Code", "t.code", "f.code"}, name) || strings.HasSuffix(name, "WrongCode") || strings.HasSuffix(name, ".CodeWrongSecret") || name == "name" || other == "name" ||
		regexp.MustCompile(`(?i)(status|error|exit|err|result|action|reason|currency|country|sqlite)\.?\w*code|^code$|codes?\(`).MatchString(name)
}

// TestFigures: make test shows the figures of each regime, and of a package that fails everything it said.
func TestFigures(t *testing.T) {
	for _, c := range []struct{ said, shown string }{
		{`=== RUN   TestKill
=== PAUSE TestKill
=== RUN   TestOther
    other_test.go:5: nobody wants to know
--- PASS: TestOther (0.00s)
=== CONT  TestKill
    kill_test.go:322: figures: kill: 20 kills; lost 0, doubled 0
--- PASS: TestKill (1.00s)
PASS
ok  	holdfast/cmd/holdfast	1.000s
ok  	holdfast/internal/money	(cached)
?   	holdfast/internal/none	[no test files]
`, `ok  	holdfast/cmd/holdfast	1.000s
    kill: 20 kills; lost 0, doubled 0
ok  	holdfast/internal/money	(cached)
?   	holdfast/internal/none	[no test files]
`},
		{`=== RUN   TestKill
    kill_test.go:300: LOST: a payment
    kill_test.go:322: figures: kill: 20 kills; lost 1, doubled 0
--- FAIL: TestKill (1.00s)
=== RUN   TestOther
--- PASS: TestOther (0.00s)
FAIL
exit status 1
FAIL	holdfast/cmd/holdfast	1.000s
FAIL	holdfast/internal/money [build failed]
FAIL
`, `    kill_test.go:300: LOST: a payment
    kill: 20 kills; lost 1, doubled 0
--- FAIL: TestKill (1.00s)
FAIL
exit status 1
FAIL	holdfast/cmd/holdfast	1.000s
FAIL	holdfast/internal/money [build failed]
FAIL
`},
	} {
		cmd := exec.Command("awk", "-f", "tools/figures.awk")
		cmd.Stdin = strings.NewReader(c.said)
		shown, err := cmd.CombinedOutput()
		if err != nil || string(shown) != c.shown {
			t.Errorf("it shows, %v:\n%s\nwant:\n%s", err, shown, c.shown)
		}
	}
	// And the regimes say them.
	said := make(map[string]bool)
	for _, room := range []string{"cmd/holdfast", "internal/gateway", "internal/notify", "internal/web/api", "internal/world"} {
		files, err := filepath.Glob(room + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			for _, m := range regexp.MustCompile(`"figures: ([a-z]+): `).FindAllStringSubmatch(read(t, file), -1) {
				said[m[1]] = true
			}
		}
	}
	for _, regime := range []string{"world", "faults", "kill", "storm", "history", "edge", "endpoint", "overload", "canary", "guesses", "addresses", "callbacks", "disk", "stop"} {
		if !said[regime] {
			t.Errorf("no test prints the figures of %s", regime)
		}
	}
}
