package demo

import (
	"context"
	"net/http/httptest"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// On the narrowest of phones nothing of the catalogue sticks out of its card, or of the page.
func TestNarrowCatalogue(t *testing.T) {
	path := ""
	for _, name := range []string{"google-chrome", "chromium-browser", "chromium"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
		}
	}
	if path == "" {
		t.Fatal("there is no Chromium on this machine and without it the shop's pages are not looked at: run make needs")
	}
	server := httptest.NewServer(lonely().Handler())
	defer server.Close()
	allocator, endAllocator := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, chromedp.WSURLReadTimeout(2*time.Minute))...)
	defer endAllocator()
	browser, endBrowser := chromedp.NewContext(allocator)
	defer endBrowser()
	browser, endInTime := context.WithTimeout(browser, 10*time.Minute)
	defer endInTime()
	for _, width := range []int64{320, 360, 768, 1280} {
		if err := chromedp.Do(browser, chromedp.EmulateViewport(width, 700), chromedp.Navigate(server.URL)); err != nil {
			t.Fatal(err)
		}
		looked, err := chromedp.Run(browser, chromedp.Evaluate[int](`document.querySelectorAll(".things li *, .options fieldset *").length`))
		if err != nil {
			t.Fatal(err)
		}
		out, err := chromedp.Run(browser, chromedp.Evaluate[[]string](`[...document.querySelectorAll(".things li, .options fieldset")].flatMap(card => {
			const edge = card.getBoundingClientRect().right
			return [...card.querySelectorAll("*")].filter(e => e.getBoundingClientRect().right > edge).map(e => e.tagName + " " + e.textContent.slice(0, 20))
		}).concat(document.documentElement.scrollWidth > innerWidth ? ["the page"] : [])`))
		if err != nil {
			t.Fatal(err)
		}
		if looked < 20 || len(out) > 0 {
			t.Errorf("of %d things on a page %d wide these stick out: %q", looked, width, out)
		}
	}
}
