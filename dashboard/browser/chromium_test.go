// Package browser_test looks at the dashboard with Chromium, as a person would: every page, in both languages, light and
// dark, on a phone, with the keyboard, without JavaScript. It also takes the pictures of the documentation.
package browser_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/posta-tasks/posta/internal/testenv"
)

// chromium starts one browser for all tests of this package. The test is skipped where there is none.
func chromium(t *testing.T) context.Context {
	t.Helper()
	testenv.NeedServer(t, "chromium")
	browser.once.Do(func() {
		folder, err := os.MkdirTemp("", "posta-chromium-") //nolint:usetesting // the browser outlives the test
		if err != nil {
			browser.err = err
			return
		}
		options := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath("chromium"), chromedp.UserDataDir(folder), chromedp.NoSandbox, chromedp.DisableGPU,
			chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true),
			chromedp.Flag("font-render-hinting", "none"), chromedp.WSURLReadTimeout(time.Minute),
		)
		allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
		ctx, end := chromedp.NewContext(allocator)
		browser.ctx = ctx //nolint:fatcontext // it is set once, and lives as long as the browser
		browser.stop = func() {
			end()
			stop()
			os.RemoveAll(folder)
		}
		browser.err = chromedp.Do(ctx) // starts it; no time limit, which would end the browser with it
	})
	if browser.err != nil {
		t.Fatalf("Chromium did not start: %v", browser.err)
	}
	return browser.ctx
}

var browser struct {
	once sync.Once
	ctx  context.Context
	stop func()
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	shared.ends.run()
	if browser.stop != nil {
		browser.stop()
	}
	os.Exit(code)
}

// tab is a tab of the browser. What its console says fails the test, and so do violations of the policy.
type tab struct {
	t      *testing.T
	ctx    context.Context
	origin string
	mu     sync.Mutex
	said   []string
}

// look describes how a page is looked at.
type look struct {
	width, height int64
	language      string // of the browser
	dark, phone   bool
	noScript      bool
}

func desktop() look { return look{width: 1440, height: 1000, language: "en"} }

// open opens a tab for a server.
func open(t *testing.T, origin string, l look) *tab {
	t.Helper()
	ctx, end := chromedp.NewContext(chromium(t))
	t.Cleanup(end)
	b := &tab{t: t, ctx: ctx, origin: origin}
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	command(b, network.Enable, network.EnableParams{})
	command(b, cdplog.Enable, cdp.Empty{})
	command(b, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": l.language}})
	command(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.width, Height: l.height, DeviceScaleFactor: 1, Mobile: l.phone})
	command(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	command(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: l.noScript})
	return b
}

// command sends a command of the protocol of DevTools.
func command[P, R any](b *tab, name cdp.Command[P, R], params P) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	answer, err := chromedp.Call(ctx, name, params)
	if err != nil {
		b.t.Fatalf("%s: %v", name.Method, err)
	}
	return answer
}

// hear collects what the console says.
func (b *tab) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *cdplog.EventEntryAdded:
		b.said = append(b.said, fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL))
	case *runtime.EventExceptionThrown:
		b.said = append(b.said, "exception: "+e.ExceptionDetails.Text+" "+e.ExceptionDetails.Exception.Description)
	case *runtime.EventConsoleAPICalled:
		var text []string
		for _, a := range e.Args {
			text = append(text, string(a.Value))
		}
		b.said = append(b.said, "console: "+strings.Join(text, " "))
	}
}

// quiet fails the test if the console has said anything; missing allows the message about a page that is missing.
func (b *tab) quiet(missing ...bool) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.said {
		if len(missing) > 0 && missing[0] && strings.Contains(text, "status of 404") {
			continue
		}
		b.t.Errorf("the console says: %s", text)
	}
	b.said = nil
}

// patience is how long a step may take on a busy machine.
const patience = time.Minute

func (b *tab) run(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// visit loads a page.
func (b *tab) visit(path string) {
	b.t.Helper()
	b.run(chromedp.Navigate(b.origin + path))
}

// eval returns the value of an expression of JavaScript.
func eval[T any](b *tab, expression string, options ...chromedp.EvaluateOption) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, options...))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// press presses keys, one after the other.
func (b *tab) press(keys ...string) {
	b.t.Helper()
	for _, key := range keys {
		b.run(chromedp.KeyEvent(key))
	}
}

// until waits until an expression is true, also across the loading of another page.
func (b *tab) until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		done, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression))
		if err == nil && done {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			b.t.Fatalf("%s does not become true at %s: %v", expression, b.at(), err)
		}
	}
}

// shownPictures are those that the documentation shows.
var shownPictures = []string{
	"overview", "overview-dark", "overview-phone", "tasks", "task", "task-again", "task-running-phone", "failures", "queues", "nodes", "try", "settings-dark",
}

// at returns the address of the page, for messages.
func (b *tab) at() string {
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	at, _ := chromedp.Run(ctx, chromedp.Location())
	return at
}

// picture saves what the tab shows, whole or as far as the window reaches, if POSTA_PICTURES names a folder.
func (b *tab) picture(name string, whole bool) {
	b.t.Helper()
	folder := os.Getenv("POSTA_PICTURES")
	if folder == "" || !slices.Contains(shownPictures, name) {
		return
	}
	params := page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatPng}
	if whole {
		yes, size := true, eval[[2]float64](b, "[innerWidth, document.documentElement.scrollHeight]")
		params.CaptureBeyondViewport, params.Clip = &yes, &page.Viewport{Width: size[0], Height: size[1], Scale: 1}
	}
	png := command(b, page.CaptureScreenshot, params).Data
	if err := os.WriteFile(filepath.Join(folder, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
