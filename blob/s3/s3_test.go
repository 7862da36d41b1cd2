package s3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"go.uber.org/goleak"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/blob/blobtest"
	"github.com/posta-tasks/posta/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is what a Put holds, twice, and some.
const memory = 24 << 20

// faked is storage over a bucket in memory.
func faked(t *testing.T) (blobtest.Storage, *fake) {
	t.Helper()
	f := newFake()
	return blobtest.Storage{
		Blobs: newBlobs(f, "bodies/"),
		Again: func() blob.Blobs { return newBlobs(f, "bodies/") },
		Spoil: func(key blob.Key, edit func([]byte) []byte) {
			f.mu.Lock()
			defer f.mu.Unlock()
			name := "bodies/" + key.String()
			f.objects[name] = stored{edit(bytes.Clone(f.objects[name].body)), time.Now()}
		},
		CutOff: func() {
			if _, err := f.begin(t.Context(), "bodies/"+blob.Payload(blobtest.ID(99)).String()); err != nil {
				t.Fatal(err)
			}
		},
	}, f
}

// TestFake is not parallel, since the suite begins with a look at the process's memory.
func TestFake(t *testing.T) {
	blobtest.Run(t, blobtest.Driver{Memory: 1 << 30, Open: func(t *testing.T) blobtest.Storage {
		s, _ := faked(t)
		return s
	}})
}

func TestABucketThatIsAwayIsUnavailable(t *testing.T) {
	t.Parallel()
	s, f := faked(t)
	away := func(err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.refusing = err
	}
	blobtest.Full(t, s, func(int64) func() {
		away(errors.New("connection refused"))
		return func() { away(nil) }
	}, false)
}

// served is storage in a bucket of its own of a real server.
func served(t *testing.T, from *testenv.S3Server, bucket string) blobtest.Storage {
	t.Helper()
	open := func() *Blobs {
		config, err := ParseURL("s3://" + bucket + "/bodies?endpoint=" + from.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		config.Credentials = func() (Keys, error) { return Keys{Access: from.Access, Secret: from.Secret}, nil }
		s, err := Open(config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.bucket.(*server).idle)
		return s
	}
	s := open()
	core := s.bucket.(*server).core
	if err := core.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	return blobtest.Storage{
		Blobs: s,
		Again: func() blob.Blobs { return open() },
		Spoil: func(key blob.Key, edit func([]byte) []byte) {
			name := "bodies/" + key.String()
			stream, _, _, err := core.GetObject(t.Context(), bucket, name, minio.GetObjectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			body, err := io.ReadAll(stream)
			if err == nil {
				body = edit(body)
				_, err = core.PutObject(t.Context(), bucket, name, bytes.NewReader(body), int64(len(body)), "", "", minio.PutObjectOptions{})
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		CutOff: func() {
			name := "bodies/" + blob.Payload(blobtest.ID(99)).String()
			upload, err := core.NewMultipartUpload(t.Context(), bucket, name, minio.PutObjectOptions{})
			if err == nil {
				_, err = core.PutObjectPart(t.Context(), bucket, name, upload, 1, bytes.NewReader([]byte("half of a bo")), 12, minio.PutObjectPartOptions{})
			}
			if err != nil {
				t.Fatal(err)
			}
		},
	}
}

// TestServer is not parallel, for the same reason.
func TestServer(t *testing.T) {
	from := testenv.S3(t)
	var buckets atomic.Int64
	blobtest.Run(t, blobtest.Driver{Memory: memory, Open: func(t *testing.T) blobtest.Storage {
		return served(t, from, fmt.Sprintf("bucket-%d", buckets.Add(1)))
	}})
}

func TestAServerThatIsAwayIsUnavailable(t *testing.T) {
	t.Parallel()
	from := testenv.S3(t)
	s := served(t, from, "bucket")
	blobtest.Full(t, s, func(int64) func() {
		from.Kill(t)
		return func() { from.Again(t) }
	}, false)
}

func TestASignedURLLetsItsBearerPastTheNode(t *testing.T) {
	t.Parallel()
	from := testenv.S3(t)
	s := served(t, from, "bucket")
	signer := s.Blobs.(blob.Signer)
	ctx, key := t.Context(), blob.Payload(blobtest.ID(1))
	to, err := signer.SignPut(ctx, key, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{http.StatusOK, http.StatusPreconditionFailed} {
		if got, _ := send(t, http.MethodPut, to, fmt.Sprintf(`"body %d"`, i)); got != want {
			t.Errorf("PUT number %d is answered %d, want %d", i+1, got, want)
		}
	}
	if to, err = signer.SignGet(ctx, key, time.Minute); err != nil {
		t.Fatal(err)
	}
	if got, body := send(t, http.MethodGet, to, ""); got != http.StatusOK || body != `"body 0"` {
		t.Errorf("GET is answered %d %s", got, body)
	}
	if got, _ := send(t, http.MethodGet, to+"0", ""); got != http.StatusForbidden {
		t.Errorf("a forged signature is answered %d", got)
	}
	if _, err := signer.SignGet(ctx, blob.Key{Task: "../etc"}, time.Minute); !errors.Is(err, blob.ErrKey) {
		t.Errorf("a key that is none: %v", err)
	}
}

// send makes a request as a client of its own would.
func send(t *testing.T, method, to, body string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, to, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPut {
		request.Header.Set("If-None-Match", "*")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	response, err := client.Do(request)
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
