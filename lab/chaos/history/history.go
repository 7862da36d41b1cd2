// Package history has the types for the events of a chaos run, and the files with them: what clients sent and
// received, what actions did, which faults happened, and the tasks in the store at the end. The checker needs
// nothing else, so a run can be checked again later.
//
// Each file has one JSON object a line and is only appended to, so written lines survive the death of the process.
package history

import (
	"encoding/json"
	"strings"
)

// Kind is the kind of a client's event.
type Kind string

// The kinds. Each request has one Invoke, and then replies (OK, Fail), or Info if its outcome is unknown.
const (
	Invoke Kind = "invoke"
	OK     Kind = "ok"    // a reply that is not an error; a request with wait has two
	Fail   Kind = "fail"  // an error: nothing was done
	Info   Kind = "info"  // the outcome is unknown: the connection broke, or the reply said so
	Stray  Kind = "stray" // a reply to no request of this connection
)

// Event is a request that a client sent, or a reply that it received.
type Event struct {
	At    int64  `json:"at"`   // nanoseconds since the run began, by the monotonic clock
	Conn  int    `json:"conn"` // the connection: a session
	ID    int    `json:"id"`   // the request, unique in the run
	Kind  Kind   `json:"kind"`
	Ask   *Ask   `json:"ask,omitempty"`   // of an Invoke
	Reply *Reply `json:"reply,omitempty"` // of a reply
	Note  string `json:"note,omitempty"`  // of an Info: why
}

// Ask is a request.
type Ask struct {
	Op     string `json:"op"`
	Task   string `json:"task,omitempty"`   // of get, wait, cancel, retry
	Action string `json:"action,omitempty"` // this and the next are of enqueue
	Queue  string `json:"queue,omitempty"`
	Key    string `json:"key,omitempty"`
	Nonce  string `json:"nonce,omitempty"` // in the payload; a request that is sent twice has the same
	Wait   bool   `json:"wait,omitempty"`
}

// Reply is a reply line, as far as the checker reads it.
type Reply struct {
	Status     string          `json:"status,omitempty"`
	Task       string          `json:"task,omitempty"`
	Attempt    int             `json:"attempt,omitempty"`
	Generation *int            `json:"generation,omitempty"` // nil: the reply has none
	Result     json.RawMessage `json:"result,omitempty"`
	Code       string          `json:"code,omitempty"`
	Error      string          `json:"error,omitempty"`
	Duplicate  bool            `json:"duplicate,omitempty"`
}

// Execution is a line of the journal of the actions: the start or the end of an execution.
type Execution struct {
	At      int64  `json:"at"` // Unix nanoseconds
	PID     int    `json:"pid"`
	Task    string `json:"task"`
	Attempt int    `json:"attempt"`
	Action  string `json:"action,omitempty"`
	How     string `json:"how"` // Start, or how it ended
}

// How an Execution ended.
const (
	Start  = "start"
	Done   = "done"
	Failed = "failed"
	Broken = "broken" // the action panicked, or ended its goroutine
)

// Occurrence is a fault, or the start or the end of a process.
type Occurrence struct {
	At     int64  `json:"at"` // Unix nanoseconds
	What   string `json:"what"`
	Target string `json:"target"`
	PID    int    `json:"pid,omitempty"`
	Worker bool   `json:"worker,omitempty"` // the process is a worker
	Note   string `json:"note,omitempty"`
}

// What happens to every process, in addition to the faults of a schedule.
const (
	Up    = "up"    // it accepts connections
	Death = "death" // it has ended; the note has the reason
)

// Record is a task in the store at the end, with its history.
type Record struct {
	Task       string            `json:"task"`
	Queue      string            `json:"queue"`
	Action     string            `json:"action"`
	Status     string            `json:"status"`
	Attempt    int               `json:"attempt"`
	Generation int               `json:"generation"`
	Key        string            `json:"key,omitempty"`
	Meta       map[string]string `json:"meta,omitempty"`
	Payload    json.RawMessage   `json:"payload,omitempty"`
	Result     json.RawMessage   `json:"result,omitempty"`
	Code       string            `json:"code,omitempty"`
	Error      string            `json:"error,omitempty"`
	Entries    []Entry           `json:"entries"`
}

// Ended is the status of an Entry for a final state that a retry has left, and that a watch does not show.
const Ended = "ended"

// Entry is an entry of a task's history.
type Entry struct {
	Status  string `json:"status"`
	Attempt int    `json:"attempt,omitempty"`
	Seq     int    `json:"seq"`
	At      string `json:"at,omitempty"`
	Node    string `json:"node,omitempty"`
	Error   string `json:"error,omitempty"`
}

// Payload is the payload of every task of a run.
type Payload struct {
	Nonce string `json:"nonce"`
	MS    int    `json:"ms,omitempty"`    // how long it takes
	Later int    `json:"later,omitempty"` // how long attempts after the first take, for chaos.linger
	Fails int    `json:"fails,omitempty"` // attempts up to this one fail
	Bytes int    `json:"bytes,omitempty"` // how large its result is
	Fill  string `json:"fill,omitempty"`  // makes the payload large
	// Attempts is how often the task may fail, for the checker.
	Attempts int `json:"attempts,omitempty"`
}

// The prefixes of the actions of a run: those that nodes have, and those that workers have. What follows the prefix says
// what the action does.
const (
	InNode   = "chaos."
	OnWorker = "work."
)

// Deed returns what an action does: its name without the prefix.
func Deed(action string) string {
	return strings.TrimPrefix(strings.TrimPrefix(action, InNode), OnWorker)
}

// Inline is the largest size of a payload or a result, in bytes, that is kept in the store itself.
const Inline = 64 << 10

// Result is the result of every action of a run: "data" of the result object.
type Result struct {
	Hash    string `json:"hash"` // Hash of the payload's nonce
	Attempt int    `json:"attempt"`
	Fill    string `json:"fill,omitempty"`
}

// About describes a run.
type About struct {
	Seed    uint64   `json:"seed"`
	Began   int64    `json:"began"` // Unix nanoseconds; Events count from it
	Mutant  string   `json:"mutant,omitempty"`
	Plan    []string `json:"plan"`
	Stale   int      `json:"stale"`   // outcomes that the store refused, according to the logs
	Healed  int64    `json:"healed"`  // Unix nanoseconds: the time when the last fault was over
	Drained bool     `json:"drained"` // every task was finished in time
}
