// Package load is the load of a chaos run: connections that enqueue, read, wait for, cancel and retry tasks over
// the line protocol, and record every request and every reply. They use no client library, since it would repeat
// requests, while the checker needs the answer to each request.
package load

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/lab/chaos/history"
)

// Config configures a Load.
type Config struct {
	Addrs       []string // addresses to which the connections go in turn
	Seed        uint64
	Tasks       int           // total number of new tasks; more if the run continues after them
	Poison      int           // how many of them kill their process
	Slow        int           // percentage of tasks that run longer than a lease
	Later       time.Duration // how long these tasks take when they run again
	Busy        int           // percentage of tasks that take about half a second
	Large       int           // percentage of tasks with a payload or a result for blob storage
	Remote      int           // percentage of tasks for workers, of those whose actions workers have
	Connections int           // at the same time
	Over        time.Duration // the time over which the tasks are spread
	Began       time.Time     // when the run began
	Events      *history.Log
}

// Load is a load. It runs once.
type Load struct {
	config   Config
	began    time.Time // when the load began
	requests atomic.Int64
	sessions atomic.Int64
	tasks    atomic.Int64 // new tasks so far
	known    known
}

// New returns a load.
func New(config Config) *Load {
	return &Load{config: config, known: known{owed: map[string]request{}}}
}

// Run sends requests until all tasks are sent and enough is closed, or until ctx ends. It keeps enqueuing new tasks until
// then. It returns when every request on the last connections is answered, or these are broken.
func (l *Load) Run(ctx context.Context, enough <-chan struct{}) {
	l.began = time.Now()
	var workers sync.WaitGroup
	for i := range l.config.Connections {
		w := &worker{Load: l, random: rand.New(rand.NewPCG(l.config.Seed, uint64(i)+2)), number: i}
		workers.Go(func() { w.run(ctx, enough) })
	}
	workers.Wait()
}

// Sent returns how many new tasks were sent so far.
func (l *Load) Sent() int { return int(l.tasks.Load()) }

// note records an event.
func (l *Load) note(e history.Event) {
	e.At = int64(time.Since(l.config.Began))
	l.config.Events.Add(e)
}

// known has the tasks that the clients know. It is safe for concurrent use.
type known struct {
	mu    sync.Mutex         // guards the fields below
	tasks []string           // tasks to read, cancel and retry
	long  []string           // tasks among them that run long
	keyed []request          // requests to send again
	owed  map[string]request // requests for poison tasks that are not acknowledged, by key
}

const (
	// knownTasks, knownLong and knownKeyed are how many of the newest are kept.
	knownTasks = 400
	knownLong  = 8
	knownKeyed = 50
)

func (k *known) addTask(task string, long bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tasks = newest(k.tasks, task, knownTasks)
	if long {
		k.long = newest(k.long, task, knownLong)
	}
}

func (k *known) addKeyed(r request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keyed = newest(k.keyed, r, knownKeyed)
}

// owe adds a request for a poison task. It must be acknowledged, since otherwise the run proves less.
func (k *known) owe(r request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.owed[r.Key] = r
}

// paid removes a request that was acknowledged.
func (k *known) paid(r *request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.owed, r.Key)
}

// debt returns a request for a poison task that was not acknowledged yet.
func (k *known) debt() (request, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.owed {
		return r, true
	}
	return request{}, false
}

// newest appends to a list and drops the oldest when the list is too long.
func newest[T any](list []T, one T, most int) []T {
	if list = append(list, one); len(list) > most {
		list = list[1:]
	}
	return list
}

// task returns a random task, or one of those that run long; "" if there is none.
func (k *known) task(random *rand.Rand, long bool) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := k.tasks
	if long {
		list = k.long
	}
	if len(list) == 0 {
		return ""
	}
	return list[random.IntN(len(list))]
}

// key returns a random request with a key.
func (k *known) key(random *rand.Rand) (request, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.keyed) == 0 {
		return request{}, false
	}
	return k.keyed[random.IntN(len(k.keyed))], true
}
