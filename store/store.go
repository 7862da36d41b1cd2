// Package store is the contract of the store, which holds the durable tasks, and Memory, its simplest
// implementation. Everything that Posta promises about a task is a row of a store; brokers only carry ids.
//
// Every change is one step of the table in package task, with a guard: the states in which the change is
// allowed and, for a task that was claimed, its fence. A change whose guard does not hold is not made. No
// method reads first and writes later. The same step adds an entry to the task's history. All methods take
// batches, because many callers share one commit. A batch is not a transaction: each part is made or refused by
// itself, in the order of the batch. What a method has answered is on stable storage.
//
// The life of a task, including crashes (package task has Cancel and Retry, too):
//
//	scheduled ──Promote──→ queued ──Claim──→ queued, ──Enter──→ running ──Succeed──→ done
//	    ↑                    ↑               reserved             │  │
//	    └──Again, Postpone───│───────────────────│────────────────┘  ├──Fail, Crash──→ failed
//	                         └───Release, Reap───┴───────────────────┘
//
// A claim reserves a task for a node: it grants a lease and raises the fence, and changes nothing else. The
// task stays queued until the node enters its action. A claim that is given back before that leaves no trace in
// the attempt and the history. A node reports that it has entered an action with Enter, or together with the
// outcome; then one step writes both entries. After a process died, nobody knows whether it had entered the
// tasks that were reserved for it, so Reap counts that as an attempt.
//
// The death of a process is not a failure of its tasks. They are reaped, which makes them suspects and does not
// count against MaxAttempts. A lease may also end although its process is alive, for example when the answer to
// a claim was lost and no node knows of the tasks: these are queued again unchanged (task.LeaseLively). A
// suspect is retried in isolation: a claim returns only one (Claim.Isolated). If it is reaped again, its process
// died while it was the only suspect there. That counts as a crash, and after task.MaxCrashes crashes in one
// generation the task fails. A suspect with a crash is in quarantine: since processes also die for other
// reasons, it is claimed only when no process has died for a while (Claim.Quarantined). Suspects that have run for
// a while without harm do not prevent another one from being claimed (Claim.Beside). Any outcome that a node
// records clears the suspicion, because the process has survived the attempt; the crashes remain until a client
// retries the task.
//
// Times are those of the store's own clock, in UTC and whole milliseconds. Nodes pass spans of time, and never
// compare their own clocks with a time that a store has written. If one process has the store to itself and its
// clock is set, leases, delays and backoffs keep their lengths (Clock).
//
// Tasks in answers are copies. Unless a method says otherwise, they have no Payload.Inline, and only the newest
// entry of their History.
//
// A call fails as a whole with a *task.Error: unavailable (nothing was done), unknown_outcome (the commit was
// sent and its answer was lost), or internal (the caller broke the contract; nothing was done). A closed store,
// and a context that ended before anything was done, are unavailable.
package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/posta-tasks/posta/task"
)

// Store is the whole contract. Its methods are safe for concurrent use.
type Store interface {
	Tasks
	Work
	Queues
	Keys
	Audit
	Operations
	Imports
	// Secret returns random bytes, at least 16, which all processes that use the store share. They never change, and no client
	// sees them.
	Secret() []byte
	// Close waits for running calls and releases the files or connections. Later calls are refused with
	// unavailable.
	Close() error
}

