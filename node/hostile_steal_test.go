package node_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/node"
)

// dawdle returns an action that takes as many microseconds as the number at the start of its
// payload. After about 2 ms a node considers a task slow and lets another goroutine read.
func dawdle(busy bool) actions.Func {
	return func(_ context.Context, call *actions.Call) (any, error) {
		var wait struct{ Micros int }
		if err := json.Unmarshal(call.Payload, &wait); err != nil {
			return nil, err
		}
		end := time.Now().Add(time.Duration(wait.Micros) * time.Microsecond)
		if !busy {
			<-time.After(time.Until(end))
		}
		for time.Now().Before(end) { // busy: use the processor
		}
		return json.RawMessage(strings.Clone(string(call.Payload))), nil
	}
}

// TestATaskThatIsAlmostSlowIsAnsweredOnceWithItsOwnResult pipelines tasks that take about as long
// as a node waits before it considers a task slow.
func TestATaskThatIsAlmostSlowIsAnsweredOnceWithItsOwnResult(t *testing.T) {
	t.Parallel()
	const connections, tasks, names = 3, 600, 40
	// A node remembers which actions are slow, so the test uses many names.
	var list []actions.Action
	for i := range names {
		list = append(list, actions.New(fmt.Sprintf("dawdle%d", i), dawdle(i%2 == 0)))
	}
	server := openStage(t, node.Config{Actions: list})
	var group sync.WaitGroup
	for range connections {
		v := visit(t, server.addr)
		group.Go(func() {
			out := bufio.NewWriter(v.conn)
			for id := range tasks {
				micros := 0
				if id%11 == 0 {
					micros = id * 7919 % 4000
				}
				fmt.Fprintf(out, `{"id":%d,"action":"dawdle%d","payload":{"micros":%d,"id":%d}}`+"\n", id, id%names, micros, id)
				if id%17 == 0 {
					_ = out.Flush()
				}
			}
			_ = out.Flush()
			_ = v.conn.CloseWrite()
		})
		group.Go(func() { collectOnce(t, v, tasks) })
	}
	group.Wait()
}

// collectOnce reads the replies of tasks whose results are their own ids.
func collectOnce(t *testing.T, v *visitor, tasks int) {
	seen := make([]bool, tasks)
	for n := range tasks {
		line, err := v.in.ReadString('\n')
		if err != nil {
			t.Errorf("after %d replies: %v", n, err)
			return
		}
		var reply struct {
			ID     int
			Result struct{ Data struct{ ID int } }
		}
		if err := json.Unmarshal([]byte(line), &reply); err != nil || reply.ID != reply.Result.Data.ID || seen[reply.ID] {
			t.Errorf("got the reply %s (%v), which belongs to another task or is a duplicate", short(line), err)
			return
		}
		seen[reply.ID] = true
	}
	if line, err := v.in.ReadString('\n'); err == nil {
		t.Errorf("got the unexpected reply %s", short(line))
	}
}
