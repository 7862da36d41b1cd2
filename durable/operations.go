package durable

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

const (
	// operationPart is how many tasks an operation changes between two looks at whether it was asked to stop.
	operationPart = 200
	// operationsMost is how many operations a node makes at once.
	operationsMost = 8
)

// A node is not silent for long enough to be lost while it makes two calls.
const _ = uint(task.OperationSilence - 2*storeTimeout)

// operation is an Operation that this node makes.
type operation struct {
	*Engine
	task.Operation
	query  store.Query
	change func(context.Context, []string) ([]Changed, *task.Error)
	done   map[string]bool // the tasks that were tried
}

// Operate begins a change of the chosen tasks (op.IDs), or else of all that match the query now, the oldest first. It is
// made by this node although ctx ends, in parts; each task is tried once. The query decides for chosen tasks, too, which
// ones may be changed. Operations shows the progress. watch, which may be nil, is called once to have end called when the
// client may no longer act, until stop is called.
func (e *Engine) Operate(ctx context.Context, op task.Operation, query store.Query, watch func(end func()) (stop func())) (task.Operation, *task.Error) {
	if !e.running.Load() || !e.operations.Enter() {
		return op, refuseDraining("")
	}
	if e.operating.Add(1) > operationsMost {
		e.operating.Add(-1)
		e.operations.Leave()
		refusal := task.Refuse(task.Overloaded, "this node makes %d operations already", operationsMost)
		refusal.RetryAfter = time.Second
		return op, refusal
	}
	op.ID, op.Node, op.Began = ulid.Make().String(), e.config.Node, e.config.Now().UTC().Truncate(time.Millisecond)
	o := &operation{Engine: e, Operation: op, query: query, change: e.Cancel, done: map[string]bool{}}
	if op.Change == task.Retry {
		o.change = e.Retry
	}
	begun := make(chan error, 1)
	e.goroutines.Go(func() {
		defer e.operating.Add(-1)
		_, err := o.save(ctx)
		if begun <- err; err == nil {
			o.run(ctx, watch)
		}
	})
	e.operations.Leave()
	if err := <-begun; err != nil {
		return op, e.readRefusal(err)
	}
	return op, nil
}

// save writes the operation although ctx ends, and reports whether it was asked to stop.
func (o *operation) save(ctx context.Context) (stopping bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	return o.config.Store.SaveOperation(ctx, o.Operation)
}

// run makes the operation and writes its end.
func (o *operation) run(ctx context.Context, watch func(end func()) (stop func())) {
	ctx, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	if watch != nil {
		defer watch(func() { end(errors.New(task.OperationRevoked)) })()
	}
	o.goroutines.Go(func() {
		select {
		case <-o.quit:
			end(errors.New(task.OperationDraining))
		case <-ctx.Done():
		}
	})
	if o.IDs != nil {
		o.Error = o.chosen(ctx)
	} else {
		o.Error = o.matching(ctx)
	}
	o.Ended = o.config.Now().UTC().Truncate(time.Millisecond)
	if _, err := o.save(ctx); err != nil {
		o.config.Logger.Warn("the end of an operation could not be written", "operation", o.ID, "error", err)
	}
}

// failed returns why the operation ends when a call has failed.
func (o *operation) failed(ctx context.Context, refusal *task.Error) string {
	if ctx.Err() != nil {
		return context.Cause(ctx).Error()
	}
	return message(refusal)
}

// matching changes the tasks that match the query. It returns why it ends before its end, or "".
func (o *operation) matching(ctx context.Context) string {
	newest, refusal := o.List(ctx, store.Query{Limit: 1})
	if refusal != nil || len(newest.Tasks) == 0 {
		return o.failed(ctx, refusal)
	}
	last, allows := newest.Tasks[0].ID, o.query.Allows
	o.query.Limit = BulkMost
	o.query.Allows = func(t *task.Task) bool { return t.ID <= last && !o.done[t.ID] && (allows == nil || allows(t)) }
	for {
		look, cancel := context.WithTimeout(ctx, storeTimeout)
		picked, err := o.config.Store.Pick(look, o.Change, o.query)
		cancel()
		if err != nil {
			return o.failed(ctx, o.readRefusal(err))
		}
		o.Matched += len(picked.IDs)
		o.More = picked.More
		for ids := range slices.Chunk(picked.IDs, operationPart) {
			if reason := o.part(ctx, ids); reason != "" {
				return reason
			}
		}
		switch {
		case !picked.More:
			return ""
		case o.Matched >= task.MaxOperation:
			return task.OperationLimit
		}
	}
}

// chosen changes the tasks that were chosen one by one.
func (o *operation) chosen(ctx context.Context) string {
	o.Matched = len(o.IDs)
	for chosen := range slices.Chunk(o.IDs, operationPart) {
		look, cancel := context.WithTimeout(ctx, storeTimeout)
		found, err := o.config.Store.Get(look, chosen)
		cancel()
		if err != nil {
			return o.failed(ctx, o.readRefusal(err))
		}
		var ids []string
		for i := range found {
			if t := &found[i]; t.ID != "" && o.query.Admits(t) {
				ids = append(ids, t.ID)
			}
		}
		o.Refused += len(chosen) - len(ids)
		if reason := o.part(ctx, ids); reason != "" {
			return reason
		}
	}
	return ""
}

// part changes a few tasks. It returns why the operation ends now, or "". A change that has begun is made to its end.
func (o *operation) part(ctx context.Context, ids []string) string {
	stopping, err := o.save(ctx)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx).Error()
	case err != nil:
		return message(o.readRefusal(err))
	case stopping:
		return task.OperationStopped
	}
	changed, refusal := o.change(context.WithoutCancel(ctx), ids)
	var bulk Bulk
	count(&bulk, changed)
	made := bulk.Changed + bulk.Cancelling
	o.Changed += made
	o.Refused += len(changed) - made
	for _, id := range ids {
		o.done[id] = true
	}
	return message(refusal)
}

func message(refusal *task.Error) string {
	if refusal == nil {
		return ""
	}
	return refusal.Message
}

// Preview returns the tasks that an operation would find first, the oldest first, and whether there are more.
func (e *Engine) Preview(ctx context.Context, change task.Change, query store.Query) (store.Picked, *task.Error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	picked, err := e.config.Store.Pick(ctx, change, query)
	if err != nil {
		return store.Picked{}, e.readRefusal(err)
	}
	return picked, nil
}

// Operations returns the newest operations of all nodes, newest first.
func (e *Engine) Operations(ctx context.Context) ([]task.Operation, *task.Error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	list, err := e.config.Store.Operations(ctx)
	if err != nil {
		return nil, e.readRefusal(err)
	}
	return list, nil
}

// StopOperation asks an operation to stop, whichever node makes it. It stops after the tasks that it changes now.
func (e *Engine) StopOperation(ctx context.Context, id string) *task.Error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := e.config.Store.StopOperation(ctx, id); err != nil {
		return e.readRefusal(err)
	}
	return nil
}