// Tasks has the methods that serve clients.
type Tasks interface {
	// Accept stores new tasks: scheduled if RunAt is in the future, otherwise queued. The caller sets ID,
	// Action, Payload and Options, which are copied; the store sets all other fields. Delay and ExpiresIn count
	// from now by the store's clock (task.Options.AcceptedAt). A task that names a Node, which must have a free
	// slot for it, is claimed for that node by the same change if Claim could take it now; then it is Reserved
	// in the answer.
	//
	// A task is not stored if a task of its queue has the same key, or if its ID exists (because an accept
	// whose answer was lost is repeated). The answer is then a Duplicate: the task with that ID, or else the
	// one with the key. A task has its key until it is cancelled or deleted.
	//
	// A queue that has reached its bound of unfinished tasks refuses with overloaded, and so does a new queue
	// if there are Limits.Queues of them. Duplicates are answered even then.
	Accept(ctx context.Context, tasks []task.Task) ([]Accepted, error)
	// Get returns whole tasks by id, in the order of ids. A task that does not exist has an empty ID.
	Get(ctx context.Context, ids []string) ([]task.Task, error)
	// List returns tasks without payload, result and history, newest first.
	List(ctx context.Context, query Query) (Page, error)
	// Pick finds the tasks that a change by filter (task.Cancel or task.Retry) acts on: those that match the
	// query and allow the change. It sees all tasks at one moment, so that it neither misses a task nor picks
	// one twice when tasks change their states. PickStates defines the states. Pick leaves out running tasks
	// that were already asked to stop, and cancelled tasks whose key another task has. Unfinished tasks are
	// sorted by id, finished ones by the time of their end. Pick returns at most query.Limit (1 to 10,000)
	// tasks; if more match, Picker chooses.
	Pick(ctx context.Context, change task.Change, query Query) (Picked, error)
	// Cancel cancels scheduled and queued tasks at once. It marks running and reserved ones, which end
	// cancelled unless the attempt succeeds first. The mark adds no entry to the history.
	Cancel(ctx context.Context, ids []string) ([]Changed, error)
	// Retry queues finished tasks again. The generation goes up by one, failures and crashes start at 0, and
	// attempt and fence continue. RunAt is now; Expires and the result are cleared; the error of a failed task
	// stays until the task ends again. A scheduled task is queued at once in its generation: only its RunAt
	// changes. The bound of the queue does not apply, since the tasks exist already. A cancelled task whose key
	// another task has stays cancelled.
	Retry(ctx context.Context, ids []string) ([]Changed, error)
}

// Work has the methods that serve nodes.
type Work interface {
	// Claim reserves tasks that the node can run: those of by.IDs that are queued, or else the next ones. The
	// priorities of the next ones follow Turn; within a priority the lowest ID comes first. Each task is
	// Reserved for the node, has a fence higher by one, and is leased for task.LeaseTime of the store's clock.
	// Claim skips tasks of paused queues and tasks that should have expired. The answer includes payloads.
	Claim(ctx context.Context, by Claim) ([]task.Task, error)
	// Enter makes reserved tasks running: the node has entered their actions. A task that is running already,
	// or whose claim is not the newest one any more, is Stale, and its answer has no task.
	Enter(ctx context.Context, entered []Entered) ([]Recorded, error)
	// Renew extends leases, including those that have ended but were not reaped yet. For each claim it reports
	// whether the node still has the task, and whether the task must stop. It also stores the progress.
	Renew(ctx context.Context, node string, held []Held) ([]Renewed, error)
	// Adopt makes a node the holder of claims of other nodes, because the worker that runs the tasks is now
	// connected to this node. Each claim must be the newest one of its task, and not be over; its lease may have
	// ended if the task was not reaped yet. The task's Node, or Reserved, becomes the node, and the lease lasts for
	// task.LeaseTime from now. The answer is that of Renew, and the progress is stored likewise. From then on
	// Renew reports to the previous node that it has lost the claim. The history has no entry for it, but later entries of
	// the attempt name the new node. A claim that the node has already is renewed.
	Adopt(ctx context.Context, node string, held []Held) ([]Renewed, error)
	// Record writes outcomes. Each is written only if its claim is still the newest one, whichever node has it.
	Record(ctx context.Context, outcomes []Outcome) ([]Recorded, error)
	// Maintain does the maintenance that is due: it fails tasks that did not start in time, queues scheduled tasks,
	// reaps leases that have ended, and deletes finished tasks past their keep. It does at most limit of each,
	// longest due first. If a lease ends while the process that was granted it is alive, its task does not
	// become a suspect and no crash is counted (task.LeaseLively); a reserved task then counts as not entered.
	Maintain(ctx context.Context, limit int) (Maintained, error)
	// Reap takes tasks back before their leases end, because the process of the worker that had them has died. It
	// does to them what Maintain does to the tasks of a process that died. why is the reason in the history. Only these
	// claims are reaped, and only if they are the newest ones and the node has them, so that nothing is taken
	// from a node that has adopted it.
	Reap(ctx context.Context, node string, claims []Held, why string) (Maintained, error)
	// Recover reaps all tasks that a node had claimed when its process died, whatever their leases; "" means
	// every node. It is for stores that only one process uses, where nobody needs to wait for a lease to end.
	// If actions is not nil, it reaps only tasks of these actions. Workers that are still alive may run the others;
	// they can be adopted until their leases end, and then Maintain treats them as tasks of a process that died.
	Recover(ctx context.Context, node string, actions []string) (Maintained, error)
}

