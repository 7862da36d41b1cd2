package file

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// lock is a file beside the database that one process locks. From Open to Close it contains the id of that
// process, so that the next Open detects whether the last process closed the database.
type lock struct {
	file     *os.File
	wasClean bool
}

// acquireLock locks the file at path. If another process has locked it, the error names that process.
func acquireLock(path string) (*lock, error) {
	// The file may belong to something else: a link is not followed, and a file that is not a lock is not
	// written to.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("the store's lock %s is a symbolic link, and links are not followed; remove it", path)
	}
	if err != nil {
		return nil, fmt.Errorf("the store's lock: %w", err)
	}
	if err := isLock(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	text, err := lockFile(file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	l := &lock{file: file, wasClean: text == ""}
	if err := l.write(fmt.Sprintln(os.Getpid())); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return l, nil
}

// isLock refuses a file that is not a lock. A lock is a regular file with one name, and contains at most the id
// of a process.
func isLock(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.NewSectionReader(file, 0, 32))
	status, _ := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular(), status != nil && status.Nlink > 1:
		return fmt.Errorf("the store's lock %s is not a regular file with only one name; remove it", file.Name())
	case err != nil:
		return err
	case strings.Trim(string(text), "0123456789\n") != "" || len(text) == 32:
		return fmt.Errorf("%s is not a lock of the store, although it has its name; remove it", file.Name())
	}
	return nil
}

// lockFile locks the file and returns its contents.
func lockFile(file *os.File) (string, error) {
	locked := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	text, err := io.ReadAll(io.NewSectionReader(file, 0, 32))
	if locked != nil && err == nil {
		return "", fmt.Errorf("%s is held by process %s: a store belongs to one process at a time (%w)",
			file.Name(), strings.TrimSpace(string(text)), locked)
	}
	return strings.TrimSpace(string(text)), errors.Join(locked, err)
}

// write replaces the contents of the file.
func (l *lock) write(text string) error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	if _, err := l.file.WriteAt([]byte(text), 0); err != nil {
		return err
	}
	return l.file.Sync()
}

// release unlocks the file. clean says that the next Open need not check the database.
func (l *lock) release(clean bool) error {
	var err error
	if clean {
		err = l.write("")
	}
	return errors.Join(err, l.file.Close())
}
