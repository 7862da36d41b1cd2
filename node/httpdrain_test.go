package node

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/task"
)

func TestADrainingNodeIsNotReadyAndAsksHTTPClientsToLeave(t *testing.T) {
	t.Parallel()
	n, err := New(Config{Name: "n1", Listen: "127.0.0.1:0", Limits: task.Limits{DrainDelay: 3 * time.Second, DrainTimeout: 5 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	transport := &http.Transport{}
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	ask := func(method, path, body string) (status int, text string, leave bool) {
		r, err := http.NewRequest(method, "http://"+n.Addr().String()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(answer), response.Close
	}
	if status, text, leave := ask("GET", "/readyz", ""); status != 200 || leave {
		t.Fatalf("before: %d %s, leave %v", status, text, leave)
	}
	stop()
	deadline := time.Now().Add(2 * time.Second)
	for {
		status, text, leave := ask("GET", "/readyz", "")
		if status == 503 && leave && strings.Contains(text, `"code":"draining"`) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("while draining: %d %s, leave %v", status, text, leave)
		}
	}
	status, text, leave := ask("POST", "/v1/run", `{"id":1,"action":"upper","payload":"hola"}`)
	if status != 200 || !strings.Contains(text, "HOLA") || !leave {
		t.Errorf("a task during the delay: %d %s, leave %v", status, text, leave)
	}
	transport.CloseIdleConnections()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the node does not stop")
	}
}
