package batch_test

import (
	"context"
	"slices"
	"testing"

	"github.com/posta-tasks/posta/durable/batch"
	"github.com/posta-tasks/posta/task"
)

func TestACallThatOneItemSpoilsIsMadeAgainWithoutIt(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		n       int
		culprit []int
		most    int // calls
	}{
		{1, nil, 1}, {1, []int{0}, 1}, {2, []int{1}, 3}, {1000, nil, 1}, {1000, []int{0}, 21}, {1000, []int{999}, 21}, {1000, []int{3, 500, 501}, 63}, {5, []int{0, 1, 2, 3, 4}, 9},
	} {
		calls, answered := 0, make([]int, test.n)
		errs := batch.Isolate(t.Context(), test.n, nil, func(from, to int) error {
			calls++
			for i := from; i < to; i++ {
				if slices.Contains(test.culprit, i) {
					return task.Refuse(task.Internal, "poison")
				}
			}
			for i := from; i < to; i++ {
				answered[i]++
			}
			return nil
		})
		if calls > test.most || (errs == nil) != (test.culprit == nil) {
			t.Errorf("%d of %d: %d calls, %v", len(test.culprit), test.n, calls, errs != nil)
		}
		for i := range test.n {
			guilty := slices.Contains(test.culprit, i)
			if guilty != (answered[i] == 0) || answered[i] > 1 || guilty != (errs != nil && errs[i] != nil) {
				t.Errorf("%v of %d: item %d was answered %d times", test.culprit, test.n, i, answered[i])
			}
		}
	}
}

func TestAStoreThatIsAwayIsNotAskedAgainForParts(t *testing.T) {
	t.Parallel()
	for _, code := range []task.Code{task.Unavailable, task.UnknownOutcome, task.Overloaded, task.Draining} {
		calls := 0
		errs := batch.Isolate(t.Context(), 10, nil, func(int, int) error { calls++; return task.Refuse(code, "away") })
		if calls != 1 || len(errs) != 10 || task.CodeOf(errs[9]) != code {
			t.Errorf("%s: %d calls, %v", code, calls, errs)
		}
	}
	// It goes away while the parts are asked for: an earlier call may have changed their items.
	calls := 0
	errs := batch.Isolate(t.Context(), 8, task.Refuse(task.UnknownOutcome, "not tried alone"), func(from, to int) error {
		calls++
		switch {
		case from == 0 && to > 1:
			return task.Refuse(task.Internal, "poison")
		case from == 0:
			return task.Refuse(task.Internal, "poison")
		}
		return task.Refuse(task.Unavailable, "away")
	})
	if calls != 5 || task.CodeOf(errs[0]) != task.Internal || task.CodeOf(errs[1]) != task.UnknownOutcome || task.CodeOf(errs[7]) != task.UnknownOutcome {
		t.Errorf("%d calls, %v", calls, errs)
	}
}

func TestInnocentItemsAreNotBlamedWhenTheTimeRunsOut(t *testing.T) {
	t.Parallel()
	unresolved := task.Refuse(task.Unavailable, "not tried alone")
	for calls, want := range map[int][4]task.Code{ // item 0 is faulty
		1: {task.Unavailable, task.Unavailable, task.Unavailable, task.Unavailable},
		2: {task.Unavailable, task.Unavailable, task.Unavailable, task.Unavailable},
		3: {task.Internal, task.Unavailable, task.Unavailable, task.Unavailable},
		4: {task.Internal, "", "", ""},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		errs := batch.Isolate(ctx, 4, unresolved, func(from, to int) error {
			if n++; n == calls {
				cancel()
			}
			if from == 0 {
				return task.Refuse(task.Internal, "poison")
			}
			return nil
		})
		for i, err := range errs {
			if err == nil && want[i] != "" || err != nil && task.CodeOf(err) != want[i] {
				t.Errorf("the time is over after %d calls: item %d is refused with %v, want %q", calls, i, err, want[i])
			}
		}
		cancel()
	}
}
