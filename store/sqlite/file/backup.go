package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/posta-tasks/posta/internal/fail"
)

// Backup writes the database, as the last commit left it, to a file that is not there yet
// and can be opened like any other. Writes and reads go on. The file gets its name when it
// is whole and on stable storage.
func (f *File) Backup(ctx context.Context, path string) error {
	end, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("backup: %s is there already", path)
	}
	partial := path + ".partial"
	if err := os.Remove(partial); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("backup: %w", err)
	}
	err = f.copyTo(ctx, partial)
	if err == nil {
		err = fail.Error("backup.copied")
	}
	if err == nil {
		err = os.Rename(partial, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("backup: %w", err), removeIfThere(partial))
	}
	return syncFile(filepath.Dir(path))
}

// copyTo makes a copy without free pages.
func (f *File) copyTo(ctx context.Context, path string) error {
	c, err := connect(f.cfg.Path, false)
	if err != nil {
		return err
	}
	err = c.QueryFor(ctx, "VACUUM INTO ?", nil, path)
	if err == nil {
		err = syncFile(path)
	}
	return errors.Join(err, c.close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// syncFile puts a file, or the names in a directory, on stable storage.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
