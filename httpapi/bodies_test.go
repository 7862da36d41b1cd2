package httpapi_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/task"
)

// put uploads a body and gives its blob as it is used in payload_blob.
func (d *door) put(body io.Reader) (answer, string) {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodPut, "http://"+d.addr+"/v1/blobs", body)
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	got := d.do(r)
	return got, strings.TrimSuffix(strings.TrimPrefix(got.body, `{"blob":`), "}\n")
}

func TestALargePayloadIsUploadedThenWorked(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	text := `"` + strings.Repeat("ñ", 1<<20) + `"`
	got, uploaded := d.put(strings.NewReader(text))
	want(t, got, http.StatusOK, fmt.Sprintf(`{"blob":{"task":"…","size":%d,"sha256":"…"}}`, len(text)))
	id := d.enqueue(`{"action":"echo","payload_blob":` + uploaded + `}`)
	if !strings.Contains(uploaded, id) {
		t.Errorf("the task %s has another id than the blob %s", id, uploaded)
	}
	want(t, answer{200, http.Header{"Content-Type": {"application/json"}}, d.finished(id), false}, 200,
		`{"status":"done",…,"result":{"ok":true,"blob":{"size":2097173,"sha256":"…","href":"/v1/tasks/`+id+`/result"}}}`)
	want(t, d.get("/v1/tasks/"+id+"?payload=true"), http.StatusOK, `{…,"payload_blob":{"size":2097154,"sha256":"…","href":"/v1/tasks/`+id+`/payload"},…}`)
	for path, want := range map[string]string{"payload": text, "result": `{"ok":true,"data":` + text + `}`} {
		got := d.get("/v1/tasks/" + id + "/" + path)
		if got.status != http.StatusOK || got.body != want || got.header.Get("Content-Length") != strconv.Itoa(len(want)) {
			t.Errorf("the %s comes as %d with %d of %d bytes", path, got.status, len(got.body), len(want))
		}
		head := d.do(d.request("HEAD", "/v1/tasks/"+id+"/"+path, ""))
		if head.status != http.StatusOK || head.header.Get("Content-Length") != strconv.Itoa(len(want)) {
			t.Errorf("HEAD: %d %v", head.status, head.header)
		}
	}
	wantProblem(t, d.post("/v1/tasks", `{"action":"upper","payload_blob":`+uploaded+`}`), http.StatusConflict, task.Conflict, "upload it again")
	again := d.post("/v1/tasks", `{"action":"echo","payload_blob":`+uploaded+`}`) // an answer that was lost can be asked for again
	if again.status != http.StatusAccepted || !strings.Contains(again.body, id) {
		t.Errorf("the same again: %d %s", again.status, again.body)
	}
}

func TestAResultThatFitsIsShownWhole(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	text := `"` + strings.Repeat("x", 500_000) + `"` // in blob storage, and well below the limit of what is shown
	id := d.enqueue(`{"action":"echo","payload":` + text + `}`)
	if got := d.finished(id); !strings.HasSuffix(got, `"result":{"ok":true,"data":`+text+"}}\n") {
		t.Errorf("the record has %d bytes", len(got))
	}
	if got := d.get("/v1/tasks/" + id + "?payload=true"); !strings.Contains(got.body, `"payload":`+text) {
		t.Errorf("the payload is not there")
	}
	if got := d.get("/v1/tasks?limit=1"); strings.Contains(got.body, "result") || strings.Contains(got.body, "payload") {
		t.Errorf("the list has bodies: %.300s", got.body)
	}
}

