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
	n, err := New(Config{Name: "n1", Listen: "127.0.0.1:0", Limits: task.Limits{DrainDelay: 10 * time.Second, DrainTimeout: time.Minute}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	transport := &http.Transport{}
	client := &http.Client{Transport: transport, Timeout: time.Minute}
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
	status, text, leave := ask("GET", "/readyz", "")
	for status == 200 { // until the node drains; after the delay the request fails
		status, text, leave = ask("GET", "/readyz", "")
	}
	if status != 503 || !leave || !strings.Contains(text, `"code":"draining"`) {
		t.Fatalf("while draining: %d %s, leave %v", status, text, leave)
	}
	status, text, leave = ask("POST", "/v1/run", `{"id":1,"action":"upper","payload":"hola"}`)
	if status != 200 || !strings.Contains(text, "HOLA") || !leave {
		t.Errorf("a task during the delay: %d %s, leave %v", status, text, leave)
	}
	transport.CloseIdleConnections()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * time.Minute):
		t.Error("the node did not stop")
	}
}
