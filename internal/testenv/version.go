package testenv

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// PostaOf returns the path of a posta that is built from an earlier commit: the oldest one with this subject, since
// subjects survive when history is rewritten. The binary stays in build/versions. The test is skipped if the
// repository has no complete history.
func PostaOf(t testing.TB, subject string) string {
	t.Helper()
	root := Root(t)
	shallow, err := git(root, "rev-parse", "--is-shallow-repository")
	if err != nil {
		t.Skipf("needs the history of the repository: %v", err)
	}
	found, err := git(root, "log", "--fixed-strings", "--grep", subject, "--format=%H %s")
	if err != nil {
		t.Fatal(err)
	}
	commit := ""
	for line := range strings.Lines(found) {
		if hash, its, _ := strings.Cut(strings.TrimSpace(line), " "); its == subject {
			commit = hash
		}
	}
	switch {
	case commit != "":
		return builtFrom(t, root, commit)
	case strings.TrimSpace(shallow) == "true":
		t.Skipf("needs the commit %q, which this shallow clone does not have: git fetch --unshallow brings it", subject)
	}
	t.Fatalf("the history has no commit %q", subject)
	return ""
}

// builtFrom builds the posta of a commit, unless it exists already.
func builtFrom(t testing.TB, root, commit string) string {
	t.Helper()
	binary := filepath.Join(root, "build", "versions", commit[:12], "posta")
	if _, err := os.Stat(binary); err == nil {
		return binary
	}
	source := t.TempDir()
	archive := filepath.Join(source, "source.tar")
	if _, err := git(root, "archive", "--output", archive, commit); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(source, "posta")
	for _, args := range [][]string{
		{"tar", "-xf", archive},
		{"go", "build", "-buildvcs=false", "-o", fresh, "./cmd/posta"},
		{"cp", fresh, binary + ".new"},
		{"mv", binary + ".new", binary}, // rename, so that the file is complete
	} {
		command := exec.Command(args[0], args[1:]...)
		command.Dir = source
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	return binary
}

// git runs git in the repository and returns its output.
func git(root string, args ...string) (string, error) {
	var out, complaint bytes.Buffer
	command := exec.Command("git", args...)
	command.Dir, command.Stdout, command.Stderr = root, &out, &complaint
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, firstLine(complaint.String()))
	}
	return out.String(), nil
}
