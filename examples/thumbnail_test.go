package examples_test

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/posta-tasks/posta/internal/testenv"
)

// TestAPictureBecomesAThumbnail follows examples/thumbnail/README.md, with a picture that does not fit into a line.
func TestAPictureBecomesAThumbnail(t *testing.T) {
	t.Parallel()
	testenv.NeedServer(t, "curl", "jq", "base64")
	dir, addr := t.TempDir(), testenv.FreeAddr(t)
	testenv.Node(t, addr, "--name", "n", "--store", "sqlite://"+filepath.Join(dir, "posta.db"), "--blobs", "file://"+filepath.Join(dir, "blobs"), "--drain-delay", "0s")
	worker := exec.Command(testenv.Program(t, "./examples/thumbnail"))
	worker.Env = append(os.Environ(), "POSTA_TO="+addr)
	p := testenv.StartCommand(t, worker)

	small, err := jpeg.Decode(strings.NewReader(output(t, addr, "sh", "thumbnail/thumbnail.sh", picture(t, dir), "40")))
	if err != nil {
		t.Fatal(err)
	}
	if size := small.Bounds().Size(); size != image.Pt(40, 30) {
		t.Errorf("the thumbnail has %v pixels, want 40 × 30", size)
	}
	left, _, _, _ := small.At(5, 15).RGBA()
	right, _, _, _ := small.At(35, 15).RGBA()
	if left>>8 > 100 || right>>8 < 155 {
		t.Errorf("the left of the picture has the red %d and the right %d, want little and much", left>>8, right>>8)
	}

	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("no picture"), 0o600); err != nil {
		t.Fatal(err)
	}
	client := exec.Command("sh", "thumbnail/thumbnail.sh", text, "40")
	client.Env = append(os.Environ(), "POSTA_TO="+addr)
	if out, err := client.CombinedOutput(); err == nil || !strings.Contains(string(out), "is failed") {
		t.Errorf("a text ends with %v: %s", err, out)
	}
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(t, patience); code != 0 {
		t.Errorf("after SIGTERM the worker ended with %d:\n%s", code, p.Output())
	}
}

// picture writes a PNG of more than 1 MiB that is dark on its left and red on its right, and returns its path.
func picture(t *testing.T, dir string) string {
	t.Helper()
	noise := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // it makes the file large
	whole := image.NewRGBA(image.Rect(0, 0, 800, 600))
	for y := range 600 {
		for x := range 800 {
			red := uint8(noise.IntN(100))
			if x >= 400 {
				red += 155
			}
			whole.Set(x, y, color.RGBA{red, uint8(noise.IntN(100)), uint8(noise.IntN(100)), 255})
		}
	}
	var text bytes.Buffer
	if err := png.Encode(&text, whole); err != nil {
		t.Fatal(err)
	}
	if text.Len() < 1<<20 {
		t.Fatalf("the picture has only %d bytes", text.Len())
	}
	path := filepath.Join(dir, "picture.png")
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
