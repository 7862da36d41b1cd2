package main

import "github.com/posta-tasks/posta/actions"

// builtin lists the actions of this binary.
func builtin() []actions.Action { return actions.Builtin() }
