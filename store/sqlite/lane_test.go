package sqlite

import (
	"fmt"
	"slices"
	"testing"

	"github.com/posta-tasks/posta/task"
)

func queued(id string) *task.Task { return &task.Task{ID: id, Action: "upper"} }

func TestAWindowContainsTheLowestIDsOfItsLane(t *testing.T) {
	t.Parallel()
	ws := laneWindows{}
	of := lane{number: laneNumber(1, 0), Action: "upper"}
	ws.Queued(1, queued("z")) // no claim has asked for the lane
	w := ws.Of(of)
	w.IDs, w.Whole = []string{"b", "d"}, true
	for _, id := range []string{"c", "e", "c"} {
		ws.Queued(1, queued(id))
	}
	if want := []string{"b", "c", "d", "e"}; !slices.Equal(w.IDs, want) {
		t.Errorf("got %v, want %v", w.IDs, want)
	}
	w.Whole = false
	ws.Queued(1, queued("f")) // tasks before it may not have been read
	ws.Gone(1, queued("c"))
	ws.Gone(2, queued("d"))
	if want := []string{"b", "d", "e"}; !slices.Equal(w.IDs, want) {
		t.Errorf("got %v, want %v", w.IDs, want)
	}
}

func TestAWindowIsBounded(t *testing.T) {
	t.Parallel()
	ws := laneWindows{}
	w := ws.Of(lane{number: laneNumber(1, 0), Action: "upper"})
	w.Whole = true
	for i := range 3 * windowSize {
		ws.Queued(1, queued(fmt.Sprintf("%06d", i)))
	}
	if len(w.IDs) > 2*windowSize || w.Whole {
		t.Errorf("%d ids, whole %v", len(w.IDs), w.Whole)
	}
}
