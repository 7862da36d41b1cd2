// Package load puts tasks on a server and measures what comes back, and what that costs the server.
//
// A load is closed: each connection keeps so many requests in flight (its depth) and sends the next when a
// reply has come. It is made to cost little beside the server under it: requests are rendered beforehand, what
// can be written in one write is, replies are read in large reads, and each is compared with what must come.
//
// Idle is the other kind of load: connections that are open and silent.
package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// loadBuffer is one connection's read buffer: a read takes whatever replies wait.
	loadBuffer = 64 << 10
	// drainTime bounds the wait for the last replies of a round.
	drainTime = 10 * time.Second
)

// Shape says how much is in flight: so many connections, each with so many unanswered requests.
type Shape struct {
	Connections int `json:"connections"`
	Depth       int `json:"depth"`
}

// String is how tables name the shape.
func (s Shape) String() string { return fmt.Sprintf("%d × %d", s.Connections, s.Depth) }

// Shapes returns the depths that are measured, with so many connections.
func Shapes(connections int) []Shape {
	return []Shape{{connections, 1}, {connections, 16}, {connections, 128}}
}

// Target is a server to be measured.
type Target struct {
	Addr string
	// PID is the server's process, for its CPU time; 0 where there is no single process to blame.
	PID int
	// Constant is true for the bare server, whose replies all carry the same id.
	Constant bool
}

// Timing says how long one measurement takes: the warm-up is not counted.
type Timing struct {
	Warmup, Measured time.Duration
}

// Sample is one round of one subject.
type Sample struct {
	Rate float64 `json:"rate"`          // tasks per second
	CPU  float64 `json:"cpu,omitempty"` // microseconds of the server's CPU time per task; 0 when unknown
	Load float64 `json:"load"`          // microseconds of the load generator's CPU time per task
	P50  float64 `json:"p50,omitempty"` // microseconds, depth 1 only
	P99  float64 `json:"p99,omitempty"` // microseconds, depth 1 only
}

// worker drives one connection in a closed loop: it keeps depth requests in flight, and answers each read
// with one write of as many requests as replies came.
type worker struct {
	conn     net.Conn
	script   *Script
	depth    int
	constant bool
	stop     *atomic.Bool
	latency  atomic.Pointer[hdrhistogram.Histogram] // of round trips in nanoseconds; nil: not measured
	failed   chan<- error

	// done counts replies. The coordinator reads it; the padding keeps it on a cache line of its own.
	_    [64]byte
	done atomic.Int64
	_    [64]byte
}

// load is one measurement under way.
type load struct {
	workers []*worker
	stop    atomic.Bool
	failed  chan error // one value per worker, nil when it ended well
}

// Measure puts a load of one shape on a target and returns what it did.
func Measure(ctx context.Context, to Target, s Shape, t Timing) (Sample, error) {
	l, err := startLoad(ctx, to, s)
	if err != nil {
		return Sample{}, err
	}
	defer l.close()
	if err := l.wait(ctx, t.Warmup); err != nil {
		return Sample{}, err
	}
	for _, w := range l.workers {
		if s.Depth == 1 {
			w.latency.Store(newHistogram())
		}
	}
	before, cpuBefore, ownBefore, began := l.count(), CPUTime(to.PID), CPUTime(os.Getpid()), time.Now()
	if err := l.waitForSome(ctx, t.Measured); err != nil {
		return Sample{}, err
	}
	tasks, took := l.count()-before, time.Since(began)
	cpu, own := CPUTime(to.PID)-cpuBefore, CPUTime(os.Getpid())-ownBefore
	if err := l.finish(); err != nil {
		return Sample{}, err
	}
	if tasks == 0 {
		return Sample{}, fmt.Errorf("%s answered nothing within %v", to.Addr, took)
	}
	out := Sample{
		Rate: float64(tasks) / took.Seconds(),
		CPU:  micros(cpu) / float64(tasks),
		Load: micros(own) / float64(tasks),
	}
	if s.Depth == 1 {
		out.P50, out.P99 = l.percentiles()
	}
	return out, nil
}

