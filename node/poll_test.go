package node_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/store"
)

// post sends JSON to a node, with a token unless it is empty, and returns the status and the body.
func post(t *testing.T, addr, path, body, token string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// poll polls for a task as the worker p1 and returns its lease.
func poll(t *testing.T, addr, token string) string {
	t.Helper()
	_, text := post(t, addr, "/v1/work", `{"actions":["resize"],"worker":"p1","wait":60}`, token)
	var got struct{ Tasks []line }
	if json.Unmarshal([]byte(text), &got) != nil || len(got.Tasks) != 1 {
		t.Fatalf("a poll is answered %s, want one task", text)
	}
	return got.Tasks[0].Lease
}

// wantAnswer sends JSON and checks the answer.
func wantAnswer(t *testing.T, addr, path, body, token string, status int, part string) {
	t.Helper()
	if got, text := post(t, addr, path, body, token); got != status || !strings.Contains(text, part) {
		t.Errorf("%s %s is answered %d %s, want %d with %s", path, body, got, text, status, part)
	}
}

func TestABeatTakesALeaseOverFromAnotherNode(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryConfig{})
	first := openStage(t, withStore(s)).addr
	config := withStore(s)
	config.Name = "other"
	second := openNamed(t, config).addr
	id := enqueue(t, first, "")
	lease := poll(t, first, "")
	wantAnswer(t, second, "/v1/work/"+lease+"/progress", `{"percent":1}`, "", http.StatusOK, `{"ok":true}`)
	wantAnswer(t, second, "/v1/work/beat", fmt.Sprintf(`{"worker":"p1","leases":[%q,"01JE.1"]}`, lease), "", http.StatusOK,
		`{"ok":true,"cancelling":[],"lost":["01JE.1"]}`)
	wantAnswer(t, second, "/v1/tasks/"+id+"/cancel", "{}", "", http.StatusBadRequest, "takes no body")
	visitor := visit(t, second)
	visitor.send(fmt.Sprintf(`{"id":1,"op":"cancel","task":%q}`+"\n", id))
	visitor.read("cancelling", "1")
	wantAnswer(t, second, "/v1/work/beat", fmt.Sprintf(`{"worker":"p1","leases":[%q]}`, lease), "", http.StatusOK,
		fmt.Sprintf(`{"ok":true,"cancelling":[%q],"lost":[]}`, lease))
	wantAnswer(t, second, "/v1/work/"+lease+"/fail", `{"error":"stopped"}`, "", http.StatusOK, `"status":"cancelled"`)
	wantAnswer(t, first, "/v1/work/"+lease+"/done", `{}`, "", http.StatusConflict, `"code":"stale"`)
}

func TestAnOutcomeComesThroughEitherDoor(t *testing.T) {
	t.Parallel()
	addr := openStage(t, withStore(store.NewMemory(store.MemoryConfig{}))).addr
	enqueue(t, addr, "")
	lease := poll(t, addr, "")
	v := visit(t, addr)
	v.send(fmt.Sprintf(`{"id":1,"op":"done","lease":%q}`+"\n", lease))
	v.read("done", "1")
	v = work(t, addr, "w1", "")
	v.read("ready", "")
	enqueue(t, addr, "")
	push := v.read("running", "")
	wantAnswer(t, addr, "/v1/work/"+push.Lease+"/done", `{"data":1}`, "", http.StatusOK, `"status":"done"`)
}

func TestALeaseOfAPollBelongsToItsToken(t *testing.T) {
	t.Parallel()
	config := withStore(store.NewMemory(store.MemoryConfig{}))
	config.Tokens = loadTokens(t, "a first-secret-token\nb second-secret-token\n")
	addr := openStage(t, config).addr
	wantAnswer(t, addr, "/v1/tasks", `{"action":"resize"}`, "first-secret-token", http.StatusAccepted, "queued")
	lease := poll(t, addr, "first-secret-token")
	beat := fmt.Sprintf(`{"worker":"p1","leases":[%q]}`, lease)
	wantAnswer(t, addr, "/v1/work/beat", beat, "second-secret-token", http.StatusOK, fmt.Sprintf(`"lost":[%q]`, lease))
	wantAnswer(t, addr, "/v1/work/"+lease+"/done", `{}`, "second-secret-token", http.StatusForbidden, "another token")
	wantAnswer(t, addr, "/v1/work/beat", beat, "first-secret-token", http.StatusOK, `"lost":[]`)
	wantAnswer(t, addr, "/v1/work/beat", beat, "", http.StatusUnauthorized, "token")
	wantAnswer(t, addr, "/v1/work/"+lease+"/done", `{}`, "first-secret-token", http.StatusOK, `"status":"done"`)
}
