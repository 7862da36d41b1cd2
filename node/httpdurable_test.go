package node_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// The drain ends open waits and streams over HTTP at once, without the drain timeout.
func TestADrainEndsOpenHTTPRequests(t *testing.T) {
	t.Parallel()
	server := openStage(t, node.Config{
		Durable: &durable.Config{Store: store.NewMemory(store.MemoryConfig{})}, Limits: task.Limits{DrainTimeout: time.Hour},
	})
	base := "http://" + server.addr + "/v1/tasks"
	response, err := http.Post(base, "application/json", strings.NewReader(`{"action":"echo","delay":3600}`))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	response.Body.Close()
	found := regexp.MustCompile(`"task":"(\w+)"`).FindStringSubmatch(string(text))
	if err != nil || found == nil {
		t.Fatalf("%s %v", text, err)
	}
	bulk, lines := io.Pipe()
	ended := make(chan string, 3)
	ask := func(r *http.Request, err error) {
		if err != nil {
			t.Error(err)
			return
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			ended <- err.Error()
			return
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		ended <- fmt.Sprint(string(text), errors.Join(err))
	}
	ctx := t.Context()
	go ask(http.NewRequestWithContext(ctx, http.MethodGet, base+"/"+found[1]+"?wait=3600", nil))
	go ask(http.NewRequestWithContext(ctx, http.MethodGet, base+"/"+found[1]+"/events", nil))
	many, err := http.NewRequestWithContext(ctx, http.MethodPost, base, bulk)
	if err != nil {
		t.Fatal(err)
	}
	many.Header.Set("Content-Type", "application/x-ndjson")
	go ask(many, nil)
	if _, err := io.WriteString(lines, `{"id":1,"action":"echo","delay":3600}`+"\n"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); !strings.Contains(metricsOf(t, server.addr), "\nposta_http_requests_open 4\n"); {
		if time.Now().After(deadline) {
			t.Fatal("the three requests are not open")
		}
	}
	server.stop()
	for range 3 {
		select {
		case text := <-ended:
			if !strings.Contains(text, `"code":"draining"`) {
				t.Errorf("a request ended with %s", text)
			}
		case <-time.After(patience):
			t.Fatal("a request is still open")
		}
	}
}

// metricsOf returns the metrics of a node.
func metricsOf(t *testing.T, addr string) string {
	t.Helper()
	response, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRefusalsOfDurableOpsAreCountedAtBothDoors(t *testing.T) {
	t.Parallel()
	server := openStage(t, node.Config{Durable: &durable.Config{Store: store.NewMemory(store.MemoryConfig{})}})
	v := visit(t, server.addr)
	for range 2 {
		v.send(`{"id":1,"op":"get","task":"none"}` + "\n")
		v.expect(`{"id":1,"status":"error","code":"not_found",…}`)
	}
	v.send(`{"id":1,"op":"watch","task":"none"}` + "\n")
	v.expect(`{"id":1,"status":"error","code":"not_found",…}`)
	response, err := http.Get("http://" + server.addr + "/v1/tasks/none")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	text := metricsOf(t, server.addr)
	for _, line := range []string{`posta_refusals_total{code="not_found",door="lines"} 3`, `posta_refusals_total{code="not_found",door="http"} 1`} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("the metrics do not contain %s", line)
		}
	}
}
