// Package store is the contract of the truth about durable tasks, and Memory, its
// simplest implementation. Everything that Posta promises about a task is a row of
// a store; brokers carry ids only.
//
// Every change is one guarded step of task's table: it names the states, and for a
// task that was claimed the fence, that it expects, and is not made when they are not met.
// Nothing is read first and written later. Each change is also an entry of the task's
// history, written by the same step. All methods take batches, since many callers
// share one commit; a batch is not a transaction: its parts are made or refused alone,
// in their order, but what a method has answered is on stable storage.
//
// A life, with what a crash adds to it (Cancel and Retry are in task's table):
//
//	scheduled ──Promote──→ queued ──Claim──→ queued, ──Enter──→ running ──Succeed──→ done
//	    ↑                    ↑               reserved             │  │
//	    └───────Again────────│───────────────────│────────────────┘  ├──Fail, Crash──→ failed
//	                         └───Release, Reap───┴───────────────────┘
//
// A claim reserves a task for a node, which gives it a lease and raises its fence, and nothing else: the task
// is queued until the node has entered its action. A claim that is given back before that leaves no trace in the attempt
// and the history. A node says that it has entered an action with Enter, or with the outcome: then one step writes
// both entries. When a process dies nobody knows whether it had entered what was reserved
// for it: Reap counts that as an attempt.
//
// A process that dies is no failure of the tasks in it: they are reaped, which makes
// them suspects and costs them no attempt of MaxAttempts. A lease may also end though
// its process lives, for example when the answer to a claim was lost and nobody knows of
// the tasks: these are queued again as they were (task.LeaseLively). A suspect is claimed alone
// (Claim.Lone). When it is reaped again, its process died under it while it was the
// only suspect: that is a crash, and with task.LoneCrashes of them in one generation
// it is failed. A suspect with a crash is accused: since processes also die of other
// things, it is claimed only when none has died for a while (Claim.Accused). Others may be
// claimed beside those with which the process lives (Claim.Beside). Any outcome that a node records
// clears the suspicion, for the process outlived the attempt; the crashes stay until a
// retry by hand.
//
// Times are the store's own clock, in UTC and whole milliseconds. Nodes hand over spans of
// time, and never compare their clocks with leases, or with anything else that a store has written. Where
// one process has the store to itself and its clock is set, leases, delays and backoffs keep their
// lengths (Clock).
//
// Tasks in answers are copies. Where nothing else is said they are without Inline of
// their Payload, and of their History they have the newest entry only.
//
// An error of a whole call is a *task.Error: unavailable (nothing was done), or
// unknown_outcome (the commit was sent and its answer lost), or internal (the caller
// asked for what the contract does not have; nothing was done). A closed store and
// a context that has ended before anything was done are unavailable.
package store

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/task"
)

// Store is all of it. Its methods are safe for concurrent use.
type Store interface {
	Tasks
	Work
	Queues
	Imports
	// Close waits for calls under way and gives the files or connections back. Calls
	// that come later are refused with unavailable.
	Close() error
}

