package chromium

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"io"
	"sync"

	"github.com/chromedp/chromedp"
)

// axe is the checker of accessibility axe-core 4.14.1 (MPL-2.0), compressed.
//
//go:embed testdata/axe.min.js.gz
var axe []byte

var unpacked = sync.OnceValues(func() (string, error) {
	packed, err := gzip.NewReader(bytes.NewReader(axe))
	if err != nil {
		return "", err
	}
	script, err := io.ReadAll(packed)
	return string(script), err
})

// Accessible fails the test if axe finds something on the page. It takes about as long as loading the page.
func (b *Tab) Accessible() {
	b.t.Helper()
	script, err := unpacked()
	if err != nil {
		b.t.Fatal(err)
	}
	b.Do(chromedp.Evaluate[chromedp.Void](script))
	const check = `axe.run(document, {resultTypes: ["violations"]}).then((r) => r.violations.map((v) =>
		v.id + ": " + v.help + " (" + v.nodes.slice(0, 3).map((n) => n.target + " " + (n.any[0]?.message ?? "")).join("; ") + ")"))`
	for _, violation := range Value[[]string](b, check) {
		b.t.Errorf("at %s axe finds %s", b.At(), violation)
	}
}

// Fits fails the test if the page scrolls sideways, or if what selectors find is less than 44 pixels high on a phone.
func (b *Tab) Fits(targets string) {
	b.t.Helper()
	if n := Value[int](b, "document.documentElement.scrollWidth - innerWidth"); n > 0 {
		b.t.Errorf("the page scrolls sideways by %d pixels at %s", n, b.At())
	}
	if targets == "" {
		return
	}
	small := `[...document.querySelectorAll(` + "`" + targets + "`" + `)].filter((e) => {
		const { height } = e.getBoundingClientRect(); return height > 0 && height < 43.5 }).map((e) => e.outerHTML.slice(0, 80))`
	for _, element := range Value[[]string](b, small) {
		b.t.Errorf("%s: less than 44 pixels high: %s", b.At(), element)
	}
}
