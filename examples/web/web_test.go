package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"image"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/chromium"
	"github.com/posta-tasks/posta/internal/testenv"
)

func TestMain(m *testing.M) {
	defer chromium.Stop()
	m.Run()
}

// TestThePagesInChromium uses the pages of examples/web and examples/mobile, as their recipes start them.
func TestThePagesInChromium(t *testing.T) {
	t.Parallel()
	chromium.Need(t)
	p := posta{addr: testenv.FreeAddr(t), master: filepath.Join(t.TempDir(), "master.key")}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	if err := os.WriteFile(p.master, []byte(base64.StdEncoding.EncodeToString(secret)), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	testenv.Node(t, p.addr, "--store", "sqlite://"+filepath.Join(dir, "posta.db"), "--blobs", "file://"+filepath.Join(dir, "blobs"),
		"--master-key-file", p.master, "--drain-delay", "0s")
	t.Run("a visitor without a pass may do nothing", p.refusesVisitors)
	t.Run("a thumbnail comes, and its progress is drawn", p.showsAThumbnail)
	t.Run("notes typed offline in two tabs are sent once", p.keepsNotes)
}

// posta is a node whose clients need keys.
type posta struct{ addr, master string }

// key makes a key, as the recipes say. It returns the file, and the text of the key.
func (p posta) key(t *testing.T, grants ...string) (file, text string) {
	t.Helper()
	arguments := []string{"key", "create", "web", "--json", "--to", p.addr, "--master-key-file", p.master}
	for _, grant := range grants {
		arguments = append(arguments, "--grant", grant)
	}
	out, err := exec.Command(testenv.Posta(t), arguments...).Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", arguments, err, out)
	}
	var made struct{ Key string }
	if err := json.Unmarshal(out, &made); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "web.key")
	if err := os.WriteFile(file, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return file, made.Key
}

// site serves a folder of pages and returns its address.
func (p posta) site(t *testing.T, pages string, grants ...string) string {
	t.Helper()
	file, _ := p.key(t, grants...)
	signer, err := readKey(file)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(newSite(pages, p.addr, signer.pass))
	t.Cleanup(server.CloseClientConnections)
	return server.URL + "/"
}

func (p posta) refusesVisitors(t *testing.T) {
	site := p.site(t, "public", "see:own")
	for _, request := range []string{"GET v1/tasks", "POST v1/keys", "POST v1/run", "GET v1/audit"} {
		method, path, _ := strings.Cut(request, " ")
		r, err := http.NewRequestWithContext(t.Context(), method, site+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %s", request, response.Status)
		}
	}
}

// TestTheRecipesAskForKeys reads the recipes: their posta up must not admit visitors without a pass.
func TestTheRecipesAskForKeys(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"README.md", "../mobile/README.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "go run ./cmd/posta ") && !strings.Contains(line, " --master-key-file master.key") {
				t.Errorf("%s: %s", file, line)
			}
		}
	}
}

