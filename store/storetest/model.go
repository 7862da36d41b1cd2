package storetest

import (
	"slices"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// model is the contract for a few tasks in its simplest form: it has no table of changes, no counters and no
// order. It copies times that a store sets, so that the two clocks need not agree to the millisecond.
type model struct {
	tasks map[string]*task.Task
	nodes map[string]row
}

// row is the heartbeats of a node, by the store's clock.
type row struct {
	started, since, seen time.Time
}

func (m *model) beat(n store.Node) {
	r := row{n.Started, n.Seen, n.Seen}
	if before := m.nodes[n.Name]; before.started.Equal(n.Started) && n.Seen.Before(before.seen.Add(task.LeaseTime)) {
		r.since = before.since
	}
	m.nodes[n.Name] = r
}

// lives reports whether the process that has a task sent heartbeats before it got the lease, and still sends
// them.
func (m *model) lives(t *task.Task, now time.Time) bool {
	r := m.nodes[holds(t)]
	return now.Sub(r.seen) < 10*time.Second && t.Lease.Sub(r.since) >= task.LeaseTime
}

// holder returns the task that has the id, or else the key, or nil.
func (m *model) holder(asked task.Task) *task.Task {
	for _, t := range m.tasks {
		if asked.Key != "" && t.Key == asked.Key && t.Queue == asked.Queue && m.tasks[asked.ID] == nil && t.State != task.Cancelled {
			return t
		}
	}
	return m.tasks[asked.ID]
}

func (m *model) accept(asked task.Task, now time.Time) {
	if m.holder(asked) != nil {
		return
	}
	asked.State, asked.Options = task.Queued, asked.AcceptedAt(now)
	if asked.RunAt.After(now) {
		asked.State = task.Scheduled
	}
	node := asked.Node
	asked.Node = ""
	m.tasks[asked.ID] = &asked
	if node != "" && asked.State == task.Queued && !expired(&asked, now) {
		m.claim(asked.ID, node)
	}
}

// claimable returns the ids of the tasks that a claim may take.
func (m *model) claimable(by store.Claim, now time.Time) (list []string) {
	for _, t := range m.tasks {
		if by.Isolated && t.Suspect && holds(t) == by.Node && !slices.Contains(by.Beside, t.ID) {
			return nil
		}
	}
	for id, t := range m.tasks {
		wanted := by.IDs == nil || slices.Contains(by.IDs, id)
		spared := t.Suspect && t.Crashes > 0 && !by.Quarantined
		if wanted && !spared && t.State == task.Queued && t.Reserved == "" && t.Suspect == by.Isolated && !expired(t, now) {
			list = append(list, id)
		}
	}
	return list
}

func expired(t *task.Task, now time.Time) bool {
	return t.Attempt == 0 && !t.Expires.IsZero() && !t.Expires.After(now)
}

func (m *model) claim(id, node string) {
	t := m.tasks[id]
	t.Reserved = node
	t.Fence++
}

// holds returns the node that has a task, or "".
func holds(t *task.Task) string {
	if t.State == task.Running {
		return t.Node
	}
	return t.Reserved
}

// has reports whether a claim is the current one.
func (m *model) has(id string, fence int) bool {
	t := m.tasks[id]
	return t != nil && holds(t) != "" && t.Fence == fence
}

func (m *model) enter(t *task.Task, worker string) {
	t.State, t.Node, t.Worker, t.Reserved = task.Running, t.Reserved, worker, ""
	t.Attempt++
}

func (m *model) adopt(id, node string) {
	if t := m.tasks[id]; t.State == task.Running {
		t.Node = node
	} else {
		t.Reserved = node
	}
}

func (m *model) record(o store.Outcome, now time.Time) {
	t, wanted := m.tasks[o.ID], o.Change
	if o.Change == task.Expire && !expired(t, now) {
		o.Change = task.Release
	}
	if t.Reserved != "" && o.Unentered && o.Change == task.Release && !t.Cancelling {
		t.Reserved = ""
		if o.Delay > 0 && wanted == task.Release {
			t.State = task.Scheduled
		}
		return
	}
	if t.Reserved != "" && !o.Unentered {
		m.enter(t, o.Worker)
	}
	change := o.Change
	if change == task.Expire && t.Reserved == "" {
		change = task.Release
	}
	back := o.Uncounted && wanted == task.Release && !t.Cancelling
	t.Suspect, t.Reserved = t.Suspect && back, ""
	switch change {
	case task.Expire:
		t.State = task.Failed
	case task.Cancel:
		t.State = task.Cancelled
	case task.Succeed:
		t.State = task.Done
	case task.Fail, task.Again:
		t.State = task.Failed
		if !t.Cancelling {
			t.Failures++
		}
		if o.Change == task.Again && t.Failures < t.MaxAttempts {
			t.State = task.Scheduled
		}
	case task.Release:
		if t.State = task.Queued; o.Delay > 0 && wanted == task.Release {
			t.State = task.Scheduled
		}
		if back {
			t.Attempt--
		}
	}
	if t.Cancelling && o.Change != task.Succeed {
		t.State = task.Cancelled
	}
	t.Cancelling = false
}

// end ends the lease of a task. lives says that its process is alive; otherwise it has died.
func (m *model) end(t *task.Task, lives bool) {
	if t.Suspect && !t.Cancelling && !lives {
		t.Crashes++
	}
	if t.Reserved != "" && !lives {
		m.enter(t, "")
	}
	t.Reserved = ""
	switch {
	case t.Cancelling:
		t.State, t.Suspect, t.Cancelling = task.Cancelled, false, false
	case t.Crashes == task.MaxCrashes:
		t.State, t.Suspect = task.Failed, false
	default:
		t.State, t.Suspect = task.Queued, t.Suspect || !lives
	}
}

func (m *model) recover(node string) {
	for _, t := range m.tasks {
		if holds(t) == node {
			m.end(t, false)
		}
	}
}

func (m *model) maintain(now time.Time) {
	for id, t := range m.tasks {
		switch {
		case holds(t) != "":
			if !t.Lease.After(now) {
				m.end(t, m.lives(t, now))
			}
		case !t.State.Final():
			if expired(t, now) {
				t.State = task.Failed
			} else if !t.RunAt.After(now) {
				t.State = task.Queued
			}
		default:
			if !t.FinishedAt.Add(t.KeptFor(t.State)).After(now) {
				delete(m.tasks, id)
			}
		}
	}
}

func (m *model) cancel(id string) {
	switch t := m.tasks[id]; {
	case t == nil || t.State.Final():
	case holds(t) != "":
		t.Cancelling = true
	default:
		t.State, t.Suspect = task.Cancelled, false
	}
}

func (m *model) retry(id string) {
	t := m.tasks[id]
	if t == nil {
		return
	}
	for _, other := range m.tasks {
		taken := t.Key != "" && other.Key == t.Key && other.Queue == t.Queue && other.ID != id && other.State != task.Cancelled
		if taken && t.State == task.Cancelled {
			return
		}
	}
	if t.State.Final() {
		t.State, t.Expires, t.Failures, t.Crashes = task.Queued, time.Time{}, 0, 0
		t.Generation++
	}
	if t.State == task.Scheduled {
		t.State = task.Queued
	}
}
