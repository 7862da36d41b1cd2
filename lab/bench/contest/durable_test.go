package contest

import (
	"bytes"
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
)

// timeOfQuick is how long a quick run takes, its building included.
const timeOfQuick = 15 * time.Second

// quickDurable runs `bench durable --quick` without peers and with more flags, and returns what it printed.
func quickDurable(t *testing.T, args ...string) string {
	t.Helper()
	var out, progress bytes.Buffer
	args = append([]string{"--quick", "--peers", "none"}, args...)
	if err := Run(t.Context(), Durable(), args, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	return out.String()
}

// Posta as it is in the tree, built by the harness. No server is needed.
func TestDurableMeasuresAndPrintsEveryPart(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, timeOfQuick)
	out := quickDurable(t)
	for _, want := range []string{
		"cores", "one task a call", "128 tasks at once", "Posta, `posta up`", "while finished tasks are deleted",
		"Enqueue to done", "2 000 waiting", "Resident memory", "kill -9",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
}

func TestDurablePrintsEveryRoundAsJSON(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, timeOfQuick)
	out := quickDurable(t, "--only", "rate", "--json")
	var got struct {
		Sections []struct {
			Name string
			Data []standing
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(got.Sections) != 2 || len(got.Sections[0].Data) != 2 {
		t.Fatalf("incomplete: %s", out)
	}
	if one := got.Sections[0].Data[0]; len(one.Samples) != 1 || one.Samples[0].Rate <= 0 || one.Ratio.Median != 1 {
		t.Errorf("nothing measured: %+v", one)
	}
}

// statementOfATask is a statement in the table of TestClusterCountsStatementsAndMessages, with how often it ran and its rows.
var statementOfATask = regexp.MustCompile(`[a-z] \d+\.\d{3} \(\d+\.\d{2}\)`)

// Three nodes and one that works none, on real servers.
func TestClusterCountsStatementsAndMessages(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, 2*timeOfQuick)
	testenv.Need(t, "rabbitmqctl")
	var out, progress bytes.Buffer
	args := []string{"--quick", "--peers", "none", "--only", "rate,statements,passed"}
	if err := Run(t.Context(), Cluster(), args, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	for _, want := range []string{"Posta, three nodes", "Posta, by a node that works none", "statements a task", "finished tasks"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "| 0.000") {
		t.Errorf("nothing was counted:\n%s", &out)
	}
	// Which statements are frequent depends on the load, so only their form is known.
	if !statementOfATask.MatchString(out.String()) {
		t.Errorf("no statement has a count and rows:\n%s", &out)
	}
}

func TestWrongFlagsOfDurableAreRefusedByName(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"--only nothing": `no part "nothing"`,
		"--peers kafka":  `no peer "kafka"`,
		"--rounds 0":     "must be positive",
		"--backlog 1":    "at least 16",
		"and more":       `unexpected argument "and"`,
	} {
		kind := Durable()
		_, err := kind.parse(strings.Fields(args), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", args, err, want)
		}
	}
}
