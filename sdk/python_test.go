package sdk_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/posta-tasks/posta/internal/testenv"
)

// TestPython runs the library's own tests, which play the transcripts of conformance.
func TestPython(t *testing.T) {
	t.Parallel()
	testenv.NeedServer(t, "python3")
	testPython(t, "test_[!r]*.py")
}

// TestPythonWithRealNodes runs the tests of the library that start, stop and kill nodes and workers.
func TestPythonWithRealNodes(t *testing.T) {
	t.Parallel()
	testenv.NeedServer(t, "python3")
	testPython(t, "test_real_*.py", "POSTA_BINARY="+testenv.Posta(t))
}

// testPython runs the test files that match a pattern, with more environment variables.
func testPython(t *testing.T, pattern string, env ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "python3", "-B", "-m", "unittest", "discover", "-t", ".", "-s", "tests", "-p", pattern)
	cmd.Dir = "python"
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %v\n%s", cmd, err, out)
	}
}

// TestTheTypesOfPython checks the library, its tests and its build backend strictly.
func TestTheTypesOfPython(t *testing.T) {
	t.Parallel()
	testenv.NeedServer(t, "mypy")
	run(t, "python", "mypy", "--cache-dir", t.TempDir())
}

// TestPythonInstallsWithoutANetwork installs the folder, as the README does.
func TestPythonInstallsWithoutANetwork(t *testing.T) {
	t.Parallel()
	testenv.NeedServer(t, "python3")
	if exec.Command("python3", "-c", "import pip").Run() != nil {
		t.Skip("this python3 has no pip")
	}
	target := t.TempDir()
	run(t, "python", "python3", "-B", "-m", "pip", "install", "--no-index", "--disable-pip-version-check", "--quiet", "--target", target, ".")
	run(t, target, "python3", "-m", "posta", "--help")
	if _, err := os.Stat(filepath.Join(target, "posta", "py.typed")); err != nil {
		t.Errorf("the installed package has no types: %v", err)
	}
}
