package store

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/posta-tasks/posta/task"
)

// Claim implements Work.
func (m *Memory) Claim(ctx context.Context, by Claim) ([]task.Task, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	if by.Isolated {
		by.Limit = min(by.Limit, 1)
	}
	if by.Isolated && m.hasRunningSuspect(&by) {
		return nil, nil
	}
	by.Queues, by.ActionSlots = maps.Clone(by.Queues), maps.Clone(by.ActionSlots)
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

// hasRunningSuspect reports whether a suspect runs on the node that prevents another one from being claimed.
func (m *Memory) hasRunningSuspect(by *Claim) bool {
	for _, t := range m.tasks {
		if t.IsLeased() && t.Suspect && holder(t) == by.Node && !slices.Contains(by.Beside, t.ID) {
			return true
		}
	}
	return false
}

// next returns the task that a claim without ids takes next, or nil.
func (m *Memory) next(by *Claim) *task.Task {
	for _, priority := range task.Turn(m.turn) {
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

// claimable reports whether the claim may take the task.
func (m *Memory) claimable(t *task.Task, by *Claim) bool {
	if t.Suspect && t.Crashes > 0 && !by.Quarantined {
		return false
	}
	return t.State == task.Queued && t.Reserved == "" && t.Suspect == by.Isolated && slices.Contains(by.Actions, t.Action) &&
		by.Capacity(t.Queue) > 0 && by.has(t.Action) && !m.queues[t.Queue].Paused && !late(t, m.now)
}

// has reports whether the claim may take one more task of an action.
func (c *Claim) has(action string) bool {
	n, named := c.ActionSlots[action]
	return !named || n > 0
}

func (m *Memory) claim(t *task.Task, by *Claim) task.Task {
	if n, named := by.ActionSlots[t.Action]; named {
		by.ActionSlots[t.Action] = n - 1
	}
	if by.Queues != nil {
		by.Queues[t.Queue] = by.Capacity(t.Queue) - 1
	}
	q := m.queues[t.Queue]
	q.remove(t)
	t.Fence++
	t.Reserved, t.Lease, t.Progress = by.Node, m.now.Add(task.LeaseTime), task.Progress{}
	q.add(t)
	c := briefCopy(t)
	c.Payload.Inline = slices.Clone(t.Payload.Inline)
	return c
}

// holder returns the node that has a leased task.
func holder(t *task.Task) string { return cmp.Or(t.Reserved, t.Node) }

// currentClaim returns the task if this is its newest claim and the claim is not over, or else nil. It guards
// every report of a node.
func (m *Memory) currentClaim(id string, fence int) *task.Task {
	if t := m.tasks[id]; t != nil && t.IsLeased() && t.Fence == fence {
		return t
	}
	return nil
}

// Enter implements Work.
func (m *Memory) Enter(ctx context.Context, entered []Entered) ([]Recorded, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	answers := make([]Recorded, len(entered))
	for i, e := range entered {
		if t := m.currentClaim(e.ID, e.Fence); t == nil || t.Reserved == "" {
			answers[i].Stale = true
		} else {
			m.enter(t, stored(m.now.Add(-Since(e.At))), e.Worker, e.Definition)
			answers[i].Task = briefCopy(t)
		}
	}
	return answers, nil
}

// enter makes a reserved task running since a time.
func (m *Memory) enter(t *task.Task, since time.Time, worker, definition string) {
	if last := t.History[len(t.History)-1].At; since.Before(last) {
		since = last
	}
	q := m.queues[t.Queue]
	q.remove(t)
	t.Attempt++
	t.State, t.Node, t.Worker, t.StartedAt, t.Reserved = task.Running, t.Reserved, worker, since, ""
	q.add(t)
	addEntry(t, since, t.Node, worker, "")
	t.History[len(t.History)-1].Definition = definition
}

// giveBack ends the claim of a reserved task.
func (m *Memory) giveBack(t *task.Task) {
	q := m.queues[t.Queue]
	q.remove(t)
	t.Reserved, t.Lease = "", time.Time{}
	q.add(t)
}

// Renew implements Work.
func (m *Memory) Renew(ctx context.Context, node string, held []Held) ([]Renewed, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	answers := make([]Renewed, len(held))
	for i, h := range held {
		t := m.currentClaim(h.ID, h.Fence)
		if t == nil || holder(t) != node {
			answers[i].Lost = true
			continue
		}
		answers[i] = m.renew(t, h)
	}
	return answers, nil
}

// Adopt implements Work.
func (m *Memory) Adopt(ctx context.Context, node string, held []Held) ([]Renewed, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	answers := make([]Renewed, len(held))
	for i, h := range held {
		t := m.currentClaim(h.ID, h.Fence)
		if t == nil {
			answers[i].Lost = true
			continue
		}
		if t.Reserved != "" {
			t.Reserved = node
		} else {
			t.Node = node
		}
		answers[i] = m.renew(t, h)
	}
	return answers, nil
}

// renew extends the lease of a task.
func (m *Memory) renew(t *task.Task, h Held) Renewed {
	t.Lease = m.now.Add(task.LeaseTime)
	if h.Progress != nil {
		t.Progress = *h.Progress
	}
	return Renewed{Cancelling: t.Cancelling}
}

// Record implements Work.
func (m *Memory) Record(ctx context.Context, outcomes []Outcome) ([]Recorded, error) {
	if err := Refuse(outcomes); err != nil {
		return nil, err
	}
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	answers := make([]Recorded, len(outcomes))
	for i, o := range outcomes {
		t := m.currentClaim(o.ID, o.Fence)
		if t != nil {
			m.record(t, o)
		} else {
			answers[i].Stale = true
			t = m.tasks[o.ID]
		}
		if t != nil {
			answers[i].Task = briefCopy(t)
		}
	}
	return answers, nil
}

// record makes the change of an outcome, or the change that replaces it.
func (m *Memory) record(t *task.Task, o Outcome) {
	change, unentered := o.Change, t.Reserved != "" && o.Unentered
	if t.Reserved != "" && !o.Unentered {
		m.enter(t, stored(m.now.Add(-Since(o.EnteredAt))), o.Worker, o.Definition)
	}
	if change == task.Expire && !(unentered && late(t, m.now)) {
		change = task.Release
	}
	if o.Postpones() {
		change = task.Postpone
	}
	if change == task.Again && t.Failures+1 >= t.MaxAttempts {
		change = task.Fail
	}
	if t.Cancelling && change != task.Succeed {
		change = task.Cancel
	}
	if change == task.Release && unentered {
		m.giveBack(t)
		return
	}
	suspect := t.Suspect && (unentered || o.TakesBack())
	why := ""
	switch change {
	case task.Fail, task.Again, task.Crash:
		why = o.Error
	case task.Expire:
		why = notStarted(t)
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
			t.Code, t.Error, t.RunAt = cmp.Or(o.Code, task.ActionFailed), o.Error, stored(m.now.Add(o.Delay))
			m.movable[t.ID] = true
		case task.Release, task.Postpone:
			t.Suspect = suspect
			if o.TakesBack() && !unentered {
				t.Attempt--
			}
			if o.Postpones() {
				t.RunAt = stored(m.now.Add(o.Delay))
				m.movable[t.ID] = true
			}
		case task.Crash:
			t.Crashes++
			t.Code, t.Error = task.Crashed, o.Error
		case task.Cancel:
			t.Code, t.Error = "", ""
		case task.Expire:
			t.Code, t.Error = task.Expired, why
		}
	})
}

// Recover implements Work.
func (m *Memory) Recover(ctx context.Context, node string, actions []string) (Maintained, error) {
	if err := m.lock(ctx); err != nil {
		return Maintained{}, err
	}
	defer m.mu.Unlock()
	var maintained Maintained
	for _, id := range slices.Sorted(maps.Keys(m.tasks)) {
		t := m.tasks[id]
		if t.IsLeased() && (node == "" || holder(t) == node) && (actions == nil || slices.Contains(actions, t.Action)) {
			m.reap(t, reason{"process", "its process died"}, false, &maintained)
		}
	}
	maintained.Now, maintained.Next = m.now, m.nextDue()
	return maintained, nil
}

// Reap implements Work.
func (m *Memory) Reap(ctx context.Context, node string, claims []Held, why string) (Maintained, error) {
	if err := m.lock(ctx); err != nil {
		return Maintained{}, err
	}
	defer m.mu.Unlock()
	var maintained Maintained
	for _, c := range claims {
		if t := m.currentClaim(c.ID, c.Fence); t != nil && holder(t) == node {
			m.reap(t, reason{"worker", why}, false, &maintained)
		}
	}
	maintained.Now, maintained.Next = m.now, m.nextDue()
	return maintained, nil
}

// reason says what has died, and why a task is reaped.
type reason struct{ who, why string }

// reap takes a task from a node. lives says that the node's process is alive and has let the lease end. If it
// is not, the action of a reserved task may have been entered.
func (m *Memory) reap(t *task.Task, because reason, lives bool, maintained *Maintained) {
	why := because.why
	suspect, crashed := t.Suspect || !lives, t.Suspect && !lives
	if t.Reserved != "" && !lives {
		m.enter(t, t.Lease.Add(-task.LeaseTime), "", "")
	}
	switch {
	case t.Cancelling:
		m.change(t, task.Cancel, why, func() { t.Code, t.Error = "", "" })
		maintained.Cancelled = append(maintained.Cancelled, briefCopy(t))
	case t.Reserved != "":
		m.giveBack(t)
		maintained.Reaped = append(maintained.Reaped, briefCopy(t))
	case crashed && t.Crashes+1 >= task.MaxCrashes:
		m.change(t, task.Crash, why, func() {
			t.Crashes++
			t.Code = task.Crashed
			t.Error = DiedTooOften(because.who, t.Crashes)
		})
		maintained.Crashed = append(maintained.Crashed, briefCopy(t))
	default:
		m.change(t, task.Reap, why, func() {
			t.Suspect = suspect
			if crashed {
				t.Crashes++
			}
		})
		maintained.Reaped = append(maintained.Reaped, briefCopy(t))
	}
}
