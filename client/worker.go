package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/task"
)

// The defaults of Worker, with their reasons.
const (
	// DefaultDrain is as long as the default timeout of a task.
	DefaultDrain = time.Minute
	// DefaultMinPause keeps a worker from calling a node that restarts more than a few times a second.
	DefaultMinPause = 200 * time.Millisecond
	// DefaultMaxPause lets a worker return soon after a long outage.
	DefaultMaxPause = 30 * time.Second
)

// The limits that a node has for a worker.
const (
	maxWorkerSlots   = 1024
	maxWorkerActions = 256
	maxWorkerName    = 128
	maxWorkerGrace   = time.Minute
)

// The causes with which the context of an action ends; see context.Cause.
var (
	ErrCancelled = errors.New("cancelled")
	ErrTimedOut  = errors.New("timed out")
	ErrLeaseLost = errors.New("lost: the node has given the task to another one")
	ErrStopping  = errors.New("the worker stops")
)

// Worker runs the actions of this program for nodes: it connects to one and runs what the node pushes. A zero field means
// the default named in its comment. Set the fields before Run.
type Worker struct {
	// Addr is HOST:PORT of a node or a balancer, or several with commas between them, which are tried in turn. Required
	// without Dial.
	Addr string
	// Dial replaces the TCP connection to Addr, also for the HTTP requests that carry large bodies. It must return soon
	// after ctx has ended.
	Dial func(ctx context.Context) (net.Conn, error)
	// TLS, when set, encrypts the connections to Addr. Not used with Dial.
	TLS *tls.Config
	// Token, when set, authenticates each connection.
	Token string

	// Actions are what the worker can run: the same values that a node takes. Required.
	Actions []actions.Action
	// Slots is how many tasks run at once, at most 1024; 1.
	Slots int
	// Queues are the only queues to take tasks from; all of them.
	Queues []string
	// Name identifies the worker. No two workers may have the same. The default is made of the host name, the process id
	// and a random part.
	Name string
	// Version of the program, shown by posta workers.
	Version string
	// Grace is how long a node waits for the worker after a connection has broken, at most a minute; the node's default,
	// which is 5 seconds. task.Zero means not at all.
	Grace time.Duration
	// Idempotent names the actions whose direct runs a node may send to another worker when this one has gone.
	Idempotent []string

	// Drain is how long running actions may take to finish after the context of Run has ended; DefaultDrain. If
	// negative, they get no time.
	Drain time.Duration
	// DialTimeout limits connecting; DefaultDialTimeout.
	DialTimeout time.Duration
	// MinPause and MaxPause are the bounds of the pause before another connection is tried; DefaultMinPause and
	// DefaultMaxPause. The pause is random, and grows with each failure.
	MinPause, MaxPause time.Duration
	// Logger receives failures of actions and changes of the connection; nil: nothing is logged.
	Logger *slog.Logger
}

// Run connects to a node and runs what it pushes, each task in a goroutine. It returns an error if the configuration is
// wrong or a node refuses the worker for a reason that does not pass, such as an unknown token. When a connection ends, it
// connects again and names the tasks that it holds, so that they continue.
//
// When ctx ends, the worker takes no more tasks, lets the running ones finish within Drain, gives back the others, leaves
// the node, and returns nil. Actions that ignore the end of their context may then still run.
//
// The context of an action keeps the values of ctx. It ends when its task is cancelled or exceeds its timeout, when another
// attempt of it has begun, and when Drain is over; context.Cause returns ErrCancelled, ErrTimedOut, ErrLeaseLost or
// ErrStopping. An action marked Quick runs on the goroutine that reads the connection. Action.Slots and Action.Timeout hold
// in the worker as they do in a node; actions.SlowDown means no more than actions.RetryAfter.
func (w Worker) Run(ctx context.Context) error {
	registry, err := w.check()
	if err != nil {
		return err
	}
	return newWorkerRun(ctx, w, registry).run(ctx)
}

// check sets the zero fields to their defaults and checks all fields.
func (w *Worker) check() (*actions.Registry, error) {
	addrs := strings.Split(w.Addr, ",")
	for _, addr := range addrs {
		if _, _, err := net.SplitHostPort(addr); err != nil && w.Dial == nil {
			return nil, fmt.Errorf("worker address %q must be HOST:PORT: %w", addr, err)
		}
	}
	registry, err := actions.NewRegistry(w.Actions...)
	if err != nil {
		return nil, fmt.Errorf("worker actions: %w", err)
	}
	w.setDefaults()
	switch {
	case registry.Len() == 0 || registry.Len() > maxWorkerActions:
		return nil, fmt.Errorf("a worker has 1 to %d actions, not %d", maxWorkerActions, registry.Len())
	case w.Slots < 1 || w.Slots > maxWorkerSlots:
		return nil, fmt.Errorf("worker Slots is %d: 1 to %d are allowed", w.Slots, maxWorkerSlots)
	case len(w.Name) > maxWorkerName || len(w.Version) > maxWorkerName:
		return nil, fmt.Errorf("worker Name and Version may have at most %d bytes", maxWorkerName)
	case w.Grace > maxWorkerGrace || w.Grace < 0 && w.Grace != task.Zero:
		return nil, fmt.Errorf("worker Grace is %v: at most %v is allowed", w.Grace, maxWorkerGrace)
	case w.DialTimeout < 0 || w.MinPause < 0 || w.MaxPause < w.MinPause:
		return nil, errors.New("worker DialTimeout and MinPause cannot be negative, nor MaxPause less than MinPause")
	}
	for _, name := range w.Idempotent {
		if registry.Lookup([]byte(name)) == nil {
			return nil, fmt.Errorf("worker Idempotent names the action %q, which is not among Actions", name)
		}
	}
	return registry, nil
}

func (w *Worker) setDefaults() {
	if w.Slots == 0 {
		w.Slots = 1
	}
	if w.Name == "" {
		w.Name = uniqueName()
	}
	if w.Logger == nil {
		w.Logger = slog.New(slog.DiscardHandler)
	}
	for _, duration := range []struct {
		value    *time.Duration
		standard time.Duration
	}{
		{&w.Drain, DefaultDrain},
		{&w.DialTimeout, DefaultDialTimeout},
		{&w.MinPause, DefaultMinPause},
		{&w.MaxPause, max(DefaultMaxPause, w.MinPause)},
	} {
		if *duration.value == 0 {
			*duration.value = duration.standard
		}
	}
	w.Drain = max(w.Drain, 0)
}

// uniqueName returns a name that no other worker has.
func uniqueName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "worker"
	}
	random := make([]byte, 4)
	_, _ = rand.Read(random) // never fails
	return fmt.Sprintf("%s-%d-%s", task.CleanText(host[:min(len(host), 64)]), os.Getpid(), hex.EncodeToString(random))
}

// names returns the names of the actions in the order of the list.
func (w *Worker) names() []string {
	list := make([]string, 0, len(w.Actions))
	for _, action := range w.Actions {
		list = append(list, action.Name)
	}
	return slices.Clip(list)
}
