package postgres

import (
	"testing"

	"github.com/posta-tasks/posta/task"
)

// TestAnAcceptThatFailsAfterStoringSomeTasksIsAnUnknownOutcome: unavailable would promise that nothing was
// done.
func TestAnAcceptThatFailsAfterStoringSomeTasksIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		stored    bool
		code, now task.Code
	}{
		{false, task.Unavailable, task.Unavailable},
		{true, task.Unavailable, task.UnknownOutcome},
		{true, task.UnknownOutcome, task.UnknownOutcome},
		{true, task.Internal, task.Internal},
	} {
		a := &accepting{stored: test.stored}
		if got := task.CodeOf(a.partlyStored(task.Refuse(test.code, "the database did not answer"))); got != test.now {
			t.Errorf("stored %v, %s: %s, want %s", test.stored, test.code, got, test.now)
		}
	}
}
