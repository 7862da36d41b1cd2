package task

import (
	"bytes"
	"cmp"
	"time"
)

// Priority says which of a queue's tasks are started first.
type Priority uint8

// The priorities; the zero value is Normal.
const (
	Normal Priority = iota
	High
	Low
)

// String returns the priority as it stands on the wire.
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

// Zero is a duration of no time in options whose 0 stands for their default.
const Zero time.Duration = -1

// Options are what an enqueue asks for, with all defaults filled in.
type Options struct {
	Queue    string
	Priority Priority
	// Delay is how long after it is accepted the task may start. The store adds it to its own clock and
	// keeps the sum as RunAt. 0: RunAt says when.
	Delay       time.Duration
	RunAt       time.Time // not before it; the zero time means at once
	Timeout     time.Duration
	MaxAttempts int           // attempts that may fail
	Backoff     time.Duration // before the second attempt; each further one waits three times as long
	BackoffMax  time.Duration // the longest wait before an attempt
	Key         string        // idempotency key, unique in its queue; "": none
	Keep        time.Duration // how long the done or cancelled task is kept
	KeepFailed  time.Duration // how long the failed task is kept
	// ExpiresIn is how long after it is accepted the task fails when no attempt has started; 0: never. The
	// store adds it to its own clock and keeps the sum as Expires.
	ExpiresIn time.Duration
	Expires   time.Time         // set by the store; the zero time means never
	Meta      map[string]string // labels
}

// Defaults are what options mean that an enqueue leaves out. A zero field stands for the default in its comment.
type Defaults struct {
	Timeout     time.Duration // DefaultTaskTimeout
	MaxAttempts int           // DefaultMaxAttempts
	Backoff     time.Duration // DefaultBackoff; Zero is no wait
	BackoffMax  time.Duration // DefaultBackoffMax, or Backoff if that is longer
	Keep        time.Duration // DefaultKeep; Zero is LeastKeep
	KeepFailed  time.Duration // DefaultKeepFailed; likewise
}

// builtIn returns the defaults where nobody has set others.
func builtIn() Defaults {
	return Defaults{
		Timeout: DefaultTaskTimeout, MaxAttempts: DefaultMaxAttempts, Backoff: DefaultBackoff, BackoffMax: DefaultBackoffMax,
		Keep: DefaultKeep, KeepFailed: DefaultKeepFailed,
	}
}

// Complete sets what was left out: from the first of the defaults that says it, or else to what is built in.
// What is Zero becomes 0, or LeastKeep in Keep and KeepFailed.
func (o *Options) Complete(defaults ...Defaults) {
	o.Queue = cmp.Or(o.Queue, DefaultQueue)
	said := o.BackoffMax != 0
	for _, d := range append(defaults, builtIn()) {
		o.Timeout, o.MaxAttempts = cmp.Or(o.Timeout, d.Timeout), cmp.Or(o.MaxAttempts, d.MaxAttempts)
		o.Backoff, o.BackoffMax = cmp.Or(o.Backoff, d.Backoff), cmp.Or(o.BackoffMax, d.BackoffMax)
		o.Keep, o.KeepFailed = cmp.Or(o.Keep, d.Keep), cmp.Or(o.KeepFailed, d.KeepFailed)
	}
	if !said { // a default does not make a wait shorter that was asked for
		o.BackoffMax = max(o.Backoff, o.BackoffMax)
	}
	for _, d := range []*time.Duration{&o.Delay, &o.Backoff, &o.BackoffMax} {
		*d = max(*d, 0)
	}
	o.Keep, o.KeepFailed = max(o.Keep, LeastKeep), max(o.KeepFailed, LeastKeep)
}

// AcceptedAt returns the options of a task that a store accepts at a time by the store's clock: Delay
// has become RunAt, and ExpiresIn has become Expires. Times are whole milliseconds in UTC.
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

// Wait returns how long a task that has failed so many times before waits for its next attempt after it
// failed once more. The wait is Backoff, three times as long for each earlier failure, and at most
// BackoffMax. chance, from 0 to 1, spreads it by a fifth to both sides, so that tasks which failed
// together do not come back together.
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

