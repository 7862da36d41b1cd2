// Package build makes the programs that the lab breaks.
package build

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/posta-tasks/posta/internal/testenv"
)

// Posta builds the program posta with failpoints and with the actions of package deeds, and writes it to
// binary. It is built in the module of the lab, and one file is replaced: the one that lists the actions.
func Posta(ctx context.Context, binary string) error {
	root, err := testenv.FindRoot()
	if err != nil {
		return err
	}
	overlay := binary + ".overlay.json"
	text, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(root, "cmd", "posta", "builtin.go"): filepath.Join(root, "lab", "build", "builtin.go.overlay"),
	}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		return err
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, "go", "build", "-tags", "chaos", "-overlay", overlay, "-o", binary, "github.com/posta-tasks/posta/cmd/posta")
	command.Dir = filepath.Join(root, "lab")
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", command.Args, err, out)
	}
	return nil
}

// once builds the program once in a test process.
var once = sync.OnceValues(func() (string, error) {
	folder, err := testenv.BinaryFolder()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(folder, "posta-chaos")
	return binary, Posta(context.Background(), binary)
})

// ForTest returns the path of the program that Posta builds.
func ForTest(t testing.TB) string {
	t.Helper()
	binary, err := once()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}
