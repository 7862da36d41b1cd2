package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
)

// demoPatience is how long the demo waits for the next reply.
const demoPatience = 10 * time.Second

// demoTasks are four tasks that show what Posta does.
const demoTasks = `{"id":1,"action":"echo","payload":"hola"}
{"id":2,"action":"upper","payload":"texto de prueba"}
{"id":3,"action":"sleep","payload":0.5}
{"id":4,"action":"fib","payload":25}
`

func newDemo(out *terminal.Outside) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "demo",
		GroupID: groupSend,
		Short:   "Send four tasks and print the replies as they come",
		Long: `Sends four tasks at once over one connection, and prints the reply lines as they
arrive. The replies arrive in the order in which the tasks finish, so the task that
sleeps is last. The exit code is 0 if all four are done.`,
		Example: `  posta demo
  posta demo --to 192.0.2.7:9000`,
		Args: arguments(0, 0),
	}
	to := addTarget(out, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return demo(cmd.Context(), out, to) }
	return cmd
}

// demo sends the four tasks and reads their replies.
func demo(ctx context.Context, out *terminal.Outside, to *target) error {
	conn, err := to.Dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if out.TalksToTerminal() {
		for line := range strings.Lines(demoTasks) {
			out.Talk("→ %s", strings.TrimSpace(line))
		}
	}
	if _, err := conn.Write([]byte(demoTasks)); err != nil {
		return to.Lost(err)
	}
	failed := 0
	for range strings.Count(demoTasks, "\n") {
		fault, err := demoReply(out, to, conn)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if fault {
			failed++
		}
	}
	if failed > 0 {
		return fail(exitFailed, "", "%d of the four tasks failed", failed)
	}
	return nil
}

// demoReply reads and prints one reply and reports whether the task failed. A refusal, for example because a token
// is missing, is an error.
func demoReply(out *terminal.Outside, to *target, conn *lineConn) (bool, error) {
	if err := conn.SetReadDeadline(time.Now().Add(demoPatience)); err != nil {
		return false, to.Lost(err)
	}
	line, err := conn.ReadLine()
	if err != nil {
		return false, to.Lost(err)
	}
	if _, err := out.Results().Write(line); err != nil {
		return false, err
	}
	r, err := readReply(line)
	if err != nil {
		return false, to.Strange(line)
	}
	if r.Refused() {
		return false, r.Refusal()
	}
	return r.Fault() != "", nil
}
