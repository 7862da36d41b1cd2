package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/httpapi"
	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker"
)

// polledTask is a task as a poll returns it.
type polledTask struct {
	Lease, Task, Action, Queue, Key string
	Attempt                         int
	Timeout                         float64
	Payload                         json.RawMessage
}

// polled is the answer to a poll.
type polled struct {
	Worker string
	Tasks  []polledTask
}

// workersInBubble runs a test in a bubble with a node that takes workers.
func workersInBubble(t *testing.T, test func(d *door)) {
	t.Helper()
	durablyInBubble(t, test, func(config *httpapi.Config) { config.Workers = worker.NewPool() })
}

// poll polls with this body.
func (d *door) poll(body string) polled {
	d.t.Helper()
	got := d.post("/v1/work", body)
	var answer polled
	if err := json.Unmarshal([]byte(got.body), &answer); err != nil || got.status != http.StatusOK || answer.Worker == "" || answer.Tasks == nil {
		d.t.Fatalf("a poll is answered %d %s", got.status, got.body)
	}
	return answer
}

// pollOne polls until there is one task.
func (d *door) pollOne(body string) polledTask {
	d.t.Helper()
	got := d.poll(body)
	if len(got.Tasks) != 1 {
		d.t.Fatalf("a poll returns %+v, want one task", got)
	}
	return got.Tasks[0]
}

// beat names leases.
func (d *door) beat(name string, leases ...string) answer {
	d.t.Helper()
	list, err := json.Marshal(append([]string{}, leases...))
	if err != nil {
		d.t.Fatal(err)
	}
	return d.post("/v1/work/beat", fmt.Sprintf(`{"worker":%q,"leases":%s}`, name, list))
}

// pass lets time pass in the bubble.
func pass(d time.Duration) { wait.For(context.Background(), d) }

func TestAWorkerPollsForTasksAndAnswersThem(t *testing.T) {
	t.Parallel()
	workersInBubble(t, func(d *door) {
		begin := time.Now()
		if got := d.poll(`{"actions":["greet"],"wait":20}`); len(got.Tasks) != 0 || time.Since(begin) != 20*time.Second {
			t.Errorf("a poll without tasks returns %+v after %s, want nothing after 20 s", got, time.Since(begin))
		}
		id := d.enqueue(`{"action":"greet","payload":{"name":"Ana"},"queue":"mail","key":"k1","timeout":50,"meta":{"a":"b"}}`)
		want(t, d.post("/v1/work", `{"actions":["greet"],"worker":"w1","wait":5}`), http.StatusOK, `{"worker":"w1","tasks":[{"lease":"`+id+
			`.1","task":"`+id+`","attempt":1,"queue":"mail","priority":"normal","key":"k1","meta":{"a":"b"},"action":"greet","timeout":50,"payload":{"name":"Ana"}}]}`)
		want(t, d.post("/v1/work/"+id+".1/progress", `{"percent":40,"message":"half"}`), http.StatusOK, `{"ok":true}`)
		want(t, d.post("/v1/work/"+id+".1/done", ` { "id" : 7 , "data" : "hello Ana" } `), http.StatusOK,
			`{"id":7,"status":"done","lease":"`+id+`.1","task":"`+id+`","attempt":1}`)
		if record := d.finished(id); !strings.Contains(record, `"data":"hello Ana"`) || !strings.Contains(record, `"worker":"w1"`) {
			t.Errorf("the record is %s", record)
		}
		got := wantProblem(t, d.post("/v1/work/"+id+".1/done", `{"data":"again"}`), http.StatusConflict, task.Stale, "")
		if got.Task != id {
			t.Errorf("a second outcome is refused with %+v", got)
		}
	})
}

