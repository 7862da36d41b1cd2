package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/posta-tasks/posta/internal/fail"
)

// Backup writes the database, as the last commit left it, to a new file, which can be opened like any other.
// Reads and writes continue meanwhile. It fails if the file exists.
func (f *File) Backup(ctx context.Context, path string) error {
	end, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	return Backup(ctx, f.cfg.Path, path)
}

// Backup is File.Backup for a file that this process has not opened. Another process may have it open: the copy
// contains what a reader sees, and neither process waits for the other. Backup checks the copy, and gives it
// its name only when it is complete and on stable storage.
func Backup(ctx context.Context, from, to string) error {
	if _, err := os.Stat(from); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("backup: %s exists already", to)
	}
	// The copy is made in a new directory, so that no file beside the target is overwritten, whatever its name.
	own, err := os.MkdirTemp(filepath.Dir(to), filepath.Base(to)+".partial-*")
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	partial := filepath.Join(own, filepath.Base(to))
	err = copyFile(ctx, from, partial)
	if err == nil {
		err = fail.Error("backup.copied")
	}
	if err == nil {
		err = os.Rename(partial, to)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("backup: %w", err), os.RemoveAll(own))
	}
	return errors.Join(os.Remove(own), syncFile(filepath.Dir(to)))
}

// copyFile writes a checked copy without free pages to stable storage.
func copyFile(ctx context.Context, from, to string) error {
	c, err := connect(from, false)
	if err != nil {
		return err
	}
	err = errors.Join(c.QueryFor(ctx, "VACUUM INTO ?", nil, to), c.close())
	if err == nil {
		err = errors.Join(quickCheck(ctx, to), os.Chmod(to, 0o600))
	}
	if err != nil {
		return err
	}
	return syncFile(to)
}

// syncFile writes a file, or the names in a directory, to stable storage.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
