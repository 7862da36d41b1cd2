package node

import (
	"fmt"

	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker"
)

// remote runs direct tasks on the workers that are connected to the nodes of this process.
type remote struct {
	pool      *worker.Pool
	maxResult int
}

// Has implements executor.Remote.
func (r remote) Has(action string) bool { return r.pool.Runs(action) }

// IsFree implements executor.Remote.
func (r remote) IsFree(action string) bool { return r.pool.IsFree(action) }

// Run implements executor.Remote.
func (r remote) Run(t executor.Task, ended func(executor.Outcome, []byte, string)) (func(bool) bool, bool) {
	action := string(t.Action)
	return r.pool.Run(worker.Task{
		Action: action, Timeout: t.Timeout, Payload: t.Payload,
		Ended: func(e worker.Ending) {
			refusal := r.check(&e)
			outcome, failure := outcomeOf(e.Kind), e.Failure(action)
			if outcome == executor.TimedOut {
				failure = executor.TimedOutText(t.Timeout)
			}
			go ended(outcome, e.Data, failure) // the client that reads the result may be slow
			if e.Reply != nil {
				state := task.Done
				if outcome != executor.Done {
					state = task.Failed
				}
				e.Reply(state, nil, refusal)
			}
		},
	})
}

// check turns a result that cannot be passed on into a failure.
func (r remote) check(e *worker.Ending) *task.Error {
	switch {
	case e.Kind != worker.Done:
		return nil
	case e.Blob != nil:
		e.Kind, e.Error = worker.Failed, "the worker answered a direct run with data_blob"
		return task.RefuseField(task.InvalidRequest, "data_blob", "a direct run needs its data on the line")
	case len(e.Data) > r.maxResult:
		e.Kind, e.Error = worker.Failed, fmt.Sprintf("the result has %d bytes, at most %d are allowed", len(e.Data), r.maxResult)
		return task.RefuseField(task.ResultTooLarge, "data", "%s", e.Error)
	}
	return nil
}

// outcomeOf returns the outcome of a direct run.
func outcomeOf(kind worker.Kind) executor.Outcome {
	switch kind {
	case worker.Done:
		return executor.Done
	case worker.TimedOut:
		return executor.TimedOut
	case worker.Cancelled, worker.Released:
		return executor.Cancelled
	}
	return executor.Failed
}
