// Package load is what clients do in a run of chaos: connections that enqueue, look at, wait
// for, cancel and retry tasks over the line protocol, and that note every request and every
// reply. They speak the protocol themselves and mend nothing, since a checker wants to know
// what a client was told, and what it was not.
package load

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/chaos/history"
)

// Config is what New needs.
type Config struct {
	Addr        string
	Seed        uint64
	Tasks       int           // new tasks in all
	Poison      int           // of these, how many kill their process
	Slow        int           // of a hundred, how many take longer than a lease
	Connections int           // at the same time
	Over        time.Duration // the time over which the tasks are spread
	Began       time.Time     // of the run
	Events      *history.Log
}

// Load is a load. It runs once.
type Load struct {
	config   Config
	began    time.Time // of the load
	requests atomic.Int64
	sessions atomic.Int64
	tasks    atomic.Int64 // new ones, so far
	known    known
}

// New makes a load.
func New(config Config) *Load { return &Load{config: config} }

// Run sends requests until all tasks are sent and enough is closed, or ctx ends. It returns
// when what was asked on the last connections has been answered, or these have broken.
func (l *Load) Run(ctx context.Context, enough <-chan struct{}) {
	l.began = time.Now()
	var workers sync.WaitGroup
	for i := range l.config.Connections {
		w := &worker{Load: l, random: rand.New(rand.NewPCG(l.config.Seed, uint64(i)+2)), number: i}
		workers.Go(func() { w.run(ctx, enough) })
	}
	workers.Wait()
}

// Sent is how many new tasks were sent so far.
func (l *Load) Sent() int { return int(min(l.tasks.Load(), int64(l.config.Tasks))) }

// note adds an event.
func (l *Load) note(e history.Event) {
	e.At = int64(time.Since(l.config.Began))
	l.config.Events.Add(e)
}

// known is what the clients have heard of. It is safe for concurrent use.
type known struct {
	mu    sync.Mutex // guards the two below
	tasks []string   // that may be looked at, cancelled and retried
	keyed []request  // that may be sent again
}

const (
	// knownTasks and knownKeyed bound what is remembered: the newest.
	knownTasks = 400
	knownKeyed = 50
)

func (k *known) addTask(task string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tasks = append(k.tasks, task)
	if len(k.tasks) > knownTasks {
		k.tasks = k.tasks[1:]
	}
}

func (k *known) addKeyed(r request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keyed = append(k.keyed, r)
	if len(k.keyed) > knownKeyed {
		k.keyed = k.keyed[1:]
	}
}

// task gives one of the tasks; "" when there is none.
func (k *known) task(random *rand.Rand) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.tasks) == 0 {
		return ""
	}
	return k.tasks[random.IntN(len(k.tasks))]
}

// key gives one of the requests with a key.
func (k *known) key(random *rand.Rand) (request, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.keyed) == 0 {
		return request{}, false
	}
	return k.keyed[random.IntN(len(k.keyed))], true
}
