//go:build !linux

package actionfile

import "github.com/posta-tasks/posta/internal/wait"

// watcher tells nothing on this system; a signal reloads.
type watcher struct{ changed wait.Signal }

func newWatcher() *watcher { return &watcher{wait.NewSignal()} }

func (*watcher) add(string) {}

func (*watcher) close() {}
