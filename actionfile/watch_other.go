//go:build !linux

package actionfile

import "github.com/posta-tasks/posta/internal/wait"

// watcher sees no changes on this system. A signal reloads the file.
type watcher struct{ changed wait.Signal }

func newWatcher() *watcher { return &watcher{wait.NewSignal()} }

func (*watcher) add(string) {}

func (*watcher) close() {}
