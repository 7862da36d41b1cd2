package mutant_test

import (
	"testing"

	"github.com/posta-tasks/posta/store/postgres/mutant"
	"github.com/posta-tasks/posta/task"
)

func TestNothingIsWrongUnlessATestAsksForIt(t *testing.T) {
	t.Parallel()
	if got := mutant.LeaseTime("n1"); got != task.LeaseTime.Milliseconds() {
		t.Errorf("leases of %d ms", got)
	}
	if mutant.TwinsPass() || mutant.AcceptsAgain() {
		t.Error("the store does what it never does")
	}
}

func TestRenamedTasksHaveIDsOfTheirOwn(t *testing.T) {
	t.Parallel()
	tasks := []task.Task{{ID: "01JD0000000000000000000009"}, {ID: "01JD000000000000000000000Z"}}
	got := mutant.Renamed(tasks)
	if got[0].ID != "01JD000000000000000000000A" || got[1].ID != "01JD0000000000000000000000" || tasks[0].ID == got[0].ID {
		t.Errorf("%v", got)
	}
}
