package task

import (
	"fmt"
	"runtime"
	"strings"
	"time"
)

// Limits bounds everything that a client could make grow. The zero value of a field
// means its default, except where the field says that 0 is off.
type Limits struct {
	Line                  int           // bytes of one line, or of one JSON body over HTTP
	LineTimeout           time.Duration // from a line's first byte to its last
	Connections           int           // open connections
	HealthConnections     int           // of Connections, kept for health checks over HTTP when other requests and lines have taken the rest
	ConnectionsPerAddress int           // open connections from one address; 0: off
	Idle                  time.Duration // a connection without an open request
	Window                int           // unanswered requests of one connection
	WindowBytes           int           // bytes of those requests
	Waits                 int           // open waits and watches of one connection
	BufferedBytes         int           // what all clients together make the node hold; 0: follows from the memory of the machine
	UnsentBytes           int           // replies of one connection that its client has not read
	WriteTimeout          time.Duration // one write to a client
	Slots                 int           // tasks of the pool that run at once
	QuickSlots            int           // quick tasks that run at once on the goroutines that read them
	StuckSlots            int           // slots whose task outlived its timeout and that are replaced
	TaskTimeout           time.Duration // one attempt, when the request does not say
	ResultBytes           int           // one result
	PoolWait              time.Duration // how long an HTTP request waits for a full pool
	DrainDelay            time.Duration // from the signal to the closing of the listener; 0: at once
	DrainTimeout          time.Duration // from the closing of the listener to the exit
}

// The defaults, with the reason of each.
const (
	// DefaultLine holds any payload that belongs on a line; larger ones are blobs.
	DefaultLine = 1 << 20
	// DefaultLineTimeout ends a client that holds a buffer without finishing its line.
	DefaultLineTimeout = 10 * time.Second
	// DefaultConnections fits, with room, into the common bound of 20,000 descriptors.
	DefaultConnections = 15_000
	// DefaultHealthConnections keeps health checks answered while lines are refused.
	DefaultHealthConnections = 16
	// ProxyConnectionsPerAddress is the bound of one client when the PROXY protocol
	// tells clients apart.
	ProxyConnectionsPerAddress = 512
	// DefaultIdle is longer than people pause and shorter than descriptors may leak.
	DefaultIdle = 10 * time.Minute
	// DefaultWindow is twice the deepest pipeline that still raises the rate.
	DefaultWindow = 256
	// DefaultWindowBytes bounds what one client can make a node hold.
	DefaultWindowBytes = 4 << 20
	// DefaultWaits is the number of tasks that one dashboard or script follows at once.
	DefaultWaits = 1_000
	// DefaultUnsentBytes is one reply of the largest size.
	DefaultUnsentBytes = 1 << 20
	// DefaultWriteTimeout tells a slow network from a client that does not read.
	DefaultWriteTimeout = 10 * time.Second
	// SlotsPerCore suits tasks that wait half of their time and more.
	SlotsPerCore = 4
	// DefaultTaskTimeout ends an attempt before a drain does.
	DefaultTaskTimeout = 60 * time.Second
	// MaxTaskTimeout is the longest timeout that a run may ask for, and the longest wait.
	MaxTaskTimeout = time.Hour
	// MaxEnqueueTimeout is the longest timeout that an enqueue may ask for.
	MaxEnqueueTimeout = 24 * time.Hour
	// DefaultResultBytes is as much as fits on a line.
	DefaultResultBytes = 1 << 20
	// DefaultPoolWait is shorter than the patience of HTTP clients and balancers.
	DefaultPoolWait = 5 * time.Second
	// DefaultDrainDelay outlasts the health checks of the balancers in front.
	DefaultDrainDelay = 10 * time.Second
	// DefaultDrainTimeout outlasts a task of the default timeout.
	DefaultDrainTimeout = 70 * time.Second
)

// Bounds that are the protocol's own and no setting.
const (
	// MaxID is the length of an id that is a string, in bytes between its quotes.
	MaxID = 128
	// MaxNumberID is the length of an id that is a number, in bytes.
	MaxNumberID = 64
	// MaxDepth is how deep JSON may nest.
	MaxDepth = 64
	// MaxMeta is the length of a task's labels in bytes of JSON: each task of a list
	// shows them.
	MaxMeta = 16 << 10
	// MaxAction is the length of an action's name in bytes.
	MaxAction = 128
	// UnauthenticatedLine is the length of a line before auth, in bytes.
	UnauthenticatedLine = 4 << 10
	// UnauthenticatedTimeout is the time to present a token.
	UnauthenticatedTimeout = 3 * time.Second
	// LingerTime and LingerBytes bound how long a refused connection is still read, so
	// that the refusal arrives through a balancer.
	LingerTime = 2 * time.Second
	// LingerBytes is the number of bytes that a refused connection may still send.
	LingerBytes = 8 << 20
)

