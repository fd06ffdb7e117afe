package holdfast_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"holdfast"
	"holdfast/internal/gateway"
	"holdfast/internal/metrics"
	"holdfast/internal/notify"
	"holdfast/internal/postgrestest"
	"holdfast/internal/sim"
	"holdfast/internal/web/api"
)

// The house explains itself, and this file holds it to what it says: who may import whom, what the
// documentation lists, and that every command and every example in it really works.

var update = flag.Bool("update", false, "write the generated parts of the documentation anew")

// documents are the pages of the project.
func documents(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("docs/*.md: %d pages, %v", len(pages), err)
	}
	return append([]string{"README.md", "ARCHITECTURE.md"}, pages...)
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// block is a fenced block of a page.
type block struct {
	info string // what stands behind the opening fence
	text string
	line int // of the opening fence
}

func blocks(t *testing.T, page string) (all []block) {
	t.Helper()
	var open *block
	for i, line := range strings.Split(read(t, page), "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open == nil:
			open = &block{info: strings.TrimSpace(fence), line: i + 1}
		case isFence && strings.TrimSpace(fence) == "":
			all, open = append(all, *open), nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	if open != nil {
		t.Errorf("%s:%d: the block is not closed", page, open.line)
	}
	return all
}

// theBlock is the one block of a page with the info string.
func theBlock(t *testing.T, page, info string) string {
	t.Helper()
	var found []block
	for _, b := range blocks(t, page) {
		if b.info == info {
			found = append(found, b)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d blocks ```%s, want one", page, len(found), info)
	}
	return found[0].text
}

// ---- rooms ------------------------------------------------------------------

// goPackage is a package as go list describes it.
type goPackage struct {
	ImportPath, Dir, Doc               string
	GoFiles                            []string
	Imports, TestImports, XTestImports []string
}

var packages = sync.OnceValues(func() ([]goPackage, error) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,GoFiles,Imports,TestImports,XTestImports", "./...").Output()
	if err != nil {
		return nil, explainExit(err)
	}
	var all []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p goPackage
		if err := d.Decode(&p); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
})

func explainExit(err error) error {
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return err
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	if len(all) < 15 {
		t.Fatalf("go list knows %d packages only", len(all))
	}
	return all
}

const module = "holdfast"

// roomOf is how ARCHITECTURE.md calls a package of ours; false: it is not ours.
func roomOf(importPath string) (string, bool) {
	if importPath == module {
		return "root", true
	}
	rest, ours := strings.CutPrefix(importPath, module+"/")
	return strings.TrimPrefix(rest, "internal/"), ours
}

// table reads a block whose lines are a name and what belongs to it.
func table(t *testing.T, text string) map[string][]string {
	t.Helper()
	rows := make(map[string][]string)
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if len(words) < 2 {
			t.Fatalf("the line %q has nothing behind its name", line)
		}
		if rows[words[0]] != nil {
			t.Fatalf("%s stands there twice", words[0])
		}
		rows[words[0]] = words[1:]
	}
	return rows
}

// ruleOf finds a room's row: its own, or the one for its whole corridor ("processor/*").
func ruleOf(rules map[string][]string, room string) (name string, allowed []string) {
	if allowed, ok := rules[room]; ok {
		return room, allowed
	}
	corridor := path.Dir(room) + "/*"
	return corridor, rules[corridor]
}

// broken says which of a room's imports no rule allows.
func broken(rules map[string][]string, room string, imports []string) (forbidden []string) {
	_, allowed := ruleOf(rules, room)
	for _, imported := range imports {
		other, ours := roomOf(imported)
		if ours && !slices.Contains(allowed, other) && !slices.Contains(allowed, "everything") {
			forbidden = append(forbidden, other)
		}
	}
	return forbidden
}

func TestRooms(t *testing.T) {
	rules := table(t, theBlock(t, "ARCHITECTURE.md", "rooms"))
	all := listPackages(t)
	rooms := make(map[string]bool)
	used := make(map[string]bool)
	for _, p := range all {
		room, _ := roomOf(p.ImportPath)
		rooms[room] = true
		name, allowed := ruleOf(rules, room)
		used[name] = true
		if allowed == nil {
			t.Errorf("%s has no row in ARCHITECTURE.md", room)
			continue
		}
		for _, other := range broken(rules, room, p.Imports) {
			t.Errorf("%s may not import %s; ARCHITECTURE.md allows it %s", room, other, strings.Join(allowed, ", "))
		}
	}
	for name, allowed := range rules {
		if dir := "internal/" + strings.TrimSuffix(name, "/*"); !used[name] && !isDir(dir) {
			t.Errorf("ARCHITECTURE.md has rules for %s, which is not there", name)
		}
		for _, other := range allowed {
			if other != "nothing" && other != "everything" && !rooms[other] {
				t.Errorf("ARCHITECTURE.md allows %s to import %s, which is not there", name, other)
			}
		}
	}

	// Tests may import what they need, but for two: an exam that knew the simulator would examine
	// one connector only, and a simulator tested with the gateway's code would share its mistakes.
	for _, p := range all {
		room, _ := roomOf(p.ImportPath)
		for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			other, ours := roomOf(imported)
			switch {
			case room == "processor/processortest" && other == "sim":
				t.Errorf("%s or its tests import %s", room, other)
			case room == "sim" && ours && other != "sim" && other != "money":
				t.Errorf("%s or its tests import %s", room, other)
			}
		}
	}

	// The table of rooms describes each of them.
	page := read(t, "ARCHITECTURE.md")
	for room := range rooms {
		name, _ := ruleOf(rules, room)
		if !strings.Contains(page, "| `"+room+"` |") && !strings.Contains(page, "| `"+name+"` |") {
			t.Errorf("ARCHITECTURE.md does not say what %s is for", room)
		}
	}
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// TestRoomRulesBite holds the reading of the rules to what it must refuse.
func TestRoomRulesBite(t *testing.T) {
	rules := map[string][]string{"money": {"nothing"}, "ledger": {"money"}, "processor": {"payment"}, "processor/*": {"processor"}, "cmd/*": {"everything"}}
	for _, c := range []struct {
		room    string
		imports []string
		want    []string
	}{
		{"money", []string{"fmt", "holdfast"}, []string{"root"}},
		{"ledger", []string{"holdfast/internal/money", "holdfast/internal/payment"}, []string{"payment"}},
		{"processor/svgate", []string{"holdfast/internal/processor", "holdfast/internal/sim"}, []string{"sim"}},
		{"processor", []string{"holdfast/internal/payment"}, nil},
		{"cmd/holdfast", []string{"holdfast/internal/sim", "holdfast"}, nil},
		{"util", []string{"holdfast/internal/money"}, []string{"money"}},
	} {
		if got := broken(rules, c.room, c.imports); !slices.Equal(got, c.want) {
			t.Errorf("%s importing %v: refused %v, want %v", c.room, c.imports, got, c.want)
		}
	}
}

// TestLibraries keeps each library in the one room that knows it.
func TestLibraries(t *testing.T) {
	homes := table(t, theBlock(t, "ARCHITECTURE.md", "libraries"))
	used := make(map[string]bool)
	for _, p := range listPackages(t) {
		room, _ := roomOf(p.ImportPath)
		for _, imported := range p.Imports {
			for library, homes := range homes {
				if imported != library && !strings.HasPrefix(imported, library+"/") {
					continue
				}
				used[library] = true
				if !slices.Contains(homes, room) {
					t.Errorf("%s imports %s, which belongs to %s", room, imported, strings.Join(homes, ", "))
				}
			}
		}
	}
	for library := range homes {
		if !used[library] {
			t.Errorf("ARCHITECTURE.md speaks of %s, which nothing imports", library)
		}
	}
}

// TestPureRooms: what decides about money does no I/O, has no clock and no chance in it.
func TestPureRooms(t *testing.T) {
	for _, room := range []string{"money", "ledger", "payment"} {
		files, err := filepath.Glob("internal/" + room + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", room, len(files), err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, what := range impure(t, file, nil) {
				t.Errorf("%s: %s", file, what)
			}
		}
	}
	example := "package p\nimport (\"os\"; \"time\"; \"math/rand/v2\")\nvar _ = time.Now()\nfunc f() { go f(); time.Sleep(1) }\n"
	if got := impure(t, "example.go", example); len(got) != 5 {
		t.Errorf("of five impure things these were found: %q", got)
	}
}

// impure lists what makes a file depend on anything but its arguments.
func impure(t *testing.T, name string, source any) (found []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, source, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range file.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		for _, kept := range []string{"context", "crypto/rand", "math/rand", "net", "os", "sync", "syscall", "database/sql"} {
			if imported == kept || strings.HasPrefix(imported, kept+"/") {
				found = append(found, "imports "+imported)
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = append(found, "starts a goroutine")
		case *ast.SelectorExpr:
			if p, ok := n.X.(*ast.Ident); ok && p.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}, n.Sel.Name) {
				found = append(found, "asks the clock: time."+n.Sel.Name)
			}
		}
		return true
	})
	return found
}

func TestPackageComments(t *testing.T) {
	for _, p := range listPackages(t) {
		if len(p.GoFiles) > 0 && len(p.Doc) < 20 {
			t.Errorf("%s has no package comment that says what it is for (%q)", p.ImportPath, p.Doc)
		}
	}
}

var goFile = regexp.MustCompile(`\b\w+\.go\b`)

// TestOrderToRead: who reads a package in the order that its comment says finds every file that it names.
func TestOrderToRead(t *testing.T) {
	named := 0
	for _, p := range listPackages(t) {
		for _, file := range p.GoFiles {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range goFile.FindAllString(parsed.Doc.Text(), -1) {
				named++
				if _, err := os.Stat(filepath.Join(p.Dir, name)); err != nil {
					t.Errorf("the comment of %s, in %s, names %s, which is not there", p.ImportPath, file, name)
				}
			}
		}
	}
	if named < 20 {
		t.Errorf("all package comments together name %d files: nothing was looked at", named)
	}
}

func TestArchitectureIsThreePages(t *testing.T) {
	if lines := strings.Count(read(t, "ARCHITECTURE.md"), "\n"); lines > 160 {
		t.Errorf("ARCHITECTURE.md has %d lines; three pages are 160", lines)
	}
}

// ---- generated parts --------------------------------------------------------

// TestGenerated compares the generated parts of the documentation with what they are made from;
// with -update it writes them (make docs).
func TestGenerated(t *testing.T) {
	for _, part := range []struct {
		page, name string
		make       func(*testing.T) string
	}{
		{"docs/merchant-api.md", "error codes", codesTable},
		{"docs/notifications.md", "schedule", scheduleTable},
		{"docs/operating.md", "serve flags", func(t *testing.T) string { return flagsTable(t, "serveCmd") }},
		{"docs/operating.md", "shop settings", func(t *testing.T) string { return flagsTable(t, "settingFlags") }},
		{"docs/operating.md", "metrics", metricsTable},
		{"docs/operating.md", "test cards", cardsTable},
		{"docs/operating.md", "faults", faultsTable},
	} {
		t.Run(part.name, func(t *testing.T) {
			page := read(t, part.page)
			begin, end := "<!-- generated: "+part.name+" (make docs) -->\n", "<!-- end of "+part.name+" -->"
			before, rest, found := strings.Cut(page, begin)
			is, after, ended := strings.Cut(rest, end)
			if !found || !ended {
				t.Fatalf("%s has no part between %q and %q", part.page, begin, end)
			}
			want := "\n" + part.make(t) + "\n"
			if is == want {
				return
			}
			if !*update {
				t.Fatalf("%s is not fresh: run make docs. It should be:\n%s", part.page, want)
			}
			if err := os.WriteFile(part.page, []byte(before+begin+want+end+after), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// rows writes a table of Markdown.
func rows(head []string, body [][]string) string {
	var b strings.Builder
	line := func(cells []string) {
		for _, cell := range cells {
			b.WriteString("| " + strings.ReplaceAll(cell, "|", "\\|") + " ")
		}
		b.WriteString("|\n")
	}
	line(head)
	b.WriteString(strings.Repeat("|---", len(head)) + "|\n")
	for _, cells := range body {
		line(cells)
	}
	return b.String()
}

// TestAlerts: each rule of docs/deploy/alerts.yml is one that Prometheus reads, and speaks of metrics and labels that there are.
func TestAlerts(t *testing.T) {
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(read(t, "docs/deploy/alerts.yml")))
	decoder.KnownFields(true) // as Prometheus does
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	labels := map[string][]string{"up": {"job"}}
	for _, m := range metrics.Table() {
		labels[m.Name] = m.Labels
		if m.Kind == "histogram" {
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				labels[m.Name+part] = append([]string{"le"}, m.Labels...)
			}
			delete(labels, m.Name)
		}
	}
	named, label := regexp.MustCompile(`\b(up|holdfast_\w+)(?:\{([^}]*)\})?`), regexp.MustCompile(`(\w+) *(?:=~|!~|!=|=)`)
	rules := 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			rules++
			if r.Alert == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] != "page" && r.Labels["severity"] != "ticket" {
				t.Errorf("the rule %q has not all that a rule needs: %+v", r.Alert, r)
			}
			if _, err := time.ParseDuration(cmp.Or(r.For, "0s")); err != nil {
				t.Errorf("%s: %v", r.Alert, err)
			}
			found := named.FindAllStringSubmatch(r.Expr, -1)
			if len(found) == 0 {
				t.Errorf("%s looks at none of our metrics: %s", r.Alert, r.Expr)
			}
			for _, m := range found {
				its, there := labels[m[1]]
				if !there {
					t.Errorf("%s looks at %s, which there is not", r.Alert, m[1])
				}
				for _, l := range label.FindAllStringSubmatch(m[2], -1) {
					if !slices.Contains(its, l[1]) {
						t.Errorf("%s wants the label %s of %s, which has %q", r.Alert, l[1], m[1], its)
					}
				}
			}
			for _, text := range r.Annotations {
				for _, name := range regexp.MustCompile(`\bholdfast_\w+`).FindAllString(text, -1) {
					if _, there := labels[name]; !there && labels[name+"_count"] == nil {
						t.Errorf("%s tells people of %s, which there is not", r.Alert, name)
					}
				}
			}
		}
	}
	if rules < 6 {
		t.Errorf("there are %d rules only", rules)
	}
}

func metricsTable(*testing.T) string {
	var body [][]string
	for _, m := range metrics.Table() {
		labels := "–"
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		body = append(body, []string{"`" + m.Name + "`", m.Kind, labels, m.Help})
	}
	return rows([]string{"metric", "kind", "labels", "meaning"}, body)
}

func codesTable(*testing.T) string {
	var body [][]string
	for _, c := range holdfast.Codes() {
		body = append(body, []string{strconv.Itoa(int(c.Code)), "`" + c.Name + "`", c.Message, c.Next})
	}
	return rows([]string{"error", "name", "errMessage", "what to do next"}, body)
}

func scheduleTable(*testing.T) string {
	pauses := func(list []time.Duration) string {
		var parts []string
		for i := 0; i < len(list) && list[i] != list[len(list)-1]; {
			same := 1
			for i+same < len(list) && list[i+same] == list[i] {
				same++
			}
			part := plainDuration(list[i])
			if same > 1 {
				part = fmt.Sprintf("%d times %s", same, part)
			}
			parts = append(parts, part)
			i += same
		}
		return strings.Join(parts, ", ") + ", then every " + plainDuration(list[len(list)-1])
	}
	return rows([]string{"notification", "pause after each attempt", "until"}, [][]string{
		{"`waiting_for_capture`, while nobody has decided", pauses(notify.Ask), "a decision, a stop word, or the end of the hold"},
		{"all others", pauses(notify.Backoff), "any 2xx; given up " + plainDuration(notify.GiveUp) + " after the event"},
	})
}

// plainDuration is 1h30m as people write it: "90 min".
func plainDuration(d time.Duration) string {
	switch {
	case d%(24*time.Hour) == 0:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return fmt.Sprintf("%d s", d/time.Second)
}

// flagsTable lists the flags that a struct of cmd/holdfast declares.
func flagsTable(t *testing.T, name string) string {
	t.Helper()
	flags := flagsOf(t, structs(t), name, "")
	if len(flags) < 5 {
		t.Fatalf("%s has %d flags only", name, len(flags))
	}
	var body [][]string
	for _, f := range flags {
		byDefault := "–"
		if f.byDefault != "" {
			byDefault = "`" + f.byDefault + "`"
		}
		shown := "`--" + f.name + "`"
		if f.negatable {
			shown += ", `--no-" + f.name + "`"
		}
		body = append(body, []string{shown, "`HOLDFAST_" + strings.ToUpper(strings.ReplaceAll(f.name, "-", "_")) + "`", byDefault, f.help})
	}
	return rows([]string{"flag", "environment", "default", "meaning"}, body)
}

type programFlag struct {
	name, help, byDefault string
	negatable             bool
}

// structs are the struct types of the program.
func structs(t *testing.T) map[string]*ast.StructType {
	t.Helper()
	files, err := filepath.Glob("cmd/holdfast/*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]*ast.StructType)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if s, ok := spec.Type.(*ast.StructType); ok {
					found[spec.Name.Name] = s
				}
			}
			return true
		})
	}
	return found
}

func flagsOf(t *testing.T, structs map[string]*ast.StructType, name, prefix string) (flags []programFlag) {
	t.Helper()
	s := structs[name]
	if s == nil {
		t.Fatalf("cmd/holdfast has no struct %s", name)
	}
	for _, field := range s.Fields.List {
		var tag reflect.StructTag
		if field.Tag != nil {
			text, err := strconv.Unquote(field.Tag.Value)
			if err != nil {
				t.Fatal(err)
			}
			tag = reflect.StructTag(text)
		}
		_, embedded := tag.Lookup("embed")
		if kind, ok := field.Type.(*ast.Ident); ok && (len(field.Names) == 0 || embedded) {
			flags = append(flags, flagsOf(t, structs, kind.Name, prefix+tag.Get("prefix"))...)
			continue
		}
		_, negatable := tag.Lookup("negatable")
		for _, n := range field.Names {
			flags = append(flags, programFlag{prefix + flagName(tag.Get("name"), n.Name), tag.Get("help"), tag.Get("default"), negatable})
		}
	}
	return flags
}

var hump = regexp.MustCompile(`([a-z0-9])([A-Z])`)

// flagName is the flag of a field: HoldTimeout is hold-timeout.
func flagName(given, field string) string {
	if given != "" {
		return given
	}
	return strings.ToLower(hump.ReplaceAllString(field, "$1-$2"))
}

// usualCards are the behaviours that people ask for first; the simulator's page has all.
var usualCards = []string{
	"ok", "insufficient_funds", "expired_at_bank", "blocked", "no_sms", "otp_always_wrong", "limit_exceeded", "fraud", "unknown_then_done", "unknown_not_done",
	"capture_unknown_then_done", "void_unknown_then_done", "frictionless", "challenge_fails", "abandoned", "issuer_down",
}

// cardsTable lists the simulator's cards that behave so. A Mastercard behaves as a Visa does.
func cardsTable(t *testing.T) string {
	var body [][]string
	shown := make(map[string]bool)
	for _, c := range sim.New(sim.Config{}).Cards() {
		name := c.Scheme + " " + c.Behaviour
		if shown[name] || !slices.Contains(usualCards, c.Behaviour) || c.Scheme == "mastercard" && c.Behaviour != "ok" {
			continue
		}
		shown[name] = true
		body = append(body, []string{c.Scheme, "`" + c.PAN + "`", "`" + c.Behaviour + "`", c.Meaning})
	}
	if len(body) < 10 {
		t.Fatalf("the simulator has %d of the usual cards only", len(body))
	}
	return rows([]string{"scheme", "number", "behaviour", "what it does"}, body)
}

// faultsTable lists the simulator's bad days: their names as it takes them, their meanings as its page has them.
func faultsTable(t *testing.T) string {
	file, err := parser.ParseFile(token.NewFileSet(), "internal/sim/faults.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	var body [][]string
	ast.Inspect(file, func(n ast.Node) bool {
		kind, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		said := make(map[string]string)
		for _, e := range kind.Elts {
			if pair, ok := e.(*ast.KeyValueExpr); ok {
				if text, ok := pair.Value.(*ast.BasicLit); ok {
					said[fmt.Sprint(pair.Key)], _ = strconv.Unquote(text.Value)
				}
			}
		}
		if said["Name"] != "" && said["Meaning"] != "" {
			names = append(names, said["Name"])
			body = append(body, []string{"`" + said["Name"] + "`", said["Meaning"]})
		}
		return true
	})
	refusal := sim.New(sim.Config{}).AddFault(sim.Fault{Method: "*", Name: "there is none like this"})
	if refusal == nil || !strings.HasSuffix(refusal.Error(), "allowed are "+strings.Join(names, ", ")) {
		t.Fatalf("faults.go describes %v; the simulator says: %v", names, refusal)
	}
	return rows([]string{"fault", "what it does"}, body)
}

// ---- what the pages say of the code -----------------------------------------

// TestEveryKeyIsDocumented finds each key of the wire in the reference.
func TestEveryKeyIsDocumented(t *testing.T) {
	reference := read(t, "docs/merchant-api.md")
	for _, file := range []string{"wire.go", "entity.go"} {
		for of, keys := range keysIn(t, file) {
			for _, key := range keys {
				if of != "FiscalDetails" && !strings.Contains(reference, "`"+key+"`") { // which is always null, for no receipts are issued yet
					t.Errorf("docs/merchant-api.md does not say what %s of %s is", key, of)
				}
			}
		}
	}
	for _, call := range api.Calls {
		if !regexp.MustCompile(`(?m)^#+ .*\b` + call + `\b`).MatchString(reference) {
			t.Errorf("docs/merchant-api.md has no heading for %s", call)
		}
	}
	notifications := read(t, "docs/notifications.md")
	for _, key := range keysIn(t, "notification.go")["Notification"] {
		if !strings.Contains(notifications, "`"+key+"`") {
			t.Errorf("docs/notifications.md does not say what %s is", key)
		}
	}
	for _, header := range []string{holdfast.HeaderWebhookID, holdfast.HeaderWebhookTimestamp, holdfast.HeaderWebhookSignature, "Holdfast-Attempt"} {
		if !strings.Contains(notifications, "`"+header+"`") {
			t.Errorf("docs/notifications.md does not say what the header %s is", header)
		}
	}
}

