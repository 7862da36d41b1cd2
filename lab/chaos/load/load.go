// Package load is the load of a chaos run: connections that enqueue, look at, wait for, cancel and retry tasks over the
// line protocol, and note every request and every reply. They use no client library, which would repeat requests: the
// checker compares what each request was really answered.
package load

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/lab/chaos/history"
)

// Config is what New needs.
type Config struct {
	Addrs       []string // a connection is made to one after the other
	Seed        uint64
	Tasks       int           // new tasks in all; more if it goes on after them
	Poison      int           // of these, how many kill their process
	Slow        int           // of a hundred, how many take longer than a lease
	Later       time.Duration // how long these take when they run again
	Busy        int           // of a hundred, how many take half a second or so
	Large       int           // of a hundred, how many have a payload, or a result, for blob storage
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

// note adds an event.
func (l *Load) note(e history.Event) {
	e.At = int64(time.Since(l.config.Began))
	l.config.Events.Add(e)
}

// known has the tasks that the clients know. It is safe for concurrent use.
type known struct {
	mu    sync.Mutex         // guards all below
	tasks []string           // to look at, cancel and retry
	long  []string           // of these, those that run long
	keyed []request          // requests to send again
	owed  map[string]request // requests for poison tasks that are not acknowledged, by key
}

const (
	// knownTasks, knownLong and knownKeyed bound what is kept: the newest.
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

// owe notes a request for a poison task, which must be acknowledged: otherwise the run proves less.
func (k *known) owe(r request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.owed[r.Key] = r
}

// paid notes that such a request was acknowledged.
func (k *known) paid(r *request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.owed, r.Key)
}

// debt returns a request for a poison task that is not acknowledged yet.
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
