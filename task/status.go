package task

import "time"

// Queue is a queue with its counts.
type Queue struct {
	Name                               string
	Paused                             bool
	Scheduled, Queued, Running, Failed int64
	OldestAge                          time.Duration // how long the oldest queued task has been due, by the store's clock; 0: none is
	Accepted, Finished                 int64         // tasks since the queue exists; they are not shown, rates are
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
}

// Bulk is what a change by filter came to.
type Bulk struct {
	Matched    int  // tasks that the filter selected, and that could be changed, when the call came
	Changed    int  // of these, those that are so now
	Cancelling int  // of these, those that run and were asked to stop
	More       bool // the limit was reached, and others match
}
