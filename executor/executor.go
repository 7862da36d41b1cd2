// Package executor runs actions: one task, one attempt, now.
//
// A quick task runs in a Lane, on the goroutine that reads its connection. If the task takes longer than one or two
// milliseconds, a monitor lets another goroutine read the connection, so that the tasks behind it do not wait. A
// task whose action is known to be slow goes through the Source of its connection to a slot of the pool. In both
// cases the task runs under its timeout, panics are caught, and exactly one result is delivered: a JSON object that
// begins with {"ok":true or {"ok":false.
//
//	Lane.Run ──────────────→ result, on the same goroutine
//	   │ takes long
//	   ↓
//	Source ──→ pool slot ──→ result, delivered
//	                     ──→ at the timeout: "timed out after 2s", delivered; the slot is
//	                         stuck until the function returns
package executor

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/pool"
	"github.com/posta-tasks/posta/task"
)

const (
	// maxWaiting is how many tasks of all connections may wait for a slot. The same number may wait for the slots of
	// each action that has its own.
	maxWaiting = 4096
	// maxWaitingBytes is how much memory these tasks may use.
	maxWaitingBytes = 64 << 20
	// stuckGrace is how long a function may run after its context has ended before its slot counts as stuck.
	stuckGrace = time.Second
)

// Config configures an Executor.
type Config struct {
	Registry    *actions.Registry // the actions at the start; SetActions replaces them
	Slots       int               // tasks that run at once; 0: task.DefaultLimits
	QuickSlots  int               // batches of quick tasks that run at once; 0: task.DefaultLimits
	StuckSlots  int               // stuck slots that are replaced; 0: task.DefaultLimits
	MaxResult   int               // maximal size of a result in bytes; 0: task.DefaultResultBytes
	TaskTimeout time.Duration     // for tasks without a timeout; 0: task.DefaultTaskTimeout
	PoolWait    time.Duration     // how long Run waits for the pool; 0: task.DefaultPoolWait
	Logger      *slog.Logger      // logs panics and stuck slots; nil: no logs
	Remote      Remote            // runs tasks of other actions; nil: they are unknown
	Peers       Peers             // other nodes, to which tasks are passed on; nil: none are
	// Observe is called for tasks that have ended, at most observed times a second, on the goroutine that ran the
	// task. It must return quickly. nil: it is not called.
	Observe func(Event)
	// Summarize is called for each second in which Observe was not called for every task.
	Summarize func(Summary)
}

// Task is one task to run. Its slices must not change until the result was delivered and the function has returned.
// Start copies them.
type Task struct {
	ID      []byte // the id of the client, for Observe only
	Action  []byte
	Payload []byte        // raw JSON; nil means null
	Timeout time.Duration // 0: the default
	// PassedOn is why another node has passed the task on to this one, which never passes it on again; "": it has not.
	PassedOn task.PassedOn
}

// Executor runs tasks. It is safe for concurrent use.
type Executor struct {
	config   Config
	pool     *pool.Pool
	table    atomic.Pointer[table]
	names    names
	lastHold atomic.Int64 // the latest time until which any action is held back, by now
	unknown  actionStats  // counts tasks whose action is not registered
	monitor  *monitor
	sample   sample
	base     time.Time      // the start of the monotonic time
	running  sync.WaitGroup // attempts outside of lanes
	stop     context.CancelFunc
	stopped  context.Context // ends when Close cancels the running tasks
	stuck    stuckCount
	passing  atomic.Int64 // tasks that other nodes have for this one
}

// New returns an executor. The caller must call Close.
func New(config Config) (*Executor, error) {
	if config.Registry == nil {
		return nil, errors.New("executor: a registry of actions is needed")
	}
	config = config.withDefaults()
	permits, err := pool.New(pool.Config{
		Slots: config.Slots, Quick: config.QuickSlots, Stuck: config.StuckSlots,
		Waiting: maxWaiting, WaitingBytes: maxWaitingBytes,
	})
	if err != nil {
		return nil, err
	}
	e := &Executor{config: config, pool: permits, base: time.Now(), names: names{all: map[string]*known{}}}
	e.setActions(config.Registry)
	e.stopped, e.stop = context.WithCancel(context.Background())
	e.sample.config, e.sample.totals = &e.config, e.tasks
	e.monitor = newMonitor(config.QuickSlots)
	go e.monitor.run()
	return e, nil
}

func (c Config) withDefaults() Config {
	limits := task.DefaultLimits()
	set(&c.Slots, limits.Slots)
	set(&c.QuickSlots, limits.QuickSlots)
	set(&c.StuckSlots, limits.StuckSlots)
	set(&c.MaxResult, limits.ResultBytes)
	set(&c.TaskTimeout, limits.TaskTimeout)
	set(&c.PoolWait, limits.PoolWait)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// set replaces a zero field by its default.
func set[T comparable](field *T, fallback T) {
	var zero T
	if *field == zero {
		*field = fallback
	}
}

// now returns the time since the executor was made, in nanoseconds, by the monotonic clock.
func (e *Executor) now() int64 { return int64(time.Since(e.base)) }

// Healthy reports whether every stuck slot could be replaced.
func (e *Executor) Healthy() bool { return e.pool.Healthy() }

// Limits returns the number of slots and of quick slots.
func (e *Executor) Limits() (slots, quick int) { return e.config.Slots, e.config.QuickSlots }

// isSlow reports whether tasks of the action run in slots: the action is declared slow, has slots of its own, or
// was slow before. An action that is declared quick is always trusted, since on a busy machine even a quick task
// may take long, when its thread waits for a core.
func isSlow(entry *actions.Entry, known *known) bool {
	return entry.Slow || entry.Slots > 0 || (!entry.Quick && known.slow.Load() >= slowAt)
}

// Close waits until no task runs, except stuck ones. When ctx ends first, Close cancels the tasks that run and
// waits at most a second for them to return. After the call of Close, no task may be given to the executor.
func (e *Executor) Close(ctx context.Context) error {
	idle := make(chan struct{})
	go func() {
		e.running.Wait()
		close(idle)
	}()
	var err error
	select {
	case <-idle:
	case <-ctx.Done():
		e.stop()
		select {
		case <-idle:
		case <-time.After(stuckGrace):
			err = errors.New("executor: tasks that ignore their context are left behind")
		}
	}
	e.stop()
	e.monitor.close()
	e.sample.close()
	return err
}