func TestAFailedAttemptIsMadeAgainAndAReleasedOneIsNotCounted(t *testing.T) {
	t.Parallel()
	workersInBubble(t, func(d *door) {
		id := d.enqueue(`{"action":"greet","max_attempts":2,"backoff":1}`)
		const again = `{"actions":["greet"],"worker":"w1","wait":30}`
		first := d.pollOne(again)
		want(t, d.post("/v1/work/"+first.Lease+"/release", `{}`), http.StatusOK, `{"id":null,"status":"queued","lease":"…`)
		second := d.pollOne(again)
		if second.Attempt != 1 || second.Lease == first.Lease {
			t.Errorf("after a release a worker receives %+v, want attempt 1 with another lease", second)
		}
		want(t, d.post("/v1/work/"+second.Lease+"/fail", `{"error":"no paper"}`), http.StatusOK,
			`{"id":null,"status":"scheduled","lease":"`+second.Lease+`","task":"`+id+`","attempt":1,"run_at":"…Z"}`)
		third := d.pollOne(again)
		want(t, d.post("/v1/work/"+third.Lease+"/fail", `{"error":"no ink","retry":false}`), http.StatusOK,
			`{"id":null,"status":"failed","lease":"`+third.Lease+`","task":"`+id+`","attempt":2}`)
	})
}

func TestAWorkerNeverHoldsMoreTasksThanItHasSlots(t *testing.T) {
	t.Parallel()
	workersInBubble(t, func(d *door) {
		for range 7 {
			d.enqueue(`{"action":"greet"}`)
		}
		const body = `{"actions":["greet"],"worker":"w1","slots":3,"wait":2}`
		first := d.poll(body)
		if len(first.Tasks) != 3 {
			t.Fatalf("3 slots hold %+v", first)
		}
		if more := d.poll(body); len(more.Tasks) != 0 {
			t.Errorf("a full worker receives %+v", more)
		}
		d.post("/v1/work/"+first.Tasks[0].Lease+"/done", `{}`)
		if more := d.poll(body); len(more.Tasks) != 1 {
			t.Errorf("a worker with one free slot receives %+v", more)
		}
		if more := d.poll(`{"actions":["greet"],"worker":"w1","slots":5,"wait":2}`); len(more.Tasks) != 2 {
			t.Errorf("a worker with two more slots receives %+v", more)
		}
		want(t, d.get("/v1/workers"), http.StatusOK, `{"ok":true,"workers":[{"worker":"w1","node":"n1","actions":["greet"],"queues":["*"],"slots":5,"held":5,…}]}`)
	})
}

// TestTwoPollsNeverReceiveTheSameTask has two workers and two polls of one worker take 60 tasks.
func TestTwoPollsNeverReceiveTheSameTask(t *testing.T) {
	t.Parallel()
	workersInBubble(t, func(d *door) {
		const tasks = 60
		leases := make(chan string, 2*tasks)
		var workers sync.WaitGroup
		for _, name := range []string{"w1", "w2", "w2"} {
			workers.Go(func() {
				for len(leases) < tasks {
					for _, one := range d.poll(fmt.Sprintf(`{"actions":["greet"],"worker":%q,"slots":8,"wait":3}`, name)).Tasks {
						leases <- one.Task
						d.post("/v1/work/"+one.Lease+"/done", `{}`)
					}
				}
			})
		}
		var ids, received []string
		for range tasks {
			ids = append(ids, d.enqueue(`{"action":"greet"}`))
		}
		workers.Wait()
		close(leases)
		for id := range leases {
			received = append(received, id)
		}
		slices.Sort(ids)
		slices.Sort(received)
		if !slices.Equal(ids, received) {
			t.Errorf("three polls receive %d tasks of %d: %q", len(received), tasks, received)
		}
	})
}

