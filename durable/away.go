package durable

import (
	"context"
	"errors"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/internal/outage"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// outages has the parts that an engine depends on.
type outages struct{ store, blobs *outage.Part }

// watchedStore is a store whose outages are logged.
type watchedStore struct {
	store.Store
	part *outage.Part
}

// note records the outcome of a call. A call whose caller has disconnected says nothing about the store.
func note[T any](ctx context.Context, w *watchedStore, answer T, err error) (T, error) {
	switch code := task.CodeOf(err); {
	case err == nil:
		w.part.Answered()
	case errors.Is(ctx.Err(), context.Canceled):
	case code == task.Unavailable, code == task.UnknownOutcome:
		w.part.Failed(err)
	}
	return answer, err
}

// Accept implements store.Tasks.
func (w *watchedStore) Accept(ctx context.Context, tasks []task.Task) ([]store.Accepted, error) {
	answers, err := w.Store.Accept(ctx, tasks)
	return note(ctx, w, answers, err)
}

// Get implements store.Tasks.
func (w *watchedStore) Get(ctx context.Context, ids []string) ([]task.Task, error) {
	tasks, err := w.Store.Get(ctx, ids)
	return note(ctx, w, tasks, err)
}

// Claim implements store.Work.
func (w *watchedStore) Claim(ctx context.Context, by store.Claim) ([]task.Task, error) {
	tasks, err := w.Store.Claim(ctx, by)
	return note(ctx, w, tasks, err)
}

// Renew implements store.Work.
func (w *watchedStore) Renew(ctx context.Context, node string, held []store.Held) ([]store.Renewed, error) {
	answers, err := w.Store.Renew(ctx, node, held)
	return note(ctx, w, answers, err)
}

// Adopt implements store.Work.
func (w *watchedStore) Adopt(ctx context.Context, node string, held []store.Held) ([]store.Renewed, error) {
	answers, err := w.Store.Adopt(ctx, node, held)
	return note(ctx, w, answers, err)
}

// Record implements store.Work.
func (w *watchedStore) Record(ctx context.Context, outcomes []store.Outcome) ([]store.Recorded, error) {
	answers, err := w.Store.Record(ctx, outcomes)
	return note(ctx, w, answers, err)
}

// Reap implements store.Work.
func (w *watchedStore) Reap(ctx context.Context, node string, claims []store.Held, why string) (store.Maintained, error) {
	maintained, err := w.Store.Reap(ctx, node, claims, why)
	return note(ctx, w, maintained, err)
}

// Maintain implements store.Work.
func (w *watchedStore) Maintain(ctx context.Context, limit int) (store.Maintained, error) {
	maintained, err := w.Store.Maintain(ctx, limit)
	return note(ctx, w, maintained, err)
}

// Beat implements store.Queues.
func (w *watchedStore) Beat(ctx context.Context, n store.Node) error {
	_, err := note(ctx, w, struct{}{}, w.Store.Beat(ctx, n))
	return err
}

// blobsAnswered returns a function that records the outcome of a call of blob storage.
func blobsAnswered(part *outage.Part) func(ctx context.Context, err error) {
	return func(ctx context.Context, err error) {
		switch {
		case err == nil:
			part.Answered()
		case errors.Is(ctx.Err(), context.Canceled):
		case errors.Is(err, blob.ErrUnavailable):
			part.Failed(err)
		}
	}
}
