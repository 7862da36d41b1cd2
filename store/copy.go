package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/posta-tasks/posta/task"
)

// copyBatch is how many tasks Copy reads and writes at a time. Together with their inline bodies they take 32
// MiB at most.
const copyBatch = 256

// countBatch is how many tasks Copy counts at a time.
const countBatch = 10_000

// The reasons to refuse a copy.
var (
	ErrNotEmpty = errors.New("the target is not empty")
	ErrInUse    = errors.New("a node uses the store")
)

// CopyConfig configures Copy. Its zero value copies everything into an empty store.
type CopyConfig struct {
	// Resume accepts a target that already has some of the tasks, because an earlier copy was interrupted. Each
	// of them must be the same in the target and in the source.
	Resume bool
	// Bodies is called for each task before it is stored. It copies the payload and the result that the task
	// has in blob storage. nil does nothing.
	Bodies func(ctx context.Context, t *task.Task) error
	// Progress is called after each batch. nil means no calls.
	Progress func(done, total int)
	// Now is the clock that decides which tasks are past their keep. nil means time.Now.
	Now func() time.Time
}

// Copied is the result of Copy.
type Copied struct {
	Tasks    int // in the target when Copy ends
	Present  int // of these, the ones that were there before
	PastKeep int // not copied, because they are finished and past their keep
	// Counts is the number of tasks in the target by queue and state.
	Counts map[string]map[task.State]int
}

// Copy copies every task of one store into another, with its history and result, the queues, the keys and the audit. No node may
// use either store meanwhile: see WaitUntilUnused. Copy does not copy the register of nodes. A running task is
// running in the target too, until its lease ends there.
//
// Finally Copy counts the tasks of each queue and state in the target, and fails if a count differs from that
// of the source. After an error the target may have some of the tasks: either empty it, or call Copy with
// Resume.
func Copy(ctx context.Context, from, to Store, cfg CopyConfig) (Copied, error) {
	c := &copying{from: from, to: to, CopyConfig: cfg, counts: counts{}}
	if c.Now == nil {
		c.Now = time.Now
	}
	for _, step := range []func(context.Context) error{c.prepare, c.tasks, c.queues, c.keys, c.audit, c.check} {
		if err := step(ctx); err != nil {
			return c.Copied, err
		}
	}
	return c.Copied, nil
}

// copying is the state of a running Copy.
type copying struct {
	CopyConfig
	Copied
	from, to Store
	before   counts // of the source, when the copy began
	seen     int    // tasks of the source that were read so far
	total    int
	counts   counts // that the target must have
}

// counts is the number of tasks by queue and state.
type counts map[string]map[task.State]int

func (c counts) add(t *task.Task) {
	if c[t.Queue] == nil {
		c[t.Queue] = map[task.State]int{}
	}
	c[t.Queue][t.State]++
}

func (c counts) total() (n int) {
	for _, states := range c {
		for _, k := range states {
			n += k
		}
	}
	return n
}

// difference describes the first queue and state whose counts differ. It returns "" if there is none.
func (c counts) difference(other counts) string {
	names := map[string]bool{}
	for name := range c {
		names[name] = true
	}
	for name := range other {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		for _, s := range task.States() {
			if here, there := c[name][s], other[name][s]; here != there {
				return fmt.Sprintf("queue %s has %d %s tasks, want %d", name, here, s, there)
			}
		}
	}
	return ""
}

// count counts all tasks of a store.
func count(ctx context.Context, s Store) (counts, error) {
	all := counts{}
	err := each(ctx, s, countBatch, func(tasks []task.Task) error {
		for i := range tasks {
			all.add(&tasks[i])
		}
		return nil
	})
	return all, err
}

// each calls do with all tasks of a store, newest first, in pages of at most limit.
func each(ctx context.Context, s Store, limit int, do func(tasks []task.Task) error) error {
	query := Query{Limit: limit}
	for {
		page, err := s.List(ctx, query)
		if err == nil {
			err = do(page.Tasks)
		}
		if err != nil || page.Cursor == "" {
			return err
		}
		query.Cursor = page.Cursor
	}
}

