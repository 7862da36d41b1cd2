package task

import "time"

// Operation is a change of many tasks that a node makes while its client may be gone. Times are UTC in whole milliseconds.
type Operation struct {
	ID     string   // sorted by the time at which it began
	Change Change   // Cancel or Retry
	Filter string   // what it acts on, as the client has written it
	IDs    []string `json:",omitempty"` // the tasks that were chosen one by one; nil: all that match the filter
	Who    string   // who asked for it; "" without authentication
	Node   string   // that makes it
	Began  time.Time
	// Seen is when the node wrote it last, and Silent how long ago that is, by the store's clock. A node writes it
	// between its calls of the store.
	Seen   time.Time     `json:"-"`
	Silent time.Duration `json:"-"`
	Ended  time.Time     `json:",omitzero"` // the zero time: it goes on
	// Matched is how many tasks were found until now, and More that there may be others. Changed of them were changed, and
	// Refused were not: their state does not allow it or makes it needless, or the client may not do it.
	Matched, Changed, Refused int
	More                      bool
	Stopping                  bool   `json:"-"`          // somebody asked it to stop
	Error                     string `json:",omitempty"` // why it ended before its end: a reason below, or the refusal of the store
}

// The reasons for which an operation ends before its end.
const (
	OperationStopped  = "stopped"  // it was asked to
	OperationDraining = "draining" // the node ends
	OperationLimit    = "limit"    // it has reached MaxOperation
	OperationRevoked  = "revoked"  // what its client has authenticated with is no longer valid
)

// Left returns how many of the tasks that were found are still to be changed.
func (o Operation) Left() int { return max(0, o.Matched-o.Changed-o.Refused) }

// IsLost reports whether the node that made the operation has not been heard of for so long that it has ended.
func (o Operation) IsLost() bool { return o.Ended.IsZero() && o.Silent > OperationSilence }

const (
	// OperationSilence is how long the node of an operation may be silent: more than two calls of a slow store.
	OperationSilence = 70 * time.Second
	// MaxOperations is how many operations a store keeps, the newest ones.
	MaxOperations = 100
	// MaxOperation is the largest number of tasks of an operation.
	MaxOperation = 200_000
	// MaxChosen is the largest number of tasks that are chosen one by one.
	MaxChosen = 1000
)
