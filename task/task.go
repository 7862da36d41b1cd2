package task

import (
	"bytes"
	"cmp"
	"time"
)

// Priority says which tasks of a queue start first.
type Priority uint8

// The priorities; the zero value is Normal.
const (
	Normal Priority = iota
	High
	Low
)

// String returns the priority as it is written on the wire.
func (p Priority) String() string { return [...]string{"normal", "high", "low"}[p] }

// Body is a payload or a result: inline, or in blob storage when it is large.
type Body struct {
	Inline []byte // raw JSON; nil when the body is a blob, or when there is none
	Size   int64  // of the blob, in bytes
	SHA256 string // of the blob, in hexadecimal; "" when the body is inline
}

// IsBlob reports whether the body is in blob storage.
func (b Body) IsBlob() bool { return b.SHA256 != "" }

// Equal reports whether two bodies are the same, byte by byte.
func (b Body) Equal(other Body) bool {
	return b.SHA256 == other.SHA256 && b.Size == other.Size && bytes.Equal(b.Inline, other.Inline)
}

// Upload is a payload that is in blob storage before its task is accepted.
type Upload struct {
	Task string // the id that the task will have
	Body Body
}

// Zero means an explicit 0 in options where 0 means the default.
const Zero time.Duration = -1

// Options has the options of an enqueue, with all defaults filled in.
type Options struct {
	Queue    string
	Priority Priority
	// Delay is the time from the acceptance of the task to its first attempt at the earliest. The store adds it to
	// its own clock and keeps the sum as RunAt. 0: RunAt applies.
	Delay       time.Duration
	RunAt       time.Time // the earliest start; the zero time means at once
	Timeout     time.Duration
	MaxAttempts int           // attempts that may fail
	Backoff     time.Duration // before the second attempt; each further one waits three times as long
	BackoffMax  time.Duration // the longest wait before an attempt
	Key         string        // idempotency key, unique in its queue; "": none
	Keep        time.Duration // how long the done or cancelled task is kept
	KeepFailed  time.Duration // how long the failed task is kept
	// ExpiresIn is the time from the acceptance of the task after which it fails if no attempt has started; 0:
	// never. The store adds it to its own clock and keeps the sum as Expires.
	ExpiresIn time.Duration
	Expires   time.Time         // set by the store; the zero time means never
	Meta      map[string]string // labels
	Owner     string            // who has enqueued the task: set by the server from the token; "": a client without one
}

// Defaults has the options that an enqueue gets if it does not set them. A zero field means the default in its
// comment.
type Defaults struct {
	Timeout     time.Duration // DefaultTaskTimeout
	MaxAttempts int           // DefaultMaxAttempts
	Backoff     time.Duration // DefaultBackoff; Zero means no wait
	BackoffMax  time.Duration // DefaultBackoffMax, or Backoff if that is longer
	Keep        time.Duration // DefaultKeep; Zero means LeastKeep
	KeepFailed  time.Duration // DefaultKeepFailed; Zero means LeastKeep
}

// builtIn returns the defaults that apply if no others are configured.
func builtIn() Defaults {
	return Defaults{
		Timeout: DefaultTaskTimeout, MaxAttempts: DefaultMaxAttempts, Backoff: DefaultBackoff, BackoffMax: DefaultBackoffMax,
		Keep: DefaultKeep, KeepFailed: DefaultKeepFailed,
	}
}

