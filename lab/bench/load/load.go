// Package load puts tasks on a server and measures what comes back, and what that costs the server.
//
// A load is closed: each connection keeps so many requests in flight (its depth) and sends the next when a
// reply has come. It is made to cost little beside the server under it: requests are rendered beforehand, what
// can be written in one write is, replies are read in large reads, and each is compared with what must come.
//
// Idle is the other kind of load: connections that are open and silent.
package load

import (
	"cmp"
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
	// loadBuffer is the size of the read buffer of a connection. One read takes all replies that have arrived.
	loadBuffer = 64 << 10
	// drainTime is how long a round waits for its last replies.
	drainTime = 10 * time.Second
)

// Shape is a number of connections, and of unanswered requests on each.
type Shape struct {
	Connections int `json:"connections"`
	Depth       int `json:"depth"`
}

// String returns the name of the shape in tables.
func (s Shape) String() string { return fmt.Sprintf("%d × %d", s.Connections, s.Depth) }

// Shapes returns the measured depths with a number of connections.
func Shapes(connections int) []Shape {
	return []Shape{{connections, 1}, {connections, 16}, {connections, 128}}
}

// Target is a server that is measured.
type Target struct {
	Addr string
	// PID is the process of the server, for its CPU time; 0 if there is no single process.
	PID int
	// Constant is true for the bare server, whose replies all carry the same id.
	Constant bool
	// Action answers like upper; "" means upper.
	Action string
}

// Timing is the length of one measurement. The warm-up does not count.
type Timing struct {
	Warmup, Measured time.Duration
}

// Sample is the outcome of one round of one server.
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

	// done counts replies. The coordinator reads it. The padding puts it on its own cache line.
	_    [64]byte
	done atomic.Int64
	_    [64]byte
}

// load is a running measurement.
type load struct {
	workers []*worker
	stop    atomic.Bool
	failed  chan error // one value for each worker, nil for success
}

// Measure runs a load of one shape on a target and returns the outcome.
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
			conn: conn, script: NewScript(i, s.Depth, cmp.Or(to.Action, "upper")), depth: s.Depth, constant: to.Constant,
			stop: &l.stop, failed: l.failed,
		}
		l.workers = append(l.workers, w)
	}
	for _, w := range l.workers {
		go func() { w.failed <- w.run() }()
	}
	return l, nil
}

// run keeps the connection busy until stop is set, then reads the outstanding replies.
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

// accept checks and counts the complete lines of buf.
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

// wait waits while the load runs. It returns early if a connection fails.
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

// waitForSome waits while the load runs. If no task is answered, it waits again, up to drainTime: on a busy machine
// a process may not run during a very short measurement.
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

// finish stops the load and waits for the last reply of every connection, so that a server that loses replies is
// detected.
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

// newHistogram returns a histogram of times up to a minute with two significant digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(time.Minute), 2) }

// record records the time since sent if any reply arrived, and returns the time of the next request. The
// coordinator passes the worker its histogram after the warm-up, and reads it when the worker has ended.
func (w *worker) record(sent time.Time, lines int) time.Time {
	h := w.latency.Load()
	if h == nil || lines == 0 {
		return sent
	}
	now := time.Now()
	_ = h.RecordValue(int64(min(now.Sub(sent), time.Minute)))
	return now
}

// percentiles returns the percentiles over all workers, in microseconds.
func (l *load) percentiles() (p50, p99 float64) {
	all := newHistogram()
	for _, w := range l.workers {
		all.Merge(w.latency.Load())
	}
	return micros(time.Duration(all.ValueAtQuantile(50))), micros(time.Duration(all.ValueAtQuantile(99)))
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
