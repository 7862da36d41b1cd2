package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/posta-tasks/posta/task"
)

// Claim implements Work.
func (m *Memory) Claim(ctx context.Context, by Claim) ([]task.Task, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	if by.Lone {
		by.Limit = min(by.Limit, 1)
	}
	if by.Lone && m.hasLone(&by) {
		return nil, nil
	}
	by.Queues = maps.Clone(by.Queues)
	next := func(i int) *task.Task { return m.next(&by) }
	if by.IDs != nil {
		next = func(i int) *task.Task { return m.tasks[by.IDs[i]] }
	}
	var claimed []task.Task
	for i := 0; len(claimed) < by.Limit && (by.IDs == nil || i < len(by.IDs)); i++ {
		t := next(i)
		if t == nil && by.IDs == nil {
			break
		}
		if t != nil && m.claimable(t, &by) {
			claimed = append(claimed, m.claim(t, &by))
		}
	}
	return claimed, nil
}

// hasLone tells whether a suspect runs on the node that keeps others waiting.
func (m *Memory) hasLone(by *Claim) bool {
	for _, t := range m.tasks {
		if t.State == task.Running && t.Suspect && t.Node == by.Node && !slices.Contains(by.Beside, t.ID) {
			return true
		}
	}
	return false
}

// next finds the task that a claim without ids takes next.
func (m *Memory) next(by *Claim) *task.Task {
	for _, priority := range Turn(m.turn) {
		var first *task.Task
		for _, q := range m.queues {
			i := slices.IndexFunc(q.lanes[priority], func(t *task.Task) bool { return m.claimable(t, by) })
			if i >= 0 && (first == nil || q.lanes[priority][i].ID < first.ID) {
				first = q.lanes[priority][i]
			}
		}
		if first != nil {
			m.turn++
			return first
		}
	}
	return nil
}

// claimable tells whether the claim may have the task.
func (m *Memory) claimable(t *task.Task, by *Claim) bool {
	if t.Suspect && t.Crashes > 0 && !by.Accused {
		return false
	}
	return t.State == task.Queued && t.Suspect == by.Lone && slices.Contains(by.Actions, t.Action) &&
		by.room(t.Queue) > 0 && !m.queues[t.Queue].Paused && !late(t, m.now())
}

// room says how many more tasks the claim may take of a queue.
func (c *Claim) room(queue string) int {
	if c.Queues == nil {
		return c.Limit
	}
	if n, named := c.Queues[queue]; named {
		return n
	}
	return c.Queues["*"]
}

func (m *Memory) claim(t *task.Task, by *Claim) task.Task {
	if by.Queues != nil {
		by.Queues[t.Queue] = by.room(t.Queue) - 1
	}
	m.change(t, task.Claim, "", func() {
		t.Attempt++
		t.Node, t.StartedAt, t.Progress = by.Node, m.now(), task.Progress{}
		t.Lease = t.StartedAt.Add(task.LeaseTime)
	})
	c := brief(t)
	c.Payload.Inline = slices.Clone(t.Payload.Inline)
	return c
}

// running gives the task if this attempt of it runs: the guard of all that a node says.
func (m *Memory) running(id string, attempt int) *task.Task {
	if t := m.tasks[id]; t != nil && t.State == task.Running && t.Attempt == attempt {
		return t
	}
	return nil
}

// Renew implements Work.
func (m *Memory) Renew(ctx context.Context, node string, held []Held) ([]Renewed, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	answers := make([]Renewed, len(held))
	for i, h := range held {
		t := m.running(h.ID, h.Attempt)
		if t == nil || t.Node != node {
			answers[i].Lost = true
			continue
		}
		answers[i].Cancelling = t.Cancelling
		t.Lease = m.now().Add(task.LeaseTime)
		if h.Progress != nil {
			t.Progress = *h.Progress
		}
	}
	return answers, nil
}

// Record implements Work.
func (m *Memory) Record(ctx context.Context, outcomes []Outcome) ([]Recorded, error) {
	for _, o := range outcomes {
		switch o.Change {
		case task.Succeed, task.Fail, task.Again, task.Release, task.Crash, task.Cancel:
		default:
			return nil, task.Refuse(task.Internal, "an attempt of task %s cannot end with %q", o.ID, o.Change)
		}
	}
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	answers := make([]Recorded, len(outcomes))
	for i, o := range outcomes {
		t := m.running(o.ID, o.Attempt)
		if t != nil {
			m.record(t, o)
		} else {
			answers[i].Stale = true
			t = m.tasks[o.ID]
		}
		if t != nil {
			answers[i].Task = brief(t)
		}
	}
	return answers, nil
}

// record makes the change of an outcome, or the one that stands for it.
func (m *Memory) record(t *task.Task, o Outcome) {
	change := o.Change
	if change == task.Again && t.Failures+1 >= t.MaxAttempts {
		change = task.Fail
	}
	if t.Cancelling && change != task.Succeed {
		change = task.Cancel
	}
	why := ""
	if change == task.Fail || change == task.Again || change == task.Crash {
		why = o.Error
	}
	m.change(t, change, why, func() {
		switch change {
		case task.Succeed:
			t.Result = o.Result
			t.Result.Inline = slices.Clone(o.Result.Inline)
			t.Code, t.Error = "", ""
		case task.Fail:
			t.Failures++
			t.Code, t.Error = cmp.Or(o.Code, task.ActionFailed), o.Error
		case task.Again:
			t.Failures++
			t.Code, t.Error, t.RunAt = cmp.Or(o.Code, task.ActionFailed), o.Error, stored(o.RunAt)
		case task.Crash:
			t.Crashes++
			t.Code, t.Error = task.Crashed, o.Error
		case task.Cancel:
			t.Code, t.Error = "", ""
		}
	})
}

// Recover implements Work.
func (m *Memory) Recover(ctx context.Context, node string) (Tended, error) {
	if err := m.lock(ctx); err != nil {
		return Tended{}, err
	}
	defer m.mu.Unlock()
	var tended Tended
	for _, id := range slices.Sorted(maps.Keys(m.tasks)) {
		t := m.tasks[id]
		if t.State == task.Running && (node == "" || t.Node == node) {
			m.reap(t, "its process died", false, &tended)
		}
	}
	tended.Next = m.nextDue()
	return tended, nil
}

// reap takes a task from a node that has died or is taken for dead, or that lives and has let
// the lease end.
func (m *Memory) reap(t *task.Task, why string, lives bool, tended *Tended) {
	suspect, lone := t.Suspect || !lives, t.Suspect && !lives
	switch {
	case t.Cancelling:
		m.change(t, task.Cancel, why, func() { t.Code, t.Error = "", "" })
		tended.Cancelled = append(tended.Cancelled, brief(t))
	case lone && t.Crashes+1 >= task.LoneCrashes:
		m.change(t, task.Crash, why, func() {
			t.Crashes++
			t.Code = task.Crashed
			t.Error = fmt.Sprintf("its process died %d times while it was the only suspect in it", t.Crashes)
		})
		tended.Crashed = append(tended.Crashed, brief(t))
	default:
		m.change(t, task.Reap, why, func() {
			t.Suspect = suspect
			if lone {
				t.Crashes++
			}
		})
		tended.Reaped = append(tended.Reaped, brief(t))
	}
}
