package cli

import (
	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
)

func newResume(out *terminal.Outside) *cobra.Command {
	return pauseVerb(out, false, (*client.Client).Resume, &cobra.Command{
		Use:   "resume QUEUE",
		Short: "Start the tasks of a paused queue again",
		Long: `Resumes a queue after ` + "`posta pause`" + `: its tasks are started again. Resuming a queue that
is not paused changes nothing. A queue that does not exist is refused.`,
		Example: `  posta resume mail
  posta resume mail --json`,
	})
}
