package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/doctor"
	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/internal/testenv"
)

// hostile clears the screen, changes colours, goes back to the beginning of the line and turns the direction.
const hostile = "a\x1b[2J\u009b31m\rb\u202e\u2066c\x7f\u0085\x07\nposta: error: forged"

// screen is a terminal of which the test reads what comes.
type screen struct{ testenv.Buffer }

func (*screen) IsTerminal() bool { return true }

// shown is what came, without what the progress bar does to its own line.
func (s *screen) shown() string { return strings.ReplaceAll(s.String(), "\r\x1b[K", "") }

// harm names the first character that a terminal should not get, or "".
func harm(text string) string {
	for _, r := range text {
		if !unicode.IsPrint(r) && r != '\n' && r != '\t' {
			return fmt.Sprintf("U+%04X", r)
		}
	}
	return ""
}

// hostileNode answers every op with hostile strings wherever there may be one, or refuses it with one.
func hostileNode(t *testing.T, refuses bool) *fakeNode {
	t.Helper()
	quoted, err := json.Marshal(hostile)
	if err != nil {
		t.Fatal(err)
	}
	fill := func(text string) string { return strings.ReplaceAll(text, "H", string(quoted)) }
	record := `"status":"failed","task":H,"queue":H,"action":H,"attempt":2,"generation":0,"priority":"normal","created_at":"2026-01-31T08:00:00Z",` +
		`"started_at":"2026-01-31T08:00:00Z","finished_at":"2026-01-31T08:00:01Z","node":H,"key":H,"meta":{H:H},"payload":H,"error":H,"code":"action_failed","warning":H`
	answers := map[string]string{
		"run":     `"status":"done","result":{"ok":true,"data":H}`,
		"enqueue": `"status":"queued","task":H,"warning":H`,
		"get":     record, "wait": record,
		"watch":  `"status":"failed","task":H,"attempt":1,"error":H,"code":"action_failed","node":H,"seq":3,"at":"2026-01-31T08:00:00Z"`,
		"list":   `"status":"done","result":{"ok":true,"tasks":[{` + record + `}]}`,
		"queues": `"status":"done","result":{"ok":true,"queues":[{"queue":H,"paused":true,"scheduled":0,"queued":1,"running":0,"failed":0,"oldest_s":1,"rate_in":0,"rate_out":0,"unserved":true}]}`,
		"cancel": `"status":"cancelled","task":H`, "retry": `"status":"queued","task":H,"generation":1`,
		"pause": `"status":"done","result":{"ok":true,"queue":H,"paused":true}`, "resume": `"status":"done","result":{"ok":true,"queue":H,"paused":false}`,
		"info": `"status":"done","result":{"ok":true,"node":H,"version":H,"protocol":1,"actions":[H],"slots":1,"limits":{},"draining":false}`,
	}
	return answering(t, func(c *fakeConn) {
		for c.next() {
			request := struct {
				Op, Action string
				Wait       bool
			}{Op: "run"}
			if json.Unmarshal(c.lines.Bytes(), &request) != nil {
				return
			}
			answer := answers[request.Op]
			switch {
			case refuses:
				answer = `"status":"error","code":"internal","error":H,"detail":H,"field":H,"task":H`
			case request.Action == "fails":
				answer = `"status":"done","result":{"ok":false,"error":H}`
			case request.Wait:
				c.say(`{"id":%s,%s}`, c.id, fill(answer))
				answer = answers["watch"]
			case request.Op == "watch":
				c.say(`{"id":%s,%s}`, c.id, fill(`"status":"running","task":H,"attempt":1,"progress":{"percent":50,"message":H}`))
			}
			c.say(`{"id":%s,%s}`, c.id, fill(answer))
		}
	})
}

