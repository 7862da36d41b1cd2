package storetest

import (
	"fmt"
	"slices"
	"sync"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// callers is how many callers act at the same time.
const callers = 8

// together calls do from several goroutines at the same time and waits for them. do must not end the test, so
// callers check errors themselves.
func together(n int, do func(caller int)) {
	var wait sync.WaitGroup
	begin := make(chan struct{})
	for caller := range n {
		wait.Go(func() {
			<-begin
			do(caller)
		})
	}
	close(begin)
	wait.Wait()
}

// sound checks what must be true of every task after concurrent calls.
func (f *fixture) sound(tasks []task.Task) {
	f.Helper()
	for _, t := range must[[]task.Task](f)(f.Get(f.Context(), ids(tasks))) {
		if problem := flaw(t); problem != "" {
			f.Errorf("task %s: %s", t.ID, problem)
		}
	}
	f.sameCounts()
}

// many accepts n tasks.
func (f *fixture) many(n int, edits ...edit) (tasks []task.Task) {
	f.Helper()
	for range n {
		tasks = append(tasks, f.accept(edits...))
	}
	return tasks
}

func concurrency() sentences {
	return sentences{
		"concurrent claims return each task only once": func(f *fixture) {
			tasks := f.many(100)
			got := make([][]task.Task, callers)
			together(callers, func(c int) {
				by := store.Claim{Node: fmt.Sprint("n", c), Actions: []string{"upper"}, Limit: 3}
				if c%2 == 0 { // half of them by ids, as a broker would deliver them
					by.IDs, by.Limit = ids(tasks), 25
				}
				for {
					batch, err := f.Claim(f.Context(), by)
					if err != nil || len(batch) == 0 {
						f.want("error of a claim", err, nil)
						return
					}
					got[c] = append(got[c], batch...)
				}
			})
			all := ids(slices.Concat(got...))
			slices.Sort(all)
			f.want("claimed", all, ids(tasks))
			f.sound(tasks)
		},
		"of concurrent outcomes of an attempt, only one is written": func(f *fixture) {
			t := f.start()
			written := make([]bool, callers)
			together(callers, func(c int) {
				o := store.Outcome{ID: t.ID, Fence: 1, Change: task.Succeed, Result: task.Body{Inline: fmt.Append(nil, c)}}
				answers, err := f.Record(f.Context(), []store.Outcome{o})
				written[c] = err == nil && !answers[0].Stale
			})
			winner := slices.Index(written, true)
			f.want("another one", slices.Contains(written[winner+1:], true), false)
			f.want("result", string(f.get(t).Result.Inline), fmt.Sprint(winner))
			f.sound([]task.Task{t})
		},
		"concurrent accepts of one key store only one task":      acceptOneKey,
		"a key that a cancellation frees has at most one holder": freeOneKey,
		"concurrent accepts do not exceed the bound of a queue": func(f *fixture) {
			drafts := make([]task.Task, 2*callers)
			for i := range drafts {
				drafts[i] = f.draft(inQueue("small"))
			}
			together(callers, func(c int) {
				if _, err := f.Accept(f.Context(), drafts[2*c:2*c+2]); err != nil {
					f.Errorf("accept: %v", err)
				}
			})
			f.want("queued", f.queue("small").Queued, int64(smallBacklog))
			f.sameCounts()
		},
	}
}

func races() sentences {
	return sentences{
		"a concurrent task is either recorded or reaped":   recordAgainstReap,
		"a task that was cancelled at once is not claimed": cancelAgainstClaim,
		"a task is adopted, or it is reaped":               adoptAgainstReap,
		"concurrent calls of every kind leave valid tasks and correct counts": func(f *fixture) {
			tasks := f.many(60, func(t *task.Task) { t.MaxAttempts = 2 })
			list := ids(tasks)
			together(callers, func(c int) {
				for round := range 20 {
					f.mixed(c, round, list)
				}
			})
			f.sound(tasks)
		},
	}
}

func recordAgainstReap(f *fixture) {
	f.many(100)
	tasks := f.claim()
	f.clock.Advance(task.LeaseTime)
	written := make([]bool, len(tasks))
	together(3, func(c int) {
		if c == 0 {
			for range tasks {
				_, err := f.Maintain(f.Context(), 2)
				f.want("error of maintain", err, nil)
			}
			return
		}
		for i := len(tasks) - c; i >= 0; i -= 2 {
			answers, err := f.Record(f.Context(), []store.Outcome{{ID: tasks[i].ID, Fence: 1, Change: task.Succeed}})
			written[i] = err == nil && !answers[0].Stale
		}
	})
	for i, t := range tasks {
		want := task.Queued
		if written[i] {
			want = task.Done
		}
		f.state(t, want)
	}
	f.sound(tasks)
}

func cancelAgainstClaim(f *fixture) {
	tasks := f.many(100)
	var claimed []task.Task
	cancelled := make([]store.Changed, len(tasks))
	together(2, func(c int) {
		for i := range tasks {
			if c == 0 {
				batch, err := f.Claim(f.Context(), store.Claim{Node: "n1", Actions: []string{"upper"}, Limit: 1})
				f.want("error of a claim", err, nil)
				claimed = append(claimed, batch...)
				continue
			}
			i = len(tasks) - 1 - i
			answers, err := f.Cancel(f.Context(), []string{tasks[i].ID})
			if err != nil {
				f.Errorf("cancel: %v", err)
				return
			}
			cancelled[i] = answers[0]
		}
	})
	for i, t := range tasks {
		runs := slices.Contains(ids(claimed), t.ID)
		f.want("a task that is not claimed is cancelled at once", cancelled[i].State == task.Cancelled, !runs)
	}
	f.sound(tasks)
}

// mixed makes one call of each kind for some of the tasks.
func (f *fixture) mixed(caller, round int, list []string) {
	ctx := f.Context()
	pick := list[(caller*7+round*3)%len(list):]
	pick = pick[:min(4, len(pick))]
	by := store.Claim{Node: fmt.Sprint("n", caller), Actions: []string{"upper"}, Limit: 3, Isolated: round%4 == 3, Quarantined: true}
	claimed, err := f.Claim(ctx, by)
	f.want("error of a claim", err, nil)
	var outcomes []store.Outcome
	ends := []task.Change{task.Succeed, task.Fail, task.Again, task.Release}
	for i, t := range claimed {
		o := store.Outcome{ID: t.ID, Fence: t.Fence, Change: ends[(caller+round+i)%len(ends)]}
		outcomes = append(outcomes, o, o)
	}
	_, err = f.Record(ctx, outcomes)
	f.want("error of record", err, nil)
	switch (caller + round) % 4 {
	case 0:
		_, err = f.Cancel(ctx, pick)
	case 1:
		_, err = f.Retry(ctx, pick)
	case 2:
		_, err = f.Recover(ctx, fmt.Sprint("n", (caller+1)%callers), nil)
	case 3:
		_, err = f.Maintain(ctx, 10)
	}
	f.want("error of a change", err, nil)
}

func acceptOneKey(f *fixture) {
	for round := range 10 {
		drafts := make([]task.Task, callers)
		for c := range drafts {
			drafts[c] = f.draft(withKey(fmt.Sprint("k", round)))
		}
		var mu sync.Mutex
		answered := map[string]bool{}
		together(callers, func(c int) {
			answers, err := f.Accept(f.Context(), drafts[c:c+1])
			if err != nil {
				f.Errorf("accept: %v", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			answered[answers[0].Task.ID] = true
		})
		f.want("tasks of one key", len(answered), 1)
	}
	f.want("accepted", f.queue("default").Accepted, int64(10))
}

// freeOneKey lets callers cancel, accept and retry tasks with one key at the same time.
func freeOneKey(f *fixture) {
	for round := range 10 {
		key := withKey(fmt.Sprint("k", round))
		first := f.accept(key)
		drafts := make([]task.Task, callers)
		for c := range drafts {
			drafts[c] = f.draft(key)
		}
		together(callers, func(c int) {
			_, err := f.Accept(f.Context(), drafts[c:c+1])
			f.want("error of an accept", err, nil)
			_, err = f.Cancel(f.Context(), []string{first.ID, drafts[(c+1)%callers].ID})
			f.want("error of a cancel", err, nil)
			_, err = f.Retry(f.Context(), []string{first.ID, drafts[c].ID, drafts[(c+2)%callers].ID})
			f.want("error of a retry", err, nil)
		})
		var holders []string
		for _, t := range must[[]task.Task](f)(f.Get(f.Context(), append(ids(drafts), first.ID))) {
			if t.ID != "" && t.State != task.Cancelled {
				holders = append(holders, t.ID)
			}
		}
		if len(holders) > 1 {
			f.Errorf("%d unfinished tasks have one key", len(holders))
		}
		answer := f.offer(key)
		f.want("a task that holds the key is found", answer.Duplicate, len(holders) == 1)
		if len(holders) == 1 {
			f.want("holder", answer.Task.ID, holders[0])
		}
	}
}
