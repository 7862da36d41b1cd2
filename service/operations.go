package service

import (
	"cmp"
	"context"
	"slices"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// verbOfChange returns the verb that a change of tasks needs.
func verbOfChange(change task.Change) auth.Verb {
	if change == task.Retry {
		return auth.Retry
	}
	return auth.Cancel
}

// Preview returns the tasks that a change would act on first, and whether there are more.
func (p Pages) Preview(ctx context.Context, change task.Change, query durable.Query) (store.Picked, *task.Error) {
	query, refusal := narrow(query, p.who, verbOfChange(change))
	if refusal != nil {
		return store.Picked{}, refusal
	}
	return p.service.engine.Preview(ctx, change, query)
}

// Operate begins a change of the chosen tasks, or of all that match the query. Tasks that the client may not change are left
// out.
func (p Pages) Operate(ctx context.Context, op task.Operation, query durable.Query) (task.Operation, *task.Error) {
	query, refusal := narrow(query, p.who, verbOfChange(op.Change))
	if refusal != nil {
		return op, refusal
	}
	op.Who = author(p.who)
	detail := filterOf(&query)
	if op.IDs != nil {
		detail = listOf(op.IDs)
	}
	watch := func(end func()) (stop func()) { return p.keys.Watch(p.who, end) }
	return p.service.engine.Operate(asBulk(ctx, p.who, detail), op, query, watch)
}

// author returns how an operation names a client; "" for one without a token.
func author(who *auth.Identity) string {
	a := who.Author()
	return cmp.Or(a.Who, a.Name)
}

// Operations returns the newest operations that the client has begun, or all if it may see the whole system.
func (p Pages) Operations(ctx context.Context) ([]task.Operation, *task.Error) {
	if refusal := mustSee(p.who); refusal != nil {
		return nil, refusal
	}
	list, refusal := p.service.engine.Operations(ctx)
	if May(p.who, auth.See) != nil {
		list = slices.DeleteFunc(list, func(op task.Operation) bool { return op.Who != author(p.who) })
	}
	return list, refusal
}

// StopOperation stops an operation of the client, or of anybody if it may manage the whole system.
func (p Pages) StopOperation(ctx context.Context, id string) *task.Error {
	list, refusal := p.Operations(ctx)
	if refusal != nil {
		return refusal
	}
	i := slices.IndexFunc(list, func(op task.Operation) bool { return op.ID == id })
	switch {
	case i < 0:
		return store.NoOperation(id)
	case list[i].Who != author(p.who) && May(p.who, auth.Manage) != nil:
		return Forbid(auth.Manage, "the operation "+id)
	}
	return p.service.engine.StopOperation(ctx, id)
}
