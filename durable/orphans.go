package durable

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/task"
)

// orphanPage bounds the tasks that are asked for at once.
const orphanPage = 256

// rowsByID returns tasks by id, in the order asked for; one that is not there has an empty ID.
type rowsByID func(ctx context.Context, ids []string) ([]task.Task, error)

// deleteOrphans asks about bodies that were put before a time, page by page, and deletes the orphans
// among them.
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

// deleteOrphansOf deletes those bodies of a page that no row refers to, nor will: the result of an
// attempt that may still be recorded is left alone.
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