// Tasks is what clients ask for.
type Tasks interface {
	// Accept stores new tasks: scheduled when RunAt lies ahead, else queued. ID, Action,
	// Payload and Options are set by the caller and copied; everything else is the store's. Delay and
	// ExpiresIn count from now by the store's clock (task.Options.AcceptedAt).
	// A task that names a Node, which has a free slot for it, is claimed for that node by the same
	// change when Claim could take it just then: it is Reserved in the answer.
	// A task whose key its queue has already, or whose ID is there already (an accept that
	// is repeated since its answer was lost), is not stored: the answer is a Duplicate, by
	// its ID if that is there. A task has its key until it is cancelled or deleted.
	// A queue that has its bound of unfinished tasks, and a new queue when there are
	// Limits.Queues of them, refuse with overloaded; duplicates are answered even then.
	Accept(ctx context.Context, tasks []task.Task) ([]Accepted, error)
	// Get gives whole tasks by id, in the order asked for; one that is not there has an
	// empty ID.
	Get(ctx context.Context, ids []string) ([]task.Task, error)
	// List gives tasks without payload, result and history, newest first.
	List(ctx context.Context, query Query) (Page, error)
	// Pick finds the tasks that a change by filter (task.Cancel or task.Retry) is to act on: those that
	// match the query and that the change would be made of, as they are at one moment, so that
	// none is missed or picked twice however they move between states. PickStates says
	// which states are meant; running tasks that are to stop already, and cancelled ones whose key another task
	// has, are left out. Unfinished tasks come in the order of their ids, finished ones in that of
	// their ends, at most query.Limit (1 to 10,000) of them; Picker says which ones when more match.
	Pick(ctx context.Context, change task.Change, query Query) (Picked, error)
	// Cancel cancels scheduled and queued tasks at once and marks those that run or are reserved: these end
	// cancelled unless the attempt succeeds first. The mark is no entry of the history.
	Cancel(ctx context.Context, ids []string) ([]Changed, error)
	// Retry queues finished tasks again: the generation goes up by one, failures and
	// crashes start at 0, attempt and fence go on. RunAt is now, Expires is gone, and so is the
	// result; the error of a failed task stays until the task ends again. Scheduled tasks are
	// queued at once in their generation: only RunAt changes. It is not held to the queue's
	// bound, since the tasks are there already. A cancelled task whose key another task has
	// taken stays cancelled.
	Retry(ctx context.Context, ids []string) ([]Changed, error)
}

// Work is what nodes ask for.
type Work interface {
	// Claim takes tasks that the node can run: with by.IDs those of them that are queued, else
	// the next ones, whose priorities follow Turn and which are, within a priority, the
	// oldest by ID. Each is Reserved for the node, its fence one higher, leased until the
	// store's clock has gone on by task.LeaseTime. Tasks of paused queues, and tasks that
	// should have expired, are left where they are. Payloads are there.
	Claim(ctx context.Context, by Claim) ([]task.Task, error)
	// Enter makes reserved tasks running whose actions the nodes have entered. Those that were noted so already,
	// and those whose claim is not the newest any more, are Stale, and their answers lack the task.
	Enter(ctx context.Context, entered []Entered) ([]Recorded, error)
	// Renew extends leases, also those that have run out and were not reaped yet; for each
	// claim it tells whether the node still has the task, and whether the task shall
	// stop. Progress is kept with it.
	Renew(ctx context.Context, node string, held []Held) ([]Renewed, error)
	// Record writes outcomes; each is made only if the claim is still the newest one.
	Record(ctx context.Context, outcomes []Outcome) ([]Recorded, error)
	// Tend does what time brings about: it fails tasks that did not start in time, promotes
	// due ones, reaps expired leases and deletes finished tasks past their keep; at most
	// limit of each, those first that have been due longest. A lease that ends while the process
	// that was granted it lives makes no suspect of a task and is no crash of one (task.LeaseLively); one that was reserved was not entered.
	Tend(ctx context.Context, limit int) (Tended, error)
	// Recover reaps what a node had running when its process died, whatever the leases say;
	// "" stands for every node. It is for stores that one process has to itself, where no
	// lease needs to run out.
	Recover(ctx context.Context, node string) (Tended, error)
}

// Queues is what is known of queues and nodes.
type Queues interface {
	// Queues gives every queue with its counts, by name. A queue is there from its first
	// task until it is neither paused nor has a task that is kept.
	Queues(ctx context.Context) ([]Queue, error)
	// Waiting gives the actions that the scheduled and queued tasks of each queue have, by queue and
	// action. Its cost grows with the number of queues and actions, not with that of tasks.
	Waiting(ctx context.Context) ([]Waiting, error)
	// Pause stops claims from a queue, or lets them go on; running tasks finish. Repeating
	// it is no error. A queue that is not there is refused with NoQueue, so that invented names
	// cannot fill Limits.Queues. Each call that is not refused raises the version of Paused, and gives it.
	Pause(ctx context.Context, queue string, paused bool) (version int64, err error)
	// Paused gives the queues that are paused.
	Paused(ctx context.Context) (Paused, error)
	// Beat keeps a node's row; the store sets Seen. A process is one Started of a Name: the
	// store keeps since when it has beaten, and another one begins anew.
	Beat(ctx context.Context, node Node) error
	// Nodes gives the nodes that have beaten within the last task.LeaseTime, by name.
	Nodes(ctx context.Context) ([]Node, error)
}