// Task is a durable task as the store knows it. Times are UTC with milliseconds.
type Task struct {
	ID      string // a ULID: 26 characters, sorted by the time of acceptance
	Action  string
	Payload Body
	Options

	State      State
	Attempt    int  // how often its action was entered
	Fence      int  // how often it was claimed; it never goes back, and tells one claim from another
	Generation int  // number of retries by hand
	Failures   int  // attempts of this generation that failed
	Crashes    int  // times in this generation that its process died while it was the only suspect
	Suspect    bool // its process died while it ran; it runs next, or now, as the only suspect
	Cancelling bool // it runs, and was asked to stop
	CreatedAt  time.Time
	StartedAt  time.Time // of the latest attempt
	FinishedAt time.Time
	Reserved   string    // node that has claimed it and not entered its action yet: it is still Queued
	Lease      time.Time // until when the node that runs it, or that it is reserved for, has it
	Node       string    // that runs it, or ran it last
	Progress   Progress
	Result     Body // of a done task
	// Code and Error are those of a failed task. Of an unfinished one they are those of its latest
	// attempt that failed, also in the generation before; both are empty if none has failed.
	Code    Code
	Error   string
	Warning string  // for people, of a task that waits; no store keeps it
	History []Entry // oldest first; at most HistoryEntries, the newest ones
}

// Progress is what an action last said about itself.
type Progress struct {
	Percent float64 // 0 to 100
	Message string
}

// Entry is one change in a task's history. It is written by the statement that makes
// the change.
type Entry struct {
	Seq        int   // from 1, without gaps, also when older entries have been dropped
	State      State // that the change led to
	Attempt    int
	Generation int
	At         time.Time
	Node       string // that has the attempt, or had it until now; "" when none did
	Error      string // of an attempt that failed, and why it was reaped or failed without one
}

// Codes of failed tasks.
const (
	ActionFailed    Code = "action_failed"    // its last attempt returned an error
	TimedOut        Code = "timed_out"        // its last attempt ran out of time
	Crashed         Code = "crashed"          // its process died under it
	Expired         Code = "expired"          // it was not started in time
	ResultTooLarge  Code = "result_too_large" // its result fits nowhere
	BlobUnavailable Code = "blob_unavailable" // its payload or result could not be read or written
)

// Limits and defaults of durable tasks.
const (
	DefaultQueue = "default"
	// DefaultMaxAttempts, DefaultBackoff and DefaultBackoffMax let a task try for five and a half hours.
	DefaultMaxAttempts = 12
	DefaultBackoff     = 5 * time.Second
	DefaultBackoffMax  = time.Hour
	// DefaultKeep and DefaultKeepFailed are how long finished tasks are kept. Failures wait for people, who
	// have weekends.
	DefaultKeep       = 24 * time.Hour
	DefaultKeepFailed = 7 * 24 * time.Hour
	// LeastKeep is how long a finished task is kept at least, so that whoever waits for it on another
	// node finds its result: events may be lost, and a wait reads the store each second.
	LeastKeep = 5 * time.Second
	// MaxAttempts bounds the attempts of one task.
	MaxAttempts = 1_000
	// MaxBackoff bounds the wait before an attempt.
	MaxBackoff = 24 * time.Hour
	// MaxSpan bounds a delay, and how long a task may wait or is kept.
	MaxSpan = 366 * 24 * time.Hour
	// backoffFactor is how much longer each wait is than the one before, and backoffSpread the part of it by
	// which chance makes it longer or shorter.
	backoffFactor, backoffSpread = 3, 5
	// InlineBytes is the largest body that is kept in the task's row.
	InlineBytes = 64 << 10
	// BlobBytes is the largest body that is kept at all.
	BlobBytes = 64 << 20
	// MaxQueues bounds the queues, since each costs memory and a label in the metrics.
	MaxQueues = 1_000
	// MaxBacklog bounds the unfinished tasks of one queue.
	MaxBacklog = 10_000_000
	// LeaseTime is how long a node has a task without renewing.
	LeaseTime = 15 * time.Second
	// LeaseRenew is how often a node renews its leases.
	LeaseRenew = LeaseTime / 3
	// LeaseLively is how recent a node's latest beat must be for its process to be known to live when a lease of it
	// ends. The process must also have beaten before the lease was granted, so that one that was started again under
	// the same name does not answer for its predecessor. A living process beats every LeaseRenew, so it may miss one.
	//
	// A process that died looks different: after each round of renewals comes one beat, so its last beat is later than
	// the last grant of a lease by at most what the rest of that round and the beat took. The lease ends LeaseTime
	// after its grant, and by then the beat is older than LeaseLively, if that was less than LeaseRenew. Where a store
	// took longer, or answered beats and not renewals, a dead process may pass for a living one; its tasks then have
	// to be reaped once more to be suspects.
	LeaseLively = 2 * LeaseRenew
	// HistoryEntries is how much of its history a task keeps, since drains and crashes
	// may add to it without end.
	HistoryEntries = 256
	// MaxCrashes is the number of crashes after which a task fails: its process died while it was a suspect.
	MaxCrashes = 2
)
