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

// BenchmarkManySmallTasks shows how soon others have a turn beside tasks of which each is too short to be slow, and
// which take long together: when the first reply comes, and that to another client, as shares of the time for all.
func BenchmarkManySmallTasks(b *testing.B) {
	for b.Loop() {
		d := openDoor(b, Config{}, task.Limits{QuickSlots: 1})
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
		all := time.Since(begun)
		b.ReportMetric(float64(first)/float64(all), "first/all")
		b.ReportMetric(float64(between)/float64(all), "other/all")
	}
}
