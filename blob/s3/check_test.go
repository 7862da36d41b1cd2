package s3

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/internal/testenv"
)

// odd is a bucket that differs from others.
type odd struct {
	*fake
	replaces bool
	denies   string // what
	behind   time.Duration
}

var errDenied = minio.ErrorResponse{Code: minio.AccessDenied, StatusCode: 403}

func (o *odd) put(ctx context.Context, name string, body []byte) error {
	if o.denies == "put" {
		return errDenied
	}
	if o.replaces {
		_ = o.fake.remove(ctx, []string{name})
	}
	err := o.fake.put(ctx, name, bytes.Clone(body))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.objects[name] = stored{body, time.Now().Add(-o.behind)}
	return err
}

func (o *odd) remove(ctx context.Context, names []string) error {
	if o.denies == "remove" {
		return errDenied
	}
	return o.fake.remove(ctx, names)
}

func TestCheckTellsWhatIsOddAboutABucket(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		bucket   *odd
		refused  string
		replaces bool
		ahead    time.Duration
		left     int
	}{
		"all is well":         {&odd{}, "", false, 0, 0},
		"it replaces":         {&odd{replaces: true}, "", true, 0, 0},
		"its clock is behind": {&odd{behind: time.Hour}, "", false, -time.Hour, 0},
		"nothing may be made": {&odd{denies: "put"}, "s3:PutObject", false, 0, 0},
		"nothing may go":      {&odd{denies: "remove"}, "s3:DeleteObject", false, 0, 1},
	} {
		c.bucket.fake = newFake()
		s := newBlobs(c.bucket, "bodies/")
		r, err := s.Check(t.Context())
		if err != nil || r.Replaces != c.replaces || (r.Ahead-c.ahead).Abs() > time.Minute || !strings.Contains(strings.Join(r.Refused, " "), c.refused) ||
			(len(r.Refused) > 0) != (c.refused != "") || len(c.bucket.objects) != c.left {
			t.Errorf("%s: %+v, %v, %d are left", name, r, err, len(c.bucket.objects))
		}
		for name := range c.bucket.objects {
			if _, ok := s.keyOf(name); !ok {
				t.Errorf("%s is left, and would never be collected", name)
			}
		}
	}
}

func TestCheckFindsABucketThatIsNotThere(t *testing.T) {
	t.Parallel()
	from := testenv.S3(t)
	s := served(t, from, "bucket").Blobs.(*Blobs)
	r, err := s.Check(t.Context())
	if err != nil || len(r.Refused) > 0 || r.Replaces || r.Ahead.Abs() > time.Minute {
		t.Errorf("the bucket that is there: %+v, %v", r, err)
	}
	for range s.List(t.Context(), time.Now().Add(time.Hour)) {
		t.Error("the check leaves something behind")
	}
	for want, config := range map[string]Config{
		minio.NoSuchBucket:      {Bucket: "missing", Credentials: func() (Keys, error) { return Keys{Access: from.Access, Secret: from.Secret}, nil }},
		"SignatureDoesNotMatch": {Bucket: "bucket", Credentials: func() (Keys, error) { return Keys{Access: from.Access, Secret: "wrong"}, nil }},
	} {
		config.Endpoint, config.Plain = from.Endpoint[len("http://"):], true
		other, err := Open(config)
		if err != nil {
			t.Fatal(err)
		}
		defer other.bucket.(*server).idle()
		if _, err := other.Check(context.Background()); !errors.Is(err, blob.ErrUnavailable) || Code(err) != want {
			t.Errorf("%s: %q, %v", want, Code(err), err)
		}
	}
}
