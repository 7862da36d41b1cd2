package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/posta-tasks/posta/task"
)

// MemoryConfig configures a Memory. Its zero value is valid.
type MemoryConfig struct {
	Now    func() time.Time     // the store's clock; nil means time.Now
	Steady func() time.Duration // see NewClock
	Limits Limits
}

// Memory is a Store that keeps all tasks in maps. It is the contract in its simplest form, and other packages
// test with it. Its tasks are lost when the process ends. It never waits for a time. One call runs at a time.
type Memory struct {
	clock  *Clock
	limits Limits
	secret string

	// mu guards all fields below. Methods with lower-case names expect it to be locked.
	mu         sync.Mutex
	closed     bool
	tasks      map[string]*task.Task
	keys       map[key]*task.Task // of all tasks but cancelled ones
	queues     map[string]*queue
	nodes      map[string]nodeRow
	access     map[string]task.AccessKey // by id
	operations map[string]task.Operation // by id
	audit      []task.AuditEntry         // in the order of Seq
	audited    int64                     // the highest Seq so far
	turn       int                       // tasks returned by claims without ids
	pauses     int64                     // version of Paused; at least 1, since 0 means unknown
	now        time.Time                 // the time of the call; all its changes happen at this time
	ahead      time.Duration             // how far the clock had been set at the last call
	movable    map[string]bool           // by id: tasks whose RunAt follows from a span of time
}

// key is an idempotency key in its queue.
type key struct{ queue, key string }

// NewMemory returns an empty store.
func NewMemory(cfg MemoryConfig) *Memory {
	limits := cfg.Limits
	limits.Queues = cmp.Or(limits.Queues, task.MaxQueues)
	limits.Backlog = cmp.Or(limits.Backlog, task.MaxBacklog)
	limits.Audit = cmp.Or(limits.Audit, task.MaxAudit)
	return &Memory{
		clock:      NewClock(cfg.Now, cfg.Steady),
		limits:     limits,
		secret:     rand.Text(),
		tasks:      map[string]*task.Task{},
		keys:       map[key]*task.Task{},
		queues:     map[string]*queue{},
		nodes:      map[string]nodeRow{},
		access:     map[string]task.AccessKey{},
		operations: map[string]task.Operation{},
		pauses:     1,
		movable:    map[string]bool{},
	}
}

// followClock reads the clock, and moves the ends of spans of time if the clock has been set.
func (m *Memory) followClock() {
	now, ahead := m.clock.Read()
	m.now = now
	by := ahead - m.ahead
	if !IsJump(by) {
		return
	}
	m.ahead = ahead
	for _, t := range m.tasks {
		switch {
		case t.IsLeased():
			t.Lease = t.Lease.Add(by)
		case t.State == task.Scheduled && m.movable[t.ID]:
			t.RunAt = stored(t.RunAt.Add(by))
		}
		if !t.State.Final() && !t.Expires.IsZero() {
			t.Expires = stored(t.Expires.Add(by))
		}
	}
	for name, n := range m.nodes {
		n.Seen, n.since = stored(n.Seen.Add(by)), stored(n.since.Add(by))
		m.nodes[name] = n
	}
}

// Secret implements Store.
func (m *Memory) Secret() []byte { return []byte(m.secret) }

// Close makes the store refuse all later calls.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// lock begins a call. It fails if the store is closed or ctx has ended. On success, mu is locked.
func (m *Memory) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return task.Refuse(task.Unavailable, "the store was not asked: %v", err)
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return task.Refuse(task.Unavailable, "the store is closed")
	}
	m.followClock()
	return nil
}

// Accept implements Tasks.
func (m *Memory) Accept(ctx context.Context, tasks []task.Task) ([]Accepted, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	answers := make([]Accepted, len(tasks))
	for i := range tasks {
		answers[i] = m.accept(&tasks[i])
	}
	return answers, nil
}