// Imports is what Copy asks of the store that it copies to.
type Imports interface {
	// Import stores whole tasks exactly as they are: their state, counts, times, result and history. It is for
	// Copy, while no node uses the store. Limits do not apply. A task whose ID is there is left as it is, and a
	// finished task that is past its keep may be left out. The answer reports for each task whether it was
	// stored; a task whose key belongs to another one fails the call.
	Import(ctx context.Context, tasks []task.Task) (stored []bool, err error)
	// ImportQueues sets Paused, Accepted and Finished of queues; the other counts follow from their tasks. It
	// makes a queue that is not there if it is paused, and skips it if it is not.
	ImportQueues(ctx context.Context, queues []Queue) error
}

// Limits bounds what clients can make grow. A zero field means its default.
type Limits struct {
	Queues   int            // queues; task.MaxQueues
	Backlog  int            // unfinished tasks of a queue; task.MaxBacklog
	Backlogs map[string]int // the same for single queues, by name
}

// Accepted is the answer to one accepted task.
type Accepted struct {
	Task        task.Task   // as stored, or the one that was there
	Duplicate   bool        // the key, or the ID, was there
	SameRequest bool        // of a duplicate: action and payload are the same
	Refusal     *task.Error // not stored: overloaded
}

// Query selects tasks; a zero field selects all.
type Query struct {
	Queue, Action string
	State         task.State
	Meta          map[string]string // labels that a task must have, all of them
	Since, Until  time.Time         // bounds of CreatedAt, both included
	Lowest        string            // no task has a lower ID: where the search may end
	Limit         int               // 1 to 10,000; what lies outside means the nearest
	Cursor        string            // of the page before
}

// Page is a part of a list. An empty Cursor means the end.
type Page struct {
	Tasks  []task.Task
	Cursor string
}

// Changed is the answer to a cancel or a retry. When Made is false nothing was changed:
// the task is in a state that does not allow it, or is so already (cancelled, or
// Cancelling), or is not there (State is empty).
type Changed struct {
	ID    string
	Made  bool
	State task.State // now
	Task  task.Task  // now; for those who watch
	// KeyHolder is the task that has taken the key of a cancelled one, which can therefore not be retried.
	KeyHolder string
}

// Claim says who claims what.
type Claim struct {
	Node    string
	IDs     []string // exactly these; nil: the next ones
	Actions []string // that the node has; a task of another one is left where it is
	// Queues says which queues the node works, with how many tasks it may take of each now.
	// "*" stands for each queue that is not named; nil means every queue.
	Queues map[string]int
	Limit  int // tasks at most; none are taken without it
	// Lone takes a suspect, one at most, and none while another runs on the same node; without
	// it suspects are left where they are. Of several nodes in one process, one alone may
	// ask for it.
	Lone bool
	// Accused has Lone take suspects with crashes, too, which are left where they are without it.
	Accused bool
	// Beside has suspects that run on the node and do not keep Lone from taking another one: the
	// process has lived with them for a while. What happens to them if it dies stays the same.
	Beside []string
}

// Entered is a task whose action a node has entered.
type Entered struct {
	ID    string
	Fence int
	Ago   time.Duration // how long before the call
}

// Held is a task that a node has claimed.
type Held struct {
	ID       string
	Fence    int
	Progress *task.Progress // nil: as before
}

// Renewed is the answer to a Held.
type Renewed struct {
	Lost       bool // another node has claimed it, or it is not claimed any more
	Cancelling bool
}

