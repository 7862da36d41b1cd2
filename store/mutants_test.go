package store

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/task"
)

// A Mutant is a Memory with one guard removed: a fault that a store could easily have. The suite must detect
// each of them.
type Mutant struct {
	Name   string
	Caught string // the theme of the suite that detects it
	Model  bool   // whether the model detects it, too
	Break  func(*Memory) Store
}

// Mutants returns all mutants.
func Mutants() []Mutant {
	return []Mutant{
		{"record without the fence guard", "stale", true, func(m *Memory) Store { return &anyFence{m} }},
		{"reap as read-then-write", "races", false, func(m *Memory) Store { return &lateReaper{Memory: m} }},
		{"reap as read long before write", "crash", true, func(m *Memory) Store { return &slowReaper{Memory: m} }},
		{"claim without the state guard", "claim by id", true, func(m *Memory) Store { return &anyState{m} }},
		{"claim as read-then-write", "concurrency", false, func(m *Memory) Store { return &raceClaim{m} }},
		{"key as check-then-insert", "concurrency", false, func(m *Memory) Store { return &lateKey{Memory: m} }},
		{"crash counted as failure", "crash", true, func(m *Memory) Store { return &crashFails{m} }},
		{"crashes without a limit", "crash", true, func(m *Memory) Store { return &crashForgetting{m} }},
		{"cancellation lost in a crash", "cancel", true, func(m *Memory) Store { return &cancelLosingReaper{m} }},
		{"cancel of a running task at once", "cancel", true, func(m *Memory) Store { return &hastyCancel{m} }},
		{"accept answered and not stored", "accept", true, func(m *Memory) Store { return &forgetful{m} }},
		{"attempt and fence back to 0 at a retry", "retry", true, func(m *Memory) Store { return &newAttempts{m} }},
		{"reap that ignores the nodes", "living", true, func(m *Memory) Store { return &blindReaper{m} }},
		{"reap that mistakes a new process for the old one", "answering", true, func(m *Memory) Store { return &nameTrusting{m} }},
		{"suspicion cleared while the node is alive", "answering", true, func(m *Memory) Store { return &lenientReaper{m} }},
		{"a claim that is given back counts", "unentered", true, func(m *Memory) Store { return &countsClaims{m} }},
		{"a task that was given back never expires", "unentered", true, func(m *Memory) Store { return &lastsForEver{m} }},
		{"adoption without the fence guard", "adoption", true, func(m *Memory) Store { return &anyAdoption{m} }},
		{"renewal by the node that had the claim before", "adoption", true, func(m *Memory) Store { return &anyRenewer{m} }},
		{"reap of tasks that another node has adopted", "deaths", true, func(m *Memory) Store { return &anyHolder{m} }},
		{"an uncounted attempt counts", "releases", true, func(m *Memory) Store { return &countsReleases{m} }},
		{"suspects claimed with others", "suspects", true, func(m *Memory) Store { return &unsuspecting{m} }},
	}
}

// force sets a state without checking the table.
func (m *Memory) force(t *task.Task, s task.State) {
	q := m.queues[t.Queue]
	q.remove(t)
	t.State, t.Reserved = s, ""
	q.add(t)
	addEntry(t, m.now, t.Node, t.Worker, "forced")
}

// each calls do for the tasks that exist, with mu locked.
func (m *Memory) each(ids []string, do func(*task.Task)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.followClock()
	for _, id := range ids {
		if t := m.tasks[id]; t != nil {
			do(t)
		}
	}
}

// overdue returns the ids of the tasks that a reaper would find.
func (m *Memory) overdue() (ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.followClock()
	for id, t := range m.tasks {
		if t.IsLeased() && !t.Lease.After(m.now) {
			ids = append(ids, id)
		}
	}
	return ids
}

type anyFence struct{ *Memory }

func (m *anyFence) Record(ctx context.Context, outcomes []Outcome) ([]Recorded, error) {
	outcomes = slices.Clone(outcomes)
	for i, o := range outcomes {
		m.each([]string{o.ID}, func(t *task.Task) { outcomes[i].Fence = t.Fence })
	}
	return m.Memory.Record(ctx, outcomes)
}

// lateReaper lets other calls run between reading and writing.
type lateReaper struct {
	*Memory
	records atomic.Int64
}

func (m *lateReaper) Record(ctx context.Context, outcomes []Outcome) ([]Recorded, error) {
	defer m.records.Add(1)
	return m.Memory.Record(ctx, outcomes)
}

func (m *lateReaper) Maintain(ctx context.Context, limit int) (Maintained, error) {
	found := m.overdue()
	before := m.records.Load()
	for i := 0; i < 1000 && m.records.Load() == before; i++ {
		runtime.Gosched()
	}
	m.each(found, func(t *task.Task) { m.force(t, task.Queued) })
	return m.Memory.Maintain(ctx, limit)
}

