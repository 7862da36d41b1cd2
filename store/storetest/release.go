package storetest

import (
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// release gives a task back.
func (f *fixture) release(t task.Task, edits ...func(*store.Outcome)) task.Task {
	f.Helper()
	o := store.Outcome{ID: t.ID, Fence: t.Fence, Change: task.Release}
	for _, e := range edits {
		e(&o)
	}
	got := f.outcome(o)
	f.want("stale", got.Stale, false)
	return got.Task
}

func later(d time.Duration) func(*store.Outcome) { return func(o *store.Outcome) { o.Delay = d } }
func uncounted(o *store.Outcome)                 { o.Uncounted = true }
func notEntered(o *store.Outcome)                { o.Unentered = true }

// releases is about tasks that are given back for later, or without counting the attempt.
func releases() sentences {
	return sentences{
		"a task that is released with a delay is scheduled": func(f *fixture) {
			t := f.start()
			got := f.release(t, later(time.Minute))
			f.want("answer", []any{got.State, got.Attempt, got.Failures, got.Suspect}, []any{task.Scheduled, 1, 0, false})
			if wait := got.RunAt.Sub(got.History[0].At); wait < 59*time.Second || wait > 61*time.Second {
				f.Errorf("the task waits for %s", wait)
			}
			f.want("promoted", len(f.after(59*time.Second).Promoted), 0)
			f.want("promoted", ids(f.after(time.Second).Promoted), []string{t.ID})
			f.want("timeline", timeline(f.get(t)), "queued/0 running/1@n1 scheduled/1@n1 queued/1")
			f.want("flaw", flaw(f.get(t)), "")
			f.want("attempt", f.take().Attempt, 2)
			f.sameCounts()
		},
		"a task that was not entered can be given back for later": func(f *fixture) {
			f.accept(f.within(time.Hour))
			t := f.reserve()
			got := f.release(t, notEntered, later(time.Minute))
			f.want("answer", []any{got.State, got.Attempt, got.Reserved}, []any{task.Scheduled, 0, ""})
			f.want("timeline", timeline(f.get(t)), "queued/0 scheduled/0")
			f.sameCounts()
			f.want("claimed", len(f.claim()), 0)
			f.want("promoted", ids(f.after(time.Minute).Promoted), []string{t.ID})
			f.want("attempt", f.take().Attempt, 1)
		},
		"a task that was not entered expires although it was given back for later": func(f *fixture) {
			t := f.accept(f.within(time.Minute))
			f.release(f.reserve(), notEntered, later(time.Hour))
			f.want("expired", ids(f.after(time.Minute).Expired), []string{t.ID})
			f.want("code", f.state(t, task.Failed).Code, task.Expired)
			f.sameCounts()
		},
		"a task that is released with a delay can be cancelled or started at once": func(f *fixture) {
			cancelled, started := f.start(), f.start()
			f.release(cancelled, later(time.Hour))
			f.release(started, later(time.Hour))
			f.cancel(cancelled)
			f.state(cancelled, task.Cancelled)
			f.retry(started)
			f.want("attempt", f.take().Attempt, 2)
			f.sameCounts()
		},
		"an uncounted release takes the attempt back": func(f *fixture) {
			t := f.start()
			for round := 1; round <= 3; round++ {
				got := f.release(f.get(t), uncounted)
				f.want("answer", []any{got.State, got.Attempt, got.Fence, got.Failures}, []any{task.Queued, 0, round, 0})
				f.want("reserved", f.reserve().Attempt, 0)
				f.enter(f.get(t))
				f.want("attempt", f.get(t).Attempt, 1)
			}
			f.end(f.get(t), task.Succeed)
			got := f.get(t)
			f.want("timeline", timeline(got), "queued/0 running/1@n1 queued/0@n1 running/1@n1 queued/0@n1 running/1@n1 queued/0@n1 running/1@n1 done/1@n1")
			f.want("flaw", flaw(got), "")
			f.want("errors", []string{got.History[2].Error, got.History[8].Error}, []string{"", ""})
			f.sameCounts()
		},
		"an uncounted release may have a delay": func(f *fixture) {
			t := f.start()
			got := f.release(t, uncounted, later(time.Minute))
			f.want("answer", []any{got.State, got.Attempt}, []any{task.Scheduled, 0})
			f.after(time.Minute)
			f.want("attempt", f.take().Attempt, 1)
			f.want("timeline", timeline(f.get(t)), "queued/0 running/1@n1 scheduled/0@n1 queued/0 running/1@n1")
			f.want("flaw", flaw(f.get(t)), "")
		},
		"an attempt that is entered by its release is taken back, too": func(f *fixture) {
			for _, d := range []time.Duration{0, time.Minute} {
				f.accept()
				t := f.reserve()
				got := f.release(t, uncounted, later(d))
				f.want("attempt", got.Attempt, 0)
				f.want("entries", len(f.get(t).History), 3)
				f.after(d)
				again := f.take()
				f.want("attempt", []any{again.ID, again.Attempt}, []any{t.ID, 1})
				f.end(again, task.Succeed)
			}
			f.sameCounts()
		},
		"a claim that is given back before it was entered has no attempt to take back": func(f *fixture) {
			f.end(f.start(), task.Release)
			t := f.reserve()
			f.want("attempt", f.release(t, notEntered, uncounted).Attempt, 1)
			f.want("entries", len(f.get(t).History), 3)
			f.want("attempt", f.release(f.reserve(), notEntered, uncounted, later(time.Second)).Attempt, 1)
		},
		"reports for a claim that was released are stale": func(f *fixture) {
			for _, edits := range [][]func(*store.Outcome){{uncounted}, {uncounted, later(time.Second)}, {later(time.Second)}} {
				f.accept()
				t := f.reserve()
				f.release(t, edits...)
				enter := []store.Entered{{ID: t.ID, Fence: 1}}
				f.want("entered late", must[[]store.Recorded](f)(f.Enter(f.Context(), enter))[0].Stale, true)
				f.want("recorded late", f.end(t, task.Succeed).Stale, true)
				f.want("released again", f.end(t, task.Release).Stale, true)
				f.after(time.Second)
				again := f.reserve()
				f.want("entered late", must[[]store.Recorded](f)(f.Enter(f.Context(), enter))[0].Stale, true)
				f.want("task", []any{again.ID, again.Fence}, []any{t.ID, 2})
				f.enter(again)
				f.want("entered late", must[[]store.Recorded](f)(f.Enter(f.Context(), enter))[0].Stale, true)
				f.end(f.get(t), task.Succeed)
				f.want("flaw", flaw(f.get(t)), "")
			}
		},
		"a task without an attempt left may expire again": func(f *fixture) {
			expires := f.accept(f.within(time.Minute))
			f.release(f.take(), uncounted)
			f.want("expired", ids(f.after(time.Minute).Expired), []string{expires.ID})
			scheduled := f.accept(f.within(time.Minute))
			f.release(f.take(), uncounted, later(time.Hour))
			f.want("expired", ids(f.after(time.Minute).Expired), []string{scheduled.ID})
			started := f.accept(f.within(time.Minute))
			f.end(f.take(), task.Release)
			f.release(f.take(), uncounted)
			f.want("expired", len(f.after(time.Hour).Expired), 0)
			f.want("attempt", f.get(started).Attempt, 1)
			f.sameCounts()
		},
		"an uncounted release leaves a suspect a suspect, and makes none": func(f *fixture) {
			t := suspect(f, 1)[0]
			f.take(isolated)
			f.dies()
			f.release(f.take(isolated), uncounted)
			f.reaped(t, true, 1)
			f.release(f.take(isolated), uncounted, later(time.Second))
			f.want("suspect", f.state(t, task.Scheduled).Suspect, true)
			f.after(time.Second)
			f.want("ordinary", len(f.claim()), 0)
			f.release(f.reserve(isolated), notEntered, later(time.Second))
			f.after(time.Second)
			f.release(f.take(isolated), later(time.Second))
			f.want("suspect", f.state(t, task.Scheduled).Suspect, false)
		},
		"an uncounted release leaves the failures, the error and the progress": func(f *fixture) {
			t := f.start()
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Again, Error: "busy"})
			f.after(0)
			f.take()
			f.renew("n1", store.Held{ID: t.ID, Fence: 2, Progress: &task.Progress{Percent: 40}})
			got := f.release(f.get(t), uncounted)
			f.want("task", []any{got.Failures, got.Attempt, got.Code, got.Error, got.Progress.Percent}, []any{1, 1, task.ActionFailed, "busy", 40.0})
		},
		"a task that was asked to stop is cancelled when it is released": func(f *fixture) {
			for _, edits := range [][]func(*store.Outcome){{uncounted}, {later(time.Hour)}, {notEntered, later(time.Hour)}} {
				f.accept()
				t := f.reserve()
				f.cancel(t)
				f.want("answer", f.release(t, edits...).State, task.Cancelled)
				f.want("flaw", flaw(f.get(t)), "")
			}
			f.sameCounts()
		},
		"a long history remembers which attempts were taken back": func(f *fixture) {
			t := f.accept()
			for range task.HistoryEntries {
				f.release(f.take(), uncounted)
			}
			f.end(f.take(), task.Release)
			got := f.get(t)
			f.want("attempt", got.Attempt, 1)
			f.want("flaw", flaw(got), "")
			f.want("attempt", f.take().Attempt, 2)
		},
		"no error of an attempt is mistaken for a mark": func(f *fixture) {
			for _, why := range []string{"\x00", "\x00-", "\x00\x00-"} {
				t := f.start()
				f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Again, Error: why, Delay: time.Hour})
				f.want("task", []any{f.get(t).Attempt, flaw(f.get(t))}, []any{1, ""})
			}
		},
	}
}
