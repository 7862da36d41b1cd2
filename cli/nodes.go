package cli

import (
	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/doctor"
	"github.com/posta-tasks/posta/cli/terminal"
)

func newNodes(out *terminal.Outside) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "nodes",
		GroupID: groupLook,
		Short:   "List the live nodes and what they can run",
		Long: `Lists the live nodes that share the store: how many tasks each runs at once, which
queues it works, which actions it has, when it started, when it last renewed its entry
in the store, and at which address other nodes reach it (--advertise). A node renews its
entry every 5 s. It disappears from the list if it has not done so for 15 s. The command
needs a node with a store.`,
		Example: `  posta nodes
  posta nodes --json`,
		Args: arguments(0, 0),
	}
	addListing(out, cmd, doctor.System.Nodes, printNodes)
	return cmd
}