// startLoad opens the connections and starts a goroutine for each.
func startLoad(ctx context.Context, to Target, s Shape) (*load, error) {
	l := &load{failed: make(chan error, s.Connections)}
	var dialer net.Dialer
	for i := range s.Connections {
		conn, err := dialer.DialContext(ctx, "tcp", to.Addr)
		if err != nil {
			l.close()
			return nil, err
		}
		w := &worker{
			conn: conn, script: NewScript(i, s.Depth), depth: s.Depth, constant: to.Constant,
			stop: &l.stop, failed: l.failed,
		}
		l.workers = append(l.workers, w)
	}
	for _, w := range l.workers {
		go func() { w.failed <- w.run() }()
	}
	return l, nil
}

// run keeps the connection busy until it is told to stop, then reads what is still due.
func (w *worker) run() error {
	buf := make([]byte, loadBuffer)
	held, inFlight := 0, w.depth
	sent := time.Now()
	if _, err := w.conn.Write(w.script.Take(w.depth)); err != nil {
		return err
	}
	for inFlight > 0 {
		n, err := w.conn.Read(buf[held:])
		if err != nil {
			return fmt.Errorf("%d replies are missing: %w", inFlight, err)
		}
		held += n
		lines, err := w.accept(buf[:held])
		if err != nil {
			return err
		}
		held = copy(buf, buf[lines*replySize:held])
		sent = w.record(sent, lines)
		w.done.Add(int64(lines))
		if w.stop.Load() {
			inFlight -= lines
			continue
		}
		if _, err := w.conn.Write(w.script.Take(lines)); err != nil {
			return err
		}
	}
	return nil
}

// accept checks the whole lines of buf and counts them.
func (w *worker) accept(buf []byte) (int, error) {
	lines, err := checkReplies(buf)
	if err != nil || lines == 0 || w.constant {
		return lines, err
	}
	if lines > w.depth {
		return lines, fmt.Errorf("%d replies to at most %d requests", lines, w.depth)
	}
	return lines, w.script.checkID(buf)
}

// wait lets the load run for a while. It ends early when a connection fails.
func (l *load) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case err := <-l.failed:
		return errors.Join(errors.New("a connection of the load failed"), err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waitForSome lets the load run for a while, and goes on for as long again, drainTime at most, while nothing
// at all is answered: on a busy machine a process may not get its turn within a very short measurement.
func (l *load) waitForSome(ctx context.Context, d time.Duration) error {
	before, end := l.count(), time.Now().Add(drainTime)
	for {
		if err := l.wait(ctx, d); err != nil {
			return err
		}
		if l.count() > before || time.Now().After(end) {
			return nil
		}
	}
}

func (l *load) count() int64 {
	var sum int64
	for _, w := range l.workers {
		sum += w.done.Load()
	}
	return sum
}

// finish stops the load and waits for the last reply of every connection: a server that loses replies
// is found out here.
func (l *load) finish() error {
	l.stop.Store(true)
	deadline := time.Now().Add(drainTime)
	for _, w := range l.workers {
		_ = w.conn.SetDeadline(deadline)
	}
	var all error
	for range l.workers {
		all = errors.Join(all, <-l.failed)
	}
	return all
}

func (l *load) close() {
	for _, w := range l.workers {
		w.conn.Close()
	}
}

// newHistogram returns a histogram of times up to a minute, of which it keeps two significant digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(time.Minute), 2) }

// record notes the time since sent, if any reply came, and returns the time at which the next request is sent. The
// coordinator returns the worker its histogram when the warm-up is over, and reads it when the worker has ended.
func (w *worker) record(sent time.Time, lines int) time.Time {
	h := w.latency.Load()
	if h == nil || lines == 0 {
		return sent
	}
	now := time.Now()
	_ = h.RecordValue(int64(min(now.Sub(sent), time.Minute)))
	return now
}

// percentiles returns figures of all workers, in microseconds.
func (l *load) percentiles() (p50, p99 float64) {
	all := newHistogram()
	for _, w := range l.workers {
		all.Merge(w.latency.Load())
	}
	return micros(time.Duration(all.ValueAtQuantile(50))), micros(time.Duration(all.ValueAtQuantile(99)))
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