func TestALeaseThatNoBeatNamesEndsAndItsTaskRunsAgain(t *testing.T) {
	t.Parallel()
	workersInBubble(t, func(d *door) {
		id := d.enqueue(`{"action":"greet","timeout":600}`)
		first := d.pollOne(`{"actions":["greet"],"worker":"w1","lease_s":20}`)
		for range 5 {
			pass(15 * time.Second)
			want(t, d.beat("w1", first.Lease), http.StatusOK, `{"ok":true,"cancelling":[],"lost":[]}`)
		}
		pass(15 * time.Second)
		want(t, d.post("/v1/work/"+first.Lease+"/progress", `{"percent":1}`), http.StatusOK, `{"ok":true}`)
		pass(15 * time.Second)
		want(t, d.beat("w1"), http.StatusOK, `{"ok":true,"cancelling":[],"lost":[]}`) // names no lease
		second := d.pollOne(`{"actions":["greet"],"worker":"w2","wait":30}`)
		if second.Task != id || second.Attempt != 2 {
			t.Errorf("after 20 s without a beat another worker receives %+v, want attempt 2 of %s", second, id)
		}
		want(t, d.beat("w1", first.Lease), http.StatusOK, `{"ok":true,"cancelling":[],"lost":["`+first.Lease+`"]}`)
		wantProblem(t, d.post("/v1/work/"+first.Lease+"/done", `{}`), http.StatusConflict, task.Stale, "")
		wantProblem(t, d.post("/v1/work/"+first.Lease+"/progress", `{}`), http.StatusConflict, task.Stale, "")
		want(t, d.post("/v1/work/"+second.Lease+"/done", `{}`), http.StatusOK, `{"id":null,"status":"done",…}`)
		if record := d.finished(id); !strings.Contains(record, `"worker":"w2"`) {
			t.Errorf("the record is %s", record)
		}
	})
}

func TestABeatSaysWhatIsCancelledAndWhatIsFinished(t *testing.T) {
	t.Parallel()
	workersInBubble(t, func(d *door) {
		a, b := d.enqueue(`{"action":"greet"}`), d.enqueue(`{"action":"greet","timeout":8}`)
		if got := d.poll(`{"actions":["greet"],"worker":"w1","slots":2}`); len(got.Tasks) != 2 {
			t.Fatalf("%+v", got)
		}
		want(t, d.do(d.request("POST", "/v1/tasks/"+a+"/cancel", "")), http.StatusOK, `…`)
		want(t, d.beat("w1", a+".1", b+".1"), http.StatusOK, `{"ok":true,"cancelling":["`+a+`.1"],"lost":[]}`)
		want(t, d.post("/v1/work/"+a+".1/fail", `{"error":"stopped"}`), http.StatusOK, `{"id":null,"status":"cancelled",…}`)
		pass(9 * time.Second)
		want(t, d.beat("w1", a+".1", b+".1"), http.StatusOK, `{"ok":true,"cancelling":["`+b+`.1"],"lost":["`+a+`.1"]}`)
		pass(5 * time.Second) // the failure is recorded
		want(t, d.beat("w1", b+".1"), http.StatusOK, `{"ok":true,"cancelling":[],"lost":["`+b+`.1"]}`)
		wantProblem(t, d.post("/v1/work/"+b+".1/done", `{}`), http.StatusConflict, task.Stale, "")
		want(t, d.get("/v1/workers"), http.StatusOK, `{…"slots":2,"held":0,…}`)
	})
}

func TestAPollWhoseClientHasGoneGivesItsTasksBack(t *testing.T) {
	t.Parallel()
	workersInBubble(t, func(d *door) {
		ctx, giveUp := context.WithCancel(context.Background())
		over := make(chan struct{})
		go func() {
			defer close(over)
			response, err := d.client.Do(d.request("POST", "/v1/work", `{"actions":["greet"],"worker":"w1","wait":60}`, "Content-Type", "application/json").WithContext(ctx))
			if err == nil {
				response.Body.Close()
				t.Error("a poll that was given up is answered")
			}
		}()
		synctest.Wait()
		giveUp()
		<-over
		synctest.Wait()
		id := d.enqueue(`{"action":"greet"}`)
		pass(3 * time.Second)
		if got := d.pollOne(`{"actions":["greet"],"worker":"w1"}`); got.Task != id || got.Attempt != 1 {
			t.Errorf("the next poll receives %+v, want attempt 1 of %s", got, id)
		}
	})
}

