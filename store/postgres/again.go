package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/posta-tasks/posta/store"
)

// again makes an accept once more with new ids, until it succeeds or ctx ends. Only a mutant does so: nobody
// knows what became of the first one.
func (a *accepting) again(ctx context.Context) ([]store.Accepted, error) {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	tasks := slices.Clone(a.tasks)
	for i := range tasks {
		tasks[i].ID = ulid.Make().String()
	}
	return a.Store.Accept(ctx, tasks)
}
