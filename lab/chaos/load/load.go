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

// Run sends requests until all tasks are sent and enough is closed, or ctx ends; until both are so, there
// are new tasks. It returns when what was asked on the last connections has been answered, or these have broken.
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
func (l *Load) Sent() int { return int(l.tasks.Load()) }

// note adds an event.
func (l *Load) note(e history.Event) {
	e.At = int64(time.Since(l.config.Began))
	l.config.Events.Add(e)
}

// known is what the clients have heard of. It is safe for concurrent use.
type known struct {
	mu    sync.Mutex         // guards all below
	tasks []string           // that may be looked at, cancelled and retried
	long  []string           // of these, those that take their time
	keyed []request          // that may be sent again
	owed  map[string]request // poison that was not acknowledged yet, by key
}

const (
	// knownTasks, knownLong and knownKeyed bound what is remembered: the newest.
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

// owe notes poison that must be acknowledged: a run without it would prove less.
func (k *known) owe(r request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.owed[r.Key] = r
}

// paid notes that a request was acknowledged.
func (k *known) paid(r *request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.owed, r.Key)
}

// debt gives poison that was not acknowledged yet.
func (k *known) debt() (request, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.owed {
		return r, true
	}
	return request{}, false
}

// newest adds to a list, which has a bound.
func newest[T any](list []T, one T, most int) []T {
	if list = append(list, one); len(list) > most {
		list = list[1:]
	}
	return list
}

// task gives one of the tasks, or of the long ones; "" when there is none.
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

// key gives one of the requests with a key.
func (k *known) key(random *rand.Rand) (request, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.keyed) == 0 {
		return request{}, false
	}
	return k.keyed[random.IntN(len(k.keyed))], true
}
