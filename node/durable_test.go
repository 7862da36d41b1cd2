package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// openDurable starts a node with a store in memory and an action that waits for a release or
// for the end of its context.
func openDurable(t *testing.T, limits task.Limits) (v *visitor, release chan struct{}) {
	t.Helper()
	release = make(chan struct{})
	held := actions.New("held", func(ctx context.Context, _ *actions.Call) (any, error) {
		select {
		case <-release:
			return "released", nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	server := openStage(t, node.Config{
		Durable: &durable.Config{Store: store.NewMemory(store.MemoryConfig{}), RunsSuspects: true},
		Actions: append(actions.Builtin(), held), Limits: limits,
	})
	return visit(t, server.addr), release
}

// accepted sends an enqueue and returns the id of the task.
func (v *visitor) accepted(members, state string) string {
	v.tb.Helper()
	v.send(`{"id":"e","op":"enqueue",` + members + "}\n")
	line, err := v.next()
	if err != nil {
		v.tb.Fatal(err)
	}
	found := regexp.MustCompile(`^\{"id":"e","status":"` + state + `","task":"(\w{26})"`).FindStringSubmatch(line)
	if found == nil {
		v.tb.Fatalf("got %s, want a task that is %s", line, state)
	}
	return found[1]
}

// ask sends a line and checks the reply. ID stands for the id of the task in both.
func (v *visitor) ask(id, line, pattern string) {
	v.tb.Helper()
	v.send(strings.ReplaceAll(line, "ID", id) + "\n")
	v.expect(strings.ReplaceAll(pattern, "ID", id))
}

func TestAnEnqueueIsAcceptedThenItsResultIsPushed(t *testing.T) {
	t.Parallel()
	v, _ := openDurable(t, task.Limits{})
	id := v.accepted(`"action":"upper","payload":"hola","wait":true`, "queued")
	v.expect(`{"id":"e","status":"done","task":"` + id + `","result":{"ok":true,"data":"HOLA"},"attempt":1}`)
	v.ask(id, `{"id":1,"op":"get","task":"ID","payload":true}`,
		`{"id":1,"status":"done","task":"ID","queue":"default","action":"upper","attempt":1,"max_attempts":12,"timeout":60,"generation":0,"priority":"normal","created_at":"…Z",…"finished_at":"…Z","node":"stage","payload":"hola","result":{"ok":true,"data":"HOLA"}}`)
	id = v.accepted(`"action":"fib","payload":"x","max_attempts":1,"wait":true`, "queued")
	v.expect(`{"id":"e","status":"failed","task":"` + id + `","error":"…","code":"action_failed","attempt":1}`)
	id = v.accepted(`"action":"echo","payload":1,"delay":0.05,"wait":true`, "scheduled")
	v.expect(`{"id":"e","status":"done","task":"` + id + `","result":{"ok":true,"data":1},"attempt":1}`)
}

func TestAnEnqueueWithAKnownKeyReturnsItsTask(t *testing.T) {
	t.Parallel()
	v, release := openDurable(t, task.Limits{})
	id := v.accepted(`"action":"held","key":"k"`, "queued")
	v.ask(id, `{"id":2,"op":"enqueue","action":"held","key":"k","payload":2}`,
		`{"id":2,"status":"error","code":"key_conflict","error":"…","field":"key","task":"ID"}`)
	close(release)
	v.ask(id, `{"id":3,"op":"wait","task":"ID"}`, `{"id":3,"status":"done","task":"ID",…}`)
	v.ask(id, `{"id":4,"op":"enqueue","action":"held","key":"k","wait":true}`,
		`{"id":4,"status":"done","task":"ID","result":{"ok":true,"data":"released"},"attempt":1,"duplicate":true}`)
}

func TestATaskIsCancelledAndRetried(t *testing.T) {
	t.Parallel()
	v, release := openDurable(t, task.Limits{})
	id := v.accepted(`"action":"held"`, "queued")
	v.ask(id, `{"id":1,"op":"wait","task":"ID","timeout":0.1}`, `{"id":1,"status":"running","task":"ID",…}`)
	v.ask(id, `{"id":2,"op":"cancel","task":"ID"}`, `{"id":2,"status":"cancelling","task":"ID"}`)
	v.ask(id, `{"id":3,"op":"wait","task":"ID"}`, `{"id":3,"status":"cancelled","task":"ID",…}`)
	v.ask(id, `{"id":4,"op":"retry","task":"ID"}`, `{"id":4,"status":"queued","task":"ID","generation":1}`)
	close(release)
	v.ask(id, `{"id":5,"op":"wait","task":"ID"}`, `{"id":5,"status":"done","task":"ID",…"attempt":2,"max_attempts":12,"timeout":60,"generation":1,…}`)
	v.ask(id, `{"id":6,"op":"cancel","task":"ID"}`, `{"id":6,"status":"error","code":"conflict","error":"…","task":"ID","state":"done"}`)
	v.send(`{"id":7,"op":"watch","task":"` + id + `","after":5}` + "\n")
	v.expect(`{"id":7,"status":"done","task":"` + id + `","result":{"ok":true,"data":"released"},"attempt":2,"seq":6,"at":"…"}`)
	v.ask(id, `{"id":8,"op":"get","task":"nothing"}`, `{"id":8,"status":"error","code":"not_found",…}`)
}

func TestTasksAreListedByFilterAndQueuesArePaused(t *testing.T) {
	t.Parallel()
	v, _ := openDurable(t, task.Limits{})
	first := v.accepted(`"action":"echo","queue":"mail"`, "queued")
	v.ask(first, `{"id":0,"op":"wait","task":"ID"}`, `{"id":0,"status":"done",…}`)
	v.ask("", `{"id":1,"op":"pause","queue":"mail"}`, `{"id":1,"status":"done","result":{"ok":true,"queue":"mail","paused":true}}`)
	for i := range 3 {
		v.accepted(fmt.Sprintf(`"action":"echo","queue":"mail","priority":"low","meta":{"n":"%d"}`, i), "queued")
	}
	v.ask("", `{"id":2,"op":"queues"}`, `{"id":2,"status":"done","result":{"ok":true,"queues":[{"queue":"mail","paused":true,"scheduled":0,"queued":3,…}]}}`)
	v.ask("", `{"id":3,"op":"list","queue":"mail","limit":2}`, `{"id":3,"status":"done","result":{"ok":true,"tasks":[{"status":"queued",…"meta":{"n":"2"}},{…}],"cursor":"…"}}`)
	v.ask("", `{"id":4,"op":"cancel","filter":{"QUEUE":"mail"}}`, `{"id":4,"status":"error","code":"invalid_request",…,"field":"filter"}`)
	v.ask("", `{"id":5,"op":"cancel","filter":{"meta":{"n":"1"}}}`, `{"id":5,"status":"done","result":{"ok":true,"matched":1,"changed":1,"cancelling":0,"more":false}}`)
	v.ask("", `{"id":6,"op":"resume","queue":"mail"}`, `{"id":6,"status":"done","result":{"ok":true,"queue":"mail","paused":false}}`)
}

func TestAWaitContinuesAfterAHalfCloseUntilItsTimeout(t *testing.T) {
	t.Parallel()
	v, release := openDurable(t, task.Limits{Waits: 1})
	id := v.accepted(`"action":"held","wait":true`, "queued")
	v.ask(id, `{"id":2,"op":"wait","task":"ID"}`, `{"id":2,"status":"error","code":"overloaded",…,"limit":"max-waits",…}`)
	v.finish()
	close(release)
	v.expect(`{"id":"e","status":"done","task":"` + id + `","result":{"ok":true,"data":"released"},"attempt":1}`)
	v.expectEnd()
}

func TestADrainEndsWaitsAndReleasesTasks(t *testing.T) {
	t.Parallel()
	kept := store.NewMemory(store.MemoryConfig{})
	server := openStage(t, node.Config{Durable: &durable.Config{Store: kept}, Limits: task.Limits{DrainTimeout: 500 * time.Millisecond}})
	v := visit(t, server.addr)
	id := v.accepted(`"action":"sleep","payload":60,"wait":true`, "queued")
	server.stop()
	for range 2 { // in either order
		v.expect(`{"id":…,"code":"draining",…}`)
	}
	v.expectEnd()
	found, err := kept.Get(context.Background(), []string{id})
	for deadline := time.Now().Add(patience); err == nil && found[0].State == task.Running && time.Now().Before(deadline); {
		found, err = kept.Get(context.Background(), []string{id})
	}
	if err != nil || found[0].State != task.Queued || found[0].Failures != 0 {
		t.Errorf("the task is %s with %d failures (%v), want it queued again without a failure", found[0].State, found[0].Failures, err)
	}
}

// TestAListIsNoLongerThanALine lists more tasks than fit into a line: the pages are shorter
// then, and no task is left out.
func TestAListIsNoLongerThanALine(t *testing.T) {
	t.Parallel()
	v, _ := openDurable(t, task.Limits{})
	const count = 100
	label := strings.Repeat("x", task.MaxMeta-10)
	for range count {
		v.accepted(`"action":"echo","delay":3600,"meta":{"a":"`+label+`"}`, "scheduled")
	}
	listed, pages, cursor := 0, 0, ""
	for more := true; more; pages++ {
		v.send(`{"id":"` + strings.Repeat("i", task.MaxID) + `","op":"list","limit":200` + cursor + "}\n")
		line, err := v.next()
		if err != nil || len(line) >= 1<<20 {
			t.Fatalf("a list of %d bytes, %v", len(line), err)
		}
		listed += strings.Count(line, `"status":"scheduled"`)
		next := regexp.MustCompile(`,"cursor":"\w{26}"`).FindString(line)
		more, cursor = next != "", next
	}
	if listed != count || pages != 2 {
		t.Errorf("%d tasks were listed on %d pages, want %d on 2", listed, pages, count)
	}
}

// An earlier release accepted times that RFC 3339 cannot express in UTC. A list with such a task is still answered.
func TestAStoredTimeBeyondTheYear9999BreaksNoList(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryConfig{})
	options := task.Options{Queue: "default", MaxAttempts: 1, Timeout: time.Minute, RunAt: time.Date(10000, 1, 1, 11, 59, 59, 0, time.UTC)}
	if _, err := s.Accept(t.Context(), []task.Task{{ID: "01KCQH0000000000000000000A", Action: "echo", Options: options}}); err != nil {
		t.Fatal(err)
	}
	server := openStage(t, node.Config{Durable: &durable.Config{Store: s, RunsSuspects: true}, Actions: actions.Builtin()})
	const record = `"task":"01KCQH0000000000000000000A",…"run_at":"9999-12-31T23:59:59.999Z"`
	v := visit(t, server.addr)
	v.ask("", `{"id":1,"op":"list"}`, `{"id":1,"status":"done","result":{"ok":true,"tasks":[{"status":"scheduled",`+record+`}]}}`)
	v.ask("", `{"id":2,"op":"get","task":"01KCQH0000000000000000000A"}`, `{"id":2,"status":"scheduled",`+record+`}`)
	c, err := client.New(client.Config{Addr: server.addr})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	page, err := c.List(t.Context(), client.Query{})
	if err != nil || len(page.Tasks) != 1 || page.Tasks[0].RunAt.Year() != 9999 {
		t.Errorf("the client got %+v, %v", page, err)
	}
	for _, path := range []string{"/v1/tasks", "/v1/tasks/01KCQH0000000000000000000A"} {
		response, err := http.Get("http://" + server.addr + path)
		if err != nil {
			t.Fatal(err)
		}
		var into any
		if err := json.NewDecoder(response.Body).Decode(&into); err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("GET %s: %d, %v", path, response.StatusCode, err)
		}
		response.Body.Close()
	}
}
