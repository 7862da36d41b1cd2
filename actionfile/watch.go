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
	"github.com/posta-tasks/posta/worker/child"
)

// settleTime is how long a file must be unchanged before it is read again.
const settleTime = 100 * time.Millisecond

// File has the actions of a file, and follows the changes of the file. Its methods are safe for concurrent use.
type File struct {
	config Config
	runner *command.Runner

	mu      sync.Mutex // guards the fields below
	now     *reading   // the latest reading without a problem
	list    []actions.Action
	close   func() // releases what the actions of list use
	reloads int
	failed  map[string]string // what the latest reading with a problem saw; nil: the latest had none
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

// Actions returns the actions of the file. They can be used until Close.
func (f *File) Actions() []actions.Action {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list)
}

// Workers returns the programs of the workers of the file.
func (f *File) Workers() []child.Program {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now.programs(f.reloads)
}

// Definitions returns the definitions of the file, by name.
func (f *File) Definitions() []Definition {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.now.definitions)
}

// Close kills the programs that still run and releases the actions.
func (f *File) Close() {
	f.runner.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.close()
}

// Changed receives the actions of a file that has changed, and the programs of its workers.
type Changed func(list []actions.Action, workers []child.Program) error

// Watch reads the file again when it receives from reload and, on Linux, when the file or a file with a secret
// changes. It returns when ctx ends. It calls changed with the new actions if they differ. If the file has a
// problem, the old actions stay, and Watch logs the problem.
//
// The workers are replaced, all at a receive from reload, otherwise those whose definition differs.
func (f *File) Watch(ctx context.Context, reload <-chan os.Signal, logger *slog.Logger, changed Changed) {
	w := newWatcher()
	defer w.close()
	for {
		f.watch(w)
		if f.refresh(logger, changed) {
			continue // the new version may name files in other directories
		}
		select {
		case <-w.changed:
			select { // at most ten readings a second, however often files change
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

// watch watches the directories of all files that the latest readings used.
func (f *File) watch(w *watcher) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for dir := range f.now.dirs {
		w.add(dir)
	}
}

// forget makes the next refresh read the file even if it has not changed.
func (f *File) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed, f.now.seen = nil, nil
	f.reloads++
}

// refresh reads the file. If the file, or one that it names, has changed since the latest reading, it uses the new
// version and returns true.
func (f *File) refresh(logger *slog.Logger, changed Changed) bool {
	r, err := read(f.config)
	if !f.isNew(r) {
		return false
	}
	var list []actions.Action
	closeNew := func() {}
	if err == nil {
		list, closeNew = r.actions(f.runner)
		err = changed(slices.Clone(list), r.programs(f.reloads))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		closeNew()
		f.failed = r.seen
		logger.Error("the actions file cannot be used; the old actions stay", "file", f.config.Path, "error", err)
		return true
	}
	f.close() // attempts keep their connections until they end
	f.now, f.list, f.close, f.failed = r, list, closeNew, nil
	logger.Info("the actions file was read again", "file", f.config.Path, "actions", len(list))
	return true
}

// isNew reports whether a reading saw other content than the latest one. If so, it watches the directories of the
// new reading.
func (f *File) isNew(r *reading) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(f.now.dirs, r.dirs)
	if f.failed != nil {
		return !maps.Equal(r.seen, f.failed)
	}
	return !maps.Equal(r.seen, f.now.seen)
}
