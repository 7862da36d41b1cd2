// Package browser_test looks at the dashboard with Chromium, as a person would: every page, in both languages, light and
// dark, on a phone, with the keyboard, without JavaScript. It also takes the pictures of the documentation.
package browser_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/internal/chromium"
)

func TestMain(m *testing.M) {
	defer chromium.Stop()
	defer shared.ends.run()
	m.Run()
}

// tab is a tab of the browser that looks at one server.
type tab struct {
	*chromium.Tab
	origin string
}

func open(t *testing.T, origin string, l chromium.Look) *tab {
	t.Helper()
	return &tab{chromium.Open(t, l), origin}
}

func (b *tab) visit(path string) { b.Visit(b.origin + path) }

func eval[T any](b *tab, expression string) T { return chromium.Value[T](b.Tab, expression) }

// shownPictures are those that the documentation shows.
var shownPictures = []string{
	"overview", "overview-dark", "overview-phone", "tasks", "task", "task-again", "task-running-phone", "failures", "queues", "nodes", "try", "settings-dark",
}

// picture saves what the tab shows if the documentation shows it.
func (b *tab) picture(name string, whole bool) {
	if slices.Contains(shownPictures, name) {
		b.Picture(name, whole)
	}
}

// recorder keeps the errors of a test that is to fail.
type recorder struct {
	testing.TB
	errors string
}

func (r *recorder) Errorf(format string, arguments ...any) {
	r.errors += fmt.Sprintf(format, arguments...) + "\n"
}

func TestATestFailsByWhatTheConsoleSaysAndByABrokenPolicy(t *testing.T) {
	t.Parallel()
	w := system(t)
	var kept *recorder
	t.Run("a page with faults", func(t *testing.T) {
		kept = &recorder{TB: t}
		b := chromium.Open(kept, chromium.Desktop())
		b.Visit(w.origin + "/settings")
		b.Allow("is allowed")
		b.JSON(`console.log("what is said"), console.log("this is allowed"), document.body.setAttribute("style", "color: red")`)
		b.JSON(`void setTimeout(() => { throw new Error("what is thrown") })`)
		b.JSON(`new Promise((resolve) => setTimeout(resolve))`)
	})
	for _, want := range []string{"what is said", "what is thrown", "Content Security Policy"} {
		if !strings.Contains(kept.errors, want) {
			t.Errorf("the test does not fail by %q, but by:\n%s", want, kept.errors)
		}
	}
	if strings.Contains(kept.errors, "allowed") {
		t.Errorf("the test fails by what is allowed:\n%s", kept.errors)
	}
}
