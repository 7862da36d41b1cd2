// Command node is posta with the actions of a chaos run. They write their journal to the file in
// POSTA_CHAOS_JOURNAL.
package main

import (
	"fmt"
	"os"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/cli"
)

func main() {
	list := actions.Builtin()
	if journal := os.Getenv("POSTA_CHAOS_JOURNAL"); journal != "" {
		more, err := chaosActions(journal)
		if err != nil {
			fmt.Fprintln(os.Stderr, "posta: error:", err) // a run without its journal would prove nothing
			os.Exit(1)
		}
		list = append(list, more...)
	}
	cli.Main(list...)
}
