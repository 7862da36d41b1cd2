package cluster_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// webClient is an HTTP client as anybody has it: it keeps connections, and repeats what is idempotent
// when a connection breaks or the answer is 503. A task is named by an Idempotency-Key, so that to ask for
// it again is no other task; upper may be run again, since it changes nothing.
type webClient struct {
	t       *testing.T
	http    *http.Client
	url     string
	refused atomic.Int64 // requests that were repeated since they were answered 503
	broken  atomic.Int64 // and since their connection broke
}

// webAnswer is what is read of an answer.
type webAnswer struct {
	Task   string        `json:"task"`
	Status task.State    `json:"status"`
	Result client.Result `json:"result"`
}

func newWebClient(t *testing.T, addr string) *webClient {
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	return &webClient{t: t, http: &http.Client{Transport: transport, Timeout: time.Minute}, url: "http://" + addr}
}

// caller asks durably and directly in turn.
func (w *webClient) caller(name string) caller {
	return func(n int) error {
		text := name + strconv.Itoa(n)
		if n%2 == 1 {
			return w.directly(text)
		}
		return w.durably(text, n)
	}
}

// directly has a text made upper case at once.
func (w *webClient) directly(text string) error {
	var answer webAnswer
	if err := w.ask(http.MethodPost, "/v1/run", "", map[string]any{"action": "upper", "payload": text}, &answer); err != nil {
		return err
	}
	return isUpper(text, answer.Result)
}

// durably has a journalled task run, and waits for its end.
func (w *webClient) durably(text string, n int) error {
	action, payload := journalled(text, n)
	var answer webAnswer
	err := w.ask(http.MethodPost, "/v1/tasks", text, map[string]any{"action": action, "payload": payload}, &answer)
	for id := answer.Task; err == nil && !answer.Status.Final(); {
		answer = webAnswer{}
		err = w.ask(http.MethodGet, "/v1/tasks/"+id+"?wait=20", "", nil, &answer)
	}
	if err != nil {
		return err
	}
	return checkJournalled(text, answer.Status, answer.Result)
}

// ask makes a request until it is answered, at most for clusterPatience.
func (w *webClient) ask(method, path, key string, body any, answer *webAnswer) error {
	const pause = 50 * time.Millisecond
	deadline := time.Now().Add(clusterPatience)
	for {
		status, text, err := w.once(method, path, key, body)
		switch {
		case err == nil && status < http.StatusMultipleChoices:
			return json.Unmarshal(text, answer)
		case err == nil && status != http.StatusServiceUnavailable:
			return fmt.Errorf("%s %s: %d %s", method, path, status, text)
		case time.Now().After(deadline):
			return fmt.Errorf("%s %s, repeated for %v: %d %s, %w", method, path, clusterPatience, status, text, err)
		case err == nil:
			w.refused.Add(1)
		default:
			w.broken.Add(1)
		}
		<-time.After(pause)
	}
}

// once makes a request once.
func (w *webClient) once(method, path, key string, body any) (status int, text []byte, err error) {
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		content = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, content)
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	reply, err := w.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer reply.Body.Close()
	text, err = io.ReadAll(reply.Body)
	return reply.StatusCode, text, err
}
