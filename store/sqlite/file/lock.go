package file

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// lock is a file beside the database that one process holds. It has the process's id in it
// from Open to Close, so that a later one sees whether the stop was clean.
type lock struct {
	file     *os.File
	wasClean bool
}

// takeLock takes the lock, or says who has it.
func takeLock(path string) (*lock, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the store's lock: %w", err)
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

// lockFile locks the file and gives what is in it.
func lockFile(file *os.File) (string, error) {
	locked := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	text, err := io.ReadAll(io.NewSectionReader(file, 0, 32))
	if locked != nil && err == nil {
		return "", fmt.Errorf("%s is held by process %s: a store belongs to one process at a time (%w)",
			file.Name(), strings.TrimSpace(string(text)), locked)
	}
	return strings.TrimSpace(string(text)), errors.Join(locked, err)
}

// write replaces what is in the file.
func (l *lock) write(text string) error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	if _, err := l.file.WriteAt([]byte(text), 0); err != nil {
		return err
	}
	return l.file.Sync()
}

// release gives the lock back and notes whether the stop is clean.
func (l *lock) release(clean bool) error {
	var err error
	if clean {
		err = l.write("")
	}
	return errors.Join(err, l.file.Close())
}