func (m *Memory) accept(asked *task.Task) Accepted {
	kept := m.tasks[asked.ID]
	if kept == nil && asked.Key != "" {
		kept = m.keys[key{asked.Queue, asked.Key}]
	}
	if kept != nil {
		same := kept.Action == asked.Action && kept.Payload.Equal(asked.Payload)
		return Accepted{Task: briefCopy(kept), Duplicate: true, SameRequest: same}
	}
	q, refusal := m.open(asked.Queue)
	if refusal == nil {
		refusal = q.full(m.limits)
	}
	if refusal != nil {
		return Accepted{Refusal: refusal}
	}
	now := m.now
	t := &task.Task{ID: asked.ID, Action: asked.Action, Payload: asked.Payload, Options: asked.AcceptedAt(now), CreatedAt: now}
	*t = fullCopy(t)
	m.movable[t.ID] = asked.Delay > 0
	t.State = task.Queued
	if t.RunAt.After(now) {
		t.State = task.Scheduled
	}
	m.tasks[t.ID] = t
	if t.Key != "" {
		m.keys[key{t.Queue, t.Key}] = t
	}
	q.Accepted++
	q.add(t)
	addEntry(t, now, "", "", "")
	if asked.Node != "" && t.State == task.Queued && !q.Paused && !late(t, now) {
		m.claim(t, &Claim{Node: asked.Node})
	}
	return Accepted{Task: briefCopy(t)}
}

// stored returns a time as a store keeps it.
func stored(at time.Time) time.Time { return at.UTC().Truncate(time.Millisecond) }

// Get implements Tasks.
func (m *Memory) Get(ctx context.Context, ids []string) ([]task.Task, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	found := make([]task.Task, len(ids))
	for i, id := range ids {
		if t := m.tasks[id]; t != nil {
			found[i] = fullCopy(t)
		}
	}
	return found, nil
}

// List implements Tasks.
func (m *Memory) List(ctx context.Context, query Query) (Page, error) {
	if err := m.lock(ctx); err != nil {
		return Page{}, err
	}
	defer m.mu.Unlock()
	ids := slices.Sorted(maps.Keys(m.tasks))
	slices.Reverse(ids)
	limit := max(1, min(query.Limit, 10_000))
	var page Page
	looked, last := 0, ""
	for _, id := range ids {
		t := m.tasks[id]
		if query.isBefore(t) && query.Look > 0 && (query.Owner == "" || query.Owner == t.Owner) {
			if looked == query.Look {
				page.Cursor = last
				break
			}
			looked, last = looked+1, id
		}
		if !query.selects(t) {
			continue
		}
		if len(page.Tasks) == limit {
			page.Cursor = page.Tasks[limit-1].ID
			break
		}
		item := briefCopy(t)
		item.Payload, item.Result, item.History = task.Body{}, task.Body{}, nil
		page.Tasks = append(page.Tasks, item)
	}
	return page, nil
}

func (q Query) selects(t *task.Task) bool {
	return (q.Queue == "" || q.Queue == t.Queue) && (q.Action == "" || q.Action == t.Action) &&
		(q.State == "" || q.State == t.State) && q.isBefore(t) && q.Admits(t)
}

// isBefore reports whether a task is older than the cursor, and not older than the lowest id.
func (q Query) isBefore(t *task.Task) bool {
	return (q.Cursor == "" || t.ID < q.Cursor) && t.ID >= q.Lowest
}

// Pick implements Tasks.
func (m *Memory) Pick(ctx context.Context, change task.Change, query Query) (Picked, error) {
	if err := m.lock(ctx); err != nil {
		return Picked{}, err
	}
	defer m.mu.Unlock()
	var list []*task.Task
	states := PickStates(change, query.State)
	for _, t := range m.tasks {
		if query.selects(t) && slices.Contains(states, t.State) && !t.Cancelling && (change != task.Retry || m.keyHolder(t) == "") {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b *task.Task) int {
		return cmp.Or(a.FinishedAt.Compare(b.FinishedAt), strings.Compare(a.ID, b.ID))
	})
	picker := NewPicker(max(1, min(query.Limit, 10_000)), m.now)
	for _, t := range list {
		if !picker.Add(t) {
			break
		}
	}
	return picker.Picked(), nil
}

// Cancel implements Tasks.
func (m *Memory) Cancel(ctx context.Context, ids []string) ([]Changed, error) {
	return m.changeByID(ctx, ids, task.AuditCancel, func(t *task.Task) bool {
		if t.IsLeased() {
			made := !t.Cancelling
			t.Cancelling = true
			return made
		}
		return m.change(t, task.Cancel, "", func() { t.Code, t.Error, t.Suspect = "", "", false })
	})
}

