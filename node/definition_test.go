package node_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/store"
)

// TestTheHistorySaysWhichDefinitionAnAttemptUsed has actions with and without a definition.
func TestTheHistorySaysWhichDefinitionAnAttemptUsed(t *testing.T) {
	t.Parallel()
	config := withStore(store.NewMemory(store.MemoryConfig{}))
	hashes := []string{"d1", "d2", ""}
	for i, hash := range hashes {
		config.Actions = append(config.Actions, actions.Action{
			Name: fmt.Sprint("crm", i), Definition: hash, Run: func(context.Context, *actions.Call) (any, error) { return nil, nil },
		})
	}
	v := visit(t, openStage(t, config).addr)
	for i, hash := range hashes {
		v.send(fmt.Sprintf(`{"id":%d,"op":"enqueue","action":"crm%d","wait":true}`+"\n", i, i))
		id := v.read("done", fmt.Sprint(i)).Task
		v.send(fmt.Sprintf(`{"id":"w%d","op":"watch","task":%q}`+"\n", i, id))
		v.expect(fmt.Sprintf(`{"id":"w%d","status":"queued",…`, i))
		running, err := v.next()
		want := ""
		if hash != "" {
			want = `"definition":"` + hash + `"}`
		}
		if err != nil || !strings.HasSuffix(running, want) || strings.Contains(running, "definition") != (hash != "") {
			t.Errorf("with the definition %q the watch has %s, %v", hash, running, err)
		}
		v.read("done", fmt.Sprintf(`"w%d"`, i))
	}
}
