package deploycheck

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTheImageHasAStaticProgram runs the step of the Dockerfile that builds posta.
func TestTheImageHasAStaticProgram(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile(filepath.Join(deploy, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 go build .*) -o /posta (.*)$`).FindStringSubmatch(string(file))
	if m == nil {
		t.Fatal("the Dockerfile does not build posta")
	}
	program := filepath.Join(t.TempDir(), "posta")
	build := exec.CommandContext(t.Context(), "sh", "-c", m[1]+" -o "+program+" "+m[2])
	build.Dir = filepath.Dir(deploy)
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", m[0], err, text)
	}
	static(t, program)
	text, err := exec.CommandContext(t.Context(), program, "version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(text), "posta ") {
		t.Errorf("posta version: %v, %s", err, text)
	}
}

// static checks that a program runs in an empty image.
func static(t *testing.T, program string) {
	t.Helper()
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if libraries, err := file.ImportedLibraries(); err == nil && len(libraries) > 0 {
		t.Errorf("the program needs %v", libraries)
	}
	for _, part := range file.Progs {
		if part.Type == elf.PT_INTERP {
			t.Error("the program needs a loader")
		}
	}
}