// Queues has the methods about queues and nodes.
type Queues interface {
	// Queues returns every queue with its counts, sorted by name. A queue exists from its first task on, as
	// long as it is paused or a task of it is kept.
	Queues(ctx context.Context) ([]Queue, error)
	// Waiting returns the actions of the scheduled and queued tasks of each queue, sorted by queue and action.
	// Its cost grows with the number of queues and actions, not with the number of tasks.
	Waiting(ctx context.Context) ([]Waiting, error)
	// Pause pauses a queue, so that no task of it is claimed, or resumes it; running tasks continue. Repeating
	// it is not an error. A queue that does not exist is refused with NoQueue, so that invented names cannot
	// fill Limits.Queues. Each successful call raises the version of Paused and returns it.
	Pause(ctx context.Context, queue string, paused bool) (version int64, err error)
	// Paused returns the paused queues.
	Paused(ctx context.Context) (Paused, error)
	// Beat records a heartbeat of a node: it writes the node's row and sets Seen. A Name with a Started
	// identifies a process. The store keeps the time of the first heartbeat of each process.
	Beat(ctx context.Context, node Node) error
	// Nodes returns the nodes with a heartbeat in the last task.LeaseTime, sorted by name.
	Nodes(ctx context.Context) ([]Node, error)
}

// Keys has the methods about the keys of clients.
type Keys interface {
	// AddKey stores a key. A Created that is zero becomes now. A key whose ID exists is refused with conflict, and more
	// than task.MaxAccessKeys with overloaded.
	AddKey(ctx context.Context, key task.AccessKey) (task.AccessKey, error)
	// AccessKeys returns all keys, also the revoked ones, sorted by Created and ID.
	AccessKeys(ctx context.Context) ([]task.AccessKey, error)
	// RevokeKey sets Revoked to now, unless it is set, and returns the key. A key that does not exist is not_found.
	RevokeKey(ctx context.Context, id string) (task.AccessKey, error)
	// UseKeys sets Used of keys to now. It skips keys that do not exist.
	UseKeys(ctx context.Context, ids []string) error
}

// Operations has the methods about changes of many tasks, which nodes make one part after the other.
type Operations interface {
	// SaveOperation writes an operation, and sets its Seen to now. It reports whether somebody asked it to stop. Beyond
	// task.MaxOperations, ended ones are deleted and then lost ones, those with the lowest ids first. One that goes on is kept.
	SaveOperation(ctx context.Context, op task.Operation) (stopping bool, err error)
	// Operations returns the operations, the highest id first.
	Operations(ctx context.Context) ([]task.Operation, error)
	// StopOperation asks an operation to stop. One that does not exist is not_found.
	StopOperation(ctx context.Context, id string) error
}

// NoOperation returns the refusal of an operation that does not exist.
func NoOperation(id string) *task.Error {
	return task.RefuseField(task.NotFound, "operation", "there is no operation %s", id)
}

// NoKey returns the refusal of a key that does not exist.
func NoKey(id string) *task.Error {
	return task.RefuseField(task.NotFound, "key", "there is no key %s", id)
}

// CheckNewKey refuses a new key among n others. exists reports whether one of them has its id.
func CheckNewKey(id string, exists bool, n int) error {
	switch {
	case exists:
		return task.RefuseField(task.Conflict, "key", "there is a key %s already", id)
	case n >= task.MaxAccessKeys:
		refusal := task.RefuseField(task.Overloaded, "key", "there are already %d keys", n)
		refusal.Limit = fmt.Sprintf("%d keys", task.MaxAccessKeys)
		return refusal
	}
	return nil
}

