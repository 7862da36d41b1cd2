package actionfile

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/posta-tasks/posta/actionfile/command"
	"github.com/posta-tasks/posta/actions"
)

// settleTime is how long a change is left to settle before the file is read.
const settleTime = 100 * time.Millisecond

// File is a file that was read, and its actions. Its methods are safe for concurrent use.
type File struct {
	config Config
	runner *command.Runner

	mu     sync.Mutex // guards the fields below
	now    *reading   // the latest one without a problem
	list   []actions.Action
	close  func()            // closes what the actions of list keep open
	failed map[string]string // what the latest reading with a problem saw; nil: there was none
}

// Open reads a file. If anything is wrong with it, the error is a *Problems. The caller
// closes the File.
func Open(config Config) (*File, error) {
	r, err := read(config)
	if err != nil {
		return nil, err
	}
	f := &File{config: config, runner: command.NewRunner(), now: r}
	f.list, f.close = r.actions(f.runner)
	return f, nil
}

// Check reads a file and returns its definitions. If anything is wrong with it, the error is
// a *Problems.
func Check(config Config) ([]Definition, error) {
	r, err := read(config)
	if err != nil {
		return nil, err
	}
	return r.definitions, nil
}

// Actions returns the actions of the file. They work until Close.
func (f *File) Actions() []actions.Action {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list)
}

// Definitions returns what the file says, by name.
func (f *File) Definitions() []Definition {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.now.definitions)
}

// Close kills programs that still run.
func (f *File) Close() {
	f.runner.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.close()
}

// Watch reads the file again when a value comes from reload, and, where the system tells
// (Linux), when it or a file with a secret changes, until ctx ends. It calls changed with the
// new actions if there are any. If something is wrong with the file, the former actions stay,
// and the log says what.
func (f *File) Watch(ctx context.Context, reload <-chan os.Signal, logger *slog.Logger, changed func([]actions.Action) error) {
	w := newWatcher()
	defer w.close()
	for {
		f.watch(w)
		if f.refresh(logger, changed) {
			continue // a file that is new may be elsewhere
		}
		select {
		case <-w.changed:
			select { // whatever is written there, the file is read ten times a second at most
			case <-time.After(settleTime):
			case <-ctx.Done():
				return
			}
		case <-reload:
			f.forget()
		case <-ctx.Done():
			return
		}
	}
}

// watch watches the directories of all files of the latest readings.
func (f *File) watch(w *watcher) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for dir := range f.now.dirs {
		w.add(dir)
	}
}

// forget has the file read again even if it has not changed.
func (f *File) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed, f.now.seen = nil, nil
}

// refresh reads the file, and uses it if it, or a file that it names, is not what it was at the latest reading. It reports
// whether that was so.
func (f *File) refresh(logger *slog.Logger, changed func([]actions.Action) error) bool {
	r, err := read(f.config)
	if !f.isNew(r) {
		return false
	}
	var list []actions.Action
	closeNew := func() {}
	if err == nil {
		list, closeNew = r.actions(f.runner)
		err = changed(slices.Clone(list))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		closeNew()
		f.failed = r.seen
		logger.Error("the actions file cannot be used; the former actions stay", "file", f.config.Path, "error", err)
		return true
	}
	f.close() // connections that are in use end with their attempts
	f.now, f.list, f.close, f.failed = r, list, closeNew, nil
	logger.Info("the actions file was read again", "file", f.config.Path, "actions", len(list))
	return true
}

// isNew reports whether a reading saw other files than the latest one. Their directories are watched from now on.
func (f *File) isNew(r *reading) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(f.now.dirs, r.dirs)
	if f.failed != nil {
		return !maps.Equal(r.seen, f.failed)
	}
	return !maps.Equal(r.seen, f.now.seen)
}
