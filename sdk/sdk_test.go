// Package sdk has no code of its own: its tests run those of the libraries in other languages.
package sdk

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/posta-tasks/posta/internal/testenv"
)

// TestPython runs the tests of sdk/python, which play the transcripts of sdk/conformance among
// others, checks its types, and installs it without network.
func TestPython(t *testing.T) {
	testenv.NeedServer(t, "python3", "mypy")
	t.Parallel()
	for name, command := range map[string][]string{
		"tests": {"python3", "-B", "-m", "unittest"},
		"types": {"mypy", "--cache-dir", t.TempDir()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, "python", command...)
		})
	}
	t.Run("installation", func(t *testing.T) {
		t.Parallel()
		if exec.Command("python3", "-c", "import pip").Run() != nil {
			t.Skip("this python3 has no pip")
		}
		target := t.TempDir()
		run(t, "python", "python3", "-B", "-m", "pip", "install", "--no-index", "--disable-pip-version-check", "--target", target, ".")
		run(t, target, "python3", "-m", "posta", "--help")
		if _, err := os.Stat(filepath.Join(target, "posta", "py.typed")); err != nil {
			t.Errorf("the installed package has no types: %v", err)
		}
	})
}

// run runs a command in a folder and shows its output if it fails.
func run(t *testing.T, folder string, command ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v in %s: %v\n%s", command, folder, err, out)
	}
}
