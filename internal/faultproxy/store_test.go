package faultproxy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/posta-tasks/posta/internal/faultproxy"
)

// body is the contents of the server's object, and of the object that is put.
var body = strings.Repeat("body", 20_000)

// before returns a Store in front of a server that counts the complete bodies it receives.
func before(t *testing.T) (store *faultproxy.Store, whole *atomic.Int64) {
	t.Helper()
	whole = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text, err := io.ReadAll(r.Body); err == nil && string(text) == body {
			whole.Add(1)
		}
		w.Header().Set("Etag", r.Host)
		_, _ = io.WriteString(w, body) // the client may have gone
	}))
	t.Cleanup(server.Close)
	store, err := faultproxy.NewStore(strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store, whole
}

// ask puts or gets the object.
func ask(t *testing.T, store *faultproxy.Store, method string) (status int, text string, err error) {
	t.Helper()
	var sent io.Reader
	if method == http.MethodPut {
		sent = strings.NewReader(body)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+store.Addr()+"/bucket/key", sent)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Timeout: patience}).Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	if status = response.StatusCode; status == http.StatusOK && response.Header.Get("Etag") != store.Addr() {
		t.Errorf("the server got the host %q, but the signature is for %q", response.Header.Get("Etag"), store.Addr())
	}
	got, err := io.ReadAll(response.Body)
	return status, string(got), err
}

func TestAStoreWithoutAFaultForwardsRequests(t *testing.T) {
	t.Parallel()
	store, whole := before(t)
	for _, method := range []string{http.MethodPut, http.MethodGet} {
		if status, text, err := ask(t, store, method); status != http.StatusOK || text != body || err != nil {
			t.Errorf("%s: %d, %d bytes, %v", method, status, len(text), err)
		}
	}
	if whole.Load() != 1 || store.Failed() != 0 {
		t.Errorf("%d complete bodies, %d failed requests", whole.Load(), store.Failed())
	}
}

func TestAStoreWithAFaultAnswersLikeS3(t *testing.T) {
	t.Parallel()
	for trouble, want := range map[faultproxy.Fault]int{
		faultproxy.SlowDown: http.StatusServiceUnavailable, faultproxy.Internal: http.StatusInternalServerError,
	} {
		store, whole := before(t)
		over := store.Fail(trouble)
		for _, method := range []string{http.MethodPut, http.MethodGet} {
			status, text, err := ask(t, store, method)
			if status != want || !strings.Contains(text, "<Code>"+string(trouble)+"</Code>") || err != nil {
				t.Errorf("%s: %d, %s, %v", method, status, text, err)
			}
		}
		over()
		if status, _, err := ask(t, store, http.MethodGet); status != http.StatusOK || err != nil {
			t.Errorf("after the fault: %d, %v", status, err)
		}
		if whole.Load() != 0 || store.Failed() != 2 {
			t.Errorf("%d complete bodies, %d failed requests", whole.Load(), store.Failed())
		}
	}
}

func TestATruncatedBodyEndsInTheMiddle(t *testing.T) {
	t.Parallel()
	store, whole := before(t)
	defer store.Fail(faultproxy.Truncated)()
	if status, text, err := ask(t, store, http.MethodPut); err == nil {
		t.Errorf("put: %d, %d bytes", status, len(text))
	}
	status, text, err := ask(t, store, http.MethodGet)
	if status != http.StatusOK || text == "" || len(text) >= len(body) || err == nil {
		t.Errorf("get: %d, %d bytes, %v", status, len(text), err)
	}
	if whole.Load() != 0 {
		t.Error("a whole body came")
	}
}

func TestAStoreIsUnreachableWhileItsServerIs(t *testing.T) {
	t.Parallel()
	store, err := faultproxy.NewStore("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if status, text, err := ask(t, store, http.MethodGet); err == nil {
		t.Errorf("%d: %s", status, text)
	}
}
