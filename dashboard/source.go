package dashboard

import (
	"context"
	"io"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// Source is what the pages show and change. Each call may refuse, also because the client may not do it: the context
// is that of the client's request.
type Source interface {
	// Keeps reports whether there is a store. Without one, only Try it, Nodes and Settings have something to show.
	Keeps() bool
	// SeesAll reports whether the visitor may see the whole system. Others get the tasks and queues that they may see, and
	// no charts.
	SeesAll(ctx context.Context) bool
	Queues(ctx context.Context) ([]task.Queue, *task.Error)
	// Nodes returns the live nodes.
	Nodes(ctx context.Context) ([]task.Node, *task.Error)
	// Workers returns the workers that are connected to the nodes of this process.
	Workers(ctx context.Context) ([]task.Worker, *task.Error)
	// List returns tasks without payload, result and history, newest first.
	List(ctx context.Context, query store.Query) (store.Page, *task.Error)
	// Get returns a task with its history, and with its payload and result if these are not large.
	Get(ctx context.Context, id string) (task.Task, *task.Error)
	// Open opens the payload of a task, or its result. The caller closes it.
	Open(ctx context.Context, id, body string) (io.ReadCloser, int64, *task.Error)
	Cancel(ctx context.Context, id string) *task.Error
	// Retry begins a finished task again, and starts a scheduled one now.
	Retry(ctx context.Context, id string) *task.Error
	// Preview returns the tasks on which a change would act first, at most query.Limit, and whether there are more.
	Preview(ctx context.Context, change task.Change, query store.Query) (store.Picked, *task.Error)
	// Operate begins a change of op.IDs, or of all tasks that match the query, which goes on when the call has returned.
	Operate(ctx context.Context, op task.Operation, query store.Query) (task.Operation, *task.Error)
	// Operations returns the newest operations of all nodes that the visitor may see, newest first.
	Operations(ctx context.Context) ([]task.Operation, *task.Error)
	StopOperation(ctx context.Context, id string) *task.Error
	// AppendRecord appends a task of a list as the API shows it, as one line.
	AppendRecord(dst []byte, t *task.Task) []byte
	// Pause pauses or resumes a queue.
	Pause(ctx context.Context, queue string, paused bool) *task.Error
	// Quiet asks a worker to stop.
	Quiet(ctx context.Context, worker string) *task.Error
	// Send carries out a run or an enqueue that is written as a line of the protocol, and returns the line that
	// answers it.
	Send(ctx context.Context, line []byte) []byte
	// Audit returns entries of the audit, the newest first. It refuses with task.NotFound if there is no store.
	Audit(ctx context.Context, query store.AuditQuery) (store.AuditPage, *task.Error)
	// Keys returns the keys of clients. It refuses with task.NotFound if the node has none, and with
	// task.Forbidden if the visitor may not manage them.
	Keys(ctx context.Context) ([]task.AccessKey, *task.Error)
	// CreateKey makes a key; lifetime 0 means for ever.
	CreateKey(ctx context.Context, name string, grants []string, lifetime time.Duration) (auth.NewKey, *task.Error)
	// RevokeKey revokes a key for good.
	RevokeKey(ctx context.Context, id string) *task.Error
	// Parts returns the parts that this node depends on.
	Parts() Parts
	// Limits returns the limits of this node.
	Limits() task.Limits
	// Actions returns the actions of this node and of the workers of its process that the visitor may know.
	Actions(ctx context.Context) []string
}

// Parts says which parts a node depends on, and which of them do not answer now.
type Parts struct {
	Store, Broker, Blobs             string // what it is, such as "SQLite"; "" if there is none
	StoreAway, BrokerAway, BlobsAway bool
	Draining                         bool
}
