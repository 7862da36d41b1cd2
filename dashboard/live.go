package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"sync"
	"time"

	"github.com/posta-tasks/posta/task"
)

const (
	// liveEvery is how often open pages get news, and how often the counters are added to the history.
	liveEvery = time.Second
	// idleEvery is how often the store is asked while no page is open, for the chart of the backlog and to know the nodes.
	idleEvery = time.Minute
	// maxStreams is how many pages may be open at once on a node.
	maxStreams = 1000
	// streamPatience is how long one write to a page may take.
	streamPatience = 10 * time.Second
	// pollPatience is how long the store may take to answer.
	pollPatience = 2 * time.Second
	// goneLasts is how long a node that has disappeared is still shown.
	goneLasts = 2 * time.Minute
)

// news is what open pages receive each second: numbers, and for each part of the system a mark that changes with it.
type news struct {
	At      int64             `json:"at"`
	Numbers map[string]int64  `json:"n"`
	Parts   map[string]string `json:"parts"`
	Away    bool              `json:"away,omitempty"` // the store does not answer
}

// live asks the store once a second while pages are open, and sends the same bytes to all of them.
type live struct {
	config *Config
	closed chan struct{}
	once   sync.Once

	mu      sync.Mutex
	streams map[chan []byte]struct{}
	seen    map[string]time.Time // when each node was alive last
}

func newLive(config *Config) *live {
	return &live{config: config, closed: make(chan struct{}), streams: map[chan []byte]struct{}{}, seen: map[string]time.Time{}}
}

// run samples until ctx ends.
func (l *live) run(ctx context.Context) {
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	var polled time.Time
	for {
		now := l.config.Now()
		l.config.History.Add(l.config.Node, now, l.config.Counters())
		if l.config.Source.Keeps() && (l.watched() || now.Sub(polled) >= idleEvery) {
			polled = now
			l.publish(l.poll(ctx, now))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			l.close()
			return
		}
	}
}

// close ends all streams.
func (l *live) close() { l.once.Do(func() { close(l.closed) }) }

func (l *live) watched() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.streams) > 0
}

// poll asks the store once for all pages.
func (l *live) poll(ctx context.Context, now time.Time) []byte {
	ctx, cancel := context.WithTimeout(withoutVisitor(ctx), pollPatience)
	defer cancel()
	fresh := news{At: now.UnixMilli(), Numbers: map[string]int64{}, Parts: map[string]string{}}
	queues, refusal := l.config.Source.Queues(ctx)
	nodes, second := l.config.Source.Nodes(ctx)
	workers, _ := l.config.Source.Workers(ctx)
	fresh.Away = refusal != nil || second != nil
	tasks, all, places := fnv.New64a(), fnv.New64a(), fnv.New64a()
	for _, q := range queues {
		fmt.Fprintln(tasks, q.Name, q.Accepted, q.Finished, q.Scheduled, q.Queued, q.Running, q.Failed)
		fmt.Fprintln(all, q.Name, q.Paused, q.Unserved, q.Accepted, q.Finished, q.Scheduled, q.Queued, q.Running, q.Failed, int(q.OldestAge.Seconds()/5), int(q.RateIn*10), int(q.RateOut*10))
		fresh.Numbers["scheduled"] += q.Scheduled
		fresh.Numbers["queued"] += q.Queued
		fresh.Numbers["running"] += q.Running
		fresh.Numbers["failed"] += q.Failed
	}
	for _, n := range nodes {
		fmt.Fprintln(places, n.Name, n.Started, n.Slots, n.Stuck, n.Actions)
	}
	for _, w := range workers {
		fmt.Fprintln(places, w.Name, w.Node, w.Held, w.Over, w.Slots, w.Stuck, w.Quiet)
	}
	fresh.Numbers["nodes"], fresh.Numbers["workers"] = int64(len(nodes)), int64(len(workers))
	if refusal == nil {
		l.config.History.Backlog(fresh.Numbers["scheduled"] + fresh.Numbers["queued"])
	}
	l.remember(nodes, second == nil, now)
	busy := 0
	for _, c := range l.config.History.Latest(now) {
		busy += c.Busy
		fmt.Fprintln(places, c.Busy, c.Slots)
		fmt.Fprintln(all, c.RunsDone, c.RunsFailed)
	}
	fresh.Numbers["busy"] = int64(busy)
	parts := fmt.Sprint(l.config.Source.Parts())
	fresh.Parts = map[string]string{
		"tasks": fmt.Sprintf("%x", tasks.Sum64()), "queues": fmt.Sprintf("%x", all.Sum64()), "nodes": fmt.Sprintf("%x", places.Sum64()),
		"overview": fmt.Sprintf("%x%x%s%d", all.Sum64(), places.Sum64(), parts, now.Unix()/5),
	}
	text, _ := json.Marshal(fresh) // it has only strings and numbers
	return fmt.Appendf(nil, "data: %s\n\n", text)
}

