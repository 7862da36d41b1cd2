package cli

import (
	"context"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/internal/testenv"
)

// typed is what came of a command line.
type typed struct {
	code   int
	stdout string
	stderr string
}

// typeIn runs a command line in this process. The words of env are NAME=value.
func typeIn(t *testing.T, stdin string, env []string, args ...string) typed {
	t.Helper()
	var stdout, stderr testenv.Buffer
	code := run(t.Context(), &terminal.Outside{
		Args: args, Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: &stderr, Env: env,
	}, actions.Builtin()...)
	return typed{code, stdout.String(), stderr.String()}
}

func TestASignalEndsAVerbWithItsNumber(t *testing.T) {
	t.Parallel()
	node := answering(t, func(c *fakeConn) { c.silent() })
	ctx, cancel := context.WithCancelCause(t.Context())
	node.onLine = func() { cancel(signalled{15}) }
	var stdout, stderr testenv.Buffer
	code := run(ctx, &terminal.Outside{Args: []string{"demo", "--to", node.addr}, Stdout: &stdout, Stderr: &stderr})
	if code != 143 || !strings.Contains(stderr.String(), "posta: error: stopped by terminated") {
		t.Errorf("code %d, stderr %q", code, stderr.String())
	}
}
