package browser_test

import (
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/sdk/js/browser"
)

func TestAModuleIsSmall(t *testing.T) {
	t.Parallel()
	limits := map[string]int{"/posta.js": 5 << 10, "/posta-outbox.js": 2 << 10}
	for _, m := range browser.Modules() {
		var packed bytes.Buffer
		w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
		if err == nil {
			_, err = w.Write(m.Text)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		if packed.Len() > limits[m.Path] {
			t.Errorf("%s has %d bytes after gzip, want at most %d", m.Path, packed.Len(), limits[m.Path])
		}
	}
}

func TestAServedModuleHasNoComments(t *testing.T) {
	t.Parallel()
	for _, m := range browser.Modules() {
		for _, mark := range []string{"/*", "*/", "// ", "\n\n", "\n "} {
			if at := bytes.Index(m.Text, []byte(mark)); at >= 0 {
				t.Errorf("%s has %q: %s", m.Path, mark, m.Text[at:min(at+60, len(m.Text))])
			}
		}
	}
}

// TestTheModulesDoWhatTheyPromise runs the tests of JavaScript with the modules as nodes serve them.
func TestTheModulesDoWhatTheyPromise(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "node")
	served := t.TempDir()
	for _, m := range browser.Modules() {
		if err := os.WriteFile(filepath.Join(served, filepath.Base(m.Path)), m.Text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(served, "package.json"), []byte(`{"type":"module"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("test/*.test.js")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests (%v)", err)
	}
	cmd := exec.CommandContext(t.Context(), "node", append([]string{"--test"}, files...)...)
	cmd.Env = append(os.Environ(), "POSTA_MODULES="+served)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestTheTypesAreCurrent compiles the modules with strict checks, and compares the declarations with those in types.
func TestTheTypesAreCurrent(t *testing.T) {
	t.Parallel()
	testenv.NeedServer(t, "tsc")
	root, made := testenv.Root(t), t.TempDir()
	compile := exec.CommandContext(t.Context(), filepath.Join(root, "build", "tsc"), "-p", "sdk/js/browser", "--outDir", made)
	compile.Dir = root
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, m := range browser.Modules() {
		name := filepath.Base(m.Path[:len(m.Path)-len(".js")]) + ".d.ts"
		want, err := os.ReadFile(filepath.Join(made, name))
		if err != nil {
			t.Fatal(err)
		}
		if published, err := os.ReadFile(filepath.Join("types", name)); err != nil || !bytes.Equal(published, want) {
			t.Errorf("types/%s is not what the compiler makes of the comments (%v): build/tsc -p sdk/js/browser writes it anew", name, err)
		}
	}
}
