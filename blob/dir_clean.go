package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"time"

	"github.com/posta-tasks/posta/internal/fail"
)

// Delete implements Blobs. It does not sync: a file that comes back after a power failure is
// an orphan.
func (d *Dir) Delete(ctx context.Context, keys []Key) error {
	for _, key := range keys {
		if err := errors.Join(key.Check(), ctx.Err()); err != nil {
			return err
		}
		if err := d.root.Remove(key.String()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return unavailable("delete", key, err)
		}
		fail.Point("blob.deleted")
		d.prune(path.Dir(key.String()))
	}
	return nil
}

// prune removes a directory and those above it, as far as they are empty. The system refuses
// to remove one that is not.
func (d *Dir) prune(name string) (removed int) {
	for name != "." && d.root.Remove(name) == nil {
		removed++
		name = path.Dir(name)
	}
	return removed
}

// List implements Blobs.
func (d *Dir) List(ctx context.Context, before time.Time) iter.Seq2[Found, error] {
	return func(yield func(Found, error) bool) {
		err := d.tasks(ctx, func(task string) error {
			return d.bodies(ctx, task, func(key Key) error {
				info, err := d.root.Stat(key.String())
				if errors.Is(err, fs.ErrNotExist) || err == nil && !info.ModTime().Before(before) {
					return nil
				}
				if err != nil {
					return err
				}
				if !yield(Found{Key: key, Size: info.Size(), Modified: info.ModTime()}, nil) {
					return errEnough
				}
				return nil
			})
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(Found{}, walkError(ctx, "list", err))
		}
	}
}

// errEnough ends a walk when its caller has seen enough.
var errEnough = errors.New("enough")

// RemoveUnfinished implements Blobs. It also removes empty directories of any age. A concurrent Put makes
// its directory again.
func (d *Dir) RemoveUnfinished(ctx context.Context, before time.Time) (removed int, err error) {
	err = d.entries(ctx, tmp, func(entry fs.DirEntry) error {
		info, err := entry.Info()
		if err == nil && info.ModTime().Before(before) {
			err = d.root.Remove(path.Join(tmp, entry.Name()))
			removed++
		}
		if errors.Is(err, fs.ErrNotExist) { // its Put has ended
			return nil
		}
		return err
	})
	if err != nil {
		return removed, walkError(ctx, "remove unfinished files", err)
	}
	err = d.tasks(ctx, func(task string) error {
		removed += d.prune(task)
		return d.entries(ctx, task, func(entry fs.DirEntry) error {
			if entry.IsDir() {
				removed += d.prune(path.Join(task, entry.Name()))
			}
			return nil
		})
	})
	return removed, walkError(ctx, "remove unfinished files", err)
}

// walkError explains why a walk ended early.
func walkError(ctx context.Context, what string, err error) error {
	if err == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%s blobs: %w: %w", what, ErrUnavailable, err)
}

// tasks calls visit for each directory of a task.
func (d *Dir) tasks(ctx context.Context, visit func(task string) error) error {
	return d.entries(ctx, ".", func(entry fs.DirEntry) error {
		if !entry.IsDir() || !isTask(entry.Name()) {
			return nil
		}
		return visit(entry.Name())
	})
}

// bodies calls visit for each key under which the task may have a body.
func (d *Dir) bodies(ctx context.Context, task string, visit func(Key) error) error {
	return d.entries(ctx, task, func(entry fs.DirEntry) error {
		name := path.Join(task, entry.Name())
		if entry.IsDir() {
			name = path.Join(name, "result")
		}
		key, err := ParseKey(name)
		if err != nil { // not ours
			return nil
		}
		return visit(key)
	})
}

// entriesAtOnce is how many entries of a directory are in memory at once.
const entriesAtOnce = 256

// entries calls visit for each entry of a directory. A missing directory has none.
func (d *Dir) entries(ctx context.Context, name string, visit func(fs.DirEntry) error) error {
	folder, err := d.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer folder.Close()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		list, err := folder.ReadDir(entriesAtOnce)
		for _, entry := range list {
			if err := visit(entry); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist) { // read to its end, or removed meanwhile
			return nil
		}
		if err != nil {
			return err
		}
	}
}
