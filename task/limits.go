package task

import (
	"fmt"
	"runtime"
	"strings"
	"time"
)

// Limits has the limit of everything that a client could make grow. A zero field means its default, unless its
// comment says that 0 is off.
type Limits struct {
	Line                  int           // bytes of one line, or of one JSON body over HTTP
	LineTimeout           time.Duration // from a line's first byte to its last
	Connections           int           // open connections
	HealthConnections     int           // the part of Connections that is reserved for health checks over HTTP
	ConnectionsPerAddress int           // open connections from one address; 0: off
	Idle                  time.Duration // how long a connection without an open request stays open
	Window                int           // unanswered requests of one connection
	WindowBytes           int           // bytes of those requests
	Waits                 int           // open waits and watches of one connection
	BufferedBytes         int           // memory that all clients together use; 0: derived from the memory of the machine
	UnsentBytes           int           // unread replies of one connection
	WriteTimeout          time.Duration // one write to a client
	Slots                 int           // tasks that run at once in the pool
	QuickSlots            int           // quick tasks that run at once on the goroutines that read connections
	StuckSlots            int           // slots that are replaced because their task runs on after its timeout
	TaskTimeout           time.Duration // one attempt, if the request sets none
	ResultBytes           int           // one result
	PoolWait              time.Duration // how long an HTTP request waits for a slot
	DrainDelay            time.Duration // from the signal to the closing of the listener; 0: at once
	DrainTimeout          time.Duration // from the closing of the listener to the exit
}

// The defaults, with the reason of each.
const (
	// DefaultLine is enough for any payload that belongs on a line. Larger ones are blobs.
	DefaultLine = 1 << 20
	// DefaultLineTimeout ends a connection that holds a buffer and does not finish its line.
	DefaultLineTimeout = 10 * time.Second
	// DefaultConnections fits into the common limit of 20,000 descriptors, with some left.
	DefaultConnections = 15_000
	// DefaultHealthConnections keeps health checks answered while lines are refused.
	DefaultHealthConnections = 16
	// ProxyConnectionsPerAddress is the limit of one client when the PROXY protocol sends its address.
	ProxyConnectionsPerAddress = 512
	// DefaultIdle is longer than people pause, and short enough that leaked connections do not use up the
	// descriptors.
	DefaultIdle = 10 * time.Minute
	// DefaultWindow is twice the depth of a pipeline from which on the rate does not rise.
	DefaultWindow = 256
	// DefaultWindowBytes is how much memory one client can use.
	DefaultWindowBytes = 4 << 20
	// DefaultWaits is the number of tasks that one dashboard or script follows at once.
	DefaultWaits = 1_000
	// DefaultUnsentBytes is one reply of the largest size.
	DefaultUnsentBytes = 1 << 20
	// DefaultWriteTimeout is long enough for a slow network, and ends a client that does not read.
	DefaultWriteTimeout = 10 * time.Second
	// SlotsPerCore suits tasks that wait for at least half of their time.
	SlotsPerCore = 4
	// DefaultTaskTimeout is shorter than a drain, so that attempts end before it does.
	DefaultTaskTimeout = 60 * time.Second
	// MaxTaskTimeout is the longest timeout that a run may ask for, and the longest wait.
	MaxTaskTimeout = time.Hour
	// MaxEnqueueTimeout is the longest timeout that an enqueue may ask for.
	MaxEnqueueTimeout = 24 * time.Hour
	// DefaultResultBytes is as much as fits on a line.
	DefaultResultBytes = 1 << 20
	// DefaultPoolWait is shorter than HTTP clients and balancers wait.
	DefaultPoolWait = 5 * time.Second
	// DefaultDrainDelay is long enough for the balancers in front to notice the failed health checks.
	DefaultDrainDelay = 10 * time.Second
	// DefaultDrainTimeout is longer than the default timeout of a task.
	DefaultDrainTimeout = 70 * time.Second
)