// prepare counts the tasks of the source and refuses a target that has queues or an audit.
func (c *copying) prepare(ctx context.Context) (err error) {
	if !c.Resume {
		queues, err := c.to.Queues(ctx)
		if err != nil {
			return err
		}
		if len(queues) > 0 {
			return fmt.Errorf("%w: it has the queue %s", ErrNotEmpty, queues[0].Name)
		}
		page, err := c.to.Audit(ctx, AuditQuery{Limit: 1})
		if err != nil {
			return fmt.Errorf("reading the audit of the target: %w", err)
		}
		if len(page.Entries) > 0 {
			return fmt.Errorf("%w: it has an audit", ErrNotEmpty)
		}
	}
	c.before, err = count(ctx, c.from)
	c.total = c.before.total()
	return err
}

// tasks copies all tasks.
func (c *copying) tasks(ctx context.Context) error {
	source := counts{}
	err := each(ctx, c.from, copyBatch, func(listed []task.Task) error {
		if len(listed) == 0 {
			return nil
		}
		ids := make([]string, len(listed))
		for i := range listed {
			ids[i] = listed[i].ID
			source.add(&listed[i])
		}
		tasks, err := c.from.Get(ctx, ids)
		if err == nil {
			err = c.batch(ctx, tasks)
		}
		c.seen += len(listed)
		if c.Progress != nil && err == nil {
			c.Progress(c.seen, c.total)
		}
		return err
	})
	if err == nil {
		if d := source.difference(c.before); d != "" {
			err = fmt.Errorf("the source changed during the copy: %s", d)
		}
	}
	return err
}

// isPastKeep reports whether the store may delete a task.
func isPastKeep(t *task.Task, now time.Time) bool {
	return t.State.Final() && !t.FinishedAt.Add(t.KeptFor(t.State)).After(now)
}

// batch copies one batch of tasks.
func (c *copying) batch(ctx context.Context, tasks []task.Task) error {
	now := c.Now()
	tasks = slices.DeleteFunc(tasks, func(t task.Task) bool {
		past := isPastKeep(&t, now)
		if past {
			c.PastKeep++
		}
		return past
	})
	if c.Bodies != nil {
		for i := range tasks {
			if err := c.Bodies(ctx, &tasks[i]); err != nil {
				return err
			}
		}
	}
	stored, err := c.to.Import(ctx, tasks)
	if err != nil {
		return err
	}
	var left []task.Task
	for i := range tasks {
		if !stored[i] {
			left = append(left, tasks[i])
		}
		c.counts.add(&tasks[i])
	}
	c.Present += len(left)
	return c.same(ctx, left)
}

// same fails unless the target has exactly these tasks.
func (c *copying) same(ctx context.Context, want []task.Task) error {
	if len(want) == 0 {
		return nil
	}
	ids := make([]string, len(want))
	for i := range want {
		ids[i] = want[i].ID
	}
	got, err := c.to.Get(ctx, ids)
	for i := range got {
		switch {
		case err != nil:
		case got[i].ID == "":
			err = fmt.Errorf("task %s was neither stored in the target nor found there", want[i].ID)
		case !reflect.DeepEqual(got[i], want[i]):
			err = fmt.Errorf("task %s is already in the target, but it differs from the source", want[i].ID)
		}
	}
	return err
}

// queues copies the state of each queue that does not follow from its tasks.
func (c *copying) queues(ctx context.Context) error {
	queues, err := c.from.Queues(ctx)
	if err != nil {
		return err
	}
	return c.to.ImportQueues(ctx, queues)
}

