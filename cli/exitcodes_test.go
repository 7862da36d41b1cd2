package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
)

// TestEachVerbEndsWithTheCodesOfTheTable compares the exit codes that the scripts in
// testdata have seen, `code N posta VERB` and `ended NAME CODE`, with the table.
func TestEachVerbEndsWithTheCodesOfTheTable(t *testing.T) {
	t.Parallel()
	seen := codesInScripts(t)
	seen["node"] = append(seen["node"], exitUnreachable) // after a minute of waiting for its store: startwait_test.go
	var verbs []string
	for _, v := range exitTable() {
		verbs = append(verbs, v.verb)
		for _, code := range v.codes {
			if !slices.Contains(seen[v.verb], code) {
				t.Errorf("no script shows that %s ends with %d", v.verb, code)
			}
		}
		for _, code := range seen[v.verb] {
			if !slices.Contains(v.codes, code) && code < 128 {
				t.Errorf("a script shows that %s ends with %d, which the table does not have", v.verb, code)
			}
		}
	}
	eachVerb(newRoot(&terminal.Outside{}), func(cmd *cobra.Command) {
		name := strings.TrimPrefix(cmd.CommandPath(), "posta ")
		if cmd.Runnable() && !cmd.HasSubCommands() && !slices.Contains(verbs, name) {
			t.Errorf("the table does not have %s", name)
		}
	})
}

var (
	coded   = regexp.MustCompile(`(?m)^(?:code ([0-9]+)|exec) posta +((?:balancer|actions|workers|key|pass) [a-z]+|[a-z]+)`)
	serving = regexp.MustCompile(`(?m)^serve (\S+) posta ((?:balancer|actions|workers|key|pass) [a-z]+|[a-z]+)`)
	endings = regexp.MustCompile(`(?m)^ended (\S+) ([0-9]+)`)
)

// codesInScripts returns the exit codes of each verb in the scripts.
func codesInScripts(t *testing.T) map[string][]int {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	seen := map[string][]int{}
	add := func(verb, code string) {
		number := 0
		_, _ = fmt.Sscan(code, &number)
		if !slices.Contains(seen[verb], number) {
			seen[verb] = append(seen[verb], number)
		}
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range coded.FindAllStringSubmatch(string(text), -1) {
			add(m[2], m[1])
		}
		verbs := map[string]string{}
		for _, m := range serving.FindAllStringSubmatch(string(text), -1) {
			verbs[m[1]] = m[2]
		}
		for _, m := range endings.FindAllStringSubmatch(string(text), -1) {
			add(verbs[m[1]], m[2])
		}
	}
	return seen
}
