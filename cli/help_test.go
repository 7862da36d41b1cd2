package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
)

// TestTheManualSaysWhatTheHelpSays holds docs/cli.md to the help texts, from which it
// is made.
func TestTheManualSaysWhatTheHelpSays(t *testing.T) {
	t.Parallel()
	var page strings.Builder
	page.WriteString(`# The command line

One binary, ` + "`posta`" + `. This page is generated from its help texts:
` + "`go test ./cli -update`" + ` writes it.

Results go to stdout; logs, hints and progress to stderr. An error is printed as
` + "`posta: error: …`" + `, usually followed by ` + "`posta: hint: …`" + ` with what to do.
A command that sends tasks connects to ` + "`--to`" + ` or ` + "`POSTA_TO`" + `, and sends the token in
` + "`POSTA_TOKEN`" + `. Every flag of a server has an environment variable of the same name:
` + "`--drain-delay`" + ` is ` + "`POSTA_DRAIN_DELAY`" + `.
`)
	eachVerb(newRoot(&terminal.Outside{}), func(cmd *cobra.Command) {
		fmt.Fprintf(&page, "\n## %s\n\n```text\n%s```\n", cmd.CommandPath(), helpOf(t, cmd))
	})
	golden(t, "../docs/cli.md", page.String())
}

// TestEveryVerbHasAnExample keeps the promise of `posta help`.
func TestEveryVerbHasAnExample(t *testing.T) {
	t.Parallel()
	eachVerb(newRoot(&terminal.Outside{}), func(cmd *cobra.Command) {
		if cmd.Runnable() && cmd.Example == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		if cmd.Short == "" {
			t.Errorf("%s has no short description", cmd.CommandPath())
		}
	})
}

// TestEveryFlagOfAServerHasAnEnvironmentVariable reads the help, which must name the variable.
func TestEveryFlagOfAServerHasAnEnvironmentVariable(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"up", "node", "balancer run", "balancer nginx", "balancer haproxy"} {
		cmd, _, err := newRoot(&terminal.Outside{}).Find(strings.Fields(verb))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(cmd.Flags().FlagUsages()) {
			if !strings.Contains(line, "[$POSTA_") && !strings.Contains(line, "--help") {
				t.Errorf("posta %s: no environment variable: %s", verb, line)
			}
		}
	}
}

// eachVerb visits the verbs, the first ones first.
func eachVerb(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, verb := range cmd.Commands() {
		if verb.Name() != "completion" && verb.Name() != "help" {
			eachVerb(verb, visit)
		}
	}
}

func helpOf(t *testing.T, cmd *cobra.Command) string {
	t.Helper()
	var text bytes.Buffer
	cmd.SetOut(&text)
	if err := cmd.Help(); err != nil {
		t.Fatal(err)
	}
	return text.String()
}
