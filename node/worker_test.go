package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// line is a line from a node, as far as these tests look at it.
type line struct {
	ID      json.RawMessage
	Status  string
	Lease   string
	Task    string
	Attempt int
	Code    string
	State   string
	Error   string
	Payload json.RawMessage
	Held    []string
	Lost    []string
	Result  json.RawMessage
}

// read returns the first line that has the status and, unless it is empty, the id. It keeps the lines before it for later
// calls, since pushes and answers may come in any order.
func (v *visitor) read(status, id string) line {
	v.tb.Helper()
	wanted := func(got line) bool { return got.Status == status && (id == "" || string(got.ID) == id) }
	if i := slices.IndexFunc(v.kept, wanted); i >= 0 {
		got := v.kept[i]
		v.kept = slices.Delete(v.kept, i, i+1)
		return got
	}
	for {
		text, err := v.next()
		if err != nil {
			v.tb.Fatalf("got %v, want a line with the status %s and the id %s", err, status, id)
		}
		var got line
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			v.tb.Fatal(err)
		}
		if wanted(got) {
			return got
		}
		v.kept = append(v.kept, got)
	}
}

// work begins a worker, with a name unless it is empty. more is appended to its request.
func work(t *testing.T, addr, name, more string) *visitor {
	t.Helper()
	v := visit(t, addr)
	if name != "" {
		more += fmt.Sprintf(`,"worker":%q`, name)
	}
	v.send(`{"id":"w","op":"work","actions":["resize"]` + more + "}\n")
	return v
}

// withStore returns the configuration of a node that works tasks of a store.
func withStore(s store.Store) node.Config {
	return node.Config{Durable: &durable.Config{Store: s, RunsSuspects: true, Shared: true}, Limits: task.Limits{DrainTimeout: patience}}
}

// enqueue enqueues a task for the worker and returns its id.
func enqueue(t *testing.T, addr, more string) string {
	t.Helper()
	v := visit(t, addr)
	v.send(`{"id":1,"op":"enqueue","action":"resize"` + more + "}\n")
	text, err := v.next()
	var got line
	if err != nil || json.Unmarshal([]byte(text), &got) != nil || got.Task == "" {
		t.Fatalf("an enqueue is answered %s, %v", text, err)
	}
	return got.Task
}

// ended waits until a task is finished and returns its record.
func ended(t *testing.T, addr, id string) string {
	t.Helper()
	v := visit(t, addr)
	for {
		v.send(fmt.Sprintf(`{"id":1,"op":"wait","task":%q,"timeout":60}`+"\n", id))
		text, err := v.next()
		if err != nil {
			t.Fatal(err)
		}
		var got line
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		if task.State(got.Status).Final() {
			return text
		}
	}
}

func TestAWorkerThatDiesLeavesItsTasksAsSuspectsForTheNextOne(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryConfig{})
	addr := openStage(t, withStore(s)).addr
	first := work(t, addr, "w1", `,"slots":8,"grace":0`)
	first.read("ready", "")
	ids := map[string]bool{}
	for range 8 {
		ids[enqueue(t, addr, `,"max_attempts":1`)] = true
		first.read("running", "")
	}
	second := work(t, addr, "w2", `,"slots":8`)
	second.read("ready", "")
	first.reset()
	for range 8 {
		push := second.read("running", "")
		if !ids[push.Task] || push.Attempt != 2 {
			t.Fatalf("the second worker receives %+v, want attempt 2 of a task that the first had", push)
		}
		delete(ids, push.Task)
		second.send(fmt.Sprintf(`{"id":1,"op":"done","lease":%q}`+"\n", push.Lease))
		second.read("done", "1")
	}
}

func TestATaskThatKillsItsWorkersFails(t *testing.T) {
	t.Parallel()
	addr := openStage(t, withStore(store.NewMemory(store.MemoryConfig{}))).addr
	id := ""
	for range 1 + task.MaxCrashes {
		v := work(t, addr, "", `,"grace":0`)
		v.read("ready", "")
		if id == "" {
			id = enqueue(t, addr, "")
		}
		v.read("running", "")
		v.reset()
	}
	if record := ended(t, addr, id); !strings.Contains(record, `"code":"crashed"`) {
		t.Errorf("the task is recorded as %s, want crashed", record)
	}
}