// keysIn are the JSON keys of each struct that a file declares.
func keysIn(t *testing.T, file string) map[string][]string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	keys := make(map[string][]string)
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if s, ok := spec.Type.(*ast.StructType); ok {
			for _, field := range s.Fields.List {
				if field.Tag == nil {
					continue
				}
				tag, err := strconv.Unquote(field.Tag.Value)
				if err != nil {
					t.Fatal(err)
				}
				if key, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ","); key != "" && key != "-" {
					keys[spec.Name.Name] = append(keys[spec.Name.Name], key)
				}
			}
		}
		return true
	})
	if len(keys) == 0 {
		t.Fatalf("%s declares nothing that goes over the wire", file)
	}
	return keys
}

// TestInvariants: the page numbers them, and the audit reports by these numbers.
func TestInvariants(t *testing.T) {
	page := read(t, "docs/payment-cycle.md")
	checked := make(map[int]bool) // by the audit, as the page says
	for n, row := range regexp.MustCompile(`(?m)^\| (\d+) \|.*$`).FindAllStringSubmatch(page, -1) {
		number, _ := strconv.Atoi(row[1])
		if number != n+1 {
			t.Fatalf("docs/payment-cycle.md: row %d of the invariants bears number %d", n+1, number)
		}
		checked[number] = strings.Contains(row[0], "`holdfast audit`")
	}
	if len(checked) != 16 {
		t.Fatalf("docs/payment-cycle.md has %d invariants, want 16", len(checked))
	}
	source := read(t, "internal/store/audit.go")
	reported := make(map[int]bool)
	for _, m := range regexp.MustCompile(`(?:fail|violate)\((\d+),|"[a-z]+": (\d+)`).FindAllStringSubmatch(source, -1) {
		number, _ := strconv.Atoi(m[1] + m[2])
		reported[number] = true
	}
	for number, says := range checked {
		if says != reported[number] {
			t.Errorf("invariant %d: the page says that the audit checks it: %v; it can report it: %v", number, says, reported[number])
		}
	}
	for _, point := range []gateway.Point{gateway.QuestionCommitted, gateway.Answered, gateway.AnswerCommitted} {
		if !strings.Contains(page, "*"+string(point)+"*") {
			t.Errorf("docs/payment-cycle.md does not name the point *%s*", point)
		}
	}
}