func TestAnUploadIsCheckedWhileItComes(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	got, _ := d.put(strings.NewReader(`[1,2,]`))
	wantProblem(t, got, http.StatusBadRequest, task.InvalidJSON, "at byte 6")
	got, _ = d.put(strings.NewReader(``))
	wantProblem(t, got, http.StatusBadRequest, task.InvalidJSON, "unexpected end")
	got, _ = d.put(io.MultiReader(strings.NewReader(`"`), bytes.NewReader(bytes.Repeat([]byte("x"), task.BlobBytes)), strings.NewReader(`"`)))
	wantProblem(t, got, http.StatusRequestEntityTooLarge, task.PayloadTooLarge, "67108864 bytes")
	announced, _, _ := d.raw("PUT /v1/blobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 67108865\r\n\r\n")
	wantProblem(t, announced, http.StatusRequestEntityTooLarge, task.PayloadTooLarge, "67108864 bytes")
	wantProblem(t, d.do(d.request("PUT", "/v1/blobs", "[1]")), http.StatusUnsupportedMediaType, task.InvalidRequest, "application/json")
}

func TestAnUploadThatDoesNotComeIsRefusedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := openDurableOn(t, (*door).listenInMemory, openBlobs(t))
		got, _, closed := d.raw("PUT /v1/blobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n[1,")
		wantProblem(t, got, http.StatusRequestTimeout, task.LineTimeout, "nothing of the body came")
		if !closed {
			t.Error("the connection stays open")
		}
	})
}

func TestABlobThatIsNotThereIsRefused(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	sum := strings.Repeat("a", 64)
	for _, bad := range []string{
		`{"task":"01J5ZZZZZZZZZZZZZZZZZZZZZZ","size":3,"sha256":"` + sum + `"}`, `{"task":"../../../../etc/passwd.xxxx","size":3,"sha256":"` + sum + `"}`,
		`{"task":"01J5ZZZZZZZZZZZZZZZZZZZZZZ","size":3,"sha256":"` + sum + `","x":1}`, `{"task":"01J5ZZZZZZZZZZZZZZZZZZZZZZ","SIZE":3,"sha256":"` + sum + `"}`, `{}`, `[]`,
	} {
		p := wantProblem(t, d.post("/v1/tasks", `{"action":"echo","payload_blob":`+bad+`}`), http.StatusBadRequest, task.InvalidRequest, "")
		if p.Field != "payload_blob" {
			t.Errorf("%s: the field is %q", bad, p.Field)
		}
	}
}

func TestWithoutBlobStorageLargeBodiesAreUnavailable(t *testing.T) {
	t.Parallel()
	d := openWith(t, nil)
	got, _ := d.put(strings.NewReader("[1]"))
	wantProblem(t, got, http.StatusServiceUnavailable, task.Unavailable, "no blob storage; start it with --blobs")
	sum := strings.Repeat("a", 64)
	got = d.post("/v1/tasks", `{"action":"echo","payload_blob":{"task":"01J5ZZZZZZZZZZZZZZZZZZZZZZ","size":3,"sha256":"`+sum+`"}}`)
	wantProblem(t, got, http.StatusServiceUnavailable, task.Unavailable, "no blob storage")
	id := d.enqueue(`{"action":"echo","payload":[1]}`)
	d.finished(id)
	want(t, d.get("/v1/tasks/"+id+"/payload"), http.StatusOK, `[1]`)
	want(t, d.get("/v1/tasks/"+id+"/result"), http.StatusOK, `{"ok":true,"data":[1]}`)
	wantProblem(t, d.get("/v1/tasks/01J/result"), http.StatusNotFound, task.NotFound, "no task")
	id = d.enqueue(`{"action":"echo","delay":60}`)
	wantProblem(t, d.get("/v1/tasks/"+id+"/result"), http.StatusConflict, task.Conflict, "has no result")
}

func TestADamagedBodyBreaksOff(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	dir, err := blob.OpenDir(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	d := openWith(t, dir)
	id := d.enqueue(`{"action":"echo","payload":"` + strings.Repeat("x", 500_000) + `"}`)
	d.finished(id)
	files, err := filepath.Glob(filepath.Join(root, id, "payload"))
	if err != nil || len(files) != 1 {
		t.Fatalf("found %v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	text[400_000] = 'y'
	if err := os.Chmod(files[0], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
	response, err := d.client.Do(d.request("GET", "/v1/tasks/"+id+"/payload", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got, err := io.ReadAll(response.Body); err == nil || len(got) >= len(text) {
		t.Errorf("all %d bytes came, and %v", len(got), err)
	}
}
