// Package browser_test looks at the dashboard with Chromium, as a person would: every page, in both languages, light and
// dark, on a phone, with the keyboard, without JavaScript. It also takes the pictures of the documentation.
package browser_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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
		folder, err := os.MkdirTemp("", "posta-chromium-")
		if err != nil {
			browser.err = err
			return
		}
		options := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath("chromium"), chromedp.UserDataDir(folder), chromedp.NoSandbox, chromedp.DisableGPU,
			chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true),
			chromedp.Flag("font-render-hinting", "none"), chromedp.WSURLReadTimeout(time.Minute),
		)
		ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
		ctx, end := chromedp.NewContext(ctx)
		browser.ctx, browser.stop = ctx, func() {
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

// quiet fails the test if the console has said anything.
func (b *tab) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.said {
		b.t.Errorf("the console says: %s", text)
	}
	b.said = nil
}

// patience is how long a step may take on a busy machine.
const patience = 2 * time.Minute

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
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// until waits until an expression is true.
func (b *tab) until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(100*time.Millisecond), chromedp.WithPollingTimeout(patience))); err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
}

// picture saves what the tab shows, whole or as far as the window reaches, if POSTA_PICTURES names a folder.
func (b *tab) picture(name string, whole bool) {
	b.t.Helper()
	folder := os.Getenv("POSTA_PICTURES")
	if folder == "" {
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
