package service

import (
	"context"
	"slices"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// Pages has the calls of the dashboard for one client. They ask the same as the ops, and answer with values instead of
// lines.
type Pages struct {
	service *Service
	who     *auth.Identity
}

// Pages returns the calls for a client.
func (s *Service) Pages(who *auth.Identity) Pages { return Pages{s, who} }

// Queues returns the queues that the client may see.
func (p Pages) Queues(ctx context.Context) ([]task.Queue, *task.Error) {
	if refusal := mustSee(p.who); refusal != nil {
		return nil, refusal
	}
	found, refusal := p.service.engine.Queues(ctx)
	return visibleQueues(p.who, found), refusal
}

// visibleQueues removes the queues that a client may not see.
func visibleQueues(who *auth.Identity, queues []task.Queue) []task.Queue {
	return slices.DeleteFunc(queues, func(q task.Queue) bool { return !auth.Authorize(who, auth.See, auth.Resource{Queue: q.Name}) })
}

// Nodes returns the live nodes; none to a client that may not see the whole system.
func (p Pages) Nodes(ctx context.Context) ([]task.Node, *task.Error) {
	if refusal := mustSee(p.who); refusal != nil {
		return nil, refusal
	}
	if May(p.who, auth.See) != nil {
		return nil, nil
	}
	return p.service.engine.Nodes(ctx)
}

// List returns tasks that the client may see.
func (p Pages) List(ctx context.Context, query durable.Query) (durable.Page, *task.Error) {
	query, refusal := narrow(query, p.who, auth.See)
	if refusal != nil {
		return durable.Page{}, refusal
	}
	return p.service.engine.List(ctx, query)
}

// Get returns a task with its payload and result, unless they are large.
func (p Pages) Get(ctx context.Context, id string) (task.Task, *task.Error) {
	t, refusal := p.service.engine.Get(ctx, id, true)
	if refusal == nil && !auth.Authorize(p.who, auth.See, auth.OfTask(&t)) {
		refusal = durable.RefuseNotFound(id)
	}
	if refusal != nil {
		return task.Task{}, refusal
	}
	p.service.engine.Show(ctx, &t, wire.MaxShown)
	return t, nil
}

// Cancel cancels a task.
func (p Pages) Cancel(ctx context.Context, id string) *task.Error {
	_, refusal := p.change(ctx, auth.Cancel, []string{id}, p.service.engine.Cancel)
	return refusal
}

// Retry begins tasks again, and returns how many. The refusal of the only one is that of the call.
func (p Pages) Retry(ctx context.Context, ids ...string) (int, *task.Error) {
	return p.change(ctx, auth.Retry, ids, p.service.engine.Retry)
}

func (p Pages) change(ctx context.Context, verb auth.Verb, ids []string, change func(context.Context, []string) ([]durable.Changed, *task.Error)) (int, *task.Error) {
	for _, id := range ids {
		if refusal := p.service.changeable(ctx, p.who, verb, id); refusal != nil {
			return 0, refusal
		}
	}
	audited := asClient(ctx, p.who)
	if len(ids) > 1 {
		audited = asBulk(ctx, p.who, listOf(ids))
	}
	list, refusal := change(audited, ids)
	if refusal == nil && len(list) == 1 {
		refusal = list[0].Refusal
	}
	made := 0
	for i := range list {
		if list[i].Made {
			made++
		}
	}
	return made, refusal
}

// CancelWhere cancels the tasks that a query selects and the client may cancel.
func (p Pages) CancelWhere(ctx context.Context, query durable.Query) (task.Bulk, *task.Error) {
	query, refusal := narrow(query, p.who, auth.Cancel)
	if refusal != nil {
		return task.Bulk{}, refusal
	}
	return p.service.engine.CancelWhere(asBulk(ctx, p.who, filterOf(&query)), query)
}

// RetryWhere begins the tasks again that a query selects and the client may retry.
func (p Pages) RetryWhere(ctx context.Context, query durable.Query) (task.Bulk, *task.Error) {
	query, refusal := narrow(query, p.who, auth.Retry)
	if refusal != nil {
		return task.Bulk{}, refusal
	}
	return p.service.engine.RetryWhere(asBulk(ctx, p.who, filterOf(&query)), query)
}

// Pause pauses or resumes a queue.
func (p Pages) Pause(ctx context.Context, queue string, paused bool) *task.Error {
	if refusal := mayPause(p.who, queue); refusal != nil {
		return refusal
	}
	return p.service.engine.Pause(asClient(ctx, p.who), queue, paused)
}
