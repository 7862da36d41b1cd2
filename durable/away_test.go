package durable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/internal/outage"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// faultyStore fails each call with an error.
type faultyStore struct {
	store.Store
	err error
}

func (f faultyStore) Get(context.Context, []string) ([]task.Task, error) { return nil, f.err }

func TestOnlyAStoreThatDoesNotAnswerCountsAsAway(t *testing.T) {
	t.Parallel()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancelLate := context.WithTimeout(t.Context(), 0)
	defer cancelLate()
	for name, c := range map[string]struct {
		ctx  context.Context
		err  error
		away bool
	}{
		"it answers":          {t.Context(), nil, false},
		"it is away":          {t.Context(), task.Refuse(task.Unavailable, "no"), true},
		"its answer was lost": {t.Context(), fmt.Errorf("x: %w", task.Refuse(task.UnknownOutcome, "no")), true},
		"it takes too long":   {late, task.Refuse(task.Unavailable, "no"), true},
		"it refuses a value":  {t.Context(), task.Refuse(task.Internal, "no"), false},
		"the caller has gone": {gone, task.Refuse(task.Unavailable, "no"), false},
	} {
		part := &outage.Part{Name: "the store", Logger: slog.New(slog.DiscardHandler)}
		_, _ = (&watchedStore{faultyStore{err: c.err}, part}).Get(c.ctx, nil)
		if away, _ := part.State(); away != c.away {
			t.Errorf("%s: away is %t", name, away)
		}
	}
}

// awayBlobs are away, and say so in a driver's words.
type awayBlobs struct{ blob.Blobs }

var errAway = fmt.Errorf("put: %w: dial tcp s3.internal:9000:\n\tconnection refused", blob.ErrUnavailable)

func (awayBlobs) Put(context.Context, blob.Key, io.Reader, int64) (blob.Sum, error) {
	return blob.Sum{}, errAway
}

func (awayBlobs) Get(context.Context, blob.Key, blob.Sum) (io.ReadCloser, error) { return nil, errAway }

func TestClientsLearnNothingAboutTheStorage(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	part := &outage.Part{Name: "blob storage", Logger: slog.New(slog.NewTextHandler(&log, nil))}
	k := bodies{Blobs: awayBlobs{}, Answered: blobsAnswered(part)}
	of := &task.Task{ID: "t", Payload: task.Body{Size: 1 << 20, SHA256: "x"}}
	_, put := k.PutPayload(t.Context(), "t", strings.NewReader("1"))
	_, _, open := k.Open(t.Context(), blob.Payload("t"), of.Payload)
	_, result := k.PutResult(t.Context(), of, []byte("1"))
	_, payload := k.ReadPayload(t.Context(), of)
	for name, err := range map[string]error{"put": put, "open": open, "result": result, "payload": payload} {
		if text := err.Error(); !strings.Contains(text, "blob storage cannot be reached") || strings.Contains(text, "s3.internal") || strings.Contains(text, "\n") {
			t.Errorf("%s: %q", name, text)
		}
	}
	if !errors.Is(result, blob.ErrUnavailable) {
		t.Errorf("%v", result)
	}
	if said := log.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, "s3.internal") {
		t.Errorf("the log has %q", said)
	}
}