// Complete sets the options that are 0: to the first of the defaults that has a value, or else to the built-in
// default. Options that are Zero become 0; Keep and KeepFailed become LeastKeep.
func (o *Options) Complete(defaults ...Defaults) {
	o.Queue = cmp.Or(o.Queue, DefaultQueue)
	said := o.BackoffMax != 0
	for _, d := range append(defaults, builtIn()) {
		o.Timeout, o.MaxAttempts = cmp.Or(o.Timeout, d.Timeout), cmp.Or(o.MaxAttempts, d.MaxAttempts)
		o.Backoff, o.BackoffMax = cmp.Or(o.Backoff, d.Backoff), cmp.Or(o.BackoffMax, d.BackoffMax)
		o.Keep, o.KeepFailed = cmp.Or(o.Keep, d.Keep), cmp.Or(o.KeepFailed, d.KeepFailed)
	}
	if !said { // a default must not shorten a wait that was asked for
		o.BackoffMax = max(o.Backoff, o.BackoffMax)
	}
	for _, d := range []*time.Duration{&o.Delay, &o.Backoff, &o.BackoffMax} {
		*d = max(*d, 0)
	}
	o.Keep, o.KeepFailed = max(o.Keep, LeastKeep), max(o.KeepFailed, LeastKeep)
}

// AcceptedAt returns the options of a task that a store accepts at now by its own clock: Delay is added to now as
// RunAt, and ExpiresIn as Expires. Times are UTC in whole milliseconds.
func (o Options) AcceptedAt(now time.Time) Options {
	if o.Delay > 0 {
		o.RunAt = now.Add(WholeMillis(o.Delay))
	}
	o.Expires = time.Time{}
	if o.ExpiresIn > 0 {
		o.Expires = now.Add(WholeMillis(o.ExpiresIn))
	}
	o.RunAt, o.Expires = o.RunAt.UTC().Truncate(time.Millisecond), o.Expires.UTC().Truncate(time.Millisecond)
	o.Delay, o.ExpiresIn = 0, 0
	return o
}

// WholeMillis rounds a duration up to whole milliseconds, as stores keep it.
func WholeMillis(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}

// KeptFor returns how long a finished task in the state is kept.
func (o *Options) KeptFor(state State) time.Duration {
	if state == Failed {
		return o.KeepFailed
	}
	return o.Keep
}

// Wait returns how long a task waits for its next attempt after a failure. failures is the number of its failures
// before that. The wait is Backoff, three times as long for each earlier failure, and at most BackoffMax. chance,
// from 0 to 1, changes it by up to a fifth in both directions, so that tasks that failed together do not all run
// again together.
func (o *Options) Wait(failures int, chance float64) time.Duration {
	wait := o.Backoff
	for range failures {
		if wait == 0 || wait >= o.BackoffMax {
			break
		}
		wait *= backoffFactor
	}
	wait = min(wait, o.BackoffMax)
	least, most := wait-wait/backoffSpread, min(wait+wait/backoffSpread, o.BackoffMax)
	return least + time.Duration(chance*float64(most-least))
}

// Task is a durable task as a store keeps it. Times are UTC in whole milliseconds.
type Task struct {
	ID      string // a ULID: 26 characters, sorted by the time of acceptance
	Action  string
	Payload Body
	Options

	State      State
	Attempt    int  // number of attempts that have started
	Fence      int  // number of claims; it never goes down, and so identifies a claim
	Generation int  // number of retries by a client
	Failures   int  // attempts of this generation that failed
	Crashes    int  // how often in this generation its process died while it was the only suspect
	Suspect    bool // its process died while it ran; it runs, or will run, in isolation
	Cancelling bool // it runs and was asked to stop
	CreatedAt  time.Time
	StartedAt  time.Time // of the latest attempt
	FinishedAt time.Time
	Reserved   string    // the node that has claimed it but not entered its action yet; the task is still Queued
	Lease      time.Time // until when the node in Reserved or Node has the task
	Node       string    // the node that runs it, or ran it last
	Worker     string    // that ran the latest attempt for Node; "" when Node ran it itself
	Progress   Progress
	Result     Body // the result, if the task is done
	// Code and Error describe why a failed task failed. For an unfinished task they describe the latest attempt
	// that failed, including those of earlier generations. Both are empty if no attempt has failed.
	Code    Code
	Error   string
	Warning string  // for people: why the task may wait long; stores do not keep it
	History []Entry // oldest first; at most HistoryEntries, the newest ones
}

// Progress is the latest report of an action.
type Progress struct {
	Percent float64 // 0 to 100
	Message string
}