// Retry implements Tasks.
func (m *Memory) Retry(ctx context.Context, ids []string) ([]Changed, error) {
	return m.changeByID(ctx, ids, task.AuditRetry, func(t *task.Task) bool {
		if m.keyHolder(t) != "" {
			return false
		}
		finished := t.State.Final()
		return m.change(t, task.Retry, "", func() {
			t.RunAt = m.now
			if !finished {
				return
			}
			t.Generation++
			t.Failures, t.Crashes, t.Suspect = 0, 0, false
			t.Expires, t.FinishedAt = time.Time{}, time.Time{}
			t.Result, t.Progress = task.Body{}, task.Progress{}
			if t.Key != "" {
				m.keys[key{t.Queue, t.Key}] = t
			}
		})
	})
}

// keyHolder returns the id of the task that now has the key of a cancelled task, or "" if there is none.
func (m *Memory) keyHolder(t *task.Task) string {
	if other := m.keys[key{t.Queue, t.Key}]; t.Key != "" && t.State == task.Cancelled && other != nil {
		return other.ID
	}
	return ""
}

// releaseKey frees the key of a task for other tasks.
func (m *Memory) releaseKey(t *task.Task) {
	if k := (key{t.Queue, t.Key}); m.keys[k] == t {
		delete(m.keys, k)
	}
}

// changeByID makes a change that a client asked for.
func (m *Memory) changeByID(ctx context.Context, ids []string, verb task.AuditVerb, try func(*task.Task) bool) ([]Changed, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	answers := make([]Changed, len(ids))
	for i, id := range ids {
		answers[i].ID = id
		if t := m.tasks[id]; t != nil {
			made := try(t)
			answers[i] = Changed{ID: id, Made: made, State: t.State, Task: briefCopy(t)}
			if !made {
				answers[i].KeyHolder = m.keyHolder(t)
			}
		}
	}
	m.note(task.AuditOf(ctx, verb, nil, IDsMade(answers)...))
	return answers, nil
}

// change makes one change of state if the table allows it. set makes the further changes of the task. why is
// the error in the entry of the history.
func (m *Memory) change(t *task.Task, c task.Change, why string, set func()) bool {
	to, ok := c.Apply(t.State)
	if !ok {
		return false
	}
	now, node, worker := m.now, "", ""
	q := m.queues[t.Queue]
	q.remove(t)
	if t.IsLeased() {
		t.Suspect, t.Cancelling, t.Lease, t.Reserved = false, false, time.Time{}, ""
	}
	if t.State == task.Running {
		node, worker = t.Node, t.Worker
	}
	set()
	t.State = to
	if to.Final() {
		t.FinishedAt = now
		q.Finished++
	}
	if to == task.Cancelled {
		m.releaseKey(t)
	}
	q.add(t)
	addEntry(t, now, node, worker, why)
	return true
}

// addEntry appends the current state to the history.
func addEntry(t *task.Task, now time.Time, node, worker, why string) {
	e := task.Entry{
		Seq: 1, State: t.State, Attempt: t.Attempt, Generation: t.Generation, At: now, Node: node, Worker: worker, Error: why,
	}
	if n := len(t.History); n > 0 {
		e.Seq = t.History[n-1].Seq + 1
	}
	t.History = append(t.History, e)
	if spare := len(t.History) - task.HistoryEntries; spare > 0 {
		t.History = slices.Delete(t.History, 0, spare)
	}
}

// fullCopy copies a task, so that callers and the store share no memory.
func fullCopy(t *task.Task) task.Task {
	c := *t
	c.Payload.Inline, c.Result.Inline = slices.Clone(t.Payload.Inline), slices.Clone(t.Result.Inline)
	c.Meta, c.History = maps.Clone(t.Meta), slices.Clone(t.History)
	return c
}

// briefCopy copies the fields that most answers contain.
func briefCopy(t *task.Task) task.Task {
	short := *t
	short.Payload.Inline = nil
	short.History = t.History[max(0, len(t.History)-1):]
	return fullCopy(&short)
}

// Kind returns what people call this store.
func (m *Memory) Kind() string { return "memory" }