// Limits that the protocol fixes.
const (
	// MaxID is the length of an id that is a string, in bytes between its quotes.
	MaxID = 128
	// MaxNumberID is the length of an id that is a number, in bytes.
	MaxNumberID = 64
	// MaxDepth is how deep JSON may nest.
	MaxDepth = 64
	// MaxMeta is the size of the labels of a task as JSON, in bytes. Each task in a list shows its labels.
	MaxMeta = 16 << 10
	// MaxAction is the length of an action's name in bytes.
	MaxAction = 128
	// MaxOwner is the length of the owner of a task in bytes.
	MaxOwner = 256
	// UnauthenticatedLine is the length of a line before auth, in bytes.
	UnauthenticatedLine = 4 << 10
	// UnauthenticatedTimeout is the time to present a token.
	UnauthenticatedTimeout = 3 * time.Second
	// LingerTime and LingerBytes are how long, and how many bytes of, a refused connection is still read, so that
	// the refusal passes a balancer.
	LingerTime = 2 * time.Second
	// LingerBytes is how many bytes of a refused connection are still read.
	LingerBytes = 8 << 20
)

// DefaultLimits returns the default limits of a node on this machine. Some depend on the number of cores.
func DefaultLimits() Limits {
	cores := runtime.GOMAXPROCS(0)
	return Limits{
		Line:              DefaultLine,
		LineTimeout:       DefaultLineTimeout,
		Connections:       DefaultConnections,
		HealthConnections: DefaultHealthConnections,
		Idle:              DefaultIdle,
		Window:            DefaultWindow,
		WindowBytes:       DefaultWindowBytes,
		Waits:             DefaultWaits,
		UnsentBytes:       DefaultUnsentBytes,
		WriteTimeout:      DefaultWriteTimeout,
		Slots:             SlotsPerCore * cores,
		QuickSlots:        cores,
		StuckSlots:        SlotsPerCore * cores,
		TaskTimeout:       DefaultTaskTimeout,
		ResultBytes:       DefaultResultBytes,
		PoolWait:          DefaultPoolWait,
		DrainDelay:        DefaultDrainDelay,
		DrainTimeout:      DefaultDrainTimeout,
	}
}

// Limit describes one limit: for the command line, for docs/limits.md and for the metrics.
type Limit struct {
	Flag     string // the name of its environment variable is derived from it
	Help     string // what is limited, in a few words
	Default  string // the default as people write it
	OnBreach string // what happens at the limit
	Value    any    // *int or *time.Duration, a field of the Limits
}

// Env returns the name of the environment variable of the limit.
func (l Limit) Env() string {
	return "POSTA_" + strings.ToUpper(strings.ReplaceAll(l.Flag, "-", "_"))
}

// Table returns a description of each limit, with a pointer into l that a flag may set.
func (l *Limits) Table() []Limit {
	return []Limit{
		{"max-line", "bytes of a line, or of a JSON body over HTTP", "1 MiB", "`line_too_long`, `payload_too_large`; the connection is closed", &l.Line},
		{"line-timeout", "time to complete a line, from its first byte", "10s", "`line_timeout`; the connection is closed", &l.LineTimeout},
		{"max-connections", "open connections", "15000", "`overloaded`; the connection is closed", &l.Connections},
		{"health-connections", "open connections that are reserved for health checks over HTTP, out of --max-connections", "16", "`overloaded`; the connection is closed", &l.HealthConnections},
		{"max-connections-per-address", "open connections from one address; 0 is off", "off; 512 with --proxy-protocol", "`overloaded`; the connection is closed", &l.ConnectionsPerAddress},
		{"idle-timeout", "time that a connection may be idle with no request open", "10m", "`goaway` with code `idle`; the connection is closed", &l.Idle},
		{"window", "unanswered requests of a connection", "256", "the node reads the connection only when there is space again", &l.Window},
		{"window-bytes", "bytes of the unanswered requests of a connection", "4 MiB", "the node reads the connection only when there is space again", &l.WindowBytes},
		{"max-waits", "open waits and watches of a connection", "1000", "`overloaded`", &l.Waits},
		{"max-buffered", "bytes of long lines, bodies, waiting requests, unsent replies, waits and watches of all clients together; 0 is the default",
			"a quarter of the memory, at least 64 MiB", "the node delays reading, for up to the line timeout; then `overloaded`", &l.BufferedBytes},
		{"max-unsent", "bytes of replies that a connection's client has not read", "1 MiB", "the node reads and starts nothing more for it, and closes it as `slow_consumer` after the write timeout", &l.UnsentBytes},
		{"write-timeout", "time for one write to a client", "10s", "the connection is closed, `slow_consumer`", &l.WriteTimeout},
		{"slots", "tasks that the pool runs at once", "4 × cores", "tasks wait; over HTTP `overloaded` after the pool wait", &l.Slots},
		{"quick-slots", "quick tasks that run at once beside the slots", "cores", "tasks wait", &l.QuickSlots},
		{"stuck-slots", "slots replaced because their task still runs after its timeout", "4 × cores", "`/readyz` answers 503", &l.StuckSlots},
		{"task-timeout", "timeout of an attempt if the request sets none; at most 1h", "60s", "`ok` false, `timed out`", &l.TaskTimeout},
		{"max-result", "bytes of a result", "1 MiB", "`ok` false; the error names the limit", &l.ResultBytes},
		{"pool-wait", "time that an HTTP request waits for a slot", "5s", "`overloaded`", &l.PoolWait},
		{"drain-delay", "time from SIGTERM to the closing of the listener", "10s; 0 under `posta up`", "–", &l.DrainDelay},
		{"drain-timeout", "time to finish requests and tasks after the listener has closed", "70s", "running tasks are cancelled", &l.DrainTimeout},
	}
}

