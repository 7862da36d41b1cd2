//go:build chaos

package main

import (
	"os"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/chaos/deeds"
)

// builtin lists the actions of this binary, which is built for chaos: also those that its
// tasks do, if there is a file for their journal.
func builtin() []actions.Action {
	journal := os.Getenv("POSTA_CHAOS_JOURNAL")
	if journal == "" {
		return actions.Builtin()
	}
	more, err := deeds.Actions(journal)
	if err != nil {
		panic(err) // a run without its journal would prove nothing
	}
	return append(actions.Builtin(), more...)
}