// DefaultLimits returns the limits of a node that is told nothing, for this machine's
// number of cores.
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
	Flag     string // the flag, without dashes; its environment twin follows from it
	Help     string // what is limited, in a few words
	Default  string // the default as people write it
	OnBreach string // what happens at the limit
	Value    any    // *int or *time.Duration, a field of the Limits
}

// Env is the environment twin of the limit's flag.
func (l Limit) Env() string {
	return "POSTA_" + strings.ToUpper(strings.ReplaceAll(l.Flag, "-", "_"))
}

// Table lists the limits with pointers into l, so that flags may set them.
func (l *Limits) Table() []Limit {
	return []Limit{
		{"max-line", "bytes of a line, or of a JSON body over HTTP", "1 MiB", "`line_too_long`, `payload_too_large`; closes", &l.Line},
		{"line-timeout", "time to complete a line, from its first byte", "10s", "`line_timeout`; closes", &l.LineTimeout},
		{"max-connections", "open connections", "15000", "`overloaded`; closes", &l.Connections},
		{"health-connections", "of the connections, those kept for health checks over HTTP", "16", "`overloaded`; closes", &l.HealthConnections},
		{"max-connections-per-address", "open connections from one address; 0 is off", "off; 512 with --proxy-protocol", "`overloaded`; closes", &l.ConnectionsPerAddress},
		{"idle-timeout", "time that a connection may be idle with no request open", "10m", "`goaway` with code `idle`; closes", &l.Idle},
		{"window", "unanswered requests of a connection", "256", "the connection is read later", &l.Window},
		{"window-bytes", "bytes of the unanswered requests of a connection", "4 MiB", "the connection is read later", &l.WindowBytes},
		{"max-waits", "open waits and watches of a connection", "1000", "`overloaded`", &l.Waits},
		{"max-buffered", "bytes of long lines, bodies, waiting requests, unsent replies, waits and watches of all clients together; 0 is the default",
			"a quarter of the memory, at least 64 MiB", "connections are read later, up to the line timeout; then `overloaded`", &l.BufferedBytes},
		{"max-unsent", "bytes of replies that a connection's client has not read", "1 MiB", "no more is read or begun for it; closed as `slow_consumer` after the write timeout", &l.UnsentBytes},
		{"write-timeout", "time for one write to a client", "10s", "closed, `slow_consumer`", &l.WriteTimeout},
		{"slots", "tasks that the pool runs at once", "4 × cores", "connections are read later; over HTTP `overloaded` after the pool wait", &l.Slots},
		{"quick-slots", "quick tasks that run at once beside the slots", "cores", "connections are read later", &l.QuickSlots},
		{"stuck-slots", "slots replaced because their task ignores the end of its time", "4 × cores", "`/readyz` turns 503", &l.StuckSlots},
		{"task-timeout", "time of one attempt when the request names none; at most 1h", "60s", "`ok` false, `timed out`", &l.TaskTimeout},
		{"max-result", "bytes of a result", "1 MiB", "`ok` false, naming the limit", &l.ResultBytes},
		{"pool-wait", "time that an HTTP request waits for a full pool", "5s", "`overloaded`", &l.PoolWait},
		{"drain-delay", "time from SIGTERM to the closing of the listener", "10s; 0 under `posta up`", "–", &l.DrainDelay},
		{"drain-timeout", "time to finish after that", "70s", "running tasks are cancelled", &l.DrainTimeout},
	}
}

// WithDefaults returns the limits with each zero field at its default, or says which one
// is out of range.
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

// zeroHasMeaning reports whether the limit's zero is a setting of its own.
func zeroHasMeaning(flag string) bool {
	return flag == "max-connections-per-address" || flag == "drain-delay" || flag == "max-buffered"
}

// Unit says what the limit's number counts: "seconds", "bytes", or "" for a plain number.
func (l Limit) Unit() string {
	if _, isTime := l.Value.(*time.Duration); isTime {
		return "seconds"
	}
	if strings.Contains(l.Default, "iB") {
		return "bytes"
	}
	return ""
}

// Metric names the metric that shows the limit. Its unit comes last.
func (l Limit) Metric() string {
	if unit := l.Unit(); unit != "" {
		return "posta_limit_" + unit
	}
	return "posta_limit"
}

// Key is the limit's name in JSON: times in seconds, units last.
func (l Limit) Key() string {
	name := strings.ReplaceAll(l.Flag, "-", "_")
	if _, isTime := l.Value.(*time.Duration); isTime {
		name += "_s"
	}
	return name
}

// Number is the limit's value: a count, bytes, or seconds.
func (l Limit) Number() float64 {
	switch value := l.Value.(type) {
	case *int:
		return float64(*value)
	case *time.Duration:
		return value.Seconds()
	}
	return 0
}