// Entry is one change in the history of a task. The statement that makes the change also writes it.
type Entry struct {
	Seq        int   // from 1, without gaps, even after older entries were dropped
	State      State // the state after the change
	Attempt    int
	Generation int
	At         time.Time
	Node       string // the node that has, or had, the attempt; "" if none
	Worker     string `json:",omitempty"` // that ran the attempt for Node; "" when Node ran it itself
	Definition string `json:",omitempty"` // of running: the hash of the action's definition in an actions file; "": it has none
	Error      string // the error of a failed attempt, or why the task was reaped or failed without one
}

// Codes of failed tasks.
const (
	ActionFailed    Code = "action_failed"    // its last attempt returned an error
	TimedOut        Code = "timed_out"        // its last attempt ran into its timeout
	Crashed         Code = "crashed"          // its process died while it ran
	Expired         Code = "expired"          // no attempt started in time
	ResultTooLarge  Code = "result_too_large" // its result is too large
	BlobUnavailable Code = "blob_unavailable" // its payload or result could not be read or written
)

// Limits and defaults of durable tasks.
const (
	DefaultQueue = "default"
	// With DefaultMaxAttempts, DefaultBackoff and DefaultBackoffMax a task is tried for five and a half hours.
	DefaultMaxAttempts = 12
	DefaultBackoff     = 5 * time.Second
	DefaultBackoffMax  = time.Hour
	// DefaultKeep and DefaultKeepFailed are how long finished tasks are kept. Failed tasks are kept longer, so that
	// people find them after a weekend.
	DefaultKeep       = 24 * time.Hour
	DefaultKeepFailed = 7 * 24 * time.Hour
	// LeastKeep is the shortest time for which a finished task is kept, so that a client that waits for it on
	// another node gets its result: events may be lost, and a wait reads the store once a second.
	LeastKeep = 5 * time.Second
	// MaxAttempts is the largest number of attempts of one task.
	MaxAttempts = 1_000
	// MaxBackoff is the longest wait before an attempt.
	MaxBackoff = 24 * time.Hour
	// MaxSpan is the longest delay, expiry and keep.
	MaxSpan = 366 * 24 * time.Hour
	// backoffFactor is how much longer each wait is than the one before. 1/backoffSpread of the wait is the largest
	// random change of it.
	backoffFactor, backoffSpread = 3, 5
	// InlineBytes is the largest body that is stored in the row of the task.
	InlineBytes = 64 << 10
	// BlobBytes is the largest body.
	BlobBytes = 64 << 20
	// MaxQueues is the largest number of queues. Each one costs memory, and a label in the metrics.
	MaxQueues = 1_000
	// MaxBacklog is the largest number of unfinished tasks of one queue.
	MaxBacklog = 10_000_000
	// LeaseTime is how long a node has a task without renewing its lease.
	LeaseTime = 15 * time.Second
	// LeaseRenew is how often a node renews its leases.
	LeaseRenew = LeaseTime / 3
	// LeaseLively is the greatest age of a node's latest heartbeat at which its process counts as alive when one of
	// its leases ends. The process must also have sent a heartbeat before the lease was granted, so that a process
	// that was started again under the same name does not count for its predecessor. A living process sends a
	// heartbeat every LeaseRenew, so it may miss one.
	//
	// A process that died looks different. A node sends one heartbeat after each round of renewals. So its last
	// heartbeat is later than its last lease by at most the rest of that round and the time of the heartbeat
	// itself. If that was less than LeaseRenew, the heartbeat is older than LeaseLively when the lease ends, which
	// is LeaseTime after its grant. If a store took longer, or answered heartbeats but not renewals, a dead process
	// may count as alive. Its tasks then become suspects only when they are reaped once more.
	LeaseLively = 2 * LeaseRenew
	// HistoryEntries is how many entries of its history a task keeps. Drains and crashes could add to it without
	// end.
	HistoryEntries = 256
	// MaxCrashes is the number of crashes after which a task fails. A crash means that the process died while the
	// task was a suspect.
	MaxCrashes = 2
)