func TestAWorkerComesBackToWhatItHolds(t *testing.T) {
	t.Parallel()
	addr := openStage(t, withStore(store.NewMemory(store.MemoryConfig{}))).addr
	id := enqueue(t, addr, "")
	v := work(t, addr, "w1", `,"grace":60`)
	push := v.read("running", "")
	v.reset()
	again := work(t, addr, "w1", fmt.Sprintf(`,"hold":[%q,"01JE8Q.1"]`, push.Lease))
	if ready := again.read("ready", ""); len(ready.Held) != 1 || ready.Held[0] != push.Lease || len(ready.Lost) != 1 {
		t.Fatalf("a worker that comes back reads %+v", ready)
	}
	again.send(fmt.Sprintf(`{"op":"done","lease":%q,"data":7}`+"\n", push.Lease))
	again.read("done", "null")
	if record := ended(t, addr, id); !strings.Contains(record, `"attempt":1`) || !strings.Contains(record, `"worker":"w1"`) {
		t.Errorf("the task is recorded as %s, want one attempt by w1", record)
	}
}

func TestATaskThatItsWorkerHasForgottenDoesNotWaitForItsGrace(t *testing.T) {
	t.Parallel()
	addr := openStage(t, withStore(store.NewMemory(store.MemoryConfig{}))).addr
	enqueue(t, addr, "")
	v := work(t, addr, "w1", `,"grace":60`)
	v.read("running", "")
	v.reset()
	testenv.Eventually(t, patience, func() error { // before that, w1 has two connections
		if n := metric(t, addr, "posta_workers"); n != "0" {
			return fmt.Errorf("%s workers are connected", n)
		}
		return nil
	})
	again := work(t, addr, "w1", "")
	again.read("ready", "")
	if push := again.read("running", ""); push.Attempt != 2 {
		t.Errorf("the task is pushed as %+v, want attempt 2", push)
	}
}

func TestAWorkerMovesToAnotherNodeWithWhatItHolds(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryConfig{})
	leaving := openStage(t, withStore(s))
	config := withStore(s)
	config.Name = "other"
	staying := openNamed(t, config)
	id := enqueue(t, leaving.addr, "")
	v := work(t, leaving.addr, "w1", "")
	push := v.read("running", "")
	leaving.stop()
	v.read("goaway", "")
	if last := v.read("error", ""); last.Code != "draining" {
		t.Fatalf("the stream ends with %+v", last)
	}
	moved := work(t, staying.addr, "w1", fmt.Sprintf(`,"hold":[%q]`, push.Lease))
	if ready := moved.read("ready", ""); len(ready.Held) != 1 {
		t.Fatalf("the other node answers %+v", ready)
	}
	v.finish()
	moved.send(fmt.Sprintf(`{"id":5,"op":"done","lease":%q}`+"\n", push.Lease))
	moved.read("done", "5")
	if record := ended(t, staying.addr, id); !strings.Contains(record, `"attempt":1`) {
		t.Errorf("the task is recorded as %s, want one attempt", record)
	}
}

// openNamed is openStage for a node with another name.
func openNamed(t *testing.T, config node.Config) *stage {
	t.Helper()
	config.Listen = "127.0.0.1:0"
	n, err := node.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return &stage{addr: n.Addr().String(), stop: stop}
}

func TestAnOutcomeIsTakenOnAnyConnectionAndCountsOnce(t *testing.T) {
	t.Parallel()
	addr := openStage(t, withStore(store.NewMemory(store.MemoryConfig{}))).addr
	enqueue(t, addr, "")
	push := work(t, addr, "w1", "").read("running", "")
	other := visit(t, addr)
	outcome := fmt.Sprintf(`{"id":1,"op":"done","lease":%q}`+"\n", push.Lease)
	other.send(outcome)
	other.expect(fmt.Sprintf(`{"id":1,"status":"done","lease":%q,"task":%q,"attempt":1}`, push.Lease, push.Task))
	other.send(outcome)
	if refusal := other.read("error", "1"); refusal.Code != "stale" || refusal.State != "done" {
		t.Errorf("the second outcome is answered %+v", refusal)
	}
}