func TestNoVerbLetsWhatCameFromElsewhereReachTheTerminal(t *testing.T) {
	t.Parallel()
	tasks := filepath.Join(t.TempDir(), "tasks.jsonl")
	if err := os.WriteFile(tasks, []byte(`{"id":"x\u001b","action":"fails"}`+"\n"+`{"id":2,"action":"ok"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	verbs := []string{
		"run ok", "run fails", "run ok --json", "run ok --raw", "run -f " + tasks, "enqueue ok", "enqueue ok --json", "enqueue ok --wait", "enqueue ok --wait --json", "enqueue -f " + tasks,
		"get T", "get T --json", "wait T", "wait T --json", "watch T", "watch T --json", "cancel T", "cancel T --json", "retry T", "retry T --json",
		"list", "list --json", "failures", "failures --json", "queues", "queues --json", "pause q", "pause q --json", "resume q", "demo", "doctor", "doctor --json", "doctor --ready",
		"bench fails -n 10 -c 1 -P 1", "get a\x1bb", "enqueue a\x1bb", "list --status a\x1bb", "nosuch\x1bverb", "run ok --nosuch\x1bflag",
	}
	for _, refuses := range []bool{false, true} {
		addr := hostileNode(t, refuses).addr
		for _, verb := range verbs {
			t.Run(fmt.Sprintf("%q refused %v", verb, refuses), func(t *testing.T) {
				t.Parallel()
				var stdout, stderr screen
				run(t.Context(), &terminal.Outside{
					Args: append(strings.Split(verb, " "), "--to", addr), Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Env: []string{"NO_COLOR=1"},
				})
				if bad := harm(stdout.shown()); bad != "" {
					t.Errorf("%s came to stdout:\n%q", bad, stdout.shown())
				}
				if bad := harm(stderr.shown()); bad != "" {
					t.Errorf("%s came to stderr:\n%q", bad, stderr.shown())
				}
				if strings.Contains("\n"+stderr.shown(), "\nposta: error: forged") {
					t.Errorf("a line is forged:\n%s", stderr.shown())
				}
				if !strings.Contains(verb, "--json") {
					return
				}
				for line := range strings.Lines(stdout.shown()) {
					var whole any
					if err := json.Unmarshal([]byte(line), &whole); err != nil {
						t.Errorf("no JSON: %v: %s", err, line)
					} else if !refuses && !strings.HasPrefix(verb, "doctor") && !strings.HasPrefix(verb, "pause") && !strings.HasPrefix(verb, "cancel") && !strings.HasPrefix(verb, "retry") &&
						!holds(whole, hostile) {
						t.Errorf("it says something else than the node: %s", line)
					}
				}
			})
		}
	}
}

// holds reports whether a value of JSON has a string somewhere.
func holds(value any, text string) bool {
	switch v := value.(type) {
	case string:
		return v == text
	case []any:
		for _, one := range v {
			if holds(one, text) {
				return true
			}
		}
	case map[string]any:
		for _, one := range v {
			if holds(one, text) {
				return true
			}
		}
	}
	return false
}

// A pipe gets the bytes as they are: other programs read them.
func TestAPipeGetsResultsAsTheyAre(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"--json": `"data":` + string(mustJSON(t, hostile)), "--raw": hostile} {
		if got := typeIn(t, "", nil, "run", "ok", name, "--to", hostileNode(t, false).addr); !strings.Contains(got.stdout, want) {
			t.Errorf("%s: %q", name, got.stdout)
		}
	}
}

func mustJSON(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTheDoctorShowsWhatItSawInPrintableLines(t *testing.T) {
	t.Parallel()
	found := []doctor.Finding{{Part: hostile, Saw: "queue " + hostile, Fix: hostile}}
	var out bytes.Buffer
	if err := doctor.Print(&out, found, false); err != nil {
		t.Fatal(err)
	}
	if bad := harm(out.String()); bad != "" || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("%s: %q", bad, out.String())
	}
}

func TestLogsOnATerminalArePrintable(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		var stderr screen
		cmd := &cobra.Command{}
		flags := addLogFlags(cmd)
		if err := cmd.Flags().Set("log-format", format); err != nil {
			t.Fatal(err)
		}
		log, err := flags.Logger(&terminal.Outside{Stderr: &stderr, Env: []string{"NO_COLOR=1"}})
		if err != nil {
			t.Fatal(err)
		}
		log.With("node", hostile).Error("task failed", "action", hostile, "error", fmt.Errorf("it: %s", hostile), "list", []string{hostile},
			slog.Group("group", slog.Any(hostile, hostile)), "bytes", []byte(hostile)) //nolint:sloglint // a key that is hostile, too
		if bad := harm(stderr.String()); bad != "" || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: %s in %q", format, bad, stderr.String())
		}
	}
}
