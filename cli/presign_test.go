package cli

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/internal/testenv"
)

// ask makes a request, with a body that is JSON, and gives the answer.
func ask(t *testing.T, method, to, body string, headers map[string]string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode > 299 {
		t.Fatalf("%s %s is answered %d %.300s (%v)", method, to, response.StatusCode, text, err)
	}
	return string(text)
}

// A large payload and its result go between the client and a real S3 server, past the node.
func TestALargeBodyGoesPastTheNodeByASignedURL(t *testing.T) {
	t.Parallel()
	from, addr := testenv.S3(t), testenv.FreeAddr(t)
	from.Bucket(t, "bodies")
	command := exec.Command(testenv.Posta(t), "node", "--listen", addr, "--log-level", "warn", "--drain-delay", "0s",
		"--store", "sqlite://"+filepath.Join(t.TempDir(), "posta.db"), "--blobs", "s3://bodies?endpoint="+from.Endpoint)
	command.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+from.Access, "AWS_SECRET_ACCESS_KEY="+from.Secret)
	testenv.StartCommand(t, command)
	testenv.Eventually(t, patience, testenv.Accepts(addr))

	base, text := "http://"+addr+"/v1/", `"`+strings.Repeat("x", 2<<20)+`"`
	var signed struct {
		Blob    struct{ Task string }
		URL     string
		Headers map[string]string
	}
	read := func(text string) {
		t.Helper()
		if err := json.Unmarshal([]byte(text), &signed); err != nil {
			t.Fatal(err)
		}
	}
	read(ask(t, "PUT", base+"blobs?presign=1", "", nil))
	id := signed.Blob.Task
	ask(t, "PUT", signed.URL, text, signed.Headers)
	ask(t, "POST", base+"tasks", fmt.Sprintf(`{"action":"echo","payload_blob":{"task":%q,"size":%d,"sha256":"%x"}}`,
		id, len(text), sha256.Sum256([]byte(text))), nil)
	if got := ask(t, "GET", base+"tasks/"+id+"?wait=30", "", nil); !strings.Contains(got, `"status":"done"`) {
		t.Errorf("the task is %.300s", got)
	}
	for path, want := range map[string]string{"payload": text, "result": `{"ok":true,"data":` + text + `}`} {
		read(ask(t, "GET", base+"tasks/"+id+"/"+path+"?presign=1", "", nil))
		if got := ask(t, "GET", signed.URL, "", nil); !strings.HasPrefix(signed.URL, from.Endpoint) || got != want {
			t.Errorf("the %s comes from %.60s with %d of %d bytes", path, signed.URL, len(got), len(want))
		}
	}
}
