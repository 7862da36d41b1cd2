package task

import "time"

// Queue is a queue with its counts.
type Queue struct {
	Name                               string
	Paused                             bool
	Scheduled, Queued, Running, Failed int64
	OldestAge                          time.Duration // how long the oldest queued task has been due, by the store's clock; 0: no task is queued
	Accepted, Finished                 int64         // tasks since the queue exists; clients see the rates instead
	RateIn, RateOut                    float64       // tasks accepted and finished a second, over the last ten seconds or so
	Unserved                           bool          // no live node can run some of its scheduled and queued tasks
}

// Node is what a node reports about itself.
type Node struct {
	Name    string
	PID     int
	Actions []string
	Queues  []string
	Slots   int
	Stuck   int `json:",omitempty"` // actions that still run after their timeout
	Started time.Time
	Paused  int64     // version of the set of paused queues that the node applies; 0 means unknown
	Seen    time.Time // by the store's clock

	Address    string   `json:",omitempty"` // where other nodes reach it; "": they do not
	Free       int      `json:",omitempty"` // slots that were free at the last heartbeat
	Workers    []string `json:",omitempty"` // actions of its workers
	Idempotent []string `json:",omitempty"` // those that its workers allow to run twice
}

// PassedOn is why a node has passed a direct run on to another node. A run is passed on once at most.
type PassedOn string

// The reasons.
const (
	PassedOnMissing PassedOn = "missing" // the node does not have the action
	PassedOnFull    PassedOn = "full"    // its pool is full, so the run must start at once or be refused
)

// Worker is what a node reports about a worker that is connected to it.
type Worker struct {
	Name    string
	Node    string
	Actions []string
	Queues  []string // nil: every queue
	Slots   int
	Held    int // leases that it holds
	Over    int // of Held: attempts that are over, and the worker has not answered
	Version string
	Since   time.Time
	Stuck   bool // attempts that are over have had all its slots for a while
	Quiet   bool // an operator asked it to stop
}

// Bulk is the outcome of a change by filter.
type Bulk struct {
	Matched    int  // tasks that matched the filter and could be changed
	Changed    int  // how many of them were changed
	Cancelling int  // how many of them run and were asked to stop
	More       bool // the limit was reached, and more tasks match
}
