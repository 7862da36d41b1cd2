package posta_test

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// machinePath matches absolute paths that exist on one person's machine only, and
// packageHost the hosts that packages are fetched from, which belong to a machine's own
// settings.
var (
	machinePath = regexp.MustCompile(`(^|[^A-Za-z0-9_./-])/(home|root|Users|work|workspace|mnt|private)/`)
	packageHost = regexp.MustCompile(`GOPROXY[=]|(proxy|sum)\.golang\.org|registry\.npmjs|deb\.debian\.org|files\.pythonhosted`)
)

// TestNoFileNamesTheMachineItWasWrittenOn reads all files that are, or are about
// to be, under version control.
func TestNoFileNamesTheMachineItWasWrittenOn(t *testing.T) {
	t.Parallel()
	names := trackedFiles(t)
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil || bytes.IndexByte(text, 0) >= 0 {
			continue // deleted but not yet committed, or no text
		}
		for i, line := range strings.Split(string(text), "\n") {
			if machinePath.MatchString(line) || packageHost.MatchString(line) {
				t.Errorf("%s:%d names a path or a package host of one machine: use a relative path, $HOME, a temporary "+
					"folder or the tools' own settings\n\t%s", name, i+1, strings.TrimSpace(line))
			}
		}
	}
}

// trackedFiles lists the files that git has or would add.
func trackedFiles(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("git", "ls-files", "-co", "--exclude-standard").Output()
	if err != nil {
		t.Skipf("this copy of the repository has no git: %v", err)
	}
	names := strings.Fields(string(out))
	if len(names) < 20 {
		t.Fatalf("git names only %d files: this test looks at too little", len(names))
	}
	return names
}

// TestNothingThatWasBuiltIsTracked looks for files that are too large to have been
// written by hand.
func TestNothingThatWasBuiltIsTracked(t *testing.T) {
	t.Parallel()
	const most = 512 << 10
	for _, name := range trackedFiles(t) {
		if info, err := os.Stat(name); err == nil && info.Size() > most {
			t.Errorf("%s has %d bytes: if it was built, delete it and name it in .gitignore", name, info.Size())
		}
	}
}
