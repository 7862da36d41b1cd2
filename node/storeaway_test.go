package node_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/sqlite"
)

func TestANodeWithoutItsStoreIsReadyAndRunsDirectTasks(t *testing.T) {
	t.Parallel()
	kept := store.NewMemory(store.MemoryConfig{})
	server := openStage(t, node.Config{Durable: &durable.Config{Store: kept, RunsSuspects: true}})
	v := visit(t, server.addr)
	id := v.accepted(`"action":"upper","payload":"hola","wait":true`, "queued")
	v.expect(`{"id":"e","status":"done","task":"` + id + `","result":{"ok":true,"data":"HOLA"},"attempt":1}`)
	if err := kept.Close(); err != nil { // every later call fails
		t.Fatal(err)
	}
	for range 3 {
		v.ask("", `{"id":1,"op":"enqueue","action":"upper","payload":"hola"}`, `{"id":1,"status":"error","code":"unavailable",…}`)
		v.ask(id, `{"id":2,"op":"get","task":"ID"}`, `{"id":2,"status":"error","code":"unavailable",…}`)
		v.ask("", `{"id":3,"action":"upper","payload":"hola"}`, `{"id":3,"status":"done","result":{"ok":true,"data":"HOLA"}}`)
		for _, path := range []string{"/readyz", "/healthz", "/metrics"} {
			response, err := http.Get("http://" + server.addr + path)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != http.StatusOK {
				t.Errorf("%s answers %d", path, response.StatusCode)
			}
		}
	}
}

// BenchmarkScheduledTask reports the median delay of scheduled tasks.
func BenchmarkScheduledTask(b *testing.B) {
	kept, err := sqlite.Open(sqlite.Config{Path: b.TempDir() + "/posta.db"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { kept.Close() })
	server := openStage(b, node.Config{Durable: &durable.Config{Store: kept, RunsSuspects: true}})
	for b.Loop() {
		b.ReportMetric(float64(lateness(b, kept, visit(b, server.addr)).Milliseconds()), "late-ms")
	}
}

// lateness schedules tasks and returns the median delay of their start.
func lateness(t testing.TB, kept store.Store, v *visitor) time.Duration {
	t.Helper()
	var ids []string
	for _, delay := range []string{"0.2", "0.3", "0.35", "0.41", "0.5", "0.57", "0.6", "0.73", "0.8", "0.88", "1"} {
		ids = append(ids, v.accepted(`"action":"echo","delay":`+delay, "scheduled"))
	}
	for _, id := range ids {
		v.ask(id, `{"id":1,"op":"wait","task":"ID"}`, `{"id":1,"status":"done",…}`)
	}
	found, err := kept.Get(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	var late []time.Duration
	for _, f := range found {
		late = append(late, f.StartedAt.Sub(f.RunAt))
	}
	slices.Sort(late)
	if late[0] < 0 {
		t.Errorf("a task started %s before its time", -late[0])
	}
	return late[len(late)/2]
}
