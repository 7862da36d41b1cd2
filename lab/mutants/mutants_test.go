package mutants_test

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/lab/mutants"
)

func all(t *testing.T) []mutants.Mutant {
	t.Helper()
	list, err := mutants.All()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestEachPatchApplies(t *testing.T) {
	t.Parallel()
	for _, m := range all(t) {
		replace, err := m.Replace(t.Context(), t.TempDir())
		if err != nil {
			t.Error(err)
		}
		for from, to := range replace {
			before, _ := os.ReadFile(from) // a file that the patch adds is not there
			if after, err := os.ReadFile(to); err != nil || string(before) == string(after) {
				t.Errorf("%s leaves %s as it is: %v", m.Name, from, err)
			}
		}
		if len(replace) == 0 {
			t.Errorf("%s changes no file", m.Name)
		}
	}
}

var update = flag.Bool("update", false, "write the mutants into docs/reliability.md")

// TestThePageHasTheMutants compares docs/reliability.md with the patches.
func TestThePageHasTheMutants(t *testing.T) {
	t.Parallel()
	name := filepath.Join(testenv.Root(t), "docs", "reliability.md")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	rows := "| mutant | what it does wrong | caught by |\n|---|---|---|\n"
	for _, m := range all(t) {
		by := "`" + m.Command + "`"
		if m.Command == "" {
			by = "`" + m.Package + "`: " + strings.NewReplacer("^", "", "$", "").Replace(m.Test)
		}
		rows += "| `" + m.Name + "` | " + m.Wrong + " | " + by + " |\n"
	}
	section := regexp.MustCompile(`(?s)(<!-- mutants:[^\n]*-->\n).*?(<!-- end -->)`)
	if !section.Match(text) {
		t.Fatal("docs/reliability.md has no place for the mutants")
	}
	want := section.ReplaceAllString(string(text), "${1}"+rows+"${2}")
	if *update {
		err = os.WriteFile(name, []byte(want), 0o644)
	}
	if err != nil || (want != string(text) && !*update) {
		t.Errorf("docs/reliability.md is not up to date: go test -C lab ./mutants -run Page -update (%v)", err)
	}
}

// compile builds the program of a package's tests. An overlay of "" is the product as it is.
func compile(t *testing.T, pkg, overlay string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "test")
	command := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "chaos", "-overlay", overlay, "-o", binary, "./"+pkg)
	command.Dir = testenv.Root(t)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command.Args, err, out)
	}
	return binary
}

// run runs one test of a package's program and returns what it printed.
func run(t *testing.T, program, pkg, test, failpoints string, more ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if strings.Contains(test, "model") {
		more = append(more, "-rapid.nofailfile", "-rapid.shrinktime=0")
	}
	command := exec.CommandContext(ctx, program, append([]string{"-test.run", test}, more...)...)
	command.Dir = filepath.Join(testenv.Root(t), pkg)
	command.Env = append(os.Environ(), fail.PointsVariable+"="+failpoints)
	out, err := command.CombinedOutput()
	return string(out), err
}

// TestEachMutantIsCaught runs, with each mutant, the test that must fail, and once without a mutant the same
// test, which must pass. The mutants that a command catches are not among them.
func TestEachMutantIsCaught(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, time.Minute)
	type test struct{ pkg, test, failpoints string }
	tests := map[test]bool{}
	for _, m := range all(t) {
		if m.Command != "" {
			continue
		}
		tests[test{m.Package, m.Test, m.Failpoints}] = true
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			overlay, err := m.Overlay(t.Context(), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			var more []string
			if strings.Contains(m.Test, "model") {
				more = []string{"-rapid.checks=1000"}
			}
			out, err := run(t, compile(t, m.Package, overlay), m.Package, m.Test, m.Failpoints, more...)
			if err == nil || !strings.Contains(out, "--- FAIL: "+strings.Trim(strings.Split(m.Test, "/")[0], "^$")) {
				t.Errorf("no test failed: %v\n%s", err, out)
			}
		})
	}
	programs := map[string]string{}
	for c := range tests {
		if programs[c.pkg] == "" {
			programs[c.pkg] = compile(t, c.pkg, "")
		}
		t.Run("none, "+c.pkg+" "+c.test, func(t *testing.T) {
			t.Parallel()
			if out, err := run(t, programs[c.pkg], c.pkg, c.test, c.failpoints); err != nil || strings.Contains(out, "no tests to run") {
				t.Errorf("the test fails without a mutant: %v\n%s", err, out)
			}
		})
	}
}
