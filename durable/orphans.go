package durable

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/task"
)

// orphanPage is how many tasks are read at once.
const orphanPage = 256

// rowsByID returns tasks by id, in the order of the ids. A task that does not exist has an empty ID.
type rowsByID func(ctx context.Context, ids []string) ([]task.Task, error)

// deleteOrphans looks up the tasks of bodies that were put before a time, page by page, and deletes the orphans
// among the bodies.
func deleteOrphans(ctx context.Context, blobs blob.Blobs, rows rowsByID, before time.Time) error {
	var page []blob.Key
	for found, err := range blobs.List(ctx, before) {
		if err != nil {
			return err
		}
		if page = append(page, found.Key); len(page) < orphanPage {
			continue
		}
		if err := deleteOrphansOf(ctx, blobs, rows, page); err != nil {
			return err
		}
		page = page[:0]
	}
	return deleteOrphansOf(ctx, blobs, rows, page)
}

// deleteOrphansOf deletes the bodies of a page that no row refers to, or will refer to: it keeps the result of an
// attempt that may still be recorded.
func deleteOrphansOf(ctx context.Context, blobs blob.Blobs, rows rowsByID, page []blob.Key) error {
	ids := make([]string, len(page))
	for i, key := range page {
		ids[i] = key.Task
	}
	known, err := rows(ctx, ids)
	if err != nil {
		return err
	}
	var orphans []blob.Key
	for i, key := range page {
		if isOrphan(key, &known[i]) {
			orphans = append(orphans, key)
		}
	}
	if err := fail.Error("orphans.found"); err != nil {
		return err
	}
	return blobs.Delete(ctx, orphans)
}

func isOrphan(key blob.Key, row *task.Task) bool {
	switch {
	case row.ID == "":
		return true
	case key == blob.Payload(key.Task):
		return !row.Payload.IsBlob()
	case key.Attempt == row.Fence:
		return row.State != task.Running && row.Reserved == "" && !row.Result.IsBlob()
	default:
		return true
	}
}