// TestNamedTests: where the documentation names a test, it is there.
func TestNamedTests(t *testing.T) {
	declared := make(map[string]bool)
	for _, file := range goFiles(t) {
		if strings.HasSuffix(file, "_test.go") {
			for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`).FindAllStringSubmatch(read(t, file), -1) {
				declared[m[1]] = true
			}
		}
	}
	named := 0
	for _, page := range documents(t) {
		for _, m := range regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w*`).FindAllString(read(t, page), -1) {
			if named++; !declared[m] {
				t.Errorf("%s names %s, which is not there", page, m)
			}
		}
	}
	if named == 0 {
		t.Error("the documentation names no test")
	}
}

// ---- files ------------------------------------------------------------------

// ours calls f with every file of the project.
func ours(t *testing.T, f func(name string)) {
	t.Helper()
	ignored := strings.Fields(read(t, ".gitignore"))
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		for _, pattern := range append(ignored, "/.git/") {
			whole, anchored := strings.CutPrefix(strings.TrimSuffix(pattern, "/"), "/")
			if match, err := path.Match(whole, map[bool]string{true: name, false: d.Name()}[anchored]); err != nil || match {
				if d.IsDir() {
					return fs.SkipDir
				}
				return err
			}
		}
		if d.Type().IsRegular() {
			f(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func goFiles(t *testing.T) (files []string) {
	t.Helper()
	ours(t, func(name string) {
		if strings.HasSuffix(name, ".go") {
			files = append(files, name)
		}
	})
	return files
}

// TestNothingOfOneMachine: no file speaks of the place where it was written.
func TestNothingOfOneMachine(t *testing.T) {
	// Written in halves, so that this file does not find itself.
	foreign := []string{"/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "../sha" + "red/", "sha" + "red/seed", "sha" + "red/design", "sha" + "red/contract", "bash" + "_jobs"}
	if dir, err := os.Getwd(); err == nil && strings.Count(dir, "/") > 2 {
		foreign = append(foreign, dir)
	}
	files := 0
	ours(t, func(name string) {
		files++
		text := read(t, name)
		if strings.Contains(text[:min(len(text), 8000)], "\x00") {
			return // not a text
		}
		for _, word := range foreign {
			if i := strings.Index(text, word); i >= 0 {
				t.Errorf("%s:%d has %q in it", name, 1+strings.Count(text[:i], "\n"), word)
			}
		}
	})
	if files < 100 {
		t.Errorf("%d files were looked at only", files)
	}
}

func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	count := 0
	for _, page := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			target := m[1]
			if strings.Contains(target, "://") {
				continue
			}
			count++
			file, anchor, _ := strings.Cut(target, "#")
			at := page
			if file != "" {
				at = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(at); err != nil {
				t.Errorf("%s links to %s: %v", page, target, err)
				continue
			}
			if anchor != "" && !slices.Contains(anchors(t, at), anchor) {
				t.Errorf("%s links to %s, and %s has no such heading", page, target, at)
			}
		}
	}
	if count < 10 {
		t.Errorf("the pages have %d links only", count)
	}
}

// anchors are the names that a page's headings have as targets of links.
func anchors(t *testing.T, page string) (names []string) {
	t.Helper()
	for line := range strings.Lines(read(t, page)) {
		heading := strings.TrimLeft(line, "#")
		if heading == line || !strings.HasPrefix(heading, " ") {
			continue
		}
		names = append(names, strings.ReplaceAll(strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == ' ', r == '-', r == '_':
				return r
			case r >= 'A' && r <= 'Z':
				return r + 'a' - 'A'
			}
			return -1
		}, strings.TrimSpace(heading)), " ", "-"))
	}
	return names
}

