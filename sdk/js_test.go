// Package sdk_test runs the tests of the libraries in the folders beside it.
package sdk_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/testenv"
)

// TestJavaScript runs the library's own tests, which play the transcripts of conformance.
func TestJavaScript(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "node")
	testJavaScript(t, "test/*.test.js")
}

// TestJavaScriptWithRealNodes runs the tests of the library that start, stop and kill nodes.
func TestJavaScriptWithRealNodes(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "node")
	authority := testenv.NewAuthority(t)
	server := authority.Issue(t, "server", "127.0.0.1", "localhost")
	testJavaScript(t, "test/real/*.test.js", "POSTA_BINARY="+testenv.Posta(t),
		"TEST_AUTHORITY="+authority.File, "TEST_CERTIFICATE="+server.Certificate, "TEST_KEY="+server.Key)
}

// testJavaScript runs the test files that match a pattern, with more environment variables.
func testJavaScript(t *testing.T, pattern string, env ...string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("js", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no files (%v)", pattern, err)
	}
	cmd := exec.CommandContext(t.Context(), "node", append([]string{"--test"}, files...)...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %v\n%s", cmd, err, out)
	}
}

// TestTheExampleOfJavaScriptServesItsActions runs examples/workers/worker.mjs in a project that has the library.
func TestTheExampleOfJavaScriptServesItsActions(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "node")
	root, project, addr := testenv.Root(t), t.TempDir(), testenv.FreeAddr(t)
	text, err := os.ReadFile(filepath.Join(root, "examples", "workers", "worker.mjs"))
	if err == nil {
		err = errors.Join(os.WriteFile(filepath.Join(project, "worker.mjs"), text, 0o600),
			os.Mkdir(filepath.Join(project, "node_modules"), 0o700),
			os.Symlink(filepath.Join(root, "sdk", "js"), filepath.Join(project, "node_modules", "posta")))
	}
	if err != nil {
		t.Fatal(err)
	}
	testenv.Node(t, addr, "--drain-delay", "0s", "--store", "sqlite://"+filepath.Join(project, "posta.db"))
	worker := exec.CommandContext(t.Context(), "node", "worker.mjs")
	worker.Dir, worker.Env = project, append(os.Environ(), "POSTA_TO="+addr)
	p := testenv.StartCommand(t, worker)
	c, err := client.New(client.Config{Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The task waits for the worker, so the direct run after it finds the worker ready.
	resized, err := c.EnqueueWait(t.Context(), "resize", map[string]string{"url": "slow.png"}, client.EnqueueOptions{}, nil)
	if want := `{"ok":true,"data":{"url":"slow.png","width":100}}`; err != nil || resized.Result.String() != want {
		t.Errorf("resize: %s (%v), want %s", resized.Result.String(), err, want)
	}
	if resized.Attempt != 2 {
		t.Errorf("resize was attempted %d times, want 2: it throws Retry the first time", resized.Attempt)
	}
	greeting, err := c.Run(t.Context(), "greet", map[string]string{"name": "Ana"})
	if want := `{"ok":true,"data":"hello Ana"}`; err != nil || greeting.String() != want {
		t.Errorf("greet: %s (%v), want %s", greeting.String(), err, want)
	}
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(t, time.Minute); code != 0 {
		t.Errorf("after SIGTERM the worker ended with %d:\n%s", code, p.Output())
	}
}

// TestTheTypesOfJavaScriptAreCurrent compiles the library with strict checks, compares the declarations with those that are
// published, and compiles a program that uses these.
func TestTheTypesOfJavaScriptAreCurrent(t *testing.T) {
	t.Parallel()
	testenv.NeedServer(t, "tsc")
	root, made := testenv.Root(t), t.TempDir()
	run(t, root, filepath.Join(root, "build", "tsc"), "-p", "sdk/js", "--outDir", made)
	types := filepath.Join(root, "build", "typescript", "node_modules", "@types")
	run(t, root, filepath.Join(root, "build", "tsc"), "--noEmit", "--strict", "--target", "es2022", "--module", "nodenext",
		"--types", "node", "--typeRoots", types, "sdk/js/test/types.ts")
	want, published := declarations(t, made), declarations(t, "js/types")
	for name, text := range want {
		if published[name] != text {
			t.Errorf("js/types/%s is not what the compiler makes of the comments: build/tsc -p sdk/js writes it anew", name)
		}
	}
	for name := range published {
		if _, found := want[name]; !found {
			t.Errorf("js/types/%s belongs to no module", name)
		}
	}
}

// declarations reads all files of a folder.
func declarations(t *testing.T, folder string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, pattern := range []string{"*.d.ts", "*/*.d.ts"} {
		paths, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files[strings.TrimPrefix(path, folder+"/")] = string(text)
		}
	}
	return files
}

// TestJavaScriptInstallsWithoutANetwork installs the folder, as the README does, and what would be published.
func TestJavaScriptInstallsWithoutANetwork(t *testing.T) {
	t.Parallel()
	testenv.NeedServer(t, "node", "npm")
	library := filepath.Join(testenv.Root(t), "sdk", "js")
	packed := t.TempDir()
	run(t, packed, "npm", "pack", "--offline", "--silent", library)
	archives, err := filepath.Glob(filepath.Join(packed, "posta-*.tgz"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("npm packed %v (%v), want one archive", archives, err)
	}
	for _, source := range []string{library, archives[0]} {
		project := t.TempDir()
		run(t, project, "npm", "install", "--offline", "--no-audit", "--no-fund", source)
		const program = `for (const name of ["posta", "posta/browser", "posta/outbox"]) console.log(Object.keys(await import(name)).join(" "))`
		out := run(t, project, "node", "--input-type=module", "-e", program)
		const want = "Cancelled Client ConnectionLost Permanent PostaError Refused Retry Task TaskFailed UnknownOutcome WaitTimeout Worker\n" +
			"Client PostaError connect\nOutbox openOutbox\n"
		if out != want {
			t.Errorf("%s exports\n%swant\n%s", source, out, want)
		}
		for _, name := range []string{"README.md", "LICENSE", "types/index.d.ts", "types/src/client.d.ts", "browser/types/posta.d.ts", "browser/types/posta-outbox.d.ts"} {
			if _, err := os.Stat(filepath.Join(project, "node_modules", "posta", name)); err != nil {
				t.Error(err)
			}
		}
	}
}

// run runs a command in a folder and returns what it prints.
func run(t *testing.T, folder, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "npm_config_update_notifier=false", "npm_config_cache="+filepath.Join(t.TempDir(), "npm"))
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", cmd, err, out, complaints.String())
	}
	return string(out)
}
