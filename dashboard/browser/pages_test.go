package browser_test

import (
	"testing"
)

// pages are the pages of the dashboard, by the name of their picture.
func (w *world) pages() map[string]string {
	return map[string]string{
		"overview": "/", "tasks": "/tasks", "task": "/tasks/" + w.ids["done"], "task-waiting": "/tasks/" + w.ids["waiting"], "task-running": "/tasks/" + w.ids["running"],
		"task-failed": "/tasks/" + w.ids["failed"], "failures": "/failures", "queues": "/queues", "nodes": "/nodes", "try": "/try", "settings": "/settings",
	}
}

func TestEveryPageLoadsWithoutAWordOfTheConsole(t *testing.T) {
	w := system(t)
	b := open(t, w.origin, desktop())
	for name, path := range w.pages() {
		b.visit(path)
		if n := eval[int](b, "document.querySelectorAll('main').length"); n != 1 {
			t.Errorf("%s has %d main parts", name, n)
		}
		b.picture(name, true)
		b.quiet()
	}
}