func TestAWorkerThatIsAskedToStopReceivesNothingMore(t *testing.T) {
	t.Parallel()
	workersInBubble(t, func(d *door) {
		d.enqueue(`{"action":"greet"}`)
		first := d.pollOne(`{"actions":["greet"],"worker":"w1","slots":2}`)
		go func() {
			pass(2 * time.Second)
			want(t, d.do(d.request("POST", "/v1/workers/w1/quiet", "")), http.StatusOK, `{"ok":true,"worker":"w1","quiet":true}`)
		}()
		wantProblem(t, d.post("/v1/work", `{"actions":["greet"],"worker":"w1","slots":2}`), http.StatusConflict, task.Quiet, "asked this worker to stop")
		d.enqueue(`{"action":"greet"}`)
		wantProblem(t, d.post("/v1/work", `{"actions":["greet"],"worker":"w1","slots":2}`), http.StatusConflict, task.Quiet, "asked this worker to stop")
		want(t, d.beat("w1", first.Lease), http.StatusOK, `{"ok":true,"cancelling":[],"lost":[]}`)
		want(t, d.post("/v1/work/"+first.Lease+"/done", `{}`), http.StatusOK, `{"id":null,"status":"done",…}`)
		pass(2 * time.Minute) // it was not heard of, and is forgotten
		want(t, d.get("/v1/workers"), http.StatusOK, `{"ok":true,"workers":[]}`)
	})
}

func TestAWorkerThatPollsForOtherActionsKeepsWhatItHolds(t *testing.T) {
	t.Parallel()
	workersInBubble(t, func(d *door) {
		d.enqueue(`{"action":"greet"}`)
		first := d.pollOne(`{"actions":["greet"],"worker":"w1","slots":2}`)
		d.enqueue(`{"action":"resize","queue":"images"}`)
		second := d.pollOne(`{"actions":["resize"],"queues":["images"],"worker":"w1","slots":2,"version":"2"}`)
		want(t, d.get("/v1/workers"), http.StatusOK,
			`{"ok":true,"workers":[{"worker":"w1","node":"n1","actions":["resize"],"queues":["images"],"slots":2,"held":2,"version":"2","since":…}]}`)
		for _, lease := range []string{first.Lease, second.Lease} {
			want(t, d.post("/v1/work/"+lease+"/done", `{}`), http.StatusOK, `{"id":null,"status":"done",…}`)
		}
	})
}

func TestWorkersThatPollReceiveNoDirectRuns(t *testing.T) {
	t.Parallel()
	workersInBubble(t, func(d *door) {
		if got := d.poll(`{"actions":["greet"],"worker":"w1","wait":1}`); len(got.Tasks) != 0 {
			t.Errorf("%+v", got)
		}
		if got := d.run(`{"action":"greet"}`); !strings.Contains(got.body, "unknown action greet") {
			t.Errorf("a direct run is answered %s", got.body)
		}
	})
}

