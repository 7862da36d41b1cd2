package httpapi_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/task"
)

// signing is storage whose URLs lead to a server of the test.
type signing struct {
	*blob.Dir
	server *httptest.Server
}

func (s *signing) SignPut(_ context.Context, key blob.Key, valid time.Duration) (string, error) {
	return fmt.Sprintf("%s/%s?put&for=%s", s.server.URL, key, valid), nil
}

func (s *signing) SignGet(_ context.Context, key blob.Key, valid time.Duration) (string, error) {
	return fmt.Sprintf("%s/%s?get&for=%s", s.server.URL, key, valid), nil
}

// openSigning is openDurable with such storage.
func openSigning(t *testing.T) *door {
	t.Helper()
	dir, err := blob.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	put := func(w http.ResponseWriter, r *http.Request) {
		key, err := blob.ParseKey(strings.TrimPrefix(r.URL.Path, "/"))
		if err == nil && r.Header.Get("If-None-Match") == "*" {
			_, err = dir.Put(r.Context(), key, r.Body, task.BlobBytes)
		}
		if err != nil {
			w.WriteHeader(http.StatusPreconditionFailed)
		}
	}
	server := httptest.NewServer(http.HandlerFunc(put))
	t.Cleanup(server.Close)
	return openWith(t, &signing{dir, server})
}

// send PUTs a body to where a presigned upload says, and gives the blob of what was sent.
func (d *door) send(body string) string {
	d.t.Helper()
	got := d.do(d.request("PUT", "/v1/blobs?presign=1", "", "Content-Type", "application/json"))
	want(d.t, got, http.StatusOK, `{"blob":{"task":"…"},"url":"…","headers":{"If-None-Match":"*"},"valid_s":900}`)
	var signed struct {
		Blob    struct{ Task string }
		URL     string
		Headers map[string]string
	}
	if err := json.Unmarshal([]byte(got.body), &signed); err != nil {
		d.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodPut, signed.URL, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	for name, value := range signed.Headers {
		r.Header.Set(name, value)
	}
	if put := d.do(r); put.status != http.StatusOK {
		d.t.Fatalf("PUT is answered %d", put.status)
	}
	return fmt.Sprintf(`{"task":%q,"size":%d,"sha256":"%x"}`, signed.Blob.Task, len(body), sha256.Sum256([]byte(body)))
}

func TestASignedUploadIsThePayloadOfItsTask(t *testing.T) {
	t.Parallel()
	d := openSigning(t)
	text := `"` + strings.Repeat("x", 100_000) + `"`
	id := d.enqueue(`{"action":"echo","payload_blob":` + d.send(text) + `}`)
	if got := d.finished(id); !strings.HasSuffix(got, `"result":{"ok":true,"data":`+text+"}}\n") {
		t.Errorf("it ends with %.200s", got)
	}
	for _, path := range []string{"/payload", "/result"} {
		got := d.get("/v1/tasks/" + id + path + "?presign=1")
		want(t, got, http.StatusOK, `{"url":"…","size":…,"sha256":"…","valid_s":900}`)
		if !strings.Contains(got.body, path+"?get&for=15m0s") {
			t.Errorf("the URL leads elsewhere: %s", got.body)
		}
	}
}

func TestASignedUploadThatIsNoJSONFailsItsTask(t *testing.T) {
	t.Parallel()
	d := openSigning(t)
	for _, text := range []string{"hello", "\"\xff\"", strings.Repeat("[", 65) + strings.Repeat("]", 65), `{"id":null} {"id":1}`} {
		id := d.enqueue(`{"action":"echo","payload_blob":` + d.send(text) + `}`)
		if got := d.finished(id); !strings.Contains(got, `"code":"blob_unavailable"`) || !strings.Contains(got, "no JSON") {
			t.Errorf("%.20q ends with %s", text, got)
		}
		if got := d.get("/v1/tasks/" + id + "?payload=true"); !strings.Contains(got.body, `"payload_blob":{`) || !json.Valid([]byte(got.body)) {
			t.Errorf("%.20q is shown in %s", text, got.body)
		}
	}
	deep := `{"a":` + strings.Repeat("[", 63) + `"[[\"[["` + strings.Repeat("]", 63) + "}"
	if got := d.finished(d.enqueue(`{"action":"echo","payload_blob":` + d.send(deep) + `}`)); !strings.Contains(got, `"status":"done"`) {
		t.Errorf("what is as deep as it may be ends with %s", got)
	}
}

func TestASignedURLIsRefusedWhereThereIsNone(t *testing.T) {
	t.Parallel()
	d := openSigning(t)
	id := d.enqueue(`{"action":"echo","payload":1}`)
	d.finished(id)
	wantProblem(t, d.get("/v1/tasks/"+id+"/payload?presign=1"), 400, task.InvalidRequest, "kept with the task")
	wantProblem(t, d.get("/v1/tasks/"+id+"/result?presign=1"), 400, task.InvalidRequest, "kept with the task")
	wantProblem(t, d.get("/v1/tasks/"+id+"/result?presign=yes"), 400, task.InvalidRequest, "must be 1")
	wantProblem(t, d.get("/v1/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV/payload?presign=1"), 404, task.NotFound, "")
	put := func(d *door, body string) answer {
		return d.do(d.request("PUT", "/v1/blobs?presign=1", body, "Content-Type", "application/json"))
	}
	wantProblem(t, put(d, `"x"`), 400, task.InvalidRequest, "takes no body")
	plain := openDurable(t)
	wantProblem(t, put(plain, ""), 400, task.InvalidRequest, "signs no URLs")
	wantProblem(t, put(openWith(t, nil), ""), 503, task.Unavailable, "no blob storage")
	_, uploaded := plain.put(io.LimitReader(strings.NewReader(`"`+strings.Repeat("x", 100_000)+`"`), 1<<20))
	id = plain.enqueue(`{"action":"echo","payload_blob":` + uploaded + `}`)
	plain.finished(id)
	wantProblem(t, plain.get("/v1/tasks/"+id+"/payload?presign=1"), 400, task.InvalidRequest, "signs no URLs")
}
