package chromium

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
)

// Tab is a tab of the browser. Its methods fail the test that opened it.
type Tab struct {
	t   testing.TB
	ctx context.Context

	mu      sync.Mutex
	page    string   // the last that was visited
	allowed []string // parts of what the console may say
	said    []string
}

// Look describes how a page is looked at.
type Look struct {
	Width, Height         int64
	Language              string // of the browser
	Dark, Phone, NoScript bool
}

// Desktop returns the look of a large window.
func Desktop() Look { return Look{Width: 1440, Height: 1000, Language: "en"} }

// Phone returns the look of a phone.
func Phone() Look { return Look{Width: 390, Height: 844, Language: "en", Phone: true} }

// Open opens a tab with its own cookies and storage.
func Open(t testing.TB, l Look) *Tab {
	t.Helper()
	return open(t, shared(t), l, chromedp.WithNewBrowserContext())
}

// Beside opens another tab, with the same cookies and storage.
func (b *Tab) Beside(l Look) *Tab {
	b.t.Helper()
	return open(b.t, b.ctx, l)
}

func open(t testing.TB, parent context.Context, l Look, options ...chromedp.ContextOption) *Tab {
	t.Helper()
	ctx, end := chromedp.NewContext(parent, options...)
	t.Cleanup(end)
	b := &Tab{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(ctx); err != nil { // opens it; a time limit would end the tab with it
		t.Fatal(err)
	}
	Call(b, network.Enable, network.EnableParams{})
	Call(b, cdplog.Enable, cdp.Empty{})
	Call(b, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": l.Language}})
	Call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.Width, Height: l.Height, DeviceScaleFactor: 1, Mobile: l.Phone})
	b.Dark(l.Dark)
	Call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: l.NoScript})
	t.Cleanup(b.quiet)
	return b
}

// Dark has pages be dark or light.
func (b *Tab) Dark(on bool) {
	b.t.Helper()
	scheme := "light"
	if on {
		scheme = "dark"
	}
	Call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}

// Call sends a command of the protocol of DevTools.
func Call[P, R any](b *Tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, Patience)
	defer cancel()
	answer, err := chromedp.Call(ctx, command, params)
	if err != nil {
		b.t.Fatalf("%s: %v", command.Method, err)
	}
	return answer
}

// hear collects what the console says.
func (b *Tab) hear(event any) {
	var text string
	switch e := event.(type) {
	case *cdplog.EventEntryAdded:
		text = fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
	case *runtime.EventExceptionThrown:
		text = "exception: " + e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
	case *runtime.EventConsoleAPICalled:
		text = "console:"
		for _, a := range e.Args {
			text += " " + string(a.Value)
		}
	default:
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, b.page+": "+text)
}

// Allow lets the console say texts that contain a part.
func (b *Tab) Allow(part string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.allowed = append(b.allowed, part)
}

// quiet fails the test if the console has said anything that is not allowed.
func (b *Tab) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
texts:
	for _, text := range b.said {
		for _, part := range b.allowed {
			if strings.Contains(text, part) {
				continue texts
			}
		}
		b.t.Errorf("the console of %s", text)
	}
}

// Do carries out steps, each within the patience.
func (b *Tab) Do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	for _, step := range steps {
		b.within(func(ctx context.Context) error { return chromedp.Do(ctx, step) })
	}
}

func (b *Tab) within(step func(ctx context.Context) error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, Patience)
	defer cancel()
	if err := step(ctx); err != nil {
		b.t.Fatalf("at %s: %v", b.At(), err)
	}
}

// Visit loads a page.
func (b *Tab) Visit(url string) {
	b.t.Helper()
	b.mu.Lock()
	b.page = url
	b.mu.Unlock()
	b.Do(chromedp.Navigate(url))
}

// At returns where the tab is, and the beginning of what it shows, for messages.
func (b *Tab) At() string {
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	at, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + " (" + document.body.innerText.slice(0, 200) + ")"`))
	return at
}

// Value returns the value of an expression of JavaScript, or that of its promise.
func Value[T any](b *Tab, expression string) (value T) {
	b.t.Helper()
	b.within(func(ctx context.Context) (err error) {
		value, err = chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
		if err != nil {
			err = fmt.Errorf("%s: %w", expression, err)
		}
		return err
	})
	return value
}

// JSON returns the value of an expression, or that of its promise, as JSON.
func (b *Tab) JSON(expression string) string {
	b.t.Helper()
	return Value[string](b, "(async () => JSON.stringify(await ("+expression+")) ?? '')()")
}

// Want compares the value of an expression with JSON.
func (b *Tab) Want(expression, want string) {
	b.t.Helper()
	if got := b.JSON(expression); got != want {
		b.t.Errorf("%s is %s, want %s", expression, got, want)
	}
}

// Until waits until an expression is true, also across the loading of another page.
func (b *Tab) Until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, Patience)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		done, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		if err == nil && done {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			b.t.Fatalf("%s does not become true at %s: %v", expression, b.At(), err)
		}
	}
}

// Press presses keys, one after the other.
func (b *Tab) Press(keys ...string) {
	b.t.Helper()
	for _, key := range keys {
		b.Do(chromedp.KeyEvent(key))
	}
}

// Offline turns the browser's own switch. The console may then say what it says about requests that cannot be sent.
func (b *Tab) Offline(on bool) {
	b.t.Helper()
	b.Allow("net::ERR_INTERNET_DISCONNECTED")
	conditions := cdp.Command[network.OverrideNetworkStateParams, cdp.Empty]{Method: "Network.emulateNetworkConditions"}
	Call(b, conditions, network.OverrideNetworkStateParams{Offline: on, DownloadThroughput: -1, UploadThroughput: -1})
	b.Until(fmt.Sprintf("navigator.onLine === %t", !on))
}

// Picture saves what the tab shows, whole or as far as the window reaches, if POSTA_PICTURES names a folder.
func (b *Tab) Picture(name string, whole bool) {
	b.t.Helper()
	folder := os.Getenv("POSTA_PICTURES")
	if folder == "" {
		return
	}
	params := page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatPng}
	if whole {
		yes, size := true, Value[[2]float64](b, "[innerWidth, document.documentElement.scrollHeight]")
		params.CaptureBeyondViewport, params.Clip = &yes, &page.Viewport{Width: size[0], Height: size[1], Scale: 1}
	}
	if err := os.WriteFile(filepath.Join(folder, name+".png"), Call(b, page.CaptureScreenshot, params).Data, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
