package fail_test

import (
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/internal/testenv"
)

// use matches a call of this package in the code.
var use = regexp.MustCompile(`\bfail\.(Point|Error)\(([^)]*)\)`)

// uses returns, for each kind of call, its arguments as they are in the code.
func uses(t *testing.T) map[string][]string {
	t.Helper()
	root := testenv.Root(t)
	found := map[string][]string{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || entry.Name() == "build"):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(name)
		for _, m := range use.FindAllStringSubmatch(string(text), -1) {
			found[m[1]] = append(found[m[1]], m[2])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestEachNameOfTheListsIsOnePlaceInTheCode sees to it that a test that goes through the
// lists misses nothing, and that a name leads to one place.
func TestEachNameOfTheListsIsOnePlaceInTheCode(t *testing.T) {
	t.Parallel()
	found := uses(t)
	var points, failing []string
	for _, p := range fail.Points() {
		if p.Fails {
			failing = append(failing, `"`+p.Name+`"`)
		} else {
			points = append(points, `"`+p.Name+`"`)
		}
	}
	for call, listed := range map[string][]string{"Point": points, "Error": failing} {
		used := slices.Sorted(slices.Values(found[call]))
		slices.Sort(listed)
		if !slices.Equal(used, listed) {
			t.Errorf("fail.%s is called with\n%s\nand the list has\n%s", call, strings.Join(used, "\n"), strings.Join(listed, "\n"))
		}
	}
}

var update = flag.Bool("update", false, "write the points into docs/reliability.md")

// TestThePageHasThePoints compares docs/reliability.md with the list.
func TestThePageHasThePoints(t *testing.T) {
	t.Parallel()
	name := filepath.Join(testenv.Root(t), "docs", "reliability.md")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	points := "| point | what has been done, and what has not | |\n|---|---|---|\n"
	for _, p := range fail.Points() {
		points += "| `" + p.Name + "` | " + p.When + " | " + map[bool]string{true: "can fail"}[p.Fails] + " |\n"
	}
	want := string(text)
	section := regexp.MustCompile(`(?s)(<!-- points:[^\n]*-->\n).*?(<!-- end -->)`)
	if !section.MatchString(want) {
		t.Fatal("docs/reliability.md has no place for the points")
	}
	want = section.ReplaceAllString(want, "${1}"+points+"${2}")
	if *update {
		err = os.WriteFile(name, []byte(want), 0o644)
	}
	if err != nil || (want != string(text) && !*update) {
		t.Errorf("docs/reliability.md is not up to date: go test ./internal/fail -run Page -update (%v)", err)
	}
}

// TestNothingOfItIsInTheBinaryThatPeopleUse looks at the names of the functions and
// variables in it.
func TestNothingOfItIsInTheBinaryThatPeopleUse(t *testing.T) {
	t.Parallel()
	names := func(binary string) string {
		out, err := exec.Command("go", "tool", "nm", binary).Output()
		if err != nil {
			t.Fatalf("go tool nm: %v", err)
		}
		return string(out)
	}
	usual := names(testenv.Posta(t))
	if !strings.Contains(usual, "posta/durable.(*Engine).Accept") {
		t.Fatal("the names of functions are not in the binary: this test looks at nothing")
	}
	for line := range strings.Lines(usual) {
		if strings.Contains(line, "posta/internal/fail.") {
			t.Errorf("the binary has %s", line)
		}
	}
}
