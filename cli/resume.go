package cli

import (
	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
)

func newResume(out *terminal.Outside) *cobra.Command {
	return doorVerb(out, false, (*client.Client).Resume, &cobra.Command{
		Use:   "resume QUEUE",
		Short: "Let the tasks of a paused queue be started again",
		Long: `Undoes ` + "`posta pause`" + `: the tasks of the queue are started again. A queue that is not
paused stays so. A queue that is not there is refused.`,
		Example: `  posta resume mail
  posta resume mail --json`,
	})
}