// slowReaper reads in one call and writes in the next one.
type slowReaper struct {
	*Memory
	found []string
}

func (m *slowReaper) Maintain(ctx context.Context, limit int) (Maintained, error) {
	m.each(m.found, func(t *task.Task) { m.force(t, task.Queued) })
	m.found = m.overdue()
	return m.Memory.Maintain(ctx, limit)
}

type anyState struct{ *Memory }

func (m *anyState) Claim(ctx context.Context, by Claim) ([]task.Task, error) {
	m.each(by.IDs, func(t *task.Task) {
		if t.IsLeased() && !by.Isolated {
			t.Suspect = false
			m.force(t, task.Queued)
		}
	})
	return m.Memory.Claim(ctx, by)
}

// raceClaim reads which of the ids are queued, and then takes them whatever their states are.
type raceClaim struct{ *Memory }

func (m *raceClaim) Claim(ctx context.Context, by Claim) ([]task.Task, error) {
	var free []string
	m.each(by.IDs, func(t *task.Task) {
		if t.State == task.Queued && t.Reserved == "" {
			free = append(free, t.ID)
		}
	})
	runtime.Gosched()
	m.each(free, func(t *task.Task) {
		if t.State != task.Queued || t.Reserved != "" {
			m.force(t, task.Queued)
		}
	})
	return m.Memory.Claim(ctx, by)
}

// lateKey lets another call run between checking and inserting a key.
type lateKey struct {
	*Memory
	inside atomic.Int64
}

func (m *lateKey) Accept(ctx context.Context, tasks []task.Task) ([]Accepted, error) {
	if len(tasks) != 1 || tasks[0].Key == "" {
		return m.Memory.Accept(ctx, tasks)
	}
	k := key{tasks[0].Queue, tasks[0].Key}
	m.mu.Lock()
	taken := m.keys[k] != nil
	m.mu.Unlock()
	if !taken {
		m.inside.Add(1)
		for i := 0; i < 1000 && m.inside.Load() < 2; i++ {
			runtime.Gosched()
		}
		m.mu.Lock()
		delete(m.keys, k)
		m.mu.Unlock()
	}
	return m.Memory.Accept(ctx, tasks)
}

type crashFails struct{ *Memory }

func (m *crashFails) fails(maintained Maintained, err error) (Maintained, error) {
	var ids []string
	for _, t := range maintained.Reaped {
		ids = append(ids, t.ID)
	}
	m.each(ids, func(t *task.Task) {
		if t.Failures++; t.Failures >= t.MaxAttempts {
			m.force(t, task.Failed)
		}
	})
	return maintained, err
}

func (m *crashFails) Maintain(ctx context.Context, limit int) (Maintained, error) {
	return m.fails(m.Memory.Maintain(ctx, limit))
}

func (m *crashFails) Recover(ctx context.Context, node string, actions []string) (Maintained, error) {
	return m.fails(m.Memory.Recover(ctx, node, actions))
}

type crashForgetting struct{ *Memory }

func (m *crashForgetting) Maintain(ctx context.Context, limit int) (Maintained, error) {
	m.each(m.overdue(), func(t *task.Task) { t.Crashes = 0 })
	return m.Memory.Maintain(ctx, limit)
}

func (m *crashForgetting) Recover(ctx context.Context, node string, actions []string) (Maintained, error) {
	m.mu.Lock()
	for _, t := range m.tasks {
		t.Crashes = 0
	}
	m.mu.Unlock()
	return m.Memory.Recover(ctx, node, actions)
}

type blindReaper struct{ *Memory }

func (m *blindReaper) Maintain(ctx context.Context, limit int) (Maintained, error) {
	m.mu.Lock()
	nodes := m.nodes
	m.nodes = map[string]nodeRow{}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.nodes = nodes
	}()
	return m.Memory.Maintain(ctx, limit)
}

// nameTrusting keeps the time of the first heartbeat of a name, even when another process uses the name.
type nameTrusting struct{ *Memory }

func (m *nameTrusting) Beat(ctx context.Context, n Node) error {
	m.mu.Lock()
	before, there := m.nodes[n.Name]
	m.mu.Unlock()
	err := m.Memory.Beat(ctx, n)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.followClock()
	if now, ok := m.nodes[n.Name]; ok && there {
		now.since = before.since
		m.nodes[n.Name] = now
	}
	return err
}

type lenientReaper struct{ *Memory }

func (m *lenientReaper) Maintain(ctx context.Context, limit int) (Maintained, error) {
	m.each(m.overdue(), func(t *task.Task) { t.Suspect = t.Suspect && !m.holderIsAlive(t) })
	return m.Memory.Maintain(ctx, limit)
}

type cancelLosingReaper struct{ *Memory }

func (m *cancelLosingReaper) Maintain(ctx context.Context, limit int) (Maintained, error) {
	m.each(m.overdue(), func(t *task.Task) { t.Cancelling = false })
	return m.Memory.Maintain(ctx, limit)
}