// check compares the counts of the target with those of the source.
func (c *copying) check(ctx context.Context) error {
	got, err := count(ctx, c.to)
	if err != nil {
		return err
	}
	c.Tasks, c.Counts = got.total(), got
	if d := got.difference(c.counts); d != "" {
		return fmt.Errorf("the copy differs from the source: %s", d)
	}
	queues, err := c.to.Queues(ctx)
	if err != nil {
		return err
	}
	kept := counts{}
	for _, q := range queues {
		kept[q.Name] = map[task.State]int{
			task.Scheduled: int(q.Scheduled), task.Queued: int(q.Queued), task.Running: int(q.Running), task.Failed: int(q.Failed),
			task.Done: got[q.Name][task.Done], task.Cancelled: got[q.Name][task.Cancelled], // not counted by queues
		}
	}
	if d := kept.difference(got); d != "" {
		return fmt.Errorf("the counts of the target's queues are wrong: %s", d)
	}
	return nil
}

// unusedEvery is the interval at which WaitUntilUnused polls the store.
const unusedEvery = time.Second

// WaitUntilUnused waits until no node has sent a heartbeat to the store for task.LeaseTime. It fails with
// ErrInUse when nodes send one meanwhile, since then their processes are alive. The error names all of them: it is
// returned when every live node has had the time to send one. If WaitUntilUnused has to wait, it first calls waiting with
// one of the nodes.
func WaitUntilUnused(ctx context.Context, s Store, waiting func(Node)) error {
	first, err := s.Nodes(ctx)
	if err != nil || len(first) == 0 {
		return err
	}
	seen := map[string]time.Time{}
	for _, n := range first {
		seen[n.Name] = n.Seen
	}
	waiting(first[0])
	live := map[string]string{}
	for began := time.Now(); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(unusedEvery):
		}
		nodes, err := s.Nodes(ctx)
		if err != nil || len(nodes) == 0 && len(live) == 0 {
			return err
		}
		for _, n := range nodes {
			if !n.Seen.Equal(seen[n.Name]) {
				live[n.Name] = fmt.Sprintf("node %s, process %d", n.Name, n.PID)
			}
		}
		if len(live) > 0 && time.Since(began) > task.LeaseRenew+unusedEvery {
			names := slices.Sorted(maps.Keys(live))
			for i, name := range names {
				names[i] = live[name]
			}
			return fmt.Errorf("%w: %s", ErrInUse, strings.Join(names, "; "))
		}
	}
}

// keys copies the keys of clients. A key that the target has already stays as it is.
func (c *copying) keys(ctx context.Context) error {
	keys, err := c.from.AccessKeys(ctx)
	if err != nil {
		return fmt.Errorf("reading the keys of clients: %w", err)
	}
	for _, key := range keys {
		if _, err := c.to.AddKey(ctx, key); err != nil && task.CodeOf(err) != task.Conflict {
			return fmt.Errorf("writing the keys of clients: %w", err)
		}
	}
	return nil
}

// audit copies the audit, the oldest entry first. The target has the oldest ones already if Resume continues a copy.
func (c *copying) audit(ctx context.Context) error {
	present, err := allOfAudit(ctx, c.to)
	if err != nil {
		return fmt.Errorf("reading the audit of the target: %w", err)
	}
	entries, err := allOfAudit(ctx, c.from)
	if err != nil {
		return fmt.Errorf("reading the audit: %w", err)
	}
	for batch := range slices.Chunk(entries[min(len(present), len(entries)):], MaxAuditPage) {
		if err := c.to.AddAudit(ctx, batch); err != nil {
			return fmt.Errorf("writing the audit: %w", err)
		}
	}
	return nil
}

// allOfAudit returns the entries of a store, the oldest first.
func allOfAudit(ctx context.Context, s Store) ([]task.AuditEntry, error) {
	var all []task.AuditEntry
	query := AuditQuery{Limit: MaxAuditPage}
	for {
		page, err := s.Audit(ctx, query)
		if err != nil {
			return nil, err
		}
		if all = append(all, page.Entries...); page.Next == 0 {
			slices.Reverse(all)
			return all, nil
		}
		query.Before = page.Next
	}
}
