package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the command line as its users do: see testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TZ", "UTC")
			return nil
		},
	})
}

// TestWalk plays all flows, as the README's first command does.
func TestWalk(t *testing.T) {
	var out, complaints bytes.Buffer
	if code := (program{stdout: &out, stderr: &complaints}).run(t.Context(), []string{"demo", "--walk"}); code != 0 {
		t.Fatalf("demo --walk ended %d: %s\n%s", code, complaints.String(), tail(out.String(), 3000))
	}
	for _, want := range []string{"Everything was as it should be", "lost 0, doubled 0", "clean: every invariant holds"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the walk does not say %q", want)
		}
	}
	if complaints.Len() > 0 {
		t.Errorf("the walk complained: %s", complaints.String())
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }
