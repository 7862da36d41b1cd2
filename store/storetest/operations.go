package storetest

import (
	"slices"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// operations is about changes of many tasks.
func operations() sentences {
	save := func(f *fixture, op task.Operation) bool {
		f.Helper()
		return must[bool](f)(f.SaveOperation(f.Context(), op))
	}
	listed := func(f *fixture) []task.Operation {
		f.Helper()
		return must[[]task.Operation](f)(f.Operations(f.Context()))
	}
	return sentences{
		"an operation is kept as it was written last, with the time of the store": func(f *fixture) {
			began := time.UnixMilli(1_700_000_000_000).UTC()
			op := task.Operation{ID: ulid(1), Change: task.Cancel, Filter: "tasks?state=queued&action=ñ", Who: "ana", Node: "n1", Began: began}
			f.want("asked to stop", save(f, op), false)
			first := listed(f)[0]
			f.clock.Advance(time.Minute)
			op.Matched, op.Changed, op.Refused, op.More, op.Ended, op.Error, op.IDs = 5, 3, 1, true, began.Add(time.Second), "x", []string{ulid(7)}
			save(f, op)
			got := listed(f)[0]
			if first.Seen.IsZero() || !got.Seen.After(first.Seen) || got.Silent > time.Second {
				f.Errorf("seen %s, then %s, %s ago", first.Seen, got.Seen, got.Silent)
			}
			got.Seen, got.Silent = time.Time{}, 0
			f.want("operation", got, op)
			f.want("left", got.Left(), 1)
			f.clock.Advance(time.Minute)
			if silent := listed(f)[0].Silent; silent < time.Minute {
				f.Errorf("silent for %s after a minute", silent)
			}
		},
		"an operation that was asked to stop learns it when it is written": func(f *fixture) {
			save(f, task.Operation{ID: ulid(1)})
			save(f, task.Operation{ID: ulid(2)})
			if err := f.StopOperation(f.Context(), ulid(1)); err != nil {
				f.Fatal(err)
			}
			f.want("stopping", []bool{listed(f)[1].Stopping, listed(f)[0].Stopping}, []bool{true, false})
			f.want("the one", save(f, task.Operation{ID: ulid(1)}), true)
			f.want("the other", save(f, task.Operation{ID: ulid(2)}), false)
			f.want("none", task.CodeOf(f.StopOperation(f.Context(), ulid(3))), store.NoOperation("").Code)
		},
		"the newest operations are kept, and all that go on": func(f *fixture) {
			ended := time.UnixMilli(1_700_000_000_000).UTC()
			save(f, task.Operation{ID: ulid(0)})
			f.done(f.StopOperation(f.Context(), ulid(0)))
			f.clock.Advance(2 * task.OperationSilence)
			save(f, task.Operation{ID: ulid(1)})
			f.done(f.StopOperation(f.Context(), ulid(1)))
			for i := range task.MaxOperations {
				save(f, task.Operation{ID: ulid(2 + i), Ended: ended})
			}
			f.want("the oldest ended one", slices.ContainsFunc(listed(f), func(op task.Operation) bool { return op.ID == ulid(3) }), false)
			f.want("stopping", save(f, task.Operation{ID: ulid(1)}), true)
			f.want("number", len(listed(f)), task.MaxOperations)
			for i := range task.MaxOperations - 1 {
				save(f, task.Operation{ID: ulid(200 + i)})
			}
			list := listed(f)
			f.want("lost ones", []any{len(list), list[len(list)-1].ID}, []any{task.MaxOperations, ulid(1)})
			save(f, task.Operation{ID: ulid(400)})
			f.want("those that go on", len(listed(f)), task.MaxOperations+1)
		},
	}
}
