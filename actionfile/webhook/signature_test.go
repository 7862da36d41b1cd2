package webhook

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/internal/testenv"
)

// verifier is a program for Node that asks the package standardwebhooks about each request of
// its input, and prints a line for each.
const verifier = `
const { Webhook } = require("standardwebhooks");
for (const { secret, headers, body } of JSON.parse(require("fs").readFileSync(0, "utf8"))) {
  try { new Webhook(secret).verify(body, headers); console.log("yes"); }
  catch (e) { console.log("no: " + e.message); }
}`

// unpackNode unpacks the npm packages of testdata/npm, whose digests package-lock.json has, so
// that no registry is asked.
func unpackNode(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("testdata/npm/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	var lock struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	if err := json.Unmarshal(text, &lock); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for place, p := range lock.Packages {
		name, found := strings.CutPrefix(place, "node_modules/")
		if !found {
			continue
		}
		archive, err := os.ReadFile(filepath.Join("testdata/npm", strings.NewReplacer("@", "", "/", "-").Replace(name)+"-"+p.Version+".tgz"))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha512.Sum512(archive)
		if "sha512-"+base64.StdEncoding.EncodeToString(sum[:]) != p.Integrity {
			t.Fatalf("the archive of %s is not that of package-lock.json", name)
		}
		zipped, err := gzip.NewReader(bytes.NewReader(archive))
		if err != nil {
			t.Fatal(err)
		}
		for files := tar.NewReader(zipped); ; {
			header, err := files.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			_, inside, _ := strings.Cut(header.Name, "/")
			path := filepath.Join(dir, place, filepath.Clean("/"+inside))
			content, err := io.ReadAll(files)
			if err == nil {
				err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// TestSignaturesAreVerifiedByStandardWebhooks asks the public package, not our own code.
func TestSignaturesAreVerifiedByStandardWebhooks(t *testing.T) {
	t.Parallel()
	testenv.NeedServer(t, "node")
	var keys [][]byte
	var secrets []string
	for range 3 {
		key := make([]byte, 32)
		_, _ = rand.Read(key)
		keys = append(keys, key)
		secrets = append(secrets, "whsec_"+base64.StdEncoding.EncodeToString(key))
	}
	type request struct {
		Secret  string            `json:"secret"`
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
	}
	var seen request
	target := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen = request{Headers: map[string]string{}, Body: string(body)}
		for name := range r.Header {
			seen.Headers[name] = r.Header.Get(name)
		}
	})
	e := endpointOf(t, target, func(c *Config) { c.Keys = keys[:2] }) // the third one is another's
	var asked []request
	for _, payload := range []string{`{"b": 1.10,"ñ":"\u00e9 €"}`, `null`, `"x"`} {
		call := &actions.Call{Action: "crm", Task: "01JE8Q", Attempt: 3, Payload: []byte(payload)}
		if _, err := e.Call(t.Context(), call, nil); err != nil {
			t.Fatal(err)
		}
		for i, want := range map[string]string{"Webhook-Id": "01JE8Q", "Idempotency-Key": "01JE8Q", "Posta-Attempt": "3", "Posta-Action": "crm", "Content-Type": "application/json"} {
			if seen.Headers[i] != want {
				t.Errorf("%s is %q, want %q", i, seen.Headers[i], want)
			}
		}
		if seen.Body != payload {
			t.Errorf("the body is %s, want the payload's bytes %s", seen.Body, payload)
		}
		for _, secret := range secrets {
			r := seen
			r.Secret = secret
			asked = append(asked, r)
		}
		changed := seen
		changed.Secret, changed.Body = secrets[0], changed.Body+" "
		asked = append(asked, changed)
	}
	dir, input := unpackNode(t), new(bytes.Buffer)
	if err := json.NewEncoder(input).Encode(asked); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "-e", verifier)
	cmd.Dir, cmd.Stdin, cmd.Stderr = dir, input, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		want := []string{"yes", "yes", "no: No matching signature found", "no: No matching signature found"}[i%4]
		if line != want {
			t.Errorf("request %d: %s, want %s", i, line, want)
		}
	}
}
