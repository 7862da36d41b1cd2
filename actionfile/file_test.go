package actionfile_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/posta-tasks/posta/actionfile"
	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/worker/child"
)

const signingKey = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

// write writes a file that only its owner can change.
func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// lookup is an environment of a test.
func lookup(name string) (string, bool) {
	value, found := map[string]string{"HOOK_KEY": signingKey, "NOT_A_KEY": "hunter2-is-no-key", "API_KEY": "s3cret-value", "EMPTY": ""}[name]
	return value, found
}

// problems checks a file and returns its problems, one a line, without the file's name.
func problems(t *testing.T, path string) string {
	t.Helper()
	_, err := actionfile.Check(actionfile.Config{Path: path, Lookup: lookup, Taken: []string{"echo"}})
	if err == nil {
		return ""
	}
	var list *actionfile.Problems
	if !errors.As(err, &list) {
		t.Fatalf("%v is no list of problems", err)
	}
	return strings.ReplaceAll(err.Error(), path+":", "")
}

func TestAllProblemsOfAFileAreListedWithTheirLines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "plain"), "no program")
	file := write(t, filepath.Join(dir, "actions.toml"), `title = "mine"

[action.one]
kind = "exec"
command = ["no-such-program"]
retries = 3
timeout = "soon"
slots = 0
memory = "lots"
cpu = "0s"
files = "many"
permanent = [64, 75, 300]
env = { TZ = 1, POSTA_X = "y", KEY = "env:NO_SUCH", TOKEN = "file:no-such-file" }

[action.two]
kind = "http"
url = "ftp://example.com/"
secret = "env:NOT_A_KEY"
allow = ["10.0.0.0/8", "everywhere", "::ffff:10.0.0.0/104"]

[action.three]
kind = "worker"
command = ["cat"]
count = 65

[action.four]
kind = "lambda"

[action.echo]
kind = "http"
url = "https://me:hunter2-pass@example.com/"
secret = []

[action.five]
kind = "exec"

[action.six]
kind = "exec"
command = ["./plain"]

[action.seven]
kind = "http"

[action."new\nline"]
kind = "exec"
command = "sh -c true"
`)
	got := problems(t, file)
	for _, want := range []string{
		"1: unknown key \"title\"", "5: the program no-such-program is not there", "6: unknown key \"retries\"", "7: timeout must be a time",
		"8: slots must be a whole number from 1", "9: memory must be a size", "10: cpu must be a time from 1s", "11: files must be a whole number",
		"12: permanent: 300", "12: permanent: 75 always means", "13: env: TZ", "13: env: POSTA_X", "13: env: KEY: the environment variable NO_SUCH is not set", "13: env: TOKEN: the secret in",
		"17: url has the scheme \"ftp\"", "18: secret must be whsec_", "19: allow: \"everywhere\"", "19: allow: write ::ffff:10.0.0.0/104 as an IPv4 network",
		"24: count must be a whole number from 1 to 64", "27: kind is \"lambda\": allowed are \"exec\", \"http\" and \"worker\"", "29: the action echo is there already",
		"31: url has a user or a password", "34: command is missing", "39: the program ./plain is not there, or may not be run", "41: url is missing",
		"44: an action's name has 1 to 128 bytes without control characters", "46: command must be a list of strings",
	} {
		if !strings.Contains("\n"+got, "\n"+want) {
			t.Errorf("the problems do not have %q", want)
		}
	}
	if strings.Contains(got, "hunter2") {
		t.Error("a secret is shown")
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestAFileThatCannotBeTrustedOrReadIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := "[action.a]\nkind = \"exec\"\ncommand = [\"cat\"]\n"
	open := write(t, filepath.Join(dir, "open.toml"), good)
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	secret := write(t, filepath.Join(dir, "secret"), "s3cret-value\n")
	if err := os.Chmod(secret, 0o602); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		open:                            "everybody can change it (mode 0666): run chmod o-w",
		filepath.Join(dir, "none.toml"): "no such file",
		dir:                             "not a regular file",
		write(t, filepath.Join(dir, "x.toml"), "a=\n"):                                                     "1: it is no TOML",
		write(t, filepath.Join(dir, "y.toml"), good+"env = { K = \"file:secret\" }\n"):                     "4: env: K: the secret in " + secret + " cannot be read: everybody can change it",
		write(t, filepath.Join(dir, "z.toml"), "action = 3\n"):                                             "1: action is not a table",
		write(t, filepath.Join(dir, "l.toml"), strings.Repeat("#"+strings.Repeat("x", 1<<10)+"\n", 1<<10)): "at most 1048576 are allowed",
		write(t, filepath.Join(dir, "d.toml"), good+good):                                                  "already been defined",
	} {
		if got := problems(t, path); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", filepath.Base(path), got, want)
		}
	}
	if got := problems(t, write(t, filepath.Join(dir, "good.toml"), good)); got != "" {
		t.Errorf("a good file: %s", got)
	}
}