func TestAnOutcomeOfAnEarlierAttemptIsRefused(t *testing.T) {
	t.Parallel()
	addr := openStage(t, withStore(store.NewMemory(store.MemoryConfig{}))).addr
	id := enqueue(t, addr, "")
	first := work(t, addr, "w1", `,"grace":0`)
	late := first.read("running", "")
	first.reset()
	second := work(t, addr, "w2", "")
	push := second.read("running", "")
	other := visit(t, addr)
	for _, outcome := range []string{`"op":"done","data":1`, `"op":"fail","error":"late","retry":false`, `"op":"release"`} {
		other.send(fmt.Sprintf(`{"id":1,%s,"lease":%q}`+"\n", outcome, late.Lease))
		if answer, err := other.next(); err != nil || !strings.Contains(answer, `"code":"stale"`) {
			t.Fatalf("%s of the first attempt is answered %s, %v", outcome, answer, err)
		}
	}
	second.send(fmt.Sprintf(`{"id":2,"op":"done","lease":%q,"data":2}`+"\n", push.Lease))
	second.read("done", "2")
	if record := ended(t, addr, id); !strings.Contains(record, `"data":2`) {
		t.Errorf("the task is recorded as %s, want the result of the second attempt", record)
	}
}

func TestATimeoutIsPushedAndThenRecorded(t *testing.T) {
	t.Parallel()
	addr := openStage(t, withStore(store.NewMemory(store.MemoryConfig{}))).addr
	id := enqueue(t, addr, `,"timeout":0.05,"max_attempts":1`)
	v := work(t, addr, "w1", "")
	push := v.read("running", "")
	if stop := v.read("cancelling", ""); stop.Code != "timed_out" || stop.Lease != push.Lease {
		t.Fatalf("the worker receives %+v", stop)
	}
	if record := ended(t, addr, id); !strings.Contains(record, "timed out after 0.05s") || !strings.Contains(record, `"code":"timed_out"`) {
		t.Errorf("the task is recorded as %s", record)
	}
	enqueue(t, addr, "") // it waits: the slot is occupied until the worker answers
	v.send(fmt.Sprintf(`{"id":1,"op":"done","lease":%q}`+"\n", push.Lease))
	pushed, refused := false, false
	for !pushed || !refused {
		text, err := v.next()
		if err != nil {
			t.Fatal(err)
		}
		pushed = pushed || strings.Contains(text, `"status":"running"`)
		refused = refused || strings.Contains(text, `"code":"stale"`)
	}
}

func TestAReleasedTaskKeepsTheNumberOfItsAttempt(t *testing.T) {
	t.Parallel()
	addr := openStage(t, withStore(store.NewMemory(store.MemoryConfig{}))).addr
	id := enqueue(t, addr, "")
	v := work(t, addr, "w1", "")
	push := v.read("running", "")
	v.send(fmt.Sprintf(`{"id":1,"op":"release","lease":%q}`+"\n", push.Lease))
	v.read("queued", "1")
	if push = v.read("running", ""); push.Attempt != 1 {
		t.Errorf("after a release the task is pushed as %+v, want attempt 1", push)
	}
	v.send(fmt.Sprintf(`{"id":2,"op":"release","lease":%q,"delay":3600}`+"\n", push.Lease))
	v.read("scheduled", "2")
	v.send(fmt.Sprintf(`{"id":3,"op":"get","task":%q}`+"\n", id))
	v.read("scheduled", "3")
}

