package storetest

import (
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

func record() sentences {
	return sentences{
		"a success has its result and no error": func(f *fixture) {
			t := f.start()
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Again, Error: "no"})
			f.after(0)
			result := task.Body{Inline: []byte(`{"ok":true,"n":12345678901234567890}`)}
			answer := f.outcome(store.Outcome{ID: t.ID, Fence: f.take().Fence, Change: task.Succeed, Result: result})
			got := f.state(t, task.Done)
			f.want("result", string(got.Result.Inline), string(result.Inline))
			f.want("answered", string(answer.Task.Result.Inline), string(result.Inline))
			f.want("rest", []any{got.Code, got.Error, got.Attempt, got.Lease.IsZero(), got.FinishedAt.IsZero()},
				[]any{task.Code(""), "", 2, true, false})
		},
		"a result can be a blob": func(f *fixture) {
			t := f.start()
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Succeed, Result: task.Body{Size: 9, SHA256: "ab"}})
			f.want("result", f.get(t).Result, task.Body{Size: 9, SHA256: "ab"})
		},
		"a failure has its code and its error": func(f *fixture) {
			t := f.start()
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Fail, Code: task.TimedOut, Error: "too slow"})
			got := f.state(t, task.Failed)
			f.want("failure", []any{got.Code, got.Error, got.Failures}, []any{task.TimedOut, "too slow", 1})
		},
		"a failure without a code has the code action_failed": func(f *fixture) {
			t := f.start()
			f.end(t, task.Fail)
			f.want("code", f.get(t).Code, task.ActionFailed)
		},
		"a task whose attempt failed waits for its delay and keeps the error": func(f *fixture) {
			t := f.start()
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Again, Error: "busy", Delay: time.Minute})
			got := f.state(t, task.Scheduled)
			at := got.History[len(got.History)-1].At.Add(time.Minute)
			f.want("task", []any{got.Failures, got.Error, got.RunAt}, []any{1, "busy", at})
			f.want("claimed", len(f.claim()), 0)
			f.want("promoted", ids(f.after(time.Minute).Promoted), []string{t.ID})
			f.want("attempt", f.take().Attempt, 2)
		},
		"the failure of the last attempt is final, even if the node asks for another": func(f *fixture) {
			t := f.start(func(t *task.Task) { t.MaxAttempts = 2 })
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Again})
			f.after(0)
			f.take()
			f.outcome(store.Outcome{ID: t.ID, Fence: 2, Change: task.Again, Code: task.TimedOut, Error: "slow"})
			got := f.state(t, task.Failed)
			f.want("failure", []any{got.Failures, got.Code, got.Error}, []any{2, task.TimedOut, "slow"})
		},
		"a released task is queued at once, and nothing is counted": func(f *fixture) {
			t := f.start()
			f.end(t, task.Release)
			got := f.state(t, task.Queued)
			f.want("counted", []any{got.Failures, got.Crashes, got.Suspect, got.Lease.IsZero()}, []any{0, 0, false, true})
		},
		"an attempt can end cancelled or crashed": func(f *fixture) {
			a, b := f.start(), f.start()
			f.end(a, task.Cancel)
			f.end(b, task.Crash)
			f.state(a, task.Cancelled)
			f.want("code", f.state(b, task.Failed).Code, task.Crashed)
		},
	}
}

func stale() sentences {
	return sentences{
		"the outcome of an earlier attempt is stale and writes nothing": func(f *fixture) {
			t := f.start()
			f.dies()
			f.claim(isolated)
			before := f.get(t)
			for _, o := range []task.Change{task.Succeed, task.Fail, task.Again, task.Release, task.Crash, task.Cancel} {
				answer := f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: o, Error: "late"})
				f.want("stale", []any{answer.Stale, answer.Task.Fence}, []any{true, 2})
			}
			f.want("task", f.get(t), before)
			f.want("stale", f.end(task.Task{ID: t.ID, Fence: 3}, task.Succeed).Stale, true)
			f.want("stale", f.end(task.Task{ID: t.ID, Fence: 2}, task.Succeed).Stale, false)
		},
		"a result is recorded once": func(f *fixture) {
			t := f.start()
			one := store.Outcome{ID: t.ID, Fence: 1, Change: task.Succeed, Result: task.Body{Inline: []byte("1")}}
			two := store.Outcome{ID: t.ID, Fence: 1, Change: task.Succeed, Result: task.Body{Inline: []byte("2")}}
			got := must[[]store.Recorded](f)(f.Record(f.Context(), []store.Outcome{one, two}))
			f.want("stale", []bool{got[0].Stale, got[1].Stale, f.outcome(two).Stale}, []bool{false, true, true})
			f.want("result", string(f.get(t).Result.Inline), "1")
		},
		"an outcome after the end of the lease is recorded if the task was not reaped": func(f *fixture) {
			t := f.start()
			f.clock.Advance(time.Hour)
			f.want("stale", f.end(t, task.Succeed).Stale, false)
		},
		"the caller may reuse the bytes of a result": func(f *fixture) {
			t, result := f.start(), []byte("1")
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Succeed, Result: task.Body{Inline: result}})
			result[0] = 'X'
			f.want("result", string(f.get(t).Result.Inline), "1")
		},
		"a batch may have outcomes of every kind": mixedOutcomes,
		"a change that is no outcome makes the whole call fail": func(f *fixture) {
			t := f.start()
			for _, c := range []task.Change{task.Claim, task.Enter, task.Promote, task.Reap, task.Postpone, task.Expire, task.Retry, ""} {
				_, err := f.Record(f.Context(), []store.Outcome{{ID: t.ID, Fence: 1, Change: task.Succeed}, {ID: t.ID, Fence: 1, Change: c}})
				if err == nil || task.CodeOf(err) != task.Internal {
					f.Errorf("outcome %q: %v", c, err)
				}
			}
			f.state(t, task.Running)
		},
	}
}