func (p posta) showsAThumbnail(t *testing.T) {
	dir := t.TempDir()
	large, err := os.Create(filepath.Join(dir, "evening.png"))
	if err == nil {
		err = errors.Join(png.Encode(large, evening()), large.Close())
	}
	text := filepath.Join(dir, "text.png")
	if err == nil {
		err = os.WriteFile(text, []byte("no image"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}

	b := chromium.Open(t, chromium.Look{Width: 800, Height: 560, Language: "en"})
	b.Visit(p.site(t, "public", "enqueue:thumbnail", "see:own", "cancel:own"))
	b.Do(chromedp.SetUploadFiles(chromedp.CSS("#files"), []string{large.Name()}))
	b.Until(`document.querySelector("[data-state=queued]")`)
	b.JSON(`(window.drawn = [], new MutationObserver(([{ target }]) => drawn.push(target.value)).observe(document.querySelector("progress"), { attributeFilter: ["value"] }))`)
	worker := exec.Command(testenv.Program(t, "./examples/thumbnail"))
	_, workerKey := p.key(t, "work:thumbnail")
	worker.Env = append(os.Environ(), "POSTA_TO="+p.addr, "POSTA_TOKEN="+workerKey)
	testenv.StartCommand(t, worker)
	b.Until(`document.querySelector("[data-state=done] img")?.naturalWidth === 320`)
	b.Want(`drawn.some((percent) => percent > 0)`, `true`)
	b.Want(`document.querySelector("a[download]").download`, `"small-evening.jpg"`)

	b.Do(chromedp.SetUploadFiles(chromedp.CSS("#files"), []string{text}))
	b.Until(`document.querySelector("[data-state=failed]")?.textContent.includes("not a GIF, JPEG or PNG")`)
	b.Do(chromedp.Reload())
	b.Until(`document.querySelector("[data-state=done] img")?.naturalWidth === 320 && document.querySelector("[data-state=failed]")`)
	b.Picture("example-web", false)
	looksGood(b)
}

// evening returns an image whose noise makes its file larger than a line may be.
func evening() image.Image {
	whole := image.NewRGBA(image.Rect(0, 0, 760, 520))
	_, _ = rand.Read(whole.Pix)
	for i := range whole.Pix {
		y := i / whole.Stride
		light := [4]int{90 + 140*y/520, 60 + 90*y/520, 150 - 110*y/520, 255}[i%4]
		if y > 380 { // the sea
			light = [4]int{20, 60, 90, 255}[i%4]
		}
		whole.Pix[i] = uint8(min(255, light+int(whole.Pix[i]&63)))
	}
	return whole
}

func (p posta) keepsNotes(t *testing.T) {
	one := chromium.Open(t, chromium.Phone())
	one.Visit(p.site(t, "../mobile/public", "enqueue:upper", "see:own"))
	one.Until(`navigator.serviceWorker.controller`)
	for _, fault := range chromium.Call(one, page.GetInstallabilityErrors, cdp.Empty{}).InstallabilityErrors {
		if fault.ErrorID != "in-incognito" { // as each tab of a test is
			t.Errorf("the page cannot be installed: %s", fault.ErrorID)
		}
	}
	two := one.Beside(chromium.Phone())
	two.Visit(chromium.Value[string](one, `location.href`))

	for _, b := range []*chromium.Tab{one, two} {
		b.Offline(true)
		b.Do(chromedp.Reload()) // it opens offline
		b.Until(`document.querySelector("#way").dataset.way === "offline"`)
	}
	for _, text := range []string{"one", "two", "three"} {
		one.Do(chromedp.SendKeys(chromedp.CSS("input"), text+"\r"))
		one.Until(`document.querySelector("#notes li:last-child .text")?.textContent === "` + text + `"`)
	}
	two.Until(`document.querySelectorAll("[data-state=kept]").length === 3`)
	_, key := p.key(t, "*")
	c, err := client.New(client.Config{Addr: p.addr, Token: key})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stored := func() int {
		found, err := c.List(t.Context(), client.Query{Filter: client.Filter{Action: "upper"}, Limit: 200})
		if err != nil {
			t.Fatal(err)
		}
		return len(found.Tasks)
	}
	if n := stored(); n != 0 {
		t.Errorf("%d tasks are stored while the pages are offline", n)
	}
	one.Picture("example-mobile", false)
	for _, b := range []*chromium.Tab{one, two} {
		b.Offline(false)
	}
	for _, b := range []*chromium.Tab{one, two} {
		b.Until(`document.querySelectorAll("[data-state=done]").length === 3`)
		b.Want(`[...document.querySelectorAll(".state")].map((state) => state.textContent)`, `["done: ONE","done: TWO","done: THREE"]`)
	}
	if n := stored(); n != 3 {
		t.Errorf("%d tasks are stored, want 3", n)
	}
	looksGood(one)
}

// looksGood checks a page light and dark.
func looksGood(b *chromium.Tab) {
	b.Fits("button, .button, input:not(#files)")
	for _, dark := range []bool{false, true} {
		b.Dark(dark)
		b.Accessible()
	}
}
