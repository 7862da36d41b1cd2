package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

const (
	// workID is the id of the work request.
	workID = "w"
	// silence is how long a node may send nothing before the worker pings it, and then before the worker closes the connection.
	silence = 15 * time.Second
	// drainReadTimeout is how long the worker waits for the last answers of a node that stops.
	drainReadTimeout = 5 * time.Second
)

// workLink is a connection of a worker. One goroutine reads it, and another one sends all waiting lines in one write.
type workLink struct {
	run   *workerRun
	net   net.Conn
	lines lineReader
	line  wire.NodeLine
	hold  []string // the leases named in the work request

	// The next three are used only by the reader.
	active bool // something was read since the deadline was set
	pinged bool
	node   string

	// The mutex of the run guards the fields below.
	wake    *sync.Cond // for the writer
	out     []byte     // lines that wait for the next write
	spare   []byte     // the buffer of the last write
	batch   bool       // the reader handles lines, and wakes the writer at the end
	ready   bool       // the node has accepted the worker
	open    bool       // the work request is open
	leaving bool       // the writer closes the writing side after the last line
	broken  bool
	due     int // outcomes sent on this connection that have no answer yet
}

func newWorkLink(r *workerRun, nc net.Conn) *workLink {
	l := &workLink{run: r, net: nc, wake: sync.NewCond(&r.mu)}
	l.lines = lineReader{from: nc, limit: DefaultReplyBytes}
	return l
}

// queueLine queues a line for the next write. The caller holds mu.
func (l *workLink) queueLine(line []byte) {
	if l.leaving {
		return
	}
	l.out = append(l.out, line...)
	if !l.batch {
		l.wake.Signal()
	}
}

// deliver sends the outcome of a lease. The caller holds mu.
func (l *workLink) deliver(h *lease) {
	if l.leaving || h.sentOn == l {
		return
	}
	h.sentOn = l
	l.due++
	l.queueLine(h.outcome)
}

// stopPushes asks the node to push nothing more. The caller holds mu.
func (l *workLink) stopPushes() {
	if l.open {
		l.queueLine([]byte(`{"id":"slots","op":"slots","work":"` + workID + `","slots":0}` + "\n"))
	}
}

// write writes the waiting lines until the connection ends.
func (l *workLink) write() {
	r := l.run
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for len(l.out) == 0 && !l.leaving && !l.broken {
			l.wake.Wait()
		}
		if len(r.held) >= manyUnanswered && !l.leaving {
			r.mu.Unlock()
			runtime.Gosched() // actions that end now share this write
			r.mu.Lock()
		}
		if l.broken {
			return
		}
		if len(l.out) == 0 {
			if half, ok := l.net.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
			return
		}
		lines := l.out
		l.out = l.spare[:0]
		r.mu.Unlock()
		_, err := l.net.Write(lines)
		r.mu.Lock()
		if l.spare = lines; cap(lines) > maxUnwritten {
			l.spare = nil
		}
		if err != nil { // the reader returns the reason
			_ = l.net.SetReadDeadline(time.Now().Add(afterWriteError))
			return
		}
	}
}

// workRequest is the work request.
type workRequest struct {
	ID         string   `json:"id"`
	Op         string   `json:"op"`
	Actions    []string `json:"actions"`
	Queues     []string `json:"queues,omitempty"`
	Slots      int      `json:"slots"`
	Worker     string   `json:"worker"`
	Version    string   `json:"version,omitempty"`
	Hold       []string `json:"hold,omitempty"`
	Grace      *float64 `json:"grace,omitempty"`
	Idempotent []string `json:"idempotent,omitempty"`
}

// begin sends the work request.
func (l *workLink) begin() error {
	r := l.run
	request := workRequest{
		ID: workID, Op: "work", Actions: r.names(), Queues: r.Queues, Slots: r.Slots, Worker: r.Name, Version: r.Version, Idempotent: r.Idempotent,
	}
	if r.Grace != 0 {
		seconds := max(r.Grace, 0).Seconds()
		request.Grace = &seconds
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.held {
		l.hold = append(l.hold, id)
	}
	slices.Sort(l.hold)
	request.Hold = l.hold
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	l.queueLine(append(line, '\n'))
	l.wake.Signal()
	return nil
}

// authenticate sends the token.
func (l *workLink) authenticate() {
	l.run.mu.Lock()
	defer l.run.mu.Unlock()
	line := task.AppendString([]byte(`{"id":"auth","op":"auth","token":`), l.run.Token)
	l.queueLine(append(line, '}', '\n'))
}

// readUntilEnd handles the lines of the node until the connection ends, and returns the reason. This is errLeft if the node
// has asked the worker to connect again.
func (l *workLink) readUntilEnd() error {
	if l.run.Token != "" {
		l.authenticate()
	} else if err := l.begin(); err != nil {
		return err
	}
	_ = l.net.SetReadDeadline(time.Now().Add(silence))
	for {
		if err := l.handleAll(); err != nil {
			return err
		}
		err := l.lines.more()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = l.onSilence()
		case err == nil:
			l.active = true
		case l.isLeaving():
			err = errLeft
		default:
			err = readError(err)
		}
		if err != nil {
			return err
		}
	}
}

