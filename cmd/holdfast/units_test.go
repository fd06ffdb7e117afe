package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestUnits: the units in docs/deploy start the program with flags that it has, and systemd understands them.
func TestUnits(t *testing.T) {
	dir := t.TempDir()
	var units []string
	for _, name := range []string{"holdfast.service", "holdfast.socket"} {
		text, err := os.ReadFile(filepath.Join("../../docs/deploy", name))
		if err != nil {
			t.Fatal(err)
		}
		unit := string(text)
		if name == "holdfast.service" {
			m := regexp.MustCompile(`(?m)^ExecStart=(\S+) serve(.*)$`).FindStringSubmatch(unit)
			if m == nil {
				t.Fatalf("%s does not start holdfast serve", name)
			}
			cmd := exec.Command(os.Args[0], append([]string{"serve", "--help"}, strings.Fields(m[2])...)...)
			cmd.Env = append(os.Environ(), asProgram+"=1")
			help, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("holdfast serve%s --help: %v: %s", m[2], err, help)
			}
			for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(m[2], -1) {
				if !strings.Contains(string(help), flag+" ") && !strings.Contains(string(help), flag+"=") {
					t.Errorf("%s starts it with %s, which it does not have", name, flag)
				}
			}
			// What is checked is the unit, and not whether this machine has the program and its user.
			unit = strings.ReplaceAll(unit, m[1], os.Args[0])
			unit = regexp.MustCompile(`(?m)^(User|Group)=.*`).ReplaceAllString(unit, "$1=root")
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(unit), 0o644); err != nil {
			t.Fatal(err)
		}
		units = append(units, file)
	}
	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd-analyze is not installed here: what systemd thinks of the units was not asked")
		return
	}
	out, err := exec.Command(verify, append([]string{"verify", "--man=no"}, units...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v: %s", err, out)
	}
}
