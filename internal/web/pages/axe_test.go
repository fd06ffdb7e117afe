package pages

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// axeFile is where make needs puts the rules of accessibility (axe-core).
const axeFile = "../../../tools/node_modules/axe-core/axe.min.js"

// finding is what axe says is wrong.
type finding struct {
	ID     string `json:"id"`
	Impact string `json:"impact"` // minor, moderate, serious, critical
	Help   string `json:"help"`
	Nodes  []struct {
		HTML string `json:"html"`
	} `json:"nodes"`
}

// TestAccessibility holds every page to the rules of WCAG 2 A and AA, as axe-core reads them, in the
// light and in the dark, on a phone.
func TestAccessibility(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile(axeFile)
	if err != nil {
		t.Fatalf("axe-core is not there (%v), and without it nobody looks whether the pages can be used by all: run make needs", err)
	}
	for _, scheme := range []string{"light", "dark"} {
		w := newWorld(t)
		b := w.tab(phone, "axe")
		call(b, cdppage.SetBypassCSP, cdppage.SetBypassCSPParams{Enabled: true}) // the rules are not the page's script
		call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		for _, s := range scenes {
			b.open(s.make(w, "ru"))
			found := ask(b, "axe", chromedp.Evaluate[string](string(rules)+`
				axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}).then((r) => JSON.stringify(r.violations))`, chromedp.EvalAwaitPromise))
			var findings []finding
			if err := json.Unmarshal([]byte(found), &findings); err != nil {
				t.Fatal(err)
			}
			for _, f := range findings {
				var where []string
				for _, n := range f.Nodes {
					where = append(where, n.HTML)
				}
				t.Errorf("%s, %s: %s (%s): %s: %s", s.name, scheme, f.ID, f.Impact, f.Help, strings.Join(where, " | "))
			}
		}
	}
}