func mixedOutcomes(f *fixture) {
	var batch []store.Outcome
	for _, c := range []task.Change{task.Succeed, task.Fail, task.Again, task.Release, task.Cancel} {
		batch = append(batch, store.Outcome{ID: f.start().ID, Fence: 1, Change: c})
		if c == task.Again {
			batch[len(batch)-1].Delay = time.Hour
		}
	}
	for _, o := range []store.Outcome{{Delay: time.Hour}, {Uncounted: true}, {Delay: time.Hour, Uncounted: true}} {
		o.ID, o.Fence, o.Change = f.start().ID, 1, task.Release
		batch = append(batch, o)
	}
	batch = append(batch, store.Outcome{ID: f.accept().ID, Fence: 0, Change: task.Succeed},
		store.Outcome{ID: ulid(99), Fence: 1, Change: task.Fail})
	var states []task.State
	var stale []bool
	for _, r := range must[[]store.Recorded](f)(f.Record(f.Context(), batch)) {
		states, stale = append(states, r.Task.State), append(stale, r.Stale)
	}
	f.want("states", states, []task.State{
		task.Done, task.Failed, task.Scheduled, task.Queued, task.Cancelled, task.Scheduled, task.Queued, task.Scheduled, task.Queued, "",
	})
	f.want("stale", stale, []bool{false, false, false, false, false, false, false, false, true, true})
}

// table tries every change in every state. The change must be made exactly if the table of package task allows
// it; otherwise the task must stay as it was.
func table() sentences {
	tests := sentences{}
	for _, change := range task.Changes() {
		tests[string(change)+" is made only in the states that allow it"] = func(f *fixture) {
			for _, from := range task.States() {
				before := f.get(f.inState(from, change))
				f.try(change, before)
				after := f.get(before)
				want, allowed := change.Apply(from)
				if allowed && change == task.Cancel && from == task.Running {
					f.want("a running task that was asked to stop", []any{after.State, after.Cancelling}, []any{task.Running, true})
					continue
				}
				f.want(string(change)+" from "+string(from), after.State, want)
				if !allowed {
					f.want("a change that is not allowed", after, before)
				}
			}
		}
	}
	return tests
}

// inState returns a task in a state, prepared for the change that will be tried.
func (f *fixture) inState(s task.State, change task.Change) task.Task {
	f.Helper()
	edits := []edit{}
	if s == task.Scheduled {
		edits = append(edits, f.in(5*time.Second))
	}
	if change == task.Expire {
		edits = append(edits, f.within(5*time.Second))
	}
	t := f.accept(edits...)
	switch {
	case s == task.Queued && change == task.Postpone: // of a claim that was not entered
		t = f.reserve(only(t.ID))
		t.Payload = task.Body{}
	case s != task.Scheduled && s != task.Queued:
		t = f.take(only(t.ID))
	}
	ends := map[task.State]task.Change{task.Done: task.Succeed, task.Failed: task.Fail, task.Cancelled: task.Cancel}
	if end, ok := ends[s]; ok {
		t = f.end(t, end).Task
	}
	return t
}

// try makes a change, or lets time make it.
func (f *fixture) try(change task.Change, t task.Task) {
	f.Helper()
	switch change {
	case task.Promote, task.Expire:
		f.after(5 * time.Second)
	case task.Reap:
		// A scheduled task would be promoted at that time, which is another change.
		if t.State != task.Scheduled {
			f.dies()
		}
	case task.Claim:
		f.claim(only(t.ID))
	case task.Enter:
		f.claim(only(t.ID))
		must[[]store.Recorded](f)(f.Enter(f.Context(), []store.Entered{{ID: t.ID, Fence: f.get(t).Fence}}))
	case task.Cancel:
		f.cancel(t)
	case task.Retry:
		f.retry(t)
	case task.Postpone:
		f.outcome(store.Outcome{ID: t.ID, Fence: t.Fence, Change: task.Release, Unentered: true, Delay: time.Hour})
	case task.Again:
		f.outcome(store.Outcome{ID: t.ID, Fence: t.Fence, Change: change, Delay: time.Hour})
	default:
		f.outcome(store.Outcome{ID: t.ID, Fence: t.Fence, Change: change})
	}
}
