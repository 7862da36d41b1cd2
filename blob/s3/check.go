package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/posta-tasks/posta/blob"
)

// Report is the result of Check.
type Report struct {
	Refused  []string      // steps that a node needs and these keys may not do
	Replaces bool          // the server replaced an object despite If-None-Match
	Ahead    time.Duration // how far the server's clock is ahead, in whole seconds
}

// Check creates a body of its own, reads it, lists it and deletes it. A body that cannot be
// deleted is an orphan, and is collected as such.
func (s *Blobs) Check(ctx context.Context) (r Report, err error) {
	name, body := s.name(blob.Payload(rand.Text())), []byte(`"doctor"`)
	began := time.Now()
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"make an object (s3:PutObject)", func() error { return s.bucket.put(ctx, name, body) }},
		{"make it once more", func() error { return r.again(s.bucket.put(ctx, name, body)) }},
		{"read it (s3:GetObject)", func() error { return s.read(ctx, name) }},
		{"list it (s3:ListBucket)", func() error { return s.date(ctx, name, began, &r) }},
		{"delete it (s3:DeleteObject)", func() error { return s.bucket.remove(ctx, []string{name}) }},
	} {
		switch err := step.do(); {
		case err == nil:
		case Code(err) == minio.AccessDenied && ctx.Err() == nil:
			r.Refused = append(r.Refused, step.what)
		default:
			return r, callError(ctx, step.what, err)
		}
	}
	return r, nil
}

// again handles the second creation of an object.
func (r *Report) again(err error) error {
	r.Replaces = err == nil
	if errors.Is(err, errTaken) || Code(err) == minio.AccessDenied {
		return nil
	}
	return err
}

// read opens an object. A missing one is no error here, since its creation has failed before.
func (s *Blobs) read(ctx context.Context, name string) error {
	stream, _, err := s.bucket.get(ctx, name)
	if err == nil {
		return stream.Close()
	}
	if errors.Is(err, errAbsent) {
		return nil
	}
	return err
}

// date reads the server's clock from the time of the object.
func (s *Blobs) date(ctx context.Context, name string, began time.Time, r *Report) error {
	for o, err := range s.bucket.list(ctx, name) {
		if err != nil {
			return err
		}
		r.Ahead = o.modified.Sub(began)
	}
	return nil
}

// Code returns S3's name of an error, such as NoSuchBucket, or "" if the error is not the
// server's.
func Code(err error) string {
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		return ""
	}
	if answer.Code == "" {
		return fmt.Sprint(answer.StatusCode, " ", http.StatusText(answer.StatusCode))
	}
	return answer.Code
}