func TestDirectRunsWaitForAFreeSlot(t *testing.T) {
	t.Parallel()
	addr := openStage(t, node.Config{}).addr // without a store
	v := work(t, addr, "w1", "")
	v.read("ready", "")
	client := visit(t, addr)
	client.send(`{"id":1,"action":"resize","payload":1}` + "\n" + `{"id":2,"action":"resize","payload":2}` + "\n" + `{"id":3,"action":"resize","payload":3,"timeout":0.05}` + "\n")
	for range 2 {
		push := v.read("running", "")
		v.send(fmt.Sprintf(`{"op":"done","lease":%q,"data":%s}`+"\n", push.Lease, push.Payload))
	}
	seen := map[string]string{}
	for range 3 {
		got := client.read("done", "")
		seen[string(got.ID)] = string(got.Result)
	}
	if seen["1"] != `{"ok":true,"data":1}` || seen["2"] != `{"ok":true,"data":2}` || !strings.Contains(seen["3"], "timed out after 0.05s") {
		t.Errorf("the client reads %v", seen)
	}
}

func TestADirectRunIsRepeatedOnlyIfItsWorkerSaysThatItMayBe(t *testing.T) {
	t.Parallel()
	addr := openStage(t, node.Config{}).addr
	for more, want := range map[string]string{"": "the worker that ran it has gone", `,"idempotent":["resize"]`: ""} {
		first := work(t, addr, "", more)
		first.read("ready", "")
		client := visit(t, addr)
		client.send(`{"id":1,"action":"resize"}` + "\n")
		first.read("running", "")
		second := work(t, addr, "", more)
		second.read("ready", "")
		first.reset()
		if want == "" {
			push := second.read("running", "")
			second.send(fmt.Sprintf(`{"op":"done","lease":%q}`+"\n", push.Lease))
			want = `{"ok":true,"data":null}`
		}
		if got := client.read("done", "1"); !strings.Contains(string(got.Result), want) {
			t.Errorf("with %q the client reads %s, want %s", more, got.Result, want)
		}
		second.finish()
		for err := error(nil); err == nil; {
			_, err = second.next()
		}
	}
}

func TestALeaseBelongsToTheTokenOfItsWorker(t *testing.T) {
	t.Parallel()
	config := withStore(store.NewMemory(store.MemoryConfig{}))
	config.Tokens = loadTokens(t, "a first-secret-token\nb second-secret-token\n")
	addr := openStage(t, config).addr
	v := visit(t, addr)
	v.send(`{"op":"auth","token":"first-secret-token"}` + "\n" + `{"id":"w","op":"work","actions":["resize"]}` + "\n" + `{"id":2,"op":"enqueue","action":"resize"}` + "\n")
	push := v.read("running", "")
	thief := visit(t, addr)
	thief.send(`{"op":"auth","token":"second-secret-token"}` + "\n" + fmt.Sprintf(`{"id":1,"op":"done","lease":%q}`+"\n", push.Lease))
	if refusal := thief.read("error", "1"); refusal.Code != "forbidden" {
		t.Errorf("an outcome with another token is answered %+v", refusal)
	}
	v.send(fmt.Sprintf(`{"id":3,"op":"done","lease":%q}`+"\n", push.Lease))
	v.read("done", "3")
}

func TestASuspectIsAloneOnItsWorker(t *testing.T) {
	t.Parallel()
	addr := openStage(t, withStore(store.NewMemory(store.MemoryConfig{}))).addr
	suspect := enqueue(t, addr, "")
	first := work(t, addr, "", `,"grace":0`)
	first.read("running", "")
	first.reset()
	v := work(t, addr, "", `,"slots":2`)
	v.read("ready", "")
	if push := v.read("running", ""); push.Task != suspect {
		t.Fatalf("the worker receives %+v, want the suspect", push)
	}
}

func TestASuspectGetsAWorkerThoughAllAreBusy(t *testing.T) {
	t.Parallel()
	addr := openStage(t, withStore(store.NewMemory(store.MemoryConfig{}))).addr
	busy := work(t, addr, "", "")
	busy.read("ready", "")
	enqueue(t, addr, "")
	held := busy.read("running", "")
	dying := work(t, addr, "", `,"grace":0`)
	dying.read("ready", "")
	suspect := enqueue(t, addr, "")
	dying.read("running", "")
	dying.reset()
	for range 3 { // each of these would otherwise come before the suspect
		enqueue(t, addr, "")
	}
	for {
		busy.send(fmt.Sprintf(`{"op":"done","lease":%q}`+"\n", held.Lease))
		if held = busy.read("running", ""); held.Task == suspect {
			return
		}
	}
}
