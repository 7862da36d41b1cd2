// Package build makes the programs that the lab breaks.
package build

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/lab/mutants"
)

// Posta builds the program posta with failpoints and with the actions of chaos runs, and writes it to binary. The
// mutant with a name is part of it; "" is none.
func Posta(ctx context.Context, binary, mutant string) error {
	root, err := testenv.FindRoot()
	if err != nil {
		return err
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	overlay := ""
	if mutant != "" {
		m, err := mutants.Find(mutant)
		if err != nil {
			return err
		}
		if overlay, err = m.Overlay(ctx, binary+".overlay"); err != nil {
			return err
		}
	}
	command := exec.CommandContext(ctx, "go", "build", "-tags", "chaos", "-overlay", overlay, "-o", binary, "./chaos/node")
	command.Dir = filepath.Join(root, "lab")
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", command.Args, err, out)
	}
	return nil
}

// once builds the program without a mutant once in a test process.
var once = sync.OnceValues(func() (string, error) {
	folder, err := testenv.BinaryFolder()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(folder, "posta-chaos")
	return binary, Posta(context.Background(), binary, "")
})

// ForTest returns the path of the program that Posta builds without a mutant.
func ForTest(t testing.TB) string {
	t.Helper()
	binary, err := once()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// Mutant builds the program with a mutant, for one test, and returns its path.
func Mutant(t testing.TB, mutant string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "posta-"+mutant)
	if err := Posta(t.Context(), binary, mutant); err != nil {
		t.Fatal(err)
	}
	return binary
}
