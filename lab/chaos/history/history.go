// Package history has the words for what happened in a run of chaos, and the files that
// keep them: what clients asked and heard, what actions did, what was done to the system, and
// what the store says in the end. A checker needs nothing else, so a run can be judged
// again long after it.
//
// Each file has one JSON object a line and is only appended to, so that what was written
// survives the death of its writer.
package history

import "encoding/json"

// Kind says what an event of a client is.
type Kind string

// The kinds. Each request has one Invoke; then replies (OK, Fail), or Info when nobody knows
// what became of it.
const (
	Invoke Kind = "invoke"
	OK     Kind = "ok"    // a reply that is no refusal; a request with wait has two
	Fail   Kind = "fail"  // a refusal: nothing was done
	Info   Kind = "info"  // the outcome is unknown: the connection broke, or the node says so
	Stray  Kind = "stray" // a reply that nobody on this connection asked for
)

// Event is something that a client did or saw.
type Event struct {
	At    int64  `json:"at"`   // nanoseconds since the run began, by the monotonic clock
	Conn  int    `json:"conn"` // the connection: a session
	ID    int    `json:"id"`   // the request, unique in the run
	Kind  Kind   `json:"kind"`
	Ask   *Ask   `json:"ask,omitempty"`   // of an Invoke
	Reply *Reply `json:"reply,omitempty"` // of what is heard
	Note  string `json:"note,omitempty"`  // of an Info: why
}

// Ask is what a client asked for.
type Ask struct {
	Op     string `json:"op"`
	Task   string `json:"task,omitempty"`   // of get, wait, cancel, retry
	Action string `json:"action,omitempty"` // this and the next are of enqueue
	Queue  string `json:"queue,omitempty"`
	Key    string `json:"key,omitempty"`
	Nonce  string `json:"nonce,omitempty"` // in the payload; what is asked for twice has it twice
	Wait   bool   `json:"wait,omitempty"`
}

// Reply is a reply line, as far as the checker reads it.
type Reply struct {
	Status     string          `json:"status,omitempty"`
	Task       string          `json:"task,omitempty"`
	Attempt    int             `json:"attempt,omitempty"`
	Generation *int            `json:"generation,omitempty"` // nil: it was not told
	Result     json.RawMessage `json:"result,omitempty"`
	Code       string          `json:"code,omitempty"`
	Error      string          `json:"error,omitempty"`
	Duplicate  bool            `json:"duplicate,omitempty"`
}

// Execution is a line of the journal that the actions keep: the start or the end of a run.
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
	Broken = "broken" // it panicked, or ended its goroutine
)

// Occurrence is something that was done to the system, or befell it.
type Occurrence struct {
	At     int64  `json:"at"` // Unix nanoseconds
	What   string `json:"what"`
	Target string `json:"target"`
	PID    int    `json:"pid,omitempty"`
	Note   string `json:"note,omitempty"`
}

// What happens to every process, in addition to the faults of a schedule.
const (
	Up    = "up"    // it accepts connections
	Death = "death" // it has ended; the note says how
)

// Record is a task as the store has it in the end, with its history.
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

// Ended is the status of an Entry that a watch does not show: some end, left by a retry by hand.
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

// Payload is what every task of a run carries.
type Payload struct {
	Nonce string `json:"nonce"`
	MS    int    `json:"ms,omitempty"`    // how long it takes
	Later int    `json:"later,omitempty"` // how long the attempts after the first take, of an action that tells these apart
	Fails int    `json:"fails,omitempty"` // attempts up to this one fail
	Bytes int    `json:"bytes,omitempty"` // how large its result is
	Fill  string `json:"fill,omitempty"`  // what makes it large itself
	// Attempts and Permanent say what the checker may expect: how often the task may fail.
	Attempts int `json:"attempts,omitempty"`
}

// Inline is how large a payload or a result may be, in bytes, to be kept in the store itself.
const Inline = 64 << 10

// Result is what every action of a run answers with: "data" of the result object.
type Result struct {
	Hash    string `json:"hash"` // Hash of the payload's nonce
	Attempt int    `json:"attempt"`
	Fill    string `json:"fill,omitempty"`
}

// About says what run it was.
type About struct {
	Seed    uint64   `json:"seed"`
	Began   int64    `json:"began"` // Unix nanoseconds; Events count from it
	Mutant  string   `json:"mutant,omitempty"`
	Plan    []string `json:"plan"`
	Stale   int      `json:"stale"`   // outcomes that the store refused, as the logs tell
	Healed  int64    `json:"healed"`  // Unix nanoseconds: no fault was there any more
	Drained bool     `json:"drained"` // every task was finished before the time was over
}
