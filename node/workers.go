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

// Run implements executor.Remote.
func (r remote) Run(t executor.Task, ended func([]byte, executor.Outcome)) (func(bool) bool, bool) {
	action := string(t.Action)
	payload := t.Payload
	if payload == nil {
		payload = []byte("null")
	}
	return r.pool.Run(worker.Task{
		Action: action, Timeout: t.Timeout, Payload: payload,
		Ended: func(e worker.Ending) {
			refusal := r.check(&e)
			result, outcome := resultOf(e, action, fmt.Sprintf("%gs", t.Timeout.Seconds()))
			go ended(result, outcome) // whoever reads the result may be slow
			if e.Reply != nil {
				state := task.Done
				if e.Kind != worker.Done {
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

// resultOf returns the result object that the client of a direct run receives.
func resultOf(e worker.Ending, action, timeout string) ([]byte, executor.Outcome) {
	if e.Kind == worker.Done {
		data := e.Data
		if data == nil {
			data = []byte("null")
		}
		return append(append([]byte(`{"ok":true,"data":`), data...), '}'), executor.Done
	}
	outcome := executor.Failed
	switch e.Kind {
	case worker.TimedOut:
		outcome = executor.TimedOut
	case worker.Cancelled, worker.Released:
		outcome = executor.Cancelled
	}
	return append(task.AppendString([]byte(`{"ok":false,"error":`), worker.ErrorOf(e, action, timeout)), '}'), outcome
}