// ---- commands and examples --------------------------------------------------

// binary is the program, built once, in a directory that TestMain removes.
var binary = sync.OnceValues(func() (name string, err error) {
	if binaryDir, err = os.MkdirTemp("", "holdfast-house-"); err != nil {
		return "", err
	}
	name = filepath.Join(binaryDir, "holdfast")
	if out, err := exec.Command("go", "build", "-o", name, "./cmd/holdfast").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return name, nil
})

var binaryDir string

func TestMain(m *testing.M) {
	code := m.Run()
	if binaryDir != "" {
		os.RemoveAll(binaryDir)
	}
	os.Exit(code)
}

func program(t *testing.T) string {
	t.Helper()
	name, err := binary()
	if err != nil {
		t.Fatalf("the program cannot be built: %v", err)
	}
	return name
}

func help(t *testing.T, command ...string) string {
	t.Helper()
	out, err := exec.Command(program(t), append(command, "--help")...).CombinedOutput()
	if err != nil {
		t.Fatalf("holdfast %s --help: %v\n%s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

// TestFlagsTable: the program itself knows every flag of the generated tables, and no others.
func TestFlagsTable(t *testing.T) {
	for name, command := range map[string][]string{"serveCmd": {"serve"}, "settingFlags": {"shop", "set"}} {
		var want []string
		for _, f := range flagsOf(t, structs(t), name, "") {
			want = append(want, f.name)
		}
		known := []string{"help", "config"} // every command has them
		if name == "settingFlags" {
			known = append(known, "data", "db", "name", "json")
		}
		said := help(t, command...)
		for _, flag := range want {
			if !regexp.MustCompile(`--(\[no-\])?` + flag + `\b`).MatchString(said) {
				t.Errorf("holdfast %s has no flag --%s", strings.Join(command, " "), flag)
			}
			if env := "$HOLDFAST_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_")); !strings.Contains(said, env) {
				t.Errorf("holdfast %s does not read %s", strings.Join(command, " "), env)
			}
		}
		for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?--(?:\[no-\])?([a-z0-9-]+)`).FindAllStringSubmatch(said, -1) {
			if !slices.Contains(want, m[1]) && !slices.Contains(known, m[1]) {
				t.Errorf("holdfast %s has the flag --%s, which the table does not", strings.Join(command, " "), m[1])
			}
		}
	}
}

// TestGatewaysStayEnded: the socket starts a stopped service again at the next connection, upon whatever is in its directory
// by then. Who is told to stop the one is told to stop both.
func TestGatewaysStayEnded(t *testing.T) {
	told := 0
	for _, page := range documents(t) {
		for i, line := range strings.Split(read(t, page), "\n") {
			if _, units, found := strings.Cut(line, "systemctl stop "); found {
				if told++; !strings.Contains(units, "holdfast.socket holdfast.service") {
					t.Errorf("%s:%d: a connection starts it again: %s", page, i+1, line)
				}
			}
		}
	}
	if told == 0 {
		t.Error("nobody is told how a gateway is ended")
	}
}

// TestPostgreSQLAsDeployed: what the page on deploying says that the program makes and wants of a database is so.
func TestPostgreSQLAsDeployed(t *testing.T) {
	page := read(t, "docs/deploy.md")
	var tables, factors []string
	for _, m := range regexp.MustCompile(`ALTER TABLE (\w+) SET \(fillfactor = (\d+)\)`).FindAllStringSubmatch(read(t, "internal/store/schema/postgres.sql"), -1) {
		tables, factors = append(tables, "`"+m[1]+"`"), append(factors, m[2])
	}
	oldest := regexp.MustCompile(`oldestPostgres = (\d+)0000`).FindStringSubmatch(read(t, "internal/store/postgres.go"))
	if len(tables) == 0 || oldest == nil {
		t.Fatal("the store says no more how its tables are filled, or what the oldest server is")
	}
	for _, want := range []string{
		"| `fillfactor` of " + strings.Join(tables, " and ") + " | " + strings.Join(factors, " and ") + ", as the gateway makes them |",
		"PostgreSQL " + oldest[1] + " or later",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("docs/deploy.md does not say %q", want)
		}
	}
}

// TestCommandsInDocuments: every command of ours in the documentation exists, with its flags.
func TestCommandsInDocuments(t *testing.T) {
	commands := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z-]+(?: [a-z-]+)?)  +\S`).FindAllStringSubmatch(help(t), -1) {
		commands[m[1]] = true
	}
	if !commands["serve"] || !commands["shop create"] {
		t.Fatalf("the help lists %v", slices.Sorted(maps.Keys(commands)))
	}
	makefile := read(t, "Makefile")
	says := make(map[string]string)
	ourCommand := regexp.MustCompile(`(?:^|[\s(])(?:\./holdfast|holdfast|go run \./cmd/holdfast) ([a-z].*)`)
	spans := regexp.MustCompile("`([^`\n]+)`")
	seen := 0
	for _, page := range documents(t) {
		var lines []string
		for _, b := range blocks(t, page) {
			if b.info == "sh" || b.info == "sh run" {
				lines = append(lines, strings.Split(strings.ReplaceAll(b.text, "\\\n", " "), "\n")...)
			}
		}
		for _, m := range spans.FindAllStringSubmatch(read(t, page), -1) {
			lines = append(lines, m[1])
		}
		for _, line := range lines {
			line, _, _ = strings.Cut(line, "  #")
			if target, found := strings.CutPrefix(line, "make "); found {
				if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(strings.Fields(target)[0]) + `:`).MatchString(makefile) {
					t.Errorf("%s: there is no make %s", page, target)
				}
				continue
			}
			m := ourCommand.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			words := strings.Fields(m[1])
			name := words[0]
			if len(words) > 1 && commands[name+" "+words[1]] {
				name += " " + words[1]
			}
			if !commands[name] {
				t.Errorf("%s: there is no command %q: %s", page, name, line)
				continue
			}
			if says[name] == "" {
				says[name] = help(t, strings.Fields(name)...)
			}
			seen++
			for _, f := range regexp.MustCompile(`--[a-z][a-z-]*`).FindAllString(m[1], -1) {
				positive := strings.Replace(f, "--no-", "--[no-]", 1)
				negatable := strings.Replace(f, "--", "--[no-]", 1)
				if f != "--help" && !strings.Contains(says[name], f) && !strings.Contains(says[name], positive) && !strings.Contains(says[name], negatable) {
					t.Errorf("%s: holdfast %s has no flag %s: %s", page, name, f, line)
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("%d commands were found only", seen)
	}
}

// TestPrecedence: flags, file and environment overrule one another as the pages say.
func TestPrecedence(t *testing.T) {
	sources := map[string]string{"flag": postgrestest.FreeAddress(t), "file": postgrestest.FreeAddress(t), "environment": postgrestest.FreeAddress(t)}
	config := filepath.Join(t.TempDir(), "holdfast.json")
	if err := os.WriteFile(config, fmt.Appendf(nil, `{"serve": {"listen": %q}}`, sources["file"]), 0o600); err != nil {
		t.Fatal(err)
	}
	weaker := "environment"
	for _, page := range []string{"README.md", "docs/operating.md"} {
		m := regexp.MustCompile(`command\s+line\s+wins\s+over\s+the\s+(file|environment),\s+(?:and\s+)?the\s+(file|environment)\s+over\s+the\s+(file|environment)\.`).FindStringSubmatch(read(t, page))
		if m == nil || m[1] != m[2] || m[2] == m[3] {
			t.Fatalf("%s does not say which of flag, file and environment wins: %q", page, m)
		}
		weaker = m[3]
	}
	stronger := map[string]string{"environment": "file", "file": "environment"}[weaker]
	for _, c := range []struct {
		flag string
		want string
	}{{"--listen=" + sources["flag"], "flag"}, {"--log-level=error", stronger}} {
		cmd := exec.CommandContext(t.Context(), program(t), "serve", "--json", "--config", config, "--data", t.TempDir(), "--sim", "http://127.0.0.1:9", c.flag)
		cmd.Env = append(os.Environ(), "HOLDFAST_LISTEN="+sources["environment"])
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var said struct{ API string }
		err = json.NewDecoder(out).Decode(&said)
		stopped := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
		if err != nil || stopped != nil || said.API != "http://"+sources[c.want] {
			t.Errorf("%s: it serves at %s, not where the %s says (%s): %v, %v", c.flag, said.API, c.want, sources[c.want], err, stopped)
		}
	}
}

// TestReadme runs the examples of the README, in their order, against a gateway that they start
// themselves, and holds their answers to what the page says of them: with the store in a file, and in PostgreSQL.
func TestReadme(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { runReadme(t, "") })
	t.Run("PostgreSQL", func(t *testing.T) { runReadme(t, postgrestest.Database(t)) })
}

func runReadme(t *testing.T, db string) {
	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	for _, b := range blocks(t, "README.md") {
		if b.info == "sh run" {
			fmt.Fprintf(&script, "printf '\\n#### README.md:%d\\n'\n%s", b.line, b.text)
		}
	}
	// The Go program of the page is the shop's own server, as it is for a reader.
	dir := t.TempDir()
	copyFile(t, program(t), filepath.Join(dir, "holdfast"))
	apiAddress, simAddress, shopAddress := postgrestest.FreeAddress(t), postgrestest.FreeAddress(t), postgrestest.FreeAddress(t)
	buildExample(t, theBlock(t, "README.md", "go run"), filepath.Join(dir, "shop"))

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script.String())
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "API=http://"+apiAddress, "SIM=http://"+simAddress, "SHOP=http://"+shopAddress, "DATA="+filepath.Join(dir, "data"), "HOLDFAST_DB="+db)
	// Should the examples hang, everything that they started goes with them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	log := string(out)
	defer func() {
		if t.Failed() {
			for _, name := range []string{"sim.log", "serve.log", "shop.log"} {
				text, _ := os.ReadFile(filepath.Join(dir, name))
				log += "\n==== " + name + "\n" + string(text)
			}
			t.Logf("the examples said:\n%s", log)
		}
	}()
	if err != nil {
		t.Fatalf("the examples failed: %v", err)
	}

	// Each answer of the API is a success, but for the one that the page announces.
	var errorsSeen, statuses []string
	for _, m := range regexp.MustCompile(`(?m)^\{"error":(\d+)`).FindAllStringSubmatch(log, -1) {
		errorsSeen = append(errorsSeen, m[1])
	}
	for _, m := range regexp.MustCompile(`(?m)^\{"error":0.*?"status":"(\w+)"`).FindAllStringSubmatch(log, -1) {
		statuses = append(statuses, m[1])
	}
	// prepare, pay, the code, the status, capture a part, the same again; then the two other ends.
	want := []string{"created", "created", "waiting_for_capture", "waiting_for_capture", "succeeded", "succeeded", "succeeded", "canceled"}
	if !slices.Equal(statuses, want) {
		t.Errorf("the statuses were\n%v, want\n%v", statuses, want)
	}
	if want := []string{"0", "0", "0", "0", "0", "0", "0", "10", "0", "0"}; !slices.Equal(errorsSeen, want) {
		t.Errorf("the answers were errors\n%v, want\n%v", errorsSeen, want)
	}
	for _, want := range []string{
		`(?m)^signature OK$`, `"transfer_sum":588\.00`, `clean: every invariant holds`, `lost 0, doubled 0`,
	} {
		if !regexp.MustCompile(want).MatchString(log) {
			t.Errorf("the examples did not say %s", want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "holdfast.db")); (err == nil) != (db == "") {
		t.Errorf("with the store in %q there is a file: %v", db, err == nil)
	}
	shopLog := read(t, filepath.Join(dir, "shop.log"))
	for _, want := range []string{"verified: waiting_for_capture", "verified: succeeded", "captured, to be paid out: 784.00"} {
		if !strings.Contains(shopLog, want) {
			t.Errorf("the shop did not say %q", want)
		}
	}
}

// TestReadmeStops: where another program has one of the addresses, as the demo may, the README's first step shows what was
// wrong, and does not go on with that program.
func TestReadmeStops(t *testing.T) {
	first := ""
	for _, b := range blocks(t, "README.md") {
		if b.info == "sh run" && first == "" {
			first = b.text
		}
	}
	taken := httptest.NewServer(http.NotFoundHandler())
	defer taken.Close()
	// The step ends its shell by SIGINT. Who was started in the background may ignore that, and whom he starts does too; a signal
	// that is listened for is anew to them.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	for _, which := range []string{"API", "SIM"} {
		dir := t.TempDir()
		copyFile(t, program(t), filepath.Join(dir, "holdfast"))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "-c", first+"echo It went on.\n")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "API=http://"+postgrestest.FreeAddress(t), "SIM=http://"+postgrestest.FreeAddress(t), which+"="+taken.URL, "DATA="+filepath.Join(dir, "data"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		cmd.WaitDelay = 5 * time.Second
		out, err := cmd.CombinedOutput()
		if err == nil || ctx.Err() != nil || strings.Contains(string(out), "It went on.") || !strings.Contains(string(out), "address already in use") {
			t.Errorf("with %s taken it ended with %v: %s", which, err, out)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// buildExample builds a program of the documentation as if it lay in the module.
func buildExample(t *testing.T, source, to string) {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	file, overlay := filepath.Join(temp, "main.go"), filepath.Join(temp, "overlay.json")
	replaced, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(dir, "example_of_a_shop", "main.go"): file}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(file, []byte(source), 0o644), os.WriteFile(overlay, replaced, 0o644)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", to, "./example_of_a_shop").CombinedOutput(); err != nil {
		t.Fatalf("the example does not build: %v\n%s", err, out)
	}
	if out, err := exec.Command("gofmt", "-l", file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("the example is not formatted (gofmt -l): %v %s", err, out)
	}
}

// TestVerificationExamples runs the examples in docs/notifications.md, in the languages that this
// machine has, on a notification that we sign here: each must take it, and refuse what was tampered with.
func TestVerificationExamples(t *testing.T) {
	const key, id = "24c5ec66-ae32-4db5-bee6-0ae5c47067a1", "e3f40dc3-4955-412a-853a-2ddd28d3201f"
	page := "docs/notifications.md"
	signature := holdfast.NotificationSignature(key, id, holdfast.StatusSucceeded)
	for _, said := range []string{key, id, signature, holdfast.WebhookSecret(key)} {
		if !strings.Contains(read(t, page), said) {
			t.Errorf("%s does not have the worked example's %s", page, said)
		}
	}
	// What each example program reads: headers and body of one request, and the key.
	body, err := json.Marshal(map[string]any{"shop_transaction_id": "b-1", "octo_payment_UUID": id, "status": "succeeded", "signature": signature, "hash_key": id, "total_sum": 1000})
	if err != nil {
		t.Fatal(err)
	}
	sign := func(body []byte, at time.Time, key string) []string {
		h := make(http.Header)
		holdfast.SignWebhook(h, key, id+".3", at, body)
		return []string{h.Get(holdfast.HeaderWebhookID), h.Get(holdfast.HeaderWebhookTimestamp), h.Get(holdfast.HeaderWebhookSignature)}
	}
	good := sign(body, time.Now(), key)
	tampered := bytes.Replace(body, []byte("1000"), []byte("9000"), 1)
	cases := []struct {
		name    string
		headers []string
		body    []byte
		want    string
	}{
		{"good", good, body, "true"},
		{"tampered sum", good, tampered, "false"},
		{"another key", sign(body, time.Now(), "another"), body, "false"},
		{"old", sign(body, time.Now().Add(-time.Hour), key), body, "false"},
		{"no signature", []string{good[0], good[1], ""}, body, "false"},
	}
	ran := 0
	check := func(t *testing.T, command ...string) {
		ran++
		for _, c := range cases {
			cmd := exec.CommandContext(t.Context(), command[0], append(command[1:], append([]string{key}, c.headers...)...)...)
			cmd.Stdin = bytes.NewReader(c.body)
			out, err := cmd.CombinedOutput()
			if got := strings.TrimSpace(string(out)); err != nil || got != c.want {
				t.Errorf("%s: %q, %v; want %s", c.name, got, err, c.want)
			}
		}
	}
	t.Run("go", func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "verify")
		buildExample(t, "package main\n\nimport (\n\t\"fmt\"\n\t\"io\"\n\t\"net/http\"\n\t\"os\"\n\n\t\"holdfast\"\n)\n\n"+theBlock(t, page, "go run")+`
func main() {
	body, _ := io.ReadAll(os.Stdin)
	h := http.Header{}
	for i, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
		h.Set(name, os.Args[2+i])
	}
	fmt.Println(verify(os.Args[1], body, h))
}
`, name)
		check(t, name)
	})
	for _, language := range []struct{ info, interpreter, main string }{
		{"python run", "python3", "\nimport sys\nkey, *values = sys.argv[1:]\nnames = ('webhook-id', 'webhook-timestamp', 'webhook-signature')\nprint(str(verify(key, sys.stdin.buffer.read(), dict(zip(names, values)))).lower())\n"},
		{"php run", "php", "\n$names = ['webhook-id', 'webhook-timestamp', 'webhook-signature'];\necho var_export(verify($argv[1], file_get_contents('php://stdin'), array_combine($names, array_slice($argv, 2))), true);\n"},
	} {
		source := theBlock(t, page, language.info)
		if _, err := exec.LookPath(language.interpreter); err != nil {
			t.Logf("%s is not installed here: its example was not run", language.interpreter)
			continue
		}
		t.Run(language.interpreter, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "verify")
			if err := os.WriteFile(file, []byte(source+language.main), 0o644); err != nil {
				t.Fatal(err)
			}
			check(t, language.interpreter, file)
		})
	}
	if ran == 0 {
		t.Error("no example was run")
	}
}