// SortKeys sorts keys by Created and ID.
func SortKeys(keys []task.AccessKey) {
	slices.SortFunc(keys, func(a, b task.AccessKey) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
}

// Imports has the methods that Copy calls on its target.
type Imports interface {
	// Import stores whole tasks exactly as they are: their state, counts, times, result and history. It is for
	// Copy, while no node uses the store. Limits do not apply. A task whose ID exists is left unchanged, and a
	// finished task past its keep may be left out; the answer reports for each task whether it was stored. A
	// task whose key belongs to another task fails the call.
	Import(ctx context.Context, tasks []task.Task) (stored []bool, err error)
	// ImportQueues sets Paused, Accepted and Finished of queues; the other counts follow from their tasks. It
	// creates a queue that does not exist if it is paused, and skips it otherwise.
	ImportQueues(ctx context.Context, queues []Queue) error
}

// Limits bounds what clients can create. A zero field means its default.
type Limits struct {
	Queues   int            // number of queues; default task.MaxQueues
	Backlog  int            // unfinished tasks of each queue; default task.MaxBacklog
	Backlogs map[string]int // Backlog of single queues, by name
	Audit    int            // entries of the audit; default task.MaxAudit
}

// Bound returns how many unfinished tasks a queue may have.
func (l Limits) Bound(queue string) int { return cmp.Or(l.Backlogs[queue], l.Backlog) }

// RefuseTask returns the refusal of a task whose queue has reached its bound.
func (l Limits) RefuseTask(queue string) *task.Error {
	bound := l.Bound(queue)
	refusal := task.Refuse(task.Overloaded, "the queue %s already has %d unfinished tasks", queue, bound)
	refusal.Limit, refusal.RetryAfter = fmt.Sprintf("%d tasks", bound), time.Second
	return refusal
}

// RefuseQueue returns the refusal of a task that needs a new queue when there are Queues of them.
func (l Limits) RefuseQueue(name string) *task.Error {
	refusal := task.RefuseField(task.Overloaded, "queue", "there are already %d queues, so the queue %q cannot be created", l.Queues, name)
	refusal.Limit = fmt.Sprintf("%d queues", l.Queues)
	return refusal
}

// Accepted is the answer to one accepted task.
type Accepted struct {
	Task        task.Task   // the stored task, or the existing one of a duplicate
	Duplicate   bool        // a task with the key or the ID existed
	SameRequest bool        // set for a duplicate with the same action and payload
	Refusal     *task.Error // overloaded; the task was not stored
}

// Query selects tasks; a zero field selects all.
type Query struct {
	Queue, Action string
	Owner         string // List finds the tasks of an owner by an index
	Node, Worker  string // of the latest attempt
	State         task.State
	Fault         string            // task.Fault of what a task has failed with
	Meta          map[string]string // labels, all of which a task must have
	Since, Until  time.Time         // bounds of CreatedAt, inclusive
	Lowest        string            // no matching task has a lower ID, so the search may end there
	Limit         int               // 1 to 10,000; other values mean the nearest of these
	// Look bounds how many tasks List reads for a page, newest first; 0: it reads as many as it takes to fill the page. A
	// page that is not full then has a Cursor if older tasks were not read. Only the tasks in one index count: those of the
	// owner, or else those in the state if few tasks are in it.
	Look   int
	Cursor string // Cursor of the page before; "" for the first page
	// Allows decides for each task that the other fields select whether it is selected; nil: it is. It must not keep the
	// task, nor call the store.
	Allows func(t *task.Task) bool
}

// Admits reports whether a task has the labels, owner, node, worker, fault and time of creation, and is allowed. The other fields
// are left to the store.
func (q *Query) Admits(t *task.Task) bool {
	for label, value := range q.Meta {
		if has, ok := t.Meta[label]; !ok || has != value {
			return false
		}
	}
	return (q.Since.IsZero() || !t.CreatedAt.Before(q.Since)) && (q.Until.IsZero() || !t.CreatedAt.After(q.Until)) &&
		(q.Owner == "" || t.Owner == q.Owner) && (q.Node == "" || t.Node == q.Node) && (q.Worker == "" || t.Worker == q.Worker) &&
		(q.Fault == "" || q.Fault == task.Fault(t.Action, t.Code, t.Error)) && (q.Allows == nil || q.Allows(t))
}

// IsSparse reports whether Admits may leave out many of the tasks that the other fields select.
func (q *Query) IsSparse() bool {
	return len(q.Meta) > 0 || q.Allows != nil || q.Fault != "" || q.Node != "" || q.Worker != ""
}

// Page is one page of a list. Its Cursor is empty on the last page.
type Page struct {
	Tasks  []task.Task
	Cursor string
}

// Changed is the answer to a cancel or a retry. If Made is false, nothing was changed: the state of the task
// does not allow the change, the change was made before (the task is cancelled, or Cancelling), or the task
// does not exist (State is empty).
type Changed struct {
	ID    string
	Made  bool
	State task.State // after the call
	Task  task.Task  // after the call
	// KeyHolder is the id of the task that now has the key of a cancelled task, which can therefore not be
	// retried.
	KeyHolder string
}

// IDsMade returns the ids of the tasks that were changed.
func IDsMade(list []Changed) []string {
	var ids []string
	for i := range list {
		if list[i].Made {
			ids = append(ids, list[i].ID)
		}
	}
	return ids
}

// Claim describes which tasks a node claims.
type Claim struct {
	Node    string
	IDs     []string // only these tasks; nil means the next ones
	Actions []string // the node's actions; tasks of other actions are skipped
	// ActionSlots has the actions with slots of their own, each with the number of tasks that the claim may take.
	// The claim takes any number of tasks of other actions, up to Limit.
	ActionSlots map[string]int
	// Queues has the queues that the node works on, each with the number of tasks that it may take now. "*"
	// means every queue that is not named; nil means every queue without a limit.
	Queues map[string]int
	Limit  int // maximal number of tasks; 0 means none
	// Isolated claims a suspect, at most one, and none while another suspect runs on the same node. Without Isolated,
	// suspects are skipped. Only one node of a process may set it.
	Isolated bool
	// Quarantined lets Isolated also claim suspects with crashes (in quarantine), which are otherwise skipped.
	Quarantined bool
	// Beside has the ids of running suspects of the node that do not prevent Isolated from claiming another one,
	// because the process has survived them for a while. If the process dies, they are treated as before.
	Beside []string
}

// Capacity returns how many tasks of a queue the claim may take.
func (c *Claim) Capacity(queue string) int {
	if c.Queues == nil {
		return c.Limit
	}
	if n, named := c.Queues[queue]; named {
		return n
	}
	return c.Queues["*"]
}

// Entered reports that a node has entered the action of a task.
type Entered struct {
	ID    string
	Fence int
	// At is the time of the entering as time.Now returned it in this process. When a store writes, it subtracts the
	// age of At from the time of its own clock. So the time that the call waited for the store does not count.
	At     time.Time
	Worker string // that runs the attempt for the node; "" when the node runs it itself
	// Definition is the hash of the action's definition in an actions file; "" when it has none.
	Definition string
}

// Since returns how long ago a time was; 0 for the zero time.
func Since(entered time.Time) time.Duration {
	if entered.IsZero() {
		return 0
	}
	return max(0, time.Since(entered))
}

// Held is a claim of a node that Renew extends.
type Held struct {
	ID       string
	Fence    int
	Progress *task.Progress // nil leaves it unchanged
}

// Renewed is the answer to a Held.
type Renewed struct {
	Lost       bool // the claim is over: another node has the task, or none has it
	Cancelling bool
}

// Outcome is how an attempt ended. Change is one of task.Succeed, Fail, Again, Release, Crash, Cancel and, with
// Unentered, Expire; any other change fails the whole call with internal. Again becomes Fail if it uses up the last
// of MaxAttempts, so that no caller can allow more attempts than the client asked for. A task that is Cancelling is
// cancelled by every change but Succeed.
//
// If the store has not seen the Enter of the attempt, the outcome also enters it, unless it is Unentered. The
// Change of an Unentered outcome is one of Release, which undoes the claim and changes nothing else, Cancel and
// Expire. The store ignores Unentered if it has seen the Enter; Expire then becomes Release. Expire also becomes
// Release if the task has not expired yet by the store's clock.
//
// A Release with a Delay, of a task that was entered or not, makes it scheduled (task.Postpone). A Release that is
// Uncounted takes the attempt back, so that the next one has the same number: the history keeps the entry of the
// attempt, and the entry of the release has the number before it. The task remains a suspect if it was one, and may
// expire again if it has no attempt left.
type Outcome struct {
	ID         string
	Fence      int
	Change     task.Change
	Unentered  bool      // the action was not entered
	EnteredAt  time.Time // when the action was entered, as in Entered; zero means now
	Worker     string    // as in Entered, if the outcome enters the attempt; so is Definition
	Definition string
	Result     task.Body     // for Succeed
	Code       task.Code     // for Fail and Again; "" means action_failed
	Error      string        // for Fail, Again and Crash
	Delay      time.Duration // for Again and Release: how long from now until the next attempt may begin
	Uncounted  bool          // for Release: the attempt is taken back
}

// Postpones reports whether the outcome is a release of a task that starts again only after a while.
func (o *Outcome) Postpones() bool { return o.Change == task.Release && o.Delay > 0 }

// TakesBack reports whether the outcome is a release that does not count the attempt.
func (o *Outcome) TakesBack() bool { return o.Change == task.Release && o.Uncounted }

// Valid reports whether an attempt can end with this outcome.
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

// Refuse returns an error if any of the outcomes is not Valid.
func Refuse(outcomes []Outcome) error {
	for i := range outcomes {
		if o := &outcomes[i]; !o.Valid() {
			return task.Refuse(task.Internal, "an attempt of task %s cannot end with %q", o.ID, o.Change)
		}
	}
	return nil
}

// DiedTooOften returns the error of a task that is failed because a process or a worker died with it.
func DiedTooOften(who string, times int) string {
	return fmt.Sprintf("its %s died %d times while it was the only suspect in it", who, times)
}

// NoQueue returns the refusal to pause or resume a queue that does not exist.
func NoQueue(name string) *task.Error {
	return task.RefuseField(task.NotFound, "queue",
		"there is no queue %s; a queue is there from its first task, as long as a task of it is kept", name)
}

// Paused has the paused queues. A lower Version is older.
type Paused struct {
	Version int64
	Queues  []string
}

// Recorded is the answer to an Outcome or an Entered. Stale means that the claim was not the newest one any
// more, and that nothing was written. If an outcome has also entered the attempt, the task may have the entries
// of both changes.
type Recorded struct {
	Stale bool
	Task  task.Task // after the call; its ID is empty if it does not exist any more
}

// DeleteGrace is how long a finished task may stay beyond its keep in a store where deleting one task costs as
// much as deleting many.
const DeleteGrace = time.Second

// Maintained is what Maintain, Reap or Recover has done.
type Maintained struct {
	Expired   []task.Task // failed, because they did not start in time
	Promoted  []task.Task // queued, because their time has come
	Reaped    []task.Task // queued, because their process died or their leases ended
	Crashed   []task.Task // failed, because their process died too often
	Cancelled []task.Task // cancelled: they were asked to stop, and their leases ended
	Deleted   []task.Task // deleted after their keep, as they were before; their blobs can be deleted
	// Now is the time of the store's clock.
	Now time.Time
	// Next is when the next task is due, by the store's clock; the zero time means never. For a task that is
	// only to be deleted, it may be up to DeleteGrace later, so that many are deleted together.
	Next time.Time
	More bool // the limit was reached, and more is due now
}

// Queue is a queue with its counts. The store updates them with each change, and never counts tasks to answer.
type Queue struct {
	Name                               string
	Paused                             bool
	Scheduled, Queued, Running, Failed int64
	// Oldest is since when the queued task with the lowest ID has been due: its RunAt, or its CreatedAt if it
	// has none. It is the zero time if no task is queued.
	Oldest time.Time
	// OldestAge is how long ago Oldest is, by the store's clock; 0 if no task is queued.
	OldestAge time.Duration
	// Accepted and Finished count the tasks that were accepted, and those that became done, failed or
	// cancelled, since the queue exists. Rates are derived from them.
	Accepted, Finished int64
}

// Waiting means that at least one task of the queue with this action is scheduled or queued.
type Waiting struct{ Queue, Action string }

// Node is what a node reports about itself.
type Node = task.Node
