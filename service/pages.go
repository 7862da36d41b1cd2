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
	keys    *auth.Keyring // nil if the node has none
}

// Pages returns the calls for a client. Operations end when its key does.
func (s *Service) Pages(who *auth.Identity, keys *auth.Keyring) Pages { return Pages{s, who, keys} }

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
	return p.change(ctx, auth.Cancel, id, p.service.engine.Cancel)
}

// Retry begins a task again, or starts it now.
func (p Pages) Retry(ctx context.Context, id string) *task.Error {
	return p.change(ctx, auth.Retry, id, p.service.engine.Retry)
}

func (p Pages) change(ctx context.Context, verb auth.Verb, id string, change func(context.Context, []string) ([]durable.Changed, *task.Error)) *task.Error {
	if refusal := p.service.changeable(ctx, p.who, verb, id); refusal != nil {
		return refusal
	}
	list, refusal := change(asClient(ctx, p.who), []string{id})
	if refusal == nil {
		refusal = list[0].Refusal
	}
	return refusal
}

// Pause pauses or resumes a queue.
func (p Pages) Pause(ctx context.Context, queue string, paused bool) *task.Error {
	if refusal := mayPause(p.who, queue); refusal != nil {
		return refusal
	}
	return p.service.engine.Pause(asClient(ctx, p.who), queue, paused)
}