func TestStrangeRequestsOfWorkersAreRefusedByName(t *testing.T) {
	t.Parallel()
	d := openDurable(t, func(config *httpapi.Config) { config.Workers = worker.NewPool() })
	long := strings.Repeat("a", 129)
	for _, c := range []struct {
		path, body string
		code       task.Code
		field      string
	}{
		{"/v1/work", `{}`, task.InvalidRequest, "actions"},
		{"/v1/work", `[]`, task.InvalidRequest, ""},
		{"/v1/work", `{"actions":["a"]`, task.InvalidJSON, ""},
		{"/v1/work", `{"actions":[]}`, task.InvalidRequest, "actions"},
		{"/v1/work", `{"actions":"a"}`, task.InvalidRequest, "actions"},
		{"/v1/work", `{"actions":[1]}`, task.InvalidRequest, "actions"},
		{"/v1/work", `{"actions":["` + long + `"]}`, task.InvalidRequest, "actions"},
		{"/v1/work", `{"actions":["a"],"slots":0}`, task.InvalidRequest, "slots"},
		{"/v1/work", `{"actions":["a"],"slots":1025}`, task.InvalidRequest, "slots"},
		{"/v1/work", `{"actions":["a"],"wait":true}`, task.InvalidRequest, "wait"},
		{"/v1/work", `{"actions":["a"],"wait":-1}`, task.InvalidRequest, "wait"},
		{"/v1/work", `{"actions":["a"],"wait":61}`, task.InvalidRequest, "wait"},
		{"/v1/work", `{"actions":["a"],"lease_s":4.9}`, task.InvalidRequest, "lease_s"},
		{"/v1/work", `{"actions":["a"],"lease_s":3601}`, task.InvalidRequest, "lease_s"},
		{"/v1/work", `{"actions":["a"],"lease_s":"60"}`, task.InvalidRequest, "lease_s"},
		{"/v1/work", `{"actions":["a"],"worker":""}`, task.InvalidRequest, "worker"},
		{"/v1/work", `{"actions":["a"],"worker":"` + long + `"}`, task.InvalidRequest, "worker"},
		{"/v1/work", `{"actions":["a"],"queues":["Bad Queue"]}`, task.InvalidRequest, "queues"},
		{"/v1/work", `{"actions":["a"],"hold":[]}`, task.UnknownField, "hold"},
		{"/v1/work", `{"actions":["a"],"id":1}`, task.UnknownField, "id"},
		{"/v1/work", `{"op":"work","actions":["a"]}`, task.InvalidRequest, "op"},
		{"/v1/work/beat", `{"worker":"w"}`, task.InvalidRequest, "leases"},
		{"/v1/work/beat", `{"leases":[]}`, task.InvalidRequest, "worker"},
		{"/v1/work/beat", `{"worker":"w","leases":["x"]}`, task.InvalidRequest, "leases"},
		{"/v1/work/beat", `{"worker":"w","leases":[null]}`, task.InvalidRequest, "leases"},
		{"/v1/work/beat", `{"worker":"w","leases":[` + strings.Repeat(`"a.1",`, 1024) + `"a.1"]}`, task.InvalidRequest, "leases"},
		{"/v1/work/nolease/done", `{}`, task.InvalidRequest, "lease"},
		{"/v1/work/%ff.1/done", `{}`, task.InvalidRequest, "lease"},
		{"/v1/work/a%22b.1/done", `{}`, task.InvalidRequest, "lease"},
		{"/v1/work/01JE.1/done", `{"lease":"a.1"}`, task.InvalidJSON, ""},
		{"/v1/work/01JE.1/done", `{"data":{"a":1}`, task.InvalidJSON, ""},
		{"/v1/work/01JE.1/done", `{"data":1}}`, task.InvalidJSON, ""},
		{"/v1/work/01JE.1/done", ``, task.InvalidJSON, ""},
		{"/v1/work/01JE.1/done", `[1]`, task.InvalidRequest, ""},
		{"/v1/work/01JE.1/done", `{"error":"x"}`, task.UnknownField, "error"},
		{"/v1/work/01JE.1/done", `{"op":"fail"}`, task.InvalidRequest, "op"},
		{"/v1/work/01JE.1/fail", `{}`, task.InvalidRequest, "error"},
		{"/v1/work/01JE.1/fail", `{"error":1}`, task.InvalidRequest, "error"},
		{"/v1/work/01JE.1/fail", `{"error":"x","retry":1}`, task.InvalidRequest, "retry"},
		{"/v1/work/01JE.1/release", `{"delay":-1}`, task.InvalidRequest, "delay"},
		{"/v1/work/01JE.1/progress", `{"percent":101}`, task.InvalidRequest, "percent"},
	} {
		got := d.post(c.path, c.body)
		var p problem
		if err := json.Unmarshal([]byte(got.body), &p); err != nil {
			t.Errorf("%s %s: %d %s", c.path, c.body, got.status, got.body)
			continue
		}
		if p.Code != c.code || p.Field != c.field || got.status != http.StatusBadRequest {
			t.Errorf("%s %.80s: %d %s", c.path, c.body, got.status, got.body)
		}
	}
	wantProblem(t, d.post("/v1/work/01JE.1/done", `{}`), http.StatusNotFound, task.NotFound, "01JE")
	wantProblem(t, d.post("/v1/work/01JE.1/progress", `{}`), http.StatusNotFound, task.NotFound, "01JE")
	want(t, d.beat("w", "01JE.1", "x-7.0"), http.StatusOK, `{"ok":true,"cancelling":[],"lost":["01JE.1","x-7.0"]}`)
	want(t, d.get("/v1/workers"), http.StatusOK, `{"ok":true,"workers":[]}`)
	wantProblem(t, openDurable(t).post("/v1/work", `{"actions":["a"]}`), http.StatusServiceUnavailable, task.Unavailable, "takes no workers")
}
