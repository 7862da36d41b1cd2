// Package executor runs actions: one task, one attempt, now.
//
// A task that is expected to be quick runs in a Lane, on the goroutine that read
// it; a monitor takes the reading away from a goroutine whose task takes longer than
// a millisecond or two, so that what came behind it is served by another. A task whose action is
// known to be slow goes to a slot of the pool through its connection's Source. In both
// cases it runs under its timeout, a panic is caught, and exactly one result is
// given back: a JSON object that begins with {"ok":true or {"ok":false.
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
	// maxWaiting bounds the tasks of all connections that wait for a slot, and apart from these
	// the tasks of each action that wait for its own slots.
	maxWaiting = 4096
	// maxWaitingBytes bounds what these tasks hold in memory.
	maxWaitingBytes = 64 << 20
	// stuckGrace is how long a function may take to notice that its context has ended
	// before its slot counts as stuck.
	stuckGrace = time.Second
)

// Config is what New needs.
type Config struct {
	Registry    *actions.Registry // those to begin with; SetActions replaces them
	Slots       int               // tasks that run at once; 0: task.DefaultLimits
	QuickSlots  int               // batches of quick tasks that run at once; 0: task.DefaultLimits
	StuckSlots  int               // stuck slots that are replaced; 0: task.DefaultLimits
	MaxResult   int               // bytes of a result; 0: task.DefaultResultBytes
	TaskTimeout time.Duration     // of a task that names none; 0: task.DefaultTaskTimeout
	PoolWait    time.Duration     // how long Run waits for the pool; 0: task.DefaultPoolWait
	Logger      *slog.Logger      // panics and stuck slots; nil: none
	// Observe is told of single tasks, at most observed of them a second. It is called
	// on the goroutine that ran the task and should be quick. nil: nobody is told.
	Observe func(Event)
	// Summarize is told of all tasks of a second in which Observe was not told of each.
	Summarize func(Summary)
}

// Task is one task to run. Its slices must stay as they are until the result has been
// given back and the function has returned; Start makes its own copy.
type Task struct {
	ID      []byte // the client's id, for Observe only
	Action  []byte
	Payload []byte        // raw JSON; nil means null
	Timeout time.Duration // 0: the default
}

// Executor runs tasks. It is safe for concurrent use.
type Executor struct {
	config   Config
	pool     *pool.Pool
	table    atomic.Pointer[table]
	names    names
	lastHold atomic.Int64 // the latest time until which some action is held back, by now
	unknown  actionStats  // counts tasks whose action nobody has registered
	monitor  *monitor
	sample   sample
	base     time.Time      // what monotonic times are counted from
	running  sync.WaitGroup // attempts outside of lanes
	stop     context.CancelFunc
	stopped  context.Context // ends when running tasks shall
	stuck    stuckCount
}

// New makes an executor. Close ends it.
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

// set sets a zero field to its default.
func set[T comparable](field *T, fallback T) {
	var zero T
	if *field == zero {
		*field = fallback
	}
}

// now is the monotonic time since the executor was made, in nanoseconds.
func (e *Executor) now() int64 { return int64(time.Since(e.base)) }

// Healthy reports whether every stuck slot could be replaced.
func (e *Executor) Healthy() bool { return e.pool.Healthy() }

// Limits returns the number of slots and of quick slots.
func (e *Executor) Limits() (slots, quick int) { return e.config.Slots, e.config.QuickSlots }

// isSlow reports whether tasks of the action belong into slots: it says so itself, has slots
// of its own, or was found to be slow. On a busy machine even a quick task may seem so, when its thread
// does not get a core; what declares itself quick is trusted.
func isSlow(entry *actions.Entry, known *known) bool {
	return entry.Slow || entry.Slots > 0 || (!entry.Quick && known.slow.Load() >= slowAt)
}

// Close waits until no task runs, stuck ones aside; when ctx ends first, it cancels
// those that do and waits no longer than they take to notice, at most stuckGrace. No
// task may be given to the executor any more.
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
