package httpapi_test

import (
	"net/http"
	"testing"

	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/httpapi"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker"
)

func TestWorkersAreListedAndOneIsAskedToStop(t *testing.T) {
	t.Parallel()
	pool := worker.NewPool()
	join := func(o worker.Options) {
		o.Send = func([]byte) {}
		s, _, _ := pool.Join(o)
		s.Open([]byte("{}\n"))
		t.Cleanup(func() { s.Close(worker.Died) })
	}
	d := open(t, func(config *httpapi.Config, _ *executor.Config) { config.Workers = pool })
	want(t, d.get("/v1/workers"), http.StatusOK, `{"ok":true,"workers":[]}`)
	join(worker.Options{Name: "b ü/1", Node: "n1", Actions: []string{"resize", "greet"}, Queues: []string{"mail"}, Slots: 8, Version: "1.4"})
	join(worker.Options{Node: "n2", Actions: []string{"greet"}, Slots: 1})
	list := func(quiet string) string {
		return `{"ok":true,"workers":[` +
			`{"worker":"b ü/1","node":"n1","actions":["greet","resize"],"queues":["mail"],"slots":8,"held":0,"version":"1.4","since":"…Z","stuck":false,"quiet":` + quiet + `},` +
			`{"worker":"n2-c1","node":"n2","actions":["greet"],"queues":["*"],"slots":1,"held":0,"since":"…Z","stuck":false,"quiet":false}]}`
	}
	want(t, d.get("/v1/workers"), http.StatusOK, list("false"))
	const path = "/v1/workers/b%20%C3%BC%2F1/quiet"
	want(t, d.do(d.request("POST", path, "")), http.StatusOK, `{"ok":true,"worker":"b ü/1","quiet":true}`)
	want(t, d.do(d.request("POST", path, "")), http.StatusOK, `{"ok":true,"worker":"b ü/1","quiet":true}`)
	want(t, d.get("/v1/workers"), http.StatusOK, list("true"))
}

func TestAWorkerThatIsNotThereCannotBeAskedToStop(t *testing.T) {
	t.Parallel()
	d := open(t, func(config *httpapi.Config, _ *executor.Config) { config.Workers = worker.NewPool() })
	wantProblem(t, d.do(d.request("POST", "/v1/workers/nobody/quiet", "")), http.StatusNotFound, task.NotFound, "no worker nobody is connected")
	wantProblem(t, d.do(d.request("POST", "/v1/workers/%ff/quiet", "")), http.StatusBadRequest, task.InvalidRequest, "worker")
	wantProblem(t, d.do(d.request("POST", "/v1/workers/nobody/quiet", "{}")), http.StatusBadRequest, task.InvalidRequest, "takes no body")
	wantProblem(t, d.get("/v1/workers?node=n1"), http.StatusBadRequest, task.UnknownField, "unknown parameter node")
	wantProblem(t, open(t).get("/v1/workers"), http.StatusServiceUnavailable, task.Unavailable, "takes no workers")
}