// Outcome is how an attempt ended. Change is one of task.Succeed, Fail, Again, Release, Crash
// and Cancel; with another one the whole call is refused with internal. Again is made as
// Fail when it uses up the last of MaxAttempts, so that no caller can grant more than was
// asked for. A task that is Cancelling is cancelled by all of them but Succeed.
//
// An attempt whose Enter the store has not seen is entered by its outcome, unless it is Unentered: then Change is
// Release, which takes the claim back and leaves all else as it was, or Cancel, or task.Expire. Unentered is
// ignored when the store knows better; Expire is made as Release then.
type Outcome struct {
	ID        string
	Fence     int
	Change    task.Change
	Unentered bool          // the action was not entered
	Ago       time.Duration // how long before the call it was
	Result    task.Body     // of Succeed
	Code      task.Code     // of Fail and Again; "": action_failed
	Error     string        // of Fail, Again and Crash
	Delay     time.Duration // of Again: how long from now until the next attempt may begin
}

// Valid tells whether an attempt can end so.
func (o *Outcome) Valid() bool {
	switch o.Change {
	case task.Succeed, task.Fail, task.Again, task.Crash:
		return !o.Unentered
	case task.Release, task.Cancel:
		return true
	case task.Expire:
		return o.Unentered
	}
	return false
}

// Refuse is the refusal of outcomes one of which is not Valid.
func Refuse(outcomes []Outcome) error {
	for i := range outcomes {
		if o := &outcomes[i]; !o.Valid() {
			return task.Refuse(task.Internal, "an attempt of task %s cannot end with %q", o.ID, o.Change)
		}
	}
	return nil
}

// NoQueue refuses to pause or resume a queue that is not there.
func NoQueue(name string) *task.Error {
	return task.RefuseField(task.NotFound, "queue",
		"there is no queue %s; a queue is there from its first task, as long as a task of it is kept", name)
}

// Paused is which queues are paused. One of a lower Version is older.
type Paused struct {
	Version int64
	Queues  []string
}

// Recorded is the answer to an Outcome or an Entered. Stale means that the claim was not the newest
// one any more, and that nothing was written. When an outcome has entered the attempt, the task may have the entries of both changes.
type Recorded struct {
	Stale bool
	Task  task.Task // now; with an empty ID it is not there any more
}

// DeleteGrace is how long a finished task may stay beyond its keep where deleting one costs as much as deleting many.
const DeleteGrace = time.Second

// Tended is what Tend or Recover did.
type Tended struct {
	Expired   []task.Task // failed, since they did not start in time
	Promoted  []task.Task // queued, since their time has come
	Reaped    []task.Task // queued, since their process died, or their leases ended though it lives
	Crashed   []task.Task // failed, since their process died once too often
	Cancelled []task.Task // their process died after they were asked to stop
	Deleted   []task.Task // past their keep; their blobs can go. As they were
	// Now is the store's clock.
	Now time.Time
	// Next is when the next thing falls due, by the store's clock; zero: nothing will. Of what is only to be deleted
	// it may be up to DeleteGrace later, so that many go together.
	Next time.Time
	More bool // the limit was reached, and something is due already
}

// Queue is a queue's counts, kept with each change and never counted.
type Queue struct {
	Name                               string
	Paused                             bool
	Scheduled, Queued, Running, Failed int64
	// Oldest says since when the queued task with the lowest ID is due: its RunAt, or its
	// CreatedAt when it has none; the zero time when nothing is queued.
	Oldest time.Time
	// OldestAge is how long that was ago by the store's clock; 0 when nothing is queued.
	OldestAge time.Duration
	// Accepted and Finished go up with each accepted task, and with each that becomes done,
	// failed or cancelled, as long as the queue is there; rates follow from them.
	Accepted, Finished int64
}

// Waiting says that tasks of a queue with an action are scheduled or queued.
type Waiting struct{ Queue, Action string }

// Node is a node as it tells of itself.
type Node struct {
	Name    string
	PID     int
	Actions []string
	Queues  []string
	Slots   int
	Stuck   int `json:",omitempty"` // actions that still run though their time is over
	Started time.Time
	Paused  int64     // version of Paused that it works by; 0: it does not say
	Seen    time.Time // by the store's clock
}
