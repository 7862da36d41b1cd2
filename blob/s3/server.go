package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"time"

	"github.com/minio/minio-go/v7"
)

// server is a bucket of a real server.
type server struct {
	core   *minio.Core
	bucket string
	idle   func() // closes idle connections
}

// once returns the options that create an object only if there is none.
func once() minio.PutObjectOptions {
	options := minio.PutObjectOptions{ContentType: "application/json", DisableMultipart: true}
	options.SetMatchETagExcept("*")
	return options
}

func (s *server) put(ctx context.Context, name string, body []byte) error {
	_, err := s.core.PutObject(ctx, s.bucket, name, bytes.NewReader(body), int64(len(body)), "", sum(body), once())
	return driverError(err)
}

func (s *server) get(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	stream, info, _, err := s.core.GetObject(ctx, s.bucket, name, minio.GetObjectOptions{})
	if err != nil {
		return nil, 0, driverError(err)
	}
	return stream, info.Size, nil
}

func (s *server) remove(ctx context.Context, names []string) error {
	list := func(yield func(minio.ObjectInfo) bool) {
		for _, name := range names {
			if !yield(minio.ObjectInfo{Key: name}) {
				return
			}
		}
	}
	results, err := s.core.RemoveObjectsWithIter(ctx, s.bucket, list, minio.RemoveObjectsOptions{})
	if err != nil {
		return driverError(err)
	}
	var failed error
	for r := range results { // to the end, as the library requires
		if err := driverError(r.Err); err != nil && !errors.Is(err, errAbsent) && failed == nil {
			failed = fmt.Errorf("%s: %w", r.ObjectName, err)
		}
	}
	return failed
}

func (s *server) list(ctx context.Context, prefix string) iter.Seq2[object, error] {
	return func(yield func(object, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // ends the library's goroutine
		for o := range s.core.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
			if !yield(object{o.Key, o.Size, o.LastModified}, driverError(o.Err)) || o.Err != nil {
				return
			}
		}
	}
}

func (s *server) begin(ctx context.Context, name string) (string, error) {
	upload, err := s.core.NewMultipartUpload(ctx, s.bucket, name, minio.PutObjectOptions{ContentType: "application/json"})
	return upload, driverError(err)
}

func (s *server) part(ctx context.Context, to target, number int, body []byte) (string, error) {
	part, err := s.core.PutObjectPart(ctx, s.bucket, to.name, to.upload, number,
		bytes.NewReader(body), int64(len(body)), minio.PutObjectPartOptions{Sha256Hex: sum(body)})
	return part.ETag, driverError(err)
}

func (s *server) complete(ctx context.Context, to target, tags []string) error {
	parts := make([]minio.CompletePart, len(tags))
	for i, tag := range tags {
		parts[i] = minio.CompletePart{PartNumber: i + 1, ETag: tag}
	}
	_, err := s.core.CompleteMultipartUpload(ctx, s.bucket, to.name, to.upload, parts, once())
	return driverError(err)
}

func (s *server) abort(ctx context.Context, to target) error {
	return driverError(s.core.AbortMultipartUpload(ctx, s.bucket, to.name, to.upload))
}

func (s *server) unfinished(ctx context.Context, prefix string) iter.Seq2[begun, error] {
	return func(yield func(begun, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for u := range s.core.ListIncompleteUploads(ctx, s.bucket, prefix, true) {
			if !yield(begun{target{u.Key, u.UploadID}, u.Initiated}, driverError(u.Err)) || u.Err != nil {
				return
			}
		}
	}
}

// sign returns a URL that allows one method on one object.
func (s *server) sign(ctx context.Context, method, name string, valid time.Duration) (string, error) {
	header := http.Header{}
	if method == http.MethodPut {
		header.Set("If-None-Match", "*")
	}
	u, err := s.core.PresignHeader(ctx, method, s.bucket, name, valid, nil, header)
	if err != nil {
		return "", driverError(err)
	}
	return u.String(), nil
}

// again are the statuses after which S3 asks clients to try again.
var again = []int{http.StatusConflict, http.StatusInternalServerError, http.StatusServiceUnavailable}

// driverError translates an error of the server.
func driverError(err error) error {
	if err == nil {
		return nil
	}
	answer := minio.ToErrorResponse(err)
	switch {
	case slices.Contains([]string{minio.NoSuchKey, minio.NoSuchUpload}, answer.Code):
		return errAbsent
	case answer.StatusCode == http.StatusPreconditionFailed, answer.Code == minio.PreconditionFailed:
		return errTaken
	case slices.Contains(again, answer.StatusCode):
		return fmt.Errorf("%w: %w", errBusy, err)
	}
	return err
}

// sum returns the SHA-256 with which the server checks the body.
func sum(body []byte) string {
	digest := sha256.Sum256(body)
	return hex.EncodeToString(digest[:])
}
