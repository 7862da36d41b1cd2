//go:build !linux

package command

import (
	"context"
	"errors"

	"github.com/posta-tasks/posta/actions"
)

// Supported reports whether this system can run commands. Only on Linux can a node guarantee that no process of a
// program remains.
const Supported = false

// Check reports no limit.
func (Limits) Check() (string, error) { return "", nil }

// Runner runs no programs on this system.
type Runner struct{}

// NewRunner returns a Runner.
func NewRunner() *Runner { return &Runner{} }

// Close does nothing.
func (*Runner) Close() {}

// Action returns an action that always fails.
func (*Runner) Action(Command) actions.AppendFunc {
	return func(_ context.Context, _ *actions.Call, dst []byte) ([]byte, error) {
		return dst, actions.Permanent(errors.New("commands run on Linux only"))
	}
}