// WithDefaults returns the limits with each zero field set to its default. The error names a limit that is out of
// range.
func (l Limits) WithDefaults() (Limits, error) {
	full := DefaultLimits()
	defaults := full.Table()
	for i, limit := range l.Table() {
		switch value := limit.Value.(type) {
		case *int:
			if *value < 0 {
				return l, fmt.Errorf("limit %s is %d: it cannot be negative", limit.Flag, *value)
			}
			if *value == 0 && !zeroHasMeaning(limit.Flag) {
				*value = *defaults[i].Value.(*int)
			}
		case *time.Duration:
			if *value < 0 {
				return l, fmt.Errorf("limit %s is %s: it cannot be negative", limit.Flag, *value)
			}
			if *value == 0 && !zeroHasMeaning(limit.Flag) {
				*value = *defaults[i].Value.(*time.Duration)
			}
		}
	}
	if l.TaskTimeout > MaxTaskTimeout {
		return l, fmt.Errorf("limit task-timeout is %s: at most %s", l.TaskTimeout, MaxTaskTimeout)
	}
	if l.HealthConnections >= l.Connections {
		return l, fmt.Errorf("limit health-connections is %d: it must be less than max-connections, %d", l.HealthConnections, l.Connections)
	}
	return l, nil
}

// zeroHasMeaning reports whether 0 is a setting of the limit and not its default.
func zeroHasMeaning(flag string) bool {
	return flag == "max-connections-per-address" || flag == "drain-delay" || flag == "max-buffered"
}

// Unit returns what the number of the limit counts: "seconds", "bytes", or "" for a plain number.
func (l Limit) Unit() string {
	if _, isTime := l.Value.(*time.Duration); isTime {
		return "seconds"
	}
	if strings.Contains(l.Default, "iB") {
		return "bytes"
	}
	return ""
}

// Metric returns the name of the metric of the limit. Its unit comes last.
func (l Limit) Metric() string {
	if unit := l.Unit(); unit != "" {
		return "posta_limit_" + unit
	}
	return "posta_limit"
}

// Key returns the name of the limit in JSON. Its unit comes last; times are in seconds.
func (l Limit) Key() string {
	name := strings.ReplaceAll(l.Flag, "-", "_")
	if _, isTime := l.Value.(*time.Duration); isTime {
		name += "_s"
	}
	return name
}

// Number returns the value of the limit: a count, bytes, or seconds.
func (l Limit) Number() float64 {
	switch value := l.Value.(type) {
	case *int:
		return float64(*value)
	case *time.Duration:
		return value.Seconds()
	}
	return 0
}