func TestDefinitionsAreShownWithoutSecrets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "key"), signingKey+"\n")
	text := `[action.b]
kind = "http"
url = "https://example.com/hook?token=abc"
secret = ["file:key", "env:HOOK_KEY"]
slots = 20

[action.a]
kind = "exec"
command = ["cat", "-u"]
timeout = "1m30s"
memory = "512MiB"
cpu = "10s"
files = 64
permanent = [64]
env = { KEY = "env:API_KEY" }
`
	path := write(t, filepath.Join(dir, "actions.toml"), text)
	list, err := actionfile.Check(actionfile.Config{Path: path, Lookup: lookup})
	if err != nil {
		t.Fatal(err)
	}
	shown := fmt.Sprintf("%+v", list)
	if len(list) != 2 || list[0].Name != "a" || list[1].Target != "example.com" || list[1].Slots != 20 || list[0].Timeout.Seconds() != 90 || list[0].Line != 7 {
		t.Errorf("%s", shown)
	}
	if strings.Contains(shown, "s3cret") || strings.Contains(shown, "whsec") || strings.Contains(shown, "token=") {
		t.Errorf("a secret is shown: %s", shown)
	}
	for change, same := range map[string]bool{"slots = 20": false, "slots   =   20": true} {
		path := write(t, filepath.Join(dir, "other.toml"), strings.Replace(text, "slots = 20", change+"\n", 1))
		if change == "slots = 20" {
			path = write(t, path, strings.Replace(text, "slots = 20", "slots = 21", 1))
		}
		other, err := actionfile.Check(actionfile.Config{Path: path, Lookup: lookup})
		if err != nil || (other[1].Hash == list[1].Hash) != same || other[0].Hash != list[0].Hash {
			t.Errorf("%s: %v, hashes %s and %s", change, err, other[1].Hash, list[1].Hash)
		}
	}
}

// log collects what is logged.
type log struct {
	mu    sync.Mutex
	text  strings.Builder
	lines chan string
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	l.text.Write(p)
	l.mu.Unlock()
	l.lines <- string(p)
	return len(p), nil
}

func TestAFileThatChangesIsReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	definition := func(text string) string {
		return "[action.a]\nkind = \"exec\"\ncommand = [\"echo\", \"" + text + "\"]\nenv = { KEY = \"file:key\" }\n"
	}
	key := write(t, filepath.Join(dir, "key"), "s3cret-value")
	path := write(t, filepath.Join(dir, "actions.toml"), definition("one"))
	file, err := actionfile.Open(actionfile.Config{Path: path, Lookup: lookup})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ctx, cancel := context.WithCancel(t.Context())
	seen, reload, ended := &log{lines: make(chan string, 100)}, make(chan os.Signal, 1), make(chan struct{})
	changed := make(chan []actions.Action, 100)
	go func() {
		defer close(ended)
		file.Watch(ctx, reload, slog.New(slog.NewTextHandler(seen, nil)), func(list []actions.Action, _ []child.Program) error { changed <- list; return nil })
	}()
	answer := func(list []actions.Action) string {
		t.Helper()
		data, err := list[0].Append(t.Context(), &actions.Call{Action: "a", Payload: []byte("1")}, nil)
		if err != nil {
			t.Errorf("%v", err)
		}
		return string(data)
	}
	old := file.Actions()
	if old[0].Definition == "" || old[0].Definition != file.Definitions()[0].Hash {
		t.Errorf("the definition is %q", old[0].Definition)
	}
	replace := func(text string) { // as editors do
		t.Helper()
		if err := os.Rename(write(t, path+".new", text), path); err != nil {
			t.Fatal(err)
		}
	}
	// The watch may begin later than the change: it is found all the same.
	replace(definition("two"))
	fresh := <-changed
	if got := answer(fresh); got != `"data":"two"` {
		t.Errorf("after a change: %s", got)
	}
	if got := answer(old); got != `"data":"one"` {
		t.Errorf("an attempt with the former definition: %s", got)
	}
	<-seen.lines
	write(t, path, "[action.a\n")
	for line := ""; !strings.Contains(line, "the old actions stay"); line = <-seen.lines {
	}
	if got := answer(file.Actions()); got != `"data":"two"` || len(changed) > 0 {
		t.Errorf("after a bad change: %s, and it was called %d times", got, len(changed))
	}
	replace(definition("three"))
	if got := answer(<-changed); got != `"data":"three"` {
		t.Errorf("after the file was corrected: %s", got)
	}
	write(t, key, "another-s3cret")
	<-changed
	reload <- syscall.SIGHUP
	<-changed
	cancel()
	<-ended
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if strings.Contains(seen.text.String(), "s3cret") {
		t.Errorf("a secret is logged: %s", seen.text.String())
	}
}

func TestTheWorkersOfAFileAreProgramsOfTheirOwn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "w.sh"), "")
	path := write(t, filepath.Join(dir, "actions.toml"), `[action.report]
kind = "worker"
command = ["sh", "w.sh"]
count = 2
env = { KEY = "env:API_KEY" }
`)
	file, err := actionfile.Open(actionfile.Config{Path: path, Lookup: lookup})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	list := file.Workers()
	if len(file.Actions()) != 0 || len(list) != 1 {
		t.Fatalf("%d actions, %d workers", len(file.Actions()), len(list))
	}
	p := list[0]
	if p.Name != "report" || p.Count != 2 || p.Dir != dir || !p.Home || len(p.Args) != 2 || len(p.Secrets) != 1 || p.Secrets[0] != "s3cret-value" {
		t.Errorf("%+v", p)
	}
	var names []string
	for _, variable := range p.Env {
		name, _, _ := strings.Cut(variable, "=")
		names = append(names, name)
	}
	if got := strings.Join(names, " "); got != "PATH LANG KEY POSTA_ACTION" {
		t.Errorf("its variables are %s", got)
	}
	if d := file.Definitions()[0]; d.Count != 2 || d.Kind != "worker" || filepath.Base(d.Target) != "sh" {
		t.Errorf("%+v", d)
	}
	for key, want := range map[string]string{"timeout = \"1s\"": "unknown key \"timeout\"", "slots = 2": "unknown key \"slots\""} {
		other := write(t, filepath.Join(dir, "other.toml"), "[action.report]\nkind = \"worker\"\ncommand = [\"sh\"]\n"+key+"\n")
		if got := problems(t, other); !strings.Contains(got, want) {
			t.Errorf("%s: %s", key, got)
		}
	}
}
