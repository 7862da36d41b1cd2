package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/lab/bench/lab"
)

// TestMain lets the test binary stand in for bench where bench starts itself under another verb.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == verbBare || os.Args[1] == verbIdlers || os.Args[1] == verbWorkers) {
		if err := run(context.Background(), os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// quick runs `bench direct --quick` with more flags and returns what it printed.
func quick(t *testing.T, args ...string) string {
	t.Helper()
	var out, progress bytes.Buffer
	err := run(t.Context(), append([]string{"direct", "--quick"}, args...), streams{strings.NewReader(""), &out, &progress})
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	return out.String()
}

// The harness itself is tried without posta: the bare server is compared with itself.
func TestDirectMeasuresAndPrintsEveryPart(t *testing.T) {
	t.Parallel()
	out := quick(t, "--against", "bare", "--posta", "unused", "--only", "rate,idle,beside,memory")
	for _, want := range []string{"cores", "| 16 × 128 |", "100 of 100", "idle connections beside", "never read", "trial of the harness"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
}

// Posta as it is in the tree, built by the harness, with those balancers in front that are installed.
func TestDirectMeasuresPosta(t *testing.T) {
	t.Parallel()
	out := quick(t, "--only", "rate,balanced,idle,workers,worked")
	for _, want := range []string{"| 16 × 128 |", "built-in", "| Posta ", "100 of 100", "| 1 × 128 ", "20 workers of 4 slots", "Durable tasks through workers"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
}

func TestDirectPrintsEveryRoundAsJSON(t *testing.T) {
	t.Parallel()
	out := quick(t, "--against", "bare", "--posta", "unused", "--only", "rate", "--rounds", "2", "--json")
	var got struct {
		Machine  lab.Machine
		Sections []struct {
			Name string
			Data []rateRow
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if got.Machine.Cores < 1 || len(got.Sections) != 1 || len(got.Sections[0].Data) != 6 {
		t.Fatalf("incomplete: %s", out)
	}
	if row := got.Sections[0].Data[0]; len(row.Posta) != 1 || row.Posta[0].Rate <= 0 || row.Ratio.Median <= 0 {
		t.Errorf("nothing measured: %+v", row)
	}
}

func TestWrongFlagsAreRefusedByName(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"--only nothing":   `no part "nothing"`,
		"--against redis":  `not "redis"`,
		"--rounds 0":       "must be positive",
		"--idle 0":         "must be positive",
		"and more":         `unexpected argument "and"`,
		"--colour":         "not defined",
		"--round sometime": "invalid value",
	} {
		_, err := parseOptions(strings.Fields(args), streams{err: io.Discard})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", args, err, want)
		}
	}
}

func TestUnknownVerbIsRefused(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), []string{"lasting"}, streams{err: io.Discard})
	if err == nil || !strings.Contains(err.Error(), `unknown verb "lasting"`) {
		t.Errorf("got %v", err)
	}
}