// remember notes which nodes are alive.
func (l *live) remember(nodes []task.Node, known bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range nodes {
		l.seen[n.Name] = now
	}
	for name, at := range l.seen {
		if known && now.Sub(at) > goneLasts {
			delete(l.seen, name)
		}
	}
}

// gone returns the nodes that were alive lately, and since when they are not, given those that are.
func (l *live) gone(nodes []task.Node, now time.Time) map[string]time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost := map[string]time.Duration{}
	for name, at := range l.seen {
		lost[name] = now.Sub(at)
	}
	for _, n := range nodes {
		delete(lost, n.Name)
	}
	return lost
}

// publish sends an event to all streams. A page that is too slow misses it, and gets the next one.
func (l *live) publish(event []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for stream := range l.streams {
		select {
		case stream <- event:
		default:
		}
	}
}

// join adds a stream; false if there are too many.
func (l *live) join() (stream chan []byte, leave func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.streams) >= maxStreams {
		return nil, nil, false
	}
	stream = make(chan []byte, 1)
	l.streams[stream] = struct{}{}
	return stream, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.streams, stream)
	}, true
}

// stream sends a page what has changed, once a second, until it is closed.
//
//	→ GET /live
//	← 200 data: {"at":…,"n":{"queued":3,…},"parts":{"tasks":"9f…",…}}
func (d *Dashboard) stream(q *request) *task.Error {
	if !d.config.Source.SeesAll(q.ctx()) { // the numbers are those of the whole system
		return task.Refuse(task.Forbidden, "%s", q.lang.text("error.live"))
	}
	events, leave, ok := d.live.join()
	if !ok {
		return task.Refuse(task.Overloaded, "%s", q.lang.text("error.streams"))
	}
	defer leave()
	q.w.Header().Set("Content-Type", "text/event-stream")
	q.w.Header().Set("X-Accel-Buffering", "no") // otherwise Nginx would buffer the events
	control := http.NewResponseController(q.w)
	write := func(text []byte) bool {
		_ = control.SetWriteDeadline(time.Now().Add(streamPatience))
		_, err := q.w.Write(text)
		return err == nil && control.Flush() == nil
	}
	if !write([]byte("retry: 1000\n\n")) || q.r.Method == http.MethodHead {
		return nil
	}
	for {
		select {
		case event := <-events:
			if !write(event) {
				return nil
			}
		case <-q.ctx().Done():
			return nil
		case <-d.live.closed:
			return nil
		}
	}
}

// withoutVisitor marks a call that the node makes for itself.
func withoutVisitor(ctx context.Context) context.Context {
	return context.WithValue(ctx, ownCall{}, true)
}

type ownCall struct{}

// IsOwn reports whether a call of a Source is one that the dashboard makes for itself, and not for a visitor.
func IsOwn(ctx context.Context) bool { return ctx.Value(ownCall{}) != nil }
