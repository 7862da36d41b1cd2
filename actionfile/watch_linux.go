package actionfile

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/posta-tasks/posta/internal/wait"
)

// watcher signals changes in directories (inotify). It watches the directory of a file, since editors and
// Kubernetes replace files.
type watcher struct {
	changed wait.Signal // a directory has changed; the change may be one of another file
	file    *os.File    // nil: the system has no inotify left, so only signals reload
	done    chan struct{}
}

func newWatcher() *watcher {
	w := &watcher{changed: wait.NewSignal(), done: make(chan struct{})}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		close(w.done)
		return w
	}
	w.file = os.NewFile(uintptr(fd), "inotify")
	go func() {
		defer close(w.done)
		buffer := make([]byte, 64<<10)
		for {
			if _, err := w.file.Read(buffer); err != nil {
				return
			}
			w.changed.Set()
		}
	}()
	return w
}

// add watches a directory. It does nothing if the directory is watched already or does not exist.
func (w *watcher) add(dir string) {
	if w.file == nil {
		return
	}
	raw, err := w.file.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_, _ = unix.InotifyAddWatch(int(fd), dir, unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO|unix.IN_ATTRIB|unix.IN_ONLYDIR)
	})
}

func (w *watcher) close() {
	if w.file != nil {
		_ = w.file.Close()
	}
	<-w.done
}