// isLeaving reports whether the worker leaves this connection.
func (l *workLink) isLeaving() bool {
	l.run.mu.Lock()
	defer l.run.mu.Unlock()
	return l.leaving
}

// onSilence is called at the read deadline. It sends a ping, or returns the error that ends the connection.
func (l *workLink) onSilence() error {
	l.run.mu.Lock()
	defer l.run.mu.Unlock()
	switch {
	case l.leaving:
		return errLeft
	case l.broken:
		return errEnded
	case l.active:
		l.active, l.pinged = false, false
	case l.pinged:
		return errSilent
	default:
		l.pinged = true
		l.queueLine([]byte(`{"id":"ping","op":"ping"}` + "\n"))
	}
	return l.net.SetReadDeadline(time.Now().Add(silence))
}

// handleAll handles the lines that were read. The lines that it queues are sent in one write.
func (l *workLink) handleAll() error {
	l.setBatch(true)
	defer l.setBatch(false)
	for line, ok := l.lines.next(); ok; line, ok = l.lines.next() {
		if len(line) == 0 {
			continue
		}
		if err := l.handle(line); err != nil {
			return err
		}
	}
	l.run.mu.Lock()
	defer l.run.mu.Unlock()
	if l.leaving && l.due == 0 {
		return errLeft
	}
	return nil
}

// setBatch begins or ends a batch.
func (l *workLink) setBatch(batch bool) {
	l.run.mu.Lock()
	l.batch = batch
	if !batch && len(l.out) > 0 {
		l.wake.Signal()
	}
	l.run.mu.Unlock()
}

// handle handles one line.
func (l *workLink) handle(line []byte) error {
	n := &l.line
	if err := n.Parse(line); err != nil {
		return fmt.Errorf("the node sent an invalid line: %w", err)
	}
	switch string(n.ID) {
	case `"` + workID + `"`:
		return l.handleWork(n)
	case `"auth"`:
		return l.authenticated(n)
	case `"leave"`:
		if string(n.Status) == wire.StatusError {
			l.run.end(nil)
		}
		return nil
	case "":
		l.handleOutcome(n)
	}
	return nil
}

// handleOutcome handles a line without an id: the answer to an outcome, or goaway.
func (l *workLink) handleOutcome(n *wire.NodeLine) {
	switch status := string(n.Status); {
	case status == wire.StatusGoaway:
		l.leave()
	case len(n.Lease) == 0 && status == wire.StatusError && n.Code == task.LineTooLong:
		l.run.tooLong(l, n.Refusal())
	case len(n.Lease) == 0:
	case status == wire.StatusError:
		l.run.refused(n.Lease, n.Refusal())
	case status == wire.StatusDone, status == wire.StatusFailed, status == wire.StatusScheduled,
		status == wire.StatusQueued, status == wire.StatusCancelled:
		l.run.answered(n.Lease)
	}
}

// authenticated handles the answer to the token.
func (l *workLink) authenticated(n *wire.NodeLine) error {
	if string(n.Status) == wire.StatusError {
		return l.run.refuseWorker(n.Refusal())
	}
	return l.begin()
}

// handleWork handles a line of the work request.
func (l *workLink) handleWork(n *wire.NodeLine) error {
	r := l.run
	switch string(n.Status) {
	case wire.StatusRunning:
		r.start(n)
	case wire.StatusCancelling:
		r.cancelAttempt(n)
	case wire.StatusReady:
		l.node = n.Node
		r.ready(l, n.Held)
		r.Logger.Info("worker is ready", "worker", r.Name, "node", n.Node)
	case wire.StatusDone:
		r.end(nil)
		return errEnded
	case wire.StatusError:
		return l.ended(n.Refusal())
	}
	return nil
}

// ended handles the end of the work request by the node.
func (l *workLink) ended(refusal *task.Error) error {
	r := l.run
	r.mu.Lock()
	l.open = false
	ready := l.ready
	switch {
	case !ready:
	case refusal.Code == task.Quiet:
		r.quiet = true
		r.Logger.Info("an operator asked this worker to stop", "worker", r.Name)
	}
	r.mu.Unlock()
	switch {
	case ready && refusal.Code == task.Quiet:
		r.leaveWhenEmpty()
		return nil
	case ready && refusal.Code == task.Draining:
		l.leave()
		return nil
	}
	return r.refuseWorker(refusal)
}

// refuseWorker ends the worker if a node refuses it for a reason that will not pass, and no node has accepted it before. It
// returns the refusal.
func (r *workerRun) refuseWorker(refusal *task.Error) error {
	r.mu.Lock()
	first := !r.wasReady
	r.mu.Unlock()
	if first {
		switch refusal.Code {
		case task.UnknownOp, task.InvalidRequest, task.UnknownField, task.Forbidden, task.Unauthenticated:
			r.end(refusal)
		}
	}
	return refusal
}

// leave ends the writing on this connection. The worker still reads the answers that it expects.
func (l *workLink) leave() {
	r := l.run
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.leaving {
		return
	}
	l.leaving, l.open = true, false
	if r.link == l {
		r.link = nil
	}
	_ = l.net.SetReadDeadline(time.Now().Add(drainReadTimeout))
	l.wake.Signal()
}
