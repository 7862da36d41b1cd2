package posta_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta"
	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/internal/testenv"
)

// asProgram is the environment variable that makes a process of this test the program
// that owned describes.
const asProgram = "POSTA_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		posta.Main(owned()...)
	}
	os.Exit(m.Run())
}

// resize is the payload of the action resize, and size what it returns.
type (
	resize struct {
		Width  int `json:"width"`
		Height int `json:"height"`
	}
	size struct {
		Pixels  int    `json:"pixels"`
		Attempt int    `json:"attempt"`
		Task    string `json:"task"`
	}
)

// owned are the actions of the program of this test.
func owned() []actions.Action {
	return []actions.Action{
		posta.Action("resize", func(ctx context.Context, in resize) (size, error) {
			running := posta.TaskFrom(ctx)
			return size{in.Width * in.Height, running.Attempt, running.ID}, nil
		}),
		posta.Action("busy", func(ctx context.Context, _ any) (string, error) {
			if posta.TaskFrom(ctx).Attempt == 1 {
				return "", posta.RetryAfter(errors.New("busy"), 0)
			}
			return "at last", nil
		}),
		posta.Action("hopeless", func(context.Context, any) (any, error) { return nil, posta.Permanent(errors.New("not an image")) }),
		posta.Action("report", func(ctx context.Context, _ any) (any, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			posta.Progress(ctx, 40, "decoded")
			return nil, nil
		}),
	}
}

// program runs the program with a command line and returns its exit code and what it printed.
func program(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, talk strings.Builder
	command := programCommand(t, args...)
	command.Stdout, command.Stderr = &out, &talk
	var exit *exec.ExitError
	if err := command.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), out.String(), talk.String()
}

func programCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(path, args...)
	command.Env = append(os.Environ(), asProgram+"=1")
	return command
}

// startOwned starts `up` of the program and returns its address.
func startOwned(t *testing.T) string {
	t.Helper()
	addr := testenv.FreeAddr(t)
	testenv.StartCommand(t, programCommand(t, "up", "--listen", addr, "--nodes", "127.0.0.1:0,127.0.0.1:0", "--data", t.TempDir()))
	testenv.Eventually(t, 2*time.Minute, func() error {
		if code, _, talk := program(t, "doctor", "--ready", "--to", addr); code != 0 {
			return fmt.Errorf("it is not ready: %s", talk)
		}
		return nil
	})
	return addr
}

func TestAProgramWithItsOwnActionsIsTheWholeProgram(t *testing.T) {
	t.Parallel()
	addr := startOwned(t)
	cases := []struct {
		line   string
		code   int
		stdout string // part of it
		stderr string
	}{
		{`run resize {"width":3,"height":2}`, 0, `{"ok":true,"data":{"pixels":6,"attempt":0,"task":""}}`, ""},
		{`run resize`, 0, `{"ok":true,"data":{"pixels":0,"attempt":0,"task":""}}`, ""},
		{`enqueue --wait resize {"width":3,"height":2}`, 0, `{"ok":true,"data":{"pixels":6,"attempt":1,"task":"`, ""},
		{`run resize {"width":3,"heigth":2}`, 1, `{"ok":false,"error":"payload: unknown field \"heigth\""}`, ""},
		{`run resize {"width":"3"}`, 1, `payload: field \"width\" must be a whole number in the range of int, not string`, ""},
		{`run resize [3]`, 1, `payload must be an object, not array`, ""},
		{`enqueue --wait busy`, 0, `{"ok":true,"data":"at last"}`, ""},
		{`run upper hola`, 1, ``, `unknown action upper`},
		{`list --action nothing`, 0, ``, ``},
		{`doctor --ready`, 0, ``, ``},
	}
	for _, c := range cases {
		words := append(strings.Fields(c.line), "--to", addr)
		code, stdout, stderr := program(t, words...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stdout+stderr, c.stderr) {
			t.Errorf("%s: exit code %d, want %d; printed\n%s%s", c.line, code, c.code, stdout, stderr)
		}
	}
}

// record is what `get --json` prints of a task.
type record struct {
	Status  string
	Attempt int
	Error   string
	Code    string
}

func TestAPayloadThatDoesNotFitIsNotRetried(t *testing.T) {
	t.Parallel()
	addr := startOwned(t)
	for _, c := range []struct{ action, payload, want string }{
		{"resize", `{"width":3,"heigth":2}`, `payload: unknown field "heigth"`},
		{"hopeless", `null`, "not an image"},
	} {
		_, id, _ := program(t, "enqueue", c.action, c.payload, "--to", addr)
		id = strings.TrimSpace(id)
		if code, _, talk := program(t, "wait", id, "--to", addr); code != 1 {
			t.Errorf("%s ended with %d: %s", c.action, code, talk)
		}
		_, text, _ := program(t, "get", id, "--json", "--to", addr)
		var r record
		if err := json.Unmarshal([]byte(text), &r); err != nil || r.Status != "failed" || r.Attempt != 1 || r.Error != c.want {
			t.Errorf("%s: %v, %s", c.action, err, text)
		}
	}
}

func TestAWatchShowsTheProgressThatAFunctionReports(t *testing.T) {
	t.Parallel()
	got := []string{}
	report := actions.Call{Action: "report", Task: "T", Attempt: 1, OnReport: func(percent float64, message string) {
		got = append(got, fmt.Sprint(percent, " ", message))
	}}
	for _, a := range owned() {
		if a.Name == "report" {
			if _, err := a.Run(t.Context(), &report); err != nil {
				t.Fatal(err)
			}
		}
	}
	if fmt.Sprint(got) != "[40 decoded]" {
		t.Errorf("reported %q", got)
	}
	posta.Progress(t.Context(), 1, "of nothing")
	if posta.TaskFrom(t.Context()) != (posta.Task{}) {
		t.Error("there is a task outside of an action")
	}
}
