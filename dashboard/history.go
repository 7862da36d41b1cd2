package dashboard

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Counters are what a node has counted since its start, and what it is doing now.
type Counters struct {
	Started                 time.Time // of the process; other counters begin anew with it
	Done, Failed, Cancelled int64     // durable tasks that this node has ended
	// The attempts in the pool of the node, including direct runs.
	RunsDone, RunsFailed, RunsTimedOut, RunsCancelled int64
	WaitBounds, RunBounds                             []float64 // seconds
	Waits, Runs                                       []int64   // one more than the bounds
	Actions                                           map[string]ActionCount
	Slots, Busy, Waiting, Stuck                       int
}

// ActionCount counts the attempts of an action, and adds their seconds.
type ActionCount struct {
	Attempts int64
	Seconds  float64
}

// Span is a length of time that the charts can show.
type Span struct {
	Name  string
	Step  time.Duration
	Count int
}

// Spans returns the spans: five minutes by seconds, an hour by ten seconds, a day by five minutes.
func Spans() []Span {
	return []Span{{"5m", time.Second, 300}, {"1h", 10 * time.Second, 360}, {"24h", 5 * time.Minute, 288}}
}

// tick is what the nodes have done in one step of a span.
type tick struct {
	at      int64 // the number of the step since 1970; other numbers mean an older round of the ring
	ended   [3]float64
	runs    [4]float64
	waits   []int64
	times   []int64
	backlog int64
}

// History has the counters of the nodes of a process over time. Each node adds its own; reading merges them. The memory
// is fixed. It is safe for concurrent use.
type History struct {
	mu       sync.Mutex
	rings    [][]tick // by span
	nodes    map[string]*nodeHistory
	waits    []float64 // bounds
	times    []float64 // bounds
	backlog  int64
	measured bool // backlog is known
}

type nodeHistory struct {
	last Counters
	seen time.Time
}

// NewHistory returns an empty History.
func NewHistory() *History {
	h := &History{nodes: map[string]*nodeHistory{}}
	for _, s := range Spans() {
		h.rings = append(h.rings, make([]tick, s.Count))
	}
	return h
}

// Add adds what a node has counted since its last call.
func (h *History) Add(node string, now time.Time, c Counters) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.nodes[node]
	h.nodes[node] = &nodeHistory{c, now}
	h.waits, h.times = c.WaitBounds, c.RunBounds
	if before == nil || !before.last.Started.Equal(c.Started) {
		return // the first sample only says where the counters begin
	}
	last := &before.last
	ended := [3]int64{c.Done - last.Done, c.Failed - last.Failed, c.Cancelled - last.Cancelled}
	runs := [4]int64{c.RunsDone - last.RunsDone, c.RunsFailed - last.RunsFailed, c.RunsTimedOut - last.RunsTimedOut, c.RunsCancelled - last.RunsCancelled}
	for i, span := range Spans() {
		t := h.tick(i, span, now)
		for k, n := range ended {
			t.ended[k] += float64(max(0, n))
		}
		for k, n := range runs {
			t.runs[k] += float64(max(0, n))
		}
		addBuckets(&t.waits, c.Waits, last.Waits)
		addBuckets(&t.times, c.Runs, last.Runs)
		t.backlog = max(t.backlog, h.backlog)
	}
}

// Backlog sets the number of tasks that wait, in all queues.
func (h *History) Backlog(n int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.backlog, h.measured = n, true
}

// tick returns the step of a span that a time belongs to. h.mu is held.
func (h *History) tick(ring int, span Span, now time.Time) *tick {
	at := now.UnixNano() / int64(span.Step)
	t := &h.rings[ring][at%int64(span.Count)]
	if t.at != at {
		*t = tick{at: at, waits: t.waits[:0], times: t.times[:0], backlog: h.backlog}
	}
	return t
}

func addBuckets(sum *[]int64, now, before []int64) {
	for len(*sum) < len(now) {
		*sum = append(*sum, 0)
	}
	for i := range now {
		n := now[i]
		if i < len(before) {
			n -= before[i]
		}
		(*sum)[i] += max(0, n)
	}
}

