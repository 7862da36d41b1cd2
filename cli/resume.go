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
		Long: `Undoes ` + "`posta pause`" + `: the tasks of the queue are started again. A queue that is not
paused stays so. A queue that is not there is refused.`,
		Example: `  posta resume mail
  posta resume mail --json`,
	})
}
