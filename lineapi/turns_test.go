package lineapi

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/task"
)

// grindLines are tasks that each compute for less than makes them slow.
func grindLines(n int) string {
	var lines strings.Builder
	for id := range n {
		fmt.Fprintf(&lines, `{"id":%d,"action":"grind","payload":%d}`+"\n", id, id)
	}
	return lines.String()
}

// TestManySmallTasksHoldUpNobodyForLong: each is too short to be slow, but they take long
// together. Their replies come as they are ready, and others have their turns.
func TestManySmallTasksHoldUpNobodyForLong(t *testing.T) {
	d := openDoor(t, Config{}, task.Limits{QuickSlots: 1})
	const tasks = 1000
	grinder, other := d.visit(), d.visit()
	begun := time.Now()
	grinder.say(grindLines(tasks))
	grinder.want(`{"id":…`)
	first := time.Since(begun)
	other.say(echoLine(7))
	other.want(done(7))
	between := time.Since(begun)
	for range tasks - 1 {
		grinder.want(`{"id":…`)
	}
	if all := time.Since(begun); first > all/4 || between > all/2 {
		t.Errorf("of %s in all, the first reply takes %s, another client's %s", all, first, between)
	}
}
