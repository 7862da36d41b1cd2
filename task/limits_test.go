package task_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/task"
)

var update = flag.Bool("update", false, "write docs/limits.md anew")

const limitsPage = "../docs/limits.md"

func TestThePageOfLimitsSaysWhatTheTableSays(t *testing.T) {
	t.Parallel()
	want := limitsText()
	if *update {
		if err := os.WriteFile(limitsPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(limitsPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Errorf("%s is not what task.Limits says now: run go test ./task -run Limits -update", limitsPage)
	}
}

// limitsText writes the page from the table and from the protocol's constants.
func limitsText() string {
	var page strings.Builder
	page.WriteString(`# Limits

Everything that a client could make grow has a limit. This page is generated from the code (` + "`go test ./task -run Limits -update`" + `).

## Settings

Each setting is a flag of ` + "`posta node` and `posta up`" + `, and an environment variable; the flag has precedence. The op ` + "`info`" + ` and the metric in the last
column report the values in force.

| limit | flag | environment | default | at the limit | metric |
|---|---|---|---|---|---|
`)
	limits := task.DefaultLimits()
	for _, l := range limits.Table() {
		fmt.Fprintf(&page, "| %s | `--%s` | `%s` | %s | %s | `%s{name=%q}` |\n", l.Help, l.Flag, l.Env(), l.Default, l.OnBreach, l.Metric(), l.Flag)
	}
	page.WriteString(`
## Limits of the protocol

These are the same on every node, so clients can rely on them.

| limit | value | at the limit |
|---|---|---|
`)
	for _, b := range protocolBounds() {
		fmt.Fprintf(&page, "| %s | %s | %s |\n", b.help, b.value, b.breach)
	}
	return page.String()
}

// bound is one row of the second table.
type bound struct{ help, value, breach string }

// protocolBounds lists the bounds that are no settings.
func protocolBounds() []bound {
	const invalid = "`invalid_request`"
	return []bound{
		{"an id that is a string", size(task.MaxID), invalid},
		{"an id that is a number", size(task.MaxNumberID), invalid},
		{"nesting of JSON, the line's own object included", fmt.Sprint(task.MaxDepth), "`invalid_json`"},
		{"the name of an action", size(task.MaxAction), invalid},
		{"the labels of a task, `meta`, as JSON", size(task.MaxMeta), invalid},
		{"a payload or a result in its task's row; larger ones go to blob storage", size(task.InlineBytes), "`payload_too_large`, `result_too_large` where there is none"},
		{"a payload or a result in blob storage", size(task.BlobBytes), "`payload_too_large`, `result_too_large`"},
		{"queues", fmt.Sprint(task.MaxQueues), "`overloaded`"},
		{"unfinished tasks of a queue; `--queues` may set a lower bound", fmt.Sprint(task.MaxBacklog), "`overloaded`"},
		{"the timeout that a `run` may ask for, and a wait", seconds(task.MaxTaskTimeout), invalid},
		{"the timeout of an attempt that an `enqueue` may ask for", seconds(task.MaxEnqueueTimeout), invalid},
		{"attempts that an `enqueue` may ask for; its default", fmt.Sprintf("%d; %d", task.MaxAttempts, task.DefaultMaxAttempts), invalid},
		{"`backoff` and `backoff_max`; their defaults", fmt.Sprintf("%s; %s, %s", seconds(task.MaxBackoff), seconds(task.DefaultBackoff), seconds(task.DefaultBackoffMax)), invalid},
		{"`keep`, of a task that ends done or cancelled; its default", fmt.Sprintf("%s to %s; %s", seconds(task.LeastKeep), seconds(task.MaxSpan), seconds(task.DefaultKeep)), "a smaller value counts as the smallest allowed one; a larger one is `invalid_request`"},
		{"`keep_failed`, of a task that ends failed; its default", fmt.Sprintf("%s to %s; %s", seconds(task.LeastKeep), seconds(task.MaxSpan), seconds(task.DefaultKeepFailed)), "the same"},
		{"`delay` and `expires`", seconds(task.MaxSpan), invalid},
		{"a line before `auth`, where tokens are needed", size(task.UnauthenticatedLine), "`line_too_long`; the connection is closed"},
		{"time to present a token, where one is needed", seconds(task.UnauthenticatedTimeout), "`unauthenticated`; the connection is closed"},
		{"time that a refused connection is still read, so that the refusal arrives", seconds(task.LingerTime), "the connection is closed"},
		{"bytes that a refused connection may still send", size(task.LingerBytes), "the connection is closed"},
		{"connections of one address, with `--proxy-protocol` and no setting", fmt.Sprint(task.ProxyConnectionsPerAddress), "`overloaded`; the connection is closed"},
		{"the seconds of action `sleep`", fmt.Sprintf("0 to %d", actions.MaxSleep), "`ok` false; the error names the limit"},
		{"the n of action `fib`", fmt.Sprintf("0 to %d", actions.MaxFib), "`ok` false; the error names the limit"},
	}
}

// size writes bytes as people write them.
func size(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " s" }

// TestTheWrittenDefaultIsTheDefault reads the column that people read.
func TestTheWrittenDefaultIsTheDefault(t *testing.T) {
	t.Parallel()
	limits := task.DefaultLimits()
	cores := float64(limits.QuickSlots)
	units := map[string]float64{"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "s": 1, "m": 60, "× cores": cores}
	number := regexp.MustCompile(`^(\d+) ?(KiB|MiB|s|m|× cores|)(?:;|$)`)
	for _, l := range limits.Table() {
		switch {
		case l.Default == "cores":
			if l.Number() != cores {
				t.Errorf("%s is %g on %g cores", l.Flag, l.Number(), cores)
			}
		case strings.HasPrefix(l.Default, "off") || l.Flag == "max-buffered":
			if l.Number() != 0 {
				t.Errorf("%s is %g, its default says off", l.Flag, l.Number())
			}
		default:
			m := number.FindStringSubmatch(l.Default)
			if m == nil {
				t.Errorf("%s: nobody can read the default %q", l.Flag, l.Default)
				continue
			}
			var n float64
			if _, err := fmt.Sscan(m[1], &n); err != nil || n*units[m[2]] != l.Number() {
				t.Errorf("%s is %g, its default says %q", l.Flag, l.Number(), l.Default)
			}
		}
	}
}

func TestEveryFieldOfTheLimitsIsInTheTableOnceAndCanBeSetThere(t *testing.T) {
	t.Parallel()
	var limits task.Limits
	flags, keys := map[string]bool{}, map[string]bool{}
	for i, l := range limits.Table() {
		if flags[l.Flag] || keys[l.Key()] {
			t.Errorf("%s is there twice", l.Flag)
		}
		flags[l.Flag], keys[l.Key()] = true, true
		switch value := l.Value.(type) {
		case *int:
			*value = i + 1
		case *time.Duration:
			*value = time.Duration(i+1) * time.Second
		default:
			t.Errorf("%s has a %T", l.Flag, l.Value)
		}
		if l.Help == "" || l.OnBreach == "" || l.Default == "" {
			t.Errorf("%s says too little of itself: %+v", l.Flag, l)
		}
	}
	for i, l := range limits.Table() {
		if l.Number() != float64(i+1) {
			t.Errorf("%s shares its field with another limit", l.Flag)
		}
	}
	if want := 20; len(flags) != want {
		t.Errorf("the table has %d limits, task.Limits %d fields", len(flags), want)
	}
}

func TestTheOtherNamesOfALimitAreDerivedFromItsFlag(t *testing.T) {
	t.Parallel()
	var limits task.Limits
	for _, l := range limits.Table() {
		switch l.Flag {
		case "max-line":
			if l.Env() != "POSTA_MAX_LINE" || l.Key() != "max_line" {
				t.Errorf("max-line has the variable %s and the key %s", l.Env(), l.Key())
			}
		case "idle-timeout":
			if l.Env() != "POSTA_IDLE_TIMEOUT" || l.Key() != "idle_timeout_s" {
				t.Errorf("idle-timeout has the variable %s and the key %s", l.Env(), l.Key())
			}
		}
	}
	if odd := (task.Limit{Value: "text"}); odd.Number() != 0 {
		t.Errorf("a limit without a number is %g", odd.Number())
	}
}

func TestAZeroLimitMeansItsDefaultUnlessZeroIsOff(t *testing.T) {
	t.Parallel()
	full, err := task.Limits{}.WithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	want := task.DefaultLimits()
	want.DrainDelay = 0 // a setting of its own
	if full != want {
		t.Errorf("no limits become\n%+v, want\n%+v", full, want)
	}
	again, err := full.WithDefaults()
	if err != nil || again != full {
		t.Errorf("full limits become %+v, %v", again, err)
	}
	some, err := task.Limits{Line: 99, Idle: time.Second}.WithDefaults()
	if err != nil || some.Line != 99 || some.Idle != time.Second || some.Window != task.DefaultWindow {
		t.Errorf("some limits become %+v, %v", some, err)
	}
}

func TestLimitsOutOfRangeAreRefusedByTheirFlag(t *testing.T) {
	t.Parallel()
	cases := []struct {
		limits task.Limits
		want   string
	}{
		{task.Limits{Line: -1}, "limit max-line is -1: it cannot be negative"},
		{task.Limits{DrainDelay: -time.Second}, "limit drain-delay is -1s: it cannot be negative"},
		{task.Limits{ConnectionsPerAddress: -2}, "limit max-connections-per-address is -2: it cannot be negative"},
		{task.Limits{TaskTimeout: task.MaxTaskTimeout + 1}, "limit task-timeout is 1h0m0.000000001s: at most 1h0m0s"},
		{task.Limits{Connections: 16}, "limit health-connections is 16: it must be less than max-connections, 16"},
		{task.Limits{Connections: 100, HealthConnections: 200}, "limit health-connections is 200: it must be less than max-connections, 100"},
	}
	for _, c := range cases {
		if _, err := c.limits.WithDefaults(); err == nil || err.Error() != c.want {
			t.Errorf("%+v: %v, want %s", c.limits, err, c.want)
		}
	}
}