type hastyCancel struct{ *Memory }

func (m *hastyCancel) Cancel(ctx context.Context, ids []string) ([]Changed, error) {
	m.each(ids, func(t *task.Task) {
		if t.IsLeased() {
			m.force(t, task.Cancelled)
		}
	})
	return m.Memory.Cancel(ctx, ids)
}

// forgetful answers every accept, but does not store the last task of a batch.
type forgetful struct{ *Memory }

func (m *forgetful) Accept(ctx context.Context, tasks []task.Task) ([]Accepted, error) {
	answers, err := m.Memory.Accept(ctx, tasks)
	if n := len(answers); n > 0 {
		m.each([]string{answers[n-1].Task.ID}, func(t *task.Task) {
			m.queues[t.Queue].remove(t)
			delete(m.tasks, t.ID)
			maps.DeleteFunc(m.keys, func(_ key, kept *task.Task) bool { return kept == t })
		})
	}
	return answers, err
}

type newAttempts struct{ *Memory }

func (m *newAttempts) Retry(ctx context.Context, ids []string) ([]Changed, error) {
	answers, err := m.Memory.Retry(ctx, ids)
	for _, a := range answers {
		m.each([]string{a.ID}, func(t *task.Task) {
			if a.Made {
				t.Attempt, t.Fence = 0, 0
			}
		})
	}
	return answers, err
}

type anyAdoption struct{ *Memory }

func (m *anyAdoption) Adopt(ctx context.Context, node string, held []Held) ([]Renewed, error) {
	held = slices.Clone(held)
	for i, h := range held {
		m.each([]string{h.ID}, func(t *task.Task) { held[i].Fence = t.Fence })
	}
	return m.Memory.Adopt(ctx, node, held)
}

// anyRenewer renews claims whichever node has them.
type anyRenewer struct{ *Memory }

func (m *anyRenewer) Renew(ctx context.Context, _ string, held []Held) ([]Renewed, error) {
	answers := make([]Renewed, len(held))
	for i, h := range held {
		node := ""
		m.each([]string{h.ID}, func(t *task.Task) { node = holder(t) })
		renewed, err := m.Memory.Renew(ctx, node, []Held{h})
		if err != nil {
			return nil, err
		}
		answers[i] = renewed[0]
	}
	return answers, nil
}

// anyHolder reaps claims whichever node has them.
type anyHolder struct{ *Memory }

func (m *anyHolder) Reap(ctx context.Context, _ string, claims []Held, why string) (all Maintained, err error) {
	for _, c := range claims {
		node := ""
		m.each([]string{c.ID}, func(t *task.Task) { node = holder(t) })
		maintained, failed := m.Memory.Reap(ctx, node, []Held{c}, why)
		all.Reaped, all.Crashed = append(all.Reaped, maintained.Reaped...), append(all.Crashed, maintained.Crashed...)
		all.Cancelled, all.Now, all.Next, err = append(all.Cancelled, maintained.Cancelled...), maintained.Now, maintained.Next, failed
	}
	return all, err
}

// countsReleases counts the attempts that are taken back.
type countsReleases struct{ *Memory }

func (m *countsReleases) Record(ctx context.Context, outcomes []Outcome) ([]Recorded, error) {
	outcomes = slices.Clone(outcomes)
	for i := range outcomes {
		outcomes[i].Uncounted = false
	}
	return m.Memory.Record(ctx, outcomes)
}

type unsuspecting struct{ *Memory }

func (m *unsuspecting) Claim(ctx context.Context, by Claim) ([]task.Task, error) {
	if !by.Isolated {
		m.mu.Lock()
		for _, t := range m.tasks {
			t.Suspect = t.Suspect && (t.State != task.Queued || t.Reserved != "")
		}
		m.mu.Unlock()
	}
	return m.Memory.Claim(ctx, by)
}

// countsClaims counts each claim as an attempt.
type countsClaims struct{ *Memory }

func (m *countsClaims) Record(ctx context.Context, outcomes []Outcome) ([]Recorded, error) {
	outcomes = slices.Clone(outcomes)
	for i := range outcomes {
		outcomes[i].Unentered = outcomes[i].Unentered && outcomes[i].Change == task.Expire
	}
	return m.Memory.Record(ctx, outcomes)
}

// lastsForEver lets no task expire that was claimed once.
type lastsForEver struct{ *Memory }

func (m *lastsForEver) Record(ctx context.Context, outcomes []Outcome) ([]Recorded, error) {
	for _, o := range outcomes {
		m.each([]string{o.ID}, func(t *task.Task) {
			if o.Unentered && o.Change == task.Release && !t.Expires.IsZero() {
				t.Expires = t.Expires.Add(1000 * time.Hour)
			}
		})
	}
	return m.Memory.Record(ctx, outcomes)
}