// Past is the history of a span, oldest first.
type Past struct {
	Span    Span
	Ended   [3][]float64 // a second: done, failed, cancelled
	Runs    [4][]float64 // a second: done, failed, timed out, cancelled
	Backlog []float64
	Wait    Percentiles
	Run     Percentiles
	Failed  int64 // tasks in the span
	Total   int64 // tasks in the span
}

// Percentiles are those of the times in a span, in seconds, estimated from their histogram.
type Percentiles struct {
	Count              int64
	P50, P95, P99, Max float64
}

// Past returns the history of a span up to now.
func (h *History) Past(name string, now time.Time) Past {
	ring := max(0, slices.IndexFunc(Spans(), func(s Span) bool { return s.Name == name }))
	span := Spans()[ring]
	h.mu.Lock()
	defer h.mu.Unlock()
	p := Past{Span: span}
	var waits, times []int64
	last := now.UnixNano()/int64(span.Step) - 1 // the step of now is not over
	for at := last - int64(span.Count) + 2; at <= last; at++ {
		t := &h.rings[ring][at%int64(span.Count)]
		if t.at != at {
			t = &tick{}
		}
		for k := range t.ended {
			p.Ended[k] = append(p.Ended[k], t.ended[k]/span.Step.Seconds())
			p.Total += int64(t.ended[k])
		}
		p.Failed += int64(t.ended[1])
		for k := range t.runs {
			p.Runs[k] = append(p.Runs[k], t.runs[k]/span.Step.Seconds())
		}
		p.Backlog = append(p.Backlog, float64(t.backlog))
		addBuckets(&waits, t.waits, nil)
		addBuckets(&times, t.times, nil)
	}
	p.Wait, p.Run = percentiles(h.waits, waits), percentiles(h.times, times)
	return p
}

// percentiles estimates percentiles by interpolation within the bucket that has them.
func percentiles(bounds []float64, counts []int64) Percentiles {
	var p Percentiles
	for _, n := range counts {
		p.Count += n
	}
	p.P50, p.P95, p.P99, p.Max = quantile(bounds, counts, 0.5), quantile(bounds, counts, 0.95), quantile(bounds, counts, 0.99), quantile(bounds, counts, 1)
	return p
}

func quantile(bounds []float64, counts []int64, share float64) float64 {
	total := int64(0)
	for _, n := range counts {
		total += n
	}
	if total == 0 || len(bounds) == 0 {
		return 0
	}
	rank, below := share*float64(total), int64(0)
	for i, n := range counts {
		if n > 0 && float64(below+n) >= rank {
			if i >= len(bounds) {
				return bounds[len(bounds)-1]
			}
			low := 0.0
			if i > 0 {
				low = bounds[i-1]
			}
			return low + (bounds[i]-low)*(rank-float64(below))/float64(n)
		}
		below += n
	}
	return bounds[len(bounds)-1]
}

// nodeLasts is how long a node that adds nothing any more is kept.
const nodeLasts = 10 * time.Second

// Latest returns the latest counters of the nodes of this process, by name.
func (h *History) Latest(now time.Time) map[string]Counters {
	h.mu.Lock()
	defer h.mu.Unlock()
	latest := map[string]Counters{}
	for name, n := range h.nodes {
		if now.Sub(n.seen) < nodeLasts {
			latest[name] = n.last
		}
	}
	return latest
}

// topAction is an action with the time that its attempts have used.
type topAction struct {
	Name string
	ActionCount
	Mean  time.Duration
	Share float64 // of the time of all actions
}

// topActions returns the actions that have used the most time since the nodes started.
func topActions(latest map[string]Counters, most int) []topAction {
	sums, total := map[string]ActionCount{}, 0.0
	for _, c := range latest {
		for name, a := range c.Actions {
			sum := sums[name]
			sum.Attempts += a.Attempts
			sum.Seconds += a.Seconds
			sums[name] = sum
			total += a.Seconds
		}
	}
	var list []topAction
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		if a := sums[name]; a.Attempts > 0 {
			list = append(list, topAction{name, a, time.Duration(a.Seconds / float64(a.Attempts) * float64(time.Second)), a.Seconds / max(total, 1e-9)})
		}
	}
	slices.SortStableFunc(list, func(a, b topAction) int { return cmpFloat(b.Seconds, a.Seconds) })
	return list[:min(most, len(list))]
}

func cmpFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
