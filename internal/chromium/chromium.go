// Package chromium opens tabs of Chromium for tests. All tests of a program share one browser, and each tab has its own
// cookies and storage. What the console says fails the test, and so do violations of a content security policy.
package chromium

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/posta-tasks/posta/internal/testenv"
)

// Patience is how long a step may take on a busy machine.
const Patience = 2 * time.Minute

// Need skips the test where there is no Chromium, before it starts anything else.
func Need(t testing.TB) {
	t.Helper()
	testenv.NeedServer(t, "chromium")
}

var browser struct {
	once sync.Once
	ctx  context.Context
	stop func()
	err  error
}

// Stop ends the browser, if one was started. TestMain calls it after the tests.
func Stop() {
	if browser.stop != nil {
		browser.stop()
	}
}

// shared returns the browser, which the first call starts.
func shared(t testing.TB) context.Context {
	t.Helper()
	Need(t)
	browser.once.Do(start)
	if browser.err != nil {
		t.Fatalf("Chromium did not start: %v", browser.err)
	}
	return browser.ctx
}

func start() {
	folder, err := os.MkdirTemp("", "posta-chromium-")
	if err != nil {
		browser.err = err
		return
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("chromium"), chromedp.UserDataDir(folder), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("font-render-hinting", "none"), chromedp.WSURLReadTimeout(Patience),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, end := chromedp.NewContext(allocator)
	browser.ctx = ctx //nolint:fatcontext // it is set once, and lives as long as the browser
	browser.stop = func() {
		end()
		stop()
		os.RemoveAll(folder)
	}
	browser.err = chromedp.Do(ctx) // starts it; a time limit would end the browser with it
}
